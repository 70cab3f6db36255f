/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The receiving side, fed with frames that the test writes itself: order,
 * gaps, starts, joins, sweeps, comparison, a full table, and whatever is not
 * a frame.
 *
 * The sender is a small model here: the test knows what it has told, and
 * keeps the digest that a sender would have.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/recv.h"
#include "rnd.h"

#define KEYS		2000
#define FRAME_MAX	1400
#define EPOCH		77u
#define MY_ID		11u
#define MY_EPOCH	12u

static const struct sipkey	 dkey = { { 3, 4 } };
static uint64_t			 now;
static struct recv		*r;
#define MAX_FLOWS	10000

/* The sender: what it told last, and its sum. */
static uint32_t			 told[KEYS];	/* mark, 0: not told or gone */
static struct wire_digest	 sum;
static uint32_t			 stream;
static uint64_t			 seq;
static uint8_t			 frame[FRAME_MAX];
static struct wbuf		 w;

/* What the receiver has called for, in its order: a key, negative (k + 1) if it is deleted. */
static struct call {
	int	 key;
	bool	 removed;
} calls[KEYS];
static unsigned			 ncalls;

/* --- the sender's model --------------------------------------------------- */

static size_t
body_of(unsigned k, uint32_t mark, uint8_t body[FLOW_BODY_MAX])
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = k % 3 == 0 ? AF_INET6 : AF_INET;
	f.proto = IPPROTO_UDP;
	f.orig.src.b[0] = 10;
	f.orig.l4src = (uint16_t)k;
	f.orig.l4dst = 53;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED;
	f.mark = mark;
	return flow_pack(&f, body, FLOW_BODY_MAX);
}

static void
account(unsigned k, uint32_t mark)
{
	uint8_t	 body[FLOW_BODY_MAX];

	if (told[k] != 0) {
		sum.sum -= siphash13(&dkey, body, body_of(k, told[k], body));
		sum.flows--;
	}
	told[k] = mark;
	if (mark != 0) {
		sum.sum += siphash13(&dkey, body, body_of(k, mark, body));
		sum.flows++;
	}
}

static void
begin(uint64_t s)
{
	wbuf_init(&w, frame, sizeof(frame));
	wbuf_u64(&w, s);
}

static void
add_flow(unsigned k, uint32_t mark)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = body_of(k, mark, body);

	wire_put_head(&w, WIRE_FLOW, len + 4);
	wbuf_u32(&w, 100 + k);
	wbuf_bytes(&w, body, len);
	account(k, mark);
}

static void
add_gone(unsigned k)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = body_of(k, 1, body);

	wire_put_bytes(&w, WIRE_GONE, body, flow_key_len(body, len));
	account(k, 0);
}

static void
add_pos(uint64_t live, uint64_t version)
{
	struct wire_here	 p = { { { live, live } }, version };

	wire_put_pos(&w, &p);
}

static void
add_start(uint64_t nonce, uint8_t flags, uint64_t j)
{
	struct wire_start	 s = { nonce, flags, { { j, j } } };

	wire_put_start(&w, &s);
}

static void
add_back(uint64_t b, uint64_t t)
{
	struct wire_back	 k = { { { b, b } }, { { t, t } } };

	wire_put_back(&w, &k);
}

static void
add_doubt_at(uint32_t kernel_us, uint32_t pending_us, uint8_t flags, uint64_t clock_us)
{
	struct wire_doubt	 d = { kernel_us, pending_us, flags, (uint32_t)clock_us };

	wire_put_doubt(&w, &d);
}

static void
add_doubt(uint32_t kernel_us, uint32_t pending_us, uint8_t flags)
{
	add_doubt_at(kernel_us, pending_us, flags, 0);
}

static void
add_echoed_held(uint64_t id, uint64_t epoch, uint64_t stamp, uint32_t held_us)
{
	struct wire_echoed	 e = { id, epoch, stamp, held_us };

	wire_put_echoed(&w, &e);
}

static void
add_echoed(uint64_t id, uint64_t epoch, uint64_t stamp)
{
	add_echoed_held(id, epoch, stamp, 0);
}

/* In a block of just the right size. */
static int
give(uint32_t s, const uint8_t *p, size_t len)
{
	uint8_t	*exact = malloc(len + (len == 0));
	int	 rc;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, p, len);
	rc = recv_frame(r, s, exact, len, now);
	free(exact);
	return rc;
}

static int
deliver(void)
{
	ck_assert(wbuf_ok(&w));
	return give(stream, frame, w.len);
}

/* The request that is open, which there has to be. */
static struct wire_request
request(void)
{
	struct wire_request	 q;

	ck_assert(recv_request(r, &q, now));
	return q;
}

/* Open a stream for the request; positions j, nothing to fill in if back is false. */
static void
start(uint8_t flags, uint64_t j, bool back)
{
	struct wire_request	 q = request();

	stream++;
	seq = 1;
	if (flags & WIRE_START_NEWGEN) {
		memset(told, 0, sizeof(told));
		memset(&sum, 0, sizeof(sum));
	}
	begin(seq);
	add_start(q.nonce, flags, j);
	add_pos(j, j);
	if (back)
		add_back(0, j);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_stream(r), stream);
	seq++;
}

/* End the frame that begin(seq) began: positions, perhaps a digest; give it. */
static int
finish(uint64_t live, bool digest)
{
	add_pos(live, live);
	if (digest)
		wire_put_digest(&w, &sum);
	seq++;
	return deliver();
}

/* A new generation with n flows, at rest and comparing. */
static void
synced(unsigned n)
{
	unsigned	 k;

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	begin(seq);
	wire_put_horizon(&w, n);
	for (k = 0; k < n; k++) {
		if (k % 16 == 15) {
			ck_assert_int_eq(finish(0, false), 0);
			begin(seq);
		}
		add_flow(k, 7);
	}
	ck_assert_int_eq(finish(n, true), 0);
	while (recv_run(r, 100, now))
		;
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
}

static uint32_t
find(unsigned k)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 klen = flow_key_len(body, body_of(k, 1, body));
	struct ftab	*t = recv_table(r);

	return ftab_find(t, ftab_hash(t, body, klen), body, klen);
}

static bool
holds(unsigned k, uint32_t mark)
{
	uint32_t	 h = find(k);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*got;
	size_t		 len, want;

	if (h == FTAB_NIL)
		return false;
	got = ftab_body(recv_table(r), h, &len);
	want = body_of(k, mark, body);
	return len == want && memcmp(got, body, len) == 0;
}

static void
check_table(void)
{
	unsigned	 k, n = 0;

	for (k = 0; k < KEYS; k++) {
		if (told[k] != 0) {
			ck_assert(holds(k, told[k]));
			n++;
		} else
			ck_assert_uint_eq(find(k), FTAB_NIL);
	}
	ck_assert_uint_eq(ftab_count(recv_table(r)), n);
	ck_assert_uint_eq(recv_digest(r).flows, n);
	ck_assert(recv_digest(r).sum == sum.sum);
}

static int
key_of(uint32_t h)
{
	const uint8_t	*body;
	struct flow	 f;
	size_t		 len;

	body = ftab_body(recv_table(r), h, &len);
	ck_assert_int_eq(flow_unpack(body, len, &f), 0);
	return f.orig.l4src + 1;
}

static void
on_changed(void *ctx, uint32_t h)
{
	ck_assert_ptr_eq(ctx, calls);
	if (ncalls < KEYS)
		calls[ncalls++] = (struct call){ key_of(h), false };
}

static void
on_deleted(void *ctx, uint32_t h, bool removed)
{
	ck_assert_ptr_eq(ctx, calls);
	if (ncalls < KEYS)
		calls[ncalls++] = (struct call){ -key_of(h), removed };
}

static void
make(uint32_t flows)
{
	struct recv_conf	 c = { .table_key = { { 1, 2 } }, .max_flows = flows,
				    .my_id = MY_ID, .my_epoch = MY_EPOCH, .changed = on_changed,
				    .deleted = on_deleted, .ctx = calls };

	recv_free(r);
	r = recv_new(&c);
	ck_assert_ptr_nonnull(r);
	recv_epoch(r, EPOCH, &dkey);
	memset(told, 0, sizeof(told));
	memset(&sum, 0, sizeof(sum));
	stream = 0;
}

static void
setup(void)
{
	rnd_seed(50);
	now = 10000000;
	r = NULL;
	ncalls = 0;
	make(MAX_FLOWS);
}

static void
teardown(void)
{
	recv_free(r);
}

static const struct recv_stats *
st(void)
{
	return recv_stats(r);
}

/* --- starting ------------------------------------------------------------- */

START_TEST(start_needs_our_nonce)
{
	struct wire_request	 q = request();

	ck_assert_uint_eq(q.epoch, 0);
	ck_assert_int_eq(recv_state(r), RECV_WAITING);
	/* nothing is taken before a start */
	stream = 3;
	begin(2);
	add_flow(1, 1);
	ck_assert_int_eq(finish(1, false), 0);
	begin(1);
	add_flow(1, 1);
	ck_assert_int_eq(finish(1, false), 0);
	/* another nonce than that of the latest request */
	recv_resync(r);
	begin(1);
	add_start(q.nonce, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	q = request();
	begin(1);
	add_start(q.nonce + 1, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_stream(r), 0);
	ck_assert_uint_eq(st()->other_stream, 4);
	ck_assert_uint_eq(ftab_count(recv_table(r)), 0);
	/* a start is the first frame of its stream */
	begin(2);
	add_start(q.nonce, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_stream(r), 0);
	begin(1);
	add_start(q.nonce, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_stream(r), 3);
	ck_assert(!recv_request(r, &q, now));
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
}
END_TEST

/* A start that was meant for us before we restarted: its nonce is none of ours. */
START_TEST(start_for_an_earlier_life)
{
	struct recv_conf	 c = { .table_key = { { 1, 2 } }, .max_flows = 10,
				    .my_id = MY_ID };
	struct wire_request	 old, q;
	unsigned		 i, k;

	for (i = 0; i < 20; i++) {
		recv_free(r);
		c.my_epoch = rnd_u64();
		r = recv_new(&c);
		ck_assert_ptr_nonnull(r);
		recv_epoch(r, EPOCH, &dkey);
		for (k = rnd_below(5); k > 0; k--)
			recv_resync(r);
		q = request();
		stream++;
		begin(1);
		if (i > 0) {
			add_start(old.nonce, 0, 0);
			add_pos(0, 0);
			ck_assert_int_eq(deliver(), 0);
			ck_assert_uint_eq(recv_stream(r), 0);
		}
		old = q;
	}
}
END_TEST

/* A start that comes again, late, or of an older stream, changes nothing. */
START_TEST(old_starts)
{
	struct wire_request	 q = request();
	uint8_t			 copy[FRAME_MAX];
	size_t			 len;

	stream = 5;
	begin(1);
	add_start(q.nonce, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	memcpy(copy, frame, len = w.len);
	ck_assert_int_eq(deliver(), 0);
	seq = 2;
	begin(seq);
	add_flow(1, 1);
	ck_assert_int_eq(finish(1, false), 0);
	ck_assert_int_eq(give(5, copy, len), 0);
	ck_assert_uint_eq(st()->duplicates, 1);
	ck_assert_int_eq(give(4, copy, len), 0);
	ck_assert_int_eq(give(6, copy, len), 0);
	ck_assert_uint_eq(recv_stream(r), 5);
	ck_assert_uint_eq(st()->generations, 1);
	/* asking again: the stream that was is no answer, nor is one before it */
	recv_restart(r, 5);
	q = request();
	begin(1);
	add_start(q.nonce, WIRE_START_NEWGEN, 0);
	add_pos(0, 0);
	ck_assert_int_eq(give(5, frame, w.len), 0);
	ck_assert_int_eq(give(4, frame, w.len), 0);
	ck_assert_uint_eq(recv_stream(r), 0);
	ck_assert_int_eq(give(6, frame, w.len), 0);
	ck_assert_uint_eq(recv_stream(r), 6);
}
END_TEST

/* Where we stand goes into the request, so that the sender goes on there. */
START_TEST(resume)
{
	struct wire_request	 q;

	synced(20);
	begin(seq);
	add_flow(3, 9);
	ck_assert_int_eq(finish(31, true), 0);
	recv_restart(r, stream + 1);
	ck_assert_uint_eq(recv_stream(r), stream);
	recv_restart(r, stream);
	ck_assert_int_eq(recv_state(r), RECV_WAITING);
	q = request();
	ck_assert_uint_eq(q.epoch, EPOCH);
	ck_assert(q.a.v[0] == 31 && q.a.v[1] == 31 && q.t.v[0] == 31 && q.t.v[1] == 31);
	ck_assert_uint_eq(q.flags, 0);
	start(0, 40, true);
	begin(seq);
	add_flow(4, 9);
	add_back(40, 40);
	wire_put_horizon(&w, 40);
	ck_assert_int_eq(finish(40, true), 0);
	ck_assert_uint_eq(st()->generations, 1);
	ck_assert_uint_eq(st()->compared, 3);
	check_table();
}
END_TEST

/* Backfill says how far it is; a full synchronisation that is cut off stays a full one. */
START_TEST(resume_in_backfill)
{
	struct wire_request	 q;

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 100, true);
	begin(seq);
	add_flow(1, 1);
	add_back(60, 100);
	ck_assert_int_eq(finish(105, true), 0);
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
	recv_restart(r, stream);
	q = request();
	ck_assert_uint_eq(q.epoch, EPOCH);
	ck_assert(q.a.v[0] == 60 && q.t.v[0] == 100);
	ck_assert_uint_eq(q.flags, WIRE_REQUEST_FULL);
	/* no BACK record: all of it was told */
	start(WIRE_START_FULL, 100, true);
	begin(seq);
	add_flow(2, 1);
	ck_assert_int_eq(finish(110, true), 0);
	recv_restart(r, stream);
	q = request();
	ck_assert(q.a.v[0] == 110 && q.t.v[0] == 110);
}
END_TEST

/* --- order ---------------------------------------------------------------- */

#define SHUFFLED	600

struct copy {
	uint8_t	*p;
	size_t	 len;
};

/* Any order within the window, each frame one to three times: the same table. */
START_TEST(reordered_and_doubled)
{
	static struct copy	 frames[SHUFFLED];
	unsigned		 i, j, k, window = (unsigned[]){ 3, 50, SHUFFLED }[_i];
	uint32_t		 mark;

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	for (i = 0; i < SHUFFLED; i++) {
		begin(seq++);
		for (j = 0; j < 5; j++) {
			k = rnd_below(40);
			mark = (uint32_t)rnd_u64() | 1;
			if (told[k] != 0 && rnd_below(3) == 0)
				add_gone(k);
			else
				add_flow(k, mark);
		}
		if (i == 0)
			wire_put_horizon(&w, 0);
		add_pos(i, i);
		wire_put_digest(&w, &sum);
		frames[i].p = malloc(w.len);
		ck_assert_ptr_nonnull(frames[i].p);
		memcpy(frames[i].p, frame, frames[i].len = w.len);
	}
	for (i = 0; i < SHUFFLED; i += window)
		for (j = window * 8; j > 0; j--) {
			k = i + rnd_below(window);
			if (k < SHUFFLED)
				ck_assert_int_eq(give(stream, frames[k].p, frames[k].len), 0);
			if (j == 1)
				for (k = i; k < i + window && k < SHUFFLED; k++)
					ck_assert_int_eq(give(stream, frames[k].p,
					    frames[k].len), 0);
		}
	check_table();
	ck_assert_uint_eq(st()->frames, SHUFFLED + 1);
	ck_assert_uint_eq(st()->differed, 0);
	ck_assert_uint_eq(st()->compared, SHUFFLED);
	ck_assert_uint_gt(st()->duplicates, 0);
	ck_assert_uint_gt(st()->out_of_order, 0);
	for (i = 0; i < SHUFFLED; i++)
		free(frames[i].p);
}
END_TEST

START_TEST(beyond_the_window)
{
	struct wire_ack	 a[2];

	start(WIRE_START_NEWGEN, 0, false);
	begin(seq + RECV_REORDER);
	add_flow(1, 1);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(st()->out_of_order, 0);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].ngaps, 0);
	begin(UINT64_MAX);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	begin(0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].ngaps, 0);
	/* the last one that fits */
	begin(seq + RECV_REORDER - 1);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].ngaps, 1);
	ck_assert_uint_eq(a[0].gaps[0].first, 1);
	ck_assert_uint_eq(a[0].gaps[0].count, RECV_REORDER - 1);
}
END_TEST

static void
empty_frame(uint64_t s)
{
	begin(s);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), 0);
}

START_TEST(gaps)
{
	struct wire_ack	 a[2];
	uint64_t	 s;

	start(WIRE_START_NEWGEN, 0, false);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].stream, stream);
	ck_assert_uint_eq(a[0].seq, 1);
	ck_assert_uint_eq(a[0].ngaps, 0);
	ck_assert(recv_ack_due_us(r) == UINT64_MAX);
	/* 2 3 . . 6 . 8 9 . 11 */
	empty_frame(2);
	empty_frame(3);
	ck_assert(recv_ack_due_us(r) > now);
	empty_frame(6);
	ck_assert(recv_ack_due_us(r) <= now);
	empty_frame(9);
	empty_frame(8);
	empty_frame(11);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].seq, 3);
	ck_assert_uint_eq(a[0].ngaps, 3);
	ck_assert(a[0].gaps[0].first == 1 && a[0].gaps[0].count == 2);
	ck_assert(a[0].gaps[1].first == 4 && a[0].gaps[1].count == 1);
	ck_assert(a[0].gaps[2].first == 7 && a[0].gaps[2].count == 1);
	empty_frame(5);
	empty_frame(4);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].seq, 6);
	ck_assert_uint_eq(a[0].ngaps, 2);
	ck_assert(a[0].gaps[0].first == 1 && a[0].gaps[0].count == 1);
	ck_assert(a[0].gaps[1].first == 4 && a[0].gaps[1].count == 1);
	empty_frame(10);
	empty_frame(7);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].seq, 11);
	ck_assert_uint_eq(a[0].ngaps, 0);
	/* more than can be named: the first ones */
	for (s = 13; s < 13 + 200; s += 2)
		empty_frame(s);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	ck_assert_uint_eq(a[0].ngaps, WIRE_GAPS_MAX);
	ck_assert_uint_eq(a[0].gaps[WIRE_GAPS_MAX - 1].first, 2 * WIRE_GAPS_MAX - 1);
	ck_assert_uint_eq(a[0].gaps[WIRE_GAPS_MAX - 1].count, 1);
}
END_TEST

/*
 * Progress is acknowledged every 32 frames and within 20 ms, with a frame at
 * hand after 5 ms; what came twice, at once.
 */
START_TEST(when_to_acknowledge)
{
	struct wire_ack	 a[2];
	uint64_t	 s;

	start(WIRE_START_NEWGEN, 0, false);
	(void)recv_acks(r, a);
	empty_frame(2);
	ck_assert(recv_ack_due_us(r) == now + 20000);
	now += 4999;
	empty_frame(3);
	ck_assert(recv_ack_due_us(r) == now + 15001);
	now += 1;
	empty_frame(4);
	ck_assert(recv_ack_due_us(r) <= now);
	(void)recv_acks(r, a);
	for (s = 5; s < 5 + 31; s++) {
		empty_frame(s);
		ck_assert(recv_ack_due_us(r) > now);
	}
	empty_frame(s);
	ck_assert(recv_ack_due_us(r) <= now);
	(void)recv_acks(r, a);
	ck_assert(recv_ack_due_us(r) == UINT64_MAX);
	empty_frame(s);
	ck_assert(recv_ack_due_us(r) <= now);
}
END_TEST

/* --- joining another stream ----------------------------------------------- */

static void
join(uint32_t to, uint64_t at, uint64_t horizon)
{
	struct wire_join	 j = { to, at };

	begin(seq);
	wire_put_horizon(&w, horizon);
	wire_put_join(&w, &j);
}

START_TEST(join_another_stream)
{
	struct wire_ack	 a[2];
	uint8_t		 last[FRAME_MAX];
	size_t		 len;
	uint32_t	 old;

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 10, true);
	begin(seq);
	add_flow(1, 1);
	wire_put_horizon(&w, 5);
	ck_assert_int_eq(finish(10, false), 0);
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
	join(40, 1000, 12);
	add_pos(10, 12);
	memcpy(last, frame, len = w.len);
	ck_assert_int_eq(deliver(), 0);
	old = stream;
	stream = 40;
	ck_assert_uint_eq(recv_stream(r), 40);
	ck_assert(recv_ack_due_us(r) <= now);
	ck_assert_uint_eq(recv_acks(r, a), 2);
	ck_assert(a[0].stream == old && a[0].seq == seq && a[0].ngaps == 0);
	ck_assert(a[1].stream == 40 && a[1].seq == 999 && a[1].ngaps == 0);
	ck_assert_uint_eq(recv_acks(r, a), 1);
	/* the last frame comes again: our acknowledgement was lost */
	ck_assert_int_eq(give(old, last, len), 0);
	ck_assert_uint_eq(recv_acks(r, a), 2);
	ck_assert(a[0].stream == old && a[0].seq == seq);
	/* not compared before everything up to the horizon has come */
	seq = 1000;
	begin(seq);
	sum.sum++;
	ck_assert_int_eq(finish(11, true), 0);
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
	sum.sum--;
	begin(seq);
	add_flow(2, 1);
	ck_assert_int_eq(finish(12, true), 0);
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
	ck_assert_uint_eq(st()->compared, 1);
	check_table();
}
END_TEST

/* Numbers that no sender gives: nothing may be counted up to the end of the numbers. */
START_TEST(join_out_of_range)
{
	static const struct {
		uint32_t	 stream;
		uint64_t	 seq;
	} bad[] = { { 0, 5 }, { 40, 0 }, { 40, UINT64_MAX }, { 40, UINT64_MAX - 1 } };
	struct wire_ack	 a[2];

	start(WIRE_START_NEWGEN, 0, false);
	join(bad[_i].stream, bad[_i].seq, 0);
	add_pos(0, 0);
	ck_assert_int_eq(deliver(), -EBADMSG);
	ck_assert_uint_eq(st()->malformed, 1);
	ck_assert_uint_eq(recv_acks(r, a), 0);
	now += 1000000;
	(void)request();
}
END_TEST

/* --- generations ---------------------------------------------------------- */

/* An older generation stays until the horizon is reached, and goes a few entries at a time. */
START_TEST(sweep)
{
	unsigned	 k, n;

	synced(30);
	recv_resync(r);
	ck_assert_uint_eq(request().epoch, 0);
	ck_assert_uint_eq(ftab_count(recv_table(r)), 30);
	start(WIRE_START_NEWGEN | WIRE_START_FULL, 50, true);
	ck_assert_uint_eq(recv_digest(r).flows, 0);
	begin(seq);
	for (k = 0; k < 10; k++)
		add_flow(k, 8);
	add_back(50, 50);
	ck_assert_int_eq(finish(50, false), 0);
	ck_assert(!recv_run(r, 1000, now));
	ck_assert_uint_eq(ftab_count(recv_table(r)), 30);
	begin(seq);
	wire_put_horizon(&w, 60);
	ck_assert_int_eq(finish(55, true), 0);
	ck_assert(!recv_run(r, 1000, now));
	/* one of the old ones is told to be gone, one comes back to life */
	begin(seq);
	add_gone(29);
	add_flow(28, 9);
	ck_assert_int_eq(finish(60, true), 0);
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
	ck_assert_uint_eq(ftab_count(recv_table(r)), 29);
	for (n = 0; recv_run(r, 5, now); n++)
		;
	ck_assert_uint_ge(n, 5);
	ck_assert_uint_eq(st()->swept, 18);
	check_table();
	ck_assert_uint_eq(st()->differed, 0);
}
END_TEST

/* Lane 1 has to reach the horizon first, then lane 0 what was newest at that time. */
START_TEST(horizon_by_lane)
{
	struct wire_here	 p = { { { 10, 10 } }, 10 };

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 10, true);
	begin(seq++);
	wire_put_horizon(&w, 20);
	wire_put_pos(&w, &p);
	ck_assert_int_eq(deliver(), 0);
	/* lane 0 alone is not enough */
	p = (struct wire_here){ { { 25, 15 } }, 25 };
	begin(seq++);
	wire_put_pos(&w, &p);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
	/* lane 1 is there, but something may just have moved to lane 0 */
	p = (struct wire_here){ { { 25, 20 } }, 30 };
	begin(seq++);
	wire_put_pos(&w, &p);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
	p = (struct wire_here){ { { 29, 20 } }, 31 };
	begin(seq++);
	wire_put_pos(&w, &p);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_int_eq(recv_state(r), RECV_SYNCING);
	p = (struct wire_here){ { { 30, 20 } }, 31 };
	begin(seq++);
	wire_put_pos(&w, &p);
	ck_assert_int_eq(deliver(), 0);
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
}
END_TEST

/* Resumed with nothing swept: entries of the same generation stay whatever was not told again. */
START_TEST(resumed_stream_sweeps_nothing)
{
	synced(30);
	recv_restart(r, stream);
	start(0, 30, false);
	begin(seq);
	wire_put_horizon(&w, 30);
	ck_assert_int_eq(finish(30, true), 0);
	ck_assert(!recv_run(r, 1000, now));
	ck_assert_uint_eq(st()->swept, 0);
	check_table();
}
END_TEST

/*
 * More generations than the number has values, none of which ever reached its
 * sweep: the oldest one makes room, what was told last stays.
 */
START_TEST(generations_wrap)
{
	unsigned	 i;

	for (i = 0; i < 600; i++) {
		start(WIRE_START_NEWGEN | WIRE_START_FULL, 100, true);
		begin(seq);
		add_flow(i, 5);
		add_back(50, 100);
		ck_assert_int_eq(finish(100, true), 0);
		ck_assert_uint_eq(recv_digest(r).flows, 1);
		ck_assert(recv_digest(r).sum == sum.sum);
		ck_assert(holds(i, 5));
		/* and so do the ones before, as many as there are numbers for */
		ck_assert(i < 1 || holds(i - 1, 5));
		ck_assert(i < 250 || holds(i - 250, 5));
		recv_resync(r);
		now += 2000000;
	}
	ck_assert_uint_eq(ftab_count(recv_table(r)), 256);
	synced(3);
	check_table();
}
END_TEST

/* The same through sweeps, many times around. */
START_TEST(generations_with_sweeps)
{
	unsigned	 i;

	for (i = 0; i < 600; i++) {
		synced(1 + i % 20);
		check_table();
		recv_resync(r);
	}
	ck_assert_uint_eq(st()->generations, 600);
	ck_assert_uint_eq(st()->differed, 0);
}
END_TEST

START_TEST(a_new_epoch)
{
	struct wire_request	 q;
	struct sipkey		 other = { { 8, 9 } };

	synced(20);
	recv_epoch(r, EPOCH + 1, &other);
	ck_assert_int_eq(recv_state(r), RECV_WAITING);
	ck_assert(!recv_was_equal(r));
	q = request();
	ck_assert_uint_eq(q.epoch, 0);
	/* the old copy is still there for a takeover, streams are numbered anew */
	ck_assert_uint_eq(ftab_count(recv_table(r)), 20);
	stream = 0;
	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	begin(seq);
	wire_put_horizon(&w, 0);
	ck_assert_int_eq(finish(0, true), 0);
	while (recv_run(r, 10, now))
		;
	ck_assert_uint_eq(ftab_count(recv_table(r)), 0);
	ck_assert_int_eq(recv_state(r), RECV_COMPARING);
}
END_TEST

START_TEST(flush)
{
	synced(20);
	recv_flush(r);
	ck_assert_uint_eq(ftab_count(recv_table(r)), 0);
	ck_assert_uint_eq(recv_digest(r).flows, 0);
	ck_assert(recv_digest(r).sum == 0);
	ck_assert_uint_eq(request().epoch, 0);
	synced(20);
	check_table();
}
END_TEST

/* --- what the caller is told ------------------------------------------------ */

static void
called(unsigned i, int key, bool removed)
{
	ck_assert_uint_lt(i, ncalls);
	ck_assert_int_eq(calls[i].key, key);
	ck_assert(calls[i].removed == removed);
}

/* In the order of the records; a REMOVED counts for the next GONE and no other. */
START_TEST(changed_and_deleted)
{
	uint8_t	 empty[1];

	synced(20);
	ck_assert_uint_eq(ncalls, 20);
	ncalls = 0;
	begin(seq);
	add_gone(3);
	wire_put_bytes(&w, WIRE_REMOVED, empty, 0);
	add_gone(4);
	add_flow(3, 8);
	add_gone(5);
	wire_put_bytes(&w, WIRE_REMOVED, empty, 0);
	add_gone(3);
	add_gone(6);
	ck_assert_int_eq(finish(40, true), 0);
	ck_assert_uint_eq(ncalls, 6);
	called(0, -4, false);
	called(1, -5, true);
	called(2, 4, false);
	called(3, -6, false);
	called(4, -4, true);
	called(5, -7, false);
	check_table();
	/* what is not there is not told of, nor does it leave anything to the next frame */
	ncalls = 0;
	begin(seq);
	wire_put_bytes(&w, WIRE_REMOVED, empty, 0);
	add_gone(3);
	ck_assert_int_eq(finish(41, true), 0);
	ck_assert_uint_eq(ncalls, 0);
	begin(seq);
	wire_put_bytes(&w, WIRE_REMOVED, empty, 0);
	ck_assert_int_eq(finish(41, true), 0);
	begin(seq);
	add_gone(7);
	ck_assert_int_eq(finish(42, true), 0);
	called(0, -8, false);
	/* nor is a sweep, nor a flush */
	ncalls = 0;
	recv_epoch(r, EPOCH + 1, &dkey);
	memset(told, 0, sizeof(told));
	memset(&sum, 0, sizeof(sum));
	synced(2);
	ck_assert_uint_eq(ncalls, 2);
	ncalls = 0;
	recv_flush(r);
	ck_assert_uint_eq(ncalls, 0);
}
END_TEST

/* The record is empty. */
START_TEST(malformed_removed)
{
	uint8_t	 junk[1] = { 0 };

	synced(2);
	begin(seq);
	wire_put_bytes(&w, WIRE_REMOVED, junk, 1);
	add_gone(1);
	add_pos(40, 40);
	ck_assert_int_eq(deliver(), -EBADMSG);
	account(1, 7);
	ck_assert(holds(1, 7));
}
END_TEST

static uint8_t *
flags_of(unsigned k)
{
	uint32_t	 h = find(k);

	ck_assert_uint_ne(h, FTAB_NIL);
	return &ftab_meta(recv_table(r), h)->flags;
}

static void
add_life(unsigned k, uint32_t mark, uint64_t born, bool found, uint16_t nat)
{
	uint8_t		 body[FLOW_BODY_MAX];
	struct flow	 f;
	size_t		 len = body_of(k, mark, body);

	ck_assert_int_eq(flow_unpack(body, len, &f), 0);
	f.born = born;
	f.found = found;
	if (nat != 0)
		f.reply.l4dst = nat;
	len = flow_pack(&f, body, sizeof(body));
	wire_put_head(&w, WIRE_FLOW, len + 4);
	wbuf_u32(&w, 100);
	wbuf_bytes(&w, body, len);
}

static void
add_born(unsigned k, uint32_t mark, uint64_t born, uint16_t nat)
{
	add_life(k, mark, born, false, nat);
}

/* What the caller knows of an entry goes when it is told anew, but not with a new generation. */
START_TEST(flags_of_the_caller)
{
	unsigned	 k;

	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	begin(seq);
	for (k = 0; k < 7; k++)
		add_born(k, 7, k < 4 ? 1000 : 0, 0);
	add_life(7, 7, 1000, true, 0);
	add_life(8, 7, 1000, true, 0);
	ck_assert_int_eq(finish(9, false), 0);
	for (k = 0; k < 9; k++) {
		ck_assert_uint_eq(*flags_of(k), 0);
		*flags_of(k) = 0x15;
	}
	begin(seq);
	add_born(0, 8, 1000, 0);		/* told anew in the same generation */
	ck_assert_int_eq(finish(10, false), 0);
	ck_assert_uint_eq(*flags_of(0), 0);
	*flags_of(0) = 0x15;
	recv_resync(r);
	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	begin(seq);
	add_born(0, 7, 1000, 0);		/* the same life */
	add_born(1, 7, 1001, 0);		/* a later one */
	add_born(2, 7, 0, 0);			/* not known any more */
	add_born(3, 7, 1000, 99);		/* the same birth, another translation */
	add_born(4, 7, 1000, 0);		/* known now */
	add_born(5, 7, 0, 99);
	add_born(7, 7, 1001, 0);		/* later than the one that was found */
	add_life(8, 7, 1001, true, 0);		/* found once more */
	ck_assert_int_eq(finish(10, false), 0);
	ck_assert_uint_eq(*flags_of(0), 0x15);
	ck_assert_uint_eq(*flags_of(1), 0);
	ck_assert_uint_eq(*flags_of(2), 0x15);
	ck_assert_uint_eq(*flags_of(3), 0x15);
	ck_assert_uint_eq(*flags_of(4), 0x15);
	ck_assert_uint_eq(*flags_of(5), 0);
	ck_assert_uint_eq(*flags_of(6), 0x15);	/* has yet to be told */
	ck_assert_uint_eq(*flags_of(7), 0);
	ck_assert_uint_eq(*flags_of(8), 0x15);
	/* once more in that generation */
	begin(seq);
	add_born(0, 7, 1000, 0);
	ck_assert_int_eq(finish(11, false), 0);
	ck_assert_uint_eq(*flags_of(0), 0);
}
END_TEST

/* --- comparing ------------------------------------------------------------ */

/* A frame whose digest is not ours. */
static void
differing(void)
{
	begin(seq);
	sum.sum ^= 1;
	ck_assert_int_eq(finish(30, true), 0);
	sum.sum ^= 1;
}

/* Let a repair that nobody answers come to its end. */
static void
unanswered(void)
{
	struct wire_check	 c;

	now += 1000000;
	while (recv_run(r, 100, now))
		;
	ck_assert(recv_check(r, &c) && c.stream == stream);
	now += 5000000;
	(void)recv_run(r, 100, now);
	ck_assert(!recv_check(r, &c) && !recv_mending(r));
}

/* Buckets are tried three times, then a new generation; then it is persistent. */
START_TEST(a_difference)
{
	struct wire_check	 c;
	uint64_t		 requests;
	unsigned		 i;

	synced(20);
	requests = st()->requests;
	for (i = 0; i < 3; i++) {
		differing();
		ck_assert_uint_eq(st()->differed, i + 1);
		ck_assert(recv_mending(r) && !recv_was_equal(r));
		/* nothing is compared while it is repaired, and the stream goes on */
		differing();
		ck_assert_uint_eq(st()->differed, i + 1);
		ck_assert_uint_eq(st()->requests, requests);
		unanswered();
	}
	differing();
	ck_assert_uint_eq(st()->requests, requests + 1);
	ck_assert_uint_eq(st()->escalated, 1);
	ck_assert_int_eq(recv_state(r), RECV_WAITING);
	now += 1000000;
	ck_assert_uint_eq(request().epoch, 0);
	/* what we hold stays usable */
	ck_assert_uint_eq(ftab_count(recv_table(r)), 20);
	/* an answer that is none does not make it forget that it wants a new generation */
	start(0, 30, false);
	recv_restart(r, stream);
	ck_assert_uint_eq(request().epoch, 0);
	/* a proof makes good for everything */
	synced(10);
	check_table();
	differing();
	ck_assert(recv_mending(r) && !recv_persistent(r));
	for (i = 1; i < 3; i++) {
		unanswered();
		differing();
	}
	unanswered();
	/* the right sum over another number is a difference, too; and so it is right after a generation */
	begin(seq);
	sum.flows++;
	ck_assert_int_eq(finish(30, true), 0);
	ck_assert_uint_eq(st()->escalated, 2);
	now += 1000000;
	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	sum.flows++;
	begin(seq);
	wire_put_horizon(&w, 0);
	ck_assert_int_eq(finish(0, true), 0);
	ck_assert(recv_persistent(r));
	/* it stays on the stream, and tries again in a minute, not before */
	requests = st()->requests;
	differing();
	ck_assert(!recv_check(r, &c));
	ck_assert_uint_eq(st()->requests, requests);
	now += 60000000;
	differing();
	ck_assert_uint_eq(st()->requests, requests + 1);
	sum.flows--;
	synced(10);
	ck_assert(!recv_persistent(r));
}
END_TEST

START_TEST(proof_of_equality)
{
	uint64_t	 stamp;

	synced(20);
	ck_assert(!recv_was_equal(r));
	ck_assert_uint_eq(recv_verified_us(r), 0);
	/* the proof is as old as our stamp and the greater of both ages */
	stamp = now;
	now += 3000;
	begin(seq);
	add_doubt(500, 200, 0);
	add_echoed(MY_ID, MY_EPOCH, stamp);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert(recv_verified_us(r) == stamp - 500);
	ck_assert(recv_in_sync(r, now));
	begin(seq);
	add_doubt(100, 700, 0);
	add_echoed(MY_ID, MY_EPOCH, stamp + 1000);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert(recv_verified_us(r) == stamp + 300);
	/* an older one does not take it back */
	begin(seq);
	add_doubt(100000, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, stamp);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert(recv_verified_us(r) == stamp + 300);
	ck_assert(recv_in_sync(r, stamp + 300 + RECV_FRESH_US - 1));
	ck_assert(!recv_in_sync(r, stamp + 300 + RECV_FRESH_US));
	ck_assert(recv_was_equal(r));
	ck_assert_uint_eq(recv_peer_flows(r), 20);
	/* doubts end it, and their end begins it again */
	begin(seq);
	add_doubt(0, 0, WIRE_DOUBT_LOST);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert(!recv_was_equal(r) && !recv_in_sync(r, now));
	ck_assert_uint_eq(recv_doubt(r), WIRE_DOUBT_LOST);
	ck_assert(recv_verified_us(r) == stamp + 300);
	begin(seq);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert(recv_in_sync(r, now) && recv_verified_us(r) == now);
	/* losing the stream ends it as well */
	recv_restart(r, stream);
	ck_assert(!recv_was_equal(r));
}
END_TEST

/* Stamps of others, of our other lives, none at all, frames without doubts: they prove nothing. */
START_TEST(no_proof)
{
	synced(20);
	begin(seq);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID + 1, MY_EPOCH, now);
	add_echoed(MY_ID, MY_EPOCH + 1, now);
	ck_assert_int_eq(finish(20, true), 0);
	begin(seq);
	add_doubt(0, 0, 0);
	ck_assert_int_eq(finish(20, true), 0);
	begin(seq);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(20, true), 0);
	/* no digest in it */
	begin(seq);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(20, false), 0);
	/* older than our clock */
	begin(seq);
	add_doubt(UINT32_MAX, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, 5);
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert_uint_eq(recv_verified_us(r), 0);
	ck_assert(!recv_in_sync(r, now));
}
END_TEST

/* A frame with so many changes, whose oldest one waited for pending_us, built at the peer's clock. */
static void
changes_at(uint64_t clock_us, uint32_t pending_us, unsigned n)
{
	begin(seq);
	add_doubt_at(0, pending_us, 0, clock_us);
	for (; n > 0; n--)
		add_flow(n, rnd_below(1000) + 1);
	ck_assert_int_eq(finish(20 + seq, true), 0);
}

/* The peer's clock is 5000 s behind; a REPORT took 300 us, a frame 700 us. */
START_TEST(lag)
{
	static const uint64_t	 behind = 5000000000u;
	struct hist_summary	 s;
	unsigned		 i;

	now += behind;
	synced(20);
	ck_assert(!recv_lag(r, &s));
	/* without a stamp that came back nothing is known */
	changes_at(now - behind, 1000, 1);
	ck_assert(!recv_lag(r, &s));
	/* it had the stamp for 2 ms */
	begin(seq);
	add_doubt_at(0, 0, 0, now - behind - 700);
	add_echoed_held(MY_ID, MY_EPOCH, now - 3000, 2000);
	ck_assert_int_eq(finish(20 + seq, true), 0);
	ck_assert(!recv_lag(r, &s));		/* no changes in it */
	changes_at(now - behind - 700, 1000, 3);
	ck_assert(recv_lag(r, &s));
	ck_assert_uint_eq(s.count, 3);
	ck_assert_uint_eq(s.max, 2000);	/* 700 there, 1000 waiting, 300 that are not known better */
	ck_assert(s.median == 2000 && s.p99 == 2000);
	/* a REPORT that took longer makes nothing better or worse */
	begin(seq);
	add_doubt_at(0, 0, 0, now - behind - 700);
	add_echoed_held(MY_ID, MY_EPOCH, now - 9000, 2000);
	ck_assert_int_eq(finish(20 + seq, true), 0);
	for (i = 0; i < 97; i++)
		changes_at(now - behind - 700, 500, 1);
	ck_assert(recv_lag(r, &s) && s.max == 2000 && s.count == 100);
	ck_assert(s.median >= 1500 && s.median <= 1700);
	ck_assert_uint_ge(s.p99, 2000 - 2000 / 8);
	/* it never looks better than it can have been */
	changes_at(now - behind + 5000, 0, 1);
	changes_at(now - behind, WIRE_NEVER, 1);
	ck_assert(recv_lag(r, &s) && s.count == 100);
	/* a frame that waits for an earlier one is late by that */
	now += 50000;
	changes_at(now - behind - 50000, 1000, 1);
	ck_assert(recv_lag(r, &s) && s.max == 51300);
}
END_TEST

START_TEST(silence)
{
	struct wire_request	 q;

	recv_silence(r, now + 100000000);
	ck_assert_uint_eq(st()->requests, 1);
	synced(5);
	recv_silence(r, now + 1999999);
	ck_assert_uint_eq(recv_stream(r), stream);
	ck_assert(!recv_request(r, &q, now));
	recv_silence(r, now + 2000000);
	ck_assert_uint_eq(recv_stream(r), 0);
	ck_assert_uint_eq(request().epoch, EPOCH);
}
END_TEST

/* --- a full table --------------------------------------------------------- */

START_TEST(table_full)
{
	struct wire_request	 q;
	unsigned		 k;

	make(40);
	synced(30);
	begin(seq);
	for (k = 30; k < 50; k++)
		add_flow(k, 1);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(50, true), 0);
	ck_assert(recv_full(r));
	ck_assert_uint_eq(st()->no_room, 10);
	ck_assert_uint_eq(ftab_count(recv_table(r)), 40);
	ck_assert(ftab_refused(recv_table(r)) == 10);
	/* it is no difference, and no equality; what is held goes on being told */
	ck_assert_uint_eq(st()->differed, 0);
	ck_assert(!recv_in_sync(r, now) && !recv_was_equal(r));
	begin(seq);
	add_flow(3, 99);
	ck_assert_int_eq(finish(51, true), 0);
	ck_assert(holds(3, 99));
	now += 20000000;
	(void)recv_run(r, 10, now);
	ck_assert(recv_full(r));
	/* with room it asks for everything */
	begin(seq);
	for (k = 0; k < 15; k++)
		add_gone(k);
	ck_assert_int_eq(finish(66, true), 0);
	(void)recv_run(r, 10, now);
	now += 10000000;
	(void)recv_run(r, 10, now);
	ck_assert(!recv_full(r));
	q = request();
	ck_assert_uint_eq(q.epoch, 0);
	synced(35);
	check_table();
	begin(seq);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, now);
	ck_assert_int_eq(finish(66, true), 0);
	ck_assert(recv_in_sync(r, now));
}
END_TEST

/*
 * Full, and then the stream is lost: with the peer's epoch, by a RESTART or by
 * silence.  Nobody would ever tell what is gone: it has to ask again, though
 * not often.
 */
START_TEST(full_without_a_stream)
{
	struct wire_request	 q;
	uint64_t		 until;
	unsigned		 k;

	make(20);
	start(WIRE_START_NEWGEN | WIRE_START_FULL, 0, false);
	begin(seq);
	for (k = 0; k < 25; k++)
		add_flow(k, 1);
	wire_put_horizon(&w, 25);
	ck_assert_int_eq(finish(25, true), 0);
	ck_assert(recv_full(r));
	if (_i == 0) {
		/* the new table may be a smaller one: at once */
		recv_epoch(r, EPOCH + 1, &dkey);
		(void)request();
		stream = 0;
	} else if (_i == 1)
		recv_restart(r, stream);
	else
		recv_silence(r, now + 5000000);
	for (until = now + 60000000; now < until && !recv_request(r, &q, now); now += 100000)
		(void)recv_run(r, 10, now);
	ck_assert(recv_request(r, &q, now));
	synced(12);
	check_table();
	ck_assert(!recv_full(r));
}
END_TEST

/* --- what is no frame ----------------------------------------------------- */

/* Refused as a whole, counted, and the stream is asked for again, a second later. */
static void
check_malformed(void)
{
	struct wire_request	 q;
	uint64_t		 before = st()->malformed;
	uint32_t		 flows = ftab_count(recv_table(r));

	ck_assert_int_eq(deliver(), -EBADMSG);
	ck_assert_uint_eq(st()->malformed, before + 1);
	ck_assert_uint_eq(ftab_count(recv_table(r)), flows);
	ck_assert_uint_eq(recv_stream(r), 0);
	ck_assert(!recv_request(r, &q, now));
	now += 1000000;
	ck_assert_uint_eq(request().epoch, EPOCH);
	start(0, 0, false);
}

START_TEST(malformed_records)
{
	static const struct {
		uint8_t	 kind;
		size_t	 size;
	} fixed[] = {
		{ WIRE_POS, 24 }, { WIRE_BACK, 32 }, { WIRE_START, 25 }, { WIRE_HORIZON, 8 },
		{ WIRE_JOIN, 12 }, { WIRE_DIGEST, 12 }, { WIRE_DOUBT, 9 }, { WIRE_ECHOED, 24 }
	};
	static const uint8_t	 zeros[64];
	uint8_t			 body[FLOW_BODY_MAX + 1];
	size_t			 i, len, klen;

	start(WIRE_START_NEWGEN, 0, false);
	for (i = 0; i < sizeof(fixed) / sizeof(fixed[0]) * 2; i++) {
		begin(seq);
		add_flow(1, 1);
		wire_put_bytes(&w, fixed[i / 2].kind, zeros, fixed[i / 2].size - 1 + 2 * (i % 2));
		add_pos(0, 0);
		check_malformed();
	}
	/* keys and bodies with too much or too little */
	len = body_of(5, 1, body);
	klen = flow_key_len(body, len);
	for (i = 0; i <= klen + 1; i++) {
		begin(seq);
		wire_put_bytes(&w, WIRE_GONE, body, i);
		add_pos(0, 0);
		if (i != klen)
			check_malformed();
	}
	for (i = 0; i < klen + 4; i++) {
		begin(seq);
		wire_put_head(&w, WIRE_FLOW, i);
		wbuf_bytes(&w, zeros, i < 4 ? i : 4);
		if (i > 4)
			wbuf_bytes(&w, body, i - 4);
		add_pos(0, 0);
		check_malformed();
	}
	/* something behind the last record */
	for (i = 1; i < WIRE_RECORD_HEAD + 2; i++) {
		begin(seq);
		add_pos(0, 0);
		wbuf_bytes(&w, "\x7f\0\2z", i);
		check_malformed();
	}
	/* without positions, with a start in the middle, nobody's must-understand */
	begin(seq);
	add_flow(1, 1);
	check_malformed();
	begin(seq);
	add_start(1, 0, 0);
	add_pos(0, 0);
	check_malformed();
	begin(seq);
	wire_put_bytes(&w, 0xff, zeros, 3);
	add_pos(0, 0);
	check_malformed();
	/* but what needs not be understood is skipped */
	begin(seq);
	wire_put_bytes(&w, 0x7f, zeros, 3);
	add_flow(1, 1);
	ck_assert_int_eq(finish(0, false), 0);
	ck_assert(holds(1, 1));
}
END_TEST

START_TEST(malformed_heads)
{
	static const uint8_t	 zeros[8];
	uint8_t			*big = calloc(1, 70000);

	ck_assert_ptr_nonnull(big);
	ck_assert_int_eq(give(0, zeros, sizeof(zeros)), -EBADMSG);
	ck_assert_int_eq(give(1, zeros, 7), -EBADMSG);
	ck_assert_int_eq(give(1, zeros, 0), -EBADMSG);
	ck_assert_int_eq(give(1, big, 70000), -EBADMSG);
	ck_assert_uint_eq(st()->malformed, 4);
	/* a start that is none, while we ask */
	big[7] = 1;
	ck_assert_int_eq(give(1, big, 20), -EBADMSG);
	ck_assert_uint_eq(st()->malformed, 5);
	(void)request();
	free(big);
}
END_TEST

/* No prefix of a frame is a frame, when the positions come last. */
START_TEST(prefixes)
{
	uint8_t	 whole[FRAME_MAX];
	size_t	 len, n;

	start(WIRE_START_NEWGEN, 0, false);
	begin(seq);
	add_doubt(1, 2, 0);
	add_flow(1, 1);
	add_gone(2);
	add_back(0, 0);
	add_pos(0, 0);
	memcpy(whole, frame, len = w.len);
	for (n = 0; n < len; n++) {
		memcpy(frame, whole, n);
		w.len = n;
		ck_assert_int_eq(deliver(), -EBADMSG);
		if (n >= WIRE_SEQ_BYTES) {
			now += 1000000;
			start(0, 0, false);
		}
	}
	memcpy(frame, whole, len);
	w.len = len;
	ck_assert_int_eq(deliver(), 0);
}
END_TEST

/* Frames with bytes changed at random: taken or not, the books are kept. */
START_TEST(noise)
{
	struct wire_request	 q;
	struct wire_ack		 a[2];
	struct ftab		*t;
	uint64_t		 total = 0;
	unsigned		 i, n;
	uint32_t		 h;

	synced(30);
	for (i = 0; i < 30000; i++) {
		now += 100000;
		(void)recv_run(r, 20, now);
		if (recv_stream(r) == 0 && recv_request(r, &q, now)) {
			start(q.epoch == 0 ? WIRE_START_NEWGEN | WIRE_START_FULL : 0, 5, i % 2);
			stream = recv_stream(r);
		}
		begin(seq);
		add_doubt(1, 2, 0);
		for (n = rnd_below(6); n > 0; n--)
			add_flow(rnd_below(60), rnd_below(5) + 1);
		add_gone(rnd_below(60));
		if (rnd_below(3) == 0)
			wire_put_horizon(&w, 5);
		add_pos(10 + i, 10 + i);
		if (rnd_below(2) == 0)
			wire_put_digest(&w, &sum);
		for (n = rnd_below(4); n > 0; n--)
			frame[WIRE_SEQ_BYTES + rnd_below((unsigned)w.len - WIRE_SEQ_BYTES)] =
			    (uint8_t)rnd_u64();
		if (deliver() == 0)
			seq++;
		total += recv_acks(r, a);
	}
	t = recv_table(r);
	for (h = ftab_next(t, FTAB_NIL); h != FTAB_NIL; h = ftab_next(t, h))
		total--;
	ck_assert_uint_gt(st()->malformed, 0);
	ck_assert_uint_gt(st()->frames, 1000);
	ck_assert_uint_le(recv_digest(r).flows, ftab_count(t));
}
END_TEST

/*
 * A flow with an attribute that has to be understood and is not: the flow is
 * left out, the frame is not, and we do not claim to be equal.
 */
START_TEST(flow_of_a_later_version)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len;

	synced(10);
	len = body_of(500, 1, body);
	body[len] = 0x80 | 100;
	body[len + 1] = 0;
	begin(seq);
	wire_put_head(&w, WIRE_FLOW, len + 2 + 4);
	wbuf_u32(&w, 60);
	wbuf_bytes(&w, body, len + 2);
	add_flow(11, 3);
	add_doubt(0, 0, 0);
	add_echoed(MY_ID, MY_EPOCH, now);
	sum.flows++;
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert_uint_eq(st()->refused, 1);
	ck_assert(holds(11, 3));
	ck_assert_uint_eq(find(500), FTAB_NIL);
	ck_assert_uint_eq(st()->differed, 0);
	ck_assert(!recv_in_sync(r, now));
	/* a generation without such a flow is comparable again */
	recv_resync(r);
	synced(10);
	ck_assert_uint_eq(st()->compared, 2);
}
END_TEST

/* Optional ones are kept as they came, and count for the digest. */
START_TEST(optional_attributes_are_kept)
{
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*got;
	size_t		 len, glen;
	uint32_t	 h;

	synced(10);
	len = body_of(500, 1, body);
	memcpy(body + len, "\x50\3abc", 5);
	len += 5;
	begin(seq);
	wire_put_head(&w, WIRE_FLOW, len + 4);
	wbuf_u32(&w, 60);
	wbuf_bytes(&w, body, len);
	sum.sum += siphash13(&dkey, body, len);
	sum.flows++;
	ck_assert_int_eq(finish(20, true), 0);
	ck_assert_uint_eq(st()->compared, 2);
	h = find(500);
	ck_assert_uint_ne(h, FTAB_NIL);
	got = ftab_body(recv_table(r), h, &glen);
	ck_assert_uint_eq(glen, len);
	ck_assert_mem_eq(got, body, len);
	ck_assert_uint_eq(ftab_meta(recv_table(r), h)->timeout_s, 60);
}
END_TEST

static void
add_all(TCase *tc)
{
	tcase_add_test(tc, start_needs_our_nonce);
	tcase_add_test(tc, start_for_an_earlier_life);
	tcase_add_test(tc, old_starts);
	tcase_add_test(tc, resume);
	tcase_add_test(tc, resume_in_backfill);
	tcase_add_loop_test(tc, reordered_and_doubled, 0, 3);
	tcase_add_test(tc, beyond_the_window);
	tcase_add_test(tc, gaps);
	tcase_add_test(tc, when_to_acknowledge);
	tcase_add_test(tc, join_another_stream);
	tcase_add_loop_test(tc, join_out_of_range, 0, 4);
	tcase_add_test(tc, sweep);
	tcase_add_test(tc, horizon_by_lane);
	tcase_add_test(tc, resumed_stream_sweeps_nothing);
	tcase_add_test(tc, generations_wrap);
	tcase_add_test(tc, generations_with_sweeps);
	tcase_add_test(tc, a_new_epoch);
	tcase_add_test(tc, flush);
	tcase_add_test(tc, changed_and_deleted);
	tcase_add_test(tc, malformed_removed);
	tcase_add_test(tc, flags_of_the_caller);
	tcase_add_test(tc, a_difference);
	tcase_add_test(tc, proof_of_equality);
	tcase_add_test(tc, no_proof);
	tcase_add_test(tc, lag);
	tcase_add_test(tc, silence);
	tcase_add_test(tc, table_full);
	tcase_add_loop_test(tc, full_without_a_stream, 0, 3);
	tcase_add_test(tc, malformed_records);
	tcase_add_test(tc, malformed_heads);
	tcase_add_test(tc, prefixes);
	tcase_add_test(tc, noise);
	tcase_add_test(tc, flow_of_a_later_version);
	tcase_add_test(tc, optional_attributes_are_kept);
}

int
main(void)
{
	Suite	*s = suite_create("recv");
	TCase	*tc = tcase_create("recv");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	add_all(tc);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
