/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: keeps the local table what this node's kernel tracks and the
 * filter lets through.
 *
 * Events are deltas and are merged; dumps say "at least these existed"; what a
 * dump does not show is deleted only when a GET says ENOENT.  Everything that
 * is found goes into the feed.  Time is monotonic, in microseconds.
 */
#ifndef CTSYNC_LOCAL_H
#define CTSYNC_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/ports.h"
#include "ctsync/verify.h"

struct local;

enum local_event {
	LOCAL_NEW,
	LOCAL_UPDATE,
	LOCAL_DESTROY
};

/* What the end of an entry in the kernel says (doc/wire.md, section 8.1). */
enum local_end {
	LOCAL_END_USED,		/* it had carried a packet here */
	LOCAL_END_UNUSED,	/* a takeover wrote it, and no packet came */
	LOCAL_END_COMMANDED	/* a program had it deleted */
};

/* Who decides what births and ends mean; its arguments are valid during the call. */
struct local_observer {
	/*
	 * An entry of the kernel has ended.  key is that of the flow; f what the
	 * table held, or what the event showed if it held nothing.  It did not
	 * end before at_us (0: nothing is known of that).  True if the flow is
	 * over; false if it may live on elsewhere.
	 */
	bool		(*ended)(void *ctx, const uint8_t *key, size_t klen, const struct flow *f,
			    enum local_end how, uint64_t at_us);
	/*
	 * A packet has made an entry; f->born is the time of the cluster.  Put
	 * right when the flow was born.  True if the packet is a stray: it belongs
	 * to a flow that is older than its entry here.
	 */
	bool		(*birth)(void *ctx, const uint8_t *key, size_t klen, struct flow *f);
	/*
	 * A stray had made its entry just before a takeover wrote it in place: it
	 * is translated as the packet was, and is a stray from now on.
	 */
	void		(*astray)(void *ctx, const uint8_t *key, size_t klen);
};

/* Does the filter let the (complete) flow through? */
typedef bool	local_filter_fn(void *ctx, const struct flow *f);

struct local_stats {
	uint64_t	 events[3];	/* by enum local_event */
	uint64_t	 born;		/* flows that a packet began here, and that are replicated */
	uint64_t	 filtered;	/* events and dump entries that the filter left out */
	uint64_t	 reborn;	/* NEW on a flow that was believed alive */
	uint64_t	 stale_destroys;	/* DESTROY of an earlier flow of the tuple */
	uint64_t	 partial;	/* deltas of flows that were not known */
	uint64_t	 dumps;
	uint64_t	 dump_added, dump_changed;
	uint64_t	 confirmed_gone;	/* removed after a GET said ENOENT */
	uint64_t	 refused;	/* no room in the table */
	uint64_t	 held;		/* ends that were held back: their address has gone */
	/*
	 * Flows that a takeover wrote and that the kernel has under another reply
	 * tuple: it picked another port or address to translate to.
	 */
	uint64_t	 retranslated;
};

struct local	*local_new(struct feed *feed, const struct kernel_port *kernel, void *kernel_ctx,
		    local_filter_fn *filter, void *filter_ctx);
void		 local_free(struct local *l);

/* Borrowed.  Not asked about what local_removed() removes. */
void		 local_observe(struct local *l, const struct local_observer *o, void *ctx);
/* Cluster time in milliseconds at monotonic time 0: births are stamped with it. */
void		 local_set_clock(struct local *l, uint64_t base_ms);

/* Bring the key of a flow near, some time before local_event() of it. */
struct local_key {
	uint32_t	 hash;
	uint32_t	 guess;		/* where the entry seems to be */
	uint8_t		 len;
	uint8_t		 key[FLOW_KEY_MAX];
};
void		 local_prefetch(const struct local *l, const struct flow *f, struct local_key *k);
/* Two further steps, each some time after the one before. */
void		 local_prefetch_entry(const struct local *l, struct local_key *k);
void		 local_prefetch_body(const struct local *l, const struct local_key *k);
/*
 * An event of the kernel about *f (a delta), whose key was packed into *k.
 * now_us may be earlier than now, but not later than when it happened.
 */
void		 local_event(struct local *l, enum local_event ev, const struct flow *f,
		    const struct local_key *k, uint64_t now_us);

/*
 * Dumps.  local_resync() asks for one; if one runs already another follows.
 * local_audit() asks for one that nobody waits for and that gives way to
 * others, local_overrun() for one because events were lost.  The port then
 * delivers local_dump_begin(), its entries, and local_dump_end() with 0 or
 * -errno.
 */
void		 local_resync(struct local *l);
void		 local_audit(struct local *l);
void		 local_overrun(struct local *l, uint64_t since_us);
/* Since when something may be missing or wrong until a dump is done; 0: nothing is. */
uint64_t	 local_lacking_us(const struct local *l);
void		 local_dump_begin(struct local *l);
/* Does somebody wait for the dump that was begun last? */
bool		 local_dump_fast(const struct local *l);
/*
 * Is there room for more entries, some 900 at most?  Asked before the events
 * that are older than they are handed over.
 */
bool		 local_dump_ready(const struct local *l);
/*
 * Entries have been handed over, and the kernel is read on.  What comes before
 * the next call was read after the last but one.
 */
void		 local_dump_taken(struct local *l);
void		 local_dump_entry(struct local *l, const struct flow *f, uint64_t now_us);
void		 local_dump_end(struct local *l, int err, uint64_t now_us);

/*
 * Verification: a dump that records what no event accounts for, and repairs it
 * as any dump does.  It begins as soon as no other dump is under way; one that
 * runs is joined.  If events are lost meanwhile it is made again, three times
 * at most.
 */
struct local_verified {
	unsigned		 tries;
	bool			 lost;		/* events were lost during the last one as well */
	uint32_t		 flows;		/* in the table when it ended */
	struct verify_log	 log;
};

void		 local_verify_begin(struct local *l);
bool		 local_verifying(const struct local *l);
/* What the last one found; valid until another one begins. */
const struct local_verified *local_verified(const struct local *l);

/* Are flows missing because there was no room for them? */
bool		 local_no_room(const struct local *l);
/* Is a re-read under way or asked for (its confirmations included)? */
bool		 local_resyncing(const struct local *l);
/* Since when there are flows of which we know but not what they are; 0: none. */
uint64_t	 local_unknown_us(const struct local *l);
/* Has the first one been done? */
bool		 local_complete(const struct local *l);
/* Has the kernel been read since the table was empty?  What it lacks is not in the kernel then, as far as events tell. */
bool		 local_known(const struct local *l);
/* Since when; monotonic, microseconds. */
uint64_t	 local_known_us(const struct local *l);
/* Forget all flows; local_overrun() before that has them read again.  The peers are told that they need not have ended. */
void		 local_empty(struct local *l, uint64_t now_us);

/* A KOP_GET job of ours is done; takes it. */
void		 local_got(struct local *l, struct kjob *j, uint64_t now_us);

/*
 * A takeover has written the flow with that body into this node's kernel: it
 * is ours now, a copy that is not used yet.  It was written after since_us;
 * there: the kernel had it before.  If something newer is known, an event since
 * the adoption began, or the end of an expectation, the kernel is asked what it
 * has.  1 if it was added, 0 or -errno if not.
 */
int		 local_adopt(struct local *l, const uint8_t *body, size_t len, uint32_t timeout_s,
		    bool there, uint64_t since_us, uint64_t now_us) __attribute__((warn_unused_result));
/* The kernel's id of entry h, 0 if it is not known. */
uint32_t	 local_id(const struct local *l, uint32_t h);
/*
 * Our own DELETE has removed the entry with that key and id, and another one is
 * being written: events that come now are those of the other one.  False if an
 * event has told of another entry since, made by a packet.
 */
bool		 local_replaced(struct local *l, const uint8_t *key, size_t klen, uint32_t id);
/*
 * The kernel's entry under that key is another one, by our own doing; the table
 * goes on holding the flow.
 */
void		 local_forget_id(struct local *l, const uint8_t *key, size_t klen);
/* Handle of the flow with that key in the feed's table, FTAB_NIL if there is none. */
uint32_t	 local_find(const struct local *l, const uint8_t *key, size_t klen);
/* What the table holds under h, with its timeout and id.  False if it cannot be read. */
bool		 local_load(const struct local *l, uint32_t h, struct flow *f)
		    __attribute__((warn_unused_result));
/* Does the local table have the master of that flow or expectation? */
bool		 local_has_master(const struct local *l, const struct flow *f);
/* What events have told of entry h is older than what is being adopted. */
void		 local_overtaken(struct local *l, uint32_t h);
/* Do we know something newer of the flow than a replica can tell, since the adoption began? */
bool		 local_newer(const struct local *l, const uint8_t *key, size_t klen);
/* Is entry h a copy that no packet is known to have used here? */
bool		 local_unused(const struct local *l, uint32_t h);
/* Was entry h made by a packet of a flow that is older than it? */
bool		 local_stray(const struct local *l, uint32_t h);
/* Has the kernel ended entry h, and is it only kept because its address has gone? */
bool		 local_is_held(const struct local *l, uint32_t h);
/* Has an event touched entry h since that time?  A tick of 66 ms too often rather than too seldom. */
bool		 local_touched(const struct local *l, uint32_t h, uint64_t since_us);
/* Are the TCP windows of entry h liberal by our doing?  And: they are, or are strict again. */
bool		 local_liberal(const struct local *l, uint32_t h);
void		 local_set_liberal(struct local *l, const uint8_t *key, size_t klen, bool liberal);
/* Between on and off, flows that end are remembered, so that local_adopt() knows. */
void		 local_adopting(struct local *l, bool on, uint64_t now_us);
/* Since it is on: has the filter taken a flow out that the kernel still has? */
bool		 local_kept_out(const struct local *l);
/* Does the filter let that flow, which is complete, into the table? */
bool		 local_lets_through(const struct local *l, const struct flow *f);

enum local_use {
	LOCAL_USE_UNKNOWN,	/* asked for the first time, or again since an event */
	LOCAL_USE_NONE,		/* no packet since the question before */
	LOCAL_USE_SOME
};

/*
 * The kernel has shown *f for that key in answer to a purge: has a packet
 * passed since the question before, at least by_s seconds ago?  Counters tell,
 * or the timeout where there are none.
 */
enum local_use	 local_use(struct local *l, const uint8_t *key, size_t klen, const struct flow *f,
		    uint32_t by_s);
/* The next such question is the first one. */
void		 local_use_reset(struct local *l, uint32_t h);
/* Is the entry as unused as a takeover left it, as the kernel shows it in *f? */
bool		 local_still_unused(struct local *l, const uint8_t *key, size_t klen,
		    const struct flow *f);

/*
 * The entry was removed from the kernel by ourselves, not before since_us.
 * ended: the flow is over; else it may live on elsewhere.
 */
void		 local_removed(struct local *l, const uint8_t *key, size_t klen, bool ended,
		    uint64_t since_us, uint64_t now_us);

/* Submit what waits; bounded work.  True if there is more to do at once. */
bool		 local_run(struct local *l, uint64_t now_us);

const struct local_stats	*local_stats(const struct local *l);

#endif
