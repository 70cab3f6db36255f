/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sessions (doc/wire.md, section 4): each transition of the state machine, said
 * once; loss, silence on one side, refusals, and which link carries the data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "logtap.h"
#include "session.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_init(2);
	logtap_open();
}

static void
teardown(void)
{
	logtap_close();
	vc_fini();
}

/* What the first node thinks of the second one. */
static enum session_state
state(void)
{
	return session_state(fw[0].node, fw[0].node->session[0]);
}

static void
start_both(void)
{
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vc_settle();
	ck_assert_int_eq(state(), SESSION_UP);
	logtap_clear();
}

/* --- transitions ------------------------------------------------------------------------ */

START_TEST(unseen_greeting_up)
{
	vn_start(&fw[0]);
	vc_run_ms(3000);
	ck_assert_int_eq(state(), SESSION_UNSEEN);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).state, NODE_PEER_LOST);
	/* it hears us, and we hear of it, but it does not confirm */
	fw[0].cut[1] = false;
	vn_start(&fw[1]);
	vc_wait(state() != SESSION_UNSEEN);
	ck_assert_int_eq(state(), SESSION_GREETING);
	ck_assert_str_eq(vn_sees(&fw[0], &fw[1]).why, "greeting");
	vc_wait(state() != SESSION_GREETING);
	ck_assert_int_eq(state(), SESSION_UP);
	vc_settle();
	ck_assert_uint_eq(logtap_count("fw2 is there (epoch "), 1);
	ck_assert_uint_eq(logtap_count("fw1 is there (epoch "), 1);
	ck_assert_uint_eq(logtap_count("is back"), 0);
	ck_assert_uint_eq(logtap_count("lost"), 0);
	ck_assert_uint_eq(vn_sees(&fw[0], &fw[1]).accepted, 1);
}
END_TEST

START_TEST(up_lost_up)
{
	start_both();
	vc_cut(&fw[0], &fw[1], true);
	vc_run_ms(900);
	ck_assert_int_eq(state(), SESSION_UP);
	vc_run_ms(150);
	ck_assert_int_eq(state(), SESSION_LOST);
	vc_run_ms(5000);
	ck_assert_uint_eq(logtap_count("fw2 is silent for 1000 ms: lost"), 1);
	ck_assert_uint_eq(logtap_count("lost"), 2);	/* the other one says the same */
	ck_assert_uint_eq(logtap_count("equal to what it had"), 2);
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	ck_assert_int_eq(state(), SESSION_UP);
	ck_assert_uint_eq(logtap_count("fw2 is back"), 1);
	ck_assert_uint_eq(logtap_count("is there"), 0);
	ck_assert_uint_eq(vn_sees(&fw[0], &fw[1]).accepted, 1);
}
END_TEST

/* Whoever asks after a second of silence hears so, whether or not the timers had their turn. */
START_TEST(lost_without_timers)
{
	start_both();
	vc.now += 1100000;
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).state, NODE_PEER_LOST);
	ck_assert(!vn_ready(&fw[0], "fw2") || strcmp(vn_sees(&fw[0], &fw[1]).why, "lost") == 0);
}
END_TEST

/* A new daemon there, sooner than its silence is noticed, and later. */
START_TEST(up_greeting_up)
{
	unsigned	 down_ms = _i == 0 ? 100 : 3000;

	start_both();
	vn_kill(&fw[1]);
	vc_run_ms(down_ms);
	ck_assert_int_eq(state(), _i == 0 ? SESSION_UP : SESSION_LOST);
	vn_start(&fw[1]);
	vc_wait(state() == SESSION_GREETING);
	vc_wait(state() == SESSION_UP);
	vc_settle();
	ck_assert_uint_eq(logtap_count("fw2 is there (epoch "), 1);
	ck_assert_uint_eq(logtap_count("fw2 is back"), (unsigned)_i);
	ck_assert_uint_eq(logtap_count("fw2 is silent"), (unsigned)_i);
	ck_assert_uint_eq(logtap_count("rebooted"), 0);
	ck_assert_uint_eq(vn_sees(&fw[0], &fw[1]).accepted, 2);
}
END_TEST

START_TEST(rebooted)
{
	start_both();
	vn_reboot(&fw[1]);
	vc_settle();
	ck_assert_uint_eq(logtap_count("fw2 has rebooted"), 1);
	ck_assert_uint_eq(logtap_count("fw2 is there"), 1);
}
END_TEST

/* It accepted us, or not, but nothing of that comes back. */
START_TEST(greeting_lost)
{
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vc_wait(state() == SESSION_GREETING);
	vc_cut(&fw[0], &fw[1], true);
	vc_run_ms(1200);
	ck_assert_int_eq(state(), SESSION_LOST);
	ck_assert_uint_eq(logtap_count("fw2 is silent"), 1);
	vc_cut(&fw[0], &fw[1], false);
	vc_wait(state() == SESSION_UP);
	ck_assert_uint_eq(logtap_count("fw2 is back"), 1);
}
END_TEST

/* Silent for an hour: nothing is kept for it. */
START_TEST(lost_forgotten_up)
{
	struct node_peer_info	 info;

	start_both();
	vn_takeover(&fw[0]);
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vc_cut(&fw[0], &fw[1], true);
	vc_run_s(3590);
	ck_assert_int_eq(state(), SESSION_LOST);
	vc_run_s(15);
	ck_assert_int_eq(state(), SESSION_FORGOTTEN);
	vc_run_s(10);
	ck_assert_uint_eq(logtap_count("fw2 is gone for long"), 1);
	ck_assert_str_eq(vn_sees(&fw[0], &fw[1]).why, "lost");
	vk_open(&fw[0], 20, 20);
	vn_takeover(&fw[1]);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10) != NULL ? vk_tcp(&fw[1], 10) :
	    vk_new(&fw[1], &vk_tcp(&fw[0], 20)->f), 1, false);
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	ck_assert_int_eq(state(), SESSION_UP);
	ck_assert_uint_eq(logtap_count("fw2 is back"), 1);
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 20, NULL));
	info = vn_sees(&fw[0], &fw[1]);
	ck_assert(info.in_sync);
}
END_TEST

/* It comes back as late as that in its epoch: its flows are passed over all the same. */
START_TEST(forgotten_and_passed_over)
{
	start_both();
	vn_takeover(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	vc_cut(&fw[0], &fw[1], true);
	vc_run_s(3610);
	vk_open(&fw[0], 20, 20);
	vc_run_ms(50);
	ck_assert(!vk_liberal(&fw[0], 20));
	vn_release(&fw[1]);
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	vc_wait(vk_liberal(&fw[0], 20));	/* it may have carried that meanwhile */
}
END_TEST

START_TEST(lost_unseen_up)
{
	start_both();
	vn_takeover(&fw[0]);
	vk_open(&fw[1], 10, 12);
	vc_settle();
	ck_assert_int_eq(node_forget(fw[0].node, 0, vc.now), -EBUSY);
	vc_cut(&fw[0], &fw[1], true);
	vc_run_ms(1500);
	logtap_clear();
	ck_assert_int_eq(node_forget(fw[0].node, 0, vc.now), 0);
	ck_assert_int_eq(state(), SESSION_UNSEEN);
	ck_assert_uint_eq(vn_sees(&fw[0], &fw[1]).flows, 0);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).term, -1);
	ck_assert_uint_eq(logtap_count("fw2 is forgotten, with the 3 flows"), 1);
	vc_run_ms(2000);
	ck_assert_int_eq(state(), SESSION_UNSEEN);
	/* it has lived on all the time */
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	ck_assert_int_eq(state(), SESSION_UP);
	ck_assert_uint_eq(vn_sees(&fw[0], &fw[1]).flows, 3);
	ck_assert_uint_eq(logtap_count("fw2 is silent"), 0);
}
END_TEST

/* --- faults ---------------------------------------------------------------------------------- */

static unsigned	 nth;

static bool
lose_some(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)from;
	(void)to;
	(void)link;
	(void)p;
	(void)len;
	return nth++ % 4 == 0;
}

START_TEST(loss)
{
	uint16_t	 p;

	vc.lose = lose_some;
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vn_takeover(&fw[0]);
	for (p = 100; p < 1100; p++) {
		vk_open(&fw[0], p, p);
		if (p % 20 == 0)
			vc_run_ms(10);
	}
	for (p = 100; p < 1100; p += 3)
		vk_close(&fw[0], p, p);
	vc_settle();
	ck_assert_uint_eq(vn_sees(&fw[1], &fw[0]).flows, feed_flows(node_feed(fw[0].node)));
	ck_assert_uint_eq(logtap_count("lost"), 0);
	ck_assert_uint_eq(recv_stats(vn_sees(&fw[1], &fw[0]).recv)->differed, 0);
}
END_TEST

/* What we send does not arrive: the other one loses us, and we hear that it does not hear. */
START_TEST(deaf)
{
	start_both();
	fw[0].cut[1] = true;
	vc_run_ms(1500);
	ck_assert_int_eq(vn_sees(&fw[1], &fw[0]).state, NODE_PEER_LOST);
	ck_assert_int_eq(state(), SESSION_UP);
	ck_assert(!vn_sees(&fw[0], &fw[1]).refuses_us);
	ck_assert(!node_link_healthy(fw[0].node, 0, vc.now));
	vc_run_ms(3000);
	ck_assert(vn_sees(&fw[0], &fw[1]).refuses_us);
	fw[0].cut[1] = false;
	vc_settle();
	ck_assert(!vn_sees(&fw[0], &fw[1]).refuses_us);
	ck_assert(node_link_healthy(fw[0].node, 0, vc.now));
}
END_TEST

/* It never hears us: it is not there for itself, and we know why we are not up. */
START_TEST(deaf_from_the_start)
{
	fw[0].cut[1] = true;
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vc_run_ms(5000);
	/* nothing was echoed, so nothing was accepted */
	ck_assert_int_eq(state(), SESSION_UNSEEN);
	ck_assert_int_eq(session_state(fw[1].node, fw[1].node->session[0]), SESSION_UNSEEN);
	fw[0].cut[1] = false;
	vc_settle();
}
END_TEST

START_TEST(refused)
{
	enum node_reject	 why;

	start_both();
	vn_kill(&fw[1]);
	fw[1].key = 1;
	vn_start(&fw[1]);
	vc_run_ms(1500);
	ck_assert(session_refusing(fw[0].node, fw[0].node->session[0], &why));
	ck_assert_int_eq(why, REJ_BAD_TAG);
	ck_assert_int_eq(state(), SESSION_LOST);
	ck_assert_uint_gt(node_rejected(fw[0].node, REJ_BAD_TAG), 0);
	ck_assert_uint_gt(node_link_rejected(fw[0].node, 0), 0);
	/* silent for three seconds: it is lost, and nothing else */
	vn_kill(&fw[1]);
	vc_run_ms(3100);
	ck_assert(!session_refusing(fw[0].node, fw[0].node->session[0], &why));
}
END_TEST

/* Whoever replays what was sent is refused, and does nobody harm. */
static uint8_t	 kept[VC_DATAGRAM];
static size_t	 kept_len;

static bool
keep_one(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)to;
	(void)link;
	if (from == 1 && kept_len == 0) {
		memcpy(kept, p, len);
		kept_len = len;
	}
	return false;
}

START_TEST(replayed)
{
	unsigned	 i;

	kept_len = 0;
	start_both();
	vc.lose = keep_one;
	vc_run_ms(300);
	ck_assert_uint_gt(kept_len, 0);
	vn_die(&fw[1]);
	for (i = 0; i < 20; i++) {
		node_datagram(fw[0].node, 0, kept, kept_len, vc.now);
		vc_run_ms(100);
	}
	ck_assert_uint_eq(node_rejected(fw[0].node, REJ_REPLAY), 20);
	ck_assert_int_eq(state(), SESSION_LOST);	/* it makes nobody alive */
}
END_TEST

/* --- leaving, and links ---------------------------------------------------------------------------- */

START_TEST(leaves)
{
	start_both();
	node_leave(fw[1].node, vc.now);
	vc_run_ms(10);
	vn_die(&fw[1]);
	ck_assert(session_leaving(fw[0].node->session[0]));
	ck_assert_uint_eq(logtap_count("fw2 shuts down"), 1);
	vc_run_ms(1200);
	ck_assert_int_eq(state(), SESSION_LOST);
	fw[1].off = false;
	vn_start(&fw[1]);
	vc_settle();
	ck_assert(!session_leaving(fw[0].node->session[0]));
}
END_TEST

static unsigned	 down;			/* a link that loses everything, from 1 on */

static bool
lose_link(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)from;
	(void)to;
	(void)p;
	(void)len;
	return link + 1 == down;
}

START_TEST(links)
{
	vc.nlinks = 2;
	vc.lose = lose_link;
	down = 0;
	start_both();
	vn_takeover(&fw[0]);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).link, 0);
	down = 1;
	vk_open(&fw[0], 10, 10);
	vc_run_ms(600);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).link, 1);
	ck_assert(!node_link_healthy(fw[0].node, 0, vc.now));
	vc_settle();
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	ck_assert_int_eq(state(), SESSION_UP);
	down = 2;
	vc_run_ms(600);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).link, 0);
	ck_assert_uint_eq(logtap_count("lost"), 0);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("session");
	TCase	*states = tcase_create("states"), *faults = tcase_create("faults");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(states, unseen_greeting_up);
	tcase_add_test(states, up_lost_up);
	tcase_add_test(states, lost_without_timers);
	tcase_add_loop_test(states, up_greeting_up, 0, 2);
	tcase_add_test(states, rebooted);
	tcase_add_test(states, greeting_lost);
	tcase_add_test(states, lost_forgotten_up);
	tcase_add_test(states, forgotten_and_passed_over);
	tcase_add_test(states, lost_unseen_up);
	tcase_add_test(faults, loss);
	tcase_add_test(faults, deaf);
	tcase_add_test(faults, deaf_from_the_start);
	tcase_add_test(faults, refused);
	tcase_add_test(faults, replayed);
	tcase_add_test(faults, leaves);
	tcase_add_test(faults, links);
	tcase_add_checked_fixture(states, setup, teardown);
	tcase_add_checked_fixture(faults, setup, teardown);
	tcase_set_timeout(states, 60);
	suite_add_tcase(s, states);
	suite_add_tcase(s, faults);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
