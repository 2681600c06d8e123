/* SPDX-License-Identifier: Apache-2.0
 * Which resident records leave when there is no room: S3-FIFO over residency numbers (slots). It
 * owns the queues, the counters and the ghosts; it knows numbers, classes and bytes, and nothing of
 * keys, the store or the engine.
 *
 * Each class has two queues. A new record enters the small one (POLICY_SMALL_PERCENT of the class's
 * bytes). At its end a record that was touched moves to the main queue; any other one leaves, and
 * its key's hash becomes a ghost. A record whose key is a ghost enters the main queue. At the end
 * of the main queue a touched record goes round once more, and its counter falls by one. So a scan
 * passes through the small queues and leaves the main queues alone.
 *
 * Records that nobody uses, but somebody looked at, pass through a queue of their own: they are the
 * first to leave. A small part of a budget is kept from all others, so that those that pass leave
 * for each other.
 *
 * Memory: 16 bytes per slot, and 8 to 16 bytes per slot for ghosts, all allocated at once. Every
 * operation is O(1) amortised: going round is paid by the touches before it. One owner, no locks,
 * nothing blocks. */
#ifndef SHMETA_WRITER_RESIDENT_POLICY_H
#define SHMETA_WRITER_RESIDENT_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* The least useful first: among records that were touched equally little, blocks leave before
 * partitions, and those before topics. */
enum policy_class { POLICY_BLOCK, POLICY_PARTITION, POLICY_TOPIC, POLICY_CLASSES };

enum { POLICY_COUNT_MAX = 3, POLICY_SMALL_PERCENT = 10, POLICY_YOUNG_TICKS = 2 };

enum policy_level {
	POLICY_NORMAL,
	POLICY_ELEVATED, /* the caller loads nothing ahead of demand */
	POLICY_HIGH,     /* and a batch leaves each time the caller asks, also when no budget is
                          * exceeded */
	POLICY_CRITICAL  /* and the batch is four times as large */
};

/* What a victim was chosen for. */
enum policy_why {
	POLICY_STAYS, /* it was not */
	POLICY_OVER_RECORDS,
	POLICY_OVER_CLASS_BYTES,
	POLICY_OVER_BYTES,
	POLICY_UNDER_PRESSURE, /* the level, or a slot that another record needs */
	POLICY_TOO_LARGE,      /* the caller: it alone exceeds a budget */
	POLICY_WHYS
};

struct policy_config {
	uint32_t slots;                         /* the ceiling: slots are below it */
	uint64_t max_bytes;                     /* of all records; 0: no limit */
	uint64_t class_bytes[POLICY_CLASSES];   /* 0: no limit */
	uint32_t class_records[POLICY_CLASSES]; /* 0: no limit */
	uint32_t batch_percent;                 /* of a budget that was exceeded, so much below it:
                                                 * 1..50 */
	uint32_t hot_touches;                   /* touches in the small queue that protect a record:
                                                 * 1..COUNT_MAX */
	uint32_t passes;                        /* over the queues before touched records leave,
                                                 * too: 1..8 */
	uint32_t passing_part;                  /* so much of a budget, but that of topics, is for
                                                 * those that pass: a 64th for 64; 0: none */
	uint32_t level_percent[3];              /* of the store's hard limit: ELEVATED, HIGH,
                                                 * CRITICAL; ascending */
};

extern const struct policy_config policy_defaults;

/* NULL when the configuration can be used; otherwise what is wrong with it, a constant. */
const char *policy_config_error(const struct policy_config *config);

struct policy;

/* NULL: no memory, or policy_config_error() has an answer. Give it back by policy_free(); NULL is
 * allowed there. */
struct policy *policy_new(const struct policy_config *config);
void policy_free(struct policy *policy);
/* Take over other budgets and numbers; what exceeds them leaves with the next victims. false: the
 * configuration is wrong, or has another number of slots; nothing has changed then. */
bool policy_configure(struct policy *policy, const struct policy_config *config);

/* The record of the key with this hash is resident in slot now. A slot that is resident already
 * keeps its place and changes its bytes. The lookup that brought the record in is no touch. false:
 * no such slot or class, or a resident slot of another class. */
bool policy_add(struct policy *policy, uint32_t slot, enum policy_class class, uint32_t bytes, uint64_t key_hash);
/* The same of a record that came for somebody who does not use it. It is the first victim, and
 * leaves no ghost. One that was touched meanwhile enters the small queue instead. */
bool policy_pass(struct policy *policy, uint32_t slot, enum policy_class class, uint32_t bytes);
/* The record is gone from the store for another reason than eviction, for instance because the
 * source deleted it. Also of a victim. A slot that is not resident is ignored. */
void policy_remove(struct policy *policy, uint32_t slot);
/* What is added from now on came later. A record that came within the last POLICY_YOUNG_TICKS ticks
 * leaves after all others: whoever asked for it may not have looked at it yet. Without ticks no
 * record is young. */
void policy_tick(struct policy *policy);
/* map[i] != 0: slot i was touched since the last call; the bytes are set to 0. n beyond the ceiling
 * is cut. */
void policy_touch_map(struct policy *policy, uint8_t *map, uint32_t n);

/* Does something have to leave, with want_bytes more? */
bool policy_exceeds(const struct policy *policy, uint64_t want_bytes);
/* Choose what has to leave, so that the budgets hold with want_bytes more, by batch_percent below
 * each budget that does not hold; and what the level asks for. Writes at most n slots, returns how
 * many. Victims leave the queues at once; the caller ends each one with policy_evicted() when it is
 * out of the store, or policy_keep() when it could not be removed. Their bytes count in
 * policy_bytes() until then, and never again in what has to leave. Looks at no more than (passes +
 * 2) x the records of all queues, also when all are hot: then the oldest leave as they are. */
uint32_t policy_victims(struct policy *policy, enum policy_level level, uint64_t want_bytes, uint32_t *ret_slots,
                        uint32_t n);
/* The victim is out of the store; its slot is free. Its hash is remembered when it left the small
 * queue. Others are ignored. */
void policy_evicted(struct policy *policy, uint32_t slot, uint64_t key_hash);
/* The victim stays. It goes to the beginning of the queue that it was in. Others are ignored. */
void policy_keep(struct policy *policy, uint32_t slot);

/* How full the store is, whose hard limit this is: the budgets above may hold while pages are kept
 * for readers. */
enum policy_level policy_level(const struct policy *policy, uint64_t used_bytes, uint64_t limit_bytes);

/* What the level asks to leave of records of so many bytes: 0 below HIGH. */
uint64_t policy_relief(const struct policy *policy, enum policy_level level, uint64_t bytes);

/* For reports. A victim is resident until it is evicted. */
struct policy_place {
	bool resident, in_main, passing, victim;
	enum policy_class class;
	uint32_t touches, bytes;
	enum policy_why why;
};
struct policy_place policy_place(const struct policy *policy, uint32_t slot);
/* How many records of its queue are looked at before this one, and how many there are in it: 0 and
 * 0 of what is in no queue. O(records). */
uint32_t policy_before(const struct policy *policy, uint32_t slot, uint32_t *ret_of);
uint64_t policy_bytes(const struct policy *policy); /* of all resident records */
uint64_t policy_class_bytes(const struct policy *policy, enum policy_class class);
uint32_t policy_class_records(const struct policy *policy, enum policy_class class);
uint64_t policy_memory_bytes(const struct policy *policy); /* that it has allocated itself */

#endif
