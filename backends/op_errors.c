/* SPDX-License-Identifier: Apache-2.0
 * What every engine decides and says in the same words about an operation. */
#include "backends/op_errors.h"

#include <stdarg.h>
#include <stdio.h>

#include "backends/rows.h"

void refuse(struct shmeta_result *result, enum shmeta_status status, const char *fmt, ...)
{
	va_list ap;

	result->status = status;
	refuse_about(result, 0, 0, 0);
	va_start(ap, fmt);
	(void)vsnprintf(result->text, sizeof result->text, fmt, ap);
	va_end(ap);
}

void refuse_about(struct shmeta_result *result, uint64_t value, uint64_t least, uint64_t most)
{
	result->value = value;
	result->least = least;
	result->most = most;
}

void refuse_tenant(const struct backend_op *op, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_NOT_TENANT, "the source has no organization %s", rows_quote(name, op->tenant));
}

void refuse_topic_exists(const struct shmeta_op *op, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_ALREADY_EXISTS, "topic already exists: %s", rows_quote(name, op->u.topic.name));
}

void refuse_place(const struct shmeta_op *op, bool topic_there, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	if (topic_there)
		refuse(result, SHMETA_ERR_PARTITION_NOT_FOUND, "partition not found: %s/%u", rows_quote(name, op->name),
		       op->partition_id);
	else
		refuse(result, SHMETA_ERR_TOPIC_NOT_FOUND, "topic not found: %s", rows_quote(name, op->name));
}

void refuse_agent(struct shmeta_str agent, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_NOT_FOUND, "agent not found: %s", rows_quote(name, agent));
}

void refuse_address(const struct shmeta_agent *agent, struct shmeta_result *result)
{
	char address[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT, "the address %s is another agent's", rows_quote(address, agent->address));
}

void refuse_agent_id(const struct shmeta_agent *agent, struct shmeta_result *result)
{
	char id[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT, "the agent id %s is another organization's",
	       rows_quote(id, agent->agent_id));
}

void refuse_fence(const struct shmeta_op *op, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_FENCED, "%s/%u: epoch %llu is not the current one", rows_quote(name, op->name),
	       op->partition_id, (unsigned long long)op->fence.epoch);
}

void refuse_segment(const struct shmeta_op *op, bool identical, struct shmeta_result *result)
{
	unsigned long long base = op->u.segment.base_offset;
	char name[ROWS_QUOTE_MAX];

	if (identical)
		refuse(result, SHMETA_ERR_ALREADY_EXISTS,
		       "%s/%u: base_offset %llu is there already, identical: a retry can take it for done",
		       rows_quote(name, op->name), op->partition_id, base);
	else
		refuse(result, SHMETA_ERR_CONFLICT, "%s/%u: base_offset %llu is there already, with other content",
		       rows_quote(name, op->name), op->partition_id, base);
}

void refuse_segment_id(const struct shmeta_op *op, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX], id[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT, "%s/%u: the id %s is another segment's", rows_quote(name, op->name),
	       op->partition_id, rows_quote(id, op->u.segment.id));
}

void refuse_leased(const struct shmeta_op *op, int64_t left_ms, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT, "%s/%u is leased to another agent for %lld ms", rows_quote(name, op->name),
	       op->partition_id, (long long)left_ms);
	if (left_ms > 0)
		refuse_about(result, (uint64_t)left_ms, 1, INT64_MAX);
}

void refuse_epoch_spent(int64_t epoch, struct shmeta_result *result)
{
	refuse(result, SHMETA_ERR_CONFLICT, "the lease has epoch %lld: there is none beyond it", (long long)epoch);
}

void refuse_release(const struct shmeta_op *op, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_NOT_FOUND, "no lease of %s/%u is held by that agent", rows_quote(name, op->name),
	       op->partition_id);
}

void refuse_offer(const struct shmeta_op *op, bool offered, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT,
	       offered ? "%s/%u: the lease is on offer already" : "%s/%u: only its holder may offer the lease",
	       rows_quote(name, op->name), op->partition_id);
}

void refuse_undone(struct shmeta_result *result)
{
	refuse(result, SHMETA_ERR_INVALID_ARGUMENT,
	       "the source did not do this as it was told: a trigger, rule or policy of its own keeps the row out, or it takes "
	       "another row for the same");
}

void refuse_unsupported(struct shmeta_result *result)
{
	refuse(result, SHMETA_ERR_UNSUPPORTED,
	       "this source has none of shmeta's own tables, which this operation needs");
}

void refuse_object(const struct shmeta_object *object, uint64_t size_bytes, uint64_t slices,
                   struct shmeta_result *result)
{
	if (size_bytes == object->size_bytes) {
		refuse(result, SHMETA_ERR_ALREADY_EXISTS, "the object is there already, with %llu slices",
		       (unsigned long long)slices);
		result->count = slices;
	} else {
		refuse(result, SHMETA_ERR_CONFLICT, "the object is there already, with %llu bytes",
		       (unsigned long long)size_bytes);
	}
}

void refuse_object_used(uint64_t slices, struct shmeta_result *result)
{
	refuse(result, SHMETA_ERR_CONFLICT, "the object still has %llu slices", (unsigned long long)slices);
}

bool refuse_transfer(const struct shmeta_op *op, const struct transfer_state *transfer, struct shmeta_result *result)
{
	unsigned long long id = op->transfer_id;
	char state[ROWS_QUOTE_MAX];

	if (!transfer->found)
		refuse(result, SHMETA_ERR_NOT_FOUND, "transfer not found: %llu", id);
	else if (!transfer->addressed)
		refuse(result, SHMETA_ERR_CONFLICT, "transfer %llu: it is another agent's to answer", id);
	else if (!transfer->expected)
		refuse(result, SHMETA_ERR_CONFLICT, "transfer %llu is %s", id, rows_quote(state, transfer->state));
	else if (!transfer->in_time)
		refuse(result, SHMETA_ERR_CONFLICT, "transfer %llu timed out", id);
	else if (op->type == SHMETA_OP_COMPLETE_LEASE && !transfer->held)
		refuse(result, SHMETA_ERR_FENCED, "transfer %llu: the lease is no longer its former holder's", id);
	else
		return false;
	return true;
}

bool refuse_row(const struct backend_row *row, const struct refuse_room *room, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	if (!room->tenant)
		refuse(result, SHMETA_ERR_NOT_TENANT, "the source has no organization %s",
		       rows_quote(name, row->tenant));
	else if (row->kind == BACKEND_ROW_TOPIC && !room->cleanup_policy && row->u.topic.cleanup_policy.bytes > 0 &&
	         rows_compare(row->u.topic.cleanup_policy, rows_str("delete")) != 0)
		refuse(result, SHMETA_ERR_UNSUPPORTED, "the source has no column for the cleanup policy %s",
		       rows_quote(name, row->u.topic.cleanup_policy));
	else if (row->kind == BACKEND_ROW_SEGMENT && !room->timestamps &&
	         (row->u.segment.min_timestamp_ms != 0 || row->u.segment.max_timestamp_ms != 0))
		refuse(result, SHMETA_ERR_UNSUPPORTED, "the source has no columns for a segment's timestamps");
	else if (!room->own && (row->kind == BACKEND_ROW_OBJECT || row->kind == BACKEND_ROW_EPOCH))
		refuse(result, SHMETA_ERR_UNSUPPORTED, "the source has none of shmeta's own tables, which this needs");
	else
		return false;
	return true;
}

bool refuse_slice(const uint64_t *object_bytes, const struct shmeta_segment *slice, struct shmeta_result *result)
{
	uint64_t size = object_bytes != NULL ? *object_bytes : 0;

	if (object_bytes == NULL)
		refuse(result, SHMETA_ERR_INVALID_ARGUMENT, "a slice without its object before it");
	else if (slice->position > size || slice->size_bytes > size - slice->position)
		refuse(result, SHMETA_ERR_INVALID_ARGUMENT,
		       "the slice's bytes %llu + %llu lie beyond the object's %llu",
		       (unsigned long long)slice->position, (unsigned long long)slice->size_bytes,
		       (unsigned long long)size);
	else
		return false;
	return true;
}
