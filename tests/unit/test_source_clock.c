/* SPDX-License-Identifier: Apache-2.0
 * A source with a clock of its own, and a host whose clock is another one: leases end, and agents
 * are alive, by the source's. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/fixture_reader.h"

TestSuite(source_clock, .timeout = 60);

enum { HOST_MS = 1000000, LEASE_MS = 10000, ALIVE_MS = 60000 };

static struct fixture f;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct backend_source source;
static struct backend_engine engine;
static int64_t ahead_ms;

static int64_t clock_ahead_ms(void *state, int64_t now_ms)
{
	(void)state, (void)now_ms;
	return ahead_ms;
}

/* A lease of ten seconds, an agent that has just lived: by the source's clock. */
static void begin(int64_t ahead)
{
	ahead_ms = ahead;
	fixture_init(&f);
	fixture_prepare_reader(&f);
	source = *memory_with_faults.source;
	source.clock_ahead_ms = clock_ahead_ms;
	engine = memory_with_faults;
	engine.source = &source;
	f.options.engine = &engine;
	fixture_topic(&f, "t", 1, 0, 1111);
	cr_assert(memory_put_agent(f.db, NULL,
	                           &(struct shmeta_agent){.agent_id = rows_str("a"),
	                                                  .address = rows_str("a"),
	                                                  .last_heartbeat_ms = HOST_MS + ahead}));
	cr_assert(memory_put_lease(f.db, NULL, "t",
	                           &(struct shmeta_lease){.leader_agent_id = rows_str("a"),
	                                                  .epoch = 1,
	                                                  .lease_expires_at_ms = HOST_MS + ahead + LEASE_MS}));
	fixture_open(&f);
	fixture_run(&f);
	fixture_open_reader(&f, &instance, &reader);
}

static void end(void)
{
	fixture_end_reading(&f, instance, reader);
}

static void expect_lease(int64_t now_ms, enum shmeta_status expected)
{
	struct shmeta_freshness fresh;
	struct shmeta_lease lease;
	struct shmeta_iter *iter;
	struct shmeta_str topic;

	fixture_begin_reading(&f, reader);
	cr_expect_eq(shmeta_get_lease(reader, "t", 1, 0, now_ms, NULL, &lease, NULL), expected, "at %ld", (long)now_ms);
	cr_assert_eq(shmeta_list_leases(reader, NULL, 0, NULL, 0, now_ms, NULL, &iter), SHMETA_OK);
	cr_expect_eq(shmeta_next_lease(iter, &topic, &lease, &fresh),
	             expected == SHMETA_ABSENT ? SHMETA_END : SHMETA_OK, "listed at %ld", (long)now_ms);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void expect_agent(int64_t now_ms, bool alive)
{
	struct shmeta_freshness fresh;
	struct shmeta_agent agent;
	struct shmeta_iter *iter;

	fixture_begin_reading(&f, reader);
	cr_assert_eq(shmeta_list_agents(reader, NULL, 0, NULL, 0, now_ms, NULL, &iter), SHMETA_OK);
	cr_expect_eq(shmeta_next_agent(iter, &agent, &fresh), alive ? SHMETA_OK : SHMETA_END, "at %ld", (long)now_ms);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static int32_t told(void)
{
	struct shmeta_state state = {.size = sizeof state};

	cr_assert_eq(shmeta_get_state(instance, &state), SHMETA_OK);
	return state.source_ahead_ms;
}

Test(source_clock, a_lease_ends_and_an_agent_is_dead_by_it)
{
	static const int64_t ahead[] = {0, 20000, -20000, 86400000, -86400000};

	for (size_t i = 0; i < sizeof ahead / sizeof *ahead; i++) {
		begin(ahead[i]);
		cr_expect_eq(told(), ahead[i]);
		expect_lease(HOST_MS, SHMETA_OK);
		expect_lease(HOST_MS + LEASE_MS - 1, SHMETA_OK);
		expect_lease(HOST_MS + LEASE_MS, SHMETA_ABSENT);
		expect_agent(HOST_MS + ALIVE_MS - 1, true);
		expect_agent(HOST_MS + ALIVE_MS, false);
		end();
	}
}

/* The host's clock is set: the next round says by how much it is off now. */
Test(source_clock, a_lease_ends_by_it_after_the_hosts_was_set)
{
	begin(0);
	ahead_ms = LEASE_MS;
	fixture_run(&f);
	expect_lease(HOST_MS - 1, SHMETA_OK);
	expect_lease(HOST_MS, SHMETA_ABSENT);
	end();
}

/* What is known of a clock goes on while its source is away. */
Test(source_clock, a_lease_ends_by_what_was_known_of_it_while_the_source_is_away)
{
	begin(20000);
	memory_fail(f.db, MEMORY_OPEN, UINT32_MAX, 0, SHMETA_ERR_SOURCE, "away");
	fixture_close(&f);
	fixture_open(&f);
	fixture_pass(&f, 3000);
	cr_expect_eq(told(), 20000);
	expect_lease(HOST_MS + LEASE_MS - 1, SHMETA_OK);
	expect_lease(HOST_MS + LEASE_MS, SHMETA_ABSENT);
	end();
}

Test(source_clock, sums_with_it_do_not_wrap_at_the_ends_of_time)
{
	static const int64_t ahead[] = {20000, -20000, INT64_MAX - 2 * HOST_MS, INT64_MIN + 2 * HOST_MS};

	for (size_t i = 0; i < sizeof ahead / sizeof *ahead; i++) {
		begin(ahead[i]);
		cr_expect_eq(told(), i < 2 ? ahead[i] : ahead[i] > 0 ? INT32_MAX : -INT32_MAX);
		expect_lease(INT64_MIN, SHMETA_OK);
		expect_lease(INT64_MIN + 1, SHMETA_OK);
		expect_lease(INT64_MAX, SHMETA_ABSENT);
		expect_agent(INT64_MIN, true);
		end();
	}
}
