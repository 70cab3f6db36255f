/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a standby removes by age: flows that the active node does not have and
 * that, as the kernel says, no packet has refreshed for a while; and the flush
 * of the kernel's table that an operator asks for.
 */
#include <errno.h>
#include <string.h>

#include "node_priv.h"

#define PURGE_ENTRIES	8192u
#define PURGE_PASSES	10u

void
purge_plan(struct node *n)
{
	n->purge_passes = PURGE_PASSES;
	n->purge_us = n->now_us + n->conf.purge_us;
}

/*
 * From here on this node is standby: what it holds now goes if the active node
 * lacks it and no packet refreshes it.  What comes later is none of our business.
 */
void
purge_begin(struct node *n)
{
	n->purge_version = feed_version(n->feed);
	n->purging = false;
	purge_plan(n);
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
	if (j->n > 0 && node_submit_delete(n, j) < 0) {
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
	if (j->n > 0 && node_submit_delete(n, j) == 0)
		n->purge_jobs++;
	else
		kjob_free(j);
}

void
purge_job_done(struct node *n, struct kjob *j)
{
	uint32_t	 i;

	if (j->op == KOP_DELETE && j->tag == TAG_YIELD)
		owner_yielded(n);
	else
		n->purge_jobs--;
	if (j->op == KOP_GET && may_purge(n))
		purge_stale(n, j);
	else if (j->op == KOP_DELETE)
		for (i = 0; i < j->n; i++)
			if (j->items[i].err == 0 || j->items[i].err == -ENOENT) {
				local_removed(n->local, j->bytes + j->items[i].off,
				    j->items[i].len, n->delete_us, n->now_us);
				n->purged++;
			}
	kjob_free(j);
}

uint64_t
node_purged(const struct node *n)
{
	return n->purged;
}

uint64_t
purge_due(const struct node *n)
{
	/* a pass that is under way is woken by its jobs */
	return n->purge_us != 0 && !n->purging && !n->flushing ? n->purge_us : UINT64_MAX;
}
