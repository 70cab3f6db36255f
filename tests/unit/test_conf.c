/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration: input and expected output.
 *
 * Every NAME.conf of the fixtures is loaded; NAME.expect holds either all
 * settings as they are printed or the exact error text.  With
 * CTSYNC_CONFIG_UPDATE set, the .expect files are written instead: read the
 * difference before it is committed.  Then each key with each wrong type, and
 * mutated texts, which must load to something printable or be refused.
 * The fixtures are in CTSYNC_CONFIG_FIXTURES or $srcdir/tests/config.
 */
#include <arpa/inet.h>

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctsync/conf.h"
#include "ctsync/flow.h"

#define MUTATIONS	8000

/* A text that it refuses in the middle of a string costs libconfig 1.5 that string. */
const char	*__lsan_default_suppressions(void);
const char	*__lsan_default_options(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}

const char *
__lsan_default_options(void)
{
	return "print_suppressions=0";
}

static char	 start_dir[4096];

static void
enter_fixtures(void)
{
	const char	*dir = getenv("CTSYNC_CONFIG_FIXTURES"), *src = getenv("srcdir");
	char		 path[4096];

	snprintf(path, sizeof(path), "%s/tests/config", src != NULL ? src : ".");
	ck_assert_msg(chdir(dir != NULL ? dir : path) == 0, "no fixtures in %s",
	    dir != NULL ? dir : path);
}

static char *
slurp(const char *path, size_t *len)
{
	FILE	*f = fopen(path, "r");
	char	*buf = malloc(65536);
	size_t	 n;

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	ck_assert_ptr_nonnull(buf);
	n = fread(buf, 1, 65535, f);
	buf[n] = '\0';
	fclose(f);
	if (len != NULL)
		*len = n;
	return buf;
}

static void
spill(const char *path, const char *text, size_t len)
{
	FILE	*f = fopen(path, "w");

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	ck_assert_uint_eq(fwrite(text, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

static char *
printed(const struct conf *c)
{
	char	*text = NULL;
	size_t	 n;
	FILE	*f = open_memstream(&text, &n);

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(conf_print(c, f), 0);
	fclose(f);
	return text;
}

static void
temp_path(char path[64])
{
	int	 fd;

	strcpy(path, "/tmp/ctsyncd-test-XXXXXX");
	ck_assert_int_ge(fd = mkstemp(path), 0);
	close(fd);
}

/* What is printed has to load to the same settings. */
static void
check_round_trip(const struct conf *c)
{
	char		 path[64], err[CONF_ERR_MAX];
	char		*text = printed(c), *again;
	struct conf	*d;

	temp_path(path);
	spill(path, text, strlen(text));
	ck_assert_msg(conf_parse(path, &d, err, sizeof(err)) == 0, "%s\n%s", err, text);
	again = printed(d);
	ck_assert_str_eq(text, again);
	ck_assert(conf_equal(c, d));
	conf_free(d);
	free(again);
	free(text);
	unlink(path);
}

static int
is_conf(const struct dirent *e)
{
	size_t	 n = strlen(e->d_name);

	return n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

static char *
outcome(const char *name)
{
	char		 err[CONF_ERR_MAX], *text;
	struct conf	*c;
	int		 r = conf_parse(name, &c, err, sizeof(err));

	if (r == 0) {
		text = printed(c);
		check_round_trip(c);
		conf_free(c);
		return text;
	}
	ck_assert_int_lt(r, 0);
	ck_assert_ptr_null(c);
	ck_assert_ptr_null(strchr(err, '\n'));
	text = malloc(sizeof(err) + 1);
	ck_assert_ptr_nonnull(text);
	snprintf(text, sizeof(err) + 1, "%s\n", err);
	return text;
}

START_TEST(fixtures)
{
	struct dirent	**list;
	char		  expect[512], *got, *want;
	int		  i, n;

	enter_fixtures();
	ck_assert_int_gt(n = scandir(".", &list, is_conf, alphasort), 50);
	for (i = 0; i < n; i++) {
		snprintf(expect, sizeof(expect), "%.*s.expect",
		    (int)strlen(list[i]->d_name) - 5, list[i]->d_name);
		got = outcome(list[i]->d_name);
		if (getenv("CTSYNC_CONFIG_UPDATE") != NULL)
			spill(expect, got, strlen(got));
		want = slurp(expect, NULL);
		ck_assert_msg(strcmp(got, want) == 0, "%s: got\n%sexpected\n%s",
		    list[i]->d_name, got, want);
		free(want);
		free(got);
		free(list[i]);
	}
	free(list);
}
END_TEST

/* %s stands for the value of the key under test, the rest is valid. */
struct key_case {
	const char	*key;
	const char	*text;		/* the key is on line 2 */
	char		 takes[4];	/* s string, i integer, b boolean, g group, l list */
};

#define HEAD	"cluster = \"edge\"; key_file = \"/k\"; node = \"fw1\"; "
#define LINKS	"links = ( { name = \"a\"; transport = \"udp\"; local = \"192.0.2.1\"; " \
		"peers = ( { name = \"b\"; address = \"192.0.2.2\"; } ); } );"
#define LINK(x)	HEAD "links = ( { " x " } );"
#define ROOT(k)	HEAD LINKS "\n" k " = %s;"
#define SECT(s, k)	HEAD LINKS s " = {\n" k " = %s; };"

static const struct key_case	 key_cases[] = {
	{ "node", "cluster = \"e\"; key_file = \"/k\"; " LINKS "\nnode = %s;", "s" },
	{ "cluster", "node = \"e\"; key_file = \"/k\"; " LINKS "\ncluster = %s;", "s" },
	{ "key_file", "node = \"e\"; cluster = \"k\"; " LINKS "\nkey_file = %s;", "s" },
	{ "user", ROOT("user"), "s" },
	{ "runtime_dir", ROOT("runtime_dir"), "s" },
	{ "links", HEAD "\nlinks = %s;", "l" },
	{ "control", ROOT("control"), "g" },
	{ "takeover", ROOT("takeover"), "g" },
	{ "timeouts", ROOT("timeouts"), "g" },
	{ "kernel", ROOT("kernel"), "g" },
	{ "limits", ROOT("limits"), "g" },
	{ "log", ROOT("log"), "g" },
	{ "security", ROOT("security"), "g" },
	{ "filter", ROOT("filter"), "g" },
	{ "links[0].name", LINK("transport = \"udp\";\nname = %s;"), "s" },
	{ "links[0].transport", LINK("\ntransport = %s;"), "s" },
	{ "links[0].interface", LINK("transport = \"udp\"; name = \"a\";\ninterface = %s;"), "s" },
	{ "links[0].local", LINK("transport = \"udp\"; name = \"a\";\nlocal = %s;"), "s" },
	{ "links[0].port", LINK("transport = \"udp\"; name = \"a\"; local = \"192.0.2.1\";"
	    "\nport = %s;"), "i" },
	{ "links[0].mtu", LINK("transport = \"udp\"; name = \"a\"; local = \"192.0.2.1\";"
	    "\nmtu = %s;"), "i" },
	{ "links[0].rcvbuf", LINK("transport = \"udp\"; name = \"a\"; local = \"192.0.2.1\";"
	    "\nrcvbuf = %s;"), "is" },
	{ "links[0].sndbuf", LINK("transport = \"udp\"; name = \"a\"; local = \"192.0.2.1\";"
	    "\nsndbuf = %s;"), "is" },
	{ "links[0].peers", LINK("transport = \"udp\"; name = \"a\"; local = \"192.0.2.1\";"
	    "\npeers = %s;"), "l" },
	{ "links[0].peers[0].name", LINK("transport = \"udp\"; name = \"a\"; "
	    "local = \"192.0.2.1\"; peers = ( {\nname = %s; } );"), "s" },
	{ "links[0].peers[0].address", LINK("transport = \"udp\"; name = \"a\"; "
	    "local = \"192.0.2.1\"; peers = ( { name = \"b\";\naddress = %s; } );"), "s" },
	{ "control.socket", SECT("control", "socket"), "s" },
	{ "control.group", SECT("control", "group"), "s" },
	{ "control.read_group", SECT("control", "read_group"), "s" },
	{ "control.max_clients", SECT("control", "max_clients"), "i" },
	{ "control.stall_s", SECT("control", "stall_s"), "i" },
	{ "takeover.inject", SECT("takeover", "inject"), "s" },
	{ "takeover.boot_wait_s", SECT("takeover", "boot_wait_s"), "i" },
	{ "takeover.follow_addresses", SECT("takeover", "follow_addresses"), "la" },
	{ "timeouts.tcp_established", SECT("timeouts", "tcp_established"), "i" },
	{ "kernel.event_buffer", SECT("kernel", "event_buffer"), "is" },
	{ "kernel.audit_s", SECT("kernel", "audit_s"), "i" },
	{ "kernel.liberal", SECT("kernel", "liberal"), "b" },
	{ "kernel.reliable_events", SECT("kernel", "reliable_events"), "b" },
	{ "kernel.accounting", SECT("kernel", "accounting"), "b" },
	{ "limits.flows", SECT("limits", "flows"), "i" },
	{ "limits.tombstones", SECT("limits", "tombstones"), "i" },
	{ "limits.memory", SECT("limits", "memory"), "is" },
	{ "log.level", SECT("log", "level"), "s" },
	{ "security.suite", SECT("security", "suite"), "s" },
	{ "filter.skip_own", SECT("filter", "skip_own"), "b" },
	{ "filter.protocols", SECT("filter", "protocols"), "g" },
	{ "filter.tcp_states", SECT("filter", "tcp_states"), "g" },
	{ "filter.addresses", SECT("filter", "addresses"), "g" },
	{ "filter.marks", SECT("filter", "marks"), "g" },
	{ "filter.zones", SECT("filter", "zones"), "g" },
	{ "filter.protocols.only", SECT("filter = { protocols", "only") "};", "la" },
	{ "filter.tcp_states.except", SECT("filter = { tcp_states", "except") "};", "la" },
	{ "filter.addresses.only", SECT("filter = { addresses", "only") "};", "la" },
	{ "filter.marks.only", SECT("filter = { marks", "only") "};", "la" },
	{ "filter.zones.only", SECT("filter = { zones", "only") "};", "la" },
};

static const struct {
	char		 type;
	const char	*value;
	const char	*found;
} wrong[] = {
	{ 's', "\"word\"", "string" },
	{ 'i', "7", "integer" },
	{ 'i', "5000000000L", "integer" },
	{ 'f', "1.5", "number with a fraction" },
	{ 'b', "true", "boolean" },
	{ 'g', "{ }", "group { }" },
	{ 'l', "( )", "list ( )" },
	{ 'a', "[ ]", "array [ ]" },
};

START_TEST(wrong_types)
{
	const struct key_case	*k = &key_cases[_i];
	char			 path[64], err[CONF_ERR_MAX], text[1024], want[300];
	struct conf		*c;
	const char		*hole = strstr(k->text, "%s");
	size_t			 i;

	ck_assert_ptr_nonnull(hole);
	temp_path(path);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (strchr(k->takes, wrong[i].type) != NULL)
			continue;
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(hole - k->text), k->text,
		    wrong[i].value, hole + 2);
		spill(path, text, strlen(text));
		ck_assert_msg(conf_parse(path, &c, err, sizeof(err)) == -EINVAL, "%s", text);
		snprintf(want, sizeof(want), "%s:2: key `%s': expected ", path, k->key);
		ck_assert_msg(strncmp(err, want, strlen(want)) == 0, "%s\n%s", text, err);
		snprintf(want, sizeof(want), ", found %s", wrong[i].found);
		ck_assert_msg(strlen(err) > strlen(want) &&
		    strcmp(err + strlen(err) - strlen(want), want) == 0, "%s\n%s", text, err);
	}
	unlink(path);
}
END_TEST

static void
check_timeouts(const struct conf *c, unsigned which, uint32_t want)
{
	unsigned	 t;

	for (t = 0; t < FLOW_TIMEOUTS; t++)
		ck_assert_uint_eq(c->timeouts[t], t == which ? want : 0);
}

/* Each class of timeouts has the key of its name, and no other class takes it. */
START_TEST(timeout_of_each_class)
{
	char		 path[64], err[CONF_ERR_MAX], text[1024];
	struct conf	*c;
	unsigned	 t;

	temp_path(path);
	for (t = 0; t < FLOW_TIMEOUTS; t++) {
		snprintf(text, sizeof(text), HEAD LINKS "timeouts = { %s = %u; };",
		    flow_timeout_name(t), 100 + t);
		spill(path, text, strlen(text));
		ck_assert_msg(conf_parse(path, &c, err, sizeof(err)) == 0, "%s", err);
		check_timeouts(c, t, 100 + t);
		conf_free(c);
	}
	snprintf(text, sizeof(text), HEAD LINKS);
	spill(path, text, strlen(text));
	ck_assert_int_eq(conf_parse(path, &c, err, sizeof(err)), 0);
	check_timeouts(c, FLOW_TIMEOUTS, 0);
	conf_free(c);
	unlink(path);
}
END_TEST

START_TEST(every_prefix_of_the_example)
{
	char		 path[64], err[CONF_ERR_MAX], *text;
	struct conf	*c;
	size_t		 n, len, ok = 0;

	enter_fixtures();
	text = slurp("full.conf", &len);
	temp_path(path);
	for (n = 0; n < len; n++) {
		spill(path, text, n);
		memset(err, 0, sizeof(err));
		if (conf_parse(path, &c, err, sizeof(err)) == 0) {
			ok++;
			conf_free(c);
		} else {
			ck_assert_int_eq(strncmp(err, path, strlen(path)), 0);
		}
	}
	/* Complete but for some of the optional groups at the end, and no more. */
	ck_assert_uint_gt(ok, 0);
	ck_assert_uint_lt(ok, 40);
	free(text);
	unlink(path);
}
END_TEST

static uint32_t
rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return (uint32_t)(*s >> 16);
}

/* One edit of buf, which has room for 1024 more bytes; returns the new length. */
static size_t
mutate(char *buf, size_t len, uint64_t *s)
{
	static const char	 chars[] = "{}()[]\"=;:,#/*\\@\n -.0189xLaftrue\x80\xff\x01";
	size_t			 at = rnd(s) % (len + 1), n = rnd(s) % 64;

	switch (rnd(s) % 5) {
	case 0:			/* replace */
		if (at < len)
			buf[at] = chars[rnd(s) % (sizeof(chars) - 1)];
		return len;
	case 1:			/* insert */
		memmove(buf + at + 1, buf + at, len - at);
		buf[at] = chars[rnd(s) % (sizeof(chars) - 1)];
		return len + 1;
	case 2:			/* delete */
		if (n > len - at)
			n = len - at;
		memmove(buf + at, buf + at + n, len - at - n);
		return len - n;
	case 3:			/* double */
		if (n > len - at)
			n = len - at;
		memmove(buf + at + n, buf + at, len - at);
		return len + n;
	default:		/* any byte */
		if (at < len)
			buf[at] = (char)rnd(s);
		return len;
	}
}

START_TEST(mutated)
{
	static const char *const	 seeds[] = { "full.conf", "filter-except.conf",
					    "syntax-styles.conf", "../../conf/ctsyncd.conf" };
	char		 path[64], err[CONF_ERR_MAX], *text;
	char		 buf[65536];
	const char	*env = getenv("CTSYNC_MUTATIONS");
	unsigned long	 i, runs = env != NULL ? strtoul(env, NULL, 10) : MUTATIONS / 4;
	uint64_t	 s;
	struct conf	*c;
	size_t		 len, n, edits;
	int		 r;

	enter_fixtures();
	text = slurp(seeds[_i], &len);
	ck_assert_uint_lt(len, sizeof(buf) - 1024);
	temp_path(path);
	for (i = 0; i < runs; i++) {
		s = 0x9e3779b97f4a7c15u * (i * 4 + (unsigned)_i + 1);
		memcpy(buf, text, len);
		for (n = len, edits = 1 + rnd(&s) % 6; edits > 0; edits--)
			n = mutate(buf, n, &s);
		spill(path, buf, n);
		memset(err, 0, sizeof(err));
		r = conf_parse(path, &c, err, sizeof(err));
		if (r == 0) {
			check_round_trip(c);
			conf_free(c);
			continue;
		}
		ck_assert_msg(err[0] != '\0' && strchr(err, '\n') == NULL, "run %lu: %s", i, err);
		ck_assert_ptr_null(c);
	}
	free(text);
	unlink(path);
}
END_TEST

START_TEST(noise)
{
	char		 path[64], err[CONF_ERR_MAX], buf[512];
	uint64_t	 s = 88172645463325252u;
	struct conf	*c;
	size_t		 i, n, len;

	temp_path(path);
	for (i = 0; i < 2000; i++) {
		len = rnd(&s) % sizeof(buf);
		for (n = 0; n < len; n++)
			buf[n] = (char)(i % 2 == 0 ? rnd(&s) : 32 + rnd(&s) % 95);
		spill(path, buf, len);
		ck_assert_int_lt(conf_parse(path, &c, err, sizeof(err)), 0);
	}
	unlink(path);
}
END_TEST

START_TEST(deep_nesting)
{
	static const char	 open[] = "({", close[] = ")}";
	char			 path[64], err[CONF_ERR_MAX], *buf = malloc(900 * 1024);
	struct conf		*c;
	size_t			 n;

	ck_assert_ptr_nonnull(buf);
	temp_path(path);
	for (n = 0; n < 300 * 1024; n++)
		buf[n] = '(';
	memcpy(buf, "a=", 2);
	spill(path, buf, n);
	ck_assert_int_eq(conf_parse(path, &c, err, sizeof(err)), -EINVAL);
	for (n = 0; n < 1000; n++)
		buf[n] = open[0];
	memcpy(buf, "links=", 6);
	memset(buf + n, close[0], 994);
	spill(path, buf, n + 994);
	ck_assert_int_eq(conf_parse(path, &c, err, sizeof(err)), -EINVAL);
	free(buf);
	unlink(path);
}
END_TEST

/* Short buffers cut the text and nothing else. */
START_TEST(short_error_buffers)
{
	char		 full[CONF_ERR_MAX], err[CONF_ERR_MAX];
	struct conf	*c;
	size_t		 n;

	enter_fixtures();
	ck_assert_int_lt(conf_parse("err-port-65536.conf", &c, full, sizeof(full)), 0);
	for (n = 1; n < strlen(full); n++) {
		memset(err, 'x', sizeof(err));
		ck_assert_int_lt(conf_parse("err-port-65536.conf", &c, err, n), 0);
		ck_assert_int_eq(strncmp(err, full, n - 1), 0);
		ck_assert_int_eq(err[n - 1], '\0');
		ck_assert_int_eq(err[n], 'x');
	}
}
END_TEST

static bool
bit(const uint8_t *bits, unsigned i)
{
	return (bits[i / 8] >> i % 8 & 1) != 0;
}

/* The plain data that the filter of the core evaluates. */
START_TEST(filter_values)
{
	char			 err[CONF_ERR_MAX];
	struct conf		*c;
	struct conf_filter	*f;
	unsigned		 i;

	enter_fixtures();
	ck_assert_msg(conf_parse("full.conf", &c, err, sizeof(err)) == 0, "%s", err);
	f = &c->filter;
	ck_assert(!f->skip_own);
	for (i = 0; i < 256; i++)
		ck_assert_int_eq(bit(f->protos, i), i == 6 || i == 17 || i == 47);
	ck_assert_uint_eq(f->tcp_states, (1u << FLOW_TCP_STATES) - 1 -
	    (1u << FLOW_TCP_SYN_SENT) - (1u << FLOW_TCP_SYN_RECV));
	ck_assert_uint_eq(f->naddr_only, 2);
	ck_assert_int_eq(f->addr_only[0].net.family, AF_INET);
	ck_assert_uint_eq(f->addr_only[0].len, 8);
	ck_assert_uint_eq(f->addr_only[0].net.b[0], 10);
	ck_assert_int_eq(f->addr_only[1].net.family, AF_INET6);
	ck_assert_uint_eq(f->addr_only[1].len, 0);
	ck_assert_uint_eq(f->naddr_except, 3);
	ck_assert_uint_eq(f->addr_except[0].len, 32);
	ck_assert_uint_eq(f->nmark_only, 3);
	ck_assert_uint_eq(f->mark_only[0].value, 0x10);
	ck_assert_uint_eq(f->mark_only[0].mask, 0xff);
	ck_assert_uint_eq(f->mark_only[1].value, 0xffffffff);
	ck_assert_uint_eq(f->mark_only[1].mask, 0xffffffff);
	ck_assert_uint_eq(f->nmark_except, 1);
	ck_assert_uint_eq(f->nzone_only, 3);
	ck_assert_uint_eq(f->zone_only[2], 65535);
	ck_assert_uint_eq(f->nzone_except, 0);
	ck_assert_uint_eq(c->limits.memory, 5000000001);
	ck_assert_uint_eq(c->nlinks, 2);
	ck_assert_uint_eq(c->links[0].npeers, 2);
	ck_assert_uint_eq(c->links[1].sndbuf, 4u << 20);
	conf_free(c);
}
END_TEST

/* The addresses that the role follows, as plain data. */
START_TEST(addresses_to_follow)
{
	char			 err[CONF_ERR_MAX];
	struct conf		*c;
	const struct conf_addrs	*l;
	struct flow_addr	 a;

	enter_fixtures();
	ck_assert_msg(conf_parse("full.conf", &c, err, sizeof(err)) == 0, "%s", err);
	ck_assert(!c->kernel.accounting);
	l = &c->takeover.follow_addresses;
	ck_assert_uint_eq(l->n, 3);
	ck_assert_int_eq(l->v[0].family, AF_INET);
	ck_assert_mem_eq(l->v[0].a.b, "\xcb\0\x71\1\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	ck_assert_int_eq(l->v[1].family, AF_INET6);
	ck_assert_int_eq(inet_pton(AF_INET6, "2001:db8::1", a.b), 1);
	ck_assert_mem_eq(l->v[1].a.b, a.b, 16);
	ck_assert_int_eq(l->v[2].family, AF_INET6);
	ck_assert_uint_eq(l->v[2].a.b[0], 0xfe);
	conf_free(c);
	ck_assert_msg(conf_parse("minimal.conf", &c, err, sizeof(err)) == 0, "%s", err);
	ck_assert_uint_eq(c->takeover.follow_addresses.n, 0);
	ck_assert(c->kernel.accounting);
	conf_free(c);
	ck_assert_msg(conf_parse("follow-most.conf", &c, err, sizeof(err)) == 0, "%s", err);
	ck_assert_uint_eq(c->takeover.follow_addresses.n, CONF_FOLLOW_MAX);
	ck_assert_uint_eq(c->takeover.follow_addresses.v[15].b[3], 16);
	conf_free(c);
}
END_TEST

START_TEST(settings_that_differ)
{
	char		 err[CONF_ERR_MAX];
	struct conf	*a, *b;

	enter_fixtures();
	ck_assert_msg(conf_parse("minimal.conf", &a, err, sizeof(err)) == 0, "%s", err);
	ck_assert_msg(conf_parse("include.conf", &b, err, sizeof(err)) == 0, "%s", err);
	ck_assert(conf_equal(a, b));
	b->filter.skip_own = false;
	ck_assert(!conf_equal(a, b));
	conf_free(a);
	conf_free(b);
	conf_free(NULL);
}
END_TEST

/* conf_load() tries the key file, too. */
START_TEST(load_checks_the_key)
{
	char		 path[64], key[64], err[CONF_ERR_MAX], text[1024];
	struct conf	*c;
	const char	*line = "1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

	temp_path(path);
	temp_path(key);
	snprintf(text, sizeof(text), "cluster = \"e\"; node = \"fw1\"; key_file = \"%s\"; %s", key,
	    LINKS);
	spill(path, text, strlen(text));
	spill(key, line, strlen(line));
	ck_assert_msg(conf_load(path, &c, err, sizeof(err)) == 0, "%s", err);
	conf_free(c);
	spill(key, "nothing\n", 8);
	ck_assert_int_eq(conf_load(path, &c, err, sizeof(err)), -EINVAL);
	ck_assert_int_eq(strncmp(err, key, strlen(key)), 0);
	unlink(key);
	ck_assert_int_eq(conf_load(path, &c, err, sizeof(err)), -ENOENT);
	ck_assert_ptr_null(c);
	unlink(path);
}
END_TEST

static void
leave_fixtures(void)
{
	ck_assert_int_eq(chdir(start_dir), 0);
}

static Suite *
suite(void)
{
	Suite	*s = suite_create("conf");
	TCase	*t = tcase_create("conf");

	tcase_add_checked_fixture(t, NULL, leave_fixtures);
	tcase_set_timeout(t, 300);
	tcase_add_test(t, fixtures);
	tcase_add_loop_test(t, wrong_types, 0, (int)(sizeof(key_cases) / sizeof(key_cases[0])));
	tcase_add_test(t, timeout_of_each_class);
	tcase_add_test(t, every_prefix_of_the_example);
	tcase_add_loop_test(t, mutated, 0, 4);
	tcase_add_test(t, noise);
	tcase_add_test(t, deep_nesting);
	tcase_add_test(t, short_error_buffers);
	tcase_add_test(t, filter_values);
	tcase_add_test(t, addresses_to_follow);
	tcase_add_test(t, settings_that_differ);
	tcase_add_test(t, load_checks_the_key);
	suite_add_tcase(s, t);
	return s;
}

int
main(void)
{
	SRunner	*sr = srunner_create(suite());
	int	 failed;

	if (getcwd(start_dir, sizeof(start_dir)) == NULL)
		return 1;
	srunner_set_tap(sr, "-");
	srunner_run_all(sr, CK_SILENT);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
