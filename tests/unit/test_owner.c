/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ownership (doc/wire.md, section 8), by whole nodes: takeovers one after the
 * other, owners that come back, two active nodes, events that are read late.
 *
 * A cluster of three with a virtual clock, a network that delivers or does not,
 * and an array as each node's kernel.  Nothing is random.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/log.h"
#include "ctsync/node.h"

#define NODES		3
#define SLOTS		200
#define PACKETS		512
#define EVENTS		1024
#define JOBS		8
#define STEP_US		2000
#define DATAGRAM	1200
#define PURGE_S		4
#define LIMIT_MS	20000		/* what does not come by then does not come */

struct kflow {
	bool		 there;
	uint32_t	 mark, id;
	uint64_t	 packet_us;		/* last packet */
};

struct event {
	enum local_event ev;
	unsigned	 slot;
	struct kflow	 f;
};

struct vnode {
	unsigned	 i;
	struct node	*node;			/* NULL: it does not run */
	struct seal_ring *ring;
	uint64_t	 epoch;
	uint8_t		 boot;
	bool		 off;			/* no power: what is sent to it is lost */

	enum node_role	 role;			/* the file in the runtime directory */
	uint32_t	 term;
	bool		 taking;

	struct kflow	 kernel[SLOTS];
	struct event	 ev[EVENTS];
	unsigned	 nev;
	bool		 hold;			/* events wait */
	bool		 dump;
	struct kjob	*jobs[JOBS];
	bool		 done[JOBS];
	unsigned	 njobs;
	unsigned	 taken;
	unsigned	 keeps_out;		/* a slot that its filter leaves out, 0: none */
	bool		 cut[NODES];		/* what it sends to that one is lost */
	bool		 slow;			/* the first frame of a stream waits, others are lost */
};

static struct packet {
	unsigned	 to;
	size_t		 len;
	uint8_t		 data[DATAGRAM];
} net[PACKETS], late;

static struct vnode	 fw[NODES];
static unsigned		 npackets;
static uint64_t		 now, seed;
static uint32_t		 ids;

static const char *const	names[NODES] = { "fw1", "fw2", "fw3" };
static const char *const	links[] = { "ha0" };

static void
to_flow(unsigned slot, const struct kflow *k, struct flow *f)
{
	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = IPPROTO_TCP;
	f->orig.src.b[0] = 10;
	f->orig.src.b[3] = (uint8_t)slot;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = (uint16_t)(1000 + slot);
	f->orig.l4dst = 80;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	/* both lanes */
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | (slot % 3 == 0 ? 0 : FLOW_S_ASSURED);
	f->mark = k->mark;
	f->id = k->id;
	f->timeout_s = 432000 - (uint32_t)((now - k->packet_us) / 1000000);
	f->tcp_state = FLOW_TCP_ESTABLISHED;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_ID | FLOW_HAS_REPLY |
	    FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

static unsigned
slot_of(const struct flow *f)
{
	return f->orig.l4src - 1000u;
}

/* --- kernels -------------------------------------------------------------------- */

static void
emit(struct vnode *v, enum local_event ev, unsigned slot)
{
	if (v->node == NULL)
		return;
	ck_assert_uint_lt(v->nev, EVENTS);
	v->ev[v->nev].ev = ev;
	v->ev[v->nev].slot = slot;
	v->ev[v->nev++].f = v->kernel[slot];
}

/* Packets of a flow, which may be new: its mark is what they change. */
static void
packet(struct vnode *v, unsigned slot, uint32_t mark)
{
	struct kflow	*k = &v->kernel[slot];
	bool		 born = !k->there;

	if (born)
		k->id = ++ids;
	k->there = true;
	k->mark = mark;
	k->packet_us = now;
	emit(v, born ? LOCAL_NEW : LOCAL_UPDATE, slot);
}

static void
end(struct vnode *v, unsigned slot)
{
	ck_assert(v->kernel[slot].there);
	v->kernel[slot].there = false;
	emit(v, LOCAL_DESTROY, slot);
}

static void
packets(struct vnode *v, unsigned first, unsigned last, uint32_t mark)
{
	for (; first <= last; first++)
		packet(v, first, mark);
}

static void
ends(struct vnode *v, unsigned first, unsigned last)
{
	for (; first <= last; first++)
		end(v, first);
}

static void
read_events(struct vnode *v)
{
	struct local_key	 key;
	struct flow		 f;
	unsigned		 i;

	for (i = 0; i < v->nev; i++) {
		to_flow(v->ev[i].slot, &v->ev[i].f, &f);
		local_prefetch(node_local(v->node), &f, &key);
		local_event(node_local(v->node), v->ev[i].ev, &f, &key, now);
	}
	v->nev = 0;
}

static void
read_table(struct vnode *v)
{
	struct flow	 f;
	unsigned	 s;

	v->dump = false;
	read_events(v);
	for (s = 0; s < SLOTS; s++)
		if (v->kernel[s].there) {
			to_flow(s, &v->kernel[s], &f);
			node_dump_entry(v->node, &f, now);
		}
	node_dump_end(v->node, 0, now);
}

static void
work_item(struct vnode *v, struct kjob *j, uint32_t i)
{
	struct flow	 f;
	struct kflow	*k;
	size_t		 used;

	ck_assert(flow_unpack_key(j->bytes + j->items[i].off, j->items[i].len, &f, &used) == 0);
	k = &v->kernel[slot_of(&f)];
	if (j->op == KOP_CREATE) {
		ck_assert(flow_unpack(j->bytes + j->items[i].off, j->items[i].len, &f) == 0);
		if (k->there)
			j->updated++;
		else
			k->id = ++ids;
		k->there = true;
		k->mark = f.mark;
		k->packet_us = now;
	} else if (!k->there)
		j->items[i].err = -ENOENT;
	else if (j->op == KOP_GET)
		to_flow(slot_of(&f), k, &j->flows[i]);
	else if (j->op == KOP_DELETE)
		k->there = false;
}

static void
work(struct vnode *v, struct kjob *j)
{
	uint32_t	 i;

	if (j->op == KOP_GET)
		ck_assert_ptr_nonnull(j->flows = calloc(j->n, sizeof(*j->flows)));
	for (i = 0; i < j->n; i++)
		work_item(v, j, i);
}

/* The oldest job: done in one step, told in the next, after all events from before. */
static void
run_job(struct vnode *v)
{
	struct kjob	*j = v->jobs[0];

	if (v->njobs == 0)
		return;
	if (!v->done[0]) {
		work(v, j);
		v->done[0] = true;
		return;
	}
	v->njobs--;
	memmove(v->jobs, v->jobs + 1, sizeof(v->jobs[0]) * v->njobs);
	v->done[0] = false;
	read_events(v);
	v->hold = false;
	node_job_done(v->node, j, now);
}

/* --- ports ------------------------------------------------------------------------- */

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

	v->dump = true;
	node_dump_begin(v->node);
}

static uint32_t
port_age(void *ctx)
{
	return ((struct vnode *)ctx)->nev == 0 ? 0 : STEP_US;
}

static int
port_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct vnode	*v = ctx;
	unsigned	 to = peer < v->i ? peer : peer + 1;
	struct packet	*k;
	bool		 frame;

	(void)link;
	ck_assert_uint_le(len, DATAGRAM);
	if (v->cut[to] || fw[to].off || npackets == PACKETS)
		return 0;
	/* the stream's number stands at offset 28, 0 is a signal */
	frame = memcmp(p + 28, "\0\0\0\0", 4) != 0;
	if (v->slow && frame && to == NODES - 1 && late.len > 0)
		return 0;
	k = v->slow && frame && to == NODES - 1 ? &late : &net[npackets++];
	k->to = to;
	k->len = len;
	memcpy(k->data, p, len);
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
	const struct vnode	*v = ctx;

	return v->keeps_out == 0 || slot_of(f) != v->keeps_out;
}

static uint32_t
port_wall(void *ctx)
{
	(void)ctx;
	return (uint32_t)(now / 1000000);
}

static void
port_role(void *ctx, enum node_role role, bool done)
{
	struct vnode	*v = ctx;

	v->role = role;
	v->term = node_term(v->node);
	v->taking = !done;
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
	.link = { port_send, port_usable },
	.kernel = { .submit = port_submit, .dump = port_dump, .age_us = port_age },
	.filter = port_filter,
	.wall_s = port_wall,
	.role = port_role,
	.taken = port_taken,
	.verified = port_verified
};

/* --- life ------------------------------------------------------------------------------ */

static void
fill(void *p, size_t n)
{
	uint8_t	*b = p;

	for (; n > 0; n--) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		*b++ = (uint8_t)(seed >> 56);
	}
}

/* The daemon starts, with the role that its runtime directory has. */
static void
start(struct vnode *v)
{
	static const uint8_t	 secret[32] = "a secret of thirty-two bytes....";
	struct seal_secret	 s = { 1, secret, sizeof(secret) };
	const char		*peers[NODES];
	struct node_conf	 c;
	unsigned		 i, k = 0;
	int			 err;

	for (i = 0; i < NODES; i++)
		if (i != v->i)
			peers[k++] = names[i];
	memset(&c, 0, sizeof(c));
	c.name = names[v->i];
	c.cluster = "test";
	c.peers = peers;
	c.npeers = k;
	c.links = links;
	c.nlinks = 1;
	fill(&c.epoch, sizeof(c.epoch));
	c.epoch |= 1;
	fill(c.boot_key, sizeof(c.boot_key));
	fill(&c.digest_key, sizeof(c.digest_key));
	fill(&c.table_key, sizeof(c.table_key));
	ck_assert_int_eq(seal_ring_new(&v->ring, &s, 1, "test"), 0);
	c.ring = v->ring;
	c.suite = SEAL_AES256GCM;
	c.max_flows = 1000;
	c.max_tombs = 1000;
	c.datagram_bytes = DATAGRAM;
	c.boot.boot_id[0] = v->boot;
	c.boot_wait_us = 2000000;
	c.purge_us = PURGE_S * 1000000;
	c.role = v->role;
	c.term = v->term;
	c.resume = v->taking && v->role == NODE_ACTIVE;
	v->node = node_new(&c, &ops, v, now, &err);
	ck_assert_ptr_nonnull(v->node);
}

/* The daemon dies; its kernel goes on. */
static void
kill_daemon(struct vnode *v)
{
	for (; v->njobs > 0; v->njobs--)
		kjob_free(v->jobs[v->njobs - 1]);
	v->done[0] = false;
	v->nev = 0;
	v->hold = v->dump = false;
	node_free(v->node);
	seal_ring_free(v->ring);
	v->node = NULL;
	v->ring = NULL;
}

/* No power any more. */
static void
die(struct vnode *v)
{
	kill_daemon(v);
	v->off = true;
}

/* Power again: nothing is left. */
static void
reboot(struct vnode *v)
{
	if (v->node != NULL)
		die(v);
	memset(v->kernel, 0, sizeof(v->kernel));
	v->role = NODE_STANDBY;
	v->term = 0;
	v->taking = v->off = false;
	v->boot++;
	start(v);
}

static void
cut(struct vnode *a, struct vnode *b, bool on)
{
	a->cut[b->i] = b->cut[a->i] = on;
}

static void
deliver(void)
{
	unsigned	 i, n = npackets;

	for (i = 0; i < n; i++)
		if (fw[net[i].to].node != NULL)
			node_datagram(fw[net[i].to].node, 0, net[i].data, net[i].len, now);
	memmove(net, net + n, sizeof(net[0]) * (npackets - n));
	npackets -= n;
}

/* The frame that waited comes in. */
static void
deliver_late(void)
{
	ck_assert_uint_gt(late.len, 0);
	node_datagram(fw[late.to].node, 0, late.data, late.len, now);
	late.len = 0;
}

static void
step(void)
{
	struct vnode	*v;
	unsigned	 turns;

	now += STEP_US;
	deliver();
	for (v = fw; v < fw + NODES; v++) {
		if (v->node == NULL)
			continue;
		if (!v->hold)
			read_events(v);
		if (v->dump)
			read_table(v);
		run_job(v);
		for (turns = 0; turns < 16 && node_run(v->node, now) <= now; turns++)
			;
	}
}

static void
run_ms(unsigned ms)
{
	uint64_t	 until = now + ms * 1000u;

	while (now < until)
		step();
}

/* Everybody who can be reached is equal. */
static bool
all_equal(void)
{
	struct node_peer_info	 info;
	unsigned		 i, k;

	for (i = 0; i < NODES; i++)
		for (k = 0; k < NODES; k++) {
			if (i == k || fw[i].node == NULL || fw[k].node == NULL || fw[i].cut[k] ||
			    fw[k].cut[i])
				continue;
			node_peer(fw[i].node, k < i ? k : k - 1, now, &info);
			if (!info.in_sync)
				return false;
		}
	return true;
}

#define wait_until(cond) do {						\
	uint64_t until_ = now + LIMIT_MS * 1000u;			\
									\
	while (!(cond)) {						\
		ck_assert_msg(now < until_, "never: %s", #cond);	\
		step();							\
	}								\
} while (0)

/* Equal by proofs that are younger than now. */
static void
settle(void)
{
	run_ms(1300);
	wait_until(all_equal());
}

static void
takeover(struct vnode *v)
{
	unsigned	 before = v->taken;

	node_takeover(v->node, NODE_TAKEOVER, now);
	wait_until(v->taken > before);
	ck_assert_uint_eq(node_taken(v->node)->failed, 0);
}

static void
release(struct vnode *v)
{
	node_release(v->node, now);
}

/* Kernel of v: slots first to last are all there, with that mark, or none is (mark 0). */
static bool
holds(const struct vnode *v, unsigned first, unsigned last, uint32_t mark)
{
	for (; first <= last; first++)
		if (v->kernel[first].there != (mark != 0) ||
		    (mark != 0 && v->kernel[first].mark != mark))
			return false;
	return true;
}

static struct node_peer_info
sees(const struct vnode *v, const struct vnode *o)
{
	struct node_peer_info	 info;

	node_peer(v->node, o->i < v->i ? o->i : o->i - 1, now, &info);
	return info;
}

/* Three nodes, fw1 active with flows 0 to 39, all equal. */
static void
setup(void)
{
	unsigned	 i;

	log_init(getenv("TEST_LOG") != NULL ? LOG_DEBUG : LOG_CRIT);
	memset(fw, 0, sizeof(fw));
	npackets = 0;
	late.len = 0;
	now = 5000000;
	seed = 1;
	ids = 0;
	for (i = 0; i < NODES; i++) {
		fw[i].i = i;
		start(&fw[i]);
	}
	takeover(&fw[0]);
	packets(&fw[0], 0, 39, 1);
	settle();
}

static void
teardown(void)
{
	unsigned	 i;

	for (i = 0; i < NODES; i++)
		if (fw[i].node != NULL)
			kill_daemon(&fw[i]);
}

/* --- terms ------------------------------------------------------------------------------- */

START_TEST(terms_ascend)
{
	ck_assert_uint_eq(fw[0].term, 1);
	ck_assert_int_eq(sees(&fw[2], &fw[0]).term, 1);
	ck_assert_int_eq(sees(&fw[0], &fw[1]).term, 0);
	takeover(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 1);	/* active already, with the highest */
	takeover(&fw[1]);
	ck_assert_uint_eq(fw[1].term, 2);
	run_ms(300);
	ck_assert(node_two_active(fw[0].node) && node_two_active(fw[2].node));
	takeover(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 3);	/* active already, but not with the highest */
	release(&fw[1]);
	ck_assert_uint_eq(fw[1].term, 2);
	run_ms(300);
	ck_assert(!node_two_active(fw[0].node) && !node_two_active(fw[2].node));
}
END_TEST

/* A commit is no claim. */
START_TEST(commit_takes_no_term)
{
	unsigned	 before = fw[1].taken;

	node_takeover(fw[1].node, NODE_COMMIT, now);
	wait_until(fw[1].taken > before);
	ck_assert_uint_eq(node_term(fw[1].node), 0);
	ck_assert(holds(&fw[1], 0, 39, 1));
}
END_TEST

START_TEST(terms_survive)
{
	takeover(&fw[1]);
	release(&fw[0]);
	kill_daemon(&fw[1]);
	start(&fw[1]);
	ck_assert_uint_eq(node_term(fw[1].node), 2);
	ck_assert_int_eq(node_role(fw[1].node), NODE_ACTIVE);
	settle();
	ck_assert_int_eq(sees(&fw[0], &fw[1]).term, 2);
	ck_assert_uint_eq(node_term(fw[1].node), 2);
}
END_TEST

/* Who has lost its term, and is active, gets above those who are not. */
START_TEST(lost_term)
{
	takeover(&fw[1]);
	release(&fw[0]);
	takeover(&fw[0]);
	release(&fw[1]);
	ck_assert_uint_eq(fw[0].term, 3);
	kill_daemon(&fw[0]);
	fw[0].term = 0;
	start(&fw[0]);
	settle();
	ck_assert_uint_eq(fw[0].term, 3);	/* fw2 has 2 */
	ck_assert_int_eq(sees(&fw[2], &fw[0]).term, 3);
	ck_assert(!fw[0].taking);
}
END_TEST

/* --- one after the other ------------------------------------------------------------------- */

/* A dies, B takes over, flows end on B, B dies, C takes over. */
START_TEST(two_deaths)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	ck_assert(holds(&fw[1], 0, 39, 1));
	run_ms(1500);
	ends(&fw[1], 0, 9);
	packets(&fw[1], 10, 19, 2);
	packets(&fw[1], 50, 59, 2);
	settle();
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 10);
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 9, 0));
	ck_assert(holds(&fw[2], 10, 19, 2));	/* the one of the higher term decides */
	ck_assert(holds(&fw[2], 20, 39, 1));
	ck_assert(holds(&fw[2], 50, 59, 2));
}
END_TEST

/* The same when they end before anything was proven: the walk finds them. */
START_TEST(ends_in_the_takeover)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	ends(&fw[1], 0, 9);
	step();
	settle();
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 10);
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 9, 0));
	ck_assert(holds(&fw[2], 10, 39, 1));
}
END_TEST

/* The same when the adopter's daemon is restarted, and flows end while nobody watches. */
START_TEST(adopter_restarts)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	settle();
	kill_daemon(&fw[1]);
	ends(&fw[1], 0, 9);
	run_ms(1500);
	start(&fw[1]);
	settle();
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 9, 0));
	ck_assert(holds(&fw[2], 10, 39, 1));
}
END_TEST

/* B reboots: what it adopted is lost, but not ended, and A's copies are what there is. */
START_TEST(adopter_reboots)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	settle();
	ends(&fw[1], 0, 9);
	settle();
	reboot(&fw[1]);
	settle();
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 9, 0));
	ck_assert(holds(&fw[2], 10, 39, 1));
}
END_TEST

/* What B told before it was in charge is no end: its warm copy timed out, and it dies at once. */
START_TEST(end_of_a_warm_copy)
{
	unsigned	 before = fw[1].taken;

	node_takeover(fw[1].node, NODE_COMMIT, now);
	wait_until(fw[1].taken > before);
	settle();
	die(&fw[0]);
	run_ms(1500);
	ends(&fw[1], 0, 4);
	step();
	node_takeover(fw[1].node, NODE_TAKEOVER, now);
	run_ms(8);
	die(&fw[1]);
	run_ms(1500);
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 0);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 39, 1));
}
END_TEST

/* The same when the network brings the end after the news that B's takeover is done. */
START_TEST(late_end_of_a_warm_copy)
{
	unsigned	 before = fw[1].taken;

	node_takeover(fw[1].node, NODE_COMMIT, now);
	wait_until(fw[1].taken > before);
	settle();
	die(&fw[0]);
	run_ms(1500);
	fw[1].slow = true;
	ends(&fw[1], 0, 4);
	wait_until(late.len > 0);
	takeover(&fw[1]);
	wait_until(sees(&fw[2], &fw[1]).active && sees(&fw[2], &fw[1]).term == 2);
	run_ms(110);				/* the next signal: it is done */
	deliver_late();
	ck_assert_uint_lt(sees(&fw[2], &fw[1]).flows, 40);
	die(&fw[1]);
	run_ms(1500);
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 0);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 39, 1));
}
END_TEST

/* B takes over a second time, much later, from the same dead copy: it knows what ended here. */
START_TEST(second_takeover_from_the_dead)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	run_ms(2000);
	ends(&fw[1], 0, 9);
	settle();
	release(&fw[1]);
	settle();
	takeover(&fw[1]);
	ck_assert(holds(&fw[1], 0, 9, 0));
	ck_assert(holds(&fw[1], 10, 39, 1));
	ck_assert_uint_eq(node_taken(fw[1].node)->created, 0);
}
END_TEST

/* B, then A again, then B again: what A was in charge of meanwhile counts. */
START_TEST(there_and_back)
{
	takeover(&fw[1]);
	release(&fw[0]);
	run_ms(4000);
	takeover(&fw[0]);
	release(&fw[1]);
	run_ms(4000);
	/* the warm copies of fw2 time out; fw1 still has the flows, and dies */
	ends(&fw[1], 0, 39);
	settle();
	ck_assert(holds(&fw[0], 0, 39, 1));
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	ck_assert(holds(&fw[1], 0, 39, 1));
}
END_TEST

/* --- the owner comes back ------------------------------------------------------------------ */

/* A partition: fw1 goes on, fw2 takes over; then fw1 is released in the same epoch. */
static void
partition(void)
{
	cut(&fw[0], &fw[1], true);
	cut(&fw[0], &fw[2], true);
	run_ms(1500);
	takeover(&fw[1]);
	run_ms(1500);
	ends(&fw[1], 0, 9);
	packets(&fw[0], 20, 24, 7);		/* both had packets of these */
	packets(&fw[0], 60, 64, 7);		/* and these only fw1 knows */
	settle();
	cut(&fw[0], &fw[1], false);
	cut(&fw[0], &fw[2], false);
	wait_until(all_equal());
	run_ms(500);
}

START_TEST(same_epoch)
{
	uint64_t	 at;

	partition();
	ck_assert(holds(&fw[0], 0, 9, 1));	/* two are active: nothing is removed */
	ck_assert_uint_eq(node_purged(fw[0].node), 0);
	release(&fw[0]);
	at = now;
	wait_until(holds(&fw[0], 0, 9, 0));
	ck_assert_uint_lt(now - at, 2000000);	/* long before anything is old enough to be purged */
	ck_assert(holds(&fw[0], 10, 19, 1));	/* yielded: warm copies */
	ck_assert(holds(&fw[0], 20, 24, 7));
	ck_assert(holds(&fw[0], 60, 64, 7));
	settle();
	ck_assert_uint_eq(node_purged(fw[0].node), 10);
	/* and from then on at each end */
	ends(&fw[1], 10, 14);
	at = now;
	wait_until(node_purged(fw[0].node) == 15);
	ck_assert(holds(&fw[0], 10, 14, 0));
	ck_assert_uint_lt(now - at, 500000);
	settle();
	ck_assert(holds(&fw[1], 15, 39, 1));
	/* a later takeover brings what lives, and what only fw1 knew */
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[0]);
	ck_assert(holds(&fw[0], 0, 14, 0));
	ck_assert(holds(&fw[0], 15, 39, 1));
	ck_assert(holds(&fw[0], 60, 64, 7));
}
END_TEST

/* The third node, when both are gone after that. */
START_TEST(same_epoch_third)
{
	partition();
	release(&fw[0]);
	wait_until(holds(&fw[0], 0, 9, 0));
	settle();
	ends(&fw[1], 10, 14);
	settle();
	die(&fw[0]);
	run_ms(1500);
	ends(&fw[1], 15, 19);
	settle();
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 19, 0));
	ck_assert(holds(&fw[2], 20, 39, 1));	/* of both: that of the higher term */
	ck_assert(holds(&fw[2], 60, 64, 7));
}
END_TEST

/* A packet since the release: the flow lives here, whatever the other one says. */
START_TEST(touched_since)
{
	takeover(&fw[1]);
	run_ms(4000);
	release(&fw[0]);
	run_ms(2500);
	packet(&fw[0], 5, 9);
	settle();
	ends(&fw[1], 0, 9);
	wait_until(holds(&fw[0], 0, 4, 0) && holds(&fw[0], 6, 9, 0));
	settle();
	ck_assert(holds(&fw[0], 5, 5, 9));
}
END_TEST

/* A new epoch with a full kernel: by age only. */
START_TEST(new_epoch)
{
	kill_daemon(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	run_ms(1500);
	ends(&fw[1], 0, 9);
	settle();
	run_ms(2000);			/* fw2 looks no more for what fw1 has to tell */
	start(&fw[0]);
	settle();
	ck_assert_int_eq(node_role(fw[0].node), NODE_ACTIVE);
	run_ms(PURGE_S * 4000);
	ck_assert(holds(&fw[0], 0, 39, 1));
	release(&fw[0]);
	run_ms(PURGE_S * 500);
	ck_assert(holds(&fw[0], 0, 39, 1));
	wait_until(holds(&fw[0], 0, 9, 0));
	ck_assert(holds(&fw[0], 10, 39, 1));
	settle();
	/* long after: no pass is due any more */
	run_ms(PURGE_S * 12000);
	ends(&fw[1], 10, 14);
	wait_until(holds(&fw[0], 10, 14, 0));
	settle();
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 14, 0));
	ck_assert(holds(&fw[2], 15, 39, 1));
}
END_TEST

/* It comes back empty: nobody loses anything. */
START_TEST(rebooted)
{
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[1]);
	run_ms(1500);
	ends(&fw[1], 0, 9);
	settle();
	reboot(&fw[0]);
	settle();
	ck_assert(holds(&fw[0], 0, 39, 0));
	ck_assert(holds(&fw[1], 10, 39, 1));
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[0]);
	ck_assert(holds(&fw[0], 0, 9, 0));
	ck_assert(holds(&fw[0], 10, 39, 1));
	ck_assert_uint_eq(fw[0].term, 3);
}
END_TEST

/* To and fro: each end on whoever is active is one everywhere, and nothing that lives is lost. */
START_TEST(failback)
{
	struct vnode	*a = &fw[0], *b = &fw[1], *t;
	unsigned	 round, born = 40, dead = 0, i;

	for (round = 0; round < 8; round++) {
		takeover(b);
		run_ms(200);
		release(a);
		run_ms(round % 2 == 0 ? 4000 : 1200);
		ends(b, dead, dead + 4);
		packets(b, born, born + 4, 1);
		dead += 5;
		born += 5;
		settle();
		wait_until(holds(a, 0, dead - 1, 0));
		for (i = 0; i < SLOTS; i++)
			ck_assert(!a->kernel[i].there || b->kernel[i].there);
		ck_assert(holds(b, dead, born - 1, 1));
		t = a;
		a = b;
		b = t;
	}
	die(a);
	die(b);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, dead - 1, 0));
	ck_assert(holds(&fw[2], dead, born - 1, 1));
	ck_assert_uint_eq(fw[2].term, 10);
}
END_TEST

/* --- who is not believed --------------------------------------------------------------------- */

/* Two active nodes: no end on the one is one on the other, at nobody. */
START_TEST(two_active)
{
	takeover(&fw[1]);
	run_ms(4000);
	ends(&fw[1], 0, 9);
	run_ms(PURGE_S * 4000);
	ck_assert(all_equal());
	ck_assert(node_two_active(fw[0].node) && node_two_active(fw[1].node) &&
	    node_two_active(fw[2].node));
	ck_assert(holds(&fw[0], 0, 39, 1));
	ck_assert_uint_eq(node_purged(fw[0].node), 0);
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 0);
	die(&fw[0]);
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 39, 1));
}
END_TEST

/* The same with the word of the one that has the higher term and comes first. */
START_TEST(two_active_the_other)
{
	takeover(&fw[1]);
	run_ms(4000);
	takeover(&fw[0]);
	ck_assert_uint_eq(fw[0].term, 3);
	run_ms(4000);
	ends(&fw[0], 0, 9);
	run_ms(PURGE_S * 4000);
	ck_assert(all_equal());
	ck_assert(holds(&fw[1], 0, 39, 1));
	ck_assert_uint_eq(sees(&fw[2], &fw[1]).ended, 0);
	/* until it is alone: then its word counts, also that from before */
	release(&fw[1]);
	wait_until(holds(&fw[1], 0, 9, 0));
	ck_assert(holds(&fw[1], 10, 39, 1));
}
END_TEST

/* fw3 cannot hear fw1, which is active all the same: what was marked meanwhile is void. */
START_TEST(marks_are_void)
{
	cut(&fw[0], &fw[2], true);
	cut(&fw[0], &fw[1], true);
	run_ms(1500);
	takeover(&fw[1]);
	run_ms(1500);
	ends(&fw[1], 0, 9);
	settle();
	ck_assert_uint_eq(sees(&fw[2], &fw[0]).ended, 10);
	ck_assert(node_ended(fw[2].node, 0, 1) || node_ended(fw[2].node, 0, 2));
	cut(&fw[0], &fw[2], false);
	settle();
	die(&fw[0]);
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 39, 1));
}
END_TEST

/* The flow is told again: it lives. */
START_TEST(told_again)
{
	partition();
	release(&fw[0]);
	wait_until(holds(&fw[0], 0, 9, 0));
	settle();
	packets(&fw[0], 3, 4, 8);		/* the same tuples, anew */
	settle();
	die(&fw[0]);
	die(&fw[1]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 2, 0));
	ck_assert(holds(&fw[2], 3, 4, 8));
	ck_assert(holds(&fw[2], 5, 9, 0));
}
END_TEST

/* An end that a standby tells removes nothing from who is active. */
START_TEST(adopted_stays)
{
	takeover(&fw[1]);
	release(&fw[0]);
	settle();
	ends(&fw[0], 0, 39);
	settle();
	ck_assert(holds(&fw[1], 0, 39, 1));
	ck_assert_uint_eq(feed_flows(node_feed(fw[1].node)), 40);
	ck_assert_uint_eq(sees(&fw[2], &fw[1]).flows, 40);
}
END_TEST

/* What the adopter's filter keeps out of its table it has not adopted: it claims nothing. */
START_TEST(left_out)
{
	fw[1].keeps_out = 5;
	takeover(&fw[1]);
	run_ms(4000);
	ck_assert(holds(&fw[1], 0, 39, 1));
	ck_assert_uint_eq(feed_flows(node_feed(fw[1].node)), 39);
	release(&fw[0]);
	ends(&fw[1], 0, 3);
	run_ms(PURGE_S * 1000 - 500);
	ck_assert(holds(&fw[0], 0, 39, 1));
}
END_TEST

/* --- what is newer than a replica ---------------------------------------------------------------- */

/* The event is not read when the flow is written: afterwards the kernel has what it said. */
START_TEST(unread_events)
{
	unsigned	 before = fw[1].taken;

	node_takeover(fw[1].node, NODE_COMMIT, now);
	wait_until(fw[1].taken > before);
	settle();
	before = fw[1].taken;
	fw[1].hold = true;
	node_takeover(fw[1].node, NODE_TAKEOVER, now);
	packets(&fw[1], 0, 4, 5);
	ends(&fw[1], 5, 9);
	wait_until(fw[1].taken > before);
	ck_assert(holds(&fw[1], 0, 4, 5));
	ck_assert(holds(&fw[1], 5, 9, 0));
	ck_assert(holds(&fw[1], 10, 39, 1));
	ck_assert_uint_eq(feed_flows(node_feed(fw[1].node)), 35);
	/* and it is what the others hear */
	release(&fw[0]);
	settle();
	die(&fw[1]);
	die(&fw[0]);
	run_ms(1500);
	takeover(&fw[2]);
	ck_assert(holds(&fw[2], 0, 4, 5));
	ck_assert(holds(&fw[2], 5, 9, 0));
}
END_TEST

/* Whoever is forgotten and lives after all, in the same epoch, comes in as if for the first time. */
START_TEST(forgotten_but_alive)
{
	char	 reason[NODE_REASON_MAX];

	ck_assert_int_eq(node_forget(fw[1].node, 0, now), -EBUSY);
	cut(&fw[0], &fw[1], true);
	run_ms(1500);
	ck_assert_int_eq(node_forget(fw[1].node, 0, now), 0);
	ck_assert_uint_eq(sees(&fw[1], &fw[0]).flows, 0);
	ck_assert_int_eq(sees(&fw[1], &fw[0]).term, -1);
	ck_assert_int_eq(sees(&fw[1], &fw[0]).verified_ms, -1);
	run_ms(1000);
	ck_assert_msg(node_ready(fw[1].node, now, reason), "%s", reason);
	ck_assert_str_eq(sees(&fw[1], &fw[0]).why, "never seen");
	if (_i == 1)		/* the other way, too */
		ck_assert_int_eq(node_forget(fw[0].node, 0, now), 0);
	cut(&fw[0], &fw[1], false);
	wait_until(all_equal());
	ck_assert_uint_eq(sees(&fw[1], &fw[0]).flows, 40);
	ck_assert_int_eq(sees(&fw[1], &fw[0]).term, 1);
}
END_TEST

static void
add_all(TCase *tc)
{
	tcase_add_loop_test(tc, forgotten_but_alive, 0, 2);
	tcase_add_test(tc, terms_ascend);
	tcase_add_test(tc, commit_takes_no_term);
	tcase_add_test(tc, terms_survive);
	tcase_add_test(tc, lost_term);
	tcase_add_test(tc, two_deaths);
	tcase_add_test(tc, ends_in_the_takeover);
	tcase_add_test(tc, adopter_restarts);
	tcase_add_test(tc, adopter_reboots);
	tcase_add_test(tc, end_of_a_warm_copy);
	tcase_add_test(tc, late_end_of_a_warm_copy);
	tcase_add_test(tc, second_takeover_from_the_dead);
	tcase_add_test(tc, there_and_back);
	tcase_add_test(tc, same_epoch);
	tcase_add_test(tc, same_epoch_third);
	tcase_add_test(tc, touched_since);
	tcase_add_test(tc, new_epoch);
	tcase_add_test(tc, rebooted);
	tcase_add_test(tc, failback);
	tcase_add_test(tc, two_active);
	tcase_add_test(tc, two_active_the_other);
	tcase_add_test(tc, marks_are_void);
	tcase_add_test(tc, told_again);
	tcase_add_test(tc, adopted_stays);
	tcase_add_test(tc, left_out);
	tcase_add_test(tc, unread_events);
}

int
main(void)
{
	Suite	*s = suite_create("owner");
	TCase	*tc = tcase_create("owner");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	add_all(tc);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
