/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a comparison found.  Memory that is lacking costs the record of a flow,
 * never the count.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/verify.h"

#define FIRST_BYTES	4096u

void
verify_log_clear(struct verify_log *v)
{
	free(v->flows);
	free(v->bytes);
	memset(v, 0, sizeof(*v));
}

static bool
reserve(struct verify_log *v, size_t len)
{
	struct verify_flow	*flows;
	uint8_t			*p;
	size_t			 cap = v->cap == 0 ? FIRST_BYTES : v->cap;

	if (v->flows == NULL) {
		if ((flows = calloc(VERIFY_FLOWS_MAX, sizeof(*flows))) == NULL)
			return false;
		v->flows = flows;
	}
	while (cap < v->used + len)
		cap *= 2;
	if (cap == v->cap)
		return true;
	if ((p = realloc(v->bytes, cap)) == NULL)
		return false;
	v->bytes = p;
	v->cap = cap;
	return true;
}

void
verify_log_add(struct verify_log *v, enum verify_kind kind, const uint8_t *here, size_t here_len,
    const uint8_t *there, size_t there_len)
{
	struct verify_flow	*f;

	v->count[kind]++;
	if (here == NULL || here_len > FLOW_BODY_MAX)
		here_len = 0;
	if (there == NULL || there_len > FLOW_BODY_MAX)
		there_len = 0;
	if (v->n == VERIFY_FLOWS_MAX || here_len + there_len == 0 ||
	    !reserve(v, here_len + there_len))
		return;
	f = &v->flows[v->n++];
	f->kind = kind;
	f->off = (uint32_t)v->used;
	f->here_len = (uint16_t)here_len;
	f->there_len = (uint16_t)there_len;
	if (here_len > 0)
		memcpy(v->bytes + v->used, here, here_len);
	if (there_len > 0)
		memcpy(v->bytes + v->used + here_len, there, there_len);
	v->used += here_len + there_len;
}

const uint8_t *
verify_log_here(const struct verify_log *v, uint32_t i, size_t *len)
{
	*len = v->flows[i].here_len;
	return *len == 0 ? NULL : v->bytes + v->flows[i].off;
}

const uint8_t *
verify_log_there(const struct verify_log *v, uint32_t i, size_t *len)
{
	*len = v->flows[i].there_len;
	return *len == 0 ? NULL : v->bytes + v->flows[i].off + v->flows[i].here_len;
}

uint64_t
verify_log_total(const struct verify_log *v)
{
	uint64_t	 sum = 0;
	unsigned	 k;

	for (k = 0; k < VERIFY_KINDS; k++)
		sum += v->count[k];
	return sum;
}
