/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log lines for operators: what happened, what it means, what to do.
 *
 * Lines go to stderr with a "<N>" priority prefix when the journal reads it
 * (JOURNAL_STREAM is set), with a time stamp otherwise.  Anything that the
 * network can trigger goes through a log_limit: a burst, then one line a
 * period that says how many were left out.  Callable from any thread.
 */
#ifndef CTSYNC_LOG_H
#define CTSYNC_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

/* Allow `burst` lines, then one each `period_ms`; zero-initialise the rest. */
struct log_limit {
	uint32_t	 burst;
	uint32_t	 period_ms;
	uint64_t	 last_ms;	/* private from here on */
	uint32_t	 used;
	uint32_t	 dropped;
};

#define LOG_LIMIT_INIT	{ .burst = 5, .period_ms = 10000 }

/* Open the log: level is the least urgent priority that is printed. */
void	log_init(int level);
void	log_set_level(int level);
int	log_level(void);
/* "err", "warning", "notice", "info", "debug" to a priority, -1 if unknown. */
int	log_level_parse(const char *name);
const char	*log_level_name(int level);

void	log_msg(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same, at most as often as *limit allows.  One limit per kind of line, one thread per limit. */
void	log_limited(struct log_limit *limit, int level, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

#endif
