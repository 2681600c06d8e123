/* SPDX-License-Identifier: Apache-2.0
 * Every file of an instance directory: its mode, and its group. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"

TestSuite(instance_files, .timeout = 120);

enum { NOBODY = 65534 };

/* docs/LAYOUT.md has the same. */
static const struct row {
	const char *name; /* a pattern; a file that matches none is a failure */
	mode_t mode;
	bool for_readers; /* of the directory's group */
} rows[] = {
	{"", 02750, true},
	{"/board", 0640, true},
	{"/stats", 0640, true},
	{"/control.sock", 0660, false}, /* its group is control.group's */
	{"/writer.lock", 0600, false},
	{"/last_start", 0640, true},
	{"/store.*/generation", 0640, true},
	{"/store.*/journal", 0640, true},
	{"/store.*/data.mdb", 0640, true},
	{"/store.*/lock.mdb", 0600, false},
	{"/store.*", 02750, true},
	{"/activity", 0640, true},
	{"/usage", 0640, true},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static struct run_daemon d;
static unsigned int seen[ROWS];

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	(void)umask(0077);
}

static void end(void)
{
	run_daemon_done(&d);
}

static const struct row *row_of(const char *path)
{
	for (size_t i = 0; i < ROWS; i++)
		if (fnmatch(rows[i].name, path + strlen(d.instance), FNM_PATHNAME) == 0) {
			seen[i]++;
			return &rows[i];
		}
	return NULL;
}

static int judge(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	const struct row *row = row_of(path);

	(void)kind;
	(void)at;
	if (row == NULL) {
		cr_expect_fail("%s has no row in the table", path);
		return 0;
	}
	cr_expect_eq(st->st_mode & 07777, row->mode, "%s has mode %04o, not %04o", path, (unsigned)st->st_mode & 07777,
	             (unsigned)row->mode);
	if (row->for_readers && geteuid() == 0)
		cr_expect_eq(st->st_gid, NOBODY, "%s belongs to group %u", path, (unsigned)st->st_gid);
	return 0;
}

static void judge_all(void)
{
	memset(seen, 0, sizeof seen);
	cr_assert_eq(nftw(d.instance, judge, 8, FTW_PHYS), 0);
}

static int loosen(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)at;
	return kind == FTW_F && strstr(path, "/store.") == NULL ? chmod(path, 0666) : 0;
}

/* The directory as the unit makes it: of the group that may read. */
static void give_directory(void)
{
	cr_assert(geteuid() != 0 || chown(d.instance, (uid_t)-1, NOBODY) == 0);
	cr_assert_eq(chmod(d.instance, 02750), 0);
}

Test(instance_files, each_has_the_mode_that_keeps_agents_out_whatever_was_there, .init = begin, .fini = end)
{
	give_directory();
	cr_assert_neq(run_daemon_start(&d, "nonsense:"), 0, "a start that fails, and leaves the reason");
	(void)run_daemon_end(&d, SIGKILL);
	judge_all();
	cr_expect_eq(seen[5], 1, "there is no last_start");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	judge_all();
	for (size_t i = 0; i < ROWS; i++)
		cr_expect(seen[i] > 0 || i == 5, "there is no %s", rows[i].name);
	/* What a former version, or somebody, left open is closed by the next start. */
	cr_assert_eq(run_daemon_end(&d, SIGKILL), SIGKILL + 128);
	cr_assert_eq(nftw(d.instance, loosen, 8, FTW_PHYS), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	judge_all();
	/* Another store, too. */
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_start(&d, "memory:?topics=3"), 0);
	judge_all();
}

/* An agent waits for the lock while the writer is killed and started again. */
Test(instance_files, an_agent_cannot_hold_off_the_next_writer, .init = begin, .fini = end)
{
	pid_t agent;

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	give_directory();
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	agent = run_fork();
	if (agent == 0) {
		char path[128];

		(void)snprintf(path, sizeof path, "%s/board", d.instance);
		if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0 ||
		    access(path, R_OK) != 0)
			_exit(2);
		(void)snprintf(path, sizeof path, "%s/writer.lock", d.instance);
		_exit(open(path, O_RDONLY | O_CLOEXEC) < 0 ? 0 : 1);
	}
	cr_expect_eq(run_reap(agent), 0, "1: who may read can open the lock; 2: it could not try");
	cr_assert_eq(run_daemon_end(&d, SIGKILL), SIGKILL + 128);
	cr_expect_eq(run_daemon_start(&d, NULL), 0);
}
