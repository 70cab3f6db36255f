/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is removed from a kernel (doc/wire.md, section 8.5), and above all what
 * is not: each condition is taken away in turn, and the entry has to stay.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "vcluster.h"

#define GONE_S		(3 * VC_PURGE_S)	/* a leftover is gone by then */
#define STAYS_S		(10 * VC_PURGE_S)	/* what stays for so long stays */

static void
setup(void)
{
	vc_start(2);
}

static void
setup3(void)
{
	vc_start(3);
}

/*
 * The first node was active, with ports 10 to 19; the second one has taken over
 * and used them.
 */
static void
switched(void)
{
	uint16_t	 p;

	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	for (p = 10; p < 20; p++)
		vk_mark(&fw[1], vk_tcp(&fw[1], p), 2, false);
	vc_settle();
}

/* Ports 10 and 11 end on the second node. */
static void
leftovers(void)
{
	switched();
	vk_close(&fw[1], 10, 11);
}

static bool
are_gone(void)
{
	return vk_tcp(&fw[0], 10) == NULL && vk_tcp(&fw[0], 11) == NULL;
}

/* --- on a standby ------------------------------------------------------------------------ */

START_TEST(leftovers_go)
{
	uint64_t	 began;

	switched();
	vc_run_s(GONE_S);
	ck_assert(vk_has(&fw[0], 10, 19));	/* the active node has them all */
	ck_assert_uint_eq(node_purged(fw[0].node), 0);
	vk_close(&fw[1], 10, 11);
	began = vc.now;
	vc_wait(are_gone());
	ck_assert_uint_ge(vc.now - began, (VC_PURGE_S - 1) * 1000000);
	ck_assert_uint_le(vc.now - began, GONE_S * 1000000);
	vc_run_ms(50);
	ck_assert_uint_eq(node_purged(fw[0].node), 2);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 12, 19));
	ck_assert(!vn_owns_tcp(&fw[0], 10, NULL));
	vc_settle();
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	ck_assert_uint_eq(fw[0].ops[KOP_DELETE], 2);
}
END_TEST

/* The active node keeps a closed connection for a while: the leftover need not wait for that. */
START_TEST(closed_there)
{
	uint64_t	 began;

	switched();
	vc_run_s(GONE_S);
	vk_state(&fw[1], 10, FLOW_TCP_TIME_WAIT);
	vk_state(&fw[1], 11, FLOW_TCP_TIME_WAIT);
	vk_state(&fw[1], 12, FLOW_TCP_FIN_WAIT);	/* the other end may go on */
	began = vc.now;
	vc_wait(are_gone());
	ck_assert_uint_ge(vc.now - began, (VC_PURGE_S - 1) * 1000000);
	ck_assert(vk_has(&fw[1], 10, 19));
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 12, 19));
	/* it did not end with the leftover */
	ck_assert(vk_has(&fw[1], 10, 19));
	/* nor does a connection go that has the port now */
	vk_open(&fw[0], 12, 12);
	vk_state(&fw[1], 12, FLOW_TCP_TIME_WAIT);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 12, 12));
}
END_TEST

/* Not before the node has been standby for a while, and the kernel was asked twice since. */
START_TEST(not_at_once)
{
	uint64_t	 began;

	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_takeover(&fw[1]);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 2, false);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 2, false);
	vk_close(&fw[1], 10, 11);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));	/* two are active */
	vn_release(&fw[0]);
	began = vc.now;
	vc_wait(are_gone());
	ck_assert_uint_ge(vc.now - began, 2 * VC_PURGE_S * 1000000);
}
END_TEST

/* However often the kernel is read meanwhile. */
START_TEST(audits_do_not_matter)
{
	unsigned	 i;

	leftovers();
	for (i = 0; i < GONE_S; i++) {
		local_audit(node_local(fw[0].node));
		vc_run_s(1);
	}
	ck_assert(are_gone());
}
END_TEST

/* What was asked for before the node was active again is void. */
START_TEST(standby_again)
{
	uint64_t	 began;

	leftovers();
	vc_run_s(VC_PURGE_S + 1);		/* once */
	ck_assert(vk_has(&fw[0], 10, 11));
	vc_cut(&fw[0], &fw[1], true);		/* or the other one would take them again */
	vn_takeover(&fw[0]);
	vn_release(&fw[0]);
	began = vc.now;
	vc_cut(&fw[0], &fw[1], false);
	vc_wait(are_gone());
	ck_assert_uint_ge(vc.now - began, 2 * VC_PURGE_S * 1000000);
}
END_TEST

START_TEST(two_are_active)
{
	leftovers();
	fw[2].refuses[0] = 10;			/* else it has them as well */
	fw[2].refuses[1] = 11;
	(void)vn_command(&fw[2], NODE_TAKEOVER);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
	vn_release(&fw[2]);
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(are_gone());
}
END_TEST

START_TEST(nobody_is_active)
{
	leftovers();
	vn_release(&fw[1]);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
	vn_takeover(&fw[1]);
	/* which takes them again: their origin still tells them, but they have ended */
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(!vk_has(&fw[0], 10, 10) || vk_has(&fw[1], 10, 10));
}
END_TEST

START_TEST(the_active_node_is_not_heard)
{
	leftovers();
	vc_run_ms(300);
	vc_cut(&fw[0], &fw[1], true);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
	vc_cut(&fw[0], &fw[1], false);
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(are_gone());
}
END_TEST

/* Its takeover is not done: who knows what it will take. */
START_TEST(the_active_node_is_incomplete)
{
	leftovers();
	fw[1].stop_work = true;
	vk_open(&fw[2], 30, 30);
	vc_run_ms(300);
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
	fw[1].stop_work = false;
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(are_gone());
}
END_TEST

/* The stream of the data; signals have the number 0. */
static bool
lose_frames(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)link;
	(void)len;
	return from == 1 && to == 0 && memcmp(p + 28, "\0\0\0\0", 4) != 0;
}

/* Signals come, with their claims, but nothing proves the table. */
START_TEST(the_active_node_is_not_proven)
{
	leftovers();
	vc_run_ms(100);				/* the ends have been told */
	ck_assert(!vn_copies_tcp(&fw[0], &fw[1], 10, NULL));
	vc.lose = lose_frames;
	vc_run_s(STAYS_S);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).state != NODE_PEER_LOST, 1);
	ck_assert(vk_has(&fw[0], 10, 19));
	vc.lose = NULL;
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(are_gone());
}
END_TEST

/* What begins here is not at or below what the active node has dealt with. */
START_TEST(above_the_claim)
{
	switched();
	fw[1].stop_work = true;			/* it hears of 30, and takes it some day */
	vk_open(&fw[0], 30, 30);
	vc_run_s(STAYS_S);
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 30, NULL));
	ck_assert(vk_has(&fw[0], 30, 30));
	fw[1].stop_work = false;
	vc_wait(vk_has(&fw[1], 30, 30));
	vk_mark(&fw[1], vk_tcp(&fw[1], 30), 1, false);
	vc_run_ms(100);
	vk_close(&fw[1], 30, 30);
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(!vk_has(&fw[0], 30, 30));
}
END_TEST

/* The active node's kernel refused it, or its filter leaves it out: it says so. */
START_TEST(named_by_the_claim)
{
	if (_i == 0)
		fw[1].refuses[0] = fw[1].refuses[1] = 12;
	else
		fw[1].keeps_out = 12;
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	(void)vn_command(&fw[1], NODE_TAKEOVER);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 2, false);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 2, false);
	vc_run_ms(50);
	vk_close(&fw[1], 10, 11);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 12, 19));
	if (_i == 0)
		ck_assert(are_gone());		/* one refused flow exempts no other */
	/* what is followed as well */
	vk_open(&fw[0], 20, 20);
	fw[1].refuses[0] = 20;
	fw[1].refuses[1] = 20;
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 20, 20));
}
END_TEST

/* Many that it names keep no others. */
START_TEST(crowded)
{
	fw[1].refuses[0] = 100;
	fw[1].refuses[1] = 160;
	vk_open(&fw[0], 10, 19);
	vk_open(&fw[0], 100, 160);
	vc_settle();
	vn_release(&fw[0]);
	(void)vn_command(&fw[1], NODE_TAKEOVER);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 2, false);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 2, false);
	vc_run_ms(50);
	vk_close(&fw[1], 10, 11);
	vc_run_s(STAYS_S);
	ck_assert(are_gone());
	ck_assert(vk_has(&fw[0], 100, 160));
}
END_TEST

/* Packets pass here, which events tell, or counters only. */
START_TEST(packets_pass)
{
	unsigned	 i;

	leftovers();
	for (i = 0; i < 2 * STAYS_S; i++) {
		if (_i == 0)
			vk_packet(&fw[0], vk_tcp(&fw[0], 10));
		else
			vk_mark(&fw[0], vk_tcp(&fw[0], 10), i % 7, false);
		vc_run_ms(500);
		/* those that an event tells go back to the active node */
		if (vk_tcp(&fw[0], 10) == NULL)
			break;
	}
	ck_assert(vk_has(&fw[0], 10, 10));
	ck_assert(!vk_has(&fw[0], 11, 11));
}
END_TEST

/* Without counters, the timeout says whether packets pass. */
START_TEST(packets_pass_uncounted)
{
	unsigned	 i;

	fw[0].counts = false;
	leftovers();
	for (i = 0; i < 2 * STAYS_S; i++) {
		vk_packet(&fw[0], vk_tcp(&fw[0], 10));
		vc_run_ms(500);
	}
	ck_assert(vk_has(&fw[0], 10, 10));
	ck_assert(!vk_has(&fw[0], 11, 11));
}
END_TEST

/* What lives from packet to packet goes by itself; a flow in a flowtable is not counted. */
START_TEST(short_ones_and_offloaded_ones)
{
	leftovers();
	vk_tcp(&fw[0], 10)->expires_us = vc.now + 58000000;
	vk_tcp(&fw[0], 11)->f.status |= FLOW_S_OFFLOAD;
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
}
END_TEST

/* What fills the table again begins the asking anew, and exempts from nothing. */
START_TEST(refills)
{
	uint64_t	 began;

	leftovers();
	vc_run_ms((VC_PURGE_S + 1) * 1000);
	if (are_gone())
		ck_abort_msg("too early");
	switch (_i) {
	case 0:
		node_flush_local(fw[0].node, vc.now);
		break;
	case 1:
		vn_kill(&fw[0]);
		vn_start(&fw[0]);
		break;
	default:
		(void)vn_command(&fw[0], NODE_COMMIT);
		break;
	}
	began = vc.now;
	vc_run_s(1);
	vc_wait(are_gone() || vk_has(&fw[1], 10, 11));
	/* to the active node an emptied table that is full again is news, and in doubt it takes */
	ck_assert(_i == 0 || are_gone());
	if (_i == 1)
		ck_assert_uint_ge(vc.now - began, 2 * VC_PURGE_S * 1000000 - 100000);
	if (_i == 0)
		vk_close(&fw[1], 10, 11);
	vc_run_s(STAYS_S);
	ck_assert(are_gone());
	ck_assert(vk_has(&fw[0], 12, 19));
}
END_TEST

/* The active node restarts: it has forgotten what ended, and takes it in doubt. */
START_TEST(the_active_node_restarts)
{
	leftovers();
	vn_kill(&fw[1]);
	vc_run_ms(300);
	vn_start(&fw[1]);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 12, 19));
	ck_assert(vk_has(&fw[1], 12, 19));
	/* what it has taken it has, and what it has not is gone here */
	ck_assert(vk_has(&fw[0], 10, 10) == vk_has(&fw[1], 10, 10));
}
END_TEST

/* Nobody has claimed anything: the peer is of the same term, and standby until just now. */
START_TEST(no_claim)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	fw[1].stop_work = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
	vn_release(&fw[1]);
	fw[1].stop_work = false;
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[0], 10, 19));
}
END_TEST

/* --- removals are no ends -------------------------------------------------------------------- */

/* An operator flushes a standby's kernel: nobody else loses anything. */
/* It becomes active before the kernel has done what the standby wanted: the flows stay, or come back. */
START_TEST(flush_before_a_takeover)
{
	leftovers();
	vk_open(&fw[1], 30, 39);
	vc_settle();
	vn_takeover(&fw[0]);
	vn_release(&fw[0]);
	vc_settle();
	ck_assert(vk_has(&fw[0], 30, 39));
	fw[0].stop_work = true;
	node_flush_kernel(fw[0].node);
	vc_run_ms(10);
	ck_assert_uint_gt(fw[0].njobs, 0);
	node_takeover(fw[0].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(10);
	fw[0].stop_work = false;
	vc_settle();
	ck_assert(vk_has(&fw[0], 30, 39));
}
END_TEST

START_TEST(flush_on_a_standby)
{
	switched();
	vk_open(&fw[0], 30, 31);		/* the active node has copies of these */
	vc_wait(vk_has(&fw[1], 30, 31));
	vc_run_s(6);				/* nothing has just been born */
	node_flush_kernel(fw[0].node);
	vc_wait(!vk_has(&fw[0], 10, 10));
	vc_settle();
	ck_assert_uint_eq(feed_flows(node_feed(fw[0].node)), 0);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[1], 10, 19));
	ck_assert(vk_has(&fw[1], 30, 31));
	/* and it can take them back */
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	ck_assert(vk_has(&fw[0], 10, 19));
	ck_assert(vk_has(&fw[0], 30, 31));
}
END_TEST

/* On the active node it is an end, and the leftovers elsewhere go. */
START_TEST(flush_on_the_active_node)
{
	switched();
	node_flush_kernel(fw[1].node);
	vc_wait(!vk_has(&fw[1], 10, 10));
	vc_run_s(GONE_S + VC_PURGE_S);
	ck_assert(!vk_has(&fw[1], 10, 10));
	ck_assert(!vk_has(&fw[0], 10, 10));
	ck_assert(!vk_has(&fw[0], 19, 19));
	ck_assert_uint_eq(feed_flows(node_feed(fw[0].node)), 0);
}
END_TEST

/* It reaches the unused copies of another active node as well. */
START_TEST(flush_beside_another)
{
	vn_takeover(&fw[1]);
	vk_open(&fw[1], 10, 12);
	vc_wait(vk_has(&fw[0], 10, 12));
	vc_run_s(6);
	vk_packet(&fw[0], vk_tcp(&fw[0], 12));
	node_flush_kernel(fw[1].node);
	vc_run_s(2);
	ck_assert(!vk_has(&fw[0], 10, 10));
	ck_assert(!vk_has(&fw[0], 11, 11));
	ck_assert(vk_has(&fw[0], 12, 12));	/* which carries packets */
}
END_TEST

/* A pass does not bring back what was flushed: the leftovers elsewhere are of flows that have ended. */
START_TEST(flushed_and_passed_over)
{
	switched();
	node_flush_kernel(fw[1].node);
	vc_wait(!vk_has(&fw[1], 10, 10));
	vc_run_ms(20);
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert_uint_eq(vn_command(&fw[1], NODE_TAKEOVER)->ended, 10);
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

/* Released before the flush is done: it goes on as what it was. */
START_TEST(flushed_and_released)
{
	switched();
	fw[1].stop_work = true;
	node_flush_kernel(fw[1].node);
	vc_run_ms(20);
	vn_release(&fw[1]);
	fw[1].stop_work = false;
	vc_wait(!vk_has(&fw[1], 10, 10));
	vc_settle();
	ck_assert_uint_eq(feed_flows(node_feed(fw[1].node)), 0);
	ck_assert(vk_has(&fw[0], 10, 19));
}
END_TEST

/* A purge of the former active node is no end for the present one. */
START_TEST(purges_conclude_nothing)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	fw[1].keeps_out = 12;
	node_resync(fw[1].node);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[1], 10, 19));
}
END_TEST

/* --- copies on the active node ------------------------------------------------------------------ */

/* The second node is active and has unused copies of what the first one told: 10 to 19. */
static void
copies(void)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert(vk_has(&fw[1], 10, 19));
}

/* A standby's word: closed by packets there. */
START_TEST(a_real_end_removes_a_copy)
{
	copies();
	vk_close(&fw[0], 10, 10);
	vc_wait(!vk_has(&fw[1], 10, 10));
	vc_settle();
	ck_assert(!vn_owns_tcp(&fw[1], 10, NULL));
	ck_assert(vk_has(&fw[1], 11, 19));
	ck_assert_uint_eq(node_purged(fw[1].node), 1);
}
END_TEST

/* But time or a filter there say nothing; a program does. */
START_TEST(other_ends_do_not)
{
	copies();
	vk_destroy(&fw[0], vk_tcp(&fw[0], 10), false);
	vk_destroy(&fw[0], vk_tcp(&fw[0], 11), true);
	fw[0].keeps_out = 12;
	vk_mark(&fw[0], vk_tcp(&fw[0], 12), 1, false);
	vc_settle();
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 11, NULL));
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 12, NULL));
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[1], 10, 10) && vk_has(&fw[1], 11, 11) && vk_has(&fw[1], 12, 19));
}
END_TEST

/* Never one in use, whether that is known or the kernel has to say so. */
START_TEST(never_one_in_use)
{
	copies();
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 3, false);
	vk_packet(&fw[1], vk_tcp(&fw[1], 11));
	vc_run_ms(20);
	vk_close(&fw[0], 10, 12);
	vc_wait(!vk_has(&fw[1], 12, 12));
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[1], 10, 11));
}
END_TEST

/* Without counters nobody can say that it is unused. */
START_TEST(never_without_counters)
{
	fw[1].counts = false;
	copies();
	vk_close(&fw[0], 10, 10);
	vc_run_s(STAYS_S);
	ck_assert(vk_has(&fw[1], 10, 10));
}
END_TEST

/* Between the question and the answer it is used, or the node is released. */
START_TEST(used_meanwhile)
{
	copies();
	fw[1].stop_tell = true;
	vk_close(&fw[0], 10, 10);
	vc_run_ms(300);
	ck_assert_uint_gt(fw[1].ops[KOP_GET], 0);
	if (_i == 0)
		vk_mark(&fw[1], vk_tcp(&fw[1], 10), 1, false);
	else
		vn_release(&fw[1]);
	vc_run_ms(20);
	fw[1].stop_tell = false;
	vc_run_s(VC_PURGE_S);
	ck_assert(vk_has(&fw[1], 10, 10));
}
END_TEST

/* Not while another peer tells it as well. */
START_TEST(not_while_another_tells_it)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_takeover(&fw[2]);			/* the third one has used copies */
	for (uint16_t p = 10; p < 15; p++)
		vk_mark(&fw[2], vk_tcp(&fw[2], p), 1, false);
	vn_release(&fw[0]);
	vc_settle();
	vn_takeover(&fw[1]);
	vn_release(&fw[2]);
	vc_settle();
	vk_close(&fw[0], 10, 10);
	vc_run_ms(500);
	vc_settle();
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	/* the end was seen: what the other one tells of that life counts no more */
	ck_assert(vn_marked(&fw[1], &fw[2], 10));
	vk_open(&fw[2], 11, 11);		/* a younger life there */
	vc_settle();
	ck_assert(vk_has(&fw[1], 11, 11));
	vk_close(&fw[0], 11, 11);
	vc_run_s(2);
	ck_assert(vk_has(&fw[1], 11, 11));
}
END_TEST

/* Nobody knows which of two lives is the younger one: the other peer's may be alive. */
START_TEST(not_while_another_tells_another_life)
{
	struct flow	 f;
	unsigned	 i;

	mk_flow(&f, IPPROTO_TCP, 10);
	for (i = 0; i < 3; i += 2) {
		f.reply.l4dst = (uint16_t)(700 + i);
		vk_put(&fw[i], &f)->f.packets = 1;
		node_resync(fw[i].node);
	}
	vc_settle();
	vn_takeover(&fw[0]);			/* whose term is the higher one */
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->f.reply.l4dst, 700);
	vk_close(&fw[0], 10, 10);
	vc_run_s(2);
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	ck_assert(!vn_marked(&fw[1], &fw[2], 10));
	ck_assert(vk_has(&fw[1], 10, 10));
}
END_TEST

/* What ends there and is in use here has not ended anywhere. */
START_TEST(in_use_is_no_end)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	(void)vn_command(&fw[2], NODE_COMMIT);
	vk_mark(&fw[2], vk_tcp(&fw[2], 10), 1, false);
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 2, false);
	vc_settle();
	vk_close(&fw[0], 10, 10);
	vc_settle();
	ck_assert(vk_has(&fw[1], 10, 10));
	ck_assert(!vn_marked(&fw[1], &fw[2], 10));
}
END_TEST

/* --- a lease ---------------------------------------------------------------------------------------- */

/* A node reboots with an empty table: what others hold of it stays, and can be taken. */
START_TEST(lease)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_reboot(&fw[0]);
	vc_settle();
	vc_settle();
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	vc_run_s(100);
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	if (_i == 0) {
		vn_takeover(&fw[1]);
		ck_assert(vk_has(&fw[1], 10, 19));
		vc_run_s(60);
		/* the end of a lease says nothing of the flows */
		ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
		ck_assert(vk_has(&fw[1], 10, 19));
		return;
	}
	vc_run_s(30);
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
}
END_TEST

/* A restart of the daemon alone wipes what is gone. */
START_TEST(no_lease_for_a_restart)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_kill(&fw[0]);
	vk_tcp(&fw[0], 10)->there = false;
	vn_start(&fw[0]);
	vc_settle();
	vc_settle();
	ck_assert(!vn_copies_tcp(&fw[1], &fw[0], 10, NULL));
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 11, NULL));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("purge");
	TCase	*standby = tcase_create("standby"), *three = tcase_create("three");
	TCase	*removed = tcase_create("removed"), *active = tcase_create("active");
	TCase	*lent = tcase_create("lease");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(standby, leftovers_go);
	tcase_add_test(standby, closed_there);
	tcase_add_test(standby, not_at_once);
	tcase_add_test(standby, audits_do_not_matter);
	tcase_add_test(standby, standby_again);
	tcase_add_test(standby, nobody_is_active);
	tcase_add_test(standby, the_active_node_is_not_heard);
	tcase_add_test(standby, the_active_node_is_not_proven);
	tcase_add_test(standby, above_the_claim);
	tcase_add_loop_test(standby, named_by_the_claim, 0, 2);
	tcase_add_test(standby, crowded);
	tcase_add_loop_test(standby, packets_pass, 0, 2);
	tcase_add_test(standby, packets_pass_uncounted);
	tcase_add_test(standby, short_ones_and_offloaded_ones);
	tcase_add_loop_test(standby, refills, 0, 3);
	tcase_add_test(standby, the_active_node_restarts);
	tcase_add_test(standby, no_claim);
	tcase_add_test(three, two_are_active);
	tcase_add_test(three, the_active_node_is_incomplete);
	tcase_add_test(three, not_while_another_tells_it);
	tcase_add_test(three, not_while_another_tells_another_life);
	tcase_add_test(three, in_use_is_no_end);
	tcase_add_test(removed, flush_before_a_takeover);
	tcase_add_test(removed, flush_on_a_standby);
	tcase_add_test(removed, flush_on_the_active_node);
	tcase_add_test(removed, flush_beside_another);
	tcase_add_test(removed, flushed_and_passed_over);
	tcase_add_test(removed, flushed_and_released);
	tcase_add_test(removed, purges_conclude_nothing);
	tcase_add_test(active, a_real_end_removes_a_copy);
	tcase_add_test(active, other_ends_do_not);
	tcase_add_test(active, never_one_in_use);
	tcase_add_test(active, never_without_counters);
	tcase_add_loop_test(active, used_meanwhile, 0, 2);
	tcase_add_loop_test(lent, lease, 0, 2);
	tcase_add_test(lent, no_lease_for_a_restart);
	tcase_add_checked_fixture(standby, setup, vc_fini);
	tcase_add_checked_fixture(three, setup3, vc_fini);
	tcase_add_checked_fixture(removed, setup, vc_fini);
	tcase_add_checked_fixture(active, setup, vc_fini);
	tcase_add_checked_fixture(lent, setup, vc_fini);
	suite_add_tcase(s, standby);
	suite_add_tcase(s, three);
	suite_add_tcase(s, removed);
	suite_add_tcase(s, active);
	suite_add_tcase(s, lent);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
