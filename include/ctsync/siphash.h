/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SipHash-1-3 with a 64-bit result: the keyed hash of tables and digests.
 *
 * Follows the description by Aumasson and Bernstein with one compression and
 * three finalisation rounds.  It resists chosen input as long as the key stays
 * secret; it is no message authentication code.
 */
#ifndef CTSYNC_SIPHASH_H
#define CTSYNC_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct sipkey {
	uint64_t	 k[2];
};

/* Hash of len bytes at p under *key. */
uint64_t	siphash13(const struct sipkey *key, const void *p, size_t len);

#endif
