/* SPDX-License-Identifier: Apache-2.0
 * Lookups by handle in one thread, beside what bounds them. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/churn.h"
#include "bench/queries.h"

static struct {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta_handle **handles; /* by part */
	struct query *hot, *tail, *sealed, *repeat, *any;
	uint64_t any_at; /* where the random walk goes on */
} r;

static void begin(void)
{
	enum shmeta_status status;

	while ((status = shmeta_begin(r.reader)) == SHMETA_ERR_CONTENDED)
		;
	if (status != SHMETA_OK)
		die("begin: %s", shmeta_strerror(status));
}

static void begin_end(const char *name, size_t count)
{
	struct span begun = span_begin();

	for (size_t i = 0; i < count; i++) {
		begin();
		(void)shmeta_end(r.reader);
	}
	span_end(name, begun, (double)count);
}

static void open_handles(const struct bench *b)
{
	r.handles = calloc(b->part_count, sizeof(struct shmeta_handle *));
	if (r.handles == NULL)
		die("out of memory");
	begin();
	for (uint32_t i = 0; i < b->part_count; i++) {
		const struct part *p = &b->parts[i];

		if (shmeta_partition_open(r.reader, p->topic, strlen(p->topic), p->partition_id, &r.handles[i]) !=
		    SHMETA_OK)
			die("%s/%u: no handle", p->topic, p->partition_id);
	}
	(void)shmeta_end(r.reader);
}

static void check(const struct bench *b, const struct query *q, enum shmeta_status status,
                  const struct shmeta_segment *s)
{
	if (status != SHMETA_OK || s->base_offset != b->bases[q->row])
		die("find %s/%u %llu: %s", b->parts[q->part].topic, b->parts[q->part].partition_id,
		    (unsigned long long)q->offset, shmeta_strerror(status));
}

/* Each lookup has a snapshot of its own. */
static void find_as(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat,
                    const struct shmeta_read *read, struct shmeta_freshness *fresh)
{
	struct shmeta_segment s;
	struct span begun = span_begin();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			enum shmeta_status status;

			begin();
			status = shmeta_find_segment(r.handles[q[i].part], q[i].offset, read, &s, fresh);
			(void)shmeta_end(r.reader);
			check(b, &q[i], status, &s);
			keep(&s);
		}
	span_end(name, begun, (double)(count * repeat));
}

static void find(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_freshness f;

	find_as(name, b, q, count, repeat, NULL, &f);
}

static void find_ageless(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	find_as(name, b, q, count, repeat, NULL, NULL);
}

static void find_with_strings(const char *name, const struct bench *b, const struct query *q, size_t count,
                              size_t repeat)
{
	char buffer[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_read read = {.size = sizeof read, .buffer = buffer, .buffer_bytes = sizeof buffer};

	find_as(name, b, q, count, repeat, &read, NULL);
}

/* A snapshot for each batch. */
static void find_batches(const char *name, const struct bench *b, const struct query *q, size_t count, size_t batch)
{
	static struct shmeta_find finds[256];
	static struct shmeta_segment s[256];
	enum shmeta_status status[256];
	struct span begun = span_begin();

	for (size_t i = 0; i + batch <= count; i += batch) {
		for (size_t k = 0; k < batch; k++)
			finds[k] = (struct shmeta_find){r.handles[q[i + k].part], q[i + k].offset};
		begin();
		if (shmeta_find_segments(batch, finds, NULL, status, s) != SHMETA_OK)
			die("find_segments failed");
		(void)shmeta_end(r.reader);
		for (size_t k = 0; k < batch; k++)
			check(b, &q[i + k], status[k], &s[k]);
	}
	span_end(name, begun, (double)(count / batch * batch));
}

static void get_partition(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_partition p;
	struct shmeta_freshness f;
	struct span begun = span_begin();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			enum shmeta_status status;

			begin();
			status = shmeta_get_partition(r.handles[q[i].part], NULL, &p, &f);
			(void)shmeta_end(r.reader);
			if (status != SHMETA_OK)
				die("get_partition %s: %s", b->parts[q[i].part].topic, shmeta_strerror(status));
			keep(&p);
		}
	span_end(name, begun, (double)(count * repeat));
}

static void get_partitions(const char *name, const struct bench *b, const struct query *q, size_t count)
{
	enum { BATCH = 64 };
	struct shmeta_handle *handles[BATCH];
	static struct shmeta_partition p[BATCH];
	enum shmeta_status status[BATCH];
	struct span begun = span_begin();

	for (size_t i = 0; i + BATCH <= count; i += BATCH) {
		for (size_t k = 0; k < BATCH; k++)
			handles[k] = r.handles[q[i + k].part];
		begin();
		if (shmeta_get_partitions(BATCH, handles, NULL, status, p) != SHMETA_OK)
			die("get_partitions failed");
		(void)shmeta_end(r.reader);
		for (size_t k = 0; k < BATCH; k++)
			if (status[k] != SHMETA_OK || p[k].partition_id != b->parts[q[i + k].part].partition_id)
				die("get_partitions %s: %s", b->parts[q[i + k].part].topic, shmeta_strerror(status[k]));
	}
	span_end(name, begun, (double)(count / BATCH * BATCH));
}

static void list_topics(const char *name, bool copied)
{
	static char buffer[1 << 20];
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic t;
	size_t count = 0;
	struct span begun = span_begin();

	begin();
	if (shmeta_list_topics(r.reader, NULL, 0, 0, NULL, &iter) != SHMETA_OK)
		die("list_topics failed");
	for (; shmeta_next_topic(iter, &t, NULL) == SHMETA_OK; count++)
		if (copied && shmeta_copy_topic(&t, buffer, sizeof buffer, NULL) != SHMETA_OK)
			die("copy_topic failed");
	span_end(name, begun, (double)count);
	shmeta_iter_free(iter);
	(void)shmeta_end(r.reader);
}

static const struct query *next_random(size_t count)
{
	const struct query *q;

	if (r.any_at + count > RANDOM_QUERIES)
		r.any_at = 0;
	q = r.any + r.any_at;
	r.any_at += count;
	return q;
}

static void measure_hot(const struct bench *b)
{
	flat_figure("limit.flat.hot", b, r.hot, HOT_QUERIES, 100, flat_binary);
	begin_end("snapshot.begin_end", 1000000);
	find("find_segment.handle.hot", b, r.hot, HOT_QUERIES, 100);
	find_ageless("find_segment.handle.hot_ageless", b, r.hot, HOT_QUERIES, 100);
	find("find_segment.tail.hot", b, r.tail, HOT_QUERIES, 50);
	find("find_segment.sealed.hot", b, r.sealed, HOT_QUERIES, 50);
	find_ageless("find_segment.repeat", b, r.repeat, HOT_QUERIES, 100);
	find_with_strings("find_segment.with_strings", b, r.hot, HOT_QUERIES, 20);
	get_partition("get_partition.hot", b, r.hot, HOT_QUERIES, 100);
	lmdb_figure("peer.lmdb_floor.hot", r.hot, HOT_QUERIES, 30);
	list_topics("list_topics.per_topic", false);
	list_topics("list_topics.copied.per_topic", true);
}

static void measure_random(const struct bench *b, size_t count)
{
	/* What ran before has left the caches full of its own. */
	flat_figure(NULL, b, next_random(count / 4), count / 4, 1, flat_binary);
	flat_figure("limit.flat.random", b, next_random(count), count, 1, flat_binary);
	flat_figure("limit.flat.interpolation", b, next_random(count), count, 1, flat_interpolate);
	find(NULL, b, next_random(count / 4), count / 4, 1);
	find("find_segment.handle.random", b, next_random(count), count, 1);
	find_ageless("find_segment.handle.random_ageless", b, next_random(count), count, 1);
	find_batches("find_segment.batch_8.random", b, next_random(count), count, 8);
	find_batches("find_segment.batch_64.random", b, next_random(count), count, 64);
	find_batches("find_segment.batch_256.random", b, next_random(count), count, 256);
	get_partition("get_partition.random", b, next_random(count), count, 1);
	get_partitions("get_partition.batch_64.random", b, next_random(count), count);
	lmdb_figure(NULL, next_random(count / 4), count / 4, 1);
	lmdb_figure("peer.lmdb_floor.random", next_random(count), count, 1);
}

static void measure_committing(const struct bench *b, size_t count)
{
	pid_t churn = churn_start(b, 1000);
	uint64_t before;
	double at;

	find(NULL, b, next_random(count), count, 1); /* while the churn gets going */
	before = churn_commits(r.instance);
	at = now_s();
	find("find_segment.handle.random_committing", b, next_random(count), count, 4);
	result_value(result_add("commits_while_measuring", "1/s"),
	             (double)(churn_commits(r.instance) - before) / (now_s() - at));
	env_kill(&churn, SIGKILL);
}

void bench_reads(struct bench *b)
{
	uint64_t seed = b->seed;
	size_t batch = RANDOM_QUERIES / 8;

	r.instance = env_open(b->instance);
	r.reader = env_reader(r.instance);
	r.hot = queries_hot(b, HOT_QUERIES, &seed);
	r.tail = queries_tail(b, HOT_QUERIES, &seed);
	r.sealed = queries_sealed(b, HOT_QUERIES, &seed);
	r.repeat = queries_repeat(b, HOT_QUERIES, &seed);
	r.any = queries_random(b, RANDOM_QUERIES, b->part_count, &seed);
	open_handles(b);
	lmdb_build(b);
	env_pin();
	find(NULL, b, r.any, RANDOM_QUERIES, 1); /* every block touched and verified once */
	for (int round = 0; round < b->rounds; round++) {
		measure_hot(b);
		measure_random(b, batch);
		measure_committing(b, batch);
	}
	env_unpin();
	target_max("find_segment.handle.hot", 30);
	target_max_ratio("find_segment.handle.hot", 2.5, "limit.flat.hot");
	target_max_ratio("find_segment.handle.hot_ageless", 1.8, "limit.flat.hot");
	target_max_ratio("find_segment.repeat", 1, "limit.flat.hot");
	target_max("get_partition.hot", 30);
	target_max_ratio("find_segment.handle.random", 0.25, "peer.lmdb_floor.random");
	target_max_ratio("find_segment.handle.random", 1, "limit.flat.random");
	target_max_ratio("find_segment.batch_64.random", 0.08, "peer.lmdb_floor.random");
	target_max_ratio("find_segment.handle.random_committing", 1.1, "find_segment.handle.random");
	lmdb_close();
	shmeta_reader_free(r.reader);
	shmeta_close(r.instance);
	free(r.handles);
	free(r.hot);
	free(r.tail);
	free(r.sealed);
	free(r.repeat);
	free(r.any);
}
