/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Generated flows for tests, of the random numbers of rnd.h.
 *
 * A generated flow is as flow_unpack() leaves one that it has read: what is
 * not there is zero, and `has' names what is.  Nothing is allocated.
 */
#ifndef FLOWGEN_H
#define FLOWGEN_H

#include <stddef.h>
#include <stdint.h>

#include "ctsync/flow.h"

/* Protocols of every kind: with ports, ids, keys and with nothing. */
#define FG_PROTOS	12u
extern const uint8_t	fg_protos[FG_PROTOS];

size_t		 fg_addr_len(const struct flow *f);
void		 fg_addr(struct flow_addr *a, size_t alen);
/* A value of one to four significant bytes. */
uint32_t	 fg_value(void);

/*
 * A flow without anything rare.  nat: which parts of its reply tuple are
 * translated, as in the mask of the attribute REPLY.
 */
void	 fg_flow(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir, unsigned nat);
/* Give a flow a time of birth. */
void	 fg_born(struct flow *f);
/* Give a flow some of the attributes that few have; SCTP and DCCP only where they belong. */
void	 fg_rare(struct flow *f);
/* All of them, each as long as it can be. */
void	 fg_rare_all(struct flow *f);
void	 fg_expect(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir);
/* Everything of an expectation, as long as it can be. */
void	 fg_expect_all(struct flow *f, uint8_t family, uint8_t proto, unsigned zone_dir);
/* Attributes of a later version: optional ones, in order, in room. */
void	 fg_extra(struct flow *f, uint8_t *room, size_t cap);
/* Any of these. */
void	 fg_any(struct flow *f, uint8_t *extra, size_t cap);

/* Assert that all fields are equal. */
void	 fg_same(const struct flow *a, const struct flow *b);
/* Assert that it packs, unpacks to itself and packs to the same bytes again. */
void	 fg_round_trip(const struct flow *f);

#endif
