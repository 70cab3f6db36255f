/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The set of addresses behind rtnl.c.
 *
 * Changes are rare and may be slow; questions come with every event.  The
 * index is never more than half full, so that a probe ends soon.  Addresses
 * are set by the administrator, so the hash needs no secret.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rtnl_set.h"

static size_t
hash(uint8_t family, const struct flow_addr *a)
{
	uint64_t	 w[2], h;

	memcpy(w, a->b, sizeof(w));
	h = (w[0] + family) * 0x9e3779b97f4a7c15u;
	h = (h ^ (h >> 29) ^ w[1]) * 0xbf58476d1ce4e5b9u;
	return (size_t)(h >> 32);
}

static bool
same_addr(const struct flow_addr *a, const struct flow_addr *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

void
rtnl_set_fini(struct rtnl_set *s)
{
	free(s->v);
	free(s->index);
	memset(s, 0, sizeof(*s));
}

size_t
rtnl_set_find(const struct rtnl_set *s, const struct rtnl_addr *a)
{
	size_t	 i;

	for (i = 0; i < s->n; i++)
		if (s->v[i].ifindex == a->ifindex && s->v[i].family == a->family &&
		    s->v[i].plen == a->plen && same_addr(&s->v[i].a, &a->a) &&
		    same_addr(&s->v[i].peer, &a->peer))
			break;
	return i;
}

int
rtnl_set_add(struct rtnl_set *s, const struct rtnl_addr *a)
{
	struct rtnl_addr	*v;
	size_t			 cap;

	if (s->n == s->cap) {
		cap = s->cap == 0 ? 32 : 2 * s->cap;
		if ((v = realloc(s->v, cap * sizeof(*v))) == NULL)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = *a;
	return 0;
}

void
rtnl_set_remove(struct rtnl_set *s, size_t pos)
{
	s->v[pos] = s->v[--s->n];
}

static void
index_add(struct rtnl_slot *index, size_t mask, uint8_t family, const struct flow_addr *a)
{
	size_t	 i;

	for (i = hash(family, a) & mask; index[i].family != 0; i = (i + 1) & mask)
		if (index[i].family == family && same_addr(&index[i].a, a))
			return;
	index[i].family = family;
	index[i].a = *a;
}

int
rtnl_set_index(struct rtnl_set *s)
{
	static const struct flow_addr	 none;
	struct rtnl_slot		*index;
	size_t				 slots = 64, i;

	while (slots < 4 * s->n)	/* address and broadcast, half full */
		slots *= 2;
	if ((index = calloc(slots, sizeof(*index))) == NULL)
		return -ENOMEM;
	for (i = 0; i < s->n; i++) {
		index_add(index, slots - 1, s->v[i].family, &s->v[i].a);
		if (!same_addr(&s->v[i].bcast, &none))
			index_add(index, slots - 1, s->v[i].family, &s->v[i].bcast);
	}
	free(s->index);
	s->index = index;
	s->mask = slots - 1;
	return 0;
}

bool
rtnl_set_has(const struct rtnl_set *s, uint8_t family, const struct flow_addr *a)
{
	size_t	 i;

	if (s->index == NULL)
		return false;
	for (i = hash(family, a) & s->mask; s->index[i].family != 0; i = (i + 1) & s->mask)
		if (s->index[i].family == family && same_addr(&s->index[i].a, a))
			return true;
	return false;
}

bool
rtnl_set_usable(const struct rtnl_set *s, uint8_t family, const struct flow_addr *a)
{
	size_t	 i;

	for (i = 0; i < s->n; i++)
		if (s->v[i].usable && s->v[i].family == family && same_addr(&s->v[i].a, a))
			return true;
	return false;
}
