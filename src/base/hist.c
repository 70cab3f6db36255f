/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Classes: 0 to 7 by themselves, then eight for each power of two.
 */
#include <string.h>

#include "ctsync/hist.h"

static unsigned
class_of(uint32_t v)
{
	unsigned	 e;

	if (v < 8)
		return v;
	e = 31u - (unsigned)__builtin_clz(v);
	return (e - 2) * 8 + (v >> (e - 3) & 7);
}

/* Greatest value of a class. */
static uint32_t
top_of(unsigned c)
{
	unsigned	 e = c / 8 + 2;

	if (c < 8)
		return c;
	return (uint32_t)((((uint64_t)(8 + c % 8) + 1) << (e - 3)) - 1);
}

void
hist_add(struct hist *h, uint64_t now_us, uint32_t value, uint32_t n)
{
	uint64_t	 slot = now_us / HIST_SLOT_US;
	unsigned	 i;

	if (slot > h->slot + HIST_SLOTS)
		h->slot = slot - HIST_SLOTS;
	while (h->slot < slot) {
		i = (unsigned)(++h->slot % HIST_SLOTS);
		memset(h->n[i], 0, sizeof(h->n[i]));
		h->max[i] = 0;
	}
	i = (unsigned)(h->slot % HIST_SLOTS);
	h->n[i][class_of(value)] += n;
	if (value > h->max[i])
		h->max[i] = value;
}

static uint64_t
in_class(const struct hist *h, unsigned c)
{
	uint64_t	 n = 0;
	unsigned	 i;

	for (i = 0; i < HIST_SLOTS; i++)
		n += h->n[i][c];
	return n;
}

/* The least class top that at least so many values do not exceed. */
static uint32_t
at_rank(const struct hist *h, uint64_t rank)
{
	uint64_t	 n = 0;
	unsigned	 c;

	for (c = 0; c < HIST_CLASSES - 1; c++)
		if ((n += in_class(h, c)) >= rank)
			break;
	return top_of(c);
}

bool
hist_get(const struct hist *h, struct hist_summary *s)
{
	unsigned	 i, c;

	memset(s, 0, sizeof(*s));
	for (c = 0; c < HIST_CLASSES; c++)
		s->count += in_class(h, c);
	if (s->count == 0)
		return false;
	for (i = 0; i < HIST_SLOTS; i++)
		if (h->max[i] > s->max)
			s->max = h->max[i];
	s->median = at_rank(h, (s->count + 1) / 2);
	s->p99 = at_rank(h, s->count - s->count / 100);
	/* no class reaches further than what was seen */
	s->median = s->median < s->max ? s->median : s->max;
	s->p99 = s->p99 < s->max ? s->p99 : s->max;
	return true;
}
