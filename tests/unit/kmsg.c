/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages of ctnetlink for tests, as the kernel composes them.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <check.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <string.h>

#include "kmsg.h"

/* --- bytes ---------------------------------------------------------------- */

void
km_begin(struct kmsg *m, unsigned subsys, unsigned type, unsigned flags, uint8_t family)
{
	struct nlmsghdr	 h = {
		.nlmsg_type = (uint16_t)(subsys << 8 | type), .nlmsg_flags = (uint16_t)flags
	};
	struct nfgenmsg	 g = { .nfgen_family = family };

	memset(m, 0, sizeof(*m));
	memcpy(m->b, &h, sizeof(h));
	memcpy(m->b + sizeof(h), &g, sizeof(g));
	m->n = KM_HEAD;
}

size_t
km_end(struct kmsg *m)
{
	uint32_t	 len = (uint32_t)m->n;

	ck_assert_uint_eq(m->depth, 0);
	memcpy(m->b, &len, sizeof(len));
	return m->n;
}

void
km_attr(struct kmsg *m, unsigned type, const void *p, size_t len)
{
	struct nlattr	 a = { .nla_type = (uint16_t)type, .nla_len = (uint16_t)(sizeof(a) + len) };

	ck_assert_uint_lt(m->n + sizeof(a) + len + 3, sizeof(m->b));
	memcpy(m->b + m->n, &a, sizeof(a));
	memcpy(m->b + m->n + sizeof(a), p, len);
	m->n += (sizeof(a) + len + 3) & ~(size_t)3;
}

void
km_u8(struct kmsg *m, unsigned type, uint8_t v)
{
	km_attr(m, type, &v, sizeof(v));
}

void
km_be16(struct kmsg *m, unsigned type, uint16_t v)
{
	v = htons(v);
	km_attr(m, type, &v, sizeof(v));
}

void
km_be32(struct kmsg *m, unsigned type, uint32_t v)
{
	v = htonl(v);
	km_attr(m, type, &v, sizeof(v));
}

void
km_be64(struct kmsg *m, unsigned type, uint64_t v)
{
	uint8_t	 be[8];
	int	 i;

	for (i = 0; i < 8; i++)
		be[i] = (uint8_t)(v >> (56 - 8 * i));
	km_attr(m, type, be, sizeof(be));
}

void
km_string(struct kmsg *m, unsigned type, const char *s)
{
	km_attr(m, type, s, strlen(s) + 1);
}

void
km_open(struct kmsg *m, unsigned type)
{
	ck_assert_uint_lt(m->depth, KM_NESTS);
	m->nest[m->depth++] = m->n;
	km_attr(m, type | NLA_F_NESTED, "", 0);
}

void
km_close(struct kmsg *m)
{
	size_t		 at = m->nest[--m->depth];
	uint16_t	 len = (uint16_t)(m->n - at);

	memcpy(m->b + at, &len, sizeof(len));
}

/* --- parts ---------------------------------------------------------------- */

bool
km_has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	    proto == IPPROTO_GRE || proto == IPPROTO_DCCP || proto == IPPROTO_UDPLITE;
}

void
km_tuple(struct kmsg *m, unsigned type, uint8_t family, uint8_t proto, const struct flow_tuple *t,
    uint16_t zone)
{
	bool	 v6 = family == AF_INET6;
	size_t	 alen = v6 ? 16 : 4;

	km_open(m, type);
	km_open(m, CTA_TUPLE_IP);
	km_attr(m, v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, t->src.b, alen);
	km_attr(m, v6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, t->dst.b, alen);
	km_close(m);
	km_open(m, CTA_TUPLE_PROTO);
	km_u8(m, CTA_PROTO_NUM, proto);
	if (km_has_ports(proto)) {
		km_be16(m, CTA_PROTO_SRC_PORT, t->l4src);
		km_be16(m, CTA_PROTO_DST_PORT, t->l4dst);
	} else if (flow_proto_is_icmp(family, proto)) {
		km_be16(m, v6 ? CTA_PROTO_ICMPV6_ID : CTA_PROTO_ICMP_ID, t->l4src);
		km_u8(m, v6 ? CTA_PROTO_ICMPV6_TYPE : CTA_PROTO_ICMP_TYPE, (uint8_t)(t->l4dst >> 8));
		km_u8(m, v6 ? CTA_PROTO_ICMPV6_CODE : CTA_PROTO_ICMP_CODE, (uint8_t)t->l4dst);
	}
	km_close(m);
	if (zone != 0)
		km_be16(m, CTA_TUPLE_ZONE, zone);
	km_close(m);
}

static void
put_protoinfo(struct kmsg *m, const struct flow *f)
{
	if (!(f->has & (FLOW_HAS_SCTP | FLOW_HAS_DCCP)))
		return;
	km_open(m, CTA_PROTOINFO);
	if (f->has & FLOW_HAS_SCTP) {
		km_open(m, CTA_PROTOINFO_SCTP);
		km_u8(m, CTA_PROTOINFO_SCTP_STATE, f->rare.sctp_state);
		km_be32(m, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, f->rare.sctp_vtag[0]);
		km_be32(m, CTA_PROTOINFO_SCTP_VTAG_REPLY, f->rare.sctp_vtag[1]);
	} else {
		km_open(m, CTA_PROTOINFO_DCCP);
		km_u8(m, CTA_PROTOINFO_DCCP_STATE, f->rare.dccp_state);
		km_u8(m, CTA_PROTOINFO_DCCP_ROLE, f->rare.dccp_role);
		km_attr(m, CTA_PROTOINFO_DCCP_PAD, "", 0);
		km_be64(m, CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ, f->rare.dccp_seq);
	}
	km_close(m);
	km_close(m);
}

void
km_counters(struct kmsg *m, unsigned type, uint64_t packets, uint64_t bytes)
{
	km_open(m, type);
	km_be64(m, CTA_COUNTERS_PACKETS, packets);
	km_attr(m, CTA_COUNTERS_PAD, "", 0);
	km_be64(m, CTA_COUNTERS_BYTES, bytes);
	km_attr(m, CTA_COUNTERS_PAD, "", 0);
	km_close(m);
}

static void
put_packets(struct kmsg *m, const struct flow *f)
{
	if (!(f->has & FLOW_HAS_PACKETS))
		return;
	km_counters(m, CTA_COUNTERS_ORIG, f->packets / 3, f->packets * 100);
	km_counters(m, CTA_COUNTERS_REPLY, f->packets - f->packets / 3, 0);
}

static void
put_seqadj(struct kmsg *m, const struct flow *f)
{
	unsigned	 d;

	for (d = 0; d < 2 && (f->has & FLOW_HAS_SEQADJ); d++) {
		km_open(m, d == 0 ? CTA_SEQ_ADJ_ORIG : CTA_SEQ_ADJ_REPLY);
		km_be32(m, CTA_SEQADJ_CORRECTION_POS, f->rare.seqadj[d].pos);
		km_be32(m, CTA_SEQADJ_OFFSET_BEFORE, f->rare.seqadj[d].before);
		km_be32(m, CTA_SEQADJ_OFFSET_AFTER, f->rare.seqadj[d].after);
		km_close(m);
	}
}

static void
put_synproxy(struct kmsg *m, const struct flow *f)
{
	if (!(f->has & FLOW_HAS_SYNPROXY))
		return;
	km_open(m, CTA_SYNPROXY);
	km_be32(m, CTA_SYNPROXY_ISN, f->rare.isn);
	km_be32(m, CTA_SYNPROXY_ITS, f->rare.its);
	km_be32(m, CTA_SYNPROXY_TSOFF, f->rare.tsoff);
	km_close(m);
}

static void
put_helper(struct kmsg *m, const struct flow *f)
{
	if (!(f->has & FLOW_HAS_HELPER))
		return;
	km_open(m, CTA_HELP);
	km_string(m, CTA_HELP_NAME, f->helper);
	km_attr(m, CTA_HELP_INFO, "private to it", 13);
	km_close(m);
}

/* --- messages -------------------------------------------------------------- */

size_t
km_flow(struct kmsg *m, unsigned type, unsigned flags, const struct flow *f)
{
	km_begin(m, NFNL_SUBSYS_CTNETLINK, type, flags, f->family);
	km_tuple(m, CTA_TUPLE_ORIG, f->family, f->proto, &f->orig,
	    f->zone_dir == FLOW_ZONE_ORIG ? f->zone : 0);
	km_tuple(m, CTA_TUPLE_REPLY, f->family, f->proto, &f->reply,
	    f->zone_dir == FLOW_ZONE_REPLY ? f->zone : 0);
	if (f->zone_dir == FLOW_ZONE_BOTH)
		km_be16(m, CTA_ZONE, f->zone);
	if (f->has & FLOW_HAS_STATUS)
		km_be32(m, CTA_STATUS, f->status);
	if (f->has & FLOW_HAS_TIMEOUT)
		km_be32(m, CTA_TIMEOUT, f->timeout_s);
	put_protoinfo(m, f);
	put_packets(m, f);
	put_helper(m, f);
	if (f->has & FLOW_HAS_MARK)
		km_be32(m, CTA_MARK, f->mark);
	if (f->has & FLOW_HAS_LABELS)
		km_attr(m, CTA_LABELS, f->rare.labels, FLOW_LABEL_BYTES);
	if (f->has & FLOW_HAS_ID)
		km_be32(m, CTA_ID, f->id);
	km_be32(m, CTA_USE, 1);
	if (f->has & FLOW_HAS_MASTER)
		km_tuple(m, CTA_TUPLE_MASTER, f->family, f->master_proto, &f->master, 0);
	put_seqadj(m, f);
	put_synproxy(m, f);
	return km_end(m);
}

size_t
km_expect(struct kmsg *m, unsigned type, unsigned flags, const struct flow *f)
{
	struct flow_tuple	 mask, nat;

	memset(&mask, 0xff, sizeof(mask));
	mask.src = f->exp.mask_src;
	mask.l4src = f->exp.mask_l4src;
	memset(&nat, 0, sizeof(nat));
	nat.src = f->exp.nat_addr;
	nat.l4src = f->exp.nat_l4;
	km_begin(m, NFNL_SUBSYS_CTNETLINK_EXP, type, flags, f->family);
	km_tuple(m, CTA_EXPECT_TUPLE, f->family, f->proto, &f->orig, 0);
	km_tuple(m, CTA_EXPECT_MASK, f->family, f->proto, &mask, 0);
	km_tuple(m, CTA_EXPECT_MASTER, f->family, f->master_proto, &f->master, 0);
	if (f->zone_dir != FLOW_ZONE_NONE)
		km_be16(m, CTA_EXPECT_ZONE, f->zone);
	if (f->exp.nat) {
		km_open(m, CTA_EXPECT_NAT);
		km_be32(m, CTA_EXPECT_NAT_DIR, f->exp.nat_dir);
		km_tuple(m, CTA_EXPECT_NAT_TUPLE, f->family, f->proto, &nat, 0);
		km_close(m);
	}
	km_be32(m, CTA_EXPECT_TIMEOUT, f->timeout_s);
	km_be32(m, CTA_EXPECT_ID, f->id);
	km_be32(m, CTA_EXPECT_FLAGS, f->exp.flags);
	km_be32(m, CTA_EXPECT_CLASS, f->exp.policy);
	if (f->helper[0] != '\0')
		km_string(m, CTA_EXPECT_HELP_NAME, f->helper);
	if (f->exp.fn[0] != '\0')
		km_string(m, CTA_EXPECT_FN, f->exp.fn);
	return km_end(m);
}
