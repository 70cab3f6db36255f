/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is logged, to be counted: standard error becomes a file in memory.
 */
#include <sys/mman.h>

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/log.h"
#include "logtap.h"

static int	 saved = -1;

void
logtap_open(void)
{
	int	 fd = memfd_create("log", MFD_CLOEXEC);

	saved = dup(STDERR_FILENO);
	ck_assert(fd >= 0 && saved >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	close(fd);
	log_set_level(LOG_DEBUG);
}

void
logtap_close(void)
{
	if (saved < 0)
		return;
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	close(saved);
	saved = -1;
}

unsigned
logtap_count(const char *text)
{
	off_t		 size = lseek(STDERR_FILENO, 0, SEEK_END);
	char		*all = calloc(1, (size_t)size + 1), *line, *rest;
	unsigned	 n = 0;

	ck_assert_ptr_nonnull(all);
	ck_assert_int_eq(pread(STDERR_FILENO, all, (size_t)size, 0), size);
	for (line = strtok_r(all, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		n += strstr(line, text) != NULL;
	free(all);
	return n;
}

void
logtap_clear(void)
{
	ck_assert_int_eq(ftruncate(STDERR_FILENO, 0), 0);
	ck_assert_int_eq(lseek(STDERR_FILENO, 0, SEEK_SET), 0);
}
