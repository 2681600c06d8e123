/* SPDX-License-Identifier: Apache-2.0
 * See sqlite_world.h. */
#include "tests/support/sqlite_world.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/rows.h"

void sqlite_world_bare(struct world *w, const char *sql)
{
	world_make(w, WORLD_SQLITE_NEW);
	cr_assert_eq(sqlite3_open(w->path, &w->app), SQLITE_OK);
	world_sql(w, "%s", sql);
	sqlite3_close(w->app);
	w->app = NULL;
}

int sqlite_world_program(struct world *w, const char *sql)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 1);
		dup2(null, 2);
		execlp("sqlite3", "sqlite3", "-bail", w->path, sql, (char *)NULL);
		_exit(127);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

enum shmeta_status sqlite_world_own_changed(void *arg, const struct backend_key *key)
{
	(void)key;
	++*(size_t *)arg;
	return SHMETA_OK;
}

void sqlite_world_apply(struct world *w, const struct shmeta_op *op, size_t count)
{
	struct backend_op *ops = calloc(count, sizeof *ops);
	struct shmeta_result *results = calloc(count, sizeof *results);
	size_t told = 0;
	const struct backend_sink sink = {.arg = &told, .changed = sqlite_world_own_changed};

	cr_assert(ops != NULL && results != NULL);
	for (size_t i = 0; i < count; i++)
		ops[i] = (struct backend_op){rows_str(SHMETA_DEFAULT_TENANT), &op[i]};
	cr_assert_eq(w->ops->writer->apply(w->state, ops, count, 5000, results, &sink, &w->err), SHMETA_OK, "%s",
	             w->err.text);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(results[i].status, SHMETA_OK, "%zu: %s", i, results[i].text);
	free(ops);
	free(results);
}

struct shmeta_op sqlite_world_add(uint32_t partition, uint64_t base, char *id)
{
	snprintf(id, 40, "own-%u-%llu", partition, (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                          .name = rows_str("t"),
	                          .partition_id = partition,
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = base + 9,
	                                        .record_count = 10,
	                                        .created_at_ms = 1,
	                                        .id = rows_str(id),
	                                        .s3_bucket = rows_str("b"),
	                                        .s3_key = rows_str(id)}};
}
