/* SPDX-License-Identifier: Apache-2.0
 * One partition of 10 000, 100 000 and 1 000 000 segments: what a lookup costs as it grows. */
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

enum { SIZES = 3, SAMPLES = 20000, BATCH = 16 };
static const uint32_t sizes[SIZES] = {10000, 100000, 1000000};

static void fill(const char *path)
{
	sqlite3 *db;
	char sql[1400];

	if (sqlite3_open(path, &db) != SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(db));
	/* The daemon made the schema when it was started on the empty file. */
	for (int i = 0; i < SIZES; i++) {
		(void)snprintf(
			sql, sizeof sql,
			"PRAGMA synchronous = OFF; BEGIN;"
			"INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES('grow-%u', 1, 1, 1, '{}');"
			"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
			"VALUES('grow-%u', 0, %llu, 1, 1);"
			"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
			"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
			"s3_key, created_at) SELECT 'grow-%u-0-' || (i * 1000), 'grow-%u', 0, i * 1000, i * 1000 + 999, 1000, "
			"1000000 + i %% 7777, 'streamhouse', 'data/grow-%u/0/' || printf('%%020d', i * 1000) || '.seg', "
			"1700000000000 + i FROM n; COMMIT;",
			sizes[i], sizes[i], (unsigned long long)sizes[i] * 1000, sizes[i] - 1, sizes[i], sizes[i],
			sizes[i]);
		if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
			die("%s: %s", path, sqlite3_errmsg(db));
	}
	(void)sqlite3_close(db);
}

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_growth(struct bench *b)
{
	char db[400], instance[400], name[64], last[64] = "";
	struct shmeta_handle *handle[SIZES];
	double *sample = calloc(SAMPLES, sizeof *sample);
	uint64_t seed = b->seed;
	struct shmeta *m;
	struct shmeta_reader *reader;
	pid_t pid;

	if (sample == NULL)
		die("out of memory");
	(void)snprintf(db, sizeof db, "%s/growth.db", b->dir);
	(void)snprintf(instance, sizeof instance, "%s/growth", b->dir);
	pid = env_start_daemon(b, db, instance, NULL, NULL);
	env_kill(&pid, SIGTERM);
	fill(db);
	pid = env_start_daemon(b, db, instance, NULL, NULL);
	m = env_open(instance);
	reader = env_reader(m);
	for (int i = 0; i < SIZES; i++) {
		enum shmeta_status status = SHMETA_ABSENT;
		double end = now_s() + 60;

		(void)snprintf(name, sizeof name, "grow-%u", sizes[i]);
		/* A warm start serves what it had and then catches up. */
		while (status != SHMETA_OK && now_s() < end) {
			struct shmeta_segment s;

			if (shmeta_begin(reader) != SHMETA_OK)
				continue;
			status = shmeta_partition_open(reader, name, strlen(name), 0, &handle[i]);
			if (status == SHMETA_OK && (shmeta_last_segment(handle[i], NULL, &s, NULL) != SHMETA_OK ||
			                            s.base_offset != (uint64_t)(sizes[i] - 1) * 1000)) {
				shmeta_partition_close(handle[i]);
				status = SHMETA_ABSENT;
			}
			(void)shmeta_end(reader);
		}
		if (status != SHMETA_OK)
			die("%s did not come", name);
	}
	for (int round = 0; round < b->rounds; round++)
		for (int i = 0; i < SIZES; i++) {
			for (int n = 0; n < SAMPLES; n++) {
				uint64_t offset[BATCH];
				struct shmeta_segment s;
				struct shmeta_freshness f;
				double start;

				for (int k = 0; k < BATCH; k++)
					offset[k] = rng(&seed) % ((uint64_t)sizes[i] * 1000);
				start = now_s();
				for (int k = 0; k < BATCH; k++) {
					enum shmeta_status status = shmeta_begin(reader);

					if (status == SHMETA_OK) {
						status = shmeta_find_segment(handle[i], offset[k], NULL, &s, &f);
						(void)shmeta_end(reader);
					}
					if (status != SHMETA_OK || s.base_offset != offset[k] / 1000 * 1000)
						die("growth: wrong answer at %llu", (unsigned long long)offset[k]);
				}
				sample[n] = (now_s() - start) * 1e9 / BATCH;
			}
			qsort(sample, SAMPLES, sizeof *sample, up);
			(void)snprintf(name, sizeof name, "growth.find_p50.segments_%u", sizes[i]);
			result_value(result_add(name, "ns"), sample[SAMPLES / 2]);
		}
	for (int i = 0; i < SIZES; i++) {
		(void)snprintf(name, sizeof name, "growth.find_p50.segments_%u", sizes[i]);
		if (i > 0)
			target_max_ratio(name, 1.5, last);
		(void)snprintf(last, sizeof last, "%s", name);
	}
	free(sample);
	shmeta_reader_free(reader);
	shmeta_close(m);
	env_kill(&pid, SIGTERM);
}
