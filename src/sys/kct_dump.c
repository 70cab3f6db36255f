/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Dumps of the conntrack table.
 *
 * The kernel prepares the next part of a dump when one is read, so reading
 * slowly is all it takes to go easy: a few reads per callback of the loop, or
 * one per tick of a timer.  What a dump proves is left to the caller; the
 * kernel's own hint that the table changed is passed on and otherwise ignored,
 * because a table in use always changes.
 */
#include <sys/socket.h>

#include <errno.h>
#include <ev.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/kct.h"
#include "nl.h"

#define READ_BYTES	32768		/* the kernel fills no more than that */
#define READS		6		/* per callback: about a millisecond */
#define WAIT_S		0.001		/* until the caller is asked again whether it is ready */
#define FLOWS		64		/* handed over at once */
#define RCVBUF_BYTES	(256u << 10)

struct kct_dump {
	struct ev_loop		*loop;
	ev_io			 io;
	ev_timer		 tick;
	int			 fd;
	double			 pace_s;	/* between reads, 0: as fast as it goes */
	size_t			 held;		/* bytes in buf that the caller is not ready for */
	bool			 busy;		/* a callback of ours is on the stack */
	bool			 dead;		/* free when it has returned */
	bool			 over;		/* done() was called */
	uint32_t		 seq;
	uint64_t		 start_ns;
	struct kct_dump_ops	 ops;
	void			*ctx;
	struct kct_dump_result	 res;
	size_t			 nflows;
	struct flow		 flows[FLOWS];
	uint8_t			 buf[READ_BYTES];
};

static void
hand_over(struct kct_dump *d)
{
	size_t	 n = d->nflows;

	d->nflows = 0;
	if (n == 0 || d->dead)
		return;
	d->res.flows += n;
	d->ops.flows(d->ctx, d->flows, n);
}

static void
stop_watchers(struct kct_dump *d)
{
	ev_io_stop(d->loop, &d->io);
	ev_timer_stop(d->loop, &d->tick);
}

static void
finish(struct kct_dump *d, int rc)
{
	hand_over(d);
	stop_watchers(d);
	d->over = true;
	if (d->dead)
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
		finish(d, nl_error(payload));
		return true;
	}
	if (h->nlmsg_flags & NLM_F_DUMP_FILTERED)
		d->res.filtered = true;
	if (kct_parse(msg, h->nlmsg_len, &d->flows[d->nflows], &type) < 0) {
		d->res.bad++;
		return false;
	}
	if (++d->nflows == FLOWS)
		hand_over(d);
	return d->dead;
}

/* One read, or what is left of the last one; true if there is nothing more to do now. */
static bool
read_once(struct kct_dump *d)
{
	struct rbuf	 r, payload;
	struct nlmsghdr	 h;
	const uint8_t	*msg;
	ssize_t		 n;

	if (d->held == 0) {
		n = recv(d->fd, d->buf, sizeof(d->buf), MSG_DONTWAIT);
		if (n == -1) {
			if (errno != EAGAIN && errno != EINTR)
				finish(d, -errno);
			return true;
		}
		d->held = (size_t)n;
	}
	if (d->ops.ready != NULL && !d->ops.ready(d->ctx))
		return true;
	rbuf_init(&r, d->buf, d->held);
	d->held = 0;
	for (msg = r.p; nl_msg_next(&r, &h, &payload); msg = r.p)
		if (take_message(d, msg, &h, &payload))
			return true;
	if (r.len != 0)
		d->res.bad++;
	hand_over(d);
	return d->dead;
}

/* The end of a dump stops the watchers; while it goes on one of them is active. */
static void
await(struct kct_dump *d)
{
	if (d->pace_s == 0 && d->held == 0) {
		ev_timer_stop(d->loop, &d->tick);
		ev_io_start(d->loop, &d->io);
		return;
	}
	ev_io_stop(d->loop, &d->io);
	d->tick.repeat = d->held > 0 ? WAIT_S : d->pace_s;
	ev_timer_again(d->loop, &d->tick);
}

static void
work(struct kct_dump *d, unsigned reads)
{
	d->busy = true;
	while (reads-- > 0)
		if (read_once(d))
			break;
	d->busy = false;
	if (d->dead)
		kct_dump_free(d);
	else if (!d->over)
		await(d);
}

static void
readable(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	work(io->data, READS);
}

static void
tick(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct kct_dump	*d = t->data;

	(void)loop;
	(void)revents;
	work(d, d->pace_s == 0 ? READS : 1);
}

static int
send_request(struct kct_dump *d, const struct kct_dump_filter *filter)
{
	uint8_t	 msg[KCT_MSG_MAX];
	size_t	 len;
	int	 one = 1, rc;

	if ((rc = nl_bufsize(d->fd, SO_RCVBUFFORCE, RCVBUF_BYTES)) < 0)
		return rc;
	/* Without it an error of the request would be followed by its text. */
	if (setsockopt(d->fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) == -1)
		return -errno;
	len = kct_build_dump(msg, sizeof(msg), d->seq, filter);
	if (send(d->fd, msg, len, 0) != (ssize_t)len)
		return -errno;
	return 0;
}

struct kct_dump *
kct_dump_start(struct ev_loop *loop, const struct kct_dump_conf *conf,
    const struct kct_dump_ops *ops, void *ctx, int *err)
{
	struct kct_dump	*d;
	uint32_t	 portid;
	int		 rc;

	if ((d = calloc(1, sizeof(*d))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	if ((rc = nl_open(NETLINK_NETFILTER, SOCK_NONBLOCK, &portid)) < 0) {
		free(d);
		*err = rc;
		return NULL;
	}
	d->fd = rc;
	d->seq = 1;
	d->start_ns = clock_mono_ns();
	if ((rc = send_request(d, &conf->filter)) < 0) {
		close(d->fd);
		free(d);
		*err = rc;
		return NULL;
	}
	d->loop = loop;
	d->ops = *ops;
	d->ctx = ctx;
	d->pace_s = (double)conf->pace_ms / 1e3;
	ev_io_init(&d->io, readable, d->fd, EV_READ);
	ev_timer_init(&d->tick, tick, 0, 0);
	d->io.data = d->tick.data = d;
	await(d);
	return d;
}

void
kct_dump_free(struct kct_dump *d)
{
	if (d == NULL)
		return;
	if (d->busy) {
		d->dead = true;
		return;
	}
	stop_watchers(d);
	close(d->fd);
	free(d);
}
