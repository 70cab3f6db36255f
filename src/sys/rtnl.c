/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Following the node's addresses through rtnetlink.
 *
 * One socket carries changes and dumps, in the order in which the kernel made
 * them.  A dump gives every address it shows a new generation; what is left
 * with an old one at its end is gone.  After an overrun, and when the kernel
 * says that addresses changed under a dump, there is another dump.  Memory
 * that is lacking costs an address and is made good by the next dump.
 */
#include <sys/socket.h>

#include <errno.h>
#include <ev.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/rtnl.h"
#include "nl.h"
#include "rtnl_set.h"

#define READ_BYTES	32768
#define READS		8		/* per callback */
#define POLL_READS	4096		/* one message each: addresses that go at once */
#define RCVBUF_BYTES	(1u << 20)
#define FIRST_MS	2000		/* for the first dump */

struct lost {
	struct flow_addr	 a;
	uint8_t			 family;
	uint64_t		 when_ms;
};

struct rtnl {
	struct ev_loop		*loop;
	ev_io			 io;
	int			 fd;
	struct rtnl_ops		 ops;
	void			*ctx;
	uint64_t		 keep_ms;
	struct rtnl_set		 set;
	uint32_t		 gen;
	uint32_t		 seq;		/* of the dump that runs */
	bool			 dumping;
	bool			 again;		/* another dump is due */
	int			 dump_rc;	/* of the last dump that ended */
	bool			 dirty;		/* the index does not match the set */
	struct rtnl_stats	 stats;
	struct lost		 lost[RTNL_LOST_MAX];
	size_t			 lost_n;	/* ever written: the ring's position */
	uint8_t			 buf[READ_BYTES];
};

static void
remember_lost(struct rtnl *r, const struct rtnl_addr *a)
{
	struct lost	*l = &r->lost[r->lost_n++ % RTNL_LOST_MAX];

	l->a = a->a;
	l->family = a->family;
	l->when_ms = clock_mono_ms();
}

static void
drop_at(struct rtnl *r, size_t pos)
{
	remember_lost(r, &r->set.v[pos]);
	rtnl_set_remove(&r->set, pos);
	r->stats.removed++;
	r->dirty = true;
}

static int
start_dump(struct rtnl *r)
{
	struct {
		struct nlmsghdr		 h;
		struct ifaddrmsg	 m;
	} req = {
		.h.nlmsg_len = sizeof(req),
		.h.nlmsg_type = RTM_GETADDR,
		.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.m.ifa_family = AF_UNSPEC,
	};

	req.h.nlmsg_seq = ++r->seq;
	if (send(r->fd, &req, sizeof(req), 0) == -1)
		return -errno;
	r->gen++;
	r->dumping = true;
	r->again = false;
	r->stats.dumps++;
	return 0;
}

/* A dump has ended; rc says how. */
static void
end_dump(struct rtnl *r, int rc)
{
	size_t	 i;

	r->dumping = false;
	r->dump_rc = rc;
	if (rc == 0 && !r->again)
		for (i = r->set.n; i-- > 0;)
			if (r->set.v[i].gen != r->gen)
				drop_at(r, i);
}

static bool
get_addr(struct rbuf *v, size_t alen, struct flow_addr *a)
{
	return v->len == alen && rbuf_bytes(v, a->b, alen);
}

/*
 * An IPv6 address is tentative while the node asks whether somebody else has
 * it, and stays so if that is the case.  An optimistic one is used meanwhile.
 */
static bool
is_usable(uint32_t flags)
{
	if (flags & IFA_F_DADFAILED)
		return false;
	return !(flags & IFA_F_TENTATIVE) || (flags & IFA_F_OPTIMISTIC);
}

/* An address message: true and *a, or false if it is malformed or of another family. */
static bool
parse_addr(struct rtnl *r, struct rbuf *p, struct rtnl_addr *a)
{
	struct ifaddrmsg	 m;
	struct flow_addr	 local, address;
	struct rbuf		 v;
	uint32_t		 flags;
	unsigned		 type;
	size_t			 alen;
	bool			 has_local = false, has_address = false, ok = true;

	memset(a, 0, sizeof(*a));
	memset(&local, 0, sizeof(local));
	memset(&address, 0, sizeof(address));
	if (!rbuf_bytes(p, &m, sizeof(m))) {
		r->stats.bad++;
		return false;
	}
	if (m.ifa_family != AF_INET && m.ifa_family != AF_INET6)
		return false;
	alen = m.ifa_family == AF_INET ? 4 : 16;
	flags = m.ifa_flags;
	while (ok && nl_attr_next(p, &type, &v)) {
		if (type == IFA_LOCAL)
			ok = has_local = get_addr(&v, alen, &local);
		else if (type == IFA_ADDRESS)
			ok = has_address = get_addr(&v, alen, &address);
		else if (type == IFA_BROADCAST)
			ok = get_addr(&v, alen, &a->bcast);
		else if (type == IFA_FLAGS)	/* in the byte order of the host */
			ok = v.len == sizeof(flags) && rbuf_bytes(&v, &flags, sizeof(flags));
	}
	if (!ok || p->len != 0 || (!has_local && !has_address)) {
		r->stats.bad++;
		return false;
	}
	/* On a point-to-point link IFA_ADDRESS is the other end. */
	a->a = has_local ? local : address;
	a->peer = has_address ? address : local;
	a->family = m.ifa_family;
	a->plen = m.ifa_prefixlen;
	a->usable = is_usable(flags);
	a->ifindex = m.ifa_index;
	a->gen = r->gen;
	return true;
}

static void
take_addr(struct rtnl *r, bool gone, struct rbuf *payload)
{
	struct rtnl_addr	 a;
	struct rtnl_addr	*known;
	size_t			 pos;

	if (!parse_addr(r, payload, &a))
		return;
	pos = rtnl_set_find(&r->set, &a);
	if (pos < r->set.n) {
		known = &r->set.v[pos];
		if (gone) {
			drop_at(r, pos);
			return;
		}
		if (memcmp(&known->bcast, &a.bcast, sizeof(a.bcast)) != 0 ||
		    known->usable != a.usable)
			r->dirty = true;
		*known = a;
	} else if (!gone) {
		if (rtnl_set_add(&r->set, &a) < 0) {
			r->stats.bad++;
			r->again = true;
			return;
		}
		r->stats.added++;
		r->dirty = true;
	}
}

/* Shutting an interface down ends masqueraded flows although addresses stay. */
static void
take_link(struct rtnl *r, struct rbuf *payload)
{
	struct ifinfomsg	 m;
	size_t			 i;

	if (!rbuf_bytes(payload, &m, sizeof(m))) {
		r->stats.bad++;
		return;
	}
	if (m.ifi_flags & IFF_UP)
		return;
	for (i = 0; i < r->set.n; i++)
		if (r->set.v[i].ifindex == (uint32_t)m.ifi_index)
			remember_lost(r, &r->set.v[i]);
}

static void
take_message(struct rtnl *r, const struct nlmsghdr *h, struct rbuf *payload)
{
	bool	 ours = r->dumping && h->nlmsg_seq == r->seq;

	switch (h->nlmsg_type) {
	case RTM_NEWADDR:
	case RTM_DELADDR:
		take_addr(r, h->nlmsg_type == RTM_DELADDR, payload);
		break;
	case RTM_NEWLINK:
		take_link(r, payload);
		break;
	case NLMSG_DONE:
	case NLMSG_ERROR:
		if (ours) {
			r->again |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
			end_dump(r, nl_error(payload));
		}
		return;
	default:
		break;
	}
	if (ours && (h->nlmsg_flags & NLM_F_DUMP_INTR))
		r->again = true;
}

/* One read; false if there is nothing more to read now. */
static bool
read_once(struct rtnl *r)
{
	struct rbuf	 rd, payload;
	struct nlmsghdr	 h;
	ssize_t		 n;

	n = recv(r->fd, r->buf, sizeof(r->buf), MSG_DONTWAIT);
	if (n == -1) {
		if (errno != ENOBUFS)
			return errno == EINTR;
		r->stats.overruns++;
		r->again = true;
		return true;
	}
	rbuf_init(&rd, r->buf, (size_t)n);
	while (nl_msg_next(&rd, &h, &payload))
		take_message(r, &h, &payload);
	if (rd.len != 0)
		r->stats.bad++;
	return true;
}

static void
read_some(struct rtnl *r, unsigned reads)
{
	unsigned	 i;

	for (i = 0; i < reads; i++)
		if (!read_once(r))
			break;
	/* One that could not be asked for is asked for again the next time. */
	if (r->again && !r->dumping)
		(void)start_dump(r);
	r->stats.addresses = r->set.n;
	if (r->dirty && rtnl_set_index(&r->set) == 0) {
		r->dirty = false;
		if (r->ops.changed != NULL)
			r->ops.changed(r->ctx);
	}
}

static void
readable(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	read_some(io->data, READS);
}

void
rtnl_poll(struct rtnl *r)
{
	read_some(r, POLL_READS);
}

/* Wait until the first dump is complete. */
static int
wait_first(struct rtnl *r)
{
	struct pollfd	 pfd = { .fd = r->fd, .events = POLLIN };
	uint64_t	 end = clock_mono_ms() + FIRST_MS, now;

	while (r->dumping || r->again) {
		if ((now = clock_mono_ms()) >= end)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, (int)(end - now)) == -1 && errno != EINTR)
			return -errno;
		read_some(r, READS);
	}
	return r->dump_rc < 0 ? r->dump_rc : rtnl_set_index(&r->set);
}

static int
prepare(struct rtnl *r)
{
	static const int	 groups[] = {
		RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK
	};
	uint32_t		 portid;
	size_t			 i;
	int			 rc;

	if ((rc = nl_open(NETLINK_ROUTE, SOCK_NONBLOCK, &portid)) < 0)
		return rc;
	r->fd = rc;
	if ((rc = nl_bufsize(r->fd, SO_RCVBUFFORCE, RCVBUF_BYTES)) < 0)
		return rc;
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (setsockopt(r->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
		    sizeof(groups[i])) == -1)
			return -errno;
	if ((rc = start_dump(r)) < 0)
		return rc;
	return wait_first(r);
}

struct rtnl *
rtnl_open(struct ev_loop *loop, uint32_t lost_keep_ms, const struct rtnl_ops *ops, void *ctx,
    int *err)
{
	struct rtnl	*r;
	int		 rc;

	if ((r = calloc(1, sizeof(*r))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	r->fd = -1;
	r->keep_ms = lost_keep_ms;
	if ((rc = prepare(r)) < 0) {
		if (r->fd != -1)
			close(r->fd);
		rtnl_set_fini(&r->set);
		free(r);
		*err = rc;
		return NULL;
	}
	r->loop = loop;
	r->ops = *ops;
	r->ctx = ctx;
	ev_io_init(&r->io, readable, r->fd, EV_READ);
	r->io.data = r;
	ev_io_start(loop, &r->io);
	return r;
}

void
rtnl_close(struct rtnl *r)
{
	if (r == NULL)
		return;
	ev_io_stop(r->loop, &r->io);
	close(r->fd);
	rtnl_set_fini(&r->set);
	free(r);
}

bool
rtnl_is_own(const struct rtnl *r, uint8_t family, const struct flow_addr *a)
{
	static const struct flow_addr	 any;

	if (family == AF_INET) {
		/* 127/8; 224/4 multicast; limited broadcast; 0.0.0.0 */
		if (a->b[0] == 127 || (a->b[0] & 0xf0) == 0xe0 ||
		    memcmp(a->b, "\xff\xff\xff\xff", 4) == 0)
			return true;
	} else if (a->b[0] == 0xff) {
		return true;
	} else if (memcmp(a->b, any.b, 15) == 0 && a->b[15] == 1) {
		return true;
	}
	if (memcmp(a->b, any.b, sizeof(a->b)) == 0)
		return true;
	return rtnl_set_has(&r->set, family, a);
}

bool
rtnl_has(const struct rtnl *r, uint8_t family, const struct flow_addr *a)
{
	return rtnl_set_usable(&r->set, family, a);
}

bool
rtnl_was_lost(const struct rtnl *r, uint8_t family, const struct flow_addr *a)
{
	size_t		 n = r->lost_n < RTNL_LOST_MAX ? r->lost_n : RTNL_LOST_MAX, i;
	uint64_t	 now;

	if (n == 0)
		return false;
	now = clock_mono_ms();
	/* Newest first: the first one that is too old ends the search. */
	for (i = 1; i <= n; i++) {
		const struct lost *l = &r->lost[(r->lost_n - i) % RTNL_LOST_MAX];

		if (now - l->when_ms >= r->keep_ms)
			return false;
		if (l->family == family && memcmp(l->a.b, a->b, sizeof(a->b)) == 0)
			return true;
	}
	return false;
}

const struct rtnl_stats *
rtnl_stats(const struct rtnl *r)
{
	return &r->stats;
}
