/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A node: puts feed, receivers, sessions and takeover together, tells the
 * time, and says what state it is in.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node_priv.h"

#define RUN_FRAMES	64u		/* frames built in one call */
#define RUN_SWEEP	4096u		/* entries swept in one call */
#define SLOWEST_US	500000		/* the longest that node_run() may wait */

/* --- what the feed wants of us --------------------------------------------------- */

static void
on_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	sess_frame(ctx, peers, stream, frame, len);
}

static void
on_restart(void *ctx, unsigned peer, uint32_t stream)
{
	struct node	*n = ctx;

	n->peers[peer].restart = stream;
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

/*
 * The table has just learned what the kernel has had since since_us.  Until
 * that is emitted the peers' knowledge is as old as that.
 */
void
node_late(struct node *n, uint64_t since_us)
{
	if (n->late_us == 0 || since_us < n->late_us)
		n->late_us = since_us;
	n->late.v[1] = feed_version(n->feed);
	n->late.v[0] = UINT64_MAX;
}

/*
 * Since when something that was learned late is not emitted, 0: nothing is.
 * Lane 1 first: what is promoted from there stands in lane 0 by then.
 */
static uint64_t
still_late(struct node *n)
{
	struct wire_pos	 hi = feed_emitted(n->feed);

	if (n->late_us == 0)
		return 0;
	if (n->late.v[0] == UINT64_MAX && hi.v[1] >= n->late.v[1])
		n->late.v[0] = feed_version(n->feed);
	if (n->late.v[0] != UINT64_MAX && hi.v[0] >= n->late.v[0])
		n->late_us = 0;
	return n->late_us;
}

static void
on_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w)
{
	struct node		*n = ctx;
	struct wire_doubt	 d;
	struct wire_echoed	 e;
	unsigned		 i, echoes = 0;

	d.kernel_us = older(n, n->ops->kernel.age_us(n->ctx), local_unknown_us(n->local));
	/* what a takeover writes is in the kernel before it is in the table */
	if (n->take != NULL)
		d.kernel_us = older(n, d.kernel_us, n->take_us);
	d.kernel_us = older(n, d.kernel_us, n->delete_us);
	d.kernel_us = older(n, d.kernel_us, local_lacking_us(n->local));
	d.kernel_us = older(n, d.kernel_us, still_late(n));
	d.pending_us = pending_us;
	d.flags = (uint8_t)((n->doubt || n->blind ? WIRE_DOUBT_LOST : 0) |
	    (local_no_room(n->local) ? WIRE_DOUBT_NO_ROOM : 0) |
	    (local_complete(n->local) ? 0 : WIRE_DOUBT_FIRST));
	d.clock_us = (uint32_t)n->now_us;
	wire_put_doubt(w, &d);
	for (i = 0; i < n->npeers && echoes < 8; i++) {
		if (!(peers & 1u << i) || !n->peers[i].stamp_new)
			continue;
		e.id = n->peers[i].id;
		e.epoch = n->peers[i].epoch;
		e.stamp = n->peers[i].stamp;
		e.held_us = (uint32_t)(n->now_us - n->peers[i].report_us);
		wire_put_echoed(w, &e);
		n->peers[i].stamp_new = false;
		echoes++;
	}
}

static const struct feed_ops feed_ops = { on_send, on_restart, on_trailer };

/* --- life --------------------------------------------------------------------------- */

static int
make_peer(struct node *n, unsigned i, const char *name)
{
	struct peer		*p = &n->peers[i];
	struct recv_conf	 rc;
	int			 err;

	if (strlen(name) > WIRE_NODE_MAX)
		return -EINVAL;
	memcpy(p->name, name, strlen(name) + 1);
	p->node = n;
	p->index = i;
	p->log = (struct log_limit)LOG_LIMIT_INIT;
	if ((err = seal_node_id(n->conf.cluster, name, &p->id)) < 0)
		return err;
	memset(&rc, 0, sizeof(rc));
	rc.table_key = n->conf.table_key;
	rc.max_flows = n->conf.max_flows;
	rc.max_bytes = n->conf.max_bytes;
	rc.my_id = n->id;
	rc.my_epoch = n->conf.epoch;
	rc.scrub_us = n->conf.scrub_us;
	rc.wrong = verify_wrong;
	rc.gone = owner_gone;
	rc.ctx = p;
	feed_set_peer_id(n->feed, i, p->id);
	p->recv = recv_new(&rc);
	return p->recv == NULL ? -ENOMEM : 0;
}

int
node_forget(struct node *n, unsigned peer, uint64_t now_us)
{
	struct peer	*p = &n->peers[peer];

	n->now_us = now_us;
	if (p->rx_us != 0 && now_us - p->rx_us < PEER_LOST_US)
		return -EBUSY;
	if (n->take != NULL)
		return -EAGAIN;
	log_msg(LOG_NOTICE, "%s is forgotten, with the %u flows that it told", p->name,
	    ftab_count(recv_table(p->recv)));
	/*
	 * The session stays: if the peer lives, it holds us for the one that it
	 * knows, and goes on with its epoch, its counters and our nonces.
	 */
	memset(p->links, 0, sizeof(p->links));
	p->rx_us = p->report_us = 0;
	p->lost = p->leaving = p->refused = p->equal_at_loss = p->stamp_new = false;
	p->restart = 0;
	feed_forget(n->feed, peer);
	recv_forget(p->recv);
	owner_forget(n, p);
	return 0;
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

struct node *
node_new(const struct node_conf *conf, const struct node_ops *ops, void *ctx, uint64_t now_us,
    int *err)
{
	struct node	*n;
	unsigned	 i;

	*err = -EINVAL;
	if (conf->npeers > NODE_PEERS_MAX || conf->nlinks > NODE_LINKS_MAX ||
	    strlen(conf->name) > WIRE_NODE_MAX || conf->datagram_bytes < 800 ||
	    conf->datagram_bytes > sizeof(n->out))
		return NULL;
	*err = -ENOMEM;
	if ((n = calloc(1, sizeof(*n))) == NULL)
		return NULL;
	n->conf = *conf;
	memcpy(n->name, conf->name, strlen(conf->name) + 1);
	n->ops = ops;
	n->ctx = ctx;
	n->role = conf->role;
	n->term = conf->term;
	n->resume = conf->resume;
	n->born_us = n->standby_us = n->now_us = now_us;
	n->ring = conf->ring;
	n->cluster_tag = seal_ring_cluster_tag(conf->ring);
	n->reject_log = (struct log_limit)LOG_LIMIT_INIT;
	if ((*err = seal_node_id(conf->cluster, conf->name, &n->id)) < 0 ||
	    (*err = seal_tx_new(&n->tx, n->ring, n->id, conf->epoch, conf->suite)) < 0 ||
	    (*err = make_feed(n)) < 0)
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
	take_free(n);
	verify_free(n);
	owner_free(n);
	for (i = 0; i < n->npeers; i++) {
		recv_free(n->peers[i].recv);
		seal_rx_free(n->peers[i].rx);
	}
	local_free(n->local);
	feed_free(n->feed);
	seal_tx_free(n->tx);
	free(n);
}

struct local *
node_local(const struct node *n)
{
	return n->local;
}

struct feed *
node_feed(const struct node *n)
{
	return n->feed;
}

int
node_set_ring(struct node *n, struct seal_ring *ring)
{
	unsigned	 i;
	int		 rc;

	if ((rc = seal_tx_set_ring(n->tx, ring)) < 0)
		return rc;
	n->ring = ring;
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].rx != NULL && (rc = seal_rx_set_ring(n->peers[i].rx, ring)) < 0)
			return rc;
	return 0;
}

/* --- the kernel ----------------------------------------------------------------------- */

void
node_dump_begin(struct node *n)
{
	n->liberal_now = 0;
	local_dump_begin(n->local);
}

void
node_dump_entry(struct node *n, const struct flow *f, uint64_t now_us)
{
	n->now_us = now_us;
	take_strict_entry(n, f);
	local_dump_entry(n->local, f, now_us);
}

void
node_dump_end(struct node *n, int err, uint64_t now_us)
{
	bool	 first = !local_complete(n->local);

	n->now_us = now_us;
	local_dump_end(n->local, err, now_us);
	take_dump_end(n);
	if (first && local_complete(n->local) && n->role == NODE_STANDBY)
		purge_begin(n);
}

void
node_overrun(struct node *n, uint64_t since_us, uint64_t now_us)
{
	n->now_us = now_us;
	n->doubt = true;
	n->overrun_us = now_us;
	local_overrun(n->local, since_us);
}

void
node_set_blind(struct node *n, bool blind, uint64_t now_us)
{
	if (n->blind && !blind)
		node_overrun(n, now_us, now_us);
	n->blind = blind;
}

int
node_submit_delete(struct node *n, struct kjob *j)
{
	int	 rc = n->ops->kernel.submit(n->ctx, j);

	if (rc == 0 && n->deletes++ == 0)
		n->delete_us = n->now_us;
	return rc;
}

static void
delete_done(struct node *n)
{
	node_late(n, n->delete_us);
	if (--n->deletes == 0)
		n->delete_us = 0;
}

void
node_job_done(struct node *n, struct kjob *j, uint64_t now_us)
{
	bool	 deletes = j->op == KOP_DELETE && j->owner == KOWNER_PURGE;

	n->now_us = now_us;
	switch (j->owner) {
	case KOWNER_LOCAL:
		if (local_unknown_us(n->local) != 0)
			node_late(n, local_unknown_us(n->local));
		local_got(n->local, j, now_us);
		if (n->late_us != 0)
			node_late(n, n->late_us);
		break;
	case KOWNER_TAKEOVER:
		take_job_done(n, j);
		break;
	case KOWNER_PURGE:
		purge_job_done(n, j);
		break;
	}
	if (deletes)
		delete_done(n);
}

/* --- time -------------------------------------------------------------------------------- */

/* What a dump has just found missing or wrong nobody has been told yet. */
static void
note_lacking(struct node *n)
{
	uint64_t	 since_us = local_lacking_us(n->local);

	if (n->lacking_us != 0 && since_us != n->lacking_us)
		node_late(n, n->lacking_us);
	n->lacking_us = since_us;
	if (!local_resyncing(n->local))
		n->doubt = false;
}

uint64_t
node_run(struct node *n, uint64_t now_us)
{
	uint64_t	 due = now_us + SLOWEST_US, t;
	bool		 more = false;
	unsigned	 i;

	n->now_us = now_us;
	more |= local_run(n->local, now_us);
	note_lacking(n);
	for (i = 0; i < n->npeers; i++) {
		if (n->take == NULL)	/* what is swept could not be taken */
			more |= recv_run(n->peers[i].recv, RUN_SWEEP, now_us);
		sess_run(n, &n->peers[i]);
	}
	more |= take_run(n);
	more |= purge_run(n);
	verify_run(n);
	more |= owner_run(n);
	more |= feed_run(n->feed, now_us, RUN_FRAMES, false);
	if (more)
		return now_us;
	t = feed_due_us(n->feed, now_us);
	due = t < due ? t : due;
	t = take_due(n);
	due = t < due ? t : due;
	t = purge_due(n);
	due = t < due ? t : due;
	for (i = 0; i < n->npeers; i++) {
		t = sess_due(n, &n->peers[i]);
		due = t < due ? t : due;
	}
	return due;
}

void
node_leave(struct node *n, uint64_t now_us)
{
	unsigned	 i;

	n->now_us = now_us;
	n->leaving = true;
	feed_release(n->feed, now_us, true);
	feed_run(n->feed, now_us, FEED_RING_FRAMES, true);
	for (i = 0; i < n->npeers; i++)
		if (n->peers[i].epoch != 0)
			sess_signal(n, &n->peers[i], true);
}

void
node_resync(struct node *n)
{
	unsigned	 i;

	local_resync(n->local);
	for (i = 0; i < n->npeers; i++)
		recv_resync(n->peers[i].recv);
}

void
node_flush_remote(struct node *n)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++) {
		n->peers[i].equal_at_loss = false;
		recv_flush(n->peers[i].recv);
	}
}

void
node_flush_local(struct node *n, uint64_t now_us)
{
	uint32_t	 h = FTAB_NIL;

	n->now_us = now_us;
	n->doubt = true;
	local_overrun(n->local, now_us);
	while ((h = feed_next(n->feed, h)) != FTAB_NIL)
		feed_del(n->feed, h, now_us);
}

/* --- state ---------------------------------------------------------------------------------- */

enum node_role
node_role(const struct node *n)
{
	return n->role;
}

unsigned
node_peers(const struct node *n)
{
	return n->npeers;
}

uint64_t
node_epoch(const struct node *n)
{
	return n->conf.epoch;
}

uint32_t
node_remote_flows(const struct node *n)
{
	uint32_t	 sum = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		sum += ftab_count(recv_table(n->peers[i].recv));
	return sum;
}

uint32_t
node_remote_expects(const struct node *n)
{
	uint32_t	 sum = 0;
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		sum += ftab_expects(recv_table(n->peers[i].recv));
	return sum;
}

uint64_t
node_rejected(const struct node *n, enum node_reject why)
{
	return n->rejected[why];
}

uint64_t
node_link_rejected(const struct node *n, unsigned link)
{
	return n->link_rejected[link];
}

const char *
node_reject_name(enum node_reject why)
{
	static const char *const	 names[REJ_REASONS] = {
		"malformed", "foreign_cluster", "own_name", "unknown_node", "unknown_epoch",
		"retired_epoch", "unknown_key", "bad_tag", "replay", "rate_limited", "not_for_us",
		"version"
	};

	return names[why];
}

bool
node_link_healthy(const struct node *n, unsigned link, uint64_t now_us)
{
	const struct peer_link	*l;
	unsigned		 i;

	for (i = 0; i < n->npeers; i++) {
		l = &n->peers[i].links[link];
		if (l->rx_us != 0 && now_us - l->rx_us < LINK_DEAD_US && l->heard)
			return true;
	}
	return false;
}

/* One reason why a peer's copy here is not known to be equal. */
static const char *
why_not(const struct peer *p, uint64_t now_us)
{
	if (p->rx_us == 0)
		return "never seen";
	if (now_us - p->rx_us >= PEER_LOST_US)
		return "lost";
	if (p->epoch == 0 || !p->confirmed)
		return "greeting";
	if (recv_full(p->recv))
		return "no room for its flows: raise limits.flows";
	if (recv_refused(p->recv))
		return "it sends flows that only a newer version understands";
	if (recv_persistent(p->recv))
		return "persistently different, whatever is resent: see the log, and report this";
	if (recv_mending(p->recv))
		return "a difference was found and is being repaired";
	if (recv_state(p->recv) != RECV_COMPARING)
		return "synchronising";
	if (recv_doubt(p->recv) & WIRE_DOUBT_FIRST)
		return "it has not read its kernel yet";
	if (recv_doubt(p->recv) & WIRE_DOUBT_NO_ROOM)
		return "its own table is full: raise limits.flows there";
	if (recv_doubt(p->recv) & WIRE_DOUBT_LOST)
		return "it lost kernel events and reads its kernel again";
	if (recv_verified_us(p->recv) == 0)
		return "not verified yet";
	return recv_in_sync(p->recv, now_us) ? NULL : "the last proof is too old";
}

static enum node_peer_state
peer_state(const struct peer *p, uint64_t now_us)
{
	if (p->epoch == 0 || !p->confirmed || p->rx_us == 0 || now_us - p->rx_us >= PEER_LOST_US)
		return NODE_PEER_LOST;
	return recv_state(p->recv) == RECV_COMPARING ? NODE_PEER_UP : NODE_PEER_SYNCING;
}

static void
peer_report(const struct node *n, const struct peer *p, struct node_peer_info *info,
    uint64_t now_us)
{
	uint64_t	 acked = feed_acked(n->feed, p->index);

	info->acked = acked;
	info->pending = feed_version(n->feed) > acked ? feed_version(n->feed) - acked : 0;
	info->peer_verified_ms = -1;
	if (p->report_us == 0)
		return;
	info->reported = true;
	info->peer_holds = p->report.flows;
	info->peer_full = p->report.flags & WIRE_REPORT_FULL;
	info->peer_in_sync = (p->report.flags & WIRE_REPORT_IN_SYNC) &&
	    now_us - p->report_us < RECV_FRESH_US;
	if (p->report.verified_ms != WIRE_NEVER)
		info->peer_verified_ms = p->report.verified_ms +
		    (int64_t)((now_us - p->report_us) / 1000);
	info->peer_lagged = p->report.lag_us != WIRE_NEVER;
	info->peer_lag.median = p->report.lag_us;
	info->peer_lag.p99 = p->report.lag_p99_us;
	info->peer_lag.max = p->report.lag_max_us;
}

void
node_peer(const struct node *n, unsigned i, uint64_t now_us, struct node_peer_info *info)
{
	const struct peer	*p = &n->peers[i];
	uint64_t		 v = recv_verified_us(p->recv);

	memset(info, 0, sizeof(*info));
	info->name = p->name;
	info->state = peer_state(p, now_us);
	info->why = why_not(p, now_us);
	info->in_sync = info->why == NULL;
	info->verified_ms = v == 0 ? -1 : (int64_t)((now_us - v) / 1000);
	info->lagged = recv_lag(p->recv, &info->lag);
	info->active = p->active;
	info->term = p->probed ? (int64_t)p->term : -1;
	info->flows = ftab_count(recv_table(p->recv));
	info->link = info->state == NODE_PEER_LOST ? -1 : sess_link(n, p);
	info->recv = p->recv;
	info->hellos = p->hellos;
	info->signals = p->signals;
	info->accepted = p->accepted;
	info->ended = p->marked;
	peer_report(n, p, info, now_us);
}

/* One peer's part in our readiness; false and the reason if it speaks against it. */
static bool
peer_ready(const struct node *n, const struct peer *p, uint64_t now_us, char *reason)
{
	const char	*why = why_not(p, now_us);

	if (why == NULL) {
		snprintf(reason, NODE_REASON_MAX, "equal to %s as of %llu ms ago", p->name,
		    (unsigned long long)((now_us - recv_verified_us(p->recv)) / 1000));
		return true;
	}
	if (p->rx_us == 0) {
		snprintf(reason, NODE_REASON_MAX, "alone: %s was never seen", p->name);
		if (p->refused)
			snprintf(reason, NODE_REASON_MAX, "alone: what comes from %s is refused (%s): "
			    "do both nodes have the same key file?", p->name,
			    node_reject_name(p->refused_why));
		if (now_us - n->born_us >= n->conf.boot_wait_us)
			return true;
		snprintf(reason, NODE_REASON_MAX, "%s was not seen yet; ready alone in %llu s", p->name,
		    (unsigned long long)((n->conf.boot_wait_us - (now_us - n->born_us)) / 1000000 + 1));
		return false;
	}
	if (p->lost && p->equal_at_loss) {
		snprintf(reason, NODE_REASON_MAX, "equal as of the death of %s, %llu s ago", p->name,
		    (unsigned long long)((now_us - p->rx_us) / 1000000));
		return true;
	}
	if (p->lost)
		snprintf(reason, NODE_REASON_MAX, "%s was lost before its flows were verified (%u held)",
		    p->name, ftab_count(recv_table(p->recv)));
	else
		snprintf(reason, NODE_REASON_MAX, "not equal to %s: %s", p->name, why);
	return false;
}

bool
node_ready(const struct node *n, uint64_t now_us, char reason[NODE_REASON_MAX])
{
	char		 why[NODE_REASON_MAX];
	unsigned	 i;

	if (n->resume) {
		snprintf(reason, NODE_REASON_MAX, "a takeover was interrupted by a restart; it goes on as "
		    "soon as the peers' flows are here");
		return false;
	}
	if (n->role == NODE_ACTIVE) {
		snprintf(reason, NODE_REASON_MAX, "active");
		return true;
	}
	if (!local_complete(n->local)) {
		snprintf(reason, NODE_REASON_MAX, "the kernel's table has not been read yet");
		return false;
	}
	snprintf(reason, NODE_REASON_MAX, "no peers are configured");
	for (i = 0; i < n->npeers; i++) {
		if (!peer_ready(n, &n->peers[i], now_us, why)) {
			memcpy(reason, why, sizeof(why));
			return false;
		}
		if (i == 0 || n->peers[i].rx_us != 0)
			memcpy(reason, why, sizeof(why));
	}
	return true;
}
