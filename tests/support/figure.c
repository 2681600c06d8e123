/* SPDX-License-Identifier: Apache-2.0
 * Figures of the long forms. */
#include "tests/support/figure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void figure(const char *case_name, uint64_t done, uint64_t target, const char *units, const char *fmt, ...)
{
	char found[600], scale[100];
	va_list args;

	if (getenv("SHMETA_FAULTS") == NULL)
		return;
	va_start(args, fmt);
	(void)vsnprintf(found, sizeof found, fmt, args);
	va_end(args);
	if (target != 0)
		(void)snprintf(scale, sizeof scale, "%llu of %llu", (unsigned long long)done,
		               (unsigned long long)target);
	else
		(void)snprintf(scale, sizeof scale, "%llu", (unsigned long long)done);
	(void)fprintf(stderr, "figure: %s | %s %s | %s\n", case_name, scale, units, found);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

const char *figure_times(double *ms, uint32_t count, char *text, uint32_t bytes)
{
	if (count == 0)
		return "none";
	qsort(ms, count, sizeof *ms, ascending);
	(void)snprintf(text, bytes, "p50 %.2f ms, p99 %.2f ms, max %.2f ms", ms[count / 2],
	               ms[(uint64_t)count * 99 / 100], ms[count - 1]);
	return text;
}
