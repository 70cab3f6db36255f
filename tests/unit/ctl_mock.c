/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A daemon that is none: the control server with made-up answers, to try
 * ctsync's commands, output and errors on without a kernel or a peer.
 *
 *	ctl_mock SOCKET [FLOWS [MOOD]]
 *
 * FLOWS is the length of its tables; MOOD "good", or "bad" for a node that is
 * in trouble.  Ends on `ctsync shutdown`, SIGTERM or SIGINT.
 */
#include <sys/socket.h>

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/ctlsrv.h"
#include "ctsync/filter.h"
#include "ctsync/log.h"

#define STEP	4096		/* flows looked at in one turn */

struct mock {
	struct ev_loop	*loop;
	struct ctlsrv	*srv;
	uint32_t	 flows;
	bool		 bad;
	ev_timer	 work;		/* a commit that takes its time */
	uint64_t	 held;
};

struct scan {
	struct flow_filter	 filter;
	uint32_t		 next, end;
	uint64_t		 found;
	bool			 count;
};

/* The flow with number i: a mix of what firewalls see. */
static void
mock_flow(uint32_t i, struct flow *f)
{
	static const uint8_t	 protos[] = {
		IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_GRE, 50
	};

	memset(f, 0, sizeof(*f));
	f->family = i % 7 == 6 ? AF_INET6 : AF_INET;
	f->proto = protos[i % sizeof(protos)];
	if (f->family == AF_INET6 && f->proto == IPPROTO_ICMP)
		f->proto = IPPROTO_ICMPV6;
	memcpy(f->orig.src.b, (const uint8_t[]){ 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8),
	    (uint8_t)i }, 4);
	memcpy(f->orig.dst.b, (const uint8_t[]){ 192, 0, 2, (uint8_t)(i % 200 + 1) }, 4);
	if (f->family == AF_INET6)
		f->orig.src.b[15] = f->orig.dst.b[15] = 1;
	if (f->proto == IPPROTO_ICMP || f->proto == IPPROTO_ICMPV6) {
		f->orig.l4src = (uint16_t)i;
		f->orig.l4dst = f->proto == IPPROTO_ICMP ? 8 << 8 : 128 << 8;
	} else if (f->proto != 50) {
		f->orig.l4src = (uint16_t)(1024 + i % 60000);
		f->orig.l4dst = i % 2 ? 443 : 80;
	}
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	if (f->family == AF_INET && f->proto == IPPROTO_TCP) {
		memcpy(f->reply.dst.b, (const uint8_t[]){ 203, 0, 113, 1 }, 4);
		f->status |= FLOW_S_SRC_NAT;
	}
	f->status |= FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | (i % 3 ? FLOW_S_ASSURED : 0);
	f->tcp_state = f->proto == IPPROTO_TCP ? FLOW_TCP_ESTABLISHED : 0;
	f->mark = i % 5 == 0 ? 0x10 : 0;
	if (i % 11 == 10) {
		f->zone_dir = FLOW_ZONE_ORIG;
		f->zone = 7;
	}
	f->has = FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_REPLY | FLOW_HAS_TCP_STATE;
}

static ssize_t
scan_more(void *ctx, uint8_t *buf, size_t cap, bool *end)
{
	struct scan	*s = ctx;
	struct flow	 f;
	struct wbuf	 w;
	uint8_t		 body[FLOW_BODY_MAX];
	uint32_t	 stop = s->end - s->next > STEP ? s->next + STEP : s->end;
	size_t		 len;

	wbuf_init(&w, buf, cap);
	for (; s->next < stop; s->next++) {
		mock_flow(s->next, &f);
		if (!flow_filter_match(&s->filter, &f))
			continue;
		len = flow_pack(&f, body, sizeof(body));
		if (!s->count && !ctl_flow_put(&w, 100 + s->next % 1000, body, len))
			break;
		s->found++;
	}
	*end = s->next == s->end;
	return (ssize_t)w.len;
}

static json_t *
scan_result(void *ctx)
{
	const struct scan	*s = ctx;

	return json_pack("{s:I}", s->count ? "count" : "flows", (json_int_t)s->found);
}

static const struct ctlsrv_producer	 scan_producer = {
	.type = CTL_FLOWS, .more = scan_more, .result = scan_result, .done = free
};

static int
do_scan(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;
	struct scan	*s = calloc(1, sizeof(*s));
	const char	*peer = json_string_value(json_object_get(args, "peer"));
	char		 err[FILTER_ERR_MAX];

	if (s == NULL)
		return -ENOMEM;
	if (flow_filter_json(&s->filter, json_object_get(args, "filter"), err) < 0) {
		free(s);
		ctlsrv_fail(req, CTL_EXIT_USAGE, "%s", err);
		return 0;
	}
	if (peer != NULL && strcmp(peer, "fw2") != 0) {
		free(s);
		ctlsrv_fail(req, CTL_EXIT_FAILED, "no peer is called \"%s\": there is fw2", peer);
		return 0;
	}
	s->end = m->flows;
	s->count = strcmp(json_string_value(json_object_get(args, "cmd")), "count") == 0;
	ctlsrv_stream(req, &scan_producer, s);
	return 0;
}

static const char	 good_status[] =
	"{ 'node': 'fw1', 'cluster': 'edge', 'role': 'standby', 'version': '0.1.0',"
	" 'uptime_s': 93784, 'local': { 'flows': 12, 'version': 99123, 'limit': 4000000 },"
	" 'remote': { 'flows': 198342 }, 'ready': { 'ok': true, 'reason':"
	" 'equal to fw2 as of 12 ms ago' }, 'peers': [ { 'node': 'fw2', 'state': 'up',"
	" 'in_sync': true, 'verified_ms': 12, 'lag_ms': 0.41, 'peer_in_sync': true,"
	" 'peer_verified_ms': 15, 'peer_lag_ms': 0.52, 'flows': 198342, 'acked': 812,"
	" 'pending': 0, 'link': 'ha0' } ], 'links': [ { 'name': 'ha0', 'transport': 'udp',"
	" 'state': 'up', 'tx_bytes': 81234567, 'rx_bytes': 999, 'rejected': 0 } ],"
	" 'kernel': { 'events': 991233, 'overruns': 0, 'resyncs': 1, 'count': 123, 'max': 262144 } }";

static const char	 bad_status[] =
	"{ 'node': 'fw1', 'cluster': 'edge', 'role': 'standby', 'version': '0.1.0',"
	" 'uptime_s': 4, 'local': { 'flows': 3990000, 'version': 99123, 'limit': 4000000 },"
	" 'remote': { 'flows': 5 }, 'ready': { 'ok': false, 'reason':"
	" 'synchronising with fw2: 40 % of 198342 flows' }, 'peers': [ { 'node': 'fw2',"
	" 'state': 'syncing', 'in_sync': false, 'verified_ms': 181000, 'lag_ms': null,"
	" 'peer_in_sync': false, 'peer_verified_ms': null, 'peer_lag_ms': null, 'flows': 79336,"
	" 'acked': 812, 'pending': 119006, 'link': 'ha0' }, { 'node': 'fw3-long-name',"
	" 'state': 'lost', 'in_sync': false, 'verified_ms': null, 'lag_ms': null,"
	" 'peer_in_sync': null, 'peer_verified_ms': null, 'peer_lag_ms': null, 'flows': 0,"
	" 'acked': null, 'pending': null, 'link': null } ], 'links': [ { 'name': 'ha0',"
	" 'transport': 'udp', 'state': 'up', 'tx_bytes': 81234567, 'rx_bytes': 999, 'rejected': 12 },"
	" { 'name': 'ha1', 'transport': 'udp', 'state': 'down', 'tx_bytes': 0, 'rx_bytes': 0,"
	" 'rejected': 0 } ], 'kernel': { 'events': 991233, 'overruns': 3, 'resyncs': 4,"
	" 'count': 262144, 'max': 262144, 'liberal': 17 } }";

static const char	 good_commit[] =
	"{ 'flows': 198342, 'created': 198340, 'updated': 0, 'existing': 2, 'failed': 0,"
	" 'elapsed_ms': 612, 'failures': [], 'basis': 'equal to fw2 as of 12 ms ago',"
	" 'role': 'active', 'adopted': 198342 }";

static const char	 bad_commit[] =
	"{ 'ok': false, 'error': '3 of 198342 flows did not get into the kernel',"
	" 'flows': 198342, 'created': 198337, 'updated': 0, 'existing': 2, 'failed': 3,"
	" 'elapsed_ms': 1612.5, 'failures': [ { 'reason': 'reply tuple is taken by another flow',"
	" 'count': 2, 'example': 'tcp 10.0.0.1:1024 > 192.0.2.1:443' }, { 'reason':"
	" 'the table is full (nf_conntrack_max)', 'count': 1, 'example':"
	" 'udp 10.0.0.2:53 > 192.0.2.1:53' } ], 'basis': 'NOT equal to fw2: 40 % synchronised',"
	" 'role': 'active', 'adopted': 198342 }";

/* JSON with ' for ", which C strings bear better. */
static json_t *
canned(const char *text)
{
	char	*s = strdup(text), *p;
	json_t	*j = NULL;

	for (p = s; p != NULL && (p = strchr(p, '\'')) != NULL; p++)
		*p = '"';
	if (s != NULL)
		j = json_loads(s, 0, NULL);
	free(s);
	return j;
}

static int
do_status(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;

	(void)args;
	ctlsrv_reply(req, canned(m->bad ? bad_status : good_status));
	return 0;
}

static int
do_ready(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;

	(void)args;
	ctlsrv_reply(req, m->bad ?
	    canned("{ 'ok': false, 'reason': 'synchronising with fw2: 40 %' }") :
	    canned("{ 'ok': true, 'reason': 'equal to fw2 as of 12 ms ago' }"));
	return 0;
}

static int
do_metrics(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	static const char	 text[] = "# TYPE ctsync_flows gauge\nctsync_flows{peer=\"fw2\"} 1\n";

	(void)ctx;
	(void)args;
	if (ctlsrv_text(req, text, sizeof(text) - 1) < 0)
		return -ENOBUFS;
	ctlsrv_ok(req);
	return 0;
}

static void
work_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct mock		*m = w->data;
	struct ctlsrv_req	*req = ctlsrv_find(m->srv, m->held);

	(void)loop;
	(void)revents;
	m->held = 0;
	if (req != NULL)
		ctlsrv_reply(req, canned(m->bad ? bad_commit : good_commit));
}

static int
do_commit(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;

	(void)args;
	if (m->held != 0) {
		ctlsrv_fail(req, CTL_EXIT_FAILED, "a commit is under way");
		return 0;
	}
	ctlsrv_progress(req, "writing 198342 flows");
	m->held = ctlsrv_hold(req, NULL, NULL);
	ev_timer_set(&m->work, 0.5, 0);
	ev_timer_start(m->loop, &m->work);
	return 0;
}

static int
do_release(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)ctx;
	(void)args;
	ctlsrv_reply(req, canned("{ 'role': 'standby', 'message': 'fw2 may take over' }"));
	return 0;
}

static int
do_plain(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;
	const char	*cmd = json_string_value(json_object_get(args, "cmd"));

	if (m->bad && strcmp(cmd, "forget") == 0)
		ctlsrv_fail(req, CTL_EXIT_FAILED, "fw2 is there: stop ctsyncd on it first");
	else if (m->bad && strcmp(cmd, "reload") == 0)
		ctlsrv_fail(req, CTL_EXIT_FAILED, "/etc/ctsyncd/ctsyncd.conf:3: unknown key `x'; "
		    "the running configuration stays");
	else if (strcmp(cmd, "flush") == 0)
		ctlsrv_reply(req, json_pack("{s:i}", "flows", 12));
	else
		ctlsrv_ok(req);
	return 0;
}

static int
do_shutdown(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct mock	*m = ctx;

	(void)args;
	ctlsrv_ok(req);
	ctlsrv_flush(m->srv, 1000);
	ev_break(m->loop, EVBREAK_ALL);
	return 0;
}

static const struct ctlsrv_cmd	 cmds[] = {
	{ "status", CTLSRV_RO, do_status }, { "ready", CTLSRV_RO, do_ready },
	{ "metrics", CTLSRV_RO, do_metrics }, { "stats", 0, do_status },
	{ "show", 0, do_scan }, { "count", 0, do_scan },
	{ "commit", CTLSRV_LOG, do_commit }, { "takeover", CTLSRV_LOG, do_commit },
	{ "release", CTLSRV_LOG, do_release }, { "resync", CTLSRV_LOG, do_plain },
	{ "flush", CTLSRV_LOG, do_plain }, { "forget", CTLSRV_LOG, do_plain },
	{ "reload", CTLSRV_LOG, do_plain },
	{ "log", CTLSRV_LOG, do_plain }, { "shutdown", CTLSRV_LOG, do_shutdown },
};

static void
signal_cb(struct ev_loop *loop, ev_signal *w, int revents)
{
	(void)w;
	(void)revents;
	ev_break(loop, EVBREAK_ALL);
}

int
main(int argc, char **argv)
{
	struct ctlsrv_conf	 conf = { .uid = geteuid(), .gid = CTLSRV_NO_GID,
				    .ro_gid = CTLSRV_NO_GID };
	struct mock		 m = { .loop = ev_default_loop(0) };
	ev_signal		 term, intr;

	if (argc < 2) {
		fprintf(stderr, "usage: ctl_mock SOCKET [FLOWS [good|bad]]\n");
		return 2;
	}
	log_init(LOG_INFO);
	conf.path = argv[1];
	m.flows = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 10;
	m.bad = argc > 3 && strcmp(argv[3], "bad") == 0;
	if (ctlsrv_new(&m.srv, m.loop, &conf, cmds, sizeof(cmds) / sizeof(cmds[0]), &m) < 0)
		return 1;
	ev_init(&m.work, work_cb);
	m.work.data = &m;
	ev_signal_init(&term, signal_cb, SIGTERM);
	ev_signal_init(&intr, signal_cb, SIGINT);
	ev_signal_start(m.loop, &term);
	ev_signal_start(m.loop, &intr);
	ev_run(m.loop, 0);
	ctlsrv_free(m.srv);
	return 0;
}
