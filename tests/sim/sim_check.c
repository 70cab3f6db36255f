/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What has to be true in sim_node.
 *
 * Claims: who says that it is in sync with a node, by a proof as of time P,
 * holds of each flow a state that the kernel of that node had at P or later.
 * Lives: what it once held by such a proof does not go away as long as that
 * kernel has the flow without interruption, nor for the time of the lease when
 * the node reboots.  Memory: all within the limits.
 */
#include <string.h>

#include "sim.h"

#define CHECK_US	(100 * MS)	/* what is claimed is looked at that often */

static uint32_t
find(const struct vnode *v, const struct ftab *t, const struct kflow *k, unsigned slot)
{
	return ftab_find(t, v->hash[slot], k->body, k->klen);
}

/* What v holds of node o for that slot; false: nothing. */
static bool
load(const struct vnode *v, unsigned o, unsigned slot, struct flow *f)
{
	struct ftab	*t = recv_table(v->recv[o]);
	uint32_t	 h = find(v, t, &v->w->v[o].kernel[slot], slot);
	const uint8_t	*body;
	size_t		 len;

	if (h == FTAB_NIL)
		return false;
	body = ftab_body(t, h, &len);
	return flow_unpack(body, len, f) == 0;
}

uint32_t
check_life(const struct vnode *v, unsigned o, unsigned slot)
{
	struct flow	 f;

	return load(v, o, slot, &f) ? f.mark >> 8 : 0;
}

bool
check_unused(const struct vnode *v, unsigned o, unsigned slot)
{
	struct flow	 f;

	return load(v, o, slot, &f) && f.copy;
}

static bool
is_found(struct ftab *t, uint32_t h)
{
	const uint8_t	*body;
	struct flow	 f;
	size_t		 len;

	if (h == FTAB_NIL)
		return false;
	body = ftab_body(t, h, &len);
	return flow_unpack(body, len, &f) == 0 && f.found;
}

bool
check_found(const struct world *w, unsigned slot)
{
	const struct vnode	*v;
	const struct kflow	*k;
	unsigned		 i, o;

	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		k = &v->kernel[slot];
		if (v->node == NULL)
			continue;
		if (is_found(feed_table(node_feed(v->node)),
		    find(v, feed_table(node_feed(v->node)), k, slot)))
			return true;
		for (o = 0; o < w->n; o++)
			if (o != i && is_found(recv_table(v->recv[o]), find(v, recv_table(v->recv[o]), k, slot)))
				return true;
	}
	return false;
}

bool
check_ended(const struct world *w, unsigned slot, uint32_t life)
{
	const struct vnode	*v;
	struct flow		 f;
	unsigned		 i, o;
	uint32_t		 h;

	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		for (o = 0; o < w->n && v->node != NULL; o++) {
			if (o == i || check_life(v, o, slot) != life)
				continue;
			h = find(v, recv_table(v->recv[o]), &w->v[o].kernel[slot], slot);
			if (h != FTAB_NIL && load(v, o, slot, &f) && (f.found || w->clocks) &&
			    node_ended(v->node, sim_peer(v, o), h))
				return true;
		}
	}
	return false;
}

void
check_start(struct vnode *v)
{
	struct node_peer_info	 info;
	struct ftab		*t;
	unsigned		 i, s;

	memset(v->held, 0, sizeof(v->held));
	memset(v->seen, 0xff, sizeof(v->seen));
	memset(v->seen_us, 0, sizeof(v->seen_us));
	memset(v->stream, 0, sizeof(v->stream));
	memset(v->behind, 0, sizeof(v->behind));
	for (i = 0; i < v->w->n; i++)
		if (i != v->i) {
			node_peer(v->node, sim_peer(v, i), v->w->now_us, &info);
			v->recv[i] = info.recv;
		}
	t = recv_table(info.recv);	/* all remote tables of a node have one key */
	for (s = 0; s < SLOTS; s++)
		v->hash[s] = ftab_hash(t, v->kernel[s].body, v->kernel[s].klen);
}

void
check_reboot(struct vnode *o)
{
	struct world	*w = o->w;
	struct held	*h;
	unsigned	 i, s;

	for (i = 0; i < w->n; i++) {
		if (i == o->i || w->v[i].node == NULL)
			continue;
		w->v[i].behind[o->i] = true;
		for (s = 0; s < SLOTS; s++) {
			h = &w->v[i].held[o->i][s];
			h->lease_us = 0;
			if (h->life_us != 0 && vk_passes(&o->kernel[s].s) &&
			    h->life == o->kernel[s].s.mark >> 8 && h->life_us == o->kernel[s].life_us)
				h->lease_us = w->now_us + LEASE_US;
			h->life_us = 0;
		}
	}
}

void
check_dropped(struct vnode *v, unsigned o)
{
	memset(v->held[o], 0, sizeof(v->held[o]));
}

void
check_flushed(struct vnode *v)
{
	unsigned	 i;

	v->flushed_us = v->w->now_us;
	for (i = 0; i < v->w->n; i++)
		check_dropped(&v->w->v[i], v->i);
}

/* Is that body just what a kernel has in that state?  The incarnation aside. */
static bool
matches(const struct flow *f, const struct kstate *s)
{
	bool	 nat = f->status & FLOW_S_SRC_NAT;

	return vk_passes(s) && f->mark == s->mark && f->tcp_state == s->tcp_state &&
	    nat == (s->port != 0) && (!nat || f->reply.l4dst == s->port) &&
	    !(f->status & FLOW_S_SEEN_REPLY) == !s->replied &&
	    !(f->status & FLOW_S_ASSURED) == !s->assured && (f->master_proto != 0) == s->related;
}

/* The body of a copy, without what no kernel knows: its incarnation, its birth, whether it is in use. */
static bool
same_body(const struct kflow *k, const uint8_t *body, size_t len)
{
	uint8_t		 packed[FLOW_BODY_MAX];
	struct flow	 f;

	if (flow_unpack(body, len, &f) < 0)
		return false;
	f.born = 0;
	f.found = f.copy = f.stray = false;
	f.incarnation = k->body[k->klen];
	len = flow_pack(&f, packed, sizeof(packed));
	return len == k->len && memcmp(packed, k->body, len) == 0;
}

/*
 * Was that (NULL: nothing) the state of the flow at that time or later?  True
 * as well if nobody remembers so far back.
 */
static bool
was_since(const struct kflow *k, const struct flow *f, uint64_t since_us)
{
	unsigned	 i, n = k->nold < HISTORY ? k->nold : HISTORY;

	if (f == NULL ? !vk_passes(&k->s) : matches(f, &k->s))
		return true;
	for (i = 1; i <= n; i++) {
		if (k->old[(k->nold - i) % HISTORY].until_us < since_us)
			return false;
		if (f == NULL ? !vk_passes(&k->old[(k->nold - i) % HISTORY].s) :
		    matches(f, &k->old[(k->nold - i) % HISTORY].s))
			return true;
	}
	return n == HISTORY;
}

static bool
claim_holds(const struct vnode *v, const struct vnode *o, const struct recv *r, unsigned s)
{
	const struct kflow	*k = &o->kernel[s];
	struct ftab		*t = recv_table(r);
	uint32_t		 h = find(v, t, k, s);
	uint64_t		 proof = recv_verified_us(r);
	const uint8_t		*body;
	struct flow		 f;
	size_t			 len;

	if (h == FTAB_NIL)
		return was_since(k, NULL, proof);
	body = ftab_body(t, h, &len);
	if (vk_passes(&k->s) && same_body(k, body, len))
		return true;
	/* the daemon has written it since: it has to ask what came out of that */
	if (k->written_us >= proof)
		return true;
	if (flow_unpack(body, len, &f) < 0)
		return false;
	/* it may be of a generation that waits for its sweep: then it does not count */
	return was_since(k, &f, proof) ||
	    (recv_digest(r).flows != ftab_count(t) && was_since(k, NULL, proof));
}

static void
say_state(const struct world *w, const char *what, const struct kstate *s, uint64_t until_us)
{
	sim_say(w, "  %s: %s mark %x (life %u), tcp %u, port %u%s%s, until %llu us", what,
	    s->there ? "there" : "gone", s->mark, s->mark >> 8, s->tcp_state, s->port,
	    s->replied ? ", replied" : "", s->assured ? ", assured" : "", (unsigned long long)until_us);
}

/* For the log: the copy that v has of a flow, and what the kernel had. */
static void
say_flow(const struct vnode *v, const struct vnode *o, const struct recv *r, unsigned slot)
{
	const struct kflow	*k = &o->kernel[slot];
	struct ftab		*t = recv_table(r);
	uint32_t		 h = find(v, t, k, slot);
	const uint8_t		*body;
	struct flow		 f;
	size_t			 len;
	unsigned		 i;

	sim_say(v->w, "node %u's copy of node %u, slot %u; proof as of %llu us", v->i, o->i, slot,
	    (unsigned long long)recv_verified_us(r));
	if (h == FTAB_NIL)
		sim_say(v->w, "  it holds nothing");
	else {
		body = ftab_body(t, h, &len);
		if (flow_unpack(body, len, &f) == 0)
			sim_say(v->w, "  it holds mark %x, tcp %u, port %u, status %x, generation %u", f.mark,
			    f.tcp_state, f.reply.l4dst, f.status, ftab_meta(t, h)->gen);
	}
	say_state(v->w, "the kernel now", &k->s, v->w->now_us);
	for (i = 1; i <= k->nold && i <= HISTORY; i++)
		say_state(v->w, "before", &k->old[(k->nold - i) % HISTORY].s,
		    k->old[(k->nold - i) % HISTORY].until_us);
}

void
check_say_copy(const struct vnode *v, unsigned o, unsigned slot)
{
	struct ftab	*t = recv_table(v->recv[o]);
	uint32_t	 h = find(v, t, &v->w->v[o].kernel[slot], slot);
	const uint8_t	*body;
	struct flow	 f;
	size_t		 len;

	if (h == FTAB_NIL)
		return;
	body = ftab_body(t, h, &len);
	if (flow_unpack(body, len, &f) == 0)
		sim_say(v->w, "  node %u's copy of node %u: life %u, port %u, %s at %llu%s%s", v->i, o,
		    f.mark >> 8, f.status & FLOW_S_SRC_NAT ? f.reply.l4dst : 0u,
		    f.found ? "found" : "born", (unsigned long long)f.born,
		    f.copy ? ", not used" : "", node_ended(v->node, sim_peer(v, o), h) ? ", ended here" : "");
}

static void
check_claims(struct vnode *v, const struct vnode *o, const struct recv *r)
{
	unsigned	 s;

	for (s = 0; s < SLOTS; s++)
		if (!claim_holds(v, o, r, s)) {
			say_flow(v, o, r, s);
			sim_bad(v->w, "claimed to be in sync while different");
			return;
		}
}

/* Take down what is held and proven, and see that what was taken down is there. */
static void
check_lives(struct vnode *v, const struct vnode *o, const struct recv *r, bool claims)
{
	struct held		*h;
	const struct kflow	*k;
	unsigned		 s;
	bool			 there;

	for (s = 0; s < SLOTS; s++) {
		h = &v->held[o->i][s];
		k = &o->kernel[s];
		if (h->life_us != 0 && !(vk_passes(&k->s) && k->s.mark >> 8 == h->life &&
		    k->life_us == h->life_us))
			h->life_us = 0;
		/* what the new boot has had itself is told like anything else */
		if (h->lease_us < v->w->now_us || k->life_us > h->lease_us - LEASE_US)
			h->lease_us = 0;
		if (h->life_us == 0 && h->lease_us == 0 && !claims)
			continue;
		there = find(v, recv_table(r), k, s) != FTAB_NIL;
		if (!there && h->life_us != 0) {
			say_flow(v, o, r, s);
			sim_bad(v->w, "a flow that lives has gone from a copy");
		}
		if (!there && h->lease_us != 0) {
			say_flow(v, o, r, s);
			sim_bad(v->w, "a flow of a node that has rebooted was given up too soon");
		}
		if (claims && there && vk_passes(&k->s) && recv_verified_us(r) > k->life_us &&
		    recv_verified_us(r) > o->flushed_us) {
			h->life = k->s.mark >> 8;
			h->life_us = k->life_us;
		}
	}
}

/* For the log: where v stands with the stream of o. */
static void
say_stream(struct vnode *v, const struct vnode *o, const struct recv *r)
{
	static const char *const	 states[] = { "no stream", "synchronises", "compares" };
	uint32_t			 is = recv_stream(r) * 4 + recv_state(r);

	if (is == v->stream[o->i])
		return;
	v->stream[o->i] = is;
	sim_say(v->w, "node %u: %s with node %u (stream %u)", v->i, states[recv_state(r)], o->i,
	    recv_stream(r));
}

static void
check_pair(struct vnode *v, const struct vnode *o)
{
	const struct recv	*r = v->recv[o->i];
	const struct recv_stats	*st = recv_stats(r);
	struct node_peer_info	 info;
	uint64_t		 seen = st->frames + st->swept + st->generations;

	say_stream(v, o, r);
	/* a copy changes with these only; what is claimed may change without */
	if (seen == v->seen[o->i] && v->w->now_us - v->seen_us[o->i] < CHECK_US)
		return;
	v->seen[o->i] = seen;
	v->seen_us[o->i] = v->w->now_us;
	node_peer(v->node, sim_peer(v, o->i), v->w->now_us, &info);
	if (info.in_sync)
		check_claims(v, o, r);
	if (!v->w->small)
		check_lives(v, o, r, info.in_sync);
	if (st->differed > 0)
		sim_bad(v->w, "a comparable digest differed");
	if (ftab_count(recv_table(r)) > ftab_limit(recv_table(r)))
		sim_bad(v->w, "a copy is larger than allowed");
}

static void
check_memory(struct vnode *v)
{
	struct feed	*f = node_feed(v->node);
	struct ftab	*t = feed_table(f);
	const struct feed_stats	*st = feed_stats(f);
	uint64_t	 streams = feed_bytes(f) - ftab_bytes(t);

	if (ftab_count(t) > ftab_limit(t) || feed_flows(f) + feed_tombs(f) != ftab_count(t))
		sim_bad(v->w, "the local table is larger than allowed");
	if (feed_tombs(f) > v->max_tombs)
		sim_bad(v->w, "there are more tombstones than allowed");
	/*
	 * A version is final only on emission: each was told, is to be told, or has
	 * died untold; a flow takes one more when it becomes assured.
	 */
	if (feed_version(f) > 64 + 2 * (st->records + st->unborn + st->forced_tombs + feed_unsent(f)))
		sim_bad(v->w, "versions are used up without telling anybody");
	/* two streams for each peer, and some chunks of an array */
	if (streams > (v->w->n - 1) * 2 * v->w->ring_bytes + (1u << 18))
		sim_bad(v->w, "there are more streams than allowed");
}

void
check_always(struct world *w)
{
	struct vnode	*v;
	unsigned	 i, k;

	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (!sim_runs(v))
			continue;
		for (k = 0; k < w->n; k++)
			if (i != k)
				check_pair(v, &w->v[k]);
		check_memory(v);
	}
}

static bool
differs(const struct vnode *v, const struct vnode *o, unsigned slot, const char *how)
{
	sim_say(v->w, "node %u's copy of node %u, slot %u: %s", v->i, o->i, slot, how);
	return false;
}

/* Does v's copy of the table of node o equal o's kernel?  If not, and if say is set, the log says why. */
static bool
equal(const struct vnode *v, const struct vnode *o, const struct recv *r, bool say)
{
	struct ftab	*t = recv_table(r);
	uint8_t		 key[FLOW_KEY_MAX];
	const uint8_t	*body;
	struct flow	 f;
	uint32_t	 h, n = 0;
	size_t		 len, klen;
	unsigned	 s;

	for (s = 0; s < SLOTS; s++) {
		if (!vk_passes(&o->kernel[s].s))
			continue;
		n++;
		if ((h = find(v, t, &o->kernel[s], s)) == FTAB_NIL)
			return say ? differs(v, o, s, "lacks the flow") : false;
		body = ftab_body(t, h, &len);
		if (!same_body(&o->kernel[s], body, len))
			return say ? differs(v, o, s, "has the flow otherwise") : false;
		if (!o->kernel[s].expects)
			continue;
		n++;
		vk_expectation(s, 0, &f);
		klen = flow_pack_key(&f, key);
		if (ftab_find(t, ftab_hash(t, key, klen), key, klen) == FTAB_NIL)
			return say ? differs(v, o, s, "lacks the expectation") : false;
	}
	if (recv_digest(r).flows == n && (n == ftab_count(t) || v->behind[o->i]))
		return true;
	for (h = say ? ftab_next(t, FTAB_NIL) : FTAB_NIL; h != FTAB_NIL; h = ftab_next(t, h)) {
		body = ftab_body(t, h, &len);
		if (flow_unpack(body, len, &f) < 0)
			continue;
		s = vk_slot(&f);
		if (!(f.expect ? o->kernel[s].expects : o->kernel[s].s.there))
			(void)differs(v, o, s, f.expect ? "has an expectation too many" : "has a flow too many");
	}
	return false;
}

bool
check_rest(struct world *w)
{
	struct node_peer_info	 info;
	char			 reason[NODE_REASON_MAX];
	unsigned		 i, k;
	bool			 somebody_died = false;

	for (i = 0; i < w->n; i++)
		somebody_died |= w->v[i].dead;
	for (i = 0; i < w->n; i++) {
		if (w->v[i].dead)
			continue;
		if (w->v[i].node == NULL)
			return false;
		/* who was not equal to a node when it died can only say so */
		if (!somebody_died && !node_ready(w->v[i].node, w->now_us, reason))
			return false;
		for (k = 0; k < w->n; k++) {
			if (i == k || w->v[k].dead)
				continue;
			node_peer(w->v[i].node, sim_peer(&w->v[i], k), w->now_us, &info);
			if (!info.in_sync || !equal(&w->v[i], &w->v[k], info.recv, false))
				return false;
		}
	}
	return true;
}

void
check_complain(struct world *w)
{
	struct node_peer_info	 info;
	unsigned		 i, k;

	for (i = 0; i < w->n; i++)
		for (k = 0; k < w->n; k++) {
			if (i == k || w->v[i].node == NULL || w->v[k].dead)
				continue;
			node_peer(w->v[i].node, sim_peer(&w->v[i], k), w->now_us, &info);
			sim_say(w, "node %u: of node %u it holds %u flows, %s, %s", i, k, info.flows,
			    equal(&w->v[i], &w->v[k], info.recv, true) ? "equal" : "not equal",
			    info.why != NULL ? info.why : "in sync");
		}
}
