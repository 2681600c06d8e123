/* SPDX-License-Identifier: Apache-2.0
 * The daemon as a process: one writer per instance, the service manager's protocol, reloads, the
 * control socket and those who abuse it, registrations and what becomes of them. */
#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>
#include <sqlite3.h>

#include "shm/page/board.h"
#include "shm/page/slots.h"
#include "shm/page/stats_page.h"
#include "shm/wire/wire.h"
#include "tests/support/places.h"
#include "tests/support/run_daemon.h"

TestSuite(shmetad, .timeout = 60);

static struct run_daemon d;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

static void begin_running(void)
{
	begin();
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void write_config(const char *text)
{
	FILE *stream = fopen(d.config, "we");

	cr_assert_not_null(stream);
	cr_assert_geq(fputs(text, stream), 0);
	cr_assert_eq(fclose(stream), 0);
}

static char *read_text(const char *path)
{
	static char text[65536];
	FILE *stream = fopen(path, "re");
	size_t got;

	cr_assert_not_null(stream, "%s", path);
	got = fread(text, 1, sizeof(text) - 1, stream);
	fclose(stream);
	text[got] = '\0';
	return text;
}

/* Until condition holds; false after ten seconds. */
#define until(condition)                                        \
	({                                                      \
		double until_end = run_now_s() + 10;            \
		while (!(condition) && run_now_s() < until_end) \
			usleep(2000);                           \
		(condition);                                    \
	})

static struct shmeta_board board(void)
{
	struct shmeta_board copy = {.epoch = 0};
	char path[128];
	FILE *stream;

	snprintf(path, sizeof(path), "%s/board", d.instance);
	stream = fopen(path, "re");
	if (stream == NULL)
		return copy;
	if (fread(&copy, sizeof(copy), 1, stream) != 1)
		memset(&copy, 0, sizeof(copy));
	fclose(stream);
	return copy;
}

/* ---- a client ---- */

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 10};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/control.sock", d.instance);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static bool send_bytes(int fd, const void *frame, size_t bytes)
{
	return send(fd, frame, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static struct shmeta_frame head(uint16_t type, size_t bytes, uint64_t id)
{
	return (struct shmeta_frame){.bytes = (uint32_t)bytes, .version = SHMETA_WIRE_VERSION, .type = type, .id = id};
}

static bool ask(int fd, uint16_t type, uint64_t id)
{
	struct shmeta_frame frame = head(type, sizeof(frame), id);

	return send_bytes(fd, &frame, sizeof(frame));
}

/* The next answer; its text is terminated. Returns false at the end of the connection, or after ten
 * seconds. */
static bool answer(int fd, struct shmeta_frame_answer *ret, char *ret_text, size_t bytes)
{
	static char packet[SHMETA_FRAME_MAX];
	ssize_t got = recv(fd, packet, sizeof(packet), 0);

	if (got < (ssize_t)sizeof(*ret) || shmeta__frame_check(packet, (size_t)got) != SHMETA_OK)
		return false;
	memcpy(ret, packet, sizeof(*ret));
	if (ret->head.type != SHMETA_FRAME_ANSWER)
		return false;
	if (ret_text != NULL)
		snprintf(ret_text, bytes, "%.*s", (int)ret->text_bytes, packet + sizeof(*ret));
	return true;
}

/* The object that a frame without arguments asks for, or NULL when the connection does not
 * answer. */
static json_t *object_of(int fd, uint16_t type)
{
	static char text[SHMETA_FRAME_MAX];
	struct shmeta_frame_answer got;

	if (!ask(fd, type, 77) || !answer(fd, &got, text, sizeof(text)) || got.head.id != 77 || got.status != SHMETA_OK)
		return NULL;
	return json_loads(text, 0, NULL);
}

static json_t *status_of(int fd)
{
	return object_of(fd, SHMETA_FRAME_STATUS);
}

static bool answers(int fd)
{
	json_t *status = status_of(fd);
	bool yes = status != NULL;

	json_decref(status);
	return yes;
}

static bool closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, 0) == 0 || errno == ECONNRESET;
}

static uint64_t counter(const char *name)
{
	int fd = dial();
	json_t *status = status_of(fd);
	uint64_t value = (uint64_t)json_integer_value(json_object_get(json_object_get(status, "counters"), name));

	json_decref(status);
	close(fd);
	return value;
}

struct registered {
	int fd, memfd;
	struct shmeta_frame_registered answer;
	struct shmeta_slots *page;
	size_t bytes;
};

/* A registered connection. memfd is -1 when it was refused. */
static struct registered enroll(uint32_t slots)
{
	struct shmeta_frame_register request = {.head = head(SHMETA_FRAME_REGISTER, sizeof(request), 5),
	                                        .agent_pid = 4242,
	                                        .agent_version = 100,
	                                        .slot_count = slots,
	                                        .agent_name = "tester\x1b[31m"};
	struct registered r = {.fd = dial(), .memfd = -1, .page = MAP_FAILED};
	char control[CMSG_SPACE(sizeof(int))], packet[sizeof(r.answer) + 512];
	struct iovec iov = {.iov_base = packet, .iov_len = sizeof(packet)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct stat st;

	if (r.fd < 0 || !send_bytes(r.fd, &request, sizeof(request)) ||
	    recvmsg(r.fd, &message, MSG_CMSG_CLOEXEC) < (ssize_t)sizeof(r.answer))
		return r;
	memcpy(&r.answer, packet, sizeof(r.answer));
	if (r.answer.head.type != SHMETA_FRAME_REGISTERED || CMSG_FIRSTHDR(&message) == NULL)
		return r;
	memcpy(&r.memfd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	if (fstat(r.memfd, &st) < 0)
		return r;
	r.bytes = (size_t)st.st_size;
	r.page = mmap(NULL, r.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r.memfd, 0);
	return r;
}

static void leave(struct registered *r)
{
	if (r->fd >= 0)
		close(r->fd);
	if (r->memfd >= 0)
		close(r->memfd);
	if (r->page != MAP_FAILED)
		munmap(r->page, r->bytes);
	*r = (struct registered){.fd = -1, .memfd = -1, .page = MAP_FAILED};
}

static bool last_reload(int fd, bool accepted, const char *words)
{
	json_t *status = status_of(fd), *last = json_object_get(status, "last_reload");
	const char *sentence = json_string_value(json_object_get(last, "sentence"));
	bool yes = sentence != NULL && json_is_true(json_object_get(last, "accepted")) == accepted &&
	           strstr(sentence, words) != NULL;

	json_decref(status);
	return yes;
}

/* ---- one writer ---- */

/* A run that prints nothing. */
static pid_t spawn(char *const arguments[])
{
	pid_t pid = run_fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		dup2(null, 2);
		execv(places_shmetad, arguments);
		_exit(127);
	}
	return pid;
}

/* Exit status and output of a run that ends by itself. */
static int run_once(char *const arguments[], char *ret_output, size_t bytes)
{
	int out[2], code;
	ssize_t got;
	size_t used = 0;
	pid_t pid;

	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	pid = run_fork();
	if (pid == 0) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execv(places_shmetad, arguments);
		_exit(127);
	}
	close(out[1]);
	while (used < bytes - 1 && (got = read(out[0], ret_output + used, bytes - 1 - used)) > 0)
		used += (size_t)got;
	ret_output[used] = '\0';
	close(out[0]);
	code = run_reap(pid);
	return code;
}

Test(shmetad, a_second_writer_ends_with_75_names_the_first_and_harms_nothing, .init = begin_running, .fini = end)
{
	char *arguments[] = {"shmetad", "--dir", d.instance, "--source", "memory:", NULL};
	char output[4096], pid[32];
	int fd = dial();
	double before = run_now_s();

	cr_expect_eq(run_once(arguments, output, sizeof(output)), 75);
	cr_expect_lt(run_now_s() - before, 5.0);
	snprintf(pid, sizeof(pid), "process %d", (int)d.pid);
	cr_expect_not_null(strstr(output, pid), "%s", output);
	cr_expect(answers(fd), "the first writer no longer answers");
	cr_expect_eq(board().writer_pid, (uint64_t)d.pid);
	close(fd);
}

Test(shmetad, wrong_command_lines_and_configurations_end_with_2, .init = begin, .fini = end)
{
	char *unknown[] = {"shmetad", "--no-such-flag", NULL};
	char *extra[] = {"shmetad", "extra", NULL};
	char *missing[] = {"shmetad", "--config", "/nonexistent/shmeta.conf", NULL};
	char *check[] = {"shmetad", "--check-config", "--config", d.config, "--dir", d.instance, NULL};
	char *run[] = {"shmetad", "--config", d.config, "--dir", d.instance, NULL};
	char output[4096], where[160];

	cr_expect_eq(run_once(unknown, output, sizeof(output)), 2);
	cr_expect_eq(run_once(extra, output, sizeof(output)), 2);
	cr_expect_eq(run_once(missing, output, sizeof(output)), 2);
	write_config("\nstore { max_bytes = lots }\nfoo { x = 1 }\n");
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(run_once(i == 0 ? check : run, output, sizeof(output)), 2);
		snprintf(where, sizeof(where), "%s:2: store.max_bytes", d.config);
		cr_expect_not_null(strstr(output, where), "%s", output);
		snprintf(where, sizeof(where), "%s:3: foo", d.config);
		cr_expect_not_null(strstr(output, where), "%s", output);
	}
	write_config("store { max_bytes = 64M }\n");
	cr_expect_eq(run_once(check, output, sizeof(output)), 0);
	cr_expect_not_null(strstr(output, "no mistakes"));
	/* Looking touches nothing; the start that was refused has left its reason. */
	snprintf(where, sizeof(where), "%s/last_start", d.instance);
	cr_expect_not_null(strstr(read_text(where), "store.max_bytes"));
	cr_expect_eq(unlink(where), 0);
	snprintf(where, sizeof(where), "%s/writer.lock", d.instance);
	cr_expect_eq(unlink(where), 0);
	cr_expect_neq(rmdir(d.instance), -1, "the instance directory is no longer empty");
}

Test(shmetad, a_directory_that_everybody_can_write_is_refused, .init = begin, .fini = end)
{
	char *arguments[] = {"shmetad", "--dir", d.instance, "--source", "memory:", NULL};
	char output[4096];

	cr_assert_eq(chmod(d.instance, 0777), 0);
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 1);
	cr_expect_not_null(strstr(output, "everybody can write"), "%s", output);
}

Test(shmetad, a_board_of_a_newer_format_is_refused_and_left_alone, .init = begin_running, .fini = end)
{
	char *arguments[] = {"shmetad", "--dir", d.instance, "--source", "memory:", NULL};
	char output[4096], path[128];
	uint32_t features = 0x80000001, version = 0xff << 16;
	int fd;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	snprintf(path, sizeof(path), "%s/board", d.instance);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, &features, sizeof(features), offsetof(struct shmeta_board, incompat)), 4);
	cr_assert_eq(pwrite(fd, &version, sizeof(version), offsetof(struct shmeta_board, writer_version)), 4);
	close(fd);
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 1);
	cr_expect_not_null(strstr(output, "cannot take over"), "%s", output);
	cr_expect_eq(board().incompat, features);
}

Test(shmetad, sigterm_drains_ends_with_0_and_leaves_what_readers_need, .init = begin_running, .fini = end)
{
	struct shmeta_board before = board(), after;
	char path[160];

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	after = board();
	cr_expect_eq(after.phase, SHMETA_PHASE_STOPPED);
	cr_expect_eq(after.generation, before.generation);
	cr_expect_eq(after.epoch, before.epoch);
	snprintf(path, sizeof(path), "%s/control.sock", d.instance);
	cr_expect_eq(access(path, F_OK), -1, "the socket is still there");
	snprintf(path, sizeof(path), "%s/stats", d.instance);
	cr_expect_eq(access(path, R_OK), 0);
	cr_expect_null(strchr(read_text(d.log), '\r'), "progress was drawn into a file");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_expect_eq(board().epoch, before.epoch + 1);
}

Test(shmetad, the_heartbeat_moves_and_says_who_writes, .init = begin_running, .fini = end)
{
	uint64_t beat = board().heartbeat_ns;
	struct shmeta_board now = board();

	cr_expect(until(board().heartbeat_ns > beat));
	cr_expect_eq(now.writer_pid, (uint64_t)d.pid);
	cr_expect_eq(memcmp(now.signature, "SHMBOARD", 8), 0);
	cr_expect_eq(now.writer_version, SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH);
	cr_expect_gt(now.writer_start_ticks, 0);
	cr_expect_neq(now.boot_id[0] | now.boot_id[7] | now.boot_id[15], 0);
}

Test(shmetad, an_instance_path_longer_than_a_socket_address_works, .init = begin, .fini = end)
{
	char name[91], path[256], *arguments[] = {"shmetad", "--dir", path, "--source", "memory:", NULL};
	char socket_path[300];
	struct stat st;
	pid_t pid;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(path, sizeof(path), "%s/%s", d.instance, name);
	snprintf(socket_path, sizeof(socket_path), "%s/control.sock", path);
	pid = spawn(arguments);
	cr_expect(until(stat(socket_path, &st) == 0));
	kill(pid, SIGTERM);
	cr_expect_eq(run_reap(pid), 0);
}

Test(shmetad, a_directory_of_a_stranger_is_refused, .init = begin, .fini = end)
{
	char output[4096], linked[160], *arguments[] = {"shmetad", "--dir", d.instance, "--source", "memory:", NULL};

	if (geteuid() != 0)
		cr_skip_test("giving a directory to another user needs root");
	cr_assert_eq(chown(d.instance, 65534, 65534), 0);
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 1);
	cr_expect_not_null(strstr(output, "belongs to user 65534"), "%s", output);
	/* Our own directory behind a stranger's link. */
	cr_assert_eq(chown(d.instance, 0, 0), 0);
	snprintf(linked, sizeof(linked), "%s/link", d.dir);
	cr_assert_eq(symlink(d.instance, linked) | lchown(linked, 65534, 65534), 0);
	arguments[2] = linked;
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 1);
	cr_expect_not_null(strstr(output, "belongs to user 65534"), "%s", output);
	snprintf(linked, sizeof(linked), "%s/link/", d.dir);
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 1);
	cr_expect_not_null(strstr(output, "belongs to user 65534"), "%s", output);
}

Test(shmetad, a_directory_that_a_group_can_write_is_served_with_a_warning, .init = begin, .fini = end)
{
	cr_assert_eq(chmod(d.instance, 02770), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_expect_not_null(strstr(read_text(d.log), "can write to the instance directory"), "%s", read_text(d.log));
}

Test(shmetad, without_any_option_it_serves_from_the_service_managers_directories, .init = begin, .fini = end)
{
	char *arguments[] = {"shmetad", NULL}, path[160];
	struct stat st;
	pid_t pid;

	setenv("STATE_DIRECTORY", d.dir, 1);
	setenv("RUNTIME_DIRECTORY", d.instance, 1);
	pid = spawn(arguments);
	snprintf(path, sizeof(path), "%s/default/control.sock", d.instance);
	cr_expect(until(stat(path, &st) == 0));
	snprintf(path, sizeof(path), "%s/default.db", d.dir);
	cr_expect(until(stat(path, &st) == 0), "the source was not created");
	kill(pid, SIGTERM);
	cr_expect_eq(run_reap(pid), 0);
}

Test(shmetad, a_source_that_can_never_be_used_ends_it_with_2, .init = begin, .fini = end)
{
	char uri[160], output[4096], *arguments[] = {"shmetad", "--dir", d.instance, "--source", uri, NULL};

	write_config("this is no database, however long it may be");
	snprintf(uri, sizeof(uri), "sqlite:%s", d.config);
	cr_expect_eq(run_once(arguments, output, sizeof(output)), 2);
	cr_expect_not_null(strstr(output, d.config), "%s", output);
	cr_expect_eq(board().phase, SHMETA_PHASE_STOPPED);
}

/* ---- a source that hangs ---- */

/* Without a write-ahead log, whoever writes keeps all others out, and the engine waits as long as
 * its time limit allows. */
static sqlite3 *begin_hanging(void)
{
	sqlite3 *db;
	uint64_t polls;

	begin_running();
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode=DELETE"), 0);
	write_config("source { timeout_ms = 60s }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(sqlite3_open(d.db, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000);
	cr_assert_eq(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	/* The engine hangs once it polls no more. */
	do {
		polls = counter("polls");
		usleep(1200000);
	} while (counter("polls") != polls);
	return db;
}

Test(shmetad, a_source_that_hangs_stops_neither_the_heartbeat_nor_the_socket, .fini = end)
{
	sqlite3 *db;
	uint64_t beat;
	int fd;

	db = begin_hanging();
	beat = board().heartbeat_ns;
	cr_expect(until(board().heartbeat_ns > beat));
	fd = dial();
	cr_expect(answers(fd));
	kill(d.pid, SIGHUP);
	cr_expect(until(last_reload(fd, true, "is in use")));
	close(fd);
	sqlite3_close(db);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
}

Test(shmetad, a_second_sigterm_ends_it_at_once, .fini = end)
{
	sqlite3 *db;

	db = begin_hanging();
	kill(d.pid, SIGTERM);
	cr_assert(until(board().phase == SHMETA_PHASE_DRAINING));
	usleep(300000);
	cr_expect_eq(board().phase, SHMETA_PHASE_DRAINING, "it did not wait for the source");
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_expect_eq(board().phase, SHMETA_PHASE_STOPPED);
	sqlite3_close(db);
	/* What it left is good for the next one. */
	cr_expect_eq(run_daemon_start(&d, NULL), 0);
}

/* ---- reloads ---- */

static char *running_config(int fd)
{
	json_t *status = status_of(fd);
	char *text = json_dumps(json_object_get(status, "config"), JSON_SORT_KEYS);

	json_decref(status);
	return text;
}

Test(shmetad, sighup_with_a_bad_file_changes_nothing_and_says_so, .init = begin, .fini = end)
{
	char *before, *after, where[160];
	int fd;

	write_config("ttl { topic_ms = 7s }\nttl_override \"a\" { ttl_ms = 1s }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	fd = dial();
	before = running_config(fd);
	write_config("ttl { topic_ms = 8s }\nttl { list_ms = never }\nttl_override \"b\" { ttl_ms = 1s }\n");
	kill(d.pid, SIGHUP);
	snprintf(where, sizeof(where), "%s:2: ttl.list_ms", d.config);
	cr_expect(until(last_reload(fd, false, where)));
	after = running_config(fd);
	cr_expect_str_eq(before, after);
	cr_expect_not_null(strstr(read_text(d.log), where), "the log does not name the line");
	free(before);
	free(after);
	close(fd);
}

/* The daemon with its words in a pipe that holds no more than a page of them. Returns the end to
 * read from. */
static int spawn_into_pipe(void)
{
	char uri[160], *arguments[] = {"shmetad",  "--config", d.config,   "--dir", d.instance,
	                               "--source", uri,        "--create", NULL};
	int out[2];

	snprintf(uri, sizeof(uri), "sqlite:%s", d.db);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	cr_assert_gt(fcntl(out[1], F_SETPIPE_SZ, 4096), 0);
	d.pid = run_fork();
	if (d.pid == 0) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execv(places_shmetad, arguments);
		_exit(127);
	}
	close(out[1]);
	return out[0];
}

Test(shmetad, sighup_during_the_start_is_a_reload_as_soon_as_it_runs, .init = begin, .fini = end)
{
	char text[4096] = "control { write_users = \"";
	int out, fd, said = 0;

	/* A warning for each, so that the start goes on only when they are read. */
	for (int i = 0; i < 160; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s_n%d", i > 0 ? "," : "", i);
	strcat(text, "\" }\n");
	write_config(text);
	out = spawn_into_pipe();
	cr_assert(until(ioctl(out, FIONREAD, &said) == 0 && said > 0));
	write_config("ttl { topic_ms = 8s }\n");
	kill(d.pid, SIGHUP);
	cr_assert_gt(fcntl(out, F_SETPIPE_SZ, 1 << 20), 0);
	cr_assert_gt(read(out, text, sizeof(text)), 0);
	cr_assert_eq(run_daemon_wait(&d, 0), 0);
	fd = dial();
	cr_expect(until(last_reload(fd, true, "is in use")));
	close(fd);
	close(out);
}

Test(shmetad, a_good_reload_takes_over_what_it_may_and_names_what_needs_a_restart, .init = begin, .fini = end)
{
	struct shmeta_frame_answer got;
	char text[2048], *config;
	int fd;

	write_config("ttl { topic_ms = 7s }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	fd = dial();
	write_config("ttl { topic_ms = 8s }\nstore { max_bytes = 2G }\n");
	cr_assert(ask(fd, SHMETA_FRAME_RELOAD, 9));
	cr_assert(answer(fd, &got, text, sizeof(text)));
	cr_expect_eq(got.status, SHMETA_OK, "%s", text);
	cr_expect_eq(got.head.id, 9);
	cr_expect_not_null(strstr(text, "restart: store.max_bytes"), "%s", text);
	config = running_config(fd);
	cr_expect_not_null(strstr(config, "\"8s\""));
	cr_expect_null(strstr(config, "\"value\": \"2G\""));
	free(config);
	write_config("ttl { topic_ms = 0 }\n");
	cr_assert(ask(fd, SHMETA_FRAME_RELOAD, 10));
	cr_assert(answer(fd, &got, text, sizeof(text)));
	cr_expect_eq(got.status, SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(text, ":1: ttl.topic_ms"), "%s", text);
	close(fd);
}

Test(shmetad, config_shows_what_is_in_force_and_what_waits_for_a_restart, .init = begin, .fini = end)
{
	struct shmeta_frame_answer got;
	json_t *config, *option;
	size_t i, seen = 0;
	int fd;

	write_config("ttl { topic_ms = 7s }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	fd = dial();
	write_config("ttl { topic_ms = 8s }\nstore { max_bytes = 2G }\nsource { password_file = /tmp/other }\n");
	cr_assert(ask(fd, SHMETA_FRAME_RELOAD, 9));
	cr_assert(answer(fd, &got, NULL, 0));
	config = object_of(fd, SHMETA_FRAME_CONFIG);
	cr_assert_not_null(config);
	json_array_foreach(json_object_get(config, "options"), i, option)
	{
		const char *name = json_string_value(json_object_get(option, "name"));
		const char *value = json_string_value(json_object_get(option, "value"));
		const char *pending = json_string_value(json_object_get(option, "pending"));
		bool other = strcmp(name, "store.max_bytes") == 0;

		if (other)
			cr_expect_str_eq(value, "1G");
		if (strcmp(name, "ttl.topic_ms") == 0)
			cr_expect_str_eq(value, "8s");
		if (other || strcmp(name, "source.password_file") == 0)
			cr_expect_str_eq(pending, other ? "2G" : "/tmp/other");
		else
			cr_expect_null(pending, "%s: %s", name, pending);
		seen++;
	}
	cr_expect_gt(seen, 20);
	cr_expect(json_is_true(json_object_get(json_object_get(config, "last_reload"), "accepted")));
	json_decref(config);
	close(fd);
}

/* ---- the service manager ---- */

struct manager {
	int fd;
	char path[128];
	char heard[65536];
	struct {
		char name[64];
		int fd;
	} kept[16];
	size_t count;
};

static void manager_begin(struct manager *m)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memset(m, 0, sizeof(*m));
	snprintf(m->path, sizeof(m->path), "%s/notify", d.dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", m->path);
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(m->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", m->path, 1);
}

static void manager_drop(struct manager *m, const char *name)
{
	for (size_t i = 0; i < m->count; i++) {
		if (strcmp(m->kept[i].name, name) != 0)
			continue;
		close(m->kept[i].fd);
		m->kept[i--] = m->kept[--m->count];
	}
}

/* Take what has come; each message becomes a line, its fields separated by '|'. */
static void manager_listen(struct manager *m)
{
	for (;;) {
		char text[4096], control[CMSG_SPACE(sizeof(int))] = {0}, *name, *line;
		struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
		struct msghdr message = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
		ssize_t got = recvmsg(m->fd, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *header;

		if (got <= 0)
			return;
		text[got] = '\0';
		name = strstr(text, "FDNAME=");
		header = CMSG_FIRSTHDR(&message);
		if (header != NULL && header->cmsg_type == SCM_RIGHTS && name != NULL && m->count < 16) {
			memcpy(&m->kept[m->count].fd, CMSG_DATA(header), sizeof(int));
			snprintf(m->kept[m->count++].name, sizeof(m->kept[0].name), "%.*s",
			         (int)strcspn(name + 7, "\n"), name + 7);
		} else if (strncmp(text, "FDSTOREREMOVE=1", 15) == 0 && name != NULL) {
			manager_drop(m, name + 7);
		}
		for (line = text; *line != '\0'; line++)
			if (*line == '\n')
				*line = '|';
		snprintf(m->heard + strlen(m->heard), sizeof(m->heard) - strlen(m->heard), "%s\n", text);
	}
}

static bool hears(struct manager *m, const char *words)
{
	return until((manager_listen(m), strstr(m->heard, words) != NULL));
}

static void manager_end(struct manager *m)
{
	close(m->fd);
	unlink(m->path);
	for (size_t i = 0; i < m->count; i++)
		close(m->kept[i].fd);
}

Test(shmetad, the_service_manager_hears_each_step_in_order, .init = begin, .fini = end)
{
	static const char *const steps[] = {"EXTEND_TIMEOUT_USEC=",
	                                    "STATUS=starting",
	                                    "READY=1",
	                                    "RELOADING=1|MONOTONIC_USEC=",
	                                    "READY=1",
	                                    "RELOADING=1|MONOTONIC_USEC=",
	                                    "READY=1|STATUS=the reload was refused",
	                                    "STOPPING=1"};
	struct manager m;
	const char *at;
	char *generation;

	manager_begin(&m);
	setenv("WATCHDOG_USEC", "400000", 1);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_expect(hears(&m, "READY=1"));
	/* Ready means that there is something to read. */
	cr_expect_neq(board().generation, 0);
	cr_expect(hears(&m, "STATUS=serving generation"));
	cr_expect(hears(&m, "WATCHDOG=1"));
	kill(d.pid, SIGHUP);
	cr_expect(until((manager_listen(&m), (generation = strstr(m.heard, "RELOADING=1")) != NULL &&
	                                             strstr(generation, "READY=1") != NULL)));
	write_config("nonsense");
	kill(d.pid, SIGHUP);
	cr_expect(hears(&m, "READY=1|STATUS=the reload was refused"));
	cr_expect(hears(&m, "the last reload was refused: "));
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_expect(hears(&m, "STOPPING=1"));
	at = m.heard;
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		at = strstr(at, steps[i]);
		cr_assert_not_null(at, "step %zu, %s, is missing or out of order in:\n%s", i, steps[i], m.heard);
		at += strlen(steps[i]);
	}
	manager_end(&m);
}

Test(shmetad, it_is_not_ready_before_there_is_something_to_read, .init = begin_running, .fini = end)
{
	struct manager m;
	sqlite3 *db;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode=DELETE"), 0);
	write_config("source { timeout_ms = 100ms }");
	/* A cold start on a source that cannot answer. */
	snprintf(d.instance, sizeof(d.instance), "%s/cold", d.dir);
	cr_assert_eq(sqlite3_open(d.db, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	manager_begin(&m);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	cr_expect(hears(&m, "STATUS=degraded"), "%s", m.heard);
	cr_expect_null(strstr(m.heard, "READY=1"), "%s", m.heard);
	cr_expect_eq(board().generation, 0);
	cr_assert_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	cr_expect(hears(&m, "READY=1"));
	cr_expect_neq(board().generation, 0);
	sqlite3_close(db);
	manager_end(&m);
}

/* As systemd does: the descriptors from 3 on, their names, and for whom. */
static void spawn_with_kept(struct manager *m)
{
	d.pid = run_fork();
	if (d.pid == 0) {
		char uri[128], names[1024] = "", text[32];
		int log = open(d.log, O_WRONLY | O_CREAT | O_APPEND, 0644), spare[16];

		dup2(log, 1);
		dup2(log, 2);
		for (size_t i = 0; i < m->count; i++)
			spare[i] = fcntl(m->kept[i].fd, F_DUPFD_CLOEXEC, 100);
		for (size_t i = 0; i < m->count; i++) {
			dup2(spare[i], 3 + (int)i);
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i > 0 ? ":" : "",
			         m->kept[i].name);
		}
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		snprintf(text, sizeof(text), "%zu", m->count);
		setenv("LISTEN_FDS", text, 1);
		setenv("LISTEN_FDNAMES", names, 1);
		snprintf(uri, sizeof(uri), "sqlite:%s", d.db);
		execl(places_shmetad, "shmetad", "--config", d.config, "--dir", d.instance, "--source", uri, "--create",
		      (char *)NULL);
		_exit(127);
	}
}

static void start_with_kept(struct manager *m)
{
	uint64_t epoch = run_daemon_epoch(&d);

	spawn_with_kept(m);
	cr_assert_eq(run_daemon_wait(&d, epoch), 0);
}

/* A socket as shmetad.socket binds it, among what is passed. */
static void manager_bind(struct manager *m, const char *name, const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert(type == SOCK_DGRAM || listen(fd, 16) == 0);
	m->kept[m->count].fd = fd;
	snprintf(m->kept[m->count++].name, sizeof(m->kept[0].name), "%s", name);
}

Test(shmetad, who_connects_to_the_service_managers_socket_is_served_whenever_the_writer_comes, .init = begin,
     .fini = end)
{
	char path[160], other[160];
	struct manager m = {.fd = -1}; /* who hears nothing */
	struct stat before, after;
	int early, between, late;

	snprintf(path, sizeof(path), "%s/control.sock", d.instance);
	snprintf(other, sizeof(other), "%s/other.sock", d.dir);
	manager_bind(&m, "datagrams", other, SOCK_DGRAM);
	manager_bind(&m, "control", path, SOCK_SEQPACKET);
	cr_assert_eq(stat(path, &before), 0);
	early = dial();
	start_with_kept(&m);
	cr_expect(answers(early), "it waited in vain");
	cr_expect_not_null(strstr(read_text(d.log), "closed a descriptor of the service manager named 'datagrams'"));
	cr_expect_eq(run_daemon_end(&d, SIGKILL), 128 + SIGKILL);
	between = dial();
	start_with_kept(&m);
	cr_expect(answers(between), "the next writer does not take who came in between");
	/* It is not the daemon's to remove. */
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_expect_eq(stat(path, &after), 0);
	cr_expect_eq(after.st_ino, before.st_ino);
	late = dial();
	cr_expect_geq(late, 0);
	close(early);
	close(between);
	close(late);
	unlink(other);
	manager_end(&m);
}

Test(shmetad, a_passed_socket_that_agents_would_not_find_is_refused, .init = begin, .fini = end)
{
	char other[160], sentence[320];
	struct manager m = {.fd = -1}; /* who hears nothing */

	snprintf(other, sizeof(other), "%s/other.sock", d.dir);
	manager_bind(&m, "control", other, SOCK_SEQPACKET);
	spawn_with_kept(&m);
	cr_expect_eq(run_reap(d.pid), 2);
	d.pid = 0;
	snprintf(sentence, sizeof(sentence), "listens on '%s' instead of %s/control.sock", other, d.instance);
	cr_expect_not_null(strstr(read_text(d.log), sentence), "%s", read_text(d.log));
	unlink(other);
	manager_end(&m);
}

Test(shmetad, a_killed_writer_gets_every_registration_back_from_the_descriptor_store, .init = begin, .fini = end)
{
	struct registered one, two;
	struct manager m;
	uint64_t epoch;

	manager_begin(&m);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	one = enroll(8);
	two = enroll(8);
	cr_assert_neq(one.page, MAP_FAILED);
	cr_assert_neq(two.page, MAP_FAILED);
	cr_assert(until((manager_listen(&m), m.count == 4)));
	epoch = board().epoch;
	cr_assert_eq(board().registrations, 2);
	cr_assert_eq(run_daemon_end(&d, SIGKILL), 128 + SIGKILL);
	manager_listen(&m);
	/* The second process dies while there is no writer. */
	close(two.fd);
	two.fd = -1;
	start_with_kept(&m);
	cr_expect_eq(one.page->epoch, epoch + 1);
	cr_expect_eq(one.page->revoked, 0);
	cr_expect(answers(one.fd), "the kept connection no longer answers");
	/* Kept by name, it was still open; without its process it is revoked and then dropped. */
	cr_expect(until(shmeta_observe(&two.page->revoked) == 1));
	cr_expect(until(board().registrations == 1), "%u", board().registrations);
	cr_expect(until((manager_listen(&m), m.count == 2)), "%zu descriptors are kept", m.count);
	leave(&one);
	cr_expect(until(board().registrations == 0));
	cr_expect(until((manager_listen(&m), m.count == 0)), "%zu descriptors are kept", m.count);
	leave(&two);
	manager_end(&m);
}

/* ---- registrations ---- */

Test(shmetad, a_registration_page_is_sealed_and_says_what_was_granted, .init = begin_running, .fini = end)
{
	struct registered r = enroll(100);
	int seals;

	cr_assert_neq(r.page, MAP_FAILED);
	seals = fcntl(r.memfd, F_GET_SEALS);
	cr_expect_eq(seals & (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	cr_expect_eq(ftruncate(r.memfd, 0), -1);
	cr_expect_eq(ftruncate(r.memfd, (off_t)r.bytes * 2), -1);
	cr_expect_eq(r.bytes, shmeta__slots_bytes(100));
	cr_expect_eq(r.answer.head.id, 5);
	cr_expect_eq(r.answer.slot_count, 100);
	cr_expect_eq(r.answer.epoch, board().epoch);
	cr_expect_eq(memcmp(r.page->signature, "SHMSLOTS", 8), 0);
	cr_expect_eq(r.page->slot_count, 100);
	cr_expect_eq(r.page->registration, r.answer.registration);
	cr_expect_eq(r.page->agent_pid, 4242);
	cr_expect_eq(board().registrations, 1);
	leave(&r);
}

Test(shmetad, a_wish_for_too_many_slots_is_granted_in_part, .init = begin_running, .fini = end)
{
	struct registered many = enroll(UINT32_MAX), none = enroll(0);

	cr_expect_eq(many.answer.slot_count, SHMETA_SLOTS_MAX);
	cr_expect_eq(none.answer.slot_count, SHMETA_SLOTS_DEFAULT);
	leave(&many);
	leave(&none);
}

Test(shmetad, a_closed_connection_revokes_at_once_and_lets_go_a_grace_period_later, .init = begin, .fini = end)
{
	struct registered r;
	double closed_at;

	write_config("store { grace_ms = 2s }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	r = enroll(4);
	cr_assert_neq(r.page, MAP_FAILED);
	cr_expect_eq(r.page->revoked, 0);
	closed_at = run_now_s();
	close(r.fd);
	r.fd = -1;
	cr_expect(until(shmeta_observe(&r.page->revoked) == 1));
	cr_expect_eq(board().registrations, 1, "let go of at once");
	cr_expect(until(board().registrations == 0));
	cr_expect_geq(run_now_s() - closed_at, 2.0, "let go of too early");
	leave(&r);
}

Test(shmetad, readers_are_listed_with_what_the_kernel_knows_of_them, .init = begin_running, .fini = end)
{
	struct registered r = enroll(4);
	static struct shmeta_stats copy;
	struct shmeta_stats *page;
	struct shmeta_err err;
	char path[160];
	int fd;

	cr_assert_neq(r.page, MAP_FAILED);
	shmeta__slot(r.page, 2)->counters.found = 123;
	shmeta__slot(r.page, 2)->in_use = 1;
	/* A reader that lies about its page shows in its own row at most. */
	r.page->slot_count = UINT32_MAX;
	memset(r.page->signature, 0xff, 8);
	snprintf(path, sizeof(path), "%s/stats", d.instance);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	page = mmap(NULL, sizeof(*page), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	cr_assert_neq(page, MAP_FAILED);
	cr_assert(until(shmeta__stats_copy(page, &copy, &err) == SHMETA_OK && copy.reader_count == 1 &&
	                copy.reader[0].counters.found == 123));
	cr_expect_eq(copy.reader[0].pid, (uint64_t)getpid());
	cr_expect_eq(copy.reader[0].uid, geteuid());
	cr_expect_eq(copy.reader[0].agent_pid, 4242);
	cr_expect_eq(copy.reader[0].slots, 1);
	cr_expect_str_eq(copy.reader[0].name, "tester?[31m");
	cr_expect_eq(copy.all_readers.found, 123);
	leave(&r);
	/* Those who have left still count in the sum. */
	cr_assert(until(shmeta__stats_copy(page, &copy, &err) == SHMETA_OK && copy.reader_count == 0));
	cr_expect_eq(copy.all_readers.found, 123);
	munmap(page, sizeof(*page));
}

/* ---- requests ---- */

static bool ask_refresh(int fd, uint64_t id, uint32_t cls, const char *topic)
{
	struct {
		struct shmeta_frame_refresh request;
		char name[256];
	} frame = {.request = {.cls = cls, .name_bytes = (uint32_t)strlen(topic), .timeout_ms = 5000}};
	size_t bytes = sizeof(frame.request) + strlen(topic);

	frame.request.head = head(SHMETA_FRAME_REFRESH, bytes, id);
	memcpy(frame.name, topic, strlen(topic));
	return send_bytes(fd, &frame, bytes);
}

Test(shmetad, pipelined_refreshes_are_each_answered_once_under_their_own_number, .init = begin_running, .fini = end)
{
	enum { REQUESTS = 200 };
	int seen[REQUESTS] = {0}, fd = dial();

	for (uint64_t i = 0; i < REQUESTS; i++)
		cr_assert(ask_refresh(fd, i, (uint32_t)(i % SHMETA_CLASS_COUNT), i % 2 ? "" : "no-such-topic"));
	for (int i = 0; i < REQUESTS; i++) {
		struct shmeta_frame_answer got;
		char text[256];

		cr_assert(answer(fd, &got, text, sizeof(text)), "answer %d is missing", i);
		cr_assert_lt(got.head.id, REQUESTS);
		cr_expect_geq(got.status, 0, "%d: %s", got.status, text);
		seen[got.head.id]++;
	}
	for (int i = 0; i < REQUESTS; i++)
		cr_expect_eq(seen[i], 1, "request %d was answered %d times", i, seen[i]);
	close(fd);
}

Test(shmetad, answers_to_a_client_that_has_gone_reach_nobody_else, .init = begin_running, .fini = end)
{
	struct shmeta_frame_answer got;

	for (int i = 0; i < 50; i++) {
		int gone = dial(), next;

		cr_assert(ask_refresh(gone, 1, SHMETA_CLASS_TOPIC, "t"));
		close(gone);
		next = dial();
		cr_assert(ask_refresh(next, 2, SHMETA_CLASS_TOPIC, "t"));
		cr_assert(answer(next, &got, NULL, 0));
		cr_expect_eq(got.head.id, 2);
		close(next);
	}
}

/* ---- abuse ---- */

/* Each of these frames closes the connection that sent it and no other. */
static size_t hostile_frame(int kind, unsigned char *frame)
{
	struct shmeta_frame good = head(SHMETA_FRAME_STATUS, sizeof(good), 1);
	struct shmeta_frame_refresh refresh = {.name_bytes = 0};
	size_t bytes = sizeof(good);

	memset(frame, 0x5a, SHMETA_FRAME_MAX);
	switch (kind) {
	case 0: /* a single byte */
		bytes = 1;
		break;
	case 1: /* noise */
		return 64;
	case 2: /* a length that is not the packet's */
		good.bytes = 0xffffffff;
		break;
	case 3:
		good.bytes = 0;
		break;
	case 4: /* another version */
		good.version = 2;
		break;
	case 5: /* no such type */
		good.type = 999;
		break;
	case 6: /* what only the writer sends */
		good.type = SHMETA_FRAME_ANSWER;
		break;
	case 7: /* too short for its type */
		good.type = SHMETA_FRAME_REGISTER;
		break;
	case 8: /* trailing bytes */
		good.bytes = sizeof(good) + 8;
		bytes = sizeof(good) + 8;
		break;
	case 9: /* parts that do not fit, by wrapping around */
		refresh.head = head(SHMETA_FRAME_REFRESH, sizeof(refresh), 1);
		refresh.name_bytes = 0x80000000;
		refresh.tenant_bytes = 0x80000000;
		memcpy(frame, &refresh, sizeof(refresh));
		return sizeof(refresh);
	case 10: /* the largest packet */
		good.bytes = SHMETA_FRAME_MAX;
		bytes = SHMETA_FRAME_MAX;
		break;
	case 11: /* no such class */
		refresh.head = head(SHMETA_FRAME_REFRESH, sizeof(refresh), 1);
		refresh.cls = SHMETA_CLASS_COUNT;
		memcpy(frame, &refresh, sizeof(refresh));
		return sizeof(refresh);
	default:
		return 0;
	}
	memcpy(frame, &good, bytes < sizeof(good) ? bytes : sizeof(good));
	return bytes;
}

Test(shmetad, hostile_frames_close_only_the_connection_that_sent_them, .init = begin_running, .fini = end)
{
	static unsigned char frame[SHMETA_FRAME_MAX];
	struct registered bystander = enroll(4);
	size_t bytes, kinds = 0;

	for (int kind = 0; (bytes = hostile_frame(kind, frame)) > 0; kind++, kinds++) {
		int fd = dial();

		cr_assert(send_bytes(fd, frame, bytes), "kind %d", kind);
		cr_expect(closed(fd), "kind %d does not close its connection", kind);
		cr_expect(answers(bystander.fd), "kind %d disturbed another connection", kind);
		close(fd);
	}
	cr_expect(until(counter("bad_frames") == kinds)); /* the answer is made each 100 ms */
	cr_expect_eq(bystander.page->revoked, 0);
	leave(&bystander);
}

Test(shmetad, a_frame_longer_than_64_KiB_closes_its_connection, .init = begin_running, .fini = end)
{
	static unsigned char frame[SHMETA_FRAME_MAX + 1];
	int fd = dial();

	cr_assert(send_bytes(fd, frame, sizeof(frame)));
	cr_expect(closed(fd));
	cr_expect_eq(counter("bad_frames"), 1);
	close(fd);
}

static size_t descriptors_of(pid_t pid)
{
	char path[64];
	size_t count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	cr_assert_not_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

Test(shmetad, passed_descriptors_are_not_received, .init = begin_running, .fini = end)
{
	struct shmeta_frame frame = head(SHMETA_FRAME_STATUS, sizeof(frame), 77);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} space = {0};
	struct iovec iov = {.iov_base = &frame, .iov_len = sizeof(frame)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes, .msg_controllen = sizeof(space.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = dial(), passed[8];
	struct shmeta_frame_answer got;
	size_t before;

	cr_assert(answers(fd));
	before = descriptors_of(d.pid);
	for (size_t i = 0; i < 8; i++)
		passed[i] = fd;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(passed));
	memcpy(CMSG_DATA(header), passed, sizeof(passed));
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)sizeof(frame));
		cr_assert(answer(fd, &got, NULL, 0));
	}
	cr_expect_eq(descriptors_of(d.pid), before);
	close(fd);
}

Test(shmetad, a_client_that_reads_late_gets_every_answer_in_full, .init = begin_running, .fini = end)
{
	enum { REQUESTS = 1000 };
	uint64_t sent = 0, got = 0;
	int fd = dial();

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (got < REQUESTS) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		struct shmeta_frame_answer one;

		while (sent < REQUESTS && ask(fd, SHMETA_FRAME_STATUS, sent))
			sent++;
		cr_assert_eq(poll(&ready, 1, 10000), 1, "%lu sent, %lu answered", (unsigned long)sent,
		             (unsigned long)got);
		cr_assert(answer(fd, &one, NULL, 0));
		cr_assert_eq(one.head.id, got);
		cr_assert_gt(one.text_bytes, 1000);
		got++;
	}
	close(fd);
}

Test(shmetad, a_client_that_never_reads_its_answers_is_closed_and_nobody_else, .init = begin_running, .fini = end)
{
	struct registered bystander = enroll(4);
	struct pollfd waiting = {.events = POLLOUT};
	int fd = dial();

	fcntl(fd, F_SETFL, O_NONBLOCK);
	waiting.fd = fd;
	for (uint64_t i = 0; i < 100000; i++) {
		if (ask(fd, SHMETA_FRAME_STATUS, i))
			continue;
		if (errno == EPIPE || errno == ECONNRESET)
			break;
		/* The writer has stopped reading this connection: it holds what it may, and no
		 * more. */
		if (poll(&waiting, 1, 500) == 0)
			break;
	}
	cr_expect(answers(bystander.fd), "another connection is no longer served");
	cr_expect_lt(counter("connections"), 4);
	/* Gone with its answers unread, it leaves nothing behind. */
	close(fd);
	cr_expect(until(counter("connections") == 2));
	leave(&bystander);
}

Test(shmetad, a_user_has_no_more_unregistered_connections_than_allowed, .init = begin, .fini = end)
{
	enum { ALLOWED = 5 };
	int fds[ALLOWED], over;
	struct shmeta_frame_answer got;
	char text[256];

	write_config("control { connections_per_user = 5 }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	for (int i = 0; i < ALLOWED; i++) {
		fds[i] = dial();
		cr_expect(answers(fds[i]), "connection %d", i);
	}
	over = dial();
	cr_assert(answer(over, &got, text, sizeof(text)));
	cr_expect_eq(got.status, SHMETA_ERR_BUSY);
	cr_expect_not_null(strstr(text, "this user"), "%s", text);
	cr_expect(closed(over));
	close(over);
	close(fds[0]);
	over = dial();
	cr_expect(until(answers(over) || (close(over), over = dial(), false)), "a freed place is not given again");
	close(over);
	for (int i = 1; i < ALLOWED; i++)
		close(fds[i]);
}

Test(shmetad, registered_connections_do_not_use_up_the_others, .init = begin, .fini = end)
{
	struct registered readers[6];
	int fd;

	write_config("control { connections_per_user = 2 registrations_per_user = 5 }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	for (int i = 0; i < 6; i++) {
		readers[i] = enroll(2);
		cr_expect_eq(readers[i].memfd >= 0, i < 5, "reader %d", i);
	}
	fd = dial();
	cr_expect(answers(fd));
	close(fd);
	for (int i = 0; i < 6; i++)
		leave(&readers[i]);
}

Test(shmetad, the_last_connections_are_kept_for_the_administrator, .init = begin, .fini = end)
{
	enum { TOTAL = 12, RESERVED = 4 };
	int mine[TOTAL], fd, report[2];
	char path[160], others = 0;
	pid_t pid;

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	write_config("control { connections_max = 12 connections_reserved = 4 user_share = 100 }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	snprintf(path, sizeof(path), "%s/control.sock", d.instance);
	cr_assert_eq(chmod(path, 0666), 0);
	cr_assert_eq(pipe2(report, O_CLOEXEC), 0);
	pid = run_fork();
	if (pid == 0) {
		char served = 0;

		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		for (int i = 0; i < TOTAL; i++)
			served = (char)(served + answers(dial()));
		if (write(report[1], &served, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(report[0], &others, 1), 1);
	cr_expect_eq(others, TOTAL - RESERVED);
	for (int i = 0; i < RESERVED; i++) {
		mine[i] = dial();
		cr_expect(answers(mine[i]), "the administrator's connection %d", i);
	}
	fd = dial();
	cr_expect_not(answers(fd), "more than the total");
	close(fd);
	kill(pid, SIGKILL);
	run_reap(pid);
	for (int i = 0; i < RESERVED; i++)
		close(mine[i]);
	close(report[0]);
	close(report[1]);
}

Test(shmetad, somebody_else_may_not_reload, .init = begin_running, .fini = end)
{
	char path[160];
	pid_t pid;

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	snprintf(path, sizeof(path), "%s/control.sock", d.instance);
	cr_assert_eq(chmod(path, 0666), 0);
	pid = run_fork();
	if (pid == 0) {
		struct shmeta_frame_answer got;
		int fd;

		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		fd = dial();
		if (!ask(fd, SHMETA_FRAME_RELOAD, 1) || !answer(fd, &got, NULL, 0))
			_exit(2);
		_exit(got.status == SHMETA_ERR_DENIED && answers(fd) ? 0 : 3);
	}
	cr_expect_eq(run_reap(pid), 0);
	cr_expect_eq(counter("reloads"), 0);
	cr_expect_eq(counter("denied"), 1);
}

Test(shmetad, a_connection_that_never_speaks_is_closed_long_before_an_idle_one_would_be, .init = begin, .fini = end)
{
	int silent, idle;

	write_config("control { first_frame_ms = 300ms idle_s = 1h }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	silent = dial();
	idle = dial();
	cr_assert(answers(idle));
	cr_expect(closed(silent));
	cr_expect(answers(idle));
	close(silent);
	close(idle);
}

Test(shmetad, idle_connections_are_closed_but_registered_ones_stay, .init = begin, .fini = end)
{
	struct registered reader;
	int idle;

	write_config("control { first_frame_ms = 1m idle_s = 1s }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	reader = enroll(2);
	idle = dial();
	cr_assert(answers(idle));
	cr_expect(closed(idle));
	/* It has been quiet for longer. */
	cr_expect(answers(reader.fd));
	cr_expect_eq(reader.page->revoked, 0);
	close(idle);
	leave(&reader);
}

Test(shmetad, running_out_of_descriptors_is_survived, .init = begin, .fini = end)
{
	struct rlimit limit = {.rlim_cur = 40, .rlim_max = 40};
	int fds[100], fd;

	write_config("control { connections_max = 100 connections_per_user = 100 }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(prlimit(d.pid, RLIMIT_NOFILE, &limit, NULL), 0);
	for (int i = 0; i < 100; i++)
		fds[i] = dial();
	cr_expect(until(strstr(read_text(d.log), "out of file descriptors") != NULL));
	/* Those that there is no room for are closed; left waiting, they would keep the writer busy
	 * with nothing else. */
	cr_expect(closed(fds[99]));
	for (int i = 0; i < 100; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	fd = dial();
	cr_expect(until(answers(fd) || (close(fd), fd = dial(), false)));
	close(fd);
}

Test(shmetad, a_flood_of_bad_frames_is_not_a_flood_of_log_lines, .init = begin_running, .fini = end)
{
	char byte = 1;
	size_t lines = 0;

	for (int i = 0; i < 200; i++) {
		int fd = dial();

		cr_assert(send_bytes(fd, &byte, 1));
		cr_assert(closed(fd));
		close(fd);
	}
	cr_expect_eq(counter("bad_frames"), 200);
	for (const char *at = read_text(d.log); (at = strstr(at, "does not parse")) != NULL; at++)
		lines++;
	cr_expect_leq(lines, 10);
	cr_expect_geq(lines, 1);
}
