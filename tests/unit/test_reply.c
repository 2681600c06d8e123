/* SPDX-License-Identifier: Apache-2.0
 * Answers that the engine's thread sends past the loop, over a pair of sockets. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "writer/daemon/daemon_private.h"
#include "writer/serve/connection.h"

static int ends[2]; /* the daemon's, the peer's */
static struct connection connection;
static struct reply *reply;
static struct shmeta_frame frame;

static void set_up(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	reply = reply_new(&connection, ends[0]);
	cr_assert_not_null(reply);
}

static void tear_down(void)
{
	close(ends[1]);
}

TestSuite(reply, .init = set_up, .fini = tear_down, .timeout = 20);

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool is_out(void)
{
	uint64_t answered_ns;

	return reply_is_out(reply, &answered_ns);
}

Test(reply, one_request_is_out_at_a_time_and_its_answer_carries_its_id)
{
	struct shmeta_frame got;
	uint64_t ticket, answered_ns;

	for (uint64_t id = 7; id < 9; id++) {
		ticket = reply_take(reply, id);
		cr_assert(reply_is_ticket(ticket));
		cr_assert(is_out());
		cr_assert_eq(reply_take(reply, 100), 0, "the second one goes by the loop");
		cr_assert(reply_send(ticket, &frame, sizeof frame));
		cr_assert_eq(recv(ends[1], &got, sizeof got, MSG_DONTWAIT), sizeof got);
		cr_assert_eq(got.id, id);
		cr_assert_not(reply_is_out(reply, &answered_ns));
		cr_assert_gt(answered_ns, 0);
	}
	cr_assert(is_open(ends[0]));
	reply_end(reply);
	cr_assert_not(is_open(ends[0]));
}

Test(reply, numbers_of_the_table_are_not_taken_for_replies)
{
	cr_assert_not(reply_is_ticket(0));
	cr_assert_not(reply_is_ticket(UINT64_C(1) << 32 | 63));
	reply_end(reply);
}

Test(reply, what_the_socket_does_not_take_is_left_to_the_loop)
{
	uint64_t ticket = reply_take(reply, 7), id = 0;

	while (send(ends[0], &frame, sizeof frame, MSG_DONTWAIT) > 0)
		;
	cr_assert_eq(errno, EAGAIN);
	cr_assert_not(reply_send(ticket, &frame, sizeof frame));
	cr_assert(is_out());
	cr_assert_eq(reply_settle(ticket, &id), &connection);
	cr_assert_eq(id, 7);
	cr_assert_not(is_out());
	reply_end(reply);
}

Test(reply, a_connection_that_ends_is_seen_by_its_peer_at_once_though_an_answer_is_out)
{
	uint64_t ticket = reply_take(reply, 7);
	struct shmeta_frame got;

	reply_end(reply);
	cr_assert_eq(recv(ends[1], &got, sizeof got, MSG_DONTWAIT), 0, "the end");
	cr_assert(is_open(ends[0]), "no other connection may get its number while an answer is out");
	cr_assert(reply_send(ticket, &frame, sizeof frame), "nobody is there to hear it");
	cr_assert_not(is_open(ends[0]));
}

Test(reply, an_answer_by_the_loop_to_a_connection_that_has_ended_finds_nobody)
{
	uint64_t ticket = reply_take(reply, 7), id;

	reply_end(reply);
	cr_assert_null(reply_settle(ticket, &id));
	cr_assert_not(is_open(ends[0]));
}

/* A round of so many calls, of which the reply's is one. 1: the engine's thread sent the answer; 0:
 * it wrote a letter. */
static int answered_past_the_loop(size_t calls)
{
	static struct daemon d;
	const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK};
	const struct shmeta_result result = {.status = SHMETA_OK};
	uint64_t ticket = reply_take(reply, 7), id;
	unsigned char got[256];
	struct sync_host host;
	struct shmeta_err err;
	struct mail *letter;
	ssize_t bytes;

	cr_assert_eq(mailbox_new(&d.mailbox, &err), SHMETA_OK);
	cr_assert(mailbox_owe(d.mailbox));
	host = daemon_engine_host(&d);
	host.answering(host.arg, calls);
	host.written(host.arg, ticket, SHMETA_OK, "", &op, &result, 1, 5, 1);
	host.answering(host.arg, 0);
	bytes = recv(ends[1], got, sizeof got, MSG_DONTWAIT);
	letter = mailbox_take(d.mailbox);
	cr_assert_eq(bytes > 0, letter == NULL, "the one or the other");
	if (letter != NULL) {
		cr_assert_eq(letter->ticket, ticket);
		(void)reply_settle(ticket, &id);
	}
	free(letter);
	mailbox_free(d.mailbox);
	return bytes > 0;
}

Test(reply, the_answers_of_a_small_round_go_past_the_loop_and_those_of_a_large_one_do_not)
{
	cr_assert_eq(answered_past_the_loop(1), 1);
	cr_assert_eq(answered_past_the_loop(4), 1);
	cr_assert_eq(answered_past_the_loop(5), 0);
	cr_assert_eq(answered_past_the_loop(64), 0);
	reply_end(reply);
}
