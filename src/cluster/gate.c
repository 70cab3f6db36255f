/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The gate: checks of a datagram in the order of their price, refusals, and
 * the sealing of what goes out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "session.h"

struct gate {
	struct seal_ring	*ring;		/* of the caller */
	struct seal_tx		*tx;
	uint32_t		 cluster_tag;
	uint64_t		 rejected[REJ_REASONS];
	uint64_t		 link_rejected[NODE_LINKS_MAX];
	struct log_limit	 log;
	uint8_t			 out[NODE_DATAGRAM_MAX];	/* a datagram under construction */
	uint8_t			 in[65536];	/* one that was opened */
};

/* What it means and what to do, for the log. */
static const char *const	reject_text[REJ_REASONS] = {
	[REJ_MALFORMED] = "it makes no sense; does another program send to this port?",
	[REJ_CLUSTER] = "it is of another cluster: compare \"cluster\" on both nodes",
	[REJ_OWN_NAME] = "it has this node's own name: each node needs a name of its own",
	[REJ_UNKNOWN_NODE] = "it is of a node that is no peer in our configuration",
	[REJ_UNKNOWN_EPOCH] = "it is of a run of the daemon that has not introduced itself yet",
	[REJ_RETIRED_EPOCH] = "it is of an earlier run of the daemon, or replayed",
	[REJ_UNKNOWN_KEY] = "our key file has no key of that id: all nodes need the same keys",
	[REJ_BAD_TAG] = "it is not sealed with our key, or it was changed: all nodes need the same keys",
	[REJ_REPLAY] = "it was received before (replayed, or doubled by the network)",
	[REJ_RATE] = "too many introductions in a short time",
	[REJ_NOT_FOR_US] = "it is for another node, or for an earlier run of this daemon",
	[REJ_VERSION] = "it is of a version that we do not speak: update the older node"
};

struct gate *
gate_new(struct node *n, int *err)
{
	struct gate	*g = calloc(1, sizeof(*g));

	*err = -ENOMEM;
	if (g == NULL)
		return NULL;
	g->ring = n->conf.ring;
	g->cluster_tag = seal_ring_cluster_tag(g->ring);
	g->log = (struct log_limit)LOG_LIMIT_INIT;
	*err = seal_tx_new(&g->tx, g->ring, n->id, n->conf.epoch, n->conf.suite);
	if (*err < 0) {
		free(g);
		return NULL;
	}
	return g;
}

void
gate_free(struct gate *g)
{
	if (g == NULL)
		return;
	seal_tx_free(g->tx);
	free(g);
}

int
gate_set_ring(struct node *n, struct seal_ring *ring)
{
	unsigned	 i;
	int		 rc;

	if ((rc = seal_tx_set_ring(n->gate->tx, ring)) < 0)
		return rc;
	n->gate->ring = ring;
	for (i = 0; i < n->npeers; i++)
		if ((rc = session_set_ring(n->session[i], ring)) < 0)
			return rc;
	return 0;
}

struct seal_ring *
gate_ring(const struct node *n)
{
	return n->gate->ring;
}

/* --- refusals ------------------------------------------------------------------ */

void
gate_count(struct node *n, unsigned link, enum node_reject why)
{
	n->gate->rejected[why]++;
	n->gate->link_rejected[link]++;
}

void
gate_reject(struct node *n, unsigned link, enum node_reject why, const char *who)
{
	gate_count(n, link, why);
	log_limited(&n->gate->log, LOG_WARNING, "link %s: refused a datagram%s%s (%s): %s",
	    n->conf.links[link], who != NULL ? " of " : "", who != NULL ? who : "",
	    node_reject_name(why), reject_text[why]);
}

uint64_t
gate_rejected(const struct node *n, enum node_reject why)
{
	return n->gate->rejected[why];
}

uint64_t
gate_link_rejected(const struct node *n, unsigned link)
{
	return n->gate->link_rejected[link];
}

/* --- in -------------------------------------------------------------------------- */

static struct session *
find_session(const struct node *n, uint64_t id)
{
	unsigned	 i;

	for (i = 0; i < n->npeers; i++)
		if (session_id(n->session[i]) == id)
			return n->session[i];
	return NULL;
}

/* The checks that need no cryptography; NULL if the datagram is refused. */
static struct session *
admit(struct node *n, unsigned link, const uint8_t *buf, size_t len, struct seal_header *sh)
{
	struct session	*s;
	int		 rc;

	if ((rc = seal_header_parse(buf, len, sh)) < 0) {
		gate_reject(n, link, rc == -EPROTONOSUPPORT ? REJ_VERSION : REJ_MALFORMED, NULL);
		return NULL;
	}
	if (sh->cluster_tag != n->gate->cluster_tag) {
		gate_reject(n, link, REJ_CLUSTER, NULL);
		return NULL;
	}
	if (sh->sender_id == n->id) {
		gate_reject(n, link, REJ_OWN_NAME, NULL);
		return NULL;
	}
	if ((s = find_session(n, sh->sender_id)) == NULL) {
		gate_reject(n, link, REJ_UNKNOWN_NODE, NULL);
		return NULL;
	}
	return session_admits(n, s, link, sh) ? s : NULL;
}

static enum node_reject
open_error(ssize_t rc)
{
	switch (rc) {
	case -EALREADY:
		return REJ_REPLAY;
	case -ENOKEY:
		return REJ_UNKNOWN_KEY;
	case -EAGAIN:
		return REJ_RATE;
	case -EBADMSG:
		return REJ_BAD_TAG;
	default:
		return REJ_MALFORMED;
	}
}

void
gate_datagram(struct node *n, unsigned link, const uint8_t *buf, size_t len)
{
	struct gate		*g = n->gate;
	struct seal_header	 sh;
	struct session		*s;
	struct seal_rx		*rx;
	ssize_t			 rc;

	if (link >= n->conf.nlinks || (s = admit(n, link, buf, len, &sh)) == NULL)
		return;
	if ((rx = session_rx(s, sh.epoch)) != NULL)
		rc = seal_rx_open(rx, n->now_us / 1000, &sh, buf, len, g->in, sizeof(g->in));
	else
		rc = seal_open_once(g->ring, &sh, buf, len, g->in, sizeof(g->in));
	if (rc < 0)
		session_refused(n, s, link, open_error(rc));
	else
		session_input(n, s, link, &sh, g->in, (size_t)rc);
}

/* --- out --------------------------------------------------------------------------- */

/* What a datagram tells of our wall clock: seconds. */
static uint32_t
stamp(const struct node *n)
{
	return (uint32_t)(n->ops->wall_ms(n->ctx) / 1000);
}

void
gate_send(struct node *n, unsigned peer, unsigned link, enum seal_type type, uint32_t stream,
    const struct wbuf *w)
{
	struct gate	*g = n->gate;
	ssize_t		 len;

	if (!wbuf_ok(w))
		return;
	len = seal_tx(g->tx, type, stream, stamp(n), w->base, w->len, g->out, sizeof(g->out));
	if (len > 0)
		(void)n->ops->link.send(n->ctx, link, peer, g->out, (size_t)len);
}

void
gate_send_frame(struct node *n, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	struct gate	*g = n->gate;
	ssize_t		 sealed = -1;
	unsigned	 i;
	int		 link;

	for (i = 0; i < n->npeers; i++) {
		if (!(peers & 1u << i) || !session_up(n, n->session[i]))
			continue;
		if ((link = session_link(n, n->session[i])) < 0)
			continue;
		if (sealed < 0)
			sealed = seal_tx(g->tx, SEAL_DATA, stream, stamp(n), frame, len,
			    g->out, sizeof(g->out));
		if (sealed > 0)
			(void)n->ops->link.send(n->ctx, (unsigned)link, i, g->out, (size_t)sealed);
	}
}
