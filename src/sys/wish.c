/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was asked for last.
 *
 * One line, "takeover|release STAMP BOOT".  BOOT is the kernel's boot id: a
 * stamp counts from the boot, and what was asked for before it counts no more.
 * Reading, comparing and replacing is done under a lock of the directory, which
 * only those can open who may write to it.  The lock is not worth a wish: a
 * writer that waited for it in vain goes on without.
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctsync/rundir.h"
#include "ctsync/wish.h"

#define FILE_NAME	"last"
#define BOOT_FILE	"/proc/sys/kernel/random/boot_id"
#define BOOT_CHARS	36
#define PID_BITS	22		/* the kernel's PID_MAX_LIMIT */
#define PID_MASK	((UINT64_C(1) << PID_BITS) - 1)
#define PID_LEAP	16384u		/* more are not started in one tick */
#define STAT_PARENT	4		/* fields of /proc/PID/stat, proc(5) */
#define STAT_START	22
#define MANAGER		"keepalived"	/* its processes have names that begin so */
#define ANCESTORS	16		/* looked at: scripts that call scripts */
#define LINE_MAX_BYTES	128
#define LOCK_STEP_MS	10

static int __attribute__((format(printf, 3, 4)))
fail(char err[WISH_ERR_MAX], int error, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vsnprintf(err, WISH_ERR_MAX, fmt, ap);
	va_end(ap);
	return error;
}

const char *
wish_name(enum wish_what what)
{
	return what == WISH_TAKEOVER ? "takeover" : what == WISH_RELEASE ? "release" : "nothing";
}

/* --- stamps ------------------------------------------------------------------------ */

static int
read_proc(const char *path, char *buf, size_t size)
{
	ssize_t	 n;
	int	 fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if ((n = read(fd, buf, size - 1)) < 0)
		rc = -errno;
	else
		buf[n] = '\0';
	close(fd);
	return rc;
}

/* /proc/PID/stat: the name, and the numbers of two fields after it. */
struct proc {
	char			 name[64];
	pid_t			 parent;
	unsigned long long	 start;
};

static int
read_stat(pid_t pid, struct proc *out)
{
	char	 path[64], buf[1024], *open, *p, *end;
	long	 parent = -1;
	int	 field, rc;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((rc = read_proc(path, buf, sizeof(buf))) < 0)
		return rc;
	/* the second field is a name in brackets, which may hold anything */
	open = strchr(buf, '(');
	if (open == NULL || (p = strrchr(buf, ')')) == NULL || p < open)
		return -EBADMSG;
	snprintf(out->name, sizeof(out->name), "%.*s", (int)(p - open - 1), open + 1);
	for (field = 2; field < STAT_START && p != NULL; field++) {
		if (field == STAT_PARENT)
			parent = strtol(p, NULL, 10);
		if ((p = strchr(p, ' ')) != NULL)
			p++;
	}
	if (p == NULL)
		return -EBADMSG;
	errno = 0;
	out->start = strtoull(p, &end, 10);
	if (end == p || *end != ' ' || errno != 0 || out->start > WISH_STAMP_MAX >> PID_BITS ||
	    parent < 0 || parent > INT_MAX)
		return -EBADMSG;
	out->parent = (pid_t)parent;
	return 0;
}

int
wish_stamp(pid_t pid, uint64_t *stamp)
{
	struct proc	 p;
	int		 rc;

	if (pid == 0)
		pid = getpid();
	if ((rc = read_stat(pid, &p)) < 0)
		return rc;
	*stamp = p.start << PID_BITS | ((uint64_t)pid & PID_MASK);
	return 0;
}

pid_t
wish_asker(pid_t pid)
{
	struct proc	 p, parent;
	pid_t		 asker = pid;
	int		 i;

	if (read_stat(pid, &p) < 0)
		return pid;
	for (i = 0; i < ANCESTORS && p.parent > 1 && read_stat(p.parent, &parent) == 0; i++) {
		if (strncmp(parent.name, MANAGER, strlen(MANAGER)) == 0)
			return asker;
		asker = p.parent;
		p = parent;
	}
	return pid;
}

/* Clock ticks since the boot, as the kernel counts them for the start of a process. */
static uint64_t
ticks_now(void)
{
	struct timespec	 ts;
	uint64_t	 hz = (uint64_t)sysconf(_SC_CLK_TCK);

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * hz + (uint64_t)ts.tv_nsec * hz / 1000000000;
}

uint64_t
wish_now(void)
{
	return ticks_now() << PID_BITS;
}

bool
wish_before(uint64_t a, uint64_t b)
{
	if (a >> PID_BITS != b >> PID_BITS)
		return a >> PID_BITS < b >> PID_BITS;
	if ((a & PID_MASK) == 0 || (b & PID_MASK) == 0)
		return false;
	/* numbers are given out in ascending order, and then from the beginning again */
	return a < b ? b - a < PID_LEAP : a - b > PID_LEAP;
}

uint64_t
wish_age_s(uint64_t stamp)
{
	uint64_t	 now = ticks_now(), then = stamp >> PID_BITS;

	return now <= then ? 0 : (now - then) / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* --- the directory ------------------------------------------------------------------- */

/* Why the directory cannot be used, and who could. */
static int
explain(const char *dir, int error, char err[WISH_ERR_MAX])
{
	char		 path[512];
	struct stat	 st;
	struct group	*gr = NULL;

	snprintf(path, sizeof(path), "%s/" WISH_DIR, dir);
	switch (error) {
	case -ENOENT:
		return fail(err, error, "the directory %s is missing: ctsyncd makes it when it starts, "
		    "and root's ctsync if it is needed before", path);
	case -EACCES:
	case -EPERM:
		if (stat(path, &st) == 0)
			gr = getgrgid(st.st_gid);
		return fail(err, error, "user %u with group %u may not write to %s: root, the daemon's "
		    "user and the group %s may", (unsigned)geteuid(), (unsigned)getegid(), path,
		    gr != NULL ? gr->gr_name : "ctsync");
	case -ELOOP:
	case -ENOTDIR:
		return fail(err, error, "%s is no directory, or a symbolic link, which nobody follows: "
		    "remove it and restart ctsyncd", path);
	default:
		return fail(err, error, "%s: %s", path, strerror(-error));
	}
}

static int
open_dir(const char *dir)
{
	int	 fd, top;

	if ((top = rundir_open(dir)) < 0)
		return top;
	fd = rundir_open_at(top, WISH_DIR);
	close(top);
	return fd;
}

/* Owner, group and mode, as far as we may. */
static int
set_rights(int fd, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat	 st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (geteuid() != 0) {
		if (st.st_uid != geteuid())
			return 0;
		uid = (uid_t)-1;
	}
	if (((uid != (uid_t)-1 && st.st_uid != uid) || st.st_gid != gid) && fchown(fd, uid, gid) < 0)
		return -errno;
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

static bool
lock(int fd, unsigned wait_ms)
{
	struct timespec	 step = { 0, LOCK_STEP_MS * 1000000 };
	unsigned	 ms;

	for (ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; ms += LOCK_STEP_MS) {
		if (ms >= wait_ms)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

int
wish_prepare(const char *dir, uid_t uid, gid_t gid, gid_t who, char err[WISH_ERR_MAX])
{
	struct stat	 st;
	int		 top, fd = -1, rc = 0;
	bool		 made;

	made = mkdir(dir, 0755) == 0;
	if (!made && errno != EEXIST)
		return fail(err, -errno, "cannot make the runtime directory %s: %s", dir,
		    strerror(errno));
	if ((top = rundir_open(dir)) < 0)
		return fail(err, top, "the runtime directory %s: %s", dir, strerror(-top));
	if (fstat(top, &st) < 0)
		rc = -errno;
	else if (made || (geteuid() == 0 && st.st_uid != uid))
		rc = set_rights(top, uid, gid, made ? 0755 : st.st_mode & 07777);
	if (rc < 0) {
		fail(err, rc, "cannot give the runtime directory %s to the daemon's user: %s", dir,
		    strerror(-rc));
		goto out;
	}
	if ((mkdirat(top, WISH_DIR, 0770) < 0 && errno != EEXIST)) {
		rc = explain(dir, -errno, err);
		goto out;
	}
	if ((fd = rundir_open_at(top, WISH_DIR)) < 0) {
		rc = explain(dir, fd, err);
		goto out;
	}
	if ((rc = set_rights(fd, uid, who, 0770)) < 0) {
		fail(err, rc, "cannot give %s/" WISH_DIR " to group %u: %s", dir, (unsigned)who,
		    strerror(-rc));
		goto out;
	}
	if (lock(fd, 0))
		rundir_clean(fd);
out:
	if (fd >= 0)
		close(fd);
	close(top);
	return rc;
}

/* --- the file -------------------------------------------------------------------------- */

static int
boot_id(char id[BOOT_CHARS + 1])
{
	char	 buf[64];
	int	 rc;

	if ((rc = read_proc(BOOT_FILE, buf, sizeof(buf))) < 0)
		return rc;
	buf[strcspn(buf, "\n")] = '\0';
	if (strlen(buf) != BOOT_CHARS)
		return -EBADMSG;
	memcpy(id, buf, BOOT_CHARS + 1);
	return 0;
}

/* "takeover STAMP BOOT\n" and nothing else. */
static int
parse(const char *line, const char *boot, struct wish *w)
{
	static const char	 hex[] = "0123456789abcdef-";
	enum wish_what		 what;
	unsigned long long	 stamp;
	size_t			 len;
	char			*end;

	for (what = WISH_TAKEOVER; what <= WISH_RELEASE; what++) {
		len = strlen(wish_name(what));
		if (strncmp(line, wish_name(what), len) == 0 && line[len] == ' ')
			break;
	}
	if (what > WISH_RELEASE)
		return -EBADMSG;
	line += len + 1;
	if (*line < '0' || *line > '9')
		return -EBADMSG;
	errno = 0;
	stamp = strtoull(line, &end, 10);
	if (errno != 0 || stamp > WISH_STAMP_MAX || *end != ' ')
		return -EBADMSG;
	line = end + 1;
	if (strspn(line, hex) != BOOT_CHARS || strcmp(line + BOOT_CHARS, "\n") != 0)
		return -EBADMSG;
	if (strncmp(line, boot, BOOT_CHARS) != 0)
		return 0;		/* of an earlier boot */
	if (stamp >> PID_BITS > ticks_now())
		return -EBADMSG;
	w->what = what;
	w->stamp = stamp;
	return 0;
}

static int
read_at(int fd, const char *dir, struct wish *w, char err[WISH_ERR_MAX])
{
	char	 line[LINE_MAX_BYTES], boot[BOOT_CHARS + 1];
	ssize_t	 n;
	int	 rc;

	memset(w, 0, sizeof(*w));
	if ((rc = boot_id(boot)) < 0)
		return fail(err, rc, BOOT_FILE ": %s", strerror(-rc));
	n = rundir_read(fd, FILE_NAME, line, sizeof(line));
	if (n == -ENOENT)
		return 0;
	rc = n < 0 ? (int)n : parse(line, boot, w);
	if (rc == -EBADMSG)
		return fail(err, rc, "%s/" WISH_DIR "/" FILE_NAME " makes no sense and is left out of "
		    "account", dir);
	if (rc < 0)
		return fail(err, rc, "cannot read %s/" WISH_DIR "/" FILE_NAME ": %s", dir, strerror(-rc));
	return 0;
}

int
wish_read(const char *dir, struct wish *w, char err[WISH_ERR_MAX])
{
	int	 fd, rc;

	memset(w, 0, sizeof(*w));
	if ((fd = open_dir(dir)) < 0)
		return fd == -ENOENT ? 0 : explain(dir, fd, err);
	rc = read_at(fd, dir, w, err);
	close(fd);
	return rc;
}

static int
write_at(int fd, const struct wish *w)
{
	char	 line[LINE_MAX_BYTES], boot[BOOT_CHARS + 1];
	int	 rc;

	if ((rc = boot_id(boot)) < 0)
		return rc;
	snprintf(line, sizeof(line), "%s %" PRIu64 " %s\n", wish_name(w->what), w->stamp, boot);
	return rundir_replace(fd, FILE_NAME, line);
}

int
wish_record(const char *dir, const struct wish *mine, unsigned wait_ms, struct wish *stands,
    char err[WISH_ERR_MAX])
{
	struct wish	 there;
	char		 ignored[WISH_ERR_MAX];
	int		 fd, rc = 0;

	*stands = *mine;
	if ((fd = open_dir(dir)) < 0)
		return explain(dir, fd, err);
	(void)lock(fd, wait_ms);
	if (read_at(fd, dir, &there, ignored) == 0 && there.what != WISH_NONE &&
	    wish_before(mine->stamp, there.stamp))
		*stands = there;
	else if ((rc = write_at(fd, mine)) < 0)
		explain(dir, rc, err);
	close(fd);
	return rc;
}
