/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ctsync stats` and `ctsync metrics`.
 *
 * stats prints every number of the daemon's JSON under its dotted name, one a
 * line; which there are is the daemon's to know.  metrics prints text that the
 * daemon made.
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"

#define NAME_BYTES	256
#define DEPTH_MAX	8

static void	flatten(struct table *, const char *, const json_t *, int);

/* "prefix.key" */
static void
flatten_member(struct table *t, const char *prefix, const char *key, const json_t *v, int depth)
{
	char	 name[NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix != '\0' ? "." : "", key);
	flatten(t, name, v, depth + 1);
}

/* Elements go by their name, if they have one. */
static void
flatten_array(struct table *t, const char *prefix, const json_t *a, int depth)
{
	const json_t	*v;
	const char	*name;
	char		 index[32];
	size_t		 i;

	for (i = 0; i < json_array_size(a); i++) {
		v = json_array_get(a, i);
		snprintf(index, sizeof(index), "%zu", i);
		name = text_str(v, "node", text_str(v, "name", index));
		flatten_member(t, prefix, name, v, depth);
	}
}

static void
flatten(struct table *t, const char *name, const json_t *v, int depth)
{
	json_t		*m;
	const char	*key;
	char		 buf[TEXT_MAX];

	if (depth > DEPTH_MAX)
		return;
	if (json_is_object(v)) {
		json_object_foreach((json_t *)(uintptr_t)v, key, m)
			flatten_member(t, name, key, m, depth);
	} else if (json_is_array(v)) {
		flatten_array(t, name, v, depth);
	} else {
		table_cell(t, name);
		if (json_is_real(v))
			snprintf(buf, sizeof(buf), "%.6g", json_real_value(v));
		else if (json_is_integer(v))
			snprintf(buf, sizeof(buf), "%lld", (long long)json_integer_value(v));
		else if (json_is_string(v))
			snprintf(buf, sizeof(buf), "%s", json_string_value(v));
		else
			snprintf(buf, sizeof(buf), "%s", json_is_true(v) ? "yes" :
			    json_is_false(v) ? "no" : "-");
		table_cell(t, buf);
	}
}

int
cmd_stats(struct ctl *c, int argc, char **argv)
{
	struct table	*t;
	json_t		*j;
	int		 rc;

	(void)argc;
	(void)argv;
	rc = client_simple(c, NULL, &j);
	if (rc == CTL_EXIT_OK && j != NULL) {
		json_object_del(j, "ok");
		json_object_del(j, "exit");
		t = table_new(2);
		flatten(t, "", j, 0);
		table_print(t);
	}
	json_decref(j);
	return rc;
}

int
cmd_metrics(struct ctl *c, int argc, char **argv)
{
	json_t	*j;
	int	 rc;

	(void)argc;
	(void)argv;
	rc = client_simple(c, NULL, &j);
	if (rc == CTL_EXIT_OK && j != NULL)
		fputs(text_str(j, "text", ""), stdout);
	json_decref(j);
	return rc;
}
