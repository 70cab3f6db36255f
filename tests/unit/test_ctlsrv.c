/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control server against good, slow, rude and vanished clients.
 *
 * Server and clients live in one thread: a client writes and reads without
 * blocking, the loop turns in between, and every wait is for a condition with
 * a deadline.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/ctlsrv.h"
#include "ctsync/log.h"

#define FLOWS		1000000u
#define BODY		40u
#define STALL_MS	300
#define WAIT_MS		20000

static struct {
	struct ev_loop	*loop;
	struct ctlsrv	*srv;
	char		 dir[64], path[96];
	uint64_t	 held;
	uint64_t	 gone;		/* id that the gone callback named */
	unsigned	 produced;	/* frames asked for */
	unsigned	 done;		/* producers released */
} t;

struct producer {
	uint32_t	 next, end;
	unsigned	 idle;		/* turns that find nothing */
	int		 fail;
};

static ssize_t
more(void *ctx, uint8_t *buf, size_t cap, bool *end)
{
	struct producer	*p = ctx;
	uint8_t		 body[BODY] = { 0 };
	struct wbuf	 w;

	t.produced++;
	if (p->fail != 0)
		return p->fail;
	if (p->idle > 0) {
		p->idle--;
		return 0;
	}
	wbuf_init(&w, buf, cap);
	while (p->next < p->end && ctl_flow_put(&w, p->next, body, sizeof(body)))
		p->next++;
	*end = p->next == p->end;
	return (ssize_t)w.len;
}

static json_t *
result(void *ctx)
{
	struct producer	*p = ctx;

	return json_pack("{s:i}", "flows", (int)p->next);
}

static void
done(void *ctx)
{
	t.done++;
	free(ctx);
}

static const struct ctlsrv_producer	 producer = {
	.type = CTL_FLOWS, .more = more, .result = result, .done = done
};

static int
do_show(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	struct producer	*p = calloc(1, sizeof(*p));

	(void)ctx;
	p->end = (uint32_t)json_integer_value(json_object_get(args, "n"));
	p->idle = (unsigned)json_integer_value(json_object_get(args, "idle"));
	p->fail = (int)json_integer_value(json_object_get(args, "fail"));
	ctlsrv_stream(req, &producer, p);
	return 0;
}

static int
do_ping(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)ctx;
	(void)args;
	ctlsrv_reply(req, json_pack("{s:s}", "pong", "yes"));
	return 0;
}

static void
gone(void *ctx, uint64_t id)
{
	(void)ctx;
	t.gone = id;
	ck_assert_ptr_null(ctlsrv_find(t.srv, id));
}

static int
do_hold(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)args;
	t.held = ctlsrv_hold(req, gone, ctx);
	return 0;
}

static int
do_error(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)ctx;
	(void)req;
	(void)args;
	return -ENOSPC;
}

static int
do_mute(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	(void)ctx;
	(void)req;
	(void)args;
	return 0;
}

static int
do_text(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	static char	 text[65536];
	int		 n = 0;

	(void)ctx;
	(void)args;
	memset(text, 'x', sizeof(text));
	while (ctlsrv_text(req, text, sizeof(text)) == 0)
		n++;
	ctlsrv_reply(req, json_pack("{s:i}", "texts", n));
	return 0;
}

static int
do_long(void *ctx, struct ctlsrv_req *req, const json_t *args)
{
	char	*s = calloc(1, CTL_FRAME_MAX);

	(void)ctx;
	(void)args;
	memset(s, 'x', CTL_FRAME_MAX - 1);
	ctlsrv_reply(req, json_pack("{s:s}", "x", s));
	free(s);
	return 0;
}

static const struct ctlsrv_cmd	 cmds[] = {
	{ "ping", CTLSRV_RO, do_ping }, { "show", 0, do_show }, { "hold", 0, do_hold },
	{ "error", 0, do_error }, { "mute", 0, do_mute }, { "text", 0, do_text },
	{ "long", 0, do_long },
};

static void
start(const struct ctlsrv_conf *given)
{
	struct ctlsrv_conf	 conf = { .uid = geteuid(), .gid = CTLSRV_NO_GID,
				    .ro_gid = CTLSRV_NO_GID, .max_clients = 4,
				    .stall_ms = STALL_MS };

	memset(&t, 0, sizeof(t));
	log_init(LOG_EMERG);
	snprintf(t.dir, sizeof(t.dir), "/tmp/ctlsrv-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(t.dir));
	ck_assert_int_eq(chmod(t.dir, 0755), 0);
	snprintf(t.path, sizeof(t.path), "%s/s", t.dir);
	if (given != NULL)
		conf = *given;
	conf.path = t.path;
	t.loop = ev_loop_new(0);
	ck_assert_int_eq(ctlsrv_new(&t.srv, t.loop, &conf, cmds, sizeof(cmds) / sizeof(cmds[0]),
	    NULL), 0);
}

static void
stop(void)
{
	ctlsrv_free(t.srv);
	ev_loop_destroy(t.loop);
	ck_assert_int_eq(access(t.path, F_OK), -1);
	ck_assert_int_eq(rmdir(t.dir), 0);
}

static void
setup(void)
{
	start(NULL);
}

static struct ctlsrv_stats
stats(void)
{
	struct ctlsrv_stats	 st;

	ctlsrv_stats(t.srv, &st);
	return st;
}

/* Turn the loop until cond holds; fail the test if it does not. */
#define WAIT(cond) do {							\
	uint64_t wait_until_ = clock_mono_ms() + WAIT_MS;		\
	while (!(cond)) {						\
		ck_assert_msg(clock_mono_ms() < wait_until_, "%s", #cond);	\
		turn();							\
	}								\
} while (0)

static void
turn_cb(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

/* One turn of the loop, of at most 20 ms. */
static void
turn(void)
{
	ev_timer	 w;

	ev_timer_init(&w, turn_cb, 0.02, 0);
	ev_timer_start(t.loop, &w);
	ev_run(t.loop, EVRUN_ONCE);
	ev_timer_stop(t.loop, &w);
}

static int
client(void)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX };
	int			 fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, t.path, strlen(t.path));
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static void
put(int fd, const void *p, size_t len)
{
	ck_assert_int_eq(send(fd, p, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void
ask(int fd, const char *json)
{
	uint8_t	 hdr[CTL_HDR_BYTES];

	ctl_hdr_put(hdr, CTL_REQUEST, (uint32_t)strlen(json));
	put(fd, hdr, sizeof(hdr));
	put(fd, json, strlen(json));
}

/* What a client keeps of its answer. */
struct answer {
	uint8_t		 buf[CTL_FRAME_MAX + CTL_HDR_BYTES];
	size_t		 len;
	uint64_t	 flows;		/* that came in order */
	unsigned	 texts;
	json_t		*result;
	bool		 eof;
};

/* Read what is there, but no more than max bytes. */
static void
answer_read(int fd, struct answer *a, size_t max)
{
	struct ctl_frame	 f;
	struct rbuf		 r, body;
	uint32_t		 timeout;
	size_t			 need, room = sizeof(a->buf) - a->len;
	ssize_t			 n;

	n = recv(fd, a->buf + a->len, room < max ? room : max, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		a->eof = true;
	if (n <= 0)
		return;
	a->len += (size_t)n;
	rbuf_init(&r, a->buf, a->len);
	while (ctl_frame_next(&r, CTL_FRAME_MAX, &f, &need) == 1) {
		if (f.type == CTL_RESULT)
			a->result = json_loadb((const char *)f.payload.p, f.payload.len, 0, NULL);
		else if (f.type == CTL_TEXT)
			a->texts++;
		else if (f.type == CTL_FLOWS)
			while (ctl_flow_get(&f.payload, &timeout, &body) == 1) {
				if (timeout == a->flows && body.len == BODY)
					a->flows++;
			}
	}
	memmove(a->buf, r.p, r.len);
	a->len = r.len;
}

static bool
answered(int fd, struct answer *a)
{
	answer_read(fd, a, sizeof(a->buf));
	return a->result != NULL || a->eof;
}

/* The result of a request, a new reference; NULL if the server hung up. */
static json_t *
call(int fd, const char *json)
{
	struct answer	*a = calloc(1, sizeof(*a));
	json_t		*j;

	ask(fd, json);
	WAIT(answered(fd, a));
	j = a->result;
	free(a);
	return j;
}

static void
expect(json_t *j, bool ok, int code, const char *error)
{
	ck_assert_ptr_nonnull(j);
	ck_assert_int_eq(json_is_true(json_object_get(j, "ok")), ok);
	ck_assert_int_eq(json_integer_value(json_object_get(j, "exit")), code);
	if (error != NULL)
		ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(j, "error")), error));
	json_decref(j);
}

static bool
hung_up(int fd)
{
	uint8_t	 buf[4096];
	ssize_t	 n = recv(fd, buf, sizeof(buf), 0);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Others are still served. */
static void
expect_service(void)
{
	int	 fd = client();

	expect(call(fd, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
	close(fd);
	WAIT(stats().clients == 0);
}

START_TEST(requests_in_a_row)
{
	int	 fd = client(), i;

	for (i = 0; i < 3; i++)
		expect(call(fd, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
	expect(call(fd, "{\"proto\":1,\"cmd\":\"nonsense\"}"), false, 2, "nonsense");
	expect(call(fd, "{\"proto\":1,\"cmd\":\"error\"}"), false, 1, "error: No space");
	expect(call(fd, "{\"proto\":1,\"cmd\":\"mute\"}"), false, 1, "no answer");
	expect(call(fd, "{\"proto\":1,\"cmd\":\"long\"}"), false, 1, "too long");
	expect(call(fd, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
	ck_assert_uint_eq(stats().requests, 8);
	close(fd);
	expect_service();
}
END_TEST

START_TEST(request_in_pieces)
{
	static const char	 text[] = "{\"proto\":1,\"cmd\":\"ping\"}";
	struct answer		*a = calloc(1, sizeof(*a));
	uint8_t			 hdr[CTL_HDR_BYTES];
	size_t			 i;
	int			 fd = client();

	ctl_hdr_put(hdr, CTL_REQUEST, sizeof(text) - 1);
	for (i = 0; i < sizeof(hdr); i++) {
		put(fd, hdr + i, 1);
		turn();
	}
	for (i = 0; i < sizeof(text) - 1; i++) {
		put(fd, text + i, 1);
		ev_run(t.loop, EVRUN_NOWAIT);
	}
	WAIT(answered(fd, a));
	expect(a->result, true, 0, NULL);
	free(a);
	close(fd);
}
END_TEST

START_TEST(request_of_greatest_size)
{
	struct answer	*a = calloc(1, sizeof(*a));
	uint8_t		 hdr[CTL_HDR_BYTES];
	char		*text = malloc(CTL_REQUEST_MAX);
	size_t		 off = 0;
	ssize_t		 n;
	int		 fd = client();

	memset(text, ' ', CTL_REQUEST_MAX);
	memcpy(text, "{\"proto\":1,\"cmd\":\"ping\"}", 24);
	ctl_hdr_put(hdr, CTL_REQUEST, CTL_REQUEST_MAX);
	put(fd, hdr, sizeof(hdr));
	while (off < CTL_REQUEST_MAX) {
		n = send(fd, text + off, CTL_REQUEST_MAX - off, MSG_NOSIGNAL);
		if (n > 0)
			off += (size_t)n;
		turn();
	}
	WAIT(answered(fd, a));
	expect(a->result, true, 0, NULL);
	free(text);
	free(a);
	close(fd);
}
END_TEST

START_TEST(rubbish)
{
	static const struct {
		const char	*bytes;
		size_t		 len;
	} bad[] = {
		{ "GET / HTTP/1.0\r\n\r\n", 18 },		/* an unknown type */
		{ "\0\1\0\1\1", 5 },				/* longer than a request may be */
		{ "\377\377\377\377\1", 5 },
		{ "\0\0\0\1\5x", 6 },				/* a RESULT */
		{ "\0\0\0\1\1x", 6 },				/* no JSON */
		{ "\0\0\0\0\1", 5 },
		{ "\0\0\0\2\1[]", 7 },
		{ "\0\0\0\30\1{\"proto\":1,\"cmd\":\"ping\"}\0", 30 },	/* and the next one */
	};
	size_t		 i;
	int		 fd;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fd = client();
		put(fd, bad[i].bytes, bad[i].len);
		WAIT(hung_up(fd));
		close(fd);
		ck_assert_uint_eq(stats().rubbish, i + 1);
		ck_assert_uint_eq(stats().requests, i);
		expect_service();
	}
}
END_TEST

START_TEST(rubbish_is_told)
{
	struct answer	*a = calloc(1, sizeof(*a));
	int		 fd = client();

	put(fd, "\0\1\0\1\1", 5);
	WAIT(answered(fd, a));
	expect(a->result, false, 2, "64 KiB");
	WAIT(hung_up(fd));
	free(a);
	close(fd);
}
END_TEST

START_TEST(out_of_turn)
{
	int	 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"hold\"}");
	WAIT(t.held != 0);
	ask(fd, "{\"proto\":1,\"cmd\":\"ping\"}");
	WAIT(hung_up(fd));
	ck_assert_uint_eq(t.gone, t.held);
	close(fd);
	expect_service();
}
END_TEST

START_TEST(idle_and_half_request_are_dropped)
{
	int	 idle = client(), half = client();

	put(half, "\0\0\0\50\1{", 6);
	WAIT(stats().clients == 2);
	WAIT(hung_up(idle) && hung_up(half));
	ck_assert_uint_eq(stats().stalled, 2);
	close(idle);
	close(half);
	expect_service();
}
END_TEST

/* A byte now and then is no progress: the request has to come in time. */
START_TEST(dripping_request_is_dropped)
{
	uint64_t	 start_ms = clock_mono_ms(), last_ms = 0;
	int		 fd = client();

	put(fd, "\0\0\1\0\1", 5);
	while (!hung_up(fd)) {
		ck_assert_uint_lt(clock_mono_ms() - start_ms, WAIT_MS);
		if (clock_mono_ms() - last_ms > STALL_MS / 5) {
			last_ms = clock_mono_ms();
			if (send(fd, " ", 1, MSG_NOSIGNAL) < 0)
				break;
		}
		turn();
	}
	ck_assert_uint_lt(clock_mono_ms() - start_ms, 10 * STALL_MS);
	close(fd);
	expect_service();
}
END_TEST

START_TEST(held_and_answered)
{
	struct answer	*a = calloc(1, sizeof(*a));
	uint64_t	 until;
	int		 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"hold\"}");
	WAIT(t.held != 0);
	/* The daemon may take longer than a client may stall. */
	until = clock_mono_ms() + 2 * STALL_MS;
	WAIT(clock_mono_ms() > until);
	ck_assert_ptr_nonnull(ctlsrv_find(t.srv, t.held));
	ctlsrv_reply(ctlsrv_find(t.srv, t.held), json_pack("{s:i}", "n", 7));
	ck_assert_ptr_null(ctlsrv_find(t.srv, t.held));
	WAIT(answered(fd, a));
	ck_assert_int_eq(json_integer_value(json_object_get(a->result, "n")), 7);
	expect(a->result, true, 0, NULL);
	expect(call(fd, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
	ck_assert_uint_eq(t.gone, 0);
	free(a);
	close(fd);
}
END_TEST

START_TEST(held_and_gone)
{
	int	 fd = client(), other;

	ask(fd, "{\"proto\":1,\"cmd\":\"hold\"}");
	WAIT(t.held != 0);
	close(fd);
	WAIT(t.gone == t.held);
	/* Nobody else is taken for the one that went. */
	other = client();
	expect(call(other, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
	ck_assert_ptr_null(ctlsrv_find(t.srv, t.held));
	ck_assert_ptr_null(ctlsrv_find(t.srv, 0));
	close(other);
}
END_TEST

/* Memory that this process has in use. */
static size_t
rss_kib(void)
{
	FILE	*f = fopen("/proc/self/status", "r");
	char	 line[128];
	size_t	 kib = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "VmRSS: %zu kB", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kib;
}

START_TEST(million_flows)
{
	struct answer	*a = calloc(1, sizeof(*a));
	size_t		 before, most = 0, now;
	int		 fd = client(), other = -1;

	memset(a->buf, 0, sizeof(a->buf));
	before = rss_kib();
	ask(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":1000000}");
	while (a->result == NULL) {
		answer_read(fd, a, 100000);
		ck_assert(!a->eof);
		now = rss_kib();
		most = now > most ? now : most;
		turn();
		/* Meanwhile others get their answers. */
		if (a->flows > FLOWS / 2 && other < 0) {
			other = client();
			expect(call(other, "{\"proto\":1,\"cmd\":\"ping\"}"), true, 0, NULL);
			close(other);
			ck_assert_ptr_null(a->result);
		}
	}
	ck_assert_uint_eq(a->flows, FLOWS);
	ck_assert_int_eq(json_integer_value(json_object_get(a->result, "flows")), FLOWS);
	expect(a->result, true, 0, NULL);
	ck_assert_uint_eq(t.done, 1);
	/* The answer has 44 MiB. */
	ck_assert_uint_lt(most - before, 8192);
	free(a);
	close(fd);
}
END_TEST

START_TEST(stream_only_when_drained)
{
	uint64_t	 until = clock_mono_ms() + STALL_MS / 2;
	int		 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":1000000}");
	WAIT(clock_mono_ms() > until);
	/* What fits into the kernel's buffer, and one frame. */
	ck_assert_uint_gt(t.produced, 0);
	ck_assert_uint_lt(t.produced, 12);
	/* It takes nothing: dropped, and its producer released. */
	WAIT(t.done == 1);
	ck_assert_uint_eq(stats().stalled, 1);
	close(fd);
	expect_service();
}
END_TEST

START_TEST(slow_reader_is_served)
{
	struct answer	*a = calloc(1, sizeof(*a));
	uint64_t	 start_ms = clock_mono_ms(), next = 0;
	int		 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":50000}");
	while (a->result == NULL) {
		ck_assert_uint_lt(clock_mono_ms() - start_ms, WAIT_MS);
		if (clock_mono_ms() > next) {
			answer_read(fd, a, 150000);
			next = clock_mono_ms() + STALL_MS / 4;
		}
		ck_assert(!a->eof);
		turn();
	}
	ck_assert_uint_gt(clock_mono_ms() - start_ms, STALL_MS);
	ck_assert_uint_eq(a->flows, 50000);
	expect(a->result, true, 0, NULL);
	free(a);
	close(fd);
}
END_TEST

START_TEST(gone_in_mid_stream)
{
	struct answer	*a = calloc(1, sizeof(*a));
	int		 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":1000000}");
	WAIT((answer_read(fd, a, sizeof(a->buf)), a->flows > 1000));
	ck_assert_uint_eq(t.done, 0);
	close(fd);
	WAIT(t.done == 1 && stats().clients == 0);
	free(a);
	expect_service();
}
END_TEST

START_TEST(producer_finds_nothing_or_fails)
{
	int	 fd = client();

	expect(call(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":0,\"idle\":100}"), true, 0, NULL);
	ck_assert_uint_eq(t.produced, 101);
	expect(call(fd, "{\"proto\":1,\"cmd\":\"show\",\"n\":9,\"fail\":-5}"), false, 1,
	    "Input/output");
	ck_assert_uint_eq(t.done, 2);
	close(fd);
}
END_TEST

START_TEST(text_is_bounded)
{
	struct answer	*a = calloc(1, sizeof(*a));
	int		 fd = client();

	ask(fd, "{\"proto\":1,\"cmd\":\"text\"}");
	WAIT(answered(fd, a));
	ck_assert_int_eq((int)a->texts,
	    (int)json_integer_value(json_object_get(a->result, "texts")));
	ck_assert_uint_gt(a->texts, 0);
	ck_assert_uint_lt(a->texts, 4);
	expect(a->result, true, 0, NULL);
	free(a);
	close(fd);
}
END_TEST

START_TEST(too_many_clients)
{
	struct answer	*a = calloc(1, sizeof(*a));
	int		 fd[5], i;

	for (i = 0; i < 4; i++)
		fd[i] = client();
	WAIT(stats().clients == 4);
	fd[4] = client();
	WAIT(answered(fd[4], a));
	expect(a->result, false, 3, "too many");
	WAIT(hung_up(fd[4]));
	ck_assert_uint_eq(stats().busy, 1);
	for (i = 0; i < 5; i++)
		close(fd[i]);
	WAIT(stats().clients == 0);
	free(a);
	expect_service();
}
END_TEST

START_TEST(clients_at_the_end)
{
	int	 held = client(), stream = client(), idle = client();

	ask(held, "{\"proto\":1,\"cmd\":\"hold\"}");
	ask(stream, "{\"proto\":1,\"cmd\":\"show\",\"n\":1000000}");
	WAIT(t.held != 0 && t.produced > 0 && stats().clients == 3);
	/* The teardown frees the server with all of them. */
	ck_assert_int_ge(idle, 0);
}
END_TEST

/* As another user, with a group: the exit code and error of "ping" and "show". */
static void
ask_as(uid_t uid, gid_t gid, gid_t extra, const char *cmd, int code)
{
	struct answer	*a;
	char		 text[128];
	pid_t		 pid = fork();
	uint64_t	 until = clock_mono_ms() + WAIT_MS;
	int		 fd, status;

	if (pid == 0) {
		if (setgroups(extra != CTLSRV_NO_GID, &extra) < 0 || setgid(gid) < 0 ||
		    setuid(uid) < 0)
			_exit(99);
		a = calloc(1, sizeof(*a));
		fd = client();
		snprintf(text, sizeof(text), "{\"proto\":1,\"cmd\":\"%s\"}", cmd);
		(void)fcntl(fd, F_SETFL, 0);
		/* A refusal may be there before the question. */
		if (send(fd, text, 0, MSG_NOSIGNAL) == 0) {
			uint8_t	 hdr[CTL_HDR_BYTES];

			ctl_hdr_put(hdr, CTL_REQUEST, (uint32_t)strlen(text));
			(void)!send(fd, hdr, sizeof(hdr), MSG_NOSIGNAL);
			(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
		}
		while (!a->eof && a->result == NULL)
			answer_read(fd, a, sizeof(a->buf));
		_exit(a->result == NULL ? 98 :
		    (int)json_integer_value(json_object_get(a->result, "exit")));
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		ck_assert_uint_lt(clock_mono_ms(), until);
		turn();
	}
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), code);
}

START_TEST(rights)
{
	struct ctlsrv_conf	 conf = { .uid = 4001, .gid = 4002, .ro_gid = 4003 };
	struct stat		 st;

	if (geteuid() != 0)
		return;			/* only root can play the others */
	stop();
	start(&conf);
	ck_assert_int_eq(stat(t.path, &st), 0);
	ck_assert_uint_eq(st.st_gid, 4002);
	ck_assert_uint_eq(st.st_mode & 0777, 0666);
	ask_as(0, 0, CTLSRV_NO_GID, "error", 1);
	ask_as(4001, 4009, CTLSRV_NO_GID, "error", 1);		/* the daemon's user */
	ask_as(4008, 4002, CTLSRV_NO_GID, "error", 1);		/* the group, as the first one */
	ask_as(4008, 4009, 4002, "error", 1);			/* or another one */
	ask_as(4008, 4009, 4003, "ping", 0);			/* read-only */
	ask_as(4008, 4009, 4003, "error", 3);
	ask_as(4008, 4009, CTLSRV_NO_GID, "ping", 3);		/* nobody */
	ask_as(4008, 4009, 4004, "ping", 3);
	ck_assert_uint_eq(stats().denied, 3);
}
END_TEST

START_TEST(places)
{
	struct ctlsrv_conf	 conf = { .path = t.path, .gid = CTLSRV_NO_GID,
				    .ro_gid = CTLSRV_NO_GID };
	struct ctlsrv		*srv = NULL;
	struct stat		 a, b;
	char			 path[160];
	int			 fd;

	ck_assert_int_eq(stat(t.path, &a), 0);
	ck_assert_uint_eq(a.st_mode & 0777, 0660);
	/* What is there is taken to be stale. */
	ck_assert_int_eq(ctlsrv_new(&srv, t.loop, &conf, cmds, 1, NULL), 0);
	ck_assert_int_eq(stat(t.path, &b), 0);
	ck_assert(a.st_ino != b.st_ino);
	ctlsrv_free(srv);
	fd = open(t.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(ctlsrv_new(&srv, t.loop, &conf, cmds, 1, NULL), -EEXIST);
	close(fd);
	conf.path = "/nonexistent/dir/s";
	ck_assert_int_eq(ctlsrv_new(&srv, t.loop, &conf, cmds, 1, NULL), -ENOENT);
	snprintf(path, sizeof(path), "/tmp/%0120d", 1);
	conf.path = path;
	ck_assert_int_eq(ctlsrv_new(&srv, t.loop, &conf, cmds, 1, NULL), -ENAMETOOLONG);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("ctlsrv");
	TCase	*tc = tcase_create("all");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, stop);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, requests_in_a_row);
	tcase_add_test(tc, request_in_pieces);
	tcase_add_test(tc, request_of_greatest_size);
	tcase_add_test(tc, rubbish);
	tcase_add_test(tc, rubbish_is_told);
	tcase_add_test(tc, out_of_turn);
	tcase_add_test(tc, idle_and_half_request_are_dropped);
	tcase_add_test(tc, dripping_request_is_dropped);
	tcase_add_test(tc, held_and_answered);
	tcase_add_test(tc, held_and_gone);
	tcase_add_test(tc, million_flows);
	tcase_add_test(tc, stream_only_when_drained);
	tcase_add_test(tc, slow_reader_is_served);
	tcase_add_test(tc, gone_in_mid_stream);
	tcase_add_test(tc, producer_finds_nothing_or_fails);
	tcase_add_test(tc, text_is_bounded);
	tcase_add_test(tc, too_many_clients);
	tcase_add_test(tc, clients_at_the_end);
	tcase_add_test(tc, rights);
	tcase_add_test(tc, places);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
