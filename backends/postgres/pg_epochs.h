/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: leader epochs (backends/leader_epochs.h): where one ends, and the parts of the
 * statements of operations that keep them, in the words of pg_write_kinds.c. Rows are looked up by
 * their key alone, and those that go are named by where they lie, so that nothing depends on what
 * the planner believes of the table. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_EPOCHS_H
#define SHMETA_BACKENDS_POSTGRES_PG_EPOCHS_H

#include "backends/leader_epochs.h"
#include "backends/postgres/pg_state.h"

#define LED_MOST 4096
#define LED_TEXT_OF(number) #number
#define LED_TEXT(number) LED_TEXT_OF(number)
_Static_assert(LED_MOST == LEADER_EPOCHS_MOST, "statements spell it");

#define LED_PLACE(of) "e.tenant = " of ".tenant AND e.topic = " of ".topic AND e.partition_id = " of ".pid"
/* Of the item named i: true where its epoch is known, by that condition. */
#define LED_KNOWN(condition)                                                                                \
	"(SELECT true FROM shmeta_leader_epochs e WHERE " LED_PLACE("i") " AND e.epoch = i.epoch" condition \
									 " LIMIT 1) IS NOT NULL"
/* Drop these rows, and mark their partitions. On CockroachDB, where a statement may change a table
 * only once, statements of their own do that (pg_write_beside.c). */
#define LED_DROP(rows)                                                                                                    \
	"le AS (DELETE FROM shmeta_leader_epochs WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM " rows                         \
	" x)) RETURNING tenant, topic, partition_id), "                                                                   \
	"lm AS (INSERT INTO shmeta_leader_epochs(tenant, topic, partition_id, epoch, start, created_at) SELECT DISTINCT " \
	"tenant, topic, partition_id, 0, 0, 0 FROM le ON CONFLICT DO NOTHING)"
/* Record what `from` gives: tenant, topic, pid, epoch, start. What the statement records it does
 * not see: beside that of it there is room for one less of the others. */
#define LED_RECORD(from, again)                                                                                            \
	"{e:, lr AS (INSERT INTO shmeta_leader_epochs AS e(tenant, topic, partition_id, epoch, start, created_at) SELECT " \
	"i.tenant, i.topic, i.pid, i.epoch, i.start, @clock FROM (" from                                                   \
	") i ORDER BY 1, 2, 3 ON CONFLICT (tenant, topic, partition_id, epoch) DO " again                                  \
	" RETURNING e.tenant, e.topic, e.partition_id AS pid, e.epoch){g:, " LED_DROP(                                     \
		"(SELECT e.* FROM lr CROSS JOIN LATERAL (SELECT e.ctid, e.epoch "                                          \
		"FROM shmeta_leader_epochs e WHERE " LED_PLACE(                                                            \
			"lr") " AND e.epoch > 0 AND e.epoch <> lr.epoch ORDER BY e.epoch DESC OFFSET " LED_TEXT(LED_MOST) " - 1) e)") "}}"
/* Of a list of adds, or of runs of them, the ones of which this holds. */
#define LED_ADDS(list, written)                                                                             \
	LED_RECORD("SELECT tenant, topic, pid, epoch, min(base) AS start FROM " list                        \
	           " i WHERE fence <> '' AND NOT (" LED_KNOWN(                                              \
			   " AND e.start <= i.base") ") AND " written "GROUP BY tenant, topic, pid, epoch", \
	           "UPDATE SET start = excluded.start WHERE excluded.start < e.start")
/* Of b (tenant, topic, pid, low: the log start): the epochs that ended there, but for the newest of
 * them. */
#define LED_TRIM                                                                                                  \
	LED_DROP("(SELECT e.* FROM b CROSS JOIN LATERAL (SELECT e.*, max(CASE WHEN e.stop <= b.low THEN e.epoch " \
	         "END) OVER () AS newest FROM (SELECT e.ctid, e.epoch, "                                          \
	         "lead(e.start) OVER (ORDER BY e.epoch) AS stop FROM shmeta_leader_epochs e WHERE " LED_PLACE(    \
			 "b") " AND e.epoch > 0) e) e WHERE e.stop <= b.low AND e.epoch < e.newest)")

/* Does an add of the operation have nothing to record? Its fence's epoch is known to be recorded
 * from its base or below, or it has none. */
bool pg_epoch_is_known(const struct pg_state *state, const struct backend_op *op);
/* An add was committed, with its epoch. */
void pg_epoch_know(struct pg_state *state, const struct backend_op *op);
/* Nothing is known: the connection may lead elsewhere. */
void pg_epochs_forget(struct pg_state *state);
enum shmeta_status pg_epoch_end(void *data, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                struct backend_error *err);
bool pg_epoch_texts(struct pg_state *state);

#endif
