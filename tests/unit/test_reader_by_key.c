/* SPDX-License-Identifier: Apache-2.0
 * FRESH and SOURCE on advisory records, lists and batches: which key the writer is asked for, how
 * often, and where the answer lives. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "shm/record/key.h"
#include "tests/support/fake_writer.h"

static const uint64_t SECOND = 1000000000;
static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic, other;
static char buffer[8192];
static const struct shmeta_read fresh = {sizeof fresh, SHMETA_FRESH, 5000, 0, 0, buffer, sizeof buffer};
static const struct shmeta_read source = {sizeof source, SHMETA_SOURCE, 5000, 0, 0, buffer, sizeof buffer};
static const struct shmeta_read moving = {sizeof moving, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	other = fake_simple_topic(w, "u", 1);
	fake_even_partition(w, topic, 0, 10, 10);
	fake_even_partition(w, topic, 1, 10, 10);
	fake_even_partition(w, other, 0, 10, 10);
	fake_lease(w, topic, 1, "old", 1000, 1);
	fake_group(w, NULL, "g");
	fake_offset(w, NULL, "g", topic, 1, 5, "m");
	fake_agent(w, NULL, &(struct shmeta_agent){.agent_id = fake_str("a"), .address = fake_str("here")}, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_by_key, .init = set_up, .fini = tear_down, .timeout = 30);

/* What the source has by now. No class is stamped: what was read is one key. */
static void source_moved(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_lease(f, topic, 1, "new", 1000, 2);
	fake_offset(f, NULL, "g", topic, 1, 6, "n");
	fake_group(f, NULL, "late");
	fake_agent(f, NULL, &(struct shmeta_agent){.agent_id = fake_str("a"), .address = fake_str("there")}, 0);
	fake_even_partition(f, topic, 1, 11, 10);
	(void)fake_commit(f);
}

static uint64_t begin(void)
{
	struct shmeta_snapshot_info info;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	return info.txn;
}

static uint64_t snapshot(void)
{
	struct shmeta_snapshot_info info;

	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	return info.txn;
}

static int says(struct shmeta_str s, const char *text)
{
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

static int in_buffer(struct shmeta_str s)
{
	return s.data >= buffer && s.data + s.bytes <= buffer + sizeof buffer;
}

static void expect_asked(uint32_t refreshes, enum shmeta_class cls, const char *name_of_topic, uint32_t partition_id,
                         const char *name)
{
	cr_expect_eq(w->refreshes, refreshes);
	cr_expect_eq(w->last_refresh.cls, cls);
	cr_expect_str_eq(w->last_topic, name_of_topic);
	cr_expect_eq(w->last_refresh.partition_id, partition_id);
	cr_expect_str_eq(w->last_name, name);
}

Test(reader_by_key, source_asks_for_one_lease_and_answers_from_a_snapshot_of_its_own)
{
	struct shmeta_freshness f;
	struct shmeta_lease lease;
	uint64_t txn = begin();

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_get_lease(reader, "t", 1, 1, 0, &source, &lease, &f), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_LEASE, "t", 1, "");
	cr_expect_eq(lease.epoch, 2);
	cr_expect(says(lease.leader_agent_id, "new") && in_buffer(lease.leader_agent_id));
	cr_expect(f.fresh && f.hint);
	cr_expect_gt(f.txn, txn);
	cr_expect_eq(snapshot(), txn, "the reader did not move");
	cr_assert_eq(shmeta_get_lease(reader, "t", 1, 1, 0, NULL, &lease, NULL), SHMETA_OK);
	cr_expect_eq(lease.epoch, 1);
	cr_expect_eq(shmeta_get_lease(reader, "t", 1, 1, 1000, &source, &lease, &f), SHMETA_ABSENT, "expired");
	cr_expect(f.fresh);
	cr_expect_eq(shmeta_get_lease(reader, "", 0, 1, 0, &source, &lease, NULL), SHMETA_ABSENT);
	cr_expect_eq(w->refreshes, 2, "nobody is asked for what cannot exist");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, source_asks_for_one_offset_one_group_one_agent)
{
	struct shmeta_committed_offset offset;
	struct shmeta_group group;
	struct shmeta_agent agent;

	(void)begin();
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "t", 1, 1, &source, &offset, NULL), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_OFFSET, "t", 1, "g");
	cr_expect_eq(offset.committed_offset, 6);
	cr_expect(says(offset.metadata, "n") && in_buffer(offset.metadata) && in_buffer(offset.group_id));
	cr_assert_eq(shmeta_get_group(reader, "late", 4, NULL, &group, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_group(reader, "late", 4, &source, &group, NULL), SHMETA_OK);
	expect_asked(2, SHMETA_CLASS_OFFSET, "", 0, "late");
	cr_expect(says(group.group_id, "late") && in_buffer(group.group_id));
	cr_assert_eq(shmeta_get_agent(reader, "a", 1, &moving, &agent, NULL), SHMETA_OK);
	expect_asked(3, SHMETA_CLASS_AGENT, "", 0, "a");
	cr_expect(says(agent.address, "there") && !in_buffer(agent.address),
	          "the reader moved, and no buffer was given");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, fresh_asks_only_when_the_class_is_stale_and_says_when_a_buffer_is_too_small)
{
	struct shmeta_read small = source;
	struct shmeta_freshness f;
	struct shmeta_lease lease;

	(void)begin();
	cr_assert_eq(shmeta_get_lease(reader, "t", 1, 1, 0, &fresh, &lease, &f), SHMETA_OK);
	cr_expect_eq(w->refreshes, 0);
	cr_expect(in_buffer(lease.leader_agent_id));
	fake_advance(w, 6 * SECOND);
	cr_assert_eq(shmeta_get_lease(reader, "t", 1, 1, 0, NULL, &lease, &f), SHMETA_OK);
	cr_expect(!f.fresh);
	cr_assert_eq(shmeta_get_lease(reader, "t", 1, 1, 0, &fresh, &lease, &f), SHMETA_OK);
	cr_expect_eq(w->refreshes, 1);
	cr_expect(f.fresh);
	small.buffer_bytes = 2;
	cr_expect_eq(shmeta_get_lease(reader, "t", 1, 1, 0, &small, &lease, NULL), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, what_a_bounded_store_lacks_is_absent_once_the_source_was_asked_for_it)
{
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;

	fake_begin(w);
	shmeta__store_counters(w->store)->incomplete = 1u << SHMETA_CLASS_LEASE | 1u << SHMETA_CLASS_OFFSET;
	(void)fake_commit(w);
	fake_stamp_all(w);
	(void)begin();
	cr_expect_eq(shmeta_get_lease(reader, "t", 1, 0, 0, NULL, &lease, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(shmeta_get_lease(reader, "t", 1, 0, 0, &fresh, &lease, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, "t", 1, 0, NULL, &offset, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, "t", 1, 0, &fresh, &offset, NULL), SHMETA_ABSENT);
	cr_expect_eq(w->refreshes, 2);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, what_hangs_on_a_topic_that_a_bounded_store_let_go_again_is_unknown)
{
	uint8_t key[SHMETA_ABSENT_KEY_MAX];
	uint64_t now = fake_now_ns(w);
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;
	size_t n;

	fake_begin(w);
	shmeta__store_counters(w->store)->incomplete =
		1u << SHMETA_CLASS_TOPIC | 1u << SHMETA_CLASS_LEASE | 1u << SHMETA_CLASS_OFFSET;
	(void)fake_commit(w);
	fake_stamp_all(w);
	(void)begin();
	cr_expect_eq(shmeta_get_lease(reader, "left", 4, 0, 0, &fresh, &lease, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(w->refreshes, 3, "asked again while it keeps leaving");
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, "left", 4, 0, &fresh, &offset, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	fake_begin(w);
	n = shmeta__absent_key(key, fake_tenant(w, SHMETA_DEFAULT_TENANT), "left", 4, UINT32_MAX);
	fake_raw(w, SHMETA_DB_META, key, n, &now, sizeof now);
	(void)fake_commit(w);
	fake_stamp_all(w);
	(void)begin();
	cr_expect_eq(shmeta_get_lease(reader, "left", 4, 0, 0, &fresh, &lease, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, a_list_has_a_snapshot_of_its_own_until_it_is_freed)
{
	struct shmeta_iter *offsets, *leases, *segments;
	struct shmeta_committed_offset offset;
	struct shmeta_segment segment;
	struct shmeta_lease lease;
	struct shmeta_str name;
	uint64_t txn = begin();
	char strings[512];

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_list_committed_offsets(reader, "g", 1, &source, &offsets), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_OFFSET, "", 0, "g");
	cr_assert_eq(shmeta_list_leases(reader, "t", 1, NULL, 0, 0, &source, &leases), SHMETA_OK);
	expect_asked(2, SHMETA_CLASS_LEASE, "", 0, "");
	cr_assert_eq(shmeta_list_segments_named(reader, "t", 1, 1, 105, UINT64_MAX, &source, &segments), SHMETA_OK);
	expect_asked(3, SHMETA_CLASS_SEGMENT, "t", 1, "");
	cr_expect_eq(snapshot(), txn);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(shmeta_next_committed_offset(offsets, &name, &offset, NULL), SHMETA_OK);
	cr_expect_eq(offset.committed_offset, 6);
	cr_assert_eq(shmeta_next_committed_offset(offsets, &name, &offset, NULL), SHMETA_END);
	cr_assert_eq(shmeta_next_segment(segments, &segment), SHMETA_OK);
	cr_expect_eq(segment.base_offset, 100);
	cr_assert_eq(shmeta_iter_segment_strings(segments, &segment, strings, sizeof strings), SHMETA_OK);
	cr_expect_gt(segment.s3_key.bytes, 0);
	cr_assert_eq(shmeta_next_segment(segments, &segment), SHMETA_END);
	cr_assert_eq(shmeta_next_lease(leases, &name, &lease, NULL), SHMETA_OK);
	cr_expect_eq(lease.epoch, 2);
	shmeta_iter_free(segments);
	shmeta_reader_free(reader);
	reader = NULL;
	cr_expect_lt(shmeta_next_lease(leases, &name, &lease, NULL), 0);
	shmeta_iter_free(leases);
	shmeta_iter_free(offsets);
}

Test(reader_by_key, lists_ask_for_what_they_are_about)
{
	struct shmeta_iter *iter;
	struct shmeta_topic_stats stats;
	struct shmeta_freshness f;
	struct shmeta_topic t;

	(void)begin();
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, &source, &iter), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_LIST, "", 0, "");
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_OK);
	cr_expect(says(t.name, "t"));
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_partitions(reader, "t", 1, &moving, &iter), SHMETA_OK);
	expect_asked(2, SHMETA_CLASS_TOPIC, "t", 0, "");
	cr_expect(w->last_refresh.flags & SHMETA_REFRESH_ASK_SEGMENTS);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_topic_stats(reader, "t", 1, &source, &stats, &f), SHMETA_OK);
	expect_asked(3, SHMETA_CLASS_TOPIC, "t", 0, "");
	cr_expect_eq(stats.segment_count, 20);
	cr_assert_eq(shmeta_list_agents(reader, NULL, 0, NULL, 0, 0, &source, &iter), SHMETA_OK);
	expect_asked(4, SHMETA_CLASS_AGENT, "", 0, "");
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_groups(reader, &source, &iter), SHMETA_OK);
	expect_asked(5, SHMETA_CLASS_OFFSET, "", 0, "");
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_groups(reader, &fresh, &iter), SHMETA_OK);
	cr_expect_eq(w->refreshes, 5, "fresh enough");
	shmeta_iter_free(iter);
	cr_expect_eq(shmeta_list_partitions(reader, "nope", 4, &fresh, &iter), SHMETA_ABSENT);
	cr_expect_eq(shmeta_list_partitions(reader, "", 0, &source, &iter), SHMETA_ABSENT);
	cr_expect_eq(w->refreshes, 5);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void topic_changed(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	(void)fake_topic(f, &(struct fake_topic){.name = "t", .partitions = 2, .policy = "compact"});
	(void)fake_commit(f);
}

static void topic_made_anew(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_delete_topic(f, NULL, "t");
	(void)fake_simple_topic(f, "t", 2);
	(void)fake_commit(f);
}

Test(reader_by_key, a_topics_number_is_asked_for_by_the_name_that_has_it)
{
	struct shmeta_read small = source;
	struct shmeta_freshness f;
	struct shmeta_topic t;
	uint64_t txn = begin();

	small.buffer_bytes = 2;
	w->on_refresh = topic_changed;
	cr_assert_eq(shmeta_get_topic_by_id(reader, topic, &source, &t, &f), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_TOPIC, "t", 0, "");
	cr_expect(says(t.cleanup_policy, "compact") && in_buffer(t.cleanup_policy) && in_buffer(t.name));
	cr_expect(f.fresh && f.txn > txn);
	cr_expect_eq(shmeta_get_topic_by_id(reader, topic, &small, &t, NULL), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_get_topic_by_id(reader, topic, &fresh, &t, NULL), SHMETA_OK);
	cr_expect_eq(w->refreshes, 2, "fresh enough");
	cr_expect(says(t.cleanup_policy, "") && in_buffer(t.name), "the reader did not move");
	w->on_refresh = topic_made_anew;
	cr_expect_eq(shmeta_get_topic_by_id(reader, topic, &source, &t, &f), SHMETA_ABSENT,
	             "another one has the name by now");
	cr_expect(f.fresh);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void topic_came(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	(void)fake_simple_topic(f, "late", 1);
	(void)fake_commit(f);
}

Test(reader_by_key, for_a_number_that_no_topic_has_the_list_of_topics_is_asked_for)
{
	struct shmeta_topic t;

	(void)begin();
	w->on_refresh = topic_came;
	cr_expect_eq(shmeta_get_topic_by_id(reader, other + 1, NULL, &t, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_topic_by_id(reader, other + 1, &fresh, &t, NULL), SHMETA_ABSENT);
	cr_expect_eq(w->refreshes, 0, "the list is fresh");
	cr_assert_eq(shmeta_get_topic_by_id(reader, other + 1, &moving, &t, NULL), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_LIST, "", 0, "");
	cr_expect(says(t.name, "late") && !in_buffer(t.name), "the reader moved, and no buffer was given");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, the_last_segment_and_one_by_time_can_be_fresh)
{
	struct shmeta_handle *h;
	struct shmeta_segment s;
	uint64_t txn = begin();

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	cr_assert_eq(shmeta_last_segment(h, &source, &s, NULL), SHMETA_OK);
	expect_asked(1, SHMETA_CLASS_SEGMENT, "t", 1, "");
	cr_expect_eq(s.base_offset, 100);
	cr_expect(in_buffer(s.s3_key) && s.s3_key.bytes > 0);
	cr_expect_eq(shmeta_find_segment_for_timestamp(h, INT64_MAX, &source, &s, NULL), SHMETA_ABSENT_AT_END);
	cr_expect_eq(w->refreshes, 2);
	cr_assert_eq(shmeta_last_segment(h, NULL, &s, NULL), SHMETA_OK);
	cr_expect_eq(s.base_offset, 90);
	cr_expect_eq(snapshot(), txn);
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, a_batch_asks_for_what_does_not_do_and_answers_as_a_whole)
{
	const struct shmeta_find_named finds[] = {{.topic = fake_str("t"), .partition_id = 1, .offset = 105},
	                                          {.topic = fake_str("u"), .partition_id = 0, .offset = 5},
	                                          {.topic = fake_str(""), .partition_id = 0, .offset = 5},
	                                          {.topic = fake_str("t"), .partition_id = 0, .offset = 5}};
	const struct shmeta_str names[] = {fake_str("t"), fake_str("nope"), fake_str("u")};
	enum shmeta_status status[4];
	struct shmeta_partition partition[2];
	struct shmeta_segment segment[4];
	struct shmeta_handle *handle[2];
	struct shmeta_topic topics[3];
	uint64_t txn = begin();

	w->on_refresh = source_moved;
	w->refuse_topic = "u";
	cr_assert_eq(shmeta_find_segments_named(reader, 4, finds, &source, status, segment), SHMETA_OK);
	cr_expect_eq(w->refreshes, 3, "not for the name that cannot exist");
	cr_expect_eq(status[0], SHMETA_OK);
	cr_expect_eq(segment[0].base_offset, 100);
	cr_expect(in_buffer(segment[0].s3_key) && in_buffer(segment[3].s3_key));
	cr_expect_neq(segment[0].s3_key.data, segment[3].s3_key.data);
	cr_expect_eq(status[1], SHMETA_ERR_SOURCE, "its own fate");
	cr_expect_eq(status[2], SHMETA_ABSENT);
	cr_expect_eq(status[3], SHMETA_OK);
	cr_expect_eq(snapshot(), txn);
	w->on_refresh = NULL;
	w->refuse_topic = NULL;
	cr_assert_eq(shmeta_get_topics(reader, 3, names, &source, status, topics), SHMETA_OK);
	cr_expect_eq(w->refreshes, 6);
	cr_expect(status[0] == SHMETA_OK && status[1] == SHMETA_ABSENT && status[2] == SHMETA_OK);
	cr_expect(says(topics[0].name, "t") && says(topics[2].name, "u") && in_buffer(topics[2].name));
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle[0]), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &handle[1]), SHMETA_OK);
	cr_assert_eq(shmeta_get_partitions(2, handle, &source, status, partition), SHMETA_OK);
	cr_expect_eq(w->refreshes, 8);
	cr_expect_eq(partition[1].segment_count, 11);
	cr_assert_eq(shmeta_find_segments(2, (struct shmeta_find[]){{handle[1], 105}, {handle[0], 105}}, &source,
	                                  status, segment),
	             SHMETA_OK);
	cr_expect(status[0] == SHMETA_OK && status[1] == SHMETA_ABSENT_AT_END);
	cr_assert_eq(shmeta_get_partitions(2, handle, NULL, status, partition), SHMETA_OK);
	cr_expect_eq(partition[1].segment_count, 10, "the reader's own snapshot");
	cr_expect_eq(snapshot(), txn);
	shmeta_partition_close(handle[0]);
	shmeta_partition_close(handle[1]);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, columns_ask_once_for_each_partition_and_answer_as_a_whole)
{
	enum { COUNT = 6 };
	static const uint64_t offsets[COUNT] = {105, 5, 15, 25, 107, 1000};
	static const uint32_t which[COUNT] = {1, 0, 2, 0, 1, 2};
	uint64_t base[COUNT] = {7, 7, 7};
	int32_t status[COUNT];
	const struct shmeta_columns columns = {.size = sizeof columns, .status = status, .base_offset = base};
	struct shmeta_read wrong = source;
	struct shmeta_handle *handle[3];
	uint64_t txn = begin();

	for (uint32_t p = 0; p < 2; p++)
		cr_assert_eq(shmeta_partition_open(reader, "t", 1, p, &handle[p]), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "u", 1, 0, &handle[2]), SHMETA_OK);
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_find_columns(handle, 3, which, offsets, COUNT, &fresh, &columns), SHMETA_OK);
	cr_expect_eq(w->refreshes, 0, "fresh enough");
	cr_expect(status[0] == SHMETA_ABSENT_AT_END && base[0] == 0 && base[1] == 0 && base[2] == 10);
	w->refuse_topic = "u";
	cr_assert_eq(shmeta_find_columns(handle, 3, which, offsets, COUNT, &source, &columns), SHMETA_OK);
	cr_expect_eq(w->refreshes, 3);
	cr_expect(status[0] == SHMETA_OK && base[0] == 100, "what the source has by now");
	cr_expect(status[1] == SHMETA_OK && base[1] == 0 && status[3] == SHMETA_OK && base[3] == 20);
	cr_expect(status[4] == SHMETA_OK && base[4] == 100);
	cr_expect(status[2] == SHMETA_ERR_SOURCE && base[2] == 0, "its own fate");
	cr_expect_eq(status[5], SHMETA_ERR_SOURCE);
	cr_expect_eq(snapshot(), txn, "the reader did not move");
	wrong.flags = 1u << 9;
	cr_expect_eq(shmeta_find_columns(handle, 3, which, offsets, COUNT, &wrong, &columns),
	             SHMETA_ERR_INVALID_ARGUMENT);
	wrong.size = 8;
	cr_expect_eq(shmeta_find_columns(handle, 3, which, offsets, COUNT, &wrong, &columns),
	             SHMETA_ERR_INVALID_ARGUMENT);
	for (int p = 0; p < 3; p++)
		shmeta_partition_close(handle[p]);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, a_key_that_fails_ends_no_batch_also_where_it_alone_is_asked_for)
{
	const struct shmeta_read may_ask = {sizeof may_ask, SHMETA_FRESH, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	const struct shmeta_str names[] = {fake_str("t"), fake_str("u"), fake_str("")};
	enum shmeta_status status[3];
	struct shmeta_topic topics[3];
	struct shmeta_error error = {.size = sizeof error};

	fake_begin(w);
	(void)fake_topic(w, &(struct fake_topic){.name = "u", .partitions = 1, .ttl_ms = 1});
	(void)fake_commit(w);
	fake_stamp_all(w);
	w->refuse_topic = "u";
	w->answer_text = "row locked";
	fake_advance(w, 20000000); /* "u" alone is stale */
	(void)begin();
	cr_assert_eq(shmeta_get_topics(reader, 3, names, &may_ask, status, topics), SHMETA_OK);
	cr_expect_eq(w->refreshes, 1);
	cr_expect_eq(status[0], SHMETA_OK);
	cr_expect_eq(status[1], SHMETA_ERR_SOURCE, "its own fate: %d", (int)status[1]);
	cr_expect_eq(status[2], SHMETA_ABSENT);
	cr_assert_eq(shmeta_reader_error(reader, &error), SHMETA_OK);
	cr_expect_not_null(strstr(error.text, "row locked"), "%s", error.text);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void break_at_the_second(struct fake_writer *f, void *arg)
{
	(void)arg;
	if (f->refreshes != 3) /* one made the connection that is idle */
		return;
	for (int i = 0; i < FAKE_CLIENTS; i++)
		if (f->client[i].fd >= 0 && f->client[i].memfd < 0)
			(void)shutdown(f->client[i].fd, SHUT_RDWR);
}

Test(reader_by_key, a_batch_whose_connection_breaks_on_the_way_asks_the_next_one_for_the_rest)
{
	const struct shmeta_read may_ask = {sizeof may_ask, SHMETA_SOURCE, 20000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	const struct shmeta_str names[] = {fake_str("t"), fake_str("t"), fake_str("t"), fake_str("t")};
	struct shmeta_topic topics[4];
	enum shmeta_status status[4];
	uint64_t began;

	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "t", 1, 0, 20000, NULL), SHMETA_OK);
	w->on_refresh = break_at_the_second;
	(void)begin();
	began = shmeta__boottime_ns();
	cr_expect_eq(shmeta_get_topics(reader, 4, names, &may_ask, status, topics), SHMETA_OK);
	cr_expect_leq(shmeta__boottime_ns() - began, UINT64_C(10000000000), "it waited for answers that it has");
	for (int i = 0; i < 4; i++)
		cr_expect_eq(status[i], SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, an_empty_name_without_bytes_is_absent_everywhere)
{
	struct shmeta_committed_offset offset;
	struct shmeta_agent agent;

	(void)begin();
	cr_expect_eq(shmeta_get_agent(reader, NULL, 0, NULL, &agent, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(reader, NULL, 0, "t", 1, 0, NULL, &offset, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, NULL, 0, 0, NULL, &offset, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, NULL, 0, 0, &source, &offset, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(reader, "g", 1, NULL, 1, 0, NULL, &offset, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_by_key, very_many_keys_are_asked_for_in_one_call)
{
	enum { MANY = 500 };
	static struct shmeta_str names[MANY];
	static enum shmeta_status status[MANY];
	static struct shmeta_topic topics[MANY];
	static char text[MANY][8];

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(text[i], sizeof text[i], "n%d", i);
		names[i] = fake_str(text[i]);
	}
	names[MANY - 1] = fake_str("t");
	(void)begin();
	cr_assert_eq(shmeta_get_topics(reader, MANY, names, &moving, status, topics), SHMETA_OK);
	cr_expect_eq(w->refreshes, MANY);
	cr_expect_eq(status[0], SHMETA_ABSENT);
	cr_expect_eq(status[MANY - 1], SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}
