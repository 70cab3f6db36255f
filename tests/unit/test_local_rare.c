/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth about expectations, and about what few flows have: what events,
 * dumps and answers make of them; what an adopted flow turned into.
 *
 * The kernel is a list here, expectations after the flows as in a dump.  The
 * test says when an event is handed over and when a GET is answered.  Orders
 * of all that are tested with plain flows, in test_local.c.
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

#define ENTRIES		16
#define JOBS		8
#define SECOND		1000000u
#define KEPT_OUT	77u		/* the mark that the filter keeps out */

static struct {
	bool		 there;
	struct flow	 f;
} kern[ENTRIES];

static struct feed	*feed;
static struct local	*l;
static struct kjob	*jobs[JOBS];
static unsigned		 njobs, dumps;
static bool		 lost_address;
static uint64_t		 now;
static uint32_t		 ids;

/* --- ports -------------------------------------------------------------------- */

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
	dumps++;
	local_dump_begin(l);
}

static uint32_t
port_age(void *ctx)
{
	(void)ctx;
	return 0;
}

static bool
port_lost(void *ctx, uint8_t family, const struct flow_addr *a)
{
	(void)ctx;
	(void)family;
	(void)a;
	return lost_address;
}

static bool
port_filter(void *ctx, const struct flow *f)
{
	(void)ctx;
	ck_assert_msg(!f->expect, "an expectation is not the filter's business");
	return f->mark != KEPT_OUT;
}

static const struct kernel_port	port = { port_submit, port_dump, port_age, port_lost };

static void
setup(void)
{
	struct feed_conf	 c;

	memset(&c, 0, sizeof(c));
	c.epoch = 1;
	c.max_flows = 100;
	c.max_tombs = 100;
	c.frame_bytes = 1400;
	feed = feed_new(&c, &null_feed_ops, NULL);
	ck_assert_ptr_nonnull(feed);
	memset(kern, 0, sizeof(kern));
	njobs = dumps = 0;
	lost_address = false;
	ids = 0;
	now = 1000 * SECOND;
	l = local_new(feed, &port, NULL, port_filter, NULL);
	ck_assert_ptr_nonnull(l);
}

static void
teardown(void)
{
	while (njobs > 0)
		kjob_free(jobs[--njobs]);
	local_free(l);
	feed_free(feed);
}

/* --- the kernel ------------------------------------------------------------------- */

/* Entry k; those from EXPECTS on are expected by the flow k - EXPECTS. */
#define EXPECTS		(ENTRIES / 2)

static struct flow *
entry(unsigned k, uint8_t proto)
{
	struct flow	*f = &kern[k].f;

	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = proto;
	f->orig.src.b[0] = 10;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = (uint16_t)(1000 + k);
	f->orig.l4dst = 5060;
	f->timeout_s = 100;
	f->id = ++ids;
	f->has = FLOW_HAS_TIMEOUT | FLOW_HAS_ID;
	kern[k].there = true;
	return f;
}

static struct flow *
flow_entry(unsigned k, uint8_t proto)
{
	struct flow	*f = entry(k, proto);

	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED | FLOW_S_ASSURED;
	f->has |= FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_REPLY;
	if (proto == IPPROTO_SCTP) {
		f->rare.sctp_state = FLOW_SCTP_ESTABLISHED;
		f->rare.sctp_vtag[0] = k;
		f->has |= FLOW_HAS_SCTP;
	}
	return f;
}

/* One whose helper may expect others. */
static struct flow *
master_entry(unsigned k)
{
	struct flow	*f = flow_entry(k, IPPROTO_UDP);

	strcpy(f->helper, "sip");
	f->has |= FLOW_HAS_HELPER;
	return f;
}

static struct flow *
expect_entry(unsigned k)
{
	struct flow	*f = entry(k, IPPROTO_TCP);

	f->expect = true;
	f->orig.l4src = 0;
	f->orig.l4dst = (uint16_t)(2000 + k);
	f->master_proto = IPPROTO_UDP;
	f->master = kern[k - EXPECTS].f.orig;
	memset(f->exp.mask_src.b, 0xff, 4);
	strcpy(f->helper, "sip");
	f->has |= FLOW_HAS_EXPECT | FLOW_HAS_HELPER | FLOW_HAS_MASTER;
	return f;
}

static void
tell(enum local_event ev, const struct flow *f)
{
	struct local_key	 key;

	local_prefetch(l, f, &key);
	local_event(l, ev, f, &key, now);
}

static void
event(enum local_event ev, unsigned k)
{
	tell(ev, &kern[k].f);
	if (ev == LOCAL_DESTROY)
		kern[k].there = false;
}

static void
birth(unsigned k)
{
	if (k < EXPECTS)
		(void)master_entry(k);
	else
		(void)expect_entry(k);
	event(LOCAL_NEW, k);
}

static void
key_of(const struct flow *f, struct local_key *k)
{
	local_prefetch(l, f, k);
}

static bool
same_key(const struct flow *f, const uint8_t *key, size_t klen)
{
	struct local_key	 k;

	key_of(f, &k);
	return k.len == klen && memcmp(k.key, key, klen) == 0;
}

/* What a message that shows all of an entry lacks is not there (kct.h). */
static void
whole(unsigned k, struct flow *f)
{
	*f = kern[k].f;
	f->has |= FLOW_HAS_WHOLE;
}

/* The kernel does the oldest job; what it found then, to be told later. */
static struct kjob *
work(void)
{
	struct kjob	*j;
	uint32_t	 i;
	unsigned	 k;

	ck_assert_uint_gt(njobs, 0);
	j = jobs[0];
	memmove(jobs, jobs + 1, sizeof(jobs[0]) * --njobs);
	ck_assert_int_eq(j->op, KOP_GET);
	ck_assert_int_eq(j->owner, KOWNER_LOCAL);
	j->flows = calloc(j->n, sizeof(*j->flows));
	ck_assert_ptr_nonnull(j->flows);
	for (i = 0; i < j->n; i++) {
		j->items[i].err = -ENOENT;
		for (k = 0; k < ENTRIES; k++)
			if (kern[k].there && same_key(&kern[k].f, j->bytes + j->items[i].off,
			    j->items[i].len)) {
				whole(k, &j->flows[i]);
				j->items[i].err = 0;
			}
	}
	return j;
}

static void
run(void)
{
	unsigned	 i;

	for (i = 0; i < 1000 && local_run(l, now); i++)
		;
	ck_assert_uint_lt(i, 1000);
}

/* Until nobody wants anything of the kernel. */
static void
settle(void)
{
	unsigned	 i;

	run();
	for (i = 0; njobs > 0; i++) {
		ck_assert_uint_lt(i, 100);
		local_got(l, work(), now);
		run();
	}
}

static void
show_all(void)
{
	struct flow	 f;
	unsigned	 k;

	for (k = 0; k < ENTRIES; k++)
		if (kern[k].there) {
			whole(k, &f);
			local_dump_entry(l, &f, now);
		}
}

static void
dump(void)
{
	unsigned	 before = dumps;

	local_resync(l);
	run();
	ck_assert_uint_eq(dumps, before + 1);
	show_all();
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(dumps, before + 1);
	ck_assert(!local_resyncing(l));
}

/* An audit has been begun, and is the only one: it ends with nothing left to do. */
static void
audited(unsigned n)
{
	ck_assert_uint_eq(dumps, n);
	ck_assert(local_resyncing(l) && !local_dump_fast(l));
	show_all();
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(dumps, n);
	ck_assert(!local_resyncing(l));
}

/* --- the table ------------------------------------------------------------------------ */

/* What the table has under the key of entry k; false if nothing. */
static bool
held(unsigned k, struct flow *f)
{
	struct local_key	 key;
	const uint8_t		*body;
	size_t			 len;
	uint32_t		 h;

	key_of(&kern[k].f, &key);
	h = feed_find(feed, key.hash, key.key, key.len);
	if (h == FTAB_NIL)
		return false;
	body = ftab_body(feed_table(feed), h, &len);
	ck_assert_int_eq(flow_unpack(body, len, f), 0);
	f->id = *feed_id(feed, h);
	return true;
}

static bool
has(unsigned k)
{
	struct flow	 f;

	return held(k, &f);
}

static void
check_equal(void)
{
	uint8_t		 a[FLOW_BODY_MAX], b[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 alen, blen;
	unsigned	 k;

	for (k = 0; k < ENTRIES; k++) {
		if (kern[k].f.family == 0)
			continue;	/* never used */
		ck_assert_msg(held(k, &f) == kern[k].there, "entry %u", k);
		if (!kern[k].there)
			continue;
		g = kern[k].f;
		g.incarnation = f.incarnation;
		f.born = 0;		/* the kernel knows nothing of it */
		f.found = f.copy = f.stray = false;
		alen = flow_pack(&f, a, sizeof(a));
		blen = flow_pack(&g, b, sizeof(b));
		ck_assert_msg(alen == blen && memcmp(a, b, alen) == 0, "entry %u", k);
		ck_assert_msg(f.id == g.id, "entry %u", k);
	}
}

/* --- expectations ------------------------------------------------------------------------ */

START_TEST(an_expectation_goes_with_its_master)
{
	birth(1);
	birth(EXPECTS + 1);
	ck_assert(has(1) && has(EXPECTS + 1));
	check_equal();
	/* that of another one, which the table lacks, waits for it, and is left out then */
	(void)master_entry(2);
	birth(EXPECTS + 2);
	ck_assert(!has(EXPECTS + 2));
	now += SECOND - 1;
	run();
	ck_assert_uint_eq(local_stats(l)->filtered, 0);
	now++;
	run();
	ck_assert_uint_eq(local_stats(l)->filtered, 1);
	event(LOCAL_NEW, 2);
	settle();
	ck_assert_uint_eq(dumps, 0);
	ck_assert(has(2) && !has(EXPECTS + 2));
	event(LOCAL_DESTROY, EXPECTS + 1);
	ck_assert(!has(EXPECTS + 1) && has(1));
	ck_assert_uint_eq(local_stats(l)->filtered, 1);
}
END_TEST

/* The kernel tells of it first: it is asked for as soon as the master is there. */
START_TEST(an_expectation_comes_before_its_master)
{
	(void)master_entry(1);
	(void)master_entry(2);
	birth(EXPECTS + 1);
	birth(EXPECTS + 2);
	ck_assert(!has(EXPECTS + 1));
	if (_i == 1)
		event(LOCAL_DESTROY, EXPECTS + 1);	/* it does not wait any more */
	else if (_i == 2)
		kern[EXPECTS + 1].there = false;	/* nor is it there, but its end is lost */
	now += SECOND / 2;
	run();
	ck_assert_uint_eq(njobs, 0);
	event(LOCAL_NEW, 1);
	run();
	ck_assert_uint_eq(njobs, _i != 1);
	settle();
	ck_assert(has(EXPECTS + 1) == (_i == 0));
	ck_assert_uint_eq(local_stats(l)->filtered, 0);
	/* the other one still waits */
	event(LOCAL_NEW, 2);
	settle();
	check_equal();
	/* they have nothing that a dump would have to show */
	ck_assert_uint_eq(dumps, 0);
	now += SECOND;
	run();
	ck_assert_uint_eq(local_stats(l)->filtered, 0);
}
END_TEST

/* The kernel does not tell its zone, which is that of its master. */
START_TEST(masters_are_found_in_zones)
{
	struct flow	*f, told;

	birth(2);
	f = master_entry(1);
	f->zone = 5;
	f->zone_dir = FLOW_ZONE_BOTH;
	event(LOCAL_NEW, 1);
	f = expect_entry(EXPECTS + 1);
	told = *f;
	f->zone = 5;
	f->zone_dir = FLOW_ZONE_BOTH;
	tell(LOCAL_NEW, &told);
	check_equal();
	ck_assert(has(EXPECTS + 1));
	tell(LOCAL_DESTROY, &told);
	kern[EXPECTS + 1].there = false;
	check_equal();
	/* the same master in another zone: the kernel is asked in which one it is */
	f = master_entry(3);
	f->orig = kern[1].f.orig;
	f->reply = kern[1].f.reply;
	event(LOCAL_NEW, 3);
	kern[EXPECTS + 1].there = true;
	told.id = kern[EXPECTS + 1].f.id = ++ids;
	tell(LOCAL_NEW, &told);
	ck_assert(!has(EXPECTS + 1));
	settle();
	check_equal();
	tell(LOCAL_DESTROY, &told);
	kern[EXPECTS + 1].there = false;
	check_equal();
	ck_assert_uint_eq(dumps, 0);
}
END_TEST

/* No event tells that it has become active. */
START_TEST(an_expectation_becomes_active)
{
	struct flow	*f;
	unsigned	 i;

	birth(1);
	f = expect_entry(EXPECTS + 1);
	f->exp.flags = FLOW_E_INACTIVE;
	event(LOCAL_NEW, EXPECTS + 1);
	run();
	ck_assert_uint_eq(njobs, 0);
	for (i = 0; i < 3; i++) {
		now += SECOND;
		run();
		ck_assert_uint_eq(njobs, 1);
		settle();
		check_equal();
	}
	f->exp.flags = 0;
	now += SECOND;
	settle();
	check_equal();
	for (i = 0; i < 200; i++) {
		now += SECOND;
		run();
		ck_assert_uint_eq(njobs, 0);
	}
	ck_assert_uint_eq(dumps, 0);
}
END_TEST

/* Nor does one of a flow that the filter keeps out come in by a dump. */
START_TEST(a_master_that_is_kept_out)
{
	unsigned	 i;

	master_entry(1)->mark = KEPT_OUT;
	event(LOCAL_NEW, 1);
	birth(EXPECTS + 1);
	ck_assert(!has(1) && !has(EXPECTS + 1));
	for (i = 0; i < 3; i++) {
		dump();
		ck_assert(!has(EXPECTS + 1));
	}
	/* and it goes when its master is kept out later: an audit finds it */
	birth(2);
	birth(EXPECTS + 2);
	ck_assert(has(2) && has(EXPECTS + 2));
	run();
	ck_assert_uint_eq(dumps, 3);
	kern[2].f.mark = KEPT_OUT;
	event(LOCAL_UPDATE, 2);
	ck_assert(!has(2));
	run();
	audited(4);
	ck_assert(!has(EXPECTS + 2));
}
END_TEST

/* While a takeover writes: only what leaves the table makes its claim void. */
START_TEST(kept_out_meanwhile)
{
	(void)flow_entry(1, IPPROTO_UDP);
	event(LOCAL_NEW, 1);
	ck_assert(has(1));
	local_adopting(l, true, now);
	flow_entry(2, IPPROTO_UDP)->mark = KEPT_OUT;	/* such as a login on the firewall itself */
	event(LOCAL_NEW, 2);
	event(LOCAL_UPDATE, 2);
	ck_assert(!has(2) && !local_kept_out(l));
	kern[1].f.mark = KEPT_OUT;
	event(LOCAL_UPDATE, 1);
	ck_assert(!has(1) && local_kept_out(l));
	local_adopting(l, false, now);
}
END_TEST

START_TEST(a_dump_shows_expectations)
{
	(void)flow_entry(1, IPPROTO_UDP);
	(void)expect_entry(EXPECTS + 1);
	birth(2);
	birth(EXPECTS + 2);
	(void)flow_entry(3, IPPROTO_UDP);	/* its events were lost */
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->dump_added, 3);
	/* changed without an event: the dump is right */
	kern[EXPECTS + 1].f.exp.flags = FLOW_E_PERMANENT;
	strcpy(kern[EXPECTS + 2].f.exp.fn, "sip");
	kern[EXPECTS + 2].f.helper[0] = '\0';
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->dump_changed, 2);
	/* the first is gone without an event: the kernel is asked */
	kern[EXPECTS + 1].there = false;
	local_resync(l);
	run();
	show_all();
	local_dump_end(l, 0, now);
	ck_assert(has(EXPECTS + 1));
	run();
	ck_assert_uint_eq(njobs, 1);
	settle();
	ck_assert(!has(EXPECTS + 1));
	ck_assert_uint_eq(local_stats(l)->confirmed_gone, 1);
	check_equal();
}
END_TEST

/* A dump that missed it, as dumps may: it stays. */
START_TEST(a_dump_lacks_an_expectation)
{
	birth(1);
	birth(EXPECTS + 1);
	dump();
	local_resync(l);
	run();
	kern[EXPECTS + 1].there = false;
	show_all();
	kern[EXPECTS + 1].there = true;
	local_dump_end(l, 0, now);
	settle();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->confirmed_gone, 0);
}
END_TEST

START_TEST(the_end_of_another_expectation)
{
	struct flow	 first;

	birth(1);
	birth(EXPECTS + 1);
	first = kern[EXPECTS + 1].f;
	birth(EXPECTS + 1);		/* another one with that tuple; the end of the first is late */
	ck_assert_uint_eq(local_stats(l)->reborn, 1);
	tell(LOCAL_DESTROY, &first);
	ck_assert(has(EXPECTS + 1));
	run();
	ck_assert_uint_eq(njobs, 0);
	check_equal();
	/* its own is believed when the kernel says so */
	event(LOCAL_DESTROY, EXPECTS + 1);
	settle();
	ck_assert(!has(EXPECTS + 1));
	ck_assert_uint_eq(local_stats(l)->stale_destroys, 0);
}
END_TEST

/*
 * Another one had the tuple for a moment, and only its end was told: neither an
 * answer nor a dump, read before, brings it back.
 */
START_TEST(news_of_another_expectation)
{
	struct kjob	*j = NULL;
	struct flow	 f;

	birth(1);
	birth(EXPECTS + 1);
	dump();
	(void)expect_entry(EXPECTS + 1);	/* the end of the first one is lost, and this */
	local_resync(l);
	run();
	whole(EXPECTS + 1, &f);
	if (_i == 0) {
		local_dump_end(l, 0, now);	/* does not show it */
		run();
		j = work();			/* finds the second one */
	}
	event(LOCAL_DESTROY, EXPECTS + 1);
	if (_i == 0) {
		local_got(l, j, now);
	} else {
		local_dump_entry(l, &f, now);
		local_dump_end(l, 0, now);
	}
	settle();
	ck_assert(!has(EXPECTS + 1));
	ck_assert_uint_eq(local_unknown_us(l), 0);
}
END_TEST

/* The expected flow has come: it is another entry than the expectation. */
START_TEST(what_was_expected_comes)
{
	struct flow	*f;

	birth(1);
	birth(EXPECTS + 1);
	f = flow_entry(2, IPPROTO_TCP);
	f->orig = kern[EXPECTS + 1].f.orig;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status |= FLOW_S_EXPECTED;
	f->tcp_state = FLOW_TCP_SYN_SENT;
	f->master = kern[1].f.orig;
	f->master_proto = IPPROTO_UDP;
	f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_MASTER;
	event(LOCAL_DESTROY, EXPECTS + 1);
	event(LOCAL_NEW, 2);
	ck_assert(has(2) && !has(EXPECTS + 1));
	check_equal();
	/* it does not need its master, nor does its end wait for anything */
	event(LOCAL_DESTROY, 1);
	ck_assert(has(2));
	dump();
	check_equal();
}
END_TEST

START_TEST(an_end_is_not_held_back)
{
	birth(1);
	birth(EXPECTS + 1);
	lost_address = true;
	event(LOCAL_DESTROY, EXPECTS + 1);
	ck_assert(!has(EXPECTS + 1));
	event(LOCAL_DESTROY, 1);
	ck_assert_uint_eq(local_stats(l)->held, 1);
	kern[1].there = true;
	ck_assert(has(1));
}
END_TEST

/* The kernel is asked about the master: its expectation is asked for, too, or an audit shows it. */
START_TEST(a_master_that_is_asked_for)
{
	struct flow	*f = master_entry(1), delta;

	delta = *f;
	delta.has &= ~(uint32_t)FLOW_HAS_HELPER;
	tell(LOCAL_UPDATE, &delta);	/* which may lack anything */
	ck_assert(!has(1));
	if (_i == 1)
		run();			/* under way, and not only to be asked */
	if (_i < 2) {
		birth(EXPECTS + 1);
	} else {
		/* the rest of a dump that began before */
		local_resync(l);
		run();
		(void)expect_entry(EXPECTS + 1);
		kern[1].there = false;
		show_all();
		kern[1].there = true;
		local_dump_end(l, 0, now);
	}
	ck_assert(!has(EXPECTS + 1));
	settle();
	ck_assert(has(1));
	if (_i < 2)
		check_equal();
	/* what else it expects, an audit finds */
	expect_entry(EXPECTS + 2)->master = f->orig;
	audited(_i == 2 ? 2 : 1);
	check_equal();
}
END_TEST

/*
 * A dump while something is asked for, with expectations of flows that are
 * kept out: they are not asked for, and there is no other dump.
 */
START_TEST(questions_come_to_an_end)
{
	struct flow	*f, delta;
	unsigned	 k;

	for (k = 1; k < 4; k++) {
		master_entry(k)->mark = KEPT_OUT;
		(void)expect_entry(EXPECTS + k);
	}
	f = flow_entry(5, IPPROTO_UDP);
	local_resync(l);
	run();
	delta = *f;
	delta.has &= ~(uint32_t)FLOW_HAS_STATUS;
	tell(LOCAL_UPDATE, &delta);
	event(LOCAL_NEW, EXPECTS + 2);
	show_all();
	local_dump_end(l, 0, now);
	settle();
	now += SECOND;
	settle();
	ck_assert_uint_eq(dumps, 1);
	ck_assert(!local_resyncing(l));
	ck_assert_uint_eq(local_unknown_us(l), 0);
	ck_assert(has(5));
	for (k = 1; k < 4; k++)
		ck_assert(!has(EXPECTS + k));
}
END_TEST

/* --- adoption ---------------------------------------------------------------------------- */

static int
adopt(const struct flow *f)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = flow_pack(f, body, sizeof(body));

	return local_adopt(l, body, len, f->timeout_s, false, now, now);
}

/* Packets come as soon as the kernel has the master, and its helper expects more. */
START_TEST(expectations_of_an_adopted_flow)
{
	local_adopting(l, true, now);
	ck_assert_int_eq(adopt(master_entry(2)), 1);
	ck_assert_int_eq(adopt(expect_entry(EXPECTS + 2)), 1);
	ck_assert(has(EXPECTS + 2));
	/* written, but the kernel's answer is not read yet */
	(void)master_entry(1);
	birth(EXPECTS + 1);
	ck_assert(!has(EXPECTS + 1));
	ck_assert_int_eq(adopt(&kern[1].f), 1);
	settle();
	ck_assert(has(1) && has(EXPECTS + 1));
	/* without its master it is none of ours */
	(void)master_entry(3);
	ck_assert_int_eq(adopt(expect_entry(EXPECTS + 3)), 0);
	ck_assert(!has(EXPECTS + 3));
	ck_assert(!local_kept_out(l));
	local_adopting(l, false, now);
	ck_assert_uint_eq(dumps, 0);
}
END_TEST

/* What was expected comes before a dump has shown the id of what we wrote. */
START_TEST(the_end_of_an_adopted_expectation)
{
	local_adopting(l, true, now);
	ck_assert_int_eq(adopt(master_entry(1)), 1);
	ck_assert_int_eq(adopt(expect_entry(EXPECTS + 1)), 1);
	local_adopting(l, false, now);
	ck_assert(has(EXPECTS + 1));
	event(LOCAL_DESTROY, EXPECTS + 1);
	settle();
	ck_assert(!has(EXPECTS + 1) && has(1));
	ck_assert_uint_eq(dumps, 0);
}
END_TEST

/* The kernel picked another port than it was given: a dump, an answer or an event shows it. */
START_TEST(another_translation)
{
	struct flow	*f = flow_entry(1, IPPROTO_UDP), g;

	f->status |= FLOW_S_SRC_NAT;
	f->reply.dst.b[0] = 203;
	f->reply.l4dst = 4000;
	local_adopting(l, true, now);
	ck_assert_int_eq(adopt(f), 1);
	ck_assert_int_eq(adopt(flow_entry(2, IPPROTO_UDP)), 1);
	local_adopting(l, false, now);
	now += 10 * SECOND;
	f->reply.l4dst = 4001;
	if (_i == 0) {
		dump();
	} else if (_i == 1) {
		event(LOCAL_UPDATE, 1);
	} else {
		local_resync(l);
		run();
		local_dump_end(l, 0, now);	/* shows nothing */
		settle();
	}
	ck_assert(held(1, &g));
	ck_assert_uint_eq(g.reply.l4dst, 4001);
	ck_assert_uint_eq(local_stats(l)->retranslated, 1);
	/* counted once; and afterwards it is a flow as any other */
	dump();
	event(LOCAL_UPDATE, 1);
	f->reply.l4dst = 4002;
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->retranslated, 1);
}
END_TEST

/* A flow whose end is held back is no adopted one, though another id is expected. */
START_TEST(another_translation_after_the_end)
{
	struct flow	*f;

	birth(2);
	dump();
	lost_address = true;
	event(LOCAL_DESTROY, 2);
	f = flow_entry(2, IPPROTO_UDP);		/* its events are lost */
	f->reply.l4dst = 4000;
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->retranslated, 0);
}
END_TEST

/* --- what few flows have ------------------------------------------------------------------- */

/* The kernel tells of an SCTP flow before it knows its state. */
START_TEST(sctp_without_its_state)
{
	struct flow	*f = flow_entry(1, IPPROTO_SCTP), delta = *f, g;

	delta.has &= ~(uint32_t)FLOW_HAS_SCTP;
	delta.rare.sctp_state = 0;
	delta.rare.sctp_vtag[0] = 0;
	tell(LOCAL_NEW, &delta);
	ck_assert(!has(1));
	ck_assert_uint_eq(local_stats(l)->partial, 1);
	run();
	ck_assert_uint_eq(njobs, 1);
	settle();
	check_equal();
	/* known, it stays as it is when an event says nothing of it */
	delta.status &= ~FLOW_S_ASSURED;
	tell(LOCAL_UPDATE, &delta);
	ck_assert(held(1, &g));
	ck_assert_uint_eq(g.rare.sctp_state, FLOW_SCTP_ESTABLISHED);
	ck_assert_uint_eq(g.rare.sctp_vtag[0], 1);
	ck_assert_uint_eq(g.status & FLOW_S_ASSURED, 0);
	/* one that tells its state is enough */
	(void)flow_entry(2, IPPROTO_SCTP);
	event(LOCAL_NEW, 2);
	ck_assert(has(2));
	ck_assert_uint_eq(local_stats(l)->partial, 1);
}
END_TEST

static void
give_all(struct flow *f)
{
	f->rare.labels[3] = 8;
	strcpy(f->helper, "ftp");
	f->master_proto = IPPROTO_TCP;
	f->master.l4dst = 21;
	f->rare.seqadj[1].after = 7;
	f->rare.tsoff = 9;
	f->has |= FLOW_HAS_WHOLE;
}

/* What an event does not tell stays; what a dump or an answer does not show is gone. */
START_TEST(parts_come_and_go)
{
	struct flow	*f = flow_entry(1, IPPROTO_UDP), g, plain = *f;

	give_all(f);
	event(LOCAL_NEW, 1);
	check_equal();
	plain.mark = 4;
	tell(LOCAL_UPDATE, &plain);
	f->mark = 4;
	check_equal();
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->dump_changed, 0);

	kern[1].f = plain;		/* silently */
	if (_i == 0) {
		dump();
	} else {
		local_resync(l);
		run();
		local_dump_end(l, 0, now);
		settle();
	}
	check_equal();
	ck_assert(held(1, &g));
	ck_assert_uint_eq(g.has & FLOW_HAS_WHOLE, 0);
	ck_assert_uint_eq(local_stats(l)->dump_changed, 1);
	/* and again, by an event */
	give_all(&kern[1].f);
	event(LOCAL_UPDATE, 1);
	check_equal();
}
END_TEST

/* A dump says nothing of the state of flows that are offloaded, SCTP among them. */
START_TEST(states_stay)
{
	struct flow	*f = flow_entry(1, IPPROTO_SCTP), g;

	event(LOCAL_NEW, 1);
	f->has &= ~(uint32_t)FLOW_HAS_SCTP;
	dump();
	ck_assert(held(1, &g));
	ck_assert_uint_eq(g.rare.sctp_state, FLOW_SCTP_ESTABLISHED);
	ck_assert_uint_eq(local_stats(l)->dump_changed, 0);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("local_rare");
	TCase	*tc = tcase_create("rare");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_expectation_goes_with_its_master);
	tcase_add_loop_test(tc, an_expectation_comes_before_its_master, 0, 3);
	tcase_add_test(tc, masters_are_found_in_zones);
	tcase_add_test(tc, an_expectation_becomes_active);
	tcase_add_test(tc, a_master_that_is_kept_out);
	tcase_add_test(tc, kept_out_meanwhile);
	tcase_add_test(tc, a_dump_shows_expectations);
	tcase_add_test(tc, a_dump_lacks_an_expectation);
	tcase_add_test(tc, the_end_of_another_expectation);
	tcase_add_loop_test(tc, news_of_another_expectation, 0, 2);
	tcase_add_test(tc, what_was_expected_comes);
	tcase_add_test(tc, an_end_is_not_held_back);
	tcase_add_loop_test(tc, a_master_that_is_asked_for, 0, 3);
	tcase_add_test(tc, questions_come_to_an_end);
	tcase_add_test(tc, expectations_of_an_adopted_flow);
	tcase_add_test(tc, the_end_of_an_adopted_expectation);
	tcase_add_loop_test(tc, another_translation, 0, 3);
	tcase_add_test(tc, another_translation_after_the_end);
	tcase_add_test(tc, sctp_without_its_state);
	tcase_add_loop_test(tc, parts_come_and_go, 0, 2);
	tcase_add_test(tc, states_stay);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
