/* SPDX-License-Identifier: Apache-2.0
 * events, slow and clients of shmetactl: what the daemon did, as it comes and when the daemon is
 * dead. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(shown_activity, .timeout = 60);

static struct run_daemon d;

#define CTL(t, fmt, ...) run_tool((t), "shmetactl --dir %s " fmt, d.instance, ##__VA_ARGS__)

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

static json_t *ask(const char *args)
{
	struct run_tool t;
	json_t *doc;

	CTL(&t, "--json %s", args);
	cr_assert_eq(t.code, 0, "%s: exit %d %s%s", args, t.code, t.out, t.err);
	doc = run_tool_json(&t);
	run_tool_done(&t);
	return doc;
}

static void create(const char *topic)
{
	struct run_tool t;

	CTL(&t, "topic create %s 3", topic);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
}

static size_t count_of(const json_t *doc, const char *kind, const char *in_text)
{
	const json_t *row;
	size_t i, n = 0;

	json_array_foreach(json_object_get(doc, "items"), i, row)
	{
		n += strcmp(json_string_value(json_object_get(row, "kind")), kind) == 0 &&
		     strstr(json_string_value(json_object_get(row, "text")), in_text) != NULL;
	}
	return n;
}

Test(shown_activity, events_tell_what_was_done_and_filters_choose, .init = begin, .fini = end)
{
	json_t *doc;

	create("orders");
	doc = ask("events --limit 100");
	cr_assert_gt(count_of(doc, "write", "create_topic"), 0);
	cr_assert_gt(count_of(doc, "commit", "generation"), 0);
	cr_assert_gt(count_of(doc, "fetch", "orders"), 0);
	cr_assert_gt(count_of(doc, "pass", "loaded"), 0);
	cr_assert_gt(count_of(doc, "log", "starting:"), 0);
	cr_assert_gt(count_of(doc, "log", "audit: uid "), 0);
	json_decref(doc);
	doc = ask("events --limit 100 --by write,commit");
	cr_assert_eq(count_of(doc, "log", ""), 0);
	cr_assert_gt(count_of(doc, "write", ""), 0);
	json_decref(doc);
	doc = ask("events --glob '*create_topic*' --by write");
	cr_assert_eq(json_array_size(json_object_get(doc, "items")), 1);
	json_decref(doc);
	/* The source fails: that shows, with its reason. */
	cr_assert_eq(run_daemon_sql(&d, "ALTER TABLE topics RENAME TO gone;"), 0);
	(void)usleep(1500000);
	doc = ask("events --limit 500 --glob '*gone*'");
	json_decref(doc);
	doc = ask("events --limit 500");
	cr_assert_gt(count_of(doc, "log", "source_away"), 0);
	json_decref(doc);
}

Test(shown_activity, a_stream_goes_on_over_a_restart, .init = begin, .fini = end)
{
	struct run_tool t;
	json_error_t error;
	char *line, *save = NULL;
	pid_t child = run_fork();
	size_t n = 0;

	if (child == 0) {
		char command[512];

		(void)usleep(500000);
		(void)snprintf(command, sizeof(command), "%s/bin/shmetactl --dir %s topic create one 1 >/dev/null",
		               places_build, d.instance);
		_exit(system(command) != 0);
	}
	CTL(&t, "--json events -f --by write --count 1");
	cr_assert_eq(t.code, 0, "%s", t.err);
	for (line = strtok_r(t.out, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		json_t *row = json_loads(line, 0, &error);

		cr_assert(json_is_object(row), "%s: %s", error.text, line);
		cr_assert_str_eq(json_string_value(json_object_get(row, "kind")), "write");
		json_decref(row);
		n++;
	}
	cr_assert_eq(n, 1);
	run_tool_done(&t);
	(void)run_reap(child);

	(void)run_daemon_end(&d, SIGKILL);
	CTL(&t, "events --by write");
	cr_assert(t.code == 0 && strstr(t.out, "create_topic") != NULL, "the dead daemon's: %s%s", t.out, t.err);
	run_tool_done(&t);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	create("two");
	CTL(&t, "events --by write --no-header");
	cr_assert(strchr(t.out, '\n') != t.out + strlen(t.out) - 1, "the former one's and this one's: %s", t.out);
	run_tool_done(&t);
}

/* No write follows that could end it. */
Test(shown_activity, a_stream_ends_when_nobody_reads_it_any_more, .init = begin, .fini = end)
{
	static const char *const streams[] = {"events --by write --no-header -f | head -n 1",
	                                      "--json stat --every 1h | head -n 1"};
	struct run_tool t;

	create("one");
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
		run_tool(&t, "sh -c '%s --dir %s %s'", places_shmetactl, d.instance, streams[i]);
		cr_assert_eq(t.code, 0, "%s: %d %s", streams[i], t.code, t.err);
		cr_expect_neq(t.out[0], '\0', "%s: %s", streams[i], t.err);
		run_tool_done(&t);
	}
}

Test(shown_activity, slow_lists_the_slowest_first, .init = begin, .fini = end)
{
	json_t *doc;
	double before = 1e18;
	const json_t *row;
	size_t i;

	for (int k = 0; k < 5; k++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "topic-%d", k);
		create(name);
	}
	doc = ask("slow --by source --limit 3");
	cr_assert_eq(json_array_size(json_object_get(doc, "items")), 3);
	json_array_foreach(json_object_get(doc, "items"), i, row)
	{
		double took = json_number_value(json_object_get(row, "took_ms"));

		cr_assert(took > 0 && took <= before, "%f after %f", took, before);
		cr_assert_str_neq(json_string_value(json_object_get(row, "kind")), "commit");
		before = took;
	}
	json_decref(doc);
	doc = ask("slow --by commits");
	cr_assert_gt(count_of(doc, "commit", ""), 0);
	json_decref(doc);
}

Test(shown_activity, clients_are_counted_by_user, .init = begin, .fini = end)
{
	struct shmeta *one = run_daemon_open(&d, "one", 0), *two = run_daemon_open(&d, "two", 0);
	struct shmeta_reader *a = run_daemon_reader(one), *b = run_daemon_reader(two);
	json_t *doc, *row;

	cr_assert(a != NULL && b != NULL);
	(void)usleep(1300000);
	doc = ask("clients");
	row = json_array_get(json_object_get(doc, "items"), 0);
	cr_assert_eq(json_integer_value(json_object_get(row, "uid")), (json_int_t)getuid());
	cr_assert_eq(json_integer_value(json_object_get(row, "registered")), 1, "a process registers once");
	cr_assert_geq(json_integer_value(json_object_get(row, "connections")), 1);
	cr_assert(json_number_value(json_object_get(row, "oldest_ms")) > 1000);
	json_decref(doc);
	shmeta_reader_free(a);
	shmeta_reader_free(b);
	shmeta_close(one);
	shmeta_close(two);
	(void)usleep(1300000);
	doc = ask("clients");
	row = json_array_get(json_object_get(doc, "items"), 0);
	cr_assert(row == NULL || json_integer_value(json_object_get(row, "registered")) == 0);
	json_decref(doc);
}

/* Of what the writer did every time is known, so the percentiles are those of the list. */
Test(shown_activity, hist_is_exact_of_events_and_close_of_lookups, .init = begin, .fini = end)
{
	json_t *doc, *list;
	double took[256];
	size_t n;

	for (int k = 0; k < 12; k++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "topic-%d", k);
		create(name);
	}
	list = ask("events --by write --limit 200");
	n = json_array_size(json_object_get(list, "items"));
	cr_assert_eq(n, 12);
	for (size_t i = 0; i < n; i++) {
		double ms = json_number_value(
			json_object_get(json_array_get(json_object_get(list, "items"), i), "took_ms"));
		size_t at = i;

		for (; at > 0 && took[at - 1] > ms; at--)
			took[at] = took[at - 1];
		took[at] = ms;
	}
	doc = ask("hist write");
	cr_assert(json_is_true(json_object_get(doc, "exact")));
	cr_assert_eq(json_integer_value(json_object_get(doc, "count")), 12);
	cr_assert_float_eq((double)json_integer_value(json_object_get(doc, "p50")) / 1e6, took[5], 0.0011);
	cr_assert_float_eq((double)json_integer_value(json_object_get(doc, "p99")) / 1e6, took[11], 0.0011);
	json_decref(doc);
	json_decref(list);
	doc = ask("hist");
	cr_assert(json_is_false(json_object_get(doc, "exact")));
	json_decref(doc);
}

Test(shown_activity, bad_filters_are_told, .init = begin, .fini = end)
{
	struct run_tool t;

	CTL(&t, "events --by commit,nothing");
	cr_assert(t.code == 2 && strstr(t.err, "--by: 'nothing' is no kind of event; there are commit, fetch") != NULL,
	          "%s", t.err);
	run_tool_done(&t);
	CTL(&t, "hist lunch");
	cr_assert(t.code == 2 && strstr(t.err, "'lunch' is not measured; expected lookup, commit") != NULL, "%s",
	          t.err);
	run_tool_done(&t);
	CTL(&t, "slow --by all");
	cr_assert(t.code == 2 && strstr(t.err, "--by: 'all' is not source or commits") != NULL, "%s", t.err);
	run_tool_done(&t);
}
