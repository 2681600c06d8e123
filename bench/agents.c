/* SPDX-License-Identifier: Apache-2.0
 * What a broker's agent does beside lookups: it renews all it leads by one operation, asks who
 * leads a partition on the source's own word, plans a fetch in a partition of very many segments,
 * and waits for partitions to grow, as one of a thousand. SQLite, a daemon and a database of its
 * own. */
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"

enum { HELD = 10000, WAITERS = 1000, WIDE = 64, WAIT_MS = 60000, STACK = 128 << 10 };

static const struct shmeta_str topic = {"agents", 6};

static uint32_t leases;   /* partitions of the topic; agent "holder" leads the first HELD, "others"
                           * the rest */
static uint64_t segments; /* of its partition 0 */

static void sql(sqlite3 *db, const char *text)
{
	char *message = NULL;

	if (sqlite3_exec(db, text, NULL, NULL, &message) != SQLITE_OK)
		die("agents: %s", message);
}

static void fill(const char *path)
{
	sqlite3 *db;
	char text[1200];

	if (sqlite3_open(path, &db) != SQLITE_OK)
		die("agents: %s", sqlite3_errmsg(db));
	(void)snprintf(
		text, sizeof text,
		"BEGIN; INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('agents', %u, 1, 1);"
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u - 1) "
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
		"SELECT 'agents', i, 0, 1, 1 FROM n;"
		"UPDATE partitions SET high_watermark = %llu WHERE partition_id = 0;",
		leases, leases, (unsigned long long)segments * 100);
	sql(db, text);
	(void)snprintf(
		text, sizeof text,
		"INSERT INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at) "
		"VALUES('holder', 'h:1', 'z', 'g', 1, 1), ('others', 'o:1', 'z', 'g', 1, 1);"
		"INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
		"SELECT topic, partition_id, CASE WHEN partition_id < %d THEN 'holder' ELSE 'others' END, "
		"strftime('%%s', 'now') * 1000 + 3600000, 1, 1 FROM partitions;",
		HELD);
	sql(db, text);
	(void)snprintf(
		text, sizeof text,
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %llu - 1) "
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at) SELECT 's' || i, 'agents', 0, i * 100, i * 100 + 99, 100, 65536, 'b', 'data/' || i, 1 "
		"FROM n; COMMIT",
		(unsigned long long)segments);
	sql(db, text);
	(void)sqlite3_close(db);
}

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *sample, uint32_t n, double q)
{
	qsort(sample, n, sizeof *sample, up);
	return n > 0 ? sample[(uint32_t)((double)(n - 1) * q)] : NAN;
}

static void note(const char *name, const char *unit, double value)
{
	struct result *r = result_get(name);

	result_value(r != NULL ? r : result_add(name, unit), value);
}

static void write_one(struct shmeta_client *client, struct shmeta_op *op, struct shmeta_result *result)
{
	enum shmeta_status status = shmeta_write(client, op, 1, WAIT_MS, result, NULL);

	if (status != SHMETA_OK || result->status != SHMETA_OK)
		die("agents: %s: %s", shmeta_strerror(status), result->text);
}

static void begin(struct shmeta_reader *reader)
{
	enum shmeta_status status;

	do
		status = shmeta_begin(reader);
	while (status == SHMETA_ERR_CONTENDED);
	if (status != SHMETA_OK)
		die("agents: begin: %s", shmeta_strerror(status));
}

/* ---- renewing and asking ---- */

static void renew(struct shmeta_client *client, uint32_t n)
{
	static double sample[1000];

	for (uint32_t i = 0; i < n; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_RENEW_AGENT,
		                       .agent_id = {"holder", 6},
		                       .duration_ms = 3600000 + 1000 * (int64_t)(i + 1),
		                       .u.agent = {.last_heartbeat_ms = 1000 + i}};
		struct shmeta_result result;
		double began = now_s();

		write_one(client, &op, &result);
		if (result.count != HELD)
			die("agents: %llu leases were renewed", (unsigned long long)result.count);
		sample[i] = (now_s() - began) * 1e3;
	}
	note("renew_agent.10000", "ms", quantile(sample, n, 0.5));
}

static void ask(struct shmeta_reader *reader, uint32_t n, uint64_t *seed)
{
	static double sample[10000];
	const struct shmeta_read source = {.size = sizeof source,
	                                   .consistency = SHMETA_SOURCE,
	                                   .timeout_ms = WAIT_MS,
	                                   .flags = SHMETA_READ_MAY_MOVE};

	for (uint32_t i = 0; i < n; i++) {
		struct shmeta_lease lease;
		enum shmeta_status status;
		double began;

		begin(reader);
		began = now_s();
		status = shmeta_get_lease(reader, topic.data, topic.bytes, (uint32_t)(rng(seed) % leases), 1, &source,
		                          &lease, NULL);
		sample[i] = (now_s() - began) * 1e6;
		if (status != SHMETA_OK || lease.leader_agent_id.bytes != 6)
			die("agents: lease: %s", shmeta_strerror(status));
		(void)shmeta_end(reader);
	}
	note("lease.source_p50", "us", quantile(sample, n, 0.5));
}

/* ---- planning ---- */

static void plan(struct shmeta_reader *reader, uint32_t n, uint64_t *seed)
{
	static struct shmeta_segment found[WIDE];
	static struct shmeta_fetch_range ranges[WIDE];
	static char strings[WIDE * 512 + 3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_fetch want = {.size = sizeof want,
	                            .max_bytes = 1 << 20,
	                            .max_segments = WIDE,
	                            .segments = found,
	                            .max_ranges = WIDE,
	                            .ranges = ranges,
	                            .buffer = strings,
	                            .buffer_bytes = sizeof strings};
	struct shmeta_handle *partition;
	struct span begun;

	begin(reader);
	if (shmeta_partition_open(reader, topic.data, topic.bytes, 0, &partition) != SHMETA_OK)
		die("agents: no partition");
	begun = span_begin();
	for (uint32_t i = 0; i < n; i++) {
		struct shmeta_fetch_plan answer = {.size = sizeof answer};
		enum shmeta_status status;

		want.from = rng(seed) % ((segments - WIDE) * 100);
		status = shmeta_plan_fetch(partition, &want, NULL, &answer, NULL);
		if (status != SHMETA_OK || answer.segments != 16)
			die("agents: plan: %s, %llu segments", shmeta_strerror(status),
			    (unsigned long long)answer.segments);
		keep(&answer);
	}
	span_end("plan.fetch", begun, n);
	(void)shmeta_end(reader);
	shmeta_partition_close(partition);
}

/* ---- waiting ---- */

struct waiter {
	_Alignas(64) struct shmeta_reader *reader;
	pthread_t thread;
	uint32_t partition;
	_Atomic double woken_s; /* when it saw `seen` */
	_Atomic uint64_t seen;  /* the watermark that it waits beyond */
};
static struct waiter *waiters;
static _Atomic bool stop;

static void *wait_on(void *arg)
{
	struct waiter *w = arg;
	struct shmeta_wait wait = {.high_watermark = 0};

	begin(w->reader);
	if (shmeta_partition_open(w->reader, topic.data, topic.bytes, w->partition, &wait.handle) != SHMETA_OK)
		die("agents: no partition %u", w->partition);
	(void)shmeta_end(w->reader);
	while (!atomic_load(&stop)) {
		if (shmeta_wait_partitions(&wait, 1, 1000, NULL) != SHMETA_OK)
			continue;
		atomic_store(&w->woken_s, now_s());
		atomic_store(&w->seen, ++wait.high_watermark);
	}
	shmeta_partition_close(wait.handle);
	return NULL;
}

static void start_waiters(struct shmeta *instance)
{
	pthread_attr_t attr;

	waiters = aligned_alloc(64, WAITERS * sizeof *waiters);
	if (waiters == NULL || pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, STACK) != 0)
		die("agents: out of memory");
	memset(waiters, 0, WAITERS * sizeof *waiters);
	for (uint32_t i = 0; i < WAITERS; i++) {
		waiters[i].partition = 1 + i;
		waiters[i].reader = env_reader(instance);
		if (pthread_create(&waiters[i].thread, &attr, wait_on, &waiters[i]) != 0)
			die("agents: no thread");
	}
	(void)pthread_attr_destroy(&attr);
	(void)usleep(1000000);
}

static void end_waiters(void)
{
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < WAITERS; i++) {
		(void)pthread_join(waiters[i].thread, NULL);
		shmeta_reader_free(waiters[i].reader);
	}
	free(waiters);
}

/* From the answer of the write, which follows the commit, to the return of the waiter; a waiter
 * that was faster counts as 0. */
static void wake(struct shmeta_client *client, uint32_t n, uint64_t *seed)
{
	static double sample[10000];

	for (uint32_t i = 0; i < n; i++) {
		struct waiter *w = &waiters[rng(seed) % WAITERS];
		uint64_t next = atomic_load(&w->seen) + 1;
		struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
		                       .name = topic,
		                       .partition_id = w->partition,
		                       .offset = next};
		struct shmeta_result result;
		double answered;

		write_one(client, &op, &result);
		answered = now_s();
		while (atomic_load(&w->seen) < next)
			(void)usleep(20);
		sample[i] = (atomic_load(&w->woken_s) - answered) * 1e6;
		if (sample[i] < 0)
			sample[i] = 0;
	}
	note("wait.wake_p50", "us", quantile(sample, n, 0.5));
	note("wait.wake_p99", "us", quantile(sample, n, 0.99));
}

/* The same of an event loop that has submitted as many waits; the threads are gone. */
static void wake_event(struct shmeta *instance, struct shmeta_client *client, uint32_t n, uint64_t *seed)
{
	static struct shmeta_watch watch[WAITERS];
	static double sample[10000];
	struct shmeta_done done = {.size = sizeof done};
	struct shmeta_client *loop;

	if (shmeta_client_open(instance, NULL, &loop) != SHMETA_OK)
		die("agents: no client");
	for (uint32_t i = 0; i < WAITERS; i++) {
		watch[i].topic = topic;
		watch[i].partition_id = 1 + WAITERS + i; /* not those of the threads */
		if (shmeta_submit_wait(loop, &watch[i], 1, NULL, &watch[i], NULL) != SHMETA_OK)
			die("agents: a wait is refused");
	}
	for (uint32_t i = 0; i < n; i++) {
		struct shmeta_watch *w = &watch[rng(seed) % WAITERS];
		struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
		                       .name = topic,
		                       .partition_id = w->partition_id,
		                       .offset = w->high_watermark + 1};
		struct shmeta_result result;
		double answered;

		write_one(client, &op, &result);
		answered = now_s();
		while (shmeta_client_next_done(loop, &done) == SHMETA_END) {
			struct pollfd p = {.fd = shmeta_client_fd(loop), .events = shmeta_client_events(loop)};

			(void)poll(&p, 1, 1000);
			(void)!shmeta_client_process(loop, NULL);
		}
		sample[i] = (now_s() - answered) * 1e6;
		w = done.arg;
		if (done.status != SHMETA_OK || w->status != SHMETA_OK)
			die("agents: a wait ended with %d", (int)done.status);
		w->high_watermark++;
		if (shmeta_submit_wait(loop, w, 1, NULL, w, NULL) != SHMETA_OK)
			die("agents: a wait is refused");
	}
	note("wait.event_p50", "us", quantile(sample, n, 0.5));
	note("wait.event_p99", "us", quantile(sample, n, 0.99));
	shmeta_client_close(loop);
}

static struct shmeta *open_for(const char *directory, uint32_t threads)
{
	struct shmeta *instance = NULL;
	const struct shmeta_options options = {
		.size = sizeof options, .directory = directory, .agent = "shmeta-bench", .threads = threads};

	if (shmeta_open(&options, &instance) != SHMETA_OK)
		die("agents: %s cannot be opened", directory);
	return instance;
}

void bench_agents(struct bench *b)
{
	char db[400], instance_dir[400];
	struct shmeta_client *client;
	struct shmeta_reader *reader;
	struct shmeta *instance;
	pid_t daemon;

	leases = b->quick ? 30000 : 300000;
	segments = b->quick ? 100000 : 1000000;
	(void)snprintf(db, sizeof db, "%s/agents.db", b->dir);
	(void)snprintf(instance_dir, sizeof instance_dir, "%s/agents", b->dir);
	/* The tables, and then what is in them. */
	daemon = env_start_daemon(b, db, instance_dir, NULL, NULL);
	env_kill(&daemon, SIGTERM);
	fill(db);
	daemon = env_start_daemon(b, db, instance_dir, NULL, NULL);
	instance = open_for(instance_dir, WAITERS + 8);
	reader = env_reader(instance);
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		die("agents: no client");
	for (int round = 0; round < b->rounds; round++) {
		uint64_t seed = b->seed + (uint64_t)round;

		ask(reader, b->quick ? 500 : 2000, &seed);
		plan(reader, b->quick ? 20000 : 200000, &seed);
		renew(client, b->quick ? 3 : 10);
	}
	start_waiters(instance);
	for (int round = 0; round < b->rounds; round++) {
		uint64_t seed = b->seed + (uint64_t)round;

		wake(client, b->quick ? 200 : 1000, &seed);
	}
	end_waiters();
	for (int round = 0; round < b->rounds; round++) {
		uint64_t seed = b->seed + (uint64_t)round;

		wake_event(instance, client, b->quick ? 200 : 1000, &seed);
	}
	target_max("wait.wake_p99", 1000);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	env_kill(&daemon, SIGTERM);
}
