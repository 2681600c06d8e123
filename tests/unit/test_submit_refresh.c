/* SPDX-License-Identifier: Apache-2.0
 * Refreshes that an event loop submits: what is sent, when they are over, asked again, or canceled.
 * The writer is played by the test. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_client *client;
static struct scripted_writer writer;

struct told {
	int times;
	enum shmeta_status status;
	struct shmeta_result result;
	char topic[32];
	size_t count;
	struct shmeta_token token;
};

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	(void)fake_commit(w);
	instance = fake_open(w, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	cr_assert_not_null(instance);
	scripted_listen(&writer, w->dir);
	cr_assert_eq(shmeta_client_open(instance,
	                                &(struct shmeta_client_options){.size = sizeof(struct shmeta_client_options),
	                                                                .requests_max = 3},
	                                &client),
	             SHMETA_OK);
}

static void tear_down(void)
{
	shmeta_client_close(client);
	shmeta_close(instance);
	scripted_stop(&writer);
	fake_writer_free(w);
}

TestSuite(submit_refresh, .init = set_up, .fini = tear_down, .timeout = 30);

static void note(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                 const struct shmeta_token *token)
{
	struct told *told = arg;

	told->times++;
	told->status = status;
	told->result = results[0];
	told->count = count;
	told->token = *token;
	snprintf(told->topic, sizeof told->topic, "%.*s", (int)results[0].topic.bytes, results[0].topic.data);
}

static void process(void)
{
	(void)!shmeta_client_process(client, NULL);
}

static void until_greeted(void)
{
	for (int i = 0; i < SCRIPTED_PATIENCE_MS; i++) {
		process();
		if (scripted_accept(&writer, 0)) {
			scripted_take_hello(&writer);
			scripted_welcome(&writer);
			process();
			return;
		}
		(void)poll(NULL, 0, 1);
	}
	cr_assert_fail("the client did not connect");
}

/* The next frame is a refresh: its id, and its names in a row. */
static uint64_t take(struct shmeta_frame_refresh *ret, char ret_names[600])
{
	static uint64_t packet[SHMETA_FRAME_MAX / 8 + 1];
	struct pollfd p = {.fd = writer.fd, .events = POLLIN};

	cr_assert_eq(poll(&p, 1, SCRIPTED_PATIENCE_MS), 1, "nothing was sent");
	ssize_t n = recv(writer.fd, packet, sizeof packet, 0);

	cr_assert_gt(n, (ssize_t)sizeof *ret);
	cr_assert_eq(shmeta__frame_check(packet, (size_t)n), SHMETA_OK);
	memcpy(ret, packet, sizeof *ret);
	cr_assert_eq(ret->head.type, SHMETA_FRAME_REFRESH);
	snprintf(ret_names, 600, "%.*s", (int)((size_t)n - sizeof *ret), (const char *)packet + sizeof *ret);
	return ret->head.id;
}

static void answer(uint64_t id, uint64_t synced_at_ns, uint64_t txn)
{
	struct shmeta_frame_answer frame = {
		.head = {.bytes = sizeof frame, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER, .id = id},
		.txn = txn,
		.generation = 1,
		.synced_at_ns = synced_at_ns};

	scripted_send(&writer, &frame, sizeof frame);
}

static const struct shmeta_key partition = {.cls = SHMETA_CLASS_PARTITION, .partition_id = 4, .topic = {"orders", 6}};

static uint64_t submit(struct told *told)
{
	uint64_t ticket = 0;

	cr_assert_eq(shmeta_submit_refresh(client, &partition, 0, told != NULL ? note : NULL, told, &ticket),
	             SHMETA_OK);
	cr_assert_neq(ticket, 0);
	return ticket;
}

Test(submit_refresh, sends_the_key_and_tells_the_commit_that_shows_it)
{
	static const struct {
		struct shmeta_key key;
		uint32_t flags, wire_flags;
		const char *names;
	} keys[] = {
		{{.cls = SHMETA_CLASS_TOPIC, .topic = {"orders", 6}}, 0, 0, "orders" SHMETA_DEFAULT_TENANT},
		{{.cls = SHMETA_CLASS_LEASE, .topic = {"orders", 6}, .partition_id = 2},
	         0,
	         0,
	         "orders" SHMETA_DEFAULT_TENANT},
		{{.cls = SHMETA_CLASS_AGENT, .name = {"a7", 2}}, 0, 0, SHMETA_DEFAULT_TENANT "a7"},
		{{.cls = SHMETA_CLASS_OFFSET, .topic = {"t", 1}, .name = {"g", 1}, .partition_id = 1},
	         SHMETA_READ_NO_FILL,
	         SHMETA_REFRESH_ASK_NO_FILL,
	         "t" SHMETA_DEFAULT_TENANT "g"},
		{{.cls = SHMETA_CLASS_LIST}, 0, 0, SHMETA_DEFAULT_TENANT},
	};
	struct told told = {0};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		struct shmeta_frame_refresh frame;
		char names[600];

		cr_assert_eq(shmeta_submit_refresh(client, &keys[i].key, keys[i].flags, note, &told, NULL), SHMETA_OK);
		if (i == 0)
			until_greeted();
		uint64_t id = take(&frame, names);

		cr_expect_str_eq(names, keys[i].names);
		cr_expect(frame.cls == (uint32_t)keys[i].key.cls && frame.partition_id == keys[i].key.partition_id);
		cr_expect_eq(frame.flags, keys[i].wire_flags);
		answer(id, UINT64_MAX, 7 + i);
		process();
		cr_expect(told.times == (int)i + 1 && told.status == SHMETA_OK && told.count == 1);
		cr_expect(told.result.status == SHMETA_OK && told.result.text[0] == '\0');
		cr_expect(told.token.generation == 1 && told.token.txn == 7 + i);
	}
}

Test(submit_refresh, refuses_what_is_no_key_and_calls_nobody)
{
	static const struct shmeta_key bad[] = {
		{.cls = SHMETA_CLASS_COUNT},
		{.cls = SHMETA_CLASS_TOPIC, .name = {"x", 1}},
		{.cls = SHMETA_CLASS_AGENT, .topic = {"x", 1}},
		{.cls = SHMETA_CLASS_LIST, .topic = {"x", 1}},
		{.cls = SHMETA_CLASS_TOPIC, .topic = {"a\nb", 3}},
		{.cls = SHMETA_CLASS_OFFSET, .topic = {"x", 1}},
	};
	static struct told told; /* those that were taken are told of by the closing */
	char why[400];

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		cr_expect_eq(shmeta_submit_refresh(client, &bad[i], 0, note, &told, NULL), SHMETA_ERR_INVALID_ARGUMENT,
		             "%zu", i);
		cr_expect_not_null(strstr(shmeta_last_error(instance, why, sizeof why), "submit a refresh"), "%s", why);
	}
	cr_expect_eq(shmeta_submit_refresh(client, &partition, 1u << 9, note, &told, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_submit_refresh(client, NULL, 0, note, &told, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_submit_refresh(NULL, &partition, 0, note, &told, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	for (int i = 0; i < 3; i++)
		(void)submit(&told);
	cr_expect_eq(shmeta_submit_refresh(client, &partition, 0, note, &told, NULL), SHMETA_ERR_BUSY);
	cr_expect_eq(told.times, 0);
}

Test(submit_refresh, an_answer_of_a_read_from_before_the_question_is_asked_again)
{
	struct shmeta_frame_refresh frame;
	struct told told = {0};
	char names[600];

	(void)submit(&told);
	until_greeted();
	answer(take(&frame, names), 1, 5);
	process();
	cr_assert_eq(told.times, 0);
	answer(take(&frame, names), UINT64_MAX, 6);
	process();
	cr_expect(told.times == 1 && told.status == SHMETA_OK && told.token.txn == 6);

	(void)submit(&told);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(told.times, 1, "%d", i);
		answer(take(&frame, names), 1, 7);
		process();
	}
	cr_expect(told.times == 2 && told.status == SHMETA_ERR_SOURCE);
}

/* Another writer as well: nothing was changed that it would have to know of. */
Test(submit_refresh, a_lost_connection_is_not_told_but_asked_again)
{
	struct shmeta_frame_refresh frame;
	struct told told = {0};
	char names[600];

	(void)submit(&told);
	until_greeted();
	for (int i = 0; i < 3; i++) {
		(void)take(&frame, names);
		scripted_close(&writer);
		writer.epoch++;
		until_greeted();
	}
	cr_assert_eq(told.times, 0);
	answer(take(&frame, names), UINT64_MAX, 9);
	process();
	cr_expect(told.times == 1 && told.status == SHMETA_OK && told.token.txn == 9);
}

Test(submit_refresh, a_connection_that_breaks_each_time_ends_it)
{
	struct shmeta_frame_refresh frame;
	struct told told = {0};
	char names[600];
	int i;

	(void)submit(&told);
	for (i = 0; i < 20 && told.times == 0; i++) {
		until_greeted();
		(void)take(&frame, names);
		scripted_close(&writer);
		process();
	}
	cr_expect_lt(i, 20);
	cr_expect(told.times == 1 && told.status == SHMETA_ERR_WRITER_AWAY);
}

Test(submit_refresh, a_refusal_is_told_with_its_sentence_and_its_key)
{
	struct shmeta_frame_refresh frame;
	struct told told = {0};
	char names[600];

	(void)submit(&told);
	until_greeted();
	scripted_refuse(&writer, take(&frame, names), SHMETA_ERR_SOURCE, "the source is away");
	process();
	cr_expect(told.times == 1 && told.status == SHMETA_ERR_SOURCE);
	cr_expect_str_eq(told.result.text, "the source is away");
	cr_expect_str_eq(told.topic, "orders");
	cr_expect_eq(told.result.partition_id, 4);
}

/* A user who may read and not write. */
Test(submit_refresh, needs_no_right_to_write_and_a_write_beside_it_is_denied)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}};
	struct told told = {0}, written = {0};
	struct shmeta_frame_refresh frame;
	char names[600];

	writer.verbs = SHMETA_VERB_READ;
	cr_assert_eq(shmeta_submit(client, &op, 1, note, &written), SHMETA_OK);
	(void)submit(&told);
	until_greeted();
	cr_expect(written.times == 1 && written.status == SHMETA_ERR_DENIED);
	answer(take(&frame, names), UINT64_MAX, 3);
	process();
	cr_expect(told.times == 1 && told.status == SHMETA_OK);
}

Test(submit_refresh, a_canceled_one_is_told_to_nobody_and_its_late_answer_is_harmless)
{
	struct shmeta_done done = {.size = sizeof done};
	struct shmeta_frame_refresh frame;
	struct told told = {0};
	char names[600];
	uint64_t unsent = submit(&told), sent, queued, id;

	cr_expect_eq(shmeta_client_cancel(client, unsent), SHMETA_OK);
	cr_expect_eq(shmeta_client_cancel(client, unsent), SHMETA_ERR_NOT_FOUND);
	sent = submit(&told);
	until_greeted();
	id = take(&frame, names);
	cr_expect_eq(shmeta_client_cancel(client, sent), SHMETA_OK);
	answer(id, UINT64_MAX, 3);
	process();
	cr_expect_eq(told.times, 0);

	queued = submit(NULL);
	answer(take(&frame, names), UINT64_MAX, 4);
	process();
	cr_expect_eq(shmeta_client_cancel(client, queued), SHMETA_OK);
	cr_expect_eq(shmeta_client_next_done(client, &done), SHMETA_END);

	/* None of them counts any more, and the connection is as good as before. */
	for (int i = 0; i < 3; i++)
		(void)submit(&told);
	for (int i = 0; i < 3; i++)
		answer(take(&frame, names), UINT64_MAX, 5);
	process();
	cr_expect_eq(told.times, 3);
	cr_expect_eq(shmeta_client_cancel(client, 0), SHMETA_ERR_NOT_FOUND);
	cr_expect_eq(shmeta_client_cancel(NULL, 1), SHMETA_ERR_INVALID_ARGUMENT);
}
