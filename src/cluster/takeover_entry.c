/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a takeover does about one entry of a peer's table: the rules of
 * doc/wire.md, section 8.3.
 */
#include <netinet/in.h>
#include <string.h>

#include "ownership.h"
#include "takeover_priv.h"

#define GRE_LIFE_S	432000u		/* as an established TCP connection */

/* Which pass an entry belongs to. */
static unsigned
pass_of(const struct flow *f)
{
	if (f->expect)
		return PASS_EXPECTS;
	if (f->master_proto != 0)
		return PASS_RELATED;
	if (!(f->status & FLOW_S_ASSURED))
		return 2;
	return f->proto == IPPROTO_TCP ? 0 : 1;
}

/* Does the flow belong to the pass at hand?  Its master has to be there before it. */
static bool
its_turn(struct node *n, const struct flow *f, unsigned pass)
{
	struct takeover	*t = n->takeover;
	unsigned	 p = pass_of(f);

	if (pass == PASSES)
		return p < PASS_RELATED || local_has_master(n->local, f);
	t->related |= p == PASS_RELATED;
	t->expects |= p == PASS_EXPECTS;
	if (p > pass)
		return false;
	return pass == PASS_LEFT || p < PASS_RELATED || local_has_master(n->local, f);
}

/*
 * Packets of a GRE flow that was written don't extend its timeout
 * (doc/kernel.md): a tunnel in use lives longer.
 */
uint32_t
takeover_timeout(const struct node *n, const struct flow *f, uint32_t told_s)
{
	enum flow_timeout	 t = flow_timeout_class(f);

	/* of a copy that nobody has used there only a part of what it had is left */
	if (f->copy && told_s > 1)
		told_s /= 2;
	if (t == FLOW_TIMEOUTS)
		return told_s > 0 ? told_s : 1;
	if (n->conf.fixed_s[t] > 0)
		return n->conf.fixed_s[t];
	if (f->proto == IPPROTO_GRE && (f->status & FLOW_S_SEEN_REPLY) && told_s < GRE_LIFE_S)
		return GRE_LIFE_S;
	if (told_s > 0)
		return told_s;
	return n->conf.default_s[t] > 0 ? n->conf.default_s[t] : flow_timeout_default(t);
}

#define IDLE_US	60000000u	/* after a takeover: leftovers are told from what is in use */

/* Is our own entry a copy that nobody uses, or what a stray packet has made of another node's flow? */
static bool
is_spare(const struct node *n, uint32_t own)
{
	return local_unused(n->local, own) || local_stray(n->local, own);
}

/*
 * We took over lately, and had the entry before: has no event touched it since
 * we were released?
 */
static bool
is_idle(const struct node *n, uint32_t own, const struct flow *ours)
{
	uint64_t	 since_us = ownership_took_over_us(n), known_us = local_known_us(n->local);

	if (since_us == 0 || n->now_us - since_us >= IDLE_US)
		return false;
	/* a dump shows what was there before */
	if (known_us > since_us)
		since_us = known_us;
	if (ours->found && ours->born + (n->now_us - since_us) / 1000 > ownership_clock_ms(n))
		return false;
	return !local_touched(n->local, own, ownership_standby_us(n));
}

/* Does the peer's body say anything else than ours?  What is ours alone aside. */
static bool
differs(const struct flow *theirs, const struct flow *ours)
{
	struct flow	 a = *theirs, b = *ours;
	uint8_t		 pa[FLOW_BODY_MAX], pb[FLOW_BODY_MAX];
	size_t		 la, lb;

	a.incarnation = b.incarnation = 0;
	a.born = b.born = 0;
	a.found = b.found = a.copy = b.copy = a.stray = b.stray = false;
	la = flow_pack(&a, pa, sizeof(pa));
	lb = flow_pack(&b, pb, sizeof(pb));
	return la != lb || memcmp(pa, pb, la) != 0;
}

/* Are translation, master and helper the same?  They are given to an entry when it is made. */
static bool
is_made_alike(const struct flow *theirs, const struct flow *ours)
{
	return memcmp(&theirs->reply, &ours->reply, sizeof(ours->reply)) == 0 &&
	    (theirs->master_proto == 0 || ours->master_proto != 0) &&
	    (theirs->helper[0] == '\0' || ours->helper[0] != '\0');
}

/* Does the connection close there, but not here? */
static bool
closes(const struct flow *theirs, const struct flow *ours)
{
	return theirs->proto == IPPROTO_TCP && !theirs->expect &&
	    theirs->tcp_state > FLOW_TCP_ESTABLISHED && theirs->tcp_state != FLOW_TCP_SYN_SENT2 &&
	    ours->tcp_state <= FLOW_TCP_ESTABLISHED;
}

/* Is the connection in its handshake there, and established here? */
static bool
is_handshake_of(const struct flow *theirs, const struct flow *ours)
{
	return flow_half_open(theirs) && ours->tcp_state == FLOW_TCP_ESTABLISHED;
}

static enum verdict
against_own(const struct node *n, const struct flow *theirs, uint32_t own, bool full)
{
	struct flow	 ours;
	bool		 spare = is_spare(n, own), exact;

	/* the kernel has ended it already, with the address */
	if (!local_load(n->local, own, &ours) || local_is_held(n->local, own))
		return ENTRY_WRITE;
	switch (flow_compare_lives(theirs, &ours)) {
	case FLOW_LIFE_SAME:
		/* what cannot be written in place is wrong in the entry of a stray; another stray is no better */
		if (local_stray(n->local, own) && !theirs->stray && !is_made_alike(theirs, &ours))
			return ENTRY_REPLACE;
		if (memcmp(&theirs->reply, &ours.reply, sizeof(ours.reply)) != 0)
			break;		/* this kernel chose another translation */
		/* a handshake that began here and ended there */
		exact = flow_same_birth(theirs, &ours);
		/* both ends have closed it, wherever that was seen: what opens it again is born later */
		if (exact && flow_closed(&ours) != flow_closed(theirs))
			return flow_closed(theirs) ? ENTRY_OVER : ENTRY_HERE;
		if (flow_behind(&ours, theirs) && (exact || (flow_half_open(&ours) && !theirs->copy)))
			return ENTRY_OVER;
		if (theirs->stray && !ours.copy)
			break;
		/* a copy must not be renewed from a copy; what a stray has made is none */
		if (theirs->copy && !local_stray(n->local, own))
			break;
		if (spare && (full || differs(theirs, &ours)) && !is_handshake_of(theirs, &ours))
			return ENTRY_OVER;
		/*
		 * Nor may one that was used become what it was before, or what a
		 * stray packet made there.  A close is what came of it, unless it
		 * was that of a former flow.
		 */
		if (is_idle(n, own, &ours) && !flow_behind(theirs, &ours) &&
		    (closes(theirs, &ours) ? exact : full))
			return ENTRY_OVER;
		break;
	case FLOW_LIFE_YOUNGER:
		return ENTRY_REPLACE;
	case FLOW_LIFE_OLDER:
		return ENTRY_HERE;
	case FLOW_LIFE_OTHER:
		/* what is over does not come back in place of what is not, nor does what a stray has made */
		if (closes(theirs, &ours) || (theirs->stray && !ours.copy))
			return ENTRY_HERE;
		return spare || (!theirs->copy && is_idle(n, own, &ours)) ? ENTRY_REPLACE : ENTRY_HERE;
	}
	/* the peer may have carried it since the kernel learned the windows */
	return full && theirs->proto == IPPROTO_TCP && !theirs->expect ? ENTRY_LOOSEN : ENTRY_HERE;
}

/*
 * A reply that came before the flow was written has made an entry of its own,
 * whose original tuple is our reply tuple: the flow cannot be written beside it.
 */
static bool
find_reversed(struct node *n, const struct flow *theirs)
{
	struct takeover	*t = n->takeover;
	struct flow	 reversed, ours;
	uint32_t	 own;
	unsigned	 i;

	reversed = *theirs;
	reversed.orig = theirs->reply;
	t->in_way_len = flow_pack_key(&reversed, t->in_way);
	own = local_find(n->local, t->in_way, t->in_way_len);
	if (own == FTAB_NIL || !local_load(n->local, own, &ours) ||
	    (theirs->born != 0 && ours.born != 0 && ours.born < theirs->born))
		return false;
	for (i = 0; i < n->npeers; i++)
		if (cluster_find(n, i, t->in_way, t->in_way_len) != FTAB_NIL)
			return false;
	return true;
}

enum verdict
takeover_entry(struct node *n, unsigned peer, uint32_t h, unsigned pass, bool full,
    struct flow *f)
{
	struct ftab	*tab = recv_table(n->recv[peer]);
	const uint8_t	*body;
	size_t		 len, klen;
	uint32_t	 own;

	body = ftab_body(tab, h, &len);
	klen = flow_key_len(body, len);
	if (flow_unpack(body, len, f) < 0)
		return ENTRY_NONE;
	if (!its_turn(n, f, pass))
		return ENTRY_LATER;
	/* looked at again in the next pass: the other copy may go before we come to it */
	if (n->npeers > 1 && ownership_outranked(n, peer, body, klen))
		return ENTRY_OUTRANKED;
	own = local_find(n->local, body, klen);
	if (ownership_ended(n, peer, h))
		return own != FTAB_NIL ? ENTRY_HERE : ENTRY_ENDED;
	if (own != FTAB_NIL)
		return against_own(n, f, own, full);
	return !f->expect && find_reversed(n, f) ? ENTRY_REPLACE_REVERSED : ENTRY_WRITE;
}
