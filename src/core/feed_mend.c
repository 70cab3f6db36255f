/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The change feed's side of a repair: sums of buckets, and flows that are told
 * again (doc/wire.md, section 5).
 *
 * Invariants: the sums are those of what counts in the digest of the shared
 * stream, as of the frame with SNAP; between RETELL begin and end every entry of
 * the buckets at hand that counts there is told, by the walk or as a change.
 */
#include <string.h>

#include "ctsync/flow.h"
#include "feed_priv.h"

#define WALK	8192u		/* entries looked at in one call */

static unsigned
bucket_of(const struct feed *f, uint32_t h)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(f->tab, h, &len);
	return (unsigned)(siphash13(&f->conf.digest_key, body, flow_key_len(body, len)) >>
	    (64 - WIRE_BUCKET_BITS));
}

void
fmend_account(struct feed *f, uint32_t h, uint64_t change, int flows)
{
	struct fmend	*m = &f->mend;

	if (m->phase != FMEND_SNAP && (m->phase != FMEND_COUNTING || h > m->h))
		return;
	m->sums[bucket_of(f, h)] += change;
	m->flows += (uint32_t)flows;
}

void
fmend_leave(struct feed *f, unsigned peer)
{
	if (f->mend.peer == peer)
		f->mend.phase = FMEND_NONE;
}

/* May the peer be served with that now? */
static bool
admit(struct feed *f, unsigned peer, const struct wire_check *c)
{
	struct fpeer	*p = &f->peers[peer];

	if (p->cur == NULL || p->cur != f->main || p->cur->id != c->stream ||
	    c->nonce <= p->mend_nonce)
		return false;
	if (f->mend.phase != FMEND_NONE)
		return false;
	p->mend_nonce = c->nonce;
	f->mend.peer = peer;
	f->mend.h = FTAB_NIL;
	return true;
}

void
feed_check(struct feed *f, unsigned peer, const struct wire_check *c)
{
	if (!admit(f, peer, c))
		return;
	f->mend.phase = FMEND_COUNTING;
	f->mend.flows = 0;
	memset(f->mend.sums, 0, sizeof(f->mend.sums));
}

void
feed_mend(struct feed *f, unsigned peer, const struct wire_mend *m)
{
	if (!f->peers[peer].may_mend || !admit(f, peer, &m->of))
		return;
	f->peers[peer].may_mend = false;
	f->mend.phase = FMEND_FINDING;
	f->mend.begun = f->mend.walked = false;
	f->mend.nfound = 0;
	memcpy(f->mend.map, m->map, sizeof(m->map));
}

static bool
is_wanted(const struct feed *f, uint32_t h)
{
	unsigned	 b = bucket_of(f, h);

	return f->mend.map[b / 8] & 1u << b % 8;
}

static bool
count_some(struct feed *f)
{
	struct fmend	*m = &f->mend;
	unsigned	 n;

	for (n = 0; n < WALK; n++) {
		if ((m->h = ftab_next(f->tab, m->h)) == FTAB_NIL) {
			m->phase = FMEND_SNAP;
			return false;
		}
		if (fent(f, m->h)->flags & FE_STREAMED)
			fmend_account(f, m->h, ftab_meta(f->tab, m->h)->digest, 1);
	}
	return true;
}

static bool
find_some(struct feed *f)
{
	struct fmend	*m = &f->mend;
	unsigned	 n;

	for (n = 0; n < WALK && m->nfound < FMEND_FOUND && !m->walked; n++) {
		if ((m->h = ftab_next(f->tab, m->h)) == FTAB_NIL)
			m->walked = true;
		else if ((fent(f, m->h)->flags & FE_STREAMED) && is_wanted(f, m->h))
			m->found[m->nfound++] = m->h;
	}
	return m->nfound < FMEND_FOUND && !m->walked;
}

bool
fmend_run(struct feed *f)
{
	switch (f->mend.phase) {
	case FMEND_COUNTING:
		return count_some(f);
	case FMEND_FINDING:
		return find_some(f);
	default:
		return false;
	}
}

bool
fmend_due(const struct feed *f)
{
	const struct fmend	*m = &f->mend;

	return m->phase == FMEND_SNAP || m->phase == FMEND_SUMS ||
	    (m->phase == FMEND_FINDING && (m->nfound > 0 || m->walked));
}

/* --- frames ------------------------------------------------------------------- */

static struct wire_snap
of_whom(const struct feed *f)
{
	const struct fpeer	*p = &f->peers[f->mend.peer];
	struct wire_snap	 s = { p->id, p->mend_nonce };

	return s;
}

static bool
put_retell(const struct feed *f, struct wbuf *w, enum wire_retell_what what)
{
	struct wire_retell	 t = { of_whom(f), (uint8_t)what };

	if (wbuf_room(w) < WIRE_RETELL_SIZE + FRAME_RESERVE)
		return false;
	wire_put_retell(w, &t);
	return true;
}

void
fmend_put_snap(struct feed *f, struct wbuf *w)
{
	struct wire_snap	 s = of_whom(f);
	unsigned		 b;

	if (f->mend.phase != FMEND_SNAP)
		return;
	wire_put_snap(w, &s);
	/* what counts in the table is what was told, whatever the running sum says */
	for (b = 0, f->digest.sum = 0; b < WIRE_BUCKETS; b++)
		f->digest.sum += f->mend.sums[b];
	f->digest.flows = f->mend.flows;
	f->mend.phase = FMEND_SUMS;
	f->mend.next = 0;
	f->stats.checks++;
}

/* One record of sums a frame. */
static void
put_sums(struct feed *f, struct wbuf *w)
{
	struct fmend		*m = &f->mend;
	struct wire_sums	 s;
	size_t			 room = wbuf_room(w), n;

	if (room < WIRE_RECORD_HEAD + 18 + 8 + FRAME_RESERVE)
		return;
	n = (room - FRAME_RESERVE - WIRE_RECORD_HEAD - 18) / 8;
	n = n < WIRE_SUMS_MAX ? n : WIRE_SUMS_MAX;
	n = n < WIRE_BUCKETS - m->next ? n : WIRE_BUCKETS - m->next;
	s.of = of_whom(f);
	s.first = (uint16_t)m->next;
	s.n = (uint16_t)n;
	memcpy(s.sum, m->sums + m->next, n * sizeof(s.sum[0]));
	wire_put_sums(w, &s);
	m->next += (unsigned)n;
	if (m->next < WIRE_BUCKETS)
		return;
	m->phase = FMEND_NONE;
	f->peers[m->peer].may_mend = true;	/* once */
}

/*
 * Tell what was found: what stands as it was emitted, again; what has changed
 * since, or ended, as the news that it is.  False if the frame is full.
 */
static bool
put_found(struct feed *f, struct wbuf *w)
{
	struct fmend		*m = &f->mend;
	const struct fent	*e;
	struct wire_retell	 news = { of_whom(f), WIRE_RETELL_NEWS };
	bool			 told = false, is_news;
	uint32_t		 h;

	for (; m->nfound > 0; m->nfound--) {
		h = m->found[m->nfound - 1];
		if (!ftab_used(f->tab, h))
			continue;
		e = fent(f, h);
		if (!(e->flags & FE_STREAMED) || !is_wanted(f, h))
			continue;	/* the handle belongs to another one by now */
		is_news = (e->flags & FE_TOMB) || e->version > f->hi.v[e->lane];
		if (told == is_news && !put_retell(f, w, is_news ? WIRE_RETELL_NEWS :
		    WIRE_RETELL_TOLD))
			break;
		told = !is_news;
		if (!feed_put_record(f, w, h))
			break;
		f->stats.retold++;
		feed_mark_emitted(f, h, true);
	}
	if (told)
		wire_put_retell(w, &news);	/* FRAME_RESERVE has room for it */
	return m->nfound == 0;
}

static void
put_flows(struct feed *f, struct wbuf *w)
{
	struct fmend	*m = &f->mend;

	if (!m->begun) {
		if (!put_retell(f, w, WIRE_RETELL_BEGIN))
			return;
		m->begun = true;
	}
	if (!put_found(f, w) || !m->walked || !put_retell(f, w, WIRE_RETELL_END))
		return;
	m->phase = FMEND_NONE;
	f->stats.mends++;
}

void
fmend_put(struct feed *f, struct wbuf *w)
{
	if (f->mend.phase == FMEND_SUMS)
		put_sums(f, w);
	else if (f->mend.phase == FMEND_FINDING)
		put_flows(f, w);
}
