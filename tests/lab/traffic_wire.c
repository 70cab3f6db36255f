/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Clock, endpoints, big-endian fields and the byte pattern of the traffic
 * program.  No state, no sockets.
 */
#include <sys/random.h>
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "traffic.h"

uint64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * US_PER_S + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t
random_u64(void)
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		v = now_us() ^ ((uint64_t)getpid() << 40);
	return v;
}

void
put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void
put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, (uint16_t)(v >> 16));
	put_u16(p + 2, (uint16_t)v);
}

void
put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t)(v >> 32));
	put_u32(p + 4, (uint32_t)v);
}

uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t)((p[0] << 8) | p[1]);
}

uint32_t
get_u32(const uint8_t *p)
{
	return ((uint32_t)get_u16(p) << 16) | get_u16(p + 2);
}

uint64_t
get_u64(const uint8_t *p)
{
	return ((uint64_t)get_u32(p) << 32) | get_u32(p + 4);
}

static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t
pattern_seed(uint64_t run, uint64_t id, bool from_server)
{
	return mix(mix(run) ^ mix(id * 2 + (from_server ? 1 : 0)));
}

void
pattern_fill(uint64_t seed, uint64_t offset, uint8_t *buf, size_t len)
{
	uint8_t word[8];
	size_t skip, n;

	while (len > 0) {
		skip = (size_t)(offset & 7);
		n = 8 - skip < len ? 8 - skip : len;
		put_u64(word, mix(seed ^ (offset >> 3)));
		memcpy(buf, word + skip, n);
		buf += n;
		offset += n;
		len -= n;
	}
}

size_t
pattern_diff(uint64_t seed, uint64_t offset, const uint8_t *buf, size_t len)
{
	uint8_t expect[1024];
	size_t n, i, differ = 0;

	while (len > 0) {
		n = len < sizeof(expect) ? len : sizeof(expect);
		pattern_fill(seed, offset, expect, n);
		if (memcmp(expect, buf, n) != 0) {
			for (i = 0; i < n; i++)
				differ += expect[i] != buf[i];
		}
		buf += n;
		offset += n;
		len -= n;
	}
	return differ;
}

/* Split "HOST:PORT[-PORT]" in place; brackets around the host are dropped. */
static bool
split_spec(char *spec, char **host, unsigned int *first, unsigned int *last)
{
	char *colon = strrchr(spec, ':'), *end;
	unsigned long v;

	if (colon == NULL || colon == spec)
		return false;
	*colon = '\0';
	*host = spec;
	if (spec[0] == '[') {
		if (colon[-1] != ']')
			return false;
		colon[-1] = '\0';
		*host = spec + 1;
	}
	v = strtoul(colon + 1, &end, 10);
	if (end == colon + 1 || v == 0 || v > 65535)
		return false;
	*first = *last = (unsigned int)v;
	if (*end == '\0')
		return true;
	if (*end != '-')
		return false;
	v = strtoul(end + 1, &end, 10);
	if (*end != '\0' || v < *first || v > 65535)
		return false;
	*last = (unsigned int)v;
	return true;
}

bool
endpoints_add(struct options *o, const char *spec)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	    .ai_socktype = SOCK_STREAM };
	struct addrinfo *ai;
	struct endpoint *ep;
	unsigned int port, last;
	char copy[128], digits[16], *host;

	if (strlen(spec) >= sizeof(copy) || o->n_specs >= MAX_ENDPOINTS)
		return false;
	strcpy(copy, spec);
	if (!split_spec(copy, &host, &port, &last))
		return false;
	for (; port <= last; port++) {
		if (o->n_endpoints >= MAX_ENDPOINTS)
			return false;
		snprintf(digits, sizeof(digits), "%u", port);
		if (getaddrinfo(host, digits, &hints, &ai) != 0)
			return false;
		ep = &o->endpoints[o->n_endpoints++];
		memset(ep, 0, sizeof(*ep));
		memcpy(&ep->addr, ai->ai_addr, ai->ai_addrlen);
		ep->len = ai->ai_addrlen;
		ep->group = o->n_specs;
		freeaddrinfo(ai);
	}
	o->specs[o->n_specs++] = spec;
	return true;
}

bool
sockaddr_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4, *b4;
	const struct sockaddr_in6 *a6, *b6;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET) {
		a4 = (const struct sockaddr_in *)a;
		b4 = (const struct sockaddr_in *)b;
		return a4->sin_port == b4->sin_port &&
		    a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	}
	a6 = (const struct sockaddr_in6 *)a;
	b6 = (const struct sockaddr_in6 *)b;
	return a6->sin6_port == b6->sin6_port &&
	    memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

int
file_replace(const char *path, const char *text)
{
	char tmp[4096];
	FILE *fp;
	int rc = 0;

	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fp = fopen(tmp, "we");
	if (fp == NULL)
		return -errno;
	if (fputs(text, fp) == EOF)
		rc = -EIO;
	if (fclose(fp) != 0)
		rc = -EIO;
	if (rc == 0 && rename(tmp, path) != 0)
		rc = -errno;
	return rc;
}

void
progress_note(struct progress *p, uint64_t now)
{
	if (p->last_us != 0 && now - p->last_us > p->longest_us)
		p->longest_us = now - p->last_us;
	p->last_us = now;
}

void
progress_restart(struct progress *p, uint64_t now)
{
	p->longest_us = 0;
	if (p->last_us != 0)
		p->last_us = now;
}

bool
seqwin_add(struct seqwin *w, uint64_t seq)
{
	uint64_t *word, bit;

	if (seq >= w->next) {
		if (seq - w->next >= SEQ_WINDOW) {
			memset(w->seen, 0, sizeof(w->seen));
			w->next = seq;
		}
		for (; w->next <= seq; w->next++)
			w->seen[(w->next % SEQ_WINDOW) / 64] &= ~((uint64_t)1 << (w->next % 64));
	} else if (w->next - seq > SEQ_WINDOW) {
		w->duplicated++;
		return false;
	}
	word = &w->seen[(seq % SEQ_WINDOW) / 64];
	bit = (uint64_t)1 << (seq % 64);
	if (*word & bit) {
		w->duplicated++;
		return false;
	}
	*word |= bit;
	w->received++;
	return true;
}
