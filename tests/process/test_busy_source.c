/* SPDX-License-Identifier: Apache-2.0
 * A SQLite file that another application locks again and again: a write is done, or its client is
 * told that it was not; nothing that was acknowledged is lost. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"

TestSuite(busy_source, .timeout = 3600); /* make faults takes its time */

enum { BATCH = 50, PATIENCE_MS = 60000 };

static struct run_daemon d;
static struct shmeta *instance;
static struct shmeta_client *client;

/* Not done, and nobody is in doubt about it. */
static bool is_refused(enum shmeta_status status)
{
	return status == SHMETA_ERR_BUSY || status == SHMETA_ERR_SOURCE;
}

static void setup(void)
{
	const struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                             .u.topic = {.name = {"busy", 4}, .partition_count = 1}};
	struct shmeta_result result;
	enum shmeta_status status;

	cr_assert_eq(run_daemon_init(&d), 0);
	/* Shorter than the other one's transactions: SQLITE_BUSY comes. */
	cr_assert_eq(
		run_daemon_configure(
			&d,
			"source { timeout_ms = 100ms }\nretry { min_ms = 5ms max_ms = 20ms }\nlog { level = err }\n",
			""),
		0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "writer", 0);
	cr_assert_not_null(instance);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	/* So short a time is too short on a busy machine now and then. */
	do
		status = shmeta_write(client, &op, 1, PATIENCE_MS, &result, NULL);
	while (is_refused(status) || (status == SHMETA_OK && is_refused(result.status)));
	cr_assert_eq(status, SHMETA_OK, "%s", shmeta_strerror(status));
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

static void teardown(void)
{
	shmeta_client_close(client);
	shmeta_close(instance);
	run_daemon_done(&d);
}

/* The other application: a transaction that changes a row and stays open for up to 250 ms. */
static _Noreturn void lock_again_and_again(void)
{
	unsigned int seed = 44;
	sqlite3 *db;

	if (sqlite3_open(d.db, &db) != SQLITE_OK || sqlite3_busy_timeout(db, 10000) != SQLITE_OK)
		_exit(1);
	for (;;) {
		if (sqlite3_exec(db, "BEGIN IMMEDIATE; UPDATE topics SET updated_at = updated_at + 1", NULL, NULL,
		                 NULL) == SQLITE_OK)
			(void)usleep((useconds_t)rand_r(&seed) % 250000);
		(void)sqlite3_exec(db, rand_r(&seed) % 4 == 0 ? "ROLLBACK" : "COMMIT", NULL, NULL, NULL);
		(void)usleep((useconds_t)rand_r(&seed) % 50000);
	}
}

static enum shmeta_status add(uint32_t base, struct shmeta_result result[BATCH])
{
	struct shmeta_op op[BATCH];
	char id[BATCH][16];

	for (uint32_t i = 0; i < BATCH; i++) {
		(void)snprintf(id[i], sizeof id[i], "s-%u", base + i);
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                           .name = {"busy", 4},
		                           .u.segment = {.base_offset = base + i,
		                                         .end_offset = base + i,
		                                         .record_count = 1,
		                                         .id = {id[i], strlen(id[i])},
		                                         .s3_bucket = {"b", 1},
		                                         .s3_key = {id[i], strlen(id[i])}}};
	}
	return shmeta_write(client, op, BATCH, PATIENCE_MS, result, NULL);
}

/* Each base once; UINT32_MAX is never one. */
static void read_bases(uint8_t *there, uint32_t bases)
{
	sqlite3 *db;
	sqlite3_stmt *q;

	cr_assert_eq(sqlite3_open_v2(d.db, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	(void)sqlite3_busy_timeout(db, 10000);
	cr_assert_eq(sqlite3_prepare_v2(db, "SELECT base_offset FROM segments", -1, &q, NULL), SQLITE_OK);
	while (sqlite3_step(q) == SQLITE_ROW) {
		uint32_t base = (uint32_t)sqlite3_column_int64(q, 0);

		cr_assert_lt(base, bases);
		there[base]++;
	}
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(db);
}

Test(busy_source, what_was_acknowledged_is_there_and_what_was_refused_is_not, .init = setup, .fini = teardown)
{
	const uint32_t wanted = run_rounds(2000, 100000);
	uint32_t acknowledged = 0, refused = 0, lost = 0, bases = 0;
	const uint32_t bases_max = wanted * 20;
	uint8_t *told = calloc(bases_max, 1), *there = calloc(bases_max, 1);
	pid_t other = run_fork();

	cr_assert(told != NULL && there != NULL);
	if (other == 0)
		lock_again_and_again();
	for (; (acknowledged < wanted || refused == 0) && bases < bases_max; bases += BATCH) {
		struct shmeta_result result[BATCH];
		enum shmeta_status status = add(bases, result);

		cr_assert(status == SHMETA_OK || is_refused(status), "%s", shmeta_strerror(status));
		for (uint32_t i = 0; i < BATCH; i++)
			if (status == SHMETA_OK && result[i].status == SHMETA_OK) {
				told[bases + i] = 1;
				acknowledged++;
			} else {
				refused++;
			}
	}
	(void)kill(other, SIGKILL);
	(void)run_reap(other);
	cr_assert_geq(acknowledged, wanted, "%u refused", refused);
	cr_assert_gt(refused, 0, "the file was never locked for longer than a write waits");
	read_bases(there, bases);
	for (uint32_t base = 0; base < bases; base++) {
		lost += told[base] && there[base] != 1;
		cr_expect_eq(told[base], there[base], "base %u", base);
	}
	figure("a SQLite file that another application locks for up to 250 ms at a time", acknowledged, 100000,
	       "writes", "%u lost, %u refused and not done", lost, refused);
	free(told);
	free(there);
}
