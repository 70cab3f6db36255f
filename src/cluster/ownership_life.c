/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lives and ends (doc/wire.md, section 8.1): which of two entries is the
 * younger one, and whether a flow is known to have ended here.
 */
#include <netinet/in.h>
#include <string.h>

#include "ownership_priv.h"
#include "session.h"
#include "takeover.h"

#define ENDS_US		300000000u	/* ends are remembered for once to twice as long */
#define ENDS_MAX	500000u		/* in that time; more are marked, but not remembered */
/* What a lost peer holds is taken again for so long when it lapses here. */
#define LOST_US		900000000u

/* --- lives ---------------------------------------------------------------------- */

static bool
same_reply(const struct flow *a, const struct flow *b)
{
	return memcmp(&a->reply, &b->reply, sizeof(a->reply)) == 0;
}

enum life
ownership_compare(const struct flow *theirs, const struct flow *ours)
{
	if (theirs->expect)
		return LIFE_SAME;
	if (theirs->born != 0 && ours->born != 0 && theirs->born != ours->born)
		return (int32_t)(theirs->born - ours->born) > 0 ? LIFE_YOUNGER : LIFE_OLDER;
	return same_reply(theirs, ours) ? LIFE_SAME : LIFE_OTHER;
}

static bool
load(const struct node *n, unsigned peer, uint32_t h, struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	return flow_unpack(body, len, f) == 0;
}

/* Does the entry of peer a count more than that of peer b? */
static bool
beats(const struct node *n, unsigned a, const struct flow *fa, unsigned b, const struct flow *fb)
{
	uint32_t	 ta = n->ownership->peers[a].term, tb = n->ownership->peers[b].term;

	switch (ownership_compare(fa, fb)) {
	case LIFE_YOUNGER:
		return true;
	case LIFE_OLDER:
		return false;
	default:
		return ta != tb ? ta > tb : session_id(n->session[a]) < session_id(n->session[b]);
	}
}

/*
 * Births that are not known make the comparison of three entries go in circles;
 * one after the other has a winner all the same.
 */
bool
ownership_outranked(struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	struct flow	 best, other;
	unsigned	 i, winner = NODE_PEERS_MAX;
	uint32_t	 h;

	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &other) ||
		    ownership_ended(n, i, h, &other))
			continue;
		if (winner != NODE_PEERS_MAX && !beats(n, i, &other, winner, &best))
			continue;
		winner = i;
		best = other;
	}
	return winner != NODE_PEERS_MAX && winner != peer;
}

/* --- ends --------------------------------------------------------------------------- */

/* Has the flow said goodbye?  Then that nobody holds it for long is no silence. */
static bool
closing(const struct flow *f)
{
	if (f->proto == IPPROTO_TCP)
		return f->tcp_state >= FLOW_TCP_FIN_WAIT && f->tcp_state <= FLOW_TCP_CLOSE;
	if (f->proto == IPPROTO_SCTP)
		return f->rare.sctp_state == FLOW_SCTP_CLOSED ||
		    (f->rare.sctp_state >= FLOW_SCTP_SHUTDOWN_SENT &&
		    f->rare.sctp_state <= FLOW_SCTP_SHUTDOWN_ACK_SENT);
	return false;
}

/* A life: its key with its birth; of one whose birth is not known, with the reply tuple. */
static uint64_t
life_hash(const struct node *n, const uint8_t *key, size_t klen, const struct flow *f, bool by_birth)
{
	uint8_t	 b[FLOW_KEY_MAX + sizeof(f->reply)];

	memcpy(b, key, klen);
	if (by_birth) {
		memcpy(b + klen, &f->born, sizeof(f->born));
		return siphash13(&n->conf.table_key, b, klen + sizeof(f->born));
	}
	memcpy(b + klen, &f->reply, sizeof(f->reply));
	return siphash13(&n->conf.table_key, b, klen + sizeof(f->reply));
}

void
ends_forget(struct ownership *o)
{
	u64set_clear(&o->ends[0]);
	u64set_clear(&o->ends[1]);
}

void
ends_run(struct ownership *o, uint64_t now_us)
{
	if (now_us - o->ends_at_us < ENDS_US)
		return;
	o->ends_at_us = now_us;
	u64set_clear(&o->ends[1]);
	o->ends[1] = o->ends[0];
	memset(&o->ends[0], 0, sizeof(o->ends[0]));
}

/* What cannot be remembered comes back as an unused copy at worst. */
static void
remember(struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	struct u64set	*s = &n->ownership->ends[0];

	if (s->count >= ENDS_MAX)
		return;
	(void)u64set_add(s, life_hash(n, key, klen, f, false));
	if (f->born != 0)
		(void)u64set_add(s, life_hash(n, key, klen, f, true));
}

static bool
remembered(const struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	const struct u64set	*s = n->ownership->ends;
	uint64_t		 hash;

	if (s[0].count + s[1].count == 0)
		return false;
	hash = life_hash(n, key, klen, f, f->born != 0);
	return u64set_has(&s[0], hash) || u64set_has(&s[1], hash);
}

static void
mark(struct node *n, unsigned peer, uint32_t h)
{
	struct ftab_meta	*m = ftab_meta(recv_table(n->recv[peer]), h);

	if (m->flags & REMOTE_ENDED)
		return;
	m->flags |= REMOTE_ENDED;
	n->ownership->peers[peer].ended++;
}

bool
ownership_marked(const struct node *n, unsigned peer, uint32_t h)
{
	return !n->ownership->peers[peer].unmarking &&
	    (ftab_meta(recv_table(n->recv[peer]), h)->flags & REMOTE_ENDED);
}

bool
ownership_ended(struct node *n, unsigned peer, uint32_t h, const struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	if (ownership_marked(n, peer, h))
		return true;
	if (!ownership_active(n) || n->ownership->peers[peer].active ||
	    n->ownership->peers[peer].unmarking)
		return false;
	body = ftab_body(recv_table(n->recv[peer]), h, &len);
	if (!remembered(n, body, flow_key_len(body, len), f))
		return false;
	mark(n, peer, h);
	return true;
}

/* Does another active node hold that life, or a younger one? */
static bool
carried_elsewhere(const struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	struct flow	 theirs;
	enum life	 life;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		if (!n->ownership->peers[i].active ||
		    (h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs))
			continue;
		life = ownership_compare(&theirs, f);
		if (life == LIFE_SAME || life == LIFE_YOUNGER)
			return true;
	}
	return false;
}

/* Nobody has seen the flow end: who holds it by more than a copy is taken from again. */
static void
lapsed(struct node *n, const uint8_t *key, size_t klen, const struct flow *f)
{
	struct flow	 theirs;
	uint32_t	 h;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		if (n->now_us - session_heard_us(n->session[i]) > LOST_US ||
		    (h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs) ||
		    theirs.copy || ownership_compare(&theirs, f) == LIFE_OLDER)
			continue;
		takeover_follow(n, i, h);
	}
}

static bool
may_be_told_again(const struct node *n)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (!session_up(n, n->session[i]) || recv_state(n->recv[i]) != RECV_COMPARING)
			return true;
	return false;
}

void
ownership_end(void *ctx, const uint8_t *key, size_t klen, const struct flow *f,
    enum local_end how, uint64_t at_us)
{
	struct node	*n = ctx;
	struct flow	 theirs;
	bool		 marked = false;
	enum life	 life;
	uint32_t	 h;
	unsigned	 i;

	/* an expectation ends with its master, soon by itself, or when what it expects comes */
	if (n->ownership == NULL || !ownership_active(n) || f->expect)
		return;
	/* what may have ended before the takeover was a leftover that nobody used */
	if (how == LOCAL_END_UNUSED || at_us < n->ownership->active_us ||
	    (how == LOCAL_END_USED && !closing(f) && carried_elsewhere(n, key, klen, f))) {
		lapsed(n, key, klen, f);
		return;
	}
	for (i = 0; i < n->npeers; i++) {
		if ((h = cluster_find(n, i, key, klen)) == FTAB_NIL || !load(n, i, h, &theirs))
			continue;
		life = ownership_compare(&theirs, f);
		if (life != LIFE_SAME && life != LIFE_OLDER)
			continue;
		mark(n, i, h);
		marked = true;
	}
	if (marked || may_be_told_again(n))
		remember(n, key, klen, f);
}
