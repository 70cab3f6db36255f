/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the commands of the control socket do (doc/control.md).
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"

#define WALK_ENTRIES	4096u	/* looked at in one turn of the loop */

/* --- show and count --------------------------------------------------------------- */

/* A walk over one table or, for remote, over the tables of all peers or of one. */
struct walk {
	struct daemon		*d;
	struct flow_filter	 filter;
	bool			 remote, counting;
	unsigned		 peer, last_peer;
	uint32_t		 h;
	uint64_t		 matched;
};

static uint32_t
walk_next(struct walk *w, struct ftab **t)
{
	struct node_peer_info	 info;

	if (!w->remote) {
		*t = feed_table(node_feed(w->d->node));
		return feed_next(node_feed(w->d->node), w->h);
	}
	for (; w->peer <= w->last_peer; w->peer++, w->h = FTAB_NIL) {
		node_peer(w->d->node, w->peer, now_us(w->d), &info);
		*t = recv_table(info.recv);
		if (ftab_next(*t, w->h) != FTAB_NIL)
			return ftab_next(*t, w->h);
	}
	return FTAB_NIL;
}

static ssize_t
walk_more(void *ctx, uint8_t *buf, size_t cap, bool *end)
{
	struct walk	*w = ctx;
	struct wbuf	 out;
	struct ftab	*t;
	struct flow	 f;
	const uint8_t	*body;
	unsigned	 looked;
	size_t		 len;
	uint32_t	 h;

	wbuf_init(&out, buf, cap);
	for (looked = 0; looked < WALK_ENTRIES; looked++) {
		if ((h = walk_next(w, &t)) == FTAB_NIL) {
			*end = true;
			break;
		}
		body = ftab_body(t, h, &len);
		if (!(w->remote && node_ended(w->d->node, w->peer, h)) &&
		    flow_unpack(body, len, &f) == 0 && flow_filter_match(&w->filter, &f)) {
			if (!w->counting &&
			    !ctl_flow_put(&out, ftab_meta(t, h)->timeout_s, body, len))
				break;		/* in the next frame */
			w->matched++;
		}
		w->h = h;
	}
	return (ssize_t)out.len;
}

static json_t *
walk_result(void *ctx)
{
	struct walk	*w = ctx;

	return json_pack("{s:I}", w->counting ? "count" : "flows", (json_int_t)w->matched);
}

static void
walk_done(void *ctx)
{
	free(ctx);
}

static const struct ctlsrv_producer	walker = { CTL_FLOWS, walk_more, walk_result, walk_done };

static bool
find_peer(struct daemon *d, const char *name, unsigned *peer)
{
	struct node_peer_info	 info;

	for (*peer = 0; *peer < node_peers(d->node); ++*peer) {
		node_peer(d->node, *peer, now_us(d), &info);
		if (strcmp(info.name, name) == 0)
			return true;
	}
	return false;
}

/* Which peers' tables; false and an answer if there is no such peer. */
static bool
choose_peers(struct walk *w, struct ctlsrv_req *req, const char *name)
{
	w->peer = 0;
	w->last_peer = node_peers(w->d->node) - 1;
	if (name == NULL)
		return true;
	if (find_peer(w->d, name, &w->peer)) {
		w->last_peer = w->peer;
		return true;
	}
	ctlsrv_fail(req, CTL_EXIT_USAGE, "there is no peer `%s' in the configuration", name);
	return false;
}

static int
walk_start(struct daemon *d, struct ctlsrv_req *req, const json_t *args, bool counting)
{
	const char	*table = json_string_value(json_object_get(args, "table"));
	const char	*peer = json_string_value(json_object_get(args, "peer"));
	char		 err[FILTER_ERR_MAX];
	struct walk	*w;

	if (table == NULL || (strcmp(table, "local") != 0 && strcmp(table, "remote") != 0)) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "which table: local or remote?");
		return 0;
	}
	if ((w = calloc(1, sizeof(*w))) == NULL)
		return -ENOMEM;
	w->d = d;
	w->counting = counting;
	w->remote = strcmp(table, "remote") == 0;
	if (flow_filter_json(&w->filter, json_object_get(args, "filter"), err) < 0) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "%s", err);
		free(w);
		return 0;
	}
	if (peer != NULL && !w->remote) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "--peer goes with the remote table");
		free(w);
		return 0;
	}
	if (w->remote && node_peers(d->node) > 0 && !choose_peers(w, req, peer)) {
		free(w);
		return 0;
	}
	if (w->remote && node_peers(d->node) == 0)
		w->peer = 1;		/* nothing to walk */
	ctlsrv_stream(req, &walker, w);
	return 0;
}

static int
do_show(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	return walk_start(ctx, req, args, false);
}

static int
do_count(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	return walk_start(ctx, req, args, true);
}

/* --- state -------------------------------------------------------------------------- */

static int
do_status(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	json_t	*j = state_status(ctx);

	(void)args;
	if (j == NULL)
		return -ENOMEM;
	ctlsrv_reply(req, j);
	return 0;
}

static int
do_ready(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;
	char		 reason[NODE_REASON_MAX];
	bool		 ok = node_ready(d->node, now_us(d), reason);

	(void)args;
	ctlsrv_reply(req, json_pack("{s:b,s:i,s:s}", "ok", ok, "exit",
	    ok ? CTL_EXIT_OK : CTL_EXIT_FAILED, "reason", reason));
	return 0;
}

static int
do_stats(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	json_t	*j = state_stats(ctx);

	(void)args;
	if (j == NULL)
		return -ENOMEM;
	ctlsrv_reply(req, j);
	return 0;
}

static int
do_metrics(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	char	*text = state_metrics(ctx);
	int	 rc;

	(void)args;
	if (text == NULL)
		return -ENOMEM;
	rc = ctlsrv_text(req, text, strlen(text));
	free(text);
	if (rc < 0)
		return rc;
	ctlsrv_ok(req);
	return 0;
}

/* --- taking over ----------------------------------------------------------------------- */

/* What an operator should know beside the answer. */
static const char *
warning(const struct daemon *d)
{
	if (d->conf->takeover.follow_addresses.n > 0)
		return "the role follows takeover.follow_addresses: at the next change of these addresses, "
		    "or a restart, they decide again";
	if (d->unrecorded)
		return "this could not be recorded in the runtime directory, see the log of ctsyncd: after a "
		    "restart it will not know of it";
	return NULL;
}

static void
answer(const struct daemon *d, struct ctlsrv_req *req, json_t *j)
{
	const char	*text = warning(d);

	if (text != NULL)
		json_object_set_new(j, "warning", json_string(text));
	ctlsrv_reply(req, j);
}

/*
 * Record a request for a role.  False, and it is answered, if it makes no sense
 * or if something else was asked for later: that stands, and has been done.
 */
static bool
ask(struct daemon *d, struct ctlsrv_req *req, const json_t *args, enum wish_what what)
{
	const json_t	*j = json_object_get(args, "stamp");
	enum wish_what	 stands;
	char		 text[CTL_ERR_MAX];
	uint64_t	 stamp;

	if (j != NULL && (!json_is_integer(j) || json_integer_value(j) < 0)) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "\"stamp\" is no number");
		return false;
	}
	stamp = j == NULL ? wish_now() : (uint64_t)json_integer_value(j);
	if ((stands = roles_ask(d, what, stamp)) == what)
		return true;
	snprintf(text, sizeof(text), "a later request (%s) stands: carried out that instead",
	    wish_name(stands));
	answer(d, req, json_pack("{s:b,s:i,s:s,s:s,s:s}", "ok", false, "exit", CTL_EXIT_FAILED,
	    "error", text, "later", wish_name(stands), "role",
	    node_role(d->node) == NODE_ACTIVE ? "active" : "standby"));
	return false;
}

static int
begin(struct daemon *d, struct ctlsrv_req *req, enum node_take what)
{
	struct waiting	*w;

	if (d->nwaiting == MAX_WAITING) {
		ctlsrv_fail(req, CTL_EXIT_FAILED, "too many takeovers are waiting");
		return 0;
	}
	w = &d->waiting[d->nwaiting++];
	w->id = ctlsrv_hold(req, NULL, NULL);
	w->takeover = what == NODE_TAKEOVER;
	node_takeover(d->node, what, now_us(d));
	if (!node_taken(d->node)->running)
		control_taken(d);	/* it failed at once */
	return 0;
}

static int
do_commit(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)args;
	return begin(ctx, req, NODE_COMMIT);
}

static int
do_takeover(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	if (!ask(ctx, req, args, WISH_TAKEOVER))
		return 0;
	return begin(ctx, req, NODE_TAKEOVER);
}

void
control_taken(struct daemon *d)
{
	const struct waiting	*w;
	struct ctlsrv_req	*req;
	json_t			*j;
	unsigned		 i, n = d->nwaiting;

	d->nwaiting = 0;
	for (i = 0; i < n; i++) {
		w = &d->waiting[i];
		if ((req = ctlsrv_find(d->ctl, w->id)) == NULL)
			continue;
		if ((j = state_taken(d)) == NULL) {
			ctlsrv_fail(req, CTL_EXIT_FAILED, "out of memory; the takeover is done, see the log");
			continue;
		}
		if (!w->takeover) {
			ctlsrv_reply(req, j);
			continue;
		}
		if (node_taken(d->node)->aborted && d->asked.what == WISH_RELEASE)
			json_object_set_new(j, "later", json_string(wish_name(d->asked.what)));
		answer(d, req, j);
	}
}

static int
do_release(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;

	if (!ask(d, req, args, WISH_RELEASE))
		return 0;
	node_release(d->node, now_us(d));
	answer(d, req, json_pack("{s:b,s:i,s:s,s:s}", "ok", true, "exit", CTL_EXIT_OK, "role",
	    "standby", "message", "flows that the active node no longer has and that no packet "
	    "touches are removed from this kernel within some minutes"));
	return 0;
}

/* --- verifying ---------------------------------------------------------------------------- */

/* What a verification found, for all who waited for it. */
struct verdict {
	unsigned	 readers;
	json_t		*result;
	uint8_t		*flows;		/* records of FLOWS frames */
	size_t		 len;
};

struct reader {
	struct verdict	*v;
	size_t		 off;
};

static ssize_t
verdict_more(void *ctx, uint8_t *buf, size_t cap, bool *end)
{
	struct reader	*r = ctx;
	struct wbuf	 out;
	struct rbuf	 in, body;
	uint32_t	 timeout;

	wbuf_init(&out, buf, cap);
	rbuf_init(&in, r->v->flows + r->off, r->v->len - r->off);
	while (ctl_flow_get(&in, &timeout, &body) > 0 &&
	    ctl_flow_put(&out, timeout, body.p, body.len))
		r->off = r->v->len - in.len;
	*end = r->off == r->v->len;
	return (ssize_t)out.len;
}

static json_t *
verdict_result(void *ctx)
{
	return json_incref(((struct reader *)ctx)->v->result);
}

static void
verdict_free(struct verdict *v)
{
	json_decref(v->result);
	free(v->flows);
	free(v);
}

static void
verdict_release(struct verdict *v)
{
	if (--v->readers == 0)
		verdict_free(v);
}

static void
verdict_done(void *ctx)
{
	struct reader	*r = ctx;

	verdict_release(r->v);
	free(r);
}

static const struct ctlsrv_producer	verdict_reader = {
	CTL_FLOWS, verdict_more, verdict_result, verdict_done
};

static size_t
log_bytes(const struct verify_log *log)
{
	size_t		 len, sum = 0;
	uint32_t	 i;

	for (i = 0; i < log->n; i++) {
		if (verify_log_here(log, i, &len) != NULL)
			sum += CTL_FLOW_HDR_BYTES + len;
		if (verify_log_there(log, i, &len) != NULL)
			sum += CTL_FLOW_HDR_BYTES + len;
	}
	return sum;
}

/*
 * The recorded flows of one comparison, kind by kind; list says what comes in
 * which order.  Of a changed one the first record is how it was here.
 */
static void
put_log(struct wbuf *w, json_t *list, const char *peer, const struct verify_log *log)
{
	const uint8_t	*body;
	size_t		 len, n;
	uint32_t	 i;
	unsigned	 kind;

	for (kind = 0; kind < VERIFY_KINDS; kind++) {
		for (n = 0, i = 0; i < log->n; i++) {
			if (log->flows[i].kind != (enum verify_kind)kind)
				continue;
			if ((body = verify_log_here(log, i, &len)) != NULL)
				n += ctl_flow_put(w, 0, body, len);
			if ((body = verify_log_there(log, i, &len)) != NULL)
				n += ctl_flow_put(w, 0, body, len);
		}
		if (n > 0)
			json_array_append_new(list, json_pack("{s:s?,s:s,s:I}", "peer", peer, "what",
			    state_verify_kind(kind), "records", (json_int_t)n));
	}
}

static struct verdict *
make_verdict(struct daemon *d)
{
	const struct node_verified	*nv = node_verified(d->node);
	struct verdict			*v = calloc(1, sizeof(*v));
	struct wbuf			 w;
	json_t				*list;
	size_t				 cap = log_bytes(&nv->local->log);
	unsigned			 i;

	if (v == NULL)
		return NULL;
	for (i = 0; i < nv->npeers; i++)
		cap += log_bytes(&nv->peers[i].log);
	v->flows = malloc(cap + 1);
	v->result = state_verified(d);
	list = json_array();
	if (v->flows == NULL || v->result == NULL || list == NULL) {
		json_decref(list);
		verdict_free(v);
		return NULL;
	}
	wbuf_init(&w, v->flows, cap);
	put_log(&w, list, NULL, &nv->local->log);
	for (i = 0; i < nv->npeers; i++)
		put_log(&w, list, nv->peers[i].name, &nv->peers[i].log);
	v->len = w.len;
	json_object_set_new(v->result, "recorded", list);
	return v;
}

static int
do_verify(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;

	(void)args;
	if (d->nverifying == MAX_WAITING) {
		ctlsrv_fail(req, CTL_EXIT_FAILED, "too many verifications are waiting");
		return 0;
	}
	d->verifying[d->nverifying++] = ctlsrv_hold(req, NULL, NULL);
	node_verify(d->node, now_us(d));
	return 0;
}

void
control_verified(struct daemon *d)
{
	struct verdict		*v = make_verdict(d);
	struct ctlsrv_req	*req;
	struct reader		*r;
	unsigned		 i, n = d->nverifying;

	d->nverifying = 0;
	if (v != NULL)
		v->readers = 1;		/* ourselves, until all are served */
	for (i = 0; i < n; i++) {
		if ((req = ctlsrv_find(d->ctl, d->verifying[i])) == NULL)
			continue;
		if (v == NULL || (r = calloc(1, sizeof(*r))) == NULL) {
			ctlsrv_fail(req, CTL_EXIT_FAILED, "out of memory");
			continue;
		}
		r->v = v;
		v->readers++;
		ctlsrv_stream(req, &verdict_reader, r);
	}
	if (v != NULL)
		verdict_release(v);
}

/* --- the rest ----------------------------------------------------------------------------- */

static int
do_resync(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;

	(void)args;
	node_resync(d->node);
	ctlsrv_reply(req, json_pack("{s:s}", "message",
	    "reading the kernel again; every peer is asked for all of its flows"));
	return 0;
}

static int
do_flush(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;
	const char	*table = json_string_value(json_object_get(args, "table"));
	json_int_t	 n;

	if (table != NULL && strcmp(table, "remote") == 0) {
		n = node_remote_flows(d->node);
		if (node_flush_remote(d->node) < 0) {
			ctlsrv_fail(req, CTL_EXIT_FAILED, "a takeover is under way: try again when it is done");
			return 0;
		}
		ctlsrv_reply(req, json_pack("{s:I,s:s}", "flows", n, "message",
		    "the peers are asked for their flows again"));
	} else if (table != NULL && strcmp(table, "local") == 0) {
		n = feed_flows(node_feed(d->node));
		node_flush_local(d->node, now_us(d));
		ctlsrv_reply(req, json_pack("{s:I,s:s}", "flows", n, "message",
		    "the kernel's table is read again"));
	} else if (table != NULL && strcmp(table, "kernel") == 0) {
		n = feed_flows(node_feed(d->node));
		node_flush_kernel(d->node);
		ctlsrv_reply(req, json_pack("{s:I,s:s}", "flows", n, "message",
		    "they are being deleted from the kernel; what the filter leaves out stays"));
	} else
		ctlsrv_fail(req, CTL_EXIT_USAGE, "flush what: local, remote or kernel?");
	return 0;
}

static int
do_forget(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon		*d = ctx;
	const char		*name = json_string_value(json_object_get(args, "peer"));
	struct node_peer_info	 info;
	unsigned		 i;
	uint32_t		 flows;

	if (name == NULL || !find_peer(d, name, &i)) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "there is no peer `%s' in the configuration",
		    name == NULL ? "" : name);
		return 0;
	}
	node_peer(d->node, i, now_us(d), &info);
	flows = info.flows;
	switch (node_forget(d->node, i, now_us(d))) {
	case 0:
		ctlsrv_reply(req, json_pack("{s:I,s:s}", "flows", (json_int_t)flows, "message",
		    "its flows are dropped, and nothing is kept for it any more; take it out of the "
		    "configuration as well"));
		return 0;
	case -EBUSY:
		ctlsrv_fail(req, CTL_EXIT_FAILED, "%s is there: stop ctsyncd on it first, and forget it "
		    "when status says that it is lost", name);
		return 0;
	case -EAGAIN:
		ctlsrv_fail(req, CTL_EXIT_FAILED, "a takeover is under way: try again when it is done");
		return 0;
	default:
		return -ENOMEM;
	}
}

static int
do_log(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	const char	*name = json_string_value(json_object_get(args, "level"));
	int		 level = name == NULL ? -1 : log_level_parse(name);

	(void)ctx;
	if (level < 0) {
		ctlsrv_fail(req, CTL_EXIT_USAGE, "log level: err, warning, notice, info or debug");
		return 0;
	}
	log_set_level(level);
	log_msg(LOG_NOTICE, "log level: %s", log_level_name(level));
	ctlsrv_ok(req);
	return 0;
}

static int
do_reload(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;
	char		 msg[CONF_ERR_MAX];

	(void)args;
	notify_reloading(&d->notify);
	if (daemon_reload(d, msg, sizeof(msg)) < 0)
		ctlsrv_fail(req, CTL_EXIT_FAILED, "%s", msg);
	else
		ctlsrv_reply(req, json_pack("{s:s}", "message", msg));
	notify_ready(&d->notify);
	return 0;
}

static int
do_shutdown(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct daemon	*d = ctx;

	(void)args;
	log_msg(LOG_NOTICE, "stopping (asked by uid %u)", (unsigned)ctlsrv_uid(req));
	ctlsrv_ok(req);
	daemon_stop(d);
	return 0;
}

static const struct ctlsrv_cmd	commands[] = {
	{ "status", CTLSRV_RO, do_status },
	{ "ready", CTLSRV_RO, do_ready },
	{ "metrics", CTLSRV_RO, do_metrics },
	{ "stats", 0, do_stats },
	{ "show", 0, do_show },
	{ "count", 0, do_count },
	{ "commit", CTLSRV_LOG, do_commit },
	{ "takeover", CTLSRV_LOG, do_takeover },
	{ "release", CTLSRV_LOG, do_release },
	{ "verify", CTLSRV_LOG, do_verify },
	{ "resync", CTLSRV_LOG, do_resync },
	{ "flush", CTLSRV_LOG, do_flush },
	{ "forget", CTLSRV_LOG, do_forget },
	{ "log", CTLSRV_LOG, do_log },
	{ "reload", CTLSRV_LOG, do_reload },
	{ "shutdown", CTLSRV_LOG, do_shutdown }
};

/*
 * Does somebody listen there?  Our lock belongs to the runtime directory; a
 * daemon with another one may have the same socket.
 */
static bool
socket_taken(const char *path)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX };
	size_t			 len = strlen(path);
	bool			 taken;
	int			 fd;

	if (len >= sizeof(sun.sun_path) ||
	    (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
		return false;
	memcpy(sun.sun_path, path, len + 1);
	taken = connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0 || errno == EAGAIN;
	close(fd);
	if (taken)
		log_msg(LOG_ERR, "control socket %s: another program listens there: stop it, or set "
		    "control.socket", path);
	return taken;
}

int
control_open(struct daemon *d, gid_t gid, gid_t ro_gid)
{
	struct ctlsrv_conf	 c;

	if (socket_taken(d->conf->control.socket))
		return -EADDRINUSE;
	memset(&c, 0, sizeof(c));
	c.path = d->conf->control.socket;
	c.uid = d->uid;
	c.gid = gid;
	c.ro_gid = ro_gid;
	c.max_clients = d->conf->control.max_clients;
	c.stall_ms = d->conf->control.stall_s * 1000;
	return ctlsrv_new(&d->ctl, d->loop, &c, commands, sizeof(commands) / sizeof(commands[0]), d);
}
