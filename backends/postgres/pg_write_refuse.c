/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the answers of operations that the server does not take. */
#include <string.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_writing.h"

bool pg_write_failed_for_now(const struct pg_conn *conn)
{
	return pg_failed_with(conn, "55P03") || pg_failed_with(conn, "57014") || pg_failed_with(conn, "40");
}

bool pg_write_failed_for_rows(const struct pg_conn *conn)
{
	/* The session's state, the server's disk, its going down; and what the connection itself
	 * mends by preparing its statements anew. All the rest can be one item's: its data, a
	 * trigger that it fires and what that connects and logs in to, a right on the table that it
	 * needs, a page of its rows that cannot be read. */
	static const char *const others[] = {"25", "26", "53100", "57P"};

	if (conn->sqlstate[0] == '\0' || conn->stale_plan || !pg_connected(conn))
		return false;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (pg_failed_with(conn, others[i]))
			return false;
	return true;
}

bool pg_write_failed_for_items(const struct writing *w)
{
	return w->incomplete || pg_write_failed_for_rows(w->conn);
}

static void refuse_for_now(struct writing *w, struct write_item *item, const char *sqlstate)
{
	char name[ROWS_QUOTE_MAX];

	if (strcmp(sqlstate, "57014") == 0)
		refuse(item->result, SHMETA_ERR_BUSY,
		       "the source did not end this within %u ms and gave it up (57014): try again later",
		       pg_timeout_of(w->state) - pg_timeout_of(w->state) / 10);
	else if (strcmp(sqlstate, "55P03") != 0)
		refuse(item->result, SHMETA_ERR_BUSY,
		       "other writers of the source got in the way each time (%s): try again later", sqlstate);
	else if (pg_write_locks_partition((enum write_kind)item->kind))
		refuse(item->result, SHMETA_ERR_BUSY,
		       "topic %s, partition %u: a row that this needs is locked by another session: try again later",
		       rows_quote(name, item->op->op->name), item->op->op->partition_id);
	else
		refuse(item->result, SHMETA_ERR_BUSY,
		       "a row that this needs is locked by another session: try again later");
}

static bool adds_segment(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_ADD_SEGMENT || op->type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK ||
	       op->type == SHMETA_OP_ADD_SLICE;
}

bool pg_write_cannot(const char *sqlstate)
{
	static const char *const classes[] = {"08", "28", "3D", "53", "57", "58", "F0", "HV", "XX"};

	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

void pg_write_refused(struct writing *w, struct write_item *item, const char *sqlstate, const char *said)
{
	const enum write_kind kind = (enum write_kind)item->kind;
	const bool reference = strcmp(sqlstate, "23503") == 0;
	struct shmeta_result *r = item->result;

	if (strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "57014") == 0 || strncmp(sqlstate, "40", 2) == 0)
		refuse_for_now(w, item, sqlstate);
	else if (reference && w->state->shape.organization &&
	         (kind == KIND_TOPIC_CREATE || kind == KIND_GROUP_ENSURE || kind == KIND_OFFSET ||
	          kind == KIND_AGENT_PUT))
		refuse_tenant(item->op, r);
	else if (reference && (kind == KIND_ACQUIRE || kind == KIND_COMPLETE))
		refuse(r, SHMETA_ERR_NOT_FOUND, "the lease is refused by the source");
	/* The only number that grows there; how long a lease may last is bounded. */
	else if (strcmp(sqlstate, "22003") == 0 && (kind == KIND_ACQUIRE || kind == KIND_COMPLETE))
		refuse_epoch_spent(INT64_MAX, r);
	else if (strcmp(sqlstate, "22003") == 0 && adds_segment(item->op->op) &&
	         item->op->op->u.segment.record_count > INT32_MAX)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT,
		       "record_count %u is out of range: the source's column may be 0 to %d",
		       item->op->op->u.segment.record_count, INT32_MAX);
	else if (strcmp(sqlstate, "23505") == 0 && kind == KIND_AGENT_PUT)
		refuse_address(&item->op->op->u.agent, r);
	else if (strcmp(sqlstate, "23505") == 0)
		refuse(r, SHMETA_ERR_CONFLICT, "something of that key is there already");
	else if (sqlstate[0] == '\0')
		refuse_undone(r);
	else if (pg_write_cannot(sqlstate))
		refuse(r, SHMETA_ERR_SOURCE, "the source cannot do it: %s (%s)", said, sqlstate);
	else
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the source refuses it: %s (%s)", said, sqlstate);
}
