/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Jobs of a takeover for the kernel, and what came of them: a flow becomes ours
 * when the kernel has acknowledged it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ownership.h"
#include "takeover_priv.h"
#include "windows.h"

/* Tags: the number of the walk (0: an entry was followed) and the peer; or this. */
#define TAG_MEND	UINT32_MAX	/* puts right what an earlier job wrote */
#define TAG_PEER_BITS	5u

static uint32_t
tag_of(const struct takeover *t)
{
	uint32_t	 number = t->walking ? t->number : 0;

	return number << TAG_PEER_BITS | t->job_peer;
}

/* Does the job belong to the command at hand? */
static bool
counts(const struct takeover *t, const struct kjob *j)
{
	return t->command && j->tag != TAG_MEND && j->tag >> TAG_PEER_BITS == t->number;
}

/* --- filling ------------------------------------------------------------------------ */

static bool
submit_one(struct node *n, struct kjob **j)
{
	struct takeover	*t = n->takeover;

	if (*j == NULL || (*j)->n == 0)
		return true;
	if (t->jobs >= CLUSTER_JOBS_MAX || n->ops->kernel.submit(n->ctx, *j) < 0)
		return false;
	*j = NULL;
	t->jobs++;
	return true;
}

/* In this order as well, and never between an entry that goes and what takes its place. */
static bool
submit_mended(struct node *n)
{
	struct takeover	*t = n->takeover;

	return !t->making_room && submit_one(n, &t->redo) && submit_one(n, &t->look) &&
	    submit_one(n, &t->undo);
}

bool
takeover_submit(struct node *n)
{
	struct takeover	*t = n->takeover;

	/* in this order: what is in the way goes first, what is newer comes last */
	t->making_room |= t->drop != NULL && t->drop->n > 0;
	if (!submit_one(n, &t->drop) || !submit_one(n, &t->job))
		return false;
	t->making_room = false;
	return submit_mended(n);
}

static bool
room_for(struct node *n, struct kjob **j, enum kop op)
{
	if (*j != NULL && (*j)->n == KJOB_ITEMS_MAX && !takeover_submit(n))
		return false;
	if (*j != NULL)
		return true;
	if ((*j = kjob_new(op, KOWNER_TAKEOVER)) == NULL)
		return false;
	(*j)->tag = tag_of(n->takeover);
	return true;
}

/* The entry that is to go, and no other that a packet makes meanwhile. */
static bool
drop(struct node *n, const uint8_t *key, size_t klen)
{
	uint32_t	 own = local_find(n->local, key, klen);

	return kjob_add(n->takeover->drop, key, klen, own != FTAB_NIL ? local_id(n->local, own) : 0) == 0;
}

/*
 * What the peer told may be about to lapse there while packets that tell no
 * event keep it alive here: what is written over does not get less than it had.
 */
static uint32_t
timeout_over(const struct node *n, const struct flow *f, const uint8_t *key, size_t klen,
    uint32_t told_s)
{
	uint32_t	 own = local_find(n->local, key, klen);
	struct flow	 ours;

	if (own != FTAB_NIL && !f->expect && local_load(n->local, own, &ours) &&
	    flow_timeout_class(&ours) == flow_timeout_class(f) && ours.timeout_s > told_s)
		return ours.timeout_s;
	return told_s;
}

bool
takeover_put(struct node *n, unsigned peer, uint32_t h, enum verdict v, const struct flow *f)
{
	struct takeover		*t = n->takeover;
	struct ftab_meta	*m = ftab_meta(recv_table(n->recv[peer]), h);
	const uint8_t		*body;
	size_t			 len;
	uint32_t		 told_s;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	if (v == ENTRY_LOOSEN)
		return windows_loosen(n, body, flow_key_len(body, len));
	/* a job is about one peer, and one walk */
	if (t->job != NULL && (t->job_peer != peer || t->job->tag != tag_of(t)) && !takeover_submit(n))
		return false;
	t->job_peer = peer;
	if (!room_for(n, &t->job, KOP_CREATE) ||
	    (v >= ENTRY_REPLACE && !room_for(n, &t->drop, KOP_DELETE)))
		return false;
	if (v == ENTRY_REPLACE && !drop(n, body, flow_key_len(body, len)))
		return false;
	if (v == ENTRY_REPLACE_REVERSED && !drop(n, t->in_way, t->in_way_len))
		return false;
	told_s = v == ENTRY_OVER ?
	    timeout_over(n, f, body, flow_key_len(body, len), m->timeout_s) : m->timeout_s;
	if (kjob_add(t->job, body, len, takeover_timeout(n, f, told_s)) < 0)
		return false;
	m->touched = t->number;
	return true;
}

bool
takeover_writing(const struct takeover *t)
{
	return t->jobs > 0 || t->job != NULL || t->drop != NULL || t->redo != NULL ||
	    t->look != NULL || t->undo != NULL;
}

void
takeover_drop_jobs(struct takeover *t)
{
	kjob_free(t->job);
	kjob_free(t->drop);
	kjob_free(t->redo);
	kjob_free(t->look);
	kjob_free(t->undo);
	t->job = t->drop = t->redo = t->look = t->undo = NULL;
	t->making_room = false;
}

/* --- results ---------------------------------------------------------------------------- */

static void
note_failure(struct node_taken *k, const struct kjob *j, const struct kitem *it)
{
	struct flow	 f;
	unsigned	 i;
	int		 err = -it->err;

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

/* Has an expectation come to nothing because its master is not there, or has no helper there? */
static bool
lost_expectation(struct takeover *t, const struct kjob *j, const struct kitem *it)
{
	struct flow	 f;

	if ((it->err != -ENOENT && it->err != -EOPNOTSUPP) ||
	    flow_unpack(j->bytes + it->off, it->len, &f) < 0 || !f.expect)
		return false;
	if (it->err == -ENOENT)
		t->result.lost_master++;
	else
		t->result.lost_helper++;
	return true;
}

/*
 * Was it refused because a stray has made the entry meanwhile, with another
 * translation?  That gives way, now that it is known.
 */
static bool
gives_way(struct node *n, const struct kitem *it, const uint8_t *body)
{
	size_t		 klen = flow_key_len(body, it->len);
	uint32_t	 h = local_find(n->local, body, klen);

	if (it->err != -EEXIST || h == FTAB_NIL || !local_stray(n->local, h) ||
	    local_id(n->local, h) == 0)
		return false;
	takeover_follow_key(n, body, klen);
	return true;
}

static void
refused(struct node *n, const struct kjob *j, const struct kitem *it)
{
	struct takeover	*t = n->takeover;
	const uint8_t	*body = j->bytes + it->off;
	unsigned	 peer = j->tag & ((1u << TAG_PEER_BITS) - 1);

	if (j->tag == TAG_MEND) {
		t->spoilt = t->unsure = true;
		return;
	}
	if (lost_expectation(t, j, it) || gives_way(n, it, body))
		return;
	if (counts(t, j))
		note_failure(&t->result, j, it);
	t->refused[peer]++;
	/* what is refused for the first time is tried again soon */
	if (ownership_claim_except(n, peer, body, flow_key_len(body, it->len)))
		takeover_again(n, peer, body, flow_key_len(body, it->len));
	/* an older life may have been removed to make room for it */
	t->unsure |= local_find(n->local, body, flow_key_len(body, it->len)) != FTAB_NIL;
}

/* Add to a job that puts right what was written. */
static void
mend(struct node *n, struct kjob **j, enum kop op, const uint8_t *body, size_t len,
    uint32_t timeout_s)
{
	if (*j == NULL && (*j = kjob_new(op, KOWNER_TAKEOVER)) != NULL)
		(*j)->tag = TAG_MEND;
	if (*j == NULL || kjob_add(*j, body, len, timeout_s) < 0)
		n->takeover->spoilt = n->takeover->unsure = true;
}

/* Does our table hold just that already? */
static bool
is_as_written(const struct node *n, const uint8_t *body, size_t len)
{
	uint32_t	 h = local_find(n->local, body, flow_key_len(body, len));
	const uint8_t	*own;
	size_t		 olen;

	if (h == FTAB_NIL)
		return false;
	own = ftab_body(feed_table(n->feed), h, &olen);
	return olen == len && memcmp(own, body, len) == 0;
}

/*
 * The kernel has the flow as it was written.  When it was, an event may have
 * been on its way to us: what the event said goes into the kernel again, to give
 * way later if it was a stray.  If it was an end, the kernel is asked what it
 * has now.
 */
static void
mend_newer(struct node *n, const uint8_t *body, size_t len)
{
	struct flow	 ours;
	size_t		 klen = flow_key_len(body, len), olen;
	uint32_t	 h = local_find(n->local, body, klen);
	const uint8_t	*own;

	if (h == FTAB_NIL) {
		mend(n, &n->takeover->look, KOP_GET, body, klen, 0);
		return;
	}
	if (!local_load(n->local, h, &ours) || is_as_written(n, body, len))
		return;
	own = ftab_body(feed_table(n->feed), h, &olen);
	if (local_stray(n->local, h))
		takeover_follow_key(n, body, klen);
	ours.copy = false;		/* an event has told of it */
	mend(n, &n->takeover->redo, KOP_CREATE, own, olen,
	    takeover_timeout(n, &ours, ours.timeout_s));
}

/*
 * Has an event told of the entry meanwhile that is not overtaken by what was
 * written?  Or had the kernel one of which nobody has told?
 */
static bool
is_news(struct node *n, const struct flow *f, const uint8_t *key, size_t klen, bool there)
{
	uint32_t	 h = local_find(n->local, key, klen);
	struct flow	 ours;

	if (!local_newer(n->local, key, klen))
		return there && h == FTAB_NIL && local_lets_through(n->local, f);
	if (h == FTAB_NIL || local_stray(n->local, h) || !local_load(n->local, h, &ours) ||
	    flow_compare_lives(f, &ours) != FLOW_LIFE_SAME ||
	    !(flow_behind(&ours, f) || (flow_closed(f) && flow_same_birth(f, &ours))))
		return true;
	local_overtaken(n->local, h);
	return false;
}

/* The kernel has written the flow: it is ours, unless our own table keeps it out. */
static void
written(struct node *n, const struct kjob *j, const struct kitem *it)
{
	struct takeover	*t = n->takeover;
	const uint8_t	*body = j->bytes + it->off;
	size_t		 klen = flow_key_len(body, it->len);
	struct flow	 f;
	bool		 added, ours;

	if (flow_unpack(body, it->len, &f) < 0)
		return;
	/* the end of an expectation may be that of one that had to make room for it: the kernel is asked */
	if (!f.expect && is_news(n, &f, body, klen, it->there)) {
		if (j->tag != TAG_MEND && !local_lets_through(n->local, &f))
			(void)ownership_claim_except(n, j->tag & ((1u << TAG_PEER_BITS) - 1), body, klen);
		if (f.proto == IPPROTO_TCP)
			local_set_liberal(n->local, body, klen, true);
		if (!it->there)
			local_forget_id(n->local, body, klen);
		mend_newer(n, body, it->len);
		return;
	}
	/* it stays what events have made of it, or has become since */
	if (j->tag == TAG_MEND && (it->there || !is_as_written(n, body, it->len))) {
		local_set_liberal(n->local, body, klen, f.proto == IPPROTO_TCP && !f.expect);
		mend_newer(n, body, it->len);
		return;
	}
	added = local_adopt(n->local, body, it->len, it->timeout_s, it->there, t->adopt_us,
	    n->now_us) > 0;
	t->wrote += j->tag != TAG_MEND && j->tag >> TAG_PEER_BITS == t->number;
	ours = local_find(n->local, body, klen) != FTAB_NIL;
	/* a dump may have shown it before we knew that it is written */
	if (counts(t, j))
		t->result.adopted += added || (ours && !it->there);
	if (j->tag != TAG_MEND && !ours && !f.expect)
		(void)ownership_claim_except(n, j->tag & ((1u << TAG_PEER_BITS) - 1), body, klen);
}

static void
created(struct node *n, struct kjob *j)
{
	struct takeover	*t = n->takeover;
	uint32_t	 i;

	for (i = 0; i < j->n; i++) {
		if (j->items[i].err < 0) {
			refused(n, j, &j->items[i]);
			continue;
		}
		t->unsure |= j->items[i].there;
		if (counts(t, j)) {
			t->result.created += !j->items[i].there;
			t->result.updated += j->items[i].there;
		}
		written(n, j, &j->items[i]);
	}
	t->unsure |= (j->lost_master | j->lost_helper | j->lost_labels) != 0;
	if (!counts(t, j))
		return;
	t->result.lost_master += j->lost_master;
	t->result.lost_helper += j->lost_helper;
	t->result.lost_labels += j->lost_labels;
}

/* What was in the way has gone; an older life of a flow that is being written is replaced by that. */
static void
dropped(struct node *n, const struct kjob *j)
{
	const struct kitem	*it;
	const uint8_t		*key;
	uint32_t		 i;
	unsigned		 peer = j->tag & ((1u << TAG_PEER_BITS) - 1);

	for (i = 0; i < j->n; i++) {
		it = &j->items[i];
		key = j->bytes + it->off;
		if (it->err == 0)
			n->takeover->unsure |= !local_replaced(n->local, key, it->len, it->id);
		/* nor is it known what has taken the place of the one that was meant */
		if (it->err < 0 && (it->err != -ENOENT || it->id != 0))
			n->takeover->unsure = true;
		else if (cluster_find(n, peer, key, it->len) == FTAB_NIL)
			local_removed(n->local, key, it->len, false,
			    n->takeover->adopt_us, n->now_us);
	}
}

/*
 * Does a peer still tell what the kernel has under that key?  Then it is ours
 * now, unless it has ended since: a dump will tell.
 */
static bool
adopt_again(struct node *n, const uint8_t *key, size_t klen, const struct flow *got)
{
	struct takeover	*t = n->takeover;
	const uint8_t	*body;
	struct flow	 f;
	size_t		 len;
	unsigned	 i;
	uint32_t	 h;

	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || ownership_ended(n, i, h) ||
		    ownership_outranked(n, i, key, klen))
			continue;
		body = ftab_body(recv_table(n->recv[i]), h, &len);
		if (flow_unpack(body, len, &f) < 0)
			continue;
		if (memcmp(&f.reply, &got->reply, sizeof(f.reply)) != 0)
			takeover_follow(n, i, h);
		else if (local_adopt(n->local, body, len, takeover_timeout(n, &f,
		    ftab_meta(recv_table(n->recv[i]), h)->timeout_s), true, t->adopt_us, n->now_us) >= 0)
			return true;
	}
	return false;
}

/*
 * The kernel shows what was written although an end was told: the end was that
 * of an older life, or the flow goes again, unless packets use it.
 */
static void
looked_at(struct node *n, const struct kjob *j)
{
	const struct kitem	*it;
	const uint8_t		*key;
	uint32_t		 i;

	for (i = 0; i < j->n; i++) {
		it = &j->items[i];
		key = j->bytes + it->off;
		if (it->err == -ENOENT || local_find(n->local, key, it->len) != FTAB_NIL)
			continue;
		if (it->err == 0 && !adopt_again(n, key, it->len, &j->flows[i]) &&
		    (j->flows[i].has & FLOW_HAS_PACKETS) && j->flows[i].packets == 0)
			mend(n, &n->takeover->undo, KOP_DELETE, key, it->len, j->flows[i].id);
		else
			n->takeover->unsure = true;
	}
}

static void
undone(struct node *n, const struct kjob *j)
{
	struct takeover	*t = n->takeover;
	uint32_t	 i;

	for (i = 0; i < j->n; i++) {
		/* another entry may have come under the key */
		t->unsure |= j->items[i].err < 0;
		if (j->items[i].err == 0)	/* a dump may have shown it meanwhile */
			local_removed(n->local, j->bytes + j->items[i].off, j->items[i].len, true,
			    t->adopt_us, n->now_us);
	}
}

void
takeover_job_done(struct node *n, struct kjob *j)
{
	struct takeover	*t = n->takeover;

	t->jobs--;
	if (j->op == KOP_CREATE) {
		windows_written(n);
		created(n, j);
	} else if (j->op == KOP_GET)
		looked_at(n, j);
	else if (j->tag == TAG_MEND)
		undone(n, j);
	else
		dropped(n, j);
	(void)submit_mended(n);
	kjob_free(j);
}
