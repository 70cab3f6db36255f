/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SipHash-1-3.  Input words are little-endian whatever the machine, so that
 * two nodes agree on a digest.
 */
#include <string.h>

#include "ctsync/siphash.h"

#define ROTL(x, b)	(((x) << (b)) | ((x) >> (64 - (b))))

struct sipstate {
	uint64_t	 v0, v1, v2, v3;
};

static inline uint64_t
le64(const uint8_t *p)
{
	uint64_t	 v;

	memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline void
sipround(struct sipstate *s)
{
	s->v0 += s->v1;
	s->v1 = ROTL(s->v1, 13) ^ s->v0;
	s->v0 = ROTL(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = ROTL(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = ROTL(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = ROTL(s->v1, 17) ^ s->v2;
	s->v2 = ROTL(s->v2, 32);
}

static inline void
absorb(struct sipstate *s, uint64_t m)
{
	s->v3 ^= m;
	sipround(s);
	s->v0 ^= m;
}

uint64_t
siphash13(const struct sipkey *key, const void *data, size_t len)
{
	const uint8_t	*p = data;
	size_t		 left = len;
	struct sipstate	 s;
	uint8_t		 last[8] = { 0 };

	s.v0 = key->k[0] ^ 0x736f6d6570736575ULL;
	s.v1 = key->k[1] ^ 0x646f72616e646f6dULL;
	s.v2 = key->k[0] ^ 0x6c7967656e657261ULL;
	s.v3 = key->k[1] ^ 0x7465646279746573ULL;

	for (; left >= 8; left -= 8, p += 8)
		absorb(&s, le64(p));
	if (left > 0)
		memcpy(last, p, left);
	last[7] = (uint8_t)len;
	absorb(&s, le64(last));

	s.v2 ^= 0xff;
	sipround(&s);
	sipround(&s);
	sipround(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
