/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Claims (doc/wire.md, section 8.4): what the active node says of its peers'
 * entries, what a peer makes of it, and when it is void.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ownership_priv.h"
#include "vcluster.h"

static void
setup(void)
{
	vc_start(2);
}

/* What v has been told of its entries by another node; NULL: nothing that counts. */
static const struct wire_claim *
heard(const struct vnode *v, const struct vnode *of)
{
	const struct claim_heard	*h = &v->node->ownership->peers[vn_peer(v, of)].heard;

	return h->held ? &h->proven : NULL;
}

static bool
may_be_removed(const struct vnode *v, uint16_t port)
{
	uint8_t		 key[FLOW_KEY_MAX];
	struct flow	 f;
	size_t		 klen;
	uint32_t	 h;

	mk_flow(&f, IPPROTO_TCP, port);
	klen = flow_pack_key(&f, key);
	h = local_find(v->node->local, key, klen);
	ck_assert_msg(h != FTAB_NIL, "port %u is not there", port);
	return ownership_expendable(v->node, h, key, klen);
}

/* The position up to which v has told everything. */
static bool
reaches(const struct wire_claim *c, const struct vnode *v)
{
	struct wire_pos	 p = feed_emitted(node_feed(v->node));

	return c != NULL && c->pos.v[0] >= p.v[0] && c->pos.v[1] >= p.v[1];
}

/* The first node has ports 10 to 19 and is standby, the second one has taken over. */
static void
switched(void)
{
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	vn_takeover(&fw[1]);
	vc_settle();
}

START_TEST(position_and_term)
{
	const struct wire_claim	*c;

	ck_assert_ptr_nonnull(heard(&fw[1], &fw[0]));
	ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	switched();
	ck_assert_ptr_null(heard(&fw[1], &fw[0]));
	c = heard(&fw[0], &fw[1]);
	ck_assert(reaches(c, &fw[0]));
	ck_assert_uint_eq(c->term, fw[1].term);
	ck_assert_uint_eq(c->nfilter, 0);
	ck_assert_int_eq(ownership_authority(fw[0].node), 0);
	ck_assert_int_eq(ownership_authority(fw[1].node), -1);
	/* it moves on with what is followed */
	vk_open(&fw[0], 20, 20);
	vc_settle();
	ck_assert(reaches(heard(&fw[0], &fw[1]), &fw[0]));
	ck_assert(!may_be_removed(&fw[0], 20));
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert_uint_eq(heard(&fw[0], &fw[1])->term, fw[1].term);
}
END_TEST

/* Not beyond what is dealt with. */
START_TEST(waits_for_the_kernel)
{
	struct wire_pos	 before;

	switched();
	before = heard(&fw[0], &fw[1])->pos;
	fw[1].stop_tell = true;
	vk_open(&fw[0], 20, 20);
	vc_run_ms(3000);
	ck_assert(vn_copies_tcp(&fw[1], &fw[0], 20, NULL));
	ck_assert_uint_eq(heard(&fw[0], &fw[1])->pos.v[0], before.v[0]);
	ck_assert(!may_be_removed(&fw[0], 20));
	fw[1].stop_tell = false;
	vc_settle();
	ck_assert(reaches(heard(&fw[0], &fw[1]), &fw[0]));
}
END_TEST

static bool
lose_frames(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len)
{
	(void)link;
	(void)len;
	return from == 1 && to == 0 && memcmp(p + 28, "\0\0\0\0", 4) != 0;
}

/* The table has to be proven as of a time after the claim came: before that it may lack the flow. */
START_TEST(waits_for_a_proof)
{
	unsigned	 i;

	switched();
	vc.lose = lose_frames;
	vk_open(&fw[0], 20, 20);
	for (i = 0; i < 600; i++) {
		vc_step();
		ck_assert(!vn_owns_tcp(&fw[0], 20, NULL) || !may_be_removed(&fw[0], 20));
	}
	ck_assert(vk_has(&fw[1], 20, 20));
	ck_assert(!vn_copies_tcp(&fw[0], &fw[1], 20, NULL));
	vc.lose = NULL;
	vc_settle();
	ck_assert(reaches(heard(&fw[0], &fw[1]), &fw[0]));
	ck_assert(!may_be_removed(&fw[0], 20));
}
END_TEST

START_TEST(names_what_was_refused)
{
	const struct wire_claim	*c;

	fw[1].refuses[0] = 12;
	fw[1].refuses[1] = 13;
	vk_open(&fw[0], 10, 19);
	vc_settle();
	vn_release(&fw[0]);
	(void)vn_command(&fw[1], NODE_TAKEOVER);
	vc_settle();
	c = heard(&fw[0], &fw[1]);
	ck_assert(reaches(c, &fw[0]));
	ck_assert_uint_ne(c->nfilter, 0);
	ck_assert(!may_be_removed(&fw[0], 12));
	ck_assert(!may_be_removed(&fw[0], 13));
	/* others are not exempt */
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 1, false);
	vc_run_ms(20);
	vk_close(&fw[1], 10, 10);
	vc_settle();
	ck_assert(may_be_removed(&fw[0], 10));
	/* the kernel takes one of them: the next claim names the other one */
	fw[1].refuses[0] = 13;
	vc_run_s(70);
	vc_settle();
	ck_assert_uint_ne(heard(&fw[0], &fw[1])->nfilter, 0);
	ck_assert(vk_has(&fw[1], 12, 12));
	ck_assert(!may_be_removed(&fw[0], 13));
}
END_TEST

/* Many can be named, and none of the others is exempt for long. */
START_TEST(crowded)
{
	unsigned	 s;

	fw[1].refuses[0] = 100;
	fw[1].refuses[1] = 239;
	vk_open(&fw[0], 10, 19);
	vk_open(&fw[0], 100, 239);
	vc_settle();
	vn_release(&fw[0]);
	(void)vn_command(&fw[1], NODE_TAKEOVER);
	vk_mark(&fw[1], vk_tcp(&fw[1], 10), 1, false);
	vc_run_ms(20);
	vk_close(&fw[1], 10, 10);
	vc_settle();
	for (s = 0; s < 60 && !may_be_removed(&fw[0], 10); s++)
		vc_run_s(1);
	ck_assert_uint_lt(s, 60);
	ck_assert(!may_be_removed(&fw[0], 100) && !may_be_removed(&fw[0], 239));
}
END_TEST

/* Refused while it follows. */
START_TEST(crowded_later)
{
	uint16_t	 p;

	switched();
	fw[1].refuses[0] = 100;
	fw[1].refuses[1] = 200;
	for (p = 0; p <= 50; p++)
		vk_open(&fw[0], (uint16_t)(100 + p), (uint16_t)(100 + p));
	vc_run_ms(1000);
	vc_settle();
	for (p = 0; p <= 50; p++)
		ck_assert(!may_be_removed(&fw[0], (uint16_t)(100 + p)));
}
END_TEST

START_TEST(void_by_release)
{
	switched();
	vn_release(&fw[1]);
	vc_run_ms(300);
	ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	ck_assert_int_eq(ownership_authority(fw[0].node), -1);
	/* the next one is of another term */
	vn_takeover(&fw[1]);
	ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	vc_settle();
	ck_assert_uint_eq(heard(&fw[0], &fw[1])->term, fw[1].term);
}
END_TEST

/* The takeover after the release is not whole, for it leaves something out: no claim of before counts. */
START_TEST(void_by_another_takeover)
{
	switched();
	vn_release(&fw[1]);
	fw[1].keeps_out = 12;
	vn_takeover(&fw[1]);
	vc_run_ms(300);
	ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	/* the next pass, by itself, knows what it leaves out */
	vc_run_s(3);
	ck_assert_ptr_nonnull(heard(&fw[0], &fw[1]));
	ck_assert_uint_gt(heard(&fw[0], &fw[1])->nfilter, 0);
	fw[1].keeps_out = 0;
	vn_takeover(&fw[1]);
	vc_settle();
	ck_assert_uint_eq(heard(&fw[0], &fw[1])->nfilter, 0);
}
END_TEST

/* Of a new epoch of the one that claims; and of the one whose entries they are. */
START_TEST(void_by_epoch)
{
	unsigned	 i = (unsigned)_i;

	switched();
	vn_kill(&fw[1 - i]);
	fw[1].stop_work = true;			/* if it is the first one: nothing can be dealt with */
	vc_run_ms(200);
	vn_start(&fw[1 - i]);
	vk_open(&fw[0], 20, 20);
	vc_run_ms(4000);
	if (i == 0) {				/* it was the second one, and has not read its kernel */
		ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	} else {
		ck_assert(vn_copies_tcp(&fw[1], &fw[0], 20, NULL));
		ck_assert_ptr_null(heard(&fw[0], &fw[1]));
	}
	fw[1].stop_work = false;
	vc_run_ms(1000);
	vc_settle();
	ck_assert(reaches(heard(&fw[0], &fw[1]), &fw[0]));
}
END_TEST

/* Two are active: both claim, and neither is believed. */
START_TEST(not_of_two)
{
	vc_fini();
	vc_start(3);
	switched();
	ck_assert_int_eq(ownership_authority(fw[0].node), 0);
	vn_takeover(&fw[2]);
	vc_settle();
	ck_assert_ptr_nonnull(heard(&fw[0], &fw[1]));
	ck_assert_ptr_nonnull(heard(&fw[0], &fw[2]));
	ck_assert_int_eq(ownership_authority(fw[0].node), -1);
	vn_release(&fw[1]);
	vc_settle();
	ck_assert_int_eq(ownership_authority(fw[0].node), 1);
	/* a lost one's claim is gone */
	vn_die(&fw[2]);
	vc_run_ms(1300);
	ck_assert_ptr_null(heard(&fw[0], &fw[2]));
	ck_assert_int_eq(ownership_authority(fw[0].node), -1);
}
END_TEST

/* Its copy of us is not comparable: no claim before it is again. */
START_TEST(not_while_incomparable)
{
	switched();
	ck_assert_int_eq(node_flush_remote(fw[1].node), 0);
	fw[1].stop_work = true;
	vk_open(&fw[0], 20, 20);
	vc_run_ms(2000);
	ck_assert(!may_be_removed(&fw[0], 20));
	fw[1].stop_work = false;
	vc_run_ms(500);
	vc_settle();
	ck_assert(reaches(heard(&fw[0], &fw[1]), &fw[0]));
	ck_assert(vk_has(&fw[1], 10, 20));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("claims");
	TCase	*tc = tcase_create("claims");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, vc_fini);
	tcase_add_test(tc, position_and_term);
	tcase_add_test(tc, waits_for_the_kernel);
	tcase_add_test(tc, waits_for_a_proof);
	tcase_add_test(tc, names_what_was_refused);
	tcase_add_test(tc, crowded);
	tcase_add_test(tc, crowded_later);
	tcase_add_test(tc, void_by_release);
	tcase_add_test(tc, void_by_another_takeover);
	tcase_add_loop_test(tc, void_by_epoch, 0, 2);
	tcase_add_test(tc, not_of_two);
	tcase_add_test(tc, not_while_incomparable);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
