/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Kernel truth: events, dumps and confirmations, merged into the feed.
 *
 * Each entry carries the number of the dump in which it was last seen alive
 * (ftab_meta.gen): by an event since that dump began, or by the dump itself.
 * What lags behind when a dump ends is asked for by GET; only ENOENT means
 * gone.  While a dump or a GET is under way, keys that end are remembered, so
 * that older news of them does not bring them back.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/local.h"
#include "ctsync/log.h"
#include "ctsync/u64set.h"

#define CONFIRM_BATCH	512u		/* GETs a job */
#define CONFIRM_LOOK	8192u		/* entries looked at in one call */
#define UNKNOWN_MAX	1024u		/* incomplete flows that wait for a GET */
#define ENDED_MAX	4000000u	/* keys remembered; beyond, a dump is taken again */
#define RETRY_US	1000000u	/* after a dump that failed; doubles */
#define RETRY_MAX_US	30000000u

/* Flags of ftab_meta; the first one says that gen was set by an event. */
#define LF_TOUCHED	0x01u
#define LF_ASKED	0x02u		/* a GET is under way, and nothing happened since */
#define LF_AGED		0x04u		/* timeout_s is what the kernel said to a purge */
#define LF_LIBERAL	0x08u		/* we made its TCP windows liberal */

/* Tags of our GET jobs. */
#define TAG_CONFIRM	0u
#define TAG_UNKNOWN	1u

struct local {
	struct feed			*feed;
	const struct kernel_port	*kernel;
	void				*kctx;
	local_filter_fn			*filter;
	void				*fctx;

	uint8_t				 gen;		/* of the current or last dump */
	bool				 wanted;	/* a dump is to be begun */
	bool				 dumping;
	bool				 complete;
	bool				 confirming;	/* walking over what the dump lacked */
	uint32_t			 confirm_h;
	uint32_t			 confirms;	/* GET jobs under way for that */
	bool				 adopting;
	bool				 dump_refused;	/* this dump found flows that do not fit */
	bool				 no_room;	/* flows are missing because they did not fit */
	uint64_t			 retry_at_us, retry_us;
	uint32_t			 adopt_s;	/* since when */

	struct kjob			*unknown;	/* flows whose delta was not enough */
	uint64_t			 unknown_us;	/* since when there are such, 0: none */
	uint64_t			 asked_us;	/* the same of those that were asked for */
	bool				 asking;	/* a GET job for them is under way */
	struct u64set			 ended;		/* since the dump or GET at hand began */
	struct u64set			 ended_adopting;	/* since the adoption began */
	struct local_stats		 stats;
};

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
	return l;
}

void
local_free(struct local *l)
{
	if (l == NULL)
		return;
	kjob_free(l->unknown);
	u64set_clear(&l->ended);
	u64set_clear(&l->ended_adopting);
	free(l);
}

/* --- helpers ------------------------------------------------------------------ */

static struct ftab_meta *
meta(const struct local *l, uint32_t h)
{
	return ftab_meta(feed_table(l->feed), h);
}

/* An event or an adoption said that h lives. */
static void
touch(struct local *l, uint32_t h, uint64_t now_us)
{
	struct ftab_meta	*m = meta(l, h);

	m->gen = l->gen;
	m->flags = (m->flags & LF_LIBERAL) | LF_TOUCHED;
	m->touched_s = (uint32_t)(now_us / 1000000);
}

static unsigned
lane_of(const struct flow *f)
{
	if (f->status & FLOW_S_ASSURED)
		return 0;
	return f->status & FLOW_S_SEEN_REPLY ? 1 : FEED_HOLD;
}

/* Remember ends while older news of the flow may still be on its way. */
static bool
remembering(const struct local *l)
{
	return l->dumping || l->wanted || l->confirms > 0 || l->asking;
}

static uint64_t
ended_hash(const struct local_key *k)
{
	static const struct sipkey	 key = { { 0x63747379, 0x6e63 } };

	return siphash13(&key, k->key, k->len);
}

static void
forget_ended(struct local *l)
{
	if (!remembering(l) && l->ended.count > 0)
		u64set_clear(&l->ended);
}

static void
remember_end(struct local *l, const struct local_key *k)
{
	if (l->adopting && (l->ended_adopting.count >= ENDED_MAX ||
	    u64set_add(&l->ended_adopting, ended_hash(k)) < 0))
		l->wanted = true;	/* what comes back wrongly is found by the next dump */
	if (remembering(l) && (l->ended.count >= ENDED_MAX ||
	    u64set_add(&l->ended, ended_hash(k)) < 0))
		l->wanted = true;
}

static void
make_key(const struct local *l, const struct flow *f, struct local_key *k)
{
	k->len = (uint8_t)flow_pack_key(f, k->key);
	k->hash = ftab_hash(feed_table(l->feed), k->key, k->len);
}

void
local_prefetch(const struct local *l, const struct flow *f, struct local_key *k)
{
	make_key(l, f, k);
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

/* Is all there that the table wants to know of a new flow? */
static bool
is_whole(const struct flow *f)
{
	return (f->has & FLOW_HAS_STATUS) && (f->has & FLOW_HAS_REPLY) &&
	    (f->proto != IPPROTO_TCP || (f->has & FLOW_HAS_TCP_STATE));
}

static void
remove_entry(struct local *l, uint32_t h, uint64_t now_us)
{
	feed_del(l->feed, h, now_us);
}

/* A flow that is not in the table: the peers must not take ours for complete. */
static void
refused(struct local *l)
{
	l->stats.refused++;
	l->dump_refused = true;
	if (!l->no_room)
		log_msg(LOG_ERR, "the local table is full (%u flows): flows are not replicated; raise "
		    "limits.flows or limits.memory", feed_flows(l->feed));
	l->no_room = true;
}

/* The flow, complete, goes into the table, unless the filter leaves it out. */
static void
store(struct local *l, uint32_t h, const struct local_key *k, struct flow *f, uint64_t now_us)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len;
	int	 rc;

	if (!l->filter(l->fctx, f)) {
		l->stats.filtered++;
		if (h != FTAB_NIL)
			remove_entry(l, h, now_us);
		return;
	}
	len = flow_pack(f, body, sizeof(body));
	if (len == 0) {
		refused(l);
		return;
	}
	if (h != FTAB_NIL)
		rc = feed_put_at(l->feed, h, body, len, f->timeout_s, lane_of(f), now_us);
	else
		rc = feed_put(l->feed, k->hash, body, len, f->timeout_s, lane_of(f), now_us, &h);
	if (rc < 0) {
		refused(l);
		return;
	}
	*feed_id(l->feed, h) = f->id;
	touch(l, h, now_us);
}

/* What the table holds, with its timeout and id.  False if it cannot be read. */
static bool
load(const struct local *l, uint32_t h, struct flow *f)
{
	const uint8_t	*body;
	size_t		 len;

	body = ftab_body(feed_table(l->feed), h, &len);
	if (flow_unpack(body, len, f) < 0)
		return false;
	f->timeout_s = meta(l, h)->timeout_s;
	f->id = *feed_id(l->feed, h);
	return true;
}

/* A flow that the table lacks, as the kernel shows it. */
static void
store_new(struct local *l, const struct local_key *k, const struct flow *f, uint64_t now_us)
{
	struct flow	 nf = *f;

	nf.incarnation = feed_next_incarnation(l->feed, k->hash, k->key, k->len);
	/* offloaded flows are shown without their state; they are established */
	if (nf.proto == IPPROTO_TCP && !(nf.has & FLOW_HAS_TCP_STATE))
		nf.tcp_state = FLOW_TCP_ESTABLISHED;
	store(l, FTAB_NIL, k, &nf, now_us);
}

/* --- events ---------------------------------------------------------------------- */

/* A flow of which only a delta is known has to be asked for. */
static void
ask_later(struct local *l, const struct local_key *k, uint64_t now_us)
{
	l->stats.partial++;
	if (l->unknown_us == 0)
		l->unknown_us = now_us;
	if (l->unknown == NULL && (l->unknown = kjob_new(KOP_GET, KOWNER_LOCAL)) != NULL)
		l->unknown->tag = TAG_UNKNOWN;
	if (l->unknown == NULL || kjob_add(l->unknown, k->key, k->len, 0) < 0)
		l->wanted = true;
}

static void
on_destroy(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t now_us)
{
	uint32_t	 id;

	remember_end(l, k);
	if (h == FTAB_NIL)
		return;
	id = *feed_id(l->feed, h);
	if ((f->has & FLOW_HAS_ID) && id != 0 && id != f->id) {
		l->stats.stale_destroys++;
		return;
	}
	remove_entry(l, h, now_us);
}

static void
on_unknown(struct local *l, const struct local_key *k, const struct flow *f, uint64_t now_us)
{
	if (is_whole(f))
		store_new(l, k, f, now_us);
	else
		ask_later(l, k, now_us);
}

static void
on_known(struct local *l, enum local_event ev, uint32_t h, const struct local_key *k,
    const struct flow *f, uint64_t now_us)
{
	struct flow	 cur;
	bool		 other;

	if (!load(l, h, &cur)) {
		ask_later(l, k, now_us);
		return;
	}
	other = cur.id != f->id || !(f->has & FLOW_HAS_ID);
	if (cur.id != 0 && other && (ev == LOCAL_NEW || (f->has & FLOW_HAS_ID)) && is_whole(f)) {
		/* the end of the former flow was lost, or has yet to come */
		struct flow	 nf = *f;

		l->stats.reborn++;
		meta(l, h)->flags = 0;
		nf.incarnation = (uint8_t)(cur.incarnation + 1);
		store(l, h, k, &nf, now_us);
		return;
	}
	flow_merge(&cur, f);
	store(l, h, k, &cur, now_us);
}

void
local_event(struct local *l, enum local_event ev, const struct flow *f,
    const struct local_key *k, uint64_t now_us)
{
	uint32_t	 h = feed_find(l->feed, k->hash, k->key, k->len);

	l->stats.events[ev]++;
	if (ev == LOCAL_DESTROY)
		on_destroy(l, h, k, f, now_us);
	else if (h == FTAB_NIL)
		on_unknown(l, k, f, now_us);
	else
		on_known(l, ev, h, k, f, now_us);
}

/* --- dumps ------------------------------------------------------------------------- */

void
local_resync(struct local *l)
{
	l->wanted = true;
}

void
local_dump_begin(struct local *l)
{
	l->stats.dumps++;
	l->wanted = false;
	l->dumping = true;
	l->dump_refused = false;
	l->confirming = false;
	l->gen++;
}

/* Did the timeout move so far that the peers should know? */
static bool
timeout_moved(uint32_t told, uint32_t now)
{
	uint32_t	 d = told > now ? told - now : now - told;

	return now > told && d > told / 4;
}

static bool
same_flow(const struct flow *a, const struct flow *b)
{
	uint8_t	 pa[FLOW_BODY_MAX], pb[FLOW_BODY_MAX];
	size_t	 la, lb;

	la = flow_pack(a, pa, sizeof(pa));
	lb = flow_pack(b, pb, sizeof(pb));
	return la == lb && memcmp(pa, pb, la) == 0;
}

/* The kernel shows a flow that the table has: merge unless an event was newer. */
static void
confirm_known(struct local *l, uint32_t h, const struct local_key *k, const struct flow *f,
    uint64_t now_us)
{
	struct ftab_meta	*m = meta(l, h);
	struct flow		 cur, merged;
	uint32_t		 touched_s = m->touched_s;

	if (m->gen == l->gen && (m->flags & LF_TOUCHED))
		return;
	m->gen = l->gen;
	m->flags &= LF_LIBERAL;
	if (!load(l, h, &cur))
		return;
	merged = cur;
	flow_merge(&merged, f);
	if (cur.id != 0 && (f->has & FLOW_HAS_ID) && cur.id != f->id)
		merged.incarnation++;
	if (l->filter(l->fctx, &merged) && same_flow(&cur, &merged)) {
		*feed_id(l->feed, h) = merged.id;
		if (timeout_moved(cur.timeout_s, f->timeout_s)) {
			m->timeout_s = f->timeout_s;
			feed_touch(l->feed, h, now_us);
		}
		return;
	}
	l->stats.dump_changed++;
	store(l, h, k, &merged, now_us);
	h = feed_find(l->feed, k->hash, k->key, k->len);
	if (h != FTAB_NIL) {
		/* seen by a dump, not by an event */
		meta(l, h)->flags &= LF_LIBERAL;
		meta(l, h)->touched_s = touched_s;
	}
}

void
local_dump_entry(struct local *l, const struct flow *f, uint64_t now_us)
{
	struct local_key	 k;
	uint32_t		 h;

	make_key(l, f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h != FTAB_NIL) {
		confirm_known(l, h, &k, f, now_us);
		return;
	}
	if (u64set_has(&l->ended, ended_hash(&k))) {
		ask_later(l, &k, now_us);	/* ended since, or born again */
		return;
	}
	l->stats.dump_added++;
	store_new(l, &k, f, now_us);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h != FTAB_NIL)
		meta(l, h)->flags = 0;
}

void
local_dump_end(struct local *l, int err, uint64_t now_us)
{
	l->dumping = false;
	if (err < 0) {
		l->wanted = true;
		l->retry_us = l->retry_us == 0 ? RETRY_US :
		    l->retry_us * 2 < RETRY_MAX_US ? l->retry_us * 2 : RETRY_MAX_US;
		l->retry_at_us = now_us + l->retry_us;
		return;
	}
	l->retry_us = l->retry_at_us = 0;
	if (l->no_room && !l->dump_refused)
		log_msg(LOG_NOTICE, "the local table has room again: all flows are replicated");
	l->no_room = l->dump_refused;
	l->complete = true;
	l->confirming = true;
	l->confirm_h = FTAB_NIL;
	feed_set_complete(l->feed);
}

bool
local_resyncing(const struct local *l)
{
	return l->wanted || l->dumping || l->confirming || l->confirms > 0;
}

bool
local_no_room(const struct local *l)
{
	return l->no_room;
}

bool
local_complete(const struct local *l)
{
	return l->complete;
}

/* --- confirmations ------------------------------------------------------------------- */

static bool
submit(struct local *l, struct kjob *j)
{
	return l->kernel->submit(l->kctx, j) == 0;
}

/* The next batch of entries that the dump did not show. */
static bool
confirm_some(struct local *l)
{
	struct kjob	*j = kjob_new(KOP_GET, KOWNER_LOCAL);
	uint32_t	 h = l->confirm_h, looked = 0;
	const uint8_t	*body;
	size_t		 len;

	if (j == NULL)
		return false;
	while (j->n < CONFIRM_BATCH && looked++ < CONFIRM_LOOK) {
		if ((h = feed_next(l->feed, h)) == FTAB_NIL)
			break;
		if (meta(l, h)->gen == l->gen)
			continue;
		body = ftab_body(feed_table(l->feed), h, &len);
		if (kjob_add(j, body, flow_key_len(body, len), 0) < 0)
			break;
		meta(l, h)->flags |= LF_ASKED;
	}
	if (j->n > 0 && !submit(l, j)) {
		kjob_free(j);
		return false;		/* the same ones again, later */
	}
	if (j->n == 0)
		kjob_free(j);
	else
		l->confirms++;
	l->confirm_h = h;
	if (h == FTAB_NIL)
		l->confirming = false;
	return l->confirming;
}

static void
got_one(struct local *l, const struct kjob *j, uint32_t i, uint64_t now_us)
{
	struct local_key	 k;
	const struct kitem	*it = &j->items[i];
	uint32_t		 h;

	k.len = (uint8_t)it->len;
	memcpy(k.key, j->bytes + it->off, it->len);
	k.hash = ftab_hash(feed_table(l->feed), k.key, k.len);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (it->err == -ENOENT) {
		if (h != FTAB_NIL && (meta(l, h)->flags & LF_ASKED)) {
			l->stats.confirmed_gone++;
			remove_entry(l, h, now_us);
		}
		return;
	}
	if (it->err < 0) {
		l->wanted = true;
		l->retry_at_us = now_us + RETRY_US;
		return;
	}
	if (h == FTAB_NIL) {
		if (u64set_has(&l->ended, ended_hash(&k)))
			ask_later(l, &k, now_us);	/* the end may be younger than the answer */
		else
			store_new(l, &k, &j->flows[i], now_us);
		return;
	}
	meta(l, h)->flags &= (uint8_t)~LF_ASKED;
	confirm_known(l, h, &k, &j->flows[i], now_us);
}

void
local_got(struct local *l, struct kjob *j, uint64_t now_us)
{
	uint32_t	 i;

	for (i = 0; i < j->n; i++)
		got_one(l, j, i, now_us);
	if (j->tag == TAG_UNKNOWN) {
		l->asking = false;
		l->asked_us = 0;
	} else
		l->confirms--;
	kjob_free(j);
	forget_ended(l);
}

uint64_t
local_unknown_us(const struct local *l)
{
	return l->asked_us != 0 ? l->asked_us : l->unknown_us;
}

bool
local_run(struct local *l, uint64_t now_us)
{
	if (l->wanted && !l->dumping && now_us >= l->retry_at_us)
		l->kernel->dump(l->kctx);
	if (l->unknown != NULL && l->unknown->n > 0 && !l->asking && submit(l, l->unknown)) {
		l->unknown = NULL;
		l->asking = true;
		l->asked_us = l->unknown_us;
		l->unknown_us = 0;
	}
	forget_ended(l);
	if (l->confirming && l->confirms < 4)
		return confirm_some(l) && l->confirms < 4;
	return false;
}

/* --- adoption --------------------------------------------------------------------------- */

/* Did a packet or another program touch the flow since the adoption began? */
static bool
is_newer(const struct local *l, uint32_t h)
{
	return (meta(l, h)->flags & LF_TOUCHED) && meta(l, h)->touched_s >= l->adopt_s;
}

int
local_adopt(struct local *l, const uint8_t *body, size_t len, uint32_t timeout_s, uint64_t now_us)
{
	struct local_key	 k;
	struct flow		 f, cur;
	uint32_t		 h;
	bool			 added;
	int			 rc;

	if ((rc = flow_unpack(body, len, &f)) < 0)
		return rc;
	make_key(l, &f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h != FTAB_NIL && is_newer(l, h))
		return 0;
	if (h == FTAB_NIL && u64set_has(&l->ended_adopting, ended_hash(&k)))
		return 0;
	f.timeout_s = timeout_s;
	if (h == FTAB_NIL)
		f.incarnation = feed_next_incarnation(l->feed, k.hash, k.key, k.len);
	else if (load(l, h, &cur))
		f.incarnation = cur.incarnation;
	store(l, h, &k, &f, now_us);
	added = h == FTAB_NIL;
	h = feed_find(l->feed, k.hash, k.key, k.len);
	if (h != FTAB_NIL && f.proto == IPPROTO_TCP)
		meta(l, h)->flags |= LF_LIBERAL;
	return added && h != FTAB_NIL;
}

bool
local_liberal(const struct local *l, const struct flow *f)
{
	struct local_key	 k;
	uint32_t		 h;

	make_key(l, f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	return h != FTAB_NIL && (meta(l, h)->flags & LF_LIBERAL);
}

void
local_strict(struct local *l, const uint8_t *key, size_t klen)
{
	uint32_t	 h = feed_find(l->feed, ftab_hash(feed_table(l->feed), key, klen), key, klen);

	if (h != FTAB_NIL)
		meta(l, h)->flags &= (uint8_t)~LF_LIBERAL;
}

bool
local_newer(const struct local *l, const struct flow *f)
{
	struct local_key	 k;
	uint32_t		 h;

	make_key(l, f, &k);
	h = feed_find(l->feed, k.hash, k.key, k.len);
	return h == FTAB_NIL ? u64set_has(&l->ended_adopting, ended_hash(&k)) : is_newer(l, h);
}

bool
local_aged(struct local *l, const uint8_t *key, size_t klen, uint32_t timeout_s, uint32_t by_s)
{
	uint32_t		 h, before;
	struct ftab_meta	*m;
	bool			 was_asked;

	h = feed_find(l->feed, ftab_hash(feed_table(l->feed), key, klen), key, klen);
	if (h == FTAB_NIL)
		return false;
	m = meta(l, h);
	before = m->timeout_s;
	was_asked = m->flags & LF_AGED;
	m->timeout_s = timeout_s;
	m->flags |= LF_AGED;
	/* ticks of the two clocks differ by a second or two */
	return was_asked && timeout_s + by_s <= before + by_s / 10 + 2;
}

void
local_adopting(struct local *l, bool on, uint64_t now_us)
{
	l->adopting = on;
	l->adopt_s = (uint32_t)(now_us / 1000000);
	u64set_clear(&l->ended_adopting);
}

void
local_removed(struct local *l, const uint8_t *key, size_t klen, uint64_t now_us)
{
	uint32_t	 h = feed_find(l->feed, ftab_hash(feed_table(l->feed), key, klen), key, klen);

	if (h != FTAB_NIL)
		remove_entry(l, h, now_us);
}

const struct local_stats *
local_stats(const struct local *l)
{
	return &l->stats;
}
