/* SPDX-License-Identifier: Apache-2.0
 * What the files of the codec of operations share. Private to shm/wire. */
#ifndef SHMETA_SHM_WIRE_OP_FIELDS_H
#define SHMETA_SHM_WIRE_OP_FIELDS_H

#include <stdbool.h>

#include "shm/wire/op.h"

/* What a type carries; read by the codec and by shmeta__op_check(). */
enum {
	OP_HAS_NAME = 1u << 0,      /* name                                             */
	OP_HAS_PARTITION = 1u << 1, /* partition_id                                     */
	OP_HAS_FENCED = 1u << 2,    /* may have a fence                                 */
	OP_HAS_OFFSET = 1u << 3,    /* offset                                           */
	OP_HAS_GROUP = 1u << 4,     /* group_id                                         */
	OP_HAS_AGENT = 1u << 5,     /* agent_id                                         */
	OP_HAS_OTHER = 1u << 6,     /* to_agent_id                                      */
	OP_HAS_DURATION = 1u << 7,  /* duration_ms                                      */
	OP_HAS_TRANSFER = 1u << 8,  /* transfer_id                                      */
	OP_HAS_TOPIC = 1u << 9,     /* u.topic, but what the writer itself gives        */
	OP_HAS_SEGMENT = 1u << 10,
	OP_HAS_COMMITTED = 1u << 11,
	OP_HAS_AGENT_ROW = 1u << 12,
	OP_HAS_OBJECT = 1u << 13, /* bucket and key                                   */
	OP_HAS_SIZED = 1u << 14,  /* and the object's size and time                   */
	OP_HAS_COUNT = 1u << 15,  /* results: count                                   */
	OP_HAS_LEASE = 1u << 16,  /* results: lease                                   */
	OP_HAS_BEAT = 1u << 17,   /* of u.agent, the heartbeat alone                  */
	OP_HAS_REPLACE = 1u << 18,
};

struct shmeta__op_type {
	const char *name;
	uint32_t has;
};
extern const struct shmeta__op_type shmeta__op_types[SHMETA_OP_TYPES];

static inline bool op_known(unsigned int type)
{
	return type > 0 && type < SHMETA_OP_TYPES;
}

static inline size_t op_padded(size_t bytes)
{
	return (bytes + 7) / 8 * 8;
}

static inline bool op_all_zero(const uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

#endif
