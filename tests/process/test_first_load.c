/* SPDX-License-Identifier: Apache-2.0
 * A row for which every statement fails that touches it: it costs its key and nothing else, also
 * where there is no store yet. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/fixture_reader.h"
#include "tests/support/source_world.h"
#include "writer/engine/engine.h"

TestSuite(first_load, .timeout = 120);

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

enum { TTL_MS = 3600000 };

static struct fixture f;
static struct world w;
static struct shmeta *instance;
static struct shmeta_reader *reader;

/* A source with rows, and nobody at work. */
static void make(enum world_engine engine)
{
	static const char *const names[] = {"alpha", "bad", "gamma"};

	if (!world_possible(engine))
		cr_skip_test("there is no PostgreSQL server on this machine");
	world_make(&w, engine);
	world_open(&w);
	world_agent(&w, "bad", 1, NULL);
	world_agent(&w, "good", 1, NULL);
	world_group(&w, NULL, "bad");
	world_group(&w, NULL, "good");
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		world_topic(&w, NULL, names[i], 3, -1, NULL);
		for (uint32_t p = 0; p < 3; p++) {
			world_watermark(&w, NULL, names[i], p, 30);
			for (uint64_t base = 0; base < 30; base += 10)
				world_segment(&w, NULL, names[i], p, base, base + 9);
		}
		world_offset(&w, NULL, "good", names[i], 0, 5, NULL);
		world_offset(&w, NULL, "bad", names[i], 0, 5, NULL);
		world_lease(&w, NULL, names[i], 0, strcmp(names[i], "bad") == 0 ? "bad" : "good", 1);
	}
	world_close(&w);
	fixture_init(&f);
	fixture_prepare_reader(&f);
	f.options.source.uri = w.uri;
	f.options.engine = NULL;
	f.options.source.timeout_ms = 20000;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		f.options.ttl_ms[cls] = TTL_MS;
}

static void end(void)
{
	fixture_end_reading(&f, instance, reader);
	world_free(&w);
}

static bool is_sqlite(void)
{
	return w.engine <= WORLD_SQLITE_LATER;
}

/* A column whose value cannot be computed in one row. */
struct culprit {
	const char *table, *columns, *column, *where; /* columns: the others */
	unsigned lost, listed;
};

enum {
	ALPHA = 1,  /* topic alpha with everything in it, and gamma */
	TOPIC = 2,  /* the row of topic bad       */
	REST = 4,   /* partitions 0 and 2 of it   */
	PART = 8,   /* partition 1 of it          */
	AGENT = 16, /* all of the class           */
	OFFSET = 32,
	LEASE = 64,
	NAMES = 128, /* what other topics there are */
	ALL = 255
};

static const struct culprit culprits[] = {
	{"topics", "name, partition_count, retention_ms, created_at, config", "updated_at", "name = 'bad'",
         TOPIC | REST | PART, 4} /* and what is committed and leased there */,
	{"partitions", "topic, partition_id, created_at, updated_at", "high_watermark",
         "topic = 'bad' AND partition_id = 1", PART, 1},
	{"segments",
         "id, topic, partition_id, base_offset, end_offset, record_count, s3_bucket, s3_key, created_at, min_timestamp, "
         "max_timestamp",
         "size_bytes", "topic = 'bad' AND partition_id = 1 AND base_offset = 10", PART, 1},
	{"agents", "agent_id, address, availability_zone, agent_group, started_at, metadata", "last_heartbeat",
         "agent_id = 'bad'", AGENT, 1},
	{"consumer_offsets", "group_id, topic, partition_id, metadata, committed_at", "committed_offset",
         "group_id = 'bad' AND topic = 'bad'", OFFSET, 1},
	{"partition_leases", "topic, partition_id, leader_agent_id, acquired_at, epoch", "lease_expires_at",
         "topic = 'bad'", LEASE, 1},
};

static void spoil(const struct culprit *c)
{
	char expression[100];

	if (is_sqlite())
		snprintf(expression, sizeof expression, "json('{' || %s)", c->column);
	else
		snprintf(expression, sizeof expression, "%s / (%s - %s)", c->column, c->column, c->column);
	world_sql(&w, "ALTER TABLE %s RENAME TO kept", c->table);
	world_sql(&w, "CREATE VIEW %s AS SELECT %s, CASE WHEN %s THEN %s ELSE %s END AS %s FROM kept", c->table,
	          c->columns, c->where, expression, c->column, c->column);
}

static void mend(const struct culprit *c)
{
	if (is_sqlite()) {
		world_sql(&w, "DROP VIEW %s", c->table);
		world_sql(&w, "CREATE VIEW %s AS SELECT %s, %s FROM kept", c->table, c->columns, c->column);
	} else {
		world_sql(&w, "CREATE OR REPLACE VIEW %s AS SELECT %s, %s FROM kept", c->table, c->columns, c->column);
	}
}

static void expect(const char *what, enum shmeta_status status, const struct shmeta_freshness *fresh, bool found)
{
	cr_expect_eq(status, found ? SHMETA_OK : SHMETA_UNKNOWN, "%s: %d", what, status);
	if (found)
		cr_expect(fresh->fresh && fresh->age_ns <= f.now_ns - 1 && fresh->age_ns < 3600000000000ull,
		          "%s: %llu ms", what, (unsigned long long)(fresh->age_ns / 1000000));
}

static void expect_partition(const char *topic, uint32_t id, bool found)
{
	struct shmeta_freshness fresh;
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	size_t n = strlen(topic);

	expect(topic, shmeta_get_partition_named(reader, topic, n, id, NULL, &partition, &fresh), &fresh, found);
	for (uint64_t offset = 5; offset < 30; offset += 10)
		expect(topic, shmeta_find_segment_named(reader, topic, n, id, offset, NULL, &segment, &fresh), &fresh,
		       found);
}

/* A topic that there is none of. */
static void expect_absent(struct shmeta_freshness *fresh, bool known)
{
	struct shmeta_topic topic;

	cr_expect_eq(shmeta_get_topic(reader, "other", 5, NULL, &topic, fresh), known ? SHMETA_ABSENT : SHMETA_UNKNOWN);
}

/* What is served; the rest is UNKNOWN. */
static void expect_served(unsigned set)
{
	struct shmeta_freshness fresh;
	struct shmeta_topic topic;
	struct shmeta_agent agent;
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;

	fixture_begin_reading(&f, reader);
	expect("alpha", shmeta_get_topic(reader, "alpha", 5, NULL, &topic, &fresh), &fresh, true);
	expect("gamma", shmeta_get_topic(reader, "gamma", 5, NULL, &topic, &fresh), &fresh, true);
	for (uint32_t id = 0; id < 3; id++) {
		expect_partition("alpha", id, true);
		expect_partition("gamma", id, true);
		expect_partition("bad", id, (set & (id == 1 ? PART : REST)) != 0);
	}
	expect("bad", shmeta_get_topic(reader, "bad", 3, NULL, &topic, &fresh), &fresh, (set & TOPIC) != 0);
	expect_absent(&fresh, (set & NAMES) != 0);
	expect("agent good", shmeta_get_agent(reader, "good", 4, NULL, &agent, &fresh), &fresh, (set & AGENT) != 0);
	expect("agent bad", shmeta_get_agent(reader, "bad", 3, NULL, &agent, &fresh), &fresh, (set & AGENT) != 0);
	expect("offset", shmeta_get_committed_offset(reader, "good", 4, "alpha", 5, 0, NULL, &offset, &fresh), &fresh,
	       (set & OFFSET) != 0);
	expect("lease", shmeta_get_lease(reader, "gamma", 5, 0, 1, NULL, &lease, &fresh), &fresh, (set & LEASE) != 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void expect_listed(const struct culprit *c)
{
	cr_expect_eq(fixture_counters(&f).quarantined, c->listed, "%d", (int)fixture_counters(&f).quarantined);
	cr_expect(fixture_logged(&f, "quarantined"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, is_sqlite() ? "malformed JSON" : "division by zero"), "%s", f.log);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
}

static void costs_its_key(enum world_engine engine, const struct culprit *c)
{
	make(engine);
	spoil(c);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_not_null(sync_store(f.sync), "%s: no store: %s", c->table, f.sentence);
	fixture_open_reader(&f, &instance, &reader);
	expect_served(ALL & ~c->lost);
	expect_listed(c);

	/* A writer that starts on this store. */
	fixture_close(&f);
	f.log_bytes = 0;
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	expect_served(ALL & ~c->lost);
	cr_expect_eq(fixture_counters(&f).quarantined, c->listed);
	cr_expect_eq(fixture_counters(&f).loads, 0);

	mend(c);
	fixture_pass(&f, 120000);
	expect_served(ALL);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	cr_expect(fixture_logged(&f, "quarantine_left"), "%s", f.log);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	end();
}

#define EACH(number, name)                                               \
	Test(first_load, one_##name##_costs_its_key_alone_on_sqlite)     \
	{                                                                \
		costs_its_key(WORLD_SQLITE_NEW, &culprits[number]);      \
	}                                                                \
	Test(first_load, one_##name##_costs_its_key_alone_on_postgresql) \
	{                                                                \
		costs_its_key(WORLD_PG_NEW, &culprits[number]);          \
	}

EACH(0, topic)
EACH(1, partition)
EACH(2, segment)
EACH(3, agent)
EACH(4, offset)
EACH(5, lease)

Test(first_load, a_topic_that_cannot_be_read_any_more_keeps_its_record)
{
	uint32_t id;

	make(WORLD_SQLITE_NEW);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	fixture_open_reader(&f, &instance, &reader);
	expect_served(ALL);
	id = fixture_topic_id(&f, "bad");
	cr_assert_neq(id, 0);
	spoil(&culprits[0]);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 5000);
	cr_expect(fixture_logged(&f, "quarantined"), "%s", f.log);
	cr_expect_eq(fixture_topic_id(&f, "bad"), id, "the source has it");
	mend(&culprits[0]);
	fixture_pass(&f, 120000);
	expect_served(ALL);
	end();
}

/* ---- names ---- */

/* PostgreSQL computes a VOLATILE function for each row that it passes, whatever is asked for. */
Test(first_load, a_name_that_cannot_be_listed_leaves_no_topic_absent_and_the_others_served)
{
	static const struct culprit names = {.listed = 6};

	make(WORLD_PG_NEW);
	world_sql(
		&w,
		"CREATE FUNCTION judge(t text, v bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN IF t = ''bad'' THEN RAISE "
		"EXCEPTION ''division by zero, so to speak''; END IF; RETURN v; END'");
	world_sql(&w, "ALTER TABLE topics RENAME TO kept");
	world_sql(
		&w,
		"CREATE VIEW topics AS SELECT name, partition_count, retention_ms, created_at, judge(name, updated_at) AS "
		"updated_at, config FROM kept");
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_not_null(sync_store(f.sync), "%s", f.sentence);
	fixture_open_reader(&f, &instance, &reader);
	expect_served(ALL & ~(unsigned)(TOPIC | REST | PART | NAMES));
	expect_listed(&names);
	world_sql(
		&w,
		"CREATE OR REPLACE VIEW topics AS SELECT name, partition_count, retention_ms, created_at, updated_at, config FROM kept");
	fixture_pass(&f, 4000000);
	expect_served(ALL);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	end();
}

static enum shmeta_status on_name(void *arg, const struct backend_key *key)
{
	struct recorder *r = arg;

	cr_assert_eq(key->cls, SHMETA_CLASS_TOPIC);
	return r->sink.changed(r, key);
}

/* What load() lists, with nothing but the names. */
static void list_names(void)
{
	const struct backend_sink sink = {.arg = &w.recorder, .key = on_name, .quarantine = w.recorder.sink.quarantine};

	recorder_clear(&w.recorder);
	cr_assert_eq(w.ops->source->load(w.state, &sink, &w.err), SHMETA_OK, "%s", w.err.text);
}

static void lists_names(enum world_engine engine)
{
	struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                          .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                          .topic = {"b", 1},
	                          .row_only = 1};

	if (!world_possible(engine))
		return;
	world_make(&w, engine);
	world_open(&w);
	list_names();
	cr_expect_eq(w.recorder.changed, 0, "%s", world_names[engine]);
	world_topic(&w, NULL, "a", 1, -1, NULL);
	world_topic(&w, NULL, "b", 2, -1, NULL);
	world_segment(&w, NULL, "b", 1, 0, 9);
	if (w.tenants)
		world_topic(&w, WORLD_OTHER_TENANT, "b", 1, -1, NULL);
	list_names();
	cr_expect_eq(w.recorder.changed, w.tenants ? 3 : 2, "%s", recorder_text(&w.recorder));
	cr_expect_eq(w.recorder.topics + w.recorder.partitions + w.recorder.segments, 0);
	cr_expect(recorder_has(&w.recorder, "changed topic " SHMETA_DEFAULT_TENANT " a"), "%s",
	          recorder_text(&w.recorder));

	/* It has taken the feed's position. */
	cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(w.recorder.changed, 0, "%s: %s", world_names[engine], recorder_text(&w.recorder));
	world_watermark(&w, NULL, "a", 0, 7);
	cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
	if (world_has_feed(&w))
		cr_expect_gt(w.recorder.changed, 0, "%s", world_names[engine]);

	/* A row alone, also beside keys that are not. */
	struct backend_key keys[] = {key, key, key};

	keys[1].row_only = 0;
	cr_assert_eq(world_fetch(&w, keys, 1), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(w.recorder.topics, 1);
	cr_expect_eq(w.recorder.partitions, 0, "%s: %s", world_names[engine], recorder_text(&w.recorder));
	cr_assert_eq(world_fetch(&w, keys, 3), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(w.recorder.topics, 3);
	cr_expect_eq(w.recorder.partitions, 2, "%s: %s", world_names[engine], recorder_text(&w.recorder));
	cr_expect_eq(w.recorder.segments, 0);
	world_free(&w);
}

Test(first_load, names_are_listed_without_rows_and_rows_without_partitions)
{
	for (int engine = 0; engine < WORLD_ENGINES; engine++)
		lists_names((enum world_engine)engine);
}

/* ---- beside other rows that cannot be served ---- */

/* What was read in vain before the culprit was alone is not counted for that. */
static void counts_once(enum world_engine engine)
{
	const struct culprit *c = &culprits[1];

	make(engine);
	world_sql(&w, "UPDATE partitions SET high_watermark = -1 WHERE topic = 'alpha' AND partition_id = 2");
	spoil(c);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_not_null(sync_store(f.sync), "%s", f.sentence);
	cr_expect_eq(fixture_counters(&f).quarantined, 1 + 4, "%d", (int)fixture_counters(&f).quarantined);
	fixture_close(&f);
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_expect_eq(fixture_counters(&f).quarantined, 1 + 4, "%d", (int)fixture_counters(&f).quarantined);
	world_sql(&w, "UPDATE kept SET high_watermark = 30 WHERE topic = 'alpha'");
	mend(c);
	fixture_pass(&f, 4000000);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	fixture_open_reader(&f, &instance, &reader);
	expect_served(ALL);
	end();
}

Test(first_load, a_row_that_is_quarantined_beside_it_is_counted_once_on_sqlite)
{
	counts_once(WORLD_SQLITE_NEW);
}

Test(first_load, a_row_that_is_quarantined_beside_it_is_counted_once_on_postgresql)
{
	counts_once(WORLD_PG_NEW);
}

/* ---- damage ---- */

/* Swap a page of the file with what is in `page`. */
static void swap_page(int64_t number, unsigned char page[4096])
{
	unsigned char there[4096];
	FILE *file = fopen(w.path, "r+be");

	cr_assert_not_null(file);
	cr_assert_eq(fseek(file, (long)((number - 1) * 4096), SEEK_SET), 0);
	cr_assert_eq(fread(there, sizeof there, 1, file), 1);
	cr_assert_eq(fseek(file, (long)((number - 1) * 4096), SEEK_SET), 0);
	cr_assert_eq(fwrite(page, sizeof there, 1, file), 1);
	cr_assert_eq(fclose(file), 0);
	memcpy(page, there, sizeof there);
}

Test(first_load, a_damaged_page_costs_its_class_alone_on_sqlite)
{
	unsigned char page[4096];
	int64_t number;

	make(WORLD_SQLITE_NEW);
	world_sql(&w, "PRAGMA wal_checkpoint(TRUNCATE)");
	cr_assert_eq(world_sql_number(&w, "PRAGMA page_size"), 4096);
	number = world_sql_number(&w, "SELECT rootpage FROM sqlite_master WHERE name = 'agents'");
	memset(page, 0xee, sizeof page);
	swap_page(number, page);
	fixture_open(&f);
	fixture_pass(&f, 20000);
	cr_assert_not_null(sync_store(f.sync), "%s", f.sentence);
	fixture_open_reader(&f, &instance, &reader);
	expect_served(ALL & ~(unsigned)AGENT);
	cr_expect_eq(fixture_counters(&f).quarantined, 1);
	cr_expect_not_null(strstr(f.log, "malformed"), "%s", f.log);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	swap_page(number, page);
	/* what connections have read of the file is no longer good */
	world_watermark(&w, NULL, "gamma", 0, 30);
	fixture_pass(&f, 120000);
	expect_served(ALL);
	cr_expect_eq(fixture_counters(&f).quarantined, 0);
	end();
}
