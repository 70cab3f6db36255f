/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a comparison of two tables found: how many flows differ, and the first
 * of them.
 *
 * "Here" is the table that is being verified, "there" what it is held against:
 * this node's kernel, or a peer.  Who compares fills it in; who asked reads it.
 */
#ifndef CTSYNC_VERIFY_H
#define CTSYNC_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

#define VERIFY_FLOWS_MAX	1000	/* recorded at most, differences of all kinds together */

enum verify_kind {
	VERIFY_MISSING_HERE,
	VERIFY_MISSING_THERE,
	VERIFY_CHANGED,
	VERIFY_KINDS
};

/* One recorded difference; of a changed flow both bodies are there. */
struct verify_flow {
	enum verify_kind	 kind;
	uint16_t		 here_len, there_len;	/* 0: it has none */
	uint32_t		 off;			/* private: here's body, then there's */
};

struct verify_log {
	uint64_t		 count[VERIFY_KINDS];
	uint32_t		 n;
	struct verify_flow	*flows;			/* n of them */
	size_t			 used, cap;		/* private */
	uint8_t			*bytes;			/* private */
};

/* All zeros is an empty log; verify_log_clear() makes one and releases what it had. */
void	verify_log_clear(struct verify_log *v);
/*
 * Count a difference, and record it while there is room and memory.  A body is
 * a packed flow, or its key alone; NULL where the flow is missing.  Copies.
 */
void	verify_log_add(struct verify_log *v, enum verify_kind kind, const uint8_t *here,
	    size_t here_len, const uint8_t *there, size_t there_len);
/* The bodies of recorded difference i < v->n; NULL where it has none. */
const uint8_t *verify_log_here(const struct verify_log *v, uint32_t i, size_t *len);
const uint8_t *verify_log_there(const struct verify_log *v, uint32_t i, size_t *len);
/* Differences of all kinds. */
uint64_t verify_log_total(const struct verify_log *v);

#endif
