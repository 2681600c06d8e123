/* SPDX-License-Identifier: Apache-2.0
 * A process that moves watermarks of a topic that no measured lookup reads. */
#include "bench/churn.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { CHURN_PARTITIONS = 16 };

static sqlite3 *open_source(const struct bench *b)
{
	sqlite3 *db;

	if (sqlite3_open_v2(b->db, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(db));
	(void)sqlite3_busy_timeout(db, 10000);
	if (sqlite3_exec(db, "PRAGMA synchronous = OFF", NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(db));
	return db;
}

void churn_prepare(const struct bench *b)
{
	sqlite3 *db = open_source(b);
	char sql[512];

	(void)snprintf(
		sql, sizeof sql,
		"INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES('%s', %d, 1, 1, '{}');"
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
		"SELECT '%s', i, 0, 1, 1 FROM n",
		CHURN_TOPIC, CHURN_PARTITIONS, CHURN_PARTITIONS - 1, CHURN_TOPIC);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(db));
	(void)sqlite3_close(db);
}

static void churn(const struct bench *b, unsigned per_second)
{
	sqlite3 *db = open_source(b);
	sqlite3_stmt *q;
	struct timespec next;

	if (sqlite3_prepare_v2(db,
	                       "UPDATE partitions SET high_watermark = high_watermark + 1 WHERE topic = '" CHURN_TOPIC
	                       "' AND partition_id = ?",
	                       -1, &q, NULL) != SQLITE_OK)
		_exit(1);
	(void)clock_gettime(CLOCK_MONOTONIC, &next);
	for (int i = 0;; i++) {
		(void)sqlite3_bind_int(q, 1, i % CHURN_PARTITIONS);
		(void)sqlite3_step(q);
		(void)sqlite3_reset(q);
		next.tv_nsec += 1000000000 / (long)per_second;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}

pid_t churn_start(const struct bench *b, unsigned per_second)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork failed");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		env_unpin();
		churn(b, per_second);
		_exit(0);
	}
	env_track(pid);
	return pid;
}

uint64_t churn_commits(struct shmeta *instance)
{
	struct shmeta_state state = {.size = sizeof state};

	return shmeta_get_state(instance, &state) == SHMETA_OK ? state.committed_txn : 0;
}
