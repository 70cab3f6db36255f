/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The flow table: an index of (hash, handle), meta data by handle, bodies in a
 * slab.
 *
 * The index is open addressing with linear probing and deletion by moving back
 * what follows.  While it grows there are two: the old one is emptied a few
 * slots with every insertion and searched second; removal there leaves a mark
 * instead, for it is on its way out anyway.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/carray.h"
#include "ctsync/flow.h"
#include "ctsync/ftab.h"

#define UNIT		16u			/* bytes of a slab unit */
#define CHUNK_UNITS	(1u << 17)		/* 2 MiB */
#define CHUNK_BYTES	((size_t)CHUNK_UNITS * UNIT)
#define CLASSES		(FLOW_BODY_MAX / UNIT + 1)
#define FIRST_SLOTS	1024u
#define MOVE_SLOTS	16u			/* of the old index with each insertion */

struct slot {
	uint32_t	 hash;
	uint32_t	 h;			/* FTAB_NIL: empty */
};

#define SLOT_GONE	UINT32_MAX		/* in the old index only */

struct index {
	struct slot	*slots;
	uint32_t	 mask;
};

struct slab {
	uint8_t		**chunks;
	uint32_t	  nchunks;
	uint32_t	  bump;			/* next unused unit of the last chunk */
	uint32_t	  free[CLASSES];	/* by units, 0 = none; unit 0 is never used */
};

struct ftab {
	struct sipkey	 key;
	struct index	 cur, old;
	uint32_t	 moved;			/* slots of old that are done */
	struct carray	 meta;
	struct slab	 slab;
	uint32_t	 top;			/* greatest handle given out */
	uint32_t	 free_h;		/* list of free handles, through meta.ref */
	uint32_t	 count;
	uint32_t	 expects;		/* of count */
	uint32_t	 max_flows;
	uint64_t	 max_bytes;
	uint64_t	 refused;
};

/* --- slab ------------------------------------------------------------- */

static uint8_t *
slab_at(const struct slab *s, uint32_t ref)
{
	return s->chunks[ref / CHUNK_UNITS] + (size_t)(ref % CHUNK_UNITS) * UNIT;
}

static uint32_t
units_of(size_t len)
{
	return (uint32_t)((len + UNIT - 1) / UNIT);
}

static void
slab_put(struct slab *s, uint32_t ref, uint32_t units)
{
	memcpy(slab_at(s, ref), &s->free[units], sizeof(uint32_t));
	s->free[units] = ref;
}

/* The rest of the last chunk goes to the free lists; then a new one. */
static int
slab_grow(struct slab *s)
{
	uint8_t		**p;
	uint32_t	  left, n;

	if (s->nchunks >= UINT32_MAX / CHUNK_UNITS)
		return -ENOMEM;
	p = realloc(s->chunks, (s->nchunks + 1) * sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	s->chunks = p;
	p[s->nchunks] = malloc(CHUNK_BYTES);
	if (p[s->nchunks] == NULL)
		return -ENOMEM;
	if (s->nchunks > 0)
		for (left = CHUNK_UNITS - s->bump; left > 0; left -= n) {
			n = left < CLASSES - 1 ? left : CLASSES - 1;
			slab_put(s, (s->nchunks - 1) * CHUNK_UNITS + CHUNK_UNITS - left, n);
		}
	s->bump = s->nchunks == 0 ? 1 : 0;
	s->nchunks++;
	return 0;
}

/* Smallest class of at least so many units that has a free slot, CLASSES if none has. */
static uint32_t
slab_class(const struct slab *s, uint32_t units)
{
	while (units < CLASSES && s->free[units] == 0)
		units++;
	return units;
}

/* Would another slot of that size need no more memory? */
static bool
slab_has(const struct slab *s, uint32_t units)
{
	return (s->nchunks > 0 && CHUNK_UNITS - s->bump >= units) ||
	    slab_class(s, units) < CLASSES;
}

/* A slot of that size; else a new one; else, if memory is tight, a piece of a larger one. */
static int
slab_get(struct slab *s, uint32_t units, bool tight, uint32_t *ref)
{
	bool		 fresh = s->nchunks > 0 && CHUNK_UNITS - s->bump >= units;
	uint32_t	 from = units;

	if (s->free[units] == 0 && !fresh && tight)
		from = slab_class(s, units);
	if (from < CLASSES && s->free[from] != 0) {
		*ref = s->free[from];
		memcpy(&s->free[from], slab_at(s, *ref), sizeof(uint32_t));
		if (from > units)
			slab_put(s, *ref + units, from - units);
		return 0;
	}
	if (!fresh && slab_grow(s) < 0)
		return -ENOMEM;
	*ref = (s->nchunks - 1) * CHUNK_UNITS + s->bump;
	s->bump += units;
	return 0;
}

/* --- index ------------------------------------------------------------ */

static bool
same_key(const struct ftab *t, uint32_t h, const uint8_t *key, size_t klen)
{
	const struct ftab_meta	*m = carray_at(&t->meta, h);

	/* no key is the beginning of another one: its first byte fixes its length */
	return m->len >= klen && memcmp(slab_at(&t->slab, m->ref), key, klen) == 0;
}

/* Slot of the entry in ix, or NULL. */
static struct slot *
index_find(const struct ftab *t, const struct index *ix, uint32_t hash, const uint8_t *key,
    size_t klen)
{
	struct slot	*s;
	uint32_t	 i;

	for (i = hash & ix->mask;; i = (i + 1) & ix->mask) {
		s = &ix->slots[i];
		if (s->h == FTAB_NIL)
			return NULL;
		if (s->hash == hash && s->h != SLOT_GONE && same_key(t, s->h, key, klen))
			return s;
	}
}

static void
index_add(struct index *ix, uint32_t hash, uint32_t h)
{
	uint32_t	 i = hash & ix->mask;

	while (ix->slots[i].h != FTAB_NIL)
		i = (i + 1) & ix->mask;
	ix->slots[i].hash = hash;
	ix->slots[i].h = h;
}

/* Empty slot i and move back those that were pushed past it. */
static void
index_del(struct index *ix, uint32_t i)
{
	uint32_t	 j = i, home;

	for (;;) {
		ix->slots[i].h = FTAB_NIL;
		for (;;) {
			j = (j + 1) & ix->mask;
			if (ix->slots[j].h == FTAB_NIL)
				return;
			home = ix->slots[j].hash & ix->mask;
			/* may the entry at j stand at i?  not if its home lies in (i, j] */
			if (((j - home) & ix->mask) >= ((j - i) & ix->mask))
				break;
		}
		ix->slots[i] = ix->slots[j];
		i = j;
	}
}

static void
index_move(struct ftab *t, uint32_t n)
{
	struct slot	*s;

	for (; n > 0 && t->old.slots != NULL; n--) {
		s = &t->old.slots[t->moved];
		if (s->h != FTAB_NIL && s->h != SLOT_GONE) {
			index_add(&t->cur, s->hash, s->h);
			s->h = SLOT_GONE;	/* keeps the probe chains of old whole */
		}
		if (t->moved++ == t->old.mask) {
			free(t->old.slots);
			t->old.slots = NULL;
		}
	}
}

/*
 * Begin to grow at 70 % load.  The old index is empty again long before the
 * new one reaches that: it moves 16 slots an insertion, twice its size.
 */
static int
index_grow(struct ftab *t)
{
	struct index	 bigger;
	uint32_t	 n = t->cur.mask + 1;

	if (t->old.slots != NULL || (uint64_t)t->count * 10 < (uint64_t)n * 7)
		return 0;
	bigger.mask = n * 2 - 1;
	bigger.slots = calloc((size_t)n * 2, sizeof(struct slot));
	if (bigger.slots == NULL)
		return t->count + 1 < n ? 0 : -ENOMEM;	/* a full one still works */
	t->old = t->cur;
	t->cur = bigger;
	t->moved = 0;
	return 0;
}

static void
index_remove(struct ftab *t, uint32_t hash, uint32_t h)
{
	uint32_t	 i;

	for (i = hash & t->cur.mask; t->cur.slots[i].h != FTAB_NIL; i = (i + 1) & t->cur.mask)
		if (t->cur.slots[i].h == h) {
			index_del(&t->cur, i);
			return;
		}
	if (t->old.slots == NULL)
		return;
	for (i = hash & t->old.mask; t->old.slots[i].h != FTAB_NIL; i = (i + 1) & t->old.mask)
		if (t->old.slots[i].h == h) {
			t->old.slots[i].h = SLOT_GONE;
			return;
		}
}

/* --- the table ---------------------------------------------------------- */

struct ftab *
ftab_new(const struct sipkey *key, uint32_t max_flows, uint64_t max_bytes)
{
	struct ftab	*t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->key = *key;
	t->max_flows = max_flows;
	t->max_bytes = max_bytes;
	t->cur.mask = FIRST_SLOTS - 1;
	t->cur.slots = calloc(FIRST_SLOTS, sizeof(struct slot));
	carray_init(&t->meta, sizeof(struct ftab_meta));
	if (t->cur.slots == NULL || carray_reserve(&t->meta, 0) < 0) {
		ftab_free(t);
		return NULL;
	}
	return t;
}

void
ftab_free(struct ftab *t)
{
	uint32_t	 i;

	if (t == NULL)
		return;
	for (i = 0; i < t->slab.nchunks; i++)
		free(t->slab.chunks[i]);
	free(t->slab.chunks);
	carray_fini(&t->meta);
	free(t->cur.slots);
	free(t->old.slots);
	free(t);
}

uint32_t
ftab_hash(const struct ftab *t, const uint8_t *key, size_t klen)
{
	return (uint32_t)siphash13(&t->key, key, klen);
}

void
ftab_prefetch(const struct ftab *t, uint32_t hash)
{
	__builtin_prefetch(&t->cur.slots[hash & t->cur.mask]);
	if (t->old.slots != NULL)
		__builtin_prefetch(&t->old.slots[hash & t->old.mask]);
}

static uint32_t
guess_in(const struct index *ix, uint32_t hash)
{
	const struct slot	*s;
	uint32_t		 i;

	for (i = hash & ix->mask;; i = (i + 1) & ix->mask) {
		s = &ix->slots[i];
		if (s->h == FTAB_NIL)
			return FTAB_NIL;
		if (s->hash == hash && s->h != SLOT_GONE)
			return s->h;
	}
}

uint32_t
ftab_guess(const struct ftab *t, uint32_t hash)
{
	uint32_t	 h = guess_in(&t->cur, hash);

	return h == FTAB_NIL && t->old.slots != NULL ? guess_in(&t->old, hash) : h;
}

uint32_t
ftab_find(const struct ftab *t, uint32_t hash, const uint8_t *key, size_t klen)
{
	struct slot	*s = index_find(t, &t->cur, hash, key, klen);

	if (s == NULL && t->old.slots != NULL)
		s = index_find(t, &t->old, hash, key, klen);
	return s == NULL ? FTAB_NIL : s->h;
}

static int
alloc_handle(struct ftab *t, uint32_t *h)
{
	struct ftab_meta	*m;

	if (t->free_h != FTAB_NIL) {
		*h = t->free_h;
		m = carray_at(&t->meta, *h);
		t->free_h = m->ref;
		return 0;
	}
	if (t->top == UINT32_MAX - 1 || carray_reserve(&t->meta, t->top + 1) < 0)
		return -ENOMEM;
	*h = ++t->top;
	return 0;
}

static void
release_handle(struct ftab *t, uint32_t h)
{
	struct ftab_meta	*m = carray_at(&t->meta, h);

	memset(m, 0, sizeof(*m));
	m->ref = t->free_h;
	t->free_h = h;
}

/* The limit of memory is reached: only what was given back inside of the table may be used. */
static bool
is_tight(const struct ftab *t)
{
	return t->max_bytes != 0 && ftab_bytes(t) > t->max_bytes;
}

static bool
at_limit(const struct ftab *t, size_t len)
{
	if (t->count >= t->max_flows)
		return true;
	if (!is_tight(t))
		return false;
	return t->free_h == FTAB_NIL || !slab_has(&t->slab, units_of(len));
}

int
ftab_insert(struct ftab *t, uint32_t hash, const uint8_t *body, size_t len, uint32_t *h)
{
	struct ftab_meta	*m;
	uint32_t		 ref;
	int			 rc = -ENOMEM;

	if (len == 0 || len > FLOW_BODY_MAX)
		return -EINVAL;
	if (at_limit(t, len)) {
		rc = -ENOSPC;
		goto refuse;
	}
	if (index_grow(t) < 0 || alloc_handle(t, h) < 0)
		goto refuse;
	if (slab_get(&t->slab, units_of(len), is_tight(t), &ref) < 0) {
		release_handle(t, *h);
		goto refuse;
	}
	memcpy(slab_at(&t->slab, ref), body, len);
	m = carray_at(&t->meta, *h);
	memset(m, 0, sizeof(*m));
	m->ref = ref;
	m->len = (uint16_t)len;
	index_move(t, MOVE_SLOTS);
	index_add(&t->cur, hash, *h);
	t->count++;
	t->expects += flow_key_expects(body);
	return 0;
refuse:
	t->refused++;
	return rc;
}

int
ftab_set(struct ftab *t, uint32_t h, const uint8_t *body, size_t len)
{
	struct ftab_meta	*m = carray_at(&t->meta, h);
	uint32_t		 ref = m->ref;

	if (len == 0 || len > FLOW_BODY_MAX)
		return -EINVAL;
	if (units_of(len) != units_of(m->len)) {
		if (is_tight(t) && !slab_has(&t->slab, units_of(len))) {
			t->refused++;
			return -ENOSPC;
		}
		if (slab_get(&t->slab, units_of(len), is_tight(t), &ref) < 0)
			return -ENOMEM;
	}
	/* body may be part of the old one */
	memmove(slab_at(&t->slab, ref), body, len);
	if (ref != m->ref)
		slab_put(&t->slab, m->ref, units_of(m->len));
	m->ref = ref;
	m->len = (uint16_t)len;
	return 0;
}

void
ftab_remove(struct ftab *t, uint32_t h)
{
	struct ftab_meta	*m = carray_at(&t->meta, h);
	const uint8_t		*body = slab_at(&t->slab, m->ref);

	t->expects -= flow_key_expects(body);
	index_remove(t, ftab_hash(t, body, flow_key_len(body, m->len)), h);
	slab_put(&t->slab, m->ref, units_of(m->len));
	release_handle(t, h);
	t->count--;
}

const uint8_t *
ftab_body(const struct ftab *t, uint32_t h, size_t *len)
{
	const struct ftab_meta	*m = carray_at(&t->meta, h);

	*len = m->len;
	return slab_at(&t->slab, m->ref);
}

struct ftab_meta *
ftab_meta(const struct ftab *t, uint32_t h)
{
	return carray_at(&t->meta, h);
}

bool
ftab_used(const struct ftab *t, uint32_t h)
{
	return h != FTAB_NIL && h <= t->top &&
	    ((struct ftab_meta *)carray_at(&t->meta, h))->len != 0;
}

uint32_t
ftab_next(const struct ftab *t, uint32_t h)
{
	while (h < t->top)
		if (ftab_used(t, ++h))
			return h;
	return FTAB_NIL;
}

uint32_t
ftab_top(const struct ftab *t)
{
	return t->top;
}

uint32_t
ftab_count(const struct ftab *t)
{
	return t->count;
}

uint32_t
ftab_expects(const struct ftab *t)
{
	return t->expects;
}

uint32_t
ftab_limit(const struct ftab *t)
{
	return t->max_flows;
}

uint64_t
ftab_bytes(const struct ftab *t)
{
	uint64_t	 n = carray_bytes(&t->meta) + t->slab.nchunks * (uint64_t)CHUNK_BYTES;

	n += ((uint64_t)t->cur.mask + 1) * sizeof(struct slot);
	if (t->old.slots != NULL)
		n += ((uint64_t)t->old.mask + 1) * sizeof(struct slot);
	return n;
}

uint64_t
ftab_refused(const struct ftab *t)
{
	return t->refused;
}
