/* SPDX-License-Identifier: Apache-2.0
 * See run_status.h. */
#include "tests/support/run_status.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_tool.h"

void run_status_ask(const struct run_daemon *d, struct run_status *ret)
{
	struct run_tool t;
	json_t *doc, *source, *age;

	run_tool(&t, "shmetactl --dir %s status --json", d->instance);
	cr_assert(t.code == 0 || t.code == 1, "status: exit status %d, %s", t.code, t.err);
	doc = run_tool_json(&t);
	source = json_object_get(doc, "source");
	(void)snprintf(ret->source, sizeof ret->source, "%s", json_string_value(json_object_get(source, "status")));
	ret->apart = json_is_string(json_object_get(source, "away_since")) &&
	             json_is_string(json_object_get(source, "away_because"));
	(void)snprintf(ret->phase, sizeof ret->phase, "%s", json_string_value(json_object_get(doc, "phase")));
	age = json_object_get(json_object_get(json_object_get(doc, "classes"), "topic"), "age_ms");
	ret->age_ms = (int64_t)json_number_value(age);
	ret->queued = json_integer_value(json_object_get(json_object_get(doc, "counters"), "queue_depth"));
	json_decref(doc);
	run_tool_done(&t);
}

void run_status_await(const struct run_daemon *d, const char *part, const char *phase, struct run_status *ret)
{
	for (double end = run_now_s() + RUN_STATUS_PATIENCE_S;; (void)usleep(50000)) {
		run_status_ask(d, ret);
		if (strstr(ret->source, part) != NULL && strcmp(ret->phase, phase) == 0)
			return;
		cr_assert_lt(run_now_s(), end, "status never says '%s' of the source, %s, but '%s', %s", part, phase,
		             ret->source, ret->phase);
	}
}

void run_status_expect_away(const struct run_daemon *d, const char *why)
{
	struct run_status said;

	run_status_await(d, why, "degraded", &said);
	cr_expect(said.apart, "%s", said.source);
	cr_expect_null(strstr(said.source, "secret"), "%s", said.source);
}

/* And no more than that, but that it cannot be written, and why there is no feed where there is
 * none. */
static bool is_connected(const struct run_status *said)
{
	static const char *const feedless[] = {"connected; no change feed: ", "connected; sqlite: no change feed: ",
	                                       "connected; it cannot be written; sqlite: no change feed: ",
	                                       "connected; it cannot be written; no change feed: "};

	if (strcmp(said->phase, "serving") != 0)
		return false;
	for (size_t i = 0; i < sizeof(feedless) / sizeof(*feedless); i++)
		if (strncmp(said->source, feedless[i], strlen(feedless[i])) == 0)
			return true;
	return strcmp(said->source, "connected") == 0;
}

void run_status_await_connected(const struct run_daemon *d)
{
	struct run_status said;

	for (double end = run_now_s() + RUN_STATUS_PATIENCE_S;; (void)usleep(50000)) {
		run_status_ask(d, &said);
		if (is_connected(&said))
			return;
		cr_assert_lt(run_now_s(), end, "status never says 'connected' of the source, serving, but '%s', %s",
		             said.source, said.phase);
	}
}
