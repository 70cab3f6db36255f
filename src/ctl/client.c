/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The connection of ctsync to the daemon: one request, one answer.
 *
 * Blocks, with a limit on how long the daemon may be silent.  What the daemon
 * sends meets the same checks as anything else that is read.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

#define ALIVE_S	5u	/* a daemon that is silent for so long is asked whether it is there */

struct conn {
	const struct ctl		*c;
	const struct client_cb		*cb;
	void				*cb_ctx;
	int				 fd;
	uint8_t				*buf;
	size_t				 len, cap;
	bool				 stopped;	/* nobody wants more of it */
	json_t				*result;
};

static void
explain_connect(const struct ctl *c, int error)
{
	struct stat	 st;
	struct group	*gr = NULL;

	if (error == EACCES || error == EPERM) {
		if (stat(c->socket, &st) == 0)
			gr = getgrgid(st.st_gid);
		ctl_err("not permitted to use %s: root, the daemon's user and members of group "
		    "%s may", c->socket, gr != NULL ? gr->gr_name : "ctsync");
	} else if (error == ENOENT || error == ECONNREFUSED)
		ctl_err("no daemon at %s: is ctsyncd running? (-s SOCKET or CTSYNC_SOCKET "
		    "choose another socket)", c->socket);
	else if (error == EAGAIN)
		ctl_err("the daemon at %s accepts no connections: it hangs or is overloaded",
		    c->socket);
	else
		ctl_err("%s: %s", c->socket, strerror(error));
}

static int
conn_open(const struct ctl *c)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX };
	struct timeval		 tv = { .tv_sec = c->timeout_s > 0 ? (time_t)c->timeout_s : ALIVE_S };
	int			 fd;

	if (strlen(c->socket) >= sizeof(sun.sun_path)) {
		ctl_err("%s: the name of a socket has at most %zu characters", c->socket,
		    sizeof(sun.sun_path) - 1);
		return -1;
	}
	memcpy(sun.sun_path, c->socket, strlen(c->socket) + 1);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) {
		ctl_err("cannot make a socket: %s", strerror(errno));
		return -1;
	}
	/* A failure of these costs the time limit, no more. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		explain_connect(c, errno);
		close(fd);
		return -1;
	}
	return fd;
}

/* A refused client may be hung up on before it has asked: the answer is there all the same. */
static int
send_request(struct conn *cn, json_t *args)
{
	uint8_t	 hdr[CTL_HDR_BYTES];
	char	*text;
	size_t	 len;
	int	 rc = -1;

	json_object_set_new(args, "proto", json_integer(CTL_PROTO));
	json_object_set_new(args, "cmd", json_string(cn->c->cmd));
	if ((text = json_dumps(args, JSON_COMPACT)) == NULL) {
		ctl_err("out of memory");
		return -1;
	}
	len = strlen(text);
	if (len > CTL_REQUEST_MAX) {
		ctl_err("the request is too long");
		goto out;
	}
	ctl_hdr_put(hdr, CTL_REQUEST, (uint32_t)len);
	if ((send(cn->fd, hdr, sizeof(hdr), MSG_NOSIGNAL | MSG_MORE) < 0 ||
	    send(cn->fd, text, len, MSG_NOSIGNAL) < 0) && errno != EPIPE && errno != ECONNRESET) {
		ctl_err("%s: %s", cn->c->socket, strerror(errno));
		goto out;
	}
	rc = 0;
out:
	free(text);
	return rc;
}

static int
handle_result(struct conn *cn, const struct ctl_frame *f)
{
	json_error_t	 err;

	cn->result = json_loadb((const char *)f->payload.p, f->payload.len, 0, &err);
	if (json_is_object(cn->result))
		return 0;
	json_decref(cn->result);
	cn->result = NULL;
	return -EBADMSG;
}

static int
handle_frame(struct conn *cn, struct ctl_frame *f)
{
	switch (f->type) {
	case CTL_FLOWS:
		if (cn->cb == NULL || cn->cb->flows == NULL)
			return -EBADMSG;
		if (!cn->cb->flows(cn->cb_ctx, &f->payload))
			cn->stopped = true;
		return 0;
	case CTL_TEXT:
		if (fwrite(f->payload.p, 1, f->payload.len, stdout) < f->payload.len)
			cn->stopped = true;
		return 0;
	case CTL_PROGRESS:
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "%.*s\n", (int)f->payload.len, (const char *)f->payload.p);
		return 0;
	case CTL_RESULT:
		return handle_result(cn, f);
	case CTL_REQUEST:
	case CTL_TYPES:
		break;
	}
	return -EBADMSG;
}

/* Work off the complete frames in the buffer, make room for the next one. */
static int
handle_buffer(struct conn *cn)
{
	struct ctl_frame	 f;
	struct rbuf		 r;
	size_t			 need = CTL_HDR_BYTES;
	uint8_t			*p;
	int			 rc = 0;

	rbuf_init(&r, cn->buf, cn->len);
	while (cn->result == NULL && !cn->stopped &&
	    (rc = ctl_frame_next(&r, CTL_FRAME_MAX, &f, &need)) > 0)
		if ((rc = handle_frame(cn, &f)) < 0)
			return rc;
	if (rc < 0)
		return rc;
	if (r.len > 0)
		memmove(cn->buf, r.p, r.len);
	cn->len = r.len;
	if (need > cn->cap) {
		if ((p = realloc(cn->buf, need)) == NULL)
			return -ENOMEM;
		cn->buf = p;
		cn->cap = need;
	}
	return 0;
}

static void
explain_read(const struct ctl *c, int error)
{
	if (error == EAGAIN)
		ctl_err("the daemon at %s did not answer within %u s: it hangs or is overloaded",
		    c->socket, c->timeout_s > 0 ? c->timeout_s : 2 * ALIVE_S);
	else if (error == 0 || error == ECONNRESET)
		ctl_err("the daemon at %s hung up before it had answered: see its log",
		    c->socket);
	else if (error == EBADMSG || error == EMSGSIZE)
		ctl_err("what answers at %s does not speak the control protocol", c->socket);
	else
		ctl_err("%s: %s", c->socket, strerror(error));
}

/* A command may take its time, but the daemon goes on answering others meanwhile. */
static bool
is_alive(const struct ctl *c)
{
	char	 text[64];
	uint8_t	 hdr[CTL_HDR_BYTES];
	int	 fd = conn_open(c), len;
	bool	 yes;

	if (fd < 0)
		return false;
	len = snprintf(text, sizeof(text), "{\"proto\":%d,\"cmd\":\"ready\"}", CTL_PROTO);
	ctl_hdr_put(hdr, CTL_REQUEST, (uint32_t)len);
	/* one that turns us away answers as well */
	(void)send(fd, hdr, sizeof(hdr), MSG_NOSIGNAL | MSG_MORE);
	(void)send(fd, text, (size_t)len, MSG_NOSIGNAL);
	do
		yes = recv(fd, hdr, 1, 0) == 1;
	while (!yes && errno == EINTR);
	close(fd);
	return yes;
}

static int
read_answer(struct conn *cn)
{
	ssize_t	 n;
	int	 rc, error;

	while (cn->result == NULL && !cn->stopped) {
		n = recv(cn->fd, cn->buf + cn->len, cn->cap - cn->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		error = errno;
		if (n < 0 && error == EAGAIN && cn->c->timeout_s == 0 && is_alive(cn->c))
			continue;
		if (n <= 0) {
			explain_read(cn->c, n == 0 ? 0 : error);
			return -1;
		}
		cn->len += (size_t)n;
		if ((rc = handle_buffer(cn)) < 0) {
			explain_read(cn->c, -rc);
			return -1;
		}
	}
	return 0;
}

json_t *
client_call(const struct ctl *c, json_t *args, const struct client_cb *cb, void *cb_ctx)
{
	struct conn	 cn = { .c = c, .cb = cb, .cb_ctx = cb_ctx, .fd = -1 };

	if (args == NULL)
		args = json_object();
	cn.cap = CTL_FLOWS_MAX + CTL_HDR_BYTES;
	cn.buf = malloc(cn.cap);
	if (args == NULL || cn.buf == NULL) {
		ctl_err("out of memory");
		goto out;
	}
	if ((cn.fd = conn_open(c)) < 0)
		goto out;
	if (send_request(&cn, args) < 0 || read_answer(&cn) < 0)
		goto out;
	if (cn.result == NULL)		/* stdout takes no more: said elsewhere */
		cn.result = json_pack("{s:b, s:i}", "ok", 1, "exit", CTL_EXIT_OK);
out:
	if (cn.fd >= 0)
		close(cn.fd);
	free(cn.buf);
	json_decref(args);
	return cn.result;
}

int
client_exit(const struct ctl *c, const json_t *result)
{
	const char	*error = json_string_value(json_object_get(result, "error"));
	const json_t	*code = json_object_get(result, "exit");

	if (error != NULL)
		ctl_err("%s: %s", c->cmd, error);
	if (json_is_integer(code) && json_integer_value(code) >= 0 &&
	    json_integer_value(code) <= CTL_EXIT_UNREACHABLE)
		return (int)json_integer_value(code);
	return json_is_true(json_object_get(result, "ok")) ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

int
client_simple(const struct ctl *c, json_t *args, json_t **result)
{
	json_t	*r;
	int	 rc;

	*result = NULL;
	if ((r = client_call(c, args, NULL, NULL)) == NULL)
		return CTL_EXIT_UNREACHABLE;
	rc = client_exit(c, r);
	if (c->json) {
		text_dump(r);
		json_decref(r);
	} else
		*result = r;
	return rc;
}
