/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One TCP connection of the traffic program, the same code on both ends.
 *
 * Both directions carry frames: 16 bytes of header (magic, type, length,
 * number) and a payload.  DATA frames have a fixed size per connection, their
 * number counts up from 0 and their payload is the pattern, so that any byte
 * of the endless data stream can be generated from its position: nothing is
 * buffered for sending, and each byte that arrives is checked.  A control
 * frame (HELLO, ACCEPT, END, REPORT) goes out only between two data frames.
 * An idle connection sends one frame now and then, and the server answers each
 * with one.
 *
 *   client            server
 *   HELLO   ------>           what to do: kind, rate, sizes
 *           <------   ACCEPT
 *   DATA... <----->   DATA...
 *   END     ------>           number = payload bytes that the client sent
 *           <------   REPORT  what the server received and sent
 *
 * Progress in the sending direction is what the other end's TCP acknowledged
 * (bytes written minus SIOCOUTQ), not what the local socket swallowed.
 */
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define FRAME_MAGIC	0xc71au
#define HELLO_BYTES	40u
#define REPORT_BYTES	24u
#define READ_ROUNDS	4	/* reads per wake-up, so that one stream cannot starve the rest */
#define MAX_CHUNK	32768u

enum frame_type {
	FRAME_DATA = 1,
	FRAME_HELLO,
	FRAME_ACCEPT,
	FRAME_END,
	FRAME_REPORT
};

static void
put_header(uint8_t *p, enum frame_type type, size_t len, uint64_t number)
{
	put_u16(p, FRAME_MAGIC);
	p[2] = (uint8_t)type;
	p[3] = 0;
	put_u32(p + 4, (uint32_t)len);
	put_u64(p + 8, number);
}

static void
stream_close(struct stream *s, enum stream_state state)
{
	if (s->src.fd >= 0)
		close(s->src.fd);
	s->src.fd = -1;
	s->state = state;
	s->ended_us = s->host->loop->now_us;
	s->host->changed(s);
}

void
stream_fail(struct stream *s, enum failure why)
{
	if (s->state == ST_DONE || s->state == ST_FAILED)
		return;
	s->failure = why;
	stream_close(s, ST_FAILED);
}

static void
stream_error(struct stream *s, int error)
{
	s->error = error;
	if (s->state == ST_CONNECTING)
		stream_fail(s, error == ECONNREFUSED ? FAIL_RESET : FAIL_CONNECT);
	else if (error == ECONNRESET || error == EPIPE || error == ECONNREFUSED)
		stream_fail(s, FAIL_RESET);
	else
		stream_fail(s, FAIL_TIMEOUT);
}

/* Result: bytes taken by the socket, 0 if it is full, negative if the stream died. */
static ssize_t
stream_write(struct stream *s, const uint8_t *buf, size_t len)
{
	ssize_t n = send(s->src.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		stream_error(s, errno);
		return -1;
	}
	s->tx_written += (uint64_t)n;
	return n;
}

static void
queue_ctl(struct stream *s, enum frame_type type, const uint8_t *body, size_t len, uint64_t number)
{
	put_header(s->ctl, type, len, number);
	if (len > 0)
		memcpy(s->ctl + FRAME_HEADER, body, len);
	s->ctl_len = FRAME_HEADER + len;
	s->ctl_off = 0;
}

/* True if no control frame is left. */
static bool
flush_ctl(struct stream *s)
{
	ssize_t n;

	if (s->ctl_off == s->ctl_len)
		return true;
	n = stream_write(s, s->ctl + s->ctl_off, s->ctl_len - s->ctl_off);
	if (n <= 0)
		return false;
	s->ctl_off += (size_t)n;
	return s->ctl_off == s->ctl_len;
}

static uint64_t
frame_bytes(const struct stream *s)
{
	return (uint64_t)s->p.chunk + FRAME_HEADER;
}

uint64_t
stream_tx_payload(const struct stream *s)
{
	uint64_t in_frame = s->tx_pos % frame_bytes(s);

	return s->tx_pos / frame_bytes(s) * s->p.chunk +
	    (in_frame > FRAME_HEADER ? in_frame - FRAME_HEADER : 0);
}

/* Bytes [tx_pos, tx_pos + len) of the data stream. */
static void
generate(const struct stream *s, uint8_t *buf, size_t len)
{
	uint64_t pos = s->tx_pos, frame, in_frame;
	uint8_t head[FRAME_HEADER];
	size_t n;

	while (len > 0) {
		frame = pos / frame_bytes(s);
		in_frame = pos % frame_bytes(s);
		if (in_frame < FRAME_HEADER) {
			put_header(head, FRAME_DATA, s->p.chunk, frame);
			n = FRAME_HEADER - (size_t)in_frame;
			n = n < len ? n : len;
			memcpy(buf, head + in_frame, n);
		} else {
			n = (size_t)(frame_bytes(s) - in_frame);
			n = n < len ? n : len;
			pattern_fill(s->tx_seed, frame * s->p.chunk + in_frame - FRAME_HEADER, buf, n);
		}
		buf += n;
		pos += n;
		len -= n;
	}
}

/* Send up to n bytes of data; false if the socket is full or dead. */
static bool
send_data(struct stream *s, uint64_t n)
{
	size_t want;
	ssize_t sent;

	while (n > 0) {
		want = n < SCRATCH_BYTES ? (size_t)n : SCRATCH_BYTES;
		generate(s, s->host->scratch, want);
		sent = stream_write(s, s->host->scratch, want);
		if (sent <= 0)
			return false;
		s->tx_pos += (uint64_t)sent;
		n -= (uint64_t)sent;
	}
	return true;
}

static void
send_report(struct stream *s)
{
	uint8_t body[REPORT_BYTES];

	put_u64(body, s->rx_bytes);
	put_u64(body + 8, s->corrupt);
	put_u64(body + 16, stream_tx_payload(s));
	queue_ctl(s, FRAME_REPORT, body, sizeof(body), 0);
}

/* Finish the frame, then say that this was all. */
static void
send_end(struct stream *s)
{
	uint64_t in_frame = s->tx_pos % frame_bytes(s);

	if (in_frame != 0 && !send_data(s, frame_bytes(s) - in_frame))
		return;
	s->end_wanted = false;
	s->sends = false;
	if (s->server)
		send_report(s);
	else
		queue_ctl(s, FRAME_END, NULL, 0, stream_tx_payload(s));
	s->state = ST_CLOSING;
	flush_ctl(s);
}

/* What rate and window allow now. */
static uint64_t
allowance(struct stream *s, uint64_t now, uint64_t unacked)
{
	uint64_t room = unacked < s->p.window ? s->p.window - unacked : 0;
	uint64_t limit = (uint64_t)s->p.window * US_PER_S, n;

	if (s->p.rate == 0)
		return room;
	s->credit += s->p.rate * (now - s->credit_us);
	s->credit_us = now;
	if (s->credit > limit)
		s->credit = limit;
	n = s->credit / US_PER_S;
	n = n < room ? n : room;
	s->credit -= n * US_PER_S;
	return n;
}

/* One frame from the client when the one before was answered; from the server one for each. */
static void
idle_turn(struct stream *s, uint64_t now)
{
	uint64_t owed = s->rx_frames * frame_bytes(s);

	if (!s->server) {
		if (s->tx_pos <= owed)
			s->out.last_us = now;	/* until the answer: see take_body() */
		owed += frame_bytes(s);
	}
	if (owed > s->tx_pos)
		send_data(s, owed - s->tx_pos);
}

void
stream_tick(struct stream *s, uint64_t now)
{
	uint64_t acked;
	int queued = 0;

	if (now < s->due_us || s->state < ST_HELLO || s->state > ST_CLOSING)
		return;
	s->due_us = now + (uint64_t)s->p.interval_ms * 1000;
	if (ioctl(s->src.fd, SIOCOUTQ, &queued) != 0)
		queued = 0;
	acked = s->tx_written - (uint64_t)queued;
	if (acked > s->tx_acked) {
		s->tx_acked = acked;
		if (s->p.kind != KIND_IDLE)
			progress_note(&s->out, now);
	}
	/* A control frame that is half out must not have data in its middle. */
	if (!flush_ctl(s) || s->state == ST_HELLO)
		return;
	if (s->end_wanted)
		send_end(s);
	else if (s->sends && s->p.kind == KIND_IDLE)
		idle_turn(s, now);
	else if (s->sends)
		send_data(s, allowance(s, now, (uint64_t)queued));
}

void
stream_end(struct stream *s)
{
	if (s->state != ST_RUN)
		return;
	s->end_wanted = true;
	s->due_us = 0;
}

bool
stream_alive(const struct stream *s, uint64_t since_us)
{
	if (s->state != ST_RUN && s->state != ST_CLOSING)
		return s->state == ST_DONE;
	if (s->receives && s->in.last_us <= since_us)
		return false;
	if (s->p.kind == KIND_IDLE)	/* an answer has gone both ways */
		return true;
	return !s->sends || s->out.last_us > since_us;
}

void
stream_speak(struct stream *s)
{
	if (s->p.kind == KIND_IDLE)
		s->due_us = 0;
}

uint64_t
stream_pause(const struct stream *s)
{
	uint64_t pause = 0;

	if (s->receives && s->p.kind != KIND_IDLE)
		pause = s->in.longest_us;
	if (s->p.kind != KIND_DOWNLOAD && s->out.longest_us > pause)
		pause = s->out.longest_us;
	return pause;
}

/* ---- receiving -------------------------------------------------------- */

static void
start_running(struct stream *s)
{
	uint64_t now = s->host->loop->now_us;

	s->state = ST_RUN;
	s->running_us = now;
	s->credit_us = now;
	/* Spread the turns, or all streams of a program would write in the same tick. */
	s->due_us = now;
	if (s->p.kind != KIND_IDLE)
		s->due_us += random_u64() % ((uint64_t)s->p.interval_ms * 1000 + 1);
	s->host->changed(s);
}

static bool
accept_hello(struct stream *s)
{
	struct stream_params p = {
		.run = get_u64(s->body), .id = get_u64(s->body + 8),
		.rate = get_u32(s->body + 16), .window = get_u32(s->body + 20),
		.chunk = get_u32(s->body + 24), .interval_ms = get_u32(s->body + 28),
		.kind = (enum kind)s->body[32],
	};

	if (p.chunk == 0 || p.chunk > MAX_CHUNK || p.kind > KIND_IDLE)
		return false;
	stream_set_params(s, &p);
	queue_ctl(s, FRAME_ACCEPT, NULL, 0, 0);
	flush_ctl(s);
	if (s->state == ST_HELLO)
		start_running(s);
	return true;
}

static void
finish(struct stream *s)
{
	uint64_t received = get_u64(s->body), corrupt = get_u64(s->body + 8);

	s->corrupt += corrupt;
	/* Both ends must agree on how much there was, or bytes went missing unseen. */
	if (received != stream_tx_payload(s) || get_u64(s->body + 16) != s->rx_bytes)
		s->corrupt++;
	stream_close(s, ST_DONE);
}

/* A whole control frame has arrived; false if it makes no sense here. */
static bool
take_ctl(struct stream *s)
{
	switch (s->body_type) {
	case FRAME_HELLO:
		return s->server && s->state == ST_HELLO && s->body_off == HELLO_BYTES && accept_hello(s);
	case FRAME_ACCEPT:
		if (s->server || s->state != ST_HELLO)
			return false;
		start_running(s);
		return true;
	case FRAME_END:
		if (!s->server || s->state != ST_RUN)
			return false;
		s->end_wanted = true;
		send_end(s);
		return true;
	case FRAME_REPORT:
		if (s->server || s->state != ST_CLOSING || s->body_off != REPORT_BYTES)
			return false;
		finish(s);
		return true;
	default:
		return false;
	}
}

static bool
take_header(struct stream *s)
{
	uint32_t len = get_u32(s->head + 4);

	s->head_len = 0;
	s->body_type = s->head[2];
	s->body_left = len;
	s->body_off = 0;
	if (get_u16(s->head) != FRAME_MAGIC)
		return false;
	if (s->body_type == FRAME_DATA) {
		if (!s->receives || len != s->p.chunk || get_u64(s->head + 8) != s->rx_frames)
			return false;
		return true;
	}
	if (len > sizeof(s->body))
		return false;
	return len > 0 || take_ctl(s);
}

static bool
take_body(struct stream *s, const uint8_t *buf, size_t n)
{
	if (s->body_type == FRAME_DATA) {
		s->corrupt += pattern_diff(s->rx_seed, s->rx_bytes, buf, n);
		s->rx_bytes += n;
	} else {
		memcpy(s->body + s->body_off, buf, n);
	}
	s->body_off += (uint32_t)n;
	s->body_left -= (uint32_t)n;
	if (s->body_left > 0)
		return true;
	if (s->body_type != FRAME_DATA)
		return take_ctl(s);
	s->rx_frames++;
	if (s->p.kind == KIND_IDLE && s->server)
		s->due_us = 0;
	else if (s->p.kind == KIND_IDLE)
		progress_note(&s->out, s->host->loop->now_us);
	return true;
}

/* False: the framing is lost. */
static bool
parse(struct stream *s, const uint8_t *buf, size_t len)
{
	size_t n;

	while (len > 0 && s->src.fd >= 0) {
		if (s->body_left > 0) {
			n = s->body_left < len ? s->body_left : len;
			if (!take_body(s, buf, n))
				return false;
		} else {
			n = FRAME_HEADER - s->head_len;
			n = n < len ? n : len;
			memcpy(s->head + s->head_len, buf, n);
			s->head_len += n;
			if (s->head_len == FRAME_HEADER && !take_header(s))
				return false;
		}
		buf += n;
		len -= n;
	}
	return true;
}

static void
stream_read(struct stream *s)
{
	/* The upper half: parse() may answer, and generate() uses the lower one. */
	uint8_t *buf = s->host->scratch + SCRATCH_BYTES;
	ssize_t n;
	int round;

	for (round = 0; round < READ_ROUNDS && s->src.fd >= 0; round++) {
		n = recv(s->src.fd, buf, SCRATCH_BYTES, MSG_DONTWAIT);
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR)
				stream_error(s, errno);
			return;
		}
		if (n == 0) {
			/* The client closes when it has the report: that is how it should end. */
			if (s->server && s->state == ST_CLOSING)
				stream_close(s, ST_DONE);
			else
				stream_fail(s, FAIL_CLOSED);
			return;
		}
		s->rx_raw += (uint64_t)n;
		progress_note(&s->in, s->host->loop->now_us);
		if (!parse(s, buf, (size_t)n)) {
			s->corrupt++;
			stream_fail(s, FAIL_CORRUPT);
			return;
		}
		if (n < (ssize_t)SCRATCH_BYTES)
			return;
	}
}

static void
send_hello(struct stream *s)
{
	uint8_t body[HELLO_BYTES] = { 0 };

	put_u64(body, s->p.run);
	put_u64(body + 8, s->p.id);
	put_u32(body + 16, s->p.rate);
	put_u32(body + 20, s->p.window);
	put_u32(body + 24, s->p.chunk);
	put_u32(body + 28, s->p.interval_ms);
	body[32] = (uint8_t)s->p.kind;
	queue_ctl(s, FRAME_HELLO, body, sizeof(body), 0);
	s->state = ST_HELLO;
	flush_ctl(s);
}

static void
connected(struct stream *s)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(s->src.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error == 0 && loop_mod(s->host->loop, &s->src, EPOLLIN) != 0)
		error = EIO;
	if (error != 0)
		stream_error(s, error);
	else
		send_hello(s);
}

void
stream_ready(struct source *src, uint32_t events)
{
	struct stream *s = (struct stream *)(void *)((char *)src - offsetof(struct stream, src));

	if (s->state == ST_CONNECTING)
		connected(s);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		stream_read(s);
}

void
stream_set_params(struct stream *s, const struct stream_params *p)
{
	bool down = p->kind != KIND_UPLOAD;
	bool up = p->kind != KIND_DOWNLOAD;

	s->p = *p;
	s->sends = s->server ? down : up;
	s->receives = s->server ? up : down;
	s->tx_seed = pattern_seed(p->run, p->id, s->server);
	s->rx_seed = pattern_seed(p->run, p->id, !s->server);
}

static void
stream_init(struct stream *s, struct stream_host *host, int fd, enum stream_state state)
{
	memset(s, 0, sizeof(*s));
	s->src.fd = fd;
	s->src.ready = stream_ready;
	s->host = host;
	s->state = state;
	s->p.chunk = 1;		/* until the hello; keeps frame_bytes() meaningful */
}

void
stream_init_client(struct stream *s, struct stream_host *host, int fd, const struct stream_params *p)
{
	stream_init(s, host, fd, ST_CONNECTING);
	stream_set_params(s, p);
}

void
stream_init_server(struct stream *s, struct stream_host *host, int fd)
{
	stream_init(s, host, fd, ST_HELLO);
	s->server = true;
}
