/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the statements of the log of changes (pg_feed.c, pg_replica.c). */
#include "backends/postgres/pg_coverage.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_prune.h"

/* The newest row, of all that are of this cluster, as a witness. */
#define NEWEST                                                                                                    \
	"(SELECT w.xid::text || ' ' || w.seq || ' ' || coalesce(w.token, 0) FROM shmeta_changes w WHERE w.xid < " \
	"pg_snapshot_xmax(pg_current_snapshot()) ORDER BY w.xid DESC, w.seq DESC LIMIT 1)"
/* Is the one still there that is told by three parameters? */
#define IS_THERE(xid, seq, token)                                                       \
	"(" xid "::int8 = 0 OR EXISTS (SELECT FROM shmeta_changes w WHERE w.xid = " xid \
	"::int8::text::xid8 AND w.seq = " seq "::int8 AND coalesce(w.token, 0) = " token "::int8))::int::int8"

#define MISSED \
	"CASE WHEN has_sequence_privilege('shmeta_missed'::regclass, 'SELECT') THEN coalesce(pg_sequence_last_value('shmeta_missed'::regclass), 0) ELSE 0 END"

/* What the snapshot $1 has not seen, but for what $2 has written. The inner limits let the planner
 * walk the index also where it knows nothing of the table yet. The row that is no change comes
 * first, or last. found: an expression, of one text. Two statements, not one with a switch: that
 * would be planned anew each time. */
static bool poll_text(struct pg_state *state, enum pg_statement which, const char *basis, const char *found)
{
	return pg_text_of(
		state, which,
		"SELECT c.class::int8, c.op::int8, c.tenant, c.topic, c.partition_id::int8, min(c.base_offset)::int8, "
		"max(c.base_last)::int8, count(*), c.name, NULL, NULL, NULL::int8 FROM ((SELECT * FROM shmeta_changes WHERE xid >= "
		"pg_snapshot_xmax($1::text::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot()) "
		"AND origin IS DISTINCT FROM $2::text ORDER BY xid, seq LIMIT %d) "
		"UNION ALL (SELECT * FROM shmeta_changes WHERE xid = ANY(ARRAY(SELECT "
		"pg_snapshot_xip($1::text::pg_snapshot))) AND origin IS DISTINCT FROM $2::text LIMIT %d)) c "
		"GROUP BY c.tenant, c.topic, c.partition_id, c.class, c.op, c.name "
		"UNION ALL SELECT -1, " IS_THERE(
			"$3", "$4",
			"$5") ", pg_current_snapshot()::text, "
			      "pg_current_wal_insert_lsn()::text, pg_backend_pid()::int8, "
			      "coalesce((SELECT value::int8 FROM shmeta_meta WHERE name = 'pruned'), 0), NULL, 0, " NEWEST
			      ", %s, %s, " MISSED " "
			      "ORDER BY 3, 4, 5 NULLS FIRST, 1, 2",
		PG_CHANGES_MOST + 1, PG_CHANGES_MOST + 1, basis, found);
}

bool pg_feed_texts(struct pg_state *state)
{
	const char *totals = "SELECT coalesce(sum(c.reltuples), 0)::int8 FROM pg_catalog.pg_class c WHERE c.oid IN "
			     "('topics'::regclass, 'partitions'::regclass, 'segments'::regclass) AND c.reltuples > 0";
	/* Which history the transactions' numbers belong to: another timeline may give one of them
	 * again, and a database that was copied has the same log. */
	const char *line =
		"(SELECT c.system_identifier::text FROM pg_control_system() c) || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) "
		"|| (SELECT d.oid::text FROM pg_catalog.pg_database d WHERE d.datname = current_database()) || ' ' "
		"|| (SELECT 'shmeta_changes'::regclass::oid::text)";
	char basis[PG_BASIS_BYTES];

	if (!state->shape.feed)
		return pg_text_of(state, PG_LOAD_STATE,
		                  "SELECT (%s), ''::text, ''::text, ''::text, ''::text, ''::text, ''::text, 0::int8",
		                  totals) &&
		       pg_text_of(state, PG_FEED_STATE, "SELECT ''::text, 0::int8") &&
		       pg_text_of(state, PG_FEED_CHANGES, "SELECT 0") && pg_text_of(state, PG_FEED_LOOK, "SELECT 0") &&
		       pg_text_of(state, PG_REPLAYED, "SELECT 0");
	pg_basis_expression(true, basis);
	return pg_text_of(state, PG_LOAD_STATE,
	                  "SELECT (%s), pg_current_snapshot()::text, %s, pg_current_wal_insert_lsn()::text, "
	                  "(SELECT c.system_identifier::text FROM pg_control_system() c), %s, coalesce(" NEWEST
	                  ", ''), " MISSED,
	                  totals, line, basis) &&
	       pg_text_of(state, PG_FEED_STATE,
	                  "SELECT %s, coalesce((SELECT value::int8 FROM shmeta_meta WHERE name = 'pruned'), 0)::int8, "
	                  "pg_snapshot_xmax(pg_current_snapshot())::text::int8, " IS_THERE("$1", "$2",
	                                                                                   "$3") ", %s, " MISSED,
	                  line, basis) &&
	       poll_text(state, PG_FEED_CHANGES, basis, "NULL") &&
	       poll_text(state, PG_FEED_LOOK, basis, pg_prune_look) &&
	       /* Only a standby of the very same cluster has replayed anything of it. */
	       pg_text_of(
		       state, PG_REPLAYED,
		       "SELECT coalesce(pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false), "
		       "(SELECT c.system_identifier::text FROM pg_control_system() c)");
}
