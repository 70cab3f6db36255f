/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The change feed's table: entries in order of change, versions, tombstones.
 *
 * Invariants: each listed entry stands in the list of its lane in ascending
 * order of version; what is above hi of its lane has been told to nobody in
 * its present state; an entry that was ever emitted leaves a tombstone.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "feed_priv.h"

struct feed *
feed_new(const struct feed_conf *conf, const struct feed_ops *ops, void *ctx)
{
	struct feed	*f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->conf = *conf;
	if (f->conf.ring_frames == 0)
		f->conf.ring_frames = FEED_RING_FRAMES;
	f->ops = ops;
	f->ctx = ctx;
	/* a body has to fit into a frame with all that may stand beside it */
	f->body_max = conf->frame_bytes < FEED_FRAME_EXTRA ? 0 : conf->frame_bytes - FEED_FRAME_EXTRA;
	carray_init(&f->ents, sizeof(struct fent));
	f->tab = ftab_new(&conf->table_key, conf->max_flows, conf->max_bytes);
	if (f->tab == NULL || carray_reserve(&f->ents, 0) < 0) {
		feed_free(f);
		return NULL;
	}
	return f;
}

/* --- lists ---------------------------------------------------------------- */

static void
list_remove(struct feed *f, uint32_t h)
{
	struct fent	*e = fent(f, h);
	struct flist	*l = &f->lanes[e->lane];

	if (!(e->flags & FE_LISTED))
		return;
	feed_cursors_step(f, e->lane, h, e->next);
	if (e->prev != FTAB_NIL)
		fent(f, e->prev)->next = e->next;
	else
		l->head = e->next;
	if (e->next != FTAB_NIL)
		fent(f, e->next)->prev = e->prev;
	else
		l->tail = e->prev;
	if (e->version > f->hi.v[e->lane])
		f->unsent[e->lane]--;
	e->flags &= (uint8_t)~FE_LISTED;
}

/*
 * Versions above the present one are not older than now: one mark a
 * millisecond, and one whenever now steps back (what one source tells may have
 * happened before what another one told).
 */
static void
mark_time(struct feed *f, uint64_t now_us)
{
	struct fmark	*m = &f->marks[f->nmarks % FEED_MARKS];
	uint64_t	 last;

	if (f->nmarks > 0) {
		last = f->marks[(f->nmarks - 1) % FEED_MARKS].us;
		if (now_us >= last && now_us - last < FEED_MARK_US)
			return;
	}
	m->version = f->version;
	m->us = now_us;
	f->nmarks++;
}

/* To the tail of a lane, under a new version. */
static void
list_append(struct feed *f, uint32_t h, unsigned lane, uint64_t now_us)
{
	struct fent	*e = fent(f, h);
	struct flist	*l = &f->lanes[lane];

	mark_time(f, now_us);
	e->version = ++f->version;
	e->lane = (uint8_t)lane;
	e->flags |= FE_LISTED;
	e->prev = l->tail;
	e->next = FTAB_NIL;
	if (l->tail != FTAB_NIL)
		fent(f, l->tail)->next = h;
	else
		l->head = h;
	l->tail = h;
	f->unsent[lane]++;
	feed_cursors_tail(f, lane, h);
}

static void
hold_remove(struct feed *f, uint32_t h)
{
	struct fent	*e = fent(f, h);

	if (!(e->flags & FE_HELD))
		return;
	if (e->prev != FTAB_NIL)
		fent(f, e->prev)->next = e->next;
	else
		f->held.head = e->next;
	if (e->next != FTAB_NIL)
		fent(f, e->next)->prev = e->prev;
	else
		f->held.tail = e->prev;
	f->nheld--;
	e->flags &= (uint8_t)~FE_HELD;
}

/* Unknown to everybody until a reply comes or time passes. */
static void
hold(struct feed *f, uint32_t h, uint64_t now_us)
{
	struct fent	*e = fent(f, h);

	if (e->flags & FE_HELD)
		return;
	e->version = now_us + f->conf.hold_us;
	e->lane = 1;
	e->flags |= FE_HELD;
	e->prev = f->held.tail;
	e->next = FTAB_NIL;
	if (e->prev != FTAB_NIL)
		fent(f, e->prev)->next = h;
	else
		f->held.head = h;
	f->held.tail = h;
	f->nheld++;
}

void
feed_release(struct feed *f, uint64_t now_us, bool all)
{
	uint32_t	 h;

	while ((h = f->held.head) != FTAB_NIL && (all || fent(f, h)->version <= now_us)) {
		hold_remove(f, h);
		list_append(f, h, 1, now_us);
	}
}

/*
 * The content of h has changed.  A version that nobody was told of is reused
 * in place; a final one stays what it was, and the entry moves to the tail.
 */
static void
changed(struct feed *f, uint32_t h, unsigned lane, uint64_t now_us)
{
	struct fent	*e = fent(f, h);

	if (!(e->flags & FE_LISTED)) {
		if (lane == FEED_HOLD && f->conf.hold_us > 0 && !(e->flags & FE_EMITTED)) {
			hold(f, h, now_us);
			return;
		}
		hold_remove(f, h);
		list_append(f, h, lane == FEED_HOLD ? 1 : lane, now_us);
		return;
	}
	if (lane == FEED_HOLD)
		lane = 1;
	if (e->lane == 0)
		lane = 0;		/* never back */
	if (e->lane == lane && e->version > f->hi.v[lane]) {
		f->stats.merged++;
		return;
	}
	list_remove(f, h);
	list_append(f, h, lane, now_us);
}

/* --- tombstones ------------------------------------------------------------ */

/* While an entry is a tombstone its meta data has no other use than this list. */
static uint32_t *
tomb_next(const struct feed *f, uint32_t h)
{
	return &ftab_meta(f->tab, h)->timeout_s;
}

static uint32_t *
tomb_prev(const struct feed *f, uint32_t h)
{
	return &ftab_meta(f->tab, h)->touched;
}

static void
tomb_append(struct feed *f, uint32_t h)
{
	*tomb_next(f, h) = FTAB_NIL;
	*tomb_prev(f, h) = f->tomb_tail;
	if (f->tomb_tail != FTAB_NIL)
		*tomb_next(f, f->tomb_tail) = h;
	else
		f->tomb_head = h;
	f->tomb_tail = h;
	f->ntombs++;
	fent(f, h)->flags |= FE_TOMB;
}

static void
tomb_remove(struct feed *f, uint32_t h)
{
	uint32_t	 next = *tomb_next(f, h), prev = *tomb_prev(f, h);

	if (prev != FTAB_NIL)
		*tomb_next(f, prev) = next;
	else
		f->tomb_head = next;
	if (next != FTAB_NIL)
		*tomb_prev(f, next) = prev;
	else
		f->tomb_tail = prev;
	*tomb_next(f, h) = 0;
	*tomb_prev(f, h) = 0;
	f->ntombs--;
	fent(f, h)->flags &= (uint8_t)~(FE_TOMB | FE_REMOVED);
}

/* The entry leaves the table for good. */
static void
drop_entry(struct feed *f, uint32_t h)
{
	struct fent		*e = fent(f, h);
	struct ftab_meta	*m = ftab_meta(f->tab, h);

	list_remove(f, h);
	hold_remove(f, h);
	if (e->flags & FE_STREAMED) {
		fmend_account(f, h, 0 - m->digest, -1);
		f->digest.sum -= m->digest;
		f->digest.flows--;
	}
	ftab_remove(f->tab, h);
	memset(e, 0, sizeof(*e));
}

/*
 * Give up a tombstone.  Whoever has not applied it can no longer be resumed:
 * the floor of the lane says so.
 */
static void
tomb_give_up(struct feed *f, uint32_t h)
{
	struct fent	*e = fent(f, h);
	uint64_t	*floor = &f->floor.v[e->lane];

	if (e->version > *floor)
		*floor = e->version;
	tomb_remove(f, h);
	drop_entry(f, h);
}

/*
 * Tombstones go in the order in which they were made, which is that of their
 * versions but for those that merged in place: they only raise the floor less.
 */
void
feed_collect_tombs(struct feed *f)
{
	uint64_t	 needed[LANES];
	uint32_t	 h, keep;
	unsigned	 l;

	for (l = 0; l < LANES; l++)
		needed[l] = feed_tombs_needed(f, l);
	while ((h = f->tomb_head) != FTAB_NIL && fent(f, h)->version <= needed[fent(f, h)->lane])
		tomb_give_up(f, h);
	if (f->ntombs <= f->conf.max_tombs)
		return;
	for (keep = f->conf.max_tombs / 2; f->ntombs > keep; f->stats.forced_tombs++)
		tomb_give_up(f, f->tomb_head);
	feed_check_floor(f);
}

/* --- changes ---------------------------------------------------------------- */

static int
insert(struct feed *f, uint32_t hash, const uint8_t *body, size_t len, unsigned lane, uint32_t *h)
{
	int	 rc;

	rc = ftab_insert(f->tab, hash, body, len, h);
	if (rc == -ENOSPC && f->ntombs > 0 && lane != FEED_HOLD) {
		/* rather a full synchronisation later than a flow that is not replicated */
		f->stats.forced_tombs++;
		tomb_give_up(f, f->tomb_head);
		feed_check_floor(f);
		rc = ftab_insert(f->tab, hash, body, len, h);
	}
	if (rc < 0)
		return rc;
	if ((rc = carray_reserve(&f->ents, *h)) < 0) {
		ftab_remove(f->tab, *h);
		return rc;
	}
	memset(fent(f, *h), 0, sizeof(struct fent));
	return 0;
}

int
feed_put_at(struct feed *f, uint32_t h, const uint8_t *body, size_t len, uint32_t timeout_s,
    unsigned lane, uint64_t now_us)
{
	struct fent	*e = fent(f, h);
	size_t		 klen = flow_key_len(body, len), olen;
	const uint8_t	*old = ftab_body(f->tab, h, &olen);
	int		 rc;

	if (klen == 0 || len <= klen)
		return -EINVAL;
	if (len > f->body_max)
		return -ENOSPC;
	if (!(e->flags & FE_TOMB) && olen == len && memcmp(old, body, len) == 0 &&
	    lane >= e->lane) {
		ftab_meta(f->tab, h)->timeout_s = timeout_s;
		return 0;
	}
	if ((rc = ftab_set(f->tab, h, body, len)) < 0)
		return rc;
	if (e->flags & FE_TOMB) {
		tomb_remove(f, h);
		f->live_flows++;
		f->live_expects += flow_key_expects(body);
	}
	ftab_meta(f->tab, h)->timeout_s = timeout_s;
	e->incarnation = body[klen];
	changed(f, h, lane, now_us);
	return 1;
}

int
feed_put(struct feed *f, uint32_t hash, const uint8_t *body, size_t len, uint32_t timeout_s,
    unsigned lane, uint64_t now_us, uint32_t *hp)
{
	size_t	 klen = flow_key_len(body, len);
	int	 rc;

	if (klen == 0 || len <= klen)
		return -EINVAL;
	if (len > f->body_max)
		return -ENOSPC;
	*hp = ftab_find(f->tab, hash, body, klen);
	if (*hp != FTAB_NIL)
		return feed_put_at(f, *hp, body, len, timeout_s, lane, now_us);
	if ((rc = insert(f, hash, body, len, lane, hp)) < 0)
		return rc;
	f->live_flows++;
	f->live_expects += flow_key_expects(body);
	ftab_meta(f->tab, *hp)->timeout_s = timeout_s;
	fent(f, *hp)->incarnation = body[klen];
	changed(f, *hp, lane, now_us);
	return 1;
}

uint32_t
feed_prefetch_entry(const struct feed *f, uint32_t hash)
{
	uint32_t	 h = ftab_guess(f->tab, hash);

	if (h != FTAB_NIL) {
		__builtin_prefetch(ftab_meta(f->tab, h));
		__builtin_prefetch(fent(f, h));
	}
	return h;
}

void
feed_prefetch_body(const struct feed *f, uint32_t h)
{
	const struct fent	*e;
	size_t			 len;

	if (h == FTAB_NIL)
		return;
	__builtin_prefetch(ftab_body(f->tab, h, &len));
	e = fent(f, h);
	__builtin_prefetch(fent(f, e->prev));
	__builtin_prefetch(fent(f, e->next));
}

void
feed_touch(struct feed *f, uint32_t h, uint64_t now_us)
{
	if (!(fent(f, h)->flags & FE_HELD))
		changed(f, h, fent(f, h)->lane, now_us);
}

void
feed_remove(struct feed *f, uint32_t h, uint64_t now_us)
{
	fent(f, h)->flags |= FE_REMOVED;
	feed_del(f, h, now_us);
}

void
feed_del(struct feed *f, uint32_t h, uint64_t now_us)
{
	struct fent	*e = fent(f, h);
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(f->tab, h, &len);
	f->live_flows--;
	f->live_expects -= flow_key_expects(body);
	if (!(e->flags & FE_EMITTED)) {
		f->stats.unborn++;
		drop_entry(f, h);
		return;
	}
	if (ftab_set(f->tab, h, body, flow_key_len(body, len)) < 0)
		f->stats.fat_tombs++;	/* the flag says what it is, whatever its length */
	e->marks = 0;
	changed(f, h, e->lane, now_us);
	tomb_append(f, h);
	if (f->ntombs > f->conf.max_tombs)
		feed_collect_tombs(f);
}

void
feed_mark_emitted(struct feed *f, uint32_t h, bool shared)
{
	struct fent		*e = fent(f, h);
	struct ftab_meta	*m = ftab_meta(f->tab, h);
	const uint8_t		*body;
	size_t			 len;

	e->flags |= FE_EMITTED;
	if (!shared)
		return;
	if (e->flags & FE_STREAMED) {
		fmend_account(f, h, 0 - m->digest, -1);
		f->digest.sum -= m->digest;
		f->digest.flows--;
		e->flags &= (uint8_t)~FE_STREAMED;
	}
	m->digest = 0;
	if (e->flags & FE_TOMB)
		return;
	body = ftab_body(f->tab, h, &len);
	m->digest = siphash13(&f->conf.digest_key, body, len);
	fmend_account(f, h, m->digest, 1);
	f->digest.sum += m->digest;
	f->digest.flows++;
	e->flags |= FE_STREAMED;
}

/* --- reading ---------------------------------------------------------------- */

struct ftab *
feed_table(const struct feed *f)
{
	return f->tab;
}

uint32_t
feed_find(const struct feed *f, uint32_t hash, const uint8_t *key, size_t klen)
{
	uint32_t	 h = ftab_find(f->tab, hash, key, klen);

	return h != FTAB_NIL && feed_live(f, h) ? h : FTAB_NIL;
}

bool
feed_live(const struct feed *f, uint32_t h)
{
	return !(fent(f, h)->flags & FE_TOMB);
}

uint32_t
feed_next(const struct feed *f, uint32_t h)
{
	do
		h = ftab_next(f->tab, h);
	while (h != FTAB_NIL && !feed_live(f, h));
	return h;
}

uint32_t *
feed_id(const struct feed *f, uint32_t h)
{
	return &fent(f, h)->id;
}

uint8_t *
feed_marks(const struct feed *f, uint32_t h)
{
	return &fent(f, h)->marks;
}

uint8_t
feed_next_incarnation(const struct feed *f, uint32_t hash, const uint8_t *key, size_t klen)
{
	uint32_t	 h = ftab_find(f->tab, hash, key, klen);

	return h == FTAB_NIL ? 0 : (uint8_t)(fent(f, h)->incarnation + 1);
}

uint32_t
feed_flows(const struct feed *f)
{
	return f->live_flows;
}

uint32_t
feed_expects(const struct feed *f)
{
	return f->live_expects;
}

uint32_t
feed_tombs(const struct feed *f)
{
	return f->ntombs;
}

uint64_t
feed_version(const struct feed *f)
{
	return f->version;
}

uint64_t
feed_version_of(const struct feed *f, uint32_t h)
{
	return fent(f, h)->flags & FE_HELD ? UINT64_MAX : fent(f, h)->version;
}

uint32_t
feed_held(const struct feed *f)
{
	return f->nheld;
}

unsigned
feed_lane_of(const struct feed *f, uint32_t h)
{
	return fent(f, h)->lane;
}

struct wire_pos
feed_emitted(const struct feed *f)
{
	return f->hi;
}

uint64_t
feed_bytes(const struct feed *f)
{
	return ftab_bytes(f->tab) + carray_bytes(&f->ents) +
	    f->nstreams * (uint64_t)f->conf.ring_frames *
	    (sizeof(struct frame) + f->conf.frame_bytes);
}

uint32_t
feed_unsent(const struct feed *f)
{
	return f->unsent[0] + f->unsent[1];
}

const struct feed_stats *
feed_stats(const struct feed *f)
{
	return &f->stats;
}

struct wire_digest
feed_digest(const struct feed *f)
{
	return f->digest;
}
