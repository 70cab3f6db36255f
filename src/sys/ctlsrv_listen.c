/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control socket: how it comes into being, and who is let in.
 *
 * The socket is made under another name, gets its group and mode, and is then
 * renamed into place: nobody ever meets it half done, and a stale one is
 * replaced in one step.  Rights are those of the connecting process as the
 * kernel knows them (SO_PEERCRED, SO_PEERGROUPS); no user data base is asked,
 * which might block.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctlsrv_priv.h"

#define BACKLOG		32
#define ACCEPT_BATCH	8		/* connections taken in one turn of the loop */
#define REST_S		1.0		/* pause when accept(2) fails for want of something */
#define GROUPS_MAX	1024
#define NEW_SUFFIX	".new"

static bool
in_groups(const gid_t *groups, size_t n, gid_t gid)
{
	size_t	 i;

	if (gid == CTLSRV_NO_GID)
		return false;
	for (i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* Who is on the other end, and what may they do.  0 or -errno. */
static int
peer_cred(const struct ctlsrv *srv, int fd, struct ctlsrv_cred *out)
{
	gid_t		 groups[GROUPS_MAX + 1];
	struct ucred	 uc;
	socklen_t	 len = sizeof(uc);
	size_t		 n = 1;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &uc, &len) < 0)
		return -errno;
	groups[0] = uc.gid;
#ifdef SO_PEERGROUPS
	len = sizeof(gid_t) * GROUPS_MAX;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &len) == 0)
		n += len / sizeof(gid_t);
#endif
	out->uid = uc.uid;
	out->pid = uc.pid;
	out->may_all = uc.uid == 0 || uc.uid == srv->uid || in_groups(groups, n, srv->gid);
	out->may_read = out->may_all || in_groups(groups, n, srv->ro_gid);
	return 0;
}

/* One RESULT, then the end; it fits into any socket buffer. */
static void
turn_away(int fd, const char *text)
{
	uint8_t	 out[CTL_HDR_BYTES + CTL_ERR_MAX];
	int	 n;

	n = snprintf((char *)out + CTL_HDR_BYTES, CTL_ERR_MAX,
	    "{\"ok\":false,\"exit\":%d,\"error\":\"%s\"}", CTL_EXIT_UNREACHABLE, text);
	if (n > 0 && n < CTL_ERR_MAX) {
		ctl_hdr_put(out, CTL_RESULT, (uint32_t)n);
		if (send(fd, out, CTL_HDR_BYTES + (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			log_msg(LOG_DEBUG, "control: a client left before its refusal");
	}
	close(fd);
}

/*
 * A quarter of the places is for those who may do everything, so that a busy
 * read-only user does not keep out the operator.
 */
static bool
has_place(const struct ctlsrv *srv, const struct ctlsrv_cred *cred)
{
	unsigned	 max = srv->max_clients;

	if (!cred->may_all)
		max -= max / 4;
	return srv->stats.clients < max;
}

static void
admit(struct ctlsrv *srv, int fd)
{
	struct ctlsrv_cred	 cred = { 0 };

	if (peer_cred(srv, fd, &cred) < 0) {
		close(fd);
		return;
	}
	if (!cred.may_read) {
		srv->stats.denied++;
		log_limited(&srv->limit, LOG_WARNING, "control: turned away uid %u, pid %d: not "
		    "root, not this daemon's user, not in its group", (unsigned)cred.uid,
		    (int)cred.pid);
		turn_away(fd, "not permitted: only root, the daemon's user and members of the "
		    "control group may ask");
		return;
	}
	if (!has_place(srv, &cred)) {
		srv->stats.busy++;
		log_limited(&srv->limit, LOG_WARNING, "control: turned away uid %u, pid %d: %u "
		    "clients are connected already", (unsigned)cred.uid, (int)cred.pid,
		    srv->stats.clients);
		turn_away(fd, "the daemon has too many control clients, try again");
		return;
	}
	if (ctlsrv_client_new(srv, fd, &cred) < 0) {
		srv->stats.nomem++;
		close(fd);
		return;
	}
	srv->stats.accepted++;
}

static void
accept_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct ctlsrv	*srv = w->data;
	int		 fd, i;

	(void)revents;
	for (i = 0; i < ACCEPT_BATCH; i++) {
		fd = accept4(srv->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			admit(srv, fd);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		log_limited(&srv->limit, LOG_WARNING, "control: cannot accept a client: %s",
		    strerror(errno));
		ev_io_stop(loop, &srv->accept);
		ev_timer_again(loop, &srv->rest);
		return;
	}
}

static void
rest_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct ctlsrv	*srv = w->data;

	(void)revents;
	ev_timer_stop(loop, w);
	ev_io_start(loop, &srv->accept);
}

/* Nothing but a socket, which is then stale, may be in our place. */
static int
check_place(const char *path)
{
	struct stat	 st;

	if (lstat(path, &st) == 0) {
		if (S_ISSOCK(st.st_mode))
			return 0;
		log_msg(LOG_ERR, "control socket %s: something that is no socket is in its "
		    "place: remove it, or set control.socket", path);
		return -EEXIST;
	}
	if (errno == ENOENT)
		return 0;
	log_msg(LOG_ERR, "control socket %s: %s", path, strerror(errno));
	return -errno;
}

/*
 * Group and mode.  A group that we may not give away is no reason to stay
 * down: root and our own user can still use the socket.
 */
static int
set_rights(const struct ctlsrv *srv, const char *path)
{
	mode_t	 mode = srv->ro_gid != CTLSRV_NO_GID ? 0666 : 0660;

	if (srv->gid != CTLSRV_NO_GID && lchown(path, (uid_t)-1, srv->gid) < 0)
		log_msg(LOG_WARNING, "control socket %s: cannot give it to group %u: %s; until "
		    "the daemon's user is a member, only root and that user can use ctsync",
		    path, (unsigned)srv->gid, strerror(errno));
	if (chmod(path, mode) < 0)
		return -errno;
	return 0;
}

static void
explain_bind(const char *path, int error)
{
	if (error == ENOENT)
		log_msg(LOG_ERR, "control socket %s: its directory does not exist: create it, "
		    "owned by the daemon's user (systemd: RuntimeDirectory=)", path);
	else if (error == EACCES || error == EPERM)
		log_msg(LOG_ERR, "control socket %s: the daemon's user (uid %u) may not write to "
		    "its directory", path, (unsigned)geteuid());
	else
		log_msg(LOG_ERR, "control socket %s: %s", path, strerror(error));
}

/* A listening socket at path, in one step.  The descriptor or -errno. */
static int
make_socket(const struct ctlsrv *srv)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX };
	size_t			 len = strlen(srv->path);
	int			 fd, rc;

	if (len + sizeof(NEW_SUFFIX) > sizeof(sun.sun_path)) {
		log_msg(LOG_ERR, "control socket %s: the name is too long, at most %zu bytes",
		    srv->path, sizeof(sun.sun_path) - sizeof(NEW_SUFFIX));
		return -ENAMETOOLONG;
	}
	if ((rc = check_place(srv->path)) < 0)
		return rc;
	memcpy(sun.sun_path, srv->path, len);
	memcpy(sun.sun_path + len, NEW_SUFFIX, sizeof(NEW_SUFFIX));
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) {
		rc = -errno;
		log_msg(LOG_ERR, "control socket: %s", strerror(errno));
		return rc;
	}
	unlink(sun.sun_path);
	if (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		rc = -errno;
		goto fail;
	}
	if ((rc = set_rights(srv, sun.sun_path)) < 0)
		goto fail;
	if (listen(fd, BACKLOG) < 0 || rename(sun.sun_path, srv->path) < 0) {
		rc = -errno;
		unlink(sun.sun_path);
		goto fail;
	}
	return fd;
fail:
	explain_bind(srv->path, -rc);
	close(fd);
	return rc;
}

int
ctlsrv_new(struct ctlsrv **out, struct ev_loop *loop, const struct ctlsrv_conf *conf,
    const struct ctlsrv_cmd *cmds, size_t n, void *ctx)
{
	struct ctlsrv	*srv;
	int		 rc = -ENOMEM;

	if ((srv = calloc(1, sizeof(*srv))) == NULL)
		return rc;
	if ((srv->path = strdup(conf->path)) == NULL)
		goto fail;
	srv->loop = loop;
	srv->cmds = cmds;
	srv->ncmds = n;
	srv->ctx = ctx;
	srv->uid = conf->uid;
	srv->gid = conf->gid;
	srv->ro_gid = conf->ro_gid;
	srv->max_clients = conf->max_clients != 0 ? conf->max_clients : CTLSRV_MAX_CLIENTS;
	srv->stall_s = (conf->stall_ms != 0 ? conf->stall_ms : CTLSRV_STALL_MS) / 1000.0;
	srv->limit = (struct log_limit)LOG_LIMIT_INIT;
	if ((srv->fd = make_socket(srv)) < 0) {
		rc = srv->fd;
		goto fail;
	}
	ev_io_init(&srv->accept, accept_cb, srv->fd, EV_READ);
	ev_init(&srv->rest, rest_cb);
	srv->rest.repeat = REST_S;
	srv->accept.data = srv->rest.data = srv;
	ev_io_start(loop, &srv->accept);
	*out = srv;
	return 0;
fail:
	free(srv->path);
	free(srv);
	return rc;
}

void
ctlsrv_free(struct ctlsrv *srv)
{
	if (srv == NULL)
		return;
	ctlsrv_clients_free(srv);
	ev_io_stop(srv->loop, &srv->accept);
	ev_timer_stop(srv->loop, &srv->rest);
	close(srv->fd);
	unlink(srv->path);
	free(srv->path);
	free(srv);
}

void
ctlsrv_stats(const struct ctlsrv *srv, struct ctlsrv_stats *out)
{
	*out = srv->stats;
}
