/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What local.c (events, adoption), local_dump.c (dumps, confirmations,
 * verification), local_held.c (flows that wait for their end) and
 * local_expect.c (expectations) share.
 */
#ifndef LOCAL_PRIV_H
#define LOCAL_PRIV_H

#include "ctsync/carray.h"
#include "ctsync/local.h"
#include "ctsync/log.h"
#include "ctsync/u64set.h"

/* Flags of ftab_meta; the first one says that gen was set by an event. */
#define LF_TOUCHED	0x01u
/*
 * A GET is under way, and nothing happened since: which one, of the three that
 * may be under way, because a former one may tell what is old news by now.
 */
#define LF_ASKED	0x82u
#define ASK_1		0x02u
#define ASK_2		0x80u
#define ASK_3		0x82u
#define LF_AGED		0x04u		/* a purge has asked for it, and no event came since */
#define LF_LIBERAL	0x08u		/* we made its TCP windows liberal */
#define LF_RECHECK	0x10u		/* its end is believed when a GET says so */
#define LF_HELD		0x20u		/* it has ended: see local_held.c */
#define LF_DOUBTED	0x40u		/* a verification found it, to be confirmed */

/* Marks of feed_marks(). */
#define LM_COPY		0x01u		/* a takeover wrote it, and no packet is known to have used it */
#define LM_STRAY	0x04u		/* see local_stray() */
#define LM_BASE_UNKNOWN	0x02u		/* of a copy: how many packets the kernel had counted before */
#define LM_REPLACED	0x08u		/* see local_replaced() */
#define LM_WRITTEN	0x10u		/* a takeover wrote it, and no event came since */

/* What an event leaves alone. */
#define LF_KEEP		(LF_LIBERAL | LF_RECHECK)

/* Tag of the GET job for unknown flows; that of others is the flag in the entry. */
#define LOCAL_TAG_UNKNOWN	0u

struct held_chunk;

struct orphan;
struct inactive;

/* See local_expect.c. */
struct expects {
	uint8_t			*seen;		/* a bit for each zone and direction, NULL: none */
	struct expect_zone {
		uint16_t	 zone;
		uint8_t		 dir;
	}			*zones;		/* the same as a list */
	uint32_t		 nzones, zones_cap;
	struct orphan		*orphans;	/* expectations whose master is not there, the oldest first */
	uint32_t		 norphans;
	struct inactive		*inactive;	/* expectations that are not active yet */
	uint32_t		 ninactive;
	uint64_t		 inactive_us;	/* when one is to be looked at, 0: never */
};

/* Ended flows that wait, the oldest first. */
struct held {
	struct held_chunk	*head, *tail;
	uint32_t		 first;		/* in the head, of those that still wait */
	uint32_t		 n;
};

/*
 * What events have told of flows that are being asked for, merged: newer than
 * the answer.  As many as fit; of others an answer may be older by one event,
 * and is asked for again.
 */
#define DELTAS	64u
struct deltas {
	unsigned	 n;
	uint64_t	 hash[DELTAS];
	struct flow	 f[DELTAS];
};

enum verify_state {
	VERIFY_IDLE,
	VERIFY_WANTED,
	VERIFY_DUMPING,
	VERIFY_CONFIRMING
};

struct local {
	struct feed			*feed;
	const struct kernel_port	*kernel;
	void				*kctx;
	local_filter_fn			*filter;
	void				*fctx;

	uint8_t				 gen;		/* of the current or last dump */
	bool				 wanted;	/* a dump is to be begun */
	bool				 audit;		/* the same, but nobody waits for it */
	bool				 fast;		/* somebody waits for the current or last dump */
	bool				 dumping;
	bool				 complete;
	bool				 emptied;	/* and no dump has filled it since */
	bool				 refilling;	/* the dump at hand began after that */
	uint64_t			 known_us;	/* see local_known_us() */
	bool				 in_event;	/* and the first dump is done: new flows may be held back */
	bool				 confirming;	/* walking over what the dump lacked */
	uint32_t			 confirm_h;
	bool				 asks[3];	/* GET jobs for known flows, being filled or under way */
	uint8_t				 ask_gen[4];	/* by ask_of(): the dump that had begun when it was submitted */
	struct kjob			*check;		/* the one being filled */
	uint64_t			 check_us;	/* since when something is not known that they ask for */
	bool				 adopting;
	bool				 kept_out;	/* see local_kept_out() */
	bool				 dump_refused;	/* this dump found flows that do not fit */
	bool				 no_room;	/* flows are missing because they did not fit */
	uint64_t			 retry_at_us, retry_us;
	uint64_t			 lacking_us;	/* since when the next dump is needed, 0: it is not */
	uint64_t			 dump_us;	/* the same of the one at hand, until all is confirmed */
	uint64_t			 adopt_us;	/* since when */
	uint32_t			 adopt_tick;	/* the same, but later than any adoption before */

	struct kjob			*unknown;	/* flows whose delta was not enough */
	struct deltas			 deltas;
	uint64_t			 unknown_us;	/* since when there are such, 0: none */
	uint64_t			 asked_us;	/* the same of those that were asked for */
	bool				 asking;	/* a GET job for them is under way */
	struct u64set			 ended_asking;	/* since that job was submitted */
	struct u64set			 ended[2];	/* since local_dump_taken(), and before */
	struct u64set			 ended_adopting;	/* since the adoption began */
	struct held			 held;
	struct expects			 expects;

	const struct local_observer	*observer;
	void				*octx;
	uint64_t			 clock_ms;	/* see local_set_clock() */
	struct carray			 packets;	/* by handle: as last counted, for copies and purges */

	enum verify_state		 verify;
	bool				 verify_spoilt;	/* events were lost meanwhile */
	struct local_verified		 verified;
	struct local_stats		 stats;
};

/* local.c */
/* Monotonic time as ftab_meta.touched counts it: 65.536 ms, for nine years. */
static inline uint32_t
local_tick(uint64_t us)
{
	return (uint32_t)(us >> 16);
}

#define SETTLED_TICKS	76u	/* an entry without an event for so long (5 s) is not just being reborn */
#define LOCAL_EVER	1u	/* as a time since when something is not known */
/* The earlier one of two times, 0 meaning never. */
uint64_t local_earlier(uint64_t a_us, uint64_t b_us);
struct ftab_meta *local_meta(const struct local *l, uint32_t h);
void	 local_make_key(const struct local *l, const struct flow *f, struct local_key *k);
/* The entry leaves the table; ended: the flow is over. */
void	 local_remove(struct local *l, uint32_t h, bool ended, uint64_t now_us);
/* Does the filter let it through? */
bool	 local_passes(const struct local *l, const struct flow *f);
void	 local_store(struct local *l, uint32_t h, const struct local_key *k, struct flow *f,
	    uint64_t now_us);
/*
 * The kernel shows *f, the table has entry h: does it have another translation
 * than the one that a takeover wrote?  is_new: the event says that a packet made
 * it.  True if it is the entry of a stray.
 */
bool	 local_note_reply(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
	    bool is_new);
/* A flow that the table lacks, as the kernel shows it; its handle or FTAB_NIL.  is_new: it was born now. */
uint32_t local_store_new(struct local *l, const struct local_key *k, const struct flow *f,
	    bool is_new, uint64_t now_us);
/* local_use.c */
/*
 * The entry has ended, not before at_us (0: unknown).  f is the event, or NULL if
 * nothing but its absence tells of it.  True if the flow is over.
 */
bool	 local_tell_end(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
	    uint64_t at_us);
/* A takeover has written entry h, which the kernel had before (there), or had not. */
void	 local_copied(struct local *l, uint32_t h, bool there);
/* An event has begun that entry: note in *f when it was born, and whether it is a stray. */
void	 local_birth(struct local *l, const struct local_key *k, struct flow *f, uint64_t now_us);
/* The same of a flow that is seen for the first time. */
void	 local_found_now(const struct local *l, struct flow *f, uint64_t now_us);
/* A packet has passed: it is a copy no more; *cur is what is going to be stored. */
void	 local_used(struct local *l, uint32_t h, struct flow *cur);
/* A dump or an answer shows *f: true if that says that the copy h is in use. */
bool	 local_shown(struct local *l, uint32_t h, const struct flow *f, uint64_t now_us);
/* The kernel's counters of an entry that a dump found: never used means a copy. */
void	 local_found(struct local *l, uint32_t h, const struct flow *f);
/* Remember an end while older news of the flow may still be on its way. */
void	 local_remember_end(struct local *l, const struct local_key *k);
/* Has such a flow ended so lately that what a dump shows may be older?  Or an answer? */
bool	 local_ended_dumping(const struct local *l, const struct local_key *k);
bool	 local_ended_asking(const struct local *l, const struct local_key *k);
bool	 local_ended_adopting(const struct local *l, const struct local_key *k);
/* A flow of which only a delta is known, or whose news may be old, is asked for. */
void	 local_ask_unknown(struct local *l, const struct local_key *k, uint64_t now_us);

/* What events have told of it since it was asked for, or NULL; and forget that. */
const struct flow *local_delta(const struct local *l, const struct local_key *k);
void	 local_delta_drop(struct local *l, const struct local_key *k);

/* local_event() of a flow, or of an expectation whose zone is known. */
void	 local_event_of(struct local *l, enum local_event ev, const struct flow *f,
	    const struct local_key *k, uint64_t now_us);

/* local_dump.c */
/*
 * Have a GET tell whether the entry is so, which is not known since since_us (0:
 * nothing speaks against it); false if it cannot be asked for now.
 */
bool	 local_check(struct local *l, uint32_t h, uint64_t since_us);
/* The same; if it cannot be asked for, a dump will tell. */
void	 local_check_or_dump(struct local *l, uint32_t h, uint64_t since_us);
/* Begin and submit what is due; true if there is more to do at once. */
bool	 local_dump_run(struct local *l, uint64_t now_us);

/* local_held.c */
/* Hold the end of a flow back; false if it is to be believed at once. */
bool	 local_hold(struct local *l, uint32_t h, uint64_t now_us);
bool	 local_held_run(struct local *l, uint64_t now_us);
void	 local_held_free(struct local *l);

/* local_expect.c */
/* There are flows in the zone of *f, which is not none. */
void	 local_expect_zone(struct local *l, const struct flow *f);
/* A flow has come: expectations may have waited for it. */
void	 local_expect_master(struct local *l, const struct flow *master, uint64_t now_us);
/* An event of an expectation, whose zone is not known. */
void	 local_expect_event(struct local *l, enum local_event ev, const struct flow *f,
	    uint64_t now_us);
/* A dump shows an expectation: *f gets its zone.  False if there is nothing to be done with it. */
bool	 local_expect_dumped(struct local *l, struct flow *f, uint64_t now_us);
/* The expectation with that key has been stored, and is not active. */
void	 local_expect_inactive(struct local *l, const struct local_key *k, uint64_t now_us);
void	 local_expect_run(struct local *l, uint64_t now_us);
void	 local_expect_free(struct local *l);

#endif
