/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Taking over: remote flows go into the kernel and become our own; tightening
 * TCP windows afterwards.
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

/*
 * Passes over the tables.  First one for each class of worth; then flows that
 * have a master, a pass for each generation; expectations; what is left, among
 * it whatever has lost its master.
 */
#define PASS_RELATED	3u
#define PASS_RELATED_END 6u
#define PASS_EXPECTS	6u
#define PASS_LEFT	7u
#define PASSES		8u
#define LOOK_ENTRIES	16384u		/* of a remote table in one call */
#define TAG_MEND	1u		/* of a job: it mends what an earlier one wrote */

#define GRE_LIFE_S	432000u		/* as an established TCP connection */

/* Seconds after a takeover at which the kernel is looked at for relearned windows. */
static const unsigned	looks_s[] = { 1, 3, 10, 30 };
#define LOOKS		(sizeof(looks_s) / sizeof(looks_s[0]))

/* Milliseconds between a takeover and the further looks at a peer that lives. */
static const unsigned	follow_ms[] = { 300, 700, 2000 };
#define FOLLOWS		(sizeof(follow_ms) / sizeof(follow_ms[0]))

struct take {
	unsigned	 pass;
	unsigned	 peer;
	uint32_t	 h;		/* in that peer's table */
	uint32_t	 jobs;		/* under way */
	uint64_t	 failed;	/* or written, but not in our own table */
	struct kjob	*job;		/* being filled */
	struct kjob	*redo, *undo;	/* what was written over something newer */
	bool		 was_active;
	bool		 resumed;	/* makes up for one that was interrupted */
	bool		 follow;	/* a further look, nobody waits for it */
	bool		 at_end;	/* all flows were looked at */
	bool		 unsure;	/* the kernel had some of the flows already, or took others in part */
	bool		 related;	/* there are flows with a master that wait for their pass */
	bool		 expects;	/* and expectations */
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

/* No more flows are looked at; what the kernel has been given comes back. */
static void
end_walk(struct node *n)
{
	n->take->at_end = true;
	kjob_free(n->take->job);
	n->take->job = NULL;
}

static void
next_seq(struct node *n)
{
	if (++n->take_seq == 0)
		n->take_seq = 1;
	owner_take_begin(n);
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
		owner_role(n, NODE_ACTIVE);
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
	next_seq(n);
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
	next_seq(n);
}

void
take_free(struct node *n)
{
	if (n->take != NULL) {
		kjob_free(n->take->job);
		kjob_free(n->take->redo);
		kjob_free(n->take->undo);
	}
	free(n->take);
	kjob_free(n->strict);
	n->take = NULL;
	n->strict = NULL;
}

/* Which pass an entry belongs to.  Reads no more than it has to. */
static unsigned
pass_of(const struct flow *f)
{
	if (f->expect)
		return PASS_EXPECTS;
	if (f->master_proto != 0)
		return PASS_RELATED;
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
	/* who has taken over from us meanwhile is no longer being relieved */
	if (n->take->follow)
		return !(p->active && p->term > n->term);
	return !(n->take->was_active && sess_up(n, p) && !p->active);
}

/*
 * The timeout to write: fixed by the configuration, as told, or that of the kernel (offloaded flows).
 * Packets of a GRE flow that was written don't extend it (kct_build_create()), a tunnel in use lives longer.
 */
static uint32_t
timeout_of(const struct node *n, const struct flow *f, uint32_t told_s)
{
	enum flow_timeout	 t = flow_timeout_class(f);

	if (t == FLOW_TIMEOUTS)
		return told_s > 0 ? told_s : 1;
	if (n->conf.fixed_s[t] > 0)
		return n->conf.fixed_s[t];
	if (f->proto == IPPROTO_GRE && (f->status & FLOW_S_SEEN_REPLY) && told_s < GRE_LIFE_S)
		return GRE_LIFE_S;
	if (told_s > 0)
		return told_s;
	return n->conf.default_s[t] > 0 ? n->conf.default_s[t] : flow_timeout_default(t);
}

/* Hand over a job of the takeover, if there is one; false: it has to wait. */
static bool
submit_one(struct node *n, struct kjob **j)
{
	if (*j == NULL || (*j)->n == 0)
		return true;
	if (n->take->jobs >= JOBS_MAX || n->ops->kernel.submit(n->ctx, *j) < 0)
		return false;
	*j = NULL;
	n->take->jobs++;
	return true;
}

static bool
submit_job(struct node *n)
{
	return submit_one(n, &n->take->redo) && submit_one(n, &n->take->undo) &&
	    submit_one(n, &n->take->job);
}

/* Does the flow belong to the pass at hand?  Its master has to be there before it. */
static bool
its_turn(struct node *n, const struct flow *f)
{
	struct take	*t = n->take;
	unsigned	 p = pass_of(f);

	t->related |= p == PASS_RELATED;
	t->expects |= p == PASS_EXPECTS;
	if (p > t->pass)
		return false;
	return t->pass == PASS_LEFT || p < PASS_RELATED || local_has_master(n->local, f);
}

/*
 * The next pass that has something to do; those for related flows begin when
 * what was written before them is there.
 */
static bool
next_pass(struct node *n)
{
	struct take	*t = n->take;
	unsigned	 next = t->pass + 1;

	if (next >= PASS_RELATED && next < PASS_RELATED_END && !t->related)
		next = PASS_EXPECTS;
	if (next == PASS_EXPECTS && !t->expects)
		next = PASS_LEFT;
	if (next >= PASS_RELATED && (t->related || t->expects) && (!submit_job(n) || t->jobs > 0))
		return false;
	t->pass = next;
	t->related = t->expects = false;
	t->peer = 0;
	t->at_end = next == PASSES;
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

	if (m->touched_s == n->take_seq || owner_ended(p, m))
		return true;
	body = ftab_body(recv_table(p->recv), h, &len);
	if (flow_unpack(body, len, &f) < 0 || !its_turn(n, &f))
		return true;
	/* looked at again in the next pass: the other copy may go before we come to it */
	if (owner_outranked(n, p, body, flow_key_len(body, len), takes_from))
		return true;
	/*
	 * What an earlier takeover gave to the kernel is ours since then: if it
	 * is there no more, it has ended here.
	 */
	if ((t->was_active && (m->flags & RF_TAKEN)) || owner_has(p, m) ||
	    local_newer(n->local, &f)) {
		t->failed += (m->flags & RF_LEFT_OUT) != 0;
		if (n->role == NODE_ACTIVE)
			m->flags |= RF_OURS;
		m->touched_s = n->take_seq;
		n->taken.flows++;
		if (local_has(n->local, &f))
			n->taken.ours++;
		else
			n->taken.ended++;
		return true;
	}
	if (t->job == NULL && (t->job = kjob_new(KOP_CREATE, KOWNER_TAKEOVER)) == NULL)
		return false;
	if (kjob_add(t->job, body, len, timeout_of(n, &f, m->timeout_s)) < 0)
		return false;
	m->touched_s = n->take_seq;
	n->taken.flows++;
	n->taken.expects += f.expect;
	return true;
}

/* The kernel has the flow now: whoever told us of it, it is ours. */
static void
mark_taken(struct node *n, const uint8_t *body, size_t len, uint8_t flags)
{
	size_t		 klen = flow_key_len(body, len);
	struct ftab_meta *m;
	struct ftab	*t;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		t = recv_table(n->peers[i].recv);
		h = ftab_find(t, ftab_hash(t, body, klen), body, klen);
		if (h == FTAB_NIL)
			continue;
		m = ftab_meta(t, h);
		if (m->touched_s == n->take_seq)
			m->flags |= RF_TAKEN | flags;
		else if (n->peers[i].active)
			continue;	/* it has told something newer since */
		if (n->role == NODE_ACTIVE)
			m->flags |= RF_OURS;
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
			if (!next_pass(n))
				return false;
			continue;
		}
		p = &n->peers[t->peer];
		h = FTAB_NIL;
		if (takes_from(n, p))
			h = ftab_next(recv_table(p->recv), t->h);
		else
			owner_take_not(p);
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
	 * cleared none, and left the translation alone: read what came of it.  The
	 * same if events were lost: they would have told what is newer than our write.
	 */
	if (n->take->unsure || n->overrun_us >= n->take_us)
		local_overrun(n->local, n->take_us);
	/* a flow that our filter leaves out has not ended here */
	n->take->failed += local_kept_out(n->local);
	if (n->role == NODE_ACTIVE && n->take->failed == 0 &&
	    (was_follow || (k->what == NODE_TAKEOVER && !k->aborted)))
		owner_take_end(n);
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
	    "%s done in %llu ms: %llu flows, %llu created, %llu updated, %llu ours already, %llu ended here since, %llu failed",
	    k->what == NODE_TAKEOVER ? "takeover" : "commit",
	    (unsigned long long)((k->ended_us - k->started_us) / 1000), (unsigned long long)k->flows,
	    (unsigned long long)k->created, (unsigned long long)k->updated,
	    (unsigned long long)k->ours, (unsigned long long)k->ended, (unsigned long long)k->failed);
	if (k->lost_master + k->lost_helper + k->lost_labels > 0)
		log_msg(LOG_WARNING, "this kernel did not take all of it: %llu without their master, %llu "
		    "without their helper, %llu without their labels; is the ruleset the same?",
		    (unsigned long long)k->lost_master, (unsigned long long)k->lost_helper,
		    (unsigned long long)k->lost_labels);
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
	return due;
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

/* Add to a job that mends what was written; if that fails the claim does, too. */
static void
mend(struct node *n, struct kjob **j, enum kop op, const uint8_t *body, size_t len,
    uint32_t timeout_s)
{
	if (*j == NULL && (*j = kjob_new(op, KOWNER_TAKEOVER)) != NULL)
		(*j)->tag = TAG_MEND;
	if (*j == NULL || kjob_add(*j, body, len, timeout_s) < 0)
		n->take->failed++;
}

/*
 * The kernel has the flow as it was written.  When it was, an event may have
 * been on its way to us: what the event said goes into the kernel again, and
 * what had ended out of it.
 */
static void
mend_newer(struct node *n, const struct flow *f, const uint8_t *body, size_t len)
{
	struct ftab	*t = feed_table(n->feed);
	size_t		 klen = flow_key_len(body, len), olen;
	uint32_t	 h = feed_find(n->feed, ftab_hash(t, body, klen), body, klen);
	const uint8_t	*own;

	if (h == FTAB_NIL) {
		mend(n, &n->take->undo, KOP_DELETE, body, klen, 0);
		return;
	}
	own = ftab_body(t, h, &olen);
	if (olen != len || memcmp(own, body, len) != 0)
		mend(n, &n->take->redo, KOP_CREATE, own, olen,
		    timeout_of(n, f, ftab_meta(t, h)->timeout_s));
}

/* The kernel has written the flow: it is ours, unless our own table keeps it out. */
static void
written(struct node *n, const struct kjob *j, const struct kitem *it)
{
	struct ftab	*t = feed_table(n->feed);
	const uint8_t	*body = j->bytes + it->off;
	size_t		 klen = flow_key_len(body, it->len);
	uint8_t		 flags = 0;
	struct flow	 f;

	if (flow_unpack(body, it->len, &f) < 0) {
		n->take->failed++;
		return;
	}
	/*
	 * The end of an expectation may be that of one that had to make room for
	 * it: the kernel is asked.
	 */
	if (f.expect)
		n->taken.adopted += local_adopt(n->local, body, it->len, it->timeout_s, n->take_us,
		    n->now_us) > 0;
	else if (local_newer(n->local, &f))
		mend_newer(n, &f, body, it->len);
	else if (local_adopt(n->local, body, it->len, it->timeout_s, n->take_us,
	    n->now_us) > 0)
		n->taken.adopted++;
	else if (feed_find(n->feed, ftab_hash(t, body, klen), body, klen) == FTAB_NIL) {
		n->take->failed++;
		flags = RF_LEFT_OUT;
	}
	if (j->tag != TAG_MEND)
		mark_taken(n, body, it->len, flags);
}

/* Has an expectation come to nothing because its master is not there, or has no helper there? */
static bool
lost_expectation(struct node *n, const struct kjob *j, const struct kitem *it)
{
	struct flow	 f;

	if ((it->err != -ENOENT && it->err != -EOPNOTSUPP) ||
	    flow_unpack(j->bytes + it->off, it->len, &f) < 0 || !f.expect)
		return false;
	if (it->err == -ENOENT)
		n->taken.lost_master++;
	else
		n->taken.lost_helper++;
	return true;
}

void
take_job_done(struct node *n, struct kjob *j)
{
	struct kitem	*it;
	uint32_t	 i;

	if (n->take != NULL && j->op != KOP_STRICT)
		n->take->jobs--;
	if (n->take != NULL && j->op == KOP_CREATE) {
		for (i = 0; i < j->n; i++) {
			it = &j->items[i];
			if (it->err < 0 && lost_expectation(n, j, it))
				continue;
			if (it->err < 0) {
				n->take->failed++;
				if (j->tag != TAG_MEND)
					note_failure(n, j, it);
				continue;
			}
			n->taken.created += j->tag != TAG_MEND;
			written(n, j, it);
		}
		if (j->tag != TAG_MEND) {
			n->taken.created -= j->updated;
			n->taken.updated += j->updated;
		}
		n->taken.lost_master += j->lost_master;
		n->taken.lost_helper += j->lost_helper;
		n->taken.lost_labels += j->lost_labels;
		n->take->unsure |= j->updated > 0;
		n->take->unsure |= (j->lost_master | j->lost_helper | j->lost_labels) != 0;
		(void)submit_one(n, &n->take->redo);
		(void)submit_one(n, &n->take->undo);
	}
	if (n->take != NULL && j->op == KOP_DELETE)
		for (i = 0; i < j->n; i++)	/* a dump may have shown them meanwhile */
			local_removed(n->local, j->bytes + j->items[i].off, j->items[i].len,
			    n->take_us, n->now_us);
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

/* The node becomes standby: no more is taken. */
void
take_give_up(struct node *n)
{
	n->follows = FOLLOWS;
	if (n->follow_us != 0) {
		n->follow_us = 0;
		local_adopting(n->local, false, n->now_us);
	}
	if (n->take != NULL && !n->take->at_end) {
		if (!n->take->follow) {
			log_msg(LOG_WARNING, "a takeover that was under way is given up");
			n->taken.aborted = true;
		}
		end_walk(n);
	}
	n->resume = false;
}

/* --- windows ----------------------------------------------------------------------------- */

/* An entry of a dump: is it liberal, and has the kernel relearned both windows? */
void
take_strict_entry(struct node *n, const struct flow *f)
{
	uint8_t	 key[FLOW_KEY_MAX];
	size_t	 klen;

	if (f->proto != IPPROTO_TCP || f->expect || !((f->tcp_flags[0] | f->tcp_flags[1]) & FLOW_TF_BE_LIBERAL))
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
