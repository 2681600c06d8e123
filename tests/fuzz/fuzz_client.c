/* SPDX-License-Identifier: Apache-2.0
 * A hostile writer's answers, into the library: whatever comes, each call returns, each callback
 * runs once, texts end, statuses are known, and nothing outside of a frame is read.
 *
 * The first byte chooses: even, a client that writes (its next bits: how many operations, in one
 * call or several, greeted or not); odd, a request that waits for one answer (its next bits: which
 * one). Then frames:
 *   uint8_t how, uint8_t type, uint16_t n, n bytes. how: bit 0: as it is, without a head of ours;
 *   bits 1 to 3: whose id it has; bit 4: the connection is closed behind it; bit 5: the client gets
 *   no turn yet. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "reader/client/client.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

enum { CALLS_MAX = 4, FRAMES_MAX = 32, IDS = 8 };

static struct fake_writer *writer;
static struct scripted_writer script;
static struct shmeta *instance;
static uint64_t asked; /* requests of shmeta__ask(), which numbers them */

static void at_exit(void)
{
	scripted_stop(&script);
	shmeta_close(instance);
	fake_writer_free(writer);
}

static void start(void)
{
	if (writer != NULL)
		return;
	writer = fake_writer_new();
	fake_unserve(writer);
	instance = fake_open(writer, NULL, 0, 1);
	require(instance != NULL && atexit(at_exit) == 0);
	script.fd = script.listen_fd = -1;
}

/* ---- frames ---- */

struct answer_frame {
	const uint8_t *body;
	size_t bytes;
	uint8_t how, type;
};

static struct answer_frame take_frame(struct fuzz_input *in)
{
	struct answer_frame f = {.how = fuzz_u8(in), .type = fuzz_u8(in)};

	f.body = fuzz_bytes(in, fuzz_u16(in), &f.bytes);
	return f;
}

static void send_frame(int fd, const struct answer_frame *f, uint64_t id)
{
	static _Alignas(8) uint8_t packet[UINT16_MAX + sizeof(struct shmeta_frame)];
	struct shmeta_frame head = {
		.bytes = (uint32_t)(sizeof head + f->bytes), .version = SHMETA_WIRE_VERSION, .type = f->type, .id = id};
	size_t at = (f->how & 1) != 0 ? 0 : sizeof head;

	memcpy(packet, &head, sizeof head);
	if (f->bytes > 0)
		memcpy(packet + at, f->body, f->bytes);
	if (at + f->bytes > 0)
		(void)!send(fd, packet, at + f->bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- the client that writes ---- */

static const struct shmeta_str name = {"orders", 6};

/* One that C9 allows, of each type. */
static struct shmeta_op make_op(enum shmeta_op_type type)
{
	struct shmeta_op op = {.type = type};
	static const struct shmeta_segment segment = {
		.end_offset = 9, .record_count = 10, .size_bytes = 100, .id = {"orders", 6}};

	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic = (struct shmeta_topic){.name = name, .partition_count = 2};
		break;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = name};
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object = (struct shmeta_object){.s3_bucket = name, .s3_key = name};
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		op.name = name;
		op.u.segment = segment;
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		op.name = name;
		op.u.replace = (struct shmeta_replace){.old_segments = &segment, .old_count = 1};
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.name = name;
		op.u.committed = (struct shmeta_committed_offset){.group_id = name, .committed_offset = 4};
		break;
	default:
		op.name = op.group_id = op.agent_id = op.to_agent_id = name;
		op.transfer_id = 1;
		op.duration_ms = 1000;
		op.offset = 3;
		break;
	}
	return op;
}

struct outcome {
	unsigned calls, expected;
};

static void on_done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                    const struct shmeta_token *token)
{
	require(shmeta__status_known(status) && token != NULL && count > 0);
	for (size_t i = 0; i < count; i++)
		require(shmeta__status_known(results[i].status) &&
		        memchr(results[i].text, 0, sizeof results[i].text) != NULL);
	((struct outcome *)arg)->calls++;
}

static void submit(struct shmeta_client *client, struct fuzz_input *in, uint8_t how, struct outcome *outcome)
{
	unsigned calls = 1 + how % CALLS_MAX, types = fuzz_u8(in);

	for (unsigned i = 0; i < calls; i++) {
		struct shmeta_op ops[3];
		size_t count = 1 + (types + i) % 2;

		ops[0] = make_op((enum shmeta_op_type)(1 + (types + i) % (SHMETA_OP_TYPES - 1)));
		ops[1] = ops[0];
		if (ops[0].type == SHMETA_OP_ADD_SLICE) {
			ops[0] = make_op(SHMETA_OP_COMMIT_OBJECT);
			count = 2;
		}
		for (size_t k = 0; k < count && (how & 8) != 0; k++)
			ops[k].request_id[0] = 1 + i * 2 + k;
		if (shmeta_submit(client, ops, count, on_done, outcome) == SHMETA_OK)
			outcome->expected++;
	}
}

/* The ids of what the client has sent. */
static void hear(uint64_t ids[IDS], unsigned *count)
{
	static uint64_t packet[SHMETA_FRAME_MAX / 8 + 1];
	const struct shmeta_frame *head = (const struct shmeta_frame *)(void *)packet;
	ssize_t got;

	while (script.fd >= 0 && (got = recv(script.fd, packet, sizeof packet, MSG_DONTWAIT)) > 0) {
		require(shmeta__frame_check(packet, (size_t)got) == SHMETA_OK);
		ids[(*count)++ % IDS] = head->id;
	}
}

static void write_with(struct fuzz_input *in, uint8_t how)
{
	struct shmeta_client *client = NULL;
	struct outcome outcome = {.calls = 0};
	uint64_t ids[IDS] = {0};
	unsigned count = 0;

	scripted_listen(&script, writer->dir);
	require(shmeta_client_open(instance, NULL, &client) == SHMETA_OK);
	submit(client, in, how, &outcome);
	for (int i = 0; i < FRAMES_MAX && (i == 0 || in->left > 0); i++) {
		struct answer_frame f;

		if (script.fd < 0 && scripted_accept(&script, 0) && (how & 4) == 0) {
			scripted_take_hello(&script);
			scripted_welcome(&script);
			ids[count++ % IDS] = script.hello.head.id;
			(void)!shmeta_client_process(client, NULL);
		}
		hear(ids, &count);
		f = take_frame(in);
		if (script.fd >= 0)
			send_frame(script.fd, &f, ids[f.how / 2 % IDS]);
		if ((f.how & 16) != 0)
			scripted_close(&script);
		if ((f.how & 32) == 0)
			(void)!shmeta_client_process(client, NULL);
	}
	shmeta_client_close(client);
	require(outcome.calls == outcome.expected);
	scripted_stop(&script);
}

/* ---- requests that wait for one answer ---- */

static void list_objects(void)
{
	struct shmeta_object_info info;
	struct shmeta_objects *list;
	volatile size_t bytes = 0;

	if (shmeta_list_objects(instance, 0, 1, &list) != SHMETA_OK)
		return;
	while (shmeta_next_object(list, &info) == SHMETA_OK)
		for (size_t i = 0; i < info.object.s3_key.bytes; i++)
			bytes = bytes + (size_t)(unsigned char)info.object.s3_key.data[i];
	shmeta_objects_free(list);
}

static void get_config(void)
{
	char *json;

	if (shmeta_get_config(instance, 1, &json) != SHMETA_OK)
		return;
	require(strlen(json) <= SHMETA_FRAME_MAX);
	free(json);
}

static void ask(uint8_t which)
{
	struct shmeta_invalidated done;
	uint64_t number;
	char text[80], *json;

	switch (which % 8) {
	case 0:
		list_objects();
		break;
	case 1:
		get_config();
		break;
	case 2:
		(void)!shmeta_invalidate(instance, SHMETA_CLASS_TOPIC, "orders", 6, 0, 0, 1, &done);
		break;
	case 3:
		(void)!shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "orders", 6, 0, 1, &number);
		break;
	case 4:
		(void)!shmeta_reload(instance, 1, text, sizeof text);
		require(memchr(text, 0, sizeof text) != NULL);
		break;
	case 5:
		(void)!shmeta_accept_source(instance, 1, 1, &number, text, sizeof text);
		require(memchr(text, 0, sizeof text) != NULL);
		break;
	case 6:
		if (shmeta_operate(instance, SHMETA_OPERATE_LOG_LEVEL, "debug", 0, 1, &json) == SHMETA_OK) {
			require(strlen(json) <= SHMETA_FRAME_MAX);
			free(json);
		}
		break;
	case 7:
		(void)!shmeta_leader_epoch_end(instance, "orders", 6, 0, 1, 1, &number, &number);
		break;
	default:
		(void)!shmeta_revoke_reader(instance, 1, 1, &number);
		break;
	}
}

/* The answers wait already on the connection that the request takes; behind them it ends. */
static void ask_with(struct fuzz_input *in, uint8_t which)
{
	static uint64_t drained[SHMETA_FRAME_MAX / 8 + 1];
	struct core *core = shmeta__instance_core(instance);
	int fds[2];

	require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	for (int i = 0; i < FRAMES_MAX && in->left > 0; i++) {
		struct answer_frame f = take_frame(in);

		send_frame(fds[1], &f, asked + f.how / 2 % IDS);
	}
	(void)shutdown(fds[1], SHUT_WR);
	core->idle.fd = fds[0];
	shmeta__fd_note(fds[0], &core->idle.dev, &core->idle.ino);
	ask(which);
	/* A request of several exchanges has had several ids. */
	while (recv(fds[1], drained, sizeof drained, MSG_DONTWAIT) > 0)
		asked = ((const struct shmeta_frame *)(void *)drained)->id + 1;
	(void)close(fds[1]);
	if (core->idle.fd >= 0)
		(void)close(core->idle.fd);
	core->idle.fd = -1;
	shmeta__core_unref(core, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz_input in = {data, bytes};
	uint8_t how = fuzz_u8(&in);

	start();
	if (how % 2 == 0)
		write_with(&in, how / 2);
	else
		ask_with(&in, how / 2);
	return 0;
}
