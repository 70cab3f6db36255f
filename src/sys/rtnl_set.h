/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A set of addresses with what is known of each: the memory of rtnl.c.
 *
 * One entry for each address of each interface, because the same address may
 * stand on two, or twice on one with another prefix.  Questions go to an open-addressing index over the distinct
 * addresses, which rtnl_set_index() rebuilds after changes.
 */
#ifndef CTSYNC_RTNL_SET_H
#define CTSYNC_RTNL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

struct rtnl_addr {
	struct flow_addr	 a;
	struct flow_addr	 peer;		/* what the prefix is of: itself, or the other end */
	struct flow_addr	 bcast;		/* all zero: none */
	uint32_t		 ifindex;
	uint32_t		 gen;		/* of the dump that showed it */
	uint8_t			 family;
	uint8_t			 plen;		/* length of the prefix */
	bool			 usable;	/* not while somebody else might have it */
};

struct rtnl_slot {
	struct flow_addr	 a;
	uint8_t			 family;	/* 0: free */
};

struct rtnl_set {
	struct rtnl_addr	*v;
	size_t			 n, cap;
	struct rtnl_slot	*index;
	size_t			 mask;		/* slots - 1, 0: no index */
};

void	rtnl_set_fini(struct rtnl_set *s);
/* Add one that is not there: 0 or -ENOMEM. */
int	rtnl_set_add(struct rtnl_set *s, const struct rtnl_addr *a);
/* The position of that address, with that prefix, on that interface; s->n if it is not there. */
size_t	rtnl_set_find(const struct rtnl_set *s, const struct rtnl_addr *a);
/* Remove the entry at a position; the last one takes its place. */
void	rtnl_set_remove(struct rtnl_set *s, size_t pos);
/* Make the index match the entries: 0 or -ENOMEM, then it stays as it was. */
int	rtnl_set_index(struct rtnl_set *s);
bool	rtnl_set_has(const struct rtnl_set *s, uint8_t family, const struct flow_addr *a);
/* Is it usable, on any interface?  Walks all of them. */
bool	rtnl_set_usable(const struct rtnl_set *s, uint8_t family, const struct flow_addr *a);

#endif
