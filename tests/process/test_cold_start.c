/* SPDX-License-Identifier: Apache-2.0
 * A host that was started anew has no store: the first start reads everything once and serves all
 * of it. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(cold_start, .timeout = 600);

enum { STARTS = 5 };

static struct run_daemon d;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

/* As the daemon has counted them within the last second. */
static uint64_t loads(void)
{
	uint64_t count = 0;

	for (double last = run_now_s() + 20; count == 0 && run_now_s() < last;) {
		struct run_tool t;
		json_t *doc;

		run_tool(&t, "shmetactl --dir %s status --json", d.instance);
		doc = run_tool_json(&t);
		count = (uint64_t)json_integer_value(json_object_get(json_object_get(doc, "counters"), "loads"));
		json_decref(doc);
		run_tool_done(&t);
	}
	return count;
}

Test(cold_start, reads_everything_once_and_serves_what_the_source_has, .init = begin, .fini = end)
{
	const uint32_t topics = run_rounds(2000, 100000);
	double ms[STARTS];
	struct run_tool t;
	char sql[600], name[80], text[100];

	(void)snprintf(sql, sizeof sql,
	               "BEGIN; WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
	               "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	               "SELECT 'topic-' || i, 1, 1, 1, '{}' FROM n;"
	               "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	               "SELECT name, 0, 100, 1, 1 FROM topics; COMMIT",
	               topics - 1);
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
	for (int i = 0; i < STARTS; i++) {
		double began;

		run_daemon_forget(&d); /* a tmpfs is empty behind a start of the machine */
		began = run_now_s();
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		ms[i] = (run_now_s() - began) * 1000;
		run_tool(&t, "shmetactl --dir %s --timeout 60s verify", d.instance);
		cr_expect_eq(t.code, 0, "%s%s", t.out, t.err);
		run_tool_done(&t);
		cr_expect_eq(loads(), 1, "it was read more than once");
		cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	}
	(void)snprintf(name, sizeof name, "first start of a host, %u topics of one partition", topics);
	figure(name, STARTS, 0, "starts", "serving after %s; read once", figure_times(ms, STARTS, text, sizeof text));
}
