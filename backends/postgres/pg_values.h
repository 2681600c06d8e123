/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: parameters and results in binary form.
 *
 * All binary: the statement says each one's type, `$1::text`, `$2::int8`, `$3::text[]`. A jsonb or
 * uuid goes as text and is cast again: `$1::text::uuid`. Texts are borrowed until the call that
 * sends them returns. Not to be copied: it points into itself. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_VALUES_H
#define SHMETA_BACKENDS_POSTGRES_PG_VALUES_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/rows.h"

enum { PG_PARAMS_MAX = 24 };

struct pg_params {
	int count;
	const char *values[PG_PARAMS_MAX];
	int lengths[PG_PARAMS_MAX];
	int formats[PG_PARAMS_MAX];
	uint64_t numbers[PG_PARAMS_MAX]; /* in network order */
};

/* One array parameter: a column of values for unnest(). Zeroed at first; pg_array_start() empties
 * it for another use. */
struct pg_array {
	uint8_t *data;
	size_t used, capacity;
	uint32_t count, type;
	bool failed; /* out of memory: pg_param_array() turns it into a failed send */
};

static inline void pg_params_clear(struct pg_params *params)
{
	params->count = 0;
}
void pg_param_text(struct pg_params *params, struct shmeta_str text);
void pg_param_int(struct pg_params *params, int64_t value); /* $n::int8 */
void pg_param_bool(struct pg_params *params, bool value);
void pg_param_array(struct pg_params *params, struct pg_array *array);

enum pg_element { PG_ELEMENT_INT8 = 20, PG_ELEMENT_TEXT = 25 }; /* their OIDs */
void pg_array_start(struct pg_array *array, enum pg_element type);
void pg_array_text(struct pg_array *array, struct shmeta_str text);
void pg_array_map(struct pg_array *array, const struct shmeta_map *map); /* as JSON */
void pg_array_int(struct pg_array *array, int64_t value);
void pg_array_null(struct pg_array *array);
void pg_array_free(struct pg_array *array);

static inline bool pg_has(const PGresult *result, int row, int column)
{
	return row < PQntuples(result) && column < PQnfields(result);
}
/* What a server left out of its answer (no row, too few columns) is NULL: whoever answers may not
 * be the server it should be. */
static inline bool pg_is_null(const PGresult *result, int row, int column)
{
	return !pg_has(result, row, column) || PQgetisnull(result, row, column) != 0;
}
/* Borrowed from the result. NULL gives "". */
static inline const char *pg_value(const PGresult *result, int row, int column)
{
	return pg_has(result, row, column) ? PQgetvalue(result, row, column) : "";
}
static inline int pg_length(const PGresult *result, int row, int column)
{
	return pg_has(result, row, column) ? PQgetlength(result, row, column) : 0;
}
static inline struct shmeta_str pg_text(const PGresult *result, int row, int column)
{
	return (struct shmeta_str){pg_value(result, row, column), (size_t)pg_length(result, row, column)};
}
/* int8, int4, int2, bool, by its length; NULL gives 0. */
int64_t pg_int(const PGresult *result, int row, int column);
/* Rows that a command has touched. */
uint64_t pg_touched(PGresult *result);

#endif
