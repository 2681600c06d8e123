/* SPDX-License-Identifier: Apache-2.0
 * What others do to the sources of a differential run (outsiders.h). */
#include "tests/support/outsiders.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/views.h"

void run_draw_anew(struct run *r, uint64_t side)
{
	r->random = ((r->seed << 20 | (uint64_t)r->step << 4) + side + 1) * 0x9E3779B97F4A7C15u;
	for (int i = 0; i < 4; i++)
		(void)run_pick(r, 2);
}

uint32_t run_pick(struct run *r, uint32_t below)
{
	r->random ^= r->random >> 12;
	r->random ^= r->random << 25;
	r->random ^= r->random >> 27;
	return (uint32_t)((r->random * 0x2545F4914F6CDD1Du) >> 33) % below;
}

struct shmeta_str run_name(struct run *r, const char *fmt, ...)
{
	char *name = r->name[r->names++ % RUN_NAMES];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(name, MODEL_TEXT, fmt, args);
	va_end(args);
	return (struct shmeta_str){name, strlen(name)};
}

void run_trace(const struct run *r, const char *fmt, ...)
{
	va_list args;

	if (!r->trace)
		return;
	(void)fprintf(stderr, "seed %llu step %u: ", (unsigned long long)r->seed, r->step);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fputc('\n', stderr);
}
struct change {
	char sql[900];
	struct model after;
};

/* A row of our own beside what the API puts: ids and keys that it never uses. */
static void change_segment(struct run *r, const struct side *s, struct change *c, int t, uint32_t p)
{
	struct model *m = &c->after;
	uint64_t base = run_pick(r, 16) * 10 + 1;
	struct model_segment row = {.base = base, .end = base + 7, .size = 3, .records = 8, .created_ms = 1};
	const char *verb = s->world.pg != NULL ? "INSERT" : "INSERT OR REPLACE";
	const char *clash = s->world.pg != NULL
	                            ? " ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, partition_id = "
	                              "excluded.partition_id, base_offset = excluded.base_offset, "
	                              "end_offset = excluded.end_offset, size_bytes = 3, record_count = 8"
	                            : "";

	/* Few ids: one that is there already moves, by REPLACE or by an upsert. */
	(void)snprintf(row.id, sizeof row.id, "other-%u", run_pick(r, 5));
	(void)snprintf(row.key, sizeof row.key, "other");
	if (model_segment(m, t, p, base) != NULL || m->schema.adding_moves_retention)
		return;
	for (int i = 0; i < MODEL_TOPICS; i++)
		for (uint32_t k = 0; k < MODEL_PARTITIONS; k++)
			for (size_t n = m->topic[i].partition[k].segments; n-- > 0;)
				if (strcmp(m->topic[i].partition[k].segment[n].id, row.id) == 0)
					model_drop_segment(m, i, k, m->topic[i].partition[k].segment[n].base);
	if (!model_put_segment(m, t, p, &row))
		return;
	(void)snprintf(
		c->sql, sizeof c->sql,
		"%s INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) VALUES ('%s', 't%d', %u, %llu, %llu, 8, 3, 'bucket', 'other', 1)%s",
		verb, row.id, t, p, (unsigned long long)base, (unsigned long long)row.end, clash);
}

static void change_lease(struct run *r, struct change *c, int t, uint32_t p)
{
	struct model_partition *part = &c->after.topic[t].partition[p];
	int agent = (int)run_pick(r, MODEL_AGENTS);
	uint64_t epoch = part->highest_lease + 1 + run_pick(r, 40);

	if (part->lease.there && run_pick(r, 3) == 0) {
		part->lease.expired = true;
		(void)snprintf(
			c->sql, sizeof c->sql,
			"UPDATE partition_leases SET lease_expires_at = 1 WHERE topic = 't%d' AND partition_id = %u", t,
			p);
	} else if (part->lease.there && run_pick(r, 2) == 0) {
		part->lease.there = false;
		(void)snprintf(c->sql, sizeof c->sql,
		               "DELETE FROM partition_leases WHERE topic = 't%d' AND partition_id = %u", t, p);
	} else if (c->after.agent[agent].there) {
		model_set_lease(&c->after, t, p, agent, epoch, false);
		part->lease.foreign = true;
		(void)snprintf(
			c->sql, sizeof c->sql,
			"INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, "
			"acquired_at, epoch) VALUES ('t%d', %u, 'a%d', 9000000000000, 5, %llu) ON CONFLICT (topic, "
			"partition_id) DO UPDATE SET leader_agent_id = excluded.leader_agent_id, epoch = "
			"excluded.epoch, lease_expires_at = excluded.lease_expires_at",
			t, p, agent, (unsigned long long)epoch);
	}
}

static void change_topic(struct run *r, struct change *c, int t)
{
	struct model_topic *topic = &c->after.topic[t];

	if (!topic->there) {
		topic->there = true;
		topic->partitions = 2;
		topic->partition[0].there = topic->partition[1].there = true;
		(void)snprintf(
			c->sql, sizeof c->sql,
			"INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES ('t%d', 2, 3, 3); "
			"INSERT INTO partitions(topic, partition_id, created_at, updated_at) VALUES ('t%d', 0, 3, 3), "
			"('t%d', 1, 3, 3)",
			t, t, t);
	} else if (run_pick(r, 3) > 0 || c->after.schema.segments_are_held) {
		topic->config = 1 + (int)run_pick(r, 9);
		(void)snprintf(c->sql, sizeof c->sql, "UPDATE topics SET config = '{\"k\":\"%d\"}' WHERE name = 't%d'",
		               topic->config, t);
	} else {
		model_drop_topic(&c->after, t);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM topics WHERE name = 't%d'", t);
	}
}

static void change_group(struct run *r, struct change *c, int t, uint32_t p)
{
	int g = (int)run_pick(r, MODEL_GROUPS);

	if (c->after.group[g] && run_pick(r, 3) == 0) {
		model_drop_group(&c->after, g);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM consumer_groups WHERE group_id = 'g%d'", g);
		return;
	}
	c->after.group[g] = true;
	c->after.topic[t].partition[p].committed[g].there = true;
	c->after.topic[t].partition[p].committed[g].offset = r->step;
	c->after.topic[t].partition[p].committed[g].has_metadata = false;
	(void)snprintf(c->sql, sizeof c->sql,
	               "INSERT INTO consumer_groups(group_id, created_at, updated_at) VALUES ('g%d', 1, 1) ON CONFLICT "
	               "DO NOTHING; INSERT INTO consumer_offsets(group_id, topic, partition_id, committed_offset, "
	               "committed_at) VALUES ('g%d', 't%d', %u, %u, 1) ON CONFLICT (group_id, topic, partition_id) DO "
	               "UPDATE SET committed_offset = excluded.committed_offset, metadata = NULL",
	               g, g, t, p, r->step);
}

static void change_agent(struct run *r, const struct side *s, struct change *c)
{
	int a = (int)run_pick(r, MODEL_AGENTS);
	struct model_agent *agent = &c->after.agent[a];

	if (agent->there && run_pick(r, 3) == 0) {
		model_drop_agent(&c->after, a);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM agents WHERE agent_id = 'a%d'", a);
		return;
	}
	/* REPLACE removes the row that has the id, and the one that has the address, with their
	 * leases; an upsert alters it. */
	for (int i = 0; i < MODEL_AGENTS; i++)
		if (c->after.agent[i].there && strcmp(c->after.agent[i].address, "elsewhere") == 0 && i != a) {
			if (s->world.pg != NULL)
				return;
			model_drop_agent(&c->after, i);
		}
	if (s->world.pg == NULL)
		model_drop_agent(&c->after, a);
	*agent = (struct model_agent){.there = true, .address = "elsewhere", .heartbeat_ms = r->step, .started_ms = 4};
	(void)snprintf(c->sql, sizeof c->sql,
	               "%s INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at) "
	               "VALUES ('a%d', 'elsewhere', 'zone', 'group', %u, 4)%s",
	               s->world.pg != NULL ? "INSERT" : "INSERT OR REPLACE", a, r->step,
	               s->world.pg != NULL ? " ON CONFLICT (agent_id) DO UPDATE SET address = excluded.address, "
	                                     "last_heartbeat = excluded.last_heartbeat, started_at = 4"
	                                   : "");
}

static void change_watermark(struct run *r, const struct side *s, struct change *c, int t, uint32_t p)
{
	uint64_t watermark = run_pick(r, 30) == 0 ? INT64_MAX - 1 : run_pick(r, 300);

	if (!model_watermark_allowed(&c->after, watermark))
		return;
	c->after.topic[t].partition[p].watermark = watermark;
	if (s->world.pg != NULL && run_pick(r, 2) == 0)
		(void)snprintf(
			c->sql, sizeof c->sql,
			"MERGE INTO partitions p USING (VALUES ('t%d', %u, %llu::bigint)) v(t, i, w) ON p.topic = v.t "
			"AND p.partition_id = v.i WHEN MATCHED THEN UPDATE SET high_watermark = v.w",
			t, p, (unsigned long long)watermark);
	else
		(void)snprintf(c->sql, sizeof c->sql,
		               "UPDATE partitions SET high_watermark = %llu WHERE topic = 't%d' AND partition_id = %u",
		               (unsigned long long)watermark, t, p);
}

static void change_retention(struct run *r, struct change *c, int t, uint32_t p)
{
	struct model_partition *part = &c->after.topic[t].partition[p];
	uint64_t before = run_pick(r, 160);

	if (c->after.schema.segments_are_held)
		return;
	for (size_t i = part->segments; i-- > 0;)
		if (part->segment[i].end < before)
			model_drop_segment(&c->after, t, p, part->segment[i].base);
	(void)snprintf(c->sql, sizeof c->sql,
	               "DELETE FROM segments WHERE topic = 't%d' AND partition_id = %u AND end_offset < %llu", t, p,
	               (unsigned long long)before);
}

/* An epoch that others gave, and that goes while no trigger sees it, nobody can know afterwards. */
static bool has_foreign_lease(const struct model *m)
{
	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int p = 0; p < MODEL_PARTITIONS; p++)
			if (m->topic[t].partition[p].lease.there && m->topic[t].partition[p].lease.foreign)
				return true;
	return false;
}

/* One change by somebody else; empty when the tables stand against it. */
static void pick_change(struct run *r, const struct side *s, struct change *c)
{
	uint32_t kind = run_pick(r, 8), p = run_pick(r, MODEL_PARTITIONS);
	int t = (int)run_pick(r, MODEL_TOPICS);
	bool there = c->after.topic[t].there && c->after.topic[t].partition[p].there;

	c->sql[0] = '\0';
	if (s->unlogged && (kind == 3 || (kind < 2 && has_foreign_lease(&c->after))))
		return;
	if (kind == 0)
		change_topic(r, c, t);
	else if (kind == 1)
		change_agent(r, s, c);
	else if (!there)
		return;
	else if (kind == 2)
		change_segment(r, s, c, t, p);
	else if (kind == 3)
		change_lease(r, c, t, p);
	else if (kind == 4)
		change_group(r, c, t, p);
	else if (kind == 5)
		change_retention(r, c, t, p);
	else
		change_watermark(r, s, c, t, p);
}

/* A transaction of somebody else on one side, between two statements of its own: some end in a
 * rollback. */
static void outside_between(struct run *r, struct side *s, const char *before, const char *after)
{
	struct change *c = calloc(1, sizeof *c);
	uint32_t count = 1 + run_pick(r, 4);
	bool keeps = before != NULL || run_pick(r, 5) > 0;

	cr_assert_not_null(c);
	c->after = s->model;
	world_begin(&s->world);
	if (before != NULL)
		world_sql(&s->world, "%s", before);
	for (uint32_t i = 0; i < count; i++) {
		pick_change(r, s, c);
		if (c->sql[0] == '\0')
			continue;
		run_trace(r, "%s: %s%s", s->name, c->sql, keeps ? "" : " (rolled back)");
		world_sql(&s->world, "%s", c->sql);
	}
	if (after != NULL)
		world_sql(&s->world, "%s", after);
	world_sql(&s->world, keeps ? "COMMIT" : "ROLLBACK");
	if (keeps) {
		s->model = c->after;
		s->changed_s = run_now_s();
	}
	s->unlogged = false;
	free(c);
}

void outsiders_write(struct run *r, struct side *s)
{
	outside_between(r, s, NULL, NULL);
}

/* ---- triggers ---- */

static void row_trigger(const char *const *c, struct model_lines *lines)
{
	if (c[1] != NULL)
		model_line(lines, "DROP TRIGGER %s ON %s;", c[0], c[1]);
	else
		model_line(lines, "DROP TRIGGER %s;", c[0]);
}

static void row_replica_trigger(const char *const *c, struct model_lines *lines)
{
	model_line(lines, "ALTER TABLE %s ENABLE REPLICA TRIGGER %s;", c[1], c[0]);
}

enum { AWAIT_TRIGGERS_S = 90 };

/* What row() says of each trigger of the change feed; "" where there is none. The caller frees
 * it. */
static char *each_trigger(struct side *s, void (*row)(const char *const *column, struct model_lines *lines))
{
	struct model_lines lines = {.line = NULL};

	view_each_row(
		&s->world,
		s->world.pg != NULL
			? "SELECT tgname, relname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE tgname "
			  "LIKE 'shmeta%' AND NOT tgisinternal AND relname NOT LIKE 'shmeta%'"
			: "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'shmeta%' AND tbl_name "
			  "NOT LIKE 'shmeta%'",
		row, &lines);
	return model_lines_text(&lines);
}

void outsiders_await_triggers(struct run *r, struct side *s)
{
	double end = run_now_s() + AWAIT_TRIGGERS_S;
	bool there = false;

	while (!there) {
		char *sql = each_trigger(s, row_trigger);

		there = sql[0] != '\0';
		free(sql);
		cr_assert(there || run_now_s() < end,
		          "seed %llu step %u: %s: the daemon does not make its triggers anew",
		          (unsigned long long)r->seed, r->step, s->name);
		if (!there)
			(void)usleep(20000);
	}
}

static void run_each_trigger(struct side *s, void (*row)(const char *const *column, struct model_lines *lines))
{
	char *sql = each_trigger(s, row);

	cr_assert_str_neq(sql, "");
	if (s->world.pg == NULL)
		world_sql(&s->world, "%s", sql);
	else /* the daemon looks at the same tables in another order */
		world_sql(
			&s->world,
			"DO $$ BEGIN LOOP BEGIN %s EXIT; EXCEPTION WHEN deadlock_detected THEN NULL; END; END LOOP; END $$",
			sql);
	free(sql);
}

/* The feed's triggers go: by a migration that rebuilds tables, by an operator. */
void outsiders_drop_triggers(struct run *r, struct side *s)
{
	run_trace(r, "%s: the triggers of the change feed are dropped", s->name);
	run_each_trigger(s, row_trigger);
	s->unlogged = true;
}

/* ---- what no trigger sees ---- */

static bool is_plain(const struct model_schema *m)
{
	return !m->adding_moves_retention && !m->watermark_is_checked && !m->segments_are_held &&
	       !m->segments_are_swallowed;
}

/* A migration puts another table in the place of the segments, with one more row, in one
 * transaction. */
static void swap_segments(struct run *r, struct side *s)
{
	struct model_segment row = {
		.base = 900 + r->step, .end = 905 + r->step, .size = 1, .records = 6, .created_ms = 1};
	struct model *m = &s->model;

	if (!is_plain(&m->schema) || !m->topic[0].there || !model_put_segment(m, 0, 0, &row))
		return;
	(void)snprintf(row.id, sizeof row.id, "swapped-%u", r->step);
	(void)snprintf(row.key, sizeof row.key, "swapped");
	*model_segment(m, 0, 0, row.base) = row;
	run_trace(r, "%s: another table takes the place of the segments", s->name);
	if (s->world.pg != NULL)
		world_sql(
			&s->world,
			"BEGIN; CREATE TABLE next (LIKE segments INCLUDING ALL); INSERT INTO next SELECT * FROM segments; "
			"INSERT INTO next(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) VALUES ('%s', 't0', 0, %llu, %llu, 6, 1, 'bucket', 'swapped', 1); "
			"DROP TABLE segments; ALTER TABLE next RENAME TO segments; ALTER TABLE segments ADD FOREIGN KEY "
			"(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE; COMMIT",
			row.id, (unsigned long long)row.base, (unsigned long long)row.end);
	else
		world_sql(
			&s->world,
			"PRAGMA foreign_keys=OFF; BEGIN IMMEDIATE; CREATE TABLE next(id TEXT PRIMARY KEY NOT NULL, topic "
			"TEXT NOT NULL, partition_id INTEGER NOT NULL, base_offset INTEGER NOT NULL, end_offset INTEGER NOT "
			"NULL, record_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL, s3_bucket TEXT NOT NULL, s3_key "
			"TEXT NOT NULL, created_at INTEGER NOT NULL, min_timestamp INTEGER NOT NULL DEFAULT 0, "
			"max_timestamp INTEGER NOT NULL DEFAULT 0, CHECK(end_offset >= base_offset), FOREIGN KEY(topic, "
			"partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE); INSERT INTO next "
			"SELECT * FROM segments; INSERT INTO next VALUES ('%s', 't0', 0, %llu, %llu, 6, 1, 'bucket', "
			"'swapped', 1, 0, 0); DROP TABLE segments; ALTER TABLE next RENAME TO segments; CREATE UNIQUE INDEX "
			"idx_segments_location ON segments(topic, partition_id, base_offset); COMMIT; PRAGMA "
			"foreign_keys=ON",
			row.id, (unsigned long long)row.base, (unsigned long long)row.end);
	s->changed_s = run_now_s();
}

/* The database is put back to what it was some steps ago, in place, under the daemon; the source
 * has gone on since. Only where that takes less than half of the topics away: for more the daemon
 * would rightly wait for consent. */
static void keep_copy(struct run *r, struct side *s)
{
	char path[200];
	sqlite3 *copy;

	(void)snprintf(path, sizeof path, "%s.copy", s->world.path);
	cr_assert_eq(sqlite3_open(path, &copy), SQLITE_OK);
	sqlite3_backup *backup = sqlite3_backup_init(copy, "main", s->world.app, "main");

	cr_assert_not_null(backup);
	cr_assert_eq(sqlite3_backup_step(backup, -1), SQLITE_DONE);
	cr_assert_eq(sqlite3_backup_finish(backup), SQLITE_OK);
	cr_assert_eq(sqlite3_close(copy), SQLITE_OK);
	s->kept = s->model;
	memcpy(s->kept_transfer, s->transfer, sizeof s->transfer);
	s->has_kept = true;
	run_trace(r, "%s: a copy is made", s->name);
}

static bool loses_little(const struct model *from, const struct model *to)
{
	int topics = 0, topics_lost = 0, partitions = 0, partitions_lost = 0;

	for (int t = 0; t < MODEL_TOPICS; t++) {
		topics += from->topic[t].there;
		topics_lost += from->topic[t].there && !to->topic[t].there;
		for (int p = 0; p < MODEL_PARTITIONS; p++) {
			partitions += from->topic[t].partition[p].there;
			partitions_lost += from->topic[t].partition[p].there && !to->topic[t].partition[p].there;
		}
	}
	return 2 * topics_lost < topics && 2 * partitions_lost < partitions;
}

static void restore_copy(struct run *r, struct side *s)
{
	char path[200];
	sqlite3 *copy;

	if (!s->has_kept || !loses_little(&s->model, &s->kept))
		return;
	run_trace(r, "%s: the copy is put back", s->name);
	(void)snprintf(path, sizeof path, "%s.copy", s->world.path);
	cr_assert_eq(sqlite3_open(path, &copy), SQLITE_OK);
	/* What the copy goes through before it is seen: more transactions than the daemon has
	 * followed. */
	for (int i = 0; i < 40; i++)
		cr_assert_eq(sqlite3_exec(copy, "UPDATE topics SET updated_at = updated_at + 1", NULL, NULL, NULL),
		             SQLITE_OK);
	sqlite3_backup *backup = sqlite3_backup_init(s->world.app, "main", copy, "main");
	int rc = SQLITE_BUSY;

	cr_assert_not_null(backup);
	for (double end = run_now_s() + 20; (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) && run_now_s() < end;)
		rc = sqlite3_backup_step(backup, -1);
	cr_assert_eq(rc, SQLITE_DONE, "seed %llu step %u: %d", (unsigned long long)r->seed, r->step, rc);
	cr_assert_eq(sqlite3_backup_finish(backup), SQLITE_OK);
	cr_assert_eq(sqlite3_close(copy), SQLITE_OK);
	s->model = s->kept;
	memcpy(s->transfer, s->kept_transfer, sizeof s->transfer);
	s->changed_s = run_now_s();
}

#define SEGMENT_ROW(table)                                                                         \
	"INSERT INTO " table                                                                       \
	"(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, " \
	"s3_key, created_at) VALUES ($)"

/* ---- a day of the database's administrator ---- */

/* PostgreSQL: around the marks of all partitions, which are set at $. */
static const char *const chores[] = {
	"$; REINDEX TABLE segments; CLUSTER partitions USING partitions_pkey; $; VACUUM FULL topics; $",
	"BEGIN; ALTER TABLE partitions RENAME topic TO name; ALTER TABLE partitions RENAME partition_id TO number; UPDATE "
	"partitions SET high_watermark = high_watermark; ALTER TABLE partitions RENAME name TO topic; ALTER TABLE partitions "
	"RENAME number TO partition_id; $; COMMIT",
	"BEGIN; ALTER TABLE partitions RENAME high_watermark TO mark; ALTER TABLE partitions RENAME mark TO high_watermark; "
	"COMMIT; $",
	"ALTER TABLE segments SET UNLOGGED; $; ALTER TABLE segments SET LOGGED",
	"CREATE TABLE child (LIKE segments INCLUDING ALL); ALTER TABLE child INHERIT segments; $; ALTER TABLE child NO INHERIT "
	"segments; DROP TABLE child; $",
	"CREATE RULE quiet AS ON UPDATE TO partitions DO ALSO SELECT 1; ALTER TABLE partitions DISABLE RULE quiet; $; DROP RULE "
	"quiet ON partitions",
	"ALTER TABLE partitions ALTER updated_at TYPE NUMERIC; $; ALTER TABLE partitions ALTER updated_at TYPE BIGINT; $",
	"BEGIN; ALTER TABLE partitions ALTER topic TYPE VARCHAR(240); $; COMMIT; $",
	"ALTER TABLE shmeta_changes ADD CONSTRAINT quiet CHECK (class = 99) NOT VALID; $; ALTER TABLE shmeta_changes DROP "
	"CONSTRAINT quiet; $",
	"BEGIN; ALTER TABLE shmeta_changes RENAME TO aside; $; ALTER TABLE aside RENAME TO shmeta_changes; COMMIT; $",
	"BEGIN; LOCK TABLE shmeta_changes IN SHARE MODE; $; COMMIT",
};

/* Another table takes the place of the segments, or holds them for a moment, or rows come in bulk:
 * with one more row, $. */
static const char *const segment_chores[] = {
	"COPY segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at) "
	"FROM PROGRAM 'echo $' (DELIMITER ',')",
	"CREATE TABLE kept AS TABLE segments; CREATE TABLE bare (LIKE segments INCLUDING ALL); DROP TABLE segments; ALTER TABLE "
	"bare RENAME TO segments; ALTER TABLE segments ADD FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, "
	"partition_id) ON DELETE CASCADE; INSERT INTO segments SELECT * FROM kept; DROP TABLE kept; " SEGMENT_ROW(
		"segments"),
	"BEGIN; CREATE SCHEMA aside; CREATE TABLE aside.segments (LIKE segments INCLUDING ALL); INSERT INTO aside.segments SELECT "
	"* FROM segments; " SEGMENT_ROW(
		"aside.segments") "; DROP TABLE segments; ALTER TABLE aside.segments SET SCHEMA public; "
				  "ALTER TABLE segments ADD FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE; "
				  "DROP SCHEMA aside; COMMIT",
	"BEGIN; CREATE TABLE whole (LIKE segments INCLUDING DEFAULTS) PARTITION BY RANGE (base_offset); ALTER TABLE whole ATTACH PARTITION segments "
	"FOR VALUES FROM (MINVALUE) TO (MAXVALUE); " SEGMENT_ROW(
		"whole") "; ALTER TABLE whole DETACH PARTITION segments; DROP "
			 "TABLE whole; COMMIT",
};

/* One after the other, each $ replaced. */
static void do_each_statement(struct side *s, const char *text, const char *with)
{
	while (*text != '\0') {
		size_t bytes = strcspn(text, ";");
		const char *at = memchr(text, '$', bytes);

		if (at == NULL)
			world_sql(&s->world, "%.*s", (int)bytes, text);
		else
			world_sql(&s->world, "%.*s%s%.*s", (int)(at - text), text, with, (int)(text + bytes - at - 1),
			          at + 1);
		text += bytes;
		text += strspn(text, "; ");
	}
}

static void do_segment_chore(struct run *r, struct side *s, uint32_t which)
{
	struct model_segment row = {
		.base = 900 + r->step, .end = 905 + r->step, .size = 1, .records = 6, .created_ms = 1};
	struct model *m = &s->model;
	const char *text = segment_chores[which];
	char values[200];

	if (!is_plain(&m->schema) || !m->topic[0].there || !model_put_segment(m, 0, 0, &row))
		return;
	(void)snprintf(row.id, sizeof row.id, "swapped-%u", r->step);
	(void)snprintf(row.key, sizeof row.key, "swapped");
	*model_segment(m, 0, 0, row.base) = row;
	(void)snprintf(values, sizeof values,
	               which == 0 ? "%s,t0,0,%llu,%llu,6,1,bucket,swapped,1"
	                          : "'%s', 't0', 0, %llu, %llu, 6, 1, 'bucket', 'swapped', 1",
	               row.id, (unsigned long long)row.base, (unsigned long long)row.end);
	run_trace(r, "%s: %s", s->name, text);
	/* In one string it would be one transaction. */
	do_each_statement(s, text, values);
	s->changed_s = run_now_s();
}

static void do_chore(struct run *r, struct side *s)
{
	const char *text = chores[run_pick(r, sizeof chores / sizeof *chores)];
	struct model *m = &s->model;
	char marks[3000] = "";
	size_t used = 0;

	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int p = 0; p < MODEL_PARTITIONS; p++)
			if (m->topic[t].partition[p].there && model_watermark_allowed(m, r->step)) {
				m->topic[t].partition[p].watermark = r->step;
				used += (size_t)snprintf(marks + used, sizeof marks - used,
				                         "%sUPDATE partitions SET high_watermark = %u WHERE topic = "
				                         "'t%d' AND partition_id = %d",
				                         used > 0 ? "; " : "", r->step, t, p);
			}
	run_trace(r, "%s: %s", s->name, text);
	do_each_statement(s, text, used > 0 ? marks : "SELECT 1");
	s->changed_s = run_now_s();
}

/* Changes that the feed's triggers do not log, or that no trigger can see. */
void outsiders_bypass(struct run *r, struct side *s)
{
	struct model *m = &s->model;
	uint32_t how = run_pick(r, s->world.pg != NULL ? 10 : 5);

	if (s->world.pg == NULL) {
		if (how < 2)
			swap_segments(r, s);
		else if (how < 3)
			keep_copy(r, s);
		else
			restore_copy(r, s);
		return;
	}
	if (how >= 7) {
		do_chore(r, s);
	} else if (how >= 5) {
		do_segment_chore(r, s, run_pick(r, sizeof segment_chores / sizeof *segment_chores));
	} else if (how == 0) {
		swap_segments(r, s);
	} else if (how == 1) {
		run_trace(r, "%s: triggers are disabled and enabled around a change", s->name);
		outside_between(r, s, "ALTER TABLE partitions DISABLE TRIGGER USER",
		                "ALTER TABLE partitions ENABLE TRIGGER USER");
	} else if (how == 2 && !m->schema.segments_are_held) {
		run_trace(r, "%s: TRUNCATE segments", s->name);
		world_sql(&s->world, "TRUNCATE segments");
		for (int t = 0; t < MODEL_TOPICS; t++)
			for (int p = 0; p < MODEL_PARTITIONS; p++)
				m->topic[t].partition[p].segments = 0;
		s->changed_s = run_now_s();
	} else if (how == 3) {
		run_trace(r, "%s: triggers fire in another mode from now on", s->name);
		outsiders_await_triggers(r, s);
		run_each_trigger(s, row_replica_trigger);
		s->unlogged = true;
		outsiders_write(r, s);
	} else {
		run_trace(r, "%s: a session as of a replica", s->name);
		world_sql(&s->world, "SET session_replication_role = replica");
		for (int t = 0; t < MODEL_TOPICS; t++)
			for (int p = 0; p < MODEL_PARTITIONS; p++)
				if (m->topic[t].partition[p].there && model_watermark_allowed(m, r->step)) {
					m->topic[t].partition[p].watermark = r->step;
					world_sql(
						&s->world,
						"UPDATE partitions SET high_watermark = %u WHERE topic = 't%d' AND partition_id = %d",
						r->step, t, p);
				}
		world_sql(&s->world, "RESET session_replication_role");
		s->changed_s = run_now_s();
	}
}

/* ---- hostile schemas ---- */

/* What the application's own schema forbids or adds. RAISE as the seed says. */
void outsiders_make_hostile(struct side *s, const struct model_schema *schema, uint32_t how)
{
	static const char *const raises[] = {"ABORT", "FAIL", "ROLLBACK"};
	const char *raise = raises[how % 3];

	s->model.schema = *schema;
	if (s->world.pg != NULL) {
		if (schema->watermark_is_checked)
			world_sql(&s->world, "ALTER TABLE partitions ADD CHECK (high_watermark %% 7 <> 3)");
		if (schema->adding_moves_retention)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_moves() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE topics SET "
				"retention_ms = coalesce(retention_ms, 0) + 1 WHERE name = NEW.topic; RETURN NULL; END$$; "
				"CREATE TRIGGER app_moves AFTER INSERT ON segments FOR EACH ROW EXECUTE FUNCTION app_moves()");
		if (schema->segments_are_held)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_hold() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF OLD.base_offset %% 50 "
				"= 0 THEN RAISE EXCEPTION 'held'; END IF; RETURN OLD; END$$; "
				"CREATE TRIGGER app_hold BEFORE DELETE ON segments FOR EACH ROW EXECUTE FUNCTION app_hold()");
		if (schema->segments_are_swallowed)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.base_offset "
				"%% 60 = 30 THEN RETURN NULL; END IF; RETURN NEW; END$$; "
				"CREATE TRIGGER app_swallow BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION "
				"app_swallow()");
	} else if (s->outsiders) {
		if (schema->watermark_is_checked)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_checks BEFORE UPDATE ON partitions WHEN NEW.high_watermark %% 7 = 3 BEGIN "
				"SELECT RAISE(%s, 'no'); END",
				raise);
		if (schema->adding_moves_retention)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_moves AFTER INSERT ON segments BEGIN UPDATE topics SET retention_ms = "
				"coalesce(retention_ms, 0) + 1 WHERE name = NEW.topic; END");
		if (schema->segments_are_held)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_hold BEFORE DELETE ON segments WHEN OLD.base_offset %% 50 = 0 BEGIN SELECT "
				"RAISE(%s, 'held'); END",
				raise);
		if (schema->segments_are_swallowed)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_swallow BEFORE INSERT ON segments WHEN NEW.base_offset %% 60 = 30 BEGIN "
				"SELECT RAISE(IGNORE); END");
	} else {
		s->model.schema = (struct model_schema){false, false, false, false};
	}
}
