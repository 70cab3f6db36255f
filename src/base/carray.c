/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Chunked arrays.
 */
#include <errno.h>
#include <stdlib.h>

#include "ctsync/carray.h"

void
carray_init(struct carray *a, size_t elem)
{
	a->chunks = NULL;
	a->nchunks = 0;
	a->elem = elem;
}

void
carray_fini(struct carray *a)
{
	size_t	 i;

	for (i = 0; i < a->nchunks; i++)
		free(a->chunks[i]);
	free(a->chunks);
	carray_init(a, a->elem);
}

int
carray_reserve(struct carray *a, uint32_t i)
{
	size_t	  want = ((size_t)i >> CARRAY_SHIFT) + 1;
	uint8_t	**p;

	while (a->nchunks < want) {
		p = realloc(a->chunks, (a->nchunks + 1) * sizeof(*p));
		if (p == NULL)
			return -ENOMEM;
		a->chunks = p;
		p[a->nchunks] = calloc((size_t)1 << CARRAY_SHIFT, a->elem);
		if (p[a->nchunks] == NULL)
			return -ENOMEM;
		a->nchunks++;
	}
	return 0;
}

size_t
carray_bytes(const struct carray *a)
{
	return a->nchunks * (a->elem << CARRAY_SHIFT);
}
