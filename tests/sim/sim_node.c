/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Deterministic simulation of whole nodes: the daemon's core with sealing,
 * sessions, kernel truth and takeover, on a virtual clock, a virtual network
 * and a virtual kernel for each node.  Everything follows from a seed.
 *
 *   sim_node COUNT [FIRST]
 *
 * In each run two or three nodes live through changes of their kernels' tables,
 * lost events, loss, duplication, delay, partitions (also one-way), restarts of
 * the daemon and reboots.  Then comes rest, and then one node dies and another
 * takes over.  Checked: nobody claims to be in sync by a proof younger than the
 * last difference; at rest everybody is equal and ready within a bounded time;
 * after the takeover the survivor's kernel has all that the dead one had; a
 * second takeover changes nothing.
 */
#include <sys/socket.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/log.h"
#include "ctsync/node.h"

#define NODES		3
#define KEYS		20		/* flows that a node's own traffic may have */
#define SLOTS		(KEYS * NODES)
#define PACKETS		2048
#define EVENTS		4096
#define JOBS		8
#define STEP_US		1000
#define CHAOS_STEPS	4000
#define SETTLE_STEPS	15000
#define DATAGRAM	800

/* One entry of a virtual kernel. */
struct kflow {
	bool		 there;
	bool		 assured;
	uint32_t	 mark;
	uint32_t	 id;
	uint64_t	 changed_us;
};

struct kevent {
	enum local_event ev;
	unsigned	 slot;
	struct kflow	 f;
	uint64_t	 at_us;
};

struct packet {
	bool		 used;
	unsigned	 to, from;
	uint64_t	 at_us;
	size_t		 len;
	uint8_t		 data[DATAGRAM];
};

struct vnode {
	struct world	*w;
	unsigned	 i;
	struct node	*node;
	struct seal_ring *ring;
	bool		 dead;
	enum node_role	 role;
	uint64_t	 due_us;

	struct kflow	 kernel[SLOTS];
	struct kevent	 ev[EVENTS];	/* ring: events on their way */
	unsigned	 ev_head, ev_tail;
	bool		 lost;		/* events were dropped */
	uint64_t	 empty_us;	/* when its events were last read up */
	int		 dump;		/* next slot, -1: none */
	struct kjob	*jobs[JOBS];
	unsigned	 njobs;
	unsigned	 taken;
	bool		 cut[NODES];	/* what this node sends to that one is lost */
};

struct world {
	uint64_t	 rng, now_us;
	unsigned	 n;
	struct vnode	 v[NODES];
	struct packet	 net[PACKETS];
	unsigned	 loss, dup;
	uint64_t	 delay_us;
	uint32_t	 ids;
	const char	*bad;
};

static const char *const	names[NODES] = { "fw1", "fw2", "fw3" };
static const char *const	links[] = { "ha0" };

static uint64_t
rnd(struct world *w)
{
	uint64_t	 z = w->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static unsigned
below(struct world *w, unsigned n)
{
	return (unsigned)(rnd(w) % n);
}

/* --- flows ------------------------------------------------------------------------ */

static void
to_flow(unsigned slot, const struct kflow *k, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->family = slot % 4 == 0 ? AF_INET6 : AF_INET;
	f->proto = slot % 2 == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	f->orig.src.b[0] = 10;
	f->orig.src.b[3] = (uint8_t)slot;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = (uint16_t)(1000 + slot);
	f->orig.l4dst = 80;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->reply.l4dst = (uint16_t)(5000 + slot);
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_SRC_NAT |
	    (k->assured ? FLOW_S_ASSURED : 0);
	f->mark = k->mark;
	f->id = k->id;
	f->timeout_s = 300;
	f->tcp_state = f->proto == IPPROTO_TCP ? FLOW_TCP_ESTABLISHED : 0;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_ID | FLOW_HAS_REPLY;
	if (f->proto == IPPROTO_TCP)
		f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

static unsigned
slot_of(const struct flow *f)
{
	return f->orig.l4src - 1000u;
}

/* --- the virtual kernel --------------------------------------------------------------- */

static void
emit(struct vnode *v, enum local_event ev, unsigned slot)
{
	struct world	*w = v->w;
	struct kevent	*e;

	if (v->dead)
		return;
	if (v->lost || (v->ev_tail + 1) % EVENTS == v->ev_head) {
		v->lost = true;
		return;
	}
	e = &v->ev[v->ev_tail];
	e->ev = ev;
	e->slot = slot;
	e->f = v->kernel[slot];
	e->at_us = w->now_us + rnd(w) % 4000;
	v->ev_tail = (v->ev_tail + 1) % EVENTS;
}

/* A packet, or time, changes something in a kernel. */
static void
change(struct world *w, struct vnode *v)
{
	unsigned	 slot = v->i * KEYS + (below(w, 100) < 30 ? 0 : below(w, KEYS));
	struct kflow	*k = &v->kernel[slot];

	k->changed_us = w->now_us;
	if (k->there && below(w, 100) < 35) {
		k->there = false;
		emit(v, LOCAL_DESTROY, slot);
	} else if (k->there) {
		k->mark = (uint32_t)rnd(w);
		k->assured |= below(w, 4) == 0;
		emit(v, LOCAL_UPDATE, slot);
	} else {
		k->there = true;
		k->assured = below(w, 4) == 0;
		k->mark = (uint32_t)rnd(w);
		k->id = ++w->ids;
		emit(v, LOCAL_NEW, slot);
	}
}

/* With all, also those that are still on their way. */
static void
deliver_events(struct vnode *v, bool all)
{
	struct world		*w = v->w;
	struct local_key	 key;
	struct kevent		*e;
	struct flow		 f;

	while (v->ev_head != v->ev_tail && (all || v->ev[v->ev_head].at_us <= w->now_us)) {
		e = &v->ev[v->ev_head];
		to_flow(e->slot, &e->f, &f);
		if (e->ev == LOCAL_UPDATE && f.proto == IPPROTO_TCP && below(w, 2) == 0)
			f.has &= ~(FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE);
		local_prefetch(node_local(v->node), &f, &key);
		local_prefetch_entry(node_local(v->node), &key);
		local_prefetch_body(node_local(v->node), &key);
		local_event(node_local(v->node), e->ev, &f, &key, v->empty_us);
		v->ev_head = (v->ev_head + 1) % EVENTS;
	}
	if (v->ev_head != v->ev_tail)
		return;
	v->empty_us = w->now_us;
	if (v->lost) {
		v->lost = false;
		node_overrun(v->node, w->now_us);
	}
}

static void
deliver_dump(struct vnode *v)
{
	struct flow	 f;
	int		 n;

	if (v->dump >= 0)
		deliver_events(v, true);
	for (n = 0; n < 4 && v->dump >= 0; n++) {
		if (v->dump == SLOTS) {
			v->dump = -1;
			node_dump_end(v->node, 0, v->w->now_us);
			return;
		}
		if (v->kernel[v->dump].there) {
			to_flow((unsigned)v->dump, &v->kernel[v->dump], &f);
			node_dump_entry(v->node, &f, v->w->now_us);
		}
		v->dump++;
	}
}

static void
work_create(struct vnode *v, struct kjob *j, uint32_t i)
{
	struct flow	 f;
	struct kflow	*k;

	if (flow_unpack(j->bytes + j->items[i].off, j->items[i].len, &f) < 0) {
		j->items[i].err = -EBADMSG;
		return;
	}
	k = &v->kernel[slot_of(&f)];
	if (k->there)
		j->updated++;
	else
		k->id = ++v->w->ids;
	k->there = true;
	k->changed_us = v->w->now_us;
	k->mark = f.mark;
	k->assured |= (f.status & FLOW_S_ASSURED) != 0;
}

static void
work_job(struct vnode *v, struct kjob *j)
{
	struct flow	 f;
	size_t		 used;
	uint32_t	 i;
	struct kflow	*k;

	if (j->op == KOP_GET)
		j->flows = calloc(j->n, sizeof(*j->flows));
	for (i = 0; i < j->n; i++) {
		if (j->op == KOP_CREATE) {
			work_create(v, j, i);
			continue;
		}
		if (flow_unpack_key(j->bytes + j->items[i].off, j->items[i].len, &f, &used) < 0) {
			j->items[i].err = -EBADMSG;
			continue;
		}
		k = &v->kernel[slot_of(&f)];
		if (!k->there)
			j->items[i].err = -ENOENT;
		else if (j->op == KOP_GET)
			to_flow(slot_of(&f), k, &j->flows[i]);
		else if (j->op == KOP_DELETE) {
			k->there = false;
			k->changed_us = v->w->now_us;
		}
	}
}

/* The kernel does the oldest job at one time, the answer comes a step later or more. */
static void
run_jobs(struct vnode *v)
{
	struct kjob	*j;

	if (v->njobs == 0 || below(v->w, 3) != 0)
		return;
	j = v->jobs[0];
	if (j->used != SIZE_MAX) {
		work_job(v, j);
		j->used = SIZE_MAX;	/* done, not yet told */
		return;
	}
	memmove(v->jobs, v->jobs + 1, sizeof(v->jobs[0]) * --v->njobs);
	deliver_events(v, true);
	node_job_done(v->node, j, v->w->now_us);
}

/* --- ports -------------------------------------------------------------------------------- */

static int
port_submit(void *ctx, struct kjob *j)
{
	struct vnode	*v = ctx;

	if (v->njobs == JOBS)
		return -EAGAIN;
	v->jobs[v->njobs++] = j;
	return 0;
}

static void
port_dump(void *ctx)
{
	struct vnode	*v = ctx;

	v->dump = 0;
	node_dump_begin(v->node);
}

static uint32_t
port_age(void *ctx)
{
	struct vnode	*v = ctx;

	if (v->lost)
		return WIRE_NEVER - 1;
	return v->ev_head == v->ev_tail ? 0 : (uint32_t)(v->w->now_us - v->empty_us);
}

static int
port_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct vnode	*v = ctx;
	struct world	*w = v->w;
	unsigned	 to = peer < v->i ? peer : peer + 1, copies, i;

	(void)link;
	if (v->cut[to] || w->v[to].dead || below(w, 100) < w->loss)
		return 0;
	for (copies = below(w, 100) < w->dup ? 2 : 1; copies > 0; copies--) {
		for (i = 0; i < PACKETS && w->net[i].used; i++)
			;
		if (i == PACKETS || len > DATAGRAM)
			return -ENOBUFS;
		w->net[i].used = true;
		w->net[i].from = v->i;
		w->net[i].to = to;
		w->net[i].at_us = w->now_us + 50 + rnd(w) % w->delay_us;
		w->net[i].len = len;
		memcpy(w->net[i].data, p, len);
	}
	return 0;
}

static int
port_usable(void *ctx, unsigned link, unsigned peer)
{
	(void)ctx;
	(void)link;
	(void)peer;
	return 1;
}

static bool
port_filter(void *ctx, const struct flow *f)
{
	(void)ctx;
	return f->mark % 16 != 7;	/* some marks are left out */
}

static uint32_t
port_wall(void *ctx)
{
	return (uint32_t)(((struct vnode *)ctx)->w->now_us / 1000000);
}

static void
port_role(void *ctx, enum node_role role, bool done)
{
	(void)done;
	((struct vnode *)ctx)->role = role;
}

static void
port_taken(void *ctx)
{
	((struct vnode *)ctx)->taken++;
}

static void
port_verified(void *ctx)
{
	(void)ctx;
}

static const struct node_ops	ops = {
	{ port_send, port_usable }, { port_submit, port_dump, port_age, NULL }, port_filter, port_wall,
	port_role, port_taken, port_verified
};

/* --- life ------------------------------------------------------------------------------------ */

static void
stop(struct vnode *v)
{
	unsigned	 i;

	for (i = 0; i < v->njobs; i++)
		kjob_free(v->jobs[i]);
	v->njobs = 0;
	v->dump = -1;
	v->ev_head = v->ev_tail = 0;
	v->lost = false;
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
		*b++ = (uint8_t)rnd(w);
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

	for (i = 0; i < w->n; i++)
		if (i != v->i)
			peers[k++] = names[i];
	memset(&c, 0, sizeof(c));
	c.name = names[v->i];
	c.cluster = "sim";
	c.peers = peers;
	c.npeers = k;
	c.links = links;
	c.nlinks = 1;
	fill(w, &c.epoch, sizeof(c.epoch));
	fill(w, c.boot_key, sizeof(c.boot_key));
	fill(w, &c.digest_key, sizeof(c.digest_key));
	fill(w, &c.table_key, sizeof(c.table_key));
	if (seal_ring_new(&v->ring, &s, 1, "sim") < 0)
		abort();
	c.ring = v->ring;
	c.suite = SEAL_AES256GCM;
	c.max_flows = 1000;
	c.max_tombs = (uint32_t[]){ 3, 1000 }[below(w, 2)];
	c.datagram_bytes = DATAGRAM;
	c.boot_wait_us = 2000000;
	c.purge_us = 60000000;
	c.role = v->role;
	c.liberal = true;
	v->dump = -1;
	v->empty_us = w->now_us;
	v->node = node_new(&c, &ops, v, w->now_us, &err);
	if (v->node == NULL)
		abort();
	v->due_us = 0;
}

static void
deliver_packets(struct world *w)
{
	unsigned	 i, best;

	for (;;) {
		best = PACKETS;
		for (i = 0; i < PACKETS; i++)
			if (w->net[i].used && w->net[i].at_us <= w->now_us &&
			    (best == PACKETS || w->net[i].at_us < w->net[best].at_us))
				best = i;
		if (best == PACKETS)
			return;
		w->net[best].used = false;
		if (!w->v[w->net[best].to].dead) {
			node_datagram(w->v[w->net[best].to].node, 0, w->net[best].data,
			    w->net[best].len, w->now_us);
			w->v[w->net[best].to].due_us = 0;
		}
	}
}

/* --- checks ------------------------------------------------------------------------------------ */

/* Does v's copy of the table of node o equal o's kernel? */
static bool
equal(struct vnode *v, struct vnode *o)
{
	struct node_peer_info	 info;
	struct ftab		*t;
	struct flow		 f, got;
	uint8_t			 key[FLOW_KEY_MAX];
	const uint8_t		*body;
	size_t			 klen, len;
	uint32_t		 h, n = 0;
	unsigned		 s;

	node_peer(v->node, o->i < v->i ? o->i : o->i - 1, v->w->now_us, &info);
	t = recv_table(info.recv);
	for (s = 0; s < SLOTS; s++) {
		to_flow(s, &o->kernel[s], &f);
		if (!o->kernel[s].there || !port_filter(NULL, &f))
			continue;
		n++;
		klen = flow_pack_key(&f, key);
		h = ftab_find(t, ftab_hash(t, key, klen), key, klen);
		if (h == FTAB_NIL)
			return false;
		body = ftab_body(t, h, &len);
		if (flow_unpack(body, len, &got) < 0 || got.mark != f.mark ||
		    got.status != f.status || got.tcp_state != f.tcp_state)
			return false;
	}
	return n == ftab_count(t);
}

static uint64_t
last_change(const struct vnode *v)
{
	uint64_t	 t = 0;
	unsigned	 s;

	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].changed_us > t)
			t = v->kernel[s].changed_us;
	return t;
}

/* A claim made by a proof that is younger than the last change has to be true. */
static void
check_claims(struct world *w)
{
	struct node_peer_info	 info;
	struct vnode		*v, *o;
	unsigned		 i, k;
	uint64_t		 proof;

	for (i = 0; i < w->n; i++)
		for (k = 0; k < w->n; k++) {
			v = &w->v[i];
			o = &w->v[k];
			if (i == k || v->dead || o->dead)
				continue;
			node_peer(v->node, k < i ? k : k - 1, w->now_us, &info);
			if (!info.in_sync)
				continue;
			proof = recv_verified_us(info.recv);
			if (proof > last_change(o) && !equal(v, o) &&
			    recv_digest(info.recv).flows == ftab_count(recv_table(info.recv)))
				w->bad = "claimed to be in sync while different";
		}
}

static bool
at_rest(struct world *w)
{
	struct node_peer_info	 info;
	char			 reason[NODE_REASON_MAX];
	unsigned		 i, k;

	for (i = 0; i < w->n; i++) {
		if (w->v[i].dead)
			continue;
		if (!node_ready(w->v[i].node, w->now_us, reason))
			return false;
		for (k = 0; k < w->n; k++) {
			if (i == k || w->v[k].dead)
				continue;
			node_peer(w->v[i].node, k < i ? k : k - 1, w->now_us, &info);
			if (!info.in_sync || !equal(&w->v[i], &w->v[k]))
				return false;
		}
	}
	return true;
}

/* --- a run ---------------------------------------------------------------------------------------- */

static void
reboot(struct world *w, struct vnode *v)
{
	unsigned	 s;

	memset(v->kernel, 0, sizeof(v->kernel));
	for (s = 0; s < SLOTS; s++)
		v->kernel[s].changed_us = w->now_us;
}

static void
chaos(struct world *w)
{
	unsigned	 a = below(w, 1000);
	struct vnode	*v = &w->v[below(w, w->n)];
	unsigned	 other = below(w, w->n);

	if (a < 250)
		change(w, v);
	else if (a < 253)
		v->lost = true;
	else if (a < 258)
		v->cut[other] = !v->cut[other];
	else if (a < 260) {
		stop(v);
		start(v);
	} else if (a < 261) {
		stop(v);
		reboot(w, v);
		start(v);
	} else if (a < 262)
		node_resync(v->node);
}

static void
step(struct world *w, bool wild)
{
	struct vnode	*v;
	unsigned	 i, turns;

	w->now_us += STEP_US;
	if (wild)
		chaos(w);
	deliver_packets(w);
	for (i = 0; i < w->n; i++) {
		v = &w->v[i];
		if (v->dead)
			continue;
		deliver_events(v, false);
		deliver_dump(v);
		run_jobs(v);
		for (turns = 0; turns < 8; turns++) {
			v->due_us = node_run(v->node, w->now_us);
			if (v->due_us > w->now_us)
				break;
		}
	}
	check_claims(w);
}

static bool
settle(struct world *w)
{
	unsigned	 i;

	for (i = 0; i < SETTLE_STEPS && w->bad == NULL; i++) {
		step(w, false);
		if (at_rest(w))
			return true;
	}
	if (w->bad == NULL)
		w->bad = "not equal in time";
	return false;
}

/* Run until a takeover of v has finished. */
static bool
take(struct world *w, struct vnode *v)
{
	unsigned	 before = v->taken, i;

	node_takeover(v->node, NODE_TAKEOVER, w->now_us);
	for (i = 0; i < 2000 && v->taken == before && w->bad == NULL; i++)
		step(w, false);
	if (v->taken == before && w->bad == NULL)
		w->bad = "the takeover does not end";
	return w->bad == NULL;
}

/* Node 0 dies; node 1 takes over: its kernel has all that node 0's had and the filter lets pass. */
static void
fail_over(struct world *w)
{
	struct vnode	*dead = &w->v[0], *v = &w->v[1];
	struct flow	 f;
	char		 reason[NODE_REASON_MAX];
	unsigned	 s, i;

	for (i = 0; i < 1000; i++)	/* until proofs are as young as they get */
		step(w, false);
	dead->dead = true;
	for (i = 0; i < 1500; i++)
		step(w, false);
	if (!node_ready(v->node, w->now_us, reason)) {
		w->bad = "not ready although it was equal when the other one died";
		return;
	}
	if (!take(w, v))
		return;
	for (s = 0; s < KEYS; s++) {
		to_flow(s, &dead->kernel[s], &f);
		if (dead->kernel[s].there && port_filter(NULL, &f) &&
		    (!v->kernel[s].there || v->kernel[s].mark != dead->kernel[s].mark))
			w->bad = "a flow was lost in the takeover";
		if (!dead->kernel[s].there && v->kernel[s].there)
			w->bad = "a flow that had ended came back";
	}
	if (!take(w, v))
		return;
	if (node_taken(v->node)->created != 0 || node_taken(v->node)->failed != 0)
		w->bad = "a second takeover was not the same as none";
	else if (w->n > 2)
		settle(w);
}

static bool
run_seed(uint64_t seed)
{
	static struct world	 w;
	unsigned		 i, k;

	memset(&w, 0, sizeof(w));
	w.rng = seed;
	w.now_us = 1000000;
	w.n = 2 + below(&w, 2);
	w.loss = (unsigned[]){ 0, 5, 20 }[below(&w, 3)];
	w.dup = below(&w, 2) * 10;
	w.delay_us = (uint64_t[]){ 100, 2000, 20000 }[below(&w, 3)];
	for (i = 0; i < w.n; i++) {
		w.v[i].w = &w;
		w.v[i].i = i;
		start(&w.v[i]);
	}
	for (i = 0; i < CHAOS_STEPS && w.bad == NULL; i++)
		step(&w, true);
	for (i = 0; i < w.n; i++)
		for (k = 0; k < w.n; k++)
			w.v[i].cut[k] = false;
	if (w.bad == NULL && settle(&w))
		fail_over(&w);
	if (w.bad != NULL) {
		printf("seed %llu: %s at %llu ms (%u nodes, loss %u%%, dup %u%%, delay %llu us)\n",
		    (unsigned long long)seed, w.bad, (unsigned long long)(w.now_us / 1000), w.n, w.loss,
		    w.dup, (unsigned long long)w.delay_us);
		fflush(stdout);
	}
	for (i = 0; i < w.n; i++)
		stop(&w.v[i]);
	return w.bad == NULL;
}

int
main(int argc, char **argv)
{
	uint64_t	 count = argc > 1 ? strtoull(argv[1], NULL, 10) : 50;
	uint64_t	 first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, i;
	unsigned	 failed = 0;

	log_init(getenv("SIM_LOG") != NULL ? LOG_DEBUG : LOG_CRIT);
	for (i = 0; i < count; i++)
		failed += !run_seed(first + i);
	printf("%llu seeds of whole nodes, %u failed\n", (unsigned long long)count, failed);
	return failed == 0 ? 0 : 1;
}
