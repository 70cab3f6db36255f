/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The text of a configuration: the file and what it includes, as one string.
 *
 * The parser is given a string and never opens a file: its own @include ends
 * the process on a directory, knows no path relative to the including file and
 * has no limits.  The second service is to integers: the parser silently cuts
 * those of more than 32 bits, unless they have an L at the end, so that they
 * get one here.  Knows comments and strings, and nothing else of the syntax.
 * Every '\n' of the output has an origin, so that errors name file and line.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf_int.h"

#define TEXT_MAX	(1024 * 1024)	/* bytes, all files together */
#define DEPTH_MAX	10
#define FILES_MAX	64

struct origin {
	unsigned	 file;
	unsigned	 line;
};

struct conf_text {
	char		*buf;		/* NUL-terminated */
	size_t		 len, cap;
	struct origin	*origins;	/* of line n + 1 */
	size_t		 norigins, caporigins;
	char		*files[FILES_MAX];
	unsigned	 nfiles;
	char		*err;
	size_t		 errlen;
};

enum lex { LEX_TEXT, LEX_STRING, LEX_LINE_COMMENT, LEX_COMMENT };

/* One file on its way into the text. */
struct source {
	struct conf_text	*t;
	const char		*p;		/* rest, NUL-terminated */
	unsigned		 file;
	unsigned		 line;
	unsigned		 opened;	/* line where the string or comment began */
	unsigned		 depth;
	enum lex		 lex;
	bool			 bol;		/* at the beginning of a line */
	char			 before;	/* character before p */
};

static int	 text_add_file(struct conf_text *t, const char *path, unsigned depth,
		    const struct source *from);

static int __attribute__((format(printf, 4, 5)))
text_fail(struct conf_text *t, const struct source *s, int error, const char *fmt, ...)
{
	va_list	 ap;
	int	 n = 0;

	if (s != NULL)
		n = snprintf(t->err, t->errlen, "%s:%u: ", t->files[s->file], s->line);
	if (n >= 0 && (size_t)n < t->errlen) {
		va_start(ap, fmt);
		vsnprintf(t->err + n, t->errlen - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return error;
}

static int
text_put(struct conf_text *t, const struct source *s, const char *p, size_t n)
{
	size_t	 cap = t->cap;
	char	*buf;

	if (n > TEXT_MAX - t->len)
		return text_fail(t, s, -EFBIG, "configuration is larger than %d bytes", TEXT_MAX);
	while (t->len + n + 1 > cap)
		cap = cap == 0 ? 4096 : cap * 2;
	if (cap != t->cap) {
		if ((buf = realloc(t->buf, cap)) == NULL)
			return text_fail(t, NULL, -ENOMEM, "out of memory");
		t->buf = buf;
		t->cap = cap;
	}
	memcpy(t->buf + t->len, p, n);
	t->len += n;
	t->buf[t->len] = '\0';
	return 0;
}

/* End a line of output that stems from the current line of s. */
static int
text_put_newline(struct conf_text *t, const struct source *s)
{
	struct origin	*o;
	size_t		 cap;

	if (t->norigins == t->caporigins) {
		cap = t->caporigins == 0 ? 256 : t->caporigins * 2;
		if ((o = realloc(t->origins, cap * sizeof(*o))) == NULL)
			return text_fail(t, NULL, -ENOMEM, "out of memory");
		t->origins = o;
		t->caporigins = cap;
	}
	t->origins[t->norigins].file = s->file;
	t->origins[t->norigins].line = s->line;
	t->norigins++;
	return text_put(t, s, "\n", 1);
}

static bool
is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    c == '_' || c == '-' || c == '*' || c == '.';
}

/* Copy n characters without a newline. */
static int
src_copy(struct source *s, size_t n)
{
	int	 r = text_put(s->t, s, s->p, n);

	if (n > 0) {
		s->before = s->p[n - 1];
		s->bol = false;
	}
	s->p += n;
	return r;
}

static int
src_newline(struct source *s)
{
	int	 r = text_put_newline(s->t, s);

	s->p++;
	s->line++;
	s->bol = true;
	s->before = '\n';
	return r;
}

/* The name in quotes of an @include at s->p, or NULL if there is none. */
static const char *
src_include(const struct source *s, size_t *len)
{
	const char	*p = s->p, *q;

	if (!s->bol)
		return NULL;
	p += strspn(p, " \t");
	if (strncmp(p, "@include", 8) != 0 || (p[8] != ' ' && p[8] != '\t'))
		return NULL;
	p += 8;
	p += strspn(p, " \t");
	if (*p++ != '"')
		return NULL;
	q = p + strcspn(p, "\"\n");
	*len = (size_t)(q - p);
	return p;
}

/* Replace an @include by the file that it names. */
static int
src_do_include(struct source *s, const char *name, size_t len)
{
	const char	*own = s->t->files[s->file], *slash = strrchr(own, '/');
	size_t		 dir = *name == '/' || slash == NULL ? 0 : (size_t)(slash - own) + 1;
	char		 path[PATH_MAX];
	int		 r;

	if (name[len] != '"')
		return text_fail(s->t, s, -EINVAL, "@include: expected a closing quote");
	if (len == 0 || memchr(name, '\\', len) != NULL)
		return text_fail(s->t, s, -EINVAL, "@include: expected the path of a file");
	if (dir + len >= sizeof(path))
		return text_fail(s->t, s, -EINVAL, "@include: path too long");
	memcpy(path, own, dir);
	memcpy(path + dir, name, len);
	path[dir + len] = '\0';
	if ((r = text_add_file(s->t, path, s->depth + 1, s)) < 0)
		return r;
	s->p = name + len + 1;
	s->bol = true;
	s->before = '\n';
	return 0;
}

/* A number at s->p: copy it, and mark it as long if it does not fit 32 bits. */
static int
src_number(struct source *s)
{
	size_t			 n = 0;
	unsigned long long	 v;
	char			*end;
	int			 r;

	while (is_word(s->p[n]) && s->p[n] != '*')
		n++;
	errno = 0;
	v = strtoull(s->p, &end, 0);
	if (s->p[0] == '0' && s->p[1] != 'x' && s->p[1] != 'X')
		v = strtoull(s->p, &end, 10);
	if (end == s->p + n && errno == 0 && v <= INT_MAX)
		return src_copy(s, n);
	if ((end == s->p + n || *end == 'L') && (errno != 0 || v > LLONG_MAX))
		return text_fail(s->t, s, -EINVAL, "number too large: %.*s", (int)(n < 64 ? n : 64), s->p);
	if (end != s->p + n)
		return src_copy(s, n);		/* a fraction, or for the parser to refuse */
	if ((r = src_copy(s, n)) < 0)
		return r;
	return text_put(s->t, s, "L", 1);
}

/* Outside of strings and comments. */
static int
src_text(struct source *s)
{
	const char	*name;
	size_t		 len;

	if ((name = src_include(s, &len)) != NULL)
		return src_do_include(s, name, len);
	if (*s->p >= '0' && *s->p <= '9' && (!is_word(s->before) || s->before == '-'))
		return src_number(s);
	if (*s->p == '"') {
		s->lex = LEX_STRING;
	} else if (*s->p == '#' || (s->p[0] == '/' && s->p[1] == '/')) {
		s->lex = LEX_LINE_COMMENT;
	} else if (s->p[0] == '/' && s->p[1] == '*') {
		s->lex = LEX_COMMENT;
		s->opened = s->line;
		return src_copy(s, 2);
	}
	s->opened = s->line;
	return src_copy(s, 1);
}

static int
src_step(struct source *s)
{
	if (*s->p == '\n') {
		if (s->lex == LEX_LINE_COMMENT)
			s->lex = LEX_TEXT;
		return src_newline(s);
	}
	switch (s->lex) {
	case LEX_TEXT:
		return src_text(s);
	case LEX_STRING:
		if (s->p[0] == '\\' && s->p[1] != '\0' && s->p[1] != '\n')
			return src_copy(s, 2);
		if (*s->p == '"')
			s->lex = LEX_TEXT;
		break;
	case LEX_COMMENT:
		if (s->p[0] == '*' && s->p[1] == '/') {
			s->lex = LEX_TEXT;
			return src_copy(s, 2);
		}
		break;
	case LEX_LINE_COMMENT:
		break;
	}
	return src_copy(s, 1);
}

/* All of a regular file of at most TEXT_MAX bytes; the caller frees *out. */
static int
read_all(int fd, char **out)
{
	struct stat	 st;
	size_t		 n = 0, cap;
	ssize_t		 r;
	char		*buf;

	*out = NULL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return -EINVAL;
	cap = TEXT_MAX + 1;
	if ((buf = malloc(cap + 1)) == NULL)
		return -ENOMEM;
	while (n < cap && (r = read(fd, buf + n, cap - n)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			r = -errno;
			free(buf);
			return (int)r;
		}
		n += (size_t)r;
	}
	buf[n] = '\0';
	if (n == cap || strlen(buf) != n) {
		free(buf);
		return n == cap ? -EFBIG : -EILSEQ;
	}
	*out = buf;
	return 0;
}

static int
text_lex(struct source *s)
{
	struct conf_text	*t = s->t;
	int			 r;

	while (*s->p != '\0')
		if ((r = src_step(s)) < 0)
			return r;
	if (s->lex == LEX_STRING || s->lex == LEX_COMMENT) {
		s->line = s->opened;
		return text_fail(t, s, -EINVAL, "the %s that begins here does not end",
		    s->lex == LEX_STRING ? "string" : "comment");
	}
	return s->bol ? 0 : text_put_newline(t, s);
}

static int
text_add_file(struct conf_text *t, const char *path, unsigned depth, const struct source *from)
{
	struct source	 s = { .t = t, .depth = depth, .line = 1, .bol = true, .before = '\n' };
	char		*buf = NULL;
	int		 fd = -1, r;

	if (depth > DEPTH_MAX || t->nfiles == FILES_MAX)
		return text_fail(t, from, -EINVAL, "@include: at most %d files deep and %d in all",
		    DEPTH_MAX, FILES_MAX);
	if ((t->files[t->nfiles] = strdup(path)) == NULL)
		return text_fail(t, NULL, -ENOMEM, "out of memory");
	s.file = t->nfiles++;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	r = fd < 0 ? -errno : read_all(fd, &buf);
	if (fd >= 0)
		close(fd);
	if (r < 0)
		return text_fail(t, from, r, "%s%s: %s", from != NULL ? "@include: " : "", path,
		    r == -EILSEQ ? "not a text file (it has a NUL byte)" :
		    r == -EINVAL ? "not a regular file" : strerror(-r));
	s.p = buf;
	r = text_lex(&s);
	free(buf);
	return r;
}

int
conf_text_load(const char *path, struct conf_text **out, char *err, size_t errlen)
{
	struct conf_text	*t;
	int			 r;

	*out = NULL;
	if ((t = calloc(1, sizeof(*t))) == NULL) {
		snprintf(err, errlen, "out of memory");
		return -ENOMEM;
	}
	t->err = err;
	t->errlen = errlen;
	r = text_add_file(t, path, 0, NULL);
	if (r == 0)
		r = text_put(t, NULL, "", 0);
	if (r < 0) {
		conf_text_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void
conf_text_free(struct conf_text *t)
{
	unsigned	 i;

	if (t == NULL)
		return;
	for (i = 0; i < t->nfiles; i++)
		free(t->files[i]);
	free(t->origins);
	free(t->buf);
	free(t);
}

const char *
conf_text_str(const struct conf_text *t)
{
	return t->buf;
}

const char *
conf_text_origin(const struct conf_text *t, unsigned n, unsigned *line)
{
	const struct origin	*o;

	if (t->norigins == 0 || n == 0) {
		*line = 1;
		return t->files[0];
	}
	if (n > t->norigins)
		n = (unsigned)t->norigins;	/* the parser stands behind the last line */
	o = &t->origins[n - 1];
	*line = o->line;
	return t->files[o->file];
}
