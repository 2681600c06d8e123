/* SPDX-License-Identifier: Apache-2.0
 * A database that is not there, or not the one it was: a host's cache is not emptied by a restart,
 * and an operator is asked. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(source_lost, .timeout = 120);

static struct run_daemon d;
static char elsewhere[128];

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere.db", d.dir);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "SELECT 'orders.' || value, 1, 1, 1, '{}' FROM json_each('[0,1,2,3,4]');"
	                                "INSERT INTO partitions SELECT name, 0, 0, 1, 1 FROM topics;"),
	             0);
}

static void end(void)
{
	run_daemon_done(&d);
}

/* The words that a program prints; fails the test after 20 s. */
static void await(const char *command, const char *words)
{
	struct run_tool t = {.code = 0};
	double last = run_now_s() + 20;

	for (;;) {
		run_tool(&t, "shmetactl --dir %s %s", d.instance, command);
		if (strstr(t.out, words) != NULL)
			break;
		if (run_now_s() > last)
			cr_assert(false, "'%s' does not say '%s': %s%s\n%s", command, words, t.out, t.err,
			          run_read_file(d.log));
		run_tool_done(&t);
		usleep(50000);
	}
	run_tool_done(&t);
}

/* With its -wal and -shm. */
static void move_database(const char *from, const char *to)
{
	static const char *const parts[] = {"", "-wal", "-shm"};
	char a[160], b[160];

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		snprintf(a, sizeof(a), "%s%s", from, parts[i]);
		snprintf(b, sizeof(b), "%s%s", to, parts[i]);
		cr_assert(rename(a, b) == 0 || (i > 0 && access(a, F_OK) != 0), "%s: %m", a);
	}
}

static int code_of(const char *command, const char *words)
{
	struct run_tool t = {.code = 0};
	int code;

	run_tool(&t, "shmetactl --dir %s %s", d.instance, command);
	code = t.code;
	cr_expect(strstr(t.out, words) != NULL || strstr(t.err, words) != NULL, "%s: %s%s", command, t.out, t.err);
	run_tool_done(&t);
	return code;
}

Test(source_lost, a_database_that_a_restart_made_anew_does_not_empty_the_cache, .init = begin, .fini = end)
{
	await("status", "5 topics");
	run_daemon_end(&d, SIGKILL);
	move_database(d.db, elsewhere);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
		await("status", "degraded");
		await("status", "accept-source");
		cr_expect_eq(code_of("get topic orders.3", "orders.3"), 0);
		await("status", "5 of 5 topics");
		cr_expect_eq(code_of("status", ""), 1);
		/* Nothing is written to what nobody has consented to. */
		cr_expect_neq(code_of("topic create new 1", "not accepted"), 0);
		run_daemon_end(&d, SIGKILL);
	}
	/* The old one is back: it goes on as if nothing had been. */
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	await("status", "accept-source");
	move_database(elsewhere, d.db);
	await("status", "serving for");
	cr_expect_eq(code_of("topic create new 1", ""), 0);
	cr_expect_eq(code_of("get topic orders.3", "orders.3"), 0);
	cr_expect_eq(code_of("accept-source --yes", "no source waits"), 5);
}

Test(source_lost, a_start_on_a_source_that_lost_its_tables_serves_on_and_waits_for_them, .init = begin, .fini = end)
{
	await("status", "5 topics");
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	move_database(d.db, elsewhere);
	cr_assert_eq(run_daemon_sql(&d, "CREATE TABLE other (a)"), 0);
	d.existing = 1;
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	await("status", "degraded for");
	cr_expect_eq(code_of("status", "is not a StreamHouse database"), 1);
	cr_expect_eq(code_of("get topic orders.3", "orders.3"), 0);
	move_database(elsewhere, d.db);
	await("status", "serving for");
}

Test(source_lost, an_operator_consents, .init = begin, .fini = end)
{
	await("status", "5 topics");
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	move_database(d.db, elsewhere);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	await("status", "accept-source");
	cr_expect_eq(code_of("accept-source --dry-run", "it lacks 5 of 5 topics and 5 of 5 partitions"), 0);
	cr_expect_eq(code_of("accept-source </dev/null", "say --yes"), 2);
	cr_expect_eq(code_of("accept-source 0123456789abcdef --yes", "fingerprint is"), 1);
	cr_expect_eq(code_of("accept-source 0123456789abcdef --dry-run", "fingerprint is"), 1);
	cr_expect_eq(code_of("get topic orders.3", "orders.3"), 0);
	cr_expect_eq(code_of("accept-source --yes", "accepted"), 0);
	await("status", "serving for");
	cr_expect_eq(code_of("get topic orders.3", ""), 5);
	char *log = run_read_file(d.log);

	cr_assert_not_null(log);
	cr_expect_not_null(strstr(log, ": accept-source "), "it is not audited");
	free(log);
}

Test(source_lost, a_missing_database_is_not_made_without_being_asked_for, .init = begin, .fini = end)
{
	int code;

	await("status", "5 topics");
	run_daemon_end(&d, SIGKILL);
	move_database(d.db, elsewhere);
	d.existing = 1;
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	usleep(500000);
	cr_expect_eq(code_of("get topic orders.3", "orders.3"), 0);
	cr_expect_neq(access(d.db, F_OK), 0, "a database was made");
	code = run_daemon_end(&d, SIGTERM);
	cr_expect(code == 0 || code == 2, "%d", code);
}
