/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's side of the kernel: events and dumps into the node, its jobs to
 * the writer, addresses into the filter, an eye on the sysctls that all of this
 * depends on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/clock.h"
#include "daemon.h"

#define LOST_ADDRESS_MS	10000
#define AUDIT_PACE_MS	20		/* about 600 entries each */
#define RESULTS		2u		/* jobs whose results are handed over in one turn of the loop */
#define NEVER_US	0xfffffffeu

/* --- events -------------------------------------------------------------------- */

static const enum local_event	event_of[KCT_MSG_TYPES] = {
	[KCT_MSG_NEW] = LOCAL_NEW,
	[KCT_MSG_UPDATE] = LOCAL_UPDATE,
	[KCT_MSG_DESTROY] = LOCAL_DESTROY
};

static void
on_events(void *ctx, const struct kct_event *ev, size_t n)
{
	struct daemon		*d = ctx;
	struct local		*l = node_local(d->node);
	struct local_key	 keys[KCT_EVENT_BATCH];
	uint64_t		 since = kct_event_since_ns(d->reader) / 1000;
	bool			 ends = false;
	size_t			 i;

	for (i = 0; i < n; i++) {
		local_prefetch(l, &ev[i].flow, &keys[i]);
		ends |= ev[i].type == KCT_MSG_DESTROY;
	}
	/* the kernel says that an address goes before it ends what was masqueraded behind it */
	if (ends)
		rtnl_poll(d->rtnl);
	for (i = 0; i < n; i++)
		local_prefetch_entry(l, &keys[i]);
	for (i = 0; i < n; i++)
		local_prefetch_body(l, &keys[i]);
	for (i = 0; i < n; i++)
		local_event(l, event_of[ev[i].type], &ev[i].flow, &keys[i], since);
}

static void
on_overrun(void *ctx)
{
	static struct log_limit	 limit = LOG_LIMIT_INIT;
	struct daemon		*d = ctx;

	log_limited(&limit, LOG_WARNING, "the kernel dropped conntrack events (socket buffer full): reading its "
	    "table again; raise kernel.event_buffer if this happens often");
	node_overrun(d->node, kct_event_since_ns(d->reader) / 1000, now_us(d));
}

static const struct kct_event_ops	event_ops = { on_events, on_overrun };

/* --- filter ---------------------------------------------------------------------- */

bool
kernel_is_own(void *ctx, uint8_t family, const struct flow_addr *a)
{
	const struct daemon	*d = ctx;

	return rtnl_is_own(d->rtnl, family, a);
}

bool
kernel_filter(void *ctx, const struct flow *f)
{
	struct daemon		*d = ctx;
	enum repl_verdict	 v = repl_filter_check(d->filter, f, kernel_is_own, d);

	d->filtered[v]++;
	return v == REPL_PASS;
}

static void
on_addresses(void *ctx)
{
	struct daemon	*d = ctx;

	d->address_change = true;	/* the next second reads the table with the new ones */
	roles_addresses(d);
}

static const struct rtnl_ops	rtnl_ops = { on_addresses };

/* --- dumps ------------------------------------------------------------------------- */

static bool
on_dump_ready(void *ctx)
{
	struct daemon	*d = ctx;

	return local_dump_ready(node_local(d->node)) && kct_event_drain(d->reader);
}

static void
on_dump_taken(void *ctx)
{
	struct daemon	*d = ctx;

	local_dump_taken(node_local(d->node));
}

static void
on_dump_flows(void *ctx, const struct flow *f, size_t n)
{
	struct daemon	*d = ctx;
	uint64_t	 now = now_us(d);
	size_t		 i;

	for (i = 0; i < n; i++)
		node_dump_entry(d->node, &f[i], now);
}

static void
on_dump_done(void *ctx, int rc, const struct kct_dump_result *res)
{
	struct daemon	*d = ctx;

	if (rc < 0)
		log_msg(LOG_ERR, "reading the kernel's table failed: %s; trying again", strerror(-rc));
	else
		log_msg(LOG_DEBUG, "read %llu entries of the kernel in %llu ms",
		    (unsigned long long)res->flows, (unsigned long long)(res->elapsed_ns / 1000000));
	kct_dump_free(d->dump);
	d->dump = NULL;
	d->dump_end_us = now_us(d);
	node_dump_end(d->node, rc, now_us(d));
}

static const struct kct_dump_ops	dump_ops = {
	on_dump_ready, on_dump_flows, on_dump_taken, on_dump_done
};

void
kernel_dump(void *ctx)
{
	struct daemon		*d = ctx;
	struct kct_dump_conf	 conf;
	int			 err;

	kct_dump_free(d->dump);
	memset(&conf, 0, sizeof(conf));
	conf.expects_too = true;
	conf.pace_ms = local_dump_fast(node_local(d->node)) ? 0 : AUDIT_PACE_MS;
	node_dump_begin(d->node);
	d->dump = kct_dump_start(d->loop, &conf, &dump_ops, d, &err);
	if (d->dump == NULL) {
		log_msg(LOG_ERR, "cannot read the kernel's table: %s", strerror(-err));
		node_dump_end(d->node, err, now_us(d));
	}
}

/* --- jobs ---------------------------------------------------------------------------- */

/* A job on its way: what comes back is written into it. */
struct pending {
	STAILQ_ENTRY(pending)	 next;
	struct daemon		*d;
	struct kjob		*job;
};

/*
 * What a GET tells is handed over when all older events have been; other
 * results wait their turn behind it.
 */
bool
kernel_results(struct daemon *d)
{
	struct pending	*p;
	unsigned	 n;

	for (n = 0; n < RESULTS && (p = STAILQ_FIRST(&d->results)) != NULL; n++) {
		if (!kct_event_drain(d->reader))
			break;
		STAILQ_REMOVE_HEAD(&d->results, next);
		node_job_done(d->node, p->job, now_us(d));
		free(p);
	}
	return !STAILQ_EMPTY(&d->results);
}

static void
on_job_done(void *ctx, const struct kct_result *res)
{
	struct pending	*p = ctx;
	struct kjob	*j = p->job;
	uint32_t	 i;

	for (i = 0; i < j->n; i++)
		j->items[i].err = -(int)res->err[i];
	for (i = 0; res->was_there != NULL && i < j->n; i++)
		j->items[i].there = j->items[i].err == 0 && res->was_there[i];
	if (j->op == KOP_GET) {
		j->flows = calloc(j->n, sizeof(*j->flows));
		for (i = 0; i < j->n; i++) {
			if (j->flows == NULL)
				j->items[i].err = -ENOMEM;
			else if (j->items[i].err == 0)
				j->flows[i] = res->flows[i];
		}
	}
	j->updated = res->updated;
	j->lost_master = res->lost_master;
	j->lost_helper = res->lost_helper;
	j->lost_labels = res->lost_labels;
	STAILQ_INSERT_TAIL(&p->d->results, p, next);
}

int
kernel_submit(void *ctx, struct kjob *j)
{
	static const enum kct_op	 ops[] = {
		[KOP_CREATE] = KCT_CREATE, [KOP_DELETE] = KCT_DELETE, [KOP_GET] = KCT_GET,
		[KOP_STRICT] = KCT_STRICT, [KOP_LIBERAL] = KCT_RELAX
	};
	struct daemon			*d = ctx;
	struct pending			*p;
	struct kct_job			*k;
	uint32_t			 i;

	if (d->writer == NULL || kct_writer_room(d->writer) == 0)
		return -EAGAIN;
	if ((p = malloc(sizeof(*p))) == NULL)
		return -EAGAIN;
	p->d = d;
	p->job = j;
	k = kct_job_new(ops[j->op], j->op == KOP_CREATE && d->conf->kernel.liberal ? KCT_LIBERAL : 0, on_job_done, p);
	if (k == NULL)
		goto fail;
	for (i = 0; i < j->n; i++)
		if (kct_job_add(k, j->bytes + j->items[i].off, j->items[i].len,
		    j->items[i].timeout_s) < 0)
			goto fail;
	if (kct_submit(d->writer, k) < 0)
		goto fail;
	return 0;
fail:
	if (k != NULL)
		kct_job_free(k);
	free(p);
	return -EAGAIN;
}

bool
kernel_address_lost(void *ctx, uint8_t family, const struct flow_addr *a)
{
	const struct daemon	*d = ctx;

	return rtnl_was_lost(d->rtnl, family, a);
}

uint32_t
kernel_age_us(void *ctx)
{
	struct daemon	*d = ctx;
	uint64_t	 empty_us = kct_event_empty_ns(d->reader) / 1000, now;

	now = clock_mono_ns() / 1000;
	if (empty_us == 0 || now - empty_us > NEVER_US)
		return NEVER_US;
	return (uint32_t)(now - empty_us);
}

void
kernel_timeouts(uint32_t s[FLOW_TIMEOUTS])
{
	unsigned	 t;

	for (t = 0; t < FLOW_TIMEOUTS; t++)
		if (kct_sys_get(flow_timeout_sysctl(t), &s[t]) < 0)
			s[t] = flow_timeout_default(t);
}

/* --- sysctls ------------------------------------------------------------------------------ */

/* With 2 new flows have events because we listen; with 0 they never will. */
static bool
is_blind(const struct daemon *d)
{
	return d->events.stuck && d->events.found == 0;
}

static void
first_look(struct daemon *d)
{
	enum kct_watched	 w;
	uint32_t		 v;
	int			 rc;

	d->events.name = "events";
	d->acct.name = "acct";
	if ((rc = kct_sys_get(d->events.name, &v)) < 0)
		log_msg(LOG_WARNING, "net.netfilter.nf_conntrack_events cannot be read (%s): without events of "
		    "the kernel flows are only followed by the audit", strerror(-rc));
	w = kct_sys_watch(&d->events);
	if (w == KCT_WATCH_SET)
		log_msg(LOG_NOTICE, "net.netfilter.nf_conntrack_events set to 1, so that every flow "
		    "tells of its changes");
	else if (w == KCT_WATCH_STUCK)
		log_msg(is_blind(d) ? LOG_ERR : LOG_WARNING, "net.netfilter.nf_conntrack_events is %u and "
		    "cannot be set (%s): flows %s are only followed by the audit; set it by sysctl",
		    d->events.found, strerror(-d->events.err),
		    is_blind(d) ? "TELL NOTHING and" : "from before the start of ctsyncd");
	if (!d->conf->kernel.accounting)
		return;
	w = kct_sys_watch(&d->acct);
	if (w == KCT_WATCH_SET)
		log_msg(LOG_NOTICE, "net.netfilter.nf_conntrack_acct set to 1, so that entries count their "
		    "packets; those that are there already never will");
	else if (w == KCT_WATCH_STUCK)
		log_msg(LOG_WARNING, "net.netfilter.nf_conntrack_acct is %u and cannot be set (%s): whether "
		    "this node uses an entry can only be told by its timeout; set it by sysctl, or "
		    "kernel.accounting to false", d->acct.found, strerror(-d->acct.err));
}

/* Flows that begin while there are no events never tell anything: the table has to be read. */
static void
watch_events(struct daemon *d)
{
	static struct log_limit	 limit = LOG_LIMIT_INIT;
	uint64_t		 now = now_us(d), since = d->events_us;
	enum kct_watched	 w = kct_sys_watch(&d->events);

	if (!is_blind(d))
		d->events_us = now;
	if (w == KCT_WATCH_SAME)
		return;
	node_set_blind(d->node, is_blind(d), now);
	if (w == KCT_WATCH_STUCK) {
		log_limited(&limit, LOG_ERR, "SOMEBODY HAS SET net.netfilter.nf_conntrack_events TO %u, and it "
		    "cannot be set to 1 (%s): %s; set it by sysctl", d->events.found,
		    strerror(-d->events.err), is_blind(d) ? "new flows tell nothing of themselves, only the "
		    "audit finds them, and this node claims nothing of its table" :
		    "new flows have events only while somebody listens");
		if (!is_blind(d))
			node_overrun(d->node, since, now);
		return;
	}
	if (w == KCT_WATCH_SET)
		log_limited(&limit, LOG_ERR, "SOMEBODY HAS SET net.netfilter.nf_conntrack_events TO %u: set to 1 "
		    "again; flows that began in the last %.1f s may have no events, so the kernel's table "
		    "is read again, and only the audit finds their end", d->events.found,
		    (double)(now - since) / 1e6);
	else
		log_limited(&limit, LOG_NOTICE, "net.netfilter.nf_conntrack_events is 1 again after %.1f s; "
		    "reading the kernel's table", (double)(now - since) / 1e6);
	node_overrun(d->node, since, now);
}

static void
watch_acct(struct daemon *d)
{
	static struct log_limit	 limit = LOG_LIMIT_INIT;

	switch (kct_sys_watch(&d->acct)) {
	case KCT_WATCH_SAME:
		break;
	case KCT_WATCH_SET:
		log_limited(&limit, LOG_WARNING, "somebody has set net.netfilter.nf_conntrack_acct to %u: set to "
		    "1 again; entries that were made meanwhile have no counters", d->acct.found);
		break;
	case KCT_WATCH_STUCK:
		log_limited(&limit, LOG_WARNING, "somebody has set net.netfilter.nf_conntrack_acct to %u, and it "
		    "cannot be set to 1 (%s): new entries have no counters", d->acct.found,
		    strerror(-d->acct.err));
		break;
	case KCT_WATCH_GOOD:
		log_limited(&limit, LOG_NOTICE, "net.netfilter.nf_conntrack_acct is 1 again");
		break;
	}
}

/* --- life -------------------------------------------------------------------------------- */

int
kernel_open(struct daemon *d)
{
	char		 why[KCT_WHY_MAX];
	uint32_t	 v;
	int		 err;

	if (kct_sys_probe(why) < 0) {
		log_msg(LOG_ERR, "%s", why);
		return -1;
	}
	first_look(d);
	if (kct_sys_get("tcp_loose", &v) == 0 && v != 0)
		log_msg(LOG_INFO, "net.netfilter.nf_conntrack_tcp_loose is %u: the kernel picks up TCP "
		    "connections in the middle, without their translation; 0 is better for a pair", v);
	if ((d->rtnl = rtnl_open(d->loop, LOST_ADDRESS_MS, &rtnl_ops, d, &err)) == NULL) {
		log_msg(LOG_ERR, "cannot read this node's addresses (rtnetlink): %s", strerror(-err));
		return -1;
	}
	return 0;
}

int
kernel_start(struct daemon *d)
{
	struct kct_event_conf	 conf;
	uint32_t		 port;
	int			 err;

	if ((d->writer = kct_writer_open(d->loop, &err)) == NULL) {
		log_msg(LOG_ERR, "cannot open a ctnetlink socket for writing: %s", strerror(-err));
		return -1;
	}
	port = kct_writer_portid(d->writer);
	memset(&conf, 0, sizeof(conf));
	conf.rcvbuf_bytes = d->conf->kernel.event_buffer;
	conf.reliable = d->conf->kernel.reliable_events;
	conf.ignore = &port;
	conf.nignore = 1;
	if ((d->reader = kct_event_open(d->loop, &conf, &event_ops, d, &err)) == NULL) {
		log_msg(LOG_ERR, "cannot subscribe to conntrack events: %s%s", strerror(-err),
		    err == -EPERM ? " (CAP_NET_ADMIN is missing)" : "");
		return -1;
	}
	d->events_us = now_us(d);
	if (is_blind(d))
		node_set_blind(d->node, true, now_us(d));
	return 0;
}

void
kernel_close(struct daemon *d)
{
	struct pending	*p;

	while ((p = STAILQ_FIRST(&d->results)) != NULL) {
		STAILQ_REMOVE_HEAD(&d->results, next);
		kjob_free(p->job);
		free(p);
	}
	kct_dump_free(d->dump);
	kct_event_close(d->reader);
	kct_writer_close(d->writer);
	rtnl_close(d->rtnl);
	d->dump = NULL;
	d->reader = NULL;
	d->writer = NULL;
	d->rtnl = NULL;
}

void
kernel_second(struct daemon *d)
{
	uint64_t	 audit_us = (uint64_t)d->conf->kernel.audit_s * 1000000;

	watch_events(d);
	if (d->conf->kernel.accounting)
		watch_acct(d);
	kct_event_poke(d->reader);
	if (d->address_change) {
		d->address_change = false;
		local_resync(node_local(d->node));
	} else if (audit_us != 0 && d->dump == NULL && local_complete(node_local(d->node)) &&
	    now_us(d) - d->dump_end_us >= audit_us)
		local_audit(node_local(d->node));
}
