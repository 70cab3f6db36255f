/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctlab-traffic: many connections with data in flight, and what became of
 * them.  This file: options, main loop, program entry.
 *
 * The client prints one JSON object on stdout when it ends:
 *
 *   ok               bool, the exit status: nothing lost, reset or corrupt
 *   all_established  bool, "ready" was reached
 *   establish_s      seconds until ready
 *   seconds          from ready to the stop
 *   kinds            by kind (download, upload, messages, idle, udp, ping): a tally
 *   targets          by --target as typed: a tally
 *   failures         TCP connections by cause: connect (never established),
 *                    reset, closed (by the other end, early), timeout (kernel
 *                    gave up, ICMP error), stalled (no progress after the
 *                    stop), unfinished (progress, but no closing handshake in
 *                    time), corrupt (framing lost)
 *   total            a tally of everything
 *
 * A tally:
 *
 *   connections, established
 *   lost             no progress in some direction within the grace period
 *                    after the stop, or otherwise not closed properly; a UDP
 *                    stream also if the server saw its address change
 *   reset            RST or early close
 *   corrupt_bytes    bytes, on either end, that were not what had to be there
 *   longest_pause_ms longest time without progress in one direction, from
 *                    ready to the end, of the connections that were not lost
 *                    or reset (null if there are none); sending counts when
 *                    the other end has acknowledged; of an idle one, the longest
 *                    time until an answer
 *   median_pause_ms  median of the longest pauses of the connections
 *   bytes_received, bytes_sent   payload, as the client sees it
 *   messages         numbered messages received by the client, all in order
 *   packets_sent, packets_received, packets_lost, packets_duplicated
 *                    UDP: both directions; ping: requests and replies
 *
 * --status-file is replaced twice a second: phase (connect, run, check, close,
 * done), connections, moving (carried data), alive (went forward within the last
 * second, or three --interval if that is longer), failed, reset, done; marks: how
 * often SIGUSR1 was received, and progressed: what went forward since the last one
 * (which is how a script waits until everything has moved once more); pending:
 * what was opened before it and has neither moved since then nor failed.
 *
 * --open opens further connections, --open-rate a second, from ready on to the
 * stop: messages, downloads, uploads, idle ones and such as end within a second, in
 * turn.  An attempt that ends before it is established, and not by a RST, is
 * repeated.
 *
 * --record-file gets a line of JSON for each TCP connection when it has ended: id,
 * kind, target, port (the local one), later (opened after ready), tries, and in
 * seconds of CLOCK_MONOTONIC opened, running (established, null: never), last (the
 * last progress of the direction that is behind), ended; pause_ms; failure
 * ("none", or as above), error (errno).
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define EXIT_USAGE	2
#define EVENTS		256
#define MAX_COUNT	200000u

enum option_id {
	OPT_TARGET = 256,
	OPT_LISTEN,
	OPT_KIND,				/* + enum kind */
	OPT_RATE = OPT_KIND + KIND_COUNT,
	OPT_WINDOW,
	OPT_CHUNK,
	OPT_MESSAGE,
	OPT_INTERVAL,
	OPT_IDLE_INTERVAL,
	OPT_OPEN,
	OPT_OPEN_MAX,
	OPT_LIFETIME,
	OPT_PACKET_INTERVAL,
	OPT_PACKET_BYTES,
	OPT_DURATION,
	OPT_CONNECT,
	OPT_GRACE,
	OPT_READY,
	OPT_STATUS,
	OPT_RECORD,
	OPT_PROGRESS,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "target", required_argument, NULL, OPT_TARGET },
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "download", required_argument, NULL, OPT_KIND + KIND_DOWNLOAD },
	{ "upload", required_argument, NULL, OPT_KIND + KIND_UPLOAD },
	{ "messages", required_argument, NULL, OPT_KIND + KIND_MESSAGES },
	{ "idle", required_argument, NULL, OPT_KIND + KIND_IDLE },
	{ "udp", required_argument, NULL, OPT_KIND + KIND_UDP },
	{ "ping", required_argument, NULL, OPT_KIND + KIND_PING },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "window", required_argument, NULL, OPT_WINDOW },
	{ "chunk", required_argument, NULL, OPT_CHUNK },
	{ "message-size", required_argument, NULL, OPT_MESSAGE },
	{ "interval", required_argument, NULL, OPT_INTERVAL },
	{ "idle-interval", required_argument, NULL, OPT_IDLE_INTERVAL },
	{ "open", required_argument, NULL, OPT_OPEN },
	{ "open-max", required_argument, NULL, OPT_OPEN_MAX },
	{ "lifetime", required_argument, NULL, OPT_LIFETIME },
	{ "packet-interval", required_argument, NULL, OPT_PACKET_INTERVAL },
	{ "packet-size", required_argument, NULL, OPT_PACKET_BYTES },
	{ "duration", required_argument, NULL, OPT_DURATION },
	{ "connect-timeout", required_argument, NULL, OPT_CONNECT },
	{ "grace", required_argument, NULL, OPT_GRACE },
	{ "ready-file", required_argument, NULL, OPT_READY },
	{ "status-file", required_argument, NULL, OPT_STATUS },
	{ "record-file", required_argument, NULL, OPT_RECORD },
	{ "progress", no_argument, NULL, OPT_PROGRESS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 }
};

static void
usage(FILE *fp)
{
	fputs(
"usage: ctlab-traffic server --listen ADDR:PORT[-PORT]... [--ready-file FILE]\n"
"       ctlab-traffic client --target ADDR:PORT[-PORT]... [options]\n"
"IPv6 addresses stand in brackets.  Each kind is spread over the targets in turn.\n"
"  --download N  --upload N  --messages N  --idle N   TCP connections\n"
"  --udp N  --ping N                        streams of datagrams, of echo requests\n"
"  --rate B             bytes/s of each connection and direction [16384; 0: no limit]\n"
"  --window B           unacknowledged bytes a sender allows itself [twice a write]\n"
"  --chunk B            payload of a bulk frame [1024]\n"
"  --message-size B     payload of a numbered message [200]\n"
"  --interval MS        between two writes of a connection [by their number]\n"
"  --idle-interval MS   between two messages of an idle connection, on average [5000]\n"
"  --open N             open so many connections more each second [0]\n"
"  --open-max N         and so many in all [20000]\n"
"  --lifetime MS        of those, on average [0: until the stop]\n"
"  --packet-interval MS between two datagrams or pings of a stream [100]\n"
"  --packet-size B      payload of a datagram [200]\n"
"  --duration S         stop S seconds after ready [0: at SIGTERM or SIGINT]\n"
"  --connect-timeout S  to establish everything [30]\n"
"  --grace S            to show life, and to close, after the stop [10]\n"
"  --ready-file FILE    written when everything is established and carries data\n"
"  --status-file FILE   replaced twice a second\n"
"  --record-file FILE   a line for each TCP connection that ended\n"
"  --progress           live line on stderr\n"
"Exit status: 0 nothing lost, reset or corrupt; 1 otherwise; 2 usage.\n", fp);
}

/* ---- loop ------------------------------------------------------------- */

static void
signal_ready(struct source *src, uint32_t events)
{
	struct loop *loop = (struct loop *)(void *)((char *)src - offsetof(struct loop, signals));
	struct signalfd_siginfo info;

	(void)events;
	while (read(src->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			loop->mark_signals++;
		else
			loop->stop_signals++;
	}
}

int
loop_init(struct loop *loop)
{
	sigset_t set;

	memset(loop, 0, sizeof(*loop));
	loop->now_us = now_us();
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	loop->signals.ready = signal_ready;
	loop->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop->signals.fd < 0)
		return -errno;
	return loop_add(loop, &loop->signals, EPOLLIN);
}

void
loop_fini(struct loop *loop)
{
	close(loop->signals.fd);
	close(loop->epoll_fd);
}

static int
loop_ctl(struct loop *loop, int op, struct source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data = { .ptr = src } };

	return epoll_ctl(loop->epoll_fd, op, src->fd, &ev) == 0 ? 0 : -errno;
}

int
loop_add(struct loop *loop, struct source *src, uint32_t events)
{
	return loop_ctl(loop, EPOLL_CTL_ADD, src, events);
}

int
loop_mod(struct loop *loop, struct source *src, uint32_t events)
{
	return loop_ctl(loop, EPOLL_CTL_MOD, src, events);
}

int
loop_run(struct loop *loop, bool (*tick)(void *ctx), void *ctx)
{
	struct epoll_event events[EVENTS];
	uint64_t next = now_us();
	int n, i, timeout;

	for (;;) {
		loop->now_us = now_us();
		timeout = next > loop->now_us ? (int)((next - loop->now_us + 999) / 1000) : 0;
		n = epoll_wait(loop->epoll_fd, events, EVENTS, timeout);
		if (n < 0 && errno != EINTR)
			return -errno;
		loop->now_us = now_us();
		for (i = 0; i < n; i++) {
			struct source *src = events[i].data.ptr;

			if (src->fd >= 0)	/* an earlier callback may have closed it */
				src->ready(src, events[i].events);
		}
		if (loop->now_us < next)
			continue;
		next = loop->now_us + TICK_US;
		if (!tick(ctx))
			return 0;
	}
}

/* ---- options ---------------------------------------------------------- */

static bool
number(const char *text, uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || v > max)
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool
set_number(struct options *o, int id, const char *text)
{
	uint32_t v;

	if (id >= OPT_KIND && id < OPT_KIND + KIND_COUNT) {
		if (!number(text, MAX_COUNT, &v))
			return false;
		o->count[id - OPT_KIND] = v;
		return true;
	}
	switch (id) {
	case OPT_RATE:
		return number(text, 1000000000, &o->rate);
	case OPT_WINDOW:
		return number(text, 1u << 30, &o->window);
	case OPT_CHUNK:
		return number(text, 32768, &o->chunk) && o->chunk > 0;
	case OPT_MESSAGE:
		return number(text, 32768, &o->message) && o->message > 0;
	case OPT_INTERVAL:
		return number(text, 60000, &o->interval_ms);
	case OPT_IDLE_INTERVAL:
		return number(text, 3600000, &o->idle_ms) && o->idle_ms >= 10;
	case OPT_OPEN:
		return number(text, 10000, &o->open_rate);
	case OPT_OPEN_MAX:
		return number(text, MAX_COUNT, &o->open_max);
	case OPT_LIFETIME:
		return number(text, 86400000, &o->lifetime_ms);
	case OPT_PACKET_INTERVAL:
		return number(text, 60000, &o->packet_ms) && o->packet_ms > 0;
	case OPT_PACKET_BYTES:
		return number(text, 1400, &o->packet_bytes);
	case OPT_DURATION:
		return number(text, 1000000, &o->duration_s);
	case OPT_CONNECT:
		return number(text, 3600, &o->connect_s);
	case OPT_GRACE:
		return number(text, 3600, &o->grace_s);
	default:
		return false;
	}
}

static bool
set_option(struct options *o, int id, const char *text)
{
	switch (id) {
	case OPT_TARGET:
		return !o->server && endpoints_add(o, text);
	case OPT_LISTEN:
		return o->server && endpoints_add(o, text);
	case OPT_READY:
		o->ready_file = text;
		return true;
	case OPT_STATUS:
		o->status_file = text;
		return true;
	case OPT_RECORD:
		o->record_file = text;
		return true;
	case OPT_PROGRESS:
		o->progress = true;
		return true;
	default:
		return set_number(o, id, text);
	}
}

/* Fill in what depends on the number of connections. */
static void
complete(struct options *o)
{
	size_t n = o->count[KIND_DOWNLOAD] + o->count[KIND_UPLOAD] + o->count[KIND_MESSAGES];
	uint64_t window;

	/* Some 10,000 writes a second in all is what a small machine takes easily. */
	if (o->interval_ms == 0)
		o->interval_ms = n < 200 ? 20 : n > 10000 ? 1000 : (uint32_t)(n / 10);
	if (o->window == 0) {
		window = (uint64_t)o->rate * o->interval_ms / 1000 * 2;
		if (o->rate == 0)
			window = 65536;
		o->window = window < 2048 ? 2048 : (uint32_t)window;
	}
}

/* 0, or the exit status plus 1. */
static int
parse_options(struct options *o, int argc, char **argv)
{
	int id, index = 0;

	while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		if (id == OPT_HELP) {
			usage(stdout);
			return 1;
		}
		if (id == '?')
			return EXIT_USAGE + 1;
		if (!set_option(o, id, optarg)) {
			fprintf(stderr, "ctlab-traffic: --%s: wrong value or not for this mode: %s\n",
			    long_options[index].name, optarg);
			return EXIT_USAGE + 1;
		}
	}
	if (optind < argc || o->n_endpoints == 0) {
		fprintf(stderr, "ctlab-traffic: %s\n", optind < argc ? "unexpected argument" :
		    o->server ? "--listen is missing" : "--target is missing");
		return EXIT_USAGE + 1;
	}
	complete(o);
	return 0;
}

/* Fails quietly: what is missing shows as a socket that cannot be opened. */
static void
raise_file_limit(void)
{
	struct rlimit lim = { .rlim_cur = 1000000, .rlim_max = 1000000 };

	if (setrlimit(RLIMIT_NOFILE, &lim) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &lim);
	}
}

int
main(int argc, char **argv)
{
	static struct options o = {
		.rate = 16384, .chunk = 1024, .message = 200, .packet_ms = 100,
		.packet_bytes = 200, .connect_s = 30, .grace_s = 10,
		.idle_ms = 5000, .open_max = 20000,
	};
	int rc;

	if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return 0;
	}
	if (argc < 2 || (strcmp(argv[1], "server") != 0 && strcmp(argv[1], "client") != 0)) {
		usage(stderr);
		return EXIT_USAGE;
	}
	o.server = argv[1][0] == 's';
	rc = parse_options(&o, argc - 1, argv + 1);
	if (rc != 0)
		return rc - 1;
	raise_file_limit();
	return o.server ? server_main(&o) : client_main(&o);
}
