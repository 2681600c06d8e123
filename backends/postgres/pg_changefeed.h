/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: CockroachDB's changefeed, which replaces the log of changes where
 * options.changefeed asks for it. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_CHANGEFEED_H
#define SHMETA_BACKENDS_POSTGRES_PG_CHANGEFEED_H

#include "backends/postgres/pg_state.h"

/* More than what CockroachDB lets a node's clock be off before it stops the node: --max-offset, 500
 * ms. */
#define PG_CLOCKS_NS UINT64_C(1000000000)

bool pg_changefeed_prepare(struct pg_state *state); /* false: no memory */
bool pg_changefeed_prepare(struct pg_state *state); /* false: no memory */
void pg_changefeed_free(struct pg_state *state);
bool pg_changefeed_runs(const struct pg_state *state);
const char *pg_changefeed_trouble(void *data);
/* Before a load: what happens from now on (or from the time on that followers show, read_us of the
 * server's clock; 0: now) has to be told after it. Then its end. */
enum shmeta_status pg_changefeed_load(struct pg_state *state, int64_t read_us, struct backend_error *err);
void pg_changefeed_loaded(struct pg_state *state);
enum shmeta_status pg_changefeed_changes(struct pg_state *state, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err);
enum shmeta_status pg_changefeed_position(struct pg_state *state, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status pg_changefeed_resume(struct pg_state *state, const void *bytes, size_t size,
                                        struct backend_error *err);

#endif
