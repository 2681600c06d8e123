/* SPDX-License-Identifier: Apache-2.0
 * The small records: topic, agent, group, committed offset, lease. Every value begins with the same
 * head; checksums are over (key, value). Decoding is pure and bounds-checked: any bytes give either
 * a record or ERR_CORRUPT; the views it returns point into the value. */
#ifndef SHMETA_SHM_RECORD_RECORD_H
#define SHMETA_SHM_RECORD_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/page/frozen.h"

struct shmeta_record_head {
	uint64_t checksum;     /*  0  XXH3 of the value from byte 8 on, seeded with XXH3 of the key */
	uint64_t synced_at_ns; /*  8  CLOCK_BOOTTIME                              */
	uint32_t ttl_ms;       /* 16  0: the class's                              */
	uint16_t kind;         /* 20  enum shmeta_record_kind                     */
	uint16_t reserved;     /* 22                                              */
};
SHMETA_FROZEN(shmeta_record_head, checksum, 0);
SHMETA_FROZEN(shmeta_record_head, synced_at_ns, 8);
SHMETA_FROZEN(shmeta_record_head, ttl_ms, 16);
SHMETA_FROZEN(shmeta_record_head, kind, 20);
SHMETA_FROZEN_SIZE(shmeta_record_head, 24);

/* Set in a record's synced_at_ns: its key could not be read when it may have changed. The rest is
 * until when it was known to be true, whatever the stamp of its class says, until it is read
 * again. */
#define SHMETA_SYNCED_ALONE (UINT64_C(1) << 63)

enum shmeta_record_kind {
	SHMETA_RECORD_TOPIC = 1,
	SHMETA_RECORD_AGENT = 2,
	SHMETA_RECORD_GROUP = 3,
	SHMETA_RECORD_OFFSET = 4,
	SHMETA_RECORD_LEASE = 5,
	SHMETA_RECORD_PARTITION = 6, /* part.h */
	SHMETA_RECORD_QUARANTINED = 7
};

/* Behind the head: the fixed part of each kind, then its strings in the order of the fields that
 * give their lengths (a topic's are name, policy, config), without gaps. */
struct shmeta_topic_record {
	int64_t created_at_ms;    /*  0                       */
	int64_t updated_at_ms;    /*  8                       */
	int64_t retention_ms;     /* 16  0 without retention  */
	uint32_t partition_count; /* 24                       */
	uint32_t topic_id;        /* 28                       */
	uint32_t config_bytes;    /* 32  last                 */
	uint16_t policy_bytes;    /* 36  second               */
	uint8_t name_bytes;       /* 38  first                */
	uint8_t flags;            /* 39  1: has a retention   */
};
SHMETA_FROZEN(shmeta_topic_record, created_at_ms, 0);
SHMETA_FROZEN(shmeta_topic_record, updated_at_ms, 8);
SHMETA_FROZEN(shmeta_topic_record, retention_ms, 16);
SHMETA_FROZEN(shmeta_topic_record, partition_count, 24);
SHMETA_FROZEN(shmeta_topic_record, topic_id, 28);
SHMETA_FROZEN(shmeta_topic_record, config_bytes, 32);
SHMETA_FROZEN(shmeta_topic_record, policy_bytes, 36);
SHMETA_FROZEN(shmeta_topic_record, name_bytes, 38);
SHMETA_FROZEN(shmeta_topic_record, flags, 39);
SHMETA_FROZEN_SIZE(shmeta_topic_record, 40);

struct shmeta_agent_record {
	int64_t last_heartbeat_ms; /*  0              */
	int64_t started_at_ms;     /*  8              */
	uint32_t metadata_bytes;   /* 16  last: a map */
	uint16_t id_bytes;         /* 20  first       */
	uint16_t address_bytes;    /* 22              */
	uint16_t zone_bytes;       /* 24              */
	uint16_t group_bytes;      /* 26              */
	uint32_t reserved;         /* 28  0           */
};
SHMETA_FROZEN(shmeta_agent_record, last_heartbeat_ms, 0);
SHMETA_FROZEN(shmeta_agent_record, started_at_ms, 8);
SHMETA_FROZEN(shmeta_agent_record, metadata_bytes, 16);
SHMETA_FROZEN(shmeta_agent_record, id_bytes, 20);
SHMETA_FROZEN(shmeta_agent_record, address_bytes, 22);
SHMETA_FROZEN(shmeta_agent_record, zone_bytes, 24);
SHMETA_FROZEN(shmeta_agent_record, group_bytes, 26);
SHMETA_FROZEN(shmeta_agent_record, reserved, 28);
SHMETA_FROZEN_SIZE(shmeta_agent_record, 32);

struct shmeta_group_record {
	int64_t created_at_ms; /*  0 */
	int64_t updated_at_ms; /*  8 */
	uint16_t group_bytes;  /* 16 */
	uint16_t reserved1;    /* 18 */
	uint32_t reserved2;    /* 20 */
};
SHMETA_FROZEN(shmeta_group_record, created_at_ms, 0);
SHMETA_FROZEN(shmeta_group_record, updated_at_ms, 8);
SHMETA_FROZEN(shmeta_group_record, group_bytes, 16);
SHMETA_FROZEN(shmeta_group_record, reserved1, 18);
SHMETA_FROZEN(shmeta_group_record, reserved2, 20);
SHMETA_FROZEN_SIZE(shmeta_group_record, 24);

struct shmeta_offset_record {
	uint64_t committed_offset; /*  0                    */
	int64_t committed_at_ms;   /*  8                    */
	uint32_t topic_id;         /* 16                    */
	uint32_t partition_id;     /* 20                    */
	uint32_t metadata_bytes;   /* 24  last              */
	uint16_t group_bytes;      /* 28  first             */
	uint16_t flags;            /* 30  1: has metadata   */
};
SHMETA_FROZEN(shmeta_offset_record, committed_offset, 0);
SHMETA_FROZEN(shmeta_offset_record, committed_at_ms, 8);
SHMETA_FROZEN(shmeta_offset_record, topic_id, 16);
SHMETA_FROZEN(shmeta_offset_record, partition_id, 20);
SHMETA_FROZEN(shmeta_offset_record, metadata_bytes, 24);
SHMETA_FROZEN(shmeta_offset_record, group_bytes, 28);
SHMETA_FROZEN(shmeta_offset_record, flags, 30);
SHMETA_FROZEN_SIZE(shmeta_offset_record, 32);

struct shmeta_lease_record {
	int64_t lease_expires_at_ms; /*  0 */
	int64_t acquired_at_ms;      /*  8 */
	uint64_t epoch;              /* 16 */
	uint32_t topic_id;           /* 24 */
	uint32_t partition_id;       /* 28 */
	uint16_t leader_bytes;       /* 32 */
	uint16_t reserved1;          /* 34 */
	uint32_t reserved2;          /* 36 */
};
SHMETA_FROZEN(shmeta_lease_record, lease_expires_at_ms, 0);
SHMETA_FROZEN(shmeta_lease_record, acquired_at_ms, 8);
SHMETA_FROZEN(shmeta_lease_record, epoch, 16);
SHMETA_FROZEN(shmeta_lease_record, topic_id, 24);
SHMETA_FROZEN(shmeta_lease_record, partition_id, 28);
SHMETA_FROZEN(shmeta_lease_record, leader_bytes, 32);
SHMETA_FROZEN(shmeta_lease_record, reserved1, 34);
SHMETA_FROZEN(shmeta_lease_record, reserved2, 36);
SHMETA_FROZEN_SIZE(shmeta_lease_record, 40);

struct shmeta_quarantined_record {
	int64_t since_ms;        /*  0                                                            */
	uint64_t rows;           /*  8  it and those that cannot be served because of it          */
	uint64_t base;           /* 16  of a segment                                              */
	uint64_t end;            /* 24  of a segment; 2^63-1 where it cannot be read              */
	uint32_t partition_id;   /* 32                                                            */
	uint16_t sentence_bytes; /* 36  last                                                      */
	uint8_t cls;             /* 38                                                            */
	uint8_t unread;          /* 39  bits: 1 tenant, 2 topic, 4 name, 8 partition, 16 base     */
	uint8_t tenant_bytes;    /* 40  first                                                     */
	uint8_t topic_bytes;     /* 41                                                            */
	uint8_t name_bytes;      /* 42                                                            */
	uint8_t reserved[5];     /* 43                                                            */
};
SHMETA_FROZEN(shmeta_quarantined_record, since_ms, 0);
SHMETA_FROZEN(shmeta_quarantined_record, rows, 8);
SHMETA_FROZEN(shmeta_quarantined_record, base, 16);
SHMETA_FROZEN(shmeta_quarantined_record, end, 24);
SHMETA_FROZEN(shmeta_quarantined_record, partition_id, 32);
SHMETA_FROZEN(shmeta_quarantined_record, sentence_bytes, 36);
SHMETA_FROZEN(shmeta_quarantined_record, cls, 38);
SHMETA_FROZEN(shmeta_quarantined_record, unread, 39);
SHMETA_FROZEN(shmeta_quarantined_record, tenant_bytes, 40);
SHMETA_FROZEN(shmeta_quarantined_record, topic_bytes, 41);
SHMETA_FROZEN(shmeta_quarantined_record, name_bytes, 42);
SHMETA_FROZEN(shmeta_quarantined_record, reserved, 43);
SHMETA_FROZEN_SIZE(shmeta_quarantined_record, 48);

enum shmeta__unread {
	SHMETA_UNREAD_TENANT = 1u << 0,
	SHMETA_UNREAD_TOPIC = 1u << 1,
	SHMETA_UNREAD_NAME = 1u << 2,
	SHMETA_UNREAD_PARTITION = 1u << 3,
	SHMETA_UNREAD_BASE = 1u << 4
};

/* A row of the source that cannot be served: which one, as far as its key can be read, and why not.
 * The strings are untrusted bytes: escape them. */
struct shmeta__quarantined {
	enum shmeta_class cls;
	uint32_t unread; /* what of the key cannot be read: enum shmeta__unread */
	struct shmeta_str tenant, topic, name;
	uint32_t partition_id;
	uint64_t base, end;
	int64_t since_ms;
	uint64_t rows;
	struct shmeta_str sentence;
};

struct shmeta__stamps {
	uint64_t synced_at_ns;
	uint32_t ttl_ms;
};

/* Largest encoded sizes; buffers of these sizes always suffice. */
enum {
	SHMETA_TOPIC_MAX = 512 + SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX,
	SHMETA_AGENT_MAX = 512 + 4 * SHMETA_STRING_MAX + SHMETA_MAP_MAX,
	SHMETA_SMALL_MAX = 512 + 2 * SHMETA_STRING_MAX + SHMETA_MAP_MAX,
	SHMETA_SENTENCE_MAX = 1024,
	SHMETA_QUARANTINED_MAX = 128 + 3 * 255 + SHMETA_SENTENCE_MAX
};

/* Encode into out (capacity bytes); returns the size, 0 when it does not fit. key: the key it will
 * be stored under. */
size_t shmeta__topic_encode(const struct shmeta_topic *topic, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity);
size_t shmeta__agent_encode(const struct shmeta_agent *agent, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity);
size_t shmeta__group_encode(const struct shmeta_group *group, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity);
size_t shmeta__offset_encode(const struct shmeta_committed_offset *offset, const struct shmeta__stamps *stamps,
                             const void *key, size_t key_bytes, void *out, size_t capacity);
size_t shmeta__lease_encode(const struct shmeta_lease *lease, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity);
size_t shmeta__quarantined_encode(const struct shmeta__quarantined *row, const struct shmeta__stamps *stamps,
                                  const void *key, size_t key_bytes, void *out, size_t capacity);

/* Give a small record in place another time. 0: it is damaged, and stays as it is. */
int shmeta__record_restamp(void *value, size_t bytes, const void *key, size_t key_bytes, uint64_t synced_at_ns);

/* 1: the checksum of a small record is right. */
int shmeta__record_check(const void *value, size_t bytes, const void *key, size_t key_bytes);

/* verify: 1: the checksum too. OK or ERR_CORRUPT. ret_stamps may be NULL. */
enum shmeta_status shmeta__topic_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_topic *ret, struct shmeta__stamps *ret_stamps);
enum shmeta_status shmeta__agent_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_agent *ret, struct shmeta__stamps *ret_stamps);
enum shmeta_status shmeta__group_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_group *ret, struct shmeta__stamps *ret_stamps);
enum shmeta_status shmeta__offset_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                         struct shmeta_committed_offset *ret, struct shmeta__stamps *ret_stamps);
enum shmeta_status shmeta__lease_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_lease *ret, struct shmeta__stamps *ret_stamps);
enum shmeta_status shmeta__quarantined_decode(const void *value, size_t bytes, const void *key, size_t key_bytes,
                                              int verify, struct shmeta__quarantined *ret,
                                              struct shmeta__stamps *ret_stamps);

/* 64-bit hash of a topic name under a tenant number, for touched words and name caches. */
uint64_t shmeta__name_hash(uint32_t tenant, const void *name, size_t bytes);

#endif
