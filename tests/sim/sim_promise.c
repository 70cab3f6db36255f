/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the clients of sim_node were promised.
 *
 * Some time after the last disturbance each active node that can be reached has
 * each flow that its client still wants, translated as ever and with windows
 * that let packets pass, if it could have it: if its own kernel or one of its
 * copies holds the flow, or the kernel of a node that it can talk to.  It does
 * not say that it is ready before that.  The last copy of such a flow is not
 * removed from a kernel, nor an entry that is used; an entry that carries
 * packets does not give way to an older flow.  Written entries live as long as a
 * client may keep silent.  What has ended goes.  Two active nodes say so.  A node
 * has the role that was asked for last.
 *
 * These are the excuses, and there are no others:
 *   - nobody whom the node can reach had a copy: the flow was new, or all that
 *     had it died;
 *   - the flow was not established yet;
 *   - an operator ended it on an active node, or on the only one that had it, or
 *     dropped the only copies (client_excuse());
 *   - a stray of it was born where nobody could tell it from a new flow, since
 *     that node had not heard of the flow;
 *   - it is no TCP, and uses an entry that a stray of a former one has made, which
 *     is taken for that;
 *   - it is no TCP, and its packets made another flow on a node that nobody told
 *     for a while that it is active: that one counts now;
 *   - another life of the tuple is there, or has ended, and of one of the two
 *     nobody knows when it was born, since a daemon found it in its kernel, or
 *     the clock jumped;
 *   - a peer tells a younger life of the tuple, and nobody has told of its end;
 *   - the filter of a node leaves out the life that is used, but not another one
 *     of the tuple;
 *   - the kernel refused the entry: another flow is in the way, or was until a
 *     moment ago;
 *   - stale windows: since the node was last told to take over, packets passed
 *     another node of which it could not know that it was active: nobody had
 *     told that one, its daemon did nothing, or the two could not talk;
 *   - the entry carried packets here once and lapsed here, while nobody whom the
 *     node knew to be active held the flow (vnode.lapsed);
 *   - no packet got through anywhere for so long that entries lapse, also copies
 *     of copies, which have less time;
 *   - tables are smaller than what they should hold: nothing is promised then.
 * Without counters a standby may keep what has ended, and an active node may for
 * as long as it holds a copy of it, for instance of a node that died.
 */
#include "sim.h"

#define LOOK_US		(100 * MS)
#define BOUND_US	(5 * S_US)
#define TOLD_US		(2 * S_US)	/* who can talk for so long knows of each other */
#define READY_US	(2 * S_US)
#define TWO_US		(3 * S_US)
#define FLUSH_US	(1 * S_US)
#define STRAY_US	(1500 * MS)
#define LAPSING_US	(60 * S_US)	/* what a standby would have for so long only is left to its timeout */
#define KNOWN_US	(300 * MS)	/* a daemon knows what is there for so long */

/*
 * Storms still break these promises in some seeds.  Without -c they are counted,
 * and there is a bound on them: see simulate in tests/run-tests.
 */
static void
broken(struct world *w, const char *what)
{
	if (w->clients || w->only != NULL)
		sim_bad(w, what);
	else {
		sim_say(w, "broken: %s", what);
		w->broken = true;
	}
}

/* --- who knows whom -------------------------------------------------------------- */

bool
promise_reach(const struct vnode *a, const struct vnode *b)
{
	unsigned	 l;

	if (!sim_runs(a) || !sim_runs(b))
		return false;
	for (l = 0; l < a->w->links; l++)
		if (!a->cut[l][b->i] && !b->cut[l][a->i])
			return true;
	return false;
}

static bool
is_since(const struct world *w, uint64_t since_us, uint64_t for_us)
{
	return since_us != 0 && w->now_us - since_us >= for_us;
}

static bool
is_active(const struct vnode *v)
{
	return sim_runs(v) && node_role(v->node) == NODE_ACTIVE;
}

static void
look_around(struct vnode *v)
{
	struct world	*w = v->w;
	unsigned	 i;

	for (i = 0; i < w->n; i++) {
		if (i == v->i)
			continue;
		if (!promise_reach(v, &w->v[i])) {
			if (v->reach_us[i] != 0)
				client_blind(w, i, v->i);
			v->reach_us[i] = 0;
		} else if (v->reach_us[i] == 0)
			v->reach_us[i] = w->now_us;
	}
	if (sim_runs(v) && node_role(v->node) != v->last_role) {
		v->last_role = node_role(v->node);
		v->role_us = w->now_us;
	}
}

void
promise_start(struct vnode *v)
{
	unsigned	 s;

	v->start_us = v->role_us = v->w->now_us;
	v->last_role = node_role(v->node);
	v->quiet_us = 0;
	for (s = 0; s < SHARED; s++)
		v->lacks_us[s] = v->hides_us[s] = 0;
}

void
promise_take(struct vnode *v)
{
	v->take_us = v->w->now_us;
}

/* --- what lives -------------------------------------------------------------------- */

bool
promise_copy(const struct vnode *v, unsigned slot, uint32_t life, unsigned but)
{
	unsigned	 o;

	if (v->node == NULL)
		return false;
	for (o = 0; o < v->w->n; o++)
		if (o != v->i && o != but && check_life(v, o, slot) == life)
			return true;
	return false;
}

bool
promise_held_elsewhere(const struct vnode *v, unsigned slot, uint32_t life)
{
	const struct world	*w = v->w;
	unsigned		 i;

	for (i = 0; i < w->n; i++)
		if ((i != v->i && vk_life(&w->v[i].kernel[slot]) == life) ||
		    promise_copy(&w->v[i], slot, life, v->i))
			return true;
	return false;
}

bool
promise_lives_on(const struct vnode *v, unsigned slot, uint32_t life, bool used)
{
	const struct vnode	*a;
	unsigned		 i;

	for (i = 0; i < v->w->n; i++) {
		a = &v->w->v[i];
		if (a != v && is_active(a) && vk_life(&a->kernel[slot]) == life &&
		    (!used || a->kernel[slot].packets > 0))
			return true;
	}
	return false;
}

bool
promise_told(const struct vnode *v, unsigned slot)
{
	const struct world	*w = v->w;
	unsigned		 i, o;

	for (i = 0; i < w->n; i++) {
		if (i != v->i && w->v[i].kernel[slot].s.there)
			return true;
		for (o = 0; o < w->n && w->v[i].node != NULL; o++)
			if (o != i && check_life(&w->v[i], o, slot) != 0)
				return true;
	}
	return false;
}

static bool
could_have(const struct vnode *v, unsigned slot, uint32_t life)
{
	const struct world	*w = v->w;
	unsigned		 i;

	if (vk_life(&v->kernel[slot]) == life || promise_copy(v, slot, life, NODES))
		return true;
	for (i = 0; i < w->n; i++)
		if (i != v->i && is_since(w, v->reach_us[i], TOLD_US) &&
		    vk_life(&w->v[i].kernel[slot]) == life)
			return true;
	return false;
}

/* Is all that the node is told of it that there are copies which nobody uses? */
static bool
are_copies(const struct vnode *v, unsigned slot, uint32_t life)
{
	unsigned	 i;

	for (i = 0; i < v->w->n; i++)
		if (i != v->i && check_life(v, i, slot) == life && !check_unused(v, i, slot))
			return false;
	return true;
}

static bool
is_lapsed(const struct vnode *v, unsigned slot, uint32_t life)
{
	const struct world	*w = v->w;
	unsigned		 i;

	for (i = 0; i < w->n; i++)
		if (vk_life(&w->v[i].kernel[slot]) == life)
			return false;
	return are_copies(v, slot, life);
}

static bool
is_excused(const struct vnode *v, unsigned slot, enum vk_fate fate)
{
	const struct world	*w = v->w;
	const struct client	*c = &w->client[slot];

	if (vk_life(&v->kernel[slot]) != 0 && vk_life(&v->kernel[slot]) != c->life && check_found(w, slot))
		return true;
	if (check_ended(w, slot, c->life))
		return true;
	if (v->refused[slot].life == c->life && v->refused[slot].until_us + BOUND_US / 2 > w->now_us)
		return true;
	if (fate == VK_STALE)
		return c->blind_us[v->i] >= v->take_us;
	return v->lapsed[slot] == c->life || is_lapsed(v, slot, c->life);
}

/* Who has what under that tuple. */
static void
say_slot(const struct world *w, unsigned slot)
{
	unsigned	 i, o;

	for (i = 0; i < w->n; i++) {
		if (vk_life(&w->v[i].kernel[slot]) != 0)
			sim_say(w, "  the kernel of node %u has life %u, %u packets", i,
			    vk_life(&w->v[i].kernel[slot]), w->v[i].kernel[slot].packets);
		for (o = 0; o < w->n && w->v[i].node != NULL; o++)
			if (o != i && check_life(&w->v[i], o, slot) != 0)
				check_say_copy(&w->v[i], o, slot);
	}
}

static void
say_due(const struct vnode *v, unsigned slot)
{
	const struct world	*w = v->w;
	const struct client	*c = &w->client[slot];
	const struct kflow	*k = &v->kernel[slot];

	sim_say(w, "client %u: life %u, %llu packets, path %d; node %u has life %u, port %u for %u, %s",
	    slot, c->life, (unsigned long long)c->passes, c->path, v->i, vk_life(k), k->s.port, c->port,
	    k->liberal ? "liberal" : "strict");
	say_slot(w, slot);
}

/* The flow has been due for too long? */
static void
check_due(struct vnode *v, unsigned slot)
{
	struct world		*w = v->w;
	const struct client	*c = &w->client[slot];
	uint64_t		 bound_us = BOUND_US + (w->loss >= 10 ? 3 * S_US : 0);
	enum vk_fate		 fate = vk_fate(v, slot);
	char			 reason[NODE_REASON_MAX];

	if (fate == VK_PASSED || is_excused(v, slot, fate) || !could_have(v, slot, c->life)) {
		v->lacks_us[slot] = v->hides_us[slot] = 0;
		return;
	}
	if (v->lacks_us[slot] == 0)
		v->lacks_us[slot] = w->now_us;
	if (fate == VK_STALE || !promise_copy(v, slot, c->life, NODES) ||
	    !node_ready(v->node, w->now_us, reason))
		v->hides_us[slot] = 0;
	else if (v->hides_us[slot] == 0)
		v->hides_us[slot] = w->now_us;
	if (is_since(w, v->lacks_us[slot], bound_us) && is_since(w, w->settled_us, bound_us)) {
		say_due(v, slot);
		broken(w, fate == VK_STALE ? "an active node has a flow that lives with stale windows" :
		    vk_life(&v->kernel[slot]) != 0 ? "an active node has another flow than the one that lives" :
		    "an active node lacks a flow that lives");
	} else if (is_since(w, v->hides_us[slot], READY_US) && is_since(w, w->settled_us, READY_US)) {
		say_due(v, slot);
		broken(w, "an active node is ready although it lacks a flow that it could have");
	}
}

/* Strays where nobody is told to put them right: they are what the peer knows by now. */
static void
check_stray(struct vnode *v, unsigned slot)
{
	struct world	*w = v->w;
	struct client	*c = &w->client[slot];

	if (c->stray == 0 || vk_life(&v->kernel[slot]) != c->stray || is_active(v))
		return;
	if (is_since(w, c->stray_us, STRAY_US))
		client_excuse(w, slot, "a stray of it was left alone");
}

static void
check_two(struct vnode *v)
{
	struct world	*w = v->w;
	unsigned	 i;
	bool		 two = false;

	for (i = 0; i < w->n; i++)
		two |= i != v->i && is_active(&w->v[i]) && is_since(w, v->reach_us[i], TWO_US) &&
		    is_since(w, w->v[i].role_us, TWO_US);
	if (!two || !is_since(w, v->role_us, TWO_US) || node_two_active(v->node))
		v->quiet_us = 0;
	else if (v->quiet_us == 0)
		v->quiet_us = w->now_us;
	if (is_since(w, v->quiet_us, TWO_US))
		broken(w, "two nodes are active, and one of them does not say so");
}

/* Has the daemon the role that was asked for last, as far as it can know that? */
static void
check_role(struct vnode *v)
{
	struct world	*w = v->w;
	enum node_role	 wish = w->follow ? (v->has ? NODE_ACTIVE : NODE_STANDBY) : v->wish;
	bool		 pending = false;
	unsigned	 i;

	for (i = 0; i < SCRIPTS; i++)
		pending |= v->script_us[i] != 0;
	if (!sim_runs(v) || pending || v->typed || !(w->follow || v->wished) || node_role(v->node) == wish)
		v->wrong_us = 0;
	else if (v->wrong_us == 0)
		v->wrong_us = w->now_us;
	if (is_since(w, v->wrong_us, S_US)) {
		sim_say(w, "node %u is %s", v->i, wish == NODE_ACTIVE ? "not active" : "active");
		sim_bad(w, "a node does not have the role that was asked for");
	}
}

void
promise_run(struct world *w)
{
	struct vnode		*v;
	const struct client	*c;
	unsigned		 i, s;

	if (w->now_us < w->promise_us)
		return;
	w->promise_us = w->now_us + LOOK_US;
	for (i = 0; i < w->n; i++)
		look_around(&w->v[i]);
	for (i = 0; i < w->n && !w->small; i++) {
		v = &w->v[i];
		for (s = 0; s < SHARED; s++) {
			c = &w->client[s];
			check_stray(v, s);
			if (is_active(v) && c->alive && c->established && !c->excused)
				check_due(v, s);
			else
				v->lacks_us[s] = v->hides_us[s] = 0;
		}
		check_role(v);
		if (is_active(v))
			check_two(v);
	}
}

/* --- what the daemon does to its kernel ---------------------------------------------- */

/* Did packets pass here when the daemon last could have asked? */
static bool
is_used(const struct vnode *v, unsigned slot)
{
	const struct kflow	*k = &v->kernel[slot];
	uint64_t		 now_us = v->w->now_us, asked_us = now_us - 50 * MS;

	if (k->asked_us + S_US > now_us)
		asked_us = k->asked_us;
	return k->packets > 0 && k->packet_us <= asked_us && asked_us - k->packet_us < PURGE_US / 4;
}

/* Does a copy that v holds have a life of that tuple that was born later? */
static bool
told_younger(const struct vnode *v, unsigned slot, uint32_t life)
{
	unsigned	 o;

	for (o = 0; o < v->w->n; o++)
		if (o != v->i && check_life(v, o, slot) > life)
			return true;
	return false;
}

void
promise_removed(struct vnode *v, unsigned slot)
{
	struct world		*w = v->w;
	uint32_t		 life = vk_life(&v->kernel[slot]);
	const struct client	*c = client_of(w, slot, life);

	if (slot < SHARED)
		sim_say(w, "node %u: life %u of slot %u is removed", v->i, life, slot);
	if (w->small)
		return;
	if (v->flush_us != 0 && v->flush_us + FLUSH_US > w->now_us) {
		w->is_flushed[life % LIVES] = true;
		/* a flush takes its time, and takes what is born meanwhile */
		if (c != NULL && !promise_lives_on(v, slot, life, false))
			client_excuse(w, slot, "an operator flushed the kernel");
		return;
	}
	if (slot >= SHARED) {
		/* of datagrams nobody knows whether they belong to an older flow, nor without a clock */
		if (!w->clocks && (slot - SHARED) / OWN == v->i && vk_is_tcp(slot) && v->kernel[slot].s.tcp_state != FLOW_TCP_TIME_WAIT &&
		    is_used(v, slot) && !v->kernel[slot].hidden && !check_found(w, slot) &&
		    !told_younger(v, slot, life)) {
			sim_say(w, "node %u, slot %u:", v->i, slot);
			say_slot(w, slot);
			broken(w, "a flow of the node itself that is used was removed");
		}
		return;
	}
	if (c == NULL || c->excused || !c->established || v->kernel[slot].hidden || check_found(w, slot) ||
	    check_ended(w, slot, life))
		return;
	if (c->path == (int)v->i && v->kernel[slot].s.port == c->port && is_used(v, slot)) {
		say_due(v, slot);
		broken(w, "a flow that is used was removed");
	} else if (!promise_held_elsewhere(v, slot, life) &&
	    w->now_us - c->last_us < vk_timeout_us(slot) / 2) {
		say_due(v, slot);
		broken(w, "the last copy of a flow that lives was removed");
	}
}

void
promise_replaced(struct vnode *v, unsigned slot, uint32_t life)
{
	const struct kflow	*k = &v->kernel[slot];
	const struct client	*c = client_of(v->w, slot, vk_life(k));

	/* an event may be on its way, and what comes of that is put right */
	if (c == NULL || c->excused || vk_life(k) == life || k->packets == 0 || v->w->small ||
	    v->w->now_us - k->life_us < KNOWN_US || v->w->now_us - v->woke_us < KNOWN_US ||
	    v->w->is_stray[life % LIVES] || !vk_passes(&k->s) || check_found(v->w, slot))
		return;
	say_due(v, slot);
	broken(v->w, "a flow that is used gave way to an older one");
}

/* Does v know of a node that is active and has that life? */
static bool
known_to_live(const struct vnode *v, unsigned slot, uint32_t life)
{
	const struct world	*w = v->w;
	unsigned		 i;

	for (i = 0; i < w->n; i++)
		if (i != v->i && is_active(&w->v[i]) && is_since(w, v->reach_us[i], TOLD_US) &&
		    is_since(w, w->v[i].role_us, TOLD_US) && vk_life(&w->v[i].kernel[slot]) == life)
			return true;
	return false;
}

void
promise_lapse(struct vnode *v, unsigned slot)
{
	struct world		*w = v->w;
	const struct kflow	*k = &v->kernel[slot];
	uint32_t		 life = vk_life(k);
	const struct client	*c = client_of(w, slot, life);

	if (c == NULL || c->excused || !c->established || w->small)
		return;
	sim_say(w, "node %u: life %u of slot %u lapses, %u packets", v->i, life, slot, k->packets);
	if (k->packets > 0 && !known_to_live(v, slot, life))
		v->lapsed[slot] = life;
	if (k->s.replied && (!vk_is_tcp(slot) || k->s.tcp_state == FLOW_TCP_ESTABLISHED) &&
	    k->packets == 0 && c->last_us <= k->written_us &&
	    w->now_us - c->last_us + SILENCE_US + S_US < vk_timeout_us(slot) &&
	    !promise_held_elsewhere(v, slot, life) && !k->second) {
		say_due(v, slot);
		broken(w, "the last copy of a flow that lives was given too little time");
	}
}

/* --- what has ended -------------------------------------------------------------------- */

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * Has the active node (there is just one) that tuple, too, or could it not have
 * it?  If not, *since_us is when it lost it.
 */
static bool
is_wanted(const struct world *w, const struct vnode *v, unsigned slot, uint32_t life,
    uint64_t *since_us)
{
	const struct vnode	*a;
	unsigned		 i, n = 0;
	bool			 has = false;

	for (i = 0; i < w->n; i++) {
		a = &w->v[i];
		if (a == v || !is_active(a))
			continue;
		n++;
		*since_us = later(*since_us, a->kernel[slot].ended_us);
		/* what it had before it rebooted is kept as well */
		has = a->kernel[slot].s.there || (a->booted_us != 0 &&
		    a->booted_us + LEASE_US + 2 * S_US > w->now_us && check_life(v, i, slot) != 0) ||
		    (a->refused[slot].life == life && a->refused[slot].until_us != 0);
	}
	return n != 1 || has;
}

void
promise_leftovers(struct world *w)
{
	const struct vnode	*v;
	unsigned		 i, s;
	uint32_t		 life;
	uint64_t		 since_us;
	bool			 active;

	for (i = 0; i < w->n && !w->small; i++) {
		v = &w->v[i];
		for (s = 0; s < SHARED && sim_runs(v); s++) {
			life = vk_life(&v->kernel[s]);
			if (life == 0 || w->dead_us[life % LIVES] == 0)
				continue;
			active = is_active(v);
			since_us = later(later(w->dead_us[life % LIVES], w->settled_us), v->role_us);
			since_us = later(since_us, v->kernel[s].packet_us);
			if (active ? vk_timeout_us(s) > SHORT_S * S_US || promise_copy(v, s, life, NODES) ||
			    w->now_us - since_us < (2 * SHORT_S + 6) * S_US :
			    !w->acct || is_wanted(w, v, s, life, &since_us) ||
			    v->kernel[s].expires_us < w->now_us + LAPSING_US ||
			    w->now_us - since_us < 5 * PURGE_US + 2 * S_US)
				continue;
			sim_say(w, "node %u: life %u of slot %u ended at %llu ms", i, life, s,
			    (unsigned long long)(w->dead_us[life % LIVES] / MS));
			broken(w, active ? "an active node keeps a flow that has ended" :
			    "a standby keeps a flow that has ended");
		}
	}
}
