/* SPDX-License-Identifier: Apache-2.0
 * What a reader asks of the writer: FRESH lookups, refresh, reload; and waiting for commits. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/fake_writer.h"
#include "tests/support/read_meta.h"

static const uint64_t SECOND = 1000000000;
static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static const struct shmeta_read fresh_read = {sizeof fresh_read, SHMETA_FRESH, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
static const struct shmeta_read hasty_read = {sizeof hasty_read, SHMETA_FRESH, 50, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
static const struct shmeta_read cached_read = {sizeof cached_read, SHMETA_CACHED, 0, 0, 0, NULL, 0};

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, topic, 1, 10, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_requests, .init = set_up, .fini = tear_down, .timeout = 30);

static void begin(void)
{
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

static void end(void)
{
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static const char *last_error(void)
{
	static char text[512];

	return shmeta_last_error(instance, text, sizeof text);
}

/* What the source has by now: one segment more, and a new topic. */
static void source_moved(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_even_partition(f, topic, 1, 11, 10);
	(void)fake_simple_topic(f, "late", 1);
	(void)fake_commit(f);
	fake_stamp_all(f);
}

/* ---- FRESH ---- */

Test(reader_requests, fresh_asks_for_exactly_the_stale_key_and_answers_from_the_new_commit)
{
	struct shmeta_snapshot_info before, after;
	struct shmeta_freshness fresh;
	struct shmeta_handle *h;
	struct shmeta_segment s;

	w->on_refresh = source_moved;
	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment(h, 105, &fresh_read, &s, &fresh), SHMETA_ABSENT_AT_END);
	cr_assert_eq(w->refreshes, 0, "the answer was fresh");
	fake_advance(w, 31 * SECOND);
	cr_assert_eq(shmeta_find_segment(h, 105, &cached_read, &s, &fresh), SHMETA_ABSENT_AT_END);
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_eq(w->refreshes, 0, "CACHED never asks");
	cr_assert_eq(shmeta_snapshot_info(reader, &before), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment(h, 105, &fresh_read, &s, &fresh), SHMETA_OK);
	cr_assert_eq(s.base_offset, 100);
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(w->refreshes, 1);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_SEGMENT);
	cr_assert_eq(w->last_refresh.partition_id, 1);
	cr_assert_str_eq(w->last_topic, "t");
	cr_assert_str_eq(w->last_tenant, SHMETA_DEFAULT_TENANT);
	cr_assert_gt(w->last_refresh.timeout_ms, 4000);
	cr_assert_leq(w->last_refresh.timeout_ms, 5000);
	cr_assert_eq(shmeta_snapshot_info(reader, &after), SHMETA_OK);
	cr_assert_eq(after.txn, before.txn + 1);
	cr_assert_eq(fresh.txn, after.txn);
	shmeta_partition_close(h);
	end();
	cr_assert_eq(fake_slot(w, 0)->counters.fresh_waits, 1);
}

Test(reader_requests, fresh_turns_unknown_into_what_the_source_says)
{
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_topic t;

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		w->gen->stamp[cls].synced_at_ns = 0;
	shmeta_reader_free(reader); /* one that has not seen the stamps */
	reader = fake_reader(instance);
	begin();
	cr_assert_eq(shmeta_get_topic(reader, "no", 2, NULL, &t, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_get_topic(reader, "no", 2, &fresh_read, &t, &fresh), SHMETA_ABSENT,
	             "the source was asked for this one, even if the list was never loaded");
	cr_assert_lt(fresh.age_ns, SECOND);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_TOPIC);
	cr_assert_str_eq(w->last_topic, "no");
	cr_assert_eq(shmeta_get_partition_named(reader, "no", 2, 0, &fresh_read, &p, &fresh), SHMETA_ABSENT);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_PARTITION);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 9, 0, &fresh_read, &s, &fresh), SHMETA_ABSENT);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_SEGMENT);
	cr_assert_eq(w->last_refresh.partition_id, 9);
	cr_assert_eq(w->refreshes, 3);
	cr_assert_eq(shmeta_get_topic(reader, "no", 2, NULL, &t, NULL), SHMETA_UNKNOWN);
	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, &fresh_read, &t, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.fresh, 1);
	end();
}

Test(reader_requests, fresh_by_handle_and_by_name_give_the_same)
{
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	struct shmeta_handle *h;
	struct shmeta_segment s;

	w->on_refresh = source_moved;
	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	fake_advance(w, 31 * SECOND);
	cr_assert_eq(shmeta_get_partition(h, &fresh_read, &p, &fresh), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_PARTITION);
	fake_advance(w, 31 * SECOND);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, &fresh_read, &p, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 2);
	fake_advance(w, 31 * SECOND);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 1, 100, &fresh_read, &s, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 3);
	shmeta_partition_close(h);
	end();
}

Test(reader_requests, what_hinders_the_writer_is_the_answer_of_fresh_and_the_snapshot_stays_open)
{
	static const enum shmeta_status answers[] = {SHMETA_ERR_SOURCE, SHMETA_ERR_BUSY, SHMETA_ERR_DENIED,
	                                             SHMETA_ERR_UNSUPPORTED, SHMETA_ERR_NOT_TENANT};
	struct shmeta_topic t;

	begin();
	fake_advance(w, 301 * SECOND);
	w->answer_text = "the source said: \x1b[31mno";
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		w->answer = answers[i];
		cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh_read, &t, NULL), answers[i]);
		cr_assert_neq(strstr(last_error(), "the source said: "), NULL, "%s", last_error());
		cr_assert_eq(strchr(last_error(), '\x1b'), NULL, "foreign text is escaped");
	}
	w->answer = (enum shmeta_status)77;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh_read, &t, NULL), SHMETA_ERR_PROTOCOL);
	w->answer = SHMETA_OK;
	w->silent = 1;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &hasty_read, &t, NULL), SHMETA_ERR_TIMEOUT);
	w->silent = 0;
	fake_unserve(w);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh_read, &t, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	end();
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	end();
}

Test(reader_requests, an_answer_about_a_commit_that_is_not_published_in_time_is_a_timeout)
{
	struct shmeta_topic t;

	w->answer_txn_ahead = 1;
	begin();
	fake_advance(w, 301 * SECOND);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &hasty_read, &t, NULL), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 30, NULL), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK, "the snapshot is open");
	end();
}

Test(reader_requests, read_options_that_are_none_are_refused)
{
	const struct shmeta_read small = {4, SHMETA_CACHED, 0, 0, 0, NULL, 0};
	const struct shmeta_read other = {sizeof other, (enum shmeta_consistency)9, 0, 0, 0, NULL, 0};
	struct shmeta_partition p;
	struct shmeta_handle *h;
	struct shmeta_segment s;
	struct shmeta_topic t;

	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &small, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &other, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_partition(h, &other, &p, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, &other, &p, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segment(h, 1, &small, &s, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 1, 1, &other, &s, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	shmeta_partition_close(h);
	end();
}

/* ---- refresh and reload ---- */

Test(reader_requests, refresh_names_the_key_and_returns_the_commit_that_shows_it)
{
	struct shmeta *other = fake_open(w, "tenant-x", 0, 0);
	uint64_t txn = 0;

	w->on_refresh = source_moved;
	cr_assert_eq(shmeta_refresh(other, SHMETA_CLASS_PARTITION, "t", 1, 1, 5000, &txn), SHMETA_OK);
	cr_assert_eq(txn, w->gen->committed);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_PARTITION);
	cr_assert_eq(w->last_refresh.partition_id, 1);
	cr_assert_str_eq(w->last_topic, "t");
	cr_assert_str_eq(w->last_tenant, "tenant-x");
	cr_assert_eq(shmeta_refresh(other, SHMETA_CLASS_AGENT, NULL, 0, 0, 5000, NULL), SHMETA_OK);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_AGENT);
	cr_assert_eq(w->last_refresh.name_bytes, 0);
	shmeta_close(other);
}

Test(reader_requests, a_refresh_that_names_no_key_is_refused_before_it_is_sent)
{
	char name[SHMETA_NAME_MAX + 1];

	memset(name, 'n', sizeof name);
	cr_assert_eq(shmeta_refresh(instance, (enum shmeta_class)7, NULL, 0, 0, 10, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_AGENT, "t", 1, 0, 10, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_neq(strstr(last_error(), "whole"), NULL, "%s", last_error());
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "", 0, 0, 10, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_TOPIC, name, sizeof name, 0, 10, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_SEGMENT, "a\nb", 3, 0, 10, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_neq(strstr(last_error(), "a\\x0ab"), NULL, "%s", last_error());
	cr_assert_eq(shmeta_refresh(NULL, SHMETA_CLASS_TOPIC, NULL, 0, 0, 10, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(w->refreshes, 0);
}

Test(reader_requests, a_refused_configuration_comes_back_with_its_sentence)
{
	char error[128] = "unchanged";

	cr_assert_eq(shmeta_reload(instance, 5000, error, sizeof error), SHMETA_OK);
	cr_assert_str_eq(error, "");
	w->answer = SHMETA_ERR_CONFIG;
	w->answer_text = "shmeta.conf:3: unknown option 'colour'";
	cr_assert_eq(shmeta_reload(instance, 5000, error, sizeof error), SHMETA_ERR_CONFIG);
	cr_assert_str_eq(error, w->answer_text);
	cr_assert_eq(shmeta_reload(instance, 5000, NULL, 0), SHMETA_ERR_CONFIG);
	cr_assert_eq(w->reloads, 3);
}

Test(reader_requests, a_request_survives_the_restart_of_the_writer_since_the_last_one)
{
	cr_assert_eq(shmeta_reload(instance, 5000, NULL, 0), SHMETA_OK);
	fake_unserve(w);
	fake_serve(w);
	cr_assert_eq(shmeta_reload(instance, 5000, NULL, 0), SHMETA_OK,
	             "the idle connection was dead, a new one is not");
	fake_unserve(w);
	cr_assert_eq(shmeta_reload(instance, 5000, NULL, 0), SHMETA_ERR_WRITER_AWAY);
	cr_assert_neq(strstr(last_error(), w->dir), NULL, "%s", last_error());
	fake_serve(w);
	cr_assert_eq(shmeta_reload(instance, 5000, NULL, 0), SHMETA_OK);
}

Test(reader_requests, an_answer_that_comes_too_late_is_not_taken_for_the_next_ones)
{
	w->silent = 1;
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 30, NULL), SHMETA_ERR_TIMEOUT);
	w->silent = 0;
	w->answer = SHMETA_ERR_SOURCE;
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_ERR_SOURCE);
	w->answer = SHMETA_OK;
	w->stray = 1;
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_OK);
}

static void *refresh_often(void *arg)
{
	enum shmeta_status *ret = arg;

	for (int i = 0; i < 20 && *ret == SHMETA_OK; i++)
		*ret = shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 10000, NULL);
	return NULL;
}

Test(reader_requests, threads_ask_side_by_side)
{
	enum shmeta_status status[8] = {0};
	pthread_t thread[8];

	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, refresh_often, &status[i]), 0);
	for (int i = 0; i < 8; i++)
		(void)pthread_join(thread[i], NULL);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(status[i], SHMETA_OK);
	cr_assert_eq(w->refreshes, 160);
}

static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	cr_assert_neq(dir, NULL);
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n;
}

Test(reader_requests, threads_that_asked_leave_one_descriptor_behind_and_close_that)
{
	enum shmeta_status status[8] = {0};
	int served, before;
	pthread_t thread[8];

	/* The fake writer's ends are in this process, too: each connection counts twice. */
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 10000, NULL), SHMETA_OK);
	before = open_descriptors();
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, refresh_often, &status[i]), 0);
	for (int i = 0; i < 8; i++)
		(void)pthread_join(thread[i], NULL);
	/* its ends are closed, so what remains more than before is the library's */
	fake_unserve(w);
	served = open_descriptors();
	cr_assert_leq(served, before);
	fake_serve(w);
}

static char long_text[3000];

Test(reader_requests, a_sentence_that_is_too_long_is_cut)
{
	memset(long_text, 'x', sizeof long_text - 1);
	w->answer = SHMETA_ERR_SOURCE;
	w->answer_text = long_text;
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 10000, NULL), SHMETA_ERR_SOURCE);
	cr_assert_neq(strstr(last_error(), "xxx..."), NULL, "%s", last_error());
}

/* ---- waiting for commits ---- */

static void *commit_soon(void *arg)
{
	(void)arg;
	(void)poll(NULL, 0, 30);
	fake_begin(w);
	fake_group(w, NULL, "g");
	(void)fake_commit(w);
	return NULL;
}

static void *switch_soon(void *arg)
{
	(void)poll(NULL, 0, 30);
	fake_switch_generation(w);
	return commit_soon(arg);
}

Test(reader_requests, waiting_for_a_commit_ends_with_it_also_in_the_next_generation)
{
	uint64_t txn = 0, newest = w->gen->committed;
	pthread_t thread;
	char text[512];

	cr_assert_eq(shmeta_wait_commit(instance, newest - 1, 0, &txn), SHMETA_OK, "it is there already");
	cr_assert_eq(txn, newest);
	cr_assert_eq(shmeta_wait_commit(instance, newest, 20, &txn), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(txn, newest, "nothing is written on failure");
	cr_assert_neq(strstr(shmeta_last_error(instance, text, sizeof text), "no commit after"), NULL, "%s", text);
	cr_assert_eq(pthread_create(&thread, NULL, commit_soon, NULL), 0);
	cr_assert_eq(shmeta_wait_commit(instance, newest, 10000, &txn), SHMETA_OK);
	cr_assert_eq(txn, newest + 1);
	(void)pthread_join(thread, NULL);
	cr_assert_eq(pthread_create(&thread, NULL, switch_soon, NULL), 0);
	cr_assert_eq(shmeta_wait_commit(instance, newest + 1, 10000, &txn), SHMETA_OK);
	cr_assert_gt(txn, newest + 1);
	(void)pthread_join(thread, NULL);
	cr_assert_eq(shmeta_wait_commit(NULL, 0, 0, &txn), SHMETA_ERR_INVALID_ARGUMENT);
}

static void *load_anew_soon(void *unused)
{
	(void)unused;
	(void)poll(NULL, 0, 30);
	fake_load_anew(w);
	return NULL;
}

Test(reader_requests, waiting_for_a_commit_ends_where_the_store_is_loaded_anew_and_commits_are_counted_again)
{
	uint64_t txn = 0, newest, first;
	pthread_t thread;

	for (int i = 0; i < 50; i++) {
		fake_begin(w);
		(void)fake_commit(w);
	}
	newest = w->gen->committed;
	begin();
	end();
	cr_assert_eq(pthread_create(&thread, NULL, load_anew_soon, NULL), 0);
	cr_assert_eq(shmeta_wait_commit(instance, newest, 10000, &txn), SHMETA_OK);
	(void)pthread_join(thread, NULL);
	first = w->gen->committed;
	cr_assert_lt(first, newest);
	cr_expect_eq(txn, first);
	/* Also where a reader has gone on, or another wait, before this one begins. */
	cr_expect_eq(shmeta_wait_commit(instance, newest, 10000, &txn), SHMETA_OK);
	cr_expect_eq(shmeta_wait_commit(instance, first, 20, &txn), SHMETA_ERR_TIMEOUT, "it is of this store");

	/* A copy counts on. */
	fake_switch_generation(w);
	cr_expect_eq(shmeta_wait_commit(instance, first, 20, &txn), SHMETA_ERR_TIMEOUT);
	cr_expect_eq(shmeta_wait_commit(instance, newest, 10000, &txn), SHMETA_OK);

	/* By chance it is the same number. */
	newest = w->gen->committed;
	fake_load_anew(w);
	while (w->gen->committed < newest) {
		fake_begin(w);
		(void)fake_commit(w);
	}
	cr_expect_eq(shmeta_wait_commit(instance, newest, 10000, &txn), SHMETA_OK);
	cr_expect_eq(txn, newest);
}

static uint64_t restless; /* the commit that another one replaces, and the other way round, whenever
                           * its roots are read */

static void replace(uint64_t txn, struct shmeta__tree_meta *roots)
{
	(void)roots;
	if (restless != 0)
		shmeta_publish(&w->gen->committed, txn == restless ? restless + 1 : restless);
}

Test(reader_requests, a_wait_goes_on_while_the_generation_does_not_hold_still)
{
	struct shmeta_token token;
	uint64_t committed;

	fake_switch_generation(w);
	on_read_meta = replace;
	committed = restless = w->gen->committed;
	token = (struct shmeta_token){w->gen->generation, committed};
	cr_assert_eq(shmeta_wait_token(instance, &token, 50), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(shmeta_wait_commit(instance, committed - 1, 50, NULL), SHMETA_ERR_TIMEOUT);
	restless = 0;
	shmeta_publish(&w->gen->committed, committed);
	cr_assert_eq(shmeta_wait_token(instance, &token, 5000), SHMETA_OK);
	cr_assert_eq(shmeta_wait_commit(instance, committed - 1, 5000, NULL), SHMETA_OK);
}

Test(reader_requests, a_wait_ends_at_its_deadline_also_in_a_generation_that_is_retired_and_current)
{
	const struct shmeta_token token = {w->gen->generation, w->gen->committed + 1000};
	struct shmeta_partition p;
	uint64_t txn;

	shmeta_publish(&w->gen->retired, 1);
	cr_assert_eq(shmeta_wait_commit(instance, w->gen->committed, 50, &txn), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(shmeta_wait_token(instance, &token, 50), SHMETA_ERR_TIMEOUT);
	fake_advance(w, 60 * SECOND);
	w->answer_txn_ahead = 1000;
	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, &hasty_read, &p, NULL), SHMETA_ERR_TIMEOUT);
	end();
	/* It is read as before, and what was known of it is kept. */
	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 1, NULL, &p, NULL), SHMETA_OK);
	end();
}

Test(reader_requests, changed_txn_tells_which_class_changed)
{
	uint64_t topics, agents, again;

	cr_assert_eq(shmeta_changed_txn(instance, SHMETA_CLASS_TOPIC, &topics), SHMETA_OK);
	cr_assert_eq(topics, w->gen->committed);
	cr_assert_eq(shmeta_changed_txn(instance, SHMETA_CLASS_AGENT, &agents), SHMETA_OK);
	cr_assert_lt(agents, topics);
	fake_begin(w);
	fake_agent(w, NULL, &(struct shmeta_agent){.agent_id = fake_str("a")}, 0);
	(void)fake_commit(w);
	cr_assert_eq(shmeta_changed_txn(instance, SHMETA_CLASS_TOPIC, &again), SHMETA_OK);
	cr_assert_eq(again, topics);
	cr_assert_eq(shmeta_changed_txn(instance, SHMETA_CLASS_AGENT, &again), SHMETA_OK);
	cr_assert_gt(again, topics);
	cr_assert_eq(shmeta_changed_txn(instance, (enum shmeta_class) - 1, &again), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_changed_txn(instance, SHMETA_CLASS_AGENT, NULL), SHMETA_ERR_INVALID_ARGUMENT);
}

Test(reader_requests, the_state_comes_from_shared_memory_alone)
{
	struct shmeta_state state = {.size = sizeof state};

	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	cr_assert_eq(state.phase, SHMETA_PHASE_SERVING);
	cr_assert_eq(state.writer_pid, (uint32_t)getpid());
	cr_assert_eq(state.writer_alive, 1);
	cr_assert_eq(state.epoch, 1);
	cr_assert_eq(state.generation, 1);
	cr_assert_eq(state.committed_txn, w->gen->committed);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		cr_assert_lt(state.class_age_ns[cls], SECOND);
	w->gen->stamp[SHMETA_CLASS_LEASE].synced_at_ns = 0;
	w->board->phase = SHMETA_PHASE_STOPPED;
	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	cr_assert_eq(state.class_age_ns[SHMETA_CLASS_LEASE], UINT64_MAX);
	cr_assert_eq(state.writer_alive, 0, "who said goodbye is gone");
	state.size = 8;
	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_get_state(NULL, &state), SHMETA_ERR_INVALID_ARGUMENT);
}
