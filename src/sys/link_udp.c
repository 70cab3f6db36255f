/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * UDP unicast links.
 *
 * IP_MINTTL is for TCP only on Linux, so a socket filter checks TTL or hop
 * limit.  Path MTU discovery is in "probe" mode: never fragment, and do not
 * believe ICMP, which anybody can forge.  For the same reason an error that
 * ICMP can raise on a connected socket never closes it: the call is repeated,
 * and only what fails again is believed.
 *
 * SO_REUSEADDR is set on the sockets of a link only while one more is bound to
 * their port.  Thus a port that anybody else has is found to be occupied, and
 * nobody can bind to ours afterwards.  All sockets of a link close before its
 * listener is opened again.
 */
#include <sys/types.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>

#include <errno.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ev.h>

#include "ctsync/link_udp.h"
#include "ctsync/log.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO	55
#endif

#define BATCH		32	/* datagrams a system call */
#define RX_BATCHES	4	/* of a peer, a callback */
#define LISTEN_BYTES	(64 * 1024)
#define LISTEN_PAUSE_S	0.05	/* after a full batch of rubbish */
#define DRAIN_MAX	1024
#define RETRY_S		1.0
#define NAME_LEN	64
#define ADDR_LEN	(INET6_ADDRSTRLEN + IFNAMSIZ + 1)
#define ERR_LEN		256

struct peer {
	struct link_udp		*link;
	int			 fd;		/* -1: closed, tried again by the timer */
	int			 why;		/* errno that was last told of, 0 when open */
	uint32_t		 drops;		/* kernel's counter when last read */
	ev_io			 io;
	struct sockaddr_storage	 addr;
	char			 text[ADDR_LEN];
};

struct link_udp {
	struct ev_loop		*loop;
	char			 name[NAME_LEN];
	char			 interface[IFNAMSIZ];	/* "": any */
	unsigned int		 ifindex;	/* that the sockets are bound to */
	struct sockaddr_storage	 local;
	char			 text[ADDR_LEN];
	uint16_t		 port;
	int			 rcvbuf_bytes;
	int			 sndbuf_bytes;
	size_t			 max_payload;
	link_udp_rx		*rx;
	void			*ctx;

	int			 fd;		/* listener, -1: the link is down */
	int			 why;
	uint32_t		 drops;
	ev_io			 io;
	ev_timer		 pause;
	ev_timer		 tick;
	bool			 buffers_told;
	struct log_limit	 unknown_limit;
	struct log_limit	 send_limit;
	struct log_limit	 state_limit;
	struct link_udp_stats	 stats;

	size_t			 stride;
	uint8_t			*arena;		/* BATCH buffers, received into */
	int			 n_peers;
	struct peer		 peers[];
};

static void __attribute__((format(printf, 4, 5)))
say(const struct link_udp *l, char *err, size_t errlen, const char *fmt, ...)
{
	va_list	 ap;
	size_t	 n;
	int	 rc;

	if (errlen == 0)
		return;
	rc = snprintf(err, errlen, "link %s: ", l->name);
	n = rc > 0 && (size_t)rc < errlen ? (size_t)rc : errlen - 1;
	va_start(ap, fmt);
	vsnprintf(err + n, errlen - n, fmt, ap);
	va_end(ap);
}

/*
 * Addresses.
 */

static socklen_t
addr_len(const struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void
addr_text(const struct sockaddr_storage *ss, char out[ADDR_LEN])
{
	char	 ip[INET6_ADDRSTRLEN] = "?";

	if (ss->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)ss)->sin_addr, ip, sizeof(ip));
	else if (ss->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)ss)->sin6_addr, ip, sizeof(ip));
	snprintf(out, ADDR_LEN, "%s", ip);
}

static uint16_t
addr_port(const struct sockaddr_storage *ss)
{
	return ntohs(ss->ss_family == AF_INET ? ((const struct sockaddr_in *)ss)->sin_port :
	    ((const struct sockaddr_in6 *)ss)->sin6_port);
}

static void
addr_set_port(struct sockaddr_storage *ss, uint16_t port)
{
	if (ss->ss_family == AF_INET)
		((struct sockaddr_in *)ss)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)ss)->sin6_port = htons(port);
}

static bool
addr_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family || addr_port(a) != addr_port(b))
		return false;
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		    ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
	    &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* Binding to the interface is what gives it its scope. */
static bool
addr_needs_scope(const struct sockaddr_storage *ss)
{
	const struct sockaddr_in6	*s6 = (const struct sockaddr_in6 *)ss;

	return ss->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&s6->sin6_addr);
}

/* What the system has of the link's address, for the line that says why it cannot be used. */
struct lookup {
	bool	 down;		/* the interface is there but not up */
	bool	 present;	/* the address is there, but cannot be used yet */
	char	 have[128];	/* the addresses that are there */
};

static void
look_up(const struct link_udp *l, struct lookup *u)
{
	struct sockaddr_storage	 ss;
	struct ifaddrs		*all, *a;
	char			 text[ADDR_LEN];
	size_t			 n = 0;
	int			 rc;

	*u = (struct lookup){ .have = "none" };
	if (getifaddrs(&all) != 0)
		return;
	for (a = all; a != NULL && n < sizeof(u->have); a = a->ifa_next) {
		if (l->interface[0] != '\0' && strcmp(l->interface, a->ifa_name) != 0)
			continue;
		u->down = u->down || (l->interface[0] != '\0' && (a->ifa_flags & IFF_UP) == 0);
		if (a->ifa_addr == NULL || a->ifa_addr->sa_family != l->local.ss_family)
			continue;
		memset(&ss, 0, sizeof(ss));
		memcpy(&ss, a->ifa_addr, addr_len(&l->local));
		addr_set_port(&ss, l->port);
		u->present = u->present || addr_same(&ss, &l->local);
		addr_text(&ss, text);
		rc = snprintf(u->have + n, sizeof(u->have) - n, "%s%s", n > 0 ? ", " : "", text);
		n += rc > 0 ? (size_t)rc : 0;
	}
	freeifaddrs(all);
}

/*
 * Sockets.
 */

/* Something that may come (back) by itself, so that waiting makes sense. */
static bool
is_missing(int e)
{
	return e == ENODEV || e == ENXIO || e == EADDRNOTAVAIL || e == ENETUNREACH ||
	    e == ENETDOWN || e == EHOSTUNREACH;
}

static int
set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* Only packets that no router has passed on.  Absolute loads, so that no length is assumed. */
static int
set_ttl_filter(int fd, int family)
{
	struct sock_filter	 code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF +
		    (family == AF_INET ? 8u : 7u)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 255, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
		BPF_STMT(BPF_RET | BPF_K, 0)
	};
	struct sock_fprog	 prog = {
		.len = sizeof(code) / sizeof(code[0]), .filter = code
	};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) != 0)
		return -errno;
	return 0;
}

static int
set_ip_options(int fd, int family)
{
	int	 rc;

	if ((rc = set_ttl_filter(fd, family)) != 0)
		return rc;
	if (family == AF_INET) {
		if ((rc = set_int(fd, IPPROTO_IP, IP_TTL, 255)) != 0)
			return rc;
		return set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	}
	if ((rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) != 0 ||
	    (rc = set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 255)) != 0)
		return rc;
	return set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
}

static void
set_buffer(struct link_udp *l, int fd, int force, int option, int bytes)
{
	int		 got = 0;
	socklen_t	 len = sizeof(got);

	if (bytes <= 0)
		return;
	if (set_int(fd, SOL_SOCKET, force, bytes) == 0)
		return;
	(void)set_int(fd, SOL_SOCKET, option, bytes);
	/* The kernel reports twice what may be used. */
	if (getsockopt(fd, SOL_SOCKET, option, &got, &len) == 0 && got / 2 < bytes &&
	    !l->buffers_told) {
		l->buffers_told = true;
		log_msg(LOG_WARNING, "link %s: %s buffer is %d bytes instead of %d: give ctsyncd "
		    "CAP_NET_ADMIN or raise net.core.%s", l->name,
		    option == SO_RCVBUF ? "receive" : "send", got / 2, bytes,
		    option == SO_RCVBUF ? "rmem_max" : "wmem_max");
	}
}

static void
explain_address(const struct link_udp *l, char *err, size_t errlen)
{
	struct lookup	 u;

	look_up(l, &u);
	if (u.down)
		say(l, err, errlen, "interface %s is down: bring it up", l->interface);
	else if (u.present)
		say(l, err, errlen, "address %s cannot be used yet (tentative, or a duplicate)", l->text);
	else
		say(l, err, errlen, "address %s is not on this machine (%s%s has %s): add it or correct "
		    "\"local\"", l->text, l->interface[0] != '\0' ? "interface " : "it",
		    l->interface, u.have);
}

static void
explain_bind(const struct link_udp *l, int e, char *err, size_t errlen)
{
	if (e == EADDRINUSE)
		say(l, err, errlen, "UDP port %u of %s is in use by another program (\"ss -ulnp sport "
		    "= :%u\" shows which): stop it or choose another port", l->port, l->text, l->port);
	else if (e == EADDRNOTAVAIL)
		explain_address(l, err, errlen);
	else if (e == EACCES)
		say(l, err, errlen, "not allowed to use UDP port %u: choose one above 1023", l->port);
	else
		say(l, err, errlen, "cannot bind to %s port %u: %s", l->text, l->port, strerror(e));
}

static int
bind_device(struct link_udp *l, int fd, char *err, size_t errlen)
{
	int	 e;

	if (l->interface[0] == '\0')
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, l->interface,
	    (socklen_t)strlen(l->interface)) == 0)
		return 0;
	e = errno;
	if (e == ENODEV)
		say(l, err, errlen, "there is no interface %s: create it or correct \"interface\"",
		    l->interface);
	else
		say(l, err, errlen, "cannot bind to interface %s: %s", l->interface, strerror(e));
	return -e;
}

/*
 * A socket that is bound to the link's address and port.  The result is a
 * descriptor or -errno, explained in err.
 */
static int
open_bound(struct link_udp *l, bool reuse, int rcvbuf_bytes, char *err, size_t errlen)
{
	int	 fd, rc, e;

	fd = socket(l->local.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		e = errno;
		say(l, err, errlen, "cannot open a socket: %s", strerror(e));
		return -e;
	}
	if ((rc = bind_device(l, fd, err, errlen)) != 0)
		goto fail;
	rc = set_ip_options(fd, l->local.ss_family);
	if (rc == 0 && reuse)
		rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (rc != 0) {
		say(l, err, errlen, "cannot set up a socket: %s", strerror(-rc));
		goto fail;
	}
	set_buffer(l, fd, SO_RCVBUFFORCE, SO_RCVBUF, rcvbuf_bytes);
	set_buffer(l, fd, SO_SNDBUFFORCE, SO_SNDBUF, l->sndbuf_bytes);
	if (bind(fd, (const struct sockaddr *)&l->local, addr_len(&l->local)) != 0) {
		rc = -errno;
		explain_bind(l, -rc, err, errlen);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return rc;
}

static void
allow_reuse(struct link_udp *l, int on)
{
	int	 i;

	(void)set_int(l->fd, SOL_SOCKET, SO_REUSEADDR, on);
	for (i = 0; i < l->n_peers; i++)
		if (l->peers[i].fd >= 0)
			(void)set_int(l->peers[i].fd, SOL_SOCKET, SO_REUSEADDR, on);
}

/* What came between bind and connect may be anybody's. */
static void
drain(int fd)
{
	uint8_t	 byte;
	int	 i;

	for (i = 0; i < DRAIN_MAX; i++)
		if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
}

static int
open_peer(struct peer *p, char *err, size_t errlen)
{
	struct link_udp	*l = p->link;
	int		 fd, e;

	allow_reuse(l, 1);
	fd = open_bound(l, true, l->rcvbuf_bytes, err, errlen);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&p->addr, addr_len(&p->addr)) != 0) {
		e = errno;
		say(l, err, errlen, is_missing(e) ? "no route to peer %s: %s; add a route or correct its "
		    "address" : "cannot reach peer %s: %s", p->text, strerror(e));
		close(fd);
		fd = -e;
	}
	if (fd >= 0) {
		drain(fd);
		p->fd = fd;
		p->drops = 0;
		p->why = 0;
		ev_io_set(&p->io, fd, EV_READ);
		ev_io_start(l->loop, &p->io);
	}
	allow_reuse(l, 0);
	return fd < 0 ? fd : 0;
}

static uint32_t
kernel_drops(int fd, uint32_t *last)
{
	uint32_t	 info[SK_MEMINFO_VARS] = { 0 }, n;
	socklen_t	 len = sizeof(info);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
		return 0;
	n = info[SK_MEMINFO_DROPS] - *last;
	*last = info[SK_MEMINFO_DROPS];
	return n;
}

static void
count_drops(struct link_udp *l)
{
	int	 i;

	l->stats.unknown += kernel_drops(l->fd, &l->drops);
	for (i = 0; i < l->n_peers; i++)
		l->stats.rx_dropped += kernel_drops(l->peers[i].fd, &l->peers[i].drops);
}

static void
close_peer(struct peer *p)
{
	if (p->fd < 0)
		return;
	p->link->stats.rx_dropped += kernel_drops(p->fd, &p->drops);
	ev_io_stop(p->link->loop, &p->io);
	close(p->fd);
	p->fd = -1;
}

static void
close_link(struct link_udp *l)
{
	int	 i;

	for (i = 0; i < l->n_peers; i++)
		close_peer(&l->peers[i]);
	if (l->fd < 0)
		return;
	l->stats.unknown += kernel_drops(l->fd, &l->drops);
	ev_io_stop(l->loop, &l->io);
	ev_timer_stop(l->loop, &l->pause);
	close(l->fd);
	l->fd = -1;
}

/* The listener; with the interface's number that everything else is compared with. */
static int
open_listener(struct link_udp *l, char *err, size_t errlen)
{
	int	 fd;

	l->ifindex = l->interface[0] != '\0' ? if_nametoindex(l->interface) : 0;
	if ((fd = open_bound(l, false, LISTEN_BYTES, err, errlen)) < 0)
		return fd;
	l->fd = fd;
	l->drops = 0;
	l->why = 0;
	ev_io_set(&l->io, fd, EV_READ);
	ev_io_start(l->loop, &l->io);
	return 0;
}

/*
 * Open what is closed.  Peers that cannot be reached leave the link open for
 * the others.  The first failure is the result and explained in err; at run
 * time each is told of when it is new.
 */
static int
open_missing(struct link_udp *l, bool running, char *err, size_t errlen)
{
	char	 text[ERR_LEN];
	int	 i, rc, first = 0, opened = 0, closed = 0, was_down = l->fd < 0;

	if (l->fd < 0 && (rc = open_listener(l, err, errlen)) != 0) {
		if (running && l->why != -rc)
			log_msg(LOG_WARNING, "%s; trying again every second", err);
		l->why = -rc;
		return rc;
	}
	for (i = 0; i < l->n_peers; i++) {
		struct peer	*p = &l->peers[i];

		if (p->fd >= 0)
			continue;
		if ((rc = open_peer(p, text, sizeof(text))) == 0) {
			opened++;
			continue;
		}
		if (running && p->why != -rc)
			log_msg(LOG_WARNING, "%s; trying again every second", text);
		p->why = -rc;
		closed++;
		if (first == 0) {
			first = rc;
			snprintf(err, errlen, "%s", text);
		}
	}
	if (was_down)
		l->stats.opened++;
	if (was_down || opened > 0)
		log_limited(&l->state_limit, LOG_NOTICE, "link %s: open on %s port %u, %d of %d peers"
		    " can be sent to", l->name, l->text, l->port,
		    l->n_peers - closed, l->n_peers);
	return first;
}

/*
 * Receiving.
 */

static void
rx_failed(struct link_udp *l, int e)
{
	if (e == ECONNREFUSED || e == EHOSTUNREACH || e == ENETUNREACH || e == EHOSTDOWN ||
	    e == EMSGSIZE || e == EACCES || e == ENOPROTOOPT || e == EPROTO)
		l->stats.icmp_errors++;
	else
		l->stats.rx_errors++;
}

static void
deliver(struct peer *p, const struct mmsghdr *m, const uint8_t *buf)
{
	struct link_udp	*l = p->link;

	if ((m->msg_hdr.msg_flags & MSG_TRUNC) != 0) {
		l->stats.rx_oversize++;
		return;
	}
	l->stats.rx_packets++;
	l->stats.rx_bytes += m->msg_len;
	l->rx(l->ctx, l, (int)(p - l->peers), buf, m->msg_len);
}

static void
peer_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct peer	*p = w->data;
	struct link_udp	*l = p->link;
	struct mmsghdr	 m[BATCH];
	struct iovec	 iov[BATCH];
	int		 batch, i, n;

	(void)loop;
	(void)revents;
	/* A callback may send, and thereby find the socket unusable and close it. */
	for (batch = 0; batch < RX_BATCHES && p->fd >= 0; batch++) {
		memset(m, 0, sizeof(m));
		for (i = 0; i < BATCH; i++) {
			iov[i].iov_base = l->arena + (size_t)i * l->stride;
			iov[i].iov_len = l->max_payload;
			m[i].msg_hdr.msg_iov = &iov[i];
			m[i].msg_hdr.msg_iovlen = 1;
		}
		n = recvmmsg(p->fd, m, BATCH, MSG_DONTWAIT, NULL);
		if (n < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
				return;
			rx_failed(l, errno);
			continue;
		}
		for (i = 0; i < n; i++)
			deliver(p, &m[i], iov[i].iov_base);
		if (n < BATCH)
			return;
	}
}

static void
count_stranger(struct link_udp *l, const struct sockaddr_storage *from)
{
	char	 text[ADDR_LEN];
	int	 i;

	for (i = 0; i < l->n_peers; i++)
		if (addr_same(&l->peers[i].addr, from)) {
			l->stats.rx_dropped++;
			return;
		}
	l->stats.unknown++;
	addr_text(from, text);
	log_limited(&l->unknown_limit, LOG_WARNING, "link %s: datagram from %s port %u, which is no "
	    "peer of this link: dropped; if it is one, add it to \"peers\"", l->name, text,
	    addr_port(from));
}

/*
 * Only peers that are not open yet and strangers are heard here, so the
 * content is not even read.  A flood is left to overflow the buffer.
 */
static void
listener_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	struct link_udp		*l = w->data;
	struct sockaddr_storage	 from[BATCH];
	struct mmsghdr		 m[BATCH];
	int			 i, n;

	(void)revents;
	memset(m, 0, sizeof(m));
	memset(from, 0, sizeof(from));
	for (i = 0; i < BATCH; i++) {
		m[i].msg_hdr.msg_name = &from[i];
		m[i].msg_hdr.msg_namelen = sizeof(from[i]);
	}
	n = recvmmsg(l->fd, m, BATCH, MSG_DONTWAIT, NULL);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		rx_failed(l, errno);
	for (i = 0; i < n; i++)
		count_stranger(l, &from[i]);
	if (n == BATCH) {
		ev_io_stop(loop, &l->io);
		ev_timer_set(&l->pause, LISTEN_PAUSE_S, 0.);
		ev_timer_start(loop, &l->pause);
	}
}

static void
pause_over(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct link_udp	*l = w->data;

	(void)revents;
	ev_io_start(loop, &l->io);
}

static void
every_second(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct link_udp	*l = w->data;
	char		 err[ERR_LEN];

	(void)loop;
	(void)revents;
	count_drops(l);
	/* An interface that was made anew has another number, and our sockets stay deaf. */
	if (l->fd >= 0 && l->interface[0] != '\0' && if_nametoindex(l->interface) != l->ifindex) {
		log_limited(&l->state_limit, LOG_WARNING, "link %s: down: interface %s is gone; trying"
		    " again every second", l->name, l->interface);
		close_link(l);
		l->why = ENODEV;
	}
	(void)open_missing(l, true, err, sizeof(err));
}

/*
 * Sending.
 */

static int
tx_failed(struct peer *p, int e, size_t len)
{
	struct link_udp	*l = p->link;

	if (e == EAGAIN || e == EWOULDBLOCK || e == ENOBUFS) {
		l->stats.tx_busy++;
		return -EAGAIN;
	}
	l->stats.tx_errors++;
	switch (e) {
	case EMSGSIZE:
		log_limited(&l->send_limit, LOG_ERR, "link %s: a datagram of %zu bytes is too long for "
		    "the interface: lower \"mtu\" of the link or raise that of the interface",
		    l->name, len);
		return -e;
	case EPERM:
		log_limited(&l->send_limit, LOG_ERR, "link %s: the packet filter does not let us send to"
		    " %s: allow UDP port %u in its output chain", l->name, p->text,
		    addr_port(&p->addr));
		return -e;
	case EINVAL:		/* our address was taken away */
	case ENETDOWN:
	case ENODEV:
	case ENXIO:
	case EADDRNOTAVAIL:
	case ENETUNREACH:
		log_limited(&l->state_limit, LOG_WARNING, "link %s: cannot send from %s to %s (%s): is the"
		    " interface up and has it the address? Trying again every second", l->name,
		    l->text, p->text, strerror(e));
		close_peer(p);
		p->why = e;
		return -ENETDOWN;
	default:
		return -e;
	}
}

/* sendmmsg(2), once more if an error was pending on the socket that ICMP may have put there. */
static int
send_batch(struct peer *p, struct mmsghdr *m, unsigned int n)
{
	struct link_udp	*l = p->link;
	int		 rc;

	rc = sendmmsg(p->fd, m, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (rc >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
		return rc;
	rc = sendmmsg(p->fd, m, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (rc >= 0) {
		l->stats.icmp_errors++;
		return rc;
	}
	if (errno == ECONNREFUSED) {
		l->stats.icmp_errors++;
		return 1;	/* lost, as any datagram may be */
	}
	return rc;
}

int
link_udp_sendv(struct link_udp *l, int peer_index, const struct iovec *datagrams, size_t n)
{
	struct peer	*p = &l->peers[peer_index];
	struct mmsghdr	 m[BATCH];
	struct iovec	 iov[BATCH];
	size_t		 done = 0;
	unsigned int	 want, i;
	int		 rc;

	while (done < n) {
		if (p->fd < 0)
			return done > 0 ? (int)done : -ENETDOWN;
		want = n - done < BATCH ? (unsigned int)(n - done) : BATCH;
		memset(m, 0, sizeof(m[0]) * want);
		for (i = 0; i < want; i++) {
			iov[i] = datagrams[done + i];
			if (iov[i].iov_len > l->max_payload)
				break;
			m[i].msg_hdr.msg_iov = &iov[i];
			m[i].msg_hdr.msg_iovlen = 1;
		}
		if (i == 0) {
			rc = tx_failed(p, EMSGSIZE, iov[0].iov_len);
			return done > 0 ? (int)done : rc;
		}
		if ((rc = send_batch(p, m, i)) < 0) {
			rc = tx_failed(p, errno, iov[0].iov_len);
			return done > 0 ? (int)done : rc;
		}
		for (i = 0; i < (unsigned int)rc; i++)
			l->stats.tx_bytes += iov[i].iov_len;
		l->stats.tx_packets += (unsigned int)rc;
		done += (unsigned int)rc;
	}
	return (int)done;
}

int
link_udp_send(struct link_udp *l, int peer_index, const void *buf, size_t len)
{
	struct iovec	 iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int		 rc;

	rc = link_udp_sendv(l, peer_index, &iov, 1);
	return rc < 0 ? rc : 0;
}

/*
 * Making and freeing.
 */

static int
check_peers(const struct link_udp *l, char *err, size_t errlen)
{
	int	 i, k;

	for (i = 0; i < l->n_peers; i++) {
		const struct peer	*p = &l->peers[i];

		if (p->addr.ss_family != l->local.ss_family) {
			say(l, err, errlen, "local address %s and peer %s are not of one family",
			    l->text, p->text);
			return -EINVAL;
		}
		if (addr_same(&p->addr, &l->local)) {
			say(l, err, errlen, "peer %s is the address of this node", p->text);
			return -EINVAL;
		}
		for (k = 0; k < i; k++)
			if (addr_same(&p->addr, &l->peers[k].addr)) {
				say(l, err, errlen, "peer %s is listed twice", p->text);
				return -EINVAL;
			}
	}
	return 0;
}

static int
check_config(const struct link_udp *l, const struct link_udp_config *cfg, char *err,
    size_t errlen)
{
	if (l->local.ss_family != AF_INET && l->local.ss_family != AF_INET6) {
		say(l, err, errlen, "the local address is neither IPv4 nor IPv6");
		return -EINVAL;
	}
	if (cfg->interface != NULL && (cfg->interface[0] == '\0' ||
	    strlen(cfg->interface) >= IFNAMSIZ)) {
		say(l, err, errlen, "\"%s\" cannot be the name of an interface", cfg->interface);
		return -EINVAL;
	}
	if (l->port == 0 || l->max_payload < 1 || l->max_payload > LINK_UDP_PAYLOAD_MAX) {
		say(l, err, errlen, "port %u or payload of %zu bytes is out of range", l->port,
		    l->max_payload);
		return -EINVAL;
	}
	if (addr_needs_scope(&l->local) && l->interface[0] == '\0') {
		say(l, err, errlen, "link-local address %s needs \"interface\"", l->text);
		return -EINVAL;
	}
	return check_peers(l, err, errlen);
}

static void
fill(struct link_udp *l, const struct link_udp_config *cfg)
{
	snprintf(l->name, sizeof(l->name), "%s", cfg->name);
	if (cfg->interface != NULL)
		snprintf(l->interface, sizeof(l->interface), "%s", cfg->interface);
	l->local = cfg->local;
	l->port = cfg->port;
	addr_set_port(&l->local, cfg->port);
	addr_text(&l->local, l->text);
	l->rcvbuf_bytes = cfg->rcvbuf_bytes;
	l->sndbuf_bytes = cfg->sndbuf_bytes;
	l->max_payload = cfg->max_payload;
	l->rx = cfg->rx;
	l->ctx = cfg->ctx;
	l->fd = -1;
	l->unknown_limit = l->send_limit = l->state_limit = (struct log_limit)LOG_LIMIT_INIT;
	ev_init(&l->io, listener_readable);
	ev_timer_init(&l->pause, pause_over, LISTEN_PAUSE_S, 0.);
	ev_timer_init(&l->tick, every_second, RETRY_S, RETRY_S);
	l->io.data = l->pause.data = l->tick.data = l;
}

static void
fill_peer(struct link_udp *l, int i, const struct sockaddr_storage *addr)
{
	struct peer	*p = &l->peers[i];

	p->link = l;
	p->fd = -1;
	p->addr = *addr;
	if (addr_port(addr) == 0)
		addr_set_port(&p->addr, l->port);
	addr_text(addr, p->text);
	ev_init(&p->io, peer_readable);
	p->io.data = p;
}

int
link_udp_new(struct link_udp **out, struct ev_loop *loop, const struct link_udp_config *cfg,
    char *err, size_t errlen)
{
	struct link_udp	*l;
	size_t		 n = cfg->n_peers <= LINK_UDP_PEERS_MAX ? cfg->n_peers : 0;
	int		 i, rc;

	*out = NULL;
	if (errlen > 0)
		err[0] = '\0';
	if ((l = calloc(1, sizeof(*l) + n * sizeof(l->peers[0]))) == NULL)
		return -ENOMEM;
	l->loop = loop;
	fill(l, cfg);
	if (n != cfg->n_peers) {
		say(l, err, errlen, "more than %d peers", LINK_UDP_PEERS_MAX);
		rc = -EINVAL;
		goto fail;
	}
	for (i = 0; i < (int)n; i++)
		fill_peer(l, i, &cfg->peers[i]);
	l->n_peers = (int)n;
	if ((rc = check_config(l, cfg, err, errlen)) != 0)
		goto fail;
	l->stride = (l->max_payload + 63) & ~(size_t)63;
	if ((l->arena = malloc(l->stride * BATCH)) == NULL) {
		rc = -ENOMEM;
		goto fail;
	}
	rc = open_missing(l, false, err, errlen);
	if (rc != 0 && !is_missing(-rc))
		goto fail;
	ev_timer_start(loop, &l->tick);
	*out = l;
	return 0;
fail:
	link_udp_free(l);
	return rc;
}

void
link_udp_free(struct link_udp *l)
{
	if (l == NULL)
		return;
	close_link(l);
	ev_timer_stop(l->loop, &l->tick);
	free(l->arena);
	free(l);
}

const char *
link_udp_name(const struct link_udp *l)
{
	return l->name;
}

bool
link_udp_peer_up(const struct link_udp *l, int peer_index)
{
	return l->peers[peer_index].fd >= 0;
}

bool
link_udp_up(const struct link_udp *l)
{
	int	 i;

	for (i = 0; i < l->n_peers; i++)
		if (link_udp_peer_up(l, i))
			return true;
	return false;
}

void
link_udp_stats(struct link_udp *l, struct link_udp_stats *stats)
{
	count_drops(l);
	*stats = l->stats;
}
