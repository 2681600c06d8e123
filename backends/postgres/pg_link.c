/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: connections, made where needed: what a session is set to, and how long nobody
 * tries again after it was refused. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_pool.h"
#include "backends/postgres/pg_values.h"

enum { GATE_FIRST_MS = 100, GATE_MOST_MS = 3000 };

/* Nothing of a session is left to the server's or the role's settings. Its answer says what kind of
 * server this is. */
static enum shmeta_status set_up_session(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	const char *encoding = PQparameterStatus(conn->pg, "server_encoding");
	uint32_t timeout = pg_timeout_of(state);
	uint64_t before_ns;
	PGresult *result = NULL;
	enum shmeta_status status;
	char sql[1000];

	if (PQparameterStatus(conn->pg, "crdb_version") != NULL)
		state->dialect = &pg_cockroachdb;
	if (state->options.follower_reads && !state->dialect->historical_reads)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"%s: follower reads (source.follower_reads) are CockroachDB's; a replica of PostgreSQL is "
			"read with source.read_uri",
			state->dialect->engine);
	if (state->options.changefeed && !state->dialect->changefeeds)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"%s: changefeeds (feed.changefeed) are CockroachDB's; PostgreSQL is followed by its change log",
			state->dialect->engine);
	conn->server_version = PQserverVersion(conn->pg);
	if (conn == &state->primary) {
		uint64_t random = pg_scatter(state);

		snprintf(state->origin, sizeof state->origin, "%016" PRIx64, random);
	}
	(void)snprintf(sql, sizeof sql, "SELECT %s, %s",
	               state->dialect->replay_positions
	                       ? "pg_is_in_recovery()::int, (current_setting('transaction_read_only') = 'on')::int, "
	                         "pg_backend_pid()"
	                       : "0, 0, 0",
	               state->dialect->clock);
	before_ns = pg_now_ns();
	status = pg_execute(state, conn, sql, &result, err);
	if (status != SHMETA_OK)
		return status;
	if (conn == &state->primary) {
		state->clock.known = false; /* it may be another server than before */
		pg_clock_seen(state, strtoll(pg_value(result, 0, 3), NULL, 10), before_ns, pg_now_ns());
	}
	conn->in_recovery = pg_value(result, 0, 0)[0] == '1';
	conn->server_read_only = pg_value(result, 0, 1)[0] == '1';
	conn->session = (int)strtol(pg_value(result, 0, 2), NULL, 10);
	PQclear(result);
	/* The server gives each session's number at login; what is between us and it has given one
	 * of its own. */
	conn->pooled = state->dialect->replay_positions && conn->session != PQbackendPID(conn->pg);
	if (conn->pooled && (conn == &state->primary || conn == &state->replica)) {
		/* Before anything is set in a session that may be another's next. */
		status = pg_judge_pool(state, conn, err);
		if (status == SHMETA_OK)
			status = pg_execute(state, conn, "DEALLOCATE ALL", NULL, err);
		if (status != SHMETA_OK)
			return status;
	}
	/* The server gives up a little before we do: then the connection can be kept. And a plan
	 * for what is polled, kept from when a table was small, must not read it from end to end
	 * when it is not: only a load does that, and says so. A statement outside of a transaction
	 * is one of its own, and must neither wait for nor fail with others' (SERIALIZABLE,
	 * DEFERRABLE). */
	snprintf(
		sql, sizeof sql,
		"SELECT set_config('statement_timeout', '%u', false), set_config('lock_timeout', '%u', false), "
		"set_config('idle_in_transaction_session_timeout', '%u', false)%s%s%s%s",
		timeout - timeout / 10, pg_lock_wait_of(state), 4 * timeout,
		state->dialect->triggers
			? ", set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false), "
			  "set_config('jit', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false), "
			  "set_config('default_transaction_isolation', 'read committed', false), "
			  "set_config('default_transaction_deferrable', 'off', false), "
			  "set_config('standard_conforming_strings', 'on', false), set_config('quote_all_identifiers', 'off', false)"
			: "",
		state->dialect->triggers && conn->server_version >= 140000
			? ", set_config('idle_session_timeout', '0', false)"
			: "",
		state->dialect->triggers && conn->server_version >= 170000
			? ", set_config('transaction_timeout', '0', false)"
			: "",
		/* It knows nothing of its bytes, and would fail a statement for one that is no
		 * UTF-8: that is ours to find, row by row. */
		encoding != NULL && strcmp(encoding, "SQL_ASCII") == 0
			? ", set_config('client_encoding', 'SQL_ASCII', false)"
			: "");
	return pg_execute(state, conn, sql, NULL, err);
}

enum shmeta_status pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	struct backend_error refused = {0};
	enum shmeta_status status;
	uint64_t gate_ms;
	bool login_refused;

	if (pg_connected(conn) && !conn->strange)
		return SHMETA_OK;
	pg_disconnect(state, conn);
	if (pg_now_ns() < conn->retry_at_ns) {
		if (err != NULL)
			*err = conn->refused;
		return conn->refused.code;
	}
	if (state->seed == 0) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		state->seed = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid() << 20 ^
		               (uint64_t)(uintptr_t)state) |
		              1;
		(void)pg_scatter(state);
	}
	conn->sqlstate[0] = '\0';
	conn->connects++;
	state->counters.reconnects += conn->connects > 1;
	if (conn == &state->primary)
		state->attached = false;
	status = pg_login(state, conn, &refused);
	if (status == SHMETA_OK)
		status = set_up_session(state, conn, &refused);
	if (status == SHMETA_OK) {
		conn->failures = 0;
		conn->retry_at_ns = 0;
		return SHMETA_OK;
	}
	/* One attempt at a time, and after a refused one a pause in which everyone gets its answer:
	 * long where trying again looks like an attack, short where a server is coming back. libpq
	 * gives no SQLSTATE of a login; its text is in English or not, so anything that got as far
	 * as a server's refusal counts. */
	login_refused = conn->pg != NULL && PQconnectionNeedsPassword(conn->pg) | PQconnectionUsedPassword(conn->pg);
	pg_disconnect(state, conn);
	gate_ms = (uint64_t)GATE_FIRST_MS << (conn->failures < 8 ? conn->failures : 8);
	if (gate_ms > GATE_MOST_MS)
		gate_ms = GATE_MOST_MS;
	if (login_refused || status == SHMETA_ERR_CONFIG || conn != &state->primary)
		gate_ms = PG_LOGIN_GATE_MS;
	conn->failures++;
	conn->retry_at_ns = pg_now_ns() + (gate_ms - pg_scatter(state) % (gate_ms / 4)) * 1000000u;
	conn->refused = refused;
	if (err != NULL)
		*err = refused;
	return status;
}
