/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What counters of conntrack cost (nf_conntrack_acct): packets, entries,
 * events, dumps, each with and without.
 *
 *	ctlab-acctbench [-r ROUNDS]
 *
 * Needs root.  Two processes, each in a network namespace of its own, one with
 * and one without counters, take turns of some milliseconds; who begins changes
 * from round to round.  What is printed is the median of each side, and median
 * and quartiles of the ratios of such pairs of turns.  Times are CPU time of
 * the process, kernel and softirq included.  So other work on the machine
 * costs precision, but favours neither side.  Nothing here passes or fails.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctsync/kct.h"
#include "ctsync/kct_sys.h"

#define ROUNDS_MAX	1000u
#define BATCH		64
#define FLOWS		20000u		/* that packets are spread over */
#define PACKETS		3000u		/* of a turn */
#define NEW_FLOWS	300u		/* the same, of numbers that were not used before */
#define FIRST_NEW	100000u
#define ENTRIES		4000u		/* the same */
#define RCVBUF		(64u << 20)

/* What is measured, in the order of a round. */
enum figure {
	P_ONE, P_MANY, P_NEW, E_CREATE, E_DUMP, E_DELETE, E_CREATE_HEARD, E_READ, E_BYTES, FIGURES
};

static const char *const	 names[FIGURES] = {
	[P_ONE] = "packet of one flow, ns",
	[P_MANY] = "packet of one of 20,000 flows, ns",
	[P_NEW] = "packet that begins a flow, ns",
	[E_CREATE] = "create, nobody listens, ns",
	[E_DUMP] = "dump, ns",
	[E_DELETE] = "delete, nobody listens, ns",
	[E_CREATE_HEARD] = "create, somebody listens, ns",
	[E_READ] = "read and parse an end, ns",
	[E_BYTES] = "event of an end, bytes"
};

static double
cpu_ns(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
sh(const char *cmd)
{
	if (system(cmd) != 0)
		errx(1, "failed: %s", cmd);
}

/* A namespace of its own, in which everything has events, and counters or not. */
static void
fresh(bool acct)
{
	if (unshare(CLONE_NEWNET) == -1)
		err(1, "unshare");
	if (kct_sys_set("events", 1) < 0 || kct_sys_set("acct", acct) < 0)
		errx(1, "no sysctls of conntrack");
}

/* --- packets --------------------------------------------------------------------- */

/*
 * Frames go into s1, come out of s0, are forwarded to d0, and end when they
 * come out of d1.
 */
static int
open_path(struct sockaddr_ll *to)
{
	int	 fd, one = 1;

	sh("ip link add s0 address 02:00:00:00:00:01 type veth peer name s1 && "
	    "ip link add d0 type veth peer name d1 address 02:00:00:00:00:02 && "
	    "for i in s0 s1 d0 d1; do ip link set $i up; done && "
	    "ip addr add 10.1.255.1/16 dev s0 && ip addr add 10.2.0.1/24 dev d0 && "
	    "ip neigh add 10.2.0.2 lladdr 02:00:00:00:00:02 dev d0 && "
	    "echo 1 >/proc/sys/net/ipv4/ip_forward && "
	    "echo 0 >/proc/sys/net/ipv4/conf/s0/rp_filter && "
	    "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter && "
	    "nft 'table ip t { chain end { type filter hook prerouting priority -300; "
	    "iifname d1 counter drop; }; chain pass { type filter hook forward priority 0; "
	    "ct state invalid drop; ct state new,established accept; }; }'");
	if ((fd = socket(AF_PACKET, SOCK_RAW, 0)) == -1)
		err(1, "packet socket");
	(void)setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	memset(to, 0, sizeof(*to));
	to->sll_family = AF_PACKET;
	to->sll_ifindex = (int)if_nametoindex("s1");
	to->sll_halen = 6;
	return fd;
}

struct frame {
	struct ether_header	 eth;
	struct iphdr		 ip;
	struct udphdr		 udp;
	uint8_t			 data[22];
} __attribute__((packed));

static uint16_t
ip_sum(const struct iphdr *ip)
{
	uint16_t	 w[10];
	uint32_t	 sum = 0;
	unsigned	 i;

	memcpy(w, ip, sizeof(w));
	for (i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

static void
make_frame(struct frame *f, uint32_t flow)
{
	static const uint8_t	 to[6] = { 2, 0, 0, 0, 0, 1 }, from[6] = { 2, 0, 0, 0, 0, 9 };
	struct iphdr		 ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
		.tot_len = htons(sizeof(*f) - sizeof(f->eth)),
		.saddr = htonl(0x0a010000 + flow / 1000), .daddr = htonl(0x0a020002)
	};

	ip.check = ip_sum(&ip);
	memset(f, 0, sizeof(*f));
	memcpy(f->eth.ether_dhost, to, 6);
	memcpy(f->eth.ether_shost, from, 6);
	f->eth.ether_type = htons(ETHERTYPE_IP);
	f->ip = ip;
	f->udp.uh_sport = htons((uint16_t)(2000 + flow % 1000));
	f->udp.uh_dport = htons(53);
	f->udp.uh_ulen = htons(sizeof(f->udp) + sizeof(f->data));
}

static int			 packet_fd;
static struct sockaddr_ll	 packet_to;

/* n packets of flows from first on, the same again after so many: CPU time of each in ns. */
static double
send_packets(uint32_t n, uint32_t first, uint32_t flows)
{
	static struct frame	 f[BATCH];
	static struct iovec	 iov[BATCH];
	static struct mmsghdr	 m[BATCH];
	double			 start = cpu_ns();
	uint32_t		 done = 0, i, k;
	int			 sent;

	for (k = 0; k < BATCH; k++) {
		iov[k] = (struct iovec){ &f[k], sizeof(f[k]) };
		m[k].msg_hdr = (struct msghdr){ .msg_name = &packet_to,
		    .msg_namelen = sizeof(packet_to), .msg_iov = &iov[k], .msg_iovlen = 1 };
	}
	while (done < n) {
		k = n - done < BATCH ? n - done : BATCH;
		for (i = 0; i < k; i++)
			make_frame(&f[i], first + (done + i) % flows);
		if ((sent = sendmmsg(packet_fd, m, k, 0)) > 0)
			done += (uint32_t)sent;
		else if (errno != ENOBUFS && errno != EAGAIN)
			err(1, "send");
	}
	return (cpu_ns() - start) / n;
}

/* All that was sent has been forwarded. */
static void
check_passed(void)
{
	FILE			*p = popen("nft list chain ip t end", "r");
	char			 line[256];
	unsigned long long	 n = 0;

	while (p != NULL && fgets(line, sizeof(line), p) != NULL)
		if (strstr(line, "packets ") != NULL)
			n = strtoull(strstr(line, "packets ") + 8, NULL, 10);
	if (p == NULL || pclose(p) != 0 || n < FLOWS)
		errx(1, "only %llu of %u packets passed", n, FLOWS);
}

static void
prepare_packets(void)
{
	uint32_t	 count = 0;

	packet_fd = open_path(&packet_to);
	(void)send_packets(FLOWS, 0, FLOWS);
	if (kct_sys_get("count", &count) < 0 || count < FLOWS)
		errx(1, "only %u entries", count);
	check_passed();
}

static double
turn_of_packets(enum figure what)
{
	static uint32_t	 first_new = FIRST_NEW, at;

	if (what == P_NEW) {
		first_new += NEW_FLOWS;
		return send_packets(NEW_FLOWS, first_new, NEW_FLOWS);
	}
	if (what == P_ONE)
		return send_packets(PACKETS, 0, 1);
	at = (at + PACKETS) % (FLOWS - PACKETS);
	return send_packets(PACKETS, at, PACKETS);
}

/* --- entries --------------------------------------------------------------------- */

static struct ev_loop	*loop, *quiet;		/* the second one never runs */
static struct kct_writer	*writer;
static unsigned		 jobs_out;
static uint64_t		 seen, dumped, counted;
static bool		 dump_over;

static void
job_done(void *ctx, const struct kct_result *res)
{
	(void)ctx;
	if (res->done != res->items)
		errx(1, "%u of %u entries failed", res->items - res->done, res->items);
	jobs_out--;
}

static void
make_flow(struct flow *f, uint32_t i)
{
	uint32_t	 src = htonl(0x0a000000 + i / 50000 + 1), dst = htonl(0xc6120000 + i % 16384);

	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = IPPROTO_TCP;
	memcpy(f->orig.src.b, &src, 4);
	memcpy(f->orig.dst.b, &dst, 4);
	f->orig.l4src = (uint16_t)(1024 + i % 50000);
	f->orig.l4dst = 443;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f->tcp_state = FLOW_TCP_ESTABLISHED;
	f->timeout_s = 86400;
	f->has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK |
	    FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

/* All entries through the writer: CPU time of each in ns. */
static double
write_all(enum kct_op op)
{
	double		 start = cpu_ns();
	uint8_t		 body[FLOW_BODY_OWN_MAX];
	struct kct_job	*j = NULL;
	struct flow	 f;
	uint32_t	 i;

	for (i = 0; i < ENTRIES; i++) {
		if (j == NULL && (j = kct_job_new(op, 0, job_done, NULL)) == NULL)
			errx(1, "out of memory");
		make_flow(&f, i);
		if (kct_job_add(j, body, flow_pack(&f, body, sizeof(body)),
		    op == KCT_DELETE ? 0 : f.timeout_s) < 0)
			errx(1, "kct_job_add");
		if (kct_job_items(j) < KCT_JOB_ITEMS && i != ENTRIES - 1)
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
	return (cpu_ns() - start) / ENTRIES;
}

static void
on_events(void *ctx, const struct kct_event *e, size_t n)
{
	size_t	 i;

	(void)ctx;
	seen += n;
	for (i = 0; i < n; i++)
		counted += (e[i].flow.has & FLOW_HAS_PACKETS) != 0;
}

static void
on_overrun(void *ctx)
{
	(void)ctx;
	errx(1, "overrun: fewer entries, please");
}

static void
dump_flows(void *ctx, const struct flow *f, size_t n)
{
	(void)ctx;
	(void)f;
	dumped += n;
}

static void
dump_done(void *ctx, int rc, const struct kct_dump_result *res)
{
	(void)ctx;
	(void)res;
	if (rc < 0)
		errx(1, "dump: %s", strerror(-rc));
	dump_over = true;
}

static double
dump_all(void)
{
	static const struct kct_dump_ops	 ops = { .flows = dump_flows, .done = dump_done };
	struct kct_dump_conf			 conf;
	struct kct_dump				*d;
	double					 start = cpu_ns();
	int					 rc;

	dumped = 0;
	dump_over = false;
	memset(&conf, 0, sizeof(conf));
	if ((d = kct_dump_start(loop, &conf, &ops, NULL, &rc)) == NULL)
		errx(1, "dump: %s", strerror(-rc));
	while (!dump_over)
		ev_run(loop, EVRUN_ONCE);
	kct_dump_free(d);
	if (dumped < ENTRIES)
		errx(1, "%llu entries in the dump", (unsigned long long)dumped);
	return (cpu_ns() - start) / ENTRIES;
}

static struct kct_reader *
listen_to(struct ev_loop *l, const uint32_t *ignore, size_t nignore)
{
	static const struct kct_event_ops	 ops = { .events = on_events, .overrun = on_overrun };
	struct kct_event_conf			 conf = { .rcvbuf_bytes = RCVBUF,
						    .ignore = ignore, .nignore = nignore };
	struct kct_reader			*r;
	int					 rc;

	if ((r = kct_event_open(l, &conf, &ops, NULL, &rc)) == NULL)
		errx(1, "events: %s", strerror(-rc));
	return r;
}

static void
prepare_entries(void)
{
	int	 rc;

	loop = ev_loop_new(EVFLAG_AUTO);
	quiet = ev_loop_new(EVFLAG_AUTO);
	if ((writer = kct_writer_open(loop, &rc)) == NULL)
		errx(1, "writer: %s", strerror(-rc));
}

/* Events wait until all are there, so that nothing but reading is measured. */
static double
read_ends(bool acct, double *bytes)
{
	struct kct_reader	*r = listen_to(quiet, NULL, 0);
	double			 start;

	seen = counted = 0;
	(void)write_all(KCT_DELETE);
	start = cpu_ns();
	while (seen < ENTRIES)
		kct_event_poke(r);
	start = cpu_ns() - start;
	if (counted != (acct ? ENTRIES : 0))
		errx(1, "%llu ends with counters", (unsigned long long)counted);
	*bytes = (double)kct_event_stats(r)->bytes / ENTRIES;
	kct_event_close(r);
	return start / ENTRIES;
}

/* Each one finds the table as the one before has left it. */
static double
turn_of_entries(enum figure what, bool acct)
{
	static double		 bytes;
	struct kct_reader	*r;
	uint32_t		 id = kct_writer_portid(writer);
	double			 v;

	switch (what) {
	case E_CREATE:
		return write_all(KCT_CREATE);
	case E_DUMP:
		return dump_all();
	case E_DELETE:
		return write_all(KCT_DELETE);
	case E_CREATE_HEARD:		/* as in a daemon: its own changes are filtered */
		r = listen_to(loop, &id, 1);
		v = write_all(KCT_CREATE);
		kct_event_close(r);
		return v;
	case E_READ:
		return read_ends(acct, &bytes);
	default:
		return bytes;
	}
}

/* --- two sides ------------------------------------------------------------------- */

struct side {
	int	 ask, answer;		/* pipes */
	pid_t	 pid;
};

/* Answer what is asked until nobody asks any more. */
static void
serve(int ask, int answer, bool packets, bool acct)
{
	double	 v;
	uint8_t	 what;

	fresh(acct);
	if (packets)
		prepare_packets();
	else
		prepare_entries();
	while (read(ask, &what, 1) == 1) {
		v = packets ? turn_of_packets(what) : turn_of_entries(what, acct);
		if (write(answer, &v, sizeof(v)) != sizeof(v))
			err(1, "write");
	}
	_exit(0);
}

static void
start(struct side *s, bool packets, bool acct)
{
	int	 to[2], from[2];

	if (pipe2(to, O_CLOEXEC) == -1 || pipe2(from, O_CLOEXEC) == -1 || (s->pid = fork()) == -1)
		err(1, "fork");
	if (s->pid == 0) {
		close(to[1]);
		close(from[0]);
		serve(to[0], from[1], packets, acct);
	}
	close(to[0]);
	close(from[1]);
	s->ask = to[1];
	s->answer = from[0];
}

static double
turn(const struct side *s, enum figure what)
{
	uint8_t	 c = (uint8_t)what;
	double	 v;

	if (write(s->ask, &c, 1) != 1 || read(s->answer, &v, sizeof(v)) != sizeof(v))
		errx(1, "a measurement failed");
	return v;
}

static int
by_value(const void *a, const void *b)
{
	double	 x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double	 got[2][FIGURES][ROUNDS_MAX], ratio[ROUNDS_MAX];

static void
print_figure(enum figure k, unsigned rounds)
{
	unsigned	 i;

	for (i = 0; i < rounds; i++)
		ratio[i] = got[1][k][i] / got[0][k][i];
	qsort(ratio, rounds, sizeof(ratio[0]), by_value);
	qsort(got[0][k], rounds, sizeof(ratio[0]), by_value);
	qsort(got[1][k], rounds, sizeof(ratio[0]), by_value);
	printf("%-36s %8.0f %8.0f   %5.3f   %5.3f - %5.3f\n", names[k], got[0][k][rounds / 2],
	    got[1][k][rounds / 2], ratio[rounds / 2], ratio[rounds / 4], ratio[rounds * 3 / 4]);
	fflush(stdout);
}

/* Figures from first to last; the first rounds warm up and do not count. */
static void
bench(enum figure first, enum figure last, unsigned rounds)
{
	struct side	 s[2];
	unsigned	 i, k, warm = 3;
	double		 one, two;

	for (i = 0; i < 2; i++)
		start(&s[i], first == P_ONE, i == 1);
	for (i = 0; i < rounds + warm; i++)
		for (k = first; k <= last; k++) {
			one = turn(&s[i % 2], k);
			two = turn(&s[1 - i % 2], k);
			if (i < warm)
				continue;
			got[i % 2][k][i - warm] = one;
			got[1 - i % 2][k][i - warm] = two;
		}
	for (i = 0; i < 2; i++) {
		close(s[i].ask);
		close(s[i].answer);
	}
	for (i = 0; i < 2; i++)
		(void)waitpid(s[i].pid, NULL, 0);
	for (k = first; k <= last; k++)
		print_figure(k, rounds);
}

int
main(int argc, char **argv)
{
	unsigned long	 rounds = 200;
	int		 c;

	while ((c = getopt(argc, argv, "r:")) != -1) {
		if (c != 'r' || (rounds = strtoul(optarg, NULL, 10)) == 0 || rounds > ROUNDS_MAX)
			errx(2, "usage: ctlab-acctbench [-r ROUNDS]   (1 to %u)", ROUNDS_MAX);
	}
	printf("%-36s %8s %8s   %5s   quartiles\n", "", "without", "with", "ratio");
	fflush(stdout);
	bench(P_ONE, P_NEW, (unsigned)rounds);
	bench(E_CREATE, E_BYTES, (unsigned)rounds);
	return 0;
}
