/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel's connection tracking table over ctnetlink: events, dumps and
 * writes, each on a socket of its own.
 *
 * What flows mean, which of them to keep and what to do about failures is left
 * to the caller.  Callbacks run on the thread of the event loop.  Pointers
 * handed to a callback are valid during the call only.
 *
 * Order at start: kct_writer_open(), then kct_event_open() with the writer's
 * port id (the filter is attached before the groups are joined), then
 * kct_dump_start().  Capabilities belong to threads: open the writer after
 * privileges were dropped.
 */
#ifndef CTSYNC_KCT_H
#define CTSYNC_KCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"
#include "ctsync/kct_msg.h"

struct ev_loop;

/* --- events ---------------------------------------------------------------- */

#define KCT_EVENT_BATCH		64	/* events handed over at once, at most */
#define KCT_IGNORE_MAX		16	/* port ids whose changes are left out */

struct kct_event {
	struct flow	 flow;		/* a delta: see flow.has */
	uint32_t	 portid;	/* of the socket that asked for it, 0: a packet or time */
	uint8_t		 type;		/* enum kct_msg_type */
};

struct kct_event_conf {
	size_t		 rcvbuf_bytes;	/* the kernel accounts about 1 KiB for an event */
	const uint32_t	*ignore;	/* port ids of writers, read during the call */
	size_t		 nignore;	/* at most KCT_IGNORE_MAX */
	/*
	 * NETLINK_BROADCAST_ERROR: the kernel keeps what it could not deliver and
	 * tries again.  Entries whose end was not delivered count in
	 * nf_conntrack_count until it was.
	 */
	bool		 reliable;
};

struct kct_event_ops {
	/* n events, 1 to KCT_EVENT_BATCH, in the order in which they happened. */
	void	(*events)(void *ctx, const struct kct_event *ev, size_t n);
	/*
	 * Events were lost.  Called when the socket has been read empty since,
	 * so that a dump that begins now sees what they said.
	 */
	void	(*overrun)(void *ctx);
};

struct kct_event_stats {
	uint64_t	 by_type[KCT_MSG_TYPES];
	uint64_t	 bytes;
	uint64_t	 overruns;
	uint64_t	 bad;		/* messages that could not be parsed */
	uint64_t	 errors;	/* of the socket, other than overruns */
	uint64_t	 reads;		/* system calls that returned events */
	size_t		 rcvbuf_bytes;	/* granted, as the kernel accounts it */
};

struct kct_reader;

/*
 * Subscribe to all changes of entries.  The reader, or NULL and -errno in *err:
 * -EPERM without CAP_NET_ADMIN, -EPROTONOSUPPORT or -ENOENT without ctnetlink,
 * -EINVAL for too many port ids.  Copies *conf and *ops.
 */
struct kct_reader *kct_event_open(struct ev_loop *loop, const struct kct_event_conf *conf,
		    const struct kct_event_ops *ops, void *ctx, int *err);
/* Not from a callback of this reader.  NULL is fine. */
void		 kct_event_close(struct kct_reader *r);
/*
 * Read what is there, as if the socket had become readable: once a second,
 * and before a decision that wants to know.  Calls callbacks.
 */
void		 kct_event_poke(struct kct_reader *r);
/*
 * Read until nothing is left, at most a thousand events: true if every event
 * that happened before the call has been handed over.  False: there is more,
 * call again when others have had their turn.  Calls callbacks.
 */
bool		 kct_event_drain(struct kct_reader *r) __attribute__((warn_unused_result));
/*
 * Monotonic time in nanoseconds when the socket was last known to be empty:
 * every event before it has been handed over.  Looks at the socket if the
 * answer is older than a millisecond; calls no callbacks.  0: never yet, or
 * not since events were lost.
 */
uint64_t	 kct_event_empty_ns(struct kct_reader *r);
/*
 * In the events callback: monotonic time in nanoseconds when the socket was
 * last known to be empty before these events, none of which happened earlier.
 */
uint64_t	 kct_event_since_ns(const struct kct_reader *r);
const struct kct_event_stats *kct_event_stats(const struct kct_reader *r);

/* --- dumps ----------------------------------------------------------------- */

struct kct_dump_conf {
	struct kct_dump_filter	 filter;
	/*
	 * Pause in ms between reads of about 600 entries, for an audit that nobody
	 * waits for; 0: as fast as the loop allows.
	 */
	uint32_t		 pace_ms;
	bool			 expects_too;	/* expectations follow the flows */
};

struct kct_dump_result {
	uint64_t	 flows;
	uint64_t	 bad;		/* messages that could not be parsed */
	uint64_t	 elapsed_ns;
	bool		 interrupted;	/* the table changed meanwhile; of no consequence */
	bool		 filtered;	/* the kernel says that it applied the filter */
};

struct kct_dump_ops {
	/*
	 * Entries have been read from the kernel: may they be handed over?  If
	 * not they wait, with all that follow, and the question comes again
	 * within some milliseconds.  NULL: always.
	 */
	bool	(*ready)(void *ctx);
	/* n >= 1 flows as they were when the kernel came by. */
	void	(*flows)(void *ctx, const struct flow *f, size_t n);
	/*
	 * Entries have been handed over, and the kernel is read on: what comes
	 * before the next call was read after the last but one.  NULL is fine.
	 */
	void	(*taken)(void *ctx);
	/* The end: rc is 0 or -errno.  kct_dump_free() may be called from here. */
	void	(*done)(void *ctx, int rc, const struct kct_dump_result *res);
};

struct kct_dump;

/*
 * Start a dump; a thread of its own reads.  What it does not show need not be gone: entries come and go
 * while it runs.  The dump, or NULL and -errno in *err.
 */
struct kct_dump	*kct_dump_start(struct ev_loop *loop, const struct kct_dump_conf *conf,
		    const struct kct_dump_ops *ops, void *ctx, int *err);
/*
 * Give up a dump, or clean up after its end: done() is not called any more.
 * Allowed from every callback.  NULL is fine.
 */
void		 kct_dump_free(struct kct_dump *d);

/* --- writes ---------------------------------------------------------------- */

#define KCT_JOB_ITEMS		4096	/* items of a job at most */
#define KCT_QUEUE_JOBS		16	/* jobs waiting, running and not yet reported, at most */

enum kct_op {
	/*
	 * Create.  If the same flow is there already (same key, same reply
	 * tuple) it is updated instead, without touching NAT.
	 */
	KCT_CREATE,
	/*
	 * Change status (bits are only added), timeout if it is not 0, mark, and
	 * TCP state, flags and scale.
	 */
	KCT_UPDATE,
	KCT_TIMEOUT,		/* change the timeout only */
	KCT_STRICT,		/* clear BE_LIBERAL in both directions */
	KCT_RELAX,		/* set it in both, change nothing else */
	KCT_DELETE,
	KCT_GET,
	KCT_OPS
};

/*
 * How a job went.  items = done + absent + clashed + failed.
 * err[i] says the same for item i: 0; ENOENT (absent); EEXIST (clashed);
 * EBADMSG or EPROTONOSUPPORT if its body could not be read; EIO if the kernel
 * did not answer; any other errno as the kernel gave it (ENOMEM: the table is
 * full, or no memory).
 */
struct kct_result {
	enum kct_op		 op;
	uint32_t		 items;
	uint32_t		 done;
	uint32_t		 updated;	/* of done: KCT_CREATE found the same flow */
	uint32_t		 absent;	/* no such entry */
	/*
	 * KCT_CREATE: another entry has the key, the reply tuple or the NAT port.
	 * KCT_UPDATE: the entry under that key is another flow.
	 */
	uint32_t		 clashed;
	uint32_t		 failed;
	/*
	 * Items that were written without their master (it is not there), helper
	 * (the kernel does not know it) or labels (the ruleset uses none).
	 */
	uint32_t		 lost_master, lost_helper, lost_labels;
	uint64_t		 elapsed_ns;	/* of the worker */
	const uint16_t		*err;
	const bool		*was_there;	/* KCT_CREATE: item i found the same flow */
	const struct flow	*flows;		/* KCT_GET: the entries; valid where err is 0 */
};

typedef void	(*kct_done_fn)(void *ctx, const struct kct_result *res);

struct kct_job;
struct kct_writer;

/*
 * An empty job; options: KCT_LIBERAL for KCT_CREATE and KCT_UPDATE.  done is
 * called when it is finished.  NULL without memory.
 *
 * A key may appear once in a job.  Jobs are worked off in the order of their
 * submission; within a job the order of results is that of the items, the
 * order of work need not be.
 */
struct kct_job	*kct_job_new(enum kct_op op, unsigned options, kct_done_fn done, void *ctx);
/*
 * Add a flow by its body (flow.h).  Other operations than create and update
 * read no further than the key and take a bare key as well.  0; -ENOSPC at
 * KCT_JOB_ITEMS, -ENOMEM, -EINVAL if len is 0 or above FLOW_BODY_MAX.
 * Copies body.  A delete takes, in place of a timeout, the id of the entry that
 * is meant, or 0: another one with that key is left alone, with -ENOENT.
 */
int		 kct_job_add(struct kct_job *j, const uint8_t *body, size_t len,
		    uint32_t timeout_s) __attribute__((warn_unused_result));
uint32_t	 kct_job_items(const struct kct_job *j);
/* A job that has not been submitted. */
void		 kct_job_free(struct kct_job *j);

struct kct_writer_stats {
	uint64_t	 jobs;
	uint64_t	 batches;	/* sent to the kernel */
	uint64_t	 items[KCT_OPS];
	uint64_t	 lost_master, lost_helper, lost_labels;	/* see kct_result */
	uint64_t	 busy_ns;
};

/*
 * Start the writer, a thread with all signals blocked.  NULL and -errno in
 * *err if there is no socket or no thread.
 */
struct kct_writer *kct_writer_open(struct ev_loop *loop, int *err);
/*
 * Stop after the batch at hand and free everything, jobs included, whose done
 * is not called.  Not from a done callback.  NULL is fine.
 */
void		 kct_writer_close(struct kct_writer *w);
/* Port id for kct_event_conf.ignore. */
uint32_t	 kct_writer_portid(const struct kct_writer *w);
/* How many jobs kct_submit() would take now. */
unsigned	 kct_writer_room(const struct kct_writer *w);
/*
 * Hand over a job: 0, and the writer owns it; -EAGAIN if the queue is full
 * (there is room again after a done callback), -ENOMEM: the caller keeps it.
 * done is never called from inside of this function.
 */
int		 kct_submit(struct kct_writer *w, struct kct_job *j)
		    __attribute__((warn_unused_result));
/* As of the last job reported. */
const struct kct_writer_stats *kct_writer_stats(const struct kct_writer *w);

#endif
