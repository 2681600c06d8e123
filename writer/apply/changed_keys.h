/* SPDX-License-Identifier: Apache-2.0
 * The keys that a transaction changes, for the journal: each once, as it is at the end. Noting
 * cannot fail: what cannot be told is `lost`, and readers are told that they have to read anew. */
#ifndef SHMETA_WRITER_APPLY_CHANGED_KEYS_H
#define SHMETA_WRITER_APPLY_CHANGED_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/record/key.h"
#include "shm/store/store.h"

/* Where a key, or a topic's name, was noted. */
struct changed_key {
	uint64_t hash;
	uint32_t at;
	uint32_t serial; /* of the transaction; any other: free */
};

struct changed_keys {   /* zeroed is empty; what it holds is used again by the next transaction */
	uint8_t *bytes; /* struct shmeta_journal_key, one behind the other */
	size_t used, capacity;
	uint32_t count;
	bool lost;
	uint8_t *names; /* of topics: bytes (16 bits), then the key in NAMES */
	size_t names_used, names_capacity;
	struct changed_key *slot; /* of both, by hash */
	size_t slots, taken;
	uint32_t serial;
};

void changed_keys_begin(struct changed_keys *keys);
void changed_keys_free(struct changed_keys *keys);
/* The record under this key of the database is another one, or gone. Databases that journals do not
 * tell of are let pass. */
void changed_keys_note(struct changed_keys *keys, struct shmeta__txn *txn, enum shmeta_db db, const void *key,
                       size_t key_bytes, bool deleted);
/* The topic of this number (a key of TOPICS) is about to lose its name, which keys that are noted
 * later need. */
void changed_keys_topic(struct changed_keys *keys, struct shmeta__txn *txn, const void *topic_id);

#endif
