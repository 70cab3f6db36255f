/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The command line of both simulations: which seeds run, and in what order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seeds.h"

struct order {
	bool		 stop_at_once;
	bool		 (*run)(uint64_t seed);
};

static bool
go_on(struct seeds *s, const struct order *o, uint64_t seed)
{
	s->ran++;
	s->failed += !o->run(seed);
	return s->failed == 0 || !o->stop_at_once;
}

/* What is no number at the beginning of a line is a comment. */
static bool
run_kept(struct seeds *s, const struct order *o, const char *file)
{
	FILE			*f = fopen(file, "r");
	char			 line[256];
	unsigned long long	 seed;
	bool			 more = true;

	if (f == NULL) {
		perror(file);
		exit(2);
	}
	while (more && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "%llu", &seed) == 1)
			more = go_on(s, o, seed);
	fclose(f);
	return more;
}

void
seeds_run(struct seeds *s, int argc, char **argv, bool (*run)(uint64_t seed))
{
	const char	*kept = NULL;
	struct order	 o = { false, run };
	uint64_t	 first, i;
	int		 a = 1;

	memset(s, 0, sizeof(*s));
	for (; a < argc && argv[a][0] == '-'; a++) {
		if (strcmp(argv[a], "-x") == 0)
			o.stop_at_once = true;
		else if (strcmp(argv[a], "-k") == 0 && a + 1 < argc)
			kept = argv[++a];
	}
	s->count = a < argc ? strtoull(argv[a], NULL, 10) : 100;
	first = a + 1 < argc ? strtoull(argv[a + 1], NULL, 10) : 1;
	if (kept != NULL && !run_kept(s, &o, kept))
		return;
	for (i = 0; i < s->count && go_on(s, &o, first + i); i++)
		;
}
