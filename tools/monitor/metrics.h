/* SPDX-License-Identifier: Apache-2.0
 * What is counted and measured of an instance: one table, of which each row has a name, a kind, a
 * unit and a meaning. Owns: the table, and how a row is called and written by Prometheus.
 * `shmetactl stat`, /metrics, shmeta-metrics(7) and docs/metrics.md are made of it. The writer's
 * own counters are declared in shm/page/counters.h, those of readers in shm/page/slots.h; each of
 * their lines is a row here by itself. */
#ifndef SHMETA_TOOLS_MONITOR_METRICS_H
#define SHMETA_TOOLS_MONITOR_METRICS_H

#include <stdio.h>

#include "tools/monitor/health.h"

enum metric_kind {
	METRIC_COUNTER, /* grows; begins anew with the writer */
	METRIC_GAUGE,
	METRIC_LOOKUPS, /* a histogram: its values are the buckets of shmeta__histogram_bucket(),
                         * not added up */
	METRIC_TIMES    /* a histogram: those of shmeta__times_bucket(), not added up, and behind
                         * them the sum */
};

/* What is known of one instance. */
struct metric_view {
	const char *instance;      /* its name, or its directory */
	bool readable;             /* false: neither pages nor health */
	const struct pages *pages; /* copies */
	const struct health *health;
};

struct metric_value {
	const char *label; /* the value of the row's label; "": it has none */
	uint64_t value;    /* in the row's unit */
};
enum { METRIC_VALUES = 64 }; /* the most that a row has */

struct metric {
	const char *key;   /* as in JSON: "store_used" */
	const char *label; /* what tells its values apart: "class"; NULL: it has one value */
	const char *unit;  /* "bytes", "nanoseconds", "lookups", ...; "": a yes or no, or a number
                            * of its own */
	const char *help;
	size_t (*read)(const struct metric_view *view, uint32_t argument, struct metric_value ret[METRIC_VALUES]);
	uint32_t argument;
	enum metric_kind kind;
};

size_t metric_count(void);
const struct metric *metric_row(size_t i);
const char *metric_kind(enum metric_kind kind); /* "counter", "gauge", "histogram" */
bool metric_is_histogram(const struct metric *row);
size_t metric_buckets(const struct metric *row);
uint64_t metric_floor(const struct metric *row, size_t i); /* the lower bound of bucket i, in ns */
/* The values; 0: nothing is known of it. */
size_t metric_read(const struct metric *row, const struct metric_view *view, struct metric_value ret[METRIC_VALUES]);

/* As Prometheus names it: "shmeta_" KEY, the base unit, and "_total" for a counter:
 * shmeta_store_used_bytes. */
enum { METRIC_NAME_BYTES = 80 };
const char *metric_name(const struct metric *row, char ret[METRIC_NAME_BYTES]);

/* All rows of all instances as text: Prometheus 0.0.4, or OpenMetrics 1.0.0. Every sample has the
 * label "shmeta_instance". */
void metrics_write(FILE *out, const struct metric_view *views, size_t count, bool open_metrics);
/* The rows of the table as docs/metrics.md and shmeta-metrics(7) have them. */
void metrics_write_document(FILE *out);
void metrics_write_manual(FILE *out);

#endif
