/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What an active node takes by itself (doc/wire.md, section 8.3): what peers
 * tell, what was refused, and everything of a peer that may have been active.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "vcluster.h"

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

/* --- entry by entry ---------------------------------------------------------------------- */

/* A standby's new flow comes to the active node. */
START_TEST(told_by_a_standby)
{
	vk_open(&fw[1], 10, 12);
	vc_wait(vk_has(&fw[0], 10, 12));
	ck_assert_uint_eq(node_taken(fw[0].node)->flows, 0);
	ck_assert(!node_taken(fw[0].node)->running);
	/* and not the other way */
	vk_open(&fw[0], 20, 20);
	vc_settle();
	ck_assert(!vk_has(&fw[1], 20, 20));
}
END_TEST

START_TEST(told_by_another_active_node)
{
	vn_takeover(&fw[1]);
	vk_open(&fw[1], 10, 10);
	vk_open(&fw[0], 11, 11);
	vc_wait(vk_has(&fw[0], 10, 11) && vk_has(&fw[1], 10, 11));
}
END_TEST

/* Changes of a copy follow; of what is in use here they do not. */
START_TEST(changes)
{
	vk_open(&fw[1], 10, 11);
	vc_wait(vk_has(&fw[0], 10, 11));
	vc_settle();
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 4, false);
	vc_wait(vk_tcp(&fw[0], 10)->f.mark == 4);
	vc_settle();
	vk_mark(&fw[0], vk_tcp(&fw[0], 11), 6, false);
	vc_run_ms(50);
	vk_mark(&fw[1], vk_tcp(&fw[1], 11), 5, false);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 11)->f.mark, 6);
}
END_TEST

/* Closed at the other node before a failback, or while it goes on there: no leftover outlives that. */
START_TEST(closed_elsewhere)
{
	vk_open(&fw[0], 10, 12);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	vk_state(&fw[1], 10, FLOW_TCP_TIME_WAIT);
	vc_run_ms(20);
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.tcp_state, FLOW_TCP_TIME_WAIT);
	vk_state(&fw[1], 11, FLOW_TCP_TIME_WAIT);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 11)->f.tcp_state, FLOW_TCP_TIME_WAIT);
	/* although a packet passed here */
	vk_mark(&fw[0], vk_tcp(&fw[0], 12), 6, false);
	vk_state(&fw[1], 12, FLOW_TCP_TIME_WAIT);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 12)->f.tcp_state, FLOW_TCP_TIME_WAIT);
}
END_TEST

/* Opened on the relieved node before packets go the other way, and closed on that: a failback finds it over. */
START_TEST(opened_after_the_release)
{
	vn_release(&fw[0]);
	vk_open(&fw[0], 10, 10);
	vn_takeover(&fw[1]);
	vc_wait(vk_has(&fw[1], 10, 10));
	vk_state(&fw[1], 10, FLOW_TCP_TIME_WAIT);
	vc_settle();
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.tcp_state, FLOW_TCP_TIME_WAIT);
}
END_TEST

/* Closed here, while the other node has carried packets of it but not the last ones: it stays closed. */
START_TEST(closed_here)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 2, false);
	vc_settle();
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	vk_state(&fw[0], 10, FLOW_TCP_TIME_WAIT);
	vn_release(&fw[0]);
	vc_run_ms(20);
	vn_takeover(&fw[0]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.tcp_state, FLOW_TCP_TIME_WAIT);
}
END_TEST

/* Closed here and opened again elsewhere: the later connection counts, whatever this kernel holds of the former one. */
START_TEST(opened_again_elsewhere)
{
	vk_open(&fw[0], 10, 11);
	vc_settle();
	vk_state(&fw[0], 10, FLOW_TCP_TIME_WAIT);
	vk_state(&fw[0], 11, FLOW_TCP_TIME_WAIT);
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vk_open(&fw[1], 10, 10);
	vc_run_ms(20);
	vn_release(&fw[1]);
	vn_takeover(&fw[0]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.tcp_state, FLOW_TCP_ESTABLISHED);
	ck_assert_uint_eq(vk_tcp(&fw[0], 11)->f.tcp_state, FLOW_TCP_TIME_WAIT);
}
END_TEST

/* The first SYN passed here and the rest elsewhere, while the daemon did not run. */
START_TEST(half_open_here)
{
	struct flow	 f;

	vn_kill(&fw[0]);
	vk_open(&fw[1], 10, 10);
	mk_flow(&f, IPPROTO_TCP, 10);
	f.tcp_state = FLOW_TCP_SYN_SENT;
	f.status = FLOW_S_CONFIRMED;
	vk_put(&fw[0], &f)->f.packets = 1;
	vn_start(&fw[0]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.tcp_state, FLOW_TCP_ESTABLISHED);
	ck_assert(vk_tcp(&fw[0], 10)->f.status & FLOW_S_SEEN_REPLY);
}
END_TEST

/* An acknowledgement of the other end passes here just before a takeover: that is no news. */
START_TEST(half_open_and_acknowledged)
{
	struct vk_entry	*e;

	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	vk_open(&fw[0], 10, 10);
	e = vk_tcp(&fw[0], 10);
	e->f.tcp_state = FLOW_TCP_SYN_SENT;
	e->f.status = FLOW_S_CONFIRMED;
	vk_mark(&fw[0], e, 0, false);
	vc_wait(vk_has(&fw[1], 10, 10));
	vk_state(&fw[1], 10, FLOW_TCP_ESTABLISHED);
	vc_settle();
	vn_release(&fw[1]);
	e->f.status |= FLOW_S_SEEN_REPLY;
	vk_mark(&fw[0], e, 0, false);
	vn_takeover(&fw[0]);
	vc_settle();
	ck_assert_uint_eq(e->f.tcp_state, FLOW_TCP_ESTABLISHED);
}
END_TEST

/* A packet in the middle of the flow makes an entry with a translation of its own. */
static void
stray(struct vnode *v, uint16_t port, uint16_t translated)
{
	struct flow	 f;

	mk_flow(&f, IPPROTO_TCP, port);
	f.reply.l4dst = translated;
	vk_new(v, &f);
}

/* That is told, and gives way wherever it was taken to what whoever knows better tells. */
START_TEST(strays_are_told)
{
	struct flow	 f;

	vc_cut(&fw[0], &fw[2], true);
	vk_open(&fw[0], 10, 10);
	vc_run_ms(100);
	stray(&fw[1], 10, 777);
	vc_wait(vn_copies_tcp(&fw[2], &fw[1], 10, &f));
	ck_assert(f.stray);
	vn_takeover(&fw[2]);
	ck_assert_uint_eq(vk_tcp(&fw[2], 10)->f.reply.l4dst, 777);
	vk_packet(&fw[2], vk_tcp(&fw[2], 10));
	vc_run_ms(1500);			/* a dump has shown it */
	vc_cut(&fw[0], &fw[2], false);
	vc_wait(vk_tcp(&fw[2], 10) != NULL && vk_tcp(&fw[2], 10)->f.reply.l4dst == 10);
	vc_settle();
	ck_assert(vn_owns_tcp(&fw[2], 10, &f));
	ck_assert(!f.stray);
}
END_TEST

/* It comes between the takeover and the kernel. */
START_TEST(strays_in_between)
{
	struct flow	 f;

	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_die(&fw[0]);
	fw[1].stop_work = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, vc.now);
	vc_run_ms(10);
	ck_assert_uint_gt(fw[1].njobs, 0);
	stray(&fw[1], 10, 777);
	fw[1].stop_work = false;
	vc_wait(vk_tcp(&fw[1], 10) != NULL && vk_tcp(&fw[1], 10)->f.reply.l4dst == 10);
	vc_run_ms(500);
	ck_assert(vn_owns_tcp(&fw[1], 10, &f));
	ck_assert_uint_eq(f.reply.l4dst, 10);
	ck_assert(!f.stray);
}
END_TEST

/* In use here, and the peer tells that the tuple was born again. */
START_TEST(younger_lives_replace)
{
	struct flow	 f;

	vk_open(&fw[0], 10, 10);
	vc_settle();
	vc_run_s(3);
	vk_open(&fw[1], 10, 10);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 9, false);
	vc_wait(vk_has(&fw[0], 10, 10) && vk_tcp(&fw[0], 10)->f.mark == 9);
	ck_assert_uint_eq(fw[0].ops[KOP_DELETE], 1);
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.packets, 0);
	vc_settle();
	ck_assert(vn_owns_tcp(&fw[0], 10, &f));
	ck_assert(f.copy);
	ck_assert_uint_ge(f.born + 3000, VC_WALL_S * 1000ull + vc.now / 1000);
}
END_TEST

/* A related flow comes before its master: everything, in the right order. */
START_TEST(related_before_its_master)
{
	struct flow	 f;

	mk_flow(&f, IPPROTO_TCP, 20);
	mk_master(&f, IPPROTO_UDP, 10);
	vk_new(&fw[1], &f);
	vc_run_ms(10);
	mk_flow(&f, IPPROTO_UDP, 10);
	vk_new(&fw[1], &f);
	vc_settle();
	vc_run_ms(500);
	ck_assert(vk_has(&fw[0], 20, 20));
	ck_assert_ptr_nonnull(vk_find(&fw[0], &f));
}
END_TEST

/* An entry that an address took along when it went is written again. */
START_TEST(held_addresses)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	/* its address comes back to the first one while the second one is down */
	vn_kill(&fw[1]);
	fw[0].address_lost = true;
	vk_destroy(&fw[0], vk_tcp(&fw[0], 10), false);
	vc_run_ms(100);
	ck_assert(vn_owns_tcp(&fw[0], 10, NULL));
	fw[0].address_lost = false;
	vn_takeover(&fw[0]);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_run_s(15);
	ck_assert(vk_has(&fw[0], 10, 10));
	ck_assert(vn_owns_tcp(&fw[0], 10, NULL));
}
END_TEST

/* An active node loses its address, and its peer takes over within the ten seconds. */
START_TEST(held_for_the_peer)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	fw[0].address_lost = true;
	vc_run_ms(10);
	for (uint16_t p = 10; p < 20; p++)
		vk_destroy(&fw[0], vk_tcp(&fw[0], p), false);
	vc_run_ms(2000);
	vn_takeover(&fw[1]);
	ck_assert(vk_has(&fw[1], 10, 19));
	vn_release(&fw[0]);
	vc_run_s(20);
	ck_assert(vk_has(&fw[1], 10, 19));
	ck_assert(!vn_owns_tcp(&fw[0], 10, NULL));
}
END_TEST

/* More entries at once than are remembered: a pass over all, and following goes on. */
START_TEST(queue_overflow)
{
	struct local_key	 key;
	struct flow		 f;
	unsigned		 i, flows = 70000;

	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	vk_open(&fw[1], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_settle();
	fw[0].stop_work = true;
	vk_open(&fw[1], 11, 11);
	vc_wait(fw[0].njobs > 0);
	for (i = 0; i < flows; i++) {
		mk_flow(&f, IPPROTO_UDP, (uint16_t)i);
		f.orig.src.b[2] = f.reply.dst.b[2] = (uint8_t)(i >> 16);
		f.id = 1000000 + i;
		f.has |= FLOW_HAS_ID;
		local_prefetch(node_local(fw[1].node), &f, &key);
		local_event(node_local(fw[1].node), LOCAL_NEW, &f, &key, vc.now);
	}
	vc_wait(vn_sees(&fw[0], &fw[1]).flows == flows + 2);
	ck_assert(node_taking(fw[0].node));
	fw[0].stop_work = false;
	vc_wait(!node_taking(fw[0].node));
	ck_assert_uint_eq(feed_flows(node_feed(fw[0].node)), flows + 2);
	/* silence of one that had waited when the queue was given up */
	mk_flow(&f, IPPROTO_UDP, 77);
	vk_destroy(&fw[0], vk_find(&fw[0], &f), false);
	vc_wait(vk_find(&fw[0], &f)->there);
}
END_TEST

/* --- refused ---------------------------------------------------------------------------------- */

START_TEST(refused_and_retried)
{
	const struct node_taken	*k;
	uint64_t		 at[5], began;
	unsigned		 i, before;

	vk_open(&fw[0], 10, 14);
	vc_settle();
	fw[1].refuses[0] = 11;
	fw[1].refuses[1] = 12;
	vn_die(&fw[0]);
	vc_run_ms(1500);
	k = vn_command(&fw[1], NODE_TAKEOVER);
	ck_assert_uint_eq(k->failed, 2);
	ck_assert_uint_eq(k->created, 3);
	ck_assert_uint_eq(k->nfailures, 1);
	ck_assert_int_eq(k->failures[0].err, EEXIST);
	ck_assert_uint_eq(k->failures[0].count, 2);
	ck_assert_uint_eq(node_refused(fw[1].node), 2);
	ck_assert(vn_ready(&fw[1], "refused 2 flows"));
	began = vc.now;
	for (i = 0; i < 5; i++) {
		before = fw[1].ops[KOP_CREATE];
		while (fw[1].ops[KOP_CREATE] == before)
			vc_step();
		at[i] = vc.now;
		vc_run_ms(50);
		ck_assert_uint_eq(fw[1].ops[KOP_CREATE] - before, 2);
	}
	/* 1, 2, 4, 8, 16 s */
	for (i = 0; i < 5; i++) {
		ck_assert_uint_ge(at[i] - began, (1u << i) * 990000u);
		ck_assert_uint_le(at[i] - began, (1u << i) * 1000000u + 200000);
		began = at[i];
	}
	fw[1].refuses[0] = 0;
	vc_run_s(33);
	ck_assert(vk_has(&fw[1], 10, 14));
	ck_assert_uint_eq(node_refused(fw[1].node), 0);
	before = fw[1].ops[KOP_CREATE];
	vc_run_s(70);
	ck_assert_uint_eq(fw[1].ops[KOP_CREATE], before);
}
END_TEST

/* What is refused for the first time does not wait for what is refused all the time. */
START_TEST(new_refusals_are_retried_soon)
{
	fw[0].refuses[0] = fw[0].refuses[1] = 10;
	vk_open(&fw[1], 10, 10);
	vc_wait(node_refused(fw[0].node) == 1);
	vc_run_s(40);
	fw[0].refuses[1] = 11;
	vk_open(&fw[1], 11, 11);
	vc_wait(node_refused(fw[0].node) == 2);
	fw[0].refuses[1] = 10;
	vc_run_ms(1500);
	ck_assert(vk_has(&fw[0], 11, 11));
}
END_TEST

/* Never more than a minute apart, and no longer than the peer tells it. */
START_TEST(retries_end_with_the_flow)
{
	unsigned	 before;

	fw[0].refuses[0] = fw[0].refuses[1] = 10;
	vk_open(&fw[1], 10, 11);
	vc_wait(vk_has(&fw[0], 11, 11) && node_refused(fw[0].node) == 1);
	vk_tcp(&fw[1], 10)->expires_us = UINT64_MAX;
	vc_run_s(130);
	before = fw[0].ops[KOP_CREATE];
	vc_run_s(61);
	ck_assert_uint_gt(fw[0].ops[KOP_CREATE], before);
	vk_close(&fw[1], 10, 10);
	vc_run_s(61);
	ck_assert_uint_eq(node_refused(fw[0].node), 0);
	before = fw[0].ops[KOP_CREATE];
	vc_run_s(61);
	ck_assert_uint_eq(fw[0].ops[KOP_CREATE], before);
}
END_TEST

/* A release ends the trying as well. */
START_TEST(no_retries_on_a_standby)
{
	unsigned	 before;

	fw[0].refuses[0] = fw[0].refuses[1] = 10;
	vk_open(&fw[1], 10, 10);
	vc_wait(node_refused(fw[0].node) == 1);
	vn_release(&fw[0]);
	ck_assert_uint_eq(node_refused(fw[0].node), 0);
	before = fw[0].ops[KOP_CREATE];
	vc_run_s(20);
	ck_assert_uint_eq(fw[0].ops[KOP_CREATE], before);
	fw[0].refuses[0] = 0;
	vn_takeover(&fw[0]);
	ck_assert(vk_has(&fw[0], 10, 10));
}
END_TEST

/* It is about to lapse where no packets come any more: that says nothing of where they come. */
START_TEST(never_shortened)
{
	vk_open(&fw[0], 10, 10);
	vk_tcp(&fw[0], 10)->f.timeout_s = 432000;
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 1, false);
	vc_settle();
	vn_takeover(&fw[1]);
	vc_settle();
	vk_tcp(&fw[0], 10)->expires_us = vc.now + 5000000;
	node_resync(fw[0].node);
	vc_settle();
	vc_run_ms(500);
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert_uint_gt(vk_tcp(&fw[1], 10)->expires_us, vc.now + 60000000);
}
END_TEST

/* --- passes ------------------------------------------------------------------------------------ */

/*
 * What shows a full pass over a peer: the timeout of an unused copy, which the
 * kernel has let run down meanwhile, is renewed.
 */
static void
age(struct vnode *v, uint16_t port)
{
	vk_tcp(v, port)->expires_us = vc.now + 30000000;
}

static bool
renewed(const struct vnode *v, uint16_t port)
{
	return vk_tcp(v, port)->expires_us > vc.now + 500000000;
}

/* Both nodes are active, and the first one has a copy of a flow of the second one. */
static void
two_active(void)
{
	vn_takeover(&fw[1]);
	vk_open(&fw[1], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_settle();
	age(&fw[0], 10);
	vc_run_ms(1000);
	ck_assert(!renewed(&fw[0], 10));
}

START_TEST(peer_stops_being_active)
{
	two_active();
	vn_release(&fw[1]);
	vc_wait(renewed(&fw[0], 10));
}
END_TEST

START_TEST(peer_falls_silent)
{
	two_active();
	vn_die(&fw[1]);
	vc_run_ms(900);
	ck_assert(!renewed(&fw[0], 10));
	vc_wait(renewed(&fw[0], 10));
}
END_TEST

/* It says that it leaves: at once, not after a second. */
START_TEST(peer_leaves)
{
	two_active();
	node_leave(fw[1].node, vc.now);
	vc_run_ms(10);
	vn_die(&fw[1]);
	vc_run_ms(300);
	ck_assert(renewed(&fw[0], 10));
}
END_TEST

START_TEST(peer_comes_back_in_its_epoch)
{
	two_active();
	vc_cut(&fw[0], &fw[1], true);
	vc_wait(renewed(&fw[0], 10));
	vc_run_ms(500);
	age(&fw[0], 10);
	vc_run_ms(500);
	ck_assert(!renewed(&fw[0], 10));
	vc_cut(&fw[0], &fw[1], false);
	vc_wait(renewed(&fw[0], 10));
}
END_TEST

START_TEST(peer_in_a_new_generation)
{
	two_active();
	vn_kill(&fw[1]);
	vn_start(&fw[1]);
	vc_wait(renewed(&fw[0], 10));
	vc_settle();
	vc_settle();
	age(&fw[0], 10);
	vc_run_ms(500);
	ck_assert(!renewed(&fw[0], 10));
	node_resync(fw[0].node);
	vc_wait(renewed(&fw[0], 10));
}
END_TEST

/* It was active for a moment that nobody saw. */
START_TEST(term_has_risen)
{
	vk_open(&fw[1], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_settle();
	age(&fw[0], 10);
	vc_cut(&fw[1], &fw[0], true);
	vn_takeover(&fw[1]);
	vn_release(&fw[1]);
	vc_run_ms(200);
	ck_assert(!renewed(&fw[0], 10));
	vc_cut(&fw[1], &fw[0], false);
	vc_wait(renewed(&fw[0], 10));
	vc_settle();
	ck_assert_uint_gt(fw[0].term, fw[1].term);
}
END_TEST

/* A standby passes over nobody. */
START_TEST(standbys_pass_over_nobody)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(3000);
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

/* Until a pass is done the node says so, and is not ready. */
START_TEST(incomplete_is_said)
{
	vk_open(&fw[1], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_settle();
	fw[0].stop_tell = true;
	vn_takeover(&fw[1]);
	vn_release(&fw[1]);
	vc_run_ms(500);
	ck_assert(node_taking(fw[0].node));
	ck_assert(!vn_ready(&fw[0], "not complete"));
	fw[0].stop_tell = false;
	vc_wait(!node_taking(fw[0].node));
	ck_assert(vn_ready(&fw[0], "active"));
}
END_TEST

/* The node starts as an active one: it takes what the peers hold when it is here, or after a while. */
START_TEST(starts_active)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_kill(&fw[0]);
	vk_clear(&fw[0]);
	vk_open(&fw[1], 20, 20);
	vn_start(&fw[0]);
	ck_assert(!vn_ready(&fw[0], "waits for the peers"));
	vc_wait(vk_has(&fw[0], 20, 20) && !node_taking(fw[0].node));
	vn_kill(&fw[0]);
	vn_die(&fw[1]);
	vn_start(&fw[0]);
	vc_run_ms(VC_BOOT_WAIT_US / 1000 - 100);
	ck_assert(!vn_ready(&fw[0], "waits for the peers"));
	vc_run_ms(300);
	ck_assert(vn_ready(&fw[0], "active"));
}
END_TEST

/* Before it has read its kernel it does not know what is in use there. */
START_TEST(reads_its_kernel_first)
{
	vk_open(&fw[1], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10));
	vk_mark(&fw[0], vk_tcp(&fw[0], 10), 9, false);
	vc_settle();
	vn_kill(&fw[0]);
	fw[0].stop_work = true;
	vn_start(&fw[0]);
	fw[0].stop_work = true;
	vc_run_ms(2000);
	ck_assert(vn_copies_tcp(&fw[0], &fw[1], 10, NULL));
	fw[0].stop_work = false;
	vc_wait(!node_taking(fw[0].node));
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.mark, 9);
	ck_assert_uint_eq(vk_tcp(&fw[0], 10)->f.packets, 1);
}
END_TEST

/* A peer is there, but nobody can be equal to it: that is not waited for without end. */
START_TEST(starts_beside_a_blind_peer)
{
	vk_open(&fw[1], 10, 10);
	vc_settle();
	node_set_blind(fw[1].node, true, vc.now);
	vn_kill(&fw[0]);
	vk_clear(&fw[0]);
	vn_start(&fw[0]);
	vc_run_s(5);
	ck_assert(node_taking(fw[0].node));
	vc_run_s(30);
	ck_assert(!node_taking(fw[0].node));
	ck_assert(vk_has(&fw[0], 10, 10));
	ck_assert(vn_ready(&fw[0], "active"));
}
END_TEST

static bool
lose_frames_of_the_third(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)to;
	(void)link;
	(void)len;
	return from == 2 && memcmp(p + 28, "\0\0\0\0", 4) != 0;
}

/* One peer's flows are here, and another one's are still to come: that is no takeover yet. */
START_TEST(starts_beside_two)
{
	vc_fini();
	vc_start(3);
	vk_open(&fw[0], 5, 5);
	vk_open(&fw[1], 10, 10);
	vk_open(&fw[2], 11, 11);
	vc_settle();
	vn_kill(&fw[0]);
	vk_tcp(&fw[0], 10)->there = vk_tcp(&fw[0], 11)->there = false;
	vc.lose = lose_frames_of_the_third;
	vn_start(&fw[0]);
	vc_wait(vk_has(&fw[0], 10, 10));
	vc_run_s(2);
	ck_assert(!vn_ready(&fw[0], "waits for the peers"));
	ck_assert_uint_eq(fw[0].term, 1);
	vc.lose = NULL;
	vc_wait(!node_taking(fw[0].node));
	ck_assert(vk_has(&fw[0], 10, 11));
	ck_assert_uint_eq(fw[0].term, 2);
	vc_wait(vk_liberal(&fw[0], 5));
}
END_TEST

/* --- silence ---------------------------------------------------------------------------------------- */

/* Of a peer that was lost lately it is taken again, of one that is gone for long it is not. */
START_TEST(silence_and_lost_peers)
{
	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(1500);
	vn_takeover(&fw[1]);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vc_wait(vk_tcp(&fw[1], 10) != NULL);
	vk_tcp(&fw[1], 10)->expires_us = UINT64_MAX;
	vc_run_s(950);
	vk_destroy(&fw[1], vk_tcp(&fw[1], 10), false);
	vc_run_s(5);
	ck_assert(!vk_has(&fw[1], 10, 10));
}
END_TEST

/* From a copy half of what it had is left, and a copy is not renewed from a copy. */
START_TEST(half_from_a_copy)
{
	unsigned	 writes[2];

	vk_open(&fw[0], 10, 10);
	vc_settle();
	vn_die(&fw[0]);
	vc_run_ms(1500);
	vn_takeover(&fw[1]);
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->written_s, MK_TIMEOUT_S);
	vc_settle();
	vn_takeover(&fw[2]);			/* the higher term counts, with a copy */
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[2], 10)->written_s, MK_TIMEOUT_S / 2);
	ck_assert_int_eq(node_forget(fw[1].node, vn_peer(&fw[1], &fw[0]), vc.now), 0);
	writes[0] = vk_tcp(&fw[1], 10)->written;
	writes[1] = vk_tcp(&fw[2], 10)->written;
	vn_takeover(&fw[1]);
	vn_takeover(&fw[2]);
	vc_settle();
	ck_assert_uint_eq(vk_tcp(&fw[1], 10)->written, writes[0]);
	ck_assert_uint_eq(vk_tcp(&fw[2], 10)->written, writes[1]);
}
END_TEST

/* A handshake that goes on here while no daemon looks: the peer has only its first packet. */
START_TEST(handshakes_go_on)
{
	struct flow	 f;

	mk_flow(&f, IPPROTO_TCP, 10);
	f.tcp_state = FLOW_TCP_SYN_SENT;
	f.status &= (uint32_t)~(FLOW_S_SEEN_REPLY | FLOW_S_ASSURED);
	(void)vk_new(&fw[0], &f);
	vc_settle();
	vn_kill(&fw[1]);
	f.tcp_state = FLOW_TCP_ESTABLISHED;
	f.status |= FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	vk_put(&fw[1], &f)->f.packets = 3;
	vn_start(&fw[1]);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert_int_eq(vk_tcp(&fw[1], 10)->f.tcp_state, FLOW_TCP_ESTABLISHED);
}
END_TEST

/* Two active nodes hold copies of a flow that nobody uses: they do not live for ever. */
START_TEST(no_ping_pong)
{
	vn_takeover(&fw[1]);
	vk_open(&fw[2], 10, 10);
	vc_wait(vk_has(&fw[0], 10, 10) && vk_has(&fw[1], 10, 10));
	vc_settle();
	vn_die(&fw[2]);
	vc_run_ms(1500);
	vc_settle();
	ck_assert_int_eq(node_forget(fw[0].node, vn_peer(&fw[0], &fw[2]), vc.now), 0);
	ck_assert_int_eq(node_forget(fw[1].node, vn_peer(&fw[1], &fw[2]), vc.now), 0);
	vc_run_s(3 * MK_TIMEOUT_S);
	ck_assert(!vk_has(&fw[0], 10, 10));
	ck_assert(!vk_has(&fw[1], 10, 10));
	ck_assert(node_two_active(fw[0].node));
}
END_TEST

/* --- as elections and scripts do it ------------------------------------------------------------------- */

/* The first node stays MASTER through a partition, and so no script tells it anything. */
START_TEST(master_through_a_partition)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vc_cut(&fw[0], &fw[1], true);
	vc_run_ms(1500);
	vn_takeover(&fw[1]);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 7, false);
	vk_close(&fw[1], 11, 11);
	vk_open(&fw[1], 20, 29);
	vc_run_s(5);
	vc_cut(&fw[0], &fw[1], false);
	vc_run_ms(_i == 0 ? 50 : 2000);		/* the other script is quick, or it is not */
	vn_release(&fw[1]);
	vc_settle();
	ck_assert(vk_has(&fw[0], 12, 29));
	ck_assert(vk_has(&fw[0], 10, 10));
	for (uint16_t p = 12; p < 30; p++)
		ck_assert(vk_liberal(&fw[0], p));
	vc_run_s(10 * VC_PURGE_S);
	ck_assert(vk_has(&fw[0], 12, 29));
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
}
END_TEST

/* A split that heals: both were active, and the one that stays is told nothing. */
START_TEST(split_that_heals)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_takeover(&fw[1]);
	vk_open(&fw[1], 20, 29);
	vk_open(&fw[0], 30, 39);
	vc_run_ms(_i == 0 ? 10 : 3000);
	vn_release(&fw[_i]);
	vc_settle();
	ck_assert(vk_has(&fw[1 - _i], 10, 39));
	vc_run_s(10 * VC_PURGE_S);
	ck_assert(vk_has(&fw[1 - _i], 10, 39));
}
END_TEST

/* The request falls into a restart of the daemon, which finds it in the runtime directory. */
START_TEST(asked_while_it_was_down)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_kill(&fw[1]);
	fw[1].role = NODE_ACTIVE;
	fw[1].asked = fw[1].taking = true;
	vn_release(&fw[0]);
	vc_run_ms(500);
	vn_start(&fw[1]);
	vc_wait(vk_has(&fw[1], 10, 19) && !node_taking(fw[1].node));
	ck_assert_uint_gt(fw[1].term, fw[0].term);
	for (uint16_t p = 10; p < 20; p++)
		ck_assert(vk_liberal(&fw[1], p));
}
END_TEST

/* Back and forth, with flows that come, go and move in each turn. */
START_TEST(there_and_back)
{
	unsigned	 turn, a, b;
	uint16_t	 p;

	for (turn = 0; turn < 12; turn++) {
		a = turn % 2;
		b = 1 - a;
		p = (uint16_t)(100 + 10 * turn);
		vk_open(&fw[a], p, (uint16_t)(p + 9));
		if (turn > 0) {
			vk_mark(&fw[a], vk_tcp(&fw[a], (uint16_t)(p - 1)), turn, false);
			vk_close(&fw[a], (uint16_t)(p - 10), (uint16_t)(p - 9));
		}
		vc_run_s(4 * VC_PURGE_S);	/* or the next one takes what is left there */
		vc_settle();
		vn_release(&fw[a]);
		vn_takeover(&fw[b]);
		ck_assert(vk_has(&fw[b], p, (uint16_t)(p + 9)));
		if (turn == 0)
			continue;
		ck_assert(vk_has(&fw[b], (uint16_t)(p - 8), (uint16_t)(p - 1)));
		ck_assert_uint_eq(vk_tcp(&fw[b], (uint16_t)(p - 1))->f.mark, turn);
	}
	/* nothing dead is left on the standby */
	vc_run_s(10 * VC_PURGE_S);
	for (turn = 0; turn < 11; turn++)
		ck_assert_ptr_null(vk_tcp(&fw[1], (uint16_t)(100 + 10 * turn)));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("following");
	TCase	*one = tcase_create("entries"), *refused = tcase_create("refused");
	TCase	*pass = tcase_create("passes"), *silence = tcase_create("silence");
	TCase	*scripts = tcase_create("scripts");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(one, told_by_a_standby);
	tcase_add_test(one, told_by_another_active_node);
	tcase_add_test(one, changes);
	tcase_add_test(one, closed_elsewhere);
	tcase_add_test(one, opened_after_the_release);
	tcase_add_test(one, closed_here);
	tcase_add_test(one, opened_again_elsewhere);
	tcase_add_test(one, strays_in_between);
	tcase_add_test(one, half_open_here);
	tcase_add_test(one, half_open_and_acknowledged);
	tcase_add_test(one, younger_lives_replace);
	tcase_add_test(one, related_before_its_master);
	tcase_add_test(one, held_addresses);
	tcase_add_test(one, held_for_the_peer);
	tcase_add_test(one, queue_overflow);
	tcase_add_test(refused, refused_and_retried);
	tcase_add_test(refused, never_shortened);
	tcase_add_test(refused, new_refusals_are_retried_soon);
	tcase_add_test(refused, retries_end_with_the_flow);
	tcase_add_test(refused, no_retries_on_a_standby);
	tcase_add_test(pass, peer_stops_being_active);
	tcase_add_test(pass, peer_falls_silent);
	tcase_add_test(pass, peer_leaves);
	tcase_add_test(pass, peer_comes_back_in_its_epoch);
	tcase_add_test(pass, peer_in_a_new_generation);
	tcase_add_test(pass, term_has_risen);
	tcase_add_test(pass, standbys_pass_over_nobody);
	tcase_add_test(pass, incomplete_is_said);
	tcase_add_test(pass, starts_active);
	tcase_add_test(pass, reads_its_kernel_first);
	tcase_add_test(pass, starts_beside_a_blind_peer);
	tcase_add_test(pass, starts_beside_two);
	tcase_add_test(silence, strays_are_told);
	tcase_add_loop_test(scripts, master_through_a_partition, 0, 2);
	tcase_add_loop_test(scripts, split_that_heals, 0, 2);
	tcase_add_test(scripts, asked_while_it_was_down);
	tcase_add_test(scripts, there_and_back);
	tcase_add_checked_fixture(scripts, setup, vc_fini);
	tcase_add_test(silence, silence_and_lost_peers);
	tcase_add_test(silence, half_from_a_copy);
	tcase_add_test(silence, handshakes_go_on);
	tcase_add_test(silence, no_ping_pong);
	tcase_add_checked_fixture(one, setup, vc_fini);
	tcase_add_checked_fixture(refused, setup, vc_fini);
	tcase_add_checked_fixture(pass, setup, vc_fini);
	tcase_add_checked_fixture(silence, setup3, vc_fini);
	tcase_set_timeout(one, 60);
	tcase_set_timeout(silence, 60);
	suite_add_tcase(s, one);
	suite_add_tcase(s, refused);
	suite_add_tcase(s, pass);
	suite_add_tcase(s, silence);
	suite_add_tcase(s, scripts);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
