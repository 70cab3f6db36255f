/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client of the traffic program: opens all connections, announces when
 * all of them carry data, lets them run, and at the end makes each of them
 * prove that it lives (progress in every direction after the stop) and that
 * both ends counted the same bytes (closing handshake).  It can also open (and
 * close) connections while the others run.
 */
#include <sys/epoll.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define MAX_CONNECTING	512u	/* below the server's backlog */
#define SURVEY_US	100000u
#define STATUS_US	500000u
#define PING_TAIL_US	500000u	/* for the last echo replies */
#define RETRY_US	500000u	/* until the next attempt of a connection that is opened later */
#define SHORT_LIFE_US	1000000u

enum phase {
	PH_CONNECT,
	PH_RUN,
	PH_CHECK,	/* still sending; everything must go forward once more */
	PH_CLOSE,
	PH_DONE
};

struct client {
	const struct options *o;
	struct loop loop;
	struct stream_host host;
	struct client_view view;
	enum phase phase;
	size_t n_first;			/* streams that are opened before ready; further ones come after */
	size_t next_stream;		/* the first that is not yet opened */
	struct stream **live;		/* opened, not ended */
	size_t n_live;
	size_t n_done, n_failed, n_reset;
	size_t connecting;
	FILE *records;
	uint64_t started_us, ready_us, stop_us, close_us;
	uint64_t survey_us, status_us;
	unsigned int stop_signals;	/* those already obeyed */
	unsigned int marks;
	uint64_t mark_us;
};

struct survey {
	size_t total, moving, failed, reset, done, alive, progressed, pending;
};

/* Data arrived, or was acknowledged: more than the hello. */
static bool
stream_moving(const struct stream *s)
{
	return (s->state == ST_RUN || s->state == ST_CLOSING) && (!s->receives || s->rx_bytes > 0) &&
	    (!s->sends || s->p.kind == KIND_IDLE || s->tx_acked > FRAME_CTL_MAX);
}

static void
survey_take(struct client *c, struct survey *v)
{
	struct client_view *w = &c->view;
	uint64_t now = c->loop.now_us;
	uint64_t recent_us = (uint64_t)c->o->interval_ms * 3000;
	uint64_t recently;
	size_t i;

	/* A second, or three turns of a connection if those are rare. */
	if (recent_us < US_PER_S)
		recent_us = US_PER_S;
	recently = now > recent_us ? now - recent_us : 0;
	memset(v, 0, sizeof(*v));
	v->total = w->n_streams + w->n_dgrams + pinger_count(w->pinger);
	v->failed = c->n_failed;
	v->reset = c->n_reset;
	v->done = v->alive = v->progressed = c->n_done;
	for (i = 0; i < c->n_live; i++) {
		const struct stream *s = c->live[i];

		v->moving += stream_moving(s);
		v->alive += stream_alive(s, recently);
		v->progressed += stream_alive(s, c->mark_us);
		v->pending += s->opened_us <= c->mark_us && !stream_alive(s, c->mark_us);
	}
	for (i = 0; i < w->n_dgrams; i++) {
		v->moving += w->dgrams[i].rx.received > 0;
		v->done += w->dgrams[i].reported;
		v->alive += w->dgrams[i].reported || w->dgrams[i].in.last_us > recently;
		v->progressed += w->dgrams[i].in.last_us > c->mark_us;
		v->pending += w->dgrams[i].in.last_us <= c->mark_us;
	}
	for (i = 0; i < pinger_count(w->pinger); i++) {
		v->moving += pinger_get(w->pinger, i)->rx.received > 0;
		v->alive += pinger_get(w->pinger, i)->in.last_us > recently;
		v->progressed += pinger_get(w->pinger, i)->in.last_us > c->mark_us;
		v->pending += pinger_get(w->pinger, i)->in.last_us <= c->mark_us;
	}
}

static const char *
phase_name(enum phase phase)
{
	static const char *const names[] = { "connect", "run", "check", "close", "done" };

	return names[phase];
}

static void
publish(struct client *c, const struct survey *v)
{
	char text[320];

	if (c->loop.now_us < c->status_us && c->phase != PH_DONE)
		return;
	c->status_us = c->loop.now_us + STATUS_US;
	if (c->o->progress)
		fprintf(stderr, "\r%-8s %6.1f s  %zu connections, %zu moving, %zu alive, %zu failed ",
		    phase_name(c->phase), (double)(c->loop.now_us - c->started_us) / US_PER_S,
		    v->total, v->moving, v->alive, v->failed);
	if (c->o->status_file == NULL)
		return;
	snprintf(text, sizeof(text),
	    "{\"phase\": \"%s\", \"connections\": %zu, \"moving\": %zu, \"alive\": %zu, "
	    "\"failed\": %zu, \"reset\": %zu, \"done\": %zu, \"marks\": %u, \"progressed\": %zu, "
	    "\"pending\": %zu}\n",
	    phase_name(c->phase), v->total, v->moving, v->alive, v->failed, v->reset, v->done,
	    c->marks, v->progressed, v->pending);
	file_replace(c->o->status_file, text);
}

/* ---- ending ----------------------------------------------------------- */

static double
seconds(uint64_t us)
{
	return (double)us / US_PER_S;
}

/* A line for a stream that has ended. */
static void
record(struct client *c, const struct stream *s)
{
	uint64_t last = s->running_us;
	char running[32] = "null";

	if (c->records == NULL)
		return;
	if (s->running_us != 0)
		snprintf(running, sizeof(running), "%.3f", seconds(s->running_us));
	if (s->receives && s->in.last_us > last)
		last = s->in.last_us;
	if (s->p.kind == KIND_UPLOAD || (s->p.kind == KIND_MESSAGES && s->out.last_us < last))
		last = s->out.last_us;
	fprintf(c->records, "{\"id\": %llu, \"kind\": \"%s\", \"target\": \"%s\", \"port\": %u, "
	    "\"later\": %s, \"tries\": %u, \"opened\": %.3f, \"running\": %s, \"last\": %.3f, "
	    "\"ended\": %.3f, \"pause_ms\": %llu, \"failure\": \"%s\", \"error\": %d}\n",
	    (unsigned long long)s->p.id, kind_name(s->p.kind),
	    c->o->specs[c->o->endpoints[s->slot].group], s->port, s->later ? "true" : "false", s->tries,
	    seconds(s->opened_us), running, seconds(last), seconds(s->ended_us),
	    (unsigned long long)stream_pause(s) / 1000, failure_name(s->failure), s->error);
	if (s->state == ST_FAILED)
		fflush(c->records);
}

/* It stays where it is in `live` until the next tick: it may be anywhere on the call stack. */
static void
stream_ended(struct client *c, struct stream *s)
{
	c->n_done += s->state == ST_DONE;
	c->n_failed += s->state == ST_FAILED;
	c->n_reset += s->failure == FAIL_RESET || s->failure == FAIL_CLOSED;
	record(c, s);
}

static void
remove_ended(struct client *c)
{
	size_t i = 0;

	while (i < c->n_live) {
		if (c->live[i]->state == ST_DONE || c->live[i]->state == ST_FAILED)
			c->live[i] = c->live[--c->n_live];
		else
			i++;
	}
}

/* ---- opening ---------------------------------------------------------- */

static void
stream_changed(struct stream *s)
{
	struct client *c = (struct client *)(void *)((char *)s->host - offsetof(struct client, host));

	/* Accepted, or failed before the first byte: no longer waiting for its connection. */
	if (s->state == ST_RUN || s->rx_raw == 0)
		c->connecting--;
	/* Without a path a connect may fail at once: that is not a connection that was lost. */
	if (s->failure == FAIL_CONNECT && s->later && (c->phase == PH_RUN || c->phase == PH_CHECK)) {
		s->state = ST_IDLE;
		s->failure = FAIL_NONE;
		s->due_us = c->loop.now_us + RETRY_US;
	} else if (s->state != ST_RUN)
		stream_ended(c, s);
}

/* What the kernel chose for the connection. */
static uint16_t
local_port(int fd)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return 0;
	if (ss.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)&ss)->sin6_port);
	return ntohs(((const struct sockaddr_in *)(const void *)&ss)->sin_port);
}

static void
stream_params_for(const struct client *c, size_t index, enum kind kind, struct stream_params *p)
{
	const struct options *o = c->o;

	p->run = c->view.run;
	p->id = index;
	p->rate = o->rate;
	p->window = o->window;
	p->chunk = kind == KIND_MESSAGES || kind == KIND_IDLE ? o->message : o->chunk;
	p->interval_ms = o->interval_ms;
	if (kind == KIND_IDLE)		/* not all at once */
		p->interval_ms = o->idle_ms / 4 + (uint32_t)(random_u64() % (o->idle_ms / 2 * 3));
	p->kind = kind;
}

static void
stream_open(struct client *c, struct stream *s)
{
	const struct endpoint *ep = &c->o->endpoints[s->slot];
	struct stream_params p = s->p;
	size_t slot = s->slot;
	bool later = s->later;
	unsigned int tries = s->tries + 1;
	uint64_t opened_us = s->opened_us != 0 ? s->opened_us : c->loop.now_us;
	uint64_t end_us = s->end_us;
	int fd;

	fd = socket(ep->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	stream_init_client(s, &c->host, fd, &p);
	s->slot = slot;
	s->later = later;
	s->tries = tries;
	s->opened_us = opened_us;
	s->end_us = end_us;
	c->connecting++;
	if (fd < 0 || loop_add(&c->loop, &s->src, EPOLLOUT) != 0) {
		stream_fail(s, FAIL_CONNECT);
		return;
	}
	if (connect(fd, (const struct sockaddr *)&ep->addr, ep->len) != 0 && errno != EINPROGRESS) {
		s->error = errno;
		stream_fail(s, FAIL_CONNECT);
		return;
	}
	s->port = local_port(fd);
}

static void
open_next(struct client *c)
{
	struct stream *s = &c->view.streams[c->next_stream++];

	c->live[c->n_live++] = s;
	stream_open(c, s);
}

static void
open_some(struct client *c)
{
	while (c->next_stream < c->n_first && c->connecting < MAX_CONNECTING)
		open_next(c);
}

/* Another attempt for those that failed. */
static void
open_again(struct client *c)
{
	size_t i;

	for (i = 0; i < c->n_live; i++) {
		if (c->live[i]->state == ST_IDLE && c->loop.now_us >= c->live[i]->due_us)
			stream_open(c, c->live[i]);
	}
}

/* While the others run: those whose turn it is. */
static void
open_later(struct client *c)
{
	static const enum kind kinds[] = {
		KIND_MESSAGES, KIND_DOWNLOAD, KIND_UPLOAD, KIND_IDLE, KIND_MESSAGES
	};
	const size_t n_kinds = sizeof(kinds) / sizeof(kinds[0]);
	const struct options *o = c->o;
	uint64_t now = c->loop.now_us;
	size_t n = c->view.n_streams - c->n_first;
	struct stream *s;

	while (n < o->open_max && (now - c->ready_us) * o->open_rate / US_PER_S > n &&
	    c->connecting < MAX_CONNECTING) {
		s = &c->view.streams[c->view.n_streams++];
		s->later = true;
		s->src.fd = -1;
		/* Kinds and endpoints each in turn, and all pairs of them. */
		s->slot = (n + n / n_kinds) % o->n_endpoints;
		stream_params_for(c, c->n_first + n, kinds[n % n_kinds], &s->p);
		if (n % n_kinds == n_kinds - 1)
			s->end_us = now + random_u64() % SHORT_LIFE_US;
		else if (o->lifetime_ms != 0)
			s->end_us = now + ((uint64_t)o->lifetime_ms / 2 + random_u64() % o->lifetime_ms) * 1000;
		n++;
		open_next(c);
	}
}

/* Their time has come. */
static void
close_some(struct client *c)
{
	size_t i;

	for (i = 0; i < c->n_live; i++) {
		if (c->live[i]->end_us != 0 && c->loop.now_us >= c->live[i]->end_us)
			stream_end(c->live[i]);
	}
}

static void
speak(struct client *c)
{
	size_t i;

	for (i = 0; i < c->n_live; i++)
		stream_speak(c->live[i]);
}

static int
prepare_streams(struct client *c)
{
	const struct options *o = c->o;
	size_t kind, i, n = 0;

	for (kind = KIND_DOWNLOAD; kind <= KIND_IDLE; kind++)
		c->n_first += o->count[kind];
	c->view.n_streams = c->n_first;
	n = c->n_first + (o->open_rate != 0 ? o->open_max : 0) + 1;
	c->view.streams = calloc(n, sizeof(struct stream));
	c->live = calloc(n, sizeof(*c->live));
	if (c->view.streams == NULL || c->live == NULL)
		return -ENOMEM;
	n = 0;
	for (kind = KIND_DOWNLOAD; kind <= KIND_IDLE; kind++) {
		for (i = 0; i < o->count[kind]; i++, n++) {
			stream_params_for(c, n, (enum kind)kind, &c->view.streams[n].p);
			c->view.streams[n].slot = i % o->n_endpoints;
			c->view.streams[n].src.fd = -1;
		}
	}
	return 0;
}

static int
open_dgrams(struct client *c)
{
	const struct options *o = c->o;
	struct dgram *d;
	size_t i;
	int rc;

	c->view.dgrams = calloc(o->count[KIND_UDP] + 1, sizeof(struct dgram));
	if (c->view.dgrams == NULL)
		return -ENOMEM;
	for (i = 0; i < o->count[KIND_UDP]; i++) {
		d = &c->view.dgrams[i];
		d->run = c->view.run;
		d->id = i;
		d->endpoint = i % o->n_endpoints;
		d->interval_us = o->packet_ms * 1000;
		d->bytes = o->packet_bytes;
		d->due_us = c->loop.now_us + random_u64() % d->interval_us;
		rc = dgram_open(d, &c->loop, &o->endpoints[d->endpoint]);
		if (rc != 0)
			return rc;
		c->view.n_dgrams++;
	}
	return 0;
}

/* ---- phases ----------------------------------------------------------- */

static void
enter_run(struct client *c)
{
	uint64_t now = c->loop.now_us;
	size_t i;

	c->phase = PH_RUN;
	c->ready_us = now;
	c->view.all_established = true;
	c->view.establish_s = (double)(now - c->started_us) / US_PER_S;
	for (i = 0; i < c->view.n_streams; i++) {
		progress_restart(&c->view.streams[i].in, now);
		progress_restart(&c->view.streams[i].out, now);
	}
	for (i = 0; i < c->view.n_dgrams; i++)
		progress_restart(&c->view.dgrams[i].in, now);
	for (i = 0; i < pinger_count(c->view.pinger); i++)
		progress_restart(&pinger_get(c->view.pinger, i)->in, now);
	if (c->o->ready_file != NULL)
		file_replace(c->o->ready_file, "ready\n");
	fprintf(stderr, "%sready: %zu connections in %.1f s\n", c->o->progress ? "\r" : "",
	    c->view.n_streams + c->view.n_dgrams + pinger_count(c->view.pinger), c->view.establish_s);
}

static void
enter_check(struct client *c)
{
	c->phase = PH_CHECK;
	c->stop_us = c->view.stopped_us = c->loop.now_us;
	speak(c);
	if (c->ready_us != 0)
		c->view.seconds = (double)(c->stop_us - c->ready_us) / US_PER_S;
}

static bool
all_alive(const struct client *c)
{
	size_t i;

	for (i = 0; i < c->n_live; i++) {
		const struct stream *s = c->live[i];

		if ((s->state >= ST_RUN || s->later) && !stream_alive(s, c->stop_us))
			return false;
	}
	for (i = 0; i < c->view.n_dgrams; i++) {
		if (c->view.dgrams[i].in.last_us <= c->stop_us)
			return false;
	}
	for (i = 0; i < pinger_count(c->view.pinger); i++) {
		if (pinger_get(c->view.pinger, i)->in.last_us <= c->stop_us)
			return false;
	}
	return true;
}

static void
enter_close(struct client *c)
{
	size_t i;

	c->phase = PH_CLOSE;
	c->close_us = c->loop.now_us;
	for (i = 0; i < c->view.n_streams; i++) {
		struct stream *s = &c->view.streams[i];

		if (s->state == ST_IDLE) {	/* never opened, thus not counted as connecting */
			s->state = ST_FAILED;
			s->failure = FAIL_CONNECT;
			stream_ended(c, s);
		} else if (s->state == ST_CONNECTING || s->state == ST_HELLO)
			stream_fail(s, FAIL_CONNECT);
		else if (!stream_alive(s, c->stop_us))
			stream_fail(s, FAIL_STALLED);
		else
			stream_end(s);
	}
	for (i = 0; i < c->view.n_dgrams; i++)
		dgram_end(&c->view.dgrams[i]);
	pinger_stop(c->view.pinger);
}

static bool
all_closed(const struct client *c)
{
	size_t i;

	if (c->n_live > 0)
		return false;
	for (i = 0; i < c->view.n_dgrams; i++) {
		/* One that is silent since the stop is lost: nothing to wait for. */
		if (!c->view.dgrams[i].reported && c->view.dgrams[i].in.last_us > c->stop_us)
			return false;
	}
	return pinger_count(c->view.pinger) == 0 || c->loop.now_us > c->close_us + PING_TAIL_US;
}

static void
enter_done(struct client *c)
{
	size_t i;

	c->phase = PH_DONE;
	for (i = 0; i < c->view.n_streams; i++)
		stream_fail(&c->view.streams[i], FAIL_UNFINISHED);
}

static void
advance(struct client *c, const struct survey *v)
{
	const struct options *o = c->o;
	uint64_t now = c->loop.now_us;
	bool stop = c->loop.stop_signals > c->stop_signals;

	c->stop_signals = c->loop.stop_signals;
	switch (c->phase) {
	case PH_CONNECT:
		if (v->moving == v->total)
			enter_run(c);
		else if (stop || v->failed > 0 || now > c->started_us + (uint64_t)o->connect_s * US_PER_S)
			enter_check(c);
		break;
	case PH_RUN:
		if (stop || (o->duration_s != 0 && now > c->ready_us + (uint64_t)o->duration_s * US_PER_S))
			enter_check(c);
		break;
	case PH_CHECK:
		if (stop || all_alive(c) || now > c->stop_us + (uint64_t)o->grace_s * US_PER_S)
			enter_close(c);
		break;
	case PH_CLOSE:
		if (stop || all_closed(c) || now > c->close_us + (uint64_t)o->grace_s * US_PER_S)
			enter_done(c);
		break;
	case PH_DONE:
		break;
	}
}

static bool
client_tick(void *ctx)
{
	struct client *c = ctx;
	uint64_t now = c->loop.now_us;
	struct survey v;
	size_t i;

	if (c->phase == PH_CONNECT)
		open_some(c);
	if (c->phase == PH_RUN || c->phase == PH_CHECK)
		open_again(c);
	if (c->phase == PH_RUN) {
		open_later(c);
		close_some(c);
	}
	for (i = 0; i < c->n_live; i++)
		stream_tick(c->live[i], now);
	remove_ended(c);
	for (i = 0; i < c->view.n_dgrams; i++)
		dgram_tick(&c->view.dgrams[i], now);
	pinger_tick(c->view.pinger, now);
	if (now < c->survey_us)
		return true;
	c->survey_us = now + SURVEY_US;
	if (c->marks != c->loop.mark_signals) {
		c->marks = c->loop.mark_signals;
		c->mark_us = now;
		speak(c);
	}
	survey_take(c, &v);
	advance(c, &v);
	publish(c, &v);
	return c->phase != PH_DONE;
}

static void
client_fini(struct client *c)
{
	size_t i;

	for (i = 0; i < c->view.n_dgrams; i++)
		close(c->view.dgrams[i].src.fd);
	pinger_free(c->view.pinger);
	if (c->records != NULL)
		fclose(c->records);
	free(c->live);
	free(c->view.streams);
	free(c->view.dgrams);
	free(c->host.scratch);
	loop_fini(&c->loop);
}

int
client_main(const struct options *o)
{
	struct client c = { .o = o, .phase = PH_CONNECT };
	int rc, status = 1;

	rc = loop_init(&c.loop);
	if (rc != 0) {
		fprintf(stderr, "event loop: %s\n", strerror(-rc));
		return 1;
	}
	c.started_us = c.loop.now_us;
	c.view.o = o;
	c.view.run = random_u64();
	c.host.loop = &c.loop;
	c.host.changed = stream_changed;
	c.host.scratch = malloc(2 * SCRATCH_BYTES);
	rc = c.host.scratch == NULL ? -ENOMEM : prepare_streams(&c);
	if (rc == 0 && o->record_file != NULL && (c.records = fopen(o->record_file, "w")) == NULL)
		rc = -errno;
	if (rc == 0)
		rc = open_dgrams(&c);
	if (rc == 0) {
		c.view.pinger = pinger_new(&c.loop, o, c.view.run);
		if (c.view.pinger == NULL)
			rc = -errno;
	}
	if (rc == 0)
		rc = loop_run(&c.loop, client_tick, &c);
	if (rc != 0)
		fprintf(stderr, "cannot run: %s\n", strerror(-rc));
	else
		status = report_client(&c.view);
	client_fini(&c);
	return status;
}
