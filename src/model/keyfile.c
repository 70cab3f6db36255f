/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Read, check and make key files.
 *
 * What secrets are used for is seal's business.  Every buffer that held a key
 * is wiped before it goes, also on the way out of an error.  Base64 is decoded
 * by hand: strict about length, padding and stray bits, so that a key has one
 * spelling only.
 */
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/keyfile.h"

#define FILE_MAX	16384		/* bytes; 16 keys and comments fit in many times */
#define GEN_LEN		32		/* bytes of a new key */
#define LOCKED_LEN	sizeof(struct locked)

/* All that holds secrets while a file is read: one locked mapping. */
struct locked {
	struct keyfile	 k;
	char		 text[FILE_MAX + 1];
};

static const char	 b64[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int __attribute__((format(printf, 6, 7)))
key_fail(int error, char *err, size_t errlen, const char *path, unsigned line,
    const char *fmt, ...)
{
	va_list	 ap;
	int	 n;

	if (line > 0)
		n = snprintf(err, errlen, "%s:%u: ", path, line);
	else
		n = snprintf(err, errlen, "%s: ", path);
	if (n >= 0 && (size_t)n < errlen) {
		va_start(ap, fmt);
		vsnprintf(err + n, errlen - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return error;
}

/* Value of a base64 digit, -1 if it is none. */
static int
b64_digit(char c)
{
	const char	*p = c != '\0' ? strchr(b64, c) : NULL;

	return p != NULL ? (int)(p - b64) : -1;
}

/*
 * Decode n characters.  0, or -EINVAL if they are not base64, -ERANGE if the
 * key would be shorter or longer than allowed.
 */
static int
b64_decode(const char *s, size_t n, struct keyfile_key *k)
{
	uint32_t	 acc = 0;
	unsigned	 bits = 0;
	size_t		 i, pad = 0, len = 0;
	int		 d;

	while (pad < 2 && pad < n && s[n - 1 - pad] == '=')
		pad++;
	if (n == 0 || n % 4 != 0)
		return -EINVAL;
	for (i = 0; i < n - pad; i++) {
		if ((d = b64_digit(s[i])) < 0)
			return -EINVAL;
		acc = (acc << 6 | (uint32_t)d) & 0xfff;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (len < sizeof(k->secret))
			k->secret[len] = (uint8_t)(acc >> bits);
		len++;
	}
	if ((acc & ((1u << bits) - 1)) != 0)
		return -EINVAL;
	if (len < KEYFILE_KEY_MIN || len > KEYFILE_KEY_MAX)
		return -ERANGE;
	k->len = (uint16_t)len;
	return 0;
}

/* One line, without its newline. */
static int
parse_line(struct keyfile *k, char *line, const char *path, unsigned no, char *err,
    size_t errlen)
{
	struct keyfile_key	*key = &k->keys[k->nkeys];
	size_t			 n;
	unsigned long		 id;
	int			 r;

	line[strcspn(line, "#\r")] = '\0';
	line += strspn(line, " \t");
	if (*line == '\0')
		return 0;
	if (k->nkeys == KEYFILE_KEYS_MAX)
		return key_fail(-EINVAL, err, errlen, path, no, "expected at most %d keys",
		    KEYFILE_KEYS_MAX);
	n = strspn(line, "0123456789");
	id = n >= 1 && n <= 5 ? strtoul(line, NULL, 10) : 0;
	if (id < 1 || id > UINT16_MAX || (line[n] != ' ' && line[n] != '\t'))
		return key_fail(-EINVAL, err, errlen, path, no,
		    "expected \"ID BASE64\" with an id of 1..65535");
	if (keyfile_find(k, (uint16_t)id) != NULL)
		return key_fail(-EINVAL, err, errlen, path, no, "key id %lu is there twice", id);
	line += n;
	line += strspn(line, " \t");
	n = strcspn(line, " \t");
	if (line[n + strspn(line + n, " \t")] != '\0')
		return key_fail(-EINVAL, err, errlen, path, no,
		    "expected nothing behind the key");
	r = b64_decode(line, n, key);
	if (r == -ERANGE)
		return key_fail(-EINVAL, err, errlen, path, no, "expected a key of %d..%d bytes",
		    KEYFILE_KEY_MIN, KEYFILE_KEY_MAX);
	if (r < 0)
		return key_fail(-EINVAL, err, errlen, path, no, "expected the key in base64");
	key->id = (uint16_t)id;
	k->nkeys++;
	return 0;
}

static int
parse_text(struct locked *l, size_t len, const char *path, char *err, size_t errlen)
{
	char		*line = l->text, *nl;
	unsigned	 no = 1;
	int		 r;

	if (memchr(l->text, '\0', len) != NULL)
		return key_fail(-EINVAL, err, errlen, path, 0,
		    "not a key file (it has a NUL byte)");
	for (;;) {
		if ((nl = strchr(line, '\n')) != NULL)
			*nl = '\0';
		if ((r = parse_line(&l->k, line, path, no, err, errlen)) < 0)
			return r;
		if (nl == NULL)
			break;
		line = nl + 1;
		no++;
	}
	if (l->k.nkeys == 0)
		return key_fail(-EINVAL, err, errlen, path, 0,
		    "holds no key; make one with `ctsync keygen'");
	return 0;
}

static int
check_file(int fd, uid_t owner, const char *path, char *err, size_t errlen)
{
	struct stat	 st;

	if (fstat(fd, &st) < 0)
		return key_fail(-errno, err, errlen, path, 0, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return key_fail(-EINVAL, err, errlen, path, 0, "not a regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != owner)
		return key_fail(-EPERM, err, errlen, path, 0,
		    "owned by user id %u, expected root or the user of the daemon",
		    (unsigned)st.st_uid);
	if ((st.st_mode & 077) != 0)
		return key_fail(-EPERM, err, errlen, path, 0,
		    "group or others may read it (mode %04o), expected mode 0600: chmod 600",
		    (unsigned)(st.st_mode & 07777));
	return 0;
}

static int
read_text(int fd, struct locked *l, size_t *len, const char *path, char *err, size_t errlen)
{
	ssize_t	 r;

	*len = 0;
	while ((r = read(fd, l->text + *len, FILE_MAX + 1 - *len)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return key_fail(-errno, err, errlen, path, 0, "%s", strerror(errno));
		*len += (size_t)r;
		if (*len > FILE_MAX)
			return key_fail(-EFBIG, err, errlen, path, 0,
			    "larger than %d bytes, this is no key file", FILE_MAX);
	}
	l->text[*len] = '\0';
	return 0;
}

int
keyfile_load(const char *path, uid_t owner, struct keyfile **out, char *err, size_t errlen)
{
	struct locked	*l;
	size_t		 len;
	int		 fd, r;

	*out = NULL;
	/* Non-blocking: a FIFO is refused instead of waited for. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return key_fail(-errno, err, errlen, path, 0, "%s%s", strerror(errno),
		    errno == ENOENT ? "; make a key with `ctsync keygen'" : "");
	l = mmap(NULL, LOCKED_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l == MAP_FAILED) {
		close(fd);
		return key_fail(-ENOMEM, err, errlen, path, 0, "out of memory");
	}
	(void)mlock(l, LOCKED_LEN);
	(void)madvise(l, LOCKED_LEN, MADV_DONTDUMP);
	if ((r = check_file(fd, owner, path, err, errlen)) == 0 &&
	    (r = read_text(fd, l, &len, path, err, errlen)) == 0)
		r = parse_text(l, len, path, err, errlen);
	close(fd);
	explicit_bzero(l->text, sizeof(l->text));
	if (r < 0) {
		keyfile_free(&l->k);
		return r;
	}
	*out = &l->k;
	return 0;
}

void
keyfile_free(struct keyfile *k)
{
	/* k is the first member of its struct locked. */
	if (k == NULL)
		return;
	explicit_bzero(k, sizeof(*k));
	munmap(k, LOCKED_LEN);
}

const struct keyfile_key *
keyfile_find(const struct keyfile *k, uint16_t id)
{
	size_t	 i;

	for (i = 0; i < k->nkeys; i++)
		if (k->keys[i].id == id)
			return &k->keys[i];
	return NULL;
}

/* Base64 of n bytes, padded; out holds 4 * ((n + 2) / 3) + 1 bytes. */
static void
b64_encode(const uint8_t *p, size_t n, char *out)
{
	uint32_t	 v;
	size_t		 i;

	for (i = 0; i < n; i += 3) {
		v = (uint32_t)p[i] << 16;
		if (i + 1 < n)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < n)
			v |= p[i + 2];
		*out++ = b64[v >> 18 & 63];
		*out++ = b64[v >> 12 & 63];
		*out++ = i + 1 < n ? b64[v >> 6 & 63] : '=';
		*out++ = i + 2 < n ? b64[v & 63] : '=';
	}
	*out = '\0';
}

static int
write_all(int fd, const char *p, size_t n)
{
	ssize_t	 r;

	while (n > 0) {
		r = write(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		p += r;
		n -= (size_t)r;
	}
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

/* A line with a new key; returns its length or -errno. */
static int
new_line(uint16_t id, char *line, size_t len)
{
	uint8_t	 secret[GEN_LEN];
	char	 text[4 * ((GEN_LEN + 2) / 3) + 1];
	ssize_t	 r;
	int	 n;

	do {
		r = getrandom(secret, sizeof(secret), 0);
	} while (r < 0 && errno == EINTR);
	n = r < 0 ? -errno : r != (ssize_t)sizeof(secret) ? -EIO : 0;
	if (n == 0) {
		b64_encode(secret, sizeof(secret), text);
		n = snprintf(line, len, "%u %s\n", id, text);
		explicit_bzero(text, sizeof(text));
	}
	explicit_bzero(secret, sizeof(secret));
	return n;
}

int
keyfile_generate(const char *path, uint16_t id, uid_t owner, char *err, size_t errlen)
{
	char	 line[128];
	int	 fd, r;

	if (id == 0)
		return key_fail(-EINVAL, err, errlen, path, 0, "expected a key id of 1..65535");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return key_fail(-errno, err, errlen, path, 0, "%s%s", strerror(errno),
		    errno == EEXIST ? "; a key is never overwritten" : "");
	r = new_line(id, line, sizeof(line));
	if (r >= 0)
		r = write_all(fd, line, (size_t)r);
	explicit_bzero(line, sizeof(line));
	if (r == 0 && owner != (uid_t)-1 && fchown(fd, owner, (gid_t)-1) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0) {
		unlink(path);
		return key_fail(r, err, errlen, path, 0, "%s", strerror(-r));
	}
	return 0;
}
