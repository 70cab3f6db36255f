/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel of a virtual node.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/siphash.h"
#include "vcluster.h"

#define ENTRIES		(1u << 17)
#define INDEX		(1u << 16)
#define EXPIRE_US	100000u		/* how often it looks for entries whose time is over */
#define NEVER_US	UINT64_MAX

static uint32_t	 ids;			/* never two alike */

/* --- entries ------------------------------------------------------------------- */

void
vk_init(struct vnode *v)
{
	v->kernel = calloc(ENTRIES, sizeof(*v->kernel));
	v->index = calloc(INDEX, sizeof(*v->index));
	ck_assert(v->kernel != NULL && v->index != NULL);
	v->n = 1;			/* 0 ends a chain */
	v->counts = true;
	v->room = VC_JOBS;
}

void
vk_fini(struct vnode *v)
{
	free(v->kernel);
	free(v->index);
	free(v->ev);
}

void
vk_clear(struct vnode *v)
{
	memset(v->index, 0, INDEX * sizeof(*v->index));
	v->n = 1;
}

static uint32_t *
chain(const struct vnode *v, const uint8_t *key, size_t klen)
{
	static const struct sipkey	 k = { { 1, 2 } };

	return &v->index[siphash13(&k, key, klen) % INDEX];
}

static struct vk_entry *
find(const struct vnode *v, const uint8_t *key, size_t klen)
{
	uint32_t	 h;

	for (h = *chain(v, key, klen); h != 0; h = v->kernel[h].next)
		if (v->kernel[h].klen == klen && memcmp(v->kernel[h].key, key, klen) == 0)
			return &v->kernel[h];
	return NULL;
}

struct vk_entry *
vk_find(const struct vnode *v, const struct flow *key)
{
	uint8_t	 k[FLOW_KEY_MAX];

	return find(v, k, flow_pack_key(key, k));
}

struct vk_entry *
vk_tcp(const struct vnode *v, uint16_t port)
{
	struct flow	 f;
	struct vk_entry	*e;

	mk_flow(&f, IPPROTO_TCP, port);
	e = vk_find(v, &f);
	return e != NULL && e->there ? e : NULL;
}

bool
vk_has(const struct vnode *v, uint16_t first, uint16_t last)
{
	for (; first <= last; first++)
		if (vk_tcp(v, first) == NULL)
			return false;
	return true;
}

static struct vk_entry *
find_master(const struct vnode *v, const struct flow *f)
{
	uint8_t		 key[FLOW_KEY_MAX];
	struct vk_entry	*e = find(v, key, flow_pack_master_key(f, key));

	return e != NULL && e->there ? e : NULL;
}

struct vk_entry *
vk_put(struct vnode *v, const struct flow *f)
{
	struct vk_entry	*e = vk_find(v, f);
	uint32_t	*head;

	if (e == NULL) {
		ck_assert_uint_lt(v->n, ENTRIES);
		e = &v->kernel[v->n];
		memset(e, 0, sizeof(*e));
		e->klen = flow_pack_key(f, e->key);
		head = chain(v, e->key, e->klen);
		e->next = *head;
		*head = v->n++;
	}
	e->there = true;
	e->written = 0;
	e->told = false;
	e->f = *f;
	e->f.extra = NULL;
	e->f.extra_len = 0;
	e->f.born = 0;
	e->f.copy = false;
	e->f.id = ++ids;
	e->f.has |= FLOW_HAS_ID;
	e->f.packets = 0;
	e->expires_us = f->timeout_s > 0 ? vc.now + f->timeout_s * UINT64_C(1000000) : NEVER_US;
	return e;
}

void
vk_show(const struct vnode *v, const struct vk_entry *e, struct flow *f)
{
	*f = e->f;
	f->has |= FLOW_HAS_WHOLE;
	if (v->counts && !f->expect)
		f->has |= FLOW_HAS_PACKETS;
	if (e->expires_us == NEVER_US)
		f->has &= ~FLOW_HAS_TIMEOUT;
	if (e->expires_us == NEVER_US)
		f->timeout_s = 0;
	else if (e->expires_us < vc.now + 2000000)
		f->timeout_s = 1;		/* as kct shows the last second */
	else
		f->timeout_s = (uint32_t)((e->expires_us - vc.now) / 1000000);
}

/* --- events ----------------------------------------------------------------------- */

static void
emit(struct vnode *v, enum local_event ev, const struct vk_entry *e, bool commanded)
{
	struct flow	*f;

	if (v->node == NULL)
		return;
	if (v->nev == v->ev_cap) {
		v->ev_cap = v->ev_cap == 0 ? 256 : v->ev_cap * 2;
		ck_assert_ptr_nonnull(v->ev = realloc(v->ev, v->ev_cap * sizeof(*v->ev)));
	}
	f = &v->ev[v->nev].f;
	v->ev[v->nev++].ev = ev;
	vk_show(v, e, f);
	f->commanded = commanded;
	if (ev == LOCAL_UPDATE)
		f->has &= ~FLOW_HAS_WHOLE;
	if (ev == LOCAL_DESTROY)
		f->has &= ~FLOW_HAS_TIMEOUT;
	else
		f->has &= ~FLOW_HAS_PACKETS;
}

void
vk_read(struct vnode *v)
{
	struct local_key	 key;
	unsigned		 i;

	for (i = 0; i < v->nev; i++) {
		local_prefetch(node_local(v->node), &v->ev[i].f, &key);
		local_event(node_local(v->node), v->ev[i].ev, &v->ev[i].f, &key, vc.now);
	}
	v->nev = 0;
}

static void
touch(struct vk_entry *e, uint32_t packets)
{
	e->f.packets += packets;
	if (e->expires_us != NEVER_US)
		e->expires_us = vc.now + e->f.timeout_s * UINT64_C(1000000);
}

struct vk_entry *
vk_new(struct vnode *v, const struct flow *f)
{
	struct vk_entry	*e = vk_put(v, f);

	e->f.packets = 1;
	emit(v, LOCAL_NEW, e, false);
	return e;
}

void
vk_open(struct vnode *v, uint16_t first, uint16_t last)
{
	struct vk_entry	*e;
	struct flow	 f, open;

	for (; first <= last; first++) {
		mk_flow(&f, IPPROTO_TCP, first);
		open = f;
		open.tcp_state = FLOW_TCP_SYN_SENT;
		open.status = FLOW_S_CONFIRMED;
		e = vk_new(v, &open);
		e->f.tcp_state = f.tcp_state;
		e->f.status = f.status;
		touch(e, 2);
		emit(v, LOCAL_UPDATE, e, false);
	}
}

void
vk_stray(struct vnode *v, uint16_t port)
{
	struct flow	 f;

	mk_flow(&f, IPPROTO_TCP, port);
	vk_new(v, &f);
}

void
vk_packet(struct vnode *v, struct vk_entry *e)
{
	(void)v;
	ck_assert(e->there);
	touch(e, 1);
}

void
vk_mark(struct vnode *v, struct vk_entry *e, uint32_t mark, bool commanded)
{
	ck_assert(e->there);
	e->f.mark = mark;
	if (!commanded)
		touch(e, 1);
	emit(v, LOCAL_UPDATE, e, commanded);
}

void
vk_state(struct vnode *v, uint16_t port, uint8_t state)
{
	struct vk_entry	*e = vk_tcp(v, port);

	ck_assert_ptr_nonnull(e);
	e->f.tcp_state = state;
	touch(e, 1);
	emit(v, LOCAL_UPDATE, e, false);
}

void
vk_destroy(struct vnode *v, struct vk_entry *e, bool commanded)
{
	ck_assert(e->there);
	e->there = false;
	emit(v, LOCAL_DESTROY, e, commanded);
}

void
vk_close(struct vnode *v, uint16_t first, uint16_t last)
{
	for (; first <= last; first++) {
		vk_state(v, first, FLOW_TCP_TIME_WAIT);
		vk_destroy(v, vk_tcp(v, first), false);
	}
}

void
vk_relearn(struct vnode *v, uint16_t port)
{
	struct vk_entry	*e = vk_tcp(v, port);

	ck_assert_ptr_nonnull(e);
	e->f.tcp_flags[0] |= FLOW_TF_MAXACK_SET;
	e->f.tcp_flags[1] |= FLOW_TF_MAXACK_SET;
}

bool
vk_liberal(const struct vnode *v, uint16_t port)
{
	struct vk_entry	*e = vk_tcp(v, port);

	ck_assert_ptr_nonnull(e);
	return e->f.tcp_flags[0] & e->f.tcp_flags[1] & FLOW_TF_BE_LIBERAL;
}

/* --- jobs -------------------------------------------------------------------------- */

static void
set_liberal(struct vk_entry *e, bool on)
{
	unsigned	 i;

	for (i = 0; i < 2; i++)
		e->f.tcp_flags[i] = (uint8_t)(on ? e->f.tcp_flags[i] | FLOW_TF_BE_LIBERAL :
		    e->f.tcp_flags[i] & ~FLOW_TF_BE_LIBERAL);
}

/* A flow goes without what the kernel cannot give it; an expectation does not. */
static bool
can_have(const struct vnode *v, struct kjob *j, struct flow *f)
{
	if (f->master_proto != 0 && find_master(v, f) == NULL) {
		if (f->expect)
			return false;
		j->lost_master++;
		f->master_proto = 0;
	}
	if (!f->expect && strcmp(f->helper, "gone") == 0) {
		j->lost_helper++;
		f->helper[0] = '\0';
	}
	if ((f->has & FLOW_HAS_LABELS) && v->no_labels) {
		j->lost_labels++;
		memset(f->rare.labels, 0, sizeof(f->rare.labels));
	}
	return true;
}

/* What is there keeps its counter, and bits of the status are only ever set. */
static void
update(struct vk_entry *e, const struct flow *f)
{
	e->f.status |= f->status;
	e->f.mark = f->mark;
	e->f.tcp_state = f->tcp_state;
}

static void
create(struct vnode *v, struct kjob *j, struct kitem *it)
{
	struct flow	 f;
	struct vk_entry	*e;

	ck_assert_int_eq(flow_unpack(j->bytes + it->off, it->len, &f), 0);
	if (f.orig.l4src >= v->refuses[0] && f.orig.l4src <= v->refuses[1] && v->refuses[0] != 0) {
		it->err = -EEXIST;
		return;
	}
	if (!can_have(v, j, &f)) {
		it->err = -ENOENT;
		return;
	}
	f.has |= FLOW_HAS_TIMEOUT;
	f.timeout_s = it->timeout_s;
	e = vk_find(v, &f);
	it->there = e != NULL && e->there;
	/* as kct does */
	if (it->there && !f.expect && memcmp(&e->f.reply, &f.reply, sizeof(f.reply)) != 0) {
		it->err = -EEXIST;
		return;
	}
	if (it->there) {
		j->updated++;
		update(e, &f);
		e->f.timeout_s = f.timeout_s;
		touch(e, 0);
	} else
		e = vk_put(v, &f);
	if (f.proto == IPPROTO_TCP && !f.expect && vc.conf.liberal)
		set_liberal(e, true);
	e->written = ++v->writes;
	e->written_s = it->timeout_s;
	e->told = false;
}

static void
work_item(struct vnode *v, struct kjob *j, uint32_t i)
{
	struct kitem	*it = &j->items[i];
	struct vk_entry	*e;

	v->ops[j->op]++;
	if (j->op == KOP_CREATE) {
		create(v, j, it);
		return;
	}
	e = find(v, j->bytes + it->off, flow_key_len(j->bytes + it->off, it->len));
	if (e == NULL || !e->there ||
	    (j->op == KOP_DELETE && it->id != 0 && it->id != e->f.id))
		it->err = -ENOENT;
	else if (j->op == KOP_GET)
		vk_show(v, e, &j->flows[i]);
	else if (j->op == KOP_DELETE)
		e->there = false;
	else
		set_liberal(e, j->op == KOP_LIBERAL);
}

static void
tell(struct vnode *v, struct kjob *j)
{
	struct vk_entry	*e;
	uint32_t	 i;

	for (i = 0; i < j->n && j->op == KOP_CREATE; i++) {
		e = find(v, j->bytes + j->items[i].off, flow_key_len(j->bytes + j->items[i].off,
		    j->items[i].len));
		if (e != NULL && j->items[i].err == 0)
			e->told = true;
	}
	vk_read(v);
	node_job_done(v->node, j, vc.now);
}

/* The oldest job: worked off in one step, told in the next. */
static void
run_job(struct vnode *v)
{
	struct kjob	*j = v->jobs[0];
	uint32_t	 i;

	if (v->njobs == 0)
		return;
	if (!v->done) {
		if (v->stop_work)
			return;
		if (j->op == KOP_GET)
			ck_assert_ptr_nonnull(j->flows = calloc(j->n, sizeof(*j->flows)));
		for (i = 0; i < j->n; i++)
			work_item(v, j, i);
		v->done = true;
		return;
	}
	if (v->stop_tell)
		return;
	v->njobs--;
	memmove(v->jobs, v->jobs + 1, sizeof(v->jobs[0]) * v->njobs);
	v->done = false;
	tell(v, j);
}

/* Whoever has a master that is written by us is not written before that is known. */
static void
check_order(const struct vnode *v, const struct kjob *j)
{
	const struct vk_entry	*m;
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

int
vk_submit(void *ctx, struct kjob *j)
{
	struct vnode	*v = ctx;

	if (v->njobs >= v->room)
		return -EAGAIN;
	if (j->op == KOP_CREATE)
		check_order(v, j);
	v->jobs[v->njobs++] = j;
	return 0;
}

/* --- dumps and time ------------------------------------------------------------------- */

void
vk_dump(void *ctx)
{
	struct vnode	*v = ctx;

	v->dump = true;
	node_dump_begin(v->node);
}

static void
read_table(struct vnode *v)
{
	struct flow	 f;
	uint32_t	 i;
	int		 expects;

	v->dump = false;
	vk_read(v);
	for (expects = 0; expects < 2; expects++)
		for (i = 1; i < v->n; i++)
			if (v->kernel[i].there && v->kernel[i].f.expect == (expects == 1)) {
				vk_show(v, &v->kernel[i], &f);
				node_dump_entry(v->node, &f, vc.now);
			}
	node_dump_end(v->node, 0, vc.now);
}

static void
expire(struct vnode *v)
{
	uint32_t	 i;

	for (i = 1; i < v->n; i++)
		if (v->kernel[i].there && v->kernel[i].expires_us <= vc.now)
			vk_destroy(v, &v->kernel[i], false);
}

void
vk_disconnect(struct vnode *v)
{
	for (; v->njobs > 0; v->njobs--)
		kjob_free(v->jobs[v->njobs - 1]);
	v->nev = 0;
	v->done = v->dump = v->hold = v->stop_work = v->stop_tell = false;
}

void
vk_step(struct vnode *v)
{
	if (vc.now % EXPIRE_US < vc.step_us)
		expire(v);
	if (v->node == NULL)
		return;
	if (!v->hold)
		vk_read(v);
	if (v->dump && !v->stop_work)
		read_table(v);
	run_job(v);
}

/* --- the rest of its port --------------------------------------------------------------- */

uint32_t
vk_age(void *ctx)
{
	return ((struct vnode *)ctx)->nev == 0 ? 0 : (uint32_t)vc.step_us;
}

bool
vk_address_lost(void *ctx, uint8_t family, const struct flow_addr *a)
{
	(void)family;
	(void)a;
	return ((struct vnode *)ctx)->address_lost;
}

bool
vk_filter(void *ctx, const struct flow *f)
{
	const struct vnode	*v = ctx;

	return v->keeps_out == 0 || f->orig.l4src != v->keeps_out;
}
