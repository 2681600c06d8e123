/* SPDX-License-Identifier: Apache-2.0
 * Rows of the source that cannot be served, as records of the store: which ones, why, and since
 * when.
 *
 * A read reports the rows of some extent: of a key, of a class, of everything. What it reported
 * replaces what the store had of that extent, in the transaction that applies the rows around, so
 * that one snapshot shows both. A row that is good again or gone thus leaves with the next read of
 * its place. A row whose key cannot be read leaves with the next read of all of its class.
 *
 * A topic or partition that is quarantined stands for the rows below it: they are counted in its
 * record. At most QUARANTINE_LISTED_MAX records are kept; further rows are counted by class, and of
 * such a class nothing is known to be absent. */
#ifndef SHMETA_WRITER_APPLY_QUARANTINE_H
#define SHMETA_WRITER_APPLY_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "base/err.h"
#include "base/keyset.h"
#include "shm/record/key.h"
#include "shm/record/record.h"

enum { QUARANTINE_LISTED_MAX = 10000, QUARANTINE_SHOWN = 10, QUARANTINE_CLASSES = 8 };

struct apply;
struct shmeta__txn;

/* What one read has reported so far. Zeroed: nothing. */
struct quarantine {
	bool partial; /* segments are not read: what hangs below a partition is as many rows as it
                       * was */
	struct keyset seen;
	uint64_t unlisted[QUARANTINE_CLASSES]; /* by class, as in the store */
	/* The row reported last: those that follow may hang below it. */
	bool held;
	struct backend_key row;
	uint64_t rows;
	char tenant[SHMETA_TENANT_MAX], topic[SHMETA_NAME_MAX], name[SHMETA_NAME_MAX], sentence[SHMETA_SENTENCE_MAX];
	size_t sentence_bytes;
	/* The last key but for its number, and that. */
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX];
	size_t key_bytes;
	uint32_t number;
};

/* A read begins: nothing was reported yet. */
void quarantine_begin(struct quarantine *q, bool partial);
/* Does the row hang below this one, so that it cannot be served without it? */
bool quarantine_covers(const struct backend_key *above, const struct backend_key *row);
/* The read reported this row, and rows - 1 others that hang below it. In the transaction of a; key
 * and sentence are copied. */
enum shmeta_status quarantine_row(struct apply *a, struct quarantine *q, const struct backend_key *row, uint64_t rows,
                                  const char *sentence, struct shmeta_err *err);
/* The row reported last is put: before a commit within a read. */
enum shmeta_status quarantine_flush(struct apply *a, struct quarantine *q, struct shmeta_err *err);
/* What was reported so far is put; nothing leaves. */
enum shmeta_status quarantine_read_end(struct apply *a, struct quarantine *q, struct shmeta_err *err);
/* That was all that there is of the key, as fetch() answers it: other rows of its extent leave. */
enum shmeta_status quarantine_key_end(struct apply *a, struct quarantine *q, const struct backend_key *key,
                                      struct shmeta_err *err);
/* That was everything. */
enum shmeta_status quarantine_pass_end(struct apply *a, struct quarantine *q, struct shmeta_err *err);

/* How many rows of each class are quarantined and not listed. */
enum shmeta_status quarantine_unlisted(struct shmeta__txn *txn, uint64_t ret[QUARANTINE_CLASSES],
                                       struct shmeta_err *err);
/* That was all that there is of rows of the classes up to this one that no key leads to
 * (quarantine_is_unnamed()): others leave. unlisted: so many rows of each of these classes are not
 * listed; NULL: as many as were. */
enum shmeta_status quarantine_unnamed_end(struct apply *a, struct quarantine *q, enum shmeta_class last,
                                          const uint64_t unlisted[QUARANTINE_CLASSES], struct shmeta_err *err);
/* A topic, partition or segment whose topic is nothing that can be asked for. */
bool quarantine_is_unnamed(const struct backend_key *row);

/* A read that changes nothing reported this row: differs() is called for rows of which the store
 * does not say the same, and at the end for topics, partitions and segments that were not reported.
 * unnamed() is called for each reported row that no key leads to; same: the store says so, too.
 * Keys and sentences die when they return. */
struct quarantine_compare {
	struct quarantine *q;
	struct shmeta__store *store;
	struct shmeta__txn *txn; /* a read transaction of it */
	void (*differs)(void *arg, const struct backend_key *row);
	void (*unnamed)(void *arg, const struct backend_key *row, uint64_t rows, struct shmeta_str sentence, bool same);
	void *arg;
};
enum shmeta_status quarantine_compare_row(const struct quarantine_compare *c, const struct backend_key *row,
                                          const char *sentence, struct shmeta_err *err);
enum shmeta_status quarantine_compare_end(const struct quarantine_compare *c, struct shmeta_err *err);

/* Is any committed offset or lease quarantined? *ret: 1, 0. */
enum shmeta_status quarantine_has_orphans(struct apply *a, bool *ret, struct shmeta_err *err);
void quarantine_free(struct quarantine *q);

#endif
