/* SPDX-License-Identifier: Apache-2.0
 * A sync engine without its thread, on a memory source, with a clock that tests move: and an
 * oracle, the whole content of the source and of the store as text, so that a test can say "the
 * store shows what the source has". */
#ifndef SHMETA_TESTS_SUPPORT_SYNC_FIXTURE_H
#define SHMETA_TESTS_SUPPORT_SYNC_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/page/board.h"
#include "shm/store/store.h"
#include "tests/support/memory_faults.h"
#include "writer/engine/sync.h"

enum { FIXTURE_ANSWERS = 4096 };

struct fixture_answer {
	uint64_t ticket;
	enum shmeta_status status;
	uint64_t txn, generation, synced_at_ns;
	char sentence[400];
	struct sync_invalidated count; /* of an invalidation */
	size_t objects;                /* of a list */
	bool more;
};

struct fixture {
	char dir[64];
	int dir_fd;
	struct shmeta_board *board;
	char name[40]; /* memory:name */
	char uri[64];
	struct memory_db *db;
	struct sync *sync;
	struct sync_options options;
	uint32_t uid; /* whose refreshes they are */
	uint64_t now_ns;
	void (*on_clock)(struct fixture *f); /* called whenever the engine looks at the clock: it
                                              * may move it, and more */
	/* Marks what readers have used (shm/page/touch.h); NULL: nothing. */
	void (*on_touched)(struct fixture *f, uint8_t *seen, uint32_t ceiling);
	void (*on_waited)(struct fixture *f, uint64_t *words);
	uint64_t oldest_pin; /* what the host answers */
	int kept;
	enum shmeta_phase phase;
	char sentence[512];
	struct fixture_answer answers[FIXTURE_ANSWERS];
	size_t answer_count;
	/* Of the last write that was answered. */
	uint64_t writes_answered;
	enum shmeta_status write_status;
	struct shmeta_result write_result[64];
	char write_sentence[200];
	uint64_t progress_calls;
	char log[64 * 1024]; /* "event: sentence\n" ... */
	size_t log_bytes;
};

/* A directory, a board, an empty source. */
void fixture_init(struct fixture *f);
void fixture_done(struct fixture *f);
/* Open the engine, as a writer that starts. */
enum shmeta_status fixture_try_open(struct fixture *f, struct shmeta_err *err);
void fixture_open(struct fixture *f);
/* A clean stop; fixture_crash(): without saying anything to anybody. */
void fixture_close(struct fixture *f);
void fixture_crash(struct fixture *f);
/* One round; how long nothing is due. */
uint64_t fixture_run(struct fixture *f);
/* Let time pass, rounds included, as the thread would. */
void fixture_pass(struct fixture *f, uint64_t ms);
struct sync_counters fixture_counters(struct fixture *f);
uint64_t fixture_stamp_age_ms(struct fixture *f, enum shmeta_class cls);
enum shmeta_status fixture_refresh(struct fixture *f, enum shmeta_class cls, const char *topic, uint32_t partition_id,
                                   uint64_t ticket);
/* Everything is to be compared with the source, whatever the feed says. */
enum shmeta_status fixture_compare_all(struct fixture *f, uint64_t ticket);
/* What was found absent a moment ago will do. */
enum shmeta_status fixture_refresh_recent(struct fixture *f, enum shmeta_class cls, const char *topic,
                                          uint32_t partition_id, uint64_t ticket);
/* NULL: none yet */
const struct fixture_answer *fixture_answer(struct fixture *f, uint64_t ticket);
/* A write of the default tenant, without waiting for it: fixture_run() answers it. */
enum shmeta_status fixture_write(struct fixture *f, const struct shmeta_op *ops, size_t count);
bool fixture_logged(const struct fixture *f, const char *event);

/* Rows with everything filled in from the numbers. */
struct shmeta_segment fixture_segment(uint32_t partition_id, uint64_t base, uint64_t records);
bool fixture_add_segment(struct fixture *f, const char *topic, uint32_t partition_id, uint64_t base, uint64_t records);
/* Partitions, watermark and `segments` segments of 1 000 records. */
void fixture_topic(struct fixture *f, const char *topic, uint32_t partitions, uint32_t segments, int64_t created_at_ms);

/* Everything, in order, as text without topic numbers and stamps. malloc'd. */
char *fixture_source_text(struct fixture *f);
char *fixture_store_text(struct fixture *f);
/* NULL: the store shows what the source has; otherwise the first line in which they differ. Also
 * verifies the store. */
const char *fixture_difference(struct fixture *f);
/* 0: not there. */
uint32_t fixture_topic_id(struct fixture *f, const char *topic);
/* The stamps in a topic's record (partition < 0) or a partition's head. false: not there. */
bool fixture_record_stamp(struct fixture *f, const char *topic, int64_t partition, uint64_t *ret_synced_at_ns,
                          uint32_t *ret_ttl_ms);
uint64_t fixture_committed(struct fixture *f);

#endif
