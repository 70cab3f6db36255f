/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: what events, dumps and answers to GETs make of the local table,
 * in every order in which they can come; ends that are held back; verification.
 *
 * The kernel is an array here.  The test says when an event is handed over,
 * when a dump shows an entry, and when a GET is answered.
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

#define KEYS		3000
#define JOBS		8
#define SECOND		1000000u

static struct {
	bool		 there;
	uint32_t	 mark, id, status;
} kern[KEYS];

static struct feed	*feed;
static struct local	*l;
static struct kjob	*jobs[JOBS];
static unsigned		 njobs, dumps;
static bool		 fast, busy, lost_address;
static uint64_t		 now;
static uint32_t		 ids;

/* --- ports -------------------------------------------------------------------- */

static int
port_submit(void *ctx, struct kjob *j)
{
	(void)ctx;
	if (busy || njobs == JOBS)
		return -EAGAIN;
	jobs[njobs++] = j;
	return 0;
}

static void
port_dump(void *ctx)
{
	(void)ctx;
	dumps++;
	fast = local_dump_fast(l);
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
	return lost_address && a->b[0] == 203;
}

static bool
port_filter(void *ctx, const struct flow *f)
{
	(void)ctx;
	return f->mark != 77;
}

static const struct kernel_port	port = { port_submit, port_dump, port_age, port_lost };

static void
setup(void)
{
	struct feed_conf	 c;

	memset(&c, 0, sizeof(c));
	c.epoch = 1;
	c.max_flows = KEYS;
	c.max_tombs = KEYS;
	c.frame_bytes = 1400;
	feed = feed_new(&c, &null_feed_ops, NULL);
	ck_assert_ptr_nonnull(feed);
	memset(kern, 0, sizeof(kern));
	njobs = dumps = 0;
	busy = lost_address = false;
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

/* --- flows ---------------------------------------------------------------------- */

static void
flow_of(unsigned k, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = IPPROTO_UDP;
	f->orig.src.b[0] = 10;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = (uint16_t)(1000 + k);
	f->orig.l4dst = 53;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->reply.dst.b[0] = k % 2 == 0 ? 203 : 204;
	f->status = FLOW_S_CONFIRMED | FLOW_S_SRC_NAT | kern[k].status;
	f->mark = kern[k].mark;
	f->id = kern[k].id;
	f->timeout_s = 100;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_ID | FLOW_HAS_REPLY;
}

static void
event(enum local_event ev, unsigned k)
{
	struct local_key	 key;
	struct flow		 f;

	flow_of(k, &f);
	local_prefetch(l, &f, &key);
	local_event(l, ev, &f, &key, now);
}

/* Something happens in the kernel, and its event is not handed over (yet). */
static void
born(unsigned k, uint32_t mark)
{
	kern[k].there = true;
	kern[k].mark = mark;
	kern[k].id = ++ids;
}

static void
birth(unsigned k, uint32_t mark)
{
	born(k, mark);
	event(LOCAL_NEW, k);
}

static void
death(unsigned k)
{
	event(LOCAL_DESTROY, k);
	kern[k].there = false;
}

/* The kernel does the oldest job; what it found then, to be told later. */
static struct kjob *
work(void)
{
	struct kjob	*j;
	struct flow	 f;
	uint32_t	 i;
	unsigned	 k;
	size_t		 used;

	ck_assert_uint_gt(njobs, 0);
	j = jobs[0];
	memmove(jobs, jobs + 1, sizeof(jobs[0]) * --njobs);
	ck_assert_int_eq(j->op, KOP_GET);
	ck_assert_int_eq(j->owner, KOWNER_LOCAL);
	j->flows = calloc(j->n, sizeof(*j->flows));
	for (i = 0; i < j->n; i++) {
		ck_assert_int_eq(flow_unpack_key(j->bytes + j->items[i].off, j->items[i].len, &f,
		    &used), 0);
		k = f.orig.l4src - 1000u;
		if (kern[k].there)
			flow_of(k, &j->flows[i]);
		else
			j->items[i].err = -ENOENT;
	}
	return j;
}

static void
run(void)
{
	unsigned	 i;

	for (i = 0; i < 10000 && local_run(l, now); i++)
		;
	ck_assert_uint_lt(i, 10000);
}

/* Until nobody wants anything of the kernel. */
static void
settle(void)
{
	run();
	while (njobs > 0) {
		local_got(l, work(), now);
		run();
	}
}

static void
show(unsigned k)
{
	struct flow	 f;

	flow_of(k, &f);
	local_dump_entry(l, &f, now);
}

static void
show_all(void)
{
	unsigned	 k;

	for (k = 0; k < KEYS; k++)
		if (kern[k].there) {
			while (!local_dump_ready(l)) {
				run();
				local_got(l, work(), now);
			}
			show(k);
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
	ck_assert(!local_resyncing(l));
}

/* What the table has under that key; false if nothing. */
static bool
held(unsigned k, struct flow *f)
{
	struct local_key	 key;
	const uint8_t		*body;
	size_t			 len;
	uint32_t		 h;

	flow_of(k, f);
	local_prefetch(l, f, &key);
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

static uint32_t
mark_of(unsigned k)
{
	struct flow	 f;

	ck_assert(held(k, &f));
	return f.mark;
}

static void
check_equal(void)
{
	struct flow	 f;
	unsigned	 k;

	for (k = 0; k < KEYS; k++) {
		ck_assert_msg(held(k, &f) == kern[k].there, "flow %u", k);
		if (kern[k].there)
			ck_assert_msg(f.mark == kern[k].mark && f.id == kern[k].id, "flow %u", k);
	}
}

/* --- events, dumps, answers ----------------------------------------------------- */

START_TEST(a_dump_finds_everything)
{
	unsigned	 k;

	for (k = 0; k < 1000; k++)
		birth(k, k + 100);
	dump();
	for (k = 0; k < 1000; k += 3)
		kern[k].there = false;		/* silently */
	for (k = 1; k < 1000; k += 3)
		kern[k].mark++;
	for (k = 1000; k < 2000; k++)
		born(k, 5);
	dump();
	check_equal();
	ck_assert_uint_eq(local_stats(l)->confirmed_gone, 334);
	ck_assert_uint_eq(local_stats(l)->dump_changed, 333);
	ck_assert_uint_eq(local_stats(l)->dump_added, 1000);
}
END_TEST

/* The dump read the entry before it changed. */
START_TEST(an_event_is_newer_than_the_dump)
{
	struct flow	 old;

	birth(1, 5);
	dump();
	local_resync(l);
	run();
	flow_of(1, &old);
	kern[1].mark = 6;
	event(LOCAL_UPDATE, 1);
	ck_assert(local_dump_ready(l));
	local_dump_entry(l, &old, now);
	ck_assert_uint_eq(mark_of(1), 6);
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(mark_of(1), 6);
	ck_assert_uint_eq(local_stats(l)->dump_changed, 0);
}
END_TEST

/* An event of the flow was lost, and another one came while the dump ran. */
START_TEST(a_touched_entry_that_differs_is_asked_for)
{
	struct flow	 f;
	struct local_key key;

	birth(1, 5);
	dump();
	kern[1].status = FLOW_S_ASSURED;	/* lost */
	local_resync(l);
	run();
	flow_of(1, &f);
	f.status = 0;
	f.has = FLOW_HAS_ID | FLOW_HAS_REPLY;
	local_prefetch(l, &f, &key);
	local_event(l, LOCAL_UPDATE, &f, &key, now);	/* says nothing of the status */
	ck_assert(local_dump_ready(l));
	show(1);
	local_dump_end(l, 0, now);
	settle();
	ck_assert(held(1, &f));
	ck_assert_uint_ne(f.status & FLOW_S_ASSURED, 0);
}
END_TEST

/* The dump read the entry before it ended: it does not come back. */
START_TEST(an_end_is_newer_than_the_dump)
{
	struct flow	 old;

	birth(1, 5);
	dump();
	local_resync(l);
	run();
	flow_of(1, &old);
	death(1);
	ck_assert(local_dump_ready(l));
	local_dump_entry(l, &old, now);
	/* nor with the entries that were read before those were handed over */
	local_dump_taken(l);
	ck_assert(local_dump_ready(l));
	local_dump_entry(l, &old, now);
	ck_assert(!has(1));
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!has(1));
	ck_assert_uint_eq(local_stats(l)->dump_added, 0);
}
END_TEST

/* It ended so long before that what the dump shows is another flow. */
START_TEST(an_end_is_older_than_the_dump)
{
	birth(1, 5);
	birth(2, 5);
	dump();
	local_resync(l);
	run();
	death(1);
	show(2);
	local_dump_taken(l);
	show(2);
	local_dump_taken(l);
	born(1, 6);			/* its event is lost */
	ck_assert(local_dump_ready(l));
	show(1);
	ck_assert_uint_eq(mark_of(1), 6);
	ck_assert_uint_eq(njobs, 0);
	local_dump_end(l, 0, now);
	settle();
	check_equal();
}
END_TEST

START_TEST(a_dying_entry_is_no_news)
{
	birth(1, 5);
	dump();
	local_resync(l);
	run();
	death(1);
	kern[1].status = FLOW_S_DYING;
	ck_assert(local_dump_ready(l));
	show(1);
	ck_assert(!has(1));
	kern[1].there = true;		/* a GET finds it just before it is unlinked */
	kern[2] = kern[1];
	born(2, 1);
	kern[2].status = 0;
	event(LOCAL_NEW, 2);
	kern[2].status = FLOW_S_DYING;
	local_dump_end(l, 0, now);
	local_resync(l);
	run();
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!has(2));
}
END_TEST

/* A GET found the flow, or not; what happened since is newer. */
START_TEST(an_event_is_newer_than_an_answer)
{
	struct kjob	*j;

	birth(1, 5);
	birth(2, 5);
	dump();
	kern[1].there = kern[2].there = false;
	local_resync(l);
	run();
	local_dump_end(l, 0, now);
	run();
	j = work();
	birth(1, 6);
	local_got(l, j, now);
	settle();
	check_equal();
	ck_assert_uint_eq(mark_of(1), 6);
}
END_TEST

/*
 * Asked, then an event, then asked again: the first answer is not taken for the
 * second one.
 */
START_TEST(the_answer_to_an_earlier_question)
{
	struct kjob	*first;
	uint32_t	 id;

	birth(1, 5);
	dump();
	local_resync(l);
	run();
	local_dump_end(l, 0, now);	/* does not show it */
	run();
	first = work();			/* but it lives */
	id = kern[1].id;
	birth(1, 6);			/* born again, the end was lost: the next one is checked */
	ck_assert_uint_ne(kern[1].id, id);
	death(1);
	ck_assert(has(1));
	run();
	local_got(l, first, now);
	ck_assert_uint_eq(mark_of(1), 6);
	settle();
	ck_assert(!has(1));
}
END_TEST

/* Another flow had the tuple for a moment, and only its end was told: no answer brings it back. */
START_TEST(an_answer_about_another_flow)
{
	struct kjob	*j;

	birth(1, 5);
	dump();
	born(1, 6);			/* the end of the first one is lost, and this */
	local_resync(l);
	run();
	local_dump_end(l, 0, now);	/* does not show it */
	run();
	j = work();			/* finds the second one */
	death(1);
	local_got(l, j, now);
	settle();
	ck_assert(!has(1));
	ck_assert_uint_eq(local_unknown_us(l), 0);
}
END_TEST

/* The same, and a dump has read it. */
START_TEST(a_dump_about_another_flow)
{
	struct flow	 f;

	birth(1, 5);
	dump();
	born(1, 6);
	local_resync(l);
	run();
	flow_of(1, &f);
	death(1);
	local_dump_entry(l, &f, now);
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!has(1));
}
END_TEST

/* An event that tells little does not settle what an answer would have told. */
START_TEST(an_answer_that_differs_is_asked_for_again)
{
	struct local_key	 key;
	struct flow		 f;
	struct kjob		*j;

	birth(1, 5);
	dump();
	kern[1].mark = 6;		/* the event is lost */
	local_resync(l);
	run();
	local_dump_end(l, 0, now);
	run();
	j = work();
	flow_of(1, &f);
	f.has &= ~FLOW_HAS_MARK;
	local_prefetch(l, &f, &key);
	local_event(l, LOCAL_UPDATE, &f, &key, now);
	local_got(l, j, now);
	ck_assert_uint_eq(mark_of(1), 5);
	settle();
	ck_assert_uint_eq(mark_of(1), 6);
	ck_assert_uint_eq(local_unknown_us(l), 0);
}
END_TEST

START_TEST(new_on_a_live_entry_replaces_it)
{
	struct flow	 f;
	uint8_t		 inc;

	birth(1, 5);
	kern[1].status = FLOW_S_ASSURED;
	event(LOCAL_UPDATE, 1);
	ck_assert(held(1, &f));
	inc = f.incarnation;
	kern[1].status = 0;
	birth(1, 6);
	ck_assert(held(1, &f));
	ck_assert_uint_eq(f.incarnation, (uint8_t)(inc + 1));
	ck_assert_uint_eq(f.status & FLOW_S_ASSURED, 0);
	ck_assert_uint_eq(local_stats(l)->reborn, 1);

	/* the end of the former one, late */
	kern[1].id--;
	event(LOCAL_DESTROY, 1);
	kern[1].id++;
	ck_assert(has(1));
	ck_assert_uint_eq(local_stats(l)->stale_destroys, 1);
	ck_assert_uint_eq(njobs, 0);

	/* its own is believed when the kernel says so */
	event(LOCAL_DESTROY, 1);
	settle();
	ck_assert(has(1));
	death(1);
	settle();
	ck_assert(!has(1));
}
END_TEST

START_TEST(a_delta_of_another_flow)
{
	struct flow	 f;
	struct local_key key;

	birth(1, 5);
	born(1, 6);
	kern[1].status = FLOW_S_ASSURED;
	flow_of(1, &f);
	f.has = FLOW_HAS_ID | FLOW_HAS_MARK | FLOW_HAS_REPLY;
	local_prefetch(l, &f, &key);
	local_event(l, LOCAL_UPDATE, &f, &key, now);
	settle();
	ck_assert(held(1, &f));
	ck_assert_uint_eq(f.id, kern[1].id);
	ck_assert_uint_ne(f.status & FLOW_S_ASSURED, 0);
	ck_assert_uint_eq(f.incarnation, 1);
}
END_TEST

/* That the kernel adjusts sequence numbers of a master has no event: it is asked, for TCP. */
START_TEST(a_master_is_looked_at)
{
	struct flow	 f, e;
	struct local_key key, ekey;

	flow_of(1, &f);
	f.proto = IPPROTO_TCP;
	f.tcp_state = FLOW_TCP_ESTABLISHED;
	f.has |= FLOW_HAS_TCP_STATE;
	local_prefetch(l, &f, &key);
	local_event(l, LOCAL_NEW, &f, &key, now);
	birth(2, 5);
	memset(&e, 0, sizeof(e));
	e.expect = true;
	e.family = f.family;
	e.proto = IPPROTO_TCP;
	e.has = FLOW_HAS_EXPECT | FLOW_HAS_MASTER | FLOW_HAS_HELPER;
	flow_of(2, &f);
	e.orig.l4dst = 5000;
	e.master_proto = f.proto;
	e.master = f.orig;
	local_prefetch(l, &e, &ekey);
	local_event(l, LOCAL_NEW, &e, &ekey, now);
	run();
	ck_assert_uint_eq(njobs, 0);
	e.orig.l4dst = 5001;
	e.master_proto = IPPROTO_TCP;
	e.master.l4src = 1001;
	local_prefetch(l, &e, &ekey);
	local_event(l, LOCAL_NEW, &e, &ekey, now);
	run();
	ck_assert_uint_eq(njobs, 1);
	ck_assert_int_eq(jobs[0]->op, KOP_GET);
	ck_assert_uint_eq(jobs[0]->n, 1);
	ck_assert_uint_eq(jobs[0]->items[0].len, key.len);
	ck_assert_mem_eq(jobs[0]->bytes, key.key, key.len);
	ck_assert_uint_eq(feed_expects(feed), 2);
}
END_TEST

/* The kernel is busy, and every entry of a large dump differs from what an event said. */
START_TEST(questions_are_bounded)
{
	unsigned	 k, waited = 0;

	for (k = 0; k < KEYS; k++)
		birth(k, 5);
	local_resync(l);
	run();
	for (k = 0; k < KEYS; k++)
		event(LOCAL_UPDATE, k);
	busy = true;
	for (k = 0; k < KEYS; k++) {
		kern[k].mark = 6;	/* lost */
		if (k % 200 == 0)
			while (!local_dump_ready(l)) {
				busy = false;
				run();
				ck_assert_uint_le(njobs, 3);
				local_got(l, work(), now);
				busy = true;
				waited++;
			}
		show(k);
	}
	ck_assert_uint_gt(waited, 0);
	busy = false;
	local_dump_end(l, 0, now);
	settle();
	check_equal();
}
END_TEST

START_TEST(another_overrun_queues_another_dump)
{
	local_overrun(l, now);
	run();
	ck_assert_uint_eq(dumps, 1);
	local_overrun(l, now);
	run();
	ck_assert_uint_eq(dumps, 1);
	local_dump_end(l, 0, now);
	run();
	ck_assert_uint_eq(dumps, 2);
	ck_assert(fast && local_resyncing(l));
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(dumps, 2);
	ck_assert(!local_resyncing(l));
}
END_TEST

START_TEST(an_audit_gives_way)
{
	birth(1, 5);
	dump();
	ck_assert(fast);
	local_audit(l);
	run();
	ck_assert_uint_eq(dumps, 2);
	ck_assert(!fast);
	local_audit(l);			/* one at a time */
	run();
	ck_assert_uint_eq(dumps, 2);
	local_overrun(l, now);
	run();
	ck_assert_uint_eq(dumps, 3);
	ck_assert(fast);
	show_all();
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(dumps, 3);
	check_equal();
}
END_TEST

START_TEST(a_failed_dump_is_made_again)
{
	local_resync(l);
	run();
	local_dump_end(l, -EIO, now);
	run();
	ck_assert_uint_eq(dumps, 1);
	now += 2 * SECOND;
	run();
	ck_assert_uint_eq(dumps, 2);
}
END_TEST

/* We deleted a flow, and the same tuple was born again before we heard of it. */
START_TEST(removed_and_born_again)
{
	struct flow	 f;
	uint8_t		 key[FLOW_KEY_MAX];
	size_t		 klen;

	birth(1, 5);
	birth(3, 5);
	now += 100 * SECOND;
	kern[1].there = kern[3].there = false;
	birth(1, 6);
	flow_of(1, &f);
	klen = flow_pack_key(&f, key);
	local_removed(l, key, klen, true, now, now);
	flow_of(3, &f);
	klen = flow_pack_key(&f, key);
	local_removed(l, key, klen, true, now, now);
	ck_assert(!has(3));
	settle();
	check_equal();
	ck_assert_uint_eq(mark_of(1), 6);
}
END_TEST

/* --- ends that are held back ------------------------------------------------------ */

START_TEST(an_end_is_held_back)
{
	birth(2, 5);
	birth(3, 5);			/* translated to another address */
	birth(4, 5);
	dump();
	lost_address = true;
	death(2);
	death(3);
	ck_assert(has(2) && !has(3));
	ck_assert_uint_eq(local_stats(l)->held, 1);
	now += 5 * SECOND;
	death(2);			/* does not begin anew */
	dump();				/* neither a dump nor a GET removes it */
	ck_assert(has(2));
	lost_address = false;
	death(4);
	ck_assert(!has(4));
	now += 4 * SECOND;
	run();
	ck_assert(has(2));
	now += 2 * SECOND;
	run();
	ck_assert(!has(2));
	check_equal();
}
END_TEST

START_TEST(a_held_flow_is_born_again)
{
	struct flow	 f;
	uint8_t		 inc;
	int		 same_id = _i;

	birth(2, 5);
	ck_assert(held(2, &f));
	inc = f.incarnation;
	lost_address = true;
	death(2);
	born(2, 6);
	if (same_id)
		kern[2].id = f.id;	/* the kernel used the same memory again */
	event(LOCAL_NEW, 2);
	ck_assert(held(2, &f));
	ck_assert_uint_eq(f.incarnation, (uint8_t)(inc + 1));
	now += 20 * SECOND;
	run();
	ck_assert(has(2));
	check_equal();
	lost_address = false;
	death(2);
	settle();
	ck_assert(!has(2));
}
END_TEST

/* A dump that was read before the end; and one that shows that it lives again. */
START_TEST(a_held_flow_in_a_dump)
{
	struct flow	 old, f;

	birth(2, 5);
	birth(4, 5);
	dump();
	local_resync(l);
	run();
	lost_address = true;
	flow_of(2, &old);
	death(2);
	death(4);
	born(4, 6);			/* lost */
	ck_assert(local_dump_ready(l));
	local_dump_entry(l, &old, now);
	show(4);
	local_dump_end(l, 0, now);
	settle();
	ck_assert(has(2));
	ck_assert(held(4, &f));
	ck_assert_uint_eq(f.mark, 6);
	ck_assert_uint_eq(f.incarnation, 1);
	now += 20 * SECOND;
	run();
	check_equal();
}
END_TEST

/* The handle of a held flow that is gone belongs to others by now. */
START_TEST(handles_are_given_out_again)
{
	unsigned	 k;

	for (k = 0; k < 2 * 1100; k += 2)
		birth(k, 5);
	lost_address = true;
	for (k = 0; k < 2 * 1100; k += 2)
		death(k);
	ck_assert_uint_eq(feed_flows(feed), 1100);
	for (k = 0; k < 2 * 1100; k += 2)
		birth(k, 77);		/* the filter has it removed */
	ck_assert_uint_eq(feed_flows(feed), 0);
	for (k = 1; k < 2 * 1100; k += 2)
		birth(k, 5);
	for (k = 0; k < 100; k += 2)
		kern[k].there = false;
	now += 20 * SECOND;
	run();
	for (k = 1; k < 2 * 1100; k += 2)
		ck_assert(has(k));
	ck_assert_uint_eq(feed_flows(feed), 1100);
}
END_TEST

/* --- verification ------------------------------------------------------------------- */

static const struct local_verified *
verify(void)
{
	unsigned	 before = dumps;

	local_verify_begin(l);
	run();
	ck_assert_uint_eq(dumps, before + 1);
	ck_assert(fast && local_verifying(l));
	show_all();
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!local_verifying(l));
	return local_verified(l);
}

START_TEST(verified_equal)
{
	const struct local_verified	*v;
	unsigned			 k;

	for (k = 0; k < 1000; k++)
		birth(k, 5);
	dump();
	birth(1500, 77);		/* left out */
	lost_address = true;
	death(2);			/* held */
	v = verify();
	ck_assert_uint_eq(verify_log_total(&v->log), 0);
	ck_assert_uint_eq(v->flows, 1000);
	ck_assert(!v->lost);
}
END_TEST

START_TEST(verified_different)
{
	const struct local_verified	*v;
	const uint8_t			*p;
	struct flow			 f;
	size_t				 len;
	unsigned			 k, i, n[VERIFY_KINDS] = { 0 };

	for (k = 0; k < 100; k++)
		birth(k, 5);
	dump();
	for (k = 0; k < 10; k++)
		kern[k].there = false;
	for (k = 10; k < 30; k++)
		kern[k].mark = 6;
	for (k = 100; k < 140; k++)
		born(k, 7);
	v = verify();
	ck_assert_uint_eq(v->log.count[VERIFY_MISSING_THERE], 10);
	ck_assert_uint_eq(v->log.count[VERIFY_CHANGED], 20);
	ck_assert_uint_eq(v->log.count[VERIFY_MISSING_HERE], 40);
	ck_assert_uint_eq(v->log.n, 70);
	for (i = 0; i < v->log.n; i++) {
		n[v->log.flows[i].kind]++;
		p = verify_log_here(&v->log, i, &len);
		ck_assert((p == NULL) == (v->log.flows[i].kind == VERIFY_MISSING_HERE));
		if (p != NULL) {
			ck_assert_int_eq(flow_unpack(p, len, &f), 0);
			ck_assert_uint_eq(f.mark, 5);
		}
		p = verify_log_there(&v->log, i, &len);
		ck_assert((p == NULL) == (v->log.flows[i].kind == VERIFY_MISSING_THERE));
		if (p != NULL) {
			ck_assert_int_eq(flow_unpack(p, len, &f), 0);
			ck_assert_uint_ge(f.mark, 6);
		}
	}
	ck_assert_uint_eq(n[VERIFY_CHANGED], 20);
	check_equal();			/* repaired */
	v = verify();
	ck_assert_uint_eq(verify_log_total(&v->log), 0);
}
END_TEST

START_TEST(verified_by_no_more_than_is_recorded)
{
	const struct local_verified	*v;
	unsigned			 k;

	dump();
	for (k = 0; k < 2500; k++)
		born(k, 7);
	v = verify();
	ck_assert_uint_eq(v->log.count[VERIFY_MISSING_HERE], 2500);
	ck_assert_uint_eq(v->log.n, VERIFY_FLOWS_MAX);
	check_equal();
}
END_TEST

/* The kernel shows changes a moment before their events can be read. */
START_TEST(verified_while_events_are_late)
{
	const struct local_verified	*v;
	struct kjob			*j;

	birth(1, 5);
	birth(3, 5);
	dump();
	local_verify_begin(l);
	run();
	kern[1].mark = 6;
	born(5, 5);
	born(7, 5);
	ck_assert(local_dump_ready(l));
	show(1);
	show(3);
	show(5);
	show(7);
	show(5);			/* entries may come twice */
	event(LOCAL_UPDATE, 1);
	event(LOCAL_NEW, 5);
	local_dump_end(l, 0, now);
	run();
	j = work();
	event(LOCAL_NEW, 7);		/* while it was asked for */
	local_got(l, j, now);
	settle();
	v = local_verified(l);
	ck_assert(!local_verifying(l));
	ck_assert_uint_eq(verify_log_total(&v->log), 0);
	check_equal();
}
END_TEST

/* A flow that came and went while the verification looked. */
START_TEST(verified_while_flows_come_and_go)
{
	birth(1, 5);
	dump();
	local_verify_begin(l);
	run();
	born(5, 5);
	show(5);
	kern[5].there = false;
	death(1);
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!local_verifying(l));
	ck_assert_uint_eq(verify_log_total(&local_verified(l)->log), 0);
	check_equal();
}
END_TEST

START_TEST(verified_again_after_an_overrun)
{
	unsigned	 i;

	birth(1, 5);
	dump();
	local_verify_begin(l);
	for (i = 0; i < 3; i++) {
		run();
		local_verify_begin(l);		/* joins */
		kern[1].mark++;
		show_all();
		local_overrun(l, now);
		local_dump_end(l, 0, now);
		settle();			/* another dump, for the overrun */
		ck_assert(local_verifying(l) == (i < 2));
		show_all();
		local_dump_end(l, 0, now);
		settle();
	}
	ck_assert_uint_eq(dumps, 7);
	ck_assert(!local_verifying(l) && local_verified(l)->lost);
	check_equal();
	/* what an overrun has cost is not held against us when it is over */
	ck_assert_uint_eq(verify_log_total(&verify()->log), 0);
	ck_assert(!local_verified(l)->lost);
}
END_TEST

START_TEST(verification_waits_its_turn)
{
	birth(1, 5);
	local_resync(l);
	local_verify_begin(l);
	run();
	ck_assert_uint_eq(dumps, 1);
	show_all();
	kern[3].there = true;
	show(3);			/* the first dump's business */
	local_dump_end(l, 0, now);
	settle();
	ck_assert_uint_eq(dumps, 2);
	show_all();
	local_dump_end(l, 0, now);
	settle();
	ck_assert(!local_verifying(l));
	ck_assert_uint_eq(verify_log_total(&local_verified(l)->log), 0);
}
END_TEST

static void
add_all(TCase *tc)
{
	tcase_add_test(tc, a_dump_finds_everything);
	tcase_add_test(tc, an_event_is_newer_than_the_dump);
	tcase_add_test(tc, a_touched_entry_that_differs_is_asked_for);
	tcase_add_test(tc, an_end_is_newer_than_the_dump);
	tcase_add_test(tc, an_end_is_older_than_the_dump);
	tcase_add_test(tc, a_dying_entry_is_no_news);
	tcase_add_test(tc, an_event_is_newer_than_an_answer);
	tcase_add_test(tc, the_answer_to_an_earlier_question);
	tcase_add_test(tc, an_answer_about_another_flow);
	tcase_add_test(tc, a_dump_about_another_flow);
	tcase_add_test(tc, an_answer_that_differs_is_asked_for_again);
	tcase_add_test(tc, new_on_a_live_entry_replaces_it);
	tcase_add_test(tc, a_delta_of_another_flow);
	tcase_add_test(tc, a_master_is_looked_at);
	tcase_add_test(tc, questions_are_bounded);
	tcase_add_test(tc, another_overrun_queues_another_dump);
	tcase_add_test(tc, an_audit_gives_way);
	tcase_add_test(tc, a_failed_dump_is_made_again);
	tcase_add_test(tc, removed_and_born_again);
	tcase_add_test(tc, an_end_is_held_back);
	tcase_add_loop_test(tc, a_held_flow_is_born_again, 0, 2);
	tcase_add_test(tc, a_held_flow_in_a_dump);
	tcase_add_test(tc, handles_are_given_out_again);
	tcase_add_test(tc, verified_equal);
	tcase_add_test(tc, verified_different);
	tcase_add_test(tc, verified_by_no_more_than_is_recorded);
	tcase_add_test(tc, verified_while_events_are_late);
	tcase_add_test(tc, verified_while_flows_come_and_go);
	tcase_add_test(tc, verified_again_after_an_overrun);
	tcase_add_test(tc, verification_waits_its_turn);
}

int
main(void)
{
	Suite	*s = suite_create("local");
	TCase	*tc = tcase_create("local");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	add_all(tc);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
