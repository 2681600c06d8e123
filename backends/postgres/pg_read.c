/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: load() and fetch().
 *
 * Topics and partitions are few: each is one result, held in memory. Segments are many: they stream, by COPY where they are all
 * wanted, row by row where some are. Rows are handed on where libpq holds them. */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/postgres.h"
#include "backends/sql/merge_join.h"
#include "backends/sql/row_decode.h"

enum { PROGRESS_ROWS = 16384, PROGRESS_NS = 100000000, CHUNK_KEYS = 4096, COLUMNS_MAX = 16, LOAD_PATIENCE = 60 };

struct reading {
	struct walk walk; /* first: what the walk calls back with */
	struct emit emit;
	struct pg_state *state;
	struct pg_conn *conn;
	const struct backend_sink *sink;
	struct backend_error *err;
	enum pg_statement keys; /* sink->key: by which statement */
	bool loading, follower; /* follower: topics, partitions and segments from the nearest replicas */
	uint64_t rows, total, told;
	uint64_t told_ns;
};

struct row {
	int columns;
	const char *data[COLUMNS_MAX]; /* NULL: null */
	int bytes[COLUMNS_MAX];
};

/* One ordered result, wherever its rows come from. */
struct cursor {
	struct walk_cursor at; /* first */
	struct row row;
	int key_columns;  /* tenant, topic, partition_id, base_offset: how many of them it is ordered by */
	int index_column; /* of the key's number; -1: not in a fetch */
	PGresult *result; /* of all rows, or of the one row that streams */
	int next;         /* row of result */
	bool streams, copies;
	const char *copied, *copied_end; /* not yet taken of a piece of a COPY */
	bool copy_begun;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static enum shmeta_status tell(struct reading *reading)
{
	uint64_t now = now_ns();

	reading->told = reading->rows;
	if (!reading->loading || reading->sink->progress == NULL)
		return SHMETA_OK;
	if (now - reading->told_ns < PROGRESS_NS && reading->rows % (4 * PROGRESS_ROWS) != 0)
		return SHMETA_OK;
	reading->told_ns = now;
	if (reading->total != 0 && reading->rows > reading->total)
		reading->total = reading->rows;
	return reading->sink->progress(reading->sink->arg, reading->rows, reading->total);
}

/* While the server sorts, and nothing comes. */
static enum shmeta_status tick(void *arg)
{
	struct reading *reading = arg;

	return reading->sink->progress == NULL
	               ? SHMETA_OK
	               : reading->sink->progress(reading->sink->arg, reading->rows, reading->total);
}

/* ---- columns: int8 and text, as every statement casts them ------------------------------------------------------------------------ */

static bool is_null(const struct row *row, int column)
{
	return row->data[column] == NULL;
}

static bool get_int(const struct row *row, int column, const char *field, int64_t *ret, struct rows_fault *fault)
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

static bool get_u64(const struct row *row, int column, const char *field, uint64_t *ret, struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(row, column, field, &value, fault) && rows_u64(field, value, ret, fault);
}

static bool get_u32(const struct row *row, int column, const char *field, uint32_t *ret, struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(row, column, field, &value, fault) && rows_u32(field, value, ret, fault);
}

static bool get_text(const struct row *row, int column, const char *field, struct shmeta_str *ret,
                     struct rows_fault *fault)
{
	if (__builtin_expect(is_null(row, column), 0)) {
		rows_blame(fault, "%s is NULL, not text", field);
		return false;
	}
	*ret = (struct shmeta_str){row->data[column], (size_t)row->bytes[column]};
	return true;
}

static bool get_tenant(bool has_column, const struct row *row, struct shmeta_str *ret, struct rows_fault *fault)
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
	/* So pg_number() says of the column that may be NULL that it holds none. */
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

/* ---- rows from where they are ------------------------------------------------------------------------------------------------------ */

static void row_of_result(struct row *row, const PGresult *result, int number)
{
	row->columns = PQnfields(result) < COLUMNS_MAX ? PQnfields(result) : COLUMNS_MAX;
	for (int i = 0; i < row->columns; i++) {
		row->data[i] = PQgetisnull(result, number, i) ? NULL : PQgetvalue(result, number, i);
		row->bytes[i] = PQgetlength(result, number, i);
	}
}

static bool take32(struct cursor *cursor, int32_t *ret)
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
static bool take_tuple(struct cursor *cursor, bool *ret_end)
{
	uint16_t wire;
	int columns;

	if (cursor->copied_end - cursor->copied < (ptrdiff_t)sizeof wire)
		return false;
	memcpy(&wire, cursor->copied, sizeof wire);
	cursor->copied += sizeof wire;
	columns = (int16_t)be16toh(wire);
	*ret_end = columns < 0;
	if (columns > COLUMNS_MAX)
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

static enum shmeta_status next_copied(struct reading *reading, struct cursor *cursor, bool *ret_there)
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

static enum shmeta_status next_row(struct reading *reading, struct cursor *cursor, bool *ret_there)
{
	enum shmeta_status status = SHMETA_OK;

	*ret_there = false;
	if (cursor->copies)
		return next_copied(reading, cursor, ret_there);
	if (cursor->streams) {
		PQclear(cursor->result);
		cursor->next = 0;
		status = pg_next_row(reading->state, reading->conn, &cursor->result, reading->err);
	}
	if (status == SHMETA_OK && cursor->result != NULL && cursor->next < PQntuples(cursor->result)) {
		row_of_result(&cursor->row, cursor->result, cursor->next++);
		*ret_there = true;
	}
	return status;
}

static int64_t index_of(const struct cursor *cursor)
{
	struct rows_fault ignored;
	int64_t index = -1;

	rows_faultless(&ignored);
	if (cursor->index_column >= 0)
		(void)get_int(&cursor->row, cursor->index_column, "index", &index, &ignored);
	return index;
}

/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs below them is an orphan. */
static enum shmeta_status advance(struct walk *walk, struct walk_cursor *at)
{
	struct reading *reading = (struct reading *)walk;
	struct cursor *cursor = (struct cursor *)at;
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK) {
		struct rows_fault fault;

		rows_faultless(&fault);
		if (reading->loading)
			reading->state->doing = at->cls == SHMETA_CLASS_TOPIC       ? "loading the topics of"
			                        : at->cls == SHMETA_CLASS_PARTITION ? "loading the partitions of"
			                                                            : "loading the segments of";
		status = next_row(reading, cursor, &at->on);
		if (status != SHMETA_OK || !at->on) {
			at->on = false;
			return status;
		}
		if (++reading->rows - reading->told >= PROGRESS_ROWS)
			status = tell(reading);
		at->index = index_of(cursor);
		if (get_tenant(reading->state->shape.organization, &cursor->row, &at->tenant, &fault) &&
		    get_text(&cursor->row, 1, at->cls == SHMETA_CLASS_TOPIC ? "name" : "topic", &at->topic, &fault) &&
		    (cursor->key_columns < 3 || get_int(&cursor->row, 2, "partition_id", &at->partition, &fault)) &&
		    (cursor->key_columns < 4 || get_int(&cursor->row, 3, "base_offset", &at->base, &fault)))
			return status;
		emit_unread(&reading->emit, at->cls, &cursor->row, &fault);
	}
	at->on = false;
	return status;
}

static struct cursor cursor_of(enum shmeta_class cls, int index_column)
{
	return (struct cursor){.at = {.cls = cls, .index = -1},
	                       .index_column = index_column,
	                       .key_columns = cls == SHMETA_CLASS_TOPIC       ? 2
	                                      : cls == SHMETA_CLASS_PARTITION ? 3
	                                                                      : 4};
}

static void cursor_end(struct cursor *cursor)
{
	PQclear(cursor->result);
	cursor->result = NULL;
	cursor->at.on = false;
}

/* ---- rows to the sink -------------------------------------------------------------------------------------------------------------- */

static enum shmeta_status walk_topic(struct walk *walk, struct walk_cursor *at, bool *ret_there)
{
	return emit_topic(&((struct reading *)walk)->emit, at, &((struct cursor *)at)->row, ret_there);
}

static enum shmeta_status walk_partition(struct walk *walk, struct walk_cursor *at, bool parent, bool *ret_there)
{
	return emit_partition(&((struct reading *)walk)->emit, at, &((struct cursor *)at)->row, parent, ret_there);
}

/* The partition, where it is there, has the cursor's id: that was checked with its row. */
static bool read_segment(const struct reading *reading, const struct walk_cursor *at, struct shmeta_segment *ret,
                         struct rows_fault *fault)
{
	const struct row *row = &((const struct cursor *)at)->row;

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
	struct reading *reading = (struct reading *)walk;
	struct shmeta_segment segment;
	struct rows_fault fault;
	bool there;

	rows_faultless(&fault);
	there = parent && read_segment(reading, at, &segment, &fault);
	return emit_segment(reading->sink, at, parent, there ? &segment : NULL, last, &fault);
}

static const struct {
	enum pg_statement statement, keyed; /* all of them; those of keys, with the key's number in index_column */
	int index_column;
	const char *loading;
} others[EMIT_OTHERS] = {
	[EMIT_AGENT] = {PG_AGENTS, PG_KEY_AGENTS, 8, "loading the agents of"},
	[EMIT_GROUP] = {PG_GROUPS, PG_KEY_GROUPS, 4, "loading the groups of"},
	[EMIT_OFFSET] = {PG_OFFSETS, PG_KEY_OFFSETS, 7, "loading the committed offsets of"},
	[EMIT_LEASE] = {PG_LEASES, PG_KEY_LEASES, 7, "loading the leases of"},
};

/* A result of others, and how far it has been handed on. */
struct list {
	PGresult *result;
	int next;
};

/* Those of the key with this number; -1: all. */
static enum shmeta_status emit_others(struct reading *reading, enum emit_other other, struct list *list, int64_t index)
{
	enum shmeta_status status = SHMETA_OK;
	struct row row;

	for (; status == SHMETA_OK && list->result != NULL && list->next < PQntuples(list->result); list->next++) {
		if (index >= 0 && pg_int(list->result, list->next, others[other].index_column) != index)
			break;
		row_of_result(&row, list->result, list->next);
		if (++reading->rows - reading->told >= PROGRESS_ROWS)
			status = tell(reading);
		if (status == SHMETA_OK)
			status = emit_other(&reading->emit, other, &row);
	}
	return status;
}

/* ---- load --------------------------------------------------------------------------------------------------------------------------- */

/* The server may sort for long, and the sink may be slow: neither is a fault in a load. And it reads whole tables. */
static enum shmeta_status make_room(struct reading *reading)
{
	enum shmeta_status status =
		pg_execute(reading->state, reading->conn, "SET LOCAL statement_timeout = 0", NULL, reading->err);

	return status != SHMETA_OK
	               ? status
	               : pg_execute(reading->state, reading->conn,
	                            reading->state->dialect->triggers
	                                    ? "SELECT set_config('idle_in_transaction_session_timeout', '0', true), "
	                                      "set_config('enable_seqscan', 'on', true)"
	                                    : "SET LOCAL idle_in_transaction_session_timeout = 0",
	                            NULL, reading->err);
}

static enum shmeta_status load_others(struct reading *reading)
{
	enum shmeta_status status = SHMETA_OK;

	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++) {
		struct list list = {.result = NULL};

		reading->state->doing = others[i].loading;
		status = pg_query(reading->state, reading->conn, others[i].statement, NULL, &list.result, reading->err);
		reading->conn->given_out |= status == SHMETA_OK;
		if (status == SHMETA_OK)
			status = emit_others(reading, (enum emit_other)i, &list, -1);
		PQclear(list.result);
	}
	return status;
}

/* Names only. */
static enum shmeta_status load_keys(struct reading *reading, struct cursor *topics)
{
	enum shmeta_status status =
		pg_query(reading->state, reading->conn, reading->keys, NULL, &topics->result, reading->err);

	if (status == SHMETA_OK)
		status = advance(&reading->walk, &topics->at);
	while (status == SHMETA_OK && topics->at.on) {
		const struct backend_key key = {
			.cls = SHMETA_CLASS_TOPIC, .tenant = topics->at.tenant, .topic = topics->at.topic};

		reading->conn->given_out = true;
		status = reading->sink->key(reading->sink->arg, &key);
		if (status == SHMETA_OK)
			status = advance(&reading->walk, &topics->at);
	}
	return status;
}

static enum shmeta_status load_rows(struct reading *reading, struct cursor *topics, struct cursor *partitions,
                                    struct cursor *segments)
{
	struct pg_state *state = reading->state;
	struct pg_conn *conn = reading->conn;
	struct backend_error *err = reading->err;
	enum shmeta_status status;
	char *sql = NULL;

	/* One that does not even answer to this is not there. */
	conn->patience_ms = 0;
	/* Before anything is read. */
	status = reading->follower
	                 ? pg_execute(state, conn, "SET TRANSACTION AS OF SYSTEM TIME follower_read_timestamp()", NULL,
	                              err)
	                 : SHMETA_OK;
	if (status == SHMETA_OK)
		status = make_room(reading);
	if (status == SHMETA_OK && conn == &state->primary)
		status = pg_feed_baseline(state, conn, &reading->total, err);
	if (status == SHMETA_OK && reading->sink->progress != NULL)
		status = reading->sink->progress(reading->sink->arg, 0, reading->total);
	conn->patience_ms = LOAD_PATIENCE * pg_timeout_of(state);
	if (status == SHMETA_OK && reading->sink->key != NULL)
		return load_keys(reading, topics);
	if (status == SHMETA_OK)
		status = pg_send(state, conn, PG_LOAD_TOPICS, NULL, err);
	if (status == SHMETA_OK)
		status = pg_send(state, conn, PG_LOAD_PARTITIONS, NULL, err);
	if (status == SHMETA_OK)
		status = pg_sync(state, conn, err);
	if (status == SHMETA_OK)
		status = pg_next(state, conn, &topics->result, err);
	if (status == SHMETA_OK)
		status = pg_next(state, conn, &partitions->result, err);
	if (status == SHMETA_OK && state->dialect->copy_binary) {
		if (asprintf(&sql, "COPY (%s) TO STDOUT (FORMAT binary)", state->sql[PG_LOAD_SEGMENTS]) < 0)
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
		status = pg_copy_start(state, conn, sql, err);
		free(sql);
		segments->copies = true;
	} else if (status == SHMETA_OK) {
		status = pg_send(state, conn, PG_LOAD_SEGMENTS, NULL, err);
		if (status == SHMETA_OK)
			status = pg_sync(state, conn, err);
		segments->streams = true;
	}
	if (status == SHMETA_OK)
		status = advance(&reading->walk, &topics->at);
	if (status == SHMETA_OK)
		status = advance(&reading->walk, &partitions->at);
	if (status == SHMETA_OK)
		status = advance(&reading->walk, &segments->at);
	if (status != SHMETA_OK)
		return status;
	conn->given_out = true;
	status = walk_all(&reading->walk, &topics->at, &partitions->at, &segments->at);
	return status == SHMETA_OK && !reading->follower ? load_others(reading) : status;
}

/* In its transaction, which may be one on a connection that has just learned the shape anew. */
static void begin_reading(struct reading *reading, struct backend_error *err)
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

static enum shmeta_status load_body(void *arg, struct backend_error *err)
{
	struct reading *reading = arg;
	struct cursor topics = cursor_of(SHMETA_CLASS_TOPIC, -1), partitions = cursor_of(SHMETA_CLASS_PARTITION, -1),
		      segments = cursor_of(SHMETA_CLASS_SEGMENT, -1);
	enum shmeta_status status;

	begin_reading(reading, err);
	reading->rows = reading->told = 0;
	reading->told_ns = now_ns();
	status = load_rows(reading, &topics, &partitions, &segments);
	cursor_end(&topics);
	cursor_end(&partitions);
	cursor_end(&segments);
	return status;
}

/* Behind a load from followers: what lives for seconds is of now. */
static enum shmeta_status others_body(void *arg, struct backend_error *err)
{
	struct reading *reading = arg;
	enum shmeta_status status;

	begin_reading(reading, err);
	status = make_room(reading);
	return status == SHMETA_OK ? load_others(reading) : status;
}

/* *ret_again: it did not come to a row, and the load is to be done as any other. */
static enum shmeta_status load_from_followers(struct reading *reading, bool *ret_again, struct backend_error *err)
{
	struct pg_state *state = reading->state;
	enum shmeta_status status;

	status = pg_transaction(state, reading->conn, PG_BEGIN_READ, load_body, reading, err);
	*ret_again = (status == SHMETA_ERR_SOURCE || status == SHMETA_ERR_CONFIG) && !reading->conn->given_out;
	state->follower.refused = *ret_again && pg_connected(reading->conn);
	if (status == SHMETA_OK)
		status = pg_transaction(state, reading->conn, PG_BEGIN_READ, others_body, reading, err);
	/* Whatever it was: the next one reads what is there now. */
	if (status != SHMETA_OK)
		pg_follower_passed(state);
	return status;
}

static struct reading reading_of(struct pg_state *state, struct pg_conn *conn, const struct backend_sink *sink)
{
	return (struct reading){
		.walk = {.advance = advance, .topic = walk_topic, .partition = walk_partition, .segment = walk_segment},
		.state = state,
		.conn = conn,
		.sink = sink};
}

/* The server answers, but not for some row: a value that cannot be converted (22), a page that cannot be read (XX001, XX002), more than
 * it can hold (54), a function of a view that raises (P0001). Then it is not the source that is away. */
static enum shmeta_status of_rows(const struct pg_conn *conn, enum shmeta_status status, struct backend_error *err)
{
	if (status != SHMETA_ERR_SOURCE ||
	    !(pg_failed_with(conn, "22") || pg_failed_with(conn, "54") || pg_failed_with(conn, "P0001") ||
	      pg_failed_with(conn, "XX001") || pg_failed_with(conn, "XX002")))
		return status;
	if (err != NULL)
		err->code = SHMETA_ERR_INVALID_ARGUMENT;
	return SHMETA_ERR_INVALID_ARGUMENT;
}

/* Everything could not be read: for which lock. */
static enum shmeta_status name_lock(struct pg_state *state, struct backend_error *err)
{
	const struct backend_key all[] = {{.cls = SHMETA_CLASS_TOPIC, .with_segments = 1},
	                                  {.cls = SHMETA_CLASS_AGENT},
	                                  {.cls = SHMETA_CLASS_LEASE},
	                                  {.cls = SHMETA_CLASS_OFFSET}};
	struct backend_error mine = {.code = SHMETA_OK};

	if (pg_judge_locked(state, all, sizeof all / sizeof all[0], &mine) == SHMETA_ERR_BUSY && err != NULL)
		(void)backend_fail(err, SHMETA_ERR_SOURCE, "%s", mine.text);
	return SHMETA_ERR_SOURCE;
}

/* A name that cannot be read keeps all others from being listed: those that the partitions have come instead. */
static enum shmeta_status load_other_keys(struct reading *reading, struct backend_error *err)
{
	const struct backend_key unlisted = {.cls = SHMETA_CLASS_TOPIC,
	                                     .unread = BACKEND_UNREAD_TENANT | BACKEND_UNREAD_TOPIC};
	struct backend_error first = *err;
	enum shmeta_status status;

	reading->keys = PG_LOAD_OTHER_KEYS;
	status = pg_transaction(reading->state, reading->conn, PG_BEGIN_READ, load_body, reading, err);
	if (status == SHMETA_OK)
		reading->sink->quarantine(reading->sink->arg, &unlisted, first.text);
	return status;
}

enum shmeta_status pg_load(void *data, const struct backend_sink *sink, struct backend_error *err)
{
	struct pg_state *state = data;
	struct pg_conn *conn = NULL;
	struct reading reading;
	enum shmeta_status status;
	uint64_t total = 0;
	bool follower = false, again = true;

	state->doing = "loading from";
	state->careful = false;
	/* What kept the feed away may be gone. */
	if (!state->shape.feed && state->dialect->triggers)
		state->attached = false;
	status = pg_ensure(state, err);
	if (status == SHMETA_OK)
		status = pg_feed_meet(state, err);
	if (status == SHMETA_OK)
		status = pg_loader(state, &conn, &total, err);
	if (status == SHMETA_OK && conn == &state->primary)
		status = pg_follower_load(state, sink, &follower, err);
	if (status == SHMETA_OK)
		status = pg_changefeed_load(state, follower ? state->follower.read_us : 0, err);
	if (status != SHMETA_OK)
		return status;
	reading = reading_of(state, conn, sink);
	reading.total = total;
	reading.loading = true;
	reading.keys = PG_LOAD_TOPIC_KEYS;
	conn->tick = tick;
	conn->tick_arg = &reading;
	reading.follower = follower;
	if (follower)
		status = load_from_followers(&reading, &again, err);
	reading.follower = false;
	if (again) {
		status = pg_transaction(state, conn, PG_BEGIN_READ, load_body, &reading, err);
		pg_follower_passed(state);
	}
	conn->patience_ms = 0;
	conn->tick = NULL;
	if (status == SHMETA_ERR_SOURCE && conn == &state->primary && pg_failed_with(conn, "55P03"))
		status = name_lock(state, err);
	status = of_rows(conn, status, err);
	if (status == SHMETA_ERR_INVALID_ARGUMENT && sink->key != NULL && err != NULL)
		status = of_rows(conn, load_other_keys(&reading, err), err);
	if (status == SHMETA_ERR_SOURCE && conn == &state->replica && err != NULL)
		pg_shun(state, conn, err);
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, reading.rows, reading.rows);
	pg_feed_loaded(state, status == SHMETA_OK);
	if (status == SHMETA_OK) {
		pg_changefeed_loaded(state);
		state->told = state->source;
		state->shown_connects = state->primary.connects;
	}
	return status;
}

/* ---- fetch -------------------------------------------------------------------------------------------------------------------------- */

enum kind {
	KIND_TOPIC,
	KIND_TOPIC_SEGMENTS,
	KIND_TOPIC_ROW,
	KIND_PARTITION,
	KIND_SEGMENT,
	KIND_AGENT,
	KIND_OFFSET,
	KIND_GROUP, /* with all of its offsets */
	KIND_LEASE,
	KIND_CLASS, /* KIND_CLASS + its number: all of a class */
	KINDS = KIND_CLASS + SHMETA_CLASS_COUNT
};

static enum kind kind_of(const struct backend_key *key)
{
	switch (key->cls) {
	case SHMETA_CLASS_TOPIC:
		return key->row_only ? KIND_TOPIC_ROW : key->with_segments ? KIND_TOPIC_SEGMENTS : KIND_TOPIC;
	case SHMETA_CLASS_PARTITION:
		return KIND_PARTITION;
	case SHMETA_CLASS_SEGMENT:
		return KIND_SEGMENT;
	default:
		if (backend_key_is_class(key))
			return (enum kind)(KIND_CLASS + (int)key->cls);
		return key->cls == SHMETA_CLASS_AGENT   ? KIND_AGENT
		       : key->cls == SHMETA_CLASS_LEASE ? KIND_LEASE
		       : key->topic.bytes > 0           ? KIND_OFFSET
		                                        : KIND_GROUP;
	}
}

/* Kinds as bits: those that a statement serves. */
#define BIT(kind) (1u << (kind))
enum {
	OF_TOPICS = BIT(KIND_TOPIC) | BIT(KIND_TOPIC_SEGMENTS) | BIT(KIND_TOPIC_ROW),
	OF_FULL = BIT(KIND_TOPIC) | BIT(KIND_TOPIC_SEGMENTS),
	OF_PARTITIONS = OF_FULL | BIT(KIND_PARTITION) | BIT(KIND_SEGMENT),
	OF_SEGMENTS = BIT(KIND_TOPIC_SEGMENTS) | BIT(KIND_SEGMENT),
	OF_GROUPS = BIT(KIND_OFFSET) | BIT(KIND_GROUP)
};
static const uint32_t of_others[EMIT_OTHERS] = {[EMIT_AGENT] = BIT(KIND_AGENT),
                                                [EMIT_GROUP] = OF_GROUPS,
                                                [EMIT_OFFSET] = OF_GROUPS,
                                                [EMIT_LEASE] = BIT(KIND_LEASE)};

/* Columns of keys, as the statements want them. */
struct columns {
	struct pg_array index, tenant, topic, name, partition, low, high;
};

/* Sets of keys; a statement reads one or two. */
enum set { TOPICS, FULL, WHOLE, PLACES, RANGES, AGENTS, GROUPS, OFFSETS, ALL_OFFSETS, LEASES, SETS };

struct fetching {
	struct reading reading;
	const struct backend_key *keys; /* of this chunk */
	size_t count;
	size_t at, all; /* the chunk among the keys of the call */
	struct columns sets[SETS];
	struct cursor topic_rows, partition_rows, segment_rows;
	struct list keyed[EMIT_OTHERS], whole[EMIT_OTHERS];
};

static void columns_start(struct columns *columns)
{
	pg_array_start(&columns->index, PG_ELEMENT_INT8);
	pg_array_start(&columns->tenant, PG_ELEMENT_TEXT);
	pg_array_start(&columns->topic, PG_ELEMENT_TEXT);
	pg_array_start(&columns->name, PG_ELEMENT_TEXT);
	pg_array_start(&columns->partition, PG_ELEMENT_INT8);
	pg_array_start(&columns->low, PG_ELEMENT_INT8);
	pg_array_start(&columns->high, PG_ELEMENT_INT8);
}

static void columns_free(struct columns *columns)
{
	pg_array_free(&columns->index);
	pg_array_free(&columns->tenant);
	pg_array_free(&columns->topic);
	pg_array_free(&columns->name);
	pg_array_free(&columns->partition);
	pg_array_free(&columns->low);
	pg_array_free(&columns->high);
}

static void columns_add(struct columns *columns, size_t index, const struct backend_key *key)
{
	pg_array_int(&columns->index, (int64_t)index);
	pg_array_text(&columns->tenant, key->tenant);
	pg_array_text(&columns->topic, key->topic);
	pg_array_text(&columns->name, key->name);
	pg_array_int(&columns->partition, key->partition_id);
	pg_array_int(&columns->low, key->from > INT64_MAX ? INT64_MAX : (int64_t)key->from);
	pg_array_int(&columns->high, key->to > INT64_MAX ? INT64_MAX : (int64_t)key->to);
}

/* The columns by letter: index, tenant, topic (o), name, partition, low, high. */
static void give(struct pg_params *params, struct columns *columns, const char *which)
{
	for (; *which != '\0'; which++)
		pg_param_array(params, *which == 'i'   ? &columns->index
		                       : *which == 't' ? &columns->tenant
		                       : *which == 'o' ? &columns->topic
		                       : *which == 'n' ? &columns->name
		                       : *which == 'p' ? &columns->partition
		                       : *which == 'l' ? &columns->low
		                                       : &columns->high);
}

static bool has_nul(struct shmeta_str text)
{
	return text.bytes > 0 && memchr(text.data, '\0', text.bytes) != NULL;
}

/* Can the source have what the key names? A name with a NUL in it is none that a text column can hold. Agents are of one
 * namespace, and leases without a tenant of the default one. */
static bool is_possible(const struct pg_state *state, const struct backend_key *key, enum kind kind)
{
	if (has_nul(key->tenant) || has_nul(key->topic) || has_nul(key->name))
		return false;
	return kind == KIND_AGENT || (kind == KIND_LEASE && !state->shape.leases_organization) ||
	       pg_tenant_possible(state, key->tenant);
}

static uint32_t sort_keys(struct fetching *f)
{
	static const enum set sets[KIND_CLASS][3] = {
		[KIND_TOPIC] = {TOPICS, FULL, SETS},        [KIND_TOPIC_SEGMENTS] = {TOPICS, FULL, WHOLE},
		[KIND_PARTITION] = {PLACES, SETS, SETS},    [KIND_SEGMENT] = {PLACES, RANGES, SETS},
		[KIND_AGENT] = {AGENTS, SETS, SETS},        [KIND_OFFSET] = {GROUPS, OFFSETS, SETS},
		[KIND_GROUP] = {GROUPS, ALL_OFFSETS, SETS}, [KIND_LEASE] = {LEASES, SETS, SETS},
		[KIND_TOPIC_ROW] = {TOPICS, SETS, SETS}};
	uint32_t kinds = 0;

	_Static_assert(KINDS <= 32, "a bit for each kind");
	for (int i = 0; i < SETS; i++)
		columns_start(&f->sets[i]);
	for (size_t i = 0; i < f->count; i++) {
		const struct backend_key *key = &f->keys[i];
		enum kind kind = kind_of(key);

		if (kind < KIND_CLASS && !is_possible(f->reading.state, key, kind))
			continue;
		kinds |= BIT(kind);
		for (int n = 0; n < 3 && kind < KIND_CLASS && sets[kind][n] != SETS; n++)
			columns_add(&f->sets[sets[kind][n]], i, key);
	}
	return kinds;
}

static enum shmeta_status send_keyed(struct fetching *f, enum pg_statement which, enum set first, const char *columns,
                                     enum set second, const char *second_columns, struct backend_error *err)
{
	struct pg_params params;

	pg_params_clear(&params);
	give(&params, &f->sets[first], columns);
	if (second != SETS)
		give(&params, &f->sets[second], second_columns);
	return pg_send(f->reading.state, f->reading.conn, which, &params, err);
}

static enum shmeta_status send_chunk(struct fetching *f, uint32_t kinds, struct backend_error *err)
{
	static const struct {
		uint32_t kinds;
		enum pg_statement statement;
		enum set first, second;
		const char *columns, *second_columns;
	} table[] = {
		{BIT(KIND_AGENT), PG_KEY_AGENTS, AGENTS, SETS, "in", ""},
		{OF_GROUPS, PG_KEY_GROUPS, GROUPS, SETS, "itn", ""},
		{OF_GROUPS, PG_KEY_OFFSETS, OFFSETS, ALL_OFFSETS, "itnop", "itn"},
		{BIT(KIND_LEASE), PG_KEY_LEASES, LEASES, SETS, "itop", ""},
	};
	struct pg_state *state = f->reading.state;
	struct pg_conn *conn = f->reading.conn;
	enum shmeta_status status = SHMETA_OK;

	if ((kinds & OF_TOPICS) != 0)
		status = send_keyed(f, PG_KEY_TOPICS, TOPICS, "ito", SETS, "", err);
	/* Places alone, as after a write: what is not asked for need not be set up either. */
	if (status == SHMETA_OK && (kinds & OF_PARTITIONS) != 0)
		status = (kinds & OF_FULL) != 0 ? send_keyed(f, PG_KEY_ALL_PARTITIONS, FULL, "ito", PLACES, "itop", err)
		                                : send_keyed(f, PG_KEY_PARTITIONS, PLACES, "itop", SETS, "", err);
	for (size_t i = 0; status == SHMETA_OK && i < sizeof table / sizeof table[0]; i++)
		if ((kinds & table[i].kinds) != 0)
			status = send_keyed(f, table[i].statement, table[i].first, table[i].columns, table[i].second,
			                    table[i].second_columns, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & BIT(KIND_CLASS + (int)emit_class((enum emit_other)i))) != 0)
			status = pg_send(state, conn, others[i].statement, NULL, err);
	/* Last: they stream. */
	if (status == SHMETA_OK && (kinds & OF_SEGMENTS) != 0)
		status = (kinds & BIT(KIND_TOPIC_SEGMENTS)) != 0
		                 ? send_keyed(f, PG_KEY_ALL_SEGMENTS, WHOLE, "ito", RANGES, "itoplh", err)
		                 : send_keyed(f, PG_KEY_SEGMENTS, RANGES, "itoplh", SETS, "", err);
	if (status != SHMETA_OK)
		return status;
	return f->at + f->count == f->all ? pg_send_commit(state, conn, err) : pg_sync(state, conn, err);
}

static enum shmeta_status receive_chunk(struct fetching *f, uint32_t kinds, struct backend_error *err)
{
	struct pg_state *state = f->reading.state;
	struct pg_conn *conn = f->reading.conn;
	struct walk *walk = &f->reading.walk;
	enum shmeta_status status = SHMETA_OK;

	f->topic_rows = cursor_of(SHMETA_CLASS_TOPIC, 8);
	f->partition_rows = cursor_of(SHMETA_CLASS_PARTITION, 6);
	f->segment_rows = cursor_of(SHMETA_CLASS_SEGMENT, 14);
	if ((kinds & OF_TOPICS) != 0)
		status = pg_next(state, conn, &f->topic_rows.result, err);
	if (status == SHMETA_OK && (kinds & OF_PARTITIONS) != 0)
		status = pg_next(state, conn, &f->partition_rows.result, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & of_others[i]) != 0)
			status = pg_next(state, conn, &f->keyed[i].result, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & BIT(KIND_CLASS + (int)emit_class((enum emit_other)i))) != 0)
			status = pg_next(state, conn, &f->whole[i].result, err);
	if (status == SHMETA_OK)
		status = advance(walk, &f->topic_rows.at);
	if (status == SHMETA_OK)
		status = advance(walk, &f->partition_rows.at);
	if (status == SHMETA_OK && (kinds & OF_SEGMENTS) != 0) {
		f->segment_rows.streams = true;
		status = advance(walk, &f->segment_rows.at);
	}
	return status;
}

static enum shmeta_status emit_key_others(struct fetching *f, const struct backend_key *key, int64_t index, bool whole)
{
	enum shmeta_status status = SHMETA_OK;

	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++) {
		if (emit_class((enum emit_other)i) != key->cls)
			continue;
		if (whole)
			f->whole[i].next = 0; /* a class may be asked for twice */
		status = emit_others(&f->reading, (enum emit_other)i, whole ? &f->whole[i] : &f->keyed[i],
		                     whole ? -1 : index);
	}
	return status;
}

static enum shmeta_status emit_key(struct fetching *f, const struct backend_key *key, int64_t index, bool *ret_found)
{
	struct reading *reading = &f->reading;
	enum shmeta_status status = SHMETA_OK;
	bool parent = true, is_topic = key->cls == SHMETA_CLASS_TOPIC;

	if (kind_of(key) >= KIND_AGENT) {
		*ret_found = true;
		return emit_key_others(f, key, index, kind_of(key) >= KIND_CLASS);
	}
	if (is_topic) {
		parent = false;
		if (walk_is_on(&f->topic_rows.at, index)) {
			status = walk_topic(&reading->walk, &f->topic_rows.at, &parent);
			if (status == SHMETA_OK)
				status = advance(&reading->walk, &f->topic_rows.at);
		}
	}
	if (status == SHMETA_OK)
		status = walk_partitions(&reading->walk, &f->partition_rows.at, &f->segment_rows.at, index, parent,
		                         ret_found);
	if (is_topic)
		*ret_found = parent;
	return status;
}

static void end_chunk(struct fetching *f)
{
	cursor_end(&f->topic_rows);
	cursor_end(&f->partition_rows);
	cursor_end(&f->segment_rows);
	for (int i = 0; i < EMIT_OTHERS; i++) {
		PQclear(f->keyed[i].result);
		PQclear(f->whole[i].result);
		f->keyed[i] = f->whole[i] = (struct list){.result = NULL};
	}
}

static enum shmeta_status fetch_chunk(struct fetching *f, struct backend_error *err)
{
	const struct backend_sink *sink = f->reading.sink;
	uint32_t kinds = sort_keys(f);
	enum shmeta_status status = send_chunk(f, kinds, err);

	if (status == SHMETA_OK && f->at == 0 && f->reading.state->dialect->triggers)
		status = pg_next(f->reading.state, f->reading.conn, NULL, err);
	if (status == SHMETA_OK)
		status = receive_chunk(f, kinds, err);
	for (size_t i = 0; status == SHMETA_OK && i < f->count; i++) {
		bool found = false;

		f->reading.conn->given_out = true;
		status = sink->key_begin(sink->arg, &f->keys[i]);
		if (status == SHMETA_OK)
			status = emit_key(f, &f->keys[i], (int64_t)i, &found);
		if (status == SHMETA_OK)
			status = sink->key_end(sink->arg, &f->keys[i], found);
	}
	end_chunk(f);
	return status;
}

static enum shmeta_status fetch_body(void *arg, struct backend_error *err)
{
	struct fetching *f = arg;
	const struct backend_key *keys = f->keys;
	enum shmeta_status status = SHMETA_OK;

	begin_reading(&f->reading, err);
	f->reading.rows = f->reading.told = 0;
	if (f->reading.state->dialect->triggers)
		status = pg_send(f->reading.state, f->reading.conn, PG_KEY_BEGIN, NULL, err);
	for (f->at = 0; status == SHMETA_OK && f->at < f->all; f->at += f->count) {
		f->keys = keys + f->at;
		f->count = f->all - f->at < CHUNK_KEYS ? f->all - f->at : CHUNK_KEYS;
		status = fetch_chunk(f, err);
	}
	f->keys = keys;
	return status;
}

enum shmeta_status pg_fetch(void *data, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                            struct backend_error *err)
{
	struct pg_state *state = data;
	struct fetching f = {.keys = keys, .all = count};
	struct backend_error mine = {.code = SHMETA_OK};
	enum shmeta_status status;

	state->doing = "fetching from";
	state->careful = true;
	for (size_t i = 0; i < count; i++)
		if (keys[i].cls == SHMETA_CLASS_LIST || (unsigned)keys[i].cls >= SHMETA_CLASS_COUNT)
			return backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s: a key of class %d cannot be fetched",
			                    state->dialect->engine, (int)keys[i].cls);
	if (count == 0)
		return SHMETA_OK;
	status = pg_ensure(state, err);
	if (status == SHMETA_OK)
		status = pg_feed_told(state, err);
	if (status != SHMETA_OK)
		return status;
	if (pg_locked_lately(state)) {
		status = pg_judge_locked(state, keys, count, err);
		if (status != SHMETA_OK)
			return status;
	}
	f.reading = reading_of(state, pg_reader(state), sink);
	status = pg_transaction(state, f.reading.conn, PG_BEGIN_READ, fetch_body, &f, &mine);
	/* A replica cancels what stands in the way of its replay, and may be anything else: it is never needed. */
	if (status == SHMETA_ERR_SOURCE && f.reading.conn == &state->replica) {
		bool again = !f.reading.conn->given_out;

		pg_shun(state, &state->replica, &mine);
		if (again) {
			f.reading.conn = &state->primary;
			status = pg_transaction(state, f.reading.conn, PG_BEGIN_READ, fetch_body, &f, &mine);
		}
	}
	if (status == SHMETA_ERR_SOURCE && f.reading.conn == &state->primary &&
	    pg_failed_with(f.reading.conn, "55P03")) {
		status = pg_judge_locked(state, keys, count, &mine);
		if (status == SHMETA_OK) /* it has gone in the meantime */
			status = backend_fail(&mine, SHMETA_ERR_BUSY,
			                      "%s: a table was locked by another session for %u ms and more",
			                      state->dialect->engine, pg_lock_wait_of(state));
	}
	status = of_rows(f.reading.conn, status, &mine);
	if (status != SHMETA_OK && err != NULL)
		*err = mine;
	for (size_t i = 0; i < count; i++)
		if (keys[i].cls <= SHMETA_CLASS_SEGMENT) {
			pg_follower_passed(state);
			break;
		}
	for (int i = 0; i < SETS; i++)
		columns_free(&f.sets[i]);
	return status;
}

/* ---- texts -------------------------------------------------------------------------------------------------------------------------- */

struct text {
	char text[400];
};

/* The rows that belong to keys k, by the tenant's condition (or "") and another. table ends with a space and its alias. Each key looks for
 * its own: joined to many that a plan was not made for, or to a table of which one key may want the most, the server would go through
 * the table and look for the keys. */
static struct text rows_of(const struct pg_shape *shape, const char *table, const char *tenant, const char *condition)
{
	struct text ret;

	if (shape->by_index)
		snprintf(ret.text, sizeof ret.text, " CROSS JOIN LATERAL (SELECT * FROM %s WHERE %s%s OFFSET 0) %s",
		         table, tenant, condition, strrchr(table, ' ') + 1);
	else
		snprintf(ret.text, sizeof ret.text, " JOIN %s ON %s%s", table, tenant, condition);
	return ret;
}

bool pg_read_statements(struct pg_state *state)
{
	const struct pg_shape *shape = &state->shape;
	bool o = shape->organization;
	const char *c = state->dialect->collate, *cast = shape->tenant_uuid ? "::uuid" : "";
	const char *t_org = o ? "t.organization_id::text" : "NULL::text",
		   *p_org = o ? "p.organization_id::text" : "NULL::text",
		   *s_org = o ? "s.organization_id::text" : "NULL::text";
	char topic[2000], partition[2000], position[400], segment[4000], times[1000],
		t_key[80] = "", p_key[80] = "", s_key[80] = "", r_key[80] = "", order[80] = "";
	char agent[1200], group[1000], offset[1600], lease[1800];
	struct text one_partition, some_segments;
	bool ok;

#define NUMBER(table, alias, column) pg_number(shape, table, alias, column).text
	snprintf(topic, sizeof topic, "%s, t.name::text, %s, %s, %s, %s, t.config::text, %s", t_org,
	         NUMBER("topics", "t", "partition_count"), NUMBER("topics", "t", "retention_ms"),
	         NUMBER("topics", "t", "created_at"), NUMBER("topics", "t", "updated_at"),
	         shape->cleanup_policy ? "t.cleanup_policy::text" : "NULL::text");
	snprintf(partition, sizeof partition, "%s, p.topic::text, %s, %s, %s, %s", p_org,
	         NUMBER("partitions", "p", "partition_id"), NUMBER("partitions", "p", "high_watermark"),
	         NUMBER("partitions", "p", "created_at"), NUMBER("partitions", "p", "updated_at"));
	/* Where a slice lies in its object is looked up only while there are slices: another host may write the first one. */
	snprintf(
		position, sizeof position,
		shape->own
			? "CASE WHEN EXISTS(SELECT 1 FROM shmeta_slices) THEN coalesce((SELECT l.position FROM shmeta_slices l WHERE l.tenant = %s AND l.topic = s.topic AND "
			  "l.partition_id = s.partition_id AND l.base_offset = s.base_offset), 0) ELSE 0 END::int8"
			: "0::int8%.0s",
		o ? "s.organization_id::text" : "'" SHMETA_DEFAULT_TENANT "'");
	snprintf(times, sizeof times, "0::int8, 0::int8");
	if (shape->timestamps)
		snprintf(times, sizeof times, "%s, %s", NUMBER("segments", "s", "min_timestamp"),
		         NUMBER("segments", "s", "max_timestamp"));
	snprintf(segment, sizeof segment,
	         "%s, s.topic::text, %s, %s, %s, %s, %s, %s, %s, s.id::text, s.s3_bucket::text, s.s3_key::text, %s",
	         s_org, NUMBER("segments", "s", "partition_id"), NUMBER("segments", "s", "base_offset"),
	         NUMBER("segments", "s", "end_offset"), NUMBER("segments", "s", "record_count"),
	         NUMBER("segments", "s", "size_bytes"), NUMBER("segments", "s", "created_at"), times, position);
	if (o || shape->leases_organization)
		snprintf(r_key, sizeof r_key, "r.organization_id = k.tenant%s AND ", cast);
	if (o) {
		snprintf(t_key, sizeof t_key, "t.organization_id = k.tenant%s AND ", cast);
		snprintf(p_key, sizeof p_key, "p.organization_id = k.tenant%s AND ", cast);
		snprintf(s_key, sizeof s_key, "s.organization_id = k.tenant%s AND ", cast);
		snprintf(order, sizeof order, "organization_id::text%s, ", c);
	}
	one_partition = rows_of(shape, "partitions p", p_key, "p.topic = k.topic AND p.partition_id = k.id");
	some_segments =
		rows_of(shape, "segments s", s_key,
	                "s.topic = k.topic AND s.partition_id = k.id AND s.base_offset BETWEEN k.low AND k.high");
	/* A bare name behind ORDER BY would be the column that is given, with its cast: no index has that. */
	ok = pg_text_of(state, PG_LOAD_TOPIC_KEYS, "SELECT %s, t.name::text FROM topics t", t_org) &&
	     pg_text_of(state, PG_LOAD_OTHER_KEYS, "SELECT DISTINCT %s, p.topic::text FROM partitions p", p_org) &&
	     pg_text_of(state, PG_LOAD_TOPICS, "SELECT %s FROM topics t ORDER BY %st.name%s", topic, order, c) &&
	     pg_text_of(state, PG_LOAD_PARTITIONS, "SELECT %s FROM partitions p ORDER BY %sp.topic%s, p.partition_id",
	                partition, order, c) &&
	     pg_text_of(state, PG_LOAD_SEGMENTS,
	                "SELECT %s FROM segments s ORDER BY %ss.topic%s, s.partition_id, s.base_offset%s%s", segment,
	                order, c, shape->segment_place ? "" : ", s.id", shape->segment_place ? "" : c);
	snprintf(agent, sizeof agent,
	         "%s, r.agent_id::text, r.address::text, r.availability_zone::text, r.agent_group::text, %s, %s, "
	         "r.metadata::text",
	         shape->agents_organization ? "r.organization_id::text" : "NULL::text",
	         NUMBER("agents", "r", "last_heartbeat"), NUMBER("agents", "r", "started_at"));
	snprintf(group, sizeof group, "%s, r.group_id::text, %s, %s", o ? "r.organization_id::text" : "NULL::text",
	         NUMBER("consumer_groups", "r", "created_at"), NUMBER("consumer_groups", "r", "updated_at"));
	snprintf(offset, sizeof offset, "%s, r.group_id::text, r.topic::text, %s, %s, r.metadata::text, %s",
	         o ? "r.organization_id::text" : "NULL::text", NUMBER("consumer_offsets", "r", "partition_id"),
	         NUMBER("consumer_offsets", "r", "committed_offset"), NUMBER("consumer_offsets", "r", "committed_at"));
	snprintf(lease, sizeof lease, "%s, r.topic::text, %s, r.leader_agent_id::text, %s, %s, %s",
	         shape->leases_organization ? "r.organization_id::text" : "NULL::text",
	         NUMBER("partition_leases", "r", "partition_id"), NUMBER("partition_leases", "r", "lease_expires_at"),
	         NUMBER("partition_leases", "r", "acquired_at"), NUMBER("partition_leases", "r", "epoch"));
#undef NUMBER
	ok = ok && pg_text_of(state, PG_AGENTS, "SELECT %s FROM agents r", agent) &&
	     pg_text_of(state, PG_GROUPS, "SELECT %s FROM consumer_groups r", group) &&
	     pg_text_of(state, PG_OFFSETS, "SELECT %s FROM consumer_offsets r", offset) &&
	     pg_text_of(state, PG_LEASES, "SELECT %s FROM partition_leases r", lease);
	ok = ok &&
	     pg_text_of(state, PG_KEY_AGENTS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[]) k(i, name)%s ORDER BY k.i", agent,
	                rows_of(shape, "agents r", "", "r.agent_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_GROUPS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, name)%s "
	                "ORDER BY k.i",
	                group, rows_of(shape, "consumer_groups r", r_key, "r.group_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_OFFSETS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int8[]) "
	                "k(i, tenant, name, topic, id)%s UNION ALL SELECT %s, k.i FROM "
	                "unnest($6::int8[], $7::text[], $8::text[]) k(i, tenant, name)%s ORDER BY 8",
	                offset,
	                rows_of(shape, "consumer_offsets r", r_key,
	                        "r.group_id = k.name AND r.topic = k.topic AND r.partition_id = k.id")
	                        .text,
	                offset, rows_of(shape, "consumer_offsets r", r_key, "r.group_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_LEASES,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) "
	                "k(i, tenant, topic, id)%s ORDER BY k.i",
	                lease,
	                rows_of(shape, "partition_leases r", shape->leases_organization ? r_key : "",
	                        "r.topic = k.topic AND r.partition_id = k.id")
	                        .text);
	/* Without an index, each key would read the table by itself. */
	ok = ok && pg_text_of(state, PG_KEY_BEGIN, "SELECT %s",
	                      shape->by_index ? PG_PLAN_ONCE : "set_config('jit', 'off', true)");
	/* Keys come as columns; i is a key's number, by which its rows are found again. */
	ok = ok &&
	     pg_text_of(
		     state, PG_KEY_TOPICS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s ORDER BY k.i",
		     topic, rows_of(shape, "topics t", t_key, "t.name = k.topic").text) &&
	     pg_text_of(
		     state, PG_KEY_PARTITIONS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) k(i, tenant, topic, id)%s "
		     "ORDER BY k.i",
		     partition, one_partition.text) &&
	     pg_text_of(
		     state, PG_KEY_SEGMENTS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[]) "
		     "k(i, tenant, topic, id, low, high)%s ORDER BY k.i, s.base_offset, s.id%s",
		     segment, some_segments.text, c) &&
	     pg_text_of(
		     state, PG_KEY_ALL_PARTITIONS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s UNION ALL "
		     "SELECT %s, k.i FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[]) "
		     "k(i, tenant, topic, id)%s ORDER BY 7, 3",
		     partition, rows_of(shape, "partitions p", p_key, "p.topic = k.topic").text, partition,
		     one_partition.text) &&
	     pg_text_of(
		     state, PG_KEY_ALL_SEGMENTS,
		     "SELECT * FROM (SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s "
		     "UNION ALL SELECT %s, k.i FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[], $8::int8[], "
		     "$9::int8[]) k(i, tenant, topic, id, low, high)%s) u(tenant, topic, partition_id, base, finish, "
		     "records, size, created, earliest, latest, id, bucket, object, place, i) ORDER BY i, partition_id, "
		     "base, id%s",
		     segment, rows_of(shape, "segments s", s_key, "s.topic = k.topic").text, segment,
		     some_segments.text, c);
	return ok;
}
