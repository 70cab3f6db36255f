/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What feed.c (entries, versions, tombstones) and feed_stream.c (streams,
 * frames, acknowledgements) share.
 */
#ifndef FEED_PRIV_H
#define FEED_PRIV_H

#include "ctsync/carray.h"
#include "ctsync/feed.h"

#define LANES		WIRE_LANES

/* Flags of an entry. */
#define FE_EMITTED	0x01u	/* told to somebody, perhaps in an earlier life of the key */
#define FE_TOMB		0x02u
#define FE_STREAMED	0x04u	/* counts in the digest of the shared stream */
#define FE_LISTED	0x08u	/* stands in the list of its lane */
#define FE_HELD		0x10u	/* stands in the list of those held back; version: until when, us */
#define FE_REMOVED	0x20u	/* of a tombstone: the flow was removed, it did not end */

/* Beside the meta data of the table: the place in the order of versions. */
struct fent {
	uint32_t	 prev, next;
	uint64_t	 version;
	uint32_t	 id;		/* the kernel's, for the owner of the feed */
	uint8_t		 lane;
	uint8_t		 flags;
	uint8_t		 incarnation;	/* of the last life */
	uint8_t		 marks;		/* the owner's; 0 in a new entry */
};

struct flist {
	uint32_t	 head, tail;
};

struct frame {
	uint16_t	 len;
	uint64_t	 sent_us;	/* last time */
	bool		 again;		/* it was sent more than once */
	struct wire_pos	 live, t;	/* positions of the receiver after it */
};

/* How long frames take to a peer. */
struct pace {
	uint64_t	 seq;		/* last frame that was measured */
	uint32_t	 rtt_us;	/* smoothed, 0: not known */
	uint32_t	 least_us[2];	/* the least of this window of time and of the one before, 0: none */
	uint64_t	 least_at_us;	/* when this one began */
};

struct stream {
	uint32_t	 id;
	uint32_t	 peers;		/* set */
	uint64_t	 nonce;		/* of the request that started it */
	uint64_t	 seq;		/* last one built */
	uint64_t	 acked[FEED_PEERS_MAX];
	uint64_t	 progress_us;	/* when an acknowledgement last moved on, or was first awaited */
	uint64_t	 blocked_us;	/* since when the window is full now and again, 0 if it is not */
	uint64_t	 full_us;	/* when it was last seen full */
	uint32_t	 window;	/* frames in flight at most */
	struct pace	 pace[FEED_PEERS_MAX];
	uint64_t	 shrunk_us;	/* when the window was last made smaller */
	uint32_t	 rto_us;
	uint64_t	 built_us;	/* last frame */
	struct wire_pos	 live, b, j, t, t0;
	uint32_t	 live_next[LANES];	/* first entry above live */
	uint32_t	 back_next[LANES];	/* first entry above b */
	bool		 newgen, full, backfilling;
	bool		 owes_horizon;
	unsigned	 turn;		/* of frames, for shares */
	struct frame	*frames;	/* ring, by seq */
	uint8_t		*bytes;
};

struct fpeer {
	uint64_t	 id;		/* of the node */
	struct stream	*cur;		/* stream that it is on */
	struct stream	*tail;		/* private one whose last frames are not acknowledged */
	uint64_t	 nonce;		/* of the last request that was granted */
	uint64_t	 mend_nonce;	/* of the last CHECK or MEND that was taken */
	bool		 may_mend;	/* it was told the sums and has not asked for flows since */
	bool		 known;		/* may come back: t holds */
	struct wire_pos	 t;		/* tombstones up to here were applied */
	struct wire_pos	 live;
	uint64_t	 restart_us;	/* last RESTART */
};

/* Everything above version came at us or later: tells the age of a change. */
#define FEED_MARKS	1024
#define FEED_MARK_US	1000

struct fmark {
	uint64_t	 version, us;
};

/* Bytes that a frame may need besides one body: sequence number, trailer, positions. */
#define FEED_FRAME_EXTRA	(WIRE_SEQ_BYTES + FEED_TRAILER_MAX + FRAME_RESERVE + \
				2 * WIRE_RECORD_HEAD + 4)
#define FRAME_RESERVE		(WIRE_POS_SIZE + WIRE_BACK_SIZE + WIRE_HORIZON_SIZE + \
				WIRE_JOIN_SIZE + WIRE_DIGEST_SIZE + WIRE_SNAP_SIZE + \
				WIRE_RETELL_SIZE)

enum fmend_phase {
	FMEND_NONE,
	FMEND_COUNTING,		/* adding up the sums of buckets */
	FMEND_SNAP,		/* they are kept up to date; the next frame says so */
	FMEND_SUMS,		/* they are frozen and being told */
	FMEND_FINDING		/* entries of the buckets that are wanted, told as they are found */
};

#define FMEND_FOUND	64u	/* entries found and not yet told */

/* What a peer with a difference has asked for (doc/wire.md, section 5); one at a time. */
struct fmend {
	enum fmend_phase phase;
	unsigned	 peer;
	uint32_t	 h;		/* walk */
	unsigned	 next;		/* bucket to tell */
	bool		 begun;		/* RETELL has begun */
	bool		 walked;	/* all entries were looked at */
	unsigned	 nfound;
	uint32_t	 found[FMEND_FOUND];
	uint64_t	 sums[WIRE_BUCKETS];
	uint32_t	 flows;		/* in them */
	uint8_t		 map[WIRE_BUCKET_MAP];
};

struct feed {
	struct feed_conf	 conf;
	size_t			 body_max;
	const struct feed_ops	*ops;
	void			*ctx;

	struct ftab		*tab;
	struct carray		 ents;		/* struct fent by handle */
	struct flist		 lanes[LANES];
	struct flist		 held;		/* in the order in which they are released */
	uint32_t		 nheld;
	uint64_t		 version;	/* V */
	struct wire_pos		 hi;
	struct wire_pos		 floor;
	uint32_t		 live_flows;
	uint32_t		 live_expects;	/* of live_flows */
	uint32_t		 unsent[LANES];
	struct fmark		 marks[FEED_MARKS];
	uint64_t		 nmarks;	/* ever set */
	struct wire_digest	 digest;

	uint32_t		 tomb_head, tomb_tail, ntombs;

	bool			 complete;	/* the first dump is in */
	struct fpeer		 peers[FEED_PEERS_MAX];
	struct stream		*main;
	struct stream		*streams[FEED_PEERS_MAX * 2];
	unsigned		 nstreams;
	uint32_t		 stream_ids;
	struct fmend		 mend;
	struct feed_stats	 stats;
};

static inline struct fent *
fent(const struct feed *f, uint32_t h)
{
	return carray_at(&f->ents, h);
}

/* feed.c */
void	feed_mark_emitted(struct feed *f, uint32_t h, bool shared);
void	feed_collect_tombs(struct feed *f);

/* feed_stream.c */
/* Entry h leaves its place in the list of its lane: cursors on it step on. */
void	feed_cursors_step(struct feed *f, unsigned lane, uint32_t h, uint32_t next);
/* Entry h is the new tail of its lane. */
void	feed_cursors_tail(struct feed *f, unsigned lane, uint32_t h);
/* The floor has risen: end what stands below it. */
void	feed_check_floor(struct feed *f);
/* Version up to which no peer needs tombstones of that lane any more. */
uint64_t feed_tombs_needed(const struct feed *f, unsigned lane);

/* Put the record of h into a frame, keeping room for what ends it; false if it does not fit. */
bool	feed_put_record(const struct feed *f, struct wbuf *w, uint32_t h);

/* feed_mend.c */
/* The hash of h came into the digest (flows: 1) or leaves it (-1). */
void	fmend_account(struct feed *f, uint32_t h, uint64_t change, int flows);
/* The peer has left its stream. */
void	fmend_leave(struct feed *f, unsigned peer);
/* A bounded piece of the walks; true if there is more to do at once. */
bool	fmend_run(struct feed *f);
/* Is there something for a frame of the shared stream? */
bool	fmend_due(const struct feed *f);
/* Sums and flows that are told again, as far as there is room. */
void	fmend_put(struct feed *f, struct wbuf *w);
/* What goes behind everything that changes the digest. */
void	fmend_put_snap(struct feed *f, struct wbuf *w);

#endif
