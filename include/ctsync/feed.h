/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The change feed: the local table in order of change, and the streams that
 * tell it to the peers (doc/wire.md, sections 5 and 7).
 *
 * There is no queue of messages: the table is the queue.  Memory is bounded by
 * the table, the tombstones and a fixed ring for each stream.
 *
 * Peers are numbers below FEED_PEERS_MAX that the caller gives out.  Nothing
 * here knows of links, sessions or keys; frames go out through feed_ops, in
 * plaintext.  Time comes from the caller, monotonic, in microseconds.
 */
#ifndef CTSYNC_FEED_H
#define CTSYNC_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/ftab.h"
#include "ctsync/wire.h"

#define FEED_PEERS_MAX		32
#define FEED_RING_FRAMES	1024	/* frames kept, and the most in flight */
#define FEED_LINGER_US		4000	/* longest wait for a frame to fill */
#define FEED_BEAT_US		100000	/* a frame at least this often on each stream */
#define FEED_TRAILER_MAX	(16 + 31 * 8)	/* bytes of DOUBT and ECHOED records a frame */

#define FEED_WINDOW_MIN		64	/* frames in flight that any link is good for */
#define FEED_HOLD		2	/* instead of a lane: hold back if it is new */

struct feed;

struct feed_ops {
	/*
	 * Send a frame of a stream to each peer of the set (bit n = peer n).
	 * The bytes are valid during the call only.  A frame that is lost here
	 * is repaired like one that is lost on the way.
	 */
	void	(*send)(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame,
		    size_t len);
	/* Stream has ended for that peer: tell it to ask again. */
	void	(*restart)(void *ctx, unsigned peer, uint32_t stream);
	/*
	 * Add DOUBT and ECHOED records for a frame that is being built;
	 * pending_us is the age of the oldest change that was not emitted.
	 * At most FEED_TRAILER_MAX bytes.
	 */
	void	(*trailer)(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w);
};

struct feed_conf {
	uint64_t		 epoch;
	struct sipkey		 digest_key;	/* told to the peers */
	struct sipkey		 table_key;	/* private */
	uint32_t		 max_flows;
	uint64_t		 max_bytes;
	uint32_t		 max_tombs;	/* tombstones kept at most */
	uint64_t		 hold_us;	/* for FEED_HOLD; 0: such flows go to lane 1 at once */
	uint32_t		 frame_bytes;	/* plaintext of a frame at most */
	uint32_t		 ring_frames;	/* 0: FEED_RING_FRAMES */
};

struct feed_stats {
	uint64_t	 frames;	/* built */
	uint64_t	 resent;
	uint64_t	 records;	/* emitted, live */
	uint64_t	 backfilled;	/* emitted, backfill */
	uint64_t	 merged;	/* changes that joined one not yet emitted */
	uint64_t	 unborn;	/* flows that ended without ever having been emitted */
	uint64_t	 checks;	/* sums of buckets told */
	uint64_t	 mends;		/* repairs of buckets served */
	uint64_t	 retold;	/* records of these */
	uint64_t	 requests;	/* streams started */
	uint64_t	 full_syncs;	/* of these with a new generation */
	uint64_t	 restarts;	/* streams ended by the sender */
	uint64_t	 forced_tombs;	/* tombstones given up at the limit */
	uint64_t	 fat_tombs;	/* tombstones that kept a body for want of memory */
};

struct feed	*feed_new(const struct feed_conf *conf, const struct feed_ops *ops, void *ctx);
void		 feed_free(struct feed *f);

/* --- the table ---------------------------------------------------------- */

/* The entries, to read; use the feed_ functions to change them. */
struct ftab	*feed_table(const struct feed *f);
/* Handle of the live entry with that key or FTAB_NIL; tombstones are not found. */
uint32_t	 feed_find(const struct feed *f, uint32_t hash, const uint8_t *key, size_t klen);
/* Is the entry alive (no tombstone)? */
bool		 feed_live(const struct feed *f, uint32_t h);
/* Next live entry in the walk of ftab_next(). */
uint32_t	 feed_next(const struct feed *f, uint32_t h);

/*
 * The flow with that body is now so.  lane is 0, 1 or FEED_HOLD: a flow that is
 * new and was never told stays unknown to the peers for hold_us, or until it is
 * put into a lane; for others FEED_HOLD is 1.  A flow never moves back
 * from lane 0.  If nothing but the timeout differs from what the table holds,
 * the timeout is taken and no change is recorded.  *h gets the handle.
 * 1 if it is a change, 0 if not; -ENOSPC, -ENOMEM: not taken (no room, or too long
 * for a frame).
 */
int		 feed_put(struct feed *f, uint32_t hash, const uint8_t *body, size_t len,
		    uint32_t timeout_s, unsigned lane, uint64_t now_us, uint32_t *h)
		    __attribute__((warn_unused_result));
/* The same for the entry with that handle, whose key the body has. */
int		 feed_put_at(struct feed *f, uint32_t h, const uint8_t *body, size_t len,
		    uint32_t timeout_s, unsigned lane, uint64_t now_us)
		    __attribute__((warn_unused_result));
/*
 * Bring near what a lookup of hash will touch, in two steps with some other
 * work between them: first the entry's place, then its body and neighbours.
 * The handle is a guess, good for the second call only.
 */
uint32_t	 feed_prefetch_entry(const struct feed *f, uint32_t hash);
void		 feed_prefetch_body(const struct feed *f, uint32_t h);
/* Emit the entry again although its body did not change (its timeout moved). */
void		 feed_touch(struct feed *f, uint32_t h, uint64_t now_us);
/* The flow has ended.  The handle may be invalid afterwards. */
void		 feed_del(struct feed *f, uint32_t h, uint64_t now_us);
/*
 * The entry was removed although the flow may live on elsewhere: peers drop it
 * from their copy of us and conclude nothing.  Like feed_del() otherwise.
 */
void		 feed_remove(struct feed *f, uint32_t h, uint64_t now_us);
/* What the caller keeps beside an entry: the kernel's id, and some bits. */
uint32_t	*feed_id(const struct feed *f, uint32_t h);
uint8_t		*feed_marks(const struct feed *f, uint32_t h);
/* Incarnation that a flow born now under a key needs: one above the last one known. */
uint8_t		 feed_next_incarnation(const struct feed *f, uint32_t hash, const uint8_t *key,
		    size_t klen);

/* The table holds all that the kernel has; until then no peer may sweep by it. */
void		 feed_set_complete(struct feed *f);

uint32_t	 feed_flows(const struct feed *f);	/* live ones, expectations among them */
uint32_t	 feed_expects(const struct feed *f);	/* live expectations */
uint32_t	 feed_tombs(const struct feed *f);
uint64_t	 feed_version(const struct feed *f);
/* Release what was held back long enough (feed_run() does), or all. */
void		 feed_release(struct feed *f, uint64_t now_us, bool all);
/* Flows that are held back: they have no version and do not count in any digest. */
uint32_t	 feed_held(const struct feed *f);
/* Version of an entry's last change, UINT64_MAX if it is held back. */
uint64_t	 feed_version_of(const struct feed *f, uint32_t h);
unsigned	 feed_lane_of(const struct feed *f, uint32_t h);
/* Version up to which the shared stream has emitted each lane. */
struct wire_pos	 feed_emitted(const struct feed *f);
uint64_t	 feed_bytes(const struct feed *f);
/* Changes that were not emitted yet. */
uint32_t	 feed_unsent(const struct feed *f);

/* --- peers ---------------------------------------------------------------- */

/* A peer asks for a stream.  Its nonces ascend; repeated and late requests do no harm. */
void		 feed_request(struct feed *f, unsigned peer, const struct wire_request *q,
		    uint64_t now_us);
/* A peer acknowledges; gaps are sent again. */
void		 feed_ack(struct feed *f, unsigned peer, const struct wire_ack *a, uint64_t now_us);
/*
 * A peer on the shared stream asks for the sums of its buckets, or for the flows
 * of some of them.  Nonces ascend; repeated ones do no harm.  One peer is
 * served at a time; others are to ask again.
 */
void		 feed_check(struct feed *f, unsigned peer, const struct wire_check *c);
void		 feed_mend(struct feed *f, unsigned peer, const struct wire_mend *m);
/* Node id of a peer, for records that are addressed to it. */
void		 feed_set_peer_id(struct feed *f, unsigned peer, uint64_t id);
/* The peer is gone: no stream, but what it may need is kept. */
void		 feed_leave(struct feed *f, unsigned peer);
/* The peer has restarted: the same, and its nonces begin anew. */
void		 feed_new_epoch(struct feed *f, unsigned peer);
/* The peer's table is gone: nothing needs to be kept for it. */
void		 feed_forget(struct feed *f, unsigned peer);
/* Highest version that the peer has applied of everything up to it, and changes it lacks. */
uint64_t	 feed_acked(const struct feed *f, unsigned peer);
uint32_t	 feed_in_flight(const struct feed *f, unsigned peer);
/* Does the peer have a stream? */
bool		 feed_streaming(const struct feed *f, unsigned peer);

/*
 * Build and send what is due, at most max_frames frames.  With flush, frames
 * that are not full go as well.  True if there is more to do at once.
 */
bool		 feed_run(struct feed *f, uint64_t now_us, unsigned max_frames, bool flush);
/* When feed_run() is to be called next, in microseconds; UINT64_MAX if never. */
uint64_t	 feed_due_us(const struct feed *f, uint64_t now_us);

const struct feed_stats	*feed_stats(const struct feed *f);
/* Sum and number of the digest of the shared stream, for tests. */
struct wire_digest	 feed_digest(const struct feed *f);

#endif
