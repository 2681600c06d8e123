/* SPDX-License-Identifier: Apache-2.0
 * Lookups by name in one thread. Beside them what a process could do that had all of it in memory
 * of its own: a lock-free hash map (liburcu's), and, as the limit, a perfect hash. Both lead to the
 * flat array of the partition, and copy the row. */
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <urcu/rculfhash.h>
#include <urcu/urcu-memb.h>

#include "bench/queries.h"
#include "shm/record/record.h"

enum { TOPICS = 10000, SETS = 3, COUNT = 1 << 17 };
static const uint32_t set_partitions[SETS] = {64, 512, 10000};

static struct {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct query *hot, *set[SETS];
} n;

static void begin(struct shmeta_reader *reader)
{
	enum shmeta_status status;

	while ((status = shmeta_begin(reader)) == SHMETA_ERR_CONTENDED)
		;
	if (status != SHMETA_OK)
		die("begin: %s", shmeta_strerror(status));
}

/* ---- shmeta ---- */

static void find(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_segment s;
	struct shmeta_freshness f;
	struct span begun = span_begin();

	for (size_t k = 0; k < repeat; k++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];
			enum shmeta_status status;

			begin(n.reader);
			status = shmeta_find_segment_named(n.reader, p->topic, strlen(p->topic), p->partition_id,
			                                   q[i].offset, NULL, &s, &f);
			(void)shmeta_end(n.reader);
			if (status != SHMETA_OK || s.base_offset != b->bases[q[i].row])
				die("find %s/%u by name: %s", p->topic, p->partition_id, shmeta_strerror(status));
			keep(&f);
		}
	span_end(name, begun, (double)(count * repeat));
}

static void find_batches(const char *name, const struct bench *b, const struct query *q, size_t count)
{
	enum { BATCH = 64 };
	static struct shmeta_find_named finds[BATCH];
	static struct shmeta_segment s[BATCH];
	enum shmeta_status status[BATCH];
	struct span begun = span_begin();

	for (size_t i = 0; i + BATCH <= count; i += BATCH) {
		for (size_t k = 0; k < BATCH; k++) {
			const struct part *p = &b->parts[q[i + k].part];

			finds[k] = (struct shmeta_find_named){.topic = {p->topic, strlen(p->topic)},
			                                      .partition_id = p->partition_id,
			                                      .offset = q[i + k].offset};
		}
		begin(n.reader);
		if (shmeta_find_segments_named(n.reader, BATCH, finds, NULL, status, s) != SHMETA_OK)
			die("find_segments_named failed");
		(void)shmeta_end(n.reader);
		for (size_t k = 0; k < BATCH; k++)
			if (status[k] != SHMETA_OK || s[k].base_offset != b->bases[q[i + k].row])
				die("find %s by name: %s", b->parts[q[i + k].part].topic, shmeta_strerror(status[k]));
	}
	span_end(name, begun, (double)(count / BATCH * BATCH));
}

static void get_topic(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_topic t;
	struct shmeta_freshness f;
	struct span begun = span_begin();

	for (size_t k = 0; k < repeat; k++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];
			enum shmeta_status status;

			begin(n.reader);
			status = shmeta_get_topic(n.reader, p->topic, strlen(p->topic), NULL, &t, &f);
			(void)shmeta_end(n.reader);
			if (status != SHMETA_OK)
				die("get_topic %s: %s", p->topic, shmeta_strerror(status));
			keep(&t);
		}
	span_end(name, begun, (double)(count * repeat));
}

/* ---- ten thousand topics ---- */

static struct {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	char (*names)[96];
	uint32_t count;
	pid_t daemon;
} many;

static void many_open(const struct bench *b)
{
	char db[400], instance[400];
	sqlite3 *sq;
	sqlite3_stmt *q;

	(void)snprintf(db, sizeof db, "%s/topics.db", b->dir);
	(void)snprintf(instance, sizeof instance, "%s/topics", b->dir);
	env_generate(b, db, TOPICS, TOPICS, 0);
	many.names = calloc(TOPICS, sizeof *many.names);
	if (many.names == NULL || sqlite3_open_v2(db, &sq, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(sq, "SELECT name FROM topics", -1, &q, NULL) != SQLITE_OK)
		die("%s: cannot be read", db);
	while (many.count < TOPICS && sqlite3_step(q) == SQLITE_ROW)
		(void)snprintf(many.names[many.count++], sizeof *many.names, "%s",
		               (const char *)sqlite3_column_text(q, 0));
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(sq);
	many.daemon = env_start_daemon(b, db, instance, NULL, NULL);
	many.instance = env_open(instance);
	many.reader = env_reader(many.instance);
}

static void many_topics(const char *name, uint64_t *seed)
{
	struct shmeta_topic t;
	struct shmeta_freshness f;
	struct span begun = span_begin();

	for (int i = 0; i < COUNT; i++) {
		const char *topic = many.names[rng(seed) % many.count];
		enum shmeta_status status;

		begin(many.reader);
		status = shmeta_get_topic(many.reader, topic, strlen(topic), NULL, &t, &f);
		(void)shmeta_end(many.reader);
		if (status != SHMETA_OK)
			die("get_topic %s: %s", topic, shmeta_strerror(status));
		keep(&t);
	}
	span_end(name, begun, COUNT);
}

static void many_close(void)
{
	shmeta_reader_free(many.reader);
	shmeta_close(many.instance);
	env_kill(&many.daemon, SIGTERM);
	free(many.names);
}

/* ---- maps in the process's own memory ---- */

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

static uint64_t hash_of(const struct part *p)
{
	return mix(shmeta__name_hash(0, p->topic, strlen(p->topic)) + p->partition_id);
}

static void copy_row(const struct bench *b, const struct part *p, const struct query *q)
{
	struct flat_row out = b->rows[p->first + flat_binary(b->bases + p->first, p->count, q->offset)];

	keep(&out);
}

struct node {
	struct cds_lfht_node link;
	const struct part *part;
};

static struct cds_lfht *map;
static struct node *nodes;

static int is_part(struct cds_lfht_node *link, const void *key)
{
	const struct part *part = caa_container_of(link, struct node, link)->part, *wanted = key;

	return part->partition_id == wanted->partition_id && strcmp(part->topic, wanted->topic) == 0;
}

static void map_build(const struct bench *b)
{
	nodes = calloc(b->part_count, sizeof *nodes);
	map = cds_lfht_new_flavor(1 << 14, 1 << 14, 0, 0, &urcu_memb_flavor, NULL);
	if (nodes == NULL || map == NULL)
		die("out of memory");
	urcu_memb_register_thread();
	urcu_memb_read_lock();
	for (uint32_t i = 0; i < b->part_count; i++) {
		nodes[i].part = &b->parts[i];
		cds_lfht_add(map, hash_of(&b->parts[i]), &nodes[i].link);
	}
	urcu_memb_read_unlock();
}

static void map_find(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct cds_lfht_iter at;
	struct span begun = span_begin();

	for (size_t k = 0; k < repeat; k++)
		for (size_t i = 0; i < count; i++) {
			const struct part *wanted = &b->parts[q[i].part];

			urcu_memb_read_lock();
			cds_lfht_lookup(map, hash_of(wanted), is_part, wanted, &at);
			if (cds_lfht_iter_get_node(&at) == NULL)
				die("%s/%u is not in the hash map", wanted->topic, wanted->partition_id);
			copy_row(b, caa_container_of(cds_lfht_iter_get_node(&at), struct node, link)->part, &q[i]);
			urcu_memb_read_unlock();
		}
	span_end(name, begun, (double)(count * repeat));
}

static void map_free(void)
{
	struct cds_lfht_iter at;
	struct node *node;

	urcu_memb_read_lock();
	cds_lfht_for_each_entry(map, &at, node, link)(void) cds_lfht_del(map, &node->link);
	urcu_memb_read_unlock();
	(void)cds_lfht_destroy(map, NULL);
	urcu_memb_unregister_thread();
	free(nodes);
}

/* Hash and displace: a bucket's number sends each of its keys to a slot that no other key has. */
static struct {
	uint32_t buckets, slots; /* powers of two */
	uint32_t *displace, *slot;
} perfect;

static uint32_t perfect_slot(uint64_t hash, uint32_t displace)
{
	return (uint32_t)(mix(hash + displace * UINT64_C(0x9E3779B97F4A7C15)) & (perfect.slots - 1));
}

struct keyed {
	uint32_t bucket, size, part;
	uint64_t hash;
};

static int largest_first(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;

	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return (x->bucket > y->bucket) - (x->bucket < y->bucket);
}

/* 1: with this number each key of the bucket gets a free slot, and has it now. */
static int place(const struct keyed *keys, uint32_t count, uint32_t displace)
{
	uint32_t done = 0;

	for (; done < count; done++) {
		uint32_t *slot = &perfect.slot[perfect_slot(keys[done].hash, displace)];

		if (*slot != UINT32_MAX)
			break;
		*slot = keys[done].part;
	}
	if (done == count)
		return 1;
	while (done-- > 0)
		perfect.slot[perfect_slot(keys[done].hash, displace)] = UINT32_MAX;
	return 0;
}

static void perfect_build(const struct bench *b)
{
	struct keyed *keys = calloc(b->part_count, sizeof *keys);
	uint32_t *size;

	for (perfect.slots = 1; perfect.slots < b->part_count + b->part_count / 4; perfect.slots *= 2)
		;
	perfect.buckets = perfect.slots / 4;
	size = calloc(perfect.buckets, sizeof *size);
	perfect.displace = calloc(perfect.buckets, sizeof *perfect.displace);
	perfect.slot = malloc(perfect.slots * sizeof *perfect.slot);
	if (keys == NULL || size == NULL || perfect.displace == NULL || perfect.slot == NULL)
		die("out of memory");
	memset(perfect.slot, 0xff, perfect.slots * sizeof *perfect.slot);
	for (uint32_t i = 0; i < b->part_count; i++) {
		uint64_t hash = hash_of(&b->parts[i]);

		keys[i] = (struct keyed){
			.bucket = (uint32_t)(hash >> 32) & (perfect.buckets - 1), .part = i, .hash = hash};
		size[keys[i].bucket]++;
	}
	for (uint32_t i = 0; i < b->part_count; i++)
		keys[i].size = size[keys[i].bucket];
	qsort(keys, b->part_count, sizeof *keys, largest_first);
	for (uint32_t i = 0; i < b->part_count; i += keys[i].size)
		while (!place(&keys[i], keys[i].size, perfect.displace[keys[i].bucket]))
			perfect.displace[keys[i].bucket]++;
	free(keys);
	free(size);
}

static void perfect_find(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct span begun = span_begin();

	for (size_t k = 0; k < repeat; k++)
		for (size_t i = 0; i < count; i++) {
			const struct part *wanted = &b->parts[q[i].part], *found;
			uint64_t hash = hash_of(wanted);
			uint32_t displace = perfect.displace[(uint32_t)(hash >> 32) & (perfect.buckets - 1)];

			found = &b->parts[perfect.slot[perfect_slot(hash, displace)]];
			if (found->partition_id != wanted->partition_id || strcmp(found->topic, wanted->topic) != 0)
				die("%s/%u: the perfect hash is not", wanted->topic, wanted->partition_id);
			copy_row(b, found, &q[i]);
		}
	span_end(name, begun, (double)(count * repeat));
}

/* ---- the group ---- */

static void measure_set(const struct bench *b, int set)
{
	char name[64];

	(void)snprintf(name, sizeof name, "find_segment.name.random_%u", set_partitions[set]);
	find(NULL, b, n.set[set], COUNT / 4, 1);
	find(name, b, n.set[set], COUNT, 1);
	(void)snprintf(name, sizeof name, "peer.rculfhash.name.random_%u", set_partitions[set]);
	map_find(name, b, n.set[set], COUNT, 1);
	(void)snprintf(name, sizeof name, "limit.perfect_hash.name.random_%u", set_partitions[set]);
	perfect_find(name, b, n.set[set], COUNT, 1);
}

void bench_names(struct bench *b)
{
	uint64_t seed = b->seed ^ 0xa11;

	n.instance = env_open(b->instance);
	n.reader = env_reader(n.instance);
	n.hot = queries_hot(b, HOT_QUERIES, &seed);
	for (int i = 0; i < SETS; i++)
		n.set[i] = queries_random(b, COUNT, set_partitions[i], &seed);
	many_open(b);
	map_build(b);
	perfect_build(b);
	env_pin();
	for (int round = -1; round < b->rounds; round++) { /* the first warms up */
		const char *const hot[] = {"find_segment.name.hot",       "peer.rculfhash.name.hot",
		                           "limit.perfect_hash.name.hot", "get_topic.hot",
		                           "get_topic.random_1000",       "get_topic.random_10000"};
		bool warm = round < 0;

		find(warm ? NULL : hot[0], b, n.hot, HOT_QUERIES, 50);
		map_find(warm ? NULL : hot[1], b, n.hot, HOT_QUERIES, 50);
		perfect_find(warm ? NULL : hot[2], b, n.hot, HOT_QUERIES, 50);
		get_topic(warm ? NULL : hot[3], b, n.hot, HOT_QUERIES, 50);
		get_topic(warm ? NULL : hot[4], b, n.set[SETS - 1], COUNT, 1);
		many_topics(warm ? NULL : hot[5], &seed);
		for (int i = 0; i < SETS && !warm; i++)
			measure_set(b, i);
		if (!warm)
			find_batches("find_segment.name.batch_64.random_10000", b, n.set[SETS - 1], COUNT);
	}
	env_unpin();
	target_max("find_segment.name.hot", 120);
	target_max_ratio("find_segment.name.hot", 1.6, "find_segment.handle.hot");
	target_max_ratio("find_segment.name.random_10000", 1.3, "find_segment.handle.random");
	target_max("get_topic.hot", 80);
	map_free();
	free(perfect.displace);
	free(perfect.slot);
	many_close();
	shmeta_reader_free(n.reader);
	shmeta_close(n.instance);
	free(n.hot);
	for (int i = 0; i < SETS; i++)
		free(n.set[i]);
}
