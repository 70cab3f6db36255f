/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sealing: the datagram header, authenticated encryption, key derivation, and
 * the challenge that admits a new epoch (doc/wire.md, section 1).
 *
 * Bytes to bytes only: which senders and epochs are known, how many hellos are
 * opened and what the plaintext means is the caller's.  Reading the key file
 * is keyfile.h's.  Nothing here blocks, logs, or looks at a clock; nothing is
 * thread-safe.
 *
 * Invariants: a (key, nonce) pair is used once; only the header is parsed
 * before a datagram is authentic; the replay window moves only afterwards;
 * secrets and derived keys are wiped when they are let go.
 */
#ifndef CTSYNC_SEAL_H
#define CTSYNC_SEAL_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctsync/buf.h"

#define SEAL_MAGIC		0xC75D
#define SEAL_VERSION		1	/* lowest and highest that we speak */
#define SEAL_HEADER_LEN		44
#define SEAL_TAG_LEN		16
#define SEAL_OVERHEAD		(SEAL_HEADER_LEN + SEAL_TAG_LEN)
#define SEAL_DATAGRAM_MAX	65507	/* what UDP carries */

#define SEAL_KEYS_MAX		16	/* secrets in a ring */
#define SEAL_SECRET_MIN		32	/* bytes */
#define SEAL_SECRET_MAX		1024
#define SEAL_CLUSTER_MAX	255	/* bytes of a cluster's name */
#define SEAL_NODE_MAX		255	/* bytes of a node's name */

#define SEAL_BLOCK_SHIFT	20	/* a new key each 2^20 frames */

#define SEAL_BOOT_KEY_LEN	32
#define SEAL_CHALLENGE_LEN	16
#define SEAL_SLOT_MS		2000

enum seal_type {
	SEAL_HELLO = 1,
	SEAL_DATA = 2
};

enum seal_suite {
	SEAL_AES256GCM = 1,
	SEAL_CHACHA20 = 2
};
#define SEAL_SUITES	2		/* numbered 1 to SEAL_SUITES */

struct seal_header {
	uint8_t		 version;
	uint8_t		 type;		/* enum seal_type */
	uint8_t		 suite;		/* enum seal_suite */
	uint16_t	 key_id;
	uint32_t	 cluster_tag;
	uint64_t	 sender_id;
	uint64_t	 epoch;
	uint32_t	 stream;
	uint32_t	 stamp;		/* sender's wall clock, s, low 32 bits */
	uint64_t	 counter;
};

/* Write the 44 bytes.  Values are not checked; see wbuf_ok(). */
void	seal_header_put(struct wbuf *w, const struct seal_header *h);
/*
 * Parse the header of a datagram of len bytes, all that is looked at before
 * authentication.  -EMSGSIZE if there is no room for header and tag or more
 * than SEAL_DATAGRAM_MAX, -EPROTO for another magic, an unknown type or a set
 * reserved byte, -EPROTONOSUPPORT for a version or suite that we do not speak.
 * *h is written only on success.  Cluster, sender and epoch are the caller's
 * to compare: it should, before it has anything opened.
 */
int	seal_header_parse(const uint8_t *p, size_t len, struct seal_header *h);

/* What names turn into on the wire.  0, -EINVAL (empty or too long a name), -EIO. */
int	seal_cluster_tag(const char *cluster, uint32_t *tag);
int	seal_node_id(const char *cluster, const char *node, uint64_t *id);

/* len random bytes fit for keys and epochs.  -EIO if there are none. */
int	seal_random(void *p, size_t len);

/*
 * The secrets of a cluster: the first one seals, all of them open.
 *
 * seal_ring_new() copies what it is given (as extracted keys; the caller wipes
 * its own).  -EINVAL: no secret, too many, one too short or too long, a bad
 * cluster name.  -EEXIST: an id twice.  -ENOMEM, -EIO.  A ring never changes;
 * it is counted: seal_ring_free() drops one reference, each tx and rx holds
 * one, and the last wipes.
 */
struct seal_secret {
	uint16_t	 id;
	const uint8_t	*key;
	size_t		 len;
};

struct seal_ring;

int	seal_ring_new(struct seal_ring **ring, const struct seal_secret *secrets, size_t n,
	    const char *cluster);
void	seal_ring_free(struct seal_ring *ring);
uint32_t	seal_ring_cluster_tag(const struct seal_ring *ring);
/* Id of the secret that seals. */
uint16_t	seal_ring_key_id(const struct seal_ring *ring);

/*
 * A sender: one per epoch, whatever the number of peers and links.
 * seal_tx_new(): -EINVAL for an unknown suite, -ENOMEM.
 */
struct seal_tx;

int	seal_tx_new(struct seal_tx **tx, struct seal_ring *ring, uint64_t sender_id,
	    uint64_t epoch, enum seal_suite suite);
void	seal_tx_free(struct seal_tx *tx);
/*
 * Seal len bytes under the next counter into out and return the length of the
 * datagram, len + SEAL_OVERHEAD.  plain may be out + SEAL_HEADER_LEN (sealing
 * in place) but must not overlap out otherwise.  -EMSGSIZE if it does not fit
 * in cap or in a datagram, -EOVERFLOW when the counter is used up (start a new
 * epoch), -EIO and -ENOMEM if the library fails; a counter is never used twice.
 */
ssize_t	seal_tx(struct seal_tx *tx, enum seal_type type, uint32_t stream, uint32_t stamp,
	    const uint8_t *plain, size_t len, uint8_t *out, size_t cap);
/* Counter of the last frame, 0 before the first. */
uint64_t	seal_tx_counter(const struct seal_tx *tx);
/* Go on after counter.  -EINVAL if that would be a step back. */
int	seal_tx_skip_to(struct seal_tx *tx, uint64_t counter);
/*
 * Seal with the first secret of another ring from the next frame on (reload of
 * the key file); the counter goes on.  -EXDEV if it is another cluster's.
 */
int	seal_tx_set_ring(struct seal_tx *tx, struct seal_ring *ring);

/*
 * A receiver: one per (sender, epoch), with one replay window whatever the key
 * and the link.  It begins at counter, that of the hello by which the epoch
 * was accepted.  now_ms: monotonic, here and below.
 *
 * Forged headers cannot force a key derivation per datagram: keys of the block
 * of 2^20 counters that the window stands in and of its neighbours are derived
 * once and kept; those further ahead (the sender was not heard for long) pass
 * a token bucket, one for what the time gone by can explain and one for the
 * rest.
 */
struct seal_rx;

int	seal_rx_new(struct seal_rx **rx, struct seal_ring *ring, uint64_t sender_id,
	    uint64_t epoch, uint64_t counter, uint64_t now_ms);
void	seal_rx_free(struct seal_rx *rx);
/*
 * Open a datagram whose header was parsed into *h, and return the length of
 * the plaintext, len - SEAL_OVERHEAD.  out may be datagram + SEAL_HEADER_LEN
 * but must not overlap it otherwise; on failure its content is void.
 *
 * -EALREADY  replayed, or left behind by the window
 * -ENOKEY    no secret of that id
 * -EAGAIN    needs a key that the token bucket does not allow now
 * -EBADMSG   not authentic
 * -EXDEV     another cluster
 * -EINVAL    not this sender or epoch
 * -EMSGSIZE  shorter than SEAL_OVERHEAD, or longer than cap allows
 * -ENOMEM, -EIO
 *
 * The window moves only on success.
 */
ssize_t	seal_rx_open(struct seal_rx *rx, uint64_t now_ms, const struct seal_header *h,
	    const uint8_t *datagram, size_t len, uint8_t *out, size_t cap);
/* Accept the secrets of another ring from now on; the window stays.  -EXDEV, -ENOMEM. */
int	seal_rx_set_ring(struct seal_rx *rx, struct seal_ring *ring);
/* Number of keys derived so far. */
uint64_t	seal_rx_derived(const struct seal_rx *rx);

/*
 * Open a datagram of an epoch that is not known (a hello): no replay check, no
 * state, a key derivation each time.  The caller limits the rate.  Results as
 * of seal_rx_open().
 */
ssize_t	seal_open_once(const struct seal_ring *ring, const struct seal_header *h,
	    const uint8_t *datagram, size_t len, uint8_t *out, size_t cap);

/*
 * The challenge that a hello of an unknown epoch has to echo: a MAC over sender
 * and epoch under a random key of this run, so that it costs no state.  slot is
 * seal_challenge_slot() of the monotonic clock.  -EIO.
 */
uint64_t	seal_challenge_slot(uint64_t now_ms);
int	seal_challenge(const uint8_t boot_key[SEAL_BOOT_KEY_LEN], uint64_t sender_id,
	    uint64_t epoch, uint64_t slot, uint8_t out[SEAL_CHALLENGE_LEN]);
/* Is that our challenge of slot or of the one before?  In constant time. */
bool	seal_challenge_check(const uint8_t boot_key[SEAL_BOOT_KEY_LEN], uint64_t sender_id,
	    uint64_t epoch, uint64_t slot, const uint8_t mac[SEAL_CHALLENGE_LEN]);

#endif
