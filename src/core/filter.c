/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Filters over flows: the user's (show, count) and that of the replication.
 *
 * Prefixes are compared as two words under a mask, one after the other: dozens
 * of them cost less than the event that brought the flow.  The user's text is
 * checked here once, so that matching has nothing left to fail at.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctsync/conf.h"
#include "ctsync/filter.h"

/* Where the synchronisation itself lives. */
struct endpoint {
	struct flow_addr	 addr;
	uint8_t			 family;
	uint16_t		 port;
};

struct repl_filter {
	bool			 skip_own;
	uint8_t			 protos[32];
	uint32_t		 tcp_states;
	struct flow_prefix	*addr_only, *addr_except;
	size_t			 naddr_only, naddr_except;
	struct conf_mark	*mark_only, *mark_except;
	size_t			 nmark_only, nmark_except;
	uint16_t		*zone_only, *zone_except;
	size_t			 nzone_only, nzone_except;
	struct endpoint		*sync;
	size_t			 nsync;
};

static void
prefix_set(struct flow_prefix *p, uint8_t family, const uint8_t b[16], unsigned len)
{
	uint8_t		 mask[16] = { 0 };
	unsigned	 i;

	for (i = 0; i < len / 8; i++)
		mask[i] = 0xff;
	if (len % 8 != 0)
		mask[i] = (uint8_t)(0xff00u >> (len % 8));
	memcpy(p->mask, mask, sizeof(p->mask));
	memcpy(p->net, b, sizeof(p->net));
	p->net[0] &= p->mask[0];
	p->net[1] &= p->mask[1];
	p->family = family;
}

/* The families are equal. */
static inline bool
prefix_has(const struct flow_prefix *p, const struct flow_addr *a)
{
	uint64_t	 w[2];

	memcpy(w, a->b, sizeof(w));
	return (w[0] & p->mask[0]) == p->net[0] && (w[1] & p->mask[1]) == p->net[1];
}

/* A decimal number up to max and nothing else. */
static bool
parse_num(const char *s, unsigned long max, unsigned long *v)
{
	char		*end;
	unsigned long	 x;

	if (*s < '0' || *s > '9' || strlen(s) > 10)
		return false;
	x = strtoul(s, &end, 10);
	if (*end != '\0' || x > max)
		return false;
	*v = x;
	return true;
}

int
flow_prefix_parse(const char *s, struct flow_prefix *p)
{
	uint8_t		 b[16] = { 0 }, family;
	char		 addr[INET6_ADDRSTRLEN];
	const char	*slash = strchr(s, '/');
	size_t		 n = slash != NULL ? (size_t)(slash - s) : strlen(s);
	unsigned long	 len, max;

	if (n >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, s, n);
	addr[n] = '\0';
	if (inet_pton(AF_INET, addr, b) == 1)
		family = AF_INET;
	else if (inet_pton(AF_INET6, addr, b) == 1)
		family = AF_INET6;
	else
		return -EINVAL;
	len = max = family == AF_INET ? 32 : 128;
	if (slash != NULL && !parse_num(slash + 1, max, &len))
		return -EINVAL;
	prefix_set(p, family, b, (unsigned)len);
	return 0;
}

static int
set_family(struct flow_filter *f, const char *v)
{
	if (strcmp(v, "ipv4") == 0)
		f->family = AF_INET;
	else if (strcmp(v, "ipv6") == 0)
		f->family = AF_INET6;
	else
		return -EINVAL;
	return 0;
}

static int
set_proto(struct flow_filter *f, const char *v)
{
	int	 n = flow_proto_parse(v);

	if (n < 0)
		return -EINVAL;
	f->proto = (uint8_t)n;
	f->set |= FLOW_F_PROTO;
	return 0;
}

static int
set_src(struct flow_filter *f, const char *v)
{
	return flow_prefix_parse(v, &f->addr[FLOW_F_SRC]);
}

static int
set_dst(struct flow_filter *f, const char *v)
{
	return flow_prefix_parse(v, &f->addr[FLOW_F_DST]);
}

static int
set_reply_src(struct flow_filter *f, const char *v)
{
	return flow_prefix_parse(v, &f->addr[FLOW_F_REPLY_SRC]);
}

static int
set_reply_dst(struct flow_filter *f, const char *v)
{
	return flow_prefix_parse(v, &f->addr[FLOW_F_REPLY_DST]);
}

static int
set_sport(struct flow_filter *f, const char *v)
{
	unsigned long	 n;

	if (!parse_num(v, UINT16_MAX, &n))
		return -EINVAL;
	f->sport = (uint16_t)n;
	f->set |= FLOW_F_SPORT;
	return 0;
}

static int
set_dport(struct flow_filter *f, const char *v)
{
	unsigned long	 n;

	if (!parse_num(v, UINT16_MAX, &n))
		return -EINVAL;
	f->dport = (uint16_t)n;
	f->set |= FLOW_F_DPORT;
	return 0;
}

static int
set_state(struct flow_filter *f, const char *v)
{
	int	 n = flow_tcp_state_parse(v);

	if (n < 0)
		return -EINVAL;
	f->tcp_state = (uint8_t)n;
	f->set |= FLOW_F_STATE;
	return 0;
}

/* A number as C writes it, in all of *s or up to a slash. */
static bool
parse_mark(const char **s, uint32_t *v)
{
	char		*end;
	unsigned long	 x;

	if (**s < '0' || **s > '9')
		return false;
	errno = 0;
	x = strtoul(*s, &end, 0);
	if (errno != 0 || x > UINT32_MAX || (*end != '\0' && *end != '/'))
		return false;
	*v = (uint32_t)x;
	*s = end;
	return true;
}

static int
set_mark(struct flow_filter *f, const char *v)
{
	uint32_t	 mark, mask = UINT32_MAX;

	if (!parse_mark(&v, &mark))
		return -EINVAL;
	if (*v == '/') {
		v++;
		if (!parse_mark(&v, &mask) || *v != '\0')
			return -EINVAL;
	}
	f->mark = mark & mask;
	f->mark_mask = mask;
	f->set |= FLOW_F_MARK;
	return 0;
}

static int
set_zone(struct flow_filter *f, const char *v)
{
	unsigned long	 n;

	if (!parse_num(v, UINT16_MAX, &n))
		return -EINVAL;
	f->zone = (uint16_t)n;
	f->set |= FLOW_F_ZONE;
	return 0;
}

static const struct {
	const char	*key;
	int		(*set)(struct flow_filter *, const char *);
	const char	*expected;
} conditions[] = {
	{ "family",	set_family,	"ipv4 or ipv6" },
	{ "proto",	set_proto,	"a protocol (tcp, udp, icmp, ...) or its number" },
	{ "src",	set_src,	"an address or ADDRESS/LENGTH" },
	{ "dst",	set_dst,	"an address or ADDRESS/LENGTH" },
	{ "reply_src",	set_reply_src,	"an address or ADDRESS/LENGTH" },
	{ "reply_dst",	set_reply_dst,	"an address or ADDRESS/LENGTH" },
	{ "sport",	set_sport,	"a port, 0 to 65535" },
	{ "dport",	set_dport,	"a port, 0 to 65535" },
	{ "state",	set_state,	"a TCP state (ESTABLISHED, SYN_SENT, ...)" },
	{ "mark",	set_mark,	"MARK or MARK/MASK, 32 bits each" },
	{ "zone",	set_zone,	"a zone, 0 to 65535" },
};

static const struct {
	const char	*key;
	uint32_t	 bits;		/* of the status */
	bool		 expect;
} flags[] = {
	{ "src_nat",	FLOW_S_SRC_NAT,	false },
	{ "dst_nat",	FLOW_S_DST_NAT,	false },
	{ "assured",	FLOW_S_ASSURED,	false },
	{ "expect",	0,		true },
};

int
flow_filter_set(struct flow_filter *f, const char *key, const char *value,
    char err[FILTER_ERR_MAX])
{
	size_t	 i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(flags[i].key, key) != 0)
			continue;
		if (value != NULL && strcmp(value, "true") != 0) {
			snprintf(err, FILTER_ERR_MAX, "%s takes no value", key);
			return -EINVAL;
		}
		f->status |= flags[i].bits;
		f->expect |= flags[i].expect;
		return 0;
	}
	for (i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
		if (strcmp(conditions[i].key, key) != 0)
			continue;
		if (value != NULL && conditions[i].set(f, value) == 0)
			return 0;
		snprintf(err, FILTER_ERR_MAX, "%s: expected %s, not \"%.64s\"", key,
		    conditions[i].expected, value != NULL ? value : "");
		return -EINVAL;
	}
	snprintf(err, FILTER_ERR_MAX, "there is no condition \"%.64s\"", key);
	return -EINVAL;
}

static bool
has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_DCCP ||
	    proto == IPPROTO_SCTP || proto == IPPROTO_UDPLITE;
}

/* A condition about what expectations do not have, or NULL. */
static const char *
flows_only(const struct flow_filter *f)
{
	size_t	 i;

	if (f->set & FLOW_F_STATE)
		return "state";
	if (f->set & FLOW_F_MARK)
		return "mark";
	if (f->addr[FLOW_F_REPLY_SRC].family != 0)
		return "reply_src";
	if (f->addr[FLOW_F_REPLY_DST].family != 0)
		return "reply_dst";
	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (f->status & flags[i].bits)
			return flags[i].key;
	return NULL;
}

int
flow_filter_check(const struct flow_filter *f, char err[FILTER_ERR_MAX])
{
	const char	*key = f->expect ? flows_only(f) : NULL;
	uint8_t		 family = f->family;
	size_t		 i;

	if (key != NULL) {
		snprintf(err, FILTER_ERR_MAX, "%s is no condition for expectations", key);
		return -EINVAL;
	}
	for (i = 0; i < FLOW_F_ADDRS; i++) {
		if (f->addr[i].family == 0)
			continue;
		if (family != 0 && f->addr[i].family != family) {
			snprintf(err, FILTER_ERR_MAX, "no flow is IPv4 and IPv6 at once");
			return -EINVAL;
		}
		family = f->addr[i].family;
	}
	if ((f->set & FLOW_F_PROTO) == 0)
		return 0;
	if ((f->set & (FLOW_F_SPORT | FLOW_F_DPORT)) && !has_ports(f->proto)) {
		snprintf(err, FILTER_ERR_MAX, "protocol %s has no ports", flow_proto_name(f->proto));
		return -EINVAL;
	}
	if ((f->set & FLOW_F_STATE) && f->proto != IPPROTO_TCP) {
		snprintf(err, FILTER_ERR_MAX, "state is one of TCP, protocol %s has none",
		    flow_proto_name(f->proto));
		return -EINVAL;
	}
	return 0;
}

static int
set_json(struct flow_filter *f, const char *key, const json_t *v, char err[FILTER_ERR_MAX])
{
	char	 num[32];

	if (json_is_string(v))
		return flow_filter_set(f, key, json_string_value(v), err);
	if (json_is_true(v))
		return flow_filter_set(f, key, "true", err);
	if (json_is_integer(v)) {
		snprintf(num, sizeof(num), "%lld", (long long)json_integer_value(v));
		return flow_filter_set(f, key, num, err);
	}
	snprintf(err, FILTER_ERR_MAX, "%.64s: expected a string, a number or true", key);
	return -EINVAL;
}

int
flow_filter_json(struct flow_filter *f, const json_t *obj, char err[FILTER_ERR_MAX])
{
	json_t		*o = NULL, *v;
	const char	*key;
	int		 rc;

	memset(f, 0, sizeof(*f));
	if (obj == NULL)
		return 0;
	if (!json_is_object(obj)) {
		snprintf(err, FILTER_ERR_MAX, "filter is no object");
		return -EINVAL;
	}
	o = json_copy((json_t *)(uintptr_t)obj);	/* jansson iterates over non-const only */
	if (o == NULL) {
		snprintf(err, FILTER_ERR_MAX, "out of memory");
		return -ENOMEM;
	}
	rc = 0;
	json_object_foreach(o, key, v) {
		if ((rc = set_json(f, key, v, err)) < 0)
			break;
	}
	json_decref(o);
	return rc < 0 ? rc : flow_filter_check(f, err);
}

static bool
match_addrs(const struct flow_filter *f, const struct flow *fl)
{
	const struct flow_addr	*a[FLOW_F_ADDRS] = {
		&fl->orig.src, &fl->orig.dst, &fl->reply.src, &fl->reply.dst
	};
	size_t			 i;

	for (i = 0; i < FLOW_F_ADDRS; i++) {
		if (f->addr[i].family == 0)
			continue;
		if (f->addr[i].family != fl->family || !prefix_has(&f->addr[i], a[i]))
			return false;
	}
	return true;
}

bool
flow_filter_match(const struct flow_filter *f, const struct flow *fl)
{
	if (f->expect != fl->expect)
		return false;
	if (f->family != 0 && f->family != fl->family)
		return false;
	if ((f->set & FLOW_F_PROTO) && f->proto != fl->proto)
		return false;
	if ((f->set & FLOW_F_STATE) &&
	    (fl->proto != IPPROTO_TCP || f->tcp_state != fl->tcp_state))
		return false;
	if ((f->set & (FLOW_F_SPORT | FLOW_F_DPORT)) && !has_ports(fl->proto))
		return false;
	if ((f->set & FLOW_F_SPORT) && f->sport != fl->orig.l4src)
		return false;
	if ((f->set & FLOW_F_DPORT) && f->dport != fl->orig.l4dst)
		return false;
	if ((f->set & FLOW_F_MARK) && (fl->mark & f->mark_mask) != f->mark)
		return false;
	if ((f->set & FLOW_F_ZONE) && f->zone != fl->zone)
		return false;
	if ((fl->status & f->status) != f->status)
		return false;
	return match_addrs(f, fl);
}

/* Of the copies: one element too many, so that an empty list is not NULL. */
static struct flow_prefix *
copy_prefixes(const struct conf_prefix *from, size_t n)
{
	struct flow_prefix	*p;
	size_t			 i;

	if ((p = calloc(n + 1, sizeof(*p))) == NULL)
		return NULL;
	for (i = 0; i < n; i++)
		prefix_set(&p[i], from[i].net.family, from[i].net.b, from[i].len);
	return p;
}

static void *
copy_array(const void *from, size_t n, size_t size)
{
	void	*p;

	if ((p = calloc(n + 1, size)) == NULL)
		return NULL;
	if (n > 0)
		memcpy(p, from, n * size);
	return p;
}

static struct endpoint *
copy_links(const struct conf *conf)
{
	struct endpoint	*e;
	size_t		 i;

	if ((e = calloc(conf->nlinks + 1, sizeof(*e))) == NULL)
		return NULL;
	for (i = 0; i < conf->nlinks; i++) {
		memcpy(e[i].addr.b, conf->links[i].local.b, sizeof(e[i].addr.b));
		e[i].family = conf->links[i].local.family;
		e[i].port = (uint16_t)conf->links[i].port;
	}
	return e;
}

struct repl_filter *
repl_filter_new(const struct conf *conf)
{
	const struct conf_filter	*cf = &conf->filter;
	struct repl_filter		*rf;

	if ((rf = calloc(1, sizeof(*rf))) == NULL)
		return NULL;
	rf->skip_own = cf->skip_own;
	memcpy(rf->protos, cf->protos, sizeof(rf->protos));
	rf->tcp_states = cf->tcp_states;
	rf->naddr_only = cf->naddr_only;
	rf->naddr_except = cf->naddr_except;
	rf->nmark_only = cf->nmark_only;
	rf->nmark_except = cf->nmark_except;
	rf->nzone_only = cf->nzone_only;
	rf->nzone_except = cf->nzone_except;
	rf->nsync = conf->nlinks;
	rf->addr_only = copy_prefixes(cf->addr_only, cf->naddr_only);
	rf->addr_except = copy_prefixes(cf->addr_except, cf->naddr_except);
	rf->mark_only = copy_array(cf->mark_only, cf->nmark_only, sizeof(*cf->mark_only));
	rf->mark_except = copy_array(cf->mark_except, cf->nmark_except, sizeof(*cf->mark_except));
	rf->zone_only = copy_array(cf->zone_only, cf->nzone_only, sizeof(*cf->zone_only));
	rf->zone_except = copy_array(cf->zone_except, cf->nzone_except, sizeof(*cf->zone_except));
	rf->sync = copy_links(conf);
	if (rf->addr_only == NULL || rf->addr_except == NULL || rf->mark_only == NULL ||
	    rf->mark_except == NULL || rf->zone_only == NULL || rf->zone_except == NULL ||
	    rf->sync == NULL) {
		repl_filter_free(rf);
		return NULL;
	}
	return rf;
}

void
repl_filter_free(struct repl_filter *rf)
{
	if (rf == NULL)
		return;
	free(rf->addr_only);
	free(rf->addr_except);
	free(rf->mark_only);
	free(rf->mark_except);
	free(rf->zone_only);
	free(rf->zone_except);
	free(rf->sync);
	free(rf);
}

static bool
prefixes_match(const struct flow_prefix *p, size_t n, const struct flow *fl)
{
	size_t	 i;

	for (i = 0; i < n; i++) {
		if (p[i].family != fl->family)
			continue;
		if (prefix_has(&p[i], &fl->orig.src) || prefix_has(&p[i], &fl->orig.dst) ||
		    prefix_has(&p[i], &fl->reply.src) || prefix_has(&p[i], &fl->reply.dst))
			return true;
	}
	return false;
}

static bool
marks_match(const struct conf_mark *m, size_t n, uint32_t mark)
{
	size_t	 i;

	for (i = 0; i < n; i++)
		if ((mark & m[i].mask) == m[i].value)
			return true;
	return false;
}

static bool
zones_match(const uint16_t *z, size_t n, uint16_t zone)
{
	size_t	 i;

	for (i = 0; i < n; i++)
		if (z[i] == zone)
			return true;
	return false;
}

/*
 * Addresses that no router forwards: loopback, link-local IPv6, multicast of
 * one link, limited broadcast.  A flow with one of them ends on this node.
 */
static bool
addr_stays(uint8_t family, const struct flow_addr *a)
{
	static const uint8_t	 loopback6[16] = { [15] = 1 };
	static const uint8_t	 broadcast[4] = { 0xff, 0xff, 0xff, 0xff };
	const uint8_t		*b = a->b;

	if (family == AF_INET)
		return b[0] == 127 || (b[0] == 224 && b[1] == 0 && b[2] == 0) ||
		    memcmp(b, broadcast, sizeof(broadcast)) == 0;
	if (b[0] == 0xfe)
		return (b[1] & 0xc0) == 0x80;
	if (b[0] == 0xff)
		return (b[1] & 0x0f) == 1 || (b[1] & 0x0f) == 2;
	return memcmp(b, loopback6, sizeof(loopback6)) == 0;
}

static bool
ends_here(const struct flow *fl, repl_own_fn *own, void *ctx)
{
	if (addr_stays(fl->family, &fl->orig.src) || addr_stays(fl->family, &fl->reply.src))
		return true;
	return own != NULL && (own(ctx, fl->family, &fl->orig.src) ||
	    own(ctx, fl->family, &fl->reply.src));
}

static bool
is_sync(const struct repl_filter *rf, const struct flow *fl)
{
	const struct endpoint	*e;
	size_t			 i;

	if (fl->proto != IPPROTO_UDP && fl->proto != IPPROTO_TCP)
		return false;
	for (i = 0; i < rf->nsync; i++) {
		e = &rf->sync[i];
		if (e->family != fl->family ||
		    (fl->orig.l4dst != e->port && fl->orig.l4src != e->port))
			continue;
		if (memcmp(&e->addr, &fl->orig.src, sizeof(e->addr)) == 0 ||
		    memcmp(&e->addr, &fl->orig.dst, sizeof(e->addr)) == 0)
			return true;
	}
	return false;
}

enum repl_verdict
repl_filter_check(const struct repl_filter *rf, const struct flow *fl, repl_own_fn *own,
    void *ctx)
{
	if ((rf->protos[fl->proto / 8] & 1u << fl->proto % 8) == 0)
		return REPL_PROTO;
	if (fl->proto == IPPROTO_TCP && (rf->tcp_states & 1u << fl->tcp_state) == 0)
		return REPL_STATE;
	if (rf->skip_own && ends_here(fl, own, ctx))
		return REPL_OWN;
	if (is_sync(rf, fl))
		return REPL_SYNC;
	if ((rf->nmark_only > 0 && !marks_match(rf->mark_only, rf->nmark_only, fl->mark)) ||
	    marks_match(rf->mark_except, rf->nmark_except, fl->mark))
		return REPL_MARK;
	if ((rf->nzone_only > 0 && !zones_match(rf->zone_only, rf->nzone_only, fl->zone)) ||
	    zones_match(rf->zone_except, rf->nzone_except, fl->zone))
		return REPL_ZONE;
	if ((rf->naddr_only > 0 && !prefixes_match(rf->addr_only, rf->naddr_only, fl)) ||
	    prefixes_match(rf->addr_except, rf->naddr_except, fl))
		return REPL_ADDR;
	return REPL_PASS;
}

const char *
repl_verdict_name(enum repl_verdict v)
{
	static const char *const	 names[REPL_VERDICTS] = {
		"passed", "protocol", "own_address", "sync_traffic", "tcp_state", "address",
		"mark", "zone"
	};

	return v < REPL_VERDICTS ? names[v] : "unknown";
}
