/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A set of 64-bit hashes that only grows, until it is cleared.
 */
#ifndef CTSYNC_U64SET_H
#define CTSYNC_U64SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct u64set {
	uint64_t	*slots;		/* 0: empty */
	size_t		 size, count;
};

/* A zeroed struct is an empty set.  Add: 0 or -ENOMEM. */
int	u64set_add(struct u64set *s, uint64_t v);
bool	u64set_has(const struct u64set *s, uint64_t v);
/* Forget everything and give the memory back. */
void	u64set_clear(struct u64set *s);

#endif
