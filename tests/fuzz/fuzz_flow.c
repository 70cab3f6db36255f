/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a flow body, as it comes in FLOW records and from the control
 * socket.
 *
 * What decodes must pack again, and what was packed must decode to itself:
 * from then on the bytes do not change any more.
 */
#include <sys/socket.h>

#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
check_key(const uint8_t *data, size_t size)
{
	uint8_t		 key[FLOW_KEY_MAX];
	struct flow	 f;
	size_t		 used = 0, klen = flow_key_len(data, size);

	if (flow_unpack_key(data, size, &f, &used) < 0)
		return;
	check(used == klen && klen > 0 && klen <= FLOW_KEY_MAX);
	check(flow_pack_key(&f, key) == klen && memcmp(key, data, klen) == 0);
}

/* A name of at most max bytes, all of them printable. */
static void
check_name(const char *name, size_t max)
{
	size_t	 i;

	check(strnlen(name, max + 1) <= max);
	for (i = 0; name[i] != '\0'; i++)
		check(name[i] > ' ' && name[i] <= '~');
}

/* What few flows have keeps to its limits, and is said to be there if it is. */
static void
check_rare(const struct flow *f)
{
	static const struct flow_rare	 none;
	uint8_t				 key[FLOW_KEY_MAX];

	check_name(f->helper, FLOW_HELPER_MAX);
	check((f->helper[0] != '\0') == ((f->has & FLOW_HAS_HELPER) != 0));
	check((f->master_proto != 0) == ((f->has & FLOW_HAS_MASTER) != 0));
	check((flow_pack_master_key(f, key) != 0) == (f->master_proto != 0));
	if (f->expect) {
		check(f->has & FLOW_HAS_EXPECT && f->master_proto != 0);
		check_name(f->exp.fn, FLOW_EXPECTFN_MAX);
		check((f->exp.flags & ~FLOW_E_FLAGS) == 0 && f->exp.nat_dir <= 1);
		return;
	}
	check(!(f->has & FLOW_HAS_EXPECT));
	check(f->rare.sctp_state < FLOW_SCTP_STATES && f->rare.dccp_state < FLOW_DCCP_STATES);
	check(f->rare.dccp_role < FLOW_DCCP_ROLES);
	check(f->has & FLOW_HAS_RARE || memcmp(&f->rare, &none, sizeof(none)) == 0);
}

static void
check_same_rare(const struct flow *f, const struct flow *g)
{
	check((f->has & FLOW_HAS_RARE) == (g->has & FLOW_HAS_RARE));
	check(strcmp(f->helper, g->helper) == 0 && f->master_proto == g->master_proto);
	check(memcmp(&f->master, &g->master, sizeof(g->master)) == 0);
	if (f->expect)
		check(memcmp(&f->exp, &g->exp, sizeof(g->exp)) == 0);
	else
		check(memcmp(&f->rare, &g->rare, sizeof(g->rare)) == 0);
}

/* Bytes that flow_pack() made: they mean what they were made from, and are the only ones. */
static void
check_packed(const struct flow *f, const uint8_t *body, size_t len)
{
	uint8_t		 again[FLOW_BODY_MAX];
	struct flow	 g;

	check(flow_unpack(body, len, &g) == 0);
	check(memcmp(&f->orig, &g.orig, sizeof(g.orig)) == 0);
	check(memcmp(&f->reply, &g.reply, sizeof(g.reply)) == 0);
	check((f->status & FLOW_S_REPLICATED) == g.status && f->mark == g.mark);
	check(f->incarnation == g.incarnation && f->zone == g.zone && f->born == g.born);
	check(f->tcp_state == g.tcp_state && f->extra_len == g.extra_len);
	check(f->expect == g.expect);
	check_same_rare(f, &g);
	check(flow_pack(&g, again, sizeof(again)) == len && memcmp(again, body, len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t		 body[FLOW_BODY_MAX];
	char		 line[FLOW_STR_MAX];
	struct flow	 f, merged;
	size_t		 len;

	check_key(data, size);
	if (flow_unpack(data, size, &f) < 0)
		return 0;
	check(f.family == AF_INET || f.family == AF_INET6);
	check(f.tcp_state < FLOW_TCP_STATES);
	check(f.tcp_wscale[0] <= FLOW_WSCALE_MAX && f.tcp_wscale[1] <= FLOW_WSCALE_MAX);
	check(f.born == 0 || !f.expect);
	check(f.extra_len == 0 || (f.extra >= data && f.extra + f.extra_len == data + size));
	check(strlen(flow_str(&f, line)) < sizeof(line));
	check_rare(&f);
	merged = f;
	flow_merge(&merged, &f);
	len = flow_pack(&merged, body, sizeof(body));
	/* a body without TCP's attribute gets one */
	check(len > 0 || size + 6 > FLOW_BODY_MAX);
	if (len > 0)
		check_packed(&f, body, len);
	return 0;
}
