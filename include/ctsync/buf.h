/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounds-checked readers and writers for bytes that cross a trust boundary.
 *
 * A get either consumes what it names and returns true, or returns false and
 * leaves both the reader and its output alone.  A nested object gets a reader
 * of its own (rbuf_sub).  Adders collect the error: after the first one that
 * does not fit every further one is ignored, and one wbuf_ok() at the end
 * tells.  Everything is big-endian.  Neither owns its memory.
 */
#ifndef CTSYNC_BUF_H
#define CTSYNC_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rbuf {
	const uint8_t	*p;
	size_t		 len;		/* bytes left */
};

struct wbuf {
	uint8_t		*base;
	size_t		 len;		/* bytes written */
	size_t		 cap;
	bool		 failed;	/* something did not fit */
};

static inline void
rbuf_init(struct rbuf *r, const void *p, size_t len)
{
	r->p = p;
	r->len = len;
}

static inline bool
rbuf_skip(struct rbuf *r, size_t n)
{
	if (n > r->len)
		return false;
	r->p += n;
	r->len -= n;
	return true;
}

static inline bool
rbuf_bytes(struct rbuf *r, void *out, size_t n)
{
	if (n > r->len)
		return false;
	memcpy(out, r->p, n);
	r->p += n;
	r->len -= n;
	return true;
}

/* A window of n bytes as a reader of its own. */
static inline bool
rbuf_sub(struct rbuf *r, size_t n, struct rbuf *sub)
{
	if (n > r->len)
		return false;
	sub->p = r->p;
	sub->len = n;
	r->p += n;
	r->len -= n;
	return true;
}

static inline bool
rbuf_u8(struct rbuf *r, uint8_t *v)
{
	if (r->len < 1)
		return false;
	*v = r->p[0];
	r->p += 1;
	r->len -= 1;
	return true;
}

static inline bool
rbuf_u16(struct rbuf *r, uint16_t *v)
{
	if (r->len < 2)
		return false;
	*v = (uint16_t)((unsigned)r->p[0] << 8 | r->p[1]);
	r->p += 2;
	r->len -= 2;
	return true;
}

static inline bool
rbuf_u32(struct rbuf *r, uint32_t *v)
{
	if (r->len < 4)
		return false;
	*v = (uint32_t)r->p[0] << 24 | (uint32_t)r->p[1] << 16 |
	    (uint32_t)r->p[2] << 8 | r->p[3];
	r->p += 4;
	r->len -= 4;
	return true;
}

static inline bool
rbuf_u64(struct rbuf *r, uint64_t *v)
{
	struct rbuf	 t = *r;
	uint32_t	 hi, lo;

	if (!rbuf_u32(&t, &hi) || !rbuf_u32(&t, &lo))
		return false;
	*v = (uint64_t)hi << 32 | lo;
	*r = t;
	return true;
}

/* A big-endian integer that takes up all that is left, 1 to 8 bytes. */
static inline bool
rbuf_uint64(struct rbuf *r, uint64_t *v)
{
	uint64_t	 x = 0;
	size_t		 i;

	if (r->len < 1 || r->len > 8)
		return false;
	for (i = 0; i < r->len; i++)
		x = x << 8 | r->p[i];
	r->p += r->len;
	r->len = 0;
	*v = x;
	return true;
}

/* The same, 1 to 4 bytes. */
static inline bool
rbuf_uint(struct rbuf *r, uint32_t *v)
{
	uint64_t	 x;

	if (r->len > 4 || !rbuf_uint64(r, &x))
		return false;
	*v = (uint32_t)x;
	return true;
}

static inline void
wbuf_init(struct wbuf *w, void *base, size_t cap)
{
	w->base = base;
	w->len = 0;
	w->cap = cap;
	w->failed = false;
}

static inline bool
wbuf_ok(const struct wbuf *w)
{
	return !w->failed;
}

static inline size_t
wbuf_room(const struct wbuf *w)
{
	return w->failed ? 0 : w->cap - w->len;
}

/* n bytes to be filled in by the caller, or NULL when they do not fit. */
static inline uint8_t *
wbuf_take(struct wbuf *w, size_t n)
{
	uint8_t	*p;

	if (w->failed || n > w->cap - w->len) {
		w->failed = true;
		return NULL;
	}
	p = w->base + w->len;
	w->len += n;
	return p;
}

static inline void
wbuf_bytes(struct wbuf *w, const void *p, size_t n)
{
	uint8_t	*q = wbuf_take(w, n);

	if (q != NULL && n > 0)
		memcpy(q, p, n);
}

static inline void
wbuf_u8(struct wbuf *w, uint8_t v)
{
	uint8_t	*q = wbuf_take(w, 1);

	if (q != NULL)
		q[0] = v;
}

static inline void
wbuf_u16(struct wbuf *w, uint16_t v)
{
	uint8_t	*q = wbuf_take(w, 2);

	if (q != NULL) {
		q[0] = (uint8_t)(v >> 8);
		q[1] = (uint8_t)v;
	}
}

static inline void
wbuf_u32(struct wbuf *w, uint32_t v)
{
	uint8_t	*q = wbuf_take(w, 4);

	if (q != NULL) {
		q[0] = (uint8_t)(v >> 24);
		q[1] = (uint8_t)(v >> 16);
		q[2] = (uint8_t)(v >> 8);
		q[3] = (uint8_t)v;
	}
}

static inline void
wbuf_u64(struct wbuf *w, uint64_t v)
{
	uint8_t	*q = wbuf_take(w, 8);
	int	 i;

	if (q != NULL)
		for (i = 0; i < 8; i++)
			q[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* The shortest big-endian form of v, 1 to 4 bytes. */
static inline void
wbuf_uint(struct wbuf *w, uint32_t v)
{
	if (v > 0xffffff)
		wbuf_u8(w, (uint8_t)(v >> 24));
	if (v > 0xffff)
		wbuf_u8(w, (uint8_t)(v >> 16));
	if (v > 0xff)
		wbuf_u8(w, (uint8_t)(v >> 8));
	wbuf_u8(w, (uint8_t)v);
}

/* Length of what wbuf_uint() writes, in bytes. */
static inline size_t
wbuf_uint_len(uint32_t v)
{
	return v > 0xffffff ? 4 : v > 0xffff ? 3 : v > 0xff ? 2 : 1;
}

/* The same of 64 bits: 1 to 8 bytes. */
static inline size_t
wbuf_uint64_len(uint64_t v)
{
	return v > UINT32_MAX ? 4 + wbuf_uint_len((uint32_t)(v >> 32)) : wbuf_uint_len((uint32_t)v);
}

static inline void
wbuf_uint64(struct wbuf *w, uint64_t v)
{
	if (v <= UINT32_MAX) {
		wbuf_uint(w, (uint32_t)v);
		return;
	}
	wbuf_uint(w, (uint32_t)(v >> 32));
	wbuf_u32(w, (uint32_t)v);
}

#endif
