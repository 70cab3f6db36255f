/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Probing the kernel, and its sysctls by way of /proc.
 *
 * The probe asks ctnetlink for its statistics: the kernel loads the module for
 * the question if it can, and checks privileges before it answers.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctsync/kct_sys.h"
#include "nl.h"

#define PATH_BYTES	96
#define ANSWER_S	2

/* The first answer to a request for statistics: 0 or -errno. */
static int
ask(int fd)
{
	struct {
		struct nlmsghdr	 h;
		struct nfgenmsg	 g;
	} req = {
		.h.nlmsg_len = sizeof(req),
		.h.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS,
		.h.nlmsg_flags = NLM_F_REQUEST,
		.h.nlmsg_seq = 1,
		.g.version = NFNETLINK_V0,
	};
	struct timeval	 tv = { .tv_sec = ANSWER_S };
	struct nlmsghdr	 h;
	struct rbuf	 r, payload;
	uint8_t		 buf[4096];
	ssize_t		 n;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == -1 ||
	    send(fd, &req, sizeof(req), 0) == -1)
		return -errno;
	if ((n = recv(fd, buf, sizeof(buf), 0)) == -1)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	rbuf_init(&r, buf, (size_t)n);
	if (!nl_msg_next(&r, &h, &payload))
		return -EBADMSG;
	return h.nlmsg_type == NLMSG_ERROR ? nl_error(&payload) : 0;
}

static void
explain(int rc, char why[KCT_WHY_MAX])
{
	const char	*text;

	switch (rc) {
	case -EPROTONOSUPPORT:
		text = "the kernel has no nfnetlink; load it (modprobe nfnetlink), "
		    "or build a kernel with CONFIG_NETFILTER_NETLINK";
		break;
	case -EINVAL:
	case -EOPNOTSUPP:
		text = "the kernel has no ctnetlink; load it (modprobe nf_conntrack_netlink, "
		    "and see modules-load.d(5)), or build a kernel with CONFIG_NF_CT_NETLINK";
		break;
	case -EPERM:
	case -EACCES:
		text = "no permission to use connection tracking; run as root or with "
		    "CAP_NET_ADMIN (AmbientCapabilities= in the unit)";
		break;
	default:
		snprintf(why, KCT_WHY_MAX, "connection tracking does not answer: %s",
		    strerror(-rc));
		return;
	}
	snprintf(why, KCT_WHY_MAX, "%s", text);
}

int
kct_sys_probe(char why[KCT_WHY_MAX])
{
	uint32_t	 portid;
	int		 fd, rc;

	why[0] = '\0';
	if ((fd = nl_open(NETLINK_NETFILTER, 0, &portid)) < 0) {
		rc = fd;
	} else {
		rc = ask(fd);
		close(fd);
	}
	if (rc < 0)
		explain(rc, why);
	return rc;
}

/* The path of a sysctl; false if the name is none. */
static bool
sysctl_path(const char *name, char path[PATH_BYTES])
{
	const char	*p;
	int		 n;

	for (p = name; *p != '\0'; p++)
		if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_')
			return false;
	n = snprintf(path, PATH_BYTES, "/proc/sys/net/netfilter/nf_conntrack_%s", name);
	return n > 0 && n < PATH_BYTES;
}

/* The first line of a file, without its end: its length or -errno. */
static int
read_line(const char *path, char *buf, size_t cap)
{
	ssize_t	 n;
	int	 fd, rc;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return -errno;
	n = read(fd, buf, cap - 1);
	rc = n == -1 ? -errno : 0;
	close(fd);
	if (rc < 0)
		return rc;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return (int)strlen(buf);
}

int
kct_sys_get(const char *name, uint32_t *value)
{
	char		 path[PATH_BYTES], buf[32], *end;
	unsigned long	 v;
	int		 rc;

	if (!sysctl_path(name, path))
		return -EINVAL;
	if ((rc = read_line(path, buf, sizeof(buf))) < 0)
		return rc;
	errno = 0;
	v = strtoul(buf, &end, 10);
	if (end == buf || *end != '\0' || errno != 0 || v > UINT32_MAX)
		return -EINVAL;
	*value = (uint32_t)v;
	return 0;
}

int
kct_sys_set(const char *name, uint32_t value)
{
	char	 path[PATH_BYTES], buf[16];
	int	 fd, n, rc = 0;

	if (!sysctl_path(name, path))
		return -EINVAL;
	if ((fd = open(path, O_WRONLY | O_CLOEXEC)) == -1)
		return -errno;
	n = snprintf(buf, sizeof(buf), "%u\n", value);
	if (write(fd, buf, (size_t)n) != n)
		rc = -errno;
	close(fd);
	return rc;
}

/* See to it that a sysctl is 1: 1 if it was set, 0 if it was 1, -errno; *found is what it was. */
static int
enable(const char *name, uint32_t *found)
{
	int	 rc;

	if ((rc = kct_sys_get(name, found)) < 0)
		return rc;
	if (*found == 1)
		return 0;
	return (rc = kct_sys_set(name, 1)) < 0 ? rc : 1;
}

enum kct_watched
kct_sys_watch(struct kct_watch *w)
{
	uint32_t	 found = 1;
	bool		 was_stuck = w->stuck, news;
	int		 rc = enable(w->name, &found);

	/* one that cannot be read is left with the value that stands for it */
	if (rc < 0 && found == 1)
		return KCT_WATCH_SAME;
	news = !was_stuck || found != w->found;
	w->found = found;
	w->stuck = rc < 0;
	w->err = rc < 0 ? rc : 0;
	if (rc == 1)
		return KCT_WATCH_SET;
	if (rc == 0)
		return was_stuck ? KCT_WATCH_GOOD : KCT_WATCH_SAME;
	return news ? KCT_WATCH_STUCK : KCT_WATCH_SAME;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int
kct_sys_boot_id(uint8_t id[KCT_BOOT_ID_BYTES])
{
	char	 buf[64];
	uint8_t	 out[KCT_BOOT_ID_BYTES];
	size_t	 n = 0;
	int	 i, rc, digit;

	if ((rc = read_line("/proc/sys/kernel/random/boot_id", buf, sizeof(buf))) < 0)
		return rc;
	memset(out, 0, sizeof(out));
	for (i = 0; buf[i] != '\0'; i++) {
		if (buf[i] == '-')
			continue;
		if ((digit = hex_digit(buf[i])) < 0 || n == 2 * sizeof(out))
			return -EBADMSG;
		out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
		n++;
	}
	if (n != 2 * sizeof(out))
		return -EBADMSG;
	memcpy(id, out, sizeof(out));
	return 0;
}

uint64_t
kct_sys_netns(void)
{
	struct stat	 st;

	/* Of the thread: others may have another one. */
	return stat("/proc/thread-self/ns/net", &st) == 0 ? st.st_ino : 0;
}
