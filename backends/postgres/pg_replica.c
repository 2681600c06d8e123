/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: where rows are read. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_changefeed.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_replica.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"

void pg_wrote(struct pg_state *state)
{
	state->written.told[0] = '\0';
}

/* Has the replica replayed the primary's log up to there? No, also when it cannot be asked. */
static bool has_replayed(struct pg_state *state, const char *written)
{
	struct pg_conn *conn = &state->replica;
	PGresult *result = NULL;
	struct pg_params params;
	bool replayed = false;

	if (written[0] == '\0')
		return false;
	pg_params_clear(&params);
	pg_param_text(&params, rows_str(written));
	if (pg_query(state, conn, PG_REPLAYED, &params, &result, NULL) != SHMETA_OK)
		return false;
	if (PQntuples(result) == 1 && strcmp(pg_value(result, 0, 1), state->written.cluster) == 0)
		replayed = pg_int(result, 0, 0) != 0;
	PQclear(result);
	return replayed;
}

struct pg_conn *pg_reader(struct pg_state *state)
{
	bool usable = state->replica.conninfo != NULL && state->shape.feed && pg_feed_has_baseline(state);

	return usable && has_replayed(state, state->written.told) ? &state->replica : &state->primary;
}

enum shmeta_status pg_loader(struct pg_state *state, struct pg_conn **ret, uint64_t *ret_total,
                             struct backend_error *err)
{
	uint32_t timeout = pg_timeout_of(state);
	uint64_t until = pg_now_ns() + (uint64_t)timeout * 1000000u;
	enum shmeta_status status;

	*ret = &state->primary;
	if (state->replica.conninfo == NULL || !state->shape.feed)
		return SHMETA_OK;
	/* The baseline first: whatever the replica shows beyond it is told again, and nothing is
	 * lost between the two. */
	status = pg_feed_baseline(state, &state->primary, ret_total, err);
	while (status == SHMETA_OK && !has_replayed(state, state->written.loading)) {
		if (!pg_connected(&state->replica) || pg_now_ns() > until)
			return SHMETA_OK;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	if (status == SHMETA_OK)
		*ret = &state->replica;
	return status;
}

/* ---- reading from followers
 * CockroachDB's replicas answer for a moment some seconds ago by themselves, each for its region.
 * What this process has shown, or written, must not be taken back by such a read, so it has to be
 * of a later moment; how the clocks of the cluster's nodes may differ is left between the two. What
 * lives for seconds (agents, offsets, leases) is not read so, and does not count. */

void pg_follower_passed(struct pg_state *state)
{
	state->follower.shown_ns = pg_now_ns();
}

enum shmeta_status pg_follower_load(struct pg_state *state, const struct backend_sink *sink, bool *ret,
                                    struct backend_error *err)
{
	uint64_t asked = pg_now_ns();
	PGresult *result = NULL;
	int64_t lag_ns, read_us;
	enum shmeta_status status;

	*ret = false;
	if (!state->options.follower_reads || sink->may_lag == NULL || asked <= state->follower.shown_ns + PG_CLOCKS_NS)
		return SHMETA_OK;
	/* A transaction that begins later reads nothing earlier. */
	status = pg_execute(
		state, &state->primary,
		"SELECT (extract(epoch FROM clock_timestamp() - follower_read_timestamp()) * 1000000)::int8, "
		"(extract(epoch FROM follower_read_timestamp()) * 1000000)::int8",
		&result, err);
	if (status != SHMETA_OK) {
		/* A server that does not do it, without the licence for it perhaps, is read as any
		 * other. */
		state->follower.refused = true;
		return pg_connected(&state->primary) ? SHMETA_OK : status;
	}
	lag_ns = pg_clock_ns(strtoll(pg_value(result, 0, 0), NULL, 10));
	read_us = strtoll(pg_value(result, 0, 1), NULL, 10);
	PQclear(result);
	if (lag_ns < 0 || read_us < state->follower.read_us ||
	    asked <= state->follower.shown_ns + PG_CLOCKS_NS + (uint64_t)lag_ns)
		return SHMETA_OK;
	*ret = sink->may_lag(sink->arg, (uint64_t)lag_ns) != 0;
	if (*ret)
		state->follower.read_us = read_us;
	return SHMETA_OK;
}
