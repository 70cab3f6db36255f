/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the parts of ctsync share: the run-time context, the command table's
 * form, the connection to the daemon and the ways to print.
 *
 * A command function gets its arguments without options and returns the exit
 * code (enum ctl_exit).  It prints results to stdout and errors, by ctl_err(),
 * to stderr.  stdout is checked once, when everything has been printed.
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "ctsync/ctlproto.h"
#include "ctsync/filter.h"

enum out_format {
	OUT_TEXT,
	OUT_JSON,
	OUT_XML
};

struct ctl {
	const char		*socket;
	const char		*cmd;		/* name of the command */
	bool			 json;		/* print what the daemon answered */
	enum out_format		 format;	/* of show */
	const char		*peer;		/* --peer, or NULL */
	struct flow_filter	 filter;
	json_t			*conditions;	/* the same for the daemon */
	unsigned		 timeout_s;	/* how long the daemon may be silent, 0: for ever */
	pid_t			 asked_by;	/* whose start counts, 0: our own */
};

#define CTL_CMD_FILTER	0x01u		/* takes -p, -s, ... */
#define CTL_CMD_FORMAT	0x02u		/* takes -o text|json|xml */
#define CTL_CMD_ROLE	0x04u		/* takes --asked-by */

struct ctl_cmd {
	const char	*name;
	const char	*args;		/* for the usage */
	const char	*help;		/* one line */
	unsigned	 flags;		/* CTL_CMD_* */
	int		 min_args, max_args;
	unsigned	 timeout_s;
	int		(*fn)(struct ctl *, int argc, char **argv);
};

/* main.c */
/* One line on stderr, "ctsync: ...". */
void	ctl_err(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* client.c: one request and its answer */
struct client_cb {
	/* The payload of a FLOWS frame; false: enough, end here. */
	bool	(*flows)(void *ctx, struct rbuf *payload);
};

/*
 * Send {"proto", "cmd"} and args (its reference is taken; may be NULL) and read
 * the answer; TEXT goes to stdout, PROGRESS to stderr if somebody looks.
 * Returns the RESULT, a new reference, whatever it says; NULL, after a message,
 * when the daemon cannot be reached or does not speak our language.
 */
json_t	*client_call(const struct ctl *c, json_t *args, const struct client_cb *cb, void *cb_ctx);

/* The exit code of a RESULT; its error, if any, is printed. */
int	 client_exit(const struct ctl *c, const json_t *result);

/*
 * client_call(), and the whole answer printed if --json was given (then
 * *result is NULL).  The exit code; *result is NULL if there is no more to do.
 */
int	 client_simple(const struct ctl *c, json_t *args, json_t **result);

/* text.c: numbers and tables for people */
#define TEXT_MAX	64
char	*text_ms(double ms, char buf[TEXT_MAX]);		/* "12 ms", "3 min" */
char	*text_bytes(double bytes, char buf[TEXT_MAX]);		/* "1.2 GiB" */
/* A member as text: "-" if it is missing or null. */
char	*text_member(const json_t *obj, const char *key, char buf[TEXT_MAX]);
const char *text_str(const json_t *obj, const char *key, const char *otherwise);
double	 text_num(const json_t *obj, const char *key, double otherwise);
void	 text_dump(const json_t *j);				/* pretty JSON on stdout */

struct table;
struct table	*table_new(unsigned cols);
/* Append a cell, left to right, line by line; copies. */
void		 table_cell(struct table *t, const char *text);
/* Print with aligned columns, numbers to the right, and free. */
void		 table_print(struct table *t);

/* flowjson.c */
/* A flow or an expectation, as doc/control.md describes it; a new reference. */
json_t	*flowjson(const struct flow *f);

/* An entry of the kernel, as it is and as the library has read it. */
struct nf_conntrack;
struct nf_expect;
struct kentry {
	struct flow			 f;
	const struct nf_conntrack	*ct;
	const struct nf_expect		*exp;	/* instead, of an expectation */
};

/* flowout.c: flows and expectations on stdout */
struct flowout;
/* expect: expectations are to come, not flows; text takes either.  NULL without memory. */
struct flowout	*flowout_new(enum out_format format, bool expect);
/* False when stdout takes no more.  Text without a timeout if f has none. */
bool		 flowout_flow(struct flowout *o, const struct flow *f);
/* The same as the kernel told it: text and XML show all that it knows. */
bool		 flowout_kernel(struct flowout *o, const struct kentry *e);
/*
 * Release, and return the number of flows.  Output that is not complete is not
 * closed either, so that no reader takes it for the whole.
 */
uint64_t	 flowout_end(struct flowout *o, bool complete);
/* Is the label with that number set? */
bool		 flowout_label(const uint8_t labels[FLOW_LABEL_BYTES], unsigned bit);
/* All of an expectation's mask: what is of the destination counts in full. */
void		 flowout_expect_mask(const struct flow *f, struct flow_tuple *mask);

/* kdump.c: the kernel's tables */
/* Calls fn for each flow, or expectation, until it says false.  0 or -errno. */
int	kdump(uint8_t family, bool expect, bool (*fn)(void *ctx, const struct kentry *e), void *ctx);

/* cmd_act.c */
/* What a commit, a takeover or a release did, for people. */
void	 act_print(const struct ctl *c, const json_t *j, bool ok);

/* The commands. */
int	cmd_status(struct ctl *, int, char **);
int	cmd_ready(struct ctl *, int, char **);
int	cmd_show(struct ctl *, int, char **);
int	cmd_count(struct ctl *, int, char **);
int	cmd_commit(struct ctl *, int, char **);
int	cmd_role(struct ctl *, int, char **);		/* takeover, release */
int	cmd_simple(struct ctl *, int, char **);		/* resync, reload, shutdown */
int	cmd_verify(struct ctl *, int, char **);
int	cmd_flush(struct ctl *, int, char **);
int	cmd_forget(struct ctl *, int, char **);
int	cmd_log(struct ctl *, int, char **);
int	cmd_stats(struct ctl *, int, char **);
int	cmd_metrics(struct ctl *, int, char **);
int	cmd_keygen(struct ctl *, int, char **);

#endif
