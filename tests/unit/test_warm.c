/* SPDX-License-Identifier: Apache-2.0
 * The snapshot file: a start without a store serves what the last stop wrote, with no age that it
 * cannot know, and goes on from its position; a file that is damaged, cut off or of another source
 * changes nothing. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/memory_faults.h"
#include "tests/support/sync_fixture.h"

TestSuite(warm, .timeout = 60);

static struct fixture f;
static char path[128], *before;
static int64_t wall_now_ms;

static int64_t wall_ms(void *arg)
{
	(void)arg;
	return wall_now_ms;
}

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static void forget_log(void)
{
	f.log_bytes = 0;
	f.log[0] = '\0';
}

/* Stopped, with a file; the store that is left would be found by the next start. */
static void first_life(void)
{
	fixture_init(&f);
	snprintf(path, sizeof path, "%s/warm", f.dir);
	f.options.warm_file = path;
	f.options.wall_ms = wall_ms;
	wall_now_ms = 1700000000000;
	cr_assert(memory_fill(f.db, 5, 3, 20, 1));
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	SAME();
	before = fixture_store_text(&f);
	fixture_close(&f);
	cr_assert(fixture_logged(&f, "warm_saved"), "%s", f.log);
	forget_log();
}

/* The instance directory is empty again. */
static void no_store(void)
{
	f.board->generation = 0;
}

static void other_boot(void)
{
	no_store();
	f.board->boot_id[3] ^= 1;
}

static void end(void)
{
	fixture_close(&f);
	f.options.warm_file = NULL;
	f.options.wall_ms = NULL;
	unlink(path);
	free(before);
	fixture_done(&f);
}

Test(warm, a_start_without_a_store_shows_the_rows_of_the_file_before_the_source_is_read)
{
	first_life();
	other_boot();
	fixture_open(&f);
	cr_assert(fixture_logged(&f, "warm_loaded"), "%s", f.log);
	char *after = fixture_store_text(&f);

	cr_assert_str_eq(after, before);
	free(after);
	end();
}

Test(warm, in_another_boot_ages_count_from_the_file_by_the_wall_clock_and_nothing_is_proved_until_the_feed_has_told)
{
	first_life();
	uint64_t uptime_ns = f.now_ns;

	other_boot();
	/* An hour later; the machine started a second ago. */
	wall_now_ms += 3600000;
	f.now_ns = 1000000000u;
	fixture_open(&f);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		uint64_t at = shmeta__store_generation(sync_store(f.sync))->stamp[cls].synced_at_ns, age;

		cr_expect(shmeta__stamp_is_unproved(at), "class %d has the time %llu", cls, (unsigned long long)at);
		age = shmeta__stamp_unproved_age(f.now_ns, at) / 1000000;
		cr_expect(age >= 3600000 && age <= 3600000 + uptime_ns / 1000000, "class %d has an age of %llu ms", cls,
		          (unsigned long long)age);
	}
	fixture_run(&f);
	fixture_pass(&f, 3000);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		cr_expect_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 5000u, "class %d", cls);
	end();
}

Test(warm, a_wall_clock_that_went_back_leaves_no_age)
{
	first_life();
	other_boot();
	wall_now_ms -= 1000;
	fixture_open(&f);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		uint64_t at = shmeta__store_generation(sync_store(f.sync))->stamp[cls].synced_at_ns;

		cr_expect(!shmeta__stamp_is_unproved(at) && at > f.now_ns + 1000000000u, "class %d has the time %llu",
		          cls, (unsigned long long)at);
	}
	end();
}

Test(warm, the_feed_goes_on_and_brings_in_only_what_differs)
{
	first_life();
	cr_assert(memory_fill(f.db, 6, 3, 20, 2));
	other_boot();
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 3000);
	SAME();
	cr_expect_eq(fixture_counters(&f).loads, 0u);
	cr_expect_eq(fixture_counters(&f).reconciles, 0u);
	cr_expect_lt(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 3000u);
	end();
}

/* Time passes until the file's thread has told. */
static bool is_saved_within(uint64_t ms)
{
	for (uint64_t passed = 0; passed < ms && !fixture_logged(&f, "warm_saved"); passed += 1000) {
		fixture_pass(&f, 1000);
		usleep(1000);
	}
	return fixture_logged(&f, "warm_saved");
}

/* The same where a file is expected: one that was begun in time is waited for, however slow the
 * disk is. */
static bool is_begun_within(uint64_t ms)
{
	bool saved = is_saved_within(ms);

	for (int i = 0; !saved && i < 20000; i++) {
		fixture_run(&f);
		usleep(1000);
		saved = fixture_logged(&f, "warm_saved");
	}
	return saved;
}

Test(warm, it_is_written_at_its_interval_when_anything_changed_and_only_then)
{
	first_life();
	f.options.warm_interval_s = 60;
	cr_assert_eq(unlink(path), 0);
	fixture_open(&f);
	fixture_run(&f);
	cr_expect(is_begun_within(70000), "%s", f.log);
	forget_log();
	cr_expect(!is_saved_within(200000), "nothing changed: %s", f.log);
	cr_expect_eq(fixture_counters(&f).snapshot_file_lag, 0u);
	cr_assert(memory_fill(f.db, 6, 3, 20, 3));
	fixture_pass(&f, 3000);
	cr_expect_geq(fixture_counters(&f).snapshot_file_lag, 5u);
	cr_expect(is_begun_within(70000), "%s", f.log);
	fixture_pass(&f, 3000);
	cr_expect_eq(fixture_counters(&f).snapshot_file_lag, 0u);
	/* The age of the file counts from when it was written. */
	cr_assert(memory_fill(f.db, 7, 3, 20, 3));
	fixture_pass(&f, 3000);
	cr_expect(fixture_counters(&f).snapshot_file_lag > 0 && fixture_counters(&f).snapshot_file_lag < 50, "%llu",
	          (unsigned long long)fixture_counters(&f).snapshot_file_lag);
	forget_log();
	cr_expect(is_begun_within(70000), "%s", f.log);
	fixture_pass(&f, 3000);
	/* A crash: the file of the interval is what is left. */
	free(before);
	before = fixture_store_text(&f);
	fixture_crash(&f);
	other_boot();
	fixture_open(&f);
	char *after = fixture_store_text(&f);

	cr_assert_str_eq(after, before);
	free(after);
	end();
}

Test(warm, an_interval_that_a_reload_changes_holds_at_once)
{
	first_life();
	f.options.warm_interval_s = 86400;
	cr_assert_eq(unlink(path), 0);
	fixture_open(&f);
	fixture_run(&f);
	cr_expect(!is_saved_within(100000), "%s", f.log);
	f.options.warm_interval_s = 60;
	sync_reconfigure(f.sync, &f.options);
	cr_expect(is_begun_within(70000), "%s", f.log);
	/* One that changes nothing postpones nothing. */
	forget_log();
	cr_assert(memory_fill(f.db, 6, 3, 20, 3));
	for (int i = 0; i < 10; i++) {
		fixture_pass(&f, 8000);
		sync_reconfigure(f.sync, &f.options);
	}
	cr_expect(is_begun_within(2000), "%s", f.log);
	/* None: only at a stop. */
	f.options.warm_interval_s = 0;
	sync_reconfigure(f.sync, &f.options);
	forget_log();
	cr_assert(memory_fill(f.db, 7, 3, 20, 3));
	cr_expect(!is_saved_within(200000), "%s", f.log);
	f.options.warm_interval_s = 60;
	sync_reconfigure(f.sync, &f.options);
	cr_expect(is_begun_within(70000), "%s", f.log);
	end();
}

static uint8_t *read_file(size_t *ret_bytes)
{
	FILE *file = fopen(path, "rb");
	struct stat st;

	cr_assert_not_null(file);
	cr_assert_eq(fstat(fileno(file), &st), 0);
	uint8_t *bytes = malloc((size_t)st.st_size);

	cr_assert_eq(fread(bytes, 1, (size_t)st.st_size, file), (size_t)st.st_size);
	fclose(file);
	*ret_bytes = (size_t)st.st_size;
	return bytes;
}

static void write_file(const uint8_t *bytes, size_t count)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert_eq(write(fd, bytes, count), (ssize_t)count);
	close(fd);
}

static void is_refused(const char *what, size_t at)
{
	no_store();
	fixture_open(&f);
	cr_assert(fixture_logged(&f, "warm_refused") && !fixture_logged(&f, "warm_loaded"), "%s at %zu: %s", what, at,
	          f.log);
	cr_assert_null(sync_store(f.sync), "%s at %zu", what, at);
	fixture_crash(&f);
	forget_log();
}

Test(warm, a_file_with_any_byte_changed_or_cut_off_anywhere_is_refused)
{
	size_t count;

	first_life();
	uint8_t *bytes = read_file(&count);

	for (size_t at = 0; at < count; at += at < 64 ? 1 : count / 97) {
		bytes[at] ^= 0x10;
		write_file(bytes, count);
		is_refused("a changed byte", at);
		bytes[at] ^= 0x10;
	}
	for (size_t at = 0; at < count; at += at < 64 ? 1 : count / 97) {
		write_file(bytes, at);
		is_refused("cut off", at);
	}
	free(bytes);
	no_store();
	fixture_open(&f);
	fixture_run(&f);
	SAME();
	end();
}

Test(warm, a_file_that_somebody_else_may_write_is_refused)
{
	first_life();
	cr_assert_eq(chmod(path, 0666), 0);
	is_refused("the mode", 0);
	fixture_open(&f);
	end();
}

/* What lies in its place is no file: it cannot be read, nor replaced. */
Test(warm, a_directory_in_its_place_is_told_as_that_and_once_however_often_it_is_tried)
{
	char said[300];
	const char *first;

	first_life();
	f.options.warm_interval_s = 60;
	cr_assert(unlink(path) == 0 && mkdir(path, 0700) == 0);
	no_store();
	fixture_open(&f);
	(void)snprintf(said, sizeof said, "%s: is not a regular file", path);
	cr_expect_not_null(strstr(f.log, said), "%s", f.log);
	fixture_run(&f);
	forget_log();
	cr_expect(!is_saved_within(200000), "%s", f.log);
	cr_assert(memory_fill(f.db, 6, 3, 20, 3));
	fixture_pass(&f, 3000);
	cr_expect(!is_saved_within(200000), "%s", f.log);
	(void)snprintf(said, sizeof said, "the snapshot file %s was not written: replacing warm: Is a directory", path);
	first = strstr(f.log, said);
	cr_expect_not_null(first, "%s", f.log);
	cr_expect(first == NULL || strstr(first + strlen(said), "was not written") == NULL, "told again: %s", f.log);
	/* And when it works, that is told. */
	cr_assert_eq(rmdir(path), 0);
	cr_assert(memory_fill(f.db, 7, 3, 20, 3));
	fixture_pass(&f, 3000);
	cr_expect(is_saved_within(70000), "%s", f.log);
	end();
}
