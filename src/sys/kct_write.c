/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The writer: a thread that works off jobs, and its mailbox.
 *
 * The main loop and the thread share only the two queues and the stop flag; a
 * job belongs to whoever took it off a queue.  What a job does to the kernel
 * is in kct_batch.c.  Jobs of one writer never overlap, because insertion into
 * the kernel's table is serialised anyway, and because an order of jobs is
 * something that callers can rely on.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "ctsync/clock.h"
#include "kct_priv.h"

#define STACK_BYTES	(256u << 10)

struct kct_writer {
	struct ev_loop		*loop;
	ev_async		 wake;
	pthread_t		 thread;
	pthread_mutex_t		 lock;
	pthread_cond_t		 todo_cond;
	struct kct_jobs		 todo, finished;	/* under lock */
	bool			 stop;			/* under lock; the batch has one, too */
	unsigned		 jobs;			/* submitted and not reported; main thread */
	struct kct_batch	*batch;			/* the thread's */
	struct kct_writer_stats	 stats;			/* main thread */
};

/* --- jobs ------------------------------------------------------------------ */

struct kct_job *
kct_job_new(enum kct_op op, unsigned options, kct_done_fn done, void *ctx)
{
	struct kct_job	*j;

	if ((j = calloc(1, sizeof(*j))) == NULL)
		return NULL;
	j->op = op;
	j->options = options;
	j->done = done;
	j->ctx = ctx;
	return j;
}

/* Room for one more item and len more bytes. */
static int
job_grow(struct kct_job *j, size_t len)
{
	struct kct_item	*items;
	uint8_t		*bytes;
	size_t		 cap;

	if (j->n == j->items_cap) {
		cap = j->items_cap == 0 ? 64 : 2 * (size_t)j->items_cap;
		if ((items = realloc(j->items, cap * sizeof(*items))) == NULL)
			return -ENOMEM;
		j->items = items;
		j->items_cap = (uint32_t)cap;
	}
	if (j->len + len > j->cap) {
		cap = j->cap == 0 ? 4096 : 2 * j->cap;
		if ((bytes = realloc(j->bytes, cap)) == NULL)
			return -ENOMEM;
		j->bytes = bytes;
		j->cap = cap;
	}
	return 0;
}

int
kct_job_add(struct kct_job *j, const uint8_t *body, size_t len, uint32_t timeout_s)
{
	int	 rc;

	if (len == 0 || len > FLOW_BODY_MAX)
		return -EINVAL;
	if (j->n == KCT_JOB_ITEMS)
		return -ENOSPC;
	if ((rc = job_grow(j, len)) < 0)
		return rc;
	memcpy(j->bytes + j->len, body, len);
	j->items[j->n].off = (uint32_t)j->len;
	j->items[j->n].len = (uint32_t)len;
	j->items[j->n].timeout_s = timeout_s;
	j->len += len;
	j->n++;
	return 0;
}

/* Room for the results of what is in the job by now. */
static int
job_results(struct kct_job *j)
{
	size_t	 n = j->n == 0 ? 1 : j->n;

	free(j->err);
	free(j->was_there);
	free(j->dropped);
	free(j->flows);
	j->labelled = 0;
	j->dropped = NULL;
	j->was_there = NULL;
	j->flows = NULL;
	if ((j->err = calloc(n, sizeof(*j->err))) == NULL)
		return -ENOMEM;
	if (j->op == KCT_CREATE && (j->was_there = calloc(n, sizeof(*j->was_there))) == NULL)
		return -ENOMEM;
	if (j->op == KCT_GET && (j->flows = calloc(n, sizeof(*j->flows))) == NULL)
		return -ENOMEM;
	return 0;
}

uint32_t
kct_job_items(const struct kct_job *j)
{
	return j->n;
}

void
kct_job_free(struct kct_job *j)
{
	if (j == NULL)
		return;
	free(j->items);
	free(j->bytes);
	free(j->err);
	free(j->was_there);
	free(j->dropped);
	free(j->flows);
	free(j);
}

/* --- the thread -------------------------------------------------------------- */

static struct kct_job *
next_job(struct kct_writer *w)
{
	struct kct_job	*j = NULL;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && (j = STAILQ_FIRST(&w->todo)) == NULL)
		pthread_cond_wait(&w->todo_cond, &w->lock);
	if (w->stop)
		j = NULL;
	else
		STAILQ_REMOVE_HEAD(&w->todo, next);
	pthread_mutex_unlock(&w->lock);
	return j;
}

static void *
writer_main(void *arg)
{
	struct kct_writer	*w = arg;
	struct kct_job		*j;
	uint64_t		 start;

	while ((j = next_job(w)) != NULL) {
		start = clock_mono_ns();
		kct_batch_run(w->batch, j);
		j->res.elapsed_ns = clock_mono_ns() - start;
		pthread_mutex_lock(&w->lock);
		STAILQ_INSERT_TAIL(&w->finished, j, next);
		pthread_mutex_unlock(&w->lock);
		ev_async_send(w->loop, &w->wake);
	}
	return NULL;
}

/* --- the main loop's side --------------------------------------------------- */

static void
report(struct kct_writer *w, struct kct_job *j)
{
	w->jobs--;
	w->stats.jobs++;
	w->stats.batches += j->batches;
	w->stats.items[j->op] += j->n;
	w->stats.lost_master += j->res.lost_master;
	w->stats.lost_helper += j->res.lost_helper;
	w->stats.lost_labels += j->res.lost_labels;
	w->stats.busy_ns += j->res.elapsed_ns;
	if (j->done != NULL)
		j->done(j->ctx, &j->res);
	kct_job_free(j);
}

/* At most as many as were finished when it began: a bounded number. */
static void
woken(struct ev_loop *loop, ev_async *a, int revents)
{
	struct kct_writer	*w = a->data;
	struct kct_jobs		 batch = STAILQ_HEAD_INITIALIZER(batch);
	struct kct_job		*j;

	(void)loop;
	(void)revents;
	pthread_mutex_lock(&w->lock);
	STAILQ_CONCAT(&batch, &w->finished);
	pthread_mutex_unlock(&w->lock);
	while ((j = STAILQ_FIRST(&batch)) != NULL) {
		STAILQ_REMOVE_HEAD(&batch, next);
		report(w, j);
	}
}

static int
start_thread(struct kct_writer *w)
{
	pthread_attr_t	 attr;
	sigset_t	 all, old;
	int		 rc;

	if ((rc = pthread_attr_init(&attr)) != 0)
		return -rc;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, &attr, writer_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		pthread_setname_np(w->thread, "ctsyncd-write");
	return -rc;
}

struct kct_writer *
kct_writer_open(struct ev_loop *loop, int *err)
{
	struct kct_writer	*w;

	if ((w = calloc(1, sizeof(*w))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	if ((w->batch = kct_batch_new(err)) == NULL) {
		free(w);
		return NULL;
	}
	w->loop = loop;
	STAILQ_INIT(&w->todo);
	STAILQ_INIT(&w->finished);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->todo_cond, NULL);
	ev_async_init(&w->wake, woken);
	w->wake.data = w;
	ev_async_start(loop, &w->wake);
	if ((*err = start_thread(w)) < 0) {
		ev_async_stop(loop, &w->wake);
		kct_batch_free(w->batch);
		free(w);
		return NULL;
	}
	return w;
}

static void
free_jobs(struct kct_jobs *q)
{
	struct kct_job	*j;

	while ((j = STAILQ_FIRST(q)) != NULL) {
		STAILQ_REMOVE_HEAD(q, next);
		kct_job_free(j);
	}
}

void
kct_writer_close(struct kct_writer *w)
{
	if (w == NULL)
		return;
	kct_batch_stop(w->batch);
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->todo_cond);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	ev_async_stop(w->loop, &w->wake);
	free_jobs(&w->todo);
	free_jobs(&w->finished);
	kct_batch_free(w->batch);
	pthread_cond_destroy(&w->todo_cond);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

uint32_t
kct_writer_portid(const struct kct_writer *w)
{
	return kct_batch_portid(w->batch);
}

unsigned
kct_writer_room(const struct kct_writer *w)
{
	return KCT_QUEUE_JOBS - w->jobs;
}

int
kct_submit(struct kct_writer *w, struct kct_job *j)
{
	int	 rc;

	if (w->jobs == KCT_QUEUE_JOBS)
		return -EAGAIN;
	if ((rc = job_results(j)) < 0)
		return rc;
	w->jobs++;
	pthread_mutex_lock(&w->lock);
	STAILQ_INSERT_TAIL(&w->todo, j, next);
	pthread_cond_signal(&w->todo_cond);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

const struct kct_writer_stats *
kct_writer_stats(const struct kct_writer *w)
{
	return &w->stats;
}
