/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Dumps of the conntrack table.
 *
 * A thread reads, because the kernel walks its table inside of the call: over
 * everything that is empty, or belongs to other network namespaces, until
 * enough entries are found or none are left; in a large and empty table that
 * takes a tenth of a second.  The kernel prepares the next part when one is
 * read, so reading slowly is all it takes to go easy.  What a dump proves is
 * left to the caller; the kernel's own hint that the table changed is passed on
 * and otherwise ignored, because a table in use always changes.
 *
 * The buffer belongs to the thread while it is asked to read, and to the main
 * loop after that.  The object is freed by whoever is the last: the thread.
 */
#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <ev.h>
#include <linux/netfilter/nfnetlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/kct.h"
#include "nl.h"

#define READ_BYTES	32768		/* the kernel fills no more than that */
#define READS		4		/* at once: about 600 entries */
#define FLOWS		64		/* handed over at once */
#define RCVBUF_BYTES	(256u << 10)
#define WAIT_S		0.001		/* until the caller is asked again whether it is ready */
#define SILENCE_S	5		/* of the kernel, in the middle of a dump */
#define STACK_BYTES	(64u << 10)

struct kct_dump {
	struct ev_loop		*loop;
	ev_async		 wake;
	ev_timer		 tick;		/* a pause is over, or the caller is asked again */
	int			 fd;
	double			 pace_s;	/* between reads, 0: as fast as it goes */
	bool			 busy;		/* a callback of ours is on the stack */
	bool			 dropped;	/* free when it has returned */
	uint32_t		 seq;
	uint64_t		 start_ns;
	struct kct_dump_filter	 filter;
	bool			 expects_too;	/* when the flows are done */
	struct kct_dump_ops	 ops;
	void			*ctx;
	struct kct_dump_result	 res;
	size_t			 nflows;
	struct flow		 flows[FLOWS];

	pthread_mutex_t		 lock;
	pthread_cond_t		 go;
	bool			 want;		/* under lock: the thread is to read */
	bool			 again;		/* with it: after another request */
	bool			 full;		/* under lock: it has */
	bool			 dead;		/* under lock: it is to free everything */
	int			 rc;		/* of reading */
	unsigned		 reads;
	size_t			 len[READS];
	uint8_t			 buf[READS][READ_BYTES];
};

/* --- the thread ---------------------------------------------------------------- */

static int
send_request(struct kct_dump *d)
{
	uint8_t	 msg[KCT_MSG_MAX];
	size_t	 len;

	len = kct_build_dump(msg, sizeof(msg), d->seq, &d->filter);
	return send(d->fd, msg, len, 0) == (ssize_t)len ? 0 : -errno;
}

/* What there is, once there is something. */
static int
read_some(struct kct_dump *d)
{
	ssize_t	 n;

	for (d->reads = 0; d->reads < READS; d->reads++) {
		n = recv(d->fd, d->buf[d->reads], READ_BYTES, d->reads > 0 ? MSG_DONTWAIT : 0);
		if (n == -1 && d->reads > 0 && errno == EAGAIN)
			break;
		if (n == -1)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		d->len[d->reads] = (size_t)n;
	}
	return 0;
}

static bool
asked(struct kct_dump *d)
{
	bool	 yes;

	pthread_mutex_lock(&d->lock);
	while (!d->want && !d->dead)
		pthread_cond_wait(&d->go, &d->lock);
	yes = !d->dead;
	d->want = false;
	pthread_mutex_unlock(&d->lock);
	return yes;
}

static void *
reader_main(void *arg)
{
	struct kct_dump	*d = arg;
	int		 rc = send_request(d);

	while (asked(d)) {
		if (rc == 0 && d->again)
			rc = send_request(d);
		d->again = false;
		if (rc == 0)
			rc = read_some(d);
		pthread_mutex_lock(&d->lock);
		d->rc = rc;
		d->full = true;
		if (!d->dead)
			ev_async_send(d->loop, &d->wake);
		pthread_mutex_unlock(&d->lock);
	}
	close(d->fd);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->go);
	free(d);
	return NULL;
}

static int
start_thread(struct kct_dump *d)
{
	pthread_attr_t	 attr;
	pthread_t	 thread;
	sigset_t	 all, old;
	int		 rc;

	if ((rc = pthread_attr_init(&attr)) != 0)
		return -rc;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, reader_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		pthread_setname_np(thread, "ctsyncd-dump");
	return -rc;
}

/* --- the main loop's side --------------------------------------------------------- */

static void
hand_over(struct kct_dump *d)
{
	size_t	 n = d->nflows;

	d->nflows = 0;
	if (n == 0 || d->dropped)
		return;
	d->res.flows += n;
	d->ops.flows(d->ctx, d->flows, n);
}

static void
stop_watchers(struct kct_dump *d)
{
	ev_async_stop(d->loop, &d->wake);
	ev_timer_stop(d->loop, &d->tick);
}

static void
finish(struct kct_dump *d, int rc)
{
	hand_over(d);
	stop_watchers(d);
	if (d->dropped)
		return;
	d->res.elapsed_ns = clock_mono_ns() - d->start_ns;
	d->ops.done(d->ctx, rc, &d->res);
}

/* One message; true if it was the last one. */
static bool
take_message(struct kct_dump *d, const uint8_t *msg, const struct nlmsghdr *h,
    const struct rbuf *payload)
{
	enum kct_msg_type	 type;

	if (h->nlmsg_seq != d->seq)
		return false;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		d->res.interrupted = true;
	if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
		if (nl_error(payload) == 0 && d->expects_too) {
			d->expects_too = false;
			d->filter.expect = d->again = true;
			d->seq++;
			return false;
		}
		finish(d, nl_error(payload));
		return true;
	}
	if (h->nlmsg_flags & NLM_F_DUMP_FILTERED)
		d->res.filtered = true;
	if (kct_parse(msg, h->nlmsg_len, &d->flows[d->nflows], &type) < 0) {
		d->res.bad++;
		return false;
	}
	d->flows[d->nflows].has |= FLOW_HAS_WHOLE;
	if (++d->nflows == FLOWS)
		hand_over(d);
	return d->dropped;
}

/* True if that was the end of the dump. */
static bool
take_read(struct kct_dump *d, const uint8_t *p, size_t len)
{
	struct rbuf	 r, payload;
	struct nlmsghdr	 h;
	const uint8_t	*msg;

	rbuf_init(&r, p, len);
	for (msg = r.p; nl_msg_next(&r, &h, &payload); msg = r.p)
		if (take_message(d, msg, &h, &payload))
			return true;
	if (r.len != 0)
		d->res.bad++;
	hand_over(d);
	return d->dropped;
}

static void
ask(struct kct_dump *d)
{
	pthread_mutex_lock(&d->lock);
	d->full = false;
	d->want = true;
	pthread_cond_signal(&d->go);
	pthread_mutex_unlock(&d->lock);
}

static void
start_tick(struct kct_dump *d, double after_s)
{
	ev_timer_stop(d->loop, &d->tick);
	ev_timer_set(&d->tick, after_s, 0);
	ev_timer_start(d->loop, &d->tick);
}

/* Hand over what was read, and see to it that there is more. */
static void
take(struct kct_dump *d)
{
	unsigned	 i;

	if (d->rc < 0) {
		finish(d, d->rc);
		return;
	}
	if (d->ops.ready != NULL && !d->ops.ready(d->ctx)) {
		start_tick(d, WAIT_S);
		return;
	}
	for (i = 0; i < d->reads; i++)
		if (take_read(d, d->buf[i], d->len[i]))
			return;
	if (d->ops.taken != NULL)
		d->ops.taken(d->ctx);
	d->reads = 0;
	if (d->pace_s > 0)
		start_tick(d, d->pace_s);
	else
		ask(d);
}

static void
work(struct kct_dump *d)
{
	d->busy = true;
	take(d);
	d->busy = false;
	if (d->dropped)
		kct_dump_free(d);
}

static void
woken(struct ev_loop *loop, ev_async *a, int revents)
{
	struct kct_dump	*d = a->data;
	bool		 full;

	(void)loop;
	(void)revents;
	pthread_mutex_lock(&d->lock);
	full = d->full;
	pthread_mutex_unlock(&d->lock);
	if (full)
		work(d);
}

static void
tick(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct kct_dump	*d = t->data;

	(void)loop;
	(void)revents;
	if (d->reads == 0)
		ask(d);
	else
		work(d);
}

static int
open_socket(struct kct_dump *d)
{
	struct timeval	 tv = { .tv_sec = SILENCE_S };
	uint32_t	 portid;
	int		 one = 1, rc;

	if ((rc = nl_open(NETLINK_NETFILTER, 0, &portid)) < 0)
		return rc;
	d->fd = rc;
	if ((rc = nl_bufsize(d->fd, SO_RCVBUFFORCE, RCVBUF_BYTES)) < 0)
		return rc;
	/* Without NETLINK_CAP_ACK an error of the request would be followed by its text. */
	if (setsockopt(d->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == -1 ||
	    setsockopt(d->fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) == -1)
		return -errno;
	return 0;
}

struct kct_dump *
kct_dump_start(struct ev_loop *loop, const struct kct_dump_conf *conf,
    const struct kct_dump_ops *ops, void *ctx, int *err)
{
	struct kct_dump	*d;

	if ((d = calloc(1, sizeof(*d))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	d->fd = -1;
	d->seq = 1;
	d->start_ns = clock_mono_ns();
	d->loop = loop;
	d->filter = conf->filter;
	d->expects_too = conf->expects_too;
	d->ops = *ops;
	d->ctx = ctx;
	d->pace_s = (double)conf->pace_ms / 1e3;
	ev_async_init(&d->wake, woken);
	ev_timer_init(&d->tick, tick, 0, 0);
	d->wake.data = d->tick.data = d;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->go, NULL);
	d->want = true;
	if ((*err = open_socket(d)) < 0)
		goto fail;
	ev_async_start(loop, &d->wake);
	if ((*err = start_thread(d)) == 0)
		return d;
	ev_async_stop(loop, &d->wake);
fail:
	if (d->fd != -1)
		close(d->fd);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->go);
	free(d);
	return NULL;
}

void
kct_dump_free(struct kct_dump *d)
{
	if (d == NULL)
		return;
	if (d->busy) {
		d->dropped = true;
		return;
	}
	stop_watchers(d);
	pthread_mutex_lock(&d->lock);
	d->dead = true;
	pthread_cond_signal(&d->go);
	pthread_mutex_unlock(&d->lock);
}
