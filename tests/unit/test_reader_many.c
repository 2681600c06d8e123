/* SPDX-License-Identifier: Apache-2.0
 * Lookups of many partitions: what readers and processes remember from one to the next must never show in an answer. */
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
