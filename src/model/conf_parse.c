/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From the text of a configuration to struct conf.
 *
 * The only file that knows libconfig.  Walks the parsed tree along the tables
 * of conf_keys.c; every fault becomes one line with file, line, key, what was
 * expected and what was found.  The first fault ends the work.
 */
#include <sys/types.h>

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libconfig.h>

#include "conf_int.h"
#include "ctsync/flow.h"

#define SUGGEST_MAX	32	/* characters of a key that is looked up for a likeness */

struct parse {
	struct conf_text	*text;
	config_t		 cfg;
	struct conf		*c;
	char			*err;
	size_t			 errlen;
};

/* One element of a list, into *out.  0 or -EINVAL with the error text set. */
typedef int elem_fn(struct parse *, config_setting_t *, void *);

static void
setting_path(const config_setting_t *s, char *buf, size_t len)
{
	config_setting_t	*parent = config_setting_parent(s);
	size_t			 n;

	if (parent == NULL) {
		buf[0] = '\0';
		return;
	}
	setting_path(parent, buf, len);
	n = strlen(buf);
	if (config_setting_name(s) == NULL)
		snprintf(buf + n, len - n, "[%d]", config_setting_index(s));
	else
		snprintf(buf + n, len - n, "%s%.64s", n > 0 ? "." : "", config_setting_name(s));
}

/* Set the error text, with the place of s in front. */
static int __attribute__((format(printf, 4, 5)))
fail(struct parse *p, const config_setting_t *s, bool name_key, const char *fmt, ...)
{
	char		 key[CONF_KEY_MAX], msg[CONF_ERR_MAX];
	const char	*file;
	unsigned	 line;
	va_list		 ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	setting_path(s, key, sizeof(key));
	file = conf_text_origin(p->text, config_setting_source_line(s), &line);
	if (config_setting_is_root(s))
		snprintf(p->err, p->errlen, "%s: %s", file, msg);
	else if (!name_key)
		snprintf(p->err, p->errlen, "%s:%u: %s", file, line, msg);
	else
		snprintf(p->err, p->errlen, "%s:%u: key `%s': %s", file, line, key, msg);
	return -EINVAL;
}

static const char *
type_name(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_GROUP:
		return "group { }";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "integer";
	case CONFIG_TYPE_FLOAT:
		return "number with a fraction";
	case CONFIG_TYPE_STRING:
		return "string";
	case CONFIG_TYPE_BOOL:
		return "boolean";
	case CONFIG_TYPE_ARRAY:
		return "array [ ]";
	case CONFIG_TYPE_LIST:
		return "list ( )";
	default:
		return "nothing";
	}
}

static int
fail_type(struct parse *p, const config_setting_t *s, const char *expected)
{
	return fail(p, s, true, "expected %s, found %s", expected, type_name(s));
}

/* As fail_type, for a value of the right type: name it, made printable. */
static int
fail_string(struct parse *p, const config_setting_t *s, const char *expected)
{
	const char	*v = config_setting_get_string(s);
	char		 shown[49];
	size_t		 i;

	for (i = 0; v[i] != '\0' && i < sizeof(shown) - 1; i++)
		shown[i] = v[i] >= ' ' && v[i] < 0x7f ? v[i] : '?';
	shown[i] = '\0';
	return fail(p, s, true, "expected %s, found \"%s\"%s", expected, shown,
	    v[i] != '\0' ? "..." : "");
}

static bool
is_int(const config_setting_t *s)
{
	int	 t = config_setting_type(s);

	return t == CONFIG_TYPE_INT || t == CONFIG_TYPE_INT64;
}

static long long
get_int(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT ? config_setting_get_int(s) :
	    config_setting_get_int64(s);
}

static bool
is_string(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_STRING;
}

/* Number of single-character edits that make b of a. */
static unsigned
edit_distance(const char *a, const char *b)
{
	unsigned	 row[SUGGEST_MAX + 1], diag, up, best;
	size_t		 i, j, n = strlen(b);

	if (n > SUGGEST_MAX || strlen(a) > SUGGEST_MAX)
		return SUGGEST_MAX;
	for (j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (i = 1; a[i - 1] != '\0'; i++) {
		diag = row[0];
		row[0] = (unsigned)i;
		for (j = 1; j <= n; j++) {
			up = row[j];
			best = diag + (a[i - 1] != b[j - 1]);
			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			diag = up;
		}
	}
	return row[n];
}

/*
 * Name number i of those that a group may have: its keys, then more (ends with
 * NULL), then sections if it is the root.  NULL behind the last.
 */
static const char *
known_name(const struct conf_key *keys, const char *const *more, bool root, size_t i)
{
	size_t	 n;

	for (n = 0; keys != NULL && keys[n].name != NULL; n++)
		if (n == i)
			return keys[n].name;
	i -= n;
	for (n = 0; more != NULL && more[n] != NULL; n++)
		if (n == i)
			return more[n];
	i -= n;
	for (n = 0; root && conf_sections[n].name != NULL; n++)
		if (n == i)
			return conf_sections[n].name;
	return NULL;
}

static int
fail_unknown(struct parse *p, const config_setting_t *s, const struct conf_key *keys,
    const char *const *more, bool root)
{
	const char	*name = config_setting_name(s), *known, *best = NULL;
	char		 path[CONF_KEY_MAX], all[256];
	unsigned	 d, least = SUGGEST_MAX;
	size_t		 i, n = 0;
	int		 r;

	all[0] = '\0';
	for (i = 0; (known = known_name(keys, more, root, i)) != NULL; i++) {
		if ((d = edit_distance(name, known)) < least) {
			least = d;
			best = known;
		}
		r = snprintf(all + n, sizeof(all) - n, "%s%s", i > 0 ? ", " : "", known);
		n = r < 0 || (size_t)r >= sizeof(all) - n ? sizeof(all) - 1 : n + (size_t)r;
	}
	setting_path(s, path, sizeof(path));
	if (best != NULL && least <= 1 + strlen(best) / 3)
		return fail(p, s, false, "unknown key `%s', did you mean `%s'?", path, best);
	return fail(p, s, false, "unknown key `%s', expected one of %s", path, all);
}

static int
check_known(struct parse *p, config_setting_t *group, const struct conf_key *keys,
    const char *const *more, bool root)
{
	config_setting_t	*s;
	const char		*known;
	unsigned		 i;
	size_t			 j;

	for (i = 0; (s = config_setting_get_elem(group, i)) != NULL; i++) {
		for (j = 0; (known = known_name(keys, more, root, j)) != NULL; j++)
			if (strcmp(known, config_setting_name(s)) == 0)
				break;
		if (known == NULL)
			return fail_unknown(p, s, keys, more, root);
	}
	return 0;
}

/* A string of the kinds that are stored as text. */
static int
get_string(struct parse *p, config_setting_t *s, const struct conf_key *k, char *out,
    const char *expected)
{
	const char	*v;
	bool		 ok;

	if (!is_string(s))
		return fail_type(p, s, expected);
	v = config_setting_get_string(s);
	if (k->kind == CK_NAME)
		ok = conf_name_ok(v, k->size - 1);
	else if (k->kind == CK_PATH)
		ok = conf_path_ok(v, k->size - 1);
	else
		ok = conf_ifname_ok(v);
	if (!ok)
		return fail_string(p, s, expected);
	memcpy(out, v, strlen(v) + 1);
	return 0;
}

static int
get_number(struct parse *p, config_setting_t *s, const struct conf_key *k, void *out,
    const char *expected)
{
	uint64_t	 v = 0;
	uint32_t	 u32;

	if (k->kind == CK_SIZE && is_string(s)) {
		if (!conf_size_parse(config_setting_get_string(s), &v) || v < k->min || v > k->max)
			return fail_string(p, s, expected);
		memcpy(out, &v, sizeof(v));
		return 0;
	}
	if (!is_int(s))
		return fail_type(p, s, expected);
	if (get_int(s) < 0 || (v = (uint64_t)get_int(s)) < k->min || v > k->max)
		return fail(p, s, true, "expected %s, found %lld", expected, get_int(s));
	u32 = (uint32_t)v;
	if (k->kind == CK_SIZE)
		memcpy(out, &v, sizeof(v));
	else
		memcpy(out, &u32, sizeof(u32));
	return 0;
}

static int
get_word(struct parse *p, config_setting_t *s, const struct conf_key *k, void *out,
    const char *expected)
{
	const struct conf_word	*w = k->words;

	if (!is_string(s))
		return fail_type(p, s, expected);
	while (w->name != NULL && strcmp(w->name, config_setting_get_string(s)) != 0)
		w++;
	if (w->name == NULL)
		return fail_string(p, s, expected);
	if (w->value == CONF_WORD_UNSUPPORTED)
		return fail(p, s, true, "\"%s\" is not supported by this version, expected %s",
		    w->name, expected);
	memcpy(out, &w->value, sizeof(w->value));
	return 0;
}

static int
get_addr(struct parse *p, config_setting_t *s, void *out, const char *expected)
{
	struct conf_addr	 a;

	if (!is_string(s))
		return fail_type(p, s, expected);
	if (!conf_addr_parse(config_setting_get_string(s), &a))
		return fail_string(p, s, expected);
	memcpy(out, &a, sizeof(a));
	return 0;
}

static int
get_addrs(struct parse *p, config_setting_t *s, struct conf_addrs *l, const char *expected)
{
	int	 type = config_setting_type(s), len, i, r;

	if (type != CONFIG_TYPE_LIST && type != CONFIG_TYPE_ARRAY)
		return fail_type(p, s, expected);
	len = config_setting_length(s);
	if (len < 1 || len > CONF_FOLLOW_MAX)
		return fail(p, s, true, "expected %s, found %d", expected, len);
	for (i = 0; i < len; i++)
		if ((r = get_addr(p, config_setting_get_elem(s, (unsigned)i), &l->v[i],
		    "IPv4 or IPv6 address like \"192.0.2.1\" or \"2001:db8::1\"")) < 0)
			return r;
	l->n = (size_t)len;
	return 0;
}

static int
get_value(struct parse *p, config_setting_t *s, const struct conf_key *k, void *out)
{
	char	 expected[CONF_EXPECT_MAX];
	bool	 b;

	conf_key_expect(k, expected);
	switch (k->kind) {
	case CK_NAME:
	case CK_PATH:
	case CK_IFNAME:
		return get_string(p, s, k, out, expected);
	case CK_U32:
	case CK_SIZE:
		return get_number(p, s, k, out, expected);
	case CK_WORD:
		return get_word(p, s, k, out, expected);
	case CK_BOOL:
		if (config_setting_type(s) != CONFIG_TYPE_BOOL)
			return fail_type(p, s, expected);
		b = config_setting_get_bool(s) != 0;
		memcpy(out, &b, sizeof(b));
		return 0;
	case CK_ADDR:
		return get_addr(p, s, out, expected);
	case CK_ADDRS:
		return get_addrs(p, s, out, expected);
	}
	return -EINVAL;
}

static int
get_key(struct parse *p, config_setting_t *group, const struct conf_key *k, void *base)
{
	config_setting_t	*s = config_setting_get_member(group, k->name);
	char			 expected[CONF_EXPECT_MAX];

	if (s != NULL)
		return get_value(p, s, k, (char *)base + k->offset);
	if (k->must)
		return fail(p, group, true, "missing key `%s', expected %s", k->name,
		    conf_key_expect(k, expected));
	return 0;
}

static int
get_keys(struct parse *p, config_setting_t *group, const struct conf_key *keys, void *base)
{
	int	 r;

	for (; keys->name != NULL; keys++)
		if ((r = get_key(p, group, keys, base)) < 0)
			return r;
	return 0;
}

/*
 * A list of groups, mandatory, 1 to max, into a new array at *out that the
 * caller owns, also on error.
 */
static int
get_groups(struct parse *p, config_setting_t *parent, const char *name, unsigned max,
    size_t size, elem_fn *fn, void **out, size_t *n)
{
	config_setting_t	*list = config_setting_get_member(parent, name), *s;
	char			 expected[64];
	unsigned		 i, len;
	int			 r;

	snprintf(expected, sizeof(expected), "list of 1..%u groups: ( { } )", max);
	if (list == NULL)
		return fail(p, parent, true, "missing key `%s', expected %s", name, expected);
	if (config_setting_type(list) != CONFIG_TYPE_LIST)
		return fail_type(p, list, expected);
	len = (unsigned)config_setting_length(list);
	if (len < 1 || len > max)
		return fail(p, list, true, "expected %s, found %u", expected, len);
	if ((*out = calloc(len, size)) == NULL)
		return -ENOMEM;
	for (i = 0; i < len; i++) {
		s = config_setting_get_elem(list, i);
		if (config_setting_type(s) != CONFIG_TYPE_GROUP)
			return fail_type(p, s, "group { }");
		++*n;
		if ((r = fn(p, s, (char *)*out + i * size)) < 0)
			return r;
	}
	return 0;
}

static int
get_peer(struct parse *p, config_setting_t *s, void *out)
{
	int	 r;

	conf_keys_default(conf_peer_keys, out);
	if ((r = check_known(p, s, conf_peer_keys, NULL, false)) < 0)
		return r;
	return get_keys(p, s, conf_peer_keys, out);
}

static int
get_link(struct parse *p, config_setting_t *s, void *out)
{
	static const char *const	 more[] = { "peers", NULL };
	struct conf_link		*l = out;
	void				*peers = NULL;
	int				 r;

	conf_keys_default(conf_link_keys, l);
	if (config_setting_get_member(s, conf_link_keys[0].name) != NULL &&
	    (r = get_key(p, s, &conf_link_keys[0], l)) < 0)
		return r;
	if ((r = check_known(p, s, conf_link_keys, more, false)) < 0)
		return r;
	if ((r = get_keys(p, s, conf_link_keys, l)) < 0)
		return r;
	r = get_groups(p, s, "peers", CONF_PEERS_MAX, sizeof(*l->peers), get_peer, &peers,
	    &l->npeers);
	l->peers = peers;
	return r;
}

static int
elem_proto(struct parse *p, config_setting_t *s, void *out)
{
	static const char	 expected[] = "protocol: a name like \"tcp\", or integer 0..255";
	int			 n = -1;

	if (is_string(s)) {
		if ((n = flow_proto_parse(config_setting_get_string(s))) < 0)
			return fail_string(p, s, expected);
	} else if (!is_int(s)) {
		return fail_type(p, s, expected);
	} else if (get_int(s) < 0 || get_int(s) > 255) {
		return fail(p, s, true, "expected %s, found %lld", expected, get_int(s));
	} else {
		n = (int)get_int(s);
	}
	*(uint8_t *)out = (uint8_t)n;
	return 0;
}

static int
elem_tcp_state(struct parse *p, config_setting_t *s, void *out)
{
	static const char	 expected[] = "TCP state like \"ESTABLISHED\"";
	int			 n;

	if (!is_string(s))
		return fail_type(p, s, expected);
	if ((n = flow_tcp_state_parse(config_setting_get_string(s))) < 0)
		return fail_string(p, s, expected);
	*(uint8_t *)out = (uint8_t)n;
	return 0;
}

static int
elem_prefix(struct parse *p, config_setting_t *s, void *out)
{
	const char	*why;
	char		 expected[128];

	if (!is_string(s))
		return fail_type(p, s, "prefix like \"192.0.2.0/24\" or \"2001:db8::/32\"");
	if ((why = conf_prefix_parse(config_setting_get_string(s), out)) == NULL)
		return 0;
	snprintf(expected, sizeof(expected),
	    "prefix like \"192.0.2.0/24\" or \"2001:db8::/32\" (%s)", why);
	return fail_string(p, s, expected);
}

static int
elem_mark(struct parse *p, config_setting_t *s, void *out)
{
	struct conf_mark	*m = out;
	const char		*why;
	char			 expected[128];

	if (is_int(s) && get_int(s) >= 0 && get_int(s) <= UINT32_MAX) {
		m->value = (uint32_t)get_int(s);
		m->mask = UINT32_MAX;
		return 0;
	}
	if (is_int(s))
		return fail(p, s, true, "expected mark 0..0xffffffff, found %lld", get_int(s));
	if (!is_string(s))
		return fail_type(p, s, "mark like \"0x10/0xff\"");
	if ((why = conf_mark_parse(config_setting_get_string(s), m)) == NULL)
		return 0;
	snprintf(expected, sizeof(expected), "mark like \"0x10/0xff\" (%s)", why);
	return fail_string(p, s, expected);
}

static int
elem_zone(struct parse *p, config_setting_t *s, void *out)
{
	static const char	 expected[] = "zone: integer 0..65535";

	if (!is_int(s))
		return fail_type(p, s, expected);
	if (get_int(s) < 0 || get_int(s) > UINT16_MAX)
		return fail(p, s, true, "expected %s, found %lld", expected, get_int(s));
	*(uint16_t *)out = (uint16_t)get_int(s);
	return 0;
}

/* The list `name' of a group of the filter; none if it is not there. */
static int
get_list(struct parse *p, config_setting_t *group, const char *name, size_t size,
    elem_fn *fn, void **out, size_t *n)
{
	config_setting_t	*list = config_setting_get_member(group, name);
	int			 len, i, r, type;

	if (list == NULL)
		return 0;
	type = config_setting_type(list);
	if (type != CONFIG_TYPE_LIST && type != CONFIG_TYPE_ARRAY)
		return fail_type(p, list, "list ( )");
	len = config_setting_length(list);
	if (len < 1 || len > CONF_LIST_MAX)
		return fail(p, list, true, "expected list of 1..%d elements, found %d",
		    CONF_LIST_MAX, len);
	if ((*out = calloc((size_t)len, size)) == NULL)
		return -ENOMEM;
	for (i = 0; i < len; i++)
		if ((r = fn(p, config_setting_get_elem(list, (unsigned)i),
		    (char *)*out + (size_t)i * size)) < 0)
			return r;
	*n = (size_t)len;
	return 0;
}

/* { only = ( ... ); except = ( ... ); }; the caller owns the arrays, also on error. */
static int
get_only_except(struct parse *p, config_setting_t *filter, const char *name, size_t size,
    elem_fn *fn, void **only, size_t *nonly, void **except, size_t *nexcept)
{
	static const char *const	 more[] = { "only", "except", NULL };
	config_setting_t		*s = config_setting_get_member(filter, name);
	int				 r;

	if (s == NULL)
		return 0;
	if (config_setting_type(s) != CONFIG_TYPE_GROUP)
		return fail_type(p, s, "group { only = ( ); except = ( ); }");
	if ((r = check_known(p, s, NULL, more, false)) < 0)
		return r;
	if (config_setting_length(s) == 0)
		return fail(p, s, true, "expected `only' or `except' in it, found neither");
	if ((r = get_list(p, s, "only", size, fn, only, nonly)) < 0)
		return r;
	return get_list(p, s, "except", size, fn, except, nexcept);
}

/* The same for small numbers, as bits of what passes, out of n. */
static int
get_bits(struct parse *p, config_setting_t *filter, const char *name, elem_fn *fn,
    uint8_t *bits, size_t n)
{
	void		*only = NULL, *except = NULL;
	size_t		 nonly = 0, nexcept = 0, i, set = 0;
	const uint8_t	*v;
	int		 r;

	r = get_only_except(p, filter, name, 1, fn, &only, &nonly, &except, &nexcept);
	if (r < 0)
		goto out;
	for (i = 0; i < n && nonly == 0; i++)
		bits[i / 8] |= (uint8_t)(1u << i % 8);
	for (i = 0, v = only; i < nonly; i++)
		bits[v[i] / 8] |= (uint8_t)(1u << v[i] % 8);
	for (i = 0, v = except; i < nexcept; i++)
		bits[v[i] / 8] &= (uint8_t)~(1u << v[i] % 8);
	for (i = 0; i < n; i++)
		set += bit_get(bits, i);
	if (set == 0)
		r = fail(p, config_setting_get_member(filter, name), true,
		    "nothing is left that would pass");
out:
	free(only);
	free(except);
	return r;
}

static int
get_filter_lists(struct parse *p, config_setting_t *s, struct conf_filter *f)
{
	void	*only = NULL, *except = NULL;
	int	 r;

	r = get_only_except(p, s, "addresses", sizeof(*f->addr_only), elem_prefix,
	    &only, &f->naddr_only, &except, &f->naddr_except);
	f->addr_only = only;
	f->addr_except = except;
	if (r < 0)
		return r;
	only = except = NULL;
	r = get_only_except(p, s, "marks", sizeof(*f->mark_only), elem_mark,
	    &only, &f->nmark_only, &except, &f->nmark_except);
	f->mark_only = only;
	f->mark_except = except;
	if (r < 0)
		return r;
	only = except = NULL;
	r = get_only_except(p, s, "zones", sizeof(*f->zone_only), elem_zone,
	    &only, &f->nzone_only, &except, &f->nzone_except);
	f->zone_only = only;
	f->zone_except = except;
	return r;
}

static int
get_filter(struct parse *p, config_setting_t *root)
{
	static const char *const	 more[] = { "protocols", "tcp_states", "addresses", "marks",
					    "zones", NULL };
	config_setting_t		*s = config_setting_get_member(root, "filter");
	struct conf_filter		*f = &p->c->filter;
	uint8_t				 states[4] = { 0 };
	int				 r;

	conf_keys_default(conf_filter_keys, f);
	if (s == NULL) {
		memset(f->protos, 0xff, sizeof(f->protos));
		f->tcp_states = (1u << FLOW_TCP_STATES) - 1;
		return 0;
	}
	if (config_setting_type(s) != CONFIG_TYPE_GROUP)
		return fail_type(p, s, "group { }");
	if ((r = check_known(p, s, conf_filter_keys, more, false)) < 0 ||
	    (r = get_keys(p, s, conf_filter_keys, f)) < 0 ||
	    (r = get_bits(p, s, "protocols", elem_proto, f->protos, 256)) < 0 ||
	    (r = get_bits(p, s, "tcp_states", elem_tcp_state, states, FLOW_TCP_STATES)) < 0)
		return r;
	f->tcp_states = states[0] | (uint32_t)states[1] << 8;
	return get_filter_lists(p, s, f);
}

static int
get_sections(struct parse *p, config_setting_t *root)
{
	const struct conf_section	*sec;
	config_setting_t		*s;
	int				 r;

	for (sec = conf_sections; sec->name != NULL; sec++) {
		conf_keys_default(sec->keys, p->c);
		if ((s = config_setting_get_member(root, sec->name)) == NULL)
			continue;
		if (config_setting_type(s) != CONFIG_TYPE_GROUP)
			return fail_type(p, s, "group { }");
		if ((r = check_known(p, s, sec->keys, NULL, false)) < 0 ||
		    (r = get_keys(p, s, sec->keys, p->c)) < 0)
			return r;
	}
	return 0;
}

/* Defaults that depend on something. */
static void
derive(struct conf *c)
{
	char	 host[CONF_NAME_MAX + 2];
	int	 n;

	if (c->node[0] == '\0' && gethostname(host, sizeof(host)) == 0 &&
	    memchr(host, '\0', sizeof(c->node)) != NULL)
		memcpy(c->node, host, strlen(host) + 1);
	if (c->control.socket[0] == '\0') {
		n = snprintf(c->control.socket, sizeof(c->control.socket), "%s/ctsyncd.sock",
		    c->runtime_dir);
		if (n < 0 || (size_t)n >= sizeof(c->control.socket))
			c->control.socket[0] = '\0';	/* conf_check() says so */
	}
}

/* The setting of a key as conf_check() names it, or the nearest above it. */
static config_setting_t *
locate(struct parse *p, const char *key)
{
	config_setting_t	*s = config_root_setting(&p->cfg), *sub;
	char			 part[CONF_KEY_MAX];
	size_t			 n;

	while (*key != '\0') {
		if (*key == '.')
			key++;
		n = *key == '[' ? strcspn(key, "]") + 1 : strcspn(key, ".[");
		memcpy(part, key, n);
		part[n] = '\0';
		if (*key == '[')
			sub = config_setting_get_elem(s, (unsigned)atoi(part + 1));
		else
			sub = config_setting_get_member(s, part);
		if (sub == NULL)
			break;
		s = sub;
		key += n;
	}
	return s;
}

static int
parse_root(struct parse *p)
{
	static const char *const	 more[] = { "links", "filter", NULL };
	config_setting_t		*root = config_root_setting(&p->cfg);
	char				 key[CONF_KEY_MAX], why[CONF_ERR_MAX / 2];
	void				*links = NULL;
	int				 r;

	conf_keys_default(conf_root_keys, p->c);
	if ((r = check_known(p, root, conf_root_keys, more, true)) < 0 ||
	    (r = get_keys(p, root, conf_root_keys, p->c)) < 0)
		return r;
	r = get_groups(p, root, "links", CONF_LINKS_MAX, sizeof(*p->c->links), get_link, &links,
	    &p->c->nlinks);
	p->c->links = links;
	if (r < 0 || (r = get_sections(p, root)) < 0 || (r = get_filter(p, root)) < 0)
		return r;
	derive(p->c);
	if ((r = conf_check(p->c, key, why, sizeof(why))) < 0)
		return fail(p, locate(p, key), true, "%s", why);
	return 0;
}

#define CONF_SETTING_MAX	64

/* The setting that begins on that line; false if none does. */
static bool
name_at(const char *text, int line, char name[CONF_SETTING_MAX])
{
	size_t	 n;

	while (--line > 0 && (text = strchr(text, '\n')) != NULL)
		text++;
	if (text == NULL)
		return false;
	text += strspn(text, " \t");
	n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
	if (n == 0 || n >= CONF_SETTING_MAX)
		return false;
	memcpy(name, text, n);
	name[n] = '\0';
	return true;
}

/* What libconfig calls a fault of the syntax, with the place it stands at. */
static int
fail_syntax(struct parse *p)
{
	const char	*file, *text = config_error_text(&p->cfg);
	char		 name[CONF_SETTING_MAX];
	unsigned	 line;

	file = conf_text_origin(p->text, (unsigned)config_error_line(&p->cfg), &line);
	if (text != NULL && strcmp(text, "duplicate setting name") == 0 &&
	    name_at(conf_text_str(p->text), config_error_line(&p->cfg), name)) {
		snprintf(p->err, p->errlen, "%s:%u: %s is set twice", file, line, name);
		return -EINVAL;
	}
	if (text != NULL && strcmp(text, "memory exhausted") == 0)
		text = "nested too deeply";
	snprintf(p->err, p->errlen, "%s:%u: %s%s", file, line,
	    text != NULL ? text : "cannot be read", text != NULL && strcmp(text, "syntax error") == 0 ?
	    " here or on the line before (a missing `;', `,' or bracket?)" : "");
	return -EINVAL;
}

int
conf_parse(const char *path, struct conf **out, char *err, size_t errlen)
{
	struct parse	 p = { .err = err, .errlen = errlen };
	int		 r;

	*out = NULL;
	if ((r = conf_text_load(path, &p.text, err, errlen)) < 0)
		return r;
	config_init(&p.cfg);
	if ((p.c = calloc(1, sizeof(*p.c))) == NULL)
		r = -ENOMEM;
	else if (config_read_string(&p.cfg, conf_text_str(p.text)) != CONFIG_TRUE)
		r = fail_syntax(&p);
	else
		r = parse_root(&p);
	if (r == -ENOMEM)
		snprintf(err, errlen, "%s: out of memory", path);
	config_destroy(&p.cfg);
	conf_text_free(p.text);
	if (r < 0) {
		conf_free(p.c);
		return r;
	}
	*out = p.c;
	return 0;
}
