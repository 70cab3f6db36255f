/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Takeover: what the peers tell goes into this node's kernel (doc/wire.md,
 * section 8.3).
 *
 * One engine does all of it.  A walk looks at the copies of some peers, the most
 * valuable flows first; between walks single entries are followed as the peers
 * tell them.  A command (commit, takeover) is a walk over all peers of which
 * somebody waits for the result.
 */
#ifndef TAKEOVER_H
#define TAKEOVER_H

#include "cluster.h"

struct takeover	*takeover_new(struct node *n);
void		 takeover_free(struct takeover *t);

/* A command.  One that is under way begins anew, and whoever waits gets the result of this one. */
void		 takeover_start(struct node *n, enum node_take what);
/* The node is released: no more is taken, a command that runs has ended. */
void		 takeover_stop(struct node *n);
/* The daemon ends: a command that runs has ended. */
void		 takeover_shutdown(struct node *n);
/* An active node looks at everything that a peer tells, as soon as it can. */
void		 takeover_pass(struct node *n, unsigned peer);
/* And at one entry of its table. */
void		 takeover_follow(struct node *n, unsigned peer, uint32_t h);
/* And at what all of them tell of that key. */
void		 takeover_follow_key(struct node *n, const uint8_t *key, size_t klen);
/* The same for an entry that the peer has just told, if it looks like news. */
void		 takeover_told(struct node *n, unsigned peer, uint32_t h);
/* The peer deletes entry h, which may have been the one that counted. */
void		 takeover_deleted(struct node *n, unsigned peer, uint32_t h);

bool		 takeover_running(const struct node *n);
/* Have all passes been made that were due?  What was refused is not waited for. */
bool		 takeover_complete(const struct node *n);
/* Entries that the kernel refused in the last passes, and that are tried again. */
uint64_t	 takeover_refused(const struct node *n);
/* Since when something may be in the kernel that is not in our table, 0: nothing is. */
uint64_t	 takeover_writing_us(const struct node *n);
const struct node_taken *takeover_result(const struct node *n);

void		 takeover_job_done(struct node *n, struct kjob *j);
/* A bounded piece of work; true if there is more to do at once. */
bool		 takeover_run(struct node *n);
uint64_t	 takeover_due(const struct node *n);

#endif
