/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what stands beside an operation's statement on CockroachDB. There a statement
 * may change a table only once (but for INSERTs without ON CONFLICT), so what pg_write_kinds.c does
 * in one is done by several of the same transaction. */
#include <stdlib.h>

#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_write_kinds.h"

enum { ITEMS = 0 };
enum condition { ALWAYS, EPOCHS, EPOCHS_FENCED };

/* In the order in which they are sent. */
static const struct beside {
	enum write_kind kind;
	enum write_where where;
	enum pg_statement statement;
	int params; /* so many of its parameters, or ITEMS: all that the list of items is made of */
	enum condition condition;
} besides[] = {
#define CAP(kind)                                                         \
	{KIND_##kind, WRITE_BEHIND, PG_W_LED_CAP_MARK, 3, EPOCHS_FENCED}, \
	{                                                                 \
		KIND_##kind, WRITE_BEHIND, PG_W_LED_CAP, 3, EPOCHS_FENCED \
	}
	{KIND_TOPIC_CREATE, WRITE_BEFORE, PG_W_CLEAR_TOPICS, ITEMS, ALWAYS},
	{KIND_OBJECT, WRITE_BEFORE, PG_W_KEEP_OBJECTS, 4, ALWAYS},
	{KIND_REPLACE, WRITE_BEHIND, PG_W_REPLACE_DELETE, ITEMS, ALWAYS},
	{KIND_REPLACE, WRITE_BEHIND, PG_W_REPLACE_CHANGE, ITEMS, ALWAYS},
	{KIND_REPLACE, WRITE_BEHIND, PG_W_REPLACE_ADD, ITEMS, ALWAYS},
	{KIND_REPLACE, WRITE_BEHIND, PG_W_REPLACE_END, ITEMS, ALWAYS},
	/* What ends below the new log start is told by the segments that are still there. */
	{KIND_SEGMENTS_DELETE, WRITE_BEFORE, PG_W_LED_TRIM_MARK, 4, EPOCHS},
	{KIND_SEGMENTS_DELETE, WRITE_BEFORE, PG_W_LED_TRIM, 4, EPOCHS},
	CAP(WATERMARK),
	CAP(ADD),
	CAP(ADD_RAISE),
	CAP(ADD_PLAIN),
	CAP(ADD_RAISE_PLAIN),
	CAP(SLICE),
#undef CAP
};
enum { BESIDES = sizeof besides / sizeof besides[0] };

static int fields_of(enum write_kind kind)
{
	int count = 0;

	while (pg_write_kinds[kind].fields[count] != FIELD_END)
		count++;
	return count;
}

static bool any_fenced(const struct write_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].op->op->fence.agent_id.bytes > 0)
			return true;
	return false;
}

static bool applies(const struct beside *b, const struct writing *w, const struct write_item *items, size_t count,
                    enum write_where where)
{
	return !w->state->dialect->triggers && b->kind == (enum write_kind)items->kind && b->where == where &&
	       (b->condition == ALWAYS ||
	        (w->state->shape.epochs && (b->condition == EPOCHS || any_fenced(items, count))));
}

enum shmeta_status pg_write_send_beside(const struct writing *w, const struct write_item *items, size_t count,
                                        enum write_where where, const struct pg_params *params,
                                        struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct pg_params first;

	for (size_t i = 0; status == SHMETA_OK && i < BESIDES; i++)
		if (applies(&besides[i], w, items, count, where)) {
			first = *params;
			first.count = besides[i].params != ITEMS ? besides[i].params : fields_of(besides[i].kind);
			status = pg_send(w->state, w->conn, besides[i].statement, &first, err);
		}
	return status;
}

enum shmeta_status pg_write_take_beside(const struct writing *w, const struct write_item *items, size_t count,
                                        enum write_where where, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; status == SHMETA_OK && i < BESIDES; i++)
		if (applies(&besides[i], w, items, count, where))
			status = pg_next(w->state, w->conn, NULL, err);
	return status;
}

#define OF_PLACE(column) column " = i.topic{n: AND " column " COLLATE \"C\" = i.topic}"
#define SEGMENT_OF_PLACE OF_PLACE("s.topic") " AND s.partition_id = i.pid{o: AND s.organization_id = i.org}"
#define BELOW_GOAL "s.base_offset < i.goal AND s.end_offset < i.goal"
#define OF_SEGMENT SEGMENT_OF_PLACE " AND s.base_offset = i.base"
#define OF_OBJECT "b.tenant = i.tenant AND b.s3_bucket = i.bucket AND b.s3_key = i.key"
/* The mark of a replacement that goes, in force until its last statement. */
#define REPLACED "(SELECT true FROM shmeta_meta r WHERE r.name = " REPLACE_MARK " LIMIT 1) IS NOT NULL"
#define NEW_ONES "i.fresh = 1 AND i.kept = 0"
/* The list d: the epochs that are to go. Those that end at or below the log start as it will be,
 * but for the newest of them. */
#define TRIMMED                                                                                                                                                        \
	"WITH i AS MATERIALIZED (SELECT tenant, tenant{u:::uuid} AS org, topic, pid, max(goal) AS goal FROM "                                                          \
	"unnest($1::text[], $2::text[], $3::int8[], $4::int8[]) AS i(tenant, topic, pid, goal) GROUP BY tenant, topic, pid), "                                         \
	"b AS MATERIALIZED (SELECT i.tenant, i.topic, i.pid, coalesce((SELECT s.base_offset FROM segments s WHERE " SEGMENT_OF_PLACE                                   \
	" AND NOT (" BELOW_GOAL ") ORDER BY s.base_offset LIMIT 1), (SELECT p.high_watermark FROM "                                                                    \
	"partitions p WHERE " OF_PLACE(                                                                                                                                \
		"p.topic") " AND p.partition_id = i.pid{o: AND p.organization_id = i.org} LIMIT 1)) "                                                                  \
			   "AS low FROM i WHERE (SELECT true FROM segments s WHERE " SEGMENT_OF_PLACE                                                                  \
			   " AND " BELOW_GOAL " LIMIT 1) IS NOT NULL), "                                                                                               \
			   "e AS MATERIALIZED (SELECT e.tenant, e.topic, e.partition_id, e.epoch, b.low, lead(e.start) OVER (PARTITION BY e.tenant, "                  \
			   "e.topic, e.partition_id ORDER BY e.epoch) AS stop FROM b JOIN shmeta_leader_epochs e ON " LED_PLACE(                                       \
				   "b") " WHERE e.epoch > 0), "                                                                                                        \
					"n AS MATERIALIZED (SELECT tenant, topic, partition_id, max(epoch) AS epoch FROM e WHERE stop <= low GROUP BY tenant, topic, " \
					"partition_id), "                                                                                                              \
					"d AS MATERIALIZED (SELECT e.tenant, e.topic, e.partition_id, e.epoch FROM e JOIN n ON n.tenant = e.tenant AND "               \
					"n.topic = e.topic AND n.partition_id = e.partition_id WHERE e.stop <= e.low AND e.epoch < n.epoch) "
/* Beyond the newest that are kept. */
#define CAPPED                                                                                                           \
	"WITH b AS MATERIALIZED (SELECT DISTINCT tenant, topic, pid FROM unnest($1::text[], $2::text[], $3::int8[]) AS " \
	"i(tenant, topic, pid)), d AS MATERIALIZED (SELECT tenant, topic, partition_id, epoch FROM (SELECT e.tenant, "   \
	"e.topic, e.partition_id, e.epoch, row_number() OVER (PARTITION BY e.tenant, e.topic, e.partition_id ORDER BY "  \
	"e.epoch DESC) AS place FROM b JOIN shmeta_leader_epochs e ON " LED_PLACE(                                       \
		"b") " WHERE e.epoch > 0) e WHERE place > " LED_TEXT(LED_MOST) ") "
#define MARK                                                                                                       \
	"INSERT INTO shmeta_leader_epochs(tenant, topic, partition_id, epoch, start, created_at) SELECT DISTINCT " \
	"tenant, topic, partition_id, 0, 0, 0 FROM d ON CONFLICT DO NOTHING"
#define DROP                                                                                                     \
	"DELETE FROM shmeta_leader_epochs WHERE (tenant, topic, partition_id, epoch) IN (SELECT tenant, topic, " \
	"partition_id, epoch FROM d)"
#define WHERE_KEPT(statement) "{!e:SELECT 0}{e:" statement "}"
#define WHERE_OWN(statement) "{!w:SELECT 0}{w:" statement "}"

static const struct {
	enum write_kind kind;
	enum pg_statement statement;
	const char *text;
} texts[] = {
	/* Rows that a deletion without cascades left under the name. */
	{KIND_TOPIC_CREATE, PG_W_CLEAR_TOPICS,
         "@items DELETE FROM partitions s USING i WHERE " OF_PLACE(
		 "s.topic") "{o: AND s.organization_id = i.org} AND NOT "
                            "EXISTS(SELECT 1 FROM topics t WHERE " OF_PLACE(
				    "t.name") "{o: AND t.organization_id = i.org})"},
	{KIND_OBJECT, PG_W_KEEP_OBJECTS,
         WHERE_OWN("UPDATE shmeta_objects b SET unreferenced_at = NULL FROM unnest($1::text[], $2::text[], $3::text[], "
                   "$4::int8[]) AS i(tenant, bucket, key, size) WHERE " OF_OBJECT
                   " AND b.size_bytes = i.size AND b.unreferenced_at IS NOT NULL")},
	{KIND_REPLACE, PG_W_REPLACE_DELETE,
         WHERE_OWN(
		 "@items, x AS (DELETE FROM shmeta_slices x USING i WHERE " REPLACED
		 " AND x.tenant = i.tenant AND x.topic = i.topic AND x.partition_id = i.pid AND x.base_offset = i.base AND "
		 "i.fresh = 0 AND i.kept = 0 AND i.base NOT IN (SELECT i.base FROM i JOIN shmeta_objects b ON " OF_OBJECT
		 " WHERE " NEW_ONES ")) DELETE FROM segments s USING i WHERE " REPLACED
		 " AND i.fresh = 0 AND i.kept = 0 AND i.base NOT IN (SELECT base FROM i WHERE " NEW_ONES
		 ") AND " OF_SEGMENT)},
	{KIND_REPLACE, PG_W_REPLACE_CHANGE,
         WHERE_OWN(
		 "@items, y AS (INSERT INTO shmeta_slices(tenant, topic, partition_id, base_offset, object_id, position) SELECT "
		 "i.tenant, i.topic, i.pid, i.base, b.object_id, i.place FROM i JOIN shmeta_objects b ON " OF_OBJECT
		 " WHERE " REPLACED " AND " NEW_ONES
		 " ORDER BY i.base ON CONFLICT (tenant, topic, partition_id, base_offset) DO "
		 "UPDATE SET object_id = excluded.object_id, position = excluded.position) "
		 "UPDATE segments s SET id = i.id, end_offset = i.last, record_count = i.records, size_bytes = i.size, s3_bucket = "
		 "i.bucket, s3_key = i.key, created_at = i.created{t:, min_timestamp = i.oldest, max_timestamp = i.newest} FROM i "
		 "WHERE " REPLACED " AND " NEW_ONES " AND " OF_SEGMENT)},
	{KIND_REPLACE, PG_W_REPLACE_ADD,
         WHERE_OWN(
		 "@items INSERT INTO segments({o:organization_id, }id, topic, partition_id, base_offset, end_offset, record_count, "
		 "size_bytes, s3_bucket, s3_key, created_at{t:, min_timestamp, max_timestamp}) SELECT {o:org, }id, topic, pid, base, "
		 "last, records, size, bucket, key, created{t:, oldest, newest} FROM i WHERE " REPLACED " AND " NEW_ONES
		 " AND NOT EXISTS(SELECT 1 FROM segments s WHERE " OF_SEGMENT ") ORDER BY base")},
	{KIND_REPLACE, PG_W_REPLACE_END,
         WHERE_OWN("@items DELETE FROM shmeta_meta r USING i WHERE i.n = 1 AND r.name = " REPLACE_MARK)},
	{KIND_SEGMENTS_DELETE, PG_W_LED_TRIM_MARK, WHERE_KEPT(TRIMMED MARK)},
	{KIND_SEGMENTS_DELETE, PG_W_LED_TRIM, WHERE_KEPT(TRIMMED DROP)},
	{KIND_ADD, PG_W_LED_CAP_MARK, WHERE_KEPT(CAPPED MARK)},
	{KIND_ADD, PG_W_LED_CAP, WHERE_KEPT(CAPPED DROP)},
};

bool pg_write_beside_texts(struct pg_state *state)
{
	bool ok = true;

	for (size_t i = 0; ok && i < sizeof texts / sizeof texts[0]; i++)
		ok = pg_set_text(state, texts[i].statement, pg_write_expand(state, texts[i].kind, texts[i].text));
	return ok;
}
