/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Filters: each condition alone, what contradicts itself, prefixes against a
 * bit-by-bit model, and what is never replicated.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/conf.h"
#include "ctsync/filter.h"

static void
addr(struct flow_addr *a, uint8_t family, const char *s)
{
	memset(a, 0, sizeof(*a));
	ck_assert_int_eq(inet_pton(family, s, a->b), 1);
}

static void
mkflow(struct flow *f, uint8_t family, uint8_t proto, const char *src, uint16_t sport,
    const char *dst, uint16_t dport)
{
	memset(f, 0, sizeof(*f));
	f->family = family;
	f->proto = proto;
	addr(&f->orig.src, family, src);
	addr(&f->orig.dst, family, dst);
	f->orig.l4src = sport;
	f->orig.l4dst = dport;
	flow_tuple_invert(family, proto, &f->orig, &f->reply);
	f->status = FLOW_S_CONFIRMED;
	if (proto == IPPROTO_TCP)
		f->tcp_state = FLOW_TCP_ESTABLISHED;
}

/* Does the flow match one condition? */
static bool
one(const struct flow *fl, const char *key, const char *value)
{
	struct flow_filter	 f = { 0 };
	char			 err[FILTER_ERR_MAX] = "";

	ck_assert_msg(flow_filter_set(&f, key, value, err) == 0, "%s %s: %s", key, value, err);
	ck_assert_int_eq(flow_filter_check(&f, err), 0);
	return flow_filter_match(&f, fl);
}

START_TEST(conditions)
{
	struct flow	 f;

	mkflow(&f, AF_INET, IPPROTO_TCP, "10.1.2.3", 1024, "192.0.2.1", 443);
	addr(&f.reply.dst, AF_INET, "203.0.113.9");
	f.status |= FLOW_S_SRC_NAT | FLOW_S_ASSURED;
	f.mark = 0x1234;
	f.zone = 7;
	f.zone_dir = FLOW_ZONE_BOTH;
	ck_assert(one(&f, "family", "ipv4") && !one(&f, "family", "ipv6"));
	ck_assert(one(&f, "proto", "tcp") && one(&f, "proto", "6") && !one(&f, "proto", "udp"));
	ck_assert(one(&f, "src", "10.1.2.3") && one(&f, "src", "10.0.0.0/8"));
	ck_assert(!one(&f, "src", "10.1.2.2") && !one(&f, "src", "11.0.0.0/8"));
	ck_assert(one(&f, "src", "0.0.0.0/0") && !one(&f, "src", "::/0"));
	ck_assert(one(&f, "dst", "192.0.2.0/24") && !one(&f, "dst", "10.1.2.3"));
	ck_assert(one(&f, "reply_src", "192.0.2.1") && !one(&f, "reply_src", "10.1.2.3"));
	ck_assert(one(&f, "reply_dst", "203.0.113.9") && !one(&f, "reply_dst", "10.1.2.3"));
	ck_assert(one(&f, "sport", "1024") && !one(&f, "sport", "443"));
	ck_assert(one(&f, "dport", "443") && !one(&f, "dport", "1024"));
	ck_assert(one(&f, "state", "established") && !one(&f, "state", "CLOSE"));
	ck_assert(one(&f, "mark", "0x1234") && one(&f, "mark", "4660") && !one(&f, "mark", "1"));
	ck_assert(one(&f, "mark", "0x34/0xff") && !one(&f, "mark", "0x35/0xff"));
	ck_assert(one(&f, "mark", "0/0"));
	ck_assert(one(&f, "zone", "7") && !one(&f, "zone", "0"));
	ck_assert(one(&f, "src_nat", NULL) && !one(&f, "dst_nat", NULL));
	ck_assert(one(&f, "assured", "true"));
}
END_TEST

START_TEST(conditions_of_other_protocols)
{
	struct flow	 f;

	mkflow(&f, AF_INET, IPPROTO_ICMP, "10.1.2.3", 443, "192.0.2.1", 8 << 8);
	ck_assert(!one(&f, "sport", "443"));	/* that is an id */
	ck_assert(!one(&f, "dport", "2048"));
	ck_assert(!one(&f, "state", "NONE"));
	ck_assert(!one(&f, "assured", NULL));
	mkflow(&f, AF_INET6, IPPROTO_UDP, "2001:db8::1", 53, "2001:db8::2", 53);
	ck_assert(one(&f, "src", "2001:db8::/32") && one(&f, "dst", "2001:db8::2"));
	ck_assert(!one(&f, "src", "0.0.0.0/0") && one(&f, "sport", "53"));
}
END_TEST

/* Flows or expectations, never both; what an expectation lacks is no condition for it. */
START_TEST(expectations)
{
	static const char *const	 flows_only[][2] = {
		{ "state", "ESTABLISHED" }, { "mark", "0" }, { "reply_src", "0.0.0.0/0" },
		{ "reply_dst", "::/0" }, { "src_nat", NULL }, { "dst_nat", NULL }, { "assured", NULL }
	};
	struct flow_filter		 none = { 0 }, f;
	struct flow			 flow, exp;
	char				 err[FILTER_ERR_MAX];
	size_t				 i;

	mkflow(&flow, AF_INET, IPPROTO_TCP, "10.1.2.3", 0, "192.0.2.1", 5000);
	exp = flow;
	exp.expect = true;
	ck_assert(flow_filter_match(&none, &flow) && !flow_filter_match(&none, &exp));
	ck_assert(one(&exp, "expect", NULL) && one(&exp, "expect", "true"));
	ck_assert(!one(&flow, "expect", NULL));
	memset(&f, 0, sizeof(f));
	ck_assert_int_eq(flow_filter_set(&f, "expect", "false", err), -EINVAL);
	ck_assert_int_eq(flow_filter_set(&f, "expect", NULL, err), 0);
	ck_assert_int_eq(flow_filter_set(&f, "dport", "5000", err), 0);
	ck_assert_int_eq(flow_filter_set(&f, "src", "10.0.0.0/8", err), 0);
	ck_assert_int_eq(flow_filter_set(&f, "proto", "tcp", err), 0);
	ck_assert_int_eq(flow_filter_set(&f, "zone", "0", err), 0);
	ck_assert_int_eq(flow_filter_check(&f, err), 0);
	ck_assert(flow_filter_match(&f, &exp) && !flow_filter_match(&f, &flow));
	exp.orig.l4dst = 5001;
	ck_assert(!flow_filter_match(&f, &exp));
	for (i = 0; i < sizeof(flows_only) / sizeof(flows_only[0]); i++) {
		memset(&f, 0, sizeof(f));
		ck_assert_int_eq(flow_filter_set(&f, flows_only[i][0], flows_only[i][1], err), 0);
		ck_assert_int_eq(flow_filter_check(&f, err), 0);
		ck_assert_int_eq(flow_filter_set(&f, "expect", NULL, err), 0);
		ck_assert_msg(flow_filter_check(&f, err) == -EINVAL, "%s with expect was taken",
		    flows_only[i][0]);
		ck_assert_ptr_eq(strstr(err, flows_only[i][0]), err);
	}
}
END_TEST

START_TEST(errors)
{
	static const char *const	 bad[][2] = {
		{ "family", "inet" }, { "proto", "" }, { "proto", "256" }, { "proto", "tcpx" },
		{ "src", "" }, { "src", "10.0.0" }, { "src", "10.0.0.0/33" }, { "src", "::/129" },
		{ "src", "10.0.0.0/" }, { "src", "10.0.0.0/-1" }, { "src", "10.0.0.0/8/8" },
		{ "src", "1111:2222:3333:4444:5555:6666:7777:8888:9999:1111:2222:3333" },
		{ "sport", "65536" }, { "sport", "-1" }, { "sport", "" }, { "sport", " 1" },
		{ "dport", "80x" }, { "state", "OPEN" }, { "mark", "" }, { "mark", "0x100000000" },
		{ "mark", "1/" }, { "mark", "1/2/3" }, { "mark", "x" }, { "zone", "65536" },
		{ "assured", "no" }, { "colour", "red" },
	};
	struct flow_filter		 f = { 0 };
	char				 err[FILTER_ERR_MAX];
	size_t				 i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		ck_assert_msg(flow_filter_set(&f, bad[i][0], bad[i][1], err) == -EINVAL,
		    "%s %s was taken", bad[i][0], bad[i][1]);
		ck_assert_ptr_nonnull(strstr(err, bad[i][0]));
	}
	ck_assert_int_eq(flow_filter_set(&f, "src", NULL, err), -EINVAL);
}
END_TEST

static int
from_json(const char *text, char err[FILTER_ERR_MAX])
{
	struct flow_filter	 f;
	json_t			*j = json_loads(text, 0, NULL);
	int			 rc;

	ck_assert_ptr_nonnull(j);
	rc = flow_filter_json(&f, j, err);
	json_decref(j);
	return rc;
}

START_TEST(json)
{
	struct flow_filter	 f;
	char			 err[FILTER_ERR_MAX];

	ck_assert_int_eq(flow_filter_json(&f, NULL, err), 0);
	ck_assert_int_eq(from_json("{}", err), 0);
	ck_assert_int_eq(from_json("{\"proto\":\"tcp\",\"dport\":443,\"assured\":true}", err), 0);
	ck_assert_int_eq(from_json("{\"proto\":6,\"dport\":\"443\"}", err), 0);
	ck_assert_int_eq(from_json("{\"expect\":true,\"dport\":443}", err), 0);
	ck_assert_int_eq(from_json("{\"expect\":false}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"expect\":true,\"assured\":true}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"dport\":65536}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"dport\":-1}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"dport\":1.5}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"assured\":false}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"src\":{}}", err), -EINVAL);
	ck_assert_int_eq(from_json("[]", err), -EINVAL);
	/* What contradicts itself. */
	ck_assert_int_eq(from_json("{\"src\":\"::1\",\"dst\":\"10.0.0.1\"}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"src\":\"::1\",\"family\":\"ipv4\"}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"proto\":\"icmp\",\"sport\":1}", err), -EINVAL);
	ck_assert_int_eq(from_json("{\"proto\":\"udp\",\"state\":\"CLOSE\"}", err), -EINVAL);
}
END_TEST

/* One bit after the other. */
static bool
model_match(const uint8_t *net, unsigned len, const uint8_t *a)
{
	unsigned	 i;

	for (i = 0; i < len; i++)
		if (((net[i / 8] ^ a[i / 8]) & (0x80u >> i % 8)) != 0)
			return false;
	return true;
}

START_TEST(prefixes_like_model)
{
	struct flow	 fl;
	char		 text[64], ip[INET6_ADDRSTRLEN];
	uint8_t		 net[16];
	unsigned	 len, round, bit, max, family;

	srand(1);
	for (round = 0; round < 4000; round++) {
		family = round % 2 ? AF_INET6 : AF_INET;
		max = family == AF_INET ? 32 : 128;
		mkflow(&fl, (uint8_t)family, IPPROTO_UDP, family == AF_INET ? "1.2.3.4" : "2001::1", 1,
		    family == AF_INET ? "1.2.3.5" : "2001::2", 2);
		len = (unsigned)rand() % (max + 1);
		memcpy(net, fl.orig.src.b, sizeof(net));
		if (round % 4 > 1) {		/* differ in one bit, before or behind len */
			bit = (unsigned)rand() % max;
			net[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
		}
		inet_ntop((int)family, net, ip, sizeof(ip));
		snprintf(text, sizeof(text), "%s/%u", ip, len);
		ck_assert_int_eq(one(&fl, "src", text), model_match(net, len, fl.orig.src.b));
	}
}
END_TEST

static bool
own(void *ctx, uint8_t family, const struct flow_addr *a)
{
	struct flow_addr	 mine;

	(void)ctx;
	if (family != AF_INET)
		return false;
	addr(&mine, AF_INET, "10.0.0.254");
	return memcmp(&mine, a, sizeof(mine)) == 0;
}

/* A configuration as it is when nothing is configured. */
static void
mkconf(struct conf *c)
{
	memset(c, 0, sizeof(*c));
	c->filter.skip_own = true;
	memset(c->filter.protos, 0xff, sizeof(c->filter.protos));
	c->filter.tcp_states = (1u << FLOW_TCP_STATES) - 1;
}

static enum repl_verdict
verdict(const struct conf *c, const struct flow *f)
{
	struct repl_filter	*rf = repl_filter_new(c);
	enum repl_verdict	 v;

	ck_assert_ptr_nonnull(rf);
	v = repl_filter_check(rf, f, own, NULL);
	repl_filter_free(rf);
	return v;
}

static enum repl_verdict
between(const struct conf *c, uint8_t family, const char *src, const char *dst)
{
	struct flow	 f;

	mkflow(&f, family, IPPROTO_UDP, src, 1000, dst, 2000);
	return verdict(c, &f);
}

START_TEST(repl_ends_here)
{
	struct conf	 c;
	struct flow	 f;

	mkconf(&c);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.1", "192.0.2.1"), REPL_PASS);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.254", "192.0.2.1"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.1", "10.0.0.254"), REPL_OWN);
	/* A port forward: addressed to us, answered by another. */
	mkflow(&f, AF_INET, IPPROTO_TCP, "192.0.2.1", 5000, "10.0.0.254", 80);
	addr(&f.reply.src, AF_INET, "10.0.0.7");
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	/* Source NAT: answered to us, asked by another. */
	mkflow(&f, AF_INET, IPPROTO_TCP, "10.0.0.7", 5000, "192.0.2.1", 80);
	addr(&f.reply.dst, AF_INET, "10.0.0.254");
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	c.filter.skip_own = false;
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.254", "192.0.2.1"), REPL_PASS);
}
END_TEST

START_TEST(repl_not_forwarded)
{
	struct conf	 c;

	mkconf(&c);
	ck_assert_int_eq(between(&c, AF_INET, "127.0.0.1", "127.0.0.53"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.1", "224.0.0.18"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.1", "224.0.1.18"), REPL_PASS);
	ck_assert_int_eq(between(&c, AF_INET, "0.0.0.0", "255.255.255.255"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET6, "::1", "::1"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET6, "fe80::1", "2001:db8::1"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET6, "2001:db8::2", "ff02::1:2"), REPL_OWN);
	ck_assert_int_eq(between(&c, AF_INET6, "2001:db8::2", "ff05::2"), REPL_PASS);
	ck_assert_int_eq(between(&c, AF_INET6, "fec0::2", "fc00::2"), REPL_PASS);
}
END_TEST

START_TEST(repl_sync)
{
	struct conf_link	 link = { .port = 3790 };
	struct conf		 c;
	struct flow		 f;

	mkconf(&c);
	c.filter.skip_own = false;
	link.local.family = AF_INET;
	inet_pton(AF_INET, "10.9.9.1", link.local.b);
	c.links = &link;
	c.nlinks = 1;
	mkflow(&f, AF_INET, IPPROTO_UDP, "10.9.9.1", 3790, "10.9.9.2", 3790);
	ck_assert_int_eq(verdict(&c, &f), REPL_SYNC);
	mkflow(&f, AF_INET, IPPROTO_UDP, "10.9.9.2", 3790, "10.9.9.1", 3790);
	ck_assert_int_eq(verdict(&c, &f), REPL_SYNC);
	mkflow(&f, AF_INET, IPPROTO_UDP, "10.9.9.2", 3791, "10.9.9.1", 53);
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	mkflow(&f, AF_INET, IPPROTO_UDP, "10.0.0.1", 3790, "10.0.0.2", 3790);
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
}
END_TEST

START_TEST(repl_configured)
{
	struct conf_prefix	 nets[2] = { { .len = 8 }, { .len = 32 } };
	struct conf_mark	 mark = { .value = 0x10, .mask = 0xf0 };
	uint16_t		 zone = 7;
	struct conf		 c;
	struct flow		 f;

	mkconf(&c);
	mkflow(&f, AF_INET, IPPROTO_TCP, "10.0.0.1", 1, "192.0.2.1", 2);
	c.filter.protos[IPPROTO_TCP / 8] &= (uint8_t)~(1u << IPPROTO_TCP % 8);
	ck_assert_int_eq(verdict(&c, &f), REPL_PROTO);
	mkconf(&c);
	c.filter.tcp_states = 1u << FLOW_TCP_CLOSE;
	ck_assert_int_eq(verdict(&c, &f), REPL_STATE);
	f.proto = IPPROTO_UDP;
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);

	mkconf(&c);
	nets[0].net.family = nets[1].net.family = AF_INET;
	inet_pton(AF_INET, "10.0.0.0", nets[0].net.b);
	inet_pton(AF_INET, "192.0.2.1", nets[1].net.b);
	c.filter.addr_only = nets;
	c.filter.naddr_only = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	ck_assert_int_eq(between(&c, AF_INET, "11.0.0.1", "12.0.0.1"), REPL_ADDR);
	ck_assert_int_eq(between(&c, AF_INET6, "a00::1", "a00::2"), REPL_ADDR);
	c.filter.addr_except = nets + 1;
	c.filter.naddr_except = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_ADDR);
	ck_assert_int_eq(between(&c, AF_INET, "10.0.0.1", "12.0.0.1"), REPL_PASS);

	mkconf(&c);
	c.filter.mark_only = &mark;
	c.filter.nmark_only = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_MARK);
	f.mark = 0x31f;
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	mkconf(&c);
	c.filter.mark_except = &mark;
	c.filter.nmark_except = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_MARK);

	mkconf(&c);
	c.filter.zone_only = &zone;
	c.filter.nzone_only = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_ZONE);
	f.zone = 7;
	ck_assert_int_eq(verdict(&c, &f), REPL_PASS);
	mkconf(&c);
	c.filter.zone_except = &zone;
	c.filter.nzone_except = 1;
	ck_assert_int_eq(verdict(&c, &f), REPL_ZONE);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("filter");
	TCase	*tc = tcase_create("all");
	SRunner	*sr;
	int	 failed;

	tcase_add_test(tc, conditions);
	tcase_add_test(tc, conditions_of_other_protocols);
	tcase_add_test(tc, expectations);
	tcase_add_test(tc, errors);
	tcase_add_test(tc, json);
	tcase_add_test(tc, prefixes_like_model);
	tcase_add_test(tc, repl_ends_here);
	tcase_add_test(tc, repl_not_forwarded);
	tcase_add_test(tc, repl_sync);
	tcase_add_test(tc, repl_configured);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
