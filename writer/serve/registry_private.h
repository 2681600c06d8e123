/* SPDX-License-Identifier: Apache-2.0
 * What registry.c and registry_restore.c share. */
#ifndef SHMETA_WRITER_SERVE_REGISTRY_PRIVATE_H
#define SHMETA_WRITER_SERVE_REGISTRY_PRIVATE_H

#include <fcntl.h>
#include <pthread.h>

#include "shm/page/histogram.h"
#include "shm/page/touch.h"
#include "writer/serve/published.h"
#include "writer/serve/registry.h"

static const int registry_seals = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

struct registration {
	struct registration *next;
	uint64_t number;
	struct shmeta_slots *page;
	size_t bytes;
	uint32_t slots;         /* of the mapping; the page's own word belongs to the reader as
                                 * well */
	uint32_t touch_ceiling; /* of the touch map behind the slots; 0: there is none */
	struct registry_peer peer;
	bool connected;
	bool revoked, told; /* told: or nothing is to be told of it */
	bool over;          /* revoked, and the grace period has passed */
	uint64_t connected_at_ns, revoked_at_ns;
	uint64_t born, born_generation; /* what was the newest commit then */
	struct registry_revoked why;
};

struct registry {
	struct shmeta_board *board;
	uint64_t epoch, grace_ns, given;
	uint64_t max_age_ns;
	pthread_mutex_t lock; /* guards the list, who is revoked and `published`, against the
                               * engine's look at the pins */
	struct published published;
	struct registration *list;
	uint32_t count, slots;
	uint64_t touch_bytes, touch_total; /* of the maps, and at most */
	uint32_t touch_ceiling;            /* of new pages */
	uint32_t former;                   /* as the former writer counted */
	uint32_t restored;
	struct shmeta_reader_counters left; /* of those that are gone */
	uint64_t left_ns[SHMETA_HISTOGRAM_BUCKETS];
};

/* Only where there is one. */
static inline void *registry_touch_map(const struct registration *registration)
{
	return (char *)registration->page + shmeta__slots_bytes(registration->slots);
}

void registry_link(struct registry *registry, struct registration *registration);
/* NULL: it cannot be mapped. */
struct shmeta_slots *registry_map_page(int fd, size_t bytes);
void registry_write_header(const struct registration *registration, uint64_t epoch);

#endif
