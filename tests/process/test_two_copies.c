/* SPDX-License-Identifier: Apache-2.0
 * Two copies of the library in one process, as a plugin brings its own: neither disturbs the
 * other. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(two_copies, .timeout = 120);

static struct run_daemon d;

/* What a copy is used through. */
static struct copy {
	void *library;
	enum shmeta_status (*open)(const struct shmeta_options *, struct shmeta **);
	void (*close)(struct shmeta *);
	enum shmeta_status (*reader_new)(struct shmeta *, struct shmeta_reader **);
	void (*reader_free)(struct shmeta_reader *);
	enum shmeta_status (*begin)(struct shmeta_reader *);
	enum shmeta_status (*end)(struct shmeta_reader *);
	enum shmeta_status (*get_partition)(struct shmeta_reader *, const char *, size_t, uint32_t,
	                                    const struct shmeta_read *, struct shmeta_partition *,
	                                    struct shmeta_freshness *);
	struct shmeta *instance;
	struct shmeta_reader *reader;
} copies[2];

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "VALUES('t', 1, 1, 1, '{}');"
	                                "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, "
	                                "updated_at) VALUES('t', 0, 1, 1, 1)"),
	             0);
}

static void teardown(void)
{
	run_daemon_done(&d);
}

static void load(struct copy *c, int number)
{
	const struct shmeta_options options = {.size = sizeof options, .directory = d.instance};
	struct run_tool t;
	char path[160];

	/* A file of its own: the loader would hand out the same library twice. */
	(void)snprintf(path, sizeof path, "%s/copy-%d.so", d.dir, number);
	run_tool(&t, "cp %s/lib/libshmeta.so.0 %s", places_build, path);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	c->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (c->library == NULL) {
		teardown(); /* a skipped test has no .fini */
		cr_skip_test("it cannot be loaded into this program: %s", dlerror());
	}
	*(void **)&c->open = dlsym(c->library, "shmeta_open");
	*(void **)&c->close = dlsym(c->library, "shmeta_close");
	*(void **)&c->reader_new = dlsym(c->library, "shmeta_reader_new");
	*(void **)&c->reader_free = dlsym(c->library, "shmeta_reader_free");
	*(void **)&c->begin = dlsym(c->library, "shmeta_begin");
	*(void **)&c->end = dlsym(c->library, "shmeta_end");
	*(void **)&c->get_partition = dlsym(c->library, "shmeta_get_partition_named");
	cr_assert(c->open && c->close && c->reader_new && c->reader_free && c->begin && c->end && c->get_partition);
	cr_assert_eq(c->open(&options, &c->instance), SHMETA_OK);
	cr_assert_eq(c->reader_new(c->instance, &c->reader), SHMETA_OK);
}

static void unload(struct copy *c)
{
	c->reader_free(c->reader);
	c->close(c->instance);
	cr_assert_eq(dlclose(c->library), 0);
	c->library = NULL;
}

static uint64_t watermark(struct copy *c)
{
	struct shmeta_partition p = {.high_watermark = 0};
	enum shmeta_status status = c->begin(c->reader);

	cr_assert_eq(status, SHMETA_OK);
	status = c->get_partition(c->reader, "t", 1, 0, NULL, &p, NULL);
	cr_assert(status == SHMETA_OK || status == SHMETA_UNKNOWN || status == SHMETA_ABSENT, "%d", (int)status);
	cr_assert_eq(c->end(c->reader), SHMETA_OK);
	return p.high_watermark;
}

static void await_watermark(struct copy *c, uint64_t value)
{
	for (double end = run_now_s() + 20; watermark(c) != value && run_now_s() < end;)
		(void)usleep(1000);
	cr_assert_eq(watermark(c), value);
}

static void set_watermark(uint64_t value)
{
	char sql[80];

	(void)snprintf(sql, sizeof sql, "UPDATE partitions SET high_watermark = %lu", (unsigned long)value);
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
}

Test(two_copies, of_the_library_in_one_process_read_side_by_side_and_one_may_go, .init = setup, .fini = teardown)
{
	struct copy *first = &copies[0], *second = &copies[1];

	load(first, 1);
	load(second, 2);
	cr_assert_neq(*(void **)&first->open, *(void **)&second->open, "it is one copy");
	/* A snapshot of the one stays what it is while the other's moves. */
	await_watermark(first, 1);
	await_watermark(second, 1);
	for (uint64_t value = 2; value < 10; value++) {
		struct shmeta_partition p;

		cr_assert_eq(first->begin(first->reader), SHMETA_OK);
		set_watermark(value);
		await_watermark(second, value);
		cr_assert_eq(first->get_partition(first->reader, "t", 1, 0, NULL, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.high_watermark, value - 1);
		cr_assert_eq(first->end(first->reader), SHMETA_OK);
		await_watermark(first, value);
	}
	unload(first);
	cr_assert_neq(run_daemon_end(&d, SIGKILL), -1);
	cr_assert_eq(watermark(second), 9);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	set_watermark(10);
	await_watermark(second, 10);
	unload(second);
}
