/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Evidence (doc/wire.md, section 8.1) and terms (8.2): what counts as use, when
 * flows are born, what an end is, which copies are marked, who has which term.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ownership.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_start(2);
}

/* The second node has taken over connections that the first one opened, and is alone. */
static void
take_over(uint16_t first, uint16_t last)
{
	vk_open(&fw[0], first, last);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
}

/* Does the second node take its entry for a copy that nobody has used? */
static bool
is_copy(uint16_t port)
{
	struct flow	 f;

	ck_assert(vn_owns_tcp(&fw[1], port, &f));
	return f.copy;
}

static void
audit(struct vnode *v)
{
	local_audit(node_local(v->node));
	vc_run_ms(20);
}

/* --- use -------------------------------------------------------------------------------- */

START_TEST(copies_are_unused)
{
	struct flow	 f;

	take_over(10, 11);
	ck_assert(is_copy(10));
	/* and their origin is told so, its own are not */
	ck_assert(vn_copies_tcp(&fw[0], &fw[1], 10, &f));
	ck_assert(f.copy);
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 10, &f));
	ck_assert(!f.copy);
	ck_assert(!vn_owns_tcp(&fw[1], 12, NULL));
}
END_TEST

START_TEST(packet_events_use)
{
	struct flow	 f;

	take_over(10, 11);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 5, false);
	vc_run_ms(50);
	ck_assert(!is_copy(10));
	ck_assert(is_copy(11));
	vc_settle();
	ck_assert(vn_copies_tcp(&fw[0], &fw[1], 10, &f));
	ck_assert(!f.copy);
	ck_assert_uint_eq(f.mark, 5);
}
END_TEST

/* What a program changes is no use, but it is told. */
START_TEST(commanded_events_do_not_use)
{
	struct flow	 f;

	take_over(10, 11);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 5, true);
	vc_settle();
	ck_assert(is_copy(10));
	ck_assert(vn_copies_tcp(&fw[0], &fw[1], 10, &f));
	ck_assert(f.copy);
	ck_assert_uint_eq(f.mark, 5);
}
END_TEST

START_TEST(counters_use)
{
	take_over(10, 11);
	audit(&fw[1]);
	ck_assert(is_copy(10));
	vk_packet(&fw[1], vk_tcp(&fw[1], 10));
	audit(&fw[1]);
	ck_assert(!is_copy(10));
	ck_assert(is_copy(11));
}
END_TEST

/* The kernel had the entry when the takeover came: its counter begins anywhere. */
START_TEST(counters_of_what_was_there)
{
	struct flow	 f;
	struct vk_entry	*e;

	mk_flow(&f, IPPROTO_TCP, 10);
	e = vk_put(&fw[1], &f);
	e->f.packets = 77;
	node_resync(fw[1].node);
	take_over(10, 11);
	audit(&fw[1]);
	ck_assert(is_copy(10));
	audit(&fw[1]);
	ck_assert(is_copy(10));
	vk_packet(&fw[1], vk_tcp(&fw[1], 10));
	audit(&fw[1]);
	ck_assert(!is_copy(10));
}
END_TEST

/* Where counting is off, a timeout that was refreshed says the same. */
START_TEST(timeouts_use)
{
	fw[1].counts = false;
	take_over(10, 11);
	ck_assert(is_copy(10));
	vc_run_s(20);
	audit(&fw[1]);
	ck_assert(is_copy(10));
	vk_packet(&fw[1], vk_tcp(&fw[1], 10));
	audit(&fw[1]);
	ck_assert(!is_copy(10));
	ck_assert(is_copy(11));
}
END_TEST

/* The counter in the DESTROY itself: the last packet may have gone by unseen. */
START_TEST(the_end_shows_use)
{
	take_over(10, 12);
	vk_state(&fw[0], 10, FLOW_TCP_FIN_WAIT);
	vk_state(&fw[0], 11, FLOW_TCP_FIN_WAIT);
	vc_settle();
	vn_takeover(&fw[1]);			/* which brings their state */
	vk_packet(&fw[1], vk_tcp(&fw[1], 10));
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 11), false);
	vc_run_ms(20);
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vn_marked(&fw[1], &fw[0], 11));
}
END_TEST

/* What a dump finds and no packet has used is a copy: another program restored it. */
START_TEST(found_unused)
{
	struct flow	 f;
	struct vk_entry	*e;

	mk_flow(&f, IPPROTO_TCP, 10);
	(void)vk_put(&fw[1], &f);
	mk_flow(&f, IPPROTO_TCP, 11);
	e = vk_put(&fw[1], &f);
	e->f.packets = 1;
	audit(&fw[1]);
	ck_assert(local_unused(node_local(fw[1].node), 1) != local_unused(node_local(fw[1].node), 2));
	vn_takeover(&fw[1]);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 11), false);
	vc_run_ms(20);
	ck_assert(!vn_owns_tcp(&fw[1], 11, NULL));
}
END_TEST

/* --- birth ------------------------------------------------------------------------------- */

static uint64_t
born(const struct vnode *v, uint16_t port)
{
	struct flow	 f;

	ck_assert_msg(vn_owns_tcp(v, port, &f), "port %u is not there", port);
	return f.born;
}

static uint64_t
wall(void)
{
	return VC_WALL_S * 1000ull + vc.now / 1000;
}

/* Is that a birth of now, read up to 50 ms ago? */
static bool
is_now(uint64_t at)
{
	return at <= wall() && wall() - at <= 50;
}

START_TEST(births_are_inherited)
{
	struct flow	 f;
	uint64_t	 at;

	at = wall();
	take_over(10, 10);
	ck_assert_uint_ge(born(&fw[0], 10), at);
	ck_assert_uint_le(born(&fw[0], 10), at + 50);
	at = born(&fw[0], 10);
	ck_assert_uint_eq(born(&fw[1], 10), at);
	ck_assert(vn_copies_tcp(&fw[0], &fw[1], 10, &f));
	ck_assert_uint_eq(f.born, at);
	/* nobody has seen what a dump finds be born */
	mk_flow(&f, IPPROTO_TCP, 11);
	(void)vk_put(&fw[1], &f);
	audit(&fw[1]);
	ck_assert(is_now(born(&fw[1], 11)));
	ck_assert(vn_owns_tcp(&fw[1], 11, &f) && f.found);
}
END_TEST

/* A packet in the middle of a flow that a peer tells makes no other life of it. */
START_TEST(strays_inherit)
{
	uint64_t	 at;

	vk_open(&fw[0], 10, 10);
	vc_settle();
	at = born(&fw[0], 10);
	vc_run_s(5);
	vk_stray(&fw[1], 10);
	vc_run_ms(20);
	ck_assert_uint_eq(born(&fw[1], 10), at);
	/* of a flow that nobody tells nobody knows better */
	vk_stray(&fw[1], 11);
	vc_run_ms(20);
	ck_assert(is_now(born(&fw[1], 11)));
	/* and a connection that is opened is another life */
	vk_open(&fw[0], 12, 12);
	vc_settle();
	at = born(&fw[0], 12);
	vk_open(&fw[1], 12, 12);
	vc_run_ms(20);
	ck_assert(is_now(born(&fw[1], 12)));
	ck_assert_uint_gt(born(&fw[1], 12), at);
}
END_TEST

/* A takeover writes the state of the flow over an entry that a stray packet made. */
START_TEST(strays_give_way)
{
	vk_open(&fw[0], 10, 10);
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 7, false);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), true);
	vc_settle();
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	vc_settle();
	vk_stray(&fw[1], 10);
	vc_run_ms(20);
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->f.mark, 0);
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->f.mark, 7);
}
END_TEST

/* And if that packet was translated in another way, the entry itself. */
START_TEST(strays_of_another_translation)
{
	struct flow	 f;
	uint64_t	 at;

	mk_flow(&f, IPPROTO_TCP, 10);
	f.tcp_state = FLOW_TCP_SYN_SENT;
	f.reply.l4dst = 777;
	f.status |= FLOW_S_SRC_NAT | FLOW_S_SRC_NAT_DONE;
	vk_new(&fw[0], &f);
	vk_state(&fw[0], 10, FLOW_TCP_ESTABLISHED);
	vc_settle();
	at = born(&fw[0], 10);
	vk_stray(&fw[1], 10);
	vc_run_ms(20);
	ck_assert_uint_eq(born(&fw[1], 10), at);
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->f.reply.l4dst, 777);
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.reply.l4dst, 777);
}
END_TEST

/* The tuple is used again at once: here, and on the other node. */
START_TEST(reused_at_once)
{
	uint64_t	 first;

	vk_open(&fw[0], 10, 10);
	vc_run_ms(10);
	first = born(&fw[0], 10);
	fw[0].hold = true;			/* the end is read with the new birth */
	vk_open(&fw[0], 10, 10);
	fw[0].hold = false;
	vc_run_ms(10);
	ck_assert_uint_gt(born(&fw[0], 10), first);
	vc_settle();
	/* the other node knows that life when it sees the next one */
	vk_open(&fw[1], 10, 10);
	vc_run_ms(10);
	ck_assert_uint_gt(born(&fw[1], 10), born(&fw[0], 10));
}
END_TEST

/* The kernel keeps a closed entry in which another connection is opened. */
START_TEST(opened_again_in_the_entry)
{
	uint64_t	 first;

	vk_open(&fw[0], 10, 10);
	vc_run_ms(10);
	first = born(&fw[0], 10);
	vk_state(&fw[0], 10, FLOW_TCP_CLOSE);
	vk_state(&fw[0], 10, FLOW_TCP_SYN_SENT);
	vc_run_ms(10);
	ck_assert_uint_gt(born(&fw[0], 10), first);
	vc_run_s(10);
	vk_state(&fw[0], 10, FLOW_TCP_CLOSE);
	vk_state(&fw[0], 10, FLOW_TCP_SYN_SENT);
	vc_run_ms(10);
	ck_assert(is_now(born(&fw[0], 10)));
}
END_TEST

/* Whose clock is late hears the time of the cluster, and jumps. */
START_TEST(clocks_jump)
{
	fw[1].wall_off_s = -5000;
	vn_kill(&fw[1]);
	vn_start(&fw[1]);
	vc_settle();
	vk_open(&fw[1], 10, 10);
	vc_run_ms(20);
	ck_assert(is_now(born(&fw[1], 10)));
	/* and the other way: whoever is ahead takes the others along */
	fw[0].wall_off_s = 7000;
	vn_kill(&fw[0]);
	vn_start(&fw[0]);
	vc_settle();
	vk_open(&fw[1], 11, 11);
	vc_run_ms(20);
	ck_assert(is_now(born(&fw[1], 11) - 7000000));
}
END_TEST

/* A clock that was never set is worth nothing until a peer tells a better time. */
START_TEST(unset_clocks)
{
	struct flow	 f;

	vc_fini();
	vc_init(2);
	fw[0].wall_off_s = fw[1].wall_off_s = -(int64_t)VC_WALL_S;
	vn_start(&fw[0]);
	vn_start(&fw[1]);
	vn_takeover(&fw[0]);
	vc_settle();
	vk_open(&fw[0], 10, 10);
	vc_run_ms(20);
	ck_assert(vn_owns_tcp(&fw[0], 10, &f) && f.found);
	vn_kill(&fw[1]);
	fw[1].wall_off_s = 0;
	vn_start(&fw[1]);
	vc_settle();
	vk_open(&fw[0], 11, 11);
	vc_run_ms(20);
	ck_assert(is_now(born(&fw[0], 11)));
}
END_TEST

/* A clock that cannot be right moves nobody else's, and makes no births. */
START_TEST(absurd_clocks)
{
	fw[0].wall_off_s = 4200000000 - (int64_t)VC_WALL_S;
	vn_kill(&fw[0]);
	vn_start(&fw[0]);
	vc_settle();
	ownership_hear_clock(fw[1].node, 3500000000000);
	vk_open(&fw[1], 10, 10);
	vc_run_ms(20);
	ck_assert_uint_le(born(&fw[1], 10), wall());
	ownership_hear_clock(fw[1].node, UINT64_MAX);
	vk_open(&fw[0], 11, 11);
	vc_run_ms(20);
	ck_assert_uint_le(born(&fw[0], 11), wall());
	/* the other one does not believe that it is of the future */
	vc_settle();
	vk_open(&fw[1], 11, 11);
	vc_run_ms(20);
	ck_assert_uint_le(born(&fw[1], 11), wall() + 1);
}
END_TEST

/* --- ends ----------------------------------------------------------------------------------- */

/* Closed by packets here: over.  Nobody has to say more. */
START_TEST(closed_and_used)
{
	take_over(10, 11);
	vk_close(&fw[1], 10, 10);
	vc_settle();
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vn_marked(&fw[1], &fw[0], 11));
	ck_assert_uint_eq(vn_sees(&fw[1], &fw[0]).ended, 1);
	ck_assert_uint_eq(vn_command(&fw[1], NODE_TAKEOVER)->ended, 1);
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

static const struct {
	uint8_t	 proto, state;
	bool	 over;
} goodbyes[] = {
	{ IPPROTO_TCP, FLOW_TCP_SYN_SENT, false }, { IPPROTO_TCP, FLOW_TCP_ESTABLISHED, false },
	{ IPPROTO_TCP, FLOW_TCP_FIN_WAIT, true }, { IPPROTO_TCP, FLOW_TCP_CLOSE_WAIT, true },
	{ IPPROTO_TCP, FLOW_TCP_TIME_WAIT, true }, { IPPROTO_TCP, FLOW_TCP_CLOSE, true },
	{ IPPROTO_TCP, FLOW_TCP_SYN_SENT2, false },
	{ IPPROTO_SCTP, FLOW_SCTP_CLOSED, true }, { IPPROTO_SCTP, FLOW_SCTP_ESTABLISHED, false },
	{ IPPROTO_SCTP, FLOW_SCTP_SHUTDOWN_SENT, true },
	{ IPPROTO_SCTP, FLOW_SCTP_SHUTDOWN_ACK_SENT, true },
	{ IPPROTO_SCTP, FLOW_SCTP_HEARTBEAT_SENT, false },
	{ IPPROTO_DCCP, 3, false }, { IPPROTO_DCCP, 6, true }, { IPPROTO_DCCP, 8, true },
	{ IPPROTO_UDP, 0, false }, { IPPROTO_ICMP, 0, false }, { IPPROTO_GRE, 0, false }
};

static void
set_state(struct flow *f, uint8_t state)
{
	switch (f->proto) {
	case IPPROTO_TCP:
		f->tcp_state = state;
		break;
	case IPPROTO_SCTP:
		f->rare.sctp_state = state;
		f->has |= FLOW_HAS_SCTP;
		break;
	case IPPROTO_DCCP:
		f->rare.dccp_state = state;
		f->has |= FLOW_HAS_DCCP;
		break;
	default:
		break;
	}
}

/* Time ends a used flow: that is its end if it has said goodbye, and silence if not. */
START_TEST(closing_states)
{
	struct flow	 f;
	struct vk_entry	*e;

	mk_flow(&f, goodbyes[_i].proto, 10);
	set_state(&f, goodbyes[_i].state);
	vk_new(&fw[0], &f);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	e = vk_find(&fw[1], &f);
	ck_assert(e != NULL && e->there);
	vk_mark(&fw[1], e, 1, false);
	vc_run_ms(20);
	vk_destroy(&fw[1], e, false);
	vc_run_ms(500);
	ck_assert_uint_eq(vn_sees(&fw[1], &fw[0]).ended, goodbyes[_i].over);
	ck_assert(e->there == !goodbyes[_i].over);
}
END_TEST

/* This kernel translates the flow in another way than the one that it comes from: the same life. */
START_TEST(retranslated)
{
	struct flow	 f;
	unsigned	 deleted;

	take_over(10, 10);
	vk_tcp(&fw[1], 10)->f.reply.l4dst = 777;
	audit(&fw[1]);
	ck_assert(vn_owns_tcp(&fw[1], 10, &f));
	ck_assert_uint_eq(f.reply.l4dst, 777);
	deleted = fw[1].ops[KOP_DELETE];
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(fw[1].ops[KOP_DELETE], deleted);
	vc_settle();
	vk_close(&fw[1], 10, 10);
	vc_run_ms(300);
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

/* What a program deletes has ended, of a copy as well, on the active node and on a standby. */
START_TEST(commanded_ends)
{
	take_over(10, 12);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), true);
	vc_run_ms(300);
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vk_has(&fw[1], 10, 10));
	vk_destroy(&fw[0], vk_tcp(&fw[0], 11), true);
	vc_run_ms(300);
	/* on a standby it means what is there, not the flows of the active node */
	ck_assert(vk_has(&fw[1], 11, 11));
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	ck_assert(vk_has(&fw[0], 11, 11) && vk_has(&fw[0], 12, 12));
}
END_TEST

/* An unused copy runs out: that is silence, and whoever has used it is taken from again. */
START_TEST(unused_copies_lapse)
{
	take_over(10, 10);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vc_wait(vk_tcp(&fw[1], 10) != NULL);
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
}
END_TEST

/* Time ends a flow here whose packets go through the other active node. */
START_TEST(lapses_while_another_holds_it)
{
	take_over(10, 10);
	vk_packet(&fw[1], vk_tcp(&fw[1], 10));
	audit(&fw[1]);
	vn_takeover(&fw[0]);			/* both are active */
	vc_settle();
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vc_wait(vk_tcp(&fw[1], 10) != NULL);
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
}
END_TEST

/* Events that are read late may be about what was a leftover until the takeover. */
START_TEST(ends_older_than_the_takeover)
{
	struct flow	 f;

	vk_open(&fw[0], 10, 11);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vk_state(&fw[1], 10, FLOW_TCP_FIN_WAIT);
	vc_run_ms(20);
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	vc_settle();
	/* its leftover ends; the event was lost, and a dump tells after the takeover */
	vk_tcp(&fw[1], 10)->there = false;
	node_overrun(fw[1].node, vc.now, vc.now);
	vc.now += 1000;
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
	vc_wait(vk_tcp(&fw[1], 10) != NULL);
	mk_flow(&f, IPPROTO_TCP, 10);
	ck_assert(vn_owns(&fw[1], &f, &f));
}
END_TEST

/* --- marks ------------------------------------------------------------------------------------ */

/* The origin repeats its whole table: the same life stays ended. */
START_TEST(marks_survive_a_generation)
{
	take_over(10, 11);
	vk_close(&fw[1], 10, 10);
	vc_settle();
	vn_kill(&fw[0]);
	vn_start(&fw[0]);
	vc_settle();
	vc_settle();
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vk_has(&fw[1], 10, 10));
	node_resync(fw[1].node);
	vc_settle();
	ck_assert(vn_marked(&fw[1], &fw[0], 10));
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

/* A later life of the tuple, told anew or in a new generation, counts as new. */
START_TEST(marks_go_with_a_new_life)
{
	take_over(10, 11);
	vk_close(&fw[1], 10, 11);
	vc_settle();
	vk_open(&fw[0], 10, 10);
	vc_settle();
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
	ck_assert(vk_has(&fw[1], 10, 10));
	/* while they do not hear of each other */
	vc_cut(&fw[0], &fw[1], true);
	vc_run_ms(2000);
	vk_open(&fw[0], 11, 11);
	vc_run_ms(20);
	node_resync(fw[1].node);
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	vc_settle();
	ck_assert(!vn_marked(&fw[1], &fw[0], 11));
	ck_assert(vk_has(&fw[1], 10, 11));
}
END_TEST

/* Any word of the origin about the flow takes the mark away. */
START_TEST(marks_go_when_told_anew)
{
	take_over(10, 10);
	vk_close(&fw[1], 10, 10);
	vc_settle();
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 3, false);
	vc_settle();
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
	ck_assert(vk_has(&fw[1], 10, 10));
}
END_TEST

/* A younger life of the peer's does not end with the older one here. */
START_TEST(ends_leave_younger_lives)
{
	take_over(10, 10);
	vc_run_s(3);
	fw[1].hold = true;
	vk_state(&fw[1], 10, FLOW_TCP_TIME_WAIT);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vc_run_ms(200);
	fw[1].hold = false;
	vc_settle();
	ck_assert(!vn_marked(&fw[1], &fw[0], 10));
	vc_wait(vk_tcp(&fw[1], 10) != NULL);
}
END_TEST

/* --- terms --------------------------------------------------------------------------------------- */

START_TEST(terms_ascend)
{
	ck_assert_uint_eq(fw[0].term, 1);
	ck_assert_int_eq(vn_sees(&fw[1], &fw[0]).term, 1);
	vn_takeover(&fw[0]);			/* active already */
	ck_assert_uint_eq(fw[0].term, 2);
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(fw[1].term, 3);
	ck_assert(node_two_active(fw[1].node));
	vn_release(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 2);
	vn_takeover(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 4);
}
END_TEST

START_TEST(commits_take_no_term)
{
	(void)vn_command(&fw[1], NODE_COMMIT);
	ck_assert_uint_eq(node_term(fw[1].node), 0);
	ck_assert_int_eq(node_role(fw[1].node), NODE_STANDBY);
	(void)vn_command(&fw[0], NODE_COMMIT);
	ck_assert_uint_eq(node_term(fw[0].node), 1);
}
END_TEST

/* The runtime directory was lost: whoever is not active tells a term that is too high. */
START_TEST(quiet_peers_raise_the_term)
{
	vn_takeover(&fw[0]);
	vn_takeover(&fw[0]);
	vn_release(&fw[0]);
	vn_kill(&fw[1]);
	fw[1].term = 0;
	fw[1].role = NODE_STANDBY;
	vn_start(&fw[1]);
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);	/* has heard of nobody */
	ck_assert_uint_eq(node_term(fw[1].node), 1);
	vc_settle();
	ck_assert_uint_eq(fw[1].term, 4);
	ck_assert_uint_eq(fw[0].term, 3);
	/* but not while it is active itself */
	vn_takeover(&fw[0]);
	vn_takeover(&fw[1]);
	vc_run_ms(1000);
	ck_assert_uint_eq(fw[0].term, 5);
	ck_assert_uint_eq(fw[1].term, 6);
}
END_TEST

START_TEST(terms_end)
{
	vn_kill(&fw[0]);
	fw[0].term = 0x7fffffff - 1;
	vn_start(&fw[0]);
	vc_settle();
	vn_takeover(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 0x7fffffff);
	vn_takeover(&fw[0]);
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(fw[1].term, 0x7fffffff);
	vc_run_ms(500);
	ck_assert_int_eq(vn_sees(&fw[0], &fw[1]).term, 0x7fffffff);
}
END_TEST

/* A node that was active and restarts, while another one has taken over. */
static void
restart_beside_another(bool asked)
{
	vn_kill(&fw[0]);
	vn_takeover(&fw[1]);
	ck_assert_uint_gt(fw[1].term, fw[0].term);
	fw[0].asked = asked;
	vn_start(&fw[0]);
	vc_settle();
}

START_TEST(steps_back)
{
	restart_beside_another(false);
	ck_assert_int_eq(node_role(fw[0].node), NODE_STANDBY);
	ck_assert_int_eq(fw[0].role, NODE_STANDBY);
	ck_assert_int_eq(node_role(fw[1].node), NODE_ACTIVE);
}
END_TEST

/* Somebody wants it to be active: an address, or a request. */
START_TEST(stays_if_asked)
{
	restart_beside_another(true);
	vc_settle();
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	ck_assert_uint_gt(fw[0].term, fw[1].term);
}
END_TEST

/* Nobody has a higher term: it goes on. */
START_TEST(stays_if_nobody_else)
{
	vn_kill(&fw[0]);
	vn_start(&fw[0]);
	vc_settle();
	vc_settle();
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	ck_assert_uint_eq(fw[0].term, 2);
}
END_TEST

/* A request that comes after the start counts as well. */
START_TEST(stays_if_asked_later)
{
	vn_kill(&fw[0]);
	vc_cut(&fw[0], &fw[1], true);
	vn_takeover(&fw[1]);
	vn_takeover(&fw[1]);
	vn_start(&fw[0]);
	vc_run_ms(100);
	vn_takeover(&fw[0]);
	vc_cut(&fw[0], &fw[1], false);
	vc_settle();
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	ck_assert_int_eq(node_role(fw[1].node), NODE_ACTIVE);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("ownership");
	TCase	*use = tcase_create("use"), *births = tcase_create("births");
	TCase	*ends = tcase_create("ends"), *terms = tcase_create("terms");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(use, copies_are_unused);
	tcase_add_test(use, packet_events_use);
	tcase_add_test(use, commanded_events_do_not_use);
	tcase_add_test(use, counters_use);
	tcase_add_test(use, counters_of_what_was_there);
	tcase_add_test(use, timeouts_use);
	tcase_add_test(use, the_end_shows_use);
	tcase_add_test(use, found_unused);
	tcase_add_test(births, births_are_inherited);
	tcase_add_test(births, strays_inherit);
	tcase_add_test(births, strays_give_way);
	tcase_add_test(births, strays_of_another_translation);
	tcase_add_test(births, reused_at_once);
	tcase_add_test(births, opened_again_in_the_entry);
	tcase_add_test(births, clocks_jump);
	tcase_add_test(births, unset_clocks);
	tcase_add_test(births, absurd_clocks);
	tcase_add_test(ends, closed_and_used);
	tcase_add_loop_test(ends, closing_states, 0, sizeof(goodbyes) / sizeof(goodbyes[0]));
	tcase_add_test(ends, retranslated);
	tcase_add_test(ends, commanded_ends);
	tcase_add_test(ends, unused_copies_lapse);
	tcase_add_test(ends, lapses_while_another_holds_it);
	tcase_add_test(ends, ends_older_than_the_takeover);
	tcase_add_test(ends, marks_survive_a_generation);
	tcase_add_test(ends, marks_go_with_a_new_life);
	tcase_add_test(ends, marks_go_when_told_anew);
	tcase_add_test(ends, ends_leave_younger_lives);
	tcase_add_test(terms, terms_ascend);
	tcase_add_test(terms, commits_take_no_term);
	tcase_add_test(terms, quiet_peers_raise_the_term);
	tcase_add_test(terms, terms_end);
	tcase_add_test(terms, steps_back);
	tcase_add_test(terms, stays_if_asked);
	tcase_add_test(terms, stays_if_nobody_else);
	tcase_add_test(terms, stays_if_asked_later);
	tcase_add_checked_fixture(use, setup, vc_fini);
	tcase_add_checked_fixture(births, setup, vc_fini);
	tcase_add_checked_fixture(ends, setup, vc_fini);
	tcase_add_checked_fixture(terms, setup, vc_fini);
	suite_add_tcase(s, use);
	suite_add_tcase(s, births);
	suite_add_tcase(s, ends);
	suite_add_tcase(s, terms);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
