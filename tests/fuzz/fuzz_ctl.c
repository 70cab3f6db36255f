/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: bytes that a control client may send.
 *
 * Frames as the server takes them, requests, the filter in a request, and the
 * payload of FLOWS as the tool takes it.  The first byte chooses whether the
 * rest is a stream of frames, a request or the payload of FLOWS, so that each
 * decoder is reached without the others' blessing.
 */
#include <stdlib.h>

#include "ctsync/ctlproto.h"
#include "ctsync/filter.h"
#include "ctsync/flow.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok)
{
	if (!ok)
		abort();
}

static void
fuzz_request(const uint8_t *p, size_t len)
{
	struct flow_filter	 filter;
	struct flow		 flow = { .family = 2 };
	char			 err[CTL_ERR_MAX], ferr[FILTER_ERR_MAX];
	const char		*cmd;
	json_t			*req;

	if (ctl_request_decode(p, len, &req, &cmd, err) < 0) {
		check(req == NULL);
		return;
	}
	check(cmd != NULL);
	if (flow_filter_json(&filter, json_object_get(req, "filter"), ferr) == 0)
		(void)flow_filter_match(&filter, &flow);
	json_decref(req);
}

static void
fuzz_flows(struct rbuf *r)
{
	struct rbuf	 body;
	struct flow	 f;
	uint32_t	 timeout;
	size_t		 before;

	do {
		before = r->len;
		if (ctl_flow_get(r, &timeout, &body) < 1)
			return;
		check(r->len < before && body.len <= FLOW_BODY_MAX);
		(void)!flow_unpack(body.p, body.len, &f);
	} while (r->len > 0);
}

static void
fuzz_frames(struct rbuf *r)
{
	struct ctl_frame	 f;
	size_t			 need = 0, before = r->len;
	int			 rc;

	while ((rc = ctl_frame_next(r, CTL_REQUEST_MAX, &f, &need)) > 0) {
		check(f.payload.len <= CTL_REQUEST_MAX);
		check(r->len + f.payload.len + CTL_HDR_BYTES == before);
		before = r->len;
		if (f.type == CTL_REQUEST)
			fuzz_request(f.payload.p, f.payload.len);
		else if (f.type == CTL_FLOWS)
			fuzz_flows(&f.payload);
	}
	check(r->len == before);
	if (rc == 0)
		check(need > r->len && need <= CTL_REQUEST_MAX + CTL_HDR_BYTES);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rbuf	 r;

	if (size < 1)
		return 0;
	rbuf_init(&r, data + 1, size - 1);
	switch (data[0] % 3) {
	case 0:
		fuzz_frames(&r);
		break;
	case 1:
		fuzz_request(r.p, r.len);
		break;
	default:
		fuzz_flows(&r);
		break;
	}
	return 0;
}
