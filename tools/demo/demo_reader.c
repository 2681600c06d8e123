/* SPDX-License-Identifier: Apache-2.0
 * A reader of the demo: an agent as any program would write it, that besides compares a sample of
 * its answers with what the same question in SQL gives on the database file itself. */
#include "tools/demo/demo.h"

#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, COMPARE_EVERY_NS = 1000000, TIME_EVERY = 16, CONTENDED_TRIES = 1000 };

struct reader {
	struct demo_shared *shared;
	struct demo_reader *counts;
	struct shmeta *instance;
	struct shmeta_reader *shm;
	struct shmeta_handle **handle; /* by partition */
	sqlite3 *db;
	sqlite3_stmt *find, *partition, *start;
	uint64_t random, compared_at_ns, probe_seen;
	uint32_t number;
};

uint64_t demo_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t power, bucket;

	if (ns < 8)
		return (uint32_t)ns;
	power = 63 - (uint32_t)__builtin_clzll(ns);
	bucket = (power - 2) * 8 + (uint32_t)(ns >> (power - 3) & 7);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

uint64_t demo_bucket_ns(uint32_t bucket)
{
	return bucket < 16 ? bucket : (8 + (uint64_t)(bucket & 7)) << (bucket / 8 - 1);
}

static void count(_Atomic uint64_t *counter)
{
	/* One process writes each counter; the driver only reads. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

static uint64_t next_random(struct reader *r)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return r->random;
}

__attribute__((format(printf, 3, 4))) static void trouble(struct reader *r, _Atomic uint64_t *counter, const char *fmt,
                                                          ...)
{
	va_list ap;

	if (atomic_load(counter) == 0 && r->counts->first_trouble[0] == '\0') {
		va_start(ap, fmt);
		(void)vsnprintf(r->counts->first_trouble, sizeof(r->counts->first_trouble), fmt, ap);
		va_end(ap);
	}
	count(counter);
}

static void failed(struct reader *r, const char *doing, enum shmeta_status status)
{
	char text[256] = "";

	(void)shmeta_last_error(r->instance, text, sizeof(text));
	trouble(r, &r->counts->failed, "%s: %s (%d) %s", doing, shmeta_strerror(status), (int)status, text);
}

/* ---- the same questions in SQL ---- */

static sqlite3_stmt *prepare(struct reader *r, const char *sql)
{
	sqlite3_stmt *statement = NULL;

	if (sqlite3_prepare_v2(r->db, sql, -1, &statement, NULL) != SQLITE_OK) {
		trouble(r, &r->counts->failed, "SQL: %s", sqlite3_errmsg(r->db));
		_exit(1);
	}
	return statement;
}

static bool bind(sqlite3_stmt *statement, const char *topic, uint32_t partition)
{
	return sqlite3_bind_text(statement, 1, topic, -1, SQLITE_STATIC) == SQLITE_OK &&
	       sqlite3_bind_int64(statement, 2, partition) == SQLITE_OK;
}

static bool same_text(sqlite3_stmt *statement, int column, struct shmeta_str have)
{
	const void *text = sqlite3_column_text(statement, column);
	size_t bytes = (size_t)sqlite3_column_bytes(statement, column);

	return bytes == have.bytes && (bytes == 0 || memcmp(text, have.data, bytes) == 0);
}

/* What the source says of an offset: a status, and with OK a row in r->find to compare. */
static enum shmeta_status source_find(struct reader *r, const char *topic, uint32_t partition, uint64_t offset)
{
	enum shmeta_status status = SHMETA_ABSENT;
	uint64_t high_watermark, start;

	if (!bind(r->partition, topic, partition) || !bind(r->start, topic, partition) ||
	    !bind(r->find, topic, partition) || sqlite3_bind_int64(r->find, 3, (sqlite3_int64)offset) != SQLITE_OK)
		return SHMETA_ERR_SYSTEM;
	if (sqlite3_step(r->find) == SQLITE_ROW)
		return SHMETA_OK;
	if (sqlite3_step(r->partition) == SQLITE_ROW) {
		high_watermark = (uint64_t)sqlite3_column_int64(r->partition, 0);
		start = high_watermark;
		if (sqlite3_step(r->start) == SQLITE_ROW && sqlite3_column_type(r->start, 0) != SQLITE_NULL)
			start = (uint64_t)sqlite3_column_int64(r->start, 0);
		status = offset >= high_watermark ? SHMETA_ABSENT_AT_END
		         : offset < start         ? SHMETA_ABSENT_BEFORE_START
		                                  : SHMETA_ABSENT_GAP;
	}
	return status;
}

static void source_done(struct reader *r)
{
	(void)sqlite3_reset(r->find);
	(void)sqlite3_reset(r->partition);
	(void)sqlite3_reset(r->start);
}

/* One answer of the cache against the file. While the topic is being changed the two may differ;
 * then the probe judges. */
static void compare(struct reader *r)
{
	struct demo_shared *shared = r->shared;
	uint32_t at = (uint32_t)(next_random(r) % shared->partition_count);
	struct demo_partition *p = &shared->partition[at];
	struct demo_topic *topic = &shared->topic[p->topic];
	uint64_t limit = atomic_load(&p->high_watermark) + 2, offset = next_random(r) % limit;
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_segment have;
	enum shmeta_status want, got;

	if (atomic_load(&topic->changing) != 0) {
		count(&r->counts->skipped);
		return;
	}
	do {
		got = shmeta_begin(r->shm);
		if (got != SHMETA_OK) {
			if (got != SHMETA_ERR_CONTENDED)
				failed(r, "begin", got);
			return;
		}
		got = shmeta_find_segment_named(r->shm, topic->name, strlen(topic->name), p->id, offset, NULL, &have,
		                                NULL);
		if (got == SHMETA_OK)
			got = shmeta_segment_strings_named(r->shm, topic->name, strlen(topic->name), &have, strings,
			                                   sizeof(strings));
	} while (shmeta_end(r->shm) == SHMETA_ERR_EXPIRED);
	want = source_find(r, topic->name, p->id, offset);
	if (atomic_load(&topic->changing) != 0) {
		count(&r->counts->skipped);
		source_done(r);
		return;
	}
	count(&r->counts->compared);
	if (want < SHMETA_OK)
		trouble(r, &r->counts->failed, "SQL: %s", sqlite3_errmsg(r->db));
	else if (got < SHMETA_OK || got == SHMETA_UNKNOWN)
		failed(r, "find", got);
	else if (want != got)
		trouble(r, &r->counts->wrong, "%s/%" PRIu32 " offset %" PRIu64 ": the file says '%s', the cache '%s'",
		        topic->name, p->id, offset, shmeta_strerror(want), shmeta_strerror(got));
	else if (want == SHMETA_OK &&
	         ((uint64_t)sqlite3_column_int64(r->find, 0) != have.base_offset ||
	          (uint64_t)sqlite3_column_int64(r->find, 1) != have.end_offset ||
	          (uint64_t)sqlite3_column_int64(r->find, 2) != have.record_count ||
	          (uint64_t)sqlite3_column_int64(r->find, 3) != have.size_bytes ||
	          sqlite3_column_int64(r->find, 4) != have.created_at_ms || !same_text(r->find, 5, have.id) ||
	          !same_text(r->find, 6, have.s3_bucket) || !same_text(r->find, 7, have.s3_key)))
		trouble(r, &r->counts->wrong, "%s/%" PRIu32 " offset %" PRIu64 ": base %" PRIu64 " key %s in the cache",
		        topic->name, p->id, offset, have.base_offset, have.s3_key.data);
	source_done(r);
}

/* ---- the change that is being made ---- */

/* 0: the old answer, 1: the new one, -1: neither. */
static int probe_answer(struct reader *r, const struct demo_probe *probe, enum shmeta_status *ret_status)
{
	size_t bytes = strlen(probe->topic);
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_topic topic;
	enum shmeta_status status = SHMETA_UNKNOWN;
	int answer = -1;

	switch (probe->kind) {
	case PROBE_FIND:
		status = shmeta_find_segment_named(r->shm, probe->topic, bytes, probe->partition, probe->offset, NULL,
		                                   &segment, NULL);
		if (status == SHMETA_ABSENT_AT_END)
			answer = 0;
		else if (status == SHMETA_OK && segment.base_offset == probe->offset &&
		         segment.end_offset == probe->value)
			answer = 1;
		break;
	case PROBE_WATERMARK:
		status = shmeta_get_partition_named(r->shm, probe->topic, bytes, probe->partition, NULL, &partition,
		                                    NULL);
		if (status == SHMETA_OK && partition.high_watermark == probe->before)
			answer = 0;
		else if (status == SHMETA_OK && partition.high_watermark == probe->value)
			answer = 1;
		break;
	case PROBE_APPEARS:
		status = shmeta_get_partition_named(r->shm, probe->topic, bytes, probe->partition, NULL, &partition,
		                                    NULL);
		answer = status == SHMETA_ABSENT ? 0 : status == SHMETA_OK ? 1 : -1;
		break;
	case PROBE_VANISHES:
		status = shmeta_get_topic(r->shm, probe->topic, bytes, NULL, &topic, NULL);
		answer = status == SHMETA_OK ? 0 : status == SHMETA_ABSENT ? 1 : -1;
		break;
	}
	*ret_status = status;
	return answer;
}

/* Inside a snapshot. */
static int probe(struct reader *r, uint64_t *ret_number)
{
	uint64_t number = atomic_load_explicit(&r->shared->probe_number, memory_order_acquire);
	struct demo_probe copy;
	enum shmeta_status status;
	int answer;

	*ret_number = number;
	if ((number & 1) == 0)
		return -1;
	copy = r->shared->probe;
	answer = probe_answer(r, &copy, &status);
	if (atomic_load(&r->shared->probe_number) != number)
		return -1; /* the driver went on meanwhile */
	count(&r->counts->lookups);
	if (answer < 0)
		trouble(r, &r->counts->wrong, "%s/%" PRIu32 ": neither what it was nor what it became: %s", copy.topic,
		        copy.partition, shmeta_strerror(status));
	else if (answer == 0 && r->probe_seen == number)
		trouble(r, &r->counts->wrong, "%s/%" PRIu32 ": the old answer after the new one", copy.topic,
		        copy.partition);
	return answer;
}

static void probe_seen(struct reader *r, uint64_t number)
{
	if (r->probe_seen == number)
		return;
	r->probe_seen = number;
	atomic_store(&r->counts->seen_at_ns, demo_now_ns());
	atomic_store_explicit(&r->counts->seen_probe, number, memory_order_release);
}

/* ---- lookups as fast as they go ---- */

static void look_up(struct reader *r, uint32_t i)
{
	struct demo_shared *shared = r->shared;
	uint32_t at = (uint32_t)(next_random(r) % shared->partition_count);
	struct demo_partition *p = &shared->partition[at];
	uint64_t high_watermark = atomic_load_explicit(&p->high_watermark, memory_order_relaxed);
	uint64_t offset = next_random(r) % (high_watermark + 2), began = 0;
	struct demo_topic *topic = &shared->topic[p->topic];
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_topic record;
	enum shmeta_status status = SHMETA_OK;

	if (r->handle[at] == NULL)
		status = shmeta_partition_open(r->shm, topic->name, strlen(topic->name), p->id, &r->handle[at]);
	if (i % TIME_EVERY == 0)
		began = demo_now_ns();
	if (status == SHMETA_OK && i % 8 == 7)
		status = shmeta_get_topic(r->shm, topic->name, strlen(topic->name), NULL, &record, NULL);
	else if (status == SHMETA_OK && i % 8 == 6)
		status = shmeta_get_partition(r->handle[at], NULL, &partition, NULL);
	else if (status == SHMETA_OK)
		status = shmeta_find_segment(r->handle[at], offset, NULL, &segment, NULL);
	if (began != 0)
		count(&r->counts->histogram[bucket_of(demo_now_ns() - began)]);
	count(&r->counts->lookups);
	if (status == SHMETA_OK) {
		count(&r->counts->found);
		if (i % 8 < 6 && (segment.base_offset > offset || segment.end_offset < offset))
			trouble(r, &r->counts->wrong, "%s/%" PRIu32 " offset %" PRIu64 ": [%" PRIu64 ", %" PRIu64 "]",
			        topic->name, p->id, offset, segment.base_offset, segment.end_offset);
	} else if (status > SHMETA_OK && status < SHMETA_UNKNOWN) {
		count(&r->counts->absent);
	} else {
		failed(r, "lookup", status);
	}
}

static void batch(struct reader *r)
{
	enum shmeta_status status = SHMETA_ERR_CONTENDED;
	uint64_t number = 0;
	int answer;

	for (int i = 0; i < CONTENDED_TRIES && status == SHMETA_ERR_CONTENDED; i++) {
		status = shmeta_begin(r->shm);
		if (status == SHMETA_ERR_CONTENDED)
			count(&r->counts->contended);
	}
	if (status != SHMETA_OK) {
		failed(r, "begin", status);
		return;
	}
	for (uint32_t i = 0; i < BATCH; i++)
		look_up(r, i);
	answer = probe(r, &number);
	status = shmeta_end(r->shm);
	if (status == SHMETA_ERR_EXPIRED)
		/* not registered at that moment, and too slow: by the rules, looked up again */
		count(&r->counts->expired);
	else if (status != SHMETA_OK)
		failed(r, "end", status);
	else if (answer == 1)
		probe_seen(r, number);
}

_Noreturn void demo_read(struct demo_shared *shared, uint32_t number)
{
	struct reader *r = calloc(1, sizeof(*r));
	char error[512] = "", agent[32];
	struct shmeta_options options = {
		.size = sizeof(options),
		.directory = shared->instance,
		.agent = agent,
		.threads = 1,
		.error = error,
		.error_bytes = sizeof(error),
	};
	enum shmeta_status status;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGINT, SIG_IGN); /* the driver says when to stop */
	(void)signal(SIGTERM, SIG_DFL);
	if (r == NULL)
		_exit(1);
	r->shared = shared;
	r->counts = &shared->reader[number];
	r->number = number;
	r->random = 0x9E3779B97F4A7C15u * (number + 1);
	r->handle = calloc(shared->partition_count, sizeof(struct shmeta_handle *));
	(void)snprintf(agent, sizeof(agent), "demo reader %" PRIu32, number + 1);
	if (r->handle == NULL || sqlite3_open_v2(shared->database, &r->db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
		trouble(r, &r->counts->failed, "SQL: %s", r->db != NULL ? sqlite3_errmsg(r->db) : "out of memory");
		_exit(1);
	}
	(void)sqlite3_busy_timeout(r->db, 5000);
	r->find = prepare(r,
	                  "SELECT base_offset, end_offset, record_count, size_bytes, created_at, id, s3_bucket, s3_key "
	                  "FROM segments WHERE topic = ?1 AND partition_id = ?2 AND base_offset <= ?3 AND "
	                  "end_offset >= ?3 ORDER BY base_offset DESC LIMIT 1");
	r->partition = prepare(r, "SELECT high_watermark FROM partitions WHERE topic = ?1 AND partition_id = ?2");
	r->start = prepare(r, "SELECT min(base_offset) FROM segments WHERE topic = ?1 AND partition_id = ?2");

	status = shmeta_open(&options, &r->instance);
	if (status == SHMETA_OK)
		status = shmeta_reader_new(r->instance, &r->shm);
	if (status != SHMETA_OK) {
		trouble(r, &r->counts->failed, "open: %s: %s", shmeta_strerror(status), error);
		_exit(1);
	}
	atomic_store(&r->counts->ready, 1);
	while (atomic_load_explicit(&shared->stop, memory_order_relaxed) == 0) {
		uint64_t now;

		batch(r);
		now = demo_now_ns();
		if (now - r->compared_at_ns > COMPARE_EVERY_NS) {
			compare(r);
			r->compared_at_ns = demo_now_ns();
		}
	}
	for (uint32_t i = 0; i < shared->partition_count; i++)
		shmeta_partition_close(r->handle[i]);
	free(r->handle);
	(void)sqlite3_finalize(r->find);
	(void)sqlite3_finalize(r->partition);
	(void)sqlite3_finalize(r->start);
	(void)sqlite3_close(r->db);
	shmeta_reader_free(r->shm);
	shmeta_close(r->instance);
	free(r);
	_exit(0);
}
