/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What takeover.c (walks, following, commands), takeover_entry.c (what is to be
 * done about one entry) and takeover_write.c (jobs and their results) share.
 */
#ifndef TAKEOVER_PRIV_H
#define TAKEOVER_PRIV_H

#include "takeover.h"

/*
 * Passes over the tables in one walk.  First one for each class of worth; then
 * flows that have a master, a pass for each generation; expectations; what is
 * left, among it whatever has lost its master.
 */
#define PASS_RELATED	3u
#define PASS_RELATED_END 6u
#define PASS_EXPECTS	6u
#define PASS_LEFT	7u
#define PASSES		8u

/* What is to be done about an entry of a peer's table. */
enum verdict {
	ENTRY_NONE,		/* it cannot be read */
	ENTRY_OUTRANKED,	/* another peer's entry counts */
	ENTRY_LATER,		/* in another pass */
	ENTRY_ENDED,		/* it has ended here */
	ENTRY_HERE,		/* the kernel has it, or something younger */
	ENTRY_LOOSEN,		/* the same, but its windows may be stale */
	ENTRY_WRITE,		/* the kernel has nothing of it */
	ENTRY_OVER,		/* the kernel has it: written in place */
	ENTRY_REPLACE,		/* an older life has to go first */
	ENTRY_REPLACE_REVERSED	/* an entry that a reply has made, see in_way */
};

/* Handles of a peer's table that wait to be looked at. */
struct queue {
	uint32_t	*h;
	unsigned	 n, cap;
};

#define AGAIN_MAX	64u

/* A key that is looked at again at that time. */
struct again {
	uint64_t	 due_us;
	size_t		 klen;
	uint8_t		 key[FLOW_KEY_MAX];
};

struct takeover {
	/* what is due */
	uint32_t	 todo;		/* set of peers to be walked over */
	uint32_t	 todo_fully;	/* of these: windows and timeouts are renewed as well */
	struct queue	 queue[NODE_PEERS_MAX];
	bool		 queued;	/* some queue is not empty */

	/* the walk at hand */
	bool		 walking;
	uint32_t	 peers, fully;	/* sets, as above */
	unsigned	 pass, peer;
	uint32_t	 h;
	uint32_t	 number;	/* of the last walk; entries that it has taken carry it */
	bool		 related, expects;	/* some wait for a later pass */
	bool		 spoilt;	/* no claim can be made of it */
	bool		 unsure;	/* the kernel had some of the flows already, or took others in part */
	uint64_t	 wrote;		/* entries of this walk, and refusals as of the last one, for the log */
	uint64_t	 refused_said;

	/* key of what is in the way of the entry looked at last */
	uint8_t		 in_way[FLOW_KEY_MAX];
	size_t		 in_way_len;

	/* jobs */
	bool		 adopting;
	uint64_t	 adopt_us;	/* since when */
	uint32_t	 jobs;		/* under way */
	unsigned	 job_peer;	/* of job and drop */
	struct kjob	*job, *drop;	/* being filled: to be written, to be removed before */
	bool		 making_room;	/* what is to be removed has been handed over, what is to be written not */
	struct kjob	*redo;		/* what was written over something newer */
	struct kjob	*look, *undo;	/* what had ended, and was written: to be asked for, to be deleted */

	/* the command at hand, or the last one */
	bool		 command;	/* the walk is that of a command */
	struct node_taken result;

	struct again	 again[AGAIN_MAX];	/* refused for the first time, the oldest one first */
	unsigned	 nagain;

	/* what was refused */
	uint64_t	 refused[NODE_PEERS_MAX];	/* in the last walk over the peer, and since */
	uint64_t	 retry_us[NODE_PEERS_MAX];	/* 0: not */
	uint64_t	 backoff_us[NODE_PEERS_MAX];
};

/* takeover.c */
/*
 * Look at that key again in a second, if the peer's next retry comes later;
 * what there is no room for waits for that.
 */
void		 takeover_again(struct node *n, unsigned peer, const uint8_t *key, size_t klen);

/* takeover_entry.c */
/*
 * Entry h of the peer's table, of which *f gets what it is.  pass: the one at
 * hand, PASSES when it is followed.  full: windows and timeouts are renewed.
 */
enum verdict takeover_entry(struct node *n, unsigned peer, uint32_t h, unsigned pass, bool full,
		    struct flow *f);
/* The timeout in seconds to write, as told_s was told. */
uint32_t	 takeover_timeout(const struct node *n, const struct flow *f, uint32_t told_s);

/* takeover_write.c */
/* Put the entry into the jobs at hand; false if that has to wait. */
bool		 takeover_put(struct node *n, unsigned peer, uint32_t h, enum verdict v,
		    const struct flow *f);
/* Hand over what is being filled; false: it has to wait. */
bool		 takeover_submit(struct node *n);
void		 takeover_drop_jobs(struct takeover *t);
/* Is something to be written, or under way to the kernel? */
bool		 takeover_writing(const struct takeover *t);

#endif
