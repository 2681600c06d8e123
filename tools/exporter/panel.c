/* SPDX-License-Identifier: Apache-2.0
 * Drawing with text: SVG whose colours are classes of page.css. */
#include "tools/exporter/panel.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { WIDTH = 600, HEIGHT = 160, TOP = 14, BOTTOM = 142, STRIP_HEIGHT = 22, RING = 8, VALUE_BYTES = 48 };

void plot_text(FILE *out, const char *text)
{
	for (; *text != '\0'; text++)
		switch (*text) {
		case '&':
			(void)fputs("&amp;", out);
			break;
		case '<':
			(void)fputs("&lt;", out);
			break;
		case '>':
			(void)fputs("&gt;", out);
			break;
		case '"':
			(void)fputs("&quot;", out);
			break;
		case '\'':
			(void)fputs("&#39;", out);
			break;
		default:
			(void)fputc(*text, out);
		}
}

static void seconds_text(char *ret, double value)
{
	if (value >= 600)
		(void)snprintf(ret, VALUE_BYTES, "%.0f min", value / 60);
	else if (value >= 1)
		(void)snprintf(ret, VALUE_BYTES, "%.1f s", value);
	else if (value >= 1e-3)
		(void)snprintf(ret, VALUE_BYTES, "%.1f ms", value * 1e3);
	else if (value >= 1e-6)
		(void)snprintf(ret, VALUE_BYTES, "%.1f \xc2\xb5s", value * 1e6);
	else
		(void)snprintf(ret, VALUE_BYTES, "%.0f ns", value * 1e9);
}

static void scaled_text(char *ret, double value, double base, const char *const *units, const char *suffix)
{
	size_t i = 0;

	for (; value >= base && units[i + 1] != NULL; i++)
		value /= base;
	(void)snprintf(ret, VALUE_BYTES, value >= 100 || value == floor(value) ? "%.0f%s%s" : "%.1f%s%s", value,
	               units[i], suffix);
}

const char *plot_value(enum plot_unit unit, double value)
{
	static const char *const thousands[] = {"", " k", " M", " G", " T", NULL};
	static const char *const bytes[] = {" B", " KiB", " MiB", " GiB", " TiB", NULL};
	static char ring[RING][VALUE_BYTES];
	static unsigned at;
	char *ret = ring[at++ % RING];

	if (isnan(value))
		(void)snprintf(ret, VALUE_BYTES, "-");
	else if (unit == PLOT_SECONDS)
		seconds_text(ret, value);
	else if (unit == PLOT_PERCENT)
		(void)snprintf(ret, VALUE_BYTES, value < 100 ? "%.2f %%" : "%.0f %%", value);
	else if (unit == PLOT_BYTES)
		scaled_text(ret, value, 1024, bytes, "");
	else
		scaled_text(ret, value, 1000, thousands, unit == PLOT_RATE ? "/s" : "");
	return ret;
}

void plot_begin(FILE *out, const char *id, const char *title)
{
	(void)fprintf(out, "<section class=\"panel\" id=\"%s\" aria-labelledby=\"%s-title\"><h2 id=\"%s-title\">", id,
	              id, id);
	plot_text(out, title);
	(void)fputs("</h2>\n", out);
}

void plot_end(FILE *out, const char *about)
{
	(void)fputs("<p class=\"about\">", out);
	plot_text(out, about);
	(void)fputs("</p></section>\n", out);
}

/* The smallest of 1, 2, 5 times a power of ten that is not below it. */
static double nice(double value)
{
	double power = pow(10, floor(log10(value))), part = value / power;

	return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static double highest(const struct plot *plot)
{
	double most = 0;

	for (uint32_t s = 0; s < plot->count; s++)
		for (int i = 0; i < PLOT_POINTS; i++)
			if (!isnan(plot->series[s].at[i]) && plot->series[s].at[i] > most)
				most = plot->series[s].at[i];
	return most;
}

static double lowest(const struct plot *plot)
{
	double least = 100;

	for (uint32_t s = 0; s < plot->count; s++)
		for (int i = 0; i < PLOT_POINTS; i++)
			if (!isnan(plot->series[s].at[i]) && plot->series[s].at[i] < least)
				least = plot->series[s].at[i];
	return least;
}

/* From 0 to a round number; percentages that are near 100 from near 100. */
static void scale(const struct plot *plot, double *ret_low, double *ret_high)
{
	double most = highest(plot), room = 100 - lowest(plot);

	*ret_low = 0;
	if (plot->unit != PLOT_PERCENT) {
		*ret_high = most <= 0 ? 1 : plot->unit == PLOT_BYTES ? pow(2, ceil(log2(most))) : nice(most);
		return;
	}
	*ret_high = 100;
	if (room < 50)
		*ret_low = 100 - (room > 0.01 ? nice(room) : 1);
}

static double across(int i)
{
	return (double)i * WIDTH / (PLOT_POINTS - 1);
}

/* A line with a gap wherever nothing is known; a point between two gaps is a dot. */
static void draw_series(FILE *out, const struct plot_series *s, uint32_t number, double low, double high)
{
	bool drawing = false;

	(void)fprintf(out, "<path class=\"line s%u\" d=\"", number + 1);
	for (int i = 0; i < PLOT_POINTS; i++) {
		double y;

		if (isnan(s->at[i])) {
			drawing = false;
			continue;
		}
		y = BOTTOM - (s->at[i] - low) / (high - low) * (BOTTOM - TOP);
		(void)fprintf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', across(i), y);
		if (!drawing)
			(void)fputs("h.1", out);
		drawing = true;
	}
	(void)fputs("\"/>", out);
}

static void legend(FILE *out, const struct plot *plot)
{
	(void)fputs("<ul class=\"legend\">", out);
	for (uint32_t s = 0; s < plot->count; s++) {
		(void)fprintf(out, "<li class=\"s%u\">", s + 1);
		plot_text(out, plot->series[s].name);
		(void)fprintf(out, " <b>%s</b></li>", plot_value(plot->unit, plot->series[s].at[PLOT_POINTS - 1]));
	}
	(void)fputs("</ul>\n", out);
}

void plot_lines(FILE *out, const struct plot *plot)
{
	double low, high;

	scale(plot, &low, &high);
	plot_begin(out, plot->id, plot->title);
	legend(out, plot);
	(void)fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
	plot_text(out, plot->title);
	(void)fprintf(out, ", the last %u minutes\"><path class=\"grid\" d=\"M0 %dH%dM0 %dH%dM0 %dH%d\"/>",
	              plot->minutes, TOP, WIDTH, (TOP + BOTTOM) / 2, WIDTH, BOTTOM, WIDTH);
	for (uint32_t s = 0; s < plot->count; s++)
		draw_series(out, &plot->series[s], s, low, high);
	(void)fprintf(out,
	              "<text x=\"2\" y=\"11\">%s</text><text x=\"2\" y=\"139\">%s</text><text x=\"2\" y=\"156\">-%u "
	              "min</text><text x=\"%d\" y=\"156\" class=\"end\">now</text></svg>\n",
	              plot_value(plot->unit, high), plot_value(plot->unit, low), plot->minutes, WIDTH - 2);
	plot_end(out, plot->about);
}

void plot_strip(FILE *out, const char *name, const char *const css[PLOT_POINTS])
{
	(void)fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, STRIP_HEIGHT);
	plot_text(out, name);
	(void)fputs("\">", out);
	for (int i = 0, from = 0; i < PLOT_POINTS; i++) {
		if (i + 1 < PLOT_POINTS && strcmp(css[i + 1], css[from]) == 0)
			continue;
		if (css[from][0] != '\0')
			(void)fprintf(out, "<rect class=\"fill %s\" x=\"%.1f\" y=\"0\" width=\"%.1f\" height=\"%d\"/>",
			              css[from], (double)from * WIDTH / PLOT_POINTS,
			              (double)(i + 1 - from) * WIDTH / PLOT_POINTS, STRIP_HEIGHT);
		from = i + 1;
	}
	(void)fputs("</svg>\n", out);
}

void plot_bars(FILE *out, const char *name, const uint64_t *height, uint32_t count, const char *first, const char *last)
{
	uint64_t most = 1;

	for (uint32_t i = 0; i < count; i++)
		most = height[i] > most ? height[i] : most;
	(void)fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
	plot_text(out, name);
	(void)fprintf(out, "\"><path class=\"grid\" d=\"M0 %dH%d\"/>", BOTTOM, WIDTH);
	for (uint32_t i = 0; i < count; i++) {
		double h = (double)height[i] / (double)most * (BOTTOM - TOP);

		if (height[i] > 0)
			(void)fprintf(out,
			              "<rect class=\"fill s1\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
			              (double)i * WIDTH / count, BOTTOM - (h < 1 ? 1 : h), 0.85 * WIDTH / count,
			              h < 1 ? 1 : h);
	}
	(void)fprintf(out, "<text x=\"2\" y=\"156\">%s</text><text x=\"%d\" y=\"156\" class=\"end\">%s</text></svg>\n",
	              first, WIDTH - 2, last);
}

void plot_heat(FILE *out, const char *name, const double cell[PLOT_HEAT_COLUMNS][PLOT_HEAT_ROWS], const char *low,
               const char *high)
{
	const double wide = (double)WIDTH / PLOT_HEAT_COLUMNS, tall = (double)(BOTTOM - TOP) / PLOT_HEAT_ROWS;
	double most = 1;

	for (int x = 0; x < PLOT_HEAT_COLUMNS; x++)
		for (int y = 0; y < PLOT_HEAT_ROWS; y++)
			most = cell[x][y] > most ? cell[x][y] : most;
	(void)fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
	plot_text(out, name);
	(void)fprintf(out, "\"><path class=\"grid\" d=\"M0 %dH%d\"/>", BOTTOM, WIDTH);
	for (int x = 0; x < PLOT_HEAT_COLUMNS; x++)
		for (int y = 0; y < PLOT_HEAT_ROWS; y++)
			if (cell[x][y] > 0)
				(void)fprintf(out,
				              "<rect class=\"fill s1\" fill-opacity=\"%.2f\" x=\"%.1f\" y=\"%.1f\" "
				              "width=\"%.1f\" height=\"%.1f\"/>",
				              0.15 + 0.85 * sqrt(cell[x][y] / most), x * wide, BOTTOM - (y + 1) * tall,
				              wide, tall);
	(void)fprintf(out, "<text x=\"2\" y=\"%d\">%s</text><text x=\"2\" y=\"%d\">%s</text></svg>\n", BOTTOM - 3, low,
	              TOP + 10, high);
}
