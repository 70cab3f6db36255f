/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctnetlink messages about what few flows have, and about expectations.
 *
 * What a builder wrote, the parser reads back, and so what the kernel shows
 * (kmsg.c).  Cut and bent ones are parsed in memory of their exact size.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/kct_msg.h"
#include "flowgen.h"
#include "kmsg.h"
#include "rnd.h"

#define ROUNDS	5000

static void
setup(void)
{
	rnd_seed(23);
}

/* --- flows as the kernel can have them ------------------------------------- */

/* A tuple of a protocol without layer-4 words has none. */
static void
settle(uint8_t family, uint8_t proto, struct flow_tuple *t)
{
	if (!km_has_ports(proto) && !flow_proto_is_icmp(family, proto))
		t->l4src = t->l4dst = 0;
}

static void
settle_flow(struct flow *f)
{
	settle(f->family, f->proto, &f->orig);
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	settle(f->family, f->master_proto, &f->master);
	f->incarnation = 0;
	f->timeout_s = fg_value() | 1;		/* 0 is not known */
	f->has |= FLOW_HAS_TIMEOUT;
}

static void
random_flow(struct flow *f, bool all)
{
	fg_flow(f, rnd_below(2) ? AF_INET6 : AF_INET, fg_protos[rnd_below(FG_PROTOS)], rnd_below(4), 0);
	if (all)
		fg_rare_all(f);
	else
		fg_rare(f);
	settle_flow(f);
	f->status = (f->status & KCT_STATUS_SETTABLE) | FLOW_S_CONFIRMED;
	f->mark |= 1;
}

/* As the kernel shows it: it may have counted. */
static void
shown_flow(struct flow *f, bool all)
{
	random_flow(f, all);
	if (all || rnd_below(2) == 0) {
		f->packets = rnd_below(2) * fg_value();
		f->has |= FLOW_HAS_PACKETS;
	}
}

/* The zone of an expectation is that of its master, in both directions. */
static void
random_expect(struct flow *f, bool all)
{
	uint8_t	 family = rnd_below(2) ? AF_INET6 : AF_INET;
	uint8_t	 proto = fg_protos[rnd_below(FG_PROTOS)];

	if (all)
		fg_expect_all(f, family, proto, rnd_below(2));
	else
		fg_expect(f, family, proto, rnd_below(2));
	settle_flow(f);
	memset(&f->reply, 0, sizeof(f->reply));
	f->has &= ~(uint32_t)FLOW_HAS_REPLY;
	f->has |= FLOW_HAS_HELPER;
	if (!km_has_ports(proto) && !flow_proto_is_icmp(family, proto))
		f->exp.mask_l4src = f->exp.nat_l4 = 0;
}

/* --- parsing and looking ------------------------------------------------------ */

/* In a block of just the right size, so that a tool sees what reads past it. */
static int
parse(const uint8_t *p, size_t len, struct flow *f, enum kct_msg_type *type)
{
	uint8_t	*copy = malloc(len == 0 ? 1 : len);
	int	 rc;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, p, len);
	memset(f, 0x5a, sizeof(*f));
	rc = kct_parse(copy, len, f, type);
	free(copy);
	return rc;
}

static int
parse_msg(struct kmsg *m, struct flow *f)
{
	enum kct_msg_type	 type;

	return parse(m->b, km_end(m), f, &type);
}

/* The attribute of that type at the top of a message, its header included; NULL: none. */
static const uint8_t *
find_attr(const uint8_t *msg, size_t len, unsigned want, size_t *n)
{
	size_t		 off = KM_HEAD;
	struct nlattr	 a;

	while (off + sizeof(a) <= len) {
		memcpy(&a, msg + off, sizeof(a));
		*n = a.nla_len;
		if ((a.nla_type & (unsigned)NLA_TYPE_MASK) == want)
			return msg + off;
		off += (a.nla_len + 3u) & ~3u;
	}
	return NULL;
}

static bool
has_attr(const uint8_t *msg, size_t len, unsigned want)
{
	size_t	 n;

	return find_attr(msg, len, want, &n) != NULL;
}

/* To the byte the same in both messages, or in neither. */
static void
same_attr(const uint8_t *a, size_t alen, const uint8_t *b, size_t blen, unsigned type)
{
	size_t	 an = 0, bn = 0;

	a = find_attr(a, alen, type, &an);
	b = find_attr(b, blen, type, &bn);
	ck_assert_int_eq(a != NULL, b != NULL);
	if (a == NULL)
		return;
	ck_assert_uint_eq(an, bn);
	ck_assert_mem_eq(a, b, an);
}

static struct nlmsghdr
header(const uint8_t *msg)
{
	struct nlmsghdr	 h;

	memcpy(&h, msg, sizeof(h));
	return h;
}

/* --- what a builder wrote ------------------------------------------------------- */

/* Of a connection without an answer the kernel is told that both directions scale. */
static void
scales_both_ways(struct flow *f)
{
	if (f->proto == IPPROTO_TCP && f->tcp_state == FLOW_TCP_SYN_SENT)
		f->tcp_flags[1] |= f->tcp_flags[0] & FLOW_TF_WINDOW_SCALE;
}

/* Labels are written with all their bits, or not at all. */
static void
all_labels(const uint8_t *msg, size_t len)
{
	const uint8_t	*mask;
	size_t		 n, k;

	mask = find_attr(msg, len, CTA_LABELS_MASK, &n);
	ck_assert_int_eq(mask != NULL, has_attr(msg, len, CTA_LABELS));
	if (mask == NULL)
		return;
	ck_assert_uint_eq(n, sizeof(struct nlattr) + FLOW_LABEL_BYTES);
	for (k = sizeof(struct nlattr); k < n; k++)
		ck_assert_uint_eq(mask[k], 0xff);
}

START_TEST(create_parses_back)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		random_flow(&f, i % 8 == 0);
		len = kct_build_create(buf, sizeof(buf), 7, &f, 0);
		ck_assert_uint_gt(len, 0);
		ck_assert_uint_eq(len % 4, 0);
		ck_assert_int_eq(parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_NEW);
		scales_both_ways(&f);
		if (f.proto == IPPROTO_GRE)
			f.status |= FLOW_S_FIXED_TIMEOUT;
		fg_same(&f, &g);
		all_labels(buf, len);
	}
}
END_TEST

/* Helper and master are given at birth only. */
START_TEST(update_parses_back)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		random_flow(&f, i % 8 == 0);
		f.status |= FLOW_S_ASSURED;
		f.status &= ~FLOW_S_FIXED_TIMEOUT;
		len = kct_build_update(buf, sizeof(buf), 7, &f, 0, 0);
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_UPDATE);
		ck_assert(!has_attr(buf, len, CTA_HELP) && !has_attr(buf, len, CTA_TUPLE_MASTER));
		/* a zone of the reply direction is no part of the name */
		if (f.zone_dir == FLOW_ZONE_REPLY)
			f.zone = f.zone_dir = 0;
		f.has &= ~(uint32_t)(FLOW_HAS_HELPER | FLOW_HAS_MASTER | FLOW_HAS_REPLY);
		memset(f.helper, 0, sizeof(f.helper));
		memset(&f.master, 0, sizeof(f.master));
		memset(&f.reply, 0, sizeof(f.reply));
		f.master_proto = 0;
		scales_both_ways(&f);
		/* that of GRE is fixed from its birth */
		if (f.proto == IPPROTO_GRE) {
			f.has &= ~(uint32_t)FLOW_HAS_TIMEOUT;
			f.timeout_s = 0;
		}
		fg_same(&f, &g);
	}
}
END_TEST

/* An update takes labels away; of the others it leaves out what is not there. */
START_TEST(nothing_is_written_of_nothing)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;

	fg_flow(&f, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE, 0);
	f.status = FLOW_S_CONFIRMED;
	len = kct_build_create(buf, sizeof(buf), 7, &f, 0);
	f.has |= FLOW_HAS_RARE & ~FLOW_HAS_LABELS;
	ck_assert_uint_eq(kct_build_create(buf, sizeof(buf), 7, &f, 0), len);
	f.has |= FLOW_HAS_LABELS;
	len = kct_build_update(buf, sizeof(buf), 7, &f, 0, 0);
	ck_assert(has_attr(buf, len, CTA_LABELS));
	all_labels(buf, len);
	ck_assert_int_eq(parse(buf, len, &g, &type), 0);
	ck_assert(g.has & FLOW_HAS_LABELS);
}
END_TEST

/*
 * The kernel takes the name for the helper of what is expected: it is written
 * where that is the same, or where the policy cannot be known without it.
 */
START_TEST(expectation_parses_back)
{
	static const unsigned	 nests[] = {
		CTA_EXPECT_TUPLE, CTA_EXPECT_MASK, CTA_EXPECT_MASTER, CTA_EXPECT_NAT
	};
	uint8_t			 buf[KCT_MSG_MAX];
	struct kmsg		 m;
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len, mlen;
	int			 i, k;

	for (i = 0; i < ROUNDS; i++) {
		random_expect(&f, i % 8 == 0);
		if (i % 3 == 0)
			f.exp.policy = 0;
		if (i % 5 == 0)
			strcpy(f.helper, "sip");
		len = kct_build_create(buf, sizeof(buf), 7, &f, KCT_LIBERAL);
		ck_assert_uint_gt(len, 0);
		ck_assert_uint_eq(len % 4, 0);
		ck_assert_uint_eq(header(buf).nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
		ck_assert_int_eq(parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_NEW);
		if (f.exp.policy == 0 && strcmp(f.helper, "sip") != 0)
			f.helper[0] = '\0';
		ck_assert_int_eq(has_attr(buf, len, CTA_EXPECT_HELP_NAME), f.helper[0] != '\0');
		fg_same(&f, &g);
		mlen = km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
		for (k = 0; k < 4; k++)
			same_attr(buf, len, m.b, mlen, nests[k]);
		/* to change it, the same without creating it */
		len = kct_build_update(buf, sizeof(buf), 7, &f, 0, KCT_LIBERAL);
		ck_assert_uint_eq(header(buf).nlmsg_flags, NLM_F_REQUEST);
		ck_assert_int_eq(parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_UPDATE);
		fg_same(&f, &g);
	}
}
END_TEST

/* A delete without a tuple would be a flush. */
START_TEST(short_messages_name_the_expectation)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS / 10; i++) {
		random_expect(&f, false);
		len = i % 2 == 0 ? kct_build_delete(buf, sizeof(buf), 1, &f) :
		    kct_build_get(buf, sizeof(buf), 1, &f);
		ck_assert_uint_eq(header(buf).nlmsg_type, NFNL_SUBSYS_CTNETLINK_EXP << 8 |
		    (i % 2 == 0 ? IPCTNL_MSG_EXP_DELETE : IPCTNL_MSG_EXP_GET));
		ck_assert(has_attr(buf, len, CTA_EXPECT_TUPLE));
		ck_assert(!has_attr(buf, len, CTA_EXPECT_MASTER));
		ck_assert(!has_attr(buf, len, CTA_EXPECT_ID));
		ck_assert_int_eq(has_attr(buf, len, CTA_EXPECT_ZONE), f.zone_dir == FLOW_ZONE_BOTH);
		/* which is not enough to be one */
		ck_assert_int_eq(parse(buf, len, &g, &type), i % 2 == 0 ? -EBADMSG : -ENOMSG);
		ck_assert_uint_eq(kct_build_delete(buf, KCT_MSG_MAX - 1, 1, &f), 0);
		ck_assert_uint_eq(kct_build_get(buf, KCT_MSG_MAX - 1, 1, &f), 0);
		ck_assert_uint_eq(kct_build_create(buf, KCT_MSG_MAX - 1, 1, &f, 0), 0);
	}
}
END_TEST

START_TEST(expectations_are_dumped_by_themselves)
{
	struct kct_dump_filter	 filter = {
		.family = AF_INET6, .mark = 1, .mark_mask = 1, .status = 2, .status_mask = 2
	};
	uint8_t			 buf[KCT_MSG_MAX];

	ck_assert_uint_gt(kct_build_dump(buf, sizeof(buf), 1, &filter), KM_HEAD);
	ck_assert_uint_eq(header(buf).nlmsg_type, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET);
	filter.expect = true;
	ck_assert_uint_eq(kct_build_dump(buf, sizeof(buf), 1, &filter), KM_HEAD);
	ck_assert_uint_eq(header(buf).nlmsg_type, NFNL_SUBSYS_CTNETLINK_EXP << 8 | IPCTNL_MSG_EXP_GET);
	ck_assert_uint_eq(header(buf).nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
	ck_assert_uint_eq(buf[sizeof(struct nlmsghdr)], AF_INET6);
}
END_TEST

/* Everything at once, translated both ways, fits; nothing is written beyond. */
START_TEST(longest_messages_fit)
{
	static uint8_t	 buf[2 * KCT_MSG_MAX];
	struct flow	 f;
	size_t		 len, longest = 0, k;
	unsigned	 proto, zone, n;

	for (proto = 0; proto < FG_PROTOS; proto++)
		for (zone = 0; zone < 4; zone++)
			for (n = 0; n < 3; n++) {
				memset(buf, 0xa5, sizeof(buf));
				if (n == 2) {
					fg_expect_all(&f, AF_INET6, fg_protos[proto], zone);
					f.exp.policy = 1;
				} else {
					fg_flow(&f, AF_INET6, fg_protos[proto], zone, 15);
					fg_rare_all(&f);
					f.status = UINT32_MAX & ~FLOW_S_FIXED_TIMEOUT;
					f.mark = 1;
				}
				f.master_proto = IPPROTO_TCP;
				f.timeout_s = UINT32_MAX;
				f.has |= FLOW_HAS_TIMEOUT;
				len = n == 1 ?
				    kct_build_update(buf, KCT_MSG_MAX, 1, &f, 1, KCT_LIBERAL) :
				    kct_build_create(buf, KCT_MSG_MAX, 1, &f, KCT_LIBERAL);
				ck_assert_uint_gt(len, 0);
				ck_assert_uint_le(len, KCT_MSG_MAX);
				for (k = len; k < sizeof(buf); k++)
					ck_assert_uint_eq(buf[k], 0xa5);
				if (len > longest)
					longest = len;
			}
	/* three tuples with ports, labels and their mask, two corrections, two translations */
	ck_assert_uint_gt(longest, 3 * 72 + 40 + 56 + 72);
}
END_TEST

/* --- what the kernel shows --------------------------------------------------------- */

START_TEST(kernel_shows_a_flow)
{
	static const unsigned	 flags[] = { NLM_F_CREATE | NLM_F_EXCL, 0, NLM_F_MULTI };
	struct kmsg		 m;
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		shown_flow(&f, i % 8 == 0);
		f.id = fg_value();
		f.has |= FLOW_HAS_ID;
		len = km_flow(&m, IPCTNL_MSG_CT_NEW, flags[i % 3], &f);
		ck_assert_int_eq(parse(m.b, len, &g, &type), 0);
		ck_assert_int_eq(type, i % 3 == 0 ? KCT_MSG_NEW : KCT_MSG_UPDATE);
		if (f.proto == IPPROTO_TCP) {	/* not composed here */
			f.has &= ~(uint32_t)(FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS |
			    FLOW_HAS_TCP_WSCALE);
			f.tcp_state = 0;
			memset(f.tcp_flags, 0, 2);
			memset(f.tcp_wscale, 0, 2);
		}
		fg_same(&f, &g);
	}
}
END_TEST

START_TEST(kernel_shows_an_expectation)
{
	static const unsigned	 flags[] = { NLM_F_CREATE | NLM_F_EXCL, 0, NLM_F_MULTI };
	struct kmsg		 m;
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		random_expect(&f, i % 8 == 0);
		f.id = fg_value();
		f.has |= FLOW_HAS_ID;
		len = km_expect(&m, i % 4 == 3 ? IPCTNL_MSG_EXP_DELETE : IPCTNL_MSG_EXP_NEW,
		    flags[i % 3], &f);
		ck_assert_int_eq(parse(m.b, len, &g, &type), 0);
		ck_assert_int_eq(type, i % 4 == 3 ? KCT_MSG_DESTROY :
		    i % 3 == 0 ? KCT_MSG_NEW : KCT_MSG_UPDATE);
		fg_same(&f, &g);
	}
}
END_TEST

/* Values that this version does not know, or that do not fit. */
START_TEST(foreign_values_of_flows)
{
	static const uint8_t	 labels[20] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 };
	struct kmsg		 m;
	struct flow		 f, g;

	/* a state of a later kernel is no state */
	fg_flow(&f, AF_INET, IPPROTO_SCTP, FLOW_ZONE_NONE, 0);
	f.has |= FLOW_HAS_SCTP;
	f.rare.sctp_state = FLOW_SCTP_STATES;
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert(!(g.has & FLOW_HAS_SCTP));

	fg_flow(&f, AF_INET, IPPROTO_DCCP, FLOW_ZONE_NONE, 0);
	f.has |= FLOW_HAS_DCCP;
	f.rare.dccp_state = FLOW_DCCP_STATES;
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert(!(g.has & FLOW_HAS_DCCP));
	f.rare.dccp_state = 1;
	f.rare.dccp_role = 3;
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert((g.has & FLOW_HAS_DCCP) && g.rare.dccp_role < FLOW_DCCP_ROLES);

	/* fewer labels, and more than there is room for */
	fg_flow(&f, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE, 0);
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
	km_attr(&m, CTA_LABELS, labels, 4);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert(g.has & FLOW_HAS_LABELS);
	ck_assert_mem_eq(g.rare.labels, "\1\2\3\4\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
	km_attr(&m, CTA_LABELS, labels, 20);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert_mem_eq(g.rare.labels, labels, 16);
	ck_assert_uint_eq(g.rare.seqadj[0].pos, 0);
}
END_TEST

/* A flow whose two directions count so many packets. */
static uint32_t
packets_of(uint64_t orig, uint64_t reply)
{
	struct kmsg	 m;
	struct flow	 f, g;

	fg_flow(&f, AF_INET, IPPROTO_TCP, FLOW_ZONE_NONE, 0);
	(void)km_flow(&m, IPCTNL_MSG_CT_DELETE, 0, &f);
	km_counters(&m, CTA_COUNTERS_ORIG, orig, orig * 1500);
	km_counters(&m, CTA_COUNTERS_REPLY, reply, 0);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert(g.has & FLOW_HAS_PACKETS);
	return g.packets;
}

/* Only none is 0, and one more is another number. */
START_TEST(packets_are_folded)
{
	static const struct {
		uint64_t	 orig, reply;
		uint32_t	 want;
	} folds[] = {
		{ 0, 0, 0 }, { 1, 0, 1 }, { 0, 1, 1 }, { 3, 4, 7 },
		{ UINT32_MAX, 0, UINT32_MAX }, { UINT32_MAX - 1, 1, UINT32_MAX },
		{ UINT32_MAX, 1, 2 }, { 0, 1ull << 32, 2 },
		{ UINT32_MAX, UINT32_MAX, 1 }, { 2ull * UINT32_MAX - 1, 0, UINT32_MAX },
		{ 2ull * UINT32_MAX, 1, 2 },
		{ 1ull << 63, 1ull << 63, 1 }, { UINT64_MAX, UINT64_MAX, 1 }
	};
	size_t	 i;

	for (i = 0; i < sizeof(folds) / sizeof(folds[0]); i++)
		ck_assert_msg(packets_of(folds[i].orig, folds[i].reply) == folds[i].want,
		    "%zu: %u", i, packets_of(folds[i].orig, folds[i].reply));
	for (i = 0; i < ROUNDS; i++) {
		uint64_t	 n = (rnd_u64() >> rnd_below(64)) & (UINT64_MAX >> 1);

		ck_assert_uint_ne(packets_of(n, 1), packets_of(n, 0));
		ck_assert_uint_ne(packets_of(n, 1), 0);
		if (n <= UINT32_MAX)
			ck_assert_uint_eq(packets_of(0, n), n);
	}
}
END_TEST

/* Counters in one direction, without packets, of 32 bits, cut short. */
START_TEST(counters_of_every_shape)
{
	static const unsigned	 dirs[2] = { CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY };
	struct kmsg		 m, cut;
	struct flow		 f, g;
	unsigned		 d, n;

	for (d = 0; d < 2; d++) {
		fg_flow(&f, AF_INET6, IPPROTO_UDP, FLOW_ZONE_NONE, 0);
		(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
		ck_assert_int_eq(parse_msg(&m, &g), 0);
		ck_assert(!(g.has & FLOW_HAS_PACKETS));
		/* one direction says nothing of the other */
		km_open(&m, dirs[d]);
		km_be32(&m, CTA_COUNTERS32_PACKETS, 0x80000000u);
		km_be32(&m, CTA_COUNTERS32_BYTES, 7);
		km_close(&m);
		ck_assert_int_eq(parse_msg(&m, &g), 0);
		ck_assert(!(g.has & FLOW_HAS_PACKETS));
		ck_assert_uint_eq(g.packets, 0);
		/* nor do bytes of packets */
		km_open(&m, dirs[1 - d]);
		km_be64(&m, CTA_COUNTERS_BYTES, 1500);
		km_close(&m);
		ck_assert_int_eq(parse_msg(&m, &g), 0);
		ck_assert(!(g.has & FLOW_HAS_PACKETS));
		for (n = 0; n < 12; n++) {
			/* too short, in either width; longer is the kernel's business */
			cut = m;
			km_open(&cut, dirs[1 - d]);
			km_attr(&cut, CTA_COUNTERS_PACKETS, "\0\0\0\0\0\0\0\5\0\0\0\0", n);
			km_close(&cut);
			ck_assert_int_eq(parse_msg(&cut, &g), n < 8 ? -EBADMSG : 0);
			if (n >= 8)
				ck_assert_uint_eq(g.packets, 0x80000005u);
			cut = m;
			km_open(&cut, dirs[1 - d]);
			km_attr(&cut, CTA_COUNTERS32_PACKETS, "\0\0\0\6\0\0\0\0\0\0\0\0", n);
			km_close(&cut);
			ck_assert_int_eq(parse_msg(&cut, &g), n < 4 ? -EBADMSG : 0);
			if (n >= 4)
				ck_assert_uint_eq(g.packets, 0x80000006u);
			/* not the attributes that a nest has to hold */
			cut = m;
			km_attr(&cut, dirs[1 - d] | NLA_F_NESTED, "\5\0\1", n % 4);
			ck_assert_int_eq(parse_msg(&cut, &g), n % 4 == 0 ? 0 : -EBADMSG);
		}
	}
}
END_TEST

START_TEST(foreign_values_of_expectations)
{
	struct kmsg	 m;
	struct flow	 f, g;

	random_expect(&f, false);
	(void)km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
	km_be32(&m, CTA_EXPECT_FLAGS, UINT32_MAX);
	km_be32(&m, CTA_EXPECT_CLASS, 300);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	ck_assert_uint_eq(g.exp.flags, FLOW_E_FLAGS);
	ck_assert_uint_eq(g.exp.policy, UINT8_MAX);

	(void)km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
	km_open(&m, CTA_EXPECT_NAT);
	km_be32(&m, CTA_EXPECT_NAT_DIR, 2);
	km_close(&m);
	ck_assert_int_eq(parse_msg(&m, &g), -EBADMSG);

	/* neither what nor whose */
	km_begin(&m, NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_NEW, 0, f.family);
	ck_assert_int_eq(parse_msg(&m, &g), -EBADMSG);
	km_tuple(&m, CTA_EXPECT_TUPLE, f.family, f.proto, &f.orig, 0);
	ck_assert_int_eq(parse_msg(&m, &g), -EBADMSG);
	km_tuple(&m, CTA_EXPECT_MASTER, f.family, 0, &f.master, 0);
	ck_assert_int_eq(parse_msg(&m, &g), -EBADMSG);
	km_tuple(&m, CTA_EXPECT_MASTER, f.family, IPPROTO_TCP, &f.master, 0);
	ck_assert_int_eq(parse_msg(&m, &g), 0);
	km_begin(&m, NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_NEW, 0, f.family);
	km_tuple(&m, CTA_EXPECT_MASTER, f.family, IPPROTO_TCP, &f.master, 0);
	ck_assert_int_eq(parse_msg(&m, &g), -EBADMSG);
}
END_TEST

/* A name at an attribute of its own, or in a nest. */
static int
name_of(bool expect, unsigned type, const char *name, size_t len, struct flow *g)
{
	struct kmsg	 m;
	struct flow	 f;

	if (expect) {
		random_expect(&f, false);
		f.helper[0] = f.exp.fn[0] = '\0';
		(void)km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
		km_attr(&m, type, name, len);
	} else {
		fg_flow(&f, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE, 0);
		(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
		km_open(&m, CTA_HELP);
		km_attr(&m, type, name, len);
		km_close(&m);
	}
	return parse_msg(&m, g);
}

/*
 * With or without its end, but not too long.  One that no peer would take,
 * because it cannot be printed, is none.
 */
START_TEST(names)
{
	static const struct {
		bool		 expect;
		unsigned	 type;
		size_t		 max;
		size_t		 at;
	} kinds[] = {
		{ false, CTA_HELP_NAME, FLOW_HELPER_MAX, offsetof(struct flow, helper) },
		{ true, CTA_EXPECT_HELP_NAME, FLOW_HELPER_MAX, offsetof(struct flow, helper) },
		{ true, CTA_EXPECT_FN, FLOW_EXPECTFN_MAX, offsetof(struct flow, exp.fn) }
	};
	static const char	 longest[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char *const bad[] = { "a b", "\x01", "new\nline", "caf\xc3\xa9", "del\x7f" };
	struct flow		 g;
	const char		*got;
	size_t			 i, k;

	for (i = 0; i < 3; i++) {
		got = (const char *)&g + kinds[i].at;
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, "ftp", 4, &g), 0);
		ck_assert_str_eq(got, "ftp");
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, "ftp", 3, &g), 0);
		ck_assert_str_eq(got, "ftp");
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, "ab\0cd", 5, &g), 0);
		ck_assert_str_eq(got, "ab");
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, "", 0, &g), 0);
		ck_assert_str_eq(got, "");
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, longest, kinds[i].max, &g), 0);
		ck_assert_uint_eq(strlen(got), kinds[i].max);
		ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, longest,
		    kinds[i].max + 1, &g), -EBADMSG);
		for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			ck_assert_int_eq(name_of(kinds[i].expect, kinds[i].type, bad[k],
			    strlen(bad[k]) + 1, &g), 0);
			ck_assert_str_eq(got, "");
		}
	}
}
END_TEST

/* Whatever is taken from the kernel, peers take from us. */
START_TEST(what_is_parsed_is_packed)
{
	struct kmsg	 m;
	struct flow	 f, g, h;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len, off;
	int		 i, n, taken = 0;

	for (i = 0; i < ROUNDS * 10; i++) {
		if (i % 2 == 0) {
			shown_flow(&f, i % 4 == 0);
			len = km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
		} else {
			random_expect(&f, i % 4 == 1);
			len = km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
		}
		for (n = (int)rnd_below(4); n > 0; n--) {
			off = KM_HEAD + rnd_u64() % (len - KM_HEAD);
			m.b[off] = (uint8_t)rnd_u64();
		}
		if (parse_msg(&m, &g) < 0)
			continue;
		taken++;
		g.has |= FLOW_HAS_STATUS;
		len = flow_pack(&g, body, sizeof(body));
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(flow_unpack(body, len, &h), 0);
	}
	ck_assert_int_gt(taken, ROUNDS * 3);
}
END_TEST

/* --- cut and bent ------------------------------------------------------------------- */

/* At the end of an attribute a message may end, too. */
START_TEST(truncation_is_survived)
{
	enum kct_msg_type	 type;
	struct kmsg		 m;
	struct flow		 f, g;
	size_t			 len, cut;
	uint32_t		 claim;
	int			 i;

	for (i = 0; i < 200; i++) {
		if (i % 2 == 0) {
			shown_flow(&f, true);
			len = km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
		} else {
			random_expect(&f, true);
			len = km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
		}
		for (cut = 0; cut < len; cut++)
			ck_assert_int_eq(parse(m.b, cut, &g, &type), -EBADMSG);
		for (cut = KM_HEAD; cut < len; cut++) {
			claim = (uint32_t)cut;
			memcpy(m.b, &claim, sizeof(claim));
			(void)parse(m.b, cut, &g, &type);
		}
	}
}
END_TEST

START_TEST(damage_is_survived)
{
	enum kct_msg_type	 type;
	struct kmsg		 m;
	struct flow		 f, g;
	size_t			 len;
	unsigned		 n;
	int			 i;

	for (i = 0; i < ROUNDS * 10; i++) {
		if (i % 2 == 0) {
			shown_flow(&f, i % 4 == 0);
			len = km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &f);
		} else {
			random_expect(&f, i % 4 == 1);
			len = km_expect(&m, IPCTNL_MSG_EXP_NEW, 0, &f);
		}
		for (n = 1 + rnd_below(8); n > 0; n--)
			m.b[16 + rnd_u64() % (len - 16)] = (uint8_t)rnd_u64();
		if (parse(m.b, len, &g, &type) == 0) {
			ck_assert(g.family == AF_INET || g.family == AF_INET6);
			ck_assert_uint_le(strnlen(g.helper, sizeof(g.helper)), FLOW_HELPER_MAX);
		}
	}
}
END_TEST

/* Types and lengths of all attributes, also where they do not belong. */
START_TEST(noise_is_survived)
{
	enum kct_msg_type	 type;
	struct kmsg		 m;
	struct flow		 f;
	uint8_t			 junk[40];
	size_t			 k;
	int			 i, n;

	for (i = 0; i < ROUNDS * 10; i++) {
		km_begin(&m, i % 2 == 0 ? NFNL_SUBSYS_CTNETLINK : NFNL_SUBSYS_CTNETLINK_EXP,
		    IPCTNL_MSG_CT_NEW, 0, rnd_below(2) ? AF_INET : AF_INET6);
		for (n = (int)rnd_below(8); n >= 0; n--) {
			if (m.depth < KM_NESTS && rnd_below(3) == 0) {
				km_open(&m, rnd_below(28));
				continue;
			}
			for (k = 0; k < sizeof(junk); k++)
				junk[k] = rnd_below(2) ? (uint8_t)rnd_below(28) : (uint8_t)rnd_u64();
			km_attr(&m, rnd_below(28), junk, rnd_below(sizeof(junk)));
			if (m.depth > 0 && rnd_below(3) == 0)
				km_close(&m);
		}
		while (m.depth > 0)
			km_close(&m);
		(void)parse(m.b, km_end(&m), &f, &type);
	}
}
END_TEST

/* --- deltas ---------------------------------------------------------------------------- */

static void
show(struct flow *g, const struct flow *f, uint32_t has)
{
	struct kmsg	 m;
	struct flow	 part = *f;

	part.has = has;
	(void)km_flow(&m, IPCTNL_MSG_CT_NEW, 0, &part);
	ck_assert_int_eq(parse_msg(&m, g), 0);
}

/* An event tells some parts: those are taken, and the others stay. */
START_TEST(events_are_merged)
{
	static const uint32_t	 parts[] = {
		FLOW_HAS_LABELS, FLOW_HAS_HELPER, FLOW_HAS_MASTER, FLOW_HAS_SEQADJ,
		FLOW_HAS_SYNPROXY, FLOW_HAS_SCTP, FLOW_HAS_STATUS, FLOW_HAS_MARK,
		FLOW_HAS_PACKETS
	};
	struct flow		 f, news, cur, delta, want;
	unsigned		 mask, i;
	uint32_t		 has;

	for (mask = 0; mask < 512; mask++) {
		fg_flow(&f, AF_INET6, IPPROTO_SCTP, FLOW_ZONE_BOTH, 0);
		f.has |= FLOW_HAS_PACKETS;
		f.packets = 3;
		news = f;
		news.packets = 5;
		fg_rare_all(&f);
		fg_rare_all(&news);
		settle_flow(&f);
		settle_flow(&news);
		news.status = f.status ^ FLOW_S_ASSURED;
		news.mark = f.mark + 1;
		has = FLOW_HAS_TIMEOUT;
		for (i = 0; i < 9; i++)
			if (mask & 1u << i)
				has |= parts[i];
		show(&cur, &f, f.has);
		fg_same(&cur, &f);
		show(&delta, &news, has);
		flow_merge(&cur, &delta);
		/* the same, by showing all of what it is then */
		want = f;
		want.timeout_s = news.timeout_s;
		if (has & FLOW_HAS_LABELS)
			memcpy(want.rare.labels, news.rare.labels, FLOW_LABEL_BYTES);
		if (has & FLOW_HAS_HELPER)
			strcpy(want.helper, news.helper);
		if (has & FLOW_HAS_MASTER) {
			want.master = news.master;
			want.master_proto = news.master_proto;
		}
		if (has & FLOW_HAS_SEQADJ)
			memcpy(want.rare.seqadj, news.rare.seqadj, sizeof(want.rare.seqadj));
		if (has & FLOW_HAS_SYNPROXY) {
			want.rare.isn = news.rare.isn;
			want.rare.its = news.rare.its;
			want.rare.tsoff = news.rare.tsoff;
		}
		if (has & FLOW_HAS_SCTP) {
			want.rare.sctp_state = news.rare.sctp_state;
			want.rare.sctp_vtag[0] = news.rare.sctp_vtag[0];
			want.rare.sctp_vtag[1] = news.rare.sctp_vtag[1];
		}
		if (has & FLOW_HAS_STATUS)
			want.status = news.status;
		if (has & FLOW_HAS_MARK)
			want.mark = news.mark;
		if (has & FLOW_HAS_PACKETS)
			want.packets = news.packets;
		fg_same(&cur, &want);
	}
}
END_TEST

/* --- the same one? ----------------------------------------------------------------------- */

START_TEST(same_expectation)
{
	struct flow	 f, g;

	random_expect(&f, true);
	g = f;
	/* what it is, not how */
	g.exp.flags ^= FLOW_E_PERMANENT;
	g.exp.policy++;
	g.exp.fn[0] = '\0';
	g.helper[0] = '\0';
	g.timeout_s++;
	g.id = 7;
	memset(&g.reply, 3, sizeof(g.reply));
	ck_assert(kct_same_flow(&f, &g));
	g.master.l4dst ^= 1;
	ck_assert(!kct_same_flow(&f, &g));
	g.master.l4dst ^= 1;
	g.master_proto ^= 1;
	ck_assert(!kct_same_flow(&f, &g));
	g = f;
	g.expect = false;
	ck_assert(!kct_same_flow(&f, &g));
	g = f;
	g.orig.src.b[0] ^= 1;
	ck_assert(!kct_same_flow(&f, &g));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("kct_rare");
	TCase	*tc = tcase_create("messages");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, create_parses_back);
	tcase_add_test(tc, update_parses_back);
	tcase_add_test(tc, nothing_is_written_of_nothing);
	tcase_add_test(tc, expectation_parses_back);
	tcase_add_test(tc, short_messages_name_the_expectation);
	tcase_add_test(tc, expectations_are_dumped_by_themselves);
	tcase_add_test(tc, longest_messages_fit);
	tcase_add_test(tc, kernel_shows_a_flow);
	tcase_add_test(tc, kernel_shows_an_expectation);
	tcase_add_test(tc, packets_are_folded);
	tcase_add_test(tc, counters_of_every_shape);
	tcase_add_test(tc, foreign_values_of_flows);
	tcase_add_test(tc, foreign_values_of_expectations);
	tcase_add_test(tc, names);
	tcase_add_test(tc, what_is_parsed_is_packed);
	tcase_add_test(tc, truncation_is_survived);
	tcase_add_test(tc, damage_is_survived);
	tcase_add_test(tc, noise_is_survived);
	tcase_add_test(tc, events_are_merged);
	tcase_add_test(tc, same_expectation);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
