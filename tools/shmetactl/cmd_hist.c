/* SPDX-License-Identifier: Apache-2.0
 * hist: how long things took: sampled lookups of all readers since the writer started, or what the
 * writer did lately. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/monitor/percentile.h"
#include "tools/shmetactl/inspect.h"

enum { BAR = 40 };

struct histogram {
	uint64_t count[SHMETA_HISTOGRAM_BUCKETS];
	uint64_t all;
	uint64_t *exact; /* sorted; NULL: only the buckets are known */
};

static const struct {
	const char *name;
	double part;
} parts[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static uint64_t part_of(const struct histogram *h, double part)
{
	if (h->all == 0)
		return UINT64_MAX;
	return h->exact != NULL ? h->exact[(uint64_t)ceil(part * (double)h->all) - 1] : percentile_of(h->count, part);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int read_lookups(struct tool *tool, struct histogram *h)
{
	struct pages p;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	if (p.stats == NULL)
		code = tool_error(tool, tool_exit_of(p.stats_error.code), "no stats: %s", p.stats_error.text);
	for (uint32_t i = 0; code == 0 && i < SHMETA_HISTOGRAM_BUCKETS; i++) {
		h->count[i] = p.stats->lookups_ns[i];
		h->all += h->count[i];
	}
	pages_close(&p);
	return code;
}

static int read_events(struct tool *tool, uint32_t kind, struct histogram *h)
{
	const struct shmeta_activity *page;
	struct shmeta_event e;
	struct pages p;
	uint64_t newest;
	int code = activity_open(tool, &p, &page);

	if (code != 0)
		return code;
	h->exact = tool_alloc(SHMETA_EVENTS * sizeof(*h->exact));
	newest = shmeta_observe(&page->newest); /* PAIR 7: an event within its number */
	for (uint64_t at = newest > SHMETA_EVENTS ? newest - SHMETA_EVENTS + 1 : 1; at <= newest; at++) {
		if (!shmeta__activity_event(page, at, &e) || e.kind != kind || e.took_ns == 0)
			continue;
		h->count[shmeta__histogram_bucket(e.took_ns)]++;
		h->exact[h->all++] = e.took_ns;
	}
	if (h->all > 0)
		qsort(h->exact, h->all, sizeof(*h->exact), ascending);
	activity_close(&p, page);
	return 0;
}

static void print_json(const char *what, const struct histogram *h)
{
	json_t *doc = out_document("hist"), *buckets = json_array();

	out_set(doc, "of", json_string(what));
	out_set(doc, "exact", json_boolean(h->exact != NULL));
	out_set(doc, "count", out_json_count(h->all));
	for (size_t i = 0; i < PARTS; i++) {
		uint64_t ns = part_of(h, parts[i].part);

		out_set(doc, parts[i].name, ns != UINT64_MAX ? out_json_count(ns) : json_null());
	}
	for (uint32_t i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++) {
		json_t *one;

		if (h->count[i] == 0)
			continue;
		one = json_object();
		out_set(one, "from_ns", out_json_count(shmeta__histogram_floor(i)));
		out_set(one, "count", out_json_count(h->count[i]));
		(void)json_array_append_new(buckets, one);
	}
	out_set(doc, "buckets", buckets);
	out_json(doc, 2);
}

static void print_text(const char *what, const struct histogram *h)
{
	uint64_t most = 0;
	uint32_t first = SHMETA_HISTOGRAM_BUCKETS, last = 0;

	(void)printf("%s of %s%s", out_count(h->all), what, h->all == 0 ? "\n" : ":");
	for (size_t i = 0; h->all > 0 && i < PARTS; i++)
		(void)printf("  %s %s%s", parts[i].name, out_ns(part_of(h, parts[i].part)), i + 1 == PARTS ? "\n" : "");
	for (uint32_t i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++)
		if (h->count[i] > 0) {
			most = h->count[i] > most ? h->count[i] : most;
			first = i < first ? i : first;
			last = i;
		}
	for (uint32_t i = first; h->all > 0 && i <= last; i++) {
		char bar[BAR + 1];
		int n = (int)(BAR * (double)h->count[i] / (double)most + 0.5);

		n = n == 0 && h->count[i] > 0 ? 1 : n;
		memset(bar, '#', (size_t)n);
		bar[n] = '\0';
		(void)printf("%10s  %-*s  %s\n", out_ns(shmeta__histogram_floor(i)), BAR, bar, out_count(h->count[i]));
	}
}

int verb_hist(struct tool *tool)
{
	const char *what = tool->argc > 0 ? tool->argv[0] : "lookup";
	struct histogram h = {.all = 0};
	uint32_t kind = 1;
	int code;

	while (kind < SHMETA_EVENT_LOG && strcmp(shmeta__event_name(kind), what) != 0)
		kind++;
	if (strcmp(what, "lookup") != 0 && kind == SHMETA_EVENT_LOG)
		return tool_error(tool, TOOL_USAGE,
		                  "'%s' is not measured; expected lookup, commit, fetch, feed, write or pass", what);
	code = kind == SHMETA_EVENT_LOG ? read_lookups(tool, &h) : read_events(tool, kind, &h);
	if (code == 0 && tool->json)
		print_json(what, &h);
	else if (code == 0)
		print_text(kind == SHMETA_EVENT_LOG ? "lookups that were sampled" : what, &h);
	free(h.exact);
	return code;
}
