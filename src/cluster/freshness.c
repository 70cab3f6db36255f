/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Why, and since when, what we tell of our kernel may be old.
 */
#include <stdlib.h>

#include "freshness.h"
#include "session.h"
#include "takeover.h"

#define ECHOES_MAX	8u	/* in one frame */

struct freshness {
	bool		 doubt;		/* events were lost, the re-read is not done */
	bool		 blind;		/* there are no events */
	uint64_t	 overrun_us;	/* when events were last found to be lost */
	uint64_t	 lacking_us;	/* see local_lacking_us(), as of the last run */
	uint64_t	 late_us;	/* see freshness_late(); 0: nothing is late */
	struct wire_pos	 late;
	uint32_t	 deletes;	/* jobs that delete, under way */
	uint64_t	 delete_us;	/* since when */
};

struct freshness *
freshness_new(void)
{
	return calloc(1, sizeof(struct freshness));
}

void
freshness_free(struct freshness *f)
{
	free(f);
}

/* The greater of an age and the time since then, 0 meaning never. */
static uint32_t
older(const struct node *n, uint32_t age_us, uint64_t since_us)
{
	uint64_t	 d = n->now_us - since_us;

	if (since_us == 0 || d <= age_us)
		return age_us;
	return d < WIRE_NEVER ? (uint32_t)d : WIRE_NEVER - 1;
}

void
freshness_late(struct node *n, uint64_t since_us)
{
	struct freshness	*f = n->freshness;

	if (f->late_us == 0 || since_us < f->late_us)
		f->late_us = since_us;
	f->late.v[1] = feed_version(n->feed);
	f->late.v[0] = UINT64_MAX;
}

/*
 * Since when something that was learned late is not emitted, 0: nothing is.
 * Lane 1 first: what is promoted from there stands in lane 0 by then.
 */
static uint64_t
still_late(struct node *n)
{
	struct freshness	*f = n->freshness;
	struct wire_pos		 hi = feed_emitted(n->feed);

	if (f->late_us == 0)
		return 0;
	if (f->late.v[0] == UINT64_MAX && hi.v[1] >= f->late.v[1])
		f->late.v[0] = feed_version(n->feed);
	if (f->late.v[0] != UINT64_MAX && hi.v[0] >= f->late.v[0])
		f->late_us = 0;
	return f->late_us;
}

void
freshness_overrun(struct node *n, uint64_t since_us)
{
	n->freshness->doubt = true;
	n->freshness->overrun_us = n->now_us;
	local_overrun(n->local, since_us);
}

bool
freshness_overrun_since(const struct node *n, uint64_t us)
{
	return n->freshness->overrun_us >= us;
}

void
freshness_blind(struct node *n, bool blind)
{
	if (n->freshness->blind && !blind)
		freshness_overrun(n, n->now_us);
	n->freshness->blind = blind;
}

bool
freshness_is_blind(const struct node *n)
{
	return n->freshness->blind;
}

int
freshness_submit_delete(struct node *n, struct kjob *j)
{
	int	 rc = n->ops->kernel.submit(n->ctx, j);

	if (rc == 0 && n->freshness->deletes++ == 0)
		n->freshness->delete_us = n->now_us;
	return rc;
}

void
freshness_delete_done(struct node *n)
{
	freshness_late(n, n->freshness->delete_us);
	if (--n->freshness->deletes == 0)
		n->freshness->delete_us = 0;
}

uint64_t
freshness_delete_us(const struct node *n)
{
	return n->freshness->delete_us;
}

void
freshness_before_answers(struct node *n)
{
	if (local_unknown_us(n->local) != 0)
		freshness_late(n, local_unknown_us(n->local));
}

void
freshness_after_answers(struct node *n)
{
	if (n->freshness->late_us != 0)
		freshness_late(n, n->freshness->late_us);
}

static void
put_doubt(struct node *n, uint32_t pending_us, struct wbuf *w)
{
	struct freshness	*f = n->freshness;
	struct wire_doubt	 d;

	d.kernel_us = older(n, n->ops->kernel.age_us(n->ctx), local_unknown_us(n->local));
	/* what a takeover writes is in the kernel before it is in the table */
	d.kernel_us = older(n, d.kernel_us, takeover_writing_us(n));
	d.kernel_us = older(n, d.kernel_us, f->delete_us);
	d.kernel_us = older(n, d.kernel_us, local_lacking_us(n->local));
	d.kernel_us = older(n, d.kernel_us, still_late(n));
	d.pending_us = pending_us;
	d.flags = (uint8_t)((f->doubt || f->blind ? WIRE_DOUBT_LOST : 0) |
	    (local_no_room(n->local) ? WIRE_DOUBT_NO_ROOM : 0) |
	    (local_complete(n->local) ? 0 : WIRE_DOUBT_FIRST));
	d.clock_us = (uint32_t)n->now_us;
	wire_put_doubt(w, &d);
}

void
freshness_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w)
{
	struct node		*n = ctx;
	struct wire_echoed	 e;
	uint64_t		 at_us;
	unsigned		 i, echoes = 0;

	put_doubt(n, pending_us, w);
	for (i = 0; i < n->npeers && echoes < ECHOES_MAX; i++) {
		if (!(peers & 1u << i) || !session_take_stamp(n->session[i], &e.stamp, &at_us))
			continue;
		e.id = session_id(n->session[i]);
		e.epoch = session_epoch(n->session[i]);
		e.held_us = (uint32_t)(n->now_us - at_us);
		wire_put_echoed(w, &e);
		echoes++;
	}
}

/* What a dump has just found missing or wrong nobody has been told yet. */
void
freshness_run(struct node *n)
{
	struct freshness	*f = n->freshness;
	uint64_t		 since_us = local_lacking_us(n->local);

	if (f->lacking_us != 0 && since_us != f->lacking_us)
		freshness_late(n, f->lacking_us);
	f->lacking_us = since_us;
	if (!local_resyncing(n->local))
		f->doubt = false;
}
