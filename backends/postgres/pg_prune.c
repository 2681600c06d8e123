/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the end of old rows in the log of changes.
 *
 * Nobody knows who else reads the log, so rows are kept by age. A mark in shmeta_meta says which
 * transactions had ended when it was set; when it is old enough, what is below it goes, and a new
 * mark is set. Where no daemon does that, or too much is written meanwhile, the log's own trigger
 * does (pg_own.c). Both say in shmeta_meta below which transaction rows have gone, each poll reads
 * that with its rows, and a reader that has not polled since reconciles. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/postgres/pg_own.h"
#include "backends/postgres/pg_prune.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"

enum { PRUNE_BATCH = 20000, LOOK_EVERY_S = 60, KEEP_DEFAULT_S = 3600 };

/* A log that was copied from another cluster, as by pg_dump, has rows and marks of transactions
 * that this one has not had. They say nothing of this one, and would say something wrong once it
 * has. */
#define FOREIGN_ROW "xid >= pg_snapshot_xmax(pg_current_snapshot())"
#define FOREIGN_MARK \
	"name IN ('pruned', 'mark') AND split_part(value, ' ', 1)::int8 > pg_snapshot_xmax(pg_current_snapshot())::text::int8"
/* The server's time, whether the log holds what is of another cluster, the mark if there is one. */
const char pg_prune_look[] =
	"extract(epoch FROM clock_timestamp())::bigint || CASE WHEN EXISTS(SELECT FROM shmeta_changes "
	"WHERE " FOREIGN_ROW ") OR EXISTS(SELECT FROM shmeta_meta WHERE " FOREIGN_MARK
	") THEN ' 1 ' ELSE ' 0 ' END || coalesce((SELECT value FROM shmeta_meta WHERE name = 'mark'), '')";

struct pruning {
	struct pg_state *state;
	bool more; /* than one transaction has taken */
};

/* The mark is the database's: whoever writes there can give it any time, and one that cannot be
 * must not keep the log for ever. */
static bool is_young(int64_t now, int64_t set, int64_t keep)
{
	int64_t age;

	return !__builtin_sub_overflow(now, set, &age) && age < keep && age > -keep;
}

/* The lock is taken: what is below the mark goes, when that is old enough. */
static enum shmeta_status prune_below_mark(struct pg_state *state, bool *ret_more, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	int64_t keep = state->options.feed_keep_s > 0 ? (int64_t)state->options.feed_keep_s : KEEP_DEFAULT_S;
	uint64_t mark, xmin;
	int64_t set, now;
	char *rest;
	PGresult *result = NULL;
	enum shmeta_status status;
	char sql[900];

	snprintf(sql, sizeof sql,
	         "SELECT extract(epoch FROM clock_timestamp())::bigint, pg_snapshot_xmin(pg_current_snapshot())::text, "
	         "(SELECT value FROM %s.shmeta_meta WHERE name = 'mark')",
	         state->schema);
	status = pg_execute(state, conn, sql, &result, err);
	if (status != SHMETA_OK)
		return status;
	now = strtoll(pg_value(result, 0, 0), NULL, 10);
	xmin = strtoull(pg_value(result, 0, 1), NULL, 10);
	mark = strtoull(pg_value(result, 0, 2), &rest, 10);
	set = *rest == ' ' ? strtoll(rest, NULL, 10) : 0;
	PQclear(result);
	if (mark > 0 && is_young(now, set, keep))
		return SHMETA_OK;
	if (mark > 0) {
		uint64_t gone;

		snprintf(sql, sizeof sql,
		         "DELETE FROM %s.shmeta_changes WHERE (xid, seq) IN (SELECT xid, seq FROM %s.shmeta_changes "
		         "WHERE xid < '%" PRIu64
		         "'::xid8 AND xid < (SELECT max(xid) FROM %s.shmeta_changes) ORDER BY xid, seq LIMIT %d)",
		         state->schema, state->schema, mark, state->schema, PRUNE_BATCH);
		status = pg_execute(state, conn, sql, &result, err);
		if (status != SHMETA_OK)
			return status;
		gone = pg_touched(result);
		PQclear(result);
		snprintf(sql, sizeof sql,
		         "INSERT INTO %s.shmeta_meta AS m(name, value) VALUES ('pruned', '%" PRIu64
		         "') ON CONFLICT (name) DO UPDATE "
		         "SET value = greatest(m.value::int8, EXCLUDED.value::int8)::text",
		         state->schema, mark);
		status = pg_execute(state, conn, sql, NULL, err);
		/* More of them: the mark stays, and the next call goes on. */
		*ret_more = status == SHMETA_OK && gone >= PRUNE_BATCH;
		if (status != SHMETA_OK || *ret_more)
			return status;
	}
	snprintf(sql, sizeof sql,
	         "INSERT INTO %s.shmeta_meta(name, value) VALUES ('mark', '%" PRIu64 " %" PRId64
	         "') ON CONFLICT (name) DO UPDATE "
	         "SET value = EXCLUDED.value",
	         state->schema, xmin, now);
	return pg_execute(state, conn, sql, NULL, err);
}

static enum shmeta_status prune_body(void *arg, struct backend_error *err)
{
	struct pruning *pruning = arg;
	struct pg_state *state = pruning->state;
	PGresult *result = NULL;
	enum shmeta_status status;
	bool mine;
	char sql[80];

	pruning->more = false;

	/* One of all daemons; the others have nothing to wait for. */
	snprintf(sql, sizeof sql, "SELECT pg_try_advisory_xact_lock(%d)::int", PG_PRUNE_LOCK);
	status = pg_execute(state, &state->primary, sql, &result, err);
	mine = status == SHMETA_OK && pg_value(result, 0, 0)[0] == '1';
	PQclear(result);
	return mine ? prune_below_mark(state, &pruning->more, err) : status;
}

static enum shmeta_status clear_body(void *arg, struct backend_error *err)
{
	struct pg_state *state = ((struct pruning *)arg)->state;
	enum shmeta_status status;
	char sql[400];

	snprintf(sql, sizeof sql, "DELETE FROM %s.shmeta_changes WHERE " FOREIGN_ROW, state->schema);
	status = pg_execute(state, &state->primary, sql, NULL, err);
	if (status != SHMETA_OK)
		return status;
	snprintf(sql, sizeof sql, "DELETE FROM %s.shmeta_meta WHERE " FOREIGN_MARK, state->schema);
	status = pg_execute(state, &state->primary, sql, NULL, err);
	if (status != SHMETA_OK)
		return status;
	/* So that there is a row to be known again. */
	snprintf(sql, sizeof sql, "INSERT INTO %s.shmeta_changes(class) VALUES (%d)", state->schema, PG_CLASS_NONE);
	return pg_execute(state, &state->primary, sql, NULL, err);
}

void pg_prune_log(struct pg_state *state, const char *found, uint64_t *ret_look_at_ns)
{
	struct pruning pruning = {.state = state};
	int64_t keep = state->options.feed_keep_s > 0 ? (int64_t)state->options.feed_keep_s : KEEP_DEFAULT_S;
	struct backend_error ignored;
	int64_t now, set;
	uint64_t mark;
	bool foreign;
	char *rest;

	*ret_look_at_ns = pg_now_ns() + (uint64_t)LOOK_EVERY_S * 1000000000u;
	now = strtoll(found, &rest, 10);
	foreign = strtol(rest, &rest, 10) != 0;
	mark = strtoull(rest, &rest, 10);
	set = strtoll(rest, NULL, 10);
	if (state->read_only || (!foreign && mark > 0 && is_young(now, set, keep)))
		return;
	state->doing = "pruning the change log of";
	(void)pg_transaction(state, &state->primary, PG_BEGIN_WRITE, foreign ? clear_body : prune_body, &pruning,
	                     &ignored);
	if (pruning.more)
		*ret_look_at_ns = 0;
}
