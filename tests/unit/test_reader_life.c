/* SPDX-License-Identifier: Apache-2.0
 * A reader's life: opening, registering, snapshots from commit to commit, and what the writer may
 * do to it meanwhile. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;

enum { ROWS = 8000, WIDTH = 10 };

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, topic, 0, ROWS, WIDTH);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

/* Handles are their owner's, also after the reader is gone. */
static struct shmeta_handle *kept_handles[64];
static size_t kept_count;

static struct shmeta_handle *keep(struct shmeta_handle *h)
{
	cr_assert_lt(kept_count, sizeof kept_handles / sizeof *kept_handles);
	return kept_handles[kept_count++] = h;
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
	for (size_t i = 0; i < kept_count; i++)
		shmeta_partition_close(kept_handles[i]);
}

TestSuite(reader_life, .init = set_up, .fini = tear_down, .timeout = 30);
TestSuite(reader_open, .timeout = 30);

static void begin(void)
{
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

static void end(void)
{
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static struct shmeta_snapshot_info info(void)
{
	struct shmeta_snapshot_info i;

	cr_assert_eq(shmeta_snapshot_info(reader, &i), SHMETA_OK);
	return i;
}

static struct shmeta_handle *open_partition(uint32_t partition)
{
	struct shmeta_handle *h = NULL;

	cr_assert_eq(shmeta_partition_open(reader, "t", 1, partition, &h), SHMETA_OK);
	return keep(h);
}

static void empty_commit(void)
{
	fake_begin(w);
	fake_group(w, NULL, "elsewhere");
	(void)fake_commit(w);
}

/* Run in a child; its exit status. */
static int in_child(int (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(body());
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- opening ---- */

static enum shmeta_status try_open(const char *dir, char *error, size_t bytes)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = dir, .error = error, .error_bytes = bytes};
	struct shmeta *opened = NULL;
	enum shmeta_status status;

	error[0] = 0;
	status = shmeta_open(&o, &opened);
	shmeta_close(opened);
	return status;
}

Test(reader_open, a_directory_without_an_instance_is_not_running_and_the_sentence_says_where)
{
	struct fake_writer *f = fake_writer_unpublished();
	char error[512], path[128];

	(void)snprintf(path, sizeof path, "%s/nothing", f->dir);
	cr_assert_eq(try_open(path, error, sizeof error), SHMETA_ERR_NOT_RUNNING);
	cr_assert_neq(strstr(error, path), NULL, "%s", error);
	cr_assert_neq(strstr(error, "shmetad"), NULL, "%s", error);
	cr_assert_eq(mkdir(path, 0750), 0);
	cr_assert_eq(try_open(path, error, sizeof error), SHMETA_ERR_NOT_RUNNING);
	cr_assert_neq(strstr(error, path), NULL, "%s", error);
	(void)snprintf(path, sizeof path, "%s/board", f->dir);
	cr_assert_eq(try_open(path, error, sizeof error), SHMETA_ERR_NOT_RUNNING, "a file is no directory");
	fake_writer_free(f);
}

/* In a child, whose limit is its own. Under AddressSanitizer its own mappings would fail first. */
#ifndef __SANITIZE_ADDRESS__
Test(reader_open, an_address_space_without_room_for_the_store_is_no_memory_and_opens_once_there_is_room, .init = set_up,
     .fini = tear_down)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit none = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY}, all = {RLIM_INFINITY, RLIM_INFINITY};
		struct shmeta_options options = {.size = sizeof options, .directory = w->dir};
		struct shmeta *mine = NULL;

		if (setrlimit(RLIMIT_AS, &none) != 0)
			_exit(1);
		if (shmeta_open(&options, &mine) != SHMETA_ERR_NO_MEMORY || mine != NULL)
			_exit(2);
		if (setrlimit(RLIMIT_AS, &all) != 0)
			_exit(3);
		_exit(shmeta_open(&options, &mine) == SHMETA_OK ? 0 : 4);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d failed", WEXITSTATUS(status));
}
#endif

Test(reader_open, an_instance_that_published_nothing_opens_and_answers_unknown)
{
	struct fake_writer *f = fake_writer_unpublished();
	struct shmeta *opened = fake_open(f, NULL, 0, 0);
	struct shmeta_reader *r = fake_reader(opened);
	struct shmeta_state state = {.size = sizeof state};
	uint64_t txn;

	cr_assert_neq(r, NULL);
	cr_assert_eq(shmeta_begin(r), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_end(r), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_get_state(opened, &state), SHMETA_OK);
	cr_assert_eq(state.generation, 0);
	cr_assert_eq(state.class_age_ns[0], UINT64_MAX);
	cr_assert_eq(shmeta_changed_txn(opened, SHMETA_CLASS_TOPIC, &txn), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_wait_commit(opened, 0, 20, &txn), SHMETA_ERR_TIMEOUT);
	shmeta_reader_free(r);
	shmeta_close(opened);
	fake_writer_free(f);
}

Test(reader_open, options_that_cannot_be_are_refused_with_a_sentence)
{
	struct fake_writer *f = fake_writer_new();
	char error[512], long_path[5000];
	const struct shmeta_options good = {
		.size = sizeof good, .directory = f->dir, .error = error, .error_bytes = sizeof error};
	struct shmeta_options o;
	struct shmeta *opened = NULL;

	memset(long_path, 'x', sizeof long_path);
	long_path[sizeof long_path - 1] = 0;
	for (int i = 0; i < 7; i++) {
		o = good;
		error[0] = 0;
		switch (i) {
		case 0:
			o.flags = 1u << 31;
			break;
		case 1:
			o.threads = 1025;
			break;
		case 2:
			o.directory = "";
			break;
		case 3:
			o.instance = "a/b";
			break;
		case 4:
			o.instance = "..";
			break;
		case 5:
			o.instance = "";
			break;
		case 6:
			o.directory = long_path;
			break;
		}
		cr_assert_eq(shmeta_open(&o, &opened), SHMETA_ERR_INVALID_ARGUMENT, "case %d", i);
		cr_assert_neq(strstr(error, "options: "), NULL, "case %d: %s", i, error);
	}
	o = good;
	o.size = 8;
	cr_assert_eq(shmeta_open(&o, &opened), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_open(&good, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(opened, NULL, "nothing is written on failure");
	fake_writer_free(f);
}

Test(reader_open, a_board_that_is_none_or_of_another_version_is_refused)
{
	struct fake_writer *f = fake_writer_new();
	char error[512];

	f->board->signature[0] = 'X';
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_CORRUPT);
	f->board->signature[0] = 'S';
	f->board->incompat |= 1u << 30;
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_VERSION);
	cr_assert_neq(strstr(error, shmeta_version()), NULL, "both versions: %s", error);
	f->board->incompat &= ~(1u << 30);
	f->board->compat |= 1u << 30;
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_OK, "%s", error);
	f->gen->incompat |= 1u << 30;
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_VERSION);
	f->gen->incompat &= ~(1u << 30);
	f->gen->generation = 7;
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_CORRUPT);
	f->gen->generation = 1;
	fake_writer_free(f);
}

Test(reader_open, a_store_of_an_lmdb_that_lays_out_files_otherwise_is_refused_with_both_layouts)
{
	struct fake_writer *f = fake_writer_new();
	/* bytes from a meta page's begin: behind its header and magic */
	const uint32_t other = 2, whose = 20;
	char path[160], error[512];
	int fd;

	(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", f->dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	for (off_t page = 0; page < 2; page++)
		cr_assert_eq(pwrite(fd, &other, sizeof other, page * SHMETA_PAGE + whose), (ssize_t)sizeof other);
	(void)close(fd);
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_VERSION, "%s", error);
	cr_assert_neq(strstr(error, "layout 2 of LMDB"), NULL, "%s", error);
	cr_assert_neq(strstr(error, "reads layout 1"), NULL, "%s", error);
	fake_writer_free(f);
}

Test(reader_open, a_store_of_another_format_is_refused_with_both_versions)
{
	struct fake_writer *f = fake_writer_new();
	struct shmeta_store_format format = *shmeta__store_format(f->store);
	char error[512];

	format.format = 99;
	fake_begin(f);
	fake_raw(f, SHMETA_DB_META, SHMETA_META_FORMAT, strlen(SHMETA_META_FORMAT), &format, sizeof format);
	(void)fake_commit(f);
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_VERSION);
	cr_assert_neq(strstr(error, "99"), NULL, "%s", error);
	fake_writer_free(f);
}

Test(reader_open, a_database_without_its_sentinel_is_broken_not_empty)
{
	struct fake_writer *f = fake_writer_new();
	struct shmeta_err err;
	char error[512];

	fake_begin(f);
	cr_assert_eq(shmeta__delete(f->txn, SHMETA_DB_AGENTS, SHMETA_SENTINEL_KEY, SHMETA_SENTINEL_BYTES, &err),
	             SHMETA_OK);
	(void)fake_commit(f);
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_CORRUPT);
	cr_assert_neq(strstr(error, "agents"), NULL, "%s", error);
	fake_writer_free(f);
}

Test(reader_open, files_that_others_can_write_are_not_believed)
{
	struct fake_writer *f = fake_writer_new();
	char error[512], path[128];
	static const char *const names[] = {"board", "store.1/generation", "store.1/data.mdb"};

	cr_assert_eq(chmod(f->dir, 0777), 0);
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_PERMISSION);
	cr_assert_neq(strstr(error, "0777"), NULL, "%s", error);
	cr_assert_eq(chmod(f->dir, 0750), 0);
	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
		cr_assert_eq(chmod(path, 0660), 0);
		cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_PERMISSION, "%s", names[i]);
		cr_assert_neq(strstr(error, "0660"), NULL, "%s", error);
		cr_assert_eq(chmod(path, 0640), 0);
	}
	if (getuid() == 0) {
		(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", f->dir);
		cr_assert_eq(chown(path, 12345, 0), 0);
		cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_PERMISSION);
		cr_assert_neq(strstr(error, "12345"), NULL, "%s", error);
		cr_assert_eq(chown(path, 0, 0), 0);
		(void)snprintf(path, sizeof path, "%s/board", f->dir);
		cr_assert_eq(chown(path, 12345, 0), 0);
		cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_PERMISSION);
		cr_assert_eq(chown(path, 0, 0), 0);
	}
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_OK, "%s", error);
	fake_writer_free(f);
}

/* Give the files of a directory, and it, to a user. */
static void give_all(const char *dir, uid_t uid)
{
	static const char *const names[] = {
		"", "/board", "/control.sock", "/store.1", "/store.1/generation", "/store.1/data.mdb"};
	char path[128];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		(void)snprintf(path, sizeof path, "%s%s", dir, names[i]);
		cr_assert(chown(path, uid, 0) == 0 || errno == ENOENT, "%s", path);
	}
}

Test(reader_open, directory_files_and_peer_have_one_owner)
{
	static const char *const names[] = {"board", "store.1/generation", "store.1/data.mdb"};
	char error[512], path[128];
	struct fake_writer *f;
	struct shmeta *opened;

	if (getuid() != 0)
		cr_skip_test("needs root, to give files away");
	f = fake_writer_new();
	/* A directory of a user: whole, it is as good as root's; one file of root's or of a third
	 * one in it is not. */
	give_all(f->dir, 12345);
	cr_assert_eq(try_open(f->dir, error, sizeof error), SHMETA_OK, "%s", error);
	for (size_t i = 0; i < 3; i++)
		for (uid_t uid = 0; uid <= 23456; uid += 23456) {
			(void)snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
			cr_assert_eq(chown(path, uid, 0), 0);
			cr_expect_eq(try_open(f->dir, error, sizeof error), SHMETA_ERR_PERMISSION, "%s of %u", names[i],
			             uid);
			(void)snprintf(path, sizeof path, "belongs to user %u", uid);
			cr_expect_not_null(strstr(error, path), "%s", error);
			(void)snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
			cr_assert_eq(chown(path, 12345, 0), 0);
		}
	/* A group that may write can put nothing of its own there that is believed: no files, and
	 * no socket. */
	const struct shmeta_options o = {.size = sizeof o, .directory = f->dir};

	cr_assert_eq(chmod(f->dir, 02770), 0);
	for (uid_t uid = 0; uid <= 23456;
	     uid += 23456) { /* root answers everywhere, as a service manager's sockets do */
		fake_unserve(f);
		cr_assert_eq(seteuid(uid), 0);
		fake_serve(f);
		cr_assert_eq(seteuid(0), 0);
		cr_assert_eq(shmeta_open(&o, &opened), SHMETA_OK);
		cr_expect_eq(shmeta_refresh(opened, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL),
		             uid == 0 ? SHMETA_OK : SHMETA_ERR_DENIED);
		if (uid != 0) {
			(void)shmeta_last_error(opened, error, sizeof error);
			cr_expect_not_null(strstr(error, "belongs to user 23456"), "%s", error);
		}
		shmeta_close(opened);
	}
	give_all(f->dir, 0);
	fake_writer_free(f);
}

Test(reader_open, a_link_to_the_directory_is_its_owners_or_ours_or_roots)
{
	struct fake_writer *f;
	char error[512], link[128], slashes[136];

	if (getuid() != 0)
		cr_skip_test("needs root, to give files away");
	f = fake_writer_new();
	(void)snprintf(link, sizeof link, "%s.link", f->dir);
	(void)snprintf(slashes, sizeof slashes, "%s//", link);
	cr_assert_eq(symlink(f->dir, link), 0);
	cr_expect_eq(try_open(link, error, sizeof error), SHMETA_OK, "%s", error);
	cr_assert_eq(lchown(link, 12345, 0), 0);
	cr_expect_eq(try_open(link, error, sizeof error), SHMETA_ERR_PERMISSION);
	cr_expect_not_null(strstr(error, "symbolic link of user 12345 to a directory of user 0"), "%s", error);
	cr_expect_eq(try_open(slashes, error, sizeof error), SHMETA_ERR_PERMISSION);
	give_all(f->dir, 12345);
	cr_expect_eq(try_open(link, error, sizeof error), SHMETA_OK, "%s", error);
	give_all(f->dir, 0);
	cr_assert_eq(unlink(link), 0);
	fake_writer_free(f);
}

static struct fake_writer *denied;

static int open_as_nobody(void)
{
	char error[512];

	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 77;
	if (try_open(denied->dir, error, sizeof error) != SHMETA_ERR_PERMISSION)
		return 1;
	/* The file, its mode and group, and what to do. */
	if (strstr(error, denied->dir) == NULL || strstr(error, "mode ") == NULL || strstr(error, "group root") == NULL)
		return 2;
	return strstr(error, "usermod -aG shmeta-read") != NULL ? 0 : 3;
}

Test(reader_open, a_user_without_the_group_is_told_which_and_how_to_join_it)
{
	char path[128];

	if (getuid() != 0)
		cr_skip_test("needs root, to become nobody");
	denied = fake_writer_new();
	cr_assert_eq(chmod(denied->dir, 0700), 0);
	cr_assert_eq(in_child(open_as_nobody), 0, "the directory is closed");
	cr_assert_eq(chmod(denied->dir, 0755), 0);
	cr_assert_eq(in_child(open_as_nobody), 0, "the board is closed");
	(void)snprintf(path, sizeof path, "%s/board", denied->dir);
	cr_assert_eq(chmod(path, 0644), 0);
	cr_assert_eq(in_child(open_as_nobody), 0, "the store's directory is closed");
	fake_writer_free(denied);
}

static int read_as_nobody(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = denied->dir};
	struct shmeta_snapshot_info i = {0};
	struct shmeta_reader *r;
	struct shmeta *opened;

	if (setgid(65534) != 0 || setuid(65534) != 0)
		return 77;
	if (shmeta_open(&o, &opened) != SHMETA_OK || shmeta_reader_new(opened, &r) != SHMETA_OK)
		return 1;
	if (shmeta_begin(r) != SHMETA_OK || shmeta_snapshot_info(r, &i) != SHMETA_OK || i.registered)
		return 2;
	if (shmeta_end(r) != SHMETA_OK)
		return 3;
	if (shmeta_refresh(opened, SHMETA_CLASS_LIST, NULL, 0, 0, 100, NULL) != SHMETA_ERR_DENIED)
		return 4;
	shmeta_reader_free(r);
	shmeta_close(opened);
	return 0;
}

Test(reader_open, who_may_read_but_not_connect_reads_by_grace_rules)
{
	static const char *const names[] = {"store.1", "board", "store.1/generation", "store.1/data.mdb"};
	char path[128];

	if (getuid() != 0)
		cr_skip_test("needs root, to become nobody");
	denied = fake_writer_new();
	cr_assert_eq(chmod(denied->dir, 0755), 0);
	for (size_t i = 0; i < 4; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", denied->dir, names[i]);
		cr_assert_eq(chmod(path, i == 0 ? 0755 : 0644), 0);
	}
	(void)snprintf(path, sizeof path, "%s/control.sock", denied->dir);
	cr_assert_eq(chmod(path, 0600), 0);
	cr_assert_eq(in_child(read_as_nobody), 0);
	fake_writer_free(denied);
}

static size_t mappings_of(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	size_t n = 0;

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		n += strstr(line, name) != NULL;
	if (f != NULL)
		(void)fclose(f);
	return n;
}

Test(reader_life, two_opens_share_one_mapping_and_one_registration)
{
	char path[128], other[128];
	const struct shmeta_options o = {.size = sizeof o, .directory = other};
	struct shmeta *second;
	struct shmeta_reader *r;

	(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", w->dir);
	(void)snprintf(other, sizeof other, "%s/../%s/.", w->dir, strrchr(w->dir, '/') + 1);
	cr_assert_eq(fake_wait_registered(w, 1), 0);
	begin();
	cr_assert_eq(mappings_of(path), 2, "the test's writer and the reader");
	cr_assert_eq(shmeta_open(&o, &second), SHMETA_OK);
	r = fake_reader(second);
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	cr_assert_eq(mappings_of(path), 2);
	/* The second wanted as many slots again: one page that has room for both. */
	cr_assert_eq(fake_until_registered(reader, 1) == 0 || 1, 1);
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	end();
	shmeta_close(instance);
	instance = NULL;
	begin(); /* its reader keeps what it needs */
	end();
	shmeta_reader_free(reader);
	reader = NULL;
	cr_assert_eq(fake_wait_registered(w, 1), 0, "the first page is gone with its last reader");
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	shmeta_reader_free(r);
	shmeta_close(second);
	cr_assert_eq(fake_wait_registered(w, 0), 0);
	cr_assert_eq(mappings_of(path), 1);
}

Test(reader_life, no_more_readers_than_were_asked_for)
{
	struct shmeta *small = fake_open(w, NULL, 0, 2);
	struct shmeta_reader *r[3] = {0};
	char sentence[256];

	cr_assert_eq(shmeta_reader_new(small, &r[0]), SHMETA_OK);
	cr_assert_eq(shmeta_reader_new(small, &r[1]), SHMETA_OK);
	cr_assert_eq(shmeta_reader_new(small, &r[2]), SHMETA_ERR_BUSY);
	cr_assert_neq(strstr(shmeta_last_error(small, sentence, sizeof sentence), "2"), NULL, "%s", sentence);
	shmeta_reader_free(r[0]);
	cr_assert_eq(shmeta_reader_new(small, &r[2]), SHMETA_OK);
	shmeta_reader_free(r[1]);
	shmeta_reader_free(r[2]);
	shmeta_close(small);
}

/* ---- snapshots ---- */

Test(reader_life, begin_and_end_belong_together)
{
	struct shmeta_snapshot_info i;

	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_snapshot_info(reader, &i), SHMETA_ERR_NO_SNAPSHOT);
	begin();
	cr_assert_eq(shmeta_begin(reader), SHMETA_ERR_BUSY_SNAPSHOT);
	end();
	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_begin(NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_end(NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_reader_new(NULL, &reader), SHMETA_ERR_INVALID_ARGUMENT);
	shmeta_reader_free(NULL);
	shmeta_close(NULL);
	shmeta_partition_close(NULL);
	shmeta_iter_free(NULL);
}

Test(reader_life, a_snapshot_does_not_change_underfoot_and_the_next_one_is_new)
{
	struct shmeta_handle *h;
	struct shmeta_partition p;
	struct shmeta_topic t;
	uint64_t txn;

	begin();
	h = open_partition(0);
	txn = info().txn;
	cr_assert_eq(info().generation, 1);
	cr_assert_eq(info().epoch, 1);
	for (int i = 1; i <= 50; i++) {
		fake_begin(w);
		fake_even_partition(w, topic, 0, ROWS + (size_t)i, WIDTH);
		if (i == 25)
			fake_delete_topic(w, NULL, "t"), topic = fake_simple_topic(w, "t", 2);
		(void)fake_commit(w);
		cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.segment_count, ROWS);
		cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.segment_count, ROWS);
	}
	cr_assert_eq(info().txn, txn);
	end();
	begin();
	cr_assert_eq(info().txn, txn + 50);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, ROWS + 50);
	cr_assert_eq(p.topic_id, topic);
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_ABSENT, "the handle is of the deleted topic");
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	cr_assert_eq(t.topic_id, topic);
	end();
}

Test(reader_life, the_pin_is_the_snapshots_commit_while_it_is_open)
{
	begin();
	cr_assert_eq(info().registered, 1);
	cr_assert_eq(fake_oldest_pin(w), info().txn);
	cr_assert_eq(fake_slot(w, 0)->generation, 1);
	cr_assert_eq(fake_slot(w, 0)->in_use, 1);
	empty_commit();
	cr_assert_eq(fake_oldest_pin(w), info().txn);
	end();
	cr_assert_eq(fake_oldest_pin(w), UINT64_MAX);
	for (int i = 0; i < 3; i++) { /* the first renews, the others find nothing changed */
		begin();
		cr_assert_eq(fake_oldest_pin(w), info().txn);
		end();
	}
	shmeta_reader_free(reader);
	reader = NULL;
	cr_assert_eq(fake_slot(w, 0)->in_use, 0);
}

Test(reader_life, names_and_handles_hold_across_commits_that_do_not_concern_them)
{
	struct shmeta_handle *h[2];
	struct shmeta_segment s;
	struct shmeta_topic t;
	uint64_t resolves;

	begin();
	h[0] = open_partition(0);
	h[1] = open_partition(1);
	cr_assert_eq(shmeta_find_segment(h[0], 5, NULL, &s, NULL), SHMETA_OK);
	end();
	resolves = fake_slot(w, 0)->counters.resolves;
	for (int i = 0; i < 10; i++) {
		empty_commit();
		begin();
		cr_assert_eq(shmeta_find_segment(h[0], 5, NULL, &s, NULL), SHMETA_OK);
		cr_assert_eq(s.end_offset, 9);
		cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
		end();
	}
	cr_assert_eq(fake_slot(w, 0)->counters.resolves, resolves, "a head on pages of its own is not looked up again");
	fake_begin(w);
	fake_even_partition(w, topic, 0, ROWS, WIDTH * 2);
	(void)fake_commit(w);
	begin();
	cr_assert_eq(shmeta_find_segment(h[0], 5, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(s.end_offset, 19, "what was touched is");
	cr_assert_eq(shmeta_find_segment(h[1], 5, NULL, &s, NULL), SHMETA_ABSENT_AT_END);
	end();
	cr_assert_eq(fake_slot(w, 0)->counters.resolves, resolves + 2);
}

/* Many names, so that every one of them depends on its own touched word. */
Test(reader_life, deleted_topics_are_absent_and_recreated_ones_are_new)
{
	struct shmeta_handle *old[40];
	struct shmeta_partition p;
	struct shmeta_topic t;
	uint32_t id[40];
	char name[8];

	fake_begin(w);
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof name, "n%d", i);
		id[i] = fake_simple_topic(w, name, 1);
	}
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof name, "n%d", i);
		cr_assert_eq(shmeta_partition_open(reader, name, strlen(name), 0, &old[i]), SHMETA_OK);
		(void)keep(old[i]);
	}
	end();
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof name, "n%d", i);
		fake_begin(w);
		fake_delete_topic(w, NULL, name);
		(void)fake_commit(w);
		fake_stamp_all(w);
		begin();
		cr_assert_eq(shmeta_get_topic(reader, name, strlen(name), NULL, &t, NULL), SHMETA_ABSENT);
		cr_assert_eq(shmeta_get_partition_named(reader, name, strlen(name), 0, NULL, &p, NULL), SHMETA_ABSENT);
		cr_assert_eq(shmeta_get_partition(old[i], NULL, &p, NULL), SHMETA_ABSENT);
		end();
		fake_begin(w);
		(void)fake_simple_topic(w, name, 1);
		(void)fake_commit(w);
		begin();
		cr_assert_eq(shmeta_get_partition_named(reader, name, strlen(name), 0, NULL, &p, NULL), SHMETA_OK);
		cr_assert_gt(p.topic_id, id[39]);
		cr_assert_eq(shmeta_get_partition(old[i], NULL, &p, NULL), SHMETA_ABSENT);
		end();
	}
}

Test(reader_life, a_partition_that_appears_is_seen_by_a_reader_that_missed_it)
{
	struct shmeta_partition p;

	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 7, NULL, &p, NULL), SHMETA_ABSENT);
	end();
	empty_commit();
	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 7, NULL, &p, NULL), SHMETA_ABSENT);
	end();
	fake_begin(w);
	fake_partition(w, topic, 7, 3, NULL, 0, 0, 0);
	(void)fake_commit(w);
	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 7, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 3);
	end();
}

static enum shmeta_status one_lookup(void)
{
	struct shmeta_partition p;

	return shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL);
}

/* One whose view is not parked. */
static void newcomer(void)
{
	shmeta_reader_free(reader);
	reader = fake_reader(instance);
	cr_assert_neq(reader, NULL);
	cr_assert_neq(fake_slot(w, 0), NULL);
}

Test(reader_life, a_writer_killed_before_it_published_its_commit_does_not_stop_readers)
{
	uint64_t txn;

	begin();
	txn = info().txn;
	end();
	empty_commit();
	shmeta_store(&w->gen->committed, txn);
	newcomer();
	for (int i = 0; i < 3; i++) {
		begin();
		cr_assert_eq(info().txn, txn, "what is not published is not shown");
		cr_assert_eq(fake_oldest_pin(w), txn);
		cr_assert_eq(one_lookup(), SHMETA_OK);
		end();
	}
	shmeta_store(&w->gen->committed, txn + 1);
	begin();
	cr_assert_eq(info().txn, txn + 1);
	end();
}

Test(reader_life, a_published_commit_that_no_meta_page_shows_is_damage_not_guessed)
{
	uint64_t txn;

	begin();
	txn = info().txn;
	end();
	empty_commit();
	empty_commit();
	shmeta_store(&w->gen->committed, txn);
	begin(); /* who has it parked has it still */
	end();
	newcomer();
	cr_assert_eq(shmeta_begin(reader), SHMETA_ERR_CORRUPT);
	cr_assert_eq(fake_oldest_pin(w), UINT64_MAX, "nothing stays pinned");
	shmeta_store(&w->gen->committed, txn + 2);
	begin();
	end();
}

/* ---- registration and grace ---- */

Test(reader_life, a_revoked_page_spoils_the_open_snapshot_and_the_next_is_good_again)
{
	struct shmeta_handle *h;
	struct shmeta_segment s;

	begin();
	h = open_partition(0);
	cr_assert_eq(info().registered, 1);
	fake_revoke(w);
	cr_assert_eq(one_lookup(), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, NULL), SHMETA_ERR_EXPIRED);
	cr_assert_eq(info().registered, 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_EXPIRED);
	begin();
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, NULL), SHMETA_OK);
	end();
	cr_assert_eq(fake_until_registered(reader, 1), 0, "it registers again");
}

Test(reader_life, without_a_writer_readers_go_on_and_register_with_the_next_one)
{
	struct shmeta_state state = {.size = sizeof state};

	fake_unserve(w);
	begin();
	cr_assert_eq(one_lookup(), SHMETA_OK);
	end();
	fake_advance(w, UINT64_C(6000000000));
	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	cr_assert_eq(state.writer_alive, 0);
	cr_assert_geq(state.heartbeat_age_ns, UINT64_C(6000000000));
	fake_new_epoch(w);
	begin();
	cr_assert_eq(info().registered, 0, "the new writer does not know it");
	cr_assert_eq(info().epoch, 2);
	cr_assert_eq(one_lookup(), SHMETA_OK);
	end();
	fake_serve(w);
	cr_assert_eq(fake_until_registered(reader, 1), 0);
	cr_assert_eq(fake_wait_registered(w, 1), 0);
	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	cr_assert_eq(state.writer_alive, 1);
	cr_assert_eq(state.epoch, 2);
}

Test(reader_life, a_new_writer_that_kept_the_connection_keeps_the_reader)
{
	struct shmeta_slot *slot = fake_slot(w, 0);

	fake_new_epoch(w);
	begin();
	cr_assert_eq(info().registered, 1);
	cr_assert_eq(slot->pin, info().txn, "the same page");
	end();
	cr_assert_eq(w->registered_ever, 1);
}

Test(reader_open, unregistered_snapshots_last_until_the_next_commit_and_then_half_a_grace_period)
{
	struct fake_writer *f = fake_writer_with_grace(1);
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic t;
	struct shmeta *opened;
	struct shmeta_reader *r;

	fake_begin(f);
	(void)fake_simple_topic(f, "t", 1);
	(void)fake_commit(f);
	fake_stamp_all(f);
	opened = fake_open(f, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	r = fake_reader(opened);
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, NULL), SHMETA_OK, "nothing newer was committed");
	cr_assert_eq(shmeta_list_topics(r, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	fake_begin(f);
	(void)fake_simple_topic(f, "u", 1);
	(void)fake_commit(f);
	cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, NULL), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_ERR_EXPIRED);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(r, NULL, 0, 0, NULL, &iter), SHMETA_ERR_EXPIRED);
	iter = NULL;
	cr_assert_eq(shmeta_end(r), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_begin(r), SHMETA_OK, "and the next may be tried at once");
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	shmeta_reader_free(r);
	shmeta_close(opened);
	cr_assert_eq(f->registered_ever, 0);
	fake_writer_free(f);

	f = fake_writer_with_grace(UINT64_C(3600000000000));
	opened = fake_open(f, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	r = fake_reader(opened);
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	shmeta_reader_free(r);
	shmeta_close(opened);
	fake_writer_free(f);
}

Test(reader_open, a_page_that_could_shrink_or_is_none_is_not_mapped)
{
	struct shmeta_snapshot_info i;
	struct fake_writer *f = fake_writer_new();
	struct shmeta_reader *r;
	struct shmeta *opened;

	fake_begin(f);
	fake_group(f, NULL, "g");
	(void)fake_commit(f);
	for (int round = 0; round < 4; round++) {
		f->unsealed = round == 0;
		f->mislabelled = round == 1;
		f->refuse = round == 2;
		opened = fake_open(f, NULL, 0, 0);
		r = fake_reader(opened);
		cr_assert_eq(shmeta_begin(r), SHMETA_OK);
		cr_assert_eq(shmeta_snapshot_info(r, &i), SHMETA_OK);
		cr_assert_eq(i.registered, round == 3, "round %d", round);
		cr_assert_eq(shmeta_end(r), SHMETA_OK);
		shmeta_reader_free(r);
		shmeta_close(opened);
	}
	fake_writer_free(f);
}

Test(reader_open, a_silent_writer_costs_an_open_a_moment_and_its_readers_nothing)
{
	struct fake_writer *f = fake_writer_new();
	struct shmeta_reader *r;
	struct shmeta *opened;

	f->silent = 1;
	opened = fake_open(f, NULL, 0, 0);
	r = fake_reader(opened);
	cr_assert_eq(fake_until_registered(r, 0), 0);
	f->silent = 0;
	shmeta_reader_free(r);
	shmeta_close(opened);
	fake_writer_free(f);
}

Test(reader_open, readers_beyond_the_slots_go_by_grace_rules_and_take_a_slot_that_becomes_free)
{
	struct fake_writer *f = fake_writer_new();
	struct shmeta_reader *a, *b;
	struct shmeta *opened;

	f->slots_max = 1;
	opened = fake_open(f, NULL, 0, 0);
	a = fake_reader(opened);
	b = fake_reader(opened);
	cr_assert_eq(fake_until_registered(a, 1), 0);
	cr_assert_eq(fake_until_registered(b, 0), 0);
	shmeta_reader_free(a);
	cr_assert_eq(fake_until_registered(b, 1), 0);
	cr_assert_eq(f->registered_ever, 1, "it does not ask again for what it was not given");
	shmeta_reader_free(b);
	shmeta_close(opened);
	fake_writer_free(f);
}

Test(reader_life, the_page_says_who_reads)
{
	const struct shmeta_slots *page = (const void *)((const char *)fake_slot(w, 0) - SHMETA_SLOTS_HEADER);

	cr_assert_eq(page->agent_pid, (uint64_t)getpid());
	cr_assert_str_eq(page->agent_name, "test");
	cr_assert_eq(page->agent_version,
	             SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH);
	cr_assert_gt(page->agent_started_ns, 0);
}

Test(reader_life, lookups_are_counted_and_one_in_1024_is_timed)
{
	struct shmeta_slot *slot = fake_slot(w, 0);
	struct shmeta_handle *h;
	struct shmeta_segment s;
	uint64_t timed = 0, begins = slot->counters.begins;

	begin();
	h = open_partition(0);
	for (int i = 0; i < 2100; i++)
		cr_assert_eq(shmeta_find_segment(h, i < 100 ? UINT64_MAX : 3, NULL, &s, NULL),
		             i < 100 ? SHMETA_ABSENT_AT_END : SHMETA_OK);
	end();
	cr_assert_eq(slot->counters.found, 2000 + 1);
	cr_assert_eq(slot->counters.absent, 100);
	cr_assert_eq(slot->counters.begins, begins + 1);
	for (int i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++)
		timed += slot->histogram[i];
	cr_assert_eq(timed, 2);
	cr_assert_eq(slot->sample[1], shmeta__part_key(topic, 0));
}

/* ---- generations ---- */

Test(reader_life, a_new_generation_is_taken_up_at_the_next_begin_and_handles_follow)
{
	struct shmeta_handle *h;
	struct shmeta_segment s;
	char path[128];

	begin();
	h = open_partition(0);
	cr_assert_eq(shmeta_find_segment(h, 15, NULL, &s, NULL), SHMETA_OK);
	fake_switch_generation(w);
	cr_assert_eq(info().generation, 1);
	cr_assert_eq(shmeta_find_segment(h, 25, NULL, &s, NULL), SHMETA_OK, "the old one still answers");
	cr_assert_eq(one_lookup(), SHMETA_OK);
	end();
	for (int i = 0; i < 3; i++) {
		fake_begin(w);
		fake_even_partition(w, topic, 0, ROWS, WIDTH * 2 + (uint64_t)i);
		(void)fake_commit(w);
		begin();
		cr_assert_eq(info().generation, 2);
		cr_assert_eq(info().registered, 1);
		cr_assert_eq(fake_oldest_pin(w), info().txn, "the pin speaks of the new generation");
		cr_assert_eq(shmeta_find_segment(h, 15, NULL, &s, NULL), SHMETA_OK);
		cr_assert_eq(s.end_offset, (uint64_t)WIDTH * 2 + (uint64_t)i - 1);
		cr_assert_eq(one_lookup(), SHMETA_OK);
		end();
	}
	(void)snprintf(path, sizeof path, "%s/store.1/", w->dir);
	cr_assert_eq(mappings_of(path), 0, "nobody keeps the old one");
}

Test(reader_life, a_generation_that_cannot_be_mapped_is_an_error_of_begin_and_no_end_of_the_reader)
{
	char from[128], to[128], sentence[512];

	begin();
	end();
	fake_switch_generation(w);
	(void)snprintf(from, sizeof from, "%s/store.2", w->dir);
	(void)snprintf(to, sizeof to, "%s/hidden", w->dir);
	cr_assert_eq(rename(from, to), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_ERR_SYSTEM);
	cr_assert_neq(strstr(shmeta_last_error(instance, sentence, sizeof sentence), "store.2"), NULL, "%s", sentence);
	cr_assert_eq(rename(to, from), 0);
	begin();
	cr_assert_eq(info().generation, 2);
	end();
}

Test(reader_life, a_directory_that_was_made_anew_is_followed_once_answers_are_stale)
{
	const struct fake_topic other = {.name = "t", .partitions = 1, .created_at_ms = 99};
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	struct shmeta_handle *h, *kept;
	struct shmeta_topic t;

	fake_begin(w);
	(void)fake_simple_topic(w, "kept", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition(0);
	cr_assert_eq(shmeta_partition_open(reader, "kept", 4, 0, &kept), SHMETA_OK);
	(void)keep(kept);
	end();
	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	begin();
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.fresh, 0);
	end();
	begin(); /* nothing was replaced: it stays */
	end();
	fake_remake(w);
	fake_begin(w);
	/* Number 1, as "t" had; then "kept", the same one by its time of creation; then a "t" that
	 * is another one. */
	(void)fake_simple_topic(w, "new", 1);
	(void)fake_simple_topic(w, "third", 1);
	fake_partition(w, fake_simple_topic(w, "kept", 1), 0, 17, NULL, 0, 0, 0);
	fake_partition(w, fake_topic(w, &other), 0, 18, NULL, 0, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	for (int i = 0; i < 300; i++) { /* it looks once a second at most */
		begin();
		if (shmeta_get_topic(reader, "new", 3, NULL, &t, &fresh) == SHMETA_OK)
			break;
		cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
		end();
		(void)poll(NULL, 0, 10);
	}
	cr_assert_eq(shmeta_get_topic(reader, "new", 3, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_eq(t.topic_id, topic);
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_partition(kept, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 17);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 18);
	end();
	empty_commit();
	begin();
	cr_assert_eq(shmeta_get_partition(h, NULL, &p, NULL), SHMETA_ABSENT);
	end();
}

/* ---- ages ---- */

Test(reader_life, a_directory_that_was_made_anew_by_another_user_is_not_followed)
{
	struct shmeta_freshness fresh;
	struct shmeta_topic t;
	char error[512] = "";

	if (getuid() != 0)
		cr_skip_test("needs root, to give files away");
	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	fake_remake(w);
	fake_begin(w);
	(void)fake_simple_topic(w, "new", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	give_all(w->dir, 12345);
	/* It looks once a second at most. */
	for (int i = 0; i < 300 && strstr(error, "made anew by user 12345") == NULL; i++) {
		begin();
		cr_assert_eq(shmeta_get_topic(reader, "new", 3, NULL, &t, &fresh), SHMETA_ABSENT);
		cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
		end();
		(void)shmeta_last_error(instance, error, sizeof error);
		(void)poll(NULL, 0, 10);
	}
	cr_expect_not_null(strstr(error, "made anew by user 12345"), "%s", error);
}

Test(reader_life, an_answer_is_fresh_until_its_age_is_its_time_to_live)
{
	const uint64_t second = 1000000000, tick = 20000000;
	struct shmeta_freshness fresh;
	struct shmeta_handle *h;
	struct shmeta_segment s;
	struct shmeta_topic t;

	begin();
	h = open_partition(0);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, &fresh), SHMETA_OK);
	cr_assert_lt(fresh.age_ns, second);
	cr_assert_eq(fresh.ttl_ns, 30 * second);
	cr_assert_eq(fresh.hint, 0);
	cr_assert_eq(fresh.txn, info().txn);
	fake_advance(w, 29 * second);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.fresh, 1);
	cr_assert(fresh.age_ns + tick >= 29 * second && fresh.age_ns < 30 * second);
	fake_advance(w, second);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.fresh, fresh.age_ns < 30 * second);
	fake_advance(w, second);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, &fresh), SHMETA_OK, "stale is still an answer");
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.fresh, 1, "each class has a time to live of its own");
	cr_assert_eq(fresh.ttl_ns, 300 * second);
	fake_stamp(w, SHMETA_CLASS_SEGMENT, 0);
	cr_assert_eq(shmeta_find_segment(h, 1, NULL, &s, &fresh), SHMETA_OK);
	cr_assert_lt(fresh.age_ns, second, "one word makes the class young again");
	end();
	cr_assert_gt(fake_slot(w, 0)->counters.stale, 0);
}

Test(reader_life, a_record_that_is_younger_than_its_class_and_its_own_time_to_live_count)
{
	const struct fake_topic own = {
		.name = "own", .partitions = 1, .synced_at_ns = fake_now_ns(w) + UINT64_C(50000000000), .ttl_ms = 7000};
	struct shmeta_freshness fresh;
	struct shmeta_topic t;

	fake_begin(w);
	(void)fake_topic(w, &own);
	(void)fake_commit(w);
	fake_advance(w, UINT64_C(55000000000));
	begin();
	cr_assert_eq(shmeta_get_topic(reader, "own", 3, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_lt(fresh.age_ns, UINT64_C(6000000000), "its own stamp is newer than the class's");
	cr_assert_eq(fresh.ttl_ns, UINT64_C(7000000000));
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_geq(fresh.age_ns, UINT64_C(54900000000));
	end();
}

Test(reader_open, stamps_of_another_boot_are_no_ages)
{
	struct fake_writer *f = fake_writer_new();
	struct shmeta_store_format format = *shmeta__store_format(f->store);
	struct shmeta_state state = {.size = sizeof state};
	struct shmeta_freshness fresh;
	struct shmeta_topic t;
	struct shmeta_reader *r;
	struct shmeta *opened;

	format.boot_id[3] ^= 0xff;
	fake_begin(f);
	fake_raw(f, SHMETA_DB_META, SHMETA_META_FORMAT, strlen(SHMETA_META_FORMAT), &format, sizeof format);
	(void)fake_simple_topic(f, "t", 1);
	(void)fake_commit(f);
	fake_stamp_all(f);
	opened = fake_open(f, NULL, 0, 0);
	r = fake_reader(opened);
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_eq(fresh.age_ns, UINT64_MAX);
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	cr_assert_eq(shmeta_get_state(opened, &state), SHMETA_OK);
	cr_assert_eq(state.class_age_ns[SHMETA_CLASS_TOPIC], UINT64_MAX);
	shmeta_reader_free(r);
	shmeta_close(opened);
	fake_writer_free(f);
}

Test(reader_life, the_precise_clock_shows_less_than_a_tick)
{
	struct shmeta *precise = fake_open(w, NULL, SHMETA_OPEN_PRECISE_CLOCK, 0);
	struct shmeta_reader *r = fake_reader(precise);
	struct shmeta_freshness a, b;
	struct shmeta_topic t;
	int moved = 0;

	fake_advance(w, UINT64_C(1000000000));
	cr_assert_eq(shmeta_begin(r), SHMETA_OK);
	for (int i = 0; i < 100 && !moved; i++) {
		cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, &a), SHMETA_OK);
		cr_assert_eq(shmeta_get_topic(r, "t", 1, NULL, &t, &b), SHMETA_OK);
		moved = b.age_ns > a.age_ns && b.age_ns - a.age_ns < 900000;
	}
	cr_assert(moved);
	cr_assert_eq(shmeta_end(r), SHMETA_OK);
	shmeta_reader_free(r);
	shmeta_close(precise);
}

/* ---- processes ---- */

static struct shmeta_handle *inherited;
static struct shmeta_iter *inherited_iter;

static int everything_answers_forked(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = w->dir};
	struct shmeta_find f = {inherited, 1};
	struct shmeta_state state = {.size = sizeof state};
	struct shmeta_snapshot_info i;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_topic t;
	struct shmeta_reader *r;
	struct shmeta_handle *h;
	struct shmeta_iter *iter;
	struct shmeta *own;
	enum shmeta_status one;
	char text[64] = "x";
	uint64_t txn;

	if (shmeta_begin(reader) != SHMETA_ERR_FORKED || shmeta_end(reader) != SHMETA_ERR_FORKED ||
	    shmeta_snapshot_info(reader, &i) != SHMETA_ERR_FORKED ||
	    shmeta_get_topic(reader, "t", 1, NULL, &t, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_get_topic_by_id(reader, 1, NULL, &t, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter) != SHMETA_ERR_FORKED ||
	    shmeta_next_topic(inherited_iter, &t, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_partition_open(reader, "t", 1, 0, &h) != SHMETA_ERR_FORKED)
		return 1;
	if (shmeta_get_partition(inherited, NULL, &p, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_find_segment(inherited, 1, NULL, &s, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_find_segment_named(reader, "t", 1, 0, 1, NULL, &s, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_find_segments(1, &f, NULL, &one, &s) != SHMETA_ERR_FORKED ||
	    shmeta_last_segment(inherited, NULL, &s, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_list_segments(inherited, 0, 1, NULL, &iter) != SHMETA_ERR_FORKED ||
	    shmeta_segment_strings(inherited, &s, text, sizeof text) != SHMETA_ERR_FORKED)
		return 2;
	if (shmeta_reader_new(instance, &r) != SHMETA_ERR_FORKED ||
	    shmeta_get_state(instance, &state) != SHMETA_ERR_FORKED ||
	    shmeta_changed_txn(instance, SHMETA_CLASS_TOPIC, &txn) != SHMETA_ERR_FORKED ||
	    shmeta_wait_commit(instance, 0, 1, &txn) != SHMETA_ERR_FORKED ||
	    shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 1, NULL) != SHMETA_ERR_FORKED ||
	    shmeta_reload(instance, 1, NULL, 0) != SHMETA_ERR_FORKED ||
	    shmeta_last_error(instance, text, sizeof text)[0] != 0)
		return 3;
	/* The fake writer's own mapping of the page was inherited, the library's was not. */
	if (mappings_of("memfd:shmeta-fake") != 1)
		return 6;
	/* What is allowed, in the wrong order even. */
	shmeta_reader_free(reader);
	shmeta_iter_free(inherited_iter);
	shmeta_partition_close(inherited);
	shmeta_close(instance);
	/* A child may open for itself. */
	if (shmeta_open(&o, &own) != SHMETA_OK || shmeta_reader_new(own, &r) != SHMETA_OK)
		return 4;
	if (shmeta_begin(r) != SHMETA_OK || shmeta_get_topic(r, "t", 1, NULL, &t, NULL) != SHMETA_OK ||
	    shmeta_end(r) != SHMETA_OK || fake_until_registered(r, 1) != 0)
		return 5;
	shmeta_reader_free(r);
	shmeta_close(own);
	return 0;
}

Test(reader_life, a_child_is_told_that_it_forked_and_the_parent_is_unharmed)
{
	struct shmeta_segment s;
	struct shmeta_topic t;
	uint64_t txn;

	begin();
	inherited = open_partition(0);
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &inherited_iter), SHMETA_OK);
	txn = info().txn;
	cr_assert_eq(mappings_of("memfd:shmeta-fake"), 2);
	cr_assert_eq(in_child(everything_answers_forked), 0);
	cr_assert_eq(fake_oldest_pin(w), txn, "the child did not unpin it");
	cr_assert_eq(info().registered, 1);
	cr_assert_eq(shmeta_find_segment(inherited, 1, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(inherited_iter, &t, NULL), SHMETA_OK);
	end();
	cr_assert_eq(fake_wait_registered(w, 1), 0, "and the child's own registration ended with it");
	begin();
	end();
}

static struct shmeta_client *inherited_client;

static int sockets(void)
{
	struct stat st;
	int count = 0;

	for (int fd = 3; fd < 256; fd++)
		count += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	return count;
}

/* The fake writer's own are its test's. */
static int closing_a_client_closes_the_registration(void)
{
	int before = sockets();

	shmeta_client_close(inherited_client);
	if (sockets() != before - 1)
		return 1;
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return sockets() == before - 1 ? 0 : 2;
}

static int closing_the_instance_first_is_as_good(void)
{
	int before = sockets();

	shmeta_close(instance);
	shmeta_client_close(inherited_client);
	shmeta_reader_free(reader);
	return sockets() == before - 1 ? 0 : 3;
}

Test(reader_life, a_child_that_closes_any_handle_lets_go_of_its_parents_registration)
{
	cr_assert_eq(shmeta_client_open(instance, NULL, &inherited_client), SHMETA_OK);
	cr_expect_eq(in_child(closing_a_client_closes_the_registration), 0);
	cr_expect_eq(in_child(closing_the_instance_first_is_as_good), 0);
	shmeta_client_close(inherited_client);
	begin();
	cr_expect_eq(info().registered, 1);
	end();
}

static int lookups_without_descriptors(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = w->dir};
	struct shmeta_snapshot_info i;
	struct shmeta_handle *h;
	struct shmeta_segment s;
	struct shmeta_reader *r;
	struct shmeta *own;

	if (shmeta_open(&o, &own) != SHMETA_OK || shmeta_reader_new(own, &r) != SHMETA_OK ||
	    fake_until_registered(r, 1) != 0)
		return 1;
	if (shmeta_begin(r) != SHMETA_OK || shmeta_partition_open(r, "t", 1, 0, &h) != SHMETA_OK ||
	    shmeta_end(r) != SHMETA_OK)
		return 2;
	if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
		return 77;
	/* The writer sees the connection close, and revokes. What was begun meanwhile may be
	 * spoilt, the next is not. */
	for (int n = 0; n < 2000; n++) {
		enum shmeta_status found, ended;

		if (shmeta_begin(r) != SHMETA_OK)
			return 3;
		found = shmeta_find_segment(h, (uint64_t)n, NULL, &s, NULL);
		if (shmeta_snapshot_info(r, &i) != SHMETA_OK)
			return 4;
		ended = shmeta_end(r);
		if (found != SHMETA_OK && found != SHMETA_ERR_EXPIRED)
			return 5;
		if (ended != SHMETA_OK && ended != SHMETA_ERR_EXPIRED)
			return 6;
		(void)poll(NULL, 0, 1);
	}
	if (fake_until_registered(r, 1) != 0)
		return 7;
	shmeta_partition_close(h);
	shmeta_reader_free(r);
	shmeta_close(own);
	return 0;
}

Test(reader_life, closing_every_descriptor_under_the_library_costs_it_only_its_registration)
{
	cr_assert_eq(in_child(lookups_without_descriptors), 0);
}

static int close_with_a_reused_descriptor(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = w->dir};
	struct shmeta *own;
	struct stat st;
	int null, fds[64];

	if (shmeta_open(&o, &own) != SHMETA_OK || syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
		return 1;
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 64; i++)
		fds[i] = dup(null);
	shmeta_close(own);
	for (int i = 0; i < 64; i++)
		if (fstat(fds[i], &st) != 0)
			return 2;
	return fstat(null, &st) == 0 ? 0 : 3;
}

Test(reader_life, closing_does_not_close_descriptors_that_others_opened_under_the_same_numbers)
{
	cr_assert_eq(in_child(close_with_a_reused_descriptor), 0);
}

static struct shmeta_handle *quiet_handle;

/* From here on any system call but exit kills. The strict mode would not do: it also takes away the
 * time stamp counter. */
static int forbid_system_calls(void)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	const struct sock_fprog filter = {sizeof program / sizeof *program, program};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0;
}

static int lookups_without_system_calls(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = w->dir};
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_reader *r;
	struct shmeta_topic t;
	struct shmeta *own;

	if (shmeta_open(&o, &own) != SHMETA_OK || shmeta_reader_new(own, &r) != SHMETA_OK)
		return 1;
	if (shmeta_begin(r) != SHMETA_OK || shmeta_partition_open(r, "t", 1, 0, &quiet_handle) != SHMETA_OK ||
	    shmeta_get_topic(r, "t", 1, NULL, &t, &fresh) != SHMETA_OK || shmeta_end(r) != SHMETA_OK)
		return 2;
	if (forbid_system_calls() != 0)
		return 77;
	for (uint64_t i = 0; i < 100000; i++)
		if (shmeta_begin(r) != SHMETA_OK ||
		    shmeta_find_segment(quiet_handle, i % 100, NULL, &s, &fresh) != SHMETA_OK ||
		    shmeta_find_segment_named(r, "t", 1, 0, i % 100, NULL, &s, &fresh) != SHMETA_OK ||
		    shmeta_get_partition(quiet_handle, NULL, &p, &fresh) != SHMETA_OK ||
		    shmeta_get_topic(r, "t", 1, NULL, &t, &fresh) != SHMETA_OK || shmeta_end(r) != SHMETA_OK)
			(void)syscall(SYS_exit, 3);
	(void)syscall(SYS_exit, 0);
	return 4;
}

Test(reader_life, a_lookup_makes_no_system_call)
{
	cr_assert_eq(in_child(lookups_without_system_calls), 0);
}

Test(reader_life, a_process_of_many_readers_stays_below_a_megabyte)
{
	struct shmeta_reader *r[16];
	struct shmeta_segment s;
	struct mallinfo2 before, after;
	struct shmeta *own;
	char name[16];

	fake_begin(w);
	for (int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof name, "m%d", i);
		(void)fake_simple_topic(w, name, 1);
	}
	(void)fake_commit(w);
	fake_stamp_all(w);
	before = mallinfo2();
	own = fake_open(w, NULL, 0, 0);
	for (int k = 0; k < 16; k++) {
		r[k] = fake_reader(own);
		cr_assert_eq(shmeta_begin(r[k]), SHMETA_OK);
		for (int i = 0; i < 3000; i++) {
			(void)snprintf(name, sizeof name, "m%d", i);
			cr_assert_eq(shmeta_find_segment_named(r[k], name, strlen(name), 0, 0, NULL, &s, NULL),
			             SHMETA_ABSENT_AT_END);
		}
		cr_assert_eq(shmeta_end(r[k]), SHMETA_OK);
	}
	after = mallinfo2();
	cr_assert_lt(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd, 1024u * 1024u);
	for (int k = 0; k < 16; k++)
		shmeta_reader_free(r[k]);
	shmeta_close(own);
}
