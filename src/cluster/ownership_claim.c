/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Claims (doc/wire.md, section 8.4): what an active node tells a peer of the
 * peer's own entries, and what a standby may conclude from it.
 */
#include <stdlib.h>
#include <string.h>

#include "ownership_priv.h"
#include "purge.h"
#include "session.h"

#define EXCEPT_MAX	4096u		/* keys that a claim names; more: there is none */
#define SALT_US		8000000u	/* a salt is used for so long */

/* Is our copy of the peer whole, so that a position in its feed says something? */
static bool
whole(const struct node *n, unsigned peer)
{
	const struct recv	*r = n->recv[peer];

	return session_epoch(n->session[peer]) != 0 && recv_state(r) == RECV_COMPARING &&
	    !recv_full(r) && !recv_refused(r);
}

/* --- ours ------------------------------------------------------------------------- */

static void
forget_keys(struct claim *c)
{
	free(c->except);
	c->except = NULL;
	c->n = c->cap = 0;
	c->crowded = false;
}

void
claims_free(struct ownership *o)
{
	unsigned	 i;

	for (i = 0; i < NODE_PEERS_MAX; i++) {
		forget_keys(&o->peers[i].claim);
		forget_keys(&o->peers[i].next_claim);
	}
}

void
ownership_claim_begin(struct node *n, unsigned peer)
{
	struct claim	*c = &n->ownership->peers[peer].next_claim;

	forget_keys(c);
	c->held = whole(n, peer);
	c->epoch = session_epoch(n->session[peer]);
	c->pos = recv_applied(n->recv[peer]);
}

/* False if the claim names the key already, or cannot name more. */
static bool
name(struct claim *c, uint64_t hash)
{
	uint64_t	*more;
	uint32_t	 i, cap;

	if (c->crowded)
		return false;
	for (i = 0; i < c->n; i++)
		if (c->except[i] == hash)
			return false;
	if (c->n == c->cap) {
		cap = c->cap == 0 ? 16 : c->cap * 2;
		more = cap > EXCEPT_MAX ? NULL : realloc(c->except, cap * sizeof(*more));
		if (more == NULL) {
			c->crowded = true;
			return false;
		}
		c->except = more;
		c->cap = cap;
	}
	c->except[c->n++] = hash;
	return true;
}

bool
ownership_claim_except(struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	uint64_t		 hash = recv_key_hash(n->recv[peer], key, klen);

	(void)name(&p->next_claim, hash);
	return name(&p->claim, hash);
}

void
ownership_claim_end(struct node *n, unsigned peer, bool is_whole)
{
	struct owner_peer	*p = &n->ownership->peers[peer];

	if (ownership_active(n) && is_whole && p->next_claim.held &&
	    p->next_claim.epoch == session_epoch(n->session[peer])) {
		forget_keys(&p->claim);
		p->claim = p->next_claim;
		memset(&p->next_claim, 0, sizeof(p->next_claim));
	}
	forget_keys(&p->next_claim);
	p->next_claim.held = false;
}

void
ownership_claim_advance(struct node *n, unsigned peer)
{
	struct claim	*c = &n->ownership->peers[peer].claim;

	if (c->held && c->epoch == session_epoch(n->session[peer]) && whole(n, peer))
		c->pos = recv_applied(n->recv[peer]);
}

bool
ownership_unclaimed(const struct node *n, unsigned peer)
{
	const struct claim	*c = &n->ownership->peers[peer].claim;

	return whole(n, peer) && (!c->held || c->epoch != session_epoch(n->session[peer]));
}

void
ownership_put(const struct node *n, unsigned peer, struct wbuf *w)
{
	const struct ownership	*o = n->ownership;
	const struct claim	*c = &o->peers[peer].claim;
	struct wire_claim	 what;
	uint32_t		 i;

	wire_put_clock(w, ownership_clock_ms(n));
	if (o->role != NODE_ACTIVE || !c->held || c->crowded || ownership_taking(n) ||
	    c->epoch != session_epoch(n->session[peer]))
		return;
	what.pos = c->pos;
	what.term = o->term;
	wire_claim_clear(&what, c->n, (uint8_t)(n->now_us / SALT_US));
	for (i = 0; i < c->n; i++)
		wire_claim_add(&what, c->except[i]);
	if (wbuf_room(w) >= WIRE_CLAIM_SIZE(what.nfilter))
		wire_put_claim(w, &what);
}

/* --- theirs ------------------------------------------------------------------------- */

static bool
same_claim(const struct wire_claim *a, const struct wire_claim *b)
{
	return a->term == b->term && a->pos.v[0] == b->pos.v[0] && a->pos.v[1] == b->pos.v[1] &&
	    a->nfilter == b->nfilter && (a->nfilter == 0 || a->salt == b->salt) &&
	    memcmp(a->filter, b->filter, a->nfilter) == 0;
}

/*
 * A claim counts once its sender's table is proven equal as of a time after it
 * came.  The next one is taken then, so that a busy sender is proven, too.
 */
void
ownership_claimed(struct node *n, unsigned peer, const struct wire_claim *c)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	struct claim_heard	*h = &p->heard;

	if (c == NULL || !p->active || c->term != p->term || h->waiting ||
	    (h->held && same_claim(&h->proven, c)))
		return;
	h->next = *c;
	h->waiting = true;
	h->at_us = n->now_us;
}

/* Is its table here equal as of a time after since_us, and after it was in charge? */
static bool
proven(const struct node *n, unsigned peer, uint64_t since_us)
{
	const struct owner_peer	*p = &n->ownership->peers[peer];
	uint64_t		 v = recv_verified_us(n->recv[peer]);

	return !p->taking && recv_in_sync(n->recv[peer], n->now_us) && v >= since_us &&
	    v >= p->settled_us;
}

void
claims_run(struct node *n, unsigned peer)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	struct claim_heard	*h = &p->heard;

	if (!p->active || h->next.term != p->term)
		h->waiting = false;
	if (!p->active || (h->held && h->proven.term != p->term))
		h->held = false;
	if (!h->waiting || !proven(n, peer, h->at_us))
		return;
	if (!h->held)
		log_msg(LOG_INFO, "%s has the flows of this node (term %u)",
		    session_name(n->session[peer]), h->next.term);
	h->proven = h->next;
	h->held = true;
	h->waiting = false;
	purge_wanted(n);
}

int
ownership_authority(const struct node *n)
{
	const struct ownership	*o = n->ownership;
	unsigned		 i;
	int			 found = -1;

	if (o->role == NODE_ACTIVE || ownership_actives(n) != 1)
		return -1;
	for (i = 0; i < n->npeers; i++)
		if (o->peers[i].active && o->peers[i].heard.held &&
		    session_up(n, n->session[i]) && proven(n, i, 0))
			found = (int)i;
	return found;
}

/* Has that peer seen both ends close the flow of our entry h?  It keeps it for two more minutes. */
static bool
is_over(const struct node *n, unsigned peer, uint32_t theirs_h, uint32_t h)
{
	struct flow	 theirs, ours;
	const uint8_t	*body;
	size_t		 len;
	enum flow_life	 life;

	body = ftab_body(recv_table(n->recv[peer]), theirs_h, &len);
	if (flow_unpack(body, len, &theirs) < 0 || !flow_closed(&theirs) ||
	    !local_load(n->local, h, &ours))
		return false;
	life = flow_compare_lives(&theirs, &ours);
	return life == FLOW_LIFE_SAME || life == FLOW_LIFE_YOUNGER;
}

bool
ownership_expendable(const struct node *n, uint32_t h, const uint8_t *key, size_t klen)
{
	int			 by = ownership_authority(n);
	const struct wire_claim	*c;
	uint32_t		 theirs_h;

	if (by < 0)
		return false;
	theirs_h = cluster_find(n, (unsigned)by, key, klen);
	if (theirs_h != FTAB_NIL && !is_over(n, (unsigned)by, theirs_h, h))
		return false;
	c = &n->ownership->peers[by].heard.proven;
	if (feed_version_of(n->feed, h) > c->pos.v[feed_lane_of(n->feed, h)])
		return false;
	return c->nfilter == 0 || !wire_claim_has(c, siphash13(&n->conf.digest_key, key, klen));
}
