/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Command line of ctlab-ctgen, and what writers and readers share: clocks,
 * socket buffers, event groups, output.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sys/resource.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <jansson.h>

#include "ctgen.h"

/* Bits of CTA_STATUS: SEEN_REPLY | ASSURED | CONFIRMED; and NAT in addition. */
#define DEFAULT_STATUS		0x0eu
#define DEFAULT_STATUS_MASK	0x3eu
#define DEFAULT_TIMEOUT_S	86400u
#define TCP_ESTABLISHED_CT	3u

static const struct {
	const char	*name;
	int		(*run)(const struct ctg_opts *);
	const char	*help;
} commands[] = {
	{ "create", ctg_cmd_create, "create -n entries" },
	{ "update", ctg_cmd_update, "change what --mark, --timeout, --state name, else the timeout" },
	{ "delete", ctg_cmd_delete, "delete -n entries" },
	{ "churn", ctg_cmd_churn, "create -n entries, each deleted --live entries later" },
	{ "floor", ctg_cmd_floor, "time create, update, complete update and delete of -n entries" },
	{ "flush", ctg_cmd_flush, "empty the table of this namespace" },
	{ "count", ctg_cmd_count, "dump and count, also by status bit" },
	{ "digest", ctg_cmd_digest, "hash of all entries, independent of their order" },
	{ "list", ctg_cmd_list, "all entries as sorted canonical lines" },
	{ "drain", ctg_cmd_drain, "read events until --idle or -n, time per event" },
};

static const char *const kind_names[] = {
	[CTG_TCP_SNAT] = "tcp-snat",
	[CTG_TCP] = "tcp",
	[CTG_UDP] = "udp",
	[CTG_TCP6_SNAT] = "tcp6-snat",
	[CTG_DNAT] = "dnat",
};

static const char *const listener_names[] = {
	[CTG_LISTEN_NONE] = "none",
	[CTG_LISTEN_FILTERED] = "filtered",
	[CTG_LISTEN_UNFILTERED] = "unfiltered",
};

static const char *const field_names[] = {
	"tuples", "status", "mark", "state", "zone",
};

static const char *const state_names[] = {
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT",
	"CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
};

#define NELEM(a)	(sizeof(a) / sizeof((a)[0]))

const char *
ctg_kind_name(enum ctg_kind kind)
{
	return kind_names[kind];
}

static uint64_t
clock_ns(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) == -1)
		err(1, "clock_gettime");
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
ctg_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t
ctg_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void
ctg_cpu_split(double *user, double *sys)
{
	struct rusage ru;

	if (getrusage(RUSAGE_SELF, &ru) == -1)
		err(1, "getrusage");
	*user = (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6;
	*sys = (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6;
}

void
ctg_bufsize(int fd, int opt, uint32_t bytes)
{
	int n = (int)bytes;

	if (setsockopt(fd, SOL_SOCKET, opt, &n, sizeof(n)) == -1)
		err(1, "setsockopt: buffer of %u bytes", bytes);
}

void
ctg_join_events(int fd)
{
	static const int groups[] = {
		NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE,
		NFNLGRP_CONNTRACK_DESTROY,
	};
	size_t i;

	for (i = 0; i < NELEM(groups); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
		    &groups[i], sizeof(groups[i])) == -1)
			err(1, "joining conntrack event group %d", groups[i]);
}

void
ctg_print(struct json_t *obj)
{
	if (obj == NULL || json_dumpf(obj, stdout, JSON_REAL_PRECISION(9)) == -1)
		errx(1, "cannot write JSON");
	putchar('\n');
	json_decref(obj);
	if (fflush(stdout) == EOF)
		err(1, "stdout");
}

static void
usage(FILE *fp)
{
	size_t i;

	fprintf(fp, "usage: ctlab-ctgen COMMAND [OPTION...]\n\n");
	for (i = 0; i < NELEM(commands); i++)
		fprintf(fp, "  %-8s %s\n", commands[i].name, commands[i].help);
	fprintf(fp,
	    "\n"
	    "  -n, --count N        entries (drain: events, 0 = no limit)\n"
	    "  -k, --kind KIND      tcp-snat (default), tcp, udp, tcp6-snat, dnat\n"
	    "  -o, --start N        number of the first entry (0)\n"
	    "  -r, --rate N         entries per second, evenly paced (unlimited)\n"
	    "  -b, --batch N        messages per sendmsg (64)\n"
	    "  -t, --timeout S      timeout of the entries (86400)\n"
	    "  -m, --mark N         mark; update adds 1 in each round\n"
	    "  -S, --state NAME     TCP state (ESTABLISHED)\n"
	    "  -B, --status BITS    CTA_STATUS (0xe: seen reply, assured, confirmed)\n"
	    "  -z, --zone N         zone (0)\n"
	    "  -R, --rounds N       update: passes over the entries (1)\n"
	    "  -L, --live N         churn: entries alive at a time (1000)\n"
	    "  -l, --listener WHO   floor: none, filtered (default), unfiltered\n"
	    "  -f, --fields LIST    digest, list: tuples,status,mark,state,zone (all)\n"
	    "  -M, --status-mask B  digest, list: bits of status that count (0x3e)\n"
	    "  -x, --skip PREFIX    readers: leave out entries from or to PREFIX\n"
	    "  -i, --idle MS        drain: end after this long without an event (1000)\n"
	    "  -q, --rcvbuf BYTES   drain: receive buffer (67108864)\n"
	    "  -p, --parse          drain: walk the attributes of each event\n"
	    "  -h, --help           this text\n");
}

static uint64_t
number(const char *what, const char *s, uint64_t lo, uint64_t hi)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (end == s || *end != '\0' || *s == '-' || errno != 0 ||
	    v < lo || v > hi)
		errx(2, "%s: expected a number from %llu to %llu, not '%s'",
		    what, (unsigned long long)lo, (unsigned long long)hi, s);
	return v;
}

static unsigned int
name_index(const char *what, const char *s, const char *const *names, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (strcasecmp(s, names[i]) == 0)
			return (unsigned int)i;
	errx(2, "%s: unknown name '%s'", what, s);
}

static uint32_t
parse_fields(char *list)
{
	uint32_t set = 0;
	char *tok, *save = NULL;

	for (tok = strtok_r(list, ",", &save); tok != NULL;
	    tok = strtok_r(NULL, ",", &save))
		set |= 1u << name_index("--fields", tok, field_names,
		    NELEM(field_names));
	return set;
}

static void
parse_skip(struct ctg_opts *o, const char *arg)
{
	struct ctg_prefix *p;
	char buf[64], *slash;
	unsigned int max;

	if (o->nskip == CTG_SKIP_MAX)
		errx(2, "--skip: at most %d prefixes", CTG_SKIP_MAX);
	p = &o->skip[o->nskip++];
	if (strlen(arg) >= sizeof(buf))
		errx(2, "--skip: expected a prefix, not '%s'", arg);
	strcpy(buf, arg);
	slash = strchr(buf, '/');
	if (slash != NULL)
		*slash++ = '\0';
	p->family = strchr(buf, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(p->family, buf, p->addr) != 1)
		errx(2, "--skip: expected a prefix, not '%s'", arg);
	max = p->family == AF_INET6 ? 128 : 32;
	p->len = (uint8_t)(slash == NULL ? max :
	    number("--skip", slash, 0, max));
}

static const struct option longopts[] = {
	{ "count", required_argument, NULL, 'n' },
	{ "kind", required_argument, NULL, 'k' },
	{ "start", required_argument, NULL, 'o' },
	{ "rate", required_argument, NULL, 'r' },
	{ "batch", required_argument, NULL, 'b' },
	{ "timeout", required_argument, NULL, 't' },
	{ "mark", required_argument, NULL, 'm' },
	{ "state", required_argument, NULL, 'S' },
	{ "status", required_argument, NULL, 'B' },
	{ "zone", required_argument, NULL, 'z' },
	{ "rounds", required_argument, NULL, 'R' },
	{ "live", required_argument, NULL, 'L' },
	{ "listener", required_argument, NULL, 'l' },
	{ "fields", required_argument, NULL, 'f' },
	{ "status-mask", required_argument, NULL, 'M' },
	{ "skip", required_argument, NULL, 'x' },
	{ "idle", required_argument, NULL, 'i' },
	{ "rcvbuf", required_argument, NULL, 'q' },
	{ "parse", no_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static bool
writer_option(struct ctg_opts *o, int c, char *arg)
{
	switch (c) {
	case 'k':
		o->kind = (enum ctg_kind)name_index("--kind", arg, kind_names,
		    NELEM(kind_names));
		return true;
	case 'o':
		o->start = number("--start", arg, 0, 1u << 26);
		return true;
	case 'r':
		o->rate = (uint32_t)number("--rate", arg, 0, 10000000);
		return true;
	case 'b':
		o->batch = (uint32_t)number("--batch", arg, 1, CTG_BATCH_MAX);
		return true;
	case 't':
		o->timeout = (uint32_t)number("--timeout", arg, 0, INT32_MAX);
		o->set_timeout = true;
		return true;
	case 'm':
		o->mark = (uint32_t)number("--mark", arg, 0, UINT32_MAX);
		o->set_mark = true;
		return true;
	case 'S':
		o->tcp_state = (uint8_t)name_index("--state", arg, state_names,
		    NELEM(state_names));
		o->set_state = true;
		return true;
	case 'B':
		o->status = (uint32_t)number("--status", arg, 0, UINT32_MAX);
		return true;
	case 'z':
		o->zone = (uint16_t)number("--zone", arg, 0, UINT16_MAX);
		return true;
	case 'R':
		o->rounds = number("--rounds", arg, 1, 1000000);
		return true;
	case 'L':
		o->live = number("--live", arg, 1, 1u << 26);
		return true;
	case 'l':
		o->listener = (enum ctg_listener)name_index("--listener", arg,
		    listener_names, NELEM(listener_names));
		return true;
	default:
		return false;
	}
}

static bool
reader_option(struct ctg_opts *o, int c, char *arg)
{
	switch (c) {
	case 'n':
		o->count = number("--count", arg, 0, UINT64_MAX);
		return true;
	case 'f':
		o->fields = parse_fields(arg);
		return true;
	case 'M':
		o->status_mask = (uint32_t)number("--status-mask", arg, 0,
		    UINT32_MAX);
		return true;
	case 'x':
		parse_skip(o, arg);
		return true;
	case 'i':
		o->idle_ms = (uint32_t)number("--idle", arg, 1, 3600000);
		return true;
	case 'q':
		o->rcvbuf = (uint32_t)number("--rcvbuf", arg, 4096, 1u << 30);
		return true;
	case 'p':
		o->parse = true;
		return true;
	default:
		return false;
	}
}

int
main(int argc, char *argv[])
{
	struct ctg_opts o = {
		.kind = CTG_TCP_SNAT,
		.live = 1000,
		.rounds = 1,
		.batch = 64,
		.timeout = DEFAULT_TIMEOUT_S,
		.status = DEFAULT_STATUS,
		.tcp_state = TCP_ESTABLISHED_CT,
		.listener = CTG_LISTEN_FILTERED,
		.fields = CTG_F_ALL,
		.status_mask = DEFAULT_STATUS_MASK,
		.idle_ms = 1000,
		.rcvbuf = 64u << 20,
	};
	size_t i;
	int c;

	while ((c = getopt_long(argc, argv,
	    "n:k:o:r:b:t:m:S:B:z:R:L:l:f:M:x:i:q:ph", longopts, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 0;
		}
		if (!writer_option(&o, c, optarg) && !reader_option(&o, c, optarg)) {
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc - 1) {
		usage(stderr);
		return 2;
	}
	for (i = 0; i < NELEM(commands); i++)
		if (strcmp(argv[optind], commands[i].name) == 0)
			return commands[i].run(&o);
	errx(2, "unknown command '%s'; --help lists them", argv[optind]);
}
