/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The state of the daemon as JSON and as Prometheus text.
 *
 * The keys of status are a contract (doc/control.md).  What was never measured
 * is null, not 0.  Metrics are the numbers of stats, by walking them, so that
 * no counter is listed twice.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

static json_t *
or_null(bool known, json_t *v)
{
	if (known)
		return v;
	json_decref(v);
	return json_null();
}

static json_t *
num(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static void
set(json_t *o, const char *key, json_t *v)
{
	json_object_set_new(o, key, v);
}

/* --- status --------------------------------------------------------------------------- */

static json_t *
peer_json(struct daemon *d, unsigned i)
{
	static const char *const	 states[] = { "lost", "syncing", "up" };
	struct node_peer_info		 p;
	json_t				*j = json_object();

	node_peer(d->node, i, now_us(d), &p);
	set(j, "node", json_string(p.name));
	set(j, "state", json_string(states[p.state]));
	set(j, "role", or_null(p.state != NODE_PEER_LOST,
	    json_string(p.active ? "active" : "standby")));
	set(j, "term", or_null(p.term >= 0, json_integer(p.term)));
	set(j, "in_sync", json_boolean(p.in_sync));
	set(j, "why", or_null(p.why != NULL, json_string(p.why != NULL ? p.why : "")));
	set(j, "refused", or_null(p.refused, json_string(node_reject_name(p.refused_why))));
	set(j, "refuses_us", json_boolean(p.refuses_us));
	set(j, "verified_ms", or_null(p.verified_ms >= 0, json_integer(p.verified_ms)));
	set(j, "lag_ms", or_null(p.lagged, json_real(p.lag.median / 1e3)));
	set(j, "lag_p99_ms", or_null(p.lagged, json_real(p.lag.p99 / 1e3)));
	set(j, "lag_max_ms", or_null(p.lagged, json_real(p.lag.max / 1e3)));
	set(j, "peer_in_sync", or_null(p.reported, json_boolean(p.peer_in_sync)));
	set(j, "peer_verified_ms", or_null(p.peer_verified_ms >= 0, json_integer(p.peer_verified_ms)));
	set(j, "peer_lag_ms", or_null(p.peer_lagged, json_real(p.peer_lag.median / 1e3)));
	set(j, "peer_lag_p99_ms", or_null(p.peer_lagged, json_real(p.peer_lag.p99 / 1e3)));
	set(j, "peer_lag_max_ms", or_null(p.peer_lagged, json_real(p.peer_lag.max / 1e3)));
	set(j, "peer_flows", or_null(p.reported, num(p.peer_holds)));
	set(j, "peer_full", json_boolean(p.peer_full));
	set(j, "flows", num(p.flows));
	set(j, "acked", num(p.acked));
	set(j, "pending", num(p.pending));
	set(j, "link", or_null(p.link >= 0,
	    json_string(p.link >= 0 ? d->conf->links[p.link].name : "")));
	return j;
}

static json_t *
link_json(struct daemon *d, unsigned i)
{
	struct link_udp_stats	 s;
	const char		*state = "down";
	json_t			*j = json_object();

	link_udp_stats(d->links[i].udp, &s);
	if (node_link_healthy(d->node, i, now_us(d)))
		state = "up";
	else if (link_udp_up(d->links[i].udp))
		state = "silent";
	set(j, "name", json_string(d->conf->links[i].name));
	set(j, "transport", json_string("udp"));
	set(j, "state", json_string(state));
	set(j, "tx_bytes", num(s.tx_bytes));
	set(j, "rx_bytes", num(s.rx_bytes));
	set(j, "rejected", num(node_link_rejected(d->node, i) + s.unknown));
	return j;
}

/* A number of net.netfilter.nf_conntrack_*. */
static json_t *
sysctl_json(const char *name)
{
	uint32_t	 v;

	return kct_sys_get(name, &v) == 0 ? num(v) : json_null();
}

static json_t *
kernel_json(struct daemon *d)
{
	const struct kct_event_stats	*e = kct_event_stats(d->reader);
	json_t				*j = json_object();

	set(j, "events", num(e->by_type[0] + e->by_type[1] + e->by_type[2]));
	set(j, "overruns", num(e->overruns));
	set(j, "resyncs", num(local_stats(node_local(d->node))->dumps));
	set(j, "count", sysctl_json("count"));
	set(j, "max", sysctl_json("max"));
	set(j, "liberal", num(node_liberal(d->node)));
	return j;
}

static json_t *
local_json(struct daemon *d)
{
	const struct feed	*f = node_feed(d->node);
	json_t			*j = json_object();

	set(j, "flows", num(feed_flows(f)));
	set(j, "expectations", num(feed_expects(f)));
	set(j, "version", num(feed_version(f)));
	set(j, "limit", num(d->conf->limits.flows));
	return j;
}

static void
put_alert(json_t *list, enum node_alert a, const char *text, const char *advice)
{
	json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "id", node_alert_name(a), "text", text,
	    "advice", advice));
}

/* Who refuses whom, one alert a peer. */
static void
put_refusals(struct daemon *d, json_t *list)
{
	struct node_peer_info	 p;
	char			 text[128], advice[256];
	unsigned		 i;

	for (i = 0; i < node_peers(d->node); i++) {
		node_peer(d->node, i, now_us(d), &p);
		if (!p.refused && !p.refuses_us)
			continue;
		snprintf(text, sizeof(text), "REFUSED BY %s", p.name);
		if (p.refused)
			snprintf(advice, sizeof(advice), "what it sends is refused here (%s), so what this node "
			    "sends is most likely refused there: compare the key files of both nodes",
			    node_reject_name(p.refused_why));
		else
			snprintf(advice, sizeof(advice), "it is heard, but does not take what this node sends: "
			    "compare the key files of both nodes, then the packet filters");
		put_alert(list, p.refused ? NODE_ALERT_REFUSED : NODE_ALERT_REFUSED_BY, text, advice);
	}
}

static json_t *
alerts_json(struct daemon *d)
{
	unsigned	 raised = node_alerts(d->node, now_us(d)), i;
	json_t		*list = json_array();

	for (i = 0; i < NODE_ALERTS; i++)
		if ((raised & 1u << i) && i != NODE_ALERT_REFUSED && i != NODE_ALERT_REFUSED_BY)
			put_alert(list, (enum node_alert)i, node_alert_text((enum node_alert)i),
			    node_alert_advice((enum node_alert)i));
	put_refusals(d, list);
	return list;
}

json_t *
state_status(struct daemon *d)
{
	json_t		*j = json_object(), *a;
	char		 reason[NODE_REASON_MAX];
	bool		 ok = node_ready(d->node, now_us(d), reason);
	unsigned	 i;

	set(j, "node", json_string(d->conf->node));
	set(j, "cluster", json_string(d->conf->cluster));
	set(j, "role", json_string(node_role(d->node) == NODE_ACTIVE ? "active" : "standby"));
	set(j, "role_source", roles_source(d));
	set(j, "term", num(node_term(d->node)));
	set(j, "two_active", json_boolean(node_two_active(d->node)));
	set(j, "version", json_string(PACKAGE_VERSION));
	set(j, "uptime_s", num((now_us(d) - d->started_us) / 1000000));
	set(j, "local", local_json(d));
	set(j, "remote", a = json_object());
	set(a, "flows", num(node_remote_flows(d->node)));
	set(a, "expectations", num(node_remote_expects(d->node)));
	set(j, "ready", json_pack("{s:b,s:s}", "ok", ok, "reason", reason));
	set(j, "alerts", alerts_json(d));
	set(j, "taking", json_boolean(node_taking(d->node)));
	set(j, "refused_flows", num(node_refused(d->node)));
	set(j, "peers", a = json_array());
	for (i = 0; i < node_peers(d->node); i++)
		json_array_append_new(a, peer_json(d, i));
	set(j, "links", a = json_array());
	for (i = 0; i < d->nlinks; i++)
		json_array_append_new(a, link_json(d, i));
	set(j, "kernel", kernel_json(d));
	return j;
}

/* --- stats ------------------------------------------------------------------------------- */

static json_t *
feed_json(const struct feed *f)
{
	const struct feed_stats	*s = feed_stats(f);
	json_t			*j = json_object();

	set(j, "flows", num(feed_flows(f)));
	set(j, "expectations", num(feed_expects(f)));
	set(j, "tombstones", num(feed_tombs(f)));
	set(j, "unsent", num(feed_unsent(f)));
	set(j, "held_back", num(feed_held(f)));
	set(j, "memory_bytes", num(feed_bytes(f)));
	set(j, "refused_total", num(ftab_refused(feed_table(f))));
	set(j, "frames_total", num(s->frames));
	set(j, "frames_resent_total", num(s->resent));
	set(j, "records_total", num(s->records));
	set(j, "backfilled_total", num(s->backfilled));
	set(j, "merged_total", num(s->merged));
	set(j, "unborn_total", num(s->unborn));
	set(j, "streams_total", num(s->requests));
	set(j, "full_syncs_total", num(s->full_syncs));
	set(j, "restarts_total", num(s->restarts));
	set(j, "forced_tombstones_total", num(s->forced_tombs));
	return j;
}

static json_t *
recv_json(const struct recv *r)
{
	const struct recv_stats	*s = recv_stats(r);
	json_t			*j = json_object();

	set(j, "flows", num(ftab_count(recv_table(r))));
	set(j, "expectations", num(ftab_expects(recv_table(r))));
	set(j, "memory_bytes", num(recv_bytes(r)));
	set(j, "frames_total", num(s->frames));
	set(j, "duplicates_total", num(s->duplicates));
	set(j, "out_of_order_total", num(s->out_of_order));
	set(j, "other_stream_total", num(s->other_stream));
	set(j, "malformed_total", num(s->malformed));
	set(j, "flows_applied_total", num(s->flows));
	set(j, "ends_applied_total", num(s->gone));
	set(j, "refused_total", num(s->refused));
	set(j, "no_room_total", num(s->no_room));
	set(j, "compared_equal_total", num(s->compared));
	set(j, "compared_different_total", num(s->differed));
	set(j, "repairs_total", num(s->repairs));
	set(j, "repaired_flows_total", num(s->repaired));
	set(j, "escalated_total", num(s->escalated));
	set(j, "scrubbed_total", num(s->scrubbed));
	set(j, "scrub_found_total", num(s->rotten));
	set(j, "swept_total", num(s->swept));
	set(j, "crowded_out_total", num(s->crowded));
	set(j, "requests_total", num(s->requests));
	set(j, "generations_total", num(s->generations));
	return j;
}

static void
set_lag(json_t *j, const char *name, bool known, const struct hist_summary *s)
{
	char	 key[64];

	snprintf(key, sizeof(key), "%s_seconds", name);
	set(j, key, or_null(known, json_real(s->median / 1e6)));
	snprintf(key, sizeof(key), "%s_p99_seconds", name);
	set(j, key, or_null(known, json_real(s->p99 / 1e6)));
	snprintf(key, sizeof(key), "%s_max_seconds", name);
	set(j, key, or_null(known, json_real(s->max / 1e6)));
}

static json_t *
peers_stats(struct daemon *d)
{
	struct node_peer_info	 p;
	json_t			*a = json_object(), *j;
	unsigned		 i;

	for (i = 0; i < node_peers(d->node); i++) {
		node_peer(d->node, i, now_us(d), &p);
		j = recv_json(p.recv);
		set(j, "up", num(p.state == NODE_PEER_UP));
		set(j, "in_sync", num(p.in_sync));
		set(j, "verified_seconds", or_null(p.verified_ms >= 0,
		    json_real((double)p.verified_ms / 1e3)));
		set_lag(j, "lag", p.lagged, &p.lag);
		set(j, "peer_in_sync", num(p.peer_in_sync));
		set(j, "peer_verified_seconds", or_null(p.peer_verified_ms >= 0,
		    json_real((double)p.peer_verified_ms / 1e3)));
		set_lag(j, "peer_lag", p.peer_lagged, &p.peer_lag);
		set(j, "pending", num(p.pending));
		set(j, "hellos_total", num(p.hellos));
		set(j, "signals_total", num(p.signals));
		set(j, "epochs_total", num(p.accepted));
		set(j, "ended_here_total", num(p.ended));
		set(j, "refused", num(p.refused));
		set(j, "refuses_us", num(p.refuses_us));
		set(a, p.name, j);
	}
	return a;
}

static json_t *
links_stats(struct daemon *d)
{
	struct link_udp_stats	 s;
	json_t			*a = json_object(), *j;
	unsigned		 i;

	for (i = 0; i < d->nlinks; i++) {
		link_udp_stats(d->links[i].udp, &s);
		j = json_object();
		set(j, "up", num(node_link_healthy(d->node, i, now_us(d))));
		set(j, "tx_packets_total", num(s.tx_packets));
		set(j, "tx_bytes_total", num(s.tx_bytes));
		set(j, "tx_busy_total", num(s.tx_busy));
		set(j, "tx_errors_total", num(s.tx_errors));
		set(j, "rx_packets_total", num(s.rx_packets));
		set(j, "rx_bytes_total", num(s.rx_bytes));
		set(j, "rx_errors_total", num(s.rx_errors));
		set(j, "rx_oversize_total", num(s.rx_oversize));
		set(j, "rx_dropped_total", num(s.rx_dropped));
		set(j, "unknown_source_total", num(s.unknown));
		set(j, "icmp_errors_total", num(s.icmp_errors));
		set(j, "rejected_total", num(node_link_rejected(d->node, i)));
		set(a, d->conf->links[i].name, j);
	}
	return a;
}

static json_t *
kernel_stats(struct daemon *d)
{
	const struct kct_event_stats	*e = kct_event_stats(d->reader);
	const struct kct_writer_stats	*w = kct_writer_stats(d->writer);
	const struct local_stats	*l = local_stats(node_local(d->node));
	json_t				*j = json_object();

	set(j, "events_new_total", num(e->by_type[KCT_MSG_NEW]));
	set(j, "events_update_total", num(e->by_type[KCT_MSG_UPDATE]));
	set(j, "events_destroy_total", num(e->by_type[KCT_MSG_DESTROY]));
	set(j, "event_bytes_total", num(e->bytes));
	set(j, "event_buffer_bytes", num(e->rcvbuf_bytes));
	set(j, "overruns_total", num(e->overruns));
	set(j, "bad_messages_total", num(e->bad));
	set(j, "dumps_total", num(l->dumps));
	set(j, "dump_added_total", num(l->dump_added));
	set(j, "dump_changed_total", num(l->dump_changed));
	set(j, "confirmed_gone_total", num(l->confirmed_gone));
	set(j, "held_total", num(l->held));
	set(j, "retranslated_total", num(l->retranslated));
	set(j, "partial_total", num(l->partial));
	set(j, "reborn_total", num(l->reborn));
	set(j, "stale_destroys_total", num(l->stale_destroys));
	set(j, "refused_total", num(l->refused));
	set(j, "writes_created_total", num(w->items[KCT_CREATE]));
	set(j, "writes_deleted_total", num(w->items[KCT_DELETE]));
	set(j, "writes_read_total", num(w->items[KCT_GET]));
	set(j, "writes_tightened_total", num(w->items[KCT_STRICT]));
	set(j, "writes_relaxed_total", num(w->items[KCT_RELAX]));
	set(j, "writes_without_master_total", num(w->lost_master));
	set(j, "writes_without_helper_total", num(w->lost_helper));
	set(j, "writes_without_labels_total", num(w->lost_labels));
	set(j, "write_busy_seconds_total", json_real((double)w->busy_ns / 1e9));
	set(j, "purged_total", num(node_purged(d->node)));
	return j;
}

/* A metric for each alert, 0 or 1. */
static json_t *
alert_stats(struct daemon *d)
{
	unsigned	 raised = node_alerts(d->node, now_us(d)), i;
	json_t		*j = json_object();

	for (i = 0; i < NODE_ALERTS; i++)
		set(j, node_alert_name((enum node_alert)i), num(raised >> i & 1));
	return j;
}

static json_t *
control_stats(struct daemon *d)
{
	struct ctlsrv_stats	 s;
	json_t			*j = json_object();

	ctlsrv_stats(d->ctl, &s);
	set(j, "clients", num(s.clients));
	set(j, "accepted_total", num(s.accepted));
	set(j, "requests_total", num(s.requests));
	set(j, "denied_total", num(s.denied));
	set(j, "busy_total", num(s.busy));
	set(j, "rubbish_total", num(s.rubbish));
	set(j, "stalled_total", num(s.stalled));
	return j;
}

json_t *
state_stats(struct daemon *d)
{
	json_t		*j = json_object(), *f = json_object(), *r = json_object();
	char		 reason[NODE_REASON_MAX], name[64];
	unsigned	 i;

	set(j, "uptime_seconds", num((now_us(d) - d->started_us) / 1000000));
	set(j, "active", num(node_role(d->node) == NODE_ACTIVE));
	set(j, "term", num(node_term(d->node)));
	set(j, "two_active", num(node_two_active(d->node)));
	set(j, "ready", num(node_ready(d->node, now_us(d), reason)));
	set(j, "liberal_flows", num(node_liberal(d->node)));
	set(j, "taking", num(node_taking(d->node)));
	set(j, "refused_flows", num(node_refused(d->node)));
	set(j, "alert", alert_stats(d));
	set(j, "local", feed_json(node_feed(d->node)));
	set(j, "kernel", kernel_stats(d));
	for (i = 0; i < REPL_VERDICTS; i++) {
		snprintf(name, sizeof(name), "%s_total", repl_verdict_name((enum repl_verdict)i));
		set(f, name, num(d->filtered[i]));
	}
	set(j, "filter", f);
	for (i = 0; i < REJ_REASONS; i++) {
		snprintf(name, sizeof(name), "%s_total", node_reject_name((enum node_reject)i));
		set(r, name, num(node_rejected(d->node, (enum node_reject)i)));
	}
	set(j, "rejected", r);
	set(j, "peers", peers_stats(d));
	set(j, "links", links_stats(d));
	set(j, "control", control_stats(d));
	return j;
}

/* --- takeover ------------------------------------------------------------------------------- */

static const char *
failure_text(int err)
{
	switch (err) {
	case EEXIST:
		return "another flow of this kernel has its tuple or its translated port";
	case ENOMEM:
		return "the kernel's table is full or has no memory (raise nf_conntrack_max)";
	case EMFILE:
		return "there are as many expectations as it takes (raise nf_conntrack_expect_max)";
	case EPERM:
		return "not permitted (CAP_NET_ADMIN)";
	case EBADMSG:
	case EPROTONOSUPPORT:
		return "the flow could not be read";
	case EIO:
		return "the kernel did not answer";
	default:
		return strerror(err);
	}
}

json_t *
state_taken(struct daemon *d)
{
	const struct node_taken	*t = node_taken(d->node);
	json_t			*j = json_object(), *a = json_array();
	char			 error[128];
	unsigned		 i;

	set(j, "ok", json_boolean(t->failed == 0 && !t->aborted));
	set(j, "exit", json_integer(t->failed == 0 && !t->aborted ? CTL_EXIT_OK : CTL_EXIT_FAILED));
	if (t->aborted != NULL) {
		snprintf(error, sizeof(error), "given up: %s", t->aborted);
		set(j, "error", json_string(error));
	}
	set(j, "flows", num(t->flows));
	set(j, "created", num(t->created));
	set(j, "updated", num(t->updated));
	set(j, "existing", num(t->ours));
	set(j, "ended", num(t->ended));
	set(j, "adopted", num(t->adopted));
	set(j, "failed", num(t->failed));
	set(j, "expectations", num(t->expects));
	set(j, "without_master", num(t->lost_master));
	set(j, "without_helper", num(t->lost_helper));
	set(j, "without_labels", num(t->lost_labels));
	set(j, "elapsed_ms", num((t->ended_us - t->started_us) / 1000));
	for (i = 0; i < t->nfailures; i++)
		json_array_append_new(a, json_pack("{s:s,s:I,s:s}", "reason",
		    failure_text(t->failures[i].err), "count", (json_int_t)t->failures[i].count,
		    "example", t->failures[i].example));
	set(j, "failures", a);
	set(j, "basis", json_string(t->basis));
	set(j, "role", json_string(node_role(d->node) == NODE_ACTIVE ? "active" : "standby"));
	return j;
}

/* --- verification ------------------------------------------------------------------------------ */

const char *
state_verify_kind(enum verify_kind kind)
{
	static const char *const	 names[VERIFY_KINDS] = {
		[VERIFY_MISSING_HERE] = "missing_here",
		[VERIFY_MISSING_THERE] = "missing_there",
		[VERIFY_CHANGED] = "changed"
	};

	return names[kind];
}

static json_t *
verified_json(const char *compared, const char *why, uint64_t flows, const struct verify_log *log)
{
	json_t		*j = json_object();
	unsigned	 k;

	set(j, "state", json_string(compared));
	set(j, "why", why != NULL ? json_string(why) : json_null());
	set(j, "flows", num(flows));
	for (k = 0; k < VERIFY_KINDS; k++)
		set(j, state_verify_kind(k), num(log->count[k]));
	return j;
}

json_t *
state_verified(struct daemon *d)
{
	static const char *const	 states[] = { "equal", "different", "not comparable" };
	const struct node_verified	*v = node_verified(d->node);
	const struct local_verified	*l = v->local;
	json_t				*j = json_object(), *a = json_array(), *p;
	enum node_compared		 local = NODE_COMPARED_EQUAL;
	unsigned			 i;
	bool				 ok;

	if (verify_log_total(&l->log) > 0)
		local = NODE_COMPARED_DIFFERENT;
	else if (l->lost)
		local = NODE_NOT_COMPARABLE;
	ok = local == NODE_COMPARED_EQUAL;
	set(j, "local", verified_json(states[local], l->lost ?
	    "the kernel dropped events meanwhile, again and again" : NULL, l->flows, &l->log));
	for (i = 0; i < v->npeers; i++) {
		p = verified_json(states[v->peers[i].state], v->peers[i].why, v->peers[i].flows,
		    &v->peers[i].log);
		set(p, "node", json_string(v->peers[i].name));
		set(p, "kept", num(v->peers[i].kept));
		json_array_append_new(a, p);
		ok &= v->peers[i].state == NODE_COMPARED_EQUAL;
	}
	set(j, "peers", a);
	set(j, "ok", json_boolean(ok));
	set(j, "exit", json_integer(ok ? CTL_EXIT_OK : CTL_EXIT_FAILED));
	set(j, "elapsed_ms", num((v->ended_us - v->started_us) / 1000));
	return j;
}

/* --- metrics ---------------------------------------------------------------------------------- */

/* Objects whose members are named by what they belong to, and the label for that. */
static const char *
label_of(const char *group)
{
	if (strcmp(group, "peers") == 0)
		return "peer";
	return strcmp(group, "links") == 0 ? "link" : NULL;
}

static void
put_value(FILE *f, const char *prefix, const char *key, const char *label, const char *who,
    const json_t *v)
{
	fprintf(f, "ctsync_%s%s%s", prefix, prefix[0] != '\0' ? "_" : "", key);
	if (label != NULL)
		fprintf(f, "{%s=\"%s\"}", label, who);
	if (json_is_integer(v))
		fprintf(f, " %lld\n", (long long)json_integer_value(v));
	else
		fprintf(f, " %.9g\n", json_real_value(v));
}

static void
put_type(FILE *f, const char *prefix, const char *key)
{
	size_t		 n = strlen(key);
	const char	*type = n > 6 && strcmp(key + n - 6, "_total") == 0 ? "counter" : "gauge";

	fprintf(f, "# TYPE ctsync_%s%s%s %s\n", prefix, prefix[0] != '\0' ? "_" : "", key, type);
}

/* All peers or links: each metric once with its samples together, as the format wants it. */
static void
put_labelled(FILE *f, const char *prefix, const char *label, json_t *group)
{
	const char	*who, *key, *other;
	json_t		*first, *o, *v;
	void		*it = json_object_iter(group);

	if (it == NULL)
		return;
	first = json_object_iter_value(it);
	json_object_foreach(first, key, v) {
		put_type(f, prefix, key);
		json_object_foreach(group, other, o) {
			who = other;
			if (json_is_number(json_object_get(o, key)))
				put_value(f, prefix, key, label, who, json_object_get(o, key));
		}
	}
}

static void
put_group(FILE *f, const char *prefix, json_t *o)
{
	const char	*key;
	json_t		*v;

	json_object_foreach(o, key, v) {
		if (json_is_object(v) && label_of(key) != NULL)
			put_labelled(f, label_of(key), label_of(key), v);
		else if (json_is_object(v))
			put_group(f, key, v);
		else if (json_is_number(v)) {
			put_type(f, prefix, key);
			put_value(f, prefix, key, NULL, NULL, v);
		}
	}
}

char *
state_metrics(struct daemon *d)
{
	json_t	*j = state_stats(d);
	char	*text = NULL;
	size_t	 len = 0;
	FILE	*f;

	if (j == NULL || (f = open_memstream(&text, &len)) == NULL) {
		json_decref(j);
		return NULL;
	}
	fprintf(f, "# TYPE ctsync_info gauge\nctsync_info{node=\"%s\",cluster=\"%s\",version=\"%s\"} 1\n",
	    d->conf->node, d->conf->cluster, PACKAGE_VERSION);
	put_group(f, "", j);
	json_decref(j);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
