/* SPDX-License-Identifier: Apache-2.0
 * Everything, read by its keys: where one row keeps load() from showing anything. The source lists
 * the names of its topics; they are fetched some at a time, and a fetch that fails is halved until
 * the key that fails is alone: a topic, then its row or one of its partitions; a class of agents,
 * offsets or leases. */
#ifndef SHMETA_WRITER_LOAD_BY_KEYS_H
#define SHMETA_WRITER_LOAD_BY_KEYS_H

#include "writer/load/merge.h"

/* In place of the load() of a merge: what it leaves behind is the same, but for m->lost. Commits as
 * it goes. ERR_INVALID_ARGUMENT: the names cannot be listed, or so many keys fail that it is not
 * about keys. */
enum shmeta_status by_keys_read(struct merge *m, struct backend_error *ret_err);
/* A load that ended like this, with m->failed, may have failed for some row only. */
bool by_keys_can_help(const struct merge *m, enum shmeta_status status);
/* It is tried again, and keeps its age meanwhile. The store shows the merge. */
void by_keys_note_lost(struct merge *m);
bool by_keys_lost_class(const struct merge *m, enum shmeta_class cls);

#endif
