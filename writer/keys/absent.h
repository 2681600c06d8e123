/* SPDX-License-Identifier: Apache-2.0
 * What the source was just found not to have, remembered for a short while, so that questions about
 * names that do not exist do not reach it one by one (semantics.md W7). Bounded in number and in
 * time; what is created is forgotten at once. An error of the source is never an absence. Callers
 * hold the queue's lock. */
#ifndef SHMETA_WRITER_KEYS_ABSENT_H
#define SHMETA_WRITER_KEYS_ABSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

struct absent_entry; /* absent.c */

struct absent {
	struct absent_entry **slot, **topic; /* by tenant, topic and partition; by tenant and
                                              * topic */
	size_t slots, count, most;
	struct absent_entry *oldest, *newest;
	uint64_t ttl_ns;
};

enum { ABSENT_TOPIC = -1 }; /* as a partition: the topic itself */

/* When it was read, and the commit that shows it. */
struct absent_answer {
	uint64_t read_at_ns, txn, generation;
};

/* 0 of either: nothing is remembered. What is beyond the new limits goes. */
void absent_set_limits(struct absent *a, size_t most, uint64_t ttl_ns);
/* topic_hash: of tenant and topic. Without memory nothing is noted. */
void absent_note(struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic,
                 int64_t partition, const struct absent_answer *answer);
/* The topic, or this partition of it, was found absent less than the TTL ago. */
bool absent_find(const struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic,
                 int64_t partition, uint64_t now_ns, struct absent_answer *ret);
/* The topic or something in it may be there now: forget it with all its partitions. */
void absent_forget(struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic);
void absent_forget_all(struct absent *a);
void absent_free(struct absent *a);

#endif
