/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Numbers, members of JSON objects and tables, as text for people.
 *
 * What the daemon did not say is "-", never 0.  Running out of memory while
 * printing ends the tool: there is nothing to save.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

struct table {
	unsigned	 cols;
	size_t		 n, cap;
	char		**cells;
};

char *
text_ms(double ms, char buf[TEXT_MAX])
{
	unsigned long long	 s = ms > 0 && ms < 1e18 ? (unsigned long long)(ms / 1000) : 0;

	if (ms < 10)
		snprintf(buf, TEXT_MAX, "%.1f ms", ms);
	else if (ms < 1000)
		snprintf(buf, TEXT_MAX, "%.0f ms", ms);
	else if (s < 60)
		snprintf(buf, TEXT_MAX, "%.1f s", ms / 1000);
	else if (s < 3600)
		snprintf(buf, TEXT_MAX, "%llu min %llu s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, TEXT_MAX, "%llu h %llu min", s / 3600, s % 3600 / 60);
	else
		snprintf(buf, TEXT_MAX, "%llu d %llu h", s / 86400, s % 86400 / 3600);
	return buf;
}

char *
text_bytes(double bytes, char buf[TEXT_MAX])
{
	static const char *const	 units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	size_t				 u = 0;

	while (bytes >= 1024 && u + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		u++;
	}
	snprintf(buf, TEXT_MAX, u == 0 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
	return buf;
}

char *
text_member(const json_t *obj, const char *key, char buf[TEXT_MAX])
{
	const json_t	*v = json_object_get(obj, key);

	if (json_is_string(v))
		snprintf(buf, TEXT_MAX, "%s", json_string_value(v));
	else if (json_is_integer(v))
		snprintf(buf, TEXT_MAX, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		snprintf(buf, TEXT_MAX, "%.3g", json_real_value(v));
	else if (json_is_boolean(v))
		snprintf(buf, TEXT_MAX, "%s", json_is_true(v) ? "yes" : "no");
	else
		snprintf(buf, TEXT_MAX, "-");
	return buf;
}

const char *
text_str(const json_t *obj, const char *key, const char *otherwise)
{
	const char	*s = json_string_value(json_object_get(obj, key));

	return s != NULL ? s : otherwise;
}

double
text_num(const json_t *obj, const char *key, double otherwise)
{
	const json_t	*v = json_object_get(obj, key);

	return json_is_number(v) ? json_number_value(v) : otherwise;
}

static void *
must(void *p)
{
	if (p == NULL) {
		fprintf(stderr, "ctsync: out of memory\n");
		exit(CTL_EXIT_FAILED);
	}
	return p;
}

void
text_dump(const json_t *j)
{
	char	*s = must(json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9)));

	puts(s);
	free(s);
}

struct table *
table_new(unsigned cols)
{
	struct table	*t = must(calloc(1, sizeof(*t)));

	t->cols = cols;
	return t;
}

void
table_cell(struct table *t, const char *text)
{
	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 64 : 2 * t->cap;
		t->cells = must(realloc(t->cells, t->cap * sizeof(*t->cells)));
	}
	t->cells[t->n++] = must(strdup(text));
}

/* Width of a column, and whether everything below its heading is a number. */
static size_t
column_width(const struct table *t, unsigned col, bool *number)
{
	size_t	 i, width = 0;

	*number = true;
	for (i = col; i < t->n; i += t->cols) {
		if (strlen(t->cells[i]) > width)
			width = strlen(t->cells[i]);
		if (i >= t->cols && strspn(t->cells[i], "0123456789.-") != strlen(t->cells[i]))
			*number = false;
	}
	return width;
}

void
table_print(struct table *t)
{
	size_t	*width = must(calloc(t->cols, sizeof(*width))), i;
	bool	*number = must(calloc(t->cols, sizeof(*number)));
	unsigned col;

	for (col = 0; col < t->cols; col++)
		width[col] = column_width(t, col, &number[col]);
	for (i = 0; i < t->n; i++) {
		col = (unsigned)(i % t->cols);
		if (number[col])
			printf("%*s", (int)width[col], t->cells[i]);
		else if (col + 1 < t->cols)
			printf("%-*s", (int)width[col], t->cells[i]);
		else
			fputs(t->cells[i], stdout);
		fputs(col + 1 < t->cols ? "  " : "\n", stdout);
		free(t->cells[i]);
	}
	free(t->cells);
	free(width);
	free(number);
	free(t);
}
