/* SPDX-License-Identifier: Apache-2.0
 * The small records: what is encoded comes back, what is damaged is noticed, what is foreign is
 * harmless; names and sentences. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"
#include "base/utf8.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "tests/support/places.h"

TestSuite(record, .timeout = 60);
TestSuite(text, .timeout = 60);

/* A small generator of our own, so that every run sees the same rows. */
static uint64_t seed = 0x5eed;
static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Any number, also extreme ones. */
static uint64_t number(void)
{
	switch (any() % 6) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return INT64_MAX;
	case 3:
		return any() % 100;
	default:
		return any();
	}
}

static char pool[1 << 20];
static size_t pool_at;

static struct shmeta_str string(size_t max)
{
	size_t bytes = any() % 4 == 0 ? 0 : any() % 5 == 0 ? max : any() % (max + 1);

	if (pool_at + bytes > sizeof pool)
		pool_at = 0;
	for (size_t i = 0; i < bytes; i++)
		pool[pool_at + i] = (char)any();
	pool_at += bytes;
	return (struct shmeta_str){pool + pool_at - bytes, bytes};
}

/* A copy that ends where its memory ends: the sanitizer sees every byte read behind it. */
static void *exactly(const void *bytes, size_t count)
{
	void *copy = malloc(count > 0 ? count : 1);

	cr_assert_not_null(copy);
	if (count > 0)
		memcpy(copy, bytes, count);
	return copy;
}

/* A packed map of n keys in ascending order. */
static struct shmeta_map map(uint32_t n, uint32_t value_bytes)
{
	static uint8_t bytes[4][SHMETA_MAP_MAX + 4096];
	static int turn;
	uint8_t *out = bytes[turn = (turn + 1) % 4];
	size_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t key_bytes = 8;
		char key[16];

		(void)snprintf(key, sizeof key, "key%05u", i);
		memcpy(out + at, &key_bytes, 4);
		memcpy(out + at + 4, &value_bytes, 4);
		memcpy(out + at + 8, key, 8);
		memset(out + at + 16, 'v', value_bytes);
		at += 16 + value_bytes;
	}
	return (struct shmeta_map){out, at};
}

static bool same(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}
static bool same_map(struct shmeta_map a, struct shmeta_map b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* ---- one row of each kind, made, encoded, decoded, compared ---- */

enum { KINDS = 6, VALUE_MAX = SHMETA_AGENT_MAX > SHMETA_SMALL_MAX ? SHMETA_AGENT_MAX : SHMETA_SMALL_MAX };

union row {
	struct shmeta_topic topic;
	struct shmeta_agent agent;
	struct shmeta_group group;
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;
	struct shmeta__quarantined quarantined;
};

static union row make(int kind)
{
	union row row = {0};

	switch (kind) {
	case 0:
		row.topic = (struct shmeta_topic){.name = string(SHMETA_NAME_MAX),
		                                  .config = map((uint32_t)(any() % 40), (uint32_t)(any() % 30)),
		                                  .cleanup_policy = string(SHMETA_STRING_MAX),
		                                  .created_at_ms = (int64_t)number(),
		                                  .updated_at_ms = (int64_t)number(),
		                                  .has_retention = (uint32_t)any() % 2,
		                                  .partition_count = (uint32_t)number(),
		                                  .topic_id = (uint32_t)number()};
		row.topic.retention_ms = row.topic.has_retention ? (int64_t)number() : 0;
		break;
	case 1:
		row.agent = (struct shmeta_agent){.agent_id = string(SHMETA_STRING_MAX),
		                                  .address = string(SHMETA_STRING_MAX),
		                                  .availability_zone = string(SHMETA_STRING_MAX),
		                                  .agent_group = string(SHMETA_STRING_MAX),
		                                  .metadata = map((uint32_t)(any() % 40), (uint32_t)(any() % 30)),
		                                  .last_heartbeat_ms = (int64_t)number(),
		                                  .started_at_ms = (int64_t)number()};
		break;
	case 2:
		row.group = (struct shmeta_group){.group_id = string(SHMETA_STRING_MAX),
		                                  .created_at_ms = (int64_t)number(),
		                                  .updated_at_ms = (int64_t)number()};
		break;
	case 3:
		row.offset = (struct shmeta_committed_offset){.group_id = string(SHMETA_STRING_MAX),
		                                              .committed_offset = number(),
		                                              .committed_at_ms = (int64_t)number(),
		                                              .topic_id = (uint32_t)number(),
		                                              .partition_id = (uint32_t)number(),
		                                              .has_metadata = (uint32_t)any() % 2};
		if (row.offset.has_metadata)
			row.offset.metadata = string(SHMETA_MAP_MAX);
		break;
	case 5:
		row.quarantined = (struct shmeta__quarantined){.cls = (enum shmeta_class)(any() % SHMETA_CLASS_COUNT),
		                                               .unread = (uint32_t)any() % 32,
		                                               .tenant = string(SHMETA_TENANT_MAX),
		                                               .topic = string(SHMETA_NAME_MAX),
		                                               .name = string(SHMETA_NAME_MAX),
		                                               .partition_id = (uint32_t)number(),
		                                               .base = number(),
		                                               .end = number(),
		                                               .since_ms = (int64_t)number(),
		                                               .rows = number() | 1,
		                                               .sentence = string(SHMETA_SENTENCE_MAX)};
		break;
	default:
		row.lease = (struct shmeta_lease){.leader_agent_id = string(SHMETA_STRING_MAX),
		                                  .lease_expires_at_ms = (int64_t)number(),
		                                  .acquired_at_ms = (int64_t)number(),
		                                  .epoch = number(),
		                                  .topic_id = (uint32_t)number(),
		                                  .partition_id = (uint32_t)number()};
	}
	return row;
}

static size_t encode(int kind, const union row *row, const struct shmeta__stamps *stamps, const void *key,
                     size_t key_bytes, void *out, size_t capacity)
{
	switch (kind) {
	case 0:
		return shmeta__topic_encode(&row->topic, stamps, key, key_bytes, out, capacity);
	case 1:
		return shmeta__agent_encode(&row->agent, stamps, key, key_bytes, out, capacity);
	case 2:
		return shmeta__group_encode(&row->group, stamps, key, key_bytes, out, capacity);
	case 3:
		return shmeta__offset_encode(&row->offset, stamps, key, key_bytes, out, capacity);
	case 5:
		return shmeta__quarantined_encode(&row->quarantined, stamps, key, key_bytes, out, capacity);
	default:
		return shmeta__lease_encode(&row->lease, stamps, key, key_bytes, out, capacity);
	}
}

static enum shmeta_status decode(int kind, const void *value, size_t bytes, const void *key, size_t key_bytes,
                                 int verify, union row *ret, struct shmeta__stamps *ret_stamps)
{
	switch (kind) {
	case 0:
		return shmeta__topic_decode(value, bytes, key, key_bytes, verify, &ret->topic, ret_stamps);
	case 1:
		return shmeta__agent_decode(value, bytes, key, key_bytes, verify, &ret->agent, ret_stamps);
	case 2:
		return shmeta__group_decode(value, bytes, key, key_bytes, verify, &ret->group, ret_stamps);
	case 3:
		return shmeta__offset_decode(value, bytes, key, key_bytes, verify, &ret->offset, ret_stamps);
	case 5:
		return shmeta__quarantined_decode(value, bytes, key, key_bytes, verify, &ret->quarantined, ret_stamps);
	default:
		return shmeta__lease_decode(value, bytes, key, key_bytes, verify, &ret->lease, ret_stamps);
	}
}

static bool equal(int kind, const union row *a, const union row *b)
{
	switch (kind) {
	case 0:
		return same(a->topic.name, b->topic.name) && same_map(a->topic.config, b->topic.config) &&
		       same(a->topic.cleanup_policy, b->topic.cleanup_policy) &&
		       a->topic.created_at_ms == b->topic.created_at_ms &&
		       a->topic.updated_at_ms == b->topic.updated_at_ms &&
		       a->topic.retention_ms == b->topic.retention_ms &&
		       a->topic.has_retention == b->topic.has_retention &&
		       a->topic.partition_count == b->topic.partition_count && a->topic.topic_id == b->topic.topic_id;
	case 1:
		return same(a->agent.agent_id, b->agent.agent_id) && same(a->agent.address, b->agent.address) &&
		       same(a->agent.availability_zone, b->agent.availability_zone) &&
		       same(a->agent.agent_group, b->agent.agent_group) &&
		       same_map(a->agent.metadata, b->agent.metadata) &&
		       a->agent.last_heartbeat_ms == b->agent.last_heartbeat_ms &&
		       a->agent.started_at_ms == b->agent.started_at_ms;
	case 2:
		return same(a->group.group_id, b->group.group_id) && a->group.created_at_ms == b->group.created_at_ms &&
		       a->group.updated_at_ms == b->group.updated_at_ms;
	case 3:
		return same(a->offset.group_id, b->offset.group_id) && same(a->offset.metadata, b->offset.metadata) &&
		       a->offset.committed_offset == b->offset.committed_offset &&
		       a->offset.committed_at_ms == b->offset.committed_at_ms &&
		       a->offset.topic_id == b->offset.topic_id && a->offset.partition_id == b->offset.partition_id &&
		       a->offset.has_metadata == b->offset.has_metadata;
	case 5:
		return a->quarantined.cls == b->quarantined.cls && a->quarantined.unread == b->quarantined.unread &&
		       same(a->quarantined.tenant, b->quarantined.tenant) &&
		       same(a->quarantined.topic, b->quarantined.topic) &&
		       same(a->quarantined.name, b->quarantined.name) &&
		       a->quarantined.partition_id == b->quarantined.partition_id &&
		       a->quarantined.base == b->quarantined.base && a->quarantined.end == b->quarantined.end &&
		       a->quarantined.since_ms == b->quarantined.since_ms &&
		       a->quarantined.rows == b->quarantined.rows &&
		       same(a->quarantined.sentence, b->quarantined.sentence);
	default:
		return same(a->lease.leader_agent_id, b->lease.leader_agent_id) &&
		       a->lease.lease_expires_at_ms == b->lease.lease_expires_at_ms &&
		       a->lease.acquired_at_ms == b->lease.acquired_at_ms && a->lease.epoch == b->lease.epoch &&
		       a->lease.topic_id == b->lease.topic_id && a->lease.partition_id == b->lease.partition_id;
	}
}

/* Every view of a decoded row lies within the value. */
static bool inside(struct shmeta_str s, const uint8_t *value, size_t bytes)
{
	const uint8_t *p = (const uint8_t *)s.data;

	return s.bytes == 0 || (p >= value && s.bytes <= bytes && p + s.bytes <= value + bytes);
}
static bool views_inside(int kind, const union row *row, const uint8_t *value, size_t bytes)
{
	struct shmeta_str s[5] = {{0}};

	switch (kind) {
	case 0:
		s[0] = row->topic.name;
		s[1] = row->topic.cleanup_policy;
		s[2] = (struct shmeta_str){row->topic.config.data, row->topic.config.bytes};
		break;
	case 1:
		s[0] = row->agent.agent_id;
		s[1] = row->agent.address;
		s[2] = row->agent.availability_zone;
		s[3] = row->agent.agent_group;
		s[4] = (struct shmeta_str){row->agent.metadata.data, row->agent.metadata.bytes};
		break;
	case 2:
		s[0] = row->group.group_id;
		break;
	case 3:
		s[0] = row->offset.group_id;
		s[1] = row->offset.metadata;
		break;
	case 5:
		s[0] = row->quarantined.tenant;
		s[1] = row->quarantined.topic;
		s[2] = row->quarantined.name;
		s[3] = row->quarantined.sentence;
		break;
	default:
		s[0] = row->lease.leader_agent_id;
	}
	for (int i = 0; i < 5; i++)
		if (!inside(s[i], value, bytes))
			return false;
	return true;
}

Test(record, every_kind_comes_back_as_it_was_with_its_stamps)
{
	uint8_t *out = malloc(VALUE_MAX);

	for (int i = 0; i < 20000; i++) {
		int kind = i % KINDS;
		union row row = make(kind), back;
		struct shmeta__stamps stamps = {number(), (uint32_t)number()}, back_stamps;
		uint64_t key = any();
		size_t bytes = encode(kind, &row, &stamps, &key, sizeof key, out, VALUE_MAX);

		cr_assert_gt(bytes, sizeof(struct shmeta_record_head));
		cr_assert_eq(decode(kind, out, bytes, &key, sizeof key, 1, &back, &back_stamps), SHMETA_OK);
		cr_assert(equal(kind, &row, &back), "kind %d", kind);
		cr_assert(back_stamps.synced_at_ns == stamps.synced_at_ns && back_stamps.ttl_ms == stamps.ttl_ms);
		cr_assert(views_inside(kind, &back, out, bytes));
		cr_assert_eq(decode(kind, out, bytes, &key, sizeof key, 0, &back, NULL), SHMETA_OK);
	}
	free(out);
}

Test(record, encoding_needs_exactly_its_size_and_says_zero_below)
{
	uint8_t *out = malloc(VALUE_MAX), *tight;

	for (int kind = 0; kind < KINDS; kind++) {
		union row row = make(kind);
		struct shmeta__stamps stamps = {1, 2};
		size_t bytes = encode(kind, &row, &stamps, "key", 3, out, VALUE_MAX);

		tight = malloc(bytes);
		cr_assert_eq(encode(kind, &row, &stamps, "key", 3, tight, bytes), bytes);
		cr_assert_arr_eq(tight, out, bytes);
		free(tight);
		tight = malloc(bytes - 1);
		cr_assert_eq(encode(kind, &row, &stamps, "key", 3, tight, bytes - 1), 0);
		free(tight);
	}
	free(out);
}

Test(record, the_largest_rows_fit_the_promised_sizes)
{
	static char text[SHMETA_MAP_MAX];
	static uint8_t out[VALUE_MAX];
	struct shmeta__stamps stamps = {1, 2};
	struct shmeta_str name = {text, SHMETA_NAME_MAX}, full = {text, SHMETA_STRING_MAX};
	struct shmeta_map most = map(1, SHMETA_MAP_MAX - 16);
	union row row = {.topic = {.name = name, .cleanup_policy = full, .config = most}};

	cr_assert_eq(most.bytes, SHMETA_MAP_MAX);
	cr_assert_neq(encode(0, &row, &stamps, "k", 1, out, SHMETA_TOPIC_MAX), 0);
	row = (union row){.agent = {full, full, full, full, most, 0, 0}};
	cr_assert_neq(encode(1, &row, &stamps, "k", 1, out, SHMETA_AGENT_MAX), 0);
	row = (union row){.group = {.group_id = full}};
	cr_assert_neq(encode(2, &row, &stamps, "k", 1, out, SHMETA_SMALL_MAX), 0);
	row = (union row){.offset = {.group_id = full, .metadata = {text, SHMETA_MAP_MAX}, .has_metadata = 1}};
	cr_assert_neq(encode(3, &row, &stamps, "k", 1, out, SHMETA_SMALL_MAX), 0);
	row = (union row){.lease = {.leader_agent_id = full}};
	cr_assert_neq(encode(4, &row, &stamps, "k", 1, out, SHMETA_SMALL_MAX), 0);
}

Test(record, strings_beyond_their_limits_are_not_encoded)
{
	static char text[SHMETA_MAP_MAX + 1];
	static uint8_t out[4 * VALUE_MAX];
	struct shmeta__stamps stamps = {1, 2};
	struct shmeta_str name = {text, SHMETA_NAME_MAX + 1}, full = {text, SHMETA_STRING_MAX + 1};
	union row rows[] = {{.topic = {.name = name}},
	                    {.agent = {.agent_id = full}},
	                    {.group = {.group_id = full}},
	                    {.offset = {.group_id = full}},
	                    {.lease = {.leader_agent_id = full}},
	                    {.quarantined = {.sentence = full}}};
	union row large = {.topic = {.config = {text, SHMETA_MAP_MAX + 1}}};

	_Static_assert(sizeof rows / sizeof *rows == KINDS, "one of each kind");
	for (int kind = 0; kind < KINDS; kind++)
		cr_assert_eq(encode(kind, &rows[kind], &stamps, "k", 1, out, sizeof out), 0, "kind %d", kind);
	cr_assert_eq(encode(0, &large, &stamps, "k", 1, out, sizeof out), 0);
}

Test(record, every_flipped_bit_of_value_or_key_is_noticed)
{
	uint8_t *out = malloc(VALUE_MAX);

	for (int i = 0; i < 4 * KINDS; i++) {
		int kind = i % KINDS;
		union row row = make(kind), back;
		struct shmeta__stamps stamps = {number(), (uint32_t)number()};
		uint8_t key[] = "\0\0\0\1some key";
		size_t bytes;

		if (kind == 3)
			row.offset.metadata.bytes %= 512;
		bytes = encode(kind, &row, &stamps, key, sizeof key, out, VALUE_MAX);
		for (size_t bit = 0; bit < 8 * bytes; bit++) {
			out[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert_eq(decode(kind, out, bytes, key, sizeof key, 1, &back, NULL), SHMETA_ERR_CORRUPT,
			             "kind %d, bit %zu of %zu bytes", kind, bit, bytes);
			out[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		for (size_t bit = 0; bit < 8 * sizeof key; bit++) {
			key[bit / 8] ^= (uint8_t)(1u << bit % 8);
			cr_assert_eq(decode(kind, out, bytes, key, sizeof key, 1, &back, NULL), SHMETA_ERR_CORRUPT);
			key[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		cr_assert_eq(decode(kind, out, bytes, key, sizeof key, 1, &back, NULL), SHMETA_OK);
	}
	free(out);
}

Test(record, a_value_cut_anywhere_or_lengthened_is_corrupt_also_unverified)
{
	uint8_t *out = malloc(VALUE_MAX + 1);

	for (int kind = 0; kind < KINDS; kind++) {
		union row row = make(kind), back;
		struct shmeta__stamps stamps = {1, 2};
		size_t bytes;

		if (kind == 3)
			row.offset.metadata.bytes %= 512;
		bytes = encode(kind, &row, &stamps, "key", 3, out, VALUE_MAX);
		for (size_t n = 0; n < bytes; n++) {
			uint8_t *exact = exactly(out, n);

			cr_assert_eq(decode(kind, exact, n, "key", 3, 0, &back, NULL), SHMETA_ERR_CORRUPT);
			free(exact);
		}
		out[bytes] = 0;
		cr_assert_eq(decode(kind, out, bytes + 1, "key", 3, 0, &back, NULL), SHMETA_ERR_CORRUPT);
	}
	free(out);
}

Test(record, any_bytes_give_a_row_within_them_or_corrupt)
{
	static const size_t fixed[] = {sizeof(struct shmeta_topic_record), sizeof(struct shmeta_agent_record),
	                               sizeof(struct shmeta_group_record), sizeof(struct shmeta_offset_record),
	                               sizeof(struct shmeta_lease_record), sizeof(struct shmeta_quarantined_record)};
	static const uint16_t kinds[] = {SHMETA_RECORD_TOPIC,  SHMETA_RECORD_AGENT, SHMETA_RECORD_GROUP,
	                                 SHMETA_RECORD_OFFSET, SHMETA_RECORD_LEASE, SHMETA_RECORD_QUARANTINED};
	unsigned int good = 0;

	_Static_assert(sizeof fixed / sizeof *fixed == KINDS, "one of each kind");
	for (int i = 0; i < 300000; i++) {
		int kind = i % KINDS;
		size_t bytes = any() % 160;
		uint8_t value_bytes[160], *value;
		struct shmeta__stamps stamps;
		union row back;

		for (size_t b = 0; b < bytes; b++)
			value_bytes[b] = any() % 3 == 0 ? (uint8_t)any() : 0;
		value = exactly(value_bytes, bytes);
		/* Half of them get past the kind, and then mostly zeros: lengths that can add
		 * up. */
		if (any() % 2 && bytes >= 24) {
			memset(value, 0, 24);
			memcpy(value + 20, &kinds[kind], 2);
			if (any() % 2 && bytes > 24 + fixed[kind])
				memset(value + 24, 0, fixed[kind]);
			if (any() % 2 && bytes > 24 + fixed[kind]) {
				uint8_t rest = (uint8_t)(bytes - 24 - fixed[kind]);
				static const size_t first[] = {38, 20, 16, 28, 32, 40};

				memset(value + 24, 0, fixed[kind]);
				value[24 + first[kind]] = rest;
			}
		}
		if (decode(kind, value, bytes, "key", 3, 0, &back, &stamps) == SHMETA_OK) {
			good++;
			cr_assert(views_inside(kind, &back, value, bytes));
		}
		cr_assert_eq(decode(kind, value, bytes, "key", 3, 1, &back, &stamps), SHMETA_ERR_CORRUPT);
		free(value);
	}
	cr_assert_gt(good, 1000, "only %u of the random values were records: the test looks at nothing", good);
}

Test(record, a_record_of_one_kind_is_never_taken_for_another)
{
	uint8_t *out = malloc(VALUE_MAX);

	for (int kind = 0; kind < KINDS; kind++)
		for (int other = 0; other < KINDS; other++) {
			union row row = make(kind), back;
			struct shmeta__stamps stamps = {1, 2};
			size_t bytes = encode(kind, &row, &stamps, "key", 3, out, VALUE_MAX);

			cr_assert_eq(decode(other, out, bytes, "key", 3, 1, &back, NULL),
			             other == kind ? SHMETA_OK : SHMETA_ERR_CORRUPT);
		}
	free(out);
}

Test(record, a_topic_costs_64_bytes_and_its_own_strings)
{
	struct shmeta_topic topic = {.name = {"orders", 6}, .partition_count = 10, .topic_id = 1};
	struct shmeta__stamps stamps = {1, 2};
	uint8_t out[128];

	cr_assert_eq(shmeta__topic_encode(&topic, &stamps, "k", 1, out, sizeof out), 64 + 6);
}

/* ---- golden files: what was once written is read for ever ---- */

static union row golden_row(int kind)
{
	static const char config[] = "\x0e\0\0\0\6\0\0\0cleanup.policydelete\x0c\0\0\0\2\0\0\0retention.ms-1";
	static const char metadata[] = "\4\0\0\0\3\0\0\0rackr-1";
	union row row = {0};

	switch (kind) {
	case 0:
		row.topic = (struct shmeta_topic){.name = {"orders.\xc3\xa9t\xc3\xa9", 12},
		                                  .config = {config, sizeof config - 1},
		                                  .cleanup_policy = {"compact,delete", 14},
		                                  .created_at_ms = 1700000000000,
		                                  .updated_at_ms = 1700000000001,
		                                  .retention_ms = -1,
		                                  .has_retention = 1,
		                                  .partition_count = 100000,
		                                  .topic_id = 4294967295u};
		break;
	case 1:
		row.agent = (struct shmeta_agent){.agent_id = {"agent-1", 7},
		                                  .address = {"10.0.0.1:9092", 13},
		                                  .availability_zone = {"eu-west-1a", 10},
		                                  .agent_group = {"default", 7},
		                                  .metadata = {metadata, sizeof metadata - 1},
		                                  .last_heartbeat_ms = 1700000000002,
		                                  .started_at_ms = 1600000000000};
		break;
	case 2:
		row.group = (struct shmeta_group){{"billing", 7}, 1700000000003, 1700000000004};
		break;
	case 3:
		row.offset = (struct shmeta_committed_offset){.group_id = {"billing", 7},
		                                              .metadata = {"{\"host\":\"a\"}", 12},
		                                              .committed_offset = INT64_MAX,
		                                              .committed_at_ms = 1700000000005,
		                                              .topic_id = 7,
		                                              .partition_id = 99999,
		                                              .has_metadata = 1};
		break;
	case 5:
		row.quarantined = (struct shmeta__quarantined){.cls = SHMETA_CLASS_SEGMENT,
		                                               .unread = 0,
		                                               .tenant = {"00000000-0000-0000-0000-000000000000", 36},
		                                               .topic = {"orders", 6},
		                                               .partition_id = 99999,
		                                               .base = 12345678901234567u,
		                                               .end = INT64_MAX,
		                                               .since_ms = 1700000000007,
		                                               .rows = 1,
		                                               .sentence = {"end_offset is text", 18}};
		break;
	default:
		row.lease = (struct shmeta_lease){.leader_agent_id = {"agent-1", 7},
		                                  .lease_expires_at_ms = 1700000300000,
		                                  .acquired_at_ms = 1700000000006,
		                                  .epoch = 12345678901234567u,
		                                  .topic_id = 7,
		                                  .partition_id = 99999};
	}
	return row;
}

Test(record, golden_files_of_every_kind_are_decoded_and_encoded_to_the_same_bytes)
{
	static const char *const names[] = {"topic", "agent", "group", "offset", "lease", "quarantined"};
	static const struct shmeta__stamps stamps = {0x0123456789abcdef, 30000};
	static const char key[] = "\0\0\0\1golden";

	for (int kind = 0; kind < KINDS; kind++) {
		union row row = golden_row(kind), back;
		struct shmeta__stamps back_stamps;
		uint8_t file[1024], now[1024];
		char path[512];
		ssize_t bytes;
		int fd;

		(void)snprintf(path, sizeof path, "%s/tests/golden/record-%s.bin", places_source, names[kind]);
		if (getenv("GOLDEN_WRITE") != NULL) { /* once, when a kind is new */
			size_t n = encode(kind, &row, &stamps, key, sizeof key - 1, now, sizeof now);

			fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
			cr_assert(fd >= 0 && write(fd, now, n) == (ssize_t)n);
			(void)close(fd);
		}
		fd = open(path, O_RDONLY | O_CLOEXEC);
		cr_assert_geq(fd, 0, "%s", path);
		bytes = read(fd, file, sizeof file);
		(void)close(fd);
		cr_assert_gt(bytes, 0);
		cr_assert_eq(decode(kind, file, (size_t)bytes, key, sizeof key - 1, 1, &back, &back_stamps), SHMETA_OK,
		             "%s", names[kind]);
		cr_assert(equal(kind, &row, &back), "%s", names[kind]);
		cr_assert(back_stamps.synced_at_ns == stamps.synced_at_ns && back_stamps.ttl_ms == stamps.ttl_ms);
		cr_assert_eq(encode(kind, &row, &stamps, key, sizeof key - 1, now, sizeof now), (size_t)bytes);
		cr_assert_arr_eq(now, file, (size_t)bytes);
	}
}

Test(record, the_name_hash_is_the_same_for_ever)
{
	cr_assert_neq(shmeta__name_hash(1, "orders", 6), shmeta__name_hash(2, "orders", 6));
	cr_assert_neq(shmeta__name_hash(1, "orders", 6), shmeta__name_hash(1, "orderz", 6));
	cr_assert_eq(shmeta__name_hash(1, "orders", 6), 0x9c70b1aca36955fau);
}

/* ---- names, maps ---- */

Test(text, names_are_1_to_249_bytes_of_utf8_without_controls)
{
	static const struct {
		const char *text;
		size_t bytes;
		const char *wrong;
	} cases[] = {
		{"a", 1, NULL},
		{"", 0, "empty"},
		{"orders.eu-west_1", 16, NULL},
		{"\xc3\xa9t\xc3\xa9", 5, NULL},
		{"\xf0\x9f\x98\x80", 4, NULL},
		{"\xf4\x8f\xbf\xbf", 4, NULL},    /* U+10FFFF */
		{"\xf4\x90\x80\x80", 4, "UTF-8"}, /* beyond it */
		{"\xed\xa0\x80", 3, "UTF-8"},     /* a surrogate */
		{"\xed\x9f\xbf", 3, NULL},        /* the last before them */
		{"\xee\x80\x80", 3, NULL},        /* the first behind them */
		{"\xc0\xaf", 2, "UTF-8"},         /* overlong */
		{"\xc1\xbf", 2, "UTF-8"},
		{"\xe0\x9f\xbf", 3, "UTF-8"},
		{"\xe0\xa0\x80", 3, NULL},
		{"\xf0\x8f\xbf\xbf", 4, "UTF-8"},
		{"\xf0\x90\x80\x80", 4, NULL},
		{"\xf5\x80\x80\x80", 4, "UTF-8"},
		{"\xff", 1, "UTF-8"},
		{"\x80", 1, "UTF-8"},
		{"a\xc3", 2, "UTF-8"}, /* cut */
		{"a\xe2\x82", 3, "UTF-8"},
		{"\xe2\x28\xa1", 3, "UTF-8"},
		{"a\nb", 3, "control"},
		{"a\0b", 3, "control"},
		{"\x1f", 1, "control"},
		{" ", 1, NULL},
		{"~", 1, NULL},
		{"\x7f", 1, "control"},
		{"\xc2\x80", 2, "control"}, /* C1 */
		{"\xc2\x9f", 2, "control"},
		{"\xc2\xa0", 2, NULL},
	};
	char most[SHMETA_NAME_MAX + 1];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *exact = exactly(cases[i].text, cases[i].bytes);
		const char *wrong;

		wrong = shmeta__name_error(exact, cases[i].bytes, SHMETA_NAME_MAX);
		if (cases[i].wrong == NULL)
			cr_assert_null(wrong, "case %zu: %s", i, wrong);
		else
			cr_assert(wrong != NULL && strstr(wrong, cases[i].wrong) != NULL, "case %zu: %s", i,
			          wrong == NULL ? "taken" : wrong);
		free(exact);
	}
	memset(most, 'n', sizeof most);
	cr_assert_null(shmeta__name_error(most, SHMETA_NAME_MAX, SHMETA_NAME_MAX));
	cr_assert_not_null(shmeta__name_error(most, SHMETA_NAME_MAX + 1, SHMETA_NAME_MAX));
}

/* Text is looked at eight bytes at a time: no byte may hide behind its neighbours, at any place, in
 * any length. */
Test(text, every_byte_at_every_place_of_every_length_is_judged_by_itself)
{
	for (size_t bytes = 1; bytes <= 26; bytes++) {
		for (size_t at = 0; at < bytes; at++) {
			for (unsigned int c = 0; c < 256; c++) {
				char *text = exactly("abcdefgh~~~~~~~~        ZZ", bytes);
				const char *free_text, *name;

				text[at] = (char)c;
				free_text = shmeta__text_error(text, bytes, 100, 1);
				name = shmeta__text_error(text, bytes, 100, 0);
				free(text);
				cr_assert_eq(free_text == NULL, c != 0 && c < 0x80, "byte %u at %zu of %zu", c, at,
				             bytes);
				cr_assert_eq(name == NULL, c >= 0x20 && c < 0x7f, "byte %u at %zu of %zu in a name", c,
				             at, bytes);
			}
		}
	}
}

Test(text, maps_with_gaps_cuts_disorder_or_doubles_are_refused)
{
	static const struct {
		const char *bytes;
		size_t count;
		const char *wrong;
	} cases[] = {
		{"", 0, NULL},
		{"\1\0\0\0\1\0\0\0av", 10, NULL},
		{"\1\0\0\0\1\0\0\0av\1\0\0\0\0\0\0\0b", 19, NULL},
		{"\0\0\0\0\0\0\0\0", 8, NULL}, /* an empty key is a key */
		{"\1\0\0\0\1\0\0\0a", 9, "cut"},
		{"\1\0\0\0\1\0\0", 7, "cut"},
		{"\1\0\0\0\1\0\0\0avx", 11, "cut"},
		{"\xff\xff\xff\xff\xff\xff\xff\xff"
	         "av",
	         10, "cut"},
		{"\1\0\0\0\xff\xff\xff\xff"
	         "av",
	         10, "cut"},
		{"\1\0\0\0\0\0\0\0b\1\0\0\0\0\0\0\0a", 18, "order"},
		{"\2\0\0\0\0\0\0\0ab\1\0\0\0\0\0\0\0a", 19, "order"},
		{"\1\0\0\0\0\0\0\0a\2\0\0\0\0\0\0\0ab", 19, NULL},
		{"\1\0\0\0\0\0\0\0a\1\0\0\0\0\0\0\0a", 18, "twice"},
	};
	struct shmeta_map most = map(1, SHMETA_MAP_MAX - 16), more = map(1, SHMETA_MAP_MAX - 15);

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *exact = exactly(cases[i].bytes, cases[i].count);
		struct shmeta_map m = {exact, cases[i].count};
		const char *wrong;

		wrong = shmeta__map_error(&m);
		if (cases[i].wrong == NULL)
			cr_assert_null(wrong, "case %zu: %s", i, wrong);
		else
			cr_assert(wrong != NULL && strstr(wrong, cases[i].wrong) != NULL, "case %zu: %s", i,
			          wrong == NULL ? "taken" : wrong);
		free(exact);
	}
	cr_assert_null(shmeta__map_error(&most));
	cr_assert_not_null(shmeta__map_error(&more));
}

/* ---- C9: whole rows ---- */

static struct shmeta_topic good_topic(void)
{
	return (struct shmeta_topic){.name = {"orders", 6}, .partition_count = 1};
}
static struct shmeta_segment good_segment(void)
{
	return (struct shmeta_segment){.base_offset = 5, .end_offset = 5, .id = {"x", 1}};
}

#define REFUSED(error, ...)                                                                                \
	do {                                                                                               \
		const char *sentence = (error), *const words[] = {__VA_ARGS__};                            \
		cr_assert_not_null(sentence);                                                              \
		for (size_t w = 0; w < sizeof words / sizeof words[0]; w++)                                \
			cr_assert_not_null(strstr(sentence, words[w]), "'%s' in: %s", words[w], sentence); \
	} while (0)

Test(record, rows_at_the_limits_are_taken_and_beyond_them_named_with_field_value_and_limit)
{
	static char large[SHMETA_STRING_MAX + 1];
	char text[256];
	struct shmeta_topic t = good_topic();
	struct shmeta_segment s = good_segment();
	struct shmeta_partition p = {.partition_id = 99999, .high_watermark = INT64_MAX};

	memset(large, 'l', sizeof large);
	cr_assert_null(shmeta__topic_error(&t, text, sizeof text));
	t.partition_count = 100000;
	cr_assert_null(shmeta__topic_error(&t, text, sizeof text));
	t.partition_count = 100001;
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "partition_count", "100001", "100000");
	t.partition_count = 0;
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "partition_count", " 0 ", "1 to");
	t = good_topic();
	t.name = (struct shmeta_str){large, SHMETA_NAME_MAX};
	cr_assert_null(shmeta__topic_error(&t, text, sizeof text));
	t.name.bytes++;
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "topic name", "lllll", "...", "249");
	t.name = (struct shmeta_str){"a\x1b[2J", 5};
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "topic name", "a\\x1b[2J", "control");
	t = good_topic();
	t.cleanup_policy = (struct shmeta_str){large, SHMETA_STRING_MAX};
	cr_assert_null(shmeta__topic_error(&t, text, sizeof text));
	t.cleanup_policy.bytes++;
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "cleanup_policy", "1024");
	t = good_topic();
	t.config = map(1, SHMETA_MAP_MAX - 16);
	cr_assert_null(shmeta__topic_error(&t, text, sizeof text));
	t.config = map(1, SHMETA_MAP_MAX - 15);
	REFUSED(shmeta__topic_error(&t, text, sizeof text), "config", "orders", "65537", "65536");

	cr_assert_null(shmeta__segment_error(&s, text, sizeof text));
	s.end_offset = INT64_MAX;
	cr_assert_null(shmeta__segment_error(&s, text, sizeof text));
	s.end_offset = (uint64_t)INT64_MAX + 1;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "end_offset", "9223372036854775808",
	        "9223372036854775807");
	s.end_offset = 4;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "end_offset 4", "5 to");
	s.base_offset = s.end_offset = UINT64_MAX;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "base_offset", "18446744073709551615");
	s = good_segment();
	s.partition_id = 100000;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "partition_id", "100000", "99999");
	s = good_segment();
	s.size_bytes = UINT64_MAX;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "size_bytes");
	s = good_segment();
	s.s3_key = (struct shmeta_str){large, SHMETA_STRING_MAX};
	cr_assert_null(shmeta__segment_error(&s, text, sizeof text));
	s.s3_key.bytes++;
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "s3_key", "1024");
	s.s3_key = (struct shmeta_str){"a\0b", 3};
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "s3_key", "a\\x00b");
	s.s3_key = (struct shmeta_str){NULL, 0};
	s.s3_bucket = (struct shmeta_str){"\xff", 1};
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "s3_bucket", "\\xff", "UTF-8");
	s.s3_bucket = (struct shmeta_str){NULL, 0};
	s.id = (struct shmeta_str){large, sizeof large};
	REFUSED(shmeta__segment_error(&s, text, sizeof text), "id '");

	cr_assert_null(shmeta__partition_error(&p, text, sizeof text));
	p.high_watermark++;
	REFUSED(shmeta__partition_error(&p, text, sizeof text), "high_watermark", "9223372036854775808");
	p = (struct shmeta_partition){.partition_id = 100000};
	REFUSED(shmeta__partition_error(&p, text, sizeof text), "partition_id", "100000", "99999");
}

Test(record, a_sentence_never_exceeds_its_buffer)
{
	struct shmeta_topic t = good_topic();

	t.partition_count = 0;
	for (size_t n = 1; n < 100; n++) {
		char *text = malloc(n);

		cr_assert_not_null(shmeta__topic_error(&t, text, n));
		cr_assert_lt(strlen(text), n);
		free(text);
	}
}

/* ---- escaping ---- */

Test(text, escape_leaves_print_alone_and_spells_everything_else)
{
	static const struct {
		const char *text;
		size_t bytes;
		const char *shown;
	} cases[] = {
		{"plain text", 10, "plain text"},
		{"", 0, ""},
		{"\xc3\xa9\xf0\x9f\x98\x80", 6, "\xc3\xa9\xf0\x9f\x98\x80"},
		{"a\nb\0c\x7f", 6, "a\\x0ab\\x00c\\x7f"},
		{"\x1b]0;x\x07", 6, "\\x1b]0;x\\x07"},
		{"back\\slash", 10, "back\\slash"},
		{"zero\xe2\x80\x8bwidth", 12, "zero\\u200bwidth"},
		{"soft\xc2\xadhyphen", 12, "soft\\u00adhyphen"},
		{"\xef\xbb\xbf", 3, "\\ufeff"},
		{"\xe3\x85\xa4", 3, "\\u3164"},
		{"tag\xf3\xa0\x81\x81", 7, "tag\\U000e0041"},
		{"\xc2\x9b", 2, "\\u009b"},
		{"\xe2\x80\xae", 3, "\\u202e"},
		{"\xe2\x81\xa6", 3, "\\u2066"},
		{"\xd8\x9c", 2, "\\u061c"},
		{"\xe2\x80\xa8", 3, "\\u2028"},
		{"\xff\xfe", 2, "\\xff\\xfe"},
		{"\xed\xa0\x80", 3, "\\xed\\xa0\\x80"},
		{"\xc0\xaf", 2, "\\xc0\\xaf"},
		{"a\xe2\x82", 3, "a\\xe2\\x82"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char out[128], *exact = exactly(cases[i].text, cases[i].bytes);

		cr_assert_str_eq(shmeta__escape(out, sizeof out, exact, cases[i].bytes), cases[i].shown);
		free(exact);
	}
}

Test(text, what_was_escaped_stays_the_same_when_it_is_escaped_again)
{
	char every[4 * 0x3100], once[10 * sizeof every], twice[sizeof once];
	size_t bytes = 0;

	for (unsigned int point = 1; point < 0x3100; point++) {
		if (point >= 0x800)
			every[bytes++] = (char)(0xe0 | point >> 12);
		if (point >= 0x80)
			every[bytes++] = (char)(point >= 0x800 ? 0x80 | (point >> 6 & 0x3f) : 0xc0 | point >> 6);
		every[bytes++] = (char)(point >= 0x80 ? 0x80 | (point & 0x3f) : point);
	}
	every[bytes++] = '\xff';
	(void)shmeta__escape(once, sizeof once, every, bytes);
	cr_assert_gt(strlen(once), bytes);
	cr_assert_str_eq(shmeta__escape(twice, sizeof twice, once, strlen(once)), once);
}

Test(text, escape_cuts_with_dots_never_inside_a_character_and_never_outside_the_buffer)
{
	static const char text[] = "ab\xc3\xa9\x01\xf0\x9f\x98\x80zz\xe2\x80\xae";
	static const char whole[] = "ab\xc3\xa9\\x01\xf0\x9f\x98\x80zz\\u202e";
	char out[64];

	cr_assert_str_eq(shmeta__escape(out, sizeof whole, text, sizeof text - 1), whole);
	for (size_t n = 1; n < sizeof whole; n++) {
		char *exact = malloc(n);
		size_t bytes;

		(void)shmeta__escape(exact, n, text, sizeof text - 1);
		bytes = strlen(exact);
		cr_assert_lt(bytes, n);
		if (n >= 4) {
			cr_assert_str_eq(exact + bytes - 3, "...", "%zu: %s", n, exact);
			/* What stands before the dots is a beginning of the whole that ends where a
			 * character does. */
			cr_assert_eq(memcmp(exact, whole, bytes - 3), 0, "%zu: %s", n, exact);
			cr_assert_neq(whole[bytes - 3] & 0xc0, 0x80);
			exact[bytes - 3] = 0;
			cr_assert(strrchr(exact, '\\') == NULL || strlen(strrchr(exact, '\\')) >= 4, "%zu: %s", n,
			          exact);
		}
		free(exact);
	}
	cr_assert_eq(shmeta__escape(out, 0, text, 3), out);
}

Test(text, quote_is_the_escaped_text_between_quotes_that_end_where_they_should)
{
	static const char text[] = "it's\x01\xe2\x80\xae";
	static const char whole[] = "'it\\x27s\\x01\\u202e'";
	char out[32];

	cr_assert_str_eq(shmeta__quote(out, sizeof out, text, sizeof text - 1), whole);
	cr_assert_str_eq(shmeta__quote(out, sizeof out, "", 0), "''");
	for (size_t n = 6; n < 24; n++) {
		char *exact = malloc(n);
		size_t bytes;

		(void)shmeta__quote(exact, n, text, sizeof text - 1);
		bytes = strlen(exact);
		cr_assert(bytes < n && exact[0] == '\'' && exact[bytes - 1] == '\'', "%zu: %s", n, exact);
		cr_assert(strcmp(exact, whole) == 0 || memcmp(exact + bytes - 4, "...'", 4) == 0, "%zu: %s", n, exact);
		free(exact);
	}
}

Test(text, utf8_is_valid_where_each_of_its_characters_is)
{
	static const char *const bad[] = {"\xff",         "\xc0\xaf",         "\xed\xa0\x80", "\xf4\x90\x80\x80",
	                                  "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xe2\x82",     "\x80"};
	static const char plain[] = "0123456789abcdefghi";

	/* Before, behind and inside of plain text of every length around the eight bytes that are
	 * looked at at once. */
	for (size_t n = 0; n < sizeof plain - 1; n++) {
		char *exact = exactly(plain, n);

		cr_assert(shmeta__utf8_valid(exact, n));
		free(exact);
		for (size_t at = 0; at <= n; at++)
			for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
				size_t bytes = strlen(bad[i]);
				char text[32];

				memcpy(text, plain, at);
				memcpy(text + at, bad[i], bytes);
				memcpy(text + at + bytes, plain + at, n - at);
				exact = exactly(text, n + bytes);
				cr_assert(!shmeta__utf8_valid(exact, n + bytes), "%zu %zu %zu", n, at, i);
				free(exact);
				memcpy(text + at, "\xc3\xa9\x7f\n", 4);
				memcpy(text + at + 4, plain + at, n - at);
				exact = exactly(text, n + 4);
				cr_assert(shmeta__utf8_valid(exact, n + 4));
				free(exact);
			}
	}
}
