/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctnetlink: what few entries have.  Labels, SCTP and DCCP, helper, master,
 * sequence adjustment, SYN proxy.
 */
#include <netinet/in.h>

#include "kct_put.h"

#define PROTO_DCCP	33

/* --- parsing ------------------------------------------------------------- */

bool
kct_get_string(struct rbuf v, char *name, size_t max)
{
	size_t	 i, n = strnlen((const char *)v.p, v.len);

	if (n > max)
		return false;
	for (i = 0; i < n; i++)
		if (v.p[i] <= ' ' || v.p[i] > '~')
			n = 0;
	memcpy(name, v.p, n);
	name[n] = '\0';
	return true;
}

static bool
get_helper(struct rbuf r, struct flow *f)
{
	struct rbuf	 v;
	unsigned	 type;

	f->has |= FLOW_HAS_HELPER;
	while (nl_attr_next(&r, &type, &v))
		if (type == CTA_HELP_NAME && !kct_get_string(v, f->helper, FLOW_HELPER_MAX))
			return false;
	return r.len == 0;
}

static bool
get_labels(struct rbuf v, struct flow *f)
{
	size_t	 n = v.len < FLOW_LABEL_BYTES ? v.len : FLOW_LABEL_BYTES;

	f->has |= FLOW_HAS_LABELS;
	return rbuf_bytes(&v, f->rare.labels, n);
}

static bool
get_master(struct rbuf v, struct flow *f)
{
	struct kct_tuple_extra	 x;

	f->has |= FLOW_HAS_MASTER;
	if (!kct_get_tuple(v, f->family, &f->master, &x))
		return false;
	f->master_proto = x.proto;
	return true;
}

/* A nest of numbers whose types are 1, 2, 3. */
static bool
get_three(struct rbuf r, uint32_t *first, uint32_t *second, uint32_t *third)
{
	uint32_t	*const out[] = { NULL, first, second, third };
	struct rbuf	 v;
	unsigned	 type;

	while (nl_attr_next(&r, &type, &v))
		if (type >= 1 && type <= 3 && !rbuf_u32(&v, out[type]))
			return false;
	return r.len == 0;
}

_Static_assert(CTA_SEQADJ_CORRECTION_POS == 1 && CTA_SEQADJ_OFFSET_BEFORE == 2 &&
    CTA_SEQADJ_OFFSET_AFTER == 3 && CTA_SYNPROXY_ISN == 1 && CTA_SYNPROXY_ITS == 2 &&
    CTA_SYNPROXY_TSOFF == 3, "the order of three numbers");

static bool
get_seqadj(struct rbuf r, struct flow *f, unsigned dir)
{
	f->has |= FLOW_HAS_SEQADJ;
	return get_three(r, &f->rare.seqadj[dir].pos, &f->rare.seqadj[dir].before,
	    &f->rare.seqadj[dir].after);
}

static bool
get_synproxy(struct rbuf r, struct flow *f)
{
	f->has |= FLOW_HAS_SYNPROXY;
	return get_three(r, &f->rare.isn, &f->rare.its, &f->rare.tsoff);
}

bool
kct_get_rare(unsigned type, struct rbuf v, struct flow *f)
{
	switch (type) {
	case CTA_LABELS:
		return get_labels(v, f);
	case CTA_HELP:
		return get_helper(v, f);
	case CTA_TUPLE_MASTER:
		return get_master(v, f);
	case CTA_SEQ_ADJ_ORIG:
		return get_seqadj(v, f, 0);
	case CTA_SEQ_ADJ_REPLY:
		return get_seqadj(v, f, 1);
	case CTA_SYNPROXY:
		return get_synproxy(v, f);
	default:
		return true;
	}
}

bool
kct_get_sctp(struct rbuf r, struct flow *f)
{
	struct rbuf	 v;
	unsigned	 type;
	uint8_t		 state;
	bool		 ok = true;

	while (ok && nl_attr_next(&r, &type, &v))
		switch (type) {
		case CTA_PROTOINFO_SCTP_STATE:
			ok = rbuf_u8(&v, &state);
			if (ok && state < FLOW_SCTP_STATES) {
				f->rare.sctp_state = state;
				f->has |= FLOW_HAS_SCTP;
			}
			break;
		case CTA_PROTOINFO_SCTP_VTAG_ORIGINAL:
			ok = rbuf_u32(&v, &f->rare.sctp_vtag[0]);
			break;
		case CTA_PROTOINFO_SCTP_VTAG_REPLY:
			ok = rbuf_u32(&v, &f->rare.sctp_vtag[1]);
			break;
		default:
			break;
		}
	return ok && r.len == 0;
}

bool
kct_get_dccp(struct rbuf r, struct flow *f)
{
	struct rbuf	 v;
	unsigned	 type;
	uint8_t		 state;
	bool		 ok = true;

	while (ok && nl_attr_next(&r, &type, &v))
		switch (type) {
		case CTA_PROTOINFO_DCCP_STATE:
			ok = rbuf_u8(&v, &state);
			if (ok && state < FLOW_DCCP_STATES) {
				f->rare.dccp_state = state;
				f->has |= FLOW_HAS_DCCP;
			}
			break;
		case CTA_PROTOINFO_DCCP_ROLE:
			ok = rbuf_u8(&v, &f->rare.dccp_role);
			f->rare.dccp_role &= FLOW_DCCP_ROLES - 1;
			break;
		case CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ:
			ok = rbuf_u64(&v, &f->rare.dccp_seq);
			break;
		default:
			break;
		}
	return ok && r.len == 0;
}

/* --- building ------------------------------------------------------------ */

static uint8_t *
put_sctp(uint8_t *p, const struct flow_rare *x)
{
	uint8_t	*info, *sctp;

	p = info = nest_begin(p, CTA_PROTOINFO);
	p = sctp = nest_begin(p, CTA_PROTOINFO_SCTP);
	p = put_u8(p, CTA_PROTOINFO_SCTP_STATE, x->sctp_state);
	p = put_be32(p, CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, x->sctp_vtag[0]);
	p = put_be32(p, CTA_PROTOINFO_SCTP_VTAG_REPLY, x->sctp_vtag[1]);
	nest_end(sctp, p);
	nest_end(info, p);
	return p;
}

static uint8_t *
put_dccp(uint8_t *p, const struct flow_rare *x)
{
	uint8_t	*info, *dccp;

	p = info = nest_begin(p, CTA_PROTOINFO);
	p = dccp = nest_begin(p, CTA_PROTOINFO_DCCP);
	p = put_u8(p, CTA_PROTOINFO_DCCP_STATE, x->dccp_state);
	p = put_u8(p, CTA_PROTOINFO_DCCP_ROLE, x->dccp_role);
	p = put_be64(p, CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ, x->dccp_seq);
	nest_end(dccp, p);
	nest_end(info, p);
	return p;
}

/* All bits, also those that are not set: an update takes them away. */
static uint8_t *
put_labels(uint8_t *p, const struct flow_rare *x)
{
	uint8_t	 mask[FLOW_LABEL_BYTES];

	memset(mask, 0xff, sizeof(mask));
	p = put_bytes(p, CTA_LABELS, x->labels, sizeof(x->labels));
	return put_bytes(p, CTA_LABELS_MASK, mask, sizeof(mask));
}

static uint8_t *
put_three(uint8_t *p, unsigned type, uint32_t first, uint32_t second, uint32_t third)
{
	uint8_t	*nest;

	p = nest = nest_begin(p, type);
	p = put_be32(p, 1, first);
	p = put_be32(p, 2, second);
	p = put_be32(p, 3, third);
	nest_end(nest, p);
	return p;
}

uint8_t *
kct_put_rare(uint8_t *p, const struct flow *f)
{
	const struct flow_rare	*x = &f->rare;
	unsigned		 dir;

	if (f->proto == IPPROTO_SCTP && (f->has & FLOW_HAS_SCTP))
		p = put_sctp(p, x);
	if (f->proto == PROTO_DCCP && (f->has & FLOW_HAS_DCCP))
		p = put_dccp(p, x);
	if (f->has & FLOW_HAS_LABELS)
		p = put_labels(p, x);
	for (dir = 0; dir < 2 && (f->has & FLOW_HAS_SEQADJ); dir++)
		if ((x->seqadj[dir].pos | x->seqadj[dir].before | x->seqadj[dir].after) != 0)
			p = put_three(p, dir == 0 ? CTA_SEQ_ADJ_ORIG : CTA_SEQ_ADJ_REPLY,
			    x->seqadj[dir].pos, x->seqadj[dir].before, x->seqadj[dir].after);
	if ((f->has & FLOW_HAS_SYNPROXY) && (x->isn | x->its | x->tsoff) != 0)
		p = put_three(p, CTA_SYNPROXY, x->isn, x->its, x->tsoff);
	return p;
}

uint8_t *
kct_put_rare_new(uint8_t *p, const struct flow *f)
{
	uint8_t	*nest;

	if ((f->has & FLOW_HAS_HELPER) && f->helper[0] != '\0') {
		p = nest = nest_begin(p, CTA_HELP);
		p = put_bytes(p, CTA_HELP_NAME, f->helper, strlen(f->helper) + 1);
		nest_end(nest, p);
	}
	if ((f->has & FLOW_HAS_MASTER) && f->master_proto != 0)
		p = kct_put_tuple(p, CTA_TUPLE_MASTER, f->family, f->master_proto, &f->master, 0);
	return p;
}
