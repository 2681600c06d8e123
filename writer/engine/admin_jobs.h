/* SPDX-License-Identifier: Apache-2.0
 * Lists of objects, ends of epochs, invalidations (sync_list_objects(), sync_epoch_end(),
 * sync_invalidate() queue them). The engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_ADMIN_JOBS_H
#define SHMETA_WRITER_ENGINE_ADMIN_JOBS_H

#include "writer/engine/sync.h"

enum shmeta_status admin_init(struct sync *s, struct shmeta_err *err);
void admin_free(struct sync *s);
void admin_set_limits(struct sync *s, const struct sync_options *options); /* any thread */
bool admin_waiting(struct sync *s);
/* List objects, tell where epochs end; take the next step of an invalidation. */
void admin_work(struct sync *s);
/* Answer all that waits. */
void admin_answer_all(struct sync *s, enum shmeta_status status, const char *sentence);

#endif
