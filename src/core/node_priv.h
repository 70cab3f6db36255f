/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What node.c (life, time, readiness), sess.c (datagrams, hellos, signals),
 * takeover.c (commit, role, purge) and verify.c share.
 */
#ifndef NODE_PRIV_H
#define NODE_PRIV_H

#include "ctsync/log.h"
#include "ctsync/node.h"

#define RETIRED_MAX	16
#define REPLAYED_MAX	16
#define ID_NONE		UINT32_MAX

#define HELLO_FAST_US	200000		/* at first, and while somebody wants in */
#define HELLO_SLOW_US	1000000
#define SIGNAL_US	100000
#define LINK_DEAD_US	350000
#define PEER_LOST_US	1000000

struct bucket {
	uint64_t	 at_us;
	uint32_t	 tokens;
};

/* Hellos of an unknown epoch that we answered: an old one is answered once. */
struct greeted {
	uint64_t	 epoch, counter, at_us;
};

struct peer_link {
	uint64_t	 rx_us;		/* last authentic packet over this link, 0: never */
	bool		 heard;		/* the peer said that this link brings it ours */
};

struct peer {
	struct node		*node;
	char			 name[WIRE_NODE_MAX + 1];
	uint64_t		 id;
	unsigned		 index;

	uint64_t		 epoch;		/* accepted one, 0: none */
	struct seal_rx		*rx;
	uint64_t		 retired[RETIRED_MAX];
	unsigned		 nretired;
	struct greeted		 greeted[REPLAYED_MAX];
	struct bucket		 open, answer;
	bool			 confirmed;	/* it has accepted our epoch */
	bool			 lost;		/* it was there and is not now */
	bool			 leaving;	/* it said so */
	bool			 forgotten;	/* lost for so long that nothing is kept for it */
	bool			 refused;	/* what came in its name since it was last heard was refused */
	enum node_reject	 refused_why;
	uint64_t		 rx_us;		/* last authentic packet, 0: never */
	uint64_t		 hello_us, signal_us, wishes_us;	/* last ones sent */
	struct peer_link	 links[NODE_LINKS_MAX];
	struct wire_boot	 boot;

	struct recv		*recv;
	bool			 active;	/* its role */
	uint64_t		 stamp;		/* of its last report, 0: none */
	bool			 stamp_new;	/* not echoed yet */
	struct wire_report	 report;
	uint64_t		 report_us;
	bool			 equal_at_loss;
	uint32_t		 restart;	/* stream to say RESTART about, 0: none */
	uint64_t		 hellos, signals, accepted;
	struct log_limit	 log;
};

struct take;

struct node {
	struct node_conf	 conf;
	char			 name[WIRE_NODE_MAX + 1];
	const struct node_ops	*ops;
	void			*ctx;
	uint64_t		 id;
	uint32_t		 cluster_tag;
	uint64_t		 now_us;	/* of the call at hand */
	uint64_t		 born_us;

	struct seal_ring	*ring;
	struct seal_tx		*tx;
	struct feed		*feed;
	struct local		*local;
	unsigned		 npeers;
	struct peer		 peers[NODE_PEERS_MAX];
	enum node_role		 role;
	bool			 leaving;
	bool			 doubt;		/* events were lost, the re-read is not done */
	uint64_t		 lacking_us;	/* see local_lacking_us(), as of the last run */
	uint64_t		 late_us;	/* see node_late(); 0: nothing is late */
	struct wire_pos		 late;

	uint64_t		 rejected[REJ_REASONS];
	uint64_t		 link_rejected[NODE_LINKS_MAX];
	struct log_limit	 reject_log;

	/* takeover.c */
	struct node_taken	 taken;
	struct take		*take;
	uint64_t		 take_us;	/* when it began */
	unsigned		 look;		/* next look for windows that were relearned */
	uint64_t		 look_us;	/* when, 0: none */
	uint32_t		 liberal, liberal_now;
	struct kjob		*strict;	/* to be tightened */
	uint32_t		 take_seq;	/* number of the last takeover */
	uint64_t		 purge_us;	/* next purge, 0: none */
	uint64_t		 purge_version;	/* of what the table held when we became standby */
	unsigned		 purge_passes;	/* still to be made */
	uint32_t		 purge_found;	/* candidates of this pass */
	uint32_t		 purge_h;
	bool			 purging;	/* a pass is under way */
	uint32_t		 purge_jobs;
	uint64_t		 purged;
	bool			 flushing;
	uint32_t		 flush_h;

	bool			 resume;	/* a takeover was interrupted: to be made when peers are equal */
	bool			 queued;	/* a takeover waits for a further look to end */
	enum node_take		 queued_what;
	unsigned		 follows;	/* further looks at a peer that was alive at the takeover */
	uint64_t		 follow_us;	/* the next one, 0: none */

	struct node_verified	 verified;

	uint8_t			 out[NODE_DATAGRAM_MAX];	/* a datagram under construction */
	uint8_t			 in[65536];	/* one that was opened */
};

/* sess.c */
void	sess_frame(struct node *n, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len);
void	sess_run(struct node *n, struct peer *p);
uint64_t sess_due(const struct node *n, const struct peer *p);
bool	sess_up(const struct node *n, const struct peer *p);
int	sess_link(const struct node *n, const struct peer *p);
/* Where no packets come from while we hear nothing: signals on all links, now. */
void	sess_signal(struct node *n, struct peer *p, bool all);

/* node.c */
void	node_late(struct node *n, uint64_t since_us);

/* verify.c */
void	verify_run(struct node *n);
/* What a repair has put right: recv_conf.wrong, of a struct peer. */
void	verify_wrong(void *ctx, enum verify_kind kind, const uint8_t *here, size_t here_len,
	    const uint8_t *there, size_t there_len);
void	verify_free(struct node *n);

/* takeover.c */
bool	take_run(struct node *n);
void	take_job_done(struct node *n, struct kjob *j);
void	take_strict_entry(struct node *n, const struct flow *f);
void	take_dump_end(struct node *n);
bool	purge_run(struct node *n);
void	purge_job_done(struct node *n, struct kjob *j);
void	take_free(struct node *n);
void	purge_begin(struct node *n);
uint64_t take_due(const struct node *n);

#endif
