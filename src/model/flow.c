/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packing, unpacking and merging of flows (doc/wire.md, "Flow body").
 *
 * Packing is canonical: attributes go in the order of their types, integers in
 * their shortest form, and what follows from other fields is left out (a reply
 * tuple that is the mirror image of the original one, a mark of zero).
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "flow_priv.h"

/* First byte of a key: family, where a zone applies, and what it is. */
#define KEY_V6		0x01u
#define KEY_ZONE_SHIFT	1
#define KEY_ZONE_MASK	0x06u
#define KEY_EXPECT	0x08u

/* A test builds a daemon that knows no more than an older version did. */
#ifndef FLOW_KNOWN_MAX
#define FLOW_KNOWN_MAX	FLOW_A_FOUND
#endif
/* Bits of FLOW_A_COPY. */
#define COPY_UNUSED	1u
#define COPY_STRAY	2u
#define KEY_KNOWN	(KEY_V6 | KEY_ZONE_MASK | (FLOW_KNOWN_MAX < FLOW_A_EXPECT ? 0 : KEY_EXPECT))

/* Mask of FLOW_A_REPLY: what differs from the mirrored original tuple. */
#define REPLY_SRC	0x01u
#define REPLY_DST	0x02u
#define REPLY_L4SRC	0x04u
#define REPLY_L4DST	0x08u
#define REPLY_ALL	0x0fu

#define ICMPV6_PROTO	58

bool
flow_proto_is_icmp(uint8_t family, uint8_t proto)
{
	return family == AF_INET ? proto == IPPROTO_ICMP : proto == ICMPV6_PROTO;
}

/* Counterparts as in nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c. */
static uint8_t
icmp_counterpart(uint8_t family, uint8_t type)
{
	static const uint8_t	 v4[][2] = {
		{ 8, 0 }, { 13, 14 }, { 15, 16 }, { 17, 18 }
	};
	static const uint8_t	 v6[][2] = { { 128, 129 }, { 139, 140 } };
	const uint8_t		(*map)[2] = family == AF_INET ? v4 : v6;
	size_t			 i, n = family == AF_INET ? 4 : 2;

	for (i = 0; i < n; i++) {
		if (map[i][0] == type)
			return map[i][1];
		if (map[i][1] == type)
			return map[i][0];
	}
	return type;
}

void
flow_tuple_invert(uint8_t family, uint8_t proto, const struct flow_tuple *t,
    struct flow_tuple *out)
{
	struct flow_tuple	 r;

	r.src = t->dst;
	r.dst = t->src;
	if (flow_proto_is_icmp(family, proto)) {
		r.l4src = t->l4src;
		r.l4dst = (uint16_t)(icmp_counterpart(family,
		    (uint8_t)(t->l4dst >> 8)) << 8 | (t->l4dst & 0xff));
	} else {
		r.l4src = t->l4dst;
		r.l4dst = t->l4src;
	}
	*out = r;
}

static void
put_any_key(struct wbuf *w, const struct flow *f, unsigned kind, uint8_t proto,
    const struct flow_tuple *t)
{
	wbuf_u8(w, (uint8_t)((f->family == AF_INET6 ? KEY_V6 : 0) |
	    (unsigned)f->zone_dir << KEY_ZONE_SHIFT | kind));
	wbuf_u8(w, proto);
	if (f->zone_dir != FLOW_ZONE_NONE)
		wbuf_u16(w, f->zone);
	flow_put_tuple(w, f->family, t);
}

static void
put_key(struct wbuf *w, const struct flow *f)
{
	put_any_key(w, f, f->expect ? KEY_EXPECT : 0, f->proto, &f->orig);
}

/* Of GRE the fixed timeout is left out: it is how a takeover writes these (kct_build_create()). */
static uint32_t
replicated_status(const struct flow *f)
{
	return f->status & FLOW_S_REPLICATED &
	    ~(f->proto == IPPROTO_GRE ? FLOW_S_FIXED_TIMEOUT : 0u);
}

size_t
flow_pack_key(const struct flow *f, uint8_t out[FLOW_KEY_MAX])
{
	struct wbuf	 w;

	wbuf_init(&w, out, FLOW_KEY_MAX);
	put_key(&w, f);
	return w.len;
}

size_t
flow_pack_master_key(const struct flow *f, uint8_t out[FLOW_KEY_MAX])
{
	struct wbuf	 w;

	if (f->master_proto == 0)
		return 0;
	wbuf_init(&w, out, FLOW_KEY_MAX);
	put_any_key(&w, f, 0, f->master_proto, &f->master);
	return w.len;
}

size_t
flow_key_len(const uint8_t *body, size_t len)
{
	size_t	 n;

	if (len < 2)
		return 0;
	n = 2 + 2 * flow_addr_len(body[0] & KEY_V6 ? AF_INET6 : AF_INET) + 4;
	if (body[0] & KEY_ZONE_MASK)
		n += 2;
	return n <= len ? n : 0;
}

bool
flow_key_expects(const uint8_t *key)
{
	return key[0] & KEY_EXPECT;
}

static void
put_reply(struct wbuf *w, const struct flow *f)
{
	struct flow_tuple	 inv;
	size_t			 alen = flow_addr_len(f->family);
	uint8_t			 mask = 0;
	size_t			 n = 1;

	flow_tuple_invert(f->family, f->proto, &f->orig, &inv);
	if (memcmp(inv.src.b, f->reply.src.b, alen) != 0) {
		mask |= REPLY_SRC;
		n += alen;
	}
	if (memcmp(inv.dst.b, f->reply.dst.b, alen) != 0) {
		mask |= REPLY_DST;
		n += alen;
	}
	if (inv.l4src != f->reply.l4src) {
		mask |= REPLY_L4SRC;
		n += 2;
	}
	if (inv.l4dst != f->reply.l4dst) {
		mask |= REPLY_L4DST;
		n += 2;
	}
	if (mask == 0)
		return;
	wbuf_u8(w, FLOW_A_REPLY | FLOW_A_MUST);
	wbuf_u8(w, (uint8_t)n);
	wbuf_u8(w, mask);
	if (mask & REPLY_SRC)
		wbuf_bytes(w, f->reply.src.b, alen);
	if (mask & REPLY_DST)
		wbuf_bytes(w, f->reply.dst.b, alen);
	if (mask & REPLY_L4SRC)
		wbuf_u16(w, f->reply.l4src);
	if (mask & REPLY_L4DST)
		wbuf_u16(w, f->reply.l4dst);
}

static void
put_uint_attr(struct wbuf *w, uint8_t type, uint32_t v)
{
	wbuf_u8(w, type);
	wbuf_u8(w, (uint8_t)wbuf_uint_len(v));
	wbuf_uint(w, v);
}

static void
put_born(struct wbuf *w, const struct flow *f)
{
	wbuf_u8(w, f->found ? FLOW_A_FOUND : FLOW_A_BORN);
	wbuf_u8(w, (uint8_t)wbuf_uint64_len(f->born));
	wbuf_uint64(w, f->born);
}

static void
put_tcp(struct wbuf *w, const struct flow *f)
{
	wbuf_u8(w, FLOW_A_TCP);
	wbuf_u8(w, 4);
	wbuf_u8(w, f->tcp_state);
	wbuf_u8(w, (uint8_t)(f->tcp_flags[0] & FLOW_TF_REPLICATED));
	wbuf_u8(w, (uint8_t)(f->tcp_flags[1] & FLOW_TF_REPLICATED));
	wbuf_u8(w, (uint8_t)((unsigned)f->tcp_wscale[0] << 4 | (f->tcp_wscale[1] & 0x0fu)));
}

size_t
flow_pack(const struct flow *f, uint8_t *out, size_t cap)
{
	struct wbuf	 w;

	wbuf_init(&w, out, cap);
	put_key(&w, f);
	wbuf_u8(&w, f->incarnation);
	if (f->expect) {
		flow_put_expect(&w, f);
	} else {
		put_uint_attr(&w, FLOW_A_STATUS, replicated_status(f));
		put_reply(&w, f);
		if (f->mark != 0)
			put_uint_attr(&w, FLOW_A_MARK, f->mark);
		if (f->proto == IPPROTO_TCP)
			put_tcp(&w, f);
		if ((f->has & FLOW_HAS_RARE) && FLOW_KNOWN_MAX >= FLOW_A_LABELS)
			flow_put_rare(&w, f);
		if (f->born != 0 && !f->found && FLOW_KNOWN_MAX >= FLOW_A_BORN)
			put_born(&w, f);
		if ((f->copy || f->stray) && FLOW_KNOWN_MAX >= FLOW_A_COPY)
			put_uint_attr(&w, FLOW_A_COPY,
			    (f->copy ? COPY_UNUSED : 0u) | (f->stray ? COPY_STRAY : 0u));
		if (f->born != 0 && f->found && FLOW_KNOWN_MAX >= FLOW_A_FOUND)
			put_born(&w, f);
	}
	wbuf_bytes(&w, f->extra, f->extra_len);
	return wbuf_ok(&w) && w.len <= FLOW_BODY_MAX ? w.len : 0;
}

static int
get_key(struct rbuf *r, struct flow *f)
{
	size_t	 klen = flow_key_len(r->p, r->len);
	uint8_t	 flags, proto;
	uint16_t zone = 0;

	if (klen == 0)
		return -EBADMSG;
	memset(f, 0, sizeof(*f));
	if (!rbuf_u8(r, &flags) || !rbuf_u8(r, &proto))
		return -EBADMSG;
	if ((flags & ~KEY_KNOWN) != 0)
		return -EPROTONOSUPPORT;
	f->family = flags & KEY_V6 ? AF_INET6 : AF_INET;
	f->proto = proto;
	f->zone_dir = (uint8_t)((flags & KEY_ZONE_MASK) >> KEY_ZONE_SHIFT);
	if (f->zone_dir != FLOW_ZONE_NONE && (!rbuf_u16(r, &zone) || zone == 0))
		return -EBADMSG;
	f->zone = zone;
	f->expect = flags & KEY_EXPECT;
	if (!flow_get_tuple(r, f->family, &f->orig))
		return -EBADMSG;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->has = FLOW_HAS_REPLY;
	return 0;
}

int
flow_unpack_key(const uint8_t *key, size_t len, struct flow *f, size_t *used)
{
	struct rbuf	 r;
	struct flow	 t;

	rbuf_init(&r, key, len);
	if (get_key(&r, &t) < 0)
		return -EBADMSG;
	*f = t;
	*used = len - r.len;
	return 0;
}

static int
get_reply(struct rbuf *r, struct flow *f)
{
	size_t	 alen = flow_addr_len(f->family);
	uint8_t	 mask;

	if (!rbuf_u8(r, &mask) || mask == 0 || (mask & ~REPLY_ALL) != 0)
		return -EBADMSG;
	if ((mask & REPLY_SRC) && !rbuf_bytes(r, f->reply.src.b, alen))
		return -EBADMSG;
	if ((mask & REPLY_DST) && !rbuf_bytes(r, f->reply.dst.b, alen))
		return -EBADMSG;
	if ((mask & REPLY_L4SRC) && !rbuf_u16(r, &f->reply.l4src))
		return -EBADMSG;
	if ((mask & REPLY_L4DST) && !rbuf_u16(r, &f->reply.l4dst))
		return -EBADMSG;
	return r->len == 0 ? 0 : -EBADMSG;
}

static int
get_born(struct rbuf *r, struct flow *f)
{
	return f->expect || !rbuf_uint64(r, &f->born) || r->len != 0 || f->born == 0 ||
	    f->born > FLOW_BORN_MAX ? -EBADMSG : 0;
}

static int
get_tcp(struct rbuf *r, struct flow *f)
{
	uint8_t	 state, fl0, fl1, scale;

	if (f->proto != IPPROTO_TCP || !rbuf_u8(r, &state) || !rbuf_u8(r, &fl0) ||
	    !rbuf_u8(r, &fl1) || !rbuf_u8(r, &scale) || r->len != 0)
		return -EBADMSG;
	if (state >= FLOW_TCP_STATES || (scale >> 4) > FLOW_WSCALE_MAX ||
	    (scale & 0x0f) > FLOW_WSCALE_MAX)
		return -EBADMSG;
	f->tcp_state = state;
	f->tcp_flags[0] = fl0 & FLOW_TF_REPLICATED;
	f->tcp_flags[1] = fl1 & FLOW_TF_REPLICATED;
	f->tcp_wscale[0] = scale >> 4;
	f->tcp_wscale[1] = scale & 0x0f;
	f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
	return 0;
}

static int
get_copy(struct rbuf *r, struct flow *f)
{
	if (f->expect || r->len != 1 || *r->p == 0 || (*r->p & (uint8_t)~(COPY_UNUSED | COPY_STRAY)) != 0)
		return -EBADMSG;
	f->copy = *r->p & COPY_UNUSED;
	f->stray = *r->p & COPY_STRAY;
	return 0;
}

/* One attribute; *known says whether this version has a field for it. */
static int
get_attr(uint8_t type, struct rbuf *r, struct flow *f, bool *known)
{
	*known = true;
	if (f->expect && (type & ~FLOW_A_MUST) < FLOW_A_LABELS)
		return -EBADMSG;
	switch (type & ~FLOW_A_MUST) {
	case FLOW_A_STATUS:
		if (!rbuf_uint(r, &f->status) || r->len != 0)
			return -EBADMSG;
		f->status = replicated_status(f);
		f->has |= FLOW_HAS_STATUS;
		return 0;
	case FLOW_A_REPLY:
		return get_reply(r, f);
	case FLOW_A_MARK:
		if (!rbuf_uint(r, &f->mark) || r->len != 0)
			return -EBADMSG;
		return 0;
	case FLOW_A_TCP:
		return get_tcp(r, f);
	case FLOW_A_BORN:
		if (FLOW_KNOWN_MAX < FLOW_A_BORN)
			break;
		return get_born(r, f);
	case FLOW_A_FOUND:
		if (FLOW_KNOWN_MAX < FLOW_A_FOUND)
			break;
		f->found = true;
		return f->born == 0 ? get_born(r, f) : -EBADMSG;
	case FLOW_A_COPY:
		if (FLOW_KNOWN_MAX < FLOW_A_COPY)
			break;
		return get_copy(r, f);
	default:
		if ((type & ~FLOW_A_MUST) <= FLOW_KNOWN_MAX)
			return flow_get_rare(type & (uint8_t)~FLOW_A_MUST, r, f);
		break;
	}
	*known = false;
	return type & FLOW_A_MUST ? -EPROTONOSUPPORT : 0;
}

/*
 * Types ascend strictly, so that no attribute comes twice; the ones that this
 * version knows are the lowest, so that the unknown ones are one run of bytes.
 */
static int
get_attrs(struct rbuf *r, struct flow *f)
{
	struct rbuf	 val;
	const uint8_t	*start;
	uint8_t		 type, len, last = 0;
	bool		 known;
	int		 rc;

	while (r->len > 0) {
		start = r->p;
		if (!rbuf_u8(r, &type) || !rbuf_u8(r, &len) || !rbuf_sub(r, len, &val))
			return -EBADMSG;
		if ((type & ~FLOW_A_MUST) <= last)
			return -EBADMSG;
		last = type & (uint8_t)~FLOW_A_MUST;
		if ((rc = get_attr(type, &val, f, &known)) < 0)
			return rc;
		if (!known && f->extra == NULL)
			f->extra = start;
		if (f->extra != NULL)
			f->extra_len = (uint16_t)(r->p - f->extra);
	}
	return 0;
}

int
flow_unpack(const uint8_t *body, size_t len, struct flow *f)
{
	struct rbuf	 r;
	int		 rc;

	if (len > FLOW_BODY_MAX)
		return -EBADMSG;
	rbuf_init(&r, body, len);
	if ((rc = get_key(&r, f)) < 0)
		return rc;
	if (!rbuf_u8(&r, &f->incarnation))
		return -EBADMSG;
	if (!f->expect)
		f->has |= FLOW_HAS_MARK;
	if ((rc = get_attrs(&r, f)) < 0)
		return rc;
	if (f->expect)
		return f->has & FLOW_HAS_EXPECT && f->master_proto != 0 ? 0 : -EBADMSG;
	return f->has & FLOW_HAS_STATUS ? 0 : -EBADMSG;
}

void
flow_merge(struct flow *f, const struct flow *d)
{
	if (d->has & FLOW_HAS_REPLY)
		f->reply = d->reply;
	if (d->has & FLOW_HAS_STATUS)
		f->status = d->status;
	if (d->has & FLOW_HAS_TIMEOUT)
		f->timeout_s = d->timeout_s;
	if (d->has & FLOW_HAS_MARK)
		f->mark = d->mark;
	if (d->has & FLOW_HAS_ID)
		f->id = d->id;
	if (d->has & FLOW_HAS_PACKETS)
		f->packets = d->packets;
	if (d->has & FLOW_HAS_TCP_STATE)
		f->tcp_state = d->tcp_state;
	if (d->has & FLOW_HAS_TCP_FLAGS)
		memcpy(f->tcp_flags, d->tcp_flags, sizeof(f->tcp_flags));
	if (d->has & FLOW_HAS_TCP_WSCALE)
		memcpy(f->tcp_wscale, d->tcp_wscale, sizeof(f->tcp_wscale));
	if (d->has & (FLOW_HAS_RARE | FLOW_HAS_EXPECT))
		flow_merge_rare(f, d);
	f->has |= d->has;
}

static const struct {
	uint8_t		 proto;
	const char	*name;
} protos[] = {
	{ IPPROTO_ICMP, "icmp" }, { IPPROTO_TCP, "tcp" }, { IPPROTO_UDP, "udp" },
	{ 33, "dccp" }, { IPPROTO_GRE, "gre" }, { IPPROTO_ESP, "esp" },
	{ IPPROTO_AH, "ah" }, { ICMPV6_PROTO, "icmpv6" }, { IPPROTO_SCTP, "sctp" },
	{ 136, "udplite" }
};

const char *
flow_proto_name(uint8_t proto)
{
	size_t	 i;

	for (i = 0; i < sizeof(protos) / sizeof(protos[0]); i++)
		if (protos[i].proto == proto)
			return protos[i].name;
	return "unknown";
}

int
flow_proto_parse(const char *s)
{
	size_t	 i;
	char	*end;
	long	 v;

	for (i = 0; i < sizeof(protos) / sizeof(protos[0]); i++)
		if (strcasecmp(protos[i].name, s) == 0)
			return protos[i].proto;
	if (strcasecmp(s, "ipv6-icmp") == 0)
		return ICMPV6_PROTO;
	if (*s < '0' || *s > '9')
		return -1;
	v = strtol(s, &end, 10);
	return *end == '\0' && v >= 0 && v <= 255 ? (int)v : -1;
}

static const char *const tcp_states[FLOW_TCP_STATES] = {
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT",
	"LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"
};

const char *
flow_tcp_state_name(uint8_t state)
{
	return state < FLOW_TCP_STATES ? tcp_states[state] : "UNKNOWN";
}

int
flow_tcp_state_parse(const char *s)
{
	int	 i;

	for (i = 0; i < FLOW_TCP_STATES; i++)
		if (strcasecmp(tcp_states[i], s) == 0)
			return i;
	return -1;
}

static const char *const sctp_states[FLOW_SCTP_STATES] = {
	"NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT",
	"SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED"
};

const char *
flow_sctp_state_name(uint8_t state)
{
	return state < FLOW_SCTP_STATES ? sctp_states[state] : "UNKNOWN";
}

static const char *const dccp_states[FLOW_DCCP_STATES] = {
	"NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT",
	"IGNORE", "INVALID"
};

const char *
flow_dccp_state_name(uint8_t state)
{
	return state < FLOW_DCCP_STATES ? dccp_states[state] : "UNKNOWN";
}

bool
flow_half_open(const struct flow *f)
{
	return f->proto == IPPROTO_TCP && !f->expect && (f->tcp_state == FLOW_TCP_SYN_SENT ||
	    f->tcp_state == FLOW_TCP_SYN_SENT2 || f->tcp_state == FLOW_TCP_SYN_RECV);
}

bool
flow_behind(const struct flow *f, const struct flow *other)
{
	return (other->status & ~f->status & (FLOW_S_SEEN_REPLY | FLOW_S_ASSURED)) != 0 ||
	    (flow_half_open(f) && other->tcp_state == FLOW_TCP_ESTABLISHED);
}

bool
flow_closed(const struct flow *f)
{
	return f->proto == IPPROTO_TCP && !f->expect && f->tcp_state == FLOW_TCP_TIME_WAIT;
}

bool
flow_same_birth(const struct flow *a, const struct flow *b)
{
	return !a->expect && a->born != 0 && a->born == b->born && !a->found && !b->found;
}

static bool
same_reply(const struct flow *a, const struct flow *b)
{
	return memcmp(&a->reply, &b->reply, sizeof(a->reply)) == 0;
}

enum flow_life
flow_compare_lives(const struct flow *theirs, const struct flow *ours)
{
	bool	 theirs_known = theirs->born != 0 && !theirs->found;
	bool	 ours_known = ours->born != 0 && !ours->found;

	if (theirs->expect)
		return FLOW_LIFE_SAME;
	if (flow_same_birth(theirs, ours))
		return FLOW_LIFE_SAME;	/* although a kernel may translate it in another way */
	/* what was found at some time was born before that */
	if (theirs_known && ours->born != 0 && theirs->born > ours->born)
		return FLOW_LIFE_YOUNGER;
	if (ours_known && theirs->born != 0 && ours->born > theirs->born)
		return FLOW_LIFE_OLDER;
	return same_reply(theirs, ours) ? FLOW_LIFE_SAME : FLOW_LIFE_OTHER;
}

char *
flow_str(const struct flow *f, char buf[FLOW_STR_MAX])
{
	char	 a[4][INET6_ADDRSTRLEN];
	int	 n;

	inet_ntop(f->family, f->orig.src.b, a[0], sizeof(a[0]));
	inet_ntop(f->family, f->orig.dst.b, a[1], sizeof(a[1]));
	inet_ntop(f->family, f->reply.src.b, a[2], sizeof(a[2]));
	inet_ntop(f->family, f->reply.dst.b, a[3], sizeof(a[3]));
	n = snprintf(buf, FLOW_STR_MAX, "%s%s %s:%u > %s:%u", f->expect ? "expected " : "",
	    flow_proto_name(f->proto), a[0], f->orig.l4src, a[1], f->orig.l4dst);
	if (!f->expect && n > 0 && n < FLOW_STR_MAX)
		n += snprintf(buf + n, (size_t)(FLOW_STR_MAX - n), ", reply %s:%u > %s:%u", a[2],
		    f->reply.l4src, a[3], f->reply.l4dst);
	if (f->zone_dir != FLOW_ZONE_NONE && n > 0 && n < FLOW_STR_MAX)
		snprintf(buf + n, (size_t)(FLOW_STR_MAX - n), ", zone %u", f->zone);
	return buf;
}
