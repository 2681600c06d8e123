/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: where rows are read: the primary connection, a replica, CockroachDB's nearest
 * replicas. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_REPLICA_H
#define SHMETA_BACKENDS_POSTGRES_PG_REPLICA_H

#include "backends/postgres/pg_state.h"

/* Where keys are read now: the replica, when it is there and has replayed all that was told of,
 * otherwise the primary. */
struct pg_conn *pg_reader(struct pg_state *state);
/* The same for a whole load, whose baseline is taken here where it is the replica; patient with
 * it. */
enum shmeta_status pg_loader(struct pg_state *state, struct pg_conn **ret, uint64_t *ret_total,
                             struct backend_error *err);
/* After each apply() that may have committed something: what is fetched next must show it, from
 * wherever it is fetched. */
void pg_wrote(struct pg_state *state);
/* Topics, partitions or segments have been shown or written as they are now: no read of the past
 * may show less. */
void pg_follower_passed(struct pg_state *state);
/* May this load read them where the nearest replicas answer? sink->may_lag() has agreed then. */
enum shmeta_status pg_follower_load(struct pg_state *state, const struct backend_sink *sink, bool *ret,
                                    struct backend_error *err);

#endif
