/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How long something takes: median, 99th percentile and greatest value over the
 * last minute in which there was anything to count.
 *
 * Values are counted in classes an eighth apart, so that a summary is exact up
 * to that and never too low.  Six slots of ten seconds each; nothing expires
 * without a newer value.  Memory is part of the struct; all zero is empty.
 */
#ifndef CTSYNC_HIST_H
#define CTSYNC_HIST_H

#include <stdbool.h>
#include <stdint.h>

#define HIST_SLOTS	6
#define HIST_SLOT_US	10000000u
#define HIST_CLASSES	240

struct hist {
	uint64_t	 slot;		/* number of the newest one */
	uint32_t	 n[HIST_SLOTS][HIST_CLASSES];
	uint32_t	 max[HIST_SLOTS];
};

struct hist_summary {
	uint64_t	 count;
	uint32_t	 median, p99, max;
};

/* Count value n times; now_us is monotonic. */
void	hist_add(struct hist *h, uint64_t now_us, uint32_t value, uint32_t n);
/* False if nothing was ever counted; then *s is all zero. */
bool	hist_get(const struct hist *h, struct hist_summary *s);

#endif
