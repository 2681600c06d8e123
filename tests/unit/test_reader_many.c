/* SPDX-License-Identifier: Apache-2.0
 * Lookups of many partitions: what readers and processes remember from one to the next must never
 * show in an answer. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/index/verified.h"
#include "tests/support/fake_writer.h"

enum { TOPICS = 30, PARTITIONS = 40, WIDTH = 10 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;

/* Of topic t and partition p: how many segments, of WIDTH offsets each; -1: not there. */
static int model[TOPICS][PARTITIONS];
static uint32_t topic_id[TOPICS];

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	(void)fake_commit(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_many, .init = set_up, .fini = tear_down, .timeout = 60);

static uint32_t below(uint64_t *seed, uint32_t n)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*seed >> 33) % n;
}

static size_t name_of(uint32_t t, char name[32])
{
	return (size_t)snprintf(name, 32, "team-%02u/orders/%u", t % 7, t);
}

static void fill(uint32_t t, uint32_t p, uint64_t *seed)
{
	model[t][p] = (int)(below(seed, 3) != 0 ? below(seed, 20) : below(seed, 900));
	fake_even_partition(w, topic_id[t], p, (size_t)model[t][p], WIDTH);
}

static void fill_topic(uint32_t t, uint64_t *seed)
{
	char name[32];

	(void)name_of(t, name);
	topic_id[t] = fake_simple_topic(w, name, PARTITIONS);
	for (uint32_t p = 0; p < PARTITIONS; p++)
		fill(t, p, seed);
}

static void fill_all(uint64_t *seed)
{
	fake_begin(w);
	for (uint32_t t = 0; t < TOPICS; t++)
		fill_topic(t, seed);
	(void)fake_commit(w);
	fake_stamp_all(w);
}

/* What the model says of an offset. */
static enum shmeta_status expected(uint32_t t, uint32_t p, uint64_t offset)
{
	return model[t][p] < 0                          ? SHMETA_ABSENT
	       : offset < (uint64_t)model[t][p] * WIDTH ? SHMETA_OK
	                                                : SHMETA_ABSENT_AT_END;
}

static uint64_t any_offset(uint32_t t, uint32_t p, uint64_t *seed)
{
	return below(seed, (uint32_t)(model[t][p] < 0 ? 1 : model[t][p] + 1) * WIDTH);
}

static void look(uint64_t *seed)
{
	uint32_t t = below(seed, TOPICS), p = below(seed, PARTITIONS);
	uint64_t offset = any_offset(t, p, seed);
	struct shmeta_segment s;
	enum shmeta_status status;
	char name[32];
	size_t bytes = name_of(t, name);

	status = shmeta_find_segment_named(reader, name, bytes, p, offset, NULL, &s, NULL);
	cr_assert_eq(status, expected(t, p, offset), "%s/%u %llu: %s", name, p, (unsigned long long)offset,
	             shmeta_strerror(status));
	if (status == SHMETA_OK) {
		cr_assert_eq(s.base_offset, offset / WIDTH * WIDTH);
		cr_assert_eq(s.partition_id, p);
	}
}

static void change(uint64_t *seed)
{
	uint32_t t = below(seed, TOPICS);
	char name[32];

	fake_begin(w);
	(void)name_of(t, name);
	switch (below(seed, 4)) {
	case 0: /* the same name, another topic; or none, until it is made again */
		if (model[t][0] >= 0) {
			fake_delete_topic(w, NULL, name);
			for (uint32_t p = 0; p < PARTITIONS; p++)
				model[t][p] = -1;
		} else {
			fill_topic(t, seed);
		}
		break;
	default:
		for (int i = 0; i < 5 && model[t][0] >= 0; i++)
			fill(t, below(seed, PARTITIONS), seed);
		break;
	}
	(void)fake_commit(w);
	fake_stamp_all(w);
}

Test(reader_many, partitions_are_found_by_name_whatever_commits_have_moved)
{
	uint64_t seed = 7;

	fill_all(&seed);
	for (int round = 0; round < 150; round++) {
		cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
		for (int i = 0; i < 800; i++)
			look(&seed);
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
		change(&seed);
		if (round == 70)
			fake_switch_generation(w);
	}
}

/* ---- batches ---- */

enum { BATCH = 150, HANDLES = TOPICS * 4 };

static struct shmeta_find_named named[BATCH];
static char names[BATCH][32];
static struct shmeta_handle *handles[HANDLES];

static void same_segment(const struct shmeta_segment *a, const struct shmeta_segment *b)
{
	cr_assert_eq(a->base_offset, b->base_offset);
	cr_assert_eq(a->end_offset, b->end_offset);
	cr_assert_eq(a->partition_id, b->partition_id);
	cr_assert_eq(a->size_bytes, b->size_bytes);
	cr_assert_arr_eq(a->locator, b->locator, sizeof a->locator);
}

static void batch_by_name(uint64_t *seed)
{
	struct shmeta_segment s[BATCH], one;
	enum shmeta_status status[BATCH];
	size_t count = below(seed, BATCH + 1);

	for (size_t i = 0; i < count; i++) {
		uint32_t t = below(seed, TOPICS), p = below(seed, PARTITIONS);

		named[i] = (struct shmeta_find_named){
			.topic = {names[i], name_of(t, names[i])}, .partition_id = p, .offset = any_offset(t, p, seed)};
		switch (below(seed, 20)) {
		case 0:
			named[i].topic.bytes--; /* no such topic, or another one */
			break;
		case 1:
			named[i].partition_id = PARTITIONS;
			break;
		case 2:
			named[i].topic = (struct shmeta_str){NULL, 3};
			break;
		case 3:
			named[i].topic = (struct shmeta_str){"", 0};
			break;
		default:
			break;
		}
	}
	cr_assert_eq(shmeta_find_segments_named(reader, count, named, NULL, status, s), SHMETA_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(status[i],
		             shmeta_find_segment_named(reader, named[i].topic.data, named[i].topic.bytes,
		                                       named[i].partition_id, named[i].offset, NULL, &one, NULL));
		if (named[i].topic.data == NULL)
			cr_assert_eq(status[i], SHMETA_ERR_INVALID_ARGUMENT);
		if (status[i] == SHMETA_OK)
			same_segment(&s[i], &one);
	}
}

static void batch_by_handle(uint64_t *seed)
{
	static struct shmeta_partition p[BATCH], partition;
	struct shmeta_handle *some[BATCH];
	struct shmeta_find finds[BATCH];
	struct shmeta_segment s[BATCH], one;
	enum shmeta_status status[BATCH];
	size_t count = below(seed, BATCH + 1);

	for (size_t i = 0; i < count; i++) {
		some[i] = handles[below(seed, HANDLES)];
		finds[i] = (struct shmeta_find){some[i], below(seed, 2) ? below(seed, 200) : below(seed, 9000)};
	}
	cr_assert_eq(shmeta_find_segments(count, finds, NULL, status, s), SHMETA_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(status[i], shmeta_find_segment(finds[i].handle, finds[i].offset, NULL, &one, NULL));
		if (status[i] == SHMETA_OK)
			same_segment(&s[i], &one);
	}
	cr_assert_eq(shmeta_get_partitions(count, some, NULL, status, p), SHMETA_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(status[i], shmeta_get_partition(some[i], NULL, &partition, NULL));
		if (status[i] == SHMETA_OK)
			cr_assert_eq(memcmp(&p[i], &partition, sizeof partition), 0);
	}
}

static void batch_of_topics(uint64_t *seed)
{
	struct shmeta_str wanted[BATCH];
	static struct shmeta_topic topics[BATCH], one;
	enum shmeta_status status[BATCH];
	size_t count = below(seed, BATCH + 1);

	for (size_t i = 0; i < count; i++)
		wanted[i] = (struct shmeta_str){names[i], name_of(below(seed, TOPICS + 2), names[i])};
	cr_assert_eq(shmeta_get_topics(reader, count, wanted, NULL, status, topics), SHMETA_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert_eq(status[i], shmeta_get_topic(reader, wanted[i].data, wanted[i].bytes, NULL, &one, NULL));
		if (status[i] == SHMETA_OK)
			cr_assert_eq(topics[i].topic_id, one.topic_id);
	}
}

Test(reader_many, batches_answer_what_single_lookups_answer)
{
	uint64_t seed = 11;
	char name[32];

	fill_all(&seed);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	for (uint32_t i = 0; i < HANDLES; i++)
		cr_assert_eq(shmeta_partition_open(reader, name, name_of(i % TOPICS, name), i / TOPICS, &handles[i]),
		             SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	for (int round = 0; round < 60; round++) {
		cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
		for (int i = 0; i < 4; i++) {
			batch_by_handle(&seed);
			batch_by_name(&seed);
			batch_of_topics(&seed);
		}
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
		change(&seed);
	}
	for (uint32_t i = 0; i < HANDLES; i++)
		shmeta_partition_close(handles[i]);
}

Test(reader_many, an_item_of_a_batch_is_unknown_while_its_class_was_never_loaded)
{
	struct shmeta_find_named finds[2] = {{.topic = {"t", 1}, .offset = 5}, {.topic = {"u", 1}, .offset = 5}};
	enum shmeta_status status[2];
	struct shmeta_segment s[2];
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_even_partition(w, id, 0, 3, WIDTH);
	(void)fake_commit(w);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_find_segments_named(reader, 2, finds, NULL, status, s), SHMETA_OK);
	cr_assert_eq(status[0], SHMETA_OK);
	cr_assert_eq(status[1], SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_find_segments_named(reader, 1, NULL, NULL, status, s), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segments_named(NULL, 0, NULL, NULL, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segments_named(reader, 0, NULL, NULL, NULL, NULL), SHMETA_OK);
	/* The snapshot as a whole is gone. */
	fake_revoke(w);
	cr_assert_eq(shmeta_find_segments_named(reader, 2, finds, NULL, status, s), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_find_segments_named(reader, 2, finds, NULL, status, s), SHMETA_ERR_NO_SNAPSHOT);
}

/* The first byte of a block's checksum, in the file. */
static void flip(uint64_t locator)
{
	char path[128];
	uint8_t byte;
	int fd;

	(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", w->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, &byte, 1, (off_t)(locator * 4096 + 16)), 1);
	byte ^= 1;
	cr_assert_eq(pwrite(fd, &byte, 1, (off_t)(locator * 4096 + 16)), 1);
	(void)close(fd);
}

Test(reader_many, a_block_that_one_reader_has_verified_is_known_to_all_of_the_process)
{
	struct shmeta_reader *other = fake_reader(instance);
	struct shmeta_handle *handle, *sibling;
	struct shmeta_segment s;
	uint32_t id;

	cr_assert_not_null(other);
	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_even_partition(w, id, 0, 2000, WIDTH);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_begin(other), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(other, "t", 1, 0, &sibling), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment(handle, 0, NULL, &s, NULL), SHMETA_OK);
	cr_assert_neq(s.locator[0], 0, "a block, not the tail");
	flip(s.locator[0]);
	cr_assert_eq(shmeta_find_segment(sibling, 0, NULL, &s, NULL), SHMETA_OK);
	flip(s.locator[0]);
	/* One that nobody has verified is verified. */
	flip(s.locator[0] + 1);
	cr_assert_eq(shmeta_find_segment(sibling, 500 * WIDTH, NULL, &s, NULL), SHMETA_ERR_CORRUPT);
	cr_assert_eq(shmeta_find_segment(handle, 500 * WIDTH, NULL, &s, NULL), SHMETA_ERR_CORRUPT);
	cr_assert_eq(shmeta_end(other), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_partition_close(handle);
	shmeta_partition_close(sibling);
	shmeta_reader_free(other);
}

Test(reader_many, a_set_of_verified_blocks_forgets_but_never_invents)
{
	static struct shmeta__verified verified;
	const uint64_t turn = (uint64_t)SHMETA_VERIFIED_WORDS * SHMETA_VERIFIED_GROUP;

	cr_assert_not(shmeta__verified_has(NULL, 0));
	cr_assert_not(shmeta__verified_has(&verified, 0));
	for (uint64_t id = 0; id < 2 * turn; id += 3)
		shmeta__verified_add(&verified, id);
	for (uint64_t id = 0; id < 4 * turn; id++)
		cr_assert(!shmeta__verified_has(&verified, id) || (id < 2 * turn && id % 3 == 0), "id %llu",
		          (unsigned long long)id);
	/* What shares a word with nothing added later is there. */
	cr_assert(shmeta__verified_has(&verified, (turn + 2) / 3 * 3));
	/* Ids beyond what a word can name. */
	shmeta__verified_add(&verified, UINT64_MAX);
	cr_assert_not(shmeta__verified_has(&verified, UINT64_MAX));
	cr_assert_not(shmeta__verified_has(&verified, UINT32_MAX * (uint64_t)SHMETA_VERIFIED_GROUP));
}
