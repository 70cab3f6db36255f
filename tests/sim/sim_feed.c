/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Deterministic simulation of the change feed: one sender, one to three
 * receivers, a virtual clock, a network that loses, duplicates and reorders,
 * partitions, restarts of either side.  Everything follows from a seed.
 *
 *   sim_feed [-x] [-k FILE] COUNT [FIRST]
 *
 * Checked: no comparable digest ever differs; nobody claims to be in sync
 * while a difference is older than the claim; no flow that lived on is swept;
 * at rest everybody is equal within a bounded virtual time.  In some runs frames
 * are spoilt behind the seal, or what a receiver holds rots in its memory: that
 * is found, and the buckets that differ are repaired, without a new generation.
 * A seed that fails
 * is printed; run it alone with "sim_feed 1 SEED".
 */
#include <sys/socket.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/recv.h"
#include "seeds.h"

#define KEYS		24
#define RECEIVERS	3
#define PACKETS		4096
#define CHAOS_STEPS	3000
#define SETTLE_STEPS	20000
#define STEP_US		1000
#define FRAME_BYTES	600
#define SCRUB_US	500000
#define WISH_US		50000
#define SPOILT_KIND	0x7e	/* of no meaning, and need not be understood */
#define GRACE_US	300000	/* longer than anything is under way */
#define HARM_STEPS	300	/* no two repairs of a receiver begin in that time */

enum kind { TO_RECEIVER, ACK, REQUEST, RESTART, CHECK, MEND };

/* What goes wrong besides, which no seal protects from. */
enum harm { HARMLESS, SPOILT_FRAMES, ROTTEN_MEMORY };

struct packet {
	bool			 used;
	enum kind		 kind;
	unsigned		 peer;
	uint64_t		 at_us;
	uint64_t		 epoch;		/* of the sender */
	uint64_t		 peer_epoch;	/* of the receiver */
	uint32_t		 stream;
	size_t			 len;
	uint8_t			 data[FRAME_BYTES];
	struct wire_ack		 ack;
	struct wire_request	 req;
	struct wire_check	 check;
	struct wire_mend	 mend;
};

struct receiver {
	struct recv	*r;
	uint64_t	 epoch;		/* of the receiver */
	uint64_t	 knows;		/* epoch of the sender that it has accepted */
	uint64_t	 stamp;		/* last one reported */
	uint64_t	 asked_us;
	uint64_t	 began_us;	/* when it first sent its last request */
	uint64_t	 base_us;	/* when it first asked for its generation */
	uint64_t	 requests;
	uint64_t	 generation;
	uint64_t	 swept;
	uint64_t	 wished_us;	/* last CHECK or MEND */
	uint64_t	 escalated, begun;
	bool		 cut;
};

struct world {
	uint64_t	 rng;
	uint64_t	 seed;
	uint64_t	 now_us;
	struct feed	*feed;
	uint64_t	 epoch;
	struct sipkey	 digest_key;
	uint32_t	 marks[KEYS];	/* truth: 0 = no such flow */
	bool		 assured[KEYS];
	uint64_t	 born_us[KEYS];
	uint64_t	 complete_us;	/* when the sender's first dump is done */
	uint64_t	 alive_us;	/* when the sender started */
	uint64_t	 changed_us;	/* last change of the truth */
	unsigned	 n;
	struct receiver	 rc[RECEIVERS];
	struct packet	 net[PACKETS];
	unsigned	 loss, dup;	/* percent */
	uint64_t	 delay_us;
	uint32_t	 max_tombs;
	uint32_t	 ring;
	enum harm	 harm;
	unsigned	 spoilt;	/* percent of frames, at present */
	uint64_t	 repairs_us;	/* since when only repairs mend what differs, 0: not so */
	const char	*bad;
};

static uint64_t
rnd(struct world *w)
{
	uint64_t	 z = w->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static unsigned
below(struct world *w, unsigned n)
{
	return (unsigned)(rnd(w) % n);
}

/* --- network --------------------------------------------------------------- */

static struct packet *
packet(struct world *w, unsigned peer)
{
	unsigned	 i;

	if (w->rc[peer].cut || below(w, 100) < w->loss)
		return NULL;
	for (i = 0; i < PACKETS; i++)
		if (!w->net[i].used)
			break;
	if (i == PACKETS)
		return NULL;
	memset(&w->net[i], 0, offsetof(struct packet, data));
	w->net[i].used = true;
	w->net[i].peer = peer;
	w->net[i].at_us = w->now_us + 100 + rnd(w) % w->delay_us;
	w->net[i].epoch = w->epoch;
	w->net[i].peer_epoch = w->rc[peer].epoch;
	return &w->net[i];
}

/* Another mark, in a packed flow. */
static void
spoil_flow(struct world *w, uint8_t *body, size_t len)
{
	uint8_t		 other[FLOW_BODY_MAX];
	struct flow	 f;

	if (flow_unpack(body, len, &f) < 0)
		return;
	f.mark ^= 1u << (1 + below(w, 31));
	if (flow_pack(&f, other, sizeof(other)) == len)
		memcpy(body, other, len);
}

/* Something in a frame is wrong: sums; with SPOILT_FRAMES a flow, or a record is not there. */
static void
spoil_frame(struct world *w, uint8_t *p, size_t len)
{
	struct rbuf	 in, b;
	uint8_t		*at = p + WIRE_SEQ_BYTES, kind;
	size_t		 i;

	rbuf_init(&in, at, len - WIRE_SEQ_BYTES);
	for (; wire_next(&in, &kind, &b); at = p + (in.p - p)) {
		if (kind == WIRE_SUMS)
			for (i = WIRE_SNAP_SIZE - 1; i < WIRE_RECORD_HEAD + b.len; i += 8)
				at[i + 7] ^= (uint8_t)(at[i] != 0);
		else if (w->harm != SPOILT_FRAMES)
			continue;
		else if ((kind == WIRE_FLOW || kind == WIRE_GONE) && below(w, 3) == 0)
			*at = SPOILT_KIND;
		else if (kind == WIRE_FLOW && below(w, 2) == 0)
			spoil_flow(w, at + WIRE_RECORD_HEAD + 4, b.len - 4);
	}
}

static void
op_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	struct world	*w = ctx;
	struct packet	*k;
	unsigned	 p, copies;

	for (p = 0; p < w->n; p++) {
		if (!(peers & 1u << p))
			continue;
		for (copies = below(w, 100) < w->dup ? 2 : 1; copies > 0; copies--) {
			if ((k = packet(w, p)) == NULL)
				continue;
			k->kind = TO_RECEIVER;
			k->stream = stream;
			k->len = len;
			memcpy(k->data, frame, len);
			if (below(w, 100) < w->spoilt)
				spoil_frame(w, k->data, len);
		}
	}
}

static void
op_restart(void *ctx, unsigned peer, uint32_t stream)
{
	struct packet	*k = packet(ctx, peer);

	if (k == NULL)
		return;
	k->kind = RESTART;
	k->stream = stream;
}

static void
op_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *wb)
{
	struct world		*w = ctx;
	struct wire_doubt	 d = { .pending_us = pending_us };
	struct wire_echoed	 e;
	unsigned		 p;

	if (w->complete_us != 0)
		d.flags = WIRE_DOUBT_FIRST;
	wire_put_doubt(wb, &d);
	for (p = 0; p < w->n; p++)
		if ((peers & 1u << p) && w->rc[p].stamp != 0) {
			e.id = p + 1;
			e.epoch = w->rc[p].epoch;
			e.stamp = w->rc[p].stamp;
			wire_put_echoed(wb, &e);
		}
}

static const struct feed_ops ops = { op_send, op_restart, op_trailer };

/* --- truth ------------------------------------------------------------------- */

static size_t
body_of(const struct world *w, unsigned k, uint32_t mark, uint8_t inc, uint8_t *body)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = k % 3 == 0 ? AF_INET6 : AF_INET;
	f.proto = IPPROTO_UDP;
	f.orig.src.b[0] = 10;
	f.orig.src.b[3] = (uint8_t)k;
	f.orig.dst.b[0] = 192;
	f.orig.l4src = (uint16_t)(1000 + k);
	f.orig.l4dst = 53;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.incarnation = inc;
	f.status = FLOW_S_CONFIRMED | (w->assured[k] ? FLOW_S_ASSURED : 0);
	f.mark = mark;
	return flow_pack(&f, body, FLOW_BODY_MAX);
}

static void
set(struct world *w, unsigned k, uint32_t mark)
{
	uint8_t		 body[FLOW_BODY_MAX], inc;
	size_t		 len, klen;
	uint32_t	 hash, h;

	len = body_of(w, k, mark == 0 ? 1 : mark, 0, body);
	klen = flow_key_len(body, len);
	hash = ftab_hash(feed_table(w->feed), body, klen);
	h = feed_find(w->feed, hash, body, klen);
	w->changed_us = w->now_us;
	if (mark == 0) {
		if (h != FTAB_NIL)
			feed_del(w->feed, h, w->now_us);
		w->assured[k] = false;
	} else {
		inc = h == FTAB_NIL ? feed_next_incarnation(w->feed, hash, body, klen) : 0;
		len = body_of(w, k, mark, inc, body);
		if (feed_put(w->feed, hash, body, len, 100, w->assured[k] ? 0 : 1, w->now_us, &h) < 0)
			w->bad = "the table refused a flow";
	}
	if (w->marks[k] == 0)
		w->born_us[k] = w->now_us;
	w->marks[k] = mark;
}

static void
change(struct world *w)
{
	unsigned	 k = below(w, 100) < 30 ? 0 : below(w, KEYS);

	if (w->marks[k] != 0 && below(w, 100) < 40)
		set(w, k, 0);
	else {
		if (below(w, 100) < 25)
			w->assured[k] = true;
		set(w, k, (uint32_t)rnd(w) | 1);
	}
}

static void
start_sender(struct world *w, bool empty)
{
	struct feed_conf	 c;
	unsigned		 k;

	feed_free(w->feed);
	w->epoch++;
	memset(&c, 0, sizeof(c));
	c.epoch = w->epoch;
	c.digest_key.k[0] = rnd(w);
	c.digest_key.k[1] = rnd(w);
	c.table_key.k[0] = rnd(w);
	c.max_flows = 1000;
	c.max_tombs = w->max_tombs;
	c.frame_bytes = FRAME_BYTES;
	c.ring_frames = w->ring;
	w->digest_key = c.digest_key;
	w->feed = feed_new(&c, &ops, w);
	for (k = 0; k < RECEIVERS; k++)
		feed_set_peer_id(w->feed, k, k + 1);
	w->complete_us = w->now_us + rnd(w) % 50000;
	w->alive_us = w->now_us;
	for (k = 0; k < KEYS; k++) {
		if (empty)
			w->marks[k] = 0;
	}
	for (k = 0; k < w->n; k++)
		w->rc[k].stamp = 0;
	w->changed_us = w->now_us;
}

/* The first dump: what the kernel holds comes in piece by piece, then it is complete. */
static void
dump(struct world *w)
{
	unsigned	 k;

	if (w->complete_us == 0)
		return;
	k = below(w, KEYS);
	if (w->marks[k] != 0)
		set(w, k, w->marks[k]);
	if (w->now_us < w->complete_us)
		return;
	for (k = 0; k < KEYS; k++)
		if (w->marks[k] != 0)
			set(w, k, w->marks[k]);
	feed_set_complete(w->feed);
	w->complete_us = 0;
}

/* A repair of what has rotted removes no flow that lived on. */
static void
on_wrong(void *ctx, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	struct world	*w = ctx;
	struct flow	 f;
	unsigned	 k;

	(void)there;
	(void)there_len;
	if (w->repairs_us == 0 || w->harm != ROTTEN_MEMORY || kind != VERIFY_MISSING_THERE ||
	    flow_unpack(here, here_len, &f) < 0)
		return;
	k = f.orig.l4src - 1000u;
	if (w->marks[k] != 0 && w->born_us[k] < w->repairs_us)
		w->bad = "a repair removed a flow that lives";
}

static void
start_receiver(struct world *w, unsigned p)
{
	struct recv_conf	 c;

	memset(&c, 0, sizeof(c));
	recv_free(w->rc[p].r);
	w->rc[p].epoch++;
	w->rc[p].knows = 0;
	w->rc[p].stamp = 0;
	c.table_key.k[0] = rnd(w);
	c.max_flows = 1000;
	c.my_id = p + 1;
	c.my_epoch = w->rc[p].epoch;
	c.wrong = on_wrong;
	c.ctx = w;
	c.scrub_us = w->harm == ROTTEN_MEMORY ? SCRUB_US : 0;
	w->rc[p].swept = w->rc[p].generation = w->rc[p].requests = 0;
	w->rc[p].r = recv_new(&c);
	feed_new_epoch(w->feed, p);
}

/* --- a step -------------------------------------------------------------------- */

/* Does the receiver hold just what is true? */
static bool
equal(struct world *w, unsigned p)
{
	struct ftab	*t = recv_table(w->rc[p].r);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*got;
	size_t		 len, klen, glen;
	uint32_t	 h, n = 0;
	unsigned	 k;

	for (k = 0; k < KEYS; k++) {
		if (w->marks[k] == 0)
			continue;
		n++;
		len = body_of(w, k, w->marks[k], 0, body);
		klen = flow_key_len(body, len);
		h = ftab_find(t, ftab_hash(t, body, klen), body, klen);
		if (h == FTAB_NIL)
			return false;
		got = ftab_body(t, h, &glen);
		if (glen != len || memcmp(got + klen + 1, body + klen + 1, len - klen - 1) != 0)
			return false;
	}
	return n == ftab_count(t);
}

/*
 * A sweep removes nothing that lives: a flow that has not changed since long
 * before the network's delay must still be there.
 */
static void
check_sweep(struct world *w, unsigned p)
{
	struct ftab	*t = recv_table(w->rc[p].r);
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 klen;
	unsigned	 k;

	for (k = 0; k < KEYS; k++) {
		if (w->marks[k] == 0 || w->born_us[k] + GRACE_US > w->rc[p].base_us)
			continue;
		klen = flow_key_len(body, body_of(w, k, 1, 0, body));
		if (ftab_find(t, ftab_hash(t, body, klen), body, klen) == FTAB_NIL)
			w->bad = "swept a flow that lives";
	}
}

static void
deliver(struct world *w, struct packet *k)
{
	struct receiver	*rc = &w->rc[k->peer];

	k->used = false;
	if (k->peer_epoch != rc->epoch)
		return;
	if (k->kind == TO_RECEIVER || k->kind == RESTART) {
		if (k->epoch != rc->knows)
			return;		/* the session drops it */
		if (k->kind == RESTART)
			recv_restart(rc->r, k->stream);
		else if (recv_frame(rc->r, k->stream, k->data, k->len, w->now_us) < 0)
			w->bad = "a frame was malformed";
		return;
	}
	if (k->epoch != w->epoch)
		return;
	if (k->kind == ACK)
		feed_ack(w->feed, k->peer, &k->ack, w->now_us);
	else if (k->kind == CHECK)
		feed_check(w->feed, k->peer, &k->check);
	else if (k->kind == MEND)
		feed_mend(w->feed, k->peer, &k->mend);
	else
		feed_request(w->feed, k->peer, &k->req, w->now_us);
}

static void
deliver_due(struct world *w)
{
	unsigned	 i, best;

	for (;;) {
		best = PACKETS;
		for (i = 0; i < PACKETS; i++)
			if (w->net[i].used && w->net[i].at_us <= w->now_us &&
			    (best == PACKETS || w->net[i].at_us < w->net[best].at_us))
				best = i;
		if (best == PACKETS)
			return;
		deliver(w, &w->net[best]);
	}
}

/* What a repair asks for. */
static void
send_wishes(struct world *w, unsigned p)
{
	struct receiver		*rc = &w->rc[p];
	struct wire_check	 c;
	struct wire_mend	 m;
	struct packet		*k;

	if (w->now_us - rc->wished_us < WISH_US)
		return;
	if (recv_check(rc->r, &c) && (k = packet(w, p)) != NULL) {
		rc->wished_us = w->now_us;
		k->kind = CHECK;
		k->epoch = rc->knows;
		k->check = c;
	}
	if (recv_mend(rc->r, &m) && (k = packet(w, p)) != NULL) {
		rc->wished_us = w->now_us;
		k->kind = MEND;
		k->epoch = rc->knows;
		k->mend = m;
	}
}

static void
run_receiver(struct world *w, unsigned p)
{
	struct receiver		*rc = &w->rc[p];
	struct wire_ack		 acks[2];
	struct wire_request	 q;
	struct packet		*k;
	unsigned		 i, n;

	if (rc->knows != w->epoch && !rc->cut && below(w, 20) == 0) {
		rc->knows = w->epoch;		/* the hellos got through */
		recv_epoch(rc->r, w->epoch, &w->digest_key);
	}
	if (recv_ack_due_us(rc->r) <= w->now_us || w->now_us % 100000 == 0) {
		n = recv_acks(rc->r, acks);
		for (i = 0; i < n; i++)
			if ((k = packet(w, p)) != NULL) {
				k->kind = ACK;
				k->epoch = rc->knows;
				k->ack = acks[i];
			}
	}
	if (w->now_us - rc->asked_us > 50000 && recv_request(rc->r, &q, w->now_us)) {
		rc->asked_us = w->now_us;
		if ((k = packet(w, p)) != NULL) {
			k->kind = REQUEST;
			k->epoch = rc->knows;
			k->req = q;
		}
	}
	send_wishes(w, p);
	if (w->now_us % 100000 == 0 && !rc->cut && rc->knows == w->epoch)
		rc->stamp = w->now_us;		/* its report arrived */
	(void)recv_run(rc->r, 3, w->now_us);
	recv_silence(rc->r, w->now_us);
	if (recv_stats(rc->r)->requests != rc->requests) {
		rc->requests = recv_stats(rc->r)->requests;
		rc->began_us = w->now_us;
	}
	if (recv_stats(rc->r)->generations != rc->generation) {
		rc->generation = recv_stats(rc->r)->generations;
		rc->base_us = rc->began_us;
	}
	if (recv_stats(rc->r)->swept > rc->swept) {
		rc->swept = recv_stats(rc->r)->swept;
		if (w->harm != SPOILT_FRAMES)
			check_sweep(w, p);
	}
	if (recv_stats(rc->r)->differed > 0 && w->harm == HARMLESS)
		w->bad = "a comparable digest differed";
	/* a digest proves the stream, not the memory */
	if (rc->knows == w->epoch && recv_was_equal(rc->r) && w->harm != ROTTEN_MEMORY &&
	    recv_verified_us(rc->r) > w->changed_us && !equal(w, p) &&
	    ftab_count(recv_table(rc->r)) == recv_digest(rc->r).flows)
		w->bad = "claimed to be equal while different";
}

/* One entry rots: its flow, or what the table keeps of it besides. */
static void
rot(struct world *w, unsigned p)
{
	struct ftab	*t = recv_table(w->rc[p].r);
	uint32_t	 h = FTAB_NIL;
	unsigned	 n = below(w, ftab_count(t) + 1);
	const uint8_t	*body;
	size_t		 len;

	do
		h = ftab_next(t, h);
	while (h != FTAB_NIL && n-- > 0);
	if (h == FTAB_NIL)
		return;
	body = ftab_body(t, h, &len);
	if (below(w, 3) == 0)
		ftab_meta(t, h)->digest ^= 1u << below(w, 32);
	else
		spoil_flow(w, (uint8_t *)(uintptr_t)body, len);
}

static void
do_harm(struct world *w)
{
	w->spoilt = w->harm == HARMLESS ? 0 : 20;
	if (w->harm == ROTTEN_MEMORY && below(w, 50) == 0)
		rot(w, below(w, w->n));
}

static void
chaos(struct world *w)
{
	unsigned	 a = below(w, 1000), p = below(w, w->n);

	if (a < 300)
		change(w);
	else if (a < 306)
		w->rc[p].cut = !w->rc[p].cut;
	else if (a < 309)
		start_receiver(w, p);
	else if (a < 311)
		start_sender(w, false);
	else if (a < 312)
		start_sender(w, true);
	else if (a < 314)
		feed_leave(w->feed, p);
	else if (a < 315)
		recv_resync(w->rc[p].r);
}

static void
step(struct world *w, bool wild)
{
	unsigned	 p;

	w->now_us += STEP_US;
	if (wild)
		chaos(w);
	dump(w);
	while (feed_run(w->feed, w->now_us, 4, false))
		;
	deliver_due(w);
	for (p = 0; p < w->n; p++)
		run_receiver(w, p);
}

static bool
at_rest(struct world *w)
{
	unsigned	 p;

	for (p = 0; p < w->n; p++)
		if (!equal(w, p) || !recv_in_sync(w->rc[p].r, w->now_us))
			return false;
	return true;
}

/* Until everybody is equal; how many steps it took, -1: too many. */
static int
settle(struct world *w)
{
	unsigned	 i;

	w->spoilt = 0;
	for (i = 0; i < SETTLE_STEPS && w->bad == NULL; i++) {
		step(w, false);
		if (at_rest(w))
			return (int)i;
	}
	return -1;
}

/* A new generation was asked for, and that was the first request since then. */
static bool
escalated_at_once(const struct receiver *rc)
{
	const struct recv_stats	*st = recv_stats(rc->r);

	return st->escalated > rc->escalated &&
	    st->requests - rc->begun == st->escalated - rc->escalated;
}

/*
 * In the midst of changes but no other chaos: repairs have to do, if they are
 * not cut short by the end of the stream.
 */
static int
harm_and_repair(struct world *w)
{
	unsigned	 i, p;
	int		 rc;

	for (p = 0; p < w->n; p++) {
		w->rc[p].escalated = recv_stats(w->rc[p].r)->escalated;
		w->rc[p].begun = recv_stats(w->rc[p].r)->requests;
	}
	w->repairs_us = w->now_us;
	for (i = 0; i < HARM_STEPS && w->bad == NULL; i++) {
		do_harm(w);
		if (below(w, 10) < 3)
			change(w);
		step(w, false);
	}
	rc = settle(w);
	for (p = 0; p < w->n; p++)
		if (rc >= 0 && escalated_at_once(&w->rc[p])) {
			w->bad = "a repair of buckets did not help";
			return -1;
		}
	return rc;
}

static int
run_seed(uint64_t seed, bool verbose)
{
	static struct world	 w;
	unsigned		 i, p;
	int			 rc = -1;

	memset(&w, 0, sizeof(w));
	w.rng = w.seed = seed;
	w.now_us = 1000000;
	w.n = 1 + below(&w, RECEIVERS);
	w.loss = (unsigned[]){ 0, 5, 30 }[below(&w, 3)];
	w.dup = below(&w, 2) * 10;
	w.delay_us = (uint64_t[]){ 100, 3000, 40000 }[below(&w, 3)];
	w.max_tombs = (uint32_t[]){ 2, 4, 100 }[below(&w, 3)];
	w.ring = (uint32_t[]){ 2, 8, 256 }[below(&w, 3)];
	w.harm = (enum harm[]){ HARMLESS, HARMLESS, SPOILT_FRAMES, ROTTEN_MEMORY }[below(&w, 4)];
	start_sender(&w, true);
	for (p = 0; p < w.n; p++)
		start_receiver(&w, p);
	for (i = 0; i < CHAOS_STEPS && w.bad == NULL; i++) {
		do_harm(&w);
		step(&w, true);
	}
	for (p = 0; p < w.n; p++)
		w.rc[p].cut = false;
	rc = settle(&w);
	if (rc >= 0 && w.harm != HARMLESS)
		rc = harm_and_repair(&w);
	if (rc < 0) {
		printf("seed %llu: %s (%u receivers, loss %u %%, delay %llu us, tombs %u, ring %u)\n",
		    (unsigned long long)seed, w.bad ? w.bad : "not equal in time", w.n, w.loss,
		    (unsigned long long)w.delay_us, w.max_tombs, w.ring);
		for (p = 0; p < w.n; p++)
			printf("  receiver %u: state %d equal %d in sync %d flows %u/%u stream %u\n", p,
			    recv_state(w.rc[p].r), equal(&w, p), recv_in_sync(w.rc[p].r, w.now_us),
			    ftab_count(recv_table(w.rc[p].r)), feed_flows(w.feed),
			    recv_stream(w.rc[p].r));
		fflush(stdout);
	} else if (verbose)
		printf("seed %llu: equal after %d ms\n", (unsigned long long)seed, rc);
	for (p = 0; p < w.n; p++)
		recv_free(w.rc[p].r);
	feed_free(w.feed);
	return rc;
}

static int	longest;

static bool
one_seed(uint64_t seed)
{
	int	 rc = run_seed(seed, getenv("SIM_LOG") != NULL);

	if (rc > longest)
		longest = rc;
	return rc >= 0;
}

int
main(int argc, char **argv)
{
	struct seeds	 s;

	seeds_run(&s, argc, argv, one_seed);
	printf("%llu seeds of feed and receivers, %llu failed, longest time to rest %d ms\n",
	    (unsigned long long)s.ran, (unsigned long long)s.failed, longest);
	return s.failed == 0 ? 0 : 1;
}
