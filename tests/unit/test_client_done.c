/* SPDX-License-Identifier: Apache-2.0
 * Completions that are taken from a queue instead of callbacks, and what failed results say beside their sentence. */
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

/* One is taken and not given back, one waits, one is under way: closing frees them all (LeakSanitizer looks). */
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
