/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The file with the secrets of the cluster.
 *
 * One key a line, "ID BASE64", comments after # and blank lines allowed.  The
 * first key seals what we send, all are accepted: to change the secret, append
 * the new key everywhere, then move it to the front, then remove the old one.
 * Keys lie in one place, locked into memory, and are wiped when freed.  No
 * error text ever holds a part of a key.
 */
#ifndef CTSYNC_KEYFILE_H
#define CTSYNC_KEYFILE_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#define KEYFILE_KEYS_MAX	16
#define KEYFILE_KEY_MIN		32	/* bytes of a key, decoded */
#define KEYFILE_KEY_MAX		64

struct keyfile_key {
	uint16_t	 id;		/* 1 to 65535, unique in the file */
	uint16_t	 len;		/* bytes */
	uint8_t		 secret[KEYFILE_KEY_MAX];
};

struct keyfile {
	size_t			 nkeys;	/* at least one; the first one sends */
	struct keyfile_key	 keys[KEYFILE_KEYS_MAX];
};

/*
 * Read and check path.  It has to be a regular file that neither group nor
 * others may touch, owned by root, by the effective user or by owner (the user
 * that the daemon will become; 0 if there is none).
 *
 * 0 and *out, to be released by keyfile_free(); or -errno, *out NULL and one
 * line in err: "FILE:LINE: expected ...".  -EINVAL if the content is at fault,
 * -EPERM if owner or mode are.  That memory cannot be locked (RLIMIT_MEMLOCK)
 * is no error.
 */
int	keyfile_load(const char *path, uid_t owner, struct keyfile **out, char *err,
	    size_t errlen) __attribute__((warn_unused_result));

/* Wipe and release; NULL is fine. */
void	keyfile_free(struct keyfile *k);

/* The key with this id, or NULL; belongs to k. */
const struct keyfile_key	*keyfile_find(const struct keyfile *k, uint16_t id);

/*
 * Create path with one new random key of 32 bytes, mode 0600.  Never
 * overwrites: -EEXIST.  owner (-1: leave it) gets the file; that needs root.
 * 0, or -errno with one line in err; no file is left behind then.
 */
int	keyfile_generate(const char *path, uint16_t id, uid_t owner, char *err, size_t errlen)
	    __attribute__((warn_unused_result));

#endif
