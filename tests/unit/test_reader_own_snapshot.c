/* SPDX-License-Identifier: Apache-2.0
 * FRESH and SOURCE without leave to move: the answer comes from a snapshot of the call's own, the
 * reader's stays what it is. And what the caller holds may be closed in any order. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/fake_writer.h"

static const uint64_t SECOND = 1000000000;
static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
static struct shmeta_read stay = {sizeof stay, SHMETA_SOURCE, 5000, 0, 0, buffer, sizeof buffer};

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, topic, 1, 10, 10);
	(void)fake_simple_topic(w, "u", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_own_snapshot, .init = set_up, .fini = tear_down, .timeout = 30);
TestSuite(reader_close, .timeout = 60);

/* What the source has by now: one segment more, and a topic with a policy. */
static void source_moved(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_even_partition(f, topic, 1, 11, 10);
	(void)fake_topic(f, &(struct fake_topic){.name = "late", .partitions = 1, .policy = "compact"});
	(void)fake_commit(f);
	fake_stamp_all(f);
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

static const char *last_error(void)
{
	static char text[512];

	return shmeta_last_error(instance, text, sizeof text);
}

static int says(struct shmeta_str s, const char *text)
{
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

static int in_buffer(struct shmeta_str s)
{
	return s.data >= buffer && s.data + s.bytes <= buffer + sizeof buffer;
}

Test(reader_own_snapshot, the_answer_is_newer_and_the_snapshot_with_its_views_and_iterators_lives_on)
{
	struct shmeta_topic old, late;
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	struct shmeta_iter *iter;
	struct shmeta_handle *h;
	uint64_t txn = begin();

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &old, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, &stay, &late, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.txn, txn + 1);
	cr_assert(fresh.fresh);
	cr_assert(says(late.name, "late") && in_buffer(late.name));
	cr_assert(says(late.cleanup_policy, "compact") && in_buffer(late.cleanup_policy));
	cr_assert_eq(snapshot(), txn, "the reader did not move");
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, NULL, &late, NULL), SHMETA_ABSENT);
	cr_assert(says(old.name, "t"));
	cr_assert_eq(shmeta_next_topic(iter, &late, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &late, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &late, NULL), SHMETA_END);
	w->on_refresh = NULL;
	cr_assert_eq(shmeta_get_partition(h, &stay, &p, &fresh), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, &stay, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 10);
	cr_assert_eq(fake_slot(w, 0)->counters.fresh_waits, 3);
	cr_assert_eq(fake_slot(w, 0)->counters.found, 8, "answers of a snapshot of their own are counted, too");
	shmeta_iter_free(iter);
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(begin(), txn + 1);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_own_snapshot, a_segment_has_its_strings_in_the_buffer_and_none_without_one)
{
	struct shmeta_read bare = stay;
	struct shmeta_freshness fresh;
	struct shmeta_handle *h;
	struct shmeta_segment s;
	uint64_t txn = begin();

	bare.buffer = NULL;
	bare.buffer_bytes = 0;
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment(h, 105, &bare, &s, &fresh), SHMETA_OK);
	cr_assert_eq(s.base_offset, 100);
	cr_assert_eq(s.s3_key.bytes, 0);
	cr_assert_eq(fresh.txn, txn + 1);
	w->on_refresh = NULL;
	cr_assert_eq(shmeta_find_segment(h, 105, &stay, &s, NULL), SHMETA_OK);
	cr_assert(says(s.s3_key, "data/t/1/00000000000000000100.seg") && in_buffer(s.s3_key), "%s", s.s3_key.data);
	memset(buffer, 0, sizeof buffer);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 1, 105, &stay, &s, NULL), SHMETA_OK);
	cr_assert(says(s.s3_key, "data/t/1/00000000000000000100.seg") && in_buffer(s.s3_key));
	cr_assert_eq(shmeta_find_segment(h, 105, NULL, &s, NULL), SHMETA_ABSENT_AT_END, "not in this snapshot");
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_own_snapshot, a_buffer_that_is_too_small_is_said_and_nothing_is_written)
{
	struct shmeta_topic t = {.topic_id = 77};
	struct shmeta_segment s = {.base_offset = 77};
	struct shmeta_read small = stay;

	(void)begin();
	small.buffer_bytes = 0;
	small.buffer = NULL;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_BUFFER);
	cr_assert_neq(strstr(last_error(), "buffer of 0 bytes"), NULL, "%s", last_error());
	small.consistency = SHMETA_FRESH;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_BUFFER,
	             "whether or not the writer had to be asked");
	small.buffer = buffer;
	small.buffer_bytes = 20;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_OK);
	t.topic_id = 77;
	small.buffer_bytes = 0;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_BUFFER);
	small.buffer_bytes = 20;
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 1, 5, &small, &s, NULL), SHMETA_ERR_BUFFER);
	cr_assert_eq(t.topic_id, 77);
	cr_assert_eq(s.base_offset, 77);
	small.buffer = NULL;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	small = stay;
	small.flags = 4;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_neq(strstr(last_error(), "unknown flags 0x4"), NULL, "%s", last_error());
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

/* Deleted and made anew: the handle is the former topic's. */
static void topic_made_anew(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_delete_topic(f, NULL, "t");
	fake_even_partition(f, fake_simple_topic(f, "t", 2), 1, 3, 10);
	(void)fake_commit(f);
	fake_stamp_all(f);
}

Test(reader_own_snapshot, a_handle_of_a_topic_that_was_made_anew_is_absent_there_too)
{
	struct shmeta_partition p;
	struct shmeta_handle *h;

	(void)begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	w->on_refresh = topic_made_anew;
	cr_assert_eq(shmeta_get_partition(h, &stay, &p, NULL), SHMETA_ABSENT);
	w->on_refresh = NULL;
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_OK, "in the open snapshot it is there");
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, &stay, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 3);
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_own_snapshot, it_follows_into_a_new_generation_and_leaves_the_reader_in_the_old_one)
{
	struct shmeta_snapshot_info before, after;
	struct shmeta_partition p;
	struct shmeta_handle *h;

	(void)begin();
	cr_assert_eq(shmeta_snapshot_info(reader, &before), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	fake_switch_generation(w);
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_get_partition(h, &stay, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(shmeta_snapshot_info(reader, &after), SHMETA_OK);
	cr_assert_eq(after.generation, before.generation);
	cr_assert_eq(after.txn, before.txn);
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 10);
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_own_snapshot, with_leave_the_reader_moves_and_iterators_of_the_old_snapshot_end)
{
	const struct shmeta_read move = {sizeof move, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	struct shmeta_iter *iter;
	struct shmeta_topic t;
	uint64_t txn = begin();

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, &move, &t, NULL), SHMETA_OK);
	cr_assert_eq(snapshot(), txn + 1);
	cr_assert(!in_buffer(t.name));
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_ERR_NO_SNAPSHOT);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

/* That the snapshot before it had expired is said of that one alone. */
Test(reader_own_snapshot, a_move_that_fails_leaves_no_snapshot_and_the_next_one_is_good)
{
	const struct shmeta_read move = {sizeof move, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	char from[128], to[128];
	struct shmeta_topic t;

	(void)begin();
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	fake_switch_generation(w);
	(void)snprintf(from, sizeof from, "%s/store.2", w->dir);
	(void)snprintf(to, sizeof to, "%s/elsewhere", w->dir);
	cr_assert_eq(rename(from, to), 0);
	fake_revoke(w);
	enum shmeta_status moved = shmeta_get_topic(reader, "t", 1, &move, &t, NULL);
	cr_assert_eq(moved, SHMETA_ERR_SYSTEM, "%d: %s", (int)moved, last_error());
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(rename(to, from), 0);
	(void)begin();
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_own_snapshot, an_old_answer_is_still_the_snapshots_after_the_wait)
{
	struct shmeta_read fresh = stay;
	struct shmeta_freshness age;
	struct shmeta_topic t;
	uint64_t txn = begin();

	fresh.consistency = SHMETA_FRESH;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh, &t, &age), SHMETA_OK);
	cr_assert_eq(age.txn, txn);
	cr_assert_eq(w->refreshes, 0, "it was fresh");
	cr_assert(in_buffer(t.name), "its strings are where the caller looks for them");
	fake_advance(w, 301 * SECOND);
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh, &t, &age), SHMETA_OK);
	cr_assert_eq(age.txn, txn + 1);
	cr_assert(age.fresh);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

/* ---- closing ---- */

enum { HANDLE, TOPICS, SEGMENTS, READER, INSTANCE, CLIENT, THINGS };

struct things {
	struct shmeta_handle *handle;
	struct shmeta_iter *topics, *segments;
	struct shmeta_reader *reader;
	struct shmeta *instance;
	struct shmeta_client *client;
};

static void close_one(struct things *t, int which)
{
	switch (which) {
	case HANDLE:
		shmeta_partition_close(t->handle);
		break;
	case TOPICS:
		shmeta_iter_free(t->topics);
		break;
	case SEGMENTS:
		shmeta_iter_free(t->segments);
		break;
	case READER:
		shmeta_reader_free(t->reader);
		break;
	case INSTANCE:
		shmeta_close(t->instance);
		break;
	default:
		shmeta_client_close(t->client);
	}
}

static void open_all(struct things *t)
{
	t->instance = fake_open(w, NULL, 0, 4);
	t->reader = fake_reader(t->instance);
	cr_assert_neq(t->reader, NULL);
	cr_assert_eq(shmeta_client_open(t->instance, NULL, &t->client), SHMETA_OK);
	cr_assert_eq(shmeta_begin(t->reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(t->reader, "t", 1, 1, &t->handle), SHMETA_OK);
	cr_assert_eq(shmeta_list_topics(t->reader, "*", 1, 1, NULL, &t->topics), SHMETA_OK);
	cr_assert_eq(shmeta_list_segments(t->handle, 0, 100, NULL, &t->segments), SHMETA_OK);
}

Test(reader_close, handles_iterators_readers_instances_and_clients_close_in_any_order, .init = set_up,
     .fini = tear_down)
{
	int orders = 1;

	for (int i = 2; i <= THINGS; i++)
		orders *= i;
	for (int order = 0; order < orders; order++) {
		int left[THINGS] = {HANDLE, TOPICS, SEGMENTS, READER, INSTANCE, CLIENT};
		struct things t;

		open_all(&t);
		for (int n = THINGS, rest = order; n > 0; n--) {
			int i = rest % n;

			rest /= n;
			close_one(&t, left[i]);
			left[i] = left[n - 1];
		}
	}
}

Test(reader_close, what_outlives_its_reader_answers_an_error, .init = set_up, .fini = tear_down)
{
	const struct shmeta_find find = {NULL, 5};
	struct shmeta_find finds[1] = {find};
	enum shmeta_status status[1];
	struct shmeta_partition p;
	struct shmeta_iter *iter;
	struct shmeta_segment s;
	struct shmeta_topic topic_of;
	struct things t;
	char strings[64];

	open_all(&t);
	shmeta_close(t.instance);
	cr_assert_eq(shmeta_get_partition(t.handle, NULL, &p, NULL), SHMETA_OK, "the reader keeps the instance");
	shmeta_reader_free(t.reader);
	cr_assert_eq(shmeta_get_partition(t.handle, NULL, &p, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_partition(t.handle, &stay, &p, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segment(t.handle, 5, NULL, &s, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segment_for_timestamp(t.handle, 5, NULL, &s, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_last_segment(t.handle, NULL, &s, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_list_segments(t.handle, 0, 5, NULL, &iter), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_segment_strings(t.handle, &s, strings, sizeof strings), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_partitions(1, &t.handle, NULL, status, &p), SHMETA_ERR_INVALID_ARGUMENT);
	finds[0].handle = t.handle;
	cr_assert_eq(shmeta_find_segments(1, finds, NULL, status, &s), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_next_topic(t.topics, &topic_of, NULL), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_skip_topics(t.topics, "a", 1), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_next_segment(t.segments, &s), SHMETA_ERR_NO_SNAPSHOT);
	shmeta_partition_close(t.handle);
	shmeta_iter_free(t.topics);
	shmeta_iter_free(t.segments);
	shmeta_client_close(t.client);
}
