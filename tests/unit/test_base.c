/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The base layer: bounds-checked buffers, SipHash-1-3, chunked arrays, sets of
 * hashes.
 *
 * SipHash is compared with a second implementation that is parametric in its
 * rounds and proves itself by the 2-4 vector of the algorithm's paper, and
 * with values of CPython, whose hash of bytes is SipHash-1-3 under a zero key.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/buf.h"
#include "ctsync/carray.h"
#include "ctsync/hist.h"
#include "ctsync/siphash.h"
#include "ctsync/u64set.h"

static uint64_t	 rng = 1;

static uint64_t
rnd(void)
{
	uint64_t	 z = rng += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* --- readers -------------------------------------------------------------- */

static bool
get8(struct rbuf *r, void *v)
{
	return rbuf_u8(r, v);
}

static bool
get16(struct rbuf *r, void *v)
{
	return rbuf_u16(r, v);
}

static bool
get32(struct rbuf *r, void *v)
{
	return rbuf_u32(r, v);
}

static bool
get64(struct rbuf *r, void *v)
{
	return rbuf_u64(r, v);
}

static bool
get_bytes(struct rbuf *r, void *v)
{
	return rbuf_bytes(r, v, 5);
}

static bool
get_sub(struct rbuf *r, void *v)
{
	return rbuf_sub(r, 16, v);
}

static bool
get_skip(struct rbuf *r, void *v)
{
	(void)v;
	return rbuf_skip(r, 3);
}

static const struct {
	bool	(*get)(struct rbuf *, void *);
	size_t	 size;
} getters[] = {
	{ get8, 1 }, { get16, 2 }, { get32, 4 }, { get64, 8 }, { get_bytes, 5 },
	{ get_sub, 16 }, { get_skip, 3 }
};

/* With too little of anything: false, and neither reader nor output has moved. */
START_TEST(getters_at_each_length)
{
	size_t		 n, size = getters[_i].size;
	uint8_t		*exact;
	struct rbuf	 r;
	uint64_t	 out[4], before[4];

	memset(before, 0xa5, sizeof(before));
	for (n = 0; n <= size + 2; n++) {
		/* a block of just that size, so that a tool sees what reads past it */
		exact = malloc(n + (n == 0));
		ck_assert_ptr_nonnull(exact);
		memset(exact, 7, n);
		rbuf_init(&r, exact, n);
		memcpy(out, before, sizeof(out));
		ck_assert(getters[_i].get(&r, out) == (n >= size));
		if (n < size) {
			ck_assert_ptr_eq(r.p, exact);
			ck_assert_uint_eq(r.len, n);
			ck_assert_mem_eq(out, before, sizeof(out));
		} else {
			ck_assert_ptr_eq(r.p, exact + size);
			ck_assert_uint_eq(r.len, n - size);
		}
		free(exact);
	}
}
END_TEST

START_TEST(big_endian)
{
	static const uint8_t	 in[] = { 0x80, 1, 2, 3, 4, 5, 6, 0xff };
	struct rbuf		 r, sub;
	uint8_t			 a;
	uint16_t		 b;
	uint32_t		 c;
	uint64_t		 d;

	rbuf_init(&r, in, sizeof(in));
	ck_assert(rbuf_u64(&r, &d) && d == 0x80010203040506ffu && r.len == 0);
	rbuf_init(&r, in, sizeof(in));
	ck_assert(rbuf_u32(&r, &c) && c == 0x80010203u);
	ck_assert(rbuf_u16(&r, &b) && b == 0x0405);
	ck_assert(rbuf_u8(&r, &a) && a == 6);
	ck_assert(rbuf_u8(&r, &a) && a == 0xff);
	ck_assert(!rbuf_u8(&r, &a) && a == 0xff);
	/* a nested reader ends where it was told to, and the outer one goes on there */
	rbuf_init(&r, in, sizeof(in));
	ck_assert(rbuf_skip(&r, 1) && rbuf_sub(&r, 2, &sub));
	ck_assert(!rbuf_u32(&sub, &c));
	ck_assert(rbuf_u16(&sub, &b) && b == 0x0102 && sub.len == 0);
	ck_assert(rbuf_u8(&r, &a) && a == 3);
	/* lengths near the end of the address space are no way around the check */
	ck_assert(!rbuf_skip(&r, SIZE_MAX) && !rbuf_sub(&r, SIZE_MAX - 1, &sub) && r.len == 4);
}
END_TEST

START_TEST(rest_as_integer)
{
	static const uint8_t	 in[] = { 0xfe, 2, 3, 4, 5 };
	static const uint32_t	 want[] = { 0, 0xfe, 0xfe02, 0xfe0203, 0xfe020304 };
	struct rbuf		 r;
	uint32_t		 v;
	size_t			 n;

	for (n = 0; n <= sizeof(in); n++) {
		rbuf_init(&r, in, n);
		v = 77;
		if (n >= 1 && n <= 4) {
			ck_assert(rbuf_uint(&r, &v));
			ck_assert_uint_eq(v, want[n]);
			ck_assert_uint_eq(r.len, 0);
		} else {
			ck_assert(!rbuf_uint(&r, &v));
			ck_assert_uint_eq(v, 77);
			ck_assert_uint_eq(r.len, n);
		}
	}
}
END_TEST

/* --- writers -------------------------------------------------------------- */

START_TEST(what_is_written_is_read)
{
	uint8_t		 buf[64], bytes[5], got[5], a;
	uint16_t	 b;
	uint32_t	 c;
	uint64_t	 d, v;
	struct wbuf	 w;
	struct rbuf	 r;
	int		 i;

	for (i = 0; i < 1000; i++) {
		v = rnd();
		memcpy(bytes, &v, sizeof(bytes));
		wbuf_init(&w, buf, sizeof(buf));
		wbuf_u8(&w, (uint8_t)v);
		wbuf_u16(&w, (uint16_t)v);
		wbuf_u32(&w, (uint32_t)v);
		wbuf_u64(&w, v);
		wbuf_bytes(&w, bytes, sizeof(bytes));
		ck_assert(wbuf_ok(&w));
		ck_assert_uint_eq(w.len, 20);
		ck_assert_uint_eq(wbuf_room(&w), 44);
		rbuf_init(&r, buf, w.len);
		ck_assert(rbuf_u8(&r, &a) && a == (uint8_t)v);
		ck_assert(rbuf_u16(&r, &b) && b == (uint16_t)v);
		ck_assert(rbuf_u32(&r, &c) && c == (uint32_t)v);
		ck_assert(rbuf_u64(&r, &d) && d == v);
		ck_assert(rbuf_bytes(&r, got, sizeof(got)) && r.len == 0);
		ck_assert_mem_eq(got, bytes, sizeof(got));
	}
}
END_TEST

/* The first thing that does not fit ends it: nothing smaller slips in behind. */
START_TEST(writer_keeps_its_error)
{
	uint8_t		*buf;
	size_t		 cap;
	struct wbuf	 w;

	for (cap = 0; cap < 15; cap++) {
		buf = malloc(cap + (cap == 0));
		ck_assert_ptr_nonnull(buf);
		wbuf_init(&w, buf, cap);
		wbuf_u8(&w, 1);
		wbuf_u64(&w, 2);
		wbuf_u16(&w, 3);
		wbuf_u32(&w, 4);
		ck_assert(!wbuf_ok(&w));
		ck_assert_uint_eq(wbuf_room(&w), 0);
		ck_assert_uint_eq(w.len, cap < 1 ? 0 : cap < 9 ? 1 : cap < 11 ? 9 : 11);
		ck_assert_ptr_null(wbuf_take(&w, 0));
		free(buf);
	}
	/* full is no error */
	buf = malloc(3);
	ck_assert_ptr_nonnull(buf);
	wbuf_init(&w, buf, 3);
	wbuf_bytes(&w, "abc", 3);
	wbuf_bytes(&w, NULL, 0);
	ck_assert(wbuf_ok(&w) && wbuf_room(&w) == 0);
	wbuf_u8(&w, 1);
	ck_assert(!wbuf_ok(&w));
	free(buf);
}
END_TEST

START_TEST(shortest_integer)
{
	static const uint32_t	 edges[] = {
		0, 1, 0xff, 0x100, 0xffff, 0x10000, 0xffffff, 0x1000000, UINT32_MAX
	};
	static const size_t	 lens[] = { 1, 1, 1, 2, 2, 3, 3, 4, 4 };
	uint8_t			 buf[4];
	struct wbuf		 w;
	struct rbuf		 r;
	uint32_t		 v;
	size_t			 i;

	for (i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		wbuf_init(&w, buf, sizeof(buf));
		wbuf_uint(&w, edges[i]);
		ck_assert(wbuf_ok(&w));
		ck_assert_uint_eq(w.len, lens[i]);
		ck_assert_uint_eq(wbuf_uint_len(edges[i]), lens[i]);
		ck_assert(w.len == 1 || buf[0] != 0);
		rbuf_init(&r, buf, w.len);
		ck_assert(rbuf_uint(&r, &v));
		ck_assert_uint_eq(v, edges[i]);
	}
}
END_TEST

/* --- SipHash -------------------------------------------------------------- */

/* Straight from the description: bytes, one at a time, any number of rounds. */
static uint64_t
rotl(uint64_t x, unsigned b)
{
	return x << b | x >> (64 - b);
}

static void
reference_rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13);
		v[3] = rotl(v[3], 16);
		v[1] ^= v[0];
		v[3] ^= v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17);
		v[3] = rotl(v[3], 21);
		v[1] ^= v[2];
		v[3] ^= v[0];
		v[2] = rotl(v[2], 32);
	}
}

static uint64_t
reference(int c, int d, const struct sipkey *k, const uint8_t *p, size_t len)
{
	static const char	 seed[] = "somepseudorandomlygeneratedbytes";
	uint64_t		 v[4] = { 0 }, m;
	size_t			 block, i, at;
	int			 j;

	for (j = 0; j < 4; j++) {
		for (i = 0; i < 8; i++)
			v[j] = v[j] << 8 | (uint8_t)seed[8 * j + (int)i];
		v[j] ^= k->k[j % 2];
	}
	for (block = 0; block <= len / 8; block++) {
		for (m = 0, i = 0; i < 8; i++) {
			at = block * 8 + i;
			if (at < len)
				m |= (uint64_t)p[at] << (8 * i);
		}
		if (block == len / 8)
			m |= (uint64_t)(len & 0xff) << 56;
		v[3] ^= m;
		reference_rounds(v, c);
		v[0] ^= m;
	}
	v[2] ^= 0xff;
	reference_rounds(v, d);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

START_TEST(siphash_agrees)
{
	static const struct {
		size_t		 len;
		uint64_t	 hash;
	} cpython[] = {
		{ 1, 0x68a914128e01e473u },
		{ 7, 0x2f098ab0c751325au },
		{ 8, 0xead411e67ebe2eeau },
		{ 9, 0x75927f9d95124362u },
		{ 15, 0xf30eb725bb91c9eau },
		{ 16, 0x8972188433a5c5b7u },
		{ 63, 0x385d3e39e5f37359u },
		{ 200, 0x7176378efd9e8a23u }
	};
	struct sipkey	 k = { { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u } };
	struct sipkey	 zero = { { 0, 0 } };
	uint8_t		 in[300];
	size_t		 i, n;

	for (i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	ck_assert(reference(2, 4, &k, in, 15) == 0xa129ca6149be45e5u);
	for (i = 0; i < sizeof(cpython) / sizeof(cpython[0]); i++)
		ck_assert(siphash13(&zero, in, cpython[i].len) == cpython[i].hash);
	for (i = 0; i < 20; i++) {
		for (n = 0; n <= sizeof(in); n++)
			ck_assert(siphash13(&k, in, n) == reference(1, 3, &k, in, n));
		k.k[0] = rnd();
		k.k[1] = rnd();
		for (n = 0; n < sizeof(in); n++)
			in[n] = (uint8_t)rnd();
	}
}
END_TEST

/* Each bit of key and message, each trailing zero, any alignment: seen or not as it should be. */
START_TEST(siphash_is_sensitive)
{
	struct sipkey	 k = { { 1, 2 } }, k2;
	uint8_t		 in[64 + 8], moved[64 + 8];
	uint64_t	 h;
	size_t		 n, i;

	memset(in, 0, sizeof(in));
	for (n = 0; n < 64; n++) {
		h = siphash13(&k, in, n);
		ck_assert(h != siphash13(&k, in, n + 1));
		for (i = 0; i < n * 8; i++) {
			in[i / 8] ^= (uint8_t)(1u << (i % 8));
			ck_assert(siphash13(&k, in, n) != h);
			in[i / 8] ^= (uint8_t)(1u << (i % 8));
		}
	}
	for (i = 0; i < 128; i++) {
		k2 = k;
		k2.k[i / 64] ^= (uint64_t)1 << (i % 64);
		ck_assert(siphash13(&k2, in, 20) != siphash13(&k, in, 20));
	}
	for (i = 0; i < 64; i++)
		in[i] = (uint8_t)rnd();
	for (i = 0; i < 8; i++) {
		memcpy(moved + i, in, 64);
		ck_assert(siphash13(&k, moved + i, 64) == siphash13(&k, in, 64));
	}
}
END_TEST

/* --- chunked arrays ------------------------------------------------------- */

START_TEST(carray_grows_in_place)
{
	static const uint32_t	 at[] = { 0, 1, 16383, 16384, 16385, 50000, 131071, 131072 };
	const size_t		 n = sizeof(at) / sizeof(at[0]);
	struct carray		 a;
	uint32_t		*place[sizeof(at) / sizeof(at[0])];
	size_t			 i, j;

	carray_init(&a, 3 * sizeof(uint32_t));
	ck_assert_uint_eq(carray_bytes(&a), 0);
	for (i = 0; i < n; i++) {
		ck_assert_int_eq(carray_reserve(&a, at[i]), 0);
		place[i] = carray_at(&a, at[i]);
		for (j = 0; j < 3; j++)
			ck_assert_uint_eq(place[i][j], 0);
		place[i][0] = place[i][2] = at[i] + 1;
		for (j = 0; j <= i; j++) {
			ck_assert_ptr_eq(carray_at(&a, at[j]), place[j]);
			ck_assert_uint_eq(place[j][0], at[j] + 1);
			ck_assert_uint_eq(place[j][1], 0);
			ck_assert_uint_eq(place[j][2], at[j] + 1);
		}
	}
	/* by whole chunks: 131072 is the first of the ninth */
	ck_assert_uint_eq(carray_bytes(&a), (size_t)9 * 16384 * 12);
	ck_assert_int_eq(carray_reserve(&a, 5), 0);
	ck_assert_uint_eq(carray_bytes(&a), (size_t)9 * 16384 * 12);
	carray_fini(&a);
	ck_assert_uint_eq(carray_bytes(&a), 0);
	ck_assert_int_eq(carray_reserve(&a, 0), 0);
	place[0] = carray_at(&a, 0);
	ck_assert_uint_eq(place[0][0], 0);
	carray_fini(&a);
}
END_TEST

/* --- sets ----------------------------------------------------------------- */

#define MEMBERS	4000

static bool
naive_has(const uint64_t *v, size_t n, uint64_t x)
{
	while (n-- > 0)
		if (v[n] == x)
			return true;
	return false;
}

START_TEST(set_agrees_with_a_list)
{
	static uint64_t	 list[MEMBERS];
	struct u64set	 s = { 0 };
	size_t		 n = 0, i;
	uint64_t	 v;

	ck_assert(!u64set_has(&s, 5));
	while (n < MEMBERS) {
		/* few different low bits, so that chains collide and wrap around */
		v = rnd() % 3 == 0 ? rnd() : ((rnd() % 4096 + 2) << 32 | (250 + rnd() % 12));
		ck_assert(u64set_has(&s, v) == naive_has(list, n, v));
		ck_assert_int_eq(u64set_add(&s, v), 0);
		if (!naive_has(list, n, v))
			list[n++] = v;
		ck_assert(u64set_has(&s, v));
		ck_assert_uint_eq(s.count, n);
		ck_assert_int_eq(u64set_add(&s, list[rnd() % n]), 0);
		ck_assert_uint_eq(s.count, n);
	}
	for (i = 0; i < n; i++)
		ck_assert(u64set_has(&s, list[i]));
	for (i = 0; i < MEMBERS; i++) {
		v = rnd();
		ck_assert(u64set_has(&s, v) == naive_has(list, n, v));
	}
	u64set_clear(&s);
	ck_assert_ptr_null(s.slots);
	ck_assert_uint_eq(s.count, 0);
	ck_assert(!u64set_has(&s, list[0]));
	ck_assert_int_eq(u64set_add(&s, list[1]), 0);
	ck_assert(u64set_has(&s, list[1]) && !u64set_has(&s, list[0]));
	u64set_clear(&s);
}
END_TEST

/* Zero marks an empty slot inside; as a member it must not get lost. */
START_TEST(set_holds_zero)
{
	struct u64set	 s = { 0 };

	ck_assert(!u64set_has(&s, 0));
	ck_assert_int_eq(u64set_add(&s, 0), 0);
	ck_assert(u64set_has(&s, 0));
	ck_assert_uint_eq(s.count, 1);
	ck_assert(!u64set_has(&s, 2));
	u64set_clear(&s);
	ck_assert(!u64set_has(&s, 0));
}
END_TEST

/* --- hist ------------------------------------------------------------------ */

START_TEST(hist_percentiles)
{
	static struct hist	 h;
	struct hist_summary	 s;
	unsigned		 i;

	memset(&h, 0, sizeof(h));
	ck_assert(!hist_get(&h, &s));
	ck_assert(s.count == 0 && s.max == 0);
	for (i = 1; i <= 1000; i++)
		hist_add(&h, 5000000, i * 100, 1);
	ck_assert(hist_get(&h, &s));
	ck_assert_uint_eq(s.count, 1000);
	ck_assert_uint_eq(s.max, 100000);
	/* never too low, an eighth too high at most */
	ck_assert(s.median >= 50000 && s.median <= 50000 * 9 / 8);
	ck_assert(s.p99 >= 99000 && s.p99 <= 100000);
	/* extremes have a class, and weights count */
	hist_add(&h, 5000000, UINT32_MAX, 1);
	hist_add(&h, 5000000, 0, 2000);
	ck_assert(hist_get(&h, &s));
	ck_assert_uint_eq(s.max, UINT32_MAX);
	ck_assert_uint_eq(s.median, 0);
	ck_assert_uint_eq(s.count, 3001);
}
END_TEST

/* For each value: a summary of it alone is itself, as the greatest, and not below it. */
START_TEST(hist_classes)
{
	static struct hist	 h;
	struct hist_summary	 s;
	uint32_t		 v;
	uint64_t		 now = 1;

	for (v = 1; v < UINT32_MAX / 2; v += 1 + v / 50) {
		memset(&h, 0, sizeof(h));
		hist_add(&h, now, v, 3);
		hist_add(&h, now, v * 2, 1);
		ck_assert(hist_get(&h, &s));
		ck_assert(s.median >= v && s.median - v <= v / 8);
		ck_assert_uint_eq(s.max, v * 2);
	}
}
END_TEST

/* Six slots of ten seconds; nothing newer, nothing forgotten. */
START_TEST(hist_window)
{
	static struct hist	 h;
	struct hist_summary	 s;

	memset(&h, 0, sizeof(h));
	hist_add(&h, 3000000, 100, 1);
	hist_add(&h, 52000000, 200, 1);
	ck_assert(hist_get(&h, &s) && s.count == 2);
	hist_add(&h, 61000000, 50, 1);
	ck_assert(hist_get(&h, &s) && s.count == 2 && s.max == 200);
	hist_add(&h, 1000000000000u, 7, 1);
	ck_assert(hist_get(&h, &s) && s.count == 1 && s.max == 7 && s.median == 7);
	hist_add(&h, 999000000000u, 8, 1);	/* a late one counts as now */
	ck_assert(hist_get(&h, &s) && s.count == 2);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("base");
	TCase	*tc = tcase_create("base");
	SRunner	*sr;
	int	 failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, getters_at_each_length, 0,
	    (int)(sizeof(getters) / sizeof(getters[0])));
	tcase_add_test(tc, big_endian);
	tcase_add_test(tc, rest_as_integer);
	tcase_add_test(tc, what_is_written_is_read);
	tcase_add_test(tc, writer_keeps_its_error);
	tcase_add_test(tc, shortest_integer);
	tcase_add_test(tc, siphash_agrees);
	tcase_add_test(tc, siphash_is_sensitive);
	tcase_add_test(tc, carray_grows_in_place);
	tcase_add_test(tc, set_agrees_with_a_list);
	tcase_add_test(tc, set_holds_zero);
	tcase_add_test(tc, hist_percentiles);
	tcase_add_test(tc, hist_classes);
	tcase_add_test(tc, hist_window);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
