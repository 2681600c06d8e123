/* SPDX-License-Identifier: Apache-2.0
 * Tickets: whose answer finds whom, and what it costs when a connection goes. */
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/cpu_time.h"
#include "writer/serve/armed.h"
#include "writer/serve/connection.h"

TestSuite(tickets, .timeout = 60);

static struct connection c[2];

Test(tickets, an_answer_finds_who_asked_once_and_nobody_who_has_gone)
{
	struct tickets tickets = {0};
	uint64_t number[5], id = 0;

	for (uint64_t i = 0; i < 5; i++)
		cr_assert(tickets_take(&tickets, &c[i % 2], 100 + i, &number[i]));
	cr_expect(c[0].requests == 3 && c[1].requests == 2);
	cr_expect(tickets_end(&tickets, number[2], &id) == &c[0] && id == 102);
	cr_expect_null(tickets_end(&tickets, number[2], &id), "it has been answered");
	cr_expect(c[0].requests == 2 && c[1].requests == 2);
	tickets_forget(&tickets, &c[0]);
	cr_expect(c[0].requests == 0 && c[1].requests == 2);
	cr_expect_null(tickets_end(&tickets, number[0], &id));
	cr_expect_null(tickets_end(&tickets, number[4], &id));
	cr_assert(tickets_take(&tickets, &c[0], 200, &number[0]), "in a place that was used before");
	cr_expect(tickets_end(&tickets, number[3], &id) == &c[1] && id == 103);
	cr_expect(tickets_end(&tickets, number[0], &id) == &c[0] && id == 200);
	tickets_forget(&tickets, &c[1]);
	cr_expect(c[0].requests == 0 && c[1].requests == 0);
	tickets_free(&tickets);
}

/* To take a ticket and to go, beside so many tickets of another connection, in ns. */
static uint64_t cost_beside(uint64_t others)
{
	enum { TIMES = 20000 };
	struct tickets tickets = {0};
	uint64_t number, id, began;

	for (uint64_t i = 0; i < others; i++)
		cr_assert(tickets_take(&tickets, &c[0], i, &number));
	began = cpu_time_ns();
	for (uint64_t i = 0; i < TIMES; i++) {
		cr_assert(tickets_take(&tickets, &c[1], i, &number));
		tickets_forget(&tickets, &c[1]);
		cr_expect_null(tickets_end(&tickets, number, &id));
	}
	began = cpu_time_ns() - began;
	tickets_free(&tickets);
	return began / TIMES;
}

Test(tickets, of_others_cost_a_connection_that_goes_nothing)
{
	uint64_t few = cost_beside(16), many = cost_beside(1 << 18);

	cr_expect_lt(many, 100 * (few + 1), "%llu ns beside 16, %llu beside 262144", (unsigned long long)few,
	             (unsigned long long)many);
}

static int on_nothing(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source, (void)fd, (void)events, (void)arg;
	return 0;
}

/* Nobody but the loop answers a wait, so nobody else gives its ticket back. */
Test(tickets, of_waits_are_given_back_when_their_connection_goes)
{
	static struct control control;
	static struct control_counters counters;
	const struct registry_peer peer = {.pid = getpid(), .uid = 4001};
	struct shmeta_frame_wait frame = {.head = {.id = 1}, .flags = SHMETA_WAIT_ANY};
	uint64_t number;

	control.counters = &counters;
	control.armed = armed_new();
	cr_assert(control.armed != NULL && sd_event_new(&control.event) >= 0);
	for (int i = 0; i < 1000; i++) {
		int ends[2];

		cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
		struct connection *one = connection_add(&control, ends[0], &peer, on_nothing);

		cr_assert_not_null(one);
		for (int k = 0; k < 10; k++)
			cr_assert(tickets_take(&control.tickets, one, 1, &number) &&
			          armed_add(control.armed, one, number, &frame));
		connection_close(one);
		close(ends[1]);
	}
	cr_expect_leq(control.tickets.count, 64, "%u places for 10 tickets at a time", control.tickets.count);
	cr_expect_eq(armed_words(control.armed), 0);
	tickets_free(&control.tickets);
	armed_free(control.armed);
	sd_event_unref(control.event);
}
