/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Attributes of ctnetlink messages, written with a bare pointer: the longest
 * message is known (KCT_MSG_MAX) and its room was checked.
 */
#ifndef KCT_PUT_H
#define KCT_PUT_H

#include <sys/socket.h>

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

#include "ctsync/kct_msg.h"
#include "nl.h"

#define KCT_HEAD	(sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg))

static inline uint8_t *
put_head(uint8_t *p, unsigned type, unsigned len)
{
	struct nlattr	 a = { .nla_len = (uint16_t)len, .nla_type = (uint16_t)type };

	memcpy(p, &a, sizeof(a));
	return p + sizeof(a);
}

static inline uint8_t *
put_u8(uint8_t *p, unsigned type, uint8_t v)
{
	uint8_t	 padded[4] = { v, 0, 0, 0 };

	p = put_head(p, type, 5);
	memcpy(p, padded, sizeof(padded));
	return p + sizeof(padded);
}

static inline uint8_t *
put_be16(uint8_t *p, unsigned type, uint16_t v)
{
	uint8_t	 padded[4] = { (uint8_t)(v >> 8), (uint8_t)v, 0, 0 };

	p = put_head(p, type, 6);
	memcpy(p, padded, sizeof(padded));
	return p + sizeof(padded);
}

static inline uint8_t *
put_be32(uint8_t *p, unsigned type, uint32_t v)
{
	uint32_t	 be = htonl(v);

	p = put_head(p, type, 8);
	memcpy(p, &be, sizeof(be));
	return p + sizeof(be);
}

static inline uint8_t *
put_be64(uint8_t *p, unsigned type, uint64_t v)
{
	p = put_head(p, type, 12);
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
	return p + 8;
}

static inline uint8_t *
put_bytes(uint8_t *p, unsigned type, const void *v, size_t n)
{
	static const uint8_t	 zeros[4];
	size_t			 pad = (4 - n % 4) % 4;

	p = put_head(p, type, (unsigned)(4 + n));
	memcpy(p, v, n);
	memcpy(p + n, zeros, pad);
	return p + n + pad;
}

static inline uint8_t *
put_addr(uint8_t *p, uint8_t family, unsigned v4, unsigned v6, const struct flow_addr *a)
{
	if (family == AF_INET6) {
		p = put_head(p, v6, 20);
		memcpy(p, a->b, 16);
		return p + 16;
	}
	p = put_head(p, v4, 8);
	memcpy(p, a->b, 4);
	return p + 4;
}

/* A nest: its length is known when it ends. */
static inline uint8_t *
nest_begin(uint8_t *p, unsigned type)
{
	return put_head(p, type | NLA_F_NESTED, 0);
}

static inline void
nest_end(uint8_t *content, const uint8_t *end)
{
	uint16_t	 len = (uint16_t)((size_t)(end - content) + sizeof(struct nlattr));

	memcpy(content - sizeof(struct nlattr), &len, sizeof(len));
}

static inline uint8_t *
put_flags(uint8_t *p, unsigned type, unsigned flags, unsigned mask)
{
	uint8_t	 padded[4] = { (uint8_t)flags, (uint8_t)mask, 0, 0 };

	p = put_head(p, type, 6);
	memcpy(p, padded, sizeof(padded));
	return p + sizeof(padded);
}

/* --- shared by kct_msg.c, kct_rare.c and kct_expect.c -------------------------------- */

/* What a tuple says besides addresses and ports. */
struct kct_tuple_extra {
	uint16_t	 zone;
	uint8_t		 proto;
	unsigned	 seen;		/* of addresses and protocol */
};

/* False if it is malformed or incomplete. */
bool	 kct_get_tuple(struct rbuf r, uint8_t family, struct flow_tuple *t,
	    struct kct_tuple_extra *x);
/* A tuple, with its own zone unless that is 0. */
uint8_t	*kct_put_tuple(uint8_t *p, unsigned type, uint8_t family, uint8_t proto,
	    const struct flow_tuple *t, uint16_t zone);
/* Header of a message of either table; its length is set by kct_finish(). */
uint8_t	*kct_put_header(uint8_t *buf, unsigned subsys, unsigned msg, unsigned flags, uint32_t seq,
	    uint8_t family);
size_t	 kct_finish(uint8_t *buf, const uint8_t *end);

/* kct_rare.c */
/* An attribute that few entries have; true as well if it is none of these. */
bool	 kct_get_rare(unsigned type, struct rbuf v, struct flow *f);
/* Protocol information of SCTP and DCCP. */
bool	 kct_get_sctp(struct rbuf r, struct flow *f);
bool	 kct_get_dccp(struct rbuf r, struct flow *f);
/*
 * A name, cut off by its end or that of the attribute; false if it is longer
 * than max.  One that cannot be printed, which no peer would take, is none.
 */
bool	 kct_get_string(struct rbuf v, char *name, size_t max);
/* What can be written at any time, and what only at birth (helper, master). */
uint8_t	*kct_put_rare(uint8_t *p, const struct flow *f);
uint8_t	*kct_put_rare_new(uint8_t *p, const struct flow *f);

/* kct_expect.c; the header has been read. */
int	 kct_parse_expect(struct rbuf r, struct flow *f);
/* flags: of netlink, to create; 0 changes the timeout. */
size_t	 kct_build_expect(uint8_t *buf, unsigned flags, uint32_t seq, const struct flow *f);
size_t	 kct_build_expect_key(uint8_t *buf, unsigned msg, uint32_t seq, const struct flow *f);

#endif
