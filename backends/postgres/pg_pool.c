/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: is what answers a session of our own, or a pool that lends one for a
 * transaction at a time?
 *
 * We need one of our own: statements are prepared and timeouts set for it, and whoever got it next
 * would have them. A pool tells nobody what it does, so we look: through one that lends by
 * transactions, a session that we left in peace is met on another connection, or our own connection
 * meets another session. On a quiet pool the looks below find it whichever of its idle sessions a
 * pool gives out, the one used last or the one used first; on a busy one nearly always, and what
 * they miss shows in the next poll that meets another session, or in a statement that is not
 * there. */
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_pool.h"
#include "backends/postgres/pg_values.h"

enum { LOOKS = 9, PATIENCE_MS = 1000 };

enum shmeta_status pg_refuse_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	struct backend_error mine;
	char place[200];
	enum shmeta_status status =
		backend_fail(&mine, state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG,
	                     "%s: %s is a pool that shares its sessions: shmeta needs one of its own: set pgbouncer's "
	                     "pool_mode to session for it, or connect to the server itself",
	                     state->dialect->engine, pg_place(conn, place, sizeof place));

	if (err != NULL)
		*err = mine;
	pg_shun(state, conn, &mine);
	return status;
}

/* The session that the connection meets now, among all servers. "": it cannot be asked. */
static void look(struct pg_state *state, struct pg_conn *conn, char *ret, size_t bytes)
{
	PGresult *result = NULL;

	ret[0] = '\0';
	if (pg_execute(state, conn,
	               "SELECT pg_catalog.pg_backend_pid()::text || ' ' || pg_catalog.pg_postmaster_start_time()::text",
	               &result, NULL) == SHMETA_OK)
		snprintf(ret, bytes, "%s", pg_value(result, 0, 0));
	PQclear(result);
}

enum shmeta_status pg_judge_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	struct pg_conn other = {.role = conn->role, .conninfo = conn->conninfo, .patience_ms = PATIENCE_MS};
	char mine[80], now[80];
	bool shared = false;

	look(state, conn, mine, sizeof mine);
	/* No second session to be had, as from a pool of one: then it is not lent to others either
	 * while we are there. */
	if (mine[0] == '\0' || pg_login(state, &other, NULL) != SHMETA_OK) {
		pg_disconnect(state, &other);
		return pg_connected(conn) ? SHMETA_OK : pg_fail(state, conn, NULL, err);
	}
	/* One of the other's to two of ours: taken in turns, two sessions would meet the same two
	 * connections for ever. */
	for (int i = 0; !shared && i < LOOKS; i++) {
		bool ours = i % 3 != 0;

		look(state, ours ? conn : &other, now, sizeof now);
		shared = now[0] != '\0' && (strcmp(now, mine) == 0) != ours;
	}
	pg_disconnect(state, &other);
	return shared ? pg_refuse_pool(state, conn, err) : SHMETA_OK;
}
