/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Privileges, with libcap.
 *
 * Order matters: the bounding set and the groups need capabilities that the
 * change of user or the last step takes away.  The result is verified, because
 * a drop that silently failed would be worse than none.
 */
#include <sys/prctl.h>
#include <sys/types.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/capability.h>

#include "ctsync/priv.h"

static int __attribute__((format(printf, 4, 5)))
priv_fail(int error, char *msg, size_t msglen, const char *fmt, ...)
{
	va_list	 ap;
	int	 n;

	va_start(ap, fmt);
	n = vsnprintf(msg, msglen, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < msglen)
		snprintf(msg + n, msglen - (size_t)n, ": %s", strerror(-error));
	return error;
}

static bool
has_cap(cap_value_t cap, cap_flag_t set)
{
	cap_flag_value_t	 v = CAP_CLEAR;
	cap_t			 caps = cap_get_proc();

	if (caps == NULL)
		return false;
	if (cap_get_flag(caps, cap, set, &v) != 0)
		v = CAP_CLEAR;
	cap_free(caps);
	return v == CAP_SET;
}

int
priv_check(char *err, size_t errlen)
{
	if (has_cap(CAP_NET_ADMIN, CAP_PERMITTED))
		return 0;
	snprintf(err, errlen, "needs CAP_NET_ADMIN: start as root or with the systemd unit");
	return -EPERM;
}

int
priv_user(const char *user, uid_t *uid, gid_t *gid)
{
	struct passwd	*pw;

	errno = 0;
	if ((pw = getpwnam(user)) == NULL) {
		/* getpwnam(3): these, too, mean that there is no such user. */
		if (errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF ||
		    errno == EPERM)
			return -ENOENT;
		return -errno;
	}
	if (uid != NULL)
		*uid = pw->pw_uid;
	if (gid != NULL)
		*gid = pw->pw_gid;
	return 0;
}

/* Nothing can be gained by an exec any more.  Without CAP_SETPCAP it has to stay. */
static int
drop_bounding(void)
{
	cap_value_t	 c;

	if (!has_cap(CAP_SETPCAP, CAP_EFFECTIVE))
		return 0;
	for (c = 0; cap_get_bound(c) >= 0; c++)
		if (cap_get_bound(c) > 0 && cap_drop_bound(c) != 0)
			return -errno;
	return 0;
}

static int
become(const char *user, uid_t uid, gid_t gid)
{
	if (initgroups(user, gid) != 0 || setresgid(gid, gid, gid) != 0 ||
	    prctl(PR_SET_KEEPCAPS, 1L, 0L, 0L, 0L) != 0 || setresuid(uid, uid, uid) != 0 ||
	    prctl(PR_SET_KEEPCAPS, 0L, 0L, 0L, 0L) != 0)
		return -errno;
	if (uid != 0 && setresuid(0, 0, 0) == 0 && getuid() == 0)
		return -ENOTRECOVERABLE;
	return 0;
}

/* CAP_NET_ADMIN permitted and effective, nothing else, nothing to inherit. */
static int
keep_net_admin(void)
{
	static const cap_value_t	 want[] = { CAP_NET_ADMIN };
	cap_t				 caps;
	int				 r = 0;

	if ((caps = cap_init()) == NULL)
		return -ENOMEM;
	if (cap_set_flag(caps, CAP_PERMITTED, 1, want, CAP_SET) != 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, 1, want, CAP_SET) != 0 ||
	    cap_set_proc(caps) != 0)
		r = -errno;
	cap_free(caps);
	return r;
}

static bool
is_dropped(void)
{
	cap_value_t	 c;

	for (c = 0; cap_get_bound(c) >= 0; c++) {
		if (has_cap(c, CAP_PERMITTED) != (c == CAP_NET_ADMIN) ||
		    has_cap(c, CAP_EFFECTIVE) != (c == CAP_NET_ADMIN) ||
		    has_cap(c, CAP_INHERITABLE))
			return false;
	}
	return true;
}

int
priv_drop(const char *user, bool optional, char *msg, size_t msglen)
{
	uid_t	 uid = 0;
	gid_t	 gid = 0;
	int	 r;

	msg[0] = '\0';
	if ((r = priv_check(msg, msglen)) < 0)
		return r;
	if (geteuid() == 0) {
		r = priv_user(user, &uid, &gid);
		if (r == -ENOENT && optional) {
			snprintf(msg, msglen, "there is no user \"%s\": staying root with "
			    "CAP_NET_ADMIN only; systemd-sysusers or adduser can make one", user);
		} else if (r == -ENOENT) {
			snprintf(msg, msglen, "there is no user \"%s\" (setting `user')", user);
			return r;
		} else if (r < 0) {
			return priv_fail(r, msg, msglen, "cannot look up user \"%s\"", user);
		}
		if ((r = drop_bounding()) < 0)
			return priv_fail(r, msg, msglen, "cannot drop the bounding set");
		if (msg[0] == '\0' && (r = become(user, uid, gid)) < 0)
			return priv_fail(r, msg, msglen, "cannot become user \"%s\"", user);
	}
	if ((r = keep_net_admin()) < 0)
		return priv_fail(r, msg, msglen, "cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) != 0)
		return priv_fail(-errno, msg, msglen, "cannot set no_new_privs");
	if (!is_dropped())
		return priv_fail(-ENOTRECOVERABLE, msg, msglen, "capabilities are left");
	return 0;
}
