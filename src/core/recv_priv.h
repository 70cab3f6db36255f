/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What recv.c (the stream), and recv_mend.c (differences: scrub, repair of
 * buckets, verification) share.
 */
#ifndef RECV_PRIV_H
#define RECV_PRIV_H

#include "ctsync/hist.h"
#include "ctsync/recv.h"

#define LANES			WIRE_LANES
#define RETRY_US		1000000	/* after a difference or a malformed frame */

/* ftab_meta.flags: stands in a bucket that differs and has not been told again. */
#define RF_SUSPECT		0x80u

/* Steps of a repair (doc/wire.md, section 6). */
enum mend_phase {
	MEND_NONE,
	MEND_DUE,		/* begins when a second has passed since the last one */
	MEND_COUNTING,		/* adding up our sums */
	MEND_ASKING,		/* they are kept up to date; for the sender's */
	MEND_COLLECTING,	/* they are frozen; comparing */
	MEND_MARKING,		/* entries of buckets that differ */
	MEND_WANTED,		/* for those buckets to be told again */
	MEND_TELLING,
	MEND_SWEEPING		/* what was not told again */
};

struct mend {
	enum mend_phase	 phase;
	uint32_t	 h;		/* walk */
	uint64_t	 nonce;
	uint64_t	 began_us;	/* the last one */
	uint64_t	 moved_us;	/* last progress */
	unsigned	 fails;		/* repairs that did not help, in a row */
	bool		 persistent;	/* nothing has helped */
	uint64_t	 anew_us;	/* then: next attempt */
	unsigned	 next;		/* bucket whose sum comes next */
	unsigned	 differ;	/* buckets */
	uint64_t	 sums[WIRE_BUCKETS];
	uint32_t	 flows;		/* in them */
	uint8_t		 map[WIRE_BUCKET_MAP];
};

struct held {
	uint8_t		*p;
	uint16_t	 len;
};

struct recv {
	struct recv_conf	 conf;
	struct ftab		*tab;

	uint64_t		 epoch;
	struct sipkey		 digest_key;
	uint64_t		 nonce;		/* of our latest request */
	bool			 asking;	/* it has not been answered */
	uint64_t		 ask_at_us;	/* not before */
	bool			 anew;		/* it asks for a new generation */

	uint8_t			 gen;
	uint32_t		 gen_count[256];	/* entries of each generation */
	struct wire_digest	 digest;	/* of the current one */
	bool			 full_sync;	/* older generations are to be swept at the horizon */
	bool			 table_full;
	uint64_t		 full_us;	/* since when */
	uint64_t		 refused_us;	/* since when something was refused, or of the last new try */
	struct wire_pos		 a, t;		/* applied up to */
	struct wire_pos		 told;		/* the highest positions of this epoch */

	uint32_t		 stream;	/* 0: none */
	uint32_t		 top;		/* highest one that was ever started */
	uint64_t		 frame_us;	/* when a frame was last applied */
	uint64_t		 next;
	uint64_t		 high;		/* highest sequence number seen */
	struct wire_pos		 j;
	uint64_t		 horizon;	/* H + 1, 0: not known */
	uint64_t		 horizon0;	/* the same of lane 0, known when lane 1 has reached H */
	bool			 base;		/* backfill is complete */
	bool			 comparing;
	struct held		 held[RECV_REORDER];

	uint32_t		 prev_stream;	/* the one before a JOIN */
	uint64_t		 prev_seq;
	bool			 ack_prev;
	uint32_t		 unacked;
	uint64_t		 ack_due_us;	/* UINT64_MAX: nothing to acknowledge */

	uint32_t		 sweep_h;
	uint32_t		 room_h;	/* walk for entries that may go when the table is full */
	bool			 sweeping;
	uint64_t		 lease_us;	/* no sweep before that time */
	bool			 refused;	/* a flow of this generation was not understood */

	bool			 equal;		/* the last comparison, without doubts */
	uint64_t		 verified_us;
	uint8_t			 doubt;
	uint32_t		 peer_flows;

	/* the peer's clock minus ours, modulo 2^32, never too low: the least of two windows */
	uint32_t		 offset_us[2];	/* of this window and of the one before */
	bool			 offset_known[2];
	uint64_t		 offset_at_us;	/* when this window began */
	struct hist		 lag;

	struct mend		 mend;
	uint32_t		 scrub_h;
	uint64_t		 scrub_at_us;	/* so far it has come by then */
	uint64_t		 scrub_debt;	/* entries times microseconds of a lap still to look at */
	enum recv_verdict	 verify;
	bool			 verify_mended;	/* a difference was found since it began */
	uint64_t		 verify_until_us;
	struct recv_stats	 stats;
};


/* recv.c */
/* Forget the stream and ask for one, anew: with a new generation. */
void	recv_ask(struct recv *r, bool anew);
/* The entry leaves the digest of the generation that it belongs to; and comes into that of this one. */
void	recv_uncount(struct recv *r, uint32_t h);
void	recv_count(struct recv *r, uint32_t h, uint64_t digest);

/* recv_mend.c */
/* An entry's hash came into the digest (flows: 1) or left it (-1). */
void	mend_account(struct recv *r, uint32_t h, uint64_t change, int flows);
/* The comparison failed, or was equal. */
void	mend_differed(struct recv *r, uint64_t now_us);
void	mend_equal(struct recv *r);
void	mend_stop(struct recv *r);
void	mend_snap(struct recv *r, const struct wire_snap *s, uint64_t now_us);
void	mend_sums(struct recv *r, const struct wire_sums *s, uint64_t now_us);
/* The peer serves another node: it is our turn later. */
void	mend_wait(struct recv *r, uint64_t now_us);
void	mend_begin_end(struct recv *r, bool begin, bool end, uint64_t now_us);
/*
 * A record that is told again is about to be applied to entry h, or to none.
 * True if that has the flow so already: no news of it.
 */
bool	mend_retold(struct recv *r, uint32_t h, const uint8_t *body, size_t len, bool ours);
/* A bounded piece of what is due; true if there is more to do at once. */
bool	mend_run(struct recv *r, unsigned n, uint64_t now_us);

#endif
