/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Give up all privileges but CAP_NET_ADMIN.
 *
 * That one capability is enough for everything the daemon does after start-up.
 * What needs more (making the runtime directory, reading a key of root) comes
 * before.  Capabilities belong to threads: call this before any is started.
 */
#ifndef CTSYNC_PRIV_H
#define CTSYNC_PRIV_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define PRIV_ERR_MAX	256	/* bytes that any text of this module fits into */

/*
 * Does this process have CAP_NET_ADMIN?  0, or -EPERM and in err what to do.
 */
int	priv_check(char *err, size_t errlen) __attribute__((warn_unused_result));

/*
 * Ids of a user by name.  0, -ENOENT if there is none, or why that cannot be
 * told.  Either pointer may be NULL.
 */
int	priv_user(const char *user, uid_t *uid, gid_t *gid) __attribute__((warn_unused_result));

/*
 * Drop privileges for good: no way back, also not through exec.
 *
 * As root: become user with its groups, keep CAP_NET_ADMIN.  If optional is
 * true and there is no such user, stay root without other capabilities.  As
 * anyone else: stay who we are; nothing but CAP_NET_ADMIN is kept.
 *
 * 0; msg is "", or a warning that the operator should see.  -errno otherwise
 * and msg says what failed and what to do; the process may then be half way
 * down and has to exit.
 */
int	priv_drop(const char *user, bool optional, char *msg, size_t msglen)
	    __attribute__((warn_unused_result));

#endif
