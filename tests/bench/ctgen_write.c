/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The writing half of ctlab-ctgen.
 *
 * Entry i of a kind is always the same flow, so that separate calls can
 * create, update and delete it.  Messages go out in batches, one sendmsg
 * each, with an acknowledgement asked of the last one only: the kernel works
 * them off in order and reports every error by itself.
 *
 * No address belongs to a host or to a synchronisation link, so that no
 * replication daemon filters these flows out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <libmnl/libmnl.h>

#include "ctgen.h"

#define MSG_MAX		640u		/* longest message, IPv6 with NAT */
#define SOCK_BUF	(8u << 20)
#define ERRNO_MAX	256
#define SLICE_NS	1000000u	/* pacing: length of a slice */
#define PORTS		60000u		/* ports used per address, from 1024 */

#define ADDR_CLIENTS	0x64400001u	/* 100.64.0.0/10 */
#define ADDR_SERVERS	0xc6120001u	/* 198.18.0.0/15 */
#define ADDR_NAT	0xcb007101u	/* 203.0.113.0/24 and what follows */
#define CLIENTS		65536u
#define SERVERS		131072u

#define WINDOW_FLAGS	(IP_CT_TCP_FLAG_WINDOW_SCALE | IP_CT_TCP_FLAG_SACK_PERM)

/* One direction as it appears in a tuple. */
struct side {
	uint8_t		 family, proto;
	uint8_t		 src[16], dst[16];
	uint16_t	 sport, dport;		/* network byte order */
};

struct flow {
	struct side	 orig, reply;
	uint16_t	 nat_attr;		/* CTA_NAT_SRC, _DST or 0 */
	uint8_t		 nat_addr[16];
	uint16_t	 nat_port;
};

struct writer {
	int		 fd;
	uint32_t	 portid;
	uint32_t	 seq;
	uint32_t	 batch, queued;
	uint8_t		*buf;
	size_t		 used;
	struct nlmsghdr	*last;
	uint64_t	 sent, failed;
	uint64_t	 errors[ERRNO_MAX];
};

typedef void (*put_fn)(struct writer *, const struct ctg_opts *, uint64_t);

/* The address number n of a range that starts at base, in either family. */
static void
make_addr(uint8_t *out, uint8_t family, uint32_t base, uint32_t n)
{
	uint32_t v = htonl(base + n);

	memset(out, 0, 16);
	if (family == AF_INET) {
		memcpy(out, &v, 4);
		return;
	}
	memcpy(out, "\x20\x01\x0d\xb8", 4);
	memcpy(out + 12, &v, 4);
}

static uint16_t
make_port(uint64_t n)
{
	return htons((uint16_t)(1024 + n % PORTS));
}

static void
make_flow(struct flow *f, enum ctg_kind kind, uint64_t i)
{
	uint8_t family = kind == CTG_TCP6_SNAT ? AF_INET6 : AF_INET;
	uint32_t server = (uint32_t)(i * 2654435761u >> 7) % SERVERS;
	uint8_t nat[16];

	memset(f, 0, sizeof(*f));
	f->orig.family = f->reply.family = family;
	f->orig.proto = kind == CTG_UDP ? IPPROTO_UDP : IPPROTO_TCP;
	f->reply.proto = f->orig.proto;
	make_addr(f->orig.src, family, ADDR_CLIENTS, (uint32_t)(i % CLIENTS));
	f->orig.sport = make_port(i / CLIENTS * 7);
	make_addr(nat, family, ADDR_NAT, (uint32_t)(i / PORTS));
	if (kind == CTG_DNAT) {
		memcpy(f->orig.dst, nat, sizeof(nat));
		f->orig.dport = make_port(i);
		f->nat_attr = CTA_NAT_DST;
		make_addr(f->nat_addr, family, ADDR_SERVERS, server);
		f->nat_port = htons(8080);
	} else {
		make_addr(f->orig.dst, family, ADDR_SERVERS, server);
		f->orig.dport = htons(kind == CTG_UDP ? 53 : 443);
	}
	if (kind == CTG_TCP_SNAT || kind == CTG_TCP6_SNAT) {
		f->nat_attr = CTA_NAT_SRC;
		memcpy(f->nat_addr, nat, sizeof(nat));
		f->nat_port = make_port(i);
	}
	memcpy(f->reply.src, f->orig.dst, sizeof(f->reply.src));
	memcpy(f->reply.dst, f->orig.src, sizeof(f->reply.dst));
	f->reply.sport = f->orig.dport;
	f->reply.dport = f->orig.sport;
}

static void
put_addr(struct nlmsghdr *nlh, uint8_t family, uint16_t v4, uint16_t v6,
    const uint8_t *addr)
{
	if (family == AF_INET)
		mnl_attr_put(nlh, v4, 4, addr);
	else
		mnl_attr_put(nlh, v6, 16, addr);
}

static void
put_tuple(struct nlmsghdr *nlh, uint16_t type, const struct side *s)
{
	struct nlattr *tuple, *nest;

	tuple = mnl_attr_nest_start(nlh, type);
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	put_addr(nlh, s->family, CTA_IP_V4_SRC, CTA_IP_V6_SRC, s->src);
	put_addr(nlh, s->family, CTA_IP_V4_DST, CTA_IP_V6_DST, s->dst);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, s->proto);
	mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, s->sport);
	mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, s->dport);
	mnl_attr_nest_end(nlh, nest);
	mnl_attr_nest_end(nlh, tuple);
}

static void
put_nat(struct nlmsghdr *nlh, const struct flow *f)
{
	struct nlattr *nat, *proto;

	nat = mnl_attr_nest_start(nlh, f->nat_attr);
	put_addr(nlh, f->orig.family, CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP,
	    f->nat_addr);
	put_addr(nlh, f->orig.family, CTA_NAT_V4_MAXIP, CTA_NAT_V6_MAXIP,
	    f->nat_addr);
	proto = mnl_attr_nest_start(nlh, CTA_NAT_PROTO);
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MIN, f->nat_port);
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MAX, f->nat_port);
	mnl_attr_nest_end(nlh, proto);
	mnl_attr_nest_end(nlh, nat);
}

/* State, window scale and flags of a TCP entry; only the state if asked. */
static void
put_tcp(struct nlmsghdr *nlh, uint8_t state, bool complete)
{
	struct nf_ct_tcp_flags flags = {
		.flags = WINDOW_FLAGS, .mask = WINDOW_FLAGS,
	};
	struct nlattr *info, *tcp;

	info = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
	tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);
	mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_STATE, state);
	if (complete) {
		mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, 7);
		mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_WSCALE_REPLY, 9);
		mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
		    sizeof(flags), &flags);
		mnl_attr_put(nlh, CTA_PROTOINFO_TCP_FLAGS_REPLY,
		    sizeof(flags), &flags);
	}
	mnl_attr_nest_end(nlh, tcp);
	mnl_attr_nest_end(nlh, info);
}

static void
writer_open(struct writer *w, uint32_t batch)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	socklen_t len = sizeof(sa);
	int one = 1;

	memset(w, 0, sizeof(*w));
	w->batch = batch;
	w->buf = calloc(batch, MSG_MAX);
	if (w->buf == NULL)
		err(1, "batch buffer");
	w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (w->fd == -1 || bind(w->fd, (struct sockaddr *)&sa, len) == -1 ||
	    getsockname(w->fd, (struct sockaddr *)&sa, &len) == -1)
		err(1, "netlink socket");
	w->portid = sa.nl_pid;
	if (setsockopt(w->fd, SOL_NETLINK, NETLINK_CAP_ACK, &one,
	    sizeof(one)) == -1)
		err(1, "NETLINK_CAP_ACK");
	ctg_bufsize(w->fd, SO_SNDBUFFORCE, SOCK_BUF);
	ctg_bufsize(w->fd, SO_RCVBUFFORCE, SOCK_BUF);
}

static void
writer_close(struct writer *w)
{
	close(w->fd);
	free(w->buf);
}

/* Read answers up to the one for the last message of the batch. */
static void
writer_answers(struct writer *w)
{
	uint8_t buf[32768];
	const struct nlmsghdr *nlh;
	const struct nlmsgerr *e;
	ssize_t n;
	int len;
	bool done = false;

	while (!done) {
		n = recv(w->fd, buf, sizeof(buf), 0);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			err(1, "reading acknowledgements");
		len = (int)n;
		for (nlh = (const void *)buf; mnl_nlmsg_ok(nlh, len);
		    nlh = mnl_nlmsg_next(nlh, &len)) {
			if (nlh->nlmsg_type != NLMSG_ERROR)
				continue;
			e = mnl_nlmsg_get_payload(nlh);
			if (e->error != 0) {
				w->failed++;
				w->errors[-e->error < ERRNO_MAX ?
				    -e->error : 0]++;
			}
			if (nlh->nlmsg_seq == w->seq)
				done = true;
		}
	}
}

/* Send what is queued and wait until the kernel has worked it off. */
static void
writer_flush(struct writer *w)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };

	if (w->queued == 0)
		return;
	w->last->nlmsg_flags |= NLM_F_ACK;
	if (sendto(w->fd, w->buf, w->used, 0, (struct sockaddr *)&sa,
	    sizeof(sa)) != (ssize_t)w->used)
		err(1, "sending a batch of %zu bytes", w->used);
	writer_answers(w);
	w->sent += w->queued;
	w->queued = 0;
	w->used = 0;
}

static struct nlmsghdr *
msg_begin(struct writer *w, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;

	nlh = mnl_nlmsg_put_header(w->buf + w->used);
	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = ++w->seq;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

static void
msg_end(struct writer *w, struct nlmsghdr *nlh)
{
	w->last = nlh;
	w->used += (nlh->nlmsg_len + 3u) & ~(size_t)3;
	if (++w->queued == w->batch)
		writer_flush(w);
}

static void
put_zone(struct nlmsghdr *nlh, const struct ctg_opts *o)
{
	if (o->zone != 0)
		mnl_attr_put_u16(nlh, CTA_ZONE, htons(o->zone));
}

static void
put_whole(struct writer *w, const struct ctg_opts *o, uint64_t i,
    uint16_t flags, bool nat)
{
	struct nlmsghdr *nlh;
	struct flow f;

	make_flow(&f, o->kind, i);
	nlh = msg_begin(w, IPCTNL_MSG_CT_NEW, flags, f.orig.family);
	put_tuple(nlh, CTA_TUPLE_ORIG, &f.orig);
	put_tuple(nlh, CTA_TUPLE_REPLY, &f.reply);
	mnl_attr_put_u32(nlh, CTA_STATUS, htonl(o->status));
	mnl_attr_put_u32(nlh, CTA_TIMEOUT, htonl(o->timeout));
	if (o->set_mark)
		mnl_attr_put_u32(nlh, CTA_MARK, htonl(o->mark));
	if (f.orig.proto == IPPROTO_TCP)
		put_tcp(nlh, o->tcp_state, true);
	if (nat && f.nat_attr != 0)
		put_nat(nlh, &f);
	put_zone(nlh, o);
	msg_end(w, nlh);
}

static void
put_create(struct writer *w, const struct ctg_opts *o, uint64_t i)
{
	put_whole(w, o, i, NLM_F_CREATE | NLM_F_EXCL, true);
}

/* All that a daemon would write again to an entry that exists. */
static void
put_rewrite(struct writer *w, const struct ctg_opts *o, uint64_t i)
{
	put_whole(w, o, i, 0, false);
}

static void
put_update(struct writer *w, const struct ctg_opts *o, uint64_t i)
{
	struct nlmsghdr *nlh;
	struct flow f;

	make_flow(&f, o->kind, i);
	nlh = msg_begin(w, IPCTNL_MSG_CT_NEW, 0, f.orig.family);
	put_tuple(nlh, CTA_TUPLE_ORIG, &f.orig);
	if (o->set_timeout || (!o->set_mark && !o->set_state))
		mnl_attr_put_u32(nlh, CTA_TIMEOUT, htonl(o->timeout));
	if (o->set_mark)
		mnl_attr_put_u32(nlh, CTA_MARK, htonl(o->mark));
	if (o->set_state && f.orig.proto == IPPROTO_TCP)
		put_tcp(nlh, o->tcp_state, false);
	put_zone(nlh, o);
	msg_end(w, nlh);
}

static void
put_delete(struct writer *w, const struct ctg_opts *o, uint64_t i)
{
	struct nlmsghdr *nlh;
	struct flow f;

	make_flow(&f, o->kind, i);
	nlh = msg_begin(w, IPCTNL_MSG_CT_DELETE, 0, f.orig.family);
	put_tuple(nlh, CTA_TUPLE_ORIG, &f.orig);
	put_zone(nlh, o);
	msg_end(w, nlh);
}

/* Create entry i and delete the one that was created o->live entries ago. */
static void
put_churn(struct writer *w, const struct ctg_opts *o, uint64_t i)
{
	put_create(w, o, i);
	if (i >= o->start + o->live)
		put_delete(w, o, i - o->live);
}

/*
 * Run put over entries [first, first + n).  With a rate, each slice of a
 * millisecond sends what has fallen due, so that the load is even.
 */
static void
run_range(struct writer *w, const struct ctg_opts *o, put_fn put,
    uint64_t first, uint64_t n)
{
	uint64_t begin = ctg_now_ns(), due, done = 0, wake = begin;
	struct timespec ts;

	while (done < n) {
		due = n;
		if (o->rate != 0) {
			due = (ctg_now_ns() - begin) / 1000 * o->rate / 1000000;
			if (due > n)
				due = n;
		}
		for (; done < due; done++)
			put(w, o, first + done);
		writer_flush(w);
		if (done == n)
			break;
		wake += SLICE_NS;
		ts.tv_sec = (time_t)(wake / 1000000000u);
		ts.tv_nsec = (long)(wake % 1000000000u);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	}
}

static json_t *
errors_json(const struct writer *w)
{
	json_t *obj = json_object();
	int i;

	for (i = 0; i < ERRNO_MAX; i++)
		if (w->errors[i] != 0)
			json_object_set_new(obj, i == 0 ? "other" :
			    strerrorname_np(i),
			    json_integer((json_int_t)w->errors[i]));
	return obj;
}

static json_t *
result_json(const struct writer *w, const struct ctg_opts *o, const char *op,
    uint64_t wall_ns, uint64_t cpu_ns)
{
	double n = w->sent == 0 ? 1 : (double)w->sent;

	return json_pack("{s:s s:s s:I s:I s:o s:f s:f s:f s:f}",
	    "op", op, "kind", ctg_kind_name(o->kind),
	    "entries", (json_int_t)w->sent,
	    "failed", (json_int_t)w->failed,
	    "errors", errors_json(w),
	    "wall_s", (double)wall_ns / 1e9,
	    "per_s", n / ((double)wall_ns / 1e9),
	    "us_per_entry", (double)wall_ns / 1e3 / n,
	    "cpu_us_per_entry", (double)cpu_ns / 1e3 / n);
}

/* Run one pass and return its result; *failed grows by what failed. */
static json_t *
timed_pass(struct writer *w, const struct ctg_opts *o, const char *op,
    put_fn put, uint64_t *failed)
{
	uint64_t began, wall, cpu;
	json_t *obj;

	w->sent = w->failed = 0;
	memset(w->errors, 0, sizeof(w->errors));
	began = ctg_now_ns();
	cpu = ctg_cpu_ns();
	run_range(w, o, put, o->start, o->count);
	wall = ctg_now_ns() - began;
	cpu = ctg_cpu_ns() - cpu;
	*failed += w->failed;
	obj = result_json(w, o, op, wall, cpu);
	json_object_set_new(obj, "began_ns", json_integer((json_int_t)began));
	return obj;
}

static int
simple_command(const struct ctg_opts *o, const char *op, put_fn put)
{
	struct writer w;
	uint64_t failed = 0;

	writer_open(&w, o->batch);
	ctg_print(timed_pass(&w, o, op, put, &failed));
	writer_close(&w);
	return failed != 0;
}

int
ctg_cmd_create(const struct ctg_opts *o)
{
	return simple_command(o, "create", put_create);
}

int
ctg_cmd_delete(const struct ctg_opts *o)
{
	return simple_command(o, "delete", put_delete);
}

int
ctg_cmd_update(const struct ctg_opts *o)
{
	struct ctg_opts round = *o;
	struct writer w;
	uint64_t wall, cpu, i;

	writer_open(&w, o->batch);
	wall = ctg_now_ns();
	cpu = ctg_cpu_ns();
	for (i = 0; i < o->rounds; i++) {
		run_range(&w, &round, put_update, o->start, o->count);
		round.mark++;
	}
	ctg_print(result_json(&w, o, "update", ctg_now_ns() - wall,
	    ctg_cpu_ns() - cpu));
	writer_close(&w);
	return w.failed != 0;
}

int
ctg_cmd_churn(const struct ctg_opts *o)
{
	uint64_t wall, cpu, live, end = o->start + o->count;
	struct writer w;

	writer_open(&w, o->batch);
	wall = ctg_now_ns();
	cpu = ctg_cpu_ns();
	run_range(&w, o, put_churn, o->start, o->count);
	live = o->live < o->count ? o->live : o->count;
	run_range(&w, o, put_delete, end - live, live);
	ctg_print(result_json(&w, o, "churn", ctg_now_ns() - wall,
	    ctg_cpu_ns() - cpu));
	writer_close(&w);
	return w.failed != 0;
}

/*
 * The listener of the floor: what a daemon's event socket costs a writer.
 * Filtered drops what the writer's port id caused, as a daemon drops its own.
 */
static int
open_listener(enum ctg_listener kind, uint32_t portid)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(portid), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog prog = {
		.len = sizeof(code) / sizeof(code[0]), .filter = code,
	};
	int fd;

	if (kind == CTG_LISTEN_NONE)
		return -1;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (fd == -1 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1)
		err(1, "listener");
	ctg_bufsize(fd, SO_RCVBUFFORCE, SOCK_BUF);
	if (kind == CTG_LISTEN_FILTERED && setsockopt(fd, SOL_SOCKET,
	    SO_ATTACH_FILTER, &prog, sizeof(prog)) == -1)
		err(1, "listener: socket filter");
	ctg_join_events(fd);
	return fd;
}

int
ctg_cmd_floor(const struct ctg_opts *o)
{
	static const struct {
		const char	*op;
		put_fn		 put;
	} passes[] = {
		{ "create", put_create },
		{ "update", put_update },
		{ "rewrite", put_rewrite },
		{ "delete", put_delete },
	};
	static const char *const listeners[] = {
		"none", "filtered", "unfiltered",
	};
	struct writer w;
	uint64_t failed = 0;
	json_t *obj;
	size_t i;
	int fd;

	writer_open(&w, o->batch);
	fd = open_listener(o->listener, w.portid);
	obj = json_pack("{s:s s:I s:s}", "op", "floor",
	    "entries", (json_int_t)o->count,
	    "listener", listeners[o->listener]);
	for (i = 0; i < sizeof(passes) / sizeof(passes[0]); i++)
		json_object_set_new(obj, passes[i].op,
		    timed_pass(&w, o, passes[i].op, passes[i].put, &failed));
	ctg_print(obj);
	if (fd != -1)
		close(fd);
	writer_close(&w);
	return failed != 0;
}

int
ctg_cmd_flush(const struct ctg_opts *o)
{
	uint64_t wall = ctg_now_ns(), cpu = ctg_cpu_ns();
	struct writer w;

	writer_open(&w, 1);
	msg_end(&w, msg_begin(&w, IPCTNL_MSG_CT_DELETE, 0, AF_UNSPEC));
	ctg_print(result_json(&w, o, "flush", ctg_now_ns() - wall,
	    ctg_cpu_ns() - cpu));
	writer_close(&w);
	return w.failed != 0;
}
