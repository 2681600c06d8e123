/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what has changed.
 *
 * Three layers. PRAGMA data_version says in a microsecond that no other connection has committed
 * anything. shmeta_changes, which triggers fill, says what: it is read in order of its
 * AUTOINCREMENT number, from the last one that was reported. And because files can be replaced
 * under an open connection, which then goes on reading the old ones, each call compares what lies
 * at the paths with what is open (sqlite_files.c).
 *
 * A position is a row's number and its random token: a log that was rolled back by a restore and
 * has grown again past that number has another token there, or no such row.
 *
 * Pruning: rows that are LOG_KEEP behind the newest one are removed in batches by whichever daemon
 * polls. Another daemon on the same file that is further behind than that finds a gap, and
 * reconciles, which is no dearer by then. The newest row stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/sql/log_keys.h"
#include "backends/sqlite/sqlite_connection.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_schema.h"
#include "backends/sqlite/sqlite_wake.h"

enum { LOG_KEEP = 100000, PRUNE_BATCH = 10000, LOG_WINDOW = 100000, CLASS_KEYS_MOST = 2000 };

/* ---- the log ---- */

int sqlite_feed_state(struct sqlite_state *state, int64_t seq, struct sqlite_log *ret)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(state, ST_FEED_STATE, NULL, &status);
	int rc, reset;

	memset(ret, 0, sizeof *ret);
	if (statement == NULL)
		return sqlite3_errcode(state->db);
	state->counters.queries++;
	sqlite3_bind_int64(statement, 1, seq);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW) {
		const char *id = (const char *)sqlite3_column_text(statement, 2);
		const char *before = (const char *)sqlite3_column_text(statement, 3);

		ret->first = sqlite3_column_int64(statement, 0);
		ret->last = sqlite3_column_int64(statement, 1);
		ret->id = id != NULL ? strtoull(id, NULL, 16) : 0;
		ret->before_id = before != NULL ? strtoull(before, NULL, 16) : 0;
		ret->last_token = sqlite3_column_int64(statement, 4);
		ret->there = sqlite3_column_type(statement, 5) == SQLITE_INTEGER;
		ret->token = sqlite3_column_int64(statement, 5);
	}
	reset = sqlite3_reset(statement);
	return rc == SQLITE_ROW ? SQLITE_OK : reset;
}

static void stand_at(struct sqlite_state *state, int64_t seq, int64_t token, uint64_t feed_id)
{
	state->at = (struct sqlite_position){.version = SQLITE_POSITION_VERSION,
	                                     .feed = state->shape.feed,
	                                     .source = state->source,
	                                     .feed_id = feed_id,
	                                     .objects = state->objects,
	                                     .schema_version = state->schema_version,
	                                     .seq = seq,
	                                     .token = token};
}

/* Is the log, as it is, the one that the position was taken from? What is wrong goes to sentence,
 * "" where nothing is. */
static void prove(const struct sqlite_state *state, const struct sqlite_position *at, const struct sqlite_log *log,
                  char *sentence, size_t bytes)
{
	const char *path = state->path;

	sentence[0] = '\0';
	if (at->source != state->source)
		(void)snprintf(sentence, bytes, "sqlite: %s is another database than before", path);
	else if (!at->feed || !state->shape.feed)
		return;
	else if (at->feed_id != log->id && at->feed_id != log->before_id)
		(void)snprintf(sentence, bytes, "sqlite: %s has another change log than before: it was restored", path);
	else if (at->feed_id != log->id)
		/* something of it was made anew: it does not reach back, but it is the same
		 * course */
		return;
	else if (log->last < at->seq)
		(void)snprintf(
			sentence, bytes,
			"sqlite: the change log of %s ends at %lld, and was read up to %lld: an earlier state was restored",
			path, (long long)log->last, (long long)at->seq);
	else if (at->seq > 0 && log->there && log->token != at->token)
		(void)snprintf(
			sentence, bytes,
			"sqlite: row %lld of the change log of %s is not the one that was read: an earlier state was "
			"restored and has been written to since",
			(long long)at->seq, path);
}

/* Does the log reach back to the position, and has it told of everything since? */
static bool reaches(const struct sqlite_position *at, const struct sqlite_log *log)
{
	return at->feed && at->feed_id == log->id && (at->seq > 0 ? log->there : log->first <= 1);
}

void sqlite_feed_from(struct sqlite_state *state, const struct sqlite_log *log, int64_t data_version)
{
	if (state->at.version != 0 && state->history[0] == '\0')
		prove(state, &state->at, log, state->history, sizeof state->history);
	state->data_version = data_version;
	state->own_count = 0;
	state->look |= state->history[0] != '\0';
	state->baseline = true;
	stand_at(state, log->last, log->last_token, log->id);
}

const char *sqlite_feed_trouble(void *data)
{
	return ((const struct sqlite_state *)data)->trouble;
}

void sqlite_feed_own(struct sqlite_state *state, int64_t after, int64_t last, int64_t token)
{
	struct sqlite_own *end;

	state->logged += last - after;
	if (!state->baseline || last == after)
		return;
	if (state->own_count == 0 && after == state->at.seq) {
		state->at.seq = last;
		state->at.token = token;
		return;
	}
	end = state->own_count > 0 ? &state->own[state->own_count - 1] : NULL;
	if (end != NULL && end->last == after) {
		end->last = last;
		return;
	}
	if (state->own_count == SQLITE_OWN_MAX)
		memmove(state->own, state->own + 1, --state->own_count * sizeof state->own[0]);
	state->own[state->own_count++] = (struct sqlite_own){after, last};
}

static enum shmeta_status report_list(const struct backend_sink *sink, const char *why, uint64_t *ret_keys)
{
	(*ret_keys)++;
	return sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LIST, .name = {why, strlen(why)}});
}

/* Why the log is not gone on with. */
static const char *why_anew(const struct sqlite_state *state, bool baseline)
{
	return state->history[0] != '\0' ? state->history
	       : state->made             ? "triggers or tables of the change log were missing"
	       : state->altered          ? "the schema was altered: meanwhile triggers may have been missing"
	       : !baseline               ? "the file was opened anew"
	                                 : "the change log no longer reaches back to what was read";
}

/* SQLite keeps what it is given, text and blobs, too, which are behind every number in its
 * order. */
static bool unread_number(sqlite3_stmt *statement, int column)
{
	int type = sqlite3_column_type(statement, column);

	return type != SQLITE_INTEGER && type != SQLITE_NULL;
}

/* The log's rows in (after, last], as keys. */
static enum shmeta_status report_window(struct sqlite_state *state, const struct backend_sink *sink, int64_t after,
                                        int64_t last, uint64_t *ret_keys, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	sqlite3_stmt *statement = sqlite_prepare(state, ST_FEED_CHANGES, err, &status);
	struct feed_round round = {.keys = 0};
	uint32_t named[SHMETA_CLASS_COUNT] = {0};
	int rc = SQLITE_ROW;

	if (statement == NULL)
		return status;
	state->counters.queries++;
	sqlite3_bind_int64(statement, 1, after);
	sqlite3_bind_int64(statement, 2, last);
	while (status == SHMETA_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
		int cls = sqlite3_column_int(statement, 0), op = sqlite3_column_int(statement, 1);
		uint32_t unread = (unread_number(statement, 4) ? FEED_UNREAD_PARTITION : 0) |
		                  (unread_number(statement, 5) || unread_number(statement, 6) ? FEED_UNREAD_BASE : 0);
		int64_t partition = sqlite3_column_int64(statement, 4), from = sqlite3_column_int64(statement, 5),
			to = sqlite3_column_int64(statement, 6);
		struct feed_change change = {.cls = (enum shmeta_class)cls, .op = (enum feed_op)op};

		state->counters.rows++;
		unread |= feed_change_unread(partition, from, to);
		if (cls < 0 || cls >= SHMETA_CLASS_COUNT)
			continue;
		change.unread = unread;
		change.tenant.data = (const char *)sqlite3_column_text(statement, 2);
		change.tenant.bytes = (size_t)sqlite3_column_bytes(statement, 2);
		/* An agent of nobody's shows under the default tenant. */
		if (!state->shape.organization || (cls > SHMETA_CLASS_SEGMENT && change.tenant.data == NULL))
			change.tenant = rows_str(SHMETA_DEFAULT_TENANT);
		change.topic.data = (const char *)sqlite3_column_text(statement, 3);
		change.topic.bytes = (size_t)sqlite3_column_bytes(statement, 3);
		change.partition_id = (uint32_t)partition;
		change.from = (uint64_t)from;
		change.to = (uint64_t)to;
		change.name.data = (const char *)sqlite3_column_text(statement, 7);
		change.name.bytes = (size_t)sqlite3_column_bytes(statement, 7);
		/* So many of them are read at one go, and so is what no key can name. */
		if (cls > SHMETA_CLASS_SEGMENT && (unread != 0 || ++named[cls] > CLASS_KEYS_MOST))
			change.topic = change.name = (struct shmeta_str){"", 0};
		status = feed_change(&round, &change, sink);
	}
	if (status == SHMETA_OK && rc != SQLITE_DONE)
		status = sqlite_fail(state, rc, "reading the changes of", err);
	sqlite3_reset(statement);
	*ret_keys += round.keys;
	return status;
}

/* One batch of old rows, if nobody else is writing just now. */
static void prune(struct sqlite_state *state, int64_t first, int64_t last)
{
	enum shmeta_status status;
	sqlite3_stmt *statement;
	int64_t until = state->at.seq < last - LOG_KEEP ? state->at.seq : last - LOG_KEEP;

	state->logged = 0;
	if (state->read_only || first == 0 || until < first + PRUNE_BATCH)
		return;
	if (until > first + 2 * PRUNE_BATCH)
		until = first + 2 * PRUNE_BATCH;
	statement = sqlite_prepare(state, ST_FEED_PRUNE, NULL, &status);
	if (statement == NULL)
		return;
	/* The application does not wait for housekeeping, nor housekeeping for it. */
	sqlite3_busy_timeout(state->db, 0);
	if (sqlite_run(state, ST_BEGIN_IMMEDIATE) == SQLITE_OK) {
		state->counters.transactions++;
		state->counters.queries++;
		sqlite3_bind_int64(statement, 1, until);
		sqlite3_step(statement);
		sqlite3_reset(statement);
		sqlite_end(state);
	}
	sqlite3_busy_timeout(state->db, (int)(state->options.timeout_ms > 0 ? state->options.timeout_ms : 5000));
}

/* Nobody else writes: our own rows are behind us all the same. */
static void prune_own(struct sqlite_state *state)
{
	struct sqlite_log log;

	if (sqlite_feed_state(state, 0, &log) == SQLITE_OK)
		prune(state, log.first, log.last);
}

/* The log's rows in (after, last] but for our own. */
static enum shmeta_status report_others(struct sqlite_state *state, const struct backend_sink *sink, int64_t last,
                                        uint64_t *ret_keys, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	int64_t at = state->at.seq;

	for (size_t i = 0; status == SHMETA_OK && at < last; i++) {
		int64_t until = i < state->own_count && state->own[i].after < last ? state->own[i].after : last;

		for (; status == SHMETA_OK && at < until; at += LOG_WINDOW)
			status = report_window(state, sink, at, until - at > LOG_WINDOW ? at + LOG_WINDOW : until,
			                       ret_keys, err);
		at = i < state->own_count ? state->own[i].last : last;
	}
	return status;
}

enum shmeta_status sqlite_ensure_told(struct sqlite_state *state, struct backend_error *err)
{
	enum shmeta_status status = sqlite_ensure(state, err);
	struct sqlite_log log = {.last = 0};
	int rc = SQLITE_OK;

	if (status != SHMETA_OK)
		return status;
	if (state->unproved && state->at.version != 0 && state->history[0] == '\0') {
		if (state->shape.feed)
			rc = sqlite_feed_state(state, state->at.seq, &log);
		if (rc != SQLITE_OK)
			return sqlite_fail(state, rc, "reading the changes of", err);
		prove(state, &state->at, &log, state->history, sizeof state->history);
	}
	state->unproved = false;
	if (state->shown || (state->history[0] == '\0' && state->told == state->source))
		return SHMETA_OK;
	if (state->history[0] == '\0')
		return backend_fail(err, SHMETA_ERR_CONFLICT,
		                    "sqlite: another database is at %s: it is looked at before anything is done in it",
		                    state->path);
	return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: it is looked at before anything is done in it",
	                    state->history);
}

static enum shmeta_status report(struct sqlite_state *state, const struct backend_sink *sink, uint64_t *ret_keys,
                                 struct backend_error *err)
{
	enum shmeta_status status = sqlite_begin(state, "reading the changes of", err);
	struct sqlite_log log;
	int rc;

	if (status != SHMETA_OK)
		return status;
	rc = sqlite_feed_state(state, state->at.seq, &log);
	if (rc != SQLITE_OK)
		status = sqlite_fail(state, rc, "reading the changes of", err);
	else if (state->at.version != 0 && state->history[0] == '\0')
		prove(state, &state->at, &log, state->history, sizeof state->history);
	if (status == SHMETA_OK && state->history[0] != '\0' && sink->history != NULL)
		sink->history(sink->arg, state->history);
	if (status == SHMETA_OK &&
	    (state->history[0] != '\0' || !state->baseline || state->altered || !reaches(&state->at, &log)))
		status = report_list(sink, why_anew(state, state->baseline), ret_keys);
	else if (status == SHMETA_OK)
		status = report_others(state, sink, log.last, ret_keys, err);
	sqlite_end(state);
	if (status != SHMETA_OK)
		return status;
	state->history[0] = '\0';
	state->own_count = 0;
	state->made = state->altered = false;
	stand_at(state, log.last, log.last_token, log.id);
	prune(state, log.first, log.last);
	return SHMETA_OK;
}

/* Without a feed: something has changed. */
static enum shmeta_status report_hint(struct sqlite_state *state, const struct backend_sink *sink, uint64_t *ret_keys)
{
	const struct sqlite_log none = {.last = 0};

	if (state->at.version != 0 && state->history[0] == '\0')
		prove(state, &state->at, &none, state->history, sizeof state->history);
	if (state->history[0] != '\0' && sink->history != NULL)
		sink->history(sink->arg, state->history);
	state->history[0] = '\0';
	stand_at(state, 0, 0, 0);
	return report_list(sink, "something has changed, and no change feed says what", ret_keys);
}

enum shmeta_status sqlite_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                                  struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure(state, err);
	int64_t version = 0;
	uint64_t keys = 0;
	bool woken;
	int rc;

	*ret_changed = 0;
	*ret_lag_ns = 0;
	if (status != SHMETA_OK)
		return status;
	woken = sqlite_woken(state);
	sqlite_checkpoint(state, SQLITE_CHECKPOINT_PAGES);
	/* Our own commit wakes us as well as anybody's. Another one's that hides behind it is found
	 * by the poll that is soon due. */
	if (state->wrote)
		woken = false;
	state->wrote = false;
	/* Somebody may have written the bytes of a commit while nobody listened, and publish it
	 * only after this poll. */
	if (state->suppressed) {
		sqlite_listen(state);
		woken = true;
	}
	rc = sqlite_number(state, ST_DATA_VERSION, &version);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the changes of", err);
	sqlite_wake_again(state, woken, version != state->data_version);
	if (state->baseline && !state->look && !state->altered && version == state->data_version) {
		if (state->logged >= PRUNE_BATCH)
			prune_own(state);
		return SHMETA_OK;
	}
	status = sqlite_check_schema(state, err);
	if (status == SHMETA_OK && state->cramped) {
		state->objects = 0; /* there may be room for shmeta's own tables by now */
		status = sqlite_ensure(state, err);
	}
	if (status != SHMETA_OK)
		return status;
	if (state->shape.feed)
		status = report(state, sink, &keys, err);
	else
		status = report_hint(state, sink, &keys);
	if (status != SHMETA_OK)
		return status;
	state->data_version = version;
	state->look = state->altered = false;
	state->baseline = true;
	state->told = state->source;
	*ret_changed = keys > 0;
	return SHMETA_OK;
}

enum shmeta_status sqlite_position(void *data, void *ret, size_t capacity, size_t *ret_bytes)
{
	const struct sqlite_state *state = data;
	struct sqlite_position position = state->at;

	position.version = SQLITE_POSITION_VERSION;
	position.feed = state->shape.feed && state->baseline;
	*ret_bytes = sizeof position;
	if (capacity < sizeof position)
		return SHMETA_ERR_BUFFER;
	memcpy(ret, &position, sizeof position);
	return SHMETA_OK;
}

static bool schema_was_another(const struct sqlite_state *state, const struct sqlite_position *at)
{
	return at->objects != state->objects || sqlite_may_have_missed(at->schema_version, state->schema_version);
}

enum shmeta_status sqlite_resume(void *data, const void *bytes, size_t size, struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct sqlite_position position;
	enum shmeta_status status = sqlite_ensure(state, err);
	char sentence[sizeof state->history];
	struct sqlite_log log;
	int rc = SQLITE_OK;

	if (status != SHMETA_OK)
		return status;
	if (size != sizeof position)
		return SHMETA_ABSENT;
	memcpy(&position, bytes, sizeof position);
	if (position.version != SQLITE_POSITION_VERSION)
		return SHMETA_ABSENT;
	memset(&log, 0, sizeof log);
	if (state->shape.feed)
		rc = sqlite_feed_state(state, position.seq, &log);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "resuming", err);
	prove(state, &position, &log, sentence, sizeof sentence);
	if (sentence[0] != '\0')
		return backend_fail(err, SHMETA_ERR_CONFLICT, "%s", sentence);
	if (!state->shape.feed || state->made || schema_was_another(state, &position) || !reaches(&position, &log))
		return backend_fail(err, SHMETA_ABSENT, "%s",
		                    !state->shape.feed ? "there is no change feed"
		                    : !state->made && schema_was_another(state, &position)
		                            ? "the schema was another one meanwhile"
		                            : why_anew(state, true));
	state->at = position;
	state->told = state->source;
	state->history[0] = '\0';
	state->own_count = 0;
	state->look = true;
	state->baseline = true;
	return SHMETA_OK;
}
