/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cockroach.h"

#include <criterion/criterion.h>
#include <string.h>

enum { CHANGED_MOST = 32 };

static bool stands_behind(const char *sql, const char *at, const char *words)
{
	size_t bytes = strlen(words);

	return (size_t)(at - sql) >= bytes && strncasecmp(at - bytes, words, bytes) == 0;
}

/* The table that the statement changes from here on; NULL: this is no change. */
static const char *changed_at(const char *sql, const char *at)
{
	if (at > sql && at[-1] != '(' && at[-1] != ' ')
		return NULL;
	if (strncasecmp(at, "INSERT INTO ", 12) == 0 || strncasecmp(at, "DELETE FROM ", 12) == 0)
		return at + 12;
	if (strncasecmp(at, "UPDATE ", 7) == 0 && !stands_behind(sql, at, "DO ") && !stands_behind(sql, at, "FOR ") &&
	    !stands_behind(sql, at, "KEY "))
		return at + 7;
	return NULL;
}

bool cockroach_changes_twice(const char *sql)
{
	struct {
		const char *name;
		size_t bytes;
	} changed[CHANGED_MOST];
	size_t count = 0;

	for (const char *at = sql; *at != '\0'; at++) {
		const char *name = changed_at(sql, at);
		size_t bytes = name != NULL ? strcspn(name, " (),;") : 0;

		if (name == NULL)
			continue;
		for (size_t i = 0; i < count; i++)
			if (changed[i].bytes == bytes && memcmp(changed[i].name, name, bytes) == 0)
				return true;
		cr_assert_lt(count, CHANGED_MOST);
		changed[count].name = name;
		changed[count++].bytes = bytes;
	}
	return false;
}

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
