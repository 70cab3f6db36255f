/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hellos: who is there, and in which epoch (doc/wire.md, section 4).
 *
 * An epoch is accepted only by a hello that echoes our challenge.  Until then a
 * hello costs no state, but for a small cache of epochs that were answered.
 * Answers go to configured addresses only.
 */
#include <string.h>

#include "ownership.h"
#include "session_priv.h"

#define OPEN_RATE	20000u		/* hellos of unknown epochs opened a second: 4 % of a CPU */
#define OPEN_BURST	2000u
#define REPLY_RATE	20u
#define REPLY_BURST	40u
#define LEASE_US	120000000	/* for the flows of a node that has rebooted */

/* Take a token; rate a second, at most burst saved up. */
static bool
take_token(struct rate_limit *b, uint64_t now_us, uint32_t rate, uint32_t burst)
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
make_challenge(const struct node *n, const struct session *s, uint64_t epoch, uint64_t slot,
    uint8_t out[WIRE_CHALLENGE_BYTES])
{
	return seal_challenge(n->conf.boot_key, s->id ^ s->epoch, epoch, slot, out) == 0;
}

/*
 * Greet a peer over a link.  to_epoch: its epoch as far as we know (0: not);
 * echo: its challenge, or NULL.
 */
static void
send_hello(struct node *n, struct session *s, unsigned link, uint64_t to_epoch, const uint8_t *echo)
{
	uint8_t			 plain[WIRE_HELLO_BYTES], challenge[WIRE_CHALLENGE_BYTES];
	struct wire_versions	 v = { WIRE_VERSION_MIN, WIRE_VERSION_MAX,
				    1u << SEAL_AES256GCM | 1u << SEAL_CHACHA20 };
	struct wire_dst		 dst = { s->id, to_epoch };
	struct wbuf		 w;
	uint8_t			*pad;
	size_t			 room;

	wbuf_init(&w, plain, sizeof(plain));
	wire_put_versions(&w, &v);
	wire_put_bytes(&w, WIRE_NAME, n->name, strlen(n->name));
	wire_put_dst(&w, &dst);
	if (to_epoch != 0 && make_challenge(n, s, to_epoch,
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
	gate_send(n, s->peer, link, SEAL_HELLO, 0, &w);
}

void
session_greet(struct node *n, struct session *s)
{
	unsigned	 i;

	s->hello_us = n->now_us;
	for (i = 0; i < n->conf.nlinks; i++)
		if (n->ops->link.usable(n->ctx, i, s->peer))
			send_hello(n, s, i, s->epoch, NULL);
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
may_reply(struct node *n, struct session *s, const struct seal_header *sh)
{
	struct hello_answered	*g, *oldest = &s->answered[0];
	unsigned	 i;

	for (i = 0; i < SESSION_REPLAYED_MAX; i++) {
		g = &s->answered[i];
		if (g->epoch == sh->epoch) {
			if (sh->counter <= g->counter)
				return false;
			g->counter = sh->counter;
			g->at_us = n->now_us;
			return take_token(&s->reply_limit, n->now_us, REPLY_RATE, REPLY_BURST);
		}
		if (g->at_us < oldest->at_us)
			oldest = g;
	}
	oldest->epoch = sh->epoch;
	oldest->counter = sh->counter;
	oldest->at_us = n->now_us;
	return take_token(&s->reply_limit, n->now_us, REPLY_RATE, REPLY_BURST);
}

static void
retire(struct session *s)
{
	if (s->epoch == 0)
		return;
	s->retired[s->nretired++ % SESSION_RETIRED_MAX] = s->epoch;
}

bool
session_retired(const struct session *s, uint64_t epoch)
{
	unsigned	 i;

	for (i = 0; i < SESSION_RETIRED_MAX && i < s->nretired; i++)
		if (s->retired[i] == epoch)
			return true;
	return false;
}

static bool
echo_is_ours(const struct node *n, const struct session *s, const struct seal_header *sh,
    const struct hello *h)
{
	return h->has_echo && seal_challenge_check(n->conf.boot_key, s->id ^ s->epoch, sh->epoch,
	    seal_challenge_slot(n->now_us / 1000), h->echo);
}

/* The peer lives in a new epoch: everything of the old one is void but its flows. */
static bool
accept_epoch(struct node *n, struct session *s, const struct seal_header *sh, const struct hello *h)
{
	struct seal_rx	*rx;
	bool		 rebooted;

	if (seal_rx_new(&rx, gate_ring(n), s->id, sh->epoch, sh->counter, n->now_us / 1000) < 0)
		return false;
	seal_rx_free(s->rx);
	retire(s);
	s->rx = rx;
	s->epoch = sh->epoch;
	s->accepted++;
	s->confirmed = false;
	s->stamp = 0;
	s->report_us = 0;
	s->restart = 0;
	s->equal_at_loss = false;
	rebooted = s->accepted > 1 && (s->boot.netns != h->boot.netns ||
	    memcmp(s->boot.boot_id, h->boot.boot_id, sizeof(s->boot.boot_id)) != 0);
	if (rebooted) {
		log_msg(LOG_NOTICE, "%s has rebooted: its former %u flows are kept for %u s", s->name,
		    ftab_count(recv_table(n->recv[s->peer])), LEASE_US / 1000000);
		recv_lease(n->recv[s->peer], n->now_us + LEASE_US);
	}
	s->boot = h->boot;
	feed_new_epoch(n->feed, s->peer);
	recv_epoch(n->recv[s->peer], s->epoch, &h->digest_key);
	ownership_new_epoch(n, s->peer, rebooted);
	session_move(n, s, SESSION_EV_EPOCH);
	return true;
}

static void
handle_hello(struct node *n, struct session *s, unsigned link, const struct seal_header *sh,
    const struct hello *h)
{
	bool	 known = sh->epoch == s->epoch;

	s->hellos++;
	if (h->dst.id != n->id) {
		gate_reject(n, link, REJ_NOT_FOR_US, s->name);
		return;
	}
	if (h->versions.min > WIRE_VERSION_MAX || h->versions.max < WIRE_VERSION_MIN ||
	    !(h->versions.suites & 1u << n->conf.suite)) {
		s->refused_us = n->now_us;
		s->refused_why = REJ_VERSION;
		gate_count(n, link, REJ_VERSION);
		log_limited(&s->log, LOG_ERR, "%s speaks versions %u to %u and suites %#x: none that "
		    "we speak as well; bring both nodes to the same release", s->name,
		    h->versions.min, h->versions.max, h->versions.suites);
		return;
	}
	if (!known && echo_is_ours(n, s, sh, h))
		known = accept_epoch(n, s, sh, h);
	if (known)
		session_note_alive(n, s, link);
	/* a peer that has accepted us needs no more of this */
	if (!(known && s->confirmed) && may_reply(n, s, sh))
		send_hello(n, s, link, sh->epoch, h->has_challenge ? h->challenge : NULL);
	if (known && !s->confirmed)
		session_signal(n, s, true);
}

void
session_hello_in(struct node *n, struct session *s, unsigned link, const struct seal_header *sh,
    const uint8_t *p, size_t len)
{
	struct hello	 h;
	uint64_t	 id;
	char		 name[WIRE_NODE_MAX + 1];

	if (!parse_hello(&h, p, len)) {
		gate_reject(n, link, REJ_MALFORMED, s->name);
		return;
	}
	memcpy(name, h.name, h.name_len);
	name[h.name_len] = '\0';
	if (seal_node_id(n->conf.cluster, name, &id) < 0 || id != s->id) {
		gate_reject(n, link, REJ_MALFORMED, s->name);
		return;
	}
	handle_hello(n, s, link, sh, &h);
}

bool
session_may_open(struct node *n, struct session *s)
{
	return take_token(&s->open_limit, n->now_us, OPEN_RATE, OPEN_BURST);
}
