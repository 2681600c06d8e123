/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what each kind of operation takes from a row that the server answers. */
#include "backends/op_errors.h"
#include "backends/postgres/pg_write_kinds.h"
#include "backends/replace.h"

static bool yes(const PGresult *result, int row, int column)
{
	return pg_int(result, row, column) != 0;
}

/* The server took the statement, and did less than it says, or something else. */
static void answer_undone(struct writing *w, struct write_item *item)
{
	pg_write_refused(w, item, "", "");
	item->undone = true;
}

/* n */
static void answer_undone_row(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)result, (void)row;
	answer_undone(w, item);
}

/* n: what was in its way cannot be seen yet */
static void answer_again(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)w, (void)result, (void)row;
	item->again = true;
}

/* n, the topic was made, it was there */
static void answer_exists(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (yes(result, row, 1))
		answer_undone(w, item);
	else if (yes(result, row, 2))
		refuse_topic_exists(item->op->op, item->result);
	else
		item->again = true;
}

/* n, it is there */
static void answer_no_topic(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (yes(result, row, 1))
		answer_undone(w, item);
	else
		refuse_place(item->op->op, false, item->result);
}

/* n, partition, fence, topic */
static void answer_place(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (!yes(result, row, 1))
		refuse_place(item->op->op, yes(result, row, 3), item->result);
	else if (!yes(result, row, 2))
		refuse_fence(item->op->op, item->result);
	else
		answer_undone(w, item);
}

/* n, partition, fence, topic, a segment at its place, an identical one, end, records, size,
 * created, oldest, newest, one of its id, its object, a part of it was written */
static void answer_segment(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	struct shmeta_segment *e = &item->result->existing;

	if (yes(result, row, 14)) {
		answer_undone(w, item);
		return;
	}
	/* Its object was refused (pg_write.c says so to all of its slices), or is somebody else's
	 * of this moment. */
	if (!yes(result, row, 13)) {
		item->again = true;
		return;
	}
	if (!yes(result, row, 1) || !yes(result, row, 2)) {
		answer_place(w, item, result, row);
		return;
	}
	if (yes(result, row, 4)) {
		e->partition_id = item->op->op->partition_id;
		e->base_offset = item->op->op->u.segment.base_offset;
		e->end_offset = (uint64_t)pg_int(result, row, 6);
		e->record_count = (uint32_t)pg_int(result, row, 7);
		e->size_bytes = (uint64_t)pg_int(result, row, 8);
		e->created_at_ms = pg_int(result, row, 9);
		e->min_timestamp_ms = pg_int(result, row, 10);
		e->max_timestamp_ms = pg_int(result, row, 11);
		refuse_segment(item->op->op, yes(result, row, 5), item->result);
	} else if (yes(result, row, 12)) {
		refuse_segment_id(item->op->op, item->result);
	} else {
		item->again = true;
	}
}

/* n, how many went, how many were to go */
static void answer_count(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	item->result->count = (uint64_t)pg_int(result, row, 1);
	if (pg_int(result, row, 1) < pg_int(result, row, 2))
		answer_undone(w, item);
}

/* n, the address is another's, the agent is another organization's */
static void answer_agent(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)w;
	if (yes(result, row, 1))
		refuse_address(&item->op->op->u.agent, item->result);
	else if (yes(result, row, 2))
		refuse_agent_id(&item->op->op->u.agent, item->result);
	else
		item->again = true;
}

/* n, partition, fence, topic, the highest epoch, the given one is not below it, it was done before,
 * the first old base that differs, one is there, the base of one between, of one behind, one before
 * reaches, the row of a new one that may not come and its object's size, the row of one whose id is
 * taken; how many were deleted, changed, added */
static void answer_replaced(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	const struct shmeta_replace *p = &item->op->op->u.replace;
	const bool timestamps = w->state->shape.timestamps;
	uint64_t leaving = replace_leaving(p, timestamps), coming = 0, whole = (uint64_t)pg_int(result, row, 13);
	struct shmeta_result *r = item->result;

	for (uint32_t i = 0; i < p->new_count; i++)
		coming += !replace_keeps(p, &p->new_segments[i], timestamps);
	if (!yes(result, row, 1) || !yes(result, row, 2))
		answer_place(w, item, result, row);
	else if (!yes(result, row, 5))
		replace_refuse_epoch(p->compaction_epoch, (uint64_t)pg_int(result, row, 4), r);
	else if (yes(result, row, 6))
		r->count = 0;
	else if (!pg_is_null(result, row, 7))
		replace_refuse(yes(result, row, 8) ? REPLACE_OTHER : REPLACE_MISSING, (uint64_t)pg_int(result, row, 7),
		               r);
	else if (!pg_is_null(result, row, 9))
		replace_refuse(REPLACE_BETWEEN, (uint64_t)pg_int(result, row, 9), r);
	else if (!pg_is_null(result, row, 10))
		replace_refuse(REPLACE_IN_THE_WAY, (uint64_t)pg_int(result, row, 10), r);
	else if (yes(result, row, 11))
		replace_refuse(REPLACE_IN_THE_WAY, p->new_segments[0].base_offset, r);
	else if (!pg_is_null(result, row, 12))
		(void)replace_refuse_new(p, &p->new_segments[pg_int(result, row, 12) - 1 - p->old_count],
		                         pg_is_null(result, row, 13) ? NULL : &whole, r);
	else if (!pg_is_null(result, row, 14))
		replace_refuse_id(p->new_segments[pg_int(result, row, 14) - 1 - p->old_count].id, r);
	else if ((uint64_t)(pg_int(result, row, 15) + pg_int(result, row, 16)) != leaving ||
	         (uint64_t)(pg_int(result, row, 16) + pg_int(result, row, 17)) != coming)
		answer_undone(w, item);
	else
		r->count = leaving;
}

/* n, the heartbeat is set, the agent is there, its leases, how many of them were renewed; and for
 * each of these n, then its place */
static void answer_renewed(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (!pg_is_null(result, row, 5)) {
		renewed_add(&w->renewed, item->op->tenant, pg_text(result, row, 5), (uint32_t)pg_int(result, row, 6));
		return;
	}
	item->result->count = (uint64_t)pg_int(result, row, 4);
	if (!yes(result, row, 2))
		refuse_agent(item->op->op->agent_id, item->result);
	else if (!yes(result, row, 1) || pg_int(result, row, 4) < pg_int(result, row, 3))
		answer_undone(w, item);
}

/* epoch, since, until: from column first on */
static void set_lease(struct write_item *item, uint32_t partition, const PGresult *result, int row, int first)
{
	item->result->lease.partition_id = partition;
	item->result->lease.epoch = (uint64_t)pg_int(result, row, first);
	item->result->lease.acquired_at_ms = pg_int(result, row, first + 1);
	item->result->lease.lease_expires_at_ms = pg_int(result, row, first + 2);
}

/* n, partition, topic, agent, free, how long the other's lease lasts, epoch, since, until */
static void answer_acquire(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)w;
	if (!yes(result, row, 1))
		refuse_place(item->op->op, yes(result, row, 2), item->result);
	else if (!yes(result, row, 3))
		refuse_agent(item->op->op->agent_id, item->result);
	else if (!yes(result, row, 4))
		refuse_leased(item->op->op, pg_int(result, row, 5), item->result);
	else if (pg_is_null(result, row, 6))
		item->again = true; /* taken by somebody else in this moment */
	else
		set_lease(item, item->op->op->partition_id, result, row, 6);
}

/* n, the agent holds it */
static void answer_release(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (yes(result, row, 1))
		answer_undone(w, item);
	else
		refuse_release(item->op->op, item->result);
}

/* n, partition, topic, agent, held, on offer, transfer */
static void answer_offer(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	const struct shmeta_op *op = item->op->op;

	(void)w;
	if (!yes(result, row, 1))
		refuse_place(item->op->op, yes(result, row, 2), item->result);
	else if (!yes(result, row, 3))
		refuse_agent(op->to_agent_id, item->result);
	else if (!yes(result, row, 4) || yes(result, row, 5))
		refuse_offer(op, yes(result, row, 4), item->result);
	else
		item->result->transfer_id = (uint64_t)pg_int(result, row, 6);
}

static struct transfer_state transfer_of(const PGresult *result, int row)
{
	return (struct transfer_state){.found = yes(result, row, 1),
	                               .addressed = yes(result, row, 2),
	                               .expected = yes(result, row, 3),
	                               .in_time = yes(result, row, 4),
	                               .state = pg_text(result, row, 5)};
}

/* n, found, addressed, expected, in time, state */
static void answer_transfer(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	struct transfer_state transfer = transfer_of(result, row);

	(void)w;
	(void)refuse_transfer(item->op->op, &transfer, item->result);
}

/* the same, then: held, the new holder is known, partition, epoch, since, until */
static void answer_complete(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	struct transfer_state transfer = transfer_of(result, row);

	transfer.held = yes(result, row, 6);
	if (refuse_transfer(item->op->op, &transfer, item->result))
		return;
	if (!yes(result, row, 7))
		refuse(item->result, SHMETA_ERR_NOT_FOUND, "transfer %llu: the agent it went to is gone",
		       (unsigned long long)item->op->op->transfer_id);
	else if (pg_is_null(result, row, 9))
		answer_undone(w, item); /* the transfer is completed, the lease is not given */
	else
		set_lease(item, (uint32_t)pg_int(result, row, 8), result, row, 9);
}

/* n, there, size, slices */
static void answer_object(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)w;
	if (yes(result, row, 1))
		refuse_object(&item->op->op->u.object, (uint64_t)pg_int(result, row, 2),
		              (uint64_t)pg_int(result, row, 3), item->result);
	else
		item->again = true;
}

/* n, slices */
static void answer_confirm(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	(void)w;
	refuse_object_used((uint64_t)pg_int(result, row, 1), item->result);
}

typedef void answer_fn(struct writing *w, struct write_item *item, const PGresult *result, int row);

static answer_fn *const answers[KIND_COUNT] = {
	[KIND_TOPIC_CREATE] = answer_exists,
	[KIND_TOPIC_DELETE] = answer_no_topic,
	[KIND_WATERMARK] = answer_place,
	[KIND_SEGMENTS_DELETE] = answer_count,
	[KIND_ADD] = answer_segment,
	[KIND_ADD_RAISE] = answer_segment,
	[KIND_ADD_PLAIN] = answer_place,
	[KIND_ADD_RAISE_PLAIN] = answer_place,
	[KIND_ADD_KNOWN] = answer_place,
	[KIND_ADD_RAISE_KNOWN] = answer_place,
	[KIND_GROUP_ENSURE] = answer_again,
	[KIND_GROUP_DELETE] = answer_undone_row,
	[KIND_OFFSET] = answer_place,
	[KIND_AGENT_PUT] = answer_agent,
	[KIND_AGENT_DELETE] = answer_undone_row,
	[KIND_REPLACE] = answer_replaced,
	[KIND_RENEW] = answer_renewed,
	[KIND_ACQUIRE] = answer_acquire,
	[KIND_RELEASE_LEASE] = answer_release,
	[KIND_OFFER] = answer_offer,
	[KIND_ACCEPT] = answer_transfer,
	[KIND_REJECT] = answer_transfer,
	[KIND_COMPLETE] = answer_complete,
	[KIND_OBJECT] = answer_object,
	[KIND_SLICE] = answer_segment,
	[KIND_CONFIRM] = answer_confirm,
};

void pg_write_answer_row(struct writing *w, struct write_item *item, const PGresult *result, int row)
{
	if (answers[item->kind] != NULL)
		answers[item->kind](w, item, result, row);
}
