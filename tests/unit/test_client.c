/* SPDX-License-Identifier: Apache-2.0
 * The client against a writer that the test plays by hand: what goes out when, what comes back to
 * whom, and what is said of writes whose connection broke. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reader/client/client.h"
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
	/* No registration: the only connections are the client's. */
	instance = fake_open(w, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	cr_assert_not_null(instance);
	scripted_listen(&writer, w->dir);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static bool tearing_down; /* what a test left unanswered is told then, and its outcome is gone */

static void tear_down(void)
{
	tearing_down = true;
	shmeta_client_close(client);
	shmeta_close(instance);
	scripted_stop(&writer);
	fake_writer_free(w);
}

TestSuite(client, .init = set_up, .fini = tear_down, .timeout = 30);

static void reopen(const struct shmeta_client_options *options)
{
	shmeta_client_close(client);
	cr_assert_eq(shmeta_client_open(instance, options, &client), SHMETA_OK);
}

/* ---- operations and what becomes of them ---- */

static struct shmeta_op named(enum shmeta_op_type type, const char *name, uint64_t request_id)
{
	struct shmeta_op op = {.type = type, .name = fake_str(name), .request_id = {request_id, 0}};

	if (type == SHMETA_OP_ENSURE_GROUP)
		op.group_id = fake_str(name);
	return op;
}

/* Any operation will do: this one is a name. */
static struct shmeta_op simple(const char *name)
{
	return named(SHMETA_OP_DELETE_TOPIC, name, 0);
}

static struct shmeta_op object(const char *key, uint64_t request_id)
{
	struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OBJECT, .request_id = {request_id, 0}};

	op.u.object.s3_key = fake_str(key);
	return op;
}

static struct shmeta_op slice(const char *id, uint64_t request_id)
{
	struct shmeta_op op = {.type = SHMETA_OP_ADD_SLICE, .name = fake_str("t"), .request_id = {request_id, 0}};

	op.u.segment.id = fake_str(id);
	return op;
}

enum { OUTCOMES_KEPT = 16 };

struct outcome {
	int times;
	enum shmeta_status status;
	size_t count;
	struct shmeta_result results[OUTCOMES_KEPT];
	struct shmeta_token token;
};

static void note(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                 const struct shmeta_token *token)
{
	struct outcome *o = arg;

	if (tearing_down)
		return;
	o->times++;
	o->status = status;
	o->count = count;
	memcpy(o->results, results, (count < OUTCOMES_KEPT ? count : OUTCOMES_KEPT) * sizeof *results);
	o->token = *token;
}

static void submit(const struct shmeta_op *ops, size_t count, struct outcome *ret)
{
	*ret = (struct outcome){0};
	cr_assert_eq(shmeta_submit(client, ops, count, note, ret), SHMETA_OK);
}

static void submit_one(struct shmeta_op op, struct outcome *ret)
{
	submit(&op, 1, ret);
}

static void process(void)
{
	(void)!shmeta_client_process(client, NULL);
}

/* Back-off is over within patience; how long it is does not matter here. */
static void until_accepted(void)
{
	for (int i = 0; i < SCRIPTED_PATIENCE_MS; i++) {
		process();
		if (scripted_accept(&writer, 0))
			return;
		(void)poll(NULL, 0, 1);
	}
	cr_assert_fail("the client did not connect");
}

static void until_greeted(void)
{
	until_accepted();
	scripted_take_hello(&writer);
	scripted_welcome(&writer);
	process();
}

static void take(const char *name)
{
	cr_assert_eq(scripted_take(&writer, &got, 0), 1, "%s was not sent", name);
	cr_assert_eq(got.count, 1);
	cr_assert(got.ops[0].name.bytes == strlen(name) && memcmp(got.ops[0].name.data, name, strlen(name)) == 0,
	          "'%.*s' came instead of %s", (int)got.ops[0].name.bytes, got.ops[0].name.data, name);
}

static void nothing_comes(void)
{
	cr_assert_eq(scripted_take(&writer, &got, 0), 0, "something was sent");
}

static void was(const struct outcome *o, enum shmeta_status status, const char *words)
{
	cr_assert_eq(o->times, 1, "its callback ran %d times", o->times);
	cr_assert_eq(o->status, status, "%d: %s", o->status, o->results[0].text);
	if (words != NULL)
		cr_assert(strstr(o->results[0].text, words) != NULL, "'%s' does not say '%s'", o->results[0].text,
		          words);
}

/* ---- the connection ---- */

Test(client, opening_one_makes_no_connection_and_the_first_call_does)
{
	struct outcome o;

	cr_assert_eq(shmeta_client_fd(client), -1);
	cr_assert_eq(shmeta_client_events(client), 0);
	process();
	cr_assert_eq(scripted_accept(&writer, 0), 0);
	submit_one(simple("a"), &o);
	cr_assert_eq(scripted_accept(&writer, 0), 1);
	cr_assert_geq(shmeta_client_fd(client), 0);
	cr_assert_eq(shmeta_client_events(client), POLLIN);
}

Test(client, the_hello_says_who_and_which_versions_and_nothing_follows_it_before_the_welcome)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	until_accepted();
	scripted_take_hello(&writer);
	cr_assert_eq(writer.hello.version_min, SHMETA_WIRE_VERSION);
	cr_assert_eq(writer.hello.version_max, SHMETA_WIRE_VERSION);
	cr_assert_neq(writer.hello.agent_name[0], 0);
	nothing_comes();
	process();
	nothing_comes();
	scripted_welcome(&writer);
	process();
	take("a");
	cr_assert_str_eq(got.tenant, SHMETA_DEFAULT_TENANT);
	cr_assert_eq(got.frame->timeout_ms, 0, "nobody limited it");
}

Test(client, calls_go_out_in_their_order_and_answers_in_any_order_reach_their_callers)
{
	const char *names[] = {"a", "b", "c", "d", "e"};
	struct shmeta_result failed = {.status = SHMETA_ERR_TOPIC_NOT_FOUND, .text = "no such topic"};
	struct scripted_write frames[5];
	struct outcome o[5];

	for (int i = 0; i < 5; i++)
		submit_one(simple(names[i]), &o[i]);
	until_greeted();
	for (int i = 0; i < 5; i++) {
		take(names[i]);
		frames[i].frame = NULL;
		memcpy(&frames[i], &got, sizeof got);
		frames[i].frame = (const struct shmeta_frame_write *)frames[i].packet;
	}
	for (int i = 4; i >= 0; i--)
		scripted_results(&writer, &frames[i], i == 2 ? &failed : NULL, SHMETA_OK, 7, (uint64_t)i);
	process();
	for (int i = 0; i < 5; i++) {
		was(&o[i], SHMETA_OK, NULL);
		cr_assert_eq(o[i].count, 1);
		cr_assert_eq(o[i].token.generation, 7);
		cr_assert_eq(o[i].token.txn, (uint64_t)i);
		cr_assert_eq(o[i].results[0].status, i == 2 ? SHMETA_ERR_TOPIC_NOT_FOUND : SHMETA_OK);
	}
	cr_assert_str_eq(o[2].results[0].text, "no such topic");
}

/* A writer leaves out the sentences of results that would not fit a frame. */
Test(client, a_result_that_failed_without_a_sentence_has_that_of_its_status)
{
	struct shmeta_result result = {.status = SHMETA_ERR_FENCED};
	struct outcome o;

	submit_one(simple("a"), &o);
	until_greeted();
	take("a");
	scripted_results(&writer, &got, &result, SHMETA_OK, 1, 1);
	process();
	was(&o, SHMETA_OK, shmeta_strerror(SHMETA_ERR_FENCED));
	cr_assert_eq(o.results[0].status, SHMETA_ERR_FENCED);
}

Test(client, results_carry_what_their_types_have)
{
	struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                       .name = fake_str("t"),
	                       .partition_id = 3,
	                       .agent_id = fake_str("me"),
	                       .duration_ms = 1000};
	struct shmeta_result result = {.partition_id = 3,
	                               .lease = {.epoch = 9, .lease_expires_at_ms = 11, .acquired_at_ms = 10}};
	struct outcome o;

	submit_one(op, &o);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	cr_assert_eq(got.ops[0].duration_ms, 1000);
	scripted_results(&writer, &got, &result, SHMETA_OK, 1, 1);
	process();
	was(&o, SHMETA_OK, NULL);
	cr_assert_eq(o.results[0].lease.epoch, 9);
	cr_assert_eq(o.results[0].lease.lease_expires_at_ms, 11);
	cr_assert_eq(o.results[0].lease.partition_id, 3);
}

/* ---- large calls ---- */

Test(client, a_call_that_does_not_fit_a_frame_goes_out_as_several_and_its_results_are_joined)
{
	enum { MANY = 300 };
	static struct shmeta_op ops[MANY];
	static char names[MANY][8];
	static struct shmeta_result results[MANY];
	struct outcome o;
	size_t seen = 0;
	int frames = 0;

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(names[i], sizeof names[i], "n%d", i);
		ops[i] = simple(names[i]);
	}
	writer.frame_max = 8192;
	submit(ops, MANY, &o);
	until_greeted();
	while (scripted_take(&writer, &got, 0) == 1) {
		cr_assert_leq(got.frame->head.bytes, 8192);
		for (size_t i = 0; i < got.count; i++, seen++) {
			cr_assert_eq(strncmp(got.ops[i].name.data, names[seen], got.ops[i].name.bytes), 0);
			results[i] = (struct shmeta_result){.status = seen == 5 ? SHMETA_ERR_CONFLICT : SHMETA_OK};
		}
		frames++;
		scripted_results(&writer, &got, results, SHMETA_OK, frames == 2 ? 9 : 3, (uint64_t)frames);
		if (seen < MANY)
			cr_assert_eq(o.times, 0);
		process();
	}
	cr_assert_eq(seen, (size_t)MANY);
	cr_assert_gt(frames, 4);
	was(&o, SHMETA_OK, NULL);
	cr_assert_eq(o.count, (size_t)MANY);
	cr_assert_eq(o.results[5].status, SHMETA_ERR_CONFLICT);
	cr_assert_eq(o.token.generation, 9, "the latest of all frames");
	cr_assert_eq(o.token.txn, 2);
}

Test(client, the_status_of_a_call_in_several_frames_is_the_gravest_of_theirs)
{
	enum { MANY = 100 };
	static struct shmeta_op ops[MANY];
	size_t first, second;
	struct outcome o;

	for (int i = 0; i < MANY; i++)
		ops[i] = simple("x");
	writer.frame_max = 4096;
	submit(ops, 60, &o);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	first = got.count;
	scripted_results(&writer, &got, NULL, SHMETA_OK, 1, 5);
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	second = got.count;
	scripted_refuse(&writer, got.frame->head.id, SHMETA_ERR_SOURCE, "the source is away");
	process();
	while (scripted_take(&writer, &got, 0) == 1) {
		scripted_results(&writer, &got, NULL, SHMETA_ERR_NOT_CACHED, 1, 6);
		process();
	}
	cr_assert_geq(first + second, 16);
	cr_assert_eq(o.times, 1);
	cr_assert_eq(o.status, SHMETA_ERR_SOURCE);
	cr_assert_eq(o.results[0].status, SHMETA_OK, "what has a result keeps it");
}

Test(client, an_object_and_its_slices_share_a_frame)
{
	struct shmeta_op ops[40];
	struct outcome o;
	size_t seen = 0;

	ops[0] = simple("x");
	ops[1] = object("o1", 0);
	for (int i = 2; i < 20; i++)
		ops[i] = slice("s", 0);
	ops[20] = object("o2", 0);
	for (int i = 21; i < 40; i++)
		ops[i] = slice("s", 0);
	writer.frame_max = 4096; /* takes the results of one of them, not of more */
	submit(ops, 40, &o);
	until_greeted();
	while (scripted_take(&writer, &got, 0) == 1) {
		cr_assert(seen == 0 || seen == 1 || seen == 20, "cut at %zu", seen);
		seen += got.count;
		scripted_done(&writer, &got);
		process();
	}
	cr_assert_eq(seen, 40);
	was(&o, SHMETA_OK, NULL);
}

Test(client, an_object_too_large_for_any_frame_is_refused_at_once)
{
	enum { MANY = 1024 };
	static struct shmeta_op ops[MANY];
	struct outcome o = {0};
	char error[480];

	ops[0] = object("o", 0);
	for (int i = 1; i < MANY; i++)
		ops[i] = slice("s", 0);
	cr_assert_eq(shmeta_submit(client, ops, MANY, note, &o), SHMETA_ERR_INVALID_ARGUMENT);
	(void)shmeta_last_error(instance, error, sizeof error);
	cr_assert(strstr(error, "operation 0: commit_object with its slices") != NULL &&
	                  strstr(error, "131000") != NULL,
	          "%s", error);
	cr_assert_eq(scripted_accept(&writer, 0), 0);
	cr_assert_eq(o.times, 0);
}

Test(client, a_slice_without_its_object_in_front_is_refused_at_once)
{
	struct shmeta_op ops[3] = {object("o", 0), simple("x"), slice("s", 0)};
	struct shmeta_result results[3];
	struct outcome o = {0};
	char error[480];

	cr_assert_eq(shmeta_submit(client, ops, 3, note, &o), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "operation 2") != NULL, "%s", error);
	cr_assert_eq(shmeta_write(client, ops + 2, 1, 10, results, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "operation 0") != NULL, "%s", error);
	cr_assert_eq(results[0].status, SHMETA_ERR_INVALID_ARGUMENT, "who looks only at the results sees it, too");
}

/* It fitted when it was queued; the writer that came takes smaller frames. */
Test(client, what_does_not_fit_this_writers_frames_fails_alone)
{
	static char id[900];
	struct shmeta_op ops[8] = {object("o", 0)};
	struct outcome large, small;

	memset(id, 'i', sizeof id - 1);
	for (int i = 1; i < 8; i++)
		ops[i] = slice(id, 0);
	writer.frame_max = 4096;
	submit(ops, 8, &large);
	submit_one(simple("a"), &small);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	process();
	was(&large, SHMETA_ERR_INVALID_ARGUMENT, "frames of 4096 bytes");
	was(&small, SHMETA_OK, NULL);
}

Test(client, frames_shrink_to_what_the_sockets_buffer_takes)
{
	enum { MANY = 600 };
	static struct shmeta_op ops[MANY];
	int buffer = 16384, seen = 0;
	struct outcome o;

	for (int i = 0; i < MANY; i++)
		ops[i] = simple("x");
	submit(ops, MANY, &o);
	until_accepted();
	scripted_take_hello(&writer);
	cr_assert_eq(setsockopt(shmeta_client_fd(client), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), 0);
	scripted_welcome(&writer);
	for (int i = 0; i < 100 && o.times == 0; i++) {
		process();
		while (scripted_take(&writer, &got, 0) == 1) {
			cr_assert_leq(got.frame->head.bytes, 32768);
			seen += (int)got.count;
			scripted_done(&writer, &got);
		}
	}
	cr_assert_eq(seen, MANY);
	was(&o, SHMETA_OK, NULL);
}

/* ---- limits ---- */

Test(client, calls_beyond_requests_max_are_busy_until_an_answer_was_delivered)
{
	const struct shmeta_client_options options = {.size = sizeof options, .requests_max = 2};
	struct outcome a, b, c = {0};
	struct shmeta_op op = simple("c");
	char error[480];

	reopen(&options);
	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	cr_assert_eq(shmeta_submit(client, &op, 1, note, &c), SHMETA_ERR_BUSY);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "requests_max") != NULL, "%s", error);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	process();
	was(&a, SHMETA_OK, NULL);
	cr_assert_eq(shmeta_submit(client, &op, 1, note, &c), SHMETA_OK);
	cr_assert_eq(shmeta_submit(client, &op, 1, note, &c), SHMETA_ERR_BUSY);
}

Test(client, calls_beyond_output_bytes_are_busy_and_one_that_never_fits_is_refused)
{
	const struct shmeta_client_options options = {.size = sizeof options, .output_bytes = 400};
	struct shmeta_op ops[4] = {simple("a"), simple("b"), simple("c"), simple("d")};
	struct outcome o, never = {0};
	char error[480];

	reopen(&options);
	cr_assert_eq(shmeta_submit(client, ops, 4, note, &never), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "output_bytes") != NULL, "%s", error);
	submit(ops, 2, &o);
	cr_assert_eq(shmeta_submit(client, ops, 1, note, &never), SHMETA_ERR_BUSY);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "output_bytes") != NULL, "%s", error);
	cr_assert_eq(never.times, 0);
}

Test(client, no_more_frames_are_unanswered_than_the_writer_allows)
{
	static struct scripted_write first;
	struct outcome a, b, c;

	writer.requests_max = 2;
	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	submit_one(simple("c"), &c);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &first, 0), 1);
	take("b");
	nothing_comes();
	scripted_done(&writer, &first);
	process();
	was(&a, SHMETA_OK, NULL);
	take("c");
	nothing_comes();
}

/* A writer takes a peer that lets answers pile up for one that does not read. */
Test(client, answers_on_their_way_stay_below_what_a_writer_keeps_for_a_peer)
{
	enum { CALLS = 900, EACH = 4 };
	static struct outcome o[CALLS];
	struct shmeta_op ops[EACH] = {simple("a"), simple("b"), simple("c"), simple("d")};
	size_t unanswered = 0;

	for (int i = 0; i < CALLS; i++)
		submit(ops, EACH, &o[i]);
	until_greeted();
	while (scripted_take(&writer, &got, 0) == 1)
		unanswered += got.count;
	cr_assert_gt(unanswered, 100);
	cr_assert_leq(unanswered * (sizeof(struct shmeta_wire_result) + 160), 128 << 10);
}

Test(client, what_the_kernel_does_not_take_waits_for_pollout)
{
	enum { CALLS = 20 };
	static struct outcome o[CALLS];
	static char text[60000];
	struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OFFSET, .name = fake_str("t")};
	int seen = 0, answered = 0;

	memset(text, 'm', sizeof text);
	op.u.committed.group_id = fake_str("g");
	op.u.committed.has_metadata = 1;
	op.u.committed.metadata = (struct shmeta_str){text, sizeof text};
	for (int i = 0; i < CALLS; i++)
		submit_one(op, &o[i]);
	until_greeted();
	cr_assert_eq(shmeta_client_events(client), POLLIN | POLLOUT, "1.2 MB fit no socket");
	while (scripted_take(&writer, &got, 0) == 1) {
		seen++;
		scripted_done(&writer, &got);
		process();
	}
	process();
	for (int i = 0; i < CALLS; i++)
		answered += o[i].times == 1 && o[i].status == SHMETA_OK;
	cr_assert_eq(seen, CALLS);
	cr_assert_eq(answered, CALLS);
	cr_assert_eq(shmeta_client_events(client), POLLIN);
}

/* ---- time ---- */

Test(client, a_write_without_a_writer_is_answered_away_at_its_deadline_and_was_not_sent)
{
	struct shmeta_op op = simple("a");
	struct shmeta_result result;
	struct shmeta_token token;
	char error[480];

	scripted_unlisten(&writer);
	cr_assert_eq(shmeta_write(client, &op, 1, 30, &result, &token), SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(result.status, SHMETA_ERR_WRITER_AWAY);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "no writer answers") != NULL, "%s", error);
}

static void *greet_later(void *arg)
{
	(void)arg;
	(void)poll(NULL, 0, 30);
	scripted_listen(&writer, w->dir);
	scripted_greet(&writer);
	if (scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS) == 1)
		scripted_done(&writer, &got);
	return NULL;
}

Test(client, a_write_waits_for_a_writer_that_comes_back_in_time)
{
	struct shmeta_op op = simple("a");
	struct shmeta_result result;
	struct shmeta_token token = {0};
	pthread_t thread;

	scripted_unlisten(&writer);
	cr_assert_eq(pthread_create(&thread, NULL, greet_later, NULL), 0);
	cr_assert_eq(shmeta_write(client, &op, 1, 10000, &result, &token), SHMETA_OK);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(result.status, SHMETA_OK);
	cr_assert_eq(token.txn, 1);
}

static void *greet_now(void *arg)
{
	(void)arg;
	scripted_greet(&writer);
	return NULL;
}

/* In the background: hello is answered, nothing else. */
static void write_unanswered(struct shmeta_op op, uint32_t timeout_ms, enum shmeta_status expected)
{
	struct shmeta_result result;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, greet_now, NULL), 0);
	cr_assert_eq(shmeta_write(client, &op, 1, timeout_ms, &result, NULL), expected);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(result.status, expected, "%s", result.text);
}

Test(client, a_write_that_is_not_answered_in_time_may_be_done_and_its_late_answer_is_nobodys)
{
	struct outcome o;

	write_unanswered(simple("late"), 300, SHMETA_ERR_TIMEOUT);
	submit_one(simple("b"), &o);
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	cr_assert(got.frame->timeout_ms >= 1 && got.frame->timeout_ms <= 300, "%u", got.frame->timeout_ms);
	scripted_done(&writer, &got);
	process();
	cr_assert_eq(o.times, 0, "that answer was another's");
	take("b");
	scripted_done(&writer, &got);
	process();
	was(&o, SHMETA_OK, NULL);
	cr_assert_eq(writer.accepted, 1, "the same connection all the time");
}

Test(client, a_write_that_the_writer_takes_no_more_of_was_not_sent)
{
	struct outcome o;
	struct shmeta_op op = simple("b");
	struct shmeta_result result;

	writer.requests_max = 1;
	submit_one(simple("a"), &o);
	until_greeted();
	take("a");
	cr_assert_eq(shmeta_write(client, &op, 1, 20, &result, NULL), SHMETA_ERR_BUSY);
	cr_assert_eq(result.status, SHMETA_ERR_BUSY);
	nothing_comes();
	scripted_done(&writer, &got);
	process();
	was(&o, SHMETA_OK, NULL);
	nothing_comes();
}

Test(client, a_submitted_call_can_have_a_time_limit)
{
	const struct shmeta_client_options options = {.size = sizeof options, .submit_timeout_ms = 40};
	struct outcome sent, unsent;
	uint32_t wait_ms = 0;

	reopen(&options);
	writer.requests_max = 1;
	submit_one(simple("a"), &sent);
	submit_one(simple("b"), &unsent);
	until_greeted();
	take("a");
	cr_assert(got.frame->timeout_ms >= 1 && got.frame->timeout_ms <= 40);
	for (int i = 0; i < SCRIPTED_PATIENCE_MS && unsent.times == 0; i++) {
		cr_assert_eq(shmeta_client_process(client, &wait_ms), SHMETA_OK);
		cr_assert_leq(wait_ms, 1000);
		(void)poll(NULL, 0, 1);
	}
	was(&sent, SHMETA_ERR_TIMEOUT, "may still be done");
	was(&unsent, SHMETA_ERR_BUSY, "not sent");
}

static void *write_and_wait(void *arg)
{
	static struct shmeta_op op;
	static struct shmeta_result result;
	uint32_t *timeout_ms = arg;

	op = simple("w");
	(void)!shmeta_write(client, &op, 1, *timeout_ms, &result, NULL);
	return NULL;
}

static void until_polled(void)
{
	for (int i = 0; i < SCRIPTED_PATIENCE_MS && !__atomic_load_n(&client->polling, __ATOMIC_SEQ_CST); i++)
		(void)poll(NULL, 0, 1);
	cr_assert(client->polling);
}

static void greet_at_once(struct outcome *o)
{
	submit_one(simple("first"), o);
	until_greeted();
	take("first");
	scripted_done(&writer, &got);
	process();
	was(o, SHMETA_OK, NULL);
}

Test(client, a_submitted_call_ends_in_time_also_while_another_thread_waits_for_long)
{
	const struct shmeta_client_options options = {.size = sizeof options, .submit_timeout_ms = 50};
	uint32_t timeout_ms = 20000, wait_ms = 0;
	struct outcome first, o;
	pthread_t thread;
	int turns = 0;

	reopen(&options);
	greet_at_once(&first);
	cr_assert_eq(pthread_create(&thread, NULL, write_and_wait, &timeout_ms), 0);
	until_polled();
	submit_one(simple("s"), &o);
	/* 50 ms and what a busy machine adds: in a few turns, each as long as is said */
	while (o.times == 0 && turns < 400) {
		cr_assert_eq(shmeta_client_process(client, &wait_ms), SHMETA_OK);
		if (o.times == 0)
			(void)poll(NULL, 0, (int)wait_ms);
		turns++;
	}
	was(&o, SHMETA_ERR_TIMEOUT, "may still be done");
	cr_expect_lt(turns, 100, "%d turns: a loop that runs idle", turns);
	take("w");
	scripted_done(&writer, &got);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

enum { MUCH = 30 };

static void *write_much(void *arg)
{
	static char text[60000];
	static struct shmeta_op ops[MUCH];
	static struct shmeta_result results[MUCH];
	enum shmeta_status *ret = arg;

	memset(text, 'm', sizeof text);
	for (int i = 0; i < MUCH; i++) {
		ops[i] = (struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET, .name = fake_str("t")};
		ops[i].u.committed.group_id = fake_str("g");
		ops[i].u.committed.has_metadata = 1;
		ops[i].u.committed.metadata = (struct shmeta_str){text, sizeof text};
	}
	*ret = shmeta_write(client, ops, MUCH, 20000, results, NULL);
	return NULL;
}

Test(client, what_the_kernel_did_not_take_goes_out_also_while_another_thread_waits_for_its_answer)
{
	enum shmeta_status status = SHMETA_UNKNOWN;
	static struct scripted_write first;
	uint32_t timeout_ms = 20000;
	pthread_t waiter, writing;
	struct outcome o;
	int seen = 0;

	greet_at_once(&o);
	cr_assert_eq(pthread_create(&waiter, NULL, write_and_wait, &timeout_ms), 0);
	until_polled();
	cr_assert_eq(scripted_take(&writer, &first, SCRIPTED_PATIENCE_MS), 1);
	cr_assert_eq(pthread_create(&writing, NULL, write_much, &status), 0);
	/* All of 1.8 MB come, although nothing is answered. */
	while (seen < MUCH && scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS) == 1)
		seen += (int)got.count;
	cr_expect_eq(seen, MUCH, "%d of %d operations were sent", seen, MUCH);
	scripted_close(&writer);
	scripted_unlisten(&writer);
	cr_assert_eq(pthread_join(waiter, NULL), 0);
	cr_assert_eq(pthread_join(writing, NULL), 0);
	cr_expect_eq(status, SHMETA_ERR_OUTCOME_UNKNOWN);
}

Test(client, a_writer_that_never_welcomes_is_left)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	until_accepted();
	for (int i = 0; i < SCRIPTED_PATIENCE_MS && shmeta_client_fd(client) >= 0; i++) {
		process();
		(void)poll(NULL, 0, 1);
	}
	cr_assert_eq(shmeta_client_fd(client), -1);
	scripted_close(&writer);
	until_greeted();
	take("a");
	cr_assert_eq(o.times, 0);
}

/* ---- broken connections ---- */

Test(client, what_was_sent_and_not_answered_is_unknown_and_what_was_not_sent_goes_out_later)
{
	struct outcome a, b, c;

	writer.requests_max = 2;
	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	submit_one(simple("c"), &c);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	take("b");
	scripted_close(&writer);
	process();
	was(&a, SHMETA_OK, NULL);
	was(&b, SHMETA_ERR_OUTCOME_UNKNOWN, "may have been done");
	cr_assert_eq(c.times, 0);
	until_greeted();
	take("c");
	nothing_comes();
	scripted_done(&writer, &got);
	process();
	was(&c, SHMETA_OK, NULL);
}

Test(client, what_was_never_sent_survives_any_number_of_connections)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	for (int i = 0; i < 5; i++) {
		until_accepted();
		scripted_close(&writer);
		process();
		cr_assert_eq(o.times, 0);
	}
	writer.epoch = 17;
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	process();
	was(&o, SHMETA_OK, NULL);
}

Test(client, a_request_id_is_sent_again_to_the_writer_that_knows_it)
{
	struct outcome a, b;

	submit_one(named(SHMETA_OP_DELETE_TOPIC, "a", 77), &a);
	submit_one(simple("b"), &b);
	until_greeted();
	take("a");
	take("b");
	scripted_close(&writer);
	process();
	cr_assert_eq(a.times, 0);
	was(&b, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
	until_greeted();
	take("a");
	cr_assert_eq(got.ops[0].request_id[0], 77);
	nothing_comes();
	scripted_done(&writer, &got);
	process();
	was(&a, SHMETA_OK, NULL);
}

Test(client, a_request_id_is_not_sent_to_a_writer_of_another_epoch)
{
	struct outcome a, b;

	writer.requests_max = 1;
	submit_one(named(SHMETA_OP_DELETE_TOPIC, "a", 77), &a);
	submit_one(named(SHMETA_OP_DELETE_TOPIC, "b", 78), &b);
	until_greeted();
	take("a");
	scripted_close(&writer);
	writer.epoch = 2;
	until_greeted();
	was(&a, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
	take("b"); /* never sent: nothing to repeat */
	scripted_done(&writer, &got);
	process();
	was(&b, SHMETA_OK, NULL);
}

/* The numbers of writers begin again in a directory that was made anew. */
Test(client, a_request_id_is_not_sent_to_the_first_writer_of_a_directory_that_was_made_anew)
{
	struct outcome a, b;

	writer.requests_max = 1;
	submit_one(named(SHMETA_OP_DELETE_TOPIC, "a", 77), &a);
	submit_one(named(SHMETA_OP_DELETE_TOPIC, "b", 78), &b);
	until_greeted();
	take("a");
	scripted_stop(&writer);
	fake_remake(w);
	fake_begin(w);
	(void)fake_commit(w);
	scripted_listen(&writer, w->dir);
	cr_assert_eq(writer.epoch, 1);
	until_greeted();
	was(&a, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
	take("b"); /* never sent: nothing to repeat */
	scripted_done(&writer, &got);
	process();
	was(&b, SHMETA_OK, NULL);
}

Test(client, an_object_is_sent_again_only_when_all_of_it_has_ids)
{
	struct shmeta_op all[3] = {object("o", 1), slice("s", 2), slice("s", 3)};
	struct shmeta_op some[3] = {object("p", 4), slice("s", 0), slice("s", 6)};
	struct outcome a, b;

	submit(all, 3, &a);
	submit(some, 3, &b);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	scripted_close(&writer);
	process();
	was(&b, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	cr_assert_eq(got.count, 3);
	cr_assert_eq(got.ops[0].u.object.s3_key.data[0], 'o');
	scripted_done(&writer, &got);
	process();
	was(&a, SHMETA_OK, NULL);
}

/* The refusal speaks of the second sending; the first may have been done. */
Test(client, a_repeated_request_that_is_refused_stays_unknown)
{
	struct outcome o;

	submit_one(named(SHMETA_OP_DELETE_TOPIC, "a", 77), &o);
	until_greeted();
	take("a");
	scripted_close(&writer);
	until_greeted();
	take("a");
	scripted_refuse(&writer, got.frame->head.id, SHMETA_ERR_BUSY, "the queue is full");
	process();
	was(&o, SHMETA_ERR_OUTCOME_UNKNOWN, "the queue is full");
}

Test(client, a_request_that_breaks_every_connection_is_given_up)
{
	int sent = 0;
	struct outcome o;

	submit_one(named(SHMETA_OP_DELETE_TOPIC, "a", 77), &o);
	while (o.times == 0) {
		until_greeted();
		take("a");
		sent++;
		cr_assert_leq(sent, 20);
		scripted_close(&writer);
		process();
	}
	was(&o, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
	cr_assert_gt(sent, 2);
}

Test(client, parts_of_a_call_have_fates_of_their_own)
{
	enum { MANY = 40 };
	struct shmeta_op ops[MANY];
	struct shmeta_result results[MANY];
	struct outcome o;
	size_t first, second;

	memset(results, 0, sizeof results);
	for (int i = 0; i < MANY; i++)
		ops[i] = named(SHMETA_OP_DELETE_TOPIC, "x", i % 2 == 0 ? 1000 + (uint64_t)i : 0);
	writer.frame_max = 4096;
	writer.requests_max = 2;
	submit(ops, MANY, &o);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	first = got.count;
	scripted_done(&writer, &got);
	process();
	cr_assert_eq(scripted_take(&writer, &got, 0), 1);
	second = got.count;
	scripted_close(&writer);
	process();
	until_greeted();
	/* Of the second frame what has an id, and everything that was never sent. */
	while (scripted_take(&writer, &got, 0) == 1) {
		scripted_done(&writer, &got);
		process();
	}
	cr_assert_eq(o.times, 1);
	cr_assert_eq(o.status, SHMETA_ERR_OUTCOME_UNKNOWN);
	for (size_t i = 0; i < OUTCOMES_KEPT; i++)
		cr_assert_eq(o.results[i].status,
		             i >= first && i < first + second && i % 2 == 1 ? SHMETA_ERR_OUTCOME_UNKNOWN : SHMETA_OK,
		             "operation %zu of %zu and %zu: %d", i, first, second, o.results[i].status);
}

/* A socket that is closed with something unread says so (ECONNRESET) before it gives what came. */
Test(client, the_last_answer_of_a_writer_that_left_a_call_unread_counts)
{
	struct outcome a, b;

	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	scripted_close(&writer);
	process();
	was(&a, SHMETA_OK, NULL);
	was(&b, SHMETA_ERR_OUTCOME_UNKNOWN, NULL);
}

Test(client, the_last_answer_of_a_writer_that_is_gone_counts_where_the_next_call_finds_it_gone)
{
	struct outcome a, b;

	submit_one(simple("a"), &a);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	scripted_close(&writer);
	submit_one(simple("b"), &b);
	process();
	was(&a, SHMETA_OK, NULL);
	until_greeted();
	take("b");
}

Test(client, a_writer_that_is_leaving_hands_its_calls_to_its_successor)
{
	struct outcome a, b;

	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	until_greeted();
	take("a");
	scripted_refuse(&writer, got.frame->head.id, SHMETA_ERR_WRITER_AWAY, "stopping; nothing was done");
	take("b");
	scripted_refuse(&writer, got.frame->head.id, SHMETA_ERR_WRITER_AWAY, "stopping; nothing was done");
	process();
	scripted_close(&writer);
	writer.epoch = 2;
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	take("b");
	scripted_done(&writer, &got);
	process();
	was(&a, SHMETA_OK, NULL);
	was(&b, SHMETA_OK, NULL);
}

Test(client, nothing_more_is_sent_to_a_writer_that_is_leaving_while_its_last_answers_come)
{
	static struct scripted_write first;
	struct outcome a, b, c;

	submit_one(simple("a"), &a);
	submit_one(simple("b"), &b);
	until_greeted();
	cr_assert_eq(scripted_take(&writer, &first, 0), 1);
	take("b");
	scripted_refuse(&writer, got.frame->head.id, SHMETA_ERR_WRITER_AWAY, "stopping; nothing was done");
	process();
	submit_one(simple("c"), &c);
	process();
	nothing_comes();
	scripted_done(&writer, &first);
	process();
	was(&a, SHMETA_OK, NULL);
	cr_assert_eq(scripted_take(&writer, &got, 0), -1, "the last answer is there: the client goes, too");
	scripted_close(&writer);
	until_greeted();
	take("b");
	take("c");
}

Test(client, a_descriptor_that_somebody_closed_and_reused_is_not_written_to)
{
	struct outcome a, b;
	int pair[2], fd;
	char byte;

	submit_one(simple("a"), &a);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	process();
	fd = shmeta_client_fd(client);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	cr_assert_eq(dup2(pair[0], fd), fd);
	scripted_close(&writer);
	process();
	submit_one(simple("b"), &b);
	until_greeted();
	take("b");
	cr_assert_lt(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0, "the stranger got a frame");
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(fd);
}

Test(client, a_descriptor_that_was_reused_is_not_written_to_by_the_very_next_call)
{
	struct outcome first, b;
	int pair[2], fd;
	char byte;

	greet_at_once(&first);
	fd = shmeta_client_fd(client);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	cr_assert_eq(dup2(pair[0], fd), fd);
	scripted_close(&writer);
	submit_one(simple("b"), &b);
	cr_assert_lt(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0, "the stranger got a frame");
	until_greeted();
	take("b");
	cr_assert_lt(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0, "the stranger got a frame");
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(fd);
}

/* ---- refusals ---- */

Test(client, a_peer_without_the_right_to_write_is_told_at_once_and_asks_anew_with_its_next_call)
{
	struct outcome o;

	writer.verbs = SHMETA_VERB_READ;
	submit_one(simple("a"), &o);
	until_greeted();
	was(&o, SHMETA_ERR_DENIED, "may not write");
	cr_assert_eq(scripted_take(&writer, &got, 0), -1, "nothing was sent, and the connection is closed");
	scripted_close(&writer);
	writer.verbs |= SHMETA_VERB_WRITE;
	submit_one(simple("b"), &o);
	until_greeted();
	take("b");
}

Test(client, a_writer_of_no_common_version_is_told_at_once)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	until_accepted();
	scripted_take_hello(&writer);
	scripted_refuse(&writer, writer.hello.head.id, SHMETA_ERR_VERSION, "this writer speaks version 9");
	process();
	was(&o, SHMETA_ERR_VERSION, "version 9");
}

Test(client, a_writer_that_has_no_room_for_the_connection_is_asked_again)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	until_accepted();
	scripted_take_hello(&writer);
	scripted_refuse(&writer, writer.hello.head.id, SHMETA_ERR_BUSY, "too many connections");
	scripted_close(&writer);
	cr_assert_eq(shmeta_client_process(client, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(o.times, 0);
	until_greeted();
	take("a");
}

Test(client, a_refused_frame_fails_with_the_writers_sentence)
{
	static const enum shmeta_status refusals[] = {SHMETA_ERR_DENIED,    SHMETA_ERR_SOURCE,
	                                              SHMETA_ERR_READ_ONLY, SHMETA_ERR_BUSY,
	                                              SHMETA_ERR_TIMEOUT,   SHMETA_ERR_OUTCOME_UNKNOWN};
	struct outcome o;

	submit_one(simple("a"), &o);
	until_greeted();
	take("a");
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
		scripted_refuse(&writer, got.frame->head.id, refusals[i], "because\tof that");
		process();
		was(&o, refusals[i], "because\\x09of that");
		submit_one(simple("b"), &o);
		take("b");
	}
}

static void fill_frame(uint8_t *packet, uint16_t type, size_t bytes)
{
	struct shmeta_frame head = {
		.bytes = (uint32_t)bytes, .version = SHMETA_WIRE_VERSION, .type = type, .id = got.frame->head.id};

	memcpy(packet, &head, sizeof head);
}

Test(client, an_answer_that_makes_no_sense_breaks_the_connection_and_leaves_the_outcome_unknown)
{
	for (int way = 0; way < 10; way++) {
		uint64_t packet[200] = {0};
		struct shmeta_frame_results *results = (struct shmeta_frame_results *)packet;
		struct shmeta_frame_answer *answer = (struct shmeta_frame_answer *)packet;
		size_t bytes = sizeof *results;
		struct outcome o;

		submit_one(simple("a"), &o);
		until_greeted();
		take("a");
		fill_frame((uint8_t *)packet, SHMETA_FRAME_RESULTS, bytes);
		switch (way) {
		case 0: /* no result */
			break;
		case 1: /* a result that is cut off */
			results->result_count = 1;
			results->head.bytes = (uint32_t)(bytes += 80);
			break;
		case 2: /* bytes behind the last one */
			results->result_count = 1;
			((struct shmeta_wire_result *)(results + 1))->bytes = sizeof(struct shmeta_wire_result);
			results->head.bytes = (uint32_t)(bytes += sizeof(struct shmeta_wire_result) + 8);
			break;
		case 3: /* two results */
			results->result_count = 2;
			for (int i = 0; i < 2; i++)
				((struct shmeta_wire_result *)(results + 1))[i].bytes =
					sizeof(struct shmeta_wire_result);
			results->head.bytes = (uint32_t)(bytes += 2 * sizeof(struct shmeta_wire_result));
			break;
		case 4: /* a status that no RESULTS has */
			results->result_count = 1;
			results->status = SHMETA_ERR_SOURCE;
			((struct shmeta_wire_result *)(results + 1))->bytes = sizeof(struct shmeta_wire_result);
			results->head.bytes = (uint32_t)(bytes += sizeof(struct shmeta_wire_result));
			break;
		case 5: /* "all right" without results */
			fill_frame((uint8_t *)packet, SHMETA_FRAME_ANSWER, bytes = sizeof *answer);
			break;
		case 6: /* not an answer at all */
			fill_frame((uint8_t *)packet, SHMETA_FRAME_STATUS, bytes = sizeof(struct shmeta_frame));
			break;
		case 7: /* one result that calls itself seven */
			results->result_count = 7;
			((struct shmeta_wire_result *)(results + 1))->bytes = sizeof(struct shmeta_wire_result);
			results->head.bytes = (uint32_t)(bytes += sizeof(struct shmeta_wire_result));
			break;
		case 8: /* not a frame */
			bytes = 5;
			break;
		default: /* longer than any frame */
			bytes = 0;
			break;
		}
		if (bytes != 0) {
			scripted_send(&writer, packet, bytes);
		} else {
			static char large[SHMETA_FRAME_MAX + 100];

			scripted_send(&writer, large, sizeof large);
		}
		process();
		cr_assert_eq(o.times, 1, "way %d", way);
		cr_assert_eq(o.status, SHMETA_ERR_OUTCOME_UNKNOWN, "way %d: %d", way, o.status);
		cr_assert_eq(scripted_take(&writer, &got, 0), -1, "way %d: the connection is open", way);
		scripted_close(&writer);
	}
}

Test(client, an_answer_that_nobody_waits_for_breaks_the_connection)
{
	struct outcome o;

	submit_one(simple("a"), &o);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	process();
	scripted_done(&writer, &got);
	process();
	cr_assert_eq(scripted_take(&writer, &got, 0), -1);
}

Test(client, a_welcome_that_makes_no_sense_is_no_welcome)
{
	for (int way = 0; way < 3; way++) {
		struct outcome o;

		submit_one(simple("a"), &o);
		until_accepted();
		scripted_take_hello(&writer);
		writer.frame_max = way == 0 ? 100 : SHMETA_FRAME_MAX;
		writer.requests_max = way == 1 ? 0 : 1024;
		if (way == 2)
			writer.hello.head.id ^= 1;
		scripted_welcome(&writer);
		process();
		cr_assert_eq(scripted_take(&writer, &got, 0), -1, "way %d", way);
		scripted_close(&writer);
		cr_assert_eq(o.times, 0);
		shmeta_client_close(client);
		was(&o, SHMETA_ERR_WRITER_AWAY, "closed before it was sent");
		cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	}
}

/* ---- callbacks ---- */

Test(client, closing_tells_every_call_once_what_is_known_of_it)
{
	struct outcome answered, sent, unsent;

	writer.requests_max = 2;
	submit_one(simple("a"), &answered);
	submit_one(simple("b"), &sent);
	submit_one(simple("c"), &unsent);
	until_greeted();
	take("a");
	take("b");
	shmeta_client_close(client);
	client = NULL;
	was(&answered, SHMETA_ERR_OUTCOME_UNKNOWN, "closed");
	was(&sent, SHMETA_ERR_OUTCOME_UNKNOWN, "closed");
	was(&unsent, SHMETA_ERR_WRITER_AWAY, "closed");
}

struct chain {
	int left;
	int ran;
};

static void submit_more(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                        const struct shmeta_token *token)
{
	struct chain *chain = arg;
	struct shmeta_op op = simple("next");

	(void)results;
	(void)count;
	(void)token;
	chain->ran += status == SHMETA_OK;
	if (chain->left-- > 0)
		cr_assert_eq(shmeta_submit(client, &op, 1, submit_more, chain), SHMETA_OK);
}

Test(client, a_callback_may_submit)
{
	struct chain chain = {.left = 5};
	struct shmeta_op op = simple("next");

	cr_assert_eq(shmeta_submit(client, &op, 1, submit_more, &chain), SHMETA_OK);
	until_greeted();
	for (int i = 0; i < 6; i++) {
		take("next");
		scripted_done(&writer, &got);
		process();
	}
	cr_assert_eq(chain.ran, 6);
}

static void submit_at_close(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                            const struct shmeta_token *token)
{
	struct shmeta_op op = simple("too late");

	(void)status;
	(void)results;
	(void)count;
	(void)token;
	*(enum shmeta_status *)arg = shmeta_submit(client, &op, 1, submit_at_close, arg);
}

Test(client, a_callback_that_submits_while_the_client_closes_is_refused)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta_op op = simple("a");

	cr_assert_eq(shmeta_submit(client, &op, 1, submit_at_close, &status), SHMETA_OK);
	shmeta_client_close(client);
	client = NULL;
	cr_assert_eq(status, SHMETA_ERR_INVALID_ARGUMENT);
}

static void write_within(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                         const struct shmeta_token *token)
{
	struct shmeta_op op = simple("within");
	struct shmeta_result result;

	(void)status;
	(void)results;
	(void)count;
	(void)token;
	*(enum shmeta_status *)arg = shmeta_write(client, &op, 1, 10000, &result, NULL);
}

static void *answer_one(void *arg)
{
	(void)arg;
	if (scripted_take(&writer, &got, SCRIPTED_PATIENCE_MS) == 1)
		scripted_done(&writer, &got);
	return NULL;
}

Test(client, a_callback_may_write)
{
	enum shmeta_status status = SHMETA_ERR_SYSTEM;
	struct shmeta_op op = simple("a");
	pthread_t thread;

	cr_assert_eq(shmeta_submit(client, &op, 1, write_within, &status), SHMETA_OK);
	until_greeted();
	take("a");
	scripted_done(&writer, &got);
	cr_assert_eq(pthread_create(&thread, NULL, answer_one, NULL), 0);
	process();
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(status, SHMETA_OK);
}

/* Random calls against a writer that answers, refuses, breaks, leaves and changes epoch at
 * random. */
enum { RANDOM_CALLS = 400, RANDOM_OPS = 4 };

struct random_call {
	int times;
	size_t count;
	enum shmeta_status status;
	enum shmeta_status each[RANDOM_OPS];
};
static struct random_call calls[RANDOM_CALLS];
static int received[RANDOM_CALLS][RANDOM_OPS], done[RANDOM_CALLS][RANDOM_OPS];
static uint64_t received_by[RANDOM_CALLS][RANDOM_OPS]; /* epoch; 0: by none, or handed back */

static void note_random(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                        const struct shmeta_token *token)
{
	struct random_call *call = arg;

	(void)token;
	call->times++;
	call->status = status;
	cr_assert_eq(count, call->count);
	for (size_t i = 0; i < count; i++)
		call->each[i] = results[i].status;
}

/* Some operations have ids; each has the number of its call and of itself in its name. */
static void submit_random(int number, uint64_t random)
{
	struct shmeta_op ops[RANDOM_OPS];
	char names[RANDOM_OPS][24];

	calls[number].count = 1 + random % RANDOM_OPS;
	for (size_t i = 0; i < calls[number].count; i++) {
		(void)snprintf(names[i], sizeof names[i], "%d.%zu", number, i);
		ops[i] = named(SHMETA_OP_DELETE_TOPIC, names[i],
		               (random >> (8 + i) & 1) != 0 ? (uint64_t)number * RANDOM_OPS + i + 1 : 0);
	}
	cr_assert_eq(shmeta_submit(client, ops, calls[number].count, note_random, &calls[number]), SHMETA_OK);
}

static void answer_random(uint64_t random)
{
	int refuse = random % 8 == 0, leaves = (random & 64) != 0;

	for (size_t i = 0; i < got.count; i++) {
		int number, at;

		cr_assert_eq(sscanf(got.ops[i].name.data, "%d.%d", &number, &at), 2);
		received[number][at]++;
		cr_assert(received_by[number][at] == 0 || received_by[number][at] == writer.epoch,
		          "%d.%d was repeated to a writer that does not know it", number, at);
		received_by[number][at] = writer.epoch;
		if (random % 5 != 1 && refuse && leaves && received[number][at] == 1) {
			received[number][at] = 0; /* handed back: another may have it */
			received_by[number][at] = 0;
		}
		/* A writer that recognises the id does it once, whatever it answers afterwards. */
		if (!refuse && (received[number][at] == 1 || got.ops[i].request_id[0] == 0 || done[number][at] == 0))
			done[number][at]++;
	}
	if (random % 5 == 1)
		return; /* done, and the answer is lost with the connection, if it breaks */
	if (refuse)
		scripted_refuse(&writer, got.frame->head.id, leaves ? SHMETA_ERR_WRITER_AWAY : SHMETA_ERR_SOURCE, "no");
	else
		scripted_done(&writer, &got);
}

static void random_life(uint64_t seed)
{
	uint64_t random = seed * 2654435761u + 1;
	int submitted = 0;

	memset(calls, 0, sizeof calls);
	memset(received, 0, sizeof received);
	memset(done, 0, sizeof done);
	memset(received_by, 0, sizeof received_by);
	writer.requests_max = 4;
	writer.epoch = seed + 1;
	while (submitted < RANDOM_CALLS) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		for (uint64_t i = random >> 40 & 3; i > 0 && submitted < RANDOM_CALLS; i--)
			submit_random(submitted++, random >> (i * 7));
		process();
		if (writer.fd < 0) {
			if (scripted_accept(&writer, 1)) {
				scripted_take_hello(&writer);
				scripted_welcome(&writer);
			}
			continue;
		}
		for (uint64_t i = random >> 16 & 7; i > 0; i--) {
			int rc = scripted_take(&writer, &got, 0);

			if (rc == 1)
				answer_random(random >> i);
			if (rc < 0)
				scripted_close(&writer);
			if (rc <= 0)
				break;
		}
		if ((random >> 24 & 15) == 0) {
			scripted_close(&writer);
			writer.epoch += (random >> 30 & 3) == 0;
		}
	}
	shmeta_client_close(client);
	scripted_close(&writer);
	for (int n = 0; n < RANDOM_CALLS; n++) {
		cr_assert_eq(calls[n].times, 1, "seed %llu: callback of call %d ran %d times", (unsigned long long)seed,
		             n, calls[n].times);
		for (size_t i = 0; i < calls[n].count; i++) {
			enum shmeta_status status = calls[n].each[i];

			cr_assert_leq(done[n][i], 1, "seed %llu: %d.%zu was done twice", (unsigned long long)seed, n,
			              i);
			if (status == SHMETA_OK)
				cr_assert_eq(done[n][i], 1, "seed %llu: %d.%zu is OK and was not done",
				             (unsigned long long)seed, n, i);
			else if (status != SHMETA_ERR_OUTCOME_UNKNOWN)
				cr_assert_eq(done[n][i], 0, "seed %llu: %d.%zu was done, and %d",
				             (unsigned long long)seed, n, i, status);
		}
	}
	/* Connections that were made and are not wanted any more. */
	while (scripted_accept(&writer, 0))
		scripted_close(&writer);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

Test(client, through_random_breaks_every_callback_runs_once_nothing_is_done_twice_and_nothing_is_claimed, .timeout = 60)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		random_life(seed);
}

/* ---- fork ---- */

static void expect_in_child(int holds)
{
	if (!holds)
		_exit(1);
}

Test(client, a_child_is_refused_and_the_parents_connection_goes_on)
{
	struct shmeta_op op = simple("child");
	struct shmeta_token token = {1, 1};
	struct shmeta_result result;
	struct shmeta_client *other;
	struct outcome o;
	int status;
	pid_t child;

	submit_one(simple("a"), &o);
	until_greeted();
	take("a");
	child = fork();
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		expect_in_child(shmeta_write(client, &op, 1, 1000, &result, NULL) == SHMETA_ERR_FORKED);
		expect_in_child(shmeta_submit(client, &op, 1, note, &o) == SHMETA_ERR_FORKED);
		expect_in_child(shmeta_client_process(client, NULL) == SHMETA_ERR_FORKED);
		expect_in_child(shmeta_client_fd(client) == -1 && shmeta_client_events(client) == 0);
		expect_in_child(shmeta_client_open(instance, NULL, &other) == SHMETA_ERR_FORKED);
		expect_in_child(shmeta_wait_token(instance, &token, 1000) == SHMETA_ERR_FORKED);
		shmeta_client_close(client);
		shmeta_close(instance);
		expect_in_child(o.times == 0);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	nothing_comes();
	scripted_done(&writer, &got);
	process();
	was(&o, SHMETA_OK, NULL);
	cr_assert_eq(writer.accepted, 1);
}

/* ---- arguments ---- */

Test(client, arguments_that_make_no_sense_are_refused)
{
	const struct shmeta_client_options short_options = {.size = 8};
	struct shmeta_op op = simple("a"), unknown = {.type = (enum shmeta_op_type)99};
	static char huge[200000];
	struct shmeta_client *other = NULL;
	struct shmeta_result result;
	struct outcome o = {0};
	char error[480];

	cr_assert_eq(shmeta_client_open(NULL, NULL, &other), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_client_open(instance, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_client_open(instance, &short_options, &other), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_null(other);
	cr_assert_eq(shmeta_write(NULL, &op, 1, 1, &result, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_write(client, NULL, 1, 1, &result, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_write(client, &op, 0, 1, &result, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_write(client, &op, 1, 1, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_submit(NULL, &op, 1, note, &o), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_submit(client, &unknown, 1, note, &o), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "operation 0: type 99") != NULL, "%s",
	          error);
	memset(huge, 'h', sizeof huge);
	op.name = (struct shmeta_str){huge, sizeof huge};
	cr_assert_eq(shmeta_submit(client, &op, 1, note, &o), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "too long") != NULL, "%s", error);
	cr_assert_eq(shmeta_client_process(NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_wait_token(instance, NULL, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_client_fd(NULL), -1);
	shmeta_client_close(NULL);
	cr_assert_eq(o.times, 0);
	cr_assert_eq(scripted_accept(&writer, 0), 0);
}

/* ---- tokens ---- */

static void *commit_soon(void *arg)
{
	(void)poll(NULL, 0, 20);
	fake_begin(w);
	(void)fake_simple_topic(w, arg, 1);
	(void)fake_commit(w);
	return NULL;
}

Test(client, a_token_is_waited_for)
{
	struct shmeta_token token = {.generation = 1};
	struct shmeta_reader *reader = fake_reader(instance);
	struct shmeta_topic topic;
	pthread_t thread;
	char error[480];

	token.txn = w->gen->committed;
	cr_assert_eq(shmeta_wait_token(instance, &token, 0), SHMETA_OK, "it is shown already");
	token.txn++;
	cr_assert_eq(shmeta_wait_token(instance, &token, 20), SHMETA_ERR_TIMEOUT);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "commit") != NULL, "%s", error);
	cr_assert_eq(pthread_create(&thread, NULL, commit_soon, (void *)(uintptr_t) "new"), 0);
	cr_assert_eq(shmeta_wait_token(instance, &token, 10000), SHMETA_OK);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "new", 3, NULL, &topic, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	token.generation = 0;
	token.txn = UINT64_MAX;
	cr_assert_eq(shmeta_wait_token(instance, &token, 0), SHMETA_OK,
	             "a later generation shows all of an earlier one");
	token.generation = 2;
	token.txn = 1;
	cr_assert_eq(shmeta_wait_token(instance, &token, 20), SHMETA_ERR_TIMEOUT);
	fake_switch_generation(w);
	cr_assert_eq(shmeta_wait_token(instance, &token, 10000), SHMETA_OK);
	shmeta_reader_free(reader);
}

Test(client, a_token_is_waited_for_until_anything_is_published)
{
	struct shmeta_token token = {1, 1};
	struct fake_writer *empty = fake_writer_unpublished();
	struct shmeta *other = fake_open(empty, NULL, SHMETA_OPEN_UNREGISTERED, 0);

	cr_assert_not_null(other);
	cr_assert_eq(shmeta_wait_token(other, &token, 20), SHMETA_ERR_TIMEOUT);
	shmeta_close(other);
	fake_writer_free(empty);
}

/* ---- SOURCE ---- */

static uint64_t answered_at_ns[4];

/* The stamps that the next answers carry; 0: now. */
static void stamp_next(struct fake_writer *fake, void *arg)
{
	(void)arg;
	fake->answer_synced_at_ns = answered_at_ns[fake->refreshes < 4 ? fake->refreshes : 3];
}

static struct shmeta_reader *source_reader(void)
{
	struct shmeta_reader *reader;
	uint32_t id;

	scripted_unlisten(&writer);
	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_even_partition(w, id, 0, 3, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	fake_serve(w);
	w->on_refresh = stamp_next;
	reader = fake_reader(instance);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	return reader;
}

static void source_done(struct shmeta_reader *reader)
{
	(void)shmeta_end(reader);
	shmeta_reader_free(reader);
	fake_unserve(w);
}

Test(client, a_lookup_with_source_asks_the_source_though_the_answer_is_fresh)
{
	const struct shmeta_read fresh = {sizeof fresh, SHMETA_FRESH, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0},
				 source = {sizeof source, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	struct shmeta_reader *reader = source_reader();
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_handle *handle;
	struct shmeta_topic topic;

	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &fresh, &topic, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 0);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &source, &topic, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 1);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_TOPIC);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, &source, &partition, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 2);
	cr_assert_eq(shmeta_get_partition(handle, &source, &partition, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 3);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_PARTITION);
	cr_assert_eq(shmeta_find_segment(handle, 15, &source, &segment, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 0, 15, &source, &segment, NULL), SHMETA_OK);
	cr_assert_eq(w->refreshes, 5);
	cr_assert_eq(w->last_refresh.cls, SHMETA_CLASS_SEGMENT);
	cr_assert_eq(segment.base_offset, 10);
	shmeta_partition_close(handle);
	source_done(reader);
}

Test(client, a_lookup_with_source_does_not_take_a_read_that_began_before_it)
{
	const struct shmeta_read source = {sizeof source, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	struct shmeta_reader *reader = source_reader();
	struct shmeta_freshness age;
	struct shmeta_topic topic;
	char error[480];

	/* The first answer is of a read that was under way. */
	answered_at_ns[0] = answered_at_ns[1] = fake_now_ns(w) - 1000000000;
	answered_at_ns[2] = 0;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &source, &topic, &age), SHMETA_OK);
	cr_assert_eq(w->refreshes, 2, "%u", w->refreshes);
	/* A writer whose reads always began before is not believed. */
	answered_at_ns[2] = answered_at_ns[3] = answered_at_ns[0];
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &source, &topic, NULL), SHMETA_ERR_SOURCE);
	cr_assert(strstr(shmeta_last_error(instance, error, sizeof error), "before it was asked") != NULL, "%s", error);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LEASE, NULL, 0, 0, 5000, NULL), SHMETA_ERR_SOURCE);
	source_done(reader);
}

Test(client, a_lookup_with_source_fails_when_nobody_can_be_asked)
{
	const struct shmeta_read source = {sizeof source, SHMETA_SOURCE, 100, SHMETA_READ_MAY_MOVE, 0, NULL, 0};
	struct shmeta_reader *reader = source_reader();
	struct shmeta_topic topic;

	fake_unserve(w);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &source, &topic, NULL), SHMETA_ERR_WRITER_AWAY);
	fake_serve(w);
	w->answer = SHMETA_ERR_SOURCE;
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &source, &topic, NULL), SHMETA_ERR_SOURCE);
	source_done(reader);
}
