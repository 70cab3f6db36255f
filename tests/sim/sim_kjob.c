/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a virtual kernel of sim_node does for its daemon: dumps that are not
 * atomic, jobs that are done at one time and answered at a later one.
 *
 * As in Linux: an event of what a job does is not sent to who asked for it; an
 * update of what is there sets status bits but clears none, and leaves the
 * translation and the counter alone.  A flow whose master is not there is
 * written without it, an expectation not at all; expectations end with their
 * master.  Windows that are made liberal have to be seen again: MAXACK_SET goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

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
	vk_deliver_events(v, true);
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
			vk_flow(v, (unsigned)v->dump, &f);
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
		vk_expects(v, slot, true, false);
}

/*
 * Is another flow in the way of that one?  Some kernels have one now and then,
 * for a while or for good.
 */
static bool
refuses(struct vnode *v, unsigned slot, uint32_t life)
{
	struct world	*w = v->w;

	if (!w->refuses || slot >= SHARED)
		return false;
	if (v->refused[slot].life != life) {
		v->refused[slot].life = life;
		v->refused[slot].until_us = sim_chance(w, 950) ? 0 :
		    w->now_us + (sim_chance(w, 500) ? 300 * MS : 60 * S_US);
		if (v->refused[slot].until_us != 0)
			sim_say(w, "node %u: refuses life %u of slot %u", v->i, life, slot);
	}
	return v->refused[slot].until_us > w->now_us;
}

/* A new entry, as ctnetlink makes it.  False: refused. */
static bool
create_flow(struct vnode *v, struct kjob *j, struct kitem *it, const struct flow *f, struct kstate *s)
{
	struct kflow	*k = &v->kernel[vk_slot(f)];

	if (refuses(v, vk_slot(f), f->mark >> 8)) {
		it->err = -EEXIST;
		return false;
	}
	memset(s, 0, sizeof(*s));
	s->there = true;
	s->port = f->status & FLOW_S_SRC_NAT ? f->reply.l4dst : 0;
	s->related = f->master_proto != 0 && v->kernel[vk_slot(f) - 1].s.there;
	j->lost_master += f->master_proto != 0 && !s->related;
	if (f->master_proto != 0 && !s->related)
		sim_say(v->w, "node %u: slot %u without master", v->i, vk_slot(f));
	k->id = ++v->w->ids;
	k->packets = 0;
	return true;
}

static void
work_create(struct vnode *v, struct kjob *j, struct kitem *it)
{
	struct kstate	 s;
	struct kflow	*k;
	struct flow	 f;
	unsigned	 slot;

	if (flow_unpack(j->bytes + it->off, it->len, &f) < 0) {
		it->err = -EBADMSG;
		return;
	}
	slot = vk_slot(&f);
	if (f.expect) {
		create_expectation(v, j, it, slot);
		return;
	}
	k = &v->kernel[slot];
	s = k->s;
	it->there = s.there;
	/* as kct does: another flow has the tuple */
	if (s.there && s.port != (f.status & FLOW_S_SRC_NAT ? f.reply.l4dst : 0)) {
		it->err = -EEXIST;
		return;
	}
	if (!s.there && !create_flow(v, j, it, &f, &s))
		return;
	if (k->s.there) {
		promise_replaced(v, slot, f.mark >> 8);
		k->hidden |= vk_life(k) != f.mark >> 8 && !vk_passes(&k->s);
		j->updated++;
	}
	s.replied |= (f.status & FLOW_S_SEEN_REPLY) != 0;
	s.assured |= (f.status & FLOW_S_ASSURED) != 0;
	s.tcp_state = f.tcp_state;
	s.mark = f.mark;
	if (slot < SHARED)
		sim_say(v->w, "node %u: life %u of slot %u is written%s", v->i, f.mark >> 8, slot,
		    k->s.there ? " over what is there" : "");
	vk_become(v, slot, &s);
	k->expires_us = v->w->now_us + it->timeout_s * 1000000ull;
	k->written_us = v->w->now_us;
	k->second = f.copy;
	/* it has to see the windows again */
	k->liberal = vk_is_tcp(slot);
	k->maxack = false;
	k->fresh = 0;
}

static void
set_liberal(struct vnode *v, unsigned slot, bool yes)
{
	struct kflow	*k = &v->kernel[slot];

	if (slot < SHARED)
		sim_say(v->w, "node %u: life %u of slot %u is %s", v->i, vk_life(k), slot,
		    yes ? "liberal" : "strict");
	k->liberal = yes && vk_is_tcp(slot);
	if (yes)
		k->maxack = false;
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
			vk_expects(v, slot, false, false);
		return;
	}
	if (!k->s.there || (j->op == KOP_DELETE && it->id != 0 && it->id != k->id))
		it->err = -ENOENT;
	else if (j->op == KOP_GET && v->w->mishaps && sim_below(v->w, 200) == 0)
		it->err = -ENOBUFS;
	else if (j->op == KOP_GET) {
		vk_flow(v, slot, &j->flows[i]);
		if (j->owner == KOWNER_PURGE)
			k->asked_us = v->w->now_us;
	} else if (j->op == KOP_DELETE) {
		promise_removed(v, slot);
		vk_expects(v, slot, false, true);	/* that is the kernel's doing */
		vk_become(v, slot, &nothing);
	} else
		set_liberal(v, slot, j->op == KOP_LIBERAL);
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
	vk_deliver_events(v, true);
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

	some = vk_deliver_events(v, false);
	some |= deliver_dump(v);
	return run_jobs(v) || some;
}

void
vk_shut(struct vnode *v)
{
	unsigned	 i;

	for (i = 0; i < v->njobs; i++)
		kjob_free(v->jobs[i]);
	v->njobs = 0;
	v->dump = -1;
	v->ev_head = v->ev_tail = 0;
	v->lost = false;
}
