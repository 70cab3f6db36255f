/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server of the traffic program: accepts TCP connections and UDP streams
 * on any number of endpoints and does what the hello of each connection asks
 * for.  It judges nothing: the client does, from the reports.
 */
#include <sys/epoll.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define BACKLOG		4096
#define ACCEPT_BATCH	64
#define MAX_STREAMS	500000u

struct server;

struct listener {
	struct source src;
	struct server *server;
};

struct server {
	const struct options *o;
	struct loop loop;
	struct stream_host host;
	struct listener *listeners;
	struct dgram_server **dgrams;
	size_t n_open;			/* of both */
	struct stream **streams;
	size_t n_streams, room;
	uint64_t accepted, finished, failed;
};

/* The stream may be anywhere on the call stack: it is freed by the next tick. */
static void
stream_changed(struct stream *s)
{
	struct server *srv = (struct server *)(void *)((char *)s->host - offsetof(struct server, host));

	srv->finished += s->state == ST_DONE;
	srv->failed += s->state == ST_FAILED;
}

static bool
make_room(struct server *srv)
{
	size_t room = srv->room == 0 ? 1024 : srv->room * 2;
	struct stream **grown;

	if (srv->n_streams < srv->room)
		return true;
	if (srv->n_streams >= MAX_STREAMS)
		return false;
	grown = realloc(srv->streams, room * sizeof(*grown));
	if (grown == NULL)
		return false;
	srv->streams = grown;
	srv->room = room;
	return true;
}

static void
add_stream(struct server *srv, int fd)
{
	struct stream *s = make_room(srv) ? malloc(sizeof(*s)) : NULL;

	if (s == NULL) {
		close(fd);
		return;
	}
	stream_init_server(s, &srv->host, fd);
	if (loop_add(&srv->loop, &s->src, EPOLLIN) != 0) {
		close(fd);
		free(s);
		return;
	}
	s->slot = srv->n_streams;
	srv->streams[srv->n_streams++] = s;
	srv->accepted++;
}

static void
listener_ready(struct source *src, uint32_t events)
{
	struct listener *l = (struct listener *)(void *)((char *)src - offsetof(struct listener, src));
	int fd, i;

	(void)events;
	for (i = 0; i < ACCEPT_BATCH; i++) {
		fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		add_stream(l->server, fd);
	}
}

static void
remove_stream(struct server *srv, size_t slot)
{
	free(srv->streams[slot]);
	srv->streams[slot] = srv->streams[--srv->n_streams];
}

static bool
server_tick(void *ctx)
{
	struct server *srv = ctx;
	size_t i = 0;

	while (i < srv->n_streams) {
		stream_tick(srv->streams[i], srv->loop.now_us);
		if (srv->streams[i]->src.fd < 0)
			remove_stream(srv, i);
		else
			i++;
	}
	for (i = 0; i < srv->n_open; i++)
		dgram_server_tick(srv->dgrams[i], srv->loop.now_us);
	return srv->loop.stop_signals == 0;
}

static int
listen_tcp(struct server *srv, struct listener *l, const struct endpoint *ep)
{
	int on = 1, fd;

	fd = socket(ep->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	l->src.fd = fd;
	l->src.ready = listener_ready;
	l->server = srv;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ep->addr.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&ep->addr, ep->len) != 0 || listen(fd, BACKLOG) != 0)
		return -errno;
	return loop_add(&srv->loop, &l->src, EPOLLIN);
}

static int
listen_all(struct server *srv)
{
	const struct options *o = srv->o;
	size_t i;
	int rc;

	for (i = 0; i < o->n_endpoints; i++) {
		srv->dgrams[i] = dgram_server_new(&srv->loop, &o->endpoints[i]);
		if (srv->dgrams[i] == NULL)
			return -errno;
		srv->n_open++;
		rc = listen_tcp(srv, &srv->listeners[i], &o->endpoints[i]);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void
server_fini(struct server *srv)
{
	size_t i;

	for (i = 0; i < srv->n_streams; i++) {
		close(srv->streams[i]->src.fd);
		free(srv->streams[i]);
	}
	for (i = 0; i < srv->n_open; i++) {
		if (srv->listeners[i].src.fd > 0)
			close(srv->listeners[i].src.fd);
		dgram_server_free(srv->dgrams[i]);
	}
	free(srv->streams);
	free(srv->listeners);
	free(srv->dgrams);
	free(srv->host.scratch);
	loop_fini(&srv->loop);
}

int
server_main(const struct options *o)
{
	struct server srv = { .o = o };
	int rc;

	rc = loop_init(&srv.loop);
	if (rc != 0) {
		fprintf(stderr, "event loop: %s\n", strerror(-rc));
		return 1;
	}
	srv.host.loop = &srv.loop;
	srv.host.changed = stream_changed;
	srv.host.scratch = malloc(2 * SCRATCH_BYTES);
	srv.listeners = calloc(o->n_endpoints, sizeof(*srv.listeners));
	srv.dgrams = calloc(o->n_endpoints, sizeof(struct dgram_server *));
	if (srv.host.scratch == NULL || srv.listeners == NULL || srv.dgrams == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = listen_all(&srv);
	if (rc == 0) {
		if (o->ready_file != NULL)
			rc = file_replace(o->ready_file, "ready\n");
		if (rc == 0)
			rc = loop_run(&srv.loop, server_tick, &srv);
	}
	if (rc != 0)
		fprintf(stderr, "server: %s\n", strerror(-rc));
	else
		printf("{\"accepted\": %llu, \"finished\": %llu, \"failed\": %llu}\n",
		    (unsigned long long)srv.accepted, (unsigned long long)srv.finished,
		    (unsigned long long)srv.failed);
	server_fini(&srv);
	return rc == 0 ? 0 : 1;
}
