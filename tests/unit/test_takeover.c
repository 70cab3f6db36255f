/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a takeover writes, in which order and with which timeouts: related flows
 * after their masters, expectations after both, what has lost its master last.
 *
 * Two nodes with a virtual clock and a network without faults.  The second
 * one's kernel is a list that does what Linux does without a master, a helper
 * or labels, and notes what it was given, and when it was asked to.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/log.h"
#include "ctsync/node.h"

#define NODES		2
#define ENTRIES		6000
#define PACKETS		4096
#define JOBS		3
#define STEP_US		2000
#define DATAGRAM	1400
#define LIMIT_MS	20000		/* what does not come by then does not come */

struct entry {
	bool		 there;
	bool		 told;			/* that it was written */
	unsigned	 written;		/* which write it was, from 1 on; 0: none */
	uint32_t	 timeout_s;		/* of that write */
	size_t		 klen;
	uint8_t		 key[FLOW_KEY_MAX];
	struct flow	 f;
};

struct vnode {
	unsigned	 i;
	struct node	*node;
	struct seal_ring *ring;
	struct entry	 kernel[ENTRIES];
	unsigned	 n;			/* entries ever */
	unsigned	 writes;
	bool		 dump;
	struct kjob	*jobs[JOBS];
	unsigned	 njobs, room;
	bool		 done;			/* the oldest one */
	unsigned	 taken;
	uint16_t	 keeps_out;		/* a port that its filter leaves out, 0: none */
	bool		 no_labels;		/* its ruleset knows no labels */
};

static struct packet {
	unsigned	 to;
	size_t		 len;
	uint8_t		 data[DATAGRAM];
} net[PACKETS];

static struct vnode	 fw[NODES];
static unsigned		 npackets;
static uint64_t		 now, seed;
static uint32_t		 ids;
static bool		 off;			/* the first node has no power */
static struct node_conf	 conf2;			/* of the second one, but for what is the same in both */

static const char *const	names[NODES] = { "fw1", "fw2" };
static const char *const	links[] = { "ha0" };

/* --- kernels -------------------------------------------------------------------- */

static struct entry *
find(struct vnode *v, const uint8_t *key, size_t klen)
{
	unsigned	 i;

	for (i = 0; i < v->n; i++)
		if (v->kernel[i].klen == klen && memcmp(v->kernel[i].key, key, klen) == 0)
			return &v->kernel[i];
	return NULL;
}

static struct entry *
find_flow(struct vnode *v, const struct flow *f)
{
	uint8_t	 key[FLOW_KEY_MAX];

	return find(v, key, flow_pack_key(f, key));
}

static struct entry *
find_master(struct vnode *v, const struct flow *f)
{
	uint8_t		 key[FLOW_KEY_MAX];
	struct entry	*e = find(v, key, flow_pack_master_key(f, key));

	return e != NULL && e->there ? e : NULL;
}

static struct entry *
add(struct vnode *v, const struct flow *f)
{
	struct entry	*e = find_flow(v, f);

	if (e == NULL) {
		ck_assert_uint_lt(v->n, ENTRIES);
		e = &v->kernel[v->n++];
		e->klen = flow_pack_key(f, e->key);
	}
	e->there = true;
	e->f = *f;
	e->f.extra = NULL;
	e->f.extra_len = 0;
	e->f.id = ++ids;
	e->f.has |= FLOW_HAS_ID;
	return e;
}

static void
show(const struct entry *e, struct flow *f)
{
	*f = e->f;
	f->has |= FLOW_HAS_WHOLE;
}

static void
read_table(struct vnode *v)
{
	struct flow	 f;
	unsigned	 i, expects;

	v->dump = false;
	for (expects = 0; expects < 2; expects++)
		for (i = 0; i < v->n; i++)
			if (v->kernel[i].there && v->kernel[i].f.expect == (expects == 1)) {
				show(&v->kernel[i], &f);
				node_dump_entry(v->node, &f, now);
			}
	node_dump_end(v->node, 0, now);
}

/* A flow goes without what the kernel cannot give it; an expectation does not. */
static void
create(struct vnode *v, struct kjob *j, struct kitem *it)
{
	struct flow	 f;
	struct entry	*e;
	bool		 updated;

	ck_assert_int_eq(flow_unpack(j->bytes + it->off, it->len, &f), 0);
	if (f.master_proto != 0 && find_master(v, &f) == NULL) {
		if (f.expect) {
			it->err = -ENOENT;
			return;
		}
		j->lost_master++;
		f.master_proto = 0;
	}
	if (!f.expect && strcmp(f.helper, "gone") == 0) {
		j->lost_helper++;
		f.helper[0] = '\0';
	}
	if ((f.has & FLOW_HAS_LABELS) && v->no_labels) {
		j->lost_labels++;
		memset(f.rare.labels, 0, sizeof(f.rare.labels));
	}
	e = find_flow(v, &f);
	updated = e != NULL && e->there;
	j->updated += updated;
	e = add(v, &f);
	e->written = ++v->writes;
	e->timeout_s = e->f.timeout_s = it->timeout_s;
	e->f.has |= FLOW_HAS_TIMEOUT;
}

static void
work(struct vnode *v, struct kjob *j)
{
	struct entry	*e;
	uint32_t	 i;

	if (j->op == KOP_GET)
		ck_assert_ptr_nonnull(j->flows = calloc(j->n, sizeof(*j->flows)));
	for (i = 0; i < j->n; i++) {
		if (j->op == KOP_CREATE) {
			create(v, j, &j->items[i]);
			continue;
		}
		e = find(v, j->bytes + j->items[i].off, flow_key_len(j->bytes + j->items[i].off,
		    j->items[i].len));
		if (e == NULL || !e->there)
			j->items[i].err = -ENOENT;
		else if (j->op == KOP_GET)
			show(e, &j->flows[i]);
		else if (j->op == KOP_DELETE)
			e->there = false;
	}
}

static void
tell(struct vnode *v, struct kjob *j)
{
	struct entry	*e;
	uint32_t	 i;

	for (i = 0; i < j->n && j->op == KOP_CREATE; i++) {
		e = find(v, j->bytes + j->items[i].off, flow_key_len(j->bytes + j->items[i].off,
		    j->items[i].len));
		if (e != NULL && j->items[i].err == 0)
			e->told = true;
	}
	node_job_done(v->node, j, now);
}

/* The oldest job: done in one step, told in the next. */
static void
run_job(struct vnode *v)
{
	struct kjob	*j = v->jobs[0];

	if (v->njobs == 0)
		return;
	if (!v->done) {
		work(v, j);
		v->done = true;
		return;
	}
	v->njobs--;
	memmove(v->jobs, v->jobs + 1, sizeof(v->jobs[0]) * v->njobs);
	v->done = false;
	tell(v, j);
}

/* --- ports ------------------------------------------------------------------------- */

/* Whoever has a master that is written by us is not written before that is known. */
static void
check_order(struct vnode *v, const struct kjob *j)
{
	const struct entry	*m;
	struct flow		 f;
	uint32_t		 i;

	for (i = 0; i < j->n; i++) {
		ck_assert_int_eq(flow_unpack(j->bytes + j->items[i].off, j->items[i].len, &f), 0);
		if (f.master_proto == 0)
			continue;
		m = find_master(v, &f);
		ck_assert_msg(m == NULL || m->written == 0 || m->told,
		    "port %u before its master", f.orig.l4src);
	}
}

static int
port_submit(void *ctx, struct kjob *j)
{
	struct vnode	*v = ctx;

	if (v->njobs == v->room)
		return -EAGAIN;
	if (j->op == KOP_CREATE)
		check_order(v, j);
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
	(void)ctx;
	return 0;
}

static int
port_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct vnode	*v = ctx;

	(void)link;
	(void)peer;
	ck_assert_uint_le(len, DATAGRAM);
	if (off || npackets == PACKETS)
		return 0;
	net[npackets].to = 1 - v->i;
	net[npackets].len = len;
	memcpy(net[npackets++].data, p, len);
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

	return v->keeps_out == 0 || f->orig.l4src != v->keeps_out;
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
	(void)ctx;
	(void)role;
	(void)done;
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

static void
start(struct vnode *v)
{
	static const uint8_t	 secret[32] = "a secret of thirty-two bytes....";
	struct seal_secret	 s = { 1, secret, sizeof(secret) };
	struct node_conf	 c = conf2;
	int			 err;

	c.name = names[v->i];
	c.cluster = "test";
	c.peers = &names[1 - v->i];
	c.npeers = 1;
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
	c.max_flows = ENTRIES;
	c.max_tombs = ENTRIES;
	c.datagram_bytes = DATAGRAM;
	c.boot_wait_us = 2000000;
	c.purge_us = 4000000;
	v->room = JOBS;
	v->node = node_new(&c, &ops, v, now, &err);
	ck_assert_ptr_nonnull(v->node);
}

static void
stop(struct vnode *v)
{
	if (v->node == NULL)
		return;
	for (; v->njobs > 0; v->njobs--)
		kjob_free(v->jobs[v->njobs - 1]);
	node_free(v->node);
	seal_ring_free(v->ring);
	v->node = NULL;
}

static void
step(void)
{
	struct vnode	*v;
	unsigned	 i, turns, n = npackets;

	now += STEP_US;
	for (i = 0; i < n; i++)
		if (fw[net[i].to].node != NULL)
			node_datagram(fw[net[i].to].node, 0, net[i].data, net[i].len, now);
	memmove(net, net + n, sizeof(net[0]) * (npackets - n));
	npackets -= n;
	for (v = fw; v < fw + NODES; v++) {
		if (v->node == NULL)
			continue;
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

#define wait_until(cond) do {						\
	uint64_t until_ = now + LIMIT_MS * 1000u;			\
									\
	while (!(cond)) {						\
		ck_assert_msg(now < until_, "never: %s", #cond);	\
		step();							\
	}								\
} while (0)

static bool
in_sync(void)
{
	struct node_peer_info	 info;

	node_peer(fw[1].node, 0, now, &info);
	return info.in_sync;
}

static void
start_both(void)
{
	unsigned	 before = fw[0].taken;

	start(&fw[0]);
	start(&fw[1]);
	node_takeover(fw[0].node, NODE_TAKEOVER, now);
	wait_until(fw[0].taken > before);
}

/* The first node dies with all that it has told, and the second one takes over. */
static const struct node_taken *
takeover(void)
{
	unsigned	 before = fw[1].taken;

	run_ms(1300);
	wait_until(in_sync());
	stop(&fw[0]);
	off = true;
	run_ms(50);
	node_takeover(fw[1].node, NODE_TAKEOVER, now);
	wait_until(fw[1].taken > before);
	return node_taken(fw[1].node);
}

static void
setup(void)
{
	log_init(getenv("TEST_LOG") != NULL ? LOG_DEBUG : LOG_CRIT);
	memset(fw, 0, sizeof(fw));
	memset(&conf2, 0, sizeof(conf2));
	fw[1].i = 1;
	npackets = 0;
	now = 5000000;
	seed = 1;
	ids = 0;
	off = false;
}

static void
teardown(void)
{
	stop(&fw[0]);
	stop(&fw[1]);
}

/* --- flows --------------------------------------------------------------------------- */

static void
make(struct flow *f, uint8_t proto, uint16_t port)
{
	memset(f, 0, sizeof(*f));
	f->family = AF_INET;
	f->proto = proto;
	f->orig.src.b[0] = 10;
	f->orig.dst.b[0] = 192;
	f->orig.l4src = port;
	f->orig.l4dst = 5060;
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f->timeout_s = 1000;
	f->has = FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK | FLOW_HAS_REPLY;
	if (proto == IPPROTO_TCP) {
		f->tcp_state = FLOW_TCP_ESTABLISHED;
		f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
	}
}

static void
set_master(struct flow *f, uint8_t proto, uint16_t port)
{
	struct flow	 m;

	make(&m, proto, port);
	f->master = m.orig;
	f->master_proto = proto;
	f->status |= FLOW_S_EXPECTED;
	f->has |= FLOW_HAS_MASTER;
}

/* A flow of the first node, with a master unless that is 0. */
static void
give(uint8_t proto, uint16_t port, uint16_t master)
{
	struct local_key	 key;
	struct flow		 f;

	make(&f, proto, port);
	if (master != 0)
		set_master(&f, IPPROTO_UDP, master);
	f.id = ++ids;
	f.has |= FLOW_HAS_ID;
	local_prefetch(node_local(fw[0].node), &f, &key);
	local_event(node_local(fw[0].node), LOCAL_NEW, &f, &key, now);
}

static void
make_expect(struct flow *f, uint16_t port, uint16_t master)
{
	make(f, IPPROTO_TCP, port);
	f->expect = true;
	f->status = 0;
	f->timeout_s = 300;
	memset(f->exp.mask_src.b, 0xff, 4);
	f->exp.mask_l4src = 0xffff;
	set_master(f, IPPROTO_UDP, master);
	f->status = 0;
	f->has = FLOW_HAS_TIMEOUT | FLOW_HAS_MASTER | FLOW_HAS_HELPER | FLOW_HAS_EXPECT;
}

static void
give_flow(const struct flow *given)
{
	struct local_key	 key;
	struct flow		 f = *given;

	f.id = ++ids;
	f.has |= FLOW_HAS_ID;
	local_prefetch(node_local(fw[0].node), &f, &key);
	local_event(node_local(fw[0].node), LOCAL_NEW, &f, &key, now);
}

static void
give_expect(uint16_t port, uint16_t master)
{
	struct flow	 f;

	make_expect(&f, port, master);
	give_flow(&f);
}

/* The end of a flow of the first node. */
static void
end(uint8_t proto, uint16_t port)
{
	struct local_key	 key;
	struct flow		 f;

	make(&f, proto, port);
	local_prefetch(node_local(fw[0].node), &f, &key);
	local_event(node_local(fw[0].node), LOCAL_DESTROY, &f, &key, now);
}

static struct entry *
written(uint8_t proto, uint16_t port, bool expect)
{
	struct flow	 f;

	make(&f, proto, port);
	f.expect = expect;
	return find_flow(&fw[1], &f);
}

/* Which write it was; fails if it is not in the second node's kernel. */
static unsigned
at(uint8_t proto, uint16_t port)
{
	const struct entry	*e = written(proto, port, false);

	ck_assert_msg(e != NULL && e->there && e->written > 0, "port %u was not written", port);
	return e->written;
}

static unsigned
expected_at(uint16_t port)
{
	const struct entry	*e = written(IPPROTO_TCP, port, true);

	ck_assert_msg(e != NULL && e->there && e->written > 0, "port %u was not written", port);
	return e->written;
}

/* What the second node's own table has; false: nothing. */
static bool
owns(uint8_t proto, uint16_t port, bool expect, struct flow *f)
{
	struct feed	*feed = node_feed(fw[1].node);
	struct ftab	*t = feed_table(feed);
	uint8_t		 key[FLOW_KEY_MAX];
	const uint8_t	*body;
	size_t		 klen, len;
	uint32_t	 h;

	make(f, proto, port);
	f->expect = expect;
	klen = flow_pack_key(f, key);
	if ((h = feed_find(feed, ftab_hash(t, key, klen), key, klen)) == FTAB_NIL)
		return false;
	body = ftab_body(t, h, &len);
	return flow_unpack(body, len, f) == 0;
}

/* --- order ----------------------------------------------------------------------------- */

/*
 * Three generations below a call, told in an order of their own, among others;
 * the order itself is looked at when they are written.
 */
START_TEST(masters_go_first)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	for (p = 100; p < 140; p++)
		give(IPPROTO_TCP, p, 0);
	give(IPPROTO_TCP, 13, 12);
	give(IPPROTO_UDP, 12, 11);
	give(IPPROTO_UDP, 11, 10);
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_TCP, 23, 10);
	give_expect(30, 10);
	give_expect(31, 12);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->flows, 47);
	ck_assert_uint_eq(k->created, 47);
	ck_assert_uint_eq(k->adopted, 47);
	ck_assert_uint_eq(k->expects, 2);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_lt(at(IPPROTO_UDP, 10), at(IPPROTO_UDP, 11));
	ck_assert_uint_lt(at(IPPROTO_UDP, 11), at(IPPROTO_UDP, 12));
	ck_assert_uint_lt(at(IPPROTO_UDP, 12), at(IPPROTO_TCP, 13));
	ck_assert_uint_gt(expected_at(30), 45);
	ck_assert_uint_gt(expected_at(31), 45);
	for (p = 100; p < 140; p++)
		ck_assert_uint_lt(at(IPPROTO_TCP, p), at(IPPROTO_UDP, 10));
	ck_assert(owns(IPPROTO_TCP, 13, false, &f));
	ck_assert_uint_eq(f.master.l4src, 12);
	ck_assert(owns(IPPROTO_TCP, 31, true, &f));
}
END_TEST

/* More of each than one job takes, and a kernel with little room. */
START_TEST(many_masters)
{
	const struct node_taken	*k;
	unsigned		 i, last = 0, first = UINT32_MAX;

	start_both();
	fw[1].room = 1 + (unsigned)_i;
	for (i = 0; i < 1100; i++) {
		give(IPPROTO_TCP, (uint16_t)(10000 + i), (uint16_t)(20000 + i));
		give(IPPROTO_UDP, (uint16_t)(20000 + i), 0);
		give_expect((uint16_t)(30000 + i), (uint16_t)(20000 + i));
		if (i % 100 == 0)
			run_ms(20);
	}
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 3300);
	ck_assert_uint_eq(k->expects, 1100);
	ck_assert_uint_eq(k->lost_master, 0);
	for (i = 0; i < 1100; i++) {
		if (at(IPPROTO_TCP, (uint16_t)(10000 + i)) > last)
			last = at(IPPROTO_TCP, (uint16_t)(10000 + i));
		if (expected_at((uint16_t)(30000 + i)) < first)
			first = expected_at((uint16_t)(30000 + i));
	}
	ck_assert_uint_lt(last, first);
}
END_TEST

/* Deeper than there are passes, and in a circle: written all the same. */
START_TEST(deep_and_round)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	for (p = 17; p > 10; p--)
		give(IPPROTO_UDP, p, (uint16_t)(p - 1));
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 40, 41);
	give(IPPROTO_UDP, 41, 40);
	give(IPPROTO_UDP, 50, 50);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 11);
	for (p = 11; p < 14; p++)
		ck_assert_uint_lt(at(IPPROTO_UDP, (uint16_t)(p - 1)), at(IPPROTO_UDP, p));
	for (p = 14; p < 18; p++)
		ck_assert_uint_gt(at(IPPROTO_UDP, p), 0);
	for (p = 40; p < 42; p++)
		ck_assert_uint_gt(at(IPPROTO_UDP, p), 4);
	/* one that is its own master, and one of the circle, came before theirs */
	ck_assert_uint_ge(k->lost_master, 2);
	run_ms(200);
	ck_assert(owns(IPPROTO_UDP, 50, false, &f));
	ck_assert_uint_eq(f.master_proto, 0);
}
END_TEST

/* A flow whose master has ended is written without it, an expectation is not. */
START_TEST(masters_that_are_gone)
{
	const struct node_taken	*k;
	struct flow		 f;

	start_both();
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 20, 0);
	give(IPPROTO_TCP, 11, 10);
	give(IPPROTO_TCP, 21, 20);
	give_expect(12, 10);
	give_expect(22, 20);
	run_ms(100);
	end(IPPROTO_UDP, 10);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->flows, 5);
	ck_assert_uint_eq(k->created, 4);
	ck_assert_uint_eq(k->lost_master, 2);
	ck_assert_uint_eq(k->nfailures, 0);
	/* after all that have theirs */
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), at(IPPROTO_TCP, 21));
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), expected_at(22));
	ck_assert_ptr_null(written(IPPROTO_TCP, 12, true));
	/* and the table is what the kernel made of it */
	run_ms(200);
	ck_assert(owns(IPPROTO_TCP, 11, false, &f));
	ck_assert_uint_eq(f.master_proto, 0);
	ck_assert(owns(IPPROTO_TCP, 21, false, &f));
	ck_assert_uint_eq(f.master.l4src, 20);
	ck_assert(!owns(IPPROTO_TCP, 12, true, &f));
	ck_assert(owns(IPPROTO_TCP, 22, true, &f));
}
END_TEST

/* The second node's kernel has the master already, and our table knows. */
START_TEST(masters_of_our_own)
{
	const struct node_taken	*k;
	struct flow		 f;

	make(&f, IPPROTO_UDP, 10);
	(void)add(&fw[1], &f);
	start_both();
	run_ms(100);
	ck_assert(owns(IPPROTO_UDP, 10, false, &f));
	give(IPPROTO_TCP, 11, 10);
	/* of the first node's table, an expectation needs its master there */
	give(IPPROTO_UDP, 10, 0);
	give_expect(12, 10);
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_lt(at(IPPROTO_TCP, 11), expected_at(12));
	ck_assert(owns(IPPROTO_TCP, 12, true, &f));
}
END_TEST

/* The filter keeps a master out of our table: the kernel has it, and that is enough. */
START_TEST(masters_that_are_kept_out)
{
	const struct node_taken	*k;
	struct flow		 f;

	start_both();
	fw[1].keeps_out = 10;
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_UDP, 20, 0);
	give(IPPROTO_TCP, 11, 10);
	give(IPPROTO_TCP, 21, 20);
	give_expect(12, 10);
	k = takeover();
	ck_assert_uint_eq(k->created, 5);
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->lost_master, 0);
	ck_assert_uint_gt(at(IPPROTO_TCP, 11), at(IPPROTO_TCP, 21));
	ck_assert(!owns(IPPROTO_UDP, 10, false, &f));
	ck_assert(owns(IPPROTO_TCP, 11, false, &f));
	ck_assert_uint_eq(f.master.l4src, 10);
	/* an expectation goes with its master */
	ck_assert_uint_gt(expected_at(12), 0);
	ck_assert(!owns(IPPROTO_TCP, 12, true, &f));
}
END_TEST

/* Given up while related flows wait for their masters: it ends. */
START_TEST(released_on_the_way)
{
	unsigned	 before;

	start_both();
	give(IPPROTO_UDP, 10, 0);
	give(IPPROTO_TCP, 11, 10);
	give_expect(12, 10);
	run_ms(1300);
	wait_until(in_sync());
	stop(&fw[0]);
	off = true;
	before = fw[1].taken;
	node_takeover(fw[1].node, NODE_TAKEOVER, now);
	wait_until(fw[1].njobs > 0);
	ck_assert_uint_eq(fw[1].jobs[0]->n, 1);
	node_release(fw[1].node, now);
	wait_until(fw[1].taken > before);
	ck_assert(node_taken(fw[1].node)->aborted);
	ck_assert_uint_gt(at(IPPROTO_UDP, 10), 0);
	ck_assert_ptr_null(written(IPPROTO_TCP, 11, false));
	/* and can be made again */
	before = fw[1].taken;
	node_takeover(fw[1].node, NODE_TAKEOVER, now);
	wait_until(fw[1].taken > before);
	ck_assert_uint_gt(expected_at(12), at(IPPROTO_TCP, 11));
}
END_TEST

/* --- what the kernel does not take ---------------------------------------------------------- */

START_TEST(helpers_and_labels_are_lost)
{
	const struct node_taken	*k;
	struct flow		 f;
	uint16_t		 p;

	start_both();
	fw[1].no_labels = true;
	for (p = 10; p < 16; p++) {
		make(&f, IPPROTO_UDP, p);
		if (p % 2 == 0) {
			strcpy(f.helper, p < 14 ? "gone" : "ftp");
			f.has |= FLOW_HAS_HELPER;
		}
		if (p < 13) {
			f.rare.labels[0] = 1;
			f.has |= FLOW_HAS_LABELS;
		}
		give_flow(&f);
	}
	k = takeover();
	ck_assert_uint_eq(k->failed, 0);
	ck_assert_uint_eq(k->created, 6);
	ck_assert_uint_eq(k->lost_helper, 2);
	ck_assert_uint_eq(k->lost_labels, 3);
	ck_assert_uint_eq(k->lost_master, 0);
	/* the kernel was read again: the table does not claim what it has not */
	run_ms(200);
	for (p = 10; p < 16; p++) {
		ck_assert(owns(IPPROTO_UDP, p, false, &f));
		ck_assert_uint_eq(f.has & FLOW_HAS_LABELS, 0);
		ck_assert_str_eq(f.helper, p == 14 ? "ftp" : "");
	}
}
END_TEST

/* --- timeouts ---------------------------------------------------------------------------------- */

static uint32_t
timeout_at(uint8_t proto, uint16_t port, bool expect)
{
	const struct entry	*e = written(proto, port, expect);

	ck_assert_ptr_nonnull(e);
	return e->timeout_s;
}

/* Fixed by the configuration, as told, the kernel's if none was told, or else Linux's. */
START_TEST(timeouts)
{
	struct flow	 f;

	conf2.fixed_s[FLOW_TIMEOUT_TCP_ESTABLISHED] = 7200;
	conf2.fixed_s[FLOW_TIMEOUT_SCTP_ESTABLISHED] = 99;
	conf2.default_s[FLOW_TIMEOUT_TCP_ESTABLISHED] = 5000;
	conf2.default_s[FLOW_TIMEOUT_UDP_STREAM] = 33;
	start_both();
	give(IPPROTO_TCP, 10, 0);
	give(IPPROTO_UDP, 11, 0);
	make(&f, IPPROTO_TCP, 12);		/* not established: as told */
	f.tcp_state = FLOW_TCP_FIN_WAIT;
	give_flow(&f);
	make(&f, IPPROTO_UDP, 13);		/* offloaded: none was told */
	f.timeout_s = 0;
	f.has &= ~FLOW_HAS_TIMEOUT;
	give_flow(&f);
	make(&f, IPPROTO_TCP, 14);
	f.timeout_s = 0;
	f.tcp_state = FLOW_TCP_TIME_WAIT;
	give_flow(&f);
	make(&f, IPPROTO_TCP, 15);
	f.timeout_s = 0;
	give_flow(&f);
	make(&f, IPPROTO_SCTP, 16);
	f.rare.sctp_state = FLOW_SCTP_ESTABLISHED;
	f.has |= FLOW_HAS_SCTP;
	give_flow(&f);
	give_expect(17, 11);
	make_expect(&f, 18, 11);
	f.timeout_s = 0;
	give_flow(&f);
	ck_assert_uint_eq(takeover()->failed, 0);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 10, false), 7200);
	ck_assert_uint_eq(timeout_at(IPPROTO_UDP, 11, false), 1000);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 12, false), 1000);
	ck_assert_uint_eq(timeout_at(IPPROTO_UDP, 13, false), 33);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 14, false), 120);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 15, false), 7200);
	ck_assert_uint_eq(timeout_at(IPPROTO_SCTP, 16, false), 99);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 17, true), 300);
	ck_assert_uint_eq(timeout_at(IPPROTO_TCP, 18, true), 1);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("takeover");
	TCase	*tc = tcase_create("takeover");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, masters_go_first);
	tcase_add_loop_test(tc, many_masters, 0, JOBS);
	tcase_add_test(tc, deep_and_round);
	tcase_add_test(tc, masters_that_are_gone);
	tcase_add_test(tc, masters_of_our_own);
	tcase_add_test(tc, masters_that_are_kept_out);
	tcase_add_test(tc, released_on_the_way);
	tcase_add_test(tc, helpers_and_labels_are_lost);
	tcase_add_test(tc, timeouts);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
