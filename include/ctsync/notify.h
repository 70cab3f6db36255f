/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tell the service manager how we are: the protocol of sd_notify(3).
 *
 * Without a service manager (NOTIFY_SOCKET is not set) every call does nothing
 * and succeeds.  Nothing blocks; a message that does not get through is lost.
 */
#ifndef CTSYNC_NOTIFY_H
#define CTSYNC_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

#include <stdint.h>

struct notify {
	int			 fd;		/* -1: nobody listens */
	socklen_t		 addrlen;
	struct sockaddr_un	 addr;
};

/*
 * Look at the environment.  0; or -errno if NOTIFY_SOCKET is set but useless,
 * *n can be used then, too, and does nothing.
 */
int	notify_init(struct notify *n) __attribute__((warn_unused_result));
void	notify_fini(struct notify *n);

/* How often to call notify_watchdog(), in milliseconds; 0: not asked for. */
uint64_t	notify_watchdog_ms(void);

/* Each returns 0 or -errno, which is worth a debug line at most. */
int	notify_ready(const struct notify *n);
int	notify_reloading(const struct notify *n);	/* ends with notify_ready() */
int	notify_stopping(const struct notify *n);
int	notify_watchdog(const struct notify *n);
/* One line for `systemctl status'. */
int	notify_status(const struct notify *n, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

#endif
