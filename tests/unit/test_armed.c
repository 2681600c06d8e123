/* SPDX-License-Identifier: Apache-2.0
 * Waits of connections: which a commit ends, what they hold, and how they go. */
#include <criterion/criterion.h>
#include <string.h>

#include "shm/page/board.h"
#include "tests/support/cpu_time.h"
#include "writer/serve/armed.h"
#include "writer/serve/connection.h"

static struct armed *armed;
static struct connection c[2];
static uint64_t touched[SHMETA_TOUCHED_WORDS / 64];

static void set_up(void)
{
	armed = armed_new();
	cr_assert_not_null(armed);
}

/* The sum of the tickets of a connection's waits. */
static uint64_t forget(struct connection *of)
{
	uint64_t sum = 0, ticket;

	while (armed_forget(armed, of, &ticket))
		sum += ticket;
	return sum;
}

static void tear_down(void)
{
	forget(&c[0]);
	forget(&c[1]);
	cr_expect_eq(armed_words(armed), 0);
	cr_expect_eq(c[0].wait_words + c[1].wait_words, 0);
	armed_free(armed);
}

TestSuite(armed, .init = set_up, .fini = tear_down, .timeout = 30);

/* The ticket is the frame's id. */
static void add(struct connection *of, uint64_t id, const uint32_t *words, uint32_t count)
{
	struct {
		struct shmeta_frame_wait head;
		uint32_t words[1024];
	} frame = {.head = {.head = {.id = id}, .word_count = count, .flags = count == 0 ? SHMETA_WAIT_ANY : 0}};

	if (count > 0)
		memcpy(frame.words, words, count * sizeof words[0]);
	cr_assert(armed_add(armed, of, id, &frame.head));
}

static bool commit(uint32_t word)
{
	touched[word / 64] = UINT64_C(1) << word % 64;
	bool waited = armed_note(armed, touched);

	touched[word / 64] = 0;
	return waited;
}

/* The sum of the tickets of the waits that are over. */
static uint64_t taken(void)
{
	uint64_t sum = 0, ticket;

	while (armed_take(armed, &ticket))
		sum += ticket;
	return sum;
}

enum { APART = 4096 };

Test(armed, end_with_a_commit_of_one_of_their_words_and_with_no_other)
{
	add(&c[0], 1, (uint32_t[]){5, 5 + APART, 5 + 2 * APART}, 3);
	add(&c[0], 10, (uint32_t[]){5 + APART}, 1);
	add(&c[1], 100, (uint32_t[]){131071}, 1);
	cr_expect_eq(armed_words(armed), 5);
	cr_expect_eq(c[0].wait_words, 4);
	cr_expect(commit(6));
	cr_expect_eq(taken(), 0);
	cr_expect(commit(5));
	cr_expect_eq(taken(), 1);
	cr_expect_eq(armed_words(armed), 2);
	cr_expect(commit(5 + APART) && commit(131071));
	cr_expect_eq(taken(), 110);
	cr_expect_not(commit(5), "nobody waits");
	cr_expect_eq(taken(), 0);
}

Test(armed, for_any_commit_end_with_each)
{
	add(&c[0], 1, NULL, 0);
	add(&c[1], 10, (uint32_t[]){7}, 1);
	cr_expect(commit(9));
	cr_expect_eq(taken(), 1);
	cr_expect(commit(7));
	cr_expect_eq(taken(), 10);
}

Test(armed, all_end_with_a_new_generation)
{
	add(&c[0], 1, NULL, 0);
	add(&c[0], 10, (uint32_t[]){7, 8}, 2);
	add(&c[1], 100, (uint32_t[]){7 + APART}, 1);
	cr_expect(armed_note(armed, NULL));
	cr_expect_eq(taken(), 111);
}

Test(armed, what_moved_before_a_wait_began_does_not_end_it)
{
	add(&c[0], 1, (uint32_t[]){3}, 1);
	cr_expect(commit(4));
	cr_expect_eq(taken(), 0);
	add(&c[0], 10, (uint32_t[]){4}, 1);
	cr_expect_eq(taken(), 0);
}

Test(armed, are_taken_back_by_their_connection_alone_also_when_they_are_over)
{
	uint64_t ticket = 0;

	add(&c[0], 1, (uint32_t[]){3}, 1);
	add(&c[0], 10, (uint32_t[]){3}, 1);
	add(&c[1], 100, (uint32_t[]){3}, 1);
	cr_expect_not(armed_withdraw(armed, &c[1], 1, &ticket));
	cr_expect(armed_withdraw(armed, &c[0], 1, &ticket) && ticket == 1);
	cr_expect_not(armed_withdraw(armed, &c[0], 1, &ticket));
	cr_expect(commit(3));
	cr_expect(armed_take(armed, &ticket), "the first of two");
	cr_expect(armed_withdraw(armed, ticket == 10 ? &c[1] : &c[0], ticket == 10 ? 100 : 10, &ticket));
	cr_expect_eq(taken(), 0);
}

Test(armed, go_with_their_connection_whether_they_are_over_or_not)
{
	uint64_t ticket;

	add(&c[0], 1, (uint32_t[]){3, 4}, 2);
	add(&c[1], 10, (uint32_t[]){3}, 1);
	add(&c[0], 100, (uint32_t[]){5}, 1);
	add(&c[1], 1000, NULL, 0);
	cr_expect(commit(3));
	cr_expect(armed_take(armed, &ticket));
	cr_expect_eq(forget(&c[0]), 101 - (ticket == 1));
	cr_expect_eq(ticket + taken(), 1010 + (ticket == 1));
	cr_expect_eq(armed_words(armed), 0);
}

/* A commit that ends so many waits, in ns. */
static uint64_t cost_of_commit(uint64_t waits)
{
	uint64_t began;

	for (uint64_t i = 0; i < waits; i++)
		add(&c[0], 1, (uint32_t[]){5}, 1);
	began = cpu_time_ns();
	cr_expect(commit(5));
	cr_expect_eq(taken(), waits);
	return cpu_time_ns() - began;
}

/* However its waits are arranged, a user makes a commit pay for each word once. */
static bool waited(uint32_t word)
{
	uint64_t words[SHMETA_TOUCHED_WORDS / 64] = {0};

	armed_waited(armed, words);
	return (words[word / 64] >> word % 64 & 1) != 0;
}

Test(armed, tell_of_which_words_they_are_until_none_is_of_it)
{
	uint64_t ticket;

	add(&c[0], 1, (uint32_t[]){5, 6}, 2);
	add(&c[1], 10, (uint32_t[]){5}, 1);
	add(&c[1], 100, NULL, 0);
	cr_expect(waited(5));
	cr_expect(waited(6));
	cr_expect_not(waited(7));
	cr_expect(armed_withdraw(armed, &c[0], 1, &ticket));
	cr_expect(waited(6), "it was since the last call");
	cr_expect_not(waited(6));
	cr_expect(waited(5));
	cr_expect(commit(5));
	cr_expect_eq(taken(), 110);
	cr_expect(waited(5));
	cr_expect_not(waited(5));
}

Test(armed, cost_a_commit_nothing_for_words_that_did_not_move)
{
	enum { WAITS = 4096, OTHERS = 127 * 1024 };
	uint32_t words[1024];
	uint64_t alone = cost_of_commit(WAITS), beside;

	for (uint32_t i = 0; i < 1024; i++)
		words[i] = 5 + APART * (1 + i % 31);
	for (uint64_t i = 0; i < OTHERS; i += 1024)
		add(&c[1], 1, words, 1024);
	beside = cost_of_commit(WAITS);
	cr_expect_lt(beside, 100 * alone, "%llu ns alone, %llu beside 130048 words of others",
	             (unsigned long long)alone, (unsigned long long)beside);
}
