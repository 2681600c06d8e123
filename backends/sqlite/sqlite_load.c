/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: load(). */
#include <string.h>

#include "backends/sqlite/sqlite_connection.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_load.h"
#include "backends/sqlite/sqlite_reading.h"

static enum shmeta_status read_keys_by(struct sqlite_reading *reading, enum sqlite_statement which)
{
	struct sqlite_cursor topics;
	enum shmeta_status status = sqlite_cursor_start(reading, &topics, which, SHMETA_CLASS_TOPIC, -1);

	while (status == SHMETA_OK && topics.at.on) {
		const struct backend_key key = {
			.cls = SHMETA_CLASS_TOPIC, .tenant = topics.at.tenant, .topic = topics.at.topic};

		status = reading->sink->key(reading->sink->arg, &key);
		if (status == SHMETA_OK)
			status = sqlite_advance(reading, &topics);
	}
	sqlite_cursor_stop(&topics);
	return status;
}

/* The names of all topics. Where one of them cannot be read, the names that the partitions have. */
static enum shmeta_status read_keys(struct sqlite_reading *reading)
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

static enum shmeta_status read_all(struct sqlite_reading *reading)
{
	struct sqlite_cursor topics = {.index_column = -1}, partitions = {.index_column = -1},
			     segments = {.index_column = -1};
	enum shmeta_status status = sqlite_cursor_start(reading, &topics, ST_LOAD_TOPICS, SHMETA_CLASS_TOPIC, -1);

	if (status == SHMETA_OK)
		status = sqlite_cursor_start(reading, &partitions, ST_LOAD_PARTITIONS, SHMETA_CLASS_PARTITION, -1);
	if (status == SHMETA_OK)
		status = sqlite_cursor_start(reading, &segments, ST_LOAD_SEGMENTS, SHMETA_CLASS_SEGMENT, -1);
	if (status == SHMETA_OK)
		status = walk_all(&reading->walk, &topics.at, &partitions.at, &segments.at);
	if (status == SHMETA_OK)
		status = sqlite_read_others(reading, SHMETA_CLASS_LIST);
	sqlite_cursor_stop(&topics);
	sqlite_cursor_stop(&partitions);
	sqlite_cursor_stop(&segments);
	return status;
}

enum shmeta_status sqlite_load(void *data, const struct backend_sink *sink, struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct sqlite_reading reading;
	int64_t version = 0, total = 0;
	struct sqlite_log log = {.last = 0};
	enum shmeta_status status;
	int rc;

	if (state->cramped)
		state->objects = 0; /* there may be room for shmeta's own tables by now */
	status = sqlite_ensure(state, err);
	if (status != SHMETA_OK)
		return status;
	const bool look = state->look, made = state->made, altered = state->altered;

	reading = sqlite_reading_of(state, sink, err);
	reading.progress.loading = true;
	/* The hint from before the read, the log's end from within it: what comes after the read is
	 * seen later, and what comes between the two costs one look in vain. */
	rc = sqlite_number(state, ST_DATA_VERSION, &version);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "loading from", err);
	status = sqlite_begin(state, "loading from", err);
	if (status != SHMETA_OK)
		return status;
	/* What they stand for is read now. What comes behind the read, as a write of ours before
	 * the load has ended, sets them again. */
	state->look = state->made = state->altered = false;
	rc = state->shape.own ? sqlite_feed_state(state, state->at.seq, &log) : SQLITE_OK;
	if (rc == SQLITE_OK && sink->key == NULL)
		rc = sqlite_number(state, ST_TOTALS, &total);
	if (rc != SQLITE_OK)
		status = sqlite_fail(state, rc, "loading from", err);
	reading.progress.total = total > 0 ? (uint64_t)total : 0;
	progress_start(&reading.progress);
	if (status == SHMETA_OK)
		status = progress_tell_now(&reading.progress);
	if (status == SHMETA_OK)
		status = sink->key != NULL ? read_keys(&reading) : read_all(&reading);
	sqlite_end(state);
	sqlite3_db_release_memory(state->db);
	state->counters.rows += reading.progress.rows;
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, reading.progress.rows, reading.progress.rows);
	if (status != SHMETA_OK) {
		state->look |= look;
		state->made |= made;
		state->altered |= altered;
		return status;
	}
	sqlite_feed_from(state, &log, version);
	state->told = state->source;
	state->shown = true;
	return SHMETA_OK;
}
