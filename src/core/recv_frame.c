/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Decoding of frames (doc/wire.md, section 2.2).  A record that cannot be read
 * makes the whole frame malformed; one that only a later version understands is
 * noted as refused.
 */
#include <errno.h>
#include <string.h>

#include "ctsync/flow.h"
#include "recv_frame.h"

#define JOIN_SEQ_MAX	(UINT64_MAX / 2)	/* counting on from there never wraps */

static bool
parse_flow(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct record	*rec;
	struct flow	 flow;
	int		 rc;

	if (f->n == RECORDS_MAX)
		return false;
	rec = &f->rec[f->n];
	if (!rbuf_u32(b, &rec->timeout_s))
		return false;
	rc = flow_unpack(b->p, b->len, &flow);
	if (rc < 0 && rc != -EPROTONOSUPPORT)
		return false;
	rec->refused = rc < 0;
	rec->gone = false;
	rec->told = f->told;
	rec->ours = f->told_ours;
	f->ntold += f->told;
	rec->body = b->p;
	rec->len = (uint16_t)b->len;
	rec->klen = (uint16_t)flow_key_len(b->p, b->len);
	rec->hash = ftab_hash(r->tab, rec->body, rec->klen);
	ftab_prefetch(r->tab, rec->hash);
	f->n++;
	return true;
}

static bool
parse_gone(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct record	*rec;

	if (f->n == RECORDS_MAX || b->len == 0 || flow_key_len(b->p, b->len) != b->len)
		return false;
	rec = &f->rec[f->n++];
	rec->gone = true;
	rec->removed = f->removed;
	f->removed = false;
	rec->told = false;
	rec->refused = false;
	rec->timeout_s = 0;
	rec->body = b->p;
	rec->len = rec->klen = (uint16_t)b->len;
	rec->hash = ftab_hash(r->tab, rec->body, rec->klen);
	ftab_prefetch(r->tab, rec->hash);
	return true;
}

static bool
parse_echoed(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct wire_echoed	 e;

	if (!wire_get_echoed(b, &e))
		return false;
	if (e.id == r->conf.my_id && e.epoch == r->conf.my_epoch) {
		f->echoed = e.stamp;
		f->echo_held_us = e.held_us;
	}
	return true;
}

static bool
is_ours(const struct recv *r, const struct wire_snap *of)
{
	return of->id == r->conf.my_id && of->nonce == r->mend.nonce;
}

static bool
parse_snap(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct wire_snap	 s;

	if (!wire_get_snap(b, &s))
		return false;
	if (is_ours(r, &s)) {
		f->snap = s;
		f->has_snap = true;
	} else
		f->others = true;
	return true;
}

static bool
parse_sums(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct wire_sums	 s;

	if (!wire_get_sums(b, &s))
		return false;
	if (is_ours(r, &s.of)) {
		if (f->has_sums)
			return false;
		f->sums = s;
		f->has_sums = true;
	} else
		f->others = true;
	return true;
}

static bool
parse_retell(struct recv *r, struct parsed *f, struct rbuf *b)
{
	struct wire_retell	 t;

	if (!wire_get_retell(b, &t))
		return false;
	f->told = t.what == WIRE_RETELL_TOLD;
	f->told_ours = f->told && is_ours(r, &t.of);
	if (!is_ours(r, &t.of)) {
		f->others = true;
		return true;
	}
	f->mend_begin |= t.what == WIRE_RETELL_BEGIN;
	f->mend_end |= t.what == WIRE_RETELL_END;
	return true;
}

static bool
parse_join(struct parsed *f, struct rbuf *b)
{
	if (!wire_get_join(b, &f->join) || f->join.stream == 0 || f->join.seq == 0 ||
	    f->join.seq > JOIN_SEQ_MAX)
		return false;
	f->has_join = true;
	return true;
}

static bool
parse_record(struct recv *r, struct parsed *f, uint8_t kind, struct rbuf *b)
{
	switch (kind) {
	case WIRE_FLOW:
		return parse_flow(r, f, b);
	case WIRE_GONE:
		return parse_gone(r, f, b);
	case WIRE_POS:
		return f->has_pos = wire_get_pos(b, &f->here);
	case WIRE_BACK:
		return f->has_back = wire_get_back(b, &f->back);
	case WIRE_START:
		return f->has_start = wire_get_start(b, &f->start);
	case WIRE_HORIZON:
		return f->has_horizon = wire_get_u64(b, &f->horizon);
	case WIRE_JOIN:
		return parse_join(f, b);
	case WIRE_DIGEST:
		return f->has_digest = wire_get_digest(b, &f->digest);
	case WIRE_DOUBT:
		return f->has_doubt = wire_get_doubt(b, &f->doubt);
	case WIRE_ECHOED:
		return parse_echoed(r, f, b);
	case WIRE_SNAP:
		return parse_snap(r, f, b);
	case WIRE_SUMS:
		return parse_sums(r, f, b);
	case WIRE_RETELL:
		return parse_retell(r, f, b);
	case WIRE_REMOVED:
		f->removed = true;
		return b->len == 0;
	default:
		return !(kind & WIRE_MUST);
	}
}

bool
recv_parse(struct recv *r, struct parsed *f, const uint8_t *p, size_t len)
{
	struct rbuf	 in, body;
	uint8_t		 kind;

	memset(f, 0, offsetof(struct parsed, rec));
	rbuf_init(&in, p, len);
	if (!rbuf_skip(&in, WIRE_SEQ_BYTES))
		return false;
	while (wire_next(&in, &kind, &body))
		if (!parse_record(r, f, kind, &body))
			return false;
	return in.len == 0 && f->has_pos;
}
