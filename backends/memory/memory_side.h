/* SPDX-License-Identifier: Apache-2.0
 * The side tables of a database of the in-memory engine: the epochs that leases and compactions
 * ever had, and what was written under them, transfers of leases, objects. The lists but those of
 * led epochs only grow. All of it is used with the database's lock held. */
#ifndef SHMETA_BACKENDS_MEMORY_MEMORY_SIDE_H
#define SHMETA_BACKENDS_MEMORY_MEMORY_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/leader_epochs.h"

struct epoch {
	char *tenant, *topic;
	uint32_t partition_id;
	uint64_t epoch;           /* the highest of its leases; 0: there was none */
	uint64_t compaction;      /* the highest that was ever given */
	struct leader_epochs led; /* under which something was written */
};

enum offer_state { OFFER_PENDING, OFFER_ACCEPTED, OFFER_COMPLETED, OFFER_REJECTED };

struct offer {
	char *tenant, *topic, *from, *to;
	uint32_t partition_id;
	int64_t timeout_ms;
	enum offer_state state;
};

struct slice {
	char *topic;
	uint32_t partition_id;
	uint64_t base;
};

struct object {
	char *tenant, *bucket, *key;
	uint64_t size_bytes;
	int64_t created_at_ms, unreferenced_ms; /* -1: has slices, or was not looked at since */
	struct slice *slices;
	size_t slice_count;
	bool gone;
};

struct memory_side {
	struct epoch *epochs;
	struct offer *offers; /* transfer_id is the index + 1 */
	struct object *objects;
	size_t epoch_count, offer_count, object_count;
};

/* One more item of a growing array, zeroed. NULL: no memory. */
void *memory_grow(void **items, size_t *count, size_t size);
/* The partition's, made when there is none. NULL: no memory. */
struct epoch *memory_epoch_of(struct memory_side *m, const char *tenant, const char *topic, uint32_t partition);
/* Accepts NULL. */
void memory_side_free(struct memory_side *m);

#endif
