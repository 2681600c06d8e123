/* SPDX-License-Identifier: Apache-2.0
 * The page of one instance: which panels there are and what each shows. */
#include "tools/exporter/page.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/escape.h"
#include "shm/page/histogram.h"
#include "tools/exporter/page_assets.h"
#include "tools/exporter/panel.h"

struct page {
	FILE *out;
	const struct serve_options *options;
	const struct instance *instance;
	unsigned minutes;
	uint32_t step; /* samples of a point */
};

/* ---- from samples to points ---- */

static double known(uint64_t value)
{
	return value == UINT64_MAX ? NAN : (double)value;
}

/* Between two samples of one writer: what a counter grew by; NAN: not known. */
static double growth(const struct sample *from, const struct sample *to, size_t field)
{
	uint64_t a, b;

	if (from == NULL || to == NULL || !from->readable || !to->readable || from->epoch != to->epoch)
		return NAN;
	memcpy(&a, (const char *)from + field, sizeof(a));
	memcpy(&b, (const char *)to + field, sizeof(b));
	return a == UINT64_MAX || b == UINT64_MAX || b < a ? NAN : (double)(b - a);
}

/* The sample at the end of point i (0 is the oldest), and the one before the point. */
static const struct sample *end_of(const struct page *p, int i)
{
	return instance_sample(p->instance, (uint32_t)(PLOT_POINTS - 1 - i) * p->step);
}
static const struct sample *before(const struct page *p, int i)
{
	return instance_sample(p->instance, (uint32_t)(PLOT_POINTS - i) * p->step);
}

static void gauge(const struct page *p, struct plot_series *s, const char *name, size_t field, double factor)
{
	s->name = name;
	for (int i = 0; i < PLOT_POINTS; i++) {
		const struct sample *at = end_of(p, i);
		uint64_t value = UINT64_MAX;

		if (at != NULL && at->readable)
			memcpy(&value, (const char *)at + field, sizeof(value));
		s->at[i] = known(value) * factor;
	}
}

static void rate(const struct page *p, struct plot_series *s, const char *name, size_t field)
{
	s->name = name;
	for (int i = 0; i < PLOT_POINTS; i++) {
		const struct sample *from = before(p, i), *to = end_of(p, i);

		s->at[i] = growth(from, to, field);
		if (!isnan(s->at[i]))
			s->at[i] /= (double)(to->at_ns - from->at_ns) / 1e9;
	}
}

/* What one of `count` took of `ns` on average. */
static void mean(const struct page *p, struct plot_series *s, const char *name, size_t ns, size_t count)
{
	s->name = name;
	for (int i = 0; i < PLOT_POINTS; i++) {
		double took = growth(before(p, i), end_of(p, i), ns), times = growth(before(p, i), end_of(p, i), count);

		s->at[i] = times > 0 ? took / times / 1e9 : NAN;
	}
}

#define AT(field) offsetof(struct sample, field)

/* ---- the panels ---- */

static void text(struct page *p, const char *what)
{
	plot_text(p->out, what);
}

static void severity_word(struct page *p, enum health_severity severity)
{
	(void)fprintf(p->out, "<span class=\"badge %s\">%s</span>", health_word(severity), health_word(severity));
}

static void health_panel(struct page *p)
{
	const struct health *h = &p->instance->health;

	(void)fputs("<section class=\"panel wide\" id=\"health\" aria-labelledby=\"health-title\"><h2 "
	            "id=\"health-title\">Health ",
	            p->out);
	severity_word(p, h->worst);
	(void)fputs("</h2>\n", p->out);
	if (h->worst != HEALTH_OK)
		(void)fputs("<ul class=\"findings\">", p->out);
	for (int severity = HEALTH_CRITICAL; severity > HEALTH_OK; severity--)
		for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
			const struct health_finding *f = &h->finding[i];

			if ((int)f->severity != severity)
				continue;
			(void)fputs("<li>", p->out);
			severity_word(p, f->severity);
			(void)fprintf(p->out, " <b>%s</b>: ", health_name((enum health_check)i));
			text(p, f->value);
			(void)fputs("<br>", p->out);
			text(p, f->advice);
			if (f->command[0] != '\0') {
				(void)fputs(" <code>", p->out);
				text(p, f->command);
				(void)fputs("</code>", p->out);
			}
			(void)fputs("</li>\n", p->out);
		}
	if (h->worst != HEALTH_OK)
		(void)fputs("</ul>\n", p->out);
	(void)fprintf(
		p->out,
		"<details id=\"checks\"><summary>%d checks, %u of them ok</summary><table><thead><tr><th>check</th>"
		"<th>status</th><th>found</th><th>thresholds</th></tr></thead><tbody>\n",
		HEALTH_CHECK_COUNT, h->count[HEALTH_OK]);
	for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
		(void)fprintf(p->out, "<tr><th scope=\"row\">%s</th><td>", health_what((enum health_check)i));
		severity_word(p, h->finding[i].severity);
		(void)fputs("</td><td>", p->out);
		text(p, h->finding[i].value);
		(void)fputs("</td><td>", p->out);
		text(p, health_thresholds((enum health_check)i));
		(void)fputs("</td></tr>\n", p->out);
	}
	(void)fputs("</tbody></table></details></section>\n", p->out);
}

static double share_of(const struct sample *from, const struct sample *to, double *ret_lookups)
{
	double found = growth(from, to, AT(found)), absent = growth(from, to, AT(absent)),
	       bad = growth(from, to, AT(unknown)) + growth(from, to, AT(errors));

	*ret_lookups = found + absent + bad;
	return *ret_lookups > 0 ? 100 * (found + absent) / *ret_lookups : NAN;
}

/* The oldest sample of this writer that is at most so many steps old. */
static const struct sample *since(const struct page *p, uint32_t steps)
{
	const struct sample *now = instance_sample(p->instance, 0), *at, *oldest = now;

	for (uint32_t i = 1; i <= steps && (at = instance_sample(p->instance, i)) != NULL; i++)
		if (now != NULL && at->readable && at->epoch == now->epoch)
			oldest = at;
		else
			break;
	return oldest;
}

static void answers_panel(struct page *p)
{
	static const struct {
		const char *name;
		uint32_t steps;
	} windows[] = {
		{"1 min", 60 / HISTORY_STEP_S}, {"10 min", 600 / HISTORY_STEP_S}, {"60 min", 3600 / HISTORY_STEP_S}};
	struct plot plot = {.id = "answers",
	                    .title = "Lookups answered from the cache",
	                    .unit = PLOT_PERCENT,
	                    .minutes = p->minutes,
	                    .count = 1};
	char about[300] = "Answered FOUND or ABSENT, of all lookups.";
	double n;

	plot.series[0].name = "answered";
	for (int i = 0; i < PLOT_POINTS; i++)
		plot.series[0].at[i] = share_of(before(p, i), end_of(p, i), &n);
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		double share = share_of(since(p, windows[i].steps), instance_sample(p->instance, 0), &n);
		size_t used = strlen(about);

		(void)snprintf(about + used, sizeof(about) - used, " %s: %s, n = %s.", windows[i].name,
		               plot_value(PLOT_PERCENT, share), plot_value(PLOT_NUMBER, n));
	}
	plot.about = about;
	plot_lines(p->out, &plot);
}

static void lookups_panel(struct page *p)
{
	struct plot plot = {.id = "lookups",
	                    .title = "Lookups",
	                    .about = "Of all registered readers. Stale answers were older than their time to live.",
	                    .unit = PLOT_RATE,
	                    .minutes = p->minutes,
	                    .count = 5};

	rate(p, &plot.series[0], "found", AT(found));
	rate(p, &plot.series[1], "absent", AT(absent));
	rate(p, &plot.series[2], "unknown", AT(unknown));
	rate(p, &plot.series[3], "errors", AT(errors));
	rate(p, &plot.series[4], "stale", AT(stale));
	plot_lines(p->out, &plot);
}

static void latency_panel(struct page *p)
{
	static const double parts[] = {0.5, 0.99, 0.999};
	static const char *const names[] = {"p50", "p99", "p99.9"};
	const struct shmeta_stats *st = p->instance->pages.stats;
	uint64_t all = 0;

	plot_begin(p->out, "latency", "Lookup latency");
	(void)fputs("<ul class=\"legend\">", p->out);
	for (uint32_t i = 0; st != NULL && i < SHMETA_HISTOGRAM_BUCKETS; i++)
		all += st->lookups_ns[i];
	for (size_t k = 0; k < 3; k++) {
		uint64_t below = 0;
		uint32_t i = 0;

		while (all > 0 && i + 1 < SHMETA_HISTOGRAM_BUCKETS &&
		       (double)(below += st->lookups_ns[i]) < parts[k] * (double)all)
			i++;
		(void)fprintf(p->out, "<li class=\"s1\">%s <b>%s</b></li>", names[k],
		              plot_value(PLOT_SECONDS, all > 0 ? (double)shmeta__histogram_floor(i + 1) / 1e9 : NAN));
	}
	(void)fputs("</ul>\n", p->out);
	if (st != NULL)
		plot_bars(p->out, "How long sampled lookups took, from 64 ns to 524 us", st->lookups_ns + 13,
		          SHMETA_HISTOGRAM_BUCKETS - 13, "64 ns", "524 \xc2\xb5s");
	plot_end(p->out, "Sampled lookups since the writer started; a quarter of a power of two a bar.");
}

static void freshness_panel(struct page *p)
{
	const struct pages *pages = &p->instance->pages;

	plot_begin(p->out, "freshness", "Age against time to live");
	(void)fputs(
		"<table class=\"fit\"><thead><tr><th>class</th><th>age</th><th>TTL</th><th>used</th></tr></thead><tbody>\n",
		p->out);
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++) {
		uint64_t age = pages_since(pages->now_ns, pages->generation.stamp[i].synced_at_ns);
		double ttl = (double)pages->generation.stamp[i].ttl_ns,
		       part = age == UINT64_MAX || ttl <= 0 ? NAN : (double)age / ttl;
		double width = isnan(part) ? 0 : part > 1.5 ? 150 : 100 * part;

		(void)fprintf(
			p->out,
			"<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td><svg viewBox=\"0 0 150 12\" "
			"role=\"img\" aria-label=\"%s of the time to live\"><rect class=\"fill rail\" width=\"150\" "
			"height=\"12\"/><rect class=\"fill %s\" width=\"%.1f\" height=\"12\"/><path class=\"mark\" "
			"d=\"M100 0V12\"/></svg></td></tr>\n",
			pages_class((enum shmeta_class)i), plot_value(PLOT_SECONDS, known(age) / 1e9),
			plot_value(PLOT_SECONDS, ttl / 1e9), plot_value(PLOT_PERCENT, 100 * part),
			part < 1     ? "ok"
			: part < 1.5 ? "warning"
				     : "critical",
			width);
	}
	(void)fputs("</tbody></table>\n", p->out);
	plot_end(p->out,
	         "Since all records of a class were last verified. A refresh begins at 80 % of the time to live.");
}

static void ages_panel(struct page *p)
{
	struct plot plot = {.id = "ages",
	                    .title = "Age of each class",
	                    .about = "A saw: it falls with each verification, and only rises while the source is away.",
	                    .unit = PLOT_SECONDS,
	                    .minutes = p->minutes,
	                    .count = SHMETA_CLASS_COUNT};

	for (int i = 0; i < SHMETA_CLASS_COUNT; i++)
		gauge(p, &plot.series[i], pages_class((enum shmeta_class)i),
		      AT(class_age_ns) + (size_t)i * sizeof(uint64_t), 1e-9);
	plot_lines(p->out, &plot);
}

static void lag_panel(struct page *p)
{
	struct plot plot = {.id = "lag",
	                    .title = "Change feed lag",
	                    .about = "Age of what the change feed has told: how late changes by others are seen.",
	                    .unit = PLOT_SECONDS,
	                    .minutes = p->minutes,
	                    .count = 1};

	gauge(p, &plot.series[0], "lag", AT(lag_ns), 1e-9);
	plot_lines(p->out, &plot);
}

static void source_latency_panel(struct page *p)
{
	struct plot plot = {.id = "source-latency",
	                    .title = "Source and commit latency",
	                    .about = "Means: a bulk read of the source, a group commit to it, a commit of the store.",
	                    .unit = PLOT_SECONDS,
	                    .minutes = p->minutes,
	                    .count = 3};

	mean(p, &plot.series[0], "read", AT(fetch_ns), AT(fetches));
	mean(p, &plot.series[1], "write", AT(write_source_ns), AT(write_batches));
	mean(p, &plot.series[2], "store commit", AT(apply_ns), AT(commits));
	plot_lines(p->out, &plot);
}

static void heat_panel(struct page *p)
{
	static double cell[PLOT_HEAT_COLUMNS][PLOT_HEAT_ROWS];
	const int points = PLOT_POINTS / PLOT_HEAT_COLUMNS;

	_Static_assert((SHMETA_TIMES_BUCKETS + 1) / 2 < PLOT_HEAT_ROWS, "a row is missing");
	for (int x = 0; x < PLOT_HEAT_COLUMNS; x++)
		for (int y = 0; y < PLOT_HEAT_ROWS; y++)
			cell[x][y] = growth(before(p, x * points), end_of(p, x * points + points - 1),
			                    AT(source_time) + (size_t)y * sizeof(uint64_t));
	plot_begin(p->out, "source-heat", "How long the source takes");
	plot_heat(p->out, "Bulk reads of the source over time, by how long each took", cell, "4 \xc2\xb5s", "8.6 s");
	plot_end(p->out, "Each read counts in its column; a row is a power of two, and the darker, the more reads.");
}

static void state_panel(struct page *p)
{
	const struct pages *pages = &p->instance->pages;
	const char *writer[PLOT_POINTS], *source[PLOT_POINTS], *health[PLOT_POINTS];
	char status[SHMETA_STATS_TEXT + 200] = "not known";

	for (int i = 0; i < PLOT_POINTS; i++) {
		const struct sample *s = end_of(p, i);

		writer[i] = s == NULL                          ? ""
		            : !s->alive                        ? "critical"
		            : s->phase == SHMETA_PHASE_SERVING ? "ok"
		                                               : "warning";
		source[i] = s == NULL ? "" : s->source_up ? "ok" : s->alive ? "critical" : "unknown";
		health[i] = s == NULL ? "" : health_word(s->worst);
	}
	if (pages->stats != NULL)
		(void)shmeta__escape(status, sizeof(status), pages->stats->source_status,
		                     strnlen(pages->stats->source_status, sizeof(pages->stats->source_status)));
	plot_begin(p->out, "states", "States");
	(void)fprintf(p->out, "<p class=\"now\">Writer: <b>%s</b>, %s</p>\n", pages_writer(pages),
	              pages_phase(pages->board.phase));
	plot_strip(p->out, "State of the writer over time", writer);
	(void)fprintf(p->out, "<p class=\"now\">Source: %s<b>", pages->alive ? "" : "nobody asks it; the last was ");
	text(p, status);
	(void)fputs("</b></p>\n", p->out);
	plot_strip(p->out, "State of the source over time", source);
	(void)fprintf(p->out, "<p class=\"now\">Health: <b>%s</b></p>\n", health_word(p->instance->health.worst));
	plot_strip(p->out, "Health over time", health);
	(void)fprintf(p->out, "<p class=\"axis\"><span>-%u min</span><span>now</span></p>\n", p->minutes);
	plot_end(p->out,
	         "Green: serves and is connected. Amber: loading or degraded. Red: dead, or away. Grey: nobody asks.");
}

static void readers_panel(struct page *p)
{
	struct plot plot = {.id = "readers",
	                    .title = "Readers",
	                    .about = "Registered processes, and how many of them hold a snapshot.",
	                    .unit = PLOT_NUMBER,
	                    .minutes = p->minutes,
	                    .count = 2};

	gauge(p, &plot.series[0], "registered", AT(readers), 1);
	gauge(p, &plot.series[1], "hold a snapshot", AT(pinning), 1);
	plot_lines(p->out, &plot);
}

/* The rows with the oldest snapshots; names are what the processes call themselves. */
static void pins_panel(struct page *p)
{
	enum { SHOWN = 5 };
	const struct shmeta_stats *st = p->instance->pages.stats;
	bool shown[SHMETA_STATS_READERS] = {false};

	plot_begin(p->out, "pins", "Oldest snapshots");
	(void)fputs(
		"<table><thead><tr><th>reader</th><th>pid</th><th>age</th><th>commits behind</th></tr></thead><tbody>\n",
		p->out);
	for (int k = 0; st != NULL && k < SHOWN; k++) {
		const struct shmeta_stats_reader *oldest = NULL;
		char name[4 * sizeof(oldest->name) + 8];

		for (uint32_t i = 0; i < st->reader_count; i++)
			if (!shown[i] && st->reader[i].oldest_pin != 0 &&
			    (oldest == NULL || st->reader[i].pin_age_ns > oldest->pin_age_ns))
				oldest = &st->reader[i];
		if (oldest == NULL) {
			if (k == 0)
				(void)fputs("<tr><td colspan=\"4\">none</td></tr>\n", p->out);
			break;
		}
		shown[oldest - st->reader] = true;
		(void)shmeta__escape(name, sizeof(name), oldest->name, strnlen(oldest->name, sizeof(oldest->name)));
		(void)fputs("<tr><th scope=\"row\">", p->out);
		text(p, name);
		(void)fprintf(p->out, "</th><td>%" PRIu64 "</td><td>%s</td><td>%" PRIu64 "</td></tr>\n", oldest->pid,
		              plot_value(PLOT_SECONDS, (double)oldest->pin_age_ns / 1e9), oldest->pin_lag);
	}
	(void)fputs("</tbody></table>\n", p->out);
	plot_end(p->out, "A snapshot holds back room of the store from the commit after it on. "
	                 "'shmetactl readers' lists all, 'shmetactl revoke' ends one.");
}

static void store_panel(struct page *p)
{
	struct plot plot = {
		.id = "store",
		.title = "Store",
		.about = "Pinned: free, but kept for readers in older commits. Memory: free in the file system.",
		.unit = PLOT_BYTES,
		.minutes = p->minutes,
		.count = 4};

	gauge(p, &plot.series[0], "used", AT(store_used), 1);
	gauge(p, &plot.series[1], "pinned", AT(store_pinned), 1);
	gauge(p, &plot.series[2], "limit", AT(store_limit), 1);
	gauge(p, &plot.series[3], "memory free", AT(free_bytes), 1);
	/* What is free is often many times the store: not drawn higher than the limit. */
	for (int i = 0; i + 1 < PLOT_POINTS; i++)
		if (plot.series[3].at[i] > plot.series[2].at[i])
			plot.series[3].at[i] = NAN;
	if (plot.series[3].at[PLOT_POINTS - 1] > plot.series[2].at[PLOT_POINTS - 1])
		plot.count = 3;
	plot_lines(p->out, &plot);
}

static void queue_panel(struct page *p)
{
	struct plot plot = {
		.id = "queue",
		.title = "Keys waiting to be fetched",
		.about = "Named by the change feed or asked for by readers, and not read from the source yet.",
		.unit = PLOT_NUMBER,
		.minutes = p->minutes,
		.count = 1};

	gauge(p, &plot.series[0], "waiting", AT(queue_depth), 1);
	plot_lines(p->out, &plot);
}

static void writes_panel(struct page *p)
{
	struct plot plot = {
		.id = "writes",
		.title = "Writes and refreshes",
		.about = "Coalesced: refreshes that joined one already queued. Absent: answered by what was just "
			 "found absent. Neither asked the source.",
		.unit = PLOT_RATE,
		.minutes = p->minutes,
		.count = 4};

	rate(p, &plot.series[0], "operations written", AT(write_ops));
	rate(p, &plot.series[1], "keys fetched", AT(refresh_keys));
	rate(p, &plot.series[2], "coalesced", AT(refresh_coalesced));
	rate(p, &plot.series[3], "absent", AT(absent_answers));
	plot_lines(p->out, &plot);
}

static void avoided_panel(struct page *p)
{
	struct plot plot = {.id = "avoided",
	                    .title = "Database load avoided",
	                    .unit = PLOT_RATE,
	                    .minutes = p->minutes,
	                    .count = 2};
	const struct sample *now = instance_sample(p->instance, 0), *from = since(p, 3600 / HISTORY_STEP_S);
	double avoided =
		growth(from, now, AT(found)) + growth(from, now, AT(absent)) - growth(from, now, AT(source_queries));
	char about[300];

	if (avoided < 0)
		avoided = 0;
	(void)snprintf(about, sizeof(about),
	               "Lookups that would each have been a statement, less the statements run. In the "
	               "time shown on this page, at most an hour: %s statements",
	               plot_value(PLOT_NUMBER, avoided));
	if (p->options->price > 0 && !isnan(avoided))
		(void)snprintf(about + strlen(about), sizeof(about) - strlen(about), ", %.2f %s",
		               avoided / 1e6 * p->options->price, p->options->currency);
	plot.about = about;
	rate(p, &plot.series[0], "lookups", AT(found));
	rate(p, &plot.series[1], "", AT(absent));
	for (int i = 0; i < PLOT_POINTS; i++)
		plot.series[0].at[i] += plot.series[1].at[i];
	rate(p, &plot.series[1], "statements", AT(source_queries));
	plot_lines(p->out, &plot);
}

static void about_panel(struct page *p)
{
	const struct pages *pages = &p->instance->pages;
	char source[SHMETA_STATS_TEXT + 200] = "-", version[24];

	if (pages->stats != NULL)
		(void)shmeta__escape(source, sizeof(source), pages->stats->source,
		                     strnlen(pages->stats->source, sizeof(pages->stats->source)));
	plot_begin(p->out, "instance", "Instance");
	(void)fputs("<table><tbody><tr><th scope=\"row\">source</th><td>", p->out);
	text(p, source);
	(void)fprintf(p->out,
	              "</td></tr><tr><th scope=\"row\">writer</th><td>version %s, started %s ago, start %" PRIu64
	              " on this instance</td></tr><tr><th scope=\"row\">store</th><td>generation %" PRIu64
	              ", commit %" PRIu64 "</td></tr>",
	              pages_version(pages->board.writer_version, version),
	              plot_value(PLOT_SECONDS, known(pages_since(pages->now_ns, pages->board.started_at_ns)) / 1e9),
	              pages->board.epoch, pages->board.generation, pages->generation.committed);
	(void)fprintf(p->out, "<tr><th scope=\"row\">content</th><td>%s topics, %s partitions, %s segments</td></tr>",
	              plot_value(PLOT_NUMBER, known(pages_counter(pages, SHMETA_COUNTER_topics))),
	              plot_value(PLOT_NUMBER, known(pages_counter(pages, SHMETA_COUNTER_partitions))),
	              plot_value(PLOT_NUMBER, known(pages_counter(pages, SHMETA_COUNTER_segments))));
	(void)fprintf(p->out, "<tr><th scope=\"row\">configuration</th><td>%s, %s</td></tr></tbody></table>\n",
	              pages->stats != NULL && (pages->stats->flags & SHMETA_STATS_RELOAD_REFUSED) != 0
	                      ? "the newest reload was refused"
	                      : "no reload was refused",
	              pages->stats != NULL && (pages->stats->flags & SHMETA_STATS_RESTART_NEEDED) != 0
	                      ? "options wait for a restart"
	                      : "nothing waits for a restart");
	plot_end(p->out, "What is shown is in shared memory: it needs no writer that runs.");
}

/* ---- the frame ---- */

/* An instance's name as the value of a parameter. */
static void parameter(FILE *out, const char *value)
{
	for (; *value != '\0'; value++)
		if ((*value >= 'a' && *value <= 'z') || (*value >= 'A' && *value <= 'Z') ||
		    (*value >= '0' && *value <= '9') || strchr("-._", *value) != NULL)
			(void)fputc(*value, out);
		else
			(void)fprintf(out, "%%%02X", (unsigned)(unsigned char)*value);
}

static void link_to(struct page *p, const char *instance, unsigned minutes, const char *shown, bool current)
{
	(void)fputs("<a href=\"/?instance=", p->out);
	parameter(p->out, instance);
	(void)fprintf(p->out, "&amp;window=%um\"%s>", minutes, current ? " aria-current=\"page\"" : "");
	text(p, shown);
	(void)fputs("</a>\n", p->out);
}

static void head(struct page *p, const char *title)
{
	(void)fputs(
		"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
		"content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">"
		"<link rel=\"icon\" href=\"data:,\"><title>",
		p->out);
	text(p, title);
	(void)fprintf(p->out, " - shmeta</title><style>%s</style></head><body>\n", page_css);
}

static void navigation(struct page *p)
{
	char when[40];
	time_t now = time(NULL);
	struct tm utc;

	(void)gmtime_r(&now, &utc);
	(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &utc);
	(void)fputs("<header><h1>shmeta</h1><nav aria-label=\"instances\">", p->out);
	for (uint32_t i = 0; i < p->options->instances->count; i++) {
		const struct instance *one = p->options->instances->list[i];

		link_to(p, one->name, p->minutes, one->name, one == p->instance);
		severity_word(p, one->readable ? one->health.worst : HEALTH_UNKNOWN);
		(void)fputc('\n', p->out);
	}
	(void)fputs("</nav>", p->out);
	if (p->instance != NULL) {
		(void)fputs("<nav aria-label=\"time shown\">", p->out);
		link_to(p, p->instance->name, 10, "10 min", p->minutes == 10);
		link_to(p, p->instance->name, 60, "60 min", p->minutes == 60);
		(void)fputs("</nav>", p->out);
	}
	(void)fprintf(p->out,
	              "<p class=\"when\"><time>%s</time> <button type=\"button\" id=\"pause\" hidden>Pause</button></p>"
	              "</header>\n",
	              when);
}

static void panels(struct page *p)
{
	static void (*const all[])(struct page * p) = {
		health_panel,  answers_panel, lookups_panel, latency_panel, state_panel,          freshness_panel,
		ages_panel,    lag_panel,     queue_panel,   writes_panel,  source_latency_panel, heat_panel,
		readers_panel, pins_panel,    store_panel,   avoided_panel, about_panel};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		all[i](p);
}

bool page_write(FILE *out, const struct serve_options *options, const char *name, const char *window)
{
	struct page p = {.out = out, .options = options, .instance = instances_find(options->instances, name)};
	bool much = p.instance != NULL && instance_sample(p.instance, 660 / HISTORY_STEP_S) != NULL;

	p.minutes = window != NULL && strcmp(window, "10m") == 0   ? 10
	            : window != NULL && strcmp(window, "60m") == 0 ? 60
	            : much                                         ? 60
	                                                           : 10;
	p.step = p.minutes * 60 / HISTORY_STEP_S / PLOT_POINTS;
	head(&p, p.instance != NULL ? p.instance->name : "no instance");
	navigation(&p);
	(void)fputs("<main>\n", out);
	if (p.instance == NULL) {
		(void)fputs("<section class=\"panel wide\"><h2>No such instance</h2><p>", out);
		text(&p, name != NULL ? "There is no instance of this name."
		                      : "No writer has published an instance here: start shmetad.");
		(void)fputs("</p></section>\n", out);
	} else if (!p.instance->readable) {
		(void)fputs("<section class=\"panel wide\"><h2>This instance cannot be read</h2><p>", out);
		text(&p, p.instance->dir);
		(void)fputs(": ", out);
		text(&p, p.instance->why);
		(void)fputs("</p></section>\n", out);
	} else {
		panels(&p);
	}
	(void)fprintf(out, "</main>\n<script>%s</script></body></html>\n", page_js);
	return p.instance != NULL || name == NULL;
}
