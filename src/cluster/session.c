/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session: its state, its links, its timers.
 *
 * The state changes in one function, by what has happened, and each change is
 * said once with its cause.  Silence is noticed by the clock: whoever asks for
 * the state after a second without a packet hears "lost", whether or not the
 * timers have had their turn since.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ownership.h"
#include "session_priv.h"
#include "takeover.h"

#define HELLO_FAST_US	200000		/* at first, and while somebody wants in */
#define HELLO_SLOW_US	1000000
#define YOUNG_US	10000000
#define SIGNAL_US	100000
#define FORGET_US	3600000000u	/* who is lost for so long gets everything anew */
/* A proof that was so old when the peer fell silent is one of what it had. */
#define EQUAL_AT_LOSS_US	500000
#define REFUSED_US	3000000u	/* refusals count for so long */
#define DEAF_US		3000000u	/* a peer that does not hear us for so long refuses us */

struct session *
session_new(struct node *n, unsigned peer, const char *name, int *err)
{
	struct session	*s;

	*err = -EINVAL;
	if (strlen(name) > WIRE_NODE_MAX)
		return NULL;
	*err = -ENOMEM;
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	memcpy(s->name, name, strlen(name) + 1);
	s->peer = peer;
	s->log = (struct log_limit)LOG_LIMIT_INIT;
	if ((*err = seal_node_id(n->conf.cluster, name, &s->id)) < 0) {
		free(s);
		return NULL;
	}
	return s;
}

void
session_free(struct session *s)
{
	if (s == NULL)
		return;
	seal_rx_free(s->rx);
	free(s);
}

int
session_set_ring(struct session *s, struct seal_ring *ring)
{
	return s->rx == NULL ? 0 : seal_rx_set_ring(s->rx, ring);
}

/* --- the state machine ----------------------------------------------------------- */

/* Where an event leads; a new epoch begins with a greeting, whatever was before. */
static enum session_state
next_state(const struct session *s, enum session_event ev)
{
	switch (ev) {
	case SESSION_EV_HEARD:
	case SESSION_EV_CONFIRMED:
		return s->epoch != 0 && s->confirmed ? SESSION_UP : SESSION_GREETING;
	case SESSION_EV_EPOCH:
		return SESSION_GREETING;
	case SESSION_EV_SILENT:
		return s->state == SESSION_UNSEEN || s->state == SESSION_FORGOTTEN ? s->state :
		    SESSION_LOST;
	case SESSION_EV_AGED:
		return s->state == SESSION_LOST ? SESSION_FORGOTTEN : s->state;
	case SESSION_EV_FORGOTTEN:
		return SESSION_UNSEEN;
	case SESSION_EVENTS:
		break;
	}
	return s->state;
}

static void
lost(struct node *n, struct session *s)
{
	struct recv	*r = n->recv[s->peer];

	s->equal_at_loss = recv_was_equal(r) && recv_verified_us(r) + EQUAL_AT_LOSS_US >= s->rx_us;
	log_msg(LOG_WARNING, "%s is silent for %u ms: lost; its %u flows are kept%s", s->name,
	    SESSION_LOST_US / 1000, ftab_count(recv_table(r)),
	    s->equal_at_loss ? ", equal to what it had" : ", NOT verified to be equal");
	ownership_lost(n, s->peer);
}

void
session_move(struct node *n, struct session *s, enum session_event ev)
{
	enum session_state	 was = s->state, is = next_state(s, ev);

	if (ev == SESSION_EV_EPOCH)
		log_msg(LOG_NOTICE, "%s is there (epoch %016llx)", s->name, (unsigned long long)s->epoch);
	if (is == SESSION_GREETING && (was != is || ev == SESSION_EV_EPOCH))
		s->greeting_us = n->now_us;
	if (was == is)
		return;
	s->state = is;
	switch (is) {
	case SESSION_LOST:
		lost(n, s);
		break;
	case SESSION_FORGOTTEN:
		feed_forget(n->feed, s->peer);
		log_msg(LOG_NOTICE, "%s is gone for long: nothing is kept for it any more; it will get a "
		    "full synchronisation", s->name);
		break;
	case SESSION_UNSEEN:
		log_msg(LOG_NOTICE, "%s is forgotten, with the %u flows that it told", s->name,
		    ftab_count(recv_table(n->recv[s->peer])));
		break;
	case SESSION_GREETING:
	case SESSION_UP:
		if (was == SESSION_LOST || was == SESSION_FORGOTTEN)
			log_msg(LOG_NOTICE, "%s is back", s->name);
		if ((was == SESSION_LOST || was == SESSION_FORGOTTEN) && is == SESSION_UP)
			ownership_back(n, s->peer);
		break;
	case SESSION_STATES:
		break;
	}
}

/* Was something heard lately? */
static bool
alive(const struct node *n, const struct session *s)
{
	return s->rx_us != 0 && n->now_us - s->rx_us < SESSION_LOST_US;
}

enum session_state
session_state(const struct node *n, const struct session *s)
{
	if ((s->state == SESSION_UP || s->state == SESSION_GREETING) && !alive(n, s))
		return SESSION_LOST;
	return s->state;
}

bool
session_up(const struct node *n, const struct session *s)
{
	return session_state(n, s) == SESSION_UP;
}

/* --- datagrams --------------------------------------------------------------------- */

struct seal_rx *
session_rx(struct session *s, uint64_t epoch)
{
	return epoch == s->epoch ? s->rx : NULL;
}

bool
session_admits(struct node *n, struct session *s, unsigned link, const struct seal_header *sh)
{
	if (session_rx(s, sh->epoch) != NULL)
		return true;
	if (sh->type != SEAL_HELLO) {
		/* the rest of an epoch that has just ended is nothing to worry about */
		gate_count(n, link, session_retired(s, sh->epoch) ? REJ_RETIRED_EPOCH :
		    REJ_UNKNOWN_EPOCH);
		return false;
	}
	if (sh->epoch == 0 || session_retired(s, sh->epoch)) {
		gate_reject(n, link, REJ_RETIRED_EPOCH, s->name);
		return false;
	}
	if (!session_may_open(n, s)) {
		gate_reject(n, link, REJ_RATE, s->name);
		return false;
	}
	return true;
}

void
session_refused(struct node *n, struct session *s, unsigned link, enum node_reject why)
{
	if (why == REJ_BAD_TAG || why == REJ_UNKNOWN_KEY || why == REJ_VERSION) {
		s->refused_us = n->now_us;
		s->refused_why = why;
	}
	gate_reject(n, link, why, s->name);
}

static void
frame_in(struct node *n, struct session *s, unsigned link, uint32_t stream, const uint8_t *p,
    size_t len)
{
	struct recv	*r = n->recv[s->peer];
	bool		 before = recv_refused(r);

	if (recv_frame(r, stream, p, len, n->now_us) < 0)
		gate_reject(n, link, REJ_MALFORMED, s->name);
	if (!before && recv_refused(r))
		log_msg(LOG_WARNING, "%s sends flows that only a newer version understands: they are left "
		    "out, and this node is not ready for it; upgrade it", s->name);
}

void
session_note_alive(struct node *n, struct session *s, unsigned link)
{
	s->rx_us = n->now_us;
	s->links[link].rx_us = n->now_us;
	session_move(n, s, SESSION_EV_HEARD);
}

void
session_input(struct node *n, struct session *s, unsigned link, const struct seal_header *sh,
    const uint8_t *p, size_t len)
{
	if (sh->type == SEAL_HELLO)
		session_hello_in(n, s, link, sh, p, len);
	else if (sh->stream == 0)
		session_signal_in(n, s, link, p, len);
	else {
		session_note_alive(n, s, link);
		frame_in(n, s, link, sh->stream, p, len);
	}
}

/* --- what it knows ------------------------------------------------------------------ */

const char *
session_name(const struct session *s)
{
	return s->name;
}

uint64_t
session_id(const struct session *s)
{
	return s->id;
}

uint64_t
session_epoch(const struct session *s)
{
	return s->epoch;
}

uint64_t
session_heard_us(const struct session *s)
{
	return s->rx_us;
}

bool
session_equal_at_loss(const struct session *s)
{
	return s->equal_at_loss;
}

bool
session_leaving(const struct session *s)
{
	return s->leaving;
}

bool
session_refusing(const struct node *n, const struct session *s, enum node_reject *why)
{
	*why = s->refused_why;
	return s->refused_us != 0 && n->now_us - s->refused_us < REFUSED_US && !alive(n, s);
}

bool
session_refuses_us(const struct node *n, const struct session *s)
{
	if (!alive(n, s))
		return false;
	if (session_state(n, s) == SESSION_GREETING)
		return n->now_us - s->greeting_us >= DEAF_US;
	return s->deaf_us != 0 && n->now_us - s->deaf_us >= DEAF_US;
}

static bool
brings(const struct node *n, const struct session *s, unsigned link)
{
	return s->links[link].rx_us != 0 &&
	    n->now_us - s->links[link].rx_us < SESSION_LINK_DEAD_US;
}

bool
session_link_healthy(const struct node *n, const struct session *s, unsigned link)
{
	return brings(n, s, link) && s->links[link].heard;
}

/* The first link that works both ways; else one that works one way; else any. */
int
session_link(const struct node *n, const struct session *s)
{
	int		 best = -1, grade, best_grade = 0;
	unsigned	 i;

	for (i = 0; i < n->conf.nlinks; i++) {
		if (!n->ops->link.usable(n->ctx, i, s->peer))
			continue;
		grade = 1;
		if (brings(n, s, i))
			grade = s->links[i].heard ? 3 : 2;
		if (grade > best_grade) {
			best = (int)i;
			best_grade = grade;
		}
	}
	return best;
}

const struct wire_report *
session_report(const struct session *s, uint64_t *at_us)
{
	*at_us = s->report_us;
	return &s->report;
}

bool
session_take_stamp(struct session *s, uint64_t *stamp, uint64_t *at_us)
{
	*stamp = s->stamp;
	*at_us = s->report_us;
	if (!s->stamp_new)
		return false;
	s->stamp_new = false;
	return true;
}

void
session_counts(const struct session *s, uint64_t *hellos, uint64_t *signals, uint64_t *accepted)
{
	*hellos = s->hellos;
	*signals = s->signals;
	*accepted = s->accepted;
}

/* --- what others want ------------------------------------------------------------------ */

void
session_restart(struct session *s, uint32_t stream)
{
	s->restart = stream;
}

void
session_flushed(struct session *s)
{
	s->equal_at_loss = false;
}

/*
 * The epoch stays: if the peer lives, it holds us for the one that it knows,
 * and goes on with its epoch, its counters and our nonces.
 */
int
session_forget(struct node *n, struct session *s)
{
	if (alive(n, s))
		return -EBUSY;
	session_move(n, s, SESSION_EV_FORGOTTEN);
	memset(s->links, 0, sizeof(s->links));
	s->rx_us = s->report_us = s->refused_us = s->deaf_us = 0;
	s->leaving = s->equal_at_loss = s->stamp_new = false;
	s->restart = 0;
	return 0;
}

/* --- timers ------------------------------------------------------------------------------ */

static uint64_t
hello_every(const struct node *n, const struct session *s)
{
	/* quickly while young or while a session is half made, slowly to who is gone */
	if (n->now_us - n->born_us < YOUNG_US || (s->epoch != 0 && !s->confirmed))
		return HELLO_FAST_US;
	return HELLO_SLOW_US;
}

void
session_run(struct node *n, struct session *s)
{
	if (s->rx_us != 0 && n->now_us - s->rx_us >= SESSION_LOST_US)
		session_move(n, s, SESSION_EV_SILENT);
	if (s->rx_us != 0 && n->now_us - s->rx_us >= FORGET_US)
		session_move(n, s, SESSION_EV_AGED);
	if (session_up(n, s))
		recv_silence(n->recv[s->peer], n->now_us);
	if (!session_up(n, s) && n->now_us - s->hello_us >= hello_every(n, s))
		session_greet(n, s);
	if (s->epoch == 0)
		return;
	if (n->now_us - s->signal_us >= SIGNAL_US)
		session_signal(n, s, true);
	else if (recv_ack_due_us(n->recv[s->peer]) <= n->now_us || s->restart != 0)
		session_signal(n, s, false);
}

uint64_t
session_due(const struct node *n, const struct session *s)
{
	uint64_t	 due = UINT64_MAX, t;

	if (!session_up(n, s))
		due = s->hello_us + hello_every(n, s);
	if (s->epoch == 0)
		return due;
	t = s->signal_us + SIGNAL_US;
	if (t < due)
		due = t;
	t = recv_ack_due_us(n->recv[s->peer]);
	return t < due ? t : due;
}
