/* SPDX-License-Identifier: Apache-2.0
 * stat and health: what is counted and measured of an instance, and what is not well with it. */
#include <inttypes.h>
#include <string.h>

#include "shm/page/histogram.h"
#include "tools/monitor/metrics.h"
#include "tools/shmetactl/inspect.h"

/* How the instance is called in commands: by --instance where that leads to it, otherwise by its directory. */
static const char *called(const struct tool *tool)
{
	char usual[sizeof(tool->dir)];

	(void)snprintf(usual, sizeof(usual), "/run/shmeta/%s", tool->instance);
	return strcmp(usual, tool->dir) == 0 ? tool->instance : tool->dir;
}

void tool_health(const struct tool *tool, const struct pages *pages, struct health *ret)
{
	health_judge(pages, called(tool), ret);
}

static json_t *values_json(const struct metric *row, const struct metric_value *values, size_t n)
{
	json_t *all = row->label == NULL && row->kind != METRIC_HISTOGRAM ? NULL : json_object();

	if (n == 0) {
		json_decref(all);
		return json_null();
	}
	if (all == NULL)
		return out_json_count(values[0].value);
	for (size_t i = 0; i < n; i++) {
		char bucket[24];

		(void)snprintf(bucket, sizeof(bucket), "%" PRIu64, shmeta__histogram_floor((uint32_t)i));
		out_set(all, row->kind == METRIC_HISTOGRAM ? bucket : values[i].label, out_json_count(values[i].value));
	}
	return all;
}

static void stat_json(const struct tool *tool, const struct metric_view *view)
{
	json_t *doc = out_document("stat"), *metrics = json_array();
	struct metric_value values[METRIC_VALUES];
	char name[METRIC_NAME_BYTES];

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "writer_age_ms", out_json_age(pages_since(view->pages->now_ns, view->pages->board.started_at_ns)));
	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);
		json_t *one = json_object();

		out_set(one, "name", json_string(row->key));
		out_set(one, "metric", json_string(metric_name(row, name)));
		out_set(one, "kind", json_string(metric_kind(row->kind)));
		out_set(one, "unit", json_string(row->unit));
		out_set(one, "label", row->label != NULL ? json_string(row->label) : json_null());
		out_set(one, "help", json_string(row->help));
		out_set(one, "value", values_json(row, values, metric_read(row, view, values)));
		(void)json_array_append_new(metrics, one);
	}
	out_set(doc, "metrics", metrics);
	out_json(doc, 2);
}

/* The times below which so many of the sampled lookups were: 0: there is none. */
static uint64_t percentile(const struct metric_value *buckets, size_t n, double part)
{
	uint64_t all = 0, below = 0;

	for (size_t i = 0; i < n; i++)
		all += buckets[i].value;
	for (size_t i = 0; i < n; i++) {
		below += buckets[i].value;
		if (all > 0 && (double)below >= part * (double)all)
			return shmeta__histogram_floor((uint32_t)(i + 1 < n ? i + 1 : i));
	}
	return 0;
}

static void stat_line(const struct metric *row, const char *label, const char *value)
{
	char name[METRIC_NAME_BYTES];

	(void)snprintf(name, sizeof(name), "%s%s%s%s", row->key, label[0] != '\0' ? "{" : "", label,
	               label[0] != '\0' ? "}" : "");
	(void)printf("%-26s  %20s  %-12s  %s\n", name, value, row->unit, row->help);
}

static void stat_text(const struct metric_view *view)
{
	struct metric_value values[METRIC_VALUES];
	char text[64];

	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);
		size_t n = metric_read(row, view, values);

		if (n == 0) {
			stat_line(row, "", "-");
		} else if (row->kind == METRIC_HISTOGRAM) {
			stat_line(row, "p50", out_count(percentile(values, n, 0.5)));
			stat_line(row, "p99", out_count(percentile(values, n, 0.99)));
			stat_line(row, "p99.9", out_count(percentile(values, n, 0.999)));
		} else {
			for (size_t k = 0; k < n; k++) {
				(void)snprintf(text, sizeof(text), "%" PRIu64, values[k].value);
				stat_line(row, values[k].label, text);
			}
		}
	}
}

int verb_stat(struct tool *tool)
{
	struct health health;
	struct pages p;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	tool_health(tool, &p, &health);
	{
		struct metric_view view = {
			.instance = tool->instance, .readable = true, .pages = &p, .health = &health};

		if (tool->json)
			stat_json(tool, &view);
		else
			stat_text(&view);
	}
	pages_close(&p);
	return TOOL_OK;
}

static void health_json(const struct tool *tool, const struct health *health)
{
	json_t *doc = out_document("health"), *checks = json_array();

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "status", json_string(health_word(health->worst)));
	for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
		const struct health_finding *f = &health->finding[i];
		json_t *one = json_object();

		out_set(one, "check", json_string(health_name((enum health_check)i)));
		out_set(one, "what", json_string(health_what((enum health_check)i)));
		out_set(one, "status", json_string(health_word(f->severity)));
		out_set(one, "value", out_json_text(f->value, strlen(f->value)));
		out_set(one, "thresholds", json_string(health_thresholds((enum health_check)i)));
		out_set(one, "advice", f->advice[0] != '\0' ? json_string(f->advice) : json_null());
		out_set(one, "command",
		        f->command[0] != '\0' ? out_json_text(f->command, strlen(f->command)) : json_null());
		(void)json_array_append_new(checks, one);
	}
	out_set(doc, "checks", checks);
	out_json(doc, 2);
}

static enum paint paint_of(enum health_severity severity)
{
	return severity == HEALTH_OK ? PAINT_GOOD : severity == HEALTH_CRITICAL ? PAINT_BAD : PAINT_WARN;
}

/* What is not well comes first, the worst at the top. */
static void health_text(const struct tool *tool, const struct health *health)
{
	for (int severity = HEALTH_CRITICAL; severity >= HEALTH_OK; severity--)
		for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
			const struct health_finding *f = &health->finding[i];
			const char *word = health_word(f->severity);

			if ((int)f->severity != severity)
				continue;
			(void)printf("%s%*s  %-10s  %s\n", out_paint(tool, paint_of(f->severity), word),
			             (int)(8 - strlen(word)), "", health_name((enum health_check)i), f->value);
			if (f->severity == HEALTH_OK)
				continue;
			(void)printf("%22s%s\n", "", health_thresholds((enum health_check)i));
			if (f->advice[0] != '\0')
				(void)printf("%22s%s\n", "", f->advice);
			if (f->command[0] != '\0')
				(void)printf("%22s$ %s\n", "", f->command);
		}
}

int verb_health(struct tool *tool)
{
	struct health health;
	struct pages p;

	/* Whatever keeps it from being looked at has been said; to a plug-in it is one thing. */
	if (pages_open(tool, &p) != 0)
		return health_exit(HEALTH_UNKNOWN);
	tool_health(tool, &p, &health);
	pages_close(&p);
	if (tool->json)
		health_json(tool, &health);
	else
		health_text(tool, &health);
	return health_exit(health.worst);
}
