/* SPDX-License-Identifier: Apache-2.0
 * Figures, verdicts, the table and the JSON file. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/bench.h"

static struct result results[MAX_RESULTS];
static int result_count;

struct result *result_get(const char *name)
{
	for (int i = 0; i < result_count; i++)
		if (strcmp(results[i].name, name) == 0)
			return &results[i];
	return NULL;
}

struct result *result_add(const char *name, const char *unit)
{
	struct result *r = result_get(name);

	if (r != NULL)
		return r;
	if (result_count == MAX_RESULTS)
		die("more than %d figures", MAX_RESULTS);
	r = &results[result_count++];
	(void)snprintf(r->name, sizeof r->name, "%s", name);
	r->unit = unit;
	r->pass = -1;
	return r;
}

void result_value(struct result *r, double value)
{
	if (r->rounds < MAX_ROUNDS)
		r->value[r->rounds++] = value;
}

void result_cpu(struct result *r, double cpu)
{
	if (r->cpu_rounds < MAX_ROUNDS)
		r->cpu[r->cpu_rounds++] = cpu;
}

void result_missing(const char *name, const char *unit, const char *why)
{
	struct result *r = result_add(name, unit);

	r->pass = -2;
	(void)snprintf(r->note, sizeof r->note, "missing: %s", why);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values, int n)
{
	double sorted[MAX_ROUNDS];

	if (n == 0)
		return NAN;
	memcpy(sorted, values, (size_t)n * sizeof *sorted);
	qsort(sorted, (size_t)n, sizeof *sorted, by_value);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double result_median(const struct result *r)
{
	return r == NULL ? NAN : median(r->value, r->rounds);
}

/* The median over the rounds of a / b; the quotient of the medians when the rounds differ. */
static double ratio(const struct result *a, const struct result *b)
{
	double q[MAX_ROUNDS];
	bool cpu = a->cpu_rounds == a->rounds && b->cpu_rounds == b->rounds;

	if (a->rounds != b->rounds)
		return result_median(a) / result_median(b);
	for (int i = 0; i < a->rounds; i++)
		q[i] = cpu ? a->cpu[i] / b->cpu[i] : a->value[i] / b->value[i];
	return median(q, a->rounds);
}

static void verdict(struct result *r, bool held, const char *text)
{
	size_t n = strlen(r->target);

	(void)snprintf(r->target + n, sizeof r->target - n, "%s%s", n != 0 ? ", " : "", text);
	if (r->pass != -2)
		r->pass = held && r->pass != 0;
}

static void against(const char *name, double limit, bool at_most)
{
	struct result *r = result_get(name);
	char text[64];

	if (r == NULL)
		return;
	(void)snprintf(text, sizeof text, "%s %.10g", at_most ? "<=" : ">=", limit);
	verdict(r, at_most ? result_median(r) <= limit : result_median(r) >= limit, text);
}

void target_max(const char *name, double limit)
{
	against(name, limit, true);
}

void target_min(const char *name, double limit)
{
	against(name, limit, false);
}

static void against_other(const char *name, double factor, const char *other, bool at_most)
{
	struct result *r = result_get(name), *o = result_get(other);
	char text[120];

	if (r == NULL)
		return;
	if (o == NULL || o->rounds == 0 || r->rounds == 0) {
		(void)snprintf(text, sizeof text, "%s %.4g x %s", at_most ? "<=" : ">=", factor, other);
		verdict(r, false, text);
		return;
	}
	(void)snprintf(text, sizeof text, "%s %.4g x %s (is %.3g x)", at_most ? "<=" : ">=", factor, other,
	               ratio(r, o));
	verdict(r, at_most ? ratio(r, o) <= factor : ratio(r, o) >= factor, text);
}

void target_max_ratio(const char *name, double factor, const char *other)
{
	against_other(name, factor, other, true);
}

void target_min_ratio(const char *name, double factor, const char *other)
{
	against_other(name, factor, other, false);
}

static const char *verdict_text(int pass)
{
	switch (pass) {
	case 1:
		return "ok";
	case 0:
		return "MISSED";
	case -2:
		return "not measured";
	default:
		return "";
	}
}

void results_print(FILE *out)
{
	(void)fprintf(out, "\n%-40s %12s %12s %-9s %-12s %s\n", "name", "value", "processor", "unit", "verdict",
	              "target");
	for (int i = 0; i < result_count; i++) {
		const struct result *r = &results[i];

		(void)fprintf(out, "%-40s ", r->name);
		if (r->rounds == 0)
			(void)fprintf(out, "%12s ", "-");
		else
			(void)fprintf(out, "%12.4g ", result_median(r));
		if (r->cpu_rounds == 0)
			(void)fprintf(out, "%12s ", "");
		else
			(void)fprintf(out, "%12.4g ", median(r->cpu, r->cpu_rounds));
		(void)fprintf(out, "%-9s %-12s %s%s%s\n", r->unit, verdict_text(r->pass), r->target,
		              r->note[0] ? "  # " : "", r->note);
	}
}

static json_t *machine(void)
{
	char cpu[128] = "unknown", line[256];
	struct utsname u = {0};
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
			(void)snprintf(cpu, sizeof cpu, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
			break;
		}
	}
	if (f != NULL)
		(void)fclose(f);
	(void)uname(&u);
	return json_pack("{s:s, s:i, s:I, s:s, s:s}", "cpu", cpu, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
	                 "memory_bytes", (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), "kernel",
	                 u.release, "compiler", __VERSION__);
}

static void commit_text(char *ret, size_t bytes)
{
	/* a constant command line */
	FILE *git = popen("git rev-parse --short HEAD 2>/dev/null", "re");

	ret[0] = '\0';
	if (git == NULL)
		return;
	if (fgets(ret, (int)bytes, git) == NULL)
		ret[0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	(void)pclose(git);
}

int results_json(const struct bench *b, const char *path)
{
	char commit[64];
	json_t *root, *list = json_array();
	int rc;

	commit_text(commit, sizeof commit);
	for (int i = 0; i < result_count; i++) {
		const struct result *r = &results[i];
		json_t *o = json_pack("{s:s, s:s, s:s}", "name", r->name, "unit", r->unit, "target", r->target);

		(void)json_object_set_new(o, "value", r->rounds ? json_real(result_median(r)) : json_null());
		if (r->cpu_rounds > 0)
			(void)json_object_set_new(o, "cpu", json_real(median(r->cpu, r->cpu_rounds)));
		(void)json_object_set_new(o, "pass", r->pass >= 0 ? json_boolean(r->pass) : json_null());
		(void)json_object_set_new(o, "rounds", json_integer(r->rounds));
		if (r->note[0])
			(void)json_object_set_new(o, "note", json_string(r->note));
		(void)json_array_append_new(list, o);
	}
	root = json_pack("{s:o, s:s, s:{s:i, s:i, s:I, s:I}, s:o}", "machine", machine(), "commit", commit, "data",
	                 "topics", (int)b->topics, "partitions", (int)b->part_count, "segments",
	                 (json_int_t)b->segments, "seed", (json_int_t)b->seed, "results", list);
	rc = json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	json_decref(root);
	return rc;
}
