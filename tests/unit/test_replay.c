/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The replay window against a naive set: every counter that was ever given is
 * remembered there, and nothing slides.  Orders come from a seeded generator.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/replay.h"

#define SPAN	40000

static uint64_t
next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

START_TEST(test_begins_after_counter)
{
	static const uint64_t	 at[] = { 0, 1, 62, 63, 64, 4095, 4096, 70000, UINT64_MAX - 1 };
	struct replay		 w;
	uint64_t		 c = at[_i], d;

	replay_init_at(&w, c);
	for (d = 0; d <= 2 * REPLAY_WINDOW && d <= c; d++)
		ck_assert(!replay_check(&w, c - d));
	ck_assert(!replay_check(&w, 0));
	ck_assert(replay_check(&w, c + 1));
	for (d = 1; d <= 5000 && c + d > c; d++)
		ck_assert(replay_check(&w, c + d));
}
END_TEST

START_TEST(test_check_changes_nothing)
{
	struct replay	 w, before;

	replay_init_at(&w, 10);
	before = w;
	ck_assert(replay_check(&w, 11));
	ck_assert(replay_check(&w, 1u << 30));
	ck_assert(!replay_check(&w, 10));
	ck_assert_mem_eq(&w, &before, sizeof(w));
	replay_update(&w, 10);
	replay_update(&w, 3);
	ck_assert_mem_eq(&w, &before, sizeof(w));
}
END_TEST

START_TEST(test_edge)
{
	struct replay	 w;

	replay_init_at(&w, 0);
	replay_update(&w, 100000);
	ck_assert(!replay_check(&w, 100000));
	ck_assert(replay_check(&w, 100000 - REPLAY_WINDOW + 1));
	ck_assert(!replay_check(&w, 100000 - REPLAY_WINDOW));
	replay_update(&w, UINT64_MAX);
	ck_assert(!replay_check(&w, UINT64_MAX));
	ck_assert(replay_check(&w, UINT64_MAX - 1));
	ck_assert(!replay_check(&w, 100001));
}
END_TEST

/* Steps of all sizes around a rising base, so that some fall behind the window. */
START_TEST(test_against_set)
{
	uint64_t	 seed = (uint64_t)_i * 0x9e3779b97f4a7c15u + 1;
	uint64_t	 start = next(&seed) % 9000, top = start, c;
	unsigned int	 i, reach;
	char		*seen = calloc(SPAN, 1);
	struct replay	 w;
	bool		 fresh;

	ck_assert_ptr_nonnull(seen);
	memset(seen, 1, start + 1);
	replay_init_at(&w, start);
	for (i = 0; i < 60000; i++) {
		reach = (next(&seed) & 15) == 0 ? 6000 : 90;
		c = top + next(&seed) % 60;
		c = c > next(&seed) % reach ? c - next(&seed) % (reach < c ? reach : c) : c;
		if ((next(&seed) & 1023) == 0)
			c += next(&seed) % 5000;
		c %= SPAN;
		fresh = !seen[c] && c + REPLAY_WINDOW > top;
		ck_assert_msg(replay_check(&w, c) == fresh, "seed %d step %u counter %lu top %lu",
		    _i, i, (unsigned long)c, (unsigned long)top);
		if ((next(&seed) & 7) == 0)
			continue;	/* it was not authentic */
		replay_update(&w, c);
		if (fresh) {
			seen[c] = 1;
			top = c > top ? c : top;
		}
		ck_assert(!replay_check(&w, c));
	}
	free(seen);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("replay");
	TCase	*tc = tcase_create("replay");
	SRunner	*sr;
	int	 failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_begins_after_counter, 0, 9);
	tcase_add_test(tc, test_check_changes_nothing);
	tcase_add_test(tc, test_edge);
	tcase_add_loop_test(tc, test_against_set, 0, 20);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
