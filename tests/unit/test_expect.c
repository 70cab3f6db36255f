/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth of expectations: masters that come later, zones that the kernel
 * does not show, what no event tells.
 *
 * There is no kernel: a test says what is told, and looks at what is asked.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/local.h"
#include "null_feed.h"

#define JOBS		8
#define SECOND		1000000u
#define LEFT_OUT	77u		/* a mark */

static struct feed	*feed;
static struct local	*l;
static struct kjob	*jobs[JOBS];
static unsigned		 njobs;
static uint64_t		 now;

static int
port_submit(void *ctx, struct kjob *j)
{
	(void)ctx;
	if (njobs == JOBS)
		return -EAGAIN;
	jobs[njobs++] = j;
	return 0;
}

static void
port_dump(void *ctx)
{
	(void)ctx;
	local_dump_begin(l);
}

static bool
port_filter(void *ctx, const struct flow *f)
{
	(void)ctx;
	return f->mark != LEFT_OUT;
}

static const struct kernel_port	port = { port_submit, port_dump, NULL, NULL };

static void
setup(void)
{
	struct feed_conf	 c;

	memset(&c, 0, sizeof(c));
	c.epoch = 1;
	c.max_flows = c.max_tombs = 1000;
	c.frame_bytes = 1400;
	feed = feed_new(&c, &null_feed_ops, NULL);
	l = local_new(feed, &port, NULL, port_filter, NULL);
	ck_assert(feed != NULL && l != NULL);
	njobs = 0;
	now = 1000 * SECOND;
	local_dump_begin(l);
	local_dump_end(l, 0, now);
	local_run(l, now);
}

static void
teardown(void)
{
	while (njobs > 0)
		kjob_free(jobs[--njobs]);
	local_free(l);
	feed_free(feed);
}

/* --- what there is ------------------------------------------------------------------ */

static struct flow
master_of(unsigned k, enum flow_zone_dir dir, uint16_t zone)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = IPPROTO_TCP;
	f.zone_dir = (uint8_t)dir;
	f.zone = zone;
	f.orig.src.b[0] = 10;
	f.orig.dst.b[0] = 192;
	f.orig.l4src = (uint16_t)(1000 + k);
	f.orig.l4dst = 21;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f.tcp_state = FLOW_TCP_ESTABLISHED;
	f.id = 100 + k + zone;
	f.timeout_s = 100;
	strcpy(f.helper, "ftp");
	f.has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_ID | FLOW_HAS_REPLY | FLOW_HAS_TCP_STATE |
	    FLOW_HAS_HELPER;
	return f;
}

/* As the kernel shows it: in no zone. */
static struct flow
expected_by(const struct flow *master, uint32_t id)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = IPPROTO_TCP;
	f.expect = true;
	f.orig.src = master->orig.dst;
	f.orig.dst = master->orig.src;
	f.orig.l4dst = master->orig.l4src;
	f.master = master->orig;
	f.master_proto = master->proto;
	f.id = id;
	f.timeout_s = 300;
	strcpy(f.helper, "ftp");
	f.has = FLOW_HAS_EXPECT | FLOW_HAS_MASTER | FLOW_HAS_HELPER | FLOW_HAS_ID | FLOW_HAS_TIMEOUT;
	return f;
}

static void
told(enum local_event ev, const struct flow *f)
{
	struct local_key	 k;

	local_prefetch(l, f, &k);
	local_event(l, ev, f, &k, now);
	local_run(l, now);
}

/* Does the table have the expectation, in that zone?  *out gets it. */
static bool
has_expect(struct flow f, enum flow_zone_dir dir, uint16_t zone, struct flow *out)
{
	uint8_t		 key[FLOW_KEY_MAX];
	const uint8_t	*body;
	size_t		 klen, len;
	uint32_t	 h;

	f.zone_dir = (uint8_t)dir;
	f.zone = zone;
	klen = flow_pack_key(&f, key);
	h = feed_find(feed, ftab_hash(feed_table(feed), key, klen), key, klen);
	if (h == FTAB_NIL)
		return false;
	body = ftab_body(feed_table(feed), h, &len);
	ck_assert_int_eq(flow_unpack(body, len, out), 0);
	return true;
}

/* The oldest job is answered: item i with the flow that answer() gives, or with its errno. */
static unsigned
answer(int (*fn)(const struct flow *asked, struct flow *got))
{
	struct kjob	*j = jobs[0];
	struct flow	 asked;
	size_t		 used;
	uint32_t	 i, n = j->n;

	ck_assert_uint_gt(njobs, 0);
	memmove(jobs, jobs + 1, --njobs * sizeof(jobs[0]));
	ck_assert_int_eq(j->op, KOP_GET);
	j->flows = calloc(n, sizeof(*j->flows));
	for (i = 0; i < n; i++) {
		ck_assert_int_eq(flow_unpack_key(j->bytes + j->items[i].off, j->items[i].len, &asked,
		    &used), 0);
		j->items[i].err = fn(&asked, &j->flows[i]);
	}
	local_got(l, j, now);
	local_run(l, now);
	return n;
}

/* --- the tests ------------------------------------------------------------------------- */

static struct flow	 there;		/* what the kernel has */

static int
has_it(const struct flow *asked, struct flow *got)
{
	ck_assert(asked->expect);
	ck_assert_uint_eq(asked->orig.l4dst, there.orig.l4dst);
	*got = there;
	return 0;
}

/*
 * Its first packet made both: the kernel tells of the expectation first.  It is
 * asked for when its master is there: its end may have been lost meanwhile.
 */
START_TEST(before_its_master)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0), e = expected_by(&m, 7), got;

	told(LOCAL_NEW, &e);
	ck_assert_uint_eq(feed_flows(feed), 0);
	told(LOCAL_NEW, &m);
	local_run(l, now);
	there = e;
	answer(has_it);
	ck_assert(has_expect(e, FLOW_ZONE_NONE, 0, &got));
	ck_assert_uint_eq(got.orig.l4dst, 1001);
	told(LOCAL_DESTROY, &e);
	ck_assert(!has_expect(e, FLOW_ZONE_NONE, 0, &got));
	ck_assert_uint_eq(feed_flows(feed), 1);
}
END_TEST

/* One that has ended, or whose master does not come in time, does not come back. */
START_TEST(master_too_late)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0), e = expected_by(&m, 7), got;

	told(LOCAL_NEW, &e);
	told(LOCAL_DESTROY, &e);
	told(LOCAL_NEW, &m);
	ck_assert(!has_expect(e, FLOW_ZONE_NONE, 0, &got));
	m = master_of(2, FLOW_ZONE_NONE, 0);
	e = expected_by(&m, 8);
	told(LOCAL_NEW, &e);
	now += 2 * SECOND;
	local_run(l, now);
	told(LOCAL_NEW, &m);
	ck_assert(!has_expect(e, FLOW_ZONE_NONE, 0, &got));
	ck_assert_uint_ge(local_stats(l)->filtered, 1);
}
END_TEST

START_TEST(master_left_out)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0), e = expected_by(&m, 7);
	unsigned	 i;

	m.mark = LEFT_OUT;
	m.has |= FLOW_HAS_MARK;
	told(LOCAL_NEW, &m);
	for (i = 0; i < 2000; i++) {	/* more than may wait */
		e.id = i;
		told(LOCAL_NEW, &e);
	}
	ck_assert_uint_eq(feed_flows(feed), 0);
	local_dump_entry(l, &e, now);
	ck_assert_uint_eq(feed_flows(feed), 0);
}
END_TEST

START_TEST(zone_of_its_master)
{
	static const enum flow_zone_dir	 dirs[] = { FLOW_ZONE_BOTH, FLOW_ZONE_ORIG, FLOW_ZONE_REPLY };
	struct flow			 m, e, got;
	unsigned			 i;

	for (i = 0; i < 3; i++) {
		m = master_of(i, dirs[i], 9);
		e = expected_by(&m, 7 + i);
		told(LOCAL_NEW, &m);
		told(LOCAL_NEW, &e);
		ck_assert(has_expect(e, dirs[i], 9, &got));
		ck_assert(!has_expect(e, FLOW_ZONE_NONE, 0, &got));
		ck_assert(local_has_master(l, &got));
	}
	for (i = 0; i < 3; i++) {	/* the master goes first */
		m = master_of(i, dirs[i], 9);
		e = expected_by(&m, 7 + i);
		told(LOCAL_DESTROY, &m);
		told(LOCAL_DESTROY, &e);
	}
	ck_assert_uint_eq(feed_flows(feed), 0);
}
END_TEST

static int
only_in_zone_9(const struct flow *asked, struct flow *got)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0);

	ck_assert(asked->expect);
	if (asked->zone != 9)
		return -ENOENT;
	*got = expected_by(&m, 7);
	got->zone = asked->zone;
	got->zone_dir = asked->zone_dir;
	return 0;
}

/* The kernel knows which of two masters with the same tuple it was. */
START_TEST(masters_in_two_zones)
{
	struct flow	 a = master_of(1, FLOW_ZONE_NONE, 0), b = master_of(1, FLOW_ZONE_BOTH, 9), got;
	struct flow	 e = expected_by(&a, 7);

	told(LOCAL_NEW, &a);
	told(LOCAL_NEW, &b);
	told(LOCAL_NEW, &e);
	ck_assert_uint_eq(feed_flows(feed), 2);
	ck_assert_uint_eq(answer(only_in_zone_9), 2);
	ck_assert(has_expect(e, FLOW_ZONE_BOTH, 9, &got));
	ck_assert(!has_expect(e, FLOW_ZONE_NONE, 0, &got));
	/* from then on it is known by its id */
	local_dump_begin(l);
	local_dump_entry(l, &e, now);
	local_run(l, now);
	ck_assert_uint_eq(njobs, 0);
	local_dump_end(l, 0, now);
	told(LOCAL_DESTROY, &e);
	ck_assert(!has_expect(e, FLOW_ZONE_BOTH, 9, &got));
}
END_TEST

static int
adjusted(const struct flow *asked, struct flow *got)
{
	ck_assert(!asked->expect);
	*got = master_of(1, FLOW_ZONE_NONE, 0);
	got->status |= FLOW_S_SRC_NAT;
	got->reply.dst.b[0] = 203;
	got->has |= FLOW_HAS_SEQADJ;
	got->rare.seqadj[0].after = 5;
	return 0;
}

/* A helper that expects something may have changed a length before. */
START_TEST(master_is_asked_for)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0), e = expected_by(&m, 7), f;
	const uint8_t	*body;
	uint8_t		 key[FLOW_KEY_MAX];
	size_t		 klen, len;

	told(LOCAL_NEW, &m);
	told(LOCAL_NEW, &e);
	ck_assert_uint_eq(njobs, 0);	/* not translated */
	m.status |= FLOW_S_SRC_NAT;
	m.reply.dst.b[0] = 203;
	m.id++;
	told(LOCAL_NEW, &m);
	e.id++;
	told(LOCAL_NEW, &e);
	ck_assert_uint_eq(answer(adjusted), 1);
	klen = flow_pack_key(&m, key);
	body = ftab_body(feed_table(feed), feed_find(feed, ftab_hash(feed_table(feed), key, klen), key,
	    klen), &len);
	ck_assert_int_eq(flow_unpack(body, len, &f), 0);
	ck_assert_uint_eq(f.rare.seqadj[0].after, 5);
}
END_TEST

static uint8_t	flags_now;

static int
with_flags(const struct flow *asked, struct flow *got)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0);

	ck_assert(asked->expect);
	*got = expected_by(&m, 7);
	got->exp.flags = flags_now;
	return 0;
}

/* Nobody tells when it becomes active; it is looked at less and less often, and not for ever. */
START_TEST(inactive_is_looked_at)
{
	struct flow	 m = master_of(1, FLOW_ZONE_NONE, 0), e = expected_by(&m, 7), got;
	unsigned	 looks = 0, ms;

	told(LOCAL_NEW, &m);
	e.exp.flags = flags_now = FLOW_E_INACTIVE | FLOW_E_PERMANENT;
	told(LOCAL_NEW, &e);
	for (ms = 0; ms < 5000; ms += 50) {
		now += 50000;
		local_run(l, now);
		if (njobs > 0)
			looks += answer(with_flags);
	}
	ck_assert_uint_ge(looks, 4);
	ck_assert_uint_le(looks, 7);
	flags_now = FLOW_E_PERMANENT;
	for (ms = 0; ms < 10000; ms += 50) {
		now += 50000;
		local_run(l, now);
		if (njobs > 0)
			answer(with_flags);
	}
	ck_assert(has_expect(e, FLOW_ZONE_NONE, 0, &got));
	ck_assert_uint_eq(got.exp.flags, FLOW_E_PERMANENT);
	/* one that stays as it is */
	flags_now = FLOW_E_INACTIVE;
	e.exp.flags = FLOW_E_INACTIVE;
	e.id++;
	told(LOCAL_NEW, &e);
	for (looks = ms = 0; ms < 1000000; ms += 500) {
		now += 500000;
		local_run(l, now);
		if (njobs > 0)
			looks += answer(with_flags);
	}
	ck_assert_uint_ge(looks, 5);
	ck_assert_uint_le(looks, 12);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("expect");
	TCase	*tc = tcase_create("expect");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, before_its_master);
	tcase_add_test(tc, master_too_late);
	tcase_add_test(tc, master_left_out);
	tcase_add_test(tc, zone_of_its_master);
	tcase_add_test(tc, masters_in_two_zones);
	tcase_add_test(tc, master_is_asked_for);
	tcase_add_test(tc, inactive_is_looked_at);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
