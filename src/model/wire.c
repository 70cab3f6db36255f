/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records, one writer and one reader each (doc/wire.md, section 2).
 */
#include "ctsync/wire.h"

static void
put_versions_of(struct wbuf *w, const struct wire_pos *p)
{
	int	 l;

	for (l = 0; l < WIRE_LANES; l++)
		wbuf_u64(w, p->v[l]);
}

static bool
get_versions_of(struct rbuf *r, struct wire_pos *p)
{
	int	 l;

	for (l = 0; l < WIRE_LANES; l++)
		if (!rbuf_u64(r, &p->v[l]))
			return false;
	return true;
}

void
wire_put_pos(struct wbuf *w, const struct wire_here *p)
{
	wire_put_head(w, WIRE_POS, 24);
	put_versions_of(w, &p->live);
	wbuf_u64(w, p->version);
}

bool
wire_get_pos(struct rbuf *r, struct wire_here *p)
{
	return get_versions_of(r, &p->live) && rbuf_u64(r, &p->version) && r->len == 0;
}

void
wire_put_back(struct wbuf *w, const struct wire_back *b)
{
	wire_put_head(w, WIRE_BACK, 32);
	put_versions_of(w, &b->b);
	put_versions_of(w, &b->t);
}

bool
wire_get_back(struct rbuf *r, struct wire_back *b)
{
	return get_versions_of(r, &b->b) && get_versions_of(r, &b->t) && r->len == 0;
}

void
wire_put_start(struct wbuf *w, const struct wire_start *s)
{
	wire_put_head(w, WIRE_START, 25);
	wbuf_u64(w, s->nonce);
	wbuf_u8(w, s->flags);
	put_versions_of(w, &s->j);
}

bool
wire_get_start(struct rbuf *r, struct wire_start *s)
{
	return rbuf_u64(r, &s->nonce) && rbuf_u8(r, &s->flags) &&
	    get_versions_of(r, &s->j) && r->len == 0;
}

void
wire_put_horizon(struct wbuf *w, uint64_t h)
{
	wire_put_head(w, WIRE_HORIZON, 8);
	wbuf_u64(w, h);
}

bool
wire_get_u64(struct rbuf *r, uint64_t *v)
{
	return r->len == 8 && rbuf_u64(r, v);
}

bool
wire_get_u32(struct rbuf *r, uint32_t *v)
{
	return r->len == 4 && rbuf_u32(r, v);
}

void
wire_put_join(struct wbuf *w, const struct wire_join *j)
{
	wire_put_head(w, WIRE_JOIN, 12);
	wbuf_u32(w, j->stream);
	wbuf_u64(w, j->seq);
}

bool
wire_get_join(struct rbuf *r, struct wire_join *j)
{
	return rbuf_u32(r, &j->stream) && rbuf_u64(r, &j->seq) && r->len == 0;
}

void
wire_put_digest(struct wbuf *w, const struct wire_digest *d)
{
	wire_put_head(w, WIRE_DIGEST, 12);
	wbuf_u64(w, d->sum);
	wbuf_u32(w, d->flows);
}

bool
wire_get_digest(struct rbuf *r, struct wire_digest *d)
{
	return rbuf_u64(r, &d->sum) && rbuf_u32(r, &d->flows) && r->len == 0;
}

void
wire_put_doubt(struct wbuf *w, const struct wire_doubt *d)
{
	wire_put_head(w, WIRE_DOUBT, 13);
	wbuf_u32(w, d->kernel_us);
	wbuf_u32(w, d->pending_us);
	wbuf_u8(w, d->flags);
	wbuf_u32(w, d->clock_us);
}

bool
wire_get_doubt(struct rbuf *r, struct wire_doubt *d)
{
	return rbuf_u32(r, &d->kernel_us) && rbuf_u32(r, &d->pending_us) &&
	    rbuf_u8(r, &d->flags) && rbuf_u32(r, &d->clock_us) && r->len == 0;
}

void
wire_put_echoed(struct wbuf *w, const struct wire_echoed *e)
{
	wire_put_head(w, WIRE_ECHOED, 28);
	wbuf_u64(w, e->id);
	wbuf_u64(w, e->epoch);
	wbuf_u64(w, e->stamp);
	wbuf_u32(w, e->held_us);
}

bool
wire_get_echoed(struct rbuf *r, struct wire_echoed *e)
{
	return rbuf_u64(r, &e->id) && rbuf_u64(r, &e->epoch) && rbuf_u64(r, &e->stamp) &&
	    rbuf_u32(r, &e->held_us) && r->len == 0;
}

static void
put_of(struct wbuf *w, const struct wire_snap *s)
{
	wbuf_u64(w, s->id);
	wbuf_u64(w, s->nonce);
}

static bool
get_of(struct rbuf *r, struct wire_snap *s)
{
	return rbuf_u64(r, &s->id) && rbuf_u64(r, &s->nonce);
}

void
wire_put_snap(struct wbuf *w, const struct wire_snap *s)
{
	wire_put_head(w, WIRE_SNAP, 16);
	put_of(w, s);
}

bool
wire_get_snap(struct rbuf *r, struct wire_snap *s)
{
	return get_of(r, s) && r->len == 0;
}

void
wire_put_sums(struct wbuf *w, const struct wire_sums *s)
{
	unsigned	 i;

	wire_put_head(w, WIRE_SUMS, 18 + 8 * (size_t)s->n);
	put_of(w, &s->of);
	wbuf_u16(w, s->first);
	for (i = 0; i < s->n; i++)
		wbuf_u64(w, s->sum[i]);
}

bool
wire_get_sums(struct rbuf *r, struct wire_sums *s)
{
	unsigned	 i;

	if (r->len < 26 || (r->len - 18) % 8 != 0 || (r->len - 18) / 8 > WIRE_SUMS_MAX)
		return false;
	s->n = (uint16_t)((r->len - 18) / 8);
	if (!get_of(r, &s->of) || !rbuf_u16(r, &s->first) || s->first + s->n > (int)WIRE_BUCKETS)
		return false;
	for (i = 0; i < s->n; i++)
		if (!rbuf_u64(r, &s->sum[i]))
			return false;
	return r->len == 0;
}

void
wire_put_retell(struct wbuf *w, const struct wire_retell *t)
{
	wire_put_head(w, WIRE_RETELL, 17);
	put_of(w, &t->of);
	wbuf_u8(w, t->what);
}

bool
wire_get_retell(struct rbuf *r, struct wire_retell *t)
{
	return get_of(r, &t->of) && rbuf_u8(r, &t->what) && t->what >= WIRE_RETELL_BEGIN &&
	    t->what <= WIRE_RETELL_END && r->len == 0;
}

static void
put_check(struct wbuf *w, const struct wire_check *c)
{
	wbuf_u64(w, c->nonce);
	wbuf_u32(w, c->stream);
}

static bool
get_check(struct rbuf *r, struct wire_check *c)
{
	return rbuf_u64(r, &c->nonce) && rbuf_u32(r, &c->stream);
}

void
wire_put_check(struct wbuf *w, const struct wire_check *c)
{
	wire_put_head(w, WIRE_CHECK, 12);
	put_check(w, c);
}

bool
wire_get_check(struct rbuf *r, struct wire_check *c)
{
	return get_check(r, c) && r->len == 0;
}

void
wire_put_mend(struct wbuf *w, const struct wire_mend *m)
{
	wire_put_head(w, WIRE_MEND, 12 + sizeof(m->map));
	put_check(w, &m->of);
	wbuf_bytes(w, m->map, sizeof(m->map));
}

bool
wire_get_mend(struct rbuf *r, struct wire_mend *m)
{
	return r->len == 12 + sizeof(m->map) && get_check(r, &m->of) &&
	    rbuf_bytes(r, m->map, sizeof(m->map));
}

void
wire_put_dst(struct wbuf *w, const struct wire_dst *d)
{
	wire_put_head(w, WIRE_DST, 16);
	wbuf_u64(w, d->id);
	wbuf_u64(w, d->epoch);
}

bool
wire_get_dst(struct rbuf *r, struct wire_dst *d)
{
	return rbuf_u64(r, &d->id) && rbuf_u64(r, &d->epoch) && r->len == 0;
}

void
wire_put_probe(struct wbuf *w, const struct wire_probe *p)
{
	wire_put_head(w, WIRE_PROBE, 5);
	wbuf_u8(w, p->flags);
	wbuf_u32(w, p->term);
}

bool
wire_get_probe(struct rbuf *r, struct wire_probe *p)
{
	return rbuf_u8(r, &p->flags) && rbuf_u32(r, &p->term) && p->term <= WIRE_TERM_MAX &&
	    r->len == 0;
}

void
wire_put_ack(struct wbuf *w, const struct wire_ack *a)
{
	int	 i;

	wire_put_head(w, WIRE_ACK, 12 + 4 * (size_t)a->ngaps);
	wbuf_u32(w, a->stream);
	wbuf_u64(w, a->seq);
	for (i = 0; i < a->ngaps; i++) {
		wbuf_u16(w, a->gaps[i].first);
		wbuf_u16(w, a->gaps[i].count);
	}
}

bool
wire_get_ack(struct rbuf *r, struct wire_ack *a)
{
	int	 i;

	if (r->len < 12 || (r->len - 12) % 4 != 0 || (r->len - 12) / 4 > WIRE_GAPS_MAX)
		return false;
	a->ngaps = (uint8_t)((r->len - 12) / 4);
	if (!rbuf_u32(r, &a->stream) || !rbuf_u64(r, &a->seq))
		return false;
	for (i = 0; i < a->ngaps; i++)
		if (!rbuf_u16(r, &a->gaps[i].first) || !rbuf_u16(r, &a->gaps[i].count))
			return false;
	return r->len == 0;
}

void
wire_put_request(struct wbuf *w, const struct wire_request *q)
{
	wire_put_head(w, WIRE_REQUEST, 49);
	wbuf_u64(w, q->nonce);
	wbuf_u64(w, q->epoch);
	put_versions_of(w, &q->a);
	put_versions_of(w, &q->t);
	wbuf_u8(w, q->flags);
}

bool
wire_get_request(struct rbuf *r, struct wire_request *q)
{
	return rbuf_u64(r, &q->nonce) && rbuf_u64(r, &q->epoch) &&
	    get_versions_of(r, &q->a) && get_versions_of(r, &q->t) &&
	    rbuf_u8(r, &q->flags) && r->len == 0;
}

void
wire_put_restart(struct wbuf *w, uint32_t stream)
{
	wire_put_head(w, WIRE_RESTART, 4);
	wbuf_u32(w, stream);
}

void
wire_put_report(struct wbuf *w, const struct wire_report *p)
{
	wire_put_head(w, WIRE_REPORT, 29);
	wbuf_u64(w, p->stamp);
	wbuf_u8(w, p->flags);
	wbuf_u32(w, p->verified_ms);
	wbuf_u32(w, p->lag_us);
	wbuf_u32(w, p->lag_p99_us);
	wbuf_u32(w, p->lag_max_us);
	wbuf_u32(w, p->flows);
}

bool
wire_get_report(struct rbuf *r, struct wire_report *p)
{
	return rbuf_u64(r, &p->stamp) && rbuf_u8(r, &p->flags) &&
	    rbuf_u32(r, &p->verified_ms) && rbuf_u32(r, &p->lag_us) &&
	    rbuf_u32(r, &p->lag_p99_us) && rbuf_u32(r, &p->lag_max_us) &&
	    rbuf_u32(r, &p->flows) && r->len == 0;
}

void
wire_put_clock(struct wbuf *w, uint64_t ms)
{
	wire_put_head(w, WIRE_CLOCK, 8);
	wbuf_u64(w, ms);
}

void
wire_put_claim(struct wbuf *w, const struct wire_claim *c)
{
	wire_put_head(w, WIRE_CLAIM, WIRE_CLAIM_SIZE(c->nfilter) - WIRE_RECORD_HEAD);
	put_versions_of(w, &c->pos);
	wbuf_u32(w, c->term);
	wbuf_u8(w, c->salt);
	wbuf_u8(w, (uint8_t)(c->nfilter / 8));
	wbuf_bytes(w, c->filter, c->nfilter);
}

bool
wire_get_claim(struct rbuf *r, struct wire_claim *c)
{
	struct wire_claim	 in = { .term = 0 };
	uint8_t			 n;

	if (!get_versions_of(r, &in.pos) || !rbuf_u32(r, &in.term) || in.term == 0 ||
	    in.term > WIRE_TERM_MAX || !rbuf_u8(r, &in.salt) || !rbuf_u8(r, &n) ||
	    n > WIRE_CLAIM_FILTER / 8 || (n & (n - 1)) != 0 || r->len != 8 * (size_t)n)
		return false;
	in.nfilter = (uint16_t)(8 * n);
	if (!rbuf_bytes(r, in.filter, in.nfilter))
		return false;
	*c = in;
	return true;
}

void
wire_claim_clear(struct wire_claim *c, uint32_t keys, uint8_t salt)
{
	memset(c->filter, 0, sizeof(c->filter));
	c->salt = salt;
	/* two bytes a key: one in 400 others is named by chance */
	for (c->nfilter = keys == 0 ? 0 : 8; c->nfilter < WIRE_CLAIM_FILTER && c->nfilter < 2 * keys;)
		c->nfilter = (uint16_t)(c->nfilter * 2);
}

/* The four places of a hash: 16 bits each of the hash mixed with the salt. */
static uint64_t
claim_places(const struct wire_claim *c, uint64_t hash)
{
	hash ^= (c->salt + 1) * 0x9e3779b97f4a7c15u;
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebu;
	return hash ^ hash >> 31;
}

void
wire_claim_add(struct wire_claim *c, uint64_t hash)
{
	uint64_t	 p = claim_places(c, hash);
	unsigned	 i, bit;

	for (i = 0; c->nfilter != 0 && i < 4; i++, p >>= 16) {
		bit = (unsigned)(p & 0xffff) % (c->nfilter * 8u);
		c->filter[bit / 8] |= (uint8_t)(1u << bit % 8);
	}
}

bool
wire_claim_has(const struct wire_claim *c, uint64_t hash)
{
	uint64_t	 p = claim_places(c, hash);
	unsigned	 i, bit;

	for (i = 0; c->nfilter != 0 && i < 4; i++, p >>= 16) {
		bit = (unsigned)(p & 0xffff) % (c->nfilter * 8u);
		if (!(c->filter[bit / 8] & 1u << bit % 8))
			return false;
	}
	return c->nfilter != 0;
}

void
wire_put_versions(struct wbuf *w, const struct wire_versions *v)
{
	wire_put_head(w, WIRE_VERSIONS, 6);
	wbuf_u8(w, v->min);
	wbuf_u8(w, v->max);
	wbuf_u32(w, v->suites);
}

bool
wire_get_versions(struct rbuf *r, struct wire_versions *v)
{
	return rbuf_u8(r, &v->min) && rbuf_u8(r, &v->max) && rbuf_u32(r, &v->suites) &&
	    r->len == 0;
}

void
wire_put_boot(struct wbuf *w, const struct wire_boot *b)
{
	wire_put_head(w, WIRE_BOOT, 24);
	wbuf_bytes(w, b->boot_id, sizeof(b->boot_id));
	wbuf_u64(w, b->netns);
}

bool
wire_get_boot(struct rbuf *r, struct wire_boot *b)
{
	return rbuf_bytes(r, b->boot_id, sizeof(b->boot_id)) && rbuf_u64(r, &b->netns) &&
	    r->len == 0;
}

void
wire_put_bytes(struct wbuf *w, uint8_t kind, const void *p, size_t n)
{
	wire_put_head(w, kind, n);
	wbuf_bytes(w, p, n);
}

bool
wire_get_bytes(struct rbuf *r, void *out, size_t n)
{
	return r->len == n && rbuf_bytes(r, out, n);
}
