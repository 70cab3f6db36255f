/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A frame of a stream, decoded: what recv_frame.c makes of the bytes, and
 * recv.c applies.
 */
#ifndef RECV_FRAME_H
#define RECV_FRAME_H

#include "recv_priv.h"

#define RECORDS_MAX	600	/* FLOW and GONE records in a frame: as many as fit */

/* One FLOW or GONE; body points into the frame. */
struct record {
	const uint8_t	*body;
	uint32_t	 hash;
	uint32_t	 timeout_s;
	uint16_t	 len;
	uint16_t	 klen;
	bool		 gone;
	bool		 removed;	/* gone, but it has not ended */
	bool		 told;		/* again, in a repair */
	bool		 ours;		/* that we asked for */
	bool		 refused;
};

/* A frame. */
struct parsed {
	struct wire_here	 here;
	struct wire_back	 back;
	struct wire_start	 start;
	struct wire_join	 join;
	struct wire_digest	 digest;
	struct wire_doubt	 doubt;
	uint64_t		 horizon;
	uint64_t		 echoed;	/* our stamp, 0 if not in it */
	uint32_t		 echo_held_us;
	struct wire_snap	 snap;
	struct wire_sums	 sums;
	bool			 has_snap, has_sums;
	bool			 told, told_ours, mend_begin, mend_end;
	bool			 removed;	/* the next GONE is a removal */
	bool			 others;	/* the peer serves somebody else's repair */
	unsigned		 ntold;		/* records that are told again */
	bool			 has_pos, has_back, has_start, has_horizon, has_join, has_digest;
	bool			 has_doubt;
	unsigned		 n;
	struct record		 rec[RECORDS_MAX];
};

/*
 * Decode a frame: all of it or nothing.  False if it is malformed.  Of the
 * receiver it needs its name, epoch, repair and the hash of its table, and
 * brings the places of the records near; it changes nothing.
 */
bool	recv_parse(struct recv *r, struct parsed *f, const uint8_t *p, size_t len);

#endif
