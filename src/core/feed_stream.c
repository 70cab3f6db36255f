/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The change feed's streams: frames, positions, acknowledgements, repair
 * (doc/wire.md, section 5).
 *
 * Invariants: a record is built from the newest state when its frame is built,
 * and a frame is never changed afterwards; a private stream emits nothing
 * above hi; frames that a peer of the stream has not acknowledged are in the
 * ring.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "feed_priv.h"

#define RTO_MIN_US		40000u
#define RTO_MAX_US		1000000u
#define RESEND_GUARD_US		5000u	/* a frame is not sent again sooner */
#define RESEND_GUARD_MAX_US	200000u
#define QUEUE_US		50000u	/* a transfer may take so much longer than the least */
#define LEAST_WINDOW_US		10000000u
#define RESEND_BURST		64u
#define LAGGARD_US		100000u
#define RELAXED_US		100000u	/* not full for so long: it was not blocked */
#define RESTART_US		100000u
#define LANE1_SHARE		10u	/* each n-th frame begins with lane 1 */
#define BACKFILL_SHARE		4u	/* each n-th frame begins with backfill */
#define RECORD_TYPICAL		48u	/* bytes, to guess when a frame is full */

static bool
pos_reached(const struct wire_pos *a, const struct wire_pos *b)
{
	return a->v[0] >= b->v[0] && a->v[1] >= b->v[1];
}

static struct frame *
frame_at(const struct feed *f, const struct stream *s, uint64_t seq)
{
	return &s->frames[seq % f->conf.ring_frames];
}

static uint8_t *
frame_bytes(const struct feed *f, const struct stream *s, uint64_t seq)
{
	return s->bytes + (size_t)(seq % f->conf.ring_frames) * f->conf.frame_bytes;
}

/* --- cursors -------------------------------------------------------------- */

void
feed_cursors_step(struct feed *f, unsigned lane, uint32_t h, uint32_t next)
{
	struct stream	*s;
	unsigned	 i;

	for (i = 0; i < f->nstreams; i++) {
		s = f->streams[i];
		if (s->live_next[lane] == h)
			s->live_next[lane] = next;
		if (s->back_next[lane] == h)
			s->back_next[lane] = next;
	}
}

void
feed_cursors_tail(struct feed *f, unsigned lane, uint32_t h)
{
	unsigned	 i;

	for (i = 0; i < f->nstreams; i++)
		if (f->streams[i]->live_next[lane] == FTAB_NIL)
			f->streams[i]->live_next[lane] = h;
}

/* First entry of a lane above version v: near the tail more often than not. */
static uint32_t
first_above(const struct feed *f, unsigned lane, uint64_t v)
{
	uint32_t	 h, found = FTAB_NIL;

	if (v == 0)
		return f->lanes[lane].head;
	for (h = f->lanes[lane].tail; h != FTAB_NIL && fent(f, h)->version > v;
	    h = fent(f, h)->prev)
		found = h;
	return found;
}

/* --- pace ------------------------------------------------------------------ */

/* What is in flight has to be in the ring. */
static uint32_t
window_max(const struct feed *f)
{
	return f->conf.ring_frames;
}

static uint32_t
least_transfer_us(const struct pace *p)
{
	return p->least_us[1] != 0 && p->least_us[1] < p->least_us[0] ? p->least_us[1] :
	    p->least_us[0];
}

/* A frame that was sent once has been acknowledged after us. */
static void
note_transfer(struct pace *p, uint32_t us, uint64_t now_us)
{
	us = us > 0 ? us : 1;
	if (p->least_us[0] == 0 || now_us - p->least_at_us >= LEAST_WINDOW_US) {
		p->least_at_us = now_us;
		p->least_us[1] = p->least_us[0];
		p->least_us[0] = us;
	}
	if (us < p->least_us[0])
		p->least_us[0] = us;
	p->rtt_us = p->rtt_us == 0 ? us : (uint32_t)(((uint64_t)p->rtt_us * 7 + us) / 8);
}

/*
 * The window follows the delay, not the loss: what waits in a queue on the way
 * is late, what is lost is simply sent again.
 */
static void
adjust_window(const struct feed *f, struct stream *s, struct pace *p, uint32_t us,
    uint64_t acked, uint64_t now_us)
{
	uint32_t	 min = window_max(f) < FEED_WINDOW_MIN ? window_max(f) : FEED_WINDOW_MIN;

	note_transfer(p, us, now_us);
	if (us <= least_transfer_us(p) + QUEUE_US) {
		s->window = s->window + acked < window_max(f) ? s->window + (uint32_t)acked :
		    window_max(f);
		return;
	}
	if (now_us - s->shrunk_us < p->rtt_us)
		return;
	s->shrunk_us = now_us;
	s->window = s->window - s->window / 8 > min ? s->window - s->window / 8 : min;
}

static uint64_t
resend_guard_us(const struct pace *p)
{
	if (p->rtt_us < RESEND_GUARD_US)
		return RESEND_GUARD_US;
	return p->rtt_us < RESEND_GUARD_MAX_US ? p->rtt_us : RESEND_GUARD_MAX_US;
}

/* --- streams --------------------------------------------------------------- */

static void
stream_free(struct feed *f, struct stream *s)
{
	unsigned	 i;

	for (i = 0; i < f->nstreams; i++)
		if (f->streams[i] == s) {
			f->streams[i] = f->streams[--f->nstreams];
			break;
		}
	if (f->main == s)
		f->main = NULL;
	free(s->frames);
	free(s->bytes);
	free(s);
}

static struct stream *
stream_new(struct feed *f)
{
	struct stream	*s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->frames = calloc(f->conf.ring_frames, sizeof(*s->frames));
	s->bytes = malloc((size_t)f->conf.ring_frames * f->conf.frame_bytes);
	if (s->frames == NULL || s->bytes == NULL) {
		free(s->frames);
		free(s->bytes);
		free(s);
		return NULL;
	}
	s->id = ++f->stream_ids;
	s->rto_us = RTO_MIN_US;
	s->window = window_max(f) < FEED_WINDOW_MIN ? window_max(f) : FEED_WINDOW_MIN;
	f->streams[f->nstreams++] = s;
	return s;
}

void
feed_free(struct feed *f)
{
	if (f == NULL)
		return;
	while (f->nstreams > 0)
		stream_free(f, f->streams[0]);
	ftab_free(f->tab);
	carray_fini(&f->ents);
	free(f);
}

static uint64_t
lowest_ack(const struct stream *s)
{
	uint64_t	 lo = s->seq;
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++)
		if ((s->peers & 1u << p) && s->acked[p] < lo)
			lo = s->acked[p];
	return lo;
}

static void
stream_drop_peer(struct feed *f, struct stream **sp, unsigned peer)
{
	struct stream	*s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	s->peers &= ~(1u << peer);
	if (s->peers == 0)
		stream_free(f, s);
}

void
feed_leave(struct feed *f, unsigned peer)
{
	fmend_leave(f, peer);
	stream_drop_peer(f, &f->peers[peer].cur, peer);
	stream_drop_peer(f, &f->peers[peer].tail, peer);
}

void
feed_new_epoch(struct feed *f, unsigned peer)
{
	feed_leave(f, peer);
	f->peers[peer].nonce = 0;
	f->peers[peer].mend_nonce = 0;
}

void
feed_set_peer_id(struct feed *f, unsigned peer, uint64_t id)
{
	f->peers[peer].id = id;
}

void
feed_forget(struct feed *f, unsigned peer)
{
	uint64_t	 id = f->peers[peer].id;

	feed_leave(f, peer);
	memset(&f->peers[peer], 0, sizeof(f->peers[peer]));
	f->peers[peer].id = id;
	feed_collect_tombs(f);
}

/* The sender ends a peer's stream; the peer is told and asks again. */
static void
end_stream(struct feed *f, unsigned peer)
{
	uint32_t	 id = f->peers[peer].cur->id;

	feed_leave(f, peer);
	f->stats.restarts++;
	f->ops->restart(f->ctx, peer, id);
}

/*
 * What a stream still has to read must not lie below the floor.  A full
 * synchronisation needs no tombstones up to where it began.
 */
static bool
below_floor(const struct feed *f, const struct stream *s)
{
	uint64_t	 lim;
	unsigned	 l;

	for (l = 0; l < LANES; l++) {
		lim = s->live.v[l];
		if (s->backfilling && s->full && s->t.v[l] < lim)
			lim = s->t.v[l];
		else if (s->backfilling && !s->full && s->b.v[l] < lim)
			lim = s->b.v[l];
		if (lim < f->floor.v[l])
			return true;
	}
	return false;
}

void
feed_check_floor(struct feed *f)
{
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++)
		if (f->peers[p].cur != NULL && below_floor(f, f->peers[p].cur))
			end_stream(f, p);
}

uint64_t
feed_tombs_needed(const struct feed *f, unsigned lane)
{
	uint64_t	 v = UINT64_MAX;
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++)
		if (f->peers[p].known && f->peers[p].t.v[lane] < v)
			v = f->peers[p].t.v[lane];
	return v;
}

/* --- building frames --------------------------------------------------------- */

bool
feed_put_record(const struct feed *f, struct wbuf *w, uint32_t h)
{
	const uint8_t	*body;
	size_t		 len, need;
	bool		 tomb = !feed_live(f, h), removed;

	body = ftab_body(f->tab, h, &len);
	if (tomb)
		len = flow_key_len(body, len);
	removed = tomb && (fent(f, h)->flags & FE_REMOVED);
	need = WIRE_RECORD_HEAD + len + (tomb ? 0 : 4) + (removed ? WIRE_RECORD_HEAD : 0);
	if (wbuf_room(w) < need + FRAME_RESERVE)
		return false;
	if (tomb) {
		if (removed)
			wire_put_head(w, WIRE_REMOVED, 0);
		wire_put_bytes(w, WIRE_GONE, body, len);
		return true;
	}
	wire_put_head(w, WIRE_FLOW, len + 4);
	wbuf_u32(w, ftab_meta(f->tab, h)->timeout_s);
	wbuf_bytes(w, body, len);
	return true;
}

/*
 * Live entries of a lane.  True if the lane is exhausted, so that its position
 * covers everything up to top.
 */
static bool
take_live(struct feed *f, struct stream *s, unsigned lane, struct wbuf *w)
{
	bool		 shared = s == f->main;
	uint64_t	 top = shared ? f->version : f->hi.v[lane];
	struct fent	*e;
	uint32_t	 h;

	while ((h = s->live_next[lane]) != FTAB_NIL) {
		e = fent(f, h);
		if (e->version > top)
			break;
		if (!feed_put_record(f, w, h))
			return false;
		f->stats.records++;
		s->live.v[lane] = e->version;
		s->live_next[lane] = e->next;
		__builtin_prefetch(fent(f, e->next));
		if (shared && e->version > f->hi.v[lane]) {
			f->hi.v[lane] = e->version;
			f->unsent[lane]--;
		}
		feed_mark_emitted(f, h, shared);
	}
	s->live.v[lane] = top;
	if (shared)
		f->hi.v[lane] = top;
	return true;
}

/* Entries of (b, j] of a lane; what moved since comes in the live part. */
static bool
take_backfill(struct feed *f, struct stream *s, unsigned lane, struct wbuf *w)
{
	struct fent	*e;
	uint32_t	 h;

	while (s->b.v[lane] < s->j.v[lane] && (h = s->back_next[lane]) != FTAB_NIL) {
		e = fent(f, h);
		if (e->version > s->j.v[lane])
			break;
		if (feed_live(f, h) || !s->full || e->version > s->t0.v[lane]) {
			if (!feed_put_record(f, w, h))
				return false;
			f->stats.backfilled++;
		}
		s->b.v[lane] = e->version;
		s->back_next[lane] = e->next;
		__builtin_prefetch(fent(f, e->next));
		feed_mark_emitted(f, h, false);
	}
	s->b.v[lane] = s->j.v[lane];
	return true;
}

static void
take_all_backfill(struct feed *f, struct stream *s, struct wbuf *w)
{
	if (take_backfill(f, s, 0, w))
		take_backfill(f, s, 1, w);
}

/* Live changes, backfill and what is told again, by their shares. */
static void
take_records(struct feed *f, struct stream *s, struct wbuf *w)
{
	unsigned	 turn = s->turn++;
	unsigned	 first = turn % LANE1_SHARE == LANE1_SHARE - 1 ? 1 : 0;
	bool		 all, mending = s == f->main && fmend_due(f);

	if (mending && turn % BACKFILL_SHARE == 1) {
		fmend_put(f, w);
		mending = false;
	}
	if (s->backfilling && turn % BACKFILL_SHARE == BACKFILL_SHARE - 1)
		take_all_backfill(f, s, w);
	all = take_live(f, s, first, w);
	if (all)
		all = take_live(f, s, !first, w);
	if (s->backfilling && all)
		take_all_backfill(f, s, w);
	if (mending)
		fmend_put(f, w);
}

/* What the receiver will have after this frame in the way of tombstones. */
static void
advance_t(struct stream *s)
{
	unsigned	 l;

	if (s->newgen || !s->backfilling) {
		s->t = s->live;
		return;
	}
	for (l = 0; l < LANES; l++)
		if (s->b.v[l] > s->t.v[l])
			s->t.v[l] = s->b.v[l];
}

/* Number, keep and send the frame in w. */
static void
frame_done(struct feed *f, struct stream *s, const struct wbuf *w, uint64_t now_us)
{
	struct frame	*fr = frame_at(f, s, s->seq);

	fr->len = (uint16_t)w->len;
	fr->sent_us = now_us;
	fr->again = false;
	fr->live = s->backfilling ? s->b : s->live;
	fr->t = s->t;
	s->built_us = now_us;
	if (lowest_ack(s) + 1 == s->seq)
		s->progress_us = now_us;	/* nothing was awaited before */
	f->stats.frames++;
	f->ops->send(f->ctx, s->peers, s->id, w->base, w->len);
}

static void
frame_begin(struct feed *f, struct stream *s, struct wbuf *w)
{
	s->seq++;
	wbuf_init(w, frame_bytes(f, s, s->seq), f->conf.frame_bytes);
	wbuf_u64(w, s->seq);
}

static void
put_positions(const struct feed *f, const struct stream *s, struct wbuf *w)
{
	struct wire_here	 here = { s->live, f->version };
	struct wire_back	 back;

	wire_put_pos(w, &here);
	if (s->backfilling) {
		back.b = s->b;
		back.t = s->t;
		wire_put_back(w, &back);
	}
}

static void
build_start(struct feed *f, struct stream *s, uint64_t now_us)
{
	struct wire_start	 st;
	struct wbuf		 w;

	frame_begin(f, s, &w);
	st.nonce = s->nonce;
	st.flags = (uint8_t)((s->newgen ? WIRE_START_NEWGEN : 0) |
	    (s->full ? WIRE_START_FULL : 0));
	st.j = s->j;
	wire_put_start(&w, &st);
	put_positions(f, s, &w);
	frame_done(f, s, &w, now_us);
}

/*
 * The horizon of the shared stream's own peer.  Not before the table is
 * complete: a sweep up to the horizon of an empty table would wipe the only
 * copy of what this node's kernel still holds.
 */
static void
maybe_horizon(struct feed *f, struct stream *s, struct wbuf *w)
{
	if (s != f->main || s->backfilling || !s->owes_horizon || !f->complete)
		return;
	wire_put_horizon(w, f->version);
	s->owes_horizon = false;
}

/*
 * A private stream that has caught up hands its peer to the shared one.  Only
 * here is its horizon known: what the shared stream emitted while we were
 * behind may have moved out of our reach, above the position we stood at.
 */
static void
maybe_join(struct feed *f, struct stream *s, struct wbuf *w)
{
	struct stream	*m = f->main;
	struct wire_join join;
	unsigned	 p;

	if (s == m || s->backfilling || !pos_reached(&s->live, &f->hi))
		return;
	if (m == NULL) {
		f->main = s;
		return;
	}
	if (!f->complete)
		return;
	wire_put_horizon(w, f->version);
	join.stream = m->id;
	join.seq = m->seq + 1;
	wire_put_join(w, &join);
	for (p = 0; p < FEED_PEERS_MAX; p++)
		if (s->peers & 1u << p) {
			m->peers |= 1u << p;
			m->acked[p] = m->seq;
			m->pace[p] = s->pace[p];
			m->pace[p].seq = m->seq;
			f->peers[p].cur = m;
			f->peers[p].tail = s;
		}
}

static uint32_t
age_us(uint64_t now_us, uint64_t then_us)
{
	uint64_t	 age = now_us > then_us ? now_us - then_us : 0;

	return age < WIRE_NEVER ? (uint32_t)age : WIRE_NEVER - 1;
}

/*
 * A time not after the oldest change that is not emitted; 0 if there is none,
 * 1 if it is longer ago than anybody remembers.
 */
static uint64_t
pending_since(const struct feed *f)
{
	uint64_t	 oldest = UINT64_MAX, lo, hi, mid, first;
	unsigned	 l;
	uint32_t	 h;

	for (l = 0; l < LANES; l++) {
		if (f->unsent[l] == 0)
			continue;
		if (f->main == NULL)
			return 1;
		h = f->main->live_next[l];
		if (h != FTAB_NIL && fent(f, h)->version < oldest)
			oldest = fent(f, h)->version;
	}
	if (oldest == UINT64_MAX)
		return 0;
	/* the last mark below it */
	first = f->nmarks > FEED_MARKS ? f->nmarks - FEED_MARKS : 0;
	for (lo = first, hi = f->nmarks; hi - lo > 1;) {
		mid = lo + (hi - lo) / 2;
		if (f->marks[mid % FEED_MARKS].version < oldest)
			lo = mid;
		else
			hi = mid;
	}
	if (f->marks[lo % FEED_MARKS].version >= oldest)
		return 1;		/* older than the marks go back */
	return f->marks[lo % FEED_MARKS].us;
}

static void
build_frame(struct feed *f, struct stream *s, uint64_t now_us)
{
	uint64_t	 since = pending_since(f);
	bool		 shared = s == f->main;
	struct wbuf	 w;

	frame_begin(f, s, &w);
	f->ops->trailer(f->ctx, s->peers, since == 0 ? 0 : age_us(now_us, since), &w);
	take_records(f, s, &w);
	s->backfilling = s->backfilling && !pos_reached(&s->b, &s->j);
	advance_t(s);
	put_positions(f, s, &w);
	if (shared) {
		wire_put_digest(&w, &f->digest);
		fmend_put_snap(f, &w);
	}
	maybe_horizon(f, s, &w);
	maybe_join(f, s, &w);
	frame_done(f, s, &w, now_us);
}

/* --- requests and acknowledgements ---------------------------------------------- */

static bool
resumable(const struct feed *f, const struct wire_request *q)
{
	bool		 full = q->flags & WIRE_REQUEST_FULL;
	unsigned	 l;

	if (q->epoch != f->conf.epoch)
		return false;
	for (l = 0; l < LANES; l++)
		if ((full ? q->t.v[l] : q->a.v[l]) < f->floor.v[l] ||
		    q->a.v[l] > f->version || q->t.v[l] > f->version)
			return false;
	return true;
}

static void
place_stream(struct feed *f, struct stream *s, const struct wire_request *q)
{
	unsigned	 l;

	s->newgen = !resumable(f, q);
	s->full = s->newgen || (q->flags & WIRE_REQUEST_FULL);
	s->j = s->live = f->hi;
	s->t = s->newgen ? s->j : q->t;
	for (l = 0; l < LANES; l++) {
		s->b.v[l] = 0;
		if (!s->newgen)
			s->b.v[l] = q->a.v[l] < s->j.v[l] ? q->a.v[l] : s->j.v[l];
		s->live_next[l] = first_above(f, l, s->live.v[l]);
		s->back_next[l] = first_above(f, l, s->b.v[l]);
	}
	s->t0 = s->t;
	s->backfilling = !pos_reached(&s->b, &s->j);
}

void
feed_request(struct feed *f, unsigned peer, const struct wire_request *q, uint64_t now_us)
{
	struct fpeer	*p = &f->peers[peer];
	struct stream	*s;

	if (q->nonce < p->nonce || (q->nonce == p->nonce && p->cur != NULL))
		return;			/* late, or asked again before our START arrived */
	feed_leave(f, peer);
	if ((s = stream_new(f)) == NULL)
		return;			/* it will ask again */
	p->nonce = s->nonce = q->nonce;
	s->owes_horizon = true;
	s->peers = 1u << peer;
	place_stream(f, s, q);
	p->cur = s;
	p->known = true;
	p->t = s->t;
	p->live = s->b;
	if (f->main == NULL)
		f->main = s;
	f->stats.requests++;
	f->stats.full_syncs += s->newgen;
	s->progress_us = now_us;
	build_start(f, s, now_us);
}

static void
resend(struct feed *f, struct stream *s, unsigned peer, uint64_t seq, uint64_t now_us)
{
	struct frame	*fr = frame_at(f, s, seq);

	fr->sent_us = now_us;
	fr->again = true;
	f->stats.resent++;
	f->ops->send(f->ctx, 1u << peer, s->id, frame_bytes(f, s, seq), fr->len);
}

static void
fill_gaps(struct feed *f, struct stream *s, unsigned peer, const struct wire_ack *a,
    uint64_t now_us)
{
	unsigned	 i, n, burst = 0;
	uint64_t	 seq;

	for (i = 0; i < a->ngaps; i++)
		for (n = 0; n < a->gaps[i].count && burst < RESEND_BURST; n++) {
			seq = a->seq + a->gaps[i].first + n;
			if (seq <= s->acked[peer] || seq > s->seq)
				break;
			if (now_us - frame_at(f, s, seq)->sent_us < resend_guard_us(&s->pace[peer]))
				continue;
			resend(f, s, peer, seq, now_us);
			burst++;
		}
}

/* The frame whose arrival was the reason for an acknowledgement, most likely. */
static uint64_t
last_received(const struct wire_ack *a)
{
	const struct wire_gap	*g = &a->gaps[a->ngaps > 0 ? a->ngaps - 1 : 0];

	return a->ngaps == 0 || a->ngaps == WIRE_GAPS_MAX ? a->seq : a->seq + g->first + g->count;
}

/* Twice what the slowest one needs. */
static uint32_t
rto_us(const struct stream *s)
{
	uint32_t	 rtt = 0;
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++)
		if ((s->peers & 1u << p) && s->pace[p].rtt_us > rtt)
			rtt = s->pace[p].rtt_us;
	if (rtt * 2u < RTO_MIN_US)
		return RTO_MIN_US;
	return rtt < RTO_MAX_US / 2 ? rtt * 2 : RTO_MAX_US;
}

static void
acknowledge(struct feed *f, struct stream *s, unsigned peer, const struct wire_ack *a,
    uint64_t now_us)
{
	struct fpeer	*p = &f->peers[peer];
	struct frame	*fr;
	uint64_t	 before = s->acked[peer], last = last_received(a);

	if (a->seq > s->seq)
		return;
	if (last > before && last > s->pace[peer].seq && last <= s->seq &&
	    !frame_at(f, s, last)->again)
		adjust_window(f, s, &s->pace[peer], (uint32_t)(now_us - frame_at(f, s, last)->sent_us),
		    last - before, now_us);
	if (last > s->pace[peer].seq && last <= s->seq)
		s->pace[peer].seq = last;
	if (a->seq > before) {
		fr = frame_at(f, s, a->seq);
		s->acked[peer] = a->seq;
		s->progress_us = now_us;
		s->rto_us = rto_us(s);
		p->t = fr->t;
		p->live = fr->live;
	}
	fill_gaps(f, s, peer, a, now_us);
	if (s == p->tail && s->acked[peer] == s->seq)
		stream_drop_peer(f, &p->tail, peer);
	if (f->ntombs > 0)
		feed_collect_tombs(f);		/* may end streams, this one too */
}

void
feed_ack(struct feed *f, unsigned peer, const struct wire_ack *a, uint64_t now_us)
{
	struct fpeer	*p = &f->peers[peer];

	if (p->tail != NULL && p->tail->id == a->stream)
		acknowledge(f, p->tail, peer, a, now_us);
	else if (p->cur != NULL && p->cur->id == a->stream)
		acknowledge(f, p->cur, peer, a, now_us);
	else if (a->stream != 0 && now_us - p->restart_us >= RESTART_US) {
		/* no stream of his: if he is still on it, he has to ask */
		p->restart_us = now_us;
		f->ops->restart(f->ctx, peer, a->stream);
	}
}

uint64_t
feed_acked(const struct feed *f, unsigned peer)
{
	const struct wire_pos	*l = &f->peers[peer].live;

	return l->v[0] < l->v[1] ? l->v[0] : l->v[1];
}

uint32_t
feed_in_flight(const struct feed *f, unsigned peer)
{
	const struct stream	*s = f->peers[peer].cur;

	return s == NULL ? 0 : (uint32_t)(s->seq - s->acked[peer]);
}

bool
feed_streaming(const struct feed *f, unsigned peer)
{
	return f->peers[peer].cur != NULL;
}

/* --- running -------------------------------------------------------------------- */

static bool
window_full(const struct stream *s)
{
	return s->seq - lowest_ack(s) >= s->window;
}

/* Peers that have acknowledged less than the others of the stream, by half a window. */
static uint32_t
laggards(const struct stream *s)
{
	uint64_t	 lo = lowest_ack(s), ahead = s->window > 1 ? s->window / 2 : 1;
	uint32_t	 slow = 0, others = 0;
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++) {
		if (!(s->peers & 1u << p))
			continue;
		if (s->acked[p] - lo >= ahead)
			others |= 1u << p;
		else
			slow |= 1u << p;
	}
	return others == 0 ? 0 : slow;
}

/* Who holds up the others of a stream for long gets one of his own. */
static void
drop_laggards(struct feed *f, struct stream *s, uint64_t now_us)
{
	uint32_t	 slow;
	unsigned	 p;

	if (s->blocked_us == 0 || now_us - s->full_us > RELAXED_US)
		s->blocked_us = now_us;
	s->full_us = now_us;
	if (now_us - s->blocked_us < LAGGARD_US || (slow = laggards(s)) == 0)
		return;
	s->blocked_us = 0;
	for (p = 0; p < FEED_PEERS_MAX; p++)
		if ((slow & 1u << p) && f->peers[p].cur == s)
			end_stream(f, p);
}

/* Nothing came back for a while: the oldest frames again, ever more slowly. */
static void
resend_overdue(struct feed *f, struct stream *s, uint64_t now_us)
{
	uint64_t	 seq;
	unsigned	 p;

	if (lowest_ack(s) == s->seq || now_us - s->progress_us < s->rto_us)
		return;
	for (p = 0; p < FEED_PEERS_MAX; p++)
		if (s->peers & 1u << p)
			for (seq = s->acked[p] + 1; seq <= s->seq && seq <= s->acked[p] + 8; seq++)
				resend(f, s, p, seq, now_us);
	s->progress_us = now_us;
	s->rto_us = s->rto_us * 2 < RTO_MAX_US ? s->rto_us * 2 : RTO_MAX_US;
}

static bool
is_tail(const struct feed *f, const struct stream *s)
{
	unsigned	 p;

	for (p = 0; p < FEED_PEERS_MAX; p++)
		if (f->peers[p].tail == s)
			return true;
	return false;
}

static uint32_t
full_frame(const struct feed *f)
{
	return f->conf.frame_bytes / RECORD_TYPICAL;
}

/* When the stream has a frame to build, in microseconds; UINT64_MAX if not. */
static uint64_t
stream_due(const struct feed *f, const struct stream *s, uint64_t now_us, bool flush)
{
	uint64_t	 due, since;

	if (is_tail(f, s) || window_full(s))
		return UINT64_MAX;
	if (s->backfilling)
		return now_us;
	due = s->built_us + FEED_BEAT_US;
	if (s != f->main)		/* catches up, then joins */
		return f->complete || !pos_reached(&s->live, &f->hi) ? now_us : due;
	if ((s->owes_horizon && f->complete) || fmend_due(f))
		return now_us;
	if (feed_unsent(f) == 0)
		return due;
	if (flush || feed_unsent(f) >= full_frame(f))
		return now_us;
	since = pending_since(f) + FEED_LINGER_US;
	return since < due ? since : due;
}

static bool
run_stream(struct feed *f, struct stream *s, uint64_t now_us, unsigned *budget, bool flush)
{
	while (stream_due(f, s, now_us, flush) <= now_us) {
		if (*budget == 0)
			return true;
		(*budget)--;
		build_frame(f, s, now_us);
	}
	return false;
}

bool
feed_run(struct feed *f, uint64_t now_us, unsigned max_frames, bool flush)
{
	bool		 more = false;
	unsigned	 i;

	feed_release(f, now_us, false);
	for (i = 0; i < f->nstreams; i++) {
		if (window_full(f->streams[i]))
			drop_laggards(f, f->streams[i], now_us);
		if (i < f->nstreams)
			resend_overdue(f, f->streams[i], now_us);
	}
	/* private ones first: at equal speed they would never catch up */
	for (i = 0; i < f->nstreams; i++)
		if (f->streams[i] != f->main)
			more |= run_stream(f, f->streams[i], now_us, &max_frames, flush);
	if (f->main != NULL)
		more |= run_stream(f, f->main, now_us, &max_frames, flush);
	return fmend_run(f) || more;
}

void
feed_set_complete(struct feed *f)
{
	f->complete = true;
}

uint64_t
feed_due_us(const struct feed *f, uint64_t now_us)
{
	uint64_t	 due = UINT64_MAX, t;
	unsigned	 i;

	if (f->held.head != FTAB_NIL)
		due = fent(f, f->held.head)->version;
	for (i = 0; i < f->nstreams; i++) {
		t = stream_due(f, f->streams[i], now_us, false);
		if (t < due)
			due = t;
		if (lowest_ack(f->streams[i]) < f->streams[i]->seq) {
			t = f->streams[i]->progress_us + f->streams[i]->rto_us;
			if (t < due)
				due = t;
		}
		if (window_full(f->streams[i]) && now_us + 20000 < due)
			due = now_us + 20000;
	}
	return due;
}
