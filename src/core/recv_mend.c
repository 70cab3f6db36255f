/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Differences between a remote table and its peer: finding them in memory
 * (scrub), repairing the buckets that differ, and verification on demand
 * (doc/wire.md, section 6).
 *
 * Invariants: our sums of buckets are those of the entries that count in the
 * digest, as of the last frame applied; a mark goes when the entry is told;
 * nothing but a marked entry is removed, and only after the sender has said
 * that everything was told again.
 */
#include <string.h>

#include "ctsync/flow.h"
#include "recv_priv.h"

#define STALL_US		5000000	/* a repair without progress has failed */
#define FAILS_MAX		3u
#define PERSISTENT_US		60000000
#define VERIFY_US		15000000

static unsigned
bucket_of(const struct recv *r, uint32_t h)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(r->tab, h, &len);
	return (unsigned)(siphash13(&r->digest_key, body, flow_key_len(body, len)) >>
	    (64 - WIRE_BUCKET_BITS));
}

void
mend_account(struct recv *r, uint32_t h, uint64_t change, int flows)
{
	struct mend	*m = &r->mend;

	if (m->phase != MEND_ASKING && (m->phase != MEND_COUNTING || h > m->h))
		return;
	m->sums[bucket_of(r, h)] += change;
	m->flows += (uint32_t)flows;
}

static void
enter(struct mend *m, enum mend_phase phase, uint64_t now_us)
{
	m->phase = phase;
	m->moved_us = now_us;
	m->h = FTAB_NIL;
}

void
mend_stop(struct recv *r)
{
	r->mend.phase = MEND_NONE;
}

static void
escalate(struct recv *r)
{
	r->stats.escalated++;
	recv_ask(r, true);
}

/*
 * Buckets first; after three repairs that did not help a new generation; after
 * that one now and then, and meanwhile we stay on the stream.
 */
void
mend_differed(struct recv *r, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	r->stats.differed++;
	if (r->verify == RECV_VERIFY_SCRUB || r->verify == RECV_VERIFY_COMPARE)
		r->verify_mended = true;
	if (m->persistent) {
		if (now_us >= m->anew_us) {
			m->anew_us = now_us + PERSISTENT_US;
			escalate(r);
		}
		return;
	}
	if (++m->fails <= FAILS_MAX) {
		enter(m, MEND_DUE, now_us);
		return;
	}
	if (m->fails > FAILS_MAX + 1) {
		m->persistent = true;
		m->anew_us = now_us + PERSISTENT_US;
		return;
	}
	escalate(r);
	r->ask_at_us = now_us + RETRY_US;
}

void
mend_equal(struct recv *r)
{
	r->mend.fails = 0;
	r->mend.persistent = false;
	if (r->verify == RECV_VERIFY_COMPARE)
		r->verify = r->verify_mended ? RECV_VERIFY_DIFFERENT : RECV_VERIFY_EQUAL;
}

/* --- what the sender says ------------------------------------------------------------- */

void
mend_snap(struct recv *r, const struct wire_snap *s, uint64_t now_us)
{
	struct mend	*m = &r->mend;
	unsigned	 b;

	if (m->phase != MEND_ASKING || s->nonce != m->nonce)
		return;
	/* what stands in the table is what we hold, whatever the running sum says */
	for (b = 0, r->digest.sum = 0; b < WIRE_BUCKETS; b++)
		r->digest.sum += m->sums[b];
	r->digest.flows = m->flows;
	enter(m, MEND_COLLECTING, now_us);
	m->next = m->differ = 0;
	memset(m->map, 0, sizeof(m->map));
}

static void
collected(struct recv *r, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	if (m->differ == 0)
		mend_stop(r);		/* it has gone by itself; the next comparison decides */
	else if (m->differ > WIRE_BUCKETS / 2) {
		m->fails = FAILS_MAX + 1;	/* the next one is persistent */
		escalate(r);
	}
	else
		enter(m, MEND_MARKING, now_us);
}

void
mend_sums(struct recv *r, const struct wire_sums *s, uint64_t now_us)
{
	struct mend	*m = &r->mend;
	unsigned	 i, b;

	if (m->phase != MEND_COLLECTING || s->of.nonce != m->nonce || s->first != m->next)
		return;
	for (i = 0; i < s->n; i++) {
		b = s->first + i;
		if (s->sum[i] == m->sums[b])
			continue;
		m->map[b / 8] |= (uint8_t)(1u << b % 8);
		m->differ++;
	}
	m->next += s->n;
	m->moved_us = now_us;
	if (m->next == WIRE_BUCKETS)
		collected(r, now_us);
}

void
mend_wait(struct recv *r, uint64_t now_us)
{
	if (r->mend.phase == MEND_ASKING || r->mend.phase == MEND_WANTED)
		r->mend.moved_us = now_us;
}

void
mend_begin_end(struct recv *r, bool begin, bool end, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	if (begin && m->phase == MEND_WANTED)
		enter(m, MEND_TELLING, now_us);
	if (end && m->phase == MEND_TELLING)
		enter(m, MEND_SWEEPING, now_us);
}

static void
report(struct recv *r, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	r->stats.repaired++;
	if (r->conf.wrong != NULL)
		r->conf.wrong(r->conf.ctx, kind, here, here_len, there, there_len);
}

bool
mend_retold(struct recv *r, uint32_t h, const uint8_t *body, size_t len, bool ours)
{
	const uint8_t	*old;
	size_t		 olen;
	bool		 known = h != FTAB_NIL && ftab_meta(r->tab, h)->gen == r->gen;

	if (ours)
		r->mend.moved_us = r->frame_us;
	if (!known) {
		if (ours)
			report(r, VERIFY_MISSING_HERE, NULL, 0, body, len);
		return false;
	}
	old = ftab_body(r->tab, h, &olen);
	if (olen == len && memcmp(old, body, len) == 0)
		return true;
	if (ours)
		report(r, VERIFY_CHANGED, old, olen, body, len);
	return false;
}

/* --- what we ask for --------------------------------------------------------------------- */

bool
recv_check(const struct recv *r, struct wire_check *c)
{
	c->nonce = r->mend.nonce;
	c->stream = r->stream;
	return r->mend.phase == MEND_ASKING;
}

bool
recv_mend(const struct recv *r, struct wire_mend *m)
{
	m->of.nonce = r->mend.nonce;
	m->of.stream = r->stream;
	memcpy(m->map, r->mend.map, sizeof(m->map));
	return r->mend.phase == MEND_WANTED;
}

/* --- walks --------------------------------------------------------------------------------- */

static void
walk_one(struct recv *r, uint32_t h)
{
	struct mend		*m = &r->mend;
	struct ftab_meta	*e = ftab_meta(r->tab, h);
	const uint8_t		*body;
	size_t			 len;
	unsigned		 b;

	switch (m->phase) {
	case MEND_COUNTING:
		if (e->gen == r->gen)
			mend_account(r, h, e->digest, 1);
		break;
	case MEND_MARKING:
		b = bucket_of(r, h);
		e->flags &= (uint8_t)~RF_SUSPECT;
		if (e->gen == r->gen && (m->map[b / 8] & 1u << b % 8))
			e->flags |= RF_SUSPECT;
		break;
	case MEND_SWEEPING:
		if (e->gen != r->gen || !(e->flags & RF_SUSPECT))
			break;
		body = ftab_body(r->tab, h, &len);
		report(r, VERIFY_MISSING_THERE, body, len, NULL, 0);
		recv_uncount(r, h);
		ftab_remove(r->tab, h);
		break;
	default:
		break;
	}
}

/* The walk of a phase is done: on to the next one. */
static void
walked(struct recv *r, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	if (m->phase == MEND_SWEEPING) {
		r->stats.repairs++;
		mend_stop(r);
		return;
	}
	m->nonce++;
	enter(m, m->phase == MEND_COUNTING ? MEND_ASKING : MEND_WANTED, now_us);
}

static bool
walk(struct recv *r, unsigned n, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	for (m->moved_us = now_us; n > 0; n--) {
		if ((m->h = ftab_next(r->tab, m->h)) == FTAB_NIL) {
			walked(r, now_us);
			return false;
		}
		walk_one(r, m->h);
	}
	return true;
}

static void
start_counting(struct recv *r, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	memset(m->sums, 0, sizeof(m->sums));
	m->flows = 0;
	m->began_us = now_us;
	enter(m, MEND_COUNTING, now_us);
}

static bool
repair(struct recv *r, unsigned n, uint64_t now_us)
{
	struct mend	*m = &r->mend;

	switch (m->phase) {
	case MEND_NONE:
		return false;
	case MEND_DUE:
		if (m->began_us != 0 && now_us - m->began_us < RETRY_US)
			return false;
		start_counting(r, now_us);
		return true;
	case MEND_COUNTING:
	case MEND_MARKING:
	case MEND_SWEEPING:
		return walk(r, n, now_us);
	default:
		if (now_us - m->moved_us >= STALL_US)
			mend_stop(r);	/* the next comparison fails and counts */
		return false;
	}
}

/* --- scrub ------------------------------------------------------------------------------------ */

static void
scrub_one(struct recv *r, uint32_t h)
{
	struct ftab_meta	*m = ftab_meta(r->tab, h);
	const uint8_t		*body;
	uint64_t		 digest;
	size_t			 len;

	r->stats.scrubbed++;
	if (m->gen != r->gen)
		return;			/* of another key, and told again or swept soon */
	body = ftab_body(r->tab, h, &len);
	digest = siphash13(&r->digest_key, body, len);
	if (digest == m->digest)
		return;
	r->stats.rotten++;
	recv_uncount(r, h);
	recv_count(r, h, digest);
}

/* So many entries as make a lap in the time that was asked for; all of them now to verify. */
static bool
scrub(struct recv *r, unsigned n, uint64_t now_us)
{
	bool		 hurry = r->verify == RECV_VERIFY_SCRUB;
	uint64_t	 due = n;

	if (!hurry) {
		if (r->conf.scrub_us == 0)
			return false;
		r->scrub_debt += (now_us - r->scrub_at_us) * ftab_count(r->tab);
		due = r->scrub_debt / r->conf.scrub_us;
		due = due < n ? due : n;
		r->scrub_debt -= due * r->conf.scrub_us;
		if (r->scrub_debt > r->conf.scrub_us * n)
			r->scrub_debt = 0;	/* nobody called for long */
	}
	r->scrub_at_us = now_us;
	for (; due > 0; due--) {
		if ((r->scrub_h = ftab_next(r->tab, r->scrub_h)) == FTAB_NIL) {
			if (hurry)
				r->verify = RECV_VERIFY_COMPARE;
			return false;
		}
		scrub_one(r, r->scrub_h);
	}
	return hurry;
}

/* --- verification --------------------------------------------------------------------------------- */

void
recv_verify(struct recv *r, uint64_t now_us)
{
	r->verify = RECV_VERIFY_SCRUB;
	r->verify_mended = r->mend.phase != MEND_NONE;
	r->verify_until_us = now_us + VERIFY_US;
	r->scrub_h = FTAB_NIL;
}

enum recv_verdict
recv_verified(const struct recv *r)
{
	return r->verify;
}

static void
verify_late(struct recv *r, uint64_t now_us)
{
	if ((r->verify != RECV_VERIFY_COMPARE && r->verify != RECV_VERIFY_SCRUB) ||
	    now_us < r->verify_until_us)
		return;
	r->verify = r->verify_mended ? RECV_VERIFY_DIFFERENT : RECV_VERIFY_UNKNOWN;
}

bool
mend_run(struct recv *r, unsigned n, uint64_t now_us)
{
	bool	 more = repair(r, n, now_us);

	more |= scrub(r, n, now_us);
	verify_late(r, now_us);
	return more;
}

bool
recv_mending(const struct recv *r)
{
	return r->mend.phase != MEND_NONE;
}

bool
recv_persistent(const struct recv *r)
{
	return r->mend.persistent;
}
