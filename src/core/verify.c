/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Verification of a node: its own table against its kernel (local_dump.c), and
 * its copy of each peer's table against the peer.  Ends when every part has.
 */
#include "node_priv.h"

#define PROOF_US	3000000		/* how long a proof of the peer is waited for */

/* --- a peer's part ------------------------------------------------------------------ */

/* The comparison with a peer begins. */
static void
peer_begin(struct node *n, struct peer *p)
{
	struct node_verified_peer	*v = &n->verified.peers[p->index];

	verify_log_clear(&v->log);
	v->name = p->name;
}

/* True when it is done, and what it found is in n->verified. */
static bool
peer_done(struct node *n, struct peer *p)
{
	struct node_verified_peer	*v = &n->verified.peers[p->index];
	struct node_peer_info		 info;

	node_peer(n, p->index, n->now_us, &info);
	if (!info.in_sync && info.state != NODE_PEER_LOST &&
	    n->now_us - n->verified.started_us < PROOF_US)
		return false;
	v->flows = info.flows;
	v->why = info.why;
	v->state = info.in_sync ? NODE_COMPARED_EQUAL : NODE_NOT_COMPARABLE;
	return true;
}

/* --- all of it ------------------------------------------------------------------------- */

void
node_verify(struct node *n, uint64_t now_us)
{
	unsigned	 i;

	n->now_us = now_us;
	if (n->verified.running)
		return;
	n->verified.running = true;
	n->verified.started_us = now_us;
	n->verified.npeers = n->npeers;
	local_verify_begin(n->local);
	for (i = 0; i < n->npeers; i++)
		peer_begin(n, &n->peers[i]);
}

void
verify_run(struct node *n)
{
	struct node_verified	*v = &n->verified;
	unsigned		 i;
	bool			 done;

	if (!v->running)
		return;
	done = !local_verifying(n->local);
	for (i = 0; i < n->npeers; i++)
		done &= peer_done(n, &n->peers[i]);
	if (!done)
		return;
	v->running = false;
	v->ended_us = n->now_us;
	v->local = local_verified(n->local);
	n->ops->verified(n->ctx);
}

const struct node_verified *
node_verified(const struct node *n)
{
	return &n->verified;
}

void
verify_free(struct node *n)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		verify_log_clear(&n->verified.peers[i].log);
}
