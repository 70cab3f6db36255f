/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control protocol between ctsync and ctsyncd (doc/control.md).
 *
 * Frames of u32 length, u8 type, payload.  A request is one frame of JSON; its
 * answer is any number of FLOWS, TEXT and PROGRESS frames and one RESULT.
 * Here is what both ends share: framing, the records of a FLOWS frame and the
 * reading of a request.  Sockets, rights and commands are left to others.
 * Nothing here trusts a length before it has met its limit.
 */
#ifndef CTSYNC_CTLPROTO_H
#define CTSYNC_CTLPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "ctsync/buf.h"

#define CTL_PROTO		1		/* version of the protocol */
#define CTL_SOCKET_DEFAULT	"/run/ctsyncd/ctsyncd.sock"

#define CTL_HDR_BYTES		5
#define CTL_REQUEST_MAX		65536u		/* payload of a request, bytes */
#define CTL_FRAME_MAX		262144u		/* payload of any other frame */
#define CTL_FLOWS_MAX		65536u		/* payload of a FLOWS frame */
#define CTL_FLOW_HDR_BYTES	6		/* timeout and length of a record */
#define CTL_ERR_MAX		256

enum ctl_type {
	CTL_REQUEST = 1,	/* JSON, from the tool */
	CTL_FLOWS,		/* records, see ctl_flow_put() */
	CTL_TEXT,		/* output as it is to be printed, UTF-8 */
	CTL_PROGRESS,		/* one line for who waits, UTF-8 */
	CTL_RESULT,		/* JSON, ends the answer */
	CTL_TYPES
};

/* What a RESULT says in "exit", and with what ctsync ends. */
enum ctl_exit {
	CTL_EXIT_OK,
	CTL_EXIT_FAILED,	/* not ready, different, failed in part or as a whole */
	CTL_EXIT_USAGE,
	CTL_EXIT_UNREACHABLE	/* no daemon, or it does not let us */
};

struct ctl_frame {
	enum ctl_type	 type;
	struct rbuf	 payload;	/* points into what was read from */
};

/* Header of a frame with len bytes of payload, len <= CTL_FRAME_MAX. */
void	ctl_hdr_put(uint8_t out[CTL_HDR_BYTES], enum ctl_type type, uint32_t len);

/*
 * Take the next frame, whose payload may have max bytes, off *r.
 *
 * 1 and *f when it is complete.  0 when it is not: *r is left alone, and *need
 * says how many bytes the frame (or, without a header, the header) has in all.
 * -EBADMSG for an unknown type, -EMSGSIZE beyond max.
 */
int	ctl_frame_next(struct rbuf *r, uint32_t max, struct ctl_frame *f, size_t *need)
	    __attribute__((warn_unused_result));

/*
 * Decode the payload of a request: a JSON object with "proto" and "cmd".
 *
 * On success *req is a new reference and *cmd points into it.  -EBADMSG if it
 * is something else, -EPROTONOSUPPORT for another protocol version, -ENOMEM;
 * then err holds a sentence for the user and *req is NULL.
 */
int	ctl_request_decode(const uint8_t *p, size_t len, json_t **req, const char **cmd,
	    char err[CTL_ERR_MAX]) __attribute__((warn_unused_result));

/*
 * Append a flow to the payload of a FLOWS frame: body is a packed flow
 * (ctsync/flow.h).  False, and *w unchanged, when it does not fit.
 */
bool	ctl_flow_put(struct wbuf *w, uint32_t timeout_s, const uint8_t *body, size_t len)
	    __attribute__((warn_unused_result));

/* The next flow: 1, 0 at the end, -EBADMSG if the payload is cut short. */
int	ctl_flow_get(struct rbuf *r, uint32_t *timeout_s, struct rbuf *body)
	    __attribute__((warn_unused_result));

#endif
