/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What session.c (state, timers), session_hello.c (who is there) and
 * session_signal.c (what peers tell each other beside the feed) share.
 */
#ifndef SESSION_PRIV_H
#define SESSION_PRIV_H

#include "gate.h"
#include "session.h"

#define SESSION_RETIRED_MAX	16
#define SESSION_REPLAYED_MAX	16
#define SESSION_LOST_US		1000000
#define SESSION_LINK_DEAD_US	350000

enum session_event {
	SESSION_EV_HEARD,	/* something authentic came */
	SESSION_EV_EPOCH,	/* a new epoch was accepted */
	SESSION_EV_CONFIRMED,	/* it has accepted our epoch */
	SESSION_EV_SILENT,
	SESSION_EV_AGED,	/* silent for very long */
	SESSION_EV_FORGOTTEN,	/* by an operator */
	SESSION_EVENTS
};

struct rate_limit {
	uint64_t	 at_us;
	uint32_t	 tokens;
};

/* Hellos of an unknown epoch that we answered: an old one is answered once. */
struct hello_answered {
	uint64_t	 epoch, counter, at_us;
};

struct session_link {
	uint64_t	 rx_us;		/* last authentic packet over this link, 0: never */
	bool		 heard;		/* the peer said that this link brings it ours */
};

struct session {
	char			 name[WIRE_NODE_MAX + 1];
	uint64_t		 id;
	unsigned		 peer;
	enum session_state	 state;

	/* session_hello.c */
	uint64_t		 epoch;		/* accepted one, 0: none */
	struct seal_rx		*rx;
	bool			 confirmed;	/* it has accepted our epoch */
	uint64_t		 retired[SESSION_RETIRED_MAX];
	unsigned		 nretired;
	struct hello_answered	 answered[SESSION_REPLAYED_MAX];
	struct rate_limit	 open_limit, reply_limit;
	struct wire_boot	 boot;
	uint64_t		 hello_us;	/* last one sent */
	uint64_t		 hellos, accepted;

	/* session_signal.c */
	uint64_t		 signal_us, requests_us;	/* last ones sent */
	bool			 leaving;	/* it said so */
	uint64_t		 stamp;		/* of its last report, 0: none */
	bool			 stamp_new;	/* not echoed yet */
	struct wire_report	 report;
	uint64_t		 report_us;
	uint32_t		 restart;	/* stream to say RESTART about, 0: none */
	uint64_t		 signals;

	/* session.c */
	uint64_t		 rx_us;		/* last authentic packet, 0: never */
	uint64_t		 greeting_us;	/* since when it is heard without having confirmed */
	uint64_t		 deaf_us;	/* since when no link brings it ours, as it says; 0: some does */
	struct session_link	 links[NODE_LINKS_MAX];
	uint64_t		 refused_us;	/* when something in its name was last refused, 0: never */
	enum node_reject	 refused_why;
	bool			 equal_at_loss;
	struct log_limit	 log;
};

/* session.c */
void	session_move(struct node *n, struct session *s, enum session_event ev);
/* Something authentic came over a link. */
void	session_note_alive(struct node *n, struct session *s, unsigned link);

/* session_hello.c */
void	session_hello_in(struct node *n, struct session *s, unsigned link,
	    const struct seal_header *sh, const uint8_t *p, size_t len);
/* Hellos on all links. */
void	session_greet(struct node *n, struct session *s);
bool	session_retired(const struct session *s, uint64_t epoch);
/* Take a token for opening a hello of an epoch that is not accepted. */
bool	session_may_open(struct node *n, struct session *s);

/* session_signal.c */
void	session_signal_in(struct node *n, struct session *s, unsigned link, const uint8_t *p,
	    size_t len);

#endif
