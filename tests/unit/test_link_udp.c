/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * UDP links over a loopback of their own: each test runs in a new network
 * namespace (skipped without the privilege to make one).  Conditions are
 * waited for in the loop, with a limit.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ev.h>

#include "ctsync/link_udp.h"
#include "ctsync/log.h"

#define PORT_A	3790
#define PORT_B	3791
#define SKIP	77
/* With the other end up, so that it has a carrier. */
#define SYNC0	"ip link add sync0 type veth peer name sync1 && ip link set sync1 up"

struct end {
	struct link_udp	*link;
	unsigned int	 got;
	unsigned int	 next;		/* number that the next datagram should have */
	unsigned int	 disorder;
	int		 peer_index;
	size_t		 len;
	bool		 echo;
};

static struct ev_loop	*loop;
static char		 err[256];

static void
sh(const char *cmd)
{
	ck_assert_msg(system(cmd) == 0, "%s", cmd);
}

static void
setup(void)
{
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	sh("ip link set lo up mtu 1500");
	log_init(LOG_ERR);
	loop = ev_loop_new(EVFLAG_AUTO);
	ck_assert_ptr_nonnull(loop);
}

static void
teardown(void)
{
	ev_loop_destroy(loop);
}

static struct sockaddr_storage
addr(const char *ip, uint16_t port)
{
	struct sockaddr_storage	 ss;
	struct sockaddr_in	*s4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6	*s6 = (struct sockaddr_in6 *)&ss;

	memset(&ss, 0, sizeof(ss));
	if (inet_pton(AF_INET, ip, &s4->sin_addr) == 1) {
		ss.ss_family = AF_INET;
		s4->sin_port = htons(port);
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, ip, &s6->sin6_addr), 1);
		ss.ss_family = AF_INET6;
		s6->sin6_port = htons(port);
	}
	return ss;
}

static void
on_rx(void *ctx, struct link_udp *link, int peer_index, const uint8_t *buf, size_t len)
{
	struct end	*e = ctx;
	unsigned int	 n = 0;

	ck_assert_ptr_eq(link, e->link);
	e->got++;
	e->peer_index = peer_index;
	e->len = len;
	if (len >= sizeof(n)) {
		memcpy(&n, buf, sizeof(n));
		if (n != e->next)
			e->disorder++;
		e->next = n + 1;
	}
	if (e->echo)
		ck_assert_int_eq(link_udp_send(link, peer_index, buf, len), 0);
}

static struct link_udp_config
config(struct end *e, const char *local, uint16_t port, const struct sockaddr_storage *peers,
    size_t n)
{
	return (struct link_udp_config){
		.name = "ha0", .local = addr(local, 0), .port = port, .peers = peers,
		.n_peers = n, .rcvbuf_bytes = 1 << 20, .sndbuf_bytes = 1 << 20,
		.max_payload = 1400, .rx = on_rx, .ctx = e
	};
}

static void
open_end(struct end *e, const char *local, uint16_t port, const char *peer, uint16_t peer_port)
{
	struct sockaddr_storage	 to = addr(peer, peer_port);
	struct link_udp_config	 cfg = config(e, local, port, &to, 1);
	int			 rc = link_udp_new(&e->link, loop, &cfg, err, sizeof(err));

	ck_assert_msg(rc == 0 && err[0] == '\0', "%d %s", rc, err);
	ck_assert(link_udp_up(e->link));
}

static struct link_udp_stats
stats_of(struct end *e)
{
	struct link_udp_stats	 st;

	link_udp_stats(e->link, &st);
	return st;
}

static void
on_limit(struct ev_loop *lp, ev_timer *w, int revents)
{
	(void)revents;
	w->data = w;
	ev_break(lp, EVBREAK_ONE);
}

/* Run the loop until *value is at least want; no longer than limit_s. */
static bool
wait_for(const unsigned int *value, unsigned int want, double limit_s)
{
	ev_timer	 t;

	ev_timer_init(&t, on_limit, limit_s, 0.);
	t.data = NULL;
	ev_timer_start(loop, &t);
	while (*value < want && t.data == NULL)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &t);
	return *value >= want;
}

static bool
wait_up(struct end *e, bool up, double limit_s)
{
	double	 until = ev_time() + limit_s;

	while (link_udp_up(e->link) != up && ev_time() < until)
		ev_run(loop, EVRUN_ONCE);
	return link_udp_up(e->link) == up;
}

static void
run_for(double s)
{
	static const unsigned int	 never;

	wait_for(&never, 1, s);
}

/* A plain socket of somebody, bound to ip and port if port is not 0. */
static int
plain_socket(const char *ip, uint16_t port, int ttl)
{
	struct sockaddr_storage	 ss = addr(ip, port);
	int			 fd = socket(ss.ss_family, SOCK_DGRAM, 0);

	ck_assert_int_ge(fd, 0);
	if (ss.ss_family == AF_INET)
		ck_assert_int_eq(setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)), 0);
	else
		ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl,
		    sizeof(ttl)), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, sizeof(ss)), 0);
	return fd;
}

static void
send_plain(int fd, const char *ip, uint16_t port)
{
	struct sockaddr_storage	 ss = addr(ip, port);

	ck_assert_int_eq(sendto(fd, "x", 1, 0, (struct sockaddr *)&ss, sizeof(ss)), 1);
}

static const struct pair {
	const char	*a, *b;
} pairs[] = { { "127.0.0.1", "127.0.0.2" }, { "::1", "::1" } };

START_TEST(test_both_ways)
{
	struct end		 a = { 0 }, b = { .echo = true };
	struct link_udp_stats	 st;
	struct iovec		 iov[300];
	unsigned int		 n[300], i;

	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	open_end(&b, pairs[_i].b, PORT_B, pairs[_i].a, PORT_A);
	for (i = 0; i < 300; i++) {
		n[i] = i;
		iov[i] = (struct iovec){ &n[i], sizeof(n[i]) };
	}
	ck_assert_int_eq(link_udp_sendv(a.link, 0, iov, 300), 300);
	ck_assert(wait_for(&a.got, 300, 5));
	ck_assert_uint_eq(b.got, 300);
	ck_assert_uint_eq(a.disorder + b.disorder, 0);
	ck_assert_int_eq(a.peer_index, 0);
	st = stats_of(&a);
	ck_assert_uint_eq(st.tx_packets, 300);
	ck_assert_uint_eq(st.tx_bytes, 1200);
	ck_assert_uint_eq(st.rx_packets, 300);
	ck_assert_uint_eq(st.rx_bytes, 1200);
	ck_assert_uint_eq(st.unknown + st.rx_dropped + st.tx_errors + st.rx_errors, 0);
	link_udp_free(a.link);
	link_udp_free(b.link);
}
END_TEST

START_TEST(test_peers_are_told_apart)
{
	struct sockaddr_storage	 to[2] = { addr("127.0.0.2", 0), addr("127.0.0.3", 0) };
	struct end		 a = { 0 }, b = { 0 }, c = { 0 };
	struct link_udp_config	 cfg = config(&a, "127.0.0.1", PORT_A, to, 2);

	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	open_end(&b, "127.0.0.2", PORT_A, "127.0.0.1", 0);
	open_end(&c, "127.0.0.3", PORT_A, "127.0.0.1", 0);
	ck_assert_int_eq(link_udp_send(c.link, 0, "hi", 2), 0);
	ck_assert(wait_for(&a.got, 1, 5));
	ck_assert_int_eq(a.peer_index, 1);
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	ck_assert_int_eq(link_udp_send(a.link, 1, "you", 3), 0);
	ck_assert(wait_for(&b.got, 1, 5) && wait_for(&c.got, 1, 5));
	ck_assert_uint_eq(b.len, 2);
	ck_assert_uint_eq(c.len, 3);
	link_udp_free(a.link);
	link_udp_free(b.link);
	link_udp_free(c.link);
}
END_TEST

START_TEST(test_unknown_source)
{
	struct end	 a = { 0 }, b = { 0 };
	int		 fd = plain_socket(pairs[_i].a, 5000, 255), i;

	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	open_end(&b, pairs[_i].b, PORT_B, pairs[_i].a, PORT_A);
	log_init(LOG_EMERG);
	for (i = 0; i < 20000; i++)
		send_plain(fd, pairs[_i].a, PORT_A);
	/* The flood waits in the listener's buffer; the peer's own is free. */
	ck_assert_int_eq(link_udp_send(b.link, 0, "hi", 2), 0);
	ck_assert(wait_for(&a.got, 1, 5));
	for (i = 0; i < 100 && stats_of(&a).unknown < 20000; i++)
		run_for(0.05);
	ck_assert_uint_eq(stats_of(&a).unknown, 20000);
	ck_assert_uint_eq(stats_of(&a).rx_dropped, 0);
	ck_assert_uint_eq(a.got, 1);
	link_udp_free(a.link);
	link_udp_free(b.link);
	close(fd);
}
END_TEST

/* What a router passed on is dropped, though it says to come from the peer. */
START_TEST(test_ttl)
{
	struct end	 a = { 0 };
	int		 far, near;

	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	far = plain_socket(pairs[_i].b, PORT_B, 64);
	send_plain(far, pairs[_i].a, PORT_A);
	close(far);
	far = plain_socket(pairs[_i].b, PORT_B, 254);
	send_plain(far, pairs[_i].a, PORT_A);
	close(far);
	near = plain_socket(pairs[_i].b, PORT_B, 255);
	send_plain(near, pairs[_i].a, PORT_A);
	close(near);
	ck_assert(wait_for(&a.got, 1, 5));
	run_for(0.05);
	ck_assert_uint_eq(a.got, 1);
	ck_assert_uint_eq(stats_of(&a).rx_dropped, 2);
	link_udp_free(a.link);
}
END_TEST

/* And what we send says 255 and "do not fragment". */
START_TEST(test_sent_header)
{
	struct end		 a = { 0 };
	uint8_t			 p[128];
	struct ip		 ip;
	int			 raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);

	ck_assert_int_ge(raw, 0);
	open_end(&a, "127.0.0.1", PORT_A, "127.0.0.2", PORT_B);
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	ck_assert_int_eq(recv(raw, p, sizeof(p), 0), 30);
	memcpy(&ip, p, sizeof(ip));
	ck_assert_uint_eq(ip.ip_ttl, 255);
	ck_assert_uint_eq(ntohs(ip.ip_off), IP_DF);
	close(raw);
	link_udp_free(a.link);
}
END_TEST

START_TEST(test_occupied_port)
{
	struct sockaddr_storage	 to = addr(pairs[_i].b, PORT_B), me = addr(pairs[_i].a, PORT_A);
	struct end		 a = { 0 }, b = { 0 };
	struct link_udp_config	 cfg = config(&b, pairs[_i].a, PORT_A, &to, 1);
	int			 fd, on = 1;

	/* Another program, even one that would share. */
	fd = socket(me.ss_family, SOCK_DGRAM, 0);
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&me, sizeof(me)), 0);
	ck_assert_int_eq(link_udp_new(&b.link, loop, &cfg, err, sizeof(err)), -EADDRINUSE);
	ck_assert_ptr_null(b.link);
	ck_assert_ptr_nonnull(strstr(err, "link ha0: UDP port 3790"));
	ck_assert_ptr_nonnull(strstr(err, "in use"));
	close(fd);

	/* A second daemon; and nobody squeezes in beside us. */
	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	ck_assert_int_eq(link_udp_new(&b.link, loop, &cfg, err, sizeof(err)), -EADDRINUSE);
	fd = socket(me.ss_family, SOCK_DGRAM, 0);
	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&me, sizeof(me)), -1);
	ck_assert_int_eq(errno, EADDRINUSE);
	close(fd);
	link_udp_free(a.link);
	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	link_udp_free(a.link);
}
END_TEST

/* It may come, go and come back, under another number. */
START_TEST(test_interface_comes_and_goes)
{
	struct sockaddr_storage	 to = addr("10.9.9.2", 0);
	struct end		 a = { 0 };
	struct link_udp_config	 cfg = config(&a, "10.9.9.1", PORT_A, &to, 1);
	static const char	 make[] = SYNC0 " && ip addr add 10.9.9.1/24 dev sync0 && "
				    "ip link set sync0 up";

	cfg.interface = "sync0";
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_ptr_nonnull(a.link);
	ck_assert_str_eq(err, "link ha0: there is no interface sync0: create it or correct "
	    "\"interface\"");
	log_init(LOG_EMERG);
	ck_assert(!link_udp_up(a.link));
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), -ENETDOWN);
	sh(make);
	ck_assert(wait_up(&a, true, 5));
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	sh("ip link del sync0");
	/* Found by the next send or the next tick. */
	ck_assert(wait_up(&a, false, 5));
	sh("ip link add other type veth peer name other1");
	sh(make);
	ck_assert(wait_up(&a, true, 5));
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	ck_assert_uint_eq(stats_of(&a).opened, 2);
	link_udp_free(a.link);
}
END_TEST

/* Sending finds out that the address, or the interface, does not work any more. */
START_TEST(test_address_comes_and_goes)
{
	static const char *const	 out[] = { "ip addr del 10.9.9.1/24 dev sync0",
					    "ip link set sync0 down", "ip route del 10.9.9.0/24" };
	static const char *const	 in[] = { "ip addr add 10.9.9.1/24 dev sync0",
					    "ip link set sync0 up",
					    "ip route add 10.9.9.0/24 dev sync0" };
	struct sockaddr_storage		 to = addr("10.9.9.2", 0);
	struct end			 a = { 0 };
	struct link_udp_config		 cfg = config(&a, "10.9.9.1", PORT_A, &to, 1);

	sh(SYNC0 " && ip addr add 10.9.9.1/24 dev sync0 && "
	    "ip link set sync0 up");
	cfg.interface = _i == 1 ? "sync0" : NULL;
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_str_eq(err, "");
	log_init(LOG_EMERG);
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	sh(out[_i]);
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), -ENETDOWN);
	ck_assert(!link_udp_up(a.link));
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), -ENETDOWN);
	run_for(1.2);
	ck_assert(!link_udp_up(a.link));
	sh(in[_i]);
	ck_assert(wait_up(&a, true, 5));
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	link_udp_free(a.link);
}
END_TEST

START_TEST(test_missing_address)
{
	struct sockaddr_storage	 to = addr("10.9.9.2", 0);
	struct end		 a = { 0 };
	struct link_udp_config	 cfg = config(&a, "10.9.9.1", PORT_A, &to, 1);

	sh(SYNC0);
	sh("ip addr add 10.9.9.7/24 dev sync0");
	cfg.interface = "sync0";
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_str_eq(err, "link ha0: interface sync0 is down: bring it up");
	link_udp_free(a.link);
	sh("ip link set sync0 up");
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_str_eq(err, "link ha0: address 10.9.9.1 is not on this machine (interface sync0 "
	    "has 10.9.9.7): add it or correct \"local\"");
	ck_assert(!link_udp_up(a.link));
	link_udp_free(a.link);
}
END_TEST

/* One peer without a route does not keep the link from the other. */
START_TEST(test_no_route)
{
	struct sockaddr_storage	 to[2] = { addr("10.9.9.2", 0), addr("127.0.0.2", 0) };
	struct end		 a = { 0 };
	struct link_udp_config	 cfg = config(&a, "127.0.0.1", PORT_A, to, 2);

	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_ptr_nonnull(strstr(err, "no route to peer 10.9.9.2"));
	ck_assert(link_udp_up(a.link));
	ck_assert(!link_udp_peer_up(a.link, 0));
	ck_assert(link_udp_peer_up(a.link, 1));
	ck_assert_int_eq(link_udp_send(a.link, 1, "hi", 2), 0);
	link_udp_free(a.link);
}
END_TEST

START_TEST(test_refused_is_no_error)
{
	struct end	 a = { 0 }, b = { 0 };
	int		 i;

	open_end(&a, pairs[_i].a, PORT_A, pairs[_i].b, PORT_B);
	for (i = 0; i < 50; i++)
		ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	run_for(0.05);
	ck_assert_uint_gt(stats_of(&a).icmp_errors, 0);
	ck_assert_uint_eq(stats_of(&a).tx_errors + stats_of(&a).rx_errors, 0);
	open_end(&b, pairs[_i].b, PORT_B, pairs[_i].a, PORT_A);
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	ck_assert(wait_for(&b.got, 1, 5));
	link_udp_free(a.link);
	link_udp_free(b.link);
}
END_TEST

/* "Fragmentation needed" or "unreachable", as anybody could forge it. */
START_TEST(test_forged_icmp)
{
	struct {
		struct icmphdr	 icmp;
		struct ip	 ip;
		struct udphdr	 udp;
	} p;
	static const uint8_t	 codes[] = { ICMP_FRAG_NEEDED, ICMP_NET_UNKNOWN, ICMP_PROT_UNREACH,
				    ICMP_PORT_UNREACH, ICMP_HOST_UNREACH };
	struct end		 a = { 0 };
	struct sockaddr_storage	 to = addr("127.0.0.1", 0);
	const uint8_t		*q = (const uint8_t *)&p;
	uint8_t			 big[1400] = { 0 };
	uint32_t		 sum = 0;
	size_t			 i;
	int			 raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);

	open_end(&a, "127.0.0.1", PORT_A, "127.0.0.2", PORT_B);
	memset(&p, 0, sizeof(p));
	p.icmp.type = ICMP_DEST_UNREACH;
	p.icmp.code = codes[_i];
	p.icmp.un.frag.mtu = htons(600);
	p.ip.ip_v = 4;
	p.ip.ip_hl = 5;
	p.ip.ip_len = htons(1428);
	p.ip.ip_ttl = 255;
	p.ip.ip_p = IPPROTO_UDP;
	p.ip.ip_src.s_addr = inet_addr("127.0.0.1");
	p.ip.ip_dst.s_addr = inet_addr("127.0.0.2");
	p.udp.source = htons(PORT_A);
	p.udp.dest = htons(PORT_B);
	p.udp.len = htons(1408);
	for (i = 0; i < sizeof(p); i += 2)
		sum += (uint32_t)(q[i] << 8 | q[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	p.icmp.checksum = htons((uint16_t)~((sum & 0xffff) + (sum >> 16)));
	ck_assert_int_eq(sendto(raw, &p, sizeof(p), 0, (struct sockaddr *)&to, sizeof(to)),
	    (ssize_t)sizeof(p));
	ck_assert_int_eq(link_udp_send(a.link, 0, big, sizeof(big)), 0);
	ck_assert(link_udp_up(a.link));
	ck_assert_uint_eq(stats_of(&a).tx_errors, 0);
	if (codes[_i] != ICMP_HOST_UNREACH)
		ck_assert_uint_eq(stats_of(&a).icmp_errors, 1);
	close(raw);
	link_udp_free(a.link);
}
END_TEST

START_TEST(test_sizes)
{
	struct sockaddr_storage	 to = addr(pairs[_i].b, PORT_B);
	struct end		 a = { 0 }, b = { 0 };
	struct link_udp_config	 cfg = config(&a, pairs[_i].a, PORT_A, &to, 1);
	static uint8_t		 big[3000];
	struct iovec		 iov[3] = { { big, 1400 }, { big, 1401 }, { big, 10 } };

	cfg.max_payload = 2000;
	log_init(LOG_EMERG);
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	open_end(&b, pairs[_i].b, PORT_B, pairs[_i].a, PORT_A);
	/* Longer than the link allows; longer than the interface carries. */
	ck_assert_int_eq(link_udp_send(a.link, 0, big, 2001), -EMSGSIZE);
	ck_assert_int_eq(link_udp_send(a.link, 0, big, 1999), -EMSGSIZE);
	ck_assert(link_udp_up(a.link));
	/* Longer than the other end takes. */
	ck_assert_int_eq(link_udp_sendv(a.link, 0, iov, 3), 3);
	ck_assert(wait_for(&b.got, 2, 5));
	ck_assert_uint_eq(stats_of(&b).rx_oversize, 1);
	ck_assert_uint_eq(stats_of(&b).rx_packets, 2);
	/* The second is too long: the first goes. */
	ck_assert_int_eq(link_udp_sendv(b.link, 0, iov, 3), 1);
	ck_assert_int_eq(link_udp_sendv(b.link, 0, iov + 1, 2), -EMSGSIZE);
	ck_assert(wait_for(&a.got, 1, 5));
	link_udp_free(a.link);
	link_udp_free(b.link);
}
END_TEST

START_TEST(test_bound_to_device)
{
	struct sockaddr_storage	 to = addr("fe80::2", 0);
	struct end		 a = { 0 };
	struct link_udp_config	 cfg = config(&a, "fe80::1", PORT_A, &to, 1);

	sh(SYNC0 " && ip link set sync0 up && "
	    "ip addr add fe80::1/64 dev sync0 nodad");
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err, "needs \"interface\""));
	cfg.interface = "sync0";
	ck_assert_int_eq(link_udp_new(&a.link, loop, &cfg, err, sizeof(err)), 0);
	ck_assert_str_eq(err, "");
	ck_assert_int_eq(link_udp_send(a.link, 0, "hi", 2), 0);
	link_udp_free(a.link);
}
END_TEST

START_TEST(test_config_refused)
{
	struct sockaddr_storage	 to[2] = { addr("127.0.0.2", 0), addr("127.0.0.2", PORT_A) };
	struct sockaddr_storage	 v6 = addr("::1", 0), self = addr("127.0.0.1", 0);
	struct end		 a = { 0 };
	struct link_udp_config	 good = config(&a, "127.0.0.1", PORT_A, to, 1), c;
	struct link_udp_config	 bad[9];
	size_t			 i;

	for (i = 0; i < 9; i++)
		bad[i] = good;
	bad[0].port = 0;
	bad[1].max_payload = 0;
	bad[2].max_payload = LINK_UDP_PAYLOAD_MAX + 1;
	bad[3].n_peers = LINK_UDP_PEERS_MAX + 1;
	bad[4].n_peers = 2;
	bad[5].peers = &v6;
	bad[6].peers = &self;
	bad[7].interface = "a-name-that-is-too-long";
	bad[8].local.ss_family = AF_UNIX;
	for (i = 0; i < 9; i++) {
		ck_assert_int_eq(link_udp_new(&a.link, loop, &bad[i], err, sizeof(err)), -EINVAL);
		ck_assert_ptr_null(a.link);
		ck_assert_msg(strncmp(err, "link ha0: ", 10) == 0, "%zu: %s", i, err);
	}
	c = good;
	ck_assert_int_eq(link_udp_new(&a.link, loop, &c, err, sizeof(err)), 0);
	ck_assert_str_eq(link_udp_name(a.link), "ha0");
	link_udp_free(a.link);
}
END_TEST

static bool
may_unshare(void)
{
	pid_t	 pid = fork();
	int	 status;

	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) == 0 && system("ip link set lo up") == 0 ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int
main(void)
{
	Suite	*s;
	TCase	*tc;
	SRunner	*sr;
	int	 failed;

	if (!may_unshare()) {
		printf("1..0 # SKIP needs the privilege to make a network namespace, and ip\n");
		return SKIP;
	}
	s = suite_create("link_udp");
	tc = tcase_create("link_udp");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, test_both_ways, 0, 2);
	tcase_add_test(tc, test_peers_are_told_apart);
	tcase_add_loop_test(tc, test_unknown_source, 0, 2);
	tcase_add_loop_test(tc, test_ttl, 0, 2);
	tcase_add_test(tc, test_sent_header);
	tcase_add_loop_test(tc, test_occupied_port, 0, 2);
	tcase_add_test(tc, test_interface_comes_and_goes);
	tcase_add_loop_test(tc, test_address_comes_and_goes, 0, 3);
	tcase_add_test(tc, test_missing_address);
	tcase_add_test(tc, test_no_route);
	tcase_add_loop_test(tc, test_refused_is_no_error, 0, 2);
	tcase_add_loop_test(tc, test_forged_icmp, 0, 5);
	tcase_add_loop_test(tc, test_sizes, 0, 2);
	tcase_add_test(tc, test_bound_to_device);
	tcase_add_test(tc, test_config_refused);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
