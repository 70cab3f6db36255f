/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening netlink sockets, and the few things about them that are no hot path.
 *
 * Sockets are connected to the kernel (port id 0): then the kernel itself
 * refuses unicast messages from other programs, and no reader has to look at
 * the sender.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "nl.h"

int
nl_open(int protocol, int flags, uint32_t *portid)
{
	struct sockaddr_nl	 sa;
	socklen_t		 len = sizeof(sa);
	int			 fd, rc;

	if ((fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol)) == -1)
		return -errno;
	memset(&sa, 0, sizeof(sa));
	sa.nl_family = AF_NETLINK;
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == -1 ||
	    connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == -1 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) == -1) {
		rc = -errno;
		close(fd);
		return rc;
	}
	*portid = sa.nl_pid;
	return fd;
}

int
nl_bufsize(int fd, int force_option, size_t bytes)
{
	int		 plain = force_option == SO_RCVBUFFORCE ? SO_RCVBUF : SO_SNDBUF;
	int		 v = bytes > INT_MAX / 2 ? INT_MAX / 2 : (int)bytes;
	socklen_t	 len = sizeof(v);

	if (setsockopt(fd, SOL_SOCKET, force_option, &v, sizeof(v)) == -1 &&
	    setsockopt(fd, SOL_SOCKET, plain, &v, sizeof(v)) == -1)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, plain, &v, &len) == -1)
		return -errno;
	return v;
}

int
nl_error(const struct rbuf *payload)
{
	int	 e;

	if (payload->len < sizeof(e))
		return -EBADMSG;
	memcpy(&e, payload->p, sizeof(e));
	return e > 0 || e < -4095 ? -EBADMSG : e;
}
