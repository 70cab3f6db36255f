/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows and their packed form, by properties over generated flows: what is
 * packed unpacks to itself, the packed form is canonical, a body that was cut
 * or bent is refused or means something else.
 *
 * A body has no length of its own, so that a prefix of it may be a body too:
 * one that ends between two attributes, behind the one that has to be there.
 * No other one may.  What few flows have is looked at in test_flow_rare.c.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flowgen.h"
#include "rnd.h"

#define ROUNDS	3000

static void
setup(void)
{
	rnd_seed(20);
}

/* --- round trip ----------------------------------------------------------- */

START_TEST(every_kind_of_flow)
{
	static const uint8_t	 families[] = { AF_INET, AF_INET6 };
	unsigned		 fam, zone, nat;
	struct flow		 f;

	for (fam = 0; fam < 2; fam++)
		for (zone = 0; zone < 4; zone++)
			for (nat = 0; nat < 16; nat++) {
				fg_flow(&f, families[fam], fg_protos[_i], zone, nat);
				fg_round_trip(&f);
				fg_rare(&f);
				fg_round_trip(&f);
				fg_born(&f);
				fg_round_trip(&f);
			}
}
END_TEST

START_TEST(random_flows)
{
	uint8_t		 extra[400];
	struct flow	 f;
	int		 i;

	for (i = 0; i < ROUNDS * 5; i++) {
		fg_any(&f, extra, sizeof(extra));
		fg_round_trip(&f);
	}
}
END_TEST

/* To the byte, as doc/wire.md section 3 says. */
START_TEST(known_bytes)
{
	static const uint8_t	 want[] = {
		0x02, 6, 0x00, 0x07, 10, 0, 0, 1, 192, 0, 2, 1, 0x30, 0x39, 0x00, 0x50, 9,
		0x01, 2, 0x01, 0x8e,
		0x82, 7, 0x0a, 203, 0, 113, 5, 0x4e, 0x20,
		0x03, 1, 0x2a,
		0x04, 4, FLOW_TCP_ESTABLISHED, 0x03, 0x01, 0x7e
	};
	struct flow		 f = {
		.family = AF_INET, .proto = IPPROTO_TCP, .zone_dir = FLOW_ZONE_BOTH, .zone = 7,
		.incarnation = 9, .mark = 42, .tcp_state = FLOW_TCP_ESTABLISHED,
		.tcp_flags = { 0x03, 0x01 }, .tcp_wscale = { 7, 14 },
		.status = FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_CONFIRMED |
		    FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE,
		.orig = { { { 10, 0, 0, 1 } }, { { 192, 0, 2, 1 } }, 12345, 80 },
		.reply = { { { 192, 0, 2, 1 } }, { { 203, 0, 113, 5 } }, 80, 20000 }
	};
	uint8_t			 body[FLOW_BODY_MAX];

	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), sizeof(want));
	ck_assert_mem_eq(body, want, sizeof(want));
}
END_TEST

/* A plain flow pays for nothing that few flows have: key, incarnation, STATUS, TCP. */
START_TEST(plain_flows_are_small)
{
	static const struct {
		uint8_t	 family, proto;
		bool	 zone;
		size_t	 bytes;
	} plain[] = {
		{ AF_INET, IPPROTO_TCP, false, 14 + 1 + 4 + 6 },
		{ AF_INET6, IPPROTO_TCP, false, 38 + 1 + 4 + 6 },
		{ AF_INET, IPPROTO_TCP, true, 16 + 1 + 4 + 6 },
		{ AF_INET, IPPROTO_UDP, false, 14 + 1 + 4 },
		{ AF_INET6, IPPROTO_UDP, true, 40 + 1 + 4 },
		{ AF_INET, IPPROTO_SCTP, false, 14 + 1 + 4 }
	};
	uint8_t		 body[FLOW_BODY_MAX];
	struct flow	 f;
	unsigned	 i;

	for (i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		fg_flow(&f, plain[i].family, plain[i].proto,
		    plain[i].zone ? FLOW_ZONE_BOTH : FLOW_ZONE_NONE, 0);
		f.mark = 0;
		f.status = FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_CONFIRMED |
		    FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE;
		ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), plain[i].bytes);
		/* nor one of which a dump has said that it has none of it */
		f.has |= FLOW_HAS_WHOLE;
		ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), plain[i].bytes);
	}
}
END_TEST

/* What is this kernel's alone leaves no trace in the bytes. */
START_TEST(local_knowledge_is_left_out)
{
	uint8_t		 body[FLOW_BODY_MAX], other[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 len;
	int		 i, d;

	for (i = 0; i < ROUNDS; i++) {
		fg_flow(&f, AF_INET, IPPROTO_TCP, rnd_below(4), rnd_below(16));
		len = flow_pack(&f, body, sizeof(body));
		g = f;
		g.status |= ~FLOW_S_REPLICATED;
		g.id = (uint32_t)rnd_u64();
		g.timeout_s = (uint32_t)rnd_u64();
		g.packets = (uint32_t)rnd_u64();
		g.commanded = rnd_below(2) == 0;
		g.has = (uint32_t)rnd_u64();
		for (d = 0; d < 2; d++)
			g.tcp_flags[d] = (uint8_t)(g.tcp_flags[d] | ~FLOW_TF_REPLICATED);
		ck_assert_uint_eq(flow_pack(&g, other, sizeof(other)), len);
		ck_assert_mem_eq(body, other, len);
	}
	/* nor do TCP's fields in another protocol */
	fg_flow(&f, AF_INET6, IPPROTO_UDP, 0, 0);
	len = flow_pack(&f, body, sizeof(body));
	f.tcp_state = FLOW_TCP_CLOSE;
	f.tcp_flags[0] = 1;
	ck_assert_uint_eq(flow_pack(&f, other, sizeof(other)), len);
	ck_assert_mem_eq(body, other, len);
}
END_TEST

/* Flows that differ in anything replicated differ in their bytes. */
START_TEST(every_field_shows)
{
	uint8_t		 body[FLOW_BODY_MAX], other[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 len, len2;
	unsigned	 what;
	int		 i;

	for (i = 0; i < ROUNDS; i++) {
		fg_flow(&f, rnd_below(2) ? AF_INET : AF_INET6, IPPROTO_TCP, 1 + rnd_below(3),
		    rnd_below(16));
		len = flow_pack(&f, body, sizeof(body));
		g = f;
		switch (what = rnd_below(14)) {
		case 0: g.incarnation++; break;
		case 1: g.status ^= FLOW_S_ASSURED; break;
		case 2: g.mark ^= 1u << rnd_below(32); break;
		case 3: g.tcp_state = (uint8_t)((g.tcp_state + 1) % FLOW_TCP_STATES); break;
		case 4: g.tcp_flags[rnd_below(2)] ^= FLOW_TF_SACK_PERM; break;
		case 5: g.tcp_wscale[rnd_below(2)] ^= 1; break;
		case 6: g.orig.src.b[rnd_below(4)] ^= 1; break;
		case 7: g.orig.l4dst ^= 1; break;
		case 8: g.reply.src.b[rnd_below(4)] ^= 1; break;
		case 9: g.reply.dst.b[rnd_below(4)] ^= 0x80; break;
		case 10: g.reply.l4src ^= 1; break;
		case 11: g.reply.l4dst ^= 0x100; break;
		case 12: fg_born(&g); break;
		default: g.zone = (uint16_t)(g.zone % 65535 + 1); break;
		}
		len2 = flow_pack(&g, other, sizeof(other));
		ck_assert_msg(len != len2 || memcmp(body, other, len) != 0, "case %u", what);
	}
}
END_TEST

START_TEST(room_for_a_body)
{
	uint8_t		 extra[FLOW_BODY_MAX], body[FLOW_BODY_MAX + 1], *exact;
	struct flow	 f;
	size_t		 len, cap;
	int		 i;

	for (i = 0; i < 50; i++) {
		fg_any(&f, extra, 100);
		len = flow_pack(&f, body, sizeof(body));
		for (cap = 0; cap <= len; cap++) {
			exact = malloc(cap + (cap == 0));
			ck_assert_ptr_nonnull(exact);
			ck_assert_uint_eq(flow_pack(&f, exact, cap), cap < len ? 0 : len);
			free(exact);
		}
	}
	/* as long as a body may be, and one byte more */
	fg_flow(&f, AF_INET, IPPROTO_UDP, 0, 0);
	f.mark = 0;
	len = flow_pack(&f, body, sizeof(body));
	memset(extra, 0, sizeof(extra));
	for (cap = 0; cap + 200 < FLOW_BODY_MAX - len; cap += 200) {
		extra[cap] = (uint8_t)(18 + cap / 200);
		extra[cap + 1] = 198;
	}
	extra[cap] = 100;
	extra[cap + 1] = (uint8_t)(FLOW_BODY_MAX - len - cap - 2);
	f.extra = extra;
	f.extra_len = (uint16_t)(FLOW_BODY_MAX - len);
	fg_round_trip(&f);
	extra[cap + 1]++;
	f.extra_len++;
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), 0);
}
END_TEST

/* --- cut and bent bodies -------------------------------------------------- */

/* Offsets of the attributes and of the end, found without the code under test. */
static unsigned
attributes(const uint8_t *body, size_t len, size_t *at)
{
	size_t		 off = 2 + (body[0] & 1 ? 32u : 8u) + 4 + (body[0] & 6 ? 2u : 0u) + 1;
	unsigned	 n = 0;

	for (;; off += 2 + (size_t)body[off + 1]) {
		at[n++] = off;
		if (off >= len)
			break;
	}
	ck_assert_uint_eq(at[n - 1], len);
	return n - 1;
}

static int
unpack_exact(const uint8_t *body, size_t len, struct flow *f, uint8_t **copy)
{
	*copy = malloc(len + (len == 0));
	ck_assert_ptr_nonnull(*copy);
	memcpy(*copy, body, len);
	return flow_unpack(*copy, len, f);
}

START_TEST(prefixes)
{
	uint8_t		 extra[300], body[FLOW_BODY_MAX], *copy;
	struct flow	 f, g;
	size_t		 len, n, at[200];
	unsigned	 attrs, k;
	bool		 boundary, needed;
	int		 i, rc;

	for (i = 0; i < ROUNDS / 3; i++) {
		fg_any(&f, extra, sizeof(extra));
		len = flow_pack(&f, body, sizeof(body));
		attrs = attributes(body, len, at);
		for (n = 0; n <= len; n++) {
			boundary = needed = false;
			for (k = 1; k <= attrs; k++) {
				needed |= body[at[k - 1]] ==
				    (f.expect ? FLOW_A_EXPECT : FLOW_A_STATUS);
				boundary |= needed && at[k] == n;
			}
			rc = unpack_exact(body, n, &g, &copy);
			ck_assert_int_eq(rc, boundary ? 0 : -EBADMSG);
			free(copy);
		}
	}
}
END_TEST

/* Of these the rest of the body leaves no choice. */
static bool
fixed_size(uint8_t type)
{
	switch (type) {
	case FLOW_A_REPLY | FLOW_A_MUST:
	case FLOW_A_TCP:
	case FLOW_A_SCTP:
	case FLOW_A_DCCP:
	case FLOW_A_MASTER:
	case FLOW_A_SEQADJ:
	case FLOW_A_SYNPROXY:
	case FLOW_A_EXPECT:
	case FLOW_A_EXPECT_NAT:
		return true;
	default:
		return false;
	}
}

START_TEST(lengths_off_by_one)
{
	uint8_t		 extra[300], body[FLOW_BODY_MAX], bent[FLOW_BODY_MAX], *copy;
	uint8_t		 again[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 len, at[200], alen;
	unsigned	 attrs, k;
	int		 i, step, rc;

	for (i = 0; i < ROUNDS; i++) {
		fg_any(&f, extra, sizeof(extra));
		len = flow_pack(&f, body, sizeof(body));
		attrs = attributes(body, len, at);
		for (k = 0; k < attrs; k++)
			for (step = -1; step <= 1; step += 2) {
				memcpy(bent, body, len);
				bent[at[k] + 1] = (uint8_t)(bent[at[k] + 1] + step);
				rc = unpack_exact(bent, len, &g, &copy);
				if (fixed_size(body[at[k]]))
					ck_assert_int_eq(rc, -EBADMSG);
				if (rc == 0) {
					alen = flow_pack(&g, again, sizeof(again));
					ck_assert(alen != len || memcmp(again, body, len) != 0);
				} else
					ck_assert(rc == -EBADMSG || rc == -EPROTONOSUPPORT);
				free(copy);
			}
	}
}
END_TEST

/* Whatever comes: refused, or a flow that packs and unpacks to itself. */
START_TEST(noise)
{
	uint8_t		 extra[100], body[FLOW_BODY_MAX], again[FLOW_BODY_MAX], *copy;
	struct flow	 f, g, h;
	size_t		 len, alen;
	int		 i, n, taken = 0;

	for (i = 0; i < ROUNDS * 20; i++) {
		fg_any(&f, extra, sizeof(extra));
		len = flow_pack(&f, body, sizeof(body));
		for (n = (int)rnd_below(4); n >= 0; n--)
			body[rnd_u64() % len] = (uint8_t)rnd_u64();
		if (unpack_exact(body, len, &g, &copy) == 0) {
			taken++;
			alen = flow_pack(&g, again, sizeof(again));
			ck_assert_uint_gt(alen, 0);
			ck_assert_int_eq(flow_unpack(again, alen, &h), 0);
			g.status &= FLOW_S_REPLICATED;
			if (g.proto == IPPROTO_TCP)
				g.has |= h.has;	/* packing adds TCP's attribute */
			fg_same(&g, &h);
		}
		free(copy);
	}
	ck_assert_int_gt(taken, ROUNDS);
}
END_TEST

/* A body for attributes that the test writes itself. */
static size_t
bare(uint8_t *body, uint8_t proto)
{
	struct flow	 f;
	size_t		 klen;

	fg_flow(&f, AF_INET, proto, 0, 0);
	klen = flow_pack_key(&f, body);
	body[klen] = 3;
	return klen + 1;
}

static int
unpack_with(uint8_t proto, const char *attrs, size_t n, struct flow *f)
{
	static uint8_t	 body[FLOW_BODY_MAX];
	size_t		 off = bare(body, proto);

	memcpy(body + off, attrs, n);
	return flow_unpack(body, off + n, f);
}

#define UNPACK(proto, s, f)	unpack_with((proto), (s), sizeof(s) - 1, (f))

START_TEST(attribute_rules)
{
	struct flow	 f;

	ck_assert_int_eq(UNPACK(17, "\1\1\6", &f), 0);
	ck_assert_uint_eq(f.status, 6);
	ck_assert_uint_eq(f.incarnation, 3);
	ck_assert_uint_eq(f.mark, 0);
	ck_assert_uint_eq(f.has, FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_MARK);
	/* STATUS has to be there */
	ck_assert_int_eq(UNPACK(17, "", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\3\1\6", &f), -EBADMSG);
	/* ascending and once */
	ck_assert_int_eq(UNPACK(17, "\1\1\6\1\1\6", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\3\1\6\1\1\6", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x81\1\6", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\0\x10\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x20\0\x10\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x20\0\3\1\1", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\0\0\1\1\6", &f), -EBADMSG);
	/* sizes of integers */
	ck_assert_int_eq(UNPACK(17, "\1\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\5\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\3\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\3\4\1\2\3\4", &f), 0);
	ck_assert_uint_eq(f.mark, 0x01020304);
	/* REPLY: a mask of nothing, of the unknown, of more or less than follows */
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\1\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\3\x10\1\2", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\3\4\1\2", &f), 0);
	ck_assert_uint_eq(f.reply.l4src, 0x0102);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\3\x0c\1\2", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x82\4\4\1\2\3", &f), -EBADMSG);
}
END_TEST

START_TEST(tcp_rules)
{
	struct flow	 f;

	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\4\3\1\2\x7e", &f), 0);
	ck_assert_uint_eq(f.tcp_state, FLOW_TCP_ESTABLISHED);
	ck_assert_uint_eq(f.tcp_wscale[0], 7);
	ck_assert_uint_eq(f.tcp_wscale[1], 14);
	ck_assert(f.has & FLOW_HAS_TCP_FLAGS);
	/* in no other protocol; a state and scales that there are */
	ck_assert_int_eq(UNPACK(17, "\1\1\6\4\4\3\1\2\x7e", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\4\x0a\1\2\x7e", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\4\3\1\2\x7f", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\4\3\1\2\xf7", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\3\3\1\2", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\5\3\1\2\x77\0", &f), -EBADMSG);
	/* flags of one kernel's knowledge are not taken from another */
	ck_assert_int_eq(UNPACK(6, "\1\1\6\4\4\3\xff\xff\x77", &f), 0);
	ck_assert_uint_eq(f.tcp_flags[0], FLOW_TF_REPLICATED);
	ck_assert_uint_eq(f.tcp_flags[1], FLOW_TF_REPLICATED);
	/* a TCP flow of which nothing is known but its status */
	ck_assert_int_eq(UNPACK(6, "\1\1\6", &f), 0);
	ck_assert(!(f.has & (FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE)));
}
END_TEST

/* The time of birth: a shortest integer that is not 0, and no expectation has one. */
START_TEST(born_rules)
{
	static const uint8_t	 want[] = { 0x0f, 6, 0x01, 0x45, 0x67, 0x89, 0xab, 0xcd };
	uint8_t			 body[FLOW_BODY_MAX], old[FLOW_BODY_MAX];
	struct flow		 f, g;
	size_t			 len;

	ck_assert_int_eq(UNPACK(17, "\1\1\6", &f), 0);
	ck_assert_uint_eq(f.born, 0);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\1\7", &f), 0);
	ck_assert_uint_eq(f.born, 7);
	ck_assert_uint_eq(f.extra_len, 0);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\4\x67\x89\xab\xcd", &f), 0);
	ck_assert_uint_eq(f.born, 0x6789abcd);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\1\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\4\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\11\0\0\0\0\0\0\0\0\1", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\6\x03\xa3\x52\x94\x40\x00", &f), 0);
	ck_assert_uint_eq(f.born, FLOW_BORN_MAX);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\6\x03\xa3\x52\x94\x40\x01", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\4\x67\x89\xab\xcd", &f), 0);
	/* known exactly, or not after that */
	ck_assert(!f.found);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x11\4\x67\x89\xab\xcd", &f), 0);
	ck_assert_uint_eq(f.born, 0x6789abcd);
	ck_assert(f.found);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x11\1\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x11\10\xff\xff\xff\xff\xff\xff\xff\xff", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\1\7\x11\1\7", &f), -EBADMSG);
	/* the last of what is known: before what a later version adds */
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x0f\1\7\x12\1x", &f), 0);
	ck_assert_uint_eq(f.born, 7);
	ck_assert_uint_eq(f.extra_len, 3);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x12\1x\x0f\1\7", &f), -EBADMSG);

	fg_flow(&f, AF_INET6, IPPROTO_TCP, FLOW_ZONE_NONE, 0);
	len = flow_pack(&f, old, sizeof(old));
	f.born = 0x01456789abcd;
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), len + sizeof(want));
	ck_assert_mem_eq(body, old, len);
	ck_assert_mem_eq(body + len, want, sizeof(want));
	/* an event knows nothing of it, and takes nothing of it away */
	g = f;
	g.born = 0;
	flow_merge(&f, &g);
	ck_assert_uint_eq(f.born, 0x01456789abcd);
	/* expectations are not born */
	fg_expect(&f, AF_INET, IPPROTO_TCP, FLOW_ZONE_NONE);
	len = flow_pack(&f, body, sizeof(body));
	f.born = 7;
	ck_assert_uint_eq(flow_pack(&f, old, sizeof(old)), len);
	memcpy(body + len, "\x0f\1\7", 3);
	ck_assert_int_eq(flow_unpack(body, len + 3, &f), -EBADMSG);
}
END_TEST

/* What is known of an entry's use: bits, not all of them 0, and only of flows. */
START_TEST(copy_rules)
{
	struct flow	 f;
	uint8_t		 body[FLOW_BODY_MAX];
	size_t		 len;

	ck_assert_int_eq(UNPACK(17, "\1\1\6", &f), 0);
	ck_assert(!f.copy && !f.stray);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\1\1", &f), 0);
	ck_assert(f.copy && !f.stray);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\1\2", &f), 0);
	ck_assert(!f.copy && f.stray);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\1\3", &f), 0);
	ck_assert(f.copy && f.stray);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\1\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\1\4", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\0", &f), -EBADMSG);
	ck_assert_int_eq(UNPACK(17, "\1\1\6\x10\2\0\1", &f), -EBADMSG);
	fg_expect(&f, AF_INET, IPPROTO_TCP, FLOW_ZONE_NONE);
	len = flow_pack(&f, body, sizeof(body));
	memcpy(body + len, "\x10\1\2", 3);
	ck_assert_int_eq(flow_unpack(body, len + 3, &f), -EBADMSG);
}
END_TEST

START_TEST(attributes_of_later_versions)
{
	static const char	 tail[] = "\x12\0\x13\1x\x7f\3abc";
	uint8_t			 body[FLOW_BODY_MAX], again[FLOW_BODY_MAX];
	struct flow		 f;
	size_t			 off = bare(body, 17), len;
	unsigned		 type;

	memcpy(body + off, "\1\1\6", 3);
	memcpy(body + off + 3, tail, sizeof(tail) - 1);
	len = off + 3 + sizeof(tail) - 1;
	ck_assert_int_eq(flow_unpack(body, len, &f), 0);
	ck_assert_ptr_eq(f.extra, body + off + 3);
	ck_assert_uint_eq(f.extra_len, sizeof(tail) - 1);
	ck_assert_uint_eq(flow_pack(&f, again, sizeof(again)), len);
	ck_assert_mem_eq(body, again, len);
	/* kept when something else changes */
	f.mark = 0x1234;
	len = flow_pack(&f, again, sizeof(again));
	ck_assert_mem_eq(again + len - (sizeof(tail) - 1), tail, sizeof(tail) - 1);

	/* nothing of what is known may be empty, whether it must be understood or not */
	for (type = 2; type < 128; type++) {
		body[off + 3] = (uint8_t)(type | FLOW_A_MUST);
		body[off + 4] = 0;
		if (type <= FLOW_A_FOUND) {
			ck_assert_int_eq(flow_unpack(body, off + 5, &f), -EBADMSG);
			body[off + 3] = (uint8_t)type;
			ck_assert_int_eq(flow_unpack(body, off + 5, &f), -EBADMSG);
			continue;
		}
		ck_assert_int_eq(flow_unpack(body, off + 5, &f), -EPROTONOSUPPORT);
		body[off + 3] = (uint8_t)type;
		ck_assert_int_eq(flow_unpack(body, off + 5, &f), 0);
		ck_assert_uint_eq(f.extra_len, 2);
	}
}
END_TEST

START_TEST(too_long)
{
	static uint8_t	 body[FLOW_BODY_MAX + 300];
	struct flow	 f;
	size_t		 len = bare(body, 17);
	uint8_t		 type;

	memcpy(body + len, "\1\1\6", 3);
	len += 3;
	for (type = 18; len + 257 <= FLOW_BODY_MAX; type++, len += 257) {
		body[len] = type;
		body[len + 1] = 255;
	}
	body[len] = type;
	body[len + 1] = (uint8_t)(FLOW_BODY_MAX - len - 2);
	ck_assert_int_eq(flow_unpack(body, FLOW_BODY_MAX, &f), 0);
	body[len + 1]++;
	ck_assert_int_eq(flow_unpack(body, FLOW_BODY_MAX + 1, &f), -EBADMSG);
}
END_TEST

/* --- keys ----------------------------------------------------------------- */

START_TEST(keys)
{
	uint8_t		 body[FLOW_BODY_MAX], key[FLOW_KEY_MAX], extra[50], *exact;
	struct flow	 f, g, before;
	size_t		 len, klen, want, used, n;
	int		 i;

	memset(&before, 0x33, sizeof(before));
	for (i = 0; i < ROUNDS; i++) {
		fg_any(&f, extra, sizeof(extra));
		len = flow_pack(&f, body, sizeof(body));
		want = 2 + 2 * fg_addr_len(&f) + 4 + (f.zone_dir != FLOW_ZONE_NONE ? 2u : 0u);
		klen = flow_pack_key(&f, key);
		ck_assert_uint_eq(klen, want);
		ck_assert_uint_le(klen, FLOW_KEY_MAX);
		ck_assert_mem_eq(key, body, klen);
		ck_assert_uint_eq(flow_key_len(body, len), klen);
		for (n = 0; n <= klen; n++) {
			exact = malloc(n + (n == 0));
			ck_assert_ptr_nonnull(exact);
			memcpy(exact, key, n);
			ck_assert_uint_eq(flow_key_len(exact, n), n < klen ? 0 : klen);
			g = before;
			used = 99;
			if (n < klen) {
				ck_assert_int_eq(flow_unpack_key(exact, n, &g, &used), -EBADMSG);
				ck_assert_mem_eq(&g, &before, sizeof(g));
				ck_assert_uint_eq(used, 99);
			}
			free(exact);
		}
		ck_assert_int_eq(flow_unpack_key(body, len, &g, &used), 0);
		ck_assert_uint_eq(used, klen);
		ck_assert_uint_eq(flow_pack_key(&g, body), klen);
		ck_assert_mem_eq(body, key, klen);
		/* and a key alone means an untranslated flow */
		flow_tuple_invert(g.family, g.proto, &g.orig, &f.reply);
		ck_assert_mem_eq(&g.reply, &f.reply, sizeof(g.reply));
		ck_assert_uint_eq(g.has, FLOW_HAS_REPLY);
	}
}
END_TEST

START_TEST(key_head)
{
	uint8_t		 key[FLOW_KEY_MAX];
	struct flow	 f;
	size_t		 used;
	unsigned	 head;

	memset(key, 1, sizeof(key));
	for (head = 0; head < 256; head++) {
		key[0] = (uint8_t)head;
		/* kinds of later versions have keys too, but mean nothing */
		ck_assert_uint_eq(flow_key_len(key, sizeof(key)), (head & 1 ? 38u : 14u) + (head & 6 ? 2u : 0u));
		ck_assert((flow_unpack_key(key, sizeof(key), &f, &used) == 0) == (head < 16));
		ck_assert(head >= 16 || f.expect == (head >= 8));
		if (head >= 16)
			ck_assert_int_eq(flow_unpack(key, sizeof(key), &f), -EPROTONOSUPPORT);
	}
	/* zone 0 has one spelling only: none at all */
	for (head = 0; head < 16; head++) {
		if ((head & 6) == 0)
			continue;
		key[0] = (uint8_t)head;
		key[2] = key[3] = 0;
		ck_assert_int_eq(flow_unpack_key(key, sizeof(key), &f, &used), -EBADMSG);
		key[3] = 1;
		ck_assert_int_eq(flow_unpack_key(key, sizeof(key), &f, &used), 0);
		ck_assert_uint_eq(f.zone, 1);
		ck_assert_uint_eq(f.zone_dir, (head & 6) >> 1);
	}
}
END_TEST

/* --- tuples --------------------------------------------------------------- */

START_TEST(inverting_twice)
{
	struct flow		 f;
	struct flow_tuple	 once, twice;
	int			 i;

	for (i = 0; i < ROUNDS * 5; i++) {
		fg_flow(&f, rnd_below(2) ? AF_INET : AF_INET6, fg_protos[rnd_below(FG_PROTOS)],
		    0, 0);
		if (flow_proto_is_icmp(f.family, f.proto))
			f.orig.l4dst = (uint16_t)(rnd_below(256) << 8 | rnd_below(256));
		flow_tuple_invert(f.family, f.proto, &f.orig, &once);
		flow_tuple_invert(f.family, f.proto, &once, &twice);
		ck_assert_mem_eq(&twice, &f.orig, sizeof(twice));
		ck_assert_mem_eq(once.src.b, f.orig.dst.b, 16);
		ck_assert_mem_eq(once.dst.b, f.orig.src.b, 16);
		/* in place */
		flow_tuple_invert(f.family, f.proto, &once, &once);
		ck_assert_mem_eq(&once, &f.orig, sizeof(once));
	}
}
END_TEST

/* The kernel's maps: nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c. */
START_TEST(icmp_types)
{
	static const uint8_t	 v4[][2] = {
		{ 8, 0 }, { 0, 8 }, { 13, 14 }, { 14, 13 }, { 15, 16 }, { 16, 15 }, { 17, 18 },
		{ 18, 17 }
	};
	static const uint8_t	 v6[][2] = {
		{ 128, 129 }, { 129, 128 }, { 139, 140 }, { 140, 139 }
	};
	struct flow_tuple	 t, r;
	unsigned		 type, i, want4, want6;

	memset(&t, 0, sizeof(t));
	t.l4src = 0xbeef;
	for (type = 0; type < 256; type++) {
		want4 = want6 = type;
		for (i = 0; i < sizeof(v4) / sizeof(v4[0]); i++)
			if (v4[i][0] == type)
				want4 = v4[i][1];
		for (i = 0; i < sizeof(v6) / sizeof(v6[0]); i++)
			if (v6[i][0] == type)
				want6 = v6[i][1];
		t.l4dst = (uint16_t)(type << 8 | 5);
		flow_tuple_invert(AF_INET, IPPROTO_ICMP, &t, &r);
		ck_assert_uint_eq(r.l4src, 0xbeef);
		ck_assert_uint_eq(r.l4dst, want4 << 8 | 5);
		flow_tuple_invert(AF_INET6, 58, &t, &r);
		ck_assert_uint_eq(r.l4src, 0xbeef);
		ck_assert_uint_eq(r.l4dst, want6 << 8 | 5);
	}
	ck_assert(flow_proto_is_icmp(AF_INET, IPPROTO_ICMP));
	ck_assert(flow_proto_is_icmp(AF_INET6, 58));
	ck_assert(!flow_proto_is_icmp(AF_INET6, IPPROTO_ICMP));
	ck_assert(!flow_proto_is_icmp(AF_INET, 58));
	/* the other family's protocol has ports that change sides */
	flow_tuple_invert(AF_INET6, IPPROTO_ICMP, &t, &r);
	ck_assert_uint_eq(r.l4dst, 0xbeef);
}
END_TEST

/* --- merging -------------------------------------------------------------- */

/* Each bit of has moves its fields and no other. */
START_TEST(merging)
{
	static const uint32_t	 bits[] = {
		FLOW_HAS_STATUS, FLOW_HAS_TIMEOUT, FLOW_HAS_MARK, FLOW_HAS_TCP_STATE,
		FLOW_HAS_TCP_FLAGS, FLOW_HAS_TCP_WSCALE, FLOW_HAS_ID, FLOW_HAS_REPLY,
		FLOW_HAS_PACKETS
	};
	struct flow		 f, d, want;
	unsigned		 mask, i;

	for (mask = 0; mask < 512; mask++) {
		fg_flow(&f, AF_INET, IPPROTO_TCP, 0, 15);
		f.timeout_s = 5;
		f.packets = 3;
		f.born = 1000;
		f.has &= ~(uint32_t)FLOW_HAS_MARK;
		fg_flow(&d, AF_INET, IPPROTO_TCP, 0, 15);
		d.timeout_s = 7;
		d.id = 9;
		d.packets = 4;
		d.incarnation = (uint8_t)(f.incarnation + 1);
		d.has = 0;
		for (i = 0; i < 9; i++)
			if (mask & 1u << i)
				d.has |= bits[i];
		want = f;
		want.has |= d.has;
		if (d.has & FLOW_HAS_STATUS)
			want.status = d.status;
		if (d.has & FLOW_HAS_TIMEOUT)
			want.timeout_s = d.timeout_s;
		if (d.has & FLOW_HAS_MARK)
			want.mark = d.mark;
		if (d.has & FLOW_HAS_TCP_STATE)
			want.tcp_state = d.tcp_state;
		for (i = 0; i < 2; i++) {
			if (d.has & FLOW_HAS_TCP_FLAGS)
				want.tcp_flags[i] = d.tcp_flags[i];
			if (d.has & FLOW_HAS_TCP_WSCALE)
				want.tcp_wscale[i] = d.tcp_wscale[i];
		}
		if (d.has & FLOW_HAS_ID)
			want.id = d.id;
		if (d.has & FLOW_HAS_PACKETS)
			want.packets = d.packets;
		if (d.has & FLOW_HAS_REPLY)
			want.reply = d.reply;
		flow_merge(&f, &d);
		fg_same(&f, &want);
	}
}
END_TEST

/* --- names ---------------------------------------------------------------- */

START_TEST(names)
{
	unsigned	 i;
	int		 n;
	char		 num[8];

	for (i = 0; i < 256; i++) {
		n = flow_proto_parse(flow_proto_name((uint8_t)i));
		if (strcmp(flow_proto_name((uint8_t)i), "unknown") != 0)
			ck_assert_int_eq(n, (int)i);
		snprintf(num, sizeof(num), "%u", i);
		ck_assert_int_eq(flow_proto_parse(num), (int)i);
	}
	ck_assert_str_eq(flow_proto_name(IPPROTO_TCP), "tcp");
	ck_assert_int_eq(flow_proto_parse("UDP"), IPPROTO_UDP);
	ck_assert_int_eq(flow_proto_parse("ipv6-icmp"), 58);
	ck_assert_int_eq(flow_proto_parse("256"), -1);
	ck_assert_int_eq(flow_proto_parse("-1"), -1);
	ck_assert_int_eq(flow_proto_parse("6x"), -1);
	ck_assert_int_eq(flow_proto_parse(""), -1);
	ck_assert_int_eq(flow_proto_parse("99999999999999999999"), -1);
	for (i = 0; i < FLOW_TCP_STATES; i++)
		ck_assert_int_eq(flow_tcp_state_parse(flow_tcp_state_name((uint8_t)i)), (int)i);
	ck_assert_str_eq(flow_tcp_state_name(FLOW_TCP_STATES), "UNKNOWN");
	ck_assert_int_eq(flow_tcp_state_parse("UNKNOWN"), -1);
}
END_TEST

START_TEST(log_line)
{
	struct flow	 f;
	char		 s[FLOW_STR_MAX];

	fg_flow(&f, AF_INET6, 58, FLOW_ZONE_REPLY, 15);
	memset(&f.orig, 0xff, sizeof(f.orig));
	memset(&f.reply, 0xfe, sizeof(f.reply));
	f.zone = 65535;
	ck_assert_ptr_eq(flow_str(&f, s), s);
	/* the longest one there is stays whole */
	ck_assert_ptr_nonnull(strstr(s, ", zone 65535"));
	ck_assert_ptr_nonnull(strstr(s, "icmpv6 ffff:ffff:"));
	fg_flow(&f, AF_INET, IPPROTO_TCP, FLOW_ZONE_NONE, 0);
	f.orig.src = (struct flow_addr){ { 192, 0, 2, 1 } };
	f.orig.l4src = 4242;
	ck_assert_ptr_nonnull(strstr(flow_str(&f, s), "tcp 192.0.2.1:4242 > "));
	ck_assert_ptr_null(strstr(s, "zone"));
	/* an expectation has no reply tuple */
	fg_expect(&f, AF_INET6, IPPROTO_UDP, FLOW_ZONE_BOTH);
	ck_assert_ptr_eq(strstr(flow_str(&f, s), "expected udp "), s);
	ck_assert_ptr_null(strstr(s, "reply"));
	ck_assert_ptr_nonnull(strstr(s, ", zone "));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("flow");
	TCase	*tc = tcase_create("flow");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, every_kind_of_flow, 0, (int)FG_PROTOS);
	tcase_add_test(tc, random_flows);
	tcase_add_test(tc, known_bytes);
	tcase_add_test(tc, plain_flows_are_small);
	tcase_add_test(tc, local_knowledge_is_left_out);
	tcase_add_test(tc, every_field_shows);
	tcase_add_test(tc, room_for_a_body);
	tcase_add_test(tc, prefixes);
	tcase_add_test(tc, lengths_off_by_one);
	tcase_add_test(tc, noise);
	tcase_add_test(tc, attribute_rules);
	tcase_add_test(tc, tcp_rules);
	tcase_add_test(tc, born_rules);
	tcase_add_test(tc, copy_rules);
	tcase_add_test(tc, attributes_of_later_versions);
	tcase_add_test(tc, too_long);
	tcase_add_test(tc, keys);
	tcase_add_test(tc, key_head);
	tcase_add_test(tc, inverting_twice);
	tcase_add_test(tc, icmp_types);
	tcase_add_test(tc, merging);
	tcase_add_test(tc, names);
	tcase_add_test(tc, log_line);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
