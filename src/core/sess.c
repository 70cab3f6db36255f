/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sessions: which datagrams count, who is there, hellos and signals
 * (doc/wire.md, sections 1, 2 and 4).
 *
 * Invariants: nothing but the header is looked at before a datagram is
 * authentic; an epoch is accepted only by a hello that echoes our challenge; a
 * hello costs no state until then, but for a small cache of epochs that were
 * answered; answers go to configured addresses only.
 */
#include <errno.h>
#include <string.h>

#include "node_priv.h"

#define OPEN_RATE	20000u		/* hellos of unknown epochs opened a second: 4 % of a CPU */
#define OPEN_BURST	2000u
#define ANSWER_RATE	20u
#define ANSWER_BURST	40u
#define WISHES_US	50000		/* between requests, checks and mends */
#define FORGET_US	3600000000u	/* who is lost for so long gets everything anew */
#define LEASE_US	120000000	/* for the flows of a node that has rebooted */
/* A proof that was so old when the peer fell silent is one of what it had. */
#define EQUAL_AT_LOSS_US	500000

/* Take a token; rate a second, at most burst saved up. */
static bool
take_token(struct bucket *b, uint64_t now_us, uint32_t rate, uint32_t burst)
{
	uint64_t	 fresh;

	if (b->at_us == 0) {
		b->at_us = now_us;
		b->tokens = burst;
	}
	fresh = (now_us - b->at_us) * rate / 1000000;
	if (fresh > 0) {
		b->at_us = now_us;
		b->tokens = b->tokens + fresh > burst ? burst : (uint32_t)(b->tokens + fresh);
	}
	if (b->tokens == 0)
		return false;
	b->tokens--;
	return true;
}

/* What it means and what to do, for the log. */
static const char *const	reject_text[REJ_REASONS] = {
	[REJ_MALFORMED] = "it makes no sense; does another program send to this port?",
	[REJ_CLUSTER] = "it is of another cluster: compare \"cluster\" on both nodes",
	[REJ_OWN_NAME] = "it has this node's own name: each node needs a name of its own",
	[REJ_UNKNOWN_NODE] = "it is of a node that is no peer in our configuration",
	[REJ_UNKNOWN_EPOCH] = "it is of a run of the daemon that has not introduced itself yet",
	[REJ_RETIRED_EPOCH] = "it is of an earlier run of the daemon, or replayed",
	[REJ_UNKNOWN_KEY] = "our key file has no key of that id: all nodes need the same keys",
	[REJ_BAD_TAG] = "it is not sealed with our key, or it was changed: all nodes need the same keys",
	[REJ_REPLAY] = "it was received before (replayed, or doubled by the network)",
	[REJ_RATE] = "too many introductions in a short time",
	[REJ_NOT_FOR_US] = "it is for another node, or for an earlier run of this daemon",
	[REJ_VERSION] = "it is of a version that we do not speak: update the older node"
};

static void
reject(struct node *n, unsigned link, enum node_reject why, const char *who)
{
	n->rejected[why]++;
	n->link_rejected[link]++;
	log_limited(&n->reject_log, LOG_WARNING, "link %s: refused a datagram%s%s (%s): %s",
	    n->conf.links[link], who != NULL ? " of " : "", who != NULL ? who : "",
	    node_reject_name(why), reject_text[why]);
}

/* The same for one that comes in the name of a configured peer. */
static void
reject_peer(struct node *n, struct peer *p, unsigned link, enum node_reject why)
{
	p->refused = true;
	p->refused_why = why;
	reject(n, link, why, p->name);
}

/* --- sending ------------------------------------------------------------------- */

static void
send_sealed(struct node *n, const struct peer *p, unsigned link, enum seal_type type,
    uint32_t stream, const struct wbuf *w)
{
	ssize_t	 len;

	if (!wbuf_ok(w))
		return;
	len = seal_tx(n->tx, type, stream, n->ops->wall_s(n->ctx), w->base, w->len, n->out,
	    sizeof(n->out));
	if (len > 0)
		(void)n->ops->link.send(n->ctx, link, p->index, n->out, (size_t)len);
}

bool
sess_up(const struct node *n, const struct peer *p)
{
	return p->epoch != 0 && p->confirmed && p->rx_us != 0 &&
	    n->now_us - p->rx_us < PEER_LOST_US;
}

/* The first link that works both ways; else one that works one way; else any. */
int
sess_link(const struct node *n, const struct peer *p)
{
	int		 best = -1, grade, best_grade = 0;
	unsigned	 i;

	for (i = 0; i < n->conf.nlinks; i++) {
		if (!n->ops->link.usable(n->ctx, i, p->index))
			continue;
		grade = 1;
		if (p->links[i].rx_us != 0 && n->now_us - p->links[i].rx_us < LINK_DEAD_US)
			grade = p->links[i].heard ? 3 : 2;
		if (grade > best_grade) {
			best = (int)i;
			best_grade = grade;
		}
	}
	return best;
}

void
sess_frame(struct node *n, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	ssize_t		 sealed = -1;
	unsigned	 i;
	int		 link;

	for (i = 0; i < n->npeers; i++) {
		if (!(peers & 1u << i) || !sess_up(n, &n->peers[i]))
			continue;
		if ((link = sess_link(n, &n->peers[i])) < 0)
			continue;
		if (sealed < 0)
			sealed = seal_tx(n->tx, SEAL_DATA, stream, n->ops->wall_s(n->ctx), frame,
			    len, n->out, sizeof(n->out));
		if (sealed > 0)
			(void)n->ops->link.send(n->ctx, (unsigned)link, i, n->out, (size_t)sealed);
	}
}

/* --- hellos ---------------------------------------------------------------------- */

/* What a hello that came in said. */
struct hello {
	struct wire_versions	 versions;
	struct wire_dst		 dst;
	struct wire_boot	 boot;
	uint8_t			 challenge[WIRE_CHALLENGE_BYTES], echo[WIRE_CHALLENGE_BYTES];
	struct sipkey		 digest_key;
	uint8_t			 name[WIRE_NODE_MAX];
	size_t			 name_len;
	bool			 has_versions, has_dst, has_challenge, has_echo, has_key;
};

static void
put_digest_key(struct wbuf *w, const struct sipkey *k)
{
	wire_put_head(w, WIRE_DIGESTKEY, 16);
	wbuf_u64(w, k->k[0]);
	wbuf_u64(w, k->k[1]);
}

/*
 * The challenge that a new epoch of p has to echo.  It depends on the epoch
 * that we hold now, so that an old hello cannot replace the one after it.
 */
static bool
make_challenge(const struct node *n, const struct peer *p, uint64_t epoch, uint64_t slot,
    uint8_t out[WIRE_CHALLENGE_BYTES])
{
	return seal_challenge(n->conf.boot_key, p->id ^ p->epoch, epoch, slot, out) == 0;
}

/*
 * Greet a peer over a link.  to_epoch: its epoch as far as we know (0: not);
 * echo: its challenge, or NULL.
 */
static void
send_hello(struct node *n, struct peer *p, unsigned link, uint64_t to_epoch, const uint8_t *echo)
{
	uint8_t			 plain[WIRE_HELLO_BYTES], challenge[WIRE_CHALLENGE_BYTES];
	struct wire_versions	 v = { WIRE_VERSION_MIN, WIRE_VERSION_MAX,
				    1u << SEAL_AES256GCM | 1u << SEAL_CHACHA20 };
	struct wire_dst		 dst = { p->id, to_epoch };
	struct wbuf		 w;
	uint8_t			*pad;
	size_t			 room;

	wbuf_init(&w, plain, sizeof(plain));
	wire_put_versions(&w, &v);
	wire_put_bytes(&w, WIRE_NAME, n->name, strlen(n->name));
	wire_put_dst(&w, &dst);
	if (to_epoch != 0 && make_challenge(n, p, to_epoch,
	    seal_challenge_slot(n->now_us / 1000), challenge))
		wire_put_bytes(&w, WIRE_CHALLENGE, challenge, sizeof(challenge));
	if (echo != NULL)
		wire_put_bytes(&w, WIRE_ECHO, echo, WIRE_CHALLENGE_BYTES);
	put_digest_key(&w, &n->conf.digest_key);
	wire_put_boot(&w, &n->conf.boot);
	room = wbuf_room(&w);
	if (room >= WIRE_RECORD_HEAD) {
		wire_put_head(&w, WIRE_PAD, room - WIRE_RECORD_HEAD);
		if ((pad = wbuf_take(&w, room - WIRE_RECORD_HEAD)) != NULL)
			memset(pad, 0, room - WIRE_RECORD_HEAD);
	}
	send_sealed(n, p, link, SEAL_HELLO, 0, &w);
}

static void
greet_on_all(struct node *n, struct peer *p)
{
	unsigned	 i;

	p->hello_us = n->now_us;
	for (i = 0; i < n->conf.nlinks; i++)
		if (n->ops->link.usable(n->ctx, i, p->index))
			send_hello(n, p, i, p->epoch, NULL);
}

static bool
get_digest_key(struct rbuf *r, struct sipkey *k)
{
	return rbuf_u64(r, &k->k[0]) && rbuf_u64(r, &k->k[1]) && r->len == 0;
}

static bool
get_name(struct rbuf *r, struct hello *h)
{
	if (r->len == 0 || r->len > WIRE_NODE_MAX)
		return false;
	h->name_len = r->len;
	return rbuf_bytes(r, h->name, r->len);
}

static bool
parse_hello_record(struct hello *h, uint8_t kind, struct rbuf *b)
{
	switch (kind) {
	case WIRE_VERSIONS:
		return h->has_versions = wire_get_versions(b, &h->versions);
	case WIRE_NAME:
		return get_name(b, h);
	case WIRE_DST:
		return h->has_dst = wire_get_dst(b, &h->dst);
	case WIRE_CHALLENGE:
		return h->has_challenge = wire_get_bytes(b, h->challenge, sizeof(h->challenge));
	case WIRE_ECHO:
		return h->has_echo = wire_get_bytes(b, h->echo, sizeof(h->echo));
	case WIRE_DIGESTKEY:
		return h->has_key = get_digest_key(b, &h->digest_key);
	case WIRE_BOOT:
		return wire_get_boot(b, &h->boot);
	default:
		return !(kind & WIRE_MUST);
	}
}

static bool
parse_hello(struct hello *h, const uint8_t *p, size_t len)
{
	struct rbuf	 in, body;
	uint8_t		 kind;

	memset(h, 0, sizeof(*h));
	rbuf_init(&in, p, len);
	while (wire_next(&in, &kind, &body))
		if (!parse_hello_record(h, kind, &body))
			return false;
	return in.len == 0 && h->has_versions && h->has_dst && h->has_key && h->name_len > 0;
}

/* An old hello that is played again is answered once, and its epoch rarely. */
static bool
may_answer(struct node *n, struct peer *p, const struct seal_header *sh)
{
	struct greeted	*g, *oldest = &p->greeted[0];
	unsigned	 i;

	for (i = 0; i < REPLAYED_MAX; i++) {
		g = &p->greeted[i];
		if (g->epoch == sh->epoch) {
			if (sh->counter <= g->counter)
				return false;
			g->counter = sh->counter;
			g->at_us = n->now_us;
			return take_token(&p->answer, n->now_us, ANSWER_RATE, ANSWER_BURST);
		}
		if (g->at_us < oldest->at_us)
			oldest = g;
	}
	oldest->epoch = sh->epoch;
	oldest->counter = sh->counter;
	oldest->at_us = n->now_us;
	return take_token(&p->answer, n->now_us, ANSWER_RATE, ANSWER_BURST);
}

static void
retire(struct peer *p)
{
	if (p->epoch == 0)
		return;
	p->retired[p->nretired++ % RETIRED_MAX] = p->epoch;
}

static bool
is_retired(const struct peer *p, uint64_t epoch)
{
	unsigned	 i;

	for (i = 0; i < RETIRED_MAX && i < p->nretired; i++)
		if (p->retired[i] == epoch)
			return true;
	return false;
}

static bool
echo_is_ours(const struct node *n, const struct peer *p, const struct seal_header *sh,
    const struct hello *h)
{
	return h->has_echo && seal_challenge_check(n->conf.boot_key, p->id ^ p->epoch, sh->epoch,
	    seal_challenge_slot(n->now_us / 1000), h->echo);
}

/* The peer lives in a new epoch: everything of the old one is void but its flows. */
static bool
accept_epoch(struct node *n, struct peer *p, const struct seal_header *sh, const struct hello *h)
{
	struct seal_rx	*rx;
	bool		 rebooted;

	if (seal_rx_new(&rx, n->ring, p->id, sh->epoch, sh->counter, n->now_us / 1000) < 0)
		return false;
	seal_rx_free(p->rx);
	retire(p);
	p->rx = rx;
	p->epoch = sh->epoch;
	p->accepted++;
	p->confirmed = false;
	p->stamp = 0;
	p->report_us = 0;
	p->restart = 0;
	p->equal_at_loss = false;
	rebooted = p->accepted > 1 && (p->boot.netns != h->boot.netns ||
	    memcmp(p->boot.boot_id, h->boot.boot_id, sizeof(p->boot.boot_id)) != 0);
	if (rebooted) {
		log_msg(LOG_NOTICE, "%s has rebooted: its former %u flows are kept for %u s", p->name,
		    ftab_count(recv_table(p->recv)), LEASE_US / 1000000);
		recv_lease(p->recv, n->now_us + LEASE_US);
	}
	p->boot = h->boot;
	feed_new_epoch(n->feed, p->index);
	recv_epoch(p->recv, p->epoch, &h->digest_key);
	owner_new_epoch(n, p, rebooted);
	log_msg(LOG_NOTICE, "%s is there (epoch %016llx)", p->name, (unsigned long long)p->epoch);
	return true;
}

static void
note_alive(struct node *n, struct peer *p, unsigned link)
{
	if (p->lost)
		log_msg(LOG_NOTICE, "%s is back", p->name);
	p->lost = false;
	p->leaving = false;
	p->refused = false;
	p->forgotten = false;
	p->rx_us = n->now_us;
	p->links[link].rx_us = n->now_us;
}

static void
handle_hello(struct node *n, struct peer *p, unsigned link, const struct seal_header *sh,
    const struct hello *h)
{
	bool	 known = sh->epoch == p->epoch;

	p->hellos++;
	if (h->dst.id != n->id) {
		reject(n, link, REJ_NOT_FOR_US, p->name);
		return;
	}
	if (h->versions.min > WIRE_VERSION_MAX || h->versions.max < WIRE_VERSION_MIN ||
	    !(h->versions.suites & 1u << n->conf.suite)) {
		n->rejected[REJ_VERSION]++;
		log_limited(&p->log, LOG_ERR, "%s speaks versions %u to %u and suites %#x: none that "
		    "we speak as well; bring both nodes to the same release", p->name,
		    h->versions.min, h->versions.max, h->versions.suites);
		return;
	}
	if (!known && echo_is_ours(n, p, sh, h))
		known = accept_epoch(n, p, sh, h);
	if (known)
		note_alive(n, p, link);
	/* a peer that has accepted us needs no more of this */
	if (!(known && p->confirmed) && may_answer(n, p, sh))
		send_hello(n, p, link, sh->epoch, h->has_challenge ? h->challenge : NULL);
	if (known && !p->confirmed)
		sess_signal(n, p, true);
}

/* --- signals ------------------------------------------------------------------------ */

static void
put_report(const struct node *n, const struct peer *p, struct wbuf *w)
{
	struct wire_report	 r;
	struct hist_summary	 lag;
	uint64_t		 v = recv_verified_us(p->recv);

	r.stamp = n->now_us;
	r.flags = (uint8_t)((recv_in_sync(p->recv, n->now_us) ? WIRE_REPORT_IN_SYNC : 0) |
	    (recv_full(p->recv) ? WIRE_REPORT_FULL : 0));
	r.verified_ms = WIRE_NEVER;
	if (v != 0 && (n->now_us - v) / 1000 < WIRE_NEVER)
		r.verified_ms = (uint32_t)((n->now_us - v) / 1000);
	r.lag_us = r.lag_p99_us = r.lag_max_us = WIRE_NEVER;
	if (recv_lag(p->recv, &lag)) {
		r.lag_us = lag.median;
		r.lag_p99_us = lag.p99;
		r.lag_max_us = lag.max;
	}
	r.flows = ftab_count(recv_table(p->recv));
	wire_put_report(w, &r);
}

/* What we want of the peer, repeated until it shows an effect. */
struct wishes {
	struct wire_request	 req;
	struct wire_check	 check;
	struct wire_mend	 mend;
	bool			 has_req, has_check, has_mend;
};

/* Not more often than it makes sense. */
static void
get_wishes(const struct node *n, struct peer *p, struct wishes *w)
{
	memset(w, 0, sizeof(*w));
	if (n->now_us - p->wishes_us < WISHES_US)
		return;
	w->has_req = recv_request(p->recv, &w->req, n->now_us);
	w->has_check = recv_check(p->recv, &w->check);
	w->has_mend = recv_mend(p->recv, &w->mend);
	if (w->has_req || w->has_check || w->has_mend)
		p->wishes_us = n->now_us;
}

static void
put_wishes(const struct wishes *v, struct wbuf *w)
{
	if (v->has_req)
		wire_put_request(w, &v->req);
	if (v->has_check)
		wire_put_check(w, &v->check);
	if (v->has_mend)
		wire_put_mend(w, &v->mend);
}

static void
send_signal(struct node *n, struct peer *p, unsigned link, const struct wire_ack *acks,
    unsigned nacks, const struct wishes *wishes)
{
	uint8_t		 plain[1024];
	struct wire_dst	 dst = { p->id, p->epoch };
	struct wire_probe probe;
	struct wbuf	 w;
	unsigned	 i;
	bool		 hear;

	hear = p->links[link].rx_us != 0 && n->now_us - p->links[link].rx_us < LINK_DEAD_US;
	wbuf_init(&w, plain, sizeof(plain) < n->conf.datagram_bytes - SEAL_OVERHEAD ?
	    sizeof(plain) : n->conf.datagram_bytes - SEAL_OVERHEAD);
	wire_put_dst(&w, &dst);
	probe.flags = (uint8_t)((hear ? WIRE_PROBE_HEARD : 0) |
	    (n->role == NODE_ACTIVE ? WIRE_PROBE_ACTIVE : 0) |
	    (n->leaving ? WIRE_PROBE_LEAVING : 0) | (owner_taking(n) ? WIRE_PROBE_TAKING : 0));
	probe.term = n->term;
	wire_put_probe(&w, &probe);
	for (i = 0; i < nacks; i++)
		wire_put_ack(&w, &acks[i]);
	put_wishes(wishes, &w);
	if (p->restart != 0)
		wire_put_restart(&w, p->restart);
	put_report(n, p, &w);
	owner_put_claims(n, p, &w);
	send_sealed(n, p, link, SEAL_DATA, 0, &w);
}

void
sess_signal(struct node *n, struct peer *p, bool all)
{
	struct wire_ack		 acks[2];
	struct wishes		 wishes;
	unsigned		 nacks, i;
	int			 link = sess_link(n, p);

	if (p->epoch == 0)
		return;
	nacks = recv_acks(p->recv, acks);
	get_wishes(n, p, &wishes);
	if (all)
		p->signal_us = n->now_us;
	for (i = 0; i < n->conf.nlinks; i++)
		if ((all || (int)i == link) && n->ops->link.usable(n->ctx, i, p->index))
			send_signal(n, p, i, acks, nacks, &wishes);
	p->restart = 0;
	owner_next_claims(n, p);
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
	struct wire_adopted	 adopted[WIRE_ADOPTED_MAX];
	unsigned		 nacks, nadopted;
	bool			 has_check, has_mend;
	bool			 has_dst, has_req, has_report, has_restart, has_probe;
};

static bool
parse_signal_record(struct signal *s, uint8_t kind, struct rbuf *b)
{
	switch (kind) {
	case WIRE_DST:
		return s->has_dst = wire_get_dst(b, &s->dst);
	case WIRE_PROBE:
		return s->has_probe = wire_get_probe(b, &s->probe);
	case WIRE_ACK:
		return s->nacks < 2 && wire_get_ack(b, &s->acks[s->nacks++]);
	case WIRE_REQUEST:
		return s->has_req = wire_get_request(b, &s->req);
	case WIRE_RESTART:
		return s->has_restart = wire_get_u32(b, &s->restart);
	case WIRE_REPORT:
		return s->has_report = wire_get_report(b, &s->report);
	case WIRE_CHECK:
		return s->has_check = wire_get_check(b, &s->check);
	case WIRE_MEND:
		return s->has_mend = wire_get_mend(b, &s->mend);
	case WIRE_ADOPTED:
		return s->nadopted < WIRE_ADOPTED_MAX &&
		    wire_get_adopted(b, &s->adopted[s->nadopted++]);
	default:
		return !(kind & WIRE_MUST);
	}
}

static bool
parse_signal(struct signal *s, const uint8_t *p, size_t len)
{
	struct rbuf	 in, body;
	uint8_t		 kind;

	memset(s, 0, sizeof(*s));
	rbuf_init(&in, p, len);
	while (wire_next(&in, &kind, &body))
		if (!parse_signal_record(s, kind, &body))
			return false;
	return in.len == 0 && s->has_dst;
}

static void
handle_probe(struct node *n, struct peer *p, unsigned link, const struct signal *s, bool newest)
{
	const struct wire_probe	*probe = &s->probe;
	unsigned		 i;

	p->links[link].heard = probe->flags & WIRE_PROBE_HEARD;
	if ((probe->flags & WIRE_PROBE_LEAVING) && !p->leaving)
		log_msg(LOG_NOTICE, "%s shuts down", p->name);
	p->leaving = probe->flags & WIRE_PROBE_LEAVING;
	if (!newest)
		return;		/* the network may reorder: it said something else since */
	owner_probe(n, p, probe);
	for (i = 0; i < s->nadopted; i++)
		owner_claim(n, p, &s->adopted[i]);
}

static void
handle_signal(struct node *n, struct peer *p, unsigned link, const struct signal *s)
{
	unsigned	 i;

	if (s->dst.id != n->id || s->dst.epoch != n->conf.epoch) {
		/* meant for another node, or for us before we restarted */
		reject(n, link, REJ_NOT_FOR_US, p->name);
		return;
	}
	p->signals++;
	note_alive(n, p, link);
	p->confirmed = true;
	if (s->has_probe)
		handle_probe(n, p, link, s, !s->has_report || s->report.stamp > p->stamp);
	if (s->has_restart)
		recv_restart(p->recv, s->restart);
	if (s->has_req)
		feed_request(n->feed, p->index, &s->req, n->now_us);
	for (i = 0; i < s->nacks; i++)
		feed_ack(n->feed, p->index, &s->acks[i], n->now_us);
	if (s->has_check)
		feed_check(n->feed, p->index, &s->check);
	if (s->has_mend)
		feed_mend(n->feed, p->index, &s->mend);
	if (s->has_report && s->report.stamp > p->stamp) {
		p->report = s->report;
		p->report_us = n->now_us;
		p->stamp = s->report.stamp;
		p->stamp_new = true;
	}
}

/* --- datagrams ------------------------------------------------------------------------- */

static enum node_reject
open_error(ssize_t rc)
{
	switch (rc) {
	case -EALREADY:
		return REJ_REPLAY;
	case -ENOKEY:
		return REJ_UNKNOWN_KEY;
	case -EAGAIN:
		return REJ_RATE;
	case -EBADMSG:
		return REJ_BAD_TAG;
	default:
		return REJ_MALFORMED;
	}
}

static void
frame_in(struct node *n, struct peer *p, unsigned link, uint32_t stream, size_t len)
{
	bool	 before = recv_refused(p->recv);

	if (recv_frame(p->recv, stream, n->in, len, n->now_us) < 0)
		reject(n, link, REJ_MALFORMED, p->name);
	if (!before && recv_refused(p->recv))
		log_msg(LOG_WARNING, "%s sends flows that only a newer version understands: they are left "
		    "out, and this node is not ready for it; upgrade it", p->name);
}

static void
data_in(struct node *n, struct peer *p, unsigned link, const struct seal_header *sh, size_t len)
{
	struct signal	 s;

	if (sh->stream != 0) {
		note_alive(n, p, link);
		frame_in(n, p, link, sh->stream, len);
	} else if (parse_signal(&s, n->in, len))
		handle_signal(n, p, link, &s);
	else
		reject(n, link, REJ_MALFORMED, p->name);
}

static void
hello_in(struct node *n, struct peer *p, unsigned link, const struct seal_header *sh, size_t len)
{
	struct hello	 h;
	uint64_t	 id;
	char		 name[WIRE_NODE_MAX + 1];

	if (!parse_hello(&h, n->in, len)) {
		reject(n, link, REJ_MALFORMED, p->name);
		return;
	}
	memcpy(name, h.name, h.name_len);
	name[h.name_len] = '\0';
	if (seal_node_id(n->conf.cluster, name, &id) < 0 || id != p->id) {
		reject(n, link, REJ_MALFORMED, p->name);
		return;
	}
	handle_hello(n, p, link, sh, &h);
}

static struct peer *
find_peer(struct node *n, uint64_t id)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].id == id)
			return &n->peers[i];
	return NULL;
}

/* The checks that need no cryptography; NULL if the datagram is refused. */
static struct peer *
admit(struct node *n, unsigned link, const uint8_t *buf, size_t len, struct seal_header *sh)
{
	struct peer	*p;
	int		 rc;

	if ((rc = seal_header_parse(buf, len, sh)) < 0) {
		reject(n, link, rc == -EPROTONOSUPPORT ? REJ_VERSION : REJ_MALFORMED, NULL);
		return NULL;
	}
	if (sh->cluster_tag != n->cluster_tag) {
		reject(n, link, REJ_CLUSTER, NULL);
		return NULL;
	}
	if (sh->sender_id == n->id) {
		reject(n, link, REJ_OWN_NAME, NULL);
		return NULL;
	}
	if ((p = find_peer(n, sh->sender_id)) == NULL) {
		reject(n, link, REJ_UNKNOWN_NODE, NULL);
		return NULL;
	}
	if (sh->epoch == p->epoch && p->rx != NULL)
		return p;
	if (sh->type != SEAL_HELLO) {
		/* the rest of an epoch that has just ended is nothing to worry about */
		n->rejected[is_retired(p, sh->epoch) ? REJ_RETIRED_EPOCH : REJ_UNKNOWN_EPOCH]++;
		n->link_rejected[link]++;
		return NULL;
	}
	if (sh->epoch == 0 || is_retired(p, sh->epoch)) {
		reject(n, link, REJ_RETIRED_EPOCH, p->name);
		return NULL;
	}
	if (!take_token(&p->open, n->now_us, OPEN_RATE, OPEN_BURST)) {
		reject(n, link, REJ_RATE, p->name);
		return NULL;
	}
	return p;
}

void
node_datagram(struct node *n, unsigned link, const uint8_t *buf, size_t len, uint64_t now_us)
{
	struct seal_header	 sh;
	struct peer		*p;
	ssize_t			 rc;

	n->now_us = now_us;
	if (link >= n->conf.nlinks || (p = admit(n, link, buf, len, &sh)) == NULL)
		return;
	if (sh.epoch == p->epoch && p->rx != NULL)
		rc = seal_rx_open(p->rx, now_us / 1000, &sh, buf, len, n->in, sizeof(n->in));
	else
		rc = seal_open_once(n->ring, &sh, buf, len, n->in, sizeof(n->in));
	if (rc < 0) {
		reject_peer(n, p, link, open_error(rc));
		return;
	}
	if (sh.type == SEAL_HELLO)
		hello_in(n, p, link, &sh, (size_t)rc);
	else
		data_in(n, p, link, &sh, (size_t)rc);
}

/* --- timers ----------------------------------------------------------------------------- */

static uint64_t
hello_every(const struct node *n, const struct peer *p)
{
	/* quickly while young or while a session is half made, slowly to who is gone */
	if (n->now_us - n->born_us < 10000000 || (p->epoch != 0 && !p->confirmed))
		return HELLO_FAST_US;
	return HELLO_SLOW_US;
}

static void
notice_loss(struct node *n, struct peer *p)
{
	if (p->lost || p->rx_us == 0 || n->now_us - p->rx_us < PEER_LOST_US)
		return;
	p->lost = true;
	p->active = false;
	p->equal_at_loss = recv_was_equal(p->recv) &&
	    recv_verified_us(p->recv) + EQUAL_AT_LOSS_US >= p->rx_us;
	log_msg(LOG_WARNING, "%s is silent for %u ms: lost; its %u flows are kept%s", p->name,
	    PEER_LOST_US / 1000, ftab_count(recv_table(p->recv)),
	    p->equal_at_loss ? ", equal to what it had" : ", NOT verified to be equal");
}

void
sess_run(struct node *n, struct peer *p)
{
	notice_loss(n, p);
	if (p->lost && !p->forgotten && n->now_us - p->rx_us >= FORGET_US) {
		p->forgotten = true;
		feed_forget(n->feed, p->index);
		log_msg(LOG_NOTICE, "%s is gone for long: nothing is kept for it any more; it will get a "
		    "full synchronisation", p->name);
	}
	if (sess_up(n, p))
		recv_silence(p->recv, n->now_us);
	if (!sess_up(n, p) && n->now_us - p->hello_us >= hello_every(n, p))
		greet_on_all(n, p);
	if (p->epoch == 0)
		return;
	if (n->now_us - p->signal_us >= SIGNAL_US)
		sess_signal(n, p, true);
	else if (recv_ack_due_us(p->recv) <= n->now_us || p->restart != 0)
		sess_signal(n, p, false);
}

uint64_t
sess_due(const struct node *n, const struct peer *p)
{
	uint64_t	 due = UINT64_MAX, t;

	if (!sess_up(n, p))
		due = p->hello_us + hello_every(n, p);
	if (p->epoch == 0)
		return due;
	t = p->signal_us + SIGNAL_US;
	if (t < due)
		due = t;
	t = recv_ack_due_us(p->recv);
	return t < due ? t : due;
}
