/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * takeover and release.
 *
 * What is asked for is recorded in the runtime directory first, and then the
 * daemon is told.  So it is known when no daemon runs, when the daemon dies in
 * between, and when this command does.  Of several requests the one that was
 * asked for last stands; it is the daemon that decides that.
 */
#include <sys/stat.h>

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/conf.h"
#include "ctsync/wish.h"

#include "ctl.h"

#define PATH_BYTES	256
#define LOCK_WAIT_MS	2000	/* for other writers of the record: they take microseconds */

/* What became of the record. */
struct record {
	char		 dir[PATH_BYTES];	/* "": it is not known where */
	bool		 written;		/* *stands is what is recorded */
	struct wish	 stands;
	char		 err[WISH_ERR_MAX];	/* else: why not */
};

/*
 * Where the daemon looks: CTSYNC_RUNTIME_DIR, or the directory of the control
 * socket.  Another directory than the usual one has to be recognisable.
 */
static void
find_dir(const struct ctl *c, struct record *r)
{
	const char	*env = getenv("CTSYNC_RUNTIME_DIR"), *slash = strrchr(c->socket, '/');
	char		 path[PATH_BYTES + sizeof(WISH_DIR) + 1];
	struct stat	 st;

	if (env != NULL && *env != '\0') {
		snprintf(r->dir, sizeof(r->dir), "%s", env);
		return;
	}
	if (slash == NULL || (size_t)(slash - c->socket) >= sizeof(r->dir))
		return;
	snprintf(r->dir, sizeof(r->dir), "%.*s", (int)(slash - c->socket), c->socket);
	snprintf(path, sizeof(path), "%s/" WISH_DIR, r->dir);
	if (strcmp(c->socket, CTL_SOCKET_DEFAULT) != 0 &&
	    (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
		r->dir[0] = '\0';
}

/*
 * The directory is missing: no daemon was ever started since the boot.  Root
 * makes it as the daemon would, its owner what is missing in it.
 */
static int
make_dir(struct record *r)
{
	struct passwd	*pw;
	struct stat	 st;
	uid_t		 uid = geteuid();
	gid_t		 gid = getegid();

	if (lstat(r->dir, &st) == 0) {
		if (uid != 0 && st.st_uid != uid)
			return -ENOENT;
		uid = st.st_uid;
		gid = st.st_gid;
	} else if (uid != 0)
		return -ENOENT;
	else if ((pw = getpwnam(CONF_DEFAULT_USER)) != NULL) {
		uid = pw->pw_uid;
		gid = pw->pw_gid;
	}
	return wish_prepare(r->dir, uid, gid, gid, r->err);
}

static void
put_record(const struct ctl *c, const struct wish *mine, struct record *r)
{
	int	 rc;

	memset(r, 0, sizeof(*r));
	find_dir(c, r);
	if (r->dir[0] == '\0') {
		snprintf(r->err, sizeof(r->err), "the runtime directory of that daemon is not known: set "
		    "CTSYNC_RUNTIME_DIR");
		return;
	}
	rc = wish_record(r->dir, mine, LOCK_WAIT_MS, &r->stands, r->err);
	if (rc == -ENOENT && make_dir(r) == 0)
		rc = wish_record(r->dir, mine, LOCK_WAIT_MS, &r->stands, r->err);
	r->written = rc == 0;
}

/* The daemon was not reached, which has been said: what is going to happen? */
static void
explain_record(const struct ctl *c, const struct wish *mine, const struct record *r)
{
	if (!r->written)
		ctl_err("%s: NOT DONE, and not recorded either: %s", c->cmd, r->err);
	else if (r->stands.what != mine->what)
		ctl_err("%s: a later request (%s) stands in %s: ctsyncd carries that out as soon as it "
		    "runs", c->cmd, wish_name(r->stands.what), r->dir);
	else
		ctl_err("%s: not done yet, but recorded in %s: ctsyncd carries it out as soon as it runs",
		    c->cmd, r->dir);
}

static int
stamp_of(const struct ctl *c, uint64_t *stamp)
{
	int	 rc = wish_stamp(c->asked_by == 0 ? 0 : wish_asker(c->asked_by), stamp);

	if (rc == 0)
		return CTL_EXIT_OK;
	if (c->asked_by != 0) {
		ctl_err("--asked-by: process %d: %s", (int)c->asked_by, rc == -ENOENT ?
		    "there is none of that number" : strerror(-rc));
		return CTL_EXIT_USAGE;
	}
	*stamp = wish_now();		/* no /proc */
	return CTL_EXIT_OK;
}

int
cmd_role(struct ctl *c, int argc, char **argv)
{
	struct wish	 mine;
	struct record	 r;
	json_t		*j;
	bool		 later;
	int		 rc;

	(void)argc;
	(void)argv;
	mine.what = strcmp(c->cmd, "takeover") == 0 ? WISH_TAKEOVER : WISH_RELEASE;
	if ((rc = stamp_of(c, &mine.stamp)) != CTL_EXIT_OK)
		return rc;
	put_record(c, &mine, &r);
	j = client_call(c, json_pack("{s:I}", "stamp", (json_int_t)mine.stamp), NULL, NULL);
	if (j == NULL) {
		explain_record(c, &mine, &r);
		return CTL_EXIT_UNREACHABLE;
	}
	rc = client_exit(c, j);
	if (rc == CTL_EXIT_UNREACHABLE)
		explain_record(c, &mine, &r);
	later = json_object_get(j, "later") != NULL;
	if (c->json)
		text_dump(j);
	else if (rc == CTL_EXIT_OK || json_object_get(j, "flows") != NULL)
		act_print(c, j, rc == CTL_EXIT_OK);
	json_decref(j);
	/* whoever was sent has been overtaken: what was asked for last is done */
	return later && c->asked_by != 0 && rc == CTL_EXIT_FAILED ? CTL_EXIT_OK : rc;
}
