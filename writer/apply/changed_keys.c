/* SPDX-License-Identifier: Apache-2.0
 * Keys are gathered in the form in which frames of the journal have them. */
#include "writer/apply/changed_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "include/shmeta.h"
#include "shm/page/journal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS_FIRST = 256, BYTES_FIRST = 4096, NAMES_MAX = 1 << 20 };
/* Hashes of topic numbers are apart from those of keys. */
static const uint64_t TOPIC_SEED = 0x9E3779B97F4A7C15u;

void changed_keys_begin(struct changed_keys *keys)
{
	keys->used = keys->names_used = keys->taken = 0;
	keys->count = 0;
	keys->lost = false;
	/* Every 2^32 transactions a slot of long ago could be taken for one of this. */
	if (++keys->serial == 0) {
		if (keys->slots > 0)
			memset(keys->slot, 0, keys->slots * sizeof *keys->slot);
		keys->serial = 1;
	}
}

void changed_keys_free(struct changed_keys *keys)
{
	free(keys->bytes);
	free(keys->names);
	free(keys->slot);
	*keys = (struct changed_keys){0};
}

static struct changed_key *place(struct changed_key *slot, size_t slots, uint32_t serial, uint64_t hash)
{
	size_t i = (size_t)hash & (slots - 1);

	while (slot[i].serial == serial && slot[i].hash != hash)
		i = (i + 1) & (slots - 1);
	return &slot[i];
}

/* The slot of the hash, free or not. NULL: no memory. */
static struct changed_key *find(struct changed_keys *keys, uint64_t hash)
{
	if (keys->taken * 2 >= keys->slots) {
		size_t slots = keys->slots == 0 ? SLOTS_FIRST : keys->slots * 2;
		struct changed_key *bigger = calloc(slots, sizeof *bigger);

		if (bigger == NULL)
			return NULL;
		for (size_t i = 0; i < keys->slots; i++)
			if (keys->slot[i].serial == keys->serial)
				*place(bigger, slots, keys->serial, keys->slot[i].hash) = keys->slot[i];
		free(keys->slot);
		keys->slot = bigger;
		keys->slots = slots;
	}
	return place(keys->slot, keys->slots, keys->serial, hash);
}

static void take(struct changed_keys *keys, struct changed_key *slot, uint64_t hash, size_t at)
{
	*slot = (struct changed_key){hash, (uint32_t)at, keys->serial};
	keys->taken++;
}

static bool reserve(uint8_t **bytes, size_t *capacity, size_t used, size_t more, size_t most)
{
	size_t wanted = *capacity == 0 ? BYTES_FIRST : *capacity;
	uint8_t *bigger;

	if (used + more > most)
		return false;
	while (wanted < used + more)
		wanted *= 2;
	if (wanted == *capacity)
		return true;
	bigger = realloc(*bytes, wanted);
	if (bigger == NULL)
		return false;
	*bytes = bigger;
	*capacity = wanted;
	return true;
}

/* The key in NAMES of a topic, as it was in this transaction. NULL: it cannot be told. */
static const uint8_t *topic_name(struct changed_keys *keys, struct shmeta__txn *txn, uint32_t topic_id,
                                 size_t *ret_bytes)
{
	uint64_t id = topic_id, hash = XXH3_64bits_withSeed(&id, sizeof id, shmeta__secret() ^ TOPIC_SEED);
	struct changed_key *slot = find(keys, hash);
	const void *name;
	uint16_t bytes;
	size_t n;

	if (slot == NULL)
		return NULL;
	if (slot->serial != keys->serial) {
		if (shmeta__get(txn, SHMETA_DB_TOPICS, &id, sizeof id, &name, &n, NULL) != SHMETA_OK || n < 5 ||
		    n > 4 + SHMETA_NAME_MAX ||
		    !reserve(&keys->names, &keys->names_capacity, keys->names_used, sizeof bytes + n, NAMES_MAX))
			return NULL;
		bytes = (uint16_t)n;
		memcpy(keys->names + keys->names_used, &bytes, sizeof bytes);
		memcpy(keys->names + keys->names_used + sizeof bytes, name, n);
		take(keys, slot, hash, keys->names_used);
		keys->names_used += sizeof bytes + n;
	}
	memcpy(&bytes, keys->names + slot->at, sizeof bytes);
	*ret_bytes = bytes;
	return keys->names + slot->at + sizeof bytes;
}

void changed_keys_topic(struct changed_keys *keys, struct shmeta__txn *txn, const void *topic_id)
{
	uint64_t id;
	size_t bytes;

	memcpy(&id, topic_id, sizeof id);
	if (!keys->lost && topic_name(keys, txn, (uint32_t)id, &bytes) == NULL)
		keys->lost = true;
}

/* topic: a key in NAMES, or NULL. False: it cannot be told. */
static bool note(struct changed_keys *keys, struct shmeta_journal_key key, bool deleted, const uint8_t *topic,
                 size_t topic_bytes, const uint8_t *name, size_t name_bytes)
{
	size_t length = sizeof key + name_bytes, padded;
	struct changed_key *slot;
	uint64_t hash;
	uint8_t *at;

	if (topic != NULL) {
		key.tenant = shmeta__get_be32(topic);
		key.topic_bytes = (uint16_t)(topic_bytes - 4);
		length += key.topic_bytes;
	}
	key.name_bytes = (uint16_t)name_bytes;
	padded = (length + 7) & ~(size_t)7;
	key.bytes = (uint16_t)padded;
	if (!reserve(&keys->bytes, &keys->capacity, keys->used, padded, SHMETA_JOURNAL_KEYS_MAX))
		return false;
	at = keys->bytes + keys->used;
	memset(at + padded - 8, 0, 8);
	memcpy(at, &key, sizeof key);
	if (key.topic_bytes > 0)
		memcpy(at + sizeof key, topic + 4, key.topic_bytes);
	if (name_bytes > 0)
		memcpy(at + sizeof key + key.topic_bytes, name, name_bytes);
	hash = XXH3_64bits_withSeed(at, padded, shmeta__secret());
	slot = find(keys, hash);
	if (slot == NULL)
		return false;
	if (slot->serial != keys->serial) {
		take(keys, slot, hash, keys->used);
		keys->used += padded;
		keys->count++;
	}
	keys->bytes[slot->at + offsetof(struct shmeta_journal_key, flags)] = deleted ? SHMETA_JOURNAL_DELETED : 0;
	return true;
}

/* Partitions and leases: the key is their place. */
static bool note_place(struct changed_keys *keys, struct shmeta__txn *txn, enum shmeta_class cls, const void *key,
                       bool deleted)
{
	struct shmeta_journal_key noted = {.cls = (uint8_t)cls};
	const uint8_t *topic;
	size_t topic_bytes;
	uint64_t place_of;

	memcpy(&place_of, key, sizeof place_of);
	noted.partition_id = (uint32_t)place_of;
	topic = topic_name(keys, txn, (uint32_t)(place_of >> 32), &topic_bytes);
	return topic != NULL && note(keys, noted, deleted, topic, topic_bytes, NULL, 0);
}

/* Tenant, group, NUL, topic number, partition. */
static bool note_offset(struct changed_keys *keys, struct shmeta__txn *txn, const uint8_t *key, size_t key_bytes,
                        bool deleted)
{
	enum { AROUND = 4 + 1 + 8 };
	struct shmeta_journal_key noted = {.cls = SHMETA_CLASS_OFFSET};
	const uint8_t *topic;
	size_t topic_bytes;

	if (key_bytes <= AROUND)
		return false;
	noted.partition_id = shmeta__get_be32(key + key_bytes - 4);
	topic = topic_name(keys, txn, shmeta__get_be32(key + key_bytes - 8), &topic_bytes);
	return topic != NULL && note(keys, noted, deleted, topic, topic_bytes, key + 4, key_bytes - AROUND);
}

/* Tenant and name. */
static bool note_named(struct changed_keys *keys, enum shmeta_class cls, const uint8_t *key, size_t key_bytes,
                       bool deleted)
{
	const struct shmeta_journal_key noted = {.cls = (uint8_t)cls, .tenant = shmeta__get_be32(key)};

	return note(keys, noted, deleted, NULL, 0, key + 4, key_bytes - 4);
}

void changed_keys_note(struct changed_keys *keys, struct shmeta__txn *txn, enum shmeta_db db, const void *key,
                       size_t key_bytes, bool deleted)
{
	const struct shmeta_journal_key topic = {.cls = SHMETA_CLASS_TOPIC};
	bool told = true;

	if (keys->lost)
		return;
	switch (db) {
	case SHMETA_DB_NAMES:
		told = note(keys, topic, deleted, key, key_bytes, NULL, 0);
		break;
	case SHMETA_DB_PARTS:
		told = note_place(keys, txn, SHMETA_CLASS_PARTITION, key, deleted);
		break;
	case SHMETA_DB_LEASES:
		told = note_place(keys, txn, SHMETA_CLASS_LEASE, key, deleted);
		break;
	case SHMETA_DB_OFFSETS:
		told = note_offset(keys, txn, key, key_bytes, deleted);
		break;
	case SHMETA_DB_AGENTS:
		told = note_named(keys, SHMETA_CLASS_AGENT, key, key_bytes, deleted);
		break;
	case SHMETA_DB_GROUPS:
		told = note_named(keys, SHMETA_CLASS_OFFSET, key, key_bytes, deleted);
		break;
	default:
		break;
	}
	keys->lost = !told;
}
