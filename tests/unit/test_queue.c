/* SPDX-License-Identifier: Apache-2.0
 * Entries of the queue of keys: the states that they go through, and what is counted meanwhile. */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "writer/keys/orphans.h"
#include "writer/keys/queue_private.h"

TestSuite(queue, .timeout = 10);

static struct sync_queue *fresh(void)
{
	struct sync_queue *q = calloc(1, sizeof *q);

	cr_assert_not_null(q);
	q->slots = 1024;
	q->slot = calloc(q->slots, sizeof(struct sync_entry *));
	cr_assert_not_null(q->slot);
	return q;
}

static void done(struct sync_queue *q)
{
	free(q->slot);
	free(q);
}

static struct identity topic(const char *name)
{
	return queue_identity(ENTRY_TOPIC, (struct shmeta_str){"t", 1}, (struct shmeta_str){name, strlen(name)}, 0);
}

Test(queue, an_entry_makes_only_the_moves_of_the_table)
{
	/* Rows: from; columns: to; in the order of the states, and one that is none. */
	static const char may[ENTRY_GONE + 1][ENTRY_GONE + 3] = {".y.yy...", "..yy.yy.", ".y.y....", ".y..yyy.",
	                                                         ".y.y.y..", "......y.", "........"};

	for (unsigned from = 0; from <= ENTRY_GONE; from++)
		for (unsigned to = 0; to <= ENTRY_GONE + 1; to++)
			cr_expect_eq(entry_may_move(from, to), may[from][to] == 'y', "%u to %u", from, to);
}

Test(queue, what_was_asked_for_and_then_named_waits_once_and_counts_until_it_is_forgotten)
{
	struct sync_queue *q = fresh();
	struct identity id = topic("a");
	struct sync_entry *e = queue_want(q, &id, &(struct want){.segments = true}), *taken = NULL;

	cr_assert_not_null(e);
	cr_expect_eq(e->state, ENTRY_ASKED);
	cr_expect_eq(q->asked.count, 1);
	cr_expect_eq(q->feed_keys, 0);
	cr_expect_eq(queue_want(q, &id, &(struct want){.feed = true}), e);
	cr_expect_eq(e->state, ENTRY_NAMED);
	cr_expect(e->want.segments && e->want.feed);
	cr_expect_eq(q->asked.count, 0);
	cr_expect_eq(q->named.count, 1);
	cr_expect_eq(queue_want(q, &id, &(struct want){.feed = true}), e, "named twice");
	cr_expect_eq(q->feed_keys, 1);
	cr_expect_eq(queue_take(q, &taken, 1, true), 1);
	cr_expect_eq(taken, e);
	cr_expect_eq(e->state, ENTRY_FETCHED);
	cr_expect_eq(q->named.count, 0);
	cr_expect_eq(q->named.bytes, 0);
	cr_expect_eq(q->feed_keys, 1, "it is not in the store yet");
	queue_forget(q, e);
	cr_expect_eq(q->feed_keys, 0);
	cr_expect_eq(q->used, 0);
	done(q);
}

Test(queue, what_is_named_while_it_is_being_fetched_waits_beside_it)
{
	struct sync_queue *q = fresh();
	struct identity id = topic("a");
	struct sync_entry *first, *second;

	cr_assert_not_null(queue_want(q, &id, &(struct want){.feed = true}));
	cr_assert_eq(queue_take(q, &first, 1, true), 1);
	second = queue_want(q, &id, &(struct want){.feed = true});
	cr_assert_not_null(second);
	cr_expect_neq(first, second);
	cr_expect_eq(entry_fetched(q, &id), first);
	cr_expect_eq(entry_waiting(q, &id), second);
	cr_expect_eq(q->feed_keys, 2);
	queue_forget(q, first);
	cr_expect_eq(q->feed_keys, 1);
	queue_forget(q, second);
	cr_expect_eq(q->named.count, 0);
	done(q);
}

Test(queue, what_waits_for_a_token_is_read_next_when_anybody_else_wants_it)
{
	struct sync_queue *q = fresh();
	struct asker asker = {.uid = 7};
	struct identity id = topic("a");
	struct sync_entry *e = queue_want(q, &id, &(struct want){.whole = true}), *none[1];

	cr_assert_not_null(e);
	entry_move(q, e, ENTRY_THROTTLED, &asker);
	cr_expect_eq(asker.throttled.count, 1);
	cr_expect_eq(queue_take(q, none, 1, true), 0, "it was taken without a token");
	cr_expect_eq(queue_want(q, &id, &(struct want){.whole = true}), e);
	cr_expect_eq(e->state, ENTRY_ASKED);
	cr_expect_null(e->asker);
	cr_expect_eq(asker.throttled.count, 0);
	cr_expect_eq(asker.throttled.bytes, 0);
	entry_move(q, e, ENTRY_THROTTLED, &asker);
	cr_expect_eq(queue_want(q, &id, &(struct want){.feed = true}), e);
	cr_expect_eq(e->state, ENTRY_NAMED);
	cr_expect_eq(asker.throttled.count, 0);
	queue_forget(q, e);
	done(q);
}

Test(queue, orphans_are_due_when_the_feed_has_told_all_and_not_for_ever)
{
	struct orphans o = {ORPHANS_NONE, 0};

	cr_expect_not(orphans_look(&o));
	for (int i = 0; i < 3; i++) {
		orphans_found(&o, 1, true);
		cr_expect_eq(o.state, ORPHANS_WAIT);
		orphans_are_read(&o);
		cr_expect_eq(o.state, ORPHANS_WAIT, "a read before the feed has told is none");
		cr_expect(orphans_look(&o));
		cr_expect_eq(o.state, ORPHANS_DUE);
		orphans_are_read(&o);
		cr_expect_eq(o.state, ORPHANS_NONE);
	}
	orphans_found(&o, 1, true);
	cr_expect_eq(o.state, ORPHANS_NONE, "the fourth time");
	orphans_found(&o, 1, false);
	cr_expect_eq(o.state, ORPHANS_NONE, "no feed names their topics");
	orphans_adoptable(&o);
	cr_expect_eq(o.state, ORPHANS_WAIT);
}
