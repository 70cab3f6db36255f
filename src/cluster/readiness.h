/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Readiness: could this node take over now and lose nothing that it could have
 * had; and what is wrong with the roles of the cluster.
 */
#ifndef READINESS_H
#define READINESS_H

#include "cluster.h"

bool		 readiness_ready(const struct node *n, char reason[NODE_REASON_MAX]);
/* One reason why the copy of a peer is not known to be equal, static; NULL: it is. */
const char	*readiness_why_not(const struct node *n, unsigned peer);
/* Set of enum node_alert, bit n = alert n. */
unsigned	 readiness_alerts(const struct node *n);
/* Say each alert once when it comes and when it goes. */
void		 readiness_run(struct node *n, unsigned *said);

#endif
