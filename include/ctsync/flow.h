/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A flow as conntrack knows it, decoded, and its packed form.
 *
 * struct flow is what the code computes with: on the stack, one at a time.
 * What tables hold and links carry is the packed form ("body"): the key, the
 * incarnation and attribute TLVs, as doc/wire.md, "Flow body", describes it.
 * The packed form is canonical: the same flow always packs to the same bytes,
 * so that a keyed hash over them can prove that two tables are equal.  The
 * timeout is not part of the body: it changes without anything else having
 * happened, and no event tells.
 *
 * Addresses are in network byte order, everything else in host byte order.
 */
#ifndef CTSYNC_FLOW_H
#define CTSYNC_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/buf.h"

/* Status bits, from linux/netfilter/nf_conntrack_common.h (enum ip_conntrack_status). */
#define FLOW_S_EXPECTED		0x00000001u
#define FLOW_S_SEEN_REPLY	0x00000002u
#define FLOW_S_ASSURED		0x00000004u
#define FLOW_S_CONFIRMED	0x00000008u
#define FLOW_S_SRC_NAT		0x00000010u
#define FLOW_S_DST_NAT		0x00000020u
#define FLOW_S_SEQ_ADJUST	0x00000040u
#define FLOW_S_SRC_NAT_DONE	0x00000080u
#define FLOW_S_DST_NAT_DONE	0x00000100u
#define FLOW_S_DYING		0x00000200u
#define FLOW_S_FIXED_TIMEOUT	0x00000400u
#define FLOW_S_TEMPLATE		0x00000800u
#define FLOW_S_HELPER		0x00002000u
#define FLOW_S_OFFLOAD		0x00004000u
#define FLOW_S_HW_OFFLOAD	0x00008000u

/*
 * Bits that are replicated.  DYING and TEMPLATE never belong to a flow that
 * lives; OFFLOAD bits say how this kernel forwards, not what the flow is.
 */
#define FLOW_S_REPLICATED	(FLOW_S_EXPECTED | FLOW_S_SEEN_REPLY |		\
				FLOW_S_ASSURED | FLOW_S_CONFIRMED |		\
				FLOW_S_SRC_NAT | FLOW_S_DST_NAT |		\
				FLOW_S_SEQ_ADJUST | FLOW_S_SRC_NAT_DONE |	\
				FLOW_S_DST_NAT_DONE | FLOW_S_FIXED_TIMEOUT)

/* TCP states, from linux/netfilter/nf_conntrack_tcp.h (enum tcp_conntrack). */
enum flow_tcp_state {
	FLOW_TCP_NONE,
	FLOW_TCP_SYN_SENT,
	FLOW_TCP_SYN_RECV,
	FLOW_TCP_ESTABLISHED,
	FLOW_TCP_FIN_WAIT,
	FLOW_TCP_CLOSE_WAIT,
	FLOW_TCP_LAST_ACK,
	FLOW_TCP_TIME_WAIT,
	FLOW_TCP_CLOSE,
	FLOW_TCP_SYN_SENT2,
	FLOW_TCP_STATES
};

/* TCP flags per direction, same source. */
#define FLOW_TF_WINDOW_SCALE	0x01u
#define FLOW_TF_SACK_PERM	0x02u
#define FLOW_TF_CLOSE_INIT	0x04u
#define FLOW_TF_BE_LIBERAL	0x08u
#define FLOW_TF_UNACKED		0x10u	/* IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED */
#define FLOW_TF_MAXACK_SET	0x20u

/* Those that describe the connection and not the knowledge of one kernel. */
#define FLOW_TF_REPLICATED	(FLOW_TF_WINDOW_SCALE | FLOW_TF_SACK_PERM | FLOW_TF_CLOSE_INIT)

#define FLOW_WSCALE_MAX		14	/* RFC 7323, and what the kernel takes */

/* Where a zone applies. */
enum flow_zone_dir {
	FLOW_ZONE_NONE,		/* zone 0, both directions */
	FLOW_ZONE_BOTH,
	FLOW_ZONE_ORIG,
	FLOW_ZONE_REPLY
};

/* SCTP states, from linux/netfilter/nf_conntrack_sctp.h (enum sctp_conntrack). */
enum flow_sctp_state {
	FLOW_SCTP_NONE,
	FLOW_SCTP_CLOSED,
	FLOW_SCTP_COOKIE_WAIT,
	FLOW_SCTP_COOKIE_ECHOED,
	FLOW_SCTP_ESTABLISHED,
	FLOW_SCTP_SHUTDOWN_SENT,
	FLOW_SCTP_SHUTDOWN_RECD,
	FLOW_SCTP_SHUTDOWN_ACK_SENT,
	FLOW_SCTP_HEARTBEAT_SENT,
	FLOW_SCTP_HEARTBEAT_ACKED,	/* of kernels before 6.3 */
	FLOW_SCTP_STATES
};

/* DCCP states, from linux/netfilter/nf_conntrack_dccp.h (enum ct_dccp_states). */
#define FLOW_DCCP_STATES	10
#define FLOW_DCCP_ROLES		2

/* Flags of an expectation, from nf_conntrack_common.h (NF_CT_EXPECT_*). */
#define FLOW_E_PERMANENT	0x1u
#define FLOW_E_INACTIVE		0x2u
#define FLOW_E_USERSPACE	0x4u
#define FLOW_E_FLAGS		0x7u

/* Which parts of a struct flow are valid: an event is a delta. */
#define FLOW_HAS_STATUS		0x0001u
#define FLOW_HAS_TIMEOUT	0x0002u
#define FLOW_HAS_MARK		0x0004u
#define FLOW_HAS_TCP_STATE	0x0008u
#define FLOW_HAS_TCP_FLAGS	0x0010u	/* flags in both directions */
#define FLOW_HAS_TCP_WSCALE	0x0020u	/* window scale in both directions */
#define FLOW_HAS_ID		0x0040u
#define FLOW_HAS_REPLY		0x0080u
#define FLOW_HAS_LABELS		0x0100u
#define FLOW_HAS_SCTP		0x0200u
#define FLOW_HAS_DCCP		0x0400u
#define FLOW_HAS_HELPER		0x0800u
#define FLOW_HAS_MASTER		0x1000u
#define FLOW_HAS_SEQADJ		0x2000u	/* both directions */
#define FLOW_HAS_SYNPROXY	0x4000u
#define FLOW_HAS_RARE		0x7f00u	/* any of these */
#define FLOW_HAS_EXPECT		0x8000u	/* all of struct flow_expect, with master */
#define FLOW_HAS_PACKETS	0x10000u
/* What a message that shows all of an entry leaves out is not there. */
#define FLOW_HAS_WHOLE		(FLOW_HAS_LABELS | FLOW_HAS_HELPER | FLOW_HAS_MASTER |	\
				FLOW_HAS_SEQADJ | FLOW_HAS_SYNPROXY)

struct flow_addr {
	uint8_t		 b[16];		/* IPv4 uses the first four, the rest is zero */
};

/*
 * l4src and l4dst are the ports of TCP, UDP, UDPlite, SCTP and DCCP and the
 * keys of GRE.  For ICMP and ICMPv6 l4src is the id and l4dst is type << 8 |
 * code.  For every other protocol both are 0.
 */
struct flow_tuple {
	struct flow_addr	 src, dst;
	uint16_t		 l4src, l4dst;
};

#define FLOW_LABEL_BYTES	16
#define FLOW_HELPER_MAX		15	/* bytes of a helper's name, without its end */
#define FLOW_EXPECTFN_MAX	31	/* the same of a function's */

/* What few flows have; all zero: they have none of it. */
struct flow_rare {
	uint8_t			 labels[FLOW_LABEL_BYTES];	/* as the kernel shows them */
	struct {
		uint32_t	 pos;		/* of the last correction */
		uint32_t	 before, after;	/* offsets, two's complement */
	} seqadj[2];				/* original, reply */
	uint32_t		 isn, its, tsoff;	/* of a SYN proxy */
	uint8_t			 sctp_state;	/* enum flow_sctp_state */
	uint8_t			 dccp_state, dccp_role;
	uint32_t		 sctp_vtag[2];	/* original, reply */
	uint64_t		 dccp_seq;	/* of the handshake */
};

/* What an expectation has besides its tuple, its helper and its master. */
struct flow_expect {
	struct flow_addr	 mask_src;	/* of the tuple's source; the destination counts in full */
	uint16_t		 mask_l4src;
	uint8_t			 flags;		/* FLOW_E_* */
	uint8_t			 policy;	/* its class, of the helper's */
	bool			 nat;		/* the next three are valid */
	uint8_t			 nat_dir;	/* 0 original, 1 reply */
	struct flow_addr	 nat_addr;
	uint16_t		 nat_l4;
	char			 fn[FLOW_EXPECTFN_MAX + 1];	/* "" : none */
};

/*
 * A flow, or an expectation: a flow that a helper expects.  Of an expectation
 * orig is what is expected, zone and family are those of its master, id and
 * timeout are valid, status, mark and reply tuple mean nothing.
 */
struct flow {
	uint8_t			 family;	/* AF_INET or AF_INET6 */
	uint8_t			 proto;		/* IP protocol number */
	uint8_t			 zone_dir;	/* enum flow_zone_dir */
	uint8_t			 incarnation;	/* changes when the tuple died and was born again */
	uint16_t		 zone;
	uint16_t		 extra_len;
	uint32_t		 has;		/* FLOW_HAS_* */
	struct flow_tuple	 orig, reply;
	uint32_t		 status;
	uint32_t		 timeout_s;	/* what is left of it; 0: not known */
	uint32_t		 mark;
	uint32_t		 id;		/* CTA_ID of this kernel, never replicated */
	/*
	 * Packets of both directions that this kernel has counted, never
	 * replicated.  Counts beyond 32 bits are folded; 0 means none.
	 */
	uint32_t		 packets;
	uint64_t		 born;		/* cluster time of its first packet in milliseconds, 0: not known */
	bool			 found;		/* it was born then or before: nobody saw it */
	uint8_t			 tcp_state;	/* enum flow_tcp_state */
	uint8_t			 tcp_flags[2];	/* original, reply */
	uint8_t			 tcp_wscale[2];
	bool			 commanded;	/* of an event: a program asked for it, not a packet or time */
	bool			 copy;		/* a takeover wrote it, and no packet was seen to use it there */
	bool			 stray;		/* a packet in the middle of a peer's flow has made it: its translation is wrong */
	bool			 expect;	/* an expectation */
	uint8_t			 master_proto;	/* 0: there is no master */
	char			 helper[FLOW_HELPER_MAX + 1];	/* "": none; of an expectation its master's */
	struct flow_tuple	 master;	/* original tuple, in the zone of the flow */
	union {
		struct flow_rare	 rare;
		struct flow_expect	 exp;	/* if expect is set */
	};
	/*
	 * Attribute TLVs of the body that this version does not know, in the
	 * order of their types; they belong to whoever owns the packed bytes.
	 */
	const uint8_t		*extra;
};

#define FLOW_KEY_MAX		40	/* bytes of the longest packed key (IPv6 with zone) */
#define FLOW_BORN_MAX		4000000000000u	/* ms: no cluster time is as late as that (the year 2096) */
#define FLOW_BODY_MAX		1024	/* bytes of the longest body that is taken */
#define FLOW_BODY_OWN_MAX	298	/* bytes that a body without unknown attributes needs at most */

/* Attribute types of the body (doc/wire.md); the top bit: must understand. */
#define FLOW_A_MUST		0x80u
#define FLOW_A_STATUS		1
#define FLOW_A_REPLY		2
#define FLOW_A_MARK		3
#define FLOW_A_TCP		4
#define FLOW_A_LABELS		5
#define FLOW_A_SCTP		6
#define FLOW_A_DCCP		7
#define FLOW_A_HELPER		8
#define FLOW_A_MASTER		9
#define FLOW_A_SEQADJ		10
#define FLOW_A_SYNPROXY		11
#define FLOW_A_EXPECT		12
#define FLOW_A_EXPECT_NAT	13
#define FLOW_A_EXPECT_FN	14
#define FLOW_A_BORN		15
#define FLOW_A_COPY		16
#define FLOW_A_FOUND		17

/*
 * The tuple that a reply to *t has when nothing is translated.
 * ICMP types without a counterpart stay as they are, as in the kernel.
 */
void	flow_tuple_invert(uint8_t family, uint8_t proto, const struct flow_tuple *t,
	    struct flow_tuple *out);

/* Is a layer-4 protocol one whose tuple holds ports (or ids, or keys)? */
bool	flow_proto_is_icmp(uint8_t family, uint8_t proto);

/*
 * Pack the key of *f: at most FLOW_KEY_MAX bytes at out; returns their number.
 */
size_t	flow_pack_key(const struct flow *f, uint8_t out[FLOW_KEY_MAX]);

/*
 * Length of the key at the head of a body of len bytes, 0 if it is none.  Keys
 * of a kind that only later versions know have one, too.
 */
size_t	flow_key_len(const uint8_t *body, size_t len);

/* Does a key, or the body that it begins, belong to an expectation? */
bool	flow_key_expects(const uint8_t *key);

/*
 * Pack *f as a body: key, incarnation, attributes.  Returns its length in
 * bytes, 0 if it does not fit into cap.  BE_LIBERAL and the other flags that
 * are knowledge of one kernel are left out, as are status bits outside of
 * FLOW_S_REPLICATED.
 */
size_t	flow_pack(const struct flow *f, uint8_t *out, size_t cap);

/*
 * Decode a body.  0; -EBADMSG if it is malformed; -EPROTONOSUPPORT if it holds
 * an attribute that must be understood and is not, or if its key is of a kind
 * that is not known.  On success everything of
 * *f is set but id and timeout (0, and not in has); f->extra points into body.
 */
int	flow_unpack(const uint8_t *body, size_t len, struct flow *f)
	    __attribute__((warn_unused_result));

/* Decode a packed key alone; 0 or -EBADMSG.  *used gets its length. */
int	flow_unpack_key(const uint8_t *key, size_t len, struct flow *f, size_t *used)
	    __attribute__((warn_unused_result));

/* Is it in the handshake of TCP? */
bool	flow_half_open(const struct flow *f);
/*
 * Has the flow come further in *other, which is the same life?  Some bits of the
 * status are only ever set, and a connection does not go back to its handshake.
 */
bool	flow_behind(const struct flow *f, const struct flow *other);
/* Have both ends closed it?  A kernel keeps what is in TIME_WAIT for two more minutes. */
bool	flow_closed(const struct flow *f);
/* Are the two, of one key, known to have been born together: the same life for sure? */
bool	flow_same_birth(const struct flow *a, const struct flow *b);

/* Which of two flows of one key was born later (doc/wire.md, section 8.1)? */
enum flow_life {
	FLOW_LIFE_SAME,
	FLOW_LIFE_YOUNGER,	/* theirs was born later */
	FLOW_LIFE_OLDER,
	FLOW_LIFE_OTHER		/* another one, of unknown order */
};

/* What is *theirs, seen from *ours? */
enum flow_life	flow_compare_lives(const struct flow *theirs, const struct flow *ours);

/*
 * Merge the delta of an event into *f, which holds what was known: whatever
 * *delta has replaces it.  Flags and window scale of a direction are kept if
 * the delta lacks them.
 */
void	flow_merge(struct flow *f, const struct flow *delta);

/*
 * Key of the master of *f: at most FLOW_KEY_MAX bytes at out; returns their
 * number, 0 if there is none.
 */
size_t	flow_pack_master_key(const struct flow *f, uint8_t out[FLOW_KEY_MAX]);

/* "tcp", "udp", "icmp", ... or "unknown"; static storage. */
const char	*flow_proto_name(uint8_t proto);
/* Number of a protocol by name or decimal number, -1 if there is none. */
int	flow_proto_parse(const char *s);
/* "ESTABLISHED" and so on, as conntrack -L prints them; static storage. */
const char	*flow_tcp_state_name(uint8_t state);
const char	*flow_sctp_state_name(uint8_t state);
const char	*flow_dccp_state_name(uint8_t state);
int	flow_tcp_state_parse(const char *s);

#define FLOW_STR_MAX		256
/* One line for logs: proto, tuples, zone.  Returns buf, always terminated. */
char	*flow_str(const struct flow *f, char buf[FLOW_STR_MAX]);

#endif
