/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctnetlink messages: what a builder wrote, the parser reads back; what was
 * damaged, it survives.
 *
 * The parser sees no kernel here; that is test_kct_kernel.  Random flows come
 * from a seeded generator, so that a failure repeats.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/kct_msg.h"

#define ROUNDS	20000

static uint64_t	 rng_state;

static uint32_t
rnd(void)
{
	rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng_state >> 32);
}

static void
rnd_addr(struct flow *f, struct flow_addr *a)
{
	size_t	 i, n = f->family == AF_INET ? 4 : 16;

	memset(a, 0, sizeof(*a));
	for (i = 0; i < n; i++)
		a->b[i] = (uint8_t)rnd();
}

static void
rnd_zone(struct flow *f)
{
	f->zone_dir = (uint8_t)(rnd() % 4);
	if (f->zone_dir != FLOW_ZONE_NONE)
		f->zone = (uint16_t)(1 + rnd() % 65535);
}

static void
rnd_flow(struct flow *f)
{
	static const uint8_t	 protos[] = {
		IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
		IPPROTO_GRE, 33, 136, IPPROTO_ESP, 89, 255, 0
	};
	bool			 ports;

	memset(f, 0, sizeof(*f));
	f->family = rnd() % 2 ? AF_INET : AF_INET6;
	f->proto = protos[rnd() % sizeof(protos)];
	ports = f->proto == IPPROTO_TCP || f->proto == IPPROTO_UDP || f->proto == IPPROTO_SCTP ||
	    f->proto == IPPROTO_GRE || f->proto == 33 || f->proto == 136;
	rnd_addr(f, &f->orig.src);
	rnd_addr(f, &f->orig.dst);
	if (ports || flow_proto_is_icmp(f->family, f->proto)) {
		f->orig.l4src = (uint16_t)rnd();
		f->orig.l4dst = (uint16_t)rnd();
	}
	flow_tuple_invert(f->family, f->proto, &f->orig, &f->reply);
	f->status = (rnd() & KCT_STATUS_SETTABLE) | FLOW_S_CONFIRMED;
	f->timeout_s = rnd();
	f->mark = rnd() % 2 ? rnd() : 0;
	rnd_zone(f);
	f->has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK;
	if (f->proto != IPPROTO_TCP)
		return;
	f->tcp_state = (uint8_t)(rnd() % FLOW_TCP_STATES);
	f->tcp_flags[0] = (uint8_t)(rnd() & FLOW_TF_REPLICATED);
	f->tcp_flags[1] = (uint8_t)(rnd() & FLOW_TF_REPLICATED);
	f->tcp_wscale[0] = (uint8_t)(rnd() % 15);
	f->tcp_wscale[1] = (uint8_t)(rnd() % 15);
	f->has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
}

/* Make the flow a translated one. */
static void
rnd_nat(struct flow *f)
{
	if (rnd() % 2) {
		f->status |= FLOW_S_SRC_NAT;
		rnd_addr(f, &f->reply.dst);
	}
	if (rnd() % 2) {
		f->status |= FLOW_S_DST_NAT;
		rnd_addr(f, &f->reply.src);
	}
}

static void
assert_same(const struct flow *want, const struct flow *got)
{
	ck_assert(kct_same_flow(want, got));
	ck_assert_uint_eq(want->status, got->status);
	ck_assert_uint_eq(want->timeout_s, got->timeout_s);
	ck_assert_uint_eq(want->mark, got->mark);
	ck_assert_uint_eq(want->tcp_state, got->tcp_state);
	ck_assert_mem_eq(want->tcp_flags, got->tcp_flags, 2);
	ck_assert_mem_eq(want->tcp_wscale, got->tcp_wscale, 2);
}

START_TEST(create_parses_back)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		rnd_flow(&f);
		len = kct_build_create(buf, sizeof(buf), (uint32_t)i, &f, 0);
		ck_assert_uint_gt(len, 0);
		ck_assert_uint_eq(len % 4, 0);
		ck_assert_int_eq(kct_parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_NEW);
		/* what the kernel needs to be told besides */
		if (f.proto == IPPROTO_GRE)
			f.status |= FLOW_S_FIXED_TIMEOUT;
		if (f.proto == IPPROTO_TCP && f.tcp_state == FLOW_TCP_SYN_SENT)
			f.tcp_flags[1] |= f.tcp_flags[0] & FLOW_TF_WINDOW_SCALE;
		assert_same(&f, &g);
		if (f.mark == 0)
			f.has &= ~FLOW_HAS_MARK;
		ck_assert_uint_eq(g.has, f.has);
	}
}
END_TEST

START_TEST(liberal_sets_both_directions)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;

	do
		rnd_flow(&f);
	while (f.proto != IPPROTO_TCP || f.tcp_state == FLOW_TCP_SYN_SENT);
	len = kct_build_create(buf, sizeof(buf), 1, &f, KCT_LIBERAL);
	ck_assert_int_eq(kct_parse(buf, len, &g, &type), 0);
	ck_assert_uint_eq(g.tcp_flags[0], f.tcp_flags[0] | FLOW_TF_BE_LIBERAL);
	ck_assert_uint_eq(g.tcp_flags[1], f.tcp_flags[1] | FLOW_TF_BE_LIBERAL);
}
END_TEST

/* With NAT the reply tuple is written as it would be without. */
START_TEST(nat_writes_plain_reply)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	struct flow_tuple	 inv;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		rnd_flow(&f);
		rnd_nat(&f);
		len = kct_build_create(buf, sizeof(buf), 1, &f, KCT_LIBERAL);
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(kct_parse(buf, len, &g, &type), 0);
		flow_tuple_invert(f.family, f.proto, &f.orig, &inv);
		ck_assert_mem_eq(&g.reply, &inv, sizeof(inv));
		ck_assert_uint_eq(g.status & (FLOW_S_SRC_NAT | FLOW_S_DST_NAT), 0);
	}
}
END_TEST

static bool
has_attr(const uint8_t *msg, size_t len, unsigned want)
{
	size_t		 off = sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg);
	struct nlattr	 a;

	while (off + sizeof(a) <= len) {
		memcpy(&a, msg + off, sizeof(a));
		if ((a.nla_type & (unsigned)NLA_TYPE_MASK) == want)
			return true;
		off += (a.nla_len + 3u) & ~3u;
	}
	return false;
}

START_TEST(update_leaves_nat_out)
{
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f, g;
	enum kct_msg_type	 type;
	size_t			 len;
	int			 i;

	for (i = 0; i < ROUNDS; i++) {
		rnd_flow(&f);
		rnd_nat(&f);
		len = kct_build_update(buf, sizeof(buf), 1, &f, 0, 0);
		ck_assert_uint_gt(len, 0);
		ck_assert(!has_attr(buf, len, CTA_NAT_SRC) && !has_attr(buf, len, CTA_NAT_DST));
		ck_assert(!has_attr(buf, len, CTA_TUPLE_REPLY));
		ck_assert_int_eq(has_attr(buf, len, CTA_TIMEOUT),
		    f.proto != IPPROTO_GRE && (f.status & FLOW_S_FIXED_TIMEOUT) == 0);
		ck_assert_int_eq(kct_parse(buf, len, &g, &type), 0);
		ck_assert_int_eq(type, KCT_MSG_UPDATE);
		ck_assert_uint_eq(g.mark, f.mark);
		ck_assert_uint_eq(g.tcp_state, f.tcp_state);
	}
}
END_TEST

/* A delete without a tuple would be a flush. */
START_TEST(short_messages_name_the_flow)
{
	static size_t	(*const build[])(uint8_t *, size_t, uint32_t, const struct flow *) = {
		kct_build_delete, kct_build_get, kct_build_timeout, kct_build_strict,
		kct_build_relax
	};
	uint8_t		 buf[KCT_MSG_MAX];
	struct flow	 f;
	size_t		 len;
	unsigned	 i;

	for (i = 0; i < 5 * 500; i++) {
		rnd_flow(&f);
		len = build[i % 5](buf, sizeof(buf), i, &f);
		ck_assert(has_attr(buf, len, CTA_TUPLE_ORIG));
		ck_assert_int_eq(has_attr(buf, len, CTA_ZONE), f.zone_dir == FLOW_ZONE_BOTH);
		ck_assert(!has_attr(buf, len, CTA_ID));
		ck_assert_uint_eq(build[i % 5](buf, KCT_MSG_MAX - 1, i, &f), 0);
	}
}
END_TEST

/* Flags and mask of both directions are the last two attributes. */
START_TEST(strict_and_relax_touch_only_liberal)
{
	static const uint8_t	 clear[] = { 0, 0x08, 0, 0 }, set[] = { 0x08, 0x28, 0, 0 };
	uint8_t			 buf[KCT_MSG_MAX];
	struct flow		 f;
	size_t			 len, other;

	do
		rnd_flow(&f);
	while (f.proto != IPPROTO_TCP);
	len = kct_build_strict(buf, sizeof(buf), 1, &f);
	ck_assert_mem_eq(buf + len - 4, clear, 4);
	ck_assert_mem_eq(buf + len - 12, clear, 4);
	other = kct_build_relax(buf, sizeof(buf), 1, &f);
	ck_assert_uint_eq(len, other);
	ck_assert_mem_eq(buf + len - 4, set, 4);
	ck_assert_mem_eq(buf + len - 12, set, 4);
	ck_assert(!has_attr(buf, len, CTA_TIMEOUT) && !has_attr(buf, len, CTA_STATUS));
	ck_assert(!has_attr(buf, len, CTA_MARK));
}
END_TEST

/* A copy on the heap, of exactly that size, so that a sanitizer sees overreads. */
static int
parse_copy(const uint8_t *p, size_t len, struct flow *f)
{
	enum kct_msg_type	 type;
	uint8_t			*copy = malloc(len == 0 ? 1 : len);
	int			 rc;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, p, len);
	rc = kct_parse(copy, len, f, &type);
	free(copy);
	return rc;
}

START_TEST(truncation_is_refused)
{
	uint8_t		 buf[KCT_MSG_MAX];
	struct flow	 f, g;
	size_t		 len, cut;
	uint32_t	 claim;
	int		 i;

	for (i = 0; i < 300; i++) {
		rnd_flow(&f);
		len = kct_build_create(buf, sizeof(buf), 1, &f, 0);
		for (cut = 0; cut < len; cut++)
			ck_assert_int_eq(parse_copy(buf, cut, &g), -EBADMSG);
		/* Shortened together with the length that the header claims. */
		for (cut = 20; cut < len; cut++) {
			claim = (uint32_t)cut;
			memcpy(buf, &claim, sizeof(claim));
			(void)parse_copy(buf, cut, &g);
		}
	}
}
END_TEST

START_TEST(damage_is_survived)
{
	uint8_t		 buf[KCT_MSG_MAX];
	struct flow	 f, g;
	size_t		 len;
	unsigned	 i, n;

	for (i = 0; i < 10 * ROUNDS; i++) {
		rnd_flow(&f);
		len = kct_build_create(buf, sizeof(buf), 1, &f, 0);
		for (n = 1 + rnd() % 8; n > 0; n--)
			buf[16 + rnd() % (len - 16)] = (uint8_t)rnd();
		if (parse_copy(buf, len, &g) == 0)
			ck_assert(g.family == AF_INET || g.family == AF_INET6);
	}
}
END_TEST

START_TEST(noise_is_survived)
{
	uint8_t		 buf[256];
	struct flow	 f;
	struct nlmsghdr	 h;
	size_t		 len, k;
	int		 i;

	for (i = 0; i < 10 * ROUNDS; i++) {
		len = rnd() % sizeof(buf);
		for (k = 0; k < len; k++)
			buf[k] = rnd() % 4 ? (uint8_t)(rnd() % 24) : (uint8_t)rnd();
		if (len >= sizeof(h)) {
			memcpy(&h, buf, sizeof(h));
			h.nlmsg_len = (uint32_t)len;
			h.nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8;
			memcpy(buf, &h, sizeof(h));
			if (len > sizeof(h))
				buf[sizeof(h)] = rnd() % 2 ? AF_INET : AF_INET6;
		}
		(void)parse_copy(buf, len, &f);
	}
}
END_TEST

START_TEST(foreign_messages_are_told_apart)
{
	uint8_t		 buf[KCT_MSG_MAX];
	struct flow	 f, g;
	size_t		 len;

	rnd_flow(&f);
	len = kct_build_get(buf, sizeof(buf), 1, &f);
	ck_assert_int_eq(parse_copy(buf, len, &g), -ENOMSG);
	len = kct_build_create(buf, sizeof(buf), 1, &f, 0);
	buf[16] = AF_UNIX;
	ck_assert_int_eq(parse_copy(buf, len, &g), -EAFNOSUPPORT);
}
END_TEST

static void
seed(void)
{
	rng_state = 42;
}

int
main(void)
{
	Suite	*s = suite_create("kct_msg");
	TCase	*tc = tcase_create("messages");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, seed, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, create_parses_back);
	tcase_add_test(tc, liberal_sets_both_directions);
	tcase_add_test(tc, nat_writes_plain_reply);
	tcase_add_test(tc, update_leaves_nat_out);
	tcase_add_test(tc, short_messages_name_the_flow);
	tcase_add_test(tc, strict_and_relax_touch_only_liberal);
	tcase_add_test(tc, truncation_is_refused);
	tcase_add_test(tc, damage_is_survived);
	tcase_add_test(tc, noise_is_survived);
	tcase_add_test(tc, foreign_messages_are_told_apart);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
