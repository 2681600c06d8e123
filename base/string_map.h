/* SPDX-License-Identifier: Apache-2.0
 * String maps, packed as include/shmeta.h describes. */
#ifndef SHMETA_BASE_STRING_MAP_H
#define SHMETA_BASE_STRING_MAP_H

#include "include/shmeta.h"

/* Is it a string map (shmeta.h) with ascending keys, of at most SHMETA_MAP_MAX bytes? NULL, or what
 * is wrong. */
const char *shmeta__map_error(const struct shmeta_map *map);
#endif
