/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a job of the writer does to the kernel.  Runs on the writer's thread.
 *
 * Many complete messages go out in one send(), which returns when the kernel
 * has worked all of them off.  Only the last one asks for an acknowledgement;
 * errors always come back, and say by sequence number which message they
 * belong to.  No answer to a message before an answered one means success.
 *
 * An entry is never deleted in order to write it anew: that opens a hole in
 * which its packets belong to no connection.
 */
#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kct_priv.h"
#include "nl.h"

#define BATCH		64		/* messages a send */
#define REREAD		(BATCH / 2)	/* items that are looked at again at a time */
#define SLOT		1600		/* bytes of the longest answer, see kct_event.c */
#define SOCKBUF_BYTES	(4u << 20)	/* holds the answers to a whole batch */
#define ANSWER_S	5		/* for an answer that never comes */

#define NO_ANSWER	EIO

struct kct_batch {
	int		 fd;
	uint32_t	 portid;
	atomic_bool	 stop;
	/* The batch at hand. */
	uint32_t	 seq;		/* of its first message */
	unsigned	 n;		/* messages */
	size_t		 len, last;	/* bytes in out, offset of the last message */
	bool		 gets;		/* they are gets: an answer must come */
	bool		 expects;	/* the job at hand creates expectations */
	uint32_t	 item[BATCH];	/* which item a message is about */
	uint16_t	 err[BATCH];	/* and its errno */
	struct flow	 got[BATCH];	/* answers to gets */
	struct mmsghdr	 msgs[BATCH];
	struct iovec	 iov[BATCH];
	uint8_t		 in[BATCH][SLOT];
	uint8_t		 out[BATCH * KCT_MSG_MAX];
};

/* --- one batch --------------------------------------------------------------- */

static void
begin(struct kct_batch *b, bool gets)
{
	b->seq += b->n;
	b->n = 0;
	b->len = 0;
	b->gets = gets;
}

static void
add_message(struct kct_batch *b, uint32_t item, size_t len)
{
	b->item[b->n] = item;
	b->err[b->n] = b->gets ? NO_ANSWER : 0;
	b->last = b->len;
	b->len += len;
	b->n++;
}

/* One answer; true if it is the one that ends the batch. */
static bool
take_answer(struct kct_batch *b, const uint8_t *msg, const struct nlmsghdr *h,
    const struct rbuf *payload)
{
	uint32_t		 k = h->nlmsg_seq - b->seq;
	enum kct_msg_type	 type;
	int			 e;

	if (k >= b->n)
		return false;		/* of an earlier batch that was given up */
	if (h->nlmsg_type == NLMSG_ERROR) {
		e = nl_error(payload);
		if (e != 0)
			b->err[k] = (uint16_t)-e;
		return k == b->n - 1;
	}
	if (b->gets && kct_parse(msg, h->nlmsg_len, &b->got[k], &type) == 0) {
		b->got[k].has |= FLOW_HAS_WHOLE;
		b->err[k] = 0;
	}
	return false;
}

static int
collect(struct kct_batch *b)
{
	struct rbuf	 r, payload;
	struct nlmsghdr	 h;
	const uint8_t	*msg;
	bool		 done = false;
	int		 i, n;

	while (!done) {
		n = recvmmsg(b->fd, b->msgs, BATCH, MSG_WAITFORONE, NULL);
		if (n == -1 && errno != EINTR)
			return -errno;
		for (i = 0; i < n; i++) {
			rbuf_init(&r, b->in[i], b->msgs[i].msg_len);
			for (msg = r.p; nl_msg_next(&r, &h, &payload); msg = r.p)
				done |= take_answer(b, msg, &h, &payload);
		}
	}
	return 0;
}

/* Send the batch and set err of each of its messages. */
static void
exchange(struct kct_batch *b, struct kct_job *j)
{
	unsigned	 k;
	ssize_t		 sent;

	if (b->n == 0)
		return;
	j->batches++;
	kct_msg_ack(b->out + b->last);
	do
		sent = send(b->fd, b->out, b->len, 0);
	while (sent == -1 && errno == EINTR);
	if (sent == -1) {
		for (k = 0; k < b->n; k++)
			b->err[k] = (uint16_t)errno;
	} else if (collect(b) < 0) {
		/* Answers are missing, so silence means nothing. */
		for (k = 0; k < b->n; k++)
			if (b->err[k] == 0 && !b->gets)
				b->err[k] = NO_ANSWER;
	}
}

/* --- items ------------------------------------------------------------------- */

/* Item i as a flow: 0 or -errno. */
static int
load(const struct kct_job *j, uint32_t i, struct flow *f)
{
	const struct kct_item	*it = &j->items[i];
	size_t			 used;
	int			 rc;

	if (j->op == KCT_CREATE || j->op == KCT_UPDATE)
		rc = flow_unpack(j->bytes + it->off, it->len, f);
	else
		rc = flow_unpack_key(j->bytes + it->off, it->len, f, &used);
	if (rc < 0)
		return rc;
	if (j->op == KCT_DELETE) {
		f->id = it->id;
		if (f->id != 0)
			f->has |= FLOW_HAS_ID;
		return 0;
	}
	f->timeout_s = it->timeout_s;
	if (it->timeout_s != 0)
		f->has |= FLOW_HAS_TIMEOUT;
	if (j->dropped != NULL && !f->expect)
		f->has &= ~(uint32_t)j->dropped[i];
	return 0;
}

static size_t
build(struct kct_batch *b, enum kct_op op, unsigned options, const struct flow *f, uint32_t keep)
{
	uint8_t		*p = b->out + b->len;
	size_t		 room = sizeof(b->out) - b->len;
	uint32_t	 seq = b->seq + b->n;

	switch (op) {
	case KCT_CREATE:
		return kct_build_create(p, room, seq, f, options);
	case KCT_UPDATE:
		return kct_build_update(p, room, seq, f, keep, options);
	case KCT_TIMEOUT:
		return kct_build_timeout(p, room, seq, f);
	case KCT_STRICT:
		return kct_build_strict(p, room, seq, f);
	case KCT_RELAX:
		return kct_build_relax(p, room, seq, f);
	case KCT_DELETE:
		return kct_build_delete(p, room, seq, f);
	case KCT_GET:
		return kct_build_get(p, room, seq, f);
	default:
		return 0;
	}
}

static bool
has_labels(const struct flow *f)
{
	return !f->expect && (f->has & FLOW_HAS_LABELS);
}

/* Build the message for item i of a job, or record why there is none. */
static void
add_item(struct kct_batch *b, struct kct_job *j, uint32_t i, enum kct_op op)
{
	struct flow	 f;
	size_t		 len;
	int		 rc;

	if ((rc = load(j, i, &f)) < 0) {
		j->err[i] = (uint16_t)-rc;
		return;
	}
	if ((len = build(b, op, j->options, &f, 0)) == 0) {
		j->err[i] = EINVAL;
		return;
	}
	add_message(b, i, len);
	if (j->labelled == 0 && has_labels(&f))
		j->labelled = i + 1;
	b->expects |= op == KCT_CREATE && f.expect;
}

/* An answer about an expectation does not name the zone that it was asked for in. */
static void
name_zone(const struct kct_job *j, uint32_t i, struct flow *got)
{
	struct flow	 f;

	if (!got->expect || load(j, i, &f) < 0)
		return;
	got->zone = f.zone;
	got->zone_dir = f.zone_dir;
}

static void
settle(struct kct_batch *b, struct kct_job *j)
{
	unsigned	 k;

	for (k = 0; k < b->n; k++) {
		j->err[b->item[k]] = b->err[k];
		if (j->op == KCT_GET && b->err[k] == 0) {
			j->flows[b->item[k]] = b->got[k];
			name_zone(j, b->item[k], &j->flows[b->item[k]]);
		}
	}
}

/* --- second thoughts ----------------------------------------------------------- */

/*
 * Is the expectation as it is to be, but for its timeout, which is all that an
 * update changes?  One that has become active stays so: no event tells of that,
 * and a replica may be older.
 */
static bool
same_expect(const struct flow_expect *a, const struct flow_expect *b)
{
	unsigned	 flags = a->flags ^ b->flags;

	if (!(b->flags & FLOW_E_INACTIVE))
		flags &= ~FLOW_E_INACTIVE;
	return (flags & ~FLOW_E_USERSPACE) == 0 && a->policy == b->policy &&
	    a->mask_l4src == b->mask_l4src &&
	    memcmp(&a->mask_src, &b->mask_src, sizeof(a->mask_src)) == 0 &&
	    a->nat == b->nat && a->nat_dir == b->nat_dir && a->nat_l4 == b->nat_l4 &&
	    memcmp(&a->nat_addr, &b->nat_addr, sizeof(a->nat_addr)) == 0 &&
	    strcmp(a->fn, b->fn) == 0;
}

/*
 * What to do about an item whose entry, as just read, is *got (NULL: there is
 * none).  Adds a message or sets the final errno.  An entry that had the key
 * may have lapsed since; the create is then tried once more, and if that finds
 * something in its way again it is a reply tuple or a NAT port that is taken.
 */
static void
decide(struct kct_batch *b, struct kct_job *j, uint32_t i, const struct flow *got, bool *update)
{
	struct flow	 f;
	size_t		 len;

	if (load(j, i, &f) < 0)
		return;
	if (got != NULL && !f.expect && !kct_same_flow(&f, got)) {
		j->err[i] = EEXIST;
		return;
	}
	if (got == NULL && j->op == KCT_UPDATE) {
		j->err[i] = ENOENT;
		return;
	}
	if (got != NULL && f.expect && (!kct_same_flow(&f, got) || !same_expect(&f.exp, &got->exp))) {
		/* packets don't depend on these all the time, as they do on flows */
		add_message(b, i, build(b, KCT_DELETE, j->options, &f, 0));
		got = NULL;
	}
	if (got != NULL && f.expect && j->op == KCT_CREATE && got->timeout_s >= f.timeout_s) {
		j->err[i] = 0;
		j->was_there[i] = true;
		j->res.updated++;
		return;
	}
	*update = got != NULL;
	/* neither of these can be given to an entry that is there */
	if (*update && !f.expect && f.master_proto != 0 && got->master_proto == 0)
		j->res.lost_master++;
	if (*update && !f.expect && f.helper[0] != '\0' && strcmp(f.helper, got->helper) != 0)
		j->res.lost_helper++;
	/* no labels is a value, too, where there are some */
	if (*update && !f.expect && memcmp(got->rare.labels, f.rare.labels, FLOW_LABEL_BYTES) != 0 &&
	    !(j->dropped != NULL && (j->dropped[i] & FLOW_HAS_LABELS)))
		f.has |= FLOW_HAS_LABELS;
	len = build(b, *update ? KCT_UPDATE : KCT_CREATE, j->options, &f,
	    *update ? got->status : 0);
	add_message(b, i, len);
}

/*
 * Look at the entries that were in the way of the n items in idx, and do what
 * is right.  At most REREAD items, each of which takes two messages at most.
 */
static void
reconsider(struct kct_batch *b, struct kct_job *j, const uint32_t *idx, unsigned n)
{
	uint32_t	 item[BATCH];
	uint16_t	 seen[BATCH];
	bool		 update[BATCH] = { false };
	unsigned	 k;

	begin(b, true);
	for (k = 0; k < n; k++)
		add_item(b, j, idx[k], KCT_GET);
	exchange(b, j);
	n = b->n;
	memcpy(item, b->item, sizeof(item));
	memcpy(seen, b->err, sizeof(seen));
	begin(b, false);
	for (k = 0; k < n; k++) {
		if (seen[k] == 0) {
			name_zone(j, item[k], &b->got[k]);
			decide(b, j, item[k], &b->got[k], &update[b->n]);
		} else if (seen[k] == ENOENT) {
			decide(b, j, item[k], NULL, &update[b->n]);
		} else {
			j->err[item[k]] = seen[k];
		}
	}
	exchange(b, j);
	for (k = 0; k < b->n; k++)
		if (j->op == KCT_CREATE && update[k] && b->err[k] == 0) {
			j->res.updated++;
			j->was_there[b->item[k]] = true;
		}
	settle(b, j);
	begin(b, false);
}

/*
 * A create finds the entry in place (EEXIST); an update would clear a status
 * bit that the kernel never clears (EBUSY): both need to know what is there.
 */
static void
reconsider_all(struct kct_batch *b, struct kct_job *j)
{
	uint32_t	 idx[REREAD], i;
	uint16_t	 which = j->op == KCT_CREATE ? EEXIST : EBUSY;
	unsigned	 n = 0;

	if (j->op != KCT_CREATE && j->op != KCT_UPDATE)
		return;
	for (i = 0; i < j->n && !atomic_load(&b->stop); i++) {
		if (j->err[i] != which)
			continue;
		idx[n++] = i;
		if (n == REREAD) {
			reconsider(b, j, idx, n);
			n = 0;
		}
	}
	if (n > 0)
		reconsider(b, j, idx, n);
}

/* --- what the kernel does not take ------------------------------------------------ */

/* Without which part may it take the flow? */
static uint32_t
spare(int err, const struct flow *f)
{
	uint32_t	 rare = f->has & (FLOW_HAS_MASTER | FLOW_HAS_HELPER | FLOW_HAS_LABELS);

	if (f->expect)
		return 0;
	switch (err) {
	case ENOENT:			/* there is no such master */
		return rare & FLOW_HAS_MASTER;
	case EOPNOTSUPP:		/* no such helper */
		return rare & FLOW_HAS_HELPER ? FLOW_HAS_HELPER : rare & FLOW_HAS_LABELS;
	case ENOSPC:			/* the ruleset knows no labels; of an update */
		return rare & FLOW_HAS_LABELS;
	default:
		return 0;
	}
}

static void
count_lost(struct kct_job *j, uint32_t part)
{
	if (part == FLOW_HAS_MASTER)
		j->res.lost_master++;
	else if (part == FLOW_HAS_HELPER)
		j->res.lost_helper++;
	else
		j->res.lost_labels++;
}

/* True if there is another try to be made for item i. */
static bool
do_without(struct kct_job *j, uint32_t i)
{
	struct flow	 f;
	uint32_t	 part;

	if ((j->op != KCT_CREATE && j->op != KCT_UPDATE) || j->err[i] == 0 || load(j, i, &f) < 0 ||
	    (part = spare(j->err[i], &f)) == 0)
		return false;
	if (j->dropped == NULL && (j->dropped = calloc(j->n, sizeof(*j->dropped))) == NULL)
		return false;
	j->dropped[i] |= (uint16_t)part;
	count_lost(j, part);
	return true;
}

/*
 * A missing master, helper or label costs these, not the flow: it is written
 * without.  Each turn takes something away, so that there is an end.  True if
 * there was a turn.
 */
static bool
retry_without(struct kct_batch *b, struct kct_job *j)
{
	uint32_t	 i, again;
	bool		 any = false;

	do {
		again = 0;
		begin(b, false);
		for (i = 0; i < j->n && !atomic_load(&b->stop); i++) {
			if (do_without(j, i)) {
				add_item(b, j, i, j->op);
				again++;
			}
			if (b->n == BATCH || (i == j->n - 1 && b->n > 0)) {
				exchange(b, j);
				settle(b, j);
				begin(b, false);
			}
		}
		any |= again > 0;
	} while (again > 0);
	return any;
}

/* Was item i written with labels, as far as its answer says? */
static bool
is_labelled(const struct kct_job *j, uint32_t i)
{
	struct flow	 f;

	return j->err[i] == 0 && load(j, i, &f) == 0 && has_labels(&f);
}

/*
 * Of a new flow the kernel leaves labels out without saying so if the ruleset
 * uses none, and then of all of them: one that should have some is looked at.
 */
static void
look_at_labels(struct kct_batch *b, struct kct_job *j)
{
	static const uint8_t	 none[FLOW_LABEL_BYTES];
	uint32_t		 i;

	if (j->op != KCT_CREATE || j->labelled == 0 || atomic_load(&b->stop))
		return;
	for (i = j->labelled - 1; i < j->n && !is_labelled(j, i); i++)
		;
	if (i == j->n)
		return;
	begin(b, true);
	add_item(b, j, i, KCT_GET);
	exchange(b, j);
	if (b->n == 0 || b->err[0] != 0 ||
	    memcmp(b->got[0].rare.labels, none, sizeof(none)) != 0)
		return;
	for (; i < j->n; i++)
		j->res.lost_labels += is_labelled(j, i);
}

/*
 * A new expectation gets the timeout of its helper's policy; an update sets
 * the one it is to have.  One that has gone meanwhile was written all the same.
 */
static void
set_timeouts(struct kct_batch *b, struct kct_job *j)
{
	uint32_t	 i;
	struct flow	 f;

	begin(b, false);
	for (i = 0; i < j->n && !atomic_load(&b->stop); i++) {
		if (j->err[i] == 0 && !j->was_there[i] && load(j, i, &f) == 0 && f.expect)
			add_item(b, j, i, KCT_UPDATE);
		if (b->n == BATCH) {
			exchange(b, j);
			begin(b, false);
		}
	}
	exchange(b, j);
	begin(b, false);
}

static void
tally(struct kct_job *j)
{
	struct kct_result	*res = &j->res;
	uint32_t		 i;

	res->op = j->op;
	res->items = j->n;
	res->err = j->err;
	res->was_there = j->was_there;
	res->flows = j->flows;
	for (i = 0; i < j->n; i++) {
		switch (j->err[i]) {
		case 0:
			res->done++;
			break;
		case ENOENT:
			res->absent++;
			break;
		case EEXIST:
			res->clashed++;
			break;
		default:
			res->failed++;
			break;
		}
	}
}

void
kct_batch_run(struct kct_batch *b, struct kct_job *j)
{
	uint32_t	 i;

	b->expects = false;
	begin(b, j->op == KCT_GET);
	for (i = 0; i < j->n && !atomic_load(&b->stop); i++) {
		add_item(b, j, i, j->op);
		if (b->n == BATCH || i == j->n - 1) {
			exchange(b, j);
			settle(b, j);
			begin(b, j->op == KCT_GET);
		}
	}
	do
		reconsider_all(b, j);
	while (retry_without(b, j));
	look_at_labels(b, j);
	if (b->expects)
		set_timeouts(b, j);
	tally(j);
}

/* --- life ---------------------------------------------------------------------- */

static int
set_options(int fd)
{
	struct timeval	 tv = { .tv_sec = ANSWER_S };
	int		 one = 1, rc;

	if ((rc = nl_bufsize(fd, SO_SNDBUFFORCE, SOCKBUF_BYTES)) < 0 ||
	    (rc = nl_bufsize(fd, SO_RCVBUFFORCE, SOCKBUF_BYTES)) < 0)
		return rc;
	if (setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == -1)
		return -errno;
	return 0;
}

struct kct_batch *
kct_batch_new(int *err)
{
	struct kct_batch	*b;
	unsigned		 k;
	int			 rc;

	if ((b = calloc(1, sizeof(*b))) == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	if ((rc = nl_open(NETLINK_NETFILTER, 0, &b->portid)) < 0) {
		free(b);
		*err = rc;
		return NULL;
	}
	b->fd = rc;
	if ((rc = set_options(b->fd)) < 0) {
		kct_batch_free(b);
		*err = rc;
		return NULL;
	}
	b->seq = 1;
	for (k = 0; k < BATCH; k++) {
		b->iov[k].iov_base = b->in[k];
		b->iov[k].iov_len = sizeof(b->in[k]);
		b->msgs[k].msg_hdr.msg_iov = &b->iov[k];
		b->msgs[k].msg_hdr.msg_iovlen = 1;
	}
	return b;
}

void
kct_batch_free(struct kct_batch *b)
{
	close(b->fd);
	free(b);
}

uint32_t
kct_batch_portid(const struct kct_batch *b)
{
	return b->portid;
}

void
kct_batch_stop(struct kct_batch *b)
{
	atomic_store(&b->stop, true);
}
