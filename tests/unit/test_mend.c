/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Repair of differences: a feed and two receivers, joined frame by frame, whose
 * tables are spoiled in memory or on the way, while the feed goes on changing.
 *
 * After each repair the tables are compared entry for entry, and it is counted
 * how much was told again.
 */
#include <sys/socket.h>

#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/recv.h"
#include "rnd.h"

#define PEERS	2
#define FLOWS	20000
#define FRAME	1400
#define STEP_US	1000

static uint64_t		 now;
static struct feed	*f;
static struct recv	*rc[PEERS];
static uint64_t		 stamp[PEERS], stamped_us[PEERS];
static unsigned		 spoil;		/* change one byte of the marks of so many flows on the way */
static bool		 cut[PEERS];
static unsigned		 wrong[VERIFY_KINDS];

static size_t
body_of(unsigned k, uint32_t mark, uint8_t body[FLOW_BODY_MAX])
{
	struct flow	 fl;

	memset(&fl, 0, sizeof(fl));
	fl.family = k % 3 == 0 ? AF_INET6 : AF_INET;
	fl.proto = IPPROTO_UDP;
	fl.orig.src.b[0] = 10;
	fl.orig.src.b[2] = (uint8_t)(k >> 8);
	fl.orig.src.b[3] = (uint8_t)k;
	fl.orig.l4src = (uint16_t)k;
	fl.orig.l4dst = 53;
	flow_tuple_invert(fl.family, fl.proto, &fl.orig, &fl.reply);
	fl.status = FLOW_S_CONFIRMED;
	fl.mark = mark | 1u << 31;
	return flow_pack(&fl, body, FLOW_BODY_MAX);
}

static uint32_t
hash_of(struct ftab *t, const uint8_t *body, size_t len)
{
	return ftab_hash(t, body, flow_key_len(body, len));
}

static void
put(unsigned k, uint32_t mark)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len = body_of(k, mark, body);
	uint32_t	 h;

	ck_assert_int_ge(feed_put(f, hash_of(feed_table(f), body, len), body, len, 60,
	    k % 4 == 0 ? 0 : 1, now, &h), 0);
}

static uint32_t
find(struct ftab *t, unsigned k)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = body_of(k, 1, body);

	return ftab_find(t, hash_of(t, body, len), body, flow_key_len(body, len));
}

static void
del(unsigned k)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len = body_of(k, 1, body);
	uint32_t	 h = feed_find(f, hash_of(feed_table(f), body, len), body,
			    flow_key_len(body, len));

	if (h != FTAB_NIL)
		feed_del(f, h, now);
}

/* --- joined ------------------------------------------------------------------------ */

/* Change the mark of the first flow of a frame, as a fault on the way past the seal would. */
static void
spoil_frame(uint8_t *p, size_t len)
{
	struct rbuf	 in, body;
	uint8_t		 kind;

	rbuf_init(&in, p, len);
	ck_assert(rbuf_skip(&in, WIRE_SEQ_BYTES));
	while (wire_next(&in, &kind, &body))
		if (kind == WIRE_FLOW) {
			p[body.p + body.len - p - 1] ^= 1;	/* last byte: of the mark */
			spoil--;
			return;
		}
}

static void
op_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	uint8_t		 copy[FRAME];
	unsigned	 p;

	(void)ctx;
	for (p = 0; p < PEERS; p++) {
		if (!(peers & 1u << p) || cut[p])
			continue;
		memcpy(copy, frame, len);
		if (p == 0 && spoil > 0)
			spoil_frame(copy, len);
		ck_assert_int_eq(recv_frame(rc[p], stream, copy, len, now), 0);
	}
}

static void
op_restart(void *ctx, unsigned peer, uint32_t stream)
{
	(void)ctx;
	recv_restart(rc[peer], stream);
}

static void
op_trailer(void *ctx, uint32_t peers, uint32_t pending, struct wbuf *w)
{
	struct wire_doubt	 d = { 0, pending, 0, (uint32_t)now };
	struct wire_echoed	 e;
	unsigned		 p;

	(void)ctx;
	wire_put_doubt(w, &d);
	for (p = 0; p < PEERS; p++) {
		e = (struct wire_echoed){ p + 1, 1, stamp[p], (uint32_t)(now - stamped_us[p]) };
		if ((peers & 1u << p) && stamp[p] != 0)
			wire_put_echoed(w, &e);
		stamp[p] = 0;
	}
}

static const struct feed_ops ops = { op_send, op_restart, op_trailer };

static void
on_wrong(void *ctx, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	(void)ctx;
	ck_assert((here == NULL) == (kind == VERIFY_MISSING_HERE));
	ck_assert((there == NULL) == (kind == VERIFY_MISSING_THERE));
	ck_assert(here == NULL || flow_key_len(here, here_len) > 0);
	ck_assert(there == NULL || flow_key_len(there, there_len) > 0);
	wrong[kind]++;
}

static void
signals(unsigned p)
{
	struct wire_request	 q;
	struct wire_check	 c;
	struct wire_mend	 m;
	struct wire_ack		 a[2];
	unsigned		 n, i;

	if (cut[p])
		return;
	n = recv_acks(rc[p], a);
	for (i = 0; i < n; i++)
		feed_ack(f, p, &a[i], now);
	if (recv_request(rc[p], &q, now))
		feed_request(f, p, &q, now);
	if (recv_check(rc[p], &c))
		feed_check(f, p, &c);
	if (recv_mend(rc[p], &m))
		feed_mend(f, p, &m);
	stamp[p] = stamped_us[p] = now;
}

static void
step(void)
{
	unsigned	 p;

	now += STEP_US;
	feed_run(f, now, 64, false);
	for (p = 0; p < PEERS; p++) {
		recv_run(rc[p], 1000, now);
		signals(p);
	}
}

static void
run_ms(unsigned n)
{
	while (n-- > 0)
		step();
}

static void
churn(unsigned n)
{
	unsigned	 k;

	while (n-- > 0) {
		k = (unsigned)(rnd_u64() % FLOWS);
		if (rnd_u64() % 3 == 0)
			del(k);
		else
			put(k, (uint32_t)rnd_u64());
	}
}

static void
same_tables(unsigned p)
{
	struct ftab	*t = recv_table(rc[p]);
	const uint8_t	*a, *b;
	uint32_t	 h = FTAB_NIL, g;
	size_t		 la, lb;

	ck_assert_uint_eq(ftab_count(t), feed_flows(f));
	while ((h = feed_next(f, h)) != FTAB_NIL) {
		a = ftab_body(feed_table(f), h, &la);
		g = ftab_find(t, hash_of(t, a, la), a, flow_key_len(a, la));
		ck_assert_uint_ne(g, FTAB_NIL);
		b = ftab_body(t, g, &lb);
		ck_assert_uint_eq(la, lb);
		ck_assert_mem_eq(a, b, la);
	}
}

static void
setup(void)
{
	struct feed_conf	 fc = { .epoch = 9, .digest_key = { { 1, 2 } }, .max_flows = 100000,
				    .max_tombs = 50000, .frame_bytes = FRAME };
	struct recv_conf	 c = { .max_flows = 100000, .my_epoch = 1, .wrong = on_wrong };
	unsigned		 p, k;

	rnd_seed(1);
	now = 1000000;
	spoil = 0;
	memset(wrong, 0, sizeof(wrong));
	memset(cut, 0, sizeof(cut));
	memset(stamp, 0, sizeof(stamp));
	f = feed_new(&fc, &ops, NULL);
	ck_assert_ptr_nonnull(f);
	feed_set_complete(f);
	for (p = 0; p < PEERS; p++) {
		c.my_id = p + 1;
		rc[p] = recv_new(&c);
		ck_assert_ptr_nonnull(rc[p]);
		recv_epoch(rc[p], 9, &fc.digest_key);
		feed_set_peer_id(f, p, p + 1);
	}
	for (k = 0; k < FLOWS; k++)
		put(k, k);
	run_ms(1000);
	for (p = 0; p < PEERS; p++) {
		ck_assert(recv_in_sync(rc[p], now));
		same_tables(p);
	}
}

static void
teardown(void)
{
	unsigned	 p;

	feed_free(f);
	for (p = 0; p < PEERS; p++)
		recv_free(rc[p]);
}

static const struct recv_stats *
st(unsigned p)
{
	return recv_stats(rc[p]);
}

/* Spoil an entry of a table in memory, behind the receiver's back. */
static void
rot(unsigned p, unsigned k)
{
	struct ftab	*t = recv_table(rc[p]);
	uint32_t	 h = find(t, k);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*old;
	size_t		 len;

	ck_assert_uint_ne(h, FTAB_NIL);
	old = ftab_body(t, h, &len);
	memcpy(body, old, len);
	body[len - 1] ^= 0x55;
	ck_assert_int_eq(ftab_set(t, h, body, len), 0);
}

static void
repaired(unsigned p, uint64_t generations)
{
	ck_assert(recv_in_sync(rc[p], now));
	ck_assert(!recv_mending(rc[p]));
	ck_assert_uint_eq(st(p)->generations, generations);
	same_tables(p);
}

/* --- tests --------------------------------------------------------------------------------- */

/* A flow is spoiled while it is applied: seen at once, and only its bucket is told again. */
START_TEST(spoiled_on_the_way)
{
	uint64_t	 gens = st(0)->generations, applied;

	spoil = 1;
	put(77, 4711);
	run_ms(20);
	ck_assert_uint_eq(st(0)->differed, 1);
	ck_assert(!recv_in_sync(rc[0], now) && recv_mending(rc[0]));
	ck_assert(recv_in_sync(rc[1], now));
	applied = st(0)->flows;
	run_ms(500);
	repaired(0, gens);
	ck_assert_uint_eq(st(0)->repairs, 1);
	ck_assert_uint_eq(wrong[VERIFY_CHANGED], 1);
	ck_assert_uint_eq(wrong[VERIFY_MISSING_HERE] + wrong[VERIFY_MISSING_THERE], 0);
	ck_assert_uint_lt(st(0)->flows - applied, 200);
	ck_assert_uint_gt(st(0)->flows, applied);
	/* the other peer was on the same stream */
	ck_assert_uint_eq(st(1)->differed, 0);
	repaired(1, 1);
}
END_TEST

/* The same under load: what is news is not taken for a difference. */
START_TEST(under_load)
{
	uint64_t	 gens = st(0)->generations;
	unsigned	 i;

	spoil = 3;
	for (i = 0; i < 3000; i++) {
		churn(20);
		step();
	}
	ck_assert_uint_ge(st(0)->repairs, 1);
	/* the spoiled ones may have been told anew before the repair saw them */
	ck_assert_uint_le(wrong[VERIFY_CHANGED] + wrong[VERIFY_MISSING_THERE] + wrong[VERIFY_MISSING_HERE], 3);
	run_ms(500);
	repaired(0, gens);
	repaired(1, 1);
}
END_TEST

/* In memory: the scrub finds it within a lap, verify at once; entries too many and too few as well. */
START_TEST(rotten_memory)
{
	struct ftab	*t = recv_table(rc[1]);
	uint64_t	 gens = st(1)->generations;

	rot(1, 5);
	rot(1, 19999);
	ftab_meta(t, find(t, 300))->digest ^= 1;	/* its hash is not that of its bytes */
	run_ms(500);
	ck_assert_uint_eq(st(1)->differed, 0);		/* no lap was asked for */
	ck_assert(recv_in_sync(rc[1], now));
	recv_verify(rc[1], now);
	run_ms(500);
	ck_assert_int_eq(recv_verified(rc[1]), RECV_VERIFY_DIFFERENT);
	ck_assert_uint_ge(st(1)->rotten, 2);
	ck_assert_uint_eq(wrong[VERIFY_CHANGED], 2);
	repaired(1, gens);
	now += 2000000;
	recv_verify(rc[1], now);
	run_ms(500);
	ck_assert_int_eq(recv_verified(rc[1]), RECV_VERIFY_EQUAL);
	ck_assert_uint_eq(wrong[VERIFY_CHANGED], 2);
	/* and with nobody to compare with it says so, in time */
	cut[1] = true;
	recv_verify(rc[1], now);
	run_ms(14000);
	ck_assert_int_eq(recv_verified(rc[1]), RECV_VERIFY_COMPARE);
	run_ms(2000);
	ck_assert_int_eq(recv_verified(rc[1]), RECV_VERIFY_UNKNOWN);
}
END_TEST

/* The key of an entry is spoiled: one flow too many and one too few. */
START_TEST(rotten_key)
{
	struct ftab	*t = recv_table(rc[0]);
	uint32_t	 h = find(t, 1000);
	uint64_t	 gens = st(0)->generations;
	uint8_t		*body;
	size_t		 len;

	body = (uint8_t *)(uintptr_t)ftab_body(t, h, &len);
	body[4] ^= 0x40;
	recv_verify(rc[0], now);
	run_ms(1000);
	ck_assert_int_eq(recv_verified(rc[0]), RECV_VERIFY_DIFFERENT);
	ck_assert_uint_eq(wrong[VERIFY_MISSING_HERE], 1);
	ck_assert_uint_eq(wrong[VERIFY_MISSING_THERE], 1);
	repaired(0, gens);
}
END_TEST

/* Both peers at once: one is served after the other, neither disturbs the other one. */
START_TEST(two_at_once)
{
	unsigned	 i;

	for (i = 0; i < 50; i++) {
		rot(0, i * 100);
		rot(1, i * 100 + 7);
	}
	recv_verify(rc[0], now);
	recv_verify(rc[1], now);
	for (i = 0; i < 2500; i++) {
		churn(3);
		step();
	}
	run_ms(500);
	ck_assert_int_eq(recv_verified(rc[0]), RECV_VERIFY_DIFFERENT);
	ck_assert_int_eq(recv_verified(rc[1]), RECV_VERIFY_DIFFERENT);
	repaired(0, 1);
	repaired(1, 1);
	ck_assert_uint_eq(feed_stats(f)->mends, 2);
}
END_TEST

/* Too much is wrong for buckets: a new generation at once. */
START_TEST(mostly_rotten)
{
	unsigned	 i;

	for (i = 0; i < FLOWS; i += 3)
		rot(0, i);
	recv_verify(rc[0], now);
	run_ms(3000);
	ck_assert_int_eq(recv_verified(rc[0]), RECV_VERIFY_DIFFERENT);
	ck_assert_uint_eq(st(0)->repairs, 0);
	repaired(0, 2);
}
END_TEST

/* A stream that ends in the middle of a repair, at any step: the next one repairs. */
START_TEST(interrupted)
{
	unsigned	 i;

	for (i = 0; i < 120; i += 6) {
		put(i, i);
		run_ms(10);
		rot(0, i);
		recv_verify(rc[0], now);
		run_ms(i);
		feed_leave(f, 0);
		recv_restart(rc[0], recv_stream(rc[0]));
		run_ms(1100);
		churn(20);
		now += 900000;
		run_ms(1200);
		repaired(0, 1);
	}
}
END_TEST

/* A table of a former epoch that is not swept yet plays no part in a repair. */
START_TEST(with_old_generations)
{
	struct sipkey	 key = { { 1, 2 } };
	uint32_t	 old;
	unsigned	 k;

	recv_lease(rc[0], now + 100000000);
	recv_epoch(rc[0], 9, &key);
	feed_new_epoch(f, 0);
	for (k = 0; k < 100; k++)
		del(k * 5);
	put(5, 99);
	run_ms(1000);
	ck_assert(recv_in_sync(rc[0], now));
	old = ftab_count(recv_table(rc[0])) - feed_flows(f);
	ck_assert(old > 0 && old < 100);
	rot(0, 5);
	rot(0, 6);
	recv_verify(rc[0], now);
	run_ms(1000);
	ck_assert_int_eq(recv_verified(rc[0]), RECV_VERIFY_DIFFERENT);
	ck_assert_uint_eq(wrong[VERIFY_CHANGED], 2);
	ck_assert_uint_eq(wrong[VERIFY_MISSING_THERE], 0);
	ck_assert(recv_in_sync(rc[0], now));
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), feed_flows(f) + old);
	now += 100000000;
	run_ms(1000);
	repaired(0, 2);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("mend");
	TCase	*tc = tcase_create("mend");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 600);
	tcase_add_test(tc, spoiled_on_the_way);
	tcase_add_test(tc, under_load);
	tcase_add_test(tc, rotten_memory);
	tcase_add_test(tc, rotten_key);
	tcase_add_test(tc, two_at_once);
	tcase_add_test(tc, mostly_rotten);
	tcase_add_test(tc, interrupted);
	tcase_add_test(tc, with_old_generations);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
