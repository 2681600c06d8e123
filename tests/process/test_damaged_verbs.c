/* SPDX-License-Identifier: Apache-2.0
 * Every verb of shmetactl that looks at a store, over stores that are damaged where it hurts most:
 * it answers or says what is wrong, and never ends by a signal. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/tree/tree_layout.h"
#include "tests/support/damage.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(damaged_verbs, .timeout = 600);

static const char seed_sql[] =
	"BEGIN;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39) "
	"INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	"SELECT 'topic-' || i, 2, 1, 1, CASE i WHEN 7 THEN '{' ELSE '{}' END FROM n;"
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT name, p, 5000, 1, 1 FROM topics, (SELECT 0 AS p UNION SELECT 1);"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199) "
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
	"created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 10, i * 10 + 9, 10, 1000, "
	"'bucket', 'key/' || i, 1 FROM partitions, n;"
	"COMMIT;";

static const char *const verbs[] = {
	"status",
	"store",
	"store --store %s/store.%llu",
	"verify",
	"verify --store %s/store.%llu",
	"quarantine",
	"dump",
	"ls topics",
	"ls partitions topic-3",
	"ls segments topic-3 1",
	"get topic topic-7",
	"find topic-3 1 55",
	"leases",
	"agents",
	"groups",
	"readers",
};

static struct run_daemon d;
static struct damage damage;

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, seed_sql), 0);
	run_daemon_forget(&d);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d, "DELETE FROM segments WHERE topic < 'topic-2'"), 0);
	(void)usleep(300000); /* pages become free */
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(damage_init(&damage, d.instance), 0);
}

static void teardown(void)
{
	damage_free(&damage);
	run_daemon_done(&d);
}

/* A field of both meta pages: LMDB's own numbers of where its trees begin, and how deep they
 * are. */
static void damage_meta(uint32_t round)
{
	static const size_t fields[] = {
		offsetof(struct meta, free.root),       offsetof(struct meta, databases.root),
		offsetof(struct meta, free.levels),     offsetof(struct meta, databases.levels),
		offsetof(struct meta, free.entries),    offsetof(struct meta, map_bytes),
		offsetof(struct meta, databases.flags), offsetof(struct meta, last_page),
	};
	uint64_t pages = damage.file[DAMAGE_DATA].bytes / SHMETA_PAGE;
	uint64_t number = round % 3 == 0 ? UINT64_MAX : round * UINT64_C(2654435761) % pages;
	size_t field = round % (sizeof fields / sizeof fields[0]),
	       bytes = field == 2 || field == 3 || field == 6 ? 2 : 8;
	FILE *file = fopen(damage.file[DAMAGE_DATA].path, "r+");

	cr_assert_not_null(file);
	for (long page = 0; page < 2; page++)
		cr_assert(fseek(file, page * SHMETA_PAGE + (long)fields[field], SEEK_SET) == 0 &&
		          fwrite(&number, bytes, 1, file) == 1);
	cr_assert_eq(fclose(file), 0);
}

/* The first page of the list of free pages, or of the databases: its header is noise, or all of
 * it. */
static void damage_root(uint32_t round)
{
	const struct meta *meta = (const void *)(damage.file[DAMAGE_DATA].good + (round & 1) * SHMETA_PAGE);
	uint64_t root = (round & 2) != 0 ? meta->free.root : meta->databases.root, state = round + 1;
	size_t bytes = (round & 4) != 0 ? SHMETA_PAGE : 48, skip = (round & 8) != 0 ? 10 : 0;
	FILE *file = fopen(damage.file[DAMAGE_DATA].path, "r+");

	cr_assert(file != NULL && fseek(file, (long)(root * SHMETA_PAGE + skip), SEEK_SET) == 0);
	for (size_t i = skip; i < bytes; i++) {
		state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
		/* It still says that it is a branch, or a leaf. */
		cr_assert_neq(fputc(i == 10   ? (int)(1 + state % 2)
		                    : i == 11 ? 0
		                              : (int)(state >> 33 & 255),
		                    file),
		              EOF);
	}
	cr_assert_eq(fclose(file), 0);
}

static void expect_verbs_live(const char *what)
{
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
		char verb[300];
		struct run_tool t;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(verb, sizeof verb, verbs[i], d.instance, (unsigned long long)damage.generation);
#pragma GCC diagnostic pop
		run_tool(&t, "shmetactl --dir %s %s", d.instance, verb);
		cr_expect_lt(t.code, 100, "%s: %s: %d: %s%s", what, verb, t.code, t.out, t.err);
		cr_expect_null(strstr(t.out, "by signal"), "%s: %s: %s", what, verb, t.out);
		cr_expect(t.code == 0 || t.err[0] != '\0' || t.out[0] != '\0', "%s: %s: %d and no word", what, verb,
		          t.code);
		run_tool_done(&t);
	}
}

Test(damaged_verbs, no_verb_is_ended_by_a_damaged_store, .init = setup, .fini = teardown)
{
	uint32_t rounds = run_rounds(30, 1000), kinds = 0;
	char what[96];

	cr_assert_gt(damage.file[DAMAGE_DATA].bytes, 100 * SHMETA_PAGE, "there is nothing to damage");
	expect_verbs_live("undamaged");
	while (damage_kinds[kinds].file == DAMAGE_DATA)
		kinds++;
	for (uint32_t round = 0; round < rounds; round++) {
		const struct damage_kind *kind = &damage_kinds[round / 3 % kinds];

		if (round % 3 == 0) {
			(void)snprintf(what, sizeof what, "round %u: a number of both meta pages", round);
			damage_meta(round / 3);
		} else if (round % 3 == 1) {
			(void)snprintf(what, sizeof what, "round %u: a root", round);
			damage_root(round / 3);
		} else {
			(void)snprintf(what, sizeof what, "round %u: %s", round, kind->name);
			cr_assert_eq(damage_do(&damage, kind, round), 0);
		}
		expect_verbs_live(what);
		cr_assert_eq(damage_undo(&damage, DAMAGE_DATA), 0);
	}
}

Test(damaged_verbs, a_verb_under_which_a_file_is_cut_off_says_so, .init = setup, .fini = teardown)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s dump | (read -r line; truncate -s 8192 %s; cat >/dev/null)", d.instance,
	         damage.file[DAMAGE_DATA].path);
	cr_expect_not_null(strstr(t.err, "was cut off"), "%s", t.err);
	run_tool_done(&t);
}
