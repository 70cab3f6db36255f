/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Verification of a node: its own table against its kernel, and its copy of
 * each peer's table against the peer.  Ends when every part has.
 */
#ifndef VERIFICATION_H
#define VERIFICATION_H

#include "cluster.h"

struct verification *verification_new(void);
void		 verification_free(struct verification *v);
/* Begin; one that runs is joined. */
void		 verification_start(struct node *n);
/* A repair of the peer's table has put an entry right: recv_conf.wrong. */
void		 verification_wrong(struct node *n, unsigned peer, enum verify_kind kind,
		    const uint8_t *here, size_t here_len, const uint8_t *there, size_t there_len);
void		 verification_run(struct node *n);
const struct node_verified *verification_result(const struct node *n);

#endif
