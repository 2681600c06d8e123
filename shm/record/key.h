/* SPDX-License-Identifier: Apache-2.0
 * The named databases of a store and their keys. Integer keys are native 8-byte integers
 * (MDB_INTEGERKEY); all others compare as bytes, so numbers inside them are big endian. */
#ifndef SHMETA_SHM_RECORD_KEY_H
#define SHMETA_SHM_RECORD_KEY_H

#include <stdint.h>
#include <string.h>

/* X(enum, name, integer key, what). Order and names are part of the format. */
#define SHMETA_DB_LIST(X)                                                                                       \
	X(META, "meta", 0, "format, source, counters, tenants, feed position")                                  \
	X(NAMES, "names", 0, "tenant, topic name -> topic record")                                              \
	X(TOPICS, "topics", 1, "topic_id -> key in names")                                                      \
	X(PARTS, "parts", 1, "topic_id << 32 | partition -> partition head: record, directory, tail rows")      \
	X(BLOCKS, "blocks", 1, "block id -> full block of rows or directory page; read by locator, not by key") \
	X(AGENTS, "agents", 0, "tenant, agent_id -> agent record")                                              \
	X(GROUPS, "groups", 0, "tenant, group_id -> group record")                                              \
	X(OFFSETS, "offsets", 0, "tenant, group_id, 0, topic_id, partition -> committed offset record")         \
	X(LEASES, "leases", 1, "topic_id << 32 | partition -> lease record")                                    \
	X(QUARANTINE, "quarantine", 0, "place of a row that cannot be served -> what it is, and why not")

enum shmeta_db {
#define X(name, text, integer, what) SHMETA_DB_##name,
	SHMETA_DB_LIST(X)
#undef X
		SHMETA_DB_COUNT
};

/* The longest key: tenant, 249 bytes of name, NUL, topic_id, partition. LMDB's limit is 511. */
enum { SHMETA_KEY_MAX = 4 + 249 + 1 + 8 }; /* but for those of QUARANTINE: below */

/* Keys of META. */
#define SHMETA_META_FORMAT "format"     /* struct shmeta_store_format (store.h) */
#define SHMETA_META_BEACON "beacon"     /* one overflow page whose address gives the map's */
#define SHMETA_META_COUNTERS "counters" /* struct shmeta_store_counters */
#define SHMETA_META_TENANT "tenant/"    /* + tenant text -> uint32_t number, from 1 */
#define SHMETA_META_FEED "feed"         /* the backend's change-feed position, opaque */
#define SHMETA_META_UNLISTED "unlisted" /* uint64_t[8] by class: quarantined rows beyond the list */
#define SHMETA_META_ABSENT "absent/"    /* + place -> uint64_t, CLOCK_BOOTTIME when it was absent */

/* The sentinel is in every database: one without it is broken, not empty. It sorts before every
 * other key (tenants, topic ids and block ids count from 1), because LMDB packs pages full only
 * when rows are added behind the last one: with a sentinel at the end, every database that is
 * loaded in order would take twice its pages. The text holds NULs: use SHMETA_SENTINEL_BYTES. */
#define SHMETA_SENTINEL_KEY "\0\0\0\0 sentinel"
enum { SHMETA_SENTINEL_BYTES = 13 };
#define SHMETA_SENTINEL_NUMBER UINT64_C(0) /* where keys are integers */
#define SHMETA_SENTINEL_VALUE "SENTINEL"   /* what its value begins with */
enum { SHMETA_SENTINEL_VALUE_BYTES = 8 };
_Static_assert(sizeof(SHMETA_SENTINEL_KEY) - 1 == SHMETA_SENTINEL_BYTES, "the sentinel's length");

static inline uint64_t shmeta__part_key(uint32_t topic_id, uint32_t partition_id)
{
	return (uint64_t)topic_id << 32 | partition_id;
}

static inline void shmeta__put_be32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}
static inline uint32_t shmeta__get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

/* tenant + text into key (SHMETA_KEY_MAX bytes); returns its length. bytes <= SHMETA_NAME_MAX is
 * the caller's duty. */
static inline size_t shmeta__name_key(uint8_t *key, uint32_t tenant, const void *text, size_t bytes)
{
	shmeta__put_be32(key, tenant);
	memcpy(key + 4, text, bytes);
	return 4 + bytes;
}
static inline size_t shmeta__offset_key(uint8_t *key, uint32_t tenant, const void *group, size_t bytes,
                                        uint32_t topic_id, uint32_t partition_id)
{
	size_t n = shmeta__name_key(key, tenant, group, bytes);

	key[n++] = 0;
	shmeta__put_be32(key + n, topic_id);
	shmeta__put_be32(key + n + 4, partition_id);
	return n + 8;
}

/* Keys of META for what the source was asked for and did not have: tenant, topic, NUL, and the
 * partition, or UINT32_MAX for the topic itself. They are needed where a class is incomplete. bytes
 * <= SHMETA_NAME_MAX is the caller's duty. */
enum { SHMETA_ABSENT_KEY_MAX = sizeof SHMETA_META_ABSENT - 1 + 4 + 249 + 1 + 4 };
static inline size_t shmeta__absent_prefix(uint8_t *key, uint32_t tenant, const void *topic, size_t bytes)
{
	size_t n = sizeof SHMETA_META_ABSENT - 1;

	memcpy(key, SHMETA_META_ABSENT, n);
	shmeta__put_be32(key + n, tenant);
	memcpy(key + n + 4, topic, bytes);
	key[n + 4 + bytes] = 0;
	return n + 5 + bytes;
}
static inline size_t shmeta__absent_key(uint8_t *key, uint32_t tenant, const void *topic, size_t bytes,
                                        uint32_t partition_id)
{
	size_t n = shmeta__absent_prefix(key, tenant, topic, bytes);

	shmeta__put_be32(key + n, partition_id);
	return n + 4;
}

/* Keys of QUARANTINE begin with class and tenant, then a name and NUL: the topic of topics,
 * partitions, segments and leases, the agent, the group of groups and offsets. A name that cannot
 * be read, or holds a NUL, is empty; an unreadable tenant is 0. */
struct shmeta__quarantine_place {
	uint64_t topic;        /* of offsets: hash of the topic's name; otherwise, and of a group's
                                * row, 0 */
	uint32_t partition_id; /* 0 where the class has none */
	uint64_t base;         /* of segments. Where part of the key cannot be read: hash of the
                                * sentence */
	uint32_t number;       /* of several rows at one place */
};
enum { SHMETA_QUARANTINE_PLACE = 24, SHMETA_QUARANTINE_KEY_MAX = 1 + 4 + 249 + 1 + SHMETA_QUARANTINE_PLACE };

static inline void shmeta__put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
}

/* What all keys of a name begin with; key has SHMETA_QUARANTINE_KEY_MAX bytes, bytes <=
 * SHMETA_NAME_MAX. Classes count from 1: the sentinel stays first. */
static inline size_t shmeta__quarantine_prefix(uint8_t *key, unsigned int cls, uint32_t tenant, const void *name,
                                               size_t bytes)
{
	key[0] = (uint8_t)(cls + 1);
	shmeta__put_be32(key + 1, tenant);
	if (bytes > 0)
		memcpy(key + 5, name, bytes);
	key[5 + bytes] = 0;
	return 6 + bytes;
}
/* The whole key: prefix_bytes of it are there. */
static inline size_t shmeta__quarantine_key(uint8_t *key, size_t prefix_bytes,
                                            const struct shmeta__quarantine_place *place)
{
	shmeta__put_be64(key + prefix_bytes, place->topic);
	shmeta__put_be32(key + prefix_bytes + 8, place->partition_id);
	shmeta__put_be64(key + prefix_bytes + 12, place->base);
	shmeta__put_be32(key + prefix_bytes + 20, place->number);
	return prefix_bytes + SHMETA_QUARANTINE_PLACE;
}

#endif
