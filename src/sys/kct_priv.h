/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Between kct_write.c (the thread and its queues) and kct_batch.c (what a job
 * does to the kernel).
 *
 * A job is filled in by the main thread, worked off by the writer's thread and
 * reported by the main thread; at any time one of them owns it.
 */
#ifndef CTSYNC_KCT_PRIV_H
#define CTSYNC_KCT_PRIV_H

#include <sys/queue.h>

#include "ctsync/kct.h"

struct kct_item {
	uint32_t	 off, len;		/* in kct_job.bytes */
	union {
		uint32_t	 timeout_s;	/* KCT_CREATE, KCT_UPDATE, KCT_TIMEOUT */
		uint32_t	 id;		/* KCT_DELETE */
	};
};

struct kct_job {
	STAILQ_ENTRY(kct_job)	 next;
	enum kct_op		 op;
	unsigned		 options;
	kct_done_fn		 done;
	void			*ctx;
	struct kct_item		*items;
	uint32_t		 n, items_cap;
	uint8_t			*bytes;
	size_t			 len, cap;
	uint16_t		*err;		/* n errnos */
	bool			*was_there;	/* KCT_CREATE: n flags */
	uint32_t		 labelled;	/* one more than the first item with labels, 0: none */
	uint16_t		*dropped;	/* FLOW_HAS_* that were left out; NULL: none */
	struct flow		*flows;		/* KCT_GET: n flows */
	uint64_t		 batches;
	struct kct_result	 res;
};

STAILQ_HEAD(kct_jobs, kct_job);

struct kct_batch;

/* The socket and the buffers of a writer; NULL and -errno in *err. */
struct kct_batch	*kct_batch_new(int *err);
void			 kct_batch_free(struct kct_batch *b);
uint32_t		 kct_batch_portid(const struct kct_batch *b);
/* From another thread: kct_batch_run() shall return after the batch at hand. */
void			 kct_batch_stop(struct kct_batch *b);
/* Work off *j, and fill in err, flows, batches and res but for elapsed_ns. */
void			 kct_batch_run(struct kct_batch *b, struct kct_job *j);

#endif
