/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Open addressing with linear probing; members are hashes already.
 */
#include <errno.h>
#include <stdlib.h>

#include "ctsync/u64set.h"

#define FIRST	256

static void
put(uint64_t *slots, size_t size, uint64_t v)
{
	size_t	 i = (size_t)v & (size - 1);

	while (slots[i] != 0 && slots[i] != v)
		i = (i + 1) & (size - 1);
	slots[i] = v;
}

static int
grow(struct u64set *s)
{
	size_t		 size = s->size == 0 ? FIRST : s->size * 2, i;
	uint64_t	*slots = calloc(size, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	for (i = 0; i < s->size; i++)
		if (s->slots[i] != 0)
			put(slots, size, s->slots[i]);
	free(s->slots);
	s->slots = slots;
	s->size = size;
	return 0;
}

int
u64set_add(struct u64set *s, uint64_t v)
{
	if (v == 0)
		v = 1;
	if (u64set_has(s, v))
		return 0;
	if (s->count * 2 >= s->size && grow(s) < 0)
		return -ENOMEM;
	put(s->slots, s->size, v);
	s->count++;
	return 0;
}

bool
u64set_has(const struct u64set *s, uint64_t v)
{
	size_t	 i;

	if (v == 0)
		v = 1;
	if (s->size == 0)
		return false;
	for (i = (size_t)v & (s->size - 1); s->slots[i] != 0; i = (i + 1) & (s->size - 1))
		if (s->slots[i] == v)
			return true;
	return false;
}

void
u64set_clear(struct u64set *s)
{
	free(s->slots);
	s->slots = NULL;
	s->size = s->count = 0;
}
