/* SPDX-License-Identifier: Apache-2.0
 * SQLite files whose own schema refuses or changes what shmeta writes: CHECKs, RAISE of each kind,
 * triggers that write elsewhere, deferred constraints, generated and further columns, collations
 * that take two names for one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/hostile.h"

TestSuite(hostile_sqlite, .timeout = 120);

#define S(text) ((struct shmeta_str){(text), sizeof(text) - 1})
#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w.err.text)

static void make(struct world *w, enum world_engine engine)
{
	world_make(w, engine);
	world_open(w);
	hostile_rows(w);
}

/* The operation is refused with a sentence, nothing of it is there, and what stands beside it in
 * the batch is done. */
static void is_refused(struct world *w, const struct hostile_op *op, const char *by)
{
	char *before = hostile_dump(w), *after;
	struct shmeta_result result;
	static uint64_t mark = 1000;

	hostile_apply(w, op, ++mark, &result);
	after = hostile_dump(w);
	cr_expect(result.status < 0, "%s, %s: answered %d", op->name, by, (int)result.status);
	cr_expect_neq(result.text[0], '\0', "%s, %s: no sentence", op->name, by);
	cr_expect_str_eq(after, before, "%s, %s: it left something behind", op->name, by);
	free(before);
	free(after);
}

static void raises(const char *what, enum world_engine engine)
{
	for (size_t i = 0; i < hostile_op_count; i++) {
		const struct hostile_op *op = &hostile_ops[i];
		struct world w;

		for (int after = 0; after < 2; after++) {
			char by[80];

			if (after && strcmp(what, "IGNORE") == 0)
				continue; /* the row is written by then */
			make(&w, engine);
			world_sql(&w, "CREATE TRIGGER app %s %s ON %s WHEN %s BEGIN SELECT RAISE(%s%s); END",
			          after ? "AFTER" : "BEFORE", op->event, op->table, op->when, what,
			          strcmp(what, "IGNORE") == 0 ? "" : ", 'the law says no'");
			(void)snprintf(by, sizeof by, "RAISE(%s) %s, %s", what, after ? "after" : "before",
			               world_names[engine]);
			/* Some of the rows go, and are counted: what the trigger keeps is nobody's
			 * refusal. */
			if (strcmp(what, "IGNORE") == 0 && op->op.type == SHMETA_OP_DELETE_SEGMENTS_BEFORE) {
				struct shmeta_result result;

				hostile_apply(&w, op, 77, &result);
				cr_expect_eq(result.status, SHMETA_OK);
				cr_expect_eq(result.count, 1, "one of two");
			} else {
				is_refused(&w, op, by);
			}
			world_free(&w);
		}
	}
}

Test(hostile_sqlite, what_a_trigger_aborts_is_refused_alone)
{
	raises("ABORT", WORLD_SQLITE_NEW);
	raises("ABORT", WORLD_SQLITE_LATER);
}

Test(hostile_sqlite, what_a_trigger_fails_is_refused_and_taken_back)
{
	raises("FAIL", WORLD_SQLITE_NEW);
	raises("FAIL", WORLD_SQLITE_V01);
}

Test(hostile_sqlite, what_a_trigger_rolls_back_takes_nothing_else_with_it)
{
	raises("ROLLBACK", WORLD_SQLITE_NEW);
	raises("ROLLBACK", WORLD_SQLITE_LATER);
}

Test(hostile_sqlite, what_a_trigger_ignores_is_not_answered_as_done)
{
	raises("IGNORE", WORLD_SQLITE_NEW);
	raises("IGNORE", WORLD_SQLITE_LATER);
}

/* A CHECK is no trigger: the engine does not know that there is one. */
Test(hostile_sqlite, what_a_check_refuses_is_refused_alone)
{
	static const struct {
		const char *op, *table, *add;
	} cases[] = {
		{"create_topic", "topics", "ADD COLUMN c INTEGER CHECK(name <> 'n')"},
		{"create_topic, its partitions", "partitions",
	         "ADD COLUMN c INTEGER CHECK(topic <> 'n' OR partition_id <> 1)"},
		{"update_high_watermark", "partitions",
	         "ADD COLUMN c INTEGER CHECK(topic <> 't' OR high_watermark < 9)"},
		{"add_segment", "segments", "ADD COLUMN c INTEGER CHECK(base_offset <> 100)"},
		{"append", "segments", "ADD COLUMN c INTEGER CHECK(base_offset <> 100)"},
		{"append, its watermark", "partitions",
	         "ADD COLUMN c INTEGER CHECK(topic <> 't' OR high_watermark < 9)"},
		{"add_slice", "partitions", "ADD COLUMN c INTEGER CHECK(topic <> 't' OR high_watermark < 9)"},
		{"ensure_group", "consumer_groups", "ADD COLUMN c INTEGER CHECK(group_id <> 'h')"},
		{"commit_offset of a new group", "consumer_groups", "ADD COLUMN c INTEGER CHECK(group_id <> 'h')"},
		{"commit_offset, the first", "consumer_offsets", "ADD COLUMN c INTEGER CHECK(group_id <> 'h')"},
		{"commit_offset, a later one", "consumer_offsets", "ADD COLUMN c INTEGER CHECK(committed_offset <> 3)"},
		{"register_agent, a new one", "agents", "ADD COLUMN c INTEGER CHECK(agent_id <> 'c')"},
		{"register_agent, a known one", "agents", "ADD COLUMN c INTEGER CHECK(last_heartbeat <> 9)"},
		{"acquire_lease, the first", "partition_leases", "ADD COLUMN c INTEGER CHECK(leader_agent_id <> 'b')"},
		{"acquire_lease, again", "partition_leases", "ADD COLUMN c INTEGER CHECK(epoch < 2)"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t j = 0; j < hostile_op_count; j++)
			if (strcmp(hostile_ops[j].name, cases[i].op) == 0) {
				make(&w, WORLD_SQLITE_NEW);
				world_sql(&w, "ALTER TABLE %s %s", cases[i].table, cases[i].add);
				is_refused(&w, &hostile_ops[j], cases[i].add);
				world_free(&w);
			}
}

/* Constraints that are looked at by COMMIT, when the operation is long done. */
Test(hostile_sqlite, what_a_commit_refuses_is_refused_alone)
{
	static const struct {
		const char *op, *trigger;
	} cases[] = {
		{"create_topic", "AFTER INSERT ON topics WHEN NEW.name = 'n'"},
		{"append", "AFTER INSERT ON segments WHEN NEW.base_offset = 100"},
		{"ensure_group", "AFTER INSERT ON consumer_groups WHEN NEW.group_id = 'h'"},
		{"acquire_lease, the first", "AFTER INSERT ON partition_leases WHEN NEW.partition_id = 1"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t j = 0; j < hostile_op_count; j++)
			if (strcmp(hostile_ops[j].name, cases[i].op) == 0) {
				make(&w, WORLD_SQLITE_NEW);
				world_sql(
					&w,
					"CREATE TABLE law(n INTEGER PRIMARY KEY); CREATE TABLE due(n INTEGER REFERENCES law(n) "
					"DEFERRABLE INITIALLY DEFERRED); CREATE TRIGGER app %s BEGIN INSERT INTO due VALUES(1); END",
					cases[i].trigger);
				is_refused(&w, &hostile_ops[j], "a deferred key");
				world_free(&w);
			}
}

/* A trigger that cannot be compiled, or whose expression fails, stands in the way of its own
 * operations only. */
Test(hostile_sqlite, a_broken_trigger_refuses_its_own_operations_only)
{
	struct world w;

	for (size_t i = 0; i < hostile_op_count; i++) {
		const struct hostile_op *op = &hostile_ops[i];

		if (strcmp(op->table, "partitions") == 0)
			continue; /* the neighbours write there, too */
		make(&w, WORLD_SQLITE_NEW);
		world_sql(&w,
		          "CREATE TABLE audit(a); CREATE TRIGGER app AFTER %s ON %s WHEN %s BEGIN INSERT INTO audit "
		          "VALUES(json('{')); END",
		          op->event, op->table, op->when);
		is_refused(&w, op, "an expression that fails");
		world_sql(&w, "DROP TABLE audit");
		is_refused(&w, op, "a table that is not there");
		world_free(&w);
	}
}

static struct shmeta_result one(struct world *w, struct shmeta_op op)
{
	const struct hostile_op alone = {.name = "it", .op = op};
	struct shmeta_result result;
	static uint64_t mark = 5000;

	hostile_apply(w, &alone, ++mark, &result);
	return result;
}

/* Key columns that take two names for one, and keys that do not: a name is what its bytes are. */
Test(hostile_sqlite, names_are_told_apart_by_their_bytes_whatever_the_collation)
{
	struct shmeta_result r;
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_close(&w);
	world_sql(
		&w,
		"PRAGMA foreign_keys=OFF; PRAGMA writable_schema=ON;"
		"UPDATE sqlite_master SET sql = replace(replace(replace(replace(sql, 'name TEXT', 'name TEXT COLLATE NOCASE'), "
		"'topic TEXT', 'topic TEXT COLLATE NOCASE'), 'group_id TEXT', 'group_id TEXT COLLATE NOCASE'), "
		"'agent_id TEXT', 'agent_id TEXT COLLATE NOCASE') WHERE type = 'table' AND substr(name, 1, 7) <> 'shmeta_';"
		"PRAGMA writable_schema=RESET; REINDEX; PRAGMA foreign_keys=ON");
	world_open(&w);
	hostile_rows(&w);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = S("T")});
	cr_expect_eq(r.status, SHMETA_ERR_TOPIC_NOT_FOUND, "%d %s", r.status, r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("T"), .offset = 3});
	cr_expect_eq(r.status, SHMETA_ERR_TOPIC_NOT_FOUND, "%d %s", r.status, r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = S("T"), .offset = 100});
	cr_expect_eq(r.count, 0);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_DELETE_GROUP, .group_id = S("G")});
	cr_expect_eq(r.status, SHMETA_OK, "nothing of that name: %s", r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = S("A")});
	cr_expect_eq(r.status, SHMETA_OK, "nothing of that name: %s", r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_RELEASE_LEASE, .name = S("T"), .agent_id = S("a")});
	cr_expect_eq(r.status, SHMETA_ERR_NOT_FOUND, "%d %s", r.status, r.text);
	/* What the source cannot keep apart it refuses, and a retry must not take it for done. */
	r = one(&w,
	        (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("T"), .partition_count = 1}});
	cr_expect_eq(r.status, SHMETA_ERR_CONFLICT, "%d %s", r.status, r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = S("G")});
	cr_expect_eq(r.status, SHMETA_ERR_CONFLICT, "%d %s", r.status, r.text);
	r = one(&w,
	        (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
	                           .u.agent = {.agent_id = S("A"), .address = S("elsewhere"), .last_heartbeat_ms = 1}});
	cr_expect(r.status < 0, "%d %s", r.status, r.text);
	cr_expect_eq(world_sql_number(
			     &w,
			     "SELECT (SELECT count(*) FROM topics) * 1000 + (SELECT count(*) FROM segments) * 100 + "
			     "(SELECT count(*) FROM consumer_offsets) * 10 + (SELECT count(*) FROM agents)"),
	             2212);
	world_free(&w);
}

/* What triggers do in our own transaction is found like anybody else's changes. */
Test(hostile_sqlite, what_triggers_write_elsewhere_is_told)
{
	struct shmeta_result r;
	struct world w;

	for (int managed = 1; managed >= 0; managed--) {
		world_make(&w, WORLD_SQLITE_V01);
		w.options.manage_schema = (uint32_t)managed;
		world_open(&w);
		hostile_rows(&w);
		world_topic(&w, NULL, "v", 1, -1, NULL);
		world_sql(
			&w,
			"CREATE TRIGGER app AFTER INSERT ON segments BEGIN UPDATE partitions SET high_watermark = 4711 "
			"WHERE topic = 'v'; UPDATE agents SET agent_group = 'seen' WHERE agent_id = 'b'; END");
		ok(world_changes(&w));
		ok(world_load(&w));
		r = one(&w, (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT,
		                               .name = S("t"),
		                               .u.segment = {.base_offset = 300,
		                                             .end_offset = 309,
		                                             .record_count = 1,
		                                             .id = S("x"),
		                                             .created_at_ms = 1}});
		cr_assert_eq(r.status, SHMETA_OK, "%s", r.text);
		ok(world_changes(&w));
		if (managed) {
			cr_expect(recorder_has(&w.recorder, "partition 00000000-0000-0000-0000-000000000000 v/0"), "%s",
			          recorder_text(&w.recorder));
			cr_expect(recorder_has(&w.recorder, "agent"), "%s", recorder_text(&w.recorder));
		} else {
			cr_expect(recorder_has(&w.recorder, "changed list"), "%s", recorder_text(&w.recorder));
		}
		world_free(&w);
	}
}

/* A row that a trigger changed after it was written is answered, and told, as it is. */
Test(hostile_sqlite, a_lease_is_answered_as_the_source_keeps_it)
{
	struct shmeta_result r;
	struct world w;

	make(&w, WORLD_SQLITE_NEW);
	world_sql(&w,
	          "CREATE TRIGGER app AFTER INSERT ON partition_leases BEGIN UPDATE partition_leases SET epoch = 70, "
	          "lease_expires_at = 9999 WHERE topic = NEW.topic AND partition_id = NEW.partition_id; END");
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
	                               .name = S("t"),
	                               .partition_id = 1,
	                               .agent_id = S("b"),
	                               .duration_ms = 100});
	cr_assert_eq(r.status, SHMETA_OK, "%s", r.text);
	cr_expect_eq(r.lease.epoch, 70);
	cr_expect_eq(r.lease.lease_expires_at_ms, 9999);
	world_sql(&w, "DROP TRIGGER app");
	r = one(&w, (struct shmeta_op){
			    .type = SHMETA_OP_RELEASE_LEASE, .name = S("t"), .partition_id = 1, .agent_id = S("b")});
	cr_expect_eq(r.status, SHMETA_OK, "%s", r.text);
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
	                               .name = S("t"),
	                               .partition_id = 1,
	                               .agent_id = S("b"),
	                               .duration_ms = 100});
	cr_expect_eq(r.lease.epoch, 71);
	world_free(&w);
}

/* Clauses of the schema's own constraints do not get their way with what we write. */
Test(hostile_sqlite, conflict_clauses_of_the_schema_neither_replace_nor_roll_back)
{
	static const char *const clauses[] = {"REPLACE", "IGNORE", "ROLLBACK", "FAIL"};
	struct shmeta_result r;
	struct world w;

	for (size_t i = 0; i < sizeof clauses / sizeof *clauses; i++) {
		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_close(&w);
		world_sql(
			&w,
			"PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = replace(sql, 'PRIMARY KEY NOT NULL', "
			"'PRIMARY KEY ON CONFLICT %s NOT NULL') WHERE name = 'topics'; PRAGMA writable_schema=RESET",
			clauses[i]);
		world_open(&w);
		hostile_rows(&w);
		char *before = hostile_dump(&w);
		r = one(&w, (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
		                               .u.topic = {.name = S("t"), .partition_count = 5}});
		cr_expect_eq(r.status, SHMETA_ERR_ALREADY_EXISTS, "%s: %d %s", clauses[i], r.status, r.text);
		char *after = hostile_dump(&w);
		cr_expect_str_eq(after, before, "%s", clauses[i]);
		free(before);
		free(after);
		world_free(&w);
	}
}

/* Many operations, some of them refused in ways that take the transaction with them: every result
 * says what became of it. */
Test(hostile_sqlite, of_many_operations_each_is_answered_for_itself)
{
	enum { OPS = 60 };
	struct shmeta_op ops[OPS];
	struct backend_op op[OPS];
	struct shmeta_result results[OPS];
	char id[OPS][16];
	struct world w;

	make(&w, WORLD_SQLITE_NEW);
	world_sql(
		&w,
		"CREATE TABLE law(n INTEGER PRIMARY KEY); CREATE TABLE due(n INTEGER REFERENCES law(n) DEFERRABLE INITIALLY "
		"DEFERRED); CREATE TRIGGER late AFTER INSERT ON segments WHEN NEW.base_offset %% 130 = 70 BEGIN INSERT INTO due "
		"VALUES(1); END; CREATE TRIGGER app AFTER INSERT ON segments WHEN NEW.base_offset %% 170 = 90 BEGIN SELECT "
		"RAISE(ROLLBACK, 'no'); END");
	for (size_t i = 0; i < OPS; i++) {
		size_t bytes = (size_t)snprintf(id[i], sizeof id[i], "many-%zu", i);

		ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                            .name = S("u"),
		                            .u.segment = {.base_offset = 1000 + 10 * i,
		                                          .end_offset = 1009 + 10 * i,
		                                          .record_count = 10,
		                                          .created_at_ms = 1,
		                                          .id = {id[i], bytes}}};
		op[i] = (struct backend_op){S(SHMETA_DEFAULT_TENANT), &ops[i]};
	}
	recorder_clear(&w.recorder);
	ok(w.ops->writer->apply(w.state, op, OPS, HOSTILE_NOW_MS, results, &w.recorder.sink, &w.err));
	for (size_t i = 0; i < OPS; i++) {
		uint64_t base = ops[i].u.segment.base_offset;
		bool refused = base % 130 == 70 || base % 170 == 90;
		char sql[100], key[40];

		(void)snprintf(sql, sizeof sql, "SELECT count(*) FROM segments WHERE base_offset = %llu",
		               (unsigned long long)base);
		(void)snprintf(key, sizeof key, "u/0 %llu..", (unsigned long long)base);
		cr_expect_eq(results[i].status != SHMETA_OK, refused, "%llu: %s", (unsigned long long)base,
		             results[i].text);
		cr_expect_eq(world_sql_number(&w, sql), !refused, "%llu", (unsigned long long)base);
		cr_expect_eq(recorder_has(&w.recorder, key) != 0, !refused, "%llu", (unsigned long long)base);
	}
	world_free(&w);
}

/* An object of more slices than what was redone before it: it is done whole but for the slices that
 * roll everything back. */
Test(hostile_sqlite, slices_that_are_rolled_back_take_neither_their_object_nor_its_other_slices_along)
{
	enum { SLICES = 9, OPS = SLICES + 2 };
	struct shmeta_op ops[OPS] = {
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("u"), .offset = 666},
		{.type = SHMETA_OP_COMMIT_OBJECT, .u.object = {S("bucket"), S("object"), SLICES, 1}}};
	struct backend_op op[OPS];
	struct shmeta_result results[OPS];
	char id[OPS][16];
	struct world w;

	make(&w, WORLD_SQLITE_NEW);
	world_sql(
		&w,
		"CREATE TRIGGER mark BEFORE UPDATE ON partitions WHEN NEW.high_watermark = 666 BEGIN SELECT RAISE(ROLLBACK, "
		"'no'); END; CREATE TRIGGER app AFTER INSERT ON segments WHEN NEW.base_offset IN (1030, 1070) BEGIN SELECT "
		"RAISE(ROLLBACK, 'no'); END");
	for (size_t i = 2; i < OPS; i++) {
		size_t bytes = (size_t)snprintf(id[i], sizeof id[i], "slice-%zu", i);

		ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SLICE,
		                            .name = S("u"),
		                            .u.segment = {.base_offset = 1000 + 10 * (i - 2),
		                                          .end_offset = 1009 + 10 * (i - 2),
		                                          .record_count = 10,
		                                          .size_bytes = 1,
		                                          .position = i - 2,
		                                          .created_at_ms = 1,
		                                          .id = {id[i], bytes}}};
	}
	for (size_t i = 0; i < OPS; i++)
		op[i] = (struct backend_op){S(SHMETA_DEFAULT_TENANT), &ops[i]};
	recorder_clear(&w.recorder);
	ok(w.ops->writer->apply(w.state, op, OPS, HOSTILE_NOW_MS, results, &w.recorder.sink, &w.err));
	for (size_t i = 0; i < OPS; i++) {
		bool refused = i == 0 || ops[i].u.segment.base_offset == 1030 || ops[i].u.segment.base_offset == 1070;

		cr_expect_eq(results[i].status != SHMETA_OK, refused, "operation %zu: %s", i, results[i].text);
	}
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments WHERE s3_key = 'object'"), SLICES - 2);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), SLICES - 2);
	world_free(&w);
}

/* Rows that are moved into a file are each answered for themselves, too. */
Test(hostile_sqlite, of_rows_that_are_moved_each_is_answered_for_itself)
{
	enum { ROWS = 40 };
	struct backend_row rows[ROWS];
	struct shmeta_result results[ROWS];
	char name[ROWS][16];
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_sql(
		&w,
		"CREATE TABLE law(n INTEGER PRIMARY KEY); CREATE TABLE due(n INTEGER REFERENCES law(n) DEFERRABLE INITIALLY "
		"DEFERRED); CREATE TRIGGER late AFTER INSERT ON topics WHEN NEW.name = 'moved-7' BEGIN INSERT INTO due "
		"VALUES(1); END; CREATE TRIGGER app AFTER INSERT ON topics WHEN NEW.name = 'moved-23' BEGIN SELECT "
		"RAISE(ROLLBACK, 'no'); END; CREATE TRIGGER one AFTER INSERT ON topics WHEN NEW.name = 'moved-31' BEGIN "
		"SELECT RAISE(ABORT, 'no'); END");
	memset(rows, 0, sizeof rows);
	for (size_t i = 0; i < ROWS; i++) {
		size_t bytes = (size_t)snprintf(name[i], sizeof name[i], "moved-%zu", i);

		rows[i].kind = BACKEND_ROW_TOPIC;
		rows[i].tenant = S(SHMETA_DEFAULT_TENANT);
		rows[i].u.topic = (struct shmeta_topic){.name = {name[i], bytes}, .partition_count = 1};
	}
	ok(w.ops->admin->restore(w.state, rows, ROWS, results, &w.err));
	for (size_t i = 0; i < ROWS; i++) {
		bool refused = i == 7 || i == 23 || i == 31;
		char sql[80];

		(void)snprintf(sql, sizeof sql, "SELECT count(*) FROM topics WHERE name = '%s'", name[i]);
		cr_expect_eq(results[i].status != SHMETA_OK, refused, "%s: %s", name[i], results[i].text);
		cr_expect_eq(world_sql_number(&w, sql), !refused, "%s", name[i]);
	}
	world_free(&w);
}

/* Such a partition is quarantined; what an append would raise is not there. */
Test(hostile_sqlite, a_watermark_that_is_no_number_is_not_answered_as_raised)
{
	static const char *const values[] = {"'many'", "x'31'", "1e300", "7.5"};
	static const char *const names[] = {"append", "add_slice"};
	struct world w;

	for (size_t v = 0; v < sizeof values / sizeof *values; v++)
		for (size_t i = 0; i < hostile_op_count; i++)
			for (int triggers = 0; triggers < 2; triggers++) {
				const struct hostile_op *op = &hostile_ops[i];
				struct shmeta_result result;

				if (strcmp(op->name, names[0]) != 0 && strcmp(op->name, names[1]) != 0)
					continue;
				make(&w, WORLD_SQLITE_NEW);
				if (triggers)
					world_sql(&w, "CREATE TRIGGER app AFTER INSERT ON agents BEGIN SELECT 1; END");
				world_sql(&w, "UPDATE partitions SET high_watermark = %s WHERE topic = 't'", values[v]);
				is_refused(&w, op, values[v]);
				hostile_apply(&w, op, 2000, &result);
				cr_expect_not_null(strstr(result.text, "high_watermark"), "%s", result.text);
				result = one(&w, (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
				                                    .name = S("t"),
				                                    .offset = 20});
				cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
				hostile_apply(&w, op, 2001, &result);
				cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
				world_free(&w);
			}
}

/* Its epoch is nobody's to keep. */
Test(hostile_sqlite, an_agent_goes_although_a_lease_of_its_says_no_tenant)
{
	struct shmeta_result r;
	struct world w;

	world_make(&w, WORLD_SQLITE_LATER);
	world_sql(&w, "CREATE TABLE l AS SELECT * FROM partition_leases; DROP TABLE partition_leases; "
	              "ALTER TABLE l RENAME TO partition_leases");
	world_open(&w);
	world_topic(&w, NULL, "t", 2, -1, NULL);
	world_topic(&w, NULL, "u", 2, -1, NULL); /* the neighbours' */
	world_agent(&w, "a", 1, NULL);
	world_sql(&w, "INSERT INTO partition_leases(organization_id, topic, partition_id, leader_agent_id, "
	              "lease_expires_at, acquired_at, epoch) VALUES(NULL, 't', 0, 'a', 1, 1, 7), "
	              "('00000000-0000-0000-0000-000000000000', 't', 1, 'a', 1, 1, 9)");
	r = one(&w, (struct shmeta_op){.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = S("a")});
	cr_expect_eq(r.status, SHMETA_OK, "%s", r.text);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM agents"), 0);
	cr_expect_eq(world_sql_number(&w, "SELECT sum(epoch) FROM shmeta_lease_epochs"), 9);
	world_free(&w);
}

/* Whoever is told that its epoch ends at 0 drops all that it has. */
Test(hostile_sqlite, an_epoch_ends_nowhere_where_the_watermark_cannot_be_read)
{
	static const char *const values[] = {"'many'", "x'31'", "1e300", "7.5", "-5"};
	const struct backend_epoch ask = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t"), .epoch = 1};
	struct backend_epoch_end found;
	struct world w;

	make(&w, WORLD_SQLITE_NEW);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		world_sql(&w, "UPDATE partitions SET high_watermark = %s WHERE topic = 't'", values[i]);
		cr_expect_eq(w.ops->admin->epoch_end(w.state, &ask, &found, &w.err), SHMETA_ERR_SOURCE, "%s",
		             values[i]);
	}
	world_sql(&w, "UPDATE partitions SET high_watermark = 20 WHERE topic = 't'");
	cr_expect_eq(w.ops->admin->epoch_end(w.state, &ask, &found, &w.err), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(found.end_offset, 20);
	world_free(&w);
}
