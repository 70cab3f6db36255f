/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon: one loop that joins the core (node.h) with kernel, links and
 * control socket.  One struct, handed to every callback; no globals.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include <sys/queue.h>

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>

#include "ctsync/clock.h"
#include "ctsync/conf.h"
#include "ctsync/ctlsrv.h"
#include "ctsync/filter.h"
#include "ctsync/kct.h"
#include "ctsync/kct_sys.h"
#include "ctsync/link_udp.h"
#include "ctsync/log.h"
#include "ctsync/node.h"
#include "ctsync/notify.h"
#include "ctsync/rtnl.h"
#include "ctsync/wish.h"

#define MAX_WAITING	32	/* control requests that wait for a takeover, or for a verification */

struct daemon;
struct pending;

/* A control request that waits until the takeover is done. */
struct waiting {
	uint64_t	 id;
	bool		 takeover;	/* else a commit */
};

struct dlink {
	struct daemon	*d;
	unsigned	 index;
	struct link_udp	*udp;
	int		 peer_of[LINK_UDP_PEERS_MAX];	/* peer of the node by index of the link */
	int		 index_of[NODE_PEERS_MAX];	/* the other way, -1: not on this link */
};

struct daemon {
	struct ev_loop		*loop;
	struct conf		*conf;
	const char		*conf_path;
	uid_t			 uid;		/* that it runs as */
	int			 lock_fd;
	bool			 stopping;
	uint64_t		 started_us;

	struct node		*node;
	struct node_conf	 node_conf;
	const char		*peer_names[NODE_PEERS_MAX];
	const char		*link_names[NODE_LINKS_MAX];
	unsigned		 npeers;
	bool			 verbose;	/* asked for on the command line: stays */
	struct seal_ring	*ring;
	struct dlink		 links[NODE_LINKS_MAX];
	unsigned		 nlinks;

	struct repl_filter	*filter;
	uint64_t		 filtered[REPL_VERDICTS];
	struct rtnl		*rtnl;
	struct kct_reader	*reader;
	struct kct_writer	*writer;
	struct kct_dump		*dump;
	STAILQ_HEAD(, pending)	 results;	/* of jobs that are done, to be handed over */
	uint64_t		 dump_end_us;
	bool			 address_change;
	struct kct_watch	 events, acct;	/* sysctls */
	uint64_t		 events_us;	/* when the kernel was last seen to have events for all flows */

	struct wish		 asked;		/* what was asked for last, as far as we know */
	int			 asked_rc;	/* of the last look at the record */
	bool			 unrecorded;	/* the record could not be written */
	bool			 followed;	/* one of takeover.follow_addresses is here */

	struct ctlsrv		*ctl;
	struct waiting		 waiting[MAX_WAITING];
	unsigned		 nwaiting;
	uint64_t		 verifying[MAX_WAITING];	/* the same for a verification */
	unsigned		 nverifying;

	struct notify		 notify;
	ev_prepare		 prepare;
	ev_idle			 idle;		/* keeps the loop from sleeping when there is more to do */
	ev_timer		 timer;		/* next node_run() */
	ev_timer		 second;	/* poke, status, watchdog, audit */
	ev_signal		 sigs[3];
};

/* The time of the core.  Not ev_now(), which follows the wall clock. */
static inline uint64_t
now_us(const struct daemon *d)
{
	(void)d;
	return clock_mono_ns() / 1000;
}

/* kernel.c */
int	kernel_open(struct daemon *d);		/* before privileges are dropped */
int	kernel_start(struct daemon *d);		/* after */
void	kernel_close(struct daemon *d);
void	kernel_second(struct daemon *d);
bool	kernel_results(struct daemon *d);	/* each turn of the loop; true if some are left */
int	kernel_submit(void *ctx, struct kjob *j);
void	kernel_dump(void *ctx);
uint32_t kernel_age_us(void *ctx);
bool	kernel_address_lost(void *ctx, uint8_t family, const struct flow_addr *a);
bool	kernel_filter(void *ctx, const struct flow *f);
/* The kernel's timeouts in seconds, as the sysctls have them. */
void	kernel_timeouts(uint32_t s[FLOW_TIMEOUTS]);
bool	kernel_is_own(void *ctx, uint8_t family, const struct flow_addr *a);

/* links.c */
int	links_open(struct daemon *d);
void	links_close(struct daemon *d);
int	links_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len);
int	links_usable(void *ctx, unsigned link, unsigned peer);

/* control.c */
int	control_open(struct daemon *d, gid_t gid, gid_t ro_gid);
void	control_taken(struct daemon *d);
void	control_verified(struct daemon *d);

/* roles.c */
/* Role, term, and whether a takeover has to be made, at the start; needs rtnl. */
void	roles_start(struct daemon *d, struct node_conf *nc);
/* The role or the term has changed: for the next start.  Replaced as a whole. */
void	roles_changed(void *ctx, enum node_role role, bool done);
/*
 * Something is asked for over the control socket.  Records it and returns what
 * was asked for last: if it is the same, the caller carries it out; if not,
 * that has been done.  stamp: see wish.h.
 */
enum wish_what roles_ask(struct daemon *d, enum wish_what what, uint64_t stamp);
/* Where the role comes from: in the status.  A new string. */
json_t	*roles_source(const struct daemon *d);
/* Has somebody left word?  Once a second, and when the control socket is open. */
void	roles_second(struct daemon *d);
/* The node's addresses have changed. */
void	roles_addresses(struct daemon *d);

/* state.c */
json_t	*state_status(struct daemon *d);
json_t	*state_stats(struct daemon *d);
char	*state_metrics(struct daemon *d);	/* to be freed; NULL without memory */
json_t	*state_taken(struct daemon *d);
json_t	*state_verified(struct daemon *d);
const char *state_verify_kind(enum verify_kind kind);	/* "missing_here", ... */

/* main.c */
/* Read configuration and keys again and use what can change at run time; a sentence in msg. */
int	daemon_reload(struct daemon *d, char *msg, size_t msglen);
void	daemon_stop(struct daemon *d);

#endif
