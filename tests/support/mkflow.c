/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Plain flows for tests.
 */
#include <sys/socket.h>

#include <netinet/in.h>
#include <string.h>

#include "mkflow.h"

void
mk_flow(struct flow *f, uint8_t proto, uint16_t port)
{
	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = proto;
	f->orig.src.b[0] = 10;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = port;
	f->orig.l4dst = 5060;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f->timeout_s = MK_TIMEOUT_S;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_REPLY;
	if (proto == IPPROTO_TCP) {
		f->tcp_state = FLOW_TCP_ESTABLISHED;
		f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
	}
}

void
mk_master(struct flow *f, uint8_t proto, uint16_t port)
{
	struct flow	 m;

	mk_flow(&m, proto, port);
	f->master = m.orig;
	f->master_proto = proto;
	f->status |= FLOW_S_EXPECTED;
	f->has |= FLOW_HAS_MASTER;
}

void
mk_expect(struct flow *f, uint16_t port, uint16_t master)
{
	mk_flow(f, IPPROTO_TCP, port);
	f->expect = true;
	f->timeout_s = 300;
	memset(f->exp.mask_src.b, 0xff, 4);
	f->exp.mask_l4src = 0xffff;
	mk_master(f, IPPROTO_UDP, master);
	f->status = 0;
	f->has = FLOW_HAS_TIMEOUT | FLOW_HAS_MASTER | FLOW_HAS_HELPER | FLOW_HAS_EXPECT;
}
