/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Small files in a directory that others may write to.
 *
 * A new file gets a name that nobody can guess and is renamed when it is
 * complete; neither the creation (O_EXCL) nor the renaming follows a link.
 */
#include <sys/random.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/rundir.h"

#define TEMP_PREFIX	".new-"
#define TEMP_TRIES	8

int
rundir_open_at(int dirfd, const char *name)
{
	int	 fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int
rundir_open(const char *path)
{
	return rundir_open_at(AT_FDCWD, path);
}

ssize_t
rundir_read(int dirfd, const char *name, char *buf, size_t size)
{
	struct stat	 st;
	ssize_t		 n = 0, len = 0;
	int		 fd;

	/* of a fifo nobody waits for the other end */
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EBADMSG : -errno;
	if (fstat(fd, &st) < 0) {
		len = -errno;
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		len = -EBADMSG;
		goto out;
	}
	while ((size_t)len < size && (n = read(fd, buf + len, size - (size_t)len)) > 0)
		len += n;
	if (n < 0)
		len = -errno;
	else if ((size_t)len == size || memchr(buf, '\0', (size_t)len) != NULL)
		len = -EBADMSG;
	else
		buf[len] = '\0';
out:
	close(fd);
	return len;
}

static int
create(int dirfd, char *name, size_t len)
{
	uint64_t	 r;
	int		 i, fd = -1;

	for (i = 0; i < TEMP_TRIES && fd < 0; i++) {
		if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
			return -errno;
		snprintf(name, len, TEMP_PREFIX "%016llx", (unsigned long long)r);
		fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd < 0 && errno != EEXIST)
			return -errno;
	}
	return fd < 0 ? -EEXIST : fd;
}

static int
fill(int dirfd, int fd, const char *text)
{
	struct stat	 st;
	size_t		 len = strlen(text);
	ssize_t		 n;

	if (fchmod(fd, 0644) < 0)	/* whatever the umask is */
		return -errno;
	/* not needed to read or to replace it: root without that right lets it be */
	if (geteuid() == 0 && fstat(dirfd, &st) == 0 && st.st_uid != 0 &&
	    fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EPERM)
		return -errno;
	if ((n = write(fd, text, len)) < 0)
		return -errno;
	return (size_t)n == len ? 0 : -ENOSPC;
}

int
rundir_replace(int dirfd, const char *name, const char *text)
{
	char	 temp[32];
	int	 fd, rc;

	if ((fd = create(dirfd, temp, sizeof(temp))) < 0)
		return fd;
	rc = fill(dirfd, fd, text);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(dirfd, temp, 0);
	return rc;
}

void
rundir_clean(int dirfd)
{
	struct dirent	*e;
	DIR		*dir;
	int		 fd = rundir_open_at(dirfd, ".");

	if (fd < 0)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0)
			unlinkat(dirfd, e->d_name, 0);
	closedir(dir);
}
