/* SPDX-License-Identifier: Apache-2.0
 * Group commit of operations (sync_write() queues them). The engine's thread, but for
 * write_set_limits(). */
#ifndef SHMETA_WRITER_WRITE_GROUP_COMMIT_H
#define SHMETA_WRITER_WRITE_GROUP_COMMIT_H

#include "writer/engine/sync.h"

enum shmeta_status write_init(struct sync *s, struct shmeta_err *err);
void write_free(struct sync *s);
void write_set_limits(struct sync *s, const struct sync_options *options); /* any thread */
bool write_waiting(struct sync *s);
size_t write_ops_waiting(struct sync *s);
/* A round has been begun that is not at its end: write_commit() and write_drain() go on with it. */
bool write_is_begun(const struct sync *s);
/* Do what waits: at most one transaction of the source. */
void write_commit(struct sync *s);
/* Bring to its end what write_commit() has begun, and begin nothing: before the engine's thread
 * does something else for long. */
void write_drain(struct sync *s);
/* Answer all that waits; nothing of it was done. */
void write_answer_all(struct sync *s, enum shmeta_status status, const char *sentence);

#endif
