/* SPDX-License-Identifier: Apache-2.0
 * What verify found. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/verify.h"

void findings_cut(struct findings *f, size_t count)
{
	while (f->count > count) {
		struct finding *row = &f->row[--f->count];

		free(row->tenant);
		free(row->topic);
		free(row->text);
		free(row->key);
	}
}

void findings_add(struct findings *f, enum shmeta_class cls, const char *tenant, const char *topic, const char *fmt,
                  ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (f->count == f->capacity) {
		f->capacity = f->capacity > 0 ? f->capacity * 2 : 64;
		f->row = tool_grow(f->row, f->capacity * sizeof(*f->row));
	}
	f->row[f->count++] = (struct finding){
		.cls = cls,
		.tenant = tenant != NULL ? tool_copy(tenant, strlen(tenant)) : NULL,
		.topic = topic != NULL ? tool_copy(topic, strlen(topic)) : NULL,
		.text = tool_copy(text, strlen(text)),
	};
}

void findings_take(struct findings *f, size_t from, struct findings *ret)
{
	size_t n = f->count - from;

	findings_cut(ret, 0);
	if (n > ret->capacity) {
		ret->row = tool_grow(ret->row, n * sizeof(*ret->row));
		ret->capacity = n;
	}
	if (n > 0)
		memcpy(ret->row, f->row + from, n * sizeof(*ret->row));
	ret->count = n;
	f->count = from;
}

static int by_key(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;

	return strcmp(x->key != NULL ? x->key : x->text, y->key != NULL ? y->key : y->text);
}

void findings_keep(struct findings *f, size_t from, struct findings *before)
{
	size_t kept = from;

	if (before->count > 0)
		qsort(before->row, before->count, sizeof(*before->row), by_key);
	for (size_t i = from; i < f->count; i++) {
		struct finding row = f->row[i];

		if (before->count > 0 && bsearch(&row, before->row, before->count, sizeof(row), by_key) != NULL) {
			f->row[kept++] = row;
			continue;
		}
		free(row.tenant);
		free(row.topic);
		free(row.text);
		free(row.key);
	}
	f->count = kept;
}
