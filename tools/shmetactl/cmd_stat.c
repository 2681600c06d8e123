/* SPDX-License-Identifier: Apache-2.0
 * stat: what is counted and measured of an instance: once, or again and again with what happened in
 * between. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/monitor/metrics.h"
#include "tools/monitor/percentile.h"
#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/paging.h"

/* One look at all rows. */
struct look {
	struct pages pages;
	struct health health;
	struct metric_view view;
	struct metric_value (*values)[METRIC_VALUES]; /* [row] */
	size_t *counts;                               /* [row]: values that it has; 0: nothing is
                                                       * known of it */
};

static int look_open(struct tool *tool, struct look *l)
{
	int code = pages_open(tool, &l->pages);

	if (code != 0)
		return code;
	tool_health(tool, &l->pages, &l->health);
	l->view = (struct metric_view){
		.instance = tool->instance, .readable = true, .pages = &l->pages, .health = &l->health};
	l->values = tool_alloc(metric_count() * sizeof(*l->values));
	l->counts = tool_alloc(metric_count() * sizeof(*l->counts));
	for (size_t i = 0; i < metric_count(); i++)
		l->counts[i] = metric_read(metric_row(i), &l->view, l->values[i]);
	return 0;
}

static void look_close(struct look *l)
{
	free(l->values);
	free(l->counts);
	pages_close(&l->pages);
	*l = (struct look){.pages = {.dir_fd = -1}};
}

static bool wanted(const struct tool *tool, const struct metric *row)
{
	return tool->glob == NULL || page_matches(tool->glob, row->key, strlen(row->key));
}

/* Since when counters count: the start of the writer. In ns before this look; UINT64_MAX:
 * unknown. */
static uint64_t counted_for(const struct look *l)
{
	return pages_since(l->pages.now_ns, l->pages.board.started_at_ns);
}

/* A counter begins anew with each writer: then all of it is new. */
static uint64_t grown(const struct look *now, const struct look *before, size_t row)
{
	uint64_t value = now->values[row][0].value, old = before->values[row][0].value;

	if (before->counts[row] != 1 || now->pages.board.epoch != before->pages.board.epoch || old > value)
		return value;
	return value - old;
}

/* Per second since the look before, or, without one, since the writer began to count. Negative:
 * unknown. */
static double rate_of(const struct look *now, const struct look *before, size_t row)
{
	uint64_t ns = before != NULL ? now->pages.now_ns - before->pages.now_ns : counted_for(now);

	if (metric_row(row)->kind != METRIC_COUNTER || now->counts[row] != 1 || ns == UINT64_MAX || ns == 0)
		return -1;
	return (double)(before != NULL ? grown(now, before, row) : now->values[row][0].value) * 1e9 / (double)ns;
}

/* ---- JSON ---- */

static json_t *values_json(const struct metric *row, const struct metric_value *values, size_t n)
{
	json_t *all = row->label == NULL && !metric_is_histogram(row) ? NULL : json_object();

	if (n == 0) {
		json_decref(all);
		return json_null();
	}
	if (all == NULL)
		return out_json_count(values[0].value);
	for (size_t i = 0; i < n; i++) {
		char bucket[24];

		if (i < metric_buckets(row))
			(void)snprintf(bucket, sizeof(bucket), "%" PRIu64, metric_floor(row, i));
		else
			(void)snprintf(bucket, sizeof(bucket), "sum");
		out_set(all, metric_is_histogram(row) ? bucket : values[i].label, out_json_count(values[i].value));
	}
	return all;
}

static void stat_json(const struct tool *tool, const struct look *now, const struct look *before)
{
	json_t *doc = out_document("stat"), *metrics = json_array();
	char name[METRIC_NAME_BYTES];

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "writer_age_ms", out_json_age(counted_for(now)));
	out_set(doc, "interval_ms",
	        before != NULL ? out_json_age(now->pages.now_ns - before->pages.now_ns) : json_null());
	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);
		double rate = rate_of(now, before, i);
		json_t *one;

		if (!wanted(tool, row))
			continue;
		one = json_object();
		out_set(one, "name", json_string(row->key));
		out_set(one, "metric", json_string(metric_name(row, name)));
		out_set(one, "kind", json_string(metric_kind(row->kind)));
		out_set(one, "unit", json_string(row->unit));
		out_set(one, "label", row->label != NULL ? json_string(row->label) : json_null());
		out_set(one, "help", json_string(row->help));
		out_set(one, "value", values_json(row, now->values[i], now->counts[i]));
		out_set(one, "per_second", rate >= 0 ? json_real(rate) : json_null());
		(void)json_array_append_new(metrics, one);
	}
	out_set(doc, "metrics", metrics);
	out_json(doc, tool->every_ms > 0 ? 0 : 2);
}

/* ---- text ---- */

static void stat_line(struct list *list, const struct metric *row, const char *label, const char *value, double rate)
{
	char name[METRIC_NAME_BYTES], second[40];
	struct field fields[5];
	size_t n = 0;

	(void)snprintf(name, sizeof(name), "%s%s%s%s", row->key, label[0] != '\0' ? "{" : "", label,
	               label[0] != '\0' ? "}" : "");
	(void)snprintf(second, sizeof(second), rate >= 100 ? "%.0f" : "%.2f", rate);
	fields[n++] = f_string("name", name);
	fields[n] = f_string("value", value);
	fields[n++].flags |= FIELD_RIGHT;
	fields[n] = f_string("per_second", rate >= 0 ? second : "");
	fields[n++].flags |= FIELD_RIGHT;
	if (list->tool->list) {
		fields[n++] = f_string("unit", row->unit);
		fields[n++] = f_string("meaning", row->help);
	}
	list_row(list, fields, n);
}

static uint64_t percentile(const struct metric *row, const struct metric_value *buckets, double part)
{
	uint64_t counts[METRIC_VALUES], ns;

	for (size_t i = 0; i < metric_buckets(row); i++)
		counts[i] = buckets[i].value;
	ns = row->kind == METRIC_TIMES ? percentile_of_times(counts, part) : percentile_of(counts, part);
	return ns != UINT64_MAX ? ns : 0;
}

static void row_text(struct list *list, const struct look *now, const struct look *before, size_t i)
{
	const struct metric *row = metric_row(i);
	const struct metric_value *values = now->values[i];
	size_t n = now->counts[i];
	char text[64];

	if (n == 0) {
		stat_line(list, row, "", "-", -1);
	} else if (metric_is_histogram(row)) {
		stat_line(list, row, "p50", out_count(percentile(row, values, 0.5)), -1);
		stat_line(list, row, "p99", out_count(percentile(row, values, 0.99)), -1);
		stat_line(list, row, "p99.9", out_count(percentile(row, values, 0.999)), -1);
	} else {
		for (size_t k = 0; k < n; k++) {
			(void)snprintf(text, sizeof(text), "%" PRIu64, values[k].value);
			stat_line(list, row, values[k].label, text, n == 1 ? rate_of(now, before, i) : -1);
		}
	}
}

/* With --every, the rounds behind the first show what moved. */
static bool moved(const struct look *now, const struct look *before, size_t i)
{
	if (before == NULL || now->counts[i] != before->counts[i])
		return true;
	for (size_t k = 0; k < now->counts[i]; k++)
		if (now->values[i][k].value != before->values[i][k].value)
			return true;
	return false;
}

static void stat_text(const struct tool *tool, const struct look *now, const struct look *before)
{
	struct list list;

	if (before != NULL)
		(void)printf("\nin the last %s\n", out_ns(now->pages.now_ns - before->pages.now_ns));
	else if (!tool->no_header)
		(void)printf("counted for %s, since the writer with pid %" PRIu64 " started%s\n",
		             out_ns(counted_for(now)), now->pages.board.writer_pid,
		             now->pages.stats == NULL ? "; what it counted cannot be read" : "");
	list_begin(&list, tool, "metrics");
	for (size_t i = 0; i < metric_count(); i++)
		if (wanted(tool, metric_row(i)) && moved(now, before, i))
			row_text(&list, now, before, i);
	list_end(&list, NULL, 0);
	list_free(&list);
}

/* Wait for --every before the next round; false: it was the last one. round: counted from 1. */
static bool next_round(const struct tool *tool, uint64_t round)
{
	if (tool->every_ms == 0 || (tool->count > 0 && round >= tool->count))
		return false;
	return out_pause(tool->every_ms);
}

int verb_stat(struct tool *tool)
{
	struct look now = {.pages = {.dir_fd = -1}}, before = {.pages = {.dir_fd = -1}};
	uint64_t round = 0;
	int code;

	if (tool->count > 0 && tool->every_ms == 0)
		return tool_error(tool, TOOL_USAGE, "--count needs --every");
	do {
		code = look_open(tool, &now);
		if (code != 0)
			break;
		if (tool->json)
			stat_json(tool, &now, round > 0 ? &before : NULL);
		else
			stat_text(tool, &now, round > 0 ? &before : NULL);
		if (round > 0)
			look_close(&before);
		before = now;
		now = (struct look){.pages = {.dir_fd = -1}};
	} while (next_round(tool, ++round));
	if (round > 0 || code == 0)
		look_close(&before);
	return code;
}
