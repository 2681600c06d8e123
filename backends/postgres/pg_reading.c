/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: rows on their way to a sink: from where libpq holds them, in their order,
 * decoded. */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_reading.h"

/* ---- columns: int8 and text, as every statement casts them ---- */

static bool is_null(const struct pg_row *row, int column)
{
	return row->data[column] == NULL;
}

static bool get_int(const struct pg_row *row, int column, const char *field, int64_t *ret, struct rows_fault *fault)
{
	uint64_t wire;

	if (__builtin_expect(is_null(row, column) || row->bytes[column] != sizeof wire, 0)) {
		rows_blame(fault, "%s is %s", field,
		           is_null(row, column) ? "NULL, or a number that no integer of 64 bits is" : "not an integer");
		return false;
	}
	memcpy(&wire, row->data[column], sizeof wire);
	*ret = (int64_t)be64toh(wire);
	return true;
}

static bool get_u64(const struct pg_row *row, int column, const char *field, uint64_t *ret, struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(row, column, field, &value, fault) && rows_u64(field, value, ret, fault);
}

static bool get_u32(const struct pg_row *row, int column, const char *field, uint32_t *ret, struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(row, column, field, &value, fault) && rows_u32(field, value, ret, fault);
}

static bool get_text(const struct pg_row *row, int column, const char *field, struct shmeta_str *ret,
                     struct rows_fault *fault)
{
	if (__builtin_expect(is_null(row, column), 0)) {
		rows_blame(fault, "%s is NULL, not text", field);
		return false;
	}
	*ret = (struct shmeta_str){row->data[column], (size_t)row->bytes[column]};
	return true;
}

static bool get_tenant(bool has_column, const struct pg_row *row, struct shmeta_str *ret, struct rows_fault *fault)
{
	*ret = rows_str(SHMETA_DEFAULT_TENANT);
	return !has_column || get_text(row, 0, "organization_id", ret, fault);
}

static bool emit_is_null(void *row, int column)
{
	return is_null(row, column);
}

static bool emit_integer(void *row, int column, const char *field, int64_t *ret, struct rows_fault *fault)
{
	if (!get_int(row, column, field, ret, fault))
		return false;
	/* So pg_write_number() says of the column that may be NULL that it holds none. */
	if (*ret == INT64_MIN && strcmp(field, "retention_ms") == 0) {
		rows_blame(fault, "%s is a number that no integer of 64 bits is", field);
		return false;
	}
	return true;
}

static bool emit_text(void *row, int column, const char *field, struct shmeta_str *ret, struct rows_fault *fault)
{
	return get_text(row, column, field, ret, fault);
}

static const struct emit_columns emit_columns = {.is_null = emit_is_null, .integer = emit_integer, .text = emit_text};

/* ---- rows from where they are ---- */

/* Whoever answers may not be the server that it should be. */
static enum shmeta_status judge_columns(const struct pg_reading *reading, const struct pg_row *row, int columns)
{
	if (row->columns >= columns)
		return SHMETA_OK;
	return backend_fail(reading->err, SHMETA_ERR_SOURCE,
	                    "%s: %s: a row of %d columns was answered, %d were asked for",
	                    reading->state->dialect->engine, reading->state->doing, row->columns, columns);
}

static void row_of_result(struct pg_row *row, const PGresult *result, int number)
{
	row->columns = PQnfields(result) < PG_COLUMNS_MAX ? PQnfields(result) : PG_COLUMNS_MAX;
	for (int i = 0; i < row->columns; i++) {
		row->data[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
		row->bytes[i] = PQgetlength(result, number, i);
	}
}

static bool take32(struct pg_cursor *cursor, int32_t *ret)
{
	uint32_t wire;

	if (cursor->copied_end - cursor->copied < (ptrdiff_t)sizeof wire)
		return false;
	memcpy(&wire, cursor->copied, sizeof wire);
	cursor->copied += sizeof wire;
	*ret = (int32_t)be32toh(wire);
	return true;
}

/* The next tuple of the piece. false: it is not one. *ret_end: the trailer. */
static bool take_tuple(struct pg_cursor *cursor, bool *ret_end)
{
	uint16_t wire;
	int columns;

	if (cursor->copied_end - cursor->copied < (ptrdiff_t)sizeof wire)
		return false;
	memcpy(&wire, cursor->copied, sizeof wire);
	cursor->copied += sizeof wire;
	columns = (int16_t)be16toh(wire);
	*ret_end = columns < 0;
	if (columns > PG_COLUMNS_MAX)
		return false;
	cursor->row.columns = columns;
	for (int i = 0; i < columns; i++) {
		int32_t bytes;

		if (!take32(cursor, &bytes) || (bytes > 0 && cursor->copied_end - cursor->copied < bytes))
			return false;
		cursor->row.data[i] = bytes < 0 ? NULL : cursor->copied;
		cursor->row.bytes[i] = bytes < 0 ? 0 : bytes;
		cursor->copied += bytes < 0 ? 0 : bytes;
	}
	return true;
}

static enum shmeta_status next_copied(struct pg_reading *reading, struct pg_cursor *cursor, bool *ret_there)
{
	static const char signature[] = "PGCOPY\n\377\r\n";
	enum { HEADER = 19 };
	bool end = false;

	for (;;) {
		enum shmeta_status status;
		size_t bytes = 0;

		if (cursor->copied != cursor->copied_end) {
			if (!take_tuple(cursor, &end))
				break;
			if (!end) {
				*ret_there = true;
				return SHMETA_OK;
			}
			cursor->copied = cursor->copied_end; /* then the end of the COPY itself */
		}
		status = pg_copy_read(reading->state, reading->conn, &cursor->copied, &bytes, reading->err);
		if (status != SHMETA_OK || cursor->copied == NULL)
			return status;
		cursor->copied_end = cursor->copied + bytes;
		if (!cursor->copy_begun) {
			int32_t extension = 0;

			if (bytes < HEADER || memcmp(cursor->copied, signature, sizeof signature) != 0)
				break;
			cursor->copy_begun = true;
			cursor->copied += HEADER - 4;
			if (!take32(cursor, &extension) || extension < 0 ||
			    extension > cursor->copied_end - cursor->copied)
				break;
			cursor->copied += extension;
		}
	}
	return backend_fail(reading->err, SHMETA_ERR_SOURCE, "%s: %s: a COPY that is not in PostgreSQL's binary format",
	                    reading->state->dialect->engine, reading->state->doing);
}

static enum shmeta_status next_row(struct pg_reading *reading, struct pg_cursor *cursor, bool *ret_there)
{
	enum shmeta_status status = SHMETA_OK;

	*ret_there = false;
	if (cursor->copies)
		status = next_copied(reading, cursor, ret_there);
	else if (cursor->streams) {
		PQclear(cursor->result);
		cursor->next = 0;
		status = pg_next_row(reading->state, reading->conn, &cursor->result, reading->err);
	}
	if (status == SHMETA_OK && cursor->result != NULL && cursor->next < PQntuples(cursor->result)) {
		row_of_result(&cursor->row, cursor->result, cursor->next++);
		*ret_there = true;
	}
	return status == SHMETA_OK && *ret_there ? judge_columns(reading, &cursor->row, cursor->columns) : status;
}

static int64_t index_of(const struct pg_cursor *cursor)
{
	struct rows_fault ignored;
	int64_t index = -1;

	rows_faultless(&ignored);
	if (cursor->index_column >= 0)
		(void)get_int(&cursor->row, cursor->index_column, "index", &index, &ignored);
	return index;
}

/* The key of the row that it stands on. */
static bool read_key(const struct pg_reading *reading, struct pg_cursor *cursor, struct rows_fault *fault)
{
	struct walk_cursor *at = &cursor->at;

	rows_faultless(fault);
	return get_tenant(reading->state->shape.organization, &cursor->row, &at->tenant, fault) &&
	       get_text(&cursor->row, 1, at->cls == SHMETA_CLASS_TOPIC ? "name" : "topic", &at->topic, fault) &&
	       (cursor->key_columns < 3 || get_int(&cursor->row, 2, "partition_id", &at->partition, fault)) &&
	       (cursor->key_columns < 4 || get_int(&cursor->row, 3, "base_offset", &at->base, fault));
}

/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs
 * below them is an orphan. */
enum shmeta_status pg_advance(struct walk *walk, struct walk_cursor *at)
{
	struct pg_reading *reading = (struct pg_reading *)walk;
	struct pg_cursor *cursor = (struct pg_cursor *)at;
	enum shmeta_status status = SHMETA_OK;
	struct rows_fault fault;

	if (at->unread && !read_key(reading, cursor, &fault))
		emit_unread(&reading->emit, at->cls, &cursor->row, &fault);
	at->unread = false;
	while (status == SHMETA_OK) {
		if (reading->progress.loading)
			reading->state->doing = at->cls == SHMETA_CLASS_TOPIC       ? "loading the topics of"
			                        : at->cls == SHMETA_CLASS_PARTITION ? "loading the partitions of"
			                                                            : "loading the segments of";
		status = next_row(reading, cursor, &at->on);
		if (status != SHMETA_OK || !at->on) {
			at->on = false;
			return status;
		}
		status = progress_row(&reading->progress);
		at->index = index_of(cursor);
		if (read_key(reading, cursor, &fault))
			return status;
		at->unread = cursor->index_column >= 0 && at->index != walk->index;
		if (at->unread)
			return status;
		emit_unread(&reading->emit, at->cls, &cursor->row, &fault);
	}
	at->on = false;
	return status;
}

struct pg_cursor pg_cursor_of(enum shmeta_class cls, int index_column)
{
	int columns = cls == SHMETA_CLASS_TOPIC ? 8 : cls == SHMETA_CLASS_PARTITION ? 6 : 14;

	return (struct pg_cursor){.at = {.cls = cls, .index = -1},
	                          .columns = columns + (index_column >= 0),
	                          .index_column = index_column,
	                          .key_columns = cls == SHMETA_CLASS_TOPIC       ? 2
	                                         : cls == SHMETA_CLASS_PARTITION ? 3
	                                                                         : 4};
}

void pg_cursor_end(struct pg_cursor *cursor)
{
	PQclear(cursor->result);
	cursor->result = NULL;
	cursor->at.on = false;
}

/* ---- rows to the sink ---- */

static enum shmeta_status walk_topic(struct walk *walk, struct walk_cursor *at, bool *ret_there)
{
	return emit_topic(&((struct pg_reading *)walk)->emit, at, &((struct pg_cursor *)at)->row, ret_there);
}

static enum shmeta_status walk_partition(struct walk *walk, struct walk_cursor *at, bool parent, bool *ret_there)
{
	return emit_partition(&((struct pg_reading *)walk)->emit, at, &((struct pg_cursor *)at)->row, parent,
	                      ret_there);
}

/* The partition, where it is there, has the cursor's id: that was checked with its row. */
static bool read_segment(const struct pg_reading *reading, const struct walk_cursor *at, struct shmeta_segment *ret,
                         struct rows_fault *fault)
{
	const struct pg_row *row = &((const struct pg_cursor *)at)->row;

	*ret = (struct shmeta_segment){.base_offset = (uint64_t)at->base, .partition_id = (uint32_t)at->partition};
	return get_u64(row, 4, "end_offset", &ret->end_offset, fault) &&
	       get_u32(row, 5, "record_count", &ret->record_count, fault) &&
	       get_u64(row, 6, "size_bytes", &ret->size_bytes, fault) &&
	       get_int(row, 7, "created_at", &ret->created_at_ms, fault) &&
	       (!reading->state->shape.timestamps ||
	        (get_int(row, 8, "min_timestamp", &ret->min_timestamp_ms, fault) &&
	         get_int(row, 9, "max_timestamp", &ret->max_timestamp_ms, fault))) &&
	       get_text(row, 10, "id", &ret->id, fault) && get_text(row, 11, "s3_bucket", &ret->s3_bucket, fault) &&
	       get_text(row, 12, "s3_key", &ret->s3_key, fault) &&
	       (!reading->state->shape.own || get_u64(row, 13, "position", &ret->position, fault)) &&
	       rows_check_segment(ret, fault);
}

static enum shmeta_status walk_segment(struct walk *walk, struct walk_cursor *at, bool parent, struct walk_last *last)
{
	struct pg_reading *reading = (struct pg_reading *)walk;
	struct shmeta_segment segment;
	struct rows_fault fault;
	bool there;

	rows_faultless(&fault);
	there = parent && read_segment(reading, at, &segment, &fault);
	return emit_segment(reading->sink, at, parent, there ? &segment : NULL, last, &fault);
}

const struct pg_other pg_others[EMIT_OTHERS] = {
	[EMIT_AGENT] = {PG_AGENTS, PG_KEY_AGENTS, 8, "loading the agents of"},
	[EMIT_GROUP] = {PG_GROUPS, PG_KEY_GROUPS, 4, "loading the groups of"},
	[EMIT_OFFSET] = {PG_OFFSETS, PG_KEY_OFFSETS, 7, "loading the committed offsets of"},
	[EMIT_LEASE] = {PG_LEASES, PG_KEY_LEASES, 7, "loading the leases of"},
};

/* Those of the key with this number; -1: all. */
enum shmeta_status pg_emit_others(struct pg_reading *reading, enum emit_other other, struct pg_list *list,
                                  int64_t index)
{
	enum shmeta_status status = SHMETA_OK;
	struct pg_row row;

	for (; status == SHMETA_OK && list->result != NULL && list->next < PQntuples(list->result); list->next++) {
		if (index >= 0 && pg_int(list->result, list->next, pg_others[other].index_column) != index)
			break;
		row_of_result(&row, list->result, list->next);
		status = judge_columns(reading, &row, pg_others[other].index_column);
		if (status == SHMETA_OK)
			status = progress_row(&reading->progress);
		if (status == SHMETA_OK)
			status = emit_other(&reading->emit, other, &row);
	}
	return status;
}

/* In its transaction, which may be one on a connection that has just learned the shape anew. */
void pg_reading_begin(struct pg_reading *reading, struct backend_error *err)
{
	const struct pg_shape *shape = &reading->state->shape;

	reading->err = err;
	reading->emit = (struct emit){.columns = &emit_columns,
	                              .sink = reading->sink,
	                              .scratch = &reading->state->scratch,
	                              .organization = shape->organization,
	                              .agents_organization = shape->agents_organization,
	                              .leases_organization = shape->leases_organization};
}

struct pg_reading pg_reading_of(struct pg_state *state, struct pg_conn *conn, const struct backend_sink *sink)
{
	return (struct pg_reading){.walk = {.index = -1,
	                                    .advance = pg_advance,
	                                    .topic = walk_topic,
	                                    .partition = walk_partition,
	                                    .segment = walk_segment},
	                           .state = state,
	                           .conn = conn,
	                           .sink = sink,
	                           .progress = {.sink = sink}};
}

/* The server answers, but not for some row: a value that cannot be converted (22), a page that
 * cannot be read (XX, 58030) or whose file is gone (58P01), more than it can hold (54), a function
 * of a view that raises (P0001). Then it is not the source that is away. */
enum shmeta_status pg_reading_failed(const struct pg_conn *conn, enum shmeta_status status, struct backend_error *err)
{
	static const char *const rows[] = {"22", "54", "58030", "58P01", "P0001", "XX"};
	bool one = false;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		one |= pg_failed_with(conn, rows[i]);
	if (status != SHMETA_ERR_SOURCE || !one || conn->stale_plan || !pg_connected(conn))
		return status;
	if (err != NULL)
		err->code = SHMETA_ERR_INVALID_ARGUMENT;
	return SHMETA_ERR_INVALID_ARGUMENT;
}

enum shmeta_status pg_question_failed(const struct pg_conn *conn, enum shmeta_status status, struct backend_error *err)
{
	if (status != SHMETA_ERR_SOURCE)
		return status;
	if (pg_reading_failed(conn, status, NULL) != status)
		return backend_alone(err, status);
	if (!pg_failed_with(conn, "55P03") || !pg_connected(conn))
		return status;
	if (err != NULL)
		err->code = SHMETA_ERR_BUSY;
	return SHMETA_ERR_BUSY;
}
