/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What few flows have, and expectations, in the packed form: the bytes, the
 * rules of each attribute, merging.  Properties over all flows, among them
 * these, are in test_flow.c.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "flowgen.h"
#include "rnd.h"

#define ROUNDS	3000

static void
setup(void)
{
	rnd_seed(21);
}

/* --- bytes ---------------------------------------------------------------- */

static const struct flow_tuple	 from_a = { { { 10, 0, 0, 1 } }, { { 192, 0, 2, 1 } }, 0x3039, 21 };
static const struct flow_tuple	 from_b = { { { 192, 0, 2, 1 } }, { { 10, 0, 0, 1 } }, 20, 0x3040 };

/* To the byte, as doc/wire.md section 3 says. */
START_TEST(known_bytes_of_a_flow)
{
	static const uint8_t	 want[] = {
		0x00, 132, 192, 0, 2, 1, 10, 0, 0, 1, 0x00, 0x14, 0x30, 0x40, 2,
		0x01, 1, 0x09,
		0x05, 3, 0x00, 0x80, 0x01,
		0x06, 9, FLOW_SCTP_ESTABLISHED, 1, 2, 3, 4, 5, 6, 7, 8,
		0x08, 3, 'f', 't', 'p',
		0x09, 13, 6, 10, 0, 0, 1, 192, 0, 2, 1, 0x30, 0x39, 0x00, 0x15,
		0x0a, 13, 0x02, 0, 0, 0x01, 0x00, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 3,
		0x0b, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3
	};
	struct flow		 f = {
		.family = AF_INET, .proto = IPPROTO_SCTP, .incarnation = 2,
		.status = FLOW_S_EXPECTED | FLOW_S_CONFIRMED, .orig = from_b,
		.has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_LABELS |
		    FLOW_HAS_SCTP | FLOW_HAS_HELPER | FLOW_HAS_MASTER | FLOW_HAS_SEQADJ |
		    FLOW_HAS_SYNPROXY,
		.helper = "ftp", .master_proto = IPPROTO_TCP, .master = from_a,
		.rare = {
			.labels = { 0x00, 0x80, 0x01 },
			.seqadj = { { 0, 0, 0 }, { 0x100, (uint32_t)-2, 3 } },
			.isn = 1, .its = 2, .tsoff = 3,
			.sctp_state = FLOW_SCTP_ESTABLISHED,
			.sctp_vtag = { 0x01020304, 0x05060708 }
		}
	};
	uint8_t			 body[FLOW_BODY_MAX];

	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), sizeof(want));
	ck_assert_mem_eq(body, want, sizeof(want));
	fg_round_trip(&f);
}
END_TEST

START_TEST(known_bytes_of_dccp)
{
	static const uint8_t	 want[] = {
		0x00, 33, 192, 0, 2, 1, 10, 0, 0, 1, 0x00, 0x14, 0x30, 0x40, 0,
		0x01, 1, 0x08,
		0x07, 10, 4, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc
	};
	struct flow		 f = {
		.family = AF_INET, .proto = IPPROTO_DCCP, .status = FLOW_S_CONFIRMED, .orig = from_b,
		.has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_DCCP,
		.rare = { .dccp_state = 4, .dccp_role = 1, .dccp_seq = 0x123456789abc }
	};
	uint8_t			 body[FLOW_BODY_MAX];

	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), sizeof(want));
	ck_assert_mem_eq(body, want, sizeof(want));
	fg_round_trip(&f);
}
END_TEST

START_TEST(known_bytes_of_an_expectation)
{
	static const uint8_t	 want[] = {
		0x0a, 6, 0x00, 0x07, 192, 0, 2, 1, 10, 0, 0, 1, 0x00, 0x14, 0x30, 0x40, 5,
		0x08, 3, 's', 'i', 'p',
		0x09, 13, 17, 10, 0, 0, 1, 192, 0, 2, 1, 0x30, 0x39, 0x00, 0x15,
		0x0c, 8, 0x01, 2, 255, 255, 255, 0, 0xff, 0x00,
		0x0d, 7, 1, 203, 0, 113, 5, 0x4e, 0x20,
		0x0e, 4, 'Q', '.', '9', '3'
	};
	struct flow		 f = {
		.family = AF_INET, .proto = IPPROTO_TCP, .zone_dir = FLOW_ZONE_BOTH, .zone = 7,
		.incarnation = 5, .expect = true, .orig = from_b,
		.has = FLOW_HAS_REPLY | FLOW_HAS_HELPER | FLOW_HAS_MASTER | FLOW_HAS_EXPECT,
		.helper = "sip", .master_proto = IPPROTO_UDP, .master = from_a,
		.exp = {
			.mask_src = { { 255, 255, 255, 0 } }, .mask_l4src = 0xff00,
			.flags = FLOW_E_PERMANENT, .policy = 2,
			.nat = true, .nat_dir = 1, .nat_addr = { { 203, 0, 113, 5 } },
			.nat_l4 = 20000, .fn = "Q.93"
		}
	};
	uint8_t			 body[FLOW_BODY_MAX], key[FLOW_KEY_MAX];
	struct flow		 m;

	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), sizeof(want));
	ck_assert_mem_eq(body, want, sizeof(want));
	fg_round_trip(&f);

	/* nothing of a flow's goes with it */
	f.status = FLOW_S_ASSURED;
	f.mark = 42;
	f.tcp_state = FLOW_TCP_ESTABLISHED;
	f.timeout_s = 300;
	f.id = 9;
	ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), sizeof(want));
	ck_assert_mem_eq(body, want, sizeof(want));

	/* its master is the flow with that tuple, in the same zone */
	memset(&m, 0, sizeof(m));
	m.family = AF_INET;
	m.proto = IPPROTO_UDP;
	m.zone_dir = FLOW_ZONE_BOTH;
	m.zone = 7;
	m.orig = from_a;
	ck_assert_uint_eq(flow_pack_key(&m, key), flow_pack_master_key(&f, body));
	ck_assert_mem_eq(key, body, 16);
	f.master_proto = 0;
	ck_assert_uint_eq(flow_pack_master_key(&f, body), 0);
}
END_TEST

/* --- round trip ------------------------------------------------------------- */

/* The longest ones fit into what is promised, and into an attribute each. */
START_TEST(everything_at_once)
{
	unsigned	 zone, i;
	struct flow	 f;

	for (i = 0; i < FG_PROTOS; i++)
		for (zone = 0; zone < 4; zone++) {
			fg_flow(&f, AF_INET6, fg_protos[i], zone, 15);
			fg_rare_all(&f);
			f.mark = UINT32_MAX;
			f.born = FLOW_BORN_MAX;
			f.status = FLOW_S_REPLICATED;
			if (f.proto == IPPROTO_GRE)
				f.status &= ~FLOW_S_FIXED_TIMEOUT;	/* a matter of one kernel */
			fg_round_trip(&f);
			fg_expect_all(&f, AF_INET6, fg_protos[i], zone);
			fg_round_trip(&f);
		}
}
END_TEST

/* What is all zero is not there: one way only to say so. */
START_TEST(zeros_are_left_out)
{
	uint8_t		 body[FLOW_BODY_MAX], other[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 len;

	fg_flow(&f, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE, 0);
	len = flow_pack(&f, body, sizeof(body));
	f.has |= FLOW_HAS_RARE;
	ck_assert_uint_eq(flow_pack(&f, other, sizeof(other)), len);
	ck_assert_mem_eq(body, other, len);
	ck_assert_int_eq(flow_unpack(other, len, &g), 0);
	ck_assert_uint_eq(g.has & FLOW_HAS_RARE, 0);

	/* the state of a protocol counts even if it is 0 */
	fg_flow(&f, AF_INET, IPPROTO_SCTP, FLOW_ZONE_NONE, 0);
	len = flow_pack(&f, body, sizeof(body));
	f.has |= FLOW_HAS_SCTP;
	ck_assert_uint_eq(flow_pack(&f, other, sizeof(other)), len + 11);
	ck_assert_int_eq(flow_unpack(other, len + 11, &g), 0);
	ck_assert(g.has & FLOW_HAS_SCTP);
}
END_TEST

/* Fields of one protocol leave no trace in another. */
START_TEST(protocols_are_kept_apart)
{
	uint8_t		 body[FLOW_BODY_MAX];
	struct flow	 f;
	size_t		 len;
	unsigned	 i;

	for (i = 0; i < FG_PROTOS; i++) {
		if (fg_protos[i] == IPPROTO_SCTP || fg_protos[i] == IPPROTO_DCCP)
			continue;
		fg_flow(&f, AF_INET, fg_protos[i], FLOW_ZONE_NONE, 0);
		len = flow_pack(&f, body, sizeof(body));
		f.has |= FLOW_HAS_SCTP | FLOW_HAS_DCCP;
		f.rare.sctp_state = f.rare.dccp_state = 3;
		f.rare.sctp_vtag[0] = 1;
		f.rare.dccp_seq = 1;
		ck_assert_uint_eq(flow_pack(&f, body, sizeof(body)), len);
	}
}
END_TEST

/* Flows that differ in anything replicated differ in their bytes. */
static void
bend_flow(struct flow *f, unsigned what)
{
	struct flow_rare	*x = &f->rare;

	switch (what) {
	case 0: x->labels[rnd_below(FLOW_LABEL_BYTES)] ^= 1; break;
	case 1: f->helper[rnd_below(FLOW_HELPER_MAX)] ^= 1; break;
	case 2: f->helper[FLOW_HELPER_MAX - 1] = '\0'; break;
	case 3: f->master_proto = (uint8_t)(f->master_proto % 255 + 1); break;
	case 4: f->master.src.b[rnd_below(4)] ^= 1; break;
	case 5: f->master.dst.b[rnd_below(4)] ^= 1; break;
	case 6: f->master.l4src ^= 1; break;
	case 7: f->master.l4dst ^= 0x100; break;
	case 8: x->seqadj[rnd_below(2)].pos ^= 1; break;
	case 9: x->seqadj[rnd_below(2)].before ^= 1; break;
	case 10: x->seqadj[rnd_below(2)].after ^= 1u << 31; break;
	case 11: x->isn ^= 1; break;
	case 12: x->its ^= 1; break;
	case 13: x->tsoff ^= 1; break;
	case 14: x->sctp_state = (uint8_t)((x->sctp_state + 1) % FLOW_SCTP_STATES); break;
	default: x->sctp_vtag[rnd_below(2)] ^= 1u << rnd_below(32); break;
	}
}

static void
bend_expect(struct flow *f, unsigned what)
{
	struct flow_expect	*e = &f->exp;

	switch (what) {
	case 0: e->flags ^= FLOW_E_INACTIVE; break;
	case 1: e->policy ^= 0x80; break;
	case 2: e->mask_src.b[rnd_below(4)] ^= 1; break;
	case 3: e->mask_l4src ^= 1; break;
	case 4: e->nat = false; break;
	case 5: e->nat_dir ^= 1; break;
	case 6: e->nat_addr.b[rnd_below(4)] ^= 1; break;
	case 7: e->nat_l4 ^= 1; break;
	case 8: e->fn[rnd_below(FLOW_EXPECTFN_MAX)] ^= 1; break;
	case 9: e->fn[0] = '\0'; break;
	case 10: f->helper[0] = '\0'; break;
	case 11: f->master.src.b[0] ^= 1; break;
	default: f->master_proto = (uint8_t)(f->master_proto % 255 + 1); break;
	}
}

START_TEST(every_field_shows)
{
	uint8_t		 body[FLOW_BODY_MAX], other[FLOW_BODY_MAX];
	struct flow	 f, g;
	size_t		 len, len2;
	unsigned	 what;
	int		 i;

	for (i = 0; i < ROUNDS; i++) {
		if (i % 2 == 0) {
			fg_flow(&f, AF_INET, IPPROTO_SCTP, FLOW_ZONE_NONE, 0);
			fg_rare_all(&f);
		} else
			fg_expect_all(&f, AF_INET6, IPPROTO_UDP, FLOW_ZONE_NONE);
		len = flow_pack(&f, body, sizeof(body));
		g = f;
		if (i % 2 == 0)
			bend_flow(&g, what = rnd_below(16));
		else
			bend_expect(&g, what = rnd_below(13));
		len2 = flow_pack(&g, other, sizeof(other));
		ck_assert_msg(len != len2 || memcmp(body, other, len) != 0, "case %u", what);
	}
	fg_flow(&f, AF_INET, IPPROTO_DCCP, FLOW_ZONE_NONE, 0);
	fg_rare_all(&f);
	len = flow_pack(&f, body, sizeof(body));
	for (what = 0; what < 3; what++) {
		g = f;
		g.rare.dccp_role ^= what == 0;
		g.rare.dccp_state = (uint8_t)((g.rare.dccp_state + (what == 1)) % FLOW_DCCP_STATES);
		g.rare.dccp_seq ^= what == 2 ? UINT64_C(1) << 47 : 0;
		ck_assert_uint_eq(flow_pack(&g, other, sizeof(other)), len);
		ck_assert(memcmp(body, other, len) != 0);
	}
}
END_TEST

/* A flow and an expectation of the same tuple are two. */
START_TEST(keys_differ)
{
	uint8_t		 a[FLOW_KEY_MAX], b[FLOW_KEY_MAX];
	struct flow	 f;
	size_t		 len, used;

	fg_expect(&f, AF_INET, IPPROTO_TCP, FLOW_ZONE_BOTH);
	len = flow_pack_key(&f, a);
	f.expect = false;
	ck_assert_uint_eq(flow_pack_key(&f, b), len);
	ck_assert(a[0] == (b[0] | 0x08) && a[0] != b[0]);
	ck_assert_mem_eq(a + 1, b + 1, len - 1);
	ck_assert_int_eq(flow_unpack_key(a, len, &f, &used), 0);
	ck_assert(f.expect && used == len);
	ck_assert_uint_eq(f.has, FLOW_HAS_REPLY);
}
END_TEST

/* --- rules ------------------------------------------------------------------ */

/* A body whose attributes the test writes itself, in memory of its size. */
static int
unpack_with(uint8_t family, uint8_t proto, bool expect, const char *attrs, size_t n,
    struct flow *f)
{
	uint8_t	*body = malloc(FLOW_KEY_MAX + 1 + n);
	size_t	 klen;
	int	 rc;

	ck_assert_ptr_nonnull(body);
	fg_flow(f, family, proto, FLOW_ZONE_NONE, 0);
	f->expect = expect;
	klen = flow_pack_key(f, body);
	body[klen] = 3;
	memcpy(body + klen + 1, attrs, n);
	body = realloc(body, klen + 1 + n);
	ck_assert_ptr_nonnull(body);
	memset(f, 0x5a, sizeof(*f));
	rc = flow_unpack(body, klen + 1 + n, f);
	free(body);
	return rc;
}

/* Behind a status that a flow has to have. */
#define FLOW(proto, s, f)	\
	unpack_with(AF_INET, (proto), false, "\1\1\6" s, sizeof(s) + 2, (f))
#define EXPECT(s, f)	unpack_with(AF_INET, 6, true, (s), sizeof(s) - 1, (f))
#define EXPECT6(s, f)	unpack_with(AF_INET6, 6, true, (s), sizeof(s) - 1, (f))

START_TEST(rules_of_labels)
{
	static const uint8_t	 want[16] = { 1, 0, 2 };
	struct flow		 f;

	ck_assert_int_eq(FLOW(17, "\5\3\1\0\2", &f), 0);
	ck_assert_mem_eq(f.rare.labels, want, 16);
	ck_assert_uint_eq(f.has,
	    FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_MARK | FLOW_HAS_LABELS);
	ck_assert_int_eq(FLOW(17, "\x85\3\1\0\2", &f), 0);
	ck_assert_int_eq(FLOW(17, "\5\20ABCDEFGHIJKLMNOP", &f), 0);
	ck_assert_mem_eq(f.rare.labels, "ABCDEFGHIJKLMNOP", 16);
	/* not empty, not longer than they are, in their shortest form */
	ck_assert_int_eq(FLOW(17, "\5\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(17, "\5\1\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(17, "\5\3\1\1\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(17, "\5\21ABCDEFGHIJKLMNOPQ", &f), -EBADMSG);
}
END_TEST

START_TEST(rules_of_sctp)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(132, "\6\11\4\0\0\0\1\0\0\1\0", &f), 0);
	ck_assert_uint_eq(f.rare.sctp_state, FLOW_SCTP_ESTABLISHED);
	ck_assert_uint_eq(f.rare.sctp_vtag[0], 1);
	ck_assert_uint_eq(f.rare.sctp_vtag[1], 256);
	ck_assert(f.has & FLOW_HAS_SCTP);
	ck_assert_int_eq(FLOW(132, "\6\11\0\0\0\0\0\0\0\0\0", &f), 0);
	ck_assert_int_eq(FLOW(132, "\6\11\11\0\0\0\0\0\0\0\0", &f), 0);
	/* a state that there is not; another size; another protocol */
	ck_assert_int_eq(FLOW(132, "\6\11\12\0\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(132, "\6\10\4\0\0\0\1\0\0\1", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(132, "\6\12\4\0\0\0\1\0\0\1\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\6\11\4\0\0\0\1\0\0\1\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(33, "\6\11\4\0\0\0\1\0\0\1\0", &f), -EBADMSG);
	/* an SCTP flow of which nothing else is known */
	ck_assert_int_eq(FLOW(132, "", &f), 0);
	ck_assert(!(f.has & FLOW_HAS_SCTP));
}
END_TEST

START_TEST(rules_of_dccp)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(33, "\7\12\4\1\0\0\0\0\0\0\1\2", &f), 0);
	ck_assert_uint_eq(f.rare.dccp_state, 4);
	ck_assert_uint_eq(f.rare.dccp_role, 1);
	ck_assert_uint_eq(f.rare.dccp_seq, 0x102);
	ck_assert(f.has & FLOW_HAS_DCCP);
	ck_assert_int_eq(FLOW(33, "\7\12\11\0\0\0\0\0\0\0\0\0", &f), 0);
	ck_assert_int_eq(FLOW(33, "\7\12\12\0\0\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(33, "\7\12\4\2\0\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(33, "\7\11\4\1\0\0\0\0\0\0\1", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(33, "\7\13\4\1\0\0\0\0\0\0\1\2\3", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(132, "\7\12\4\1\0\0\0\0\0\0\1\2", &f), -EBADMSG);
}
END_TEST

START_TEST(rules_of_helper)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(6, "\10\3ftp", &f), 0);
	ck_assert_str_eq(f.helper, "ftp");
	ck_assert(f.has & FLOW_HAS_HELPER);
	ck_assert_int_eq(FLOW(6, "\10\17ABCDEFGHIJKLMNO", &f), 0);
	ck_assert_str_eq(f.helper, "ABCDEFGHIJKLMNO");
	ck_assert_int_eq(FLOW(6, "\10\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\20ABCDEFGHIJKLMNOP", &f), -EBADMSG);
	/* goes into logs: nothing that is not printed, and no end in its middle */
	ck_assert_int_eq(FLOW(6, "\10\3f\0p", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3ft\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3f p", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3f\np", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3f\x1bp", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3f\x7fp", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\10\3f\xe4p", &f), -EBADMSG);
}
END_TEST

START_TEST(rules_of_master)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(6, "\11\15\21abcdABCD\0\1\0\2", &f), 0);
	ck_assert_uint_eq(f.master_proto, 17);
	ck_assert_mem_eq(f.master.src.b, "abcd\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_mem_eq(f.master.dst.b, "ABCD\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_uint_eq(f.master.l4src, 1);
	ck_assert_uint_eq(f.master.l4dst, 2);
	ck_assert(f.has & FLOW_HAS_MASTER);
	ck_assert_int_eq(FLOW(6, "\11\15\0abcdABCD\0\1\0\2", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\11\14\21abcdABCD\0\1\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\11\16\21abcdABCD\0\1\0\2\0", &f), -EBADMSG);
	/* as long as the flow's family wants it */
	ck_assert_int_eq(FLOW(6, "\11\45\21abcdefghijklmnopABCDEFGHIJKLMNOP\0\1\0\2", &f), -EBADMSG);
}
END_TEST

START_TEST(rules_of_seqadj)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(6, "\12\15\1\0\0\0\1\0\0\0\2\0\0\0\3", &f), 0);
	ck_assert_uint_eq(f.rare.seqadj[0].pos, 1);
	ck_assert_uint_eq(f.rare.seqadj[0].before, 2);
	ck_assert_uint_eq(f.rare.seqadj[0].after, 3);
	ck_assert_uint_eq(f.rare.seqadj[1].after, 0);
	ck_assert(f.has & FLOW_HAS_SEQADJ);
	ck_assert_int_eq(FLOW(6, "\12\15\2\0\0\0\1\0\0\0\2\xff\xff\xff\xff", &f), 0);
	ck_assert_uint_eq(f.rare.seqadj[0].pos, 0);
	ck_assert_uint_eq(f.rare.seqadj[1].after, UINT32_MAX);
	ck_assert_int_eq(FLOW(6, "\12\31\3\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\4", &f), 0);
	ck_assert_uint_eq(f.rare.seqadj[1].after, 4);
	/* of no direction, of one that there is not, of more or less than follows, of nothing */
	ck_assert_int_eq(FLOW(6, "\12\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\1\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\15\0\0\0\0\1\0\0\0\2\0\0\0\3", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\15\4\0\0\0\1\0\0\0\2\0\0\0\3", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\15\3\0\0\0\1\0\0\0\2\0\0\0\3", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\31\1\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\1\0\0\0\1\0\0\0\1", &f),
	    -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\15\1\0\0\0\0\0\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\12\31\3\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0", &f),
	    -EBADMSG);
}
END_TEST

START_TEST(rules_of_synproxy)
{
	struct flow	 f;

	ck_assert_int_eq(FLOW(6, "\13\14\0\0\0\1\0\0\0\2\0\0\0\3", &f), 0);
	ck_assert_uint_eq(f.rare.isn, 1);
	ck_assert_uint_eq(f.rare.its, 2);
	ck_assert_uint_eq(f.rare.tsoff, 3);
	ck_assert(f.has & FLOW_HAS_SYNPROXY);
	ck_assert_int_eq(FLOW(6, "\13\14\0\0\0\0\0\0\0\0\0\0\0\1", &f), 0);
	ck_assert_int_eq(FLOW(6, "\13\14\0\0\0\0\0\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\13\13\0\0\0\1\0\0\0\2\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\13\15\0\0\0\1\0\0\0\2\0\0\0\3\0", &f), -EBADMSG);
}
END_TEST

#define MASTER	"\11\15\21abcdABCD\0\1\0\2"
#define MASTER6	"\11\45\21abcdefghijklmnopABCDEFGHIJKLMNOP\0\1\0\2"
#define WHAT	"\14\10\1\7\xff\xff\xff\xff\0\0"

START_TEST(rules_of_expectations)
{
	struct flow	 f;

	ck_assert_int_eq(EXPECT(MASTER WHAT, &f), 0);
	ck_assert(f.expect);
	ck_assert_uint_eq(f.incarnation, 3);
	ck_assert_uint_eq(f.has, FLOW_HAS_REPLY | FLOW_HAS_MASTER | FLOW_HAS_EXPECT);
	ck_assert_uint_eq(f.exp.flags, FLOW_E_PERMANENT);
	ck_assert_uint_eq(f.exp.policy, 7);
	ck_assert_mem_eq(f.exp.mask_src.b, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_uint_eq(f.exp.mask_l4src, 0);
	ck_assert(!f.exp.nat);
	ck_assert_str_eq(f.helper, "");
	ck_assert_str_eq(f.exp.fn, "");
	ck_assert_int_eq(EXPECT("\10\3sip" MASTER "\x8c\10\7\7\0\0\0\0\0\0", &f), 0);
	ck_assert_str_eq(f.helper, "sip");
	ck_assert_int_eq(EXPECT6(MASTER6 "\14\24\1\7ABCDEFGHIJKLMNOP\0\0", &f), 0);
	ck_assert_mem_eq(f.exp.mask_src.b, "ABCDEFGHIJKLMNOP", 16);
	/* both have to be there */
	ck_assert_int_eq(EXPECT("", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(WHAT MASTER, &f), -EBADMSG);
	/* flags that there are, the family's size */
	ck_assert_int_eq(EXPECT(MASTER "\14\10\x08\7\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER "\14\7\1\7\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER "\14\11\1\7\0\0\0\0\0\0\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER "\14\24\1\7ABCDEFGHIJKLMNOP\0\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT6(MASTER6 WHAT, &f), -EBADMSG);
	/* what a later version adds is kept */
	ck_assert_int_eq(EXPECT(MASTER WHAT "\22\1\1", &f), 0);
	ck_assert_uint_eq(f.extra_len, 3);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\x92\1\1", &f), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(rules_of_translated_expectations)
{
	struct flow	 f;

	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\7\1abcd\1\2", &f), 0);
	ck_assert(f.exp.nat);
	ck_assert_uint_eq(f.exp.nat_dir, 1);
	ck_assert_mem_eq(f.exp.nat_addr.b, "abcd\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_uint_eq(f.exp.nat_l4, 0x102);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\7\0\0\0\0\0\0\0", &f), 0);
	ck_assert(f.exp.nat);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\7\2abcd\1\2", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\6\1abcd\1", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\15\10\1abcd\1\2\3", &f), -EBADMSG);
	/* the function that will see to the new flow */
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\5Q.931", &f), 0);
	ck_assert_str_eq(f.exp.fn, "Q.931");
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\37ABCDEFGHIJKLMNOPQRSTUVWXYZABCDE", &f), 0);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\40ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\0", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\3a\0b", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\3a b", &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER WHAT "\16\3a\x80z", &f), -EBADMSG);
}
END_TEST

/* What belongs to one of them is malformed in the other. */
START_TEST(rules_are_kept_apart)
{
	struct flow	 f;

	ck_assert_int_eq(EXPECT("\1\1\6" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\x82\3\4\1\2" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\3\1\6" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\4\4\3\1\2\x7e" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\5\3\1\0\2" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\6\11\4\0\0\0\1\0\0\1\0" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT("\7\12\4\1\0\0\0\0\0\0\1\2" MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER "\12\15\1\0\0\0\1\0\0\0\2\0\0\0\3" WHAT, &f), -EBADMSG);
	ck_assert_int_eq(EXPECT(MASTER "\13\14\0\0\0\1\0\0\0\2\0\0\0\3" WHAT, &f), -EBADMSG);

	ck_assert_int_eq(FLOW(6, MASTER, &f), 0);
	ck_assert_int_eq(FLOW(6, MASTER WHAT, &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\15\7\1abcd\1\2", &f), -EBADMSG);
	ck_assert_int_eq(FLOW(6, "\16\5Q.931", &f), -EBADMSG);
}
END_TEST

/* --- merging ---------------------------------------------------------------- */

/* Each bit of has moves its fields and no other. */
static void
merged_by_hand(struct flow *f, const struct flow *d)
{
	f->has |= d->has;
	if (d->has & FLOW_HAS_LABELS)
		memcpy(f->rare.labels, d->rare.labels, FLOW_LABEL_BYTES);
	if (d->has & FLOW_HAS_HELPER)
		strcpy(f->helper, d->helper);
	if (d->has & FLOW_HAS_MASTER) {
		f->master_proto = d->master_proto;
		f->master = d->master;
	}
	if (d->has & FLOW_HAS_SEQADJ)
		memcpy(f->rare.seqadj, d->rare.seqadj, sizeof(f->rare.seqadj));
	if (d->has & FLOW_HAS_SYNPROXY) {
		f->rare.isn = d->rare.isn;
		f->rare.its = d->rare.its;
		f->rare.tsoff = d->rare.tsoff;
	}
	if (d->has & FLOW_HAS_SCTP) {
		f->rare.sctp_state = d->rare.sctp_state;
		memcpy(f->rare.sctp_vtag, d->rare.sctp_vtag, sizeof(f->rare.sctp_vtag));
	}
	if (d->has & FLOW_HAS_DCCP) {
		f->rare.dccp_state = d->rare.dccp_state;
		f->rare.dccp_role = d->rare.dccp_role;
		f->rare.dccp_seq = d->rare.dccp_seq;
	}
}

START_TEST(merging)
{
	static const uint8_t	 protos[] = { IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDP };
	struct flow		 f, d, want;
	uint32_t		 has;
	unsigned		 i;

	for (i = 0; i < 3; i++)
		for (has = 0; has <= FLOW_HAS_RARE; has += FLOW_HAS_LABELS) {
			fg_flow(&f, AF_INET6, protos[i], FLOW_ZONE_NONE, 0);
			d = f;
			if (rnd_below(2) == 0)
				fg_rare(&f);
			else
				fg_rare_all(&f);
			if (rnd_below(4) != 0)	/* or nothing, which takes away */
				fg_rare_all(&d);
			d.has = has;
			want = f;
			merged_by_hand(&want, &d);
			flow_merge(&f, &d);
			fg_same(&f, &want);
		}
}
END_TEST

START_TEST(merging_expectations)
{
	struct flow	 f, d, was;

	fg_expect_all(&f, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE);
	was = f;
	fg_expect(&d, AF_INET, IPPROTO_UDP, FLOW_ZONE_NONE);
	d.orig = f.orig;
	d.timeout_s = 77;
	d.id = 5;
	d.has = FLOW_HAS_TIMEOUT | FLOW_HAS_ID;
	flow_merge(&f, &d);
	ck_assert_uint_eq(f.timeout_s, 77);
	ck_assert_uint_eq(f.id, 5);
	f.has = was.has;
	f.timeout_s = f.id = 0;
	fg_same(&f, &was);
	/* a dump says of everything whether it is there; none of it is a flow's */
	d.has |= FLOW_HAS_EXPECT | FLOW_HAS_WHOLE;
	flow_merge(&f, &d);
	ck_assert_mem_eq(&f.exp, &d.exp, sizeof(f.exp));
	ck_assert_str_eq(f.helper, d.helper);
	ck_assert_uint_eq(f.master_proto, d.master_proto);
	ck_assert_mem_eq(&f.master, &d.master, sizeof(f.master));
}
END_TEST

START_TEST(names)
{
	unsigned	 i, k;

	for (i = 0; i < FLOW_SCTP_STATES; i++)
		for (k = 0; k < i; k++)
			ck_assert_str_ne(flow_sctp_state_name((uint8_t)i),
			    flow_sctp_state_name((uint8_t)k));
	for (i = 0; i < FLOW_DCCP_STATES; i++)
		for (k = 0; k < i; k++)
			ck_assert_str_ne(flow_dccp_state_name((uint8_t)i),
			    flow_dccp_state_name((uint8_t)k));
	ck_assert_str_eq(flow_sctp_state_name(FLOW_SCTP_SHUTDOWN_ACK_SENT), "SHUTDOWN_ACK_SENT");
	ck_assert_str_eq(flow_dccp_state_name(4), "OPEN");
	ck_assert_str_eq(flow_sctp_state_name(FLOW_SCTP_STATES), "UNKNOWN");
	ck_assert_str_eq(flow_dccp_state_name(FLOW_DCCP_STATES), "UNKNOWN");
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("flow_rare");
	TCase	*tc = tcase_create("rare");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, known_bytes_of_a_flow);
	tcase_add_test(tc, known_bytes_of_dccp);
	tcase_add_test(tc, known_bytes_of_an_expectation);
	tcase_add_test(tc, everything_at_once);
	tcase_add_test(tc, zeros_are_left_out);
	tcase_add_test(tc, protocols_are_kept_apart);
	tcase_add_test(tc, every_field_shows);
	tcase_add_test(tc, keys_differ);
	tcase_add_test(tc, rules_of_labels);
	tcase_add_test(tc, rules_of_sctp);
	tcase_add_test(tc, rules_of_dccp);
	tcase_add_test(tc, rules_of_helper);
	tcase_add_test(tc, rules_of_master);
	tcase_add_test(tc, rules_of_seqadj);
	tcase_add_test(tc, rules_of_synproxy);
	tcase_add_test(tc, rules_of_expectations);
	tcase_add_test(tc, rules_of_translated_expectations);
	tcase_add_test(tc, rules_are_kept_apart);
	tcase_add_test(tc, merging);
	tcase_add_test(tc, merging_expectations);
	tcase_add_test(tc, names);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
