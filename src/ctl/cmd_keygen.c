/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ctsync keygen`: make the secret of a cluster.
 *
 * What a key file is and how it is made safely is in ctsync/keyfile.h; here is
 * only where it goes and whose it becomes.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/conf.h"
#include "ctsync/keyfile.h"

#include "ctl.h"

#define KEY_DEFAULT_FILE	"/etc/ctsyncd/key"

int
cmd_keygen(struct ctl *c, int argc, char **argv)
{
	const char	*path = argc > 0 ? argv[0] : KEY_DEFAULT_FILE;
	struct passwd	*pw;
	uid_t		 owner = (uid_t)-1;
	json_t		*j;
	char		 err[CONF_ERR_MAX], *end;
	long		 id = 1;

	if (argc > 1) {
		id = strtol(argv[1], &end, 10);
		if (*argv[1] == '\0' || *end != '\0' || id < 1 || id > UINT16_MAX) {
			ctl_err("keygen: expected a key id, 1 to 65535, not \"%s\"", argv[1]);
			return CTL_EXIT_USAGE;
		}
	}
	/* The daemon reads it as its own user; before that one exists, as root. */
	if (geteuid() == 0 && (pw = getpwnam(CONF_DEFAULT_USER)) != NULL)
		owner = pw->pw_uid;
	if (keyfile_generate(path, (uint16_t)id, owner, err, sizeof(err)) < 0) {
		ctl_err("keygen: %s", err);
		return CTL_EXIT_FAILED;
	}
	if (c->json) {
		j = json_pack("{s:b, s:i, s:s, s:i}", "ok", 1, "exit", 0, "file", path, "id", (int)id);
		text_dump(j);
		json_decref(j);
	} else
		printf("key %ld is in %s: copy the file to the other nodes, over a safe way\n", id,
		    path);
	return CTL_EXIT_OK;
}
