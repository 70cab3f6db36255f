/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctlab-ctgen: batched ctnetlink generator, reader and floor meter.
 *
 * The program works on the conntrack table of the network namespace that it
 * is started in.  ctgen.c holds the command line, ctgen_write.c everything
 * that changes the table, ctgen_read.c everything that reads it.  Results
 * are one JSON object on stdout; diagnostics go to stderr.
 */
#ifndef CTGEN_H
#define CTGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTG_SKIP_MAX	8
#define CTG_BATCH_MAX	512

struct json_t;

/* What an entry looks like; CTG_DNAT is TCP over IPv4 too. */
enum ctg_kind {
	CTG_TCP_SNAT,
	CTG_TCP,
	CTG_UDP,
	CTG_TCP6_SNAT,
	CTG_DNAT,
};

/* The one socket that listens for events while "floor" writes. */
enum ctg_listener {
	CTG_LISTEN_NONE,
	CTG_LISTEN_FILTERED,	/* classic BPF drops the writer's events */
	CTG_LISTEN_UNFILTERED,	/* never read, so that it fills up */
};

/* Parts of an entry that take part in digest and list. */
#define CTG_F_TUPLES	0x01u
#define CTG_F_STATUS	0x02u
#define CTG_F_MARK	0x04u
#define CTG_F_STATE	0x08u
#define CTG_F_ZONE	0x10u
#define CTG_F_ALL	0x1fu

/* An address prefix in network byte order; len in bits. */
struct ctg_prefix {
	uint8_t		 family;
	uint8_t		 len;
	uint8_t		 addr[16];
};

struct ctg_opts {
	/* writers */
	enum ctg_kind	 kind;
	uint64_t	 count;		/* entries; events for drain */
	uint64_t	 start;		/* number of the first entry */
	uint64_t	 live;		/* churn: entries alive at a time */
	uint64_t	 rounds;	/* update: passes over the entries */
	uint32_t	 batch;		/* messages per sendmsg */
	uint32_t	 rate;		/* entries per second, 0 unlimited */
	uint32_t	 timeout;	/* seconds */
	uint32_t	 status;
	uint32_t	 mark;
	uint16_t	 zone;
	uint8_t		 tcp_state;
	bool		 set_timeout, set_mark, set_state;
	enum ctg_listener listener;

	/* readers */
	uint32_t	 fields;	/* CTG_F_* */
	uint32_t	 status_mask;
	uint32_t	 idle_ms;
	uint32_t	 rcvbuf;	/* bytes */
	bool		 parse;
	struct ctg_prefix skip[CTG_SKIP_MAX];
	unsigned int	 nskip;
};

const char	*ctg_kind_name(enum ctg_kind);

/* Monotonic wall time and CPU time of this process. */
uint64_t	 ctg_now_ns(void);
uint64_t	 ctg_cpu_ns(void);

/* User and system part of the CPU time of this process, in seconds. */
void		 ctg_cpu_split(double *user, double *sys);

/* Set *exceeding* the system's limit a socket's buffer (needs CAP_NET_ADMIN). */
void		 ctg_bufsize(int fd, int opt, uint32_t bytes);

/* Join the conntrack groups NEW, UPDATE and DESTROY; exits on failure. */
void		 ctg_join_events(int fd);

/*
 * Commands.  Each prints one JSON object (list: text lines) and returns the
 * exit code: 0, or 1 if an entry failed.
 */
int	ctg_cmd_create(const struct ctg_opts *);
int	ctg_cmd_update(const struct ctg_opts *);
int	ctg_cmd_delete(const struct ctg_opts *);
int	ctg_cmd_churn(const struct ctg_opts *);
int	ctg_cmd_floor(const struct ctg_opts *);
int	ctg_cmd_flush(const struct ctg_opts *);
int	ctg_cmd_count(const struct ctg_opts *);
int	ctg_cmd_digest(const struct ctg_opts *);
int	ctg_cmd_list(const struct ctg_opts *);
int	ctg_cmd_drain(const struct ctg_opts *);

/* Print and free a JSON object on one line. */
void	ctg_print(struct json_t *);

#endif
