/* SPDX-License-Identifier: Apache-2.0
 * Curves as an SVG file. */
#include "bench/plot.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 640, HEIGHT = 400, LEFT = 60, RIGHT = 130, TOP = 40, BOTTOM = 50 };

static const char *const colours[PLOT_CURVES] = {"#b00020", "#c77700", "#005fb8", "#3a7d34"};

static double x_of(const struct plot *p, double at)
{
	double first = log(p->at[0]), last = log(p->at[PLOT_POINTS - 1]);

	return LEFT + (log(at) - first) / (last - first) * (WIDTH - LEFT - RIGHT);
}

static double y_of(double value)
{
	return TOP + (1 - value) * (HEIGHT - TOP - BOTTOM);
}

int plot_write(const struct plot *p, const char *path)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return -1;
	(void)fprintf(f,
	              "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
	              "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
	              "<text x=\"%d\" y=\"20\" font-size=\"14\">%s</text>\n<text x=\"%d\" y=\"%d\">%s</text>\n"
	              "<text x=\"8\" y=\"%d\">%s</text>\n",
	              WIDTH, HEIGHT, LEFT, p->title, LEFT, HEIGHT - 10, p->x, TOP - 8, p->y);
	for (int i = 0; i <= 5; i++)
		(void)fprintf(f,
		              "<path d=\"M%d %.1fH%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" "
		              "text-anchor=\"end\">%.1f</text>\n",
		              LEFT, y_of(i / 5.0), WIDTH - RIGHT, LEFT - 6, y_of(i / 5.0) + 4, i / 5.0);
	for (int i = 0; i < PLOT_POINTS; i++)
		(void)fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x_of(p, p->at[i]),
		              HEIGHT - BOTTOM + 18, p->at[i]);
	for (int c = 0; c < PLOT_CURVES; c++) {
		(void)fprintf(f, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"", colours[c]);
		for (int i = 0; i < PLOT_POINTS; i++)
			(void)fprintf(f, "%.1f,%.1f ", x_of(p, p->at[i]), y_of(p->curves[c].value[i]));
		(void)fprintf(f, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", WIDTH - RIGHT + 10,
		              TOP + 12 + 18 * c, colours[c], p->curves[c].name);
	}
	(void)fprintf(f, "</svg>\n");
	return fclose(f);
}
