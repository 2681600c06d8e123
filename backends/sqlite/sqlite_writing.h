/* SPDX-License-Identifier: Apache-2.0
 * One apply() of the SQLite engine, for the files that write rows (sqlite_write*.c).
 *
 * A failure belongs to the operation whose statement failed: sqlite_write_run() refuses w->r. Where
 * the statement is of no single operation (a watermark that was gathered, a constraint that is
 * checked by COMMIT, a trigger that rolled everything back), the batch is done again in smaller
 * parts (sqlite_write.c), and w->blame says what kind of trouble it was. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_WRITING_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_WRITING_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "backends/op_errors.h"
#include "backends/renewed.h"
#include "backends/sql/log_keys.h"
#include "backends/sqlite/sqlite_state.h"
#include "base/str.h"

enum { WRITING_PLACES = 1024, WRITING_SLOTS = 2 * WRITING_PLACES };

/* What ended a transaction. */
enum writing_blame {
	WRITING_SOURCE,      /* the source itself: all that is not yet committed fails with it */
	WRITING_ROLLED_BACK, /* the statement of the operation that is on took the whole transaction
                              * back */
	WRITING_DEFERRED     /* something that several operations share was refused: w->said has the
                              * sentence */
};

struct writing {
	struct sqlite_state *state;
	const struct backend_op *ops;
	struct shmeta_result *results;
	int64_t now_ms;
	struct backend_error *err;
	int failed; /* SQLite's code when the transaction cannot go on */
	enum writing_blame blame;
	size_t culprit;          /* ROLLED_BACK: the operation                            */
	struct shmeta_result *r; /* of the operation that is on; NULL: none is            */
	char said[160];          /* DEFERRED: what the source said                        */
	bool *left_out;          /* [op]: a slice that was refused already, and takes its unit's
                                  * others with it; NULL: none */
	bool made_slices;
	bool anew;      /* a new connection was made because a page was damaged */
	int64_t object; /* of the unit being written, -1: none           */
	const struct shmeta_op *object_op;
	/* The object's own first status when it is not OK: its slices get it too. */
	struct shmeta_result object_refused;
	/* Partitions that were written to. */
	struct place {
		struct shmeta_str tenant, topic;
		uint32_t partition_id;
		bool marked; /* value is to become the watermark, if it is higher      */
		bool added;  /* segments with bases from..to                           */
		bool set;    /* the watermark was set                                  */
		bool led;    /* segments were added under epoch, from led_from on; not recorded
                              * yet */
		int64_t value;
		uint64_t from, to;
		uint64_t epoch, led_from;
	} places[WRITING_PLACES];
	size_t place_count;
	size_t marks;                 /* places that are marked, or led */
	uint16_t slot[WRITING_SLOTS]; /* 1 + index of the place */
	bool logs;                    /* the triggers do not */
	int64_t log_first, log_last;  /* of the rows we wrote */
	int64_t log_token;            /* of log_last */
	uint32_t classes;             /* a bit for each class that changed, and is logged as a
                                       * whole */
	uint32_t named;               /* agents, leases and offsets that were logged by their
                                       * names */
	struct renewed renewed;
};

/* ---- sqlite_write_step.c: statements ---- */

/* The statement. NULL: w->r is refused, where a trigger or a key of the source cannot be compiled,
 * or the transaction failed. */
sqlite3_stmt *sqlite_write_take(struct writing *w, enum sqlite_statement which);
/* A step's code that is neither a row nor the end: w->r is refused with what the source said, or
 * the transaction has failed. */
void sqlite_write_fail(struct writing *w, int rc);
/* Step once and reset. SQLITE_DONE or SQLITE_ROW (columns are gone). With any other code w->r has
 * been refused with what the source said, or the transaction has failed. */
int sqlite_write_run(struct writing *w, sqlite3_stmt *statement);
/* The same for a statement that has to change a row: true when it did, otherwise w->r is
 * refused. */
bool sqlite_write_run_change(struct writing *w, sqlite3_stmt *statement);
/* w->r is refused: the statement went through, and the row is as it was. */
void sqlite_write_unchanged(struct writing *w);
/* The same for another reason. */
void sqlite_write_not_done(struct writing *w, const char *sentence);
/* A row to look at: true; the caller resets. */
bool sqlite_write_look(struct writing *w, sqlite3_stmt *statement);
/* number: ?3; -1: the statement has none. */
bool sqlite_write_exists(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                         struct shmeta_str name, int64_t number);
/* Is it a key that was taken already? */
static inline bool sqlite_write_is_duplicate(int rc)
{
	return rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_ROWID;
}

/* false: r is refused for the partition, or the topic, that is not there. */
bool sqlite_write_has_partition(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
/* false: r is refused where shmeta's own tables are not there. */
bool sqlite_write_has_own(struct writing *w, struct shmeta_result *r);

/* ---- sqlite_write_cascade.c: what a deletion takes along, and what outlives it */

/* The epochs of the leases that are about to go are kept: of one partition, of a topic, of an
 * agent. partition -1: none is bound. */
void sqlite_write_keep_epochs(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                              struct shmeta_str name, int64_t partition);
/* A slice whose segment is gone holds its object no longer. */
void sqlite_write_drop_slices(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                              struct shmeta_str topic, uint32_t partition, uint64_t before);

/* ---- sqlite_write_log.c: watermarks and epochs that came with segments, and the change log
 * ------------------------------------------ */

void sqlite_write_flush_watermarks(struct writing *w);
/* Remember a segment that was added under a fence: its epoch is recorded with the others of its
 * place. */
void sqlite_write_gather_epoch(struct writing *w, const struct backend_op *op);
void sqlite_write_gather_watermark(struct writing *w, const struct backend_op *op, int64_t value);
/* What the triggers would have written about an operation that succeeded. */
void sqlite_write_note_change(struct writing *w, const struct backend_op *op, const struct shmeta_result *r);
void sqlite_write_flush_log(struct writing *w);

/* ---- sqlite_write_topic.c: topics, partitions, segments ---- */

void sqlite_write_create_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_delete_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_update_watermark(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
/* Of W_SEGMENT_INSERT and W_SEGMENT_UPDATE. */
void sqlite_write_bind_segment(struct writing *w, sqlite3_stmt *q, const struct backend_op *op,
                               const struct shmeta_segment *s);
void sqlite_write_add_segment(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                              struct shmeta_result *r);
void sqlite_write_delete_before(struct writing *w, const struct backend_op *op, struct shmeta_result *r);

/* ---- sqlite_write_replace.c: segments in place of others ---- */

void sqlite_write_replace(struct writing *w, const struct backend_op *op, struct shmeta_result *r);

/* ---- sqlite_write_epochs.c: epochs under which something was written ---- */

/* From `start` on something was written under an epoch for the first time; added: a segment, which
 * may begin below what is known. */
void sqlite_write_record_epoch(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                               uint64_t epoch, uint64_t start, bool added);
/* The watermark, where it is to be set under an epoch under which nothing was written yet. false:
 * it is not. */
bool sqlite_write_before_epoch(struct writing *w, const struct backend_op *op, uint64_t *ret);
/* Segments were deleted. */
void sqlite_write_trim_epochs(struct writing *w, const struct backend_op *op);
void sqlite_write_forget_epochs(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic);

/* ---- sqlite_write_group.c: groups, offsets, agents ---- */

void sqlite_write_ensure_group(struct writing *w, const struct backend_op *op, struct shmeta_str group,
                               struct shmeta_result *r);
void sqlite_write_commit_offset(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_delete_group(struct writing *w, const struct backend_op *op);
void sqlite_write_register_agent(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_deregister_agent(struct writing *w, const struct backend_op *op);

/* ---- sqlite_write_lease.c: leases and their transfers ---- */

/* C7: a fence must be the current holder's, with the current epoch. At a place that is not there
 * the place is what is wrong. */
bool sqlite_write_passes_fence(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
/* An agent's heartbeat, and all leases that it holds: two statements. */
void sqlite_write_renew_agent(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_acquire_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_release_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_offer_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
/* Accept, complete, reject: each from one state to another, by one of the two parties. */
void sqlite_write_answer_offer(struct writing *w, const struct backend_op *op, const char *from, const char *to,
                               bool by_holder, struct shmeta_result *r);

/* ---- sqlite_write_object.c: objects and their slices ---- */

/* The object's row: its id, size and slices. -1: there is none. */
int64_t sqlite_write_find_object(struct writing *w, struct shmeta_str tenant, const struct shmeta_object *object,
                                 int64_t *ret_size, int64_t *ret_slices);
/* It has slices again: whoever listed it as deletable must see it without them anew. */
void sqlite_write_keep_object(struct writing *w, int64_t object);
/* The operation's partition has a slice of the object there. false: w->r is refused. */
bool sqlite_write_put_slice(struct writing *w, const struct backend_op *op, int64_t object,
                            const struct shmeta_segment *s);
void sqlite_write_commit_object(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_add_slice(struct writing *w, const struct backend_op *op, struct shmeta_result *r);
void sqlite_write_confirm_deleted(struct writing *w, const struct backend_op *op, struct shmeta_result *r);

#endif
