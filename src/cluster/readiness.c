/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Readiness fails closed: whatever is not known to be well is said.
 */
#include <stdio.h>
#include <string.h>

#include "freshness.h"
#include "ownership.h"
#include "readiness.h"
#include "session.h"
#include "takeover.h"

#define NOBODY_US	3000000u	/* after the start, and after a change of roles */
#define BIRTHS_MIN	3u		/* flows that packets made here in some seconds */

/* --- copies ---------------------------------------------------------------------------- */

const char *
readiness_why_not(const struct node *n, unsigned peer)
{
	const struct recv	*r = n->recv[peer];

	switch (session_state(n, n->session[peer])) {
	case SESSION_UNSEEN:
		return "never seen";
	case SESSION_LOST:
	case SESSION_FORGOTTEN:
		return "lost";
	case SESSION_GREETING:
		return "greeting";
	case SESSION_UP:
	case SESSION_STATES:
		break;
	}
	if (recv_full(r))
		return "no room for its flows: raise limits.flows";
	if (recv_refused(r))
		return "it sends flows that only a newer version understands";
	if (recv_persistent(r))
		return "persistently different, whatever is resent: see the log, and report this";
	if (recv_mending(r))
		return "a difference was found and is being repaired";
	if (recv_state(r) != RECV_COMPARING)
		return "synchronising";
	if (recv_doubt(r) & WIRE_DOUBT_FIRST)
		return "it has not read its kernel yet";
	if (recv_doubt(r) & WIRE_DOUBT_NO_ROOM)
		return "its own table is full: raise limits.flows there";
	if (recv_doubt(r) & WIRE_DOUBT_LOST)
		return "it lost kernel events and reads its kernel again";
	if (recv_verified_us(r) == 0)
		return "not verified yet";
	return recv_in_sync(r, n->now_us) ? NULL : "the last proof is too old";
}

/* --- alerts ----------------------------------------------------------------------------- */

static bool
some_refused(const struct node *n, bool by_us)
{
	enum node_reject	 why;
	unsigned		 i;

	for (i = 0; i < n->npeers; i++)
		if (by_us ? session_refusing(n, n->session[i], &why) :
		    session_refuses_us(n, n->session[i]))
			return true;
	return false;
}

unsigned
readiness_alerts(const struct node *n)
{
	unsigned	 set = 0, actives = ownership_actives(n);
	uint64_t	 nobody_us = ownership_nobody_us(n);
	bool		 settled = n->now_us - n->born_us >= NOBODY_US &&
			    n->now_us - ownership_standby_us(n) >= NOBODY_US;

	if (nobody_us != 0 && n->now_us - nobody_us >= NOBODY_US)
		set |= 1u << NODE_ALERT_NO_ACTIVE;
	if (!ownership_active(n) && settled && ownership_births(n) >= BIRTHS_MIN)
		set |= 1u << NODE_ALERT_TRAFFIC;
	if (actives > 1)
		set |= 1u << NODE_ALERT_TWO_ACTIVE;
	if (some_refused(n, true))
		set |= 1u << NODE_ALERT_REFUSED;
	if (some_refused(n, false))
		set |= 1u << NODE_ALERT_REFUSED_BY;
	if (freshness_is_blind(n))
		set |= 1u << NODE_ALERT_BLIND;
	return set;
}

void
readiness_run(struct node *n, unsigned *said)
{
	unsigned	 now = readiness_alerts(n), i;

	for (i = 0; i < NODE_ALERTS; i++) {
		if (!((now ^ *said) & 1u << i) || i == NODE_ALERT_TWO_ACTIVE)
			continue;	/* that one has a line of its own, with names */
		if (now & 1u << i)
			log_msg(LOG_WARNING, "%s: %s", node_alert_text((enum node_alert)i),
			    node_alert_advice((enum node_alert)i));
		else
			log_msg(LOG_NOTICE, "over: %s", node_alert_text((enum node_alert)i));
	}
	*said = now;
}

/* --- ready -------------------------------------------------------------------------------- */

/* A peer that was there and is silent now. */
static bool
lost_ready(const struct node *n, unsigned peer, char *reason)
{
	const struct session	*s = n->session[peer];

	if (session_equal_at_loss(s)) {
		snprintf(reason, NODE_REASON_MAX, "equal as of the death of %s, %llu s ago",
		    session_name(s),
		    (unsigned long long)((n->now_us - session_heard_us(s)) / 1000000));
		return true;
	}
	snprintf(reason, NODE_REASON_MAX, "%s was lost before its flows were verified (%u held)",
	    session_name(s), ftab_count(recv_table(n->recv[peer])));
	return false;
}

static bool
unseen_ready(const struct node *n, unsigned peer, char *reason)
{
	uint64_t	 age_us = n->now_us - n->born_us;

	snprintf(reason, NODE_REASON_MAX, "alone: %s was never seen", session_name(n->session[peer]));
	if (age_us >= n->conf.boot_wait_us)
		return true;
	snprintf(reason, NODE_REASON_MAX, "%s was not seen yet; ready alone in %llu s",
	    session_name(n->session[peer]),
	    (unsigned long long)((n->conf.boot_wait_us - age_us) / 1000000 + 1));
	return false;
}

/* One peer's part in our readiness; false and the reason if it speaks against it. */
static bool
peer_ready(const struct node *n, unsigned peer, char *reason)
{
	const struct session	*s = n->session[peer];
	const char		*why = readiness_why_not(n, peer);
	enum node_reject	 refused;

	if (session_refusing(n, s, &refused)) {
		/* it lives, and may be carrying flows that we do not hear of */
		snprintf(reason, NODE_REASON_MAX, "REFUSED: what comes from %s is refused (%s): do both "
		    "nodes have the same key file?", session_name(s), node_reject_name(refused));
		return false;
	}
	if (why == NULL) {
		snprintf(reason, NODE_REASON_MAX, "equal to %s as of %llu ms ago", session_name(s),
		    (unsigned long long)((n->now_us - recv_verified_us(n->recv[peer])) / 1000));
		return true;
	}
	switch (session_state(n, s)) {
	case SESSION_UNSEEN:
		return unseen_ready(n, peer, reason);
	case SESSION_LOST:
	case SESSION_FORGOTTEN:
		return lost_ready(n, peer, reason);
	default:
		snprintf(reason, NODE_REASON_MAX, "not equal to %s: %s%s", session_name(s), why,
		    session_refuses_us(n, s) ? "; it REFUSES what we send: compare the key files, and the "
		    "packet filters" : "");
		return false;
	}
}

static bool
active_ready(const struct node *n, char *reason)
{
	uint64_t	 refused = takeover_refused(n);

	if (ownership_resuming(n) || !takeover_complete(n)) {
		snprintf(reason, NODE_REASON_MAX, "active, but a takeover is not complete%s",
		    ownership_resuming(n) ? ": it waits for the peers' flows" : "");
		return false;
	}
	if (refused > 0)
		snprintf(reason, NODE_REASON_MAX, "active; the kernel refused %llu flows of the peers (they "
		    "are tried again)", (unsigned long long)refused);
	else
		snprintf(reason, NODE_REASON_MAX, "active");
	return true;
}

/* What is wrong is said beside the verdict. */
static void
add_alerts(const struct node *n, char *reason)
{
	unsigned	 set = readiness_alerts(n), i;
	size_t		 len = strlen(reason);

	for (i = 0; i < NODE_ALERTS && len < NODE_REASON_MAX; i++) {
		/* the verdict may have said it already, with the peer's name */
		if (!(set & 1u << i) || strstr(reason, node_alert_text((enum node_alert)i)) != NULL)
			continue;
		snprintf(reason + len, NODE_REASON_MAX - len, "; %s",
		    node_alert_text((enum node_alert)i));
		len = strlen(reason);
	}
}

static bool
standby_ready(const struct node *n, char *reason)
{
	char		 why[NODE_REASON_MAX];
	unsigned	 i;

	if (!local_complete(n->local)) {
		snprintf(reason, NODE_REASON_MAX, "the kernel's table has not been read yet");
		return false;
	}
	snprintf(reason, NODE_REASON_MAX, "no peers are configured");
	for (i = 0; i < n->npeers; i++) {
		if (!peer_ready(n, i, why)) {
			memcpy(reason, why, sizeof(why));
			return false;
		}
		if (i == 0 || session_heard_us(n->session[i]) != 0)
			memcpy(reason, why, sizeof(why));
	}
	return true;
}

bool
readiness_ready(const struct node *n, char reason[NODE_REASON_MAX])
{
	bool	 ok = ownership_active(n) ? active_ready(n, reason) : standby_ready(n, reason);

	add_alerts(n, reason);
	return ok;
}
