/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The reading half of ctlab-ctgen: dumps and events.
 *
 * An entry is brought into a canonical record, all of it defined bytes, so
 * that records of two tables compare with memcmp.  The digest is the sum and
 * the exclusive or of two hashes of each record: the order does not matter.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <libmnl/libmnl.h>

#include "ctgen.h"

#define DUMP_BUF	(256u << 10)
#define DRAIN_MSGS	64u
#define DRAIN_LEN	4096u

/* Layer-4 keys of any protocol, as the attributes carry them. */
struct key {
	uint8_t		 src[16], dst[16];
	uint16_t	 sport, dport, icmp_id, zone;
	uint8_t		 icmp_type, icmp_code, proto, family;
};

struct rec {
	struct key	 orig, reply;
	uint32_t	 status, mark;
	uint32_t	 zone, state;
};

_Static_assert(sizeof(struct rec) == 104, "a record must have no padding");

struct dump {
	const struct ctg_opts *o;
	uint64_t	 count, skipped;
	uint64_t	 snat, dnat, assured, tcp, udp;
	uint64_t	 sum, xor;
	struct rec	*recs;		/* list only */
	size_t		 nrecs, cap;
	bool		 keep, hash;
};

static bool
attr_ok(const struct nlattr *a, const void *end)
{
	return mnl_attr_ok(a, (int)((const char *)end - (const char *)a));
}

static const void *
nest_end(const struct nlattr *nest)
{
	return (const char *)mnl_attr_get_payload(nest) +
	    mnl_attr_get_payload_len(nest);
}

/* libmnl's own iterators trip -Wconversion. */
#define FOR_EACH_NESTED(a, nest)					\
	for ((a) = mnl_attr_get_payload(nest); attr_ok(a, nest_end(nest)); \
	    (a) = mnl_attr_next(a))

static uint16_t
get_u16(const struct nlattr *a)
{
	return ntohs(mnl_attr_get_u16(a));
}

static void
get_ip(struct key *k, const struct nlattr *nest)
{
	const struct nlattr *a;

	FOR_EACH_NESTED(a, nest) {
		size_t len = mnl_attr_get_payload_len(a);
		uint16_t type = mnl_attr_get_type(a);

		if (len > sizeof(k->src))
			continue;
		if (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC)
			memcpy(k->src, mnl_attr_get_payload(a), len);
		else if (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST)
			memcpy(k->dst, mnl_attr_get_payload(a), len);
	}
}

static void
get_proto(struct key *k, const struct nlattr *nest)
{
	const struct nlattr *a;

	FOR_EACH_NESTED(a, nest) {
		switch (mnl_attr_get_type(a)) {
		case CTA_PROTO_NUM:
			k->proto = mnl_attr_get_u8(a);
			break;
		case CTA_PROTO_SRC_PORT:
			k->sport = get_u16(a);
			break;
		case CTA_PROTO_DST_PORT:
			k->dport = get_u16(a);
			break;
		case CTA_PROTO_ICMP_ID:
		case CTA_PROTO_ICMPV6_ID:
			k->icmp_id = get_u16(a);
			break;
		case CTA_PROTO_ICMP_TYPE:
		case CTA_PROTO_ICMPV6_TYPE:
			k->icmp_type = mnl_attr_get_u8(a);
			break;
		case CTA_PROTO_ICMP_CODE:
		case CTA_PROTO_ICMPV6_CODE:
			k->icmp_code = mnl_attr_get_u8(a);
			break;
		default:
			break;
		}
	}
}

static void
get_tuple(struct key *k, const struct nlattr *nest, uint8_t family)
{
	const struct nlattr *a;

	k->family = family;
	FOR_EACH_NESTED(a, nest) {
		switch (mnl_attr_get_type(a)) {
		case CTA_TUPLE_IP:
			get_ip(k, a);
			break;
		case CTA_TUPLE_PROTO:
			get_proto(k, a);
			break;
		case CTA_TUPLE_ZONE:
			k->zone = get_u16(a);
			break;
		default:
			break;
		}
	}
}

static uint32_t
get_state(const struct nlattr *protoinfo)
{
	const struct nlattr *a, *b;

	FOR_EACH_NESTED(a, protoinfo) {
		if (mnl_attr_get_type(a) != CTA_PROTOINFO_TCP)
			continue;
		FOR_EACH_NESTED(b, a)
			if (mnl_attr_get_type(b) == CTA_PROTOINFO_TCP_STATE)
				return mnl_attr_get_u8(b);
	}
	return 0;
}

static void
parse_entry(struct rec *r, const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;

	memset(r, 0, sizeof(*r));
	for (a = mnl_nlmsg_get_payload_offset(nlh, sizeof(*nfg));
	    attr_ok(a, mnl_nlmsg_get_payload_tail(nlh)); a = mnl_attr_next(a)) {
		switch (mnl_attr_get_type(a)) {
		case CTA_TUPLE_ORIG:
			get_tuple(&r->orig, a, nfg->nfgen_family);
			break;
		case CTA_TUPLE_REPLY:
			get_tuple(&r->reply, a, nfg->nfgen_family);
			break;
		case CTA_STATUS:
			r->status = ntohl(mnl_attr_get_u32(a));
			break;
		case CTA_MARK:
			r->mark = ntohl(mnl_attr_get_u32(a));
			break;
		case CTA_ZONE:
			r->zone = get_u16(a);
			break;
		case CTA_PROTOINFO:
			r->state = get_state(a);
			break;
		default:
			break;
		}
	}
}

static bool
in_prefix(const uint8_t *addr, const struct ctg_prefix *p)
{
	size_t bytes = p->len / 8u;
	unsigned int bits = p->len % 8u;

	if (memcmp(addr, p->addr, bytes) != 0)
		return false;
	return bits == 0 ||
	    ((addr[bytes] ^ p->addr[bytes]) & (0xff00u >> bits) & 0xffu) == 0;
}

static bool
skipped(const struct ctg_opts *o, const struct rec *r)
{
	unsigned int i;

	for (i = 0; i < o->nskip; i++)
		if (o->skip[i].family == r->orig.family &&
		    (in_prefix(r->orig.src, &o->skip[i]) ||
		    in_prefix(r->orig.dst, &o->skip[i])))
			return true;
	return false;
}

/* Blank what the caller does not want to compare. */
static void
mask_fields(struct rec *r, const struct ctg_opts *o)
{
	r->status &= o->status_mask;
	if ((o->fields & CTG_F_TUPLES) == 0) {
		memset(&r->orig, 0, sizeof(r->orig));
		memset(&r->reply, 0, sizeof(r->reply));
	}
	if ((o->fields & CTG_F_STATUS) == 0)
		r->status = 0;
	if ((o->fields & CTG_F_MARK) == 0)
		r->mark = 0;
	if ((o->fields & CTG_F_STATE) == 0)
		r->state = 0;
	if ((o->fields & CTG_F_ZONE) == 0)
		r->zone = r->orig.zone = r->reply.zone = 0;
}

static uint64_t
mix64(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t
hash_rec(const struct rec *r, uint64_t seed)
{
	const uint8_t *p = (const uint8_t *)r;
	uint64_t h = seed, v;
	size_t i;

	for (i = 0; i < sizeof(*r); i += sizeof(v)) {
		memcpy(&v, p + i, sizeof(v));
		h = mix64(h ^ v) + 0x9e3779b97f4a7c15u;
	}
	return h;
}

static void
keep_rec(struct dump *d, const struct rec *r)
{
	if (d->nrecs == d->cap) {
		d->cap = d->cap == 0 ? 65536 : d->cap * 2;
		d->recs = reallocarray(d->recs, d->cap, sizeof(*d->recs));
		if (d->recs == NULL)
			err(1, "list");
	}
	d->recs[d->nrecs++] = *r;
}

static int
dump_cb(const struct nlmsghdr *nlh, void *arg)
{
	struct dump *d = arg;
	struct rec r;

	parse_entry(&r, nlh);
	if (skipped(d->o, &r)) {
		d->skipped++;
		return MNL_CB_OK;
	}
	d->count++;
	d->snat += (r.status & IPS_SRC_NAT) != 0;
	d->dnat += (r.status & IPS_DST_NAT) != 0;
	d->assured += (r.status & IPS_ASSURED) != 0;
	d->tcp += r.orig.proto == IPPROTO_TCP;
	d->udp += r.orig.proto == IPPROTO_UDP;
	mask_fields(&r, d->o);
	if (d->hash) {
		d->sum += hash_rec(&r, 1);
		d->xor ^= hash_rec(&r, 2);
	}
	if (d->keep)
		keep_rec(d, &r);
	return MNL_CB_OK;
}

/* Dump the table of this namespace into d; returns the seconds it took. */
static double
run_dump(struct dump *d)
{
	uint64_t begin = ctg_now_ns();
	struct mnl_socket *sock;
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;
	uint8_t req[64];
	char *buf;
	ssize_t n;
	int rc = MNL_CB_OK;

	sock = mnl_socket_open(NETLINK_NETFILTER);
	buf = malloc(DUMP_BUF);
	if (sock == NULL || buf == NULL ||
	    mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) == -1)
		err(1, "netlink socket");
	nlh = mnl_nlmsg_put_header(req);
	nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 1;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	if (mnl_socket_sendto(sock, nlh, nlh->nlmsg_len) == -1)
		err(1, "dump request");
	while (rc > MNL_CB_STOP) {
		n = mnl_socket_recvfrom(sock, buf, DUMP_BUF);
		if (n == -1)
			err(1, "dump");
		rc = mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(sock),
		    dump_cb, d);
		/* The kernel marks a dump as interrupted; it goes on all the same. */
		if (rc == MNL_CB_ERROR && errno == EINTR)
			rc = MNL_CB_OK;
	}
	if (rc == MNL_CB_ERROR)
		err(1, "dump");
	free(buf);
	mnl_socket_close(sock);
	return (double)(ctg_now_ns() - begin) / 1e9;
}

int
ctg_cmd_count(const struct ctg_opts *o)
{
	struct dump d = { .o = o };
	double s = run_dump(&d);

	ctg_print(json_pack("{s:s s:I s:I s:I s:I s:I s:I s:I s:f}",
	    "op", "count", "entries", (json_int_t)d.count,
	    "skipped", (json_int_t)d.skipped,
	    "snat", (json_int_t)d.snat, "dnat", (json_int_t)d.dnat,
	    "assured", (json_int_t)d.assured,
	    "tcp", (json_int_t)d.tcp, "udp", (json_int_t)d.udp,
	    "wall_s", s));
	return 0;
}

int
ctg_cmd_digest(const struct ctg_opts *o)
{
	struct dump d = { .o = o, .hash = true };
	char hex[33];
	double s = run_dump(&d);

	snprintf(hex, sizeof(hex), "%016llx%016llx",
	    (unsigned long long)d.sum, (unsigned long long)d.xor);
	ctg_print(json_pack("{s:s s:I s:I s:I s:s s:f}",
	    "op", "digest", "entries", (json_int_t)d.count,
	    "skipped", (json_int_t)d.skipped,
	    "snat", (json_int_t)d.snat, "digest", hex, "wall_s", s));
	return 0;
}

static void
print_key(const char *what, const struct key *k)
{
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];
	int family = k->family == AF_INET6 ? AF_INET6 : AF_INET;

	inet_ntop(family, k->src, src, sizeof(src));
	inet_ntop(family, k->dst, dst, sizeof(dst));
	printf(" %s=%s/%u>%s/%u", what, src, k->sport, dst, k->dport);
	if (k->proto == IPPROTO_ICMP || k->proto == IPPROTO_ICMPV6)
		printf(" icmp=%u/%u/%u", k->icmp_type, k->icmp_code,
		    k->icmp_id);
	if (k->zone != 0)
		printf(" %s-zone=%u", what, k->zone);
}

static int
compare_recs(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct rec));
}

int
ctg_cmd_list(const struct ctg_opts *o)
{
	struct dump d = { .o = o, .keep = true };
	const struct rec *r;
	size_t i;

	run_dump(&d);
	if (d.nrecs != 0)
		qsort(d.recs, d.nrecs, sizeof(*d.recs), compare_recs);
	for (i = 0; i < d.nrecs; i++) {
		r = &d.recs[i];
		printf("%s proto=%u", r->orig.family == AF_INET6 ? "ipv6" :
		    "ipv4", r->orig.proto);
		print_key("orig", &r->orig);
		print_key("reply", &r->reply);
		printf(" status=0x%x mark=%u state=%u zone=%u\n", r->status,
		    r->mark, r->state, r->zone);
	}
	free(d.recs);
	return fflush(stdout) == EOF;
}

struct drain {
	uint64_t	 events, bytes, overruns;
	uint64_t	 news, updates, destroys;
	uint64_t	 first_ns, last_ns;
	uint32_t	 state_seen;	/* keeps --parse from being optimised out */
};

static void
drain_event(struct drain *dr, const uint8_t *buf, size_t len, bool parse)
{
	const struct nlmsghdr *nlh = (const void *)buf;
	struct rec r;

	if (!mnl_nlmsg_ok(nlh, (int)len))
		return;
	dr->events++;
	dr->bytes += len;
	if ((nlh->nlmsg_type & 0xff) == IPCTNL_MSG_CT_DELETE)
		dr->destroys++;
	else if ((nlh->nlmsg_flags & NLM_F_CREATE) != 0)
		dr->news++;
	else
		dr->updates++;
	if (parse) {
		parse_entry(&r, nlh);
		dr->state_seen |= 1u << (r.state & 31u);
	}
}

/* One recvmmsg; false when nothing came for the idle time. */
static bool
drain_once(struct drain *dr, int fd, const struct ctg_opts *o,
    struct mmsghdr *msgs)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned int i;
	int n;

	n = recvmmsg(fd, msgs, DRAIN_MSGS, MSG_DONTWAIT, NULL);
	if (n == -1 && errno == ENOBUFS) {
		dr->overruns++;
		return true;
	}
	if (n == -1 && errno == EAGAIN)
		return poll(&pfd, 1, (int)o->idle_ms) != 0;
	if (n == -1 && errno != EINTR)
		err(1, "recvmmsg");
	if (n > 0 && dr->events == 0)
		dr->first_ns = ctg_now_ns();
	for (i = 0; n > 0 && i < (unsigned int)n; i++)
		drain_event(dr, msgs[i].msg_hdr.msg_iov->iov_base,
		    msgs[i].msg_len, o->parse);
	dr->last_ns = ctg_now_ns();
	return true;
}

int
ctg_cmd_drain(const struct ctg_opts *o)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	static uint8_t buf[DRAIN_MSGS][DRAIN_LEN]
	    __attribute__((aligned(NLMSG_ALIGNTO)));
	struct mmsghdr msgs[DRAIN_MSGS] = { 0 };
	struct iovec iov[DRAIN_MSGS];
	struct drain dr = { 0 };
	double user, sys, n, u0, s0;
	unsigned int i;
	int fd;

	for (i = 0; i < DRAIN_MSGS; i++) {
		iov[i].iov_base = buf[i];
		iov[i].iov_len = sizeof(buf[i]);
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (fd == -1 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1)
		err(1, "netlink socket");
	ctg_bufsize(fd, SO_RCVBUFFORCE, o->rcvbuf);
	ctg_join_events(fd);
	fprintf(stderr, "listening\n");
	ctg_cpu_split(&u0, &s0);
	while ((o->count == 0 || dr.events < o->count) &&
	    drain_once(&dr, fd, o, msgs))
		;
	ctg_cpu_split(&user, &sys);
	close(fd);
	n = dr.events == 0 ? 1 : (double)dr.events;
	ctg_print(json_pack("{s:s s:I s:I s:I s:I s:I s:f s:f s:f s:f s:f s:b}",
	    "op", "drain", "events", (json_int_t)dr.events,
	    "new", (json_int_t)dr.news, "update", (json_int_t)dr.updates,
	    "destroy", (json_int_t)dr.destroys,
	    "overruns", (json_int_t)dr.overruns,
	    "bytes_per_event", (double)dr.bytes / n,
	    "wall_s", (double)(dr.last_ns - dr.first_ns) / 1e9,
	    "cpu_us_per_event", (user - u0 + sys - s0) * 1e6 / n,
	    "user_us_per_event", (user - u0) * 1e6 / n,
	    "sys_us_per_event", (sys - s0) * 1e6 / n,
	    "parsed", o->parse));
	return 0;
}
