/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: dumps, what they prove, and verification.
 *
 * Each entry carries the number of the dump in which it was last seen alive
 * (ftab_meta.gen): by an event since that dump began, or by the dump itself.
 * What lags behind when a dump ends is asked for by GET; only ENOENT means
 * gone.  The port hands over all older events before an entry of a dump or the
 * answer to a GET; what happened after an entry was read is another matter.  So
 * a dump changes what no event has touched since it began, and everything else
 * is asked for; and an answer counts only if nothing happened to the entry
 * since the question.
 *
 * A verification is a dump that repairs nothing at first sight: what it finds
 * is asked for, at its end or on the way, and recorded if it is so.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "local_priv.h"

#define CONFIRM_BATCH	512u		/* GETs a job */
#define CONFIRM_LOOK	8192u		/* entries looked at in one call */
#define DUMP_ROOM	900u		/* checks that one delivery of a dump may need */
#define RETRY_US	1000000u	/* after a dump that failed; doubles */
#define RETRY_MAX_US	30000000u
#define LONG_S		3600u		/* a timeout that runs down by so much is news */
#define VERIFY_TRIES	3u		/* verifications begun anew because events were lost */

/* --- asking ---------------------------------------------------------------------- */

static const uint8_t	 ask_flags[3] = { ASK_1, ASK_2, ASK_3 };

/* Number of a question by its tag; 3 is the one for unknown flows. */
static unsigned
ask_of(uint32_t tag)
{
	unsigned	 i;

	for (i = 0; i < 3; i++)
		if (ask_flags[i] == tag)
			break;
	return i;
}

static bool
submit(struct local *l, struct kjob *j)
{
	uint32_t	 tag = j->tag;

	if (l->kernel->submit(l->kctx, j) < 0)
		return false;
	l->ask_gen[ask_of(tag)] = l->gen;
	return true;
}

/*
 * Was the question put before the dump at hand began?  Then the answer may be
 * from before events were lost, and confirms nothing.
 */
static bool
asked_before_dump(const struct local *l, uint32_t tag)
{
	return l->ask_gen[ask_of(tag)] != l->gen;
}

/* A job for questions about known flows, whose tag is the flag of what it asks for. */
static struct kjob *
new_ask(struct local *l, unsigned spare)
{
	struct kjob	*j;
	unsigned	 i, at = 0, idle = 0;

	for (i = 0; i < 3; i++)
		if (!l->asks[i]) {
			at = i;
			idle++;
		}
	if (idle <= spare || (j = kjob_new(KOP_GET, KOWNER_LOCAL)) == NULL)
		return NULL;
	l->asks[at] = true;
	j->tag = ask_flags[at];
	return j;
}

static void
free_ask(struct local *l, struct kjob *j)
{
	l->asks[ask_of(j->tag)] = false;
	kjob_free(j);
}

static bool
add_question(struct local *l, struct kjob *j, uint32_t h)
{
	struct ftab_meta	*m = local_meta(l, h);
	const uint8_t		*body;
	size_t			 len;

	body = ftab_body(feed_table(l->feed), h, &len);
	if (kjob_add(j, body, flow_key_len(body, len), 0) < 0)
		return false;
	m->flags = (uint8_t)((m->flags & ~LF_ASKED) | j->tag);
	return true;
}

bool
local_check(struct local *l, uint32_t h, uint64_t since_us)
{
	l->check_us = local_earlier(l->check_us, since_us);
	if (l->check == NULL && (l->check = new_ask(l, 0)) == NULL)
		return false;
	return (local_meta(l, h)->flags & LF_ASKED) == l->check->tag ||
	    add_question(l, l->check, h);
}

void
local_check_or_dump(struct local *l, uint32_t h, uint64_t since_us)
{
	if (local_check(l, h, since_us))
		return;
	l->wanted = true;
	l->lacking_us = local_earlier(l->lacking_us, since_us);
}

static void
submit_checks(struct local *l)
{
	if (l->check != NULL && l->check->n > 0 && submit(l, l->check))
		l->check = NULL;
}

/* --- dumps ------------------------------------------------------------------------- */

bool
local_dump_ready(const struct local *l)
{
	if (l->check != NULL)
		return l->check->n + DUMP_ROOM <= KJOB_ITEMS_MAX;
	return !l->asks[0] || !l->asks[1] || !l->asks[2];
}

void
local_dump_taken(struct local *l)
{
	u64set_clear(&l->ended[1]);
	l->ended[1] = l->ended[0];
	memset(&l->ended[0], 0, sizeof(l->ended[0]));
}

void
local_resync(struct local *l)
{
	l->wanted = true;
}

void
local_audit(struct local *l)
{
	l->audit = true;
}

void
local_overrun(struct local *l, uint64_t since_us)
{
	l->wanted = true;
	l->lacking_us = local_earlier(l->lacking_us, since_us);
	l->verify_spoilt = true;
}

bool
local_dump_fast(const struct local *l)
{
	return l->fast;
}

void
local_dump_begin(struct local *l)
{
	l->stats.dumps++;
	l->dump_us = local_earlier(l->dump_us, l->lacking_us);
	l->lacking_us = 0;
	l->wanted = l->audit = false;
	l->dumping = true;
	l->refilling = l->emptied;
	l->dump_refused = false;
	l->confirming = false;
	l->gen++;
	u64set_clear(&l->ended[0]);
	u64set_clear(&l->ended[1]);
}

/*
 * Did the timeout move so far that the peers should know?  A long one that has
 * run down to the half is told as well: else a takeover would renew it in full,
 * again and again.
 */
static bool
timeout_moved(uint32_t told, uint32_t now)
{
	if (now > told)
		return now - told > told / 4;
	return now < told / 2 && told - now > LONG_S;
}

static bool
same_flow(const struct flow *a, const struct flow *b)
{
	uint8_t	 pa[FLOW_BODY_MAX], pb[FLOW_BODY_MAX];
	size_t	 la, lb;

	la = flow_pack(a, pa, sizeof(pa));
	lb = flow_pack(b, pb, sizeof(pb));
	return la == lb && memcmp(pa, pb, la) == 0;
}

static void
record(struct local *l, enum verify_kind kind, const struct flow *here, const struct flow *there)
{
	uint8_t	 h[FLOW_BODY_MAX], t[FLOW_BODY_MAX];
	size_t	 hlen = here != NULL ? flow_pack(here, h, sizeof(h)) : 0;
	size_t	 tlen = there != NULL ? flow_pack(there, t, sizeof(t)) : 0;

	if (l->verify == VERIFY_DUMPING || l->verify == VERIFY_CONFIRMING)
		verify_log_add(&l->verified.log, kind, h, hlen, t, tlen);
}

/* Another flow has the tuple, and nobody has seen it be born. */
static void
begin_anew(const struct local *l, struct flow *merged, uint64_t now_us)
{
	merged->incarnation++;
	merged->copy = false;
	local_found_now(l, merged, now_us);
}

/* What the table holds under h and what the kernel shows, as one flow; true if that is no news. */
static bool
compare(const struct local *l, uint32_t h, const struct flow *cur, const struct flow *f,
    struct flow *merged, uint64_t now_us)
{
	*merged = *cur;
	flow_merge(merged, f);
	if ((cur->id != 0 && (f->has & FLOW_HAS_ID) && cur->id != f->id) ||
	    (*feed_marks(l->feed, h) & LM_REPLACED))
		begin_anew(l, merged, now_us);
	return local_passes(l, merged) && same_flow(cur, merged);
}

/* The entry is as the kernel shows it. */
static void
agree(struct local *l, uint32_t h, const struct flow *cur, const struct flow *f, uint64_t now_us)
{
	struct ftab_meta	*m = local_meta(l, h);

	if (f->has & FLOW_HAS_ID)
		*feed_id(l->feed, h) = f->id;
	m->gen = l->gen;
	m->flags &= LF_LIBERAL | LF_AGED;
	if (timeout_moved(cur->timeout_s, f->timeout_s)) {
		m->timeout_s = f->timeout_s;
		feed_touch(l->feed, h, now_us);
	}
}

/* The kernel is right.  Seen by a dump or a GET, not by an event. */
static void
correct(struct local *l, uint32_t h, const struct local_key *k, struct flow *merged,
    uint64_t now_us)
{
	uint32_t	 touched = local_meta(l, h)->touched;

	l->stats.dump_changed++;
	if (!(local_meta(l, h)->flags & LF_HELD))
		merged->stray |= local_note_reply(l, h, k, merged, false);
	local_store(l, h, k, merged, now_us);
	h = feed_find(l->feed, k->hash, k->key, k->len);
	if (h == FTAB_NIL)
		return;
	if (!merged->copy && !merged->expect)
		*feed_marks(l->feed, h) &= LM_STRAY;
	local_meta(l, h)->gen = l->gen;
	local_meta(l, h)->flags &= LF_LIBERAL;
	local_meta(l, h)->touched = touched;
}

/*
 * The peers take the flow for an unused copy although it is in use: an audit
 * tells them.  A dump that somebody waits for has no time for that.
 */
static bool
tell_use(struct local *l, uint32_t h, const struct local_key *k, struct flow *cur, uint64_t now_us)
{
	struct flow	 merged;

	if (!cur->copy || l->fast || local_unused(l, h))
		return false;
	merged = *cur;
	merged.copy = false;
	correct(l, h, k, &merged, now_us);
	return true;
}

/* A dump shows a flow that the table has. */
static void
dump_known(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t now_us)
{
	struct ftab_meta	*m = local_meta(l, h);
	struct flow		 cur, merged;
	bool			 touched = m->gen == l->gen && (m->flags & LF_TOUCHED);

	if (m->flags & LF_HELD) {
		/* read before it ended, or born again */
		local_check_or_dump(l, h, now_us);
		return;
	}
	if ((m->flags & (LF_ASKED | LF_DOUBTED)) || !local_load(l, h, &cur))
		return;			/* an answer will tell */
	(void)local_shown(l, h, f, now_us);
	if (compare(l, h, &cur, f, &merged, now_us)) {
		if (!touched && !tell_use(l, h, k, &cur, now_us))
			agree(l, h, &cur, f, now_us);
		return;
	}
	if (touched || local_ended_dumping(l, k))	/* another flow with the tuple has ended */
		local_check_or_dump(l, h, now_us);
	else if (l->verify != VERIFY_DUMPING)
		correct(l, h, k, &merged, now_us);
}

/* A dump shows a flow that the table lacks. */
static void
dump_unknown(struct local *l, const struct local_key *k, const struct flow *f, uint64_t now_us)
{
	uint64_t	 refused = l->stats.refused;
	uint32_t	 h;

	if (local_ended_dumping(l, k)) {
		local_ask_unknown(l, k, now_us);	/* ended since, or born again */
		return;
	}
	l->stats.dump_added++;
	h = local_store_new(l, k, f, false, now_us);
	if (h == FTAB_NIL) {
		if (l->stats.refused != refused)
			record(l, VERIFY_MISSING_HERE, NULL, f);
		return;
	}
	local_meta(l, h)->flags = 0;
	local_meta(l, h)->touched = 0;		/* nobody knows when */
	local_found(l, h, f);
	if (l->verify != VERIFY_DUMPING)
		return;
	local_meta(l, h)->flags = LF_DOUBTED;
	local_meta(l, h)->gen = (uint8_t)(l->gen - 1);
}

void
local_dump_entry(struct local *l, const struct flow *shown, uint64_t now_us)
{
	struct flow		 expect;
	const struct flow	*f = shown;
	struct local_key	 k;
	uint32_t		 h;

	if (f->status & FLOW_S_DYING)
		return;			/* its end has been told already */
	if (f->expect) {
		expect = *f;
		if (!local_expect_dumped(l, &expect, now_us))
			return;
		f = &expect;
	}
	local_make_key(l, f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h != FTAB_NIL)
		dump_known(l, h, &k, f, now_us);
	else
		dump_unknown(l, &k, f, now_us);
}

void
local_dump_end(struct local *l, int err, uint64_t now_us)
{
	l->dumping = false;
	u64set_clear(&l->ended[0]);
	u64set_clear(&l->ended[1]);
	if (err < 0) {
		l->wanted = true;
		l->lacking_us = local_earlier(l->lacking_us, l->dump_us);
		l->retry_us = l->retry_us == 0 ? RETRY_US :
		    l->retry_us * 2 < RETRY_MAX_US ? l->retry_us * 2 : RETRY_MAX_US;
		l->retry_at_us = now_us + l->retry_us;
		if (l->verify == VERIFY_DUMPING)
			l->verify = VERIFY_WANTED;
		return;
	}
	l->retry_us = l->retry_at_us = 0;
	if (l->no_room && !l->dump_refused)
		log_msg(LOG_NOTICE, "the local table has room again: all flows are replicated");
	l->no_room = l->dump_refused;
	l->complete = true;
	if (l->refilling)
		l->emptied = false;
	if (!l->emptied && l->known_us == 0)
		l->known_us = now_us;
	l->confirming = true;
	l->confirm_h = FTAB_NIL;
	if (l->verify == VERIFY_DUMPING)
		l->verify = VERIFY_CONFIRMING;
	feed_set_complete(l->feed);
}

/* Does a walk or an answer that belongs to a dump have yet to come? */
static bool
settling(const struct local *l)
{
	return l->confirming || l->asks[0] || l->asks[1] || l->asks[2];
}

uint64_t
local_lacking_us(const struct local *l)
{
	return local_earlier(l->lacking_us, l->dump_us);
}

bool
local_resyncing(const struct local *l)
{
	return l->wanted || l->dumping || settling(l);
}

bool
local_complete(const struct local *l)
{
	return l->complete;
}

bool
local_known(const struct local *l)
{
	return l->complete && !l->emptied;
}

uint64_t
local_known_us(const struct local *l)
{
	return l->known_us;
}

void
local_empty(struct local *l, uint64_t now_us)
{
	uint32_t	 h = FTAB_NIL;

	l->emptied = true;
	l->refilling = false;
	l->known_us = 0;
	while ((h = feed_next(l->feed, h)) != FTAB_NIL)
		feed_remove(l->feed, h, now_us);
}

/* --- confirmations ------------------------------------------------------------------- */

/*
 * The next batch of entries that the dump did not show.  One question is left
 * for what events want to know.  False if there is no more to do now.
 */
static bool
confirm_some(struct local *l)
{
	struct kjob	*j = new_ask(l, 1);
	uint32_t	 h = l->confirm_h, looked = 0;

	if (j == NULL)
		return false;
	while (j->n < CONFIRM_BATCH && looked++ < CONFIRM_LOOK) {
		if ((h = feed_next(l->feed, h)) == FTAB_NIL)
			break;
		if (local_meta(l, h)->gen == l->gen || (local_meta(l, h)->flags & LF_HELD))
			continue;
		if (!add_question(l, j, h))
			break;
	}
	if (j->n > 0 && !submit(l, j)) {
		free_ask(l, j);
		return false;		/* the same ones again, later */
	}
	if (j->n == 0)
		free_ask(l, j);
	l->confirm_h = h;
	if (h == FTAB_NIL)
		l->confirming = false;
	return l->confirming;
}

static void
got_gone(struct local *l, uint32_t h, const struct local_key *k, uint64_t now_us)
{
	struct flow	 cur;

	if (!(local_meta(l, h)->flags & (LF_RECHECK | LF_DOUBTED))) {
		l->stats.confirmed_gone++;
		if (local_load(l, h, &cur))
			record(l, VERIFY_MISSING_THERE, &cur, NULL);
	}
	local_remove(l, h, local_tell_end(l, h, k, NULL, l->dump_us), now_us);
}

static void
got_alive(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t now_us)
{
	struct flow	 cur, merged;
	uint8_t		 flags = local_meta(l, h)->flags;

	local_meta(l, h)->flags &= (uint8_t)~(LF_ASKED | LF_RECHECK);
	if (!local_load(l, h, &cur))
		return;
	(void)local_shown(l, h, f, now_us);
	if (flags & LF_HELD)
		cur.id = 0;		/* its incarnation is a new one in any case */
	if (compare(l, h, &cur, f, &merged, now_us) && !(flags & LF_HELD)) {
		if (flags & LF_DOUBTED)
			record(l, VERIFY_MISSING_HERE, NULL, &cur);
		agree(l, h, &cur, f, now_us);
		return;
	}
	if (flags & LF_HELD)
		begin_anew(l, &merged, now_us);
	else if (flags & LF_DOUBTED)
		record(l, VERIFY_MISSING_HERE, NULL, &merged);
	else if (local_passes(l, &merged) && !(flags & LF_RECHECK))
		record(l, VERIFY_CHANGED, &cur, &merged);
	correct(l, h, k, &merged, now_us);
}

/* Is the entry as the kernel has shown it? */
static bool
agrees(const struct local *l, uint32_t h, const struct flow *f, uint64_t now_us)
{
	struct flow	 cur, merged;

	return local_load(l, h, &cur) && compare(l, h, &cur, f, &merged, now_us);
}

/* A flow that was asked for, as it was when the question was answered. */
static void
got_unknown(struct local *l, const struct local_key *k, const struct flow *f, uint64_t now_us)
{
	const struct flow	*delta = local_delta(l, k);
	struct flow		 nf = *f;
	uint32_t		 h;
	bool			 same = delta == NULL || delta->id == f->id;

	if (delta != NULL && same)
		flow_merge(&nf, delta);
	local_delta_drop(l, k);
	/* its end may be younger than the answer, or what we have been told is about another one */
	if (local_ended_asking(l, k) || !same)
		local_ask_unknown(l, k, now_us);
	else if ((h = local_store_new(l, k, &nf, false, now_us)) != FTAB_NIL) {
		local_found(l, h, f);
		/* what it expects was left out until now */
		l->audit |= nf.helper[0] != '\0' && !nf.expect;
		if (asked_before_dump(l, LOCAL_TAG_UNKNOWN)) {
			local_meta(l, h)->flags = 0;
			local_meta(l, h)->gen = (uint8_t)(l->gen - 1);
			local_check_or_dump(l, h, local_earlier(l->asked_us, now_us));
		}
	}
}

static void
got_one(struct local *l, const struct kjob *j, uint32_t i, uint64_t now_us)
{
	struct local_key	 k;
	const struct kitem	*it = &j->items[i];
	uint32_t		 h;
	uint8_t			 gen;
	bool			 gone = it->err == -ENOENT ||
	    (it->err == 0 && (j->flows[i].status & FLOW_S_DYING));

	if (it->err < 0 && !gone) {
		l->wanted = true;
		l->lacking_us = local_earlier(l->lacking_us, local_earlier(l->dump_us,
		    local_earlier(local_unknown_us(l), now_us)));
		l->retry_at_us = now_us + RETRY_US;
	}
	k.len = (uint8_t)it->len;
	memcpy(k.key, j->bytes + it->off, it->len);
	k.hash = ftab_hash(feed_table(l->feed), k.key, k.len);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (it->err < 0 && !gone) {
		/* nobody is asked any more */
		if (j->tag == LOCAL_TAG_UNKNOWN)
			local_delta_drop(l, &k);
		if (h != FTAB_NIL && (local_meta(l, h)->flags & LF_ASKED) == j->tag)
			local_meta(l, h)->flags &= (uint8_t)~LF_ASKED;
		return;
	}
	if (j->tag == LOCAL_TAG_UNKNOWN && (gone || h != FTAB_NIL))
		local_delta_drop(l, &k);
	if (h == FTAB_NIL) {
		if (gone || j->tag != LOCAL_TAG_UNKNOWN)
			return;
		got_unknown(l, &k, &j->flows[i], now_us);
		return;
	}
	if (j->tag == LOCAL_TAG_UNKNOWN) {
		/* by an event since, which is newer, or by the answer before, which is not */
		local_check_or_dump(l, h, local_earlier(l->asked_us, now_us));
		return;
	}
	if ((local_meta(l, h)->flags & LF_ASKED) != j->tag) {
		/* an event since is newer, but tells only what has changed */
		if (!gone && !(local_meta(l, h)->flags & LF_ASKED) && !agrees(l, h, &j->flows[i], now_us))
			local_check_or_dump(l, h, now_us);
		return;
	}
	gen = local_meta(l, h)->gen;
	if (!gone) {
		got_alive(l, h, &k, &j->flows[i], now_us);
		h = feed_find(l->feed, k.hash, k.key, k.len);
		if (h != FTAB_NIL && asked_before_dump(l, j->tag))
			local_meta(l, h)->gen = gen;
	} else if (local_meta(l, h)->flags & LF_HELD)
		local_meta(l, h)->flags &= (uint8_t)~LF_ASKED;
	else
		got_gone(l, h, &k, now_us);
}

void
local_got(struct local *l, struct kjob *j, uint64_t now_us)
{
	uint32_t	 i;

	for (i = 0; i < j->n; i++)
		got_one(l, j, i, now_us);
	if (j->tag != LOCAL_TAG_UNKNOWN) {
		free_ask(l, j);
		if (!l->asks[0] && !l->asks[1] && !l->asks[2])
			l->check_us = 0;
		return;
	}
	l->asking = false;
	l->asked_us = 0;
	u64set_clear(&l->ended_asking);
	kjob_free(j);
}

/* --- verification ------------------------------------------------------------------------ */

void
local_verify_begin(struct local *l)
{
	if (l->verify != VERIFY_IDLE)
		return;
	l->verify = VERIFY_WANTED;
	l->verified.tries = 0;
}

bool
local_verifying(const struct local *l)
{
	return l->verify != VERIFY_IDLE;
}

const struct local_verified *
local_verified(const struct local *l)
{
	return &l->verified;
}

/* What an earlier dump finds is none of our business: let it end, unless it is only an audit. */
static bool
may_verify(const struct local *l)
{
	return l->verify == VERIFY_WANTED && !l->wanted && l->complete &&
	    (l->dumping ? !l->fast : !settling(l));
}

static void
verify_end(struct local *l, bool lost)
{
	l->verify = lost && l->verified.tries < VERIFY_TRIES ? VERIFY_WANTED : VERIFY_IDLE;
	l->verified.lost = lost;
	l->verified.flows = feed_flows(l->feed);
}

/* --- time ---------------------------------------------------------------------------------- */

/* A dump that is wanted for other reasons spoils a verification that is not done. */
static void
begin(struct local *l, bool fast)
{
	if (l->verify == VERIFY_DUMPING || l->verify == VERIFY_CONFIRMING)
		verify_end(l, true);
	l->fast = fast;
	l->kernel->dump(l->kctx);
}

static void
begin_verification(struct local *l)
{
	verify_log_clear(&l->verified.log);
	l->verified.tries++;
	l->verify_spoilt = false;
	l->verify = VERIFY_DUMPING;
	l->fast = true;
	l->kernel->dump(l->kctx);
}

bool
local_dump_run(struct local *l, uint64_t now_us)
{
	if (now_us >= l->retry_at_us) {
		if (l->wanted && (!l->dumping || !l->fast))
			begin(l, true);
		else if (may_verify(l))
			begin_verification(l);
		else if (l->audit && !l->dumping && !settling(l) && l->verify == VERIFY_IDLE)
			begin(l, false);
	}
	if (l->unknown != NULL && l->unknown->n > 0 && !l->asking && submit(l, l->unknown)) {
		l->unknown = NULL;
		l->asking = true;
		l->asked_us = l->unknown_us;
		l->unknown_us = 0;
	}
	submit_checks(l);
	if (l->confirming && confirm_some(l))
		return true;
	if (!l->dumping && !settling(l))
		l->dump_us = 0;
	if (l->verify == VERIFY_CONFIRMING && !settling(l) && !l->wanted)
		verify_end(l, l->verify_spoilt);
	return may_verify(l) && now_us >= l->retry_at_us;
}
