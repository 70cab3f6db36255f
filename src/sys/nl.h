/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What every netlink socket of the daemon needs: opening one, and walking
 * messages and attributes with every length checked.
 *
 * What messages mean is left to kct_*.c and rtnl.c.  Readers are rbufs (buf.h),
 * but netlink integers are in host byte order unless its family says otherwise,
 * so headers are copied, never cast.
 */
#ifndef CTSYNC_NL_H
#define CTSYNC_NL_H

#include <sys/socket.h>

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ctsync/buf.h"

/*
 * A bound netlink socket that takes unicast messages from the kernel only.
 * flags: SOCK_NONBLOCK or 0.  *portid gets its port id.  The descriptor or
 * -errno.
 */
int	nl_open(int protocol, int flags, uint32_t *portid);
/*
 * Ask for a receive (SO_RCVBUFFORCE) or send (SO_SNDBUFFORCE) buffer, without
 * privilege for as much of it as the system allows.  Bytes granted, as the
 * kernel accounts them (twice what was asked for), or -errno.
 */
int	nl_bufsize(int fd, int force_option, size_t bytes);

/*
 * The next message of *r: true, its header and its payload; false at the end
 * or when what is left is no message (r->len tells: 0 at the end).
 */
static inline bool
nl_msg_next(struct rbuf *r, struct nlmsghdr *h, struct rbuf *payload)
{
	size_t	 step;

	if (r->len < sizeof(*h))
		return false;
	memcpy(h, r->p, sizeof(*h));
	if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > r->len)
		return false;
	payload->p = r->p + sizeof(*h);
	payload->len = h->nlmsg_len - sizeof(*h);
	step = ((size_t)h->nlmsg_len + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
	if (step > r->len)
		step = r->len;
	r->p += step;
	r->len -= step;
	return true;
}

/*
 * The next attribute: true, its type without flags and its value; false at the
 * end or when what is left is no attribute (r->len tells).
 */
static inline bool
nl_attr_next(struct rbuf *r, unsigned *type, struct rbuf *val)
{
	struct nlattr	 a;
	size_t		 step;

	if (r->len < sizeof(a))
		return false;
	memcpy(&a, r->p, sizeof(a));
	if (a.nla_len < sizeof(a) || a.nla_len > r->len)
		return false;
	*type = a.nla_type & (unsigned)NLA_TYPE_MASK;
	val->p = r->p + sizeof(a);
	val->len = a.nla_len - sizeof(a);
	step = ((size_t)a.nla_len + NLA_ALIGNTO - 1) & ~(size_t)(NLA_ALIGNTO - 1);
	if (step > r->len)
		step = r->len;
	r->p += step;
	r->len -= step;
	return true;
}

/*
 * The error in the payload of an NLMSG_ERROR or NLMSG_DONE message: 0 or
 * -errno; -EBADMSG if it is too short.
 */
int	nl_error(const struct rbuf *payload);

#endif
