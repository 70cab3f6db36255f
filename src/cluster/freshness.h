/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Freshness: how old what the peers know of our kernel may be (the record DOUBT
 * of doc/wire.md, section 2.2).
 */
#ifndef FRESHNESS_H
#define FRESHNESS_H

#include "cluster.h"

struct freshness *freshness_new(void);
void		 freshness_free(struct freshness *f);

/*
 * The table has just learned what the kernel has had since since_us.  Until
 * that is emitted the peers' knowledge is as old as that.
 */
void		 freshness_late(struct node *n, uint64_t since_us);
/* Events were lost, the first of them not before since_us. */
void		 freshness_overrun(struct node *n, uint64_t since_us);
bool		 freshness_overrun_since(const struct node *n, uint64_t us);
/* There are no events, or there are again. */
void		 freshness_blind(struct node *n, bool blind);
bool		 freshness_is_blind(const struct node *n);
/*
 * Submit a job that deletes: what the table holds is not known to be so until
 * it is done.  0 or -errno; and: it is done.
 */
int		 freshness_submit_delete(struct node *n, struct kjob *j)
		    __attribute__((warn_unused_result));
void		 freshness_delete_done(struct node *n);
uint64_t	 freshness_delete_us(const struct node *n);
/* The answers of a GET of the local table are about to be applied; and: they have been. */
void		 freshness_before_answers(struct node *n);
void		 freshness_after_answers(struct node *n);
/* For feed_ops.trailer: add DOUBT and ECHOED; ctx is the node. */
void		 freshness_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w);
void		 freshness_run(struct node *n);

#endif
