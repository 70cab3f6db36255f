/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel's own table for `show kernel` and `count kernel`: read by the
 * tool itself, through libnetfilter_conntrack, so that the daemon, whose work
 * this would delay, is not needed.  The daemon reads the kernel in another
 * way (src/sys); this one need not be fast.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "ctl.h"

struct kdump_ctx {
	bool	(*fn)(void *, const struct flow *, const struct nf_conntrack *);
	void	*ctx;
	bool	 stopped;
};

static void
get_addr(const struct nf_conntrack *ct, enum nf_conntrack_attr attr, size_t len,
    struct flow_addr *out)
{
	const void	*p = nfct_get_attr(ct, attr);

	if (p != NULL)
		memcpy(out->b, p, len);
}

/* The getters know one ICMP message only; that of the reply follows from it. */
static void
get_icmp_reply(const struct nf_conntrack *ct, struct flow *f)
{
	struct flow_tuple	 inv;

	flow_tuple_invert(f->family, f->proto, &f->orig, &inv);
	f->reply.l4dst = inv.l4dst;
	f->reply.l4src = inv.l4src;
	if (nfct_attr_is_set(ct, ATTR_REPL_PORT_SRC) > 0)
		f->reply.l4src = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_SRC));
}

static void
get_tuples(const struct nf_conntrack *ct, struct flow *f)
{
	bool	 v6 = f->family == AF_INET6;
	size_t	 len = v6 ? 16 : 4;

	get_addr(ct, v6 ? ATTR_ORIG_IPV6_SRC : ATTR_ORIG_IPV4_SRC, len, &f->orig.src);
	get_addr(ct, v6 ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV4_DST, len, &f->orig.dst);
	get_addr(ct, v6 ? ATTR_REPL_IPV6_SRC : ATTR_REPL_IPV4_SRC, len, &f->reply.src);
	get_addr(ct, v6 ? ATTR_REPL_IPV6_DST : ATTR_REPL_IPV4_DST, len, &f->reply.dst);
	if (flow_proto_is_icmp(f->family, f->proto)) {
		f->orig.l4src = ntohs(nfct_get_attr_u16(ct, ATTR_ICMP_ID));
		f->orig.l4dst = (uint16_t)(nfct_get_attr_u8(ct, ATTR_ICMP_TYPE) << 8 |
		    nfct_get_attr_u8(ct, ATTR_ICMP_CODE));
		get_icmp_reply(ct, f);
		return;
	}
	f->orig.l4src = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_SRC));
	f->orig.l4dst = ntohs(nfct_get_attr_u16(ct, ATTR_ORIG_PORT_DST));
	f->reply.l4src = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_SRC));
	f->reply.l4dst = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_DST));
}

static void
get_zone(const struct nf_conntrack *ct, struct flow *f)
{
	static const struct {
		enum nf_conntrack_attr	 attr;
		enum flow_zone_dir	 dir;
	} zones[] = {
		{ ATTR_ZONE, FLOW_ZONE_BOTH }, { ATTR_ORIG_ZONE, FLOW_ZONE_ORIG },
		{ ATTR_REPL_ZONE, FLOW_ZONE_REPLY }
	};
	size_t	 i;

	for (i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		if (nfct_attr_is_set(ct, zones[i].attr) <= 0)
			continue;
		f->zone = nfct_get_attr_u16(ct, zones[i].attr);
		f->zone_dir = (uint8_t)zones[i].dir;
		return;
	}
}

static void
get_tcp(const struct nf_conntrack *ct, struct flow *f)
{
	if (f->proto != IPPROTO_TCP || nfct_attr_is_set(ct, ATTR_TCP_STATE) <= 0)
		return;
	f->tcp_state = nfct_get_attr_u8(ct, ATTR_TCP_STATE);
	f->tcp_flags[0] = nfct_get_attr_u8(ct, ATTR_TCP_FLAGS_ORIG);
	f->tcp_flags[1] = nfct_get_attr_u8(ct, ATTR_TCP_FLAGS_REPL);
	f->tcp_wscale[0] = nfct_get_attr_u8(ct, ATTR_TCP_WSCALE_ORIG);
	f->tcp_wscale[1] = nfct_get_attr_u8(ct, ATTR_TCP_WSCALE_REPL);
	f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

static void
from_ct(const struct nf_conntrack *ct, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->family = nfct_get_attr_u8(ct, ATTR_L3PROTO);
	f->proto = nfct_get_attr_u8(ct, ATTR_L4PROTO);
	f->status = nfct_get_attr_u32(ct, ATTR_STATUS);
	f->mark = nfct_get_attr_u32(ct, ATTR_MARK);
	f->has = FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_REPLY;
	if (nfct_attr_is_set(ct, ATTR_TIMEOUT) > 0) {
		f->timeout_s = nfct_get_attr_u32(ct, ATTR_TIMEOUT);
		f->has |= FLOW_HAS_TIMEOUT;
	}
	get_tuples(ct, f);
	get_zone(ct, f);
	get_tcp(ct, f);
}

static int
entry_cb(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *data)
{
	struct kdump_ctx	*k = data;
	struct flow		 f;

	(void)type;
	from_ct(ct, &f);
	if (f.family != AF_INET && f.family != AF_INET6)
		return NFCT_CB_CONTINUE;
	if (k->fn(k->ctx, &f, ct))
		return NFCT_CB_CONTINUE;
	k->stopped = true;
	return NFCT_CB_STOP;
}

int
kdump(uint8_t family, bool (*fn)(void *ctx, const struct flow *f, const struct nf_conntrack *ct),
    void *ctx)
{
	struct kdump_ctx	 k = { .fn = fn, .ctx = ctx };
	struct nfct_handle	*h;
	uint32_t		 fam = family;
	int			 rc = 0;

	if ((h = nfct_open(CONNTRACK, 0)) == NULL)
		return -errno;
	nfct_callback_register(h, NFCT_T_ALL, entry_cb, &k);
	if (nfct_query(h, NFCT_Q_DUMP, &fam) < 0 && !k.stopped)
		rc = -errno;
	nfct_close(h);
	return rc;
}
