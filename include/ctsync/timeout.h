/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How long a flow lives without packets, by protocol and state: the classes in
 * which the kernel's sysctls and our configuration set it.
 */
#ifndef CTSYNC_TIMEOUT_H
#define CTSYNC_TIMEOUT_H

#include "ctsync/flow.h"

enum flow_timeout {
	FLOW_TIMEOUT_TCP_SYN_SENT,
	FLOW_TIMEOUT_TCP_SYN_RECV,
	FLOW_TIMEOUT_TCP_ESTABLISHED,
	FLOW_TIMEOUT_TCP_FIN_WAIT,
	FLOW_TIMEOUT_TCP_CLOSE_WAIT,
	FLOW_TIMEOUT_TCP_LAST_ACK,
	FLOW_TIMEOUT_TCP_TIME_WAIT,
	FLOW_TIMEOUT_TCP_CLOSE,
	FLOW_TIMEOUT_UDP,
	FLOW_TIMEOUT_UDP_STREAM,
	FLOW_TIMEOUT_ICMP,
	FLOW_TIMEOUT_ICMPV6,
	FLOW_TIMEOUT_GRE,
	FLOW_TIMEOUT_GRE_STREAM,
	FLOW_TIMEOUT_SCTP_CLOSED,
	FLOW_TIMEOUT_SCTP_COOKIE_WAIT,
	FLOW_TIMEOUT_SCTP_COOKIE_ECHOED,
	FLOW_TIMEOUT_SCTP_ESTABLISHED,
	FLOW_TIMEOUT_SCTP_SHUTDOWN_SENT,
	FLOW_TIMEOUT_SCTP_SHUTDOWN_RECD,
	FLOW_TIMEOUT_SCTP_SHUTDOWN_ACK_SENT,
	FLOW_TIMEOUT_SCTP_HEARTBEAT_SENT,
	FLOW_TIMEOUT_DCCP_REQUEST,
	FLOW_TIMEOUT_DCCP_RESPOND,
	FLOW_TIMEOUT_DCCP_PARTOPEN,
	FLOW_TIMEOUT_DCCP_OPEN,
	FLOW_TIMEOUT_DCCP_CLOSEREQ,
	FLOW_TIMEOUT_DCCP_CLOSING,
	FLOW_TIMEOUT_DCCP_TIMEWAIT,
	FLOW_TIMEOUT_GENERIC,
	FLOW_TIMEOUTS
};

/* The class of a flow; of an expectation FLOW_TIMEOUTS: its helper sets it. */
enum flow_timeout	 flow_timeout_class(const struct flow *f);
/* Its key in the section timeouts of the configuration; static storage. */
const char		*flow_timeout_name(enum flow_timeout t);
/* Its sysctl, without net.netfilter.nf_conntrack_; static storage. */
const char		*flow_timeout_sysctl(enum flow_timeout t);
/* What Linux has for it, in seconds, unless it is set. */
uint32_t		 flow_timeout_default(enum flow_timeout t);

#endif
