/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session: what a node knows of one peer's daemon (doc/wire.md, section 4).
 *
 * Holds the accepted epoch with its replay window, hellos, signals, which links
 * work, and one state.  What the peer says of flows goes to its receiver and to
 * the feed, what it says of roles to ownership.
 */
#ifndef SESSION_H
#define SESSION_H

#include "cluster.h"
#include "ctsync/seal.h"

enum session_state {
	SESSION_UNSEEN,		/* nothing authentic has ever come */
	SESSION_GREETING,	/* it is there, but not both have accepted each other */
	SESSION_UP,
	SESSION_LOST,		/* it was there, and is silent */
	SESSION_FORGOTTEN,	/* silent for so long that nothing is kept for it */
	SESSION_STATES
};

/* NULL and -errno in *err. */
struct session	*session_new(struct node *n, unsigned peer, const char *name, int *err);
void		 session_free(struct session *s);
int		 session_set_ring(struct session *s, struct seal_ring *ring);

/* --- datagrams (for the gate) --- */

/* May a datagram with that header be opened?  Refusals are counted here. */
bool		 session_admits(struct node *n, struct session *s, unsigned link,
		    const struct seal_header *sh);
/* The window for that epoch, NULL if it is not the accepted one. */
struct seal_rx	*session_rx(struct session *s, uint64_t epoch);
/* An authentic datagram; p: its records. */
void		 session_input(struct node *n, struct session *s, unsigned link,
		    const struct seal_header *sh, const uint8_t *p, size_t len);
/* What came in the peer's name was refused. */
void		 session_refused(struct node *n, struct session *s, unsigned link,
		    enum node_reject why);

/* --- state --- */

enum session_state session_state(const struct node *n, const struct session *s);
bool		 session_up(const struct node *n, const struct session *s);
const char	*session_name(const struct session *s);
uint64_t	 session_id(const struct session *s);
uint64_t	 session_epoch(const struct session *s);	/* accepted one, 0: none */
/* When something authentic last came, 0: never; monotonic, microseconds. */
uint64_t	 session_heard_us(const struct session *s);
/* When it was lost the copy of it was equal to what it had. */
bool		 session_equal_at_loss(const struct session *s);
bool		 session_leaving(const struct session *s);
/*
 * Datagrams in its name come and are refused, and nothing authentic comes; *why
 * gets the reason.  And: it is heard, but does not take what we send.
 */
bool		 session_refusing(const struct node *n, const struct session *s,
		    enum node_reject *why);
bool		 session_refuses_us(const struct node *n, const struct session *s);

/* The link that carries its data, -1: none can. */
int		 session_link(const struct node *n, const struct session *s);
/* Does the link bring us packets of it, and it ours? */
bool		 session_link_healthy(const struct node *n, const struct session *s, unsigned link);

/* The newest report of the peer and when it came (0: none in this epoch). */
const struct wire_report *session_report(const struct session *s, uint64_t *at_us);
/* Its stamp, to be echoed in a frame; false if it was echoed already. */
bool		 session_take_stamp(struct session *s, uint64_t *stamp, uint64_t *at_us);
void		 session_counts(const struct session *s, uint64_t *hellos, uint64_t *signals,
		    uint64_t *accepted);

/* --- what others want of it --- */

/* Tell the peer that this stream has ended for it. */
void		 session_restart(struct session *s, uint32_t stream);
/* A signal now; all: on all links. */
void		 session_signal(struct node *n, struct session *s, bool all);
/* What we held of the peer was flushed: it was not equal. */
void		 session_flushed(struct session *s);
/* -EBUSY while it is heard; else as if it had never been seen, but for its epoch. */
int		 session_forget(struct node *n, struct session *s);

void		 session_run(struct node *n, struct session *s);
uint64_t	 session_due(const struct node *n, const struct session *s);

#endif
