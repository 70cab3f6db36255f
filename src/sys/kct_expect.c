/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctnetlink: expectations.
 *
 * The kernel does not show the zone of an expectation, but wants to know it.
 * The kernel shows the name of the master's helper.  Older ones take the same
 * attribute for the helper of the flow that is expected, and need it to know
 * policies other than the first.  So it is written where that is wanted: for
 * other policies, and for protocols whose expected flows are signalling.  Newer
 * ones know the policies of the master's helper, and ignore the name: what was
 * written is expected without a helper then.
 */
#include <errno.h>

#include "kct_put.h"

static bool
get_mask(struct rbuf v, struct flow *f)
{
	struct flow_tuple	 t;
	struct kct_tuple_extra	 x;

	memset(&t, 0, sizeof(t));
	if (!kct_get_tuple(v, f->family, &t, &x))
		return false;
	f->exp.mask_src = t.src;
	f->exp.mask_l4src = t.l4src;
	return true;
}

static bool
get_nat(struct rbuf r, struct flow *f)
{
	struct kct_tuple_extra	 x;
	struct flow_tuple	 t;
	struct rbuf		 v;
	unsigned		 type;
	uint32_t		 dir = 0;
	bool			 ok = true;

	memset(&t, 0, sizeof(t));
	while (ok && nl_attr_next(&r, &type, &v))
		switch (type) {
		case CTA_EXPECT_NAT_DIR:
			ok = rbuf_u32(&v, &dir) && dir <= 1;
			break;
		case CTA_EXPECT_NAT_TUPLE:
			ok = kct_get_tuple(v, f->family, &t, &x);
			break;
		default:
			break;
		}
	f->exp.nat = true;
	f->exp.nat_dir = (uint8_t)dir;
	f->exp.nat_addr = t.src;
	f->exp.nat_l4 = t.l4src;
	return ok && r.len == 0;
}

static bool
get_number(unsigned type, struct rbuf v, struct flow *f)
{
	uint32_t	 n = 0;

	switch (type) {
	case CTA_EXPECT_TIMEOUT:
		f->has |= FLOW_HAS_TIMEOUT;
		return rbuf_u32(&v, &f->timeout_s);
	case CTA_EXPECT_ID:
		f->has |= FLOW_HAS_ID;
		return rbuf_u32(&v, &f->id);
	case CTA_EXPECT_ZONE:
		return rbuf_u16(&v, &f->zone);
	case CTA_EXPECT_FLAGS:
		if (!rbuf_u32(&v, &n))
			return false;
		f->exp.flags = n & FLOW_E_FLAGS;
		return true;
	case CTA_EXPECT_CLASS:
		if (!rbuf_u32(&v, &n))
			return false;
		f->exp.policy = n < UINT8_MAX ? (uint8_t)n : UINT8_MAX;
		return true;
	default:
		return true;
	}
}

int
kct_parse_expect(struct rbuf r, struct flow *f)
{
	struct kct_tuple_extra	 x = { .seen = 0 }, master = { .seen = 0 };
	struct rbuf		 v;
	unsigned		 type;
	bool			 ok = true;

	f->expect = true;
	while (ok && nl_attr_next(&r, &type, &v))
		switch (type) {
		case CTA_EXPECT_TUPLE:
			ok = kct_get_tuple(v, f->family, &f->orig, &x);
			break;
		case CTA_EXPECT_MASK:
			ok = get_mask(v, f);
			break;
		case CTA_EXPECT_MASTER:
			ok = kct_get_tuple(v, f->family, &f->master, &master);
			break;
		case CTA_EXPECT_HELP_NAME:
			ok = kct_get_string(v, f->helper, FLOW_HELPER_MAX);
			break;
		case CTA_EXPECT_FN:
			ok = kct_get_string(v, f->exp.fn, FLOW_EXPECTFN_MAX);
			break;
		case CTA_EXPECT_NAT:
			ok = get_nat(v, f);
			break;
		default:
			ok = get_number(type, v, f);
			break;
		}
	if (!ok || r.len != 0 || x.seen == 0 || master.seen == 0 || master.proto == 0)
		return -EBADMSG;
	f->proto = x.proto;
	f->master_proto = master.proto;
	f->zone_dir = f->zone != 0 ? FLOW_ZONE_BOTH : FLOW_ZONE_NONE;
	f->has |= FLOW_HAS_EXPECT | FLOW_HAS_HELPER | FLOW_HAS_MASTER;
	return 0;
}

/* --- building ------------------------------------------------------------ */

static uint8_t *
put_zone(uint8_t *p, const struct flow *f)
{
	return f->zone_dir == FLOW_ZONE_NONE ? p : put_be16(p, CTA_EXPECT_ZONE, f->zone);
}

static bool
names_helper(const struct flow *f)
{
	return f->helper[0] != '\0' && (f->exp.policy != 0 || strcmp(f->helper, "sip") == 0);
}

static uint8_t *
put_nat(uint8_t *p, const struct flow *f)
{
	struct flow_tuple	 t;
	uint8_t			*nest;

	memset(&t, 0, sizeof(t));
	t.src = f->exp.nat_addr;
	t.l4src = f->exp.nat_l4;
	p = nest = nest_begin(p, CTA_EXPECT_NAT);
	p = put_be32(p, CTA_EXPECT_NAT_DIR, f->exp.nat_dir);
	p = kct_put_tuple(p, CTA_EXPECT_NAT_TUPLE, f->family, f->proto, &t, 0);
	nest_end(nest, p);
	return p;
}

size_t
kct_build_expect(uint8_t *buf, unsigned flags, uint32_t seq, const struct flow *f)
{
	struct flow_tuple	 mask;
	uint8_t			*p;

	memset(&mask, 0xff, sizeof(mask));
	mask.src = f->exp.mask_src;
	mask.l4src = f->exp.mask_l4src;
	p = kct_put_header(buf, NFNL_SUBSYS_CTNETLINK_EXP, IPCTNL_MSG_EXP_NEW, flags, seq, f->family);
	p = kct_put_tuple(p, CTA_EXPECT_TUPLE, f->family, f->proto, &f->orig, 0);
	p = kct_put_tuple(p, CTA_EXPECT_MASK, f->family, f->proto, &mask, 0);
	p = kct_put_tuple(p, CTA_EXPECT_MASTER, f->family, f->master_proto, &f->master, 0);
	/* the original direction of the master has none then */
	if (f->zone_dir != FLOW_ZONE_REPLY)
		p = put_zone(p, f);
	if (names_helper(f))
		p = put_bytes(p, CTA_EXPECT_HELP_NAME, f->helper, strlen(f->helper) + 1);
	p = put_be32(p, CTA_EXPECT_CLASS, f->exp.policy);
	p = put_be32(p, CTA_EXPECT_FLAGS, f->exp.flags);
	p = put_be32(p, CTA_EXPECT_TIMEOUT, f->timeout_s);
	if (f->exp.nat)
		p = put_nat(p, f);
	if (f->exp.fn[0] != '\0')
		p = put_bytes(p, CTA_EXPECT_FN, f->exp.fn, strlen(f->exp.fn) + 1);
	return kct_finish(buf, p);
}

size_t
kct_build_expect_key(uint8_t *buf, unsigned msg, uint32_t seq, const struct flow *f)
{
	uint8_t	*p;

	p = kct_put_header(buf, NFNL_SUBSYS_CTNETLINK_EXP, msg, 0, seq, f->family);
	p = kct_put_tuple(p, CTA_EXPECT_TUPLE, f->family, f->proto, &f->orig, 0);
	p = put_zone(p, f);
	return kct_finish(buf, p);
}
