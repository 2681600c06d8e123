/* SPDX-License-Identifier: Apache-2.0
 * See run_reads.h. */
#include "tests/support/run_reads.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char run_reads_seed[] =
	"BEGIN;"
	"INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	"SELECT 'topic-' || i, 2, 1, 1, '{}' FROM generate_series(0, 3) i;"
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT name, p, 2000, 1, 1 FROM topics, generate_series(0, 1) p;"
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
	"created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 10, i * 10 + 9, 10, 1000, "
	"'bucket', 'key/' || topic || '/' || partition_id || '/' || i, 1 FROM partitions, generate_series(0, 199) i;"
	"COMMIT";

int run_reads_one(struct shmeta_reader *with, uint64_t i)
{
	struct shmeta_segment s = {.base_offset = 0};
	enum shmeta_status status = run_daemon_begin(with);
	uint64_t offset = i % ((uint64_t)RUN_READS_SEGMENTS * 10);
	char topic[16];

	if (status != SHMETA_OK)
		return status;
	(void)snprintf(topic, sizeof topic, "topic-%d", (int)(i % RUN_READS_TOPICS));
	status = shmeta_find_segment_named(with, topic, strlen(topic),
	                                   (uint32_t)(i / RUN_READS_TOPICS % RUN_READS_PARTITIONS), offset, NULL, &s,
	                                   NULL);
	if (shmeta_end(with) != SHMETA_OK)
		return -1000;
	return status != SHMETA_OK ? status : s.base_offset == offset / 10 * 10 ? 0 : -1001;
}

static int read_until_told(struct run_reads_told *told, const struct run_daemon *d)
{
	struct shmeta *mine = run_daemon_open(d, "reading", 0);
	struct shmeta_reader *with = mine != NULL ? run_daemon_reader(mine) : NULL;
	/* the other tests need a processor, too */
	const bool pauses = getenv("SHMETA_FAULTS") == NULL;

	if (with == NULL)
		return 1;
	for (uint64_t i = 0; !atomic_load_explicit(&told->stop, memory_order_relaxed); i++) {
		int bad = run_reads_one(with, i * 7);

		if (pauses && i % 64 == 0)
			(void)usleep(500);

		if (bad != 0 && atomic_fetch_add(&told->failed, 1) == 0)
			atomic_store(&told->first, bad);
		atomic_store_explicit(&told->done, i + 1, memory_order_relaxed);
	}
	shmeta_reader_free(with);
	shmeta_close(mine);
	return 0;
}

void run_reads_start(struct run_reads *r, const struct run_daemon *d)
{
	r->told = mmap(NULL, sizeof *r->told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(r->told, MAP_FAILED);
	r->pid = run_fork();
	if (r->pid == 0)
		_exit(read_until_told(r->told, d));
	for (double end = run_now_s() + RUN_READS_PATIENCE_S; atomic_load(&r->told->done) == 0; (void)usleep(1000))
		cr_assert_lt(run_now_s(), end, "the reading process did not come up");
}

void run_reads_expect(struct run_reads *r)
{
	uint64_t before = atomic_load(&r->told->done);

	for (double end = run_now_s() + RUN_READS_PATIENCE_S; atomic_load(&r->told->done) < before + 1000;
	     (void)usleep(1000))
		cr_assert_lt(run_now_s(), end, "reads stand still");
	cr_assert_eq(atomic_load(&r->told->failed), 0, "%lu reads failed, the first with %d",
	             atomic_load(&r->told->failed), atomic_load(&r->told->first));
}

void run_reads_end(struct run_reads *r)
{
	if (r->pid <= 0)
		return;
	atomic_store(&r->told->stop, 1);
	cr_expect_eq(run_reap(r->pid), 0);
	r->pid = 0;
	cr_expect_eq(atomic_load(&r->told->failed), 0, "%lu of %lu reads failed, the first with %d",
	             atomic_load(&r->told->failed), atomic_load(&r->told->done), atomic_load(&r->told->first));
}
