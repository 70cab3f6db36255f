/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages of ctnetlink for tests, as the kernel composes them (net/netfilter/
 * nf_conntrack_netlink.c): attributes that are not read are among them, and no
 * masks.
 *
 * A message that does not fit fails the test.  km_end() sets its length; more
 * may be added afterwards, and it be ended again.
 */
#ifndef KMSG_H
#define KMSG_H

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

#define KM_HEAD		(sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg))
#define KM_NESTS	4

struct kmsg {
	uint8_t		 b[2048];
	size_t		 n;
	size_t		 nest[KM_NESTS];
	unsigned	 depth;
};

void	 km_begin(struct kmsg *m, unsigned subsys, unsigned type, unsigned flags, uint8_t family);
/* Its length. */
size_t	 km_end(struct kmsg *m);

void	 km_attr(struct kmsg *m, unsigned type, const void *p, size_t len);
void	 km_u8(struct kmsg *m, unsigned type, uint8_t v);
void	 km_be16(struct kmsg *m, unsigned type, uint16_t v);
void	 km_be32(struct kmsg *m, unsigned type, uint32_t v);
void	 km_be64(struct kmsg *m, unsigned type, uint64_t v);
void	 km_string(struct kmsg *m, unsigned type, const char *s);
void	 km_open(struct kmsg *m, unsigned type);
void	 km_close(struct kmsg *m);
/* zone: of that direction, or 0. */
void	 km_tuple(struct kmsg *m, unsigned type, uint8_t family, uint8_t proto,
	    const struct flow_tuple *t, uint16_t zone);

/* What one direction has counted; packets and bytes. */
void	 km_counters(struct kmsg *m, unsigned type, uint64_t packets, uint64_t bytes);

/* Does the kernel show ports, or keys, of that protocol? */
bool	 km_has_ports(uint8_t proto);

/* A whole message: what f->has names, in the order of the kernel; its length. */
size_t	 km_flow(struct kmsg *m, unsigned type, unsigned flags, const struct flow *f);
size_t	 km_expect(struct kmsg *m, unsigned type, unsigned flags, const struct flow *f);

#endif
