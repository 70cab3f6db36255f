/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A virtual cluster: the clock, the network, and the life of its nodes.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/log.h"
#include "rnd.h"
#include "vcluster.h"

#define PACKETS		4096

struct vcluster	 vc;
struct vnode	 fw[VC_NODES];

static struct packet {
	unsigned	 to, link;
	size_t		 len;
	uint8_t		 data[VC_DATAGRAM];
} net[PACKETS];
static unsigned	 npackets;

static const char *const	names[VC_NODES] = { "fw1", "fw2", "fw3", "fw4" };
static const char *const	links[VC_LINKS] = { "ha0", "ha1" };

/* --- ports ------------------------------------------------------------------------- */

static int
port_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct vnode	*v = ctx;
	unsigned	 to = peer < v->i ? peer : peer + 1;

	ck_assert_uint_le(len, VC_DATAGRAM);
	if (v->off || v->cut[to] || fw[to].off || npackets == PACKETS)
		return 0;
	if (vc.lose != NULL && vc.lose(v->i, to, link, p, len))
		return 0;
	net[npackets].to = to;
	net[npackets].link = link;
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

static uint64_t
port_wall(void *ctx)
{
	const struct vnode	*v = ctx;

	return (uint64_t)((int64_t)(vc.now / 1000) + (VC_WALL_S + v->wall_off_s) * 1000);
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
	((struct vnode *)ctx)->verified++;
}

static const struct node_ops	ops = {
	.link = { port_send, port_usable },
	.kernel = { .submit = vk_submit, .dump = vk_dump, .age_us = vk_age,
	    .address_lost = vk_address_lost },
	.filter = vk_filter,
	.wall_ms = port_wall,
	.role = port_role,
	.taken = port_taken,
	.verified = port_verified
};

/* --- nodes ---------------------------------------------------------------------------- */

static void
make_ring(struct vnode *v)
{
	uint8_t			 secret[32] = "a secret of thirty-two bytes....";
	struct seal_secret	 s = { 1, secret, sizeof(secret) };

	secret[0] = (uint8_t)(secret[0] + v->key);
	ck_assert_int_eq(seal_ring_new(&v->ring, &s, 1, "test"), 0);
}

void
vn_start(struct vnode *v)
{
	const char		*peers[VC_NODES];
	struct node_conf	 c = vc.conf;
	unsigned		 i, k = 0;
	int			 err;

	for (i = 0; i < vc.n; i++)
		if (i != v->i)
			peers[k++] = names[i];
	c.name = names[v->i];
	c.peers = peers;
	c.npeers = k;
	c.links = links;
	c.nlinks = vc.nlinks;
	rnd_fill(&c.epoch, sizeof(c.epoch));
	c.epoch |= 1;
	rnd_fill(c.boot_key, sizeof(c.boot_key));
	rnd_fill(&c.digest_key, sizeof(c.digest_key));
	rnd_fill(&c.table_key, sizeof(c.table_key));
	make_ring(v);
	c.ring = v->ring;
	c.boot.boot_id[0] = v->boot;
	c.role = v->role;
	c.term = v->term;
	c.asked = v->asked;
	c.resume = v->taking && v->role == NODE_ACTIVE;
	v->node = node_new(&c, &ops, v, vc.now, &err);
	ck_assert_ptr_nonnull(v->node);
}

void
vn_kill(struct vnode *v)
{
	vk_disconnect(v);
	node_free(v->node);
	seal_ring_free(v->ring);
	v->node = NULL;
	v->ring = NULL;
}

void
vn_die(struct vnode *v)
{
	vn_kill(v);
	v->off = true;
}

void
vn_reboot(struct vnode *v)
{
	if (v->node != NULL)
		vn_die(v);
	vk_clear(v);
	v->role = NODE_STANDBY;
	v->term = 0;
	v->taking = v->asked = v->off = false;
	v->boot++;
	vn_start(v);
}

const struct node_taken *
vn_command(struct vnode *v, enum node_take what)
{
	unsigned	 before = v->taken;

	node_takeover(v->node, what, vc.now);
	vc_wait(v->taken > before);
	return node_taken(v->node);
}

void
vn_takeover(struct vnode *v)
{
	ck_assert_uint_eq(vn_command(v, NODE_TAKEOVER)->failed, 0);
}

void
vn_release(struct vnode *v)
{
	node_release(v->node, vc.now);
}

unsigned
vn_peer(const struct vnode *v, const struct vnode *of)
{
	return of->i < v->i ? of->i : of->i - 1;
}

struct node_peer_info
vn_sees(const struct vnode *v, const struct vnode *of)
{
	struct node_peer_info	 info;

	node_peer(v->node, vn_peer(v, of), vc.now, &info);
	return info;
}

static bool
unpack(const struct ftab *t, uint32_t h, struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	if (h == FTAB_NIL)
		return false;
	body = ftab_body(t, h, &len);
	ck_assert_int_eq(flow_unpack(body, len, f), 0);
	return true;
}

bool
vn_owns(const struct vnode *v, const struct flow *key, struct flow *f)
{
	uint8_t	 k[FLOW_KEY_MAX];
	size_t	 klen = flow_pack_key(key, k);

	return unpack(feed_table(node_feed(v->node)), local_find(node_local(v->node), k, klen), f);
}

static uint32_t
copy_of(const struct vnode *v, const struct vnode *of, const struct flow *key)
{
	struct ftab	*t = recv_table(vn_sees(v, of).recv);
	uint8_t		 k[FLOW_KEY_MAX];
	size_t		 klen = flow_pack_key(key, k);

	return ftab_count(t) == 0 ? FTAB_NIL : ftab_find(t, ftab_hash(t, k, klen), k, klen);
}

bool
vn_copies(const struct vnode *v, const struct vnode *of, const struct flow *key, struct flow *f)
{
	return unpack(recv_table(vn_sees(v, of).recv), copy_of(v, of, key), f);
}

bool
vn_owns_tcp(const struct vnode *v, uint16_t port, struct flow *f)
{
	struct flow	 key, found;

	mk_flow(&key, IPPROTO_TCP, port);
	return vn_owns(v, &key, f != NULL ? f : &found);
}

bool
vn_copies_tcp(const struct vnode *v, const struct vnode *of, uint16_t port, struct flow *f)
{
	struct flow	 key, found;

	mk_flow(&key, IPPROTO_TCP, port);
	return vn_copies(v, of, &key, f != NULL ? f : &found);
}

bool
vn_marked(const struct vnode *v, const struct vnode *of, uint16_t port)
{
	struct flow	 key;
	uint32_t	 h;

	mk_flow(&key, IPPROTO_TCP, port);
	h = copy_of(v, of, &key);
	ck_assert_msg(h != FTAB_NIL, "no copy of port %u", port);
	return node_ended(v->node, vn_peer(v, of), h);
}

bool
vn_alert(struct vnode *v, enum node_alert a)
{
	return node_alerts(v->node, vc.now) & 1u << a;
}

bool
vn_ready(struct vnode *v, const char *why)
{
	char	 reason[NODE_REASON_MAX];
	bool	 ok = node_ready(v->node, vc.now, reason);

	ck_assert_msg(strstr(reason, why) != NULL, "\"%s\" instead of \"%s\"", reason, why);
	return ok;
}

/* --- the cluster ------------------------------------------------------------------------ */

void
vc_init(unsigned n)
{
	unsigned	 i;

	log_init(getenv("TEST_LOG") != NULL ? LOG_DEBUG : LOG_CRIT);
	memset(&vc, 0, sizeof(vc));
	memset(fw, 0, sizeof(fw));
	npackets = 0;
	rnd_seed(1);
	vc.n = n;
	vc.nlinks = 1;
	vc.now = 5000000;
	vc.step_us = 2000;
	vc.conf.cluster = "test";
	vc.conf.suite = SEAL_AES256GCM;
	vc.conf.max_flows = 200000;
	vc.conf.max_tombs = 200000;
	vc.conf.datagram_bytes = VC_DATAGRAM;
	vc.conf.boot_wait_us = VC_BOOT_WAIT_US;
	vc.conf.purge_us = VC_PURGE_S * 1000000;
	vc.conf.liberal = true;
	for (i = 0; i < n; i++) {
		fw[i].i = i;
		vk_init(&fw[i]);
	}
}

void
vc_fini(void)
{
	unsigned	 i;

	for (i = 0; i < vc.n; i++) {
		if (fw[i].node != NULL)
			vn_kill(&fw[i]);
		vk_fini(&fw[i]);
	}
}

void
vc_start(unsigned n)
{
	unsigned	 i;

	vc_init(n);
	for (i = 0; i < n; i++)
		vn_start(&fw[i]);
	vn_takeover(&fw[0]);
	vc_settle();
}

static void
deliver(void)
{
	unsigned	 i, n = npackets;

	for (i = 0; i < n; i++)
		if (fw[net[i].to].node != NULL)
			node_datagram(fw[net[i].to].node, net[i].link, net[i].data, net[i].len, vc.now);
	memmove(net, net + n, sizeof(net[0]) * (npackets - n));
	npackets -= n;
}

void
vc_step(void)
{
	struct vnode	*v;
	unsigned	 turns;

	vc.now += vc.step_us;
	deliver();
	for (v = fw; v < fw + vc.n; v++) {
		vk_step(v);
		for (turns = 0; turns < 16 && v->node != NULL && node_run(v->node, vc.now) <= vc.now;
		    turns++)
			;
	}
}

void
vc_run_ms(unsigned ms)
{
	uint64_t	 until = vc.now + ms * 1000u;

	while (vc.now < until)
		vc_step();
}

void
vc_run_s(unsigned s)
{
	uint64_t	 until = vc.now + s * 1000000u, step_us = vc.step_us;

	vc.step_us = 50000;
	while (vc.now < until)
		vc_step();
	vc.step_us = step_us;
}

void
vc_cut(struct vnode *a, struct vnode *b, bool on)
{
	a->cut[b->i] = b->cut[a->i] = on;
}

bool
vc_equal(void)
{
	struct vnode	*a, *b;

	for (a = fw; a < fw + vc.n; a++)
		for (b = fw; b < fw + vc.n; b++)
			if (a != b && a->node != NULL && b->node != NULL && !a->cut[b->i] &&
			    !b->cut[a->i] && !vn_sees(a, b).in_sync)
				return false;
	return true;
}

void
vc_settle(void)
{
	vc_run_ms(1300);
	vc_wait(vc_equal());
}
