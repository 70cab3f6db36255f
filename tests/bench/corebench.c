/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What knowing costs: the price of a digest, of a version and of an
 * acknowledgement, each by itself, in nanoseconds of CPU time.
 *
 *   ctlab-corebench [FLOWS]
 *
 * Prints one JSON object.  digest_ns: the keyed hash over a body that has just
 * been copied, as a frame does.  version_ns: an entry of a table that does not
 * fit into the caches leaves its place in the order of versions and goes to the
 * tail, without the prefetching that events get.  ack_ns: a signal with an
 * acknowledgement is made, sealed, sent over a socket, received, opened and
 * parsed.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctsync/feed.h"
#include "ctsync/flow.h"
#include "ctsync/seal.h"
#include "ctsync/wire.h"

#define ACKS	200000u

static void
die(const char *what)
{
	fprintf(stderr, "ctlab-corebench: %s failed\n", what);
	exit(1);
}

static uint64_t
cpu_ns(void)
{
	struct timespec	 ts;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) < 0)
		die("clock_gettime");
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- table --------------------------------------------------------------------- */

static void
op_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	(void)ctx;
	(void)peers;
	(void)stream;
	(void)frame;
	(void)len;
}

static void
op_restart(void *ctx, unsigned peer, uint32_t stream)
{
	(void)ctx;
	(void)peer;
	(void)stream;
}

static void
op_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w)
{
	(void)ctx;
	(void)peers;
	(void)pending_us;
	(void)w;
}

static const struct feed_ops	ops = { op_send, op_restart, op_trailer };

static struct feed *
filled(uint32_t flows)
{
	struct feed_conf	 c = { .epoch = 1, .digest_key = { { 1, 2 } }, .table_key = { { 3, 4 } },
				    .max_flows = UINT32_MAX, .frame_bytes = 1400 };
	struct feed		*f = feed_new(&c, &ops, NULL);
	struct flow		 fl;
	uint8_t			 body[FLOW_BODY_MAX];
	uint32_t		 i, h;
	size_t			 len;

	if (f == NULL)
		die("feed_new");
	memset(&fl, 0, sizeof(fl));
	fl.family = AF_INET;
	fl.proto = IPPROTO_TCP;
	fl.status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_SRC_NAT |
	    FLOW_S_SRC_NAT_DONE;
	fl.tcp_state = FLOW_TCP_ESTABLISHED;
	for (i = 0; i < flows; i++) {
		memcpy(fl.orig.src.b, &i, sizeof(i));
		fl.orig.l4dst = 443;
		flow_tuple_invert(fl.family, fl.proto, &fl.orig, &fl.reply);
		fl.reply.dst.b[0] = 203;
		fl.reply.l4dst = (uint16_t)i;
		len = flow_pack(&fl, body, sizeof(body));
		if (feed_put(f, ftab_hash(feed_table(f), body, flow_key_len(body, len)), body, len,
		    60, 0, 1, &h) < 0)
			die("feed_put");
	}
	return f;
}

/* Copy the bodies of some entries, and hash the copies or not; nanoseconds in all. */
static uint64_t
copy_bodies(struct feed *f, uint32_t flows, bool hash)
{
	static const struct sipkey	 key = { { 1, 2 } };
	static uint8_t			 frame[FLOW_BODY_MAX];
	uint64_t			 began = cpu_ns(), sum = 0;
	const uint8_t			*body;
	uint32_t			 i;
	size_t				 len;

	for (i = 1; i <= flows; i++) {
		body = ftab_body(feed_table(f), i, &len);
		memcpy(frame, body, len);
		sum += hash ? siphash13(&key, frame, len) : frame[len - 1] + 1u;
	}
	if (sum == 0)
		die("siphash13");
	return cpu_ns() - began;
}

static double
digest_ns(struct feed *f, uint32_t flows)
{
	uint64_t	 copied;

	(void)copy_bodies(f, flows, false);	/* the caches as the others find them */
	copied = copy_bodies(f, flows, false);
	return ((double)copy_bodies(f, flows, true) - (double)copied) / flows;
}

/* feed_touch() of emitted entries: emission is that of a first peer's stream, all at once. */
static double
version_ns(struct feed *f, uint32_t flows)
{
	struct wire_request	 q = { .nonce = 1 };
	struct wire_ack		 a = { .stream = 1 };
	uint64_t		 began, now = 1000;
	uint32_t		 i;

	feed_request(f, 0, &q, now);
	while (feed_unsent(f) > 0) {
		now += 10000;
		(void)feed_run(f, now, FEED_RING_FRAMES, true);
		a.seq += feed_in_flight(f, 0);
		feed_ack(f, 0, &a, now);
	}
	began = cpu_ns();
	for (i = 0; i < flows; i++)	/* each once, in no order that a cache would like */
		feed_touch(f, (uint32_t)((uint64_t)i * 2654435761u % flows) + 1, now);
	return (double)(cpu_ns() - began) / flows;
}

/* --- acknowledgement ------------------------------------------------------------- */

static int
loop_socket(struct sockaddr_in *to)
{
	socklen_t	 len = sizeof(*to);
	int		 fd = socket(AF_INET, SOCK_DGRAM, 0);

	memset(to, 0, sizeof(*to));
	to->sin_family = AF_INET;
	to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (const struct sockaddr *)to, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)to, &len) < 0)
		die("a socket on the loopback interface");
	return fd;
}

static size_t
put_ack(uint8_t *plain, size_t cap, uint32_t i)
{
	struct wire_dst		 dst = { 1, 2 };
	struct wire_probe	 p = { .flags = WIRE_PROBE_HEARD, .term = 1 };
	struct wire_ack		 a = { .stream = 1, .seq = i };
	struct wire_report	 r = { .stamp = i };
	struct wbuf		 w;

	wbuf_init(&w, plain, cap);
	wire_put_dst(&w, &dst);
	wire_put_probe(&w, &p);
	wire_put_ack(&w, &a);
	wire_put_report(&w, &r);
	return w.len;
}

static double
ack_ns(void)
{
	static const uint8_t	 secret[32] = "a secret of thirty-two bytes....";
	struct seal_secret	 s = { 1, secret, sizeof(secret) };
	struct seal_ring	*ring;
	struct seal_tx		*tx;
	struct seal_rx		*rx;
	struct seal_header	 sh;
	struct sockaddr_in	 to;
	uint8_t			 plain[512], sealed[1024], in[1024];
	struct rbuf		 rd, body;
	uint64_t		 began;
	ssize_t			 len;
	uint32_t		 i;
	uint8_t			 kind;
	int			 fd = loop_socket(&to);

	if (seal_ring_new(&ring, &s, 1, "bench") < 0 ||
	    seal_tx_new(&tx, ring, 1, 2, SEAL_AES256GCM) < 0 ||
	    seal_rx_new(&rx, ring, 1, 2, 0, 0) < 0)
		die("sealing");
	began = cpu_ns();
	for (i = 1; i <= ACKS; i++) {
		len = seal_tx(tx, SEAL_DATA, 0, 0, plain, put_ack(plain, sizeof(plain), i), sealed,
		    sizeof(sealed));
		if (len < 0 || sendto(fd, sealed, (size_t)len, 0, (const struct sockaddr *)&to,
		    sizeof(to)) != len || recv(fd, sealed, sizeof(sealed), 0) != len ||
		    seal_header_parse(sealed, (size_t)len, &sh) < 0 ||
		    (len = seal_rx_open(rx, 0, &sh, sealed, (size_t)len, in, sizeof(in))) < 0)
			die("a datagram");
		rbuf_init(&rd, in, (size_t)len);
		while (wire_next(&rd, &kind, &body))
			;
	}
	began = cpu_ns() - began;
	close(fd);
	seal_tx_free(tx);
	seal_rx_free(rx);
	seal_ring_free(ring);
	return (double)began / ACKS;
}

int
main(int argc, char **argv)
{
	uint32_t	 flows = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 500000;
	struct feed	*f;
	double		 digest, version;

	if (flows == 0 || argc > 2) {
		fprintf(stderr, "usage: ctlab-corebench [FLOWS]\n");
		return 2;
	}
	f = filled(flows);
	digest = digest_ns(f, flows);
	version = version_ns(f, flows);
	feed_free(f);
	printf("{\"digest_ns\": %.1f, \"version_ns\": %.1f, \"ack_ns\": %.1f}\n", digest, version,
	    ack_ns());
	return 0;
}
