/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * UDP streams of the traffic program.  Each side numbers and sends its own
 * datagrams at a fixed pace.  The server behaves like a connected socket: it
 * answers the address that the first datagram of a stream came from and
 * nothing else, so that a changed address translation shows as a loss
 * ("moved") instead of being papered over.
 */
#include <sys/epoll.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define DGRAM_MAGIC	0x43544c44u
#define DGRAM_HEADER	40u
#define DGRAM_MAX	1400u
#define REPORT_BYTES	48u
#define BYE_US		100000u		/* between two requests for the report */
#define IDLE_US		(60u * US_PER_S)
#define MAX_STREAMS	65536u		/* per listening socket */
#define BUCKETS		4096u
#define BATCH		64		/* datagrams per wake-up */

enum dgram_type {
	DGRAM_DATA = 1,
	DGRAM_BYE,
	DGRAM_REPORT
};

struct dgram_server {
	struct source src;
	struct loop *loop;
	size_t n_streams;
	struct dgram *buckets[BUCKETS];
};

static size_t
put_dgram(const struct dgram *d, enum dgram_type type, uint64_t seq, uint8_t *buf)
{
	put_u32(buf, DGRAM_MAGIC);
	buf[4] = (uint8_t)type;
	buf[5] = 0;
	put_u16(buf + 6, (uint16_t)d->bytes);
	put_u64(buf + 8, d->run);
	put_u64(buf + 16, d->id);
	put_u64(buf + 24, seq);
	put_u32(buf + 32, d->interval_us);
	put_u32(buf + 36, 0);
	if (type != DGRAM_DATA)
		return DGRAM_HEADER;
	pattern_fill(pattern_seed(d->run, d->id, d->server), seq * d->bytes, buf + DGRAM_HEADER, d->bytes);
	return DGRAM_HEADER + d->bytes;
}

static void
dgram_send(const struct dgram *d, const uint8_t *buf, size_t len)
{
	/* What the stack refuses is a lost datagram like any other: the sequence tells. */
	if (d->server)
		(void)!sendto(d->src.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL,
		    (const struct sockaddr *)&d->peer, d->peer_len);
	else
		(void)!send(d->src.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
dgram_send_data(struct dgram *d)
{
	uint8_t buf[DGRAM_HEADER + DGRAM_MAX];
	size_t len = put_dgram(d, DGRAM_DATA, d->sent, buf);

	d->sent++;
	dgram_send(d, buf, len);
}

static void
dgram_send_report(struct dgram *d)
{
	uint8_t buf[DGRAM_HEADER + REPORT_BYTES];
	uint8_t *body = buf + DGRAM_HEADER;

	put_dgram(d, DGRAM_REPORT, 0, buf);
	put_u64(body, d->rx.received);
	put_u64(body + 8, d->rx.duplicated);
	put_u64(body + 16, d->corrupt);
	put_u64(body + 24, d->sent);
	put_u64(body + 32, d->moved);
	put_u64(body + 40, d->in.longest_us);
	dgram_send(d, buf, sizeof(buf));
}

static void
dgram_take_data(struct dgram *d, const uint8_t *buf, size_t len, uint64_t now)
{
	uint64_t seq = get_u64(buf + 24);

	if (len != DGRAM_HEADER + d->bytes) {
		d->corrupt++;
		return;
	}
	if (seqwin_add(&d->rx, seq)) {
		d->corrupt += pattern_diff(pattern_seed(d->run, d->id, !d->server), seq * d->bytes,
		    buf + DGRAM_HEADER, d->bytes);
		progress_note(&d->in, now);
	}
}

static void
dgram_take_report(struct dgram *d, const uint8_t *buf, size_t len)
{
	const uint8_t *body = buf + DGRAM_HEADER;

	if (len != DGRAM_HEADER + REPORT_BYTES || !d->closing)
		return;
	d->peer_received = get_u64(body);
	d->peer_duplicated = get_u64(body + 8);
	d->peer_corrupt = get_u64(body + 16);
	d->peer_sent = get_u64(body + 24);
	d->peer_moved = get_u64(body + 32);
	d->peer_longest_us = get_u64(body + 40);
	d->reported = true;
}

/* ---- client ----------------------------------------------------------- */

static void
dgram_ready(struct source *src, uint32_t events)
{
	struct dgram *d = (struct dgram *)(void *)((char *)src - offsetof(struct dgram, src));
	uint8_t buf[DGRAM_HEADER + DGRAM_MAX];
	ssize_t n;
	int i;

	(void)events;
	for (i = 0; i < BATCH; i++) {
		n = recv(src->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < (ssize_t)DGRAM_HEADER || get_u32(buf) != DGRAM_MAGIC)
			continue;
		if (get_u64(buf + 8) != d->run || get_u64(buf + 16) != d->id)
			continue;
		if (buf[4] == DGRAM_DATA)
			dgram_take_data(d, buf, (size_t)n, d->loop->now_us);
		else if (buf[4] == DGRAM_REPORT)
			dgram_take_report(d, buf, (size_t)n);
	}
}

int
dgram_open(struct dgram *d, struct loop *loop, const struct endpoint *to)
{
	d->loop = loop;
	d->src.ready = dgram_ready;
	d->src.fd = socket(to->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->src.fd < 0)
		return -errno;
	if (connect(d->src.fd, (const struct sockaddr *)&to->addr, to->len) != 0)
		return -errno;
	return loop_add(loop, &d->src, EPOLLIN);
}

void
dgram_tick(struct dgram *d, uint64_t now)
{
	uint8_t buf[DGRAM_HEADER + DGRAM_MAX];

	if (now < d->due_us || d->reported)
		return;
	if (d->closing) {
		d->due_us = now + BYE_US;
		dgram_send(d, buf, put_dgram(d, DGRAM_BYE, d->sent, buf));
		return;
	}
	/* Keep the pace on average although the tick is coarse. */
	d->due_us = d->due_us + d->interval_us > now ? d->due_us + d->interval_us : now + d->interval_us;
	dgram_send_data(d);
}

void
dgram_end(struct dgram *d)
{
	d->closing = true;
	d->due_us = 0;
}

/* ---- server ----------------------------------------------------------- */

static struct dgram **
find_slot(struct dgram_server *srv, uint64_t run, uint64_t id)
{
	struct dgram **pp = &srv->buckets[(run ^ id * 0x9e3779b97f4a7c15u) % BUCKETS];

	while (*pp != NULL && ((*pp)->run != run || (*pp)->id != id))
		pp = &(*pp)->next;
	return pp;
}

static struct dgram *
server_stream(struct dgram_server *srv, const uint8_t *buf, const struct sockaddr_storage *from,
    socklen_t from_len)
{
	struct dgram **slot = find_slot(srv, get_u64(buf + 8), get_u64(buf + 16));
	struct dgram *d = *slot;

	if (d != NULL)
		return d;
	if (buf[4] != DGRAM_DATA || srv->n_streams >= MAX_STREAMS)
		return NULL;
	if (get_u16(buf + 6) > DGRAM_MAX || get_u32(buf + 32) == 0)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return NULL;
	d->src.fd = srv->src.fd;
	d->server = true;
	d->run = get_u64(buf + 8);
	d->id = get_u64(buf + 16);
	d->bytes = get_u16(buf + 6);
	d->interval_us = get_u32(buf + 32);
	d->peer = *from;
	d->peer_len = from_len;
	*slot = d;
	srv->n_streams++;
	return d;
}

static void
server_take(struct dgram_server *srv, const uint8_t *buf, size_t len,
    const struct sockaddr_storage *from, socklen_t from_len)
{
	struct dgram *d;

	if (len < DGRAM_HEADER || get_u32(buf) != DGRAM_MAGIC)
		return;
	d = server_stream(srv, buf, from, from_len);
	if (d == NULL)
		return;
	if (!sockaddr_equal(&d->peer, from)) {
		d->moved++;
		return;
	}
	if (buf[4] == DGRAM_DATA) {
		dgram_take_data(d, buf, len, srv->loop->now_us);
	} else if (buf[4] == DGRAM_BYE) {
		d->closing = true;
		dgram_send_report(d);
	}
}

static void
server_ready(struct source *src, uint32_t events)
{
	struct dgram_server *srv = (struct dgram_server *)(void *)
	    ((char *)src - offsetof(struct dgram_server, src));
	uint8_t buf[DGRAM_HEADER + DGRAM_MAX];
	struct sockaddr_storage from;
	socklen_t from_len;
	ssize_t n;
	int i;

	(void)events;
	for (i = 0; i < BATCH; i++) {
		from_len = sizeof(from);
		n = recvfrom(src->fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0)
			server_take(srv, buf, (size_t)n, &from, from_len);
	}
}

void
dgram_server_tick(struct dgram_server *srv, uint64_t now)
{
	struct dgram **pp, *d;
	size_t i;

	for (i = 0; i < BUCKETS; i++) {
		for (pp = &srv->buckets[i]; (d = *pp) != NULL; ) {
			if (d->in.last_us + IDLE_US < now) {
				*pp = d->next;
				free(d);
				srv->n_streams--;
				continue;
			}
			if (!d->closing)
				dgram_tick(d, now);
			pp = &d->next;
		}
	}
}

struct dgram_server *
dgram_server_new(struct loop *loop, const struct endpoint *at)
{
	struct dgram_server *srv = calloc(1, sizeof(*srv));
	int on = 1, buffer = 4 << 20, fd;

	if (srv == NULL)
		return NULL;
	fd = socket(at->addr.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	srv->src.fd = fd;
	srv->src.ready = server_ready;
	srv->loop = loop;
	if (fd < 0)
		goto fail;
	if (at->addr.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	if (bind(fd, (const struct sockaddr *)&at->addr, at->len) != 0)
		goto fail;
	if (loop_add(loop, &srv->src, EPOLLIN) != 0)
		goto fail;
	return srv;
fail:
	dgram_server_free(srv);
	return NULL;
}

void
dgram_server_free(struct dgram_server *srv)
{
	struct dgram *d;
	size_t i;
	int saved = errno;

	if (srv == NULL)
		return;
	for (i = 0; i < BUCKETS; i++) {
		while ((d = srv->buckets[i]) != NULL) {
			srv->buckets[i] = d->next;
			free(d);
		}
	}
	if (srv->src.fd >= 0)
		close(srv->src.fd);
	free(srv);
	errno = saved;
}
