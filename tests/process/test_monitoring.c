/* SPDX-License-Identifier: Apache-2.0
 * The monitoring kit: dashboard, alerts and runbook speak of what there is. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_exporter.h"
#include "tests/support/run_tool.h"
#include "tools/monitor/health.h"

TestSuite(monitoring, .timeout = 120);

static char *file(const char *name)
{
	char path[4200], *text;

	snprintf(path, sizeof(path), "%s/%s", places_source, name);
	text = run_read_file(path);
	cr_assert_not_null(text, "%s", path);
	return text;
}

static char *scrape(void)
{
	struct run_daemon d;
	struct run_exporter e;
	struct http_answer answer;
	char *text;

	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_exporter_start(&e, "--dir %s", d.instance), 0);
	run_exporter_get(&e, "/metrics", "", &answer);
	cr_assert_eq(answer.status, 200);
	text = strdup(answer.body);
	http_answer_done(&answer);
	run_exporter_done(&e);
	run_daemon_done(&d);
	return text;
}

static int is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* How many names that begin with "shmeta_" stand in a text; each must be that of a sample, or of a
 * label of all. */
static int expect_names(const char *text, const char *of, const char *scraped)
{
	int count = 0;

	for (const char *at = text; (at = strstr(at, "shmeta_")) != NULL;) {
		char name[128] = "\n";
		size_t n = 1;

		if (at > text && is_name(at[-1])) {
			at++;
			continue;
		}
		while (is_name(at[n - 1]) && n + 2 < sizeof(name)) {
			name[n] = at[n - 1];
			n++;
		}
		at += n - 1;
		name[n] = '\0';
		if (strcmp(name, "\nshmeta_instance") == 0)
			continue;
		name[n] = '{';
		name[n + 1] = '\0';
		count++;
		if (strstr(scraped, name) != NULL)
			continue;
		/* The family of a histogram. */
		snprintf(name + n, sizeof(name) - n, "_bucket{");
		cr_expect_not_null(strstr(scraped, name), "%s names %.*s, which no scrape has", of, (int)n - 1,
		                   name + 1);
	}
	return count;
}

/* Each label="value" of an expression that names one thing is in the scrape. */
static int expect_labels(const char *text, const char *of, const char *scraped)
{
	static const char *const labels[] = {"phase=\"", "check=\"", "class=\""};
	int count = 0;

	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++)
		for (const char *at = text; (at = strstr(at, labels[i])) != NULL; at++) {
			const char *end = strchr(at + strlen(labels[i]), '"');
			char pair[100];

			cr_assert_not_null(end);
			snprintf(pair, sizeof(pair), ",%.*s}", (int)(end + 1 - at), at);
			cr_expect_not_null(strstr(scraped, pair), "%s: no sample has %s", of, pair);
			count++;
		}
	return count;
}

Test(monitoring, every_metric_and_label_that_is_spoken_of_is_in_a_scrape)
{
	static const char *const names[] = {
		"monitoring/alerts.yaml", "monitoring/alerts_test.yaml", "monitoring/grafana-dashboard.json",
		"docs/metrics.md",        "docs/monitoring.md",          "docs/man/shmeta-metrics.7.scd"};
	char *scraped = scrape();
	int labels = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *text = file(names[i]);

		cr_expect(expect_names(text, names[i], scraped) >= 5, "%s: too few names were recognised", names[i]);
		labels += expect_labels(text, names[i], scraped);
		free(text);
	}
	cr_expect(labels >= 5, "%d labels", labels);
	free(scraped);
}

Test(monitoring, each_panel_of_the_dashboard_asks_for_something)
{
	char *text = file("monitoring/grafana-dashboard.json");
	json_t *doc = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *panel, *target;
	size_t i, k;

	cr_assert_not_null(doc);
	cr_expect(json_array_size(json_object_get(doc, "panels")) >= 15);
	json_array_foreach(json_object_get(doc, "panels"), i, panel)
	{
		cr_expect(json_array_size(json_object_get(panel, "targets")) > 0);
		cr_expect(json_string_length(json_object_get(panel, "description")) > 0);
		json_array_foreach(json_object_get(panel, "targets"), k, target)
			cr_expect_not_null(strstr(json_string_value(json_object_get(target, "expr")), "shmeta_"));
	}
	json_decref(doc);
	free(text);
}

Test(monitoring, each_alert_has_a_case_that_fires_it_and_an_entry_in_the_runbook)
{
	char *alerts = file("monitoring/alerts.yaml"), *tests = file("monitoring/alerts_test.yaml"),
	     *book = file("docs/runbook.md");
	int count = 0, entries = 0;

	for (const char *at = alerts; (at = strstr(at, "- alert: ")) != NULL; count++) {
		char name[64] = "", text[200], lower[64] = "";

		at += strlen("- alert: ");
		cr_assert_eq(sscanf(at, "%63s", name), 1);
		for (size_t i = 0; name[i] != '\0'; i++)
			lower[i] = (char)tolower((unsigned char)name[i]);
		snprintf(text, sizeof(text), "exp_samples:\n          - labels: '{alertname=\"%s\"}'", name);
		cr_expect_not_null(strstr(tests, text), "no case fires %s", name);
		snprintf(text, sizeof(text), "\n## %s\n", name);
		cr_expect_not_null(strstr(book, text), "%s is not in the runbook", name);
		snprintf(text, sizeof(text), "docs/runbook.md#%s\"", lower);
		cr_expect_not_null(strstr(at, text), "%s does not name its entry", name);
	}
	for (const char *at = book; (at = strstr(at, "\n## ")) != NULL; at++)
		entries++;
	cr_expect(count >= 20);
	cr_expect_eq(entries, count, "%d alerts, %d entries", count, entries);
	free(alerts);
	free(tests);
	free(book);
}

Test(monitoring, each_check_has_an_alert_that_names_it)
{
	static const char *const checks[] = {
#define X(name, what, thresholds) #name,
		HEALTH_CHECK_LIST(X)
#undef X
	};
	char *alerts = file("monitoring/alerts.yaml"), line[80];
	bool named[HEALTH_CHECK_COUNT] = {false};

	for (const char *at = alerts; (at = strstr(at, "\n          check: \"")) != NULL; at++) {
		size_t i = 0;

		for (; i < HEALTH_CHECK_COUNT; i++) {
			int n = snprintf(line, sizeof(line), "\n          check: \"%s\"\n", checks[i]);

			if (strncmp(at, line, (size_t)n) == 0)
				break;
		}
		cr_assert_lt(i, HEALTH_CHECK_COUNT, "an alert names a check that there is not: %.40s", at);
		named[i] = true;
	}
	for (size_t i = 0; i < HEALTH_CHECK_COUNT; i++)
		cr_expect(named[i], "the check '%s' has no alert", checks[i]);
	free(alerts);
}

Test(monitoring, each_check_is_in_the_manual)
{
	static const char *const checks[] = {
#define X(name, what, thresholds) #name,
		HEALTH_CHECK_LIST(X)
#undef X
	};
	char *manual = file("docs/man/shmetactl.1.scd");

	for (size_t i = 0; i < HEALTH_CHECK_COUNT; i++) {
		char word[80] = "_";
		size_t n = 1;

		for (const char *at = checks[i]; *at != '\0'; at++) {
			if (*at == '_')
				word[n++] = '\\';
			word[n++] = *at;
		}
		word[n] = '_';
		cr_expect_not_null(strstr(manual, word), "shmetactl(1) lacks the check %s", word);
	}
	free(manual);
}

Test(monitoring, promtool_accepts_the_rules_and_its_cases_hold)
{
	struct run_tool t;

	run_tool(&t, "sh -c 'command -v promtool'");
	if (t.code != 0) {
		run_tool_done(&t);
		cr_skip_test("no promtool: Debian's package prometheus has it");
	}
	run_tool_done(&t);
	run_tool_slow(&t, "promtool check rules %s/monitoring/alerts.yaml", places_source);
	cr_expect_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
	run_tool_slow(&t, "promtool test rules %s/monitoring/alerts_test.yaml", places_source);
	cr_expect_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
}

/* The first two words, or the first where no verb has both, are a verb's. */
static void expect_verb(const char *command)
{
	const char *at = command + strlen("shmetactl ");
	char first[40] = "", second[40] = "";
	struct run_tool t;
	int code;

	if (strncmp(at, "--instance NAME ", strlen("--instance NAME ")) == 0)
		at += strlen("--instance NAME ");
	cr_assert(sscanf(at, "%39[a-z-] %39[a-z-]", first, second) >= 1, "%s", command);
	run_tool(&t, "shmetactl help %s %s", first, second);
	code = t.code;
	run_tool_done(&t);
	if (code != 0) {
		run_tool(&t, "shmetactl help %s", first);
		code = t.code;
		run_tool_done(&t);
	}
	cr_expect_eq(code, 0, "the runbook: no such verb: %s", command);
}

Test(monitoring, the_commands_of_the_runbook_exist)
{
	char *book = file("docs/runbook.md"), *save = NULL;
	int commands = 0;

	for (char *line = strtok_r(book, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, "shmetactl ", strlen("shmetactl ")) == 0) {
			expect_verb(line);
			commands++;
		}
	cr_expect(commands >= 20);
	free(book);
}
