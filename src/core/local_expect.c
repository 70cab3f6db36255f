/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: expectations.
 *
 * The kernel tells of an expectation before it tells of its master, if that
 * one's first packet made it; and it never tells the zone, which is that of the
 * master.  So masters are looked for in all zones that were seen so far.  An
 * expectation without one waits a moment: the master may be about to come, or
 * be left out.  When several zones have a flow with the master's tuple, the
 * kernel is asked in which of them it has the expectation.
 *
 * SIP expects calls from when a registration is answered: no event tells that an
 * expectation has become active, so that those which are not are looked at for a while.
 *
 * An expectation is also the only sign that a helper may have changed the
 * length of a payload: no event tells how sequence numbers are adjusted since.
 * So the master is asked for.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "local_priv.h"

#define ORPHANS_MAX	256u		/* that wait; beyond, the oldest is given up */
#define ORPHAN_US	1000000u	/* they wait so long */
#define INACTIVE_MAX	1024u		/* that are looked at; beyond, a dump finds them */
#define INACTIVE_US	100000u		/* until they are looked at, and twice as long each time */
#define INACTIVE_LOOKS	10u
#define ZONES_PER_DIR	65536u
#define SEEN_BYTES	(3 * ZONES_PER_DIR / 8)

struct orphan {
	struct flow	 f;
	uint64_t	 until_us;
};

struct inactive {
	uint64_t	 due_us;
	uint8_t		 looks;
	uint8_t		 klen;
	uint8_t		 key[FLOW_KEY_MAX];
};

/* --- zones ------------------------------------------------------------------------ */

void
local_expect_zone(struct local *l, const struct flow *f)
{
	struct expects		*x = &l->expects;
	uint32_t		 bit = (f->zone_dir - FLOW_ZONE_BOTH) * ZONES_PER_DIR + f->zone;
	struct expect_zone	*more;
	uint32_t		 cap;

	if (x->seen == NULL && (x->seen = calloc(1, SEEN_BYTES)) == NULL)
		return;
	if (x->seen[bit / 8] & 1u << bit % 8)
		return;
	if (x->nzones == x->zones_cap) {
		cap = x->zones_cap > 0 ? 2 * x->zones_cap : 16;
		if ((more = realloc(x->zones, cap * sizeof(*more))) == NULL)
			return;
		x->zones = more;
		x->zones_cap = cap;
	}
	x->zones[x->nzones].zone = f->zone;
	x->zones[x->nzones++].dir = f->zone_dir;
	x->seen[bit / 8] = (uint8_t)(x->seen[bit / 8] | 1u << bit % 8);
}

/* Put *f into the i-th of the zones in question; false if there are no more. */
static bool
set_zone(const struct local *l, uint32_t i, struct flow *f)
{
	if (i > l->expects.nzones)
		return false;
	f->zone = i > 0 ? l->expects.zones[i - 1].zone : 0;
	f->zone_dir = i > 0 ? l->expects.zones[i - 1].dir : FLOW_ZONE_NONE;
	return true;
}

/* How many masters *f may have; it gets the zone of the last one found. */
static unsigned
find_masters(const struct local *l, struct flow *f)
{
	struct flow	 t = *f;
	unsigned	 n = 0;
	uint32_t	 i;

	for (i = 0; set_zone(l, i, &t); i++)
		if (local_has_master(l, &t)) {
			*f = t;
			n++;
		}
	return n;
}

/* The entry that was told of before with the id of *f, which gets its zone. */
static bool
find_by_id(const struct local *l, struct flow *f)
{
	struct flow		 t = *f;
	struct local_key	 k;
	uint32_t		 i, h;

	for (i = 0; (f->has & FLOW_HAS_ID) && set_zone(l, i, &t); i++) {
		local_make_key(l, &t, &k);
		h = feed_find(l->feed, k.hash, k.key, k.len);
		if (h != FTAB_NIL && *feed_id(l->feed, h) == f->id) {
			*f = t;
			return true;
		}
	}
	return false;
}

static void
ask_everywhere(struct local *l, const struct flow *f, uint64_t now_us)
{
	struct flow		 t = *f;
	struct local_key	 k;
	uint32_t		 i, h;

	for (i = 0; set_zone(l, i, &t); i++) {
		if (!local_has_master(l, &t))
			continue;
		local_make_key(l, &t, &k);
		h = feed_find(l->feed, k.hash, k.key, k.len);
		if (h == FTAB_NIL)
			local_ask_unknown(l, &k, now_us);
		else
			local_check_or_dump(l, h, now_us);
	}
}

/* Its helper has just had a packet in hands. */
static void
check_master(struct local *l, const struct flow *f, uint64_t now_us)
{
	struct flow	 m;
	uint8_t		 key[FLOW_KEY_MAX];
	size_t		 klen = flow_pack_master_key(f, key);
	uint32_t	 h = feed_find(l->feed, ftab_hash(feed_table(l->feed), key, klen), key, klen);

	if (h != FTAB_NIL && local_load(l, h, &m) && m.proto == IPPROTO_TCP &&
	    (m.status & (FLOW_S_SRC_NAT | FLOW_S_DST_NAT)))
		local_check_or_dump(l, h, now_us);
}

/* --- masters that are not there ------------------------------------------------------ */

static void
remove_orphan(struct local *l, uint32_t i)
{
	struct expects	*x = &l->expects;

	x->norphans--;
	memmove(&x->orphans[i], &x->orphans[i + 1], (x->norphans - i) * sizeof(*x->orphans));
}

static void
add_orphan(struct local *l, const struct flow *f, uint64_t now_us)
{
	struct expects	*x = &l->expects;

	if (x->orphans == NULL &&
	    (x->orphans = malloc(ORPHANS_MAX * sizeof(*x->orphans))) == NULL) {
		l->wanted = true;
		return;
	}
	if (x->norphans == ORPHANS_MAX) {
		l->stats.filtered++;
		remove_orphan(l, 0);
	}
	x->orphans[x->norphans].f = *f;
	x->orphans[x->norphans++].until_us = now_us + ORPHAN_US;
}

static void
forget_orphan(struct local *l, uint32_t id)
{
	uint32_t	 i;

	for (i = 0; i < l->expects.norphans; i++)
		if (l->expects.orphans[i].f.id == id) {
			remove_orphan(l, i);
			return;
		}
}

void
local_expect_master(struct local *l, const struct flow *master, uint64_t now_us)
{
	struct flow	 f;
	uint32_t	 i = 0, left = l->expects.norphans;

	/* those that have to go on waiting stand behind the ones looked at */
	while (left-- > 0) {
		f = l->expects.orphans[i].f;
		if (f.family != master->family || f.master_proto != master->proto ||
		    memcmp(&f.master, &master->orig, sizeof(f.master)) != 0) {
			i++;
			continue;
		}
		remove_orphan(l, i);
		if (find_masters(l, &f) == 0) {
			add_orphan(l, &f, now_us);
			continue;
		}
		/* it may have ended since, and its end been lost */
		ask_everywhere(l, &f, now_us);
		check_master(l, &f, now_us);
	}
}

/* --- what is not active yet ------------------------------------------------------------ */

void
local_expect_inactive(struct local *l, const struct local_key *k, uint64_t now_us)
{
	struct expects	*x = &l->expects;
	struct inactive	*w;
	uint32_t	 i;

	if (x->inactive == NULL)
		x->inactive = malloc(INACTIVE_MAX * sizeof(*x->inactive));
	if (x->inactive == NULL)
		return;
	for (i = 0; i < x->ninactive; i++)
		if (x->inactive[i].klen == k->len &&
		    memcmp(x->inactive[i].key, k->key, k->len) == 0)
			return;
	if (x->ninactive == INACTIVE_MAX)
		return;
	w = &x->inactive[x->ninactive++];
	w->due_us = now_us + INACTIVE_US;
	w->looks = 0;
	w->klen = k->len;
	memcpy(w->key, k->key, k->len);
	x->inactive_us = local_earlier(x->inactive_us, w->due_us);
}

/* Is *w still to be waited for?  Then the kernel is asked, and later again. */
static bool
look_at(struct local *l, struct inactive *w, uint64_t now_us)
{
	uint32_t	 h = feed_find(l->feed, ftab_hash(feed_table(l->feed), w->key, w->klen), w->key,
	    w->klen);
	struct flow	 f;

	if (h == FTAB_NIL || !local_load(l, h, &f) || !(f.exp.flags & FLOW_E_INACTIVE) ||
	    w->looks == INACTIVE_LOOKS)
		return false;
	(void)local_check(l, h, 0);
	w->due_us = now_us + ((uint64_t)INACTIVE_US << w->looks++);
	return true;
}

static void
look_at_inactive(struct local *l, uint64_t now_us)
{
	struct expects	*x = &l->expects;
	uint32_t	 i = 0;

	if (x->inactive_us == 0 || x->inactive_us > now_us)
		return;
	x->inactive_us = 0;
	while (i < x->ninactive) {
		if (x->inactive[i].due_us <= now_us && !look_at(l, &x->inactive[i], now_us)) {
			x->inactive[i] = x->inactive[--x->ninactive];
			continue;
		}
		x->inactive_us = local_earlier(x->inactive_us, x->inactive[i++].due_us);
	}
}

void
local_expect_run(struct local *l, uint64_t now_us)
{
	look_at_inactive(l, now_us);
	while (l->expects.norphans > 0 && l->expects.orphans[0].until_us <= now_us) {
		l->stats.filtered++;
		remove_orphan(l, 0);
	}
}

/* --- what is told ----------------------------------------------------------------------- */

static void
on_end(struct local *l, struct flow *f, uint64_t now_us)
{
	struct local_key	 k;
	uint32_t		 i, h;

	forget_orphan(l, f->id);
	if (find_by_id(l, f)) {
		local_make_key(l, f, &k);
		local_event_of(l, LOCAL_DESTROY, f, &k, now_us);
		return;
	}
	/*
	 * Not known, but an answer or a dump that is under way may show it.  And
	 * what a takeover wrote has no id yet: it may be that one.
	 */
	for (i = 0; set_zone(l, i, f); i++) {
		local_make_key(l, f, &k);
		h = feed_find(l->feed, k.hash, k.key, k.len);
		if (h == FTAB_NIL) {
			local_event_of(l, LOCAL_DESTROY, f, &k, now_us);
			continue;
		}
		local_remember_end(l, &k);
		if (*feed_id(l->feed, h) == 0 || (local_meta(l, h)->flags & LF_ASKED))
			local_check_or_dump(l, h, now_us);
	}
}

void
local_expect_event(struct local *l, enum local_event ev, const struct flow *told, uint64_t now_us)
{
	struct flow		 f = *told;
	struct local_key	 k;
	unsigned		 n;

	if (ev == LOCAL_DESTROY) {
		on_end(l, &f, now_us);
		return;
	}
	n = find_masters(l, &f);
	if (n == 0) {
		add_orphan(l, &f, now_us);
		return;
	}
	if (n > 1) {
		ask_everywhere(l, &f, now_us);
		return;
	}
	local_make_key(l, &f, &k);
	local_event_of(l, ev, &f, &k, now_us);
	check_master(l, &f, now_us);
}

/* The masters have been dumped before: who has none is left out. */
bool
local_expect_dumped(struct local *l, struct flow *f, uint64_t now_us)
{
	unsigned	 n = find_masters(l, f);

	if (n == 1 || (n > 1 && find_by_id(l, f)))
		return true;
	if (n > 1)
		ask_everywhere(l, f, now_us);
	else
		l->stats.filtered++;
	return false;
}

void
local_expect_free(struct local *l)
{
	free(l->expects.seen);
	free(l->expects.zones);
	free(l->expects.orphans);
	free(l->expects.inactive);
}
