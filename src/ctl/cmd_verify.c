/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ctsync verify`: the flows that differ, one a line, and a summary.
 *
 * The flows come before the RESULT that says what is wrong with them, so they
 * are kept until then; the daemon records some thousand at most.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define KEEP_MAX	(64u << 20)	/* bytes of flows, far above what a daemon records */

struct verify {
	uint8_t		*p;
	size_t		 len;
};

static bool
keep(void *ctx, struct rbuf *payload)
{
	struct verify	*v = ctx;
	uint8_t		*p;

	if (v->len + payload->len > KEEP_MAX || (p = realloc(v->p, v->len + payload->len)) == NULL)
		return false;
	memcpy(p + v->len, payload->p, payload->len);
	v->p = p;
	v->len += payload->len;
	return true;
}

/* What is wrong, for people: to whom a table belongs decides what "there" is. */
static const char *
wrong(const char *what, const char *peer, bool second)
{
	if (strcmp(what, "missing_here") == 0)
		return "missing here";
	if (strcmp(what, "missing_there") == 0)
		return peer != NULL ? "missing there" : "missing in the kernel";
	if (!second)
		return "changed, here";
	return peer != NULL ? "changed, there" : "changed, in the kernel";
}

static bool
next_flow(struct rbuf *r, struct flow *f)
{
	struct rbuf	 body;
	uint32_t	 timeout;
	size_t		 used;

	if (ctl_flow_get(r, &timeout, &body) <= 0)
		return false;
	return flow_unpack(body.p, body.len, f) == 0 ||
	    flow_unpack_key(body.p, body.len, f, &used) == 0;
}

/* Call for each recorded flow in turn: the text, or JSON into list. */
static bool
each_flow(const struct verify *v, const json_t *recorded, struct flowout *out, json_t *list)
{
	const json_t	*g;
	const char	*peer, *what;
	struct rbuf	 r;
	struct flow	 f;
	json_int_t	 k, n;
	size_t		 i;

	rbuf_init(&r, v->p, v->len);
	for (i = 0; i < json_array_size(recorded); i++) {
		g = json_array_get(recorded, i);
		peer = json_string_value(json_object_get(g, "peer"));
		what = text_str(g, "what", "");
		n = json_integer_value(json_object_get(g, "records"));
		for (k = 0; k < n; k++) {
			if (!next_flow(&r, &f))
				return false;
			if (list != NULL) {
				json_array_append_new(list, json_pack("{s:s?,s:s,s:o}", "peer", peer,
				    "wrong", wrong(what, peer, k % 2), "flow", flowjson(&f)));
				continue;
			}
			printf("%s: %s: %s", peer != NULL ? peer : "local", wrong(what, peer, k % 2),
			    f.expect ? "expectation " : "");
			if (!flowout_flow(out, &f))
				return false;
		}
	}
	return true;
}

static void
print_part(const char *name, const char *whom, const char *there, const json_t *j)
{
	const char	*state = text_str(j, "state", "-");
	char		 n[TEXT_MAX], a[TEXT_MAX], b[TEXT_MAX], c[TEXT_MAX];
	char		 kept[TEXT_MAX + 64] = "";

	if (text_num(j, "kept", 0) > 0)
		snprintf(kept, sizeof(kept), " (%s more are kept from before it restarted)",
		    text_member(j, "kept", a));
	printf("%s: %s flows, ", name, text_member(j, "flows", n));
	if (strcmp(state, "equal") == 0)
		printf("equal to %s%s\n", whom, kept);
	else if (strcmp(state, "different") == 0)
		printf("DIFFERENT from %s: %s missing here, %s missing %s, %s changed\n", whom,
		    text_member(j, "missing_here", a), text_member(j, "missing_there", b), there,
		    text_member(j, "changed", c));
	else
		printf("NOT COMPARED with %s: %s\n", whom, text_str(j, "why", "-"));
}

static int
print_text(const struct verify *v, const json_t *result)
{
	const json_t	*peers = json_object_get(result, "peers"), *p;
	struct flowout	*out;
	size_t		 i;
	bool		 ok;

	if ((out = flowout_new(OUT_TEXT, false)) == NULL) {
		ctl_err("out of memory");
		return CTL_EXIT_FAILED;
	}
	ok = each_flow(v, json_object_get(result, "recorded"), out, NULL);
	flowout_end(out, ok);
	print_part("local", "the kernel", "in the kernel", json_object_get(result, "local"));
	for (i = 0; i < json_array_size(peers); i++) {
		p = json_array_get(peers, i);
		print_part(text_str(p, "node", "-"), "the peer", "there", p);
	}
	return ok ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

static int
print_json(const struct verify *v, json_t *result)
{
	json_t	*list = json_array();
	bool	 ok = each_flow(v, json_object_get(result, "recorded"), NULL, list);

	json_object_del(result, "recorded");
	json_object_set_new(result, "differing", list);
	text_dump(result);
	return ok ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

int
cmd_verify(struct ctl *c, int argc, char **argv)
{
	static const struct client_cb	 cb = { .flows = keep };
	struct verify			 v = { NULL, 0 };
	json_t				*result;
	int				 rc, printed = CTL_EXIT_OK;

	(void)argc;
	(void)argv;
	if ((result = client_call(c, NULL, &cb, &v)) == NULL) {
		rc = CTL_EXIT_UNREACHABLE;
		goto out;
	}
	rc = client_exit(c, result);
	if (c->json)
		printed = print_json(&v, result);
	else if (json_object_get(result, "local") != NULL)
		printed = print_text(&v, result);
	if (printed != CTL_EXIT_OK)
		ctl_err("%s: some flows could not be printed", c->cmd);
	if (rc == CTL_EXIT_OK)
		rc = printed;
out:
	json_decref(result);
	free(v.p);
	return rc;
}
