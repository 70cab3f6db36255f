/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Role and term, what the peers say of theirs, and when that asks for a pass.
 */
#include <stdlib.h>
#include <string.h>

#include "ownership_priv.h"
#include "purge.h"
#include "session.h"
#include "takeover.h"
#include "windows.h"

#define TWO_ACTIVE_US	2000000u	/* a planned switch takes a moment */
#define BIRTHS_US	10000000u	/* see ownership_births() */
#define BESIDE_US	30000000u	/* between audits while two nodes are active */
#define SANE_MS		1600000000000u	/* a wall clock that shows less was never set */
#define ABSURD_MS	3500000000000u	/* and one that shows more (the year 2080) is wrong */
#define UNMARK_ENTRIES	4096u		/* looked at in one call */

struct ownership *
ownership_new(struct node *n)
{
	struct ownership	*o = calloc(1, sizeof(*o));
	uint64_t		 wall_ms = n->ops->wall_ms(n->ctx);

	if (o == NULL)
		return NULL;
	if (wall_ms >= ABSURD_MS)
		wall_ms = 0;		/* until a peer tells the time */
	o->role = n->conf.role;
	o->term = n->conf.term;
	o->asked = n->conf.asked;
	o->resume = n->conf.role == NODE_ACTIVE;
	o->standby_us = o->active_us = n->now_us;
	o->log = (struct log_limit)LOG_LIMIT_INIT;
	o->clock_ms = wall_ms - n->now_us / 1000;
	local_set_clock(n->local, o->clock_ms);
	local_observe(n->local, &ownership_observer, n);
	o->clocked = wall_ms > SANE_MS;
	return o;
}

void
ownership_free(struct ownership *o)
{
	if (o == NULL)
		return;
	claims_free(o);
	free(o);
}

/* --- role and term ----------------------------------------------------------- */

bool
ownership_active(const struct node *n)
{
	return n->ownership->role == NODE_ACTIVE;
}

uint32_t
ownership_term(const struct node *n)
{
	return n->ownership->term;
}

uint64_t
ownership_standby_us(const struct node *n)
{
	return n->ownership->standby_us;
}

uint64_t
ownership_took_over_us(const struct node *n)
{
	const struct ownership	*o = n->ownership;

	return o->role == NODE_ACTIVE && o->active_us > o->standby_us ? o->active_us : 0;
}

bool
ownership_resuming(const struct node *n)
{
	return n->ownership->resume;
}

bool
ownership_taking(const struct node *n)
{
	return ownership_active(n) && (n->ownership->resume || !takeover_complete(n));
}

static uint32_t
highest_term(const struct node *n)
{
	uint32_t	 top = n->ownership->term;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (n->ownership->peers[i].term > top)
			top = n->ownership->peers[i].term;
	return top;
}

static uint32_t
term_above(uint32_t term)
{
	return term < WIRE_TERM_MAX ? term + 1 : term;
}

/* Role or term have changed: the peers are told at once, and a restart remembers. */
static void
announce(struct node *n, bool done)
{
	unsigned	 i;

	n->ops->role(n->ctx, n->ownership->role, done);
	for (i = 0; i < n->npeers; i++)
		session_signal(n, n->session[i], true);
}

void
ownership_activate(struct node *n)
{
	struct ownership	*o = n->ownership;
	bool			 was_active = o->role == NODE_ACTIVE;

	o->term = term_above(highest_term(n));
	o->role = NODE_ACTIVE;
	o->asked = true;
	if (!was_active) {
		o->active_us = n->now_us;
		log_msg(LOG_NOTICE, "role: active, term %u", o->term);
	}
	announce(n, false);
}

void
ownership_settled(struct node *n)
{
	n->ownership->resume = false;
	n->ops->role(n->ctx, NODE_ACTIVE, true);
}

/* A window in which events of new flows are counted begins. */
static void
begin_births(struct node *n)
{
	n->ownership->births_base = local_stats(n->local)->born;
	n->ownership->births_at_us = n->now_us;
}

void
ownership_release(struct node *n)
{
	struct ownership	*o = n->ownership;
	unsigned		 i;

	o->resume = false;
	o->asked = true;
	if (o->role == NODE_STANDBY) {
		n->ops->role(n->ctx, NODE_STANDBY, true);
		return;
	}
	o->role = NODE_STANDBY;
	o->standby_us = n->now_us;
	begin_births(n);
	o->births = 0;			/* what came until now was its own */
	for (i = 0; i < n->npeers; i++)
		o->peers[i].claim.held = o->peers[i].next_claim.held = false;
	log_msg(LOG_NOTICE, "role: standby, term %u", o->term);
	announce(n, true);
}

/*
 * Whoever is not active owns less than we do: if our term was lost with the
 * runtime directory, a higher one than its is due.
 */
static void
raise_term(struct node *n)
{
	struct ownership	*o = n->ownership;
	uint32_t		 top = highest_term(n);
	unsigned		 i;

	for (i = 0; i < n->npeers; i++)
		if (o->peers[i].active)
			return;
	if (o->role != NODE_ACTIVE || o->resume || o->term == WIRE_TERM_MAX)
		return;
	for (i = 0; i < n->npeers && o->peers[i].term < top; i++)
		;
	if (i == n->npeers)
		return;
	o->term = term_above(top);
	log_msg(LOG_INFO, "%s is not active and has term %u: ours is %u now",
	    session_name(n->session[i]), top, o->term);
	n->ops->role(n->ctx, NODE_ACTIVE, takeover_complete(n));
}

/*
 * A role that is only what it was before a restart: nobody has asked for it
 * since, and another node has taken over meanwhile.
 */
static void
step_back(struct node *n, unsigned peer)
{
	const struct owner_peer	*p = &n->ownership->peers[peer];

	if (n->ownership->asked || n->ownership->role != NODE_ACTIVE || !p->active ||
	    p->term <= n->ownership->term)
		return;
	log_msg(LOG_WARNING, "%s has taken over since (term %u, ours is %u), and nobody has asked this "
	    "node to be active again: it is standby", session_name(n->session[peer]), p->term,
	    n->ownership->term);
	takeover_stop(n);
	ownership_release(n);
	purge_begin(n);
}

/* --- peers ---------------------------------------------------------------------- */

bool
ownership_peer_active(const struct node *n, unsigned peer)
{
	return n->ownership->peers[peer].active;
}

bool
ownership_peer_taking(const struct node *n, unsigned peer)
{
	return n->ownership->peers[peer].taking;
}

int64_t
ownership_peer_term(const struct node *n, unsigned peer)
{
	return n->ownership->peers[peer].probed ? (int64_t)n->ownership->peers[peer].term : -1;
}

uint64_t
ownership_peer_ended(const struct node *n, unsigned peer)
{
	return n->ownership->peers[peer].ended;
}

unsigned
ownership_actives(const struct node *n)
{
	unsigned	 i, sum = ownership_active(n);

	for (i = 0; i < n->npeers; i++)
		sum += n->ownership->peers[i].active;
	return sum;
}

uint64_t
ownership_nobody_us(const struct node *n)
{
	return ownership_actives(n) > 0 ? 0 : n->ownership->none_us;
}

/* The peer decides about its flows itself from now on. */
static void
became_active(struct owner_peer *p)
{
	p->unmarking = true;
	p->unmark_h = FTAB_NIL;
}

void
ownership_probe(struct node *n, unsigned peer, const struct wire_probe *probe)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	bool			 active = probe->flags & WIRE_PROBE_ACTIVE;
	bool			 taking = probe->flags & WIRE_PROBE_TAKING;
	bool			 stopped = p->active && !active, rose = probe->term > p->term;

	if (!p->probed || active != p->active || taking != p->taking || probe->term != p->term)
		p->settled_us = n->now_us;
	if (active && !p->active)
		became_active(p);
	if (!active)
		p->heard.held = false;
	rose &= p->probed;
	p->active = active;
	p->taking = taking;
	p->term = probe->term;
	p->probed = true;
	step_back(n, peer);
	/* it has carried packets, now or while nobody looked */
	if (ownership_active(n) && (stopped || rose))
		takeover_pass(n, peer);
}

void
ownership_new_epoch(struct node *n, unsigned peer, bool rebooted)
{
	struct owner_peer	*p = &n->ownership->peers[peer];

	p->settled_us = n->now_us;
	p->claim.held = p->next_claim.held = p->heard.held = p->heard.waiting = false;
	if (rebooted)
		p->active = p->taking = false;
}

void
ownership_leaving(struct node *n, unsigned peer)
{
	if (ownership_active(n))
		takeover_pass(n, peer);
}

void
ownership_lost(struct node *n, unsigned peer)
{
	struct owner_peer	*p = &n->ownership->peers[peer];

	p->active = p->taking = false;
	p->heard.held = p->heard.waiting = false;
	if (ownership_active(n))
		takeover_pass(n, peer);
}

/* It was not heard for a while: it may have carried what we believe to be ours. */
void
ownership_back(struct node *n, unsigned peer)
{
	if (!ownership_active(n))
		return;
	takeover_pass(n, peer);
	windows_loosen_all(n);
}

void
ownership_forget(struct node *n, unsigned peer)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	struct claim		 claim = p->claim, next = p->next_claim;
	uint64_t		 generation = p->generation;

	claim.held = next.held = false;
	memset(p, 0, sizeof(*p));
	p->generation = generation;
	p->claim = claim;
	p->next_claim = next;
}

/* --- cluster time -------------------------------------------------------------------- */

uint64_t
ownership_clock_ms(const struct node *n)
{
	return n->ownership->clock_ms + n->now_us / 1000;
}

void
ownership_hear_clock(struct node *n, uint64_t ms)
{
	struct ownership	*o = n->ownership;
	uint64_t		 ours = ownership_clock_ms(n);

	if (ms >= ABSURD_MS) {
		log_limited(&o->log, LOG_WARNING, "a peer tells %llu s as the time of the cluster: is its "
		    "clock right?", (unsigned long long)(ms / 1000));
		return;
	}
	o->clocked |= ms > SANE_MS;
	if (ms <= ours)
		return;
	o->clock_ms += ms - ours;
	local_set_clock(n->local, o->clock_ms);
}

/* --- time ------------------------------------------------------------------------------- */

/*
 * The copy of a peer has become comparable in a new generation: it, or this
 * node, has restarted, and whatever it carried meanwhile is here now.
 */
static void
watch_generations(struct node *n)
{
	struct owner_peer	*p;
	uint64_t		 generations;
	unsigned		 i;

	for (i = 0; i < n->npeers; i++) {
		p = &n->ownership->peers[i];
		generations = recv_stats(n->recv[i])->generations;
		if (p->generation == generations || recv_state(n->recv[i]) != RECV_COMPARING)
			continue;
		p->generation = generations;
		if (ownership_active(n))
			takeover_pass(n, i);
	}
}

static void
watch_actives(struct node *n)
{
	struct ownership	*o = n->ownership;
	unsigned		 i;

	if (ownership_actives(n) > 0)
		o->none_us = 0;
	else if (o->none_us == 0)
		o->none_us = n->now_us;
	if (ownership_actives(n) < 2) {
		o->two_us = 0;
		o->two_said = false;
		return;
	}
	if (o->two_us == 0) {
		o->two_us = o->beside_us = n->now_us;
		if (o->role == NODE_ACTIVE)
			windows_loosen_all(n);
	}
	/* which copies are in use is seen by their counters only */
	if (n->now_us - o->beside_us >= BESIDE_US) {
		o->beside_us = n->now_us;
		local_audit(n->local);
	}
	if (o->two_said || n->now_us - o->two_us < TWO_ACTIVE_US)
		return;
	o->two_said = true;
	for (i = 0; i < n->npeers; i++)
		if (o->peers[i].active)
			log_msg(LOG_WARNING, "TWO NODES AT ONCE: %s says that it is active, and so %s: check "
			    "keepalived or Pacemaker; flows of both are replicated and followed, and no standby removes any",
			    session_name(n->session[i]),
			    o->role == NODE_ACTIVE ? "are we" : "does another node");
}

static bool
unmark_some(struct node *n, unsigned peer)
{
	struct owner_peer	*p = &n->ownership->peers[peer];
	struct ftab		*t = recv_table(n->recv[peer]);
	unsigned		 looked = 0;

	while (looked++ < UNMARK_ENTRIES && (p->unmark_h = ftab_next(t, p->unmark_h)) != FTAB_NIL)
		ftab_meta(t, p->unmark_h)->flags &= (uint8_t)~REMOTE_ENDED;
	p->unmarking = p->unmark_h != FTAB_NIL;
	return p->unmarking;
}

/* Events of new flows, in windows of ten seconds. */
static void
watch_births(struct node *n)
{
	struct ownership	*o = n->ownership;
	uint64_t		 born = local_stats(n->local)->born;

	if (n->now_us - o->births_at_us < BIRTHS_US)
		return;
	o->births = (uint32_t)(born - o->births_base);
	begin_births(n);
}

uint32_t
ownership_births(const struct node *n)
{
	const struct ownership	*o = n->ownership;
	uint32_t		 now = (uint32_t)(local_stats(n->local)->born - o->births_base);

	return now > o->births ? now : o->births;
}

void
ownership_run(struct node *n, bool *more)
{
	unsigned	 i;

	watch_actives(n);
	watch_generations(n);
	watch_births(n);
	raise_term(n);
	for (i = 0; i < n->npeers; i++) {
		claims_run(n, i);
		if (n->ownership->peers[i].unmarking)
			*more |= unmark_some(n, i);
	}
}
