/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Jobs for the kernel's table.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/ports.h"

struct kjob *
kjob_new(enum kop op, enum kowner owner)
{
	struct kjob	*j = malloc(sizeof(*j));

	if (j == NULL)
		return NULL;
	j->op = op;
	j->owner = owner;
	j->tag = 0;
	j->n = 0;
	j->updated = 0;
	j->lost_master = j->lost_helper = j->lost_labels = 0;
	j->flows = NULL;
	j->used = j->cap = 0;
	j->bytes = NULL;
	return j;
}

void
kjob_free(struct kjob *j)
{
	if (j == NULL)
		return;
	free(j->flows);
	free(j->bytes);
	free(j);
}

int
kjob_add(struct kjob *j, const uint8_t *body, size_t len, uint32_t timeout_s)
{
	struct kitem	*it;
	uint8_t		*p;
	size_t		 cap;

	if (j->n == KJOB_ITEMS_MAX || len > FLOW_BODY_MAX)
		return -ENOSPC;
	if (j->used + len > j->cap) {
		cap = j->cap == 0 ? 16384 : j->cap * 2;
		if ((p = realloc(j->bytes, cap)) == NULL)
			return -ENOMEM;
		j->bytes = p;
		j->cap = cap;
	}
	it = &j->items[j->n++];
	it->off = (uint32_t)j->used;
	it->len = (uint16_t)len;
	it->timeout_s = timeout_s;
	it->there = false;
	it->err = 0;
	memcpy(j->bytes + j->used, body, len);
	j->used += len;
	return 0;
}
