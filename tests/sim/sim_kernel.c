/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The virtual kernel of a node of sim_node: a table of flows that packets
 * change and time ends, and events that tell of it (deltas, late, lost when
 * there is no room).  What the daemon asks for is in sim_kjob.c.
 *
 * As in Linux: no event tells that a timeout was refreshed or a packet counted.
 * Windows: the kernel knows those of a flow that it has seen from the beginning,
 * or of which WINDOW_PACKETS packets have passed here in a row.  If another node
 * has carried packets since, what it knows is stale, and a strict entry drops
 * all further packets.
 */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define LATE_US		4000u		/* from an event to its reader, at most */

/* --- flows ------------------------------------------------------------------------ */

bool
vk_is_tcp(unsigned slot)
{
	return slot % 2 == 0;
}

bool
vk_has_helper(const struct world *w, unsigned slot)
{
	return slot % 8 == 0 && !w->small;
}

static bool
is_related(const struct world *w, unsigned slot)
{
	return slot % 8 == 1 && vk_has_helper(w, slot - 1);
}

static void
orig_tuple(unsigned slot, struct flow_tuple *t)
{
	memset(t, 0, sizeof(*t));
	t->src.b[0] = 10;
	t->src.b[3] = (uint8_t)slot;
	t->dst.b[0] = 192;
	t->l4src = (uint16_t)(1000 + slot);
	t->l4dst = 80;
}

static uint8_t
family_of(unsigned slot)
{
	return slot % 8 < 2 || slot % 5 != 0 ? AF_INET : AF_INET6;
}

void
vk_expectation(unsigned slot, uint32_t id, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->expect = true;
	f->family = family_of(slot);
	f->proto = IPPROTO_UDP;
	f->orig.src.b[0] = 10;
	f->orig.dst.b[0] = 192;
	f->orig.l4dst = (uint16_t)(30000 + slot);
	f->master_proto = IPPROTO_TCP;
	orig_tuple(slot, &f->master);
	strcpy(f->helper, "sim");
	f->id = id;
	f->timeout_s = 300;
	f->has = FLOW_HAS_EXPECT | FLOW_HAS_HELPER | FLOW_HAS_MASTER | FLOW_HAS_ID | FLOW_HAS_TIMEOUT;
}

static void
to_flow(unsigned slot, const struct kstate *s, uint32_t id, uint32_t timeout_s, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->family = family_of(slot);
	f->proto = vk_is_tcp(slot) ? IPPROTO_TCP : IPPROTO_UDP;
	orig_tuple(slot, &f->orig);
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED | (s->replied ? FLOW_S_SEEN_REPLY : 0) |
	    (s->assured ? FLOW_S_ASSURED : 0);
	if (s->port != 0) {
		f->reply.l4dst = s->port;
		f->status |= FLOW_S_SRC_NAT | FLOW_S_SRC_NAT_DONE;
	}
	f->mark = s->mark;
	f->id = id;
	f->timeout_s = timeout_s;
	f->tcp_state = s->tcp_state;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_ID | FLOW_HAS_REPLY;
	if (f->proto == IPPROTO_TCP)
		f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
	f->has |= FLOW_HAS_WHOLE;
	if (slot % 8 == 0)
		strcpy(f->helper, "sim");
	if (s->related) {
		f->status |= FLOW_S_EXPECTED;
		f->master_proto = IPPROTO_TCP;
		orig_tuple(slot - 1, &f->master);
	}
}

unsigned
vk_slot(const struct flow *f)
{
	return f->expect ? f->orig.l4dst - 30000u : f->orig.l4src - 1000u;
}

static bool
mark_passes(uint32_t mark)
{
	return mark % 16 != 7;
}

bool
vk_filter(void *ctx, const struct flow *f)
{
	(void)ctx;
	return mark_passes(f->mark);
}

bool
vk_passes(const struct kstate *s)
{
	return s->there && mark_passes(s->mark);
}

static uint32_t
left_s(const struct vnode *v, const struct kflow *k)
{
	uint64_t	 left = k->expires_us > v->w->now_us ? (k->expires_us - v->w->now_us) / S_US : 0;

	/* as kct shows the last second */
	return left > 0 ? (uint32_t)left : 1;
}

uint64_t
vk_timeout_us(unsigned slot)
{
	return (slot % 4 < 2 ? SHORT_S : LONG_S) * S_US;
}

/* How long a flow in that state lives without packets. */
static uint64_t
lives_us(unsigned slot, const struct kstate *s)
{
	if (vk_is_tcp(slot) && s->tcp_state != FLOW_TCP_ESTABLISHED)
		return s->tcp_state == FLOW_TCP_TIME_WAIT ? 1500 * MS :
		    s->tcp_state == FLOW_TCP_CLOSE ? 200 * MS : 4 * S_US;
	if (!s->replied)
		return 2500 * MS;
	return vk_timeout_us(slot);
}

uint32_t
vk_life(const struct kflow *k)
{
	return k->s.there ? k->s.mark >> 8 : 0;
}

/* TCP's flags and the counter, which are not replicated. */
static void
add_local(const struct vnode *v, const struct kflow *k, struct flow *f)
{
	uint8_t	 flags = (uint8_t)((k->liberal ? FLOW_TF_BE_LIBERAL : 0) |
		    (k->maxack ? FLOW_TF_MAXACK_SET : 0));

	if (f->has & FLOW_HAS_TCP_FLAGS)
		f->tcp_flags[0] = f->tcp_flags[1] = flags;
	if (v->w->acct) {
		f->packets = k->packets;
		f->has |= FLOW_HAS_PACKETS;
	}
}

void
vk_flow(const struct vnode *v, unsigned slot, struct flow *f)
{
	const struct kflow	*k = &v->kernel[slot];

	to_flow(slot, &k->s, k->id, left_s(v, k), f);
	add_local(v, k, f);
}

/* The flow has another state from now on. */
void
vk_become(struct vnode *v, unsigned slot, const struct kstate *s)
{
	struct kflow	*k = &v->kernel[slot];
	struct flow	 f;

	k->old[k->nold % HISTORY].s = k->s;
	k->old[k->nold % HISTORY].until_us = v->w->now_us;
	k->nold++;
	if (vk_passes(s) && (!vk_passes(&k->s) || s->mark >> 8 != k->s.mark >> 8))
		k->life_us = v->w->now_us;
	if (k->s.there && (!s->there || (vk_passes(&k->s) && !vk_passes(s))))
		k->ended_us = v->w->now_us;
	k->s = *s;
	to_flow(slot, s, 0, 0, &f);
	k->len = flow_pack(&f, k->body, sizeof(k->body));
	k->klen = flow_key_len(k->body, k->len);
}

void
vk_init(struct vnode *v)
{
	static const struct kstate	 nothing;
	unsigned			 s;

	for (s = 0; s < SLOTS; s++) {
		vk_become(v, s, &nothing);
		v->kernel[s].nold = 0;
	}
}

/* --- events ------------------------------------------------------------------------- */

/* Room for an event, or NULL: it is lost, or nobody listens. */
static struct kevent *
next_event(struct vnode *v)
{
	unsigned	 used = (v->ev_tail + EVENTS - v->ev_head) % EVENTS;
	struct kevent	*e = &v->ev[v->ev_tail];

	if (v->node == NULL)
		return NULL;
	if (v->lost || used + 1 >= v->ev_room) {
		if (!v->lost)
			sim_say(v->w, "node %u: overrun", v->i);
		v->lost = true;
		return NULL;
	}
	e->at_us = v->w->now_us + sim_rnd(v->w) % LATE_US;
	v->ev_tail = (v->ev_tail + 1) % EVENTS;
	return e;
}

static struct kevent *
emit(struct vnode *v, enum local_event ev, unsigned slot)
{
	struct kevent	*e = next_event(v);

	if (e == NULL)
		return NULL;
	e->ev = ev;
	e->slot = slot;
	e->expect = e->commanded = false;
	e->packets = v->kernel[slot].packets;
	e->s = v->kernel[slot].s;
	e->id = v->kernel[slot].id;
	e->same_tcp = e->s.tcp_state == v->kernel[slot].old[(v->kernel[slot].nold - 1) % HISTORY].s.tcp_state;
	e->timeout_s = left_s(v, &v->kernel[slot]);
	return e;
}

/* The helper of the flow in that slot expects another flow, or does so no more. */
void
vk_expects(struct vnode *v, unsigned slot, bool yes, bool told)
{
	struct kflow	*k = &v->kernel[slot];
	struct kevent	*e;

	if (k->expects == yes)
		return;
	k->expects = yes;
	if (yes)
		k->expect_id = ++v->w->ids;
	if (!told || (e = next_event(v)) == NULL)
		return;
	e->ev = yes ? LOCAL_NEW : LOCAL_DESTROY;
	e->slot = slot;
	e->expect = true;
	e->commanded = false;
	e->id = k->expect_id;
}

void
vk_end(struct vnode *v, unsigned slot, bool commanded)
{
	static const struct kstate	 nothing;
	struct kevent			*e;

	if (!v->kernel[slot].s.there)
		return;
	if ((e = emit(v, LOCAL_DESTROY, slot)) != NULL)
		e->commanded = commanded;
	vk_expects(v, slot, false, true);
	vk_become(v, slot, &nothing);
}

static uint32_t
new_life(struct world *w)
{
	w->born_us[++w->lives % LIVES] = w->now_us;
	w->dead_us[w->lives % LIVES] = 0;
	return w->lives;
}

/* Another change of the flow.  The filter never leaves out what belongs to clients. */
static uint32_t
next_mark(unsigned slot, uint32_t mark)
{
	uint32_t	 next = (mark & ~0xffu) | ((mark + 1) & 0xff);

	return slot < SHARED && !mark_passes(next) ? next_mark(slot, next) : next;
}

void
vk_born(struct vnode *v, unsigned slot)
{
	struct world	*w = v->w;
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s;

	memset(&s, 0, sizeof(s));
	s.there = true;
	s.mark = next_mark(slot, new_life(w) << 8 | sim_below(w, 256));
	s.related = is_related(w, slot) && v->kernel[slot - 1].s.there;
	s.port = slot % 3 == 0 ? 0 : (uint16_t)(5000 + w->lives % 30000);
	s.tcp_state = vk_is_tcp(slot) ? FLOW_TCP_SYN_SENT : 0;
	k->id = ++w->ids;
	k->packets = 1;
	k->hidden = k->liberal = false;
	k->maxack = true;
	k->fresh = WINDOW_PACKETS;
	k->seen = 1;
	k->packet_us = w->now_us;
	vk_become(v, slot, &s);
	k->expires_us = w->now_us + lives_us(slot, &s);
	(void)emit(v, LOCAL_NEW, slot);
}

/* A packet that changes what others can see of the flow. */
static void
advance(struct vnode *v, unsigned slot)
{
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s = k->s;
	bool		 passed = mark_passes(s.mark);

	if (!s.replied && sim_below(v->w, 3) > 0)
		s.replied = true;
	else if (!s.assured && s.replied && sim_below(v->w, 2) > 0)
		s.assured = true;
	if (vk_is_tcp(slot) && s.replied && s.tcp_state < FLOW_TCP_ESTABLISHED)
		s.tcp_state++;
	if (vk_has_helper(v->w, slot) && sim_below(v->w, 3) == 0)
		vk_expects(v, slot, !k->expects, true);
	s.mark = next_mark(slot, s.mark);
	if (!passed)
		s.mark = new_life(v->w) << 8 | (s.mark & 0xff);
	vk_become(v, slot, &s);
	k->expires_us = v->w->now_us + lives_us(slot, &k->s);
	(void)emit(v, LOCAL_UPDATE, slot);
}

void
vk_packet(struct vnode *v, unsigned slot)
{
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s = k->s;
	unsigned	 a = sim_below(v->w, 100);

	k->packet_us = v->w->now_us;
	k->packets++;
	if (!s.there)
		vk_born(v, slot);
	else if (a < 30)
		k->expires_us = v->w->now_us + lives_us(slot, &s);	/* nobody is told */
	else if (a < 75)
		advance(v, slot);
	else if (a < 85 && vk_is_tcp(slot) && s.tcp_state == FLOW_TCP_ESTABLISHED) {
		s.tcp_state = FLOW_TCP_TIME_WAIT;
		vk_become(v, slot, &s);
		k->expires_us = v->w->now_us + lives_us(slot, &s);
		(void)emit(v, LOCAL_UPDATE, slot);
	} else {
		vk_give_way(v, slot);
		if (a >= 95)
			vk_born(v, slot);	/* the port is used again at once */
	}
}

enum vk_fate
vk_fate(const struct vnode *v, unsigned slot)
{
	const struct kflow	*k = &v->kernel[slot];
	const struct client	*c = &v->w->client[slot];

	if (vk_life(k) != c->life || k->s.port != c->port)
		return VK_INVALID;
	/* windows that it does not know, or not as they are by now */
	if (vk_is_tcp(slot) && !k->liberal && (k->seen != c->passes || k->fresh < WINDOW_PACKETS))
		return VK_STALE;
	return VK_PASSED;
}

enum vk_fate
vk_pass(struct vnode *v, unsigned slot)
{
	const struct client	*c = &v->w->client[slot];
	struct kflow		*k = &v->kernel[slot];
	enum vk_fate		 fate = vk_fate(v, slot);

	if (fate != VK_PASSED && (vk_is_tcp(slot) || !k->s.there))
		return fate;
	k->packets++;
	k->packet_us = v->w->now_us;
	if (fate != VK_PASSED) {
		/* it leaves with another address than its peer knows, but it leaves */
		k->expires_us = v->w->now_us + lives_us(slot, &k->s);
		return fate;
	}
	k->fresh = k->seen == c->passes ? k->fresh + 1 : 1;
	k->seen = c->passes + 1;
	k->maxack |= k->fresh >= WINDOW_PACKETS;
	if (!c->established || sim_below(v->w, 12) == 0 || !k->s.replied ||
	    (vk_is_tcp(slot) && k->s.tcp_state < FLOW_TCP_ESTABLISHED))
		advance(v, slot);
	k->expires_us = v->w->now_us + lives_us(slot, &k->s);	/* nobody is told */
	return VK_PASSED;
}

void
vk_close(struct vnode *v, unsigned slot, bool reset)
{
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s = k->s;

	s.tcp_state = reset ? FLOW_TCP_CLOSE : FLOW_TCP_TIME_WAIT;
	vk_become(v, slot, &s);
	k->expires_us = v->w->now_us + lives_us(slot, &s);
	(void)emit(v, LOCAL_UPDATE, slot);
}

void
vk_give_way(struct vnode *v, unsigned slot)
{
	if (vk_is_tcp(slot) && v->kernel[slot].s.there &&
	    v->kernel[slot].s.tcp_state < FLOW_TCP_TIME_WAIT)
		vk_close(v, slot, true);
	vk_end(v, slot, false);
}

void
vk_clear(struct vnode *v)
{
	static const struct kstate	 nothing;
	unsigned			 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].s.there) {
			vk_expects(v, s, false, false);
			vk_become(v, s, &nothing);
		}
}

void
vk_expire(struct vnode *v)
{
	unsigned	 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].s.there && v->kernel[s].expires_us <= v->w->now_us) {
			promise_lapse(v, s);
			vk_end(v, s, false);
		}
}

static void
tell(struct vnode *v, const struct kevent *e)
{
	struct local		*l = node_local(v->node);
	struct local_key	 key;
	struct flow		 f;

	if (e->expect)
		vk_expectation(e->slot, e->id, &f);
	else
		to_flow(e->slot, &e->s, e->id, e->timeout_s, &f);
	if (e->ev == LOCAL_UPDATE)
		f.has &= ~(uint32_t)FLOW_HAS_WHOLE;
	if (e->ev == LOCAL_DESTROY)
		f.has &= ~(FLOW_HAS_TIMEOUT | FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS |
		    FLOW_HAS_TCP_WSCALE);
	if (e->ev == LOCAL_DESTROY && v->w->acct && !e->expect) {
		f.packets = e->packets;
		f.has |= FLOW_HAS_PACKETS;
	}
	f.commanded = e->commanded;
	/* TCP's part comes only when it is news */
	if (e->ev == LOCAL_UPDATE && e->same_tcp)
		f.has &= ~(FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE);
	local_prefetch(l, &f, &key);
	local_prefetch_entry(l, &key);
	local_prefetch_body(l, &key);
	local_event(l, e->ev, &f, &key, v->empty_us);
}

bool
vk_deliver_events(struct vnode *v, bool all)
{
	struct world	*w = v->w;
	bool		 some = false;

	while (v->ev_head != v->ev_tail && (all || v->ev[v->ev_head].at_us <= w->now_us)) {
		tell(v, &v->ev[v->ev_head]);
		v->ev_head = (v->ev_head + 1) % EVENTS;
		some = true;
	}
	if (v->ev_head != v->ev_tail)
		return some;
	if (v->lost) {
		v->lost = false;
		node_overrun(v->node, v->empty_us, w->now_us);
		some = true;
	}
	v->empty_us = w->now_us;
	return some;
}

uint32_t
vk_age(void *ctx)
{
	struct vnode	*v = ctx;

	if (v->lost)
		return WIRE_NEVER - 1;
	return v->ev_head == v->ev_tail ? 0 : (uint32_t)(v->w->now_us - v->empty_us);
}
