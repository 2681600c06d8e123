/* SPDX-License-Identifier: Apache-2.0
 * The engine in bounded mode: the store never has more than the budgets say, what it has is what
 * the source has, and what it does not have it calls unknown, unless the source was asked for it
 * and did not have it. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backends/memory/memory.h"
#include "shm/page/touch.h"
#include "shm/store/store_inspect.h"
#include "tests/support/sync_fixture.h"
#include "writer/apply/apply.h"

enum { TOPICS = 20, PARTITIONS = 4, SEGMENTS = 3 };

static struct fixture f;
static uint64_t ticket;
static uint64_t grace_ns;      /* 0: the fixture's */
static uint32_t segments_each; /* 0: SEGMENTS */
static bool by_record;         /* without a feed, and with times to live of their own, all of which
                                * are used */

static void use_all(struct fixture *fixture, uint8_t *seen, uint32_t ceiling)
{
	(void)fixture;
	memset(seen, 1, ceiling);
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void name_of(char *ret, size_t bytes, int topic)
{
	(void)snprintf(ret, bytes, "topic-%02d", topic);
}

static void prepare(uint32_t max_topics, uint32_t max_partitions)
{
	char name[32];

	fixture_init(&f);
	ticket = 0;
	f.uid = 0;
	f.options.reconcile_s = 0;
	f.options.bounded = true;
	if (by_record) {
		memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
		f.on_touched = use_all;
		f.options.touch_ceiling = 1024;
		f.options.freshness = (struct ttl_config){
			.min_ms = 2000, .base_ms = 4000, .max_ms = 4000, .longer_percent = 200, .shorter_percent = 50};
	}
	f.options.grace_ns = grace_ns != 0 ? grace_ns : f.options.grace_ns;
	f.options.max_topics = max_topics;
	f.options.max_partitions = max_partitions;
	f.options.touch_ceiling = touch_ceiling(max_partitions);
	for (int i = 0; i < TOPICS; i++) {
		name_of(name, sizeof name, i);
		fixture_topic(&f, name, PARTITIONS, segments_each != 0 ? segments_each : SEGMENTS, 1000 + i);
	}
	fixture_open(&f);
	fixture_pass(&f, 20);
}

static void done(void)
{
	fixture_close(&f);
	fixture_done(&f);
}

TestSuite(sync_bounded, .timeout = 120);

static const struct shmeta_store_counters *counters(void)
{
	return shmeta__store_counters(sync_store(f.sync));
}

/* As a reader answers: of a topic (partition < 0) or one of its partitions. */
static enum shmeta_status says(const char *topic, int partition)
{
	struct shmeta_partition record;
	struct shmeta_topic row;
	struct shmeta__txn *txn;
	struct shmeta_err err;
	uint64_t last;
	bool any, lacks;
	enum shmeta_status status;

	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	status = apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), &row, NULL, &err);
	lacks = (counters()->incomplete >> (partition < 0 ? SHMETA_CLASS_TOPIC : SHMETA_CLASS_PARTITION) & 1) != 0;
	if (status == SHMETA_OK && partition >= 0)
		status = apply_partition_get(txn, row.topic_id, (uint32_t)partition, &record, &last, &any, &err);
	if (status == SHMETA_ABSENT && lacks) {
		status = apply_absence_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), APPLY_ABSENT_TOPIC, &err);
		if (status == SHMETA_ABSENT && partition >= 0)
			status = apply_absence_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), (uint32_t)partition,
			                           &err);
		status = status == SHMETA_OK ? SHMETA_ABSENT : status == SHMETA_ABSENT ? SHMETA_UNKNOWN : status;
	}
	shmeta__txn_abort(txn);
	cr_assert_geq(status, 0, "%s", err.text);
	return status;
}

static void problem(void *arg, const char *sentence)
{
	(void)arg;
	cr_log_error("%s", sentence);
}

/* The store is whole and keeps its budgets. */
static void is_whole(void)
{
	struct shmeta__verify_report report;
	struct shmeta__inspected *of;
	char path[128];
	struct shmeta__txn *txn;
	struct shmeta_err err;
	uint64_t content;

	cr_assert_leq(counters()->topics, f.options.max_topics);
	cr_assert_leq(counters()->partitions, f.options.max_partitions);
	(void)snprintf(path, sizeof path, "%s/store.%llu", f.dir,
	               (unsigned long long)shmeta__store_number(sync_store(f.sync)));
	cr_assert_eq(shmeta__inspect_open(path, &of, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(shmeta__store_verify(of, problem, NULL, &report, &err), SHMETA_OK, "%s", err.text);
	shmeta__inspect_close(of);
	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(shmeta__txn_content(txn, &content, &err), SHMETA_OK);
	if (f.options.max_bytes != 0)
		cr_assert_leq(content, f.options.max_bytes);
	shmeta__txn_abort(txn);
}

/* And everything in it is in the source. */
static void is_right(void)
{
	char *store = fixture_store_text(&f), *source = fixture_source_text(&f), *line, *rest = store;

	is_whole();
	while ((line = strsep(&rest, "\n")) != NULL) {
		size_t bytes = strlen(line);
		const char *at = source;

		while (at != NULL && (strncmp(at, line, bytes) != 0 || (at[bytes] != '\n' && at[bytes] != '\0'))) {
			at = strchr(at, '\n');
			at = at != NULL ? at + 1 : NULL;
		}
		cr_assert(at != NULL || bytes == 0, "the store has '%s', which the source has not", line);
	}
	free(store);
	free(source);
}

/* A reader asks until it is answered. */
static enum shmeta_status ask_how(uint32_t how, enum shmeta_class cls, const char *topic, uint32_t partition)
{
	const struct backend_key key = {.cls = cls,
	                                .tenant = str(SHMETA_DEFAULT_TENANT),
	                                .topic = str(topic),
	                                .partition_id = partition,
	                                .to = UINT64_MAX};
	const struct fixture_answer *answer = NULL;

	f.answer_count = 0;
	cr_assert_eq(sync_refresh(f.sync, &key, how, f.uid, UINT64_MAX, ++ticket), SHMETA_OK);
	for (int i = 0; i < 10 && answer == NULL; i++) {
		fixture_run(&f);
		answer = fixture_answer(&f, ticket);
	}
	cr_assert_not_null(answer);
	return answer->status;
}

static enum shmeta_status ask(enum shmeta_class cls, const char *topic, uint32_t partition)
{
	return ask_how(0, cls, topic, partition);
}

Test(sync_bounded, the_first_load_brings_names_up_to_the_budget, .fini = done)
{
	prepare(5, 8);
	cr_expect_eq(counters()->topics, 5);
	cr_expect_eq(counters()->partitions, 0);
	cr_expect_eq(says("topic-00", -1), SHMETA_OK);
	cr_expect_eq(says("topic-19", -1), SHMETA_UNKNOWN);
	cr_expect_eq(says("topic-00", 0), SHMETA_UNKNOWN);
	is_right();
}

Test(sync_bounded, where_all_names_fit_no_topic_is_unknown, .fini = done)
{
	prepare(TOPICS, 8);
	cr_expect_eq(counters()->topics, TOPICS);
	cr_expect_eq(says("none", -1), SHMETA_ABSENT);
	cr_expect_eq(says("topic-19", 0), SHMETA_UNKNOWN);
	fixture_topic(&f, "new", 1, 1, 7);
	fixture_pass(&f, 50);
	cr_expect_eq(says("new", -1), SHMETA_OK, "a name that is not read would be called absent");
	cr_expect_eq(counters()->topics, TOPICS, "and one that is known gives way");
	is_right();
}

Test(sync_bounded, what_is_asked_for_is_there_and_the_budgets_hold, .fini = done)
{
	char name[32];

	prepare(5, 8);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < TOPICS; i++)
			for (uint32_t p = 0; p < PARTITIONS; p++) {
				name_of(name, sizeof name, i);
				cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, p), SHMETA_OK);
				cr_assert_eq(says(name, (int)p), SHMETA_OK, "%s/%u", name, p);
				cr_assert_leq(counters()->partitions, 8);
				cr_assert_leq(counters()->topics, 5);
			}
	is_right();
	cr_expect_geq(fixture_counters(&f).evicted_partitions, TOPICS * PARTITIONS * 2 - 8 - 20);
	cr_expect_gt(fixture_counters(&f).evicted_topics, 0);
}

Test(sync_bounded, what_is_asked_for_without_fill_displaces_nothing_but_its_like, .fini = done)
{
	enum { ALL = TOPICS * PARTITIONS, KEPT = 63 };
	char name[32];

	prepare(TOPICS, 64);
	for (int i = 0; i < KEPT; i++) {
		name_of(name, sizeof name, i / PARTITIONS);
		cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, (uint32_t)i % PARTITIONS), SHMETA_OK);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < ALL; i++) {
			name_of(name, sizeof name, i / PARTITIONS);
			cr_assert_eq(ask_how(SYNC_NO_FILL, SHMETA_CLASS_SEGMENT, name, (uint32_t)i % PARTITIONS),
			             SHMETA_OK);
			cr_assert_eq(says(name, i % PARTITIONS), SHMETA_OK, "it is answered as any other");
			cr_assert_leq(counters()->partitions, 64);
		}
	int kept = 0;

	for (int i = 0; i < KEPT; i++) {
		name_of(name, sizeof name, i / PARTITIONS);
		kept += says(name, i % PARTITIONS) == SHMETA_OK;
	}
	cr_expect_geq(kept, KEPT - 1, "%d: two that pass are young at a time", kept);
	is_right();
}

Test(sync_bounded, whoever_uses_what_another_one_only_looks_at_has_it_kept, .fini = done)
{
	const struct backend_key key = {.cls = SHMETA_CLASS_SEGMENT,
	                                .tenant = str(SHMETA_DEFAULT_TENANT),
	                                .topic = str("topic-00"),
	                                .to = UINT64_MAX};
	char name[32];

	prepare(TOPICS, 64);
	/* One read for both. */
	cr_assert_eq(sync_refresh(f.sync, &key, SYNC_NO_FILL, f.uid, UINT64_MAX, ++ticket), SHMETA_OK);
	cr_assert_eq(sync_refresh(f.sync, &key, 0, f.uid, UINT64_MAX, ++ticket), SHMETA_OK);
	fixture_run(&f);
	for (int i = 1; i < 70; i++) {
		name_of(name, sizeof name, i / PARTITIONS);
		cr_assert_eq(ask_how(SYNC_NO_FILL, SHMETA_CLASS_SEGMENT, name, (uint32_t)i % PARTITIONS), SHMETA_OK);
	}
	cr_expect_eq(says("topic-00", 0), SHMETA_OK);
	cr_expect_eq(says("topic-00", 1), SHMETA_UNKNOWN);
	is_right();
}

static uint32_t waited_word;

static void waits(struct fixture *fixture, uint64_t *words)
{
	(void)fixture;
	words[waited_word / 64] |= UINT64_C(1) << waited_word % 64;
}

Test(sync_bounded, a_partition_that_somebody_waits_for_stays, .fini = done)
{
	struct shmeta_topic row;
	struct shmeta__txn *txn;
	struct shmeta_err err;
	char name[32];

	prepare(TOPICS, 16);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "topic-00", 0), SHMETA_OK);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "topic-00", 1), SHMETA_OK);
	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str("topic-00"), &row, NULL, &err), SHMETA_OK);
	waited_word = shmeta__touched_partition(row.topic_id, 0);
	shmeta__txn_abort(txn);
	f.on_waited = waits;
	for (int i = PARTITIONS; i < TOPICS * PARTITIONS; i++) {
		fixture_pass(&f, 1500);
		name_of(name, sizeof name, i / PARTITIONS);
		cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, (uint32_t)i % PARTITIONS), SHMETA_OK);
		cr_assert_eq(says("topic-00", 0), SHMETA_OK, "after %d others", i - PARTITIONS);
	}
	cr_expect_eq(says("topic-00", 1), SHMETA_UNKNOWN);
	is_right();
}

Test(sync_bounded, the_feed_is_followed_for_what_is_resident_alone, .fini = done)
{
	uint64_t keys;

	prepare(5, 8);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "topic-01", 2), SHMETA_OK);
	keys = fixture_counters(&f).refresh_keys;
	cr_assert(fixture_add_segment(&f, "topic-01", 1, SEGMENTS * 1000, 1000));
	cr_assert(fixture_add_segment(&f, "topic-17", 1, SEGMENTS * 1000, 1000));
	fixture_pass(&f, 50);
	cr_expect_eq(fixture_counters(&f).refresh_keys, keys, "nobody uses them");
	cr_expect_geq(fixture_counters(&f).feed_skipped, 2);
	cr_assert(fixture_add_segment(&f, "topic-01", 2, SEGMENTS * 1000, 1000));
	fixture_pass(&f, 50);
	cr_expect_gt(fixture_counters(&f).refresh_keys, keys);
	is_right();
	cr_expect_lt(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 50, "and the stamps speak of what is resident");
}

Test(sync_bounded, an_absence_is_known_until_the_feed_names_it, .fini = done)
{
	prepare(5, 8);
	cr_assert_eq(ask(SHMETA_CLASS_TOPIC, "new", 0), SHMETA_OK);
	cr_expect_eq(says("new", -1), SHMETA_ABSENT);
	cr_expect_eq(says("new", 3), SHMETA_ABSENT);
	cr_expect_eq(says("newer", -1), SHMETA_UNKNOWN);
	cr_assert_eq(ask(SHMETA_CLASS_PARTITION, "topic-18", 7), SHMETA_OK);
	cr_expect_eq(says("topic-18", 7), SHMETA_ABSENT);
	cr_expect_eq(says("topic-18", 6), SHMETA_UNKNOWN);
	fixture_topic(&f, "new", 4, 1, 7);
	fixture_pass(&f, 50);
	cr_expect_neq(says("new", -1), SHMETA_ABSENT);
	cr_expect_neq(says("new", 3), SHMETA_ABSENT);
	is_right();
}

/* This program stands before libc for liblmdb. */
#define EXPORTED __attribute__((visibility("default")))
static bool disk_is_full;

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at); /* hidden by the headers */
EXPORTED ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);

	if (real == NULL)
		real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
	if (!disk_is_full || at < 2 * SHMETA_PAGE)
		return real(fd, data, bytes, at);
	errno = ENOSPC;
	return -1;
}
EXPORTED ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
	return pwrite64(fd, data, bytes, at);
}

EXPORTED ssize_t writev(int fd, const struct iovec *part, int count)
{
	static ssize_t (*real)(int, const struct iovec *, int);

	if (real == NULL)
		real = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
	if (!disk_is_full)
		return real(fd, part, count);
	errno = ENOSPC;
	return -1;
}

static size_t absences(void)
{
	const size_t prefix = strlen(SHMETA_META_ABSENT);
	struct shmeta__cursor *cursor;
	struct shmeta__txn *txn;
	const void *key, *value;
	size_t key_bytes, bytes, count = 0;
	struct shmeta_err err;

	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(shmeta__cursor_open(txn, SHMETA_DB_META, SHMETA_META_ABSENT, prefix, &cursor, &err), SHMETA_OK);
	while (shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err) == SHMETA_OK &&
	       key_bytes >= prefix && memcmp(key, SHMETA_META_ABSENT, prefix) == 0)
		count++;
	shmeta__cursor_close(cursor);
	shmeta__txn_abort(txn);
	return count;
}

Test(sync_bounded, absences_are_bounded_also_where_commits_failed, .fini = done)
{
	enum { MOST = 1024 };
	char name[32];

	prepare(5, 8);
	for (int i = 0; i < 3 * MOST; i++) {
		(void)snprintf(name, sizeof name, "none-%d", i);
		if (i == MOST) {
			cr_expect_leq(absences(), MOST);
			disk_is_full = true;
		}
		if (i == MOST + 100) {
			disk_is_full = false;
			fixture_pass(&f, 60000);
		}
		if (disk_is_full) {
			(void)fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, 1000000 + (uint64_t)i);
			fixture_pass(&f, 20);
		} else {
			(void)ask(SHMETA_CLASS_TOPIC, name, 0);
		}
	}
	fixture_pass(&f, 60000);
	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof name, "last-%d", i);
		(void)fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, 2000000 + (uint64_t)i);
		fixture_pass(&f, 2000);
	}
	cr_expect_eq(says("last-19", -1), SHMETA_ABSENT);
	cr_expect_gt(absences(), 0);
	cr_expect_leq(absences(), MOST, "%zu: what was dropped in vain is dropped again", absences());
	is_right();
}

static void ask_absent(int from, int to)
{
	char name[32];

	for (int i = from; i < to; i++) {
		(void)snprintf(name, sizeof name, "none-%d", i);
		(void)ask(SHMETA_CLASS_TOPIC, name, 0);
	}
}

Test(sync_bounded, a_reload_changes_how_many_absences_the_store_has, .fini = done)
{
	enum { LEAST = 1024 };

	prepare(5, 8);
	ask_absent(0, LEAST + 100);
	cr_expect_eq(absences(), LEAST);
	f.options.absent_max = 2 * LEAST;
	sync_reconfigure(f.sync, &f.options);
	ask_absent(LEAST + 100, 4 * LEAST);
	cr_expect_eq(absences(), 2 * LEAST);
	cr_expect_eq(says("none-4095", -1), SHMETA_ABSENT);
	cr_expect_eq(says("none-2048", -1), SHMETA_ABSENT, "the newest are those that stay");
	cr_expect_eq(says("none-2047", -1), SHMETA_UNKNOWN);
	f.options.absent_max = 0;
	sync_reconfigure(f.sync, &f.options);
	ask_absent(4 * LEAST, 4 * LEAST + 50);
	cr_expect_eq(absences(), LEAST);
	cr_expect_eq(says("none-4145", -1), SHMETA_ABSENT);
	cr_expect_eq(says("none-3122", -1), SHMETA_ABSENT);
	cr_expect_eq(says("none-3121", -1), SHMETA_UNKNOWN);
	is_right();
}

Test(sync_bounded, a_partition_that_comes_is_not_absent_any_more, .fini = done)
{
	prepare(5, 8);
	cr_assert_eq(ask(SHMETA_CLASS_PARTITION, "topic-18", PARTITIONS), SHMETA_OK);
	cr_expect_eq(says("topic-18", PARTITIONS), SHMETA_ABSENT);
	/* It leaves, the absence stays, and then the partition comes. */
	for (int i = 0; i < 6; i++) {
		char name[32];

		name_of(name, sizeof name, i);
		cr_assert_eq(ask(SHMETA_CLASS_TOPIC, name, 0), SHMETA_OK);
	}
	cr_assert_eq(says("topic-18", -1), SHMETA_UNKNOWN);
	cr_assert_eq(says("topic-18", PARTITIONS), SHMETA_ABSENT);
	fixture_topic(&f, "topic-18", PARTITIONS + 1, SEGMENTS, 1018);
	fixture_pass(&f, 50);
	cr_expect_neq(says("topic-18", PARTITIONS), SHMETA_ABSENT);
	is_right();
}

Test(sync_bounded, an_index_larger_than_its_budget_is_not_kept, .fini = done)
{
	prepare(5, 8);
	fixture_close(&f);
	f.options.max_segment_bytes = 16 << 10;
	fixture_topic(&f, "large", 1, 6000, 1);
	fixture_open(&f);
	fixture_pass(&f, 20);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "topic-01", 0), SHMETA_OK);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	cr_expect_eq(says("large", 0), SHMETA_UNKNOWN);
	cr_expect_eq(says("topic-01", 0), SHMETA_OK, "and puts nothing else out");
	is_right();
}

static void with_a_large_partition(void)
{
	prepare(5, 8);
	fixture_close(&f);
	f.options.max_segment_bytes = 16 << 10;
	fixture_topic(&f, "large", 1, 6000, 1);
	fixture_open(&f);
	fixture_pass(&f, 20);
}

Test(sync_bounded, what_is_too_large_is_read_once_a_minute_and_told, .fini = done)
{
	uint64_t read;

	with_a_large_partition();
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	read = fixture_counters(&f).refresh_keys;
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_ERR_FULL);
		fixture_pass(&f, 100);
	}
	cr_expect_eq(fixture_counters(&f).refresh_keys, read, "%llu reads more",
	             (unsigned long long)(fixture_counters(&f).refresh_keys - read));
	cr_expect_not_null(
		strstr(fixture_answer(&f, ticket)->sentence, "more than bounded.max_segment_bytes (16.0 KiB)"), "%s",
		fixture_answer(&f, ticket)->sentence);
	cr_expect_eq(fixture_counters(&f).too_large, 1);
	cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "topic-01", 0), SHMETA_OK, "others are read");
	fixture_pass(&f, 60000);
	cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK, "it may be smaller now");
	cr_expect_eq(fixture_counters(&f).too_large, 2);
	is_right();
}

Test(sync_bounded, what_was_too_large_is_read_at_once_under_a_larger_budget, .fini = done)
{
	with_a_large_partition();
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_ERR_FULL);
	f.options.max_segment_bytes = 64 << 20;
	sync_reconfigure(f.sync, &f.options);
	cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	cr_expect_eq(says("large", 0), SHMETA_OK);
	is_right();
}

Test(sync_bounded, a_topic_made_anew_is_not_called_too_large, .fini = done)
{
	with_a_large_partition();
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	cr_assert(memory_delete_topic(f.db, SHMETA_DEFAULT_TENANT, "large"));
	fixture_pass(&f, 50);
	fixture_topic(&f, "large", 1, SEGMENTS, 2);
	fixture_pass(&f, 50);
	cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	cr_expect_eq(says("large", 0), SHMETA_OK);
	is_right();
}

/* What the engine says of a topic (partition < 0), or of a partition. */
static const char *explained(const char *topic, int partition)
{
	f.answer_count = 0;
	cr_assert_eq(sync_explain(f.sync, str(SHMETA_DEFAULT_TENANT), str(topic),
	                          partition < 0 ? UINT64_MAX : (uint64_t)partition, ++ticket),
	             SHMETA_OK);
	cr_expect_eq(sync_explain(f.sync, str(SHMETA_DEFAULT_TENANT), str(topic), 0, ticket + 1), SHMETA_ERR_BUSY);
	fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_assert_eq(fixture_answer(&f, ticket)->status, SHMETA_OK, "%s", fixture_answer(&f, ticket)->sentence);
	return fixture_answer(&f, ticket)->sentence;
}

static void is_explained(const char *topic, int partition, const char *part)
{
	const char *text = explained(topic, partition);

	cr_expect_not_null(strstr(text, part), "%s/%d: no %s in %s", topic, partition, part, text);
}

Test(sync_bounded, an_evicted_key_is_explained_by_its_budget, .fini = done)
{
	char name[32];

	prepare(TOPICS, 8);
	is_explained("topic-00", 0, "\"evicted_because\":null");
	for (int i = 0; i < TOPICS; i++) {
		name_of(name, sizeof name, i);
		cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, 0), SHMETA_OK);
		fixture_pass(&f, 1000);
	}
	is_explained("topic-00", 0, "\"evicted_because\":\"bounded.max_partitions was exceeded\"");
	is_explained("topic-00", 0, "\"evicted_ms_ago\":1");
	is_explained("topic-00", -1, "\"queue\":\"small\"");
	is_explained("topic-19", 0, "\"resident_for_ms\":1");
	is_explained("topic-19", 0, "\"queue\":\"small\",\"queue_before\":7,\"queue_records\":8,\"touches\":0");
	is_explained("topic-19", 0, "\"next_eviction\":\"at the end of its queue, unless it is looked up before\"");
}

Test(sync_bounded, an_evicted_topic_is_explained_by_its_name, .fini = done)
{
	char name[32];

	prepare(5, 8);
	is_explained("topic-19", -1, "\"evicted_because\":null");
	for (int i = 0; i < TOPICS; i++) {
		name_of(name, sizeof name, i);
		cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, 0), SHMETA_OK);
	}
	is_explained("topic-07", -1, "\"evicted_because\":\"bounded.max_topics was exceeded\"");
	is_explained("topic-07", 0, "\"evicted_because\":\"bounded.max_topics was exceeded\"");
	fixture_close(&f);
	fixture_open(&f);
	is_explained("topic-07", -1, "\"evicted_because\":null");
}

Test(sync_bounded, what_is_too_large_and_what_passes_is_explained, .fini = done)
{
	with_a_large_partition();
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "large", 0), SHMETA_OK);
	is_explained("large", 0, "\"evicted_because\":\"it alone exceeds bounded.max_segment_bytes\"");
	cr_assert_eq(ask_how(SYNC_NO_FILL, SHMETA_CLASS_SEGMENT, "topic-01", 2), SHMETA_OK);
	is_explained("topic-01", 2, "\"queue\":\"passing\"");
}

Test(sync_bounded, in_mirror_mode_there_is_nothing_to_explain, .fini = done)
{
	prepare(TOPICS, 8);
	fixture_close(&f);
	f.options.bounded = false;
	fixture_open(&f);
	fixture_pass(&f, 20);
	cr_expect_str_eq(explained("topic-00", 0), "{\"mode\":\"mirror\"}");
}

Test(sync_bounded, a_store_that_lacks_records_is_not_taken_over_in_mirror_mode, .fini = done)
{
	prepare(5, 8);
	fixture_close(&f);
	f.options.bounded = false;
	fixture_open(&f);
	fixture_pass(&f, 20);
	cr_expect_eq(counters()->incomplete, 0);
	cr_expect_eq(counters()->topics, TOPICS);
	cr_expect_null(fixture_difference(&f));
	fixture_close(&f);
	f.options.bounded = true;
	fixture_open(&f);
	fixture_pass(&f, 20);
	cr_expect_eq(counters()->topics, 5, "nor one with more than the budgets in bounded mode");
	is_right();
}

Test(sync_bounded, budgets_that_a_reload_lowers_hold_with_the_next_commit, .fini = done)
{
	char name[32];

	prepare(10, 30);
	for (int i = 0; i < 8; i++)
		for (uint32_t p = 0; p < PARTITIONS; p++) {
			name_of(name, sizeof name, i);
			cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, p), SHMETA_OK);
		}
	cr_assert_gt(counters()->partitions, 20);
	f.options.max_topics = 4;
	f.options.max_partitions = 6;
	sync_reconfigure(f.sync, &f.options);
	cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, "topic-19", 0), SHMETA_OK);
	cr_expect_eq(says("topic-19", 0), SHMETA_OK);
	is_right();
}

/* ---- pressure ---- */

static uint64_t file_limit; /* 0: the real one */

EXPORTED int getrlimit64(__rlimit_resource_t what, struct rlimit64 *ret)
{
	static int (*real)(__rlimit_resource_t, struct rlimit64 *);

	if (real == NULL)
		real = (int (*)(__rlimit_resource_t, struct rlimit64 *))dlsym(RTLD_NEXT, "getrlimit64");
	if (real(what, ret) != 0)
		return -1;
	if (what == RLIMIT_FSIZE && file_limit != 0)
		ret->rlim_cur = file_limit;
	return 0;
}

EXPORTED int getrlimit(__rlimit_resource_t what, struct rlimit *ret)
{
	return getrlimit64(what, (struct rlimit64 *)ret);
}

/* A store with many partitions, none of which a budget would have leave. */
static void fill(void)
{
	char name[32];

	file_limit = 0;
	grace_ns = 1000; /* of real time: what commits leave behind is used again */
	segments_each = 2000;
	prepare(TOPICS, 1000);
	grace_ns = segments_each = 0;
	for (int i = 0; i < TOPICS; i++)
		for (uint32_t p = 0; p < PARTITIONS; p++) {
			name_of(name, sizeof name, i);
			cr_assert_eq(ask(SHMETA_CLASS_SEGMENT, name, p), SHMETA_OK);
		}
	fixture_pass(&f, 2000);
	cr_assert_eq(counters()->partitions, TOPICS * PARTITIONS);
	cr_assert_eq(fixture_counters(&f).pressure, 0);
}

/* The store may be so long that it is full to that part. */
static void press(unsigned percent)
{
	struct sync_counters c = fixture_counters(&f);

	file_limit = (c.store_used + c.store_pinned) * 100 / percent;
	fixture_pass(&f, 200);
}

Test(sync_bounded, a_store_that_runs_out_of_room_has_a_batch_leave_each_second, .fini = done)
{
	uint64_t before;

	fill();
	press(75);
	cr_expect_eq(fixture_counters(&f).pressure, 1);
	fixture_pass(&f, 3000);
	cr_expect_eq(fixture_counters(&f).relieved, 0, "it loads nothing ahead, and keeps what it has");
	press(88);
	cr_expect_eq(fixture_counters(&f).pressure, 2);
	cr_expect(fixture_logged(&f, "bounded_pressure"));
	before = fixture_counters(&f).relieved;
	cr_expect_geq(before, 1, "a batch leaves although nothing is committed");
	cr_expect_leq(before, 4, "%llu: two percent of 80", (unsigned long long)before);
	fixture_pass(&f, 500);
	cr_expect_eq(fixture_counters(&f).relieved, before, "and the next one when it is known what this one freed");
	cr_expect_eq(counters()->partitions + fixture_counters(&f).relieved, TOPICS * PARTITIONS);
	file_limit = 0;
	fixture_pass(&f, 5000);
	cr_expect_eq(fixture_counters(&f).pressure, 0);
	before = fixture_counters(&f).relieved;
	fixture_pass(&f, 3000);
	cr_expect_eq(fixture_counters(&f).relieved, before);
	is_whole();
}

Test(sync_bounded, a_critical_store_has_four_times_as_much_leave, .fini = done)
{
	uint64_t high, critical;

	fill();
	press(88);
	high = fixture_counters(&f).relieved;
	file_limit = 0;
	fixture_pass(&f, 3000);
	press(97);
	cr_expect_eq(fixture_counters(&f).pressure, 3);
	critical = fixture_counters(&f).relieved - high;
	cr_expect_geq(critical, 3 * high, "%llu and %llu", (unsigned long long)high, (unsigned long long)critical);
	cr_expect_leq(critical, TOPICS * PARTITIONS / 4);
	is_whole();
}

Test(sync_bounded, what_leaves_under_pressure_frees_pages, .fini = done)
{
	uint64_t used, limit;

	fill();
	used = fixture_counters(&f).store_used;
	press(97);
	limit = file_limit;
	fixture_pass(&f, 120000);
	cr_expect_lt(fixture_counters(&f).store_used, used);
	cr_expect_lt(fixture_counters(&f).pressure, 2, "%llu of %llu",
	             (unsigned long long)fixture_counters(&f).store_used, (unsigned long long)limit);
	cr_expect_gt(counters()->partitions, 0, "it ends when there is room");
	is_whole();
}

Test(sync_bounded, what_readers_pin_is_no_reason_for_records_to_leave, .fini = done)
{
	char name[32];

	fill();
	/* Each commit leaves behind what a reader of this one needs. */
	f.oldest_pin = fixture_committed(&f);
	for (int i = 0; fixture_counters(&f).store_pinned <= fixture_counters(&f).store_used; i++) {
		cr_assert_lt(i, 10000);
		name_of(name, sizeof name, i % TOPICS);
		(void)ask_how(0, SHMETA_CLASS_SEGMENT, name, (uint32_t)(i / TOPICS % PARTITIONS));
		fixture_pass(&f, 200);
	}
	press(97);
	fixture_pass(&f, 10000);
	cr_expect_eq(fixture_counters(&f).pressure, 3);
	cr_expect_eq(fixture_counters(&f).relieved, 0, "it would be pinned, too");
	cr_expect_eq(counters()->partitions, TOPICS * PARTITIONS);
	f.oldest_pin = UINT64_MAX;
	is_whole();
}

static uint64_t read_in(uint64_t ms)
{
	uint64_t before = fixture_counters(&f).refresh_keys;

	fixture_pass(&f, ms);
	return fixture_counters(&f).refresh_keys - before;
}

Test(sync_bounded, under_pressure_nothing_is_read_ahead_of_its_expiry, .fini = done)
{
	by_record = true;
	fill();
	by_record = false;
	cr_assert_gt(read_in(20000), TOPICS * PARTITIONS);
	press(75);
	cr_expect_eq(fixture_counters(&f).pressure, 1);
	fixture_pass(&f, 1000); /* what waited before */
	cr_expect_lt(read_in(20000), TOPICS, "only the small classes are");
	cr_expect_eq(ask(SHMETA_CLASS_SEGMENT, "topic-01", 0), SHMETA_OK, "what is asked for is read");
	file_limit = 0;
	cr_expect_gt(read_in(20000), TOPICS * PARTITIONS);
	is_whole();
}

/* ---- by chance ---- */

static uint64_t chance_state;

static uint32_t chance(uint32_t below)
{
	chance_state = chance_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(chance_state >> 33) % below;
}

/* What a lookup says is what the source says, or unknown. */
static void agree(const char *topic, int partition, bool there)
{
	enum shmeta_status status = says(topic, partition);

	cr_assert(status == SHMETA_UNKNOWN || (status == SHMETA_OK) == there, "%s/%d: %d, and it is %s", topic,
	          partition, (int)status, there ? "there" : "not there");
}

static struct {
	bool there;
	uint32_t partitions, segments[16];
} model[TOPICS];

static void change_something(void)
{
	int t = (int)chance(TOPICS);
	char name[32];

	name_of(name, sizeof name, t);
	if (!model[t].there) {
		model[t].there = true;
		model[t].partitions = 1 + chance(6);
		for (uint32_t p = 0; p < model[t].partitions; p++)
			model[t].segments[p] = 2;
		fixture_topic(&f, name, model[t].partitions, 2, (int64_t)chance(1000000));
	} else if (chance(6) == 0) {
		cr_assert(memory_delete_topic(f.db, SHMETA_DEFAULT_TENANT, name));
		model[t].there = false;
	} else {
		uint32_t p = chance(model[t].partitions);

		cr_assert(fixture_add_segment(&f, name, p, model[t].segments[p] * 1000, 1000));
		model[t].segments[p]++;
	}
}

/* Do the stamps say that all changes of this step are in the store? */
static bool knows_all(void)
{
	for (int cls = SHMETA_CLASS_TOPIC; cls <= SHMETA_CLASS_LIST; cls++)
		if (fixture_stamp_age_ms(&f, (enum shmeta_class)cls) > 2000)
			return false;
	return true;
}

static void by_chance(uint64_t seed, uint32_t max_topics, uint32_t max_partitions)
{
	char name[32];
	int judged = 0;

	chance_state = seed;
	memset(model, 0, sizeof model);
	prepare(max_topics, max_partitions);
	for (int t = 0; t < TOPICS; t++) {
		model[t].there = true;
		model[t].partitions = PARTITIONS;
		for (uint32_t p = 0; p < PARTITIONS; p++)
			model[t].segments[p] = SEGMENTS;
	}
	for (int step = 0; step < 400; step++) {
		int t = (int)chance(TOPICS);
		uint32_t p = chance(7);

		name_of(name, sizeof name, t);
		for (uint32_t n = chance(3); n > 0; n--)
			change_something();
		switch (chance(12)) {
		case 0:
			f.answer_count = 0;
			cr_assert_eq(fixture_compare_all(&f, ++ticket), SHMETA_OK);
			break;
		case 1:
			memory_set_feed_kind(f.db, chance(4) == 0 ? BACKEND_FEED_NONE : BACKEND_FEED_KEYS);
			break;
		case 2:
			if (chance(2) == 0)
				fixture_close(&f);
			else
				fixture_crash(&f);
			fixture_open(&f);
			break;
		default:
			(void)ask(chance(3) == 0 ? SHMETA_CLASS_TOPIC : SHMETA_CLASS_SEGMENT, name, p);
			break;
		}
		fixture_pass(&f, 2500);
		if (step % 4 != 0 || !knows_all())
			continue;
		judged++;
		is_right();
		for (t = 0; t < TOPICS; t++) {
			name_of(name, sizeof name, t);
			agree(name, -1, model[t].there);
			for (uint32_t id = 0; id < 8; id++)
				agree(name, (int)id, model[t].there && id < model[t].partitions);
		}
	}
	cr_assert_gt(judged, 30);
}

Test(sync_bounded, whatever_happens_a_lookup_is_right_or_unknown)
{
	for (uint64_t seed = 1; seed < 4; seed++) {
		by_chance(seed, 6, 9);
		done();
	}
}

Test(sync_bounded, whatever_happens_where_all_names_fit)
{
	for (uint64_t seed = 1; seed < 4; seed++) {
		by_chance(seed, TOPICS, 12);
		done();
	}
}

/* ---- a source that keeps back ---- */

static void time_passes(struct fixture *fixture)
{
	fixture->now_ns += 20000000000;
}

Test(sync_bounded, a_first_load_that_is_kept_back_waits_and_goes_on)
{
	struct memory_stats stats;
	char name[32];

	fixture_init(&f);
	f.options.bounded = true;
	f.options.max_topics = 2 * TOPICS;
	f.options.max_partitions = 100;
	f.options.touch_ceiling = touch_ceiling(100);
	for (int i = 0; i < TOPICS; i++) {
		name_of(name, sizeof name, i);
		fixture_topic(&f, name, PARTITIONS, SEGMENTS, 1000 + i);
	}
	fixture_open(&f);
	memory_fail(f.db, MEMORY_FETCH, 7, 3, SHMETA_ERR_BUSY, "postponed: source.read_units_s allows no more now");
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "topic-01", 0, 7), SHMETA_OK);
	f.on_clock = time_passes;
	fixture_run(&f);
	f.on_clock = NULL;
	memory_read_stats(f.db, &stats);
	cr_expect_eq(stats.calls[MEMORY_LOAD], 1, "it began anew");
	cr_assert_not_null(sync_store(f.sync));
	cr_expect_eq(counters()->topics, TOPICS);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	cr_assert_not_null(fixture_answer(&f, 7), "it waits as long as the load");
	cr_expect_not_null(strstr(fixture_answer(&f, 7)->sentence, "allows no more"), "%s",
	                   fixture_answer(&f, 7)->sentence);
	is_whole();
	done();
}
