/* SPDX-License-Identifier: Apache-2.0
 * What concerns a PostgreSQL source: first load against its own COPY, how soon a change is seen, what idling costs. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/server.h"
#include "bench/source.h"

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

/* A database with shmeta's schema and the rows of a SQLite file. */
static PGconn *fill(struct bench *b, const char *database, const char *sqlite_path, char *ret_uri, size_t bytes)
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
	server_fill(pg, sqlite_path);
	return pg;
}

static void change(void *arg, const char *sql)
{
	server_run(arg, sql);
}

void bench_postgres(struct bench *b)
{
	char uri[1024], idle_db[400], instance[400];
	PGconn *pg = fill(b, "load", b->db, uri, sizeof uri);
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
		result_value(result_add("load.postgres", "rows/s"), (double)b->row_count / took);
	}
	target_min_ratio("load.postgres", 0.5, "limit.postgres_copy");
	source_visibility(b, "postgres", instance, &(struct source_change){change, pg});
	env_kill(&daemon, SIGTERM);
	PQfinish(pg);

	source_idle_file(b, idle_db, sizeof idle_db);
	pg = fill(b, "idle", idle_db, uri, sizeof uri);
	source_idle(b, uri, "postgres_feed", NULL, 1);
	source_idle(b, uri, "postgres_poll", "source { read_only = true }", 10);
	PQfinish(pg);
}
