/* SPDX-License-Identifier: Apache-2.0
 * What each path answers. Knows nothing of connections. */
#ifndef SHMETA_TOOLS_EXPORTER_ANSWERS_H
#define SHMETA_TOOLS_EXPORTER_ANSWERS_H

#include "tools/exporter/http.h"

struct answer_request {
	const char *path;
	const char *accept, *instance, *window; /* NULL: not given */
};
struct answer {
	unsigned status; /* of HTTP */
	const char *type;
	char *text; /* the caller's, by malloc() */
	size_t bytes;
};

/* False: out of memory. */
bool answer_make(const struct serve_options *options, const struct answer_request *request, struct answer *ret);

#endif
