/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: rows on their way to a sink. They are handed on where SQLite holds them;
 * nothing is copied. */
#include <string.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_reading.h"

/* ---- columns. The values are SQLite's own, good until the next step; the connection is used by
 * one thread only. ------------- */

/* Reading stopped. A statement that could be prepared anew is as it should be: then the row that
 * came next is not, or what it is computed from; and so is a page that is damaged, or cannot be
 * read, for a connection that has just been made because of it. */
static enum shmeta_status read_failed(struct sqlite_reading *reading, sqlite3_stmt *statement, int rc)
{
	struct sqlite_state *state = reading->state;
	bool of_row = false;
	sqlite3_stmt *anew = NULL;
	enum shmeta_status status = sqlite_fail(state, rc, "reading", reading->err);

	if (sqlite_is_damage(rc)) {
		of_row = sqlite_is_damage_known(state);
		state->damaged_in = state->counters.reconnects + (of_row ? 1 : 2);
		state->renew = !of_row;
	}
	switch (rc & 0xff) {
	case SQLITE_ERROR:
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_CONSTRAINT:
		of_row = sqlite3_prepare_v2(state->db, sqlite3_sql(statement), -1, &anew, NULL) == SQLITE_OK;
		sqlite3_finalize(anew);
		break;
	default:
		break;
	}
	if (!of_row)
		return status;
	reading->of_row = true;
	if (reading->err != NULL)
		reading->err->code = SHMETA_ERR_INVALID_ARGUMENT;
	return SHMETA_ERR_INVALID_ARGUMENT;
}

static inline struct shmeta_str text_of(sqlite3_value *value)
{
	const char *text = (const char *)sqlite3_value_text(value);

	return (struct shmeta_str){text, text != NULL ? (size_t)sqlite3_value_bytes(value) : 0};
}

static const char *type_name(int type)
{
	return type == SQLITE_INTEGER ? "an integer"
	       : type == SQLITE_FLOAT ? "a floating-point number"
	       : type == SQLITE_TEXT  ? "text"
	       : type == SQLITE_NULL  ? "NULL"
	                              : "a blob";
}

static inline bool get_int(sqlite3_stmt *statement, int column, const char *field, int64_t *ret,
                           struct rows_fault *fault)
{
	sqlite3_value *value = sqlite3_column_value(statement, column);
	int type = sqlite3_value_type(value);

	if (__builtin_expect(type != SQLITE_INTEGER, 0)) {
		rows_blame(fault, "%s is %s, not an integer", field, type_name(type));
		return false;
	}
	*ret = sqlite3_value_int64(value);
	return true;
}

static inline bool get_u64(sqlite3_stmt *statement, int column, const char *field, uint64_t *ret,
                           struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(statement, column, field, &value, fault) && rows_u64(field, value, ret, fault);
}

static inline bool get_u32(sqlite3_stmt *statement, int column, const char *field, uint32_t *ret,
                           struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(statement, column, field, &value, fault) && rows_u32(field, value, ret, fault);
}

static inline bool get_text(sqlite3_stmt *statement, int column, const char *field, struct shmeta_str *ret,
                            struct rows_fault *fault)
{
	sqlite3_value *value = sqlite3_column_value(statement, column);
	int type = sqlite3_value_type(value);

	if (__builtin_expect(type != SQLITE_TEXT, 0)) {
		rows_blame(fault, "%s is %s, not text", field, type_name(type));
		return false;
	}
	*ret = text_of(value);
	return true;
}

static bool get_tenant(bool has_column, sqlite3_stmt *statement, struct shmeta_str *ret, struct rows_fault *fault)
{
	*ret = rows_str(SHMETA_DEFAULT_TENANT);
	return !has_column || get_text(statement, 0, "organization_id", ret, fault);
}

static bool emit_is_null(void *row, int column)
{
	return sqlite3_value_type(sqlite3_column_value(row, column)) == SQLITE_NULL;
}

static bool emit_integer(void *row, int column, const char *field, int64_t *ret, struct rows_fault *fault)
{
	return get_int(row, column, field, ret, fault);
}

static bool emit_text(void *row, int column, const char *field, struct shmeta_str *ret, struct rows_fault *fault)
{
	return get_text(row, column, field, ret, fault);
}

static const struct emit_columns emit_columns = {.is_null = emit_is_null, .integer = emit_integer, .text = emit_text};

/* ---- cursors ---- */

/* The key of the row that it stands on. */
static bool read_key(const struct sqlite_reading *reading, struct sqlite_cursor *cursor, struct rows_fault *fault)
{
	rows_faultless(fault);
	return get_tenant(reading->state->shape.organization, cursor->statement, &cursor->at.tenant, fault) &&
	       get_text(cursor->statement, 1, cursor->at.cls == SHMETA_CLASS_TOPIC ? "name" : "topic",
	                &cursor->at.topic, fault) &&
	       (cursor->key_columns < 3 ||
	        get_int(cursor->statement, 2, "partition_id", &cursor->at.partition, fault)) &&
	       (cursor->key_columns < 4 || get_int(cursor->statement, 3, "base_offset", &cursor->at.base, fault));
}

/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs
 * below them is an orphan. */
enum shmeta_status sqlite_advance(struct sqlite_reading *reading, struct sqlite_cursor *cursor)
{
	enum shmeta_status status = SHMETA_OK;
	struct rows_fault fault;

	if (cursor->at.unread && !read_key(reading, cursor, &fault))
		emit_unread(&reading->emit, cursor->at.cls, cursor->statement, &fault);
	cursor->at.unread = false;
	while (status == SHMETA_OK) {
		int rc = sqlite3_step(cursor->statement);

		if (rc != SQLITE_ROW) {
			sqlite3_stmt *ended = cursor->statement;

			cursor->statement = NULL;
			cursor->at.on = false;
			if (rc != SQLITE_DONE)
				status = read_failed(reading, ended, rc);
			sqlite3_reset(ended);
			return status;
		}
		cursor->at.on = true;
		status = progress_row(&reading->progress);
		if (cursor->index_column >= 0)
			cursor->at.index = sqlite3_column_int64(cursor->statement, cursor->index_column);
		if (cursor->key_columns == 0 || read_key(reading, cursor, &fault))
			return status;
		cursor->at.unread = cursor->index_column >= 0 && cursor->at.index != reading->walk.index;
		if (cursor->at.unread)
			return status;
		emit_unread(&reading->emit, cursor->at.cls, cursor->statement, &fault);
	}
	return status;
}

enum shmeta_status sqlite_cursor_start(struct sqlite_reading *reading, struct sqlite_cursor *cursor,
                                       enum sqlite_statement which, enum shmeta_class cls, int index_column)
{
	enum shmeta_status status = SHMETA_OK;

	*cursor = (struct sqlite_cursor){.at = {.cls = cls, .index = -1}, .index_column = index_column};
	cursor->key_columns = cls == SHMETA_CLASS_TOPIC       ? 2
	                      : cls == SHMETA_CLASS_PARTITION ? 3
	                      : cls == SHMETA_CLASS_SEGMENT   ? 4
	                                                      : 0;
	cursor->statement = sqlite_prepare(reading->state, which, reading->err, &status);
	if (cursor->statement == NULL)
		return status;
	reading->state->counters.queries++;
	return sqlite_advance(reading, cursor);
}

void sqlite_cursor_stop(struct sqlite_cursor *cursor)
{
	if (cursor->statement != NULL)
		sqlite3_reset(cursor->statement);
	cursor->statement = NULL;
	cursor->at.on = false;
}

/* ---- rows ---- */

/* The partition, where it is there, has the cursor's id: that was checked with its row. */
static bool read_segment(const struct sqlite_reading *reading, const struct sqlite_cursor *cursor,
                         struct shmeta_segment *ret, struct rows_fault *fault)
{
	sqlite3_stmt *statement = cursor->statement;

	ret->base_offset = (uint64_t)cursor->at.base;
	ret->partition_id = (uint32_t)cursor->at.partition;
	ret->min_timestamp_ms = ret->max_timestamp_ms = 0;
	ret->locator[0] = ret->locator[1] = 0;
	ret->position = 0;
	return get_u64(statement, 4, "end_offset", &ret->end_offset, fault) &&
	       get_u32(statement, 5, "record_count", &ret->record_count, fault) &&
	       get_u64(statement, 6, "size_bytes", &ret->size_bytes, fault) &&
	       get_int(statement, 7, "created_at", &ret->created_at_ms, fault) &&
	       (!reading->state->shape.timestamps ||
	        (get_int(statement, 8, "min_timestamp", &ret->min_timestamp_ms, fault) &&
	         get_int(statement, 9, "max_timestamp", &ret->max_timestamp_ms, fault))) &&
	       get_text(statement, 10, "id", &ret->id, fault) &&
	       get_text(statement, 11, "s3_bucket", &ret->s3_bucket, fault) &&
	       get_text(statement, 12, "s3_key", &ret->s3_key, fault) &&
	       (!reading->state->shape.slices || get_u64(statement, 13, "position", &ret->position, fault)) &&
	       rows_check_segment(ret, fault);
}

static enum shmeta_status walk_advance(struct walk *walk, struct walk_cursor *cursor)
{
	return sqlite_advance((struct sqlite_reading *)walk, (struct sqlite_cursor *)cursor);
}

static enum shmeta_status walk_topic(struct walk *walk, struct walk_cursor *cursor, bool *ret_there)
{
	return emit_topic(&((struct sqlite_reading *)walk)->emit, cursor, ((struct sqlite_cursor *)cursor)->statement,
	                  ret_there);
}

static enum shmeta_status walk_partition(struct walk *walk, struct walk_cursor *cursor, bool parent, bool *ret_there)
{
	return emit_partition(&((struct sqlite_reading *)walk)->emit, cursor,
	                      ((struct sqlite_cursor *)cursor)->statement, parent, ret_there);
}

static enum shmeta_status walk_segment(struct walk *walk, struct walk_cursor *cursor, bool parent,
                                       struct walk_last *last)
{
	struct sqlite_reading *reading = (struct sqlite_reading *)walk;
	struct shmeta_segment segment;
	struct rows_fault fault;
	bool there;

	rows_faultless(&fault);
	there = parent && read_segment(reading, (struct sqlite_cursor *)cursor, &segment, &fault);
	return emit_segment(reading->sink, cursor, parent, there ? &segment : NULL, last, &fault);
}

static const struct walk how_to_walk = {.index = -1,
                                        .advance = walk_advance,
                                        .topic = walk_topic,
                                        .partition = walk_partition,
                                        .segment = walk_segment};

/* After sqlite_ensure(), which learns the shape. */
struct sqlite_reading sqlite_reading_of(struct sqlite_state *state, const struct backend_sink *sink,
                                        struct backend_error *err)
{
	return (struct sqlite_reading){
		.walk = how_to_walk,
		.emit = {.columns = &emit_columns,
	                 .sink = sink,
	                 .scratch = &state->scratch,
	                 .organization = state->shape.organization,
	                 .agents_organization = state->shape.agents_organization,
	                 .leases_organization = state->shape.leases_organization},
		.state = state,
		.sink = sink,
		.err = err,
		.progress = {.sink = sink},
	};
}

/* ---- agents, groups, offsets, leases ---- */

/* All of a class; LIST: of every one. */
enum shmeta_status sqlite_read_others(struct sqlite_reading *reading, enum shmeta_class cls)
{
	static const enum sqlite_statement all[EMIT_OTHERS] = {[EMIT_AGENT] = ST_AGENTS,
	                                                       [EMIT_GROUP] = ST_GROUPS,
	                                                       [EMIT_OFFSET] = ST_OFFSETS,
	                                                       [EMIT_LEASE] = ST_LEASES};
	enum shmeta_status status = SHMETA_OK;

	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++) {
		sqlite3_stmt *statement;
		int rc = SQLITE_ROW;

		if (cls != SHMETA_CLASS_LIST && cls != emit_class((enum emit_other)i))
			continue;
		statement = sqlite_prepare(reading->state, all[i], reading->err, &status);
		if (statement == NULL)
			return status;
		reading->state->counters.queries++;
		while (status == SHMETA_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
			status = progress_row(&reading->progress);
			if (status == SHMETA_OK)
				status = emit_other(&reading->emit, (enum emit_other)i, statement);
		}
		if (status == SHMETA_OK && rc != SQLITE_DONE)
			status = read_failed(reading, statement, rc);
		sqlite3_reset(statement);
	}
	return status;
}
