/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The bitmap is a ring of words, indexed by counter / 64.  Words between the
 * old and the new top are cleared when top moves; what lies behind the window
 * is refused by arithmetic, so stale bits there are never looked at.
 */
#include <string.h>

#include "ctsync/replay.h"

static uint64_t *
word_of(struct replay *w, uint64_t counter)
{
	return &w->bits[(counter >> 6) % REPLAY_WORDS];
}

static uint64_t
bit_of(uint64_t counter)
{
	return (uint64_t)1 << (counter & 63);
}

void
replay_init_at(struct replay *w, uint64_t counter)
{
	memset(w->bits, 0xff, sizeof(w->bits));
	w->top = counter;
	/* Up to and with counter: seen.  Above it, in the same word: new. */
	*word_of(w, counter) = bit_of(counter) | (bit_of(counter) - 1);
}

bool
replay_check(const struct replay *w, uint64_t counter)
{
	if (counter > w->top)
		return true;
	if (w->top - counter >= REPLAY_WINDOW)
		return false;
	return (w->bits[(counter >> 6) % REPLAY_WORDS] & bit_of(counter)) == 0;
}

static void
advance(struct replay *w, uint64_t counter)
{
	uint64_t	 from = w->top >> 6, n = (counter >> 6) - from, i;

	if (n > REPLAY_WORDS)
		n = REPLAY_WORDS;
	for (i = 1; i <= n; i++)
		w->bits[(from + i) % REPLAY_WORDS] = 0;
	w->top = counter;
}

void
replay_update(struct replay *w, uint64_t counter)
{
	if (!replay_check(w, counter))
		return;
	if (counter > w->top)
		advance(w, counter);
	*word_of(w, counter) |= bit_of(counter);
}
