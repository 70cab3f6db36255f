/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of a node, and the time of the call at hand.
 *
 * Every part is opaque: the others ask it by the functions of its header.
 *
 *	gate		which datagrams count; sealing what goes out
 *	session		one for each peer: hellos, signals, links, liveness
 *	ownership	role, terms, claims, lives and ends of flows
 *	takeover	passes over the peers' copies into the kernel
 *	windows		TCP windows: liberal after a takeover, strict again later
 *	purge		what is removed from the kernel
 *	verification	entry for entry, on demand
 *	freshness	how old what the peers know of our kernel may be
 *	readiness	may this node take over; what is wrong
 *
 * Peers are numbered as in the configuration of the node.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include "ctsync/feed.h"
#include "ctsync/local.h"
#include "ctsync/log.h"
#include "ctsync/node.h"
#include "ctsync/recv.h"

struct freshness;
struct gate;
struct ownership;
struct purge;
struct session;
struct takeover;
struct verification;
struct windows;

/* What a receiver's callbacks are given. */
struct peer_ref {
	struct node	*node;
	unsigned	 peer;
};

struct node {
	struct node_conf	 conf;
	char			 name[WIRE_NODE_MAX + 1];
	const struct node_ops	*ops;
	void			*ctx;
	uint64_t		 id;
	uint64_t		 now_us;	/* of the call at hand */
	uint64_t		 born_us;
	bool			 leaving;

	unsigned		 npeers;
	struct peer_ref		 refs[NODE_PEERS_MAX];
	struct recv		*recv[NODE_PEERS_MAX];
	struct session		*session[NODE_PEERS_MAX];
	struct feed		*feed;
	struct local		*local;

	struct gate		*gate;
	struct ownership	*ownership;
	struct takeover		*takeover;
	struct windows		*windows;
	struct purge		*purge;
	struct verification	*verification;
	struct freshness	*freshness;
	unsigned		 alerts_said;
};

#define CLUSTER_JOBS_MAX	6u	/* of each kind under way */

/* Handle of a key in the table of a peer's copy, FTAB_NIL if it is not there. */
static inline uint32_t
cluster_find(const struct node *n, unsigned peer, const uint8_t *key, size_t klen)
{
	struct ftab	*t = recv_table(n->recv[peer]);

	return ftab_count(t) == 0 ? FTAB_NIL : ftab_find(t, ftab_hash(t, key, klen), key, klen);
}

/*
 * Flags of an entry of a remote table (ftab_meta.flags); all are gone when the
 * peer tells of the flow again.  touched is the number of the last walk that
 * took it.
 */
#define REMOTE_ENDED	0x01u	/* ownership: it is known to have ended here */
#define REMOTE_QUEUED	0x02u	/* takeover: it waits to be looked at */

#endif
