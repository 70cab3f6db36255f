/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TCP windows (doc/wire.md, section 8.3): liberal wherever another node may have
 * carried the connection, strict again only when the kernel has relearned both
 * windows and no other node is active.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_start(2);
}

static bool
all_liberal(const struct vnode *v, uint16_t first, uint16_t last, bool wanted)
{
	for (; first <= last; first++)
		if (vk_liberal(v, first) != wanted)
			return false;
	return true;
}

/*
 * The first node alone is active and has connections 10 to 19, of which it has
 * relearned the windows since its last takeover: all are strict.
 */
static void
strict(void)
{
	uint16_t	 p;

	vk_open(&fw[0], 10, 19);
	vc_run_ms(100);
	vn_takeover(&fw[0]);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
	for (p = 10; p < 20; p++)
		vk_relearn(&fw[0], p);
	vc_settle();
	vc_wait(all_liberal(&fw[0], 10, 19, false));
	vc_run_s(31);
	ck_assert_uint_eq(node_liberal(fw[0].node), 0);
}

/* --- liberal ------------------------------------------------------------------------------ */

START_TEST(a_takeover_loosens_all)
{
	struct flow	 f;

	vk_open(&fw[0], 10, 12);
	vk_open(&fw[1], 20, 22);		/* its own, and older */
	mk_flow(&f, IPPROTO_UDP, 30);
	vk_new(&fw[1], &f);
	vc_settle();
	ck_assert(all_liberal(&fw[1], 20, 22, false));
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	ck_assert(all_liberal(&fw[1], 10, 12, true));
	vc_wait(all_liberal(&fw[1], 20, 22, true));
	ck_assert_uint_eq(vk_find(&fw[1], &f)->f.tcp_flags[0], 0);
	vc_run_ms(1100);
	ck_assert_uint_eq(node_liberal(fw[1].node), 6);
	/* what begins later is nobody else's */
	vk_open(&fw[1], 40, 40);
	vc_run_s(40);
	ck_assert(!vk_liberal(&fw[1], 40));
}
END_TEST

/* A takeover of a node that is active already does it again. */
START_TEST(again_by_each_takeover)
{
	strict();
	vn_takeover(&fw[0]);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
}
END_TEST

START_TEST(not_wanted)
{
	vc_fini();
	vc_init(2);
	vc.conf.liberal = false;
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vn_takeover(&fw[0]);
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_takeover(&fw[0]);
	vn_takeover(&fw[1]);
	vc_run_s(40);
	ck_assert(!vk_liberal(&fw[0], 10));
	ck_assert_uint_eq(fw[0].ops[KOP_LIBERAL] + fw[0].ops[KOP_STRICT], 0);
}
END_TEST

/* --- strict --------------------------------------------------------------------------------- */

START_TEST(strict_when_relearned)
{
	vk_open(&fw[0], 10, 11);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	vc_run_s(4);
	ck_assert(all_liberal(&fw[1], 10, 11, true));
	vk_relearn(&fw[1], 10);
	vc_run_s(30);
	ck_assert(!vk_liberal(&fw[1], 10));
	ck_assert(vk_liberal(&fw[1], 11));
	ck_assert_uint_eq(node_liberal(fw[1].node), 1);
	/* an audit finds the rest, and one direction is not enough */
	vk_tcp(&fw[1], 11)->f.tcp_flags[0] |= FLOW_TF_MAXACK_SET;
	local_audit(node_local(fw[1].node));
	vc_run_ms(100);
	ck_assert(vk_liberal(&fw[1], 11));
	vk_relearn(&fw[1], 11);
	local_audit(node_local(fw[1].node));
	vc_run_ms(100);
	ck_assert(!vk_liberal(&fw[1], 11));
	ck_assert_uint_eq(node_liberal(fw[1].node), 0);
}
END_TEST

/* Others may want it liberal: an offloaded flow is. */
START_TEST(not_ours)
{
	struct vk_entry	*e;

	strict();
	vk_open(&fw[0], 30, 30);
	e = vk_tcp(&fw[0], 30);
	e->f.tcp_flags[0] |= FLOW_TF_BE_LIBERAL | FLOW_TF_MAXACK_SET;
	e->f.tcp_flags[1] |= FLOW_TF_BE_LIBERAL | FLOW_TF_MAXACK_SET;
	local_audit(node_local(fw[0].node));
	vc_run_ms(100);
	ck_assert(vk_liberal(&fw[0], 30));
}
END_TEST

/* Another node is active: nothing is made strict, until it is not any more. */
START_TEST(not_beside_another)
{
	uint16_t	 p;

	vk_open(&fw[0], 10, 12);
	vc_settle();
	vn_takeover(&fw[1]);
	vc_settle();
	for (p = 10; p < 13; p++) {
		vk_relearn(&fw[0], p);
		vk_relearn(&fw[1], p);
	}
	vc_run_s(60);
	ck_assert(all_liberal(&fw[0], 10, 12, true));
	ck_assert(all_liberal(&fw[1], 10, 12, true));
	vn_release(&fw[0]);
	vc_run_s(60);
	ck_assert(all_liberal(&fw[1], 10, 12, false));
	ck_assert(all_liberal(&fw[0], 10, 12, true));	/* a standby leaves them as they are */
}
END_TEST

/* Not while passes are due. */
START_TEST(not_in_a_pass)
{
	unsigned	 i;

	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_takeover(&fw[0]);
	vc_wait(vk_liberal(&fw[0], 10));
	vk_relearn(&fw[0], 10);
	vk_open(&fw[1], 20, 20);
	vc_run_ms(50);
	fw[0].stop_tell = true;
	node_takeover(fw[0].node, NODE_TAKEOVER, vc.now);
	vc_run_s(1);
	local_resync(node_local(fw[0].node));
	vc_run_s(20);
	for (i = 0; i < fw[0].njobs; i++)
		ck_assert_int_ne(fw[0].jobs[i]->op, KOP_STRICT);
	fw[0].stop_tell = false;
	vc_run_s(40);
	ck_assert(!vk_liberal(&fw[0], 10));
}
END_TEST

/* --- beside another active node --------------------------------------------------------------- */

START_TEST(a_second_active_node_loosens_all)
{
	strict();
	vn_takeover(&fw[1]);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
	/* new ones, too */
	vk_open(&fw[0], 30, 30);
	vk_open(&fw[1], 31, 31);
	vc_run_s(3);
	ck_assert(vk_liberal(&fw[0], 30));
	ck_assert(vk_liberal(&fw[1], 31));
	ck_assert(vk_liberal(&fw[0], 31));
}
END_TEST

/* The second one comes while some are on their way to strict. */
START_TEST(a_second_one_in_the_middle)
{
	uint16_t	 p;
	unsigned	 before;

	vk_open(&fw[0], 10, 19);
	vc_run_ms(100);
	vn_takeover(&fw[0]);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
	vc_settle();
	for (p = 10; p < 20; p++)
		vk_relearn(&fw[0], p);
	before = fw[0].ops[KOP_STRICT];
	vc_wait(fw[0].ops[KOP_STRICT] == before + 10);
	fw[0].stop_tell = true;
	if (_i == 0)
		vn_takeover(&fw[1]);
	else
		node_takeover(fw[0].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(500);
	fw[0].stop_tell = false;
	vc_wait(all_liberal(&fw[0], 10, 19, true));
}
END_TEST

/* Nobody saw that the peer was active: what it holds has stale windows here. */
START_TEST(a_risen_term_loosens)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	(void)vn_command(&fw[1], NODE_COMMIT);
	vc_settle();
	strict();
	vk_open(&fw[0], 30, 30);
	vc_settle();
	vc_cut(&fw[1], &fw[0], true);
	vn_takeover(&fw[1]);
	vn_release(&fw[1]);
	vc_run_ms(200);
	ck_assert(all_liberal(&fw[0], 10, 19, false));
	vc_cut(&fw[1], &fw[0], false);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
}
END_TEST

/* So are all when a peer comes back that was not heard for a while. */
START_TEST(who_comes_back_loosens)
{
	strict();
	vc_cut(&fw[0], &fw[1], true);
	vc_run_s(5);
	ck_assert(all_liberal(&fw[0], 10, 19, false));
	vc_cut(&fw[0], &fw[1], false);
	vc_wait(all_liberal(&fw[0], 10, 19, true));
}
END_TEST

/* A flow that is only tried again leaves others alone. */
START_TEST(retries_do_not_loosen)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	(void)vn_command(&fw[1], NODE_COMMIT);
	vc_settle();
	strict();
	fw[0].refuses[0] = fw[0].refuses[1] = 20;
	vk_open(&fw[1], 20, 20);
	vc_run_s(10);
	ck_assert_uint_eq(node_refused(fw[0].node), 1);
	ck_assert(all_liberal(&fw[0], 10, 19, false));
}
END_TEST

/* More than one job takes, and a kernel with little room. */
START_TEST(many)
{
	uint16_t	 p;

	fw[0].room = 1;
	vk_open(&fw[0], 1000, 5999);
	vc_settle();
	vn_takeover(&fw[0]);
	vc_wait(all_liberal(&fw[0], 1000, 5999, true));
	for (p = 1000; p < 6000; p++)
		vk_relearn(&fw[0], p);
	vc_run_s(40);
	/* what there was no room for is found later */
	for (p = 0; p < 10; p++) {
		local_audit(node_local(fw[0].node));
		vc_run_ms(500);
	}
	ck_assert(all_liberal(&fw[0], 1000, 5999, false));
	ck_assert_uint_eq(node_liberal(fw[0].node), 0);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("windows");
	TCase	*tc = tcase_create("windows");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, vc_fini);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_takeover_loosens_all);
	tcase_add_test(tc, again_by_each_takeover);
	tcase_add_test(tc, not_wanted);
	tcase_add_test(tc, strict_when_relearned);
	tcase_add_test(tc, not_ours);
	tcase_add_test(tc, not_beside_another);
	tcase_add_test(tc, not_in_a_pass);
	tcase_add_test(tc, a_second_active_node_loosens_all);
	tcase_add_loop_test(tc, a_second_one_in_the_middle, 0, 2);
	tcase_add_test(tc, a_risen_term_loosens);
	tcase_add_test(tc, who_comes_back_loosens);
	tcase_add_test(tc, retries_do_not_loosen);
	tcase_add_test(tc, many);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
