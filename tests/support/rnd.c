/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Random numbers for tests: splitmix64.
 */
#include "rnd.h"

static uint64_t	 state;

void
rnd_seed(uint64_t seed)
{
	state = seed;
}

uint64_t
rnd_u64(void)
{
	uint64_t	 z = state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned
rnd_below(unsigned n)
{
	return (unsigned)(rnd_u64() % n);
}

void
rnd_fill(void *p, size_t n)
{
	uint8_t	*b = p;

	for (; n > 0; n--)
		*b++ = (uint8_t)rnd_u64();
}
