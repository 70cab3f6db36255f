/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel's own tables for `show kernel` and `count kernel`: read by the
 * tool itself, through libnetfilter_conntrack, so that the daemon, whose work
 * this would delay, is not needed.  Its objects are what text and XML are made
 * of; for the filter and for JSON the message is decoded once more.
 */
#include <sys/socket.h>

#include <errno.h>
#include <string.h>

#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "ctsync/kct_msg.h"

#include "ctl.h"

struct kdump_ctx {
	bool	(*fn)(void *, const struct kentry *);
	void	*ctx;
	bool	 stopped;
	int	 rc;
};

static int
hand_over(struct kdump_ctx *k, const struct nlmsghdr *nlh, struct kentry *e)
{
	enum kct_msg_type	 type;
	int			 rc = kct_parse(nlh, nlh->nlmsg_len, &e->f, &type);

	if (rc == -EAFNOSUPPORT)
		return NFCT_CB_CONTINUE;
	if (rc == 0 && k->fn(k->ctx, e))
		return NFCT_CB_CONTINUE;
	k->rc = rc;
	k->stopped = true;
	return NFCT_CB_STOP;
}

static int
flow_cb(const struct nlmsghdr *nlh, enum nf_conntrack_msg_type type, struct nf_conntrack *ct,
    void *data)
{
	struct kentry	 e = { .ct = ct };

	(void)type;
	return hand_over(data, nlh, &e);
}

static int
expect_cb(const struct nlmsghdr *nlh, enum nf_conntrack_msg_type type, struct nf_expect *exp,
    void *data)
{
	struct kentry	 e = { .exp = exp };

	(void)type;
	return hand_over(data, nlh, &e);
}

int
kdump(uint8_t family, bool expect, bool (*fn)(void *ctx, const struct kentry *e), void *ctx)
{
	struct kdump_ctx	 k = { .fn = fn, .ctx = ctx };
	struct nfct_handle	*h;
	uint32_t		 fam = family;
	int			 rc;

	if ((h = nfct_open(expect ? EXPECT : CONNTRACK, 0)) == NULL)
		return -errno;
	if (expect) {
		nfexp_callback_register2(h, NFCT_T_ALL, expect_cb, &k);
		rc = nfexp_query(h, NFCT_Q_DUMP, &fam);
	} else {
		nfct_callback_register2(h, NFCT_T_ALL, flow_cb, &k);
		rc = nfct_query(h, NFCT_Q_DUMP, &fam);
	}
	if (rc < 0 && !k.stopped)
		k.rc = -errno;
	nfct_close(h);
	return k.rc;
}
