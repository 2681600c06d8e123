/* SPDX-License-Identifier: Apache-2.0
 * Rows of the table as text: for Prometheus, and for people. */
#include <inttypes.h>
#include <string.h>

#include "tools/monitor/metrics.h"

/* Buckets are told by powers of two: lookups from 64 ns on, of which 4 of ours make one, other
 * times from 4.1 us on, of which 2 do. */
enum { LOOKUPS_FIRST = 13, LOOKUPS_A_POWER = 4, TIMES_FIRST = 1, TIMES_A_POWER = 2 };

static bool in_seconds(const struct metric *row)
{
	return strcmp(row->unit, "nanoseconds") == 0;
}

/* "bytes", "seconds", or "": what stands in the name. */
static const char *base_unit(const struct metric *row)
{
	return in_seconds(row) ? "seconds" : strcmp(row->unit, "bytes") == 0 ? "bytes" : "";
}

/* The name without "_total", as OpenMetrics calls a family. */
static void family_name(const struct metric *row, char ret[METRIC_NAME_BYTES])
{
	const char *unit = base_unit(row);
	size_t n = strlen(row->key);

	if (n > 3 && strcmp(row->key + n - 3, "_ns") == 0)
		n -= 3;
	(void)snprintf(ret, METRIC_NAME_BYTES, "shmeta_%.*s%s%s", (int)n, row->key, unit[0] != '\0' ? "_" : "", unit);
}

const char *metric_name(const struct metric *row, char ret[METRIC_NAME_BYTES])
{
	size_t n;

	family_name(row, ret);
	n = strlen(ret);
	if (row->kind == METRIC_COUNTER)
		(void)snprintf(ret + n, METRIC_NAME_BYTES - n, "_total");
	return ret;
}

/* Between quotes: backslash, quote and newline are escaped; any other byte below ' ' becomes
 * '?'. */
static void write_label(FILE *out, const char *name, const char *value)
{
	(void)fprintf(out, "%s=\"", name);
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			(void)fprintf(out, "\\%c", *value);
		else if (*value == '\n')
			(void)fputs("\\n", out);
		else
			(void)fputc((unsigned char)*value < ' ' || *value == 0x7f ? '?' : *value, out);
	}
	(void)fputc('"', out);
}

static void write_number(FILE *out, const struct metric *row, uint64_t value)
{
	if (in_seconds(row))
		(void)fprintf(out, "%" PRIu64 ".%09" PRIu64 "\n", value / 1000000000u, value % 1000000000u);
	else
		(void)fprintf(out, "%" PRIu64 "\n", value);
}

static void write_sample(FILE *out, const char *name, const char *suffix, const struct metric_view *view,
                         const char *label, const char *label_value)
{
	(void)fprintf(out, "%s%s{", name, suffix);
	write_label(out, "shmeta_instance", view->instance);
	if (label != NULL) {
		(void)fputc(',', out);
		write_label(out, label, label_value);
	}
	(void)fputs("} ", out);
}

static void write_histogram(FILE *out, const struct metric *row, const char *name, const struct metric_view *view,
                            const struct metric_value *values)
{
	const size_t buckets = metric_buckets(row), first = row->kind == METRIC_TIMES ? TIMES_FIRST : LOOKUPS_FIRST,
		     a_power = row->kind == METRIC_TIMES ? TIMES_A_POWER : LOOKUPS_A_POWER;
	uint64_t below = 0, sum = 0;
	char bound[40];

	for (size_t i = 0; i < buckets; i++) {
		uint64_t floor = metric_floor(row, i), next = i + 1 < buckets ? metric_floor(row, i + 1) : floor * 2;

		if (i >= first && (i - first) % a_power == 0) {
			(void)snprintf(bound, sizeof(bound), "%" PRIu64 ".%09" PRIu64, floor / 1000000000u,
			               floor % 1000000000u);
			write_sample(out, name, "_bucket", view, "le", bound);
			(void)fprintf(out, "%" PRIu64 "\n", below);
		}
		below += values[i].value;
		sum += values[i].value * ((floor + next) / 2);
	}
	if (row->kind == METRIC_TIMES)
		sum = values[buckets].value;
	write_sample(out, name, "_bucket", view, "le", "+Inf");
	(void)fprintf(out, "%" PRIu64 "\n", below);
	write_sample(out, name, "_sum", view, NULL, NULL);
	write_number(out, row, sum);
	write_sample(out, name, "_count", view, NULL, NULL);
	(void)fprintf(out, "%" PRIu64 "\n", below);
}

static void write_row(FILE *out, const struct metric *row, const struct metric_view *views, size_t count,
                      bool open_metrics)
{
	char name[METRIC_NAME_BYTES], family[METRIC_NAME_BYTES];
	struct metric_value values[METRIC_VALUES];

	(void)metric_name(row, name);
	family_name(row, family);
	if (!open_metrics)
		memcpy(family, name, sizeof(family));
	(void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family, row->help, family, metric_kind(row->kind));
	if (open_metrics && base_unit(row)[0] != '\0')
		(void)fprintf(out, "# UNIT %s %s\n", family, base_unit(row));
	for (size_t i = 0; i < count; i++) {
		size_t n = metric_read(row, &views[i], values);

		if (metric_is_histogram(row) && n > 0) {
			write_histogram(out, row, name, &views[i], values);
			continue;
		}
		for (size_t k = 0; k < n; k++) {
			write_sample(out, name, "", &views[i], row->label, values[k].label);
			write_number(out, row, values[k].value);
		}
	}
}

void metrics_write(FILE *out, const struct metric_view *views, size_t count, bool open_metrics)
{
	for (size_t i = 0; i < metric_count(); i++)
		write_row(out, metric_row(i), views, count, open_metrics);
	if (open_metrics)
		(void)fputs("# EOF\n", out);
}

void metrics_write_document(FILE *out)
{
	char name[METRIC_NAME_BYTES];

	(void)fputs(
		"| metric | in `shmetactl stat` | kind | unit there | labels | meaning |\n|---|---|---|---|---|---|\n",
		out);
	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);

		(void)fprintf(out, "| `%s` | `%s` | %s | %s | %s%s%s | %s |\n", metric_name(row, name), row->key,
		              metric_kind(row->kind), row->unit, row->label != NULL ? "`" : "",
		              row->label != NULL ? row->label : "", row->label != NULL ? "`" : "", row->help);
	}
}

void metrics_write_manual(FILE *out)
{
	char name[METRIC_NAME_BYTES];

	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);

		(void)fprintf(out, "*%s*%s%s%s (%s)\n\t", metric_name(row, name), row->label != NULL ? " {_" : "",
		              row->label != NULL ? row->label : "", row->label != NULL ? "_}" : "",
		              metric_kind(row->kind));
		for (const char *c = row->help; *c != '\0'; c++)
			(void)fprintf(out, "%s%c", *c == '_' || *c == '*' ? "\\" : "", *c);
		(void)fprintf(out, ". In *shmetactl stat*: *%s*%s%s.\n\n", row->key,
		              row->unit[0] != '\0' ? ", in " : "", row->unit);
	}
}
