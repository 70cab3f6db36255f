/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Walks over the peers' copies, following of single entries, and the commands
 * that wait for a walk.
 */
#include <errno.h>
#include <stdio.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "freshness.h"
#include "ownership.h"
#include "session.h"
#include "takeover_priv.h"
#include "windows.h"

#define LOOK_ENTRIES	16384u		/* of a remote table in one call */
#define QUEUE_MAX	65536u		/* entries of a peer that wait; more: a walk over all */
#define FOLLOW_US	150000u		/* between batches of followed entries */
#define RESUME_US	30000000u	/* the longest wait for peers that are there, but not equal */
#define RETRY_US	1000000u	/* after a refusal, or a pass that came to nothing; doubles */
#define RETRY_MAX_US	60000000u

struct takeover *
takeover_new(struct node *n)
{
	(void)n;
	return calloc(1, sizeof(struct takeover));
}

void
takeover_free(struct takeover *t)
{
	unsigned	 i;

	if (t == NULL)
		return;
	takeover_drop_jobs(t);
	for (i = 0; i < NODE_PEERS_MAX; i++)
		free(t->queue[i].h);
	free(t);
}

bool
takeover_running(const struct node *n)
{
	return n->takeover->result.running;
}

bool
takeover_complete(const struct node *n)
{
	return !n->takeover->walking && n->takeover->todo == 0;
}

uint64_t
takeover_refused(const struct node *n)
{
	uint64_t	 sum = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		sum += n->takeover->refused[i];
	return sum;
}

uint64_t
takeover_writing_us(const struct node *n)
{
	return n->takeover->adopting ? n->takeover->adopt_us : 0;
}

const struct node_taken *
takeover_result(const struct node *n)
{
	return &n->takeover->result;
}

/* --- what a command is based on ---------------------------------------------------- */

static void
describe_peer(const struct node *n, unsigned peer, char *out, size_t cap)
{
	const struct session	*s = n->session[peer];
	const struct recv	*r = n->recv[peer];
	const char		*name = session_name(s);
	uint64_t		 v = recv_verified_us(r), heard = session_heard_us(s);
	unsigned		 flows = ftab_count(recv_table(r));
	enum node_reject	 refused;

	if (heard == 0)
		snprintf(out, cap, "%s was never seen", name);
	else if (recv_in_sync(r, n->now_us))
		snprintf(out, cap, "equal to %s as of %llu ms ago", name,
		    (unsigned long long)((n->now_us - v) / 1000));
	else if (session_refusing(n, s, &refused))
		snprintf(out, cap, "%u flows of %s, whose frames are refused since (%s)", flows, name,
		    node_reject_name(refused));
	else if (session_state(n, s) == SESSION_LOST && session_equal_at_loss(s))
		snprintf(out, cap, "equal as of the death of %s, %llu ms ago", name,
		    (unsigned long long)((n->now_us - heard) / 1000));
	else if (v != 0)
		snprintf(out, cap, "%u flows of %s, last verified %llu ms ago", flows, name,
		    (unsigned long long)((n->now_us - v) / 1000));
	else
		snprintf(out, cap, "%u flows of %s, NOT verified", flows, name);
}

static void
describe(struct node *n)
{
	struct node_taken	*k = &n->takeover->result;
	char			 one[128];
	size_t			 len = 0;
	unsigned		 i;
	int			 rc;

	k->basis[0] = '\0';
	for (i = 0; i < n->npeers; i++) {
		describe_peer(n, i, one, sizeof(one));
		rc = snprintf(k->basis + len, NODE_BASIS_MAX - len, "%s%s", i > 0 ? "; " : "", one);
		if (rc < 0 || (size_t)rc >= NODE_BASIS_MAX - len)
			return;
		len += (size_t)rc;
	}
	if (n->npeers == 0)
		snprintf(k->basis, NODE_BASIS_MAX, "no peers are configured");
}

/* --- adoption ------------------------------------------------------------------------ */

/*
 * Nothing is under way any more.  Of what the kernel had already our writes have
 * set bits of the status, but cleared none, and left the translation alone: read
 * what came of it.  The same if events were lost: they would have told what is
 * newer than our writes.
 */
static void
end_adoption(struct node *n)
{
	struct takeover	*t = n->takeover;

	if (t->unsure || freshness_overrun_since(n, t->adopt_us))
		local_overrun(n->local, t->adopt_us);
	freshness_late(n, t->adopt_us);
	t->unsure = false;
	t->adopting = false;
	local_adopting(n->local, false, n->now_us);
}

/* What is written from now on is compared with what events say from now on. */
static void
begin_adoption(struct node *n)
{
	struct takeover	*t = n->takeover;

	if (t->adopting && takeover_writing(t))
		return;			/* earlier jobs are not done */
	if (t->adopting)
		end_adoption(n);
	t->adopting = true;
	t->adopt_us = n->now_us;
	local_adopting(n->local, true, n->now_us);
}

/* --- walks ------------------------------------------------------------------------------ */

static uint32_t
all_peers(const struct node *n)
{
	return n->npeers == 32 ? UINT32_MAX : (1u << n->npeers) - 1;
}

static void
begin_walk(struct node *n, uint32_t peers, uint32_t fully)
{
	struct takeover	*t = n->takeover;
	unsigned	 i;

	begin_adoption(n);
	t->walking = true;
	t->peers = peers;
	t->fully = fully;
	t->todo &= ~peers;
	t->todo_fully &= ~peers;
	t->pass = t->peer = 0;
	t->h = FTAB_NIL;
	t->related = t->expects = t->spoilt = false;
	t->wrote = 0;
	if (++t->number >= 1u << 24)
		t->number = 1;
	for (i = 0; i < n->npeers; i++) {
		if (!(peers & 1u << i))
			continue;
		ownership_claim_begin(n, i);
		t->refused[i] = 0;
		t->retry_us[i] = 0;
	}
}

/*
 * The next pass that has something to do; those for related flows begin when
 * what was written before them is there.
 */
static bool
next_pass(struct node *n)
{
	struct takeover	*t = n->takeover;
	unsigned	 next = t->pass + 1;

	if (next >= PASS_RELATED && next < PASS_RELATED_END && !t->related)
		next = PASS_EXPECTS;
	if (next == PASS_EXPECTS && !t->expects)
		next = PASS_LEFT;
	if (next >= PASS_RELATED && (t->related || t->expects) && (!takeover_submit(n) || t->jobs > 0))
		return false;
	t->pass = next;
	t->related = t->expects = false;
	t->peer = 0;
	t->h = FTAB_NIL;
	return true;
}

/* Another peer's copy counts, but this one may have carried it, too. */
static bool
loosen_outranked(struct node *n, unsigned peer, uint32_t h, const struct flow *f)
{
	const uint8_t	*body;
	size_t		 len, klen;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	klen = flow_key_len(body, len);
	return f->proto != IPPROTO_TCP || f->expect || local_find(n->local, body, klen) == FTAB_NIL ||
	    windows_loosen(n, body, klen);
}

/* False if the entry has to wait for room. */
static bool
look_at(struct node *n, unsigned peer, uint32_t h)
{
	struct takeover		*t = n->takeover;
	struct ftab_meta	*m = ftab_meta(recv_table(n->recv[peer]), h);
	struct flow		 f;
	enum verdict		 v;

	if (m->touched == t->number)
		return true;
	v = takeover_entry(n, peer, h, t->pass, t->fully & 1u << peer, &f);
	if (v == ENTRY_OUTRANKED && t->pass == PASS_LEFT && (t->fully & 1u << peer))
		return loosen_outranked(n, peer, h, &f);
	if (v == ENTRY_NONE || v == ENTRY_OUTRANKED || v == ENTRY_LATER)
		return true;
	if (v >= ENTRY_LOOSEN && !takeover_put(n, peer, h, v, &f))
		return false;
	m->touched = t->number;
	if (!t->command)
		return true;
	t->result.flows++;
	t->result.expects += f.expect && v >= ENTRY_WRITE;
	t->result.ended += v == ENTRY_ENDED;
	t->result.ours += v == ENTRY_HERE || v == ENTRY_LOOSEN;
	return true;
}

/* True when all has been looked at and handed over; *more: there is work for another call. */
static bool
walk(struct node *n, bool *more)
{
	struct takeover	*t = n->takeover;
	unsigned	 looked = 0;
	uint32_t	 h;

	*more = false;
	while (t->pass < PASSES) {
		if (looked++ == LOOK_ENTRIES) {
			*more = true;
			return false;
		}
		if (t->peer == n->npeers) {
			if (!next_pass(n))
				return false;
			continue;
		}
		h = t->peers & 1u << t->peer ? ftab_next(recv_table(n->recv[t->peer]), t->h) : FTAB_NIL;
		if (h == FTAB_NIL) {
			t->peer++;
			t->h = FTAB_NIL;
			continue;
		}
		if (!look_at(n, t->peer, h))
			return false;
		t->h = h;
	}
	return takeover_submit(n) && t->jobs == 0;
}

static void
plan_retry(struct node *n, unsigned peer)
{
	struct takeover	*t = n->takeover;
	uint64_t	*wait = &t->backoff_us[peer];

	if (t->refused[peer] == 0 && !ownership_unclaimed(n, peer)) {
		*wait = 0;
		return;
	}
	if (*wait == 0)
		*wait = RETRY_US;
	t->retry_us[peer] = n->now_us + *wait;
}

static void
say_result(const struct node_taken *k)
{
	unsigned	 i;

	log_msg(k->failed > 0 ? LOG_WARNING : LOG_NOTICE,
	    "%s done in %llu ms: %llu flows, %llu created, %llu updated, %llu here already, %llu ended here since, %llu refused",
	    k->what == NODE_TAKEOVER ? "takeover" : "commit",
	    (unsigned long long)((k->ended_us - k->started_us) / 1000), (unsigned long long)k->flows,
	    (unsigned long long)k->created, (unsigned long long)k->updated,
	    (unsigned long long)k->ours, (unsigned long long)k->ended, (unsigned long long)k->failed);
	for (i = 0; i < k->nfailures; i++)
		log_msg(LOG_WARNING, "refused %llu times (%s): such as %s",
		    (unsigned long long)k->failures[i].count, strerror(k->failures[i].err),
		    k->failures[i].example);
	if (k->lost_master + k->lost_helper + k->lost_labels > 0)
		log_msg(LOG_WARNING, "this kernel did not take all of it: %llu without their master, %llu "
		    "without their helper, %llu without their labels; is the ruleset the same?",
		    (unsigned long long)k->lost_master, (unsigned long long)k->lost_helper,
		    (unsigned long long)k->lost_labels);
}

/* The command at hand has come to its end; whoever waits is told. */
static void
end_command(struct node *n)
{
	struct takeover		*t = n->takeover;
	struct node_taken	*k = &t->result;

	t->command = false;
	k->running = false;
	k->ended_us = n->now_us;
	if (!k->aborted)
		say_result(k);
	n->ops->taken(n->ctx);
}

static void
end_walk(struct node *n)
{
	struct takeover	*t = n->takeover;
	/* a flow that our filter leaves out has not ended here */
	bool		 whole = !t->spoilt && !local_kept_out(n->local);
	unsigned	 i;

	t->walking = false;
	for (i = 0; i < n->npeers; i++)
		if (t->peers & 1u << i) {
			ownership_claim_end(n, i, whole);
			if (ownership_active(n))
				plan_retry(n, i);
		}
	if (ownership_active(n) && (t->wrote > 0 || t->fully != 0))
		windows_look(n);
	/* a pass over one peer is not what a node that has just started waits for */
	if (ownership_active(n) && t->todo == 0 && (t->command || !ownership_resuming(n)))
		ownership_settled(n);
	if (t->command)
		end_command(n);
	else if (t->wrote > 0 || takeover_refused(n) != t->refused_said)
		log_msg(takeover_refused(n) > 0 ? LOG_WARNING : LOG_NOTICE,
		    "followed the peers: %llu flows were taken, %llu refused",
		    (unsigned long long)t->wrote, (unsigned long long)takeover_refused(n));
	t->refused_said = takeover_refused(n);
}

/* --- following --------------------------------------------------------------------------- */

/* What waits of that peer does so no longer. */
static void
empty_queue(struct node *n, unsigned peer)
{
	struct queue	*q = &n->takeover->queue[peer];
	struct ftab	*tab = recv_table(n->recv[peer]);
	unsigned	 i;

	for (i = 0; i < q->n; i++)
		if (ftab_used(tab, q->h[i]))
			ftab_meta(tab, q->h[i])->flags &= (uint8_t)~REMOTE_QUEUED;
	q->n = 0;
}

void
takeover_follow(struct node *n, unsigned peer, uint32_t h)
{
	struct queue		*q = &n->takeover->queue[peer];
	struct ftab_meta	*m = ftab_meta(recv_table(n->recv[peer]), h);
	uint32_t		*more;
	unsigned		 cap;

	if (!ownership_active(n) || (m->flags & REMOTE_QUEUED) || (n->takeover->todo & 1u << peer))
		return;
	if (q->n == q->cap) {
		cap = q->cap == 0 ? 64 : q->cap * 2;
		more = cap > QUEUE_MAX ? NULL : realloc(q->h, cap * sizeof(*q->h));
		if (more == NULL) {
			empty_queue(n, peer);
			n->takeover->todo |= 1u << peer;
			return;
		}
		q->h = more;
		q->cap = cap;
	}
	m->flags |= REMOTE_QUEUED;
	q->h[q->n++] = h;
	n->takeover->queued = true;
}

void
takeover_follow_key(struct node *n, const uint8_t *key, size_t klen)
{
	unsigned	 i;
	uint32_t	 h;

	for (i = 0; i < n->npeers; i++)
		if ((h = cluster_find(n, i, key, klen)) != FTAB_NIL)
			takeover_follow(n, i, h);
}

void
takeover_deleted(struct node *n, unsigned peer, uint32_t h)
{
	const uint8_t	*body;
	size_t		 len, klen;

	if (n->npeers == 1 || !ownership_active(n))
		return;
	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	klen = flow_key_len(body, len);
	if (local_find(n->local, body, klen) == FTAB_NIL)
		takeover_follow_key(n, body, klen);
}

void
takeover_told(struct node *n, unsigned peer, uint32_t h)
{
	struct flow	 f;
	const uint8_t	*body;
	size_t		 len;

	if (!ownership_active(n))
		return;
	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	if (local_find(n->local, body, flow_key_len(body, len)) == FTAB_NIL ||
	    takeover_entry(n, peer, h, PASSES, false, &f) >= ENTRY_WRITE)
		takeover_follow(n, peer, h);
}

/* Entries of a peer that wait, as many as there is room for; true if some are left. */
static bool
follow_peer(struct node *n, unsigned peer)
{
	struct takeover		*t = n->takeover;
	struct queue		*q = &t->queue[peer];
	struct ftab		*tab = recv_table(n->recv[peer]);
	struct ftab_meta	*m;
	struct flow		 f;
	enum verdict		 v;
	unsigned		 i, looked = 0;

	for (i = 0; i < q->n && looked++ < LOOK_ENTRIES; i++) {
		if (!ftab_used(tab, q->h[i]) ||
		    !((m = ftab_meta(tab, q->h[i]))->flags & REMOTE_QUEUED))
			continue;
		v = takeover_entry(n, peer, q->h[i], PASSES, false, &f);
		if (v == ENTRY_LATER)
			t->todo |= 1u << peer;	/* its master is not there: in the right order */
		if (v >= ENTRY_LOOSEN && !takeover_put(n, peer, q->h[i], v, &f))
			break;
		m->flags &= (uint8_t)~REMOTE_QUEUED;
	}
	memmove(q->h, q->h + i, (q->n - i) * sizeof(*q->h));
	q->n -= i;
	return q->n > 0;
}

/* Does something wait, and is it known what is in use here? */
static bool
may_follow(const struct node *n)
{
	return n->takeover->queued && !takeover_writing(n->takeover) && ownership_active(n) &&
	    local_known(n->local);
}

static bool
follow(struct node *n)
{
	struct takeover	*t = n->takeover;
	unsigned	 i;
	bool		 left = false;

	begin_adoption(n);
	for (i = 0; i < n->npeers; i++)
		left |= t->queue[i].n > 0 && follow_peer(n, i);
	t->queued = left;
	return takeover_submit(n) && left;
}

/* --- what is wanted ------------------------------------------------------------------------ */

void
takeover_pass(struct node *n, unsigned peer)
{
	n->takeover->todo |= 1u << peer;
	n->takeover->todo_fully |= 1u << peer;
}

/* What a walk has not handed over is given up; what the kernel was given comes back. */
static void
abandon_walk(struct node *n)
{
	struct takeover	*t = n->takeover;

	t->walking = false;
	t->unsure |= t->job != NULL;	/* an older life may have gone already */
	kjob_free(t->job);
	kjob_free(t->drop);
	t->job = t->drop = NULL;
	t->making_room = false;
}

void
takeover_start(struct node *n, enum node_take what)
{
	struct takeover		*t = n->takeover;
	struct node_taken	*k = &t->result;
	bool			 joins = k->running;

	/* a takeover that a commit joins stays one */
	if (joins && k->what == NODE_TAKEOVER && ownership_active(n))
		what = NODE_TAKEOVER;
	abandon_walk(n);
	if (what == NODE_TAKEOVER) {
		ownership_activate(n);
		windows_loosen_all(n);
	}
	memset(k, 0, sizeof(*k));
	k->what = what;
	k->running = true;
	k->started_us = n->now_us;
	describe(n);
	t->command = true;
	begin_walk(n, all_peers(n), all_peers(n));
	log_msg(LOG_NOTICE, "%s begins%s: %s", what == NODE_TAKEOVER ? "takeover" : "commit",
	    joins ? " anew" : "", k->basis);
}

/* The command at hand ends now, and says why. */
static void
give_up(struct node *n, const char *why)
{
	struct takeover	*t = n->takeover;

	if (!t->command)
		return;
	log_msg(LOG_WARNING, "a %s that was under way is given up: %s",
	    t->result.what == NODE_TAKEOVER ? "takeover" : "commit", why);
	t->result.aborted = why;
	end_command(n);
}

void
takeover_stop(struct node *n)
{
	struct takeover	*t = n->takeover;
	unsigned	 i, k;

	abandon_walk(n);
	t->todo = 0;
	for (i = 0; i < n->npeers; i++) {
		for (k = 0; k < t->queue[i].n; k++)
			if (ftab_used(recv_table(n->recv[i]), t->queue[i].h[k]))
				ftab_meta(recv_table(n->recv[i]), t->queue[i].h[k])->flags &=
				    (uint8_t)~REMOTE_QUEUED;
		t->queue[i].n = 0;
		t->refused[i] = t->retry_us[i] = t->backoff_us[i] = 0;
	}
	t->queued = false;
	t->nagain = 0;
	give_up(n, "this node was released meanwhile");
}

void
takeover_shutdown(struct node *n)
{
	abandon_walk(n);
	give_up(n, "the daemon was stopped meanwhile; it goes on when it is started again");
}

/* --- time -------------------------------------------------------------------------------------- */

void
takeover_again(struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	struct takeover	*t = n->takeover;
	struct again	*a;

	if (t->backoff_us[peer] <= RETRY_US || t->nagain == AGAIN_MAX)
		return;
	a = &t->again[t->nagain++];
	a->due_us = n->now_us + RETRY_US;
	a->klen = klen;
	memcpy(a->key, key, klen);
}

static void
retry(struct node *n)
{
	struct takeover	*t = n->takeover;
	unsigned	 i;

	for (i = 0; i < t->nagain && n->now_us >= t->again[i].due_us; i++)
		takeover_follow_key(n, t->again[i].key, t->again[i].klen);
	t->nagain -= i;
	memmove(t->again, t->again + i, t->nagain * sizeof(t->again[0]));
	for (i = 0; i < n->npeers; i++)
		if (t->retry_us[i] != 0 && n->now_us >= t->retry_us[i]) {
			t->retry_us[i] = 0;
			t->backoff_us[i] = t->backoff_us[i] * 2 < RETRY_MAX_US ? t->backoff_us[i] * 2 : RETRY_MAX_US;
			/* another peer's copy of what was refused may have become the one that counts */
			t->todo |= all_peers(n);
		}
}

/*
 * The daemon has started as an active node: it takes over as soon as all peers
 * that are there have told their flows, or when nobody comes.
 */
static void
resume(struct node *n)
{
	unsigned	 i, there = 0;

	if (!ownership_resuming(n) || takeover_running(n) || !local_known(n->local))
		return;
	for (i = 0; i < n->npeers; i++) {
		if (!session_up(n, n->session[i]))
			continue;
		there++;
		if (!recv_in_sync(n->recv[i], n->now_us) && n->now_us - n->born_us < RESUME_US)
			return;
	}
	if (there == 0 && n->now_us - n->born_us < n->conf.boot_wait_us)
		return;
	log_msg(LOG_NOTICE, "this node is active since the daemon started: it takes over what the peers hold");
	takeover_start(n, NODE_TAKEOVER);
}

bool
takeover_run(struct node *n)
{
	struct takeover	*t = n->takeover;
	bool		 more = false;
	unsigned	 i;

	resume(n);
	retry(n);
	if (!t->walking && t->todo != 0 && ownership_active(n) && local_known(n->local))
		begin_walk(n, t->todo, t->todo_fully);
	/* what is in use here has to be known: nothing older is written over that */
	if (t->walking && local_known(n->local) && walk(n, &more))
		end_walk(n);
	if (t->walking)
		return more;
	if (may_follow(n) && n->now_us - t->adopt_us >= FOLLOW_US)
		more = follow(n);
	(void)takeover_submit(n);
	if (takeover_writing(t) || t->queued)
		return more;
	if (t->adopting)
		end_adoption(n);
	for (i = 0; i < n->npeers; i++) {
		if (!(t->todo & 1u << i))
			ownership_claim_advance(n, i);
		if (t->retry_us[i] == 0 && ownership_active(n))
			plan_retry(n, i);
	}
	return more;
}

uint64_t
takeover_due(const struct node *n)
{
	const struct takeover	*t = n->takeover;
	uint64_t		 due = UINT64_MAX;
	unsigned		 i;

	if (may_follow(n))
		due = t->adopt_us + FOLLOW_US;
	if (t->nagain > 0 && t->again[0].due_us < due)
		due = t->again[0].due_us;
	for (i = 0; i < n->npeers; i++)
		if (t->retry_us[i] != 0 && t->retry_us[i] < due)
			due = t->retry_us[i];
	return due;
}
