/* SPDX-License-Identifier: Apache-2.0
 * Panels of the page: a title, the figures of now as text, and a drawing as inline SVG. Whatever is
 * written here is escaped here. */
#ifndef SHMETA_TOOLS_EXPORTER_PANEL_H
#define SHMETA_TOOLS_EXPORTER_PANEL_H

#include <stdint.h>
#include <stdio.h>

enum { PLOT_POINTS = 120, PLOT_SERIES = 8 };

enum plot_unit { PLOT_NUMBER, PLOT_RATE, PLOT_PERCENT, PLOT_SECONDS, PLOT_BYTES };

struct plot_series {
	const char *name;
	double at[PLOT_POINTS]; /* the oldest first; NAN: not known */
};
struct plot {
	const char *id, *title, *about;
	enum plot_unit unit;
	unsigned minutes; /* that the points span */
	uint32_t count;   /* of series */
	struct plot_series series[PLOT_SERIES];
};

/* Text of others between tags and in attributes. */
void plot_text(FILE *out, const char *text);
/* "12.5 ms", "61.2 MiB", "99.98 %"; "-" for NAN. Good for a few calls. */
const char *plot_value(enum plot_unit unit, double value);

/* A panel by itself: what stands between the two calls is its body. */
void plot_begin(FILE *out, const char *id, const char *title);
void plot_end(FILE *out, const char *about);
/* Lines over time. */
void plot_lines(FILE *out, const struct plot *plot);
/* One strip of colours over time: css[] is the class of each point, "" for none. */
void plot_strip(FILE *out, const char *name, const char *const css[PLOT_POINTS]);
/* Bars side by side, under them what the first and the last one stand for. */
void plot_bars(FILE *out, const char *name, const uint64_t *height, uint32_t count, const char *first,
               const char *last);

/* A map of how often each row was met over time: the darker, the oftener; 0 or NAN: nothing is
 * drawn. low, high: what the lowest and the highest row stand for. */
enum { PLOT_HEAT_ROWS = 23, PLOT_HEAT_COLUMNS = PLOT_POINTS / 2 };
void plot_heat(FILE *out, const char *name, const double cell[PLOT_HEAT_COLUMNS][PLOT_HEAT_ROWS], const char *low,
               const char *high);

#endif
