/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The virtual network of sim_node: datagrams are lost, doubled, delayed and
 * overtake each other; each direction of each link can be cut by itself.
 */
#include <errno.h>
#include <string.h>

#include "sim.h"

void
net_init(struct world *w)
{
	unsigned	 i;

	w->nheap = 0;
	for (i = 0; i < PACKETS; i++)
		w->spare[i] = i;
	w->nspare = PACKETS;
}

static bool
sooner(const struct world *w, unsigned a, unsigned b)
{
	const struct packet	*p = &w->pool[a], *q = &w->pool[b];

	return p->at_us < q->at_us || (p->at_us == q->at_us && p->seq < q->seq);
}

static void
heap_add(struct world *w, unsigned p)
{
	unsigned	 i = w->nheap++, up;

	for (; i > 0 && sooner(w, p, w->heap[up = (i - 1) / 2]); i = up)
		w->heap[i] = w->heap[up];
	w->heap[i] = p;
}

static unsigned
heap_take(struct world *w)
{
	unsigned	 first = w->heap[0], last = w->heap[--w->nheap], i = 0, k;

	for (; (k = 2 * i + 1) < w->nheap; i = k) {
		if (k + 1 < w->nheap && sooner(w, w->heap[k + 1], w->heap[k]))
			k++;
		if (!sooner(w, w->heap[k], last))
			break;
		w->heap[i] = w->heap[k];
	}
	w->heap[i] = last;
	return first;
}

int
net_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct vnode	*v = ctx;
	struct world	*w = v->w;
	struct packet	*k;
	unsigned	 to = sim_node(v, peer), copies, at;

	if (len > DATAGRAM)
		return -EMSGSIZE;
	if (v->cut[link][to] || w->v[to].node == NULL || sim_below(w, 100) < w->loss)
		return 0;
	for (copies = sim_below(w, 100) < w->dup ? 2 : 1; copies > 0; copies--) {
		if (w->nspare == 0)
			return -ENOBUFS;
		at = w->spare[--w->nspare];
		k = &w->pool[at];
		k->from = v->i;
		k->to = to;
		k->link = link;
		k->at_us = w->now_us + 50 + sim_rnd(w) % w->delay_us;
		k->seq = w->sent++;
		k->len = len;
		memcpy(k->data, p, len);
		heap_add(w, at);
	}
	return 0;
}

int
net_usable(void *ctx, unsigned link, unsigned peer)
{
	(void)ctx;
	(void)link;
	(void)peer;
	return 1;
}

static void
hand_over(struct vnode *v, unsigned at)
{
	struct packet	*k = &v->w->pool[at];

	v->w->spare[v->w->nspare++] = at;
	if (v->node == NULL)
		return;
	node_datagram(v->node, k->link, k->data, k->len, v->w->now_us);
	v->due_us = 0;
}

void
net_deliver(struct world *w)
{
	struct vnode	*v;
	unsigned	 at;

	while (w->nheap > 0 && w->pool[w->heap[0]].at_us <= w->now_us) {
		at = heap_take(w);
		v = &w->v[w->pool[at].to];
		if (v->stopped_us == 0)
			hand_over(v, at);
		else if (v->nsock < SOCKET)
			v->sock[v->nsock++] = at;
		else
			w->spare[w->nspare++] = at;
	}
}

void
net_wake(struct vnode *v, bool lost)
{
	unsigned	 i;

	for (i = 0; i < v->nsock; i++)
		if (lost)
			v->w->spare[v->w->nspare++] = v->sock[i];
		else
			hand_over(v, v->sock[i]);
	v->nsock = 0;
}
