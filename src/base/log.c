/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log.  One write(2) a line, so that lines of two threads do not mix.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/log.h"

#define LINE_MAX_BYTES	1024

static atomic_int	 max_level = LOG_INFO;
static atomic_bool	 to_journal;

static const struct {
	const char	*name;
	int		 level;
} levels[] = {
	{ "err", LOG_ERR }, { "error", LOG_ERR }, { "warning", LOG_WARNING },
	{ "notice", LOG_NOTICE }, { "info", LOG_INFO }, { "debug", LOG_DEBUG }
};

void
log_init(int level)
{
	atomic_store(&to_journal, getenv("JOURNAL_STREAM") != NULL);
	atomic_store(&max_level, level);
}

void
log_set_level(int level)
{
	atomic_store(&max_level, level);
}

int
log_level(void)
{
	return atomic_load(&max_level);
}

int
log_level_parse(const char *name)
{
	size_t	 i;

	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i].name, name) == 0)
			return levels[i].level;
	return -1;
}

const char *
log_level_name(int level)
{
	size_t	 i;

	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "notice";
}

static int
put_prefix(char *line, int level)
{
	struct timespec	 ts;
	struct tm	 tm;
	size_t		 n;

	if (atomic_load(&to_journal))
		return snprintf(line, LINE_MAX_BYTES, "<%d>", level);
	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	n = strftime(line, LINE_MAX_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
	return (int)n + snprintf(line + n, LINE_MAX_BYTES - n, ".%03ld %s: ",
	    ts.tv_nsec / 1000000, log_level_name(level));
}

static void __attribute__((format(printf, 2, 0)))
vlog(int level, const char *fmt, va_list ap)
{
	char	 line[LINE_MAX_BYTES + 1];
	size_t	 n;
	int	 rc;

	if (level > atomic_load(&max_level))
		return;
	n = (size_t)put_prefix(line, level);
	rc = vsnprintf(line + n, LINE_MAX_BYTES - n, fmt, ap);
	if (rc < 0)
		return;
	n += (size_t)rc;
	if (n >= LINE_MAX_BYTES)
		n = LINE_MAX_BYTES - 1;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return;		/* nowhere left to say it */
}

void
log_msg(int level, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vlog(level, fmt, ap);
	va_end(ap);
}

void
log_limited(struct log_limit *l, int level, const char *fmt, ...)
{
	uint64_t	 now = clock_mono_ms();
	va_list		 ap;

	if (now - l->last_ms >= l->period_ms) {
		l->last_ms = now;
		l->used = 0;
		if (l->dropped > 0)
			log_msg(level, "%u further lines of this kind were left out:", l->dropped);
		l->dropped = 0;
	}
	if (l->used >= l->burst) {
		l->dropped++;
		return;
	}
	l->used++;
	va_start(ap, fmt);
	vlog(level, fmt, ap);
	va_end(ap);
}
