/* SPDX-License-Identifier: Apache-2.0
 * Waits that an event loop submits, over a writer that runs: woken by the commit that they are for
 * and by no other, across its restarts, and given up. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/wire/wire.h"
#include "tests/support/run_daemon.h"
#include "tests/support/streamhouse_schema.h"

enum { WAIT_MS = 30000, PARTITIONS = 1000 };
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}

static struct run_daemon d;
static struct shmeta *instance;
static struct shmeta_client *waiter, *agent;
static struct shmeta_reader *reader;

static void write_one(struct shmeta_op op)
{
	struct shmeta_result result;

	cr_assert_eq(shmeta_write(agent, &op, 1, WAIT_MS, &result, NULL), SHMETA_OK, "%s", result.text);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

static void create(const char *topic, uint32_t partitions)
{
	write_one((struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
	                             .u.topic = {.name = {topic, strlen(topic)}, .partition_count = partitions}});
}

static void grow(const char *topic, uint32_t partition, uint64_t watermark)
{
	write_one((struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                             .name = {topic, strlen(topic)},
	                             .partition_id = partition,
	                             .offset = watermark});
}

static void set_up(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, "", ""), 0);
	cr_assert_eq(run_daemon_sql(&d, STREAMHOUSE_V01), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "waits", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_client_open(instance, NULL, &waiter), SHMETA_OK);
	cr_assert_eq(shmeta_client_open(instance, NULL, &agent), SHMETA_OK);
	create("orders", 4);
	create("other", PARTITIONS);
}

static void tear_down(void)
{
	shmeta_client_close(waiter);
	shmeta_client_close(agent);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
}

TestSuite(submit_wait, .init = set_up, .fini = tear_down, .timeout = 120);

/* Until a call of the waiter is over, or so long. */
static bool over(struct shmeta_done *done, int timeout_ms)
{
	double end = run_now_s() + timeout_ms / 1000.0;

	*done = (struct shmeta_done){.size = sizeof *done};
	for (;;) {
		struct pollfd p;
		uint32_t wait_ms = 0;

		(void)!shmeta_client_process(waiter, &wait_ms);
		if (shmeta_client_next_done(waiter, done) == SHMETA_OK)
			return true;
		if (run_now_s() >= end)
			return false;
		p = (struct pollfd){.fd = shmeta_client_fd(waiter), .events = shmeta_client_events(waiter)};
		(void)poll(&p, 1, wait_ms < 50 ? (int)wait_ms : 50);
	}
}

/* What the snapshot of the token shows. */
static uint64_t watermark(const char *topic, uint32_t partition, const struct shmeta_token *token)
{
	struct shmeta_snapshot_info info;
	struct shmeta_partition p;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_expect(info.generation > token->generation ||
	          (info.generation == token->generation && info.txn >= token->txn));
	cr_assert_eq(shmeta_get_partition_named(reader, topic, strlen(topic), partition, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return p.high_watermark;
}

Test(submit_wait, ends_with_the_growth_that_it_is_for_and_not_before)
{
	struct shmeta_watch watch[2] = {{.topic = S("orders"), .partition_id = 1, .high_watermark = 5},
	                                {.topic = S("orders"), .partition_id = 2}};
	struct shmeta_done done;

	cr_assert_eq(shmeta_submit_wait(waiter, watch, 2, NULL, watch, NULL), SHMETA_OK);
	grow("orders", 0, 9);
	grow("orders", 1, 5);
	cr_expect_not(over(&done, 300), "5 is not beyond 5");
	grow("orders", 1, 6);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && done.count == 1 && done.arg == watch);
	cr_expect(watch[0].status == SHMETA_OK && watch[1].status == SHMETA_ERR_TIMEOUT);
	cr_expect_eq(watermark("orders", 1, &done.token), 6);
	grow("orders", 1, 7);
	cr_expect_not(over(&done, 100), "it was told once");
}

Test(submit_wait, is_over_at_once_where_there_is_nothing_to_wait_for)
{
	struct shmeta_watch there = {.topic = S("orders"), .partition_id = 1, .high_watermark = 5},
			    absent = {.topic = S("nowhere")}, impossible = {.topic = S("a\nb")};
	struct shmeta_done done;

	grow("orders", 1, 6);
	cr_assert_eq(shmeta_submit_wait(waiter, &there, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && there.status == SHMETA_OK);
	cr_assert_eq(shmeta_submit_wait(waiter, &absent, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && absent.status == SHMETA_ABSENT);
	cr_assert_eq(shmeta_submit_wait(waiter, &impossible, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && impossible.status == SHMETA_ABSENT);
}

Test(submit_wait, ends_when_the_topic_is_deleted)
{
	struct shmeta_watch watch = {.topic = S("orders")};
	struct shmeta_done done;

	cr_assert_eq(shmeta_submit_wait(waiter, &watch, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 100));
	write_one((struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = S("orders")});
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && watch.status == SHMETA_ABSENT);
}

Test(submit_wait, for_a_commit_ends_with_the_next_one)
{
	struct shmeta_snapshot_info info;
	struct shmeta_token since = {0};
	struct shmeta_done done;

	cr_assert_eq(shmeta_submit_wait_commit(waiter, &since, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS), "there is one already");
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	since = (struct shmeta_token){.generation = info.generation, .txn = info.txn};
	cr_assert_eq(shmeta_submit_wait_commit(waiter, &since, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 100));
	grow("other", 3, 1);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && done.token.txn > since.txn);
}

Test(submit_wait, for_a_token_is_over_as_soon_as_that_is_shown)
{
	struct shmeta_snapshot_info info;
	struct shmeta_token before;
	struct shmeta_done done;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	/* Of the newest commit: nobody else commits. */
	before = (struct shmeta_token){.generation = info.generation, .txn = info.txn - 1};
	cr_assert_eq(shmeta_submit_wait_commit(waiter, &before, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && done.token.txn >= info.txn);
	/* Of the next one. */
	before.txn = info.txn;
	cr_assert_eq(shmeta_submit_wait_commit(waiter, &before, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 100));
	grow("other", 3, 1);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && done.token.txn > info.txn);
	/* Of a generation that was left. */
	before = (struct shmeta_token){.generation = info.generation - 1, .txn = INT64_MAX};
	cr_assert_eq(shmeta_submit_wait_commit(waiter, &before, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS));
	cr_expect_eq(done.status, SHMETA_OK);
}

Test(submit_wait, goes_on_with_the_next_writer)
{
	struct shmeta_watch watch = {.topic = S("orders")};
	struct shmeta_done done;

	cr_assert_eq(shmeta_submit_wait(waiter, &watch, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 100));
	for (int i = 0; i < 2; i++) {
		(void)run_daemon_end(&d, SIGKILL);
		cr_expect_not(over(&done, 100), "no writer, no change");
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		cr_expect_not(over(&done, 300));
	}
	grow("orders", 0, 1);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.status == SHMETA_OK && watch.status == SHMETA_OK);
}

Test(submit_wait, that_is_canceled_is_not_told_and_leaves_its_place_to_others)
{
	struct shmeta_watch watch = {.topic = S("orders")}, another = {.topic = S("other"), .partition_id = 3};
	struct shmeta_done done;
	uint64_t ticket;

	cr_assert_eq(shmeta_submit_wait_commit(waiter, &(struct shmeta_token){0}, NULL, NULL, NULL), SHMETA_OK);
	cr_assert(over(&done, WAIT_MS), "connected: all that follows is sent");
	for (int i = 0; i < 5000; i++) {
		cr_assert_eq(shmeta_submit_wait(waiter, &watch, 1, NULL, NULL, &ticket), SHMETA_OK);
		cr_assert_eq(shmeta_client_cancel(waiter, ticket), SHMETA_OK);
		cr_assert_eq(shmeta_client_cancel(waiter, ticket), SHMETA_ERR_NOT_FOUND);
		if (i % 16 == 0)
			(void)!shmeta_client_process(waiter, NULL);
	}
	cr_assert_eq(shmeta_submit_wait(waiter, &another, 1, NULL, NULL, &ticket), SHMETA_OK);
	cr_expect_not(over(&done, 300));
	grow("other", 3, 1);
	cr_assert(over(&done, WAIT_MS), "it was sent, for all that went before");
	cr_expect_eq(done.status, SHMETA_OK, "%s", done.results[0].text);
	grow("orders", 0, 1);
	cr_expect_not(over(&done, 300), "it was canceled");
}

static void wait_for_each(struct shmeta_watch *watch, uint64_t *ticket)
{
	for (uint32_t i = 0; i < PARTITIONS; i++) {
		watch[i] = (struct shmeta_watch){.topic = S("other"), .partition_id = i};
		cr_assert_eq(shmeta_submit_wait(waiter, &watch[i], 1, NULL, &watch[i], &ticket[i]), SHMETA_OK);
	}
}

/* As many at a time as a connection may have: what the writer went on holding would leave no
 * place. */
Test(submit_wait, that_are_canceled_by_the_hundreds_leave_their_places_to_others)
{
	static struct shmeta_watch watch[PARTITIONS];
	static uint64_t ticket[PARTITIONS];
	struct shmeta_done done;

	wait_for_each(watch, ticket);
	cr_expect_not(over(&done, 500));
	(void)kill(d.pid, SIGSTOP);
	for (uint32_t i = 0; i < PARTITIONS; i++)
		cr_assert_eq(shmeta_client_cancel(waiter, ticket[i]), SHMETA_OK);
	(void)kill(d.pid, SIGCONT);
	wait_for_each(watch, ticket);
	cr_expect_not(over(&done, 500));
	grow("other", PARTITIONS - 1, 1);
	cr_assert(over(&done, WAIT_MS), "it was never sent");
	cr_expect(done.status == SHMETA_OK && done.arg == &watch[PARTITIONS - 1]);
}

/* Of one client: more waits than its connection may have requests, and writes beside them. */
Test(submit_wait, of_any_number_leave_a_place_for_writes_and_those_that_are_held_back_have_theirs_later)
{
	enum { MORE = 1100 };
	const struct shmeta_client_options many = {.size = sizeof many, .requests_max = 3000};
	struct shmeta_op one = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 2};
	static struct shmeta_watch watch[MORE];
	static uint64_t ticket[MORE];
	struct shmeta_result result;
	struct shmeta_done done;

	shmeta_client_close(waiter);
	cr_assert_eq(shmeta_client_open(instance, &many, &waiter), SHMETA_OK);
	for (uint32_t i = 0; i < MORE; i++) {
		watch[i] = (struct shmeta_watch){.topic = S("other"), .partition_id = i % (PARTITIONS - 1)};
		cr_assert_eq(shmeta_submit_wait(waiter, &watch[i], 1, NULL, &watch[i], &ticket[i]), SHMETA_OK);
	}
	watch[MORE - 1].partition_id = PARTITIONS - 1; /* not looked at yet */
	cr_expect_not(over(&done, 500));
	for (int i = 0; i < 3; i++)
		cr_assert_eq(shmeta_write(waiter, &one, 1, WAIT_MS, &result, NULL), SHMETA_OK, "%s", result.text);
	for (uint32_t i = 0; i < 200; i++)
		cr_assert_eq(shmeta_client_cancel(waiter, ticket[i]), SHMETA_OK);
	cr_expect_not(over(&done, 500));
	grow("other", PARTITIONS - 1, 1);
	cr_assert(over(&done, WAIT_MS), "it was never sent");
	cr_expect(done.status == SHMETA_OK && done.arg == &watch[MORE - 1]);
}

Test(submit_wait, on_other_partitions_is_not_woken)
{
	static struct shmeta_watch watch[PARTITIONS];
	struct shmeta_done done;
	struct pollfd p;

	/* As many waits as a connection may have, less one for what follows. */
	for (uint32_t i = 0; i < PARTITIONS; i++) {
		watch[i] = (struct shmeta_watch){.topic = S("other"), .partition_id = i};
		cr_assert_eq(shmeta_submit_wait(waiter, &watch[i], 1, NULL, &watch[i], NULL), SHMETA_OK);
	}
	cr_expect_not(over(&done, 300));
	grow("orders", 0, 1);
	p = (struct pollfd){.fd = shmeta_client_fd(waiter), .events = POLLIN};
	cr_expect_eq(poll(&p, 1, 300), 0, "somebody was woken for nothing");
	grow("other", 7, 1);
	cr_assert(over(&done, WAIT_MS));
	cr_expect(done.arg == &watch[7] && watch[7].status == SHMETA_OK);
	cr_expect_not(over(&done, 100), "one of a thousand");
}

Test(submit_wait, takes_thousands_of_partitions_at_once)
{
	static struct shmeta_watch watch[PARTITIONS];
	struct shmeta_done done;

	for (uint32_t i = 0; i < PARTITIONS; i++)
		watch[i] = (struct shmeta_watch){.topic = S("other"), .partition_id = i};
	cr_assert_eq(shmeta_submit_wait(waiter, watch, PARTITIONS, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 100));
	grow("other", 999, 1);
	cr_assert(over(&done, WAIT_MS));
	for (uint32_t i = 0; i < PARTITIONS; i++)
		cr_expect_eq(watch[i].status, i == 999 ? SHMETA_OK : SHMETA_ERR_TIMEOUT);
}

/* ---- frames of our own ---- */

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof address.sun_path, "%.90s/control.sock", d.instance);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

/* The newest commit, and the word of a partition. */
static struct shmeta_frame_wait wait_since(const char *topic, uint32_t partition, uint32_t *ret_word)
{
	struct shmeta_frame_wait frame = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_WAIT, .id = 1}};
	struct shmeta_snapshot_info info;
	struct shmeta_topic t;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, topic, strlen(topic), NULL, &t, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	*ret_word = shmeta__touched_partition(t.topic_id, partition);
	frame.generation = info.generation;
	frame.txn = info.txn;
	return frame;
}

static struct {
	struct shmeta_frame_wait head;
	uint32_t words[SHMETA_WAIT_WORDS];
} frame;

static void send_words(int fd, uint64_t id, uint32_t count)
{
	frame.head.head.id = id;
	frame.head.head.bytes = (uint32_t)(sizeof frame.head + count * sizeof frame.words[0]);
	frame.head.word_count = count;
	cr_assert_eq(send(fd, &frame, frame.head.head.bytes, MSG_NOSIGNAL), (ssize_t)frame.head.head.bytes);
}

/* The next answer's status; ERR_TIMEOUT: none comes. */
static enum shmeta_status answered(int fd, uint64_t id, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct shmeta_frame_answer answer;

	if (poll(&p, 1, timeout_ms) == 0)
		return SHMETA_ERR_TIMEOUT;
	cr_assert_geq(recv(fd, &answer, sizeof answer, 0), (ssize_t)sizeof answer);
	cr_expect_eq(answer.head.id, id);
	return (enum shmeta_status)answer.status;
}

Test(submit_wait, that_comes_behind_the_commit_that_it_is_for_is_over_at_once)
{
	int fd = dial();

	frame.head = wait_since("orders", 0, &frame.words[0]);
	grow("orders", 1, 1);
	send_words(fd, 1, 1);
	cr_expect_eq(answered(fd, 1, 200), SHMETA_ERR_TIMEOUT, "it is for another partition");
	grow("orders", 0, 1);
	cr_expect_eq(answered(fd, 1, WAIT_MS), SHMETA_OK);
	send_words(fd, 2, 1);
	cr_expect_eq(answered(fd, 2, WAIT_MS), SHMETA_OK, "nobody will wake it any more");
	close(fd);
}

Test(submit_wait, that_is_taken_back_is_answered_once)
{
	int fd = dial();

	frame.head = wait_since("orders", 0, &frame.words[0]);
	send_words(fd, 1, 1);
	frame.head.flags = SHMETA_WAIT_END;
	send_words(fd, 1, 0);
	cr_expect_eq(answered(fd, 1, WAIT_MS), SHMETA_END);
	send_words(fd, 1, 0);
	grow("orders", 0, 1);
	cr_expect_eq(answered(fd, 1, 200), SHMETA_ERR_TIMEOUT);
	close(fd);
}

Test(submit_wait, are_refused_beyond_the_words_that_a_user_may_hold_and_taken_again_when_others_go)
{
	struct shmeta_watch watch = {.topic = S("orders")};
	enum shmeta_status status = SHMETA_ERR_TIMEOUT;
	struct shmeta_done done;
	uint64_t sent = 0;
	int fd = dial();

	frame.head = wait_since("orders", 0, &frame.words[0]);
	for (uint32_t i = 0; i < SHMETA_WAIT_WORDS; i++)
		frame.words[i] = i;
	while (sent < 64 && status == SHMETA_ERR_TIMEOUT) {
		send_words(fd, ++sent, SHMETA_WAIT_WORDS);
		status = answered(fd, sent, 200);
	}
	cr_expect_eq(status, SHMETA_ERR_BUSY);
	cr_expect(sent >= 4 && sent <= 9, "262144 words are eight of these; refused at %d", (int)sent);
	close(fd);
	cr_assert_eq(shmeta_submit_wait(waiter, &watch, 1, NULL, NULL, NULL), SHMETA_OK);
	cr_expect_not(over(&done, 300), "it is taken: status %d", (int)done.status);
	grow("orders", 0, 1);
	cr_assert(over(&done, WAIT_MS));
	cr_expect_eq(done.status, SHMETA_OK);
}

Test(submit_wait, refuses_what_cannot_be_waited_for)
{
	struct shmeta_watch watch = {.topic = {NULL, 3}};

	cr_expect_eq(shmeta_submit_wait(waiter, &watch, 1, NULL, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_submit_wait(waiter, &watch, 0, NULL, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_submit_wait(waiter, NULL, 1, NULL, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_submit_wait_commit(waiter, NULL, NULL, NULL, NULL), SHMETA_ERR_INVALID_ARGUMENT);
}
