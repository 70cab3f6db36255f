/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What ownership.c (role, term, peers), ownership_life.c (lives and ends) and
 * ownership_claim.c (claims) share.
 */
#ifndef OWNERSHIP_PRIV_H
#define OWNERSHIP_PRIV_H

#include "ownership.h"

/* Of a peer: all that it had told up to pos in an epoch is dealt with, but for some keys. */
struct claim {
	bool			 held;
	bool			 crowded;	/* there are too many keys to be named */
	uint64_t		 epoch;
	struct wire_pos		 pos;
	uint64_t		*except;	/* hashes of keys that it names, NULL: none */
	uint32_t		 n, cap;
};

/* What a peer claims of us. */
struct claim_heard {
	bool			 held;		/* proven is valid */
	bool			 waiting;	/* for a proof of what came after it */
	uint64_t		 at_us;		/* when that came */
	struct wire_claim	 proven, next;
};

struct owner_peer {
	bool			 probed;	/* it has told role and term */
	bool			 active, taking;
	uint32_t		 term;
	uint64_t		 settled_us;	/* since when it says all that */
	uint64_t		 generation;	/* of its table, that was last seen comparable */
	struct claim		 claim, next_claim;
	struct claim_heard	 heard;
	bool			 unmarking;	/* marks of its table are void, and being removed */
	uint32_t		 unmark_h;
	uint64_t		 ended;		/* entries of its table that were marked, ever */
};

struct ownership {
	enum node_role		 role;
	uint32_t		 term;
	bool			 asked;		/* somebody wants this role, it is not only kept */
	bool			 resume;
	uint64_t		 standby_us;
	uint64_t		 active_us;	/* since when, while it is active */
	uint64_t		 clock_ms;	/* cluster time at monotonic time 0 */
	bool			 clocked;	/* a peer has told the time of the cluster, or ours is sane */
	uint64_t		 beside_us;	/* last audit because two nodes are active */
	struct log_limit	 log;
	uint64_t		 none_us;	/* since when no node is active, 0: some is */
	uint64_t		 two_us;	/* since when two nodes are active, 0: they are not */
	bool			 two_said;
	uint64_t		 births_at_us, births_base;
	uint32_t		 births;	/* of the window before this one */
	struct owner_peer	 peers[NODE_PEERS_MAX];
};

/* ownership_life.c */
extern const struct local_observer	ownership_observer;

/* ownership_claim.c */
void	claims_free(struct ownership *o);
void	claims_run(struct node *n, unsigned peer);

#endif
