/* SPDX-License-Identifier: Apache-2.0
 * What operators ask of the engine: whatever is invalidated is read whole, by a read that begins
 * afterwards, however much it is; each request is answered once, also when the source or the time
 * gives out in the middle. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_admin, .timeout = 60);

static struct fixture f;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static uint64_t fetched_keys(void)
{
	return fixture_counters(&f).refresh_keys;
}

static uint64_t loads(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[MEMORY_LOAD];
}

/* A source whose feed says nothing, so that only a refresh can show a change. */
static void open_silent(void)
{
	fixture_init(&f);
	f.options.audit = true;
	fixture_topic(&f, "a", 1, 2, 1111);
	for (int i = 0; i < 200; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "orders.%03d", i);
		fixture_topic(&f, name, 2, 2, 1111);
	}
	fixture_topic(&f, "orders-", 1, 2, 1111); /* sorts before "orders." */
	fixture_topic(&f, "ordert", 1, 2, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	f.now_ns += 1000000000;
}

static void done(void)
{
	fixture_done(&f);
}

static enum shmeta_status invalidate(enum shmeta_class cls, const char *topic, uint32_t partition, bool prefix,
                                     bool dry_run, uint64_t ticket)
{
	const struct sync_invalidation what = {.cls = cls,
	                                       .tenant = str(SHMETA_DEFAULT_TENANT),
	                                       .topic = str(topic),
	                                       .partition_id = partition,
	                                       .prefix = prefix,
	                                       .dry_run = dry_run};

	return sync_invalidate(f.sync, &what, f.now_ns + 60000000000u, "uid 7 pid 8", ticket);
}

static const struct fixture_answer *answered(uint64_t ticket)
{
	const struct fixture_answer *a = NULL;

	for (int i = 0; i < 100 && a == NULL; i++) {
		fixture_run(&f);
		a = fixture_answer(&f, ticket);
	}
	cr_assert_not_null(a, "ticket %llu is not answered", (unsigned long long)ticket);
	return a;
}

/* What a refresh of the topic's row would not see. */
static void lose_a_segment(const char *topic, uint32_t partition)
{
	cr_assert(memory_delete_segment(f.db, SHMETA_DEFAULT_TENANT, topic, partition, 0));
}

Test(sync_admin, a_topic_that_is_invalidated_is_compared_whole, .init = open_silent, .fini = done)
{
	const struct fixture_answer *a;

	lose_a_segment("orders.007", 1);
	cr_assert_not_null(fixture_difference(&f), "only a whole read can tell");
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.007", 0, false, false, 1), SHMETA_OK);
	a = answered(1);
	cr_assert_eq(a->status, SHMETA_OK, "%s", a->sentence);
	cr_expect(a->count.topics == 1 && a->count.partitions == 2 && a->count.records == 0);
	cr_expect_eq(a->txn, fixture_committed(&f));
	SAME();
	cr_assert_not_null(strstr(f.log, "audit: uid 7 pid 8: invalidate topic orders.007, tenant '"), "%s", f.log);
}

Test(sync_admin, a_partition_alone_is_read_alone, .init = open_silent, .fini = done)
{
	uint64_t before = fetched_keys();
	const struct fixture_answer *a;

	lose_a_segment("orders.007", 1);
	cr_assert_eq(invalidate(SHMETA_CLASS_SEGMENT, "orders.007", 1, false, false, 1), SHMETA_OK);
	a = answered(1);
	cr_assert_eq(a->status, SHMETA_OK, "%s", a->sentence);
	cr_expect(a->count.topics == 0 && a->count.partitions == 1);
	cr_expect_eq(fetched_keys(), before + 1);
	SAME();
}

Test(sync_admin, what_the_store_does_not_hold_is_asked_for_all_the_same, .init = open_silent, .fini = done)
{
	const struct fixture_answer *a;

	fixture_topic(&f, "new", 1, 1, 2222);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "new", 0, false, false, 1), SHMETA_OK);
	a = answered(1);
	cr_expect(a->status == SHMETA_OK && a->count.topics == 0);
	SAME();
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "none", 0, false, false, 2), SHMETA_OK);
	cr_expect_eq(answered(2)->status, SHMETA_OK, "absent before and after");
}

Test(sync_admin, a_prefix_is_all_topics_that_begin_with_it_a_few_at_a_time, .init = open_silent, .fini = done)
{
	const struct fixture_answer *a;
	uint64_t before = fetched_keys(), fetches;

	lose_a_segment("orders.000", 0);
	lose_a_segment("orders.063", 0);
	lose_a_segment("orders.064", 1);
	lose_a_segment("orders.199", 0);
	fetches = fixture_counters(&f).fetches;
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	a = answered(1);
	cr_assert_eq(a->status, SHMETA_OK, "%s", a->sentence);
	cr_expect(a->count.topics == 200 && a->count.partitions == 400);
	cr_expect_eq(fetched_keys(), before + 200, "each once, and no other");
	cr_expect_geq(fixture_counters(&f).fetches, fetches + 4, "not all at once");
	SAME();
	/* "ordert" lies behind the prefix, "orders-" before it. */
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders", 0, true, false, 2), SHMETA_OK);
	cr_expect_eq(answered(2)->count.topics, 201);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "", 0, true, false, 3), SHMETA_OK);
	cr_expect_eq(answered(3)->count.topics, 203);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "zzz", 0, true, false, 4), SHMETA_OK);
	cr_expect_eq(answered(4)->count.topics, 0);
}

Test(sync_admin, a_dry_run_counts_and_reads_nothing, .init = open_silent, .fini = done)
{
	uint64_t before = fetched_keys(), loaded = loads();
	const struct fixture_answer *a;

	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, true, 1), SHMETA_OK);
	a = answered(1);
	cr_expect(a->status == SHMETA_OK && a->count.topics == 200 && a->count.partitions == 400);
	cr_assert_eq(invalidate(SHMETA_CLASS_LIST, "", 0, false, true, 2), SHMETA_OK);
	a = answered(2);
	cr_expect(a->status == SHMETA_OK && a->count.topics == 203 && a->count.partitions == 403);
	cr_expect_eq(a->txn, fixture_committed(&f));
	cr_expect_eq(fetched_keys(), before);
	cr_expect_eq(loads(), loaded);
	cr_expect_null(strstr(f.log, "audit"), "nothing was done: %s", f.log);
}

Test(sync_admin, everything_is_one_full_comparison, .init = open_silent, .fini = done)
{
	const struct fixture_answer *a;
	uint64_t loaded = loads();

	lose_a_segment("orders.100", 0);
	cr_assert_eq(invalidate(SHMETA_CLASS_LIST, "", 0, false, false, 1), SHMETA_OK);
	for (int i = 0; fixture_answer(&f, 1) == NULL && i < 100; i++)
		fixture_pass(&f, 1000);
	a = answered(1);
	cr_assert_eq(a->status, SHMETA_OK, "%s", a->sentence);
	cr_expect_eq(a->count.topics, 203);
	cr_expect_eq(loads(), loaded + 1);
	SAME();
}

/* The engine looks at the clock: the invalidation comes while its key is being fetched. */
static void ask_again(void *arg)
{
	(void)arg;
	sync_set_fetched_hook(f.sync, NULL, NULL);
	lose_a_segment("a", 0);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "a", 0, false, false, 2), SHMETA_OK);
}

Test(sync_admin, a_read_that_is_under_way_is_not_joined, .init = open_silent, .fini = done)
{
	sync_set_fetched_hook(f.sync, ask_again, NULL);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "a", 0, false, false, 1), SHMETA_OK);
	cr_expect_eq(answered(1)->status, SHMETA_OK);
	cr_expect_eq(answered(2)->status, SHMETA_OK);
	SAME();
}

static int until_away;

static void take_away(void *arg)
{
	(void)arg;
	if (--until_away == 0)
		memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "pulled out");
}

Test(sync_admin, a_source_that_goes_away_in_the_middle_is_said_so_once, .init = open_silent, .fini = done)
{
	const struct fixture_answer *a;

	until_away = 2;
	sync_set_fetched_hook(f.sync, take_away, NULL);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	a = answered(1);
	cr_expect_eq(a->status, SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(a->sentence, "pulled out"), "%s", a->sentence);
	/* The audit says so, too, and counts nothing as done. */
	cr_expect_not_null(strstr(f.log, "invalidate topics beginning with 'orders.', tenant '"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, "': failed: "), "%s", f.log);
	cr_expect_null(strstr(f.log, " other records"), "%s", f.log);
	sync_set_fetched_hook(f.sync, NULL, NULL);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "a", 0, false, false, 2), SHMETA_OK);
	cr_expect_eq(answered(2)->status, SHMETA_ERR_SOURCE, "away: at once");
	fixture_pass(&f, 60000);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "a", 0, false, false, 3), SHMETA_OK);
	cr_expect_eq(answered(3)->status, SHMETA_OK, "and back");
}

static void time_flies(void *arg)
{
	(void)arg;
	f.now_ns += 40000000000u;
}

Test(sync_admin, at_the_deadline_what_was_not_begun_is_not, .init = open_silent, .fini = done)
{
	uint64_t before = fetched_keys();

	sync_set_fetched_hook(f.sync, time_flies, NULL);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 2), SHMETA_OK);
	cr_expect_eq(answered(1)->status, SHMETA_ERR_TIMEOUT);
	cr_expect_eq(answered(2)->status, SHMETA_ERR_TIMEOUT, "its turn never came");
	sync_set_fetched_hook(f.sync, NULL, NULL);
	fixture_pass(&f, 10000);
	cr_expect_eq(fetched_keys(), before + 128, "two steps");
}

Test(sync_admin, who_waits_at_the_end_is_told_and_everybody_once, .init = open_silent)
{
	uint64_t tickets = 0;

	while (invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, tickets) == SHMETA_OK)
		tickets++;
	cr_expect_eq(tickets, 256, "then BUSY");
	fixture_run(&f); /* the first one is under way */
	fixture_close(&f);
	cr_expect_eq(f.answer_count, 256);
	for (uint64_t i = 0; i < tickets; i++)
		cr_expect_eq(fixture_answer(&f, i)->status, SHMETA_ERR_WRITER_AWAY);
	fixture_done(&f);
}

Test(sync_admin, a_killed_engine_gives_back_what_waited, .init = open_silent)
{
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 2), SHMETA_OK);
	fixture_crash(&f);
	fixture_done(&f);
}

Test(sync_admin, objects_are_listed_while_an_invalidation_is_under_way, .init = open_silent, .fini = done)
{
	const struct sync_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT)};

	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	cr_assert_eq(sync_list_objects(f.sync, &list, UINT64_MAX, 2), SHMETA_OK);
	cr_assert_eq(sync_list_objects(f.sync, &list, f.now_ns, 3), SHMETA_OK);
	cr_expect(answered(2)->status == SHMETA_OK && answered(2)->objects == 0 && !answered(2)->more);
	cr_expect_eq(answered(3)->status, SHMETA_ERR_TIMEOUT);
	cr_expect_eq(answered(1)->status, SHMETA_OK);
}

Test(sync_admin, the_end_of_an_epoch_is_told_while_an_invalidation_is_under_way, .init = open_silent, .fini = done)
{
	struct backend_epoch ask = {.tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("orders.007")};

	cr_assert(memory_set_watermark(f.db, NULL, "orders.007", 0, 77));
	cr_assert_eq(invalidate(SHMETA_CLASS_TOPIC, "orders.", 0, true, false, 1), SHMETA_OK);
	cr_assert_eq(sync_epoch_end(f.sync, &ask, 0, UINT64_MAX, 2), SHMETA_OK);
	cr_assert_eq(sync_epoch_end(f.sync, &ask, 0, f.now_ns, 3), SHMETA_OK);
	ask.epoch = 1;
	cr_assert_eq(sync_epoch_end(f.sync, &ask, 0, UINT64_MAX, 4), SHMETA_OK);
	ask.topic = str("nosuch");
	cr_assert_eq(sync_epoch_end(f.sync, &ask, 0, UINT64_MAX, 5), SHMETA_OK);
	cr_expect(answered(2)->status == SHMETA_OK && answered(2)->txn == 77 && answered(2)->generation == 0, "%s",
	          answered(2)->sentence);
	cr_expect_eq(answered(3)->status, SHMETA_ERR_TIMEOUT);
	cr_expect(answered(4)->status == SHMETA_ABSENT && answered(4)->generation == 0, "no lease was ever had");
	cr_expect_eq(answered(5)->status, SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_eq(answered(1)->status, SHMETA_OK);
}

/* A follower may ask for it for ever. */
Test(sync_admin, an_end_of_an_epoch_that_cannot_be_read_is_no_source_that_is_away, .init = open_silent, .fini = done)
{
	const struct backend_epoch ask = {.tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("orders.007")};

	cr_assert(memory_set_watermark(f.db, NULL, "orders.007", 0, UINT64_MAX));
	cr_assert_eq(sync_epoch_end(f.sync, &ask, 0, UINT64_MAX, 1), SHMETA_OK);
	cr_expect_eq(answered(1)->status, SHMETA_ERR_SOURCE);
	cr_expect_null(strstr(f.log, "source_away"), "%s", f.log);
}

Test(sync_admin, a_class_of_hints_is_read_as_a_whole, .init = open_silent, .fini = done)
{
	const struct shmeta_agent agent = {
		.agent_id = str("agent-1"), .address = str("here:1"), .last_heartbeat_ms = 5};
	const struct shmeta_group group = {.group_id = str("readers")};
	const struct fixture_answer *a;

	cr_assert(memory_put_agent(f.db, NULL, &agent) && memory_put_group(f.db, NULL, &group));
	cr_assert_eq(invalidate(SHMETA_CLASS_AGENT, "", 0, false, false, 1), SHMETA_OK);
	cr_expect_eq(answered(1)->count.records, 0, "the store held none");
	cr_assert_eq(invalidate(SHMETA_CLASS_OFFSET, "", 0, false, false, 2), SHMETA_OK);
	cr_expect_eq(answered(2)->status, SHMETA_OK);
	SAME();
	cr_assert_eq(invalidate(SHMETA_CLASS_AGENT, "", 0, false, true, 3), SHMETA_OK);
	a = answered(3);
	cr_expect(a->count.records == 1 && a->count.topics == 0 && a->count.partitions == 0);
	cr_assert_eq(invalidate(SHMETA_CLASS_LIST, "", 0, false, true, 4), SHMETA_OK);
	cr_expect_eq(answered(4)->count.records, 2);
}

/* ---- users ---- */

static enum shmeta_status list_as(uint32_t uid, uint64_t ticket)
{
	const struct sync_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT), .uid = uid};

	return sync_list_objects(f.sync, &list, UINT64_MAX, ticket);
}

Test(sync_admin, one_users_lists_and_questions_leave_places_for_others, .init = open_silent, .fini = done)
{
	const struct backend_epoch ask = {.tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("orders.007")};
	const struct sync_invalidation all = {
		.cls = SHMETA_CLASS_LIST, .tenant = str(SHMETA_DEFAULT_TENANT), .dry_run = true};
	uint64_t taken = 0;

	while (list_as(4001, 1000 + taken) == SHMETA_OK)
		cr_assert_lt(++taken, 1000);
	cr_expect_geq(taken, 100);
	cr_expect_eq(sync_epoch_end(f.sync, &ask, 4001, UINT64_MAX, 1), SHMETA_ERR_BUSY);
	cr_expect_eq(list_as(4002, 2), SHMETA_OK, "another user has half of the rest");
	cr_expect_eq(sync_epoch_end(f.sync, &ask, 4003, UINT64_MAX, 3), SHMETA_OK);
	cr_expect_eq(sync_invalidate(f.sync, &all, UINT64_MAX, "test", 4), SHMETA_OK, "and so has root");
	fixture_pass(&f, 1000);
	for (uint64_t ticket = 2; ticket <= 4; ticket++)
		cr_expect_eq(answered(ticket)->status, SHMETA_OK);
	for (uint64_t i = 0; i < taken; i++)
		cr_expect_eq(answered(1000 + i)->status, SHMETA_OK);
	cr_expect_eq(list_as(4001, 5), SHMETA_OK, "places are given back");
}

Test(sync_admin, in_one_turn_a_user_has_one_page_or_some_ends_of_epochs, .init = open_silent, .fini = done)
{
	const struct backend_epoch ask = {.tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("orders.007")};
	uint64_t wait_ns;

	for (uint64_t i = 0; i < 100; i++)
		cr_assert_eq(list_as(4001, 1000 + i), SHMETA_OK);
	cr_assert_eq(list_as(4002, 1), SHMETA_OK);
	for (uint64_t i = 0; i < 40; i++)
		cr_assert_eq(sync_epoch_end(f.sync, &ask, 4003, UINT64_MAX, 2000 + i), SHMETA_OK);
	cr_assert_eq(sync_run_once(f.sync, &wait_ns), SHMETA_OK);
	cr_expect_not_null(fixture_answer(&f, 1000));
	cr_expect_not_null(fixture_answer(&f, 1), "another user's is not behind all of them");
	cr_expect_null(fixture_answer(&f, 1001));
	cr_expect_not_null(fixture_answer(&f, 2015));
	cr_expect_null(fixture_answer(&f, 2016));
	cr_expect_eq(wait_ns, 0, "the next turn comes at once");
}
