/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what there is to know of each kind of operation (pg_write_kinds.c), for what
 * sends and takes them (pg_write_send.c), as pg_write_texts.c spells them. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_WRITE_KINDS_H
#define SHMETA_BACKENDS_POSTGRES_PG_WRITE_KINDS_H

#include "backends/postgres/pg_writing.h"

/* The columns of the lists that statements are given: F(name, type, column). */
#define WRITE_FIELDS(F)                 \
	F(TENANT, text, tenant)         \
	F(TOPIC, text, topic)           \
	F(PID, int8, pid)               \
	F(PARTS, int8, parts)           \
	F(RETENTION, int8, keep)        \
	F(CONFIG, text, config)         \
	F(POLICY, text, policy)         \
	F(OFFSET, int8, goal)           \
	F(ID, text, id)                 \
	F(BASE, int8, base)             \
	F(LAST, int8, last)             \
	F(RECORDS, int8, records)       \
	F(SIZE, int8, size)             \
	F(BUCKET, text, bucket)         \
	F(KEY, text, key)               \
	F(CREATED, int8, created)       \
	F(OLDEST, int8, oldest)         \
	F(NEWEST, int8, newest)         \
	F(FENCE, text, fence)           \
	F(EPOCH, int8, epoch)           \
	F(GROUP, text, grp)             \
	F(NOTE, text, note)             \
	F(AGENT, text, agent)           \
	F(OTHER, text, other)           \
	F(ADDRESS, text, address)       \
	F(ZONE, text, zone)             \
	F(AGENT_GROUP, text, agent_grp) \
	F(BEAT, int8, beat)             \
	F(STARTED, int8, started)       \
	F(ABOUT, text, about)           \
	F(LASTS, int8, lasts)           \
	F(TRANSFER, int8, xfer)         \
	F(POSITION, int8, place)        \
	F(WHOLE, int8, whole)           \
	F(RUN, int8, run)               \
	F(TOP, int8, top)               \
	F(FRESH, int8, fresh)           \
	F(KEPT, int8, kept)             \
	F(COMPACTION, int8, compaction)

enum write_field {
	FIELD_END,
#define F(name, type, column) FIELD_##name,
	WRITE_FIELDS(F)
#undef F
};

/* The row of shmeta_meta that says, within the transaction, that the replacement of item i goes
 * (pg_write_beside.c). */
#define REPLACE_MARK "'replace ' || i.tenant || ' ' || i.pid::text || ' ' || i.topic"

struct write_kind_info {
	const char *sql;             /* in the words that pg_write_kinds.c explains */
	enum write_field fields[24]; /* of the list of items */
	struct write_touch touches[TOUCHES_MAX];
	bool own; /* needs shmeta's own tables */
	/* Of the list of runs, where the kind has one: then answers are about runs, and a row for
	 * run 0 says how many items were written. */
	enum write_field runs[8];
	/* The list has a row for each segment of its one item, the old ones first, instead of one
	 * for each item. */
	bool segments;
};
extern const struct write_kind_info pg_write_kinds[KIND_COUNT];

/* A row of an answer that is about this item. */
void pg_write_answer_row(struct writing *w, struct write_item *item, const PGresult *result, int row);

extern const struct write_statement {
	enum pg_statement statement;
	size_t most; /* items in one */
} pg_write_statements[KIND_COUNT];

#endif
