/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The daemon's links: which peer is which on which link, datagrams both ways.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "daemon.h"

#define MAX_RECEIVED	9000u	/* bytes of a datagram that is taken whatever our own mtu */

static void
to_sockaddr(const struct conf_addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in	*s4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6	*s6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	ss->ss_family = a->family;
	if (a->family == AF_INET)
		memcpy(&s4->sin_addr, a->b, 4);
	else
		memcpy(&s6->sin6_addr, a->b, 16);
}

static void
on_datagram(void *ctx, struct link_udp *udp, int peer_index, const uint8_t *buf, size_t len)
{
	struct dlink	*l = ctx;

	(void)udp;
	(void)peer_index;	/* who it is says the seal, not the address */
	node_datagram(l->d->node, l->index, buf, len, now_us(l->d));
}

static int
peer_number(const struct daemon *d, const char *name)
{
	unsigned	 i;

	for (i = 0; i < d->npeers; i++)
		if (strcmp(d->peer_names[i], name) == 0)
			return (int)i;
	return -1;
}

static int
open_one(struct daemon *d, unsigned i)
{
	const struct conf_link	*c = &d->conf->links[i];
	struct dlink		*l = &d->links[i];
	struct sockaddr_storage	 peers[LINK_UDP_PEERS_MAX];
	struct link_udp_config	 uc;
	char			 err[512];
	size_t			 k;
	int			 peer;

	l->d = d;
	l->index = i;
	for (k = 0; k < NODE_PEERS_MAX; k++)
		l->index_of[k] = -1;
	for (k = 0; k < c->npeers && k < LINK_UDP_PEERS_MAX; k++) {
		to_sockaddr(&c->peers[k].address, &peers[k]);
		peer = peer_number(d, c->peers[k].name);
		l->peer_of[k] = peer;
		if (peer >= 0)
			l->index_of[peer] = (int)k;
	}
	memset(&uc, 0, sizeof(uc));
	uc.name = c->name;
	uc.interface = c->interface[0] != '\0' ? c->interface : NULL;
	to_sockaddr(&c->local, &uc.local);
	uc.port = (uint16_t)c->port;
	uc.peers = peers;
	uc.n_peers = k;
	uc.rcvbuf_bytes = (int)c->rcvbuf;
	uc.sndbuf_bytes = (int)c->sndbuf;
	/* a peer may be configured to send longer ones */
	uc.max_payload = c->mtu > MAX_RECEIVED ? c->mtu : MAX_RECEIVED;
	uc.rx = on_datagram;
	uc.ctx = l;
	err[0] = '\0';
	if (link_udp_new(&l->udp, d->loop, &uc, err, sizeof(err)) < 0) {
		log_msg(LOG_ERR, "%s", err);
		return -1;
	}
	if (err[0] != '\0')
		log_msg(LOG_WARNING, "%s", err);
	return 0;
}

int
links_open(struct daemon *d)
{
	unsigned	 i;

	for (i = 0; i < d->nlinks; i++)
		if (open_one(d, i) < 0)
			return -1;
	return 0;
}

void
links_close(struct daemon *d)
{
	unsigned	 i;

	for (i = 0; i < d->nlinks; i++)
		link_udp_free(d->links[i].udp);
	d->nlinks = 0;
}

int
links_send(void *ctx, unsigned link, unsigned peer, const uint8_t *p, size_t len)
{
	struct daemon	*d = ctx;
	int		 k = d->links[link].index_of[peer];

	return k < 0 ? -ENOENT : link_udp_send(d->links[link].udp, k, p, len);
}

int
links_usable(void *ctx, unsigned link, unsigned peer)
{
	struct daemon	*d = ctx;
	int		 k = d->links[link].index_of[peer];

	return k >= 0 && link_udp_peer_up(d->links[link].udp, k);
}
