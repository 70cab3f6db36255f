/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a life of one sender and two receivers.
 *
 * The input is a list of operations: changes of the table, time, frames that
 * arrive, get lost or come late, acknowledgements and requests that do, peers
 * that leave and come back, and, length-delimited, frames, acknowledgements
 * and requests that nobody sent.  As long as nothing was forged, whatever
 * happened before: left in peace, all are equal in the end.
 */
#include <sys/socket.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/recv.h"

#define PEERS		2u
#define KEYS		32u
#define NET		64u	/* frames under way; the oldest one is lost for the next */
#define FRAME_BYTES	640
#define OPS_MAX		600
#define PEACE_STEPS	2000

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct packet {
	uint32_t	 peers;		/* that may still get it */
	uint32_t	 stream;
	size_t		 len;
	uint8_t		 data[FRAME_BYTES];
};

struct world {
	struct feed		*feed;
	struct recv		*rc[PEERS];
	uint64_t		 epoch[PEERS];		/* of the receivers, new in each life */
	uint64_t		 now_us;
	uint64_t		 stamp[PEERS];
	uint32_t		 restart[PEERS];	/* RESTART that is under way */
	struct packet		 net[NET];
	unsigned		 sent;
	uint32_t		 mark[KEYS];		/* truth, 0: no such flow */
	struct wire_ack		 old_ack[PEERS];
	struct wire_request	 old_request[PEERS];
	bool			 forged;
	bool			 rotten;	/* a receiver's memory was changed */
};

static const struct sipkey	 dkey = { { 1, 2 } };

static void
check(bool ok)
{
	if (!ok)
		abort();
}

/* --- ports ---------------------------------------------------------------- */

static void
op_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	struct world	*w = ctx;
	struct packet	*k = &w->net[w->sent++ % NET];

	check(len <= FRAME_BYTES && peers != 0 && peers < 1u << PEERS && stream != 0);
	k->peers = peers;
	k->stream = stream;
	k->len = len;
	memcpy(k->data, frame, len);
}

static void
op_restart(void *ctx, unsigned peer, uint32_t stream)
{
	struct world	*w = ctx;

	check(peer < PEERS);
	w->restart[peer] = stream;
}

static void
op_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *wb)
{
	struct world		*w = ctx;
	struct wire_doubt	 d = { .pending_us = pending_us };
	struct wire_echoed	 e;
	unsigned		 p;

	wire_put_doubt(wb, &d);
	for (p = 0; p < PEERS; p++)
		if ((peers & 1u << p) && w->stamp[p] != 0) {
			e = (struct wire_echoed){ p + 1, w->epoch[p], w->stamp[p], 7 };
			wire_put_echoed(wb, &e);
		}
}

static const struct feed_ops ops = { op_send, op_restart, op_trailer };

/* --- flows ---------------------------------------------------------------- */

/* Some have what few flows have, and some are expectations; each tells its mark. */
static void
make_special(unsigned k, uint32_t mark, struct flow *f)
{
	f->has = FLOW_HAS_HELPER | FLOW_HAS_MASTER;
	strcpy(f->helper, "sip");
	f->master_proto = IPPROTO_UDP;
	f->master.src.b[0] = 10;
	f->master.l4src = (uint16_t)(k - 1);
	if (k % 8 == 3) {
		f->expect = true;
		snprintf(f->exp.fn, sizeof(f->exp.fn), "%08x", mark);
	} else {
		f->has |= FLOW_HAS_LABELS | FLOW_HAS_SEQADJ;
		f->rare.labels[mark % FLOW_LABEL_BYTES] = (uint8_t)mark;
		f->rare.seqadj[1].after = mark;
	}
}

static size_t
body_of(unsigned k, uint32_t mark, uint8_t *body)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = k % 4 == 0 ? AF_INET6 : AF_INET;
	f.proto = k % 2 ? IPPROTO_TCP : IPPROTO_UDP;
	f.orig.src.b[0] = 10;
	f.orig.l4src = (uint16_t)k;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.mark = mark;
	if (k % 8 == 3 || k % 8 == 5)
		make_special(k, mark, &f);
	return flow_pack(&f, body, FLOW_BODY_MAX);
}

static void
put(struct world *w, unsigned k, uint32_t mark, unsigned lane)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len = body_of(k, mark, body), klen = flow_key_len(body, len);
	uint32_t	 hash = ftab_hash(feed_table(w->feed), body, klen), h;
	int		 rc;

	rc = feed_put(w->feed, hash, body, len, 60, lane, w->now_us, &h);
	check(rc >= 0 && feed_find(w->feed, hash, body, klen) == h);
	w->mark[k] = mark;
}

static void
del(struct world *w, unsigned k)
{
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 klen = flow_key_len(body, body_of(k, 1, body));
	uint32_t	 h;

	h = feed_find(w->feed, ftab_hash(feed_table(w->feed), body, klen), body, klen);
	check((h != FTAB_NIL) == (w->mark[k] != 0));
	if (h != FTAB_NIL)
		feed_del(w->feed, h, w->now_us);
	w->mark[k] = 0;
}

/* --- what may happen ------------------------------------------------------ */

static void
arrive(struct world *w, unsigned p, struct packet *k, bool again)
{
	if (!(k->peers & 1u << p))
		return;
	if (!again)
		k->peers &= ~(1u << p);
	check(recv_frame(w->rc[p], k->stream, k->data, k->len, w->now_us) == 0 || w->forged);
}

static void
arrive_all(struct world *w, unsigned p)
{
	unsigned	 i;

	for (i = w->sent < NET ? 0 : w->sent - NET; i < w->sent; i++)
		arrive(w, p, &w->net[i % NET], false);
}

static void
acknowledge(struct world *w, unsigned p, bool lost)
{
	struct wire_ack	 a[2];
	unsigned	 i, n = recv_acks(w->rc[p], a);

	for (i = 0; i < n; i++) {
		check(a[i].ngaps <= WIRE_GAPS_MAX);
		w->old_ack[p] = a[i];
		if (!lost)
			feed_ack(w->feed, p, &a[i], w->now_us);
	}
}

static void
ask(struct world *w, unsigned p)
{
	struct wire_request	 q;
	struct wire_check	 c;
	struct wire_mend	 m;

	if (recv_request(w->rc[p], &q, w->now_us)) {
		w->old_request[p] = q;
		feed_request(w->feed, p, &q, w->now_us);
	}
	if (recv_check(w->rc[p], &c))
		feed_check(w->feed, p, &c);
	if (recv_mend(w->rc[p], &m))
		feed_mend(w->feed, p, &m);
}

/* A flow of a receiver changes in its memory. */
static void
rot(struct world *w, unsigned p, uint8_t arg)
{
	struct ftab	*t = recv_table(w->rc[p]);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*old;
	uint32_t	 h = ftab_next(t, arg % KEYS);
	size_t		 len;

	if (h == FTAB_NIL)
		return;
	old = ftab_body(t, h, &len);
	memcpy(body, old, len);
	body[len - 1] ^= 1;
	check(ftab_set(t, h, body, len) == 0);
	recv_verify(w->rc[p], w->now_us);
	w->rotten = true;
}

static void
restart(struct world *w, unsigned p)
{
	if (w->restart[p] != 0)
		recv_restart(w->rc[p], w->restart[p]);
	w->restart[p] = 0;
}

static void
new_receiver(struct world *w, unsigned p)
{
	struct recv_conf	 c = { .table_key = { { 5, p } }, .max_flows = 1000,
				    .my_id = p + 1, .scrub_us = 1000000 };

	recv_free(w->rc[p]);
	c.my_epoch = w->epoch[p] += 1000000;
	w->rc[p] = recv_new(&c);
	check(w->rc[p] != NULL);
	recv_epoch(w->rc[p], 9, &dkey);
	feed_new_epoch(w->feed, p);
	w->restart[p] = 0;
	w->stamp[p] = 0;
	/* the session drops what an earlier life of it has sent */
	memset(&w->old_ack[p], 0, sizeof(w->old_ack[p]));
	memset(&w->old_request[p], 0, sizeof(w->old_request[p]));
}

/* Bytes that nobody sent: as a frame, or as the body of an acknowledgement or request. */
static void
forge(struct world *w, unsigned p, unsigned what, struct rbuf *bytes)
{
	struct wire_request	 q;
	struct wire_ack		 a;
	struct wire_check	 c;
	struct wire_mend	 m;
	uint32_t		 stream = recv_stream(w->rc[p]);
	uint8_t			*exact;

	w->forged = true;
	switch (what) {
	case 0:
		exact = malloc(bytes->len + 1);
		check(exact != NULL);
		if (bytes->len > 0)
			memcpy(exact, bytes->p, bytes->len);
		(void)!recv_frame(w->rc[p], stream == 0 ? 1 : stream, exact, bytes->len,
		    w->now_us);
		free(exact);
		break;
	case 1:
		if (wire_get_ack(bytes, &a))
			feed_ack(w->feed, p, &a, w->now_us);
		break;
	case 2:
		if (wire_get_request(bytes, &q))
			feed_request(w->feed, p, &q, w->now_us);
		break;
	case 3:
		if (wire_get_check(bytes, &c))
			feed_check(w->feed, p, &c);
		break;
	default:
		if (wire_get_mend(bytes, &m))
			feed_mend(w->feed, p, &m);
		break;
	}
}

static void
peer_op(struct world *w, unsigned p, unsigned op, uint8_t arg)
{
	switch (op) {
	case 0:
		arrive_all(w, p);
		break;
	case 1:		/* one of the last, out of order or once more */
		arrive(w, p, &w->net[(w->sent - 1 - arg % 16) % NET], arg & 0x80);
		break;
	case 2:
		acknowledge(w, p, arg & 1);
		break;
	case 3:
		ask(w, p);
		break;
	case 4:
		restart(w, p);
		break;
	case 5:		/* late ones */
		if (w->old_ack[p].stream != 0)
			feed_ack(w->feed, p, &w->old_ack[p], w->now_us);
		if (w->old_request[p].nonce != 0 && (arg & 1))
			feed_request(w->feed, p, &w->old_request[p], w->now_us);
		break;
	case 6:
		(void)recv_run(w->rc[p], arg % 8, w->now_us);
		recv_silence(w->rc[p], w->now_us);
		w->stamp[p] = w->now_us;
		break;
	default:	/* seldom things */
		if (arg % 16 == 0)
			feed_leave(w->feed, p);
		else if (arg % 16 == 1)
			recv_resync(w->rc[p]);
		else if (arg % 16 == 2)
			new_receiver(w, p);
		else if (arg % 16 == 3)
			feed_forget(w->feed, p);
		else if (arg % 16 == 4)
			recv_flush(w->rc[p]);
		else if (arg % 16 == 5)
			rot(w, p, arg >> 4);
		break;
	}
}

/* One operation: a byte of what, a byte of how. */
static void
operate(struct world *w, uint8_t op, uint8_t arg, struct rbuf *in)
{
	unsigned	 p = op >> 7;
	struct rbuf	 bytes;

	switch (op & 0x70) {
	case 0x00:
	case 0x10:
		if (op & 0x0f)
			put(w, arg % KEYS, op & 0x1fu, (arg >> 6) % 3);
		else
			del(w, arg % KEYS);
		break;
	case 0x20:
		w->now_us += (uint64_t)arg << (op & 0x0f);
		break;
	case 0x30:
		(void)feed_run(w->feed, w->now_us, arg % 8, op & 1);
		break;
	case 0x40:
		if (op & 0x0f)
			break;
		feed_set_complete(w->feed);
		break;
	case 0x50:
		if ((op & 0x0f) < 5 && rbuf_sub(in, arg < in->len ? arg : in->len, &bytes))
			forge(w, p, op & 0x0fu, &bytes);
		break;
	default:
		peer_op(w, p, op & 7u, arg);
		break;
	}
}

/* --- the end -------------------------------------------------------------- */

static bool
equal(const struct world *w, unsigned p)
{
	struct ftab	*t = recv_table(w->rc[p]);
	uint8_t		 body[FLOW_BODY_MAX];
	const uint8_t	*got;
	size_t		 len, glen, klen;
	uint32_t	 h, n = 0;
	unsigned	 k;

	for (k = 0; k < KEYS; k++) {
		if (w->mark[k] == 0)
			continue;
		n++;
		len = body_of(k, w->mark[k], body);
		klen = flow_key_len(body, len);
		h = ftab_find(t, ftab_hash(t, body, klen), body, klen);
		if (h == FTAB_NIL)
			return false;
		got = ftab_body(t, h, &glen);
		if (glen != len || memcmp(got, body, len) != 0)
			return false;
	}
	return n == ftab_count(t) && recv_in_sync(w->rc[p], w->now_us);
}

/* Nothing is lost any more: how long until both are equal?  False: never. */
static bool
peace(struct world *w)
{
	unsigned	 i, p, n;

	feed_set_complete(w->feed);
	for (i = 0; i < PEACE_STEPS; i++) {
		w->now_us += 10000;
		for (p = n = 0; p < PEERS; p++) {
			restart(w, p);
			ask(w, p);
			(void)feed_run(w->feed, w->now_us, NET / 4, false);
			arrive_all(w, p);
			acknowledge(w, p, false);
			(void)recv_run(w->rc[p], 50, w->now_us);
			recv_silence(w->rc[p], w->now_us);
			if (i % 10 == 0)
				w->stamp[p] = w->now_us;
			n += equal(w, p);
		}
		if (n == PEERS)
			return true;
	}
	return false;
}

static void
check_feed(const struct world *w)
{
	uint32_t	 h, live = 0;
	unsigned	 k, n = 0;

	for (k = 0; k < KEYS; k++)
		n += w->mark[k] != 0;
	for (h = feed_next(w->feed, FTAB_NIL); h != FTAB_NIL; h = feed_next(w->feed, h))
		live++;
	check(live == n && feed_flows(w->feed) == n);
	check(ftab_count(feed_table(w->feed)) == n + feed_tombs(w->feed));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world	 w;
	struct feed_conf	 c = { .epoch = 9, .digest_key = dkey, .table_key = { { 3, 4 } },
				    .max_flows = 1000, .frame_bytes = FRAME_BYTES, .hold_us = 50000 };
	struct rbuf		 in;
	uint8_t			 op, arg;
	unsigned		 i, p;

	rbuf_init(&in, data, size);
	if (!rbuf_u8(&in, &op))
		return 0;
	memset(&w, 0, sizeof(w));
	w.now_us = 1000000;
	c.ring_frames = 1u << (op & 3);
	c.max_tombs = (op >> 2 & 3) * 4;
	w.feed = feed_new(&c, &ops, &w);
	check(w.feed != NULL);
	for (p = 0; p < PEERS; p++) {
		feed_set_peer_id(w.feed, p, p + 1);
		new_receiver(&w, p);
	}
	for (i = 0; i < OPS_MAX && rbuf_u8(&in, &op) && rbuf_u8(&in, &arg); i++)
		operate(&w, op, arg, &in);
	check_feed(&w);
	/* one who forges may also stop everything for as long as he likes */
	check(peace(&w) || w.forged);
	check_feed(&w);
	for (p = 0; p < PEERS; p++) {
		check(recv_stats(w.rc[p])->differed == 0 || w.forged || w.rotten);
		recv_free(w.rc[p]);
	}
	feed_free(w.feed);
	return 0;
}
