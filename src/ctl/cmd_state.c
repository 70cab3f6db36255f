/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ctsync status` and `ctsync ready`: what an operator looks at first.
 *
 * The keys of the JSON are a contract (doc/control.md); the screen made of them
 * here is not.  What is wrong is in capitals; what is not known is "-".
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"

#define FULL_PERCENT	90	/* of a table: worth shouting */

static void
print_head(const json_t *j)
{
	char	 up[TEXT_MAX];

	printf("node     %s, cluster %s, %s\n", text_str(j, "node", "-"),
	    text_str(j, "cluster", "-"), text_str(j, "role", "-"));
	printf("role     %s\n", text_str(j, "role_source", "-"));
	printf("daemon   ctsyncd %s, up for %s\n", text_str(j, "version", "-"),
	    text_num(j, "uptime_s", 0) < 1 ? "less than a second" :
	    text_ms(text_num(j, "uptime_s", 0) * 1000, up));
}

/* Which ones they are; nothing if there is but one. */
static void
print_two_active(const json_t *j)
{
	const json_t	*peers = json_object_get(j, "peers"), *p;
	size_t		 i;

	if (!json_is_true(json_object_get(j, "two_active")))
		return;
	printf("active   TWO NODES AT ONCE:");
	if (strcmp(text_str(j, "role", ""), "active") == 0)
		printf(" %s", text_str(j, "node", "-"));
	for (i = 0; i < json_array_size(peers); i++) {
		p = json_array_get(peers, i);
		if (strcmp(text_str(p, "role", ""), "active") == 0)
			printf(" %s", text_str(p, "node", "-"));
	}
	printf(": see that one is released; until then no standby removes anything\n");
}

/* Everything else that is wrong. */
static void
print_alerts(const json_t *list)
{
	const json_t	*a;
	size_t		 i;

	for (i = 0; i < json_array_size(list); i++) {
		a = json_array_get(list, i);
		if (strcmp(text_str(a, "id", ""), "two_active") != 0)
			printf("ALERT    %s: %s\n", text_str(a, "text", "-"), text_str(a, "advice", "-"));
	}
}

static void
print_ready(const json_t *ready)
{
	printf("ready    %s: %s\n", json_is_true(json_object_get(ready, "ok")) ? "yes" : "NO",
	    text_str(ready, "reason", "-"));
}

/* " (47 %)" of a limit, or nothing. */
static const char *
percent(double n, double max, char buf[TEXT_MAX])
{
	double	 p = max > 0 ? 100 * n / max : 0;

	if (max <= 0)
		buf[0] = '\0';
	else
		snprintf(buf, TEXT_MAX, " of at most %.0f (%d %%%s)", max, (int)p,
		    p >= 100 ? ", FULL" : p >= FULL_PERCENT ? ", NEARLY FULL" : "");
	return buf;
}

/* ", 3 of them expectations", or nothing. */
static const char *
expectations(const json_t *table, char buf[TEXT_MAX])
{
	char	 n[TEXT_MAX];

	buf[0] = '\0';
	if (text_num(table, "expectations", 0) > 0)
		snprintf(buf, TEXT_MAX, ", %.20s of them expectations",
		    text_member(table, "expectations", n));
	return buf;
}

static void
print_tables(const json_t *j)
{
	const json_t	*local = json_object_get(j, "local"), *kernel = json_object_get(j, "kernel");
	const json_t	*remote = json_object_get(j, "remote");
	char		 a[TEXT_MAX], b[TEXT_MAX], c[TEXT_MAX], d[TEXT_MAX];

	printf("local    %s flows%s%s, version %s\n", text_member(local, "flows", a),
	    percent(text_num(local, "flows", 0), text_num(local, "limit", 0), b),
	    expectations(local, c), text_member(local, "version", d));
	printf("remote   %s flows%s\n", text_member(remote, "flows", a), expectations(remote, c));
	printf("kernel   %s entries%s\n", text_member(kernel, "count", a),
	    percent(text_num(kernel, "count", 0), text_num(kernel, "max", 0), b));
	printf("         %s events, %s overruns, %s resyncs\n", text_member(kernel, "events", a),
	    text_member(kernel, "overruns", b), text_member(kernel, "resyncs", c));
	if (text_num(kernel, "liberal", 0) > 0)
		printf("         %s flows are liberal about TCP windows until both are known again\n",
		    text_member(kernel, "liberal", a));
}

/* "equal 12 ms ago": now or not, and since when. */
static const char *
equality(const json_t *peer, const char *sync_key, const char *age_key, char buf[TEXT_MAX])
{
	const json_t	*sync = json_object_get(peer, sync_key), *age = json_object_get(peer, age_key);
	char		 t[TEXT_MAX];

	if (json_is_number(age))
		text_ms(json_number_value(age), t);
	if (json_is_true(sync))
		snprintf(buf, TEXT_MAX, json_is_number(age) ? "equal %.24s ago" : "equal%.0s", t);
	else if (json_is_number(age))
		snprintf(buf, TEXT_MAX, "NOT EQUAL, was %.24s ago", t);
	else if (json_is_false(sync))
		snprintf(buf, TEXT_MAX, "NEVER EQUAL");
	else
		snprintf(buf, TEXT_MAX, "not known");
	return buf;
}

static const char *
lag(const json_t *peer, const char *median, const char *p99, char buf[TEXT_MAX])
{
	const json_t	*m = json_object_get(peer, median), *v = json_object_get(peer, p99);
	char		 a[TEXT_MAX], b[TEXT_MAX];

	if (!json_is_number(m))
		return "-";
	if (!json_is_number(v))
		return text_ms(json_number_value(m), buf);
	snprintf(buf, TEXT_MAX, "%.24s, p99 %.24s", text_ms(json_number_value(m), a),
	    text_ms(json_number_value(v), b));
	return buf;
}

static void
print_peers(const json_t *peers)
{
	static const char *const	 heads[] = {
		"PEER", "STATE", "ROLE", "ITS FLOWS HERE", "OURS THERE", "FLOWS", "LAG", "ITS LAG",
		"ACKED", "PENDING", "LINK"
	};
	struct table			*t;
	const json_t			*p;
	char				 buf[TEXT_MAX];
	const char			*state;
	size_t				 i;

	if (json_array_size(peers) == 0) {
		printf("\nno peers\n");
		return;
	}
	putchar('\n');
	t = table_new(sizeof(heads) / sizeof(heads[0]));
	for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		table_cell(t, heads[i]);
	for (i = 0; i < json_array_size(peers); i++) {
		p = json_array_get(peers, i);
		state = text_str(p, "state", "-");
		table_cell(t, text_str(p, "node", "-"));
		table_cell(t, strcmp(state, "lost") == 0 ? "LOST" : state);
		table_cell(t, text_str(p, "role", "-"));
		table_cell(t, equality(p, "in_sync", "verified_ms", buf));
		table_cell(t, equality(p, "peer_in_sync", "peer_verified_ms", buf));
		table_cell(t, text_member(p, "flows", buf));
		table_cell(t, lag(p, "lag_ms", "lag_p99_ms", buf));
		table_cell(t, lag(p, "peer_lag_ms", "peer_lag_p99_ms", buf));
		table_cell(t, text_member(p, "acked", buf));
		table_cell(t, text_member(p, "pending", buf));
		table_cell(t, text_member(p, "link", buf));
	}
	table_print(t);
}

static void
print_links(const json_t *links)
{
	static const char *const	 heads[] = {
		"LINK", "TRANSPORT", "STATE", "SENT", "RECEIVED", "REJECTED"
	};
	struct table			*t;
	const json_t			*l;
	char				 buf[TEXT_MAX];
	const char			*state;
	size_t				 i;

	if (json_array_size(links) == 0)
		return;
	putchar('\n');
	t = table_new(sizeof(heads) / sizeof(heads[0]));
	for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		table_cell(t, heads[i]);
	for (i = 0; i < json_array_size(links); i++) {
		l = json_array_get(links, i);
		state = text_str(l, "state", "-");
		table_cell(t, text_str(l, "name", "-"));
		table_cell(t, text_str(l, "transport", "-"));
		table_cell(t, strcmp(state, "down") == 0 ? "DOWN" : state);
		table_cell(t, text_bytes(text_num(l, "tx_bytes", 0), buf));
		table_cell(t, text_bytes(text_num(l, "rx_bytes", 0), buf));
		table_cell(t, text_member(l, "rejected", buf));
	}
	table_print(t);
}

int
cmd_status(struct ctl *c, int argc, char **argv)
{
	json_t	*j;
	int	 rc;

	(void)argc;
	(void)argv;
	rc = client_simple(c, NULL, &j);
	if (j == NULL)
		return rc;
	if (rc == CTL_EXIT_OK) {
		print_head(j);
		print_two_active(j);
		print_alerts(json_object_get(j, "alerts"));
		print_ready(json_object_get(j, "ready"));
		print_tables(j);
		print_peers(json_object_get(j, "peers"));
		print_links(json_object_get(j, "links"));
	}
	json_decref(j);
	return rc;
}

int
cmd_ready(struct ctl *c, int argc, char **argv)
{
	json_t	*j;
	int	 rc;

	(void)argc;
	(void)argv;
	rc = client_simple(c, NULL, &j);
	if (j == NULL)
		return rc;
	if (json_object_get(j, "reason") != NULL)
		printf("%s: %s\n", rc == CTL_EXIT_OK ? "ready" : "not ready",
		    text_str(j, "reason", "-"));
	json_decref(j);
	return rc;
}
