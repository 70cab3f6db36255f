/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A UDP unicast link: datagrams to and from a fixed list of addresses.
 *
 * Carries bytes; sealing, health and retransmission are its user's.  Each peer
 * has a connected socket, so that rubbish from elsewhere fills only the
 * listener's small buffer.  Packets that were routed here (TTL or hop limit
 * below 255) are dropped in the kernel; nothing is ever fragmented.
 *
 * What breaks at run time (interface gone, address gone, no route) closes the
 * sockets concerned and is tried again every second; it is never fatal.
 * Nothing blocks.  One link belongs to one loop and one thread.
 */
#ifndef CTSYNC_LINK_UDP_H
#define CTSYNC_LINK_UDP_H

#include <sys/socket.h>
#include <sys/uio.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_UDP_PEERS_MAX	64
#define LINK_UDP_PAYLOAD_MAX	65507

struct ev_loop;
struct link_udp;

/*
 * A datagram of the peer of that index, at most max_payload bytes.  buf is the
 * link's and valid during the call.  The callback may send but must not free
 * the link.
 */
typedef void	link_udp_rx(void *ctx, struct link_udp *link, int peer_index,
		    const uint8_t *buf, size_t len);

/* All of it is copied. */
struct link_udp_config {
	const char			*name;
	const char			*interface;	/* NULL: any */
	struct sockaddr_storage		 local;		/* AF_INET or AF_INET6; its port is not used */
	uint16_t			 port;
	const struct sockaddr_storage	*peers;		/* port 0: the same as ours */
	size_t				 n_peers;	/* index in peers = peer_index */
	int				 rcvbuf_bytes;	/* of each peer; 0: the system's default */
	int				 sndbuf_bytes;
	size_t				 max_payload;	/* longer datagrams are counted and dropped */
	link_udp_rx			*rx;
	void				*ctx;		/* for rx */
};

struct link_udp_stats {
	uint64_t	 tx_packets;
	uint64_t	 tx_bytes;	/* payload */
	uint64_t	 tx_busy;	/* -EAGAIN was returned */
	uint64_t	 tx_errors;	/* any other failure to send */
	uint64_t	 rx_packets;
	uint64_t	 rx_bytes;
	uint64_t	 rx_errors;
	uint64_t	 rx_oversize;	/* longer than max_payload */
	/* By the kernel: receive buffer full, or TTL below 255; by us: its socket was not open. */
	uint64_t	 rx_dropped;
	uint64_t	 unknown;	/* from elsewhere, those that the kernel dropped included */
	uint64_t	 icmp_errors;	/* refused, unreachable: swallowed */
	uint64_t	 opened;	/* times that the link came up */
};

/*
 * Make a link and open its sockets.
 *
 * 0: *link is the caller's to free.  If an interface, address or route is not
 * there (yet), the link is down, err says what is missing and what to do, and
 * it is tried again every second; else err is "".
 * Otherwise *link is NULL and err says what is wrong and what to do: -EINVAL
 * (configuration), -EADDRINUSE (another program has the port), -EPERM, -EMFILE
 * and other refusals of the system, -ENOMEM.
 */
int	link_udp_new(struct link_udp **link, struct ev_loop *loop,
	    const struct link_udp_config *cfg, char *err, size_t errlen);
void	link_udp_free(struct link_udp *link);

const char	*link_udp_name(const struct link_udp *link);
/* Are the sockets of the link, and one to a peer at least, open?  Says nothing of the peer. */
bool	link_udp_up(const struct link_udp *link);
bool	link_udp_peer_up(const struct link_udp *link, int peer_index);
void	link_udp_stats(struct link_udp *link, struct link_udp_stats *stats);

/*
 * Send one datagram.  -EAGAIN: no room now, it is not sent and not kept: send
 * what is newest later.  -ENETDOWN: the link or this peer's socket is down.
 * -EMSGSIZE: longer than the interface carries, or than max_payload.  -EPERM: a
 * packet filter refused it.  Other -errno: not sent.  A peer that refuses (no
 * daemon there yet) is no error.
 */
int	link_udp_send(struct link_udp *link, int peer_index, const void *buf, size_t len);
/*
 * Send n datagrams in order with few system calls.  Returns how many were
 * sent, which is less than n when there is no more room or a later one failed,
 * or, if the first one failed, as link_udp_send().
 */
int	link_udp_sendv(struct link_udp *link, int peer_index, const struct iovec *datagrams,
	    size_t n);

#endif
