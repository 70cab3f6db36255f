/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The virtual kernel of a node of sim_node: a table of flows that packets
 * change and time ends, events that tell of it (deltas, late, lost when there
 * is no room), dumps that are not atomic, jobs that are done at one time and
 * answered at a later one.
 *
 * As in Linux: no event tells that a timeout was refreshed; what a write does
 * is not told to the writer; an update of what is there sets status bits but
 * clears none and leaves the translation alone.  A flow whose master is not
 * there is written without it, an expectation not at all; expectations end with
 * their master.
 */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define LATE_US		4000u		/* from an event to its reader, at most */

/* --- flows ------------------------------------------------------------------------ */

static bool
is_tcp(unsigned slot)
{
	return slot % 2 == 0;
}

static bool
has_helper(const struct world *w, unsigned slot)
{
	return slot % 8 == 0 && !w->small;
}

static bool
is_related(const struct world *w, unsigned slot)
{
	return slot % 8 == 1 && has_helper(w, slot - 1);
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
	f->proto = is_tcp(slot) ? IPPROTO_TCP : IPPROTO_UDP;
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
	return k->expires_us > v->w->now_us ?
	    (uint32_t)((k->expires_us - v->w->now_us) / 1000000) : 0;
}

/* How long a flow in that state lives without packets. */
static uint64_t
lives_us(unsigned slot, const struct kstate *s)
{
	if (is_tcp(slot))
		return s->tcp_state == FLOW_TCP_ESTABLISHED ? 300000000 :
		    s->tcp_state == FLOW_TCP_TIME_WAIT ? 1500000 : 4000000;
	return s->replied ? 120000000 : 2500000;
}

/* The flow has another state from now on. */
static void
become(struct vnode *v, unsigned slot, const struct kstate *s)
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
	if (vk_passes(&k->s) && s->there && !vk_passes(s))
		v->w->over[(k->s.mark >> 8) % LIVES] = true;	/* it is left out from now on */
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
		become(v, s, &nothing);
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

static void
emit(struct vnode *v, enum local_event ev, unsigned slot)
{
	struct kevent	*e = next_event(v);

	if (e == NULL)
		return;
	e->ev = ev;
	e->slot = slot;
	e->expect = false;
	e->s = v->kernel[slot].s;
	e->id = v->kernel[slot].id;
	e->same_tcp = e->s.tcp_state == v->kernel[slot].old[(v->kernel[slot].nold - 1) % HISTORY].s.tcp_state;
	e->timeout_s = left_s(v, &v->kernel[slot]);
}

/* The helper of the flow in that slot expects another flow, or does so no more. */
static void
expects(struct vnode *v, unsigned slot, bool yes, bool told)
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
	e->id = k->expect_id;
}

void
vk_end(struct vnode *v, unsigned slot)
{
	static const struct kstate	 nothing;

	if (!v->kernel[slot].s.there)
		return;
	emit(v, LOCAL_DESTROY, slot);
	expects(v, slot, false, true);
	v->w->over[(v->kernel[slot].s.mark >> 8) % LIVES] = true;
	become(v, slot, &nothing);
}

static uint32_t
new_life(struct world *w)
{
	w->born_us[++w->lives % LIVES] = w->now_us;
	w->over[w->lives % LIVES] = false;
	return w->lives;
}

static void
born(struct vnode *v, unsigned slot)
{
	struct world	*w = v->w;
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s;

	memset(&s, 0, sizeof(s));
	s.there = true;
	s.mark = new_life(w) << 8 | sim_below(w, 256);
	s.related = is_related(w, slot) && v->kernel[slot - 1].s.there;
	s.port = slot % 3 == 0 ? 0 : (uint16_t)(5000 + w->lives % 30000);
	s.tcp_state = is_tcp(slot) ? FLOW_TCP_SYN_SENT : 0;
	k->id = ++w->ids;
	become(v, slot, &s);
	k->expires_us = w->now_us + lives_us(slot, &s);
	emit(v, LOCAL_NEW, slot);
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
	if (is_tcp(slot) && s.replied && s.tcp_state < FLOW_TCP_ESTABLISHED)
		s.tcp_state++;
	if (has_helper(v->w, slot) && sim_below(v->w, 3) == 0)
		expects(v, slot, !k->expects, true);
	s.mark = (s.mark & ~0xffu) | ((s.mark + 1) & 0xff);
	if (!passed)
		s.mark = new_life(v->w) << 8 | (s.mark & 0xff);
	become(v, slot, &s);
	k->expires_us = v->w->now_us + lives_us(slot, &k->s);
	emit(v, LOCAL_UPDATE, slot);
}

void
vk_packet(struct vnode *v, unsigned slot)
{
	struct kflow	*k = &v->kernel[slot];
	struct kstate	 s = k->s;
	unsigned	 a = sim_below(v->w, 100);

	k->packet_us = v->w->now_us;
	if (!s.there)
		born(v, slot);
	else if (a < 30)
		k->expires_us = v->w->now_us + lives_us(slot, &s);	/* nobody is told */
	else if (a < 75)
		advance(v, slot);
	else if (a < 85 && is_tcp(slot) && s.tcp_state == FLOW_TCP_ESTABLISHED) {
		s.tcp_state = FLOW_TCP_TIME_WAIT;
		become(v, slot, &s);
		k->expires_us = v->w->now_us + lives_us(slot, &s);
		emit(v, LOCAL_UPDATE, slot);
	} else {
		vk_end(v, slot);
		if (a >= 95)
			born(v, slot);		/* the port is used again at once */
	}
}

void
vk_clear(struct vnode *v)
{
	static const struct kstate	 nothing;
	unsigned			 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].s.there) {
			expects(v, s, false, false);
			become(v, s, &nothing);
		}
}

void
vk_expire(struct vnode *v)
{
	unsigned	 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].s.there && v->kernel[s].expires_us <= v->w->now_us)
			vk_end(v, s);
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
	/* TCP's part comes only when it is news */
	if (e->ev == LOCAL_UPDATE && e->same_tcp)
		f.has &= ~(FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE);
	local_prefetch(l, &f, &key);
	local_prefetch_entry(l, &key);
	local_prefetch_body(l, &key);
	local_event(l, e->ev, &f, &key, v->empty_us);
}

/* With all, also those that are still on their way. */
static bool
deliver_events(struct vnode *v, bool all)
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

/* --- dumps ----------------------------------------------------------------------------- */

void
vk_dump(void *ctx)
{
	struct vnode	*v = ctx;

	v->dump = 0;
	node_dump_begin(v->node);
}

static bool
deliver_dump(struct vnode *v)
{
	struct flow	 f;
	int		 n;
	bool		 fails;

	if (v->dump < 0 || !local_dump_ready(node_local(v->node)))
		return false;
	deliver_events(v, true);
	for (n = 0; n < 4; n++) {
		fails = v->w->mishaps && sim_below(v->w, 1000) == 0;
		if (v->dump == 2 * SLOTS || fails) {
			v->dump = -1;
			v->audit_us = v->w->now_us;
			node_dump_end(v->node, fails ? -EINTR : 0, v->w->now_us);
			return true;
		}
		if (v->dump >= SLOTS) {
			if (v->kernel[v->dump - SLOTS].expects) {
				vk_expectation((unsigned)v->dump - SLOTS,
				    v->kernel[v->dump - SLOTS].expect_id, &f);
				node_dump_entry(v->node, &f, v->w->now_us);
			}
		} else if (v->kernel[v->dump].s.there) {
			to_flow((unsigned)v->dump, &v->kernel[v->dump].s, v->kernel[v->dump].id,
			    left_s(v, &v->kernel[v->dump]), &f);
			node_dump_entry(v->node, &f, v->w->now_us);
		}
		v->dump++;
	}
	return true;
}

/* --- jobs -------------------------------------------------------------------------------- */

static void
create_expectation(struct vnode *v, struct kjob *j, struct kitem *it, unsigned slot)
{
	if (!v->kernel[slot].s.there)
		it->err = -ENOENT;
	else if (v->kernel[slot].expects)
		j->updated++;
	else
		expects(v, slot, true, false);
}

static void
work_create(struct vnode *v, struct kjob *j, struct kitem *it)
{
	struct kstate	 s;
	struct kflow	*k;
	struct flow	 f;

	if (flow_unpack(j->bytes + it->off, it->len, &f) < 0) {
		it->err = -EBADMSG;
		return;
	}
	if (f.expect) {
		create_expectation(v, j, it, vk_slot(&f));
		return;
	}
	k = &v->kernel[vk_slot(&f)];
	s = k->s;
	it->there = s.there;
	if (s.there)
		j->updated++;
	else {
		memset(&s, 0, sizeof(s));
		s.there = true;
		s.port = f.status & FLOW_S_SRC_NAT ? f.reply.l4dst : 0;
		k->id = ++v->w->ids;
		s.related = f.master_proto != 0 && v->kernel[vk_slot(&f) - 1].s.there;
		j->lost_master += f.master_proto != 0 && !s.related;
		if (f.master_proto != 0 && !s.related)
			sim_say(v->w, "node %u: slot %u without master", v->i, vk_slot(&f));
	}
	s.replied |= (f.status & FLOW_S_SEEN_REPLY) != 0;
	s.assured |= (f.status & FLOW_S_ASSURED) != 0;
	s.tcp_state = f.tcp_state;
	s.mark = f.mark;
	become(v, vk_slot(&f), &s);
	k->expires_us = v->w->now_us + it->timeout_s * 1000000ull;
	k->written_us = v->w->now_us;
}

/* A purge asks twice: a flow that was used shortly before it was asked for is left alone. */
static void
check_purge(struct vnode *v, const struct kflow *k)
{
	if (k->packet_us != 0 && k->packet_us <= k->asked_us &&
	    k->asked_us - k->packet_us < PURGE_US / 4 && k->s.tcp_state != FLOW_TCP_TIME_WAIT)
		sim_bad(v->w, "a standby removed a flow that is used");
}

static void
work_item(struct vnode *v, struct kjob *j, uint32_t i)
{
	static const struct kstate	 nothing;
	struct kitem			*it = &j->items[i];
	struct kflow			*k;
	struct flow			 f;
	size_t				 used;
	unsigned			 slot;

	if (j->op == KOP_CREATE) {
		work_create(v, j, it);
		return;
	}
	if (flow_unpack_key(j->bytes + it->off, it->len, &f, &used) < 0) {
		it->err = -EBADMSG;
		return;
	}
	slot = vk_slot(&f);
	k = &v->kernel[slot];
	if (f.expect) {
		if (!k->expects)
			it->err = -ENOENT;
		else if (j->op == KOP_GET)
			vk_expectation(slot, k->expect_id, &j->flows[i]);
		else if (j->op == KOP_DELETE)
			expects(v, slot, false, false);
		return;
	}
	if (!k->s.there)
		it->err = -ENOENT;
	else if (j->op == KOP_GET && v->w->mishaps && sim_below(v->w, 200) == 0)
		it->err = -ENOBUFS;
	else if (j->op == KOP_GET) {
		to_flow(slot, &k->s, k->id, left_s(v, k), &j->flows[i]);
		if (j->owner == KOWNER_PURGE)
			k->asked_us = v->w->now_us;
	} else if (j->op == KOP_DELETE) {
		if (j->owner == KOWNER_PURGE)
			check_purge(v, k);
		expects(v, slot, false, true);	/* that is the kernel's doing */
		become(v, slot, &nothing);
	}
}

static void
work_job(struct vnode *v, struct kjob *j)
{
	uint32_t	 i;

	if (j->op == KOP_GET && (j->flows = calloc(j->n, sizeof(*j->flows))) == NULL)
		abort();
	for (i = 0; i < j->n; i++)
		work_item(v, j, i);
}

/* The kernel does the oldest job at one time, the answer comes a step later or more. */
static bool
run_jobs(struct vnode *v)
{
	struct kjob	*j;

	if (v->njobs == 0 || sim_below(v->w, 3) != 0)
		return false;
	j = v->jobs[0];
	if (j->used != SIZE_MAX) {
		work_job(v, j);
		j->used = SIZE_MAX;	/* done, not yet told */
		return false;
	}
	memmove(v->jobs, v->jobs + 1, sizeof(v->jobs[0]) * --v->njobs);
	deliver_events(v, true);
	node_job_done(v->node, j, v->w->now_us);
	return true;
}

int
vk_submit(void *ctx, struct kjob *j)
{
	struct vnode	*v = ctx;

	if (v->njobs == JOBS || (v->w->mishaps && sim_below(v->w, 50) == 0))
		return -EAGAIN;
	v->jobs[v->njobs++] = j;
	return 0;
}

bool
vk_deliver(struct vnode *v)
{
	bool	 some;

	some = deliver_events(v, false);
	some |= deliver_dump(v);
	return run_jobs(v) || some;
}

void
vk_close(struct vnode *v)
{
	unsigned	 i;

	for (i = 0; i < v->njobs; i++)
		kjob_free(v->jobs[i]);
	v->njobs = 0;
	v->dump = -1;
	v->ev_head = v->ev_tail = 0;
	v->lost = false;
}
