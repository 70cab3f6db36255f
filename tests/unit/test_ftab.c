/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The flow table against a naive one: an array by number of the key.
 *
 * Bodies are real ones, with attributes of a later version to give them any
 * size up to the largest.  The naive table also knows the handle of each entry
 * and what was written into its meta data, so that neither may wander.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/flow.h"
#include "ctsync/ftab.h"
#include "rnd.h"

#define SLAB_CHUNK	((uint64_t)2 << 20)	/* steps in which memory is taken */
#define META_CHUNK	((uint64_t)16384 * sizeof(struct ftab_meta))

struct naive {
	uint32_t	 h;		/* FTAB_NIL: not there */
	uint32_t	 stamp;
	uint16_t	 size;		/* what the body was made of */
	uint32_t	 mark;
};

static const struct sipkey	 key = { { 1, 2 } };
static struct ftab		*tab;

static void
setup(void)
{
	rnd_seed(40);
	tab = ftab_new(&key, UINT32_MAX, 0);
	ck_assert_ptr_nonnull(tab);
}

static void
teardown(void)
{
	ftab_free(tab);
}

static uint32_t
below(uint32_t n)
{
	return (uint32_t)(rnd_u64() % n);
}

/* --- bodies --------------------------------------------------------------- */

/*
 * Flow number k with a mark, grown to size bytes if it is shorter (two or more
 * bytes of attributes, whose values repeat the mark).
 */
static size_t
body_of(uint32_t k, uint32_t mark, size_t size, uint8_t body[FLOW_BODY_MAX])
{
	struct flow	 f;
	size_t		 len, n;
	uint8_t		 type = 16;

	memset(&f, 0, sizeof(f));
	f.family = k % 4 == 0 ? AF_INET6 : AF_INET;
	f.proto = k % 3 == 0 ? IPPROTO_TCP : IPPROTO_UDP;
	f.zone_dir = k % 5 == 0 ? FLOW_ZONE_BOTH : FLOW_ZONE_NONE;
	f.zone = k % 5 == 0 ? 1 : 0;
	memcpy(f.orig.src.b, &k, sizeof(k));
	f.orig.dst.b[0] = 192;
	f.orig.l4src = (uint16_t)(k * 7);
	f.orig.l4dst = 443;
	flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED;
	f.mark = mark;
	len = flow_pack(&f, body, FLOW_BODY_MAX);
	while (len + 2 <= size) {
		n = size - len - 2 < 255 ? size - len - 2 : 255;
		body[len] = type++;
		body[len + 1] = (uint8_t)n;
		memset(body + len + 2, (int)(mark & 0xff), n);
		len += 2 + n;
	}
	return len;
}

static uint32_t
find(uint32_t k)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 klen = flow_key_len(body, body_of(k, 0, 0, body));

	return ftab_find(tab, ftab_hash(tab, body, klen), body, klen);
}

static int
insert(uint32_t k, uint32_t mark, size_t size, uint32_t *h)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = body_of(k, mark, size, body);

	return ftab_insert(tab, ftab_hash(tab, body, flow_key_len(body, len)), body, len, h);
}

static int
set(uint32_t h, uint32_t k, uint32_t mark, size_t size)
{
	uint8_t	 body[FLOW_BODY_MAX];
	size_t	 len = body_of(k, mark, size, body);

	return ftab_set(tab, h, body, len);
}

static void
check_entry(uint32_t k, const struct naive *e)
{
	uint8_t		 want[FLOW_BODY_MAX];
	const uint8_t	*got;
	size_t		 len, wlen;

	ck_assert_uint_eq(find(k), e->h);
	if (e->h == FTAB_NIL)
		return;
	ck_assert(ftab_used(tab, e->h));
	wlen = body_of(k, e->mark, e->size, want);
	got = ftab_body(tab, e->h, &len);
	ck_assert_uint_eq(len, wlen);
	ck_assert_mem_eq(got, want, len);
	ck_assert_uint_eq(ftab_meta(tab, e->h)->touched, e->stamp);
	ck_assert(ftab_meta(tab, e->h)->digest == ~(uint64_t)e->stamp);
}

/* All of it, and the walk: each entry once, in ascending order, and none besides. */
static void
check_all(const struct naive *naive, uint32_t keys)
{
	uint32_t	 k, h, n = 0, walked = 0;
	uint64_t	 sum = 0;

	for (k = 0; k < keys; k++) {
		check_entry(k, &naive[k]);
		n += naive[k].h != FTAB_NIL;
		sum += naive[k].h;
	}
	ck_assert_uint_eq(ftab_count(tab), n);
	for (h = ftab_next(tab, FTAB_NIL); h != FTAB_NIL; h = k) {
		ck_assert(ftab_used(tab, h));
		ck_assert_uint_le(h, ftab_top(tab));
		walked++;
		sum -= h;
		k = ftab_next(tab, h);
		ck_assert(k == FTAB_NIL || k > h);
	}
	ck_assert_uint_eq(walked, n);
	ck_assert(sum == 0);
}

static void
naive_insert(struct naive *e, uint32_t k, uint16_t size)
{
	struct ftab_meta	*m;

	e->mark = (uint32_t)rnd_u64();
	e->size = size;
	e->stamp = (uint32_t)rnd_u64();
	ck_assert_int_eq(insert(k, e->mark, size, &e->h), 0);
	ck_assert_uint_ne(e->h, FTAB_NIL);
	m = ftab_meta(tab, e->h);
	ck_assert(m->digest == 0 && m->timeout_s == 0 && m->touched == 0 && m->gen == 0 &&
	    m->flags == 0);
	m->touched = e->stamp;
	m->digest = ~(uint64_t)e->stamp;
}

static uint16_t
random_size(void)
{
	return (uint16_t)(below(4) == 0 ? below(FLOW_BODY_MAX + 1) : below(100));
}

/* --- against the naive table ---------------------------------------------- */

#define KEYS	3000

START_TEST(random_operations)
{
	static struct naive	 naive[KEYS];
	struct naive		*e;
	uint32_t		 i, k, bias = 50;

	for (i = 0; i < 60000; i++) {
		/* it fills, empties and fills again */
		if (i % 4000 == 0)
			bias = (uint32_t[]){ 80, 20, 50, 95, 5 }[i / 4000 % 5];
		k = below(KEYS);
		e = &naive[k];
		ck_assert_uint_eq(find(k), e->h);
		if (e->h == FTAB_NIL) {
			if (below(100) < bias)
				naive_insert(e, k, random_size());
		} else if (below(3) == 0) {
			e->mark = (uint32_t)rnd_u64();
			e->size = random_size();
			ck_assert_int_eq(set(e->h, k, e->mark, e->size), 0);
		} else if (below(100) >= bias) {
			ftab_remove(tab, e->h);
			ck_assert(!ftab_used(tab, e->h));
			e->h = FTAB_NIL;
		}
		check_entry(k, e);
		if (i % 5000 == 0)
			check_all(naive, KEYS);
	}
	check_all(naive, KEYS);
	ck_assert_uint_eq(ftab_refused(tab), 0);
}
END_TEST

#define MANY	60000

/* Through many sizes of the index, with removals while it moves. */
START_TEST(growth)
{
	struct naive	*naive = calloc(MANY, sizeof(*naive));
	uint32_t	 k, victim;
	uint64_t	 before;

	ck_assert_ptr_nonnull(naive);
	for (k = 0; k < MANY; k++) {
		before = ftab_bytes(tab);
		naive_insert(&naive[k], k, 0);
		victim = below(k + 1);
		if (k % 3 == 0 && naive[victim].h != FTAB_NIL) {
			ftab_remove(tab, naive[victim].h);
			naive[victim].h = FTAB_NIL;
			ck_assert_uint_eq(find(victim), FTAB_NIL);
		}
		victim = below(k + 1);
		check_entry(victim, &naive[victim]);
		if ((k & (k - 1)) == 0 || ftab_bytes(tab) > before + META_CHUNK)
			check_all(naive, k + 1);
	}
	check_all(naive, MANY);
	/* and all the way back */
	for (k = 0; k < MANY; k++)
		if (naive[k].h != FTAB_NIL) {
			ftab_remove(tab, naive[k].h);
			naive[k].h = FTAB_NIL;
		}
	check_all(naive, MANY);
	ck_assert_uint_eq(ftab_next(tab, FTAB_NIL), FTAB_NIL);
	free(naive);
}
END_TEST

/* --- bodies --------------------------------------------------------------- */

START_TEST(bodies_of_all_sizes)
{
	static struct naive	 naive[FLOW_BODY_MAX + 1];
	uint8_t			 body[FLOW_BODY_MAX + 1];
	uint32_t		 n, h = 77, klen;

	for (n = 0; n <= FLOW_BODY_MAX; n++)
		naive_insert(&naive[n], n, (uint16_t)n);
	check_all(naive, FLOW_BODY_MAX + 1);
	/* each takes the size of another one */
	for (n = 0; n <= FLOW_BODY_MAX; n++) {
		naive[n].size = (uint16_t)(FLOW_BODY_MAX - n);
		ck_assert_int_eq(set(naive[n].h, n, naive[n].mark, naive[n].size), 0);
	}
	check_all(naive, FLOW_BODY_MAX + 1);
	/* what is no body leaves everything alone */
	klen = (uint32_t)flow_key_len(body, body_of(5000, 1, FLOW_BODY_MAX, body));
	body[FLOW_BODY_MAX] = 0;
	ck_assert_int_eq(ftab_insert(tab, ftab_hash(tab, body, klen), body, FLOW_BODY_MAX + 1, &h),
	    -EINVAL);
	ck_assert_int_eq(ftab_insert(tab, ftab_hash(tab, body, klen), body, 0, &h), -EINVAL);
	ck_assert_int_eq(ftab_set(tab, naive[7].h, body, FLOW_BODY_MAX + 1), -EINVAL);
	ck_assert_int_eq(ftab_set(tab, naive[7].h, body, 0), -EINVAL);
	ck_assert_uint_eq(h, 77);
	check_all(naive, FLOW_BODY_MAX + 1);
}
END_TEST

/* The feed shrinks an entry to its key with bytes of the entry itself. */
START_TEST(set_from_itself)
{
	static struct naive	 naive[200];
	const uint8_t		*body;
	uint8_t			 want[FLOW_BODY_MAX];
	size_t			 len, klen;
	uint32_t		 k;

	for (k = 0; k < 200; k++)
		naive_insert(&naive[k], k, (uint16_t)(k * 5));
	for (k = 0; k < 200; k += 2) {
		body = ftab_body(tab, naive[k].h, &len);
		klen = flow_key_len(body, len);
		memcpy(want, body, klen);
		ck_assert_int_eq(ftab_set(tab, naive[k].h, body, klen), 0);
		body = ftab_body(tab, naive[k].h, &len);
		ck_assert_uint_eq(len, klen);
		ck_assert_mem_eq(body, want, klen);
		ck_assert_uint_eq(find(k), naive[k].h);
	}
	for (k = 1; k < 200; k += 2)
		check_entry(k, &naive[k]);
}
END_TEST

/* Bodies that change their size again and again take no more than the largest of them. */
START_TEST(resizing_takes_no_memory)
{
	static const uint16_t	 sizes[] = { 0, 1000, 100, 500 };
	static struct naive	 naive[2000];
	uint64_t		 bytes = 0;
	uint32_t		 i, k;

	for (k = 0; k < 2000; k++)
		naive_insert(&naive[k], k, 0);
	for (i = 0; i < 40; i++) {
		for (k = 0; k < 2000; k++) {
			naive[k].size = sizes[i % 4];
			ck_assert_int_eq(set(naive[k].h, k, naive[k].mark, naive[k].size), 0);
		}
		if (i == 4)
			bytes = ftab_bytes(tab);
	}
	ck_assert(ftab_bytes(tab) == bytes);
	check_all(naive, 2000);
}
END_TEST

/* --- walking -------------------------------------------------------------- */

/* What is there from beginning to end is seen once, whatever comes and goes. */
START_TEST(walk_while_it_changes)
{
	static struct naive	 naive[2000];
	static uint8_t		 seen[10000];
	uint32_t		 k, h, extra = 2000, dummy;

	for (k = 0; k < 2000; k++)
		naive_insert(&naive[k], k, 0);
	for (h = ftab_next(tab, FTAB_NIL); h != FTAB_NIL; h = ftab_next(tab, h)) {
		ck_assert_uint_lt(h, 10000);
		ck_assert(ftab_used(tab, h));
		ck_assert_uint_eq(seen[h]++, 0);
		/* odd ones go, each when another one is looked at, itself as well */
		k = below(1000) * 2 + 1;
		if (naive[k].h != FTAB_NIL) {
			ftab_remove(tab, naive[k].h);
			naive[k].h = FTAB_NIL;
		}
		if (extra < 4000 && below(2) == 0)
			ck_assert_int_eq(insert(extra++, 1, 0, &dummy), 0);
	}
	for (k = 0; k < 2000; k += 2)
		ck_assert_uint_eq(seen[naive[k].h], 1);
	ck_assert(!ftab_used(tab, FTAB_NIL));
	ck_assert(!ftab_used(tab, ftab_top(tab) + 1));
	ck_assert(!ftab_used(tab, UINT32_MAX));
	ck_assert_uint_eq(ftab_next(tab, UINT32_MAX), FTAB_NIL);
}
END_TEST

/* Handles are dense: those that were given back are given out first. */
START_TEST(handles_are_reused)
{
	uint32_t	 k, h, i;

	for (k = 0; k < 100; k++)
		ck_assert_int_eq(insert(k, 1, 0, &h), 0);
	ck_assert_uint_eq(ftab_top(tab), 100);
	for (i = 0; i < 5000; i++) {
		k = below(100);
		ftab_remove(tab, find(k));
		ck_assert_int_eq(insert(k, 2, 0, &h), 0);
		ck_assert_uint_le(h, 100);
	}
	ck_assert_uint_eq(ftab_top(tab), 100);
}
END_TEST

/* --- limits --------------------------------------------------------------- */

START_TEST(limit_of_flows)
{
	uint32_t	 k, h;

	ftab_free(tab);
	tab = ftab_new(&key, 50, 0);
	ck_assert_ptr_nonnull(tab);
	ck_assert_uint_eq(ftab_limit(tab), 50);
	for (k = 0; k < 50; k++)
		ck_assert_int_eq(insert(k, 1, 0, &h), 0);
	for (; k < 60; k++)
		ck_assert_int_eq(insert(k, 1, 0, &h), -ENOSPC);
	ck_assert_uint_eq(ftab_refused(tab), 10);
	ck_assert_uint_eq(ftab_count(tab), 50);
	/* those inside may still change */
	ck_assert_int_eq(set(find(3), 3, 9, FLOW_BODY_MAX), 0);
	ftab_remove(tab, find(7));
	ck_assert_int_eq(insert(60, 1, 0, &h), 0);
	ck_assert_int_eq(insert(61, 1, 0, &h), -ENOSPC);
	ck_assert_uint_eq(ftab_refused(tab), 11);
}
END_TEST

#define LIMIT	((uint64_t)16 << 20)

static uint32_t
fill(uint32_t from, size_t size)
{
	uint32_t	 h;
	int		 rc;

	while ((rc = insert(from, 1, size, &h)) == 0)
		from++;
	ck_assert_int_eq(rc, -ENOSPC);
	return from;
}

/*
 * Memory is taken in steps, the index doubles: the limit is passed by one step
 * of each at most, whatever the bodies' size.
 */
START_TEST(limit_of_memory)
{
	static const size_t	 sizes[] = { 0, 200, FLOW_BODY_MAX };
	uint64_t		 index;
	uint32_t		 n, h, k, slots = 1024;

	ftab_free(tab);
	tab = ftab_new(&key, UINT32_MAX, LIMIT);
	ck_assert_ptr_nonnull(tab);
	n = fill(0, sizes[_i]);
	while (slots * 7 / 10 <= n)
		slots *= 2;
	index = (uint64_t)slots * 8 * 3 / 2;
	ck_assert(ftab_bytes(tab) > LIMIT);
	ck_assert(ftab_bytes(tab) <= LIMIT + SLAB_CHUNK + META_CHUNK + index);
	ck_assert_uint_gt(n, (uint32_t)(LIMIT / 4 / (sizes[_i] + 100)));
	ck_assert_uint_eq(ftab_count(tab), n);
	ck_assert_uint_eq(ftab_refused(tab), 1);
	/* room that was given back is room again, and not more than that */
	for (k = 0; k < n; k += 3)
		ftab_remove(tab, find(k));
	index = ftab_bytes(tab);
	for (k = 0; k < n; k += 3)
		ck_assert_int_eq(insert(k, 2, sizes[_i], &h), 0);
	ck_assert_int_eq(insert(n + 1, 1, sizes[_i], &h), -ENOSPC);
	ck_assert_uint_eq(ftab_refused(tab), 2);
	ck_assert(ftab_bytes(tab) <= index);
}
END_TEST

/* --- cost ----------------------------------------------------------------- */

#define MILLION	1000000u

/* FEED.md section 5: a million IPv4 flows, translated ones. */
START_TEST(bytes_per_flow)
{
	uint8_t		 body[FLOW_BODY_MAX];
	struct flow	 f;
	uint32_t	 k, h;
	size_t		 len;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = IPPROTO_TCP;
	f.orig.dst = (struct flow_addr){ { 192, 0, 2, 1 } };
	f.orig.l4dst = 443;
	f.status = FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_CONFIRMED | FLOW_S_SRC_NAT |
	    FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE;
	f.tcp_state = FLOW_TCP_ESTABLISHED;
	for (k = 0; k < MILLION; k++) {
		memcpy(f.orig.src.b, &k, 4);
		f.orig.l4src = (uint16_t)(k >> 3);
		flow_tuple_invert(f.family, f.proto, &f.orig, &f.reply);
		f.reply.dst = (struct flow_addr){ { 203, 0, 113, 1 } };
		f.reply.l4dst = (uint16_t)k;
		len = flow_pack(&f, body, sizeof(body));
		ck_assert_int_eq(ftab_insert(tab, ftab_hash(tab, body,
		    flow_key_len(body, len)), body, len, &h), 0);
	}
	ck_assert_uint_eq(ftab_count(tab), MILLION);
	ck_assert_uint_lt((unsigned)(ftab_bytes(tab) / MILLION), 120);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("ftab");
	TCase	*tc = tcase_create("ftab");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, random_operations);
	tcase_add_test(tc, growth);
	tcase_add_test(tc, bodies_of_all_sizes);
	tcase_add_test(tc, set_from_itself);
	tcase_add_test(tc, resizing_takes_no_memory);
	tcase_add_test(tc, walk_while_it_changes);
	tcase_add_test(tc, handles_are_reused);
	tcase_add_test(tc, limit_of_flows);
	tcase_add_loop_test(tc, limit_of_memory, 0, 3);
	tcase_add_test(tc, bytes_per_flow);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
