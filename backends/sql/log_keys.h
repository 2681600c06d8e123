/* SPDX-License-Identifier: Apache-2.0
 * From logged changes to the keys that changes() reports. The engine hands over its changes sorted;
 * here those that another one covers are left out. Shared by the engines that keep a change log. */
#ifndef SHMETA_BACKENDS_SQL_LOG_KEYS_H
#define SHMETA_BACKENDS_SQL_LOG_KEYS_H

#include <stdint.h>

#include "backends/backend.h"

enum feed_op { FEED_INSERT = 1, FEED_UPDATE = 2, FEED_DELETE = 3 };

/* One change, or several of the same class, place and operation: [from, to] spans their base
 * offsets (SEGMENT). */
struct feed_change {
	enum shmeta_class cls;
	enum feed_op op;
	struct shmeta_str tenant, topic;
	struct shmeta_str name; /* of an agent or a group */
	uint32_t partition_id;
	uint64_t from, to;
	uint32_t unread; /* enum feed_unread */
};

/* PARTITION, SEGMENT: what of the place is nothing that a key can hold. */
enum feed_unread { FEED_UNREAD_PARTITION = 1, FEED_UNREAD_BASE = 2 };
/* Of the numbers as the source has them. */
static inline uint32_t feed_change_unread(int64_t partition, int64_t from, int64_t to)
{
	return (partition < 0 || partition > UINT32_MAX ? FEED_UNREAD_PARTITION : 0) |
	       (from < 0 || to < 0 ? FEED_UNREAD_BASE : 0);
}

/* What was reported last. Zeroed at the start of each round. */
struct feed_round {
	char tenant[SHMETA_TENANT_MAX], topic[SHMETA_NAME_MAX];
	size_t tenant_bytes, topic_bytes;
	uint32_t has_topic;     /* tenant and topic hold one                                 */
	uint32_t whole_topic;   /* it was reported with all of its segments                  */
	uint32_t unread_topic;  /* it was reported for what cannot be read                     */
	uint32_t has_partition; /* partition was reported with all of its segments           */
	uint32_t partition;
	uint32_t class_done; /* bit per class that is reported as a whole                 */
	uint64_t keys;
};

/* Order of the calls of one round: by tenant, topic; of one topic those of class TOPIC first, then
 * by partition, class, operation. AGENT, LEASE and OFFSET may come anywhere.
 *
 * What becomes of a change:
 *   TOPIC insert, delete     TOPIC with_segments, deleted: an insert of a key that is there is how
 *                            INSERT OR REPLACE shows, and
 *                            the row before it died without a trace
 *   TOPIC update             TOPIC
 *   PARTITION insert, delete SEGMENT over all offsets, for the same reason: its segments may have
 *   died with it
 *   PARTITION update         PARTITION
 *   SEGMENT                  SEGMENT over [from, to]
 *   unread                   TOPIC with_segments: nothing less meets the row, to quarantine it, or
 *                            to have it leave; and, of a base,
 *                            SEGMENT over all offsets: it hides those of others, and not every
 *                            store has all of a topic
 *   AGENT, OFFSET, LEASE     the key that it names, or, with no name (LEASE: no topic), the whole
 *                            class, once */
enum shmeta_status feed_change(struct feed_round *round, const struct feed_change *change,
                               const struct backend_sink *sink);

#endif
