/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: parameters and results in binary form. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_values.h"

/* ---- parameters ---- */

static void param(struct pg_params *params, const char *value, size_t bytes)
{
	params->values[params->count] = value;
	params->lengths[params->count] = (int)bytes;
	params->formats[params->count++] = 1;
}

void pg_param_text(struct pg_params *params, struct shmeta_str text)
{
	param(params, text.data != NULL ? text.data : "", text.bytes);
}

void pg_param_int(struct pg_params *params, int64_t value)
{
	uint64_t *number = &params->numbers[params->count];

	*number = htobe64((uint64_t)value);
	param(params, (const char *)number, sizeof *number);
}

void pg_param_bool(struct pg_params *params, bool value)
{
	char *byte = (char *)&params->numbers[params->count];

	*byte = value ? 1 : 0;
	param(params, byte, 1);
}

/* The format of array_recv(): dimensions, has nulls, element type, then of the one dimension its
 * length and lower bound. */
enum { ARRAY_HEADER = 20 };

static void put32(uint8_t *at, uint32_t value)
{
	uint32_t wire = htobe32(value);

	memcpy(at, &wire, sizeof wire);
}

void pg_param_array(struct pg_params *params, struct pg_array *array)
{
	if (array->failed || array->used > INT32_MAX) {
		param(params, NULL, SIZE_MAX); /* found by pg_send() */
		return;
	}
	put32(array->data, array->count > 0 ? 1 : 0);
	put32(array->data + 4, 1);
	put32(array->data + 8, array->type);
	put32(array->data + 12, array->count);
	put32(array->data + 16, 1);
	param(params, (const char *)array->data, array->count > 0 ? array->used : 12);
}

static uint8_t *array_grow(struct pg_array *array, size_t bytes)
{
	if (array->failed)
		return NULL;
	if (array->used + bytes > array->capacity) {
		size_t capacity = 2 * (array->used + bytes) + 256;
		uint8_t *grown = realloc(array->data, capacity);

		if (grown == NULL) {
			array->failed = true;
			return NULL;
		}
		array->data = grown;
		array->capacity = capacity;
	}
	array->used += bytes;
	return array->data + array->used - bytes;
}

void pg_array_start(struct pg_array *array, enum pg_element type)
{
	array->used = 0;
	array->count = 0;
	array->failed = false;
	array->type = (uint32_t)type;
	(void)array_grow(array, ARRAY_HEADER);
}

static void array_add(struct pg_array *array, const void *data, size_t bytes)
{
	uint8_t *at = array_grow(array, 4 + bytes);

	if (at == NULL)
		return;
	put32(at, (uint32_t)bytes);
	if (bytes > 0)
		memcpy(at + 4, data, bytes);
	array->count++;
}

void pg_array_text(struct pg_array *array, struct shmeta_str text)
{
	array_add(array, text.data, text.bytes);
}

void pg_array_map(struct pg_array *array, const struct shmeta_map *map)
{
	char *json = rows_json(map);

	if (json != NULL)
		pg_array_text(array, rows_str(json));
	else
		array->failed = true;
	free(json);
}

void pg_array_int(struct pg_array *array, int64_t value)
{
	uint64_t wire = htobe64((uint64_t)value);

	array_add(array, &wire, sizeof wire);
}

void pg_array_null(struct pg_array *array)
{
	uint8_t *at = array_grow(array, 4);

	if (at == NULL)
		return;
	put32(at, UINT32_MAX);
	array->count++;
}

void pg_array_free(struct pg_array *array)
{
	free(array->data);
	*array = (struct pg_array){.data = NULL};
}

/* ---- results ---- */

int64_t pg_int(const PGresult *result, int row, int column)
{
	const unsigned char *p = (const unsigned char *)pg_value(result, row, column);
	int bytes = pg_length(result, row, column);
	int64_t value = bytes > 1 && (p[0] & 0x80) != 0 ? -1 : 0;

	for (int i = 0; i < bytes && i < 8; i++)
		value = (int64_t)((uint64_t)value << 8 | p[i]);
	return value;
}

uint64_t pg_touched(PGresult *result)
{
	return strtoull(PQcmdTuples(result), NULL, 10);
}
