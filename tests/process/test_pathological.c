/* SPDX-License-Identifier: Apache-2.0
 * The workload that hurts caches most: eight processes add one tiny batch after the other to very
 * many partitions, many calls in flight each, while eight others follow the tails. Here for its
 * correctness alone; how fast it is the bench says. */
#include <criterion/criterion.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"

TestSuite(pathological, .timeout = 3600); /* make faults takes its time */

enum { WRITERS = 8, TAILERS = 8, PARTITIONS_MAX = 1000, IN_FLIGHT = 64, RECORDS = 3, PATIENCE_S = 600 };

static uint32_t partitions(void)
{
	return run_rounds(200, PARTITIONS_MAX);
}
static uint32_t batches(void)
{
	return run_rounds(100, 1000);
}

struct shared {
	_Atomic uint64_t acked[PARTITIONS_MAX]; /* adds acknowledged in the partition, in order */
	_Atomic int written;
	char why[WRITERS][300]; /* a writer's first answer that was wrong */
};

static struct run_daemon d;
static struct shared *shared;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
}

static void end(void)
{
	run_daemon_done(&d);
	(void)munmap(shared, sizeof *shared);
}

/* ---- children: no Criterion here ---- */

struct call {
	uint32_t partition;
	uint64_t n;
	int *in_flight, *wrong;
};

static void done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                 const struct shmeta_token *token)
{
	struct call *c = arg;

	(void)token;
	/* Order per partition is the order of arrival: answers come in the order of the calls. */
	if ((status != SHMETA_OK || count != 1 || results[0].status != SHMETA_OK ||
	     atomic_load(&shared->acked[c->partition]) != c->n) &&
	    ++*c->wrong == 1)
		(void)snprintf(shared->why[c->partition % WRITERS], sizeof shared->why[0],
		               "add %llu to partition %u behind %llu: call %d, %zu results, %d: %s",
		               (unsigned long long)c->n, c->partition,
		               (unsigned long long)atomic_load(&shared->acked[c->partition]), (int)status, count,
		               count > 0 ? (int)results[0].status : 0, count > 0 ? results[0].text : "");
	atomic_store(&shared->acked[c->partition], c->n + 1);
	--*c->in_flight;
	free(c);
}

static bool process(struct shmeta_client *client)
{
	struct pollfd fd = {.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};

	(void)poll(&fd, 1, 100);
	return shmeta_client_process(client, NULL) == SHMETA_OK;
}

static int write_all(uint32_t me)
{
	struct shmeta *instance = run_daemon_open(&d, "writer", 0);
	struct shmeta_client *client = NULL;
	int in_flight = 0, wrong = 0;
	double last = run_now_s() + PATIENCE_S;

	if (instance == NULL || shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		return 1;
	for (uint64_t n = 0; n < batches(); n++)
		for (uint32_t p = me; p < partitions(); p += WRITERS) {
			char id[64], key[96];
			struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			                       .name = {"tiny", 4},
			                       .partition_id = p,
			                       .u.segment = {.base_offset = n * RECORDS,
			                                     .end_offset = n * RECORDS + RECORDS - 1,
			                                     .record_count = RECORDS,
			                                     .size_bytes = 100 + n,
			                                     .created_at_ms = 1700000000000,
			                                     .s3_bucket = {"b", 1}}};
			struct call *c = malloc(sizeof *c);
			enum shmeta_status status;

			if (c == NULL)
				return 2;
			op.u.segment.id.bytes = (size_t)snprintf(id, sizeof id, "tiny-%u-%llu", p,
			                                         (unsigned long long)op.u.segment.base_offset);
			op.u.segment.id.data = id;
			op.u.segment.s3_key.bytes = (size_t)snprintf(key, sizeof key, "data/tiny/%u/%020llu.seg", p,
			                                             (unsigned long long)op.u.segment.base_offset);
			op.u.segment.s3_key.data = key;
			*c = (struct call){.partition = p, .n = n, .in_flight = &in_flight, .wrong = &wrong};
			in_flight++;
			while ((status = shmeta_submit(client, &op, 1, done, c)) == SHMETA_ERR_BUSY)
				(void)process(client);
			if (status != SHMETA_OK)
				return 3;
			while (in_flight >= IN_FLIGHT)
				if (!process(client) || run_now_s() > last)
					return 4;
		}
	while (in_flight > 0)
		if (!process(client) || run_now_s() > last)
			return 5;
	shmeta_client_close(client);
	shmeta_close(instance);
	return wrong == 0 ? 0 : 6;
}

/* What one look at a partition must hold: what was acknowledged before the snapshot is there, the
 * watermark belongs to the last segment of the same snapshot, and neither ever goes back. */
static int look(struct shmeta_handle *handle, uint64_t acked, uint64_t *seen)
{
	struct shmeta_partition partition;
	struct shmeta_segment last, found;
	enum shmeta_status status = shmeta_get_partition(handle, NULL, &partition, NULL);

	if (status != SHMETA_OK)
		return 10;
	status = shmeta_last_segment(handle, NULL, &last, NULL);
	if (status == SHMETA_ABSENT_AT_END)
		return partition.high_watermark == 0 && acked == 0 && *seen == 0 ? 0 : 11;
	if (status != SHMETA_OK || partition.high_watermark != last.end_offset + 1)
		return 12;
	if (partition.high_watermark < acked * RECORDS || partition.high_watermark < *seen)
		return 13;
	*seen = partition.high_watermark;
	if (acked == 0)
		return 0;
	status = shmeta_find_segment(handle, acked * RECORDS - 1, NULL, &found, NULL);
	return status == SHMETA_OK && found.base_offset == (acked - 1) * RECORDS && found.size_bytes == 100 + acked - 1
	               ? 0
	               : 14;
}

static int follow(uint32_t me)
{
	struct shmeta *instance = run_daemon_open(&d, "tailer", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	static struct shmeta_handle *handles[PARTITIONS_MAX];
	static uint64_t seen[PARTITIONS_MAX];
	uint64_t txn = 0;
	bool written;

	if (reader == NULL || run_daemon_begin(reader) != SHMETA_OK)
		return 1;
	for (uint32_t p = 0; p < partitions(); p++)
		if (shmeta_partition_open(reader, "tiny", 4, p, &handles[p]) != SHMETA_OK)
			return 2;
	(void)shmeta_end(reader);
	do {
		/* Read before the last look: that one then sees everything. */
		written = atomic_load(&shared->written);
		for (uint32_t i = 0; i < partitions(); i++) {
			uint32_t p = (i + me * 131) % partitions();
			uint64_t acked = atomic_load(&shared->acked[p]);
			int wrong;

			if (run_daemon_begin(reader) != SHMETA_OK)
				return 3;
			wrong = look(handles[p], acked, &seen[p]);
			if (shmeta_end(reader) == SHMETA_OK && wrong != 0)
				return wrong;
		}
		(void)!shmeta_wait_commit(instance, txn, 100, &txn);
	} while (!written);
	for (uint32_t p = 0; p < partitions(); p++)
		if (seen[p] != (uint64_t)batches() * RECORDS)
			return 4;
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}

/* ---- afterwards ---- */

static void expect_all_in_the_store(void)
{
	struct shmeta *instance = run_daemon_open(&d, "auditor", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	for (uint32_t p = 0; p < partitions(); p++) {
		struct shmeta_handle *handle;
		struct shmeta_iter *iter;
		struct shmeta_segment s;
		uint64_t n = 0;

		cr_assert_eq(shmeta_partition_open(reader, "tiny", 4, p, &handle), SHMETA_OK);
		cr_assert_eq(shmeta_list_segments(handle, 0, UINT64_MAX, NULL, &iter), SHMETA_OK);
		while (shmeta_next_segment(iter, &s) == SHMETA_OK) {
			char text[3 * (SHMETA_STRING_MAX + 1)], id[64];

			cr_assert_eq(s.base_offset, n * RECORDS, "partition %u: segment %llu begins at %llu", p,
			             (unsigned long long)n, (unsigned long long)s.base_offset);
			cr_assert_eq(shmeta_segment_strings(handle, &s, text, sizeof text), SHMETA_OK);
			(void)snprintf(id, sizeof id, "tiny-%u-%llu", p, (unsigned long long)s.base_offset);
			cr_assert_str_eq(s.id.data, id);
			n++;
		}
		cr_assert_eq(n, batches(), "partition %u has %llu segments", p, (unsigned long long)n);
		shmeta_iter_free(iter);
		shmeta_partition_close(handle);
	}
	(void)shmeta_end(reader);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static void expect_all_in_the_database(void)
{
	sqlite3 *db;
	sqlite3_stmt *q;
	uint64_t rows = 0;

	cr_assert_eq(sqlite3_open_v2(d.db, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	cr_assert_eq(
		sqlite3_prepare_v2(db,
	                           "SELECT s.partition_id, s.base_offset, s.id, p.high_watermark FROM segments s JOIN "
	                           "partitions p USING (topic, partition_id) ORDER BY 1, 2",
	                           -1, &q, NULL),
		SQLITE_OK);
	while (sqlite3_step(q) == SQLITE_ROW) {
		cr_assert_eq((uint64_t)sqlite3_column_int64(q, 0), rows / batches());
		cr_assert_eq((uint64_t)sqlite3_column_int64(q, 1), rows % batches() * RECORDS);
		cr_assert_eq((uint64_t)sqlite3_column_int64(q, 3), (uint64_t)batches() * RECORDS);
		rows++;
	}
	cr_assert_eq(rows, (uint64_t)partitions() * batches());
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(db);
}

Test(pathological, every_acknowledged_add_is_in_store_and_database_in_order_once_and_tails_never_go_back, .init = begin,
     .fini = end)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"tiny", 4}}};
	pid_t writer[WRITERS], tailer[TAILERS];
	struct shmeta_client *client;
	struct shmeta_result result;
	struct shmeta *instance;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "maker", 0);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	op.u.topic.partition_count = partitions();
	cr_assert_eq(shmeta_write(client, &op, 1, 20000, &result, NULL), SHMETA_OK);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	shmeta_client_close(client);
	shmeta_close(instance);
	for (uint32_t i = 0; i < TAILERS; i++) {
		tailer[i] = run_fork();
		if (tailer[i] == 0)
			_exit(follow(i));
	}
	for (uint32_t i = 0; i < WRITERS; i++) {
		writer[i] = run_fork();
		if (writer[i] == 0)
			_exit(write_all(i));
	}
	for (int i = 0; i < WRITERS; i++) {
		int status = run_reap(writer[i]);

		cr_expect_eq(status, 0, "writer %d: %d %s", i, status, shared->why[i]);
	}
	atomic_store(&shared->written, 1);
	for (int i = 0; i < TAILERS; i++) {
		int status = run_reap(tailer[i]);

		cr_expect_eq(status, 0, "tailer %d: %d", i, status);
	}
	expect_all_in_the_store();
	expect_all_in_the_database();
}
