/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Conntrack events, dumps and writes, and the node's addresses, against the
 * running kernel.
 *
 * Each test has a network namespace of its own, which vanishes with its
 * process.  Needs root and ctnetlink; skipped without.  A second writer, whose
 * port id is not filtered, plays the rest of the world.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/kct.h"
#include "ctsync/kct_sys.h"
#include "ctsync/rtnl.h"

#define WAIT_S		10.0
#define MANY		3000		/* flows for the tests of scale */

static struct ev_loop		*loop;
static struct kct_writer	*writer, *other;
static struct kct_reader	*reader;

static struct kct_event		 seen[256];
static size_t			 nseen;
static uint64_t			 total_seen;
static unsigned			 overruns;

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

/* Run the loop until *what is true, or fail. */
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
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_le(n, KCT_EVENT_BATCH);
	total_seen += n;
	for (i = 0; i < n && nseen < 256; i++)
		seen[nseen++] = ev[i];
}

static void
overrun_cb(void *ctx)
{
	(void)ctx;
	overruns++;
}

static void
open_reader(size_t rcvbuf)
{
	static const struct kct_event_ops	 ops = {
		.events = events_cb, .overrun = overrun_cb
	};
	uint32_t				 id = kct_writer_portid(writer);
	struct kct_event_conf			 conf = {
		.rcvbuf_bytes = rcvbuf, .ignore = &id, .nignore = 1
	};
	int					 err = 0;

	reader = kct_event_open(loop, &conf, &ops, NULL, &err);
	ck_assert_msg(reader != NULL, "%s", strerror(-err));
}

static void
set_up(void)
{
	int	 err = 0;

	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	loop = ev_loop_new(EVFLAG_AUTO);
	writer = kct_writer_open(loop, &err);
	ck_assert_msg(writer != NULL, "%s", strerror(-err));
	other = kct_writer_open(loop, &err);
	ck_assert_msg(other != NULL, "%s", strerror(-err));
	open_reader(1u << 20);
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

static void
set_addr(struct flow *f, struct flow_addr *a, const char *s)
{
	memset(a, 0, sizeof(*a));
	ck_assert_int_eq(inet_pton(f->family, s, a->b), 1);
}

/* A flow between two addresses; v6 if src has a colon. */
static struct flow
make_flow(uint8_t proto, const char *src, uint16_t sport, const char *dst, uint16_t dport)
{
	struct flow	 f;

	memset(&f, 0, sizeof(f));
	f.family = strchr(src, ':') != NULL ? AF_INET6 : AF_INET;
	f.proto = proto;
	set_addr(&f, &f.orig.src, src);
	set_addr(&f, &f.orig.dst, dst);
	f.orig.l4src = sport;
	f.orig.l4dst = dport;
	flow_tuple_invert(f.family, proto, &f.orig, &f.reply);
	f.status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED;
	f.timeout_s = 600;
	f.has = FLOW_HAS_REPLY | FLOW_HAS_STATUS | FLOW_HAS_TIMEOUT | FLOW_HAS_MARK;
	if (proto == IPPROTO_TCP) {
		f.has |= FLOW_HAS_TCP_STATE | FLOW_HAS_TCP_FLAGS | FLOW_HAS_TCP_WSCALE;
		f.tcp_state = FLOW_TCP_ESTABLISHED;
		f.tcp_flags[0] = f.tcp_flags[1] = FLOW_TF_WINDOW_SCALE | FLOW_TF_SACK_PERM;
		f.tcp_wscale[0] = 7;
		f.tcp_wscale[1] = 9;
	}
	return f;
}

static void
snat(struct flow *f, const char *addr, uint16_t port)
{
	f->status |= FLOW_S_SRC_NAT | FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE;
	set_addr(f, &f->reply.dst, addr);
	if (flow_proto_is_icmp(f->family, f->proto))
		f->reply.l4src = port;
	else if (f->orig.l4src != 0)
		f->reply.l4dst = port;
}

static void
dnat(struct flow *f, const char *addr, uint16_t port)
{
	f->status |= FLOW_S_DST_NAT | FLOW_S_SRC_NAT_DONE | FLOW_S_DST_NAT_DONE;
	set_addr(f, &f->reply.src, addr);
	if (!flow_proto_is_icmp(f->family, f->proto) && f->orig.l4dst != 0)
		f->reply.l4src = port;
}

static struct flow
number_flow(uint32_t i)
{
	char	 src[32];

	snprintf(src, sizeof(src), "10.%u.%u.%u", 1 + i / 62500, i / 250 % 250, 1 + i % 250);
	return make_flow(IPPROTO_TCP, src, 40000, "192.0.2.80", 443);
}

/* --- jobs -------------------------------------------------------------------- */

struct outcome {
	bool			 done;
	struct kct_result	 res;
	uint16_t		 err[KCT_JOB_ITEMS];
	bool			 was_there[KCT_JOB_ITEMS];
	struct flow		 flows[64];
};

static struct outcome	 out;

static void
done_cb(void *ctx, const struct kct_result *res)
{
	struct outcome	*o = ctx;
	uint32_t	 i;

	o->done = true;
	o->res = *res;
	memcpy(o->err, res->err, res->items * sizeof(o->err[0]));
	if (res->was_there != NULL)
		memcpy(o->was_there, res->was_there, res->items * sizeof(o->was_there[0]));
	for (i = 0; res->flows != NULL && i < res->items && i < 64; i++)
		o->flows[i] = res->flows[i];
}

static struct kct_job *
make_job(enum kct_op op, unsigned options, const struct flow *f, size_t n)
{
	uint8_t		 body[FLOW_BODY_OWN_MAX];
	struct kct_job	*j = kct_job_new(op, options, done_cb, &out);
	size_t		 i, len;

	ck_assert_ptr_nonnull(j);
	for (i = 0; i < n; i++) {
		len = flow_pack(&f[i], body, sizeof(body));
		ck_assert_uint_gt(len, 0);
		ck_assert_int_eq(kct_job_add(j, body, len, op == KCT_DELETE ? f[i].id : f[i].timeout_s), 0);
	}
	return j;
}

static const struct outcome *
run_job(struct kct_writer *w, enum kct_op op, unsigned options, const struct flow *f, size_t n)
{
	memset(&out, 0, sizeof(out));
	ck_assert_int_eq(kct_submit(w, make_job(op, options, f, n)), 0);
	wait_until(&out.done);
	ck_assert_uint_eq(out.res.items, n);
	ck_assert_uint_eq(out.res.done + out.res.absent + out.res.clashed + out.res.failed, n);
	return &out;
}

/* Run one of one flow, which shall succeed. */
static void
must(struct kct_writer *w, enum kct_op op, unsigned options, const struct flow *f)
{
	run_job(w, op, options, f, 1);
	ck_assert_msg(out.err[0] == 0, "op %d: %s", (int)op, strerror(out.err[0]));
}

static struct flow
get_one(const struct flow *f)
{
	must(writer, KCT_GET, 0, f);
	return out.flows[0];
}

/* --- events ------------------------------------------------------------------ */

static void
read_events(void)
{
	kct_event_poke(reader);
}

START_TEST(own_writes_are_filtered)
{
	struct flow	 f = number_flow(1);

	must(writer, KCT_CREATE, 0, &f);
	f.mark = 7;
	must(writer, KCT_UPDATE, 0, &f);
	must(writer, KCT_DELETE, 0, &f);
	read_events();
	ck_assert_uint_eq(total_seen, 0);
	ck_assert_uint_ne(kct_event_empty_ns(reader), 0);
}
END_TEST

/* A delete that names an entry leaves another one with that key alone. */
START_TEST(deletes_of_one_entry)
{
	struct flow	 f = number_flow(1), shown;

	must(writer, KCT_CREATE, 0, &f);
	shown = get_one(&f);
	ck_assert(shown.has & FLOW_HAS_ID);
	f.id = shown.id + 1;
	run_job(writer, KCT_DELETE, 0, &f, 1);
	ck_assert_int_eq(out.err[0], ENOENT);
	ck_assert_uint_eq(get_one(&f).id, shown.id);
	f.id = shown.id;
	must(writer, KCT_DELETE, 0, &f);
	run_job(writer, KCT_GET, 0, &f, 1);
	ck_assert_int_eq(out.err[0], ENOENT);
}
END_TEST

START_TEST(others_changes_are_events)
{
	struct flow	 f = number_flow(1);
	uint64_t	 before = clock_mono_ns();

	snat(&f, "203.0.113.1", 5000);
	f.mark = 3;
	must(other, KCT_CREATE, 0, &f);
	f.mark = 4;
	f.tcp_state = FLOW_TCP_FIN_WAIT;
	must(other, KCT_UPDATE, 0, &f);
	must(other, KCT_DELETE, 0, &f);
	read_events();
	ck_assert_uint_eq(nseen, 3);
	ck_assert_uint_eq(seen[0].type, KCT_MSG_NEW);
	ck_assert_uint_eq(seen[1].type, KCT_MSG_UPDATE);
	ck_assert_uint_eq(seen[2].type, KCT_MSG_DESTROY);
	ck_assert(kct_same_flow(&seen[0].flow, &f));
	ck_assert(kct_same_flow(&seen[2].flow, &f));
	ck_assert_uint_eq(seen[0].flow.mark, 3);
	ck_assert_uint_eq(seen[1].flow.mark, 4);
	ck_assert_uint_eq(seen[1].flow.tcp_state, FLOW_TCP_FIN_WAIT);
	ck_assert(seen[0].flow.has & FLOW_HAS_ID);
	ck_assert_uint_eq(seen[0].flow.id, seen[2].flow.id);
	ck_assert_uint_eq(seen[0].portid, kct_writer_portid(other));
	ck_assert_uint_ge(kct_event_empty_ns(reader), before);
	ck_assert_uint_eq(kct_event_stats(reader)->by_type[KCT_MSG_NEW], 1);
	ck_assert_uint_eq(kct_event_stats(reader)->bad, 0);
}
END_TEST

/* Not even a look at the socket moves the stamp while something is in it. */
START_TEST(empty_stamp_stands_while_events_wait)
{
	struct flow	 f = number_flow(1);
	struct kct_job	*j;
	uint32_t	 count = 0;
	uint64_t	 stamp;

	j = make_job(KCT_CREATE, 0, &f, 1);
	ck_assert_int_eq(kct_submit(other, j), 0);
	while (count == 0) {
		usleep(2000);
		ck_assert_int_eq(kct_sys_get("count", &count), 0);
	}
	usleep(2000);
	stamp = kct_event_empty_ns(reader);
	usleep(2000);
	ck_assert_uint_eq(kct_event_empty_ns(reader), stamp);
	read_events();
	ck_assert_uint_eq(nseen, 1);
	ck_assert_uint_gt(kct_event_empty_ns(reader), stamp);
}
END_TEST

/* A job that creates n flows. */
static struct kct_job *
many_job(uint32_t n)
{
	struct flow	*f = calloc(n, sizeof(*f));
	struct kct_job	*j;
	uint32_t	 i;

	ck_assert_ptr_nonnull(f);
	for (i = 0; i < n; i++)
		f[i] = number_flow(i);
	j = make_job(KCT_CREATE, 0, f, n);
	free(f);
	return j;
}

static void
create_many(struct kct_writer *w, uint32_t n)
{
	memset(&out, 0, sizeof(out));
	ck_assert_int_eq(kct_submit(w, many_job(n)), 0);
	wait_until(&out.done);
	ck_assert_uint_eq(out.res.done, n);
}

START_TEST(overrun_is_reported_once_and_survived)
{
	struct flow	 f = number_flow(MANY);
	uint32_t	 count = 0;

	kct_event_close(reader);
	open_reader(8192);
	/* The loop would read events: wait for the kernel's count instead. */
	memset(&out, 0, sizeof(out));
	ck_assert_int_eq(kct_submit(other, many_job(MANY)), 0);
	while (count < MANY) {
		usleep(1000);
		ck_assert_int_eq(kct_sys_get("count", &count), 0);
	}
	ck_assert_uint_eq(overruns, 0);
	read_events();
	ck_assert_uint_eq(overruns, 1);
	ck_assert_uint_gt(total_seen, 0);
	ck_assert_uint_lt(total_seen, MANY);
	wait_until(&out.done);
	total_seen = nseen = 0;
	must(other, KCT_CREATE, 0, &f);
	read_events();
	ck_assert_uint_eq(overruns, 1);
	ck_assert_uint_eq(nseen, 1);
	ck_assert(kct_same_flow(&seen[0].flow, &f));
	ck_assert_uint_eq(kct_event_stats(reader)->overruns, 1);
}
END_TEST

START_TEST(many_events_all_arrive)
{
	kct_event_close(reader);
	open_reader(16u << 20);
	create_many(other, MANY);
	read_events();
	read_events();
	read_events();
	ck_assert_uint_eq(total_seen, MANY);
	ck_assert_uint_eq(overruns, 0);
}
END_TEST

/* --- dumps ------------------------------------------------------------------- */

struct dump_state {
	bool			 done;
	int			 rc;
	struct kct_dump_result	 res;
	struct flow		 flows[32];
	size_t			 n;
	struct kct_dump		*d;
	bool			 cancel;
};

static void
dump_flows(void *ctx, const struct flow *f, size_t n)
{
	struct dump_state	*s = ctx;
	size_t			 i;

	for (i = 0; i < n; i++, s->n++)
		if (s->n < 32)
			s->flows[s->n] = f[i];
	if (s->cancel) {
		kct_dump_free(s->d);
		s->d = NULL;
	}
}

static void
dump_done(void *ctx, int rc, const struct kct_dump_result *res)
{
	struct dump_state	*s = ctx;

	s->done = true;
	s->rc = rc;
	s->res = *res;
	kct_dump_free(s->d);
	s->d = NULL;
}

static void
start_dump(struct dump_state *s, const struct kct_dump_conf *conf)
{
	static const struct kct_dump_ops	 ops = { .flows = dump_flows, .done = dump_done };
	int					 err = 0;

	memset(s, 0, sizeof(*s));
	s->d = kct_dump_start(loop, conf, &ops, s, &err);
	ck_assert_msg(s->d != NULL, "%s", strerror(-err));
}

static void
run_dump(struct dump_state *s, const struct kct_dump_conf *conf)
{
	start_dump(s, conf);
	wait_until(&s->done);
	ck_assert_int_eq(s->rc, 0);
	ck_assert_uint_eq(s->res.bad, 0);
	ck_assert_uint_eq(s->res.flows, s->n);
}

static size_t
sample_flows(struct flow *f)
{
	size_t	 n = 0;

	f[n++] = make_flow(IPPROTO_TCP, "10.0.0.1", 1000, "192.0.2.1", 80);
	f[n] = make_flow(IPPROTO_TCP, "10.0.0.2", 1000, "192.0.2.1", 80);
	snat(&f[n++], "203.0.113.1", 2000);
	f[n] = make_flow(IPPROTO_TCP, "198.51.100.7", 1000, "203.0.113.1", 8080);
	dnat(&f[n++], "10.0.0.80", 80);
	f[n] = make_flow(IPPROTO_UDP, "10.0.0.3", 1000, "203.0.113.9", 53);
	snat(&f[n], "203.0.113.1", 1000);
	dnat(&f[n++], "10.0.0.53", 5353);
	f[n] = make_flow(IPPROTO_UDP, "10.0.0.4", 1000, "192.0.2.1", 53);
	f[n++].mark = 0xdeadbeef;
	f[n] = make_flow(IPPROTO_ICMP, "10.0.0.5", 77, "192.0.2.1", 8 << 8);
	snat(&f[n++], "203.0.113.1", 78);
	f[n] = make_flow(IPPROTO_ICMP, "10.0.0.6", 77, "203.0.113.1", 8 << 8);
	dnat(&f[n++], "10.0.0.80", 0);
	f[n++] = make_flow(IPPROTO_ICMPV6, "2001:db8::1", 5, "2001:db8::2", 128 << 8);
	f[n] = make_flow(IPPROTO_TCP, "2001:db8:1::1", 1000, "2001:db8:2::1", 443);
	snat(&f[n++], "2001:db8:3::1", 3000);
	f[n++] = make_flow(IPPROTO_SCTP, "10.0.0.7", 1000, "192.0.2.1", 36412);
	f[n++] = make_flow(IPPROTO_GRE, "10.0.0.8", 0, "192.0.2.1", 0x1234);
	f[n] = make_flow(IPPROTO_ESP, "10.0.0.9", 0, "192.0.2.1", 0);
	snat(&f[n++], "203.0.113.1", 0);
	f[n++] = make_flow(253, "2001:db8::9", 0, "2001:db8::10", 0);
	f[n] = make_flow(IPPROTO_TCP, "10.0.0.1", 1000, "192.0.2.1", 80);
	f[n].zone = 5;
	f[n++].zone_dir = FLOW_ZONE_BOTH;
	f[n] = make_flow(IPPROTO_TCP, "10.0.0.11", 1000, "192.0.2.1", 80);
	f[n].zone = 6;
	f[n++].zone_dir = FLOW_ZONE_ORIG;
	f[n] = make_flow(IPPROTO_TCP, "10.0.0.12", 1000, "192.0.2.1", 80);
	f[n].zone = 7;
	f[n++].zone_dir = FLOW_ZONE_REPLY;
	f[n] = make_flow(IPPROTO_UDP, "10.0.0.13", 1000, "192.0.2.1", 80);
	f[n++].status = FLOW_S_CONFIRMED;
	f[n] = make_flow(IPPROTO_TCP, "10.0.0.14", 1000, "192.0.2.1", 80);
	f[n].status = FLOW_S_CONFIRMED;
	f[n].tcp_flags[0] = f[n].tcp_flags[1] = 0;
	f[n].tcp_wscale[0] = f[n].tcp_wscale[1] = 0;
	f[n++].tcp_state = FLOW_TCP_SYN_SENT;
	return n;
}

#define NSAMPLES	18

static void
assert_kernel_has(const struct flow *want, const struct flow *got)
{
	char	 a[FLOW_STR_MAX], b[FLOW_STR_MAX];

	ck_assert_msg(kct_same_flow(want, got), "%s <> %s", flow_str(want, a), flow_str(got, b));
	ck_assert_msg((got->status & (FLOW_S_SRC_NAT | FLOW_S_DST_NAT | FLOW_S_SEEN_REPLY |
	    FLOW_S_ASSURED | FLOW_S_CONFIRMED)) == (want->status & (FLOW_S_SRC_NAT |
	    FLOW_S_DST_NAT | FLOW_S_SEEN_REPLY | FLOW_S_ASSURED | FLOW_S_CONFIRMED)),
	    "%s: status %x for %x", flow_str(want, a), got->status, want->status);
	ck_assert_uint_eq(got->mark, want->mark);
	ck_assert_uint_le(got->timeout_s, want->timeout_s);
	ck_assert_uint_ge(got->timeout_s + 5, want->timeout_s);
	ck_assert_uint_eq(got->tcp_state, want->tcp_state);
	ck_assert_uint_eq(got->tcp_flags[0] & FLOW_TF_REPLICATED, want->tcp_flags[0]);
	ck_assert_uint_eq(got->tcp_flags[1] & FLOW_TF_REPLICATED, want->tcp_flags[1]);
	ck_assert_mem_eq(got->tcp_wscale, want->tcp_wscale, 2);
}

START_TEST(created_flows_are_dumped_as_they_were)
{
	struct flow			 f[32];
	struct kct_dump_conf		 conf;
	static struct dump_state	 s;
	size_t				 n = sample_flows(f), i, k;

	ck_assert_uint_eq(n, NSAMPLES);
	run_job(writer, KCT_CREATE, KCT_LIBERAL, f, n);
	for (i = 0; i < n; i++)
		ck_assert_msg(out.err[i] == 0, "flow %zu: %s", i, strerror(out.err[i]));
	memset(&conf, 0, sizeof(conf));
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, n);
	for (i = 0; i < n; i++) {
		for (k = 0; k < s.n; k++)
			if (kct_same_flow(&f[i], &s.flows[k]))
				break;
		ck_assert_msg(k < s.n, "flow %zu is not in the dump", i);
		assert_kernel_has(&f[i], &s.flows[k]);
		if (f[i].proto == IPPROTO_TCP) {
			ck_assert(s.flows[k].tcp_flags[0] & FLOW_TF_BE_LIBERAL);
			ck_assert(s.flows[k].tcp_flags[1] & FLOW_TF_BE_LIBERAL);
		}
	}
}
END_TEST

START_TEST(dumps_can_be_filtered)
{
	struct flow			 f[32];
	struct kct_dump_conf		 conf;
	static struct dump_state	 s;

	run_job(writer, KCT_CREATE, 0, f, sample_flows(f));
	memset(&conf, 0, sizeof(conf));
	conf.filter.family = AF_INET6;
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, 3);
	memset(&conf, 0, sizeof(conf));
	conf.filter.mark = 0xdeadbeef;
	conf.filter.mark_mask = 0xffffffff;
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, 1);
	memset(&conf, 0, sizeof(conf));
	conf.filter.status = conf.filter.status_mask = FLOW_S_DST_NAT;
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, 3);
}
END_TEST

START_TEST(dumps_can_be_paced_and_cancelled)
{
	struct kct_dump_conf		 conf;
	static struct dump_state	 s;
	ev_timer			 t;

	create_many(writer, MANY);
	memset(&conf, 0, sizeof(conf));
	conf.pace_ms = 1;
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, MANY);
	ck_assert_uint_gt(s.res.elapsed_ns, 10000000);
	conf.pace_ms = 0;
	start_dump(&s, &conf);
	s.cancel = true;
	timed_out = false;
	ev_timer_init(&t, deadline, 0.1, 0.);
	ev_timer_start(loop, &t);
	while (!timed_out)
		ev_run(loop, EVRUN_ONCE);
	ck_assert(!s.done);
	ck_assert_ptr_null(s.d);
	ck_assert_uint_gt(s.n, 0);
	ck_assert_uint_lt(s.n, MANY);
}
END_TEST

/* --- writes ------------------------------------------------------------------ */

START_TEST(samples_can_be_read_changed_and_deleted)
{
	struct flow	 f[32], g;
	size_t		 n = sample_flows(f), i;

	run_job(writer, KCT_CREATE, 0, f, n);
	ck_assert_uint_eq(out.res.done, n);
	ck_assert_uint_eq(out.res.updated, 0);
	run_job(writer, KCT_GET, 0, f, n);
	ck_assert_uint_eq(out.res.done, n);
	for (i = 0; i < n; i++)
		assert_kernel_has(&f[i], &out.flows[i]);
	for (i = 0; i < n; i++) {
		f[i].mark = 1000 + (uint32_t)i;
		if (f[i].proto != IPPROTO_GRE)		/* its timeout is fixed */
			f[i].timeout_s = 900;
	}
	run_job(writer, KCT_UPDATE, 0, f, n);
	ck_assert_uint_eq(out.res.done, n);
	for (i = 0; i < n; i++) {
		if (f[i].proto == IPPROTO_GRE)
			continue;
		f[i].timeout_s = 1200;
		must(writer, KCT_TIMEOUT, 0, &f[i]);
	}
	for (i = 0; i < n; i++) {
		g = get_one(&f[i]);
		assert_kernel_has(&f[i], &g);
	}
	run_job(writer, KCT_DELETE, 0, f, n);
	ck_assert_uint_eq(out.res.done, n);
	run_job(writer, KCT_GET, 0, f, n);
	ck_assert_uint_eq(out.res.absent, n);
	run_job(writer, KCT_DELETE, 0, f, n);
	ck_assert_uint_eq(out.res.absent, n);
	run_job(writer, KCT_TIMEOUT, 0, f, n);
	ck_assert_uint_eq(out.res.absent, n);
	run_job(writer, KCT_UPDATE, 0, f, n);
	ck_assert_uint_eq(out.res.absent, n);
	ck_assert_uint_eq(out.res.failed, 0);
}
END_TEST

/* Commit twice: the second finds the same flows and must not touch their NAT. */
START_TEST(create_of_the_same_flow_updates_it)
{
	struct flow	 f[32], g;
	size_t		 n = sample_flows(f), i;

	run_job(writer, KCT_CREATE, 0, f, n);
	ck_assert_uint_eq(out.res.done, n);
	for (i = 0; i < n; i++) {
		if (f[i].proto != IPPROTO_GRE)
			f[i].timeout_s = 1500;
		f[i].mark = 42;
		f[i].status |= FLOW_S_SEEN_REPLY;
		if (f[i].proto == IPPROTO_TCP)
			f[i].tcp_state = FLOW_TCP_ESTABLISHED;
	}
	run_job(writer, KCT_CREATE, KCT_LIBERAL, f, n);
	ck_assert_uint_eq(out.res.done, n);
	ck_assert_uint_eq(out.res.updated, n);
	for (i = 0; i < n; i++) {
		g = get_one(&f[i]);
		assert_kernel_has(&f[i], &g);
		if (f[i].proto == IPPROTO_TCP)
			ck_assert(g.tcp_flags[0] & g.tcp_flags[1] & FLOW_TF_BE_LIBERAL);
	}
	/* Less than the kernel knows: nothing is cleared, and no error either. */
	f[0].status = FLOW_S_CONFIRMED | FLOW_S_SEEN_REPLY;
	run_job(writer, KCT_CREATE, 0, f, 1);
	ck_assert_uint_eq(out.res.updated, 1);
	run_job(writer, KCT_UPDATE, 0, f, 1);
	ck_assert_uint_eq(out.res.done, 1);
	g = get_one(&f[0]);
	ck_assert(g.status & FLOW_S_ASSURED);
}
END_TEST

START_TEST(other_flows_in_the_way_are_clashes)
{
	struct flow	 a = number_flow(1), b = number_flow(2), c = number_flow(1), g;

	snat(&a, "203.0.113.1", 5000);
	must(writer, KCT_CREATE, 0, &a);
	/* The NAT port is taken: no other may be picked. */
	b.orig.dst = a.orig.dst;
	snat(&b, "203.0.113.1", 5000);
	run_job(writer, KCT_CREATE, 0, &b, 1);
	ck_assert_uint_eq(out.res.clashed, 1);
	ck_assert_uint_eq(out.err[0], EEXIST);
	run_job(writer, KCT_GET, 0, &b, 1);
	ck_assert_uint_eq(out.res.absent, 1);
	/* The key is taken by a flow that is translated differently. */
	snat(&c, "203.0.113.1", 6000);
	c.mark = 99;
	run_job(writer, KCT_CREATE, 0, &c, 1);
	ck_assert_uint_eq(out.res.clashed, 1);
	g = get_one(&a);
	ck_assert(kct_same_flow(&a, &g));
	ck_assert_uint_eq(g.mark, 0);
}
END_TEST

/* Good ones, the same, clashing and unreadable ones in one job, over several batches. */
START_TEST(results_belong_to_their_items)
{
	struct flow	 f;
	struct kct_job	*j;
	uint8_t		 body[FLOW_BODY_OWN_MAX], junk[3] = { 0xff, 1, 2 };
	uint32_t	 i, n = 1000;
	size_t		 len;

	for (i = 0; i < n; i += 5) {
		f = number_flow(i);
		if (i % 2 == 0)
			snat(&f, "203.0.113.2", (uint16_t)(1024 + i));
		must(writer, KCT_CREATE, 0, &f);
	}
	memset(&out, 0, sizeof(out));
	j = kct_job_new(KCT_CREATE, 0, done_cb, &out);
	for (i = 0; i < n; i++) {
		f = number_flow(i);
		len = flow_pack(&f, body, sizeof(body));
		if (i % 7 == 0)
			ck_assert_int_eq(kct_job_add(j, junk, sizeof(junk), 600), 0);
		else
			ck_assert_int_eq(kct_job_add(j, body, len, 600), 0);
	}
	ck_assert_uint_eq(kct_job_items(j), n);
	ck_assert_int_eq(kct_submit(writer, j), 0);
	wait_until(&out.done);
	for (i = 0; i < n; i++) {
		if (i % 7 == 0)
			ck_assert_uint_eq(out.err[i], EBADMSG);
		else if (i % 10 == 0)
			ck_assert_uint_eq(out.err[i], EEXIST);
		else
			ck_assert_uint_eq(out.err[i], 0);
		ck_assert_int_eq(out.was_there[i], i % 5 == 0 && out.err[i] == 0);
	}
	ck_assert_uint_gt(out.res.updated, 0);
	ck_assert_uint_eq(out.res.failed, 143);
}
END_TEST

/* The kernel shows 0 in the last second of an entry; for us that would be "not known". */
START_TEST(last_second)
{
	struct flow	 f = number_flow(1);

	f.timeout_s = 1;
	must(writer, KCT_CREATE, 0, &f);
	usleep(50000);
	ck_assert_uint_eq(get_one(&f).timeout_s, 1);
}
END_TEST

START_TEST(strict_clears_liberal)
{
	struct flow	 f = number_flow(1), g;

	must(writer, KCT_CREATE, KCT_LIBERAL, &f);
	g = get_one(&f);
	ck_assert_uint_eq(g.tcp_flags[0], f.tcp_flags[0] | FLOW_TF_BE_LIBERAL);
	ck_assert_uint_eq(g.tcp_flags[1], f.tcp_flags[1] | FLOW_TF_BE_LIBERAL);
	must(writer, KCT_STRICT, 0, &f);
	g = get_one(&f);
	ck_assert_mem_eq(g.tcp_flags, f.tcp_flags, 2);
	ck_assert_mem_eq(g.tcp_wscale, f.tcp_wscale, 2);
	ck_assert_uint_eq(g.tcp_state, f.tcp_state);
}
END_TEST

/* Entries that are there become liberal, whatever else they are; of those that are not: nothing. */
START_TEST(relax_sets_liberal_and_nothing_else)
{
	struct flow	 f[3], g, was;
	size_t		 i;

	for (i = 0; i < 3; i++)
		f[i] = number_flow((uint32_t)i);
	snat(&f[0], "203.0.113.1", 5000);
	f[0].mark = 7;
	f[0].tcp_state = FLOW_TCP_FIN_WAIT;
	f[0].tcp_flags[1] |= FLOW_TF_CLOSE_INIT;
	f[2].proto = IPPROTO_UDP;
	f[2].tcp_state = 0;
	memset(f[2].tcp_flags, 0, 2);
	memset(f[2].tcp_wscale, 0, 2);
	must(writer, KCT_CREATE, 0, &f[0]);
	must(writer, KCT_CREATE, 0, &f[2]);
	was = get_one(&f[0]);
	ck_assert_uint_eq((was.tcp_flags[0] | was.tcp_flags[1]) & FLOW_TF_BE_LIBERAL, 0);
	/* neither the timeout nor the state that goes with an item is written */
	f[0].timeout_s = 5;
	f[0].tcp_state = FLOW_TCP_ESTABLISHED;
	f[0].mark = 8;
	run_job(writer, KCT_RELAX, 0, f, 3);
	ck_assert_uint_eq(out.err[0], 0);
	ck_assert_uint_eq(out.err[1], ENOENT);
	ck_assert_uint_eq(out.res.absent, 1);
	ck_assert_uint_eq(out.err[2], 0);		/* UDP: no harm done */
	g = get_one(&f[0]);
	ck_assert_uint_eq(g.tcp_flags[0], was.tcp_flags[0] | FLOW_TF_BE_LIBERAL);
	ck_assert_uint_eq(g.tcp_flags[1], was.tcp_flags[1] | FLOW_TF_BE_LIBERAL);
	ck_assert_uint_eq(g.tcp_state, was.tcp_state);
	ck_assert_mem_eq(g.tcp_wscale, was.tcp_wscale, 2);
	ck_assert_uint_eq(g.status, was.status);
	ck_assert_uint_eq(g.mark, was.mark);
	ck_assert_uint_eq(g.id, was.id);
	ck_assert_uint_le(g.timeout_s, was.timeout_s);
	ck_assert_uint_ge(g.timeout_s + 5, was.timeout_s);
	run_job(writer, KCT_GET, 0, &f[1], 1);
	ck_assert_uint_eq(out.res.absent, 1);
	/* and back */
	must(writer, KCT_STRICT, 0, &f[0]);
	g = get_one(&f[0]);
	ck_assert_mem_eq(g.tcp_flags, was.tcp_flags, 2);
}
END_TEST

START_TEST(a_bare_key_is_enough_to_name_a_flow)
{
	struct flow	 f = number_flow(1);
	uint8_t		 key[FLOW_KEY_MAX];
	struct kct_job	*j;
	size_t		 len = flow_pack_key(&f, key);

	must(writer, KCT_CREATE, 0, &f);
	memset(&out, 0, sizeof(out));
	j = kct_job_new(KCT_DELETE, 0, done_cb, &out);
	ck_assert_int_eq(kct_job_add(j, key, len, 0), 0);
	ck_assert_int_eq(kct_submit(writer, j), 0);
	wait_until(&out.done);
	ck_assert_uint_eq(out.res.done, 1);
}
END_TEST

START_TEST(fixed_timeouts_can_be_committed_twice)
{
	struct flow	 f = number_flow(1);

	f.status |= FLOW_S_FIXED_TIMEOUT;
	must(writer, KCT_CREATE, 0, &f);
	must(writer, KCT_CREATE, 0, &f);
	ck_assert_uint_eq(out.res.updated, 1);
}
END_TEST

START_TEST(limits_hold_and_close_stops_in_the_middle)
{
	struct flow	 f = number_flow(0);
	uint8_t		 body[FLOW_BODY_OWN_MAX];
	struct kct_job	*j = many_job(KCT_JOB_ITEMS);
	size_t		 len = flow_pack(&f, body, sizeof(body));
	unsigned	 n;
	int		 rc;

	ck_assert_int_eq(kct_job_add(j, body, len, 1), -ENOSPC);
	ck_assert_int_eq(kct_job_add(j, body, 0, 1), -EINVAL);
	ck_assert_int_eq(kct_job_add(j, body, FLOW_BODY_MAX + 1, 1), -EINVAL);
	ck_assert_uint_eq(kct_writer_room(writer), KCT_QUEUE_JOBS);
	memset(&out, 0, sizeof(out));
	for (n = 0; (rc = kct_submit(writer, j)) == 0; n++)
		j = many_job(KCT_JOB_ITEMS);
	ck_assert_int_eq(rc, -EAGAIN);
	ck_assert_uint_eq(n, KCT_QUEUE_JOBS);
	ck_assert_uint_eq(kct_writer_room(writer), 0);
	kct_job_free(j);
	kct_writer_close(writer);
	writer = NULL;
	ck_assert(!out.done);
}
END_TEST

START_TEST(an_empty_job_is_reported)
{
	memset(&out, 0, sizeof(out));
	ck_assert_int_eq(kct_submit(writer, kct_job_new(KCT_GET, 0, done_cb, &out)), 0);
	wait_until(&out.done);
	ck_assert_uint_eq(out.res.items, 0);
}
END_TEST

/* --- the system -------------------------------------------------------------- */

START_TEST(the_system_is_probed)
{
	char		 why[KCT_WHY_MAX];
	uint8_t		 id[KCT_BOOT_ID_BYTES], again[KCT_BOOT_ID_BYTES];
	uint32_t	 v;

	ck_assert_int_eq(kct_sys_probe(why), 0);
	ck_assert_str_eq(why, "");
	ck_assert_int_eq(kct_sys_get("count", &v), 0);
	ck_assert_int_eq(kct_sys_get("max", &v), 0);
	ck_assert_uint_gt(v, 0);
	ck_assert_int_eq(kct_sys_get("tcp_timeout_established", &v), 0);
	ck_assert_int_eq(kct_sys_get("no_such_thing", &v), -ENOENT);
	ck_assert_int_eq(kct_sys_get("../core/somaxconn", &v), -EINVAL);
	ck_assert_int_eq(kct_sys_boot_id(id), 0);
	ck_assert_int_eq(kct_sys_boot_id(again), 0);
	ck_assert_mem_eq(id, again, sizeof(id));
	ck_assert_uint_ne(kct_sys_netns(), 0);
}
END_TEST

/* What is not 1 is set, and said once. */
START_TEST(sysctls_are_watched)
{
	static const char *const	 names[] = { "events", "acct" };
	struct kct_watch		 w;
	uint32_t			 v;
	unsigned			 i;

	for (i = 0; i < 2; i++) {
		w = (struct kct_watch){ .name = names[i] };
		ck_assert_int_eq(kct_sys_set(names[i], 1), 0);
		ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SAME);
		ck_assert_int_eq(kct_sys_set(names[i], 0), 0);
		ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SET);
		ck_assert(w.found == 0 && !w.stuck && w.err == 0);
		ck_assert_int_eq(kct_sys_get(names[i], &v), 0);
		ck_assert_uint_eq(v, 1);
		ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SAME);
	}
	/* one that does not exist has not changed */
	w = (struct kct_watch){ .name = "no_such_thing" };
	ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SAME);
	ck_assert(!w.stuck);
}
END_TEST

static enum kct_watched
watch_as_nobody(struct kct_watch *w)
{
	enum kct_watched	 rc;

	ck_assert_int_eq(seteuid(65534), 0);
	rc = kct_sys_watch(w);
	ck_assert_int_eq(seteuid(0), 0);
	return rc;
}

/* What cannot be set is said once for each value, and when it is good again. */
START_TEST(sysctls_can_be_stuck)
{
	struct kct_watch	 w = { .name = "events" };

	ck_assert_int_eq(kct_sys_set("events", 1), 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_SAME);
	ck_assert_int_eq(kct_sys_set("events", 2), 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_STUCK);
	ck_assert(w.found == 2 && w.stuck && (w.err == -EACCES || w.err == -EPERM));
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_SAME);
	ck_assert(w.stuck);
	ck_assert_int_eq(kct_sys_set("events", 0), 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_STUCK);
	ck_assert_uint_eq(w.found, 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_SAME);
	ck_assert_int_eq(kct_sys_set("events", 1), 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_GOOD);
	ck_assert(!w.stuck && w.err == 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_SAME);
	/* or it may be set again */
	ck_assert_int_eq(kct_sys_set("events", 0), 0);
	ck_assert_int_eq(watch_as_nobody(&w), KCT_WATCH_STUCK);
	ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SET);
	ck_assert(w.found == 0 && !w.stuck);
	ck_assert_int_eq(kct_sys_watch(&w), KCT_WATCH_SAME);
}
END_TEST

/* --- counters ---------------------------------------------------------------- */

/* Packets to the loopback address, from a port to one where somebody listens. */
static void
send_packets(const struct flow *f, unsigned n)
{
	struct sockaddr_in	 from = { .sin_family = AF_INET, .sin_port = htons(f->orig.l4src) };
	struct sockaddr_in	 to = { .sin_family = AF_INET, .sin_port = htons(f->orig.l4dst) };
	int			 out_fd = socket(AF_INET, SOCK_DGRAM, 0);
	int			 in_fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(&from.sin_addr, f->orig.src.b, 4);
	memcpy(&to.sin_addr, f->orig.dst.b, 4);
	ck_assert_int_eq(bind(in_fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	ck_assert_int_eq(bind(out_fd, (const struct sockaddr *)&from, sizeof(from)), 0);
	for (; n > 0; n--)
		ck_assert_int_eq(sendto(out_fd, "x", 1, 0, (const struct sockaddr *)&to,
		    sizeof(to)), 1);
	close(out_fd);
	close(in_fd);
}

/* The namespace tracks what passes the loopback interface; false without nft. */
static bool
track_loopback(void)
{
	return system("ip link set lo up && nft 'add table ip t; "
	    "add chain ip t c { type filter hook output priority 0; }; "
	    "add rule ip t c ct state new counter' >/dev/null 2>&1") == 0;
}

/* Wait for the end of an entry: the last of the events. */
static const struct kct_event *
await_end(void)
{
	unsigned	 i;

	for (i = 0; i < 3000; i++) {
		read_events();
		if (nseen > 0 && seen[nseen - 1].type == KCT_MSG_DESTROY)
			return &seen[nseen - 1];
		usleep(1000);
	}
	ck_abort_msg("no end");
	return NULL;
}

/* An entry that was written and not used counts none, and says so at its end. */
START_TEST(unused_entries_have_counted_nothing)
{
	struct flow			 f = number_flow(1), g;
	static struct dump_state	 s;
	struct kct_dump_conf		 conf;
	const struct kct_event		*e;

	ck_assert_int_eq(kct_sys_set("acct", 0), 0);
	must(other, KCT_CREATE, 0, &f);
	g = get_one(&f);
	ck_assert(!(g.has & FLOW_HAS_PACKETS));
	/* an entry from before never counts */
	ck_assert_int_eq(kct_sys_set("acct", 1), 0);
	g = get_one(&f);
	ck_assert(!(g.has & FLOW_HAS_PACKETS));
	must(other, KCT_DELETE, 0, &f);
	e = await_end();
	ck_assert(!(e->flow.has & FLOW_HAS_PACKETS));

	must(other, KCT_CREATE, 0, &f);
	read_events();
	ck_assert(seen[nseen - 1].type == KCT_MSG_NEW && seen[nseen - 1].flow.commanded);
	g = get_one(&f);
	ck_assert((g.has & FLOW_HAS_PACKETS) && g.packets == 0 && !g.commanded);
	memset(&conf, 0, sizeof(conf));
	run_dump(&s, &conf);
	ck_assert_uint_eq(s.n, 1);
	ck_assert((s.flows[0].has & FLOW_HAS_PACKETS) && s.flows[0].packets == 0);
	must(other, KCT_DELETE, 0, &f);
	e = await_end();
	ck_assert((e->flow.has & FLOW_HAS_PACKETS) && e->flow.packets == 0);
	ck_assert(e->flow.commanded);
}
END_TEST

/* Packets are counted in both directions, in those entries that they found written, too. */
START_TEST(packets_are_evidence)
{
	struct flow			 f = make_flow(IPPROTO_UDP, "127.0.0.1", 4000, "127.0.0.1", 4001);
	struct flow			 back = f, g;
	const struct kct_event		*e;
	unsigned			 written;

	if (!track_loopback())
		return;
	back.orig = f.reply;
	ck_assert_int_eq(kct_sys_set("acct", 1), 0);
	for (written = 0; written < 2; written++) {
		nseen = 0;
		if (written)
			must(other, KCT_CREATE, 0, &f);
		send_packets(&f, 3);
		g = get_one(&f);
		ck_assert(g.has & FLOW_HAS_PACKETS);
		ck_assert_uint_eq(g.packets, 3);
		send_packets(&back, 4);
		g = get_one(&f);
		ck_assert_uint_eq(g.packets, 7);
		read_events();
		ck_assert_uint_eq(seen[0].type, KCT_MSG_NEW);
		ck_assert_int_eq(seen[0].flow.commanded, written);
		ck_assert_uint_eq(seen[nseen - 1].type, written ? KCT_MSG_NEW : KCT_MSG_UPDATE);
		ck_assert_int_eq(seen[nseen - 1].flow.commanded, written);
		/* an event tells of them at the end only */
		ck_assert(!((seen[0].flow.has | seen[nseen - 1].flow.has) & FLOW_HAS_PACKETS));
		/* somebody deletes it, or its time comes */
		if (written) {
			must(other, KCT_DELETE, 0, &f);
		} else {
			f.timeout_s = 1;
			must(writer, KCT_TIMEOUT, 0, &f);
			f.timeout_s = 600;
			do {
				usleep(20000);
				run_job(writer, KCT_GET, 0, &f, 1);
			} while (out.err[0] == 0);
		}
		e = await_end();
		ck_assert(e->flow.has & FLOW_HAS_PACKETS);
		ck_assert_uint_eq(e->flow.packets, 7);
		ck_assert_int_eq(e->flow.commanded, written);
	}
}
END_TEST

/* --- addresses --------------------------------------------------------------- */

static struct rtnl	*rt;
static unsigned		 changes;

static void
changed_cb(void *ctx)
{
	(void)ctx;
	changes++;
}

static void
ip(const char *args)
{
	char	 cmd[128];

	snprintf(cmd, sizeof(cmd), "ip %s", args);
	ck_assert_int_eq(system(cmd), 0);
	rtnl_poll(rt);
}

static bool
own(const char *s)
{
	struct flow	 f = { .family = strchr(s, ':') != NULL ? AF_INET6 : AF_INET };
	struct flow_addr a;

	set_addr(&f, &a, s);
	return rtnl_is_own(rt, f.family, &a);
}

static bool
has(const char *s)
{
	struct flow	 f = { .family = strchr(s, ':') != NULL ? AF_INET6 : AF_INET };
	struct flow_addr a;

	set_addr(&f, &a, s);
	return rtnl_has(rt, f.family, &a);
}

static bool
lost(const char *s)
{
	struct flow	 f = { .family = strchr(s, ':') != NULL ? AF_INET6 : AF_INET };
	struct flow_addr a;

	set_addr(&f, &a, s);
	return rtnl_was_lost(rt, f.family, &a);
}

/* Run the loop until the callback has come and is(s) is what is wanted. */
static void
await(bool (*is)(const char *s), const char *s, bool want)
{
	ev_timer	 t;

	timed_out = false;
	ev_timer_init(&t, deadline, WAIT_S, 0.);
	ev_timer_start(loop, &t);
	while ((changes == 0 || is(s) != want) && !timed_out) {
		if (is(s) != want)
			changes = 0;	/* of another address */
		ev_run(loop, EVRUN_ONCE);
	}
	ev_timer_stop(loop, &t);
	ck_assert_msg(!timed_out, "%s: waited in vain", s);
}

START_TEST(addresses_are_followed)
{
	static const struct rtnl_ops	 ops = { .changed = changed_cb };
	int				 err = 0;

	ck_assert_int_eq(system("ip link add d0 type veth peer name d1 && ip link set d0 up && "
	    "ip addr add 192.0.2.1/24 broadcast + dev d0"), 0);
	rt = rtnl_open(loop, 2000, &ops, NULL, &err);
	ck_assert_msg(rt != NULL, "%s", strerror(-err));
	ck_assert(own("192.0.2.1") && own("192.0.2.255") && !own("192.0.2.2"));
	ck_assert(own("127.0.0.1") && own("127.9.9.9") && own("224.0.0.18") && own("0.0.0.0"));
	ck_assert(own("255.255.255.255") && own("::1") && own("ff02::1") && own("::"));
	ck_assert(!own("::2") && !own("2001:db8::1") && !own("10.0.0.1"));
	changes = 0;
	ip("addr add 2001:db8::1/64 dev d0 nodad");
	await(own, "2001:db8::1", true);	/* the kernel makes it when it gets to that */
	ip("addr add 10.0.0.1/32 dev d0");
	ip("addr add 10.0.0.1/32 dev lo");
	ip("addr del 10.0.0.1/32 dev d0");
	ck_assert(own("10.0.0.1"));
	ip("addr del 10.0.0.1/32 dev lo");
	ck_assert(!own("10.0.0.1"));
	ck_assert(lost("10.0.0.1") && !lost("192.0.2.1") && !lost("10.0.0.2"));
	ip("link set d0 down");
	ck_assert(own("192.0.2.1") && lost("192.0.2.1"));
	ck_assert(!own("2001:db8::1") && lost("2001:db8::1"));
	ck_assert_uint_eq(rtnl_stats(rt)->bad, 0);
	rtnl_close(rt);
}
END_TEST

/* False if the kernel cannot use an address of d0 while it is tested, and say so. */
static bool
be_optimistic(void)
{
	return system("cd /proc/sys/net/ipv6/conf/d0 && echo 1 2>/dev/null >optimistic_dad && "
	    "echo 1 2>/dev/null >use_optimistic") == 0;
}

/* What is tentative does not count, and the callback says when it does. */
START_TEST(usable_addresses)
{
	static const struct rtnl_ops	 ops = { .changed = changed_cb };
	int				 err = 0;

	ck_assert_int_eq(system("ip link add d0 type veth peer name d1 && ip link set d0 up && "
	    "ip link set d1 up && ip link add v0 link d0 type macvlan && ip link set v0 up && "
	    "ip addr add 192.0.2.1/24 dev d0"), 0);
	rt = rtnl_open(loop, 2000, &ops, NULL, &err);
	ck_assert_msg(rt != NULL, "%s", strerror(-err));
	ck_assert(has("192.0.2.1") && !has("192.0.2.255") && !has("192.0.2.2"));
	ck_assert(!has("127.0.0.1") && !has("0.0.0.0") && !has("::1") && !has("224.0.0.18"));

	/* without the test it counts as soon as the kernel has made it, also on an interface of its own */
	ip("addr add 2001:db8::1/64 dev d0 nodad");
	await(has, "2001:db8::1", true);
	ip("addr add 2001:db8::7/128 dev v0 nodad preferred_lft 0");
	ip("addr add 198.51.100.7/32 dev v0");
	await(has, "2001:db8::7", true);
	ck_assert(has("198.51.100.7"));
	ip("addr del 198.51.100.7/32 dev v0");
	ck_assert(!has("198.51.100.7"));

	/* with it, some time later: it is ours before we may use it */
	ip("addr add 2001:db8::2/64 dev d0");
	ck_assert(own("2001:db8::2") && !has("2001:db8::2"));
	changes = 0;
	await(has, "2001:db8::2", true);

	ip("addr del 2001:db8::1/64 dev d0");
	ck_assert(!has("2001:db8::1") && has("2001:db8::2"));
	/* or while it lasts, if that is wanted */
	if (be_optimistic()) {
		ip("addr add 2001:db8::4/64 dev d0 optimistic");
		await(has, "2001:db8::4", true);
	}
	ck_assert_uint_eq(rtnl_stats(rt)->bad, 0);
	rtnl_close(rt);
}
END_TEST

/* An address that somebody else has: tested, found taken, and left so; used before or not. */
START_TEST(addresses_that_are_taken)
{
	static const struct rtnl_ops	 ops = { .changed = changed_cb };
	bool				 early = _i == 1;
	struct rtnl			*again;
	int				 err = 0;

	ck_assert_int_eq(system("ip link add d0 type veth peer name d1 && ip link set d0 up && "
	    "ip link set d1 up && ip addr add 2001:db8::3/64 dev d1 nodad"), 0);
	rt = rtnl_open(loop, 2000, &ops, NULL, &err);
	ck_assert_msg(rt != NULL, "%s", strerror(-err));
	if (early && !be_optimistic())
		return;
	ip(early ? "addr add 2001:db8::3/64 dev d0 optimistic" : "addr add 2001:db8::3/64 dev d0");
	ck_assert(has("2001:db8::3"));
	/* wait until the test has failed, then take the other one away */
	for (int i = 0; i < 500 && system("ip -6 addr show dev d0 | grep -q dadfailed") != 0; i++)
		usleep(10000);
	ip("addr del 2001:db8::3/64 dev d1");
	ck_assert(own("2001:db8::3") && !has("2001:db8::3"));
	/* the same for one who comes later and reads it all */
	again = rt;
	rt = rtnl_open(loop, 2000, &ops, NULL, &err);
	ck_assert_msg(rt != NULL, "%s", strerror(-err));
	ck_assert(own("2001:db8::3") && !has("2001:db8::3"));
	rtnl_close(rt);
	rtnl_close(again);
}
END_TEST

/* One of two that differ in their prefix only goes: the other one is still there. */
START_TEST(the_same_address_twice)
{
	static const struct rtnl_ops	 ops = { .changed = changed_cb };
	int				 err = 0;

	rt = rtnl_open(loop, 2000, &ops, NULL, &err);
	ck_assert_ptr_nonnull(rt);
	ip("addr add 10.0.0.1/24 dev lo");
	ip("addr add 10.0.0.1/32 dev lo");
	ip("addr del 10.0.0.1/24 dev lo");
	ck_assert(own("10.0.0.1") && has("10.0.0.1"));
	ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev lo");
	ip("addr add 10.0.0.1 peer 10.0.0.3/32 dev lo");
	ip("addr del 10.0.0.1/32 dev lo");
	ip("addr del 10.0.0.1 peer 10.0.0.2/32 dev lo");
	ck_assert(own("10.0.0.1") && has("10.0.0.1") && !has("10.0.0.3"));
	ip("addr del 10.0.0.1 peer 10.0.0.3/32 dev lo");
	ck_assert(!own("10.0.0.1") && !has("10.0.0.1"));
	rtnl_close(rt);
}
END_TEST

START_TEST(lost_addresses_are_forgotten_in_time)
{
	static const struct rtnl_ops	 ops = { .changed = NULL };
	int				 err = 0;

	rt = rtnl_open(loop, 50, &ops, NULL, &err);
	ck_assert_ptr_nonnull(rt);
	ip("addr add 10.0.0.1/32 dev lo");
	ip("addr del 10.0.0.1/32 dev lo");
	usleep(60000);
	ck_assert(!lost("10.0.0.1"));
	rtnl_close(rt);
}
END_TEST

/* More changes than the socket holds: read again, and nothing is missing. */
START_TEST(address_overrun_is_made_good)
{
	static const struct rtnl_ops	 ops = { .changed = changed_cb };
	FILE				*f;
	int				 err = 0, i;

	rt = rtnl_open(loop, 1000, &ops, NULL, &err);
	ck_assert_ptr_nonnull(rt);
	f = popen("ip -batch -", "w");
	ck_assert_ptr_nonnull(f);
	for (i = 0; i < 4000; i++)
		fprintf(f, "addr add 10.%d.%d.1/32 dev lo\n", i / 250, i % 250);
	ck_assert_int_eq(pclose(f), 0);
	for (i = 0; i < 2000; i++)
		rtnl_poll(rt);
	ck_assert_uint_gt(rtnl_stats(rt)->overruns, 0);
	ck_assert_uint_eq(rtnl_stats(rt)->addresses, 4000);
	for (i = 0; i < 4000; i++) {
		char	 s[32];

		snprintf(s, sizeof(s), "10.%d.%d.1", i / 250, i % 250);
		ck_assert(own(s));
	}
	rtnl_close(rt);
}
END_TEST

static Suite *
make_suite(void)
{
	Suite	*s = suite_create("kct_kernel");
	TCase	*tc = tcase_create("kernel");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, own_writes_are_filtered);
	tcase_add_test(tc, deletes_of_one_entry);
	tcase_add_test(tc, others_changes_are_events);
	tcase_add_test(tc, empty_stamp_stands_while_events_wait);
	tcase_add_test(tc, overrun_is_reported_once_and_survived);
	tcase_add_test(tc, many_events_all_arrive);
	tcase_add_test(tc, created_flows_are_dumped_as_they_were);
	tcase_add_test(tc, dumps_can_be_filtered);
	tcase_add_test(tc, dumps_can_be_paced_and_cancelled);
	tcase_add_test(tc, samples_can_be_read_changed_and_deleted);
	tcase_add_test(tc, create_of_the_same_flow_updates_it);
	tcase_add_test(tc, other_flows_in_the_way_are_clashes);
	tcase_add_test(tc, results_belong_to_their_items);
	tcase_add_test(tc, last_second);
	tcase_add_test(tc, strict_clears_liberal);
	tcase_add_test(tc, relax_sets_liberal_and_nothing_else);
	tcase_add_test(tc, a_bare_key_is_enough_to_name_a_flow);
	tcase_add_test(tc, fixed_timeouts_can_be_committed_twice);
	tcase_add_test(tc, limits_hold_and_close_stops_in_the_middle);
	tcase_add_test(tc, an_empty_job_is_reported);
	tcase_add_test(tc, the_system_is_probed);
	tcase_add_test(tc, sysctls_are_watched);
	tcase_add_test(tc, sysctls_can_be_stuck);
	tcase_add_test(tc, unused_entries_have_counted_nothing);
	tcase_add_test(tc, packets_are_evidence);
	tcase_add_test(tc, addresses_are_followed);
	tcase_add_test(tc, usable_addresses);
	tcase_add_loop_test(tc, addresses_that_are_taken, 0, 2);
	tcase_add_test(tc, the_same_address_twice);
	tcase_add_test(tc, lost_addresses_are_forgotten_in_time);
	tcase_add_test(tc, address_overrun_is_made_good);
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
