/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Signals: what two nodes tell each other beside the feed (doc/wire.md, section
 * 2.3): acknowledgements, requests, reports, role, claims.
 */
#include <string.h>

#include "ownership.h"
#include "session_priv.h"

#define REQUESTS_US	50000		/* between requests, checks and mends */

static void
put_report(const struct node *n, const struct session *s, struct wbuf *w)
{
	struct wire_report	 r;
	struct hist_summary	 lag;
	uint64_t		 v = recv_verified_us(n->recv[s->peer]);

	r.stamp = n->now_us;
	r.flags = (uint8_t)((recv_in_sync(n->recv[s->peer], n->now_us) ? WIRE_REPORT_IN_SYNC : 0) |
	    (recv_full(n->recv[s->peer]) ? WIRE_REPORT_FULL : 0));
	r.verified_ms = WIRE_NEVER;
	if (v != 0 && (n->now_us - v) / 1000 < WIRE_NEVER)
		r.verified_ms = (uint32_t)((n->now_us - v) / 1000);
	r.lag_us = r.lag_p99_us = r.lag_max_us = WIRE_NEVER;
	if (recv_lag(n->recv[s->peer], &lag)) {
		r.lag_us = lag.median;
		r.lag_p99_us = lag.p99;
		r.lag_max_us = lag.max;
	}
	r.flows = ftab_count(recv_table(n->recv[s->peer]));
	wire_put_report(w, &r);
}

/* What we want of the peer, repeated until it shows an effect. */
struct open_requests {
	struct wire_request	 req;
	struct wire_check	 check;
	struct wire_mend	 mend;
	bool			 has_req, has_check, has_mend;
};

/* Not more often than it makes sense. */
static void
get_requests(const struct node *n, struct session *s, struct open_requests *w)
{
	memset(w, 0, sizeof(*w));
	if (n->now_us - s->requests_us < REQUESTS_US)
		return;
	w->has_req = recv_request(n->recv[s->peer], &w->req, n->now_us);
	w->has_check = recv_check(n->recv[s->peer], &w->check);
	w->has_mend = recv_mend(n->recv[s->peer], &w->mend);
	if (w->has_req || w->has_check || w->has_mend)
		s->requests_us = n->now_us;
}

static void
put_requests(const struct open_requests *v, struct wbuf *w)
{
	if (v->has_req)
		wire_put_request(w, &v->req);
	if (v->has_check)
		wire_put_check(w, &v->check);
	if (v->has_mend)
		wire_put_mend(w, &v->mend);
}

static void
send_signal(struct node *n, struct session *s, unsigned link, const struct wire_ack *acks,
    unsigned nacks, const struct open_requests *open)
{
	uint8_t		 plain[1024];
	struct wire_dst	 dst = { s->id, s->epoch };
	struct wire_probe probe;
	struct wbuf	 w;
	unsigned	 i;
	bool		 hear;

	hear = s->links[link].rx_us != 0 && n->now_us - s->links[link].rx_us < SESSION_LINK_DEAD_US;
	wbuf_init(&w, plain, sizeof(plain) < n->conf.datagram_bytes - SEAL_OVERHEAD ?
	    sizeof(plain) : n->conf.datagram_bytes - SEAL_OVERHEAD);
	wire_put_dst(&w, &dst);
	probe.flags = (uint8_t)((hear ? WIRE_PROBE_HEARD : 0) |
	    (ownership_active(n) ? WIRE_PROBE_ACTIVE : 0) |
	    (n->leaving ? WIRE_PROBE_LEAVING : 0) | (ownership_taking(n) ? WIRE_PROBE_TAKING : 0));
	probe.term = ownership_term(n);
	wire_put_probe(&w, &probe);
	for (i = 0; i < nacks; i++)
		wire_put_ack(&w, &acks[i]);
	put_requests(open, &w);
	if (s->restart != 0)
		wire_put_restart(&w, s->restart);
	put_report(n, s, &w);
	ownership_put(n, s->peer, &w);
	gate_send(n, s->peer, link, SEAL_DATA, 0, &w);
}

void
session_signal(struct node *n, struct session *s, bool all)
{
	struct wire_ack		 acks[2];
	struct open_requests	 open;
	unsigned		 nacks, i;
	int			 link = session_link(n, s);

	if (s->epoch == 0)
		return;
	nacks = recv_acks(n->recv[s->peer], acks);
	get_requests(n, s, &open);
	if (all)
		s->signal_us = n->now_us;
	for (i = 0; i < n->conf.nlinks; i++)
		if ((all || (int)i == link) && n->ops->link.usable(n->ctx, i, s->peer))
			send_signal(n, s, i, acks, nacks, &open);
	s->restart = 0;
}

struct signal {
	struct wire_dst		 dst;
	struct wire_ack		 acks[2];
	struct wire_request	 req;
	struct wire_report	 report;
	struct wire_check	 check;
	struct wire_mend	 mend;
	uint32_t		 restart;
	struct wire_probe	 probe;
	struct wire_claim	 claim;
	uint64_t		 clock_ms;
	unsigned		 nacks;
	bool			 has_check, has_mend, has_claim, has_clock;
	bool			 has_dst, has_req, has_report, has_restart, has_probe;
};

static bool
parse_signal_record(struct signal *g, uint8_t kind, struct rbuf *b)
{
	switch (kind) {
	case WIRE_DST:
		return g->has_dst = wire_get_dst(b, &g->dst);
	case WIRE_PROBE:
		return g->has_probe = wire_get_probe(b, &g->probe);
	case WIRE_ACK:
		return g->nacks < 2 && wire_get_ack(b, &g->acks[g->nacks++]);
	case WIRE_REQUEST:
		return g->has_req = wire_get_request(b, &g->req);
	case WIRE_RESTART:
		return g->has_restart = wire_get_u32(b, &g->restart);
	case WIRE_REPORT:
		return g->has_report = wire_get_report(b, &g->report);
	case WIRE_CHECK:
		return g->has_check = wire_get_check(b, &g->check);
	case WIRE_MEND:
		return g->has_mend = wire_get_mend(b, &g->mend);
	case WIRE_CLAIM:
		return g->has_claim = wire_get_claim(b, &g->claim);
	case WIRE_CLOCK:
		return g->has_clock = wire_get_u64(b, &g->clock_ms);
	default:
		return !(kind & WIRE_MUST);
	}
}

static bool
parse_signal(struct signal *g, const uint8_t *p, size_t len)
{
	struct rbuf	 in, body;
	uint8_t		 kind;

	memset(g, 0, sizeof(*g));
	rbuf_init(&in, p, len);
	while (wire_next(&in, &kind, &body))
		if (!parse_signal_record(g, kind, &body))
			return false;
	return in.len == 0 && g->has_dst;
}

/* Does some link bring the peer what we send? */
static bool
hears_us(const struct node *n, const struct session *s)
{
	unsigned	 i;

	for (i = 0; i < n->conf.nlinks; i++)
		if (session_link_healthy(n, s, i))
			return true;
	return false;
}

static void
handle_probe(struct node *n, struct session *s, unsigned link, const struct signal *g, bool newest)
{
	const struct wire_probe	*probe = &g->probe;

	s->links[link].heard = probe->flags & WIRE_PROBE_HEARD;
	if (hears_us(n, s))
		s->deaf_us = 0;
	else if (s->deaf_us == 0)
		s->deaf_us = n->now_us;
	if ((probe->flags & WIRE_PROBE_LEAVING) && !s->leaving) {
		log_msg(LOG_NOTICE, "%s shuts down", s->name);
		ownership_leaving(n, s->peer);
	}
	s->leaving = probe->flags & WIRE_PROBE_LEAVING;
	if (!newest)
		return;		/* the network may reorder: it said something else since */
	ownership_probe(n, s->peer, probe);
	ownership_claimed(n, s->peer, g->has_claim ? &g->claim : NULL);
}

static void
handle_signal(struct node *n, struct session *s, unsigned link, const struct signal *g)
{
	unsigned	 i;

	if (g->dst.id != n->id || g->dst.epoch != n->conf.epoch) {
		/* meant for another node, or for us before we restarted */
		gate_reject(n, link, REJ_NOT_FOR_US, s->name);
		return;
	}
	s->signals++;
	s->confirmed = true;
	session_note_alive(n, s, link);
	if (g->has_clock)
		ownership_hear_clock(n, g->clock_ms);
	if (g->has_probe)
		handle_probe(n, s, link, g, !g->has_report || g->report.stamp > s->stamp);
	if (g->has_restart)
		recv_restart(n->recv[s->peer], g->restart);
	if (g->has_req)
		feed_request(n->feed, s->peer, &g->req, n->now_us);
	for (i = 0; i < g->nacks; i++)
		feed_ack(n->feed, s->peer, &g->acks[i], n->now_us);
	if (g->has_check)
		feed_check(n->feed, s->peer, &g->check);
	if (g->has_mend)
		feed_mend(n->feed, s->peer, &g->mend);
	if (g->has_report && g->report.stamp > s->stamp) {
		s->report = g->report;
		s->report_us = n->now_us;
		s->stamp = g->report.stamp;
		s->stamp_new = true;
	}
}

void
session_signal_in(struct node *n, struct session *s, unsigned link, const uint8_t *p, size_t len)
{
	struct signal	 g;

	if (parse_signal(&g, p, len))
		handle_signal(n, s, link, &g);
	else
		gate_reject(n, link, REJ_MALFORMED, s->name);
}
