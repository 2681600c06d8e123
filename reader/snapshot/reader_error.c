/* SPDX-License-Identifier: Apache-2.0
 * The last error of a reader, kept with it and with its instance. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader/snapshot/snapshot.h"

enum shmeta_status shmeta__reader_fail(struct shmeta_reader *reader, enum shmeta_status code, const char *fmt, ...)
{
	struct shmeta_err err = {.code = code};
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err.text, sizeof err.text, fmt, ap);
	va_end(ap);
	return shmeta__reader_keep(reader, &err);
}

enum shmeta_status shmeta__reader_keep(struct shmeta_reader *reader, const struct shmeta_err *err)
{
	struct reader_error *error = *reader->error;

	if (error == NULL)
		error = *reader->error = calloc(1, sizeof *error);
	if (error != NULL) {
		error->code = err->code;
		error->has_place = 0;
		memcpy(error->text, err->text, sizeof error->text);
	}
	return shmeta__instance_fail(reader->instance, err);
}

enum shmeta_status shmeta_reader_error(struct shmeta_reader *r, struct shmeta_error *ret)
{
	const struct reader_error *error;
	struct shmeta_error copy = {.size = sizeof copy};

	if (r == NULL || ret == NULL || ret->size < sizeof *ret)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(r->fork_word) != r->fork_token)
		return SHMETA_ERR_FORKED;
	error = *r->error;
	copy.size = ret->size;
	if (error != NULL) {
		copy.status = error->code;
		copy.has_place = error->has_place;
		copy.partition_id = error->partition_id;
		if (error->has_place)
			memcpy(copy.topic, error->topic, sizeof error->topic);
		memcpy(copy.text, error->text, sizeof error->text);
	}
	*ret = copy;
	return SHMETA_OK;
}
