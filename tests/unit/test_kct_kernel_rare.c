/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What few flows have, and expectations, against the running kernel: what it
 * takes and shows, and what becomes of a write of which it takes only a part.
 *
 * Each test has a network namespace of its own, which vanishes with its
 * process.  Needs root and ctnetlink; skipped without.  Where the kernel has no
 * helper for FTP or SIP, the tests that need one do nothing.
 */
#include <sys/socket.h>

#include <check.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/kct.h"
#include "ctsync/kct_sys.h"

#define WAIT_S		10.0
#define SHOWN		32

static struct ev_loop		*loop;
static struct kct_writer	*writer, *other;
static struct kct_reader	*reader;

static struct kct_event		 seen[SHOWN];
static size_t			 nseen;

/* --- waiting --------------------------------------------------------------- */

static bool	 timed_out;

static void
deadline(struct ev_loop *l, ev_timer *t, int revents)
{
	(void)l;
	(void)t;
	(void)revents;
	timed_out = true;
}

static void
wait_until(const bool *what)
{
	ev_timer	 t;

	timed_out = false;
	ev_timer_init(&t, deadline, WAIT_S, 0.);
	ev_timer_start(loop, &t);
	while (!*what && !timed_out)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &t);
	ck_assert_msg(*what, "waited in vain");
}

static void
events_cb(void *ctx, const struct kct_event *ev, size_t n)
{
	size_t	 i;

	(void)ctx;
	for (i = 0; i < n && nseen < SHOWN; i++)
		seen[nseen++] = ev[i];
}

static void
overrun_cb(void *ctx)
{
	(void)ctx;
}

static void
set_up(void)
{
	static const struct kct_event_ops	 ops = {
		.events = events_cb, .overrun = overrun_cb
	};
	struct kct_event_conf			 conf = { .rcvbuf_bytes = 1u << 20, .nignore = 1 };
	uint32_t				 id;
	int					 err = 0;

	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	loop = ev_loop_new(EVFLAG_AUTO);
	ck_assert_ptr_nonnull(writer = kct_writer_open(loop, &err));
	ck_assert_ptr_nonnull(other = kct_writer_open(loop, &err));
	id = kct_writer_portid(writer);
	conf.ignore = &id;
	ck_assert_ptr_nonnull(reader = kct_event_open(loop, &conf, &ops, NULL, &err));
}

static void
tear_down(void)
{
	kct_event_close(reader);
	kct_writer_close(writer);
	kct_writer_close(other);
	ev_loop_destroy(loop);
}

/* --- flows ------------------------------------------------------------------- */

static struct flow
make_flow(uint8_t proto, uint16_t sport, uint16_t dport)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = proto;
	f.orig.src = (struct flow_addr){ { 10, 0, 0, 1 } };
	f.orig.dst = (struct flow_addr){ { 192, 0, 2, 1 } };
	f.orig.l4src = sport;
	f.orig.l4dst = dport;
	flow_tuple_invert(f.family, proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f.timeout_s = 600;
	f.has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK;
	if (proto == IPPROTO_TCP) {
		f.has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
		f.tcp_state = FLOW_TCP_ESTABLISHED;
	}
	return f;
}

static void
set_helper(struct flow *f, const char *name)
{
	strcpy(f->helper, name);
	f->has |= FLOW_HAS_HELPER;
}

static void
set_master(struct flow *f, const struct flow *m)
{
	f->master = m->orig;
	f->master_proto = m->proto;
	f->has |= FLOW_HAS_MASTER;
}

static void
set_label(struct flow *f)
{
	f->rare.labels[0] = 2;
	f->has |= FLOW_HAS_LABELS;
}

/* A flow from the server of *m, that it has announced. */
static struct flow
make_expect(const struct flow *m, uint16_t dport)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = AF_INET;
	f.proto = IPPROTO_TCP;
	f.expect = true;
	f.orig.src = m->orig.dst;
	f.orig.dst = m->orig.src;
	f.orig.l4dst = dport;
	memset(f.exp.mask_src.b, 0xff, 4);
	f.timeout_s = 200;
	f.has = FLOW_HAS_TIMEOUT | FLOW_HAS_EXPECT;
	set_master(&f, m);
	set_helper(&f, m->helper);
	return f;
}

/* --- jobs -------------------------------------------------------------------- */

static struct {
	bool			 done;
	struct kct_result	 res;
	uint16_t		 err[SHOWN];
	struct flow		 flows[SHOWN];
} out;

static void
done_cb(void *ctx, const struct kct_result *res)
{
	uint32_t	 i;

	(void)ctx;
	out.done = true;
	out.res = *res;
	for (i = 0; i < res->items; i++) {
		out.err[i] = res->err[i];
		if (res->flows != NULL)
			out.flows[i] = res->flows[i];
	}
}

static void
run_job(struct kct_writer *w, enum kct_op op, const struct flow *f, size_t n)
{
	uint8_t		 body[FLOW_BODY_OWN_MAX];
	struct kct_job	*j = kct_job_new(op, 0, done_cb, NULL);
	size_t		 i, len;

	ck_assert_ptr_nonnull(j);
	ck_assert_uint_le(n, SHOWN);
	memset(&out, 0, sizeof(out));
	for (i = 0; i < n; i++) {
		len = flow_pack(&f[i], body, sizeof(body));
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(kct_job_add(j, body, len, op == KCT_DELETE ? f[i].id : f[i].timeout_s), 0);
	}
	ck_assert_int_eq(kct_submit(w, j), 0);
	wait_until(&out.done);
	ck_assert_uint_eq(out.res.items, n);
}

static void
must(struct kct_writer *w, enum kct_op op, const struct flow *f)
{
	run_job(w, op, f, 1);
	ck_assert_msg(out.err[0] == 0, "op %d: %s", (int)op, strerror(out.err[0]));
}

static struct flow
get_one(const struct flow *f)
{
	must(writer, KCT_GET, f);
	return out.flows[0];
}

/* --- dumps ------------------------------------------------------------------- */

static struct {
	bool		 done;
	int		 rc;
	uint64_t	 flows;
	struct flow	 f[SHOWN];
	size_t		 n;
	struct kct_dump	*d;
} shown;

static void
dump_flows(void *ctx, const struct flow *f, size_t n)
{
	(void)ctx;
	for (; n > 0 && shown.n < SHOWN; n--)
		shown.f[shown.n++] = *f++;
}

static void
dump_done(void *ctx, int rc, const struct kct_dump_result *res)
{
	(void)ctx;
	shown.done = true;
	shown.rc = rc;
	shown.flows = res->flows;
	ck_assert_uint_eq(res->bad, 0);
	kct_dump_free(shown.d);
}

static void
dump(bool expects_too)
{
	static const struct kct_dump_ops	 ops = { .flows = dump_flows, .done = dump_done };
	struct kct_dump_conf			 conf = { .expects_too = expects_too };
	int					 err = 0;

	memset(&shown, 0, sizeof(shown));
	shown.d = kct_dump_start(loop, &conf, &ops, NULL, &err);
	ck_assert_ptr_nonnull(shown.d);
	wait_until(&shown.done);
	ck_assert_int_eq(shown.rc, 0);
	ck_assert_uint_eq(shown.flows, shown.n);
}

/* --- flows that have more ------------------------------------------------------ */

START_TEST(parts_are_shown_as_they_were_written)
{
	struct flow	 f[3], g;

	f[0] = make_flow(IPPROTO_SCTP, 1000, 36412);
	f[0].rare.sctp_state = FLOW_SCTP_ESTABLISHED;
	f[0].rare.sctp_vtag[0] = 0x01020304;
	f[0].rare.sctp_vtag[1] = 0x05060708;
	f[0].has |= FLOW_HAS_SCTP;
	f[1] = make_flow(IPPROTO_TCP, 1001, 21);
	f[1].rare.seqadj[0].pos = 100;
	f[1].rare.seqadj[0].before = (uint32_t)-3;
	f[1].rare.seqadj[0].after = 5;
	f[1].has |= FLOW_HAS_SEQADJ;
	f[2] = make_flow(IPPROTO_TCP, 1002, 30000);
	f[2].status |= FLOW_S_EXPECTED;
	set_master(&f[2], &f[1]);
	run_job(writer, KCT_CREATE, f, 3);
	ck_assert_uint_eq(out.res.done, 3);
	ck_assert_uint_eq(out.res.lost_master + out.res.lost_helper + out.res.lost_labels, 0);

	g = get_one(&f[0]);
	ck_assert_uint_eq(g.rare.sctp_state, FLOW_SCTP_ESTABLISHED);
	ck_assert_mem_eq(g.rare.sctp_vtag, f[0].rare.sctp_vtag, sizeof(g.rare.sctp_vtag));
	g = get_one(&f[1]);
	ck_assert_mem_eq(g.rare.seqadj, f[1].rare.seqadj, sizeof(g.rare.seqadj));
	ck_assert(g.status & FLOW_S_SEQ_ADJUST);
	g = get_one(&f[2]);
	ck_assert_uint_eq(g.master_proto, IPPROTO_TCP);
	ck_assert_mem_eq(&g.master, &f[1].orig, sizeof(g.master));
	ck_assert(g.status & FLOW_S_EXPECTED);
	/* what an answer, or a dump, does not show is not there */
	ck_assert_uint_eq(g.has & FLOW_HAS_WHOLE, FLOW_HAS_WHOLE);
	dump(false);
	ck_assert_uint_eq(shown.n, 3);
	ck_assert_uint_eq(shown.f[0].has & FLOW_HAS_WHOLE, FLOW_HAS_WHOLE);
}
END_TEST

/* A flow is written without what the kernel does not take; each item by itself. */
START_TEST(parts_that_are_not_taken)
{
	struct flow	 f[8], gone = make_flow(IPPROTO_TCP, 1, 21), g;
	size_t		 i;

	for (i = 0; i < 8; i++) {
		f[i] = make_flow(IPPROTO_UDP, (uint16_t)(1000 + i), 5060);
		if (i & 1)
			set_master(&f[i], &gone);
		if (i & 2)
			set_helper(&f[i], "nonesuch");
		if (i & 4)
			set_label(&f[i]);
	}
	run_job(writer, KCT_CREATE, f, 8);
	ck_assert_uint_eq(out.res.done, 8);
	ck_assert_uint_eq(out.res.updated, 0);
	ck_assert_uint_eq(out.res.lost_master, 4);
	ck_assert_uint_eq(out.res.lost_helper, 4);
	ck_assert_uint_eq(out.res.lost_labels, 4);
	for (i = 0; i < 8; i++) {
		g = get_one(&f[i]);
		ck_assert(kct_same_flow(&f[i], &g));
		ck_assert_uint_eq(g.timeout_s > 590, 1);
		ck_assert_uint_eq(g.master_proto, 0);
		ck_assert_str_eq(g.helper, "");
		ck_assert_uint_eq(g.rare.labels[0], 0);
	}
	/* the same ones again: there they are, still without */
	run_job(writer, KCT_CREATE, f, 8);
	ck_assert_uint_eq(out.res.done, 8);
	ck_assert_uint_eq(out.res.updated, 8);
}
END_TEST

/* A rule that sets a label is enough for the kernel to have them. */
START_TEST(labels_that_are_taken)
{
	struct flow	 f[2], g;
	size_t		 i;

	if (system("nft 'add table ip t; add chain ip t c; add rule ip t c ct label set 1' "
	    ">/dev/null 2>&1") != 0)
		return;
	for (i = 0; i < 2; i++) {
		f[i] = make_flow(IPPROTO_TCP, (uint16_t)(1000 + i), 80);
		set_label(&f[i]);
		f[i].rare.labels[15] = 0x80;
	}
	run_job(writer, KCT_CREATE, f, 2);
	ck_assert_uint_eq(out.res.done, 2);
	ck_assert_uint_eq(out.res.lost_labels, 0);
	for (i = 0; i < 2; i++) {
		g = get_one(&f[i]);
		ck_assert_mem_eq(g.rare.labels, f[i].rare.labels, FLOW_LABEL_BYTES);
	}
	/* and taken away */
	f[1].rare.labels[15] = 0;
	must(writer, KCT_UPDATE, &f[1]);
	g = get_one(&f[1]);
	ck_assert_mem_eq(g.rare.labels, f[1].rare.labels, FLOW_LABEL_BYTES);
}
END_TEST

/* --- expectations ---------------------------------------------------------------- */

/* Write a flow that has that helper; false if the kernel has no such helper. */
static bool
master_with(struct flow *m, uint8_t proto, uint16_t dport, const char *helper)
{
	*m = make_flow(proto, 2000, dport);
	set_helper(m, helper);
	must(writer, KCT_CREATE, m);
	return out.res.lost_helper == 0;
}

START_TEST(expectations_are_shown_as_they_were_written)
{
	struct flow	 m[2], e[2], g;
	size_t		 i;

	/* each expects one at a time */
	if (!master_with(&m[0], IPPROTO_TCP, 21, "ftp") ||
	    !master_with(&m[1], IPPROTO_TCP, 2121, "ftp"))
		return;
	g = get_one(&m[0]);
	ck_assert_str_eq(g.helper, "ftp");
	e[0] = make_expect(&m[0], 3000);
	e[1] = make_expect(&m[1], 3001);
	e[1].orig.l4src = 20;
	e[1].exp.mask_l4src = 0xffff;
	e[1].exp.nat = true;
	e[1].exp.nat_addr = (struct flow_addr){ { 203, 0, 113, 9 } };
	e[1].exp.nat_l4 = 3001;
	e[1].exp.nat_dir = 1;
	run_job(writer, KCT_CREATE, e, 2);
	ck_assert_uint_eq(out.err[0], 0);
	ck_assert_uint_eq(out.err[1], 0);
	for (i = 0; i < 2; i++) {
		g = get_one(&e[i]);
		ck_assert(kct_same_flow(&e[i], &g));
		ck_assert_str_eq(g.helper, "ftp");
		ck_assert_mem_eq(&g.exp.mask_src, &e[i].exp.mask_src, 16);
		ck_assert_uint_eq(g.exp.mask_l4src, e[i].exp.mask_l4src);
		ck_assert_uint_eq(g.exp.policy, 0);
		/* that of the helper's policy */
		ck_assert_uint_gt(g.timeout_s, 0);
		ck_assert_uint_le(g.timeout_s, 300);
		ck_assert_uint_eq(g.exp.nat, e[i].exp.nat);
		ck_assert_mem_eq(&g.exp.nat_addr, &e[i].exp.nat_addr, 16);
		ck_assert_uint_eq(g.exp.nat_l4, e[i].exp.nat_l4);
		ck_assert_uint_eq(g.exp.nat_dir, e[i].exp.nat_dir);
		ck_assert(g.has & FLOW_HAS_ID);
	}
	/* a dump shows them after the flows, and only if it is asked to */
	dump(false);
	ck_assert_uint_eq(shown.n, 2);
	dump(true);
	ck_assert_uint_eq(shown.n, 4);
	for (i = 0; i < 4; i++)
		ck_assert(shown.f[i].expect == (i >= 2));
}
END_TEST

START_TEST(expectations_are_changed_and_deleted)
{
	struct flow	 m, e, g;

	if (!master_with(&m, IPPROTO_TCP, 21, "ftp"))
		return;
	e = make_expect(&m, 3000);
	must(writer, KCT_CREATE, &e);
	ck_assert_uint_eq(out.res.updated, 0);
	e.timeout_s = 100;
	must(writer, KCT_CREATE, &e);
	ck_assert_uint_eq(out.res.updated, 1);
	g = get_one(&e);
	ck_assert_uint_gt(g.timeout_s, 100);	/* one that lives longer is newer */
	e.timeout_s = 1000;
	must(writer, KCT_CREATE, &e);
	ck_assert_uint_eq(out.res.updated, 1);
	g = get_one(&e);
	ck_assert_uint_gt(g.timeout_s, 600);
	ck_assert_uint_le(g.timeout_s, 1000);
	must(writer, KCT_DELETE, &e);
	run_job(writer, KCT_GET, &e, 1);
	ck_assert_uint_eq(out.err[0], ENOENT);
	/* its master is still there, and goes without it */
	must(writer, KCT_GET, &m);
	run_job(writer, KCT_DELETE, &e, 1);
	ck_assert_uint_eq(out.err[0], ENOENT);
	must(writer, KCT_GET, &m);
}
END_TEST

/* The second media stream of a call has a policy that only the helper's name makes known. */
START_TEST(policies_beyond_the_first)
{
	struct flow	 m, e, g;

	if (!master_with(&m, IPPROTO_UDP, 5060, "sip"))
		return;
	e = make_expect(&m, 40000);
	e.proto = IPPROTO_UDP;
	e.exp.policy = 1;
	must(writer, KCT_CREATE, &e);
	g = get_one(&e);
	ck_assert_uint_eq(g.exp.policy, 1);
	ck_assert_str_eq(g.helper, "sip");
	/* the first one's */
	e = make_expect(&m, 5061);
	e.proto = IPPROTO_UDP;
	e.exp.flags = FLOW_E_PERMANENT | FLOW_E_INACTIVE;
	must(writer, KCT_CREATE, &e);
	g = get_one(&e);
	ck_assert_uint_eq(g.exp.policy, 0);
	ck_assert_uint_eq(g.exp.flags, e.exp.flags);
}
END_TEST

/* There is nothing to be left out: an expectation needs all that it has. */
START_TEST(expectations_that_are_not_taken)
{
	struct flow	 gone = make_flow(IPPROTO_TCP, 1, 21), plain = make_flow(IPPROTO_TCP, 2, 21);
	struct flow	 e[2];

	must(writer, KCT_CREATE, &plain);
	e[0] = make_expect(&gone, 3000);
	e[1] = make_expect(&plain, 3001);
	run_job(writer, KCT_CREATE, e, 2);
	ck_assert_uint_eq(out.err[0], ENOENT);
	ck_assert_uint_ne(out.err[1], 0);
	ck_assert_uint_ne(out.err[1], ENOENT);
	ck_assert_uint_eq(out.res.lost_master + out.res.lost_helper + out.res.lost_labels, 0);
}
END_TEST

START_TEST(expectations_are_events)
{
	struct flow	 m, e;

	if (!master_with(&m, IPPROTO_TCP, 21, "ftp"))
		return;
	e = make_expect(&m, 3000);
	must(writer, KCT_CREATE, &e);
	must(writer, KCT_DELETE, &e);
	kct_event_poke(reader);
	ck_assert_uint_eq(nseen, 0);	/* our own */
	must(other, KCT_CREATE, &e);
	must(other, KCT_DELETE, &e);
	kct_event_poke(reader);
	ck_assert_uint_eq(nseen, 2);
	ck_assert_uint_eq(seen[0].type, KCT_MSG_NEW);
	ck_assert_uint_eq(seen[1].type, KCT_MSG_DESTROY);
	ck_assert(kct_same_flow(&seen[0].flow, &e));
	ck_assert(kct_same_flow(&seen[1].flow, &e));
	ck_assert_uint_eq(seen[0].flow.id, seen[1].flow.id);
	/* it goes with its master, and that is told */
	must(other, KCT_CREATE, &e);
	must(other, KCT_DELETE, &m);
	kct_event_poke(reader);
	ck_assert_uint_eq(nseen, 5);
	ck_assert_uint_eq(seen[3].type, KCT_MSG_DESTROY);
	ck_assert_uint_eq(seen[4].type, KCT_MSG_DESTROY);
	ck_assert(seen[3].flow.expect != seen[4].flow.expect);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite	*s = suite_create("kct_kernel_rare");
	TCase	*tc = tcase_create("kernel");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, parts_are_shown_as_they_were_written);
	tcase_add_test(tc, parts_that_are_not_taken);
	tcase_add_test(tc, labels_that_are_taken);
	tcase_add_test(tc, expectations_are_shown_as_they_were_written);
	tcase_add_test(tc, expectations_are_changed_and_deleted);
	tcase_add_test(tc, policies_beyond_the_first);
	tcase_add_test(tc, expectations_that_are_not_taken);
	tcase_add_test(tc, expectations_are_events);
	suite_add_tcase(s, tc);
	return s;
}

int
main(void)
{
	char	 why[KCT_WHY_MAX];
	SRunner	*sr;
	int	 failed;

	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root for a network namespace\n");
		return 0;
	}
	if (kct_sys_probe(why) < 0) {
		printf("1..0 # SKIP %s\n", why);
		return 0;
	}
	sr = srunner_create(make_suite());
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
