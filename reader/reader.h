/* SPDX-License-Identifier: Apache-2.0
 * Readers for the library's own use. */
#ifndef SHMETA_READER_READER_H
#define SHMETA_READER_READER_H

#include "include/shmeta.h"

/* A reader that does not count among those that the program may have, and takes no slot: for
 * snapshots that end at once. The caller holds a reference to the instance for as long. NULL: no
 * memory. */
struct shmeta_reader *shmeta__reader_own(struct shmeta *instance);
/* Accepts NULL. In a forked child it only frees memory. */
void shmeta__reader_own_free(struct shmeta_reader *reader);

#endif
