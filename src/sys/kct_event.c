/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The reader of conntrack events.
 *
 * Reads up to 64 datagrams in one system call, parses them into an array and
 * hands that over, a bounded number of times per callback of the loop.  After
 * an overrun the kernel drops everything until the socket was empty, without
 * another word: so the report waits until it was.  Merging deltas and reading
 * the kernel again is left to the caller.
 */
#include <sys/socket.h>

#include <errno.h>
#include <ev.h>
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/kct.h"
#include "nl.h"

#define BATCHES		16		/* system calls per callback */
/*
 * Room for one event, in bytes: the largest has about 900.  Not a power of
 * two, so that the heads of the messages fall into different cache sets.
 */
#define SLOT		1600
#define DRAIN_BATCHES	16		/* system calls of a drain: a millisecond or two */
#define CONFIRM_NS	1000000u	/* how stale "last seen empty" may get */
/*
 * Waking up costs more than an event.  When events come so often that we would
 * wake for each, the socket is read once a pause instead: a short one if so
 * many come that waking up costs little beside them.
 */
#define PAUSE_S		0.002
#define SHORT_PAUSE_S	0.001
#define MANY		40u
#define BUSY_NS		4000000u	/* wakes closer to each other than this are too many */

struct kct_reader {
	struct ev_loop		*loop;
	ev_io			 io;		/* one of these two is active */
	ev_timer		 pause;
	uint64_t		 woken_ns;
	int			 fd;
	struct kct_event_ops	 ops;
	void			*ctx;
	struct kct_event_stats	 stats;
	uint64_t		 empty_ns;
	uint64_t		 since_ns;	/* when it was last empty before the batch at hand */
	bool			 lost;	/* an overrun that was not reported yet */
	struct mmsghdr		 msgs[KCT_EVENT_BATCH];
	struct iovec		 iov[KCT_EVENT_BATCH];
	struct kct_event	 ev[KCT_EVENT_BATCH];
	uint8_t			 bytes[KCT_EVENT_BATCH][SLOT];
};

static void
note_lost(struct kct_reader *r)
{
	if (!r->lost)
		r->stats.overruns++;
	r->lost = true;
	/* what is lost, and what is read from now on, happened after that */
	if (r->empty_ns != 0)
		r->since_ns = r->empty_ns;
	r->empty_ns = 0;
}

/* Parse the messages of one datagram behind the n events in r->ev. */
static size_t
parse_datagram(struct kct_reader *r, const uint8_t *p, size_t len, size_t n)
{
	struct rbuf		 rd, payload;
	struct nlmsghdr		 h;
	const uint8_t		*msg;
	struct kct_event	*e;
	enum kct_msg_type	 type;

	r->stats.bytes += len;
	rbuf_init(&rd, p, len);
	for (msg = rd.p; nl_msg_next(&rd, &h, &payload); msg = rd.p) {
		if (n == KCT_EVENT_BATCH) {
			r->ops.events(r->ctx, r->ev, n);
			n = 0;
		}
		e = &r->ev[n];
		if (kct_parse(msg, h.nlmsg_len, &e->flow, &type) < 0) {
			r->stats.bad++;
			continue;
		}
		e->type = (uint8_t)type;
		e->portid = h.nlmsg_pid;
		e->flow.commanded = h.nlmsg_pid != 0;
		r->stats.by_type[type]++;
		n++;
	}
	if (rd.len != 0)
		r->stats.bad++;
	return n;
}

static void
deliver(struct kct_reader *r, unsigned ndatagrams)
{
	unsigned	 i;
	size_t		 n = 0;

	r->stats.reads++;
	if (r->empty_ns != 0)
		r->since_ns = r->empty_ns;
	for (i = 0; i < ndatagrams; i++) {
		if (r->msgs[i].msg_hdr.msg_flags & MSG_TRUNC) {
			r->stats.bad++;
			note_lost(r);
			continue;
		}
		n = parse_datagram(r, r->bytes[i], r->msgs[i].msg_len, n);
	}
	if (n > 0)
		r->ops.events(r->ctx, r->ev, n);
}

static void
seen_empty(struct kct_reader *r, uint64_t when_ns)
{
	bool	 lost = r->lost;

	r->empty_ns = when_ns;
	r->lost = false;
	if (lost)
		r->ops.overrun(r->ctx);
}

/*
 * A short batch says that the socket was empty, or that an error waits.  One
 * more call tells, but costs as much as some events: it is made only if the
 * caller wants to be sure, or would otherwise be told of a time that is too old.
 */
static unsigned
read_events(struct kct_reader *r, unsigned batches, bool sure, bool *empty)
{
	unsigned	 i, total = 0;
	uint64_t	 now;
	int		 n;

	*empty = false;
	for (i = 0; i < batches; i++) {
		now = clock_mono_ns();
		n = recvmmsg(r->fd, r->msgs, KCT_EVENT_BATCH, MSG_DONTWAIT, NULL);
		if (n > 0) {
			deliver(r, (unsigned)n);
			total += (unsigned)n;
			if (n < KCT_EVENT_BATCH && !sure && !r->lost &&
			    now - r->empty_ns < CONFIRM_NS)
				break;
		} else if (errno == EAGAIN) {
			*empty = true;
			seen_empty(r, now);
			break;
		} else if (errno == ENOBUFS) {
			note_lost(r);
		} else if (errno != EINTR) {
			r->stats.errors++;
			break;
		}
	}
	return total;
}

/* How many events were read decides how the next ones are waited for. */
static void
wait_for_more(struct kct_reader *r, unsigned got, bool often)
{
	if (got > 1 && often && got < BATCHES * KCT_EVENT_BATCH) {
		ev_io_stop(r->loop, &r->io);
		ev_timer_stop(r->loop, &r->pause);
		ev_timer_set(&r->pause, got >= MANY ? SHORT_PAUSE_S : PAUSE_S, 0);
		ev_timer_start(r->loop, &r->pause);
	} else if (!ev_is_active(&r->io)) {
		ev_timer_stop(r->loop, &r->pause);
		ev_io_start(r->loop, &r->io);
	}
}

static void
readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct kct_reader	*r = io->data;
	uint64_t		 now = clock_mono_ns();
	bool			 often = now - r->woken_ns < BUSY_NS, empty;
	unsigned		 got;

	(void)loop;
	(void)revents;
	r->woken_ns = now;
	got = read_events(r, BATCHES, false, &empty);
	wait_for_more(r, got + often, often);
}

static void
paused(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct kct_reader	*r = w->data;
	bool			 empty;

	(void)loop;
	(void)revents;
	wait_for_more(r, read_events(r, BATCHES, false, &empty), true);
}

void
kct_event_poke(struct kct_reader *r)
{
	bool	 empty;

	(void)read_events(r, BATCHES, false, &empty);
}

bool
kct_event_drain(struct kct_reader *r)
{
	bool	 empty;

	(void)read_events(r, DRAIN_BATCHES, true, &empty);
	return empty;
}

uint64_t
kct_event_empty_ns(struct kct_reader *r)
{
	uint64_t	 now = clock_mono_ns();
	uint8_t		 byte;

	if (r->lost || now - r->empty_ns < CONFIRM_NS)
		return r->empty_ns;
	if (recv(r->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -1) {
		if (errno == EAGAIN) {
			r->empty_ns = now;
		} else if (errno == ENOBUFS) {
			/* The error is used up: have the callback called all the same. */
			note_lost(r);
			ev_feed_event(r->loop, &r->io, EV_READ);
		}
	}
	return r->empty_ns;
}

uint64_t
kct_event_since_ns(const struct kct_reader *r)
{
	return r->since_ns;
}

const struct kct_event_stats *
kct_event_stats(const struct kct_reader *r)
{
	return &r->stats;
}

/*
 * Drop messages whose nlmsg_pid is one of the n ids.  The filter sees the
 * message from its first byte and loads words as big-endian.
 */
static int
attach_filter(int fd, const uint32_t *ids, size_t n)
{
	struct sock_filter	 code[KCT_IGNORE_MAX + 3];
	struct sock_fprog	 prog = { .filter = code };
	unsigned short		 pc = 0;
	size_t			 i;

	if (n == 0)
		return 0;
	code[pc++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	    offsetof(struct nlmsghdr, nlmsg_pid));
	for (i = 0; i < n; i++)
		code[pc++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
		    htonl(ids[i]), (uint8_t)(n - i), 0);
	code[pc++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffffffffu);
	code[pc++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	prog.len = pc;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == -1)
		return -errno;
	return 0;
}

static int
subscribe(int fd, bool reliable)
{
	static const int	 groups[] = {
		NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY,
		NFNLGRP_CONNTRACK_EXP_NEW, NFNLGRP_CONNTRACK_EXP_DESTROY
	};
	int			 one = 1;
	size_t			 i;

	if (reliable && setsockopt(fd, SOL_NETLINK, NETLINK_BROADCAST_ERROR, &one,
	    sizeof(one)) == -1)
		return -errno;
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
		    sizeof(groups[i])) == -1)
			return -errno;
	return 0;
}

static int
open_socket(struct kct_reader *r, const struct kct_event_conf *conf)
{
	uint32_t	 portid;
	int		 rc;

	if (conf->nignore > KCT_IGNORE_MAX)
		return -EINVAL;
	if ((rc = nl_open(NETLINK_NETFILTER, SOCK_NONBLOCK, &portid)) < 0)
		return rc;
	r->fd = rc;
	if ((rc = nl_bufsize(r->fd, SO_RCVBUFFORCE, conf->rcvbuf_bytes)) < 0)
		return rc;
	r->stats.rcvbuf_bytes = (size_t)rc;
	if ((rc = attach_filter(r->fd, conf->ignore, conf->nignore)) < 0)
		return rc;
	return subscribe(r->fd, conf->reliable);
}

struct kct_reader *
kct_event_open(struct ev_loop *loop, const struct kct_event_conf *conf,
    const struct kct_event_ops *ops, void *ctx, int *err)
{
	struct kct_reader	*r;
	size_t			 i;
	int			 rc;

	if ((r = calloc(1, sizeof(*r))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	r->fd = -1;
	if ((rc = open_socket(r, conf)) < 0) {
		if (r->fd != -1)
			close(r->fd);
		free(r);
		*err = rc;
		return NULL;
	}
	for (i = 0; i < KCT_EVENT_BATCH; i++) {
		r->iov[i].iov_base = r->bytes[i];
		r->iov[i].iov_len = sizeof(r->bytes[i]);
		r->msgs[i].msg_hdr.msg_iov = &r->iov[i];
		r->msgs[i].msg_hdr.msg_iovlen = 1;
	}
	r->loop = loop;
	r->ops = *ops;
	r->ctx = ctx;
	r->since_ns = clock_mono_ns();
	ev_io_init(&r->io, readable, r->fd, EV_READ);
	r->io.data = r;
	ev_timer_init(&r->pause, paused, PAUSE_S, 0);
	r->pause.data = r;
	ev_io_start(loop, &r->io);
	return r;
}

void
kct_event_close(struct kct_reader *r)
{
	if (r == NULL)
		return;
	ev_io_stop(r->loop, &r->io);
	ev_timer_stop(r->loop, &r->pause);
	close(r->fd);
	free(r);
}
