/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ctsyncd: start, loop, stop.
 *
 * Order at start: configuration, lock, kernel and addresses, links and control
 * socket while we may still do everything, then privileges are dropped, then
 * the ctnetlink sockets and the writer's thread.  Stops in reverse.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/clock.h"
#include "ctsync/keyfile.h"
#include "ctsync/priv.h"
#include "ctsync/rundir.h"
#include "daemon.h"

#define EXIT_USAGE	2
#define LOCK_TRIES	20	/* of 100 ms */

static void
usage(FILE *f)
{
	fputs("usage: ctsyncd [-c FILE] [-t] [-p] [-v] [-V]\n"
	    "  -c FILE  configuration (" CONF_DEFAULT_FILE ")\n"
	    "  -t       check the configuration and exit\n"
	    "  -p       print the effective configuration and exit\n"
	    "  -v       log more; twice: everything\n"
	    "  -V       print the version\n"
	    "Runs in the foreground.  See ctsyncd(8).\n", f);
}

/* --- the runtime directory -------------------------------------------------------- */

/* The lock as a plain file of its own: nothing else is given away, whatever lies there. */
static int
open_lock(const struct daemon *d, int dir, uid_t uid, gid_t gid)
{
	struct stat	 st;
	int		 fd;

	fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_msg(LOG_ERR, "cannot open the lock %s/lock: %s", d->conf->runtime_dir,
		    strerror(errno));
		goto fail;
	}
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
		log_msg(LOG_ERR, "%s/lock is no plain file, or has another name: remove it",
		    d->conf->runtime_dir);
		goto fail;
	}
	if (geteuid() == 0 && uid != 0 && st.st_uid != uid && fchown(fd, uid, gid) < 0)
		log_msg(LOG_WARNING, "cannot give %s/lock to the daemon's user: %s",
		    d->conf->runtime_dir, strerror(errno));
	return fd;
fail:
	if (fd >= 0)
		close(fd);
	return -1;
}

/*
 * Make the directory ours, take the lock: one daemon for each runtime directory.
 * Members of the group may leave word there of what they want.
 */
static int
lock_runtime(struct daemon *d, uid_t uid, gid_t gid, gid_t group)
{
	char	 err[WISH_ERR_MAX];
	int	 dir, tries, prepared;

	prepared = wish_prepare(d->conf->runtime_dir, uid, gid, group, err);
	if ((dir = rundir_open(d->conf->runtime_dir)) < 0) {
		log_msg(LOG_ERR, "cannot use the runtime directory %s: %s; create it or set runtime_dir",
		    d->conf->runtime_dir, strerror(-dir));
		return -1;
	}
	if (prepared < 0)
		log_msg(LOG_WARNING, "%s; what is asked for while ctsyncd does not run will be lost", err);
	d->lock_fd = open_lock(d, dir, uid, gid);
	/* one that was killed may take a moment to give its memory back */
	for (tries = 0; d->lock_fd >= 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0 &&
	    tries < LOCK_TRIES; tries++)
		usleep(100000);
	if (tries == LOCK_TRIES)
		log_msg(LOG_ERR, "another ctsyncd runs with the runtime directory %s: stop it first "
		    "(ctsync shutdown), or give this one its own runtime_dir", d->conf->runtime_dir);
	else if (d->lock_fd >= 0)
		rundir_clean(dir);
	close(dir);
	return d->lock_fd < 0 || tries == LOCK_TRIES ? -1 : 0;
}

/* --- the loop --------------------------------------------------------------------------- */

static void
on_idle(struct ev_loop *loop, ev_idle *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;
}

static void
on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop;
	(void)w;
	(void)revents;		/* it woke the loop, on_prepare() does the work */
}

/* Once each turn of the loop, after everything that came in. */
static void
on_prepare(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct daemon	*d = w->data;
	bool		 more = kernel_results(d);
	uint64_t	 now = now_us(d), due;

	(void)revents;
	due = node_run(d->node, now);
	if (more || due <= now) {
		ev_idle_start(loop, &d->idle);
		return;
	}
	ev_idle_stop(loop, &d->idle);
	ev_timer_stop(loop, &d->timer);
	ev_timer_set(&d->timer, (double)(due - now) / 1e6, 0);
	ev_timer_start(loop, &d->timer);
}

static void
on_second(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct daemon	*d = w->data;
	char		 reason[NODE_REASON_MAX];
	bool		 ready;

	(void)loop;
	(void)revents;
	kernel_second(d);
	roles_second(d);
	notify_watchdog(&d->notify);
	ready = node_ready(d->node, now_us(d), reason);
	notify_status(&d->notify, "%s, %s: %s",
	    node_role(d->node) == NODE_ACTIVE ? "active" : "standby", ready ? "ready" : "NOT ready",
	    reason);
}

void
daemon_stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	notify_stopping(&d->notify);
	node_leave(d->node, now_us(d));
	ev_break(d->loop, EVBREAK_ALL);
}

static void
on_signal(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct daemon	*d = w->data;
	char		 msg[CONF_ERR_MAX];

	(void)loop;
	(void)revents;
	if (w->signum != SIGHUP) {
		log_msg(LOG_NOTICE, "stopping (signal %d)", w->signum);
		daemon_stop(d);
		return;
	}
	notify_reloading(&d->notify);
	log_msg(daemon_reload(d, msg, sizeof(msg)) < 0 ? LOG_ERR : LOG_NOTICE, "reload: %s", msg);
	notify_ready(&d->notify);
}

static void
on_taken(void *ctx)
{
	control_taken(ctx);
}

static void
on_verified(void *ctx)
{
	control_verified(ctx);
}

static uint64_t
wall_ms(void *ctx)
{
	(void)ctx;
	return clock_wall_ms();
}

static const struct node_ops	node_ops = {
	.link = { links_send, links_usable },
	.kernel = { kernel_submit, kernel_dump, kernel_age_us, kernel_address_lost },
	.filter = kernel_filter,
	.wall_ms = wall_ms,
	.role = roles_changed,
	.taken = on_taken,
	.verified = on_verified
};

/* --- keys, peers, node ---------------------------------------------------------------------- */

static struct seal_ring *
load_ring(const struct conf *c, uid_t uid, char *err, size_t errlen)
{
	struct seal_secret	 secrets[KEYFILE_KEYS_MAX];
	struct seal_ring	*ring = NULL;
	struct keyfile		*k;
	size_t			 i;
	int			 rc;

	if (keyfile_load(c->key_file, uid, &k, err, errlen) < 0)
		return NULL;
	for (i = 0; i < k->nkeys; i++) {
		secrets[i].id = k->keys[i].id;
		secrets[i].key = k->keys[i].secret;
		secrets[i].len = k->keys[i].len;
	}
	rc = seal_ring_new(&ring, secrets, k->nkeys, c->cluster);
	keyfile_free(k);
	if (rc < 0) {
		snprintf(err, errlen, "%s: keys cannot be used: %s", c->key_file, strerror(-rc));
		return NULL;
	}
	return ring;
}

static int
collect_peers(struct daemon *d)
{
	const struct conf	*c = d->conf;
	size_t			 i, k, m;

	for (i = 0; i < c->nlinks; i++)
		for (k = 0; k < c->links[i].npeers; k++) {
			for (m = 0; m < d->npeers; m++)
				if (strcmp(d->peer_names[m], c->links[i].peers[k].name) == 0)
					break;
			if (m < d->npeers)
				continue;
			if (d->npeers == NODE_PEERS_MAX) {
				log_msg(LOG_ERR, "%s: more than %d different peers", d->conf_path,
				    NODE_PEERS_MAX);
				return -1;
			}
			d->peer_names[d->npeers++] = c->links[i].peers[k].name;
		}
	return 0;
}

static int
make_node(struct daemon *d)
{
	struct node_conf	*nc = &d->node_conf;
	const struct conf	*c = d->conf;
	unsigned		 i;
	int			 err;

	nc->name = c->node;
	nc->cluster = c->cluster;
	nc->peers = d->peer_names;
	nc->npeers = d->npeers;
	nc->nlinks = d->nlinks;
	nc->ring = d->ring;
	nc->suite = (enum seal_suite)c->security.suite;
	nc->max_flows = c->limits.flows;
	nc->max_bytes = c->limits.memory;
	nc->max_tombs = c->limits.tombstones;
	kernel_timeouts(nc->default_s);
	memcpy(nc->fixed_s, c->timeouts, sizeof(nc->fixed_s));
	nc->boot_wait_us = (uint64_t)c->takeover.boot_wait_s * 1000000;
	nc->purge_us = (uint64_t)c->takeover.purge_s * 1000000;
	nc->hold_us = (uint64_t)c->replication.hold_ms * 1000;
	nc->scrub_us = (uint64_t)c->replication.scrub_s * 1000000;
	nc->liberal = c->kernel.liberal;
	roles_start(d, nc);
	nc->links = d->link_names;
	nc->datagram_bytes = NODE_DATAGRAM_MAX;
	for (i = 0; i < c->nlinks; i++)
		d->link_names[i] = c->links[i].name;
	for (i = 0; i < c->nlinks; i++)
		if (c->links[i].mtu < nc->datagram_bytes)
			nc->datagram_bytes = c->links[i].mtu;
	if (kct_sys_boot_id(nc->boot.boot_id) < 0)
		memset(nc->boot.boot_id, 0, sizeof(nc->boot.boot_id));
	nc->boot.netns = kct_sys_netns();
	if (seal_random(&nc->epoch, sizeof(nc->epoch)) < 0 ||
	    seal_random(nc->boot_key, sizeof(nc->boot_key)) < 0 ||
	    seal_random(&nc->digest_key, sizeof(nc->digest_key)) < 0 ||
	    seal_random(&nc->table_key, sizeof(nc->table_key)) < 0) {
		log_msg(LOG_ERR, "no random bytes from OpenSSL");
		return -1;
	}
	nc->epoch |= 1;		/* 0 means none */
	if ((d->node = node_new(nc, &node_ops, d, now_us(d), &err)) == NULL) {
		log_msg(LOG_ERR, "cannot start the node: %s", strerror(-err));
		return -1;
	}
	return 0;
}

int
daemon_reload(struct daemon *d, char *msg, size_t msglen)
{
	struct repl_filter	*rf;
	struct seal_ring	*ring;
	struct conf		*c;

	if (conf_parse(d->conf_path, &c, msg, msglen) < 0)
		return -1;
	if ((ring = load_ring(c, d->uid, msg, msglen)) == NULL) {
		conf_free(c);
		return -1;
	}
	if (strcmp(c->cluster, d->conf->cluster) != 0 || (rf = repl_filter_new(c)) == NULL) {
		snprintf(msg, msglen, "another cluster name needs a restart; nothing was changed");
		seal_ring_free(ring);
		conf_free(c);
		return -1;
	}
	if (node_set_ring(d->node, ring) == 0) {
		seal_ring_free(d->ring);
		d->ring = ring;
	} else
		seal_ring_free(ring);
	repl_filter_free(d->filter);
	d->filter = rf;
	if (!d->verbose)
		log_set_level(c->log.level);
	local_resync(node_local(d->node));
	conf_free(c);
	snprintf(msg, msglen, "keys, filter and log level are in use as configured now; changes of "
	    "anything else need a restart");
	return 0;
}

/* --- start and stop ---------------------------------------------------------------------------- */

static gid_t
group_id(const char *name)
{
	struct group	*g = name[0] != '\0' ? getgrnam(name) : NULL;

	return g == NULL ? CTLSRV_NO_GID : g->gr_gid;
}

static int
drop(struct daemon *d)
{
	char	 msg[PRIV_ERR_MAX];

	msg[0] = '\0';
	if (priv_drop(d->conf->user, strcmp(d->conf->user, CONF_DEFAULT_USER) == 0, msg,
	    sizeof(msg)) < 0) {
		log_msg(LOG_ERR, "%s", msg);
		return -1;
	}
	if (msg[0] != '\0')
		log_msg(LOG_WARNING, "%s", msg);
	return 0;
}

static int
start(struct daemon *d)
{
	char	 err[CONF_ERR_MAX];
	gid_t	 gid = getegid(), group = group_id(d->conf->control.group);

	d->uid = geteuid();
	if (priv_check(err, sizeof(err)) < 0) {
		log_msg(LOG_ERR, "%s", err);
		return -1;
	}
	if (d->uid == 0 && priv_user(d->conf->user, &d->uid, &gid) < 0)
		d->uid = 0;
	if (lock_runtime(d, d->uid, gid, group == CTLSRV_NO_GID ? gid : group) < 0 ||
	    kernel_open(d) < 0)
		return -1;
	if ((d->ring = load_ring(d->conf, d->uid, err, sizeof(err))) == NULL) {
		log_msg(LOG_ERR, "%s", err);
		return -1;
	}
	if ((d->filter = repl_filter_new(d->conf)) == NULL || collect_peers(d) < 0)
		return -1;
	d->nlinks = (unsigned)d->conf->nlinks;
	if (make_node(d) < 0 || links_open(d) < 0 ||
	    control_open(d, group, group_id(d->conf->control.read_group)) < 0)
		return -1;
	if (drop(d) < 0 || kernel_start(d) < 0)
		return -1;
	return 0;
}

static void
watch(struct daemon *d)
{
	static const int	 sigs[] = { SIGTERM, SIGINT, SIGHUP };
	size_t			 i;

	for (i = 0; i < 3; i++) {
		ev_signal_init(&d->sigs[i], on_signal, sigs[i]);
		d->sigs[i].data = d;
		ev_signal_start(d->loop, &d->sigs[i]);
	}
	ev_prepare_init(&d->prepare, on_prepare);
	d->prepare.data = d;
	ev_prepare_start(d->loop, &d->prepare);
	ev_idle_init(&d->idle, on_idle);
	ev_timer_init(&d->timer, on_timer, 0, 0);
	ev_timer_init(&d->second, on_second, 1, 1);
	d->second.data = d;
	ev_timer_start(d->loop, &d->second);
}

static void
stop(struct daemon *d)
{
	if (d->ctl != NULL)
		ctlsrv_flush(d->ctl, 500);
	ctlsrv_free(d->ctl);
	kernel_close(d);
	links_close(d);
	node_free(d->node);
	repl_filter_free(d->filter);
	seal_ring_free(d->ring);
	notify_fini(&d->notify);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
}

static int
run(struct daemon *d)
{
	int	 rc = EXIT_FAILURE;

	signal(SIGPIPE, SIG_IGN);
	d->lock_fd = -1;
	STAILQ_INIT(&d->results);
	d->loop = ev_default_loop(EVFLAG_AUTO);
	if (d->loop == NULL) {
		log_msg(LOG_ERR, "no event loop");
		return EXIT_FAILURE;
	}
	if (notify_init(&d->notify) < 0)
		log_msg(LOG_WARNING, "NOTIFY_SOCKET cannot be used");
	d->started_us = now_us(d);
	if (start(d) == 0) {
		watch(d);
		/* whoever found nobody listening has written by now what he wants */
		roles_second(d);
		log_msg(LOG_NOTICE, "ctsyncd " PACKAGE_VERSION ": node %s, cluster %s, %u peer%s, role %s",
		    d->conf->node, d->conf->cluster, d->npeers, d->npeers == 1 ? "" : "s",
		    node_role(d->node) == NODE_ACTIVE ? "active" : "standby");
		notify_ready(&d->notify);
		ev_run(d->loop, 0);
		log_msg(LOG_NOTICE, "stopped");
		rc = EXIT_SUCCESS;
	}
	stop(d);
	return rc;
}

int
main(int argc, char **argv)
{
	static struct daemon	 d;	/* holds no state of its own before run() */
	char			 err[CONF_ERR_MAX];
	int			 opt, rc, verbose = 0;
	bool			 check = false, print = false;

	d.conf_path = CONF_DEFAULT_FILE;
	while ((opt = getopt(argc, argv, "c:tpvVh")) != -1) {
		switch (opt) {
		case 'c':
			d.conf_path = optarg;
			break;
		case 't':
			check = true;
			break;
		case 'p':
			print = true;
			break;
		case 'v':
			verbose++;
			break;
		case 'V':
			puts("ctsyncd " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "ctsyncd: unexpected argument `%s'\n", argv[optind]);
		usage(stderr);
		return EXIT_USAGE;
	}
	if (conf_load(d.conf_path, &d.conf, err, sizeof(err)) < 0) {
		fprintf(stderr, "ctsyncd: %s\n", err);
		return EXIT_FAILURE;
	}
	if (print && conf_print(d.conf, stdout) < 0)
		return EXIT_FAILURE;
	if (check && !print)
		printf("%s: configuration is fine\n", d.conf_path);
	if (check || print) {
		conf_free(d.conf);
		return EXIT_SUCCESS;
	}
	d.verbose = verbose > 0;
	log_init(verbose > 0 ? (verbose > 1 ? LOG_DEBUG : LOG_INFO) : d.conf->log.level);
	rc = run(&d);
	conf_free(d.conf);
	return rc;
}
