/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Two questions about a flow.
 *
 * flow_filter: is it among those that the user asked for?  (show, count)
 * repl_filter: does it get replicated?  (the configuration's filter, and what
 * is never replicated: flows that end on this node, the synchronisation itself)
 *
 * No system calls: which addresses are this node's is the caller's to know.
 */
#ifndef CTSYNC_FILTER_H
#define CTSYNC_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "ctsync/flow.h"

struct conf;

#define FILTER_ERR_MAX	256

/* Addresses a with (a & mask) == net; bytes in the order of struct flow_addr. */
struct flow_prefix {
	uint64_t	 net[2];
	uint64_t	 mask[2];
	uint8_t		 family;	/* AF_INET, AF_INET6; 0: unset */
};

/* What is in a flow_filter, besides the addresses, which have a family. */
#define FLOW_F_PROTO	0x0001u
#define FLOW_F_SPORT	0x0002u
#define FLOW_F_DPORT	0x0004u
#define FLOW_F_STATE	0x0008u
#define FLOW_F_MARK	0x0010u
#define FLOW_F_ZONE	0x0020u

enum flow_filter_addr {
	FLOW_F_SRC,		/* of the original tuple */
	FLOW_F_DST,
	FLOW_F_REPLY_SRC,
	FLOW_F_REPLY_DST,
	FLOW_F_ADDRS
};

/* All zero: every flow matches, and no expectation. */
struct flow_filter {
	uint32_t		 set;		/* FLOW_F_* */
	bool			 expect;	/* expectations instead; addresses and ports are those expected */
	uint32_t		 status;	/* status bits that have to be there */
	struct flow_prefix	 addr[FLOW_F_ADDRS];
	uint32_t		 mark, mark_mask;
	uint16_t		 sport, dport;	/* of the original tuple */
	uint16_t		 zone;
	uint8_t			 family;	/* 0: both */
	uint8_t			 proto;
	uint8_t			 tcp_state;
};

/* "ADDR[/LEN]" of either family.  0, or -EINVAL and *p left alone. */
int	flow_prefix_parse(const char *s, struct flow_prefix *p)
	    __attribute__((warn_unused_result));

/*
 * Add a condition by name: family (ipv4, ipv6), proto, src, dst, reply_src,
 * reply_dst (ADDR[/LEN]), sport, dport, state, mark (N[/MASK]), zone, and with
 * value "true" or NULL src_nat, dst_nat, assured, and expect (expectations, not
 * flows).  -EINVAL and a sentence in err.
 */
int	flow_filter_set(struct flow_filter *f, const char *key, const char *value,
	    char err[FILTER_ERR_MAX]) __attribute__((warn_unused_result));

/* Can all conditions hold at once?  0; -EINVAL and a sentence in err. */
int	flow_filter_check(const struct flow_filter *f, char err[FILTER_ERR_MAX])
	    __attribute__((warn_unused_result));

/*
 * Make *f from a JSON object of conditions (strings, integers, true), NULL for
 * none, and check it.  0; -EINVAL and a sentence in err.
 */
int	flow_filter_json(struct flow_filter *f, const json_t *obj, char err[FILTER_ERR_MAX])
	    __attribute__((warn_unused_result));

bool	flow_filter_match(const struct flow_filter *f, const struct flow *fl);

/* Why a flow is not replicated. */
enum repl_verdict {
	REPL_PASS,
	REPL_PROTO,
	REPL_OWN,		/* begins or ends on this node, or cannot be forwarded */
	REPL_SYNC,		/* between the links' addresses and ports */
	REPL_STATE,
	REPL_ADDR,
	REPL_MARK,
	REPL_ZONE,
	REPL_VERDICTS
};

/* Is *a an address of this node? */
typedef bool	repl_own_fn(void *ctx, uint8_t family, const struct flow_addr *a);

struct repl_filter;

/*
 * The filter and the links of *conf, copied.  NULL without memory.
 */
struct repl_filter	*repl_filter_new(const struct conf *conf);
void			 repl_filter_free(struct repl_filter *rf);

/*
 * Does *fl, complete (deltas merged), get replicated?  own may be NULL.  The
 * answer may change with each change of the flow: mark and TCP state do.
 */
enum repl_verdict	 repl_filter_check(const struct repl_filter *rf, const struct flow *fl,
			    repl_own_fn *own, void *ctx);

/* "protocol", "own_address", ... for counters; static storage. */
const char		*repl_verdict_name(enum repl_verdict v);

#endif
