/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what the servers that speak PostgreSQL's protocol can and cannot do. */
#include "backends/postgres/pg_dialect.h"

const struct pg_dialect pg_postgresql = {
	.scheme = "postgresql",
	.engine = "postgresql",
	.snapshots = true,
	.triggers = true,
	.listen = true,
	.copy_binary = true,
	.advisory_locks = true,
	.replay_positions = true,
	.historical_reads = false,
	.changefeeds = false,
	.column_collate = " COLLATE \"C\"",
	.identity = "SELECT s.system_identifier::text || '/' || d.oid::text FROM pg_control_system() s, pg_database d "
		    "WHERE d.datname = current_database()",
	.clock = "(extract(epoch FROM clock_timestamp()) * 1000)::int8",
	.begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
	/* Each statement sees what was committed before it; what must hold between statements is
	 * locked or checked by constraints. */
	.begin_write = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
	.retries = 5,
};

const struct pg_dialect pg_cockroachdb = {
	.scheme = "cockroachdb",
	.engine = "cockroachdb",
	.snapshots = false,
	.triggers = false,
	.listen = false,
	.copy_binary = false,
	.advisory_locks = false,
	.replay_positions = false,
	.historical_reads = true,
	.changefeeds = true,
	.column_collate = "",
	.identity = "SELECT crdb_internal.cluster_id()::text || '/' || current_database()",
	.clock = "(extract(epoch FROM clock_timestamp()) * 1000)::int8",
	.begin_read = "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
	.begin_write = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
	/* A conflict is the normal way in which two writers meet here. */
	.retries = 12,
};
