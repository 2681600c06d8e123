/* SPDX-License-Identifier: Apache-2.0
 * Who wrote what. What deletes or administers has a line of its own that names it; what comes by
 * the thousand is added up for a second per user and kind. Nothing is left out. A refusal costs its
 * user nothing, so only the first ones of a second have a line; nor does a trace id, with which any
 * operation has one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "base/escape.h"
#include "shm/wire/op.h"
#include "writer/engine/engine.h"

/* What is added up until a second has passed */
struct audit_sum {
	char who[64]; /* the first one of this user */
	enum shmeta_op_type type;
	bool several_processes;
	uint32_t named; /* refused or traced, with a line of their own */
	uint64_t done, refused, repeated, unknown;
};
struct audit {
	struct audit_sum sums[64];
	size_t count;
	uint64_t began_ns;
};

enum {
	NAMED_MAX = 10
}; /* a second, of a user and kind, that anybody may have as many of as they
                          * like */

enum shmeta_status audit_init(struct sync *s, struct shmeta_err *err)
{
	s->audit = calloc(1, sizeof *s->audit);
	return s->audit != NULL ? SHMETA_OK : shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the audit log");
}

void audit_free(struct sync *s)
{
	free(s->audit);
	s->audit = NULL;
}

static void line(struct sync *s, const char *text)
{
	s->host.log(s->host.arg, LOG_NOTICE, SYNC_AUDIT_EVENT, text);
}

/* Has it a line of its own? */
static bool is_named(enum shmeta_op_type type)
{
	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
	case SHMETA_OP_DELETE_TOPIC:
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
	case SHMETA_OP_REPLACE_SEGMENTS:
	case SHMETA_OP_DELETE_GROUP:
	case SHMETA_OP_DEREGISTER_AGENT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		return true;
	default:
		return false;
	}
}

static const char *shown(struct shmeta_str text, char *ret, size_t bytes)
{
	return shmeta__escape(ret, bytes, text.data, text.bytes);
}

static void describe(const struct shmeta_op *op, char *ret, size_t bytes)
{
	char name[SHMETA_NAME_MAX * 2], key[SHMETA_NAME_MAX * 2];

	switch (op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		snprintf(ret, bytes, "topic '%s' of %u partitions", shown(op->u.topic.name, name, sizeof name),
		         op->u.topic.partition_count);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		snprintf(ret, bytes, "topic '%s'", shown(op->name, name, sizeof name));
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		snprintf(ret, bytes, "topic '%s' partition %u before offset %" PRIu64,
		         shown(op->name, name, sizeof name), op->partition_id, op->offset);
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		snprintf(ret, bytes, "topic '%s' partition %u, %u segments from offset %" PRIu64 " on by %u",
		         shown(op->name, name, sizeof name), op->partition_id, op->u.replace.old_count,
		         op->u.replace.old_count > 0 && op->u.replace.old_segments != NULL
		                 ? op->u.replace.old_segments[0].base_offset
		                 : 0,
		         op->u.replace.new_count);
		break;
	case SHMETA_OP_ENSURE_GROUP:
	case SHMETA_OP_DELETE_GROUP:
		snprintf(ret, bytes, "group '%s'", shown(op->group_id, name, sizeof name));
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		snprintf(ret, bytes, "topic '%s' partition %u of group '%s'", shown(op->name, name, sizeof name),
		         op->partition_id, shown(op->u.committed.group_id, key, sizeof key));
		break;
	case SHMETA_OP_REGISTER_AGENT:
		snprintf(ret, bytes, "agent '%s'", shown(op->u.agent.agent_id, name, sizeof name));
		break;
	case SHMETA_OP_RENEW_AGENT:
	case SHMETA_OP_DEREGISTER_AGENT:
		snprintf(ret, bytes, "agent '%s'", shown(op->agent_id, name, sizeof name));
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE:
		snprintf(ret, bytes, "transfer %" PRIu64 " by agent '%s'", op->transfer_id,
		         shown(op->agent_id, name, sizeof name));
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		snprintf(ret, bytes, "object '%s' in bucket '%s'", shown(op->u.object.s3_key, key, sizeof key),
		         shown(op->u.object.s3_bucket, name, sizeof name));
		break;
	default:
		snprintf(ret, bytes, "topic '%s' partition %u", shown(op->name, name, sizeof name), op->partition_id);
		break;
	}
}

static void name_one(struct sync *s, const char *who, struct shmeta_str tenant, const struct shmeta_op *op,
                     const struct shmeta_result *result, bool again)
{
	char text[1700], what[1100], of[SHMETA_TENANT_MAX * 2], outcome[420], why[320], trace[SHMETA_TRACE_TEXT];
	bool traced = shmeta__op_is_traced(op);

	describe(op, what, sizeof what);
	if (result->status == SHMETA_ERR_OUTCOME_UNKNOWN)
		snprintf(outcome, sizeof outcome, "outcome unknown");
	else if (result->status != SHMETA_OK)
		shmeta__say(outcome, sizeof outcome, "refused: %s%s%s", shmeta_strerror(result->status),
		            result->text[0] != '\0' ? ": " : "", shmeta__escape_line(why, sizeof why, result->text));
	else if (op->type == SHMETA_OP_DELETE_SEGMENTS_BEFORE || op->type == SHMETA_OP_REPLACE_SEGMENTS)
		snprintf(outcome, sizeof outcome, "done, %" PRIu64 " segments", result->count);
	else
		snprintf(outcome, sizeof outcome, "done");
	snprintf(text, sizeof text, "%s: %s: %s, tenant '%s': %s%s, commit %" PRIu64 " of generation %" PRIu64 "%s%s",
	         who, shmeta__op_name(op->type), what, shown(tenant, of, sizeof of),
	         again ? "repeated, not done again; the first one was " : "", outcome, sync_committed(s),
	         s->gen != NULL ? s->gen->generation : 0, traced ? ", trace " : "", shmeta__op_trace(op, trace));
	line(s, text);
}

void audit_flush(struct sync *s)
{
	struct audit *a = s->audit;

	for (size_t i = 0; i < a->count; i++) {
		const struct audit_sum *sum = &a->sums[i];
		char text[300], repeated[48] = "", unknown[48] = "";

		if (sum->done + sum->refused + sum->repeated + sum->unknown == 0)
			continue;
		if (sum->repeated > 0)
			snprintf(repeated, sizeof repeated, ", %" PRIu64 " repeated", sum->repeated);
		if (sum->unknown > 0)
			snprintf(unknown, sizeof unknown, ", %" PRIu64 " of unknown outcome", sum->unknown);
		snprintf(text, sizeof text,
		         "%.*s: %s: %s%" PRIu64 " done, %" PRIu64 " refused%s%s, commit %" PRIu64
		         " of generation %" PRIu64,
		         sum->several_processes ? (int)strcspn(sum->who, "p") - 1 : (int)strlen(sum->who), sum->who,
		         shmeta__op_name(sum->type), sum->named > 0 ? "beyond those above: " : "", sum->done,
		         sum->refused, repeated, unknown, sync_committed(s), s->gen != NULL ? s->gen->generation : 0);
		line(s, text);
	}
	a->count = 0;
}

void audit_run(struct sync *s)
{
	if (s->audit->count == 0)
		return;
	if (sync_now(s) >= s->audit->began_ns + SYNC_S)
		audit_flush(s);
	else
		sync_wake_at(s, s->audit->began_ns + SYNC_S);
}

static struct audit_sum *sum_of(struct sync *s, const char *who, enum shmeta_op_type type)
{
	struct audit *a = s->audit;
	size_t user = strcspn(who, "p"); /* "uid 1000 pid 42" */

	for (size_t i = 0; i < a->count; i++) {
		struct audit_sum *sum = &a->sums[i];

		if (sum->type != type || strncmp(sum->who, who, user) != 0)
			continue;
		sum->several_processes |= strcmp(sum->who, who) != 0;
		return sum;
	}
	if (a->count == sizeof a->sums / sizeof *a->sums)
		audit_flush(s);
	if (a->count == 0)
		a->began_ns = sync_now(s);
	a->sums[a->count] = (struct audit_sum){.type = type};
	snprintf(a->sums[a->count].who, sizeof a->sums->who, "%s", who);
	return &a->sums[a->count++];
}

void audit_ops(struct sync *s, const char *who, struct shmeta_str tenant, const struct shmeta_op *ops,
               const struct shmeta_result *results, const bool *again, size_t count)
{
	for (size_t i = 0; s->options.audit && i < count; i++) {
		const struct shmeta_result *result = &results[i];
		bool named = is_named(ops[i].type), traced = shmeta__op_is_traced(&ops[i]), repeated = again[i],
		     unknown = result->status == SHMETA_ERR_OUTCOME_UNKNOWN,
		     changed = unknown || (result->status == SHMETA_OK && !repeated);
		struct audit_sum *sum = named && changed ? NULL : sum_of(s, who, ops[i].type);

		if (sum == NULL || ((named || traced) && sum->named < NAMED_MAX)) {
			name_one(s, who, tenant, &ops[i], result, repeated);
			if (sum != NULL)
				sum->named++;
			continue;
		}
		sum->repeated += repeated;
		sum->unknown += unknown;
		sum->done += changed && !unknown;
		sum->refused += !repeated && !changed;
	}
	audit_run(s);
}

void audit_say(struct sync *s, const char *text)
{
	if (s->options.audit)
		line(s, text);
}
