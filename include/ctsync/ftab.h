/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The flow table: packed flow bodies by key.
 *
 * Used for the local table (internal cache) and for each peer's remote table
 * (external cache).  An entry is named by a 32-bit handle that stays the same
 * for its whole life; handles are dense, so that others keep what they know of
 * an entry in a carray of their own.  Bodies live in a slab of 16-byte units,
 * the index grows a few slots with each insertion and never all at once.
 *
 * The table knows nothing of versions, generations or peers: struct ftab_meta
 * has room for them, their owner gives them meaning.
 */
#ifndef CTSYNC_FTAB_H
#define CTSYNC_FTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/siphash.h"

#define FTAB_NIL	0u		/* no handle */

struct ftab;

/* All but ref and len belongs to the owner of the table. */
struct ftab_meta {
	uint64_t	 digest;	/* hash of the body as last emitted or applied */
	uint32_t	 ref;		/* private: place in the slab */
	uint32_t	 timeout_s;	/* as last told */
	uint32_t	 touched;	/* when it last changed, or was last looked at, as the owner counts */
	uint16_t	 len;		/* private: bytes of the body */
	uint8_t		 gen;		/* generation */
	uint8_t		 flags;
};

/*
 * A table for at most max_flows entries and about max_bytes of memory
 * (0: no limit of its own).  NULL without memory.
 */
struct ftab	*ftab_new(const struct sipkey *key, uint32_t max_flows, uint64_t max_bytes);
void		 ftab_free(struct ftab *t);

/* Keyed hash of a packed key: what find and insert want. */
uint32_t	 ftab_hash(const struct ftab *t, const uint8_t *key, size_t klen);
/* Tell the processor that hash will be looked up soon. */
void		 ftab_prefetch(const struct ftab *t, uint32_t hash);
/* An entry with that hash, most likely the one that is meant; FTAB_NIL if there is none. */
uint32_t	 ftab_guess(const struct ftab *t, uint32_t hash);
/* Handle of the entry with that key, or FTAB_NIL. */
uint32_t	 ftab_find(const struct ftab *t, uint32_t hash, const uint8_t *key, size_t klen);

/*
 * Add a body of len bytes whose key is its first klen bytes and not in the
 * table.  0 and *h; -ENOSPC at the limit of flows or memory, -ENOMEM without
 * memory (both are counted); -EINVAL if len is 0 or above FLOW_BODY_MAX.  The meta data of the new entry is zero.
 */
int		 ftab_insert(struct ftab *t, uint32_t hash, const uint8_t *body, size_t len,
		    uint32_t *h) __attribute__((warn_unused_result));
/* Give an entry another body with the same key.  0 or -EINVAL, -ENOSPC, -ENOMEM: the old one stays. */
int		 ftab_set(struct ftab *t, uint32_t h, const uint8_t *body, size_t len)
		    __attribute__((warn_unused_result));
void		 ftab_remove(struct ftab *t, uint32_t h);

/* The body; valid until the entry is set or removed. */
const uint8_t	*ftab_body(const struct ftab *t, uint32_t h, size_t *len);
struct ftab_meta *ftab_meta(const struct ftab *t, uint32_t h);
/* Is h an entry? */
bool		 ftab_used(const struct ftab *t, uint32_t h);
/*
 * Walk: the first entry with a handle above h (FTAB_NIL to begin), FTAB_NIL at
 * the end.  The walk survives insertion and removal; it may miss what comes
 * and goes meanwhile, and nothing else.
 */
uint32_t	 ftab_next(const struct ftab *t, uint32_t h);
/* Greatest handle ever given out: the length of arrays beside the table. */
uint32_t	 ftab_top(const struct ftab *t);

uint32_t	 ftab_count(const struct ftab *t);
uint32_t	 ftab_expects(const struct ftab *t);	/* of these: expectations */
uint32_t	 ftab_limit(const struct ftab *t);
uint64_t	 ftab_bytes(const struct ftab *t);	/* memory that it takes */
uint64_t	 ftab_refused(const struct ftab *t);	/* entries refused at a limit */

#endif
