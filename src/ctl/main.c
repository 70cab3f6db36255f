/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctsync: the command line.
 *
 * One table says which commands there are and what they take; reading options,
 * usage and help follow from it.  Commands themselves are in cmd_*.c.  Exit
 * codes are those of enum ctl_exit, which scripts rely on.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION	"unknown"
#endif

#define QUICK_S		5	/* what needs no work is answered at once */

static const struct ctl_cmd	 commands[] = {
	{ "status", "", "role, peers, equal or not and since when, lag, links, counts",
	    0, 0, 0, QUICK_S, cmd_status },
	{ "ready", "", "exit 0 if this node could take over now, else 1 and the reason",
	    0, 0, 0, QUICK_S, cmd_ready },
	{ "show", "TABLE [expect] [FILTER...]", "list flows, or expectations, as conntrack -L prints them",
	    CTL_CMD_FILTER | CTL_CMD_FORMAT, 1, 2, 60, cmd_show },
	{ "count", "TABLE [expect] [FILTER...]", "print the number of flows, or expectations",
	    CTL_CMD_FILTER, 1, 2, 60, cmd_count },
	{ "commit", "", "write the peers' flows into the kernel",
	    0, 0, 0, 0, cmd_commit },
	{ "takeover", "", "commit, make the peers' flows ours, become active",
	    CTL_CMD_ROLE, 0, 0, 0, cmd_role },
	{ "release", "", "become standby: the way back from takeover",
	    CTL_CMD_ROLE, 0, 0, 0, cmd_role },
	{ "verify", "", "compare flow for flow with the kernel and the peers; exit 1 if one differs",
	    0, 0, 0, 0, cmd_verify },
	{ "resync", "", "read the kernel again and have the peers resend",
	    0, 0, 0, 0, cmd_simple },
	{ "flush", "local|remote|kernel", "empty a table; kernel: only what the filter selects",
	    0, 1, 1, 0, cmd_flush },
	{ "forget", "PEER", "drop all that is held of a peer that is gone for good",
	    0, 1, 1, QUICK_S, cmd_forget },
	{ "stats", "", "all counters", 0, 0, 0, QUICK_S, cmd_stats },
	{ "metrics", "", "all counters as Prometheus reads them",
	    0, 0, 0, QUICK_S, cmd_metrics },
	{ "reload", "", "read the configuration again", 0, 0, 0, 30, cmd_simple },
	{ "log", "LEVEL", "log err, warning, notice, info or debug and what is more urgent",
	    0, 1, 1, QUICK_S, cmd_log },
	{ "shutdown", "", "end the daemon", 0, 0, 0, 30, cmd_simple },
	{ "keygen", "[FILE [ID]]", "make a key (/etc/ctsyncd/key, id 1)",
	    0, 0, 2, 0, cmd_keygen },
};

#define NCOMMANDS	(sizeof(commands) / sizeof(commands[0]))

/* Options without a letter; those of a filter have the key of its condition. */
enum { OPT_JSON = 256, OPT_PEER, OPT_ASKED_BY, OPT_FILTER };

static const struct option	 main_opts[] = {
	{ "socket", required_argument, NULL, 's' }, { "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
	{ 0 }
};

static const struct filter_opt {
	const char	*name;
	int		 letter;	/* 0: none */
	int		 has_arg;
	const char	*key;
} filter_opts[] = {
	{ "proto", 'p', required_argument, "proto" },
	{ "protonum", 0, required_argument, "proto" },
	{ "src", 's', required_argument, "src" },
	{ "orig-src", 0, required_argument, "src" },
	{ "dst", 'd', required_argument, "dst" },
	{ "orig-dst", 0, required_argument, "dst" },
	{ "reply-src", 'r', required_argument, "reply_src" },
	{ "reply-dst", 'q', required_argument, "reply_dst" },
	{ "sport", 0, required_argument, "sport" },
	{ "orig-port-src", 0, required_argument, "sport" },
	{ "dport", 0, required_argument, "dport" },
	{ "orig-port-dst", 0, required_argument, "dport" },
	{ "state", 0, required_argument, "state" },
	{ "mark", 'm', required_argument, "mark" },
	{ "zone", 'w', required_argument, "zone" },
	{ "family", 'f', required_argument, "family" },
	{ "src-nat", 'n', no_argument, "src_nat" },
	{ "dst-nat", 'g', no_argument, "dst_nat" },
	{ "assured", 0, no_argument, "assured" },
};

#define NFILTER		(sizeof(filter_opts) / sizeof(filter_opts[0]))
#define NOPTS		(NFILTER + 4)

static const char	 filter_help[] =
	"TABLE: local, remote or kernel\n"
	"expect: expectations instead of flows; conditions with a * are for flows only\n"
	"FILTER: all conditions have to hold\n"
	"  -p, --proto PROTO        tcp, udp, icmp, icmpv6, sctp, ... or a number\n"
	"  -s, --src ADDR[/LEN]     original source\n"
	"  -d, --dst ADDR[/LEN]     original destination\n"
	"  -r, --reply-src ADDR[/LEN] *   -q, --reply-dst ADDR[/LEN] *\n"
	"      --sport PORT             --dport PORT    of the original direction\n"
	"      --state STATE *      of TCP: ESTABLISHED, SYN_SENT, ...\n"
	"  -m, --mark MARK[/MASK] *\n"
	"  -w, --zone ZONE\n"
	"  -f, --family ipv4|ipv6\n"
	"  -n, --src-nat *          source is translated\n"
	"  -g, --dst-nat *          destination is translated\n"
	"      --assured *          traffic was seen in both directions\n"
	"      --peer NAME          remote: only what this peer told us\n";

void
ctl_err(const char *fmt, ...)
{
	char	 text[1024];
	va_list	 ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "ctsync: %s\n", text);
}

static void
usage(FILE *f)
{
	size_t	 i;

	fprintf(f, "usage: ctsync [-s SOCKET] [--json] COMMAND\n"
	    "       ctsync COMMAND --help | --help | -V\n\n");
	for (i = 0; i < NCOMMANDS; i++)
		fprintf(f, "  %-8s  %-30s %s\n", commands[i].name, commands[i].args,
		    commands[i].help);
}

static void
cmd_usage(FILE *f, const struct ctl_cmd *cmd)
{
	fprintf(f, "usage: ctsync [-s SOCKET] [--json] %s%s%s%s%s\n", cmd->name,
	    cmd->flags & CTL_CMD_FORMAT ? " [-o text|json|xml]" : "",
	    cmd->flags & CTL_CMD_ROLE ? " [--asked-by PID]" : "",
	    *cmd->args != '\0' ? " " : "", cmd->args);
}

static void
cmd_help(const struct ctl_cmd *cmd)
{
	cmd_usage(stdout, cmd);
	printf("\n%s\n", cmd->help);
	if (cmd->flags & CTL_CMD_FILTER)
		printf("\n%s", filter_help);
	if (cmd->flags & CTL_CMD_ROLE)
		fputs("\nOf several requests the one that was asked for last stands, also when it comes first\n"
		    "or when no daemon runs: then ctsyncd carries it out when it starts.\n"
		    "      --asked-by PID       it was asked for when this process was started, which\n"
		    "                           may have been overtaken: that is no failure\n", stdout);
}

static const struct ctl_cmd *
find_cmd(const char *name)
{
	size_t	 i;

	for (i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* The options that a command takes, for getopt_long(). */
static void
build_opts(const struct ctl_cmd *cmd, struct option *opts, char *letters)
{
	size_t	 i, n = 0;

	*letters++ = 'h';
	opts[n++] = (struct option){ "json", no_argument, NULL, OPT_JSON };
	opts[n++] = (struct option){ "help", no_argument, NULL, 'h' };
	if (cmd->flags & CTL_CMD_FORMAT) {
		*letters++ = 'o';
		*letters++ = ':';
	}
	if (cmd->flags & CTL_CMD_ROLE)
		opts[n++] = (struct option){ "asked-by", required_argument, NULL, OPT_ASKED_BY };
	if (cmd->flags & CTL_CMD_FILTER) {
		opts[n++] = (struct option){ "peer", required_argument, NULL, OPT_PEER };
		for (i = 0; i < NFILTER; i++) {
			opts[n++] = (struct option){ filter_opts[i].name, filter_opts[i].has_arg,
			    NULL, OPT_FILTER + (int)i };
			if (filter_opts[i].letter == 0)
				continue;
			*letters++ = (char)filter_opts[i].letter;
			if (filter_opts[i].has_arg != no_argument)
				*letters++ = ':';
		}
	}
	*letters = '\0';
	opts[n] = (struct option){ 0 };
}

static bool
set_format(struct ctl *c, const char *word)
{
	static const char *const	 words[] = { "text", "json", "xml" };
	unsigned			 i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i], word) == 0) {
			c->format = (enum out_format)i;
			return true;
		}
	}
	ctl_err("-o: expected text, json or xml, not \"%s\"", word);
	return false;
}

/* One condition, kept in both forms: for ourselves and for the daemon. */
static bool
add_condition(struct ctl *c, const struct filter_opt *o, const char *value)
{
	char	 err[FILTER_ERR_MAX];

	if (flow_filter_set(&c->filter, o->key, value, err) < 0) {
		ctl_err("%s: %s", c->cmd, err);
		return false;
	}
	json_object_set_new(c->conditions, o->key,
	    value != NULL ? json_string(value) : json_true());
	return true;
}

static bool
set_asked_by(struct ctl *c, const char *word)
{
	char	*end;
	long	 pid;

	errno = 0;
	pid = strtol(word, &end, 10);
	if (*word == '\0' || *end != '\0' || errno != 0 || pid < 1 || pid > INT_MAX) {
		ctl_err("--asked-by: expected the number of a process, not \"%s\"", word);
		return false;
	}
	c->asked_by = (pid_t)pid;
	return true;
}

static bool
cmd_option(struct ctl *c, int opt)
{
	size_t	 i;

	switch (opt) {
	case OPT_JSON:
		c->json = true;
		return true;
	case OPT_PEER:
		c->peer = optarg;
		return true;
	case OPT_ASKED_BY:
		return set_asked_by(c, optarg);
	case 'o':
		return set_format(c, optarg);
	default:
		break;
	}
	for (i = 0; i < NFILTER; i++)
		if (opt == OPT_FILTER + (int)i || (opt != 0 && opt == filter_opts[i].letter))
			return add_condition(c, &filter_opts[i], optarg);
	return false;
}

/* Options and arguments after the command: -1 to go on, else the exit code. */
static int
parse_cmd(struct ctl *c, const struct ctl_cmd *cmd, int argc, char **argv)
{
	struct option	 opts[NOPTS];
	char		 letters[64], err[FILTER_ERR_MAX], name[64];
	int		 opt;

	snprintf(name, sizeof(name), "ctsync %s", cmd->name);
	argv[0] = name;		/* what getopt_long() begins its messages with */
	build_opts(cmd, opts, letters);
	optind = 0;		/* begin anew; options may follow arguments */
	while ((opt = getopt_long(argc, argv, letters, opts, NULL)) != -1) {
		if (opt == 'h') {
			cmd_help(cmd);
			return CTL_EXIT_OK;
		}
		if (!cmd_option(c, opt)) {
			cmd_usage(stderr, cmd);
			return CTL_EXIT_USAGE;
		}
	}
	if (argc - optind > cmd->max_args)
		ctl_err("%s: \"%s\" is one word too many", cmd->name, argv[optind + cmd->max_args]);
	if (argc - optind < cmd->min_args || argc - optind > cmd->max_args) {
		cmd_usage(stderr, cmd);
		return CTL_EXIT_USAGE;
	}
	if (flow_filter_check(&c->filter, err) < 0) {
		ctl_err("%s: %s", c->cmd, err);
		return CTL_EXIT_USAGE;
	}
	return -1;
}

static int
run(struct ctl *c, int argc, char **argv)
{
	const struct ctl_cmd	*cmd;
	int			 rc;

	if (argc < 1) {
		usage(stderr);
		return CTL_EXIT_USAGE;
	}
	if ((cmd = find_cmd(argv[0])) == NULL) {
		ctl_err("unknown command \"%s\"", argv[0]);
		usage(stderr);
		return CTL_EXIT_USAGE;
	}
	c->cmd = cmd->name;
	c->timeout_s = cmd->timeout_s;
	if ((rc = parse_cmd(c, cmd, argc, argv)) >= 0)
		return rc;
	return cmd->fn(c, argc - optind, argv + optind);
}

/* A reader who had enough has ended us by SIGPIPE; what is left is a full disk. */
static int
close_stdout(int rc)
{
	if (!ferror(stdout) && fflush(stdout) == 0)
		return rc;
	ctl_err("cannot write the output");
	return rc == CTL_EXIT_OK ? CTL_EXIT_FAILED : rc;
}

int
main(int argc, char **argv)
{
	struct ctl	 c = { .socket = CTL_SOCKET_DEFAULT, .cmd = "" };
	const char	*env = getenv("CTSYNC_SOCKET");
	int		 opt, rc;

	signal(SIGPIPE, SIG_DFL);	/* whoever started us may have ignored it */
	if (env != NULL && *env != '\0')
		c.socket = env;
	while ((opt = getopt_long(argc, argv, "+s:hV", main_opts, NULL)) != -1) {
		switch (opt) {
		case 's':
			c.socket = optarg;
			break;
		case OPT_JSON:
			c.json = true;
			break;
		case 'h':
			usage(stdout);
			return close_stdout(CTL_EXIT_OK);
		case 'V':
			printf("ctsync %s\n", PACKAGE_VERSION);
			return close_stdout(CTL_EXIT_OK);
		default:
			usage(stderr);
			return CTL_EXIT_USAGE;
		}
	}
	if ((c.conditions = json_object()) == NULL) {
		ctl_err("out of memory");
		return CTL_EXIT_FAILED;
	}
	rc = run(&c, argc - optind, argv + optind);
	json_decref(c.conditions);
	return close_stdout(rc);
}
