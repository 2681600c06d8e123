/* SPDX-License-Identifier: Apache-2.0
 * shmeta_changes_since(): which keys are told, and that a cache which forgets them holds what the
 * store holds, over restarts, generations and a store that is loaded anew. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/fixture_reader.h"

TestSuite(changes, .timeout = 3600);

static struct fixture f;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_token position;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void open_reader(void)
{
	fixture_open_reader(&f, &instance, &reader);
}

static void begin(struct shmeta_token *ret_at)
{
	struct shmeta_snapshot_info info;

	fixture_begin_reading(&f, reader);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	*ret_at = (struct shmeta_token){info.generation, info.txn};
}

static void close_all(void)
{
	fixture_end_reading(&f, instance, reader);
}

/* "topic t0; partition t0/3 deleted; ...", in the order in which it is told; and goes on from here.
 * "too old". */
static const char *told(void)
{
	static char text[8192];
	static const char *const classes[] = {
#define X(name, number, word, ttl_ms) word,
		SHMETA_CLASS_LIST(X)
#undef X
	};
	struct shmeta_change change;
	struct shmeta_iter *iter;
	struct shmeta_token now;
	enum shmeta_status status;
	size_t n = 0;

	begin(&now);
	status = shmeta_changes_since(reader, &position, &iter);
	text[0] = '\0';
	if (status == SHMETA_TOO_OLD)
		strcpy(text, "too old");
	else
		cr_assert_eq(status, SHMETA_OK, "%d", (int)status);
	if (status == SHMETA_OK) {
		while ((status = shmeta_next_change(iter, &change)) == SHMETA_OK)
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %.*s%s%.*s/%u%s", n > 0 ? "; " : "",
			                      classes[change.cls], (int)change.name.bytes, change.name.data,
			                      change.name.bytes > 0 && change.topic.bytes > 0 ? " " : "",
			                      (int)change.topic.bytes, change.topic.data, change.partition_id,
			                      change.deleted ? " deleted" : "");
		cr_assert_eq(status, SHMETA_END);
		cr_expect_eq(shmeta_iter_complete(iter), SHMETA_OK);
		shmeta_iter_free(iter);
	}
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	position = now;
	return text;
}

static void set_up(void)
{
	fixture_init(&f);
	fixture_topic(&f, "first", 2, 1, 50);
	fixture_open(&f);
	fixture_pass(&f, 100);
	open_reader();
	(void)told();
}

#define EXPECT_TOLD(what)                                   \
	do {                                                \
		const char *told_ = told();                 \
		cr_expect_str_eq(told_, what, "%s", told_); \
	} while (0)

Test(changes, each_kind_of_record_is_told_by_its_key_and_what_is_gone_as_deleted, .init = set_up, .fini = close_all)
{
	EXPECT_TOLD("");
	cr_assert(memory_create_topic(f.db, NULL, "second", 2, 60));
	fixture_pass(&f, 100);
	EXPECT_TOLD("topic second/0; partition second/0; partition second/1");
	cr_assert(memory_set_watermark(f.db, NULL, "second", 1, 7));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition second/1");
	cr_assert(fixture_add_segment(&f, "first", 0, 1000, 10));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition first/0");
	cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = str("a")}));
	fixture_pass(&f, 100);
	EXPECT_TOLD("agent a/0");
	cr_assert(memory_put_lease(
		f.db, NULL, "first",
		&(struct shmeta_lease){
			.leader_agent_id = str("a"), .partition_id = 1, .epoch = 1, .lease_expires_at_ms = 9}));
	fixture_pass(&f, 100);
	EXPECT_TOLD("lease first/1");
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("g")}));
	fixture_pass(&f, 100);
	EXPECT_TOLD("offset g/0");
	cr_assert(memory_put_offset(
		f.db, NULL, "second",
		&(struct shmeta_committed_offset){.group_id = str("g"), .partition_id = 1, .committed_offset = 3}));
	fixture_pass(&f, 100);
	EXPECT_TOLD("offset g second/1");
	cr_assert(memory_delete_topic(f.db, NULL, "second"));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition second/0 deleted; partition second/1 deleted; topic second/0 deleted; "
	            "offset g second/1 deleted");
	cr_assert(memory_delete_group(f.db, NULL, "g"));
	cr_assert(memory_delete_lease(f.db, NULL, "first", 1));
	fixture_pass(&f, 100);
	EXPECT_TOLD("offset g/0 deleted; lease first/1 deleted");
	cr_assert(memory_delete_agent(f.db, NULL, "a"));
	fixture_pass(&f, 100);
	EXPECT_TOLD("agent a/0 deleted");
}

/* Nothing else of it leaves before its row. */
Test(changes, a_topic_without_partitions_is_told_with_the_offsets_that_go_with_it, .init = set_up, .fini = close_all)
{
	cr_assert(memory_create_topic(f.db, NULL, "bare", 2, 60));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("g")}));
	cr_assert(memory_delete_partition(f.db, NULL, "bare", 0));
	cr_assert(memory_delete_partition(f.db, NULL, "bare", 1));
	cr_assert(memory_put_offset(
		f.db, NULL, "bare",
		&(struct shmeta_committed_offset){.group_id = str("g"), .partition_id = 1, .committed_offset = 3}));
	fixture_pass(&f, 100);
	EXPECT_TOLD("topic bare/0; offset g/0; offset g bare/1");
	cr_assert(memory_delete_topic(f.db, NULL, "bare"));
	fixture_pass(&f, 100);
	EXPECT_TOLD("topic bare/0 deleted; offset g bare/1 deleted");
}

Test(changes, what_changes_twice_in_a_commit_is_told_once_and_as_it_is_at_its_end, .init = set_up, .fini = close_all)
{
	cr_assert(memory_delete_topic(f.db, NULL, "first"));
	cr_assert(memory_create_topic(f.db, NULL, "first", 1, 70));
	cr_assert(memory_set_watermark(f.db, NULL, "first", 0, 5));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition first/0; partition first/1 deleted; topic first/0");
}

Test(changes, a_moved_stamp_is_no_change, .init = set_up, .fini = close_all)
{
	uint64_t before = fixture_committed(&f);

	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "first", 0, 1), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "first", 1, 2), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(fixture_compare_all(&f, 3), SHMETA_OK);
	fixture_pass(&f, 1000);
	cr_expect_not_null(fixture_answer(&f, 3));
	cr_expect_gt(fixture_committed(&f), before, "stamps of single keys were committed");
	EXPECT_TOLD("");
}

static void put_lease(const char *topic, uint32_t partition, const char *holder, uint64_t epoch, int64_t expires_ms)
{
	cr_assert(memory_put_lease(f.db, NULL, topic,
	                           &(struct shmeta_lease){.leader_agent_id = str(holder),
	                                                  .partition_id = partition,
	                                                  .epoch = epoch,
	                                                  .lease_expires_at_ms = expires_ms}));
}

static int64_t lease_ends(const char *topic, uint32_t partition)
{
	struct shmeta_lease lease = {0};
	struct shmeta_token at;

	begin(&at);
	cr_assert_eq(shmeta_get_lease(reader, topic, strlen(topic), partition, INT64_MIN, NULL, &lease, NULL),
	             SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return lease.lease_expires_at_ms;
}

Test(changes, a_lease_that_lasts_longer_is_no_change_and_any_other_of_it_is, .init = set_up, .fini = close_all)
{
	put_lease("first", 1, "a", 1, 10);
	fixture_pass(&f, 100);
	EXPECT_TOLD("lease first/1");
	put_lease("first", 1, "a", 1, 20);
	fixture_pass(&f, 100);
	EXPECT_TOLD("");
	cr_expect_eq(lease_ends("first", 1), 20);
	put_lease("first", 1, "a", 1, 19);
	fixture_pass(&f, 100);
	EXPECT_TOLD("lease first/1");
	put_lease("first", 1, "a", 2, 30);
	fixture_pass(&f, 100);
	EXPECT_TOLD("lease first/1");
	put_lease("first", 1, "b", 2, 40);
	fixture_pass(&f, 100);
	EXPECT_TOLD("lease first/1");
}

/* An agent's beat moves the ends of all that it holds: their keys would be more than the journal
 * holds. */
Test(changes, many_leases_are_renewed_and_nobody_forgets_everything, .init = set_up, .fini = close_all)
{
	enum { LEASES = 10000 };
	char name[SHMETA_NAME_MAX];

	memset(name, 'w', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	cr_assert(memory_create_topic(f.db, NULL, name, LEASES, 60));
	for (int beat = 1; beat <= 3; beat++) {
		for (uint32_t p = 0; p < LEASES; p++)
			put_lease(name, p, "a", 1, beat * 10);
		fixture_pass(&f, 1000);
		EXPECT_TOLD(beat == 1 ? "too old" : "");
		cr_expect_eq(lease_ends(name, LEASES - 1), beat * 10);
	}
}

Test(changes, other_tenants_changes_are_not_told, .init = set_up, .fini = close_all)
{
	cr_assert(memory_create_topic(f.db, "elsewhere", "theirs", 2, 60));
	cr_assert(memory_set_watermark(f.db, NULL, "first", 1, 7));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition first/1");
}

Test(changes, a_topic_of_too_many_partitions_to_be_told_is_too_old, .init = set_up, .fini = close_all)
{
	char name[SHMETA_NAME_MAX];

	memset(name, 'w', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	cr_assert(memory_create_topic(f.db, NULL, name, 4000, 60));
	fixture_pass(&f, 1000);
	EXPECT_TOLD("too old");
	cr_assert(memory_set_watermark(f.db, NULL, "first", 1, 7));
	fixture_pass(&f, 100);
	EXPECT_TOLD("partition first/1");
}

Test(changes, arguments_that_cannot_be_are_refused, .init = set_up, .fini = close_all)
{
	struct shmeta_token now, ahead;
	struct shmeta_change change;
	struct shmeta_iter *iter;

	cr_expect_eq(shmeta_changes_since(reader, &position, &iter), SHMETA_ERR_NO_SNAPSHOT);
	begin(&now);
	cr_expect_eq(shmeta_changes_since(reader, NULL, &iter), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_changes_since(reader, &now, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	ahead = (struct shmeta_token){now.generation + 1, now.txn};
	cr_expect_eq(shmeta_changes_since(reader, &ahead, &iter), SHMETA_TOO_OLD);
	ahead = (struct shmeta_token){0, now.txn};
	cr_expect_eq(shmeta_changes_since(reader, &ahead, &iter), SHMETA_TOO_OLD);
	ahead = (struct shmeta_token){now.generation, now.txn + 5};
	cr_assert_eq(shmeta_changes_since(reader, &ahead, &iter), SHMETA_OK, "nothing came after that");
	cr_expect_eq(shmeta_next_change(iter, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_next_topic(iter, &(struct shmeta_topic){0}, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_next_change(iter, &change), SHMETA_END);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_expect_eq(shmeta_next_change(iter, &change), SHMETA_ERR_NO_SNAPSHOT);
	shmeta_iter_free(iter);
}

/* ---- a cache ---- */

enum { TOPICS = 6, PARTITIONS = 3, GROUPS = 4, AGENTS = 3, ANSWER = 96 };
enum { OF_GROUPS = TOPICS + 2 * TOPICS * PARTITIONS, OF_AGENTS = OF_GROUPS + GROUPS };
enum { OF_OFFSETS = OF_AGENTS + AGENTS, KEYS = OF_OFFSETS + GROUPS * TOPICS * PARTITIONS };

/* What the store answers for each key, as text; empty: forgotten. */
static struct cached {
	char answer[ANSWER];
} cache[KEYS];
static uint64_t hits, forgotten, too_old;

static int number_in(struct shmeta_str name)
{
	return name.data[1] - '0';
}

static int key_of(const struct shmeta_change *change)
{
	int topic = change->topic.bytes > 0 ? number_in(change->topic) : 0, p = (int)change->partition_id;

	switch (change->cls) {
	case SHMETA_CLASS_TOPIC:
		return topic;
	case SHMETA_CLASS_PARTITION:
		return TOPICS + topic * PARTITIONS + p;
	case SHMETA_CLASS_LEASE:
		return TOPICS + TOPICS * PARTITIONS + topic * PARTITIONS + p;
	case SHMETA_CLASS_AGENT:
		return OF_AGENTS + number_in(change->name);
	default:
		return change->topic.bytes == 0
		               ? OF_GROUPS + number_in(change->name)
		               : OF_OFFSETS + (number_in(change->name) * TOPICS + topic) * PARTITIONS + p;
	}
}

/* What the snapshot says of the key. */
static void look_up(int key, char *ret)
{
	struct shmeta_committed_offset offset = {0};
	struct shmeta_partition partition = {0};
	struct shmeta_segment last = {0};
	struct shmeta_agent agent = {0};
	struct shmeta_lease lease = {0};
	struct shmeta_topic topic = {0};
	struct shmeta_handle *handle;
	struct shmeta_group group;
	enum shmeta_status status;
	char name[2] = {'t', '0'}, by[2] = {'g', '0'};
	int at = key;

	if (at < TOPICS) {
		name[1] += (char)at;
		status = shmeta_get_topic(reader, name, 2, NULL, &topic, NULL);
		snprintf(ret, ANSWER, "topic %d %d %u", (int)status, (int)topic.created_at_ms, topic.partition_count);
	} else if (at < OF_GROUPS) {
		at = (at - TOPICS) % (TOPICS * PARTITIONS);
		name[1] += (char)(at / PARTITIONS);
		if (key < TOPICS + TOPICS * PARTITIONS) {
			status = shmeta_partition_open(reader, name, 2, (uint32_t)(at % PARTITIONS), &handle);
			if (status == SHMETA_OK) {
				cr_assert_eq(shmeta_get_partition(handle, NULL, &partition, NULL), SHMETA_OK);
				(void)!shmeta_last_segment(handle, NULL, &last, NULL);
				shmeta_partition_close(handle);
			}
			snprintf(ret, ANSWER, "partition %d %d %d %d", (int)status, (int)partition.high_watermark,
			         (int)partition.segment_count, (int)last.base_offset);
		} else {
			status = shmeta_get_lease(reader, name, 2, (uint32_t)(at % PARTITIONS), INT64_MIN, NULL, &lease,
			                          NULL);
			snprintf(ret, ANSWER, "lease %d %d", (int)status, (int)lease.epoch);
		}
	} else if (at < OF_AGENTS) {
		by[1] += (char)(at - OF_GROUPS);
		snprintf(ret, ANSWER, "group %d", (int)shmeta_get_group(reader, by, 2, NULL, &group, NULL));
	} else if (at < OF_OFFSETS) {
		by[0] = 'a';
		by[1] += (char)(at - OF_AGENTS);
		status = shmeta_get_agent(reader, by, 2, NULL, &agent, NULL);
		snprintf(ret, ANSWER, "agent %d %d", (int)status, (int)agent.last_heartbeat_ms);
	} else {
		at -= OF_OFFSETS;
		by[1] += (char)(at / (TOPICS * PARTITIONS));
		name[1] += (char)(at / PARTITIONS % TOPICS);
		status = shmeta_get_committed_offset(reader, by, 2, name, 2, (uint32_t)(at % PARTITIONS), NULL, &offset,
		                                     NULL);
		snprintf(ret, ANSWER, "offset %d %d", (int)status, (int)offset.committed_offset);
	}
}

/* Forget what changed, and compare all that is left with the store. */
static void catch_up(uint64_t step)
{
	struct shmeta_change change;
	struct shmeta_iter *iter;
	struct shmeta_token now;
	enum shmeta_status status;
	char truth[ANSWER];

	begin(&now);
	status = shmeta_changes_since(reader, &position, &iter);
	if (status == SHMETA_OK) {
		while ((status = shmeta_next_change(iter, &change)) == SHMETA_OK) {
			cache[key_of(&change)].answer[0] = '\0';
			forgotten++;
		}
		cr_assert_eq(status, SHMETA_END);
		shmeta_iter_free(iter);
	} else {
		cr_assert_eq(status, SHMETA_TOO_OLD, "step %" PRIu64 ": %d", step, (int)status);
		memset(cache, 0, sizeof cache);
		too_old++;
	}
	for (int key = 0; key < KEYS; key++) {
		look_up(key, truth);
		hits += cache[key].answer[0] != '\0';
		if (cache[key].answer[0] != '\0' && strcmp(cache[key].answer, truth) != 0)
			cr_assert_fail("step %" PRIu64 ", commit %" PRIu64 ": the cache says \"%s\", the store \"%s\"",
			               step, now.txn, cache[key].answer, truth);
		strcpy(cache[key].answer, truth);
	}
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	position = now;
}

static void change_something(unsigned *seed, uint64_t step)
{
	char topic[] = {'t', (char)('0' + rand_r(seed) % TOPICS), '\0'},
	     group[] = {'g', (char)('0' + rand_r(seed) % GROUPS), '\0'},
	     agent[] = {'a', (char)('0' + rand_r(seed) % AGENTS), '\0'};
	uint32_t partition = (uint32_t)rand_r(seed) % PARTITIONS;
	struct shmeta_partition found;
	bool there = memory_find_partition(f.db, SHMETA_DEFAULT_TENANT, topic, partition, &found);

	switch (rand_r(seed) % 40) {
	case 0:
		(void)memory_delete_topic(f.db, NULL, topic);
		break;
	case 1:
		(void)memory_delete_partition(f.db, NULL, topic, partition);
		break;
	case 2:
		(void)memory_delete_group(f.db, NULL, group);
		break;
	case 3:
		(void)memory_delete_agent(f.db, NULL, agent);
		break;
	case 4:
	case 5:
	case 6:
		(void)memory_create_topic(f.db, NULL, topic, PARTITIONS, 1000 + (int64_t)step);
		break;
	case 7:
	case 8:
	case 9:
		cr_assert(memory_put_agent(
			f.db, NULL,
			&(struct shmeta_agent){.agent_id = str(agent), .last_heartbeat_ms = 1000 + (int64_t)step}));
		break;
	case 10:
	case 11:
	case 12:
		if (there)
			cr_assert(memory_put_lease(f.db, NULL, topic,
			                           &(struct shmeta_lease){.leader_agent_id = str(agent),
			                                                  .partition_id = partition,
			                                                  .epoch = step}));
		break;
	case 13:
	case 14:
	case 15:
	case 16:
		if (there) {
			(void)memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str(group)});
			cr_assert(memory_put_offset(f.db, NULL, topic,
			                            &(struct shmeta_committed_offset){.group_id = str(group),
			                                                              .partition_id = partition,
			                                                              .committed_offset = step}));
		}
		break;
	case 17:
		if (there)
			(void)memory_delete_segments_before(f.db, NULL, topic, partition, found.high_watermark);
		break;
	case 18:
	case 19:
	case 20:
		if (there)
			(void)fixture_add_segment(&f, topic, partition, found.high_watermark, 1 + step % 9);
		break;
	default:
		if (there)
			(void)memory_set_watermark(f.db, NULL, topic, partition, found.high_watermark + 10 + step % 5);
		break;
	}
}

static void lose_the_store(void)
{
	char path[96];

	snprintf(path, sizeof path, "%s/store.%" PRIu64 "/data.mdb", f.dir, f.board->generation);
	cr_assert_eq(truncate(path, 3 * 4096), 0);
}

/* How the writer comes back: 0: it adopts its store; 1: it copies it; 2: it loads a new one. */
static void restart(int way)
{
	if (way == 2) {
		/* The reader has the file mapped that is cut off. */
		shmeta_reader_free(reader);
		shmeta_close(instance);
		fixture_close(&f);
		lose_the_store();
	} else {
		fixture_crash(&f);
	}
	f.kept = way != 1;
	fixture_open(&f);
	fixture_pass(&f, 3000);
	if (way == 2)
		open_reader();
}

Test(changes, a_cache_that_forgets_what_is_told_stays_equal_to_the_store)
{
	uint64_t steps = getenv("SHMETA_FAULTS") != NULL ? 50000 : 1000, loaded = 0, restarts = 0, commits = 0, last;
	unsigned seed = 3;

	fixture_init(&f);
	fixture_open(&f);
	fixture_pass(&f, 100);
	open_reader();
	last = fixture_committed(&f);
	for (uint64_t step = 1; commits < steps; step++) {
		cr_assert_lt(step, 1000 * steps, "the writer does not write any more: %s", f.log);
		for (int i = rand_r(&seed) % 3; i >= 0; i--)
			change_something(&seed, step);
		fixture_pass(&f, 1);
		commits += fixture_committed(&f) - last;
		if (rand_r(&seed) % 3 != 0)
			catch_up(step);
		if (step % 997 == 0) {
			int way = (int)(step / 997) % 3;

			restart(way);
			restarts++;
			loaded += way == 2;
			catch_up(step);
		}
		last = fixture_committed(&f);
	}
	cr_expect_leq(too_old, loaded + 1, "%" PRIu64 " times too old, of %" PRIu64 " loads", too_old, loaded);
	cr_expect_gt(loaded, 0);
	cr_expect_gt(hits, forgotten * 10);
	figure("a cache that follows the change journal", commits, 1000000, "commits",
	       "equal to the store all the time: %" PRIu64 " restarts, %" PRIu64
	       " of them with a store loaded anew; %" PRIu64 " keys told, %" PRIu64 " cached answers compared",
	       restarts, loaded, forgotten, hits);
	close_all();
}
