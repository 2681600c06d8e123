/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what has changed. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_FEED_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_FEED_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                                  struct backend_error *err);
enum shmeta_status sqlite_position(void *data, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status sqlite_resume(void *data, const void *bytes, size_t size, struct backend_error *err);
/* Why there is no feed, where there should be one. */
const char *sqlite_feed_trouble(void *data);
/* The same for what must not go on in another source, or on another course, than was last spoken
 * of: ERR_CONFLICT until changes() or load() has spoken. */
enum shmeta_status sqlite_ensure_told(struct sqlite_state *state, struct backend_error *err);

/* The log as it is. before_id: what it was called before something of the feed was missing and had
 * to be made. */
struct sqlite_log {
	int64_t first, last; /* 0: it is empty */
	int64_t last_token;
	bool there; /* the row that was asked for */
	int64_t token;
	uint64_t id, before_id;
};

/* The log, in the transaction that is open, and the token of row seq. */
int sqlite_feed_state(struct sqlite_state *state, int64_t seq, struct sqlite_log *ret);
/* load() has read everything, at this state of the log: changes() goes on from here. */
void sqlite_feed_from(struct sqlite_state *state, const struct sqlite_log *log, int64_t data_version);
/* We have committed rows (after, last] of the log; the token is the last one's. */
void sqlite_feed_own(struct sqlite_state *state, int64_t after, int64_t last, int64_t token);

#endif
