/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TCP windows (doc/wire.md, section 8.3): liberal after a takeover, since
 * another node has carried the connections; strict again when the kernel has
 * relearned both windows and no other node is active.
 */
#ifndef WINDOWS_H
#define WINDOWS_H

#include "cluster.h"

struct windows	*windows_new(void);
void		 windows_free(struct windows *w);

/* The entry with that key becomes liberal soon; false if there is no room for more now. */
bool		 windows_loosen(struct node *n, const uint8_t *key, size_t klen);
/*
 * All TCP entries of our own table do, in the background.  The kernel forgets
 * which windows it knows, also of those that are liberal already.
 */
void		 windows_loosen_all(struct node *n);
/* Entries have been written: the kernel has forgotten what it knew of their windows. */
void		 windows_written(struct node *n);
/* A walk has ended: look 1, 3, 10 and 30 s from now at what has been relearned. */
void		 windows_look(struct node *n);

/* A dump begins, shows an entry, has ended. */
void		 windows_dump_begin(struct node *n);
void		 windows_dump_entry(struct node *n, const struct flow *f);
void		 windows_dump_end(struct node *n);

void		 windows_job_done(struct node *n, struct kjob *j);
bool		 windows_run(struct node *n);
uint64_t	 windows_due(const struct node *n);
/* Flows that are tracked liberally by our doing, as of the last whole dump. */
uint32_t	 windows_liberal(const struct node *n);

#endif
