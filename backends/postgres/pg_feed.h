/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what has changed, by the log of changes. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_FEED_H
#define SHMETA_BACKENDS_POSTGRES_PG_FEED_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                              struct backend_error *err);
enum shmeta_status pg_position(void *data, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status pg_resume(void *data, const void *bytes, size_t size, struct backend_error *err);
int pg_wake_fd(void *data);
/* Why there is no feed; "": there is one, or none was asked for. */
const char *pg_feed_trouble(void *data);
/* A poll that finds more gives up, and everything is looked at. */
enum { PG_CHANGES_MOST = 200000 };
void pg_feed_free(struct pg_state *state);
bool pg_feed_texts(struct pg_state *state);

/* Within the transaction of a load(): where the feed goes on after it, and about how many rows
 * there are. */
enum shmeta_status pg_feed_baseline(struct pg_state *state, struct pg_conn *conn, uint64_t *ret_total,
                                    struct backend_error *err);
void pg_feed_loaded(struct pg_state *state, bool ok); /* and its end */
/* Is there a baseline, from which changes() goes on? */
bool pg_feed_has_baseline(const struct pg_state *state);
/* With a new connection: is it still the source, and the course of it, that was followed? */
enum shmeta_status pg_feed_meet(struct pg_state *state, struct backend_error *err);
/* The caller has been told of the source as it is now. */
void pg_feed_spoke(struct pg_state *state);
/* ERR_CONFLICT where it is not the one that was followed, until changes() or load() has spoken of
 * it. */
enum shmeta_status pg_feed_told(struct pg_state *state, struct backend_error *err);
/* A call begins that does something at the source, or tells of it: connect, and prove that the
 * source is the one that the caller knows. */
enum shmeta_status pg_ensure_told(struct pg_state *state, const char *doing, struct backend_error *err);

#endif
