/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows and expectations on stdout: as `conntrack -L -o extended,labels` and
 * `conntrack -L expect` print them, as `-o xml` does, and as JSON.
 *
 * Text and XML are libnetfilter_conntrack's own, so that scripts made for
 * conntrack go on working: here is only how its objects are made of ours.  The
 * JSON (flowjson.c) is one flow a line in one array, printed as it comes, so
 * that a million of them need no memory.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "ctl.h"

#define LINE_BYTES	8192	/* 128 labels with long names */
#define PROTO_DCCP	33

struct flowout {
	enum out_format		 format;
	const char		*root;		/* element of XML */
	struct nfct_labelmap	*labels;	/* NULL: labels have no names here */
	uint64_t		 n;
};

struct flowout *
flowout_new(enum out_format format, bool expect)
{
	struct flowout	*o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->format = format;
	o->root = expect ? "expect" : "conntrack";
	if (format == OUT_TEXT)
		o->labels = nfct_labelmap_new(NULL);
	return o;
}

static void
print_xml_head(const struct flowout *o)
{
	printf("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<%s>\n", o->root);
}

uint64_t
flowout_end(struct flowout *o, bool complete)
{
	uint64_t	 n = o->n;

	if (complete && o->format == OUT_XML) {
		if (n == 0)
			print_xml_head(o);
		printf("</%s>\n", o->root);
	} else if (complete && o->format == OUT_JSON)
		puts(n == 0 ? "[]" : "\n]");
	if (o->labels != NULL)
		nfct_labelmap_destroy(o->labels);
	free(o);
	return n;
}

static bool
print_line(struct flowout *o, const char *line)
{
	if (o->format == OUT_XML && o->n == 0)
		print_xml_head(o);
	o->n++;
	return puts(line) >= 0;
}

static bool
print_json(struct flowout *o, const struct flow *f)
{
	json_t	*j = flowjson(f);
	char	*line = json_dumps(j, JSON_COMPACT);
	bool	 ok = false;

	if (line != NULL)
		ok = fputs(o->n == 0 ? "[\n" : ",\n", stdout) >= 0 && fputs(line, stdout) >= 0;
	o->n++;
	free(line);
	json_decref(j);
	return ok;
}

/* --- flows ------------------------------------------------------------------------ */

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

/*
 * The library keeps id, type and code of ICMP where others have their ports, in
 * the order in which they are here.  Its own setters for ICMP make the reply up.
 */
static void
set_l4(struct nf_conntrack *ct, const struct flow *f)
{
	nfct_set_attr_u8(ct, ATTR_L4PROTO, f->proto);
	nfct_set_attr_u8(ct, ATTR_REPL_L4PROTO, f->proto);
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_SRC, htons(f->orig.l4src));
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_DST, htons(f->orig.l4dst));
	nfct_set_attr_u16(ct, ATTR_REPL_PORT_SRC, htons(f->reply.l4src));
	nfct_set_attr_u16(ct, ATTR_REPL_PORT_DST, htons(f->reply.l4dst));
}

static void
set_state(struct nf_conntrack *ct, const struct flow *f)
{
	if (f->proto == IPPROTO_TCP && (f->has & FLOW_HAS_TCP_STATE))
		nfct_set_attr_u8(ct, ATTR_TCP_STATE, f->tcp_state);
	if (f->proto == IPPROTO_SCTP && (f->has & FLOW_HAS_SCTP))
		nfct_set_attr_u8(ct, ATTR_SCTP_STATE, f->rare.sctp_state);
	if (f->proto == PROTO_DCCP && (f->has & FLOW_HAS_DCCP))
		nfct_set_attr_u8(ct, ATTR_DCCP_STATE, f->rare.dccp_state);
}

static void
set_zone(struct nf_conntrack *ct, const struct flow *f)
{
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

bool
flowout_label(const uint8_t labels[FLOW_LABEL_BYTES], unsigned bit)
{
	uint32_t	 w;

	memcpy(&w, labels + bit / 32 * sizeof(w), sizeof(w));
	return w >> bit % 32 & 1;
}

static void
set_labels(struct nf_conntrack *ct, const struct flow *f)
{
	struct nfct_bitmask	*b = nfct_bitmask_new(FLOW_LABEL_BYTES * 8 - 1);
	unsigned		 bit;

	if (b == NULL)
		return;
	for (bit = 0; bit < FLOW_LABEL_BYTES * 8; bit++)
		if (flowout_label(f->rare.labels, bit))
			nfct_bitmask_set_bit(b, bit);
	nfct_set_attr(ct, ATTR_CONNLABELS, b);	/* it is ct's now */
}

static struct nf_conntrack *
make_ct(const struct flow *f)
{
	struct nf_conntrack	*ct = nfct_new();

	if (ct == NULL)
		return NULL;
	set_addrs(ct, f);
	set_l4(ct, f);
	set_state(ct, f);
	set_zone(ct, f);
	nfct_set_attr_u32(ct, ATTR_STATUS, f->status);
	nfct_set_attr_u32(ct, ATTR_MARK, f->mark);
	if (f->has & FLOW_HAS_TIMEOUT)
		nfct_set_attr_u32(ct, ATTR_TIMEOUT, f->timeout_s);
	if (f->helper[0] != '\0')
		nfct_set_attr(ct, ATTR_HELPER_NAME, f->helper);
	if (f->has & FLOW_HAS_LABELS)
		set_labels(ct, f);
	return ct;
}

static bool
print_ct(struct flowout *o, const struct nf_conntrack *ct)
{
	char	 line[LINE_BYTES];
	int	 n;

	if (o->format == OUT_XML)
		n = nfct_snprintf(line, sizeof(line), ct, NFCT_T_UNKNOWN, NFCT_O_XML, 0);
	else
		n = nfct_snprintf_labels(line, sizeof(line), ct, NFCT_T_UNKNOWN, NFCT_O_DEFAULT,
		    NFCT_OF_SHOW_LAYER3, o->labels);
	return n < 0 || print_line(o, line);
}

/* --- expectations ----------------------------------------------------------------- */

void
flowout_expect_mask(const struct flow *f, struct flow_tuple *mask)
{
	memset(mask, 0, sizeof(*mask));
	mask->src = f->exp.mask_src;
	mask->l4src = f->exp.mask_l4src;
	memset(mask->dst.b, 0xff, f->family == AF_INET ? 4 : 16);
	mask->l4dst = UINT16_MAX;
}

/* One of the tuples of an expectation, as the library wants them. */
static bool
set_tuple(struct nf_expect *exp, enum nf_expect_attr attr, uint8_t family, uint8_t proto,
    const struct flow_tuple *t)
{
	struct nf_conntrack	*ct = nfct_new();
	bool			 v4 = family == AF_INET;

	if (ct == NULL)
		return false;
	nfct_set_attr_u8(ct, ATTR_L3PROTO, family);
	nfct_set_attr(ct, v4 ? ATTR_ORIG_IPV4_SRC : ATTR_ORIG_IPV6_SRC, t->src.b);
	nfct_set_attr(ct, v4 ? ATTR_ORIG_IPV4_DST : ATTR_ORIG_IPV6_DST, t->dst.b);
	nfct_set_attr_u8(ct, ATTR_L4PROTO, proto);
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_SRC, htons(t->l4src));
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_DST, htons(t->l4dst));
	nfexp_set_attr(exp, attr, ct);	/* copies */
	nfct_destroy(ct);
	return true;
}

/*
 * Of a key alone there is nothing but the tuple that is expected.  The kernel
 * never tells the zone, so that conntrack does not print it.
 */
static bool
set_expectation(struct nf_expect *exp, const struct flow *f)
{
	struct flow_tuple	 mask;

	flowout_expect_mask(f, &mask);
	if (!set_tuple(exp, ATTR_EXP_EXPECTED, f->family, f->proto, &f->orig))
		return false;
	nfexp_set_attr_u32(exp, ATTR_EXP_TIMEOUT, f->timeout_s);
	if (f->helper[0] != '\0')
		nfexp_set_attr(exp, ATTR_EXP_HELPER_NAME, f->helper);
	if (!(f->has & FLOW_HAS_EXPECT))
		return true;
	nfexp_set_attr_u32(exp, ATTR_EXP_FLAGS, f->exp.flags);
	nfexp_set_attr_u32(exp, ATTR_EXP_CLASS, f->exp.policy);
	if (f->exp.fn[0] != '\0')
		nfexp_set_attr(exp, ATTR_EXP_FN, f->exp.fn);
	return set_tuple(exp, ATTR_EXP_MASK, f->family, f->proto, &mask) &&
	    set_tuple(exp, ATTR_EXP_MASTER, f->family, f->master_proto, &f->master);
}

static struct nf_expect *
make_expect(const struct flow *f)
{
	struct nf_expect	*exp = nfexp_new();

	if (exp != NULL && !set_expectation(exp, f)) {
		nfexp_destroy(exp);
		return NULL;
	}
	return exp;
}

/* The line begins with the timeout, told or not. */
static bool
print_expect(struct flowout *o, const struct nf_expect *exp, bool timeout)
{
	char	 line[LINE_BYTES];
	int	 n;

	n = nfexp_snprintf(line, sizeof(line), exp, NFCT_T_UNKNOWN,
	    o->format == OUT_XML ? NFCT_O_XML : NFCT_O_DEFAULT, 0);
	if (n < 0)
		return true;
	if (timeout || o->format == OUT_XML)
		return print_line(o, line);
	n = (int)strcspn(line, " ");
	return print_line(o, line[n] == ' ' ? line + n + 1 : line);
}

/* --- either ------------------------------------------------------------------------- */

bool
flowout_flow(struct flowout *o, const struct flow *f)
{
	struct nf_conntrack	*ct;
	struct nf_expect	*exp;
	bool			 ok;

	if (o->format == OUT_JSON)
		return print_json(o, f);
	if (f->expect) {
		if ((exp = make_expect(f)) == NULL)
			return false;
		ok = print_expect(o, exp, f->has & FLOW_HAS_TIMEOUT);
		nfexp_destroy(exp);
		return ok;
	}
	if ((ct = make_ct(f)) == NULL)
		return false;
	ok = print_ct(o, ct);
	nfct_destroy(ct);
	return ok;
}

bool
flowout_kernel(struct flowout *o, const struct kentry *e)
{
	if (o->format == OUT_JSON)
		return print_json(o, &e->f);
	return e->f.expect ? print_expect(o, e->exp, true) : print_ct(o, e->ct);
}
