/* SPDX-License-Identifier: Apache-2.0
 * What happens to readers when something around them dies, stops, fills up or is hidden: nothing.
 * With a real shmetad. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"

TestSuite(survival, .timeout = 3600); /* make faults takes its time */

enum { TOPICS = 4, SEGMENTS = 500, READERS_MAX = 64, KILLS_MAX = 100 };

/* TOPICS topics of 2 partitions, SEGMENTS segments of 10 offsets each. */
static const char seed_sql[] =
	"BEGIN;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
	"INSERT INTO topics(name, partition_count, created_at, updated_at, config) SELECT 'topic-' || i, 2, 1, 1, '{}' FROM n;"
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT name, p, 5000, 1, 1 FROM topics, (SELECT 0 AS p UNION SELECT 1);"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499) "
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at) "
	"SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 10, i * 10 + 9, 10, 1000, 'bucket', "
	"'key/' || topic || '/' || partition_id || '/' || i, 1 FROM partitions, n;"
	"COMMIT;";

static struct run_daemon d;

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	/* The first start makes the schema; the second finds rows. */
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, seed_sql), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void teardown(void)
{
	run_daemon_done(&d);
}

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

/* One lookup by name: 0 when it answers what the source has, 1 when its snapshot was taken back,
 * and it says nothing. Below 0: what was wrong. */
static int right(struct shmeta_reader *reader, uint64_t i)
{
	char topic[16];
	struct shmeta_segment s = {.base_offset = 0};
	enum shmeta_status status = run_daemon_begin(reader);

	if (status != SHMETA_OK)
		return -1;
	(void)snprintf(topic, sizeof topic, "topic-%d", (int)(i % TOPICS));
	status = shmeta_find_segment_named(reader, topic, strlen(topic), (uint32_t)(i / TOPICS % 2),
	                                   i % (SEGMENTS * 10), NULL, &s, NULL);
	switch (shmeta_end(reader)) {
	case SHMETA_OK:
		break;
	case SHMETA_ERR_EXPIRED:
		return 1;
	default:
		return -2;
	}
	return status == SHMETA_OK && s.base_offset == i % (SEGMENTS * 10) / 10 * 10 &&
	                       s.end_offset == s.base_offset + 9
	               ? 0
	               : -3;
}

/* Wait until the rows of seed_sql are there (a warm start catches up after it serves). */
static int wait_rows(struct shmeta_reader *reader)
{
	for (double end = run_now_s() + 10; run_now_s() < end; pause_ms(2))
		if (right(reader, SEGMENTS * 10 * TOPICS * 2 - 1) == 0)
			return 0;
	return -1;
}

/* A child that opens, waits for the rows, and then looks up until told to stop, counting. Exit
 * status 0: all answers were right. */
static int reader_process(const char *directory, int ready_fd, int stop_fd, uint64_t lookups[2])
{
	struct run_daemon at = {.pid = 0};
	struct shmeta *instance;
	struct shmeta_reader *reader;
	char byte;

	(void)snprintf(at.instance, sizeof at.instance, "%s", directory);
	instance = run_daemon_open(&at, "survivor", 0);
	if (instance == NULL)
		return 10;
	reader = run_daemon_reader(instance);
	if (reader == NULL)
		return 11;
	if (wait_rows(reader) != 0)
		return 12;
	if (write(ready_fd, "r", 1) != 1 || fcntl(stop_fd, F_SETFL, O_NONBLOCK) != 0)
		return 13;
	for (uint64_t i = 0;; i++) {
		int said = right(reader, i);

		/* Without a registration a snapshot lasts as long as the grace period, also where
		 * the machine is too busy for it. */
		if (said < 0)
			return 14 - said;
		lookups[said]++;
		if (i % 1024 == 0 && read(stop_fd, &byte, 1) == 0)
			break; /* the test closed its end */
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}

struct readers {
	pid_t pid[READERS_MAX];
	uint64_t (*lookups)[2]; /* of each: that were right, that said nothing */
	int count, stop_fd;
};

static void readers_start(struct readers *r, int count, const char *directory)
{
	int ready[2], stop[2];
	char byte;

	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(stop, O_CLOEXEC), 0);
	r->lookups =
		mmap(NULL, READERS_MAX * sizeof *r->lookups, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(r->lookups, MAP_FAILED);
	for (r->count = 0; r->count < count; r->count++) {
		r->pid[r->count] = run_fork();
		if (r->pid[r->count] == 0) {
			(void)close(stop[1]);
			_exit(reader_process(directory, ready[1], stop[0], r->lookups[r->count]));
		}
	}
	(void)close(ready[1]);
	(void)close(stop[0]);
	r->stop_fd = stop[1];
	for (int i = 0; i < count; i++)
		cr_assert_eq(read(ready[0], &byte, 1), 1, "a reader did not come up");
	(void)close(ready[0]);
}

/* How many lookups were right, and in *ret_expired, where that is wanted, how many said nothing.
 * None was wrong. */
static uint64_t readers_end(struct readers *r, uint64_t *ret_expired)
{
	uint64_t lookups = 0, expired = 0;

	(void)close(r->stop_fd);
	for (int i = 0; i < r->count; i++) {
		int status = run_reap(r->pid[i]);

		cr_expect_eq(status, 0, "reader %d: %d", i, status);
		lookups += r->lookups[i][0];
		expired += r->lookups[i][1];
	}
	if (ret_expired != NULL)
		*ret_expired = expired;
	(void)munmap(r->lookups, READERS_MAX * sizeof *r->lookups);
	return lookups;
}

/* Another application that never stops changing rows, so that the writer never stops writing. */
static pid_t start_changing(void)
{
	pid_t pid = run_fork();

	if (pid == 0)
		for (;;)
			(void)run_daemon_sql(
				&d, "UPDATE partitions SET updated_at = updated_at + 1 WHERE partition_id = 0");
	return pid;
}

Test(survival, readers_answer_rightly_through_kills_and_restarts_of_the_writer, .init = setup, .fini = teardown)
{
	static double gap_ms[KILLS_MAX];
	const uint32_t kills = run_rounds(8, KILLS_MAX), count = run_rounds(3, READERS_MAX);
	pid_t changing = start_changing();
	struct readers r;
	uint64_t lookups, expired;
	char text[100];

	readers_start(&r, (int)count, d.instance);
	for (uint32_t i = 0; i < kills; i++) {
		double began = run_now_s();

		cr_assert_neq(run_daemon_end(&d, i % 4 == 3 ? SIGTERM : SIGKILL), -1);
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		gap_ms[i] = (run_now_s() - began) * 1000;
		pause_ms(i % 10 * 10);
	}
	lookups = readers_end(&r, &expired);
	(void)kill(changing, SIGKILL);
	(void)run_reap(changing);
	cr_expect_gt(lookups, kills);
	figure("three kills -9 and a stop of the writer in turn, under 64 readers while the source changes", kills,
	       1000, "starts", "0 wrong of %lu lookups, %lu snapshots discarded", lookups, expired);
	figure("the same: from the end of one writer to the next one's serving", kills, 0, "starts", "%s",
	       figure_times(gap_ms, kills, text, sizeof text));
}

Test(survival, readers_answer_rightly_while_the_writer_is_stopped, .init = setup, .fini = teardown)
{
	struct readers r;

	readers_start(&r, 2, d.instance);
	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
	pause_ms(1500);
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
	(void)readers_end(&r, NULL);
}

Test(survival, a_change_made_while_the_writer_was_dead_is_seen_after_its_restart, .init = setup, .fini = teardown)
{
	struct shmeta *instance = run_daemon_open(&d, "late", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	struct shmeta_partition p = {.high_watermark = 0};

	cr_assert(reader);
	cr_assert_eq(wait_rows(reader), 0);
	(void)run_daemon_end(&d, SIGKILL);
	cr_assert_eq(
		run_daemon_sql(
			&d, "UPDATE partitions SET high_watermark = 7777 WHERE topic = 'topic-1' AND partition_id = 1"),
		0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	for (double end = run_now_s() + 10; run_now_s() < end && p.high_watermark != 7777; pause_ms(2)) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_assert_eq(shmeta_get_partition_named(reader, "topic-1", 7, 1, NULL, &p, NULL), SHMETA_OK);
		(void)shmeta_end(reader);
	}
	cr_assert_eq(p.high_watermark, 7777);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

Test(survival, a_daemon_that_finds_its_store_cut_off_serves_a_new_generation, .init = setup, .fini = teardown)
{
	struct shmeta_snapshot_info before, after;
	struct shmeta *instance = run_daemon_open(&d, "witness", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	char path[200];

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &before), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	/* Nobody may have it mapped: a file that is cut under its readers kills them. */
	shmeta_reader_free(reader);
	shmeta_close(instance);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	(void)snprintf(path, sizeof path, "%s/store.%llu/data.mdb", d.instance, (unsigned long long)before.generation);
	cr_assert_eq(truncate(path, 12288), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "witness", 0);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	for (uint64_t i = 0; i < 100; i++)
		cr_assert_eq(right(reader, i * 37), 0);
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &after), SHMETA_OK);
	cr_assert_gt(after.generation, before.generation);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static struct shmeta_board board_now(void)
{
	struct shmeta_board board = {.registrations = 0};
	char path[128];
	int fd;

	(void)snprintf(path, sizeof path, "%s/board", d.instance);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(read(fd, &board, sizeof board), (ssize_t)sizeof board);
	(void)close(fd);
	return board;
}

/* As the writer counts them on its board. */
static uint32_t registrations(void)
{
	return (uint32_t)board_now().registrations;
}

/* Of the current generation. */
static uint64_t store_bytes(void)
{
	char path[160];
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/store.%lu/data.mdb", d.instance, (unsigned long)board_now().generation);
	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

Test(survival, readers_killed_in_a_snapshot_leave_the_writer_able_to_commit_and_other_readers_right, .init = setup,
     .fini = teardown)
{
	const uint32_t kills = run_rounds(20, 1000);
	uint64_t bytes, lookups;
	struct readers r;

	readers_start(&r, 1, d.instance);
	bytes = store_bytes();
	for (uint32_t i = 0; i < kills; i++) {
		pid_t pid = run_fork();

		if (pid == 0) {
			struct shmeta *instance = run_daemon_open(&d, "victim", 0);
			struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;

			if (reader == NULL || run_daemon_begin(reader) != SHMETA_OK)
				_exit(1);
			(void)kill(getpid(), SIGKILL);
		}
		cr_assert_eq(run_reap(pid), 128 + SIGKILL);
		cr_assert_eq(run_daemon_sql(&d, "UPDATE partitions SET updated_at = updated_at + 1"), 0);
	}
	/* What they pinned is let go: of the registrations those of the living alone are left. */
	for (double end_s = run_now_s() + 20; registrations() > 1 && run_now_s() < end_s;)
		pause_ms(5);
	cr_expect_eq(registrations(), 1);
	lookups = readers_end(&r, NULL);
	figure("readers killed with kill -9 in a snapshot, a commit behind each", kills, 10000, "kills",
	       "0 wrong of %lu lookups of another one; 1 registration left; the store grew by %ld KiB of %lu", lookups,
	       ((long)store_bytes() - (long)bytes) / 1024, bytes / 1024);
}

/* The instance directory goes, as by `rm -rf`: who reads goes on in what it has mapped, and follows
 * the next writer, also who never asks how old its answers are. */
Test(survival, readers_of_a_directory_that_was_emptied_go_on_and_follow_the_next_writer, .init = setup,
     .fini = teardown)
{
	struct shmeta *instance = run_daemon_open(&d, "witness", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	struct shmeta_partition p = {.high_watermark = 0};
	struct readers r;

	cr_assert_not_null(reader);
	cr_assert_eq(wait_rows(reader), 0);
	readers_start(&r, 3, d.instance);
	run_daemon_forget(&d); /* under the writer that runs */
	for (uint64_t i = 0; i < 10000; i++)
		cr_assert_eq(right(reader, i), 0);
	(void)run_daemon_end(&d, SIGKILL);
	cr_assert_eq(run_daemon_sql(&d, "UPDATE partitions SET high_watermark = 8888 WHERE topic = 'topic-1'"), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	for (double end = run_now_s() + 30; run_now_s() < end && p.high_watermark != 8888;) {
		for (uint64_t i = 0; i < 1024; i++) /* of which one is timed */
			cr_assert_eq(right(reader, i), 0);
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_assert_eq(shmeta_get_partition_named(reader, "topic-1", 7, 1, NULL, &p, NULL), SHMETA_OK);
		(void)shmeta_end(reader);
	}
	cr_assert_eq(p.high_watermark, 8888, "it never looks at the new directory");
	(void)readers_end(&r, NULL);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

/* Numbers that somebody kept of the directory before prove nothing in this one. */
Test(survival, a_token_of_a_directory_that_was_removed_is_older_than_all_that_the_next_one_shows, .init = setup,
     .fini = teardown)
{
	struct shmeta *instance = run_daemon_open(&d, "witness", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	struct shmeta_state before = {.size = sizeof before}, after = before;
	struct shmeta_iter *changes = NULL;
	struct shmeta_token token;

	cr_assert_not_null(reader);
	cr_assert_eq(wait_rows(reader), 0);
	cr_assert_eq(shmeta_get_state(instance, &before), SHMETA_OK);
	token = (struct shmeta_token){before.generation, before.committed_txn};
	shmeta_reader_free(reader);
	shmeta_close(instance);
	for (int i = 0; i < 2; i++) {
		(void)run_daemon_end(&d, SIGKILL);
		run_daemon_forget(&d);
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		instance = run_daemon_open(&d, "witness", 0);
		cr_assert_eq(shmeta_get_state(instance, &after), SHMETA_OK);
		cr_expect_gt(after.generation, before.generation);
		before = after;
		reader = run_daemon_reader(instance);
		cr_assert_not_null(reader);
		token.txn += 1000;
		cr_expect_eq(shmeta_wait_token(instance, &token, 100), SHMETA_OK, "nobody will ever commit that");
		token.txn -= 1000 - 1;
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_expect_eq(shmeta_changes_since(reader, &token, &changes), SHMETA_TOO_OLD);
		(void)shmeta_end(reader);
		shmeta_reader_free(reader);
		shmeta_close(instance);
	}
}

/* What a child answers that this machine did not let do its work: this and the errno. */
enum { REFUSED = 64, REFUSED_LAST = 127 };

static int refused(int error)
{
	return error < REFUSED_LAST - REFUSED ? REFUSED + error : REFUSED_LAST;
}

/* Skip the test where `status` says that it was refused what it needs. */
static void skip_where_refused(int status, const char *what)
{
	if (status <= REFUSED || status > REFUSED_LAST)
		return;
	teardown(); /* a skipped test has no .fini */
	cr_skip_test("%s: %s", what, strerror(status - REFUSED));
}

/* Exit status of fn in a child that may have new namespaces. */
static int in_namespaces(int flags, int (*fn)(void))
{
	pid_t pid = run_fork();

	if (pid == 0) {
		int error = (flags & CLONE_NEWNS) != 0 ? scratch_private_mounts() : 0;

		if (error != 0 || unshare(flags & ~CLONE_NEWNS) != 0)
			_exit(refused(error != 0 ? error : errno));
		if ((flags & CLONE_NEWPID) != 0) {
			pid_t inner = fork();

			if (inner == 0)
				_exit(fn());
			_exit(inner > 0 ? run_reap(inner) : 1);
		}
		_exit(fn());
	}
	return run_reap(pid);
}

static int some_lookups(const char *directory, int lookups)
{
	struct run_daemon at = {.pid = 0};
	struct shmeta *instance;
	struct shmeta_reader *reader;

	(void)snprintf(at.instance, sizeof at.instance, "%s", directory);
	instance = run_daemon_open(&at, "namespaced", 0);
	reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	if (reader == NULL || wait_rows(reader) != 0)
		return 20;
	for (int i = 0; i < lookups; i++)
		if (right(reader, (uint64_t)i) != 0)
			return 21;
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}

static int as_pid_one(void)
{
	return getpid() == 1 ? some_lookups(d.instance, 200000) : 22;
}

Test(survival, two_readers_that_are_both_process_one_of_their_namespace_read_at_the_same_time, .init = setup,
     .fini = teardown)
{
	pid_t pid[2];
	int status[2];

	for (int i = 0; i < 2; i++) {
		pid[i] = run_fork();
		if (pid[i] == 0)
			_exit(in_namespaces(CLONE_NEWPID, as_pid_one));
	}
	for (int i = 0; i < 2; i++)
		status[i] = run_reap(pid[i]);
	skip_where_refused(status[0], "no pid namespace can be made here");
	cr_assert_eq(status[0], 0);
	cr_assert_eq(status[1], 0);
}

static int on_read_only_mount(void)
{
	if (mount(d.instance, d.instance, NULL, MS_BIND, NULL) != 0 ||
	    mount(NULL, d.instance, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) != 0)
		return refused(errno);
	return some_lookups(d.instance, 200000);
}

Test(survival, a_reader_behind_a_read_only_bind_mount_is_right_while_the_writer_commits, .init = setup,
     .fini = teardown)
{
	pid_t pid = run_fork();
	int status, reaped;

	if (pid == 0)
		_exit(in_namespaces(CLONE_NEWNS, on_read_only_mount));
	while ((reaped = waitpid(pid, &status, WNOHANG)) == 0)
		cr_assert_eq(run_daemon_sql(&d, "UPDATE partitions SET updated_at = updated_at + 1"), 0);
	cr_assert_eq(reaped, pid);
	if (WIFEXITED(status))
		skip_where_refused(WEXITSTATUS(status), "nothing can be mounted here");
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The instance on a tmpfs of its own that a third file fills to the last page. */
static int on_full_tmpfs(void)
{
	struct run_daemon small = d;
	char path[160];
	struct readers r;
	char page[4096] = {1};
	int fd, status = 0;

	(void)snprintf(small.instance, sizeof small.instance, "%s/small", d.dir);
	small.pid = 0;
	if (mkdir(small.instance, 0755) != 0 || mount("none", small.instance, "tmpfs", 0, "size=24m,mode=0755") != 0)
		return refused(errno);
	if (run_daemon_start(&small, NULL) != 0)
		return 30;
	readers_start(&r, 2, small.instance);
	(void)snprintf(path, sizeof path, "%s/filler", small.instance);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, page, sizeof page) > 0)
		;
	/* New readers come, the source changes, and the writer cannot store it. */
	if (some_lookups(small.instance, 50000) != 0)
		status = 31;
	for (int i = 0; i < 20 && status == 0; i++)
		if (run_daemon_sql(&d, "UPDATE partitions SET updated_at = updated_at + 1") != 0)
			status = 32;
	(void)usleep(300000);
	if (waitpid(small.pid, NULL, WNOHANG) != 0)
		status = 33; /* the writer died of it */
	if (ftruncate(fd, 0) != 0)
		status = 34;
	(void)close(fd);
	/* There is room again: it converges by itself. */
	if (status == 0 &&
	    run_daemon_sql(
		    &d, "UPDATE partitions SET high_watermark = 9999 WHERE topic = 'topic-0' AND partition_id = 0") !=
	            0)
		status = 35;
	if (status == 0) {
		struct shmeta *instance = run_daemon_open(&small, "after", 0);
		struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
		struct shmeta_partition p = {.high_watermark = 0};

		for (double end = run_now_s() + 15; reader != NULL && run_now_s() < end && p.high_watermark != 9999;
		     (void)usleep(5000))
			if (run_daemon_begin(reader) == SHMETA_OK) {
				(void)!shmeta_get_partition_named(reader, "topic-0", 7, 0, NULL, &p, NULL);
				(void)shmeta_end(reader);
			}
		status = p.high_watermark == 9999 ? 0 : 36;
		shmeta_reader_free(reader);
		shmeta_close(instance);
	}
	(void)close(r.stop_fd);
	for (int i = 0; i < r.count; i++) {
		int s = run_reap(r.pid[i]);

		if (s != 0 && status == 0)
			status = 100 + s;
	}
	(void)munmap(r.lookups, READERS_MAX * sizeof *r.lookups);
	(void)run_daemon_end(&small, SIGTERM);
	(void)umount(small.instance);
	return status;
}

Test(survival, a_full_tmpfs_kills_nobody_and_the_writer_catches_up_when_there_is_room, .init = setup, .fini = teardown)
{
	int status = in_namespaces(CLONE_NEWNS, on_full_tmpfs);

	skip_where_refused(status, "nothing can be mounted here");
	cr_assert_eq(status, 0, "step %d", status);
}

/* From here on the kernel kills the process at any system call but exit. (The strict mode would
 * also forbid the time stamp counter, which clocks read without a call.) */
static int allow_only_exit(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	                             BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
	                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	                             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
	               ? (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)
	               : -1;
}

Test(survival, a_million_lookups_make_no_system_call, .init = setup, .fini = teardown)
{
	pid_t pid = run_fork(), churn;
	int status;

	if (pid == 0) {
		struct shmeta *instance = run_daemon_open(&d, "quiet", 0);
		struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
		struct shmeta_handle *handle = NULL;
		struct shmeta_segment s;
		struct shmeta_freshness f;

		if (reader == NULL || wait_rows(reader) != 0 || run_daemon_begin(reader) != SHMETA_OK ||
		    shmeta_partition_open(reader, "topic-2", 7, 1, &handle) != SHMETA_OK)
			_exit(40);
		(void)shmeta_end(reader);
		if (allow_only_exit() != 0)
			_exit(refused(errno));
		for (uint64_t i = 0; i < 1000000; i++) {
			enum shmeta_status begun = run_daemon_begin(reader);

			if (begun != SHMETA_OK || shmeta_find_segment(handle, i % 5000, NULL, &s, &f) != SHMETA_OK)
				(void)syscall(SYS_exit, 41);
			if (i % 8 == 0 && right(reader, i) == 0) /* refused: a snapshot is open */
				(void)syscall(SYS_exit, 42);
			(void)shmeta_end(reader);
			if (i % 8 == 0 && right(reader, i) != 0)
				(void)syscall(SYS_exit, 43);
		}
		(void)syscall(SYS_exit, 0);
	}
	/* Commits go on meanwhile, so that renewing snapshots and resolving handles are part of
	 * it. */
	churn = run_fork();
	if (churn == 0) {
		for (;;)
			(void)run_daemon_sql(
				&d, "UPDATE partitions SET updated_at = updated_at + 1 WHERE topic = 'topic-2'");
	}
	status = run_reap(pid);
	(void)kill(churn, SIGKILL);
	(void)run_reap(churn);
	skip_where_refused(status, "no seccomp filter can be set here");
	cr_assert_eq(status, 0, "exit status %d (159: a system call was made)", status);
}
