/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what the log of changes covers. Triggers see what is done to a table by
 * statements that name it. What reaches its rows otherwise they do not see, and then there is no
 * feed but full passes:
 *
 *   views, foreign tables, materialized views   the rows are changed elsewhere
 *   partitions, inheritance                     a statement that names a part fires no trigger of
 *                                               the whole; ATTACH, DETACH and
 *                                               DROP of a part fire none at all. That a table had
 *                                               parts is known until ANALYZE
 *   a subscription's tables                     apply workers fire triggers for rows only. Those
 *                                               (ENABLE REPLICA) would log each
 *                                               row twice where a session says that it is a
 *                                               replica, and slow down the apply
 *   row-level security                          what a role sees changes with its policies
 *   keys of NUMERIC and the like                the log's columns do not hold them
 *
 * Whether it is so is seen once, when the shape is looked at; whether it still is, by every poll:
 * the basis is made of the rows of the catalog on which it all rests. Each has the number of the
 * transaction that wrote it (xmin), so that a trigger that was away for a moment between two polls
 * shows, too, and so does what rewrites a table without firing any: ALTER TABLE, TRUNCATE, VACUUM
 * FULL. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_coverage.h"
#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_values.h"
#include "backends/sql/tables.h"
#include "base/hash.h"

enum { ARRAY_BYTES = 500, TRIGGERS_BYTES = 4000 };

/* The oids of the seven and of the log, as whoever names them finds them. constant: looked up when
 * a statement is prepared, and by the server again whenever one of them, or the search_path, has
 * changed; they have to be there then. */
static void list_tables(bool constant, char ret[ARRAY_BYTES])
{
	size_t used = (size_t)snprintf(ret, ARRAY_BYTES, "ARRAY[");

	for (int i = 0; i < TABLE_COUNT; i++)
		used += (size_t)snprintf(ret + used, ARRAY_BYTES - used,
		                         constant ? "'%s'::regclass, " : "to_regclass('%s'), ", backend_tables[i].name);
	(void)snprintf(ret + used, ARRAY_BYTES - used,
	               constant ? "'shmeta_changes'::regclass]::oid[]" : "to_regclass('shmeta_changes')]::oid[]");
}

void pg_basis_expression(bool constant, char ret[PG_BASIS_BYTES])
{
	char tables[ARRAY_BYTES];

	list_tables(constant, tables);
	/* The trigger of NOTIFY comes and goes as hosts are configured, and nothing rests on it.
	 * That a table has got its first part shows in its own row (relhassubclass). */
	(void)snprintf(
		ret, PG_BASIS_BYTES,
		"(SELECT sum((c.oid::int8 << 32) + c.xmin::text::int8 + CASE WHEN c.relrowsecurity THEN "
		"row_security_active(c.oid)::int ELSE 0 END)::text FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s)) || "
		"(SELECT ' ' || count(*) || ' ' || coalesce(sum((t.oid::int8 << 32) + t.xmin::text::int8), 0) FROM "
		"pg_catalog.pg_trigger t WHERE t.tgrelid = ANY(%s) AND NOT t.tgisinternal AND t.tgname <> 'shmeta_changes_notify') || "
		"(SELECT ' ' || coalesce(sum((p.oid::int8 << 32) + p.xmin::text::int8), 0) FROM pg_catalog.pg_proc p WHERE p.oid IN (SELECT "
		"t.tgfoid FROM pg_catalog.pg_trigger t WHERE t.tgrelid = ANY(%s) AND NOT t.tgisinternal AND t.tgname <> "
		"'shmeta_changes_notify')) || "
		"(SELECT ' ' || count(*) || ' ' || sum((a.attnum::int8 << 40) + a.xmin::text::int8) FROM pg_catalog.pg_attribute a "
		"WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped) || "
		"(SELECT ' ' || count(*) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = ANY(%s)) || "
		"(SELECT ' ' || count(*) FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = ANY(%s))",
		tables, tables, tables, tables, tables, tables);
}

uint64_t pg_hash_value(const PGresult *result, int row, int column)
{
	const char *p = pg_value(result, row, column);

	return hash_bytes(HASH_FIRST, p, (size_t)pg_length(result, row, column)) | 1;
}

/* ---- what there is ---- */

/* Tables, and their mark. */
static enum shmeta_status count_own_tables(struct pg_state *state, struct pg_own *own, struct backend_error *err)
{
	enum shmeta_status status;
	char sql[1500], counts[80], *rest;
	int64_t rights;

	snprintf(
		sql, sizeof sql,
		"SELECT coalesce(sum(own)::text || ' ' || sum(CASE WHEN reads THEN own ELSE 0 END)::text || ' ' || sum(CASE WHEN own = 1 THEN 0 "
		"WHEN writes THEN 3 WHEN reads THEN 2 ELSE 1 END)::text, '0 0 0') FROM (SELECT CASE WHEN c.relname = 'shmeta_leader_epochs' THEN 0 "
		"ELSE 1 END AS own, has_table_privilege(c.oid, 'SELECT') AS reads, has_table_privilege(c.oid, 'SELECT') AND "
		"has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, "
		"'DELETE') AS writes FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"WHERE quote_ident(n.nspname) = '%s' AND c.relname IN ('shmeta_meta', 'shmeta_lease_epochs', "
		"'shmeta_leader_epochs', 'shmeta_transfers', 'shmeta_objects', 'shmeta_slices'%s) AND c.relkind IN ('r', 'S')) c",
		state->schema_text, state->dialect->triggers ? ", 'shmeta_changes', 'shmeta_missed'" : "");
	status = pg_one_text(state, sql, counts, sizeof counts, err);
	if (status != SHMETA_OK)
		return status;
	own->tables = strtoll(counts, &rest, 10);
	own->readable = strtoll(rest, &rest, 10);
	rights = strtoll(rest, NULL, 10);
	own->epochs = rights >= 1;
	own->epochs_readable = rights >= 2;
	own->epochs_writable = rights >= 3;
	if (own->readable < own->wanted_tables)
		return SHMETA_OK;
	snprintf(sql, sizeof sql, "SELECT value FROM %s.shmeta_meta WHERE name = 'schema'", state->schema);
	status = pg_one_text(state, sql, own->mark, sizeof own->mark, err);
	own->version = pg_judge_mark(state, own->mark);
	return status;
}

/* Names of tables for which the condition, on c, holds. */
#define NAMES_WHERE(condition) \
	"(SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM seven c WHERE " condition ")"

/* One look, by one statement, so that all of it is of the same moment as the basis. */
static enum shmeta_status look_at_catalog(struct pg_state *state, struct pg_own *own, struct backend_error *err)
{
	char *sql = NULL, triggers[TRIGGERS_BYTES], basis[PG_BASIS_BYTES], tables[ARRAY_BYTES];
	PGresult *result = NULL;
	enum shmeta_status status;
	int bytes;

	pg_list_triggers(triggers, sizeof triggers);
	pg_basis_expression(false, basis);
	list_tables(false, tables);
	/* Its last column: triggers and rules of the application's, and foreign keys by which a row
	 * of ours takes one along that we do not know of. */
	bytes = asprintf(
		&sql,
		"WITH own(name, tab, function, type) AS (VALUES %s), seven AS (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid = "
		"ANY(%s) AND c.relname <> 'shmeta_changes'), placed AS (SELECT o.name, EXISTS (SELECT FROM pg_catalog.pg_trigger t "
		"JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid WHERE t.tgname = o.name AND t.tgrelid = to_regclass(o.tab) AND "
		"p.proname = o.function AND t.tgtype = o.type AND t.tgenabled = 'A' AND (t.tgqual IS NULL OR t.tgtype = 5) AND "
		"has_schema_privilege(p.proowner, p.pronamespace, 'USAGE') AND has_table_privilege(p.proowner, "
		"to_regclass('shmeta_changes'), 'INSERT')) AS there "
		"FROM own o) SELECT %s, "
		"(SELECT count(*) FROM placed WHERE there), (SELECT string_agg(name, ', ' ORDER BY name) FROM placed WHERE NOT there), " NAMES_WHERE("c.relkind NOT IN ('r', 'p')") ", " NAMES_WHERE("c.relkind = 'p' OR c.relhassubclass OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)") ", " NAMES_WHERE(
			"EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = c.oid)") ", " NAMES_WHERE("row_security_active(c.oid)") ", "
																			"(SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('shmeta_changes') AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled <> 'D' AND t.tgname NOT IN ('shmeta_changes_prune', 'shmeta_changes_notify')))), "
																			"EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s) AND c.relpersistence = 'u')::int, "
																			"(EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN seven c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND "
																			"t.tgenabled <> 'D' AND t.tgname NOT IN (SELECT name FROM own)) OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN "
																			"seven c ON c.oid = r.ev_class) OR EXISTS (SELECT FROM pg_catalog.pg_constraint k JOIN seven c ON c.oid = k.confrelid "
																			"WHERE k.contype = 'f' AND k.confdeltype NOT IN ('a', 'r') AND NOT EXISTS (SELECT FROM (VALUES ('partitions', 'topics'), "
																			"('segments', 'topics'), ('segments', 'partitions'), ('consumer_offsets', 'consumer_groups'), "
																			"('consumer_offsets', 'topics'), ('consumer_offsets', 'partitions'), ('partition_leases', 'topics'), "
																			"('partition_leases', 'partitions'), ('partition_leases', 'agents')) known(child, parent) WHERE "
																			"k.conrelid = to_regclass(known.child) AND c.relname = known.parent)))::int",
		triggers, tables, basis, tables);
	if (bytes < 0)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	status = pg_execute(state, &state->primary, sql, &result, err);
	free(sql);
	if (status != SHMETA_OK)
		return status;
	state->coverage.basis = pg_hash_value(result, 0, 0);
	own->triggers = strtoll(pg_value(result, 0, 1), NULL, 10);
	snprintf(own->missing, sizeof own->missing, "%s", pg_value(result, 0, 2));
	for (int i = 0; i < PG_PASSED_BY; i++)
		snprintf(own->passed_by[i], sizeof own->passed_by[i], "%s", pg_value(result, 0, 3 + i));
	state->coverage.unlogged = pg_value(result, 0, 3 + PG_PASSED_BY)[0] == '1';
	state->coverage.meddled = pg_value(result, 0, 4 + PG_PASSED_BY)[0] == '1';
	PQclear(result);
	return SHMETA_OK;
}

enum shmeta_status pg_count_own(struct pg_state *state, struct pg_own *ret, struct backend_error *err)
{
	enum shmeta_status status;

	*ret = (struct pg_own){.wanted_tables = state->dialect->triggers ? 7 : 5,
	                       .wanted_triggers = state->dialect->triggers ? PG_TRIGGERS : 0};
	state->coverage = (struct pg_coverage){.basis = 0};
	status = count_own_tables(state, ret, err);
	return status == SHMETA_OK && state->dialect->triggers ? look_at_catalog(state, ret, err) : status;
}

/* ---- what that means ---- */

/* But for the table of leader epochs. */
static bool is_due(const struct pg_state *state, const struct pg_own *own)
{
	if (own->version == PG_VERSION_LATER)
		return false;
	if (own->tables < own->wanted_tables ||
	    (own->readable == own->wanted_tables && own->version == PG_VERSION_EARLIER))
		return true;
	return pg_log_is_possible(&state->shape) && own->triggers < own->wanted_triggers;
}

bool pg_own_is_due(const struct pg_state *state, const struct pg_own *own)
{
	return is_due(state, own) || (!own->epochs && own->version != PG_VERSION_LATER);
}

__attribute__((format(printf, 2, 3))) static void say_trouble(struct pg_state *state, const char *fmt, ...)
{
	char *why = state->coverage.why;
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(why, sizeof state->coverage.why, fmt, args);
	va_end(args);
	snprintf(state->coverage.trouble, sizeof state->coverage.trouble,
	         "no change feed: %s; full passes find what changes", why);
}

static void judge(struct pg_state *state, const struct pg_own *own)
{
	static const char *const passed_by[PG_PASSED_BY] = {
		"a view or foreign table, whose rows are changed elsewhere",
		"partitioned, or with inheritance: what is done to a part fires no trigger of the table",
		"written by a subscription, which fires no trigger for statements",
		"row-level security hides rows from this role",
		"a rule, policy or trigger that is not shmeta's may keep rows out of it",
	};
	const char *key = pg_inexact_key(&state->shape);

	if (!state->dialect->triggers)
		return;
	/* The log is read on the server that writes it: a standby knows the snapshots of others
	 * only roughly. */
	if (state->primary.in_recovery) {
		say_trouble(state, "the server is a standby");
		return;
	}
	for (int i = 0; i < PG_PASSED_BY; i++)
		if (own->passed_by[i][0] != '\0') {
			say_trouble(state, "%s: %s", own->passed_by[i], passed_by[i]);
			return;
		}
	if (key != NULL)
		say_trouble(state, "%s: its keys are of a type that the log does not hold", key);
	else if (state->make_failure[0] != '\0' && is_due(state, own))
		say_trouble(state, "shmeta's own objects cannot be made: %s", state->make_failure);
	else if (own->tables < own->wanted_tables)
		say_trouble(state, "shmeta's own tables are not there: 'shmetactl schema apply' makes them");
	else if (own->readable < own->wanted_tables)
		say_trouble(state, "this role may not read shmeta's own tables");
	else if (own->version == PG_VERSION_EARLIER)
		say_trouble(state, "shmeta's own objects are of another version: 'shmetactl schema apply' renews them");
	else if (own->triggers < own->wanted_triggers)
		say_trouble(
			state,
			"triggers are missing, do not always fire, or may not write the log (%.160s): 'shmetactl schema apply' makes them",
			own->missing);
}

enum shmeta_status pg_look_for_own(struct pg_state *state, bool *ret_due, struct backend_error *err)
{
	struct pg_own own;
	enum shmeta_status status = pg_count_own(state, &own, err);

	*ret_due = status == SHMETA_OK && pg_own_is_due(state, &own);
	if (status == SHMETA_OK)
		judge(state, &own);
	state->shape.own =
		status == SHMETA_OK && own.readable == own.wanted_tables && own.version != PG_VERSION_EARLIER;
	pg_epochs_forget(state);
	state->shape.epochs = state->shape.own && own.epochs_writable;
	state->shape.epochs_readable = state->shape.own && own.epochs_readable;
	state->shape.feed = state->shape.own && state->dialect->triggers && state->coverage.trouble[0] == '\0';
	return status;
}
