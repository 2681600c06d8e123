/* SPDX-License-Identifier: Apache-2.0
 * What is said to CockroachDB, for databases of any shape: no statement has what it refuses. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_state.h"
#include "tests/support/cockroach.h"

TestSuite(cockroach_texts, .timeout = 60);

static const struct pgwire_rule rules[] = {COCKROACH_REFUSALS};
enum { RULES = sizeof rules / sizeof rules[0], FLAGS = 13 };

static struct pg_state state = {.dialect = &pg_cockroachdb, .options = {.uri = "cockroachdb:"}, .schema = "public"};

static struct pg_shape shape_of(unsigned int bits)
{
	return (struct pg_shape){.organization = bits & 1,
	                         .agents_organization = bits >> 1 & 1,
	                         .leases_organization = bits >> 2 & 1,
	                         .tenant_uuid = bits >> 3 & 1,
	                         .config_json = bits >> 4 & 1,
	                         .cleanup_policy = bits >> 5 & 1,
	                         .timestamps = bits >> 6 & 1,
	                         .segment_place = bits >> 7 & 1,
	                         .deferrable = bits >> 8 & 1,
	                         .by_index = bits >> 9 & 1,
	                         .tenant_in_key = bits >> 10 & 1,
	                         .own = bits >> 11 & 1,
	                         .epochs = bits >> 12 & 1,
	                         .epochs_readable = bits >> 12 & 1};
}

static void expect_accepted(const char *sql)
{
	for (int i = 0; i < RULES; i++)
		if (rules[i].action == PGWIRE_ERROR && (rules[i].holds == NULL || rules[i].holds(sql)))
			cr_expect(strcasestr(sql, rules[i].pattern) == NULL, "%s: %s", rules[i].text, sql);
}

Test(cockroach_texts, no_statement_has_what_it_refuses)
{
	/* Each flag alone, and each alone off, and many of the others. */
	for (unsigned int n = 0; n < 2 * FLAGS + 400; n++) {
		unsigned int bits = n < FLAGS ? 1U << n : n < 2 * FLAGS ? ~(1U << (n - FLAGS)) : n * 2654435761U >> 7;

		state.shape = shape_of(bits);
		for (size_t i = 0; pg_all_texts[i] != NULL; i++)
			cr_assert(pg_all_texts[i](&state));
		for (int i = 0; i < PG_STATEMENTS; i++)
			if (state.sql[i] != NULL)
				expect_accepted(state.sql[i]);
	}
}

Test(cockroach_texts, a_table_that_is_changed_twice_is_seen)
{
	cr_expect(cockroach_changes_twice("WITH a AS (INSERT INTO t(x) VALUES (1)) UPDATE t SET x = 2"));
	cr_expect(cockroach_changes_twice("WITH a AS (DELETE FROM t), b AS (INSERT INTO t VALUES (1)) SELECT 1"));
	cr_expect_not(cockroach_changes_twice(
		"WITH a AS (INSERT INTO t AS b(x) VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 2) UPDATE tt SET x = 3"));
	cr_expect_not(cockroach_changes_twice("WITH l AS (SELECT 1 FROM t FOR UPDATE OF t) DELETE FROM t"));
	cr_expect_not(cockroach_changes_twice("WITH l AS (SELECT 1 FROM t FOR NO KEY UPDATE) DELETE FROM t"));
}
