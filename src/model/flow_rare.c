/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Attributes that few flows have, and expectations (doc/wire.md, "Flow body").
 *
 * What is all zero is left out, so that the packed form stays canonical.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "flow_priv.h"

#define PROTO_DCCP	33

/* Mask of FLOW_A_SEQADJ. */
#define SEQADJ_ORIG	0x01u
#define SEQADJ_REPLY	0x02u

static const struct flow_rare	 none;

void
flow_put_tuple(struct wbuf *w, uint8_t family, const struct flow_tuple *t)
{
	size_t	 alen = flow_addr_len(family);

	wbuf_bytes(w, t->src.b, alen);
	wbuf_bytes(w, t->dst.b, alen);
	wbuf_u16(w, t->l4src);
	wbuf_u16(w, t->l4dst);
}

bool
flow_get_tuple(struct rbuf *r, uint8_t family, struct flow_tuple *t)
{
	size_t	 alen = flow_addr_len(family);

	return rbuf_bytes(r, t->src.b, alen) && rbuf_bytes(r, t->dst.b, alen) &&
	    rbuf_u16(r, &t->l4src) && rbuf_u16(r, &t->l4dst);
}

/* --- packing ---------------------------------------------------------------------- */

static void
put_head(struct wbuf *w, uint8_t type, size_t len)
{
	wbuf_u8(w, type);
	wbuf_u8(w, (uint8_t)len);
}

static void
put_labels(struct wbuf *w, const struct flow_rare *x)
{
	size_t	 n = FLOW_LABEL_BYTES;

	while (n > 0 && x->labels[n - 1] == 0)
		n--;
	if (n == 0)
		return;
	put_head(w, FLOW_A_LABELS, n);
	wbuf_bytes(w, x->labels, n);
}

static void
put_sctp(struct wbuf *w, const struct flow_rare *x)
{
	put_head(w, FLOW_A_SCTP, 9);
	wbuf_u8(w, x->sctp_state);
	wbuf_u32(w, x->sctp_vtag[0]);
	wbuf_u32(w, x->sctp_vtag[1]);
}

static void
put_dccp(struct wbuf *w, const struct flow_rare *x)
{
	put_head(w, FLOW_A_DCCP, 10);
	wbuf_u8(w, x->dccp_state);
	wbuf_u8(w, x->dccp_role);
	wbuf_u64(w, x->dccp_seq);
}

static void
put_name(struct wbuf *w, uint8_t type, const char *name)
{
	size_t	 n = strlen(name);

	if (n == 0)
		return;
	put_head(w, type, n);
	wbuf_bytes(w, name, n);
}

static void
put_master(struct wbuf *w, const struct flow *f)
{
	if (f->master_proto == 0)
		return;
	put_head(w, FLOW_A_MASTER, 1 + 2 * flow_addr_len(f->family) + 4);
	wbuf_u8(w, f->master_proto);
	flow_put_tuple(w, f->family, &f->master);
}

static void
put_seqadj(struct wbuf *w, const struct flow_rare *x)
{
	unsigned	 i, mask = 0;

	for (i = 0; i < 2; i++)
		if (memcmp(&x->seqadj[i], &none.seqadj[i], sizeof(x->seqadj[i])) != 0)
			mask |= SEQADJ_ORIG << i;
	if (mask == 0)
		return;
	put_head(w, FLOW_A_SEQADJ, mask == (SEQADJ_ORIG | SEQADJ_REPLY) ? 25 : 13);
	wbuf_u8(w, (uint8_t)mask);
	for (i = 0; i < 2; i++) {
		if (!(mask & SEQADJ_ORIG << i))
			continue;
		wbuf_u32(w, x->seqadj[i].pos);
		wbuf_u32(w, x->seqadj[i].before);
		wbuf_u32(w, x->seqadj[i].after);
	}
}

static void
put_synproxy(struct wbuf *w, const struct flow_rare *x)
{
	if ((x->isn | x->its | x->tsoff) == 0)
		return;
	put_head(w, FLOW_A_SYNPROXY, 12);
	wbuf_u32(w, x->isn);
	wbuf_u32(w, x->its);
	wbuf_u32(w, x->tsoff);
}

void
flow_put_rare(struct wbuf *w, const struct flow *f)
{
	put_labels(w, &f->rare);
	if (f->proto == IPPROTO_SCTP && (f->has & FLOW_HAS_SCTP))
		put_sctp(w, &f->rare);
	if (f->proto == PROTO_DCCP && (f->has & FLOW_HAS_DCCP))
		put_dccp(w, &f->rare);
	put_name(w, FLOW_A_HELPER, f->helper);
	put_master(w, f);
	put_seqadj(w, &f->rare);
	put_synproxy(w, &f->rare);
}

void
flow_put_expect(struct wbuf *w, const struct flow *f)
{
	const struct flow_expect	*e = &f->exp;
	size_t				 alen = flow_addr_len(f->family);

	put_name(w, FLOW_A_HELPER, f->helper);
	put_master(w, f);
	put_head(w, FLOW_A_EXPECT, 4 + alen);
	wbuf_u8(w, e->flags);
	wbuf_u8(w, e->policy);
	wbuf_bytes(w, e->mask_src.b, alen);
	wbuf_u16(w, e->mask_l4src);
	if (e->nat) {
		put_head(w, FLOW_A_EXPECT_NAT, 3 + alen);
		wbuf_u8(w, e->nat_dir);
		wbuf_bytes(w, e->nat_addr.b, alen);
		wbuf_u16(w, e->nat_l4);
	}
	put_name(w, FLOW_A_EXPECT_FN, e->fn);
}

/* --- unpacking -------------------------------------------------------------------- */

static bool
get_labels(struct rbuf *r, struct flow_rare *x)
{
	size_t	 n = r->len;

	return n >= 1 && n <= FLOW_LABEL_BYTES && rbuf_bytes(r, x->labels, n) && x->labels[n - 1] != 0;
}

static bool
get_sctp(struct rbuf *r, struct flow *f)
{
	return f->proto == IPPROTO_SCTP && rbuf_u8(r, &f->rare.sctp_state) &&
	    f->rare.sctp_state < FLOW_SCTP_STATES && rbuf_u32(r, &f->rare.sctp_vtag[0]) &&
	    rbuf_u32(r, &f->rare.sctp_vtag[1]);
}

static bool
get_dccp(struct rbuf *r, struct flow *f)
{
	return f->proto == PROTO_DCCP && rbuf_u8(r, &f->rare.dccp_state) &&
	    f->rare.dccp_state < FLOW_DCCP_STATES && rbuf_u8(r, &f->rare.dccp_role) &&
	    f->rare.dccp_role < FLOW_DCCP_ROLES && rbuf_u64(r, &f->rare.dccp_seq);
}

/* Printable, because it goes into logs. */
static bool
get_name(struct rbuf *r, char *name, size_t max)
{
	size_t	 i, n = r->len;

	if (n == 0 || n > max || !rbuf_bytes(r, name, n))
		return false;
	for (i = 0; i < n; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	name[n] = '\0';
	return true;
}

static bool
get_master(struct rbuf *r, struct flow *f)
{
	return rbuf_u8(r, &f->master_proto) && f->master_proto != 0 &&
	    flow_get_tuple(r, f->family, &f->master);
}

static bool
get_seqadj(struct rbuf *r, struct flow_rare *x)
{
	uint8_t	 mask, i;

	if (!rbuf_u8(r, &mask) || mask == 0 || (mask & ~(SEQADJ_ORIG | SEQADJ_REPLY)) != 0)
		return false;
	for (i = 0; i < 2; i++) {
		if (!(mask & SEQADJ_ORIG << i))
			continue;
		if (!rbuf_u32(r, &x->seqadj[i].pos) || !rbuf_u32(r, &x->seqadj[i].before) ||
		    !rbuf_u32(r, &x->seqadj[i].after) ||
		    memcmp(&x->seqadj[i], &none.seqadj[i], sizeof(x->seqadj[i])) == 0)
			return false;
	}
	return true;
}

static bool
get_synproxy(struct rbuf *r, struct flow_rare *x)
{
	return rbuf_u32(r, &x->isn) && rbuf_u32(r, &x->its) && rbuf_u32(r, &x->tsoff) &&
	    (x->isn | x->its | x->tsoff) != 0;
}

static bool
get_expect(struct rbuf *r, struct flow *f)
{
	struct flow_expect	*e = &f->exp;

	return rbuf_u8(r, &e->flags) && (e->flags & ~FLOW_E_FLAGS) == 0 && rbuf_u8(r, &e->policy) &&
	    rbuf_bytes(r, e->mask_src.b, flow_addr_len(f->family)) && rbuf_u16(r, &e->mask_l4src);
}

static bool
get_expect_nat(struct rbuf *r, struct flow *f)
{
	struct flow_expect	*e = &f->exp;

	e->nat = true;
	return rbuf_u8(r, &e->nat_dir) && e->nat_dir <= 1 &&
	    rbuf_bytes(r, e->nat_addr.b, flow_addr_len(f->family)) && rbuf_u16(r, &e->nat_l4);
}

/* Of a flow; false if it is malformed, or belongs to expectations. */
static bool
get_of_flow(uint8_t type, struct rbuf *r, struct flow *f)
{
	switch (type) {
	case FLOW_A_LABELS:
		f->has |= FLOW_HAS_LABELS;
		return get_labels(r, &f->rare);
	case FLOW_A_SCTP:
		f->has |= FLOW_HAS_SCTP;
		return get_sctp(r, f);
	case FLOW_A_DCCP:
		f->has |= FLOW_HAS_DCCP;
		return get_dccp(r, f);
	case FLOW_A_SEQADJ:
		f->has |= FLOW_HAS_SEQADJ;
		return get_seqadj(r, &f->rare);
	case FLOW_A_SYNPROXY:
		f->has |= FLOW_HAS_SYNPROXY;
		return get_synproxy(r, &f->rare);
	default:
		return false;
	}
}

static bool
get_of_expect(uint8_t type, struct rbuf *r, struct flow *f)
{
	switch (type) {
	case FLOW_A_EXPECT:
		f->has |= FLOW_HAS_EXPECT;
		return get_expect(r, f);
	case FLOW_A_EXPECT_NAT:
		return get_expect_nat(r, f);
	case FLOW_A_EXPECT_FN:
		return get_name(r, f->exp.fn, FLOW_EXPECTFN_MAX);
	default:
		return false;
	}
}

int
flow_get_rare(uint8_t type, struct rbuf *r, struct flow *f)
{
	bool	 ok;

	if (type == FLOW_A_HELPER) {
		f->has |= FLOW_HAS_HELPER;
		ok = get_name(r, f->helper, FLOW_HELPER_MAX);
	} else if (type == FLOW_A_MASTER) {
		f->has |= FLOW_HAS_MASTER;
		ok = get_master(r, f);
	} else if (f->expect)
		ok = get_of_expect(type, r, f);
	else
		ok = get_of_flow(type, r, f);
	return ok && r->len == 0 ? 0 : -EBADMSG;
}

/* --- merging ---------------------------------------------------------------------- */

void
flow_merge_rare(struct flow *f, const struct flow *d)
{
	if (d->has & FLOW_HAS_HELPER)
		memcpy(f->helper, d->helper, sizeof(f->helper));
	if (d->has & FLOW_HAS_MASTER) {
		f->master_proto = d->master_proto;
		f->master = d->master;
	}
	if (d->has & FLOW_HAS_EXPECT)
		f->exp = d->exp;
	if (f->expect)
		return;
	if (d->has & FLOW_HAS_LABELS)
		memcpy(f->rare.labels, d->rare.labels, sizeof(f->rare.labels));
	if (d->has & FLOW_HAS_SEQADJ)
		memcpy(f->rare.seqadj, d->rare.seqadj, sizeof(f->rare.seqadj));
	if (d->has & FLOW_HAS_SYNPROXY) {
		f->rare.isn = d->rare.isn;
		f->rare.its = d->rare.its;
		f->rare.tsoff = d->rare.tsoff;
	}
	if (d->has & FLOW_HAS_SCTP) {
		f->rare.sctp_state = d->rare.sctp_state;
		memcpy(f->rare.sctp_vtag, d->rare.sctp_vtag, sizeof(f->rare.sctp_vtag));
	}
	if (d->has & FLOW_HAS_DCCP) {
		f->rare.dccp_state = d->rare.dccp_state;
		f->rare.dccp_role = d->rare.dccp_role;
		f->rare.dccp_seq = d->rare.dccp_seq;
	}
}
