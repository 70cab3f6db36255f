/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A feed that has no peers: whatever it sends goes nowhere.
 */
#ifndef NULL_FEED_H
#define NULL_FEED_H

#include "ctsync/feed.h"

static inline void
null_send(void *ctx, uint32_t peers, uint32_t stream, const uint8_t *frame, size_t len)
{
	(void)ctx;
	(void)peers;
	(void)stream;
	(void)frame;
	(void)len;
}

static inline void
null_restart(void *ctx, unsigned peer, uint32_t stream)
{
	(void)ctx;
	(void)peer;
	(void)stream;
}

static inline void
null_trailer(void *ctx, uint32_t peers, uint32_t pending_us, struct wbuf *w)
{
	(void)ctx;
	(void)peers;
	(void)pending_us;
	(void)w;
}

static const struct feed_ops	null_feed_ops = { null_send, null_restart, null_trailer };

#endif
