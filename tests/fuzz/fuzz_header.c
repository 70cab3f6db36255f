/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Datagrams from the network: header parse and open.
 *
 * The first input byte chooses.  Even: the rest is a datagram as it came.
 * Odd: the rest is laid over a sealed frame by exclusive or, so that the
 * fuzzer starts from what is authentic; it then opens if and only if nothing
 * was changed, once.
 */
#include <stdlib.h>
#include <string.h>

#include "ctsync/seal.h"

#define EPOCH	0x0102030405060708u
#define BODY	64
#define FRAME	(BODY + SEAL_OVERHEAD)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct seal_ring *
make_ring(void)
{
	static const uint8_t		 key[SEAL_SECRET_MIN] = { 42 };
	static const struct seal_secret	 s[2] = {
		{ 1, key, sizeof(key) }, { 2, key, sizeof(key) }
	};
	struct seal_ring		*ring;

	if (seal_ring_new(&ring, s, 2, "fuzz") != 0)
		abort();
	return ring;
}

static ssize_t
try_open(struct seal_ring *ring, struct seal_rx *rx, const uint8_t *p, size_t len)
{
	static uint8_t		 out[SEAL_DATAGRAM_MAX];
	struct seal_header	 h;
	ssize_t			 once, n;

	if (seal_header_parse(p, len, &h) != 0)
		return -1;
	once = seal_open_once(ring, &h, p, len, out, len - SEAL_OVERHEAD);
	n = seal_rx_open(rx, 1, &h, p, len, out, len - SEAL_OVERHEAD);
	if (n >= 0 && (once != n || seal_rx_open(rx, 1, &h, p, len, out, sizeof(out)) >= 0))
		abort();
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seal_ring	*ring;
	struct seal_tx		*tx;
	struct seal_rx		*rx;
	uint8_t			 body[BODY] = { 0 }, frame[FRAME], acc = 0;
	size_t			 i;
	bool			 opened;

	if (size < 1)
		return 0;
	if (ring == NULL)
		ring = make_ring();
	if (seal_rx_new(&rx, ring, 3, EPOCH, 100, 0) != 0)
		abort();
	if ((data[0] & 1) == 0) {
		if (try_open(ring, rx, data + 1, size - 1) >= 0)
			abort();	/* nobody guesses a tag */
		seal_rx_free(rx);
		return 0;
	}
	if (seal_tx_new(&tx, ring, 3, EPOCH, (data[0] & 2) != 0 ? SEAL_CHACHA20 :
	    SEAL_AES256GCM) != 0 || seal_tx_skip_to(tx, 100) != 0 ||
	    seal_tx(tx, SEAL_DATA, 1, 2, body, sizeof(body), frame, sizeof(frame)) != FRAME)
		abort();
	for (i = 0; i < FRAME && i + 1 < size; i++) {
		frame[i] ^= data[i + 1];
		acc |= data[i + 1];
	}
	opened = try_open(ring, rx, frame, sizeof(frame)) == BODY;
	if (opened != (acc == 0))
		abort();
	seal_tx_free(tx);
	seal_rx_free(rx);
	return 0;
}
