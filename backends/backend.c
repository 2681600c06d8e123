/* SPDX-License-Identifier: Apache-2.0
 * The engines there are, and the sentence of a failure. */
#include "backends/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct backend_ops *const engines[] = {&backend_sqlite, &backend_memory};

enum shmeta_status backend_fail(struct backend_error *err, enum shmeta_status code, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, args);
	va_end(args);
	return code;
}

const struct backend_ops *backend_find(const char *uri, struct backend_error *err)
{
	const char *colon = uri != NULL ? strchr(uri, ':') : NULL;
	size_t bytes = colon != NULL ? (size_t)(colon - uri) : 0;
	char known[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
		if (colon != NULL && strlen(engines[i]->name) == bytes && memcmp(engines[i]->name, uri, bytes) == 0)
			return engines[i];
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s:", i > 0 ? ", " : "",
		                         engines[i]->name);
	}
	if (colon == NULL)
		backend_fail(err, SHMETA_ERR_CONFIG, "source '%.100s' names no engine: a source starts with one of %s",
		             uri != NULL ? uri : "", known);
	else
		backend_fail(err, SHMETA_ERR_CONFIG, "source '%.100s': there is no engine '%.*s'; there are %s", uri,
		             bytes < 40 ? (int)bytes : 40, uri, known);
	return NULL;
}
