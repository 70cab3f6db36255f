/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What ctlsrv.c (clients) and ctlsrv_listen.c (the socket and its rights) share.
 *
 * The server owns its clients, a client its buffers; a request is part of its
 * client, and its id is 0 whenever there is nothing to answer.
 */
#ifndef CTLSRV_PRIV_H
#define CTLSRV_PRIV_H

#include <ev.h>

#include "ctsync/ctlsrv.h"
#include "ctsync/log.h"

enum client_state {
	C_READING,		/* a request */
	C_CALLED,		/* the handler runs */
	C_HELD,			/* the handler answers later */
	C_STREAMING,		/* a producer has more */
	C_DRAINING,		/* the answer is complete */
	C_CLOSING		/* the same, and then it is dropped */
};

struct ctlsrv_req {
	struct client	*client;
	uint64_t	 id;
};

struct client {
	struct ctlsrv			*srv;
	struct client			*next, **prevp;
	ev_io				 io;
	ev_timer			 stall;
	int				 io_events;	/* that are watched */
	int				 fd;
	uint64_t			 id;
	uid_t				 uid;
	pid_t				 pid;
	bool				 may_all;
	enum client_state		 state;
	struct ctlsrv_req		 req;
	uint8_t				*rx, *tx;
	size_t				 rx_len, rx_cap;
	size_t				 tx_off, tx_len, tx_cap;
	const struct ctlsrv_producer	*prod;
	void				*prod_ctx;
	void				(*gone)(void *, uint64_t);
	void				*gone_ctx;
};

struct ctlsrv {
	struct ev_loop			*loop;
	const struct ctlsrv_cmd		*cmds;
	size_t				 ncmds;
	void				*ctx;		/* of the handlers */
	struct client			*clients;
	uint64_t			 last_id, last_client;
	uid_t				 uid;
	gid_t				 gid, ro_gid;
	unsigned			 max_clients;
	double				 stall_s;
	char				*path;
	int				 fd;
	ev_io				 accept;
	ev_timer			 rest;		/* after accept(2) failed */
	struct log_limit		 limit;
	struct ctlsrv_stats		 stats;
};

struct ctlsrv_cred {
	uid_t	 uid;
	pid_t	 pid;
	bool	 may_all;
	bool	 may_read;
};

/* Takes over fd on success; 0 or -ENOMEM. */
int	ctlsrv_client_new(struct ctlsrv *srv, int fd, const struct ctlsrv_cred *cred);
void	ctlsrv_clients_free(struct ctlsrv *srv);

#endif
