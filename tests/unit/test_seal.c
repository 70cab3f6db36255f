/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sealing: what is sealed opens, what is changed in any bit does not, what was
 * seen does not again, and forged headers do not cost key derivations.  The
 * known answers were made by an independent implementation of wire.md.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/seal.h"

#define BLOCK	((uint64_t)1 << SEAL_BLOCK_SHIFT)
#define EPOCH	0x1122334455667788u

static uint8_t			 secret_a[32], secret_b[48];
static struct seal_ring		*ring, *ring_ab, *ring_b;
static uint64_t			 fw1;
static uint8_t			 dgram[2048], plain[2048];
static const uint8_t		 text[] = "conntrack";
#define TEXT_LEN	(sizeof(text) - 1)

static void
setup(void)
{
	struct seal_secret	 s[2] = {
		{ 7, secret_a, sizeof(secret_a) }, { 9, secret_b, sizeof(secret_b) }
	};
	uint8_t			 i;

	for (i = 0; i < sizeof(secret_a); i++)
		secret_a[i] = i;
	for (i = 0; i < sizeof(secret_b); i++)
		secret_b[i] = (uint8_t)(0xb0 + i);
	ck_assert_int_eq(seal_ring_new(&ring, s, 1, "edge"), 0);
	ck_assert_int_eq(seal_ring_new(&ring_ab, s, 2, "edge"), 0);
	ck_assert_int_eq(seal_ring_new(&ring_b, s + 1, 1, "edge"), 0);
	ck_assert_int_eq(seal_node_id("edge", "fw1", &fw1), 0);
}

static void
teardown(void)
{
	seal_ring_free(ring);
	seal_ring_free(ring_ab);
	seal_ring_free(ring_b);
}

static struct seal_tx *
tx_of(struct seal_ring *r, uint64_t epoch, enum seal_suite suite, uint64_t counter)
{
	struct seal_tx	*tx;

	ck_assert_int_eq(seal_tx_new(&tx, r, fw1, epoch, suite), 0);
	ck_assert_int_eq(seal_tx_skip_to(tx, counter), 0);
	return tx;
}

static struct seal_rx *
rx_of(struct seal_ring *r, uint64_t counter)
{
	struct seal_rx	*rx;

	ck_assert_int_eq(seal_rx_new(&rx, r, fw1, EPOCH, counter, 1000), 0);
	return rx;
}

static size_t
seal_text(struct seal_tx *tx)
{
	ssize_t	 n = seal_tx(tx, SEAL_DATA, 5, 0x66000000, text, TEXT_LEN, dgram, sizeof(dgram));

	ck_assert_int_eq(n, (ssize_t)(TEXT_LEN + SEAL_OVERHEAD));
	return (size_t)n;
}

/* Parse and open as the daemon does. */
static ssize_t
open_at(struct seal_rx *rx, uint64_t now_ms, const uint8_t *p, size_t len)
{
	struct seal_header	 h;
	int			 rc;

	if ((rc = seal_header_parse(p, len, &h)) != 0)
		return rc;
	return seal_rx_open(rx, now_ms, &h, p, len, plain, sizeof(plain));
}

static ssize_t
open_once(const struct seal_ring *r, const uint8_t *p, size_t len)
{
	struct seal_header	 h;
	int			 rc;

	if ((rc = seal_header_parse(p, len, &h)) != 0)
		return rc;
	return seal_open_once(r, &h, p, len, plain, sizeof(plain));
}

static void
from_hex(const char *hex, uint8_t *out, size_t *len)
{
	unsigned int	 v;

	for (*len = 0; hex[0] != '\0'; hex += 2, (*len)++) {
		ck_assert_int_eq(sscanf(hex, "%2x", &v), 1);
		out[*len] = (uint8_t)v;
	}
}

START_TEST(test_known_answers)
{
	static const char	*frames[] = {
		"c75d0102010000074e8545192f728e100df73bae112233445566778800000005"
		"6600000000000000001000003e7f0b79c6784d6db2e8399013576c8a888db085"
		"232d96cec5",
		"c75d0102020000074e8545192f728e100df73bae112233445566778800000005"
		"6600000000000000001000007404425b8e0360cd63fd9a570121726243e27ccf"
		"faf10775aa"
	};
	uint8_t			 want[256], boot[SEAL_BOOT_KEY_LEN], mac[SEAL_CHALLENGE_LEN];
	uint32_t		 tag;
	size_t			 len, wlen, i;
	struct seal_tx		*tx;

	ck_assert_int_eq(seal_cluster_tag("edge", &tag), 0);
	ck_assert_uint_eq(tag, 0x4e854519);
	ck_assert_uint_eq(seal_ring_cluster_tag(ring), tag);
	ck_assert(fw1 == 0x2f728e100df73bae);
	for (i = 0; i < SEAL_SUITES; i++) {
		tx = tx_of(ring, EPOCH, (enum seal_suite)(i + 1), BLOCK - 1);
		len = seal_text(tx);
		from_hex(frames[i], want, &wlen);
		ck_assert_uint_eq(len, wlen);
		ck_assert_mem_eq(dgram, want, len);
		seal_tx_free(tx);
	}
	for (i = 0; i < sizeof(boot); i++)
		boot[i] = (uint8_t)i;
	from_hex("4b495ba94964c53177b0ad4a6e45f066", want, &wlen);
	ck_assert_int_eq(seal_challenge(boot, 1, 2, 3, mac), 0);
	ck_assert_mem_eq(mac, want, sizeof(mac));
}
END_TEST

START_TEST(test_round_trip)
{
	static const size_t	 sizes[] = { 0, 1, 15, 16, 17, 200, 1340, 1400, 1900 };
	struct seal_tx		*tx = tx_of(ring, EPOCH, (enum seal_suite)_i, 0);
	struct seal_rx		*rx = rx_of(ring, 0);
	struct seal_header	 h;
	uint8_t			 in[2000];
	ssize_t			 n;
	size_t			 i;

	ck_assert_int_eq(seal_random(in, sizeof(in)), 0);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		n = seal_tx(tx, SEAL_HELLO, 3, 99, in, sizes[i], dgram, sizeof(dgram));
		ck_assert_int_eq(n, (ssize_t)(sizes[i] + SEAL_OVERHEAD));
		ck_assert_int_eq(seal_header_parse(dgram, (size_t)n, &h), 0);
		ck_assert_uint_eq(h.type, SEAL_HELLO);
		ck_assert_uint_eq(h.suite, (unsigned int)_i);
		ck_assert_uint_eq(h.key_id, 7);
		ck_assert_uint_eq(h.stream, 3);
		ck_assert_uint_eq(h.stamp, 99);
		ck_assert(h.sender_id == fw1 && h.epoch == EPOCH && h.counter == i + 1);
		ck_assert_int_eq(open_once(ring, dgram, (size_t)n), (ssize_t)sizes[i]);
		ck_assert_mem_eq(plain, in, sizes[i]);
		memset(plain, 0, sizeof(plain));
		ck_assert_int_eq(open_at(rx, 1000, dgram, (size_t)n), (ssize_t)sizes[i]);
		ck_assert_mem_eq(plain, in, sizes[i]);
	}
	ck_assert(seal_tx_counter(tx) == i);
	ck_assert_uint_eq(seal_rx_derived(rx), 1);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

START_TEST(test_in_place)
{
	struct seal_tx		*tx = tx_of(ring, EPOCH, (enum seal_suite)_i, 0);
	struct seal_header	 h;
	ssize_t			 n;

	memcpy(dgram + SEAL_HEADER_LEN, text, TEXT_LEN);
	n = seal_tx(tx, SEAL_DATA, 0, 0, dgram + SEAL_HEADER_LEN, TEXT_LEN, dgram, sizeof(dgram));
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(seal_header_parse(dgram, (size_t)n, &h), 0);
	ck_assert_int_eq(seal_open_once(ring, &h, dgram, (size_t)n, dgram + SEAL_HEADER_LEN,
	    TEXT_LEN), (ssize_t)TEXT_LEN);
	ck_assert_mem_eq(dgram + SEAL_HEADER_LEN, text, TEXT_LEN);
	seal_tx_free(tx);
}
END_TEST

START_TEST(test_sizes_refused)
{
	struct seal_tx	*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 0);
	struct seal_rx	*rx = rx_of(ring, 0);
	static uint8_t	 big[SEAL_DATAGRAM_MAX + 1];
	struct seal_header	 h;
	size_t		 len, i;

	for (i = 0; i < TEXT_LEN + SEAL_OVERHEAD; i++)
		ck_assert_int_eq(seal_tx(tx, SEAL_DATA, 0, 0, text, TEXT_LEN, dgram, i), -EMSGSIZE);
	ck_assert_int_eq(seal_tx(tx, SEAL_DATA, 0, 0, big, SEAL_DATAGRAM_MAX - SEAL_OVERHEAD + 1,
	    big, sizeof(big)), -EMSGSIZE);
	ck_assert(seal_tx_counter(tx) == 0);
	len = seal_text(tx);
	ck_assert_int_eq(seal_header_parse(dgram, len, &h), 0);
	for (i = 0; i < TEXT_LEN; i++)
		ck_assert_int_eq(seal_rx_open(rx, 1000, &h, dgram, len, plain, i), -EMSGSIZE);
	for (i = 0; i < SEAL_OVERHEAD; i++) {
		ck_assert_int_eq(seal_rx_open(rx, 1000, &h, dgram, i, plain, sizeof(plain)),
		    -EMSGSIZE);
		ck_assert_int_eq(seal_header_parse(dgram, i, &h), -EMSGSIZE);
	}
	ck_assert_int_eq(seal_header_parse(big, sizeof(big), &h), -EMSGSIZE);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

START_TEST(test_every_bit_and_prefix)
{
	struct seal_tx	*tx = tx_of(ring_ab, EPOCH, (enum seal_suite)_i, 0);
	struct seal_rx	*rx = rx_of(ring_ab, 0);
	size_t		 len = seal_text(tx), bit;

	for (bit = 0; bit < len * 8; bit++) {
		dgram[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		ck_assert_msg(open_at(rx, 1000 + bit * 10, dgram, len) < 0, "bit %zu", bit);
		ck_assert_msg(open_once(ring_ab, dgram, len) < 0, "bit %zu", bit);
		dgram[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	for (bit = 0; bit < len; bit++)
		ck_assert_msg(open_at(rx, 99000, dgram, bit) < 0, "length %zu", bit);
	ck_assert_int_eq(open_at(rx, 99000, dgram, len + 1), -EBADMSG);
	ck_assert_int_eq(open_at(rx, 99000, dgram, len), (ssize_t)TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

START_TEST(test_header_values)
{
	static const struct {
		size_t	 at;
		uint8_t	 value;
		int	 rc;
	} cases[] = {
		{ 0, 0xc8, -EPROTO }, { 1, 0x5c, -EPROTO }, { 2, 0, -EPROTONOSUPPORT },
		{ 2, 2, -EPROTONOSUPPORT }, { 3, 0, -EPROTO }, { 3, 3, -EPROTO },
		{ 4, 0, -EPROTONOSUPPORT }, { 4, 3, -EPROTONOSUPPORT }, { 5, 1, -EPROTO }
	};
	struct seal_tx		*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 0);
	struct seal_header	 h, before;
	size_t			 len = seal_text(tx), i;
	uint8_t			 keep;

	memset(&h, 0x5a, sizeof(h));
	before = h;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		keep = dgram[cases[i].at];
		dgram[cases[i].at] = cases[i].value;
		ck_assert_int_eq(seal_header_parse(dgram, len, &h), cases[i].rc);
		dgram[cases[i].at] = keep;
	}
	ck_assert_mem_eq(&h, &before, sizeof(h));
	ck_assert_int_eq(seal_header_parse(dgram, len, &h), 0);
	seal_tx_free(tx);
}
END_TEST

START_TEST(test_wrong_key_epoch_cluster)
{
	struct seal_secret	 same_id = { 7, secret_b, sizeof(secret_b) };
	struct seal_secret	 right = { 7, secret_a, sizeof(secret_a) };
	struct seal_ring	*wrong, *other;
	struct seal_rx		*rx;
	struct seal_tx		*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 0);
	struct seal_header	 h;
	size_t			 len = seal_text(tx);

	ck_assert_int_eq(seal_ring_new(&wrong, &same_id, 1, "edge"), 0);
	ck_assert_int_eq(seal_ring_new(&other, &right, 1, "core"), 0);
	ck_assert_int_eq(open_once(wrong, dgram, len), -EBADMSG);
	ck_assert_int_eq(open_once(ring_b, dgram, len), -ENOKEY);
	ck_assert_int_eq(open_once(other, dgram, len), -EXDEV);
	/* The tag alone does not make it ours: the name is in the key. */
	ck_assert_int_eq(seal_header_parse(dgram, len, &h), 0);
	h.cluster_tag = seal_ring_cluster_tag(other);
	ck_assert_int_eq(seal_open_once(other, &h, dgram, len, plain, sizeof(plain)), -EBADMSG);

	rx = rx_of(ring_b, 0);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), -ENOKEY);
	seal_rx_free(rx);
	ck_assert_int_eq(seal_rx_new(&rx, ring, fw1, EPOCH + 1, 0, 1000), 0);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), -EINVAL);
	/* As if the header had been changed to that epoch. */
	h.cluster_tag = seal_ring_cluster_tag(ring);
	h.epoch = EPOCH + 1;
	ck_assert_int_eq(seal_rx_open(rx, 1000, &h, dgram, len, plain, sizeof(plain)), -EBADMSG);
	seal_rx_free(rx);
	ck_assert_int_eq(seal_rx_new(&rx, ring, fw1 + 1, EPOCH, 0, 1000), 0);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), -EINVAL);
	seal_rx_free(rx);
	seal_ring_free(wrong);
	seal_ring_free(other);
	seal_tx_free(tx);
}
END_TEST

START_TEST(test_replay)
{
	struct seal_tx	*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 99);
	struct seal_rx	*rx;
	uint8_t		 first[128], forged[128];
	size_t		 len = seal_text(tx);

	memcpy(first, dgram, len);
	/* The hello's own counter, and what came before it, is refused. */
	rx = rx_of(ring, 100);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), -EALREADY);
	seal_rx_free(rx);

	rx = rx_of(ring, 0);
	/* A forged counter far ahead must not move the window. */
	memcpy(forged, first, len);
	forged[40] = 0x0f;
	ck_assert_int_eq(open_at(rx, 1000, forged, len), -EBADMSG);
	ck_assert_int_eq(open_at(rx, 1000, first, len), (ssize_t)TEXT_LEN);
	ck_assert_int_eq(open_at(rx, 1000, first, len), -EALREADY);
	/* A replay is refused before it costs anything: the body does not matter. */
	first[60] ^= 1;
	ck_assert_int_eq(open_at(rx, 1000, first, len), -EALREADY);
	len = seal_text(tx);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	seal_rx_free(rx);
	seal_tx_free(tx);
}
END_TEST

START_TEST(test_rekey_boundary)
{
	struct seal_tx	*tx = tx_of(ring, EPOCH, (enum seal_suite)_i, BLOCK - 4);
	struct seal_rx	*rx = rx_of(ring, BLOCK - 4);
	uint8_t		 frame[8][128];
	size_t		 len = 0, i;
	static const size_t	 order[] = { 4, 0, 5, 3, 7, 1, 6, 2 };

	for (i = 0; i < 8; i++) {
		len = seal_text(tx);
		memcpy(frame[i], dgram, len);
	}
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(open_at(rx, 1000, frame[order[i]], len), (ssize_t)TEXT_LEN);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(open_at(rx, 1000, frame[i], len), -EALREADY);
	ck_assert_uint_eq(seal_rx_derived(rx), 2);
	/* The same counter in the block after: the key differs, not only the nonce. */
	ck_assert_mem_ne(frame[0] + SEAL_HEADER_LEN, frame[4] + SEAL_HEADER_LEN, TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

/*
 * Same counter, same stamp, same text: if a key and nonce were used again the
 * ciphertexts would be equal.
 */
START_TEST(test_no_keystream_twice)
{
	struct seal_tx	*tx[5];
	uint8_t		 body[5][TEXT_LEN];
	size_t		 i, k;

	tx[0] = tx_of(ring, EPOCH, SEAL_AES256GCM, 5);
	tx[1] = tx_of(ring, EPOCH + 1, SEAL_AES256GCM, 5);
	tx[2] = tx_of(ring_b, EPOCH, SEAL_AES256GCM, 5);
	tx[3] = tx_of(ring, EPOCH, SEAL_AES256GCM, 5 + BLOCK);
	tx[4] = tx_of(ring, EPOCH, SEAL_CHACHA20, 5);
	for (i = 0; i < 5; i++) {
		seal_text(tx[i]);
		memcpy(body[i], dgram + SEAL_HEADER_LEN, TEXT_LEN);
		for (k = 0; k < i; k++)
			ck_assert_mem_ne(body[i], body[k], TEXT_LEN);
		seal_tx_free(tx[i]);
	}
}
END_TEST

START_TEST(test_counter_end)
{
	struct seal_tx	*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, UINT64_MAX - 1);
	struct seal_rx	*rx = rx_of(ring, UINT64_MAX - 1);
	size_t		 len = seal_text(tx);

	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	ck_assert_int_eq(seal_tx(tx, SEAL_DATA, 0, 0, text, TEXT_LEN, dgram, sizeof(dgram)),
	    -EOVERFLOW);
	ck_assert_int_eq(seal_tx_skip_to(tx, 5), -EINVAL);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

START_TEST(test_key_reload)
{
	struct seal_tx	*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 0);
	struct seal_rx	*rx = rx_of(ring, 0);
	struct seal_secret	 s = { 7, secret_a, sizeof(secret_a) };
	struct seal_ring	*other;
	uint8_t		 old[128];
	size_t		 len = seal_text(tx);

	memcpy(old, dgram, len);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	ck_assert_int_eq(seal_tx_set_ring(tx, ring_b), 0);
	len = seal_text(tx);
	ck_assert(seal_tx_counter(tx) == 2);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), -ENOKEY);
	ck_assert_int_eq(seal_rx_set_ring(rx, ring_ab), 0);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	ck_assert_int_eq(open_at(rx, 1000, old, len), -EALREADY);
	ck_assert_int_eq(seal_ring_new(&other, &s, 1, "core"), 0);
	ck_assert_int_eq(seal_tx_set_ring(tx, other), -EXDEV);
	ck_assert_int_eq(seal_rx_set_ring(rx, other), -EXDEV);
	seal_ring_free(other);
	/* tx and rx keep the ring that they use. */
	seal_ring_free(ring_b);
	ring_b = NULL;
	len = seal_text(tx);
	ck_assert_int_eq(open_at(rx, 1000, dgram, len), (ssize_t)TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

/* Headers with any counter, key id and suite, as fast as they come. */
START_TEST(test_forged_headers_cost_no_keys)
{
	struct seal_tx		*tx = tx_of(ring_ab, EPOCH, SEAL_AES256GCM, 10 * BLOCK);
	struct seal_rx		*rx = rx_of(ring_ab, 10 * BLOCK);
	size_t			 len = seal_text(tx), i;
	struct seal_header	 h;
	uint64_t		 seed = 88172645463325252u;
	ssize_t			 rc;

	ck_assert_int_eq(seal_header_parse(dgram, len, &h), 0);
	for (i = 0; i < 50000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		h.counter = (i & 1) != 0 ? seed : 10 * BLOCK + (seed >> 33) % (4 * BLOCK);
		h.key_id = (i & 2) != 0 ? 7 : 9;
		h.suite = (i & 4) != 0 ? SEAL_AES256GCM : SEAL_CHACHA20;
		if (h.counter == 10 * BLOCK + 1)
			continue;
		/* A second passes. */
		rc = seal_rx_open(rx, 1000 + i / 50, &h, dgram, len, plain, sizeof(plain));
		ck_assert(rc == -EBADMSG || rc == -EAGAIN || rc == -EALREADY);
	}
	/* 2 keys, 2 suites, 2 blocks, once; two buckets of 20 and 200 a second. */
	ck_assert_uint_le(seal_rx_derived(rx), 8 + 2 * (20 + 201));
	ck_assert_int_eq(open_at(rx, 2000, dgram, len), (ssize_t)TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

/* The far bucket is dry; a sender that was quiet for a minute is heard at once all the same. */
START_TEST(test_long_silence)
{
	struct seal_tx		*tx = tx_of(ring, EPOCH, SEAL_AES256GCM, 30 * BLOCK);
	struct seal_rx		*rx = rx_of(ring, 0);
	size_t			 len = seal_text(tx), i;
	struct seal_header	 h;

	ck_assert_int_eq(seal_header_parse(dgram, len, &h), 0);
	for (i = 0; i < 100; i++) {
		h.counter = (200 + i) * BLOCK;
		seal_rx_open(rx, 61000, &h, dgram, len, plain, sizeof(plain));
	}
	h.counter = 500 * BLOCK;
	ck_assert_int_eq(seal_rx_open(rx, 61000, &h, dgram, len, plain, sizeof(plain)), -EAGAIN);
	ck_assert_int_eq(open_at(rx, 61000, dgram, len), (ssize_t)TEXT_LEN);
	len = seal_text(tx);
	ck_assert_int_eq(open_at(rx, 61000, dgram, len), (ssize_t)TEXT_LEN);
	seal_tx_free(tx);
	seal_rx_free(rx);
}
END_TEST

START_TEST(test_ring_refusals)
{
	struct seal_secret	 s[SEAL_KEYS_MAX + 1];
	char			 name[SEAL_CLUSTER_MAX + 2];
	struct seal_ring	*r;
	uint64_t		 id;
	uint16_t		 i;

	for (i = 0; i <= SEAL_KEYS_MAX; i++)
		s[i] = (struct seal_secret){ i, secret_a, sizeof(secret_a) };
	ck_assert_int_eq(seal_ring_new(&r, s, 0, "edge"), -EINVAL);
	ck_assert_int_eq(seal_ring_new(&r, s, SEAL_KEYS_MAX + 1, "edge"), -EINVAL);
	ck_assert_int_eq(seal_ring_new(&r, s, 1, ""), -EINVAL);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(seal_ring_new(&r, s, 1, name), -EINVAL);
	ck_assert_int_eq(seal_node_id(name, "fw1", &id), -EINVAL);
	ck_assert_int_eq(seal_node_id("edge", name, &id), -EINVAL);
	ck_assert_int_eq(seal_node_id("edge", "", &id), -EINVAL);
	s[1].id = 0;
	ck_assert_int_eq(seal_ring_new(&r, s, 2, "edge"), -EEXIST);
	ck_assert_ptr_null(r);
	s[0].len = SEAL_SECRET_MIN - 1;
	ck_assert_int_eq(seal_ring_new(&r, s, 1, "edge"), -EINVAL);
	s[0].len = SEAL_SECRET_MAX + 1;
	ck_assert_int_eq(seal_ring_new(&r, s, 1, "edge"), -EINVAL);
	name[SEAL_CLUSTER_MAX] = '\0';
	s[0].len = SEAL_SECRET_MIN;
	s[1].id = 1;
	ck_assert_int_eq(seal_ring_new(&r, s, SEAL_KEYS_MAX, name), 0);
	ck_assert_uint_eq(seal_ring_key_id(r), 0);
	seal_ring_free(r);
}
END_TEST

START_TEST(test_challenge)
{
	uint8_t		 boot[SEAL_BOOT_KEY_LEN] = { 1 }, mac[SEAL_CHALLENGE_LEN];
	uint64_t	 slot = seal_challenge_slot(123456);
	size_t		 i;

	ck_assert_uint_eq(slot, 61);
	ck_assert_int_eq(seal_challenge(boot, 5, 6, slot, mac), 0);
	ck_assert(seal_challenge_check(boot, 5, 6, slot, mac));
	ck_assert(seal_challenge_check(boot, 5, 6, slot + 1, mac));
	ck_assert(!seal_challenge_check(boot, 5, 6, slot + 2, mac));
	ck_assert(!seal_challenge_check(boot, 5, 6, slot - 1, mac));
	ck_assert(!seal_challenge_check(boot, 6, 6, slot, mac));
	ck_assert(!seal_challenge_check(boot, 5, 5, slot, mac));
	for (i = 0; i < sizeof(mac) * 8; i++) {
		mac[i / 8] ^= (uint8_t)(1u << (i % 8));
		ck_assert(!seal_challenge_check(boot, 5, 6, slot, mac));
		mac[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	boot[31] = 1;
	ck_assert(!seal_challenge_check(boot, 5, 6, slot, mac));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("seal");
	TCase	*tc = tcase_create("seal");
	SRunner	*sr;
	int	 failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_known_answers);
	tcase_add_loop_test(tc, test_round_trip, 1, SEAL_SUITES + 1);
	tcase_add_loop_test(tc, test_in_place, 1, SEAL_SUITES + 1);
	tcase_add_test(tc, test_sizes_refused);
	tcase_add_loop_test(tc, test_every_bit_and_prefix, 1, SEAL_SUITES + 1);
	tcase_add_test(tc, test_header_values);
	tcase_add_test(tc, test_wrong_key_epoch_cluster);
	tcase_add_test(tc, test_replay);
	tcase_add_loop_test(tc, test_rekey_boundary, 1, SEAL_SUITES + 1);
	tcase_add_test(tc, test_no_keystream_twice);
	tcase_add_test(tc, test_counter_end);
	tcase_add_test(tc, test_key_reload);
	tcase_add_test(tc, test_forged_headers_cost_no_keys);
	tcase_add_test(tc, test_long_silence);
	tcase_add_test(tc, test_ring_refusals);
	tcase_add_test(tc, test_challenge);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
