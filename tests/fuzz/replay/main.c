/* SPDX-License-Identifier: Apache-2.0
 * A fuzz target without libFuzzer: TARGET FILE|DIRECTORY... runs it once for each file, in the
 * order of their names, and prints how many there were. Each input lies in a block of exactly its
 * size. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static size_t inputs;

static _Noreturn void give_up(const char *path)
{
	perror(path);
	exit(2);
}

static void replay_file(const char *path, size_t bytes)
{
	FILE *stream = fopen(path, "rb");
	uint8_t *data = malloc(bytes > 0 ? bytes : 1);

	if (stream == NULL || data == NULL || fread(data, 1, bytes, stream) != bytes)
		give_up(path);
	(void)fclose(stream);
	/* For whoever looks for the one that ended the process. */
	if (getenv("FUZZ_VERBOSE") != NULL)
		(void)fprintf(stderr, "%s\n", path);
	require(LLVMFuzzerTestOneInput(data, bytes) == 0);
	free(data);
	inputs++;
}

static void replay(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int count;

	if (stat(path, &st) < 0)
		give_up(path);
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path, (size_t)st.st_size);
		return;
	}
	count = scandir(path, &entries, NULL, alphasort);
	if (count < 0)
		give_up(path);
	for (int i = 0; i < count; i++) {
		char name[4096];

		(void)snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			replay(name);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	(void)printf("%zu inputs\n", inputs);
	return 0;
}
