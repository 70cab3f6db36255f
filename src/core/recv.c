/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The receiving side of one peer.
 *
 * Invariants: frames are applied in sequence, each of them whole or not at
 * all; the digest is the sum over the entries of the current generation; an
 * entry of an older generation leaves only by a GONE, by being told again, or
 * by the sweep, which begins when everything up to the horizon was told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/log.h"
#include "recv_frame.h"

#define ACK_FRAMES		32
#define ACK_DELAY_US		20000	/* a timer of its own at the latest */
#define ACK_EARLY_US		5000	/* when we are awake for a frame anyway */
#define REFUSED_RETRY_US	60000000	/* new generations, when something was refused */
#define FULL_RETRY_US		10000000	/* full synchronisations of a full table, one each */
#define SILENCE_US		2000000	/* a stream that says nothing is dead */
#define ROOM_LOOK		1024u	/* entries looked at for one that may go */
#define OFFSET_WINDOW_US	10000000

struct recv *
recv_new(const struct recv_conf *conf)
{
	struct recv	*r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->conf = *conf;
	r->tab = ftab_new(&conf->table_key, conf->max_flows, conf->max_bytes);
	if (r->tab == NULL) {
		free(r);
		return NULL;
	}
	/* a START that was meant for an earlier life of ours must not fit */
	r->nonce = conf->my_epoch >> 1;
	r->ack_due_us = UINT64_MAX;
	return r;
}

static void
drop_held(struct recv *r)
{
	unsigned	 i;

	for (i = 0; i < RECV_REORDER; i++) {
		free(r->held[i].p);
		r->held[i].p = NULL;
	}
}

void
recv_free(struct recv *r)
{
	if (r == NULL)
		return;
	drop_held(r);
	ftab_free(r->tab);
	free(r);
}

/* --- streams ---------------------------------------------------------------- */

/* Forget the stream; what is applied stays, with its positions. */
static void
hang(struct recv *r)
{
	drop_held(r);
	r->stream = 0;
	r->next = 1;
	r->high = 0;
	r->horizon = r->horizon0 = 0;
	r->base = false;
	r->comparing = false;
	r->prev_stream = 0;
	r->ack_prev = false;
	r->unacked = 0;
	r->ack_due_us = UINT64_MAX;
	mend_stop(r);
}

void
recv_ask(struct recv *r, bool anew)
{
	hang(r);
	r->nonce++;
	r->asking = true;
	r->anew = anew || r->anew;
	r->equal = false;
	r->stats.requests++;
}

void
recv_epoch(struct recv *r, uint64_t epoch, const struct sipkey *digest_key)
{
	r->epoch = epoch;
	r->digest_key = *digest_key;
	r->top = 0;
	memset(&r->told, 0, sizeof(r->told));
	r->table_full = false;		/* the new table may be a smaller one */
	r->offset_known[0] = r->offset_known[1] = false;	/* perhaps on another machine */
	r->mend.fails = 0;
	r->mend.persistent = false;
	recv_ask(r, true);
}

void
recv_restart(struct recv *r, uint32_t stream)
{
	if (stream != 0 && stream == r->stream)
		recv_ask(r, false);
}

void
recv_resync(struct recv *r)
{
	if (r->epoch != 0)
		recv_ask(r, true);
}

void
recv_silence(struct recv *r, uint64_t now_us)
{
	if (r->stream != 0 && now_us - r->frame_us >= SILENCE_US) {
		r->frame_us = now_us;
		recv_ask(r, false);
	}
}

bool
recv_request(struct recv *r, struct wire_request *q, uint64_t now_us)
{
	if (!r->asking || r->table_full || now_us < r->ask_at_us)
		return false;
	memset(q, 0, sizeof(*q));
	q->nonce = r->nonce;
	q->epoch = r->anew ? 0 : r->epoch;
	q->a = r->a;
	q->t = r->t;
	q->flags = r->full_sync ? WIRE_REQUEST_FULL : 0;
	return true;
}

/* A generation that no entry belongs to. */
static void
new_generation(struct recv *r)
{
	uint32_t	 h = FTAB_NIL;
	unsigned	 i;

	for (i = 0; i < 256; i++)
		if (r->gen_count[++r->gen] == 0)
			break;
	/* all in use: no sweep was ever reached; the oldest one makes room */
	if (i == 256)
		r->gen++;
	while (r->gen_count[r->gen] > 0 && (h = ftab_next(r->tab, h)) != FTAB_NIL)
		if (ftab_meta(r->tab, h)->gen == r->gen) {
			r->gen_count[r->gen]--;
			ftab_remove(r->tab, h);
		}
	r->digest.sum = 0;
	r->digest.flows = 0;
	r->verified_us = 0;
	r->refused = false;
	r->sweeping = false;
	r->stats.generations++;
}

static bool
start_stream(struct recv *r, uint32_t stream, const struct parsed *f)
{
	unsigned	 l;

	if (!r->asking || f->start.nonce != r->nonce || stream <= r->top)
		return false;
	hang(r);
	r->asking = false;
	r->stream = r->top = stream;
	r->j = f->start.j;
	r->full_sync = f->start.flags & WIRE_START_FULL;
	if (f->start.flags & WIRE_START_NEWGEN) {
		new_generation(r);
		r->anew = false;
		for (l = 0; l < LANES; l++)
			r->a.v[l] = 0;
	}
	return true;
}

/* --- applying ------------------------------------------------------------------- */

void
recv_uncount(struct recv *r, uint32_t h)
{
	struct ftab_meta	*m = ftab_meta(r->tab, h);

	r->gen_count[m->gen]--;
	if (m->gen == r->gen) {
		mend_account(r, h, 0 - m->digest, -1);
		r->digest.sum -= m->digest;
		r->digest.flows--;
	}
}

void
recv_count(struct recv *r, uint32_t h, uint64_t digest)
{
	struct ftab_meta	*m = ftab_meta(r->tab, h);

	m->gen = r->gen;
	m->digest = digest;
	r->gen_count[r->gen]++;
	r->digest.sum += digest;
	r->digest.flows++;
	mend_account(r, h, digest, 1);
}

static void
apply_gone(struct recv *r, const struct record *rec)
{
	uint32_t	 h = ftab_find(r->tab, rec->hash, rec->body, rec->klen);

	r->stats.gone++;
	if (h == FTAB_NIL)
		return;
	if (r->conf.deleted != NULL)
		r->conf.deleted(r->conf.ctx, h, rec->removed);
	recv_uncount(r, h);
	ftab_remove(r->tab, h);
}

/*
 * The table is full: an entry of an older generation goes, if one is found soon.
 * Else a table that both generations do not fit into would never have the new
 * one whole.
 */
static bool
make_room(struct recv *r)
{
	unsigned	 looked;

	if (ftab_count(r->tab) == r->gen_count[r->gen])
		return false;
	for (looked = 0; looked < ROOM_LOOK; looked++) {
		r->room_h = ftab_next(r->tab, r->room_h);
		if (r->room_h == FTAB_NIL || ftab_meta(r->tab, r->room_h)->gen == r->gen)
			continue;
		recv_uncount(r, r->room_h);
		ftab_remove(r->tab, r->room_h);
		r->stats.crowded++;
		return true;
	}
	return false;
}

/*
 * A peer that restarts, or begins a new generation, tells all of its flows
 * again.  What the caller knows of an entry still holds if it is the same flow.
 */
static uint8_t
inherited(const struct recv *r, uint32_t h, const struct record *rec)
{
	const struct ftab_meta	*m = ftab_meta(r->tab, h);
	struct flow		 was, is;
	const uint8_t		*old;
	size_t			 len;

	if ((m->flags & (uint8_t)~RF_SUSPECT) == 0 || m->gen == r->gen)
		return 0;
	old = ftab_body(r->tab, h, &len);
	if (flow_unpack(old, len, &was) < 0 || flow_unpack(rec->body, rec->len, &is) < 0)
		return 0;
	return flow_compare_lives(&is, &was) == FLOW_LIFE_SAME ? m->flags & (uint8_t)~RF_SUSPECT : 0;
}

static void
apply_flow(struct recv *r, const struct record *rec)
{
	struct ftab_meta	*m;
	uint32_t		 h;
	bool			 repeated = false;
	uint8_t			 flags = 0;
	int			 rc;

	r->stats.flows++;
	h = ftab_find(r->tab, rec->hash, rec->body, rec->klen);
	if (rec->told)
		repeated = mend_retold(r, h, rec->body, rec->len, rec->ours);
	if (h != FTAB_NIL) {
		flags = inherited(r, h, rec);
		recv_uncount(r, h);
		rc = ftab_set(r->tab, h, rec->body, rec->len);
		if (rc < 0)
			ftab_remove(r->tab, h);
	} else {
		rc = ftab_insert(r->tab, rec->hash, rec->body, rec->len, &h);
		if (rc == -ENOSPC && make_room(r))
			rc = ftab_insert(r->tab, rec->hash, rec->body, rec->len, &h);
	}
	if (rc < 0) {
		r->stats.no_room++;
		r->table_full = true;
		return;
	}
	m = ftab_meta(r->tab, h);
	m->timeout_s = rec->timeout_s;
	if (!repeated)
		m->touched = 0;
	m->flags = repeated ? m->flags & (uint8_t)~RF_SUSPECT : flags;
	recv_count(r, h, siphash13(&r->digest_key, rec->body, rec->len));
	if (!repeated && r->conf.changed != NULL)
		r->conf.changed(r->conf.ctx, h);
}

static void
apply_records(struct recv *r, const struct parsed *f)
{
	unsigned	 i;

	for (i = 0; i < f->n; i++) {
		if (f->rec[i].refused) {
			r->stats.refused++;
			r->refused = true;
			mend_stop(r);		/* its older copy is not to be swept */
		} else if (f->rec[i].gone)
			apply_gone(r, &f->rec[i]);
		else
			apply_flow(r, &f->rec[i]);
	}
}

/* Positions after a frame, and whether everything up to the horizon was told. */
static void
apply_positions(struct recv *r, const struct parsed *f)
{
	unsigned	 l;

	for (l = 0; l < LANES; l++)
		if (f->here.live.v[l] > r->told.v[l])
			r->told.v[l] = f->here.live.v[l];
	if (!r->base) {
		if (f->has_back) {
			r->a = f->back.b;
			r->t = f->back.t;
		} else
			r->a = r->j;
		r->base = r->a.v[0] >= r->j.v[0] && r->a.v[1] >= r->j.v[1];
	}
	if (r->base && f->has_horizon && r->horizon == 0)
		r->horizon = f->horizon + 1;
	if (r->base)
		r->a = r->t = f->here.live;
	if (r->comparing || !r->base || r->horizon == 0)
		return;
	/*
	 * Lane 1 first: what stood there below the horizon was told by now or
	 * has moved to lane 0, where it stands at or below the newest version.
	 */
	if (r->horizon0 == 0 && r->a.v[1] + 1 >= r->horizon)
		r->horizon0 = f->here.version + 1;
	if (r->horizon0 == 0 || r->a.v[0] + 1 < r->horizon0)
		return;
	r->comparing = true;
	if (r->full_sync) {
		r->full_sync = false;
		r->sweeping = true;
		r->sweep_h = FTAB_NIL;
	}
}

/* Fall back to another stream at its announced frame. */
static void
apply_join(struct recv *r, const struct parsed *f, uint64_t seq)
{
	drop_held(r);
	r->prev_stream = r->stream;
	r->prev_seq = seq;
	r->ack_prev = true;
	r->ack_due_us = 0;
	r->stream = f->join.stream;
	r->next = f->join.seq;
	r->high = r->next - 1;
	r->unacked = 0;
	/*
	 * What changed but was not emitted when we joined we may hold in an
	 * older state than the others of the stream: comparable once it came.
	 */
	r->comparing = false;
	r->horizon0 = 0;
	if (f->has_horizon)
		r->horizon = f->horizon + 1;
}

/*
 * The peer received the stamp after we sent it: the difference of the two
 * clocks' times is at least the offset of its clock to ours.
 */
static void
note_offset(struct recv *r, const struct parsed *f, uint64_t now_us)
{
	uint32_t	 d = f->doubt.clock_us - f->echo_held_us - (uint32_t)f->echoed;

	if (now_us - r->offset_at_us >= OFFSET_WINDOW_US) {
		r->offset_at_us = now_us;
		r->offset_us[1] = r->offset_us[0];
		r->offset_known[1] = r->offset_known[0];
		r->offset_known[0] = false;
	}
	if (!r->offset_known[0] || (int32_t)(d - r->offset_us[0]) < 0)
		r->offset_us[0] = d;
	r->offset_known[0] = true;
}

/* The least one; false if none is known. */
static bool
offset(const struct recv *r, uint32_t *d)
{
	bool	 second = !r->offset_known[0] || (r->offset_known[1] &&
		    (int32_t)(r->offset_us[1] - r->offset_us[0]) < 0);

	*d = r->offset_us[second];
	return r->offset_known[second];
}

/* Changes have been applied: how long after they happened, at most. */
static void
note_lag(struct recv *r, const struct parsed *f, uint64_t now_us)
{
	uint32_t	 off, lag;

	if (f->n <= f->ntold || f->has_back || !r->comparing || !offset(r, &off) ||
	    f->doubt.pending_us == 0 || f->doubt.pending_us >= WIRE_NEVER - 1)
		return;
	lag = (uint32_t)now_us + off - f->doubt.clock_us;
	if ((int32_t)lag < 0) {
		/* a clock has stood still or was adjusted: what we know of the other is void */
		r->offset_known[0] = r->offset_known[1] = false;
		return;
	}
	lag = lag < WIRE_NEVER - 1 - f->doubt.pending_us ? lag + f->doubt.pending_us : WIRE_NEVER - 1;
	hist_add(&r->lag, now_us, lag, f->n - f->ntold);
}

static void
note_time(struct recv *r, const struct parsed *f, uint64_t now_us)
{
	if (!f->has_doubt)
		return;
	r->doubt = f->doubt.flags;
	if (f->echoed != 0 && f->echoed <= now_us)
		note_offset(r, f, now_us);
	note_lag(r, f, now_us);
}

/*
 * The frame's digest against ours.  Equal and without doubts it proves our
 * copy as of our own stamp that the sender had when it built the frame.
 */
static void
compare(struct recv *r, const struct parsed *f, uint64_t now_us)
{
	uint64_t	 age;
	bool		 was_persistent = r->mend.persistent;

	if (!r->comparing || !f->has_digest || r->table_full || r->refused)
		return;
	r->peer_flows = f->digest.flows;
	if (r->mend.phase != MEND_NONE)
		return;			/* it is known to differ */
	if (f->digest.sum != r->digest.sum || f->digest.flows != r->digest.flows) {
		r->equal = false;
		mend_differed(r, now_us);
		if (r->mend.persistent && !was_persistent)
			log_msg(LOG_ERR, "the copy of a peer stays different whatever is resent: %u flows, sum "
			    "%016llx here, %u flows, sum %016llx there; %llu differences were found so far; "
			    "please report this", r->digest.flows, (unsigned long long)r->digest.sum,
			    f->digest.flows, (unsigned long long)f->digest.sum,
			    (unsigned long long)r->stats.differed);
		return;
	}
	r->stats.compared++;
	mend_equal(r);
	r->equal = r->doubt == 0;
	if (f->echoed == 0 || !f->has_doubt || r->doubt != 0)
		return;
	if (f->doubt.kernel_us >= WIRE_NEVER - 1 || f->doubt.pending_us >= WIRE_NEVER - 1)
		return;			/* it does not know itself */
	age = f->doubt.kernel_us > f->doubt.pending_us ? f->doubt.kernel_us : f->doubt.pending_us;
	if (f->echoed > age && f->echoed - age > r->verified_us)
		r->verified_us = f->echoed - age;
}

static void
apply(struct recv *r, const struct parsed *f, uint64_t seq, uint64_t now_us)
{
	r->stats.frames++;
	apply_records(r, f);
	apply_positions(r, f);
	note_time(r, f, now_us);
	if (f->others)
		mend_wait(r, now_us);
	if (f->has_snap)
		mend_snap(r, &f->snap, now_us);
	if (f->has_sums)
		mend_sums(r, &f->sums, now_us);
	if (f->mend_begin || f->mend_end)
		mend_begin_end(r, f->mend_begin, f->mend_end, now_us);
	compare(r, f, now_us);
	if (f->has_join && r->stream != 0)
		apply_join(r, f, seq);
}

static void
hold(struct recv *r, uint64_t seq, const uint8_t *p, size_t len)
{
	struct held	*h = &r->held[seq % RECV_REORDER];

	r->stats.out_of_order++;
	if (h->p != NULL)
		return;
	if ((h->p = malloc(len)) == NULL)
		return;			/* it will be sent again */
	memcpy(h->p, p, len);
	h->len = (uint16_t)len;
}

static int
apply_next(struct recv *r, const uint8_t *p, size_t len, uint64_t now_us)
{
	struct parsed	 f;
	uint64_t	 seq = r->next;

	if (!recv_parse(r, &f, p, len) || (f.has_start && seq != 1)) {
		r->stats.malformed++;
		recv_ask(r, false);
		r->ask_at_us = now_us + RETRY_US;
		return -EBADMSG;
	}
	r->next++;
	r->frame_us = now_us;
	apply(r, &f, seq, now_us);
	r->unacked++;
	if (r->ack_due_us == UINT64_MAX)
		r->ack_due_us = now_us + ACK_DELAY_US;
	if (r->unacked >= ACK_FRAMES || now_us + ACK_DELAY_US >= r->ack_due_us + ACK_EARLY_US)
		r->ack_due_us = 0;
	return 0;
}

/* Apply what waited for the frame that has just been applied. */
static int
apply_held(struct recv *r, uint64_t now_us)
{
	uint32_t	 stream = r->stream;
	struct held	*h, t;
	int		 rc = 0;

	while (rc == 0 && r->stream == stream && stream != 0) {
		h = &r->held[r->next % RECV_REORDER];
		if (h->p == NULL)
			break;
		t = *h;
		h->p = NULL;
		rc = apply_next(r, t.p, t.len, now_us);
		free(t.p);
	}
	return rc;
}

/* A frame of a stream that we are not on: a start, or nothing of interest. */
static int
foreign_frame(struct recv *r, uint32_t stream, uint64_t seq, const uint8_t *p, size_t len)
{
	struct parsed	 f;

	if (stream == r->prev_stream && stream != 0) {
		r->ack_prev = true;
		r->ack_due_us = 0;
		return 0;
	}
	if (!r->asking || seq != 1 || stream <= r->top) {
		r->stats.other_stream++;
		return 0;
	}
	if (!recv_parse(r, &f, p, len)) {
		r->stats.malformed++;
		return -EBADMSG;
	}
	if (!f.has_start || !start_stream(r, stream, &f))
		r->stats.other_stream++;
	return 0;
}

int
recv_frame(struct recv *r, uint32_t stream, const uint8_t *p, size_t len, uint64_t now_us)
{
	struct rbuf	 in;
	uint64_t	 seq;
	int		 rc;

	rbuf_init(&in, p, len);
	if (stream == 0 || len > UINT16_MAX || !rbuf_u64(&in, &seq)) {
		r->stats.malformed++;
		return -EBADMSG;
	}
	if (stream != r->stream && (rc = foreign_frame(r, stream, seq, p, len)) < 0)
		return rc;
	if (stream != r->stream)
		return 0;
	if (seq < r->next) {
		r->stats.duplicates++;
		r->ack_due_us = 0;
		return 0;
	}
	if (seq - r->next >= RECV_REORDER)
		return 0;
	if (seq > r->high) {
		if (seq > r->high + 1)
			r->ack_due_us = 0;	/* a new gap */
		r->high = seq;
	}
	if (seq > r->next) {
		hold(r, seq, p, len);
		if (r->ack_due_us == UINT64_MAX)
			r->ack_due_us = now_us + ACK_DELAY_US;
		return 0;
	}
	rc = apply_next(r, p, len, now_us);
	return rc < 0 ? rc : apply_held(r, now_us);
}

/* --- acknowledging ------------------------------------------------------------------ */

uint64_t
recv_ack_due_us(const struct recv *r)
{
	return r->ack_due_us;
}

static void
find_gaps(const struct recv *r, struct wire_ack *a)
{
	uint64_t	 seq;
	struct wire_gap	*g = NULL;

	for (seq = r->next; seq <= r->high; seq++) {
		if (r->held[seq % RECV_REORDER].p != NULL) {
			g = NULL;
			continue;
		}
		if (g == NULL) {
			if (a->ngaps == WIRE_GAPS_MAX)
				return;
			g = &a->gaps[a->ngaps++];
			g->first = (uint16_t)(seq - a->seq);
			g->count = 0;
		}
		g->count++;
	}
}

unsigned
recv_acks(struct recv *r, struct wire_ack a[2])
{
	unsigned	 n = 0;

	memset(a, 0, 2 * sizeof(*a));
	if (r->ack_prev) {
		r->ack_prev = false;
		a[n].stream = r->prev_stream;
		a[n++].seq = r->prev_seq;
	}
	r->ack_due_us = UINT64_MAX;
	if (r->stream == 0)
		return n;
	a[n].stream = r->stream;
	a[n].seq = r->next - 1;
	find_gaps(r, &a[n++]);
	r->unacked = 0;
	return n;
}

/* --- the rest ---------------------------------------------------------------------------- */

void
recv_lease(struct recv *r, uint64_t until_us)
{
	r->lease_us = until_us;
}

bool
recv_run(struct recv *r, unsigned n, uint64_t now_us)
{
	bool		 may_sweep = now_us >= r->lease_us;
	unsigned	 budget = n;

	for (; n > 0 && r->sweeping && may_sweep; n--) {
		r->sweep_h = ftab_next(r->tab, r->sweep_h);
		if (r->sweep_h == FTAB_NIL) {
			r->sweeping = false;
			break;
		}
		if (ftab_meta(r->tab, r->sweep_h)->gen == r->gen)
			continue;
		recv_uncount(r, r->sweep_h);
		ftab_remove(r->tab, r->sweep_h);
		r->stats.swept++;
	}
	if (!r->refused)
		r->refused_us = now_us;
	else if (now_us - r->refused_us >= REFUSED_RETRY_US) {
		r->refused_us = now_us;
		recv_ask(r, true);	/* what we could not read may have ended */
	}
	if (!r->table_full)
		r->full_us = now_us;
	else if (now_us - r->full_us >= FULL_RETRY_US && (r->stream == 0 ||
	    (uint64_t)ftab_count(r->tab) * 100 < (uint64_t)ftab_limit(r->tab) * 95)) {
		r->table_full = false;
		recv_ask(r, true);
	}
	return mend_run(r, budget, now_us) || (r->sweeping && may_sweep);
}

void
recv_flush(struct recv *r)
{
	uint32_t	 h = FTAB_NIL;

	while ((h = ftab_next(r->tab, h)) != FTAB_NIL) {
		recv_uncount(r, h);
		ftab_remove(r->tab, h);
	}
	recv_resync(r);
}

void
recv_forget(struct recv *r)
{
	struct ftab	*t = ftab_new(&r->conf.table_key, r->conf.max_flows, r->conf.max_bytes);

	if (t != NULL) {
		ftab_free(r->tab);
		r->tab = t;
		memset(r->gen_count, 0, sizeof(r->gen_count));
		memset(&r->digest, 0, sizeof(r->digest));
		mend_stop(r);
		r->scrub_h = FTAB_NIL;
	}
	memset(&r->lag, 0, sizeof(r->lag));
	r->table_full = r->full_sync = r->sweeping = r->refused = r->equal = false;
	r->lease_us = r->verified_us = 0;
	r->doubt = 0;
	r->peer_flows = 0;
	recv_flush(r);
}

struct ftab *
recv_table(const struct recv *r)
{
	return r->tab;
}

uint64_t
recv_bytes(const struct recv *r)
{
	return ftab_bytes(r->tab) + sizeof(*r);
}

enum recv_state
recv_state(const struct recv *r)
{
	if (r->stream == 0)
		return RECV_WAITING;
	return r->comparing ? RECV_COMPARING : RECV_SYNCING;
}

bool
recv_refused(const struct recv *r)
{
	return r->refused;
}

bool
recv_full(const struct recv *r)
{
	return r->table_full;
}

bool
recv_was_equal(const struct recv *r)
{
	return r->equal && r->verified_us != 0 && !r->table_full;
}

bool
recv_in_sync(const struct recv *r, uint64_t now_us)
{
	return recv_was_equal(r) && now_us - r->verified_us < RECV_FRESH_US;
}

uint64_t
recv_verified_us(const struct recv *r)
{
	return r->verified_us;
}

bool
recv_lag(const struct recv *r, struct hist_summary *s)
{
	return hist_get(&r->lag, s);
}

uint32_t
recv_peer_flows(const struct recv *r)
{
	return r->peer_flows;
}

uint8_t
recv_doubt(const struct recv *r)
{
	return r->doubt;
}

uint32_t
recv_stream(const struct recv *r)
{
	return r->stream;
}

struct wire_pos
recv_applied(const struct recv *r)
{
	return r->a;
}

struct wire_pos
recv_told(const struct recv *r)
{
	return r->told;
}

struct wire_digest
recv_digest(const struct recv *r)
{
	return r->digest;
}

const struct recv_stats *
recv_stats(const struct recv *r)
{
	return &r->stats;
}

uint64_t
recv_key_hash(const struct recv *r, const uint8_t *key, size_t klen)
{
	return siphash13(&r->digest_key, key, klen);
}
