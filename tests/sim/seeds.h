/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The command line of both simulations:
 *
 *   [-x] [-k FILE] COUNT [FIRST]
 *
 * -k: the seeds in FILE first, one a line; -x: stop at the first that fails.
 */
#ifndef SEEDS_H
#define SEEDS_H

#include <stdbool.h>
#include <stdint.h>

struct seeds {
	uint64_t	 count;		/* that will run, besides those of a file */
	uint64_t	 ran, failed;
};

/* Run them: run() gets a seed and says whether all was well. */
void	seeds_run(struct seeds *s, int argc, char **argv, bool (*run)(uint64_t seed));

#endif
