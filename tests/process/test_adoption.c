/* SPDX-License-Identifier: Apache-2.0
 * What a real shmetad makes of a directory that others left: damaged, or left again and again. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/damage.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(adoption, .timeout = 3600);

static const char seed_sql[] =
	"BEGIN;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) "
	"INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	"SELECT 'topic-' || i, 2, 1, 1, '{}' FROM n;"
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT name, p, 5000, 1, 1 FROM topics, (SELECT 0 AS p UNION SELECT 1);"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199) "
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
	"created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 10, i * 10 + 9, 10, 1000, "
	"'bucket', 'key/' || i, 1 FROM partitions, n;"
	"COMMIT;";

static struct run_daemon d;

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, seed_sql), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
}

static void teardown(void)
{
	run_daemon_done(&d);
}

static void expect_all_right(const char *what)
{
	struct run_tool t;

	cr_assert_eq(run_daemon_start(&d, NULL), 0, "%s", what);
	run_tool(&t, "shmetactl --dir %s verify", d.instance);
	cr_assert_eq(t.code, 0, "%s: %s%s", what, t.out, t.err);
	run_tool_done(&t);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0, "%s", what);
}

/* ---- damage ---- */

/* Before anybody has mended it: the tool tells what it finds, and neither dies of it nor waits. */
static void expect_verdict(const char *what, uint64_t store)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s verify --store %s/store.%llu", d.instance, d.instance,
	         (unsigned long long)store);
	cr_assert_lt(t.code, 124, "%s: %d: %s%s", what, t.code, t.out, t.err);
	cr_assert(t.code == 0 || t.out[0] != '\0' || t.err[0] != '\0', "%s", what);
	run_tool_done(&t);
}

Test(adoption, whatever_is_damaged_the_next_start_serves_what_the_source_has, .init = setup, .fini = teardown)
{
	uint32_t rounds = run_rounds(DAMAGE_KINDS, 1000);

	for (uint32_t round = 0; round < rounds; round++) {
		const struct damage_kind *kind = &damage_kinds[round % DAMAGE_KINDS];
		struct damage damage;
		char what[96];

		cr_assert_eq(damage_init(&damage, d.instance), 0);
		(void)snprintf(what, sizeof what, "round %u: %s", round, kind->name);
		cr_assert_eq(damage_do(&damage, kind, round), 0, "%s", what);
		expect_verdict(what, damage.generation);
		damage_free(&damage);
		expect_all_right(what);
	}
	figure("damage of a file of the instance, then a start", rounds, 0, "damages",
	       "0 starts that served anything wrong, needed a second one, or a hand");
}

/* ---- what restarts leave behind ---- */

static unsigned int stores(void)
{
	DIR *dir = opendir(d.instance);
	struct dirent *entry;
	unsigned int count = 0;

	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL)
		count += strncmp(entry->d_name, "store.", 6) == 0;
	(void)closedir(dir);
	return count;
}

/* A registered agent that the next writer does not know: each of them copies the store before it
 * writes. */
Test(adoption, kills_leave_the_current_store_and_few_others, .init = setup, .fini = teardown)
{
	uint32_t kills = run_rounds(50, 200);
	struct shmeta_reader *reader;
	struct shmeta *instance;
	unsigned int most = 0;
	double end;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "witness", 0);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	for (uint32_t i = 0; i < kills; i++) {
		char sql[160];

		(void)snprintf(sql, sizeof sql,
		               "UPDATE partitions SET high_watermark = high_watermark + 1 WHERE topic = 'topic-%u'",
		               i % 100);
		cr_assert_eq(run_daemon_sql(&d, sql), 0);
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
		cr_assert_neq(run_daemon_end(&d, SIGKILL), -1);
		if (stores() > most)
			most = stores();
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
	}
	cr_assert_leq(most, 4, "the current one, two that were left, and one that was about to be");
	for (end = run_now_s() + 20; stores() > 1 && run_now_s() < end;)
		(void)usleep(20000);
	cr_assert_eq(stores(), 1);
	figure("kill -9 and start of the writer, while a reader goes on", kills, 1000, "kills",
	       "0 failed reads; at most %u stores at once, 1 in the end", most);
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK, "and whoever was in an old one has left it");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}
