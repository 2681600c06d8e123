/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: batches of operations. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_WRITE_H
#define SHMETA_BACKENDS_POSTGRES_PG_WRITE_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status pg_start(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, struct backend_error *err);
enum shmeta_status pg_finish(void *data, const struct backend_sink *sink, struct backend_error *err);
/* What was started, and not finished, is no more. */
void pg_forget_started(struct pg_state *state);

/* The session that writes may be a new one: does it lead where the one that reads does, and is that
 * told? Nothing is begun through it before. */
enum shmeta_status pg_meet_writer(struct pg_state *state, struct backend_error *err);

/* The statements' texts, in parts. */
bool pg_write_kind_texts(struct pg_state *state);
bool pg_write_look_back_texts(struct pg_state *state);
bool pg_write_beside_texts(struct pg_state *state);
bool pg_write_run_texts(struct pg_state *state);
bool pg_write_apart_texts(struct pg_state *state);
bool pg_write_resolve_texts(struct pg_state *state);

#endif
