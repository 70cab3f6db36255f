/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the configuration module share and nobody else sees.
 *
 * One table describes every key: its type, range, default and place in struct
 * conf.  Defaults, parsing, the advice in error texts and printing all follow
 * it, so that a new key is one line in conf_keys.c.  Only lists (links, peers,
 * filter) have code of their own.
 */
#ifndef CONF_INT_H
#define CONF_INT_H

#include "ctsync/conf.h"

enum conf_kind {
	CK_NAME,	/* char[]: A-Z a-z 0-9 . _ - */
	CK_PATH,	/* char[]: absolute, printable */
	CK_IFNAME,	/* char[] */
	CK_U32,		/* uint32_t */
	CK_SIZE,	/* uint64_t: integer, or string with K, M, G */
	CK_BOOL,	/* bool */
	CK_WORD,	/* int: one of words */
	CK_ADDR,	/* struct conf_addr */
	CK_ADDRS	/* struct conf_addrs: a list of them */
};

#define CONF_WORD_UNSUPPORTED	(-1)

/* A table of words ends with a NULL name. */
struct conf_word {
	const char	*name;
	int		 value;		/* or CONF_WORD_UNSUPPORTED: known, and refused */
};

struct conf_key {
	const char		*name;
	enum conf_kind		 kind;
	bool			 must;		/* no default: has to be given */
	size_t			 offset;	/* of the value in its struct */
	size_t			 size;		/* of the value in bytes, for strings with the NUL */
	uint64_t		 min, max;	/* CK_U32, CK_SIZE */
	uint64_t		 def;		/* CK_U32, CK_SIZE, CK_BOOL, CK_WORD */
	const char		*sdef;		/* the strings; NULL: "" */
	const struct conf_word	*words;
};

/* A group of keys.  Tables of keys end with a NULL name. */
struct conf_section {
	const char		*name;
	const struct conf_key	*keys;
};

extern const struct conf_key		 conf_root_keys[];	/* in struct conf */
extern const struct conf_section	 conf_sections[];	/* offsets in struct conf; ends with NULL */
extern const struct conf_key		 conf_link_keys[];	/* in struct conf_link */
extern const struct conf_key		 conf_peer_keys[];	/* in struct conf_peer */
extern const struct conf_key		 conf_filter_keys[];	/* in struct conf_filter */

static inline bool
bit_get(const uint8_t *bits, size_t i)
{
	return (bits[i / 8] & 1u << i % 8) != 0;
}

/* Set the defaults of keys in the struct at base. */
void	conf_keys_default(const struct conf_key *keys, void *base);
/* Describe what a key takes: "integer 1..65535".  Returns buf. */
#define CONF_EXPECT_MAX		160
char	*conf_key_expect(const struct conf_key *k, char buf[CONF_EXPECT_MAX]);

bool	conf_name_ok(const char *s, size_t max);
bool	conf_path_ok(const char *s, size_t max);
bool	conf_ifname_ok(const char *s);
/* "64M", "4096": bytes.  False if it is no size. */
bool	conf_size_parse(const char *s, uint64_t *v);
#define CONF_SIZE_STR_MAX	24
char	*conf_size_str(uint64_t v, char buf[CONF_SIZE_STR_MAX]);
bool	conf_addr_parse(const char *s, struct conf_addr *a);
bool	conf_addr_equal(const struct conf_addr *a, const struct conf_addr *b);
/* NULL, or what is wrong with it, static storage. */
const char	*conf_prefix_parse(const char *s, struct conf_prefix *p);
const char	*conf_mark_parse(const char *s, struct conf_mark *m);

/*
 * Check what no single key shows: names that have to be unique, families that
 * have to agree.  0; or -EINVAL, the key at fault in key and the reason in why.
 */
#define CONF_KEY_MAX		160
int	conf_check(const struct conf *c, char key[CONF_KEY_MAX], char *why, size_t whylen);

/*
 * The text of a file with all that it includes, made fit for the parser, and
 * the origin of every line of it.
 */
struct conf_text;

int		 conf_text_load(const char *path, struct conf_text **out, char *err, size_t errlen);
void		 conf_text_free(struct conf_text *t);
const char	*conf_text_str(const struct conf_text *t);
/* Where line n of the text (from 1) comes from; the file lives as long as t. */
const char	*conf_text_origin(const struct conf_text *t, unsigned n, unsigned *line);

#endif
