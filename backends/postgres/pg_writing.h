/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: one batch of operations on its way through its transaction. From the bottom to
 * the top:
 *   pg_write_kinds     what each kind of operation says to the server
 *   pg_write_order     what may share a statement, and what comes after what
 *   pg_write_refuse    what a failure means for an operation; pg_write_answers: what an answer
 *                      means
 *   pg_write_send      lists of operations, to a statement and back
 *   pg_write_beside    what a statement cannot do that may change a table only once
 *   pg_write_run       locks, statements, and what is done again
 *   pg_write_apart     the same with each statement behind a savepoint
 *   pg_write_resolve   a COMMIT without an answer
 *   pg_write           the batch: collect, run, commit, tell */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_WRITING_H
#define SHMETA_BACKENDS_POSTGRES_PG_WRITING_H

#include "backends/postgres/pg_write.h"
#include "backends/renewed.h"

/* What has a statement of its own, in the order in which statements of one level are sent. ADD and
 * ADD_RAISE differ in the watermark; those that are _PLAIN take it that nothing is in their way,
 * and _KNOWN ones also that no epoch is to be recorded. K(name, at most so many in one statement):
 * joins of two lists within a statement are small ones for the kinds that have them. */
#define WRITE_KINDS(K)           \
	K(TOPIC_DELETE, 256)     \
	K(TOPIC_CREATE, 256)     \
	K(WATERMARK, 4096)       \
	K(SEGMENTS_DELETE, 4096) \
	K(REPLACE, 1)            \
	K(ADD, 4096)             \
	K(ADD_RAISE, 4096)       \
	K(ADD_PLAIN, 4096)       \
	K(ADD_RAISE_PLAIN, 4096) \
	K(ADD_KNOWN, 4096)       \
	K(ADD_RAISE_KNOWN, 4096) \
	K(GROUP_DELETE, 4096)    \
	K(GROUP_ENSURE, 4096)    \
	K(OFFSET, 4096)          \
	K(AGENT_DELETE, 256)     \
	K(AGENT_PUT, 1024)       \
	K(RENEW, 256)            \
	K(RELEASE_LEASE, 256)    \
	K(ACQUIRE, 256)          \
	K(OFFER, 256)            \
	K(ACCEPT, 256)           \
	K(REJECT, 256)           \
	K(COMPLETE, 256)         \
	K(OBJECT, 256)           \
	K(SLICE, 4096)           \
	K(CONFIRM, 256)

enum write_kind {
#define K(name, most) KIND_##name,
	WRITE_KINDS(K)
#undef K
		KIND_COUNT
};

/* What an operation reads or writes, so that operations that do not care about each other can share
 * a statement. */
enum write_resource {
	RES_NONE,
	RES_TOPIC,    /* name                              */
	RES_DATA,     /* segments and watermark of a place */
	RES_BASE,     /* place, base offset                */
	RES_ID,       /* a segment's                       */
	RES_LEASE,    /* of a place                        */
	RES_GROUP,    /* group_id                          */
	RES_AGENT,    /* agent_id                          */
	RES_TO_AGENT, /* the same of to_agent_id           */
	RES_ADDRESS,  /* of an agent                       */
	RES_TRANSFER, /* transfer_id                       */
	RES_OBJECT,   /* bucket, key                       */
	RES_LEASES,   /* all of them                       */
	RES_AGENTS,
	RES_TRANSFERS,
	RES_SLICES
};

/* EXCLUSIVE: after every former use of it, and before every later one. SHARED: beside others that
 * share. A number from IN_TURN on: beside or after those of the same number, whose order one
 * statement keeps, after all others. */
enum { USE_EXCLUSIVE, USE_SHARED, USE_IN_TURN };

struct write_touch {
	uint8_t resource, use;
};
enum { TOUCHES_MAX = 8 };

struct write_item {
	const struct backend_op *op;
	struct shmeta_result *result;
	const struct shmeta_op *object; /* of a slice                                     */
	uint32_t index, level;
	uint32_t run; /* of one place and fence within its statement, from 1; for kinds that know
                       * runs */
	int64_t top;  /* the run's first item: one beyond the run's last offset */
	uint8_t kind;
	bool again;   /* what was in its way could not be seen yet */
	bool undone;  /* refused after a part of it was written: the statement must be taken back */
	bool suspect; /* what it needs was locked a moment ago, and is not waited for */
};

struct writing {
	struct pg_state *state;
	struct pg_conn *conn;
	const struct backend_op *ops;
	size_t count;
	struct shmeta_result *results;
	int64_t asked_ms;         /* by the caller's clock                                   */
	int64_t now_ms;           /* by the source's clock, as far as that is known          */
	int64_t distance_ms;      /* how far that is ahead of the caller's                   */
	uint64_t begun_ns;        /* when the transaction's first statement was sent         */
	struct write_item *items; /* those that go to the server, in order of level, kind and
                                   * index */
	size_t item_count;
	size_t sent;      /* of these by start(): their answers have not been taken yet */
	uint64_t courses; /* as the state's when it was begun */
	struct pg_array arrays[PG_PARAMS_MAX];
	struct pg_array lock_tenants, lock_topics, lock_partitions, lock_buckets, lock_keys, lock_owners, gone_tenants,
		gone_topics;
	struct renewed renewed;
	bool apart;                /* each statement stands behind a savepoint (pg_write_apart.c) */
	bool incomplete;           /* the last attempt ended because rows are not there that no
                                    * answer accounts for */
	uint64_t patient_until_ns; /* apart: from then on no lock is waited for */
	char transaction[24], server[64],
		origin[24]; /* its id, and since when the server has been up: to ask what became of
                             * it */
};

/* Into levels (pg_write_order.c). false: no memory. */
bool pg_write_order(struct writing *w);
/* Does the kind, plain or careful, add segments? */
bool pg_write_is_add(enum write_kind kind);
/* Do they belong to the same partition of the same tenant? */
bool pg_write_same_place(const struct backend_op *a, const struct backend_op *b);
/* The kind of an operation's statement. */
enum write_kind pg_write_kind_of(enum shmeta_op_type type);
/* The kind that takes it that nothing is in the way (known: and no epoch is to be recorded), and
 * the one that does not; the kind itself where there is none. */
enum write_kind pg_write_plain(enum write_kind kind, bool known);
enum write_kind pg_write_careful(enum write_kind kind);
/* Does it need shmeta's own tables? */
bool pg_write_needs_own(enum write_kind kind);
size_t pg_write_most(enum write_kind kind);
/* At most TOUCHES_MAX, ended by RES_NONE. */
const struct write_touch *pg_write_touches(enum write_kind kind);
/* Queue the statement of these items, all of one kind. */
enum shmeta_status pg_write_send(struct writing *w, struct write_item *items, size_t count, struct backend_error *err);
/* What it answered. false: some items were not written, and nothing says why; then no result means
 * anything. */
bool pg_write_answer(struct writing *w, struct write_item *items, size_t count, const PGresult *result);
/* One that the server will not take, by what it said about it alone. */
void pg_write_refused(struct writing *w, struct write_item *item, const char *sqlstate, const char *said);
/* A deletion's own cascades are done when its statement has ended, so another one looks whether
 * they were: with the same parameters, it answers with a number that is to be 0. PG_STATEMENTS: the
 * kind has none. */
enum pg_statement pg_write_looks_back(const struct writing *w, enum write_kind kind);
/* Where a statement may change a table only once, others do the rest of what a kind does: before
 * its own statement, of these items, or behind it. */
enum write_where { WRITE_BEFORE, WRITE_BEHIND };
/* Queue them; they are given the first parameters of that statement. */
enum shmeta_status pg_write_send_beside(const struct writing *w, const struct write_item *items, size_t count,
                                        enum write_where where, const struct pg_params *params,
                                        struct backend_error *err);
/* Take their results, which say nothing. */
enum shmeta_status pg_write_take_beside(const struct writing *w, const struct write_item *items, size_t count,
                                        enum write_where where, struct backend_error *err);
/* A text about items of the kind, in the words of pg_write_kinds.c; NULL: no memory. */
char *pg_write_expand(const struct pg_state *state, enum write_kind kind, const char *text);
/* Which other items wait for the same rows as this one, by the first of its resources that is not
 * shared. */
uint64_t pg_write_resource_hash(const struct write_item *item);

/* ---- pg_write_run.c */

/* Locks: those of the list's topics, partitions (where they are wanted) and objects. */
enum shmeta_status pg_write_send_preludes(struct writing *w, bool transaction, struct backend_error *err);
enum shmeta_status pg_write_take_preludes(struct writing *w, bool transaction, struct backend_error *err);
void pg_write_gather_locks(struct writing *w, const struct write_item *items, size_t count);
bool pg_write_locks_partition(enum write_kind kind);
size_t pg_write_statement_of(const struct write_item *items, size_t count);
enum shmeta_status pg_write_take_statement(struct writing *w, struct write_item *items, size_t count,
                                           struct backend_error *err);
/* A slice shares its object's refusal, whatever else is wrong with it. */
void pg_write_refuse_with_object(struct writing *w);
typedef enum shmeta_status write_runner(struct writing *w, struct write_item *items, size_t count,
                                        struct backend_error *err);
/* After the items were run: those that could not see what was in their way, again, a few times. */
enum shmeta_status pg_write_look_again(struct writing *w, const struct write_item *items, size_t count,
                                       write_runner *run_all, struct backend_error *err);

/* ---- pg_write_refuse.c, pg_write_apart.c */

/* Did the connection's last statement fail for something that one row of it may be alone with? */
bool pg_write_failed_for_rows(const struct pg_conn *conn);
/* What an operation needs does not work: the file or the page that it lies in, memory, another
 * server that a trigger asks. It is nothing that the operation says, and may be done when it is
 * tried again. */
bool pg_write_cannot(const char *sqlstate);
/* Did the last attempt fail for something that one item may be alone with? Otherwise it was the
 * connection, or the server. */
bool pg_write_failed_for_items(const struct writing *w);
/* Was it a lock, a limit in time, or a conflict of two writers, so that it may be done later? */
bool pg_write_failed_for_now(const struct pg_conn *conn);
/* Was what the item needs locked by another session a moment ago? */
bool pg_write_is_suspect(const struct pg_state *state, const struct write_item *item);
/* All items, each statement behind a savepoint: one that fails is done in halves until its culprit
 * is alone and refused, or answered ERR_BUSY where another session's lock is in its way. */
enum shmeta_status pg_write_apart(struct writing *w, struct backend_error *err);

/* ---- pg_write_resolve.c */

/* What became of the COMMIT; err: what is said as long as nobody knows. */
enum shmeta_status pg_write_resolve(struct writing *w, struct backend_error *err);

#endif
