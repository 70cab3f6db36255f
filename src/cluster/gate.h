/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The gate: which datagrams count, and sealing what goes out (doc/wire.md,
 * section 1).
 *
 * Nothing but the header is looked at before a datagram is authentic.  What
 * passes is handed to the session of its sender.
 */
#ifndef GATE_H
#define GATE_H

#include "cluster.h"
#include "ctsync/buf.h"
#include "ctsync/seal.h"

/* NULL and -errno in *err. */
struct gate	*gate_new(struct node *n, int *err);
void		 gate_free(struct gate *g);
/* Accept and use other keys from now on: 0 or -errno. */
int		 gate_set_ring(struct node *n, struct seal_ring *ring);
struct seal_ring *gate_ring(const struct node *n);

/* A datagram came in over a link. */
void		 gate_datagram(struct node *n, unsigned link, const uint8_t *p, size_t len);
/* Count a datagram that is refused, and say so at a limited rate.  who: the peer's name, or NULL. */
void		 gate_reject(struct node *n, unsigned link, enum node_reject why, const char *who);
/* The same without a line. */
void		 gate_count(struct node *n, unsigned link, enum node_reject why);

/* Seal *w and send it to one peer over a link; lost if that fails. */
void		 gate_send(struct node *n, unsigned peer, unsigned link, enum seal_type type,
		    uint32_t stream, const struct wbuf *w);
/* Seal a frame once and send it to each peer of the set that is up. */
void		 gate_send_frame(struct node *n, uint32_t peers, uint32_t stream,
		    const uint8_t *frame, size_t len);

uint64_t	 gate_rejected(const struct node *n, enum node_reject why);
uint64_t	 gate_link_rejected(const struct node *n, unsigned link);

#endif
