/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What happens to the nodes of sim_node.
 *
 * An election gives the address to one node, or to two that do not hear of each
 * other, and moves it as it likes.  In some worlds the role of a daemon follows
 * the address at once.  In the others a script is started where the address
 * came or went: it leaves a wish and goes to the daemon, at once, late, or never
 * (then nobody has wished for anything); a script that comes late brings the
 * last wish.  Operators type what they like.  Daemons are killed, machines die,
 * nodes freeze, links are cut.
 */
#include <string.h>

#include "sim.h"

/* --- roles --------------------------------------------------------------------------- */

void
chaos_disturbed(struct world *w)
{
	w->settled_us = w->now_us;
}

/* The daemon is told to take a role. */
static void
command(struct vnode *v, enum node_role role, const char *who)
{
	sim_say(v->w, "node %u: %s, says %s", v->i, role == NODE_ACTIVE ? "takes over" : "released", who);
	chaos_disturbed(v->w);
	if (role == NODE_ACTIVE) {
		promise_take(v);
		node_takeover(v->node, NODE_TAKEOVER, v->w->now_us);
	} else
		node_release(v->node, v->w->now_us);
	v->flapped = false;
	v->typed = strcmp(who, "an operator") == 0;
	v->due_us = 0;
}

/* A script leaves its wish; it will get to the daemon later. */
static void
call_script(struct vnode *v, enum node_role role, uint64_t late_us)
{
	unsigned	 i;

	v->wish = role;
	v->wished = true;
	for (i = 0; i < SCRIPTS; i++)
		if (v->script_us[i] == 0) {
			v->script_us[i] = v->w->now_us + 1 + late_us;
			return;
		}
}

void
chaos_ask(struct vnode *v, enum node_role role)
{
	if (!v->w->follow)
		call_script(v, role, 0);
}

void
chaos_address(struct world *w, unsigned who, bool quiet)
{
	static const unsigned	 late_ms[] = { 0, 0, 10, 50, 300, 1500, 3000, 15000 };
	struct vnode		*v;
	unsigned		 i;
	bool			 had;

	sim_say(w, "the address is at nodes %s%s%s%s%s", who & 1 ? "0 " : "", who & 2 ? "1 " : "",
	    who & 4 ? "2 " : "", who & 8 ? "3 " : "", who & 16 ? "4 " : "");
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		had = v->has;
		v->has = v->up && (who & 1u << i);
		v->flapped |= had && !v->has;
		if (had != v->has && v->up && !quiet && !w->follow)
			call_script(v, v->has ? NODE_ACTIVE : NODE_STANDBY,
			    (uint64_t)late_ms[sim_below(w, 8)] * MS);
	}
	w->elected_us = w->now_us;
	client_reroute(w);
}

void
chaos_roles(struct world *w)
{
	struct vnode	*v;
	unsigned	 i, k;

	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (v->stopped_us != 0)
			continue;
		if (w->follow && v->node != NULL && ((node_role(v->node) == NODE_ACTIVE) != v->has || (v->flapped && v->has)))
			command(v, v->has ? NODE_ACTIVE : NODE_STANDBY, "the address");
		for (k = 0; k < SCRIPTS; k++) {
			if (v->script_us[k] == 0 || v->script_us[k] > w->now_us)
				continue;
			v->script_us[k] = 0;
			if (v->node != NULL)
				command(v, v->wish, "a script");
		}
	}
}

uint64_t
chaos_due(const struct world *w)
{
	uint64_t	 due = UINT64_MAX;
	unsigned	 i, k;

	for (i = 0; i < w->n; i++)
		for (k = 0; k < SCRIPTS; k++)
			if (w->v[i].stopped_us == 0 && w->v[i].script_us[k] != 0 &&
			    w->v[i].script_us[k] < due)
				due = w->v[i].script_us[k];
	return due;
}

/* --- the network ---------------------------------------------------------------------- */

/* All links between two nodes, one way, or none of them. */
static void
cut_off(struct world *w, unsigned from, unsigned to, bool yes)
{
	unsigned	 l;

	for (l = 0; l < w->links; l++)
		w->v[from].cut[l][to] = yes;
}

static void
cut_node(struct vnode *v, bool yes)
{
	struct world	*w = v->w;
	unsigned	 k;

	for (k = 0; k < w->n; k++) {
		cut_off(w, v->i, k, yes);
		cut_off(w, k, v->i, yes);
	}
	sim_say(w, "network: node %u %s", v->i, yes ? "cut off" : "whole");
}

static void
cut(struct world *w, struct vnode *v)
{
	unsigned	 how = sim_below(w, 4), l = sim_below(w, w->links), to = sim_below(w, w->n);

	if (how == 0) {			/* one direction, of one link or of all */
		v->cut[l][to] = !v->cut[l][to];
		sim_say(w, "network: %u to %u over link %u %s", v->i, to, l,
		    v->cut[l][to] ? "cut" : "whole");
	} else if (how == 1) {
		cut_off(w, v->i, to, !v->cut[l][to]);
		sim_say(w, "network: %u to %u %s", v->i, to, v->cut[l][to] ? "cut" : "whole");
	} else
		cut_node(v, how == 2);
}

/* --- accidents -------------------------------------------------------------------------- */

void
chaos_reboot(struct vnode *v, uint64_t back_us)
{
	struct world	*w = v->w;

	sim_say(w, "node %u: its machine dies", v->i);
	check_reboot(v);
	v->booted_us = w->now_us + back_us;
	sim_stop(v);
	vk_clear(v);
	sim_fill(w, v->boot.boot_id, sizeof(v->boot.boot_id));
	memset(v->script_us, 0, sizeof(v->script_us));
	memset(v->refused, 0, sizeof(v->refused));
	memset(v->lapsed, 0, sizeof(v->lapsed));
	v->role = NODE_STANDBY;		/* the runtime directory is gone with the rest */
	v->taking = v->wished = false;
	v->wish = NODE_STANDBY;
	v->term = 0;
	v->up = v->has = false;
	v->up_us = back_us == 0 ? 0 : w->now_us + back_us;
	client_reroute(w);
}

/* Of all flows that only one node's daemon knows, its operator drops the copies. */
static void
excuse_copies(struct world *w)
{
	const struct client	*c;
	unsigned		 s, i;
	bool			 in_a_kernel;

	for (s = 0; s < SHARED; s++) {
		c = &w->client[s];
		in_a_kernel = false;
		for (i = 0; i < w->n; i++)
			in_a_kernel |= vk_life(&w->v[i].kernel[s]) == c->life;
		if (!in_a_kernel)
			client_excuse(w, s, "an operator dropped copies of it");
	}
}

/*
 * An operator ends what the kernel of v has, with our command or with another
 * program.  On a standby what lives on through the active node stays alive; for
 * the other program if packets have passed there.
 */
static void
flush_kernel(struct vnode *v, bool ours)
{
	unsigned	 s;
	uint32_t	 life;
	bool		 active = node_role(v->node) == NODE_ACTIVE;

	v->flush_us = v->w->now_us;
	sim_say(v->w, "node %u: flush kernel, %s", v->i, ours ? "by command" : "by conntrack -F");
	for (s = 0; s < SLOTS; s++) {
		life = vk_life(&v->kernel[s]);
		if (life != 0 && s < SHARED && v->w->client[s].life == life &&
		    (active || !promise_lives_on(v, s, life, !ours)))
			client_excuse(v->w, s, "an operator flushed the kernel");
		v->w->is_flushed[life % LIVES] |= active;
		if (!ours)
			vk_end(v, s, true);
	}
	if (ours)
		node_flush_kernel(v->node);
}

static void
forget(struct vnode *v)
{
	unsigned	 of = (v->i + 1 + sim_below(v->w, v->w->n - 1)) % v->w->n;

	if (node_forget(v->node, sim_peer(v, of), v->w->now_us) < 0)
		return;
	sim_say(v->w, "node %u: forget node %u", v->i, of);
	check_dropped(v, of);
	excuse_copies(v->w);
}

static void
flush_remote(struct vnode *v)
{
	unsigned	 i;

	sim_say(v->w, "node %u: flush remote", v->i);
	if (node_flush_remote(v->node) < 0)
		return;
	for (i = 0; i < v->w->n; i++)
		if (i != v->i)
			check_dropped(v, i);
	excuse_copies(v->w);
}

static void
flush_local(struct vnode *v)
{
	sim_say(v->w, "node %u: flush local", v->i);
	node_flush_local(v->node, v->w->now_us);
	check_flushed(v);
}

static void
delete_one(struct vnode *v)
{
	unsigned	 s = sim_below(v->w, SHARED);
	uint32_t	 life = vk_life(&v->kernel[s]);

	if (life == 0)
		return;
	sim_say(v->w, "node %u: conntrack -D of slot %u", v->i, s);
	if (v->w->client[s].life == life &&
	    (node_role(v->node) == NODE_ACTIVE || !promise_lives_on(v, s, life, true)))
		client_excuse(v->w, s, "an operator deleted it");
	vk_end(v, s, true);
}

/* Somebody types a role; a script that knows better may follow. */
static void
type_role(struct vnode *v)
{
	enum node_role	 role = sim_chance(v->w, 500) ? NODE_ACTIVE : NODE_STANDBY, wish = v->wish;

	command(v, role, "an operator");
	v->wish = role;
	v->wished = true;
	if (!v->w->follow && sim_chance(v->w, 700))
		call_script(v, wish, 100 * MS + sim_below(v->w, 400 * MS));
}

static void
operate(struct vnode *v)
{
	unsigned	 a = sim_below(v->w, 100);

	if (!sim_runs(v))
		return;
	chaos_disturbed(v->w);
	if (a < 35)
		type_role(v);
	else if (a < 48) {
		sim_say(v->w, "node %u: commit", v->i);
		node_takeover(v->node, NODE_COMMIT, v->w->now_us);
	} else if (a < 58) {
		sim_say(v->w, "node %u: resync", v->i);
		node_resync(v->node);
	} else if (a < 66)
		flush_local(v);
	else if (a < 74)
		flush_remote(v);
	else if (a < 82)
		forget(v);
	else if (a < 88)
		flush_kernel(v, true);
	else if (a < 92)
		flush_kernel(v, false);
	else if (a < 96)
		delete_one(v);
	else
		node_verify(v->node, v->w->now_us);
	v->due_us = 0;
}

static void
kill_daemon(struct vnode *v, uint64_t back_us)
{
	sim_stop(v);
	v->up_us = v->w->now_us + back_us;
}

static void
freeze(struct vnode *v, uint64_t us)
{
	v->stopped_us = v->w->now_us + us;
	sim_say(v->w, "node %u: does nothing for %llu ms", v->i, (unsigned long long)(us / MS));
}

/* --- a storm: replication has to stand it ------------------------------------------------- */

/* What happens to daemons. */
static void
mishap(struct world *w, struct vnode *v)
{
	unsigned	 a = sim_below(w, 100);

	if (a < 35)
		kill_daemon(v, sim_chance(w, 500) ? 0 : sim_below(w, 1500000));
	else if (a < 50) {
		if (!w->small)		/* what is on lease fills a small table for its whole time */
			chaos_reboot(v, sim_below(w, 1500000) + 1);
	} else if (a < 65)
		freeze(v, 50 * MS + sim_below(w, 2500 * MS));
	else if (a < 75)
		v->lost = true;
	else if (a < 80) {
		if (w->clocks)
			v->wall_s += sim_chance(w, 500) ? 3600 : -3600;
	} else if (a < 94)
		operate(v);
	else
		v->lost = true;
}

/* So much at once that it has to wait. */
static void
burst(struct vnode *v)
{
	unsigned	 i;

	for (i = 0; i < 120; i++)
		vk_packet(v, SHARED + v->i * OWN + sim_below(v->w, OWN));
}

static unsigned
somebody_up(struct world *w)
{
	unsigned	 i = sim_below(w, w->n), k;

	for (k = 0; k < w->n; k++)
		if (w->v[(i + k) % w->n].up)
			return (i + k) % w->n;
	return i;
}

void
chaos_storm(struct world *w, uint64_t us)
{
	uint64_t	 until_us = w->now_us + us;
	struct vnode	*v;
	unsigned	 a;

	sim_say(w, "a storm");
	while (w->now_us < until_us && w->bad == NULL) {
		v = &w->v[sim_below(w, w->n)];
		a = sim_below(w, 10000);
		if (a < 4000)
			vk_packet(v, SHARED + v->i * OWN + sim_below(w, OWN));
		else if (a < 4060)
			cut(w, v);
		else if (a < 4090 && v->node != NULL && v->stopped_us == 0)
			mishap(w, v);
		else if (a < 4110)
			burst(v);
		else if (a < 4130)
			chaos_address(w, 1u << somebody_up(w), sim_chance(w, 50));
		chaos_disturbed(w);
		sim_step(w, w->now_us + MS);
	}
}

/* --- one thing after the other -------------------------------------------------------------- */

/* Two halves of the cluster do not hear of each other: each elects somebody. */
static void
split(struct world *w)
{
	unsigned	 a = somebody_up(w), b = somebody_up(w), i;
	bool		 sync = sim_chance(w, 500);

	chaos_address(w, 1u << a | 1u << b, false);
	for (i = 0; sync && i < w->n; i++)
		if (i == b)
			cut_node(&w->v[b], true);
}

/* The election hears all of it again: one keeps the address, without a word to it. */
static void
heal(struct world *w)
{
	unsigned	 i, keeps = w->n, n = 0;

	for (i = 0; i < w->n; i++)
		if (w->v[i].has && sim_below(w, ++n) == 0)
			keeps = i;
	if (keeps < w->n)
		chaos_address(w, 1u << keeps, false);
	for (i = 0; i < w->n; i++)
		if (sim_chance(w, 700))
			cut_node(&w->v[i], false);
}

static void
machine(struct world *w)
{
	struct vnode	*v = &w->v[somebody_up(w)];
	bool		 had = v->has;
	unsigned	 i;

	for (i = 0; i < w->n; i++)
		if (!w->v[i].up)
			return;
	if (w->small)
		return;
	chaos_reboot(v, 1500 * MS + sim_below(w, 7000 * MS));
	if (had || sim_chance(w, 200))
		chaos_address(w, 1u << somebody_up(w), false);
}

static void
operators(struct world *w)
{
	unsigned	 n = 1 + sim_below(w, 3);

	while (n-- > 0) {
		operate(&w->v[sim_below(w, w->n)]);
		if (sim_chance(w, 500))
			sim_rest(w, sim_below(w, 400 * MS));
	}
}

void
chaos_disturb(struct world *w)
{
	struct vnode	*v = &w->v[somebody_up(w)];
	unsigned	 a = sim_below(w, 100);

	chaos_disturbed(w);
	if (a < 25)
		chaos_address(w, 1u << v->i, sim_chance(w, 50));
	else if (a < 37)
		split(w);
	else if (a < 47)
		heal(w);
	else if (a < 60 && v->node != NULL)
		kill_daemon(v, (uint64_t[]){ 1, 500 * MS, 2 * S_US, 6 * S_US }[sim_below(w, 4)]);
	else if (a < 68)
		cut(w, v);
	else if (a < 80)
		operators(w);
	else if (a < 90)
		machine(w);
	else if (a < 95 && sim_runs(v))
		freeze(v, 50 * MS + sim_below(w, 4000 * MS));
	else if (sim_runs(v))
		v->lost = true;
}

void
chaos_mend(struct world *w)
{
	struct vnode	*v;
	unsigned	 i, k;

	sim_say(w, "calm");
	chaos_disturbed(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		memset(v->cut, 0, sizeof(v->cut));
		if (v->up_us != 0)
			v->up_us = w->now_us + 1;
		if (v->stopped_us != 0)
			v->stopped_us = w->now_us + 1;
		for (k = 0; k < SCRIPTS; k++)
			if (v->script_us[k] != 0)
				v->script_us[k] = w->now_us + 1;
	}
}
