/* SPDX-License-Identifier: Apache-2.0
 * A bounded store whose source has ten times what it may keep: how often agents find what they look
 * up, what a miss costs, whether the budgets hold, and what a hit costs beside a store that mirrors
 * the same source. SQLite, daemons and a database of its own. */
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/traces.h"

enum { AGENTS = 8, TOPICS = 1000, TENTH = 10, HOT = 64, WAIT_MS = 60000, QUERIES_S = 5000 };

static uint32_t partitions, room; /* at the source; in the store */

/* What the agents count, each in a place of its own, in memory that they share with the bench. */
struct agent_counts {
	_Atomic uint64_t done;  /* lookups, those before the measured ones included */
	uint64_t found, unread; /* of the measured: found at once; not even by a FRESH read within
                                 * its time */
	uint64_t wrong;         /* of all: another watermark than the source's */
};

static uint64_t watermark_of(uint32_t partition)
{
	return (uint64_t)partition * 7 + 100;
}

static void fill(const char *path)
{
	sqlite3 *db;
	char text[1200], *message = NULL;

	(void)snprintf(
		text, sizeof text,
		"BEGIN; WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
		"INSERT INTO topics(name, partition_count, created_at, updated_at) SELECT 'b' || i, %u, 1, 1 FROM n;"
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
		"SELECT 'b' || (i %% %d), i / %d, i * 7 + 100, 1, 1 FROM n;"
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) SELECT topic || '-' || partition_id, topic, partition_id, 0, 99, 100, "
		"65536, 'b', 'data/' || topic || '/' || partition_id, 1 FROM partitions; COMMIT",
		TOPICS - 1, partitions / TOPICS, partitions - 1, TOPICS, TOPICS);
	if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
		die("bounded: %s", message != NULL ? message : sqlite3_errmsg(db));
	(void)sqlite3_close(db);
}

/* The tables of the source are made by the daemon that mirrors it, which learns of their rows by
 * its feed. */
static pid_t start_mirror(const struct bench *b, const char *db, const char *instance)
{
	double took;
	pid_t pid = env_start_daemon(b, db, instance, "store { max_bytes = 4G }", &took);

	fill(db);
	while (env_counter(instance, "partitions") < partitions)
		(void)usleep(100000);
	return pid;
}

static pid_t start_bounded(const struct bench *b, const char *db, const char *instance)
{
	char config[400];
	double took;

	(void)snprintf(config, sizeof config,
	               "store { mode = bounded }\nbounded { max_topics = %d\n max_partitions = %u }\n"
	               "refresh { user_rate = 100000\n queries_s = %d }\nfeed { reconcile_s = 0 }\n",
	               TOPICS, room, QUERIES_S);
	return env_start_daemon(b, db, instance, config, &took);
}

static void begin(struct shmeta_reader *reader)
{
	enum shmeta_status status;

	do
		status = shmeta_begin(reader);
	while (status == SHMETA_ERR_CONTENDED);
	if (status != SHMETA_OK)
		die("bounded: begin: %s", shmeta_strerror(status));
}

static enum shmeta_status look(struct shmeta_reader *reader, uint32_t partition, enum shmeta_consistency consistency,
                               struct shmeta_partition *ret)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	enum shmeta_status status;
	char topic[16];
	int n = snprintf(topic, sizeof topic, "b%u", partition % TOPICS);

	begin(reader);
	status = shmeta_get_partition_named(reader, topic, (size_t)n, partition / TOPICS, &read, ret, NULL);
	(void)shmeta_end(reader);
	return status;
}

/* A lookup that must find: what is not there is read from the source first. */
static void look_fresh(struct shmeta_reader *reader, uint32_t partition)
{
	struct shmeta_partition p;
	enum shmeta_status status = look(reader, partition, SHMETA_FRESH, &p);
	struct shmeta_error error = {.size = sizeof error};

	if (status != SHMETA_OK && shmeta_reader_error(reader, &error) == SHMETA_OK)
		die("bounded: a FRESH read: %s: %s", shmeta_strerror(status), error.text);
}

/* ---- agents that look up by Zipf's distribution, and have loaded what they do not find ---- */

/* Which partition has this rank: ranks that follow each other are in topics that do not. */
static uint32_t of_rank(uint32_t rank)
{
	return (uint32_t)((uint64_t)rank * 611953 % partitions);
}

static void agent(const char *instance_dir, uint64_t seed, uint32_t warming, uint32_t measured,
                  struct agent_counts *counts)
{
	uint32_t lookups = warming + measured;
	uint32_t *rank = trace_make(TRACE_ZIPF, partitions, room, lookups, seed);
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_reader *reader = env_reader(instance);

	for (uint32_t i = 0; i < lookups; i++) {
		struct shmeta_partition p = {0};
		uint32_t partition = of_rank(rank[i]);
		enum shmeta_status status = look(reader, partition, SHMETA_CACHED, &p);

		counts->found += status == SHMETA_OK && i >= warming;
		if (status == SHMETA_UNKNOWN) {
			status = look(reader, partition, SHMETA_FRESH, &p);
			counts->unread += status != SHMETA_OK && i >= warming;
		} else if (status != SHMETA_OK) {
			counts->wrong++;
		}
		counts->wrong += status == SHMETA_OK && p.high_watermark != watermark_of(partition);
		atomic_store_explicit(&counts->done, i + 1, memory_order_relaxed);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	free(rank);
}

static uint64_t done_by_all(const struct agent_counts *counts)
{
	uint64_t done = 0;

	for (int a = 0; a < AGENTS; a++)
		done += atomic_load_explicit(&counts[a].done, memory_order_relaxed);
	return done;
}

/* What the store had at most while they ran, in parts of its budget, and the statements a second
 * that the source ran. */
struct watched {
	double bytes, partitions, queries_s;
};

static struct watched watch(const char *instance, const struct agent_counts *counts, uint64_t lookups)
{
	const double bytes_budget = 256 << 20; /* bounded.max_bytes, where nothing is configured */
	struct watched most = {0};
	uint64_t queries = env_counter(instance, "source_queries");
	double began = now_s();

	while (done_by_all(counts) < lookups) {
		most.bytes = fmax(most.bytes, (double)env_counter(instance, "store_used") / bytes_budget);
		most.partitions = fmax(most.partitions, (double)env_counter(instance, "partitions") / room);
		(void)usleep(200000);
	}
	env_wait_stats(instance);
	most.queries_s = (double)(env_counter(instance, "source_queries") - queries) / (now_s() - began);
	return most;
}

/* The best that a set which does not change could do: the most used that there is room for. */
static double best_static(void)
{
	double head = 0, all = 0;

	for (uint32_t i = 0; i < partitions; i++) {
		all += 1.0 / (i + 1);
		if (i < room)
			head = all;
	}
	return head / all;
}

static void hit_rate(struct bench *b, const char *instance)
{
	uint32_t warming = partitions / AGENTS * 2, measured = partitions / AGENTS;
	struct agent_counts *counts =
		mmap(NULL, AGENTS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t found = 0, unread = 0, wrong = 0;
	struct watched most;
	pid_t pid[AGENTS];
	double began = now_s();

	if (counts == MAP_FAILED)
		die("out of memory");
	for (int a = 0; a < AGENTS; a++) {
		pid[a] = fork();
		if (pid[a] < 0)
			die("bounded: fork");
		if (pid[a] == 0) {
			agent(instance, b->seed + (uint64_t)a, warming, measured, &counts[a]);
			_exit(0);
		}
		env_track(pid[a]);
	}
	most = watch(instance, counts, (uint64_t)(warming + measured) * AGENTS);
	for (int a = 0; a < AGENTS; a++) {
		if (env_wait(pid[a]) != 0)
			die("bounded: an agent failed");
		found += counts[a].found;
		unread += counts[a].unread;
		wrong += counts[a].wrong;
	}
	result_value(result_add("bounded.lookups", "1/s"), (double)(warming + measured) * AGENTS / (now_s() - began));
	result_value(result_add("bounded.hit_rate", "%"), 100.0 * (double)found / ((double)measured * AGENTS));
	result_value(result_add("limit.static.hit_rate", "%"), 100.0 * best_static());
	result_value(result_add("bounded.wrong", "lookups"), (double)(wrong + unread));
	result_value(result_add("bounded.partitions_of_budget", "%"), 100.0 * most.partitions);
	result_value(result_add("bounded.bytes_of_budget", "%"), 100.0 * most.bytes);
	result_value(result_add("bounded.queries_of_budget", "%"), 100.0 * most.queries_s / QUERIES_S);
	/* Simulated (bench/residency.c), the policy is 1.7 points below the best static set, and
	 * 3.2 in a tenth of the room. */
	target_min("bounded.hit_rate", 100.0 * best_static() - (b->quick ? 4 : 3));
	target_max("bounded.wrong", 0);
	target_max("bounded.partitions_of_budget", 100);
	target_max("bounded.bytes_of_budget", 100);
	target_max("bounded.queries_of_budget", 100);
	(void)munmap(counts, AGENTS * sizeof *counts);
}

/* ---- what one miss costs its reader, with nobody beside it ---- */

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void miss_load(struct bench *b, const char *instance_dir)
{
	static double took[2000];
	uint32_t wanted = b->quick ? 200 : 2000, misses = 0;
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_reader *reader = env_reader(instance);

	/* From the least used on: few of these are there. */
	for (uint32_t rank = partitions; misses < wanted && rank-- > 0;) {
		struct shmeta_partition p;
		double began;

		if (look(reader, of_rank(rank), SHMETA_CACHED, &p) == SHMETA_OK)
			continue;
		began = now_s();
		look_fresh(reader, of_rank(rank));
		took[misses++] = now_s() - began;
	}
	qsort(took, misses, sizeof *took, up);
	result_value(result_add("bounded.miss_load_p50", "us"), took[misses / 2] * 1e6);
	result_value(result_add("bounded.miss_load_p99", "us"), took[misses * 99 / 100] * 1e6);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

/* ---- what a hit costs, beside a store that has everything ---- */

struct hot {
	const char *name; /* of the figures */
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta_handle *handle[HOT];
};

static void hot_open(struct hot *hot, const char *name, const char *instance)
{
	hot->name = name;
	hot->instance = env_open(instance);
	hot->reader = env_reader(hot->instance);
	for (uint32_t i = 0; i < HOT; i++) {
		char topic[16];
		int n = snprintf(topic, sizeof topic, "b%u", of_rank(i) % TOPICS);

		look_fresh(hot->reader, of_rank(i));
		begin(hot->reader);
		if (shmeta_partition_open(hot->reader, topic, (size_t)n, of_rank(i) / TOPICS, &hot->handle[i]) !=
		    SHMETA_OK)
			die("bounded: no handle");
		(void)shmeta_end(hot->reader);
	}
}

static void hot_close(struct hot *hot)
{
	for (uint32_t i = 0; i < HOT; i++)
		shmeta_partition_close(hot->handle[i]);
	shmeta_reader_free(hot->reader);
	shmeta_close(hot->instance);
}

static void hot_round(struct bench *b, struct hot *hot)
{
	uint32_t lookups = b->quick ? 500000 : 2000000;
	struct span span;
	char name[64];

	span = span_begin();
	for (uint32_t i = 0; i < lookups; i++) {
		struct shmeta_segment segment;

		begin(hot->reader);
		if (shmeta_find_segment(hot->handle[i % HOT], i % 100, NULL, &segment, NULL) != SHMETA_OK)
			die("bounded: a hot segment was not found");
		(void)shmeta_end(hot->reader);
		keep(&segment);
	}
	(void)snprintf(name, sizeof name, "%s.find_segment.hot", hot->name);
	span_end(name, span, lookups);
	span = span_begin();
	for (uint32_t i = 0; i < lookups; i++) {
		struct shmeta_partition partition;

		begin(hot->reader);
		if (shmeta_get_partition(hot->handle[i % HOT], NULL, &partition, NULL) != SHMETA_OK)
			die("bounded: a hot partition was not found");
		(void)shmeta_end(hot->reader);
		keep(&partition);
	}
	(void)snprintf(name, sizeof name, "%s.get_partition.hot", hot->name);
	span_end(name, span, lookups);
}

static void hits(struct bench *b, const char *bounded, const char *mirror)
{
	struct hot hot[2];

	hot_open(&hot[0], "bounded", bounded);
	hot_open(&hot[1], "mirror", mirror);
	for (int round = 0; round < b->rounds; round++)
		for (int i = 0; i < 2; i++)
			hot_round(b, &hot[(i + round) % 2]);
	target_max_ratio("bounded.find_segment.hot", 1.05, "mirror.find_segment.hot");
	target_max_ratio("bounded.get_partition.hot", 1.05, "mirror.get_partition.hot");
	hot_close(&hot[0]);
	hot_close(&hot[1]);
}

void bench_bounded(struct bench *b)
{
	char db[400], mirror[400], bounded[400];
	pid_t mirroring, keeping;

	partitions = b->quick ? 100000 : 1000000;
	room = partitions / TENTH;
	(void)snprintf(db, sizeof db, "%s/bounded.db", b->dir);
	(void)snprintf(mirror, sizeof mirror, "%s/bounded-mirror", b->dir);
	(void)snprintf(bounded, sizeof bounded, "%s/bounded", b->dir);
	mirroring = start_mirror(b, db, mirror);
	keeping = start_bounded(b, db, bounded);
	hits(b, bounded, mirror);
	env_kill(&mirroring, SIGTERM);
	hit_rate(b, bounded);
	miss_load(b, bounded);
	env_kill(&keeping, SIGTERM);
}
