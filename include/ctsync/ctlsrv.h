/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control server: a unix stream socket on a libev loop (doc/control.md).
 *
 * Knows sockets, rights and limits; what commands do is left to a table of
 * handlers.  Everything runs in the loop's thread and nothing blocks.  A client
 * has one request at a time.  Memory is bounded: so many clients, a request of
 * CTL_REQUEST_MAX, an answer of CTLSRV_TX_MAX buffered; more is pulled from a
 * producer when that has gone out.  A client that stalls, speaks out of turn
 * or sends rubbish is dropped, and nobody else notices.
 */
#ifndef CTSYNC_CTLSRV_H
#define CTSYNC_CTLSRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "ctsync/ctlproto.h"

struct ev_loop;
struct ctlsrv;
struct ctlsrv_req;

#define CTLSRV_MAX_CLIENTS	32		/* default */
#define CTLSRV_STALL_MS		10000		/* default */
#define CTLSRV_TX_MAX		(CTL_FRAME_MAX + CTL_HDR_BYTES)	/* bytes buffered for a client */

#define CTLSRV_NO_GID		((gid_t)-1)

struct ctlsrv_conf {
	const char	*path;		/* of the socket */
	uid_t		 uid;		/* may do everything, besides root: the daemon's user */
	gid_t		 gid;		/* its members may do everything, or CTLSRV_NO_GID */
	gid_t		 ro_gid;	/* its members may do what is CTLSRV_RO, or CTLSRV_NO_GID */
	unsigned	 max_clients;	/* 0: CTLSRV_MAX_CLIENTS */
	unsigned	 stall_ms;	/* 0: CTLSRV_STALL_MS */
};

#define CTLSRV_RO	0x01u		/* changes nothing and tells nothing secret */
#define CTLSRV_LOG	0x02u		/* worth a line in the log: who asked for what */

/*
 * A command.  fn gets the context of ctlsrv_new() and the request, borrowed:
 * args holds "cmd" and whatever the tool put beside it.  Before it returns 0 it
 * has called one of ctlsrv_reply(), _ok(), _fail(), _hold() and _stream(), once.
 * A negative errno makes the server answer with its text.
 */
struct ctlsrv_cmd {
	const char	*name;
	unsigned	 flags;		/* CTLSRV_* */
	int		(*fn)(void *ctx, struct ctlsrv_req *req, const json_t *args);
};

/*
 * Source of a long answer.
 *
 * more() fills at most cap (CTL_FLOWS_MAX) bytes of payload for one frame and
 * returns their number, 0 if it found nothing this time, -errno to give up;
 * it sets *end with the last ones.  It is called once a turn of the loop and
 * only when the client has taken what came before, so it bounds its own work
 * (a few thousand entries).  result(), if not NULL, is asked at the end for the
 * RESULT, a new reference, NULL for a plain success.  done() always comes, once:
 * after the end, or when the client went; ctx is not touched after it.
 */
struct ctlsrv_producer {
	enum ctl_type	  type;		/* CTL_FLOWS or CTL_TEXT */
	ssize_t		(*more)(void *ctx, uint8_t *buf, size_t cap, bool *end);
	json_t		*(*result)(void *ctx);
	void		(*done)(void *ctx);
};

struct ctlsrv_stats {
	unsigned	 clients;	/* now */
	uint64_t	 accepted;
	uint64_t	 requests;
	uint64_t	 denied;	/* no rights: connections and commands */
	uint64_t	 busy;		/* beyond max_clients */
	uint64_t	 rubbish;	/* malformed, or out of turn */
	uint64_t	 stalled;
	uint64_t	 nomem;
};

/*
 * Create the socket and listen.
 *
 * Whoever calls holds the daemon's lock: a socket that is there is stale and
 * gets replaced, anything else in its place is refused.  Mode 0660 and the
 * group, or 0666 with a read-only group (then only the check of credentials
 * decides).  conf is copied, cmds (n of them) and ctx are borrowed.  0 and *out;
 * -errno, and a log line that says what to do: -ENOENT without the directory,
 * -ENAMETOOLONG, -EEXIST, -EACCES, ...
 */
int	ctlsrv_new(struct ctlsrv **out, struct ev_loop *loop, const struct ctlsrv_conf *conf,
	    const struct ctlsrv_cmd *cmds, size_t n, void *ctx)
	    __attribute__((warn_unused_result));

/* Drop all clients, remove the socket.  NULL is fine.  Not from a handler. */
void	ctlsrv_free(struct ctlsrv *srv);

void	ctlsrv_stats(const struct ctlsrv *srv, struct ctlsrv_stats *out);

/*
 * Write out what is waiting, for at most ms milliseconds: the one call that
 * blocks, for the end of the daemon, so that who asked for it gets an answer.
 */
void	ctlsrv_flush(struct ctlsrv *srv, unsigned ms);

/*
 * End the answer with *result (the reference is taken).  "ok" and "exit" are
 * added if they are missing: true and 0, or false and 1 if "error" is there.
 * A result beyond CTL_FRAME_MAX becomes an error.
 */
void	ctlsrv_reply(struct ctlsrv_req *req, json_t *result);
/* {"ok": true, "exit": 0} */
void	ctlsrv_ok(struct ctlsrv_req *req);
/* {"ok": false, "exit": code, "error": ...}; one sentence for the operator. */
void	ctlsrv_fail(struct ctlsrv_req *req, enum ctl_exit code, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

/*
 * Append text to the answer; copies.  0, or -ENOBUFS, -ENOMEM: nothing was added.
 */
int	ctlsrv_text(struct ctlsrv_req *req, const char *text, size_t len)
	    __attribute__((warn_unused_result));
/* A line for who waits; left out when the client has not yet taken the last one. */
void	ctlsrv_progress(struct ctlsrv_req *req, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

/*
 * Answer later.  The number returned names the request for as long as the
 * daemon runs; ctlsrv_find() gives it back, or NULL once its client has gone
 * or it was answered.  gone(ctx, id), if not NULL, is called when the client
 * goes before the answer; what was begun may well be finished without it.
 */
uint64_t	 ctlsrv_hold(struct ctlsrv_req *req, void (*gone)(void *ctx, uint64_t id),
		    void *ctx);
struct ctlsrv_req *ctlsrv_find(struct ctlsrv *srv, uint64_t id);

/* Answer with what *p (static, or outliving the request) produces, then a RESULT. */
void	ctlsrv_stream(struct ctlsrv_req *req, const struct ctlsrv_producer *p, void *ctx);

/* Who asks; for the log. */
uid_t	ctlsrv_uid(const struct ctlsrv_req *req);

#endif
