/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What this kernel and this network namespace offer: probing, sysctls, and the
 * identity of the machine's boot.
 *
 * Blocking, quick, without state of its own; what to do about an answer is left to the
 * caller.  Values are those of the network namespace of the calling thread.
 */
#ifndef CTSYNC_KCT_SYS_H
#define CTSYNC_KCT_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KCT_BOOT_ID_BYTES	16
#define KCT_WHY_MAX		256

/*
 * Is ctnetlink there and are we allowed to use it?  0; else -errno, and in why
 * a line for the operator that says what is missing and what to do.
 */
int	kct_sys_probe(char why[KCT_WHY_MAX]) __attribute__((warn_unused_result));

/*
 * Value of the sysctl net.netfilter.nf_conntrack_NAME, such as "count", "max",
 * "events", "tcp_loose" or a timeout ("tcp_timeout_established", "udp_timeout",
 * "generic_timeout", ... in seconds).  0 or -errno: -ENOENT if there is none.
 */
int	kct_sys_get(const char *name, uint32_t *value) __attribute__((warn_unused_result));
int	kct_sys_set(const char *name, uint32_t value) __attribute__((warn_unused_result));

/*
 * A sysctl that is to be 1 and that others may change; zero but for its name
 * at first.
 *
 * "events": with 1 all new flows emit events; with 2, the default, only those
 * that are born while there is a listener; with 0 none, ever.
 * "acct": with 1 all new entries count their packets, with 0 none, ever.
 */
struct kct_watch {
	const char	*name;
	uint32_t	 found;		/* its value at the last look, before it was set */
	bool		 stuck;		/* it was not 1 then and could not be set */
	int		 err;		/* why: -errno */
};

enum kct_watched {
	KCT_WATCH_SAME,		/* nothing has changed since the last look */
	KCT_WATCH_SET,		/* it was not 1 and is now */
	KCT_WATCH_STUCK,	/* it is not 1 any more, or another value, and cannot be set */
	KCT_WATCH_GOOD		/* it was stuck and is 1 now without our doing */
};

/*
 * Look at it, some microseconds, and set it if it is not 1.  One that cannot be
 * read is as it was.
 */
enum kct_watched kct_sys_watch(struct kct_watch *w) __attribute__((warn_unused_result));

/* Identity of this boot of the kernel: 0 or -errno. */
int	kct_sys_boot_id(uint8_t id[KCT_BOOT_ID_BYTES]) __attribute__((warn_unused_result));
/* Inode number of the network namespace, 0 if it is not known. */
uint64_t kct_sys_netns(void);

#endif
