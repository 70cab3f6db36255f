/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a node says of itself: collected from its parts.
 */
#include <string.h>

#include "cluster.h"
#include "gate.h"
#include "ownership.h"
#include "purge.h"
#include "readiness.h"
#include "session.h"
#include "takeover.h"
#include "verification.h"
#include "windows.h"

struct local *
node_local(const struct node *n)
{
	return n->local;
}

struct feed *
node_feed(const struct node *n)
{
	return n->feed;
}

enum node_role
node_role(const struct node *n)
{
	return ownership_active(n) ? NODE_ACTIVE : NODE_STANDBY;
}

uint32_t
node_term(const struct node *n)
{
	return ownership_term(n);
}

bool
node_two_active(const struct node *n)
{
	return ownership_actives(n) > 1;
}

bool
node_ready(struct node *n, uint64_t now_us, char reason[NODE_REASON_MAX])
{
	n->now_us = now_us;
	return readiness_ready(n, reason);
}

const struct node_taken *
node_taken(const struct node *n)
{
	return takeover_result(n);
}

const struct node_verified *
node_verified(const struct node *n)
{
	return verification_result(n);
}

unsigned
node_peers(const struct node *n)
{
	return n->npeers;
}

uint32_t
node_remote_flows(const struct node *n)
{
	uint32_t	 sum = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		sum += ftab_count(recv_table(n->recv[i]));
	return sum;
}

uint32_t
node_remote_expects(const struct node *n)
{
	uint32_t	 sum = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		sum += ftab_expects(recv_table(n->recv[i]));
	return sum;
}

uint64_t
node_rejected(const struct node *n, enum node_reject why)
{
	return gate_rejected(n, why);
}

uint64_t
node_link_rejected(const struct node *n, unsigned link)
{
	return gate_link_rejected(n, link);
}

const char *
node_reject_name(enum node_reject why)
{
	static const char *const	 names[REJ_REASONS] = {
		"malformed", "foreign_cluster", "own_name", "unknown_node", "unknown_epoch",
		"retired_epoch", "unknown_key", "bad_tag", "replay", "rate_limited", "not_for_us",
		"version"
	};

	return names[why];
}

bool
node_link_healthy(struct node *n, unsigned link, uint64_t now_us)
{
	unsigned	 i;

	n->now_us = now_us;
	for (i = 0; i < n->npeers; i++)
		if (session_link_healthy(n, n->session[i], link))
			return true;
	return false;
}

static void
peer_report(const struct node *n, unsigned peer, struct node_peer_info *info)
{
	uint64_t			 acked = feed_acked(n->feed, peer), at_us;
	const struct wire_report	*r = session_report(n->session[peer], &at_us);

	info->acked = acked;
	info->pending = feed_version(n->feed) > acked ? feed_version(n->feed) - acked : 0;
	info->peer_verified_ms = -1;
	if (at_us == 0)
		return;
	info->reported = true;
	info->peer_holds = r->flows;
	info->peer_full = r->flags & WIRE_REPORT_FULL;
	info->peer_in_sync = (r->flags & WIRE_REPORT_IN_SYNC) && n->now_us - at_us < RECV_FRESH_US;
	if (r->verified_ms != WIRE_NEVER)
		info->peer_verified_ms = r->verified_ms + (int64_t)((n->now_us - at_us) / 1000);
	info->peer_lagged = r->lag_us != WIRE_NEVER;
	info->peer_lag.median = r->lag_us;
	info->peer_lag.p99 = r->lag_p99_us;
	info->peer_lag.max = r->lag_max_us;
}

void
node_peer(struct node *n, unsigned i, uint64_t now_us, struct node_peer_info *info)
{
	const struct session	*s = n->session[i];
	const struct recv	*r = n->recv[i];
	uint64_t		 v = recv_verified_us(r);
	bool			 up;

	n->now_us = now_us;
	up = session_up(n, s);
	memset(info, 0, sizeof(*info));
	info->name = session_name(s);
	info->state = !up ? NODE_PEER_LOST :
	    recv_state(r) == RECV_COMPARING ? NODE_PEER_UP : NODE_PEER_SYNCING;
	info->why = readiness_why_not(n, i);
	info->in_sync = info->why == NULL;
	info->verified_ms = v == 0 ? -1 : (int64_t)((n->now_us - v) / 1000);
	info->lagged = recv_lag(r, &info->lag);
	info->active = ownership_peer_active(n, i);
	info->term = ownership_peer_term(n, i);
	info->flows = ftab_count(recv_table(r));
	info->link = up ? session_link(n, s) : -1;
	info->recv = r;
	info->refused = session_refusing(n, s, &info->refused_why);
	info->refuses_us = session_refuses_us(n, s);
	session_counts(s, &info->hellos, &info->signals, &info->accepted);
	info->ended = ownership_peer_ended(n, i);
	peer_report(n, i, info);
}

bool
node_ended(const struct node *n, unsigned peer, uint32_t h)
{
	return ownership_ended(n, peer, h);
}

uint32_t
node_liberal(const struct node *n)
{
	return windows_liberal(n);
}

uint64_t
node_purged(const struct node *n)
{
	return purge_count(n);
}

bool
node_taking(const struct node *n)
{
	return ownership_taking(n);
}

uint64_t
node_refused(const struct node *n)
{
	return takeover_refused(n);
}

/* --- alerts ------------------------------------------------------------------------- */

static const struct {
	const char	*name, *text, *advice;
} alerts[NODE_ALERTS] = {
	[NODE_ALERT_NO_ACTIVE] = { "no_active", "NO NODE IS ACTIVE",
	    "nothing is taken over or purged; set takeover.follow_addresses, check the notify script, "
	    "or run `ctsync takeover' on the node that has the addresses" },
	[NODE_ALERT_TRAFFIC] = { "traffic_on_standby", "TRAFFIC BUT STANDBY",
	    "packets make flows on this node, and nobody has told it that it is active; set "
	    "takeover.follow_addresses, or check the notify script" },
	[NODE_ALERT_TWO_ACTIVE] = { "two_active", "TWO NODES AT ONCE", "check keepalived or Pacemaker; until then no standby removes anything" },
	[NODE_ALERT_REFUSED] = { "refused", "REFUSED",
	    "what a living peer sends is refused here; compare the key files of both nodes" },
	[NODE_ALERT_REFUSED_BY] = { "refused_by_peer", "REFUSED BY A PEER",
	    "a living peer does not take what this node sends; compare the key files of both nodes, and "
	    "the packet filters" },
	[NODE_ALERT_BLIND] = { "no_events", "NO KERNEL EVENTS",
	    "net.netfilter.nf_conntrack_events is 0 and cannot be set; set it to 1" }
};

unsigned
node_alerts(struct node *n, uint64_t now_us)
{
	n->now_us = now_us;
	return readiness_alerts(n);
}

const char *
node_alert_text(enum node_alert a)
{
	return alerts[a].text;
}

const char *
node_alert_advice(enum node_alert a)
{
	return alerts[a].advice;
}

const char *
node_alert_name(enum node_alert a)
{
	return alerts[a].name;
}
