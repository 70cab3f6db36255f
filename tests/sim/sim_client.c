/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clients of sim_node: what is true in this world.
 *
 * A client wants one flow at a time, with a tuple of its own.  The first packet
 * makes the flow in the kernel of the node that forwards it; a few more make it
 * established; then the client sends often, or seldom, but never keeps silent
 * for longer than SILENCE_US.  It closes a TCP flow with a last packet, or just
 * goes away, as it does with any other flow.  A packet that is dropped is sent
 * again soon, for a long time.
 *
 * A datagram says nothing of where a flow begins.  If the kernel has the tuple,
 * a new client uses what it finds; and it does not begin a flow where nobody
 * could tell it from an older one that somebody else still has.  In some worlds
 * a datagram in the middle of a flow that the kernel does not know makes a new
 * entry there, a stray, with another translation: it has to give way.
 */
#include <string.h>

#include "sim.h"

#define GIVES_UP_US	(20 * S_US)
#define GIVES_UP_EARLY_US (1 * S_US)	/* before the flow is established */
#define HEARD_US	(2 * S_US)	/* what passes is known elsewhere after that, at the latest */

void
client_init(struct world *w)
{
	unsigned	 s;

	for (s = 0; s < SHARED; s++) {
		w->client[s].path = -1;
		w->client[s].next_us = w->now_us + 1 + sim_below(w, 2000 * MS);
	}
}

const struct client *
client_of(const struct world *w, unsigned slot, uint32_t life)
{
	const struct client	*c = &w->client[slot];

	return slot < SHARED && c->alive && c->life == life ? c : NULL;
}

void
client_reroute(struct world *w)
{
	unsigned	 s;

	for (s = 0; s < SHARED; s++)
		w->client[s].path = -1;
}

void
client_poke(struct world *w)
{
	unsigned	 s;
	uint64_t	 at_us;

	for (s = 0; s < SHARED; s++) {
		at_us = w->now_us + 1 + sim_below(w, 1000 * MS);
		if (w->client[s].next_us > at_us)
			w->client[s].next_us = at_us;
	}
}

void
client_excuse(struct world *w, unsigned slot, const char *why)
{
	struct client	*c = &w->client[slot];

	if (slot >= SHARED || !c->alive || c->excused)
		return;
	c->excused = true;
	sim_say(w, "client %u: life %u is excused: %s", slot, c->life, why);
}

void
client_blind(struct world *w, unsigned from, unsigned x)
{
	struct client	*c;
	unsigned	 s;

	for (s = 0; s < SHARED; s++) {
		c = &w->client[s];
		if (c->alive && c->at_us[from] + HEARD_US > w->now_us)
			c->blind_us[x] = w->now_us;
	}
}

/* The node that forwards this client's packets, NULL: none does. */
static struct vnode *
path(struct world *w, struct client *c)
{
	unsigned	 ways[NODES], n = 0, i;

	if (c->path >= 0 && w->v[c->path].up && w->v[c->path].has)
		return &w->v[c->path];
	c->path = -1;
	for (i = 0; i < w->n; i++)
		if (w->v[i].up && w->v[i].has)
			ways[n++] = i;
	if (n == 0)
		return NULL;
	c->path = (int)ways[sim_below(w, n)];
	return &w->v[c->path];
}

/* The client is done with its flow. */
static void
over(struct world *w, unsigned slot, const char *how)
{
	struct client	*c = &w->client[slot];

	sim_say(w, "client %u: life %u %s", slot, c->life, how);
	c->alive = false;
	w->dead_us[c->life % LIVES] = w->now_us;
	c->next_us = w->now_us + 1 + sim_below(w, 1500 * MS);
	/* nobody's clock is good for telling births apart that follow each other at once */
	if (c->next_us < c->born_us + 3 * S_US)
		c->next_us = c->born_us + 3 * S_US;
}

/* Does a client of that slot begin a flow at v now?  If not, it tries again later. */
static bool
begins(const struct vnode *v, unsigned slot)
{
	return vk_is_tcp(slot) || v->kernel[slot].s.there || !promise_told(v, slot);
}

static void
born(struct world *w, unsigned slot, struct vnode *v)
{
	struct client	*c = &w->client[slot];
	struct kflow	*k = &v->kernel[slot];
	int		 chosen = c->path;
	bool		 found = k->s.there && !vk_is_tcp(slot), excused;

	if (!found) {
		vk_give_way(v, slot);	/* a new connection takes the place of the old one */
		vk_born(v, slot);
	}
	excused = c->excused && found && c->life == vk_life(k);
	memset(c, 0, sizeof(*c));
	c->excused = excused;		/* that is about its copies */
	c->path = chosen;
	c->alive = true;
	c->life = vk_life(k);
	c->port = k->s.port;
	c->busy = sim_chance(w, 500);
	c->born_us = c->last_us = c->at_us[v->i] = w->now_us;
	c->passes = 1;
	c->next_us = w->now_us + 1 + sim_below(w, 60 * MS);
	w->dead_us[c->life % LIVES] = 0;
	sim_say(w, "client %u: life %u %s at node %u", slot, c->life, found ? "is used again" : "begins", v->i);
	if (w->is_stray[c->life % LIVES])
		client_excuse(w, slot, "it uses what a stray of another one has made");
	if (w->is_flushed[c->life % LIVES])
		client_excuse(w, slot, "it uses what an operator has flushed elsewhere");
}

/* Whoever can not know that this node carries packets does not hear of this one. */
static void
note_blind(struct world *w, struct client *c, const struct vnode *v)
{
	unsigned	 i;
	bool		 known = sim_runs(v) && node_role(v->node) == NODE_ACTIVE;

	for (i = 0; i < w->n; i++)
		if (i != v->i && (!known || !promise_reach(&w->v[i], v)))
			c->blind_us[i] = w->now_us;
}

static bool
is_established(const struct vnode *v, unsigned slot)
{
	const struct kstate	*s = &v->kernel[slot].s;

	return s->replied && (!vk_is_tcp(slot) || s->tcp_state == FLOW_TCP_ESTABLISHED);
}

static void
passed(struct world *w, unsigned slot, struct vnode *v)
{
	struct client	*c = &w->client[slot];
	unsigned	 a;

	if (c->failing_us != 0)
		sim_say(w, "client %u: life %u gets through again at node %u", slot, c->life, v->i);
	c->failing_us = 0;
	c->passes++;
	c->last_us = c->at_us[v->i] = w->now_us;
	note_blind(w, c, v);
	v->lapsed[slot] = 0;
	if (!c->established) {
		c->established = is_established(v, slot);
		c->next_us = w->now_us + 1 + sim_below(w, 60 * MS);
		return;
	}
	if (w->closes && sim_chance(w, c->busy ? 15 : 80)) {
		a = vk_is_tcp(slot) ? sim_below(w, 10) : 10;
		if (a < 8)
			vk_close(v, slot, a < 4);
		over(w, slot, a < 8 ? "is closed" : "is left alone");
		return;
	}
	if (sim_chance(w, 100))
		c->busy = !c->busy;
	c->next_us = w->now_us + (c->busy ? 20 * MS + sim_below(w, 400 * MS) :
	    500 * MS + sim_below(w, (unsigned)SILENCE_US - 500 * MS));
}

static void
failed(struct world *w, unsigned slot, const struct vnode *v, enum vk_fate fate)
{
	struct client	*c = &w->client[slot];
	uint64_t	 patience = c->established ? GIVES_UP_US : GIVES_UP_EARLY_US;

	if (c->failing_us == 0) {
		c->failing_us = w->now_us;
		sim_say(w, "client %u: life %u does not get through: node %u %s", slot, c->life, v->i,
		    fate == VK_STALE ? "has stale windows" : vk_life(&v->kernel[slot]) != 0 ?
		    "has another flow" : "does not know it");
	}
	if (w->now_us - c->failing_us > patience)
		over(w, slot, "gives up");
	else
		c->next_us = w->now_us + 30 * MS + sim_below(w, 200 * MS);
}

static void
stray(struct world *w, unsigned slot, struct vnode *v)
{
	vk_born(v, slot);
	w->client[slot].stray = vk_life(&v->kernel[slot]);
	w->client[slot].stray_us = w->now_us;
	w->dead_us[w->client[slot].stray % LIVES] = w->now_us;
	w->is_stray[w->client[slot].stray % LIVES] = true;
	sim_say(w, "client %u: a stray, life %u, at node %u", slot, vk_life(&v->kernel[slot]), v->i);
	if (!sim_runs(v) || !promise_copy(v, slot, w->client[slot].life, NODES))
		client_excuse(w, slot, "a stray of it looks like a new flow");
}

static void
turn(struct world *w, unsigned slot)
{
	struct client	*c = &w->client[slot];
	struct vnode	*v = path(w, c);
	enum vk_fate	 fate;

	if (v == NULL || (!c->alive && (!w->births || !begins(v, slot)))) {
		c->next_us = w->now_us + 100 * MS;
		return;
	}
	if (!c->alive) {
		born(w, slot, v);
		return;
	}
	fate = vk_pass(v, slot);
	if (fate != VK_PASSED && w->strays && !vk_is_tcp(slot) && !v->kernel[slot].s.there)
		stray(w, slot, v);
	if (fate == VK_PASSED)
		passed(w, slot, v);
	else
		failed(w, slot, v, fate);
}

void
client_run(struct world *w)
{
	unsigned	 s;

	for (s = 0; s < SHARED; s++)
		if (w->client[s].next_us <= w->now_us)
			turn(w, s);
}

uint64_t
client_due(const struct world *w)
{
	uint64_t	 due = UINT64_MAX;
	unsigned	 s;

	for (s = 0; s < SHARED; s++)
		if (w->client[s].next_us < due)
			due = w->client[s].next_us;
	return due;
}
