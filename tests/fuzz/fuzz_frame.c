/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: one frame of a stream, as a peer with the key could send it.
 *
 * The first byte chooses in what state the receiver is: waiting for a start,
 * filling in, comparing, with a table that is nearly full, with an older
 * generation in it.  The rest is the frame without its sequence number.
 * Afterwards the books have to be right.
 */
#include <sys/socket.h>

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/recv.h"

#define NOW	5000000u
#define FLOWS	6u

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum state { WAITING, FILLING, COMPARING, NEARLY_FULL, SECOND_GENERATION, ASKING, TELLING,
	STATES };

static const struct sipkey	 dkey = { { 1, 2 } };

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
put_flow(struct wbuf *w, unsigned k, struct wire_digest *d)
{
	uint8_t		 body[FLOW_BODY_MAX];
	struct flow	 f;
	size_t		 len;

	memset(&f, 0, sizeof(f));
	f.family = k % 2 ? AF_INET : AF_INET6;
	f.proto = IPPROTO_UDP;
	f.orig.src.b[0] = 10;
	f.orig.dst.b[0] = 11;
	f.orig.l4src = (uint16_t)k;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED;
	len = flow_pack(&f, body, sizeof(body));
	wire_put_head(w, WIRE_FLOW, len + 4);
	wbuf_u32(w, 60);
	wbuf_bytes(w, body, len);
	d->sum += siphash13(&dkey, body, len);
	d->flows++;
}

static void
give(struct recv *r, uint32_t stream, const struct wbuf *w)
{
	check(wbuf_ok(w));
	check(recv_frame(r, stream, w->base, w->len, NOW) == 0);
}

/* Frames 1 and 2 of a stream: a new generation, some flows and, if whole, the end of backfill. */
static void
fill(struct recv *r, uint32_t stream, bool whole)
{
	struct wire_digest	 d = { 0, 0 };
	struct wire_here	 here = { { { 9, 9 } }, 9 };
	struct wire_back	 back = { { { 3, 3 } }, { { 9, 9 } } };
	struct wire_request	 q;
	struct wire_start	 st;
	uint8_t			 buf[1024];
	struct wbuf		 w;
	unsigned		 k;

	check(recv_request(r, &q, NOW));
	st = (struct wire_start){ q.nonce, WIRE_START_NEWGEN | WIRE_START_FULL, { { 9, 9 } } };
	wbuf_init(&w, buf, sizeof(buf));
	wbuf_u64(&w, 1);
	wire_put_start(&w, &st);
	wire_put_pos(&w, &here);
	wire_put_back(&w, &back);
	give(r, stream, &w);
	wbuf_init(&w, buf, sizeof(buf));
	wbuf_u64(&w, 2);
	for (k = 0; k < FLOWS; k++)
		put_flow(&w, k, &d);
	wire_put_pos(&w, &here);
	if (whole) {
		wire_put_horizon(&w, 9);
		wire_put_digest(&w, &d);
	} else
		wire_put_back(&w, &back);
	give(r, stream, &w);
}

/* A frame without flows, whose digest does not fit. */
static void
differ(struct recv *r, uint64_t seq, const struct wire_sums *s)
{
	struct wire_digest	 d = { 1, 1 };
	struct wire_here	 here = { { { 9, 9 } }, 9 };
	uint8_t			 buf[2048];
	struct wbuf		 w;

	wbuf_init(&w, buf, sizeof(buf));
	wbuf_u64(&w, seq);
	if (s != NULL && s->first == 0)
		wire_put_snap(&w, &s->of);
	if (s != NULL)
		wire_put_sums(&w, s);
	wire_put_pos(&w, &here);
	wire_put_digest(&w, &d);
	give(r, recv_stream(r), &w);
	while (recv_run(r, 100, NOW))
		;
}

/* On with a repair, of the buckets 0 to 127; the number of the next frame. */
static uint64_t
begin_repair(struct recv *r, bool telling)
{
	struct wire_sums	 s = { .of = { 5, 1 }, .n = WIRE_SUMS_MAX };
	struct wire_check	 c;
	struct wire_mend	 m;
	uint64_t		 seq = 3;

	differ(r, seq++, NULL);
	check(recv_check(r, &c) && c.nonce == 1);
	if (!telling)
		return seq;
	memset(s.sum, 1, sizeof(s.sum));
	for (; s.first < WIRE_BUCKETS; s.first = (uint16_t)(s.first + s.n)) {
		differ(r, seq++, &s);
		memset(s.sum, 0, sizeof(s.sum));	/* but those of a few flows, differ too */
	}
	check(recv_mend(r, &m) && m.of.nonce == 2);
	return seq;
}

/* Number of the next frame. */
static uint64_t
prepare(struct recv *r, enum state state)
{
	if (state == WAITING)
		return 1;
	fill(r, 1, state != FILLING);
	if (state == SECOND_GENERATION) {
		recv_resync(r);
		fill(r, 2, false);
	}
	if (state == ASKING || state == TELLING)
		return begin_repair(r, state == TELLING);
	return 3;
}

static void
check_books(const struct recv *r)
{
	const struct ftab_meta	*m;
	const struct ftab	*t = recv_table(r);
	uint64_t		 sum[256] = { 0 };
	uint32_t		 flows[256] = { 0 }, h, n = 0;
	unsigned		 g;
	bool			 found = false;

	for (h = ftab_next(t, FTAB_NIL); h != FTAB_NIL; h = ftab_next(t, h)) {
		m = ftab_meta(t, h);
		sum[m->gen] += m->digest;
		flows[m->gen]++;
		n++;
	}
	check(n == ftab_count(t));
	for (g = 0; g < 256; g++)
		found |= sum[g] == recv_digest(r).sum && flows[g] == recv_digest(r).flows;
	check(found);
}

/* What a daemon does between frames. */
static void
live_on(struct recv *r)
{
	struct wire_request	 q;
	struct wire_ack		 a[2];
	unsigned		 n, i;
	uint64_t		 now;

	n = recv_acks(r, a);
	for (i = 0; i < n; i++)
		check(a[i].stream != 0 && a[i].ngaps <= WIRE_GAPS_MAX);
	check_books(r);
	for (now = NOW; now < NOW + 20000000; now += 500000) {
		while (recv_run(r, 3, now))
			;
		recv_silence(r, now);
		(void)recv_in_sync(r, now);
	}
	check_books(r);
	/* whatever it was told: it is on a stream or asks for one */
	check(recv_stream(r) != 0 || recv_request(r, &q, now));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recv_conf	 c = { .table_key = { { 3, 4 } }, .my_id = 5, .my_epoch = 1 };
	struct wire_request	 q;
	struct recv		*r;
	uint8_t			*frame;
	struct wbuf		 w;
	enum state		 state;

	if (size < 1 || size > 4096)
		return 0;
	state = data[0] % STATES;
	c.max_flows = state == NEARLY_FULL ? FLOWS + 1 : 100;
	frame = malloc(WIRE_SEQ_BYTES + size - 1);
	r = recv_new(&c);
	check(frame != NULL && r != NULL);
	recv_epoch(r, 7, &dkey);
	check(recv_request(r, &q, NOW) && q.nonce == 1);
	wbuf_init(&w, frame, WIRE_SEQ_BYTES + size - 1);
	wbuf_u64(&w, prepare(r, state));
	wbuf_bytes(&w, data + 1, size - 1);
	(void)!recv_frame(r, state == WAITING ? 1 : recv_stream(r), frame, w.len, NOW);
	live_on(r);
	recv_free(r);
	free(frame);
	return 0;
}
