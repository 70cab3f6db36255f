/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is removed from this node's kernel (doc/wire.md, section 8.5): on a
 * standby what the active node has dealt with and does not have; on the active
 * node copies that were never used and have ended elsewhere; and what an
 * operator flushes.
 */
#ifndef PURGE_H
#define PURGE_H

#include "cluster.h"

struct purge	*purge_new(void);
void		 purge_free(struct purge *p);

/* The node has become standby, or its table is new: everything is asked for anew. */
void		 purge_begin(struct node *n);
/* Something may have become expendable: a pass is due. */
void		 purge_wanted(struct node *n);
/* A peer tells entry h anew: a leftover of it here may be expendable. */
void		 purge_told(struct node *n, unsigned peer, uint32_t h);
/* A peer deletes entry h of its table; removed: the flow need not have ended. */
void		 purge_deleted(struct node *n, unsigned peer, uint32_t h, bool removed);
/* An operator: delete from the kernel what the table holds. */
void		 purge_flush(struct node *n);

void		 purge_job_done(struct node *n, struct kjob *j);
bool		 purge_run(struct node *n);
uint64_t	 purge_due(const struct node *n);
/* Entries removed from the kernel, ever. */
uint64_t	 purge_count(const struct node *n);

#endif
