/* SPDX-License-Identifier: Apache-2.0
 * What is told and asked about readers' snapshots. The loop's thread. */
#ifndef SHMETA_WRITER_SERVE_PINS_H
#define SHMETA_WRITER_SERVE_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "writer/serve/registry.h"

/* A line in the log for each process that was revoked since the last call. Returns how many;
 * max_age_s: snapshot.max_age. */
uint64_t pins_tell_revoked(struct registry *registry, uint64_t max_age_s);

/* A reader that holds a snapshot for long makes the store grow: the operator is told whose process
 * it is, once. *warned: that it was. */
void pins_warn(struct registry *registry, bool *warned);

/* An administrator's request. ERR_NOT_FOUND: no registered process is meant by this. *ret_count:
 * how many registrations ended. */
enum shmeta_status pins_revoke(struct registry *registry, uint64_t number_or_pid, uint64_t *ret_count,
                               char *ret_sentence, size_t bytes);

#endif
