/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who owns what (doc/wire.md, section 8): the role and its term; what this node
 * and others have adopted; what has ended on the node that adopted it, in remote
 * tables and in our own.
 *
 * Invariants: nothing is marked or removed on the word of a node that is not
 * the only active one, or whose table here is not proven equal since it said
 * so; an entry that its origin told again, or whose origin is active, has no
 * mark.
 */
#include <string.h>

#include "node_priv.h"

#define LAST_WORD_US	500000u		/* for what a node tells of the time when it was active */
#define WALK_ENTRIES	4096u		/* looked at for a claim in one call */
#define TWO_ACTIVE_US	2000000		/* a planned switch takes a moment */

/* --- role and term ----------------------------------------------------------- */

static uint32_t
highest_term(const struct node *n)
{
	uint32_t	 top = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].term > top)
			top = n->peers[i].term;
	return top;
}

static uint32_t
term_above(uint32_t a, uint32_t b)
{
	uint32_t	 top = a > b ? a : b;

	return top < WIRE_TERM_MAX ? top + 1 : top;
}

/* The walk at hand ends; what it was for is done, or is to be done again. */
static void
end_walk(struct node *n, bool done)
{
	if (n->walk.claim != NULL)
		n->walk.claim->walked = done;
	memset(&n->walk, 0, sizeof(n->walk));
}

/* What has been claimed of the peer is void. */
static void
drop_claims(struct node *n, const struct peer *p)
{
	struct peer	*q;
	unsigned	 i, k, kept;

	end_walk(n, false);
	for (i = 0; i < n->npeers; i++) {
		q = &n->peers[i];
		for (k = kept = 0; k < q->nclaims; k++)
			if (q->claims[k].said.owner != p->id)
				q->claims[kept++] = q->claims[k];
		q->nclaims = kept;
	}
}

/* An origin that is active decides about its flows itself: marks are void. */
static void
unmark(struct peer *p)
{
	p->unmarking = true;
	p->unmark_h = FTAB_NIL;
}

static void
stand_by(struct node *n)
{
	unsigned	 i;

	n->standby_us = n->now_us;
	n->standby_version = feed_version(n->feed);
	n->disown.peer = 0;
	n->disown.h = FTAB_NIL;
	for (i = 0; i < n->npeers; i++) {
		n->peers[i].adopted.held = false;
		if (n->peers[i].active)
			unmark(&n->peers[i]);
	}
}

void
owner_role(struct node *n, enum node_role role)
{
	enum node_role	 was = n->role;
	uint32_t	 term = n->term, top = highest_term(n);
	unsigned	 i;

	if (role == NODE_ACTIVE && (was != NODE_ACTIVE || n->term <= top))
		n->term = term_above(n->term, top);
	if (was == role && term == n->term)
		return;
	n->role = role;
	if (was != role && role == NODE_STANDBY)
		stand_by(n);
	if (was != role)
		log_msg(LOG_NOTICE, "role: %s, term %u", role == NODE_ACTIVE ? "active" : "standby",
		    n->term);
	n->ops->role(n->ctx, role, role == NODE_STANDBY);
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].epoch != 0)
			sess_signal(n, &n->peers[i], true);
}

void
node_release(struct node *n, uint64_t now_us)
{
	n->now_us = now_us;
	take_give_up(n);
	owner_role(n, NODE_STANDBY);
	purge_begin(n);
}

bool
owner_taking(const struct node *n)
{
	return n->role == NODE_ACTIVE && (n->resume || n->taken.running);
}

/*
 * Whoever is not active any more owns less than we do: if our term was lost
 * with the runtime directory, a higher one than its is due.
 */
static void
outrank(struct node *n, const struct peer *p)
{
	if (n->role != NODE_ACTIVE || p->active || p->term < n->term ||
	    n->term == WIRE_TERM_MAX)
		return;
	n->term = term_above(n->term, p->term);
	log_msg(LOG_INFO, "%s is not active and has term %u: ours is %u now", p->name, p->term,
	    n->term);
	n->ops->role(n->ctx, NODE_ACTIVE, !owner_taking(n));
}

void
owner_probe(struct node *n, struct peer *p, const struct wire_probe *probe)
{
	bool	 active = probe->flags & WIRE_PROBE_ACTIVE;
	bool	 taking = probe->flags & WIRE_PROBE_TAKING;

	if (!p->probed || active != p->active || taking != p->taking || probe->term != p->term)
		p->settled_us = n->now_us;
	if (active && !p->active) {
		unmark(p);
		drop_claims(n, p);
	}
	p->active = active;
	p->taking = taking;
	p->term = probe->term;
	p->probed = true;
}

uint32_t
node_term(const struct node *n)
{
	return n->term;
}

/* --- who is to be believed -------------------------------------------------------- */

static unsigned
count_active(const struct node *n)
{
	unsigned	 i, sum = n->role == NODE_ACTIVE;

	for (i = 0; i < n->npeers; i++)
		sum += n->peers[i].active;
	return sum;
}

bool
node_two_active(const struct node *n)
{
	return count_active(n) > 1;
}

/*
 * Whose word about flows counts here: the only active node; if nobody is
 * active, the one with the highest term, for a moment: what ended before it was
 * released may have yet to be told.  Later an end of its says nothing: it is a
 * copy that nobody used.  NULL: nobody's, or our own.
 */
static struct peer *
authority(struct node *n)
{
	struct peer	*p, *best = NULL;
	unsigned	 i, active = count_active(n);
	uint32_t	 top = n->term;

	if (n->role == NODE_ACTIVE || active > 1)
		return NULL;
	for (i = 0; i < n->npeers; i++) {
		p = &n->peers[i];
		if (p->active)
			return p;
		if (p->term == top)
			best = NULL;
		if (p->term > top) {
			best = p;
			top = p->term;
		}
	}
	return active == 0 && best != NULL && n->now_us - best->settled_us < LAST_WORD_US ? best : NULL;
}

/*
 * Was its table here equal at a time after since_us, and after it was in
 * charge?  What is left of an older generation is not its table.
 */
static bool
proven(const struct peer *p, uint64_t since_us)
{
	uint64_t	 v = recv_verified_us(p->recv);

	return !p->taking && recv_was_equal(p->recv) && !recv_sweeping(p->recv) &&
	    v >= since_us && v >= p->settled_us;
}

static bool
within(const struct wire_pos *pos, const struct wire_pos *limit)
{
	return pos->v[0] <= limit->v[0] && pos->v[1] <= limit->v[1];
}

/* Does q rank above p? */
static bool
ranks_above(const struct peer *q, const struct peer *p)
{
	if (q->term != p->term)
		return q->term > p->term;
	if (q->active != p->active)
		return q->active;
	return q->index < p->index;
}

static uint32_t
find_in(struct ftab *t, const uint8_t *key, size_t klen)
{
	return ftab_count(t) == 0 ? FTAB_NIL : ftab_find(t, ftab_hash(t, key, klen), key, klen);
}

/* --- what a takeover takes ------------------------------------------------------- */

bool
owner_ended(const struct peer *p, const struct ftab_meta *m)
{
	return (m->flags & RF_ENDED) && !p->unmarking;
}

bool
owner_has(const struct peer *p, const struct ftab_meta *m)
{
	return (m->flags & RF_OURS) && !p->unmarking;
}

bool
node_ended(const struct node *n, unsigned peer, uint32_t h)
{
	const struct peer	*p = &n->peers[peer];

	return owner_ended(p, ftab_meta(recv_table(p->recv), h));
}

bool
owner_outranked(const struct node *n, const struct peer *p, const uint8_t *key, size_t klen,
    bool (*takes)(const struct node *, const struct peer *))
{
	const struct peer	*q;
	uint32_t		 h;
	unsigned		 i;

	for (i = 0; i < n->npeers; i++) {
		q = &n->peers[i];
		if (q == p || !ranks_above(q, p) || !takes(n, q))
			continue;
		h = find_in(recv_table(q->recv), key, klen);
		if (h != FTAB_NIL && !owner_ended(q, ftab_meta(recv_table(q->recv), h)))
			return true;
	}
	return false;
}

/* Everything that a peer had told is known only while its digests are compared. */
void
owner_take_begin(struct node *n)
{
	struct peer	*p;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		p = &n->peers[i];
		p->taking_up.held = p->epoch != 0 && recv_state(p->recv) == RECV_COMPARING &&
		    !recv_full(p->recv) && !recv_refused(p->recv);
		p->taking_up.epoch = p->epoch;
		p->taking_up.pos = recv_applied(p->recv);
	}
}

void
owner_take_not(struct peer *p)
{
	p->taking_up.held = false;
}

void
owner_take_end(struct node *n)
{
	struct peer	*p;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		p = &n->peers[i];
		if (p->taking_up.held && p->taking_up.epoch == p->epoch)
			p->adopted = p->taking_up;
		p->taking_up.held = false;
	}
}

/* --- claims ------------------------------------------------------------------------- */

/* Which of our claims, counted from turn on, is the i-th; NULL if it does not hold. */
static const struct peer *
claim_at(const struct node *n, unsigned i)
{
	const struct peer	*p = &n->peers[i % n->npeers];

	return p->adopted.held && p->adopted.epoch == p->epoch ? p : NULL;
}

void
owner_put_claims(const struct node *n, const struct peer *p, struct wbuf *w)
{
	struct wire_adopted	 a;
	const struct peer	*q;
	unsigned		 i, put = 0;

	if (n->role != NODE_ACTIVE || owner_taking(n))
		return;
	for (i = 0; i < n->npeers && put < WIRE_ADOPTED_MAX; i++) {
		if ((q = claim_at(n, p->claim_turn + i)) == NULL)
			continue;
		if (wbuf_room(w) < WIRE_ADOPTED_SIZE)
			return;
		a.owner = q->id;
		a.epoch = q->adopted.epoch;
		a.pos = q->adopted.pos;
		a.term = n->term;
		wire_put_adopted(w, &a);
		put++;
	}
}

void
owner_next_claims(const struct node *n, struct peer *p)
{
	unsigned	 i, passed = 0;

	for (i = 0; i < n->npeers && passed < WIRE_ADOPTED_MAX; i++)
		passed += claim_at(n, p->claim_turn + i) != NULL;
	p->claim_turn = (p->claim_turn + i) % n->npeers;
}

static struct peer *
peer_of(struct node *n, uint64_t id)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].id == id)
			return &n->peers[i];
	return NULL;
}

static bool
same_claim(const struct wire_adopted *a, const struct wire_adopted *b)
{
	return a->owner == b->owner && a->epoch == b->epoch && a->term == b->term &&
	    a->pos.v[0] == b->pos.v[0] && a->pos.v[1] == b->pos.v[1];
}

void
owner_claim(struct node *n, struct peer *p, const struct wire_adopted *said)
{
	struct peer	*owner = peer_of(n, said->owner);
	struct claim	*c;
	unsigned	 i;

	if (said->owner != n->id && (owner == NULL || owner->active))
		return;
	for (i = 0; i < p->nclaims && p->claims[i].said.owner != said->owner; i++)
		;
	c = &p->claims[i];
	if (i < p->nclaims && same_claim(&c->said, said))
		return;
	if (i == NODE_PEERS_MAX)
		return;
	if (i == p->nclaims)
		p->nclaims++;
	if (n->walk.claim == c)
		end_walk(n, false);
	c->said = *said;
	c->at_us = n->now_us;
	c->proved = c->walked = false;
}

void
owner_new_epoch(struct node *n, struct peer *p, bool rebooted)
{
	if (n->walk.by == p)
		end_walk(n, false);
	p->settled_us = n->now_us;
	p->missed = true;
	if (rebooted)
		p->nclaims = 0;
}

/* Nothing is known of the peer any more: no claim of others on its flows either. */
void
owner_forget(struct node *n, struct peer *p)
{
	drop_claims(n, p);
	p->nclaims = 0;
	p->active = p->taking = p->probed = p->missed = p->unmarking = false;
	p->term = 0;
	p->adopted.held = p->taking_up.held = false;
	p->marked = 0;
}

/* --- what follows from them ---------------------------------------------------------- */

/* Of whom the claim speaks, in *owner (NULL: of us); false if nothing follows from it now. */
static bool
believable(struct node *n, struct peer *p, const struct claim *c, struct peer **owner)
{
	struct wire_pos	 told;
	struct peer	*q;

	*owner = NULL;
	if (c->said.term != p->term || !proven(p, c->at_us))
		return false;
	if (c->said.owner == n->id)
		return p->active && c->said.epoch == n->conf.epoch && c->said.term > n->term &&
		    n->role == NODE_STANDBY && n->take == NULL && local_complete(n->local) &&
		    !local_resyncing(n->local) && recv_in_sync(p->recv, n->now_us);
	q = *owner = peer_of(n, c->said.owner);
	if (q == NULL || q->epoch != c->said.epoch || q->active || q->unmarking ||
	    q->term >= c->said.term)
		return false;
	told = recv_told(q->recv);
	return within(&told, &c->said.pos);
}

/* A flow of ours that ended on the node that adopted it; false if there is no room for more. */
static bool
yield_key(struct node *n, const uint8_t *key, size_t klen)
{
	if (n->yield == NULL && (n->yield = kjob_new(KOP_DELETE, KOWNER_PURGE)) == NULL)
		return false;
	n->yield->tag = TAG_YIELD;
	return kjob_add(n->yield, key, klen, 0) == 0;
}

/* False: the job has to wait. */
static bool
submit_yield(struct node *n)
{
	if (n->yield == NULL || n->yield->n == 0)
		return true;
	if (n->yield_jobs >= JOBS_MAX || node_submit_delete(n, n->yield) < 0)
		return false;
	n->yield = NULL;
	n->yield_jobs++;
	return true;
}

/* Has a packet touched entry h since we are standby?  In the second when that began: changed it. */
static bool
touched_since(const struct node *n, uint32_t h)
{
	uint32_t	 s = ftab_meta(feed_table(n->feed), h)->touched_s;

	return s > n->standby_us / 1000000 ||
	    (s == n->standby_us / 1000000 && feed_version_of(n->feed, h) > n->standby_version);
}

/* Does entry h stand where the adopter has got it from us, and is it not in use here? */
static bool
was_adopted(const struct node *n, const struct claim *c, uint32_t h)
{
	return feed_version_of(n->feed, h) <= c->said.pos.v[feed_lane_of(n->feed, h)] &&
	    !touched_since(n, h);
}

static bool
yield_some(struct node *n)
{
	struct ftab	*theirs = recv_table(n->walk.by->recv);
	uint32_t	 h = n->walk.h, looked = 0;
	const uint8_t	*body;
	size_t		 len, klen;

	while (looked++ < WALK_ENTRIES && (h = feed_next(n->feed, h)) != FTAB_NIL) {
		body = ftab_body(feed_table(n->feed), h, &len);
		klen = flow_key_len(body, len);
		if (was_adopted(n, n->walk.claim, h) &&
		    find_in(theirs, body, klen) == FTAB_NIL && !yield_key(n, body, klen))
			return false;	/* this one again, later */
		n->walk.h = h;
	}
	if (h == FTAB_NIL)
		end_walk(n, true);
	return true;
}

static bool
mark_some(struct node *n)
{
	struct peer	*q = n->walk.owner;
	struct ftab	*t = recv_table(q->recv), *theirs = recv_table(n->walk.by->recv);
	uint32_t	 h = n->walk.h, looked = 0;
	const uint8_t	*body;
	size_t		 len;

	while (looked++ < WALK_ENTRIES && (h = ftab_next(t, h)) != FTAB_NIL) {
		n->walk.h = h;
		body = ftab_body(t, h, &len);
		if ((ftab_meta(t, h)->flags & RF_ENDED) ||
		    find_in(theirs, body, flow_key_len(body, len)) != FTAB_NIL)
			continue;
		ftab_meta(t, h)->flags |= RF_ENDED;
		q->marked++;
	}
	if (h == FTAB_NIL)
		end_walk(n, true);
	return true;
}

static void
begin_walk(struct node *n, struct peer *p)
{
	struct claim	*c;
	struct peer	*owner;
	unsigned	 i;

	for (i = 0; i < p->nclaims; i++) {
		c = &p->claims[i];
		if (c->walked || !believable(n, p, c, &owner))
			continue;
		if (!c->proved)
			log_msg(LOG_INFO, "%s has adopted the flows of %s (term %u)", p->name,
			    owner == NULL ? n->name : owner->name, c->said.term);
		c->proved = true;
		n->walk.by = p;
		n->walk.claim = c;
		n->walk.owner = owner;
		n->walk.h = FTAB_NIL;
		return;
	}
}

/* Ends that could not be believed when they were told: look at everything again. */
static void
make_up(struct peer *p)
{
	unsigned	 i;

	for (i = 0; i < p->nclaims; i++)
		p->claims[i].walked = false;
	p->missed = false;
}

/* A new generation brings flows without marks; neither its sweep nor a repair says what it removes. */
static void
watch_tables(struct node *n)
{
	const struct recv_stats	*s;
	unsigned		 i, j;

	for (i = 0; i < n->npeers; i++) {
		s = recv_stats(n->peers[i].recv);
		if (n->peers[i].renewals == s->generations + s->repairs)
			continue;
		n->peers[i].renewals = s->generations + s->repairs;
		for (j = 0; j < n->npeers; j++)
			n->peers[j].missed = true;
	}
}

static bool
run_walk(struct node *n)
{
	struct peer	*p = authority(n), *owner;

	if (n->walk.by != NULL && (p != n->walk.by || p->missed ||
	    !believable(n, p, n->walk.claim, &owner)))
		end_walk(n, false);
	if (p == NULL || !proven(p, 0))
		return false;
	if (p->missed)
		make_up(p);
	if (n->walk.by == NULL)
		begin_walk(n, p);
	if (n->walk.by == NULL)
		return false;
	return n->walk.owner == NULL ? yield_some(n) : mark_some(n);
}

static bool
unmark_some(struct peer *p)
{
	struct ftab	*t = recv_table(p->recv);
	uint32_t	 h = p->unmark_h, looked = 0;

	while (looked++ < WALK_ENTRIES && (h = ftab_next(t, h)) != FTAB_NIL) {
		ftab_meta(t, h)->flags &= (uint8_t)~(RF_ENDED | RF_OURS);
		p->unmark_h = h;
	}
	p->unmarking = h != FTAB_NIL;
	return p->unmarking;
}

static void
watch_roles(struct node *n)
{
	unsigned	 i;

	if (!node_two_active(n)) {
		for (i = 0; n->two_us != 0 && i < n->npeers; i++)
			n->peers[i].missed = true;
		n->two_us = 0;
		n->two_told = false;
		return;
	}
	if (n->two_us == 0)
		n->two_us = n->now_us;
	if (n->two_told || n->now_us - n->two_us < TWO_ACTIVE_US)
		return;
	n->two_told = true;
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].active)
			log_msg(LOG_WARNING, "%s says that it is active, and so %s: check keepalived or "
			    "Pacemaker; flows of both are replicated, none is removed",
			    n->peers[i].name, n->role == NODE_ACTIVE ? "are we" : "does another node");
}

/*
 * We are standby: what we took over and still have may end here unused and
 * live on elsewhere.  Only what we lack by now has ended while it was ours.
 */
static bool
disown_some(struct node *n)
{
	struct peer	*p;
	struct ftab	*t;
	const uint8_t	*body;
	unsigned	 looked = 0;
	size_t		 len;

	while (n->disown.peer < n->npeers) {
		p = &n->peers[n->disown.peer];
		t = recv_table(p->recv);
		while (looked++ < WALK_ENTRIES && (n->disown.h = ftab_next(t, n->disown.h)) != FTAB_NIL) {
			if (!(ftab_meta(t, n->disown.h)->flags & (RF_OURS | RF_TAKEN)))
				continue;
			body = ftab_body(t, n->disown.h, &len);
			len = flow_key_len(body, len);
			if (feed_find(n->feed, ftab_hash(feed_table(n->feed), body, len), body, len) != FTAB_NIL)
				ftab_meta(t, n->disown.h)->flags &= (uint8_t)~(RF_OURS | RF_TAKEN);
		}
		if (n->disown.h != FTAB_NIL)
			return true;
		n->disown.peer++;
	}
	return false;
}

bool
owner_run(struct node *n)
{
	bool		 more = n->role == NODE_STANDBY && n->take == NULL && disown_some(n);
	unsigned	 i;

	watch_roles(n);
	watch_tables(n);
	for (i = 0; i < n->npeers; i++) {
		outrank(n, &n->peers[i]);
		if (n->peers[i].unmarking)
			more |= unmark_some(&n->peers[i]);
	}
	more |= run_walk(n);
	return submit_yield(n) && more;
}

void
owner_yielded(struct node *n)
{
	n->yield_jobs--;
}

void
owner_free(struct node *n)
{
	kjob_free(n->yield);
	n->yield = NULL;
}

/* An entry of our own of which the active node says that it has ended. */
static void
own_gone(struct node *n, struct peer *p, const uint8_t *key, size_t klen)
{
	uint32_t	 h;
	unsigned	 i;

	if (!p->active || feed_flows(n->feed) == 0)
		return;
	h = feed_find(n->feed, ftab_hash(feed_table(n->feed), key, klen), key, klen);
	if (h == FTAB_NIL)
		return;
	if (n->take != NULL || local_resyncing(n->local)) {
		p->missed = true;
		return;
	}
	for (i = 0; i < p->nclaims; i++)
		if (p->claims[i].said.owner == n->id && p->claims[i].said.epoch == n->conf.epoch &&
		    p->claims[i].said.term == p->term && p->claims[i].proved &&
		    was_adopted(n, &p->claims[i], h)) {
			if (!yield_key(n, key, klen) && (!submit_yield(n) || !yield_key(n, key, klen)))
				p->missed = true;
			return;
		}
	/* no packets tell of it: the kernel has to be asked, which takes a while */
	if (n->purge_us == 0 && feed_version_of(n->feed, h) <= n->purge_version)
		purge_plan(n);
}

void
owner_gone(void *ctx, const uint8_t *key, size_t klen)
{
	struct peer	*p = ctx, *q;
	struct node	*n = p->node;
	uint32_t	 h;
	unsigned	 i;

	if (n->role == NODE_ACTIVE)
		return;
	if (authority(n) != p || !proven(p, 0)) {
		p->missed = true;
		return;
	}
	for (i = 0; i < n->npeers; i++) {
		q = &n->peers[i];
		if (q == p || q->term >= p->term || q->unmarking)
			continue;
		h = find_in(recv_table(q->recv), key, klen);
		if (h == FTAB_NIL || (ftab_meta(recv_table(q->recv), h)->flags & RF_ENDED))
			continue;
		ftab_meta(recv_table(q->recv), h)->flags |= RF_ENDED;
		q->marked++;
	}
	own_gone(n, p, key, klen);
}
