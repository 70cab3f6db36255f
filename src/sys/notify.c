/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sd_notify(3) without libsystemd: datagrams of NAME=VALUE lines.
 *
 * Sockets in the file system and abstract ones ("@name") are served, vsock is
 * not.  The address is taken once, so that nothing here needs the environment
 * afterwards.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctsync/notify.h"

int
notify_init(struct notify *n)
{
	const char	*path = getenv("NOTIFY_SOCKET");
	size_t		 len;

	memset(n, 0, sizeof(*n));
	n->fd = -1;
	if (path == NULL || *path == '\0')
		return 0;
	len = strlen(path);
	if ((path[0] != '/' && path[0] != '@') || len < 2)
		return -EAFNOSUPPORT;
	if (len >= sizeof(n->addr.sun_path))
		return -ENAMETOOLONG;
	n->addr.sun_family = AF_UNIX;
	memcpy(n->addr.sun_path, path, len);
	n->addrlen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (path[0] == '@') {
		n->addr.sun_path[0] = '\0';	/* an abstract name has no NUL at its end */
		n->addrlen--;
	}
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return n->fd < 0 ? -errno : 0;
}

void
notify_fini(struct notify *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

uint64_t
notify_watchdog_ms(void)
{
	const char		*usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long	 us;
	char			*end;

	if (usec == NULL || *usec < '0' || *usec > '9')
		return 0;
	if (pid != NULL && strtoull(pid, NULL, 10) != (unsigned long long)getpid())
		return 0;
	errno = 0;
	us = strtoull(usec, &end, 10);
	if (errno != 0 || *end != '\0' || us == 0)
		return 0;
	/* Half of it, as sd_watchdog_enabled(3) advises; never 0, that means no. */
	return us / 2000 > 0 ? us / 2000 : 1;
}

static int
notify_send(const struct notify *n, const char *text)
{
	ssize_t	 r;

	if (n->fd < 0)
		return 0;
	r = sendto(n->fd, text, strlen(text), MSG_NOSIGNAL,
	    (const struct sockaddr *)(const void *)&n->addr, n->addrlen);
	return r < 0 ? -errno : 0;
}

int
notify_ready(const struct notify *n)
{
	return notify_send(n, "READY=1");
}

int
notify_reloading(const struct notify *n)
{
	struct timespec	 ts;
	char		 text[64];

	if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
		return -errno;
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
	    (unsigned long long)ts.tv_sec * 1000000 + (unsigned long long)ts.tv_nsec / 1000);
	return notify_send(n, text);
}

int
notify_stopping(const struct notify *n)
{
	return notify_send(n, "STOPPING=1");
}

int
notify_watchdog(const struct notify *n)
{
	return notify_send(n, "WATCHDOG=1");
}

int
notify_status(const struct notify *n, const char *fmt, ...)
{
	char	 text[512] = "STATUS=", *p;
	va_list	 ap;

	va_start(ap, fmt);
	vsnprintf(text + 7, sizeof(text) - 7, fmt, ap);
	va_end(ap);
	for (p = text; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';	/* a new line would be a new field */
	return notify_send(n, text);
}
