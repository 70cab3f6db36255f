/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: evidence of use (doc/wire.md, section 8.1).
 *
 * The kernel counts packets per entry, from 0 for what a takeover wrote, and
 * shows them in dumps, in answers and when the entry ends.  Where it does not
 * count, a timeout that was refreshed says the same.
 */
#include <string.h>

#include "local_priv.h"

#define SHORT_S		60u	/* what ends so soon is not purged */
#define TICKS_A_SECOND	15u	/* a little less than there are */
#define SLACK_S		3u	/* ticks of two clocks, and of the kernel's own */

static uint32_t
counted(const struct local *l, uint32_t h)
{
	if (h >> CARRAY_SHIFT >= l->packets.nchunks)
		return 0;
	return *(uint32_t *)carray_at(&l->packets, h);
}

/* False without memory. */
static bool
count(struct local *l, uint32_t h, uint32_t packets)
{
	if (packets == counted(l, h))
		return true;
	if (carray_reserve(&l->packets, h) < 0)
		return false;
	*(uint32_t *)carray_at(&l->packets, h) = packets;
	return true;
}

void
local_observe(struct local *l, const struct local_observer *o, void *ctx)
{
	l->observer = o;
	l->octx = ctx;
}

void
local_set_clock(struct local *l, uint64_t base_ms)
{
	l->clock_ms = base_ms;
}

/* --- copies ---------------------------------------------------------------------- */

void
local_copied(struct local *l, uint32_t h, bool there)
{
	uint8_t	*marks = feed_marks(l->feed, h);
	bool	 known = (*marks & LM_COPY) && !(*marks & LM_BASE_UNKNOWN);

	*marks = (uint8_t)((*marks & LM_STRAY) | LM_COPY);
	/* writing over a copy in place leaves its counter alone */
	if (there ? !known : !count(l, h, 0))
		*marks |= LM_BASE_UNKNOWN;
}

void
local_found(struct local *l, uint32_t h, const struct flow *f)
{
	*feed_marks(l->feed, h) = 0;
	if ((f->has & FLOW_HAS_PACKETS) && f->packets == 0 && !f->expect && count(l, h, 0))
		*feed_marks(l->feed, h) = LM_COPY;
}

bool
local_unused(const struct local *l, uint32_t h)
{
	return *feed_marks(l->feed, h) & LM_COPY;
}

void
local_used(struct local *l, uint32_t h, struct flow *cur)
{
	*feed_marks(l->feed, h) &= (uint8_t)~(LM_COPY | LM_BASE_UNKNOWN);
	cur->copy = false;
}

/* Has the kernel refreshed the timeout of h since it was last touched? */
static bool
refreshed(const struct local *l, uint32_t h, uint32_t timeout_s, uint64_t now_us)
{
	const struct ftab_meta	*m = local_meta(l, h);
	uint32_t		 tick = local_tick(now_us), passed_s;

	/* an adoption may have stamped it with a tick that has yet to come */
	passed_s = tick > m->touched ? (tick - m->touched) / (TICKS_A_SECOND + 1) : 0;
	return m->timeout_s != 0 && (uint64_t)timeout_s + passed_s > (uint64_t)m->timeout_s + SLACK_S;
}

bool
local_shown(struct local *l, uint32_t h, const struct flow *f, uint64_t now_us)
{
	uint8_t	*marks = feed_marks(l->feed, h);

	if (!(*marks & LM_COPY))
		return false;
	if (!(f->has & FLOW_HAS_PACKETS)) {
		if (!(f->has & FLOW_HAS_TIMEOUT) || !refreshed(l, h, f->timeout_s, now_us))
			return false;
	} else if (*marks & LM_BASE_UNKNOWN) {
		if (count(l, h, f->packets))
			*marks &= (uint8_t)~LM_BASE_UNKNOWN;
		return false;
	} else if (f->packets == counted(l, h))
		return false;
	*marks &= (uint8_t)~(LM_COPY | LM_BASE_UNKNOWN);
	return true;
}

bool
local_still_unused(struct local *l, const uint8_t *key, size_t klen, const struct flow *f)
{
	uint32_t	 h = local_find(l, key, klen);

	if (h == FTAB_NIL || !local_unused(l, h) || (*feed_marks(l->feed, h) & LM_BASE_UNKNOWN))
		return false;
	return (f->has & FLOW_HAS_PACKETS) && f->packets == counted(l, h);
}

/* --- ends ----------------------------------------------------------------------------- */

static enum local_end
how_ended(const struct local *l, uint32_t h, const struct flow *f)
{
	if (f != NULL && f->commanded)
		return LOCAL_END_COMMANDED;
	if (h == FTAB_NIL)
		return f != NULL && (f->has & FLOW_HAS_PACKETS) && f->packets > 0 ? LOCAL_END_USED :
		    LOCAL_END_UNUSED;
	if (!local_unused(l, h))
		return LOCAL_END_USED;
	if (f == NULL || !(f->has & FLOW_HAS_PACKETS) || (*feed_marks(l->feed, h) & LM_BASE_UNKNOWN))
		return LOCAL_END_UNUSED;
	return f->packets == counted(l, h) ? LOCAL_END_UNUSED : LOCAL_END_USED;
}

bool
local_tell_end(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t at_us)
{
	enum local_end	 how = how_ended(l, h, f);
	struct flow	 cur;

	if (l->observer == NULL)
		return true;
	if (h != FTAB_NIL && local_load(l, h, &cur))
		return l->observer->ended(l->octx, k->key, k->len, &cur, how, at_us);
	return f == NULL || l->observer->ended(l->octx, k->key, k->len, f, how, at_us);
}

void
local_birth(struct local *l, const struct local_key *k, struct flow *f, uint64_t now_us)
{
	f->born = f->expect ? 0 : l->clock_ms + now_us / 1000;
	f->found = false;
	f->stray = !f->expect && l->observer != NULL &&
	    l->observer->birth(l->octx, k->key, k->len, f);
}

void
local_found_now(const struct local *l, struct flow *f, uint64_t now_us)
{
	f->born = f->expect ? 0 : l->clock_ms + now_us / 1000;
	f->found = !f->expect;
	f->stray = false;
}

bool
local_stray(const struct local *l, uint32_t h)
{
	return *feed_marks(l->feed, h) & LM_STRAY;
}

/* --- what a purge asks ------------------------------------------------------------------ */

/* Without counters: a timeout that has run down since, but for ticks of the two clocks. */
static bool
ran_down(uint32_t before_s, uint32_t now_s, uint32_t by_s)
{
	return now_s + by_s <= before_s + by_s / 10 + 2;
}

enum local_use
local_use(struct local *l, const uint8_t *key, size_t klen, const struct flow *f, uint32_t by_s)
{
	uint32_t		 h = local_find(l, key, klen), before, now;
	struct ftab_meta	*m;
	bool			 counts = f->has & FLOW_HAS_PACKETS;

	/* a flow in a flowtable is not counted, and one that lives from packet to packet ends by itself */
	if (h == FTAB_NIL || (!counts && !(f->has & FLOW_HAS_TIMEOUT)) ||
	    (f->status & FLOW_S_OFFLOAD) || ((f->has & FLOW_HAS_TIMEOUT) && f->timeout_s <= SHORT_S))
		return LOCAL_USE_SOME;
	m = local_meta(l, h);
	before = counted(l, h);
	now = counts ? f->packets : f->timeout_s;
	if (!count(l, h, now))
		return LOCAL_USE_UNKNOWN;
	*feed_marks(l->feed, h) &= (uint8_t)~LM_BASE_UNKNOWN;
	if (!(m->flags & LF_AGED)) {
		m->flags |= LF_AGED;
		return LOCAL_USE_UNKNOWN;
	}
	if (counts)
		return now == before ? LOCAL_USE_NONE : LOCAL_USE_SOME;
	return ran_down(before, now, by_s) ? LOCAL_USE_NONE : LOCAL_USE_SOME;
}

void
local_use_reset(struct local *l, uint32_t h)
{
	local_meta(l, h)->flags &= (uint8_t)~LF_AGED;
}
