/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: what a takeover writes becomes ours, and what we remove from
 * the kernel ourselves.  Neither is told by events, and either may cross an
 * event that is on its way: then the kernel is asked.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "local_priv.h"

/* Did a packet or another program touch the flow since the adoption began? */
static bool
is_newer(const struct local *l, uint32_t h)
{
	return (local_meta(l, h)->flags & LF_TOUCHED) && local_meta(l, h)->touched >= l->adopt_tick &&
	    !(*feed_marks(l->feed, h) & LM_WRITTEN);
}

static void
key_of(const struct local *l, const uint8_t *key, size_t klen, struct local_key *k)
{
	k->len = (uint8_t)klen;
	memcpy(k->key, key, klen);
	k->hash = ftab_hash(feed_table(l->feed), key, klen);
}

int
local_adopt(struct local *l, const uint8_t *body, size_t len, uint32_t timeout_s, bool there,
    uint64_t since_us, uint64_t now_us)
{
	struct local_key	 k;
	struct flow		 f, cur;
	uint32_t		 h;
	bool			 added, in_use = false;
	int			 rc;

	if ((rc = flow_unpack(body, len, &f)) < 0)
		return rc;
	local_make_key(l, &f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	/* what we wrote and what an event told crossed each other: the kernel knows */
	if (h != FTAB_NIL && is_newer(l, h)) {
		if (!local_check(l, h, since_us))
			local_overrun(l, since_us);
		return 0;
	}
	if (h == FTAB_NIL && f.expect && local_ended_adopting(l, &k)) {
		local_ask_unknown(l, &k, since_us);
		return 0;
	}
	f.timeout_s = timeout_s;
	if (h == FTAB_NIL)
		f.incarnation = feed_next_incarnation(l->feed, k.hash, k.key, k.len);
	else if (local_load(l, h, &cur)) {
		f.incarnation = (uint8_t)(cur.incarnation + (cur.born != f.born));
		/* it was behind, not unused: see takeover_entry() */
		in_use = cur.born == f.born && !local_unused(l, h) &&
		    !(*feed_marks(l->feed, h) & LM_REPLACED) && flow_behind(&cur, &f);
	}
	f.copy = !f.expect && !in_use;
	local_store(l, h, &k, &f, now_us);
	added = h == FTAB_NIL;
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h == FTAB_NIL)
		return 0;
	*feed_marks(l->feed, h) &= (uint8_t)~LM_REPLACED;
	/* an expectation is not told as a copy, but written over by what its node tells later */
	if (f.copy || f.expect)
		local_copied(l, h, there);
	*feed_marks(l->feed, h) |= LM_WRITTEN;
	if (f.proto == IPPROTO_TCP && !f.expect)
		local_meta(l, h)->flags |= LF_LIBERAL;
	if (l->expects.norphans > 0 && f.helper[0] != '\0' && !f.expect)
		local_expect_master(l, &f, now_us);	/* its first packet came before the answer */
	return added;
}

void
local_forget_id(struct local *l, const uint8_t *key, size_t klen)
{
	uint32_t	 h = local_find(l, key, klen);

	if (h != FTAB_NIL)
		*feed_id(l->feed, h) = 0;
}

uint32_t
local_id(const struct local *l, uint32_t h)
{
	return *feed_id(l->feed, h);
}

bool
local_replaced(struct local *l, const uint8_t *key, size_t klen, uint32_t id)
{
	uint32_t	 h = local_find(l, key, klen);

	if (h == FTAB_NIL)
		return true;
	if (local_id(l, h) != id)
		return false;
	*feed_id(l->feed, h) = 0;
	*feed_marks(l->feed, h) |= LM_REPLACED;
	local_meta(l, h)->flags &= (uint8_t)~LF_TOUCHED;
	return true;
}

bool
local_newer(const struct local *l, const uint8_t *key, size_t klen)
{
	struct local_key	 k;
	uint32_t		 h;

	key_of(l, key, klen, &k);
	h = feed_find(l->feed, k.hash, key, klen);
	return h == FTAB_NIL ? local_ended_adopting(l, &k) : is_newer(l, h);
}

void
local_overtaken(struct local *l, uint32_t h)
{
	local_meta(l, h)->flags &= (uint8_t)~LF_TOUCHED;
}

bool
local_touched(const struct local *l, uint32_t h, uint64_t since_us)
{
	return local_meta(l, h)->touched >= local_tick(since_us);
}

bool
local_liberal(const struct local *l, uint32_t h)
{
	return local_meta(l, h)->flags & LF_LIBERAL;
}

void
local_set_liberal(struct local *l, const uint8_t *key, size_t klen, bool liberal)
{
	uint32_t	 h = local_find(l, key, klen);

	if (h != FTAB_NIL && liberal)
		local_meta(l, h)->flags |= LF_LIBERAL;
	else if (h != FTAB_NIL)
		local_meta(l, h)->flags &= (uint8_t)~LF_LIBERAL;
}

void
local_adopting(struct local *l, bool on, uint64_t now_us)
{
	uint32_t	 tick = local_tick(now_us);

	l->adopting = on;
	l->kept_out = false;
	/* what an adoption within the same tick has touched is not newer than this one */
	if (on && tick <= l->adopt_tick)
		tick = l->adopt_tick + 1;
	l->adopt_tick = tick > l->adopt_tick ? tick : l->adopt_tick;
	l->adopt_us = now_us;
	u64set_clear(&l->ended_adopting);
}

bool
local_lets_through(const struct local *l, const struct flow *f)
{
	return l->filter(l->fctx, f);
}

bool
local_kept_out(const struct local *l)
{
	return l->kept_out;
}

void
local_removed(struct local *l, const uint8_t *key, size_t klen, bool ended, uint64_t since_us,
    uint64_t now_us)
{
	struct local_key	 k;
	uint32_t		 h;

	key_of(l, key, klen, &k);
	h = feed_find(l->feed, k.hash, key, klen);
	local_remember_end(l, &k);	/* nor does a takeover bring it back */
	if (h == FTAB_NIL)
		return;
	/* A flow that was born since then under that key has said so by an event. */
	if ((local_meta(l, h)->flags & LF_TOUCHED) &&
	    local_tick(now_us) < local_meta(l, h)->touched + SETTLED_TICKS &&
	    local_check(l, h, since_us)) {
		local_meta(l, h)->flags |= LF_RECHECK;
		return;
	}
	local_remove(l, h, ended, now_us);
}
