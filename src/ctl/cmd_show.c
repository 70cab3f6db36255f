/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ctsync show` and `ctsync count`.
 *
 * Flows, or with the word "expect" after the table expectations.  Local and
 * remote ones come from the daemon, which filters them; the kernel's are read
 * here and meet the same filter.  Either way they are printed as they come.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

struct show {
	const struct ctl	*c;
	struct flowout		*out;		/* NULL: only count */
	uint64_t		 n;
	uint64_t		 strange;	/* flows that this ctsync cannot read */
};

static bool
show_flows(void *ctx, struct rbuf *payload)
{
	struct show	*s = ctx;
	struct rbuf	 body;
	struct flow	 f;
	uint32_t	 timeout;
	int		 rc;

	while ((rc = ctl_flow_get(payload, &timeout, &body)) > 0) {
		if (flow_unpack(body.p, body.len, &f) < 0) {
			s->strange++;
			continue;
		}
		f.timeout_s = timeout;
		f.has |= FLOW_HAS_TIMEOUT;
		if (!flowout_flow(s->out, &f))
			return false;
	}
	if (rc < 0)
		s->strange++;
	return true;
}

static bool
show_kernel(void *ctx, const struct kentry *e)
{
	struct show	*s = ctx;

	if (!flow_filter_match(&s->c->filter, &e->f))
		return true;
	s->n++;
	return s->out == NULL || flowout_kernel(s->out, e);
}

static int
dump_kernel(struct ctl *c, struct show *s)
{
	int	 rc;

	if (c->peer != NULL) {
		ctl_err("--peer goes with remote: the kernel does not know peers");
		return CTL_EXIT_USAGE;
	}
	if (c->filter.expect && (c->filter.set & FLOW_F_ZONE)) {
		ctl_err("%s: the kernel does not tell the zone of an expectation: --zone goes with local "
		    "and remote", c->cmd);
		return CTL_EXIT_USAGE;
	}
	if ((rc = kdump(c->filter.family, c->filter.expect, show_kernel, s)) == 0)
		return CTL_EXIT_OK;
	if (rc == -EPERM || rc == -EACCES)
		ctl_err("%s kernel: reading the kernel's table needs root (CAP_NET_ADMIN)",
		    c->cmd);
	else if (rc == -EPROTONOSUPPORT || rc == -EINVAL || rc == -EOPNOTSUPP)
		ctl_err("%s kernel: this kernel has no conntrack netlink: load the module "
		    "nf_conntrack_netlink", c->cmd);
	else
		ctl_err("%s kernel: %s", c->cmd, strerror(-rc));
	return CTL_EXIT_FAILED;
}

/* "expect" after the table: a condition like any other, but no option. */
static bool
want_expect(struct ctl *c, const char *word)
{
	char	 err[FILTER_ERR_MAX];

	if (strcmp(word, "expect") != 0) {
		ctl_err("%s: expected \"expect\" or options after the table, not \"%s\"", c->cmd, word);
		return false;
	}
	if (flow_filter_set(&c->filter, word, NULL, err) < 0 ||
	    flow_filter_check(&c->filter, err) < 0) {
		ctl_err("%s: %s", c->cmd, err);
		return false;
	}
	json_object_set_new(c->conditions, word, json_true());
	return true;
}

/* The table named by the arguments; usage error: NULL. */
static const char *
table_arg(struct ctl *c, int argc, char **argv)
{
	const char	*table = argv[0];

	if (strcmp(table, "local") != 0 && strcmp(table, "remote") != 0 &&
	    strcmp(table, "kernel") != 0) {
		ctl_err("%s: expected local, remote or kernel, not \"%s\"", c->cmd, table);
		return NULL;
	}
	if (c->peer != NULL && strcmp(table, "local") == 0) {
		ctl_err("--peer goes with remote: the local table is this node's own");
		return NULL;
	}
	return argc < 2 || want_expect(c, argv[1]) ? table : NULL;
}

static json_t *
request(const struct ctl *c, const char *table)
{
	json_t	*args = json_object();

	json_object_set_new(args, "table", json_string(table));
	if (c->peer != NULL)
		json_object_set_new(args, "peer", json_string(c->peer));
	if (json_object_size(c->conditions) > 0)
		json_object_set(args, "filter", c->conditions);
	return args;
}

static int
show_daemon(struct ctl *c, struct show *s, const char *table)
{
	static const struct client_cb	 cb = { .flows = show_flows };
	json_t				*result;
	int				 rc;

	result = client_call(c, request(c, table), &cb, s);
	if (result == NULL)
		return CTL_EXIT_UNREACHABLE;
	rc = client_exit(c, result);
	json_decref(result);
	return rc;
}

int
cmd_show(struct ctl *c, int argc, char **argv)
{
	struct show	 s = { .c = c };
	const char	*table;
	uint64_t	 n;
	int		 rc;

	if ((table = table_arg(c, argc, argv)) == NULL)
		return CTL_EXIT_USAGE;
	if (c->json)
		c->format = OUT_JSON;
	if ((s.out = flowout_new(c->format, c->filter.expect)) == NULL) {
		ctl_err("out of memory");
		return CTL_EXIT_FAILED;
	}
	if (strcmp(table, "kernel") == 0)
		rc = dump_kernel(c, &s);
	else
		rc = show_daemon(c, &s, table);
	n = flowout_end(s.out, rc == CTL_EXIT_OK);
	if (rc == CTL_EXIT_OK && s.strange > 0) {
		ctl_err("%llu of them were left out: this ctsync is too old to read them",
		    (unsigned long long)s.strange);
		rc = CTL_EXIT_FAILED;
	}
	if (rc == CTL_EXIT_OK && c->format == OUT_TEXT && isatty(STDERR_FILENO)) {
		fflush(stdout);
		fprintf(stderr, "%llu %s%s\n", (unsigned long long)n,
		    c->filter.expect ? "expectation" : "flow", n == 1 ? "" : "s");
	}
	return rc;
}

static int
print_count(const struct ctl *c, long long n)
{
	if (c->json)
		printf("{ \"ok\": true, \"exit\": 0, \"count\": %lld }\n", n);
	else
		printf("%lld\n", n);
	return CTL_EXIT_OK;
}

int
cmd_count(struct ctl *c, int argc, char **argv)
{
	struct show	 s = { .c = c };
	const char	*table;
	json_t		*result, *n;
	int		 rc;

	if ((table = table_arg(c, argc, argv)) == NULL)
		return CTL_EXIT_USAGE;
	if (strcmp(table, "kernel") == 0) {
		rc = dump_kernel(c, &s);
		return rc == CTL_EXIT_OK ? print_count(c, (long long)s.n) : rc;
	}
	rc = client_simple(c, request(c, table), &result);
	if (rc != CTL_EXIT_OK || result == NULL)
		goto out;
	n = json_object_get(result, "count");
	if (json_is_integer(n))
		rc = print_count(c, (long long)json_integer_value(n));
	else {
		ctl_err("count: the daemon's answer lacks a count");
		rc = CTL_EXIT_FAILED;
	}
out:
	json_decref(result);
	return rc;
}
