/* SPDX-License-Identifier: Apache-2.0
 * The ring of changed keys by itself: what it tells, how far back, and that nothing false is told
 * while it is written over or damaged. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page/journal.h"

TestSuite(journal, .timeout = 120);

enum { GENERATION = 3, BEGUN = 100, NAME_MAX_BYTES = 200 };

static struct shmeta_journal *journal_new(void)
{
	struct shmeta_journal *journal = aligned_alloc(SHMETA_PAGE, SHMETA_JOURNAL_BYTES);

	cr_assert_not_null(journal);
	memset(journal, 0, SHMETA_JOURNAL_BYTES);
	shmeta__journal_begin(journal, GENERATION, BEGUN, NULL);
	return journal;
}

/* What commit txn changes: some commits nothing; names of all lengths. */
static uint32_t key_count(uint64_t txn)
{
	return (uint32_t)(txn * 2654435761u >> 7) % 4;
}

static size_t key_text(uint64_t txn, uint32_t i, char *ret)
{
	size_t bytes = 8 + (txn * 31 + i * 7) % (NAME_MAX_BYTES - 8);

	memset(ret, 'a' + (int)(txn % 26), bytes);
	memcpy(ret, &txn, sizeof txn);
	return bytes;
}

static size_t make_keys(uint64_t txn, uint8_t *ret)
{
	size_t used = 0;

	for (uint32_t i = 0; i < key_count(txn); i++) {
		char text[NAME_MAX_BYTES];
		size_t bytes = key_text(txn, i, text);
		struct shmeta_journal_key key = {
			.tenant = 1, .partition_id = i, .cls = SHMETA_CLASS_AGENT, .name_bytes = (uint16_t)bytes};

		key.bytes = (uint16_t)((sizeof key + bytes + 7) & ~(size_t)7);
		memset(ret + used, 0, key.bytes);
		memcpy(ret + used, &key, sizeof key);
		memcpy(ret + used + sizeof key, text, bytes);
		used += key.bytes;
	}
	return used;
}

static void commit(struct shmeta_journal *journal, uint64_t txn)
{
	uint8_t keys[4 * (NAME_MAX_BYTES + 24)];
	size_t bytes = make_keys(txn, keys);

	shmeta__journal_put(journal, txn, keys, bytes, key_count(txn));
}

/* All that is told between the two commits is what they changed, in order. */
static bool tells_all(struct shmeta__journal_part *part, uint64_t since, uint64_t until)
{
	struct shmeta_journal_key key;
	char text[NAME_MAX_BYTES];
	const char *name;

	for (uint64_t txn = since + 1; txn <= until; txn++)
		for (uint32_t i = 0; i < key_count(txn); i++)
			if (!shmeta__journal_next(part, &key, &name) || part->txn != txn || key.partition_id != i ||
			    key.name_bytes != key_text(txn, i, text) || memcmp(name, text, key.name_bytes) != 0)
				return false;
	return !shmeta__journal_next(part, &key, &name);
}

/* OK, TOO_OLD, ... and whether what was told is right. */
static enum shmeta_status ask(const struct shmeta_journal *journal, uint64_t since, uint64_t until, bool *ret_right)
{
	struct shmeta__journal_part part;
	enum shmeta_status status = shmeta__journal_since(journal, since, until, &part);

	*ret_right = status != SHMETA_OK || tells_all(&part, since, until);
	if (status == SHMETA_OK)
		free(part.frames);
	return status;
}

#define EXPECT(journal, since, until, status)                                                                      \
	do {                                                                                                       \
		bool right_;                                                                                       \
		cr_expect_eq(ask(journal, since, until, &right_), status, "%d to %d", (int)(since), (int)(until)); \
		cr_expect(right_, "%d to %d", (int)(since), (int)(until));                                         \
	} while (0)

Test(journal, each_span_of_commits_is_told_in_order_and_what_was_before_it_is_too_old)
{
	struct shmeta_journal *journal = journal_new();

	EXPECT(journal, BEGUN, BEGUN, SHMETA_OK);
	/* nobody told of that commit: its writer keeps no journal */
	EXPECT(journal, BEGUN, BEGUN + 1, SHMETA_TOO_OLD);
	EXPECT(journal, BEGUN - 1, BEGUN, SHMETA_TOO_OLD);
	for (uint64_t txn = BEGUN + 1; txn <= BEGUN + 60; txn++)
		commit(journal, txn);
	for (uint64_t since = BEGUN; since <= BEGUN + 60; since++)
		for (uint64_t until = since; until <= BEGUN + 60; until++)
			EXPECT(journal, since, until, SHMETA_OK);
	EXPECT(journal, BEGUN - 1, BEGUN + 60, SHMETA_TOO_OLD);
	EXPECT(journal, 0, BEGUN + 60, SHMETA_TOO_OLD);
	free(journal);
}

Test(journal, what_the_ring_pushed_out_is_too_old_and_the_rest_is_told)
{
	struct shmeta_journal *journal = journal_new();
	uint64_t last = BEGUN + 30000, told = 0, first = 0;

	for (uint64_t txn = BEGUN + 1; txn <= last; txn++)
		commit(journal, txn);
	cr_assert_gt(journal->tail, 0);
	for (uint64_t since = BEGUN; since < last; since++) {
		bool right;
		enum shmeta_status status = ask(journal, since, last, &right);

		cr_assert(status == SHMETA_OK || (status == SHMETA_TOO_OLD && told == 0), "%d", (int)since);
		cr_assert(right);
		told += status == SHMETA_OK;
		if (told == 1)
			first = since;
		if (told > 100) /* each walks what it is told of */
			since += 97;
	}
	cr_expect_eq(first, journal->oldest);
	cr_expect_gt(last - first, 3000, "a megabyte holds more than %d commits", (int)(last - first));
	free(journal);
}

Test(journal, a_commit_of_too_many_keys_and_one_that_was_not_told_of_leave_a_gap)
{
	struct shmeta_journal *journal = journal_new();
	uint8_t *keys = calloc(1, SHMETA_JOURNAL_RING);

	commit(journal, BEGUN + 1);
	shmeta__journal_put(journal, BEGUN + 2, NULL, 0, 1);
	EXPECT(journal, BEGUN + 1, BEGUN + 2, SHMETA_TOO_OLD);
	EXPECT(journal, BEGUN + 2, BEGUN + 2, SHMETA_OK);
	commit(journal, BEGUN + 3);
	EXPECT(journal, BEGUN + 2, BEGUN + 3, SHMETA_OK);
	shmeta__journal_put(journal, BEGUN + 4, keys, SHMETA_JOURNAL_KEYS_MAX + 8, 1);
	EXPECT(journal, BEGUN + 3, BEGUN + 4, SHMETA_TOO_OLD);
	commit(journal, BEGUN + 6); /* 5 is missing */
	EXPECT(journal, BEGUN + 4, BEGUN + 6, SHMETA_TOO_OLD);
	EXPECT(journal, BEGUN + 5, BEGUN + 6, SHMETA_OK);
	free(keys);
	free(journal);
}

Test(journal, a_writer_that_starts_goes_on_where_the_numbers_meet_and_begins_anew_elsewhere)
{
	struct shmeta_journal *journal = journal_new(), *copy = journal_new();

	for (uint64_t txn = BEGUN + 1; txn <= BEGUN + 9; txn++)
		commit(journal, txn);
	shmeta__journal_begin(journal, GENERATION, BEGUN + 9, NULL);
	EXPECT(journal, BEGUN, BEGUN + 9, SHMETA_OK);
	memset(copy, 0, SHMETA_JOURNAL_BYTES);
	shmeta__journal_begin(copy, GENERATION + 4, BEGUN + 9, journal);
	EXPECT(copy, BEGUN, BEGUN + 9, SHMETA_OK);
	cr_expect_eq(copy->first_generation, GENERATION);
	cr_expect_eq(shmeta__journal_check(copy, GENERATION + 4), SHMETA_OK);
	cr_expect_eq(shmeta__journal_check(copy, GENERATION), SHMETA_ERR_CORRUPT);
	/* A commit of the store that the journal was not told of, because its writer was killed
	 * between the two. */
	shmeta__journal_begin(journal, GENERATION, BEGUN + 10, NULL);
	EXPECT(journal, BEGUN + 9, BEGUN + 10, SHMETA_TOO_OLD);
	commit(journal, BEGUN + 11);
	EXPECT(journal, BEGUN + 10, BEGUN + 11, SHMETA_OK);
	shmeta__journal_begin(copy, GENERATION + 5, BEGUN + 30, journal);
	EXPECT(copy, BEGUN + 11, BEGUN + 30, SHMETA_TOO_OLD);
	cr_expect_eq(copy->first_generation, GENERATION + 5);
	free(copy);
	free(journal);
}

Test(journal, a_damaged_byte_is_an_error_or_too_old_and_never_a_wrong_answer)
{
	struct shmeta_journal *journal = journal_new();
	unsigned seed = 11;
	int noticed = 0;

	for (uint64_t txn = BEGUN + 1; txn <= BEGUN + 200; txn++)
		commit(journal, txn);
	for (int i = 0; i < 20000; i++) {
		size_t at = SHMETA_PAGE + (size_t)rand_r(&seed) % journal->head;
		uint8_t *byte = (uint8_t *)journal + at, was = *byte;
		uint64_t since = BEGUN + (uint64_t)rand_r(&seed) % 200;
		bool right;

		*byte ^= (uint8_t)(1u << rand_r(&seed) % 8);
		noticed += ask(journal, since, BEGUN + 200, &right) == SHMETA_ERR_CORRUPT;
		cr_assert(right, "byte %zu", at);
		*byte = was;
	}
	cr_expect_gt(noticed, 5000);
	free(journal);
}

/* ---- with a writer beside ---- */

enum { BESIDE = 400000 };

static void *write_on(void *arg)
{
	for (uint64_t txn = BEGUN + 1; txn <= BEGUN + BESIDE; txn++)
		commit(arg, txn);
	return NULL;
}

Test(journal, what_is_told_while_the_ring_is_written_over_is_whole)
{
	struct shmeta_journal *journal = journal_new();
	uint64_t told = 0, old = 0;
	unsigned seed = 5;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, write_on, journal), 0);
	for (;;) {
		uint64_t until = shmeta_observe(&journal->newest), back = 1u << (unsigned)rand_r(&seed) % 13;
		bool right;
		enum shmeta_status status = ask(journal, until > BEGUN + back ? until - back : BEGUN, until, &right);

		cr_assert(status == SHMETA_OK || status == SHMETA_TOO_OLD, "status %d", (int)status);
		cr_assert(right);
		told += status == SHMETA_OK;
		old += status == SHMETA_TOO_OLD;
		if (until == BEGUN + BESIDE)
			break;
	}
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_expect_gt(told, 100, "told %d times, too old %d times", (int)told, (int)old);
	free(journal);
}
