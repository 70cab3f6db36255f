/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records: each kind is written and read back, has the kind and the size that
 * doc/wire.md gives it, and is refused when it is shorter or longer.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/wire.h"
#include "rnd.h"

/* Any of the records; zeroed before it is filled, so that bytes compare. */
union any {
	struct wire_here	 here;
	struct wire_back	 back;
	struct wire_start	 start;
	struct wire_join	 join;
	struct wire_digest	 digest;
	struct wire_doubt	 doubt;
	struct wire_echoed	 echoed;
	struct wire_dst		 dst;
	struct wire_ack		 ack;
	struct wire_request	 request;
	struct wire_report	 report;
	struct wire_snap	 snap;
	struct wire_retell	 retell;
	struct wire_check	 check;
	struct wire_mend	 mend;
	struct wire_probe	 probe;
	struct wire_claim	 claim;
	struct wire_versions	 versions;
	struct wire_boot	 boot;
	uint64_t		 u64;
	uint32_t		 u32;
	uint8_t			 bytes[16];
};


static void
setup(void)
{
	rnd_seed(30);
}

/* --- one row for each kind ------------------------------------------------ */

static void
random_pos(struct wire_pos *p)
{
	p->v[0] = rnd_u64();
	p->v[1] = rnd_u64();
}

static void
put_pos(struct wbuf *w, union any *a)
{
	random_pos(&a->here.live);
	a->here.version = rnd_u64();
	wire_put_pos(w, &a->here);
}

static bool
get_pos(struct rbuf *r, union any *a)
{
	return wire_get_pos(r, &a->here);
}

static void
put_back(struct wbuf *w, union any *a)
{
	random_pos(&a->back.b);
	random_pos(&a->back.t);
	wire_put_back(w, &a->back);
}

static bool
get_back(struct rbuf *r, union any *a)
{
	return wire_get_back(r, &a->back);
}

static void
put_start(struct wbuf *w, union any *a)
{
	a->start.nonce = rnd_u64();
	a->start.flags = (uint8_t)rnd_u64();
	random_pos(&a->start.j);
	wire_put_start(w, &a->start);
}

static bool
get_start(struct rbuf *r, union any *a)
{
	return wire_get_start(r, &a->start);
}

static void
put_horizon(struct wbuf *w, union any *a)
{
	a->u64 = rnd_u64();
	wire_put_horizon(w, a->u64);
}

static bool
get_horizon(struct rbuf *r, union any *a)
{
	return wire_get_u64(r, &a->u64);
}

static void
put_join(struct wbuf *w, union any *a)
{
	a->join.stream = (uint32_t)rnd_u64();
	a->join.seq = rnd_u64();
	wire_put_join(w, &a->join);
}

static bool
get_join(struct rbuf *r, union any *a)
{
	return wire_get_join(r, &a->join);
}

static void
put_digest(struct wbuf *w, union any *a)
{
	a->digest.sum = rnd_u64();
	a->digest.flows = (uint32_t)rnd_u64();
	wire_put_digest(w, &a->digest);
}

static bool
get_digest(struct rbuf *r, union any *a)
{
	return wire_get_digest(r, &a->digest);
}

static void
put_doubt(struct wbuf *w, union any *a)
{
	a->doubt.kernel_us = (uint32_t)rnd_u64();
	a->doubt.pending_us = (uint32_t)rnd_u64();
	a->doubt.flags = (uint8_t)rnd_u64();
	a->doubt.clock_us = (uint32_t)rnd_u64();
	wire_put_doubt(w, &a->doubt);
}

static bool
get_doubt(struct rbuf *r, union any *a)
{
	return wire_get_doubt(r, &a->doubt);
}

static void
put_echoed(struct wbuf *w, union any *a)
{
	a->echoed.id = rnd_u64();
	a->echoed.epoch = rnd_u64();
	a->echoed.stamp = rnd_u64();
	a->echoed.held_us = (uint32_t)rnd_u64();
	wire_put_echoed(w, &a->echoed);
}

static bool
get_echoed(struct rbuf *r, union any *a)
{
	return wire_get_echoed(r, &a->echoed);
}

static void
put_dst(struct wbuf *w, union any *a)
{
	a->dst.id = rnd_u64();
	a->dst.epoch = rnd_u64();
	wire_put_dst(w, &a->dst);
}

static bool
get_dst(struct rbuf *r, union any *a)
{
	return wire_get_dst(r, &a->dst);
}

static void
put_probe(struct wbuf *w, union any *a)
{
	a->probe.flags = (uint8_t)rnd_u64();
	a->probe.term = (uint32_t)rnd_u64() & WIRE_TERM_MAX;
	wire_put_probe(w, &a->probe);
}

static bool
get_probe(struct rbuf *r, union any *a)
{
	return wire_get_probe(r, &a->probe);
}

static void
put_claim(struct wbuf *w, union any *a)
{
	random_pos(&a->claim.pos);
	a->claim.term = ((uint32_t)rnd_u64() & WIRE_TERM_MAX) | 1;
	wire_claim_clear(&a->claim, 3, (uint8_t)rnd_u64());
	wire_claim_add(&a->claim, rnd_u64());
	wire_claim_add(&a->claim, rnd_u64());
	wire_put_claim(w, &a->claim);
}

static bool
get_claim(struct rbuf *r, union any *a)
{
	return wire_get_claim(r, &a->claim);
}

static void
put_request(struct wbuf *w, union any *a)
{
	a->request.nonce = rnd_u64();
	a->request.epoch = rnd_u64();
	random_pos(&a->request.a);
	random_pos(&a->request.t);
	a->request.flags = (uint8_t)rnd_u64();
	wire_put_request(w, &a->request);
}

static bool
get_request(struct rbuf *r, union any *a)
{
	return wire_get_request(r, &a->request);
}

static void
put_restart(struct wbuf *w, union any *a)
{
	a->u32 = (uint32_t)rnd_u64();
	wire_put_restart(w, a->u32);
}

static bool
get_restart(struct rbuf *r, union any *a)
{
	return wire_get_u32(r, &a->u32);
}

static void
put_report(struct wbuf *w, union any *a)
{
	a->report.stamp = rnd_u64();
	a->report.flags = (uint8_t)rnd_u64();
	a->report.verified_ms = (uint32_t)rnd_u64();
	a->report.lag_us = (uint32_t)rnd_u64();
	a->report.lag_p99_us = (uint32_t)rnd_u64();
	a->report.lag_max_us = (uint32_t)rnd_u64();
	a->report.flows = (uint32_t)rnd_u64();
	wire_put_report(w, &a->report);
}

static bool
get_report(struct rbuf *r, union any *a)
{
	return wire_get_report(r, &a->report);
}

static void
put_versions(struct wbuf *w, union any *a)
{
	a->versions.min = (uint8_t)rnd_u64();
	a->versions.max = (uint8_t)rnd_u64();
	a->versions.suites = (uint32_t)rnd_u64();
	wire_put_versions(w, &a->versions);
}

static bool
get_versions(struct rbuf *r, union any *a)
{
	return wire_get_versions(r, &a->versions);
}

static void
put_boot(struct wbuf *w, union any *a)
{
	uint64_t	 v = rnd_u64();

	memcpy(a->boot.boot_id + 4, &v, sizeof(v));
	a->boot.netns = rnd_u64();
	wire_put_boot(w, &a->boot);
}

static bool
get_boot(struct rbuf *r, union any *a)
{
	return wire_get_boot(r, &a->boot);
}

static void
put_challenge(struct wbuf *w, union any *a)
{
	uint64_t	 v = rnd_u64();

	memcpy(a->bytes + 3, &v, sizeof(v));
	wire_put_bytes(w, WIRE_CHALLENGE, a->bytes, WIRE_CHALLENGE_BYTES);
}

static bool
get_challenge(struct rbuf *r, union any *a)
{
	return wire_get_bytes(r, a->bytes, WIRE_CHALLENGE_BYTES);
}

static void
put_snap(struct wbuf *w, union any *a)
{
	a->snap.id = rnd_u64();
	a->snap.nonce = rnd_u64();
	wire_put_snap(w, &a->snap);
}

static bool
get_snap(struct rbuf *r, union any *a)
{
	return wire_get_snap(r, &a->snap);
}

static void
put_retell(struct wbuf *w, union any *a)
{
	a->retell.of.id = rnd_u64();
	a->retell.of.nonce = rnd_u64();
	a->retell.what = (uint8_t)(1 + rnd_u64() % 4);
	wire_put_retell(w, &a->retell);
}

static bool
get_retell(struct rbuf *r, union any *a)
{
	return wire_get_retell(r, &a->retell);
}

static void
put_check(struct wbuf *w, union any *a)
{
	a->check.nonce = rnd_u64();
	a->check.stream = (uint32_t)rnd_u64();
	wire_put_check(w, &a->check);
}

static bool
get_check(struct rbuf *r, union any *a)
{
	return wire_get_check(r, &a->check);
}

static void
put_mend(struct wbuf *w, union any *a)
{
	unsigned	 i;

	a->mend.of.nonce = rnd_u64();
	a->mend.of.stream = (uint32_t)rnd_u64();
	for (i = 0; i < sizeof(a->mend.map); i++)
		a->mend.map[i] = (uint8_t)rnd_u64();
	wire_put_mend(w, &a->mend);
}

static bool
get_mend(struct rbuf *r, union any *a)
{
	return wire_get_mend(r, &a->mend);
}

static const struct {
	uint8_t	 kind;
	size_t	 size;		/* of the body, by doc/wire.md */
	void	(*put)(struct wbuf *, union any *);
	bool	(*get)(struct rbuf *, union any *);
} kinds[] = {
	{ 0x83, 24, put_pos, get_pos },
	{ 0x84, 32, put_back, get_back },
	{ 0x85, 25, put_start, get_start },
	{ 0x86, 8, put_horizon, get_horizon },
	{ 0x87, 12, put_join, get_join },
	{ 0x88, 12, put_digest, get_digest },
	{ 0x09, 13, put_doubt, get_doubt },
	{ 0x0a, 28, put_echoed, get_echoed },
	{ 0x0b, 16, put_snap, get_snap },
	{ 0x0d, 17, put_retell, get_retell },
	{ 0x21, 5, put_probe, get_probe },
	{ 0x23, 49, put_request, get_request },
	{ 0x24, 4, put_restart, get_restart },
	{ 0x25, 29, put_report, get_report },
	{ 0x2a, 30, put_claim, get_claim },
	{ 0x27, 12, put_check, get_check },
	{ 0x28, 140, put_mend, get_mend },
	{ 0xc0, 6, put_versions, get_versions },
	{ 0xc2, 16, put_dst, get_dst },
	{ 0xc3, 16, put_challenge, get_challenge },
	{ 0x46, 24, put_boot, get_boot }
};
#define NKINDS	((int)(sizeof(kinds) / sizeof(kinds[0])))

START_TEST(round_trip)
{
	uint8_t		 buf[256], kind;
	union any	 in, out;
	struct wbuf	 w;
	struct rbuf	 r, body;
	int		 i;

	for (i = 0; i < 1000; i++) {
		memset(&in, 0, sizeof(in));
		memset(&out, 0, sizeof(out));
		wbuf_init(&w, buf, sizeof(buf));
		kinds[_i].put(&w, &in);
		ck_assert(wbuf_ok(&w));
		ck_assert_uint_eq(w.len, WIRE_RECORD_HEAD + kinds[_i].size);
		ck_assert_uint_eq(buf[0], kinds[_i].kind);
		ck_assert_uint_eq((unsigned)buf[1] << 8 | buf[2], kinds[_i].size);
		rbuf_init(&r, buf, w.len);
		ck_assert(wire_next(&r, &kind, &body));
		ck_assert_uint_eq(kind, kinds[_i].kind);
		ck_assert_uint_eq(r.len, 0);
		ck_assert(kinds[_i].get(&body, &out));
		ck_assert_uint_eq(body.len, 0);
		ck_assert_mem_eq(&in, &out, sizeof(in));
	}
}
END_TEST

/* Any other size of the body is an error, in a block of just that size. */
START_TEST(wrong_sizes)
{
	uint8_t		 buf[256], *exact;
	union any	 in, out;
	struct wbuf	 w;
	struct rbuf	 r;
	size_t		 n;

	memset(&in, 0, sizeof(in));
	memset(buf, 0, sizeof(buf));
	wbuf_init(&w, buf, sizeof(buf));
	kinds[_i].put(&w, &in);
	for (n = 0; n <= kinds[_i].size + 4; n++) {
		exact = malloc(n + (n == 0));
		ck_assert_ptr_nonnull(exact);
		memcpy(exact, buf + WIRE_RECORD_HEAD, n);
		rbuf_init(&r, exact, n);
		ck_assert(kinds[_i].get(&r, &out) == (n == kinds[_i].size));
		free(exact);
	}
}
END_TEST

/* A record that is cut, or claims more than there is, is none, and nothing moves. */
START_TEST(cut_records)
{
	uint8_t		 buf[256], kind, *exact;
	union any	 in;
	struct wbuf	 w;
	struct rbuf	 r, body = { NULL, 77 };
	size_t		 n;

	memset(&in, 0, sizeof(in));
	wbuf_init(&w, buf, sizeof(buf));
	kinds[_i].put(&w, &in);
	for (n = 0; n < w.len; n++) {
		exact = malloc(n + (n == 0));
		ck_assert_ptr_nonnull(exact);
		memcpy(exact, buf, n);
		rbuf_init(&r, exact, n);
		ck_assert(!wire_next(&r, &kind, &body));
		ck_assert_uint_eq(r.len, n);
		ck_assert_ptr_eq(r.p, exact);
		ck_assert_uint_eq(body.len, 77);
		free(exact);
	}
	/* a writer that is too small says so */
	for (n = 0; n < w.len; n++) {
		struct wbuf	 small;

		exact = malloc(n + (n == 0));
		ck_assert_ptr_nonnull(exact);
		wbuf_init(&small, exact, n);
		kinds[_i].put(&small, &in);
		ck_assert(!wbuf_ok(&small));
		free(exact);
	}
}
END_TEST

START_TEST(one_after_another)
{
	uint8_t		 buf[1024], kind;
	union any	 in[NKINDS], out;
	struct wbuf	 w;
	struct rbuf	 r, body;
	int		 i;

	memset(in, 0, sizeof(in));
	wbuf_init(&w, buf, sizeof(buf));
	for (i = 0; i < NKINDS; i++)
		kinds[i].put(&w, &in[i]);
	/* one that nobody knows, without a body */
	wire_put_head(&w, 0x7f, 0);
	ck_assert(wbuf_ok(&w));
	rbuf_init(&r, buf, w.len);
	for (i = 0; i < NKINDS; i++) {
		memset(&out, 0, sizeof(out));
		ck_assert(wire_next(&r, &kind, &body));
		ck_assert_uint_eq(kind, kinds[i].kind);
		ck_assert(kinds[i].get(&body, &out));
		ck_assert_mem_eq(&in[i], &out, sizeof(out));
	}
	ck_assert(wire_next(&r, &kind, &body));
	ck_assert(kind == 0x7f && body.len == 0);
	ck_assert(!wire_next(&r, &kind, &body));
	ck_assert_uint_eq(r.len, 0);
}
END_TEST

/* --- acknowledgements ----------------------------------------------------- */

START_TEST(acks)
{
	uint8_t		 buf[256], kind;
	struct wire_ack	 in, out;
	struct wbuf	 w;
	struct rbuf	 r, body, cut;
	uint8_t		 n, i;
	size_t		 len;

	for (n = 0; n <= WIRE_GAPS_MAX; n++) {
		memset(&in, 0, sizeof(in));
		memset(&out, 0, sizeof(out));
		in.stream = (uint32_t)rnd_u64();
		in.seq = rnd_u64();
		in.ngaps = n;
		for (i = 0; i < n; i++) {
			in.gaps[i].first = (uint16_t)rnd_u64();
			in.gaps[i].count = (uint16_t)rnd_u64();
		}
		wbuf_init(&w, buf, sizeof(buf));
		wire_put_ack(&w, &in);
		ck_assert(wbuf_ok(&w));
		ck_assert_uint_eq(w.len, WIRE_RECORD_HEAD + 12 + 4 * (size_t)n);
		ck_assert_uint_eq(buf[0], 0x22);
		rbuf_init(&r, buf, w.len);
		ck_assert(wire_next(&r, &kind, &body));
		/* every other length: a whole number of gaps behind the head, or nothing */
		for (len = 0; len <= body.len; len++) {
			rbuf_init(&cut, body.p, len);
			ck_assert(wire_get_ack(&cut, &out) == (len >= 12 && len % 4 == 0));
		}
		ck_assert_mem_eq(&in, &out, sizeof(in));
	}
}
END_TEST

START_TEST(too_many_gaps)
{
	uint8_t		 body[12 + 4 * (WIRE_GAPS_MAX + 1)] = { 0 };
	struct wire_ack	*a = malloc(sizeof(*a));
	struct rbuf	 r;

	ck_assert_ptr_nonnull(a);
	rbuf_init(&r, body, sizeof(body) - 4);
	ck_assert(wire_get_ack(&r, a));
	ck_assert_uint_eq(a->ngaps, WIRE_GAPS_MAX);
	rbuf_init(&r, body, sizeof(body));
	ck_assert(!wire_get_ack(&r, a));
	free(a);
}
END_TEST

/* Sums are as many as there are, within the buckets; what RETELL says is one of four things. */
START_TEST(sums_and_retell)
{
	static struct wire_sums	 in = { { 1, 2 }, 1000, 24, { 0 } }, out;
	uint8_t			 buf[2048], kind;
	struct wbuf		 w;
	struct rbuf		 r, body;
	unsigned		 i;
	static const struct wire_retell	 t = { { 1, 2 }, 5 }, t0 = { { 1, 2 }, 0 };
	struct wire_retell	 tout;

	for (i = 0; i < in.n; i++)
		in.sum[i] = rnd_u64();
	wbuf_init(&w, buf, sizeof(buf));
	wire_put_sums(&w, &in);
	rbuf_init(&r, buf, w.len);
	ck_assert(wire_next(&r, &kind, &body) && kind == WIRE_SUMS && body.len == 18 + 8 * 24);
	ck_assert(wire_get_sums(&body, &out));
	ck_assert(out.of.id == 1 && out.of.nonce == 2 && out.first == 1000 && out.n == 24);
	ck_assert_mem_eq(out.sum, in.sum, 24 * sizeof(out.sum[0]));
	for (i = 0; i < 18 + 8 * 24 + 8; i++) {
		rbuf_init(&body, buf + WIRE_RECORD_HEAD, i);
		ck_assert(wire_get_sums(&body, &out) == (i >= 26 && i % 8 == 2 && i <= 18 + 8 * 24));
	}
	in.first = 1001;		/* one bucket too far */
	wbuf_init(&w, buf, sizeof(buf));
	wire_put_sums(&w, &in);
	rbuf_init(&body, buf + WIRE_RECORD_HEAD, w.len - WIRE_RECORD_HEAD);
	ck_assert(!wire_get_sums(&body, &out));
	in.first = 0;			/* more than a record may have */
	in.n = WIRE_SUMS_MAX;
	wbuf_init(&w, buf, sizeof(buf));
	wire_put_sums(&w, &in);
	wbuf_u64(&w, 7);
	rbuf_init(&body, buf + WIRE_RECORD_HEAD, w.len - WIRE_RECORD_HEAD);
	ck_assert(!wire_get_sums(&body, &out));
	wbuf_init(&w, buf, sizeof(buf));
	wire_put_retell(&w, &t);
	wire_put_retell(&w, &t0);
	rbuf_init(&r, buf, w.len);
	for (i = 0; i < 2; i++)
		ck_assert(wire_next(&r, &kind, &body) && !wire_get_retell(&body, &tout));
}
END_TEST

/* --- to the byte ---------------------------------------------------------- */

/* A term has 31 bits, and a claim has one. */
START_TEST(bounds_of_terms)
{
	struct wire_probe	 p = { 0, WIRE_TERM_MAX };
	struct wire_claim	 c = { .term = WIRE_TERM_MAX }, in;
	uint8_t			 buf[WIRE_CLAIM_SIZE(0) + 8];
	struct wbuf		 w;
	struct rbuf		 r;
	unsigned		 i;

	for (i = 0; i < 2; i++) {
		p.term += i;
		wbuf_init(&w, buf, sizeof(buf));
		wire_put_probe(&w, &p);
		rbuf_init(&r, buf + WIRE_RECORD_HEAD, w.len - WIRE_RECORD_HEAD);
		ck_assert(wire_get_probe(&r, &p) == (i == 0));
	}
	for (i = 0; i < 3; i++) {
		c.term = i == 1 ? 0 : i == 2 ? WIRE_TERM_MAX + 1 : 1;
		wbuf_init(&w, buf, sizeof(buf));
		wire_put_claim(&w, &c);
		rbuf_init(&r, buf + WIRE_RECORD_HEAD, w.len - WIRE_RECORD_HEAD);
		ck_assert(wire_get_claim(&r, &in) == (i == 0));
	}
}
END_TEST

/* The filter of a claim: sizes that are none, and what it names. */
START_TEST(keys_of_claims)
{
	static const uint32_t	 keys[] = { 1, 4, 5, 33, 100, 128, 500 };
	struct wire_claim	 c = { .term = 1 }, in;
	uint8_t			 buf[512] = { 0 };
	uint64_t		 named[500];
	struct rbuf		 r;
	uint32_t		 chance, k;
	size_t			 i, n;

	buf[19] = 1;
	buf[21] = 0;
	for (n = 0; n <= WIRE_CLAIM_FILTER + 1; n++) {
		buf[21] = (uint8_t)(n / 8);
		rbuf_init(&r, buf, 22 + n);
		ck_assert_int_eq(wire_get_claim(&r, &in), n == 0 || n == 8 || n == 16 || n == 32 ||
		    n == 64 || n == 128 || n == 256);
	}
	wire_claim_clear(&c, 0, 7);
	ck_assert_uint_eq(c.nfilter, 0);
	wire_claim_add(&c, 1);
	ck_assert(!wire_claim_has(&c, 1));
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		wire_claim_clear(&c, keys[i], (uint8_t)rnd_u64());
		for (k = 0; k < keys[i]; k++)
			wire_claim_add(&c, named[k] = rnd_u64());
		for (k = 0; k < keys[i]; k++)
			ck_assert(wire_claim_has(&c, named[k]));
		for (chance = k = 0; k < 10000; k++)
			chance += wire_claim_has(&c, rnd_u64());
		ck_assert_uint_lt(chance, keys[i] <= 128 ? 100 : 2500);
	}
}
END_TEST

START_TEST(known_bytes)
{
	static const uint8_t	 want[] = {
		0x22, 0, 16, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 2,
		0x85, 0, 25, 0, 0, 0, 0, 0, 0, 0, 7, 3, 0, 0, 0, 0, 0, 0, 1, 0,
		0, 0, 0, 0, 0, 0, 0, 2,
		0x25, 0, 29, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 8,
		0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 4
	};
	struct wire_ack		 a = { .stream = 0x01020304, .seq = 9, .ngaps = 1,
				    .gaps = { { 1, 2 } } };
	struct wire_start	 s = { 7, WIRE_START_NEWGEN | WIRE_START_FULL,
				    { { 0x100, 2 } } };
	struct wire_report	 p = { 5, WIRE_REPORT_IN_SYNC, WIRE_NEVER, 8, 9, 256, 4 };
	uint8_t			 buf[128];
	struct wbuf		 w;

	wbuf_init(&w, buf, sizeof(buf));
	wire_put_ack(&w, &a);
	wire_put_start(&w, &s);
	wire_put_report(&w, &p);
	ck_assert_uint_eq(w.len, sizeof(want));
	ck_assert_mem_eq(buf, want, sizeof(want));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("wire");
	TCase	*tc = tcase_create("wire");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, round_trip, 0, NKINDS);
	tcase_add_loop_test(tc, wrong_sizes, 0, NKINDS);
	tcase_add_loop_test(tc, cut_records, 0, NKINDS);
	tcase_add_test(tc, one_after_another);
	tcase_add_test(tc, acks);
	tcase_add_test(tc, too_many_gaps);
	tcase_add_test(tc, sums_and_retell);
	tcase_add_test(tc, bounds_of_terms);
	tcase_add_test(tc, keys_of_claims);
	tcase_add_test(tc, known_bytes);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
