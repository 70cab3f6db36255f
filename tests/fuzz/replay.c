/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A main() for the fuzz targets where there is no libFuzzer: gives each file
 * that it is told, and each file of each directory that it is told, to the
 * target once.
 *
 *   fuzz_flow tests/fuzz/corpus/flow
 *
 * A target that finds something aborts.  No input at all is a failure as well:
 * a corpus that was not found must not pass.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX	(1u << 20)

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a block of just the right size, so that a tool sees what reads past it. */
static int
replay_file(const char *path)
{
	static uint8_t	 buf[INPUT_MAX];
	uint8_t		*exact;
	size_t		 n;
	FILE		*in = fopen(path, "rb");

	if (in == NULL) {
		perror(path);
		return -1;
	}
	n = fread(buf, 1, sizeof(buf), in);
	if (ferror(in) || !feof(in)) {
		fprintf(stderr, "%s: cannot be read, or is too large\n", path);
		fclose(in);
		return -1;
	}
	fclose(in);
	if ((exact = malloc(n == 0 ? 1 : n)) == NULL)
		return -1;
	memcpy(exact, buf, n);
	/* said before, so that the file is known if the target aborts */
	fprintf(stderr, "%s\n", path);
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 1;
}

static int
replay(const char *path)
{
	char		 name[PATH_MAX];
	struct dirent	*e;
	struct stat	 st;
	DIR		*d;
	int		 n = 0, one;

	if (stat(path, &st) < 0) {
		perror(path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path);
	if ((d = opendir(path)) == NULL) {
		perror(path);
		return -1;
	}
	while (n >= 0 && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(name, sizeof(name), "%s/%s", path, e->d_name) >= sizeof(name))
			one = -1;
		else
			one = replay_file(name);
		n = one < 0 ? -1 : n + one;
	}
	closedir(d);
	return n;
}

int
main(int argc, char **argv)
{
	int	 i, n, total = 0;

	for (i = 1; i < argc; i++) {
		if ((n = replay(argv[i])) < 0)
			return 1;
		total += n;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1;
}
