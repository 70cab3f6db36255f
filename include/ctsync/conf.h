/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration of a node, typed, complete and checked.
 *
 * What conf_load() hands out needs no further checking: every default is
 * filled in, every value is in range, names are unique.  Whether interfaces,
 * addresses, users and groups exist is left to those who use them.  The
 * structures are plain data and never change once loaded; a reload makes a new
 * one.  ctsyncd.conf(5) describes the keys.
 */
#ifndef CTSYNC_CONF_H
#define CTSYNC_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ctsync/flow.h"
#include "ctsync/timeout.h"

#define CONF_NAME_MAX		64	/* characters of a name: node, cluster, link, ... */
#define CONF_PATH_MAX		255
#define CONF_SOCKET_MAX		103	/* what fits into sun_path, with room for ".new" */
#define CONF_IFNAME_MAX		15	/* IFNAMSIZ - 1 */
#define CONF_LINKS_MAX		16
#define CONF_PEERS_MAX		32	/* peers of one link */
#define CONF_LIST_MAX		1024	/* elements of one list of the filter */
#define CONF_FOLLOW_MAX		16	/* addresses that the role follows */
#define CONF_ERR_MAX		512	/* bytes that any error text of this module fits into */

/* Words that this version knows but does not support never get here. */
enum conf_transport {
	CONF_UDP
};

enum conf_inject {
	CONF_INJECT_COMMIT
};

/* Numbers of doc/wire.md, section 1. */
enum conf_suite {
	CONF_SUITE_AES_256_GCM = 1,
	CONF_SUITE_CHACHA20_POLY1305 = 2
};

struct conf_addr {
	uint8_t		 family;	/* AF_INET, AF_INET6; 0: none */
	union {
		uint8_t			 b[16];	/* network byte order; IPv4: the first four, rest 0 */
		struct flow_addr	 a;	/* the same */
	};
};

struct conf_addrs {
	struct conf_addr	 v[CONF_FOLLOW_MAX];
	size_t			 n;
};

struct conf_peer {
	char			 name[CONF_NAME_MAX + 1];
	struct conf_addr	 address;
};

struct conf_link {
	char			 name[CONF_NAME_MAX + 1];
	int			 transport;	/* enum conf_transport */
	char			 interface[CONF_IFNAME_MAX + 1];	/* "": not bound */
	struct conf_addr	 local;
	struct conf_peer	*peers;		/* at least one, all of the family of local */
	size_t			 npeers;
	uint32_t		 port;		/* 1 to 65535 */
	uint32_t		 mtu;		/* longest datagram payload in bytes */
	uint64_t		 rcvbuf;	/* bytes */
	uint64_t		 sndbuf;	/* bytes */
};

struct conf_prefix {
	struct conf_addr	 net;		/* no bits behind len */
	uint8_t			 len;
};

/* A mark m matches if (m & mask) == value. */
struct conf_mark {
	uint32_t		 value;
	uint32_t		 mask;
};

/*
 * What the filter lets through.  Each kind is a condition of its own and all
 * have to hold.  Of "only" and "except" lists: a flow passes if the only list
 * is empty or one of its elements matches, and no element of the except list
 * matches.  A prefix matches a flow if one of its four addresses (source and
 * destination of the original and of the reply tuple) lies in it.
 */
struct conf_filter {
	bool			 skip_own;	/* leave out flows that end on this node */
	uint8_t			 protos[32];	/* bit n of the 256: IP protocol n passes */
	uint32_t		 tcp_states;	/* bit n: enum flow_tcp_state n passes */
	struct conf_prefix	*addr_only, *addr_except;
	size_t			 naddr_only, naddr_except;
	struct conf_mark	*mark_only, *mark_except;
	size_t			 nmark_only, nmark_except;
	uint16_t		*zone_only, *zone_except;
	size_t			 nzone_only, nzone_except;
};

struct conf {
	char			 node[CONF_NAME_MAX + 1];
	char			 cluster[CONF_NAME_MAX + 1];
	char			 key_file[CONF_PATH_MAX + 1];
	char			 user[CONF_NAME_MAX + 1];
	char			 runtime_dir[CONF_PATH_MAX + 1];
	struct conf_link	*links;		/* at least one */
	size_t			 nlinks;
	struct {
		char		 socket[CONF_SOCKET_MAX + 1];
		char		 group[CONF_NAME_MAX + 1];
		char		 read_group[CONF_NAME_MAX + 1];	/* "": none */
		uint32_t	 max_clients;
		uint32_t	 stall_s;	/* a client that takes nothing for so long is dropped */
	} control;
	struct {
		int		 inject;	/* enum conf_inject */
		uint32_t	 boot_wait_s;
		uint32_t	 purge_s;	/* a standby's idle flows that the active lacks go after that */
		/*
		 * The node is active while it has at least one of these, none twice,
		 * each one that an interface can have; none: the role is told.
		 */
		struct conf_addrs follow_addresses;
	} takeover;
	uint32_t		 timeouts[FLOW_TIMEOUTS];	/* s of what a takeover writes, 0: as told */
	struct {
		uint64_t	 event_buffer;	/* bytes */
		uint32_t	 audit_s;	/* 0: no audit */
		bool		 reliable_events;	/* NETLINK_BROADCAST_ERROR */
		bool		 liberal;	/* be liberal about TCP windows until relearned */
		bool		 accounting;	/* see to it that entries count packets */
	} kernel;
	struct {
		uint32_t	 hold_ms;	/* flows without reply are told so late; 0: at once */
		uint32_t	 scrub_s;	/* a lap over remote tables in memory; 0: none */
	} replication;
	struct {
		uint32_t	 flows;
		uint32_t	 tombstones;
		uint64_t	 memory;	/* bytes; 0: no limit of its own */
	} limits;
	struct {
		int		 level;		/* a syslog priority */
	} log;
	struct {
		int		 suite;		/* enum conf_suite */
	} security;
	struct conf_filter	 filter;
};

#define CONF_DEFAULT_FILE	"/etc/ctsyncd/ctsyncd.conf"
#define CONF_DEFAULT_USER	"ctsync"

/*
 * Read the configuration from path, and everything that it includes, and
 * check it.  0 and *out, which conf_free() releases; or -errno, *out NULL and
 * one line without newline in err (errlen bytes, CONF_ERR_MAX are enough) that
 * says where, what was expected and what was found:
 *
 *	FILE:LINE: key `links[0].port': expected integer 1..65535, found string
 *
 * -EINVAL if the text is at fault, -ENOMEM, or why a file cannot be read.
 * Blocks on files.
 */
int	conf_parse(const char *path, struct conf **out, char *err, size_t errlen)
	    __attribute__((warn_unused_result));

/*
 * The same, and the key file is read and checked too (keyfile.h) and wiped
 * from memory again.  Looks up the configured user, because the key may be his.
 */
int	conf_load(const char *path, struct conf **out, char *err, size_t errlen)
	    __attribute__((warn_unused_result));

/* NULL is fine. */
void	conf_free(struct conf *c);

/*
 * Print all settings, defaults too, as a configuration that loads to the same
 * settings.  0, or -EIO if the stream took not all of it.
 */
int	conf_print(const struct conf *c, FILE *f) __attribute__((warn_unused_result));

/* True if two configurations have the same settings. */
bool	conf_equal(const struct conf *a, const struct conf *b);

/* An address as text: buf, always terminated; "" for none. */
#define CONF_ADDR_STR_MAX	46
char	*conf_addr_str(const struct conf_addr *a, char buf[CONF_ADDR_STR_MAX]);

/* "aes-256-gcm", ...; static storage, "unknown" for a number that is none. */
const char	*conf_suite_name(int suite);

#endif
