/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ownership (doc/wire.md, section 8): the role and its term, what the peers say
 * of theirs, lives and ends of flows, claims.  Answers questions; what follows
 * from the answers is done by takeover.c, windows.c and purge.c.
 */
#ifndef OWNERSHIP_H
#define OWNERSHIP_H

#include "cluster.h"

struct ownership *ownership_new(struct node *n);
void		 ownership_free(struct ownership *o);

/* --- role and term --- */

bool		 ownership_active(const struct node *n);
uint32_t	 ownership_term(const struct node *n);
/* Monotonic time since which the node is standby, or when it last was released; microseconds. */
uint64_t	 ownership_standby_us(const struct node *n);
/* When the node last became active, if it has been standby before: monotonic, microseconds; else 0. */
uint64_t	 ownership_took_over_us(const struct node *n);
/* A takeover begins: the node is active, its term above every one it knows. */
void		 ownership_activate(struct node *n);
/* What was taken over is complete: to be remembered over a restart. */
void		 ownership_settled(struct node *n);
void		 ownership_release(struct node *n);
/* Is what this node has taken over not complete yet? */
bool		 ownership_taking(const struct node *n);
/* A takeover is to be made as soon as the peers' flows are here: the daemon has just started. */
bool		 ownership_resuming(const struct node *n);
/* Packets have made flows here that no filter leaves out, that many in the last 10 s. */
uint32_t	 ownership_births(const struct node *n);

/* --- peers --- */

bool		 ownership_peer_active(const struct node *n, unsigned peer);
bool		 ownership_peer_taking(const struct node *n, unsigned peer);
/* Its term, -1: it has not told one. */
int64_t		 ownership_peer_term(const struct node *n, unsigned peer);
/* Number of active nodes, as far as this one knows, itself included. */
unsigned	 ownership_actives(const struct node *n);
/* Since when none is; microseconds, 0: some node is active. */
uint64_t	 ownership_nobody_us(const struct node *n);
uint64_t	 ownership_peer_ended(const struct node *n, unsigned peer);
void		 ownership_probe(struct node *n, unsigned peer, const struct wire_probe *probe);
void		 ownership_new_epoch(struct node *n, unsigned peer, bool rebooted);
/* It says that it shuts down; and: it is silent. */
void		 ownership_leaving(struct node *n, unsigned peer);
void		 ownership_lost(struct node *n, unsigned peer);
/* It is heard again, in the same epoch. */
void		 ownership_back(struct node *n, unsigned peer);
void		 ownership_forget(struct node *n, unsigned peer);

/* --- cluster time --- */

/* Milliseconds: the wall clock of the node that is ahead. */
uint64_t	 ownership_clock_ms(const struct node *n);
void		 ownership_hear_clock(struct node *n, uint64_t ms);

/* --- lives and ends --- */

/* Is entry h of the peer's table known to have ended? */
bool		 ownership_ended(const struct node *n, unsigned peer, uint32_t h);
/* Does another peer tell the key by an entry that counts more? */
bool		 ownership_outranked(struct node *n, unsigned peer, const uint8_t *key, size_t klen);
/* A peer that saw the flow of entry h end deletes it: what others tell of that life has ended, too. */
void		 ownership_ended_at(struct node *n, unsigned peer, uint32_t h);
/* The kernel has deleted our own entry with that key, because an operator wanted the flow to end. */
void		 ownership_ended_by_us(struct node *n, const uint8_t *key, size_t klen);

/* --- our claims --- */

/*
 * A pass over the peer begins; the kernel or the filter keeps out what has that
 * key (true: that is new); it ends.
 */
void		 ownership_claim_begin(struct node *n, unsigned peer);
bool		 ownership_claim_except(struct node *n, unsigned peer, const uint8_t *key, size_t klen);
void		 ownership_claim_end(struct node *n, unsigned peer, bool whole);
/* All that the peer has told by now is dealt with. */
void		 ownership_claim_advance(struct node *n, unsigned peer);
/* Could something be claimed of that peer, if only a pass over it came to its end? */
bool		 ownership_unclaimed(const struct node *n, unsigned peer);
/* Add CLOCK and CLAIM to a signal for the peer. */
void		 ownership_put(const struct node *n, unsigned peer, struct wbuf *w);

/* --- the peers' claims --- */

/* The newest signal of the peer holds this claim, or none (NULL). */
void		 ownership_claimed(struct node *n, unsigned peer, const struct wire_claim *c);
/* The peer whose word a standby may act on: alone active, complete, proven equal; -1: nobody's. */
int		 ownership_authority(const struct node *n);
/* May a standby remove entry h of its own table, with that key, because it is not needed? */
bool		 ownership_expendable(const struct node *n, uint32_t h, const uint8_t *key, size_t klen);

void		 ownership_run(struct node *n, bool *more);

#endif
