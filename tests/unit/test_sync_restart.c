/* SPDX-License-Identifier: Apache-2.0
 * Restarts and generations: a warm store serves at once, goes on where the feed ended, and is
 * written only when nobody can be hurt; a store that is not this source's is left to its readers
 * and replaced by a new one. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/random.h"
#include "tests/support/sync_fixture.h"

TestSuite(sync_restart, .timeout = 60);

static struct fixture f;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static bool there(uint64_t generation)
{
	char name[64];
	struct stat st;

	snprintf(name, sizeof name, "store.%llu/data.mdb", (unsigned long long)generation);
	return fstatat(f.dir_fd, name, &st, 0) == 0;
}

/* A reader's mapping of a generation's page, kept open through all that follows. */
static const struct shmeta_generation *map_page(uint64_t generation)
{
	char name[64];
	void *map;
	struct shmeta_err err = {0};

	snprintf(name, sizeof name, "store.%llu/generation", (unsigned long long)generation);
	cr_assert_eq(shmeta__map_file(f.dir_fd, name, SHMETA_GENERATION_BYTES, 0, &map, &err), SHMETA_OK, "%s",
	             err.text);
	return map;
}

static void first_life_with(size_t pad)
{
	fixture_init(&f);
	memory_pad_position(f.db, pad);
	cr_assert(memory_fill(f.db, 10, 4, 300, 1));
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 3000);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 1000);
	SAME();
}

static void first_life(void)
{
	first_life_with(0);
}

Test(sync_restart, a_warm_store_is_served_before_anything_is_read)
{
	struct memory_stats before, after;

	first_life();

	uint64_t stamp = shmeta__store_generation(sync_store(f.sync))->stamp[0].synced_at_ns;

	fixture_crash(&f);
	memory_read_stats(f.db, &before);
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_eq(f.board->phase, SHMETA_PHASE_SERVING);
	cr_assert_eq(f.board->generation, 1);
	memory_read_stats(f.db, &after);
	cr_assert_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_assert_eq(shmeta__store_generation(sync_store(f.sync))->stamp[0].synced_at_ns, stamp,
	             "the old stamps are the truth until the source was asked");
	fixture_done(&f);
}

Test(sync_restart, an_unchanged_source_costs_one_question_and_no_write)
{
	struct memory_stats before, after;

	first_life();

	uint64_t committed = fixture_committed(&f);

	fixture_crash(&f);
	memory_read_stats(f.db, &before);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_run(&f);
	memory_read_stats(f.db, &after);
	cr_assert_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_assert_eq(after.calls[MEMORY_FETCH], before.calls[MEMORY_FETCH]);
	cr_assert_eq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 0);
	cr_assert_eq(fixture_committed(&f), committed);
	cr_assert_eq(f.board->generation, 1);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, what_changed_meanwhile_is_caught_up_by_the_feed_after_a_kill)
{
	first_life();
	fixture_crash(&f);
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	memory_delete_topic(f.db, NULL, "topic-00003");
	fixture_topic(&f, "born-meanwhile", 2, 3, 7);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 1000);
	SAME();
	cr_assert_eq(fixture_counters(&f).loads, 0);
	cr_assert_eq(fixture_counters(&f).reconciles, 0);
	fixture_done(&f);
}

static void goes_on_from_a_long_position(void)
{
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 1000);
	SAME();
	cr_assert_eq(fixture_counters(&f).loads, 0);
	cr_assert_eq(fixture_counters(&f).reconciles, 0, "%s", f.log);
}

Test(sync_restart, a_position_of_a_hundred_kilobytes_is_gone_on_from_after_a_stop_and_after_a_kill)
{
	first_life_with(100 * 1024);
	fixture_crash(&f);
	goes_on_from_a_long_position();
	memory_delete_topic(f.db, NULL, "topic-00003");
	fixture_pass(&f, 1000);
	fixture_close(&f);
	fixture_add_segment(&f, "t", 2, 10000, 1000);
	goes_on_from_a_long_position();
	fixture_done(&f);
}

Test(sync_restart, a_position_that_no_store_takes_is_none_and_everything_is_compared)
{
	first_life_with(17 << 20);
	fixture_crash(&f);
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 2000);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconciles, 1);
	fixture_done(&f);
}

Test(sync_restart, a_feed_that_cannot_go_on_leads_to_a_reconcile)
{
	first_life();
	fixture_crash(&f);
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	memory_drop_feed(f.db);
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	fixture_pass(&f, 2000);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconciles, 1);
	cr_assert_eq(fixture_counters(&f).loads, 0);
	fixture_done(&f);
}

Test(sync_restart, the_first_write_goes_to_a_copy_when_not_every_reader_is_known)
{
	first_life();

	const struct shmeta_generation *old = map_page(1);
	uint64_t committed = old->committed;

	fixture_crash(&f);
	f.kept = 0;
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 100);
	SAME();
	cr_assert_eq(f.board->generation, 2);
	cr_assert_eq(old->committed, committed, "the store that readers may be in was written");
	cr_assert_eq(old->retired, 1);
	cr_assert_eq(shmeta__store_generation(sync_store(f.sync))->retired, 0);
	cr_assert_gt(fixture_committed(&f), committed, "commit numbers go on");
	cr_assert(there(1), "the old directory went before two grace periods had passed");
	fixture_pass(&f, 2500);
	cr_assert_not(there(1));
	cr_assert(there(2));

	uint64_t dev, ino;

	shmeta__store_inode(sync_store(f.sync), &dev, &ino);
	cr_assert_eq(f.board->store_dev, dev);
	cr_assert_eq(f.board->store_ino, ino);
	fixture_done(&f);
}

Test(sync_restart, stamps_survive_the_copy)
{
	first_life();

	uint64_t stamp = shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_LIST].synced_at_ns;

	fixture_crash(&f);
	memory_drop_feed(f.db); /* so that nothing moves them */
	memory_fail(f.db, MEMORY_LOAD, 1000, 0, SHMETA_ERR_SOURCE, "no");
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 3000);
	cr_assert_eq(f.board->generation, 2);
	cr_assert_eq(shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_LIST].synced_at_ns, stamp);
	fixture_done(&f);
}

Test(sync_restart, with_every_registration_kept_the_first_write_waits_for_the_grace_period_and_for_old_pins)
{
	first_life();

	uint64_t committed = fixture_committed(&f);

	fixture_crash(&f);
	f.kept = 1;
	f.oldest_pin = committed - 1;
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 990);
	cr_assert_eq(fixture_committed(&f), committed);
	cr_assert_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 5000,
	              "called in step although a change that the feed named is not shown");
	fixture_pass(&f, 3000);
	cr_assert_eq(fixture_committed(&f), committed, "written under a pin of the former writer's time");
	cr_assert_eq(f.board->generation, 1);
	f.oldest_pin = committed;
	fixture_pass(&f, 500);
	cr_assert_gt(fixture_committed(&f), committed);
	cr_assert_eq(f.board->generation, 1);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, with_every_registration_kept_and_no_pin_the_first_write_waits_for_the_grace_period)
{
	first_life();

	uint64_t committed = fixture_committed(&f);

	fixture_crash(&f);
	f.kept = 1;
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 990);
	cr_assert_eq(fixture_committed(&f), committed, "written under readers that nobody can see");
	fixture_pass(&f, 50);
	cr_assert_gt(fixture_committed(&f), committed);
	cr_assert_eq(f.board->generation, 1);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_pin_that_stays_is_not_waited_for_for_ever)
{
	first_life();

	uint64_t committed = fixture_committed(&f);
	const struct shmeta_generation *old = map_page(1);

	fixture_crash(&f);
	f.kept = 1;
	f.oldest_pin = committed - 1;
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 11000);
	cr_assert_eq(f.board->generation, 2);
	cr_assert_eq(old->committed, committed);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_store_of_another_source_is_left_to_its_readers_and_replaced_from_aside)
{
	first_life();

	const struct shmeta_generation *old = map_page(1);
	uint64_t committed = old->committed;
	uint32_t highest = 0;

	for (int i = 0; i < 10; i++) {
		char name[32];

		snprintf(name, sizeof name, "topic-%05d", i);
		highest = fixture_topic_id(&f, name) > highest ? fixture_topic_id(&f, name) : highest;
	}
	highest = fixture_topic_id(&f, "t") > highest ? fixture_topic_id(&f, "t") : highest;
	fixture_crash(&f);
	memory_replace(f.db);
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert(fixture_logged(&f, "source_changed"), "%s", f.log);
	cr_assert_eq(f.board->generation, 1, "readers of the old one have nothing to go to yet");
	cr_assert_eq(old->retired, 0);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 2);
	cr_assert_eq(old->retired, 1);
	cr_assert_eq(old->committed, committed);
	SAME();
	cr_assert_gt(fixture_topic_id(&f, "t"), highest, "a topic number came back to life");
	fixture_pass(&f, 3000);
	cr_assert_not(there(1));
	fixture_done(&f);
}

Test(sync_restart, a_source_that_becomes_another_one_while_it_is_followed_is_loaded_anew)
{
	first_life();

	const struct shmeta_generation *old = map_page(1);

	memory_replace(f.db);
	memory_delete_topic(f.db, NULL, "topic-00001");
	fixture_pass(&f, 3000);
	cr_assert_eq(f.board->generation, 2, "%s", f.log);
	cr_assert_eq(old->retired, 1);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_store_of_another_boot_is_not_served)
{
	first_life();
	fixture_crash(&f);
	f.board->boot_id[0] ^= 1;
	/* that boot has lasted longer: the clock alone would take the stamps for ages */
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_STARTING);
	cr_assert(strstr(f.log, "before the machine was started") != NULL, "%s", f.log);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 2);
	SAME();
	fixture_done(&f);
}

/* A stamp carries no checksum. */
Test(sync_restart, a_store_whose_stamp_is_ahead_of_the_clock_is_not_served)
{
	first_life();
	shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_TOPIC].synced_at_ns = f.now_ns + 60000000000;
	fixture_crash(&f);
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_STARTING);
	cr_assert(strstr(f.log, "a stamp of the future") != NULL, "%s", f.log);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 2);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_damaged_store_is_replaced)
{
	first_life();
	fixture_crash(&f);

	int fd = openat(f.dir_fd, "store.1/data.mdb", O_RDWR | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	for (off_t at = 0; at < 8192; at += 8)
		cr_assert_eq(pwrite(fd, "garbage!", 8, at), 8);
	close(fd);
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 2, "%s", f.log);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_store_that_ended_who_took_it_over_is_not_tried_again)
{
	first_life();
	fixture_crash(&f);
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_eq(f.board->taking_over, 0, "it is served: whatever ends the writer now is not its fault");
	fixture_crash(&f);
	f.board->taking_over = 1;
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_STARTING);
	cr_assert(strstr(f.log, "ended before it served it") != NULL, "%s", f.log);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 2);
	SAME();
	fixture_crash(&f);
	fixture_open(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "the next one is tried: %s", f.log);
	cr_assert_eq(f.board->generation, 2);
	fixture_done(&f);
}

/* ---- damage ---- */

enum how { BIT, BYTES, NOISE, ZERO, SWAPPED, CUT, PAGE, HOWS };

static void damage(enum how how)
{
	const char *name = how == PAGE ? "store.1/generation" : "store.1/data.mdb";
	int fd = openat(f.dir_fd, name, O_RDWR | O_CLOEXEC);
	uint8_t bytes[SHMETA_PAGE] = {0};
	struct stat st;

	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &st), 0);

	off_t size = how == PAGE ? 512 : st.st_size, at = (off_t)random_below((uint64_t)size - 16);
	size_t count = how == NOISE || how == ZERO || how == SWAPPED ? sizeof bytes : how == BYTES ? 16 : 1;

	if (count == sizeof bytes)
		at = (off_t)random_below((uint64_t)size / sizeof bytes) * (off_t)sizeof bytes;
	if (how == CUT) {
		cr_assert_eq(ftruncate(fd, at), 0);
		close(fd);
		return;
	}
	cr_assert_eq(
		pread(fd, bytes, count,
	              how == SWAPPED ? (off_t)random_below((uint64_t)size / sizeof bytes) * (off_t)sizeof bytes : at),
		(ssize_t)count);
	for (size_t i = 0; i < count && how != SWAPPED; i++)
		bytes[i] = (uint8_t)(how == ZERO  ? 0u
		                     : how == BIT ? bytes[i] ^ 1u << random_below(8)
		                                  : random_below(256));
	cr_assert_eq(pwrite(fd, bytes, count, at), (ssize_t)count);
	close(fd);
}

/* In this process: what LMDB would end it over ends the test. */
Test(sync_restart, whatever_was_damaged_the_next_start_serves_what_the_source_has, .timeout = 240)
{
	unsigned int anew[HOWS] = {0};
	enum { ROUNDS = 12 };

	for (unsigned int round = 0; round < HOWS * ROUNDS; round++) {
		enum how how = round % HOWS;

		random_begin(round);
		first_life();
		fixture_crash(&f);
		damage(how);
		f.now_ns += 5000000000;
		f.kept = 1;
		fixture_open(&f);
		fixture_run(&f);
		fixture_add_segment(&f, "t", 1, 10000, 1000);
		fixture_pass(&f, 3000);
		cr_assert_leq(f.board->generation, 2, "round %u: one load at most: %s", round, f.log);
		cr_assert_eq(f.board->generation == 2, fixture_logged(&f, "store_refused"), "%s", f.log);
		anew[how] += f.board->generation == 2;
		SAME();
		fixture_done(&f);
	}
	for (enum how how = 0; how < HOWS; how++)
		cr_assert_gt(anew[how], how == PAGE ? 0 : ROUNDS / 3, "kind %d", (int)how);
	cr_assert_eq(anew[CUT], ROUNDS);
}

Test(sync_restart, a_damaged_partition_is_not_patched_but_everything_is_loaded_anew_aside)
{
	struct shmeta__txn *txn;
	struct shmeta_err err = {0};
	uint64_t number, key;
	uint32_t id;

	first_life();
	id = fixture_topic_id(&f, "t");
	key = shmeta__part_key(id, 1);
	cr_assert_eq(shmeta__txn_begin(sync_store(f.sync), UINT64_MAX, &txn, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(shmeta__put(txn, SHMETA_DB_PARTS, &key, sizeof key, "not a head", 10, &err), SHMETA_OK);
	cr_assert_eq(shmeta__txn_commit(txn, &number, &err), SHMETA_OK);

	const struct shmeta_generation *old = map_page(1);

	fixture_add_segment(&f, "t", 1, 10000, 1000);
	fixture_pass(&f, 15000);
	cr_assert_eq(f.board->generation, 2, "%s", f.log);
	cr_assert_eq(old->retired, 1);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_gt(fixture_topic_id(&f, "t"), id);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_store_is_served_while_the_source_is_away_and_only_if_it_was_named_the_same)
{
	first_life();
	fixture_crash(&f);
	memory_fail(f.db, MEMORY_OPEN, 1000, 0, SHMETA_ERR_SOURCE, "connection refused");
	f.now_ns += 5000000000;
	fixture_open(&f);
	cr_assert_eq(f.board->generation, 1);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_assert_not_null(strstr(f.sentence, "connection refused"));
	cr_assert_not_null(sync_store(f.sync));
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	memory_fail(f.db, MEMORY_OPEN, 0, 0, SHMETA_ERR_SOURCE, "");
	fixture_pass(&f, 12000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	SAME();
	fixture_crash(&f);

	/* The operator named another source, and it is away, too: nobody can tell whose rows these
	 * are. */
	struct memory_db *other = memory_db_new("somebody-else");
	struct shmeta_err err = {0};

	memory_fail(other, MEMORY_OPEN, 1000, 0, SHMETA_ERR_SOURCE, "connection refused");
	f.options.source.uri = "memory:somebody-else";
	cr_assert_eq(fixture_try_open(&f, &err), SHMETA_OK, "%s", err.text);
	cr_assert_not_null(strstr(f.log, "source_changed: the store was filled from a source of another name"), "%s",
	                   f.log);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	fixture_close(&f);
	memory_faults_forget(other);
	memory_db_free(other);
	fixture_done(&f);
}

Test(sync_restart, a_clean_stop_and_start_read_nothing_again)
{
	struct memory_stats before, after;

	first_life();
	memory_silence(f.db, false);
	fixture_close(&f);
	cr_assert_eq(f.board->phase, SHMETA_PHASE_STOPPED);
	memory_read_stats(f.db, &before);
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_pass(&f, 1000);
	memory_read_stats(f.db, &after);
	cr_assert_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_assert_eq(after.calls[MEMORY_FETCH], before.calls[MEMORY_FETCH]);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, a_larger_limit_takes_effect_at_the_first_write_after_a_restart)
{
	first_life();
	fixture_close(&f);
	f.kept = 1;
	f.options.store_max_bytes *= 2;
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	fixture_pass(&f, 100);
	cr_assert_eq(f.board->generation, 2);
	cr_assert_eq(shmeta__store_generation(sync_store(f.sync))->max_bytes, f.options.store_max_bytes);
	SAME();
	fixture_done(&f);
}

Test(sync_restart, directories_that_a_crash_left_are_removed_and_their_numbers_not_used)
{
	first_life();
	fixture_crash(&f);
	cr_assert_eq(mkdirat(f.dir_fd, "store.7", 0750), 0);
	cr_assert_geq(openat(f.dir_fd, "store.7/data.mdb", O_CREAT | O_WRONLY, 0640), 0);
	memory_replace(f.db);
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 8);
	fixture_pass(&f, 3000);
	cr_assert_not(there(7));
	cr_assert_not(there(1));
	fixture_done(&f);
}

Test(sync_restart, the_first_number_of_a_directory_is_given_and_each_later_one_follows_the_former)
{
	fixture_init(&f);
	f.options.generations_after = 5 << 12;
	for (uint64_t number = (5 << 12) + 1; number < (5 << 12) + 4; number++) {
		fixture_open(&f);
		fixture_run(&f);
		cr_expect_eq(f.board->generation, number);
		cr_assert(there(number));
		fixture_crash(&f);
		f.options.generations_after += 7 << 12;
		f.board->boot_id[0]++; /* what is there is not served any more */
	}
	fixture_done(&f);
}

Test(sync_restart, any_number_of_directories_that_were_left_are_removed)
{
	enum { LEFT = 3 * 16 + 1 };
	char name[64];

	first_life();
	fixture_crash(&f);
	for (int i = 2; i < 2 + LEFT; i++) {
		snprintf(name, sizeof name, "store.%d", i);
		cr_assert_eq(mkdirat(f.dir_fd, name, 0750), 0);
	}
	fixture_open(&f);
	fixture_run(&f);
	for (uint64_t i = 2; i < 2 + LEFT; i++) {
		snprintf(name, sizeof name, "store.%d", (int)i);
		cr_assert_eq(faccessat(f.dir_fd, name, F_OK, 0), -1, "%s", name);
	}
	cr_assert(there(1));
	SAME();
	fixture_done(&f);
}

/* The time of a directory is one of the wall clock, which may have been set since. */
static void leave_store_1(int64_t age_s)
{
	struct timespec times[2];

	first_life();
	fixture_crash(&f);
	f.kept = 0;
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 5000000000;
	fixture_open(&f);
	fixture_pass(&f, 100);
	cr_assert_eq(f.board->generation, 2);
	cr_assert(there(1));
	fixture_crash(&f);
	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= age_s;
	times[1] = times[0];
	cr_assert_eq(utimensat(f.dir_fd, "store.1", times, 0), 0);
	f.kept = 1;
	fixture_open(&f);
	fixture_run(&f);
}

Test(sync_restart, a_store_that_was_left_long_ago_is_removed_at_once)
{
	leave_store_1(3600);
	cr_assert_not(there(1));
	SAME();
	fixture_done(&f);
}

Test(sync_restart, one_that_was_left_in_the_future_is_removed_after_two_grace_periods)
{
	leave_store_1(-3600);
	cr_assert(there(1), "somebody may be about to open it");
	fixture_pass(&f, 3000);
	cr_assert_not(there(1));
	SAME();
	fixture_done(&f);
}

/* Each restart that lost a registration copies the store at its first write. */
Test(sync_restart, quick_restarts_leave_at_most_two_old_stores_beside_the_current_one)
{
	uint64_t most = 0;

	first_life();
	f.kept = 0;
	for (int i = 0; i < 30; i++) {
		uint64_t directories = 0;

		fixture_crash(&f);
		f.now_ns += 50000000;
		fixture_open(&f);
		fixture_add_segment(&f, "t", 1, 10000 + 1000 * (uint64_t)i, 1000);
		fixture_pass(&f, 50);
		for (uint64_t number = 1; number <= 40; number++)
			directories += there(number);
		if (directories > most)
			most = directories;
	}
	cr_assert_leq(most, 4, "the current one, two, and the one that has just been left");
	/* The last one is not copied before there is room, and then it is. */
	fixture_pass(&f, 5000);
	SAME();
	fixture_pass(&f, 5000);
	for (uint64_t number = 1; number <= 40; number++)
		cr_assert_eq(there(number), number == f.board->generation);
	fixture_done(&f);
}

Test(sync_restart, a_source_that_can_never_work_fails_the_start_with_a_sentence)
{
	struct shmeta_err err = {0};

	fixture_init(&f);
	f.options.source.uri = "nonsense:x";
	f.options.engine = NULL;
	cr_assert_eq(fixture_try_open(&f, &err), SHMETA_ERR_CONFIG);
	cr_assert_neq(err.text[0], '\0');
	f.options.source.uri = NULL;
	cr_assert_eq(fixture_try_open(&f, &err), SHMETA_ERR_CONFIG);
	f.options.source.uri = f.uri;
	f.options.engine = &memory_with_faults;
	memory_fail(f.db, MEMORY_OPEN, 1, 0, SHMETA_ERR_CONFIG, "the table topics is missing");
	cr_assert_eq(fixture_try_open(&f, &err), SHMETA_ERR_CONFIG);
	cr_assert_not_null(strstr(err.text, "the table topics is missing"));
	f.sync = NULL;
	fixture_done(&f);
}
