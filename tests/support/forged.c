/* SPDX-License-Identifier: Apache-2.0
 * Pages made up. */
#include "tests/support/forged.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/boot_id.h"
#include "tests/support/scratch.h"

/* A little ahead, as clocks of one machine may be: a test that has to wait for its turn does not
 * find the writer dead. */
static void *beat(void *arg)
{
	struct forged *f = arg;

	while (!shmeta_observe(&f->still)) {
		shmeta_publish(&f->board->heartbeat_ns, shmeta__boottime_ns() + 900000000u);
		(void)usleep(20000);
	}
	return NULL;
}

void forged_beat_last(struct forged *f, uint64_t ago_ns)
{
	shmeta_publish(&f->still, 1u);
	(void)pthread_join(f->heart, NULL);
	f->board->heartbeat_ns = shmeta__boottime_ns() - ago_ns;
}

static void *forge_file(int dir_fd, const char *name, size_t bytes)
{
	struct shmeta_err err;
	void *map = NULL;

	if (shmeta__map_file(dir_fd, name, bytes, 1, &map, &err) != SHMETA_OK)
		cr_assert_fail("%s: %s", name, err.text);
	return map;
}

void forge(struct forged *f)
{
	uint64_t now = shmeta__boottime_ns();
	char path[128];
	int fd;

	cr_assert(scratch_dir("forged", f->dir));
	(void)snprintf(path, sizeof(path), "%s/store.3", f->dir);
	cr_assert_eq(mkdir(path, 0755), 0);
	fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->board = forge_file(fd, "board", SHMETA_PAGE);
	f->generation = forge_file(fd, "store.3/generation", SHMETA_GENERATION_BYTES);
	f->stats = forge_file(fd, "stats", sizeof(struct shmeta_stats));
	(void)close(fd);

	memcpy(f->board->signature, "SHMBOARD", 8);
	f->board->incompat = SHMETA_BOARD_INCOMPAT_V1;
	f->board->board_bytes = sizeof(struct shmeta_board);
	f->board->writer_version = 0x000100;
	f->board->writer_pid = 0x7fffffff; /* nobody's */
	boot_id_read(f->board->boot_id);
	f->board->started_at_ns = now - 3600000000000u;
	f->board->epoch = 7;
	f->board->generation = 3;
	f->board->phase = SHMETA_PHASE_SERVING;
	f->board->phase_since_ns = now - 60000000000u;
	f->board->heartbeat_ns = now;
	f->board->boot_offset_ns = shmeta__boot_offset_ns();

	memcpy(f->generation->signature, "SHMGENER", 8);
	f->generation->incompat = SHMETA_GEN_INCOMPAT_V1;
	f->generation->generation = 3;
	f->generation->max_bytes = 1u << 30;
	f->generation->grace_ns = 1000000000u;
	f->generation->touched_words = SHMETA_TOUCHED_WORDS;
	f->generation->touched_at = SHMETA_PAGE;
	f->generation->committed = 88412;
	f->generation->committing = 88412;
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++)
		f->generation->stamp[i] = (struct shmeta_stamp){88412, now, 3600000000000u, 88000};

	memcpy(f->stats->signature, "SHMSTATS", 8);
	f->stats->version = SHMETA_STATS_VERSION;
	f->stats->reader_bytes = sizeof(struct shmeta_stats_reader);
	f->stats->updated_at_ns = now;
	strcpy(f->stats->source, "sqlite:/var/lib/shmeta/metadata.db");
	strcpy(f->stats->source_status, "connected");
	strcpy(f->stats->counter_name[0], "store_used");
	f->stats->counter[0] = 64u << 20;
	strcpy(f->stats->counter_name[1], "topics");
	f->stats->counter[1] = 1000;
	f->stats->counter_count = 2;
	f->still = 0;
	cr_assert_eq(pthread_create(&f->heart, NULL, beat, f), 0);
}

void forged_done(struct forged *f)
{
	char command[128];

	if (!f->still)
		forged_beat_last(f, 0);
	(void)munmap(f->board, SHMETA_PAGE);
	(void)munmap(f->generation, SHMETA_GENERATION_BYTES);
	(void)munmap(f->stats, sizeof(struct shmeta_stats));
	(void)snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	cr_assert_eq(system(command), 0);
}

void forged_count(struct forged *f, const char *name, uint64_t value)
{
	uint32_t i = 0;

	while (i < f->stats->counter_count && strcmp(f->stats->counter_name[i], name) != 0)
		i++;
	(void)snprintf(f->stats->counter_name[i], sizeof(f->stats->counter_name[i]), "%s", name);
	f->stats->counter[i] = value;
	if (i == f->stats->counter_count)
		f->stats->counter_count++;
}
