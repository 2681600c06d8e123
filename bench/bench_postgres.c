/* SPDX-License-Identifier: Apache-2.0
 * What concerns a PostgreSQL source: first load against its own COPY, how soon a change is seen,
 * what idling costs. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/server.h"
#include "bench/source.h"

enum { SEGMENTS_MOST = 1000000 };

/* The server's own rate: the same columns in the same order, nothing done with them. */
static double copy_out(PGconn *pg)
{
	uint64_t rows, bytes = 0;
	double start = now_s();
	char *piece;
	PGresult *res;
	int n;

	res = PQexec(
		pg,
		"COPY (SELECT topic, partition_id, base_offset, end_offset, record_count, size_bytes, id, s3_bucket, "
		"s3_key, created_at FROM segments ORDER BY topic, partition_id, base_offset) TO STDOUT "
		"(FORMAT binary)");
	if (PQresultStatus(res) != PGRES_COPY_OUT)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	PQclear(res);
	while ((n = PQgetCopyData(pg, &piece, 0)) > 0) {
		bytes += (uint64_t)n;
		PQfreemem(piece);
	}
	keep(&bytes);
	res = PQgetResult(pg);
	rows = strtoull(PQcmdTuples(res), NULL, 10);
	PQclear(res);
	(void)PQgetResult(pg);
	if (rows == 0)
		die("PostgreSQL gave no rows");
	return (double)rows / (now_s() - start);
}

/* A database with shmeta's schema and the rows of a SQLite file; fewer segments where all would
 * need gigabytes more of memory. */
static PGconn *fill(struct bench *b, const char *database, const char *sqlite_path, char *ret_uri, size_t bytes,
                    uint64_t *ret_segments)
{
	PGconn *pg = server_connect(b, database);
	char instance[400];
	pid_t daemon;

	if (pg == NULL)
		return NULL;
	server_uri(b, database, ret_uri, bytes);
	(void)snprintf(instance, sizeof instance, "%s/schema-%s", b->dir, database);
	daemon = env_start_daemon(b, ret_uri, instance, NULL, NULL);
	env_kill(&daemon, SIGTERM);
	*ret_segments = server_fill(pg, sqlite_path, b->segments > SEGMENTS_MOST ? b->segments / SEGMENTS_MOST : 1);
	return pg;
}

static void set_watermark(void *arg, uint64_t watermark)
{
	char sql[256];

	source_change_sql(sql, sizeof sql, watermark);
	server_run(arg, sql);
}

/* A topic of so many partitions: from the call until it is acknowledged, and then how long it takes
 * to list them all. */
static void create(const char *instance_dir, uint32_t partitions)
{
	struct shmeta *instance = env_open(instance_dir);
	struct shmeta_reader *reader = env_reader(instance);
	struct shmeta_partition partition;
	struct shmeta_client *client;
	struct shmeta_result result;
	struct shmeta_iter *iter;
	uint32_t listed = 0;
	char name[64];
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.partition_count = partitions}};
	enum shmeta_status status;
	double began;

	op.u.topic.name = (struct shmeta_str){name, (size_t)snprintf(name, sizeof name, "wide-%u", partitions)};
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		die("no client");
	began = now_s();
	status = shmeta_write(client, &op, 1, 60000, &result, NULL);
	if (status != SHMETA_OK || result.status != SHMETA_OK)
		die("create_topic of %u partitions: %s; %s", partitions, shmeta_strerror(status), result.text);
	began = now_s() - began;
	(void)snprintf(name, sizeof name, "create_topic.postgres.partitions_%u", partitions);
	result_value(result_add(name, "ms"), began * 1e3);
	target_max(name, 60000);
	(void)snprintf(name, sizeof name, "wide-%u", partitions);
	began = now_s();
	if (shmeta_begin(reader) != SHMETA_OK ||
	    shmeta_list_partitions(reader, name, strlen(name), NULL, &iter) != SHMETA_OK)
		die("%s: not listed", name);
	while (shmeta_next_partition(iter, &partition, NULL) == SHMETA_OK)
		listed += partition.partition_id == listed;
	shmeta_iter_free(iter);
	(void)shmeta_end(reader);
	began = now_s() - began;
	if (listed != partitions)
		die("%s: %u partitions listed in order", name, listed);
	(void)snprintf(name, sizeof name, "list_partitions.partitions_%u", partitions);
	result_value(result_add(name, "ms"), began * 1e3);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

void bench_postgres(struct bench *b)
{
	char uri[1024], idle_db[400], instance[400];
	uint64_t segments;
	PGconn *pg = fill(b, "load", b->db, uri, sizeof uri, &segments);
	pid_t daemon = 0;

	if (pg == NULL) {
		result_missing("load.postgres", "rows/s", "no PostgreSQL server could be started");
		return;
	}
	for (int round = 0; round < (b->quick ? 3 : 5); round++) {
		double took;

		env_kill(&daemon, SIGKILL);
		(void)snprintf(instance, sizeof instance, "%s/pg-load-%d", b->dir, round);
		result_value(result_add("limit.postgres_copy", "rows/s"), copy_out(pg));
		daemon = env_start_daemon(b, uri, instance, NULL, &took);
		result_value(result_add("load.postgres", "rows/s"), (double)segments / took);
	}
	target_min_ratio("load.postgres", 0.5, "limit.postgres_copy");
	source_visibility(b, "postgres", instance, 20, &(struct source_change){set_watermark, pg});
	create(instance, 10000);
	create(instance, 100000);
	env_kill(&daemon, SIGTERM);
	PQfinish(pg);

	source_idle_file(b, idle_db, sizeof idle_db);
	pg = fill(b, "idle", idle_db, uri, sizeof uri, &segments);
	source_idle(b, uri, "postgres_feed", NULL, 1);
	source_idle(b, uri, "postgres_poll", "source { read_only = true }", 10);
	PQfinish(pg);
}
