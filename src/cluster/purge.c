/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Removing entries from this node's kernel.  Nothing goes before the kernel was
 * asked, and what is asked for is what the packets say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "freshness.h"
#include "ownership.h"
#include "purge.h"
#include "session.h"
#include "takeover.h"

#define PURGE_ENTRIES	8192u		/* looked at in one call */

/* Tags of jobs. */
enum {
	TAG_EXPENDABLE,		/* a standby's leftovers */
	TAG_ENDED,		/* copies of flows that have ended elsewhere */
	TAG_FLUSH,
	TAG_FLUSH_STANDBY
};

struct purge {
	bool		 wanted;
	bool		 walking;
	bool		 first;		/* since the node became standby: what was asked before is void */
	uint32_t	 h;
	uint64_t	 due_us;	/* next pass not before that */
	uint32_t	 found;		/* candidates of this pass */
	uint32_t	 jobs;		/* of a pass or a flush, under way */
	bool		 flushing;
	bool		 flush_standby;	/* the node was standby when it was asked for */
	uint32_t	 flush_h;
	struct kjob	*ended;		/* being filled: copies to be asked for */
	uint32_t	 ended_jobs;
	uint64_t	 purged;
	uint64_t	 said;		/* of these: in the log */
};

struct purge *
purge_new(void)
{
	return calloc(1, sizeof(struct purge));
}

void
purge_free(struct purge *p)
{
	if (p == NULL)
		return;
	kjob_free(p->ended);
	free(p);
}

uint64_t
purge_count(const struct node *n)
{
	return n->purge->purged;
}

void
purge_wanted(struct node *n)
{
	n->purge->wanted = true;
}

void
purge_begin(struct node *n)
{
	n->purge->walking = false;
	n->purge->wanted = n->purge->first = true;
	n->purge->due_us = n->now_us + n->conf.purge_us;
}

/* --- leftovers of a standby --------------------------------------------------------- */

static bool
may_purge(const struct node *n)
{
	return !takeover_running(n) && local_complete(n->local) && !local_resyncing(n->local) &&
	    ownership_authority(n) >= 0;
}

static void
end_pass(struct node *n)
{
	struct purge	*p = n->purge;

	p->walking = p->first = false;
	p->wanted |= p->found > 0;
	if (p->found > 0 || p->purged == p->said)
		return;
	log_msg(LOG_INFO, "standby: %llu flows that the active node no longer has were removed",
	    (unsigned long long)(p->purged - p->said));
	p->said = p->purged;
}

/* Ask the kernel about entries that are not needed; what it says decides (purge_job_done()). */
static bool
walk(struct node *n)
{
	struct purge	*p = n->purge;
	struct kjob	*j;
	const uint8_t	*body;
	size_t		 len, klen;
	uint32_t	 looked = 0;

	if (!may_purge(n) || (j = kjob_new(KOP_GET, KOWNER_PURGE)) == NULL) {
		p->walking = false;
		p->wanted = true;	/* from the beginning, when it may */
		return false;
	}
	j->tag = TAG_EXPENDABLE;
	while (j->n < KJOB_ITEMS_MAX && looked++ < PURGE_ENTRIES) {
		if ((p->h = feed_next(n->feed, p->h)) == FTAB_NIL) {
			end_pass(n);
			break;
		}
		body = ftab_body(feed_table(n->feed), p->h, &len);
		klen = flow_key_len(body, len);
		if (p->first)
			local_use_reset(n->local, p->h);
		/* expectations go with their masters, and soon by themselves */
		if (flow_key_expects(body) || !ownership_expendable(n, p->h, body, klen)) {
			local_use_reset(n->local, p->h);
			continue;
		}
		p->found++;
		if (kjob_add(j, body, klen, 0) < 0)
			break;
	}
	if (j->n > 0 && n->ops->kernel.submit(n->ctx, j) == 0)
		p->jobs++;
	else
		kjob_free(j);
	return p->walking && p->jobs == 0;
}

static void
submit_delete(struct node *n, struct kjob *j, uint32_t *jobs)
{
	if (j->n > 0 && freshness_submit_delete(n, j) == 0)
		++*jobs;
	else
		kjob_free(j);
}

/* The kernel has shown candidates: whose counters stand still goes. */
static void
delete_unused(struct node *n, const struct kjob *got)
{
	struct kjob		*j = kjob_new(KOP_DELETE, KOWNER_PURGE);
	const struct kitem	*it;
	const uint8_t		*key;
	uint32_t		 i, h;

	if (j == NULL)
		return;
	j->tag = TAG_EXPENDABLE;
	for (i = 0; i < got->n; i++) {
		it = &got->items[i];
		key = got->bytes + it->off;
		if (it->err < 0 || (h = local_find(n->local, key, it->len)) == FTAB_NIL ||
		    !ownership_expendable(n, h, key, it->len))
			continue;
		if (local_use(n->local, key, it->len, &got->flows[i],
		    (uint32_t)(n->conf.purge_us / 1000000)) != LOCAL_USE_NONE)
			continue;
		if (kjob_add(j, key, it->len, got->flows[i].id) < 0)
			break;
	}
	submit_delete(n, j, &n->purge->jobs);
}

/* --- copies on the active node --------------------------------------------------------- */

/* Does a peer other than that one still tell the flow? */
static bool
told_by_another(const struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	unsigned	 i;
	uint32_t	 h;

	for (i = 0; i < n->npeers; i++)
		if (i != peer && (h = cluster_find(n, i, key, klen)) != FTAB_NIL &&
		    !ownership_ended(n, i, h))
			return true;
	return false;
}

void
purge_told(struct node *n, unsigned peer, uint32_t h)
{
	struct purge	*p = n->purge;
	const uint8_t	*body;
	size_t		 len;

	if (p->wanted || ownership_active(n) || ftab_count(feed_table(n->feed)) == 0 ||
	    !ownership_peer_active(n, peer))
		return;
	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	p->wanted = local_find(n->local, body, flow_key_len(body, len)) != FTAB_NIL;
}

void
purge_deleted(struct node *n, unsigned peer, uint32_t h, bool removed)
{
	struct purge	*p = n->purge;
	struct flow	 theirs, ours;
	const uint8_t	*body;
	size_t		 len, klen;
	uint32_t	 own;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	klen = flow_key_len(body, len);
	own = local_find(n->local, body, klen);
	if (!ownership_active(n)) {
		p->wanted |= own != FTAB_NIL && ownership_peer_active(n, peer);
		return;
	}
	/* expectations go with their masters, and soon by themselves */
	if (removed || flow_key_expects(body) || (own != FTAB_NIL && !local_unused(n->local, own)))
		return;
	ownership_ended_at(n, peer, h);
	if (own == FTAB_NIL || told_by_another(n, peer, body, klen) ||
	    flow_unpack(body, len, &theirs) < 0 || !local_load(n->local, own, &ours) ||
	    flow_compare_lives(&theirs, &ours) == FLOW_LIFE_OLDER)
		return;
	if (p->ended == NULL && (p->ended = kjob_new(KOP_GET, KOWNER_PURGE)) != NULL)
		p->ended->tag = TAG_ENDED;
	/* without room it stays until its timeout */
	if (p->ended == NULL || kjob_add(p->ended, body, klen, 0) < 0)
		return;
}

/* The kernel has shown copies of flows that have ended elsewhere. */
static void
delete_ended(struct node *n, const struct kjob *got)
{
	struct kjob		*j = kjob_new(KOP_DELETE, KOWNER_PURGE);
	const struct kitem	*it;
	uint32_t		 i;

	if (j == NULL)
		return;
	j->tag = TAG_ENDED;
	for (i = 0; i < got->n; i++) {
		it = &got->items[i];
		if (it->err == 0 && ownership_active(n) &&
		    !told_by_another(n, NODE_PEERS_MAX, got->bytes + it->off, it->len) &&
		    local_still_unused(n->local, got->bytes + it->off, it->len, &got->flows[i]) &&
		    kjob_add(j, got->bytes + it->off, it->len, got->flows[i].id) < 0)
			break;
	}
	submit_delete(n, j, &n->purge->ended_jobs);
}

static void
submit_ended(struct node *n)
{
	struct purge	*p = n->purge;

	if (p->ended == NULL || p->ended->n == 0 || p->ended_jobs >= CLUSTER_JOBS_MAX ||
	    n->ops->kernel.submit(n->ctx, p->ended) < 0)
		return;
	p->ended = NULL;
	p->ended_jobs++;
}

/* --- flush ------------------------------------------------------------------------------- */

void
purge_flush(struct node *n)
{
	n->purge->flushing = true;
	n->purge->flush_standby = !ownership_active(n);
	n->purge->flush_h = FTAB_NIL;
}

/* The next piece of what an operator wants deleted. */
static bool
flush_some(struct node *n)
{
	struct purge	*p = n->purge;
	struct kjob	*j;
	const uint8_t	*body;
	size_t		 len;
	uint32_t	 h = p->flush_h;

	if (p->jobs >= CLUSTER_JOBS_MAX || (j = kjob_new(KOP_DELETE, KOWNER_PURGE)) == NULL)
		return false;
	j->tag = p->flush_standby ? TAG_FLUSH_STANDBY : TAG_FLUSH;
	while (j->n < KJOB_ITEMS_MAX && (h = feed_next(n->feed, h)) != FTAB_NIL) {
		body = ftab_body(feed_table(n->feed), h, &len);
		if (kjob_add(j, body, flow_key_len(body, len), 0) < 0)
			break;
	}
	if (j->n > 0 && freshness_submit_delete(n, j) < 0) {
		kjob_free(j);
		return false;
	}
	if (j->n > 0)
		p->jobs++;
	else
		kjob_free(j);
	p->flush_h = h;
	p->flushing = h != FTAB_NIL;
	return p->flushing;
}

/* --- time ------------------------------------------------------------------------------------ */

/* What was deleted has ended if an active node flushed it, or its origin said so. */
static void
deleted(struct node *n, const struct kjob *j)
{
	const struct kitem	*it;
	bool			 flushed = j->tag == TAG_FLUSH && ownership_active(n);
	bool			 ended = flushed || j->tag == TAG_ENDED;
	uint32_t		 i;

	for (i = 0; i < j->n; i++) {
		it = &j->items[i];
		/* another entry may have taken the place of the one that was meant */
		if (it->err < 0 && (it->err != -ENOENT || it->id != 0))
			continue;
		if (flushed && it->err == 0)
			ownership_ended_by_us(n, j->bytes + it->off, it->len);
		local_removed(n->local, j->bytes + it->off, it->len, ended, freshness_delete_us(n),
		    n->now_us);
		/* a takeover has passed over what was still here then */
		if (!ended)
			takeover_follow_key(n, j->bytes + it->off, it->len);
		n->purge->purged++;
	}
	freshness_delete_done(n);
}

void
purge_job_done(struct node *n, struct kjob *j)
{
	struct purge	*p = n->purge;

	if (j->tag == TAG_ENDED)
		p->ended_jobs--;
	else
		p->jobs--;
	if (j->op == KOP_DELETE)
		deleted(n, j);
	else if (j->tag == TAG_ENDED)
		delete_ended(n, j);
	else if (may_purge(n))
		delete_unused(n, j);
	kjob_free(j);
}

bool
purge_run(struct node *n)
{
	struct purge	*p = n->purge;

	submit_ended(n);
	/* what a standby was told to flush is not what an active node carries, nor the other way round */
	if (p->flush_standby == ownership_active(n))
		p->flushing = false;
	if (p->flushing)
		return flush_some(n);
	if (!p->walking) {
		if (!p->wanted || n->now_us < p->due_us || !may_purge(n))
			return false;
		p->due_us = n->now_us + n->conf.purge_us;
		p->wanted = false;
		p->h = FTAB_NIL;
		p->found = 0;
		p->walking = true;
	}
	return p->jobs == 0 && walk(n);
}

uint64_t
purge_due(const struct node *n)
{
	/* a pass that is under way is woken by its jobs, one that may not begin by what it waits for */
	return n->purge->wanted && !n->purge->walking && !n->purge->flushing &&
	    n->purge->due_us > n->now_us ? n->purge->due_us : UINT64_MAX;
}
