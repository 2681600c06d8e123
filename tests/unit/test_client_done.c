/* SPDX-License-Identifier: Apache-2.0
 * Completions that are taken from a queue instead of callbacks, and what failed results say beside
 * their sentence. */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>

#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_client *client;
static struct scripted_writer writer;
static struct scripted_write got;

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

TestSuite(client_done, .init = set_up, .fini = tear_down, .timeout = 30);

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

static struct shmeta_op watermark(const char *topic, uint64_t offset)
{
	return (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                          .name = fake_str(topic),
	                          .partition_id = 4,
	                          .offset = offset,
	                          .fence = {fake_str("a"), 6}};
}

static void submit(const struct shmeta_op *ops, size_t count, void *arg)
{
	cr_assert_eq(shmeta_submit(client, ops, count, NULL, arg), SHMETA_OK);
}

Test(client_done, calls_without_a_callback_are_taken_in_the_order_in_which_they_ended)
{
	const struct shmeta_op ops[2] = {watermark("a", 1), watermark("b", 2)};
	struct shmeta_done done = {.size = sizeof done};
	int first, second, third;
	struct shmeta_op more = watermark("c", 3);

	cr_expect_eq(shmeta_client_next_done(client, &done), SHMETA_END);
	submit(ops, 2, &first);
	submit(&ops[1], 1, &second);
	submit(&ops[0], 1, &third);
	until_greeted();
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
		scripted_done(&writer, &got);
	}
	process();
	cr_expect_eq(shmeta_submit(client, &more, 1, NULL, NULL), SHMETA_ERR_BUSY, "none has been taken");
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect(done.arg == &first && done.count == 2 && done.status == SHMETA_OK && done.size == sizeof done);
	cr_expect(done.results[0].status == SHMETA_OK && done.results[1].status == SHMETA_OK);
	submit(&more, 1, NULL);
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect_eq(done.arg, &second);
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect_eq(done.arg, &third);
	cr_expect_eq(shmeta_client_next_done(client, &done), SHMETA_END);
	done.size = 1;
	cr_expect_eq(shmeta_client_next_done(client, &done), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_client_next_done(NULL, &done), SHMETA_ERR_INVALID_ARGUMENT);
}

/* One is taken and not given back, one waits, one is under way: closing frees them all
 * (LeakSanitizer looks). */
Test(client_done, closing_drops_what_was_not_taken)
{
	const struct shmeta_op op = watermark("a", 1);
	struct shmeta_done done = {.size = sizeof done};

	for (int i = 0; i < 3; i++)
		submit(&op, 1, NULL);
	until_greeted();
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
		scripted_done(&writer, &got);
	}
	process();
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
}

Test(client_done, a_failed_result_says_the_topic_the_partition_and_the_epoch_of_the_fence)
{
	const struct shmeta_op ops[2] = {watermark("orders", 1), watermark("gone", 2)};
	const struct shmeta_result results[2] = {{.status = SHMETA_ERR_FENCED, .text = "no"},
	                                         {.status = SHMETA_ERR_TOPIC_NOT_FOUND, .text = "no"}};
	struct shmeta_done done = {.size = sizeof done};

	submit(ops, 2, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	scripted_results(&writer, &got, results, SHMETA_OK, 1, 1);
	process();
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect(done.results[0].topic.bytes == 6 && memcmp(done.results[0].topic.data, "orders", 6) == 0);
	cr_expect(done.results[0].partition_id == 4 && done.results[0].epoch == 6);
	cr_expect(done.results[1].topic.bytes == 4 && memcmp(done.results[1].topic.data, "gone", 4) == 0);
	cr_expect(done.results[1].epoch == 0, "it is not about the fence");
}

Test(client_done, a_lease_that_was_got_says_of_what_it_is_and_whose)
{
	const struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                             .name = {"orders", 6},
	                             .partition_id = 4,
	                             .agent_id = {"agent", 5},
	                             .duration_ms = 1000};
	const struct shmeta_result result = {.lease = {.epoch = 3, .lease_expires_at_ms = 9}};
	struct shmeta_done done = {.size = sizeof done};

	submit(&op, 1, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	scripted_results(&writer, &got, &result, SHMETA_OK, 1, 1);
	process();
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect(done.results[0].topic.bytes == 6 && memcmp(done.results[0].topic.data, "orders", 6) == 0);
	cr_expect(done.results[0].lease.leader_agent_id.bytes == 5 &&
	          memcmp(done.results[0].lease.leader_agent_id.data, "agent", 5) == 0);
	cr_expect_eq(done.results[0].lease.epoch, 3);
}

Test(client_done, a_number_out_of_range_comes_with_its_limits)
{
	const struct shmeta_op ops[2] = {watermark("orders", UINT64_MAX), watermark("orders", 7)};
	const struct shmeta_result results[2] = {{.status = SHMETA_ERR_INVALID_ARGUMENT, .text = "no"},
	                                         {.status = SHMETA_OK}};
	struct shmeta_done done = {.size = sizeof done};

	submit(ops, 2, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	scripted_results(&writer, &got, results, SHMETA_OK, 1, 1);
	process();
	cr_assert_eq(shmeta_client_next_done(client, &done), SHMETA_OK);
	cr_expect(done.results[0].value == UINT64_MAX && done.results[0].least == 0 &&
	          done.results[0].most == INT64_MAX);
	cr_expect(done.results[1].topic.bytes == 0 && done.results[1].most == 0, "nothing failed");
}

Test(client_done, a_write_that_was_not_sent_says_what_it_is_about)
{
	const struct shmeta_op op = watermark("orders", 1);
	struct shmeta_result result;

	scripted_stop(&writer);
	cr_assert_eq(shmeta_write(client, &op, 1, 10, &result, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_expect(result.topic.data == op.name.data && result.topic.bytes == 6 && result.partition_id == 4);
	scripted_listen(&writer, w->dir);
}

/* ---- trace ids, and who is told of calls ---- */

static struct shmeta_op traced(const char *topic, int id)
{
	struct shmeta_op op = watermark(topic, 1);

	memset(op.trace_id, id, sizeof op.trace_id);
	return op;
}

Test(client_done, trace_ids_are_sent_to_a_writer_that_knows_them_and_to_no_other)
{
	const struct shmeta_op ops[3] = {traced("a", 7), watermark("b", 2), traced("c", 9)};
	const uint8_t none[SHMETA_TRACE_BYTES] = {0};

	submit(ops, 3, NULL);
	until_greeted(); /* it says nothing of them */
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	cr_assert_eq(got.count, 3);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(memcmp(got.ops[i].trace_id, none, sizeof none), 0);
		cr_expect(got.ops[i].name.bytes == 1 && got.ops[i].name.data[0] == "abc"[i]);
		cr_expect_eq(got.ops[i].fence.epoch, 6);
	}
	scripted_done(&writer, &got);
	process();
	scripted_close(&writer);
	process();
	writer.verbs |= SHMETA_WELCOME_TRACES;
	submit(ops, 3, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	cr_assert_eq(got.count, 3);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(memcmp(got.ops[i].trace_id, ops[i].trace_id, sizeof none), 0);
}

Test(client_done, what_is_sent_again_to_an_older_writer_goes_without_its_trace_id)
{
	struct shmeta_op ops[2] = {traced("a", 7), traced("b", 8)};
	const uint8_t none[SHMETA_TRACE_BYTES] = {0};

	ops[0].request_id[0] = 1;
	ops[1].request_id[0] = 2;
	writer.verbs |= SHMETA_WELCOME_TRACES;
	submit(ops, 2, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	cr_expect_eq(memcmp(got.ops[1].trace_id, ops[1].trace_id, sizeof none), 0);
	scripted_close(&writer);
	writer.verbs &= ~(uint32_t)SHMETA_WELCOME_TRACES;
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	cr_assert_eq(got.count, 2);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(memcmp(got.ops[i].trace_id, none, sizeof none), 0);
		cr_expect_eq(got.ops[i].request_id[0], ops[i].request_id[0]);
	}
}

enum { TOLD_MAX = 16 };

static struct told {
	struct shmeta_call_event event[TOLD_MAX];
	size_t count;
} told;

/* It would hang if a lock were held: the descriptor is asked for under it. */
static void hear(void *arg, const struct shmeta_call_event *event)
{
	cr_assert_eq(arg, &told);
	cr_assert_lt(told.count, TOLD_MAX);
	told.event[told.count++] = *event;
	if (client != NULL)
		(void)shmeta_client_fd(client);
}

static void open_told(uint32_t requests_max)
{
	const struct shmeta_client_options options = {
		.size = sizeof options, .requests_max = requests_max, .on_call = hear, .on_call_arg = &told};

	shmeta_client_close(client);
	client = NULL;
	memset(&told, 0, sizeof told);
	cr_assert_eq(shmeta_client_open(instance, &options, &client), SHMETA_OK);
}

static void expect_told(size_t i, uint64_t id, bool ended, enum shmeta_status status, uint8_t trace)
{
	const struct shmeta_call_event *e = &told.event[i];

	cr_assert_lt(i, told.count);
	cr_expect_eq(e->id, id, "%zu", i);
	cr_expect_eq(e->ended, ended, "%zu", i);
	cr_expect_eq(e->status, status, "%zu: %d", i, (int)e->status);
	cr_expect_eq(e->type, SHMETA_OP_UPDATE_HIGH_WATERMARK, "%zu", i);
	cr_expect_eq(e->trace_id[0], trace, "%zu", i);
	cr_expect_eq(e->took_ns > 0, ended, "%zu", i);
}

Test(client_done, the_beginning_and_the_end_of_each_call_are_told_once)
{
	const struct shmeta_op ops[2] = {watermark("a", 1), traced("b", 5)};
	struct shmeta_result results[2];

	open_told(2);
	submit(ops, 2, NULL);
	submit(ops, 1, NULL);
	expect_told(0, 1, false, SHMETA_OK, 5);
	cr_expect_eq(told.event[0].count, 2);
	expect_told(1, 2, false, SHMETA_OK, 0);
	/* One too many, and one that makes no sense. */
	cr_expect_eq(shmeta_submit(client, ops, 1, NULL, NULL), SHMETA_ERR_BUSY);
	expect_told(2, 3, false, SHMETA_OK, 0);
	expect_told(3, 3, true, SHMETA_ERR_BUSY, 0);
	cr_expect_eq(shmeta_submit(client, ops, 0, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_write(client, ops, 2, 1000, results, NULL), SHMETA_ERR_BUSY);
	expect_told(4, 4, false, SHMETA_OK, 5);
	expect_told(5, 4, true, SHMETA_ERR_BUSY, 5);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS), 1);
	scripted_done(&writer, &got);
	process();
	cr_expect_eq(told.count, 7);
	expect_told(6, 1, true, SHMETA_OK, 5);
	/* The other one ends with the client. */
	shmeta_client_close(client);
	client = NULL;
	cr_expect_eq(told.count, 8);
	expect_told(7, 2, true, SHMETA_ERR_OUTCOME_UNKNOWN, 0);
}

Test(client_done, a_refresh_that_is_canceled_has_an_end)
{
	const struct shmeta_key key = {.cls = SHMETA_CLASS_TOPIC, .topic = fake_str("a")};
	uint64_t ticket;

	open_told(0);
	cr_assert_eq(shmeta_submit_refresh(client, &key, 0, NULL, NULL, &ticket), SHMETA_OK);
	cr_assert_eq(shmeta_client_cancel(client, ticket), SHMETA_OK);
	cr_assert_eq(shmeta_client_cancel(client, ticket), SHMETA_ERR_NOT_FOUND);
	cr_assert_eq(told.count, 2);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(told.event[i].type, 0);
		cr_expect_eq(told.event[i].count, 1);
		cr_expect_eq(told.event[i].ended, (uint32_t)i);
		cr_expect_eq(told.event[i].status, i == 0 ? SHMETA_OK : SHMETA_END);
	}
}

Test(client_done, a_blocking_write_is_told_of_on_its_thread_and_an_older_programs_options_do)
{
	struct shmeta_client_options options = {.size = offsetof(struct shmeta_client_options, on_call),
	                                        .on_call = hear, /* behind what it says it has */
	                                        .on_call_arg = &told};
	const struct shmeta_op op = traced("a", 3);
	struct shmeta_result result;

	scripted_unlisten(&writer);
	open_told(1);
	cr_expect_eq(shmeta_write(client, &op, 1, 30, &result, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_expect_eq(told.count, 2);
	expect_told(0, 1, false, SHMETA_OK, 3);
	expect_told(1, 1, true, SHMETA_ERR_WRITER_AWAY, 3);
	cr_expect_geq(told.event[1].took_ns, 30000000u);
	shmeta_client_close(client);
	cr_assert_eq(shmeta_client_open(instance, &options, &client), SHMETA_OK);
	cr_expect_eq(shmeta_write(client, &op, 1, 30, &result, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_expect_eq(told.count, 2);
}
