/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sealing with OpenSSL's EVP.  A ring keeps the extracted half of HKDF for each
 * secret, so that a key costs one expansion; cipher contexts keep their key and
 * only the nonce changes from frame to frame.
 *
 * The nonce is made from the parsed header and the associated data is the
 * header as it came: should they ever differ, the datagram is not authentic.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "ctsync/replay.h"
#include "ctsync/seal.h"

#define KEY_LEN		32
#define NONCE_LEN	12
#define HASH_LEN	32

#define NEIGHBOURS	3	/* blocks before, at and after the window's top */
#define JUMP_SLOTS	4
#define JUMP_BURST	20	/* derivations ahead of the neighbours */
#define JUMP_REFILL_MS	5	/* one more each */
#define FRAMES_PER_S	((uint64_t)1 << SEAL_BLOCK_SHIFT)	/* more than a sender can */

struct ring_key {
	uint16_t	 id;
	uint8_t		 prk[HASH_LEN];
};

struct seal_ring {
	unsigned int	 refs;
	unsigned int	 n;
	struct ring_key	 keys[SEAL_KEYS_MAX];
	char		 cluster[SEAL_CLUSTER_MAX + 1];
	uint32_t	 tag;
	EVP_CIPHER	*cipher[SEAL_SUITES];
	EVP_KDF		*kdf;
};

struct seal_tx {
	struct seal_ring	*ring;
	EVP_CIPHER_CTX		*ctx;
	uint64_t		 sender_id;
	uint64_t		 epoch;
	uint64_t		 counter;
	uint64_t		 block;		/* of the key in ctx */
	bool			 keyed;
	uint8_t			 suite;
};

/* A derived key.  Which one it is, where the place in a table does not tell. */
struct slot {
	EVP_CIPHER_CTX	*ctx;
	uint64_t	 block;
	unsigned int	 key;		/* index in the ring */
	uint8_t		 suite;
	bool		 keyed;
};

struct jump {
	uint64_t	 refill_ms;
	unsigned int	 tokens;
	unsigned int	 victim;
	struct slot	 slots[JUMP_SLOTS];
};

struct seal_rx {
	struct seal_ring	*ring;
	uint64_t		 sender_id;
	uint64_t		 epoch;
	uint64_t		 heard_ms;	/* last authentic datagram */
	uint64_t		 derived;
	struct replay		 window;
	struct slot		*near;		/* [key][suite][block % NEIGHBOURS] */
	struct jump		 plausible;
	struct jump		 far;
};

/* What the key of a frame depends on, beside the ring. */
struct key_spec {
	unsigned int	 key;
	uint8_t		 suite;
	uint64_t	 sender_id;
	uint64_t	 epoch;
	uint64_t	 block;
};

/*
 * Header and names.
 */

void
seal_header_put(struct wbuf *w, const struct seal_header *h)
{
	wbuf_u16(w, SEAL_MAGIC);
	wbuf_u8(w, h->version);
	wbuf_u8(w, h->type);
	wbuf_u8(w, h->suite);
	wbuf_u8(w, 0);
	wbuf_u16(w, h->key_id);
	wbuf_u32(w, h->cluster_tag);
	wbuf_u64(w, h->sender_id);
	wbuf_u64(w, h->epoch);
	wbuf_u32(w, h->stream);
	wbuf_u32(w, h->stamp);
	wbuf_u64(w, h->counter);
}

static bool
get_header(struct rbuf *r, uint16_t *magic, uint8_t *zero, struct seal_header *h)
{
	return rbuf_u16(r, magic) && rbuf_u8(r, &h->version) && rbuf_u8(r, &h->type) &&
	    rbuf_u8(r, &h->suite) && rbuf_u8(r, zero) && rbuf_u16(r, &h->key_id) &&
	    rbuf_u32(r, &h->cluster_tag) && rbuf_u64(r, &h->sender_id) &&
	    rbuf_u64(r, &h->epoch) && rbuf_u32(r, &h->stream) && rbuf_u32(r, &h->stamp) &&
	    rbuf_u64(r, &h->counter);
}

static bool
suite_known(unsigned int suite)
{
	return suite >= 1 && suite <= SEAL_SUITES;
}

int
seal_header_parse(const uint8_t *p, size_t len, struct seal_header *h)
{
	struct seal_header	 t;
	struct rbuf		 r;
	uint16_t		 magic;
	uint8_t			 zero;

	rbuf_init(&r, p, len);
	if (len < SEAL_OVERHEAD || len > SEAL_DATAGRAM_MAX || !get_header(&r, &magic, &zero, &t))
		return -EMSGSIZE;
	if (magic != SEAL_MAGIC)
		return -EPROTO;
	/* A later version may give the other fields another meaning. */
	if (t.version != SEAL_VERSION)
		return -EPROTONOSUPPORT;
	if ((t.type != SEAL_HELLO && t.type != SEAL_DATA) || zero != 0)
		return -EPROTO;
	if (!suite_known(t.suite))
		return -EPROTONOSUPPORT;
	*h = t;
	return 0;
}

static int
digest(const struct wbuf *w, uint8_t out[HASH_LEN])
{
	if (!wbuf_ok(w))
		return -EINVAL;
	return EVP_Digest(w->base, w->len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -EIO;
}

static bool
name_ok(const char *name, size_t max)
{
	size_t	 n = strnlen(name, max + 1);

	return n >= 1 && n <= max;
}

int
seal_cluster_tag(const char *cluster, uint32_t *tag)
{
	static const char	 label[] = "ctsync cluster";
	uint8_t			 buf[sizeof(label) + SEAL_CLUSTER_MAX], md[HASH_LEN];
	struct wbuf		 w;
	struct rbuf		 r;
	int			 rc;

	if (!name_ok(cluster, SEAL_CLUSTER_MAX))
		return -EINVAL;
	wbuf_init(&w, buf, sizeof(buf));
	wbuf_bytes(&w, label, sizeof(label));
	wbuf_bytes(&w, cluster, strlen(cluster));
	if ((rc = digest(&w, md)) != 0)
		return rc;
	rbuf_init(&r, md, sizeof(md));
	return rbuf_u32(&r, tag) ? 0 : -EIO;
}

int
seal_node_id(const char *cluster, const char *node, uint64_t *id)
{
	static const char	 label[] = "ctsync node";
	uint8_t			 buf[sizeof(label) + SEAL_CLUSTER_MAX + 1 + SEAL_NODE_MAX];
	uint8_t			 md[HASH_LEN];
	struct wbuf		 w;
	struct rbuf		 r;
	int			 rc;

	if (!name_ok(cluster, SEAL_CLUSTER_MAX) || !name_ok(node, SEAL_NODE_MAX))
		return -EINVAL;
	wbuf_init(&w, buf, sizeof(buf));
	wbuf_bytes(&w, label, sizeof(label));
	wbuf_bytes(&w, cluster, strlen(cluster) + 1);
	wbuf_bytes(&w, node, strlen(node));
	if ((rc = digest(&w, md)) != 0)
		return rc;
	rbuf_init(&r, md, sizeof(md));
	return rbuf_u64(&r, id) ? 0 : -EIO;
}

int
seal_random(void *p, size_t len)
{
	if (len > INT_MAX || RAND_bytes(p, (int)len) != 1)
		return -EIO;
	return 0;
}

/*
 * Ring and key derivation (RFC 5869).
 */

/* Without info: extract a secret; with info: expand an extracted one. */
static int
hkdf(EVP_KDF *kdf, const uint8_t *key, size_t keylen, const struct wbuf *info,
    uint8_t out[HASH_LEN])
{
	EVP_KDF_CTX	*ctx;
	OSSL_PARAM	 p[5], *q = p;
	char		 md[] = "SHA256";
	int		 mode, rc = 0;

	mode = info == NULL ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY : EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	*q++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	*q++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, md, 0);
	*q++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key,
	    keylen);
	if (info != NULL)
		*q++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info->base,
		    info->len);
	*q = OSSL_PARAM_construct_end();
	if ((ctx = EVP_KDF_CTX_new(kdf)) == NULL)
		return -ENOMEM;
	if (EVP_KDF_derive(ctx, out, HASH_LEN, p) != 1)
		rc = -EIO;
	EVP_KDF_CTX_free(ctx);
	return rc;
}

/*
 * Lengths and fixed sizes make the encoding unambiguous.
 */
static int
derive(const struct seal_ring *ring, const struct key_spec *spec, uint8_t out[KEY_LEN])
{
	static const char	 label[] = "ctsync seal key";
	uint8_t			 buf[sizeof(label) + 1 + SEAL_CLUSTER_MAX + 27];
	const struct ring_key	*k = &ring->keys[spec->key];
	struct wbuf		 w;
	size_t			 n = strlen(ring->cluster);

	wbuf_init(&w, buf, sizeof(buf));
	wbuf_bytes(&w, label, sizeof(label));
	wbuf_u8(&w, (uint8_t)n);
	wbuf_bytes(&w, ring->cluster, n);
	wbuf_u64(&w, spec->sender_id);
	wbuf_u64(&w, spec->epoch);
	wbuf_u8(&w, spec->suite);
	wbuf_u16(&w, k->id);
	wbuf_u64(&w, spec->block);
	if (!wbuf_ok(&w))
		return -EIO;
	return hkdf(ring->kdf, k->prk, sizeof(k->prk), &w, out);
}

/* Put the key of spec into *ctx, which is made if there is none.  enc as EVP_CipherInit_ex(). */
static int
set_key(const struct seal_ring *ring, const struct key_spec *spec, int enc, EVP_CIPHER_CTX **ctx)
{
	uint8_t	 key[KEY_LEN];
	int	 rc;

	if (*ctx == NULL && (*ctx = EVP_CIPHER_CTX_new()) == NULL)
		return -ENOMEM;
	if ((rc = derive(ring, spec, key)) != 0)
		goto out;
	if (EVP_CipherInit_ex(*ctx, ring->cipher[spec->suite - 1], NULL, key, NULL, enc) != 1)
		rc = -EIO;
out:
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

static int
ring_add(struct seal_ring *ring, const struct seal_secret *s)
{
	struct ring_key	*k = &ring->keys[ring->n];
	unsigned int	 i;

	if (s->len < SEAL_SECRET_MIN || s->len > SEAL_SECRET_MAX)
		return -EINVAL;
	for (i = 0; i < ring->n; i++)
		if (ring->keys[i].id == s->id)
			return -EEXIST;
	k->id = s->id;
	ring->n++;
	return hkdf(ring->kdf, s->key, s->len, NULL, k->prk);
}

static int
ring_fetch(struct seal_ring *ring)
{
	ring->kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	ring->cipher[SEAL_AES256GCM - 1] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	ring->cipher[SEAL_CHACHA20 - 1] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
	if (ring->kdf == NULL || ring->cipher[0] == NULL || ring->cipher[1] == NULL)
		return -EIO;
	return 0;
}

int
seal_ring_new(struct seal_ring **out, const struct seal_secret *secrets, size_t n,
    const char *cluster)
{
	struct seal_ring	*ring;
	size_t			 i;
	int			 rc;

	*out = NULL;
	if (n < 1 || n > SEAL_KEYS_MAX || !name_ok(cluster, SEAL_CLUSTER_MAX))
		return -EINVAL;
	if ((ring = calloc(1, sizeof(*ring))) == NULL)
		return -ENOMEM;
	ring->refs = 1;
	memcpy(ring->cluster, cluster, strlen(cluster) + 1);
	rc = seal_cluster_tag(cluster, &ring->tag);
	if (rc == 0)
		rc = ring_fetch(ring);
	for (i = 0; rc == 0 && i < n; i++)
		rc = ring_add(ring, &secrets[i]);
	if (rc != 0) {
		seal_ring_free(ring);
		return rc;
	}
	*out = ring;
	return 0;
}

void
seal_ring_free(struct seal_ring *ring)
{
	int	 i;

	if (ring == NULL || --ring->refs > 0)
		return;
	for (i = 0; i < SEAL_SUITES; i++)
		EVP_CIPHER_free(ring->cipher[i]);
	EVP_KDF_free(ring->kdf);
	OPENSSL_cleanse(ring, sizeof(*ring));
	free(ring);
}

uint32_t
seal_ring_cluster_tag(const struct seal_ring *ring)
{
	return ring->tag;
}

uint16_t
seal_ring_key_id(const struct seal_ring *ring)
{
	return ring->keys[0].id;
}

static bool
ring_find(const struct seal_ring *ring, uint16_t id, unsigned int *key)
{
	unsigned int	 i;

	for (i = 0; i < ring->n; i++)
		if (ring->keys[i].id == id) {
			*key = i;
			return true;
		}
	return false;
}

static bool
same_cluster(const struct seal_ring *a, const struct seal_ring *b)
{
	return strcmp(a->cluster, b->cluster) == 0;
}

/*
 * Sender.
 */

int
seal_tx_new(struct seal_tx **out, struct seal_ring *ring, uint64_t sender_id, uint64_t epoch,
    enum seal_suite suite)
{
	struct seal_tx	*tx;

	*out = NULL;
	if (!suite_known(suite))
		return -EINVAL;
	if ((tx = calloc(1, sizeof(*tx))) == NULL)
		return -ENOMEM;
	ring->refs++;
	tx->ring = ring;
	tx->sender_id = sender_id;
	tx->epoch = epoch;
	tx->suite = (uint8_t)suite;
	*out = tx;
	return 0;
}

void
seal_tx_free(struct seal_tx *tx)
{
	if (tx == NULL)
		return;
	EVP_CIPHER_CTX_free(tx->ctx);
	seal_ring_free(tx->ring);
	free(tx);
}

uint64_t
seal_tx_counter(const struct seal_tx *tx)
{
	return tx->counter;
}

int
seal_tx_skip_to(struct seal_tx *tx, uint64_t counter)
{
	if (counter < tx->counter)
		return -EINVAL;
	tx->counter = counter;
	return 0;
}

int
seal_tx_set_ring(struct seal_tx *tx, struct seal_ring *ring)
{
	if (!same_cluster(tx->ring, ring))
		return -EXDEV;
	ring->refs++;
	seal_ring_free(tx->ring);
	tx->ring = ring;
	tx->keyed = false;
	return 0;
}

static int
tx_key(struct seal_tx *tx, uint64_t block)
{
	struct key_spec	 spec = {
		.key = 0, .suite = tx->suite, .sender_id = tx->sender_id, .epoch = tx->epoch,
		.block = block
	};
	int		 rc;

	if (tx->keyed && tx->block == block)
		return 0;
	tx->keyed = false;
	if ((rc = set_key(tx->ring, &spec, 1, &tx->ctx)) != 0)
		return rc;
	tx->block = block;
	tx->keyed = true;
	return 0;
}

static void
make_nonce(const struct seal_header *h, uint8_t nonce[NONCE_LEN])
{
	struct wbuf	 w;

	wbuf_init(&w, nonce, NONCE_LEN);
	wbuf_u32(&w, h->stamp);
	wbuf_u64(&w, h->counter);
}

static bool
encrypt(EVP_CIPHER_CTX *ctx, const uint8_t nonce[NONCE_LEN], const uint8_t *plain, size_t len,
    uint8_t *out)
{
	uint8_t	*body = out + SEAL_HEADER_LEN;
	int	 n;

	if (EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, out, SEAL_HEADER_LEN) != 1)
		return false;
	if (len > 0 && EVP_EncryptUpdate(ctx, body, &n, plain, (int)len) != 1)
		return false;
	return EVP_EncryptFinal_ex(ctx, body + len, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_LEN, body + len) == 1;
}

ssize_t
seal_tx(struct seal_tx *tx, enum seal_type type, uint32_t stream, uint32_t stamp,
    const uint8_t *plain, size_t len, uint8_t *out, size_t cap)
{
	struct seal_header	 h;
	struct wbuf		 w;
	uint8_t			 nonce[NONCE_LEN];
	int			 rc;

	if (len > SEAL_DATAGRAM_MAX - SEAL_OVERHEAD || cap < SEAL_OVERHEAD ||
	    len > cap - SEAL_OVERHEAD)
		return -EMSGSIZE;
	if (tx->counter == UINT64_MAX)
		return -EOVERFLOW;
	if ((rc = tx_key(tx, (tx->counter + 1) >> SEAL_BLOCK_SHIFT)) != 0)
		return rc;
	tx->counter++;
	h = (struct seal_header){
		.version = SEAL_VERSION, .type = (uint8_t)type, .suite = tx->suite,
		.key_id = tx->ring->keys[0].id, .cluster_tag = tx->ring->tag,
		.sender_id = tx->sender_id, .epoch = tx->epoch, .stream = stream,
		.stamp = stamp, .counter = tx->counter
	};
	wbuf_init(&w, out, SEAL_HEADER_LEN);
	seal_header_put(&w, &h);
	make_nonce(&h, nonce);
	if (!encrypt(tx->ctx, nonce, plain, len, out))
		return -EIO;
	return (ssize_t)(len + SEAL_OVERHEAD);
}

/*
 * Receiver.
 */

static ssize_t
decrypt(EVP_CIPHER_CTX *ctx, const struct seal_header *h, const uint8_t *datagram, size_t len,
    uint8_t *out)
{
	const uint8_t	*body = datagram + SEAL_HEADER_LEN;
	size_t		 n = len - SEAL_OVERHEAD;
	uint8_t		 nonce[NONCE_LEN], tag[SEAL_TAG_LEN], last[SEAL_TAG_LEN];
	int		 k;

	make_nonce(h, nonce);
	memcpy(tag, body + n, sizeof(tag));
	if (EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_LEN, tag) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &k, datagram, SEAL_HEADER_LEN) != 1)
		return -EIO;
	if (n > 0 && EVP_DecryptUpdate(ctx, out, &k, body, (int)n) != 1)
		return -EIO;
	if (EVP_DecryptFinal_ex(ctx, last, &k) != 1) {
		memset(out, 0, n);
		return -EBADMSG;
	}
	return (ssize_t)n;
}

static int
check_open(const struct seal_ring *ring, const struct seal_header *h, size_t len, size_t cap,
    unsigned int *key)
{
	if (len < SEAL_OVERHEAD || len > SEAL_DATAGRAM_MAX || len - SEAL_OVERHEAD > cap)
		return -EMSGSIZE;
	if (h->cluster_tag != ring->tag)
		return -EXDEV;
	if (!suite_known(h->suite))
		return -EINVAL;
	return ring_find(ring, h->key_id, key) ? 0 : -ENOKEY;
}

ssize_t
seal_open_once(const struct seal_ring *ring, const struct seal_header *h,
    const uint8_t *datagram, size_t len, uint8_t *out, size_t cap)
{
	struct key_spec	 spec = {
		.suite = h->suite, .sender_id = h->sender_id, .epoch = h->epoch,
		.block = h->counter >> SEAL_BLOCK_SHIFT
	};
	EVP_CIPHER_CTX	*ctx = NULL;
	ssize_t		 rc;

	if ((rc = check_open(ring, h, len, cap, &spec.key)) != 0)
		return rc;
	if ((rc = set_key(ring, &spec, 0, &ctx)) == 0)
		rc = decrypt(ctx, h, datagram, len, out);
	EVP_CIPHER_CTX_free(ctx);
	return rc;
}

static size_t
near_slots(const struct seal_ring *ring)
{
	return (size_t)ring->n * SEAL_SUITES * NEIGHBOURS;
}

static void
slots_clear(struct slot *s, size_t n)
{
	for (; n > 0; n--, s++) {
		EVP_CIPHER_CTX_free(s->ctx);
		*s = (struct slot){ 0 };
	}
}

static void
rx_drop_keys(struct seal_rx *rx)
{
	slots_clear(rx->near, near_slots(rx->ring));
	slots_clear(rx->plausible.slots, JUMP_SLOTS);
	slots_clear(rx->far.slots, JUMP_SLOTS);
}

int
seal_rx_new(struct seal_rx **out, struct seal_ring *ring, uint64_t sender_id, uint64_t epoch,
    uint64_t counter, uint64_t now_ms)
{
	struct seal_rx	*rx;

	*out = NULL;
	if ((rx = calloc(1, sizeof(*rx))) == NULL)
		return -ENOMEM;
	if ((rx->near = calloc(near_slots(ring), sizeof(*rx->near))) == NULL) {
		free(rx);
		return -ENOMEM;
	}
	ring->refs++;
	rx->ring = ring;
	rx->sender_id = sender_id;
	rx->epoch = epoch;
	rx->heard_ms = now_ms;
	rx->plausible.refill_ms = rx->far.refill_ms = now_ms;
	rx->plausible.tokens = rx->far.tokens = JUMP_BURST;
	replay_init_at(&rx->window, counter);
	*out = rx;
	return 0;
}

void
seal_rx_free(struct seal_rx *rx)
{
	if (rx == NULL)
		return;
	rx_drop_keys(rx);
	free(rx->near);
	seal_ring_free(rx->ring);
	free(rx);
}

int
seal_rx_set_ring(struct seal_rx *rx, struct seal_ring *ring)
{
	struct slot	*near;

	if (!same_cluster(rx->ring, ring))
		return -EXDEV;
	if ((near = calloc(near_slots(ring), sizeof(*near))) == NULL)
		return -ENOMEM;
	rx_drop_keys(rx);
	free(rx->near);
	rx->near = near;
	ring->refs++;
	seal_ring_free(rx->ring);
	rx->ring = ring;
	return 0;
}

uint64_t
seal_rx_derived(const struct seal_rx *rx)
{
	return rx->derived;
}

static bool
take_token(struct jump *j, uint64_t now_ms)
{
	uint64_t	 n;

	if (now_ms > j->refill_ms) {
		n = (now_ms - j->refill_ms) / JUMP_REFILL_MS;
		j->refill_ms += n * JUMP_REFILL_MS;
		j->tokens = n >= JUMP_BURST - j->tokens ? JUMP_BURST : j->tokens + (unsigned int)n;
	}
	if (j->tokens == 0)
		return false;
	j->tokens--;
	return true;
}

static bool
slot_holds(const struct slot *s, const struct key_spec *spec)
{
	return s->keyed && s->block == spec->block && s->key == spec->key &&
	    s->suite == spec->suite;
}

static int
slot_fill(struct seal_rx *rx, struct slot *s, const struct key_spec *spec)
{
	int	 rc;

	s->keyed = false;
	rx->derived++;
	if ((rc = set_key(rx->ring, spec, 0, &s->ctx)) != 0)
		return rc;
	s->block = spec->block;
	s->key = spec->key;
	s->suite = spec->suite;
	s->keyed = true;
	return 0;
}

static int
jump_slot(struct seal_rx *rx, struct jump *j, uint64_t now_ms, const struct key_spec *spec,
    struct slot **out)
{
	unsigned int	 i;

	for (i = 0; i < JUMP_SLOTS; i++)
		if (slot_holds(&j->slots[i], spec)) {
			*out = &j->slots[i];
			return 0;
		}
	if (!take_token(j, now_ms))
		return -EAGAIN;
	*out = &j->slots[j->victim];
	j->victim = (j->victim + 1) % JUMP_SLOTS;
	return slot_fill(rx, *out, spec);
}

/*
 * The key for a counter that the window lets through, which is never in a block
 * before the neighbours, the window being shorter than a block.  Each neighbour
 * has a place of its own until an authentic datagram moves the window: no
 * header, however made, has one derived twice.
 */
static int
rx_slot(struct seal_rx *rx, uint64_t now_ms, const struct key_spec *spec, struct slot **out)
{
	uint64_t	 cur = rx->window.top >> SEAL_BLOCK_SHIFT, quiet_ms, reach;
	size_t		 i;

	if (spec->block <= cur + 1) {
		i = (size_t)spec->key * SEAL_SUITES + spec->suite - 1;
		*out = &rx->near[i * NEIGHBOURS + spec->block % NEIGHBOURS];
		return slot_holds(*out, spec) ? 0 : slot_fill(rx, *out, spec);
	}
	quiet_ms = now_ms > rx->heard_ms ? now_ms - rx->heard_ms : 0;
	reach = (quiet_ms / 1000 + 2) * FRAMES_PER_S >> SEAL_BLOCK_SHIFT;
	return jump_slot(rx, spec->block - cur <= reach ? &rx->plausible : &rx->far, now_ms,
	    spec, out);
}

ssize_t
seal_rx_open(struct seal_rx *rx, uint64_t now_ms, const struct seal_header *h,
    const uint8_t *datagram, size_t len, uint8_t *out, size_t cap)
{
	struct key_spec	 spec = {
		.suite = h->suite, .sender_id = rx->sender_id, .epoch = rx->epoch,
		.block = h->counter >> SEAL_BLOCK_SHIFT
	};
	struct slot	*slot;
	ssize_t		 rc;

	if (h->sender_id != rx->sender_id || h->epoch != rx->epoch)
		return -EINVAL;
	if ((rc = check_open(rx->ring, h, len, cap, &spec.key)) != 0)
		return rc;
	if (!replay_check(&rx->window, h->counter))
		return -EALREADY;
	if ((rc = rx_slot(rx, now_ms, &spec, &slot)) != 0)
		return rc;
	if ((rc = decrypt(slot->ctx, h, datagram, len, out)) < 0)
		return rc;
	replay_update(&rx->window, h->counter);
	rx->heard_ms = now_ms;
	return rc;
}

/*
 * Challenge.
 */

uint64_t
seal_challenge_slot(uint64_t now_ms)
{
	return now_ms / SEAL_SLOT_MS;
}

int
seal_challenge(const uint8_t boot_key[SEAL_BOOT_KEY_LEN], uint64_t sender_id, uint64_t epoch,
    uint64_t slot, uint8_t out[SEAL_CHALLENGE_LEN])
{
	static const char	 label[] = "ctsync challenge";
	uint8_t			 buf[sizeof(label) + 24], md[HASH_LEN];
	struct wbuf		 w;

	wbuf_init(&w, buf, sizeof(buf));
	wbuf_bytes(&w, label, sizeof(label));
	wbuf_u64(&w, sender_id);
	wbuf_u64(&w, epoch);
	wbuf_u64(&w, slot);
	if (HMAC(EVP_sha256(), boot_key, SEAL_BOOT_KEY_LEN, buf, w.len, md, NULL) == NULL)
		return -EIO;
	memcpy(out, md, SEAL_CHALLENGE_LEN);
	return 0;
}

bool
seal_challenge_check(const uint8_t boot_key[SEAL_BOOT_KEY_LEN], uint64_t sender_id,
    uint64_t epoch, uint64_t slot, const uint8_t mac[SEAL_CHALLENGE_LEN])
{
	uint8_t	 now[SEAL_CHALLENGE_LEN], before[SEAL_CHALLENGE_LEN];
	int	 a, b;

	if (seal_challenge(boot_key, sender_id, epoch, slot, now) != 0 ||
	    seal_challenge(boot_key, sender_id, epoch, slot - 1, before) != 0)
		return false;
	a = CRYPTO_memcmp(now, mac, SEAL_CHALLENGE_LEN) == 0;
	b = CRYPTO_memcmp(before, mac, SEAL_CHALLENGE_LEN) == 0;
	OPENSSL_cleanse(now, sizeof(now));
	OPENSSL_cleanse(before, sizeof(before));
	return (a | b) != 0;
}
