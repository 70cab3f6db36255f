/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Comparing entry for entry: the local table with the kernel (local_dump.c),
 * copies with their peers (recv_mend.c).
 */
#include <stdlib.h>

#include "readiness.h"
#include "session.h"
#include "verification.h"

struct verification {
	struct node_verified	 result;
	bool			 began_up[NODE_PEERS_MAX];	/* the peer was there when it began */
};

struct verification *
verification_new(void)
{
	return calloc(1, sizeof(struct verification));
}

void
verification_free(struct verification *v)
{
	unsigned	 i;

	if (v == NULL)
		return;
	for (i = 0; i < NODE_PEERS_MAX; i++)
		verify_log_clear(&v->result.peers[i].log);
	free(v);
}

const struct node_verified *
verification_result(const struct node *n)
{
	return &n->verification->result;
}

/* --- a peer's part ------------------------------------------------------------------ */

void
verification_wrong(struct node *n, unsigned peer, enum verify_kind kind, const uint8_t *here,
    size_t here_len, const uint8_t *there, size_t there_len)
{
	struct node_verified	*v = &n->verification->result;

	if (v->running)
		verify_log_add(&v->peers[peer].log, kind, here, here_len, there, there_len);
}

/* The comparison with a peer begins. */
static void
peer_begin(struct node *n, unsigned peer)
{
	struct node_verified_peer	*v = &n->verification->result.peers[peer];

	verify_log_clear(&v->log);
	v->name = session_name(n->session[peer]);
	n->verification->began_up[peer] = session_up(n, n->session[peer]);
	if (n->verification->began_up[peer])
		recv_verify(n->recv[peer], n->now_us);
}

/* True when it is done, and what it found is in the result. */
static bool
peer_done(struct node *n, unsigned peer)
{
	struct node_verified_peer	*v = &n->verification->result.peers[peer];
	const struct recv		*r = n->recv[peer];
	enum recv_verdict		 verdict = recv_verified(r);
	uint32_t			 flows = ftab_count(recv_table(r));
	bool				 up = n->verification->began_up[peer] &&
					    session_up(n, n->session[peer]);

	if (up && (verdict == RECV_VERIFY_SCRUB || verdict == RECV_VERIFY_COMPARE))
		return false;
	v->kept = recv_state(r) == RECV_COMPARING && flows > recv_digest(r).flows ?
	    flows - recv_digest(r).flows : 0;
	v->flows = flows - v->kept;
	v->why = NULL;
	v->state = NODE_COMPARED_EQUAL;
	if (up && verdict == RECV_VERIFY_DIFFERENT) {
		v->state = NODE_COMPARED_DIFFERENT;
	} else if (!up || verdict != RECV_VERIFY_EQUAL) {
		v->state = NODE_NOT_COMPARABLE;
		v->why = readiness_why_not(n, peer);
		if (v->why == NULL)
			v->why = "it was not there when the comparison began";
	}
	return true;
}

/* --- all of it ------------------------------------------------------------------------- */

void
verification_start(struct node *n)
{
	struct node_verified	*v = &n->verification->result;
	unsigned		 i;

	if (v->running)
		return;
	v->running = true;
	v->started_us = n->now_us;
	v->npeers = n->npeers;
	local_verify_begin(n->local);
	for (i = 0; i < n->npeers; i++)
		peer_begin(n, i);
}

void
verification_run(struct node *n)
{
	struct node_verified	*v = &n->verification->result;
	unsigned		 i;
	bool			 done;

	if (!v->running)
		return;
	done = !local_verifying(n->local);
	for (i = 0; i < n->npeers; i++)
		done &= peer_done(n, i);
	if (!done)
		return;
	v->running = false;
	v->ended_us = n->now_us;
	v->local = local_verified(n->local);
	n->ops->verified(n->ctx);
}
