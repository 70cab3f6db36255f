/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Replay window: which counters of one sender were seen already.
 *
 * A bitmap of the last REPLAY_WINDOW counters that slides by whole words
 * (RFC 6479), so that advancing never shifts.  It authenticates nothing: the
 * caller checks first, opens the datagram, and only then updates.
 *
 * Invariant: a counter that replay_update() was given is refused for ever,
 * and so is each one that is REPLAY_WINDOW or more behind the highest.
 */
#ifndef CTSYNC_REPLAY_H
#define CTSYNC_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_WINDOW	4096
/* One word more than the window: the newest one is only partly in use. */
#define REPLAY_WORDS	(REPLAY_WINDOW / 64 + 1)

struct replay {
	uint64_t	 top;			/* highest counter seen */
	uint64_t	 bits[REPLAY_WORDS];
};

/* Begin at counter: it and all lower ones are refused from here on. */
void	replay_init_at(struct replay *w, uint64_t counter);
/* Was counter neither seen nor left behind?  Changes nothing. */
bool	replay_check(const struct replay *w, uint64_t counter);
/* Counter was authentic: remember it.  One that replay_check() refuses changes nothing. */
void	replay_update(struct replay *w, uint64_t counter);

#endif
