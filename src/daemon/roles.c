/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which role this node has, and from where.
 *
 * In this order: the addresses of takeover.follow_addresses; what was asked for
 * last (wish.h); the role from before the restart.  A request that comes over
 * the control socket is recorded before it is carried out, and what others have
 * recorded is carried out without a request, at the start and within a second.
 * So the role and the record agree, whoever dies in between.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/rundir.h"
#include "daemon.h"

#define ROLE_FILE	"role"
#define LINE_MAX_BYTES	64	/* of the role file */
#define LOCK_WAIT_MS	50	/* for another writer of the record: it takes microseconds */

/* --- the role file -------------------------------------------------------------------- */

/* "active 3": cut the term off; 0 if there is none, or none that makes sense. */
static uint32_t
cut_term(char *line)
{
	char		*word = strchr(line, ' '), *end;
	unsigned long	 v;

	if (word == NULL)
		return 0;
	*word++ = '\0';
	v = strtoul(word, &end, 10);
	return *word == '-' || end == word || *end != '\0' || v > WIRE_TERM_MAX ? 0 : (uint32_t)v;
}

/* The role from before the restart, "" if it is not known, and its term. */
static void
read_role(const struct daemon *d, char role[LINE_MAX_BYTES], uint32_t *term)
{
	ssize_t	 n = -ENOENT;
	int	 fd = rundir_open(d->conf->runtime_dir);

	if (fd >= 0) {
		n = rundir_read(fd, ROLE_FILE, role, LINE_MAX_BYTES);
		close(fd);
	}
	if (n < 0 && n != -ENOENT)
		log_msg(LOG_WARNING, "%s/" ROLE_FILE " cannot be read: %s; the role from before the "
		    "restart is not known", d->conf->runtime_dir, strerror((int)-n));
	if (n < 0)
		role[0] = '\0';
	role[strcspn(role, "\n")] = '\0';
	*term = cut_term(role);
}

void
roles_changed(void *ctx, enum node_role role, bool done)
{
	struct daemon	*d = ctx;
	char		 line[LINE_MAX_BYTES];
	int		 fd, rc;

	snprintf(line, sizeof(line), "%s %u\n", role == NODE_STANDBY ? "standby" :
	    done ? "active" : "taking", (unsigned)node_term(d->node));
	rc = fd = rundir_open(d->conf->runtime_dir);
	if (fd >= 0) {
		rc = rundir_replace(fd, ROLE_FILE, line);
		close(fd);
	}
	if (rc < 0)
		log_msg(LOG_WARNING, "cannot write %s/" ROLE_FILE ": %s; after a restart ctsyncd will not "
		    "know this node's role", d->conf->runtime_dir, strerror(-rc));
}

/* --- addresses ---------------------------------------------------------------------------- */

static bool
follows(const struct daemon *d)
{
	return d->conf->takeover.follow_addresses.n > 0;
}

/* Has this node one of the addresses that the role follows?  Its text, "" if not. */
static bool
has_followed(const struct daemon *d, char text[CONF_ADDR_STR_MAX])
{
	const struct conf_addrs	*f = &d->conf->takeover.follow_addresses;
	struct flow_addr	 a;
	size_t			 i;

	text[0] = '\0';
	for (i = 0; i < f->n; i++) {
		memcpy(a.b, f->v[i].b, sizeof(a.b));
		if (!rtnl_has(d->rtnl, f->v[i].family, &a))
			continue;
		conf_addr_str(&f->v[i], text);
		return true;
	}
	return false;
}

/* --- what was asked for ------------------------------------------------------------------------ */

/* Nobody waits for an answer. */
static void
carry_out(struct daemon *d, enum wish_what what)
{
	if (what == WISH_TAKEOVER)
		node_takeover(d->node, NODE_TAKEOVER, now_us(d));
	else
		node_release(d->node, now_us(d));
}

/* Record what is asked for; what stands is what is to be done. */
static void
record(struct daemon *d, const struct wish *mine)
{
	static struct log_limit	 limit = LOG_LIMIT_INIT;
	char			 err[WISH_ERR_MAX];
	struct wish		 stands;

	if (d->asked.what != WISH_NONE && wish_before(mine->stamp, d->asked.stamp))
		return;
	d->unrecorded = wish_record(d->conf->runtime_dir, mine, LOCK_WAIT_MS, &stands, err) < 0;
	if (d->unrecorded)
		log_limited(&limit, LOG_ERR, "a %s was asked for and cannot be recorded: %s; after a restart "
		    "ctsyncd will not know of it", wish_name(mine->what), err);
	d->asked = stands;
}

enum wish_what
roles_ask(struct daemon *d, enum wish_what what, uint64_t stamp)
{
	struct wish	 mine = { what, stamp }, before = d->asked;
	uint64_t	 now = wish_now();

	/* nobody asks in the future: it would outlast whatever comes */
	if (wish_before(now, stamp))
		mine.stamp = now;
	record(d, &mine);
	if (d->asked.what == what)
		return what;
	log_msg(LOG_NOTICE, "a %s that was asked for earlier comes late: what was asked for last is a %s",
	    wish_name(what), wish_name(d->asked.what));
	if (d->asked.stamp != before.stamp || d->asked.what != before.what)
		carry_out(d, d->asked.what);
	return d->asked.what;
}

void
roles_second(struct daemon *d)
{
	char		 err[WISH_ERR_MAX];
	struct wish	 w;
	int		 rc;

	if (follows(d))
		return;
	rc = wish_read(d->conf->runtime_dir, &w, err);
	if (rc < 0 && rc != d->asked_rc)
		log_msg(LOG_ERR, "what was asked for last: %s", err);
	d->asked_rc = rc;
	if (rc < 0 || w.what == WISH_NONE || (w.what == d->asked.what && w.stamp == d->asked.stamp) ||
	    (d->asked.what != WISH_NONE && wish_before(w.stamp, d->asked.stamp)))
		return;
	log_msg(LOG_NOTICE, "a %s was asked for in %s/" WISH_DIR, wish_name(w.what),
	    d->conf->runtime_dir);
	d->asked = w;
	carry_out(d, w.what);
}

void
roles_addresses(struct daemon *d)
{
	struct wish	 w = { WISH_RELEASE, 0 };
	char		 text[CONF_ADDR_STR_MAX];
	bool		 has;

	if (d->node == NULL || !follows(d))
		return;
	if ((has = has_followed(d, text)) == d->followed)
		return;
	d->followed = has;
	if (has) {
		w.what = WISH_TAKEOVER;
		log_msg(LOG_NOTICE, "%s has %s now: takeover", d->conf->node, text);
	} else
		log_msg(LOG_NOTICE, "%s has none of takeover.follow_addresses any more: release",
		    d->conf->node);
	w.stamp = wish_now();
	record(d, &w);
	carry_out(d, w.what);
}

json_t *
roles_source(const struct daemon *d)
{
	char	 text[CONF_ADDR_STR_MAX];

	if (follows(d))
		return json_sprintf("follows takeover.follow_addresses: %s is here",
		    has_followed(d, text) ? text : "none of them");
	if (d->asked.what != WISH_NONE)
		return json_sprintf("a %s was asked for last", wish_name(d->asked.what));
	return json_string("nobody has asked for another one");
}

/* --- start ------------------------------------------------------------------------------------- */

/* What was asked for last, and is to be done, if anything. */
static void
read_asked(struct daemon *d)
{
	char	 err[WISH_ERR_MAX];

	d->asked_rc = wish_read(d->conf->runtime_dir, &d->asked, err);
	if (d->asked_rc < 0)
		log_msg(LOG_ERR, "what was asked for last: %s", err);
}

void
roles_start(struct daemon *d, struct node_conf *nc)
{
	static const char	 later[] = "takes over as soon as the peers' flows are here";
	char			 role[LINE_MAX_BYTES], text[CONF_ADDR_STR_MAX];
	bool			 active, was, taking;

	read_role(d, role, &nc->term);
	read_asked(d);
	taking = strcmp(role, "taking") == 0;
	active = was = taking || strcmp(role, "active") == 0;
	nc->asked = true;
	if (follows(d)) {
		active = d->followed = has_followed(d, text);
		log_msg(LOG_NOTICE, "role: %s; %s has %s of takeover.follow_addresses%s%s",
		    active ? "active" : "standby", d->conf->node, active ? text : "none",
		    active ? ": " : "", active ? later : "");
	} else if (d->asked.what != WISH_NONE) {
		active = d->asked.what == WISH_TAKEOVER;
		if (active != was)
			log_msg(LOG_NOTICE, "role: %s; a %s was asked for while ctsyncd did not run%s%s",
			    active ? "active" : "standby", wish_name(d->asked.what),
			    active ? ": " : "", active ? later : "");
	} else
		nc->asked = false;
	if (active && taking)
		log_msg(LOG_WARNING, "role: active; a takeover was under way when ctsyncd ended, it goes on "
		    "when the peers' flows are here");
	else if (active && was && !follows(d))
		log_msg(LOG_NOTICE, "role: active, as before the restart; %s", later);
	if (active && !was && nc->term < WIRE_TERM_MAX)
		nc->term++;
	nc->role = active ? NODE_ACTIVE : NODE_STANDBY;
	nc->resume = active && (taking || !was);
}
