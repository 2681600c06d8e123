/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: load(). */
#include <stdio.h>
#include <stdlib.h>

#include "backends/postgres/pg_changefeed.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_load.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_replica.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"

enum { LOAD_PATIENCE = 60 /* times the timeout */ };

/* While the server sorts, and nothing comes. */
static enum shmeta_status tick(void *arg)
{
	struct pg_reading *reading = arg;

	return progress_tell_now(&reading->progress);
}

/* The server may sort for long, and the sink may be slow: neither is a fault in a load. And it
 * reads whole tables. */
static enum shmeta_status make_room(struct pg_reading *reading)
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

static enum shmeta_status load_others(struct pg_reading *reading)
{
	enum shmeta_status status = SHMETA_OK;

	for (int i = 0; status == SHMETA_OK && i < EMIT_OTHERS; i++) {
		struct pg_list list = {.result = NULL};

		reading->state->doing = pg_others[i].loading;
		status = pg_query(reading->state, reading->conn, pg_others[i].statement, NULL, &list.result,
		                  reading->err);
		reading->conn->given_out |= status == SHMETA_OK;
		if (status == SHMETA_OK)
			status = pg_emit_others(reading, (enum emit_other)i, &list, -1);
		PQclear(list.result);
	}
	return status;
}

/* Names only. */
static enum shmeta_status load_keys(struct pg_reading *reading, struct pg_cursor *topics)
{
	enum shmeta_status status =
		pg_query(reading->state, reading->conn, reading->keys, NULL, &topics->result, reading->err);

	topics->columns = 2;
	if (status == SHMETA_OK)
		status = pg_advance(&reading->walk, &topics->at);
	while (status == SHMETA_OK && topics->at.on) {
		const struct backend_key key = {
			.cls = SHMETA_CLASS_TOPIC, .tenant = topics->at.tenant, .topic = topics->at.topic};

		reading->conn->given_out = true;
		status = reading->sink->key(reading->sink->arg, &key);
		if (status == SHMETA_OK)
			status = pg_advance(&reading->walk, &topics->at);
	}
	return status;
}

static enum shmeta_status load_rows(struct pg_reading *reading, struct pg_cursor *topics, struct pg_cursor *partitions,
                                    struct pg_cursor *segments)
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
		status = pg_feed_baseline(state, conn, &reading->progress.total, err);
	if (status == SHMETA_OK)
		status = progress_tell_now(&reading->progress);
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
		status = pg_advance(&reading->walk, &topics->at);
	if (status == SHMETA_OK)
		status = pg_advance(&reading->walk, &partitions->at);
	if (status == SHMETA_OK)
		status = pg_advance(&reading->walk, &segments->at);
	if (status != SHMETA_OK)
		return status;
	conn->given_out = true;
	status = walk_all(&reading->walk, &topics->at, &partitions->at, &segments->at);
	return status == SHMETA_OK && !reading->follower ? load_others(reading) : status;
}

static enum shmeta_status load_body(void *arg, struct backend_error *err)
{
	struct pg_reading *reading = arg;
	struct pg_cursor topics = pg_cursor_of(SHMETA_CLASS_TOPIC, -1),
			 partitions = pg_cursor_of(SHMETA_CLASS_PARTITION, -1),
			 segments = pg_cursor_of(SHMETA_CLASS_SEGMENT, -1);
	enum shmeta_status status;

	pg_reading_begin(reading, err);
	progress_start(&reading->progress);
	status = load_rows(reading, &topics, &partitions, &segments);
	pg_cursor_end(&topics);
	pg_cursor_end(&partitions);
	pg_cursor_end(&segments);
	return status;
}

/* Behind a load from followers: what lives for seconds is of now. */
static enum shmeta_status others_body(void *arg, struct backend_error *err)
{
	struct pg_reading *reading = arg;
	enum shmeta_status status;

	pg_reading_begin(reading, err);
	status = make_room(reading);
	return status == SHMETA_OK ? load_others(reading) : status;
}

/* *ret_again: it did not come to a row, and the load is to be done as any other. */
static enum shmeta_status load_from_followers(struct pg_reading *reading, bool *ret_again, struct backend_error *err)
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

/* A name that cannot be read keeps all others from being listed: those that the partitions have
 * come instead. */
static enum shmeta_status load_other_keys(struct pg_reading *reading, struct backend_error *err)
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
	struct pg_reading reading;
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
	reading = pg_reading_of(state, conn, sink);
	reading.progress.total = total;
	reading.progress.loading = true;
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
	status = pg_reading_failed(conn, status, err);
	if (status == SHMETA_ERR_INVALID_ARGUMENT && sink->key != NULL && err != NULL)
		status = pg_reading_failed(conn, load_other_keys(&reading, err), err);
	if (status == SHMETA_ERR_SOURCE && conn == &state->replica && err != NULL)
		pg_shun(state, conn, err);
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, reading.progress.rows, reading.progress.rows);
	pg_feed_loaded(state, status == SHMETA_OK);
	if (status == SHMETA_OK) {
		pg_changefeed_loaded(state);
		pg_feed_spoke(state);
		state->shown_connects = state->primary.connects;
	}
	return status;
}
