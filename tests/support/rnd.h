/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Random numbers for tests: seeded, so that a failure repeats.
 */
#ifndef RND_H
#define RND_H

#include <stddef.h>
#include <stdint.h>

void		 rnd_seed(uint64_t seed);
uint64_t	 rnd_u64(void);
/* 0 to n - 1. */
unsigned	 rnd_below(unsigned n);
void		 rnd_fill(void *p, size_t n);

#endif
