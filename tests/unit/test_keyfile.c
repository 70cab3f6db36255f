/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Key files: what is accepted, what is refused and with which words.
 *
 * Ownership is tested only as root, who alone can give files away.  No error
 * text may hold a part of a key; that is checked for every refusal.
 */
#include <sys/stat.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/keyfile.h"

#define KEY_A	"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="	/* ABC ... Zabcdef */
#define KEY_B	"/+7dzLuqmYh3ZlVEMyIRAP/u3cy7qpmId2ZVRDMiEQA="
#define TAIL	"QUJDREVG"	/* six bytes more */

static char	 path[64];
static char	 err[256];

static void
setup(void)
{
	int	 fd;

	strcpy(path, "/tmp/ctsyncd-test-XXXXXX");
	ck_assert_int_ge(fd = mkstemp(path), 0);
	close(fd);
	memset(err, 0, sizeof(err));
}

static void
teardown(void)
{
	unlink(path);
}

static void
spill(const char *text, size_t len)
{
	FILE	*f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

static struct keyfile *
accept(const char *text)
{
	struct keyfile	*k;

	spill(text, strlen(text));
	ck_assert_msg(keyfile_load(path, 0, &k, err, sizeof(err)) == 0, "%s: %s", text, err);
	ck_assert_ptr_nonnull(k);
	return k;
}

static void
refuse(const char *text, unsigned line, const char *why)
{
	struct keyfile	*k;
	char		 want[200];

	spill(text, strlen(text));
	ck_assert_msg(keyfile_load(path, 0, &k, err, sizeof(err)) == -EINVAL, "%s", text);
	ck_assert_ptr_null(k);
	if (line > 0)
		snprintf(want, sizeof(want), "%s:%u: %s", path, line, why);
	else
		snprintf(want, sizeof(want), "%s: %s", path, why);
	ck_assert_str_eq(err, want);
	ck_assert_ptr_null(strstr(err, "QUJD"));
}

START_TEST(one_key)
{
	struct keyfile	*k = accept("1 " KEY_A "\n");

	ck_assert_uint_eq(k->nkeys, 1);
	ck_assert_uint_eq(k->keys[0].id, 1);
	ck_assert_uint_eq(k->keys[0].len, 32);
	ck_assert_mem_eq(k->keys[0].secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", 32);
	keyfile_free(k);
	keyfile_free(NULL);
}
END_TEST

START_TEST(several_keys)
{
	struct keyfile	*k = accept("# the secret\n\n\t7\t" KEY_B "   # new\r\n  65535 " KEY_A
	    "\n1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn\n"
	    "2 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaA==");

	ck_assert_uint_eq(k->nkeys, 4);
	ck_assert_uint_eq(k->keys[0].id, 7);
	ck_assert_mem_eq(k->keys[0].secret, "\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77\x66\x55\x44\x33"
	    "\x22\x11\x00\xff", 17);
	ck_assert_uint_eq(k->keys[2].len, 33);
	ck_assert_uint_eq(k->keys[3].len, 34);
	ck_assert_mem_eq(k->keys[3].secret + 30, "efgh", 4);
	ck_assert_ptr_eq(keyfile_find(k, 65535), &k->keys[1]);
	ck_assert_ptr_null(keyfile_find(k, 8));
	ck_assert_ptr_null(keyfile_find(k, 0));
	keyfile_free(k);
}
END_TEST

START_TEST(bad_lines)
{
	refuse("", 0, "holds no key; make one with `ctsync keygen'");
	refuse("# nothing\n\n", 0, "holds no key; make one with `ctsync keygen'");
	refuse("0 " KEY_A "\n", 1, "expected \"ID BASE64\" with an id of 1..65535");
	refuse("\n65536 " KEY_A "\n", 2, "expected \"ID BASE64\" with an id of 1..65535");
	refuse("100000000000000000001 " KEY_A "\n", 1,
	    "expected \"ID BASE64\" with an id of 1..65535");
	refuse("-1 " KEY_A "\n", 1, "expected \"ID BASE64\" with an id of 1..65535");
	refuse(KEY_A "\n", 1, "expected \"ID BASE64\" with an id of 1..65535");
	refuse("1" KEY_A "\n", 1, "expected \"ID BASE64\" with an id of 1..65535");
	refuse("1\n", 1, "expected \"ID BASE64\" with an id of 1..65535");
	refuse("1 \n", 1, "expected the key in base64");
	refuse("1 " KEY_A " x\n", 1, "expected nothing behind the key");
	refuse("1 " KEY_A "\n2 " KEY_B "\n1 " KEY_B "\n", 3, "key id 1 is there twice");
}
END_TEST

START_TEST(bad_base64)
{
	char	 text[80];
	size_t	 i;

	/* no prefix of a key is a key: too short, or its length is no multiple of 4 */
	for (i = 1; i < strlen(KEY_A); i++) {
		snprintf(text, sizeof(text), "1 %.*s\n", (int)i, KEY_A);
		refuse(text, 1, i % 4 == 0 ? "expected a key of 32..64 bytes" :
		    "expected the key in base64");
	}
	refuse("1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY\n", 1, "expected the key in base64");
	refuse("1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY==\n", 1, "expected the key in base64");
	refuse("1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZ=\n", 1,
	    "expected the key in base64");	/* stray bits behind the last byte */
	refuse("1 QUJD=EVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n", 1, "expected the key in base64");
	refuse("1 QUJD-EVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n", 1, "expected the key in base64");
	refuse("1 ====\n", 1, "expected the key in base64");
}
END_TEST

START_TEST(key_lengths)
{
	struct keyfile	*k;

	k = accept("1 " KEY_A "\n");
	keyfile_free(k);
	refuse("1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZQ==\n", 1,
	    "expected a key of 32..64 bytes");			/* 31 */
	k = accept("1 " TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL "QUJDRA==\n");
	ck_assert_uint_eq(k->keys[0].len, 64);
	keyfile_free(k);
	refuse("1 " TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL TAIL "QUJDREU=\n", 1,
	    "expected a key of 32..64 bytes");			/* 65 */
}
END_TEST

START_TEST(number_of_keys)
{
	char		 text[2048];
	size_t		 n = 0;
	unsigned	 i;
	struct keyfile	*k;

	for (i = 1; i <= KEYFILE_KEYS_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%u %s\n", i, KEY_A);
	k = accept(text);
	ck_assert_uint_eq(k->nkeys, KEYFILE_KEYS_MAX);
	keyfile_free(k);
	snprintf(text + n, sizeof(text) - n, "%u %s\n", i, KEY_A);
	refuse(text, KEYFILE_KEYS_MAX + 1, "expected at most 16 keys");
}
END_TEST

START_TEST(not_text)
{
	static char	 text[20000];
	struct keyfile	*k;

	spill("1 " KEY_A "\n\0", 49);
	ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -EINVAL);
	memset(text, '#', sizeof(text));
	spill(text, sizeof(text));
	ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -EFBIG);
	ck_assert_ptr_null(k);
}
END_TEST

/* Whatever the bytes are: a result within the limits, or a line of error. */
START_TEST(noise)
{
	static const char	 seed[] = "# x\n7 " KEY_B "\n8 " KEY_A "\n";
	char			 buf[sizeof(seed)];
	struct keyfile		*k;
	uint64_t		 s = 88172645463325252u;
	unsigned		 i, n;

	for (i = 0; i < 5000; i++) {
		memcpy(buf, seed, sizeof(seed));
		for (n = 0; n < 1 + i % 3; n++) {
			s ^= s << 13;
			s ^= s >> 7;
			s ^= s << 17;
			buf[(s >> 8) % (sizeof(seed) - 1)] = (char)(s >> 32);
		}
		spill(buf, (s >> 40) % 4 == 0 ? (s >> 16) % sizeof(seed) : sizeof(seed) - 1);
		memset(err, 0, sizeof(err));
		if (keyfile_load(path, 0, &k, err, sizeof(err)) == 0) {
			ck_assert_uint_ge(k->nkeys, 1);
			ck_assert_uint_le(k->nkeys, 3);
			ck_assert_uint_ge(k->keys[0].len, KEYFILE_KEY_MIN);
			keyfile_free(k);
		} else {
			ck_assert_ptr_null(k);
			ck_assert_int_ne(err[0], '\0');
			ck_assert_ptr_null(strchr(err, '\n'));
		}
	}
}
END_TEST

START_TEST(modes)
{
	static const mode_t	 bad[] = { 0640, 0604, 0620, 0602, 0610, 0601, 0644, 0777 };
	static const mode_t	 good[] = { 0600, 0400, 0700 };
	struct keyfile		*k;
	size_t			 i;

	spill("1 " KEY_A "\n", 47);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(chmod(path, bad[i]), 0);
		ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -EPERM);
		ck_assert_ptr_null(k);
		ck_assert_ptr_nonnull(strstr(err, "group or others may read it"));
	}
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_int_eq(chmod(path, good[i]), 0);
		ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), 0);
		keyfile_free(k);
	}
}
END_TEST

START_TEST(owners)
{
	struct keyfile	*k;

	if (geteuid() != 0)
		return;
	spill("1 " KEY_A "\n", 47);
	ck_assert_int_eq(chown(path, 12345, 12345), 0);
	ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -EPERM);
	ck_assert_ptr_nonnull(strstr(err, "owned by user id 12345"));
	ck_assert_int_eq(keyfile_load(path, 12346, &k, err, sizeof(err)), -EPERM);
	ck_assert_int_eq(keyfile_load(path, 12345, &k, err, sizeof(err)), 0);
	keyfile_free(k);
}
END_TEST

START_TEST(not_a_file)
{
	struct keyfile	*k;

	ck_assert_int_eq(keyfile_load("/tmp", 0, &k, err, sizeof(err)), -EINVAL);
	ck_assert_str_eq(err, "/tmp: not a regular file");
	ck_assert_int_eq(keyfile_load("/dev/null", 0, &k, err, sizeof(err)), -EINVAL);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -ENOENT);
	ck_assert_ptr_null(k);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(keyfile_load(path, 0, &k, err, sizeof(err)), -EINVAL);
}
END_TEST

START_TEST(generated)
{
	struct keyfile	*k, *l;
	struct stat	 st;

	ck_assert_int_eq(keyfile_generate(path, 1, (uid_t)-1, err, sizeof(err)), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err, "never overwritten"));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(keyfile_generate(path, 0, (uid_t)-1, err, sizeof(err)), -EINVAL);
	ck_assert_int_eq(access(path, F_OK), -1);

	umask(0);
	ck_assert_msg(keyfile_generate(path, 513, (uid_t)-1, err, sizeof(err)) == 0, "%s", err);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_msg(keyfile_load(path, 0, &k, err, sizeof(err)) == 0, "%s", err);
	ck_assert_uint_eq(k->nkeys, 1);
	ck_assert_uint_eq(k->keys[0].id, 513);
	ck_assert_uint_eq(k->keys[0].len, 32);

	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(keyfile_generate(path, 513, geteuid(), err, sizeof(err)), 0);
	ck_assert_int_eq(keyfile_load(path, 0, &l, err, sizeof(err)), 0);
	ck_assert_mem_ne(k->keys[0].secret, l->keys[0].secret, 32);
	keyfile_free(k);
	keyfile_free(l);
	ck_assert_int_eq(keyfile_generate("/nonexistent/key", 1, (uid_t)-1, err, sizeof(err)),
	    -ENOENT);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("keyfile");
	TCase	*t = tcase_create("keyfile");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_key);
	tcase_add_test(t, several_keys);
	tcase_add_test(t, bad_lines);
	tcase_add_test(t, bad_base64);
	tcase_add_test(t, key_lengths);
	tcase_add_test(t, number_of_keys);
	tcase_add_test(t, not_text);
	tcase_add_test(t, noise);
	tcase_add_test(t, modes);
	tcase_add_test(t, owners);
	tcase_add_test(t, not_a_file);
	tcase_add_test(t, generated);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
