/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the core needs of the world, as small tables of functions: the daemon
 * fills them with sockets and the kernel, the simulation with arrays.
 *
 * No function of a port calls back into the core before it returns.
 */
#ifndef CTSYNC_PORTS_H
#define CTSYNC_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

/* What can be asked of the kernel's table, many entries at a time. */
enum kop {
	KOP_CREATE,		/* create, or bring up to date what is there; TCP liberal */
	KOP_DELETE,
	KOP_GET,
	KOP_STRICT,		/* clear BE_LIBERAL */
	KOP_LIBERAL		/* set BE_LIBERAL in both directions, change nothing else */
};

/* Who asked: results go back there. */
enum kowner {
	KOWNER_LOCAL,
	KOWNER_TAKEOVER,
	KOWNER_PURGE,
	KOWNER_WINDOWS
};

#define KJOB_ITEMS_MAX	1024

struct kitem {
	uint32_t	 off;		/* of the body in bytes */
	uint16_t	 len;
	union {
		uint32_t	 timeout_s;	/* KOP_CREATE */
		uint32_t	 id;	/* KOP_DELETE: of the entry that is meant, 0: any */
	};
	bool		 there;		/* KOP_CREATE: the kernel had the flow, and it was brought up to date */
	int		 err;		/* 0 or -errno; -EEXIST of KOP_CREATE: another flow is in the way */
};

/*
 * A job: the owner fills in op to bytes, the port err and, for KOP_GET, flows.
 * Allocated with kjob_new(), released with kjob_free() by whoever has it.
 */
struct kjob {
	enum kop	 op;
	enum kowner	 owner;
	uint32_t	 tag;		/* the owner's */
	uint32_t	 n;
	struct kitem	 items[KJOB_ITEMS_MAX];
	uint32_t	 updated;	/* KOP_CREATE: items without error that were there already */
	uint32_t	 lost_master, lost_helper, lost_labels;	/* KOP_CREATE: items that had to do without */
	struct flow	*flows;		/* KOP_GET: n of them, valid where err is 0 */
	size_t		 used, cap;
	uint8_t		*bytes;		/* the bodies; a key is enough for all but KOP_CREATE */
};

struct kjob	*kjob_new(enum kop op, enum kowner owner);
void		 kjob_free(struct kjob *j);
/* Add a body, with a timeout or, to a KOP_DELETE, an id; 0, -ENOSPC if the job is full, -ENOMEM. */
int		 kjob_add(struct kjob *j, const uint8_t *body, size_t len, uint32_t timeout_s)
		    __attribute__((warn_unused_result));

struct kernel_port {
	/*
	 * Hand over a job.  0: it is the port's, and comes back, done, some
	 * time after the call, when all events from before it was done have been
	 * handed over.  -EAGAIN: too many
	 * are under way, it stays the caller's.
	 */
	int		(*submit)(void *ctx, struct kjob *j);
	/*
	 * Begin a dump; one that runs is given up, without its end.  Its entries
	 * and its end come back, each entry when all events from before it was
	 * read have been handed over.
	 */
	void		(*dump)(void *ctx);
	/* Age in microseconds of what is known of the kernel: when its events were last read up. */
	uint32_t	(*age_us)(void *ctx);
	/*
	 * Has this node just lost the address, so that the kernel ended the
	 * flows that were masqueraded behind it?  NULL: never.
	 */
	bool		(*address_lost)(void *ctx, uint8_t family, const struct flow_addr *a);
};

struct link_port {
	/* Send a datagram to a peer over a link.  0 or -errno: it is lost, and repaired as such. */
	int		(*send)(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len);
	/* Is that peer configured on that link, and the link open? */
	int		(*usable)(void *ctx, unsigned link, unsigned peer);
};

#endif
