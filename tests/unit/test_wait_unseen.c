/* SPDX-License-Identifier: Apache-2.0
 * Waits of an event loop whose writer tells of commits that this process cannot see: its store is
 * another one by now, whose files cannot be opened (EMFILE). The writer is played by the test. */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_client *client;
static struct scripted_writer writer;

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
	instance = fake_open(w, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	cr_assert_not_null(instance);
	scripted_listen(&writer, w->dir);
	writer.verbs |= SHMETA_WELCOME_WAITS;
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void tear_down(void)
{
	shmeta_client_close(client);
	shmeta_close(instance);
	scripted_stop(&writer);
	fake_writer_free(w);
}

TestSuite(wait_unseen, .init = set_up, .fini = tear_down, .timeout = 60);

static uint32_t process(void)
{
	uint32_t wait_ms = 0;

	(void)!shmeta_client_process(client, &wait_ms);
	return wait_ms;
}

/* The id of a wait that was sent; 0: nothing was. */
static uint64_t sent(void)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8 + 1];
	ssize_t n = recv(writer.fd, packet, sizeof packet, MSG_DONTWAIT);
	const struct shmeta_frame *frame = (const struct shmeta_frame *)packet;

	if (n <= 0)
		return 0;
	cr_assert_eq(shmeta__frame_check(packet, (size_t)n), SHMETA_OK);
	cr_assert_eq(frame->type, SHMETA_FRAME_WAIT);
	return frame->id;
}

static uint64_t until_sent(void)
{
	uint64_t id = 0;

	for (int i = 0; i < SCRIPTED_PATIENCE_MS && id == 0; i++) {
		(void)process();
		if (writer.fd < 0 && scripted_accept(&writer, 0)) {
			scripted_take_hello(&writer);
			scripted_welcome(&writer);
		}
		id = writer.fd >= 0 ? sent() : 0;
		(void)poll(NULL, 0, 1);
	}
	cr_assert_neq(id, 0, "nothing was sent");
	return id;
}

static void answer(uint64_t id)
{
	struct shmeta_frame_answer frame = {
		.head = {.bytes = sizeof frame, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER, .id = id}};

	scripted_send(&writer, &frame, sizeof frame);
}

Test(wait_unseen, is_asked_again_but_not_at_once)
{
	const struct shmeta_token since = {.generation = UINT64_MAX};
	struct shmeta_done done = {.size = sizeof done};

	cr_assert_eq(shmeta_submit_wait_commit(client, &since, NULL, NULL, NULL), SHMETA_OK);
	for (int round = 0; round < 3; round++) {
		answer(until_sent());
		cr_expect_lt(process(), 1000u, "it is to be called again before long");
		cr_assert_eq(sent(), 0, "who answers at once is not to be asked at once");
	}
	(void)until_sent();
	cr_expect_eq(shmeta_client_next_done(client, &done), SHMETA_END);
}

Test(wait_unseen, is_not_held_up_where_the_commit_is_seen)
{
	const struct shmeta_token since = {.generation = UINT64_MAX};
	uint64_t id;

	cr_assert_eq(shmeta_submit_wait_commit(client, &since, NULL, NULL, NULL), SHMETA_OK);
	id = until_sent();
	fake_begin(w);
	fake_group(w, NULL, "g");
	(void)fake_commit(w);
	answer(id);
	(void)process();
	cr_expect_neq(sent(), 0, "it looked at a newer commit, and waits for the next one");
}
