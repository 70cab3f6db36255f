/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records: what is inside of a sealed datagram (doc/wire.md, section 2).
 *
 * Encoding goes straight into a wbuf.  Decoding is by wire_next(), one record
 * at a time, and a typed getter for each kind; getters demand that the record
 * is used up, so that every length but the right one is an error.
 */
#ifndef CTSYNC_WIRE_H
#define CTSYNC_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "ctsync/buf.h"

#define WIRE_LANES		2
#define WIRE_RECORD_HEAD	3	/* kind, length */
#define WIRE_SEQ_BYTES		8
#define WIRE_HELLO_BYTES	512	/* of records in a hello */
#define WIRE_VERSION_MIN	1
#define WIRE_VERSION_MAX	1
#define WIRE_NODE_MAX		64	/* bytes of a node name */
#define WIRE_GAPS_MAX		32
#define WIRE_CHALLENGE_BYTES	16
#define WIRE_NEVER		0xffffffffu

#define WIRE_MUST		0x80u

enum wire_kind {
	/* stream frames */
	WIRE_FLOW = 0x81,
	WIRE_GONE = 0x82,
	WIRE_POS = 0x83,
	WIRE_BACK = 0x84,
	WIRE_START = 0x85,
	WIRE_HORIZON = 0x86,
	WIRE_JOIN = 0x87,
	WIRE_DIGEST = 0x88,
	WIRE_DOUBT = 0x09,
	WIRE_ECHOED = 0x0a,
	WIRE_SNAP = 0x0b,
	WIRE_SUMS = 0x0c,
	WIRE_RETELL = 0x0d,
	WIRE_REMOVED = 0x0e,	/* empty: the GONE behind it is a removal, not an end */
	/* signals */
	WIRE_PROBE = 0x21,
	WIRE_ACK = 0x22,
	WIRE_REQUEST = 0x23,
	WIRE_RESTART = 0x24,
	WIRE_REPORT = 0x25,
	WIRE_CHECK = 0x27,
	WIRE_MEND = 0x28,
	WIRE_CLOCK = 0x29,	/* u64: the sender's cluster time in milliseconds */
	WIRE_CLAIM = 0x2a,
	/* hellos; DST in signals too */
	WIRE_VERSIONS = 0xc0,
	WIRE_NAME = 0xc1,
	WIRE_DST = 0xc2,
	WIRE_CHALLENGE = 0xc3,
	WIRE_ECHO = 0xc4,
	WIRE_DIGESTKEY = 0xc5,
	WIRE_BOOT = 0x46,
	WIRE_PAD = 0x47
};

/* A version for each lane. */
struct wire_pos {
	uint64_t	 v[WIRE_LANES];
};

#define WIRE_START_NEWGEN	0x01u
#define WIRE_START_FULL		0x02u

struct wire_start {
	uint64_t	 nonce;
	uint8_t		 flags;
	struct wire_pos	 j;
};

struct wire_here {
	struct wire_pos	 live;		/* L */
	uint64_t	 version;	/* V, the sender's newest */
};

struct wire_back {
	struct wire_pos	 b, t;
};

struct wire_digest {
	uint64_t	 sum;
	uint32_t	 flows;
};

#define WIRE_DOUBT_LOST		0x01u	/* events were lost, the re-read is not done */
#define WIRE_DOUBT_FIRST	0x02u	/* the first dump is not done */
#define WIRE_DOUBT_NO_ROOM	0x04u	/* flows did not fit into the table */

struct wire_doubt {
	uint32_t	 kernel_us;	/* age of what is known of the kernel */
	uint32_t	 pending_us;	/* age of the oldest change not emitted before */
	uint8_t		 flags;
	uint32_t	 clock_us;	/* the sender's, low 32 bits, when the frame was built */
};

struct wire_dst {
	uint64_t	 id, epoch;
};

struct wire_echoed {
	uint64_t	 id, epoch, stamp;
	uint32_t	 held_us;	/* from the receipt of the stamp to the building of the frame */
};

/* Buckets: the top bits of a keyed hash of the key. */
#define WIRE_BUCKET_BITS	10
#define WIRE_BUCKETS		(1u << WIRE_BUCKET_BITS)
#define WIRE_BUCKET_MAP		(WIRE_BUCKETS / 8)
#define WIRE_SUMS_MAX		128	/* sums in a record */

/* Of a node that asked, by the nonce of its asking. */
struct wire_snap {
	uint64_t	 id, nonce;
};

struct wire_sums {
	struct wire_snap of;
	uint16_t	 first;		/* bucket */
	uint16_t	 n;
	uint64_t	 sum[WIRE_SUMS_MAX];
};

enum wire_retell_what {
	WIRE_RETELL_BEGIN = 1,
	WIRE_RETELL_TOLD,	/* the FLOW records that follow are told again */
	WIRE_RETELL_NEWS,	/* those that follow are news */
	WIRE_RETELL_END
};

struct wire_retell {
	struct wire_snap of;
	uint8_t		 what;		/* enum wire_retell_what */
};

struct wire_join {
	uint32_t	 stream;
	uint64_t	 seq;
};

struct wire_gap {
	uint16_t	 first;		/* distance from the acknowledged sequence number */
	uint16_t	 count;
};

struct wire_ack {
	uint32_t	 stream;
	uint64_t	 seq;
	uint8_t		 ngaps;
	struct wire_gap	 gaps[WIRE_GAPS_MAX];
};

#define WIRE_REQUEST_FULL	0x02u

struct wire_request {
	uint64_t	 nonce, epoch;
	struct wire_pos	 a, t;
	uint8_t		 flags;
};

struct wire_check {
	uint64_t	 nonce;
	uint32_t	 stream;
};

struct wire_mend {
	struct wire_check of;
	uint8_t		 map[WIRE_BUCKET_MAP];	/* bucket n: bit n % 8 of byte n / 8 */
};

#define WIRE_REPORT_IN_SYNC	0x01u
#define WIRE_REPORT_FULL	0x02u

struct wire_report {
	uint64_t	 stamp;
	uint8_t		 flags;
	uint32_t	 verified_ms;
	uint32_t	 lag_us, lag_p99_us, lag_max_us;	/* median, 99th percentile, greatest */
	uint32_t	 flows;
};

#define WIRE_PROBE_HEARD	0x01u
#define WIRE_PROBE_ACTIVE	0x02u
#define WIRE_PROBE_LEAVING	0x04u
#define WIRE_PROBE_TAKING	0x08u	/* a takeover is not done */

#define WIRE_TERM_MAX		0x7fffffffu

struct wire_probe {
	uint8_t		 flags;
	uint32_t	 term;
};

#define WIRE_CLAIM_FILTER	256	/* bytes of a filter at most */

/*
 * All that the addressee had told up to pos is in the kernel of the sender, or
 * has ended, but for some keys: they are in a Bloom filter, so that any number
 * of them is named.  A key that is in it by chance only has to wait for a claim
 * with another salt.
 */
struct wire_claim {
	struct wire_pos	 pos;
	uint32_t	 term;
	uint8_t		 salt;
	uint16_t	 nfilter;	/* bytes, a power of two from 8 on; 0: no key is named */
	uint8_t		 filter[WIRE_CLAIM_FILTER];
};

struct wire_versions {
	uint8_t		 min, max;
	uint32_t	 suites;
};

struct wire_boot {
	uint8_t		 boot_id[16];
	uint64_t	 netns;
};

/* The head of a record whose body of len bytes the caller adds. */
static inline void
wire_put_head(struct wbuf *w, uint8_t kind, size_t len)
{
	wbuf_u8(w, kind);
	wbuf_u16(w, (uint16_t)len);
}

void	wire_put_pos(struct wbuf *w, const struct wire_here *p);
void	wire_put_back(struct wbuf *w, const struct wire_back *b);
void	wire_put_start(struct wbuf *w, const struct wire_start *s);
void	wire_put_horizon(struct wbuf *w, uint64_t h);
void	wire_put_join(struct wbuf *w, const struct wire_join *j);
void	wire_put_digest(struct wbuf *w, const struct wire_digest *d);
void	wire_put_doubt(struct wbuf *w, const struct wire_doubt *d);
void	wire_put_echoed(struct wbuf *w, const struct wire_echoed *e);
void	wire_put_snap(struct wbuf *w, const struct wire_snap *s);
void	wire_put_sums(struct wbuf *w, const struct wire_sums *s);
void	wire_put_retell(struct wbuf *w, const struct wire_retell *t);
void	wire_put_check(struct wbuf *w, const struct wire_check *c);
void	wire_put_mend(struct wbuf *w, const struct wire_mend *m);
void	wire_put_dst(struct wbuf *w, const struct wire_dst *d);
void	wire_put_probe(struct wbuf *w, const struct wire_probe *p);
void	wire_put_ack(struct wbuf *w, const struct wire_ack *a);
void	wire_put_request(struct wbuf *w, const struct wire_request *q);
void	wire_put_restart(struct wbuf *w, uint32_t stream);
void	wire_put_report(struct wbuf *w, const struct wire_report *r);
void	wire_put_claim(struct wbuf *w, const struct wire_claim *c);
void	wire_put_clock(struct wbuf *w, uint64_t ms);
void	wire_put_versions(struct wbuf *w, const struct wire_versions *v);
void	wire_put_boot(struct wbuf *w, const struct wire_boot *b);
/* A record of n plain bytes. */
void	wire_put_bytes(struct wbuf *w, uint8_t kind, const void *p, size_t n);

/* Whole sizes of records in bytes, for reserving room. */
#define WIRE_POS_SIZE		(WIRE_RECORD_HEAD + 24)
#define WIRE_BACK_SIZE		(WIRE_RECORD_HEAD + 32)
#define WIRE_HORIZON_SIZE	(WIRE_RECORD_HEAD + 8)
#define WIRE_JOIN_SIZE		(WIRE_RECORD_HEAD + 12)
#define WIRE_DIGEST_SIZE	(WIRE_RECORD_HEAD + 12)
#define WIRE_SNAP_SIZE		(WIRE_RECORD_HEAD + 16)
#define WIRE_RETELL_SIZE	(WIRE_RECORD_HEAD + 17)
#define WIRE_CLAIM_SIZE(n)	(WIRE_RECORD_HEAD + 22 + (size_t)(n))

/*
 * The next record: true and its kind and body, false at the end or when what
 * is left is no record (r->len tells: 0 at the end).
 */
static inline bool
wire_next(struct rbuf *r, uint8_t *kind, struct rbuf *body)
{
	struct rbuf	 t = *r;
	uint16_t	 len;

	if (!rbuf_u8(&t, kind) || !rbuf_u16(&t, &len) || !rbuf_sub(&t, len, body))
		return false;
	*r = t;
	return true;
}

/* Getters: true if the body was exactly such a record. */
bool	wire_get_pos(struct rbuf *r, struct wire_here *p);
bool	wire_get_back(struct rbuf *r, struct wire_back *b);
bool	wire_get_start(struct rbuf *r, struct wire_start *s);
bool	wire_get_u64(struct rbuf *r, uint64_t *v);
bool	wire_get_u32(struct rbuf *r, uint32_t *v);
bool	wire_get_join(struct rbuf *r, struct wire_join *j);
bool	wire_get_digest(struct rbuf *r, struct wire_digest *d);
bool	wire_get_doubt(struct rbuf *r, struct wire_doubt *d);
bool	wire_get_echoed(struct rbuf *r, struct wire_echoed *e);
bool	wire_get_snap(struct rbuf *r, struct wire_snap *s);
bool	wire_get_sums(struct rbuf *r, struct wire_sums *s);
bool	wire_get_retell(struct rbuf *r, struct wire_retell *t);
bool	wire_get_check(struct rbuf *r, struct wire_check *c);
bool	wire_get_mend(struct rbuf *r, struct wire_mend *m);
bool	wire_get_dst(struct rbuf *r, struct wire_dst *d);
bool	wire_get_probe(struct rbuf *r, struct wire_probe *p);
bool	wire_get_ack(struct rbuf *r, struct wire_ack *a);
bool	wire_get_request(struct rbuf *r, struct wire_request *q);
bool	wire_get_report(struct rbuf *r, struct wire_report *p);
bool	wire_get_claim(struct rbuf *r, struct wire_claim *c);
/* Empty the filter and make it large enough for that many keys, if one can be. */
void	wire_claim_clear(struct wire_claim *c, uint32_t keys, uint8_t salt);
/* Name a key by its hash (SipHash-1-3 under the DIGESTKEY of the addressee); and: is it named? */
void	wire_claim_add(struct wire_claim *c, uint64_t hash);
bool	wire_claim_has(const struct wire_claim *c, uint64_t hash);
bool	wire_get_versions(struct rbuf *r, struct wire_versions *v);
bool	wire_get_boot(struct rbuf *r, struct wire_boot *b);
/* Exactly n bytes. */
bool	wire_get_bytes(struct rbuf *r, void *out, size_t n);

#endif
