/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: fetch(). */
#include <string.h>

#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_fetch.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_replica.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"

enum { CHUNK_KEYS = 4096 };

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
static const uint32_t of_pg_others[EMIT_OTHERS] = {[EMIT_AGENT] = BIT(KIND_AGENT),
                                                   [EMIT_GROUP] = OF_GROUPS,
                                                   [EMIT_OFFSET] = OF_GROUPS,
                                                   [EMIT_LEASE] = BIT(KIND_LEASE)};

/* Columns of keys, as the statements want them. */
struct columns {
	struct pg_array index, tenant, topic, name, partition, low, high;
};

/* Sets of keys; a statement reads one or two. */
enum set {
	SET_TOPICS,
	SET_FULL,
	SET_WHOLE,
	SET_PLACES,
	SET_RANGES,
	SET_AGENTS,
	SET_GROUPS,
	SET_OFFSETS,
	SET_ALL_OFFSETS,
	SET_LEASES,
	SETS
};

struct fetching {
	struct pg_reading reading;
	const struct backend_key *keys; /* of this chunk */
	size_t count;
	size_t at, all; /* the chunk among the keys of the call */
	size_t ended;   /* keys of the call that are answered */
	bool begun;     /* the next one has been begun */
	struct columns sets[SETS];
	struct pg_cursor topic_rows, partition_rows, segment_rows;
	struct pg_list keyed[EMIT_OTHERS], whole[EMIT_OTHERS];
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

/* Can the source have what the key names? A name with a NUL in it is none that a text column can
 * hold. Agents are of one namespace, and leases without a tenant of the default one. */
static bool is_possible(const struct pg_state *state, const struct backend_key *key, enum kind kind)
{
	if (has_nul(key->tenant) || has_nul(key->topic) || has_nul(key->name))
		return false;
	return kind == KIND_AGENT || (kind == KIND_LEASE && !state->shape.leases_organization) ||
	       pg_tenant_possible(state, key->tenant);
}

static uint32_t sort_keys(struct fetching *f)
{
	static const enum set sets[KIND_CLASS][3] = {[KIND_TOPIC] = {SET_TOPICS, SET_FULL, SETS},
	                                             [KIND_TOPIC_SEGMENTS] = {SET_TOPICS, SET_FULL, SET_WHOLE},
	                                             [KIND_PARTITION] = {SET_PLACES, SETS, SETS},
	                                             [KIND_SEGMENT] = {SET_PLACES, SET_RANGES, SETS},
	                                             [KIND_AGENT] = {SET_AGENTS, SETS, SETS},
	                                             [KIND_OFFSET] = {SET_GROUPS, SET_OFFSETS, SETS},
	                                             [KIND_GROUP] = {SET_GROUPS, SET_ALL_OFFSETS, SETS},
	                                             [KIND_LEASE] = {SET_LEASES, SETS, SETS},
	                                             [KIND_TOPIC_ROW] = {SET_TOPICS, SETS, SETS}};
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
		{BIT(KIND_AGENT), PG_KEY_AGENTS, SET_AGENTS, SETS, "in", ""},
		{OF_GROUPS, PG_KEY_GROUPS, SET_GROUPS, SETS, "itn", ""},
		{OF_GROUPS, PG_KEY_OFFSETS, SET_OFFSETS, SET_ALL_OFFSETS, "itnop", "itn"},
		{BIT(KIND_LEASE), PG_KEY_LEASES, SET_LEASES, SETS, "itop", ""},
	};
	struct pg_state *state = f->reading.state;
	struct pg_conn *conn = f->reading.conn;
	enum shmeta_status status = SHMETA_OK;

	if ((kinds & OF_TOPICS) != 0)
		status = send_keyed(f, PG_KEY_TOPICS, SET_TOPICS, "ito", SETS, "", err);
	/* Places alone, as after a write: what is not asked for need not be set up either. */
	if (status == SHMETA_OK && (kinds & OF_PARTITIONS) != 0)
		status = (kinds & OF_FULL) != 0
		                 ? send_keyed(f, PG_KEY_ALL_PARTITIONS, SET_FULL, "ito", SET_PLACES, "itop", err)
		                 : send_keyed(f, PG_KEY_PARTITIONS, SET_PLACES, "itop", SETS, "", err);
	for (size_t i = 0; status == SHMETA_OK && i < sizeof table / sizeof table[0]; i++)
		if ((kinds & table[i].kinds) != 0)
			status = send_keyed(f, table[i].statement, table[i].first, table[i].columns, table[i].second,
			                    table[i].second_columns, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & BIT(KIND_CLASS + (int)emit_class((enum emit_other)i))) != 0)
			status = pg_send(state, conn, pg_others[i].statement, NULL, err);
	/* Last: they stream. */
	if (status == SHMETA_OK && (kinds & OF_SEGMENTS) != 0)
		status = (kinds & BIT(KIND_TOPIC_SEGMENTS)) != 0
		                 ? send_keyed(f, PG_KEY_ALL_SEGMENTS, SET_WHOLE, "ito", SET_RANGES, "itoplh", err)
		                 : send_keyed(f, PG_KEY_SEGMENTS, SET_RANGES, "itoplh", SETS, "", err);
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

	walk->index = -1;
	f->topic_rows = pg_cursor_of(SHMETA_CLASS_TOPIC, 8);
	f->partition_rows = pg_cursor_of(SHMETA_CLASS_PARTITION, 6);
	f->segment_rows = pg_cursor_of(SHMETA_CLASS_SEGMENT, 14);
	if ((kinds & OF_TOPICS) != 0)
		status = pg_next(state, conn, &f->topic_rows.result, err);
	if (status == SHMETA_OK && (kinds & OF_PARTITIONS) != 0)
		status = pg_next(state, conn, &f->partition_rows.result, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & of_pg_others[i]) != 0)
			status = pg_next(state, conn, &f->keyed[i].result, err);
	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++)
		if ((kinds & BIT(KIND_CLASS + (int)emit_class((enum emit_other)i))) != 0)
			status = pg_next(state, conn, &f->whole[i].result, err);
	if (status == SHMETA_OK)
		status = pg_advance(walk, &f->topic_rows.at);
	if (status == SHMETA_OK)
		status = pg_advance(walk, &f->partition_rows.at);
	if (status == SHMETA_OK && (kinds & OF_SEGMENTS) != 0) {
		f->segment_rows.streams = true;
		status = pg_advance(walk, &f->segment_rows.at);
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
		status = pg_emit_others(&f->reading, (enum emit_other)i, whole ? &f->whole[i] : &f->keyed[i],
		                        whole ? -1 : index);
	}
	return status;
}

static enum shmeta_status emit_key(struct fetching *f, const struct backend_key *key, int64_t index, bool *ret_found)
{
	struct pg_reading *reading = &f->reading;
	enum shmeta_status status = SHMETA_OK;
	bool parent = true, is_topic = key->cls == SHMETA_CLASS_TOPIC;

	if (kind_of(key) >= KIND_AGENT) {
		*ret_found = true;
		return emit_key_others(f, key, index, kind_of(key) >= KIND_CLASS);
	}
	if (is_topic)
		status = walk_topic_of(&reading->walk, &f->topic_rows.at, index, &parent);
	if (status == SHMETA_OK)
		status = walk_partitions(&reading->walk, &f->partition_rows.at, &f->segment_rows.at, index, parent,
		                         ret_found);
	if (is_topic)
		*ret_found = parent;
	return status;
}

static void end_chunk(struct fetching *f)
{
	pg_cursor_end(&f->topic_rows);
	pg_cursor_end(&f->partition_rows);
	pg_cursor_end(&f->segment_rows);
	for (int i = 0; i < EMIT_OTHERS; i++) {
		PQclear(f->keyed[i].result);
		PQclear(f->whole[i].result);
		f->keyed[i] = f->whole[i] = (struct pg_list){.result = NULL};
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
		f->begun = true;
		status = sink->key_begin(sink->arg, &f->keys[i]);
		if (status == SHMETA_OK)
			status = emit_key(f, &f->keys[i], (int64_t)i, &found);
		if (status != SHMETA_OK)
			break;
		status = sink->key_end(sink->arg, &f->keys[i], found ? SHMETA_OK : SHMETA_ABSENT, "");
		f->begun = false;
		f->ended++;
	}
	end_chunk(f);
	return status;
}

static enum shmeta_status fetch_body(void *arg, struct backend_error *err)
{
	struct fetching *f = arg;
	const struct backend_key *keys = f->keys;
	enum shmeta_status status = SHMETA_OK;

	pg_reading_begin(&f->reading, err);
	f->reading.progress.rows = f->reading.progress.told = 0;
	f->ended = 0;
	f->begun = false;
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

/* Has the database's encoding no such name? Then it has no such row, and nobody can ask for it: not
 * even the names alone arrive. */
static bool is_unspeakable(struct pg_state *state, struct pg_conn *conn, const struct backend_key *key)
{
	struct pg_params params;
	PGresult *result = NULL;
	enum shmeta_status status;

	if (!pg_failed_with(conn, "22P05") || !pg_connected(conn))
		return false;
	pg_params_clear(&params);
	pg_param_text(&params, key->tenant);
	pg_param_text(&params, key->topic);
	pg_param_text(&params, key->name);
	status = pg_query(state, conn, PG_KEY_NAMES, &params, &result, NULL);
	PQclear(result);
	return status == SHMETA_ERR_SOURCE && pg_failed_with(conn, "22P05");
}

/* A key whose failure is its own. */
static enum shmeta_status end_unspeakable(const struct backend_key *key, const struct backend_sink *sink)
{
	enum shmeta_status status = sink->key_begin(sink->arg, key);

	return status != SHMETA_OK
	               ? status
	               : sink->key_end(sink->arg, key, kind_of(key) >= KIND_AGENT ? SHMETA_OK : SHMETA_ABSENT, "");
}

enum shmeta_status pg_fetch(void *data, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                            struct backend_error *err)
{
	struct pg_state *state = data;
	struct fetching f = {.keys = keys, .all = count};
	struct backend_error mine = {.code = SHMETA_OK};
	enum shmeta_status status;
	bool of_keys;

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
		status = pg_judge_locked(state, keys, count, &mine);
		if (status == SHMETA_ERR_BUSY)
			return backend_fail_keys(keys, count, 0, sink, status, mine.text);
		if (status != SHMETA_OK) {
			if (err != NULL)
				*err = mine;
			return status;
		}
	}
	f.reading = pg_reading_of(state, pg_reader(state), sink);
	status = pg_transaction(state, f.reading.conn, PG_BEGIN_READ, fetch_body, &f, &mine);
	/* A replica cancels what stands in the way of its replay, and may be anything else: it is
	 * never needed. */
	if (status == SHMETA_ERR_SOURCE && f.reading.conn == &state->replica) {
		bool again = !f.reading.conn->given_out;

		pg_shun(state, &state->replica, &mine);
		if (again) {
			f.reading.conn = &state->primary;
			status = pg_transaction(state, f.reading.conn, PG_BEGIN_READ, fetch_body, &f, &mine);
		}
	}
	of_keys = status == SHMETA_ERR_SOURCE;
	if (status == SHMETA_ERR_SOURCE && f.reading.conn == &state->primary &&
	    pg_failed_with(f.reading.conn, "55P03")) {
		status = pg_judge_locked(state, keys, count, &mine);
		if (status == SHMETA_OK) /* it has gone in the meantime */
			status = backend_fail(&mine, SHMETA_ERR_BUSY,
			                      "%s: a table was locked by another session for %u ms and more",
			                      state->dialect->engine, pg_lock_wait_of(state));
	}
	status = pg_reading_failed(f.reading.conn, status, &mine);
	of_keys &= status == SHMETA_ERR_INVALID_ARGUMENT || status == SHMETA_ERR_BUSY;
	if (of_keys && count == 1 && !f.begun && is_unspeakable(state, f.reading.conn, keys))
		status = end_unspeakable(keys, sink);
	else if (of_keys)
		status = backend_fail_keys(keys + f.ended, count - f.ended, f.begun, sink, status, mine.text);
	else if (status != SHMETA_OK && err != NULL)
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
