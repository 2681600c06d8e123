/* SPDX-License-Identifier: Apache-2.0
 * See pg_world.h. */
#include "tests/support/pg_world.h"

#include <criterion/hooks.h>
#include <unistd.h>

#include "backends/rows.h"

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

void pg_world_make(struct world *w)
{
	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	world_make(w, WORLD_PG_NEW);
}

void pg_world_follow(struct world *w)
{
	ok(world_load(w));
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
}

void pg_world_apply(struct world *w, struct shmeta_op *op)
{
	struct backend_op one = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = op};
	struct shmeta_result result = {.status = SHMETA_OK};

	ok(w->ops->writer->apply(w->state, &one, 1, 1000, &result, &w->recorder.sink, &w->err));
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

void pg_world_end_sessions(struct world *w)
{
	world_sql(w,
	          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
	          "current_database()");
	while (world_sql_number(w, "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
	                           "current_database()") > 0)
		(void)usleep(5000);
}
