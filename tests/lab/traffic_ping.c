/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ICMP and ICMPv6 echo streams of the traffic program: one raw socket per
 * address family, any number of streams that differ in identifier.  The 64-bit
 * sequence number and the run travel in the payload, so that neither the wrap
 * of the 16-bit field nor somebody else's replies matter.
 */
#include <netinet/icmp6.h>
#include <sys/epoll.h>

#include <errno.h>
#include <linux/icmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define ECHO_BYTES	64u
#define ECHO_HEADER	8u
#define PATTERN_AT	32u	/* after header, run, index and sequence number */
#define BATCH		64

struct pinger {
	struct source v4, v6;
	struct loop *loop;
	uint64_t run;
	uint32_t interval_us;
	bool stopped;
	size_t n_pings;
	struct ping pings[];
};

static uint16_t
checksum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (; len > 1; p += 2, len -= 2)
		sum += get_u16(p);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void
ping_send(struct pinger *p, size_t index)
{
	struct ping *g = &p->pings[index];
	uint8_t buf[ECHO_BYTES] = { 0 };
	bool six = g->to.ss_family == AF_INET6;

	buf[0] = six ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
	put_u16(buf + 4, g->ident);
	put_u16(buf + 6, (uint16_t)g->sent);
	put_u64(buf + 8, p->run);
	put_u64(buf + 16, index);
	put_u64(buf + 24, g->sent);
	pattern_fill(pattern_seed(p->run, index, false), g->sent, buf + PATTERN_AT, ECHO_BYTES - PATTERN_AT);
	if (!six)	/* the kernel does it for ICMPv6 */
		put_u16(buf + 2, checksum(buf, sizeof(buf)));
	g->sent++;
	(void)!sendto(six ? p->v6.fd : p->v4.fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL,
	    (const struct sockaddr *)&g->to, g->to_len);
}

static void
ping_take(struct pinger *p, const uint8_t *buf, size_t len, bool six)
{
	uint64_t index, seq;
	struct ping *g;

	if (len != ECHO_BYTES || buf[0] != (six ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY))
		return;
	index = get_u64(buf + 16);
	if (get_u64(buf + 8) != p->run || index >= p->n_pings)
		return;
	g = &p->pings[index];
	seq = get_u64(buf + 24);
	if (get_u16(buf + 4) != g->ident || seq >= g->sent)
		g->corrupt++;
	g->corrupt += pattern_diff(pattern_seed(p->run, index, false), seq, buf + PATTERN_AT,
	    ECHO_BYTES - PATTERN_AT);
	if (seqwin_add(&g->rx, seq))
		progress_note(&g->in, p->loop->now_us);
}

static void
v4_ready(struct source *src, uint32_t events)
{
	struct pinger *p = (struct pinger *)(void *)((char *)src - offsetof(struct pinger, v4));
	uint8_t buf[2048];
	ssize_t n;
	size_t head;
	int i;

	(void)events;
	for (i = 0; i < BATCH; i++) {
		n = recv(src->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 20)
			continue;
		head = (size_t)(buf[0] & 15) * 4;	/* a raw IPv4 socket delivers the IP header */
		if ((size_t)n > head)
			ping_take(p, buf + head, (size_t)n - head, false);
	}
}

static void
v6_ready(struct source *src, uint32_t events)
{
	struct pinger *p = (struct pinger *)(void *)((char *)src - offsetof(struct pinger, v6));
	uint8_t buf[2048];
	ssize_t n;
	int i;

	(void)events;
	for (i = 0; i < BATCH; i++) {
		n = recv(src->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0)
			ping_take(p, buf, (size_t)n, true);
	}
}

static int
open_v4(struct pinger *p)
{
	struct icmp_filter filter = { .data = ~(1u << ICMP_ECHOREPLY) };
	int buffer = 1 << 20;

	p->v4.ready = v4_ready;
	p->v4.fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	if (p->v4.fd < 0)
		return -1;
	setsockopt(p->v4.fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter));
	setsockopt(p->v4.fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	return loop_add(p->loop, &p->v4, EPOLLIN);
}

static int
open_v6(struct pinger *p)
{
	struct icmp6_filter filter;
	int buffer = 1 << 20;

	p->v6.ready = v6_ready;
	p->v6.fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
	if (p->v6.fd < 0)
		return -1;
	ICMP6_FILTER_SETBLOCKALL(&filter);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
	setsockopt(p->v6.fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter));
	setsockopt(p->v6.fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	return loop_add(p->loop, &p->v6, EPOLLIN);
}

static void
ping_init(struct ping *g, const struct endpoint *to, size_t endpoint, uint16_t ident)
{
	g->endpoint = endpoint;
	g->to = to->addr;
	g->to_len = to->len;
	g->ident = ident;
	/* A raw socket takes the port field for a protocol number. */
	if (g->to.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&g->to)->sin6_port = 0;
	else
		((struct sockaddr_in *)&g->to)->sin_port = 0;
}

struct pinger *
pinger_new(struct loop *loop, const struct options *o, uint64_t run)
{
	size_t n = o->count[KIND_PING], i, e;
	struct pinger *p = calloc(1, sizeof(*p) + n * sizeof(p->pings[0]));

	if (p == NULL)
		return NULL;
	p->loop = loop;
	p->run = run;
	p->n_pings = n;
	p->interval_us = o->packet_ms * 1000;
	p->v4.fd = p->v6.fd = -1;
	for (i = 0; i < n; i++) {
		e = i % o->n_endpoints;
		ping_init(&p->pings[i], &o->endpoints[e], e, (uint16_t)(run + i));
		p->pings[i].due_us = loop->now_us + random_u64() % p->interval_us;
		if (p->pings[i].to.ss_family == AF_INET6 ? p->v6.fd < 0 && open_v6(p) != 0 :
		    p->v4.fd < 0 && open_v4(p) != 0) {
			pinger_free(p);
			return NULL;
		}
	}
	return p;
}

void
pinger_free(struct pinger *p)
{
	int saved = errno;

	if (p == NULL)
		return;
	if (p->v4.fd >= 0)
		close(p->v4.fd);
	if (p->v6.fd >= 0)
		close(p->v6.fd);
	free(p);
	errno = saved;
}

void
pinger_tick(struct pinger *p, uint64_t now)
{
	struct ping *g;
	size_t i;

	for (i = 0; i < p->n_pings && !p->stopped; i++) {
		g = &p->pings[i];
		if (now < g->due_us)
			continue;
		g->due_us = g->due_us + p->interval_us > now ? g->due_us + p->interval_us : now + p->interval_us;
		ping_send(p, i);
	}
}

void
pinger_stop(struct pinger *p)
{
	p->stopped = true;
}

size_t
pinger_count(const struct pinger *p)
{
	return p->n_pings;
}

struct ping *
pinger_get(struct pinger *p, size_t i)
{
	return &p->pings[i];
}
