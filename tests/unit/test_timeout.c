/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Classes of timeouts: which one a flow is in, and their names.  That these
 * are the keys of the configuration is tested in test_conf.c.
 */
#include <sys/socket.h>

#include <check.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "ctsync/timeout.h"

/* The class by its name; FLOW_TIMEOUTS: there is none. */
static unsigned
class_of(const char *name)
{
	unsigned	 t;

	for (t = 0; t < FLOW_TIMEOUTS; t++)
		if (strcmp(flow_timeout_name(t), name) == 0)
			break;
	return t;
}

/* The class with the name of a state. */
static unsigned
class_of_state(const char *proto, const char *state)
{
	char	 name[64];
	size_t	 i;

	snprintf(name, sizeof(name), "%s_%s", proto, state);
	for (i = 0; name[i] != '\0'; i++)
		name[i] = (char)tolower((unsigned char)name[i]);
	return class_of(name);
}

static struct flow
flow_of(uint8_t proto, uint32_t status)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = proto;
	f.status = status;
	return f;
}

START_TEST(tcp)
{
	struct flow	 f = flow_of(IPPROTO_TCP, FLOW_S_ASSURED);
	unsigned	 want, named = 0;
	uint8_t		 state;

	for (state = 0; state < FLOW_TCP_STATES; state++) {
		f.tcp_state = state;
		want = class_of_state("tcp", flow_tcp_state_name(state));
		named += want != FLOW_TIMEOUTS;
		if (state == FLOW_TCP_SYN_SENT2)
			want = FLOW_TIMEOUT_TCP_SYN_SENT;
		else if (state == FLOW_TCP_NONE)
			want = FLOW_TIMEOUT_TCP_CLOSE;
		ck_assert_uint_eq(flow_timeout_class(&f), want);
	}
	ck_assert_uint_eq(named, 8);
	/* whatever a byte may hold */
	for (state = FLOW_TCP_STATES; state != 0; state++) {
		f.tcp_state = state;
		ck_assert_uint_eq(flow_timeout_class(&f), FLOW_TIMEOUT_TCP_CLOSE);
	}
}
END_TEST

START_TEST(sctp)
{
	struct flow	 f = flow_of(IPPROTO_SCTP, FLOW_S_ASSURED);
	unsigned	 want, named = 0;
	uint8_t		 state;

	for (state = 0; state < FLOW_SCTP_STATES; state++) {
		f.rare.sctp_state = state;
		want = class_of_state("sctp", flow_sctp_state_name(state));
		named += want != FLOW_TIMEOUTS;
		if (state == FLOW_SCTP_HEARTBEAT_ACKED)
			want = FLOW_TIMEOUT_SCTP_ESTABLISHED;
		else if (state == FLOW_SCTP_NONE)
			want = FLOW_TIMEOUT_SCTP_CLOSED;
		ck_assert_uint_eq(flow_timeout_class(&f), want);
	}
	ck_assert_uint_eq(named, 8);
	f.rare.sctp_state = 255;
	ck_assert_uint_eq(flow_timeout_class(&f), FLOW_TIMEOUT_SCTP_CLOSED);
}
END_TEST

/* The last two states are verdicts about packets. */
START_TEST(dccp)
{
	struct flow	 f = flow_of(IPPROTO_DCCP, FLOW_S_ASSURED);
	unsigned	 want, named = 0;
	uint8_t		 state;

	for (state = 0; state < FLOW_DCCP_STATES; state++) {
		f.rare.dccp_state = state;
		want = class_of_state("dccp", flow_dccp_state_name(state));
		named += want != FLOW_TIMEOUTS;
		if (state < 1 || state > 7)
			want = FLOW_TIMEOUT_DCCP_REQUEST;
		ck_assert_uint_eq(flow_timeout_class(&f), want);
	}
	ck_assert_uint_eq(named, 7);
	f.rare.dccp_state = 255;
	ck_assert_uint_eq(flow_timeout_class(&f), FLOW_TIMEOUT_DCCP_REQUEST);
}
END_TEST

START_TEST(others)
{
	static const struct {
		uint8_t		 family, proto;
		bool		 assured;
		const char	*class;
	} want[] = {
		{ AF_INET, IPPROTO_UDP, false, "udp" },
		{ AF_INET, IPPROTO_UDP, true, "udp_stream" },
		{ AF_INET6, IPPROTO_UDPLITE, false, "udp" },
		{ AF_INET6, IPPROTO_UDPLITE, true, "udp_stream" },
		{ AF_INET, IPPROTO_GRE, false, "gre" },
		{ AF_INET, IPPROTO_GRE, true, "gre_stream" },
		{ AF_INET, IPPROTO_ICMP, false, "icmp" },
		{ AF_INET6, IPPROTO_ICMPV6, true, "icmpv6" },
		/* the other family's is any protocol */
		{ AF_INET6, IPPROTO_ICMP, false, "generic" },
		{ AF_INET, IPPROTO_ICMPV6, false, "generic" },
		{ AF_INET, IPPROTO_ESP, true, "generic" },
		{ AF_INET, 0, false, "generic" },
		{ AF_INET6, 255, false, "generic" }
	};
	struct flow	 f;
	size_t		 i;

	for (i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		f = flow_of(want[i].proto, FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY |
		    (want[i].assured ? FLOW_S_ASSURED : 0));
		f.family = want[i].family;
		ck_assert_str_eq(flow_timeout_name(flow_timeout_class(&f)), want[i].class);
	}
}
END_TEST

/* Its helper sets the timeout of an expectation. */
START_TEST(expectations)
{
	struct flow	 f;
	unsigned	 proto;

	for (proto = 0; proto < 256; proto++) {
		f = flow_of((uint8_t)proto, 0);
		f.expect = true;
		memset(&f.exp, 0xff, sizeof(f.exp));
		ck_assert_uint_eq(flow_timeout_class(&f), FLOW_TIMEOUTS);
	}
}
END_TEST

START_TEST(names)
{
	unsigned	 t, u;
	const char	*p;

	for (t = 0; t < FLOW_TIMEOUTS; t++) {
		for (u = 0; u < t; u++) {
			ck_assert_str_ne(flow_timeout_name(t), flow_timeout_name(u));
			ck_assert_str_ne(flow_timeout_sysctl(t), flow_timeout_sysctl(u));
		}
		ck_assert_uint_gt(flow_timeout_default(t), 0);
		for (p = flow_timeout_name(t); *p != '\0'; p++)
			ck_assert(islower((unsigned char)*p) || isdigit((unsigned char)*p) ||
			    *p == '_');
		ck_assert_ptr_nonnull(strstr(flow_timeout_sysctl(t), "timeout"));
	}
	ck_assert_str_eq(flow_timeout_sysctl(FLOW_TIMEOUT_TCP_ESTABLISHED), "tcp_timeout_established");
	ck_assert_str_eq(flow_timeout_sysctl(FLOW_TIMEOUT_UDP), "udp_timeout");
	ck_assert_str_eq(flow_timeout_sysctl(FLOW_TIMEOUT_UDP_STREAM), "udp_timeout_stream");
	ck_assert_uint_eq(flow_timeout_default(FLOW_TIMEOUT_TCP_ESTABLISHED), 432000);
	ck_assert_uint_eq(flow_timeout_default(FLOW_TIMEOUT_GENERIC), 600);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("timeout");
	TCase	*tc = tcase_create("classes");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(tc, tcp);
	tcase_add_test(tc, sctp);
	tcase_add_test(tc, dccp);
	tcase_add_test(tc, others);
	tcase_add_test(tc, expectations);
	tcase_add_test(tc, names);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
