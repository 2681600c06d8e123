/* SPDX-License-Identifier: Apache-2.0
 * Curves as an SVG file. */
#ifndef SHMETA_BENCH_PLOT_H
#define SHMETA_BENCH_PLOT_H

enum { PLOT_CURVES = 4, PLOT_POINTS = 7 };

struct plot {
	const char *title, *x, *y; /* no markup in them */
	double at[PLOT_POINTS];    /* above 0, ascending; drawn on a logarithmic axis */
	struct {
		const char *name;
		double value[PLOT_POINTS]; /* 0..1 */
	} curves[PLOT_CURVES];
};

/* Not 0: the file could not be written. */
int plot_write(const struct plot *plot, const char *path);

#endif
