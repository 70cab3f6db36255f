/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The real clocks.  The core never calls these: it is given its time.
 */
#ifndef CTSYNC_CLOCK_H
#define CTSYNC_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds and milliseconds. */
uint64_t	clock_mono_ns(void);
uint64_t	clock_mono_ms(void);
/* Wall clock in milliseconds since 1970. */
uint64_t	clock_wall_ms(void);

#endif
