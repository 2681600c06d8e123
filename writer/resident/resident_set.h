/* SPDX-License-Identifier: Apache-2.0
 * Which topics and partitions a bounded store holds: their keys, their bytes and their places in
 * the queues of the policy (policy.h). It says which of them have to leave for the budgets to hold.
 * It knows neither the store nor the engine, and gives records dense numbers (slots) of its own.
 * One owner, no locks, nothing blocks; memory is allocated by resident_new() alone. */
#ifndef SHMETA_WRITER_RESIDENT_RESIDENT_SET_H
#define SHMETA_WRITER_RESIDENT_RESIDENT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "writer/resident/policy.h"

/* A key is topic number << 32 | partition number; with RESIDENT_TOPIC in place of the partition it
 * is the topic itself. */
#define RESIDENT_TOPIC UINT32_MAX

struct resident_budget {
	uint32_t max_topics, max_partitions; /* 1 or more */
	uint64_t max_segment_bytes;          /* of all partitions with their segment indexes */
	uint64_t max_bytes;                  /* of the store */
	uint32_t batch_percent, hot_touches; /* as in struct policy_config */
};

struct resident_set;

/* spare: records beyond the budget that there is a place for, as there are in the middle of a
 * transaction. NULL: no memory. */
struct resident_set *resident_new(const struct resident_budget *budget, uint32_t spare);
void resident_free(struct resident_set *r); /* accepts NULL */

/* The record is in the store, with so many bytes. false: there is no place for it before another
 * one has left. */
bool resident_put(struct resident_set *r, uint64_t key, uint64_t bytes);
/* The same for somebody who only looks: a new record is the first to leave. */
bool resident_pass(struct resident_set *r, uint64_t key, uint64_t bytes);
bool resident_has(const struct resident_set *r, uint64_t key);
/* What is put from now on came at that time. */
void resident_clock(struct resident_set *r, uint64_t now_ns);
/* The record is not in the store any more, whether it was chosen to leave or the source deleted it.
 * Unknown keys are ignored. */
void resident_drop(struct resident_set *r, uint64_t key);

/* A resident record is due at that time; 0: never. It counts as not in use from here on. */
void resident_expires(struct resident_set *r, uint64_t key, uint64_t due_ns);
/* Up to n records that are due by now_ns and were found in use (resident_touch()) since
 * resident_expires(). They are due again at again_ns. */
size_t resident_due(struct resident_set *r, uint64_t now_ns, uint64_t again_ns, uint64_t *ret_keys, size_t n);

/* As policy_tick(). */
void resident_tick(struct resident_set *r);
/* Does a store whose content takes content_bytes exceed a budget? */
bool resident_exceeds(const struct resident_set *r, uint64_t content_bytes);
/* was_used() says whether the record was used since the last call. A partition that was stands for
 * its topic, too. */
void resident_touch(struct resident_set *r, bool (*was_used)(void *arg, uint64_t key), void *arg);

/* Choose up to n records that have to leave, the least useful first, for the budgets to hold in a
 * store whose content takes content_bytes; returns how many. Each one is ended by resident_drop()
 * when it is out of the store. room: one more record needs a place. */
size_t resident_victims(struct resident_set *r, uint64_t content_bytes, bool room, uint64_t *ret_keys, size_t n);

/* How full a store is that may take limit_bytes, as policy_level(). */
enum policy_level resident_level(const struct resident_set *r, uint64_t used_bytes, uint64_t limit_bytes);
/* What a level asks to leave of a store with that content, though its budgets hold: a batch of so
 * many bytes; 0: nothing. */
uint64_t resident_relief(const struct resident_set *r, enum policy_level level, uint64_t content_bytes);
/* As resident_victims(), for that batch: up to n of it. */
size_t resident_relieve(struct resident_set *r, enum policy_level level, uint64_t content_bytes, uint64_t *ret_keys,
                        size_t n);

/* For reports: where a record stands. */
struct resident_place {
	struct policy_place policy;
	uint32_t before, of; /* as policy_before() */
	uint64_t came_ns;    /* 0: before resident_clock() was first called */
};
struct resident_place resident_place(const struct resident_set *r, uint64_t key);
/* What a record that resident_victims() or resident_relieve() chose leaves for. */
enum policy_why resident_why(const struct resident_set *r, uint64_t key);

uint32_t resident_topics(const struct resident_set *r);
uint32_t resident_partitions(const struct resident_set *r);
uint64_t resident_segment_bytes(const struct resident_set *r);
uint64_t resident_bytes(const struct resident_set *r);

#endif
