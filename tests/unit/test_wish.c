/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was asked for last: order, rubbish, traps laid by whoever may write to
 * the directory, and who may.  Users and groups are tested only as root.
 */
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/rundir.h"
#include "ctsync/wish.h"

#define USER	12345		/* neither has to exist */
#define OTHER	12346
#define GROUP	12347
#define TICK(n)	((uint64_t)(n) << 22)
#define WRITERS	6
#define ROUNDS	200u

static char	 base[64], dir[96], last[128], err[WISH_ERR_MAX];

static char *
at(const char *name)
{
	static char	 path[4][160];
	static unsigned	 i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", base, name);
	return path[i];
}

static void
setup(void)
{
	strcpy(base, "/tmp/ctsyncd-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(base));
	ck_assert_int_eq(chmod(base, 0755), 0);
	snprintf(dir, sizeof(dir), "%s/run", base);
	snprintf(last, sizeof(last), "%s/" WISH_DIR "/last", dir);
	memset(err, 0, sizeof(err));
}

static void
teardown(void)
{
	char	 cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
	ck_assert_int_eq(system(cmd), 0);
}

static void
prepare(void)
{
	ck_assert_msg(wish_prepare(dir, geteuid(), getegid(), getegid(), err) == 0, "%s", err);
}

static int
ask(enum wish_what what, uint64_t stamp, struct wish *stands)
{
	struct wish	 w = { what, stamp };

	return wish_record(dir, &w, 1000, stands, err);
}

static void
asked(enum wish_what what, uint64_t stamp)
{
	struct wish	 w;

	ck_assert_msg(wish_read(dir, &w, err) == 0, "%s", err);
	ck_assert_str_eq(wish_name(w.what), wish_name(what));
	ck_assert_uint_eq(w.stamp, stamp);
}

static void
spill(const char *path, const char *text)
{
	FILE	*f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void
contains(const char *path, const char *text)
{
	char	 buf[256] = "";
	FILE	*f = fopen(path, "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(buf, 1, sizeof(buf) - 1, f), strlen(text));
	fclose(f);
	ck_assert_str_eq(buf, text);
}

static char *
boot(void)
{
	static char	 id[64];
	FILE		*f = fopen("/proc/sys/kernel/random/boot_id", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(id, sizeof(id), f));
	fclose(f);
	id[strcspn(id, "\n")] = '\0';
	return id;
}

/* Become somebody else in a child; its exit status. */
static int
as(uid_t uid, gid_t gid, const gid_t *groups, size_t n, int (*fn)(void))
{
	int	 status;
	pid_t	 pid = fork();

	if (pid == 0) {
		if (setgroups(n, groups) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			_exit(99);
		_exit(fn());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --- stamps --------------------------------------------------------------------- */

START_TEST(stamps)
{
	uint64_t	 mine, child, again;
	pid_t		 pid;

	ck_assert_int_eq(wish_stamp(0, &mine), 0);
	ck_assert_uint_eq(mine & (TICK(1) - 1), (uint64_t)getpid());
	ck_assert_uint_le(mine >> 22, wish_now() >> 22);
	ck_assert_uint_le(wish_age_s(mine), 60);
	if ((pid = fork()) == 0) {
		pause();
		_exit(0);
	}
	ck_assert_int_eq(wish_stamp(pid, &child), 0);
	ck_assert(wish_before(mine, child));
	ck_assert(!wish_before(child, mine));
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(wish_stamp(pid, &child), -ENOENT);

	/* a name is no field */
	ck_assert_int_eq(prctl(PR_SET_NAME, "a) b 1 2 3 4"), 0);
	ck_assert_int_eq(wish_stamp(0, &again), 0);
	ck_assert_uint_eq(again, mine);
}
END_TEST

/* A manager of that name starts a script, which starts another one: who is it that asks? */
static char
asker(const char *name)
{
	pid_t	 manager, script, nested, found;
	int	 fds[2];
	char	 who = '?';

	ck_assert_int_eq(pipe(fds), 0);
	if ((manager = fork()) == 0) {
		if (prctl(PR_SET_NAME, name) < 0)
			_exit(1);
		if ((script = fork()) == 0) {
			script = getpid();
			if (prctl(PR_SET_NAME, "a (script) 7 7") < 0)
				_exit(1);
			if ((nested = fork()) == 0) {
				found = wish_asker(getpid());
				who = found == getpid() ? 'n' : found == script ? 's' : '?';
				_exit(write(fds[1], &who, 1) == 1 ? 0 : 1);
			}
			_exit(waitpid(nested, NULL, 0) == nested ? 0 : 1);
		}
		_exit(waitpid(script, NULL, 0) == script ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(manager, NULL, 0), manager);
	ck_assert_int_eq(read(fds[0], &who, 1), 1);
	close(fds[0]);
	close(fds[1]);
	return who;
}

START_TEST(askers)
{
	ck_assert_int_eq(asker("keepalived"), 's');
	ck_assert_int_eq(asker("keepalived_vrrp"), 's');
	ck_assert_int_eq(asker("bash"), 'n');
	ck_assert_int_eq(asker("a keepalived"), 'n');
	ck_assert_int_eq(wish_asker(1), 1);
	ck_assert_int_eq(wish_asker(INT_MAX), INT_MAX);
}
END_TEST

START_TEST(before)
{
	ck_assert(wish_before(TICK(1) + 9, TICK(2) + 1));
	ck_assert(!wish_before(TICK(2) + 1, TICK(1) + 9));
	ck_assert(wish_before(TICK(5) + 1, TICK(5) + 2));
	ck_assert(!wish_before(TICK(5) + 2, TICK(5) + 1));
	ck_assert(!wish_before(TICK(5) + 2, TICK(5) + 2));
	/* after the last number comes the first one that is free */
	ck_assert(wish_before(TICK(5) + 32760, TICK(5) + 301));
	ck_assert(!wish_before(TICK(5) + 301, TICK(5) + 32760));
	/* without a process nothing is known of the order within a tick */
	ck_assert(!wish_before(TICK(5), TICK(5) + 1));
	ck_assert(!wish_before(TICK(5) + 1, TICK(5)));
	ck_assert(wish_before(TICK(4), TICK(5)));
}
END_TEST

/* --- order ----------------------------------------------------------------------- */

START_TEST(nothing)
{
	struct wish	 w;

	asked(WISH_NONE, 0);		/* no directory at all */
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err, dir));
	ck_assert_int_eq(w.what, WISH_RELEASE);
	prepare();
	asked(WISH_NONE, 0);
}
END_TEST

START_TEST(order)
{
	struct wish	 w;

	prepare();
	ck_assert_int_eq(ask(WISH_TAKEOVER, TICK(100) + 7, &w), 0);
	ck_assert(w.what == WISH_TAKEOVER && w.stamp == TICK(100) + 7);
	asked(WISH_TAKEOVER, TICK(100) + 7);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(103) + 2, &w), 0);
	asked(WISH_RELEASE, TICK(103) + 2);

	/* one that was started earlier and comes later */
	ck_assert_int_eq(ask(WISH_TAKEOVER, TICK(102) + 9, &w), 0);
	ck_assert(w.what == WISH_RELEASE && w.stamp == TICK(103) + 2);
	asked(WISH_RELEASE, TICK(103) + 2);
	ck_assert_int_eq(ask(WISH_TAKEOVER, TICK(103) + 1, &w), 0);
	ck_assert_int_eq(w.what, WISH_RELEASE);

	/* the same again, the same process for something else, one tick and no process */
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(103) + 2, &w), 0);
	ck_assert_int_eq(ask(WISH_TAKEOVER, TICK(103) + 2, &w), 0);
	asked(WISH_TAKEOVER, TICK(103) + 2);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(103), &w), 0);
	asked(WISH_RELEASE, TICK(103));
}
END_TEST

START_TEST(writers)
{
	struct wish	 w;
	unsigned	 i, k;
	int		 status;

	prepare();
	for (i = 0; i < WRITERS; i++) {
		if (fork() != 0)
			continue;
		for (k = 1; k <= ROUNDS; k++) {
			/* the last of all is a takeover of the last writer */
			struct wish	 mine = { (i + k) % 2 == (WRITERS - 1 + ROUNDS) % 2 ? WISH_TAKEOVER :
			    WISH_RELEASE, TICK(k) + i + 1 };

			if (wish_record(dir, &mine, 10000, &w, err) < 0 ||
			    wish_before(w.stamp, mine.stamp) || wish_read(dir, &w, err) < 0 ||
			    wish_before(w.stamp, mine.stamp))
				_exit(1);
		}
		_exit(0);
	}
	for (i = 0; i < WRITERS; i++) {
		ck_assert_int_gt(wait(&status), 0);
		ck_assert_int_eq(status, 0);
	}
	asked(WISH_TAKEOVER, TICK(ROUNDS) + WRITERS);
}
END_TEST

/* A writer that was stopped in the middle holds nobody up for ever. */
START_TEST(locked)
{
	struct wish	 w, mine = { WISH_RELEASE, TICK(5) };
	int		 fd;

	prepare();
	ck_assert_int_ge(fd = open(at("run/" WISH_DIR), O_RDONLY | O_DIRECTORY), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	ck_assert_int_eq(wish_record(dir, &mine, 50, &w, err), 0);
	asked(WISH_RELEASE, TICK(5));
	close(fd);
}
END_TEST

/* --- what makes no sense ---------------------------------------------------------------- */

START_TEST(rubbish)
{
	static const struct {
		const char	*head;
		int		 boot;		/* characters of the boot id */
		const char	*tail;
	} lines[] = {
		{ "", 0, "" }, { "\n", 0, "" }, { "takeover\n", 0, "" }, { "takeover \n", 0, "" },
		{ "takeover 5\n", 0, "" }, { "takeover 5 \n", 0, "" }, { "takeover  5 ", 36, "\n" },
		{ " takeover 5 ", 36, "\n" }, { "Takeover 5 ", 36, "\n" }, { "take 5 ", 36, "\n" },
		{ "nothing 5 ", 36, "\n" }, { "takeovers 5 ", 36, "\n" }, { "takeover 5 ", 36, "" },
		{ "takeover 5 ", 36, " \n" }, { "takeover 5 ", 36, "\nmore" },
		{ "takeover 5 ", 36, "\n\n" }, { "takeover -5 ", 36, "\n" },
		{ "takeover +5 ", 36, "\n" }, { "takeover 0x5 ", 36, "\n" },
		{ "takeover 5x ", 36, "\n" }, { "takeover 5 ", 36, "a\n" },
		{ "takeover 5 a", 36, "\n" }, { "takeover 5 ", 35, "\n" }, { "takeover 5 ", 35, "g\n" },
		{ "takeover 9223372036854775808 ", 36, "\n" },
		{ "takeover 99999999999999999999999 ", 36, "\n" },
		/* from the future, which would outlast all that comes */
		{ "takeover 9223372036854775807 ", 36, "\n" },
		{ "takeover 4611686018427387904 ", 36, "\n" }
	};
	char		 line[256];
	struct wish	 w;
	unsigned	 i;

	prepare();
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), "%s%.*s%s", lines[i].head, lines[i].boot, boot(),
		    lines[i].tail);
		spill(last, line);
		ck_assert_msg(wish_read(dir, &w, err) == -EBADMSG, "%s", line);
		ck_assert_int_eq(w.what, WISH_NONE);
		ck_assert_ptr_nonnull(strstr(err, last));
		ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), 0);
		asked(WISH_RELEASE, TICK(1));
	}
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	spill(last, line);
	ck_assert_int_eq(wish_read(dir, &w, err), -EBADMSG);
	snprintf(line, sizeof(line), "takeover 5 %s\n", boot());
	spill(last, line);
	asked(WISH_TAKEOVER, 5);
}
END_TEST

/* What was asked for before a reboot does not count, whatever its stamp. */
START_TEST(other_boot)
{
	char		 line[256];
	struct wish	 w;

	prepare();
	snprintf(line, sizeof(line), "takeover %llu 00000000-0000-4000-8000-000000000000\n",
	    (unsigned long long)TICK(1u << 30));
	spill(last, line);
	asked(WISH_NONE, 0);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), 0);
	ck_assert_int_eq(w.what, WISH_RELEASE);
	asked(WISH_RELEASE, TICK(1));
}
END_TEST

/* --- traps --------------------------------------------------------------------------------- */

START_TEST(link_for_file)
{
	struct wish	 w;
	struct stat	 st;
	char		 line[128];

	prepare();
	snprintf(line, sizeof(line), "takeover 5 %s\n", boot());
	spill(at("victim"), line);
	ck_assert_int_eq(symlink(at("victim"), last), 0);
	ck_assert_int_eq(wish_read(dir, &w, err), -EBADMSG);
	ck_assert_int_eq(w.what, WISH_NONE);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), 0);
	asked(WISH_RELEASE, TICK(1));
	contains(at("victim"), line);
	ck_assert_int_eq(lstat(last, &st), 0);
	ck_assert(S_ISREG(st.st_mode));

	/* nor one that leads nowhere: nothing is made at its end */
	ck_assert_int_eq(unlink(last), 0);
	ck_assert_int_eq(symlink(at("nowhere"), last), 0);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), 0);
	ck_assert_int_eq(access(at("nowhere"), F_OK), -1);

	/* nor another name of a file: it is replaced, not written */
	ck_assert_int_eq(unlink(last), 0);
	ck_assert_int_eq(link(at("victim"), last), 0);
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(9), &w), 0);
	contains(at("victim"), line);
}
END_TEST

START_TEST(link_for_directory)
{
	struct wish	 w;
	struct stat	 st;

	prepare();
	ck_assert_int_eq(mkdir(at("elsewhere"), 0700), 0);
	ck_assert_int_eq(rmdir(at("run/" WISH_DIR)), 0);
	ck_assert_int_eq(symlink(at("elsewhere"), at("run/" WISH_DIR)), 0);
	ck_assert_int_lt(ask(WISH_RELEASE, TICK(1), &w), 0);
	ck_assert_ptr_nonnull(strstr(err, "symbolic link"));
	ck_assert_int_lt(wish_read(dir, &w, err), 0);
	ck_assert_int_lt(wish_prepare(dir, geteuid(), getegid(), getegid(), err), 0);
	ck_assert_int_eq(access(at("elsewhere/last"), F_OK), -1);
	ck_assert_int_eq(stat(at("elsewhere"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);

	ck_assert_int_eq(rename(dir, at("moved")), 0);
	ck_assert_int_eq(symlink(at("moved"), dir), 0);
	ck_assert_int_eq(unlink(at("moved/" WISH_DIR)), 0);
	ck_assert_int_eq(mkdir(at("moved/" WISH_DIR), 0755), 0);
	ck_assert_int_lt(ask(WISH_RELEASE, TICK(1), &w), 0);
	ck_assert_int_lt(wish_prepare(dir, geteuid(), getegid(), getegid(), err), 0);
	ck_assert_int_eq(access(at("moved/" WISH_DIR "/last"), F_OK), -1);
}
END_TEST

START_TEST(no_file_at_all)
{
	struct wish	 w;

	prepare();
	ck_assert_int_eq(mkfifo(last, 0600), 0);
	ck_assert_int_eq(wish_read(dir, &w, err), -EBADMSG);	/* and does not wait */
	ck_assert_int_eq(ask(WISH_RELEASE, TICK(1), &w), 0);
	asked(WISH_RELEASE, TICK(1));
	ck_assert_int_eq(unlink(last), 0);
	ck_assert_int_eq(mkdir(last, 0700), 0);
	ck_assert_int_eq(wish_read(dir, &w, err), -EBADMSG);
	ck_assert_int_lt(ask(WISH_RELEASE, TICK(1), &w), 0);	/* and says so */
	ck_assert_ptr_nonnull(strstr(err, dir));
	ck_assert_int_eq(rmdir(last), 0);
}
END_TEST

START_TEST(files)
{
	char	 buf[16];
	int	 fd;

	ck_assert_int_eq(mkdir(dir, 0700), 0);
	ck_assert_int_ge(fd = rundir_open(dir), 0);
	ck_assert_int_eq(rundir_read(fd, "f", buf, sizeof(buf)), -ENOENT);
	ck_assert_int_eq(rundir_replace(fd, "f", "fifteen letters"), 0);
	ck_assert_int_eq(rundir_read(fd, "f", buf, sizeof(buf)), 15);
	ck_assert_str_eq(buf, "fifteen letters");
	ck_assert_int_eq(rundir_read(fd, "f", buf, 15), -EBADMSG);
	ck_assert_int_eq(rundir_replace(fd, "f", ""), 0);
	ck_assert_int_eq(rundir_read(fd, "f", buf, sizeof(buf)), 0);
	ck_assert_int_eq(rundir_replace(fd, "missing/f", ""), -ENOENT);
	close(fd);
	ck_assert_int_eq(unlink(at("run/f")), 0);
	ck_assert_int_eq(rmdir(dir), 0);	/* nothing else is left */
}
END_TEST

/* --- rights ------------------------------------------------------------------------------------ */

START_TEST(rights)
{
	struct stat	 st;
	mode_t		 mask = umask(0077);

	prepare();
	umask(mask);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
	ck_assert_int_eq(stat(at("run/" WISH_DIR), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0770);

	/* what a killed writer left goes, what was asked for stays; rights are put right */
	spill(at("run/" WISH_DIR "/.new-0123456789abcdef"), "take");
	spill(last, "x");
	ck_assert_int_eq(chmod(at("run/" WISH_DIR), 0777), 0);
	prepare();
	ck_assert_int_eq(access(at("run/" WISH_DIR "/.new-0123456789abcdef"), F_OK), -1);
	ck_assert_int_eq(access(last, F_OK), 0);
	ck_assert_int_eq(stat(at("run/" WISH_DIR), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0770);
}
END_TEST

static int
release_2(void)
{
	struct wish	 w;

	umask(0077);
	return ask(WISH_RELEASE, TICK(2), &w) == 0 ? 0 : -ask(WISH_RELEASE, TICK(2), &w);
}

static int
takeover_3(void)
{
	struct wish	 w;

	umask(0077);
	return ask(WISH_TAKEOVER, TICK(3), &w) == 0 && w.what == WISH_TAKEOVER ? 0 : 1;
}

static int
sees_takeover_3(void)
{
	struct wish	 w;

	return wish_read(dir, &w, err) == 0 && w.what == WISH_TAKEOVER && w.stamp == TICK(3) ? 0 : 1;
}

static int
refused(void)
{
	struct wish	 w;

	return ask(WISH_RELEASE, TICK(4), &w) == -EACCES && strstr(err, "group") != NULL &&
	    strstr(err, dir) != NULL && w.what == WISH_RELEASE ? 0 : 1;
}

START_TEST(users)
{
	static const gid_t	 group[] = { GROUP };
	struct wish		 w;
	struct stat		 st;

	if (geteuid() != 0)
		return;
	ck_assert_msg(wish_prepare(dir, USER, USER, GROUP, err) == 0, "%s", err);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert(st.st_uid == USER && st.st_gid == USER);
	ck_assert_int_eq(stat(at("run/" WISH_DIR), &st), 0);
	ck_assert(st.st_uid == USER && st.st_gid == GROUP);

	/* root, once and by hand, is in nobody's way */
	ck_assert_int_eq(ask(WISH_TAKEOVER, TICK(1), &w), 0);
	ck_assert_int_eq(stat(last, &st), 0);
	ck_assert_uint_eq(st.st_uid, USER);
	ck_assert_int_eq(chown(last, 0, 0), 0);
	ck_assert_int_eq(chmod(last, 0600), 0);
	ck_assert_int_eq(as(USER, USER, NULL, 0, release_2), 0);
	asked(WISH_RELEASE, TICK(2));
	ck_assert_int_eq(as(OTHER, OTHER, group, 1, takeover_3), 0);
	ck_assert_int_eq(as(USER, USER, NULL, 0, sees_takeover_3), 0);
	ck_assert_int_eq(as(OTHER, OTHER, NULL, 0, refused), 0);
	asked(WISH_TAKEOVER, TICK(3));
}
END_TEST

/* Who starts the daemon as himself has it all, and its runtime directory changes hands with its user. */
START_TEST(hands)
{
	struct stat	 st;

	if (geteuid() != 0)
		return;
	prepare();
	ck_assert_int_eq(wish_prepare(dir, USER, USER, GROUP, err), 0);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_uid, USER);
	ck_assert_int_eq(stat(at("run/" WISH_DIR), &st), 0);
	ck_assert(st.st_uid == USER && st.st_gid == GROUP);
	ck_assert_int_eq(as(USER, USER, NULL, 0, release_2), 0);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("wish");
	TCase	*t = tcase_create("wish");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, stamps);
	tcase_add_test(t, askers);
	tcase_add_test(t, before);
	tcase_add_test(t, nothing);
	tcase_add_test(t, order);
	tcase_add_test(t, writers);
	tcase_add_test(t, locked);
	tcase_add_test(t, rubbish);
	tcase_add_test(t, other_boot);
	tcase_add_test(t, link_for_file);
	tcase_add_test(t, link_for_directory);
	tcase_add_test(t, no_file_at_all);
	tcase_add_test(t, files);
	tcase_add_test(t, rights);
	tcase_add_test(t, users);
	tcase_add_test(t, hands);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
