/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lives (doc/wire.md, section 8.1): when flows are born, which of two entries is
 * the younger one, and what is known to have ended.
 */
#include <netinet/in.h>
#include <string.h>

#include "ownership_priv.h"
#include "session.h"
#include "takeover.h"

/* What a lost peer holds is taken again for so long when it lapses here. */
#define LOST_US		900000000u
#define COPY_LEAST_S	2u		/* a copy with less to live is not copied again */
#define PROTO_DCCP	33
/* From linux/netfilter/nf_conntrack_dccp.h. */
#define DCCP_CLOSEREQ	6
#define DCCP_TIMEWAIT	8

/* --- lives ---------------------------------------------------------------------- */

static bool
load(const struct node *n, unsigned peer, uint32_t h, struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	return flow_unpack(body, len, f) == 0;
}

/* Does the entry of peer a count more than that of peer b? */
static bool
beats(const struct node *n, unsigned a, const struct flow *fa, unsigned b, const struct flow *fb)
{
	uint32_t	 ta = n->ownership->peers[a].term, tb = n->ownership->peers[b].term;

	switch (flow_compare_lives(fa, fb)) {
	case FLOW_LIFE_YOUNGER:
		return true;
	case FLOW_LIFE_OLDER:
		return false;
	default:
		if (fa->stray != fb->stray)
			return fb->stray;
		/* who uses a flow knows more of it than who has a copy, if it is there to tell */
		if (fa->copy != fb->copy && session_up(n, n->session[fa->copy ? b : a]))
			return fb->copy;
		return ta != tb ? ta > tb : session_id(n->session[a]) < session_id(n->session[b]);
	}
}

/*
 * Births that are not known make the comparison of three entries go in circles;
 * one after the other has a winner all the same.
 */
bool
ownership_outranked(struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	struct flow	 best = { .born = 0 }, other;
	unsigned	 i, winner = NODE_PEERS_MAX;
	uint32_t	 h;

	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &other) ||
		    ownership_ended(n, i, h))
			continue;
		if (winner != NODE_PEERS_MAX && !beats(n, i, &other, winner, &best))
			continue;
		winner = i;
		best = other;
	}
	return winner != NODE_PEERS_MAX && winner != peer;
}

/* --- births --------------------------------------------------------------------- */

/* Does the packet that made the entry open a connection? */
static bool
opens(const struct flow *f)
{
	if (f->proto == IPPROTO_TCP)
		return (f->has & FLOW_HAS_TCP_STATE) && f->tcp_state == FLOW_TCP_SYN_SENT;
	if (f->proto == IPPROTO_SCTP)
		return (f->has & FLOW_HAS_SCTP) && f->rare.sctp_state == FLOW_SCTP_COOKIE_WAIT;
	return false;
}

/*
 * A packet in the middle of a flow makes an entry, too, where the flow has not
 * been taken over yet.  If a peer tells of the tuple, it is that flow.
 */
static bool
on_birth(void *ctx, const uint8_t *key, size_t klen, struct flow *f)
{
	struct node	*n = ctx;
	struct flow	 theirs, older = { .born = 0 };
	uint32_t	 h;
	unsigned	 i;
	bool		 stray = false;

	f->found = !n->ownership->clocked;
	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs))
			continue;
		if (theirs.born >= f->born)
			f->born = theirs.born + 1;
		if (opens(f) || ownership_ended(n, i, h))
			continue;
		if (!stray || beats(n, i, &theirs, i, &older))
			older = theirs;
		stray = true;
	}
	if (stray) {
		f->born = older.born;
		f->found = older.found;
	}
	return stray;
}

static void
on_astray(void *ctx, const uint8_t *key, size_t klen)
{
	struct node	*n = ctx;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if ((h = cluster_find(n, i, key, klen)) != FTAB_NIL && !ownership_ended(n, i, h))
			takeover_follow(n, i, h);
}

/* --- ends --------------------------------------------------------------------------- */

/* Has the flow said goodbye?  Else time may have ended it where nobody sent it packets. */
static bool
closing(const struct flow *f)
{
	if (f->proto == IPPROTO_TCP)
		return f->tcp_state >= FLOW_TCP_FIN_WAIT && f->tcp_state <= FLOW_TCP_CLOSE;
	if (f->proto == IPPROTO_SCTP)
		return f->rare.sctp_state == FLOW_SCTP_CLOSED ||
		    (f->rare.sctp_state >= FLOW_SCTP_SHUTDOWN_SENT &&
		    f->rare.sctp_state <= FLOW_SCTP_SHUTDOWN_ACK_SENT);
	if (f->proto == PROTO_DCCP)
		return f->rare.dccp_state >= DCCP_CLOSEREQ && f->rare.dccp_state <= DCCP_TIMEWAIT;
	return false;
}

static void
mark(struct node *n, unsigned peer, uint32_t h)
{
	struct ftab_meta	*m = ftab_meta(recv_table(n->recv[peer]), h);

	if (m->flags & REMOTE_ENDED)
		return;
	m->flags |= REMOTE_ENDED;
	n->ownership->peers[peer].ended++;
}

/* That life has ended, or a younger one: what peers tell of it counts no more. */
static void
mark_all(struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	struct flow	 theirs;
	enum flow_life	 life;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs))
			continue;
		life = flow_compare_lives(&theirs, f);
		if (life == FLOW_LIFE_SAME || life == FLOW_LIFE_OLDER)
			mark(n, i, h);
		else
			takeover_follow(n, i, h);	/* its turn, now that this one is over */
	}
}

bool
ownership_ended(const struct node *n, unsigned peer, uint32_t h)
{
	return !n->ownership->peers[peer].unmarking &&
	    (ftab_meta(recv_table(n->recv[peer]), h)->flags & REMOTE_ENDED);
}

void
ownership_ended_at(struct node *n, unsigned peer, uint32_t h)
{
	struct flow	 f;
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	if (load(n, peer, h, &f) && !f.expect)
		mark_all(n, body, flow_key_len(body, len), &f);
}

void
ownership_ended_by_us(struct node *n, const uint8_t *key, size_t klen)
{
	struct flow	 f;
	uint32_t	 h = local_find(n->local, key, klen);

	if (h != FTAB_NIL && ownership_active(n) && local_load(n->local, h, &f) && !f.expect)
		mark_all(n, key, klen, &f);
}

/*
 * Nobody has seen the flow end: whoever still tells it is taken from again.
 * Two copies that nobody uses do not keep each other alive: see
 * takeover_timeout().
 */
static void
lapsed(struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	struct ftab_meta	*m;
	struct flow		 theirs;
	uint32_t		 h;
	unsigned		 i;

	for (i = 0; i < n->npeers; i++) {
		if (n->now_us - session_heard_us(n->session[i]) > LOST_US ||
		    (h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs) ||
		    flow_compare_lives(&theirs, f) == FLOW_LIFE_OLDER)
			continue;
		m = ftab_meta(recv_table(n->recv[i]), h);
		if (theirs.copy && m->timeout_s < COPY_LEAST_S)
			continue;
		takeover_follow(n, i, h);
	}
}

static bool
on_end(void *ctx, const uint8_t *key, size_t klen, const struct flow *f, enum local_end how,
    uint64_t at_us)
{
	struct node	*n = ctx;
	bool		 active = ownership_active(n), over, leftover;

	/* an expectation ends with its master, soon by itself, or when what it expects comes */
	if (f->expect)
		return active;
	/* a program that clears the table of a standby does not mean the flows of the active node */
	over = how == LOCAL_END_COMMANDED ? active : how == LOCAL_END_USED && closing(f);
	/* what may have ended before the takeover, which has passed over it as one that is here */
	leftover = at_us < n->ownership->active_us;
	if (active && over && !leftover)
		mark_all(n, key, klen, f);
	else if (active)
		lapsed(n, key, klen, f);
	return over;
}

const struct local_observer	ownership_observer = { on_end, on_birth, on_astray };
