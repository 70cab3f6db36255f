/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The receiving side of one peer: its stream, applied to its remote table
 * (doc/wire.md, section 6).
 *
 * Knows nothing of links, sessions and keys: it is given authenticated
 * plaintext and asked what to send.  Time comes from the caller, monotonic, in
 * microseconds; it is also the stamp that the peer echoes.
 */
#ifndef CTSYNC_RECV_H
#define CTSYNC_RECV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/ftab.h"
#include "ctsync/hist.h"
#include "ctsync/verify.h"
#include "ctsync/wire.h"

#define RECV_REORDER	1024	/* frames that wait for an earlier one, at most */
#define RECV_FRESH_US	1000000	/* a proof of equality holds that long */

struct recv;

struct recv_conf {
	struct sipkey	 table_key;
	uint32_t	 max_flows;
	uint64_t	 max_bytes;
	uint64_t	 my_id, my_epoch;	/* records for these are ours */
	uint64_t	 scrub_us;		/* a lap of the scrub; 0: none */
	/*
	 * A repair puts an entry right.  Bodies as in verify_log_add(), valid
	 * during the call.  NULL: not wanted.
	 */
	void		(*wrong)(void *ctx, enum verify_kind kind, const uint8_t *here,
			    size_t here_len, const uint8_t *there, size_t there_len);
	/*
	 * The peer has told of entry h, new or changed; and: it deletes entry h,
	 * which is removed after the call.  removed: the flow need not have ended.
	 * Sweeps and repairs are not told.  NULL: not wanted.
	 */
	void		(*changed)(void *ctx, uint32_t h);
	void		(*deleted)(void *ctx, uint32_t h, bool removed);
	void		*ctx;
};

struct recv_stats {
	uint64_t	 frames;		/* applied */
	uint64_t	 duplicates;
	uint64_t	 out_of_order;
	uint64_t	 other_stream;
	uint64_t	 malformed;
	uint64_t	 flows;			/* FLOW records applied */
	uint64_t	 gone;			/* GONE records applied */
	uint64_t	 refused;		/* flows with an attribute that must be understood */
	uint64_t	 no_room;
	uint64_t	 compared;		/* digests that were equal */
	uint64_t	 differed;
	uint64_t	 repairs;		/* of buckets, finished */
	uint64_t	 repaired;		/* entries put right by them */
	uint64_t	 escalated;		/* differences that took a new generation */
	uint64_t	 scrubbed;		/* entries hashed again */
	uint64_t	 rotten;		/* of these with another hash than before */
	uint64_t	 swept;
	uint64_t	 crowded;		/* of older generations, for want of room */
	uint64_t	 requests;
	uint64_t	 generations;
};

enum recv_state {
	RECV_WAITING,		/* for a stream */
	RECV_SYNCING,		/* not comparable yet */
	RECV_COMPARING
};

struct recv	*recv_new(const struct recv_conf *conf);
void		 recv_free(struct recv *r);

/* The peer's epoch was accepted: its old stream is void, a new one is asked for. */
void		 recv_epoch(struct recv *r, uint64_t epoch, const struct sipkey *digest_key);

/*
 * A frame of a stream, authenticated.  0, also for what is dropped as stale;
 * -EBADMSG if it is malformed: counted, the stream is asked for again.
 */
int		 recv_frame(struct recv *r, uint32_t stream, const uint8_t *p, size_t len,
		    uint64_t now_us) __attribute__((warn_unused_result));
/* The peer says that this stream has ended. */
void		 recv_restart(struct recv *r, uint32_t stream);
/* Drop everything and ask for a new generation; the old one stays until it is swept. */
void		 recv_resync(struct recv *r);
/* Drop all entries, as an operator's flush does, and ask for all again. */
void		 recv_flush(struct recv *r);
/* The same, giving back the memory, as if nothing had ever come from the peer. */
void		 recv_forget(struct recv *r);

/* Is an acknowledgement to be sent before that time?  UINT64_MAX if not. */
uint64_t	 recv_ack_due_us(const struct recv *r);
/* Fill in what is to be acknowledged now, for up to two streams; returns how many. */
unsigned	 recv_acks(struct recv *r, struct wire_ack a[2]);
/* Fill in the request that is open; false if none is.  To be repeated until it returns false. */
bool		 recv_request(struct recv *r, struct wire_request *q, uint64_t now_us);
/* The same for what a repair asks for. */
bool		 recv_check(const struct recv *r, struct wire_check *c);
bool		 recv_mend(const struct recv *r, struct wire_mend *m);
/* To be called now and then while the peer is up: a stream without frames is asked for again. */
void		 recv_silence(struct recv *r, uint64_t now_us);

/*
 * Entries of older generations stay until that time at least: the peer has
 * rebooted, and ours may be the only copy.
 */
void		 recv_lease(struct recv *r, uint64_t until_us);
/*
 * Look at up to n entries for the sweep of older generations, and ask again
 * when a full table has room.  True if there is more to do.
 */
bool		 recv_run(struct recv *r, unsigned n, uint64_t now_us);

enum recv_verdict {
	RECV_VERIFY_NONE,	/* never asked for */
	RECV_VERIFY_SCRUB,	/* every entry is hashed again */
	RECV_VERIFY_COMPARE,	/* for a comparison after that, and a repair if it fails */
	RECV_VERIFY_EQUAL,
	RECV_VERIFY_DIFFERENT,	/* and put right by now; conf.wrong told what it was */
	RECV_VERIFY_UNKNOWN	/* there was no comparison in time */
};

/* Compare every entry with the peer now; recv_run() does it, 15 s at most. */
void		 recv_verify(struct recv *r, uint64_t now_us);
enum recv_verdict recv_verified(const struct recv *r);

/*
 * The remote table, to read; touched and the lower seven flags of an entry's
 * meta data are the caller's, and zero when the peer has told something new of the flow.
 */
struct ftab	*recv_table(const struct recv *r);
uint64_t	 recv_bytes(const struct recv *r);
enum recv_state	 recv_state(const struct recv *r);
/* Were flows of this generation refused, because only a newer version understands them? */
bool		 recv_refused(const struct recv *r);
bool		 recv_full(const struct recv *r);
/* Equal now, by a proof that is fresh? */
bool		 recv_in_sync(const struct recv *r, uint64_t now_us);
/* Time of the last proof in our clock, 0 if there never was one in this generation. */
uint64_t	 recv_verified_us(const struct recv *r);
/* Does the last thing known (proof, difference, doubt) speak for equality? */
bool		 recv_was_equal(const struct recv *r);
/*
 * From the peer's kernel to our table, in microseconds (doc/wire.md, section 6).
 * False if no changes came yet.
 */
bool		 recv_lag(const struct recv *r, struct hist_summary *s);
/* Is a difference being repaired?  And: did nothing help? */
bool		 recv_mending(const struct recv *r);
bool		 recv_persistent(const struct recv *r);
/* Flows that the peer says it has told us. */
uint32_t	 recv_peer_flows(const struct recv *r);
uint8_t		 recv_doubt(const struct recv *r);
uint32_t	 recv_stream(const struct recv *r);
/* What is applied of this epoch, and the highest positions that were told in it. */
struct wire_pos	 recv_applied(const struct recv *r);
struct wire_pos	 recv_told(const struct recv *r);
/* Hash of a key under the peer's DIGESTKEY, for a claim. */
uint64_t	 recv_key_hash(const struct recv *r, const uint8_t *key, size_t klen);
struct wire_digest recv_digest(const struct recv *r);
const struct recv_stats	*recv_stats(const struct recv *r);

#endif
