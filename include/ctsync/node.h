/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A node: the whole core of the daemon without its sockets.
 *
 * Owns the local table and its feed, a session, a receiver and a remote table
 * for each configured peer, the role, and what a takeover needs.  It is given
 * datagrams, kernel events and the time (monotonic, microseconds), and acts
 * through the ports of ports.h.  Everything is bounded work; node_run() says
 * when it wants to be called again.
 */
#ifndef CTSYNC_NODE_H
#define CTSYNC_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "ctsync/feed.h"
#include "ctsync/local.h"
#include "ctsync/ports.h"
#include "ctsync/recv.h"
#include "ctsync/seal.h"
#include "ctsync/timeout.h"

#define NODE_PEERS_MAX		FEED_PEERS_MAX
#define NODE_LINKS_MAX		16
#define NODE_DATAGRAM_MAX	9000
#define NODE_REASON_MAX		256
#define NODE_BASIS_MAX		256

struct node;

enum node_role {
	NODE_STANDBY,
	NODE_ACTIVE
};

enum node_peer_state {
	NODE_PEER_LOST,
	NODE_PEER_SYNCING,
	NODE_PEER_UP
};

struct node_conf {
	const char		*name;
	const char		*cluster;
	const char		*const *peers;		/* names; a peer's index is its number */
	unsigned		 npeers;
	const char		*const *links;		/* names, for the log */
	unsigned		 nlinks;
	/* Random, new at every start. */
	uint64_t		 epoch;
	uint8_t			 boot_key[SEAL_BOOT_KEY_LEN];
	struct sipkey		 digest_key, table_key;

	struct seal_ring	*ring;			/* a reference is taken */
	enum seal_suite		 suite;
	uint32_t		 max_flows;
	uint64_t		 max_bytes;
	uint32_t		 max_tombs;
	uint32_t		 datagram_bytes;	/* longest one that every link carries */
	struct wire_boot	 boot;
	uint64_t		 boot_wait_us;
	uint64_t		 hold_us;	/* a flow without reply is held back; 0: not */
	uint64_t		 scrub_us;	/* a lap over each remote table; 0: none */
	uint64_t		 purge_us;		/* a standby's flow that the active lacks goes after that */
	enum node_role		 role;
	uint32_t		 term;			/* of the last takeover before the restart, 0: none */
	bool			 asked;	/* somebody wants this role: addresses or a request; else it is only kept */
	bool			 resume;	/* it became active since the daemon last ran, or was taking over then */
	bool			 liberal;		/* tighten TCP windows again after a takeover */
	/* Timeouts in s of what a takeover writes: in any case (0: as told), and where none was told. */
	uint32_t		 fixed_s[FLOW_TIMEOUTS], default_s[FLOW_TIMEOUTS];
};

struct node_ops {
	struct link_port	 link;
	struct kernel_port	 kernel;
	local_filter_fn		*filter;
	uint64_t		(*wall_ms)(void *ctx);	/* since 1970 */
	/*
	 * The role or node_term() has changed: to be remembered over a restart.
	 * Active comes twice, first with done false when a takeover begins, then
	 * with true.
	 */
	void			(*role)(void *ctx, enum node_role role, bool done);
	/* The takeover or commit that was begun is finished; see node_takeover(). */
	void			(*taken)(void *ctx);
	/* The verification that was begun is finished; see node_verify(). */
	void			(*verified)(void *ctx);
};

/* Datagrams that were refused, by reason. */
enum node_reject {
	REJ_MALFORMED,		/* no header of ours, or a frame that makes no sense */
	REJ_CLUSTER,
	REJ_OWN_NAME,
	REJ_UNKNOWN_NODE,
	REJ_UNKNOWN_EPOCH,
	REJ_RETIRED_EPOCH,
	REJ_UNKNOWN_KEY,
	REJ_BAD_TAG,
	REJ_REPLAY,
	REJ_RATE,
	REJ_NOT_FOR_US,
	REJ_VERSION,
	REJ_REASONS
};

/* ops and ctx are borrowed, conf is copied.  NULL and -errno in *err. */
struct node	*node_new(const struct node_conf *conf, const struct node_ops *ops, void *ctx,
		    uint64_t now_us, int *err);
void		 node_free(struct node *n);

/* A datagram came in over a link. */
void		 node_datagram(struct node *n, unsigned link, const uint8_t *p, size_t len,
		    uint64_t now_us);
/* Kernel events go to local_event() of this. */
struct local	*node_local(const struct node *n);
struct feed	*node_feed(const struct node *n);
/* A flow of a dump: for the local table and for what is still liberal. */
void		 node_dump_entry(struct node *n, const struct flow *f, uint64_t now_us);
void		 node_dump_begin(struct node *n);
void		 node_dump_end(struct node *n, int err, uint64_t now_us);
/*
 * Events were lost, the first of them not before since_us: what the peers
 * believe is in doubt until a re-read is done.
 */
void		 node_overrun(struct node *n, uint64_t since_us, uint64_t now_us);
/*
 * The kernel sends no events (nf_conntrack_events is 0 and cannot be set), or
 * sends them again.  While it is blind a node claims nothing of its own table.
 */
void		 node_set_blind(struct node *n, bool blind, uint64_t now_us);
/* A job of ours is done; takes it. */
void		 node_job_done(struct node *n, struct kjob *j, uint64_t now_us);

/*
 * Timers and everything that is due, a bounded piece of it.  Returns when it
 * wants to be called next, now_us if at once.
 */
uint64_t	 node_run(struct node *n, uint64_t now_us);

/* Tell the peers that we go away on purpose. */
void		 node_leave(struct node *n, uint64_t now_us);

/* --- takeover --------------------------------------------------------------------- */

enum node_take {
	NODE_COMMIT,		/* remote flows into the kernel and the local table */
	NODE_TAKEOVER		/* the same, and the role becomes active */
};

#define NODE_FAILURES_MAX	16

struct node_taken {
	enum node_take	 what;
	bool		 running;
	const char	*aborted;	/* why it was given up, static; NULL: it was not */
	uint64_t	 flows;		/* candidates looked at */
	uint64_t	 created, updated, adopted;
	uint64_t	 ours;		/* here already, in use or younger: not touched */
	uint64_t	 ended;		/* known to have ended here */
	uint64_t	 failed;	/* refused by the kernel */
	uint64_t	 expects;	/* of flows: expectations */
	/*
	 * Written without master (it is not there), helper (the kernel does not
	 * know it) or labels (the ruleset uses none); expectations whose master is
	 * not there are not written and count under the first.
	 */
	uint64_t	 lost_master, lost_helper, lost_labels;
	uint64_t	 started_us, ended_us;
	char		 basis[NODE_BASIS_MAX];	/* what it is based on */
	unsigned	 nfailures;
	struct {
		int		 err;	/* errno */
		uint64_t	 count;
		char		 example[FLOW_STR_MAX];
	} failures[NODE_FAILURES_MAX];
};

/*
 * Begin a commit or takeover; ops->taken() tells when it is done, at the
 * earliest in a later node_run(), or from node_release(), which ends it at
 * once.  If one is running it begins anew (a takeover makes a running commit a
 * takeover), and ops->taken() is called once.
 */
void		 node_takeover(struct node *n, enum node_take what, uint64_t now_us);
const struct node_taken	*node_taken(const struct node *n);

enum node_compared {
	NODE_COMPARED_EQUAL,
	NODE_COMPARED_DIFFERENT,
	NODE_NOT_COMPARABLE
};

struct node_verified_peer {
	const char		*name;
	enum node_compared	 state;
	const char		*why;		/* not comparable: one reason, static; else NULL */
	uint64_t		 flows;		/* of it that we hold and that were compared */
	uint64_t		 kept;		/* further ones, from before it restarted or rebooted */
	struct verify_log	 log;		/* "here" is our copy, "there" the peer */
};

struct node_verified {
	bool				 running;
	uint64_t			 started_us, ended_us;
	const struct local_verified	*local;		/* our table and our kernel */
	unsigned			 npeers;
	struct node_verified_peer	 peers[NODE_PEERS_MAX];
};

/*
 * Compare entry for entry: the local table with the kernel, our copies with the
 * peers.  ops->verified() tells when it is done, in a later node_run().  If one
 * is running this one joins it.  What it found is valid until another begins.
 */
void		 node_verify(struct node *n, uint64_t now_us);
const struct node_verified	*node_verified(const struct node *n);

/* The role becomes standby.  Flows that the active peer does not have go later. */
void		 node_release(struct node *n, uint64_t now_us);
/* Have every peer send its table again. */
void		 node_resync(struct node *n);
/* Drop the copies of all peers and have them sent again.  -EAGAIN while they are still to be taken. */
int		 node_flush_remote(struct node *n) __attribute__((warn_unused_result));
/* Drop the local table and read the kernel again. */
void		 node_flush_local(struct node *n, uint64_t now_us);
/* Delete from the kernel what the local table holds, piece by piece. */
void		 node_flush_kernel(struct node *n);
/* Accept and use other keys from now on.  0 or -errno. */
int		 node_set_ring(struct node *n, struct seal_ring *ring);

/*
 * As if the peer had never been seen: its flows, what is kept for it, and what
 * others claim of it.  -EBUSY while it is heard, -EAGAIN during a takeover.
 */
int		 node_forget(struct node *n, unsigned peer, uint64_t now_us)
		    __attribute__((warn_unused_result));

/* --- state ------------------------------------------------------------------------- */

enum node_role	 node_role(const struct node *n);
/* Are two nodes active, as far as this one knows? */
bool		 node_two_active(const struct node *n);

/* What is wrong with the roles of the cluster, or with its keys. */
enum node_alert {
	NODE_ALERT_NO_ACTIVE,	/* nobody is active */
	NODE_ALERT_TRAFFIC,	/* packets make flows here, and the role is standby */
	NODE_ALERT_TWO_ACTIVE,
	NODE_ALERT_REFUSED,	/* what a living peer sends is refused here */
	NODE_ALERT_REFUSED_BY,	/* a living peer does not take what we send */
	NODE_ALERT_BLIND,	/* the kernel sends no events */
	NODE_ALERTS
};

/* Bit n: alert n. */
unsigned	 node_alerts(struct node *n, uint64_t now_us);
/* "NO NODE IS ACTIVE", what it means and what to do about it, and a name for metrics; static. */
const char	*node_alert_text(enum node_alert a);
const char	*node_alert_advice(enum node_alert a);
const char	*node_alert_name(enum node_alert a);
/* Claim term (doc/wire.md, section 8). */
uint32_t	 node_term(const struct node *n);
/* Could this node take over now and lose nothing that it could have had? */
bool		 node_ready(struct node *n, uint64_t now_us, char reason[NODE_REASON_MAX]);

struct node_peer_info {
	const char		*name;
	enum node_peer_state	 state;
	bool			 in_sync;
	int64_t			 verified_ms;		/* -1: never */
	bool			 lagged;		/* lag is valid */
	struct hist_summary	 lag;			/* us, of changes of the peer */
	bool			 active;		/* its role, as last told */
	int64_t			 term;			/* its claim term, -1: never told */
	bool			 reported;		/* peer_ fields are valid */
	bool			 peer_in_sync;
	bool			 peer_full;
	int64_t			 peer_verified_ms;
	bool			 peer_lagged;		/* peer_lag is valid; it has no count */
	struct hist_summary	 peer_lag;
	uint32_t		 peer_holds;		/* our flows that it holds */
	uint32_t		 flows;			/* of it that we hold */
	uint64_t		 acked;
	uint64_t		 pending;		/* versions that it has not acknowledged */
	int			 link;			/* that carries its data, -1: none */
	bool			 refused;		/* what comes in its name is refused: why */
	enum node_reject	 refused_why;
	bool			 refuses_us;		/* it is heard, but does not take what we send */
	const char		*why;			/* not in sync: one reason, static */
	const struct recv	*recv;
	uint64_t		 hellos, signals, accepted;
	uint64_t		 ended;			/* its entries that ended here, ever */
};

void		 node_peer(struct node *n, unsigned peer, uint64_t now_us,
		    struct node_peer_info *info);
unsigned	 node_peers(const struct node *n);
/* Does the link bring us packets of some peer, and it ours? */
bool		 node_link_healthy(struct node *n, unsigned link, uint64_t now_us);
uint64_t	 node_rejected(const struct node *n, enum node_reject why);
uint64_t	 node_link_rejected(const struct node *n, unsigned link);
/* "bad_tag", ...: names for counters, static. */
const char	*node_reject_name(enum node_reject why);
uint32_t	 node_remote_flows(const struct node *n);	/* expectations among them */
uint32_t	 node_remote_expects(const struct node *n);
/* Is entry h of that peer's table known to have ended here? */
bool		 node_ended(const struct node *n, unsigned peer, uint32_t h);
/* Flows that are tracked liberally since a takeover, as of the last look. */
uint32_t	 node_liberal(const struct node *n);
uint64_t	 node_purged(const struct node *n);
/* Is what this node has taken over not complete yet? */
bool		 node_taking(const struct node *n);
/* Flows of the peers that the kernel refused; they are tried again while the node is active. */
uint64_t	 node_refused(const struct node *n);

#endif
