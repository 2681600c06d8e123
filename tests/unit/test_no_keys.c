/* SPDX-License-Identifier: Apache-2.0
 * Tables that somebody made without unique keys: several rows of one topic, or of one partition.
 * The first row counts, with everything that hangs on it; the others are quarantined and disturb
 * nothing. */
#include <criterion/criterion.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/sqlite_world.h"

TestSuite(no_keys, .timeout = 60);

#define has(part)                                                                              \
	cr_expect(recorder_has(&w.recorder, (part)), "no line with '%s' in:\n%.3000s", (part), \
	          recorder_text(&w.recorder))

static struct world w;

static void set_up(void)
{
	sqlite_world_bare(
		&w,
		"CREATE TABLE topics(name, partition_count, retention_ms, created_at, updated_at, config);"
		"CREATE TABLE partitions(topic, partition_id, high_watermark, created_at, updated_at);"
		"CREATE TABLE segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at);"
		"CREATE TABLE consumer_groups(group_id, created_at, updated_at);"
		"CREATE TABLE consumer_offsets(group_id, topic, partition_id, committed_offset, metadata, committed_at);"
		"CREATE TABLE agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata);"
		"CREATE TABLE partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch);"
		"INSERT INTO topics VALUES('a', 2, NULL, 1, 1, '{}'), ('a', 2, NULL, 1, 1, '{}'), ('b', 1, NULL, 1, 1, '{}');"
		"INSERT INTO partitions VALUES('a', 0, 10, 1, 1), ('a', 0, 10, 1, 1), ('a', 0, 10, 1, 1), "
		"('a', 1, 0, 1, 1), ('b', 0, 0, 1, 1);"
		"INSERT INTO segments VALUES('s', 'a', 0, 0, 9, 10, 1, 'bucket', 'key', 1)");
	w.options.manage_schema = 0;
	world_open(&w);
}

static void tear_down(void)
{
	world_free(&w);
}

static struct backend_key key_of(enum shmeta_class cls, const char *topic)
{
	return (struct backend_key){.cls = cls,
	                            .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                            .topic = rows_str(topic),
	                            .with_segments = 1,
	                            .to = INT64_MAX};
}

Test(no_keys, a_load_shows_each_topic_and_partition_once_with_its_segments, .init = set_up, .fini = tear_down)
{
	cr_assert_eq(world_load(&w), SHMETA_OK, "%s", w.err.text);
	cr_expect_str_eq(w.recorder.order_error, "");
	cr_expect_eq(w.recorder.topics, 2);
	cr_expect_eq(w.recorder.partitions, 3);
	cr_expect_eq(w.recorder.segments, 1);
	cr_expect_eq(w.recorder.quarantined, 3);
	has("it is there twice; left out");
}

Test(no_keys, a_topic_that_is_there_twice_keeps_no_other_from_being_found, .init = set_up, .fini = tear_down)
{
	const struct backend_key keys[] = {key_of(SHMETA_CLASS_TOPIC, "a"), key_of(SHMETA_CLASS_TOPIC, "b")};

	cr_assert_eq(world_fetch(&w, keys, 2), SHMETA_OK, "%s", w.err.text);
	cr_expect_str_eq(w.recorder.order_error, "");
	cr_expect_eq(w.recorder.topics, 2);
	cr_expect_eq(w.recorder.partitions, 3);
	cr_expect_eq(w.recorder.segments, 1);
	cr_expect_eq(w.recorder.quarantined, 3);
}

Test(no_keys, a_partition_that_is_there_twice_is_fetched_once, .init = set_up, .fini = tear_down)
{
	const struct backend_key key = key_of(SHMETA_CLASS_SEGMENT, "a");

	cr_assert_eq(world_fetch(&w, &key, 1), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(w.recorder.partitions, 1);
	cr_expect_eq(w.recorder.segments, 1);
	cr_expect_eq(w.recorder.quarantined, 2);
}
