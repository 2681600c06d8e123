/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: fetch(). */
#include <stddef.h>
#include <string.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_fetch.h"
#include "backends/sqlite/sqlite_reading.h"

enum { CHUNK_KEYS = 4096, FEW_KEYS = 8 };

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
static enum shmeta_status put_keys(struct sqlite_reading *reading, const struct backend_key *keys, size_t count,
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
		/* A file without the column has the one tenant: no other has rows in it. Agents and
		 * leases without one are shared, and shown under the default. */
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
	struct sqlite_cursor topics, topic_partitions, topic_segments, key_partitions, key_segments;
	struct sqlite_cursor agents, groups, offsets, group_offsets, leases;
};

static enum shmeta_status start_cursors(struct sqlite_reading *reading, struct cursors *c, uint32_t kinds)
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
			status = sqlite_cursor_start(reading, (struct sqlite_cursor *)((char *)c + table[i].offset),
			                             table[i].statement, table[i].cls, table[i].index_column);
	return status;
}

static void stop_cursors(struct cursors *c)
{
	sqlite_cursor_stop(&c->topics);
	sqlite_cursor_stop(&c->topic_partitions);
	sqlite_cursor_stop(&c->topic_segments);
	sqlite_cursor_stop(&c->key_partitions);
	sqlite_cursor_stop(&c->key_segments);
	sqlite_cursor_stop(&c->agents);
	sqlite_cursor_stop(&c->groups);
	sqlite_cursor_stop(&c->offsets);
	sqlite_cursor_stop(&c->group_offsets);
	sqlite_cursor_stop(&c->leases);
}

static enum shmeta_status fetch_others(struct sqlite_reading *reading, struct sqlite_cursor *cursor,
                                       enum emit_other other, int64_t index)
{
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK && walk_is_on(&cursor->at, index)) {
		status = emit_other(&reading->emit, other, cursor->statement);
		if (status == SHMETA_OK)
			status = sqlite_advance(reading, cursor);
	}
	return status;
}

static enum shmeta_status fetch_key(struct sqlite_reading *reading, struct cursors *c, const struct backend_key *key,
                                    int64_t index, bool *ret_found)
{
	enum shmeta_status status = SHMETA_OK;
	bool ignored;

	*ret_found = true;
	switch (kind_of(key)) {
	case KIND_CLASS:
		return sqlite_read_others(reading, key->cls);
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
		status = walk_topic_of(&reading->walk, &c->topics.at, index, ret_found);
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
static enum shmeta_status fetch_one(struct sqlite_reading *reading, const struct backend_key *key, bool *ret_found)
{
	struct sqlite_cursor partitions = {.statement = NULL}, segments = {.statement = NULL};
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
	status = sqlite_cursor_start(reading, &partitions, ST_ONE_PARTITION, SHMETA_CLASS_PARTITION, -1);
	if (status == SHMETA_OK && rows != NULL) {
		bind_key(rows, key);
		status = sqlite_cursor_start(reading, &segments, ST_ONE_SEGMENTS, SHMETA_CLASS_SEGMENT, -1);
	}
	if (status == SHMETA_OK)
		status = walk_partitions(&reading->walk, &partitions.at, &segments.at, -1, true, ret_found);
	sqlite_cursor_stop(&partitions);
	sqlite_cursor_stop(&segments);
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
	struct backend_error own = {.code = SHMETA_OK};
	struct sqlite_reading reading;
	enum shmeta_status status;
	size_t ended = 0;
	bool begun = false;

	if (err == NULL)
		err = &own;
	for (size_t i = 0; i < count; i++)
		if (keys[i].cls == SHMETA_CLASS_LIST || (unsigned)keys[i].cls >= SHMETA_CLASS_COUNT)
			return backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                    "sqlite: a key of class %d cannot be fetched", (int)keys[i].cls);
	status = sqlite_ensure_told(state, err);
	if (status == SHMETA_OK)
		status = sqlite_begin(state, "fetching from", err);
	if (status != SHMETA_OK)
		return status;
	reading = sqlite_reading_of(state, sink, err);
	for (size_t at = 0; status == SHMETA_OK && at < count; at += CHUNK_KEYS) {
		size_t chunk = count - at < CHUNK_KEYS ? count - at : CHUNK_KEYS;
		struct cursors cursors;
		bool one_by_one = few(keys, count);
		uint32_t kinds = 0;

		memset(&cursors, 0, sizeof cursors);
		reading.walk.index = -1;
		if (!one_by_one)
			status = put_keys(&reading, keys + at, chunk, &kinds);
		if (status == SHMETA_OK)
			status = start_cursors(&reading, &cursors, kinds);
		for (size_t i = 0; status == SHMETA_OK && i < chunk; i++) {
			bool found = false;

			status = sink->key_begin(sink->arg, &keys[at + i]);
			begun = true;
			if (status == SHMETA_OK)
				status = one_by_one ? fetch_one(&reading, &keys[at + i], &found)
				                    : fetch_key(&reading, &cursors, &keys[at + i], (int64_t)i, &found);
			if (status != SHMETA_OK)
				break;
			status = sink->key_end(sink->arg, &keys[at + i], found ? SHMETA_OK : SHMETA_ABSENT, "");
			begun = false;
			ended++;
		}
		stop_cursors(&cursors);
	}
	sqlite_end(state);
	state->counters.rows += reading.progress.rows;
	if (reading.of_row && status == SHMETA_ERR_INVALID_ARGUMENT)
		status = backend_fail_keys(keys + ended, count - ended, begun, sink, status, err->text);
	return status;
}
