/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ends that are held back.
 *
 * With `masquerade' the kernel ends every translated flow at once when the
 * address goes or the link is shut down, and says so by ordinary events.  If
 * the address has moved to a peer the flow lives on there, provided that the
 * peer still has it when it takes over, which may be after that.  So the entry
 * stays for some seconds, here and thus with the peers, and goes then.
 *
 * The flag in the table is the truth; the queue only says when to look.
 * Handles are given out again, so the kernel's id is compared as well.
 */
#include <stdlib.h>
#include <string.h>

#include "local_priv.h"

#define HOLD_US		10000000u
#define HELD_MAX	1000000u	/* beyond, an end is believed at once */
#define CHUNK		1024u
#define RUN_MAX		1024u		/* looked at in one call */

struct held_chunk {
	struct held_chunk	*next;
	uint32_t		 n;
	struct {
		uint64_t	 until_us;
		uint32_t	 h, id;
	} v[CHUNK];
};

static bool
push(struct held *q, uint32_t h, uint32_t id, uint64_t until_us)
{
	struct held_chunk	*c = q->tail;

	if (q->n >= HELD_MAX)
		return false;
	if (c == NULL || c->n == CHUNK) {
		if ((c = malloc(sizeof(*c))) == NULL)
			return false;
		c->next = NULL;
		c->n = 0;
		if (q->tail != NULL)
			q->tail->next = c;
		else
			q->head = c;
		q->tail = c;
	}
	c->v[c->n].until_us = until_us;
	c->v[c->n].h = h;
	c->v[c->n].id = id;
	c->n++;
	q->n++;
	return true;
}

static void
pop(struct held *q)
{
	struct held_chunk	*c = q->head;

	q->n--;
	if (++q->first < c->n)
		return;
	q->first = 0;
	q->head = c->next;
	if (q->head == NULL)
		q->tail = NULL;
	free(c);
}

bool
local_hold(struct local *l, uint32_t h, uint64_t now_us)
{
	struct flow	 f;

	if (local_meta(l, h)->flags & LF_HELD)
		return true;
	if (l->kernel->address_lost == NULL || !local_load(l, h, &f) ||
	    f.expect || !l->kernel->address_lost(l->kctx, f.family, &f.reply.dst))
		return false;
	if (!push(&l->held, h, f.id, now_us + HOLD_US))
		return false;
	local_meta(l, h)->flags = (local_meta(l, h)->flags & LF_KEEP) | LF_HELD;
	l->stats.held++;
	return true;
}

bool
local_is_held(const struct local *l, uint32_t h)
{
	return local_meta(l, h)->flags & LF_HELD;
}

static void
held_end(struct local *l, uint32_t h, uint64_t now_us)
{
	struct local_key	 k;
	const uint8_t		*body;
	size_t			 len;

	body = ftab_body(feed_table(l->feed), h, &len);
	k.len = (uint8_t)flow_key_len(body, len);
	memcpy(k.key, body, k.len);
	local_remove(l, h, local_tell_end(l, h, &k, NULL, 0), now_us);
}

bool
local_held_run(struct local *l, uint64_t now_us)
{
	struct held		*q = &l->held;
	unsigned		 n;
	uint32_t		 h;

	for (n = 0; q->n > 0 && q->head->v[q->first].until_us <= now_us; n++) {
		if (n == RUN_MAX)
			return true;
		h = q->head->v[q->first].h;
		if (ftab_used(feed_table(l->feed), h) && feed_live(l->feed, h) &&
		    (local_meta(l, h)->flags & LF_HELD) &&
		    *feed_id(l->feed, h) == q->head->v[q->first].id)
			held_end(l, h, now_us);
		pop(q);
	}
	return false;
}

void
local_held_free(struct local *l)
{
	while (l->held.n > 0)
		pop(&l->held);
}
