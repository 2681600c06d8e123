/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the end of an epoch. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_EPOCHS_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_EPOCHS_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_epoch_end(void *data, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                    struct backend_error *err);

#endif
