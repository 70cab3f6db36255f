/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Classes of timeouts; names and numbers from Documentation/networking/
 * nf_conntrack-sysctl.rst and the sources of Linux.
 */
#include <sys/socket.h>

#include <netinet/in.h>

#include "ctsync/timeout.h"

#define PROTO_DCCP	33
#define PROTO_UDPLITE	136

static const struct {
	const char	*name, *sysctl;
	uint32_t	 seconds;
} classes[FLOW_TIMEOUTS] = {
	[FLOW_TIMEOUT_TCP_SYN_SENT] = { "tcp_syn_sent", "tcp_timeout_syn_sent", 120 },
	[FLOW_TIMEOUT_TCP_SYN_RECV] = { "tcp_syn_recv", "tcp_timeout_syn_recv", 60 },
	[FLOW_TIMEOUT_TCP_ESTABLISHED] = { "tcp_established", "tcp_timeout_established", 432000 },
	[FLOW_TIMEOUT_TCP_FIN_WAIT] = { "tcp_fin_wait", "tcp_timeout_fin_wait", 120 },
	[FLOW_TIMEOUT_TCP_CLOSE_WAIT] = { "tcp_close_wait", "tcp_timeout_close_wait", 60 },
	[FLOW_TIMEOUT_TCP_LAST_ACK] = { "tcp_last_ack", "tcp_timeout_last_ack", 30 },
	[FLOW_TIMEOUT_TCP_TIME_WAIT] = { "tcp_time_wait", "tcp_timeout_time_wait", 120 },
	[FLOW_TIMEOUT_TCP_CLOSE] = { "tcp_close", "tcp_timeout_close", 10 },
	[FLOW_TIMEOUT_UDP] = { "udp", "udp_timeout", 30 },
	[FLOW_TIMEOUT_UDP_STREAM] = { "udp_stream", "udp_timeout_stream", 120 },
	[FLOW_TIMEOUT_ICMP] = { "icmp", "icmp_timeout", 30 },
	[FLOW_TIMEOUT_ICMPV6] = { "icmpv6", "icmpv6_timeout", 30 },
	[FLOW_TIMEOUT_GRE] = { "gre", "gre_timeout", 30 },
	[FLOW_TIMEOUT_GRE_STREAM] = { "gre_stream", "gre_timeout_stream", 180 },
	[FLOW_TIMEOUT_SCTP_CLOSED] = { "sctp_closed", "sctp_timeout_closed", 10 },
	[FLOW_TIMEOUT_SCTP_COOKIE_WAIT] = { "sctp_cookie_wait", "sctp_timeout_cookie_wait", 3 },
	[FLOW_TIMEOUT_SCTP_COOKIE_ECHOED] = { "sctp_cookie_echoed", "sctp_timeout_cookie_echoed", 3 },
	[FLOW_TIMEOUT_SCTP_ESTABLISHED] = { "sctp_established", "sctp_timeout_established", 210 },
	[FLOW_TIMEOUT_SCTP_SHUTDOWN_SENT] = { "sctp_shutdown_sent", "sctp_timeout_shutdown_sent", 3 },
	[FLOW_TIMEOUT_SCTP_SHUTDOWN_RECD] = { "sctp_shutdown_recd", "sctp_timeout_shutdown_recd", 3 },
	[FLOW_TIMEOUT_SCTP_SHUTDOWN_ACK_SENT] = { "sctp_shutdown_ack_sent", "sctp_timeout_shutdown_ack_sent", 3 },
	[FLOW_TIMEOUT_SCTP_HEARTBEAT_SENT] = { "sctp_heartbeat_sent", "sctp_timeout_heartbeat_sent", 30 },
	[FLOW_TIMEOUT_DCCP_REQUEST] = { "dccp_request", "dccp_timeout_request", 240 },
	[FLOW_TIMEOUT_DCCP_RESPOND] = { "dccp_respond", "dccp_timeout_respond", 480 },
	[FLOW_TIMEOUT_DCCP_PARTOPEN] = { "dccp_partopen", "dccp_timeout_partopen", 480 },
	[FLOW_TIMEOUT_DCCP_OPEN] = { "dccp_open", "dccp_timeout_open", 43200 },
	[FLOW_TIMEOUT_DCCP_CLOSEREQ] = { "dccp_closereq", "dccp_timeout_closereq", 64 },
	[FLOW_TIMEOUT_DCCP_CLOSING] = { "dccp_closing", "dccp_timeout_closing", 64 },
	[FLOW_TIMEOUT_DCCP_TIMEWAIT] = { "dccp_timewait", "dccp_timeout_timewait", 240 },
	[FLOW_TIMEOUT_GENERIC] = { "generic", "generic_timeout", 600 },
};

const char *
flow_timeout_name(enum flow_timeout t)
{
	return classes[t].name;
}

const char *
flow_timeout_sysctl(enum flow_timeout t)
{
	return classes[t].sysctl;
}

uint32_t
flow_timeout_default(enum flow_timeout t)
{
	return classes[t].seconds;
}

static enum flow_timeout
of_tcp(uint8_t state)
{
	switch (state) {
	case FLOW_TCP_SYN_SENT:
	case FLOW_TCP_SYN_SENT2:
		return FLOW_TIMEOUT_TCP_SYN_SENT;
	case FLOW_TCP_SYN_RECV:
		return FLOW_TIMEOUT_TCP_SYN_RECV;
	case FLOW_TCP_ESTABLISHED:
		return FLOW_TIMEOUT_TCP_ESTABLISHED;
	case FLOW_TCP_FIN_WAIT:
		return FLOW_TIMEOUT_TCP_FIN_WAIT;
	case FLOW_TCP_CLOSE_WAIT:
		return FLOW_TIMEOUT_TCP_CLOSE_WAIT;
	case FLOW_TCP_LAST_ACK:
		return FLOW_TIMEOUT_TCP_LAST_ACK;
	case FLOW_TCP_TIME_WAIT:
		return FLOW_TIMEOUT_TCP_TIME_WAIT;
	default:
		return FLOW_TIMEOUT_TCP_CLOSE;
	}
}

static enum flow_timeout
of_sctp(uint8_t state)
{
	switch (state) {
	case FLOW_SCTP_COOKIE_WAIT:
		return FLOW_TIMEOUT_SCTP_COOKIE_WAIT;
	case FLOW_SCTP_COOKIE_ECHOED:
		return FLOW_TIMEOUT_SCTP_COOKIE_ECHOED;
	case FLOW_SCTP_ESTABLISHED:
	case FLOW_SCTP_HEARTBEAT_ACKED:
		return FLOW_TIMEOUT_SCTP_ESTABLISHED;
	case FLOW_SCTP_SHUTDOWN_SENT:
		return FLOW_TIMEOUT_SCTP_SHUTDOWN_SENT;
	case FLOW_SCTP_SHUTDOWN_RECD:
		return FLOW_TIMEOUT_SCTP_SHUTDOWN_RECD;
	case FLOW_SCTP_SHUTDOWN_ACK_SENT:
		return FLOW_TIMEOUT_SCTP_SHUTDOWN_ACK_SENT;
	case FLOW_SCTP_HEARTBEAT_SENT:
		return FLOW_TIMEOUT_SCTP_HEARTBEAT_SENT;
	default:
		return FLOW_TIMEOUT_SCTP_CLOSED;
	}
}

/* States from 1 (request) to 7 (time wait) have one each. */
static enum flow_timeout
of_dccp(uint8_t state)
{
	return state >= 1 && state <= 7 ? FLOW_TIMEOUT_DCCP_REQUEST + (state - 1u) :
	    FLOW_TIMEOUT_DCCP_REQUEST;
}

enum flow_timeout
flow_timeout_class(const struct flow *f)
{
	bool	 stream = f->status & FLOW_S_ASSURED;

	if (f->expect)
		return FLOW_TIMEOUTS;
	switch (f->proto) {
	case IPPROTO_TCP:
		return of_tcp(f->tcp_state);
	case IPPROTO_UDP:
	case PROTO_UDPLITE:
		return stream ? FLOW_TIMEOUT_UDP_STREAM : FLOW_TIMEOUT_UDP;
	case IPPROTO_GRE:
		return stream ? FLOW_TIMEOUT_GRE_STREAM : FLOW_TIMEOUT_GRE;
	case IPPROTO_SCTP:
		return of_sctp(f->rare.sctp_state);
	case PROTO_DCCP:
		return of_dccp(f->rare.dccp_state);
	default:
		if (!flow_proto_is_icmp(f->family, f->proto))
			return FLOW_TIMEOUT_GENERIC;
		return f->family == AF_INET ? FLOW_TIMEOUT_ICMP : FLOW_TIMEOUT_ICMPV6;
	}
}
