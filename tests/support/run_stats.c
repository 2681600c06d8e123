/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/run_stats.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/page/stats_page.h"

static struct shmeta_stats *map_page(const struct run_daemon *d)
{
	struct shmeta_err err;
	char path[160];
	void *page;

	(void)snprintf(path, sizeof path, "%s/stats", d->instance);
	cr_assert_eq(shmeta__map_file(-1, path, sizeof(struct shmeta_stats), 0, &page, &err), SHMETA_OK, "%s",
	             err.text);
	return page;
}

uint64_t run_stats_counter(const struct run_daemon *d, const char *name)
{
	static struct shmeta_stats copy;
	struct shmeta_stats *page = map_page(d);
	struct shmeta_err err;

	while (shmeta__stats_copy(page, &copy, &err) != SHMETA_OK)
		(void)usleep(1000);
	(void)munmap(page, sizeof *page);
	for (uint32_t i = 0; i < shmeta__stats_counters(&copy); i++)
		if (strcmp(shmeta__stats_name(&copy, i), name) == 0)
			return *shmeta__stats_value(&copy, i);
	cr_assert_fail("there is no counter '%s'", name);
	return 0;
}

void run_stats_settle(const struct run_daemon *d)
{
	struct shmeta_stats *page = map_page(d);

	/* The one under way may have been begun before. */
	for (int i = 0; i < 2; i++) {
		uint64_t before = shmeta_load(&page->sequence);

		while (shmeta_load(&page->sequence) == before)
			(void)usleep(10000);
	}
	(void)munmap(page, sizeof *page);
}
