/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Small files in a directory that others may write to: the runtime directory.
 *
 * A file is read whole or not at all, and replaced as a whole: a crash leaves
 * the old one or the new one, and it does not matter whose the old one was.
 * Nothing is ever followed that is a symbolic link in its last component, and
 * nothing but a regular file is read, so that whoever may write to the
 * directory cannot lead a privileged process elsewhere.
 */
#ifndef CTSYNC_RUNDIR_H
#define CTSYNC_RUNDIR_H

#include <stddef.h>
#include <sys/types.h>

/* Open a directory, to be closed by close(2).  The descriptor or -errno; -ELOOP, -ENOTDIR: it is none. */
int	rundir_open(const char *path) __attribute__((warn_unused_result));
int	rundir_open_at(int dirfd, const char *name) __attribute__((warn_unused_result));

/*
 * The text of a file, terminated: its length, or -errno.  -ENOENT if there is
 * none; -EBADMSG if it is no regular file, has size bytes or more, or a zero
 * byte.
 */
ssize_t	rundir_read(int dirfd, const char *name, char *buf, size_t size)
	    __attribute__((warn_unused_result));

/*
 * Put text into the file of that name, mode 0644; root gives it to the owner
 * of the directory.  0 or -errno, and the old file stays.
 */
int	rundir_replace(int dirfd, const char *name, const char *text)
	    __attribute__((warn_unused_result));

/* Remove what writers that were killed left behind; nobody may be writing. */
void	rundir_clean(int dirfd);

#endif
