/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What node.c (life, time, readiness), sess.c (datagrams, hellos, signals),
 * takeover.c (commit, windows), owner.c (role, terms, what has ended elsewhere),
 * purge.c (what a standby removes by age, flush) and verify.c share.
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
#define JOBS_MAX	6u		/* of each kind under way */
#define TAG_YIELD	1u		/* of KOWNER_PURGE: KOP_DELETE of owner.c */

struct bucket {
	uint64_t	 at_us;
	uint32_t	 tokens;
};

/* Hellos of an unknown epoch that we answered: an old one is answered once. */
struct greeted {
	uint64_t	 epoch, counter, at_us;
};

/* What a peer has adopted, as it says. */
struct claim {
	struct wire_adopted	 said;
	uint64_t		 at_us;		/* when it first said so */
	bool			 proved;	/* its table was equal here after that */
	bool			 walked;	/* what it implies has been done */
};

/* All that a peer had told up to pos in an epoch. */
struct extent {
	bool			 held;
	uint64_t		 epoch;
	struct wire_pos		 pos;
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
	bool			 taking;	/* its takeover is not done */
	bool			 probed;	/* it has told role and term */
	uint32_t		 term;		/* as last told */
	uint64_t		 settled_us;	/* since when it says all that */
	struct claim		 claims[NODE_PEERS_MAX];
	unsigned		 nclaims;
	bool			 missed;	/* ends that it told could not be believed */
	uint64_t		 renewals;	/* generations and repairs of its table that were seen */
	struct extent		 taking_up;	/* what the takeover at hand takes of it */
	struct extent		 adopted;	/* what we have adopted of it */
	unsigned		 claim_turn;	/* next of our claims to tell it */
	bool			 unmarking;	/* marks of its table are void, and being removed */
	uint32_t		 unmark_h;
	uint64_t		 marked;	/* entries of its table, ever */
	uint64_t		 stamp;		/* of its last report, 0: none */
	bool			 stamp_new;	/* not echoed yet */
	struct wire_report	 report;
	uint64_t		 report_us;
	bool			 equal_at_loss;
	uint32_t		 restart;	/* stream to say RESTART about, 0: none */
	uint64_t		 hellos, signals, accepted;
	struct log_limit	 log;
};

/* A remote entry (ftab_meta); touched_s: last takeover that took it. */
#define RF_TAKEN	0x01u	/* the kernel has it since a takeover */
#define RF_ENDED	0x02u	/* it has ended on the node that took over from its origin */
#define RF_OURS		0x04u	/* taken over when we became active: our own table knows better */
#define RF_LEFT_OUT	0x08u	/* taken, but our own table keeps it out */

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
	uint32_t		 term;
	bool			 leaving;
	bool			 doubt;		/* events were lost, the re-read is not done */
	bool			 blind;		/* there are no events */
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
	uint64_t		 overrun_us;	/* when events were last found to be lost */
	unsigned		 deletes;	/* jobs under way that take flows out of the kernel */
	uint64_t		 delete_us;	/* when the first of them was handed over */
	unsigned		 look;		/* next look for windows that were relearned */
	uint64_t		 look_us;	/* when, 0: none */
	uint32_t		 liberal, liberal_now;
	struct kjob		*strict;	/* to be tightened */
	uint32_t		 take_seq;	/* number of the last takeover */
	bool			 resume;	/* a takeover was interrupted: to be made when peers are equal */
	bool			 queued;	/* a takeover waits for a further look to end */
	enum node_take		 queued_what;
	unsigned		 follows;	/* further looks at a peer that was alive at the takeover */
	uint64_t		 follow_us;	/* the next one, 0: none */

	/* purge.c */
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

	/* owner.c */
	uint64_t		 standby_us;	/* since when, and what version the table had then */
	uint64_t		 standby_version;
	struct {
		struct peer	*by;		/* whose claim is worked on, NULL: none is */
		struct claim	*claim;
		struct peer	*owner;		/* NULL: we are */
		uint32_t	 h;
	} walk;
	struct {
		unsigned	 peer;		/* NODE_PEERS_MAX: nothing to be done */
		uint32_t	 h;
	} disown;			/* a walk over what we took over when we were active */
	struct kjob		*yield;		/* to be deleted, not yet given to the kernel */
	uint32_t		 yield_jobs;
	uint64_t		 two_us;	/* since when two nodes are active, 0: they are not */
	bool			 two_told;

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
/* Hand over a job that deletes: what the table holds is not known to be so until it is done. */
int	node_submit_delete(struct node *n, struct kjob *j);
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
void	take_free(struct node *n);
uint64_t take_due(const struct node *n);
/* The node becomes standby: what is being taken ends. */
void	take_give_up(struct node *n);

/* owner.c */
void	owner_role(struct node *n, enum node_role role);
/* A KOP_DELETE job of what was yielded is done. */
void	owner_yielded(struct node *n);
/* Is what this node has taken over not complete yet? */
bool	owner_taking(const struct node *n);
/* A peer has told role and term; what it has adopted. */
void	owner_probe(struct node *n, struct peer *p, const struct wire_probe *probe);
void	owner_claim(struct node *n, struct peer *p, const struct wire_adopted *said);
/* Add our own claims to a signal for p, and go on to the next ones. */
void	owner_put_claims(const struct node *n, const struct peer *p, struct wbuf *w);
void	owner_next_claims(const struct node *n, struct peer *p);
/* The peer lives in a new epoch. */
void	owner_new_epoch(struct node *n, struct peer *p, bool rebooted);
void	owner_forget(struct node *n, struct peer *p);
/* For recv: ctx, a peer, says that a flow has ended. */
void	owner_gone(void *ctx, const uint8_t *key, size_t klen);
/* A takeover begins; nothing is taken from p; it ended, and all that was taken is ours. */
void	owner_take_begin(struct node *n);
void	owner_take_not(struct peer *p);
void	owner_take_end(struct node *n);
/* Does another peer that is taken from hold the key and decide about it?  takes: from whom. */
bool	owner_outranked(const struct node *n, const struct peer *p, const uint8_t *key, size_t klen,
	    bool (*takes)(const struct node *, const struct peer *));
/* Of an entry of p's table: has it ended elsewhere; have we taken it over, so that our own table decides? */
bool	owner_ended(const struct peer *p, const struct ftab_meta *m);
bool	owner_has(const struct peer *p, const struct ftab_meta *m);
/* Work that is due, a bounded piece.  True if there is more to do at once. */
bool	owner_run(struct node *n);
void	owner_free(struct node *n);

/* purge.c */
bool	purge_run(struct node *n);
void	purge_job_done(struct node *n, struct kjob *j);
void	purge_begin(struct node *n);
/* Passes are to be made from takeover.purge_s on. */
void	purge_plan(struct node *n);
/* When purge_run() has something to do, UINT64_MAX: nothing by itself. */
uint64_t purge_due(const struct node *n);

#endif
