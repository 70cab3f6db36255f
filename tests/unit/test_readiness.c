/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Readiness: could this node take over now and lose nothing that it could have
 * had; and the alerts, each of which comes and goes.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "logtap.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_start(2);
}

static void
teardown(void)
{
	logtap_close();
	vc_fini();
}

/* --- ready ------------------------------------------------------------------------------ */

START_TEST(active)
{
	ck_assert(vn_ready(&fw[0], "active"));
	fw[0].stop_work = true;
	vk_open(&fw[1], 10, 10);
	vc_run_ms(300);
	ck_assert(vn_ready(&fw[0], "active"));	/* what is followed is none of a takeover's */
	node_takeover(fw[0].node, NODE_TAKEOVER, vc.now);
	ck_assert(!vn_ready(&fw[0], "not complete"));
	vc_run_ms(5000);
	ck_assert(!vn_ready(&fw[0], "not complete"));
	fw[0].stop_work = false;
	vc_wait(vn_ready(&fw[0], "active"));
	/* what the kernel does not take is said, and waited for by nobody */
	fw[0].refuses[0] = fw[0].refuses[1] = 20;
	vk_open(&fw[1], 20, 20);
	vc_wait(node_refused(fw[0].node) == 1);
	ck_assert(vn_ready(&fw[0], "refused 1 flows"));
}
END_TEST

START_TEST(equal_now)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	ck_assert(vn_ready(&fw[1], "equal to fw1 as of"));
}
END_TEST

static bool
lose_frames(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)to;
	(void)link;
	(void)len;
	return from == 0 && memcmp(p + 28, "\0\0\0\0", 4) != 0;
}

START_TEST(synchronising)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vc.lose = lose_frames;
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "not equal to fw1"));
	vn_kill(&fw[1]);
	vn_start(&fw[1]);
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "not equal to fw1: synchronising"));
	vc.lose = NULL;
	vc_settle();
	ck_assert(vn_ready(&fw[1], "equal to fw1"));
}
END_TEST

START_TEST(equal_at_death)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(900);
	vc_run_ms(300);
	ck_assert(vn_ready(&fw[1], "equal as of the death of fw1"));
	vc_run_s(100);
	ck_assert(vn_ready(&fw[1], "equal as of the death of fw1, 101 s ago"));
	/* what is not there any more is not equal */
	ck_assert_int_eq(node_flush_remote(fw[1].node), 0);
	ck_assert(!vn_ready(&fw[1], "was lost before its flows were verified (0 held)"));
}
END_TEST

START_TEST(different_at_death)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vc.lose = lose_frames;			/* signals only, for longer than a proof holds */
	vk_open(&fw[0], 11, 11);
	vc_run_ms(700);
	vn_die(&fw[0]);
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "lost before its flows were verified (1 held)"));
}
END_TEST

START_TEST(alone)
{
	vc_fini();
	vc_init(2);
	vn_start(&fw[1]);
	ck_assert(!vn_ready(&fw[1], "has not been read"));
	vc_run_ms(VC_BOOT_WAIT_US / 1000 - 100);
	ck_assert(!vn_ready(&fw[1], "fw1 was not seen yet"));
	vc_run_ms(200);
	ck_assert(vn_ready(&fw[1], "alone: fw1 was never seen"));
}
END_TEST

START_TEST(no_peers)
{
	vc_fini();
	vc_init(1);
	vn_start(&fw[0]);
	vc_run_ms(100);
	ck_assert(vn_ready(&fw[0], "no peers are configured"));
}
END_TEST

/* It lives, and its packets are refused: it may carry flows that we do not hear of. */
START_TEST(refused)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_kill(&fw[1]);
	fw[1].key = 1;
	vn_start(&fw[1]);
	vc_run_ms(VC_BOOT_WAIT_US / 1000 + 500);
	ck_assert(!vn_ready(&fw[1], "REFUSED: what comes from fw1 is refused (bad_tag)"));
	ck_assert(vn_ready(&fw[0], "active"));
	ck_assert(vn_ready(&fw[0], "REFUSED"));
	/* when it is really gone that is over */
	vn_die(&fw[0]);
	vc_run_ms(3500);
	ck_assert(vn_ready(&fw[1], "alone"));
}
END_TEST

/* The same of a peer that was equal before: silent for us, and alive. */
START_TEST(refused_after_it_was_equal)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	ck_assert(vn_ready(&fw[1], "equal"));
	vn_kill(&fw[0]);
	fw[0].key = 1;
	vn_start(&fw[0]);
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "REFUSED"));
}
END_TEST

/* What the peer does not know of its own kernel nobody can be equal to. */
START_TEST(doubts)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	fw[0].stop_work = true;
	node_overrun(fw[0].node, vc.now, vc.now);
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "lost kernel events"));
	fw[0].stop_work = false;
	vc_settle();
	ck_assert(vn_ready(&fw[1], "equal"));
	node_set_blind(fw[0].node, true, vc.now);
	vc_run_ms(1500);
	ck_assert(!vn_ready(&fw[1], "not equal"));
	node_set_blind(fw[0].node, false, vc.now);
	vc_settle();
	ck_assert(vn_ready(&fw[1], "equal"));
}
END_TEST

START_TEST(full)
{
	vc_fini();
	vc_init(2);
	vn_start(&fw[0]);
	vc.conf.max_flows = 5;
	vn_start(&fw[1]);
	vn_takeover(&fw[0]);
	vk_open(&fw[0], 10, 19);
	vc_run_ms(2000);
	ck_assert(!vn_ready(&fw[1], "no room for its flows"));
}
END_TEST

/* --- alerts ----------------------------------------------------------------------------------- */

START_TEST(no_active)
{
	logtap_open();
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	vn_release(&fw[0]);
	vc_run_ms(2500);			/* a planned switch takes a moment */
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_NO_ACTIVE));
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	vc_run_ms(1000);
	ck_assert(vn_alert(&fw[0], NODE_ALERT_NO_ACTIVE));
	ck_assert(vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	ck_assert(vn_ready(&fw[1], "; NO NODE IS ACTIVE"));
	vc_run_ms(2000);
	ck_assert_uint_eq(logtap_count("warning: NO NODE IS ACTIVE"), 2);
	vn_takeover(&fw[1]);
	vc_run_ms(300);
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_NO_ACTIVE));
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	ck_assert_uint_eq(logtap_count("over: NO NODE IS ACTIVE"), 2);
}
END_TEST

/* The active node dies, and the election takes its time. */
START_TEST(no_active_after_a_death)
{
	vn_die(&fw[0]);
	vc_run_ms(2500);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	vc_run_ms(2000);
	ck_assert(vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
}
END_TEST

START_TEST(no_active_at_start)
{
	vc_fini();
	vc_init(2);
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vc_run_ms(2500);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
	vc_run_ms(1000);
	ck_assert(vn_alert(&fw[1], NODE_ALERT_NO_ACTIVE));
}
END_TEST

START_TEST(traffic)
{
	logtap_open();
	vk_open(&fw[1], 10, 11);		/* two may be the node's own */
	vc_run_ms(3000);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_TRAFFIC));
	vk_open(&fw[1], 12, 12);
	vc_run_ms(100);
	ck_assert(vn_alert(&fw[1], NODE_ALERT_TRAFFIC));
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_TRAFFIC));
	ck_assert(vn_ready(&fw[1], "TRAFFIC BUT STANDBY"));
	ck_assert_uint_eq(logtap_count("warning: TRAFFIC BUT STANDBY"), 1);
	vc_run_s(21);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_TRAFFIC));
	ck_assert_uint_eq(logtap_count("over: TRAFFIC BUT STANDBY"), 1);
	/* other programs' entries and what a takeover writes are no traffic */
	vk_open(&fw[0], 20, 29);
	vc_settle();
	(void)vn_command(&fw[1], NODE_COMMIT);
	vc_run_ms(100);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_TRAFFIC));
}
END_TEST

/* What came while the node was active is none. */
START_TEST(no_traffic_after_a_release)
{
	unsigned	 i;

	vc_run_s(10);
	vk_open(&fw[0], 10, 30);
	vc_run_ms(100);
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	for (i = 0; i < 25; i++) {
		vc_run_s(1);
		ck_assert(!vn_alert(&fw[0], NODE_ALERT_TRAFFIC));
	}
	vk_open(&fw[0], 40, 42);
	vc_run_ms(100);
	ck_assert(vn_alert(&fw[0], NODE_ALERT_TRAFFIC));
}
END_TEST

START_TEST(two_active)
{
	logtap_open();
	vn_takeover(&fw[1]);
	vc_run_ms(300);
	ck_assert(vn_alert(&fw[0], NODE_ALERT_TWO_ACTIVE));
	ck_assert(vn_alert(&fw[1], NODE_ALERT_TWO_ACTIVE));
	ck_assert(vn_ready(&fw[0], "TWO NODES AT ONCE"));
	ck_assert_uint_eq(logtap_count("TWO NODES AT ONCE"), 0);
	vc_run_ms(4000);
	ck_assert_uint_eq(logtap_count("TWO NODES AT ONCE: fw2 says"), 1);
	ck_assert_uint_eq(logtap_count("TWO NODES AT ONCE: fw1 says"), 1);
	vn_release(&fw[0]);
	vc_run_ms(300);
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_TWO_ACTIVE));
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_TWO_ACTIVE));
	/* a dead one is active no more */
	vn_takeover(&fw[0]);
	vc_run_ms(300);
	vn_die(&fw[0]);
	vc_run_ms(1500);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_TWO_ACTIVE));
}
END_TEST

START_TEST(refusals)
{
	logtap_open();
	vn_kill(&fw[1]);
	fw[1].key = 1;
	vn_start(&fw[1]);
	vc_run_ms(1500);
	ck_assert(vn_alert(&fw[0], NODE_ALERT_REFUSED));
	ck_assert(vn_alert(&fw[1], NODE_ALERT_REFUSED));
	ck_assert_uint_eq(logtap_count("warning: REFUSED: "), 2);
	ck_assert(vn_sees(&fw[1], &fw[0]).refused);
	ck_assert_int_eq(vn_sees(&fw[1], &fw[0]).refused_why, REJ_BAD_TAG);
	vn_kill(&fw[1]);
	fw[1].key = 0;
	vn_start(&fw[1]);
	vc_settle();
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_REFUSED));
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_REFUSED));
	ck_assert_uint_ge(logtap_count("over: REFUSED"), 1);
}
END_TEST

/* What we send does not arrive, and what the peer sends does. */
START_TEST(refused_by_a_peer)
{
	fw[0].cut[1] = true;
	vc_run_ms(2500);
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_REFUSED_BY));
	vc_run_ms(2500);
	ck_assert(vn_alert(&fw[0], NODE_ALERT_REFUSED_BY));
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_REFUSED_BY));
	ck_assert(vn_ready(&fw[0], "REFUSED BY A PEER"));
	fw[0].cut[1] = false;
	vc_settle();
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_REFUSED_BY));
}
END_TEST

START_TEST(blind)
{
	node_set_blind(fw[1].node, true, vc.now);
	ck_assert(vn_alert(&fw[1], NODE_ALERT_BLIND));
	ck_assert(!vn_alert(&fw[0], NODE_ALERT_BLIND));
	(void)vn_ready(&fw[1], "NO KERNEL EVENTS");
	node_set_blind(fw[1].node, false, vc.now);
	ck_assert(!vn_alert(&fw[1], NODE_ALERT_BLIND));
}
END_TEST

START_TEST(texts)
{
	int	 a;

	for (a = 0; a < NODE_ALERTS; a++) {
		ck_assert_str_ne(node_alert_text((enum node_alert)a), "");
		ck_assert_str_ne(node_alert_advice((enum node_alert)a), "");
		ck_assert_str_ne(node_alert_name((enum node_alert)a), "");
	}
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("readiness");
	TCase	*ready = tcase_create("ready"), *alerts = tcase_create("alerts");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(ready, active);
	tcase_add_test(ready, equal_now);
	tcase_add_test(ready, synchronising);
	tcase_add_test(ready, equal_at_death);
	tcase_add_test(ready, different_at_death);
	tcase_add_test(ready, alone);
	tcase_add_test(ready, no_peers);
	tcase_add_test(ready, refused);
	tcase_add_test(ready, refused_after_it_was_equal);
	tcase_add_test(ready, doubts);
	tcase_add_test(ready, full);
	tcase_add_test(alerts, no_active);
	tcase_add_test(alerts, no_active_after_a_death);
	tcase_add_test(alerts, no_active_at_start);
	tcase_add_test(alerts, traffic);
	tcase_add_test(alerts, no_traffic_after_a_release);
	tcase_add_test(alerts, two_active);
	tcase_add_test(alerts, refusals);
	tcase_add_test(alerts, refused_by_a_peer);
	tcase_add_test(alerts, blind);
	tcase_add_test(alerts, texts);
	tcase_add_checked_fixture(ready, setup, teardown);
	tcase_add_checked_fixture(alerts, setup, teardown);
	suite_add_tcase(s, ready);
	suite_add_tcase(s, alerts);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
