/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What has to agree between the keys of a configuration.
 *
 * Each key is in range when these checks begin.  The first fault found is
 * named by its key; where that stands in the file is the caller's to find.
 */
#include <arpa/inet.h>

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "conf_int.h"

struct check {
	char	*key;
	char	*why;
	size_t	 whylen;
};

static int __attribute__((format(printf, 2, 3)))
bad(const struct check *ck, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vsnprintf(ck->why, ck->whylen, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool
addr_is_host(const struct conf_addr *a)
{
	static const uint8_t	 zero[16];

	if (memcmp(a->b, zero, sizeof(zero)) == 0)
		return false;
	return a->family == AF_INET ? a->b[0] < 224 : a->b[0] != 0xff;
}

static bool
addr_is_link_local(const struct conf_addr *a)
{
	return a->family == AF_INET6 && a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* ::1, 127/8, and IPv4 in the clothes of IPv6: no interface has it alone. */
static bool
addr_is_everywhere(const struct conf_addr *a)
{
	static const uint8_t	 loopback6[16] = { [15] = 1 }, mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family == AF_INET)
		return a->b[0] == 127;
	return memcmp(a->b, loopback6, sizeof(loopback6)) == 0 ||
	    memcmp(a->b, mapped, sizeof(mapped)) == 0;
}

static int
check_follow(const struct check *ck, const struct conf *c)
{
	const struct conf_addrs	*l = &c->takeover.follow_addresses;
	char			 s[CONF_ADDR_STR_MAX];
	size_t			 i, k;

	for (i = 0; i < l->n; i++) {
		snprintf(ck->key, CONF_KEY_MAX, "takeover.follow_addresses[%zu]", i);
		conf_addr_str(&l->v[i], s);
		if (!addr_is_host(&l->v[i]) || addr_is_everywhere(&l->v[i]))
			return bad(ck, "expected an address that moves from node to node, found %s", s);
		for (k = 0; k < i; k++)
			if (conf_addr_equal(&l->v[k], &l->v[i]))
				return bad(ck, "%s is listed twice", s);
		for (k = 0; k < c->nlinks; k++)
			if (conf_addr_equal(&c->links[k].local, &l->v[i]))
				return bad(ck, "%s is our own address on link \"%s\" and never moves", s,
				    c->links[k].name);
	}
	return 0;
}

static int
check_peer(const struct check *ck, const struct conf *c, size_t li, size_t pi)
{
	const struct conf_link	*l = &c->links[li];
	const struct conf_peer	*p = &l->peers[pi], *q;
	char			 s[CONF_ADDR_STR_MAX];

	snprintf(ck->key, CONF_KEY_MAX, "links[%zu].peers[%zu].name", li, pi);
	if (strcmp(p->name, c->node) == 0)
		return bad(ck, "\"%s\" is the name of this node; list the other nodes only", p->name);
	for (q = l->peers; q < p; q++)
		if (strcmp(p->name, q->name) == 0)
			return bad(ck, "peer \"%s\" is listed twice on link \"%s\"", p->name, l->name);

	snprintf(ck->key, CONF_KEY_MAX, "links[%zu].peers[%zu].address", li, pi);
	conf_addr_str(&p->address, s);
	if (!addr_is_host(&p->address))
		return bad(ck, "expected the address of one host, found %s", s);
	if (p->address.family != l->local.family)
		return bad(ck, "expected an %s address like `local', found %s",
		    l->local.family == AF_INET ? "IPv4" : "IPv6", s);
	if (conf_addr_equal(&p->address, &l->local))
		return bad(ck, "%s is our own address (`local')", s);
	for (q = l->peers; q < p; q++)
		if (conf_addr_equal(&p->address, &q->address))
			return bad(ck, "%s is already the address of peer \"%s\"", s, q->name);
	return 0;
}

static int
check_link(const struct check *ck, const struct conf *c, size_t li)
{
	const struct conf_link	*l = &c->links[li], *m;
	char			 s[CONF_ADDR_STR_MAX];
	size_t			 i;
	int			 r;

	snprintf(ck->key, CONF_KEY_MAX, "links[%zu].name", li);
	for (m = c->links; m < l; m++)
		if (strcmp(l->name, m->name) == 0)
			return bad(ck, "there are two links with the name \"%s\"", l->name);

	snprintf(ck->key, CONF_KEY_MAX, "links[%zu].local", li);
	conf_addr_str(&l->local, s);
	if (!addr_is_host(&l->local))
		return bad(ck, "expected the address of one host, found %s", s);
	if (addr_is_link_local(&l->local) && l->interface[0] == '\0')
		return bad(ck, "%s is a link-local address: give `interface' too", s);
	for (m = c->links; m < l; m++)
		if (conf_addr_equal(&l->local, &m->local) && l->port == m->port &&
		    strcmp(l->interface, m->interface) == 0)
			return bad(ck, "link \"%s\" has the same address and port", m->name);

	for (i = 0; i < l->npeers; i++)
		if ((r = check_peer(ck, c, li, i)) < 0)
			return r;
	return 0;
}

int
conf_check(const struct conf *c, char key[CONF_KEY_MAX], char *why, size_t whylen)
{
	struct check	 ck = { .key = key, .why = why, .whylen = whylen };
	size_t		 i;
	int		 r;

	snprintf(key, CONF_KEY_MAX, "node");
	if (!conf_name_ok(c->node, CONF_NAME_MAX))
		return bad(&ck, "the host name is no name of 1..%d characters A-Z a-z 0-9 . _ -: "
		    "set `node'", CONF_NAME_MAX);
	snprintf(key, CONF_KEY_MAX, "runtime_dir");
	if (!conf_path_ok(c->control.socket, CONF_SOCKET_MAX))
		return bad(&ck, "too long for a socket in it: set `control.socket' too");
	for (i = 0; i < c->nlinks; i++)
		if ((r = check_link(&ck, c, i)) < 0)
			return r;
	return check_follow(&ck, c);
}
