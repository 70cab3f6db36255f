/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The commands that change something: commit, resync, reload, flush, forget, log,
 * shutdown.  takeover and release are in cmd_role.c.
 *
 * They return when the daemon is done, and say what was done in few words:
 * whoever types them has a firewall down.  Only what the answer holds is
 * printed; nothing is made up.
 */
#include <stdio.h>
#include <string.h>

#include "ctsync/log.h"

#include "ctl.h"

/* "198340 created, 2 already there" of what the answer counts. */
static void
print_counts(const json_t *j)
{
	static const struct {
		const char	*key, *text;
		bool		 if_zero;	/* worth saying even then */
	} counts[] = {
		{ "created", "created", true }, { "updated", "updated", false },
		{ "existing", "already here", false },
		{ "ended", "known to have ended", false }, { "failed", "REFUSED by the kernel", false },
		{ "without_master", "without their master", false },
		{ "without_helper", "without their helper", false },
		{ "without_labels", "without their labels", false }
	};
	const json_t	*v;
	const char	*sep = ": ";
	size_t		 i;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		v = json_object_get(j, counts[i].key);
		if (!json_is_integer(v) || (json_integer_value(v) == 0 && !counts[i].if_zero))
			continue;
		printf("%s%lld %s", sep, (long long)json_integer_value(v), counts[i].text);
		sep = ", ";
	}
}

static void
print_failures(const json_t *list)
{
	const json_t	*f;
	char		 n[TEXT_MAX];
	size_t		 i;

	for (i = 0; i < json_array_size(list); i++) {
		f = json_array_get(list, i);
		printf("  refused %s: %s\n", text_member(f, "count", n), text_str(f, "reason", "-"));
		if (json_object_get(f, "example") != NULL)
			printf("    such as %s\n", text_str(f, "example", "-"));
	}
}

void
act_print(const struct ctl *c, const json_t *j, bool ok)
{
	char	 a[TEXT_MAX], b[TEXT_MAX];

	printf("%s %s", c->cmd, ok ? "done" : "NOT COMPLETE");
	if (json_object_get(j, "flows") != NULL)
		printf(": %s flows", text_member(j, "flows", a));
	if (text_num(j, "expectations", 0) > 0)
		printf(", %s of them expectations,", text_member(j, "expectations", a));
	if (json_object_get(j, "elapsed_ms") != NULL)
		printf(" in %s", text_ms(text_num(j, "elapsed_ms", 0), b));
	print_counts(j);
	putchar('\n');
	print_failures(json_object_get(j, "failures"));
	if (json_object_get(j, "basis") != NULL)
		printf("based on: %s\n", text_str(j, "basis", "-"));
	if (json_is_integer(json_object_get(j, "adopted")))
		printf("adopted:  %s flows are ours now\n", text_member(j, "adopted", a));
	if (json_object_get(j, "role") != NULL)
		printf("role:     %s\n", text_str(j, "role", "-"));
	if (json_object_get(j, "message") != NULL)
		printf("%s\n", text_str(j, "message", ""));
	if (json_object_get(j, "warning") != NULL)
		printf("warning:  %s\n", text_str(j, "warning", "-"));
}

int
cmd_commit(struct ctl *c, int argc, char **argv)
{
	json_t	*j;
	int	 rc;

	(void)argc;
	(void)argv;
	rc = client_simple(c, NULL, &j);
	if (j == NULL)
		return rc;
	/* An error alone has been printed; one with numbers deserves them too. */
	if (rc == CTL_EXIT_OK || json_object_get(j, "flows") != NULL)
		act_print(c, j, rc == CTL_EXIT_OK);
	json_decref(j);
	return rc;
}

/* Send the request and print "message", or a word of our own. */
static int
act(const struct ctl *c, json_t *args, const char *otherwise)
{
	json_t	*j;
	int	 rc;

	rc = client_simple(c, args, &j);
	if (rc == CTL_EXIT_OK && j != NULL)
		printf("%s\n", text_str(j, "message", otherwise));
	json_decref(j);
	return rc;
}

int
cmd_simple(struct ctl *c, int argc, char **argv)
{
	char	 done[TEXT_MAX];

	(void)argc;
	(void)argv;
	snprintf(done, sizeof(done), "%s done", c->cmd);
	return act(c, NULL, done);
}

int
cmd_flush(struct ctl *c, int argc, char **argv)
{
	json_t	*j;
	char	 n[TEXT_MAX];
	int	 rc;

	(void)argc;
	if (strcmp(argv[0], "local") != 0 && strcmp(argv[0], "remote") != 0 &&
	    strcmp(argv[0], "kernel") != 0) {
		ctl_err("flush: expected local, remote or kernel, not \"%s\"", argv[0]);
		return CTL_EXIT_USAGE;
	}
	rc = client_simple(c, json_pack("{s:s}", "table", argv[0]), &j);
	if (rc == CTL_EXIT_OK && j != NULL) {
		if (json_object_get(j, "message") != NULL)
			printf("%s\n", text_str(j, "message", ""));
		else
			printf("flushed %s flows from the %s table\n", text_member(j, "flows", n),
			    argv[0]);
	}
	json_decref(j);
	return rc;
}

int
cmd_forget(struct ctl *c, int argc, char **argv)
{
	char	 done[TEXT_MAX];

	(void)argc;
	snprintf(done, sizeof(done), "%.48s is forgotten", argv[0]);
	return act(c, json_pack("{s:s}", "peer", argv[0]), done);
}

int
cmd_log(struct ctl *c, int argc, char **argv)
{
	char	 done[TEXT_MAX];

	(void)argc;
	if (log_level_parse(argv[0]) < 0) {
		ctl_err("log: expected err, warning, notice, info or debug, not \"%s\"", argv[0]);
		return CTL_EXIT_USAGE;
	}
	snprintf(done, sizeof(done), "log level is %s", argv[0]);
	return act(c, json_pack("{s:s}", "level", argv[0]), done);
}
