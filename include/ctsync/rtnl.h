/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The addresses of this node, kept up to date through rtnetlink.
 *
 * Knows addresses of the network namespace that it was opened in, IPv4 and
 * IPv6; routes of type local without an address (AnyIP) are not among them.
 * Which flows are left out because of an address is left to the caller.
 */
#ifndef CTSYNC_RTNL_H
#define CTSYNC_RTNL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

struct ev_loop;
struct rtnl;

#define RTNL_LOST_MAX	1024	/* lost addresses remembered at most, the newest ones */

struct rtnl_ops {
	/*
	 * Addresses came or went, or became usable, or cease to be; called at
	 * once, for all changes that were read together.
	 */
	void	(*changed)(void *ctx);
};

struct rtnl_stats {
	uint64_t	 added, removed;
	uint64_t	 overruns;	/* each is followed by a new dump */
	uint64_t	 dumps;
	uint64_t	 bad;		/* messages that could not be parsed */
	size_t		 addresses;
};

/*
 * Subscribe, then read all addresses: blocks until they are there, 2 s at most.
 * lost_keep_ms: how long a lost address is remembered.  The object, or NULL and
 * -errno in *err.  Copies *ops; ops->changed may be NULL.
 */
struct rtnl	*rtnl_open(struct ev_loop *loop, uint32_t lost_keep_ms,
		    const struct rtnl_ops *ops, void *ctx, int *err);
/* Not from its callback.  NULL is fine. */
void		 rtnl_close(struct rtnl *r);
/*
 * Take in what the kernel has said by now, without waiting: before a decision
 * that depends on addresses that may have just gone.  Calls the callback.
 */
void		 rtnl_poll(struct rtnl *r);

/*
 * Does a packet to or from this address end here?  Addresses of interfaces and
 * their broadcast addresses; any loopback, multicast, limited broadcast and
 * unspecified address.  Some nanoseconds.
 */
bool		 rtnl_is_own(const struct rtnl *r, uint8_t family, const struct flow_addr *a);
/*
 * Does this node have that address, on any interface, whatever its state, so
 * that it answers for it?  IPv6 addresses count when the test whether somebody
 * else has them is over, is left out or need not be waited for (optimistic),
 * and not if somebody has them.  Walks all addresses: not for each packet.
 */
bool		 rtnl_has(const struct rtnl *r, uint8_t family, const struct flow_addr *a);
/*
 * Was it an address of this node that went, or whose interface was shut down,
 * less than lost_keep_ms ago?  It may be back again.
 */
bool		 rtnl_was_lost(const struct rtnl *r, uint8_t family, const struct flow_addr *a);
const struct rtnl_stats *rtnl_stats(const struct rtnl *r);

#endif
