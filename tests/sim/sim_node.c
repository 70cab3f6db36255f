/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Deterministic simulation of whole nodes: the daemon's core with sealing,
 * sessions, kernel truth and takeover, on a virtual clock, a virtual network
 * and a virtual kernel for each node, and of the clients whose packets they
 * forward.  Everything follows from a seed.
 *
 *   sim_node [-x] [-k FILE] COUNT [FIRST]
 *
 * See seeds.h.  With SIM_LOG in the environment it says what happens; with
 * SIM_ONLY it takes notice of those failures only whose text has that in it.
 *
 * Two to five nodes live through traffic, lost events, loss, duplication,
 * delay, partitions (also one-way), an election that errs, scripts that come
 * late or never, operators, crashes and restarts of the daemon, reboots, nodes
 * that do nothing for a while, clocks that jump.  Then comes rest with one
 * active node, and in the end this one dies or is relieved.  Checked: at any
 * time what sim_check.c says of replication and sim_promise.c of the clients; at
 * rest everybody is equal and ready within a bounded time, and nothing is left
 * of what has ended; the last takeover keeps masters and expectations, and a
 * second one changes nothing.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/log.h"
#include "seeds.h"
#include "sim.h"

#define STORM_US	(2000 * MS)
#define BOUND_PERMILLE	2u		/* of the seeds may break a promise to clients */
#define BOUND_SEEDS	500u		/* if there are so many */
#define EPISODES	5u
#define STEP_US		MS
#define JUMP_US		(50 * MS)	/* the longest step */
#define SETTLE_US	(15 * S_US)
#define SETTLE_SMALL_US	(45 * S_US)	/* a table that was full is tried again after a while */
#define AUDIT_US	(3 * S_US)
#define EPOCH_S		1800000000	/* what a clock shows when a run begins */

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
	if (w->only != NULL && strstr(what, w->only) == NULL)
		return;
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

void
sim_fill(struct world *w, void *p, size_t n)
{
	uint8_t	*b = p;

	while (n-- > 0)
		*b++ = (uint8_t)sim_rnd(w);
}

/* --- ports ------------------------------------------------------------------------- */

static uint64_t
port_wall(void *ctx)
{
	struct vnode	*v = ctx;

	return (uint64_t)((int64_t)(v->w->now_us / MS) + (EPOCH_S + v->wall_s) * 1000);
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
	.link = { net_send, net_usable },
	.kernel = { vk_submit, vk_dump, vk_age, NULL },
	.filter = vk_filter,
	.wall_ms = port_wall,
	.role = port_role,
	.taken = port_taken,
	.verified = port_verified
};

/* --- life ------------------------------------------------------------------------------ */

bool
sim_runs(const struct vnode *v)
{
	return v->node != NULL && v->stopped_us == 0;
}

void
sim_stop(struct vnode *v)
{
	if (v->node == NULL)
		return;
	sim_say(v->w, "node %u: down", v->i);
	vk_shut(v);
	net_wake(v, true);
	v->stopped_us = 0;
	node_free(v->node);
	seal_ring_free(v->ring);
	v->node = NULL;
	v->ring = NULL;
}

/* What the daemon finds out about its role before it starts. */
static void
read_role(const struct vnode *v, struct node_conf *c)
{
	c->role = v->w->follow ? (v->has ? NODE_ACTIVE : NODE_STANDBY) : v->wished ? v->wish : v->role;
	c->asked = v->w->follow || v->wished;
	c->resume = v->taking && c->role == NODE_ACTIVE;
	c->term = v->term;
}

void
sim_start(struct vnode *v)
{
	static const uint8_t	 secret[32] = "a secret of thirty-two bytes....";
	struct world		*w = v->w;
	struct seal_secret	 s = { 1, secret, sizeof(secret) };
	const char		*peers[NODES];
	struct node_conf	 c;
	unsigned		 i, k = 0;
	int			 err;

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
	sim_fill(w, &c.epoch, sizeof(c.epoch));
	sim_fill(w, c.boot_key, sizeof(c.boot_key));
	sim_fill(w, &c.digest_key, sizeof(c.digest_key));
	sim_fill(w, &c.table_key, sizeof(c.table_key));
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
	read_role(v, &c);
	c.liberal = true;
	v->up = true;
	v->dump = -1;
	v->empty_us = v->audit_us = w->now_us;
	sim_say(w, "node %u: starts, %s%s", v->i, c.role == NODE_ACTIVE ? "active" : "standby",
	    c.resume ? ", its takeover was interrupted" : "");
	v->node = node_new(&c, &ops, v, w->now_us, &err);
	if (v->node == NULL)
		abort();
	v->due_us = 0;
	check_start(v);
	promise_start(v);
	chaos_disturbed(w);
	if (c.role == NODE_ACTIVE)
		promise_take(v);
	if (w->follow && v->has)
		node_takeover(v->node, NODE_TAKEOVER, w->now_us);
}

/* --- time ------------------------------------------------------------------------------------ */

static void
run_node(struct vnode *v)
{
	struct world	*w = v->w;
	unsigned	 turns;

	if (vk_deliver(v))
		v->due_us = 0;
	for (turns = 0; turns < 8 && v->due_us <= w->now_us; turns++)
		v->due_us = node_run(v->node, w->now_us);
	if (w->now_us - v->audit_us >= AUDIT_US && v->dump < 0 && local_complete(node_local(v->node))) {
		v->audit_us = w->now_us;
		local_audit(node_local(v->node));
		v->due_us = 0;
	}
}

static uint64_t
sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When something happens to that node. */
static uint64_t
node_due(const struct vnode *v)
{
	uint64_t	 due = UINT64_MAX;

	if (v->up_us != 0)
		due = v->up_us;
	if (v->stopped_us != 0)
		return sooner(due, v->stopped_us);
	if (v->node == NULL)
		return due;
	due = sooner(due, v->due_us);
	if (v->ev_head != v->ev_tail)
		due = sooner(due, v->ev[v->ev_head].at_us);
	if (v->njobs > 0 || v->dump >= 0 || v->lost)
		due = 0;
	return due;
}

static uint64_t
next_us(const struct world *w, uint64_t until_us)
{
	uint64_t	 due = sooner(until_us, w->now_us + JUMP_US);
	unsigned	 i;

	for (i = 0; i < w->n; i++)
		due = sooner(due, node_due(&w->v[i]));
	if (w->nheap > 0)
		due = sooner(due, w->pool[w->heap[0]].at_us);
	due = sooner(due, client_due(w));
	due = sooner(due, chaos_due(w));
	if (w->own)
		due = sooner(due, w->own_us);
	return due < w->now_us + STEP_US ? w->now_us + STEP_US : due;
}

static void
wake(struct vnode *v)
{
	struct world	*w = v->w;

	if (v->up_us != 0 && v->up_us <= w->now_us && !v->dead) {
		v->up_us = 0;
		sim_start(v);
	}
	if (v->stopped_us != 0 && v->stopped_us <= w->now_us) {
		sim_say(w, "node %u: goes on", v->i);
		v->stopped_us = 0;
		v->woke_us = w->now_us;
		v->due_us = 0;
		chaos_disturbed(w);
		if (sim_chance(w, 500))
			net_wake(v, false);	/* it reads datagrams before events */
	}
}

/* What the nodes themselves talk about with the world. */
static void
own_traffic(struct world *w)
{
	struct vnode	*v = &w->v[sim_below(w, w->n)];

	if (!w->own || w->own_us > w->now_us)
		return;
	w->own_us = w->now_us + sim_below(w, 200 * MS);
	if (v->up)
		vk_packet(v, SHARED + v->i * OWN + sim_below(w, OWN));
}

void
sim_step(struct world *w, uint64_t until_us)
{
	struct vnode	*v;
	unsigned	 i;

	w->now_us = next_us(w, until_us);
	for (i = 0; i < w->n; i++)
		wake(&w->v[i]);
	chaos_roles(w);
	if (w->expire_us <= w->now_us) {
		w->expire_us = w->now_us + 20 * MS;
		for (i = 0; i < w->n; i++)
			if (w->v[i].up)
				vk_expire(&w->v[i]);
	}
	own_traffic(w);
	client_run(w);
	net_deliver(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (!sim_runs(v))
			continue;
		run_node(v);
		if (v->nsock > 0)
			net_wake(v, false);
	}
	check_always(w);
	promise_run(w);
}

void
sim_rest(struct world *w, uint64_t us)
{
	uint64_t	 until_us = w->now_us + us;

	while (w->now_us < until_us && w->bad == NULL)
		sim_step(w, until_us);
}

/* --- phases ------------------------------------------------------------------------------------ */

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
				vk_end(&w->v[i], s, false);
}

static bool
settle(struct world *w)
{
	uint64_t	 until_us = w->now_us + (w->small ? SETTLE_SMALL_US : SETTLE_US);

	while (w->now_us < until_us && w->bad == NULL) {
		if (w->small)
			make_room(w);		/* takeovers that were under way bring more */
		sim_rest(w, 20 * MS);
		if (w->bad == NULL && check_rest(w))
			return true;
	}
	check_complain(w);
	sim_bad(w, "not equal in time");
	return false;
}

/* The end of chaos: the network is whole, all are up, one has the address and is active. */
static struct vnode *
calm(struct world *w)
{
	unsigned	 i, keeps = sim_below(w, w->n);

	chaos_mend(w);
	w->own = false;
	w->births = !w->small;
	sim_rest(w, 100 * MS);
	for (i = 0; i < w->n; i++)
		if (w->v[i].has && sim_chance(w, 700))
			keeps = i;
	chaos_address(w, 1u << keeps, false);
	for (i = 0; i < w->n; i++)
		chaos_ask(&w->v[i], i == keeps ? NODE_ACTIVE : NODE_STANDBY);
	sim_rest(w, 2 * S_US);
	chaos_mend(w);		/* scripts that are late come now */
	return &w->v[keeps];
}

/* What a kernel has to have of a takeover besides the flows. */
static void
check_company(struct world *w, const struct vnode *a, const struct vnode *b, const bool *had)
{
	const struct kstate	*was, *is;
	unsigned		 s;

	for (s = 0; s < SHARED && w->bad == NULL; s++) {
		was = &a->kernel[s].s;
		is = &b->kernel[s].s;
		if (!was->there || !is->there || had[s] || is->mark >> 8 != was->mark >> 8 ||
		    client_of(w, s, is->mark >> 8) == NULL)
			continue;
		if (was->related && !is->related && !had[s - 1] && client_of(w, s - 1, vk_life(&b->kernel[s - 1])) != NULL &&
		    vk_life(&a->kernel[s - 1]) == vk_life(&b->kernel[s - 1])) {
			sim_say(w, "slot %u, from node %u to node %u", s, a->i, b->i);
			sim_bad(w, "a flow came out of the takeover without its master");
		}
		if (a->kernel[s].expects && !b->kernel[s].expects && b->kernel[s].packets == 0) {
			sim_say(w, "slot %u, from node %u to node %u", s, a->i, b->i);
			sim_bad(w, "an expectation was lost in the takeover");
		}
	}
}

/*
 * Once more: that brings nothing but what has ended since the first time, and
 * what the kernel refused until now: that is tried again every minute.
 */
static void
take_again(struct world *w, struct vnode *b, uint64_t since_us)
{
	unsigned	 before = b->taken, s;
	uint64_t	 until_us = w->now_us + 10 * S_US;
	bool		 had[SLOTS];

	for (s = 0; s < SLOTS; s++)
		had[s] = b->kernel[s].s.there || b->kernel[s].ended_us >= since_us ||
		    (b->refused[s].until_us != 0 &&
		    b->refused[s].until_us + 60 * S_US > w->now_us);
	promise_take(b);
	node_takeover(b->node, NODE_TAKEOVER, w->now_us);
	b->due_us = 0;
	while (w->now_us < until_us && w->bad == NULL && b->taken == before)
		sim_step(w, until_us);
	if (b->taken == before)
		sim_bad(w, "the takeover does not end");
	for (s = 0; s < SLOTS && w->bad == NULL; s++)
		if (!had[s] && b->kernel[s].s.there)
			sim_bad(w, "a second takeover was not the same as none");
}

/* Everybody is equal; the active dies or is relieved, and the next one has all that it had. */
static void
fail_over(struct world *w, struct vnode *a)
{
	struct vnode	*b = &w->v[(a->i + 1 + sim_below(w, w->n - 1)) % w->n];
	bool		 had[SLOTS], dies = sim_chance(w, 600);
	char		 reason[NODE_REASON_MAX];
	uint64_t	 since_us = w->now_us;
	unsigned	 s;

	sim_say(w, "node %u %s, node %u follows", a->i, dies ? "dies" : "is relieved", b->i);
	for (s = 0; s < SLOTS; s++)
		had[s] = b->kernel[s].s.there;
	w->births = w->closes = false;
	if (dies) {
		a->dead = true;
		chaos_reboot(a, 0);
		if (sim_chance(w, 500))
			sim_rest(w, 500 * MS + sim_below(w, 1500 * MS));
	}
	chaos_disturbed(w);
	chaos_address(w, 1u << b->i, false);
	chaos_ask(b, NODE_ACTIVE);
	sim_rest(w, S_US);
	if (w->bad == NULL)
		check_company(w, a, b, had);
	chaos_mend(w);
	client_poke(w);
	sim_rest(w, 9 * S_US);
	if (w->bad == NULL && !node_ready(b->node, w->now_us, reason) && !dies) {
		sim_say(w, "node %u: %s", b->i, reason);
		sim_bad(w, "not ready some time after a takeover");
	}
	if (w->bad == NULL)
		take_again(w, b, since_us);
}

/* --- a run ---------------------------------------------------------------------------------------- */

static void
make(struct world *w, uint64_t seed)
{
	static const unsigned	 sizes[] = { 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 5 };
	struct vnode		*v;
	unsigned		 i;

	memset(w, 0, sizeof(*w));
	w->verbose = getenv("SIM_LOG") != NULL;
	w->only = getenv("SIM_ONLY");
	w->calm = getenv("SIM_CALM") != NULL;
	w->clients = getenv("SIM_CLIENTS") != NULL;
	w->rng = seed;
	w->now_us = 1000000;
	w->n = sizes[sim_below(w, sizeof(sizes) / sizeof(sizes[0]))];
	w->links = 1 + sim_below(w, LINKS);
	w->loss = (unsigned[]){ 0, 2, 10, 25 }[sim_below(w, 4)];
	w->dup = sim_below(w, 2) * 10;
	w->delay_us = (uint64_t[]){ 100, 2000, 20000 }[sim_below(w, 3)];
	w->follow = sim_chance(w, 500);
	w->acct = sim_chance(w, 850);
	w->refuses = sim_chance(w, 300);
	w->strays = sim_chance(w, 400) && !w->calm;
	w->clocks = sim_chance(w, 150) && !w->calm;
	w->small = sim_chance(w, 100);
	w->mishaps = sim_chance(w, 300) && !w->calm;
	w->births = w->closes = w->own = true;
	w->ring_bytes = FEED_RING_FRAMES * (56 + DATAGRAM);
	net_init(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		v->w = w;
		v->i = i;
		v->max_flows = w->small && sim_chance(w, 600) ? 10 + sim_below(w, 15) : 1000;
		v->max_tombs = (uint32_t[]){ 3, 20, 1000 }[sim_below(w, 3)];
		v->ev_room = (unsigned[]){ 16, 100, EVENTS }[sim_below(w, 3)];
		sim_fill(w, v->boot.boot_id, sizeof(v->boot.boot_id));
		vk_init(v);
	}
	client_init(w);
	for (i = 0; i < w->n; i++)
		sim_start(&w->v[i]);
	chaos_address(w, 1u << sim_below(w, w->n), false);
}

static void
live(struct world *w)
{
	static const unsigned	 pauses_ms[] = { 300, 1500, 3000, 7000, 12000 };
	struct vnode		*active;
	unsigned		 i;

	sim_rest(w, 2 * S_US);
	for (i = 0; i < EPISODES && w->bad == NULL; i++) {
		if (!w->calm && sim_chance(w, i == 0 ? 700 : 50))
			chaos_storm(w, STORM_US);
		else
			chaos_disturb(w);
		sim_rest(w, pauses_ms[w->calm ? 2 + sim_below(w, 3) : sim_below(w, 5)] * MS);
	}
	if (w->bad != NULL)
		return;
	active = calm(w);
	if (w->bad != NULL || !settle(w) || w->small)
		return;
	sim_rest(w, (2 * SHORT_S + 6) * S_US - 6 * PURGE_US);
	w->births = w->closes = false;
	sim_rest(w, 6 * PURGE_US + 2 * S_US);
	if (w->bad == NULL)
		promise_leftovers(w);
	if (w->bad == NULL && settle(w))
		fail_over(w, active);
}

static unsigned	 broken;		/* seeds in which a promise to clients was broken */

static bool
run_seed(uint64_t seed)
{
	static struct world	 w;
	unsigned		 i;

	make(&w, seed);
	live(&w);
	if (w.bad != NULL) {
		printf("seed %llu: %s at %llu ms (%u nodes, %s%s%s%s%s, loss %u %%, dup %u %%, delay %llu us%s%s)\n",
		    (unsigned long long)seed, w.bad, (unsigned long long)(w.now_us / 1000), w.n,
		    w.follow ? "addresses" : "scripts", w.acct ? "" : ", no counters",
		    w.refuses ? ", refusals" : "", w.strays ? ", strays" : "", w.clocks ? ", clocks jump" : "", w.loss, w.dup, (unsigned long long)w.delay_us,
		    w.small ? ", small tables" : "", w.mishaps ? ", mishaps" : "");
		fflush(stdout);
	}
	for (i = 0; i < w.n; i++)
		sim_stop(&w.v[i]);
	broken += w.broken;
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
	if (broken > 0)
		printf("a promise to clients was broken in %u of them (SIM_CLIENTS=1 says where)\n", broken);
	if (s.ran >= BOUND_SEEDS && broken * 1000 > s.ran * BOUND_PERMILLE) {
		printf("these are more than %u in a thousand\n", BOUND_PERMILLE);
		return 1;
	}
	return s.failed == 0 ? 0 : 1;
}
