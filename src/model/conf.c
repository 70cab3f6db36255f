/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Load a configuration and let it go.
 *
 * The work is done elsewhere: conf_text.c reads the files, conf_parse.c walks
 * what libconfig made of them, conf_keys.c has the table of keys, conf_check.c
 * sees to it that they agree, conf_print.c writes them.  Here the key file,
 * which belongs to a valid configuration, is tried.
 */
#include <sys/types.h>

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>

#include "conf_int.h"
#include "ctsync/keyfile.h"

int
conf_load(const char *path, struct conf **out, char *err, size_t errlen)
{
	struct conf	*c;
	struct keyfile	*keys;
	struct passwd	*pw;
	int		 r;

	*out = NULL;
	if ((r = conf_parse(path, &c, err, errlen)) < 0)
		return r;
	pw = getpwnam(c->user);
	r = keyfile_load(c->key_file, pw != NULL ? pw->pw_uid : 0, &keys, err, errlen);
	if (r < 0) {
		conf_free(c);
		return r;
	}
	keyfile_free(keys);
	*out = c;
	return 0;
}

void
conf_free(struct conf *c)
{
	size_t	 i;

	if (c == NULL)
		return;
	for (i = 0; i < c->nlinks; i++)
		free(c->links[i].peers);
	free(c->links);
	free(c->filter.addr_only);
	free(c->filter.addr_except);
	free(c->filter.mark_only);
	free(c->filter.mark_except);
	free(c->filter.zone_only);
	free(c->filter.zone_except);
	free(c);
}
