/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Verification of a node: its own table against its kernel (local_dump.c), and
 * its copy of each peer's table against the peer.  Ends when every part has.
 */
#include "node_priv.h"

/* --- a peer's part ------------------------------------------------------------------ */

void
verify_wrong(void *ctx, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	struct peer	*p = ctx;

	if (p->node->verified.running)
		verify_log_add(&p->node->verified.peers[p->index].log, kind, here, here_len, there,
		    there_len);
}

/* The comparison with a peer begins. */
static void
peer_begin(struct node *n, struct peer *p)
{
	struct node_verified_peer	*v = &n->verified.peers[p->index];

	verify_log_clear(&v->log);
	v->name = p->name;
	if (sess_up(n, p))
		recv_verify(p->recv, n->now_us);
}

/* True when it is done, and what it found is in n->verified. */
static bool
peer_done(struct node *n, struct peer *p)
{
	struct node_verified_peer	*v = &n->verified.peers[p->index];
	enum recv_verdict		 verdict = recv_verified(p->recv);
	struct node_peer_info		 info;

	if (sess_up(n, p) && (verdict == RECV_VERIFY_SCRUB || verdict == RECV_VERIFY_COMPARE))
		return false;
	node_peer(n, p->index, n->now_us, &info);
	v->kept = recv_state(p->recv) == RECV_COMPARING && info.flows > recv_digest(p->recv).flows ?
	    info.flows - recv_digest(p->recv).flows : 0;
	v->flows = info.flows - v->kept;
	v->why = NULL;
	v->state = NODE_COMPARED_EQUAL;
	if (sess_up(n, p) && verdict == RECV_VERIFY_DIFFERENT) {
		v->state = NODE_COMPARED_DIFFERENT;
	} else if (!sess_up(n, p) || verdict != RECV_VERIFY_EQUAL) {
		v->state = NODE_NOT_COMPARABLE;
		v->why = info.why != NULL ? info.why : "it was not there when the comparison began";
	}
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
