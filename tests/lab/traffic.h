/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The traffic program of the lab: what its parts share.
 *
 * traffic.c         options, main loop, program entry
 * traffic_wire.c    clock, endpoints, byte pattern, big-endian fields
 * traffic_stream.c  one TCP connection, the same code on both ends
 * traffic_dgram.c   UDP streams, both ends
 * traffic_ping.c    ICMP and ICMPv6 echo
 * traffic_client.c  opens everything, watches it, closes it, judges it
 * traffic_server.c  accepts and answers
 * traffic_report.c  JSON
 *
 * One process, one thread, one epoll loop with a tick of TICK_US.  Sending is
 * driven by ticks alone, receiving by epoll, so that no connection ever needs
 * a timer of its own.
 */
#ifndef CTLAB_TRAFFIC_H
#define CTLAB_TRAFFIC_H

#include <sys/socket.h>

#include <netinet/in.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TICK_US		10000u
#define SCRATCH_BYTES	65536u
#define MAX_ENDPOINTS	256u
#define US_PER_S	1000000u

/* ---- loop ------------------------------------------------------------- */

/* Embedded in whatever owns the descriptor; the callback gets it back. */
struct source {
	int fd;
	void (*ready)(struct source *src, uint32_t events);
};

struct loop {
	int epoll_fd;
	struct source signals;
	unsigned int stop_signals;	/* SIGINT and SIGTERM seen so far */
	unsigned int mark_signals;	/* SIGUSR1 seen so far */
	uint64_t now_us;		/* time of this turn of the loop */
};

int loop_init(struct loop *loop);
void loop_fini(struct loop *loop);
int loop_add(struct loop *loop, struct source *src, uint32_t events);
int loop_mod(struct loop *loop, struct source *src, uint32_t events);
/* Calls tick every TICK_US until it returns false; 0 or -errno. */
int loop_run(struct loop *loop, bool (*tick)(void *ctx), void *ctx);

/* ---- options ---------------------------------------------------------- */

/* One address and port; `group` is the index of the option that named it. */
struct endpoint {
	struct sockaddr_storage addr;
	socklen_t len;
	size_t group;
};

enum kind {
	KIND_DOWNLOAD,
	KIND_UPLOAD,
	KIND_MESSAGES,
	KIND_IDLE,			/* a message and its answer now and then */
	KIND_UDP,
	KIND_PING,
	KIND_COUNT
};

struct options {
	bool server;
	struct endpoint endpoints[MAX_ENDPOINTS];
	size_t n_endpoints;
	const char *specs[MAX_ENDPOINTS];	/* as typed, by group */
	size_t n_specs;
	size_t count[KIND_COUNT];
	uint32_t rate;			/* bytes/s, each connection and direction; 0: no limit */
	uint32_t window;		/* unacknowledged bytes that a sender allows itself */
	uint32_t chunk;			/* payload of a bulk frame */
	uint32_t message;		/* payload of a numbered message */
	uint32_t interval_ms;		/* between two writes of a connection */
	uint32_t idle_ms;		/* between two messages of an idle one, on average */
	uint32_t open_rate;		/* connections opened each second from ready on */
	uint32_t open_max;		/* in all */
	uint32_t lifetime_ms;		/* of those, on average; 0: until the stop */
	uint32_t packet_ms;		/* between two datagrams or pings of a stream */
	uint32_t packet_bytes;		/* payload of a datagram */
	uint32_t duration_s;		/* counted from "ready"; 0: until a signal */
	uint32_t connect_s;		/* time to establish everything */
	uint32_t grace_s;		/* time to show life and to close, at the end */
	const char *ready_file;
	const char *status_file;
	const char *record_file;
	bool progress;			/* live line on stderr */
};

/* ---- wire ------------------------------------------------------------- */

uint64_t now_us(void);
uint64_t random_u64(void);
/* Parse ADDR:PORT[-PORT] or [ADDR6]:PORT[-PORT] and append; false if wrong or too many. */
bool endpoints_add(struct options *o, const char *spec);
bool sockaddr_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
/* Atomic replacement, so that a script never sees half a file; 0 or -errno. */
int file_replace(const char *path, const char *text);

void put_u16(uint8_t *p, uint16_t v);
void put_u32(uint8_t *p, uint32_t v);
void put_u64(uint8_t *p, uint64_t v);
uint16_t get_u16(const uint8_t *p);
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);

/* The pattern: every byte is a function of the seed and of its offset. */
uint64_t pattern_seed(uint64_t run, uint64_t id, bool from_server);
void pattern_fill(uint64_t seed, uint64_t offset, uint8_t *buf, size_t len);
/* Number of bytes that differ from the pattern. */
size_t pattern_diff(uint64_t seed, uint64_t offset, const uint8_t *buf, size_t len);

/* ---- progress --------------------------------------------------------- */

/* When something last went forward in one direction, and the longest gap. */
struct progress {
	uint64_t last_us;		/* 0: never */
	uint64_t longest_us;
};

void progress_note(struct progress *p, uint64_t now);
/* Forget the gaps of the start-up phase. */
void progress_restart(struct progress *p, uint64_t now);

/* ---- TCP streams ------------------------------------------------------ */

enum stream_state {
	ST_IDLE,
	ST_CONNECTING,
	ST_HELLO,		/* hello sent or awaited */
	ST_RUN,
	ST_CLOSING,		/* client: END sent, report awaited; server: report sent */
	ST_DONE,
	ST_FAILED
};

enum failure {
	FAIL_NONE,
	FAIL_CONNECT,		/* never established */
	FAIL_RESET,		/* RST, or refused */
	FAIL_CLOSED,		/* closed by the other end without a report */
	FAIL_TIMEOUT,		/* the kernel gave up, or an ICMP error */
	FAIL_STALLED,		/* no progress after the stop */
	FAIL_UNFINISHED,	/* made progress, but did not close in time */
	FAIL_CORRUPT,		/* framing lost */
	FAIL_COUNT
};

struct stream_params {
	uint64_t run;
	uint64_t id;
	uint32_t rate;
	uint32_t window;
	uint32_t chunk;
	uint32_t interval_ms;
	enum kind kind;
};

#define FRAME_HEADER	16u
#define FRAME_CTL_MAX	56u	/* payload of a control frame, and its header */

struct stream_host;

struct stream {
	struct source src;
	struct stream_host *host;
	struct stream_params p;
	enum stream_state state;
	enum failure failure;
	int error;			/* errno of a failure, 0: none */
	bool server;
	bool later;			/* client: opened when the others ran already */
	unsigned int tries;
	uint16_t port;			/* local, of a client */
	uint64_t opened_us, running_us, ended_us;
	uint64_t end_us;		/* client: to be closed then, 0: at the stop */
	size_t slot;			/* index in the server's table; endpoint index in the client */

	bool sends, receives;		/* data, not control frames */
	uint64_t due_us;		/* next turn of this stream */
	uint64_t credit_us;		/* time of the last credit */
	uint64_t credit;		/* bytes that may be sent, times 10^6 */
	uint64_t tx_seed, tx_pos;	/* position in the endless stream of data frames */
	uint64_t tx_written, tx_acked;	/* bytes given to the socket, acknowledged by the peer's TCP */
	bool end_wanted;		/* finish the frame, then END or REPORT */
	uint8_t ctl[FRAME_CTL_MAX];	/* control frame that waits for a frame boundary */
	size_t ctl_len, ctl_off;
	struct progress out;

	uint64_t rx_seed, rx_frames, rx_bytes, rx_raw;
	uint64_t corrupt;
	uint8_t head[FRAME_HEADER];
	size_t head_len;
	uint8_t body_type;
	uint32_t body_left, body_off;
	uint8_t body[FRAME_CTL_MAX];
	struct progress in;
};

/* What a stream needs from the program around it. */
struct stream_host {
	struct loop *loop;
	uint8_t *scratch;		/* 2 * SCRATCH_BYTES: sending, receiving */
	/* The stream reached ST_RUN, ST_DONE or ST_FAILED (src.fd is closed in the last two). */
	void (*changed)(struct stream *s);
};

/* Client side: the socket is connecting or connected, and in the loop for EPOLLOUT. */
void stream_init_client(struct stream *s, struct stream_host *host, int fd, const struct stream_params *p);
void stream_init_server(struct stream *s, struct stream_host *host, int fd);
void stream_set_params(struct stream *s, const struct stream_params *p);
void stream_ready(struct source *src, uint32_t events);
/* A turn: notice what was acknowledged, send what is allowed. */
void stream_tick(struct stream *s, uint64_t now);
/* Client: stop sending at the next frame boundary, ask for the report. */
void stream_end(struct stream *s);
void stream_fail(struct stream *s, enum failure why);
uint64_t stream_tx_payload(const struct stream *s);
/* Client: an idle one speaks at its next turn. */
void stream_speak(struct stream *s);
/* Longest time without progress in a direction that carries data. */
uint64_t stream_pause(const struct stream *s);
/* Has every direction that carries data gone forward since `since_us`? */
bool stream_alive(const struct stream *s, uint64_t since_us);

/* ---- sequence numbers ------------------------------------------------- */

#define SEQ_WINDOW	4096u

/* Counts what arrived and what arrived twice; older than the window counts as twice. */
struct seqwin {
	uint64_t next;			/* highest seen, plus one */
	uint64_t received, duplicated;
	uint64_t seen[SEQ_WINDOW / 64];
};

/* True if `seq` is new. */
bool seqwin_add(struct seqwin *w, uint64_t seq);

/* ---- UDP -------------------------------------------------------------- */

struct dgram {
	struct source src;
	struct loop *loop;
	uint64_t run, id;
	size_t endpoint;
	bool server;
	struct sockaddr_storage peer;	/* server: where the first datagram came from */
	socklen_t peer_len;
	uint32_t interval_us, bytes;
	uint64_t due_us;
	uint64_t sent;
	uint64_t corrupt, moved;	/* moved: came from another address than the first */
	struct seqwin rx;
	struct progress in;
	bool closing, reported;
	uint64_t peer_received, peer_sent, peer_duplicated, peer_moved;
	uint64_t peer_longest_us, peer_corrupt;
	struct dgram *next;		/* server: hash chain */
};

int dgram_open(struct dgram *d, struct loop *loop, const struct endpoint *to);
void dgram_tick(struct dgram *d, uint64_t now);
void dgram_end(struct dgram *d);

struct dgram_server;
struct dgram_server *dgram_server_new(struct loop *loop, const struct endpoint *at);
void dgram_server_free(struct dgram_server *srv);
void dgram_server_tick(struct dgram_server *srv, uint64_t now);

/* ---- ping ------------------------------------------------------------- */

struct ping {
	size_t endpoint;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint16_t ident;
	uint64_t due_us;
	uint64_t sent, corrupt;
	struct seqwin rx;
	struct progress in;
};

struct pinger;
/* Pings over `endpoints`, round robin; NULL and errno on failure. */
struct pinger *pinger_new(struct loop *loop, const struct options *o, uint64_t run);
void pinger_free(struct pinger *p);
void pinger_tick(struct pinger *p, uint64_t now);
void pinger_stop(struct pinger *p);
size_t pinger_count(const struct pinger *p);
struct ping *pinger_get(struct pinger *p, size_t i);

/* ---- report ----------------------------------------------------------- */

/* What is added up for one kind, one target or all. */
struct tally {
	uint64_t connections, established, lost, reset;
	uint64_t corrupt_bytes;
	uint64_t bytes_received, bytes_sent, messages;
	uint64_t packets_sent, packets_received, packets_lost, packets_duplicated;
	uint32_t *pauses_ms;		/* of the survivors */
	size_t n_pauses;
};

struct client_view {
	const struct options *o;
	uint64_t run;
	bool all_established;
	double establish_s, seconds;
	struct stream *streams;
	size_t n_streams;
	struct dgram *dgrams;
	size_t n_dgrams;
	struct pinger *pinger;
	uint64_t stopped_us;
};

/* Print the JSON report to stdout; 0 if nothing was lost, reset or corrupt, else 1. */
int report_client(const struct client_view *v);
const char *kind_name(enum kind kind);
const char *failure_name(enum failure failure);

/* ---- roles ------------------------------------------------------------ */

int client_main(const struct options *o);
int server_main(const struct options *o);

#endif
