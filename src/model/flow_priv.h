/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What flow.c (key and the attributes of every flow) and flow_rare.c (those of
 * few, and expectations) share.
 */
#ifndef FLOW_PRIV_H
#define FLOW_PRIV_H

#include <sys/socket.h>

#include "ctsync/flow.h"

static inline size_t
flow_addr_len(uint8_t family)
{
	return family == AF_INET6 ? 16 : 4;
}

/* Addresses and layer-4 words. */
void	flow_put_tuple(struct wbuf *w, uint8_t family, const struct flow_tuple *t);
bool	flow_get_tuple(struct rbuf *r, uint8_t family, struct flow_tuple *t);

/* Attributes from FLOW_A_LABELS on, as far as they are there, in the order of their types. */
void	flow_put_rare(struct wbuf *w, const struct flow *f);
void	flow_put_expect(struct wbuf *w, const struct flow *f);
/* The attribute of that type; 0 or -EBADMSG. */
int	flow_get_rare(uint8_t type, struct rbuf *r, struct flow *f);
void	flow_merge_rare(struct flow *f, const struct flow *d);

#endif
