/* SPDX-License-Identifier: Apache-2.0
 * `verify` finds nothing in a good store, and each kind of damage in a bad one, and says where. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/record/record.h"
#include "shm/store/store_inspect.h"
#include "tests/support/instance_dir.h"
#include "tests/support/store_rows.h"

static struct instance_dir dir;
static struct shmeta__store *store;
static struct shmeta_err err;

#define OK(call)                                                                               \
	do {                                                                                   \
		enum shmeta_status status_ = (call);                                           \
		cr_assert_eq(status_, SHMETA_OK, "%s: %d: %s", #call, (int)status_, err.text); \
	} while (0)

enum { TOPICS = 3, LONG_ROWS = 40000, SHORT_ROWS = 5 };

static const char *const names[TOPICS] = {"alpha", "beta", "gamma"};
static const struct shmeta__stamps stamps = {1000, 0};

static size_t small_record(enum shmeta_db db, uint8_t *key, void *out, size_t capacity, size_t *ret_key_bytes)
{
	struct shmeta_agent agent = {.agent_id = {"agent-1", 7}, .address = {"host:1", 6}};
	struct shmeta_group group = {.group_id = {"billing", 7}};
	struct shmeta_committed_offset offset = {.group_id = {"billing", 7}, .topic_id = 1, .partition_id = 1};
	struct shmeta_lease lease = {.leader_agent_id = {"agent-1", 7}, .topic_id = 1, .partition_id = 1, .epoch = 4};
	uint64_t number = shmeta__part_key(1, 1);

	switch (db) {
	case SHMETA_DB_AGENTS:
		*ret_key_bytes = shmeta__name_key(key, 1, "agent-1", 7);
		return shmeta__agent_encode(&agent, &stamps, key, *ret_key_bytes, out, capacity);
	case SHMETA_DB_GROUPS:
		*ret_key_bytes = shmeta__name_key(key, 1, "billing", 7);
		return shmeta__group_encode(&group, &stamps, key, *ret_key_bytes, out, capacity);
	case SHMETA_DB_OFFSETS:
		*ret_key_bytes = shmeta__offset_key(key, 1, "billing", 7, 1, 1);
		return shmeta__offset_encode(&offset, &stamps, key, *ret_key_bytes, out, capacity);
	default:
		memcpy(key, &number, sizeof number);
		*ret_key_bytes = sizeof number;
		return shmeta__lease_encode(&lease, &stamps, key, *ret_key_bytes, out, capacity);
	}
}
static const enum shmeta_db small[] = {SHMETA_DB_AGENTS, SHMETA_DB_GROUPS, SHMETA_DB_OFFSETS, SHMETA_DB_LEASES};

static struct shmeta__txn *begin(void)
{
	struct shmeta__txn *txn = NULL;

	OK(shmeta__txn_begin(store, UINT64_MAX, &txn, &err));
	return txn;
}
static void commit(struct shmeta__txn *txn)
{
	uint64_t number;

	OK(shmeta__txn_commit(txn, &number, &err));
}

static void setup(void)
{
	struct shmeta_store_format format = {0};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	struct shmeta__txn *txn;
	size_t n, bytes;

	instance_dir_make(&dir);
	OK(shmeta__store_create(dir.fd, 1, 64 << 20, 1000000000, &format, &store, &err));
	txn = begin();
	/* Partition 0 of each is long (directory pages, blocks, tail), partition 1 short. */
	for (uint32_t t = 1; t <= TOPICS; t++) {
		OK(store_rows_topic(store, txn, t, names[t - 1], &err));
		OK(store_rows_append(store, txn, t, 0, names[t - 1], LONG_ROWS, &err));
		OK(store_rows_append(store, txn, t, 1, names[t - 1], SHORT_ROWS, &err));
	}
	for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
		bytes = small_record(small[i], key, value, sizeof value, &n);
		OK(shmeta__put(txn, small[i], key, n, value, bytes, &err));
	}
	commit(txn);
}

static void teardown(void)
{
	shmeta__store_close(store);
	instance_dir_remove(&dir);
}

TestSuite(verify, .init = setup, .fini = teardown, .timeout = 60);

/* ---- what verify said ---- */

static char said[64][480];
static unsigned int said_count;

static void hear(void *arg, const char *sentence)
{
	(void)arg;
	if (said_count < sizeof said / sizeof said[0])
		(void)snprintf(said[said_count], sizeof said[0], "%s", sentence);
	said_count++;
}

static enum shmeta_status verify_generation(uint64_t number, struct shmeta__verify_report *report)
{
	struct shmeta__inspected *of;
	enum shmeta_status status;
	char path[160];

	said_count = 0;
	instance_dir_path(&dir, &path, number, "");
	OK(shmeta__inspect_open(path, &of, &err));
	status = shmeta__store_verify(of, hear, NULL, report, &err);
	shmeta__inspect_close(of);
	return status;
}

static enum shmeta_status verify(struct shmeta__verify_report *report)
{
	return verify_generation(1, report);
}

/* Damage was done: verify must say exactly `count` sentences, each of which holds one of the given
 * words. */
static void expect(unsigned int count, const char *const *words, size_t word_count)
{
	struct shmeta__verify_report report = {0};

	cr_assert_eq(verify(&report), SHMETA_ERR_CORRUPT, "nothing found");
	cr_assert_eq(report.problems, count, "%llu problems, first: %s", (unsigned long long)report.problems, said[0]);
	cr_assert_eq(said_count, count);
	for (unsigned int i = 0; i < count && i < sizeof said / sizeof said[0]; i++) {
		bool known = false;

		for (size_t w = 0; w < word_count; w++)
			known = known || strstr(said[i], words[w]) != NULL;
		cr_assert(known, "%s", said[i]);
	}
	for (size_t w = 0; w < word_count; w++) {
		bool found = false;

		for (unsigned int i = 0; i < count && i < sizeof said / sizeof said[0]; i++)
			found = found || strstr(said[i], words[w]) != NULL;
		cr_assert(found, "nobody said '%s'; first: %s", words[w], said[0]);
	}
}
#define EXPECT(count, ...)                                                 \
	do {                                                               \
		static const char *const words_[] = {__VA_ARGS__};         \
		expect((count), words_, sizeof words_ / sizeof words_[0]); \
	} while (0)

/* Write a record again with one byte changed. */
static void flip(enum shmeta_db db, const void *key, size_t key_bytes, size_t at)
{
	struct shmeta__txn *txn = begin();
	const void *value;
	size_t bytes;
	uint8_t *copy;

	OK(shmeta__get(txn, db, key, key_bytes, &value, &bytes, &err));
	copy = malloc(bytes);
	memcpy(copy, value, bytes);
	copy[at] ^= 0x10;
	OK(shmeta__put(txn, db, key, key_bytes, copy, bytes, &err));
	free(copy);
	commit(txn);
}

static void delete (enum shmeta_db db, const void *key, size_t key_bytes)
{
	struct shmeta__txn *txn = begin();

	OK(shmeta__delete(txn, db, key, key_bytes, &err));
	commit(txn);
}

/* The id and locator of the n-th block that the partition refers to. */
struct nth {
	unsigned int left;
	uint64_t id, locator;
};
static void count_block(void *arg, uint64_t id, uint64_t locator)
{
	struct nth *nth = arg;

	if (nth->left-- == 0) {
		nth->id = id;
		nth->locator = locator;
	}
}
static struct nth nth_block(uint64_t key, unsigned int n)
{
	struct nth nth = {.left = n};
	struct shmeta__part part = {0};
	struct shmeta__pages pages;
	struct shmeta__txn *txn;
	const void *head;
	size_t bytes;

	OK(shmeta__txn_read(store, &txn, &err));
	pages = shmeta__txn_pages(txn);
	OK(shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &err));
	OK(shmeta__part_open(&part, key, head, bytes, &pages));
	OK(shmeta__part_blocks(&part, count_block, &nth));
	shmeta__txn_abort(txn);
	cr_assert_neq(nth.id, 0, "the partition has fewer than %u blocks", n + 1);
	return nth;
}

/* ---- tests ---- */

Test(verify, a_good_store_has_no_problem_and_everything_is_counted)
{
	struct shmeta__verify_report report = {0};

	cr_assert_eq(verify(&report), SHMETA_OK, "%s", said[0]);
	cr_assert_eq(said_count, 0);
	cr_assert(report.topics == TOPICS && report.partitions == 2 * TOPICS);
	cr_assert_eq(report.segments, (uint64_t)TOPICS * (LONG_ROWS + SHORT_ROWS));
	cr_assert(report.agents == 1 && report.groups == 1 && report.offsets == 1 && report.leases == 1);
	cr_assert_gt(report.blocks, 3 * 96, "no directory pages: the test is too small");
	cr_assert_eq(report.problems, 0);
}

Test(verify, a_good_copy_and_a_dead_writers_store_have_no_problem)
{
	struct shmeta__verify_report report = {0};
	struct shmeta__store *copy;

	OK(shmeta__store_copy(store, dir.fd, 2, 0, &copy, &err));
	cr_assert_eq(verify_generation(2, &report), SHMETA_OK, "%s", said[0]);
	shmeta__store_close(copy);
	shmeta__store_close(store);
	store = NULL;
	cr_assert_eq(verify(&report), SHMETA_OK, "%s", said[0]);
	cr_assert_eq(report.topics, TOPICS);
}

Test(verify, a_changed_byte_of_a_topic_is_found)
{
	uint8_t key[SHMETA_KEY_MAX];

	flip(SHMETA_DB_NAMES, key, shmeta__name_key(key, 1, "beta", 4), 30);
	EXPECT(1, "topic 'beta'");
}

Test(verify, a_topic_without_its_id_is_found_and_so_are_its_orphans)
{
	uint64_t id = 2;

	delete (SHMETA_DB_TOPICS, &id, sizeof id);
	EXPECT(3, "'topics' does not know", "there is no such topic");
}

Test(verify, an_id_without_its_topic_is_found_and_so_is_the_count)
{
	uint8_t key[SHMETA_KEY_MAX];

	delete (SHMETA_DB_NAMES, key, shmeta__name_key(key, 1, "alpha", 5));
	EXPECT(2, "'names' does not know", "the counters say 3 topics, there are 2");
}

Test(verify, two_ids_that_lead_to_each_others_topics_are_found)
{
	struct shmeta__txn *txn = begin();
	uint8_t key[SHMETA_KEY_MAX];

	for (uint64_t id = 1; id <= 2; id++) {
		size_t n = shmeta__name_key(key, 1, names[2 - id], strlen(names[2 - id]));

		OK(shmeta__put(txn, SHMETA_DB_TOPICS, &id, sizeof id, key, n, &err));
	}
	commit(txn);
	EXPECT(4, "gives to another one", "which has id");
}

Test(verify, a_record_under_a_key_that_is_not_its_own_is_found)
{
	struct shmeta__txn *txn = begin();
	struct shmeta_topic topic = {.name = {"alpha", 5}, .partition_count = 2, .topic_id = 1};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	size_t n = shmeta__name_key(key, 1, "other", 5), bytes;

	/* Correctly checksummed: only the name within tells. */
	bytes = shmeta__topic_encode(&topic, &stamps, key, n, value, sizeof value);
	OK(shmeta__put(txn, SHMETA_DB_NAMES, key, n, value, bytes, &err));
	shmeta__store_counters(store)->topics++;
	commit(txn);
	EXPECT(2, "belongs to another key", "gives to another one");
}

Test(verify, a_changed_byte_of_a_head_is_found_and_so_are_the_blocks_it_no_longer_holds)
{
	uint64_t key = shmeta__part_key(3, 1);

	flip(SHMETA_DB_PARTS, &key, sizeof key, 40);
	EXPECT(2, "partition 1 of topic id 3", "segments, there are");
}

Test(verify, a_head_under_another_key_is_found)
{
	struct shmeta__txn *txn = begin();
	uint64_t from = shmeta__part_key(2, 1), to = shmeta__part_key(2, 7);
	const void *head;
	size_t bytes;
	uint8_t *copy;

	OK(shmeta__get(txn, SHMETA_DB_PARTS, &from, sizeof from, &head, &bytes, &err));
	copy = malloc(bytes);
	memcpy(copy, head, bytes);
	OK(shmeta__put(txn, SHMETA_DB_PARTS, &to, sizeof to, copy, bytes, &err));
	free(copy);
	shmeta__store_counters(store)->partitions++;
	commit(txn);
	EXPECT(1, "partition 7 of topic id 2");
}

Test(verify, a_changed_byte_of_any_block_or_directory_page_is_found)
{
	uint64_t key = shmeta__part_key(1, 0);
	static const unsigned int which[] = {0, 1, 50, 120};

	for (size_t i = 0; i < sizeof which / sizeof which[0]; i++) {
		struct nth block = nth_block(key, which[i]);
		int64_t at = (int64_t)(block.locator * SHMETA_PAGE + 16 + 200);
		struct shmeta__verify_report report = {0};
		uint8_t old[4], changed[4];
		struct shmeta__txn *txn;

		OK(shmeta__txn_read(store, &txn, &err));
		memcpy(old, shmeta__txn_pages(txn).base + at, sizeof old);
		shmeta__txn_abort(txn);
		for (int b = 0; b < 4; b++)
			changed[b] = (uint8_t)~old[b];
		instance_dir_overwrite(&dir, 1, "data.mdb", at, changed, sizeof changed);
		cr_assert_eq(verify(&report), SHMETA_ERR_CORRUPT, "block %u", which[i]);
		cr_assert_not_null(strstr(said[0], "partition 0 of topic id 1"), "%s", said[0]);
		instance_dir_overwrite(&dir, 1, "data.mdb", at, old, sizeof old);
		cr_assert_eq(verify(&report), SHMETA_OK, "%s", said[0]);
	}
}

Test(verify, a_block_that_is_gone_is_found)
{
	struct nth block = nth_block(shmeta__part_key(2, 0), 60);

	/* Its page still holds the rows: only the reference tells. */
	delete (SHMETA_DB_BLOCKS, &block.id, sizeof block.id);
	EXPECT(1, "which does not exist");
}

Test(verify, a_block_that_moved_is_found)
{
	struct nth block = nth_block(shmeta__part_key(2, 0), 60);
	struct shmeta__txn *txn = begin();
	const void *value;
	size_t bytes;
	uint8_t *copy;

	OK(shmeta__get(txn, SHMETA_DB_BLOCKS, &block.id, sizeof block.id, &value, &bytes, &err));
	copy = malloc(bytes);
	memcpy(copy, value, bytes);
	OK(shmeta__delete(txn, SHMETA_DB_BLOCKS, &block.id, sizeof block.id, &err));
	OK(shmeta__put(txn, SHMETA_DB_BLOCKS, &block.id, sizeof block.id, copy, bytes, &err));
	free(copy);
	commit(txn);
	EXPECT(1, "where it is not");
}

Test(verify, a_block_that_nobody_refers_to_is_found)
{
	struct shmeta__txn *txn = begin();
	struct shmeta__pager pager = shmeta__txn_pager(txn);
	uint64_t id, locator;
	void *block;

	OK(pager.alloc(pager.arg, SHMETA_BLOCK_BYTES, &id, &locator, &block));
	commit(txn);
	EXPECT(1, "no partition refers to it");
}

Test(verify, a_partition_removed_without_its_blocks_leaves_each_of_them_reported)
{
	uint64_t key = shmeta__part_key(3, 0);
	struct shmeta__verify_report report = {0};

	delete (SHMETA_DB_PARTS, &key, sizeof key);
	cr_assert_eq(verify(&report), SHMETA_ERR_CORRUPT);
	cr_assert_gt(report.problems, 96);
	cr_assert_not_null(strstr(said[0], "no partition refers to it"), "%s", said[0]);
}

Test(verify, a_changed_byte_of_every_small_record_is_found)
{
	static const char *const words[] = {"agent 'agent-1'", "group 'billing'", "offset of group 'billing",
	                                    "lease of partition 1 of topic id 1"};

	for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
		uint8_t key[SHMETA_KEY_MAX], value[1024];
		size_t n, bytes = small_record(small[i], key, value, sizeof value, &n);
		struct shmeta__txn *txn;

		flip(small[i], key, n, bytes - 1);
		expect(1, &words[i], 1);
		txn = begin();
		OK(shmeta__put(txn, small[i], key, n, value, bytes, &err));
		commit(txn);
	}
}

Test(verify, small_records_of_tenants_or_keys_that_are_not_theirs_are_found)
{
	struct shmeta__txn *txn = begin();
	struct shmeta_group group = {.group_id = {"billing", 7}};
	struct shmeta_lease lease = {.leader_agent_id = {"agent-1", 7}, .topic_id = 1, .partition_id = 1};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	uint64_t number = shmeta__part_key(1, 0);
	size_t n = shmeta__name_key(key, 2, "billing", 7), bytes;

	bytes = shmeta__group_encode(&group, &stamps, key, n, value, sizeof value);
	/* tenant 2 was never given */
	OK(shmeta__put(txn, SHMETA_DB_GROUPS, key, n, value, bytes, &err));
	bytes = shmeta__lease_encode(&lease, &stamps, &number, sizeof number, value, sizeof value);
	OK(shmeta__put(txn, SHMETA_DB_LEASES, &number, sizeof number, value, bytes, &err));
	commit(txn);
	EXPECT(2, "group 'billing'", "lease of partition 0");
}

Test(verify, counters_that_are_wrong_are_found_and_numbers_that_were_never_given)
{
	struct shmeta__txn *txn = begin();
	struct shmeta_store_counters good = *shmeta__store_counters(store);

	shmeta__store_counters(store)->topics++;
	shmeta__store_counters(store)->partitions--;
	shmeta__store_counters(store)->segments += 5;
	commit(txn);
	EXPECT(3, "say 4 topics", "say 5 partitions", "segments, there are");
	txn = begin();
	*shmeta__store_counters(store) = good;
	shmeta__store_counters(store)->next_topic_id = 3;
	shmeta__store_counters(store)->next_block_id--;
	commit(txn);
	EXPECT(2, "topic 'gamma' has id 3, which was never given", "has an id that was never given");
	txn = begin();
	*shmeta__store_counters(store) = good;
	shmeta__store_counters(store)->next_tenant = 1;
	commit(txn);
	EXPECT(7, "tenant '" SHMETA_DEFAULT_TENANT "'", "topic '", "agent", "group");
}

Test(verify, quarantined_rows_are_judged_by_their_bytes_their_keys_and_their_numbers)
{
	const struct shmeta__quarantined row = {.cls = SHMETA_CLASS_SEGMENT,
	                                        .tenant = {SHMETA_DEFAULT_TENANT, sizeof SHMETA_DEFAULT_TENANT - 1},
	                                        .topic = {"alpha", 5},
	                                        .base = 7,
	                                        .end = INT64_MAX,
	                                        .rows = 3,
	                                        .sentence = {"why", 3}};
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX], other[SHMETA_QUARANTINE_KEY_MAX], value[SHMETA_QUARANTINED_MAX];
	const struct shmeta__quarantine_place place = {.base = 7};
	size_t n = shmeta__quarantine_key(key, shmeta__quarantine_prefix(key, SHMETA_CLASS_SEGMENT, 1, "alpha", 5),
	                                  &place);
	size_t m = shmeta__quarantine_key(other, shmeta__quarantine_prefix(other, SHMETA_CLASS_SEGMENT, 1, "beta", 4),
	                                  &place);
	size_t bytes = shmeta__quarantined_encode(&row, &stamps, key, n, value, sizeof value);
	struct shmeta__verify_report report = {0};
	struct shmeta__txn *txn = begin();

	OK(shmeta__put(txn, SHMETA_DB_QUARANTINE, key, n, value, bytes, &err));
	commit(txn);
	EXPECT(2, "say 0 quarantined rows, there are 3", "say 0 entries in 'quarantine', there are 1");
	txn = begin();
	shmeta__store_counters(store)->quarantined = 3;
	shmeta__store_counters(store)->listed = 1;
	commit(txn);
	cr_assert_eq(verify(&report), SHMETA_OK, "%s", said[0]);
	cr_assert_eq(report.quarantined, 3);
	flip(SHMETA_DB_QUARANTINE, key, n, bytes - 1);
	EXPECT(2, "its record fails its checksum", "say 3 quarantined rows, there are 0");
	txn = begin();
	OK(shmeta__delete(txn, SHMETA_DB_QUARANTINE, key, n, &err));
	bytes = shmeta__quarantined_encode(&row, &stamps, other, m, value, sizeof value);
	OK(shmeta__put(txn, SHMETA_DB_QUARANTINE, other, m, value, bytes, &err));
	commit(txn);
	EXPECT(1, "belongs to another key");
}

Test(verify, a_lost_sentinel_is_found)
{
	static const enum shmeta_db all[] = {SHMETA_DB_META, SHMETA_DB_NAMES, SHMETA_DB_OFFSETS};
	uint64_t number = SHMETA_SENTINEL_NUMBER;

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		delete (all[i], SHMETA_SENTINEL_KEY, SHMETA_SENTINEL_BYTES);
	delete (SHMETA_DB_PARTS, &number, sizeof number);
	EXPECT(4, "'meta' has lost its sentinel", "'names' has", "'offsets' has", "'parts' has");
}
