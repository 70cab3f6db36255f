/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Taking over: remote flows go into the kernel and become our own; the role;
 * tightening TCP windows afterwards; and, on a standby, the removal of flows
 * that the active node no longer has.
 *
 * Flows go in the order of their worth: assured TCP, other assured ones, the
 * rest.  A flow becomes ours when the kernel has acknowledged it.  What a
 * packet touched since the takeover began is newer than any replica and stays.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node_priv.h"

#define PASSES		3u
#define JOBS_MAX	6u		/* under way */
#define LOOK_ENTRIES	16384u		/* of a remote table in one call */
#define PURGE_ENTRIES	8192u
#define PURGE_PASSES	10u

/* Seconds after a takeover at which the kernel is looked at for relearned windows. */
static const unsigned	looks_s[] = { 1, 3, 10, 30 };
#define LOOKS		(sizeof(looks_s) / sizeof(looks_s[0]))

/* Milliseconds between a takeover and the further looks at a peer that lives. */
static const unsigned	follow_ms[] = { 300, 700, 2000 };
#define FOLLOWS		(sizeof(follow_ms) / sizeof(follow_ms[0]))

/* A remote entry (ftab_meta): the kernel has it since a takeover; touched_s: last takeover that took it. */
#define RF_TAKEN	0x01u

struct take {
	unsigned	 pass;
	unsigned	 peer;
	uint32_t	 h;		/* in that peer's table */
	uint32_t	 jobs;		/* under way */
	struct kjob	*job;		/* being filled */
	bool		 was_active;
	bool		 resumed;	/* makes up for one that was interrupted */
	bool		 follow;	/* a further look, nobody waits for it */
	bool		 at_end;	/* all flows were looked at */
	bool		 unsure;	/* the kernel had some of the flows already */
};

/* --- what a takeover is based on ------------------------------------------------ */

static void
describe_peer(const struct node *n, const struct peer *p, char *out, size_t cap)
{
	uint64_t	 v = recv_verified_us(p->recv);
	unsigned	 flows = ftab_count(recv_table(p->recv));

	if (p->rx_us == 0)
		snprintf(out, cap, "%s was never seen", p->name);
	else if (recv_in_sync(p->recv, n->now_us))
		snprintf(out, cap, "equal to %s as of %llu ms ago", p->name,
		    (unsigned long long)((n->now_us - v) / 1000));
	else if (p->lost && p->equal_at_loss)
		snprintf(out, cap, "equal as of the death of %s, %llu ms ago", p->name,
		    (unsigned long long)((n->now_us - p->rx_us) / 1000));
	else if (v != 0)
		snprintf(out, cap, "%u flows of %s, last verified %llu ms ago", flows, p->name,
		    (unsigned long long)((n->now_us - v) / 1000));
	else
		snprintf(out, cap, "%u flows of %s, NOT verified", flows, p->name);
}

static void
describe(struct node *n)
{
	char		 one[128];
	size_t		 len = 0;
	unsigned	 i;
	int		 rc;

	n->taken.basis[0] = '\0';
	for (i = 0; i < n->npeers; i++) {
		describe_peer(n, &n->peers[i], one, sizeof(one));
		rc = snprintf(n->taken.basis + len, NODE_BASIS_MAX - len, "%s%s",
		    i > 0 ? "; " : "", one);
		if (rc < 0 || (size_t)rc >= NODE_BASIS_MAX - len)
			return;
		len += (size_t)rc;
	}
	if (n->npeers == 0)
		snprintf(n->taken.basis, NODE_BASIS_MAX, "no peers are configured");
}

/* --- taking ------------------------------------------------------------------------ */

static void
set_role(struct node *n, enum node_role role)
{
	unsigned	 i;

	if (n->role == role)
		return;
	n->role = role;
	log_msg(LOG_NOTICE, "role: %s", role == NODE_ACTIVE ? "active" : "standby");
	n->ops->role(n->ctx, role, role == NODE_STANDBY);
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].epoch != 0)
			sess_signal(n, &n->peers[i], true);
}

/* No more flows are looked at; what the kernel has been given comes back. */
static void
end_walk(struct node *n)
{
	n->take->at_end = true;
	kjob_free(n->take->job);
	n->take->job = NULL;
}

void
node_takeover(struct node *n, enum node_take what, uint64_t now_us)
{
	bool	 was_active = n->role == NODE_ACTIVE && !n->resume;

	n->now_us = now_us;
	if (n->take != NULL && n->take->follow) {
		/* let it end: its jobs are not to be counted here */
		end_walk(n);
		n->queued = true;
		n->queued_what = what;
		n->taken.running = true;
		return;
	}
	if (what == NODE_TAKEOVER)
		set_role(n, NODE_ACTIVE);
	if (n->take != NULL) {
		if (what == NODE_TAKEOVER)
			n->taken.what = what;
		return;
	}
	memset(&n->taken, 0, sizeof(n->taken));
	n->taken.what = what;
	n->taken.running = true;
	n->taken.started_us = now_us;
	describe(n);
	if ((n->take = calloc(1, sizeof(*n->take))) == NULL) {
		n->taken.running = false;
		n->taken.failed = n->taken.failures[0].count = 1;
		n->taken.failures[0].err = ENOMEM;
		n->taken.nfailures = 1;
		n->taken.ended_us = now_us;
		return;
	}
	n->take->was_active = was_active;
	n->take_us = now_us;
	if (++n->take_seq == 0)
		n->take_seq = 1;
	/* only who is being relieved has news for us afterwards */
	n->follows = was_active ? FOLLOWS : 0;
	n->follow_us = 0;
	local_adopting(n->local, true, now_us);
	log_msg(LOG_NOTICE, "%s begins: %s", what == NODE_TAKEOVER ? "takeover" : "commit",
	    n->taken.basis);
}

static bool
peer_alive(const struct node *n)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (sess_up(n, &n->peers[i]))
			return true;
	return false;
}

/*
 * A node that is being relieved goes on forwarding until the addresses have
 * moved: what it still tells is taken too, for a few seconds.
 */
static void
plan_follow(struct node *n)
{
	n->follow_us = 0;
	if (n->follows < FOLLOWS && n->role == NODE_ACTIVE && peer_alive(n))
		n->follow_us = n->now_us + (uint64_t)follow_ms[n->follows++] * 1000;
	if (n->follow_us == 0)
		local_adopting(n->local, false, n->now_us);
}

static void
follow(struct node *n)
{
	n->follow_us = 0;
	if ((n->take = calloc(1, sizeof(*n->take))) == NULL) {
		plan_follow(n);
		return;
	}
	n->take->was_active = n->take->follow = true;
	n->take_us = n->now_us;
	if (++n->take_seq == 0)
		n->take_seq = 1;
}

void
take_free(struct node *n)
{
	if (n->take != NULL)
		kjob_free(n->take->job);
	free(n->take);
	kjob_free(n->strict);
	n->take = NULL;
	n->strict = NULL;
}

/* Which pass an entry belongs to.  Reads no more than it has to. */
static unsigned
pass_of(const struct flow *f)
{
	if (!(f->status & FLOW_S_ASSURED))
		return 2;
	return f->proto == IPPROTO_TCP ? 0 : 1;
}

/*
 * A node that is active already does not take from a standby that lives: what
 * that one has and we lack has ended here.
 */
static bool
takes_from(const struct node *n, const struct peer *p)
{
	return n->take->follow || !(n->take->was_active && sess_up(n, p) && !p->active);
}

/* A timeout that the kernel takes, where none was told (offloaded flows). */
static uint32_t
sound_timeout(const struct flow *f, uint32_t told_s)
{
	if (told_s > 0)
		return told_s;
	return f->proto == IPPROTO_TCP && f->tcp_state == FLOW_TCP_ESTABLISHED ? 432000 : 120;
}

static bool
submit_job(struct node *n)
{
	struct take	*t = n->take;

	if (t->job == NULL || t->job->n == 0)
		return true;
	if (t->jobs >= JOBS_MAX || n->ops->kernel.submit(n->ctx, t->job) < 0)
		return false;
	t->job = NULL;
	t->jobs++;
	return true;
}

/* Put entry h of p's table into the job at hand if it belongs to this pass. */
static bool
take_entry(struct node *n, struct peer *p, uint32_t h)
{
	struct take		*t = n->take;
	struct ftab_meta	*m = ftab_meta(recv_table(p->recv), h);
	struct flow		 f;
	const uint8_t		*body;
	size_t			 len;

	if (m->touched_s == n->take_seq)
		return true;
	body = ftab_body(recv_table(p->recv), h, &len);
	if (flow_unpack(body, len, &f) < 0 || pass_of(&f) > t->pass)
		return true;
	/*
	 * What an earlier takeover gave to the kernel is ours since then: if it
	 * is there no more, it has ended here.
	 */
	if ((t->was_active && (m->flags & RF_TAKEN)) || local_newer(n->local, &f)) {
		m->touched_s = n->take_seq;
		n->taken.flows++;
		n->taken.ours++;
		return true;
	}
	if (t->job == NULL && (t->job = kjob_new(KOP_CREATE, KOWNER_TAKEOVER)) == NULL)
		return false;
	if (kjob_add(t->job, body, len, sound_timeout(&f, m->timeout_s)) < 0)
		return false;
	m->touched_s = n->take_seq;
	n->taken.flows++;
	return true;
}

/* The kernel has the flow now: whoever told us of it, it is ours. */
static void
mark_taken(struct node *n, const uint8_t *body, size_t len)
{
	size_t		 klen = flow_key_len(body, len);
	struct ftab	*t;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		t = recv_table(n->peers[i].recv);
		h = ftab_find(t, ftab_hash(t, body, klen), body, klen);
		if (h != FTAB_NIL && ftab_meta(t, h)->touched_s == n->take_seq)
			ftab_meta(t, h)->flags |= RF_TAKEN;
	}
}

/* Walk on; false when the kernel's queue is full or there is nothing left. */
static bool
walk(struct node *n)
{
	struct take	*t = n->take;
	struct peer	*p;
	uint32_t	 h;
	unsigned	 looked = 0;

	t->at_end = n->npeers == 0;
	while (!t->at_end && looked++ < LOOK_ENTRIES) {
		if (t->job != NULL && t->job->n == KJOB_ITEMS_MAX && !submit_job(n))
			return false;
		if (t->peer == n->npeers) {
			t->peer = 0;
			t->at_end = ++t->pass == PASSES;
			continue;
		}
		p = &n->peers[t->peer];
		h = takes_from(n, p) ? ftab_next(recv_table(p->recv), t->h) : FTAB_NIL;
		if (h == FTAB_NIL) {
			t->peer++;
			t->h = FTAB_NIL;
			continue;
		}
		if (!take_entry(n, p, h))
			return false;
		t->h = h;
	}
	return !t->at_end;
}

static void
finish(struct node *n)
{
	struct node_taken	*k = &n->taken;
	bool			 was_follow = n->take->follow;

	if (n->take->resumed)
		n->resume = false;
	/*
	 * Of what the kernel had already our write has set bits of the status, but
	 * cleared none, and left the translation alone: read what came of it.
	 */
	if (n->take->unsure)
		local_overrun(n->local, n->take_us);
	take_free(n);
	if (was_follow) {
		node_late(n, n->take_us);
		plan_follow(n);
		if (n->queued) {
			n->queued = false;
			node_takeover(n, n->queued_what, n->now_us);
			if (!n->taken.running)
				n->ops->taken(n->ctx);	/* it failed at once; somebody waits */
		}
		return;
	}
	plan_follow(n);
	k->running = false;
	k->ended_us = n->now_us;
	node_late(n, k->started_us);
	log_msg(k->failed > 0 ? LOG_WARNING : LOG_NOTICE,
	    "%s done in %llu ms: %llu flows, %llu created, %llu updated, %llu ours already, %llu failed",
	    k->what == NODE_TAKEOVER ? "takeover" : "commit",
	    (unsigned long long)((k->ended_us - k->started_us) / 1000), (unsigned long long)k->flows,
	    (unsigned long long)k->created, (unsigned long long)k->updated,
	    (unsigned long long)k->ours, (unsigned long long)k->failed);
	if (n->role == NODE_ACTIVE && !k->aborted)
		n->ops->role(n->ctx, NODE_ACTIVE, true);
	if (n->conf.liberal && k->created + k->updated > 0) {
		n->look = 0;
		n->look_us = n->now_us + looks_s[0] * 1000000u;
	}
	n->ops->taken(n->ctx);
}

/*
 * A takeover that ended with the daemon is made again as soon as all peers that
 * are there have told us their flows, or when nobody comes.
 */
static void
resume(struct node *n)
{
	unsigned	 i, there = 0;

	if (!n->resume || n->take != NULL || !local_complete(n->local))
		return;
	for (i = 0; i < n->npeers; i++) {
		if (!sess_up(n, &n->peers[i]))
			continue;
		there++;
		if (!recv_in_sync(n->peers[i].recv, n->now_us))
			return;
	}
	if (there == 0 && n->now_us - n->born_us < n->conf.boot_wait_us)
		return;
	log_msg(LOG_WARNING, "the takeover that a restart interrupted is made again");
	node_takeover(n, NODE_TAKEOVER, n->now_us);
	if (n->take != NULL)
		n->take->resumed = true;
}

bool
take_run(struct node *n)
{
	bool	 more;

	if (n->look_us != 0 && n->now_us >= n->look_us) {
		local_resync(n->local);
		n->look_us = 0;
		if (++n->look < LOOKS)
			n->look_us = n->now_us + (looks_s[n->look] - looks_s[n->look - 1]) * 1000000u;
	}
	resume(n);
	if (n->take == NULL && n->follow_us != 0 && n->now_us >= n->follow_us)
		follow(n);
	if (n->take == NULL)
		return false;
	more = !n->take->at_end && walk(n);
	if (n->take->at_end && submit_job(n) && n->take->jobs == 0)
		finish(n);
	return more;
}

uint64_t
take_due(const struct node *n)
{
	uint64_t	 due = n->look_us != 0 ? n->look_us : UINT64_MAX;

	if (n->follow_us != 0 && n->follow_us < due)
		due = n->follow_us;
	/* a pass that is under way is woken by its jobs */
	return n->purge_us != 0 && !n->purging && !n->flushing && n->purge_us < due ?
	    n->purge_us : due;
}

static void
note_failure(struct node *n, const struct kjob *j, const struct kitem *it)
{
	struct node_taken	*k = &n->taken;
	struct flow		 f;
	unsigned		 i;
	int			 err = -it->err;

	k->failed++;
	for (i = 0; i < k->nfailures; i++)
		if (k->failures[i].err == err) {
			k->failures[i].count++;
			return;
		}
	if (k->nfailures == NODE_FAILURES_MAX)
		return;
	k->failures[i].err = err;
	k->failures[i].count = 1;
	if (flow_unpack(j->bytes + it->off, it->len, &f) == 0)
		flow_str(&f, k->failures[i].example);
	k->nfailures++;
}

void
take_job_done(struct node *n, struct kjob *j)
{
	struct kitem	*it;
	uint32_t	 i;

	if (j->op == KOP_CREATE && n->take != NULL) {
		for (i = 0; i < j->n; i++) {
			it = &j->items[i];
			if (it->err < 0) {
				note_failure(n, j, it);
				continue;
			}
			n->taken.created++;
			mark_taken(n, j->bytes + it->off, it->len);
			if (local_adopt(n->local, j->bytes + it->off, it->len, it->timeout_s,
			    n->take_us, n->now_us) > 0)
				n->taken.adopted++;
		}
		n->taken.created -= j->updated;
		n->taken.updated += j->updated;
		n->take->unsure |= j->updated > 0;
		n->take->jobs--;
	}
	if (j->op == KOP_STRICT)
		for (i = 0; i < j->n; i++)
			if (j->items[i].err == 0)
				local_strict(n->local, j->bytes + j->items[i].off,
				    j->items[i].len);
	kjob_free(j);
}

const struct node_taken *
node_taken(const struct node *n)
{
	return &n->taken;
}

/* --- windows ----------------------------------------------------------------------------- */

/* An entry of a dump: is it liberal, and has the kernel relearned both windows? */
void
take_strict_entry(struct node *n, const struct flow *f)
{
	uint8_t	 key[FLOW_KEY_MAX];
	size_t	 klen;

	if (f->proto != IPPROTO_TCP || !((f->tcp_flags[0] | f->tcp_flags[1]) & FLOW_TF_BE_LIBERAL))
		return;
	/* others may want it so: flow offload does */
	if (!local_liberal(n->local, f))
		return;
	n->liberal_now++;
	if (!n->conf.liberal || !(f->tcp_flags[0] & f->tcp_flags[1] & FLOW_TF_MAXACK_SET))
		return;
	if (n->strict == NULL && (n->strict = kjob_new(KOP_STRICT, KOWNER_TAKEOVER)) == NULL)
		return;
	klen = flow_pack_key(f, key);
	if (kjob_add(n->strict, key, klen, 0) < 0)
		return;
	n->liberal_now--;
	if (n->strict->n < KJOB_ITEMS_MAX)
		return;
	if (n->ops->kernel.submit(n->ctx, n->strict) == 0) {
		n->strict = NULL;
		return;
	}
	/* the kernel is busy: the next look finds them again */
	n->liberal_now += n->strict->n;
	kjob_free(n->strict);
	n->strict = NULL;
}

void
take_dump_end(struct node *n)
{
	if (n->strict != NULL && n->strict->n > 0 &&
	    n->ops->kernel.submit(n->ctx, n->strict) < 0) {
		n->liberal_now += n->strict->n;
		kjob_free(n->strict);
	}
	n->strict = NULL;
	n->liberal = n->liberal_now;
	n->liberal_now = 0;
}

uint32_t
node_liberal(const struct node *n)
{
	return n->liberal;
}

/* --- standby ------------------------------------------------------------------------------- */

void
node_release(struct node *n, uint64_t now_us)
{
	n->now_us = now_us;
	n->follows = FOLLOWS;
	if (n->follow_us != 0) {
		n->follow_us = 0;
		local_adopting(n->local, false, now_us);
	}
	if (n->take != NULL && !n->take->at_end) {
		if (!n->take->follow) {
			log_msg(LOG_WARNING, "a takeover that was under way is given up");
			n->taken.aborted = true;
		}
		end_walk(n);
	}
	n->resume = false;
	set_role(n, NODE_STANDBY);
	purge_begin(n);
}

/*
 * From here on this node is standby: what it holds now goes if the active node
 * lacks it and no packet refreshes it.  What comes later is none of our business.
 */
void
purge_begin(struct node *n)
{
	n->purge_version = feed_version(n->feed);
	n->purge_passes = PURGE_PASSES;
	n->purge_us = n->now_us + n->conf.purge_us;
	n->purging = false;
}

/* Does the active node that we are equal to have the flow?  Nobody active: yes. */
static bool
active_has(const struct node *n, const uint8_t *key, size_t klen)
{
	const struct peer	*p;
	struct ftab		*t;
	unsigned		 i;
	bool			 sure = false;

	for (i = 0; i < n->npeers; i++) {
		p = &n->peers[i];
		if (!p->active)
			continue;
		if (!sess_up(n, p) || !recv_in_sync(p->recv, n->now_us))
			return true;		/* not known */
		t = recv_table(p->recv);
		if (ftab_find(t, ftab_hash(t, key, klen), key, klen) != FTAB_NIL)
			return true;
		sure = true;
	}
	return !sure;
}

/* May a standby remove anything now? */
static bool
may_purge(const struct node *n)
{
	unsigned	 i;

	if (n->role != NODE_STANDBY || n->take != NULL || !local_complete(n->local) ||
	    local_resyncing(n->local))
		return false;
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].active && sess_up(n, &n->peers[i]) &&
		    recv_in_sync(n->peers[i].recv, n->now_us))
			return true;
	return false;
}

static bool	flush_some(struct node *n);

/* Nothing left to go, or what is left is used: done. */
static void
purge_pass_done(struct node *n)
{
	n->purging = false;
	if (n->purge_found > 0 && --n->purge_passes > 0)
		return;
	n->purge_us = 0;
	if (n->purged > 0)
		log_msg(LOG_INFO, "standby: %llu flows that the active node no longer has were removed",
		    (unsigned long long)n->purged);
}

/*
 * Ask the kernel about our flows that the active node lacks.  Who has not been
 * refreshed since the last time it was asked goes: see purge_job_done().
 */
bool
purge_run(struct node *n)
{
	struct kjob	*j;
	const uint8_t	*body;
	size_t		 len, klen;
	uint32_t	 looked = 0;

	if (n->flushing)
		return flush_some(n);
	if (!n->purging) {
		if (n->purge_us == 0 || n->now_us < n->purge_us)
			return false;
		n->purge_us = n->now_us + n->conf.purge_us;
		n->purge_h = FTAB_NIL;
		n->purge_found = 0;
		n->purging = may_purge(n);
	}
	if (!n->purging || n->purge_jobs > 0)
		return false;
	if (!may_purge(n) || (j = kjob_new(KOP_GET, KOWNER_PURGE)) == NULL) {
		n->purging = false;
		return false;
	}
	while (j->n < KJOB_ITEMS_MAX && looked++ < PURGE_ENTRIES) {
		if ((n->purge_h = feed_next(n->feed, n->purge_h)) == FTAB_NIL) {
			purge_pass_done(n);
			break;
		}
		if (feed_version_of(n->feed, n->purge_h) > n->purge_version)
			continue;
		body = ftab_body(feed_table(n->feed), n->purge_h, &len);
		klen = flow_key_len(body, len);
		if (active_has(n, body, klen))
			continue;
		n->purge_found++;
		if (kjob_add(j, body, klen, 0) < 0)
			break;
	}
	if (j->n > 0 && n->ops->kernel.submit(n->ctx, j) == 0)
		n->purge_jobs++;
	else
		kjob_free(j);
	return n->purging && n->purge_jobs == 0;
}

void
node_flush_kernel(struct node *n)
{
	n->flushing = true;
	n->flush_h = FTAB_NIL;
}

/* The next piece of what an operator wants deleted. */
static bool
flush_some(struct node *n)
{
	struct kjob	*j;
	const uint8_t	*body;
	size_t		 len;
	uint32_t	 h = n->flush_h;

	if (n->purge_jobs >= JOBS_MAX || (j = kjob_new(KOP_DELETE, KOWNER_PURGE)) == NULL)
		return false;
	while (j->n < KJOB_ITEMS_MAX && (h = feed_next(n->feed, h)) != FTAB_NIL) {
		body = ftab_body(feed_table(n->feed), h, &len);
		if (kjob_add(j, body, flow_key_len(body, len), 0) < 0)
			break;
	}
	if (j->n > 0 && n->ops->kernel.submit(n->ctx, j) < 0) {
		kjob_free(j);
		return false;
	}
	if (j->n > 0)
		n->purge_jobs++;
	else
		kjob_free(j);
	n->flush_h = h;
	n->flushing = h != FTAB_NIL;
	return n->flushing;
}

static void
purge_stale(struct node *n, const struct kjob *got)
{
	struct kjob		*j = kjob_new(KOP_DELETE, KOWNER_PURGE);
	const struct kitem	*it;
	uint32_t		 i;

	if (j == NULL)
		return;
	for (i = 0; i < got->n; i++) {
		it = &got->items[i];
		if (it->err < 0 || !(got->flows[i].has & FLOW_HAS_TIMEOUT) ||
		    active_has(n, got->bytes + it->off, it->len))
			continue;
		if (local_aged(n->local, got->bytes + it->off, it->len, got->flows[i].timeout_s,
		    (uint32_t)(n->conf.purge_us / 1000000)))
			if (kjob_add(j, got->bytes + it->off, it->len, 0) < 0)
				break;
	}
	if (j->n > 0 && n->ops->kernel.submit(n->ctx, j) == 0)
		n->purge_jobs++;
	else
		kjob_free(j);
}

void
purge_job_done(struct node *n, struct kjob *j)
{
	uint32_t	 i;

	n->purge_jobs--;
	if (j->op == KOP_GET && may_purge(n))
		purge_stale(n, j);
	else if (j->op == KOP_DELETE)
		for (i = 0; i < j->n; i++)
			if (j->items[i].err == 0 || j->items[i].err == -ENOENT) {
				local_removed(n->local, j->bytes + j->items[i].off,
				    j->items[i].len, n->now_us);
				n->purged++;
			}
	kjob_free(j);
}

uint64_t
node_purged(const struct node *n)
{
	return n->purged;
}
