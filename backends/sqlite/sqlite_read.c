/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: load() and fetch(). Rows are handed on where SQLite holds them; nothing is copied.
 *
 * Both walk ordered statements side by side: topics, partitions and segments, each by its key. What the walk meets without its
 * parent is an orphan. */
#include <string.h>
#include <time.h>

#include "backends/sql/merge_join.h"
#include "backends/sql/row_decode.h"
#include "backends/sqlite/sqlite.h"

enum { PROGRESS_ROWS = 16384, PROGRESS_NS = 100000000, CHUNK_KEYS = 4096, FEW_KEYS = 8 };

struct reading {
	struct walk walk; /* first: what the walk calls back with */
	struct emit emit;
	struct sqlite_state *state;
	const struct backend_sink *sink;
	struct backend_error *err;
	bool loading;
	uint64_t rows, total, told;
	uint64_t told_ns;
};

/* One ordered statement, standing on a row whose key has been read. */
struct cursor {
	struct walk_cursor at;   /* first */
	sqlite3_stmt *statement; /* NULL: at its end */
	int key_columns; /* tenant, topic, partition_id, base_offset: how many of them it is ordered by; 0: it is not */
	int index_column; /* of the key's number; -1: not in a fetch */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static enum shmeta_status tell(struct reading *reading)
{
	uint64_t now;

	reading->told = reading->rows;
	if (!reading->loading || reading->sink->progress == NULL)
		return SHMETA_OK;
	now = now_ns();
	if (now - reading->told_ns < PROGRESS_NS && reading->rows % (4 * PROGRESS_ROWS) != 0)
		return SHMETA_OK;
	reading->told_ns = now;
	if (reading->total != 0 && reading->rows > reading->total)
		reading->total = reading->rows;
	return reading->sink->progress(reading->sink->arg, reading->rows, reading->total);
}

/* ---- columns. The values are SQLite's own, good until the next step; the connection is used by one thread only. ------------- */

/* Reading stopped. A statement that could be prepared anew is as it should be: then the row that came next is not, or what it is computed
 * from; and so is a page that is damaged for a connection that has just been made because of it. */
static enum shmeta_status read_failed(struct reading *reading, sqlite3_stmt *statement, int rc)
{
	struct sqlite_state *state = reading->state;
	bool of_row = false;
	sqlite3_stmt *anew = NULL;
	enum shmeta_status status = sqlite_fail(state, rc, "reading", reading->err);

	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
		of_row = state->damaged_in == state->counters.reconnects + 1;
		state->damaged_in = state->counters.reconnects + (of_row ? 1 : 2);
		state->renew = !of_row;
		break;
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

/* ---- cursors ------------------------------------------------------------------------------------------------------------------ */

/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs below them is an orphan. */
static enum shmeta_status advance(struct reading *reading, struct cursor *cursor)
{
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK) {
		struct rows_fault fault;
		int rc = sqlite3_step(cursor->statement);

		rows_faultless(&fault);
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
		if (++reading->rows - reading->told >= PROGRESS_ROWS)
			status = tell(reading);
		if (cursor->index_column >= 0)
			cursor->at.index = sqlite3_column_int64(cursor->statement, cursor->index_column);
		if (cursor->key_columns == 0)
			return status;
		if (get_tenant(reading->state->shape.organization, cursor->statement, &cursor->at.tenant, &fault) &&
		    get_text(cursor->statement, 1, cursor->at.cls == SHMETA_CLASS_TOPIC ? "name" : "topic",
		             &cursor->at.topic, &fault) &&
		    (cursor->key_columns < 3 ||
		     get_int(cursor->statement, 2, "partition_id", &cursor->at.partition, &fault)) &&
		    (cursor->key_columns < 4 || get_int(cursor->statement, 3, "base_offset", &cursor->at.base, &fault)))
			return status;
		emit_unread(&reading->emit, cursor->at.cls, cursor->statement, &fault);
	}
	return status;
}

static enum shmeta_status start(struct reading *reading, struct cursor *cursor, enum sqlite_statement which,
                                enum shmeta_class cls, int index_column)
{
	enum shmeta_status status = SHMETA_OK;

	*cursor = (struct cursor){.at = {.cls = cls, .index = -1}, .index_column = index_column};
	cursor->key_columns = cls == SHMETA_CLASS_TOPIC       ? 2
	                      : cls == SHMETA_CLASS_PARTITION ? 3
	                      : cls == SHMETA_CLASS_SEGMENT   ? 4
	                                                      : 0;
	cursor->statement = sqlite_prepare(reading->state, which, reading->err, &status);
	if (cursor->statement == NULL)
		return status;
	reading->state->counters.queries++;
	return advance(reading, cursor);
}

static void stop(struct cursor *cursor)
{
	if (cursor->statement != NULL)
		sqlite3_reset(cursor->statement);
	cursor->statement = NULL;
	cursor->at.on = false;
}

/* ---- rows --------------------------------------------------------------------------------------------------------------------- */

/* The partition, where it is there, has the cursor's id: that was checked with its row. */
static bool read_segment(const struct reading *reading, const struct cursor *cursor, struct shmeta_segment *ret,
                         struct rows_fault *fault)
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
	return advance((struct reading *)walk, (struct cursor *)cursor);
}

static enum shmeta_status walk_topic(struct walk *walk, struct walk_cursor *cursor, bool *ret_there)
{
	return emit_topic(&((struct reading *)walk)->emit, cursor, ((struct cursor *)cursor)->statement, ret_there);
}

static enum shmeta_status walk_partition(struct walk *walk, struct walk_cursor *cursor, bool parent, bool *ret_there)
{
	return emit_partition(&((struct reading *)walk)->emit, cursor, ((struct cursor *)cursor)->statement, parent,
	                      ret_there);
}

static enum shmeta_status walk_segment(struct walk *walk, struct walk_cursor *cursor, bool parent,
                                       struct walk_last *last)
{
	struct reading *reading = (struct reading *)walk;
	struct shmeta_segment segment;
	struct rows_fault fault;
	bool there;

	rows_faultless(&fault);
	there = parent && read_segment(reading, (struct cursor *)cursor, &segment, &fault);
	return emit_segment(reading->sink, cursor, parent, there ? &segment : NULL, last, &fault);
}

static const struct walk how_to_walk = {
	.advance = walk_advance, .topic = walk_topic, .partition = walk_partition, .segment = walk_segment};

/* After sqlite_ensure(), which learns the shape. */
static struct reading reading_of(struct sqlite_state *state, const struct backend_sink *sink, struct backend_error *err)
{
	return (struct reading){
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
	};
}

/* ---- agents, groups, offsets, leases ------------------------------------------------------------------------------------------ */

/* All of a class; LIST: of every one. */
static enum shmeta_status read_others(struct reading *reading, enum shmeta_class cls)
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
			if (++reading->rows - reading->told >= PROGRESS_ROWS)
				status = tell(reading);
			if (status == SHMETA_OK)
				status = emit_other(&reading->emit, (enum emit_other)i, statement);
		}
		if (status == SHMETA_OK && rc != SQLITE_DONE)
			status = read_failed(reading, statement, rc);
		sqlite3_reset(statement);
	}
	return status;
}

/* ---- load --------------------------------------------------------------------------------------------------------------------- */

static enum shmeta_status read_keys_by(struct reading *reading, enum sqlite_statement which)
{
	struct cursor topics;
	enum shmeta_status status = start(reading, &topics, which, SHMETA_CLASS_TOPIC, -1);

	while (status == SHMETA_OK && topics.at.on) {
		const struct backend_key key = {
			.cls = SHMETA_CLASS_TOPIC, .tenant = topics.at.tenant, .topic = topics.at.topic};

		status = reading->sink->key(reading->sink->arg, &key);
		if (status == SHMETA_OK)
			status = advance(reading, &topics);
	}
	stop(&topics);
	return status;
}

/* The names of all topics. Where one of them cannot be read, the names that the partitions have. */
static enum shmeta_status read_keys(struct reading *reading)
{
	const struct backend_key others = {.cls = SHMETA_CLASS_TOPIC,
	                                   .unread = BACKEND_UNREAD_TENANT | BACKEND_UNREAD_TOPIC};
	enum shmeta_status status = read_keys_by(reading, ST_LOAD_TOPIC_KEYS);
	char sentence[sizeof reading->err->text];

	if (status != SHMETA_ERR_INVALID_ARGUMENT || reading->err == NULL)
		return status;
	memcpy(sentence, reading->err->text, sizeof sentence);
	status = read_keys_by(reading, ST_LOAD_OTHER_KEYS);
	if (status == SHMETA_OK)
		reading->sink->quarantine(reading->sink->arg, &others, sentence);
	return status;
}

static enum shmeta_status read_all(struct reading *reading)
{
	struct cursor topics = {.index_column = -1}, partitions = {.index_column = -1}, segments = {.index_column = -1};
	enum shmeta_status status = start(reading, &topics, ST_LOAD_TOPICS, SHMETA_CLASS_TOPIC, -1);

	if (status == SHMETA_OK)
		status = start(reading, &partitions, ST_LOAD_PARTITIONS, SHMETA_CLASS_PARTITION, -1);
	if (status == SHMETA_OK)
		status = start(reading, &segments, ST_LOAD_SEGMENTS, SHMETA_CLASS_SEGMENT, -1);
	if (status == SHMETA_OK)
		status = walk_all(&reading->walk, &topics.at, &partitions.at, &segments.at);
	if (status == SHMETA_OK)
		status = read_others(reading, SHMETA_CLASS_LIST);
	stop(&topics);
	stop(&partitions);
	stop(&segments);
	return status;
}

enum shmeta_status sqlite_load(void *data, const struct backend_sink *sink, struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct reading reading;
	int64_t version = 0, total = 0;
	struct sqlite_log log = {.last = 0};
	enum shmeta_status status;
	int rc;

	if (state->cramped)
		state->objects = 0; /* there may be room for shmeta's own tables by now */
	status = sqlite_ensure(state, err);
	if (status != SHMETA_OK)
		return status;
	reading = reading_of(state, sink, err);
	reading.loading = true;
	/* The hint from before the read, the log's end from within it: what comes after the read is seen later, and what comes
	 * between the two costs one look in vain. */
	rc = sqlite_number(state, ST_DATA_VERSION, &version);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "loading from", err);
	status = sqlite_begin(state, "loading from", err);
	if (status != SHMETA_OK)
		return status;
	rc = state->shape.own ? sqlite_feed_state(state, state->at.seq, &log) : SQLITE_OK;
	if (rc == SQLITE_OK && sink->key == NULL)
		rc = sqlite_number(state, ST_TOTALS, &total);
	if (rc != SQLITE_OK)
		status = sqlite_fail(state, rc, "loading from", err);
	reading.total = total > 0 ? (uint64_t)total : 0;
	reading.told_ns = now_ns();
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, 0, reading.total);
	if (status == SHMETA_OK)
		status = sink->key != NULL ? read_keys(&reading) : read_all(&reading);
	sqlite_end(state);
	sqlite3_db_release_memory(state->db);
	state->counters.rows += reading.rows;
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, reading.rows, reading.rows);
	if (status != SHMETA_OK)
		return status;
	sqlite_feed_from(state, &log, version);
	state->told = state->source;
	state->shown = true;
	return SHMETA_OK;
}

/* ---- fetch -------------------------------------------------------------------------------------------------------------------- */

/* The numbers are those of the statements. */
enum kind {
	KIND_TOPIC,
	KIND_TOPIC_SEGMENTS,
	KIND_PARTITION,
	KIND_SEGMENT,
	KIND_AGENT,
	KIND_OFFSET,
	KIND_GROUP, /* with all of its offsets */
	KIND_LEASE,
	KIND_TOPIC_ROW,
	KIND_CLASS
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
	case SHMETA_CLASS_AGENT:
		return backend_key_is_class(key) ? KIND_CLASS : KIND_AGENT;
	case SHMETA_CLASS_OFFSET:
		return backend_key_is_class(key) ? KIND_CLASS : key->topic.bytes > 0 ? KIND_OFFSET : KIND_GROUP;
	case SHMETA_CLASS_LEASE:
		return backend_key_is_class(key) ? KIND_CLASS : KIND_LEASE;
	default:
		return KIND_CLASS;
	}
}

/* The keys of a chunk into the table of keys. */
static enum shmeta_status put_keys(struct reading *reading, const struct backend_key *keys, size_t count,
                                   uint32_t *ret_kinds)
{
	struct sqlite_state *state = reading->state;
	enum shmeta_status status = SHMETA_OK;
	sqlite3_stmt *add = sqlite_prepare(state, ST_KEYS_ADD, reading->err, &status);
	int rc = add != NULL ? sqlite_run(state, ST_KEYS_CLEAR) : SQLITE_OK;

	*ret_kinds = 0;
	if (add == NULL)
		return status;
	for (size_t i = 0; rc == SQLITE_OK && i < count; i++) {
		const struct backend_key *key = &keys[i];
		enum kind kind = kind_of(key);

		*ret_kinds |= 1u << kind;
		if (kind == KIND_CLASS)
			continue;
		/* A file without the column has the one tenant: no other has rows in it. Agents and leases without one are
		 * shared, and shown under the default. */
		if (!state->shape.organization && kind != KIND_AGENT && kind != KIND_LEASE &&
		    rows_compare(key->tenant, rows_str(SHMETA_DEFAULT_TENANT)) != 0)
			continue;
		sqlite3_bind_int64(add, 1, (sqlite3_int64)i);
		sqlite3_bind_int(add, 2, (int)kind);
		sqlite3_bind_text64(add, 3, key->tenant.data, key->tenant.bytes, SQLITE_STATIC, SQLITE_UTF8);
		sqlite3_bind_text64(add, 4, key->topic.data, key->topic.bytes, SQLITE_STATIC, SQLITE_UTF8);
		sqlite3_bind_int64(add, 5, key->partition_id);
		sqlite3_bind_int64(add, 6, key->from > INT64_MAX ? INT64_MAX : (int64_t)key->from);
		sqlite3_bind_int64(add, 7, key->to > INT64_MAX ? INT64_MAX : (int64_t)key->to);
		sqlite3_bind_text64(add, 8, key->name.data, key->name.bytes, SQLITE_STATIC, SQLITE_UTF8);
		rc = sqlite3_step(add);
		sqlite3_reset(add);
		if (rc == SQLITE_DONE)
			rc = SQLITE_OK;
	}
	sqlite3_clear_bindings(add);
	return rc == SQLITE_OK ? SHMETA_OK : sqlite_fail(state, rc, "fetching from", reading->err);
}

struct cursors {
	struct cursor topics, topic_partitions, topic_segments, key_partitions, key_segments;
	struct cursor agents, groups, offsets, group_offsets, leases;
};

static enum shmeta_status start_cursors(struct reading *reading, struct cursors *c, uint32_t kinds)
{
	static const struct {
		uint32_t kinds;
		enum sqlite_statement statement;
		enum shmeta_class cls;
		int index_column;
		size_t offset;
	} table[] = {
		{1u << KIND_TOPIC | 1u << KIND_TOPIC_SEGMENTS | 1u << KIND_TOPIC_ROW, ST_KEY_TOPICS, SHMETA_CLASS_TOPIC,
	         8, offsetof(struct cursors, topics)},
		{1u << KIND_TOPIC | 1u << KIND_TOPIC_SEGMENTS, ST_TOPIC_PARTITIONS, SHMETA_CLASS_PARTITION, 6,
	         offsetof(struct cursors, topic_partitions)},
		{1u << KIND_TOPIC_SEGMENTS, ST_TOPIC_SEGMENTS, SHMETA_CLASS_SEGMENT, 14,
	         offsetof(struct cursors, topic_segments)},
		{1u << KIND_PARTITION | 1u << KIND_SEGMENT, ST_KEY_PARTITIONS, SHMETA_CLASS_PARTITION, 6,
	         offsetof(struct cursors, key_partitions)},
		{1u << KIND_SEGMENT, ST_KEY_SEGMENTS, SHMETA_CLASS_SEGMENT, 14, offsetof(struct cursors, key_segments)},
		{1u << KIND_AGENT, ST_KEY_AGENTS, SHMETA_CLASS_AGENT, 8, offsetof(struct cursors, agents)},
		{1u << KIND_OFFSET | 1u << KIND_GROUP, ST_KEY_GROUPS, SHMETA_CLASS_OFFSET, 4,
	         offsetof(struct cursors, groups)},
		{1u << KIND_OFFSET, ST_KEY_OFFSETS, SHMETA_CLASS_OFFSET, 7, offsetof(struct cursors, offsets)},
		{1u << KIND_GROUP, ST_GROUP_OFFSETS, SHMETA_CLASS_OFFSET, 7, offsetof(struct cursors, group_offsets)},
		{1u << KIND_LEASE, ST_KEY_LEASES, SHMETA_CLASS_LEASE, 7, offsetof(struct cursors, leases)},
	};
	enum shmeta_status status = SHMETA_OK;

	memset(c, 0, sizeof *c);
	for (size_t i = 0; status == SHMETA_OK && i < sizeof table / sizeof table[0]; i++)
		if ((kinds & table[i].kinds) != 0)
			status = start(reading, (struct cursor *)((char *)c + table[i].offset), table[i].statement,
			               table[i].cls, table[i].index_column);
	return status;
}

static void stop_cursors(struct cursors *c)
{
	stop(&c->topics);
	stop(&c->topic_partitions);
	stop(&c->topic_segments);
	stop(&c->key_partitions);
	stop(&c->key_segments);
	stop(&c->agents);
	stop(&c->groups);
	stop(&c->offsets);
	stop(&c->group_offsets);
	stop(&c->leases);
}

static enum shmeta_status fetch_others(struct reading *reading, struct cursor *cursor, enum emit_other other,
                                       int64_t index)
{
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK && walk_is_on(&cursor->at, index)) {
		status = emit_other(&reading->emit, other, cursor->statement);
		if (status == SHMETA_OK)
			status = advance(reading, cursor);
	}
	return status;
}

static enum shmeta_status fetch_key(struct reading *reading, struct cursors *c, const struct backend_key *key,
                                    int64_t index, bool *ret_found)
{
	enum shmeta_status status = SHMETA_OK;
	bool ignored;

	*ret_found = true;
	switch (kind_of(key)) {
	case KIND_CLASS:
		return read_others(reading, key->cls);
	case KIND_AGENT:
		return fetch_others(reading, &c->agents, EMIT_AGENT, index);
	case KIND_LEASE:
		return fetch_others(reading, &c->leases, EMIT_LEASE, index);
	case KIND_OFFSET:
	case KIND_GROUP:
		status = fetch_others(reading, &c->groups, EMIT_GROUP, index);
		if (status == SHMETA_OK)
			status = fetch_others(reading, &c->offsets, EMIT_OFFSET, index);
		return status == SHMETA_OK ? fetch_others(reading, &c->group_offsets, EMIT_OFFSET, index) : status;
	case KIND_TOPIC_ROW:
	case KIND_TOPIC:
	case KIND_TOPIC_SEGMENTS:
		*ret_found = false;
		if (walk_is_on(&c->topics.at, index)) {
			status = walk_topic(&reading->walk, &c->topics.at, ret_found);
			if (status == SHMETA_OK)
				status = advance(reading, &c->topics);
		}
		if (status == SHMETA_OK && key->row_only == 0)
			status = walk_partitions(&reading->walk, &c->topic_partitions.at, &c->topic_segments.at, index,
			                         *ret_found, &ignored);
		return status;
	default:
		return walk_partitions(&reading->walk, &c->key_partitions.at, &c->key_segments.at, index, true,
		                       ret_found);
	}
}

static void bind_key(sqlite3_stmt *statement, const struct backend_key *key)
{
	sqlite3_bind_text64(statement, 1, key->tenant.data, key->tenant.bytes, SQLITE_STATIC, SQLITE_UTF8);
	sqlite3_bind_text64(statement, 2, key->topic.data, key->topic.bytes, SQLITE_STATIC, SQLITE_UTF8);
	sqlite3_bind_int64(statement, 3, key->partition_id);
	sqlite3_bind_int64(statement, 4, key->from > INT64_MAX ? INT64_MAX : (int64_t)key->from);
	sqlite3_bind_int64(statement, 5, key->to > INT64_MAX ? INT64_MAX : (int64_t)key->to);
}

/* A partition, with a range of its segments, without the table of keys. */
static enum shmeta_status fetch_one(struct reading *reading, const struct backend_key *key, bool *ret_found)
{
	struct cursor partitions = {.statement = NULL}, segments = {.statement = NULL};
	enum shmeta_status status = SHMETA_OK;
	sqlite3_stmt *partition = sqlite_prepare(reading->state, ST_ONE_PARTITION, reading->err, &status);
	sqlite3_stmt *rows = partition != NULL && key->cls == SHMETA_CLASS_SEGMENT
	                             ? sqlite_prepare(reading->state, ST_ONE_SEGMENTS, reading->err, &status)
	                             : NULL;

	*ret_found = false;
	if (status != SHMETA_OK ||
	    (!reading->state->shape.organization && rows_compare(key->tenant, rows_str(SHMETA_DEFAULT_TENANT)) != 0))
		return status;
	bind_key(partition, key);
	status = start(reading, &partitions, ST_ONE_PARTITION, SHMETA_CLASS_PARTITION, -1);
	if (status == SHMETA_OK && rows != NULL) {
		bind_key(rows, key);
		status = start(reading, &segments, ST_ONE_SEGMENTS, SHMETA_CLASS_SEGMENT, -1);
	}
	if (status == SHMETA_OK)
		status = walk_partitions(&reading->walk, &partitions.at, &segments.at, -1, true, ret_found);
	stop(&partitions);
	stop(&segments);
	sqlite3_clear_bindings(partition);
	if (rows != NULL)
		sqlite3_clear_bindings(rows);
	return status;
}

/* What a write of few operations reads back. */
static bool few(const struct backend_key *keys, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kind_of(&keys[i]) != KIND_PARTITION && kind_of(&keys[i]) != KIND_SEGMENT)
			return false;
	return count <= FEW_KEYS;
}

enum shmeta_status sqlite_fetch(void *data, const struct backend_key *keys, size_t count,
                                const struct backend_sink *sink, struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct reading reading;
	enum shmeta_status status;

	for (size_t i = 0; i < count; i++)
		if (keys[i].cls == SHMETA_CLASS_LIST || (unsigned)keys[i].cls >= SHMETA_CLASS_COUNT)
			return backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                    "sqlite: a key of class %d cannot be fetched", (int)keys[i].cls);
	status = sqlite_ensure_told(state, err);
	if (status == SHMETA_OK)
		status = sqlite_begin(state, "fetching from", err);
	if (status != SHMETA_OK)
		return status;
	reading = reading_of(state, sink, err);
	for (size_t at = 0; status == SHMETA_OK && at < count; at += CHUNK_KEYS) {
		size_t chunk = count - at < CHUNK_KEYS ? count - at : CHUNK_KEYS;
		struct cursors cursors;
		bool one_by_one = few(keys, count);
		uint32_t kinds = 0;

		memset(&cursors, 0, sizeof cursors);
		if (!one_by_one)
			status = put_keys(&reading, keys + at, chunk, &kinds);
		if (status == SHMETA_OK)
			status = start_cursors(&reading, &cursors, kinds);
		for (size_t i = 0; status == SHMETA_OK && i < chunk; i++) {
			bool found = false;

			status = sink->key_begin(sink->arg, &keys[at + i]);
			if (status == SHMETA_OK)
				status = one_by_one ? fetch_one(&reading, &keys[at + i], &found)
				                    : fetch_key(&reading, &cursors, &keys[at + i], (int64_t)i, &found);
			if (status == SHMETA_OK)
				status = sink->key_end(sink->arg, &keys[at + i], found);
		}
		stop_cursors(&cursors);
	}
	sqlite_end(state);
	state->counters.rows += reading.rows;
	return status;
}
