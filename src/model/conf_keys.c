/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The keys of the configuration: one table that everything else follows.
 *
 * Also the syntax of single values (names, sizes, addresses, prefixes, marks),
 * in both directions.  What libconfig makes of a file is not known here, nor
 * whether the values agree with each other (conf_check.c).
 */
#include <arpa/inet.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "conf_int.h"

#define K	(1024ull)
#define M	(1024 * K)
#define G	(1024 * M)

#define AT(type, member) \
	.offset = offsetof(struct type, member), .size = sizeof(((struct type *)0)->member)

static const struct conf_word	 transports[] = {
	{ "udp", CONF_UDP },
	{ "multicast", CONF_WORD_UNSUPPORTED },
	{ "tcp", CONF_WORD_UNSUPPORTED },
	{ NULL, 0 }
};

static const struct conf_word	 injects[] = {
	{ "commit", CONF_INJECT_COMMIT },
	{ "mirror", CONF_WORD_UNSUPPORTED },
	{ NULL, 0 }
};

static const struct conf_word	 suites[] = {
	{ "aes-256-gcm", CONF_SUITE_AES_256_GCM },
	{ "chacha20-poly1305", CONF_SUITE_CHACHA20_POLY1305 },
	{ NULL, 0 }
};

static const struct conf_word	 levels[] = {
	{ "err", LOG_ERR },
	{ "warning", LOG_WARNING },
	{ "notice", LOG_NOTICE },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
	{ NULL, 0 }
};

const struct conf_key	 conf_root_keys[] = {
	{ "node", CK_NAME, AT(conf, node) },
	{ "cluster", CK_NAME, AT(conf, cluster), .must = true },
	{ "key_file", CK_PATH, AT(conf, key_file), .must = true },
	{ "user", CK_NAME, AT(conf, user), .sdef = CONF_DEFAULT_USER },
	{ "runtime_dir", CK_PATH, AT(conf, runtime_dir), .sdef = "/run/ctsyncd" },
	{ .name = NULL }
};

static const struct conf_key	 control_keys[] = {
	{ "socket", CK_PATH, AT(conf, control.socket) },
	{ "group", CK_NAME, AT(conf, control.group), .sdef = "ctsync" },
	{ "read_group", CK_NAME, AT(conf, control.read_group) },
	{ "max_clients", CK_U32, AT(conf, control.max_clients), .min = 1, .max = 1024, .def = 32 },
	{ "stall_s", CK_U32, AT(conf, control.stall_s), .min = 1, .max = 3600, .def = 10 },
	{ .name = NULL }
};

static const struct conf_key	 takeover_keys[] = {
	{ "inject", CK_WORD, AT(conf, takeover.inject), .def = CONF_INJECT_COMMIT,
	    .words = injects },
	{ "boot_wait_s", CK_U32, AT(conf, takeover.boot_wait_s), .max = 3600, .def = 30 },
	{ "purge_s", CK_U32, AT(conf, takeover.purge_s), .min = 2, .max = 86400, .def = 60 },
	{ "follow_addresses", CK_ADDRS, AT(conf, takeover.follow_addresses) },
	{ .name = NULL }
};

#define TIMEOUT(key, class) \
	{ key, CK_U32, AT(conf, timeouts[FLOW_TIMEOUT_##class]), .max = 31536000 }

static const struct conf_key	 timeout_keys[] = {
	TIMEOUT("tcp_syn_sent", TCP_SYN_SENT),
	TIMEOUT("tcp_syn_recv", TCP_SYN_RECV),
	TIMEOUT("tcp_established", TCP_ESTABLISHED),
	TIMEOUT("tcp_fin_wait", TCP_FIN_WAIT),
	TIMEOUT("tcp_close_wait", TCP_CLOSE_WAIT),
	TIMEOUT("tcp_last_ack", TCP_LAST_ACK),
	TIMEOUT("tcp_time_wait", TCP_TIME_WAIT),
	TIMEOUT("tcp_close", TCP_CLOSE),
	TIMEOUT("udp", UDP),
	TIMEOUT("udp_stream", UDP_STREAM),
	TIMEOUT("icmp", ICMP),
	TIMEOUT("icmpv6", ICMPV6),
	TIMEOUT("gre", GRE),
	TIMEOUT("gre_stream", GRE_STREAM),
	TIMEOUT("sctp_closed", SCTP_CLOSED),
	TIMEOUT("sctp_cookie_wait", SCTP_COOKIE_WAIT),
	TIMEOUT("sctp_cookie_echoed", SCTP_COOKIE_ECHOED),
	TIMEOUT("sctp_established", SCTP_ESTABLISHED),
	TIMEOUT("sctp_shutdown_sent", SCTP_SHUTDOWN_SENT),
	TIMEOUT("sctp_shutdown_recd", SCTP_SHUTDOWN_RECD),
	TIMEOUT("sctp_shutdown_ack_sent", SCTP_SHUTDOWN_ACK_SENT),
	TIMEOUT("sctp_heartbeat_sent", SCTP_HEARTBEAT_SENT),
	TIMEOUT("dccp_request", DCCP_REQUEST),
	TIMEOUT("dccp_respond", DCCP_RESPOND),
	TIMEOUT("dccp_partopen", DCCP_PARTOPEN),
	TIMEOUT("dccp_open", DCCP_OPEN),
	TIMEOUT("dccp_closereq", DCCP_CLOSEREQ),
	TIMEOUT("dccp_closing", DCCP_CLOSING),
	TIMEOUT("dccp_timewait", DCCP_TIMEWAIT),
	TIMEOUT("generic", GENERIC),
	{ .name = NULL }
};

static const struct conf_key	 kernel_keys[] = {
	{ "event_buffer", CK_SIZE, AT(conf, kernel.event_buffer), .min = 64 * K,
	    .max = 1023 * M, .def = 64 * M },
	{ "audit_s", CK_U32, AT(conf, kernel.audit_s), .max = 86400, .def = 300 },
	{ "liberal", CK_BOOL, AT(conf, kernel.liberal), .def = true },
	{ "reliable_events", CK_BOOL, AT(conf, kernel.reliable_events), .def = false },
	{ "accounting", CK_BOOL, AT(conf, kernel.accounting), .def = true },
	{ .name = NULL }
};

static const struct conf_key	 replication_keys[] = {
	{ "hold_ms", CK_U32, AT(conf, replication.hold_ms), .max = 10000, .def = 100 },
	{ "scrub_s", CK_U32, AT(conf, replication.scrub_s), .max = 86400, .def = 300 },
	{ .name = NULL }
};

static const struct conf_key	 limits_keys[] = {
	{ "flows", CK_U32, AT(conf, limits.flows), .min = 1, .max = 1000000000,
	    .def = 4000000 },
	{ "tombstones", CK_U32, AT(conf, limits.tombstones), .max = 1000000000,
	    .def = 1000000 },
	{ "memory", CK_SIZE, AT(conf, limits.memory), .max = 16 * K * G },
	{ .name = NULL }
};

static const struct conf_key	 log_keys[] = {
	{ "level", CK_WORD, AT(conf, log.level), .def = LOG_INFO, .words = levels },
	{ .name = NULL }
};

static const struct conf_key	 security_keys[] = {
	{ "suite", CK_WORD, AT(conf, security.suite), .def = CONF_SUITE_AES_256_GCM,
	    .words = suites },
	{ .name = NULL }
};

const struct conf_section	 conf_sections[] = {
	{ "control", control_keys },
	{ "takeover", takeover_keys },
	{ "timeouts", timeout_keys },
	{ "kernel", kernel_keys },
	{ "replication", replication_keys },
	{ "limits", limits_keys },
	{ "log", log_keys },
	{ "security", security_keys },
	{ NULL, NULL }
};

const struct conf_key	 conf_link_keys[] = {
	/* First: a transport that is not supported has other keys than these. */
	{ "transport", CK_WORD, AT(conf_link, transport), .must = true, .words = transports },
	{ "name", CK_NAME, AT(conf_link, name), .must = true },
	{ "interface", CK_IFNAME, AT(conf_link, interface) },
	{ "local", CK_ADDR, AT(conf_link, local), .must = true },
	{ "port", CK_U32, AT(conf_link, port), .min = 1, .max = 65535, .def = 3790 },
	{ "mtu", CK_U32, AT(conf_link, mtu), .min = 1200, .max = 8900, .def = 1400 },
	{ "rcvbuf", CK_SIZE, AT(conf_link, rcvbuf), .min = 64 * K, .max = 1023 * M,
	    .def = 16 * M },
	{ "sndbuf", CK_SIZE, AT(conf_link, sndbuf), .min = 64 * K, .max = 1023 * M,
	    .def = 4 * M },
	{ .name = NULL }
};

const struct conf_key	 conf_peer_keys[] = {
	{ "name", CK_NAME, AT(conf_peer, name), .must = true },
	{ "address", CK_ADDR, AT(conf_peer, address), .must = true },
	{ .name = NULL }
};

const struct conf_key	 conf_filter_keys[] = {
	{ "skip_own", CK_BOOL, AT(conf_filter, skip_own), .def = true },
	{ .name = NULL }
};

static void
key_default(const struct conf_key *k, char *p)
{
	uint32_t	 u32 = (uint32_t)k->def;
	int		 word = (int)k->def;
	bool		 b = k->def != 0;

	switch (k->kind) {
	case CK_NAME:
	case CK_PATH:
	case CK_IFNAME:
		memset(p, 0, k->size);
		if (k->sdef != NULL)
			memcpy(p, k->sdef, strlen(k->sdef));
		break;
	case CK_U32:
		memcpy(p, &u32, sizeof(u32));
		break;
	case CK_SIZE:
		memcpy(p, &k->def, sizeof(k->def));
		break;
	case CK_BOOL:
		memcpy(p, &b, sizeof(b));
		break;
	case CK_WORD:
		memcpy(p, &word, sizeof(word));
		break;
	case CK_ADDR:
	case CK_ADDRS:
		memset(p, 0, k->size);
		break;
	}
}

void
conf_keys_default(const struct conf_key *keys, void *base)
{
	for (; keys->name != NULL; keys++)
		key_default(keys, (char *)base + keys->offset);
}

static void
expect_words(const struct conf_word *w, char buf[CONF_EXPECT_MAX])
{
	size_t	 n = 0;
	int	 r;

	buf[0] = '\0';
	for (; w->name != NULL; w++) {
		if (w->value == CONF_WORD_UNSUPPORTED)
			continue;
		r = snprintf(buf + n, CONF_EXPECT_MAX - n, "%s\"%s\"", n > 0 ? " or " : "", w->name);
		if (r < 0 || (size_t)r >= CONF_EXPECT_MAX - n)
			return;
		n += (size_t)r;
	}
}

char *
conf_key_expect(const struct conf_key *k, char buf[CONF_EXPECT_MAX])
{
	char	 min[CONF_SIZE_STR_MAX], max[CONF_SIZE_STR_MAX];

	switch (k->kind) {
	case CK_NAME:
		snprintf(buf, CONF_EXPECT_MAX, "name of 1..%zu characters A-Z a-z 0-9 . _ -",
		    k->size - 1);
		break;
	case CK_PATH:
		snprintf(buf, CONF_EXPECT_MAX, "absolute path of at most %zu characters",
		    k->size - 1);
		break;
	case CK_IFNAME:
		snprintf(buf, CONF_EXPECT_MAX, "interface name of 1..%zu characters", k->size - 1);
		break;
	case CK_U32:
		snprintf(buf, CONF_EXPECT_MAX, "integer %llu..%llu", (unsigned long long)k->min,
		    (unsigned long long)k->max);
		break;
	case CK_SIZE:
		snprintf(buf, CONF_EXPECT_MAX, "size %s..%s (bytes, or a string with K, M or G)",
		    conf_size_str(k->min, min), conf_size_str(k->max, max));
		break;
	case CK_BOOL:
		snprintf(buf, CONF_EXPECT_MAX, "true or false");
		break;
	case CK_WORD:
		expect_words(k->words, buf);
		break;
	case CK_ADDR:
		snprintf(buf, CONF_EXPECT_MAX, "IPv4 or IPv6 address of one host");
		break;
	case CK_ADDRS:
		snprintf(buf, CONF_EXPECT_MAX, "list of 1..%d addresses like ( \"192.0.2.1\", \"2001:db8::1\" )",
		    CONF_FOLLOW_MAX);
		break;
	}
	return buf;
}

bool
conf_name_ok(const char *s, size_t max)
{
	size_t	 n = strlen(s);

	return n >= 1 && n <= max && n == strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789._-");
}

bool
conf_path_ok(const char *s, size_t max)
{
	size_t	 i;

	for (i = 0; s[i] != '\0'; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	return s[0] == '/' && i > 1 && i <= max;
}

bool
conf_ifname_ok(const char *s)
{
	size_t	 i;

	if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (i = 0; s[i] != '\0'; i++)		/* as dev_valid_name() of the kernel */
		if (s[i] == '/' || s[i] == ':' || s[i] <= ' ' || s[i] >= 0x7f)
			return false;
	return i >= 1 && i <= CONF_IFNAME_MAX;
}

bool
conf_size_parse(const char *s, uint64_t *v)
{
	unsigned long long	 x;
	unsigned		 shift = 0;
	size_t			 n = strspn(s, "0123456789");

	if (n == 0 || n > 18)
		return false;
	x = strtoull(s, NULL, 10);
	switch (s[n]) {
	case 'K': case 'k':
		shift = 10;
		break;
	case 'M': case 'm':
		shift = 20;
		break;
	case 'G': case 'g':
		shift = 30;
		break;
	case '\0':
		break;
	default:
		return false;
	}
	if ((shift > 0 && s[n + 1] != '\0') || x > UINT64_MAX >> shift)
		return false;
	*v = (uint64_t)x << shift;
	return true;
}

char *
conf_size_str(uint64_t v, char buf[CONF_SIZE_STR_MAX])
{
	static const char	 suffix[] = "KMG";
	int			 i = -1;

	while (v != 0 && v % 1024 == 0 && i < 2) {
		v /= 1024;
		i++;
	}
	if (i < 0)
		snprintf(buf, CONF_SIZE_STR_MAX, "%llu", (unsigned long long)v);
	else
		snprintf(buf, CONF_SIZE_STR_MAX, "%llu%c", (unsigned long long)v, suffix[i]);
	return buf;
}

bool
conf_addr_parse(const char *s, struct conf_addr *a)
{
	struct conf_addr	 t = { .family = AF_INET };

	if (inet_pton(AF_INET, s, t.b) != 1) {
		t.family = AF_INET6;
		if (inet_pton(AF_INET6, s, t.b) != 1)
			return false;
	}
	*a = t;
	return true;
}

bool
conf_addr_equal(const struct conf_addr *a, const struct conf_addr *b)
{
	return a->family == b->family && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

char *
conf_addr_str(const struct conf_addr *a, char buf[CONF_ADDR_STR_MAX])
{
	if (a->family == 0 || inet_ntop(a->family, a->b, buf, CONF_ADDR_STR_MAX) == NULL)
		buf[0] = '\0';
	return buf;
}

const char *
conf_suite_name(int suite)
{
	const struct conf_word	*w;

	for (w = suites; w->name != NULL; w++)
		if (w->value == suite)
			return w->name;
	return "unknown";
}

/* Is any bit of a behind the first len set? */
static bool
addr_has_host_bits(const struct conf_addr *a, unsigned len)
{
	unsigned	 i;

	for (i = len; i < sizeof(a->b) * 8; i++)
		if (a->b[i / 8] & 0x80u >> i % 8)
			return true;
	return false;
}

const char *
conf_prefix_parse(const char *s, struct conf_prefix *p)
{
	char			 addr[CONF_ADDR_STR_MAX];
	const char		*slash = strchr(s, '/');
	size_t			 n = slash != NULL ? (size_t)(slash - s) : strlen(s);
	struct conf_prefix	 t;
	unsigned long		 len;

	if (n >= sizeof(addr))
		return "no address";
	memcpy(addr, s, n);
	addr[n] = '\0';
	if (!conf_addr_parse(addr, &t.net))
		return "no address";
	len = t.net.family == AF_INET ? 32 : 128;
	if (slash != NULL) {
		n = strspn(slash + 1, "0123456789");
		if (n == 0 || n > 3 || slash[1 + n] != '\0' || strtoul(slash + 1, NULL, 10) > len)
			return "no prefix length";
		len = strtoul(slash + 1, NULL, 10);
	}
	if (addr_has_host_bits(&t.net, (unsigned)len))
		return "bits are set behind the prefix length";
	t.len = (uint8_t)len;
	*p = t;
	return NULL;
}

/* A 32-bit number, decimal or 0x, at s; *end gets what follows it. */
static bool
u32_parse(const char *s, const char **end, uint32_t *v)
{
	bool		 hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	size_t		 n;
	unsigned long	 x;

	if (hex)
		s += 2;
	n = strspn(s, hex ? "0123456789abcdefABCDEF" : "0123456789");
	if (n == 0 || n > 10)
		return false;
	x = strtoul(s, NULL, hex ? 16 : 10);
	if (x > UINT32_MAX)
		return false;
	*end = s + n;
	*v = (uint32_t)x;
	return true;
}

const char *
conf_mark_parse(const char *s, struct conf_mark *m)
{
	struct conf_mark	 t = { .mask = UINT32_MAX };

	if (!u32_parse(s, &s, &t.value))
		return "no mark";
	if (*s == '/' && !u32_parse(s + 1, &s, &t.mask))
		return "no mask";
	if (*s != '\0')
		return "no mark";
	if ((t.value & ~t.mask) != 0)
		return "bits are set outside of the mask, nothing can match";
	*m = t;
	return NULL;
}
