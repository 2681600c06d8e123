/* SPDX-License-Identifier: Apache-2.0
 * Two users attack the writer's socket, the same way each; a third one opens, registers, reads
 * fresh and writes meanwhile, and is not shut out of anything. How long that takes is printed by
 * `make faults`. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/page/slots.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"

TestSuite(fairness, .timeout = 3600); /* make faults takes its time */

enum {
	HOSTILE = 2,
	HOSTILE_UID = 4001,
	THIRD_UID = 4003,
	WAIT_MS = 20000,
	ROUNDS_MAX = 200,
	CONNECTIONS = 8,
	UNIT_NICE = -10
};

struct outcome {
	uint32_t registered, fresh, written; /* of so many rounds */
	double register_ms[ROUNDS_MAX], fresh_ms[ROUNDS_MAX], write_ms[ROUNDS_MAX];
	char sentence[400]; /* of the first failure */
};

struct page {
	uint64_t work[HOSTILE]; /* of an attack: whatever it counts */
	struct outcome quiet, attacked;
};

static struct run_daemon d;
static struct page *page;
static pid_t attacker[HOSTILE];

static uint32_t rounds(void)
{
	return run_rounds(10, ROUNDS_MAX);
}

static void begin(void)
{
	struct rlimit limit;

	if (geteuid() != 0)
		cr_skip_test("needs root to be several users");
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(page, MAP_FAILED);
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(
		run_daemon_configure(&d,
	                             "control { group = \"\" write_users = \"4001,4002,4003\" first_frame_ms = 60s }\n"
	                             "ttl { topic_ms = 1 }\nlog { level = err }\n",
	                             ""),
		0);
	/* The daemon has the unit's priority, as an attacker spends the processor's time, too. */
	cr_assert_eq(setpriority(PRIO_PROCESS, 0, UNIT_NICE), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(setpriority(PRIO_PROCESS, 0, 0), 0);
}

static void end(void)
{
	for (int i = 0; i < HOSTILE; i++)
		if (attacker[i] > 0) {
			(void)kill(attacker[i], SIGKILL);
			(void)run_reap(attacker[i]);
		}
	run_daemon_done(&d);
}

/* A child that is another user, in the group that may read and connect. */
static pid_t fork_as(uid_t uid)
{
	pid_t pid = run_fork();

	if (pid == 0 &&
	    (setgroups(0, NULL) != 0 || setresuid(uid, uid, uid) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0))
		_exit(99);
	return pid;
}

/* ---- the third one ---- */

static void failed(struct outcome *o, struct shmeta *instance, const char *what, enum shmeta_status status)
{
	char text[300] = "";

	if (o->sentence[0] == '\0')
		(void)snprintf(o->sentence, sizeof o->sentence, "%s: %s: %s", what, shmeta_strerror(status),
		               instance != NULL ? shmeta_last_error(instance, text, sizeof text) : "");
}

/* One life of a process: it opens, registers, reads fresh, writes. */
static void live(struct outcome *o, uint32_t round)
{
	struct shmeta_read how = {
		.size = sizeof how, .consistency = SHMETA_FRESH, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	const struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"third", 5}, .offset = round + 1};
	double began = run_now_s();
	struct shmeta *instance = run_daemon_open(&d, "third", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	struct shmeta_client *client = NULL;
	struct shmeta_result result = {.status = SHMETA_ERR_BUSY};
	struct shmeta_freshness fresh;
	struct shmeta_topic topic;
	enum shmeta_status status;

	if (reader == NULL) {
		failed(o, instance, "registering", SHMETA_ERR_TIMEOUT);
		shmeta_close(instance);
		return;
	}
	o->register_ms[o->registered++] = (run_now_s() - began) * 1000;
	began = run_now_s();
	status = run_daemon_begin(reader);
	if (status == SHMETA_OK)
		status = shmeta_get_topic(reader, "third", 5, &how, &topic, &fresh);
	if (status == SHMETA_OK)
		o->fresh_ms[o->fresh++] = (run_now_s() - began) * 1000;
	else
		failed(o, instance, "reading", status);
	status = shmeta_client_open(instance, NULL, &client);
	began = run_now_s();
	if (status == SHMETA_OK)
		status = shmeta_write(client, &op, 1, WAIT_MS, &result, NULL);
	if (status == SHMETA_OK && result.status == SHMETA_OK)
		o->write_ms[o->written++] = (run_now_s() - began) * 1000;
	else
		failed(o, instance, "writing", status != SHMETA_OK ? status : result.status);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static void third(struct outcome *o)
{
	pid_t pid = fork_as(THIRD_UID);

	if (pid == 0) {
		for (uint32_t i = 0; i < rounds(); i++)
			live(o, i);
		_exit(0);
	}
	cr_assert_eq(run_reap(pid), 0);
}

static void make_topic(void)
{
	const struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                             .u.topic = {.name = {"third", 5}, .partition_count = 1}};
	struct shmeta *instance = run_daemon_open(&d, "maker", 0);
	struct shmeta_client *client = NULL;
	struct shmeta_result result;

	cr_assert_not_null(instance);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	cr_assert_eq(shmeta_write(client, &op, 1, WAIT_MS, &result, NULL), SHMETA_OK);
	cr_assert_eq(result.status, SHMETA_OK);
	shmeta_client_close(client);
	shmeta_close(instance);
}

static void tell(const char *attack, const char *what, double *quiet, uint32_t quiet_count, double *attacked,
                 uint32_t count)
{
	char name[100], before[100], during[100];

	(void)snprintf(name, sizeof name, "two users attack: %s", attack);
	figure(name, count, 0, what, "%s; quiet %s", figure_times(attacked, count, during, sizeof during),
	       figure_times(quiet, quiet_count, before, sizeof before));
}

/* The attack by two users, and what it does to a third one. */
static void withstands(const char *name, void (*attack)(int who))
{
	struct outcome *quiet = &page->quiet, *attacked = &page->attacked;

	make_topic();
	third(quiet);
	for (int i = 0; i < HOSTILE; i++) {
		attacker[i] = fork_as(HOSTILE_UID + (uid_t)i);
		if (attacker[i] == 0) {
			attack(i);
			_exit(98);
		}
	}
	for (int i = 0; i < HOSTILE; i++)
		while (__atomic_load_n(&page->work[i], __ATOMIC_RELAXED) < 100)
			(void)usleep(1000); /* the suite's time is the limit */
	third(attacked);
	cr_expect_eq(attacked->registered, rounds(), "%u of %u registered; %s", attacked->registered, rounds(),
	             attacked->sentence);
	cr_expect_eq(attacked->fresh, rounds(), "%u of %u read fresh; %s", attacked->fresh, rounds(),
	             attacked->sentence);
	cr_expect_eq(attacked->written, rounds(), "%u of %u wrote; %s", attacked->written, rounds(),
	             attacked->sentence);
	for (int i = 0; i < HOSTILE; i++)
		cr_expect_eq(kill(attacker[i], 0), 0, "the attack has ended by itself");
	tell(name, "registrations", quiet->register_ms, quiet->registered, attacked->register_ms, attacked->registered);
	tell(name, "fresh reads", quiet->fresh_ms, quiet->fresh, attacked->fresh_ms, attacked->fresh);
	tell(name, "writes", quiet->write_ms, quiet->written, attacked->write_ms, attacked->written);
}

/* ---- attacks ---- */

static void count_work(int who)
{
	(void)__atomic_add_fetch(&page->work[who], 1, __ATOMIC_RELAXED);
}

/* -1: it was not possible. */
static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof address.sun_path, "%.90s/control.sock", d.instance);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static struct shmeta_frame head(uint16_t type, size_t bytes)
{
	static uint64_t id;

	return (struct shmeta_frame){
		.bytes = (uint32_t)bytes, .version = SHMETA_WIRE_VERSION, .type = type, .id = ++id};
}

static bool enroll(int fd, uint32_t slots)
{
	struct shmeta_frame_register frame = {.head = head(SHMETA_FRAME_REGISTER, sizeof frame),
	                                      .agent_pid = (uint64_t)getpid(),
	                                      .slot_count = slots};
	uint64_t answer[64];

	if (send(fd, &frame, sizeof frame, MSG_NOSIGNAL) != (ssize_t)sizeof frame)
		return false;
	return recv(fd, answer, sizeof answer, 0) > 0 &&
	       ((struct shmeta_frame *)answer)->type == SHMETA_FRAME_REGISTERED;
}

/* As many registered connections as it can have, with as many slots. */
static void hold(int who)
{
	for (;;) {
		int fd = dial();

		if (fd >= 0 && !enroll(fd, SHMETA_SLOTS_MAX)) {
			(void)close(fd);
			(void)usleep(1000);
		}
		count_work(who);
	}
}

static void connect_and_close(int who)
{
	for (;; count_work(who))
		(void)close(dial());
}

static void register_and_close(int who)
{
	for (;; count_work(who)) {
		int fd = dial();

		if (fd < 0)
			continue;
		(void)enroll(fd, 64);
		(void)close(fd);
	}
}

/* Frames over several connections, as many as they take; answers are read, and lost connections
 * made anew. */
static _Noreturn void flood(int who, void *frame, void (*next)(void *frame))
{
	static char answer[SHMETA_FRAME_MAX];
	int fd[CONNECTIONS];

	for (int i = 0; i < CONNECTIONS; i++)
		fd[i] = dial();
	for (int i = 0;; i = (i + 1) % CONNECTIONS) {
		ssize_t got;

		next(frame);
		if (send(fd[i], frame, ((struct shmeta_frame *)frame)->bytes, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			count_work(who);
		while ((got = recv(fd[i], answer, sizeof answer, MSG_DONTWAIT)) > 0)
			;
		if (got == 0 || errno != EAGAIN) {
			(void)close(fd[i]);
			fd[i] = dial();
		}
	}
}

static void next_status(void *frame)
{
	*(struct shmeta_frame *)frame = head(SHMETA_FRAME_STATUS, sizeof(struct shmeta_frame));
}

static void ask_status(int who)
{
	struct shmeta_frame frame;

	flood(who, &frame, next_status);
}

struct refresh {
	struct shmeta_frame_refresh frame;
	char name[24];
};

static void next_refresh(void *frame)
{
	static unsigned int number;
	struct refresh *r = frame;
	int bytes = snprintf(r->name, sizeof r->name, "u%d-%u", (int)getuid(), ++number);

	r->frame = (struct shmeta_frame_refresh){.head = head(SHMETA_FRAME_REFRESH, sizeof r->frame + (size_t)bytes),
	                                         .cls = SHMETA_CLASS_TOPIC,
	                                         .name_bytes = (uint32_t)bytes,
	                                         .timeout_ms = WAIT_MS};
}

static void refresh_names(int who)
{
	struct refresh frame;

	flood(who, &frame, next_refresh);
}

struct write {
	struct shmeta_frame_write frame;
	uint64_t ops[SHMETA_FRAME_MAX / 8 - 8];
};

/* So many operations in a frame, all alike. */
static void fill_write(struct write *w, const struct shmeta_op *op, uint32_t count)
{
	size_t at = 0;

	for (uint32_t i = 0; i < count; i++)
		at += shmeta__op_encode(op, (char *)w->ops + at, sizeof w->ops - at);
	w->frame = (struct shmeta_frame_write){
		.head = head(SHMETA_FRAME_WRITE, sizeof w->frame + at), .op_count = count, .timeout_ms = WAIT_MS};
}

static void same_write(void *frame)
{
	struct write *w = frame;

	w->frame.head = head(SHMETA_FRAME_WRITE, w->frame.head.bytes);
}

static void write_large_frames(int who)
{
	static struct write frame;
	const struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"group", 5}};

	fill_write(&frame, &op, 300);
	flood(who, &frame, same_write);
}

static void next_topic(void *frame)
{
	static unsigned int number;
	char name[24];
	int bytes = snprintf(name, sizeof name, "t%d-%u", (int)getuid(), ++number % 4);
	/* Made, deleted, and made again: the store does not fill. */
	const struct shmeta_op make = {.type = SHMETA_OP_CREATE_TOPIC,
	                               .u.topic = {.name = {name, (size_t)bytes}, .partition_count = 20000}},
			       drop = {.type = SHMETA_OP_DELETE_TOPIC, .name = {name, (size_t)bytes}};

	fill_write(frame, number / 4 % 2 == 0 ? &make : &drop, 1);
}

static void make_large_topics(int who)
{
	static struct write frame;

	flood(who, &frame, next_topic);
}

static void next_junk(void *frame)
{
	static unsigned int number;
	struct shmeta_frame *f = frame;

	*f = head((uint16_t)(++number % 40), sizeof *f);
}

static void send_junk(int who)
{
	struct shmeta_frame frame;

	flood(who, &frame, next_junk);
}

/* What the others' attacks are compared with: they have the processor's time only. */
static void compute(int who)
{
	for (;;)
		count_work(who);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_compute, .init = begin, .fini = end)
{
	withstands("compute", compute);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_hold, .init = begin, .fini = end)
{
	withstands("hold", hold);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_connect_and_close, .init = begin, .fini = end)
{
	withstands("connect and close", connect_and_close);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_register_and_close, .init = begin, .fini = end)
{
	withstands("register and close", register_and_close);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_ask_status, .init = begin, .fini = end)
{
	withstands("ask status", ask_status);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_refresh_names, .init = begin, .fini = end)
{
	withstands("refresh names", refresh_names);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_write_large_frames, .init = begin, .fini = end)
{
	withstands("write large frames", write_large_frames);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_make_large_topics, .init = begin, .fini = end)
{
	withstands("make large topics", make_large_topics);
}

Test(fairness, a_third_user_is_not_shut_out_by_two_who_send_junk, .init = begin, .fini = end)
{
	withstands("send junk", send_junk);
}
