/* SPDX-License-Identifier: Apache-2.0
 * Writes of one connection are answered in the order in which they came, although the engine's
 * thread answers some of them past the loop. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "tests/support/scratch.h"
#include "writer/serve/reply.h"
#include "writer/serve/serve.h"

enum { MOST = 8 };
static char dir[SCRATCH_PATH_MAX];
static int dir_fd, peer;
static sd_event *event;
static struct shmeta_board board;
static struct registry *registry;
static struct control_counters counters;
static struct control *control;
static uint64_t ticket[MOST]; /* of the writes, as they came */
static size_t asked;

static enum shmeta_status take(void *arg, const struct sync_write *write)
{
	(void)arg;
	cr_assert_lt(asked, (size_t)MOST);
	ticket[asked++] = write->ticket;
	return SHMETA_OK;
}

static void run_loop(void)
{
	while (sd_event_run(event, 10000) > 0)
		;
}

static void set_up(void)
{
	const struct control_host host = {.write = take};
	const struct control_limits limits = {.connections_max = 8,
	                                      .connections_reserved = 1,
	                                      .connections_per_user = 8,
	                                      .registrations_per_user = 8,
	                                      .requests_per_connection = 16,
	                                      .user_share = 50,
	                                      .first_frame_ns = UINT64_C(60000000000),
	                                      .idle_ns = UINT64_C(60000000000),
	                                      .output_max = 1 << 20};
	const struct shmeta_frame_hello hello = {
		.head = {.bytes = sizeof hello, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_HELLO},
		.version_min = SHMETA_WIRE_VERSION,
		.version_max = SHMETA_WIRE_VERSION,
		.agent_name = "order"};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct shmeta_frame_welcome welcome;
	struct shmeta_err err;

	cr_assert(scratch_dir("order", dir));
	dir_fd = open(dir, O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dir_fd, 0);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(registry_new(&board, 1, 1000000000, &registry, &err), SHMETA_OK);
	cr_assert_eq(control_start(event, dir_fd, dir, NULL, -1, &limits, registry, &host, &counters, &control, &err),
	             SHMETA_OK, "%s", err.text);
	cr_assert_lt((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", dir),
	             sizeof address.sun_path);
	peer = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_eq(connect(peer, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(send(peer, &hello, sizeof hello, 0), (ssize_t)sizeof hello);
	run_loop();
	cr_assert_gt(recv(peer, &welcome, sizeof welcome, 0), 0);
	cr_assert_eq(welcome.head.type, SHMETA_FRAME_WELCOME);
}

static void tear_down(void)
{
	(void)close(peer);
	control_stop(control);
	registry_free(registry);
	(void)sd_event_unref(event);
	(void)close(dir_fd);
	(void)rmdir(dir);
}

TestSuite(answer_order, .init = set_up, .fini = tear_down, .timeout = 20);

/* A write, taken by the loop. Its id is its place. */
static void ask(void)
{
	const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}, .offset = 1};
	struct {
		struct shmeta_frame_write frame;
		uint64_t op[64];
	} f = {.frame = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_WRITE, .id = asked},
	                 .op_count = 1}};
	size_t before = asked;

	f.frame.head.bytes = (uint32_t)(sizeof f.frame + shmeta__op_encode(&op, f.op, sizeof f.op));
	cr_assert_eq(send(peer, &f, f.frame.head.bytes, 0), (ssize_t)f.frame.head.bytes);
	run_loop();
	cr_assert_eq(asked, before + 1);
}

static bool is_past_the_loop(size_t at)
{
	return reply_is_ticket(ticket[at]);
}

/* By the engine's thread, or by the loop, as its ticket is. */
static void answer(size_t at)
{
	struct shmeta_frame_results frame = {
		.head = {.bytes = sizeof frame, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_RESULTS}};

	if (is_past_the_loop(at))
		cr_assert(reply_send(ticket[at], &frame, sizeof frame));
	else
		control_written(control, ticket[at], &frame, sizeof frame);
}

static void expect_answered(uint64_t id)
{
	struct shmeta_frame_results frame;

	cr_assert_eq(recv(peer, &frame, sizeof frame, 0), (ssize_t)sizeof frame);
	cr_expect_eq(frame.head.id, id);
}

Test(answer_order, a_write_behind_one_that_the_loop_has_to_answer_does_not_go_past_it)
{
	ask();
	ask();
	cr_expect(is_past_the_loop(0), "nothing else was out");
	cr_expect_not(is_past_the_loop(1), "the first one was");
	answer(0);
	ask();
	cr_expect_not(is_past_the_loop(2), "its answer would overtake that of the second");
	answer(1);
	answer(2);
	ask();
	cr_expect(is_past_the_loop(3), "nothing is out any more");
	answer(3);
	for (uint64_t id = 0; id < 4; id++)
		expect_answered(id);
}
