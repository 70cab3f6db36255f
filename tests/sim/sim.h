/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The world of sim_node: whole nodes, each with a virtual kernel, on a virtual
 * network, under a virtual clock.
 *
 * sim_kernel.c is the kernels (flows, timeouts, events, dumps, jobs), sim_net.c
 * the network, sim_check.c what has to be true, sim_node.c the life of a run.
 * A slot is the tuple of a flow: the first SHARED ones are traffic that any
 * node may forward, the others belong to one node each.  Flows of each eighth
 * slot have a helper, which may expect a flow; what comes in the slot behind it
 * is related to it.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "ctsync/flow.h"
#include "ctsync/node.h"

#define NODES		5
#define LINKS		2
#define SHARED		16		/* slots of traffic that follows the role */
#define OWN		5		/* slots of a node's own */
#define SLOTS		(SHARED + OWN * NODES)
#define PACKETS		2048
#define SOCKET		256		/* datagrams that wait for a node that does nothing */
#define EVENTS		1024
#define HISTORY		8
#define LIVES		4096		/* of flows in a run, more or less */
#define JOBS		8
#define DATAGRAM	800
#define BODY_MAX	160
#define PURGE_US	5000000u
#define LEASE_US	119000000u	/* a little less than what is promised */

/*
 * What a kernel holds of a flow that others can see.  The upper 24 bits of the
 * mark number a life: a new one at each birth, and when the filter lets the
 * flow pass again.  The lower 8 count its changes.
 */
struct kstate {
	bool		 there, replied, assured, related;
	uint8_t		 tcp_state;
	uint16_t	 port;		/* of the translated source */
	uint32_t	 mark;
};

struct kflow {
	struct kstate	 s;
	uint32_t	 id;
	uint64_t	 life_us;	/* when the life at hand began */
	uint64_t	 ended_us;	/* when it last ceased to be there */
	uint64_t	 packet_us;	/* last packet */
	uint64_t	 written_us;	/* when a takeover last wrote it */
	uint64_t	 asked_us;	/* when a purge last asked for it */
	uint64_t	 expires_us;
	bool		 expects;	/* its helper expects another flow */
	uint32_t	 expect_id;
	struct {
		struct kstate	 s;
		uint64_t	 until_us;
	} old[HISTORY];			/* ring of former states */
	unsigned	 nold;
	uint8_t		 body[BODY_MAX];	/* packed; all of it valid, there or not */
	size_t		 len, klen;
};

struct kevent {
	enum local_event ev;
	unsigned	 slot;
	bool		 expect;	/* about the expectation of that slot, not the flow */
	struct kstate	 s;
	bool		 same_tcp;	/* as before */
	uint32_t	 id;
	uint32_t	 timeout_s;
	uint64_t	 at_us;		/* when the reader gets to it */
};

struct packet {
	unsigned	 to, from, link;
	uint64_t	 at_us, seq;
	size_t		 len;
	uint8_t		 data[DATAGRAM];
};

/* What a node v once held, proven, of another one's kernel. */
struct held {
	uint32_t	 life;
	uint64_t	 life_us;	/* 0: nothing */
	uint64_t	 lease_us;	/* has to be held until then, 0: nothing */
};

struct vnode {
	struct world	*w;
	unsigned	 i;
	struct node	*node;		/* NULL: the daemon is down */
	struct seal_ring *ring;
	enum node_role	 role;		/* as remembered over a restart */
	bool		 taking;
	uint32_t	 term;
	bool		 forwards;	/* packets come here */
	bool		 dead;		/* for good */
	uint64_t	 up_us;		/* down: when it is started again */
	uint64_t	 stopped_us;	/* does nothing until then */
	uint64_t	 release_us;	/* when it will be released, 0: not */
	uint64_t	 due_us;
	uint64_t	 booted_us;
	struct wire_boot boot;
	int64_t		 wall_s;	/* how wrong its clock goes */
	uint32_t	 max_flows, max_tombs;

	struct kflow	 kernel[SLOTS];
	struct kevent	 ev[EVENTS];	/* ring: events on their way */
	unsigned	 ev_head, ev_tail, ev_room;
	bool		 lost;		/* events were dropped */
	uint64_t	 empty_us;	/* when its events were last read up */
	uint64_t	 audit_us;
	int		 dump;		/* next slot, -1: none */
	struct kjob	*jobs[JOBS];
	unsigned	 njobs;
	unsigned	 taken, verified;
	bool		 expects;	/* a takeover is under way, these have to come: */
	uint32_t	 expected[NODES][SLOTS];	/* lives, as held of each node */
	uint64_t	 since_us;	/* what ended since then need not */
	unsigned	 sock[SOCKET];	/* packets that came while it was stopped */
	unsigned	 nsock;
	bool		 cut[LINKS][NODES];	/* what this node sends to that one is lost */

	/* sim_check.c */
	const struct recv *recv[NODES];
	uint32_t	 hash[SLOTS];	/* of the keys in its remote tables */
	struct held	 held[NODES][SLOTS];
	uint64_t	 seen[NODES];	/* frames of its receivers that were checked */
	uint32_t	 stream[NODES];	/* of its receivers, and their states, for the log */
	bool		 behind[NODES];	/* a reboot of that node may have left leased copies */
};

struct world {
	uint64_t	 rng, now_us;
	unsigned	 n, links;
	struct vnode	 v[NODES];
	struct packet	 pool[PACKETS];
	unsigned	 heap[PACKETS], nheap;
	unsigned	 spare[PACKETS], nspare;
	uint64_t	 sent;
	unsigned	 loss, dup;
	uint64_t	 delay_us;
	uint32_t	 ids, lives;
	uint64_t	 born_us[LIVES];	/* by number of the life */
	bool		 over[LIVES];	/* it has ended somewhere, not only with its kernel */
	bool		 small;		/* there is less room than flows */
	bool		 mishaps;	/* jobs and dumps may fail */
	uint64_t	 ring_bytes;	/* of one stream, at most */
	bool		 verbose;
	const char	*bad;
};

/* sim_node.c */
uint64_t sim_rnd(struct world *w);
unsigned sim_below(struct world *w, unsigned n);
bool	 sim_chance(struct world *w, unsigned per_mille);
/* With SIM_LOG: what happens, at which time. */
void	 sim_say(const struct world *w, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
void	 sim_bad(struct world *w, const char *what);
/* Number of node "of" among the peers of v, and back. */
unsigned sim_peer(const struct vnode *v, unsigned of);
unsigned sim_node(const struct vnode *v, unsigned peer);

/* sim_kernel.c */
/* Does the filter let it through? */
bool	 vk_passes(const struct kstate *s);
bool	 vk_filter(void *ctx, const struct flow *f);
unsigned vk_slot(const struct flow *f);
/* The expectation of the flow in that slot. */
void	 vk_expectation(unsigned slot, uint32_t id, struct flow *f);
void	 vk_init(struct vnode *v);
/* A packet of that slot passes the node: whatever it does to the flow. */
void	 vk_packet(struct vnode *v, unsigned slot);
/* The flow ends now. */
void	 vk_end(struct vnode *v, unsigned slot);
/* A boot: nothing is left, nobody is told. */
void	 vk_clear(struct vnode *v);
void	 vk_expire(struct vnode *v);
/* What the daemon reads and is answered.  True if something came. */
bool	 vk_deliver(struct vnode *v);
/* The daemon ends: its sockets are closed. */
void	 vk_close(struct vnode *v);
int	 vk_submit(void *ctx, struct kjob *j);
void	 vk_dump(void *ctx);
uint32_t vk_age(void *ctx);

/* sim_net.c */
void	 net_init(struct world *w);
int	 net_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len);
int	 net_usable(void *ctx, unsigned link, unsigned peer);
void	 net_deliver(struct world *w);
/* What waits for a node comes now, or is lost. */
void	 net_wake(struct vnode *v, bool lost);

/* sim_check.c */
/* A new life of v's daemon: nothing is held. */
void	 check_start(struct vnode *v);
/* v's machine has just rebooted, its kernel is still as before. */
void	 check_reboot(struct vnode *v);
/* All that has to be true at any time. */
void	 check_always(struct world *w);
/* Everybody who is alive equal and ready? */
bool	 check_rest(struct world *w);
/* For the log: who is not. */
void	 check_complain(struct world *w);
/* Does v hold a copy of that slot from node o? */
bool	 check_holds(const struct vnode *v, unsigned o, unsigned slot);
/* The life of the flow that v's copy of node o holds, 0: none. */
uint32_t check_life(const struct vnode *v, unsigned o, unsigned slot);
/* For the log: what v holds of it. */
void	 check_say(const struct vnode *v, unsigned o, unsigned slot);

#endif
