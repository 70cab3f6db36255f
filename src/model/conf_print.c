/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Print a configuration in the syntax in which it is read.
 *
 * Everything is printed, defaults too, in the order of the tables, so that two
 * configurations with the same settings print the same text.  Settings whose
 * value is "none" have no text and are left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_int.h"
#include "ctsync/flow.h"

static void
print_string(FILE *f, const char *s)
{
	putc('"', f);
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			putc('\\', f);
		putc(*s, f);
	}
	putc('"', f);
}

static void
print_word(FILE *f, const struct conf_word *w, int value)
{
	while (w->name != NULL && w->value != value)
		w++;
	print_string(f, w->name != NULL ? w->name : "");
}

/* Does the value of k at p have a text? */
static bool
key_is_set(const struct conf_key *k, const char *p)
{
	switch (k->kind) {
	case CK_NAME:
	case CK_PATH:
	case CK_IFNAME:
		return *p != '\0';
	case CK_ADDR:
		return ((const struct conf_addr *)(const void *)p)->family != 0;
	case CK_ADDRS:
		return ((const struct conf_addrs *)(const void *)p)->n != 0;
	default:
		return true;
	}
}

static void
print_addrs(FILE *f, const struct conf_addrs *l)
{
	char	 s[CONF_ADDR_STR_MAX];
	size_t	 i;

	putc('(', f);
	for (i = 0; i < l->n; i++) {
		fputs(i > 0 ? ", " : " ", f);
		print_string(f, conf_addr_str(&l->v[i], s));
	}
	fputs(" )", f);
}

static void
print_value(FILE *f, const struct conf_key *k, const char *p)
{
	char			 s[CONF_ADDR_STR_MAX];
	struct conf_addr	 a;
	uint32_t		 u32;
	uint64_t		 u64;
	int			 word;
	bool			 b;

	switch (k->kind) {
	case CK_NAME:
	case CK_PATH:
	case CK_IFNAME:
		print_string(f, p);
		break;
	case CK_U32:
		memcpy(&u32, p, sizeof(u32));
		fprintf(f, "%u", u32);
		break;
	case CK_SIZE:
		memcpy(&u64, p, sizeof(u64));
		print_string(f, conf_size_str(u64, s));
		break;
	case CK_BOOL:
		memcpy(&b, p, sizeof(b));
		fputs(b ? "true" : "false", f);
		break;
	case CK_WORD:
		memcpy(&word, p, sizeof(word));
		print_word(f, k->words, word);
		break;
	case CK_ADDR:
		memcpy(&a, p, sizeof(a));
		print_string(f, conf_addr_str(&a, s));
		break;
	case CK_ADDRS:
		print_addrs(f, (const void *)p);
		break;
	}
}

static void
print_keys(FILE *f, const struct conf_key *keys, const void *base, const char *indent)
{
	const char	*p;

	for (; keys->name != NULL; keys++) {
		p = (const char *)base + keys->offset;
		if (!key_is_set(keys, p))
			continue;
		fprintf(f, "%s%s = ", indent, keys->name);
		print_value(f, keys, p);
		fputs(";\n", f);
	}
}

static void
print_link(FILE *f, const struct conf_link *l)
{
	size_t	 i;

	fputs("\t{\n", f);
	print_keys(f, conf_link_keys, l, "\t\t");
	fputs("\t\tpeers = (\n", f);
	for (i = 0; i < l->npeers; i++) {
		fputs("\t\t\t{\n", f);
		print_keys(f, conf_peer_keys, &l->peers[i], "\t\t\t\t");
		fprintf(f, "\t\t\t}%s\n", i + 1 < l->npeers ? "," : "");
	}
	fputs("\t\t);\n\t}", f);
}

static void
print_prefix(FILE *f, const void *e)
{
	const struct conf_prefix	*p = e;
	char				 s[CONF_ADDR_STR_MAX];

	fprintf(f, "\"%s/%u\"", conf_addr_str(&p->net, s), p->len);
}

static void
print_mark(FILE *f, const void *e)
{
	const struct conf_mark	*m = e;

	fprintf(f, "\"0x%x/0x%x\"", m->value, m->mask);
}

static void
print_zone(FILE *f, const void *e)
{
	fprintf(f, "%u", *(const uint16_t *)e);
}

static void
print_list(FILE *f, const char *name, const void *list, size_t n, size_t size,
    void (*print)(FILE *, const void *))
{
	size_t	 i;

	if (n == 0)
		return;
	fprintf(f, " %s = (", name);
	for (i = 0; i < n; i++) {
		fputs(i > 0 ? ", " : " ", f);
		print(f, (const char *)list + i * size);
	}
	fputs(" );", f);
}

static void
print_only_except(FILE *f, const char *name, const void *only, size_t nonly,
    const void *except, size_t nexcept, size_t size, void (*print)(FILE *, const void *))
{
	if (nonly + nexcept == 0)
		return;
	fprintf(f, "\t%s = {", name);
	print_list(f, "only", only, nonly, size, print);
	print_list(f, "except", except, nexcept, size, print);
	fputs(" };\n", f);
}

static void
print_proto(FILE *f, unsigned n)
{
	const char	*name = flow_proto_name((uint8_t)n);

	if (flow_proto_parse(name) == (int)n)
		print_string(f, name);
	else
		fprintf(f, "%u", n);
}

static void
print_tcp_state(FILE *f, unsigned n)
{
	print_string(f, flow_tcp_state_name((uint8_t)n));
}

/* The shorter one of what passes and what does not, of n bits. */
static void
print_bits(FILE *f, const char *name, const uint8_t *bits, unsigned n,
    void (*print)(FILE *, unsigned))
{
	unsigned	 i, set = 0;
	bool		 only, first = true;

	for (i = 0; i < n; i++)
		set += bit_get(bits, i);
	if (set == n)
		return;
	only = set > 0 && set <= n / 2;
	fprintf(f, "\t%s = { %s = (", name, only ? "only" : "except");
	for (i = 0; i < n; i++) {
		if (bit_get(bits, i) != only)
			continue;
		fputs(first ? " " : ", ", f);
		print(f, i);
		first = false;
	}
	fputs(" ); };\n", f);
}

static void
print_filter(FILE *f, const struct conf_filter *fl)
{
	uint8_t	 states[4];

	states[0] = (uint8_t)fl->tcp_states;
	states[1] = (uint8_t)(fl->tcp_states >> 8);
	states[2] = states[3] = 0;
	fputs("filter = {\n", f);
	print_keys(f, conf_filter_keys, fl, "\t");
	print_bits(f, "protocols", fl->protos, 256, print_proto);
	print_bits(f, "tcp_states", states, FLOW_TCP_STATES, print_tcp_state);
	print_only_except(f, "addresses", fl->addr_only, fl->naddr_only, fl->addr_except,
	    fl->naddr_except, sizeof(*fl->addr_only), print_prefix);
	print_only_except(f, "marks", fl->mark_only, fl->nmark_only, fl->mark_except,
	    fl->nmark_except, sizeof(*fl->mark_only), print_mark);
	print_only_except(f, "zones", fl->zone_only, fl->nzone_only, fl->zone_except,
	    fl->nzone_except, sizeof(*fl->zone_only), print_zone);
	fputs("};\n", f);
}

int
conf_print(const struct conf *c, FILE *f)
{
	const struct conf_section	*s;
	size_t				 i;

	print_keys(f, conf_root_keys, c, "");
	fputs("links = (\n", f);
	for (i = 0; i < c->nlinks; i++) {
		print_link(f, &c->links[i]);
		fputs(i + 1 < c->nlinks ? ",\n" : "\n", f);
	}
	fputs(");\n", f);
	for (s = conf_sections; s->name != NULL; s++) {
		fprintf(f, "%s = {\n", s->name);
		print_keys(f, s->keys, c, "\t");
		fputs("};\n", f);
	}
	print_filter(f, &c->filter);
	return fflush(f) != 0 || ferror(f) ? -EIO : 0;
}

bool
conf_equal(const struct conf *a, const struct conf *b)
{
	char	*ta = NULL, *tb = NULL;
	size_t	 na = 0, nb = 0;
	FILE	*fa = open_memstream(&ta, &na), *fb = open_memstream(&tb, &nb);
	bool	 same;

	same = fa != NULL && fb != NULL && conf_print(a, fa) == 0 && conf_print(b, fb) == 0;
	if (fa != NULL)
		fclose(fa);
	if (fb != NULL)
		fclose(fb);
	same = same && na == nb && memcmp(ta, tb, na) == 0;
	free(ta);
	free(tb);
	return same;
}
