/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The rules of the change feed, one by one: a sender, up to three receivers,
 * and a network that does what the test says.
 *
 * Every frame that the sender sends is recorded; the test decides to whom it
 * is given, and looks into it.  tests/sim runs the same parts at random.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/recv.h"
#include "rnd.h"

#define PEERS		3
#define KEYS		5000
#define SENT_MAX	40000
#define FRAME_BYTES	800
#define EPOCH		0x1234u

struct sent {
	uint32_t	 peers;
	uint32_t	 stream;
	uint64_t	 seq;
	uint64_t	 at_us;
	uint32_t	 pending_us;
	size_t		 len;
	uint8_t		*p;
};

static const struct sipkey	 dkey = { { 5, 6 } };
static struct feed_conf		 conf;
static struct feed		*f;
static struct recv		*rc[PEERS];
static uint64_t			 now;
static struct sent		 sent[SENT_MAX];
static unsigned			 nsent, given[PEERS];
static uint32_t			 pending_us;
static uint32_t			 restarted[PEERS];	/* stream of the last RESTART */
static unsigned			 nrestarts;
static uint64_t			 stamp[PEERS];
static uint32_t			 truth[KEYS];
static enum { KEPT, ENDED, REMOVED } fate[PEERS][KEYS];	/* what a receiver was last told of it */

/* --- what the feed needs -------------------------------------------------- */

static void
op_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	struct sent	*s = &sent[nsent++];
	struct rbuf	 r;

	(void)ctx;
	ck_assert_uint_lt(nsent, SENT_MAX);
	ck_assert_uint_le(len, conf.frame_bytes);
	s->peers = peers;
	s->stream = stream;
	s->at_us = now;
	s->pending_us = pending_us;
	s->len = len;
	s->p = malloc(len);
	ck_assert_ptr_nonnull(s->p);
	memcpy(s->p, frame, len);
	rbuf_init(&r, frame, len);
	ck_assert(rbuf_u64(&r, &s->seq));
}

static void
op_restart(void *ctx, unsigned peer, uint32_t stream)
{
	(void)ctx;
	ck_assert_uint_lt(peer, PEERS);
	restarted[peer] = stream;
	nrestarts++;
}

static void
op_trailer(void *ctx, uint32_t peers, uint32_t pending, struct wbuf *w)
{
	struct wire_doubt	 d = { 0, pending, 0, (uint32_t)now };
	struct wire_echoed	 e;
	unsigned		 p;

	(void)ctx;
	pending_us = pending;
	wire_put_doubt(w, &d);
	for (p = 0; p < PEERS; p++)
		if ((peers & 1u << p) && stamp[p] != 0) {
			e = (struct wire_echoed){ p + 1, 1, stamp[p], 0 };
			wire_put_echoed(w, &e);
		}
}

static const struct feed_ops ops = { op_send, op_restart, op_trailer };

static void
drop_sent(void)
{
	while (nsent > 0)
		free(sent[--nsent].p);
	memset(given, 0, sizeof(given));
}

static void
make_feed(void)
{
	feed_free(f);
	f = feed_new(&conf, &ops, NULL);
	ck_assert_ptr_nonnull(f);
	memset(truth, 0, sizeof(truth));
	memset(restarted, 0, sizeof(restarted));
	nrestarts = 0;
	drop_sent();
}

static void
on_deleted(void *ctx, uint32_t h, bool removed)
{
	unsigned	 p = (unsigned)(uintptr_t)ctx;
	const uint8_t	*body;
	struct flow	 fl;
	size_t		 len;

	body = ftab_body(recv_table(rc[p]), h, &len);
	ck_assert_int_eq(flow_unpack(body, len, &fl), 0);
	fate[p][fl.orig.l4src] = removed ? REMOVED : ENDED;
}

static void
on_changed(void *ctx, uint32_t h)
{
	unsigned	 p = (unsigned)(uintptr_t)ctx;
	const uint8_t	*body;
	struct flow	 fl;
	size_t		 len;

	body = ftab_body(recv_table(rc[p]), h, &len);
	ck_assert_int_eq(flow_unpack(body, len, &fl), 0);
	if (!fl.expect)
		fate[p][fl.orig.l4src] = KEPT;
}

static void
make_receiver(unsigned p)
{
	struct recv_conf	 c = { .table_key = { { 7, p } }, .max_flows = 100000,
				    .my_id = p + 1, .my_epoch = 1, .changed = on_changed,
				    .deleted = on_deleted, .ctx = (void *)(uintptr_t)p };

	memset(fate[p], 0, sizeof(fate[p]));
	recv_free(rc[p]);
	rc[p] = recv_new(&c);
	ck_assert_ptr_nonnull(rc[p]);
	recv_epoch(rc[p], EPOCH, &dkey);
	feed_set_peer_id(f, p, p + 1);
}

static void
setup(void)
{
	unsigned	 p;

	rnd_seed(60);
	now = 10000000;
	conf = (struct feed_conf){ .epoch = EPOCH, .digest_key = dkey,
	    .table_key = { { 1, 2 } }, .max_flows = 100000, .max_tombs = 1000,
	    .frame_bytes = FRAME_BYTES, .ring_frames = 64 };
	make_feed();
	for (p = 0; p < PEERS; p++)
		make_receiver(p);
}

static void
teardown(void)
{
	unsigned	 p;

	drop_sent();
	feed_free(f);
	f = NULL;
	for (p = 0; p < PEERS; p++) {
		recv_free(rc[p]);
		rc[p] = NULL;
	}
}

/* --- flows ---------------------------------------------------------------- */

static size_t
body_of(unsigned k, uint32_t mark, uint8_t inc, uint8_t body[FLOW_BODY_MAX])
{
	struct flow	 fl;

	memset(&fl, 0, sizeof(fl));
	fl.family = k % 3 == 0 ? AF_INET6 : AF_INET;
	fl.proto = IPPROTO_UDP;
	fl.orig.src.b[0] = 10;
	fl.orig.l4src = (uint16_t)k;
	fl.orig.l4dst = 53;
	flow_tuple_invert(fl.family, fl.proto, &fl.orig, &fl.reply);
	fl.incarnation = inc;
	fl.status = FLOW_S_CONFIRMED;
	fl.mark = mark;
	return flow_pack(&fl, body, FLOW_BODY_MAX);
}

static uint32_t
find(unsigned k)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 klen = flow_key_len(body, body_of(k, 1, 0, body));

	return feed_find(f, ftab_hash(feed_table(f), body, klen), body, klen);
}

static int
put_rc(unsigned k, uint32_t mark, unsigned lane)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len = body_of(k, mark, 0, body);
	uint32_t	 h;

	return feed_put(f, ftab_hash(feed_table(f), body, flow_key_len(body, len)), body, len,
	    60, lane, now, &h);
}

static void
put(unsigned k, uint32_t mark, unsigned lane)
{
	ck_assert_int_ge(put_rc(k, mark, lane), 0);
	truth[k] = mark;
}

static void
del(unsigned k)
{
	uint32_t	 h = find(k);

	ck_assert_uint_ne(h, FTAB_NIL);
	feed_del(f, h, now);
	truth[k] = 0;
}

/* It was removed, and may live on elsewhere. */
static void
take_out(unsigned k)
{
	uint32_t	 h = find(k);

	ck_assert_uint_ne(h, FTAB_NIL);
	feed_remove(f, h, now);
	truth[k] = 0;
}

/* --- looking into frames -------------------------------------------------- */

static unsigned
count_kind(const struct sent *s, uint8_t kind)
{
	struct rbuf	 r, body;
	uint8_t		 k;
	unsigned	 n = 0;

	rbuf_init(&r, s->p, s->len);
	ck_assert(rbuf_skip(&r, WIRE_SEQ_BYTES));
	while (wire_next(&r, &k, &body))
		n += k == kind;
	ck_assert_uint_eq(r.len, 0);
	return n;
}

static unsigned
count_from(unsigned first, uint8_t kind)
{
	unsigned	 n = 0;

	for (; first < nsent; first++)
		n += count_kind(&sent[first], kind);
	return n;
}

/* Body of the first record of that kind, which has to be there. */
static struct rbuf
record(const struct sent *s, uint8_t kind)
{
	struct rbuf	 r, body;
	uint8_t		 k;

	rbuf_init(&r, s->p, s->len);
	ck_assert(rbuf_skip(&r, WIRE_SEQ_BYTES));
	while (wire_next(&r, &k, &body))
		if (k == kind)
			return body;
	ck_abort_msg("no record %#x in frame %u of stream %u", kind, (unsigned)s->seq, s->stream);
}

/* Numbers of the flows in a frame in their order, those that are gone negative (k + 1). */
static unsigned
keys_in(const struct sent *s, int *keys)
{
	struct rbuf	 r, body;
	struct flow	 fl;
	uint8_t		 kind;
	unsigned	 n = 0;
	size_t		 used;

	rbuf_init(&r, s->p, s->len);
	ck_assert(rbuf_skip(&r, WIRE_SEQ_BYTES));
	while (wire_next(&r, &kind, &body)) {
		if (kind == WIRE_FLOW) {
			ck_assert(rbuf_skip(&body, 4));
			ck_assert_int_eq(flow_unpack(body.p, body.len, &fl), 0);
			keys[n++] = fl.orig.l4src + 1;
		} else if (kind == WIRE_GONE) {
			ck_assert_int_eq(flow_unpack_key(body.p, body.len, &fl, &used), 0);
			ck_assert_uint_eq(used, body.len);
			keys[n++] = -(fl.orig.l4src + 1);
		}
	}
	return n;
}

/* --- the network ---------------------------------------------------------- */

static void
ask(unsigned p)
{
	struct wire_request	 q;
	struct wire_check	 c;
	struct wire_mend	 m;

	if (recv_request(rc[p], &q, now))
		feed_request(f, p, &q, now);
	if (recv_check(rc[p], &c))
		feed_check(f, p, &c);
	if (recv_mend(rc[p], &m))
		feed_mend(f, p, &m);
}

static void
acknowledge(unsigned p)
{
	struct wire_ack	 a[2];
	unsigned	 i, n = recv_acks(rc[p], a);

	for (i = 0; i < n; i++)
		feed_ack(f, p, &a[i], now);
}

/* Everything that was sent to p and not yet given to it or lost. */
static void
deliver(unsigned p)
{
	struct sent	*s;

	for (; given[p] < nsent; given[p]++) {
		s = &sent[given[p]];
		if (s->peers & 1u << p)
			ck_assert_int_eq(recv_frame(rc[p], s->stream, s->p, s->len, now), 0);
	}
}

static void
lose(unsigned p)
{
	given[p] = nsent;
}

static void
run(void)
{
	while (feed_run(f, now, 8, true))
		;
}

/* A while without losses, for the peers of the set. */
static void
settle(unsigned peers)
{
	unsigned	 i, p;

	for (i = 0; i < 300; i++) {
		now += 10000;
		run();
		for (p = 0; p < PEERS; p++) {
			if (!(peers & 1u << p))
				continue;
			ask(p);
			deliver(p);
			acknowledge(p);
			(void)recv_run(rc[p], 100, now);
			stamp[p] = now;
			if (restarted[p] != 0) {
				recv_restart(rc[p], restarted[p]);
				restarted[p] = 0;
			}
		}
	}
	memset(stamp, 0, sizeof(stamp));
}

static uint32_t
held_mark(unsigned p, unsigned k)
{
	struct ftab	*t = recv_table(rc[p]);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*got;
	struct flow	 fl;
	size_t		 klen = flow_key_len(body, body_of(k, 1, 0, body)), len;
	uint32_t	 h = ftab_find(t, ftab_hash(t, body, klen), body, klen);

	if (h == FTAB_NIL)
		return 0;
	got = ftab_body(t, h, &len);
	ck_assert_int_eq(flow_unpack(got, len, &fl), 0);
	return fl.mark;
}

static void
check_equal(unsigned p)
{
	unsigned	 k, n = 0;

	for (k = 0; k < KEYS; k++)
		if (truth[k] != 0) {
			ck_assert_uint_eq(held_mark(p, k), truth[k]);
			n++;
		}
	ck_assert_uint_eq(ftab_count(recv_table(rc[p])), n);
	ck_assert_uint_eq(feed_flows(f), n);
	ck_assert_int_eq(recv_state(rc[p]), RECV_COMPARING);
	ck_assert_uint_eq(recv_digest(rc[p]).flows, n);
	ck_assert(recv_digest(rc[p]).sum == feed_digest(f).sum);
	ck_assert(recv_in_sync(rc[p], now));
	ck_assert_uint_eq(recv_stats(rc[p])->differed, 0);
}

static void
sync_peers(unsigned peers)
{
	unsigned	 p;

	feed_set_complete(f);
	settle(peers);
	for (p = 0; p < PEERS; p++)
		if (peers & 1u << p)
			check_equal(p);
}

/* --- versions ------------------------------------------------------------- */

/* What nobody was told of merges in place; what was told takes a new version at the tail. */
START_TEST(merge_above_hi)
{
	int		 keys[64];
	unsigned	 first;

	put(1, 1, 1);
	put(2, 1, 1);
	put(1, 2, 1);
	put(1, 3, 1);
	ck_assert_uint_eq(feed_version(f), 2);
	ck_assert_uint_eq(feed_stats(f)->merged, 2);
	ck_assert_uint_eq(feed_unsent(f), 2);
	ask(0);
	run();
	ck_assert_uint_eq(feed_unsent(f), 0);
	ck_assert_uint_eq(keys_in(&sent[1], keys), 2);
	/* in its first place and its newest state */
	ck_assert(keys[0] == 2 && keys[1] == 3);
	deliver(0);
	ck_assert_uint_eq(held_mark(0, 1), 3);
	/* emitted, though not acknowledged: final */
	put(1, 4, 1);
	ck_assert_uint_eq(feed_version(f), 3);
	put(3, 1, 1);
	put(1, 5, 1);
	ck_assert_uint_eq(feed_version(f), 4);
	ck_assert_uint_eq(feed_stats(f)->merged, 3);
	first = nsent;
	run();
	ck_assert_uint_eq(keys_in(&sent[first], keys), 2);
	ck_assert(keys[0] == 2 && keys[1] == 4);
	deliver(0);
	ck_assert_uint_eq(held_mark(0, 1), 5);
}
END_TEST

START_TEST(timeouts_are_no_changes)
{
	struct rbuf	 b;
	uint32_t	 h, timeout;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len = body_of(1, 1, 0, body);
	uint32_t	 hash = ftab_hash(feed_table(f), body, flow_key_len(body, len));

	ck_assert_int_eq(feed_put(f, hash, body, len, 60, 1, now, &h), 1);
	ask(0);
	run();
	ck_assert_int_eq(feed_put(f, hash, body, len, 90, 1, now, &h), 0);
	ck_assert_uint_eq(h, find(1));
	ck_assert_uint_eq(feed_version(f), 1);
	ck_assert_uint_eq(feed_unsent(f), 0);
	/* but told when the caller says so */
	feed_touch(f, h, now);
	ck_assert_uint_eq(feed_version(f), 2);
	run();
	b = record(&sent[nsent - 1], WIRE_FLOW);
	ck_assert(rbuf_u32(&b, &timeout) && timeout == 90);
	truth[1] = 1;
	sync_peers(1);
	/* and what is no body is refused */
	ck_assert_int_eq(feed_put(f, hash, body, flow_key_len(body, len), 90, 1, now, &h), -EINVAL);
	ck_assert_int_eq(feed_put(f, hash, body, 3, 90, 1, now, &h), -EINVAL);
}
END_TEST

/* The expectation of a flow that is not there. */
static uint32_t
put_expectation(void)
{
	struct flow	 e;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len;
	uint32_t	 h;

	memset(&e, 0, sizeof(e));
	e.expect = true;
	e.family = AF_INET;
	e.proto = e.master_proto = IPPROTO_TCP;
	e.orig.l4dst = 5000;
	e.master.l4dst = 21;
	len = flow_pack(&e, body, sizeof(body));
	ck_assert_int_eq(feed_put(f, ftab_hash(feed_table(f), body, flow_key_len(body, len)), body,
	    len, 60, 0, now, &h), 1);
	return h;
}

/* On both sides: while there are some, when they are gone, and when one is back. */
START_TEST(expectations_are_counted)
{
	uint32_t	 h;

	put(1, 1, 0);
	sync_peers(1);
	feed_del(f, put_expectation(), now);	/* nobody was told */
	ck_assert_uint_eq(feed_expects(f), 0);
	h = put_expectation();
	settle(1);
	ck_assert_uint_eq(feed_flows(f), 2);
	ck_assert_uint_eq(feed_expects(f), 1);
	ck_assert_uint_eq(ftab_expects(recv_table(rc[0])), 1);
	feed_del(f, h, now);
	ck_assert_uint_eq(feed_expects(f), 0);
	settle(1);
	ck_assert_uint_eq(ftab_expects(recv_table(rc[0])), 0);
	put_expectation();
	ck_assert_uint_eq(feed_flows(f), 2);
	ck_assert_uint_eq(feed_expects(f), 1);
	settle(1);
	ck_assert_uint_eq(ftab_expects(recv_table(rc[0])), 1);
}
END_TEST

/* A flow that came and went before anybody was told leaves nothing at all. */
START_TEST(unborn_flows)
{
	unsigned	 first;

	put(1, 1, 1);
	del(1);
	ck_assert_uint_eq(feed_stats(f)->unborn, 1);
	ck_assert_uint_eq(feed_tombs(f), 0);
	ck_assert_uint_eq(feed_flows(f), 0);
	ck_assert_uint_eq(ftab_count(feed_table(f)), 0);
	put(2, 1, 1);
	sync_peers(1);
	first = nsent;
	put(3, 1, 1);
	put(4, 1, 0);
	del(3);
	del(4);
	ck_assert_uint_eq(feed_unsent(f), 0);
	settle(1);
	ck_assert_uint_eq(count_from(first, WIRE_FLOW) + count_from(first, WIRE_GONE), 0);
	ck_assert_uint_eq(feed_stats(f)->unborn, 3);
	check_equal(0);
}
END_TEST

/* That a key was ever told is inherited: its next life leaves a tombstone even if it was not. */
START_TEST(reborn_and_unsent)
{
	unsigned	 first;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 klen = flow_key_len(body, body_of(1, 1, 0, body));
	uint32_t	 hash = ftab_hash(feed_table(f), body, klen);

	put(1, 1, 1);
	sync_peers(1);
	ck_assert_uint_eq(feed_next_incarnation(f, hash, body, klen), 1);
	del(1);
	ck_assert_uint_eq(find(1), FTAB_NIL);
	ck_assert_uint_eq(feed_next_incarnation(f, hash, body, klen), 1);
	put(1, 2, 1);
	ck_assert_uint_eq(feed_tombs(f), 0);
	ck_assert_uint_eq(feed_flows(f), 1);
	del(1);
	ck_assert_uint_eq(feed_tombs(f), 1);
	ck_assert_uint_eq(feed_stats(f)->unborn, 0);
	first = nsent;
	settle(1);
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 1);
	ck_assert_uint_eq(count_from(first, WIRE_FLOW), 0);
	ck_assert_uint_eq(feed_tombs(f), 0);
	check_equal(0);
}
END_TEST

/* The same when the end of its first life was told, but not to all. */
START_TEST(reborn_for_some)
{
	put(1, 1, 1);
	put(2, 1, 1);
	sync_peers(3);
	lose(1);
	feed_leave(f, 1);
	del(1);
	settle(1);
	check_equal(0);
	put(1, 2, 1);
	del(1);
	ck_assert_uint_eq(feed_tombs(f), 1);
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 1);
}
END_TEST

/* --- tombstones ----------------------------------------------------------- */

START_TEST(tombstones_until_acknowledged)
{
	unsigned	 k;

	for (k = 0; k < 10; k++)
		put(k, 1, k % 2);
	sync_peers(3);
	del(1);
	del(2);
	run();
	ck_assert_uint_eq(feed_tombs(f), 2);
	deliver(0);
	acknowledge(0);
	ck_assert_uint_eq(feed_tombs(f), 2);
	/* a peer that is gone still needs them */
	lose(1);
	feed_leave(f, 1);
	settle(1);
	ck_assert_uint_eq(feed_tombs(f), 2);
	check_equal(0);
	/* it comes back where it was: no new generation */
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	ck_assert_uint_eq(feed_tombs(f), 0);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 1);
	ck_assert_uint_eq(feed_stats(f)->full_syncs, 2);
	/* once it is forgotten nobody needs them */
	feed_leave(f, 1);
	del(3);
	settle(1);
	ck_assert_uint_eq(feed_tombs(f), 1);
	feed_forget(f, 1);
	ck_assert_uint_eq(feed_tombs(f), 0);
	ck_assert_uint_eq(ftab_count(feed_table(f)), feed_flows(f));
}
END_TEST

/* At the limit the oldest go, and who missed them needs everything anew. */
START_TEST(tombstones_at_the_limit)
{
	unsigned	 k, gone = (unsigned)_i;

	conf.max_tombs = 10;
	make_feed();
	for (k = 0; k < 40; k++)
		put(k, 1, 1);
	sync_peers(3);
	feed_leave(f, 1);
	for (k = 0; k < gone; k++) {
		del(k);
		settle(1);
	}
	ck_assert_uint_le(feed_tombs(f), 10);
	ck_assert((feed_stats(f)->forced_tombs > 0) == (gone > 10));
	check_equal(0);
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, gone > 10 ? 2 : 1);
	ck_assert_uint_eq(recv_stats(rc[1])->swept, gone > 10 ? gone : 0);
	ck_assert_uint_eq(recv_stats(rc[0])->generations, 1);
	ck_assert_uint_eq(feed_tombs(f), 0);
}
END_TEST

/* The same under a stream that stands still: it is ended, and told so. */
START_TEST(floor_passes_a_stream)
{
	unsigned	 k;
	uint32_t	 stream;

	conf.max_tombs = 10;
	conf.ring_frames = 2;
	make_feed();
	for (k = 0; k < 60; k++)
		put(k, 1, 1);
	sync_peers(1);
	stream = recv_stream(rc[0]);
	for (k = 0; k < 4; k++) {	/* the window fills */
		put(50 + k, 2, 1);
		run();
	}
	ck_assert_uint_eq(nrestarts, 0);
	for (k = 0; k < 10; k++)
		del(k);
	ck_assert_uint_eq(nrestarts, 0);
	ck_assert(feed_streaming(f, 0));
	del(10);
	ck_assert_uint_eq(nrestarts, 1);
	ck_assert_uint_eq(restarted[0], stream);
	ck_assert(!feed_streaming(f, 0));
	ck_assert_uint_eq(feed_stats(f)->restarts, 1);
	settle(1);
	check_equal(0);
	ck_assert_uint_eq(recv_stats(rc[0])->generations, 2);
	/* the younger half of the tombstones was kept, and told */
	ck_assert_uint_eq(recv_stats(rc[0])->swept, 6);
	ck_assert_uint_eq(recv_stats(rc[0])->gone, 5);
}
END_TEST

/* A full synchronisation tells nothing of flows that ended before it began. */
START_TEST(full_sync_without_tombstones)
{
	unsigned	 k, first;

	for (k = 0; k < 100; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	lose(0);
	feed_leave(f, 0);
	for (k = 0; k < 50; k++)
		del(k);
	make_receiver(1);
	first = nsent;
	sync_peers(2);
	ck_assert_uint_eq(feed_tombs(f), 50);
	/* they were changes that nobody had been told of, so they come once, live */
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 50);
	make_receiver(1);
	feed_new_epoch(f, 1);
	first = nsent;
	given[1] = nsent;
	settle(2);
	check_equal(1);
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 0);
	ck_assert_uint_eq(count_from(first, WIRE_FLOW), 50);
	/* the one that was there before needs them */
	first = nsent;
	recv_restart(rc[0], recv_stream(rc[0]));
	given[0] = nsent;
	settle(3);
	check_equal(0);
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 50);
	ck_assert_uint_eq(feed_tombs(f), 0);
}
END_TEST

START_TEST(limit_of_flows)
{
	unsigned	 k;

	conf.max_flows = 100;
	make_feed();
	for (k = 0; k < 100; k++)
		put(k, 1, 1);
	ck_assert_int_eq(put_rc(100, 1, 1), -ENOSPC);
	ck_assert_uint_eq(ftab_refused(feed_table(f)), 1);
	ck_assert_uint_eq(feed_flows(f), 100);
	sync_peers(3);
	/* tombstones take room, but a live flow comes first */
	feed_leave(f, 1);
	for (k = 0; k < 5; k++)
		del(k);
	for (k = 100; k < 105; k++)
		put(k, 1, 1);
	ck_assert_uint_eq(feed_tombs(f), 0);
	ck_assert_uint_eq(feed_stats(f)->forced_tombs, 5);
	ck_assert_int_eq(put_rc(200, 1, 1), -ENOSPC);
	settle(1);
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 2);
}
END_TEST

/* --- lanes ---------------------------------------------------------------- */

START_TEST(assured_flows_first)
{
	int		 keys[64];
	unsigned	 k, n, i, lane1 = 0, lane0 = 0;

	for (k = 0; k < 200; k++)
		put(k, 1, 1);
	for (; k < 300; k++)
		put(k, 1, 0);
	ask(0);
	run();
	/* frames 1 to 9 begin with lane 0, which is through before */
	for (i = 1; i < nsent && lane0 < 100; i++) {
		n = keys_in(&sent[i], keys);
		for (k = 0; k < n && lane0 < 100; k++) {
			ck_assert_int_gt(keys[k], 200);
			lane0++;
		}
	}
	for (; i < nsent; i++)
		lane1 += keys_in(&sent[i], keys);
	ck_assert_uint_eq(lane0, 100);
	ck_assert_uint_gt(lane1, 150);
	for (k = 0; k < 300; k++)
		truth[k] = 1;
	sync_peers(1);
}
END_TEST

/* Under endless changes of assured flows the others get their tenth. */
START_TEST(share_of_lane_1)
{
	int		 keys[64];
	unsigned	 i, j, k, n, last = 0, first, records = 0, lane1 = 0;

	for (k = 0; k < 200; k++)
		put(k, 1, 0);
	sync_peers(1);
	for (k = 200; k < 1000; k++)
		put(k, 1, 1);
	first = nsent;
	for (i = 0; i < 100; i++) {
		for (k = 0; k < 200; k++)
			put(k, i + 2, 0);
		ck_assert(feed_run(f, now, 1, true));
		deliver(0);
		acknowledge(0);
	}
	ck_assert_uint_eq(nsent, first + 100);
	for (i = first; i < nsent; i++) {
		n = keys_in(&sent[i], keys);
		records += n;
		for (k = 0, j = 0; k < n; k++)
			j += keys[k] > 200;
		lane1 += j;
		if (j > 0) {
			ck_assert_uint_le(i - (last == 0 ? i : last), 10);
			last = i;
		}
	}
	ck_assert_uint_ge(lane1 * 105, records * 10);
	ck_assert_uint_le(lane1 * 100, records * 15);
	settle(1);
	check_equal(0);
}
END_TEST

/* A flow that became assured stays in the first lane, and so does its tombstone. */
START_TEST(never_back)
{
	int		 keys[64];
	unsigned	 n, first;

	put(1, 1, 1);
	put(2, 1, 1);
	sync_peers(1);
	put(3, 2, 1);
	/* the same body and a better lane is a change */
	ck_assert_int_eq(put_rc(2, 1, 0), 1);
	first = nsent;
	run();
	ck_assert_uint_eq(keys_in(&sent[first], keys), 2);
	ck_assert(keys[0] == 3 && keys[1] == 4);
	/* a worse one is none */
	ck_assert_int_eq(put_rc(2, 1, 1), 0);
	put(3, 3, 1);
	put(2, 5, 1);
	first = nsent;
	run();
	ck_assert_uint_eq(keys_in(&sent[first], keys), 2);
	ck_assert(keys[0] == 3 && keys[1] == 4);
	put(3, 4, 1);
	del(2);
	first = nsent;
	run();
	n = keys_in(&sent[first], keys);
	ck_assert(n == 2 && keys[0] == -3 && keys[1] == 4);
	settle(1);
	check_equal(0);
}
END_TEST

/* --- frames on the way ---------------------------------------------------- */

static const struct sent *
first_copy(const struct sent *s)
{
	unsigned	 i;

	for (i = 0; i < nsent; i++)
		if (sent[i].stream == s->stream && sent[i].seq == s->seq)
			return &sent[i];
	ck_abort();
}

/* Whatever comes again of a frame is what it was, though the flows in it have changed since. */
START_TEST(verbatim_repair)
{
	struct wire_ack		 a[2];
	const struct sent	*c;
	unsigned		 i, k, first;

	sync_peers(1);
	first = nsent;
	for (i = 0; i < 20; i++) {
		for (k = 0; k < 5; k++)
			put(k, i + 1, k % 2);
		run();
	}
	ck_assert_uint_eq(nsent, first + 20);
	/* frames 3, 4, 5 and 9 are lost */
	for (i = 0; i < 20; i++)
		if ((i < 3 || i > 5) && i != 9)
			ck_assert_int_eq(recv_frame(rc[0], sent[first + i].stream,
			    sent[first + i].p, sent[first + i].len, now), 0);
	given[0] = nsent;
	ck_assert(recv_ack_due_us(rc[0]) <= now);
	ck_assert_uint_eq(recv_acks(rc[0], a), 1);
	ck_assert_uint_eq(a[0].ngaps, 2);
	/* too soon after they were sent */
	first = nsent;
	now += 1000;
	feed_ack(f, 0, &a[0], now);
	ck_assert_uint_eq(nsent, first);
	now += 10000;
	del(3);
	feed_ack(f, 0, &a[0], now);
	ck_assert_uint_eq(nsent, first + 4);
	for (i = first; i < nsent; i++) {
		c = first_copy(&sent[i]);
		ck_assert_ptr_ne(c, &sent[i]);
		ck_assert_uint_eq(c->len, sent[i].len);
		ck_assert_mem_eq(c->p, sent[i].p, c->len);
		ck_assert_uint_eq(sent[i].peers, 1);
	}
	ck_assert_uint_eq(feed_stats(f)->resent, 4);
	/* and not twice for two reports of the same */
	first = nsent;
	feed_ack(f, 0, &a[0], now);
	ck_assert_uint_eq(nsent, first);
	settle(1);
	check_equal(0);
}
END_TEST

/* Nothing comes back at all: the oldest ones again, ever more slowly. */
START_TEST(repair_without_reports)
{
	const struct sent	*c;
	uint64_t		 began, last = 0, gap = 0;
	unsigned		 i, first, rounds = 0;

	sync_peers(1);
	put(1, 1, 1);
	run();
	first = nsent;
	began = now;
	for (i = 0; i < 4000; i++) {
		now += 1000;
		put(1, i + 2, 1);
		(void)feed_run(f, now, 1, false);
	}
	for (i = first; i < nsent; i++) {
		c = first_copy(&sent[i]);
		if (c == &sent[i])
			continue;
		ck_assert_uint_eq(c->len, sent[i].len);
		ck_assert_mem_eq(c->p, sent[i].p, c->len);
		if (sent[i].at_us == last)
			continue;
		ck_assert(last != 0 || sent[i].at_us - began >= 40000);
		ck_assert(last != 0 || sent[i].at_us - began <= 60000);
		ck_assert(last == 0 || sent[i].at_us - last >= gap);
		gap = last == 0 ? 0 : sent[i].at_us - last;
		last = sent[i].at_us;
		rounds++;
	}
	ck_assert_uint_ge(rounds, 5);
	ck_assert_uint_le(rounds, 10);
	ck_assert(now - last <= 1000000);
	settle(1);
	check_equal(0);
}
END_TEST

/* As many frames as the ring holds, not one more; meanwhile changes merge. */
START_TEST(window)
{
	unsigned	 i, first;
	uint64_t	 version;

	conf.ring_frames = 8;
	make_feed();
	put(1, 1, 1);
	sync_peers(1);
	first = nsent;
	for (i = 0; i < 50; i++) {
		put(1, i + 2, 1);
		run();
	}
	ck_assert_uint_eq(nsent, first + 8);
	ck_assert_uint_eq(feed_in_flight(f, 0), 8);
	version = feed_version(f);
	for (i = 0; i < 50; i++) {
		put(1, i + 100, 1);
		run();
	}
	ck_assert(feed_version(f) == version);
	ck_assert_uint_eq(feed_unsent(f), 1);
	/* one is acknowledged: one goes */
	ck_assert_int_eq(recv_frame(rc[0], sent[first].stream, sent[first].p, sent[first].len,
	    now), 0);
	acknowledge(0);
	run();
	ck_assert_uint_eq(nsent, first + 9);
	ck_assert_uint_eq(feed_unsent(f), 0);
	settle(1);
	check_equal(0);
	ck_assert_uint_eq(feed_in_flight(f, 0), 0);
}
END_TEST

/* Acknowledgements of what was never sent, of other streams, by others: nothing happens. */
START_TEST(strange_acknowledgements)
{
	struct wire_ack	 a = { 0 };
	unsigned	 i, first;

	put(1, 1, 1);
	sync_peers(1);
	put(1, 2, 1);
	run();
	a.stream = recv_stream(rc[0]);
	a.seq = UINT64_MAX;
	a.ngaps = 1;
	a.gaps[0] = (struct wire_gap){ UINT16_MAX, UINT16_MAX };
	now += 20000;
	first = nsent;
	feed_ack(f, 0, &a, now);
	ck_assert_uint_eq(feed_in_flight(f, 0), 1);
	for (i = 0; i < 40; i++) {
		a.seq = i;
		a.gaps[0].first = (uint16_t)rnd_below(3);
		feed_ack(f, 0, &a, now);
	}
	/* gaps name only what is under way */
	ck_assert_uint_le(nsent, first + 1);
	/* a stream that he is not on: he is told, but not each time */
	a.stream = 99;
	feed_ack(f, 0, &a, now);
	feed_ack(f, 0, &a, now + 1);
	ck_assert_uint_eq(nrestarts, 1);
	ck_assert_uint_eq(restarted[0], 99);
	restarted[0] = 0;
	a.stream = recv_stream(rc[0]);
	feed_ack(f, 2, &a, now);
	ck_assert_uint_eq(nrestarts, 2);
	ck_assert_uint_eq(restarted[2], a.stream);
	restarted[2] = 0;
	settle(1);
	check_equal(0);
}
END_TEST

/* --- requests ------------------------------------------------------------- */

START_TEST(nonces)
{
	struct wire_request	 q, old;
	unsigned		 first;
	uint32_t		 stream;

	put(1, 1, 1);
	ck_assert(recv_request(rc[0], &q, now));
	feed_request(f, 0, &q, now);
	ck_assert_uint_eq(feed_stats(f)->requests, 1);
	first = nsent;
	/* asked again before the START arrived */
	feed_request(f, 0, &q, now);
	feed_request(f, 0, &q, now + 1000000);
	ck_assert_uint_eq(feed_stats(f)->requests, 1);
	ck_assert_uint_eq(nsent, first);
	sync_peers(1);
	stream = recv_stream(rc[0]);
	/* a new one replaces the stream, a late one does not */
	recv_restart(rc[0], stream);
	old = q;
	ck_assert(recv_request(rc[0], &q, now));
	ck_assert_uint_gt(q.nonce, old.nonce);
	feed_request(f, 0, &q, now);
	feed_request(f, 0, &old, now);
	ck_assert_uint_eq(feed_stats(f)->requests, 2);
	ck_assert_uint_eq(feed_stats(f)->full_syncs, 1);
	settle(1);
	check_equal(0);
	ck_assert_uint_gt(recv_stream(rc[0]), stream);
	/* the same one is good again when the sender has ended the stream */
	feed_leave(f, 0);
	feed_request(f, 0, &q, now);
	ck_assert_uint_eq(feed_stats(f)->requests, 3);
	/* a restarted peer begins with small nonces */
	make_receiver(0);
	feed_new_epoch(f, 0);
	given[0] = nsent;
	settle(1);
	check_equal(0);
}
END_TEST

/* What cannot be resumed gets a new generation, and the START says so. */
START_TEST(what_is_resumable)
{
	static const struct {
		uint64_t	 epoch, a, t;
		uint8_t		 flags;
		uint8_t		 want;
	} cases[] = {
		{ EPOCH, 20, 20, 0, 0 },
		{ EPOCH, 0, 0, 0, 0 },
		{ EPOCH, 3, 20, WIRE_REQUEST_FULL, WIRE_START_FULL },
		{ 0, 20, 20, 0, WIRE_START_FULL | WIRE_START_NEWGEN },
		{ EPOCH + 1, 20, 20, 0, WIRE_START_FULL | WIRE_START_NEWGEN },
		{ EPOCH, 21, 20, 0, WIRE_START_FULL | WIRE_START_NEWGEN },
		{ EPOCH, 20, 21, 0, WIRE_START_FULL | WIRE_START_NEWGEN },
		{ EPOCH, UINT64_MAX, UINT64_MAX, 0, WIRE_START_FULL | WIRE_START_NEWGEN }
	};
	struct wire_request	 q = { .nonce = 7, .epoch = cases[_i].epoch,
				    .a = { { cases[_i].a, cases[_i].a } },
				    .t = { { cases[_i].t, cases[_i].t } },
				    .flags = cases[_i].flags };
	struct wire_start	 st;
	struct rbuf		 b;
	unsigned		 k, first;

	for (k = 0; k < 20; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	ck_assert_uint_eq(feed_version(f), 20);
	first = nsent;
	feed_request(f, 1, &q, now);
	ck_assert_uint_eq(nsent, first + 1);
	b = record(&sent[first], WIRE_START);
	ck_assert(wire_get_start(&b, &st));
	ck_assert_uint_eq(st.nonce, 7);
	ck_assert_uint_eq(st.flags, cases[_i].want);
	ck_assert(st.j.v[0] == 20 && st.j.v[1] == 20);
	/* only what lies above the position is told again */
	run();
	ck_assert_uint_eq(feed_stats(f)->backfilled, cases[_i].want & WIRE_START_NEWGEN ? 20 :
	    cases[_i].a >= 20 ? 0 : 20 - cases[_i].a);
}
END_TEST

/* After a partition: what changed, and nothing else. */
START_TEST(resume_tells_the_difference)
{
	unsigned	 k, first;

	for (k = 0; k < 500; k++)
		put(k, 1, k % 2);
	sync_peers(3);
	feed_leave(f, 1);
	for (k = 100; k < 130; k++)
		put(k, 2, k % 2);
	for (k = 200; k < 210; k++)
		del(k);
	settle(1);
	first = nsent;
	lose(1);
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	ck_assert_uint_eq(count_from(first, WIRE_FLOW), 30);
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 10);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 1);
}
END_TEST

/* --- removals ------------------------------------------------------------- */

/* Each REMOVED stands before the GONE that it belongs to, in the same frame; returns how many. */
static unsigned
removals_from(unsigned first)
{
	struct rbuf	 r, body;
	uint8_t		 kind;
	unsigned	 n = 0;
	bool		 open;

	for (; first < nsent; first++) {
		rbuf_init(&r, sent[first].p, sent[first].len);
		ck_assert(rbuf_skip(&r, WIRE_SEQ_BYTES));
		for (open = false; wire_next(&r, &kind, &body); open = kind == WIRE_REMOVED) {
			ck_assert(!open || kind == WIRE_GONE);
			ck_assert(kind != WIRE_REMOVED || body.len == 0);
			n += kind == WIRE_REMOVED;
		}
		ck_assert(!open);
	}
	return n;
}

/* More of them than a frame holds, among ends and changes. */
START_TEST(removals)
{
	unsigned	 k, first;

	for (k = 0; k < 600; k++)
		put(k, 1, k % 2);
	sync_peers(3);
	first = nsent;
	for (k = 0; k < 600; k++)
		if (k % 3 == 0)
			take_out(k);
		else if (k % 3 == 1)
			del(k);
		else
			put(k, 2, k % 2);
	sync_peers(3);
	ck_assert_uint_eq(removals_from(first), 200);
	ck_assert_uint_eq(count_from(first, WIRE_GONE), 400);
	for (k = 0; k < 600; k++) {
		ck_assert_int_eq(fate[0][k], k % 3 == 0 ? REMOVED : k % 3 == 1 ? ENDED : KEPT);
		ck_assert_int_eq(fate[1][k], fate[0][k]);
	}
}
END_TEST

/* Whatever happens to the tuple after that counts. */
START_TEST(removed_and_reborn)
{
	unsigned	 k, first;

	for (k = 1; k < 6; k++)
		put(k, 1, 0);
	sync_peers(1);
	first = nsent;
	take_out(1);			/* and born again before anybody was told */
	put(1, 2, 0);
	take_out(2);
	put(2, 2, 0);
	del(2);
	del(3);
	put(3, 2, 0);
	take_out(3);
	sync_peers(1);
	ck_assert_int_eq(fate[0][1], KEPT);
	ck_assert_int_eq(fate[0][2], ENDED);
	ck_assert_int_eq(fate[0][3], REMOVED);
	/* and after the removal was told */
	take_out(4);
	take_out(5);
	sync_peers(1);
	put(4, 2, 0);
	put(5, 2, 0);
	sync_peers(1);
	del(4);
	sync_peers(1);
	ck_assert_int_eq(fate[0][4], ENDED);
	ck_assert_int_eq(fate[0][5], KEPT);
	ck_assert_uint_eq(removals_from(first), 3);
	/* what was never told is never told of */
	put(6, 1, 0);
	take_out(6);
	first = nsent;
	settle(1);
	ck_assert_uint_eq(removals_from(first), 0);
}
END_TEST

/* A peer that was away is told the same as one that was not. */
START_TEST(resume_keeps_removals)
{
	unsigned	 k;

	for (k = 0; k < 300; k++)
		put(k, 1, k % 2);
	sync_peers(3);
	feed_leave(f, 1);
	for (k = 0; k < 100; k++)
		if (k % 2)
			take_out(k);
		else
			del(k);
	for (k = 40; k < 50; k++) {
		put(k, 3, 0);
		if (k % 2)
			del(k);
		else
			take_out(k);
	}
	settle(1);
	lose(1);
	recv_restart(rc[1], recv_stream(rc[1]));
	settle(3);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 1);
	for (k = 0; k < 300; k++) {
		ck_assert_int_eq(fate[1][k], k >= 100 ? KEPT :
		    (k % 2 != 0) != (k >= 40 && k < 50) ? REMOVED : ENDED);
		ck_assert_int_eq(fate[0][k], fate[1][k]);
	}
}
END_TEST

/* --- several peers -------------------------------------------------------- */

static const struct sent *
last_with(uint8_t kind)
{
	unsigned	 i;

	for (i = nsent; i > 0; i--)
		if (count_kind(&sent[i - 1], kind) > 0)
			return &sent[i - 1];
	ck_abort();
}

/* A peer that comes later has a stream of its own, then goes on in the shared one. */
START_TEST(private_stream_and_join)
{
	struct wire_join	 j;
	const struct sent	*s;
	struct rbuf		 b;
	unsigned		 i, k, first;
	uint32_t		 shared;

	for (k = 0; k < 1000; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	shared = recv_stream(rc[0]);
	ask(1);
	first = nsent;
	/* flows change and end all the while, below and above the cursor */
	for (i = 0; i < 300; i++) {
		now += 1000;
		k = rnd_below(1000);
		if (truth[k] != 0 && rnd_below(3) == 0)
			del(k);
		else
			put(k, i + 2, rnd_below(2));
		(void)feed_run(f, now, 1, false);
		deliver(0);
		acknowledge(0);
		deliver(1);
		acknowledge(1);
	}
	settle(3);
	check_equal(0);
	check_equal(1);
	s = last_with(WIRE_JOIN);
	ck_assert_uint_eq(s->peers, 2);
	ck_assert_uint_ne(s->stream, shared);
	b = record(s, WIRE_JOIN);
	ck_assert(wire_get_join(&b, &j));
	ck_assert_uint_eq(j.stream, shared);
	(void)record(s, WIRE_HORIZON);
	ck_assert_uint_eq(recv_stream(rc[1]), shared);
	ck_assert_uint_eq(recv_stream(rc[0]), shared);
	/* no digests in a private stream; the last one goes to both and once */
	for (i = first; i < nsent; i++)
		if (sent[i].stream != shared)
			ck_assert_uint_eq(count_kind(&sent[i], WIRE_DIGEST), 0);
	ck_assert_uint_eq(sent[nsent - 1].peers, 3);
	ck_assert_uint_eq(feed_stats(f)->restarts, 0);
}
END_TEST

/*
 * Backfill goes on while live changes fill every frame, and they while it does:
 * in the shared stream or in one of its own.
 */
START_TEST(backfill_under_load)
{
	unsigned	 i, k, p = (unsigned)_i;

	for (k = 0; k < 2000; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	if (p == 0) {
		feed_leave(f, 0);
		make_receiver(0);
		feed_new_epoch(f, 0);
	}
	ask(p);
	for (i = 0; i < 1500 && ftab_count(recv_table(rc[p])) < 2000; i++) {
		now += 100;
		for (k = 0; k < 100; k++)
			put(rnd_below(200), i + 2, 0);
		(void)feed_run(f, now, 1, false);
		deliver(0);
		acknowledge(0);
		deliver(1);
		acknowledge(1);
	}
	ck_assert_uint_eq(ftab_count(recv_table(rc[p])), 2000);
	ck_assert_uint_gt(feed_stats(f)->records, p == 0 ? i * 5 : 0);
	settle(3);
	check_equal(0);
	check_equal(1);
}
END_TEST

/* One of two does not keep up: the other one goes on, and he gets a stream of his own. */
START_TEST(laggard)
{
	unsigned	 i, stuck = 0, most = 0;

	conf.ring_frames = 8;
	make_feed();
	put(1, 1, 1);
	sync_peers(3);
	ck_assert_uint_eq(recv_stream(rc[0]), recv_stream(rc[1]));
	for (i = 0; i < 300; i++) {
		now += 1000;
		put(1, i + 2, 1);
		run();
		deliver(0);
		acknowledge(0);
		stuck = held_mark(0, 1) == i + 2 ? 0 : stuck + 1;
		if (stuck > most)
			most = stuck;
	}
	ck_assert_uint_eq(nrestarts, 1);
	ck_assert_uint_ne(restarted[1], 0);
	ck_assert(feed_streaming(f, 0) && !feed_streaming(f, 1));
	/* held up for 100 ms, and not much longer */
	ck_assert_uint_ge(most, 95);
	ck_assert_uint_le(most, 110);
	lose(1);
	settle(3);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stats(rc[1])->generations, 1);
}
END_TEST

/* Nobody is dropped when there is nobody to wait for him, or when all stand still. */
START_TEST(no_laggard)
{
	unsigned	 i, peers = _i == 0 ? 1 : 3;

	conf.ring_frames = 8;
	make_feed();
	put(1, 1, 1);
	sync_peers(peers);
	for (i = 0; i < 2000; i++) {
		now += 1000;
		put(1, i + 2, 1);
		run();
	}
	ck_assert_uint_eq(nrestarts, 0);
	ck_assert(feed_streaming(f, 0));
	settle(peers);
	check_equal(0);
}
END_TEST

/* The peer whose stream was the shared one goes: another stream takes its part. */
START_TEST(the_shared_stream_ends)
{
	unsigned	 k;

	for (k = 0; k < 300; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	ask(1);
	(void)feed_run(f, now, 1, false);
	feed_leave(f, 0);
	for (k = 0; k < 100; k++)
		put(k, 2, 0);
	settle(2);
	check_equal(1);
	lose(0);
	recv_restart(rc[0], recv_stream(rc[0]));
	settle(3);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_eq(recv_stream(rc[0]), recv_stream(rc[1]));
}
END_TEST

/* --- digests -------------------------------------------------------------- */

/* The sum over what was told, recomputed from the flows themselves. */
static struct wire_digest
naive_digest(void)
{
	struct wire_digest	 d = { 0, 0 };
	const uint8_t		*body;
	uint32_t		 h;
	size_t			 len;

	for (h = feed_next(f, FTAB_NIL); h != FTAB_NIL; h = feed_next(f, h)) {
		body = ftab_body(feed_table(f), h, &len);
		d.sum += siphash13(&dkey, body, len);
		d.flows++;
	}
	return d;
}

/* Every frame carries it, also under load, and it is the same on both sides at each. */
START_TEST(digest_on_every_frame)
{
	struct wire_digest	 d;
	struct rbuf		 b;
	unsigned		 i, k, checked = 0;
	uint64_t		 compared;

	sync_peers(1);
	compared = recv_stats(rc[0])->compared;
	for (i = 0; i < 1000; i++) {
		now += 1000;
		for (k = rnd_below(30); k > 0; k--) {
			unsigned	 x = rnd_below(300);

			if (truth[x] != 0 && rnd_below(3) == 0)
				del(x);
			else
				put(x, (uint32_t)rnd_u64() | 1, rnd_below(2));
		}
		(void)feed_run(f, now, 1, true);
		b = record(&sent[nsent - 1], WIRE_DIGEST);
		ck_assert(wire_get_digest(&b, &d));
		ck_assert(d.sum == feed_digest(f).sum && d.flows == feed_digest(f).flows);
		deliver(0);
		acknowledge(0);
		ck_assert(recv_digest(rc[0]).sum == d.sum);
		ck_assert_uint_eq(recv_digest(rc[0]).flows, d.flows);
		if (feed_unsent(f) == 0) {
			ck_assert(naive_digest().sum == d.sum);
			ck_assert_uint_eq(naive_digest().flows, d.flows);
			checked++;
		}
	}
	ck_assert_uint_gt(checked, 50);
	ck_assert(recv_stats(rc[0])->compared >= compared + 900);
	ck_assert_uint_eq(recv_stats(rc[0])->differed, 0);
}
END_TEST

/*
 * The receiver's copy is wrong: a frame that the sender never made takes the
 * place of one that it did.  The next digest shows it, a new generation mends
 * it, and what was held stays usable all the while.
 */
START_TEST(corrupted_receiver)
{
	uint8_t			 forged[FRAME_BYTES], body[FLOW_BODY_MAX];
	struct wire_here	 here = { { { 0, 0 } }, 0 };
	struct wbuf		 w;
	size_t			 len;
	unsigned		 k, i;
	uint64_t		 seq = 0;

	for (k = 0; k < 100; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	for (i = 0; i < nsent; i++)
		if (sent[i].stream == recv_stream(rc[0]) && sent[i].seq > seq)
			seq = sent[i].seq;
	here.live.v[0] = here.live.v[1] = here.version = feed_version(f);
	wbuf_init(&w, forged, sizeof(forged));
	wbuf_u64(&w, seq + 1);
	len = body_of(17, 666, 0, body);
	if (_i == 0) {		/* another state of a flow */
		wire_put_head(&w, WIRE_FLOW, len + 4);
		wbuf_u32(&w, 60);
		wbuf_bytes(&w, body, len);
	} else if (_i == 1)	/* one is missing */
		wire_put_bytes(&w, WIRE_GONE, body, flow_key_len(body, len));
	/* else: a change that the sender made is lost */
	wire_put_pos(&w, &here);
	ck_assert_int_eq(recv_frame(rc[0], recv_stream(rc[0]), forged, w.len, now), 0);
	ck_assert_uint_eq(recv_stats(rc[0])->differed, 0);
	put(50, 2, 0);
	run();
	put(51, 2, 0);
	run();
	deliver(0);
	ck_assert_uint_eq(recv_stats(rc[0])->differed, 1);
	ck_assert(!recv_was_equal(rc[0]));
	for (i = 0; i < 300 && recv_stats(rc[0])->repairs < 1; i++) {
		now += 10000;
		recv_run(rc[0], 1000, now);
		run();
		ask(0);
		deliver(0);
		acknowledge(0);
		ck_assert_uint_ge(ftab_count(recv_table(rc[0])), 99);
	}
	settle(1);
	for (k = 0; k < 100; k++)
		ck_assert_uint_eq(held_mark(0, k), truth[k]);
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), 100);
	ck_assert(recv_in_sync(rc[0], now));
	ck_assert_uint_eq(recv_stats(rc[0])->differed, 1);
	ck_assert_uint_eq(recv_stats(rc[0])->repairs, 1);
	ck_assert_uint_eq(recv_stats(rc[0])->generations, 1);
}
END_TEST

/* --- held back ------------------------------------------------------------ */

/* What is new and unanswered waits; a reply, an assurance or time lets it go; its end lets nobody know. */
START_TEST(held_back)
{
	uint64_t	 v;
	uint32_t	 h;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len;
	unsigned	 k;

	conf.hold_us = 100000;
	make_feed();
	feed_set_complete(f);
	sync_peers(1);
	v = feed_version(f);
	for (k = 0; k < 5; k++)
		put(k, 1, FEED_HOLD);
	ck_assert_uint_eq(feed_held(f), 5);
	ck_assert_uint_eq(feed_flows(f), 5);
	ck_assert_uint_eq(feed_unsent(f), 0);
	ck_assert_uint_eq(feed_version(f), v);
	put(0, 2, 1);			/* a reply */
	put(1, 2, 0);			/* assured */
	put(2, 2, FEED_HOLD);		/* still nothing */
	del(3);
	ck_assert_uint_eq(feed_held(f), 2);
	ck_assert_uint_eq(feed_version(f), v + 2);
	ck_assert_uint_eq(feed_tombs(f), 0);
	ck_assert_uint_eq(feed_stats(f)->unborn, 1);
	len = body_of(4, 1, 0, body);
	h = feed_find(f, ftab_hash(feed_table(f), body, flow_key_len(body, len)), body,
	    flow_key_len(body, len));
	ck_assert_uint_ne(h, FTAB_NIL);
	ck_assert(feed_version_of(f, h) == UINT64_MAX);
	feed_touch(f, h, now);
	ck_assert_uint_eq(feed_held(f), 2);
	run();
	deliver(0);
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), 2);
	ck_assert_uint_le(feed_due_us(f, now), now + 100000);
	now += 99999;
	run();
	ck_assert_uint_eq(feed_held(f), 2);
	now++;
	run();
	ck_assert_uint_eq(feed_held(f), 0);
	settle(1);
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), 4);
	ck_assert_uint_eq(held_mark(0, 2), 2);
	/* what was told once is not held: the peer has to know of its end and its rebirth */
	del(2);
	put(2, 3, FEED_HOLD);
	ck_assert_uint_eq(feed_held(f), 0);
	del(4);
	settle(1);
	put(4, 9, FEED_HOLD);
	settle(1);
	ck_assert_uint_eq(held_mark(0, 2), 3);
	ck_assert_uint_eq(held_mark(0, 4), 9);
	ck_assert(recv_in_sync(rc[0], now));
	/* a daemon that goes tells everything */
	put(7, 1, FEED_HOLD);
	feed_release(f, now, true);
	ck_assert_uint_eq(feed_held(f), 0);
	ck_assert_uint_eq(feed_unsent(f), 1);
}
END_TEST

/* --- pace ------------------------------------------------------------------- */

/* The window grows while frames arrive quickly, shrinks when they come late, not when they are lost. */
START_TEST(window_follows_delay)
{
	unsigned	 k, i, most = 0;

	conf.ring_frames = 512;
	make_feed();
	feed_set_complete(f);
	sync_peers(1);
	for (i = 0; i < 60; i++) {	/* a link that takes all, and answers in 1 ms */
		for (k = 0; k < KEYS; k++)
			put(k, rnd_u64() & 0xffff, 1);
		run();
		most = feed_in_flight(f, 0) > most ? feed_in_flight(f, 0) : most;
		now += 1000;
		deliver(0);
		acknowledge(0);
		drop_sent();
	}
	ck_assert_uint_ge(most, 250);
	for (i = 0; i < 30; i++) {	/* one that answers after 300 ms, since less than 10 s */
		for (k = 0; k < KEYS; k++)
			put(k, rnd_u64() & 0xffff, 1);
		run();
		most = feed_in_flight(f, 0);
		now += 300000;
		deliver(0);
		acknowledge(0);
		drop_sent();
	}
	ck_assert_uint_le(most, FEED_WINDOW_MIN);
}
END_TEST

/* --- horizon -------------------------------------------------------------- */

/* Until the table is complete nothing may be swept by it: neither horizon nor join. */
START_TEST(horizon_when_complete)
{
	unsigned	 k;

	for (k = 0; k < 50; k++)
		put(k, 1, 1);
	settle(3);
	ck_assert_uint_eq(count_from(0, WIRE_HORIZON), 0);
	ck_assert_uint_eq(count_from(0, WIRE_JOIN), 0);
	ck_assert_int_eq(recv_state(rc[0]), RECV_SYNCING);
	ck_assert_int_eq(recv_state(rc[1]), RECV_SYNCING);
	ck_assert(!recv_in_sync(rc[0], now));
	ck_assert_uint_eq(ftab_count(recv_table(rc[1])), 50);
	/* what is found meanwhile is told meanwhile */
	put(60, 1, 1);
	settle(3);
	ck_assert_uint_eq(held_mark(0, 60), 1);
	ck_assert_uint_eq(held_mark(1, 60), 1);
	feed_set_complete(f);
	settle(3);
	ck_assert_uint_eq(count_from(0, WIRE_HORIZON), 2);
	ck_assert_uint_eq(count_from(0, WIRE_JOIN), 1);
	check_equal(0);
	check_equal(1);
}
END_TEST

/* The sender comes back empty and fills again: the receiver's old copy stays until then. */
START_TEST(restarted_sender)
{
	unsigned	 k;

	for (k = 0; k < 50; k++)
		put(k, 1, 1);
	sync_peers(1);
	conf.epoch++;
	make_feed();
	recv_epoch(rc[0], conf.epoch, &dkey);
	settle(1);
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), 50);
	for (k = 10; k < 30; k++)
		put(k, 1, 1);
	settle(1);
	ck_assert_uint_eq(ftab_count(recv_table(rc[0])), 50);
	sync_peers(1);
	ck_assert_uint_eq(recv_stats(rc[0])->swept, 30);
}
END_TEST

/* --- time ----------------------------------------------------------------- */

/* An idle stream beats, a few changes wait a little, many do not. */
START_TEST(when_frames_go)
{
	unsigned	 first, k;

	sync_peers(1);
	now += 1000;
	run();
	deliver(0);
	acknowledge(0);
	while (feed_due_us(f, now) <= now) {
		run();
		deliver(0);
		acknowledge(0);
	}
	first = nsent;
	now = feed_due_us(f, now) - 1;
	ck_assert(!feed_run(f, now, 8, false));
	ck_assert_uint_eq(nsent, first);
	now++;
	ck_assert(!feed_run(f, now, 8, false));
	ck_assert_uint_eq(nsent, first + 1);
	deliver(0);
	acknowledge(0);
	ck_assert(feed_due_us(f, now) == now + FEED_BEAT_US);
	/* one change */
	now += 5000;
	put(1, 1, 1);
	ck_assert(feed_due_us(f, now) <= now + FEED_LINGER_US);
	ck_assert(feed_due_us(f, now) > now);
	now += 1000;
	ck_assert(!feed_run(f, now, 8, false));
	ck_assert_uint_eq(nsent, first + 1);
	now += FEED_LINGER_US;
	ck_assert(!feed_run(f, now, 8, false));
	ck_assert_uint_eq(nsent, first + 2);
	ck_assert_uint_ge(sent[nsent - 1].pending_us, FEED_LINGER_US);
	ck_assert_uint_le(sent[nsent - 1].pending_us, FEED_LINGER_US + 2000);
	/* many */
	for (k = 0; k < 100; k++)
		put(k, 2, 1);
	ck_assert(feed_due_us(f, now) <= now);
	ck_assert(feed_run(f, now, 1, false));
	ck_assert_uint_eq(nsent, first + 3);
	/* nobody there: never */
	feed_leave(f, 0);
	ck_assert(feed_due_us(f, now) == UINT64_MAX);
	ck_assert(!feed_run(f, now, 8, true));
	ck_assert_uint_eq(nsent, first + 3);
}
END_TEST

/* The age of the oldest change that is not told goes with each frame. */
START_TEST(age_of_what_waits)
{
	unsigned	 i, first;

	conf.ring_frames = 4;
	make_feed();
	sync_peers(1);
	for (i = 0; i < 4; i++) {
		put(1, i + 1, 1);
		run();
	}
	/* the window is full; the change waits for half a second and merges with others */
	put(2, 1, 1);
	for (i = 0; i < 500; i++) {
		now += 1000;
		put(2, i + 2, 1);
		put(10 + i, 1, 1);
	}
	deliver(0);
	acknowledge(0);
	first = nsent;
	run();
	ck_assert_uint_ge(sent[first].pending_us, 500000);
	ck_assert_uint_le(sent[first].pending_us, 502000);
	settle(1);
	check_equal(0);
	ck_assert_uint_eq(sent[nsent - 1].pending_us, 0);
}
END_TEST

START_TEST(what_peers_have)
{
	unsigned	 k;

	ck_assert_uint_eq(feed_acked(f, 0), 0);
	ck_assert(!feed_streaming(f, 0));
	ck_assert_uint_eq(feed_in_flight(f, 0), 0);
	for (k = 0; k < 20; k++)
		put(k, 1, k % 2);
	sync_peers(1);
	ck_assert(feed_acked(f, 0) == feed_version(f));
	put(1, 2, 1);
	run();
	ck_assert(feed_acked(f, 0) < feed_version(f));
	ck_assert_uint_eq(feed_in_flight(f, 0), 1);
	deliver(0);
	acknowledge(0);
	/* empty ranges get their coverage: both lanes stand at the newest version */
	ck_assert(feed_acked(f, 0) == feed_version(f));
	*feed_id(f, find(1)) = 4711;
	put(1, 3, 0);
	ck_assert_uint_eq(*feed_id(f, find(1)), 4711);
	del(1);
	settle(1);
	put(1, 3, 0);
	ck_assert_uint_eq(*feed_id(f, find(1)), 0);
}
END_TEST

/* Random losses and changes; the sender and both receivers agree in the end. */
START_TEST(lossy)
{
	struct sent	*s;
	unsigned	 i, k, p;

	rnd_seed(1000 + (unsigned)_i);
	conf.ring_frames = 16;
	conf.max_tombs = 20;
	make_feed();
	feed_set_complete(f);
	for (i = 0; i < 3000; i++) {
		now += 1000;
		k = rnd_below(200);
		if (truth[k] != 0 && rnd_below(2) == 0)
			del(k);
		else
			put(k, (uint32_t)rnd_u64() | 1, rnd_below(2));
		(void)feed_run(f, now, 2, false);
		for (p = 0; p < 2; p++) {
			for (; given[p] < nsent; given[p]++) {
				s = &sent[given[p]];
				if ((s->peers & 1u << p) && rnd_below(4) != 0)
					ck_assert_int_eq(recv_frame(rc[p], s->stream, s->p,
					    s->len, now), 0);
			}
			if (rnd_below(3) == 0)
				acknowledge(p);
			if (rnd_below(20) == 0)
				ask(p);
			if (restarted[p] != 0 && rnd_below(2) == 0)
				recv_restart(rc[p], restarted[p]);
			restarted[p] = 0;
			(void)recv_run(rc[p], 10, now);
			recv_silence(rc[p], now);
		}
	}
	for (p = 0; p < 2; p++)
		if (recv_stream(rc[p]) != 0 && !feed_streaming(f, p))
			recv_restart(rc[p], recv_stream(rc[p]));
	settle(3);
	check_equal(0);
	check_equal(1);
	ck_assert_uint_gt(feed_stats(f)->resent, 10);
}
END_TEST

static void
add_all(TCase *tc)
{
	tcase_add_test(tc, expectations_are_counted);
	tcase_add_test(tc, merge_above_hi);
	tcase_add_test(tc, timeouts_are_no_changes);
	tcase_add_test(tc, unborn_flows);
	tcase_add_test(tc, reborn_and_unsent);
	tcase_add_test(tc, reborn_for_some);
	tcase_add_test(tc, tombstones_until_acknowledged);
	tcase_add_loop_test(tc, tombstones_at_the_limit, 9, 13);
	tcase_add_test(tc, floor_passes_a_stream);
	tcase_add_test(tc, full_sync_without_tombstones);
	tcase_add_test(tc, limit_of_flows);
	tcase_add_test(tc, assured_flows_first);
	tcase_add_test(tc, share_of_lane_1);
	tcase_add_test(tc, never_back);
	tcase_add_test(tc, verbatim_repair);
	tcase_add_test(tc, repair_without_reports);
	tcase_add_test(tc, window);
	tcase_add_test(tc, strange_acknowledgements);
	tcase_add_test(tc, nonces);
	tcase_add_loop_test(tc, what_is_resumable, 0, 8);
	tcase_add_test(tc, resume_tells_the_difference);
	tcase_add_test(tc, removals);
	tcase_add_test(tc, removed_and_reborn);
	tcase_add_test(tc, resume_keeps_removals);
	tcase_add_test(tc, private_stream_and_join);
	tcase_add_loop_test(tc, backfill_under_load, 0, 2);
	tcase_add_test(tc, laggard);
	tcase_add_loop_test(tc, no_laggard, 0, 2);
	tcase_add_test(tc, the_shared_stream_ends);
	tcase_add_test(tc, digest_on_every_frame);
	tcase_add_loop_test(tc, corrupted_receiver, 0, 3);
	tcase_add_test(tc, held_back);
	tcase_add_test(tc, window_follows_delay);
	tcase_add_test(tc, horizon_when_complete);
	tcase_add_test(tc, restarted_sender);
	tcase_add_test(tc, when_frames_go);
	tcase_add_test(tc, age_of_what_waits);
	tcase_add_test(tc, what_peers_have);
	tcase_add_loop_test(tc, lossy, 0, 10);
}

int
main(void)
{
	Suite	*s = suite_create("feed");
	TCase	*tc = tcase_create("feed");
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
