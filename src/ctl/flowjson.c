/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows and expectations as JSON (doc/control.md, "Flows as JSON").
 *
 * All that a struct flow holds, but for what belongs to one kernel alone.  A
 * member is there if the flow has it.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "ctl.h"

#define PROTO_DCCP	33

static void
set(json_t *j, const char *key, json_t *v)
{
	json_object_set_new(j, key, v);
}

static json_t *
addr_json(uint8_t family, const struct flow_addr *a)
{
	char	 text[INET6_ADDRSTRLEN] = "";

	inet_ntop(family, a->b, text, sizeof(text));
	return json_string(text);
}

static bool
has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == PROTO_DCCP ||
	    proto == IPPROTO_SCTP || proto == IPPROTO_UDPLITE;
}

static json_t *
tuple_json(uint8_t family, uint8_t proto, const struct flow_tuple *t)
{
	json_t	*j = json_object();

	set(j, "src", addr_json(family, &t->src));
	set(j, "dst", addr_json(family, &t->dst));
	if (flow_proto_is_icmp(family, proto)) {
		set(j, "id", json_integer(t->l4src));
		set(j, "type", json_integer(t->l4dst >> 8));
		set(j, "code", json_integer(t->l4dst & 0xff));
	} else if (proto == IPPROTO_GRE) {
		set(j, "srckey", json_integer(t->l4src));
		set(j, "dstkey", json_integer(t->l4dst));
	} else if (has_ports(proto) || t->l4src != 0 || t->l4dst != 0) {
		set(j, "sport", json_integer(t->l4src));
		set(j, "dport", json_integer(t->l4dst));
	}
	return j;
}

struct bit_name {
	uint32_t	 bit;
	const char	*name;
};

static json_t *
bits_json(uint32_t bits, const struct bit_name *names, size_t n)
{
	json_t	*list = json_array();
	size_t	 i;

	for (i = 0; i < n; i++)
		if (bits & names[i].bit)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *
status_json(uint32_t status)
{
	static const struct bit_name	 names[] = {
		{ FLOW_S_EXPECTED, "expected" }, { FLOW_S_SEEN_REPLY, "seen_reply" },
		{ FLOW_S_ASSURED, "assured" }, { FLOW_S_CONFIRMED, "confirmed" },
		{ FLOW_S_SRC_NAT, "src_nat" }, { FLOW_S_DST_NAT, "dst_nat" },
		{ FLOW_S_SEQ_ADJUST, "seq_adjust" }, { FLOW_S_DYING, "dying" },
		{ FLOW_S_FIXED_TIMEOUT, "fixed_timeout" }, { FLOW_S_OFFLOAD, "offload" },
		{ FLOW_S_HW_OFFLOAD, "hw_offload" }
	};

	return bits_json(status, names, sizeof(names) / sizeof(names[0]));
}

static void
set_zone(json_t *j, const struct flow *f)
{
	static const char *const	 dirs[] = { "none", "both", "original", "reply" };

	if (f->zone_dir == FLOW_ZONE_NONE || f->zone_dir > FLOW_ZONE_REPLY)
		return;
	set(j, "zone", json_integer(f->zone));
	set(j, "zone_dir", json_string(dirs[f->zone_dir]));
}

static json_t *
tcp_json(const struct flow *f)
{
	json_t	*j = json_object();

	if (f->has & FLOW_HAS_TCP_FLAGS)
		set(j, "flags", json_pack("[i,i]", f->tcp_flags[0], f->tcp_flags[1]));
	if (f->has & FLOW_HAS_TCP_WSCALE)
		set(j, "window_scale", json_pack("[i,i]", f->tcp_wscale[0], f->tcp_wscale[1]));
	return j;
}

static void
set_protocol(json_t *j, const struct flow *f)
{
	const struct flow_rare	*x = &f->rare;

	if (f->proto == IPPROTO_TCP && (f->has & FLOW_HAS_TCP_STATE)) {
		set(j, "state", json_string(flow_tcp_state_name(f->tcp_state)));
		set(j, "tcp", tcp_json(f));
	} else if (f->proto == IPPROTO_SCTP && (f->has & FLOW_HAS_SCTP)) {
		set(j, "state", json_string(flow_sctp_state_name(x->sctp_state)));
		set(j, "sctp", json_pack("{s:[I,I]}", "vtag", (json_int_t)x->sctp_vtag[0],
		    (json_int_t)x->sctp_vtag[1]));
	} else if (f->proto == PROTO_DCCP && (f->has & FLOW_HAS_DCCP)) {
		set(j, "state", json_string(flow_dccp_state_name(x->dccp_state)));
		set(j, "dccp", json_pack("{s:s,s:I}", "role", x->dccp_role == 0 ? "client" : "server",
		    "handshake_seq", (json_int_t)x->dccp_seq));
	}
}

/* Which bits are set, numbered as nft and conntrack do: in words of the host. */
static json_t *
labels_json(const uint8_t labels[FLOW_LABEL_BYTES])
{
	json_t		*list = json_array();
	unsigned	 bit;

	for (bit = 0; bit < FLOW_LABEL_BYTES * 8; bit++)
		if (flowout_label(labels, bit))
			json_array_append_new(list, json_integer((json_int_t)bit));
	return list;
}

static json_t *
master_json(const struct flow *f)
{
	json_t	*j = tuple_json(f->family, f->master_proto, &f->master);

	set(j, "proto", json_string(flow_proto_name(f->master_proto)));
	set(j, "protonum", json_integer(f->master_proto));
	return j;
}

static void
set_seqadj(json_t *j, const struct flow_rare *x)
{
	static const char *const	 dirs[] = { "original", "reply" };
	json_t				*adj = json_object();
	unsigned			 i;

	for (i = 0; i < 2; i++)
		if ((x->seqadj[i].pos | x->seqadj[i].before | x->seqadj[i].after) != 0)
			set(adj, dirs[i], json_pack("{s:I,s:i,s:i}", "pos",
			    (json_int_t)x->seqadj[i].pos, "before", (int32_t)x->seqadj[i].before,
			    "after", (int32_t)x->seqadj[i].after));
	if (json_object_size(adj) > 0)
		set(j, "seqadj", adj);
	else
		json_decref(adj);
}

static void
set_rare(json_t *j, const struct flow *f)
{
	const struct flow_rare	*x = &f->rare;

	if (f->has & FLOW_HAS_LABELS)
		set(j, "labels", labels_json(x->labels));
	if ((f->has & FLOW_HAS_HELPER) && f->helper[0] != '\0')
		set(j, "helper", json_string(f->helper));
	if ((f->has & FLOW_HAS_MASTER) && f->master_proto != 0)
		set(j, "master", master_json(f));
	if (f->has & FLOW_HAS_SEQADJ)
		set_seqadj(j, x);
	if ((f->has & FLOW_HAS_SYNPROXY) && (x->isn | x->its | x->tsoff) != 0)
		set(j, "synproxy", json_pack("{s:I,s:I,s:I}", "isn", (json_int_t)x->isn, "its",
		    (json_int_t)x->its, "tsoff", (json_int_t)x->tsoff));
}

static void
set_flow(json_t *j, const struct flow *f)
{
	set(j, "orig", tuple_json(f->family, f->proto, &f->orig));
	set(j, "reply", tuple_json(f->family, f->proto, &f->reply));
	if (f->has & FLOW_HAS_TIMEOUT)
		set(j, "timeout", json_integer(f->timeout_s));
	set(j, "status", status_json(f->status));
	set(j, "mark", json_integer(f->mark));
	set_zone(j, f);
	set_protocol(j, f);
	set_rare(j, f);
}

static void
set_expectation(json_t *j, const struct flow *f)
{
	static const struct bit_name	 names[] = {
		{ FLOW_E_PERMANENT, "permanent" }, { FLOW_E_INACTIVE, "inactive" },
		{ FLOW_E_USERSPACE, "userspace" }
	};
	const struct flow_expect	*e = &f->exp;
	struct flow_tuple		 mask;

	set(j, "expected", tuple_json(f->family, f->proto, &f->orig));
	if (f->has & FLOW_HAS_TIMEOUT)
		set(j, "timeout", json_integer(f->timeout_s));
	set_zone(j, f);
	if (f->master_proto != 0)
		set(j, "master", master_json(f));
	if (f->helper[0] != '\0')
		set(j, "helper", json_string(f->helper));
	if (!(f->has & FLOW_HAS_EXPECT))
		return;
	flowout_expect_mask(f, &mask);
	set(j, "mask", tuple_json(f->family, f->proto, &mask));
	set(j, "flags", bits_json(e->flags, names, sizeof(names) / sizeof(names[0])));
	set(j, "class", json_integer(e->policy));
	if (e->nat)
		set(j, "nat", json_pack("{s:s,s:o,s:i}", "dir", e->nat_dir == 0 ? "original" : "reply",
		    "addr", addr_json(f->family, &e->nat_addr), "port", e->nat_l4));
	if (e->fn[0] != '\0')
		set(j, "function", json_string(e->fn));
}

json_t *
flowjson(const struct flow *f)
{
	json_t	*j = json_object();

	set(j, "family", json_string(f->family == AF_INET6 ? "ipv6" : "ipv4"));
	set(j, "proto", json_string(flow_proto_name(f->proto)));
	set(j, "protonum", json_integer(f->proto));
	if (f->expect)
		set_expectation(j, f);
	else
		set_flow(j, f);
	return j;
}
