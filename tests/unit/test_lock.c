/* SPDX-License-Identifier: Apache-2.0
 * writer.lock: nobody but a writer can hold it, and who holds it is named. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"
#include "writer/daemon/lock.h"

TestSuite(lock, .timeout = 60);

enum { NOBODY = 65534 };

static char dir[SCRATCH_PATH_MAX];
static int dir_fd;

static void begin(void)
{
	cr_assert(scratch_dir("lock", dir));
	cr_assert_eq(chmod(dir, 0755), 0);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dir_fd, 0);
}

static void end(void)
{
	(void)unlinkat(dir_fd, "writer.lock", 0);
	(void)close(dir_fd);
	cr_expect_eq(rmdir(dir), 0, "more than writer.lock was left in %s", dir);
}

static void only_root(void)
{
	if (geteuid() == 0)
		return;
	end(); /* a skipped test has no .fini */
	cr_skip_test("needs root to be somebody else");
}

static struct shmeta_err err;

static enum shmeta_status take(int *ret_fd)
{
	return lock_take(dir_fd, dir, ret_fd, &err);
}

static mode_t mode(void)
{
	struct stat st;

	cr_assert_eq(fstatat(dir_fd, "writer.lock", &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

/* A file as a former version left it. */
static void leave_open_to_others(void)
{
	int fd = openat(dir_fd, "writer.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	cr_assert_geq(fd, 0);
	cr_assert_eq(fchmod(fd, 0644), 0);
	cr_assert_eq(write(fd, "1\n", 2), 2);
	(void)close(fd);
}

/* A process that does something, says so, and stays until it is ended. */
struct other {
	pid_t pid;
	int said;
};

static void say(int to, char what)
{
	if (write(to, &what, 1) != 1)
		_exit(1);
	for (;;)
		(void)pause();
}

static char heard(const struct other *other)
{
	char what = 0;

	return read(other->said, &what, 1) == 1 ? what : 0;
}

static void end_other(struct other *other)
{
	(void)kill(other->pid, SIGKILL);
	(void)run_reap(other->pid);
	(void)close(other->said);
}

/* In a child that is `user`: open the file for reading and lock it. heir: the process that did it
 * ends, and its child keeps it. */
static struct other hold(uid_t user, bool heir)
{
	struct other other;
	int pipe_fds[2];

	cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	other.said = pipe_fds[0];
	other.pid = run_fork();
	if (other.pid == 0) {
		int fd;
		pid_t first;

		if (user != 0 && setresuid(user, user, user) < 0)
			_exit(1);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* setresuid() has taken it back */
		fd = open(dir, O_RDONLY | O_DIRECTORY);
		fd = openat(fd, "writer.lock", O_RDONLY);
		first = heir ? fork() : 0;
		if (first == 0 && (fd < 0 || flock(fd, LOCK_EX) < 0))
			_exit(1);
		if (first == 0 && heir)
			_exit(0);
		if (heir && run_reap(first) != 0)
			_exit(1);
		say(pipe_fds[1], 'h');
	}
	(void)close(pipe_fds[1]);
	return other;
}

/* A writer. */
static struct other write_on(void)
{
	struct other other;
	int pipe_fds[2], fd;

	cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	other.said = pipe_fds[0];
	other.pid = run_fork();
	if (other.pid == 0) {
		enum shmeta_status status = take(&fd);

		say(pipe_fds[1], status == SHMETA_OK ? 'w' : status == SHMETA_ERR_BUSY ? 'b' : 'e');
	}
	(void)close(pipe_fds[1]);
	return other;
}

/* Locks and unlocks many files again and again, until it is ended. */
static struct other lock_others(void)
{
	struct other other = {.pid = run_fork(), .said = -1};
	enum { FILES = 200 };
	int fd[FILES];

	if (other.pid != 0)
		return other;
	for (int i = 0; i < FILES; i++)
		fd[i] = memfd_create("other", MFD_CLOEXEC);
	for (int n = 0;; n++)
		(void)flock(fd[n % FILES], n / FILES % 2 == 0 ? LOCK_EX : LOCK_UN);
}

/* The kernel's list of locks passes over some while others come and go. */
Test(lock, who_holds_it_is_named_while_others_lock_and_unlock, .init = begin, .fini = end)
{
	struct other others[] = {lock_others(), lock_others()};
	char holder[32];
	int fd, second;

	cr_assert_eq(take(&fd), SHMETA_OK);
	snprintf(holder, sizeof holder, "process %d ", (int)getpid());
	for (int i = 0; i < 2000; i++) {
		cr_assert_eq(take(&second), SHMETA_ERR_BUSY);
		cr_assert_not_null(strstr(err.text, holder), "try %d: %s", i, err.text);
	}
	(void)close(fd);
	for (size_t i = 0; i < 2; i++)
		end_other(&others[i]);
}

Test(lock, a_second_writer_is_told_who_the_first_is_whatever_the_file_says, .init = begin, .fini = end)
{
	struct other first = write_on();
	char named[64];
	int fd;

	cr_assert_eq(heard(&first), 'w');
	cr_expect_eq(mode(), 0600);
	fd = openat(dir_fd, "writer.lock", O_WRONLY | O_CLOEXEC);
	cr_assert_eq(write(fd, "1\n", 2), 2);
	(void)close(fd);
	cr_expect_eq(take(&fd), SHMETA_ERR_BUSY);
	(void)snprintf(named, sizeof named, "process %d ('", (int)first.pid);
	cr_expect_not_null(strstr(err.text, "another writer runs on "), "%s", err.text);
	cr_expect_not_null(strstr(err.text, named), "%s", err.text);
	end_other(&first);
	cr_assert_eq(take(&fd), SHMETA_OK, "%s", err.text);
	(void)close(fd);
}

Test(lock, the_mode_is_set_whatever_the_umask_and_the_file_left, .init = begin, .fini = end)
{
	int fd;

	(void)umask(0777);
	cr_assert_eq(take(&fd), SHMETA_OK, "%s", err.text);
	cr_expect_eq(mode(), 0600);
	(void)close(fd);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(fchmodat(dir_fd, "writer.lock", i == 0 ? 0666 : 0700, 0), 0);
		cr_assert_eq(take(&fd), SHMETA_OK, "%s", err.text);
		cr_expect_eq(mode(), 0600, "%04o", (unsigned)mode());
		(void)close(fd);
	}
}

Test(lock, another_user_who_holds_the_file_of_a_former_version_holds_nothing, .init = begin, .fini = end)
{
	for (int heir = 0; heir < 2; heir++) {
		struct other holder, late;
		int fd, again;

		only_root();
		leave_open_to_others();
		holder = hold(NOBODY, heir);
		cr_assert_eq(heard(&holder), 'h');
		cr_assert_eq(take(&fd), SHMETA_OK, "%s", err.text);
		cr_expect_eq(mode(), 0600);
		/* And the new one cannot be had. */
		late = hold(NOBODY, false);
		cr_expect_eq(heard(&late), 0);
		end_other(&late);
		end_other(&holder);
		cr_expect_eq(take(&again), SHMETA_ERR_BUSY);
		(void)close(fd);
	}
}

/* The writer that is upgraded runs still, and somebody waits for its end. */
Test(lock, a_writer_of_a_former_version_is_respected_until_it_ends, .init = begin, .fini = end)
{
	struct other former, waiting;
	char named[64];
	int fd;

	only_root();
	leave_open_to_others();
	former = hold(0, false);
	cr_assert_eq(heard(&former), 'h');
	waiting = hold(NOBODY, false);
	cr_expect_eq(take(&fd), SHMETA_ERR_BUSY);
	(void)snprintf(named, sizeof named, "process %d ('", (int)former.pid);
	cr_expect_not_null(strstr(err.text, named), "%s", err.text);
	end_other(&former);
	cr_assert_eq(heard(&waiting), 'h', "the lock went to the one who waited for it");
	cr_expect_eq(take(&fd), SHMETA_OK, "%s", err.text);
	(void)close(fd);
	end_other(&waiting);
}

Test(lock, what_a_writer_that_ended_has_left_running_is_told, .init = begin, .fini = end)
{
	struct other heir;
	int fd;

	cr_assert_eq(take(&fd), SHMETA_OK, "%s", err.text);
	(void)close(fd);
	heir = hold(0, true);
	cr_assert_eq(heard(&heir), 'h');
	cr_expect_eq(take(&fd), SHMETA_ERR_BUSY);
	cr_expect_not_null(strstr(err.text, "has ended, but one that it started still holds it"), "%s", err.text);
	end_other(&heir);
}

Test(lock, of_writers_that_start_together_one_gets_it, .init = begin, .fini = end)
{
	enum { ROUNDS = 30, WRITERS = 8 };

	for (int round = 0; round < ROUNDS; round++) {
		struct other writer[WRITERS], holder = {.pid = 0};
		int wrote = 0, busy = 0;

		/* As well where they find a file that is to be replaced. */
		leave_open_to_others();
		if (geteuid() == 0) {
			holder = hold(NOBODY, false);
			cr_assert_eq(heard(&holder), 'h');
		}
		for (int i = 0; i < WRITERS; i++)
			writer[i] = write_on();
		for (int i = 0; i < WRITERS; i++) {
			char said = heard(&writer[i]);

			wrote += said == 'w';
			busy += said == 'b';
		}
		cr_expect_eq(wrote, 1, "round %d: %d writers", round, wrote);
		cr_expect_eq(busy, WRITERS - 1, "round %d", round);
		for (int i = 0; i < WRITERS; i++)
			end_other(&writer[i]);
		if (holder.pid != 0)
			end_other(&holder);
	}
}
