/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was asked for last: takeover or release.
 *
 * It is kept in the runtime directory by whoever asks, so that it is there
 * when no daemon is (doc/control.md, "What was asked for last"): a file "last"
 * in the directory "asked", which the daemon's user and the group that may
 * command the daemon can write to.  Requests are ordered by the start of the
 * process that asks, not by when it comes to write: a script that was held up
 * does not undo what was asked for after it was started.
 */
#ifndef CTSYNC_WISH_H
#define CTSYNC_WISH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WISH_DIR	"asked"		/* in the runtime directory */
#define WISH_ERR_MAX	512
#define WISH_STAMP_MAX	INT64_MAX

enum wish_what {
	WISH_NONE,
	WISH_TAKEOVER,
	WISH_RELEASE
};

struct wish {
	enum wish_what	 what;
	uint64_t	 stamp;
};

/* "takeover", "release" or "nothing"; static. */
const char	*wish_name(enum wish_what what);

/*
 * The stamp of a process: when it was started since the boot, in clock ticks,
 * and its number, because a tick is long.  pid 0: this process.  0 or -errno.
 */
int		 wish_stamp(pid_t pid, uint64_t *stamp) __attribute__((warn_unused_result));
/*
 * Who asks, if process pid does so for another: the process that keepalived
 * started, if pid comes from one, be it through scripts that call scripts; else
 * pid itself.
 */
pid_t		 wish_asker(pid_t pid);
/* A stamp for what is asked for now by nobody in particular. */
uint64_t	 wish_now(void);
/* Was a asked for before b?  Of two in one tick, one without process, neither was. */
bool		 wish_before(uint64_t a, uint64_t b);
/* When that was, in seconds before now; 0 for what is not past. */
uint64_t	 wish_age_s(uint64_t stamp);

/*
 * Make the directory for wishes, and the runtime directory dir if it is
 * missing: dir belongs to uid and its group gid, wishes may be left by the
 * group who.  Root gives both away; without rights to that they stay as they
 * are.  0, or -errno and a sentence in err.
 */
int		 wish_prepare(const char *dir, uid_t uid, gid_t gid, gid_t who,
		    char err[WISH_ERR_MAX]) __attribute__((warn_unused_result));

/*
 * What was asked for last since the boot, in *w: what is WISH_NONE if nothing
 * was.  0, or -errno, *w none and a sentence in err; -EBADMSG for a file that
 * makes no sense or is from the future.
 */
int		 wish_read(const char *dir, struct wish *w, char err[WISH_ERR_MAX])
		    __attribute__((warn_unused_result));

/*
 * Record *mine, unless something that was asked for later is recorded; *stands
 * is what is recorded then.  Waits for other writers, at most wait_ms.  0, or
 * -errno, *stands == *mine and a sentence in err that says what is in the way.
 * A record that makes no sense is replaced.
 */
int		 wish_record(const char *dir, const struct wish *mine, unsigned wait_ms,
		    struct wish *stands, char err[WISH_ERR_MAX])
		    __attribute__((warn_unused_result));

#endif
