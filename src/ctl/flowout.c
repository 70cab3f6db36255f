/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows on stdout: as `conntrack -L` prints them, as JSON, as XML.
 *
 * Text and XML are libnetfilter_conntrack's own, so that scripts made for
 * conntrack go on working; the JSON is ours: one flow a line in one array,
 * printed as it comes, so that a million of them need no memory.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "ctl.h"

#define LINE_BYTES	4096

struct flowout {
	enum out_format	 format;
	uint64_t	 n;
};

static const char	 xml_head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<conntrack>";

struct flowout *
flowout_new(enum out_format format)
{
	struct flowout	*o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->format = format;
	return o;
}

uint64_t
flowout_end(struct flowout *o, bool complete)
{
	uint64_t	 n = o->n;

	if (complete && o->format == OUT_XML) {
		if (n == 0)
			puts(xml_head);
		puts("</conntrack>");
	} else if (complete && o->format == OUT_JSON)
		puts(n == 0 ? "[]" : "\n]");
	free(o);
	return n;
}

static void
set_addrs(struct nf_conntrack *ct, const struct flow *f)
{
	static const enum nf_conntrack_attr	 v4[] = {
		ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV4_DST, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV4_DST
	};
	static const enum nf_conntrack_attr	 v6[] = {
		ATTR_ORIG_IPV6_SRC, ATTR_ORIG_IPV6_DST, ATTR_REPL_IPV6_SRC, ATTR_REPL_IPV6_DST
	};
	const struct flow_addr			*a[] = {
		&f->orig.src, &f->orig.dst, &f->reply.src, &f->reply.dst
	};
	size_t					 i;

	nfct_set_attr_u8(ct, ATTR_L3PROTO, f->family);
	nfct_set_attr_u8(ct, ATTR_REPL_L3PROTO, f->family);
	for (i = 0; i < 4; i++)
		nfct_set_attr(ct, f->family == AF_INET ? v4[i] : v6[i], a[i]->b);
}

/* The setters of ICMP make the reply up; its id may have been translated. */
static void
set_l4(struct nf_conntrack *ct, const struct flow *f)
{
	nfct_set_attr_u8(ct, ATTR_L4PROTO, f->proto);
	nfct_set_attr_u8(ct, ATTR_REPL_L4PROTO, f->proto);
	if (flow_proto_is_icmp(f->family, f->proto)) {
		nfct_set_attr_u8(ct, ATTR_ICMP_TYPE, (uint8_t)(f->orig.l4dst >> 8));
		nfct_set_attr_u8(ct, ATTR_ICMP_CODE, (uint8_t)f->orig.l4dst);
		nfct_set_attr_u16(ct, ATTR_ICMP_ID, htons(f->orig.l4src));
		nfct_set_attr_u16(ct, ATTR_REPL_PORT_SRC, htons(f->reply.l4src));
		return;
	}
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_SRC, htons(f->orig.l4src));
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_DST, htons(f->orig.l4dst));
	nfct_set_attr_u16(ct, ATTR_REPL_PORT_SRC, htons(f->reply.l4src));
	nfct_set_attr_u16(ct, ATTR_REPL_PORT_DST, htons(f->reply.l4dst));
}

static void
set_rest(struct nf_conntrack *ct, const struct flow *f)
{
	nfct_set_attr_u32(ct, ATTR_STATUS, f->status);
	if (f->has & FLOW_HAS_TIMEOUT)
		nfct_set_attr_u32(ct, ATTR_TIMEOUT, f->timeout_s);
	nfct_set_attr_u32(ct, ATTR_MARK, f->mark);
	if (f->proto == IPPROTO_TCP && (f->has & FLOW_HAS_TCP_STATE))
		nfct_set_attr_u8(ct, ATTR_TCP_STATE, f->tcp_state);
	switch (f->zone_dir) {
	case FLOW_ZONE_BOTH:
		nfct_set_attr_u16(ct, ATTR_ZONE, f->zone);
		break;
	case FLOW_ZONE_ORIG:
		nfct_set_attr_u16(ct, ATTR_ORIG_ZONE, f->zone);
		break;
	case FLOW_ZONE_REPLY:
		nfct_set_attr_u16(ct, ATTR_REPL_ZONE, f->zone);
		break;
	default:
		break;
	}
}

static bool
print_ct(struct flowout *o, const struct nf_conntrack *ct)
{
	char	 line[LINE_BYTES];
	int	 n;

	n = nfct_snprintf(line, sizeof(line), ct, NFCT_T_UNKNOWN,
	    o->format == OUT_XML ? NFCT_O_XML : NFCT_O_DEFAULT, 0);
	if (n < 0)
		return true;
	if (o->format == OUT_XML && o->n == 0)
		puts(xml_head);
	o->n++;
	return puts(line) >= 0;
}

static json_t *
tuple_json(const struct flow *f, const struct flow_tuple *t)
{
	char	 src[INET6_ADDRSTRLEN] = "", dst[INET6_ADDRSTRLEN] = "";
	json_t	*j;

	inet_ntop(f->family, t->src.b, src, sizeof(src));
	inet_ntop(f->family, t->dst.b, dst, sizeof(dst));
	j = json_pack("{s:s, s:s}", "src", src, "dst", dst);
	if (flow_proto_is_icmp(f->family, f->proto)) {
		json_object_set_new(j, "id", json_integer(t->l4src));
		json_object_set_new(j, "type", json_integer(t->l4dst >> 8));
		json_object_set_new(j, "code", json_integer(t->l4dst & 0xff));
	} else if (f->proto == IPPROTO_GRE) {
		json_object_set_new(j, "srckey", json_integer(t->l4src));
		json_object_set_new(j, "dstkey", json_integer(t->l4dst));
	} else if (t->l4src != 0 || t->l4dst != 0) {
		json_object_set_new(j, "sport", json_integer(t->l4src));
		json_object_set_new(j, "dport", json_integer(t->l4dst));
	}
	return j;
}

static json_t *
status_json(uint32_t status)
{
	static const struct {
		uint32_t	 bit;
		const char	*name;
	} names[] = {
		{ FLOW_S_EXPECTED, "expected" }, { FLOW_S_SEEN_REPLY, "seen_reply" },
		{ FLOW_S_ASSURED, "assured" }, { FLOW_S_CONFIRMED, "confirmed" },
		{ FLOW_S_SRC_NAT, "src_nat" }, { FLOW_S_DST_NAT, "dst_nat" },
		{ FLOW_S_SEQ_ADJUST, "seq_adjust" }, { FLOW_S_DYING, "dying" },
		{ FLOW_S_FIXED_TIMEOUT, "fixed_timeout" }, { FLOW_S_OFFLOAD, "offload" },
		{ FLOW_S_HW_OFFLOAD, "hw_offload" }
	};
	json_t	*list = json_array();
	size_t	 i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (status & names[i].bit)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *
tcp_json(const struct flow *f)
{
	json_t	*j = json_object();

	if (f->has & FLOW_HAS_TCP_FLAGS)
		json_object_set_new(j, "flags",
		    json_pack("[i,i]", f->tcp_flags[0], f->tcp_flags[1]));
	if (f->has & FLOW_HAS_TCP_WSCALE)
		json_object_set_new(j, "window_scale",
		    json_pack("[i,i]", f->tcp_wscale[0], f->tcp_wscale[1]));
	return j;
}

json_t *
flowout_json(const struct flow *f)
{
	static const char *const	 dirs[] = { "none", "both", "original", "reply" };
	json_t				*j = json_object();

	json_object_set_new(j, "family", json_string(f->family == AF_INET6 ? "ipv6" : "ipv4"));
	json_object_set_new(j, "proto", json_string(flow_proto_name(f->proto)));
	json_object_set_new(j, "protonum", json_integer(f->proto));
	json_object_set_new(j, "orig", tuple_json(f, &f->orig));
	json_object_set_new(j, "reply", tuple_json(f, &f->reply));
	if (f->has & FLOW_HAS_TIMEOUT)
		json_object_set_new(j, "timeout", json_integer(f->timeout_s));
	json_object_set_new(j, "status", status_json(f->status));
	json_object_set_new(j, "mark", json_integer(f->mark));
	if (f->zone_dir != FLOW_ZONE_NONE && f->zone_dir <= FLOW_ZONE_REPLY) {
		json_object_set_new(j, "zone", json_integer(f->zone));
		json_object_set_new(j, "zone_dir", json_string(dirs[f->zone_dir]));
	}
	if (f->proto == IPPROTO_TCP && (f->has & FLOW_HAS_TCP_STATE)) {
		json_object_set_new(j, "state", json_string(flow_tcp_state_name(f->tcp_state)));
		json_object_set_new(j, "tcp", tcp_json(f));
	}
	return j;
}

static bool
print_json(struct flowout *o, const struct flow *f)
{
	json_t	*j = flowout_json(f);
	char	*line = json_dumps(j, JSON_COMPACT);
	bool	 ok = false;

	if (line != NULL)
		ok = fputs(o->n == 0 ? "[\n" : ",\n", stdout) >= 0 && fputs(line, stdout) >= 0;
	o->n++;
	free(line);
	json_decref(j);
	return ok;
}

bool
flowout_flow(struct flowout *o, const struct flow *f)
{
	struct nf_conntrack	*ct;
	bool			 ok;

	if (o->format == OUT_JSON)
		return print_json(o, f);
	if ((ct = nfct_new()) == NULL)
		return false;
	set_addrs(ct, f);
	set_l4(ct, f);
	set_rest(ct, f);
	ok = print_ct(o, ct);
	nfct_destroy(ct);
	return ok;
}

bool
flowout_kernel(struct flowout *o, const struct flow *f, const struct nf_conntrack *ct)
{
	return o->format == OUT_JSON ? print_json(o, f) : print_ct(o, ct);
}
