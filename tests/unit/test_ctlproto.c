/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control protocol's framing: what is complete is taken, no prefix of it
 * is, and each limit holds to the byte.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/ctlproto.h"
#include "ctsync/flow.h"

static size_t
make_frame(uint8_t *out, enum ctl_type type, const void *p, size_t len)
{
	ctl_hdr_put(out, type, (uint32_t)len);
	memcpy(out + CTL_HDR_BYTES, p, len);
	return CTL_HDR_BYTES + len;
}

START_TEST(frame_roundtrip_and_prefixes)
{
	uint8_t			 buf[64];
	struct ctl_frame	 f;
	struct rbuf		 r;
	size_t			 n, i, need;

	n = make_frame(buf, CTL_TEXT, "hello", 5);
	ck_assert_uint_eq(n, 10);
	for (i = 0; i < n; i++) {
		rbuf_init(&r, buf, i);
		ck_assert_int_eq(ctl_frame_next(&r, 5, &f, &need), 0);
		ck_assert_uint_eq(need, i < CTL_HDR_BYTES ? CTL_HDR_BYTES : n);
		ck_assert_uint_eq(r.len, i);
	}
	memcpy(buf + n, "rest", 4);
	rbuf_init(&r, buf, n + 4);
	ck_assert_int_eq(ctl_frame_next(&r, 5, &f, &need), 1);
	ck_assert_int_eq(f.type, CTL_TEXT);
	ck_assert_uint_eq(f.payload.len, 5);
	ck_assert_mem_eq(f.payload.p, "hello", 5);
	ck_assert_uint_eq(r.len, 4);
	ck_assert_mem_eq(r.p, "rest", 4);
}
END_TEST

START_TEST(frame_limits)
{
	uint8_t			 buf[64];
	struct ctl_frame	 f;
	struct rbuf		 r;
	size_t			 n, need;
	unsigned		 type;

	n = make_frame(buf, CTL_REQUEST, "12345", 5);
	rbuf_init(&r, buf, n);
	ck_assert_int_eq(ctl_frame_next(&r, 4, &f, &need), -EMSGSIZE);
	/* The limit is met before the payload has come. */
	ctl_hdr_put(buf, CTL_REQUEST, CTL_REQUEST_MAX + 1);
	rbuf_init(&r, buf, CTL_HDR_BYTES);
	ck_assert_int_eq(ctl_frame_next(&r, CTL_REQUEST_MAX, &f, &need), -EMSGSIZE);
	ctl_hdr_put(buf, CTL_REQUEST, CTL_REQUEST_MAX);
	ck_assert_int_eq(ctl_frame_next(&r, CTL_REQUEST_MAX, &f, &need), 0);
	ck_assert_uint_eq(need, CTL_REQUEST_MAX + CTL_HDR_BYTES);
	for (type = 0; type < 256; type++) {
		n = make_frame(buf, (enum ctl_type)type, "", 0);
		rbuf_init(&r, buf, n);
		ck_assert_int_eq(ctl_frame_next(&r, 0, &f, &need),
		    type >= CTL_REQUEST && type < CTL_TYPES ? 1 : -EBADMSG);
	}
}
END_TEST

START_TEST(request_good)
{
	static const char	 text[] = "{\"proto\":1,\"cmd\":\"show\",\"table\":\"local\"}";
	char			 err[CTL_ERR_MAX];
	const char		*cmd;
	json_t			*req;

	ck_assert_int_eq(ctl_request_decode((const uint8_t *)text, strlen(text), &req, &cmd, err), 0);
	ck_assert_str_eq(cmd, "show");
	ck_assert_str_eq(json_string_value(json_object_get(req, "table")), "local");
	json_decref(req);
}
END_TEST

START_TEST(request_bad)
{
	static const struct {
		const char	*text;
		int		 rc;
		const char	*err;	/* a part of it */
	} bad[] = {
		{ "", -EBADMSG, "JSON" },
		{ "{", -EBADMSG, "JSON" },
		{ "[]", -EBADMSG, "object" },
		{ "\"x\"", -EBADMSG, "JSON" },
		{ "{}", -EBADMSG, "proto" },
		{ "{\"proto\":\"1\",\"cmd\":\"x\"}", -EBADMSG, "proto" },
		{ "{\"proto\":2,\"cmd\":\"x\"}", -EPROTONOSUPPORT, "protocol 2" },
		{ "{\"proto\":1}", -EBADMSG, "cmd" },
		{ "{\"proto\":1,\"cmd\":7}", -EBADMSG, "cmd" },
		{ "{\"proto\":1,\"cmd\":\"x\"} x", -EBADMSG, "JSON" },
		{ "{\"proto\":1,\"cmd\":\"x\",\"cmd\":\"y\"}", -EBADMSG, "JSON" },
	};
	char		 err[CTL_ERR_MAX];
	const char	*cmd;
	json_t		*req;
	size_t		 i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		req = (json_t *)err;
		ck_assert_int_eq(ctl_request_decode((const uint8_t *)bad[i].text,
		    strlen(bad[i].text), &req, &cmd, err), bad[i].rc);
		ck_assert_ptr_null(req);
		ck_assert_ptr_nonnull(strstr(err, bad[i].err));
	}
}
END_TEST

START_TEST(flows_roundtrip)
{
	uint8_t		 buf[256], body[40] = { 1, 2, 3 };
	struct wbuf	 w;
	struct rbuf	 r, b;
	uint32_t	 timeout;
	int		 i, n = 0;

	wbuf_init(&w, buf, sizeof(buf));
	while (ctl_flow_put(&w, (uint32_t)n * 1000, body, (size_t)n))
		n++;
	ck_assert(wbuf_ok(&w));		/* what does not fit is no error, and writes nothing */
	ck_assert_int_gt(n, 10);
	rbuf_init(&r, buf, w.len);
	for (i = 0; i < n; i++) {
		ck_assert_int_eq(ctl_flow_get(&r, &timeout, &b), 1);
		ck_assert_uint_eq(timeout, (uint32_t)i * 1000);
		ck_assert_uint_eq(b.len, (size_t)i);
		ck_assert_mem_eq(b.p, body, (size_t)i);
	}
	ck_assert_int_eq(ctl_flow_get(&r, &timeout, &b), 0);
}
END_TEST

START_TEST(flows_limits)
{
	uint8_t		 buf[FLOW_BODY_MAX + 16], body[FLOW_BODY_MAX + 1] = { 0 };
	struct wbuf	 w;
	struct rbuf	 r, b;
	uint32_t	 timeout;
	size_t		 i, n;

	wbuf_init(&w, buf, CTL_FLOW_HDR_BYTES + 9);
	ck_assert(!ctl_flow_put(&w, 1, body, 10));
	ck_assert_uint_eq(w.len, 0);
	ck_assert(ctl_flow_put(&w, 1, body, 9));
	n = w.len;
	for (i = 1; i < n; i++) {
		rbuf_init(&r, buf, i);
		ck_assert_int_eq(ctl_flow_get(&r, &timeout, &b), -EBADMSG);
		ck_assert_uint_eq(r.len, i);
	}
	wbuf_init(&w, buf, sizeof(buf));
	ck_assert(!ctl_flow_put(&w, 1, body, FLOW_BODY_MAX + 1));
	ck_assert(ctl_flow_put(&w, 1, body, FLOW_BODY_MAX));
	wbuf_init(&w, buf, sizeof(buf));
	wbuf_u32(&w, 0);
	wbuf_u16(&w, FLOW_BODY_MAX + 1);
	rbuf_init(&r, buf, sizeof(buf));
	ck_assert_int_eq(ctl_flow_get(&r, &timeout, &b), -EBADMSG);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("ctlproto");
	TCase	*tc = tcase_create("all");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(tc, frame_roundtrip_and_prefixes);
	tcase_add_test(tc, frame_limits);
	tcase_add_test(tc, request_good);
	tcase_add_test(tc, request_bad);
	tcase_add_test(tc, flows_roundtrip);
	tcase_add_test(tc, flows_limits);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
