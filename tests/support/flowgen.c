/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Generated flows for tests.
 */
#include <sys/socket.h>

#include <check.h>
#include <netinet/in.h>
#include <string.h>

#include "flowgen.h"
#include "rnd.h"

/* Attributes of later versions have higher types than those of this one. */
#define LATER	(FLOW_A_FOUND + 1)

const uint8_t	 fg_protos[FG_PROTOS] = {
	IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_GRE, IPPROTO_SCTP, IPPROTO_DCCP,
	IPPROTO_UDPLITE, IPPROTO_ESP, IPPROTO_AH, 0, 255
};

size_t
fg_addr_len(const struct flow *f)
{
	return f->family == AF_INET6 ? 16 : 4;
}

void
fg_addr(struct flow_addr *a, size_t alen)
{
	size_t	 i;

	memset(a, 0, sizeof(*a));
	for (i = 0; i < alen; i++)
		a->b[i] = (uint8_t)rnd_u64();
}

uint32_t
fg_value(void)
{
	return (uint32_t)rnd_u64() >> (8 * rnd_below(4));
}

/* --- flows ---------------------------------------------------------------- */

static void
random_tuple(struct flow_tuple *t, size_t alen)
{
	fg_addr(&t->src, alen);
	fg_addr(&t->dst, alen);
	t->l4src = (uint16_t)rnd_u64();
	t->l4dst = (uint16_t)rnd_u64();
}

static void
random_key(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir)
{
	memset(f, 0, sizeof(*f));
	f->family = family;
	f->proto = proto;
	f->zone_dir = (uint8_t)zone_dir;
	f->zone = zone_dir == FLOW_ZONE_NONE ? 0 : (uint16_t)(1 + rnd_below(65535));
	f->incarnation = (uint8_t)rnd_u64();
	random_tuple(&f->orig, fg_addr_len(f));
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->has = FLOW_HAS_REPLY;
}

static void
random_tcp(struct flow *f)
{
	int	 d;

	f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
	f->tcp_state = (uint8_t)rnd_below(FLOW_TCP_STATES);
	for (d = 0; d < 2; d++) {
		f->tcp_flags[d] = (uint8_t)(rnd_u64() & FLOW_TF_REPLICATED);
		f->tcp_wscale[d] = (uint8_t)rnd_below(FLOW_WSCALE_MAX + 1);
	}
}

static void
random_nat(struct flow *f, unsigned nat)
{
	if (nat & 1)
		fg_addr(&f->reply.src, fg_addr_len(f));
	if (nat & 2)
		fg_addr(&f->reply.dst, fg_addr_len(f));
	if (nat & 4)
		f->reply.l4src = (uint16_t)rnd_u64();
	if (nat & 8)
		f->reply.l4dst = (uint16_t)rnd_u64();
}

void
fg_flow(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir, unsigned nat)
{
	random_key(f, family, proto, zone_dir);
	f->has |= FLOW_HAS_STATUS | FLOW_HAS_MARK;
	random_nat(f, nat);
	f->status = fg_value() & FLOW_S_REPLICATED;
	if (proto == IPPROTO_GRE)
		f->status &= ~FLOW_S_FIXED_TIMEOUT;	/* a matter of one kernel */
	if (rnd_below(2) == 0)
		f->mark = fg_value();
	if (proto == IPPROTO_TCP)
		random_tcp(f);
}

void
fg_born(struct flow *f)
{
	do
		f->born = fg_value();
	while (f->born == 0);
	f->found = fg_value() % 3 == 0;
	f->copy = fg_value() % 3 == 0;
	f->stray = fg_value() % 5 == 0;
}

/* --- what few flows have ---------------------------------------------------- */

static void
random_name(char *name, size_t len)
{
	size_t	 i;

	for (i = 0; i < len; i++)
		name[i] = (char)('!' + rnd_below('~' - '!' + 1));
	name[len] = '\0';
}

static void
random_helper(struct flow *f, size_t len)
{
	random_name(f->helper, len);
	f->has |= FLOW_HAS_HELPER;
}

static void
random_master(struct flow *f)
{
	f->master_proto = (uint8_t)(1 + rnd_below(255));
	random_tuple(&f->master, fg_addr_len(f));
	f->has |= FLOW_HAS_MASTER;
}

/* The last of n bytes is the last one that is not zero. */
static void
random_labels(struct flow *f, size_t n)
{
	size_t	 i;

	for (i = 0; i < n; i++)
		f->rare.labels[i] = (uint8_t)rnd_u64();
	f->rare.labels[n - 1] |= 1;
	f->has |= FLOW_HAS_LABELS;
}

/* mask: of directions, not 0. */
static void
random_seqadj(struct flow *f, unsigned mask)
{
	unsigned	 d;

	for (d = 0; d < 2; d++) {
		if (!(mask & 1u << d))
			continue;
		f->rare.seqadj[d].pos = fg_value();
		f->rare.seqadj[d].before = 0u - rnd_below(100);
		f->rare.seqadj[d].after = 1 + fg_value() / 2;
	}
	f->has |= FLOW_HAS_SEQADJ;
}

static void
random_synproxy(struct flow *f)
{
	f->rare.isn = fg_value();
	f->rare.its = 1 + fg_value() / 2;
	f->rare.tsoff = fg_value();
	f->has |= FLOW_HAS_SYNPROXY;
}

static void
random_protoinfo(struct flow *f)
{
	if (f->proto == IPPROTO_SCTP) {
		f->rare.sctp_state = (uint8_t)rnd_below(FLOW_SCTP_STATES);
		f->rare.sctp_vtag[0] = fg_value();
		f->rare.sctp_vtag[1] = fg_value();
		f->has |= FLOW_HAS_SCTP;
	} else if (f->proto == IPPROTO_DCCP) {
		f->rare.dccp_state = (uint8_t)rnd_below(FLOW_DCCP_STATES);
		f->rare.dccp_role = (uint8_t)rnd_below(FLOW_DCCP_ROLES);
		f->rare.dccp_seq = rnd_u64() >> rnd_below(64);
		f->has |= FLOW_HAS_DCCP;
	}
}

void
fg_rare(struct flow *f)
{
	if (rnd_below(3) == 0)
		random_labels(f, 1 + rnd_below(FLOW_LABEL_BYTES));
	if (rnd_below(4) != 0)
		random_protoinfo(f);
	if (rnd_below(3) == 0)
		random_helper(f, 1 + rnd_below(FLOW_HELPER_MAX));
	if (rnd_below(3) == 0)
		random_master(f);
	if (rnd_below(3) == 0)
		random_seqadj(f, 1 + rnd_below(3));
	if (rnd_below(3) == 0)
		random_synproxy(f);
}

void
fg_rare_all(struct flow *f)
{
	random_labels(f, FLOW_LABEL_BYTES);
	random_protoinfo(f);
	random_helper(f, FLOW_HELPER_MAX);
	random_master(f);
	random_seqadj(f, 3);
	random_synproxy(f);
}

/* --- expectations ----------------------------------------------------------- */

static void
random_expect_nat(struct flow *f)
{
	f->exp.nat = true;
	f->exp.nat_dir = (uint8_t)rnd_below(2);
	fg_addr(&f->exp.nat_addr, fg_addr_len(f));
	f->exp.nat_l4 = (uint16_t)rnd_u64();
}

static void
random_expect(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir)
{
	random_key(f, family, proto, zone_dir);
	f->expect = true;
	random_master(f);
	f->exp.flags = (uint8_t)rnd_below(FLOW_E_FLAGS + 1);
	f->exp.policy = (uint8_t)rnd_u64();
	fg_addr(&f->exp.mask_src, fg_addr_len(f));
	f->exp.mask_l4src = (uint16_t)rnd_u64();
	f->has |= FLOW_HAS_EXPECT;
}

void
fg_expect(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir)
{
	random_expect(f, family, proto, zone_dir);
	if (rnd_below(4) != 0)
		random_helper(f, 1 + rnd_below(FLOW_HELPER_MAX));
	if (rnd_below(2) == 0)
		random_expect_nat(f);
	if (rnd_below(2) == 0)
		random_name(f->exp.fn, 1 + rnd_below(FLOW_EXPECTFN_MAX));
}

void
fg_expect_all(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir)
{
	random_expect(f, family, proto, zone_dir);
	random_helper(f, FLOW_HELPER_MAX);
	random_expect_nat(f);
	random_name(f->exp.fn, FLOW_EXPECTFN_MAX);
}

/* --- anything --------------------------------------------------------------- */

void
fg_extra(struct flow *f, uint8_t *room, size_t cap)
{
	struct wbuf	 w;
	unsigned	 type = LATER;
	size_t		 len;

	wbuf_init(&w, room, cap);
	for (; rnd_below(3) > 0 && type < 128; type += 1 + rnd_below(20)) {
		len = rnd_below(8) == 0 ? 100 : rnd_below(6);
		if (wbuf_room(&w) < len + 2)
			break;
		wbuf_u8(&w, (uint8_t)type);
		wbuf_u8(&w, (uint8_t)len);
		while (len-- > 0)
			wbuf_u8(&w, (uint8_t)rnd_u64());
	}
	f->extra = w.len > 0 ? room : NULL;
	f->extra_len = (uint16_t)w.len;
}

void
fg_any(struct flow *f, uint8_t *extra, size_t cap)
{
	uint8_t	 family = rnd_below(2) ? AF_INET6 : AF_INET;
	uint8_t	 proto = fg_protos[rnd_below(FG_PROTOS)];

	if (rnd_below(4) == 0) {
		fg_expect(f, family, proto, rnd_below(4));
	} else {
		fg_flow(f, family, proto, rnd_below(4), rnd_below(3) == 0 ? 0 : rnd_below(16));
		if (rnd_below(2) == 0)
			fg_rare(f);
		if (rnd_below(2) == 0)
			fg_born(f);
	}
	fg_extra(f, extra, cap);
}

/* --- comparing ---------------------------------------------------------------- */

static void
same_tuple(const struct flow_tuple *a, const struct flow_tuple *b)
{
	ck_assert_mem_eq(a->src.b, b->src.b, 16);
	ck_assert_mem_eq(a->dst.b, b->dst.b, 16);
	ck_assert_uint_eq(a->l4src, b->l4src);
	ck_assert_uint_eq(a->l4dst, b->l4dst);
}

static void
same_rare(const struct flow_rare *a, const struct flow_rare *b)
{
	ck_assert_mem_eq(a->labels, b->labels, FLOW_LABEL_BYTES);
	ck_assert_mem_eq(a->seqadj, b->seqadj, sizeof(a->seqadj));
	ck_assert_uint_eq(a->isn, b->isn);
	ck_assert_uint_eq(a->its, b->its);
	ck_assert_uint_eq(a->tsoff, b->tsoff);
	ck_assert_uint_eq(a->sctp_state, b->sctp_state);
	ck_assert_mem_eq(a->sctp_vtag, b->sctp_vtag, sizeof(a->sctp_vtag));
	ck_assert_uint_eq(a->dccp_state, b->dccp_state);
	ck_assert_uint_eq(a->dccp_role, b->dccp_role);
	ck_assert_uint_eq(a->dccp_seq, b->dccp_seq);
}

static void
same_expect(const struct flow_expect *a, const struct flow_expect *b)
{
	ck_assert_mem_eq(a->mask_src.b, b->mask_src.b, 16);
	ck_assert_uint_eq(a->mask_l4src, b->mask_l4src);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->policy, b->policy);
	ck_assert_uint_eq(a->nat, b->nat);
	ck_assert_uint_eq(a->nat_dir, b->nat_dir);
	ck_assert_mem_eq(a->nat_addr.b, b->nat_addr.b, 16);
	ck_assert_uint_eq(a->nat_l4, b->nat_l4);
	ck_assert_str_eq(a->fn, b->fn);
}

void
fg_same(const struct flow *a, const struct flow *b)
{
	ck_assert_uint_eq(a->family, b->family);
	ck_assert_uint_eq(a->proto, b->proto);
	ck_assert_uint_eq(a->zone_dir, b->zone_dir);
	ck_assert_uint_eq(a->zone, b->zone);
	ck_assert_uint_eq(a->incarnation, b->incarnation);
	ck_assert_uint_eq(a->has, b->has);
	same_tuple(&a->orig, &b->orig);
	same_tuple(&a->reply, &b->reply);
	ck_assert_uint_eq(a->status, b->status);
	ck_assert_uint_eq(a->mark, b->mark);
	ck_assert_uint_eq(a->timeout_s, b->timeout_s);
	ck_assert_uint_eq(a->id, b->id);
	ck_assert_uint_eq(a->packets, b->packets);
	ck_assert_uint_eq(a->born, b->born);
	ck_assert_int_eq(a->found, b->found);
	ck_assert_int_eq(a->copy, b->copy);
	ck_assert_int_eq(a->stray, b->stray);
	ck_assert_uint_eq(a->commanded, b->commanded);
	ck_assert_uint_eq(a->tcp_state, b->tcp_state);
	ck_assert_mem_eq(a->tcp_flags, b->tcp_flags, 2);
	ck_assert_mem_eq(a->tcp_wscale, b->tcp_wscale, 2);
	ck_assert_uint_eq(a->expect, b->expect);
	ck_assert_str_eq(a->helper, b->helper);
	ck_assert_uint_eq(a->master_proto, b->master_proto);
	same_tuple(&a->master, &b->master);
	if (a->expect)
		same_expect(&a->exp, &b->exp);
	else
		same_rare(&a->rare, &b->rare);
	ck_assert_uint_eq(a->extra_len, b->extra_len);
	if (a->extra_len > 0)
		ck_assert_mem_eq(a->extra, b->extra, a->extra_len);
}

void
fg_round_trip(const struct flow *f)
{
	uint8_t		 body[FLOW_BODY_MAX], again[FLOW_BODY_MAX];
	struct flow	 g;
	size_t		 len;

	len = flow_pack(f, body, sizeof(body));
	ck_assert_uint_gt(len, 0);
	ck_assert_uint_le(len, (size_t)FLOW_BODY_OWN_MAX + f->extra_len);
	memset(&g, 0x5a, sizeof(g));
	ck_assert_int_eq(flow_unpack(body, len, &g), 0);
	fg_same(f, &g);
	ck_assert_uint_eq(flow_pack(&g, again, sizeof(again)), len);
	ck_assert_mem_eq(body, again, len);
}
