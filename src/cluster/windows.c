/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Making TCP windows liberal and strict.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ownership.h"
#include "takeover.h"
#include "windows.h"

/* Seconds after a takeover at which the kernel is looked at for relearned windows. */
static const unsigned	looks_s[] = { 1, 3, 10, 30 };
#define LOOKS		(sizeof(looks_s) / sizeof(looks_s[0]))
#define LOOK_ENTRIES	16384u		/* of our own table in one call */
#define BESIDE_US	2000000u	/* between sweeps while another node is active */

struct windows {
	struct kjob	*loosen, *strict;	/* being filled */
	unsigned	 jobs;		/* that loosen, under way */
	unsigned	 strict_jobs;	/* that tighten, under way */
	uint64_t	 strict_us;	/* since when */
	bool		 strict_void;	/* what these tighten is to be liberal again */
	bool		 sweeping;	/* over our own table */
	bool		 again;		/* what is liberal already may have stale windows, too */
	uint32_t	 sweep_h;
	uint64_t	 swept_us;	/* when the last sweep began */
	uint64_t	 swept_version;
	unsigned	 look;
	uint64_t	 look_us;	/* next look, 0: none */
	uint64_t	 dump_us;	/* when the dump at hand began */
	uint64_t	 loosened_us;	/* when windows were last made liberal */
	uint32_t	 liberal, counting;
};

struct windows *
windows_new(void)
{
	return calloc(1, sizeof(struct windows));
}

void
windows_free(struct windows *w)
{
	if (w == NULL)
		return;
	kjob_free(w->loosen);
	kjob_free(w->strict);
	free(w);
}

uint32_t
windows_liberal(const struct node *n)
{
	return n->windows->liberal;
}

/* --- liberal ------------------------------------------------------------------------ */

static bool
submit_loosen(struct node *n)
{
	struct windows	*w = n->windows;

	if (w->loosen == NULL || w->loosen->n == 0)
		return true;
	if (w->jobs >= CLUSTER_JOBS_MAX || n->ops->kernel.submit(n->ctx, w->loosen) < 0)
		return false;
	w->loosen = NULL;
	w->jobs++;
	return true;
}

bool
windows_loosen(struct node *n, const uint8_t *key, size_t klen)
{
	struct windows	*w = n->windows;

	if (!n->conf.liberal)
		return true;
	if (w->loosen != NULL && w->loosen->n == KJOB_ITEMS_MAX && !submit_loosen(n))
		return false;
	if (w->loosen == NULL && (w->loosen = kjob_new(KOP_LIBERAL, KOWNER_WINDOWS)) == NULL)
		return false;
	return kjob_add(w->loosen, key, klen, 0) == 0;
}

static void
begin_sweep(struct node *n, bool again)
{
	struct windows	*w = n->windows;

	if (!n->conf.liberal)
		return;
	w->again = again || (w->sweeping && w->again);
	w->strict_void = w->strict_jobs > 0;
	w->sweeping = true;
	w->sweep_h = FTAB_NIL;
	w->swept_us = n->now_us;
	w->swept_version = feed_version(n->feed);
}

void
windows_loosen_all(struct node *n)
{
	begin_sweep(n, true);
}

/* Our own entries, or those that are not liberal yet; true if there is more to do at once. */
static bool
sweep(struct node *n)
{
	struct windows	*w = n->windows;
	uint32_t	 h = w->sweep_h, looked = 0;
	const uint8_t	*body;
	size_t		 len;

	while (looked++ < LOOK_ENTRIES && (h = feed_next(n->feed, h)) != FTAB_NIL) {
		body = ftab_body(feed_table(n->feed), h, &len);
		if (body[1] == IPPROTO_TCP && !flow_key_expects(body) &&
		    (w->again || !local_liberal(n->local, h)) && !windows_loosen(n, body, flow_key_len(body, len)))
			return false;		/* this one again, later */
		w->sweep_h = h;
	}
	w->sweeping = h != FTAB_NIL;
	return w->sweeping;
}

/* --- strict --------------------------------------------------------------------------- */

void
windows_written(struct node *n)
{
	n->windows->loosened_us = n->now_us;
}

void
windows_look(struct node *n)
{
	if (!n->conf.liberal)
		return;
	n->windows->look = 0;
	n->windows->look_us = n->now_us + looks_s[0] * 1000000u;
}

/* Have all windows been carried by this kernel alone for a while? */
static bool
may_tighten(const struct node *n)
{
	const struct windows	*w = n->windows;

	/* what a dump shows may be from before the kernel was made to forget it */
	if (w->sweeping || w->jobs > 0 || w->loosen != NULL || w->dump_us <= w->loosened_us)
		return false;
	return n->conf.liberal && ownership_actives(n) == 1 && ownership_active(n) &&
	    takeover_complete(n);
}

/*
 * Hand over what is to be tightened; if the kernel is busy, or something was
 * written since the dump began, the next look finds it again.
 */
static void
submit_strict(struct node *n)
{
	struct windows	*w = n->windows;

	if (w->strict == NULL)
		return;
	if (w->strict->n > 0 && w->dump_us > w->loosened_us &&
	    n->ops->kernel.submit(n->ctx, w->strict) == 0) {
		if (w->strict_jobs++ == 0)
			w->strict_us = n->now_us;
	} else {
		w->counting += w->strict->n;
		kjob_free(w->strict);
	}
	w->strict = NULL;
}

void
windows_dump_begin(struct node *n)
{
	n->windows->counting = 0;
	n->windows->dump_us = n->now_us;
}

void
windows_dump_entry(struct node *n, const struct flow *f)
{
	struct windows	*w = n->windows;
	uint8_t		 key[FLOW_KEY_MAX];
	size_t		 klen;
	uint32_t	 h;

	if (f->proto != IPPROTO_TCP || f->expect ||
	    !((f->tcp_flags[0] | f->tcp_flags[1]) & FLOW_TF_BE_LIBERAL))
		return;
	klen = flow_pack_key(f, key);
	h = local_find(n->local, key, klen);
	/* others may want it so: flow offload does */
	if (h == FTAB_NIL || !local_liberal(n->local, h))
		return;
	w->counting++;
	if (!(f->tcp_flags[0] & f->tcp_flags[1] & FLOW_TF_MAXACK_SET) || !may_tighten(n))
		return;
	if (w->strict == NULL && (w->strict = kjob_new(KOP_STRICT, KOWNER_WINDOWS)) == NULL)
		return;
	if (kjob_add(w->strict, key, klen, 0) < 0)
		return;
	w->counting--;
	if (w->strict->n == KJOB_ITEMS_MAX)
		submit_strict(n);
}

void
windows_dump_end(struct node *n)
{
	struct windows	*w = n->windows;

	submit_strict(n);
	w->liberal = w->counting;
	w->counting = 0;
}

/* --- time -------------------------------------------------------------------------------- */

/* What was tightened may have been written over just before: it has to learn its windows again. */
static void
loosen_again(struct node *n, const struct kjob *j)
{
	uint32_t	 i;

	for (i = 0; i < j->n; i++)
		if (j->items[i].err == 0 &&
		    !windows_loosen(n, j->bytes + j->items[i].off, j->items[i].len))
			n->windows->strict_void = true;
}

void
windows_job_done(struct node *n, struct kjob *j)
{
	struct windows	*w = n->windows;
	uint32_t	 i;

	if (j->op == KOP_LIBERAL) {
		w->jobs--;
		w->loosened_us = n->now_us;
	} else
		w->strict_jobs--;
	for (i = 0; i < j->n; i++)
		if (j->items[i].err == 0)
			local_set_liberal(n->local, j->bytes + j->items[i].off, j->items[i].len,
			    j->op == KOP_LIBERAL);
	if (j->op == KOP_STRICT && w->loosened_us >= w->strict_us)
		loosen_again(n, j);
	/* the sweep has passed over them, since they were liberal then */
	if (j->op == KOP_STRICT && w->strict_void)
		windows_loosen_all(n);
	w->strict_void &= w->strict_jobs > 0;
	kjob_free(j);
}

/* A dump beside a walk would only slow it down, and its end asks for another look. */
static bool
may_look(const struct node *n)
{
	return n->windows->look_us != 0 && takeover_complete(n);
}

bool
windows_run(struct node *n)
{
	struct windows	*w = n->windows;
	bool		 more = false;

	if (!ownership_active(n))
		w->look_us = 0;
	if (may_look(n) && n->now_us >= w->look_us) {
		local_resync(n->local);
		w->look_us = 0;
		if (++w->look < LOOKS)
			w->look_us = n->now_us + (looks_s[w->look] - looks_s[w->look - 1]) * 1000000u;
	}
	/* what the other node carries has stale windows here, and new flows may move */
	if (!w->sweeping && ownership_active(n) && ownership_actives(n) > 1 &&
	    n->now_us - w->swept_us >= BESIDE_US && feed_version(n->feed) != w->swept_version) {
		begin_sweep(n, false);
		windows_look(n);
	}
	/* a table that is not known yet would be found to hold nothing */
	if (w->sweeping && local_known(n->local))
		more = sweep(n);
	(void)submit_loosen(n);
	return more;
}

uint64_t
windows_due(const struct node *n)
{
	return may_look(n) ? n->windows->look_us : UINT64_MAX;
}
