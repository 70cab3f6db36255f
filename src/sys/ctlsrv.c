/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control server: clients, their requests and answers.
 *
 * A client is in one of the states below; client_event() is the only place
 * that changes it, and sets watchers and the stall timer to match.  Handlers
 * only ever append to the output, so that no client is freed under a handler:
 * that happens in the callbacks of its own watchers, and in ctlsrv_free().
 * The socket itself, and who may use it, is in ctlsrv_listen.c.
 */
#include <sys/socket.h>

#include <errno.h>
#include <ev.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/log.h"
#include "ctlsrv_priv.h"

#define RX_MIN		1024		/* bytes; what ctsync sends is shorter */
#define TEXT_RESERVE	65536		/* of the output, kept for the RESULT after TEXT */
#define PROGRESS_MAX	256

/* What happens to a client. */
enum client_ev {
	EV_REQUEST,		/* a request is complete */
	EV_HOLD,		/* its handler answers later */
	EV_STREAM,		/* its handler installed a producer */
	EV_ANSWERED,		/* the RESULT is in the output */
	EV_DRAINED,		/* the output has gone out */
	EV_REFUSE		/* the RESULT is in the output and the last word */
};

static const char *const state_names[] = {
	"reading", "called", "held", "streaming", "draining", "closing"
};

static void	client_free(struct client *);

/* Watch what the state needs: input in all but the last one, output if there is some. */
static void
client_watch(struct client *c)
{
	struct ev_loop	*loop = c->srv->loop;
	int		 events = 0;

	if (c->state != C_CLOSING)
		events |= EV_READ;
	if (c->tx_len > c->tx_off || c->state == C_STREAMING)
		events |= EV_WRITE;
	if (c->io_events == events)
		return;
	ev_io_stop(loop, &c->io);
	ev_io_set(&c->io, c->fd, events);
	c->io_events = events;
	if (events != 0)
		ev_io_start(loop, &c->io);
}

/* The stall timer runs whenever the next step is the client's. */
static void
client_timer(struct client *c)
{
	struct ev_loop	*loop = c->srv->loop;

	if (c->state == C_CALLED || c->state == C_HELD)
		ev_timer_stop(loop, &c->stall);
	else
		ev_timer_again(loop, &c->stall);
}

static void
client_event(struct client *c, enum client_ev ev)
{
	enum client_state	 old = c->state;

	switch (ev) {
	case EV_REQUEST:
		c->state = C_CALLED;
		break;
	case EV_HOLD:
		c->state = C_HELD;
		break;
	case EV_STREAM:
		c->state = C_STREAMING;
		break;
	case EV_ANSWERED:
		c->state = C_DRAINING;
		c->req.id = 0;
		break;
	case EV_DRAINED:
		c->state = C_READING;
		break;
	case EV_REFUSE:
		c->state = C_CLOSING;
		break;
	}
	log_msg(LOG_DEBUG, "control client %llu: %s, now %s", (unsigned long long)c->id,
	    state_names[old], state_names[c->state]);
	client_timer(c);
	client_watch(c);
}

/* Room for n more bytes of output, NULL without memory or beyond the limit. */
static uint8_t *
tx_room(struct client *c, size_t n)
{
	size_t	 want = c->tx_len + n, cap;
	uint8_t	*p;

	if (want > CTLSRV_TX_MAX)
		return NULL;
	if (want > c->tx_cap) {
		cap = want < 4096 ? 4096 : want;
		if ((p = realloc(c->tx, cap)) == NULL)
			return NULL;
		c->tx = p;
		c->tx_cap = cap;
	}
	return c->tx + c->tx_len;
}

static int
tx_frame(struct client *c, enum ctl_type type, const void *p, size_t len)
{
	uint8_t	*out;

	if (len > CTL_FRAME_MAX || c->tx_len + len + CTL_HDR_BYTES > CTLSRV_TX_MAX)
		return -ENOBUFS;
	if ((out = tx_room(c, CTL_HDR_BYTES + len)) == NULL)
		return -ENOMEM;
	ctl_hdr_put(out, type, (uint32_t)len);
	memcpy(out + CTL_HDR_BYTES, p, len);
	c->tx_len += CTL_HDR_BYTES + len;
	return 0;
}

static void
tx_clear(struct client *c)
{
	free(c->tx);
	c->tx = NULL;
	c->tx_len = c->tx_off = c->tx_cap = 0;
}

/* Let go of what a request holds besides its output. */
static void
request_end(struct client *c)
{
	if (c->prod != NULL && c->prod->done != NULL)
		c->prod->done(c->prod_ctx);
	c->prod = NULL;
	c->prod_ctx = NULL;
	c->gone = NULL;
	c->gone_ctx = NULL;
}

/* Append the RESULT; a client that cannot even be told so is cut off. */
static void
client_answer(struct client *c, json_t *result, enum client_ev ev)
{
	static const char	 big[] = "{\"ok\":false,\"exit\":1,"
				    "\"error\":\"the answer is too long for one frame\"}";
	char			*text = NULL;
	int			 rc = -ENOMEM;

	if (result != NULL && (text = json_dumps(result, JSON_COMPACT)) != NULL)
		rc = tx_frame(c, CTL_RESULT, text, strlen(text));
	if (rc == -ENOBUFS)
		rc = tx_frame(c, CTL_RESULT, big, sizeof(big) - 1);
	free(text);
	json_decref(result);
	request_end(c);
	if (rc < 0) {
		c->srv->stats.nomem++;
		shutdown(c->fd, SHUT_RDWR);	/* the reader sees the end and frees it */
	}
	client_event(c, ev);
}

static json_t *
error_json(enum ctl_exit code, const char *text)
{
	return json_pack("{s:b, s:i, s:s}", "ok", 0, "exit", (int)code, "error", text);
}

static void
client_refuse(struct client *c, const char *text)
{
	c->srv->stats.rubbish++;
	log_limited(&c->srv->limit, LOG_WARNING, "control: dropped a client of uid %u, pid %d: %s",
	    (unsigned)c->uid, (int)c->pid, text);
	client_answer(c, error_json(CTL_EXIT_USAGE, text), EV_REFUSE);
}

static const struct ctlsrv_cmd *
find_cmd(const struct ctlsrv *srv, const char *name)
{
	size_t	 i;

	for (i = 0; i < srv->ncmds; i++)
		if (strcmp(srv->cmds[i].name, name) == 0)
			return &srv->cmds[i];
	return NULL;
}

static void
client_call(struct client *c, const char *name, const json_t *args)
{
	struct ctlsrv			*srv = c->srv;
	const struct ctlsrv_cmd		*cmd = find_cmd(srv, name);
	int				 rc;

	if (cmd == NULL) {
		ctlsrv_fail(&c->req, CTL_EXIT_USAGE, "this ctsyncd has no command \"%.32s\"", name);
		return;
	}
	if (!c->may_all && (cmd->flags & CTLSRV_RO) == 0) {
		srv->stats.denied++;
		ctlsrv_fail(&c->req, CTL_EXIT_UNREACHABLE, "not permitted: members of the "
		    "read-only group may use ready, status and metrics, no more");
		return;
	}
	if (cmd->flags & CTLSRV_LOG)
		log_msg(LOG_NOTICE, "control: %s, asked for by uid %u, pid %d", cmd->name,
		    (unsigned)c->uid, (int)c->pid);
	rc = cmd->fn(srv->ctx, &c->req, args);
	if (c->state != C_CALLED)
		return;
	ctlsrv_fail(&c->req, CTL_EXIT_FAILED, "%s: %s", cmd->name,
	    rc < 0 ? strerror(-rc) : "no answer");
}

static void
client_request(struct client *c, const struct ctl_frame *f)
{
	struct ctlsrv	*srv = c->srv;
	json_t		*args;
	const char	*name;
	char		 err[CTL_ERR_MAX];

	if (f->type != CTL_REQUEST) {
		client_refuse(c, "a frame that is no request");
		return;
	}
	if (ctl_request_decode(f->payload.p, f->payload.len, &args, &name, err) < 0) {
		client_refuse(c, err);
		return;
	}
	srv->stats.requests++;
	c->req.id = ++srv->last_id;
	client_event(c, EV_REQUEST);
	client_call(c, name, args);
	json_decref(args);
}

/* Make the input at least n bytes long. */
static bool
rx_reserve(struct client *c, size_t n)
{
	uint8_t	*p;

	if (n < RX_MIN)
		n = RX_MIN;
	if (n <= c->rx_cap)
		return true;
	if ((p = realloc(c->rx, n)) == NULL) {
		c->srv->stats.nomem++;
		return false;
	}
	c->rx = p;
	c->rx_cap = n;
	return true;
}

static void
rx_frame(struct client *c)
{
	struct ctl_frame	 f;
	struct rbuf		 r;
	size_t			 need;
	int			 rc;

	rbuf_init(&r, c->rx, c->rx_len);
	rc = ctl_frame_next(&r, CTL_REQUEST_MAX, &f, &need);
	if (rc == 0 && !rx_reserve(c, need)) {
		client_free(c);
		return;
	}
	if (rc == 0)
		return;
	if (rc == -EMSGSIZE)
		client_refuse(c, "a request of more than 64 KiB");
	else if (rc < 0)
		client_refuse(c, "bytes that are no frame");
	else if (r.len > 0)
		client_refuse(c, "more than one request at a time");
	else
		client_request(c, &f);
	free(c->rx);
	c->rx = NULL;
	c->rx_len = c->rx_cap = 0;
}

/* Input while an answer is under way: the end, or a client out of turn. */
static void
client_peek(struct client *c)
{
	uint8_t	 b;
	ssize_t	 n;

	n = recv(c->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		c->srv->stats.rubbish++;
		log_limited(&c->srv->limit, LOG_WARNING, "control: dropped a client of uid %u, "
		    "pid %d: it spoke out of turn", (unsigned)c->uid, (int)c->pid);
	}
	client_free(c);
}

static void
client_read(struct client *c)
{
	ssize_t	 n;

	if (c->state != C_READING) {
		client_peek(c);
		return;
	}
	if (!rx_reserve(c, c->rx_len)) {
		client_free(c);
		return;
	}
	n = recv(c->fd, c->rx + c->rx_len, c->rx_cap - c->rx_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_free(c);
		return;
	}
	c->rx_len += (size_t)n;
	rx_frame(c);
}

static void
produce_end(struct client *c, ssize_t rc)
{
	json_t	*result;

	if (rc < 0)
		result = error_json(CTL_EXIT_FAILED, strerror((int)-rc));
	else if (c->prod->result != NULL)
		result = c->prod->result(c->prod_ctx);
	else
		result = json_object();
	if (rc >= 0 && result == NULL)
		result = json_object();
	ctlsrv_reply(&c->req, result);
}

/* Ask the producer for one frame, put straight into the output. */
static void
produce(struct client *c)
{
	uint8_t	*out;
	bool	 end = false;
	ssize_t	 n;

	out = tx_room(c, CTL_HDR_BYTES + CTL_FLOWS_MAX);
	if (out == NULL) {
		c->srv->stats.nomem++;
		produce_end(c, -ENOMEM);
		return;
	}
	n = c->prod->more(c->prod_ctx, out + CTL_HDR_BYTES, CTL_FLOWS_MAX, &end);
	if (n > (ssize_t)CTL_FLOWS_MAX)
		n = -EOVERFLOW;
	if (n > 0) {
		ctl_hdr_put(out, c->prod->type, (uint32_t)n);
		c->tx_len += CTL_HDR_BYTES + (size_t)n;
	}
	ev_timer_again(c->srv->loop, &c->stall);
	if (n < 0 || end)
		produce_end(c, n);
}

/* False when the client has gone. */
static bool
client_send(struct client *c)
{
	ssize_t	 n;

	n = send(c->fd, c->tx + c->tx_off, c->tx_len - c->tx_off, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0) {
		client_free(c);
		return false;
	}
	c->tx_off += (size_t)n;
	if (c->state == C_DRAINING || c->state == C_STREAMING || c->state == C_CLOSING)
		ev_timer_again(c->srv->loop, &c->stall);
	return true;
}

static void
client_write(struct client *c)
{
	if (c->tx_len == c->tx_off && c->state == C_STREAMING)
		produce(c);
	if (c->tx_len > c->tx_off && !client_send(c))
		return;
	if (c->tx_len == c->tx_off) {
		c->tx_len = c->tx_off = 0;
		if (c->state == C_CLOSING) {
			client_free(c);
			return;
		}
		if (c->state != C_STREAMING)
			tx_clear(c);
		if (c->state == C_DRAINING)
			client_event(c, EV_DRAINED);
	}
	client_watch(c);
}

static void
io_cb(struct ev_loop *loop, ev_io *w, int revents)
{
	struct client	*c = w->data;

	(void)loop;
	/* One of them each time: the first may free the client. */
	if (revents & EV_READ)
		client_read(c);
	else
		client_write(c);
}

static void
stall_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct client	*c = w->data;

	(void)loop;
	(void)revents;
	c->srv->stats.stalled++;
	/* A client that has nothing to ask for is no news. */
	if (c->rx_len > 0 || c->tx_len > c->tx_off)
		log_limited(&c->srv->limit, LOG_WARNING, "control: dropped a client of uid %u, "
		    "pid %d: it stalled while %s", (unsigned)c->uid, (int)c->pid,
		    state_names[c->state]);
	client_free(c);
}

int
ctlsrv_client_new(struct ctlsrv *srv, int fd, const struct ctlsrv_cred *cred)
{
	struct client	*c;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return -ENOMEM;
	c->srv = srv;
	c->fd = fd;
	c->id = ++srv->last_client;
	c->uid = cred->uid;
	c->pid = cred->pid;
	c->may_all = cred->may_all;
	c->req.client = c;
	c->state = C_READING;
	c->io.data = c->stall.data = c;
	ev_init(&c->io, io_cb);
	ev_init(&c->stall, stall_cb);
	c->stall.repeat = srv->stall_s;
	c->next = srv->clients;
	if (c->next != NULL)
		c->next->prevp = &c->next;
	c->prevp = &srv->clients;
	srv->clients = c;
	srv->stats.clients++;
	client_timer(c);
	client_watch(c);
	return 0;
}

static void
client_free(struct client *c)
{
	void		(*gone)(void *, uint64_t) = c->gone;
	void		*gone_ctx = c->gone_ctx;
	uint64_t	 id = c->req.id;

	ev_io_stop(c->srv->loop, &c->io);
	ev_timer_stop(c->srv->loop, &c->stall);
	*c->prevp = c->next;
	if (c->next != NULL)
		c->next->prevp = c->prevp;
	c->srv->stats.clients--;
	close(c->fd);
	c->req.id = 0;
	request_end(c);
	if (gone != NULL)
		gone(gone_ctx, id);
	tx_clear(c);
	free(c->rx);
	free(c);
}

void
ctlsrv_clients_free(struct ctlsrv *srv)
{
	while (srv->clients != NULL)
		client_free(srv->clients);
}

void
ctlsrv_flush(struct ctlsrv *srv, unsigned ms)
{
	uint64_t	 until = clock_mono_ms() + ms, now;
	struct client	*c, *next;
	struct pollfd	 pfd;

	for (c = srv->clients; c != NULL; c = next) {
		next = c->next;
		while (c->tx_len > c->tx_off && (now = clock_mono_ms()) < until) {
			pfd.fd = c->fd;
			pfd.events = POLLOUT;
			if (poll(&pfd, 1, (int)(until - now)) < 1 || !client_send(c))
				break;
		}
	}
}

/* Complete what a handler left to us: "ok" and "exit". */
static void
result_complete(json_t *result)
{
	bool	 ok = json_object_get(result, "error") == NULL;

	if (json_object_get(result, "ok") == NULL)
		json_object_set_new(result, "ok", json_boolean(ok));
	ok = json_is_true(json_object_get(result, "ok"));
	if (json_object_get(result, "exit") == NULL)
		json_object_set_new(result, "exit",
		    json_integer(ok ? CTL_EXIT_OK : CTL_EXIT_FAILED));
}

void
ctlsrv_reply(struct ctlsrv_req *req, json_t *result)
{
	if (req->id == 0) {
		json_decref(result);
		return;
	}
	if (json_is_object(result))
		result_complete(result);
	client_answer(req->client, result, EV_ANSWERED);
}

void
ctlsrv_ok(struct ctlsrv_req *req)
{
	ctlsrv_reply(req, json_object());
}

void
ctlsrv_fail(struct ctlsrv_req *req, enum ctl_exit code, const char *fmt, ...)
{
	char	 text[CTL_ERR_MAX * 2];
	va_list	 ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ctlsrv_reply(req, error_json(code, text));
}

int
ctlsrv_text(struct ctlsrv_req *req, const char *text, size_t len)
{
	int	 rc;

	if (req->client->tx_len + len + CTL_HDR_BYTES > CTLSRV_TX_MAX - TEXT_RESERVE)
		return -ENOBUFS;
	if ((rc = tx_frame(req->client, CTL_TEXT, text, len)) == 0)
		client_watch(req->client);
	return rc;
}

void
ctlsrv_progress(struct ctlsrv_req *req, const char *fmt, ...)
{
	char	 line[PROGRESS_MAX];
	va_list	 ap;

	if (req->client->tx_len > req->client->tx_off)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (tx_frame(req->client, CTL_PROGRESS, line, strlen(line)) == 0)
		client_watch(req->client);
}

uint64_t
ctlsrv_hold(struct ctlsrv_req *req, void (*gone)(void *ctx, uint64_t id), void *ctx)
{
	req->client->gone = gone;
	req->client->gone_ctx = ctx;
	client_event(req->client, EV_HOLD);
	return req->id;
}

struct ctlsrv_req *
ctlsrv_find(struct ctlsrv *srv, uint64_t id)
{
	struct client	*c;

	for (c = srv->clients; c != NULL; c = c->next)
		if (id != 0 && c->req.id == id)
			return &c->req;
	return NULL;
}

void
ctlsrv_stream(struct ctlsrv_req *req, const struct ctlsrv_producer *p, void *ctx)
{
	req->client->prod = p;
	req->client->prod_ctx = ctx;
	client_event(req->client, EV_STREAM);
}

uid_t
ctlsrv_uid(const struct ctlsrv_req *req)
{
	return req->client->uid;
}
