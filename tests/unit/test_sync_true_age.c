/* SPDX-License-Identifier: Apache-2.0
 * What could not be read again is never called fresh: while its key fails, or is locked, a record
 * has an age of its own. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "shm/page/board.h"
#include "shm/record/record.h"
#include "tests/support/fixture_reader.h"
#include "writer/engine/engine.h"

TestSuite(sync_true_age, .timeout = 60);

enum { PASS_MS = 100000, TTL_MS = 30000 };

static struct fixture f;
static struct shmeta *instance;
static struct shmeta_reader *reader;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void put_small(const char *id, int64_t at_ms)
{
	const struct shmeta_agent agent = {.agent_id = str(id), .address = str("a"), .last_heartbeat_ms = at_ms};
	const struct shmeta_committed_offset offset = {.group_id = str(id), .committed_offset = (uint64_t)at_ms};
	const struct shmeta_lease lease = {
		.leader_agent_id = str(id), .epoch = (uint64_t)at_ms, .lease_expires_at_ms = 1000};

	cr_assert(memory_put_agent(f.db, NULL, &agent));
	cr_assert(memory_put_offset(f.db, NULL, id, &offset));
	cr_assert(memory_put_lease(f.db, NULL, id, &lease));
}

/* Topics bad and good, and an agent, a group, an offset and a lease of either name. */
static void begin(void)
{
	fixture_init(&f);
	fixture_prepare_reader(&f);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		f.options.ttl_ms[cls] = TTL_MS;
	fixture_topic(&f, "bad", 2, 3, 1111);
	fixture_topic(&f, "good", 2, 3, 1111);
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("bad")}));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("good")}));
	put_small("bad", 1);
	put_small("good", 1);
	fixture_open(&f);
	fixture_run(&f);
	fixture_open_reader(&f, &instance, &reader);
}

static void end(void)
{
	fixture_end_reading(&f, instance, reader);
}

static void expect_age(const char *what, enum shmeta_status status, const struct shmeta_freshness *fresh, bool expected)
{
	cr_expect_eq(status, SHMETA_OK, "%s: %d", what, status);
	cr_expect_eq(fresh->fresh, (uint32_t)expected, "%s is %llu ms old", what,
	             (unsigned long long)(fresh->age_ns / 1000000));
}

enum { TOPIC = 1, PARTITION = 2, AGENT = 4, OFFSET = 8, LEASE = 16 };

/* Which of what hangs on the name is fresh. */
static void expect_fresh(const char *name, unsigned set)
{
	struct shmeta_freshness fresh;
	struct shmeta_topic topic;
	struct shmeta_topic_stats stats;
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_agent agent;
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;
	struct shmeta_iter *iter;
	size_t n = strlen(name);

	fixture_begin_reading(&f, reader);
	expect_age("topic", shmeta_get_topic(reader, name, n, NULL, &topic, &fresh), &fresh, (set & TOPIC) != 0);
	expect_age("partition", shmeta_get_partition_named(reader, name, n, 1, NULL, &partition, &fresh), &fresh,
	           (set & PARTITION) != 0);
	expect_age("segment", shmeta_find_segment_named(reader, name, n, 1, 10, NULL, &segment, &fresh), &fresh,
	           (set & PARTITION) != 0);
	expect_age("sum of partitions", shmeta_topic_stats(reader, name, n, NULL, &stats, &fresh), &fresh,
	           (set & PARTITION) != 0);
	cr_assert_eq(shmeta_list_partitions(reader, name, n, NULL, &iter), SHMETA_OK);
	cr_expect_eq(shmeta_next_partition(iter, &partition, &fresh), SHMETA_OK);
	expect_age("partition of a list", shmeta_next_partition(iter, &partition, &fresh), &fresh,
	           (set & PARTITION) != 0);
	shmeta_iter_free(iter);
	expect_age("agent", shmeta_get_agent(reader, name, n, NULL, &agent, &fresh), &fresh, (set & AGENT) != 0);
	expect_age(
		"offset",
		shmeta_get_committed_offset(reader, name, strlen(name), name, strlen(name), 0, NULL, &offset, &fresh),
		&fresh, (set & OFFSET) != 0);
	expect_age("lease", shmeta_get_lease(reader, name, n, 0, 1, NULL, &lease, &fresh), &fresh, (set & LEASE) != 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

enum { ALL = TOPIC | PARTITION | AGENT | OFFSET | LEASE };

static void partition_stays_old(enum shmeta_status status)
{
	begin();
	cr_assert(memory_break_partition(f.db, "bad", 1, status, "cannot be read"));
	cr_assert(memory_set_watermark(f.db, NULL, "bad", 1, 77777));
	fixture_pass(&f, PASS_MS);
	expect_fresh("good", ALL);
	expect_fresh("bad", ALL & ~(unsigned)PARTITION);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	cr_expect_eq(fixture_counters(&f).quarantined, status != SHMETA_ERR_BUSY);
	cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "bad", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(fixture_answer(&f, 1)->status, status);
	cr_expect_not_null(strstr(fixture_answer(&f, 1)->sentence, "cannot be read"));
	memory_mend_partition(f.db, "bad", 1);
	fixture_pass(&f, PASS_MS);
	expect_fresh("bad", ALL);
	cr_expect_null(fixture_difference(&f));
	end();
}

Test(sync_true_age, a_partition_and_segments_that_cannot_be_read_keep_their_age)
{
	partition_stays_old(SHMETA_ERR_INVALID_ARGUMENT);
}

Test(sync_true_age, a_partition_and_segments_that_are_locked_keep_their_age_and_are_not_quarantined)
{
	partition_stays_old(SHMETA_ERR_BUSY);
}

/* A topic that is read with all of its partitions, because it was named as another one. */
Test(sync_true_age, a_topic_that_cannot_be_read_keeps_its_age_with_its_partitions)
{
	begin();
	cr_assert(memory_break_partition(f.db, "bad", 1, SHMETA_ERR_BUSY, "locked"));
	memory_delete_topic(f.db, NULL, "bad");
	fixture_topic(&f, "bad", 4, 3, 2222);
	fixture_pass(&f, PASS_MS);
	expect_fresh("good", ALL);

	struct shmeta_freshness fresh;
	struct shmeta_partition partition;
	struct shmeta_topic topic;

	fixture_begin_reading(&f, reader);
	expect_age("topic", shmeta_get_topic(reader, "bad", 3, NULL, &topic, &fresh), &fresh, false);
	expect_age("partition", shmeta_get_partition_named(reader, "bad", 3, 0, NULL, &partition, &fresh), &fresh,
	           false);
	/* It may be there by now. */
	cr_expect_eq(shmeta_get_partition_named(reader, "bad", 3, 3, NULL, &partition, &fresh), SHMETA_ABSENT);
	cr_expect_eq(fresh.fresh, 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	memory_mend_partition(f.db, "bad", 1);
	fixture_pass(&f, PASS_MS);
	cr_expect_null(fixture_difference(&f));
	end();
}

/* Who is locked, and not there yet, may be there. */
Test(sync_true_age, what_is_locked_and_not_there_yet_is_unknown)
{
	struct shmeta_topic topic;
	struct shmeta_freshness fresh;

	begin();
	cr_assert(memory_break_partition(f.db, "new", 1, SHMETA_ERR_BUSY, "locked"));
	fixture_topic(&f, "new", 2, 3, 1111);
	fixture_pass(&f, 5000);
	fixture_begin_reading(&f, reader);
	cr_expect_eq(shmeta_get_topic(reader, "new", 3, NULL, &topic, &fresh), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	memory_mend_partition(f.db, "new", 1);
	fixture_pass(&f, PASS_MS);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	cr_expect_null(fixture_difference(&f));
	end();
}

static void set_hint_ttl(uint32_t ms)
{
	f.options.ttl_ms[SHMETA_CLASS_AGENT] = f.options.ttl_ms[SHMETA_CLASS_OFFSET] =
		f.options.ttl_ms[SHMETA_CLASS_LEASE] = ms;
	sync_reconfigure(f.sync, &f.options);
}

static void small_records_stay_old(enum shmeta_status status)
{
	/* Our own writes name one key each; the feed of this engine names the class. */
	const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_REGISTER_AGENT,
	         .u.agent = {.agent_id = {"bad", 3}, .address = {"b", 1}, .last_heartbeat_ms = 2, .started_at_ms = 2}},
		{.type = SHMETA_OP_COMMIT_OFFSET,
	         .name = {"bad", 3},
	         .u.committed = {.group_id = {"bad", 3}, .committed_offset = 2}},
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = {"bad", 3}, .agent_id = {"bad", 3}, .duration_ms = 1000}};

	begin();
	/* No class is read as a whole. */
	set_hint_ttl(3600000);
	fixture_pass(&f, TTL_MS);
	memory_fail(f.db, MEMORY_FETCH, UINT32_MAX, 0, status, "cannot be read");
	memory_silence(f.db, true);
	cr_assert_eq(fixture_write(&f, ops, 3), SHMETA_OK);
	fixture_pass(&f, PASS_MS);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(f.write_result[i].status, SHMETA_OK, "%s", f.write_result[i].text);
	cr_expect_eq(f.write_status, SHMETA_ERR_NOT_CACHED);
	set_hint_ttl(TTL_MS);
	fixture_pass(&f, 1100); /* stamps carry the time to live */
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	expect_fresh("bad", TOPIC | PARTITION);
	expect_fresh("good", ALL);
	memory_fail(f.db, MEMORY_FETCH, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, PASS_MS);
	expect_fresh("bad", ALL);
	cr_expect_null(fixture_difference(&f));
	end();
}

Test(sync_true_age, agents_offsets_and_leases_that_cannot_be_read_keep_their_age)
{
	small_records_stay_old(SHMETA_ERR_INVALID_ARGUMENT);
}

Test(sync_true_age, agents_offsets_and_leases_that_are_locked_keep_their_age)
{
	small_records_stay_old(SHMETA_ERR_BUSY);
}

/* The next writer may be told of what has changed a part at a time. */
Test(sync_true_age, a_restart_keeps_the_age_until_all_of_it_was_read)
{
	uint64_t before, after;
	uint32_t ttl;

	begin();
	cr_assert(memory_break_partition(f.db, "bad", 1, SHMETA_ERR_BUSY, "locked"));
	cr_assert(memory_set_watermark(f.db, NULL, "bad", 1, 77777));
	fixture_pass(&f, 10000);
	cr_assert(fixture_record_stamp(&f, "bad", 1, &before, &ttl));
	cr_expect_eq(before & SHMETA_SYNCED_ALONE, SHMETA_SYNCED_ALONE);
	fixture_close(&f);
	fixture_open(&f);
	fixture_pass(&f, 10000);
	cr_assert(fixture_record_stamp(&f, "bad", 1, &after, &ttl));
	cr_expect_eq(after, before);
	memory_mend_partition(f.db, "bad", 1);
	fixture_pass(&f, 60000);
	cr_assert(fixture_record_stamp(&f, "bad", 1, &after, &ttl));
	cr_expect_eq(after & SHMETA_SYNCED_ALONE, 0);
	cr_expect_gt(after, before & ~SHMETA_SYNCED_ALONE);
	cr_expect_null(fixture_difference(&f));
	end();
}

Test(sync_true_age, any_number_of_locked_keys_leaves_the_source_where_it_is)
{
	enum { TOPICS = 1200 };
	char name[16];

	fixture_init(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%04d", i);
		fixture_topic(&f, name, 1, 1, 1111);
	}
	fixture_topic(&f, "good", 1, 1, 1111);
	fixture_open(&f);
	fixture_run(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%04d", i);
		cr_assert(memory_break_partition(f.db, name, 0, SHMETA_ERR_BUSY, "locked"));
		cr_assert(memory_set_watermark(f.db, NULL, name, 0, 7));
	}
	fixture_pass(&f, 3000);
	cr_expect_eq(f.sync->failing.count, TOPICS);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	cr_expect(!fixture_logged(&f, "source_away"));
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_PARTITION), 2000);
	cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "good", 0, 1), SHMETA_OK);
	fixture_pass(&f, 10);
	cr_expect_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%04d", i);
		memory_mend_partition(f.db, name, 0);
	}
	fixture_pass(&f, PASS_MS);
	cr_expect_eq(f.sync->failing.count, 0);
	cr_expect_null(fixture_difference(&f));
	fixture_done(&f);
}
