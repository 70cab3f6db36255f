/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages of ctnetlink (linux/netfilter/nfnetlink_conntrack.h) to and from
 * struct flow.
 *
 * Pure functions over bytes: sockets, batches and the meaning of errors are
 * left to kct.h.  A builder writes one complete message, its header included,
 * whose length is a multiple of 4, so that messages can follow each other in
 * one buffer.  Nothing is allocated.
 */
#ifndef CTSYNC_KCT_MSG_H
#define CTSYNC_KCT_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

enum kct_msg_type {
	KCT_MSG_NEW,
	KCT_MSG_UPDATE,		/* also what dumps and gets answer */
	KCT_MSG_DESTROY,
	KCT_MSG_TYPES
};

/* Bytes that a builder needs at most. */
#define KCT_MSG_MAX		1024

/* Options of the builders. */
#define KCT_LIBERAL		0x01u	/* TCP: BE_LIBERAL in both directions */

/* Status bits that a create or an update can set; all others are the kernel's. */
#define KCT_STATUS_SETTABLE	(FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_FIXED_TIMEOUT)

/*
 * Decode the message at msg, of which len bytes are there, into *f, an entry
 * or an expectation; what the message holds is in f->has, the key always is.
 * Attributes without a place in struct flow are skipped.  f->extra is NULL,
 * f->incarnation and f->born are 0, f->commanded is false: who asked for it is
 * not part of what is decoded.  f->packets is valid if the entry counts: events
 * of its end, dumps and gets show it.
 *
 * 0; -EBADMSG if it is malformed or incomplete; -ENOMSG if it is no message
 * about an entry; -EAFNOSUPPORT if it is one of neither IPv4 nor IPv6.  After
 * an error *f and *type are undefined.
 */
int	kct_parse(const void *msg, size_t len, struct flow *f, enum kct_msg_type *type)
	    __attribute__((warn_unused_result));

/*
 * All builders: write a message with sequence number seq to buf, which holds
 * cap bytes, and return its length, 0 if cap is below KCT_MSG_MAX.  They set
 * NLM_F_REQUEST; an acknowledgement is asked for with kct_msg_ack().
 *
 * The entry is named by its original tuple and its zone, never by its id.
 */

/*
 * Create an entry; one that is there makes the kernel say EEXIST.  Takes
 * status, timeout, mark, and for TCP state, flags and window scale from *f,
 * whatever f->has says.  With SRC_NAT or DST_NAT in the status the reply tuple
 * becomes the address and port to translate to.
 */
size_t	kct_build_create(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f,
	    unsigned options);
/*
 * Change an entry; ENOENT if it is not there.  What is in f->has is written:
 * status (only bits in KCT_STATUS_SETTABLE are added, none is cleared; keep
 * holds the others as the kernel has them, 0 for CONFIRMED alone), timeout (not
 * with FIXED_TIMEOUT, the kernel refuses it, and not of GRE), mark, TCP state, flags and window scale.
 */
size_t	kct_build_update(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f,
	    uint32_t keep, unsigned options);
/* Change the timeout to f->timeout_s and nothing else. */
size_t	kct_build_timeout(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f);
/* Clear BE_LIBERAL in both directions and change nothing else; TCP only. */
size_t	kct_build_strict(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f);
/* The opposite: set it in both. */
size_t	kct_build_relax(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f);
size_t	kct_build_delete(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f);
size_t	kct_build_get(uint8_t *buf, size_t cap, uint32_t seq, const struct flow *f);

/* What a dump shall show; zero: everything. */
struct kct_dump_filter {
	uint8_t		 family;		/* AF_INET, AF_INET6 or AF_UNSPEC */
	uint32_t	 mark, mark_mask;	/* entries with (mark & mark_mask) == mark */
	uint32_t	 status, status_mask;	/* the same of the status */
	bool		 expect;	/* expectations instead; of the rest only the family counts */
};

size_t	kct_build_dump(uint8_t *buf, size_t cap, uint32_t seq,
	    const struct kct_dump_filter *filter);

/* Ask for an acknowledgement of the message at msg, which a builder wrote. */
void	kct_msg_ack(uint8_t *msg);

/* Are key and reply tuple, of expectations key and master, the same? */
bool	kct_same_flow(const struct flow *a, const struct flow *b);

#endif
