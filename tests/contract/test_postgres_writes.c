/* SPDX-License-Identifier: Apache-2.0
 * Writes of several hosts to one PostgreSQL: each engine here is what a host's daemon has, with a
 * connection of its own. Leases, fences, conflicts, deadlocks, and commits of which nobody
 * hears. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/link.h"
#include "tests/support/source_world.h"

TestSuite(postgres_writes, .timeout = 120);

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

enum { OPS_MAX = 64, HOSTS_MAX = 16, PATIENCE_MS = 20000 };

/* ---- a host ---- */

struct host {
	const struct backend_engine *ops;
	void *state;
	struct backend_error err;
	struct shmeta_op op[OPS_MAX];
	struct backend_op batch[OPS_MAX];
	struct shmeta_result result[OPS_MAX];
	char id[OPS_MAX][48];
	size_t count;
	size_t sent; /* the last batch */
};

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	(void)arg, (void)key;
	return SHMETA_OK;
}

/* Nothing here asserts: hosts run in threads. */
static enum shmeta_status host_open(struct host *h, const struct world *w, const char *uri, uint32_t timeout_ms)
{
	struct backend_options options = w->options;

	memset(h, 0, sizeof *h);
	options.uri = uri != NULL ? uri : w->uri;
	options.timeout_ms = timeout_ms;
	h->ops = w->ops;
	h->state = calloc(1, h->ops->state_bytes);
	return h->state != NULL ? h->ops->source->open(h->state, &options, &h->err) : SHMETA_ERR_NO_MEMORY;
}

static void host_close(struct host *h)
{
	if (h->state != NULL)
		h->ops->source->close(h->state);
	free(h->state);
}

static struct shmeta_op *add(struct host *h, enum shmeta_op_type type, const char *topic, uint32_t partition)
{
	struct shmeta_op *op = &h->op[h->count++];

	*op = (struct shmeta_op){.type = type, .name = rows_str(topic), .partition_id = partition};
	return op;
}

static struct shmeta_op *add_segment(struct host *h, const char *topic, uint32_t partition, uint64_t base)
{
	size_t at = h->count;
	struct shmeta_op *op = add(h, SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, topic, partition);

	(void)snprintf(h->id[at], sizeof h->id[at], "%s-%u-%llu", topic, partition, (unsigned long long)base);
	op->u.segment = (struct shmeta_segment){.base_offset = base,
	                                        .end_offset = base + 9,
	                                        .record_count = 10,
	                                        .size_bytes = 100,
	                                        .created_at_ms = 5,
	                                        .id = rows_str(h->id[at]),
	                                        .s3_bucket = rows_str("bucket"),
	                                        .s3_key = rows_str(h->id[at])};
	return op;
}

static void add_agent(struct host *h, const char *agent)
{
	add(h, SHMETA_OP_REGISTER_AGENT, "", 0)->u.agent = (struct shmeta_agent){.agent_id = rows_str(agent),
	                                                                         .address = rows_str(agent),
	                                                                         .availability_zone = rows_str("z"),
	                                                                         .agent_group = rows_str("g")};
}

static void add_topic(struct host *h, const char *name, uint32_t partitions)
{
	add(h, SHMETA_OP_CREATE_TOPIC, "", 0)->u.topic =
		(struct shmeta_topic){.name = rows_str(name), .partition_count = partitions};
}

static void add_acquire(struct host *h, const char *topic, uint32_t partition, const char *agent, int64_t ms)
{
	struct shmeta_op *op = add(h, SHMETA_OP_ACQUIRE_LEASE, topic, partition);

	op->agent_id = rows_str(agent);
	op->duration_ms = ms;
}

static size_t gather(struct host *h)
{
	size_t count = h->count;

	for (size_t i = 0; i < count; i++)
		h->batch[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &h->op[i]};
	h->count = 0;
	h->sent = count;
	return count;
}

static enum shmeta_status host_start(struct host *h, int64_t now_ms)
{
	size_t count = gather(h);

	return h->ops->writer->start(h->state, h->batch, count, now_ms, h->result, &h->err);
}

static enum shmeta_status host_finish(struct host *h)
{
	const struct backend_sink sink = {.changed = on_changed};

	return world_applied(h->ops->writer->finish(h->state, &sink, &h->err), h->result, h->sent);
}

static enum shmeta_status host_apply(struct host *h, int64_t now_ms)
{
	const struct backend_sink sink = {.changed = on_changed};
	size_t count = gather(h);

	return world_applied(h->ops->writer->apply(h->state, h->batch, count, now_ms, h->result, &sink, &h->err),
	                     h->result, count);
}

/* All of a batch done; from the test's own thread. */
#define done(host, now_ms)                                                                                       \
	do {                                                                                                     \
		size_t many = (host)->count;                                                                     \
		cr_assert_eq(host_apply((host), (now_ms)), SHMETA_OK, "%s", (host)->err.text);                   \
		for (size_t n = 0; n < many; n++)                                                                \
			cr_assert_eq((host)->result[n].status, SHMETA_OK, "%zu: %s", n, (host)->result[n].text); \
	} while (0)

static struct backend_counters counters(struct host *h)
{
	struct backend_counters ret;

	h->ops->source->counters(h->state, &ret);
	return ret;
}

static uint64_t transactions(struct host *h)
{
	return counters(h).transactions;
}

static struct world world;
static struct host hosts[HOSTS_MAX];

static void begin(enum world_engine engine, size_t count)
{
	if (!world_possible(engine))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, engine);
	world_open(&world);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(host_open(&hosts[i], &world, NULL, PATIENCE_MS), SHMETA_OK, "%s", hosts[i].err.text);
}

static void end(size_t count)
{
	for (size_t i = 0; i < count; i++)
		host_close(&hosts[i]);
	world_free(&world);
}

/* ---- leases ---- */

enum { EPOCHS_MAX = 8192, RACERS = 4, RACES = 150 };

struct race {
	_Atomic int64_t now_ms;
	_Atomic uint32_t given[EPOCHS_MAX]; /* how often each epoch was given out */
	_Atomic uint32_t acquired, taken, wrong;
};

struct racer {
	struct race *race;
	struct host *host;
	char agent[16];
};

/* Acquire, now and then release, deregister, make the topic anew: whatever loses an epoch in a
 * careless engine. */
static void *race_for_lease(void *arg)
{
	struct racer *r = arg;
	struct host *h = r->host;
	enum shmeta_status status;

	for (int i = 0; i < RACES; i++) {
		int64_t now_ms = atomic_fetch_add(&r->race->now_ms, 3);
		uint64_t epoch;

		add_agent(h, r->agent);
		if (i % 50 == 49) {
			add(h, SHMETA_OP_DELETE_TOPIC, "orders", 0);
			add_topic(h, "orders", 1);
		}
		add_acquire(h, "orders", 0, r->agent, 4);
		status = host_apply(h, now_ms);
		if (status != SHMETA_OK)
			atomic_fetch_add(&r->race->wrong, 1);
		status = status == SHMETA_OK ? h->result[i % 50 == 49 ? 3 : 1].status : status;
		epoch = h->result[i % 50 == 49 ? 3 : 1].lease.epoch;
		if (status == SHMETA_OK && epoch < EPOCHS_MAX) {
			atomic_fetch_add(&r->race->given[epoch], 1);
			atomic_fetch_add(&r->race->acquired, 1);
		} else if (status == SHMETA_ERR_CONFLICT) {
			atomic_fetch_add(&r->race->taken, 1);
		}
		if (status == SHMETA_OK && i % 3 == 0) {
			add(h, SHMETA_OP_RELEASE_LEASE, "orders", 0)->agent_id = rows_str(r->agent);
			(void)host_apply(h, now_ms);
		} else if (status == SHMETA_OK && i % 7 == 0) {
			add(h, SHMETA_OP_DEREGISTER_AGENT, "", 0)->agent_id = rows_str(r->agent);
			(void)host_apply(h, now_ms);
		}
	}
	return NULL;
}

static void no_epoch_is_given_twice(enum world_engine engine)
{
	static struct race race = {.now_ms = 1000000};
	struct racer racers[RACERS];
	pthread_t threads[RACERS];

	begin(engine, RACERS);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){.race = &race, .host = &hosts[i]};
		(void)snprintf(racers[i].agent, sizeof racers[i].agent, "agent-%d", i);
		cr_assert_eq(pthread_create(&threads[i], NULL, race_for_lease, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++)
		(void)pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < EPOCHS_MAX; i++)
		cr_assert_leq(race.given[i], 1, "epoch %u was given %u times", i, race.given[i]);
	cr_expect_eq(race.wrong, 0, "%u batches failed: %s", race.wrong, hosts[0].err.text);
	cr_expect_gt(race.acquired, RACES / 2);
	cr_expect_gt(race.taken, 0, "nobody ever met another's lease: the race proved nothing");
	end(RACERS);
}

Test(postgres_writes, no_two_hosts_are_given_one_epoch)
{
	no_epoch_is_given_twice(WORLD_PG_NEW);
}

Test(postgres_writes, no_two_hosts_are_given_one_epoch_in_a_streamhouse_database)
{
	no_epoch_is_given_twice(WORLD_PG_LATER);
}

Test(postgres_writes, no_two_hosts_are_given_one_epoch_on_cockroachdb)
{
	no_epoch_is_given_twice(WORLD_COCKROACH);
}

struct call {
	struct host *host;
	int64_t now_ms;
	enum shmeta_status status;
	_Atomic int done;
};

static void *call_in_thread(void *arg)
{
	struct call *c = arg;

	c->status = host_apply(c->host, c->now_ms);
	atomic_store(&c->done, 1);
	return NULL;
}

/* Until somebody waits for a lock in the world's database. */
static void await_waiter(void)
{
	while (world_sql_number(&world, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0)
		(void)usleep(2000);
}

Test(postgres_writes, a_fence_holds_against_a_takeover_that_is_being_committed)
{
	struct call c = {.host = &hosts[0], .now_ms = 1100};
	pthread_t thread;

	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	add_agent(&hosts[0], "a");
	add_agent(&hosts[0], "b");
	add_acquire(&hosts[0], "orders", 0, "a", 1000000);
	done(&hosts[0], 1000);
	/* An agent of StreamHouse's takes the lease over, and commits only after our write has
	 * begun. */
	world_sql(&world, "BEGIN");
	world_sql(&world, "UPDATE partition_leases SET leader_agent_id = 'b', epoch = 2");
	add_segment(&hosts[0], "orders", 0, 0)->fence = (struct shmeta_fence){rows_str("a"), 1};
	add_segment(&hosts[0], "orders", 0, 10)->fence = (struct shmeta_fence){rows_str("b"), 2};
	cr_assert_eq(pthread_create(&thread, NULL, call_in_thread, &c), 0);
	await_waiter();
	cr_expect_eq(c.done, 0);
	world_sql(&world, "COMMIT");
	(void)pthread_join(thread, NULL);
	cr_assert_eq(c.status, SHMETA_OK, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].result[0].status, SHMETA_ERR_FENCED);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments WHERE base_offset = 0"), 0);
	end(1);
}

Test(postgres_writes, a_takeover_waits_for_a_fenced_write_to_end)
{
	struct call c = {.host = &hosts[1], .now_ms = 2000};
	pthread_t thread;

	begin(WORLD_PG_NEW, 2);
	add_topic(&hosts[0], "orders", 1);
	add_agent(&hosts[0], "a");
	add_agent(&hosts[0], "b");
	add_acquire(&hosts[0], "orders", 0, "a", 500);
	done(&hosts[0], 1000);
	/* What a fenced write of the first host holds while it commits. */
	world_sql(&world, "BEGIN");
	world_sql(&world,
	          "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
	          "s3_bucket, s3_key, created_at) VALUES('x', 'orders', 0, 0, 9, 10, 1, 'b', 'k', 1)");
	world_sql(&world, "SELECT 1 FROM partition_leases FOR SHARE");
	add_acquire(&hosts[1], "orders", 0, "b", 1000);
	cr_assert_eq(pthread_create(&thread, NULL, call_in_thread, &c), 0);
	await_waiter();
	cr_expect_eq(c.done, 0);
	world_sql(&world, "COMMIT");
	(void)pthread_join(thread, NULL);
	cr_assert_eq(c.status, SHMETA_OK, "%s", hosts[1].err.text);
	cr_expect_eq(hosts[1].result[0].lease.epoch, 2);
	end(2);
}

/* ---- conflicts ---- */

enum { WRITERS = 16, BATCHES = 12, PER_BATCH = 20, PLACES = 3 };

struct writer {
	struct host *host;
	uint32_t number;
	_Atomic uint32_t *failed;
	char sentence[200];
};

static void *write_much(void *arg)
{
	struct writer *w = arg;

	for (uint32_t b = 0; b < BATCHES; b++) {
		enum shmeta_status status;

		/* Half of the writers go through the partitions the other way. */
		for (uint32_t i = 0; i < PER_BATCH; i++) {
			uint32_t k = w->number % 2 == 0 ? i : PER_BATCH - 1 - i;
			uint64_t base = ((uint64_t)w->number * BATCHES + b) * PER_BATCH * 10 + (uint64_t)k * 10;

			add_segment(w->host, "orders", k % PLACES, base);
		}
		status = host_apply(w->host, 1000 + b);
		for (uint32_t i = 0; i < PER_BATCH; i++)
			if (status != SHMETA_OK || w->host->result[i].status != SHMETA_OK) {
				atomic_fetch_add(w->failed, 1);
				(void)snprintf(w->sentence, sizeof w->sentence, "%.190s",
				               status != SHMETA_OK ? w->host->err.text : w->host->result[i].text);
			}
	}
	return NULL;
}

static void sixteen_write(enum world_engine engine, bool conflicts)
{
	static _Atomic uint32_t failed;
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	uint64_t tries = 0;
	char sql[200];

	begin(engine, WRITERS);
	add_topic(&hosts[0], "orders", PLACES);
	done(&hosts[0], 1);
	for (uint32_t i = 0; i < WRITERS; i++)
		tries -= transactions(&hosts[i]);
	for (uint32_t i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.host = &hosts[i], .number = i, .failed = &failed};
		cr_assert_eq(pthread_create(&threads[i], NULL, write_much, &writers[i]), 0);
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		(void)pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < WRITERS; i++) {
		tries += transactions(&hosts[i]);
		cr_expect_str_empty(writers[i].sentence, "%s", writers[i].sentence);
	}
	cr_expect_eq(failed, 0);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), WRITERS * BATCHES * PER_BATCH);
	(void)snprintf(
		sql, sizeof sql,
		"SELECT count(*) FROM partitions p WHERE high_watermark <> (SELECT max(end_offset) + 1 FROM segments "
		"s WHERE s.partition_id = p.partition_id)");
	cr_expect_eq(world_sql_number(&world, sql), 0);
	if (conflicts)
		cr_expect_gt(tries, WRITERS * BATCHES, "no transaction was ever tried again: nothing was proved");
	else
		cr_expect_eq(world_sql_number(&world, "SELECT deadlocks FROM pg_stat_database WHERE datname = "
		                                      "current_database()"),
		             0);
	end(WRITERS);
}

Test(postgres_writes, sixteen_hosts_that_write_across_each_other_never_deadlock)
{
	sixteen_write(WORLD_PG_NEW, false);
}

Test(postgres_writes, sixteen_hosts_get_through_their_serialisation_failures)
{
	sixteen_write(WORLD_COCKROACH, true);
}

/* What a topic takes with it when it goes is locked with everything else, before anything is
 * done. */
static void *make_and_drop(void *arg)
{
	struct writer *w = arg;

	for (uint32_t b = 0; b < BATCHES; b++) {
		const char *first = w->number % 2 == 0 ? "left" : "right",
			   *second = w->number % 2 == 0 ? "right" : "left";

		for (uint32_t i = 0; i < PLACES; i++) {
			add_segment(w->host, first, i, ((uint64_t)w->number * BATCHES + b) * 10);
			add_segment(w->host, second, PLACES - 1 - i, ((uint64_t)w->number * BATCHES + b) * 10);
		}
		if (b % 4 == 3) {
			add(w->host, SHMETA_OP_DELETE_TOPIC, second, 0);
			add_topic(w->host, second, PLACES);
		}
		if (host_apply(w->host, 1000 + b) != SHMETA_OK) {
			atomic_fetch_add(w->failed, 1);
			(void)snprintf(w->sentence, sizeof w->sentence, "%.190s", w->host->err.text);
		}
	}
	return NULL;
}

Test(postgres_writes, hosts_that_drop_topics_under_each_others_writes_never_fail)
{
	static _Atomic uint32_t failed;
	struct writer writers[4];
	pthread_t threads[4];

	begin(WORLD_PG_NEW, 4);
	add_topic(&hosts[0], "left", PLACES);
	add_topic(&hosts[0], "right", PLACES);
	done(&hosts[0], 1);
	for (uint32_t i = 0; i < 4; i++) {
		writers[i] = (struct writer){.host = &hosts[i], .number = i, .failed = &failed};
		cr_assert_eq(pthread_create(&threads[i], NULL, make_and_drop, &writers[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++)
		(void)pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < 4; i++)
		cr_expect_str_empty(writers[i].sentence, "%s", writers[i].sentence);
	cr_expect_eq(failed, 0);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partitions"), 2 * PLACES);
	end(4);
}

Test(postgres_writes, two_hosts_that_add_one_segment_are_told_apart)
{
	begin(WORLD_PG_NEW, 2);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	add_segment(&hosts[0], "orders", 0, 0);
	done(&hosts[0], 1);
	add_segment(&hosts[1], "orders", 0, 0);
	add_segment(&hosts[1], "orders", 0, 10);
	cr_assert_eq(host_apply(&hosts[1], 1), SHMETA_OK, "%s", hosts[1].err.text);
	cr_expect_eq(hosts[1].result[0].status, SHMETA_ERR_ALREADY_EXISTS);
	cr_expect_eq(hosts[1].result[0].existing.end_offset, 9);
	cr_expect_eq(hosts[1].result[1].status, SHMETA_OK);
	end(2);
}

/* An add that is there already; in how many transactions that was found out. */
static uint64_t add_again(struct host *h, const char *topic)
{
	const uint64_t before = transactions(h);

	add_segment(h, topic, 0, 1000);
	cr_assert_eq(host_apply(h, 1), SHMETA_OK, "%s", h->err.text);
	cr_expect_eq(h->result[0].status, SHMETA_ERR_ALREADY_EXISTS, "%s", h->result[0].text);
	return transactions(h) - before;
}

/* Adds are written as if nothing were in their way; what is costs a second transaction, but not
 * each time. */
Test(postgres_writes, adds_that_meet_a_conflict_look_before_they_write_for_a_while_and_then_no_more)
{
	int again = 0;

	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	add_segment(&hosts[0], "orders", 0, 1000);
	done(&hosts[0], 1);
	cr_expect_eq(add_again(&hosts[0], "orders"), 2, "the first conflict did not cost a second transaction");
	while (again < 100 && add_again(&hosts[0], "orders") == 1)
		again++;
	cr_expect_gt(again, 4, "a conflict just before made no difference");
	cr_expect_lt(again, 100, "one conflict made it look for ever");
	end(1);
}

/* In one batch: places that are there and are not, fences that hold and do not, on the same
 * partition too. */
static void adds_are_told_apart(enum world_engine engine)
{
	enum { ROUNDS = 30 };
	static const struct {
		const char *topic, *agent;
		uint32_t partition;
		uint64_t epoch;
		enum shmeta_status expected;
	} cases[] = {
		{"orders", NULL, 0, 0, SHMETA_OK},
		{"orders", "agent", 0, 1, SHMETA_OK},
		{"orders", "agent", 0, 2, SHMETA_ERR_FENCED},
		{"orders", "other", 0, 1, SHMETA_ERR_FENCED},
		{"orders", "agent", 1, 1, SHMETA_ERR_FENCED},
		{"orders", NULL, 1, 0, SHMETA_OK},
		{"orders", NULL, 7, 0, SHMETA_ERR_PARTITION_NOT_FOUND},
		{"orders", "agent", 7, 1, SHMETA_ERR_PARTITION_NOT_FOUND},
		{"nothing", NULL, 0, 0, SHMETA_ERR_TOPIC_NOT_FOUND},
	};
	enum { CASES = sizeof cases / sizeof *cases };
	struct host *h = &hosts[0];
	uint64_t top[2] = {0};
	int64_t good = 0;
	uint64_t before;

	begin(engine, 1);
	add_topic(h, "orders", 2);
	add_agent(h, "agent");
	add_agent(h, "other");
	add_acquire(h, "orders", 0, "agent", 1000);
	done(h, 1);
	before = transactions(h);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < CASES; i++) {
			struct shmeta_op *op = add_segment(h, cases[i].topic, cases[i].partition,
			                                   (round * CASES + i * 7 % CASES) * 10);

			op->type = i % 2 == round % 2 ? SHMETA_OP_ADD_SEGMENT : op->type;
			if (cases[i].agent != NULL)
				op->fence = (struct shmeta_fence){rows_str(cases[i].agent), cases[i].epoch};
			if (cases[i].expected == SHMETA_OK) {
				good++;
				if (op->type != SHMETA_OP_ADD_SEGMENT &&
				    op->u.segment.end_offset >= top[op->partition_id])
					top[op->partition_id] = op->u.segment.end_offset + 1;
			}
		}
		cr_assert_eq(host_apply(h, 2), SHMETA_OK, "%s", h->err.text);
		for (uint32_t i = 0; i < CASES; i++)
			cr_expect_eq(h->result[i].status, cases[i].expected, "round %u, case %u: %s", round, i,
			             h->result[i].text);
	}
	cr_expect_eq(transactions(h) - before, ROUNDS, "refusals alone made it begin again");
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), good);
	for (uint32_t i = 0; i < 2; i++) {
		char sql[100];

		(void)snprintf(sql, sizeof sql, "SELECT high_watermark FROM partitions WHERE partition_id = %u", i);
		cr_expect_eq(world_sql_number(&world, sql), (int64_t)top[i], "partition %u", i);
	}
	end(1);
}

Test(postgres_writes, adds_of_one_batch_are_refused_for_what_each_is)
{
	adds_are_told_apart(WORLD_PG_NEW);
}

Test(postgres_writes, adds_of_one_batch_are_refused_for_what_each_is_in_a_streamhouse_database)
{
	adds_are_told_apart(WORLD_PG_LATER);
}

/* An application's trigger may swallow a row without a word. */
Test(postgres_writes, a_row_that_a_trigger_keeps_out_is_not_called_written)
{
	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	world_sql(&world, "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS "
	                  "'BEGIN IF new.base_offset = 10 THEN RETURN NULL; END IF; RETURN new; END'");
	world_sql(&world, "CREATE TRIGGER keep_out BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION keep_out()");
	for (uint64_t base = 0; base < 30; base += 10)
		add_segment(&hosts[0], "orders", 0, base);
	cr_assert_eq(host_apply(&hosts[0], 1), SHMETA_OK, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].result[0].status, SHMETA_OK, "%s", hosts[0].result[0].text);
	cr_expect_eq(hosts[0].result[1].status, SHMETA_ERR_INVALID_ARGUMENT, "%s", hosts[0].result[1].text);
	cr_expect_eq(hosts[0].result[2].status, SHMETA_OK, "%s", hosts[0].result[2].text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 2);
	end(1);
}

/* A row that is committed while our statement waits for it lies beyond that statement's sight: it
 * is looked at again. */
Test(postgres_writes, what_is_committed_while_a_statement_runs_is_still_told_for_what_it_is)
{
	struct call c = {.host = &hosts[0], .now_ms = 1000};
	pthread_t thread;

	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	add_segment(&hosts[0], "orders", 0, 1000);
	done(&hosts[0], 1);
	(void)add_again(&hosts[0], "orders"); /* from now on its adds look before they write */
	world_sql(&world, "BEGIN");
	world_sql(&world,
	          "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
	          "s3_bucket, s3_key, created_at) VALUES('orders-0-0', 'orders', 0, 0, 9, 10, 100, 'bucket', "
	          "'orders-0-0', 5)");
	add_segment(&hosts[0], "orders", 0, 0);
	add_segment(&hosts[0], "orders", 0, 10);
	cr_assert_eq(pthread_create(&thread, NULL, call_in_thread, &c), 0);
	await_waiter();
	world_sql(&world, "COMMIT");
	(void)pthread_join(thread, NULL);
	cr_assert_eq(c.status, SHMETA_OK, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].result[0].status, SHMETA_ERR_ALREADY_EXISTS, "%s", hosts[0].result[0].text);
	cr_expect_eq(hosts[0].result[0].existing.end_offset, 9);
	cr_expect_eq(hosts[0].result[1].status, SHMETA_OK);
	end(1);
}

/* ---- quarantined rows ---- */

/* More records than the INTEGER of a StreamHouse database holds: an error of the whole
 * statement. */
Test(postgres_writes, a_value_that_the_server_will_not_take_fails_alone)
{
	begin(WORLD_PG_V01, 1);
	add_topic(&hosts[0], "orders", 2);
	done(&hosts[0], 1);
	for (uint32_t i = 0; i < 40; i++) {
		struct shmeta_op *op = add_segment(&hosts[0], "orders", i % 2, (uint64_t)i * 10);

		if (i == 7 || i == 30 || i == 31)
			op->u.segment.record_count = UINT32_MAX;
	}
	cr_assert_eq(host_apply(&hosts[0], 5), SHMETA_OK, "%s", hosts[0].err.text);
	for (uint32_t i = 0; i < 40; i++)
		cr_expect_eq(hosts[0].result[i].status,
		             i == 7 || i == 30 || i == 31 ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK, "%u: %s", i,
		             hosts[0].result[i].text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 37);
	cr_expect_eq(world_sql_number(&world, "SELECT sum(high_watermark) FROM partitions"), 390 + 400);
	end(1);
}

/* A server whose disk is full rolls back and reads on: the source is not away. */
Test(postgres_writes, a_server_without_room_refuses_the_batch_and_is_well_otherwise)
{
	uint64_t reconnects;

	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	reconnects = counters(&hosts[0]).reconnects;
	world_sql(&world, "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION "
	                  "''could not extend file'' USING ERRCODE = ''53100''; END'");
	world_sql(&world, "CREATE TRIGGER no_room BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION no_room()");
	add_segment(&hosts[0], "orders", 0, 0);
	cr_assert_eq(host_apply(&hosts[0], 1), SHMETA_ERR_FULL, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].err.code, SHMETA_ERR_FULL);
	cr_expect_not_null(strstr(hosts[0].err.text, "could not extend file (53100)"), "%s", hosts[0].err.text);
	add_segment(&hosts[0], "orders", 0, 0);
	if (host_start(&hosts[0], 1) == SHMETA_OK)
		cr_expect_eq(host_finish(&hosts[0]), SHMETA_ERR_FULL, "%s", hosts[0].err.text);
	world_sql(&world, "DROP TRIGGER no_room ON segments");
	add_segment(&hosts[0], "orders", 0, 0);
	done(&hosts[0], 1);
	cr_expect_eq(counters(&hosts[0]).reconnects, reconnects);
	end(1);
}

/* ---- commits of which nobody hears ---- */

static struct link l;

/* A host behind a link to the world's server; the next COMMIT on it is what the trap takes. */
static void behind_link(struct host *h, uint32_t timeout_ms)
{
	char uri[200];

	cr_assert_eq(link_start(&l, LINK_UNIX, PQhost(world.pg), atoi(PQport(world.pg))), 0);
	(void)snprintf(uri, sizeof uri, "%s:host=%s port=%d dbname=%s user=%s", world.ops->name, l.host, l.port,
	               PQdb(world.pg), PQuser(world.pg));
	cr_assert_eq(host_open(h, &world, uri, timeout_ms), SHMETA_OK, "%s", h->err.text);
	add_topic(h, "orders", 1);
	done(h, 1);
}

/* As the engine's statement of that name is bound. */
static void trap_commit(enum link_loss loss)
{
	cr_assert_eq(link_trap(&l, loss, "shmeta_COMMIT", strlen("shmeta_COMMIT"), 1), 0);
}

static void lose_commit_of(bool halves, enum world_engine engine, enum link_loss loss, uint32_t timeout_ms,
                           enum shmeta_status expected, int64_t rows)
{
	enum shmeta_status status;
	struct link_counts counts;

	begin(engine, 0);
	behind_link(&hosts[0], timeout_ms);
	trap_commit(loss);
	add_segment(&hosts[0], "orders", 0, 0);
	if (halves)
		cr_assert_eq(host_start(&hosts[0], 5), SHMETA_OK, "%s", hosts[0].err.text);
	status = halves ? host_finish(&hosts[0]) : host_apply(&hosts[0], 5);
	link_counts(&l, &counts);
	cr_expect_eq(counts.caught, 1);
	cr_expect_eq(status, expected, "%d: %s", (int)status, hosts[0].err.text);
	if (status == SHMETA_OK)
		cr_expect_eq(hosts[0].result[0].status, SHMETA_OK);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), rows);
	/* And the engine goes on. */
	add_segment(&hosts[0], "orders", 0, 10);
	for (int i = 0; i < 200 && (status = host_apply(&hosts[0], 6)) == SHMETA_ERR_SOURCE; i++) {
		(void)usleep(50000);
		add_segment(&hosts[0], "orders", 0, 10);
	}
	cr_expect_eq(status, SHMETA_OK, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].result[0].status, SHMETA_OK, "%s", hosts[0].result[0].text);
	link_end(&l);
	end(1);
}

static void lose_commit(enum world_engine engine, enum link_loss loss, uint32_t timeout_ms, enum shmeta_status expected,
                        int64_t rows)
{
	lose_commit_of(false, engine, loss, timeout_ms, expected, rows);
}

Test(postgres_writes, a_commit_whose_answer_was_lost_is_found_to_be_done)
{
	lose_commit(WORLD_PG_NEW, LINK_LOSE_ANSWER, 10000, SHMETA_OK, 1);
}

Test(postgres_writes, a_commit_that_was_lost_on_its_way_is_found_not_to_be_done)
{
	lose_commit(WORLD_PG_NEW, LINK_LOSE_REQUEST, 10000, SHMETA_ERR_SOURCE, 0);
}

Test(postgres_writes, a_commit_that_is_never_answered_is_looked_up_after_the_deadline)
{
	lose_commit(WORLD_PG_NEW, LINK_STALL_ANSWER, 1000, SHMETA_OK, 1);
}

Test(postgres_writes, where_the_server_cannot_tell_the_outcome_is_unknown)
{
	lose_commit(WORLD_COCKROACH, LINK_LOSE_ANSWER, 2000, SHMETA_ERR_OUTCOME_UNKNOWN, 1);
}

Test(postgres_writes, a_commit_of_what_was_started_is_found_to_be_done_when_its_answer_was_lost)
{
	lose_commit_of(true, WORLD_PG_NEW, LINK_LOSE_ANSWER, 10000, SHMETA_OK, 1);
}

Test(postgres_writes, a_commit_of_what_was_started_is_found_not_to_be_done_when_it_was_lost)
{
	lose_commit_of(true, WORLD_PG_NEW, LINK_LOSE_REQUEST, 10000, SHMETA_ERR_SOURCE, 0);
}

/* ---- in two halves ---- */

/* Sessions of ours that have begun to write and wait. */
#define STARTED                                                                                      \
	"FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'shmetad' " \
	"AND state = 'idle in transaction'"

/* Until the server has done all that was sent. */
static void await_started(void)
{
	for (int i = 0; i < 1000 && world_sql_number(&world, "SELECT count(*) " STARTED) == 0; i++)
		(void)usleep(5000);
	cr_assert_eq(world_sql_number(&world, "SELECT count(*) " STARTED), 1);
}

static void start_two(void)
{
	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	add_segment(&hosts[0], "orders", 0, 0);
	add_segment(&hosts[0], "orders", 0, 10);
	cr_assert_eq(host_start(&hosts[0], 2), SHMETA_OK, "%s", hosts[0].err.text);
	await_started();
}

static void expect_two(void)
{
	cr_assert_eq(host_finish(&hosts[0]), SHMETA_OK, "%s", hosts[0].err.text);
	for (int i = 0; i < 2; i++)
		cr_expect_eq(hosts[0].result[i].status, SHMETA_OK, "%s", hosts[0].result[i].text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 2);
	cr_expect_eq(world_sql_number(&world, "SELECT high_watermark FROM partitions"), 20);
	end(1);
}

Test(postgres_writes, what_was_started_is_read_by_nobody_before_it_is_finished)
{
	const struct backend_key key = {.cls = SHMETA_CLASS_SEGMENT,
	                                .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                                .topic = rows_str("orders"),
	                                .to = UINT64_MAX};
	struct recorder r;
	uint64_t lag_ns;
	int changed = -1;

	start_two();
	recorder_init(&r);
	cr_assert_eq(hosts[0].ops->source->fetch(hosts[0].state, &key, 1, &r.sink, &hosts[0].err), SHMETA_OK, "%s",
	             hosts[0].err.text);
	cr_expect(recorder_has(&r, "partition"), "%s", recorder_text(&r));
	cr_expect_not(recorder_has(&r, "orders-0-0"), "%s", recorder_text(&r));
	cr_expect_eq(hosts[0].ops->source->load(hosts[0].state, &r.sink, &hosts[0].err), SHMETA_OK, "%s",
	             hosts[0].err.text);
	cr_expect_eq(hosts[0].ops->feed->changes(hosts[0].state, &r.sink, &changed, &lag_ns, &hosts[0].err), SHMETA_OK);
	cr_expect_not(recorder_has(&r, "orders-0-0"), "%s", recorder_text(&r));
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 0);
	recorder_free(&r);
	expect_two();
}

Test(postgres_writes, what_was_started_in_a_session_that_ended_was_not_done_and_says_so)
{
	start_two();
	cr_expect_eq(world_sql_number(&world, "SELECT count(pg_terminate_backend(pid)) " STARTED), 1);
	cr_expect_eq(host_finish(&hosts[0]), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(hosts[0].err.text, "nothing was done"), "%s", hosts[0].err.text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 0);
	add_segment(&hosts[0], "orders", 0, 0);
	add_segment(&hosts[0], "orders", 0, 10);
	cr_assert_eq(host_start(&hosts[0], 3), SHMETA_OK, "%s", hosts[0].err.text);
	expect_two();
}

Test(postgres_writes, what_was_started_is_done_though_the_session_that_reads_ended)
{
	start_two();
	cr_expect_eq(world_sql_number(&world,
	                              "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = "
	                              "current_database() AND application_name = 'shmetad' AND state = 'idle'"),
	             2, "this host's, and the world's own");
	expect_two();
}

Test(postgres_writes, what_was_started_and_never_finished_was_never_done)
{
	start_two();
	host_close(&hosts[0]);
	hosts[0].state = NULL;
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 0);
	end(1);
}

Test(postgres_writes, a_conflict_with_what_was_started_is_told_at_its_end)
{
	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	add_segment(&hosts[0], "orders", 0, 10);
	done(&hosts[0], 1);
	for (uint64_t base = 0; base < 30; base += 10)
		add_segment(&hosts[0], "orders", 0, base);
	cr_assert_eq(host_start(&hosts[0], 2), SHMETA_OK, "%s", hosts[0].err.text);
	cr_assert_eq(host_finish(&hosts[0]), SHMETA_OK, "%s", hosts[0].err.text);
	cr_expect_eq(hosts[0].result[0].status, SHMETA_OK);
	cr_expect_eq(hosts[0].result[1].status, SHMETA_ERR_ALREADY_EXISTS);
	cr_expect_eq(hosts[0].result[2].status, SHMETA_OK);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), 3);
	end(1);
}

Test(postgres_writes, where_no_second_session_is_to_be_had_a_batch_is_done_at_one_go)
{
	char uri[300];

	begin(WORLD_PG_NEW, 1);
	add_topic(&hosts[0], "orders", 1);
	done(&hosts[0], 1);
	world_sql(&world, "CREATE ROLE one LOGIN CONNECTION LIMIT 1; GRANT ALL ON ALL TABLES IN SCHEMA public TO one; "
	                  "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO one");
	(void)snprintf(uri, sizeof uri, "%s:host=%s port=%s dbname=%s user=one", world.ops->name, PQhost(world.pg),
	               PQport(world.pg), PQdb(world.pg));
	cr_assert_eq(host_open(&hosts[1], &world, uri, PATIENCE_MS), SHMETA_OK, "%s", hosts[1].err.text);
	add_segment(&hosts[1], "orders", 0, 0);
	cr_expect_eq(host_start(&hosts[1], 2), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(hosts[1].err.text, "too many connections"), "%s", hosts[1].err.text);
	add_segment(&hosts[1], "orders", 0, 10);
	done(&hosts[1], 2);
	cr_expect_eq(world_sql_number(&world, "SELECT base_offset FROM segments"), 10);
	end(2);
}

/* ---- the feed ---- */

Test(postgres_writes, other_hosts_hear_of_a_write_and_the_writer_itself_does_not)
{
	struct recorder mine, theirs;
	uint64_t lag_ns;
	int changed = -1;

	begin(WORLD_PG_NEW, 2);
	recorder_init(&mine);
	recorder_init(&theirs);
	cr_assert_eq(hosts[0].ops->source->load(hosts[0].state, &mine.sink, &hosts[0].err), SHMETA_OK, "%s",
	             hosts[0].err.text);
	cr_assert_eq(hosts[1].ops->source->load(hosts[1].state, &theirs.sink, &hosts[1].err), SHMETA_OK, "%s",
	             hosts[1].err.text);
	add_topic(&hosts[0], "orders", 1);
	add_segment(&hosts[0], "orders", 0, 0);
	done(&hosts[0], 1);
	recorder_clear(&mine);
	recorder_clear(&theirs);
	cr_assert_eq(hosts[0].ops->feed->changes(hosts[0].state, &mine.sink, &changed, &lag_ns, &hosts[0].err),
	             SHMETA_OK);
	cr_expect_eq(mine.changed, 0, "%s", recorder_text(&mine));
	cr_assert_eq(hosts[1].ops->feed->changes(hosts[1].state, &theirs.sink, &changed, &lag_ns, &hosts[1].err),
	             SHMETA_OK);
	cr_expect(recorder_has(&theirs, "orders"), "%s", recorder_text(&theirs));
	recorder_free(&mine);
	recorder_free(&theirs);
	end(2);
}
