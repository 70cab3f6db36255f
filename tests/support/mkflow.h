/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Plain flows for tests, told from each other by protocol and source port:
 * replied, assured and established, with a timeout of MK_TIMEOUT_S.
 */
#ifndef MKFLOW_H
#define MKFLOW_H

#include "ctsync/flow.h"

#define MK_TIMEOUT_S	1000u

/* As the kernel shows one, without id and counters. */
void	 mk_flow(struct flow *f, uint8_t proto, uint16_t port);
/* The flow of that protocol and port is its master. */
void	 mk_master(struct flow *f, uint8_t proto, uint16_t port);
/* An expectation of a TCP connection; its master is the UDP flow of that port. */
void	 mk_expect(struct flow *f, uint16_t port, uint16_t master);

#endif
