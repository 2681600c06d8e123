/* SPDX-License-Identifier: Apache-2.0
 * Several threads that ask the writer at once, for ThreadSanitizer: each request takes the idle
 * connection or makes one, and puts it back. Ends with 0 when every request was answered and no
 * descriptor stayed behind. */
#include "tests/support/fake_writer.c" /* NOLINT(bugprone-suspicious-include) */
#include "tests/support/scratch.c"     /* NOLINT(bugprone-suspicious-include) */

#include <dirent.h>

enum { ASKERS = 6, REQUESTS = 400 };

static struct shmeta *shared;
static uint64_t wrong;

static void *ask(void *unused)
{
	uint64_t txn;

	(void)unused;
	for (int i = 0; i < REQUESTS; i++)
		if (shmeta_refresh(shared, SHMETA_CLASS_LIST, NULL, 0, 0, 20000, &txn) != SHMETA_OK)
			(void)__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	return NULL;
}

static int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n;
}

int main(void)
{
	struct fake_writer *writer = fake_writer_new();
	pthread_t thread[ASKERS];
	int before, after;

	fake_begin(writer);
	(void)fake_simple_topic(writer, "t", 1);
	(void)fake_commit(writer);
	fake_stamp_all(writer);
	before = descriptors();
	shared = fake_open(writer, NULL, 0, 1);
	if (shared == NULL)
		return 1;
	for (int i = 0; i < ASKERS; i++)
		if (pthread_create(&thread[i], NULL, ask, NULL) != 0)
			return 1;
	for (int i = 0; i < ASKERS; i++)
		(void)pthread_join(thread[i], NULL);
	shmeta_close(shared);
	/* The writer closes its ends when it has seen that the others are closed; without it they
	 * are closed at once. */
	fake_unserve(writer);
	after = descriptors();
	(void)printf("%d requests, %llu wrong; %d descriptors before, %d after\n", ASKERS * REQUESTS,
	             (unsigned long long)wrong, before, after);
	fake_writer_free(writer);
	/* The writer's listening socket and its wake-up descriptor were open before. */
	return wrong != 0 || after > before;
}
