/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a message of ctnetlink about an entry or an expectation.
 *
 * The first byte chooses the table, the kind and the family; the attributes
 * follow.  What is taken from the kernel must be taken by peers, and what is
 * built for the kernel must be a message.
 */
#include <sys/socket.h>

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/kct_msg.h"

#define HEAD		(sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg))
#define ATTRS_MAX	4096u

/* Bits of the first byte. */
#define IS_EXPECT	0x01u
#define IS_V6		0x02u
#define IS_NEW		0x04u
#define IS_DESTROY	0x08u

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
head(uint8_t *msg, size_t len, uint8_t kind)
{
	struct nlmsghdr	 h = {
		.nlmsg_len = (uint32_t)len,
		.nlmsg_type = (uint16_t)((kind & IS_EXPECT ? NFNL_SUBSYS_CTNETLINK_EXP :
		    NFNL_SUBSYS_CTNETLINK) << 8 |
		    (kind & IS_DESTROY ? IPCTNL_MSG_CT_DELETE : IPCTNL_MSG_CT_NEW)),
		.nlmsg_flags = kind & IS_NEW ? NLM_F_CREATE | NLM_F_EXCL : 0
	};
	struct nfgenmsg	 g = { .nfgen_family = kind & IS_V6 ? AF_INET6 : AF_INET };

	memcpy(msg, &h, sizeof(h));
	memcpy(msg + sizeof(h), &g, sizeof(g));
}

static void
check_built(const struct flow *f, const uint8_t *msg, size_t len)
{
	enum kct_msg_type	 type;
	struct flow		 g;

	check(len > HEAD && len <= KCT_MSG_MAX && len % 4 == 0);
	check(kct_parse(msg, len, &g, &type) == 0);
	check(g.expect == f->expect && g.proto == f->proto && g.family == f->family);
	check(memcmp(&g.orig.src, &f->orig.src, sizeof(g.orig.src)) == 0);
}

/* The kernel's entry goes to a peer, and into the peer's kernel. */
static void
check_flow(const struct flow *f)
{
	uint8_t		 body[FLOW_BODY_MAX], msg[KCT_MSG_MAX];
	struct flow	 g, merged = *f;
	size_t		 len;

	check(f->has & FLOW_HAS_PACKETS ? !f->expect : f->packets == 0);
	check(f->born == 0 && !f->commanded);
	len = flow_pack(f, body, sizeof(body));
	check(len > 0 && len <= FLOW_BODY_OWN_MAX);
	check(flow_unpack(body, len, &g) == 0);
	g.timeout_s = f->timeout_s;
	g.has |= FLOW_HAS_TIMEOUT;
	check_built(&g, msg, kct_build_create(msg, sizeof(msg), 1, &g, KCT_LIBERAL));
	check_built(&g, msg, kct_build_update(msg, sizeof(msg), 1, &g, 0, KCT_LIBERAL));
	check(kct_build_get(msg, sizeof(msg), 1, &g) > HEAD);
	check(kct_build_delete(msg, sizeof(msg), 1, &g) > HEAD);
	flow_merge(&merged, &g);
	check(flow_pack(&merged, body, sizeof(body)) > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum kct_msg_type	 type;
	struct flow		 f;
	uint8_t			*msg;
	size_t			 len;

	if (size < 1 || size > ATTRS_MAX)
		return 0;
	len = HEAD + size - 1;
	msg = malloc(len);
	check(msg != NULL);
	head(msg, len, data[0]);
	memcpy(msg + HEAD, data + 1, size - 1);
	if (kct_parse(msg, len, &f, &type) == 0) {
		check(f.expect == ((data[0] & IS_EXPECT) != 0));
		check(f.family == (data[0] & IS_V6 ? AF_INET6 : AF_INET));
		check_flow(&f);
	}
	free(msg);
	return 0;
}
