/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the rows of a changefeed. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_CHANGEFEED_ROW_H
#define SHMETA_BACKENDS_POSTGRES_PG_CHANGEFEED_ROW_H

#include <stdbool.h>

#include "backends/backend.h"
#include "backends/rows.h"

/* The keys of one row's change go to the sink; *ret_list: only everything would be right. */
enum shmeta_status pg_changefeed_row(struct shmeta_str table, struct shmeta_str value, const struct backend_sink *sink,
                                     bool *ret_list);
/* The time of a `resolved` row, as text that a cursor takes. false: it is none. */
bool pg_changefeed_resolved(struct shmeta_str value, char *ret, size_t bytes);
bool pg_changefeed_is_time(const char *text);

#endif
