/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A node: puts its parts together and tells them the time.  It has no rule of
 * its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "freshness.h"
#include "gate.h"
#include "ownership.h"
#include "purge.h"
#include "readiness.h"
#include "session.h"
#include "takeover.h"
#include "verification.h"
#include "windows.h"

#define RUN_FRAMES	64u		/* frames built in one call */
#define RUN_SWEEP	4096u		/* entries swept in one call */
#define SLOWEST_US	500000		/* the longest that node_run() may wait */

/* --- what feed and receivers tell ------------------------------------------------ */

static void
on_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	gate_send_frame(ctx, peers, stream, frame, len);
}

static void
on_restart(void *ctx, unsigned peer, uint32_t stream)
{
	struct node	*n = ctx;

	session_restart(n->session[peer], stream);
}

static const struct feed_ops	feed_ops = { on_send, on_restart, freshness_trailer };

static void
on_wrong(void *ctx, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	struct peer_ref	*r = ctx;

	verification_wrong(r->node, r->peer, kind, here, here_len, there, there_len);
}

static void
on_changed(void *ctx, uint32_t h)
{
	struct peer_ref	*r = ctx;

	takeover_told(r->node, r->peer, h);
	purge_told(r->node, r->peer, h);
}

static void
on_deleted(void *ctx, uint32_t h, bool removed)
{
	struct peer_ref	*r = ctx;

	takeover_deleted(r->node, r->peer, h);
	purge_deleted(r->node, r->peer, h, removed);
}

/* --- life --------------------------------------------------------------------------- */

static int
make_peer(struct node *n, unsigned i, const char *name)
{
	struct recv_conf	 rc;
	int			 err;

	if ((n->session[i] = session_new(n, i, name, &err)) == NULL)
		return err;
	n->refs[i].node = n;
	n->refs[i].peer = i;
	memset(&rc, 0, sizeof(rc));
	rc.table_key = n->conf.table_key;
	rc.max_flows = n->conf.max_flows;
	rc.max_bytes = n->conf.max_bytes;
	rc.my_id = n->id;
	rc.my_epoch = n->conf.epoch;
	rc.scrub_us = n->conf.scrub_us;
	rc.wrong = on_wrong;
	rc.changed = on_changed;
	rc.deleted = on_deleted;
	rc.ctx = &n->refs[i];
	feed_set_peer_id(n->feed, i, session_id(n->session[i]));
	n->recv[i] = recv_new(&rc);
	return n->recv[i] == NULL ? -ENOMEM : 0;
}

static int
make_feed(struct node *n)
{
	struct feed_conf	 fc;

	memset(&fc, 0, sizeof(fc));
	fc.epoch = n->conf.epoch;
	fc.digest_key = n->conf.digest_key;
	fc.table_key = n->conf.table_key;
	fc.max_flows = n->conf.max_flows;
	fc.max_bytes = n->conf.max_bytes;
	fc.max_tombs = n->conf.max_tombs;
	fc.hold_us = n->conf.hold_us;
	fc.frame_bytes = n->conf.datagram_bytes - SEAL_OVERHEAD;
	if ((n->feed = feed_new(&fc, &feed_ops, n)) == NULL)
		return -ENOMEM;
	n->local = local_new(n->feed, &n->ops->kernel, n->ctx, n->ops->filter, n->ctx);
	return n->local == NULL ? -ENOMEM : 0;
}

static int
make_parts(struct node *n)
{
	int	 err;

	if ((n->gate = gate_new(n, &err)) == NULL || (err = make_feed(n)) < 0)
		return err;
	if ((n->ownership = ownership_new(n)) == NULL ||
	    (n->takeover = takeover_new(n)) == NULL ||
	    (n->windows = windows_new()) == NULL ||
	    (n->purge = purge_new()) == NULL ||
	    (n->verification = verification_new()) == NULL ||
	    (n->freshness = freshness_new()) == NULL)
		return -ENOMEM;
	return 0;
}

struct node *
node_new(const struct node_conf *conf, const struct node_ops *ops, void *ctx, uint64_t now_us,
    int *err)
{
	struct node	*n;
	unsigned	 i;

	*err = -EINVAL;
	if (conf->npeers > NODE_PEERS_MAX || conf->nlinks > NODE_LINKS_MAX ||
	    strlen(conf->name) > WIRE_NODE_MAX || conf->datagram_bytes < 800 ||
	    conf->datagram_bytes > NODE_DATAGRAM_MAX)
		return NULL;
	*err = -ENOMEM;
	if ((n = calloc(1, sizeof(*n))) == NULL)
		return NULL;
	n->conf = *conf;
	memcpy(n->name, conf->name, strlen(conf->name) + 1);
	n->ops = ops;
	n->ctx = ctx;
	n->born_us = n->now_us = now_us;
	if ((*err = seal_node_id(conf->cluster, conf->name, &n->id)) < 0 ||
	    (*err = make_parts(n)) < 0)
		goto fail;
	for (i = 0; i < conf->npeers; i++) {
		n->npeers = i + 1;
		if ((*err = make_peer(n, i, conf->peers[i])) < 0)
			goto fail;
	}
	local_resync(n->local);
	return n;
fail:
	node_free(n);
	return NULL;
}

void
node_free(struct node *n)
{
	unsigned	 i;

	if (n == NULL)
		return;
	freshness_free(n->freshness);
	verification_free(n->verification);
	purge_free(n->purge);
	windows_free(n->windows);
	takeover_free(n->takeover);
	ownership_free(n->ownership);
	for (i = 0; i < n->npeers; i++) {
		recv_free(n->recv[i]);
		session_free(n->session[i]);
	}
	local_free(n->local);
	feed_free(n->feed);
	gate_free(n->gate);
	free(n);
}

int
node_set_ring(struct node *n, struct seal_ring *ring)
{
	return gate_set_ring(n, ring);
}

/* --- what comes in -------------------------------------------------------------------- */

void
node_datagram(struct node *n, unsigned link, const uint8_t *p, size_t len, uint64_t now_us)
{
	n->now_us = now_us;
	gate_datagram(n, link, p, len);
}

void
node_dump_begin(struct node *n)
{
	windows_dump_begin(n);
	local_dump_begin(n->local);
}

void
node_dump_entry(struct node *n, const struct flow *f, uint64_t now_us)
{
	n->now_us = now_us;
	windows_dump_entry(n, f);
	local_dump_entry(n->local, f, now_us);
}

void
node_dump_end(struct node *n, int err, uint64_t now_us)
{
	bool	 first = !local_complete(n->local);

	n->now_us = now_us;
	local_dump_end(n->local, err, now_us);
	windows_dump_end(n);
	if (first && local_complete(n->local))
		purge_begin(n);
}

void
node_overrun(struct node *n, uint64_t since_us, uint64_t now_us)
{
	n->now_us = now_us;
	freshness_overrun(n, since_us);
}

void
node_set_blind(struct node *n, bool blind, uint64_t now_us)
{
	n->now_us = now_us;
	freshness_blind(n, blind);
}

void
node_job_done(struct node *n, struct kjob *j, uint64_t now_us)
{
	n->now_us = now_us;
	switch (j->owner) {
	case KOWNER_LOCAL:
		freshness_before_answers(n);
		local_got(n->local, j, now_us);
		freshness_after_answers(n);
		break;
	case KOWNER_TAKEOVER:
		takeover_job_done(n, j);
		break;
	case KOWNER_PURGE:
		purge_job_done(n, j);
		break;
	case KOWNER_WINDOWS:
		windows_job_done(n, j);
		break;
	}
}

/* --- time -------------------------------------------------------------------------------- */

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t
node_run(struct node *n, uint64_t now_us)
{
	uint64_t	 due = now_us + SLOWEST_US;
	bool		 more;
	unsigned	 i;

	n->now_us = now_us;
	more = local_run(n->local, now_us);
	freshness_run(n);
	for (i = 0; i < n->npeers; i++) {
		if (!takeover_running(n))	/* what is swept could not be taken */
			more |= recv_run(n->recv[i], RUN_SWEEP, now_us);
		session_run(n, n->session[i]);
	}
	ownership_run(n, &more);
	more |= takeover_run(n);
	more |= windows_run(n);
	more |= purge_run(n);
	verification_run(n);
	readiness_run(n, &n->alerts_said);
	more |= feed_run(n->feed, now_us, RUN_FRAMES, false);
	if (more)
		return now_us;
	due = least(due, feed_due_us(n->feed, now_us));
	due = least(due, takeover_due(n));
	due = least(due, windows_due(n));
	due = least(due, purge_due(n));
	for (i = 0; i < n->npeers; i++)
		due = least(due, session_due(n, n->session[i]));
	return due;
}

void
node_leave(struct node *n, uint64_t now_us)
{
	unsigned	 i;

	n->now_us = now_us;
	n->leaving = true;
	takeover_shutdown(n);
	feed_release(n->feed, now_us, true);
	feed_run(n->feed, now_us, FEED_RING_FRAMES, true);
	for (i = 0; i < n->npeers; i++)
		session_signal(n, n->session[i], true);
}

/* --- commands ----------------------------------------------------------------------------- */

void
node_takeover(struct node *n, enum node_take what, uint64_t now_us)
{
	n->now_us = now_us;
	takeover_start(n, what);
}

void
node_release(struct node *n, uint64_t now_us)
{
	bool	 was_active = ownership_active(n);

	n->now_us = now_us;
	ownership_release(n);
	takeover_stop(n);
	if (was_active)
		purge_begin(n);
}

void
node_verify(struct node *n, uint64_t now_us)
{
	n->now_us = now_us;
	verification_start(n);
}

void
node_resync(struct node *n)
{
	unsigned	 i;

	local_resync(n->local);
	for (i = 0; i < n->npeers; i++)
		recv_resync(n->recv[i]);
}

int
node_flush_remote(struct node *n)
{
	unsigned	 i;

	if (takeover_running(n) || ownership_taking(n))
		return -EAGAIN;
	for (i = 0; i < n->npeers; i++) {
		session_flushed(n->session[i]);
		recv_flush(n->recv[i]);
	}
	return 0;
}

void
node_flush_local(struct node *n, uint64_t now_us)
{
	n->now_us = now_us;
	freshness_overrun(n, now_us);
	local_empty(n->local, now_us);
	purge_begin(n);
}

void
node_flush_kernel(struct node *n)
{
	purge_flush(n);
}

int
node_forget(struct node *n, unsigned peer, uint64_t now_us)
{
	int	 rc;

	n->now_us = now_us;
	if (takeover_running(n))
		return -EAGAIN;
	if ((rc = session_forget(n, n->session[peer])) < 0)
		return rc;
	feed_forget(n->feed, peer);
	recv_forget(n->recv[peer]);
	ownership_forget(n, peer);
	return 0;
}
