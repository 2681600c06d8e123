/* SPDX-License-Identifier: Apache-2.0
 * Acknowledged writes: their rate and their latency, against the engine's own on the same schema
 * and storage; and the pathological workload, a thousand partitions that get a tiny batch each from
 * eight processes while eight others follow their tails. */
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/server.h"

enum { WRITERS = 8, TAILERS = 8, PARTITIONS = 1000, BATCH = 64, IN_FLIGHT = 16, SAMPLES = 1 << 16 };

struct shared {
	_Atomic int go, stop;
	struct process {
		_Alignas(128) _Atomic uint64_t done, failed, found, absent;
		double sample_s[SAMPLES]; /* of a call, or of a lookup */
		uint32_t samples;
	} process[WRITERS + TAILERS];
	_Atomic uint64_t written[PARTITIONS]; /* segments acknowledged in the partition */
};

static struct shared *shared;

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *sample, uint32_t n, double q)
{
	if (n == 0)
		return NAN;
	qsort(sample, n, sizeof *sample, up);
	return sample[(uint32_t)((double)(n - 1) * q)];
}

/* The n-th segment of a partition, as StreamHouse names it. text: where its strings go. */
static struct shmeta_op add(uint32_t partition, uint64_t n, char text[2][96])
{
	uint64_t base = n * 100;

	(void)snprintf(text[0], 96, "bench-writes-%u-%llu", partition, (unsigned long long)base);
	(void)snprintf(text[1], 96, "data/bench-writes/%u/%020llu.seg", partition, (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                          .name = {"bench-writes", 12},
	                          .partition_id = partition,
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = base + 99,
	                                        .record_count = 100,
	                                        .size_bytes = 123456,
	                                        .created_at_ms = 1700000000000,
	                                        .id = {text[0], strlen(text[0])},
	                                        .s3_bucket = {"streamhouse", 11},
	                                        .s3_key = {text[1], strlen(text[1])}}};
}

static struct shmeta_client *client_of(struct shmeta *instance)
{
	struct shmeta_client *client = NULL;

	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		die("no client");
	return client;
}

static void create(const char *instance_dir)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_client *client = client_of(instance);
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = {"bench-writes", 12}, .partition_count = PARTITIONS}};
	struct shmeta_result r;
	enum shmeta_status status = shmeta_write(client, &op, 1, 10000, &r, NULL);

	if (status != SHMETA_OK || r.status != SHMETA_OK)
		die("create_topic: %s; %s", shmeta_strerror(status), r.text);
	shmeta_client_close(client);
	shmeta_close(instance);
}

/* ---- many clients ---- */

struct call {
	struct process *p;
	double sent;
	uint32_t partition, count;
	int *in_flight;
};

static void done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                 const struct shmeta_token *token)
{
	struct call *c = arg;
	uint64_t good = 0;

	(void)token;
	for (size_t i = 0; i < count; i++)
		good += status == SHMETA_OK && results[i].status == SHMETA_OK;
	atomic_fetch_add_explicit(&c->p->done, good, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->p->failed, c->count - good, memory_order_relaxed);
	atomic_fetch_add_explicit(&shared->written[c->partition], good, memory_order_relaxed);
	if (c->p->samples < SAMPLES)
		c->p->sample_s[c->p->samples++] = now_s() - c->sent;
	--*c->in_flight;
	free(c);
}

/* Batches of `batch` segments, each for one partition of its own, `flight` calls at a time. rounds
 * 0: until told to stop. */
static void writer_process(const char *instance_dir, int me, uint32_t batch, int flight, uint32_t rounds)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_client *client = client_of(instance);
	struct process *p = &shared->process[me];
	uint64_t next[PARTITIONS] = {0};
	static char text[BATCH][2][96];
	int in_flight = 0;

	while (!atomic_load(&shared->go))
		(void)usleep(200);
	for (uint32_t round = 0; (rounds == 0 || round < rounds) && !atomic_load(&shared->stop); round++)
		for (uint32_t partition = (uint32_t)me; partition < PARTITIONS && !atomic_load(&shared->stop);
		     partition += WRITERS) {
			struct shmeta_op op[BATCH];
			struct call *c = malloc(sizeof *c);
			enum shmeta_status status;

			if (c == NULL)
				_exit(1);
			for (uint32_t i = 0; i < batch; i++)
				op[i] = add(partition, next[partition]++, text[i]);
			*c = (struct call){.p = p,
			                   .sent = now_s(),
			                   .partition = partition,
			                   .count = batch,
			                   .in_flight = &in_flight};
			in_flight++;
			while ((status = shmeta_submit(client, op, batch, done, c)) == SHMETA_ERR_BUSY)
				(void)!shmeta_client_process(client, NULL);
			if (status != SHMETA_OK)
				_exit(2);
			while (in_flight >= flight) {
				struct pollfd fd = {.fd = shmeta_client_fd(client),
				                    .events = shmeta_client_events(client)};

				(void)poll(&fd, 1, 100);
				(void)!shmeta_client_process(client, NULL);
			}
		}
	for (double end = now_s() + 30; in_flight > 0 && now_s() < end;) {
		struct pollfd fd = {.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};

		(void)poll(&fd, 1, 100);
		(void)!shmeta_client_process(client, NULL);
	}
	shmeta_client_close(client);
	shmeta_close(instance);
	_exit(in_flight == 0 ? 0 : 3);
}

static void start(pid_t *pid)
{
	*pid = fork();
	if (*pid < 0)
		die("fork failed");
	if (*pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	else
		env_track(*pid);
}

static double rate(const char *instance_dir, double seconds)
{
	pid_t pid[WRITERS];
	uint64_t sum = 0, failed = 0;
	double began;

	memset(shared, 0, sizeof *shared);
	for (int i = 0; i < WRITERS; i++) {
		start(&pid[i]);
		if (pid[i] == 0)
			writer_process(instance_dir, i, BATCH, IN_FLIGHT, 0);
	}
	(void)usleep(200000);
	began = now_s();
	atomic_store(&shared->go, 1);
	(void)usleep((useconds_t)(seconds * 1e6));
	for (int i = 0; i < WRITERS; i++)
		sum += atomic_load(&shared->process[i].done);
	seconds = now_s() - began;
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < WRITERS; i++) {
		env_kill(&pid[i], 0);
		failed += atomic_load(&shared->process[i].failed);
	}
	if (failed != 0)
		die("%llu adds failed", (unsigned long long)failed);
	return (double)sum / seconds;
}

/* ---- the engine itself ---- */

static sqlite3 *raw_open(const char *path, const char *schema_of)
{
	sqlite3 *db;
	char sql[600];

	if (sqlite3_open(path, &db) != SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(db));
	/* The tables and indexes that shmeta made, without its triggers. */
	(void)snprintf(
		sql, sizeof sql,
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; ATTACH '%s' AS made",
		schema_of);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(db));
	{
		sqlite3_stmt *q;
		char *all = sqlite3_mprintf("");

		if (sqlite3_prepare_v2(
			    db,
			    "SELECT sql FROM made.sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL AND "
			    "name NOT LIKE 'shmeta%' AND name NOT LIKE 'sqlite%'",
			    -1, &q, NULL) != SQLITE_OK)
			die("%s", sqlite3_errmsg(db));
		while (sqlite3_step(q) == SQLITE_ROW) {
			char *more = sqlite3_mprintf("%s%s;", all, sqlite3_column_text(q, 0));

			sqlite3_free(all);
			all = more;
		}
		(void)sqlite3_finalize(q);
		if (sqlite3_exec(db, all, NULL, NULL, NULL) != SQLITE_OK ||
		    sqlite3_exec(db,
		                 "DETACH made; INSERT INTO topics VALUES('bench-writes', 1000, NULL, 1, 1, '{}');"
		                 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
		                 "INSERT INTO partitions SELECT 'bench-writes', i, 0, 1, 1 FROM n",
		                 NULL, NULL, NULL) != SQLITE_OK)
			die("%s: %s", path, sqlite3_errmsg(db));
		sqlite3_free(all);
	}
	return db;
}

/* Transactions of `group` adds, and a watermark for each partition in them. Returns adds a second;
 * fills samples by transaction. */
static double raw_commits(const char *path, const char *schema_of, uint32_t group, double seconds, double *sample,
                          uint32_t *samples)
{
	sqlite3 *db = raw_open(path, schema_of);
	sqlite3_stmt *insert, *watermark;
	uint64_t next[PARTITIONS] = {0}, added = 0;
	uint32_t partition = 0;
	double began = now_s();

	if (sqlite3_prepare_v2(
		    db,
		    "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		    "s3_key, created_at) VALUES(?, 'bench-writes', ?, ?, ?, 100, 123456, 'streamhouse', ?, 1700000000000)",
		    -1, &insert, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(
		    db,
		    "UPDATE partitions SET high_watermark = max(high_watermark, ?), updated_at = 2 WHERE topic = 'bench-writes' "
		    "AND partition_id = ?",
		    -1, &watermark, NULL) != SQLITE_OK)
		die("%s: %s", path, sqlite3_errmsg(db));
	while (now_s() - began < seconds) {
		double t = now_s();

		(void)sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		for (uint32_t i = 0; i < group; i += group < BATCH ? group : BATCH) {
			uint32_t batch = group < BATCH ? group : BATCH;
			char text[2][96];

			for (uint32_t k = 0; k < batch; k++) {
				struct shmeta_op op = add(partition, next[partition]++, text);

				(void)sqlite3_bind_text(insert, 1, text[0], -1, SQLITE_STATIC);
				(void)sqlite3_bind_int(insert, 2, (int)partition);
				(void)sqlite3_bind_int64(insert, 3, (sqlite3_int64)op.u.segment.base_offset);
				(void)sqlite3_bind_int64(insert, 4, (sqlite3_int64)op.u.segment.end_offset);
				(void)sqlite3_bind_text(insert, 5, text[1], -1, SQLITE_STATIC);
				if (sqlite3_step(insert) != SQLITE_DONE)
					die("%s: %s", path, sqlite3_errmsg(db));
				(void)sqlite3_reset(insert);
				added++;
			}
			(void)sqlite3_bind_int64(watermark, 1, (sqlite3_int64)next[partition] * 100);
			(void)sqlite3_bind_int(watermark, 2, (int)partition);
			(void)sqlite3_step(watermark);
			(void)sqlite3_reset(watermark);
			partition = (partition + 1) % PARTITIONS;
		}
		if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
			die("%s: %s", path, sqlite3_errmsg(db));
		if (sample != NULL && *samples < SAMPLES)
			sample[(*samples)++] = now_s() - t;
	}
	seconds = now_s() - began;
	(void)sqlite3_finalize(insert);
	(void)sqlite3_finalize(watermark);
	(void)sqlite3_close(db);
	return (double)added / seconds;
}

static void single(const char *instance_dir, double seconds)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_client *client = client_of(instance);
	struct process *p = &shared->process[0];
	char text[2][96];
	double began = now_s();

	p->samples = 0;
	for (uint64_t n = 1u << 20; now_s() - began < seconds && p->samples < SAMPLES; n++) {
		struct shmeta_op op = add(7, n, text);
		struct shmeta_result r;
		double t = now_s();
		enum shmeta_status status = shmeta_write(client, &op, 1, 10000, &r, NULL);

		if (status != SHMETA_OK || r.status != SHMETA_OK)
			die("a single add: %s; %s", shmeta_strerror(status), r.text);
		p->sample_s[p->samples++] = now_s() - t;
	}
	shmeta_client_close(client);
	shmeta_close(instance);
}

static void rates(struct bench *b)
{
	double seconds = b->quick ? 1 : 4;

	for (int round = 0; round < (b->quick ? 3 : 5); round++) {
		char db[400], raw[400], instance[400];
		static double sample[SAMPLES];
		uint32_t samples = 0;
		pid_t daemon;

		(void)snprintf(db, sizeof db, "%s/write-%d.db", b->dir, round);
		(void)snprintf(instance, sizeof instance, "%s/write-%d", b->dir, round);
		daemon = env_start_daemon(b, db, instance, NULL, NULL);
		create(instance);
		result_value(result_add("write.sqlite.acked", "adds/s"), rate(instance, seconds));
		single(instance, seconds / 2);
		result_value(result_add("write.sqlite.single_p50", "us"),
		             quantile(shared->process[0].sample_s, shared->process[0].samples, 0.5) * 1e6);
		env_kill(&daemon, SIGTERM);
		(void)snprintf(raw, sizeof raw, "%s/raw-%d.db", b->dir, round);
		result_value(result_add("limit.sqlite_group_commit", "adds/s"),
		             raw_commits(raw, db, 4096, seconds, NULL, NULL));
		(void)snprintf(raw, sizeof raw, "%s/raw1-%d.db", b->dir, round);
		(void)raw_commits(raw, db, 1, seconds / 2, sample, &samples);
		result_value(result_add("limit.sqlite_single_commit_p50", "us"), quantile(sample, samples, 0.5) * 1e6);
	}
	target_min("write.sqlite.acked", 100000);
	target_min_ratio("write.sqlite.acked", 0.7, "limit.sqlite_group_commit");
	target_max("write.sqlite.single_p50", result_median(result_get("limit.sqlite_single_commit_p50")) + 100);
}

/* ---- PostgreSQL ---- */

/* The tables that shmeta made, without its triggers, and a topic as create() makes it. */
static PGconn *raw_postgres(const struct bench *b, const char *database)
{
	PGconn *pg = server_connect(b, database);
	char uri[1024], instance[400];
	pid_t daemon;

	server_uri(b, database, uri, sizeof uri);
	(void)snprintf(instance, sizeof instance, "%s/made-%s", b->dir, database);
	daemon = env_start_daemon(b, uri, instance, NULL, NULL);
	env_kill(&daemon, SIGTERM);
	server_run(pg, "ALTER TABLE segments DISABLE TRIGGER USER; ALTER TABLE partitions DISABLE TRIGGER USER;"
	               "INSERT INTO topics VALUES('bench-writes', 1000, NULL, 1, 1, '{}');"
	               "INSERT INTO partitions SELECT 'bench-writes', i, 0, 1, 1 FROM generate_series(0, 999) i");
	return pg;
}

enum { RAW_GROUP = 4096, RAW_ROOM = 64 };

/* Text arrays for unnest(). */
struct raw_arrays {
	char *column[4]; /* id, partition, base, key */
	size_t used[4];
};

static void raw_put(struct raw_arrays *a, int column, const char *text)
{
	a->used[column] +=
		(size_t)sprintf(a->column[column] + a->used[column], "%c%s", a->used[column] == 0 ? '{' : ',', text);
}

static void raw_done(PGconn *pg, PGresult *res)
{
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	PQclear(res);
}

/* As raw_commits(): one INSERT of many rows and one UPDATE of their partitions' watermarks, both
 * prepared. */
static double raw_postgres_commits(PGconn *pg, uint32_t group, double seconds, double *sample, uint32_t *samples)
{
	uint64_t next[PARTITIONS] = {0}, added = 0;
	uint32_t partition = 0, batch = group < BATCH ? group : BATCH;
	struct raw_arrays a;
	double began = now_s();

	for (int i = 0; i < 4; i++)
		if ((a.column[i] = malloc((size_t)RAW_GROUP * RAW_ROOM + 2)) == NULL)
			die("out of memory");
	raw_done(
		pg,
		PQprepare(
			pg, "insert",
			"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) SELECT i.id, 'bench-writes', i.pid, i.base, i.base + 99, 100, "
			"123456, 'streamhouse', i.key, 1700000000000 FROM unnest($1::text[], $2::int8[], $3::int8[], "
			"$4::text[]) AS i(id, pid, base, key)",
			0, NULL));
	raw_done(
		pg,
		PQprepare(
			pg, "raise",
			"UPDATE partitions p SET high_watermark = greatest(p.high_watermark, m.top), updated_at = 2 FROM "
			"(SELECT pid, max(base) + 100 AS top FROM unnest($1::int8[], $2::int8[]) AS i(pid, base) "
			"GROUP BY pid) m WHERE p.topic = 'bench-writes' AND p.partition_id = m.pid",
			0, NULL));
	while (now_s() - began < seconds) {
		const char *values[4] = {a.column[0], a.column[1], a.column[2], a.column[3]};
		double t = now_s();

		memset(a.used, 0, sizeof a.used);
		for (uint32_t i = 0; i < group; i += batch, partition = (partition + 1) % PARTITIONS)
			for (uint32_t k = 0; k < batch; k++, added++) {
				char text[2][96], number[2][24];
				struct shmeta_op op = add(partition, next[partition]++, text);

				(void)snprintf(number[0], sizeof number[0], "%u", partition);
				(void)snprintf(number[1], sizeof number[1], "%llu",
				               (unsigned long long)op.u.segment.base_offset);
				raw_put(&a, 0, text[0]);
				raw_put(&a, 1, number[0]);
				raw_put(&a, 2, number[1]);
				raw_put(&a, 3, text[1]);
			}
		for (int i = 0; i < 4; i++)
			(void)sprintf(a.column[i] + a.used[i], "}");
		raw_done(pg, PQexec(pg, "BEGIN"));
		raw_done(pg, PQexecPrepared(pg, "insert", 4, values, NULL, NULL, 0));
		raw_done(pg, PQexecPrepared(pg, "raise", 2, values + 1, NULL, NULL, 0));
		raw_done(pg, PQexec(pg, "COMMIT"));
		if (sample != NULL && *samples < SAMPLES)
			sample[(*samples)++] = now_s() - t;
	}
	for (int i = 0; i < 4; i++)
		free(a.column[i]);
	raw_done(pg, PQexec(pg, "DEALLOCATE ALL"));
	return (double)added / (now_s() - began);
}

static void rates_postgres(struct bench *b)
{
	double seconds = b->quick ? 1 : 4;

	for (int round = 0; round < (b->quick ? 3 : 5); round++) {
		char database[40], uri[1024], instance[400];
		static double sample[SAMPLES];
		uint32_t samples = 0;
		pid_t daemon;
		PGconn *pg;

		(void)snprintf(database, sizeof database, "write_%d", round);
		pg = server_connect(b, database);
		if (pg == NULL) {
			result_missing("write.postgres.acked", "adds/s", "no PostgreSQL server could be started");
			return;
		}
		PQfinish(pg);
		server_uri(b, database, uri, sizeof uri);
		(void)snprintf(instance, sizeof instance, "%s/pg-write-%d", b->dir, round);
		daemon = env_start_daemon(b, uri, instance, NULL, NULL);
		create(instance);
		result_value(result_add("write.postgres.acked", "adds/s"), rate(instance, seconds));
		single(instance, seconds / 2);
		result_value(result_add("write.postgres.single_p50", "us"),
		             quantile(shared->process[0].sample_s, shared->process[0].samples, 0.5) * 1e6);
		env_kill(&daemon, SIGTERM);
		(void)snprintf(database, sizeof database, "raw_%d", round);
		pg = raw_postgres(b, database);
		result_value(result_add("limit.postgres_group_commit", "adds/s"),
		             raw_postgres_commits(pg, RAW_GROUP, seconds, NULL, NULL));
		server_run(pg, "TRUNCATE segments");
		(void)raw_postgres_commits(pg, 1, seconds / 2, sample, &samples);
		result_value(result_add("limit.postgres_single_commit_p50", "us"),
		             quantile(sample, samples, 0.5) * 1e6);
		PQfinish(pg);
	}
	target_min_ratio("write.postgres.acked", 0.7, "limit.postgres_group_commit");
}

/* ---- the pathological workload ---- */

static void tailer_process(const char *instance_dir, int me)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_reader *reader = env_reader(instance);
	struct process *p = &shared->process[WRITERS + me];
	struct shmeta_handle *handle[PARTITIONS];
	uint64_t seen[PARTITIONS] = {0}, n = 0, txn = 0;

	if (shmeta_begin(reader) != SHMETA_OK)
		_exit(1);
	for (uint32_t i = 0; i < PARTITIONS; i++)
		if (shmeta_partition_open(reader, "bench-writes", 12, i, &handle[i]) != SHMETA_OK)
			_exit(2);
	(void)shmeta_end(reader);
	while (!atomic_load(&shared->go))
		(void)usleep(200);
	/* After each commit, the tails that have moved: the newest segment whose add was
	 * acknowledged, anywhere, must be there. */
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		for (uint32_t i = 0; i < PARTITIONS; i++) {
			uint32_t partition = (i + (uint32_t)me * 131) % PARTITIONS;
			uint64_t known = atomic_load_explicit(&shared->written[partition], memory_order_acquire);
			struct shmeta_segment s;
			enum shmeta_status status;
			double t = 0;
			int timed = n % 16 == 0;

			if (known == seen[partition])
				continue;
			if (timed)
				t = now_s();
			status = shmeta_begin(reader);
			if (status == SHMETA_ERR_CONTENDED)
				continue;
			if (status == SHMETA_OK) {
				status = shmeta_find_segment(handle[partition], (known - 1) * 100 + 50, NULL, &s, NULL);
				(void)shmeta_end(reader);
			}
			if (timed && p->samples < SAMPLES)
				p->sample_s[p->samples++] = now_s() - t;
			if (status == SHMETA_OK && s.base_offset == (known - 1) * 100)
				atomic_fetch_add_explicit(&p->found, 1, memory_order_relaxed);
			else
				atomic_fetch_add_explicit(&p->absent, 1, memory_order_relaxed);
			seen[partition] = known;
			n++;
		}
		(void)!shmeta_wait_commit(instance, txn, 100, &txn);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	_exit(0);
}

static uint64_t sql_count(const char *db, const char *sql)
{
	sqlite3 *c;
	sqlite3_stmt *q;
	uint64_t n = 0;

	if (sqlite3_open_v2(db, &c, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(c, sql, -1, &q, NULL) != SQLITE_OK)
		die("%s: %s", db, sqlite3_errmsg(c));
	if (sqlite3_step(q) == SQLITE_ROW)
		n = (uint64_t)sqlite3_column_int64(q, 0);
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(c);
	return n;
}

static void pathological(struct bench *b)
{
	char db[400], instance[400];
	uint32_t rounds = b->quick ? 100 : 1000, samples[2] = {0, 0};
	static double sample[2][(WRITERS + TAILERS) * 1024];
	uint64_t adds = 0, failed = 0, found = 0, absent = 0, before, after;
	pid_t daemon, pid[WRITERS + TAILERS];
	double began;

	(void)snprintf(db, sizeof db, "%s/pathological.db", b->dir);
	(void)snprintf(instance, sizeof instance, "%s/pathological", b->dir);
	daemon = env_start_daemon(b, db, instance, NULL, NULL);
	create(instance);
	memset(shared, 0, sizeof *shared);
	for (int i = 0; i < WRITERS + TAILERS; i++) {
		start(&pid[i]);
		if (pid[i] == 0 && i < WRITERS)
			writer_process(instance, i, 1, 64, rounds);
		if (pid[i] == 0)
			tailer_process(instance, i - WRITERS);
	}
	(void)usleep(500000);
	env_wait_stats(instance);
	before = env_counter(instance, "write_batches");
	began = now_s();
	atomic_store(&shared->go, 1);
	for (int i = 0; i < WRITERS; i++)
		env_kill(&pid[i], 0);
	began = now_s() - began;
	atomic_store(&shared->stop, 1);
	for (int i = WRITERS; i < WRITERS + TAILERS; i++)
		env_kill(&pid[i], 0);
	env_wait_stats(instance);
	after = env_counter(instance, "write_batches");
	for (int i = 0; i < WRITERS + TAILERS; i++) {
		struct process *p = &shared->process[i];
		int kind = i >= WRITERS;
		uint32_t step = p->samples / 1024 + 1;

		adds += atomic_load(&p->done);
		failed += atomic_load(&p->failed);
		found += atomic_load(&p->found);
		absent += atomic_load(&p->absent);
		for (uint32_t k = 0; k < p->samples; k += step)
			sample[kind][samples[kind]++] = p->sample_s[k];
	}
	env_kill(&daemon, SIGTERM);
	if (failed != 0 || sql_count(db, "SELECT count(*) FROM segments") != adds ||
	    adds != (uint64_t)PARTITIONS * rounds)
		die("pathological: %llu adds acknowledged, %llu failed, %llu in the database", (unsigned long long)adds,
		    (unsigned long long)failed, (unsigned long long)sql_count(db, "SELECT count(*) FROM segments"));
	result_value(result_add("pathological.adds", "adds/s"), (double)adds / began);
	result_value(result_add("pathological.find_p99", "us"), quantile(sample[1], samples[1], 0.99) * 1e6);
	result_value(result_add("pathological.write_p99", "ms"), quantile(sample[0], samples[0], 0.99) * 1e3);
	result_value(result_add("pathological.hit_rate", "%"), 100.0 * (double)found / (double)(found + absent));
	result_value(result_add("pathological.source_transactions_ratio", "%"),
	             100.0 * (double)(after - before) / (double)adds);
	target_max("pathological.find_p99", 10);
	target_max("pathological.write_p99", 50);
	target_min("pathological.hit_rate", 99);
	target_max("pathological.source_transactions_ratio", 1);
}

void bench_writes(struct bench *b)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("out of memory");
	rates(b);
	rates_postgres(b);
	pathological(b);
	(void)munmap(shared, sizeof *shared);
}
