/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An array that grows in chunks: elements never move, growing never copies.
 *
 * Elements are zero when they first appear.  Memory is given back only as a
 * whole; what counts is bounded by the greatest index ever asked for.
 */
#ifndef CTSYNC_CARRAY_H
#define CTSYNC_CARRAY_H

#include <stddef.h>
#include <stdint.h>

#define CARRAY_SHIFT	14		/* 16384 elements a chunk */

struct carray {
	uint8_t		**chunks;
	size_t		  nchunks;
	size_t		  elem;		/* size of an element in bytes */
};

void	carray_init(struct carray *a, size_t elem);
void	carray_fini(struct carray *a);
/* Make index i usable: 0 or -ENOMEM. */
int	carray_reserve(struct carray *a, uint32_t i);
/* Bytes allocated. */
size_t	carray_bytes(const struct carray *a);

/* Element i, which has been reserved. */
static inline void *
carray_at(const struct carray *a, uint32_t i)
{
	return a->chunks[i >> CARRAY_SHIFT] +
	    (size_t)(i & ((1u << CARRAY_SHIFT) - 1)) * a->elem;
}

#endif
