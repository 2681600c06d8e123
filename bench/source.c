/* SPDX-License-Identifier: Apache-2.0
 * What concerns the source: first load, warm restart, cold start, how soon a change is seen, what
 * idling costs, how large the store is. */
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/churn.h"
#include "bench/source.h"

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The engine's own rate: the same columns in the same order, nothing done with them. */
static double scan(const struct bench *b)
{
	sqlite3 *db;
	sqlite3_stmt *q;
	uint64_t rows = 0, sum = 0;
	double start = now_s();

	if (sqlite3_open_v2(b->db, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(
		    db,
		    "SELECT topic, partition_id, base_offset, end_offset, record_count, size_bytes, id, s3_bucket, "
		    "s3_key, created_at FROM segments ORDER BY topic, partition_id, base_offset",
		    -1, &q, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(db));
	while (sqlite3_step(q) == SQLITE_ROW) {
		sum += (uint64_t)sqlite3_column_int64(q, 2) + (uint64_t)sqlite3_column_int64(q, 3) +
		       (uint64_t)sqlite3_column_int64(q, 4) + (uint64_t)sqlite3_column_int64(q, 5) +
		       (uint64_t)sqlite3_column_int64(q, 9) + (uint64_t)sqlite3_column_int64(q, 1);
		sum += (uint64_t)sqlite3_column_text(q, 0)[0] + (uint64_t)sqlite3_column_text(q, 6)[0] +
		       (uint64_t)sqlite3_column_text(q, 7)[0] + (uint64_t)sqlite3_column_text(q, 8)[0];
		rows++;
	}
	keep(&sum);
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(db);
	return (double)rows / (now_s() - start);
}

static void load(struct bench *b)
{
	for (int round = 0; round < (b->quick ? 3 : 5); round++) {
		char instance[400];
		double took;
		pid_t pid;

		(void)snprintf(instance, sizeof instance, "%s/load-%d", b->dir, round);
		result_value(result_add("limit.sqlite_scan", "rows/s"), scan(b));
		pid = env_start_daemon(b, b->db, instance, NULL, &took);
		result_value(result_add("load.sqlite", "rows/s"), (double)b->row_count / took);
		env_kill(&pid, SIGKILL);
	}
	target_min_ratio("load.sqlite", 0.5, "limit.sqlite_scan");
}

/* The writer dies and another takes its place; the readers' store is the same. */
static void restart(struct bench *b)
{
	for (int round = 0; round < b->rounds; round++) {
		double took;

		env_kill(&b->daemon, SIGKILL);
		b->daemon = env_start_daemon(b, b->db, b->instance, "feed { poll_min_ms = 1 }", &took);
		result_value(result_add("restart.warm", "ms"), took * 1e3);
		(void)usleep(100000);
	}
	target_max("restart.warm", 200);
}

/* After a reboot there is no store: the daemon serves the rows of the source, or those of its
 * snapshot file. */
static void cold_start(struct bench *b)
{
	char warm[400], instance[400];
	double took;
	pid_t pid;

	(void)snprintf(warm, sizeof warm, "warm { file = \"%s/warm\"\n interval = 0 }", b->dir);
	for (int round = -1; round < (b->quick ? 3 : 5); round++) {
		(void)snprintf(instance, sizeof instance, "%s/cold-%d", b->dir, round);
		pid = env_start_daemon(b, b->db, instance, warm, &took);
		result_value(result_add(round < 0 ? "coldstart.source" : "coldstart.snapshot", "ms"), took * 1e3);
		/* The file is written at the first one's clean stop, and stays as it is. */
		env_kill(&pid, round < 0 ? SIGTERM : SIGKILL);
		env_remove(instance);
	}
	target_max("coldstart.snapshot", 10000);
}

static void store_size(struct bench *b)
{
	env_wait_stats(b->instance);
	result_value(result_add("store.bytes_per_segment", "bytes"),
	             (double)env_counter(b->instance, "store_used") / (double)env_counter(b->instance, "segments"));
	target_max("store.bytes_per_segment", 64);
}

void source_change_sql(char *ret, size_t bytes, uint64_t watermark)
{
	(void)snprintf(ret, bytes,
	               "UPDATE partitions SET high_watermark = %llu WHERE topic = '%s' AND partition_id = 3",
	               (unsigned long long)watermark, CHURN_TOPIC);
}

/* From the commit of a change in the source to the first snapshot that shows it. */
static double visible_after(const struct source_change *change, struct shmeta_reader *reader,
                            struct shmeta_handle *handle, uint64_t watermark)
{
	double start;

	change->set_watermark(change->arg, watermark);
	start = now_s();
	for (;;) {
		struct shmeta_partition p = {0};
		enum shmeta_status status = shmeta_begin(reader);

		if (status == SHMETA_OK) {
			status = shmeta_get_partition(handle, NULL, &p, NULL);
			(void)shmeta_end(reader);
		}
		if (status == SHMETA_OK && p.high_watermark == watermark)
			return now_s() - start;
		if (now_s() > start + 10)
			die("a change was not visible after 10 s");
		(void)usleep(50);
	}
}

void source_visibility(struct bench *b, const char *engine, const char *instance_dir, double most_ms,
                       const struct source_change *change)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_reader *reader = env_reader(instance);
	struct shmeta_handle *handle;
	uint64_t watermark = 1u << 30;
	int busy = b->quick ? 200 : 1000;
	double *took = calloc((size_t)busy, sizeof *took), worst = 0;
	char name[64];

	if (took == NULL)
		die("out of memory");
	if (shmeta_begin(reader) != SHMETA_OK ||
	    shmeta_partition_open(reader, CHURN_TOPIC, strlen(CHURN_TOPIC), 3, &handle) != SHMETA_OK)
		die("no handle");
	(void)shmeta_end(reader);
	for (int i = 0; i < busy; i++) {
		took[i] = visible_after(change, reader, handle, ++watermark);
		(void)usleep(2000);
	}
	qsort(took, (size_t)busy, sizeof *took, up);
	(void)snprintf(name, sizeof name, "visibility.%s.p50", engine);
	result_value(result_add(name, "ms"), took[busy / 2] * 1e3);
	(void)snprintf(name, sizeof name, "visibility.%s.p99", engine);
	result_value(result_add(name, "ms"), took[busy * 99 / 100] * 1e3);
	if (most_ms > 0)
		target_max(name, most_ms);
	for (int i = 0; i < (b->quick ? 2 : 5); i++) {
		double after;

		(void)sleep(3); /* until the poll has come to rest */
		after = visible_after(change, reader, handle, ++watermark);
		if (after > worst)
			worst = after;
	}
	(void)snprintf(name, sizeof name, "visibility.%s.idle_max", engine);
	result_value(result_add(name, "ms"), worst * 1e3);
	target_max(name, 1000);
	free(took);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static void set_watermark(void *arg, uint64_t watermark)
{
	char sql[256];

	source_change_sql(sql, sizeof sql, watermark);
	if (sqlite3_exec(arg, sql, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", sql, sqlite3_errmsg(arg));
}

static void visibility(struct bench *b)
{
	sqlite3 *db;

	if (sqlite3_open(b->db, &db) != SQLITE_OK)
		die("%s: cannot open", b->db);
	(void)sqlite3_busy_timeout(db, 10000);
	source_visibility(b, "sqlite", b->instance, 20, &(struct source_change){set_watermark, db});
	(void)sqlite3_close(db);
}

static double cpu_seconds(pid_t pid)
{
	char path[64], line[1024], *p;
	unsigned long user = 0, sys = 0;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL || fgets(line, sizeof line, f) == NULL)
		die("%s: unreadable", path);
	(void)fclose(f);
	p = strrchr(line, ')');
	if (p == NULL || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
		die("%s: unreadable", path);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

void source_idle(struct bench *b, const char *source, const char *how, const char *extra, double most)
{
	char instance[400], name[64], cpu[64];
	double seconds = b->quick ? 8 : 60, queries, start, used;
	pid_t pid;

	(void)snprintf(instance, sizeof instance, "%s/idle-%s", b->dir, how);
	(void)snprintf(name, sizeof name, "refresh.queries_per_s.%s", how);
	(void)snprintf(cpu, sizeof cpu, "refresh.cpu.%s", how);
	pid = env_start_daemon(b, source, instance, extra, NULL);
	(void)sleep(2);
	env_wait_stats(instance);
	queries = (double)env_counter(instance, "source_queries");
	used = cpu_seconds(pid);
	start = now_s();
	(void)sleep((unsigned)seconds);
	env_wait_stats(instance);
	seconds = now_s() - start;
	result_value(result_add(name, "1/s"), ((double)env_counter(instance, "source_queries") - queries) / seconds);
	result_value(result_add(cpu, "cores"), (cpu_seconds(pid) - used) / seconds);
	target_max(name, most);
	target_max(cpu, 0.01);
	if (strcmp(how, "feed") == 0) {
		double partitions = (double)env_counter(instance, "partitions"),
		       bytes = (double)env_counter(instance, "store_used");

		result_value(result_add("store.bytes_per_partition", "bytes"), bytes / partitions);
		result_value(result_add("store.bytes_10k_topics_100k_partitions", "bytes"), bytes);
		target_max("store.bytes_per_partition", 160);
		target_max("store.bytes_10k_topics_100k_partitions", 20e6);
	}
	env_kill(&pid, SIGTERM);
}

/* The target speaks of topics and partitions; what consumers and agents add has no bound of its
 * own. */
static void drop_hints(const char *path)
{
	sqlite3 *db;

	if (sqlite3_open(path, &db) != SQLITE_OK ||
	    sqlite3_exec(db, "DELETE FROM consumer_offsets; DELETE FROM partition_leases", NULL, NULL, NULL) !=
	            SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(db));
	(void)sqlite3_close(db);
}

void source_idle_file(const struct bench *b, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "%s/idle.db", b->dir);
	if (access(ret, F_OK) == 0)
		return;
	env_generate(b, ret, 10000, 100000, 0);
	drop_hints(ret);
}

void bench_source(struct bench *b)
{
	char db[400];

	store_size(b);
	load(b);
	restart(b);
	cold_start(b);
	visibility(b);
	source_idle_file(b, db, sizeof db);
	source_idle(b, db, "feed", NULL, 1);
	source_idle(b, db, "poll", "source { read_only = true }", 10);
}
