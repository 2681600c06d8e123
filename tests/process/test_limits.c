/* SPDX-License-Identifier: Apache-2.0
 * A real shmetad that meets limits of the system: each is told in a sentence, reads go on, and when
 * the limit is lifted everything works again without anybody's doing. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/memory_group.h"
#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_stats.h"
#include "tests/support/run_status.h"
#include "tests/support/run_tool.h"
#include "tests/support/scratch.h"

TestSuite(limits_of_daemon, .timeout = 120);

enum { WAIT_MS = 10000, TOPICS_MAX = 60 };

static struct run_daemon d;
static struct shmeta *instance;
static struct shmeta_client *client;
static struct shmeta_reader *reader;
static char mounted[128];
static struct memory_group group;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
}

static void end(void)
{
	shmeta_reader_free(reader);
	shmeta_client_close(client);
	shmeta_close(instance);
	if (mounted[0] != '\0') {
		(void)run_daemon_end(&d, SIGTERM);
		(void)umount2(mounted, MNT_DETACH);
	}
	run_daemon_done(&d);
	if (group.path[0] != '\0')
		memory_group_remove(&group);
}

static void connect_to_it(void)
{
	instance = run_daemon_open(&d, "agent", 0);
	cr_assert_not_null(instance);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
}

/* A tmpfs at path, which goes with the test's mounts. */
static void mount_or_skip(const char *path, const char *options)
{
	int error = scratch_private_mounts();

	if (error == 0 && mount("none", path, "tmpfs", 0, options) != 0)
		error = errno;
	if (error == 0) {
		(void)snprintf(mounted, sizeof mounted, "%s", path);
		return;
	}
	end(); /* a skipped test has no .fini */
	cr_skip_test("nothing can be mounted here: %s", strerror(error));
}

static void fill(const char *path)
{
	static const char page[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	while (write(fd, page, sizeof page) > 0)
		;
	(void)close(fd);
}

static enum shmeta_status create_with(uint32_t partitions, const char *name, char *ret_error, size_t bytes)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = {name, strlen(name)}, .partition_count = partitions}};
	struct shmeta_result result;
	enum shmeta_status status = shmeta_write(client, &op, 1, WAIT_MS, &result, NULL);

	(void)shmeta_last_error(instance, ret_error, bytes);
	return status == SHMETA_OK ? result.status : status;
}

static enum shmeta_status create(const char *name, char *ret_error, size_t bytes)
{
	return create_with(50, name, ret_error, bytes);
}

static enum shmeta_status look(const char *name, enum shmeta_consistency consistency)
{
	struct shmeta_read options = {.size = sizeof options,
	                              .consistency = consistency,
	                              .timeout_ms = WAIT_MS,
	                              .flags = SHMETA_READ_MAY_MOVE};
	enum shmeta_status status = run_daemon_begin(reader);
	struct shmeta_topic topic;

	if (status == SHMETA_OK)
		status = shmeta_get_topic(reader, name, strlen(name), &options, &topic, NULL);
	(void)shmeta_end(reader);
	return status;
}

Test(limits_of_daemon, a_source_without_room_refuses_writes_and_nothing_else, .init = begin, .fini = end)
{
	char small[128], filler[160], uri[200], error[300] = "";
	struct run_status status;
	enum shmeta_status answer = SHMETA_OK;
	char name[32];

	(void)snprintf(small, sizeof small, "%s/small", d.dir);
	(void)snprintf(filler, sizeof filler, "%s/filler", small);
	(void)snprintf(uri, sizeof uri, "sqlite:%s/source.db", small);
	cr_assert_eq(mkdir(small, 0755), 0);
	mount_or_skip(small, "size=2m,mode=0755");
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	connect_to_it();
	cr_assert_eq(create("first", error, sizeof error), SHMETA_OK, "%s", error);
	fill(filler);
	/* The write-ahead log has some room left in its last block. */
	for (int i = 0; i < 100 && answer == SHMETA_OK; i++) {
		(void)snprintf(name, sizeof name, "more-%d", i);
		answer = create(name, error, sizeof error);
	}
	cr_assert_eq(answer, SHMETA_ERR_SOURCE, "%d: %s", answer, error);
	cr_expect_not_null(strstr(error, "SQLITE_FULL"), "%s", error);
	run_status_await(&d, "connected; it did not take the last write", "serving", &status);
	cr_expect_eq(look("first", SHMETA_CACHED), SHMETA_OK);
	cr_expect_eq(look("first", SHMETA_FRESH), SHMETA_OK, "the source is asked, and answers");
	cr_expect_eq(look(name, SHMETA_FRESH), SHMETA_ABSENT);
	cr_assert_eq(unlink(filler), 0);
	cr_expect_eq(create(name, error, sizeof error), SHMETA_OK, "the first write that finds room is done: %s",
	             error);
	run_status_await_connected(&d);
}

Test(limits_of_daemon, a_limit_on_file_sizes_is_named_and_ends_nobody, .init = begin, .fini = end)
{
	struct shmeta_state state = {.size = sizeof state};
	struct rlimit limit = {.rlim_max = RLIM_INFINITY};
	struct run_status status;
	struct stat st;
	char path[160];

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	connect_to_it();
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "VALUES ('first', 1, 1, 1, '{}')"),
	             0);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "first", 5, 0, WAIT_MS, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	(void)snprintf(path, sizeof path, "%s/store.%llu/data.mdb", d.instance, (unsigned long long)state.generation);
	cr_assert_eq(stat(path, &st), 0);
	limit.rlim_cur = (rlim_t)st.st_size;
	cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d,
	                            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
	                            "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                            "SELECT 'topic-' || i, 1, 1, 1, '{}' FROM n"),
	             0);
	run_status_await(&d, "connected", "degraded", &status);
	cr_expect_eq(look("first", SHMETA_CACHED), SHMETA_OK);
	{
		struct run_tool t;

		run_tool(&t, "shmetactl --dir %s status", d.instance);
		cr_expect_not_null(strstr(t.out, "the store cannot grow"), "%s", t.out);
		cr_expect_not_null(strstr(t.out, "LimitFSIZE="), "%s", t.out);
		run_tool_done(&t);
	}
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(prlimit(d.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	run_status_await(&d, "connected", "serving", &status);
	cr_expect_eq(look("topic-1999", SHMETA_CACHED), SHMETA_OK);
}

Test(limits_of_daemon, inodes_that_are_used_up_are_told_as_such_and_when_there_are_some_it_serves, .init = begin,
     .fini = end)
{
	struct run_status status;
	struct run_tool t;

	mount_or_skip(d.instance, "size=64m,mode=0755,nr_inodes=8");
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	for (double end_s = run_now_s() + RUN_STATUS_PATIENCE_S; run_daemon_epoch(&d) == 0 && run_now_s() < end_s;)
		(void)usleep(2000);
	run_status_await(&d, "connected", "degraded", &status);
	run_tool(&t, "shmetactl --dir %s status", d.instance);
	cr_expect_not_null(strstr(t.out, "free inodes of 8: "), "%s", t.out);
	cr_expect_null(strstr(t.out, "the store is full"), "%s", t.out);
	run_tool_done(&t);
	cr_assert_eq(mount(NULL, d.instance, NULL, MS_REMOUNT, "nr_inodes=100"), 0);
	run_status_await(&d, "connected", "serving", &status);
}

static bool has_ended(void)
{
	siginfo_t info = {.si_pid = 0};

	return waitid(P_PID, (id_t)d.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

static void start_in_the_group(void)
{
	cr_assert_eq(memory_group_enter(&group), 0);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	cr_assert_eq(memory_group_leave(&group), 0);
	cr_assert_eq(run_daemon_wait(&d, run_daemon_epoch(&d)), 0);
}

Test(limits_of_daemon, a_limit_on_memory_ends_the_daemon_alone_and_with_more_the_next_one_serves_everything,
     .init = begin, .fini = end)
{
	char name[16], error[300] = "";
	int created = 0, refused = memory_group_make(&group, 64 << 20);
	enum shmeta_status answer[TOPICS_MAX];

#ifdef __SANITIZE_ADDRESS__
	end();
	cr_skip_test("a sanitizer's daemon is larger than the limit");
#endif
	if (refused != 0) {
		group.path[0] = '\0';
		end(); /* a skipped test has no .fini */
		cr_skip_test("no control group with a limit on memory can be made here: %s", strerror(refused));
	}
	start_in_the_group();
	connect_to_it();
	cr_assert_eq(create("first", error, sizeof error), SHMETA_OK, "%s", error);
	for (; created < TOPICS_MAX && !has_ended(); created++) {
		(void)snprintf(name, sizeof name, "large-%d", created);
		answer[created] = create_with(20000, name, error, sizeof error);
	}
	cr_assert(has_ended(), "64 MiB were enough for %d topics", created);
	cr_assert_eq(run_daemon_end(&d, SIGCONT), 128 + SIGKILL, "the kernel ends it, and nothing else does");
	cr_expect_eq(look("first", SHMETA_CACHED), SHMETA_OK);
	cr_assert_eq(memory_group_limit(&group, UINT64_MAX), 0);
	start_in_the_group();
	for (int i = 0; i < created; i++) {
		(void)snprintf(name, sizeof name, "large-%d", i);
		if (answer[i] == SHMETA_OK || answer[i] == SHMETA_ERR_NOT_CACHED)
			cr_expect_eq(look(name, SHMETA_FRESH), SHMETA_OK, "%s was acknowledged", name);
	}
	cr_expect_eq(look("first", SHMETA_FRESH), SHMETA_OK);
}

/* Is it in the log, by and by? */
static bool is_in_log(const char *sentence)
{
	static char text[1 << 16];
	FILE *log = fopen(d.log, "re");
	size_t bytes = log != NULL ? fread(text, 1, sizeof text - 1, log) : 0;

	text[bytes] = '\0';
	if (log != NULL)
		(void)fclose(log);
	return strstr(text, sentence) != NULL;
}

static bool is_logged(const char *sentence)
{
	for (double end_s = run_now_s() + 20; run_now_s() < end_s; (void)usleep(10000))
		if (is_in_log(sentence))
			return true;
	return false;
}

/* Nobody finds the daemon any more, so nobody but its log can say so. */
Test(limits_of_daemon, a_directory_that_goes_under_the_daemon_is_told_and_so_is_its_return, .init = begin, .fini = end)
{
	char away[128], said[300], back[300];
	struct run_tool t;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	connect_to_it();
	/* The place is known by the configuration of the start, which a reload takes away. */
	for (int i = 0; i < 2; i++) {
		run_tool(&t, "%s --dir %s reload --wait", places_shmetactl, d.instance);
		cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
		run_tool_done(&t);
		run_stats_settle(&d);
	}
	cr_expect_not(is_in_log("directory:"), "it has not gone");
	(void)snprintf(away, sizeof away, "%s.away", d.instance);
	(void)snprintf(said, sizeof said, "<3>directory: the instance directory %s was removed, renamed or replaced",
	               d.instance);
	(void)snprintf(back, sizeof back, "<5>directory: the instance directory %s is there again", d.instance);
	cr_assert_eq(rename(d.instance, away), 0);
	cr_expect(is_logged(said));
	cr_expect_eq(look("none", SHMETA_CACHED), SHMETA_ABSENT);
	cr_assert_eq(rename(away, d.instance), 0);
	cr_expect(is_logged(back));
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
}

Test(limits_of_daemon, a_pause_that_cannot_be_recorded_names_the_file_and_the_limit, .init = begin, .fini = end)
{
	char filler[160], file[160];
	struct run_tool t;

	mount_or_skip(d.instance, "size=16m,mode=0755");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	(void)snprintf(filler, sizeof filler, "%s/filler", d.instance);
	(void)snprintf(file, sizeof file, "cannot write %s/paused: ", d.instance);
	fill(filler);
	run_tool(&t, "shmetactl --dir %s pause now", d.instance);
	cr_expect_eq(t.code, 1, "%d", t.code);
	cr_expect_not_null(strstr(t.err, file), "%s", t.err);
	cr_expect_not_null(strstr(t.err, "mount it with a larger size"), "%s", t.err);
	run_tool_done(&t);
	cr_assert_eq(unlink(filler), 0);
	run_tool(&t, "shmetactl --dir %s pause now", d.instance);
	cr_expect_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
}

/* By and by. */
static void await_tool(const char *verb, int code, const char *says)
{
	bool said = false;
	struct run_tool t;

	for (double end_s = run_now_s() + 20; !said && run_now_s() < end_s; (void)usleep(20000)) {
		run_tool(&t, "shmetactl --dir %s %s", d.instance, verb);
		said = t.code == code && strstr(t.out, says) != NULL;
		run_tool_done(&t);
	}
	cr_expect(said, "%s does not say: %s", verb, says);
}

Test(limits_of_daemon, a_daemon_out_of_descriptors_says_so_until_it_has_some, .init = begin, .fini = end)
{
	struct rlimit limit = {.rlim_cur = 3}, former;
	char error[300] = "";

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	connect_to_it();
	cr_assert_eq(create("first", error, sizeof error), SHMETA_OK, "%s", error);
	cr_assert_eq(prlimit(d.pid, RLIMIT_NOFILE, NULL, &former), 0);
	limit.rlim_max = former.rlim_max;
	cr_assert_eq(prlimit(d.pid, RLIMIT_NOFILE, &limit, NULL), 0);
	{
		struct run_tool t;

		run_tool(&t, "shmetactl --dir %s topic create second 1", d.instance);
		cr_expect_neq(t.code, 0);
		run_tool_done(&t);
	}
	await_tool("health", 1, "nobody can connect");
	await_tool("status", 0, "new connections are closed for want of file descriptors: raise LimitNOFILE");
	cr_assert_eq(prlimit(d.pid, RLIMIT_NOFILE, &former, NULL), 0);
	await_tool("topic create third 1", 0, "third");
	await_tool("health", 0, "ok");
}

Test(limits_of_daemon, a_socket_that_goes_under_the_daemon_is_told_and_so_is_its_return, .init = begin, .fini = end)
{
	char here[160], away[160], said[300], back[300];

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	connect_to_it();
	(void)snprintf(here, sizeof here, "%s/control.sock", d.instance);
	(void)snprintf(away, sizeof away, "%s/away.sock", d.instance);
	(void)snprintf(said, sizeof said, "<3>directory: %s was removed, renamed or replaced: nobody can connect",
	               here);
	(void)snprintf(back, sizeof back, "<5>directory: %s is there again", here);
	cr_assert_eq(rename(here, away), 0);
	cr_expect(is_logged(said));
	await_tool("health", 1, "nobody can connect");
	await_tool("status", 0, "control.sock was removed or replaced: restart");
	cr_expect_eq(look("none", SHMETA_CACHED), SHMETA_ABSENT);
	cr_assert_eq(rename(away, here), 0);
	cr_expect(is_logged(back));
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
}
