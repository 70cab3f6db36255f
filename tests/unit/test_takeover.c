/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a takeover writes, in which order and with which timeouts: related flows
 * after their masters, expectations after both, what has lost its master last.
 * The first of two nodes dies with what it has told, and the second one's kernel
 * notes what it was given.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_init(2);
	vc.conf.liberal = false;	/* and nothing is read again */
}

/* Two nodes, the first one active. */
static void
start_both(void)
{
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vn_takeover(&fw[0]);
}

/* The first node dies with all that it has told, and the second one takes over. */
static const struct node_taken *
takeover(void)
{
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(50);
	return vn_command(&fw[1], NODE_TAKEOVER);
}

/* --- flows --------------------------------------------------------------------------- */

/* A flow of the first node, with a master unless that is 0. */
static void
give(uint8_t proto, uint16_t port, uint16_t master)
{
	struct flow	 f;

	mk_flow(&f, proto, port);
	if (master != 0)
		mk_master(&f, IPPROTO_UDP, master);
	vk_new(&fw[0], &f);
}

static void
give_expect(uint16_t port, uint16_t master)
{
	struct flow	 f;

	mk_expect(&f, port, master);
	vk_new(&fw[0], &f);
}

/* Of the second node's kernel. */
static struct vk_entry *
written(uint8_t proto, uint16_t port, bool expect)
{
	struct flow	 f;

	mk_flow(&f, proto, port);
	f.expect = expect;
	return vk_find(&fw[1], &f);
}

/* Which write it was; fails if it is not in the second node's kernel. */
static unsigned
at(uint8_t proto, uint16_t port)
{
	const struct vk_entry	*e = written(proto, port, false);

	ck_assert_msg(e != NULL && e->there && e->written > 0, "port %u was not written", port);
	return e->written;
}

static unsigned
expected_at(uint16_t port)
{
	const struct vk_entry	*e = written(IPPROTO_TCP, port, true);

	ck_assert_msg(e != NULL && e->there && e->written > 0, "port %u was not written", port);
	return e->written;
}

/* What the second node's own table has; false: nothing. */
static bool
owns(uint8_t proto, uint16_t port, bool expect, struct flow *f)
{
	struct flow	 key;

	mk_flow(&key, proto, port);
	key.expect = expect;
	return vn_owns(&fw[1], &key, f);
}

/* --- order ----------------------------------------------------------------------------- */

/*
 * Three generations below a call, told in an order of their own, among others;
 * the order itself is looked at when they are written.
 */
START_TEST(masters_go_first)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	for (p = 100; p < 140; p++)
		give(IPPROTO_TCP, p, 0);
	give(IPPROTO_TCP, 13, 12);
	give(IPPROTO_UDP, 12, 11);
	give(IPPROTO_UDP, 11, 10);
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_TCP, 23, 10);
	give_expect(30, 10);
	give_expect(31, 12);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->flows, 47);
	ck_assert_uint_eq(k->created, 47);
	ck_assert_uint_eq(k->adopted, 47);
	ck_assert_uint_eq(k->expects, 2);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_lt(at(IPPROTO_UDP, 10), at(IPPROTO_UDP, 11));
	ck_assert_uint_lt(at(IPPROTO_UDP, 11), at(IPPROTO_UDP, 12));
	ck_assert_uint_lt(at(IPPROTO_UDP, 12), at(IPPROTO_TCP, 13));
	ck_assert_uint_gt(expected_at(30), 45);
	ck_assert_uint_gt(expected_at(31), 45);
	for (p = 100; p < 140; p++)
		ck_assert_uint_lt(at(IPPROTO_TCP, p), at(IPPROTO_UDP, 10));
	ck_assert(owns(IPPROTO_TCP, 13, false, &f));
	ck_assert_uint_eq(f.master.l4src, 12);
	ck_assert(owns(IPPROTO_TCP, 31, true, &f));
}
END_TEST

/* More of each than one job takes, and a kernel with little room. */
START_TEST(many_masters)
{
	const struct node_taken	*k;
	unsigned		 i, last = 0, first = UINT32_MAX;

	start_both();
	fw[1].room = 1 + (unsigned)_i;
	for (i = 0; i < 1100; i++) {
		give(IPPROTO_TCP, (uint16_t)(10000 + i), (uint16_t)(20000 + i));
		give(IPPROTO_UDP, (uint16_t)(20000 + i), 0);
		give_expect((uint16_t)(30000 + i), (uint16_t)(20000 + i));
		if (i % 100 == 0)
			vc_run_ms(20);
	}
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 3300);
	ck_assert_uint_eq(k->expects, 1100);
	ck_assert_uint_eq(k->lost_master, 0);
	for (i = 0; i < 1100; i++) {
		if (at(IPPROTO_TCP, (uint16_t)(10000 + i)) > last)
			last = at(IPPROTO_TCP, (uint16_t)(10000 + i));
		if (expected_at((uint16_t)(30000 + i)) < first)
			first = expected_at((uint16_t)(30000 + i));
	}
	ck_assert_uint_lt(last, first);
}
END_TEST

/* Deeper than there are passes, and in a circle: written all the same. */
START_TEST(deep_and_round)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	for (p = 17; p > 10; p--)
		give(IPPROTO_UDP, p, (uint16_t)(p - 1));
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 40, 41);
	give(IPPROTO_UDP, 41, 40);
	give(IPPROTO_UDP, 50, 50);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 11);
	for (p = 11; p < 14; p++)
		ck_assert_uint_lt(at(IPPROTO_UDP, (uint16_t)(p - 1)), at(IPPROTO_UDP, p));
	for (p = 14; p < 18; p++)
		ck_assert_uint_gt(at(IPPROTO_UDP, p), 0);
	for (p = 40; p < 42; p++)
		ck_assert_uint_gt(at(IPPROTO_UDP, p), 4);
	/* one that is its own master, and one of the circle, came before theirs */
	ck_assert_uint_ge(k->lost_master, 2);
	vc_run_ms(200);
	ck_assert(owns(IPPROTO_UDP, 50, false, &f));
	ck_assert_uint_eq(f.master_proto, 0);
}
END_TEST

/* A flow whose master has ended is written without it, an expectation is not. */
START_TEST(masters_that_are_gone)
{
	const struct node_taken	*k;
	struct flow		 f;

	start_both();
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 20, 0);
	give(IPPROTO_TCP, 11, 10);
	give(IPPROTO_TCP, 21, 20);
	give_expect(12, 10);
	give_expect(22, 20);
	vc_run_ms(100);
	mk_flow(&f, IPPROTO_UDP, 10);
	vk_destroy(&fw[0], vk_find(&fw[0], &f), true);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->flows, 5);
	ck_assert_uint_eq(k->created, 4);
	ck_assert_uint_eq(k->lost_master, 2);
	ck_assert_uint_eq(k->nfailures, 0);
	/* after all that have theirs */
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), at(IPPROTO_TCP, 21));
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), expected_at(22));
	ck_assert_ptr_null(written(IPPROTO_TCP, 12, true));
	/* and the table is what the kernel made of it */
	vc_run_ms(200);
	ck_assert(owns(IPPROTO_TCP, 11, false, &f));
	ck_assert_uint_eq(f.master_proto, 0);
	ck_assert(owns(IPPROTO_TCP, 21, false, &f));
	ck_assert_uint_eq(f.master.l4src, 20);
	ck_assert(!owns(IPPROTO_TCP, 12, true, &f));
	ck_assert(owns(IPPROTO_TCP, 22, true, &f));
}
END_TEST

/* The second node's kernel has the master already, and our table knows. */
START_TEST(masters_of_our_own)
{
	const struct node_taken	*k;
	struct flow		 f;

	mk_flow(&f, IPPROTO_UDP, 10);
	(void)vk_put(&fw[1], &f);
	start_both();
	vc_run_ms(100);
	ck_assert(owns(IPPROTO_UDP, 10, false, &f));
	give(IPPROTO_TCP, 11, 10);
	/* of the first node's table, an expectation needs its master there */
	give(IPPROTO_UDP, 10, 0);
	give_expect(12, 10);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_lt(at(IPPROTO_TCP, 11), expected_at(12));
	ck_assert(owns(IPPROTO_TCP, 12, true, &f));
}
END_TEST

/* The filter keeps a master out of our table: the kernel has it, and that is enough. */
START_TEST(masters_that_are_kept_out)
{
	const struct node_taken	*k;
	struct flow		 f;

	start_both();
	fw[1].keeps_out = 10;
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 20, 0);
	give(IPPROTO_TCP, 11, 10);
	give(IPPROTO_TCP, 21, 20);
	give_expect(12, 10);
	k = takeover();
	ck_assert_uint_eq(k->created, 5);
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), at(IPPROTO_TCP, 21));
	ck_assert(!owns(IPPROTO_UDP, 10, false, &f));
	ck_assert(owns(IPPROTO_TCP, 11, false, &f));
	ck_assert_uint_eq(f.master.l4src, 10);
	/* an expectation goes with its master */
	ck_assert_uint_gt(expected_at(12), 0);
	ck_assert(!owns(IPPROTO_TCP, 12, true, &f));
}
END_TEST

/* Given up while related flows wait for their masters: it ends. */
START_TEST(released_on_the_way)
{
	unsigned	 before;

	start_both();
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_TCP, 11, 10);
	give_expect(12, 10);
	vc_settle();
	vn_die(&fw[0]);
	before = fw[1].taken;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_wait(fw[1].njobs > 0);
	ck_assert_uint_eq(fw[1].jobs[0]->n, 1);
	node_release(fw[1].node, vc.now);
	vc_wait(fw[1].taken > before);
	ck_assert(node_taken(fw[1].node)->aborted);
	vc_run_ms(20);
	ck_assert_uint_gt(at(IPPROTO_UDP, 10), 0);
	ck_assert_ptr_null(written(IPPROTO_TCP, 11, false));
	/* and can be made again */
	before = fw[1].taken;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_wait(fw[1].taken > before);
	ck_assert_uint_gt(expected_at(12), at(IPPROTO_TCP, 11));
}
END_TEST

/* --- what the kernel does not take ---------------------------------------------------------- */

START_TEST(helpers_and_labels_are_lost)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	fw[1].no_labels = true;
	for (p = 10; p < 16; p++) {
		mk_flow(&f, IPPROTO_UDP, p);
		if (p % 2 == 0) {
			strcpy(f.helper, p < 14 ? "gone" : "ftp");
			f.has |= FLOW_HAS_HELPER;
		}
		if (p < 13) {
			f.rare.labels[0] = 1;
			f.has |= FLOW_HAS_LABELS;
		}
		vk_new(&fw[0], &f);
	}
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 6);
	ck_assert_uint_eq(k->lost_helper, 2);
	ck_assert_uint_eq(k->lost_labels, 3);
	ck_assert_uint_eq(k->lost_master, 0);
	/* the kernel was read again: the table does not claim what it has not */
	vc_run_ms(200);
	for (p = 10; p < 16; p++) {
		ck_assert(owns(IPPROTO_UDP, p, false, &f));
		ck_assert_uint_eq(f.has & FLOW_HAS_LABELS, 0);
		ck_assert_str_eq(f.helper, p == 14 ? "ftp" : "");
	}
}
END_TEST

/* --- timeouts ---------------------------------------------------------------------------------- */

static uint32_t
timeout_at(uint8_t proto, uint16_t port, bool expect)
{
	const struct vk_entry	*e = written(proto, port, expect);

	ck_assert_ptr_nonnull(e);
	return e->written_s;
}

/* Fixed by the configuration, as told, the kernel's if none was told, or else Linux's. */
START_TEST(timeouts)
{
	struct flow	 f;

	vc.conf.fixed_s[FLOW_TIMEOUT_TCP_ESTABLISHED] = 7200;
	vc.conf.fixed_s[FLOW_TIMEOUT_SCTP_ESTABLISHED] = 99;
	vc.conf.default_s[FLOW_TIMEOUT_TCP_ESTABLISHED] = 5000;
	vc.conf.default_s[FLOW_TIMEOUT_UDP_STREAM] = 33;
	start_both();
	give(IPPROTO_TCP, 10, 0);
	give(IPPROTO_UDP, 11, 0);
	mk_flow(&f, IPPROTO_TCP, 12);		/* not established: as told */
	f.tcp_state = FLOW_TCP_FIN_WAIT;
	vk_new(&fw[0], &f);
	mk_flow(&f, IPPROTO_UDP, 13);		/* offloaded: none was told */
	f.timeout_s = 0;
	f.has &= ~FLOW_HAS_TIMEOUT;
	vk_new(&fw[0], &f);
	mk_flow(&f, IPPROTO_TCP, 14);
	f.timeout_s = 0;
	f.tcp_state = FLOW_TCP_TIME_WAIT;
	vk_new(&fw[0], &f);
	mk_flow(&f, IPPROTO_TCP, 15);
	f.timeout_s = 0;
	vk_new(&fw[0], &f);
	mk_flow(&f, IPPROTO_SCTP, 16);
	f.rare.sctp_state = FLOW_SCTP_ESTABLISHED;
	f.has |= FLOW_HAS_SCTP;
	vk_new(&fw[0], &f);
	give_expect(17, 11);
	mk_expect(&f, 18, 11);
	f.timeout_s = 0;
	vk_new(&fw[0], &f);
	ck_assert_uint_eq(takeover()->failed, 0);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 10, false), 7200);
	ck_assert_uint_eq(timeout_at(IPPROTO_UDP, 11, false), 1000);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 12, false), 1000);
	ck_assert_uint_eq(timeout_at(IPPROTO_UDP, 13, false), 33);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 14, false), 120);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 15, false), 7200);
	ck_assert_uint_eq(timeout_at(IPPROTO_SCTP, 16, false), 99);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 17, true), 300);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 18, true), 1);
}
END_TEST

/* --- what is here already ------------------------------------------------------------------------ */

/* The kernel has it, and nobody has seen it be born.  NATed unless nat is 0. */
static void
find_flow(struct vnode *v, uint16_t port, uint16_t nat, uint32_t mark, uint32_t packets)
{
	struct vk_entry	*e;
	struct flow	 f;

	mk_flow(&f, IPPROTO_TCP, port);
	f.mark = mark;
	if (nat != 0) {
		f.reply.l4dst = nat;
		f.status |= FLOW_S_SRC_NAT | FLOW_S_SRC_NAT_DONE;
	}
	e = vk_put(v, &f);
	e->f.packets = packets;
	node_resync(v->node);
}

static uint32_t
mark_of(const struct vnode *v, uint16_t port)
{
	const struct vk_entry	*e = vk_tcp(v, port);

	ck_assert_msg(e != NULL, "port %u is not there", port);
	return e->f.mark;
}

static uint16_t
nat_of(const struct vnode *v, uint16_t port)
{
	const struct vk_entry	*e = vk_tcp(v, port);

	ck_assert_msg(e != NULL, "port %u is not there", port);
	return e->f.reply.l4dst;
}

/* The first of two nodes has ports 10 to 19 and was active, the second one takes over. */
static const struct node_taken *
second(void)
{
	vc_settle();
	vn_release(&fw[0]);
	return vn_command(&fw[1], NODE_TAKEOVER);
}

START_TEST(same_life_unused)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[0], 10, 11);
	k = second();
	ck_assert_uint_eq(k->created, 2);
	vc_run_s(60);
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 3, false);
	vc_settle();
	/* told, and followed in place */
	ck_assert_uint_eq(mark_of(&fw[1], 10), 3);
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert_uint_eq(k->created, 0);
	ck_assert_uint_eq(k->updated, 2);
	ck_assert_uint_eq(fw[1].ops[KOP_DELETE], 0);
	ck_assert_uint_gt(vk_tcp(&fw[1], 11)->expires_us, vc.now + 990000000);
}
END_TEST

/* Carried by the other node since this one was released: its state counts. */
START_TEST(same_life_stale)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[0], 10, 11);
	ck_assert_uint_eq(second()->created, 2);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 5, false);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 5, false);
	vc_settle();
	vc_run_ms(200);
	vk_mark(&fw[0], vk_tcp(&fw[0], 11), 6, false);	/* packets came here since */
	vc_settle();
	vn_release(&fw[1]);
	k = vn_command(&fw[0], NODE_TAKEOVER);
	ck_assert_uint_eq(k->updated, 1);
	ck_assert_uint_eq(k->ours, 1);
	ck_assert_uint_eq(mark_of(&fw[0], 10), 5);
	ck_assert_uint_eq(mark_of(&fw[0], 11), 6);
	/* a second one in a row finds them in use, or says nothing new */
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 8, false);
	vc_run_ms(20);
	(void)vn_command(&fw[0], NODE_TAKEOVER);
	ck_assert_uint_eq(mark_of(&fw[0], 10), 8);
}
END_TEST

START_TEST(same_life_in_use)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[0], 10, 10);
	(void)second();
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 5, false);
	vc_settle();
	vn_takeover(&fw[0]);
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 6, false);
	vc_settle();
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert_uint_eq(k->ours, 1);
	ck_assert_uint_eq(mark_of(&fw[1], 10), 5);
}
END_TEST

START_TEST(older_and_younger_lives)
{
	const struct node_taken	*k;

	start_both();
	vc_settle();
	vn_release(&fw[0]);
	vk_open(&fw[0], 12, 12);
	vc_settle();
	vk_open(&fw[1], 12, 12);
	vk_mark(&fw[1], vk_tcp(&fw[1], 12), 5, false);
	vk_open(&fw[1], 13, 13);
	vc_settle();
	vk_open(&fw[0], 13, 13);
	vk_mark(&fw[0], vk_tcp(&fw[0], 13), 6, false);
	vc_settle();
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert_uint_eq(mark_of(&fw[1], 12), 5);	/* ours is the younger one */
	ck_assert_uint_eq(mark_of(&fw[1], 13), 6);	/* theirs is */
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_ge(fw[1].ops[KOP_DELETE], 1);
}
END_TEST

/* Births are not known, and the translations differ. */
START_TEST(other_lives)
{
	const struct node_taken	*k;

	start_both();
	find_flow(&fw[0], 10, 110, 0, 1);
	find_flow(&fw[0], 11, 111, 0, 1);
	find_flow(&fw[1], 10, 210, 0, 1);
	find_flow(&fw[1], 11, 211, 0, 1);
	vc_settle();
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 1, false);
	k = second();
	ck_assert_uint_eq(nat_of(&fw[1], 10), 110);	/* without use here */
	ck_assert_uint_eq(nat_of(&fw[1], 11), 211);	/* in use */
	ck_assert_uint_eq(k->created, 1);
	ck_assert_uint_eq(k->ours, 1);
	vc_settle();
	ck_assert(vn_owns_tcp(&fw[1], 10, NULL));
}
END_TEST

/* The kernel refuses the younger life after the older one has gone: the table knows. */
START_TEST(replacement_refused)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[1], 10, 10);
	vc_settle();
	vn_release(&fw[0]);
	vk_open(&fw[0], 10, 10);
	vc_settle();
	fw[1].refuses[0] = fw[1].refuses[1] = 10;
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert_uint_eq(k->failed, 1);
	vc_run_ms(300);
	ck_assert(!vk_has(&fw[1], 10, 10));
	ck_assert(!vn_owns_tcp(&fw[1], 10, NULL));
	/* that nobody told us to remove it is no end */
	fw[1].refuses[0] = 0;
	vc_wait(vk_has(&fw[1], 10, 10));
}
END_TEST

/* --- several origins ------------------------------------------------------------------------------ */

static void
three(void)
{
	unsigned	 i;

	vc_fini();
	vc_init(3);
	for (i = 0; i < 3; i++)
		vn_start(&fw[i]);
}

START_TEST(the_youngest_counts)
{
	three();
	vn_takeover(&fw[1]);			/* the highest term is not enough */
	vn_release(&fw[1]);
	vc_settle();
	find_flow(&fw[1], 9, 0, 1, 1);
	vk_open(&fw[1], 10, 10);
	vc_settle();
	vk_open(&fw[0], 10, 10);
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 7, false);
	vk_open(&fw[0], 11, 11);
	vc_settle();
	vk_open(&fw[1], 11, 11);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 8, false);
	vc_settle();
	vn_takeover(&fw[2]);
	ck_assert_uint_eq(mark_of(&fw[2], 10), 7);
	ck_assert_uint_eq(mark_of(&fw[2], 11), 8);
	/* each key once, and again the same */
	ck_assert_uint_eq(vn_command(&fw[2], NODE_TAKEOVER)->flows, 3);
	ck_assert_uint_eq(mark_of(&fw[2], 10), 7);
}
END_TEST

START_TEST(then_the_highest_term)
{
	three();
	find_flow(&fw[0], 10, 110, 0, 1);
	find_flow(&fw[1], 10, 210, 0, 1);
	vn_takeover(&fw[_i]);
	vn_release(&fw[_i]);
	vc_settle();
	/* the other one's entry was replaced by that takeover or not: it is there in any case */
	ck_assert(vk_has(&fw[1 - _i], 10, 10));
	vn_takeover(&fw[2]);
	ck_assert_uint_eq(nat_of(&fw[2], 10), nat_of(&fw[_i], 10));
}
END_TEST

START_TEST(then_the_lower_id)
{
	uint64_t	 id[2];
	unsigned	 first;

	three();
	find_flow(&fw[0], 10, 110, 0, 1);
	find_flow(&fw[1], 10, 210, 0, 1);
	vc_settle();
	ck_assert_int_eq(seal_node_id("test", "fw1", &id[0]), 0);
	ck_assert_int_eq(seal_node_id("test", "fw2", &id[1]), 0);
	first = id[0] < id[1] ? 0 : 1;
	vn_takeover(&fw[2]);
	ck_assert_uint_eq(nat_of(&fw[2], 10), first == 0 ? 110 : 210);
}
END_TEST

/* The births of two of three are known: each beats another one, and one wins all the same. */
START_TEST(a_circle_of_births)
{
	struct flow	 f;
	unsigned	 i, writes;

	vc_fini();
	vc_init(4);
	for (i = 0; i < 4; i++)
		vn_start(&fw[i]);
	vc_settle();
	for (i = 0; i < 3; i++) {
		if (i == (unsigned)_i) {
			find_flow(&fw[i], 10, (uint16_t)(110 + 100 * i), i + 1, 1);
			continue;
		}
		mk_flow(&f, IPPROTO_TCP, 10);
		f.tcp_state = FLOW_TCP_SYN_SENT;
		f.reply.l4dst = (uint16_t)(110 + 100 * i);
		f.mark = i + 1;
		vk_new(&fw[i], &f);
		vc_run_s(2);
	}
	vc_settle();
	vn_takeover(&fw[3]);
	vc_settle();
	ck_assert_uint_eq(mark_of(&fw[3], 10), nat_of(&fw[3], 10) / 100);
	writes = fw[3].writes;
	ck_assert_uint_ge(writes, 1);
	ck_assert_uint_le(writes, 3);
	vn_takeover(&fw[3]);
	vc_run_s(30);
	vn_takeover(&fw[3]);
	ck_assert(vk_has(&fw[3], 10, 10));
	ck_assert_uint_le(fw[3].writes, writes + 4);
}
END_TEST

/* --- on the way ---------------------------------------------------------------------------------------- */

/* What the kernel was given before the release is ours when its answer comes, and counts no more. */
START_TEST(answers_after_the_release)
{
	const struct node_taken	*k;
	struct flow		 f;

	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(1500);
	fw[1].stop_tell = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(50);
	vn_release(&fw[1]);
	ck_assert_uint_eq(fw[1].taken, 1);		/* at once */
	k = node_taken(fw[1].node);
	ck_assert(k->aborted);
	ck_assert(!k->running);
	ck_assert_uint_eq(k->created, 0);
	ck_assert_uint_eq(k->ended_us, vc.now);
	fw[1].stop_tell = false;
	vc_run_ms(100);
	ck_assert_uint_eq(node_taken(fw[1].node)->created, 0);
	ck_assert(vk_has(&fw[1], 10, 19));
	ck_assert(vn_owns(&fw[1], &vk_tcp(&fw[1], 19)->f, &f));
	ck_assert_int_eq(node_role(fw[1].node), NODE_STANDBY);
	ck_assert_uint_eq(fw[1].taken, 1);
	/* and the next takeover finds everything */
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert(!k->aborted);
	ck_assert_uint_eq(k->flows, 10);
	ck_assert_uint_eq(k->created + k->updated + k->ours, 10);
}
END_TEST

/* Takeover, release, takeover, while answers of the first one are still to come. */
START_TEST(released_and_taken_again)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(1500);
	if (_i == 0)
		fw[1].stop_work = true;
	else
		fw[1].stop_tell = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(50);
	vn_release(&fw[1]);
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(50);
	fw[1].stop_work = fw[1].stop_tell = false;
	vc_wait(fw[1].taken == 2);
	k = node_taken(fw[1].node);
	ck_assert(!k->aborted);
	ck_assert_uint_eq(k->flows, 10);
	ck_assert(vk_has(&fw[1], 10, 19));
	ck_assert_uint_eq(k->failed, 0);
	vc_run_ms(500);
	ck_assert(!node_taking(fw[1].node));
	ck_assert(vn_owns_tcp(&fw[1], 10, NULL));
}
END_TEST

/* A second takeover joins the first one: both get its result. */
START_TEST(joined)
{
	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(1500);
	fw[1].stop_work = true;
	node_takeover(fw[1].node, NODE_COMMIT, vc.now);
	vc_run_ms(20);
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(20);
	node_takeover(fw[1].node, NODE_COMMIT, vc.now);
	vc_run_ms(20);
	ck_assert_uint_eq(fw[1].taken, 0);
	fw[1].stop_work = false;
	vc_wait(fw[1].taken == 1);
	ck_assert_int_eq(node_taken(fw[1].node)->what, NODE_TAKEOVER);
	ck_assert_int_eq(node_role(fw[1].node), NODE_ACTIVE);
	ck_assert(vk_has(&fw[1], 10, 19));
	vc_run_ms(500);
	ck_assert_uint_eq(fw[1].taken, 1);
}
END_TEST

/* A commit on a standby fills the kernel and changes no role; nothing is followed. */
START_TEST(commit_on_a_standby)
{
	const struct node_taken	*k;

	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	k = vn_command(&fw[1], NODE_COMMIT);
	ck_assert_uint_eq(k->created, 10);
	ck_assert_int_eq(node_role(fw[1].node), NODE_STANDBY);
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	ck_assert(vk_has(&fw[1], 10, 19));
	vk_open(&fw[0], 20, 20);
	vc_settle();
	ck_assert(!vk_has(&fw[1], 20, 20));
	/* and a later takeover takes the rest */
	ck_assert_uint_eq(second()->created, 1);
}
END_TEST

/* Down in the middle of it; and the next daemon knows that it was not done. */
START_TEST(shut_down_in_the_middle)
{
	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	fw[1].stop_work = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(20);
	ck_assert(fw[1].taking);
	node_leave(fw[1].node, vc.now);
	vn_kill(&fw[1]);
	ck_assert(fw[1].taking);
	ck_assert(!vk_has(&fw[1], 10, 10));
	vn_start(&fw[1]);
	vc_wait(!fw[1].taking);
	ck_assert_int_eq(node_role(fw[1].node), NODE_ACTIVE);
	ck_assert(vk_has(&fw[1], 10, 19));
}
END_TEST

/* What is still to be taken cannot be dropped, in a takeover or when the peer has just died. */
START_TEST(not_flushed_meanwhile)
{
	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	fw[1].stop_work = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(20);
	ck_assert_int_eq(node_flush_remote(fw[1].node), -EAGAIN);
	vn_die(&fw[0]);
	vc_run_ms(1300);
	ck_assert_int_eq(node_flush_remote(fw[1].node), -EAGAIN);
	fw[1].stop_work = false;
	vc_run_ms(500);
	ck_assert(vk_has(&fw[1], 10, 19));
	ck_assert_int_eq(node_flush_remote(fw[1].node), 0);
}
END_TEST

/* A lost peer may be forgotten while it is followed, but not during a command. */
START_TEST(forgotten_meanwhile)
{
	start_both();
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_takeover(&fw[1]);
	vc_settle();
	fw[1].stop_work = true;
	ck_assert_int_eq(node_forget(fw[1].node, 0, vc.now), -EBUSY);
	vn_die(&fw[0]);
	vc_run_ms(1300);
	ck_assert(node_taking(fw[1].node));
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	ck_assert_int_eq(node_forget(fw[1].node, 0, vc.now), -EAGAIN);
	vn_release(&fw[1]);
	fw[1].stop_work = false;
	vc_run_ms(100);
	vn_takeover(&fw[1]);
	vn_takeover(&fw[1]);
	/* followed, because it has lapsed in silence */
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	fw[1].stop_work = true;
	vc_run_ms(500);
	ck_assert_uint_gt(fw[1].njobs, 0);
	ck_assert_int_eq(node_forget(fw[1].node, 0, vc.now), 0);
	fw[1].stop_work = false;
	vc_run_ms(500);
	ck_assert(!node_taking(fw[1].node));
	ck_assert(vk_has(&fw[1], 10, 19));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("takeover");
	TCase	*tc = tcase_create("order"), *table = tcase_create("table");
	TCase	*origins = tcase_create("origins"), *course = tcase_create("course");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, vc_fini);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, masters_go_first);
	tcase_add_loop_test(tc, many_masters, 0, 3);
	tcase_add_test(tc, deep_and_round);
	tcase_add_test(tc, masters_that_are_gone);
	tcase_add_test(tc, masters_of_our_own);
	tcase_add_test(tc, masters_that_are_kept_out);
	tcase_add_test(tc, released_on_the_way);
	tcase_add_test(tc, helpers_and_labels_are_lost);
	tcase_add_test(tc, timeouts);
	tcase_add_test(table, same_life_unused);
	tcase_add_test(table, same_life_stale);
	tcase_add_test(table, same_life_in_use);
	tcase_add_test(table, older_and_younger_lives);
	tcase_add_test(table, other_lives);
	tcase_add_test(table, replacement_refused);
	tcase_add_test(origins, the_youngest_counts);
	tcase_add_loop_test(origins, then_the_highest_term, 0, 2);
	tcase_add_test(origins, then_the_lower_id);
	tcase_add_loop_test(origins, a_circle_of_births, 0, 3);
	tcase_add_test(course, answers_after_the_release);
	tcase_add_loop_test(course, released_and_taken_again, 0, 2);
	tcase_add_test(course, joined);
	tcase_add_test(course, commit_on_a_standby);
	tcase_add_test(course, shut_down_in_the_middle);
	tcase_add_test(course, not_flushed_meanwhile);
	tcase_add_test(course, forgotten_meanwhile);
	tcase_add_checked_fixture(table, setup, vc_fini);
	tcase_add_checked_fixture(origins, setup, vc_fini);
	tcase_add_checked_fixture(course, setup, vc_fini);
	suite_add_tcase(s, tc);
	suite_add_tcase(s, table);
	suite_add_tcase(s, origins);
	suite_add_tcase(s, course);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
