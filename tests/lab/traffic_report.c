/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client's report: adds up what every stream went through, by kind, by
 * target and in all, and prints it as JSON (schema: top of traffic.c).
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

struct sums {
	struct tally kinds[KIND_COUNT];
	struct tally *targets;
	struct tally total;
	uint64_t failures[FAIL_COUNT];
};

const char *
kind_name(enum kind kind)
{
	static const char *const names[KIND_COUNT] = {
		"download", "upload", "messages", "idle", "udp", "ping"
	};

	return names[kind];
}

const char *
failure_name(enum failure failure)
{
	static const char *const names[FAIL_COUNT] = {
		"none", "connect", "reset", "closed", "timeout", "stalled", "unfinished", "corrupt"
	};

	return names[failure];
}

static void
add_pause(struct tally *t, uint64_t pause_us)
{
	t->pauses_ms[t->n_pauses++] = (uint32_t)(pause_us / 1000);
}

static void
tally_stream(struct tally *t, const struct stream *s)
{
	t->connections++;
	t->established += s->rx_raw > 0;
	t->corrupt_bytes += s->corrupt;
	t->bytes_received += s->rx_bytes;
	t->bytes_sent += stream_tx_payload(s);
	if (s->p.kind == KIND_MESSAGES)
		t->messages += s->rx_frames;
	if (s->failure == FAIL_RESET || s->failure == FAIL_CLOSED)
		t->reset++;
	else if (s->state != ST_DONE)
		t->lost++;
	if (s->state == ST_DONE)
		add_pause(t, stream_pause(s));
}

/* A UDP stream is lost if it is silent at the end, or if its translation changed. */
static bool
dgram_lost(const struct dgram *d, uint64_t stopped_us)
{
	return !d->reported || d->in.last_us <= stopped_us || d->peer_moved > 0;
}

static void
tally_dgram(struct tally *t, const struct dgram *d, uint64_t stopped_us)
{
	uint64_t sent_by_peer = d->reported ? d->peer_sent : d->rx.next;
	uint64_t arrived = d->reported ? d->peer_received : 0;

	t->connections++;
	t->established += d->rx.received > 0;
	t->corrupt_bytes += d->corrupt + d->peer_corrupt;
	t->packets_sent += d->sent + sent_by_peer;
	t->packets_received += d->rx.received + arrived;
	t->packets_lost += d->sent - arrived + sent_by_peer - d->rx.received;
	t->packets_duplicated += d->rx.duplicated + d->peer_duplicated;
	t->bytes_received += d->rx.received * d->bytes;
	t->bytes_sent += d->sent * d->bytes;
	if (dgram_lost(d, stopped_us))
		t->lost++;
	else
		add_pause(t, d->in.longest_us > d->peer_longest_us ? d->in.longest_us : d->peer_longest_us);
}

static void
tally_ping(struct tally *t, const struct ping *g, uint64_t stopped_us)
{
	t->connections++;
	t->established += g->rx.received > 0;
	t->corrupt_bytes += g->corrupt;
	t->packets_sent += g->sent;
	t->packets_received += g->rx.received;
	t->packets_lost += g->sent - g->rx.received;
	t->packets_duplicated += g->rx.duplicated;
	if (g->in.last_us <= stopped_us)
		t->lost++;
	else
		add_pause(t, g->in.longest_us);
}

static int
compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void
set_u64(json_t *obj, const char *key, uint64_t v)
{
	json_object_set_new(obj, key, json_integer((json_int_t)v));
}

static json_t *
tally_json(struct tally *t)
{
	json_t *obj = json_object();

	set_u64(obj, "connections", t->connections);
	set_u64(obj, "established", t->established);
	set_u64(obj, "lost", t->lost);
	set_u64(obj, "reset", t->reset);
	set_u64(obj, "corrupt_bytes", t->corrupt_bytes);
	if (t->n_pauses > 0) {
		qsort(t->pauses_ms, t->n_pauses, sizeof(t->pauses_ms[0]), compare_u32);
		set_u64(obj, "longest_pause_ms", t->pauses_ms[t->n_pauses - 1]);
		set_u64(obj, "median_pause_ms", t->pauses_ms[t->n_pauses / 2]);
	} else {
		json_object_set_new(obj, "longest_pause_ms", json_null());
		json_object_set_new(obj, "median_pause_ms", json_null());
	}
	set_u64(obj, "bytes_received", t->bytes_received);
	set_u64(obj, "bytes_sent", t->bytes_sent);
	set_u64(obj, "messages", t->messages);
	set_u64(obj, "packets_sent", t->packets_sent);
	set_u64(obj, "packets_received", t->packets_received);
	set_u64(obj, "packets_lost", t->packets_lost);
	set_u64(obj, "packets_duplicated", t->packets_duplicated);
	return obj;
}

static bool
sums_init(struct sums *sums, const struct client_view *v)
{
	size_t n = v->n_streams + v->n_dgrams + pinger_count(v->pinger) + 1, i;
	bool ok;

	memset(sums, 0, sizeof(*sums));
	sums->targets = calloc(v->o->n_specs, sizeof(struct tally));
	if (sums->targets == NULL)
		return false;
	sums->total.pauses_ms = calloc(n, sizeof(uint32_t));
	ok = sums->total.pauses_ms != NULL;
	for (i = 0; i < KIND_COUNT; i++) {
		sums->kinds[i].pauses_ms = calloc(n, sizeof(uint32_t));
		ok = ok && sums->kinds[i].pauses_ms != NULL;
	}
	for (i = 0; i < v->o->n_specs; i++) {
		sums->targets[i].pauses_ms = calloc(n, sizeof(uint32_t));
		ok = ok && sums->targets[i].pauses_ms != NULL;
	}
	return ok;
}

static void
sums_fini(struct sums *sums, const struct client_view *v)
{
	size_t i;

	free(sums->total.pauses_ms);
	for (i = 0; i < KIND_COUNT; i++)
		free(sums->kinds[i].pauses_ms);
	for (i = 0; sums->targets != NULL && i < v->o->n_specs; i++)
		free(sums->targets[i].pauses_ms);
	free(sums->targets);
}

static void
sums_add(struct sums *sums, const struct client_view *v)
{
	struct tally *t[3] = { NULL, NULL, &sums->total };
	size_t i, k;

	for (i = 0; i < v->n_streams; i++) {
		const struct stream *s = &v->streams[i];

		t[0] = &sums->kinds[s->p.kind];
		t[1] = &sums->targets[v->o->endpoints[s->slot].group];
		for (k = 0; k < 3; k++)
			tally_stream(t[k], s);
		sums->failures[s->failure]++;
	}
	for (i = 0; i < v->n_dgrams; i++) {
		t[0] = &sums->kinds[KIND_UDP];
		t[1] = &sums->targets[v->o->endpoints[v->dgrams[i].endpoint].group];
		for (k = 0; k < 3; k++)
			tally_dgram(t[k], &v->dgrams[i], v->stopped_us);
	}
	for (i = 0; i < pinger_count(v->pinger); i++) {
		const struct ping *g = pinger_get(v->pinger, i);

		t[0] = &sums->kinds[KIND_PING];
		t[1] = &sums->targets[v->o->endpoints[g->endpoint].group];
		for (k = 0; k < 3; k++)
			tally_ping(t[k], g, v->stopped_us);
	}
}

static json_t *
sums_json(struct sums *sums, const struct client_view *v, bool ok)
{
	json_t *root = json_object(), *kinds = json_object();
	json_t *targets = json_object(), *failures = json_object();
	size_t i;

	json_object_set_new(root, "ok", json_boolean(ok));
	json_object_set_new(root, "all_established", json_boolean(v->all_established));
	json_object_set_new(root, "establish_s", json_real(v->establish_s));
	json_object_set_new(root, "seconds", json_real(v->seconds));
	for (i = 0; i < KIND_COUNT; i++) {
		if (sums->kinds[i].connections > 0)
			json_object_set_new(kinds, kind_name((enum kind)i), tally_json(&sums->kinds[i]));
	}
	for (i = 0; i < v->o->n_specs; i++)
		json_object_set_new(targets, v->o->specs[i], tally_json(&sums->targets[i]));
	for (i = FAIL_NONE + 1; i < FAIL_COUNT; i++)
		set_u64(failures, failure_name((enum failure)i), sums->failures[i]);
	json_object_set_new(root, "kinds", kinds);
	json_object_set_new(root, "targets", targets);
	json_object_set_new(root, "failures", failures);
	json_object_set_new(root, "total", tally_json(&sums->total));
	return root;
}

int
report_client(const struct client_view *v)
{
	struct sums sums;
	json_t *root;
	bool ok;

	if (!sums_init(&sums, v)) {
		fprintf(stderr, "no memory for the report\n");
		sums_fini(&sums, v);
		return 1;
	}
	sums_add(&sums, v);
	ok = v->all_established && sums.total.lost == 0 && sums.total.reset == 0 &&
	    sums.total.corrupt_bytes == 0;
	root = sums_json(&sums, v, ok);
	if (v->o->progress)
		fputc('\n', stderr);
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
	sums_fini(&sums, v);
	return ok && fflush(stdout) == 0 ? 0 : 1;
}
