/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Deterministic simulation of whole nodes: the daemon's core with sealing,
 * sessions, kernel truth and takeover, on a virtual clock, a virtual network
 * and a virtual kernel for each node.  Everything follows from a seed.
 *
 *   sim_node [-x] [-k FILE] COUNT [FIRST]
 *
 * See seeds.h.  With SIM_LOG in the environment it says what happens.
 *
 * Two to five nodes live through traffic, lost events, loss, duplication,
 * delay, partitions (also one-way), crashes and restarts of the daemon, reboots,
 * nodes that do nothing for a while, clocks that jump, takeovers and releases
 * at random, two active at once.  Then comes rest, and then the active node
 * dies or is relieved.  Checked, besides sim_check.c: at rest everybody is equal
 * and ready within a bounded time; a takeover brings all that was held; nothing
 * that had ended comes back; a second takeover changes nothing.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/log.h"
#include "seeds.h"
#include "sim.h"

#define CHAOS_US	3500000u
#define STEP_US		1000u
#define REST_STEP_US	2000u
#define SETTLE_US	15000000u
#define SETTLE_SMALL_US	45000000u	/* a table that was full is tried again after a while */
#define AUDIT_US	3000000u

static const char *const	names[NODES] = { "fw1", "fw2", "fw3", "fw4", "fw5" };
static const char *const	links[LINKS] = { "ha0", "ha1" };

/* --- chance and words ------------------------------------------------------------ */

uint64_t
sim_rnd(struct world *w)
{
	uint64_t	 z = w->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

unsigned
sim_below(struct world *w, unsigned n)
{
	return (unsigned)(sim_rnd(w) % n);
}

bool
sim_chance(struct world *w, unsigned per_mille)
{
	return sim_below(w, 1000) < per_mille;
}

void
sim_say(const struct world *w, const char *fmt, ...)
{
	va_list	 ap;

	if (!w->verbose)
		return;
	va_start(ap, fmt);
	fprintf(stderr, "[%8.3f ms] ", (double)w->now_us / 1000.0);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

void
sim_bad(struct world *w, const char *what)
{
	if (w->bad == NULL)
		w->bad = what;
	sim_say(w, "WRONG: %s", what);
}

unsigned
sim_peer(const struct vnode *v, unsigned of)
{
	return of < v->i ? of : of - 1;
}

unsigned
sim_node(const struct vnode *v, unsigned peer)
{
	return peer < v->i ? peer : peer + 1;
}

/* --- ports ------------------------------------------------------------------------- */

static uint32_t
port_wall(void *ctx)
{
	struct vnode	*v = ctx;

	return (uint32_t)((int64_t)(v->w->now_us / 1000000) + 1000000 + v->wall_s);
}

static void
port_role(void *ctx, enum node_role role, bool done)
{
	struct vnode	*v = ctx;

	v->role = role;
	v->taking = role == NODE_ACTIVE && !done;
	if (v->node != NULL)
		v->term = node_term(v->node);
}

static void
port_taken(void *ctx)
{
	((struct vnode *)ctx)->taken++;
}

static void
port_verified(void *ctx)
{
	((struct vnode *)ctx)->verified++;
}

static const struct node_ops	ops = {
	{ net_send, net_usable }, { vk_submit, vk_dump, vk_age, NULL }, vk_filter, port_wall, port_role,
	port_taken, port_verified
};

/* --- life ------------------------------------------------------------------------------ */

static void
stop(struct vnode *v)
{
	if (v->node == NULL)
		return;
	sim_say(v->w, "node %u: down", v->i);
	vk_close(v);
	net_wake(v, true);
	v->stopped_us = 0;
	v->expects = false;
	node_free(v->node);
	seal_ring_free(v->ring);
	v->node = NULL;
	v->ring = NULL;
}

static void
fill(struct world *w, void *p, size_t n)
{
	uint8_t	*b = p;

	while (n-- > 0)
		*b++ = (uint8_t)sim_rnd(w);
}

static void
start(struct vnode *v)
{
	static const uint8_t	 secret[32] = "a secret of thirty-two bytes....";
	struct world		*w = v->w;
	struct seal_secret	 s = { 1, secret, sizeof(secret) };
	const char		*peers[NODES];
	struct node_conf	 c;
	unsigned		 i, k = 0;
	int			 err;

	sim_say(w, "node %u: starts, %s%s", v->i, v->role == NODE_ACTIVE ? "active" : "standby",
	    v->taking ? ", its takeover was interrupted" : "");
	for (i = 0; i < w->n; i++)
		if (i != v->i)
			peers[k++] = names[i];
	memset(&c, 0, sizeof(c));
	c.name = names[v->i];
	c.cluster = "sim";
	c.peers = peers;
	c.npeers = k;
	c.links = links;
	c.nlinks = w->links;
	fill(w, &c.epoch, sizeof(c.epoch));
	fill(w, c.boot_key, sizeof(c.boot_key));
	fill(w, &c.digest_key, sizeof(c.digest_key));
	fill(w, &c.table_key, sizeof(c.table_key));
	if (seal_ring_new(&v->ring, &s, 1, "sim") < 0)
		abort();
	c.ring = v->ring;
	c.suite = SEAL_AES256GCM;
	c.max_flows = v->max_flows;
	c.max_tombs = v->max_tombs;
	c.datagram_bytes = DATAGRAM;
	c.boot = v->boot;
	c.boot_wait_us = 2000000;
	c.purge_us = PURGE_US;
	c.role = v->role;
	c.resume = v->taking;
	c.term = v->term;
	c.liberal = true;
	v->dump = -1;
	v->empty_us = v->audit_us = w->now_us;
	v->node = node_new(&c, &ops, v, w->now_us, &err);
	if (v->node == NULL)
		abort();
	v->due_us = 0;
	check_start(v);
}

static void
release(struct vnode *v)
{
	sim_say(v->w, "node %u: released", v->i);
	v->forwards = false;
	v->release_us = 0;
	if (v->node != NULL) {
		node_release(v->node, v->w->now_us);
		v->due_us = 0;
	} else {
		/* the notify script leaves a word for the daemon */
		v->role = NODE_STANDBY;
		v->taking = false;
	}
}

static void
reboot(struct vnode *v)
{
	sim_say(v->w, "node %u: reboots", v->i);
	check_reboot(v);
	stop(v);
	vk_clear(v);
	fill(v->w, v->boot.boot_id, sizeof(v->boot.boot_id));
	v->role = NODE_STANDBY;
	v->taking = false;
	v->term = 0;		/* the runtime directory is gone with the rest */
	v->forwards = false;
	v->release_us = 0;
	v->up_us = v->w->now_us + sim_below(v->w, 1500000) + 1;
}

/* Is that life over, or has any node but o ended a flow of that tuple since it began? */
static bool
ended_elsewhere(const struct world *w, unsigned o, unsigned slot, uint32_t life)
{
	unsigned	 i;

	if (w->over[life % LIVES])
		return true;
	for (i = 0; i < w->n; i++)
		if (i != o && w->v[i].kernel[slot].ended_us >= w->born_us[life % LIVES])
			return true;
	return false;
}

/* What v holds of nodes that are lost to it has to be in its kernel after a takeover. */
static void
expect(struct vnode *v)
{
	struct node_peer_info	 info;
	unsigned		 i, s;
	uint32_t		 life;

	v->expects = node_role(v->node) == NODE_STANDBY && !node_taken(v->node)->running && !v->lost;
	v->since_us = v->empty_us;
	memset(v->expected, 0, sizeof(v->expected));
	for (i = 0; i < v->w->n; i++) {
		if (i == v->i)
			continue;
		node_peer(v->node, sim_peer(v, i), v->w->now_us, &info);
		if (info.state != NODE_PEER_LOST)
			continue;
		for (s = 0; s < SLOTS; s++) {
			life = check_life(v, i, s);
			if (!ended_elsewhere(v->w, i, s, life))
				v->expected[i][s] = life;
		}
	}
}

static void
check_taken(struct vnode *v)
{
	const struct node_taken	*t = node_taken(v->node);
	unsigned		 s, i;

	if (!v->expects || t->aborted || t->failed > 0 || t->running)
		return;
	v->expects = false;
	for (i = 0; i < v->w->n; i++)
		for (s = 0; s < SLOTS; s++) {
			if (v->expected[i][s] == 0 || v->kernel[s].s.there ||
			    v->kernel[s].ended_us >= v->since_us ||
			    check_life(v, i, s) != v->expected[i][s])
				continue;
			sim_say(v->w, "node %u: slot %u", v->i, s);
			check_say(v, i, s);
			sim_bad(v->w, "a flow that was held did not come with the takeover");
		}
}

static void
take_over(struct vnode *v)
{
	sim_say(v->w, "node %u: takes over", v->i);
	expect(v);
	v->forwards = true;
	v->release_us = 0;
	node_takeover(v->node, NODE_TAKEOVER, v->w->now_us);
	v->due_us = 0;
}

/* --- chaos -------------------------------------------------------------------------------- */

/* Where a packet goes: to a node's own slots, or to one that forwards. */
static void
packet(struct world *w)
{
	struct vnode	*v = &w->v[sim_below(w, w->n)];

	if (v->dead)
		return;
	if (v->forwards && sim_chance(w, 800))
		vk_packet(v, sim_below(w, 4) == 0 ? 0 : sim_below(w, SHARED));
	else
		vk_packet(v, SHARED + v->i * OWN + sim_below(w, OWN));
}

static void
cut(struct world *w, struct vnode *v)
{
	unsigned	 how = sim_below(w, 4), l = sim_below(w, w->links), i, k;
	unsigned	 to = sim_below(w, w->n);

	if (how < 2) {			/* one direction, of one link or of all */
		for (i = 0; i < w->links; i++)
			if (how == 1 || i == l)
				v->cut[i][to] = !v->cut[i][to];
		sim_say(w, "network: %u to %u %s", v->i, to, v->cut[l][to] ? "cut" : "whole");
	} else if (how == 2) {		/* one node from all others */
		for (i = 0; i < w->links; i++)
			for (k = 0; k < w->n; k++)
				v->cut[i][k] = w->v[k].cut[i][v->i] = true;
		sim_say(w, "network: %u cut off", v->i);
	} else {
		for (i = 0; i < w->links; i++)
			for (k = 0; k < w->n; k++)
				v->cut[i][k] = w->v[k].cut[i][v->i] = false;
		sim_say(w, "network: %u whole", v->i);
	}
}

/* Another node takes over; who forwarded is released, now, soon, or not at all. */
static void
change_over(struct world *w, struct vnode *v)
{
	unsigned	 i;

	for (i = 0; i < w->n; i++) {
		if (i == v->i || !w->v[i].forwards || sim_chance(w, 300))
			continue;
		w->v[i].release_us = w->now_us + (sim_chance(w, 500) ? 1 : sim_below(w, 60000));
	}
	take_over(v);
}

/* What happens to daemons. */
static void
mishap(struct world *w, struct vnode *v)
{
	unsigned	 a = sim_below(w, 100), i;

	if (a < 35) {
		stop(v);
		v->up_us = w->now_us + (sim_chance(w, 500) ? 0 : sim_below(w, 1500000));
	} else if (a < 50) {
		if (!w->small)		/* what is on lease fills a small table for its whole time */
			reboot(v);
	} else if (a < 65) {
		v->stopped_us = w->now_us + 50000 + sim_below(w, 2500000);
		sim_say(w, "node %u: does nothing", v->i);
	} else if (a < 75)
		v->lost = true;
	else if (a < 80)
		v->wall_s += sim_chance(w, 500) ? 3600 : -3600;
	else if (a < 88) {
		sim_say(w, "node %u: resync", v->i);
		node_resync(v->node);
	} else if (a < 92) {
		sim_say(w, "node %u: its kernel's table is flushed", v->i);
		for (i = 0; i < SLOTS; i++)
			vk_end(v, i);
	} else if (a < 97)
		for (i = 0; i < 120; i++)
			packet(w);
	else {
		sim_say(w, "node %u: commit", v->i);
		node_takeover(v->node, NODE_COMMIT, w->now_us);
	}
}

static void
chaos(struct world *w)
{
	struct vnode	*v = &w->v[sim_below(w, w->n)];
	unsigned	 a = sim_below(w, 10000);

	if (a < 2500)
		packet(w);
	else if (a < 2560)
		cut(w, v);
	else if (v->node == NULL || v->stopped_us != 0)
		return;
	else if (a < 2590)
		mishap(w, v);
	else if (a < 2605)
		change_over(w, v);
	else if (a < 2609)
		release(v);
}

/* --- time ------------------------------------------------------------------------------------ */

static void
run_node(struct vnode *v)
{
	struct world	*w = v->w;
	unsigned	 turns, before = v->taken;

	if (vk_deliver(v))
		v->due_us = 0;
	for (turns = 0; turns < 8 && v->due_us <= w->now_us; turns++)
		v->due_us = node_run(v->node, w->now_us);
	if (v->taken != before)
		check_taken(v);
	if (w->small && w->now_us - v->audit_us >= AUDIT_US && v->dump < 0 &&
	    local_complete(node_local(v->node))) {
		v->audit_us = w->now_us;
		local_resync(node_local(v->node));
	}
}

static void
step(struct world *w, uint64_t us)
{
	struct vnode	*v;
	unsigned	 i;

	w->now_us += us;
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (v->up_us != 0 && v->up_us <= w->now_us && !v->dead) {
			v->up_us = 0;
			start(v);
		}
		if (v->stopped_us != 0 && v->stopped_us <= w->now_us) {
			sim_say(w, "node %u: goes on", v->i);
			v->stopped_us = 0;
			if (sim_chance(w, 500))
				net_wake(v, false);	/* it reads datagrams before events */
		}
		if (v->release_us != 0 && v->release_us <= w->now_us && v->stopped_us == 0)
			release(v);
		if (w->now_us / STEP_US % 8 == i && !v->dead)
			vk_expire(v);
	}
	net_deliver(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (v->node == NULL || v->stopped_us != 0)
			continue;
		run_node(v);
		if (v->nsock > 0)
			net_wake(v, false);
	}
	check_always(w);
}

static void
rest(struct world *w, uint64_t us)
{
	uint64_t	 until_us = w->now_us + us;

	while (w->now_us < until_us && w->bad == NULL)
		step(w, REST_STEP_US);
}

/* Nobody's table may be full: flows end until there is room everywhere. */
static void
make_room(struct world *w)
{
	unsigned	 i, s, n, room = SLOTS;

	for (i = 0; i < w->n; i++)
		if (w->v[i].max_flows < room)
			room = w->v[i].max_flows;
	for (i = 0; i < w->n; i++)
		for (n = 0, s = 0; s < SLOTS; s++)
			if (w->v[i].kernel[s].s.there && ++n > room * 2 / 3)
				vk_end(&w->v[i], s);
}

static bool
settle(struct world *w)
{
	uint64_t	 until_us = w->now_us + (w->small ? SETTLE_SMALL_US : SETTLE_US);

	while (w->now_us < until_us && w->bad == NULL) {
		if (w->small)
			make_room(w);		/* takeovers that were under way bring more */
		rest(w, 20000);
		if (w->bad == NULL && check_rest(w))
			return true;
	}
	check_complain(w);
	sim_bad(w, "not equal in time");
	return false;
}

/*
 * Run until a takeover of v has finished.  Packets pass v meanwhile if it is
 * busy, and some still pass a node that is being relieved (NULL: none).
 */
static bool
await_taken(struct world *w, struct vnode *v, unsigned before, bool busy, struct vnode *stray)
{
	uint64_t	 until_us = w->now_us + 10000000;

	while (w->now_us < until_us && w->bad == NULL && v->taken == before) {
		if (busy && sim_chance(w, 500))
			vk_packet(v, sim_below(w, SHARED));
		if (busy && stray != NULL && sim_chance(w, 200))
			vk_packet(stray, sim_below(w, SHARED));
		step(w, STEP_US);
	}
	if (v->taken == before)
		sim_bad(w, "the takeover does not end");
	return w->bad == NULL;
}

/* --- phases ------------------------------------------------------------------------------------ */

/* The end of chaos: the network is whole, all are up, one is active. */
static struct vnode *
calm(struct world *w)
{
	struct vnode	*v, *active = NULL;
	unsigned	 i, before;

	sim_say(w, "calm");
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		memset(v->cut, 0, sizeof(v->cut));
		if (v->up_us != 0)
			v->up_us = w->now_us + 1;
		if (v->stopped_us != 0)
			v->stopped_us = w->now_us + 1;
	}
	rest(w, REST_STEP_US);
	for (i = 0; i < w->n; i++)
		if (w->v[i].forwards && w->v[i].release_us == 0 && (active == NULL || sim_chance(w, 500)))
			active = &w->v[i];
	if (active == NULL && !w->small && sim_chance(w, 700)) {
		active = &w->v[sim_below(w, w->n)];
		before = active->taken;
		take_over(active);
		await_taken(w, active, before, sim_chance(w, 500), NULL);
	}
	for (i = 0; i < w->n; i++)
		if (&w->v[i] != active)
			release(&w->v[i]);
	return active;
}

/* Has another node than these two a say in that flow? */
static bool
others_know(const struct world *w, const struct vnode *a, const struct vnode *b, unsigned s)
{
	unsigned	 i;

	for (i = 0; i < w->n; i++)
		if (i != a->i && i != b->i && w->v[i].kernel[s].s.there)
			return true;
	for (i = 0; i < w->n; i++)
		if (i != b->i && i != a->i && check_holds(b, i, s))
			return true;
	/* or a copy that waits for the end of its lease */
	return !a->kernel[s].s.there && check_holds(b, a->i, s);
}

/* Does b know of a by a proof that is young? */
static bool
proven(const struct vnode *b, const struct vnode *a)
{
	struct node_peer_info	 info;

	node_peer(b->node, sim_peer(b, a->i), b->w->now_us, &info);
	return info.in_sync && info.verified_ms < 300;
}

/* Has any flow of v's kernel ended since then? */
static bool
ended_since(const struct vnode *v, uint64_t since_us)
{
	unsigned	 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].ended_us >= since_us)
			return true;
	return false;
}

/* What the kernel of the new active has to hold, and what not. */
static void
check_success(struct world *w, const struct vnode *a, const struct vnode *b, const bool *had,
    const bool *others, uint64_t since_us)
{
	const struct kstate	*was, *is;
	unsigned		 s;

	for (s = 0; s < SLOTS && w->bad == NULL; s++) {
		was = &a->kernel[s].s;
		is = &b->kernel[s].s;
		/* what passed meanwhile may have made another flow of it */
		if (a->kernel[s].packet_us >= since_us || b->kernel[s].packet_us >= since_us)
			continue;
		if (vk_passes(was) && !is->there && b->kernel[s].ended_us < since_us)
			sim_bad(w, "a flow was lost in the takeover");
		else if (vk_passes(was) && !had[s] && !others[s] &&
		    (is->mark != was->mark || is->port != was->port))
			sim_bad(w, "a flow came out of the takeover as another one");
		else if (vk_passes(was) && is->there && was->related && !is->related && !had[s] && !others[s] &&
		    vk_passes(&a->kernel[s - 1].s) && b->kernel[s - 1].s.there &&
		    b->kernel[s - 1].packet_us < since_us)
			sim_bad(w, "a flow came out of the takeover without its master");
		else if (a->kernel[s].expects && !b->kernel[s].expects && vk_passes(is) && vk_passes(was) &&
		    is->mark >> 8 == was->mark >> 8 && !others[s])
			sim_bad(w, "an expectation was lost in the takeover");
		else if (!was->there && is->there && !had[s] && !others[s] &&
		    a->kernel[s].ended_us < since_us)
			sim_bad(w, "a flow that had ended came back");
		if (w->bad != NULL)
			sim_say(w, "slot %u, from node %u (mark %x%s) to node %u (%smark %x%s)", s, a->i,
			    was->mark, was->related ? ", related" : "", b->i, is->there ? "" : "gone, ",
			    is->mark, is->related ? ", related" : "");
		if (w->bad != NULL && a->node != b->node)
			check_say(b, a->i, s);
	}
}

/*
 * Everybody is equal; the active goes on for a while, then it dies or is
 * relieved: the next one has all that it had, and nothing of what had ended.
 */
static void
fail_over(struct world *w, struct vnode *a)
{
	struct vnode	*b;
	char		 reason[NODE_REASON_MAX];
	bool		 had[SLOTS], others[SLOTS], dies = sim_chance(w, 700), waits = sim_chance(w, 500);
	bool		 busy = sim_chance(w, 500);
	unsigned	 s, before;
	uint64_t	 since_us;

	b = &w->v[(a->i + 1 + sim_below(w, w->n - 1)) % w->n];
	for (s = 0; s < 150 && w->bad == NULL; s++) {
		vk_packet(a, sim_chance(w, 800) ? sim_below(w, SHARED) :
		    SHARED + a->i * OWN + sim_below(w, OWN));
		step(w, STEP_US);
	}
	if (sim_chance(w, 250))
		rest(w, 4 * PURGE_US);	/* what a standby should let go is gone */
	if (w->bad != NULL || !settle(w))
		return;
	sim_say(w, "node %u %s, node %u follows", a->i, dies ? "dies" : "is relieved", b->i);
	for (s = 0; s < SLOTS; s++) {
		had[s] = b->kernel[s].s.there;
		others[s] = others_know(w, a, b, s);
	}
	waits = waits && proven(b, a);
	if (dies) {
		stop(a);
		a->dead = true;
		a->forwards = false;
		if (waits) {
			/* a stream may begin anew for want of tombstones: not for long */
			for (s = 0; s < 150 && (s < 75 || !node_ready(b->node, w->now_us, reason)); s++)
				rest(w, 20000);
			if (w->bad == NULL && !node_ready(b->node, w->now_us, reason)) {
				sim_say(w, "node %u: %s", b->i, reason);
				sim_bad(w, "not ready although it was equal when the other one died");
			}
		}
	}
	if (w->bad != NULL)
		return;
	before = b->taken;
	since_us = w->now_us;
	take_over(b);
	if (!dies && busy)
		a->release_us = w->now_us + 1 + sim_below(w, 40000);
	else if (!dies)
		release(a);
	if (!await_taken(w, b, before, busy, dies ? NULL : a))
		return;
	if (a->release_us != 0)
		release(a);
	check_success(w, a, b, had, others, since_us);
	before = b->taken;
	take_over(b);
	if (!await_taken(w, b, before, false, NULL))
		return;
	/* who is relieved may have told of strays after the first one */
	if (node_taken(b->node)->failed != 0 ||
	    (node_taken(b->node)->created != 0 && (dies || !busy) && !ended_since(b, since_us)))
		sim_bad(w, "a second takeover was not the same as none");
	else
		settle(w);
}

/* --- a run ---------------------------------------------------------------------------------------- */

static void
make(struct world *w, uint64_t seed)
{
	static const unsigned	 sizes[] = { 2, 2, 2, 2, 3, 3, 3, 4, 4, 5 };
	struct vnode		*v;
	unsigned		 i;

	memset(w, 0, sizeof(*w));
	w->verbose = getenv("SIM_LOG") != NULL;
	w->rng = seed;
	w->now_us = 1000000;
	w->n = sizes[sim_below(w, 10)];
	w->links = 1 + sim_below(w, LINKS);
	w->loss = (unsigned[]){ 0, 2, 10, 25 }[sim_below(w, 4)];
	w->dup = sim_below(w, 2) * 10;
	w->delay_us = (uint64_t[]){ 100, 2000, 20000 }[sim_below(w, 3)];
	w->small = sim_chance(w, 100);
	w->mishaps = sim_chance(w, 300);
	w->ring_bytes = FEED_RING_FRAMES * (56 + DATAGRAM);
	net_init(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		v->w = w;
		v->i = i;
		v->max_flows = w->small && sim_chance(w, 600) ? 10 + sim_below(w, 15) : 1000;
		v->max_tombs = (uint32_t[]){ 3, 20, 1000 }[sim_below(w, 3)];
		v->ev_room = (unsigned[]){ 16, 100, EVENTS }[sim_below(w, 3)];
		fill(w, v->boot.boot_id, sizeof(v->boot.boot_id));
		vk_init(v);
	}
	for (i = 0; i < w->n; i++)
		start(&w->v[i]);
	take_over(&w->v[sim_below(w, w->n)]);
}

static bool
run_seed(uint64_t seed)
{
	static struct world	 w;
	struct vnode		*active;
	unsigned		 i;

	make(&w, seed);
	while (w.now_us < 1000000 + CHAOS_US && w.bad == NULL) {
		chaos(&w);
		step(&w, STEP_US);
	}
	if (w.bad == NULL) {
		active = calm(&w);
		if (w.bad == NULL && settle(&w) && active != NULL && !w.small)
			fail_over(&w, active);
	}
	if (w.bad != NULL) {
		printf("seed %llu: %s at %llu ms (%u nodes, loss %u %%, dup %u %%, delay %llu us%s%s)\n",
		    (unsigned long long)seed, w.bad, (unsigned long long)(w.now_us / 1000), w.n, w.loss,
		    w.dup, (unsigned long long)w.delay_us, w.small ? ", small tables" : "",
		    w.mishaps ? ", mishaps" : "");
		fflush(stdout);
	}
	for (i = 0; i < w.n; i++)
		stop(&w.v[i]);
	return w.bad == NULL;
}

int
main(int argc, char **argv)
{
	struct seeds	 s;

	log_init(getenv("SIM_LOG") != NULL ? LOG_DEBUG : LOG_CRIT);
	seeds_run(&s, argc, argv, run_seed);
	printf("%llu seeds of whole nodes, %llu failed\n", (unsigned long long)s.ran,
	    (unsigned long long)s.failed);
	return s.failed == 0 ? 0 : 1;
}
