/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: the kernel's events, and what a takeover adopts, merged into
 * the feed.  Dumps and confirmations are in local_dump.c, what is special about
 * expectations is in local_expect.c.
 *
 * While a dump or a GET is under way, keys that end are remembered, so that
 * older news of them does not bring them back.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "local_priv.h"

#define ENDED_MAX	4000000u	/* keys remembered; beyond, a dump is taken again */

struct local *
local_new(struct feed *feed, const struct kernel_port *kernel, void *kctx,
    local_filter_fn *filter, void *fctx)
{
	struct local	*l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->feed = feed;
	l->kernel = kernel;
	l->kctx = kctx;
	l->filter = filter;
	l->fctx = fctx;
	carray_init(&l->packets, sizeof(uint32_t));
	return l;
}

void
local_free(struct local *l)
{
	if (l == NULL)
		return;
	kjob_free(l->unknown);
	kjob_free(l->check);
	local_held_free(l);
	local_expect_free(l);
	verify_log_clear(&l->verified.log);
	u64set_clear(&l->ended[0]);
	u64set_clear(&l->ended[1]);
	u64set_clear(&l->ended_asking);
	u64set_clear(&l->ended_adopting);
	carray_fini(&l->packets);
	free(l);
}

/* --- helpers ------------------------------------------------------------------ */

struct ftab_meta *
local_meta(const struct local *l, uint32_t h)
{
	return ftab_meta(feed_table(l->feed), h);
}

/* An event or an adoption said that h lives. */
static void
touch(struct local *l, uint32_t h, uint64_t now_us)
{
	struct ftab_meta	*m = local_meta(l, h);

	m->gen = l->gen;
	m->flags = (m->flags & LF_KEEP) | LF_TOUCHED;
	m->touched = local_tick(now_us);
	if (l->adopting && now_us >= l->adopt_us && m->touched < l->adopt_tick)
		m->touched = l->adopt_tick;
}

/* What a dump, a GET or an adoption tells of may be older than its peers' copies: it is told at once. */
static unsigned
lane_of(const struct local *l, const struct flow *f)
{
	if ((f->status & FLOW_S_ASSURED) || f->expect)
		return 0;
	return (f->status & FLOW_S_SEEN_REPLY) || !l->in_event ? 1 : FEED_HOLD;
}

static uint64_t
ended_hash(const struct local_key *k)
{
	static const struct sipkey	 key = { { 0x63747379, 0x6e63 } };

	return siphash13(&key, k->key, k->len);
}

bool
local_ended_dumping(const struct local *l, const struct local_key *k)
{
	uint64_t	 v = ended_hash(k);

	return u64set_has(&l->ended[0], v) || u64set_has(&l->ended[1], v);
}

bool
local_ended_asking(const struct local *l, const struct local_key *k)
{
	return u64set_has(&l->ended_asking, ended_hash(k));
}

bool
local_ended_adopting(const struct local *l, const struct local_key *k)
{
	return u64set_has(&l->ended_adopting, ended_hash(k));
}

/* What comes back wrongly, because an end could not be remembered, is found by the next dump. */
static void
remember_in(struct local *l, struct u64set *s, uint64_t v)
{
	if (s->count >= ENDED_MAX || u64set_add(s, v) < 0)
		l->wanted = true;
}

void
local_remember_end(struct local *l, const struct local_key *k)
{
	uint64_t	 v;

	if (!l->adopting && !l->dumping && !l->asking)
		return;
	v = ended_hash(k);
	if (l->adopting)
		remember_in(l, &l->ended_adopting, v);
	if (l->dumping)
		remember_in(l, &l->ended[0], v);
	if (l->asking)
		remember_in(l, &l->ended_asking, v);
}

void
local_make_key(const struct local *l, const struct flow *f, struct local_key *k)
{
	k->len = (uint8_t)flow_pack_key(f, k->key);
	k->hash = ftab_hash(feed_table(l->feed), k->key, k->len);
}

void
local_prefetch(const struct local *l, const struct flow *f, struct local_key *k)
{
	local_make_key(l, f, k);
	ftab_prefetch(feed_table(l->feed), k->hash);
}

void
local_prefetch_entry(const struct local *l, struct local_key *k)
{
	k->guess = feed_prefetch_entry(l->feed, k->hash);
}

void
local_prefetch_body(const struct local *l, const struct local_key *k)
{
	feed_prefetch_body(l->feed, k->guess);
}

/* Does an event hold all that every flow of its protocol has? */
static bool
has_common(const struct flow *f)
{
	if (f->expect)
		return true;
	return (f->has & FLOW_HAS_STATUS) && (f->has & FLOW_HAS_REPLY) &&
	    (f->proto != IPPROTO_TCP || (f->has & FLOW_HAS_TCP_STATE)) &&
	    (f->proto != IPPROTO_SCTP || (f->has & FLOW_HAS_SCTP));
}

/* And what few have?  That is in the first event, and in its own. */
static bool
is_whole(enum local_event ev, const struct flow *f)
{
	return has_common(f) && (ev == LOCAL_NEW || f->expect);
}

void
local_remove(struct local *l, uint32_t h, bool ended, uint64_t now_us)
{
	local_meta(l, h)->flags = 0;
	if (ended)
		feed_del(l->feed, h, now_us);
	else
		feed_remove(l->feed, h, now_us);
}

/* A flow that is not in the table: the peers must not take ours for complete. */
static void
refused(struct local *l)
{
	l->stats.refused++;
	l->dump_refused = true;
	l->lacking_us = LOCAL_EVER;
	if (!l->no_room)
		log_msg(LOG_ERR, "the local table is full (%u flows): flows are not replicated; raise "
		    "limits.flows or limits.memory", feed_flows(l->feed));
	l->no_room = true;
}

uint32_t
local_find(const struct local *l, const uint8_t *key, size_t klen)
{
	return feed_find(l->feed, ftab_hash(feed_table(l->feed), key, klen), key, klen);
}

bool
local_has_master(const struct local *l, const struct flow *f)
{
	struct local_key	 k;

	k.len = (uint8_t)flow_pack_master_key(f, k.key);
	if (k.len == 0)
		return false;
	k.hash = ftab_hash(feed_table(l->feed), k.key, k.len);
	return feed_find(l->feed, k.hash, k.key, k.len) != FTAB_NIL;
}

/* An expectation goes with its master. */
bool
local_passes(const struct local *l, const struct flow *f)
{
	return f->expect ? local_has_master(l, f) : l->filter(l->fctx, f);
}

/* The filter leaves the flow out: for the table it has ended. */
static void
left_out(struct local *l, const struct local_key *k)
{
	l->stats.filtered++;
	local_remember_end(l, k);
}

/* The flow, complete, goes into the table, unless the filter leaves it out. */
void
local_store(struct local *l, uint32_t h, const struct local_key *k, struct flow *f,
    uint64_t now_us)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len;
	int	 rc;

	if (f->zone_dir != FLOW_ZONE_NONE && !f->expect)
		local_expect_zone(l, f);
	if (!local_passes(l, f)) {
		left_out(l, k);
		/* what its helper expects goes, too */
		l->audit |= h != FTAB_NIL && f->helper[0] != '\0' && !f->expect;
		if (h != FTAB_NIL) {
			l->kept_out |= !f->expect;
			local_remove(l, h, false, now_us);
		}
		return;
	}
	len = flow_pack(f, body, sizeof(body));
	if (len == 0) {
		refused(l);
		return;
	}
	if (h != FTAB_NIL)
		rc = feed_put_at(l->feed, h, body, len, f->timeout_s, lane_of(l, f), now_us);
	else
		rc = feed_put(l->feed, k->hash, body, len, f->timeout_s, lane_of(l, f), now_us,
		    &h);
	if (rc < 0) {
		refused(l);
		return;
	}
	*feed_id(l->feed, h) = f->id;
	if (f->stray)
		*feed_marks(l->feed, h) |= LM_STRAY;
	else
		*feed_marks(l->feed, h) &= (uint8_t)~LM_STRAY;
	touch(l, h, now_us);
	if (f->expect && (f->exp.flags & FLOW_E_INACTIVE))
		local_expect_inactive(l, k, now_us);
}

/* What the table holds, with its timeout and id.  False if it cannot be read. */
bool
local_load(const struct local *l, uint32_t h, struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(feed_table(l->feed), h, &len);
	if (flow_unpack(body, len, f) < 0)
		return false;
	f->timeout_s = local_meta(l, h)->timeout_s;
	f->id = *feed_id(l->feed, h);
	return true;
}

/* What a takeover wrote has no id until the kernel has shown it. */
bool
local_note_reply(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    bool is_new)
{
	struct flow	 cur;
	char		 s[FLOW_STR_MAX];

	if (*feed_id(l->feed, h) != 0 || !(f->has & FLOW_HAS_REPLY) || !local_load(l, h, &cur) ||
	    cur.expect || memcmp(&cur.reply, &f->reply, sizeof(cur.reply)) == 0)
		return false;
	if (is_new || (*feed_marks(l->feed, h) & LM_BASE_UNKNOWN)) {
		/* a packet had made the entry just before it was written, which left its translation alone */
		if (l->observer != NULL)
			l->observer->astray(l->octx, k->key, k->len);
		return true;
	}
	if (l->stats.retranslated++ == 0)
		log_msg(LOG_WARNING, "the kernel picked another translation than the one it was given: "
		    "%s (further ones are counted only)", flow_str(f, s));
	return false;
}

uint32_t
local_store_new(struct local *l, const struct local_key *k, const struct flow *f, bool is_new,
    uint64_t now_us)
{
	struct flow	 nf = *f;
	uint32_t	 h;

	if (is_new)
		local_birth(l, k, &nf, now_us);
	else
		local_found_now(l, &nf, now_us);
	nf.incarnation = feed_next_incarnation(l->feed, k->hash, k->key, k->len);
	/* offloaded flows are shown without their state; they are established */
	if (nf.proto == IPPROTO_TCP && !nf.expect && !(nf.has & FLOW_HAS_TCP_STATE))
		nf.tcp_state = FLOW_TCP_ESTABLISHED;
	local_store(l, FTAB_NIL, k, &nf, now_us);
	h = feed_find(l->feed, k->hash, k->key, k->len);
	if (h != FTAB_NIL && l->expects.norphans > 0 && nf.helper[0] != '\0' && !nf.expect)
		local_expect_master(l, &nf, now_us);
	return h;
}

/* --- events ---------------------------------------------------------------------- */

void
local_ask_unknown(struct local *l, const struct local_key *k, uint64_t now_us)
{
	l->stats.partial++;
	l->unknown_us = local_earlier(l->unknown_us, now_us);
	if (l->unknown == NULL && (l->unknown = kjob_new(KOP_GET, KOWNER_LOCAL)) != NULL)
		l->unknown->tag = LOCAL_TAG_UNKNOWN;
	if (l->unknown == NULL || kjob_add(l->unknown, k->key, k->len, 0) < 0) {
		local_delta_drop(l, k);
		l->wanted = true;
		l->lacking_us = local_earlier(l->lacking_us, now_us);
	}
}

static unsigned
find_delta(const struct local *l, uint64_t hash)
{
	unsigned	 i;

	for (i = 0; i < l->deltas.n; i++)
		if (l->deltas.hash[i] == hash)
			break;
	return i;
}

const struct flow *
local_delta(const struct local *l, const struct local_key *k)
{
	unsigned	 i = l->deltas.n > 0 ? find_delta(l, ended_hash(k)) : 0;

	return i < l->deltas.n ? &l->deltas.f[i] : NULL;
}

void
local_delta_drop(struct local *l, const struct local_key *k)
{
	struct deltas	*d = &l->deltas;
	unsigned	 i = d->n > 0 ? find_delta(l, ended_hash(k)) : 0;

	if (i >= d->n)
		return;
	d->n--;
	d->hash[i] = d->hash[d->n];
	d->f[i] = d->f[d->n];
}

/* Remember what an event told of a flow that has to be asked for; true if it was asked for before. */
static bool
keep_delta(struct local *l, const struct local_key *k, const struct flow *f)
{
	struct deltas	*d = &l->deltas;
	uint64_t	 hash = ended_hash(k);
	unsigned	 i = find_delta(l, hash);

	if (i < d->n && d->f[i].id == f->id) {
		flow_merge(&d->f[i], f);
		return true;
	}
	/* another entry: the answer under way knows nothing of it */
	if (i < d->n) {
		d->f[i] = *f;
		return false;
	}
	if (i < DELTAS) {
		d->hash[i] = hash;
		d->f[i] = *f;
		d->n++;
	}
	return false;
}

static void
on_destroy(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t now_us)
{
	uint32_t	 id;

	local_remember_end(l, k);
	if (h == FTAB_NIL) {
		local_delta_drop(l, k);
		if (l->adopting)
			(void)local_tell_end(l, h, k, f, now_us);
		return;
	}
	id = *feed_id(l->feed, h);
	if ((f->has & FLOW_HAS_ID) && id != 0 && id != f->id) {
		l->stats.stale_destroys++;
		/* another flow had the tuple meanwhile: an answer under way may show that one */
		if (local_meta(l, h)->flags & LF_ASKED)
			local_check_or_dump(l, h, now_us);
		return;
	}
	if ((local_meta(l, h)->flags & LF_RECHECK) && local_check(l, h, now_us))
		return;
	if (local_hold(l, h, now_us))
		return;
	local_remove(l, h, local_tell_end(l, h, k, f, now_us), now_us);
}

static void
on_unknown(struct local *l, enum local_event ev, const struct local_key *k,
    const struct flow *f, uint64_t now_us)
{
	uint32_t	 h;

	if (is_whole(ev, f)) {
		h = local_store_new(l, k, f, ev == LOCAL_NEW, now_us);
		l->stats.born += h != FTAB_NIL && ev == LOCAL_NEW && !f->commanded && !f->expect;
	}
	else if (has_common(f) && !l->filter(l->fctx, f))
		left_out(l, k);
	else if (!keep_delta(l, k, f))
		local_ask_unknown(l, k, now_us);
}

/* The birth of the life after *was: the port may be used again within the millisecond. */
static uint64_t
later_birth(uint64_t was, uint64_t born)
{
	return born <= was ? was + 1 : born;
}

/*
 * Another flow has the tuple now: the end of the former one was lost, or was
 * held back, or has yet to come.  Then it will be taken for the end of this one
 * unless the kernel is asked.
 */
static void
reborn(struct local *l, enum local_event ev, uint32_t h, const struct local_key *k,
    const struct flow *was, const struct flow *f, uint64_t now_us)
{
	struct flow	 nf = *f;

	l->stats.reborn++;
	local_used(l, h, &nf);
	*feed_marks(l->feed, h) &= (uint8_t)~(LM_REPLACED | LM_WRITTEN);
	if (ev == LOCAL_NEW)
		local_birth(l, k, &nf, now_us);
	else
		local_found_now(l, &nf, now_us);
	if (!nf.stray)
		nf.born = later_birth(was->born, nf.born);
	local_meta(l, h)->flags = local_meta(l, h)->flags & LF_HELD ? 0 : LF_RECHECK;
	nf.incarnation = (uint8_t)(was->incarnation + 1);
	local_store(l, h, k, &nf, now_us);
}

/*
 * Nothing in the event is news.  When the last label is taken away
 * the kernel shows none, as in an event that has nothing to do with labels.
 */
static bool
may_have_lost_labels(const struct flow *cur, const struct flow *f)
{
	static const uint8_t	 none[FLOW_LABEL_BYTES];

	return !cur->expect && memcmp(cur->rare.labels, none, sizeof(none)) != 0 &&
	    !(f->has & FLOW_HAS_LABELS) && ((f->status ^ cur->status) & FLOW_S_REPLICATED) == 0 &&
	    (!(f->has & FLOW_HAS_TCP_STATE) || f->tcp_state == cur->tcp_state) &&
	    (!(f->has & FLOW_HAS_MARK) || f->mark == cur->mark);
}

/* A TCP entry in which another connection is opened: the kernel keeps it. */
static bool
begins_again(const struct flow *cur, const struct flow *f)
{
	return cur->proto == IPPROTO_TCP && !cur->expect && (f->has & FLOW_HAS_TCP_STATE) &&
	    cur->tcp_state > FLOW_TCP_SYN_RECV && cur->tcp_state != FLOW_TCP_SYN_SENT2 &&
	    (f->tcp_state == FLOW_TCP_SYN_SENT || f->tcp_state == FLOW_TCP_SYN_RECV);
}

static void
on_known(struct local *l, enum local_event ev, uint32_t h, const struct local_key *k,
    const struct flow *f, uint64_t now_us)
{
	struct flow	 cur;
	uint64_t	 born;
	bool		 other, lost, again;

	if (!local_load(l, h, &cur)) {
		local_ask_unknown(l, k, now_us);
		return;
	}
	other = (local_meta(l, h)->flags & LF_HELD) || (*feed_marks(l->feed, h) & LM_REPLACED) ||
	    (cur.id != 0 && (cur.id != f->id || !(f->has & FLOW_HAS_ID)));
	if (other && is_whole(ev, f)) {
		reborn(l, ev, h, k, &cur, f, now_us);
		return;
	}
	if (other && (f->has & FLOW_HAS_ID) && local_check(l, h, now_us))
		return;
	*feed_marks(l->feed, h) &= (uint8_t)~LM_WRITTEN;
	cur.stray |= local_note_reply(l, h, k, f, ev == LOCAL_NEW);
	lost = ev == LOCAL_UPDATE && may_have_lost_labels(&cur, f);
	if (!f->commanded)
		local_used(l, h, &cur);
	again = begins_again(&cur, f);
	born = cur.born;
	flow_merge(&cur, f);
	if (again) {
		local_birth(l, k, &cur, now_us);
		cur.stray = false;
		cur.born = later_birth(born, cur.born);
	}
	local_store(l, h, k, &cur, now_us);
	h = lost ? feed_find(l->feed, k->hash, k->key, k->len) : FTAB_NIL;
	if (h != FTAB_NIL)
		local_check_or_dump(l, h, now_us);
}

void
local_event_of(struct local *l, enum local_event ev, const struct flow *f,
    const struct local_key *k, uint64_t now_us)
{
	uint32_t	 h = feed_find(l->feed, k->hash, k->key, k->len);

	l->stats.events[ev]++;
	l->in_event = l->complete;
	if (ev == LOCAL_DESTROY)
		on_destroy(l, h, k, f, now_us);
	else if (h == FTAB_NIL)
		on_unknown(l, ev, k, f, now_us);
	else
		on_known(l, ev, h, k, f, now_us);
	l->in_event = false;
}

void
local_event(struct local *l, enum local_event ev, const struct flow *f,
    const struct local_key *k, uint64_t now_us)
{
	if (f->expect)
		local_expect_event(l, ev, f, now_us);
	else
		local_event_of(l, ev, f, k, now_us);
}

bool
local_no_room(const struct local *l)
{
	return l->no_room;
}

uint64_t
local_earlier(uint64_t a_us, uint64_t b_us)
{
	return a_us == 0 || (b_us != 0 && b_us < a_us) ? b_us : a_us;
}

uint64_t
local_unknown_us(const struct local *l)
{
	return local_earlier(local_earlier(l->asked_us, l->unknown_us), l->check_us);
}

bool
local_run(struct local *l, uint64_t now_us)
{
	bool	 more = local_held_run(l, now_us);

	local_expect_run(l, now_us);
	return local_dump_run(l, now_us) || more;
}


const struct local_stats *
local_stats(const struct local *l)
{
	return &l->stats;
}
