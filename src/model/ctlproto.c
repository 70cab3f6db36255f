/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Framing and requests of the control protocol (doc/control.md).
 *
 * Pure functions over bytes.  Lengths are checked against their limit before
 * anything is done with them; JSON is left to jansson, which bounds its depth.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctsync/ctlproto.h"
#include "ctsync/flow.h"

void
ctl_hdr_put(uint8_t out[CTL_HDR_BYTES], enum ctl_type type, uint32_t len)
{
	struct wbuf	 w;

	wbuf_init(&w, out, CTL_HDR_BYTES);
	wbuf_u32(&w, len);
	wbuf_u8(&w, (uint8_t)type);
}

int
ctl_frame_next(struct rbuf *r, uint32_t max, struct ctl_frame *f, size_t *need)
{
	struct rbuf	 t = *r, payload;
	uint32_t	 len;
	uint8_t		 type;

	if (!rbuf_u32(&t, &len) || !rbuf_u8(&t, &type)) {
		*need = CTL_HDR_BYTES;
		return 0;
	}
	if (type < CTL_REQUEST || type >= CTL_TYPES)
		return -EBADMSG;
	if (len > max)
		return -EMSGSIZE;
	if (!rbuf_sub(&t, len, &payload)) {
		*need = CTL_HDR_BYTES + (size_t)len;
		return 0;
	}
	f->type = (enum ctl_type)type;
	f->payload = payload;
	*r = t;
	return 1;
}

static int
check_request(const json_t *req, const char **cmd, char err[CTL_ERR_MAX])
{
	const json_t	*proto;

	if (!json_is_object(req)) {
		snprintf(err, CTL_ERR_MAX, "request is not a JSON object");
		return -EBADMSG;
	}
	proto = json_object_get(req, "proto");
	if (!json_is_integer(proto)) {
		snprintf(err, CTL_ERR_MAX, "request lacks the number \"proto\"");
		return -EBADMSG;
	}
	if (json_integer_value(proto) != CTL_PROTO) {
		snprintf(err, CTL_ERR_MAX, "request speaks control protocol %lld, this daemon "
		    "speaks %d: use the ctsync of the same release",
		    (long long)json_integer_value(proto), CTL_PROTO);
		return -EPROTONOSUPPORT;
	}
	*cmd = json_string_value(json_object_get(req, "cmd"));
	if (*cmd == NULL) {
		snprintf(err, CTL_ERR_MAX, "request lacks the string \"cmd\"");
		return -EBADMSG;
	}
	return 0;
}

int
ctl_request_decode(const uint8_t *p, size_t len, json_t **req, const char **cmd,
    char err[CTL_ERR_MAX])
{
	json_error_t	 jerr;
	json_t		*j;
	int		 rc;

	*req = NULL;
	*cmd = NULL;
	j = json_loadb((const char *)p, len, JSON_REJECT_DUPLICATES, &jerr);
	if (j == NULL) {
		snprintf(err, CTL_ERR_MAX, "request is no JSON: %s", jerr.text);
		return json_error_code(&jerr) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	}
	if ((rc = check_request(j, cmd, err)) < 0) {
		json_decref(j);
		*cmd = NULL;
		return rc;
	}
	*req = j;
	return 0;
}

bool
ctl_flow_put(struct wbuf *w, uint32_t timeout_s, const uint8_t *body, size_t len)
{
	if (len > FLOW_BODY_MAX || wbuf_room(w) < CTL_FLOW_HDR_BYTES + len)
		return false;
	wbuf_u32(w, timeout_s);
	wbuf_u16(w, (uint16_t)len);
	wbuf_bytes(w, body, len);
	return true;
}

int
ctl_flow_get(struct rbuf *r, uint32_t *timeout_s, struct rbuf *body)
{
	struct rbuf	 t = *r, b;
	uint32_t	 timeout;
	uint16_t	 len;

	if (r->len == 0)
		return 0;
	if (!rbuf_u32(&t, &timeout) || !rbuf_u16(&t, &len) || len > FLOW_BODY_MAX ||
	    !rbuf_sub(&t, len, &b))
		return -EBADMSG;
	*timeout_s = timeout;
	*body = b;
	*r = t;
	return 1;
}
