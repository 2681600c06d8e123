/* SPDX-License-Identifier: Apache-2.0
 * What a scripted peer needs, before a PostgreSQL at SERIALIZABLE, to pass for a CockroachDB: rules
 * that refuse what it does not have and answer what PostgreSQL does not. The words are those of its
 * 23.2. */
#ifndef SHMETA_TESTS_SUPPORT_COCKROACH_H
#define SHMETA_TESTS_SUPPORT_COCKROACH_H

#include <libpq-fe.h>

#include "tests/support/pg_cluster.h"
#include "tests/support/pgwire.h"

#define COCKROACH_VERSION "CockroachDB CCL v23.2.4"
#define COCKROACH_REFUSES(what, code, words)                                             \
	{                                                                                \
		.pattern = what, .action = PGWIRE_ERROR, .sqlstate = code, .text = words \
	}
/* Rows of a changefeed without a sink come on the connection: pgwire_emit(). */
#define COCKROACH_CHANGEFEED                                                                                     \
	{                                                                                                        \
		.pattern = "CHANGEFEED FOR", .action = PGWIRE_STREAM, .text = "table:text key:bytea value:bytea" \
	}
#define COCKROACH_NO_RANGEFEEDS                                                                                         \
	{                                                                                                               \
		.pattern = "CHANGEFEED FOR", .action = PGWIRE_ERROR, .sqlstate = "XXUUU",                               \
		.text = "rangefeeds require the kv.rangefeed.enabled setting. See https://www.cockroachlabs.com/docs/", \
		.times = PGWIRE_OFF                                                                                     \
	}
#define COCKROACH_REFUSALS                                                                                               \
	COCKROACH_REFUSES("LISTEN", "0A000", "unimplemented: LISTEN (cockroach#41522)"),                                 \
		COCKROACH_REFUSES("NOTIFY", "0A000", "unimplemented: NOTIFY"),                                           \
		COCKROACH_REFUSES("TRIGGER", "0A000", "unimplemented: triggers"),                                        \
		COCKROACH_REFUSES("xid8", "42704", "type \"xid8\" does not exist"),                                      \
		COCKROACH_REFUSES("pg_snapshot", "42704", "type \"pg_snapshot\" does not exist"),                        \
		COCKROACH_REFUSES("pg_current_snapshot", "42883", "unknown function: pg_current_snapshot()"),            \
		COCKROACH_REFUSES("pg_current_xact_id", "42883", "unknown function: pg_current_xact_id()"),              \
		COCKROACH_REFUSES("pg_visible_in_snapshot", "42883", "unknown function: pg_visible_in_snapshot()"),      \
		COCKROACH_REFUSES("pg_xact_status", "42883", "unknown function: pg_xact_status()"),                      \
		COCKROACH_REFUSES("pg_control_system", "42883", "unknown function: pg_control_system()"),                \
		COCKROACH_REFUSES("_lsn()", "42883", "unknown function: pg_current_wal_insert_lsn()"),                   \
		COCKROACH_REFUSES("pg_advisory", "0A000", "unimplemented: advisory locks"),                              \
		COCKROACH_REFUSES("COLLATE \"C\"", "22023", "invalid locale C: language: tag is not well-formed"),       \
		COCKROACH_REFUSES("ctid", "42703", "column \"ctid\" does not exist"),                                    \
		COCKROACH_REFUSES("FORMAT binary", "0A000", "unimplemented: binary format for COPY TO"),                 \
		{.pattern = "WITH ",                                                                                     \
	         .action = PGWIRE_ERROR,                                                                                 \
	         .sqlstate = "0A000",                                                                                    \
	         .text = "multiple modification subqueries of the same table are not supported",                         \
	         .holds = cockroach_changes_twice},                                                                      \
		{.pattern = "version()",                                                                                 \
	         .action = PGWIRE_REWRITE,                                                                               \
	         .text = "(SELECT 'CockroachDB CCL v23.2.4 (x86_64-pc-linux-gnu, built 2024/04/08)'::text AS version)"}, \
		{.pattern = "follower_read_timestamp()",                                                                 \
	         .action = PGWIRE_REWRITE,                                                                               \
	         .text = "(SELECT at FROM played.follower_time)"},                                                       \
	{                                                                                                                \
		.pattern = "crdb_internal.cluster_id()", .action = PGWIRE_REWRITE,                                       \
		.text = "'c0ffee00-0000-4000-8000-000000000001'::uuid"                                                   \
	}

/* Does the statement change a table more than once? */
bool cockroach_changes_twice(const char *sql);

/* A server at SERIALIZABLE with a database `meta`, and before it the peer, which plays by these
 * rules. Returns a connection to the server itself, as another application has it. Fails the test
 * where it cannot. */
PGconn *cockroach_start(struct pg_cluster *server, struct pgwire *peer, const struct pgwire_rule *rules, size_t count);
void cockroach_stop(struct pg_cluster *server, struct pgwire *peer, PGconn *sql);

#endif
