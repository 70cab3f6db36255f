/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The world of sim_node: clients whose flows pass whole nodes, each with a
 * virtual kernel, on a virtual network, under a virtual clock.
 *
 * sim_client.c is the clients, sim_kernel.c and sim_kjob.c are the kernels
 * (flows, timeouts, events; dumps and jobs), sim_net.c is the network.
 * sim_chaos.c is what happens to all of them: the election, scripts, operators,
 * accidents.  sim_check.c judges replication, sim_promise.c what the clients
 * were promised.  sim_node.c is the life of a run.
 *
 * A slot is the tuple of a flow.  The first SHARED slots belong to one client
 * each, whose packets any node may forward; the others are traffic of one node
 * itself.  Flows of each eighth slot have a helper, which may expect a flow; the
 * flow in the next slot is related to it.
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
#define SCRIPTS		16		/* that are under way, of a node */
#define MS		1000u
#define S_US		1000000ull
#define PURGE_US	2000000u
#define SHORT_S		8u		/* timeout of an established flow: of some slots, */
#define LONG_S		3000u		/* and of the others */
#define SILENCE_US	3000000u	/* a client sends at least that often */
#define WINDOW_PACKETS	3u		/* after so many a kernel knows the windows */
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
	uint32_t	 packets;	/* that passed here */
	bool		 second;	/* written from a copy that nobody used: it has less time */
	bool		 hidden;	/* a life that the filter leaves out was written over */
	bool		 liberal;	/* of TCP: windows do not matter */
	bool		 maxack;	/* MAXACK_SET in both directions */
	unsigned	 fresh;		/* packets in a row that no other node carried in between */
	uint64_t	 seen;		/* how many had passed anywhere at the last one here */
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
	bool		 commanded;	/* a program asked for it */
	uint32_t	 packets;
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

/* An endpoint that uses a tuple, as it knows itself. */
struct client {
	bool		 alive;		/* it wants its flow */
	bool		 established;
	bool		 excused;	/* somebody ended the flow on purpose, or lost it by right */
	bool		 busy;		/* sends often */
	int		 path;		/* the node that forwards it, -1: not chosen */
	uint32_t	 life;
	uint16_t	 port;		/* what its source is translated to */
	uint64_t	 born_us, last_us;	/* last packet that got through */
	uint64_t	 next_us;
	uint64_t	 failing_us;	/* since when none gets through, 0: they do */
	uint64_t	 passes;	/* packets that got through, anywhere */
	uint64_t	 at_us[NODES];	/* last one there */
	uint32_t	 stray;		/* life that its packets began last, 0: none */
	uint64_t	 stray_us;
	/* The last one that passed elsewhere and of which that node could not hear. */
	uint64_t	 blind_us[NODES];
};

struct vnode {
	struct world	*w;
	unsigned	 i;
	struct node	*node;		/* NULL: the daemon is down */
	struct seal_ring *ring;

	/* what its disk keeps while the daemon is down */
	enum node_role	 role;
	bool		 taking;
	uint32_t	 term;
	bool		 wished;	/* somebody has asked for a role: */
	enum node_role	 wish;
	uint64_t	 wrong_us;	/* since when it has another one, 0: it has that */
	bool		 typed;		/* an operator has asked for another one since */

	bool		 up;		/* the machine runs */
	bool		 has;		/* it has the address */
	bool		 flapped;	/* and had lost it, since it was last told of its role */
	bool		 dead;		/* for good */
	uint64_t	 up_us;		/* down: when it is started again, 0: not by itself */
	uint64_t	 stopped_us;	/* does nothing until then */
	uint64_t	 woke_us;	/* when it last went on after that */
	uint64_t	 script_us[SCRIPTS];	/* when a script gets to the daemon, 0: none */
	uint64_t	 due_us;
	uint64_t	 booted_us;	/* its last boot, 0: it never rebooted */
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
	unsigned	 sock[SOCKET];	/* packets that came while it was stopped */
	unsigned	 nsock;
	bool		 cut[LINKS][NODES];	/* what this node sends to that one is lost */
	struct {
		uint32_t	 life;
		uint64_t	 until_us;
	} refused[SLOTS];		/* another flow is in the way of that one */
	uint64_t	 flush_us;	/* when an operator last flushed this kernel */
	uint32_t	 lapsed[SLOTS];		/* lives that lapsed here by right, though they go on elsewhere */

	/* sim_promise.c */
	enum node_role	 last_role;
	uint64_t	 start_us;	/* of the daemon */
	uint64_t	 role_us;	/* since when it has that role */
	uint64_t	 take_us;	/* when it was last told to take over */
	uint64_t	 reach_us[NODES];	/* since when they can talk, 0: they cannot */
	uint64_t	 lacks_us[SLOTS];	/* since when a client has been without its due, 0: not */
	uint64_t	 hides_us[SLOTS];	/* the same while the node says that it is ready */
	uint64_t	 quiet_us;	/* since when it does not say that two are active */

	/* sim_check.c */
	const struct recv *recv[NODES];
	uint32_t	 hash[SLOTS];	/* of the keys in its remote tables */
	struct held	 held[NODES][SLOTS];
	uint64_t	 flushed_us;	/* when its operator flushed the local table */
	uint64_t	 seen[NODES];	/* frames of its receivers that were checked */
	uint64_t	 seen_us[NODES];
	uint32_t	 stream[NODES];	/* of its receivers, and their states, for the log */
	bool		 behind[NODES];	/* a reboot of that node may have left leased copies */
};

struct world {
	uint64_t	 rng, now_us;
	unsigned	 n, links;
	struct vnode	 v[NODES];
	struct client	 client[SHARED];
	struct packet	 pool[PACKETS];
	unsigned	 heap[PACKETS], nheap;
	unsigned	 spare[PACKETS], nspare;
	uint64_t	 sent;
	unsigned	 loss, dup;
	uint64_t	 delay_us;
	uint32_t	 ids, lives;
	uint64_t	 born_us[LIVES];	/* by number of the life */
	uint64_t	 dead_us[LIVES];	/* when its client let go of it, 0: not */
	bool		 is_stray[LIVES], is_flushed[LIVES];
	uint64_t	 settled_us;	/* since when nothing has disturbed anybody */
	uint64_t	 elected_us;	/* when the address last moved */
	uint64_t	 own_us;	/* next packet of a node's own traffic */
	uint64_t	 promise_us, expire_us;
	bool		 births, closes;	/* clients begin and end flows */
	bool		 own;		/* nodes have traffic of their own */
	bool		 strays;	/* a datagram of a flow that a kernel does not know makes a new one there */
	bool		 follow;	/* roles follow addresses, there are no scripts */
	bool		 acct;		/* kernels count packets */
	bool		 refuses;	/* kernels refuse some flows */
	bool		 clocks;	/* they jump */
	bool		 small;		/* there is less room than flows */
	bool			 calm;		/* nothing at once, and nothing that is rare */
	bool			 clients;	/* a broken promise to clients fails the seed */
	bool			 broken;	/* one was */
	bool		 mishaps;	/* jobs and dumps may fail */
	uint64_t	 ring_bytes;	/* of one stream, at most */
	bool		 verbose;
	const char	*only;		/* failures that count, NULL: all */
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
void	 sim_fill(struct world *w, void *p, size_t n);
/* The daemon of v, on a machine that is up. */
void	 sim_start(struct vnode *v);
void	 sim_stop(struct vnode *v);
/* Does the daemon of v run, and do something? */
bool	 sim_runs(const struct vnode *v);
/* Time passes: at least a step, at most until something happens or until_us. */
void	 sim_step(struct world *w, uint64_t until_us);
void	 sim_rest(struct world *w, uint64_t us);

/* sim_kernel.c */
bool	 vk_is_tcp(unsigned slot);
bool	 vk_has_helper(const struct world *w, unsigned slot);
/* Timeout of an established flow. */
uint64_t vk_timeout_us(unsigned slot);
/* Does the filter let it through? */
bool	 vk_passes(const struct kstate *s);
bool	 vk_filter(void *ctx, const struct flow *f);
unsigned vk_slot(const struct flow *f);
uint32_t vk_life(const struct kflow *k);
/* The expectation of the flow in that slot. */
void	 vk_expectation(unsigned slot, uint32_t id, struct flow *f);
/* All that a dump shows of a flow. */
void	 vk_flow(const struct vnode *v, unsigned slot, struct flow *f);
void	 vk_become(struct vnode *v, unsigned slot, const struct kstate *s);
/* Its helper expects another flow, or does so no more; with an event if told. */
void	 vk_expects(struct vnode *v, unsigned slot, bool yes, bool told);
void	 vk_init(struct vnode *v);
/* A packet of a node's own traffic: whatever it does to the flow. */
void	 vk_packet(struct vnode *v, unsigned slot);

enum vk_fate {
	VK_PASSED,
	VK_INVALID,		/* there is no such flow */
	VK_STALE		/* out of the windows, as the kernel knows them */
};
/* A packet of a client's flow.  The first one makes it. */
enum vk_fate vk_pass(struct vnode *v, unsigned slot);
void	 vk_born(struct vnode *v, unsigned slot);
/* Would a packet pass? */
enum vk_fate vk_fate(const struct vnode *v, unsigned slot);
/*
 * The endpoints of a TCP flow close it: it ends in a while, or, if it gives way
 * to another one of that tuple, now.
 */
void	 vk_close(struct vnode *v, unsigned slot, bool reset);
void	 vk_give_way(struct vnode *v, unsigned slot);
/* The flow ends now; commanded: by an operator. */
void	 vk_end(struct vnode *v, unsigned slot, bool commanded);
/* A boot: nothing is left, nobody is told. */
void	 vk_clear(struct vnode *v);
void	 vk_expire(struct vnode *v);
/* All events up to now, also those that are on their way. */
bool	 vk_deliver_events(struct vnode *v, bool all);
uint32_t vk_age(void *ctx);

/* sim_kjob.c: what the daemon reads and is answered.  True if something came. */
bool	 vk_deliver(struct vnode *v);
/* The daemon ends: its sockets are closed. */
void	 vk_shut(struct vnode *v);
int	 vk_submit(void *ctx, struct kjob *j);
void	 vk_dump(void *ctx);

/* sim_client.c */
void	 client_init(struct world *w);
void	 client_run(struct world *w);
uint64_t client_due(const struct world *w);
/* The election has changed: paths are chosen anew. */
void	 client_reroute(struct world *w);
/* All of them send soon. */
void	 client_poke(struct world *w);
/* The client of that slot has no claim on its flow any more. */
void	 client_excuse(struct world *w, unsigned slot, const char *why);
/* Whom x could hear of so far it cannot hear any more: what passed just now it does not know. */
void	 client_blind(struct world *w, unsigned from, unsigned x);
/* The client that lives with that life, or NULL. */
const struct client *client_of(const struct world *w, unsigned slot, uint32_t life);

/* sim_chaos.c */
void	 chaos_disturbed(struct world *w);
/* Let exactly these nodes (bits) have the address; quiet: no script tells of it. */
void	 chaos_address(struct world *w, unsigned who, bool quiet);
void	 chaos_ask(struct vnode *v, enum node_role role);
/* Scripts and roles that follow addresses. */
void	 chaos_roles(struct world *w);
uint64_t chaos_due(const struct world *w);
/* An episode of many small accidents at once, or one disturbance. */
void	 chaos_storm(struct world *w, uint64_t us);
void	 chaos_disturb(struct world *w);
void	 chaos_reboot(struct vnode *v, uint64_t back_us);
/* Everything is whole and up again. */
void	 chaos_mend(struct world *w);

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
/* v was told to drop its copies of node o. */
void	 check_dropped(struct vnode *v, unsigned o);
/* v was told to drop its local table: the others will hear that, and then of its flows again. */
void	 check_flushed(struct vnode *v);
/* All that has to be true at any time. */
void	 check_always(struct world *w);
/* Everybody who is alive equal and ready? */
bool	 check_rest(struct world *w);
/* For the log: who is not. */
void	 check_complain(struct world *w);
/* The life of the flow that v's copy of node o holds, 0: none. */
uint32_t check_life(const struct vnode *v, unsigned o, unsigned slot);
/* Is that said to be a copy which no packet has used? */
bool	 check_unused(const struct vnode *v, unsigned o, unsigned slot);
/* Does a node tell, of itself or of another, the tuple without knowing when it was born? */
bool	 check_found(const struct world *w, unsigned slot);
/* Is that life taken for one that has ended, by a node that cannot know better? */
bool	 check_ended(const struct world *w, unsigned slot, uint32_t life);
/* For the log: what v's copy of node o says of it. */
void	 check_say_copy(const struct vnode *v, unsigned o, unsigned slot);

/* sim_promise.c */
void	 promise_run(struct world *w);
void	 promise_start(struct vnode *v);
/*
 * Does an active node but v have that life?  If used is set it has to carry
 * packets there.
 */
bool	 promise_lives_on(const struct vnode *v, unsigned slot, uint32_t life, bool used);
/* The daemon of v is told to take over. */
void	 promise_take(struct vnode *v);
/* The daemon takes the flow out of its kernel, which still has it. */
void	 promise_removed(struct vnode *v, unsigned slot);
/* It writes that life over the entry that its kernel has. */
void	 promise_replaced(struct vnode *v, unsigned slot, uint32_t life);
/* The entry is about to time out. */
void	 promise_lapse(struct vnode *v, unsigned slot);
/* After a while of rest: nothing is left of what has ended. */
void	 promise_leftovers(struct world *w);
/* Does v hold a copy of that life, of any node but one?  NODES: of any. */
bool	 promise_copy(const struct vnode *v, unsigned slot, uint32_t life, unsigned but);
/* Does anybody but v have a flow with that tuple: a kernel, or a copy? */
bool	 promise_told(const struct vnode *v, unsigned slot);
/* Does anybody but v hold that life: a kernel, or a copy that is not v's own? */
bool	 promise_held_elsewhere(const struct vnode *v, unsigned slot, uint32_t life);
/* Can the daemons of both talk to each other now? */
bool	 promise_reach(const struct vnode *a, const struct vnode *b);

#endif
