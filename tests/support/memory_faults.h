/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine with faults that a test asks for: an engine around it, which hands every
 * call on and fails where it is told to. Its state is that of the engine inside. */
#ifndef SHMETA_TESTS_SUPPORT_MEMORY_FAULTS_H
#define SHMETA_TESTS_SUPPORT_MEMORY_FAULTS_H

#include "backends/memory/memory.h"

/* Of "memory:NAME" sources; without a fault it does what backend_memory does. */
extern const struct backend_engine memory_with_faults;
/* What was asked of a database, before it is freed. */
void memory_faults_forget(struct memory_db *db);

enum memory_call { MEMORY_OPEN, MEMORY_LOAD, MEMORY_FETCH, MEMORY_CHANGES, MEMORY_START, MEMORY_APPLY, MEMORY_CALLS };

/* The next `times` calls of that kind fail with status and sentence after they have handed over
 * `after_rows` rows. MEMORY_FETCH with ERR_INVALID_ARGUMENT or ERR_BUSY: all keys that are not
 * answered by then, as an engine does that reads many at a time. MEMORY_APPLY, also of what was
 * started: after they have committed, when after_rows is not 0, telling nobody; before they have
 * done anything, when it is. */
void memory_fail(struct memory_db *db, enum memory_call call, uint32_t times, uint64_t after_rows,
                 enum shmeta_status status, const char *sentence);
/* From now on a load() that comes to this partition fails with status and sentence, and so does
 * each key of a fetch() that does, and no other. */
bool memory_break_partition(struct memory_db *db, const char *topic, uint32_t partition_id, enum shmeta_status status,
                            const char *sentence);
/* From now on a fetch() of a range of this partition's segments shows all of them, as no engine
 * may. */
bool memory_stray_partition(struct memory_db *db, const char *topic, uint32_t partition_id);
/* Neither from now on. */
void memory_mend_partition(struct memory_db *db, const char *topic, uint32_t partition_id);
/* The next `times` load() calls find no rows at all, and answer OK. */
void memory_lie_empty(struct memory_db *db, uint32_t times);
/* A position of the feed is so many bytes longer from now on. */
void memory_pad_position(struct memory_db *db, size_t bytes);
/* load() asks sink->may_lag() for this much from now on (what it shows is of now all the same); 0:
 * it does not ask. */
void memory_set_lag(struct memory_db *db, uint64_t lag_ns);
/* changes() says from now on that it tells until so long ago (it tells all the same), and trouble()
 * this; NULL: nothing. */
void memory_set_feed(struct memory_db *db, uint64_t lag_ns, const char *trouble);
/* At first BACKEND_FEED_KEYS. */
void memory_set_feed_kind(struct memory_db *db, enum backend_feed_kind kind);
/* What writable() says from now on. */
void memory_set_read_only(struct memory_db *db, bool read_only);
/* Called without locks: at the start of a call (end 0) and before it returns (end 1). It may change
 * rows, or sleep. */
void memory_set_hook(struct memory_db *db, void (*hook)(void *arg, enum memory_call call, int end), void *arg);

struct memory_stats {
	uint64_t calls[MEMORY_CALLS];
	uint64_t keys_fetched;
	uint64_t queries; /* what an SQL engine would have run: one a class and chunk of 1 000
                           * keys */
	uint64_t rows;
};
void memory_read_stats(struct memory_db *db, struct memory_stats *ret);

#endif
