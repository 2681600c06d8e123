/* SPDX-License-Identifier: Apache-2.0
 * What a real shmetad makes of a directory that others left: damaged, or left again and again. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/page/board.h"
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
static uint64_t seed;

static uint64_t random_below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

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

/* ---- damage ------------------------------------------------------------------------------------------------------------------ */

static uint64_t current(void)
{
	struct shmeta_board board = {.generation = 0};
	char path[160];
	int fd;

	(void)snprintf(path, sizeof path, "%s/board", d.instance);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, &board, sizeof board, 0), (ssize_t)sizeof board);
	(void)close(fd);
	return board.generation;
}

enum how { BYTE, BYTES, WORD, NOISE, ZERO, CUT, HOWS };

static void damage(const char *name, enum how how)
{
	static const uint64_t words[] = {0, UINT64_MAX, INT32_MAX, UINT64_C(1) << 62};
	uint8_t bytes[SHMETA_PAGE] = {0};
	char path[160];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof path, "%s/%s", d.instance, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert(fd >= 0 && fstat(fd, &st) == 0, "%s", path);

	uint64_t size = (uint64_t)st.st_size,
		 page = random_below((size + sizeof bytes - 1) / sizeof bytes) * sizeof bytes;
	size_t count = size - page < sizeof bytes ? (size_t)(size - page) : sizeof bytes;

	for (size_t i = 0; i < sizeof bytes && how != ZERO; i++)
		bytes[i] = (uint8_t)random_below(256);
	switch (how) {
	case BYTE:
	case BYTES:
		for (int n = how == BYTE ? 1 : 200; n > 0; n--)
			cr_assert_eq(pwrite(fd, &bytes[n], 1, (off_t)random_below(size < 4096 ? size : 512)), 1);
		for (int n = how == BYTE ? 1 : 200; n > 0; n--)
			cr_assert_eq(pwrite(fd, &bytes[n], 1, (off_t)random_below(size)), 1);
		break;
	case WORD:
		cr_assert_eq(pwrite(fd, &words[random_below(4)], 8, (off_t)(random_below(512 / 8) * 8)), 8);
		break;
	case NOISE:
	case ZERO:
		cr_assert_eq(pwrite(fd, bytes, count, (off_t)page), (ssize_t)count);
		break;
	default:
		cr_assert_eq(ftruncate(fd, (off_t)random_below(size)), 0);
	}
	(void)close(fd);
}

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
	static const char *const names[] = {"data.mdb", "board", "data.mdb", "generation", "data.mdb", "stats"};
	uint32_t rounds = run_rounds(18, 600);

	for (uint32_t round = 0; round < rounds; round++) {
		const char *file = names[round % 6];
		enum how how = (enum how)((round + round / 6) % HOWS);
		char name[64], what[96];
		uint64_t store;

		seed = UINT64_C(0x9E3779B97F4A7C15) * (round + 1);
		store = current();
		(void)snprintf(name, sizeof name, "store.%llu/%s", (unsigned long long)store, file);
		(void)snprintf(what, sizeof what, "round %u: %s, kind %d", round, name, (int)how);
		damage(strcmp(file, "board") == 0 || strcmp(file, "stats") == 0 ? file : name, how);
		expect_verdict(what, store);
		expect_all_right(what);
	}
}

/* ---- what restarts leave behind ---------------------------------------------------------------------------------------------- */

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

/* A registered agent that the next writer does not know: each of them copies the store before it writes. */
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
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK, "and whoever was in an old one has left it");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}
