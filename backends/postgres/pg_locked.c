/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: keys that cannot be read because another session has locked a table as a whole,
 * as migrations do.
 *
 * The first read that meets such a lock waits for it as long as for any lock. Then the server is
 * asked which tables it is; until nobody locks one any more, keys that need it are refused at once,
 * with the lock's name, and others are read. */
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"

enum { LOOK_MS = 1000 };

void pg_locked_seen(struct pg_state *state, bool any)
{
	state->busy.tables_until_ns = any ? pg_now_ns() + LOOK_MS * UINT64_C(1000000) : 0;
}

bool pg_locked_lately(const struct pg_state *state)
{
	return state->busy.tables_until_ns != 0 && pg_now_ns() < state->busy.tables_until_ns;
}

static bool needs(const struct backend_key *key, const char *table)
{
	static const char *const tables[SHMETA_CLASS_COUNT][4] = {
		[SHMETA_CLASS_TOPIC] = {"topics", "partitions"},
		[SHMETA_CLASS_PARTITION] = {"partitions"},
		[SHMETA_CLASS_SEGMENT] = {"partitions", "segments"},
		[SHMETA_CLASS_AGENT] = {"agents"},
		[SHMETA_CLASS_LEASE] = {"partition_leases"},
		[SHMETA_CLASS_OFFSET] = {"consumer_groups", "consumer_offsets"},
	};

	for (size_t i = 0; tables[key->cls][i] != NULL; i++)
		if (strcmp(tables[key->cls][i], table) == 0)
			return true;
	return key->cls == SHMETA_CLASS_TOPIC && key->with_segments != 0 && strcmp(table, "segments") == 0;
}

enum shmeta_status pg_judge_locked(struct pg_state *state, const struct backend_key *keys, size_t count,
                                   struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_query(state, &state->primary, PG_W_LOCKED_TABLES, NULL, &result, err);

	if (status != SHMETA_OK)
		return status;
	pg_locked_seen(state, PQntuples(result) > 0);
	for (int row = 0; status == SHMETA_OK && row < PQntuples(result); row++) {
		/* Whoever only reads waits for nobody else. */
		if (strcmp(pg_value(result, row, 1), "AccessExclusiveLock") != 0)
			continue;
		for (size_t i = 0; status == SHMETA_OK && i < count; i++)
			if (needs(&keys[i], pg_value(result, row, 0)))
				status = backend_fail(
					err, SHMETA_ERR_BUSY,
					"%s: the table %s cannot be read now: another session has locked it (%s, process %s)",
					state->dialect->engine, pg_value(result, row, 0), pg_value(result, row, 1),
					pg_value(result, row, 2));
	}
	PQclear(result);
	return status;
}

static const struct pg_text texts[] = {
	/* Who waits for such a lock keeps us out as well: locks are given in the order in which
	 * they were asked for. */
	{PG_W_LOCKED_TABLES,
         "SELECT {!g:'', '', '' WHERE false}{g:c.relname::text, l.mode, l.pid::text FROM pg_catalog.pg_locks l JOIN "
         "pg_catalog.pg_class c ON c.oid = l.relation WHERE l.locktype = 'relation' AND l.database = (SELECT d.oid FROM "
         "pg_catalog.pg_database d WHERE d.datname = current_database()) AND l.pid <> pg_backend_pid() AND (l.mode = "
         "'AccessExclusiveLock' OR l.granted AND l.mode IN ('ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')) AND "
         "pg_catalog.pg_table_is_visible(c.oid) AND c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', "
         "'consumer_offsets', 'agents', 'partition_leases', 'shmeta_changes', 'shmeta_lease_epochs', 'shmeta_leader_epochs', 'shmeta_transfers', "
         "'shmeta_objects', 'shmeta_slices')}"},
};

bool pg_locked_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
