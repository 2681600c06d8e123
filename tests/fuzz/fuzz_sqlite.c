/* SPDX-License-Identifier: Apache-2.0
 * Rows of a SQLite file that somebody else writes: any type and any value in any column, with and
 * without parents, of every shape that is served. What the engine shows of them, and what it makes
 * of operations on them, is within its limits and in order.
 *
 * The first byte chooses the shape, the second the operation that is done behind the reading; then
 * rows: uint8_t table, and of each of its columns uint8_t kind (NULL, integer, small integer,
 * float, text, blob, a name that others have, text of a map) with its value. Nothing keeps the
 * tables from holding them: they have no types, no keys and no constraints, but for shmeta's own
 * ones. */
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/rows.h"
#include "backends/sql/tables.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/scratch.h"
#include "tests/support/strict_sink.h"

enum { ORGANIZATION = 1, POLICY = 2, TIMES = 4, MANAGED = 8, SHAPES = 16, TABLES_MAX = 24, ROWS_MAX = 64 };

struct world {
	char path[SCRATCH_PATH_MAX];
	sqlite3 *db; /* whoever writes the rows; NULL: not made yet */
	void *state;
	size_t tables;
	struct {
		sqlite3_stmt *insert, *clear;
		int columns;
	} table[TABLES_MAX];
};

static struct world worlds[SHAPES];

/* ---- worlds ---- */

static void run(sqlite3 *db, const char *sql)
{
	char *error = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &error) == SQLITE_OK)
		return;
	(void)fprintf(stderr, "%s: %s\n", sql, error);
	abort();
}

static bool has_tenant(enum table_index at)
{
	return at != AGENTS && at != LEASES;
}

static void make_tables(struct world *w, unsigned shape)
{
	for (int at = 0; at < TABLE_COUNT; at++) {
		char sql[512];
		size_t used = (size_t)snprintf(sql, sizeof sql, "CREATE TABLE %s(", backend_tables[at].name);

		for (int i = 0; i < TABLE_COLUMNS_MAX && backend_tables[at].columns[i].name != NULL; i++) {
			const struct table_column *column = &backend_tables[at].columns[i];

			if ((column->flag != FLAG_CLEANUP_POLICY || (shape & POLICY) != 0) &&
			    (column->flag != FLAG_TIMESTAMPS || (shape & TIMES) != 0))
				used += (size_t)snprintf(sql + used, sizeof sql - used, "%s%s", i > 0 ? ", " : "",
				                         column->name);
		}
		(void)snprintf(sql + used, sizeof sql - used, "%s)",
		               (shape & ORGANIZATION) != 0 && has_tenant((enum table_index)at) ? ", organization_id"
		                                                                               : "");
		run(w->db, sql);
	}
}

/* Statements to fill and to empty each table but the one that says which log it is. */
static void prepare(struct world *w)
{
	sqlite3_stmt *names;

	require(sqlite3_prepare_v2(
			w->db,
			"SELECT m.name, count(*) FROM sqlite_master m, pragma_table_info(m.name) WHERE m.type = "
			"'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'shmeta_meta' GROUP BY m.name "
			"ORDER BY m.name",
			-1, &names, NULL) == SQLITE_OK);
	while (sqlite3_step(names) == SQLITE_ROW && w->tables < TABLES_MAX) {
		const char *name = (const char *)sqlite3_column_text(names, 0);
		int columns = sqlite3_column_int(names, 1);
		char sql[256];
		size_t used = (size_t)snprintf(sql, sizeof sql, "INSERT INTO %s VALUES(?", name);

		for (int i = 1; i < columns; i++)
			used += (size_t)snprintf(sql + used, sizeof sql - used, ",?");
		(void)snprintf(sql + used, sizeof sql - used, ")");
		w->table[w->tables].columns = columns;
		require(sqlite3_prepare_v2(w->db, sql, -1, &w->table[w->tables].insert, NULL) == SQLITE_OK);
		(void)snprintf(sql, sizeof sql, "DELETE FROM %s", name);
		require(sqlite3_prepare_v2(w->db, sql, -1, &w->table[w->tables].clear, NULL) == SQLITE_OK);
		w->tables++;
	}
	(void)sqlite3_finalize(names);
}

static void at_exit(void)
{
	for (int i = 0; i < SHAPES; i++) {
		struct world *w = &worlds[i];
		char side[SCRATCH_PATH_MAX + 8];

		if (w->db == NULL)
			continue;
		backend_sqlite.source->close(w->state);
		free(w->state);
		for (size_t k = 0; k < w->tables; k++) {
			(void)sqlite3_finalize(w->table[k].insert);
			(void)sqlite3_finalize(w->table[k].clear);
		}
		(void)sqlite3_close(w->db);
		(void)unlink(w->path);
		(void)snprintf(side, sizeof side, "%.63s-wal", w->path);
		(void)unlink(side);
		(void)snprintf(side, sizeof side, "%.63s-shm", w->path);
		(void)unlink(side);
	}
}

static struct world *world_of(unsigned shape)
{
	static bool begun;
	struct world *w = &worlds[shape];
	char uri[SCRATCH_PATH_MAX + 16];
	const struct backend_options options = {
		.uri = uri, .timeout_ms = 1000, .manage_schema = (shape & MANAGED) != 0};
	struct backend_error err = {.text = ""};

	if (w->db != NULL)
		return w;
	if (!begun)
		require(atexit(at_exit) == 0);
	begun = true;
	scratch_file("rows", w->path);
	(void)snprintf(uri, sizeof uri, "sqlite:%.63s", w->path);
	require(sqlite3_open(w->path, &w->db) == SQLITE_OK);
	run(w->db, "PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL");
	make_tables(w, shape);
	w->state = calloc(1, backend_sqlite.state_bytes);
	require(w->state != NULL);
	if (backend_sqlite.source->open(w->state, &options, &err) != SHMETA_OK) {
		(void)fprintf(stderr, "%s\n", err.text);
		abort();
	}
	prepare(w);
	return w;
}

/* ---- rows ---- */

static const char *const names[] = {"orders", "default", "a", "group", "", "orders-7", "zone", "0"};
static const char *const maps[] = {"{}", "{\"a\":\"b\"}", "{\"a\":1}", "[", "{\"a\":\"\\u0000\"}", "null"};

static void bind(sqlite3_stmt *insert, int column, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in), byte;
	const uint8_t *data;
	uint64_t bits;
	size_t bytes;
	double number;

	switch (kind % 8) {
	case 0:
		(void)sqlite3_bind_null(insert, column);
		break;
	case 1:
		(void)sqlite3_bind_int64(insert, column, (int64_t)fuzz_u64(in));
		break;
	case 2:
		(void)sqlite3_bind_int64(insert, column, (int8_t)fuzz_u8(in));
		break;
	case 3:
		bits = fuzz_u64(in);
		memcpy(&number, &bits, sizeof number);
		(void)sqlite3_bind_double(insert, column, number);
		break;
	case 4:
		data = fuzz_bytes(in, fuzz_u8(in), &bytes);
		(void)sqlite3_bind_text(insert, column, (const char *)data, (int)bytes, SQLITE_STATIC);
		break;
	case 5:
		data = fuzz_bytes(in, fuzz_u8(in), &bytes);
		(void)sqlite3_bind_blob(insert, column, data, (int)bytes, SQLITE_STATIC);
		break;
	case 6:
		byte = fuzz_u8(in);
		(void)sqlite3_bind_text(insert, column, names[byte % (sizeof names / sizeof names[0])], -1,
		                        SQLITE_STATIC);
		break;
	default:
		byte = fuzz_u8(in);
		(void)sqlite3_bind_text(insert, column, maps[byte % (sizeof maps / sizeof maps[0])], -1, SQLITE_STATIC);
		break;
	}
}

static void fill(struct world *w, struct fuzz_input *in)
{
	run(w->db, "BEGIN");
	for (int i = 0; i < ROWS_MAX && in->left > 0; i++) {
		size_t at = fuzz_u8(in) % w->tables;
		sqlite3_stmt *insert = w->table[at].insert;

		for (int column = 1; column <= w->table[at].columns; column++)
			bind(insert, column, in);
		/* shmeta's own tables, and its triggers, may refuse it. */
		(void)sqlite3_step(insert);
		(void)sqlite3_reset(insert);
	}
	run(w->db, "COMMIT");
}

static void clear(struct world *w)
{
	run(w->db, "BEGIN");
	for (size_t i = w->tables; i-- > 0;) {
		(void)sqlite3_step(w->table[i].clear);
		require(sqlite3_reset(w->table[i].clear) == SQLITE_OK);
	}
	run(w->db, "COMMIT");
}

/* ---- what the engine makes of them ---- */

static void judged(enum shmeta_status status, const struct backend_error *err)
{
	require(status == SHMETA_OK || (status < 0 && err->text[0] != '\0'));
}

static void fetch(struct world *w)
{
	const struct shmeta_str tenant = rows_str(SHMETA_DEFAULT_TENANT), topic = rows_str("orders");
	const struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = topic, .with_segments = 1},
		{.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = rows_str("a"), .row_only = 1},
		{.cls = SHMETA_CLASS_PARTITION, .tenant = tenant, .topic = topic, .partition_id = 1},
		{.cls = SHMETA_CLASS_SEGMENT, .tenant = tenant, .topic = topic, .from = 1, .to = INT64_MAX},
		{.cls = SHMETA_CLASS_AGENT, .tenant = tenant},
		{.cls = SHMETA_CLASS_LEASE, .tenant = tenant, .topic = topic},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = rows_str("group")},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = rows_str("group"), .topic = topic}};
	struct strict_sink strict = {.ordered = true};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};

	judged(backend_sqlite.source->fetch(w->state, keys, sizeof keys / sizeof keys[0], &sink, &err), &err);
}

static enum shmeta_status on_row(void *arg, const struct backend_row *row)
{
	(void)arg;
	strict_text(row->tenant);
	strict_text(row->topic);
	if (row->kind == BACKEND_ROW_OBJECT)
		strict_text(row->u.object.s3_key);
	return SHMETA_OK;
}

static enum shmeta_status on_object(void *arg, const struct shmeta_object_info *info)
{
	(void)arg;
	strict_text(info->object.s3_bucket);
	strict_text(info->object.s3_key);
	return SHMETA_OK;
}

static void read_own(struct world *w)
{
	const struct backend_object_list list = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .all = 1, .now_ms = 1000, .most = 100};
	struct backend_error err = {.text = ""};

	judged(backend_sqlite.admin->extras(w->state, BACKEND_ROW_OBJECT, on_row, NULL, &err), &err);
	judged(backend_sqlite.admin->extras(w->state, BACKEND_ROW_EPOCH, on_row, NULL, &err), &err);
	judged(backend_sqlite.admin->objects(w->state, &list, on_object, NULL, &err), &err);
}

static void apply(struct world *w, uint8_t which)
{
	const struct shmeta_str name = rows_str("orders"), agent = rows_str("a");
	const struct shmeta_op all[] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = name, .partition_count = 2}},
		{.type = SHMETA_OP_DELETE_TOPIC, .name = name},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = name, .offset = 7},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	         .name = name,
	         .u.segment = {.base_offset = 5, .end_offset = 9, .record_count = 5, .id = agent}},
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = name, .offset = 100},
		{.type = SHMETA_OP_ENSURE_GROUP, .group_id = rows_str("group")},
		{.type = SHMETA_OP_COMMIT_OFFSET, .name = name, .u.committed = {.group_id = rows_str("group")}},
		{.type = SHMETA_OP_DELETE_GROUP, .group_id = rows_str("group")},
		{.type = SHMETA_OP_REGISTER_AGENT, .u.agent = {.agent_id = agent, .address = name}},
		{.type = SHMETA_OP_RENEW_AGENT, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = agent},
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = name, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_RELEASE_LEASE, .name = name, .agent_id = agent},
		{.type = SHMETA_OP_OFFER_LEASE,
	         .name = name,
	         .agent_id = agent,
	         .to_agent_id = name,
	         .duration_ms = 1000},
		{.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = agent, .transfer_id = 1},
		{.type = SHMETA_OP_COMPLETE_LEASE, .agent_id = agent, .transfer_id = 1, .duration_ms = 1000},
		{.type = SHMETA_OP_REJECT_LEASE, .agent_id = agent, .transfer_id = 1},
		{.type = SHMETA_OP_CONFIRM_OBJECT_DELETED, .u.object = {.s3_bucket = agent, .s3_key = name}}};
	enum { COUNT = sizeof all / sizeof all[0] };
	struct strict_sink strict = {.ordered = true};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};
	struct shmeta_result results[3];
	struct backend_op ops[3];
	enum shmeta_status status;

	for (size_t i = 0; i < 3; i++)
		ops[i] =
			(struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &all[(which + i) % COUNT]};
	memset(results, 0, sizeof results);
	status = backend_sqlite.writer->apply(w->state, ops, 3, 1000, results, &sink, &err);
	judged(status, &err);
	if (status == SHMETA_OK)
		strict_results(results, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz_input in = {data, bytes};
	struct world *w = world_of(fuzz_u8(&in) % SHAPES);
	uint8_t which = fuzz_u8(&in);
	struct strict_sink strict = {.ordered = true};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};
	uint64_t lag;
	int changed;

	fill(w, &in);
	judged(backend_sqlite.feed->changes(w->state, &sink, &changed, &lag, &err), &err);
	judged(backend_sqlite.source->load(w->state, &sink, &err), &err);
	fetch(w);
	read_own(w);
	apply(w, which);
	fetch(w);
	clear(w);
	return 0;
}
