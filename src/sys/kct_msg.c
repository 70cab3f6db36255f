/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctnetlink messages to struct flow and back.
 *
 * Both directions are hot: parsing runs once per event, building once per
 * entry of a takeover.  The parser walks the attributes once and skips what it
 * has no use for; the builders write with a bare pointer, because their longest
 * message is known (KCT_MSG_MAX) and checked once.  Of NAT ranges only the
 * lower end is written: the kernel takes it for the upper one, too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include "ctsync/kct_msg.h"
#include "kct_put.h"

#define HEAD		KCT_HEAD
#define TYPE(t)		((uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | (t)))

#define PROTO_DCCP	33
#define PROTO_UDPLITE	136

/* --- parsing ------------------------------------------------------------- */

#define SEEN_SRC	0x01u
#define SEEN_DST	0x02u
#define SEEN_PROTO	0x04u
#define SEEN_ALL	(SEEN_SRC | SEEN_DST | SEEN_PROTO)

static bool
get_ip(struct rbuf r, uint8_t family, struct flow_tuple *t, unsigned *seen)
{
	struct rbuf	 v;
	unsigned	 type;
	bool		 v6 = family == AF_INET6;
	size_t		 alen = v6 ? 16 : 4;

	while (nl_attr_next(&r, &type, &v)) {
		if (type == (v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC)) {
			if (v.len != alen)
				return false;
			memcpy(t->src.b, v.p, alen);
			*seen |= SEEN_SRC;
		} else if (type == (v6 ? CTA_IP_V6_DST : CTA_IP_V4_DST)) {
			if (v.len != alen)
				return false;
			memcpy(t->dst.b, v.p, alen);
			*seen |= SEEN_DST;
		}
	}
	return r.len == 0;
}

static bool
get_l4(struct rbuf r, struct flow_tuple *t, struct kct_tuple_extra *x)
{
	struct rbuf	 v;
	unsigned	 type;
	uint8_t		 icmp_type = 0, icmp_code = 0;
	bool		 ok = true, icmp = false;

	while (ok && nl_attr_next(&r, &type, &v)) {
		switch (type) {
		case CTA_PROTO_NUM:
			ok = rbuf_u8(&v, &x->proto);
			x->seen |= SEEN_PROTO;
			break;
		case CTA_PROTO_SRC_PORT:
		case CTA_PROTO_ICMP_ID:
		case CTA_PROTO_ICMPV6_ID:
			ok = rbuf_u16(&v, &t->l4src);
			break;
		case CTA_PROTO_DST_PORT:
			ok = rbuf_u16(&v, &t->l4dst);
			break;
		case CTA_PROTO_ICMP_TYPE:
		case CTA_PROTO_ICMPV6_TYPE:
			ok = rbuf_u8(&v, &icmp_type);
			icmp = true;
			break;
		case CTA_PROTO_ICMP_CODE:
		case CTA_PROTO_ICMPV6_CODE:
			ok = rbuf_u8(&v, &icmp_code);
			icmp = true;
			break;
		default:
			break;
		}
	}
	if (icmp)
		t->l4dst = (uint16_t)((unsigned)icmp_type << 8 | icmp_code);
	return ok && r.len == 0;
}

bool
kct_get_tuple(struct rbuf r, uint8_t family, struct flow_tuple *t, struct kct_tuple_extra *x)
{
	struct rbuf	 v;
	unsigned	 type;

	memset(x, 0, sizeof(*x));
	while (nl_attr_next(&r, &type, &v)) {
		switch (type) {
		case CTA_TUPLE_IP:
			if (!get_ip(v, family, t, &x->seen))
				return false;
			break;
		case CTA_TUPLE_PROTO:
			if (!get_l4(v, t, x))
				return false;
			break;
		case CTA_TUPLE_ZONE:
			if (!rbuf_u16(&v, &x->zone))
				return false;
			break;
		default:
			break;
		}
	}
	return r.len == 0 && (x->seen & SEEN_ALL) == SEEN_ALL;
}

static bool
get_tcp(struct rbuf r, struct flow *f)
{
	struct rbuf	 v;
	unsigned	 type, i, flags = 0, scales = 0;
	uint8_t		 state;
	bool		 ok = true;

	while (ok && nl_attr_next(&r, &type, &v)) {
		switch (type) {
		case CTA_PROTOINFO_TCP_STATE:
			ok = rbuf_u8(&v, &state);
			if (ok && state < FLOW_TCP_STATES) {
				f->tcp_state = state;
				f->has |= FLOW_HAS_TCP_STATE;
			}
			break;
		case CTA_PROTOINFO_TCP_WSCALE_ORIGINAL:
		case CTA_PROTOINFO_TCP_WSCALE_REPLY:
			i = type - CTA_PROTOINFO_TCP_WSCALE_ORIGINAL;
			ok = rbuf_u8(&v, &f->tcp_wscale[i]);
			if (f->tcp_wscale[i] > FLOW_WSCALE_MAX)
				f->tcp_wscale[i] = FLOW_WSCALE_MAX;
			scales |= 1u << i;
			break;
		case CTA_PROTOINFO_TCP_FLAGS_ORIGINAL:
		case CTA_PROTOINFO_TCP_FLAGS_REPLY:
			i = type - CTA_PROTOINFO_TCP_FLAGS_ORIGINAL;
			ok = rbuf_u8(&v, &f->tcp_flags[i]);
			flags |= 1u << i;
			break;
		default:
			break;
		}
	}
	if (flags == 3)
		f->has |= FLOW_HAS_TCP_FLAGS;
	if (scales == 3)
		f->has |= FLOW_HAS_TCP_WSCALE;
	return ok && r.len == 0;
}

static bool
get_protoinfo(struct rbuf r, struct flow *f)
{
	struct rbuf	 v;
	unsigned	 type;

	while (nl_attr_next(&r, &type, &v))
		if ((type == CTA_PROTOINFO_TCP && !get_tcp(v, f)) ||
		    (type == CTA_PROTOINFO_SCTP && !kct_get_sctp(v, f)) ||
		    (type == CTA_PROTOINFO_DCCP && !kct_get_dccp(v, f)))
			return false;
	return r.len == 0;
}

/* What both directions count, as far as the message says. */
struct packets {
	uint64_t	 n[2];		/* original, reply */
	unsigned	 seen;		/* of the directions */
};

static bool
get_counters(struct rbuf r, struct packets *c, unsigned dir)
{
	struct rbuf	 v;
	unsigned	 type;
	uint32_t	 n32 = 0;
	bool		 ok = true;

	while (ok && nl_attr_next(&r, &type, &v)) {
		switch (type) {
		case CTA_COUNTERS_PACKETS:
			ok = rbuf_u64(&v, &c->n[dir]);
			c->seen |= 1u << dir;
			break;
		case CTA_COUNTERS32_PACKETS:
			ok = rbuf_u32(&v, &n32);
			c->n[dir] = n32;
			c->seen |= 1u << dir;
			break;
		default:
			break;
		}
	}
	return ok && r.len == 0;
}

/*
 * Half of the counters proves nothing.  In 32 bits only a sum of 0 is 0: what
 * counts is whether there was a packet, and whether there was another one since.
 */
static void
set_packets(struct flow *f, const struct packets *c)
{
	uint64_t	 sum = c->n[0] + c->n[1];

	if (c->seen != 3)
		return;
	if (sum < c->n[0])
		sum = UINT64_MAX;
	f->packets = (uint32_t)(sum > UINT32_MAX ? sum % UINT32_MAX + 1 : sum);
	f->has |= FLOW_HAS_PACKETS;
}

/* Attributes that are one big-endian number. */
static bool
get_number(unsigned type, struct rbuf *v, struct flow *f)
{
	switch (type) {
	case CTA_STATUS:
		f->has |= FLOW_HAS_STATUS;
		return rbuf_u32(v, &f->status);
	case CTA_TIMEOUT:
		f->has |= FLOW_HAS_TIMEOUT;
		if (!rbuf_u32(v, &f->timeout_s))
			return false;
		/* full seconds: the last one shows as 0, which for us is "not known" */
		if (f->timeout_s == 0)
			f->timeout_s = 1;
		return true;
	case CTA_MARK:
		f->has |= FLOW_HAS_MARK;
		return rbuf_u32(v, &f->mark);
	case CTA_ID:
		f->has |= FLOW_HAS_ID;
		return rbuf_u32(v, &f->id);
	case CTA_ZONE:
		return rbuf_u16(v, &f->zone);
	default:
		return kct_get_rare(type, *v, f);
	}
}

static void
set_zone(struct flow *f, const struct kct_tuple_extra *orig, const struct kct_tuple_extra *reply)
{
	if (f->zone != 0) {
		f->zone_dir = FLOW_ZONE_BOTH;
	} else if (orig->zone != 0) {
		f->zone = orig->zone;
		f->zone_dir = FLOW_ZONE_ORIG;
	} else if (reply->zone != 0) {
		f->zone = reply->zone;
		f->zone_dir = FLOW_ZONE_REPLY;
	}
}

static int
get_attrs(struct rbuf *r, struct flow *f)
{
	struct kct_tuple_extra	 orig = { .seen = 0 }, reply = { .seen = 0 };
	struct packets		 packets = { .seen = 0 };
	struct rbuf		 v;
	unsigned		 type;
	bool			 ok = true;

	while (ok && nl_attr_next(r, &type, &v)) {
		switch (type) {
		case CTA_TUPLE_ORIG:
			ok = kct_get_tuple(v, f->family, &f->orig, &orig);
			break;
		case CTA_TUPLE_REPLY:
			ok = kct_get_tuple(v, f->family, &f->reply, &reply);
			f->has |= FLOW_HAS_REPLY;
			break;
		case CTA_PROTOINFO:
			ok = get_protoinfo(v, f);
			break;
		case CTA_COUNTERS_ORIG:
			ok = get_counters(v, &packets, 0);
			break;
		case CTA_COUNTERS_REPLY:
			ok = get_counters(v, &packets, 1);
			break;
		default:
			ok = get_number(type, &v, f);
			break;
		}
	}
	if (!ok || r->len != 0 || orig.seen == 0)
		return -EBADMSG;
	f->proto = orig.proto;
	set_zone(f, &orig, &reply);
	set_packets(f, &packets);
	return 0;
}

int
kct_parse(const void *msg, size_t len, struct flow *f, enum kct_msg_type *type)
{
	struct nlmsghdr		 h;
	struct nfgenmsg		 g;
	struct rbuf		 r;
	bool			 expect;

	rbuf_init(&r, msg, len);
	if (!rbuf_bytes(&r, &h, sizeof(h)) || !rbuf_bytes(&r, &g, sizeof(g)))
		return -EBADMSG;
	if (h.nlmsg_len < HEAD || h.nlmsg_len > len)
		return -EBADMSG;
	expect = h.nlmsg_type >> 8 == NFNL_SUBSYS_CTNETLINK_EXP;
	if (!expect && h.nlmsg_type >> 8 != NFNL_SUBSYS_CTNETLINK)
		return -ENOMSG;
	/* the numbers of both subsystems are the same */
	if ((h.nlmsg_type & 0xff) == IPCTNL_MSG_CT_NEW)
		*type = h.nlmsg_flags & (NLM_F_CREATE | NLM_F_EXCL) ?
		    KCT_MSG_NEW : KCT_MSG_UPDATE;
	else if ((h.nlmsg_type & 0xff) == IPCTNL_MSG_CT_DELETE)
		*type = KCT_MSG_DESTROY;
	else
		return -ENOMSG;
	if (g.nfgen_family != AF_INET && g.nfgen_family != AF_INET6)
		return -EAFNOSUPPORT;
	memset(f, 0, sizeof(*f));
	f->family = g.nfgen_family;
	r.len = h.nlmsg_len - HEAD;
	return expect ? kct_parse_expect(r, f) : get_attrs(&r, f);
}

/* --- building ------------------------------------------------------------ */

static bool
has_ports(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_GRE:
	case PROTO_DCCP:
	case PROTO_UDPLITE:
		return true;
	default:
		return false;
	}
}

static uint8_t *
put_l4(uint8_t *p, uint8_t family, uint8_t proto, const struct flow_tuple *t)
{
	uint8_t	*nest;
	bool	 v6 = family == AF_INET6;

	p = nest = nest_begin(p, CTA_TUPLE_PROTO);
	p = put_u8(p, CTA_PROTO_NUM, proto);
	if (has_ports(proto)) {
		p = put_be16(p, CTA_PROTO_SRC_PORT, t->l4src);
		p = put_be16(p, CTA_PROTO_DST_PORT, t->l4dst);
	} else if (flow_proto_is_icmp(family, proto)) {
		p = put_be16(p, v6 ? CTA_PROTO_ICMPV6_ID : CTA_PROTO_ICMP_ID, t->l4src);
		p = put_u8(p, v6 ? CTA_PROTO_ICMPV6_TYPE : CTA_PROTO_ICMP_TYPE,
		    (uint8_t)(t->l4dst >> 8));
		p = put_u8(p, v6 ? CTA_PROTO_ICMPV6_CODE : CTA_PROTO_ICMP_CODE,
		    (uint8_t)t->l4dst);
	}
	nest_end(nest, p);
	return p;
}

uint8_t *
kct_put_tuple(uint8_t *p, unsigned type, uint8_t family, uint8_t proto, const struct flow_tuple *t,
    uint16_t zone)
{
	uint8_t		*tuple, *ip;

	p = tuple = nest_begin(p, type);
	p = ip = nest_begin(p, CTA_TUPLE_IP);
	p = put_addr(p, family, CTA_IP_V4_SRC, CTA_IP_V6_SRC, &t->src);
	p = put_addr(p, family, CTA_IP_V4_DST, CTA_IP_V6_DST, &t->dst);
	nest_end(ip, p);
	p = put_l4(p, family, proto, t);
	if (zone != 0)
		p = put_be16(p, CTA_TUPLE_ZONE, zone);
	nest_end(tuple, p);
	return p;
}

uint8_t *
kct_put_header(uint8_t *buf, unsigned subsys, unsigned msg, unsigned flags, uint32_t seq,
    uint8_t family)
{
	struct nlmsghdr	 h = {
		.nlmsg_type = (uint16_t)(subsys << 8 | msg),
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
		.nlmsg_seq = seq,
	};
	struct nfgenmsg	 g = { .nfgen_family = family, .version = NFNETLINK_V0 };

	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), &g, sizeof(g));
	return buf + HEAD;
}

/*
 * Header, original tuple and zone: what names an entry.  A zone of the reply
 * direction is no part of it: the kernel finds the entry by its original tuple.
 */
static uint8_t *
put_key(uint8_t *buf, unsigned msg, unsigned flags, uint32_t seq, const struct flow *f)
{
	uint8_t	*p = kct_put_header(buf, NFNL_SUBSYS_CTNETLINK, msg, flags, seq, f->family);

	p = kct_put_tuple(p, CTA_TUPLE_ORIG, f->family, f->proto, &f->orig,
	    f->zone_dir == FLOW_ZONE_ORIG ? f->zone : 0);
	if (f->zone_dir == FLOW_ZONE_BOTH)
		p = put_be16(p, CTA_ZONE, f->zone);
	return p;
}

size_t
kct_finish(uint8_t *buf, const uint8_t *end)
{
	uint32_t	 len = (uint32_t)(end - buf);

	memcpy(buf, &len, sizeof(len));
	return len;
}

void
kct_msg_ack(uint8_t *msg)
{
	struct nlmsghdr	 h;

	memcpy(&h, msg, sizeof(h));
	h.nlmsg_flags |= NLM_F_ACK;
	memcpy(msg, &h, sizeof(h));
}

/*
 * State, scale and flags as far as `has` says; only bits in mask are touched.
 *
 * The kernel takes scales only if both directions scale.  Of a connection that
 * awaits its first answer nobody knows that yet, but the scale of the one that
 * asked would be lost for ever: the other one is said to scale, too, by 0; the
 * kernel overrides that with what the answer says.
 */
static uint8_t *
put_tcp(uint8_t *p, const struct flow *f, uint32_t has, unsigned mask, unsigned set)
{
	uint8_t		*info, *tcp;
	unsigned	 reply = f->tcp_flags[1] & FLOW_TF_REPLICATED;

	if ((has & FLOW_HAS_TCP_WSCALE) && f->tcp_state == FLOW_TCP_SYN_SENT)
		reply |= f->tcp_flags[0] & FLOW_TF_WINDOW_SCALE;

	p = info = nest_begin(p, CTA_PROTOINFO);
	p = tcp = nest_begin(p, CTA_PROTOINFO_TCP);
	if (has & FLOW_HAS_TCP_STATE)
		p = put_u8(p, CTA_PROTOINFO_TCP_STATE, f->tcp_state);
	if (has & FLOW_HAS_TCP_WSCALE) {
		p = put_u8(p, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, f->tcp_wscale[0]);
		p = put_u8(p, CTA_PROTOINFO_TCP_WSCALE_REPLY, f->tcp_wscale[1]);
	}
	if (mask != 0) {
		p = put_flags(p, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
		    (f->tcp_flags[0] & FLOW_TF_REPLICATED) | set, mask);
		p = put_flags(p, CTA_PROTOINFO_TCP_FLAGS_REPLY,
		    reply | set, mask);
	}
	nest_end(tcp, p);
	nest_end(info, p);
	return p;
}

/*
 * An exact address to translate to, and the port (or ICMP id).  Without a port
 * the kernel leaves it alone, which is right for protocols that have none, and
 * for GRE, whose keys NAT does not choose.
 */
static uint8_t *
put_nat(uint8_t *p, const struct flow *f, unsigned type, const struct flow_addr *a, uint16_t port)
{
	uint8_t	*nat, *l4;

	p = nat = nest_begin(p, type);
	p = put_addr(p, f->family, CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP, a);
	if ((has_ports(f->proto) && f->proto != IPPROTO_GRE) ||
	    flow_proto_is_icmp(f->family, f->proto)) {
		p = l4 = nest_begin(p, CTA_NAT_PROTO);
		p = put_be16(p, CTA_PROTONAT_PORT_MIN, port);
		nest_end(l4, p);
	}
	nest_end(nat, p);
	return p;
}

/* The reply tuple before translation: the kernel applies NAT to it. */
static void
plain_reply(const struct flow *f, struct flow_tuple *r)
{
	bool	 icmp = flow_proto_is_icmp(f->family, f->proto);

	if ((f->status & (FLOW_S_SRC_NAT | FLOW_S_DST_NAT)) == 0) {
		*r = f->reply;
		return;
	}
	flow_tuple_invert(f->family, f->proto, &f->orig, r);
	if (!(f->status & FLOW_S_DST_NAT)) {
		r->src = f->reply.src;
		if (!icmp)
			r->l4src = f->reply.l4src;
	}
	if (!(f->status & FLOW_S_SRC_NAT)) {
		r->dst = f->reply.dst;
		if (!icmp)
			r->l4dst = f->reply.l4dst;
	}
	/* no range is given for keys: what their helper has made of them stands already */
	if (f->proto == IPPROTO_GRE) {
		r->l4src = f->reply.l4src;
		r->l4dst = f->reply.l4dst;
	}
}

/*
 * Bits of the status to set.  When a packet of a GRE flow passes, the kernel
 * extends its life by what it noted when the flow began, and it has noted
 * nothing of one that was written: such a flow would end at once.  So its life
 * is made a fixed one; the peers are not told (flow_pack()), and updates leave
 * the timeout alone.
 */
static uint32_t
status_of_new(const struct flow *f)
{
	return (f->status & KCT_STATUS_SETTABLE) | FLOW_S_CONFIRMED |
	    (f->proto == IPPROTO_GRE ? FLOW_S_FIXED_TIMEOUT : 0);
}

size_t
kct_build_create(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f, unsigned options)
{
	struct flow_tuple	 reply;
	uint8_t			*p;
	unsigned		 liberal = options & KCT_LIBERAL ? FLOW_TF_BE_LIBERAL : 0;
	bool			 icmp = flow_proto_is_icmp(f->family, f->proto);

	if (cap < KCT_MSG_MAX)
		return 0;
	if (f->expect)
		return kct_build_expect(buf, NLM_F_CREATE | NLM_F_EXCL, seq, f);
	plain_reply(f, &reply);
	p = put_key(buf, IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, seq, f);
	p = kct_put_tuple(p, CTA_TUPLE_REPLY, f->family, f->proto, &reply,
	    f->zone_dir == FLOW_ZONE_REPLY ? f->zone : 0);
	p = put_be32(p, CTA_STATUS, status_of_new(f));
	p = put_be32(p, CTA_TIMEOUT, f->timeout_s);
	if (f->mark != 0)
		p = put_be32(p, CTA_MARK, f->mark);
	if (f->proto == IPPROTO_TCP)
		p = put_tcp(p, f, FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_WSCALE,
		    FLOW_TF_REPLICATED | liberal, liberal);
	if (f->has & FLOW_HAS_RARE) {
		p = kct_put_rare(p, f);
		p = kct_put_rare_new(p, f);
	}
	/* Of a reply, the source is what the destination became, and vice versa. */
	if (f->status & FLOW_S_DST_NAT)
		p = put_nat(p, f, CTA_NAT_DST, &f->reply.src, f->reply.l4src);
	if (f->status & FLOW_S_SRC_NAT)
		p = put_nat(p, f, CTA_NAT_SRC, &f->reply.dst,
		    icmp ? f->reply.l4src : f->reply.l4dst);
	return kct_finish(buf, p);
}

size_t
kct_build_update(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f, uint32_t keep,
    unsigned options)
{
	uint8_t		*p;
	uint32_t	 add = f->has & FLOW_HAS_STATUS ? f->status & KCT_STATUS_SETTABLE : 0;
	unsigned	 liberal = options & KCT_LIBERAL ? FLOW_TF_BE_LIBERAL : 0;
	unsigned	 mask = f->has & FLOW_HAS_TCP_FLAGS ? FLOW_TF_REPLICATED : 0;

	if (cap < KCT_MSG_MAX)
		return 0;
	if (f->expect)
		return kct_build_expect(buf, 0, seq, f);
	p = put_key(buf, IPCTNL_MSG_CT_NEW, 0, seq, f);
	if ((f->has & FLOW_HAS_TIMEOUT) && f->proto != IPPROTO_GRE &&
	    !((f->status | keep) & FLOW_S_FIXED_TIMEOUT))
		p = put_be32(p, CTA_TIMEOUT, f->timeout_s);
	if (add != 0)
		p = put_be32(p, CTA_STATUS, (keep != 0 ? keep : FLOW_S_CONFIRMED) | add);
	if (f->has & FLOW_HAS_MARK)
		p = put_be32(p, CTA_MARK, f->mark);
	if (f->proto == IPPROTO_TCP && (mask | liberal | (f->has & FLOW_HAS_TCP_STATE)) != 0)
		/*
		 * MAXACK_SET says that the kernel knows the windows.  What it
		 * knows of an entry that others brought forward meanwhile is
		 * stale: it has to see them again before it may be strict.
		 */
		p = put_tcp(p, f, f->has, mask | liberal | (liberal ? FLOW_TF_MAXACK_SET : 0),
		    liberal);
	if (f->has & FLOW_HAS_RARE)
		p = kct_put_rare(p, f);
	return kct_finish(buf, p);
}

size_t
kct_build_timeout(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f)
{
	uint8_t	*p;

	if (cap < KCT_MSG_MAX)
		return 0;
	p = put_key(buf, IPCTNL_MSG_CT_NEW, 0, seq, f);
	p = put_be32(p, CTA_TIMEOUT, f->timeout_s);
	return kct_finish(buf, p);
}

/*
 * BE_LIBERAL as in flags, in both directions; the kernel leaves what is not in
 * the mask.  What it knows of the windows of an entry that becomes liberal is
 * stale: MAXACK_SET goes, and comes back when it has seen them again.
 */
static size_t
build_liberal(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f, unsigned flags)
{
	unsigned	 mask = FLOW_TF_BE_LIBERAL | (flags != 0 ? FLOW_TF_MAXACK_SET : 0);
	uint8_t		*p, *info, *tcp;

	if (cap < KCT_MSG_MAX)
		return 0;
	p = put_key(buf, IPCTNL_MSG_CT_NEW, 0, seq, f);
	p = info = nest_begin(p, CTA_PROTOINFO);
	p = tcp = nest_begin(p, CTA_PROTOINFO_TCP);
	p = put_flags(p, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, flags, mask);
	p = put_flags(p, CTA_PROTOINFO_TCP_FLAGS_REPLY, flags, mask);
	nest_end(tcp, p);
	nest_end(info, p);
	return kct_finish(buf, p);
}

size_t
kct_build_strict(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f)
{
	return build_liberal(buf, cap, seq, f, 0);
}

size_t
kct_build_relax(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f)
{
	return build_liberal(buf, cap, seq, f, FLOW_TF_BE_LIBERAL);
}

size_t
kct_build_delete(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f)
{
	uint8_t	*p;

	if (cap < KCT_MSG_MAX)
		return 0;
	if (f->expect)
		return kct_build_expect_key(buf, IPCTNL_MSG_EXP_DELETE, seq, f);
	p = put_key(buf, IPCTNL_MSG_CT_DELETE, 0, seq, f);
	if (f->has & FLOW_HAS_ID)
		p = put_be32(p, CTA_ID, f->id);
	return kct_finish(buf, p);
}

size_t
kct_build_get(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f)
{
	if (cap < KCT_MSG_MAX)
		return 0;
	if (f->expect)
		return kct_build_expect_key(buf, IPCTNL_MSG_EXP_GET, seq, f);
	return kct_finish(buf, put_key(buf, IPCTNL_MSG_CT_GET, 0, seq, f));
}

size_t
kct_build_dump(uint8_t *buf, size_t cap, uint32_t seq, const struct kct_dump_filter *filter)
{
	uint8_t	*p;

	if (cap < KCT_MSG_MAX)
		return 0;
	p = kct_put_header(buf, filter->expect ? NFNL_SUBSYS_CTNETLINK_EXP : NFNL_SUBSYS_CTNETLINK,
	    IPCTNL_MSG_CT_GET, NLM_F_DUMP, seq, filter->family);
	if (filter->expect)
		return kct_finish(buf, p);
	if (filter->mark_mask != 0) {
		p = put_be32(p, CTA_MARK, filter->mark);
		p = put_be32(p, CTA_MARK_MASK, filter->mark_mask);
	}
	if (filter->status_mask != 0) {
		p = put_be32(p, CTA_STATUS, filter->status);
		p = put_be32(p, CTA_STATUS_MASK, filter->status_mask);
	}
	return kct_finish(buf, p);
}

static bool
same_tuple(const struct flow_tuple *a, const struct flow_tuple *b)
{
	return memcmp(&a->src, &b->src, sizeof(a->src)) == 0 &&
	    memcmp(&a->dst, &b->dst, sizeof(a->dst)) == 0 &&
	    a->l4src == b->l4src && a->l4dst == b->l4dst;
}

bool
kct_same_flow(const struct flow *a, const struct flow *b)
{
	if (a->family != b->family || a->proto != b->proto || a->expect != b->expect ||
	    a->zone_dir != b->zone_dir || a->zone != b->zone || !same_tuple(&a->orig, &b->orig))
		return false;
	return a->expect ? a->master_proto == b->master_proto && same_tuple(&a->master, &b->master) :
	    same_tuple(&a->reply, &b->reply);
}
