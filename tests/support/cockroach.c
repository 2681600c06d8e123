/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cockroach.h"

#include <criterion/criterion.h>

PGconn *cockroach_start(struct pg_cluster *server, struct pgwire *peer, const struct pgwire_rule *rules, size_t count)
{
	static const char *const settings[] = {"default_transaction_isolation=serializable", NULL};
	struct pgwire_options options = {.rules = rules,
	                                 .count = count,
	                                 .server_version = "13.0.0",
	                                 .crdb_version = COCKROACH_VERSION,
	                                 .upstream_port = 5432};
	PGconn *sql;

	pg_cluster_start(server, settings);
	pg_cluster_database(server, "meta");
	sql = pg_cluster_connect(server, "meta");
	options.upstream_host = server->dir;
	cr_assert_eq(pgwire_start(peer, &options), 0);
	return sql;
}

void cockroach_stop(struct pg_cluster *server, struct pgwire *peer, PGconn *sql)
{
	pgwire_end(peer);
	PQfinish(sql);
	pg_cluster_stop(server);
}
