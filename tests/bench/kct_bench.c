/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the kernel side costs: parsing and building messages, and the writer
 * beside a minimal batched writer ("floor") on the same entries.
 *
 *	kct_bench [-n FLOWS] [-r ROUNDS]
 *
 * Runs in a network namespace of its own, as root.  One filtered listener
 * stands in it, as in a daemon.  Entries are TCP with source NAT.  Figures are
 * the best of the rounds; nothing here passes or fails.  FLOWS must fit into
 * nf_conntrack_max, which only the initial namespace can raise.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <ev.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/kct.h"
#include "ctsync/kct_sys.h"

#define FLOOR_BATCH	64
#define JOB		4096

static struct ev_loop		*loop;
static struct kct_writer	*writer;
static uint32_t			 nflows = 200000;
static unsigned			 jobs_out;
static uint64_t			 bad, seen;

static void
put32(struct flow_addr *a, uint32_t v)
{
	uint32_t	 be = htonl(v);

	memset(a, 0, sizeof(*a));
	memcpy(a->b, &be, sizeof(be));
}

static void
make_flow(struct flow *f, uint32_t i)
{
	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = IPPROTO_TCP;
	put32(&f->orig.src, 0x0a000000 + i / 50000 * 256 + 1);
	put32(&f->orig.dst, 0xc6120000 + i % 16384);
	f->orig.l4src = (uint16_t)(1024 + i % 50000);
	f->orig.l4dst = 443;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	put32(&f->reply.dst, 0xcb007100 + i / 50000);
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_SRC_NAT |
	    FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE;
	f->timeout_s = 432000;
	f->tcp_state = FLOW_TCP_ESTABLISHED;
	f->tcp_flags[0] = f->tcp_flags[1] = FLOW_TF_WINDOW_SCALE | FLOW_TF_SACK_PERM;
	f->tcp_wscale[0] = f->tcp_wscale[1] = 7;
	f->has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK |
	    FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

/* --- in memory --------------------------------------------------------------- */

static void
print_each(const char *what, uint64_t since_ns, size_t n, size_t bytes)
{
	printf("%-13s %6.3f us  (%zu bytes)\n", what,
	    (double)(clock_mono_ns() - since_ns) / 1e3 / (double)n, bytes);
}

static void
bench_messages(void)
{
	uint8_t			 buf[KCT_MSG_MAX], body[FLOW_BODY_OWN_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len = 0, blen, n = 2000000, i;
	uint64_t		 t;

	make_flow(&f, 7);
	t = clock_mono_ns();
	for (i = 0; i < n; i++) {
		f.orig.l4src = (uint16_t)i;
		len = kct_build_create(buf, sizeof(buf), (uint32_t)i, &f, KCT_LIBERAL);
	}
	print_each("build create", t, n, len);
	t = clock_mono_ns();
	for (i = 0; i < n; i++)
		bad += kct_parse(buf, len, &g, &type) < 0;
	print_each("parse it", t, n, len);
	blen = flow_pack(&f, body, sizeof(body));
	t = clock_mono_ns();
	for (i = 0; i < n; i++)
		bad += flow_unpack(body, blen, &g) < 0;
	print_each("unpack body", t, n, blen);
}

/* --- the floor --------------------------------------------------------------- */

static int
floor_open(void)
{
	struct sockaddr_nl	 sa = { .nl_family = AF_NETLINK };
	int			 fd, one = 1, size = 8 << 20;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (fd == -1 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1)
		err(1, "netlink");
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return fd;
}

static size_t
floor_build(enum kct_op op, uint8_t *p, size_t room, uint32_t seq, const struct flow *f)
{
	switch (op) {
	case KCT_CREATE:
		return kct_build_create(p, room, seq, f, KCT_LIBERAL);
	case KCT_TIMEOUT:
		return kct_build_timeout(p, room, seq, f);
	default:
		return kct_build_delete(p, room, seq, f);
	}
}

static void
floor_run(int fd, enum kct_op op)
{
	static uint8_t	 out[FLOOR_BATCH * KCT_MSG_MAX], in[4096];
	struct nlmsghdr	 h;
	struct flow	 f;
	size_t		 len = 0, last = 0;
	uint32_t	 i;

	for (i = 0; i < nflows; i++) {
		make_flow(&f, i);
		last = len;
		len += floor_build(op, out + len, sizeof(out) - len, i, &f);
		if ((i + 1) % FLOOR_BATCH != 0 && i != nflows - 1)
			continue;
		kct_msg_ack(out + last);
		if (send(fd, out, len, 0) == -1)
			err(1, "send");
		do {
			if (recv(fd, in, sizeof(in), 0) == -1)
				err(1, "recv");
			memcpy(&h, in, sizeof(h));
			bad += ((struct nlmsgerr *)(void *)(in + sizeof(h)))->error != 0;
		} while (h.nlmsg_seq != i);
		len = 0;
	}
}

/* --- the writer -------------------------------------------------------------- */

static void
job_done(void *ctx, const struct kct_result *res)
{
	(void)ctx;
	jobs_out--;
	bad += res->items - res->done;
}

static void
writer_run(enum kct_op op)
{
	uint8_t		 body[FLOW_BODY_OWN_MAX];
	struct flow	 f;
	struct kct_job	*j = NULL;
	uint32_t	 i;

	for (i = 0; i < nflows; i++) {
		if (j == NULL)
			j = kct_job_new(op, KCT_LIBERAL, job_done, NULL);
		make_flow(&f, i);
		if (kct_job_add(j, body, flow_pack(&f, body, sizeof(body)),
		    op == KCT_DELETE ? 0 : f.timeout_s) < 0)
			errx(1, "kct_job_add");
		if (kct_job_items(j) < JOB && i != nflows - 1)
			continue;
		while (kct_writer_room(writer) == 0)
			ev_run(loop, EVRUN_ONCE);
		if (kct_submit(writer, j) < 0)
			errx(1, "kct_submit");
		jobs_out++;
		j = NULL;
	}
	while (jobs_out > 0)
		ev_run(loop, EVRUN_ONCE);
}

/* --- events ------------------------------------------------------------------ */

static void
on_events(void *ctx, const struct kct_event *ev, size_t n)
{
	(void)ctx;
	(void)ev;
	seen += n;
}

static void
on_overrun(void *ctx)
{
	(void)ctx;
	printf("overrun\n");
}

static const struct kct_event_ops	 ops = { .events = on_events, .overrun = on_overrun };

/* The floor's writes, read as events: all at once, so that nothing else is measured. */
static void
bench_events(int fd)
{
	struct kct_event_conf	 conf = { .rcvbuf_bytes = 512u << 20 };
	struct kct_reader	*r;
	uint64_t		 t;
	int			 rc;

	if ((r = kct_event_open(loop, &conf, &ops, NULL, &rc)) == NULL)
		errx(1, "reader: %s", strerror(-rc));
	floor_run(fd, KCT_CREATE);
	t = clock_mono_ns();
	while (seen < nflows && kct_event_stats(r)->overruns == 0)
		kct_event_poke(r);
	t = clock_mono_ns() - t;
	printf("read event    %6.3f us  (%llu of %u, %llu bytes each)\n",
	    (double)t / 1e3 / (double)seen, (unsigned long long)seen, nflows,
	    (unsigned long long)(kct_event_stats(r)->bytes / seen));
	kct_event_close(r);
	floor_run(fd, KCT_DELETE);
}

struct figures {
	double	 create, timeout, del;
};

static double
lap(uint64_t *t)
{
	uint64_t	 now = clock_mono_ns();
	double		 us = (double)(now - *t) / 1e3 / nflows;

	*t = now;
	return us;
}

static void
least(double *best, double v)
{
	if (*best == 0 || v < *best)
		*best = v;
}

static void
bench_round(int fd, struct figures *fl, struct figures *wr)
{
	uint64_t	 t = clock_mono_ns();

	floor_run(fd, KCT_CREATE);
	least(&fl->create, lap(&t));
	floor_run(fd, KCT_TIMEOUT);
	least(&fl->timeout, lap(&t));
	floor_run(fd, KCT_DELETE);
	least(&fl->del, lap(&t));
	writer_run(KCT_CREATE);
	least(&wr->create, lap(&t));
	writer_run(KCT_TIMEOUT);
	least(&wr->timeout, lap(&t));
	writer_run(KCT_DELETE);
	least(&wr->del, lap(&t));
}

static void
print_row(const char *name, double fl, double wr)
{
	printf("%-8s floor %6.3f us  writer %6.3f us  ratio %.2f\n", name, fl, wr, wr / fl);
}

int
main(int argc, char **argv)
{
	struct kct_event_conf	 conf = { .rcvbuf_bytes = 1 << 20 };
	struct sockaddr_nl	 sa;
	socklen_t		 salen = sizeof(sa);
	struct kct_reader	*listener;
	struct figures		 fl = { 0, 0, 0 }, wr = { 0, 0, 0 };
	uint32_t		 ids[2];
	int			 c, fd, rc, rounds = 3;

	while ((c = getopt(argc, argv, "n:r:")) != -1) {
		if (c == 'n')
			nflows = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'r')
			rounds = atoi(optarg);
		else
			errx(2, "usage: kct_bench [-n FLOWS] [-r ROUNDS]");
	}
	bench_messages();
	if (unshare(CLONE_NEWNET) == -1)
		err(1, "unshare");
	loop = ev_loop_new(EVFLAG_AUTO);
	fd = floor_open();
	if (getsockname(fd, (struct sockaddr *)&sa, &salen) == -1)
		err(1, "getsockname");
	if ((writer = kct_writer_open(loop, &rc)) == NULL)
		errx(1, "writer: %s", strerror(-rc));
	bench_events(fd);
	ids[0] = sa.nl_pid;
	ids[1] = kct_writer_portid(writer);
	conf.ignore = ids;
	conf.nignore = 2;
	if ((listener = kct_event_open(loop, &conf, &ops, NULL, &rc)) == NULL)
		errx(1, "reader: %s", strerror(-rc));
	while (rounds-- > 0)
		bench_round(fd, &fl, &wr);
	print_row("create", fl.create, wr.create);
	print_row("timeout", fl.timeout, wr.timeout);
	print_row("delete", fl.del, wr.del);
	if (bad != 0)
		printf("%llu writes failed: is nf_conntrack_max large enough?\n",
		    (unsigned long long)bad);
	kct_event_close(listener);
	kct_writer_close(writer);
	ev_loop_destroy(loop);
	close(fd);
	return 0;
}
