/* SPDX-License-Identifier: Apache-2.0
 * Misses: keys that lookups met unknown because they are not resident. They lie in the first page
 * of a touch map (touch.h), behind its header. A thread that misses leaves the key at a place that
 * its hash says, if that is free, and does not wait; the writer takes what it finds, has it loaded,
 * and frees the place. A key that finds its place taken is lost: whoever looks again leaves it
 * again.
 *
 * Neither side believes the other: the writer copies a place, judges the copy, and asks the source
 * for what it names as for any reader of that user; the process sees nothing but whether a place is
 * free. */
#ifndef SHMETA_SHM_PAGE_MISS_H
#define SHMETA_SHM_PAGE_MISS_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/page/frozen.h"
#include "shm/page/order.h"

enum {
	SHMETA_MISSES_AT = 64, /* offset in the map */
	SHMETA_MISSES = 12,
	SHMETA_MISS_TEXT = 320
};
#define SHMETA_MISS_TOPIC UINT32_MAX /* in place of a partition: the topic's row */
_Static_assert(SHMETA_NAME_MAX + SHMETA_TENANT_MAX <= SHMETA_MISS_TEXT, "a key fits");

enum shmeta_miss_state { SHMETA_MISS_FREE, SHMETA_MISS_BEING_LEFT, SHMETA_MISS_LEFT };

struct shmeta_miss {
	uint32_t state;        /*  0  enum shmeta_miss_state            PAIR 10 */
	uint32_t partition_id; /*  4  or SHMETA_MISS_TOPIC                     */
	uint32_t name_bytes;   /*  8  of the topic's name, in text             */
	uint32_t tenant_bytes; /* 12  of the tenant, behind it                 */
	char text[SHMETA_MISS_TEXT];
};
SHMETA_FROZEN(shmeta_miss, state, 0);
SHMETA_FROZEN(shmeta_miss, partition_id, 4);
SHMETA_FROZEN(shmeta_miss, name_bytes, 8);
SHMETA_FROZEN(shmeta_miss, tenant_bytes, 12);
SHMETA_FROZEN(shmeta_miss, text, 16);
SHMETA_FROZEN_SIZE(shmeta_miss, 336);

/* The process's side: leave a key of at most SHMETA_NAME_MAX and SHMETA_TENANT_MAX bytes, if its
 * place is free. misses: SHMETA_MISSES of them. Does not block; any thread. */
void shmeta__miss_leave(struct shmeta_miss *misses, struct shmeta_str topic, struct shmeta_str tenant,
                        uint32_t partition_id);

/* The writer's side: take what was left, and free the places. Each of ret[SHMETA_MISSES] that was
 * written has lengths that fit its text; nothing else of it has been judged. Returns how many. Does
 * not block. */
size_t shmeta__miss_take(struct shmeta_miss *misses, struct shmeta_miss *ret);

#endif
