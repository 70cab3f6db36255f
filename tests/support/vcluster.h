/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A virtual cluster: whole nodes, each with a virtual kernel, joined by virtual
 * links, under one virtual clock.  A test writes the script: what packets do,
 * what is lost, what a kernel refuses, and when it works at all.  Nothing is
 * random, and nothing happens but in vc_step().
 *
 * A kernel (vkernel.c) is a list of entries with timeouts and counters that does
 * what Linux does: events are deltas, counters come with the end of an entry, in
 * dumps and in answers, and what the daemon writes itself tells no event.
 */
#ifndef VCLUSTER_H
#define VCLUSTER_H

#include <check.h>
#include <netinet/in.h>

#include "ctsync/node.h"
#include "mkflow.h"

#define VC_NODES	4
#define VC_LINKS	2
#define VC_JOBS		8
#define VC_DATAGRAM	1400
#define VC_PURGE_S	4u		/* as configured, unless a test wants another */
#define VC_BOOT_WAIT_US	2000000u
#define VC_LIMIT_MS	20000u		/* what does not come by then does not come */
#define VC_WALL_S	1700000000u	/* wall clocks at the beginning */

struct vk_entry {
	bool		 there;
	struct flow	 f;		/* with id and counter, but its timeout */
	uint64_t	 expires_us;
	unsigned	 written;	/* number of the daemon's last write, from 1 on; 0: none */
	uint32_t	 written_s;	/* timeout of that write */
	bool		 told;		/* the daemon knows of that write */
	size_t		 klen;
	uint8_t		 key[FLOW_KEY_MAX];
	uint32_t	 next;		/* in its chain of the index */
};

struct vk_event {
	enum local_event ev;
	struct flow	 f;
};

struct vnode {
	unsigned	 i;
	struct node	*node;		/* NULL: the daemon does not run */
	struct seal_ring *ring;
	bool		 off;		/* no power: what is sent to it is lost */
	bool		 cut[VC_NODES];	/* what it sends to that one is lost */
	uint8_t		 boot;		/* boot id of its kernel */
	uint8_t		 key;		/* which secret it has */
	int64_t		 wall_off_s;	/* how wrong its wall clock goes */

	/* The runtime directory: what the daemon starts with. */
	enum node_role	 role;
	uint32_t	 term;
	bool		 taking, asked;

	/* What it has been told. */
	unsigned	 taken, verified;

	/* Its kernel. */
	struct vk_entry	*kernel;
	uint32_t	 n, *index;
	bool		 counts;	/* nf_conntrack_acct */
	struct vk_event	*ev;
	unsigned	 nev, ev_cap;
	bool		 hold;		/* events are not read */
	bool		 dump;
	struct kjob	*jobs[VC_JOBS];
	unsigned	 njobs, room;	/* jobs that wait, and that may */
	bool		 done;		/* the oldest one is worked off */
	bool		 stop_work;	/* the kernel works off no jobs */
	bool		 stop_tell;	/* it does, but nobody hears of it */
	unsigned	 ops[KOP_LIBERAL + 1];	/* items worked off, by what was asked */
	unsigned	 writes;
	uint16_t	 keeps_out;	/* a port that the filter leaves out, 0: none */
	uint16_t	 refuses[2];	/* ports that it refuses to create, from and to */
	bool		 no_labels;	/* its ruleset knows no labels */
	bool		 address_lost;	/* it has just lost all addresses */
};

struct vcluster {
	unsigned	 n, nlinks;
	uint64_t	 now, step_us;
	struct node_conf conf;		/* of all nodes, but for what differs */
	/* Is the datagram lost?  NULL: none is. */
	bool		(*lose)(unsigned from, unsigned to, unsigned link, const uint8_t *p, size_t len);
};

extern struct vcluster	 vc;
extern struct vnode	 fw[VC_NODES];

/* --- the cluster --- */

/* n nodes with one link, none of them started; and: stop them all. */
void		 vc_init(unsigned n);
void		 vc_fini(void);
/* The same, all started and equal to each other, the first one active. */
void		 vc_start(unsigned n);
void		 vc_step(void);
void		 vc_run_ms(unsigned ms);
/* In steps of 50 ms: for minutes. */
void		 vc_run_s(unsigned s);
void		 vc_cut(struct vnode *a, struct vnode *b, bool on);
/* Is everybody equal to whoever can be reached? */
bool		 vc_equal(void);
/* Until all are, by proofs that are younger than now. */
void		 vc_settle(void);

#define vc_wait(cond) do {							\
	uint64_t until_ = vc.now + VC_LIMIT_MS * 1000u;				\
										\
	while (!(cond)) {							\
		ck_assert_msg(vc.now < until_, "never: %s", #cond);		\
		vc_step();							\
	}									\
} while (0)

/* --- a node --- */

/* The daemon starts with what the runtime directory has; dies, while its kernel goes on. */
void		 vn_start(struct vnode *v);
void		 vn_kill(struct vnode *v);
/* No power any more; and power again: nothing is left. */
void		 vn_die(struct vnode *v);
void		 vn_reboot(struct vnode *v);
/* Until it is done. */
const struct node_taken *vn_command(struct vnode *v, enum node_take what);
void		 vn_takeover(struct vnode *v);
void		 vn_release(struct vnode *v);
/* Number of a node among the peers of v. */
unsigned	 vn_peer(const struct vnode *v, const struct vnode *of);
struct node_peer_info vn_sees(const struct vnode *v, const struct vnode *of);
/* What v's own table has, and what its copy of another node has; false: nothing. */
bool		 vn_owns(const struct vnode *v, const struct flow *key, struct flow *f);
bool		 vn_copies(const struct vnode *v, const struct vnode *of, const struct flow *key,
		    struct flow *f);
/* The same for a TCP flow; f may be NULL. */
bool		 vn_owns_tcp(const struct vnode *v, uint16_t port, struct flow *f);
bool		 vn_copies_tcp(const struct vnode *v, const struct vnode *of, uint16_t port,
		    struct flow *f);
/* Is v's copy of that flow of another node known to have ended? */
bool		 vn_marked(const struct vnode *v, const struct vnode *of, uint16_t port);
bool		 vn_alert(struct vnode *v, enum node_alert a);
bool		 vn_ready(struct vnode *v, const char *why);	/* and says why */

/* --- its kernel --- */

/* The entry with that key, whether or not it is there; NULL: it never was. */
struct vk_entry	*vk_find(const struct vnode *v, const struct flow *key);
/* A TCP entry that is there, or NULL. */
struct vk_entry	*vk_tcp(const struct vnode *v, uint16_t port);
/* Are the TCP entries with these ports all there? */
bool		 vk_has(const struct vnode *v, uint16_t first, uint16_t last);
/* As the kernel shows it. */
void		 vk_show(const struct vnode *v, const struct vk_entry *e, struct flow *f);
/* It is there, without a word. */
struct vk_entry	*vk_put(struct vnode *v, const struct flow *f);
/* A packet makes the entry. */
struct vk_entry	*vk_new(struct vnode *v, const struct flow *f);
/* TCP connections are opened; a packet comes in the middle of one that is not here. */
void		 vk_open(struct vnode *v, uint16_t first, uint16_t last);
void		 vk_stray(struct vnode *v, uint16_t port);
/* A packet passes: the counter moves, and nothing else. */
void		 vk_packet(struct vnode *v, struct vk_entry *e);
/* A packet, or a program, changes the mark. */
void		 vk_mark(struct vnode *v, struct vk_entry *e, uint32_t mark, bool commanded);
/* A packet changes the state of a TCP entry. */
void		 vk_state(struct vnode *v, uint16_t port, uint8_t state);
/* The entry ends: by time, or by a program. */
void		 vk_destroy(struct vnode *v, struct vk_entry *e, bool commanded);
/* A connection is closed by packets, and ends. */
void		 vk_close(struct vnode *v, uint16_t first, uint16_t last);
/* The kernel knows both windows of it. */
void		 vk_relearn(struct vnode *v, uint16_t port);
/* Are both directions liberal? */
bool		 vk_liberal(const struct vnode *v, uint16_t port);
/* What was queued is read now. */
void		 vk_read(struct vnode *v);

/* For vcluster.c. */
void		 vk_init(struct vnode *v);
void		 vk_fini(struct vnode *v);
void		 vk_clear(struct vnode *v);		/* a boot: all is gone, without a word */
void		 vk_disconnect(struct vnode *v);	/* the daemon's sockets are closed */
void		 vk_step(struct vnode *v);
int		 vk_submit(void *ctx, struct kjob *j);
void		 vk_dump(void *ctx);
uint32_t	 vk_age(void *ctx);
bool		 vk_address_lost(void *ctx, uint8_t family, const struct flow_addr *a);
bool		 vk_filter(void *ctx, const struct flow *f);

#endif
