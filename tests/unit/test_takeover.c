/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a takeover writes, in which order and with which timeouts: related flows
 * after their masters, expectations after both, what has lost its master last.
 * The first of two nodes dies with what it has told, and the second one's kernel
 * notes what it was given.
 */
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

int
main(void)
{
	Suite	*s = suite_create("takeover");
	TCase	*tc = tcase_create("takeover");
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
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
