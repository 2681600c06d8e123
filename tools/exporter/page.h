/* SPDX-License-Identifier: Apache-2.0
 * The page: one document that holds all it shows, with and without JavaScript. */
#ifndef SHMETA_TOOLS_EXPORTER_PAGE_H
#define SHMETA_TOOLS_EXPORTER_PAGE_H

#include <stdio.h>

#include "tools/exporter/http.h"

/* instance: which of them; NULL: the first. window: "10m" or "60m"; NULL or anything else: by how
 * much is remembered. False: there is no such instance; the page says so and lists those that there
 * are. */
bool page_write(FILE *out, const struct serve_options *options, const char *instance, const char *window);

#endif
