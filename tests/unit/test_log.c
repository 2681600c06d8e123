/* SPDX-License-Identifier: Apache-2.0
 * Log lines: priorities, escapes, limits, and what a terminal sees that a file does not. */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/page/board.h"
#include "writer/daemon/log.h"

TestSuite(log, .timeout = 30);

static FILE *to_pipe(int ends[2])
{
	FILE *stream;

	cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	stream = fdopen(ends[1], "w");
	cr_assert_not_null(stream);
	log_open(stream, "test", LOG_INFO);
	return stream;
}

static const char *heard(int fd)
{
	static char buffer[65536];
	size_t used = 0;
	ssize_t got;

	while ((got = read(fd, buffer + used, sizeof(buffer) - 1 - used)) > 0)
		used += (size_t)got;
	buffer[used] = '\0';
	return buffer;
}

static size_t count(const char *in, const char *what)
{
	size_t found = 0;

	for (const char *at = in; (at = strstr(at, what)) != NULL; at++)
		found++;
	return found;
}

Test(log, a_pipe_gets_the_priority_and_the_event_of_each_line)
{
	int ends[2];
	FILE *stream = to_pipe(ends);

	log_event(LOG_WARNING, "source", "cannot reach %s", "it");
	log_event(LOG_DEBUG, "source", "not shown at info");
	cr_expect_str_eq(heard(ends[0]), "<4>source: cannot reach it\n");
	log_set_level(LOG_ERR);
	log_event(LOG_WARNING, "source", "not shown at err");
	cr_expect_str_eq(heard(ends[0]), "");
	fclose(stream);
}

Test(log, what_came_from_outside_stays_on_its_line)
{
	int ends[2];
	FILE *stream = to_pipe(ends);

	log_event(LOG_ERR, "x", "a\nb\x1b[31m\x7f<0>c");
	cr_expect_str_eq(heard(ends[0]), "<3>x: a\\x0ab\\x1b[31m\\x7f<0>c\n");
	fclose(stream);
}

Test(log, what_would_act_on_a_terminal_or_hide_is_shown)
{
	char out[128];

	/* CSI as one character of C1, right-to-left override, zero width space, and bytes that are
	 * no UTF-8. */
	cr_expect_str_eq(shmeta__escape_line(out, sizeof(out),
	                                     "a\xc2\x9b"
	                                     "31m\xe2\x80\xae"
	                                     "b\xe2\x80\x8b"
	                                     "c\xff"
	                                     "d \xc3\xa4"),
	                 "a\\u009b31m\\u202eb\\u200bc\\xffd \xc3\xa4");
}

Test(log, the_audit_has_no_level_and_no_limit)
{
	int ends[2];
	FILE *stream = to_pipe(ends);

	log_set_level(LOG_ERR);
	for (int i = 0; i < 500; i++)
		log_audit("uid 0 pid 1: delete_topic");
	cr_expect_eq(count(heard(ends[0]), "<5>audit: uid 0 pid 1: delete_topic\n"), 500);
	log_set_level(LOG_INFO);
	fclose(stream);
}

Test(log, an_escape_is_never_cut_in_the_middle)
{
	char out[8];

	cr_expect_str_eq(shmeta__escape_line(out, sizeof(out), "ab\n"), "ab\\x0a");
	cr_expect_str_eq(shmeta__escape_line(out, sizeof(out), "ab\n\n"), "ab...");
	cr_expect_str_eq(shmeta__escape_line(out, sizeof(out), "abcdefghij"), "abcd...");
	cr_expect_str_eq(shmeta__escape_line(out, 1, "abc"), "");
}

Test(log, a_flood_of_one_event_is_held_back_and_counted_and_leaves_others_alone)
{
	uint64_t later = shmeta__boottime_ns() + (LOG_WINDOW_S + 1) * UINT64_C(1000000000);
	const char *all;
	int ends[2];
	FILE *stream = to_pipe(ends);

	for (int i = 0; i < 1000; i++)
		log_event(LOG_ERR, "flood", "line %d", i);
	log_event(LOG_ERR, "other", "heard");
	all = heard(ends[0]);
	cr_expect_eq(count(all, "<3>flood: line"), LOG_BURST);
	cr_expect_eq(count(all, "<3>other: heard"), 1);
	log_flush_held(shmeta__boottime_ns());
	cr_expect_str_eq(heard(ends[0]), "", "told before the window has ended");
	log_flush_held(later);
	cr_expect_eq(count(heard(ends[0]), "suppressed=990"), 1);
	log_flush_held(later);
	cr_expect_str_eq(heard(ends[0]), "", "told twice");
	fclose(stream);
}

Test(log, a_flood_of_one_user_hides_no_line_of_another)
{
	uint64_t later = shmeta__boottime_ns() + (LOG_WINDOW_S + 1) * UINT64_C(1000000000);
	const char *all;
	int ends[2];
	FILE *stream = to_pipe(ends);

	for (int i = 0; i < 1000; i++)
		log_event_by(1000, LOG_ERR, "denied", "line %d", i);
	log_event_by(1001, LOG_ERR, "denied", "heard");
	all = heard(ends[0]);
	cr_expect_eq(count(all, "<3>denied: line"), LOG_BURST);
	cr_expect_eq(count(all, "<3>denied: heard"), 1);
	log_flush_held(later);
	cr_expect_eq(count(heard(ends[0]), "the event 'denied' by user 1000 were held back (suppressed=990)"), 1);
	/* Nor do many users make each other or events unlimited. */
	for (uint32_t i = 0; i < 500; i++)
		log_event_by(2000 + i, LOG_ERR, "denied", "y");
	log_event(LOG_ERR, "new", "x");
	all = heard(ends[0]);
	cr_expect_lt(count(all, "<3>denied: y"), 100);
	cr_expect_eq(count(all, "<3>new: x"), 1);
	fclose(stream);
}

Test(log, more_events_than_the_table_holds_are_limited_together)
{
	int ends[2];
	FILE *stream = to_pipe(ends);

	for (int i = 0; i < 500; i++) {
		char event[16];

		snprintf(event, sizeof(event), "event-%d", i);
		log_event(LOG_ERR, event, "x");
	}
	cr_expect_lt(count(heard(ends[0]), "<3>"), 100);
	fclose(stream);
}

Test(log, a_long_load_is_told_now_and_then)
{
	const uint64_t s = UINT64_C(1000000000), now = 1000 * s;
	int ends[2];
	FILE *stream = to_pipe(ends);

	for (uint64_t i = 0; i < 250; i++)
		log_progress(i * 100, 100000, now + i * s / 10);
	cr_expect_str_eq(heard(ends[0]), "<6>loading: loading: 10000 of 100000 rows (10%)\n"
	                                 "<6>loading: loading: 20000 of 100000 rows (20%)\n");
	/* The next load begins anew. */
	log_progress_end();
	log_progress(7, 0, now + 60 * s);
	log_progress(8, 0, now + 69 * s);
	cr_expect_str_eq(heard(ends[0]), "");
	log_progress(9, 0, now + 70 * s);
	cr_expect_str_eq(heard(ends[0]), "<6>loading: loading: 9 rows\n");
	log_progress_end();
	fclose(stream);
}

Test(log, progress_is_drawn_on_a_terminal_alone)
{
	int ends[2], master, slave;
	const char *all;
	FILE *stream = to_pipe(ends);

	log_progress(5, 10, 1);
	log_progress_end();
	cr_expect_str_eq(heard(ends[0]), "");
	fclose(stream);

	if (openpty(&master, &slave, NULL, NULL, NULL) != 0)
		cr_skip_test("no pseudoterminal can be opened here; is devpts mounted on /dev/pts?");
	fcntl(master, F_SETFL, O_NONBLOCK);
	stream = fdopen(slave, "w");
	log_open(stream, "test", LOG_INFO);
	log_progress(5, 10, 1);
	all = heard(master);
	cr_expect_not_null(strstr(all, "\r\033[Kloading: 5 of 10 rows (50%)"), "%s", all);
	log_event(LOG_INFO, "x", "a line");
	/* The line is wiped before another is written over it. */
	cr_expect_not_null(strstr(heard(master), "\r\033[Kshmetad: a line"));
	fclose(stream);
	close(master);
}

Test(log, the_journal_is_recognised_by_its_inode_alone)
{
	char named[64];
	struct stat st;
	int ends[2];
	FILE *stream;

	/* A variable that was inherited but names another stream. */
	setenv("JOURNAL_STREAM", "1:2", 1);
	stream = to_pipe(ends);
	log_event(LOG_ERR, "x", "to the pipe");
	cr_expect_eq(count(heard(ends[0]), "to the pipe"), 1);
	cr_assert_eq(fstat(ends[1], &st), 0);
	snprintf(named, sizeof(named), "%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
	setenv("JOURNAL_STREAM", named, 1);
	log_open(stream, "test", LOG_INFO);
	log_event(LOG_ERR, "x", "to the journal");
	cr_expect_eq(count(heard(ends[0]), "to the journal"), 0);
	fclose(stream);
}

/* Whatever comes until nothing has come for half a second. */
static char *all_heard(int fd)
{
	static char buffer[8 << 20];
	size_t used = 0;
	ssize_t got;

	while (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 500) > 0 &&
	       (got = read(fd, buffer + used, sizeof(buffer) - 1 - used)) > 0)
		used += (size_t)got;
	buffer[used] = '\0';
	return buffer;
}

Test(log, that_nobody_reads_holds_up_nobody_and_what_is_lost_is_counted, .timeout = 60)
{
	enum { LINES = 20000, AUDIT = 2000 };
	unsigned long lost = 0, lines, of_audit;
	const char *all;
	FILE *stream;
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	stream = fdopen(ends[1], "w");
	log_open(stream, "test", LOG_INFO);
	cr_assert(log_start());
	for (int i = 0; i < LINES; i++) {
		log_unlimited(LOG_INFO, "x", "an ordinary line");
		if (i % (LINES / AUDIT) == 0)
			log_audit("a line that is on record");
	}
	cr_expect_gt(log_lost(), 0);
	all = all_heard(ends[0]);
	cr_expect_eq(count(all, "on record"), AUDIT, "the audit has a bound of its own");
	for (const char *told = all; (told = strstr(told, "<3>log_lost: ")) != NULL; told++) {
		cr_expect_eq(sscanf(told, "<3>log_lost: %lu lines of the log were lost, %lu of them of the audit",
		                    &lines, &of_audit),
		             2);
		cr_expect_eq(of_audit, 0);
		lost += lines;
	}
	cr_expect_eq(lost, log_lost());
	cr_expect_eq(count(all, "an ordinary line") + lost, LINES, "each is there, or counted");
	log_unlimited(LOG_INFO, "x", "the last one");
	log_stop(20000);
	cr_expect_str_eq(all_heard(ends[0]), "<6>x: the last one\n");
	/* At the end it is not waited for, either. */
	cr_assert(log_start());
	for (int i = 0; i < LINES; i++)
		log_unlimited(LOG_INFO, "x", "an ordinary line");
	log_stop(1000);
}

static char listened[1000];

static void listen_to(void *arg, int priority, const char *event, const char *line)
{
	(void)arg;
	(void)priority;
	snprintf(listened + strlen(listened), sizeof(listened) - strlen(listened), "%s: %s\n", event, line);
}

/* What a full file system does, a limit on the length of files does. */
Test(log, a_file_that_cannot_be_written_is_told_as_that_and_cuts_no_line_into_another)
{
	struct rlimit limit = {.rlim_cur = 30, .rlim_max = RLIM_INFINITY};
	char all[1000] = "";
	FILE *stream = tmpfile();

	cr_assert_not_null(stream);
	(void)signal(SIGXFSZ, SIG_IGN);
	log_open(stream, "test", LOG_INFO);
	log_listen(listen_to, NULL);
	cr_assert(log_start());
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_unlimited(LOG_INFO, "x", "the first line");
	log_unlimited(LOG_INFO, "x", "the second line");
	log_audit("the third line");
	while (log_lost() < 2)
		(void)sched_yield();
	cr_expect_str_eq(listened, "x: the first line\nx: the second line\naudit: the third line\n"
	                           "log_lost: lines of the log are being lost: standard error cannot be written: File "
	                           "too large\n");
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_unlimited(LOG_INFO, "x", "the fourth line");
	log_stop(20000);
	log_listen(NULL, NULL);
	cr_assert_gt(pread(fileno(stream), all, sizeof(all) - 1, 0), 0);
	cr_expect_str_eq(all, "<6>x: the first line\n<6>x: the\n<6>x: the fourth line\n"
	                      "<3>log_lost: 2 lines of the log were lost, 1 of them of the audit: standard error could "
	                      "not be written: File too large\n");
	fclose(stream);
}
