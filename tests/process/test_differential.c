/* SPDX-License-Identifier: Apache-2.0
 * Random operations through the API, random changes by others, kills and lost connections, on every
 * engine side by side: each result is the model's (tests/support/model.h), each source and each
 * store holds what the model holds, epochs end where the model says, and no answer that is wrong is
 * young. A bounded store, too small for the model, answers what the model holds when its source is
 * asked.
 *
 * A run is a seed. A failure names it; SHMETA_SEED=N runs that one alone, SHMETA_ENGINE=M on
 * the engine of that place in the list below alone, SHMETA_TRACE=1 prints what is done. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/outsiders.h"
#include "tests/support/views.h"

enum { CALL_MAX = 10, STEPS = 70, WAIT_MS = 20000, PATIENCE_S = 90, NO_TRANSFER = 999999999 };

static const struct {
	enum world_engine engine;
	const char *bounded; /* the name of such a side, and NULL of one that mirrors */
} engines[RUN_ENGINES] = {
	{WORLD_MEMORY, NULL}, {WORLD_SQLITE_NEW, NULL}, {WORLD_PG_NEW, NULL}, {WORLD_SQLITE_NEW, "SQLite, bounded"}};

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

/* ---- comparing ---- */

static void expect_same(struct run *r, struct side *s, const char *what, const char *text, const char *expected)
{
	const char *differs = view_difference(expected, text);

	if (differs == NULL)
		return;
	cr_assert_fail("seed %llu step %u: %s: %s differs from the model at '%.*s'\n--- model\n%s--- %s\n%s",
	               (unsigned long long)r->seed, r->step, s->name, what, (int)strcspn(differs, "\n"), differs,
	               expected, what, text);
}

/* Where an epoch ends, as the source says it. */
static void expect_epoch_end(struct run *r, struct side *s, int topic, uint32_t partition, uint64_t epoch)
{
	const char name[] = {'t', (char)('0' + topic)};
	uint64_t led = 0, end = 0, expected_led = 0, expected_end = 0;
	const struct model_partition *p = &s->model.topic[topic].partition[partition];
	enum shmeta_status expected = model_epoch_end(p, epoch, &expected_led, &expected_end);
	enum shmeta_status status =
		shmeta_leader_epoch_end(s->instance, name, sizeof name, partition, epoch, WAIT_MS, &led, &end);
	char sentence[200];

	(void)shmeta_last_error(s->instance, sentence, sizeof sentence);
	cr_assert(status == expected && led == expected_led && end == expected_end,
	          "seed %llu step %u: %s: epoch %llu of t%d/%u: the model says %d epoch %llu to %llu, it answered %d "
	          "(%s) epoch %llu to %llu",
	          (unsigned long long)r->seed, r->step, s->name, (unsigned long long)epoch, topic, partition,
	          (int)expected, (unsigned long long)expected_led, (unsigned long long)expected_end, (int)status,
	          sentence, (unsigned long long)led, (unsigned long long)end);
	r->tally->ended += status == SHMETA_OK && led > 0;
}

/* All that the answers can depend on: the epochs of a topic that something was written under, what
 * is before each, and the ends of the range. */
static void expect_epoch_ends(struct run *r, struct side *s)
{
	int topic = (int)(r->step % MODEL_TOPICS);

	for (uint32_t i = 0; i < MODEL_PARTITIONS; i++) {
		const struct model_partition *p = &s->model.topic[topic].partition[i];

		if (!p->there)
			continue;
		for (size_t k = 0; k < p->epochs; k++) {
			expect_epoch_end(r, s, topic, i, p->epoch[k].epoch - 1);
			expect_epoch_end(r, s, topic, i, p->epoch[k].epoch);
		}
		expect_epoch_end(r, s, topic, i, 0);
		expect_epoch_end(r, s, topic, i, p->highest_lease);
		expect_epoch_end(r, s, topic, i, p->highest_lease + 1);
	}
}

/* What the source is asked for is what it holds: at once, whatever the store has. */
static void settle_asked(struct run *r, struct side *s, const char *expected)
{
	double end = run_now_s() + PATIENCE_S;
	char *text;

	while ((text = view_asked(s->reader)) == NULL) {
		struct shmeta_error error = {.size = sizeof error};

		(void)!shmeta_reader_error(s->reader, &error);
		cr_assert_lt(run_now_s(), end, "seed %llu step %u: %s: the source cannot be asked: %d (%s)",
		             (unsigned long long)r->seed, r->step, s->name, (int)error.status, error.text);
		(void)usleep(20000);
	}
	expect_same(r, s, "what the source is asked for", text, expected);
	free(text);
}

/* The source holds what the model holds, and so does the store in the end; until then it does not
 * call young what is wrong. */
static void settle(struct run *r, struct side *s)
{
	enum { SLACK_S = 2 };
	char *expected = model_text(&s->model), *text = NULL;
	double began = run_now_s();

	if (s->outsiders) {
		text = view_source(&s->world);
		expect_same(r, s, "the source", text, expected);
		free(text);
	}
	if (s->bounded) {
		settle_asked(r, s, expected);
		expect_epoch_ends(r, s);
		free(expected);
		return;
	}
	for (;;) {
		uint64_t age_ns;
		double before = run_now_s(), since = before - s->changed_s;

		text = view_store(s->reader, expected, &age_ns);
		if (text != NULL && view_difference(expected, text) == NULL)
			break;
		if (text != NULL && age_ns != UINT64_MAX && since - (double)age_ns / 1e9 > SLACK_S) {
			const char *differs = view_difference(expected, text);

			cr_assert_fail(
				"seed %llu step %u: %s: %.1f s after the change the store still differs at '%.*s', "
				"and says that it is %.3f s old\n--- model\n%s--- store\n%s",
				(unsigned long long)r->seed, r->step, s->name, since, (int)strcspn(differs, "\n"),
				differs, (double)age_ns / 1e9, expected, text);
		}
		if (run_now_s() - began > PATIENCE_S)
			expect_same(r, s, "the store", text != NULL ? text : "(it cannot be read)\n", expected);
		free(text);
		(void)usleep(3000);
	}
	free(text);
	free(expected);
	expect_epoch_ends(r, s);
}

/* ---- the API ---- */

static void attach(struct side *s)
{
	s->instance = run_daemon_open(&s->daemon, "differential", 0);
	cr_assert_not_null(s->instance);
	s->reader = run_daemon_reader(s->instance);
	cr_assert_not_null(s->reader);
	cr_assert_eq(shmeta_client_open(s->instance, NULL, &s->client), SHMETA_OK);
}

static void detach(struct side *s)
{
	shmeta_client_close(s->client);
	shmeta_reader_free(s->reader);
	shmeta_close(s->instance);
}

/* Ends of ranges come as often as they can without filling a partition with segments that nobody
 * can be behind. */
static uint64_t pick_base(struct run *r)
{
	return run_pick(r, 60) == 0 ? INT64_MAX - 9 - run_pick(r, 2) * 10 : run_pick(r, 16) * 10;
}

static void pick_segment(struct run *r, struct shmeta_op *op)
{
	uint64_t base = pick_base(r);

	op->u.segment = (struct shmeta_segment){.base_offset = base,
	                                        .end_offset = base + 8 + (base < INT64_MAX - 9 && run_pick(r, 4) == 0),
	                                        .record_count = 9,
	                                        .size_bytes = 1 + run_pick(r, 5),
	                                        .created_at_ms = 7,
	                                        .s3_bucket = run_name(r, "bucket"),
	                                        .s3_key = run_name(r, "key-%u", run_pick(r, 2))};
	if (base >= INT64_MAX - 9 && op->type == SHMETA_OP_ADD_SEGMENT)
		op->u.segment.end_offset = INT64_MAX;
	if (run_pick(r, 6) > 0)
		op->u.segment.id =
			run_name(r, "%.2s-%u-%llu", op->name.data, op->partition_id, (unsigned long long)base);
	else
		op->u.segment.id = run_name(r, "id-%.2s-%u-%u", op->name.data, op->partition_id, run_pick(r, 3));
}

static enum shmeta_op_type pick_type(struct run *r, enum shmeta_op_type before)
{
	static const enum shmeta_op_type leases[] = {SHMETA_OP_ACQUIRE_LEASE, SHMETA_OP_OFFER_LEASE,
	                                             SHMETA_OP_ACCEPT_LEASE, SHMETA_OP_COMPLETE_LEASE,
	                                             SHMETA_OP_REJECT_LEASE};
	uint32_t which = run_pick(r, 10);
	enum shmeta_op_type type = (enum shmeta_op_type)(1 + run_pick(r, SHMETA_OP_TYPES - 1));

	if ((before == SHMETA_OP_COMMIT_OBJECT || before == SHMETA_OP_ADD_SLICE) && run_pick(r, 4) > 0)
		return SHMETA_OP_ADD_SLICE;
	if (which < 2)
		return leases[run_pick(r, 5)];
	if (which < 5)
		return run_pick(r, 2) != 0 ? SHMETA_OP_ADD_SEGMENT : SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	if (which < 6)
		return SHMETA_OP_REPLACE_SEGMENTS;
	if ((type == SHMETA_OP_DELETE_TOPIC || type == SHMETA_OP_DEREGISTER_AGENT) && run_pick(r, 5) > 0)
		return run_pick(r, 2) != 0 ? SHMETA_OP_CREATE_TOPIC : SHMETA_OP_REGISTER_AGENT;
	return type == SHMETA_OP_ADD_SLICE ? SHMETA_OP_COMMIT_OBJECT : type;
}

static const struct side *pick_side(struct run *r)
{
	const struct side *there[RUN_ENGINES];
	uint32_t count = 0;

	for (int i = 0; i < RUN_ENGINES; i++)
		if (r->side[i].name != NULL)
			there[count++] = &r->side[i];
	return there[run_pick(r, count)];
}

/* What one of the sides has at the place of an operation. */
static const struct model_partition *pick_place(struct run *r, const struct shmeta_op *op)
{
	return &pick_side(r)->model.topic[model_number(op->name, MODEL_TOPICS)].partition[op->partition_id];
}

/* The lease that one of the sides has there, or any. */
static struct shmeta_fence pick_fence(struct run *r, const struct shmeta_op *op)
{
	const struct model_partition *from = pick_place(r, op);

	if (from->lease.there && run_pick(r, 3) > 0)
		return (struct shmeta_fence){run_name(r, "a%d", from->lease.agent), from->lease.epoch};
	return (struct shmeta_fence){op->agent_id, 1 + run_pick(r, 4)};
}

/* Neighbours that one of the sides has as the call begins, by one segment, or none, or the first of
 * them and one more. */
static void pick_replacement(struct run *r, struct shmeta_op *op)
{
	static struct shmeta_segment lists[2 * CALL_MAX][2][3];
	static size_t used;
	struct shmeta_segment(*list)[3] = lists[used++ % (2 * CALL_MAX)];
	struct shmeta_replace *p = &op->u.replace;
	const struct model_partition *from = pick_place(r, op);
	uint32_t most = 1 + run_pick(r, 3), way = run_pick(r, 3), first;

	*p = (struct shmeta_replace){.old_segments = list[0],
	                             .new_segments = list[1],
	                             .compaction_epoch = run_pick(r, 2) * (r->step / 16 + run_pick(r, 4))};
	first = from->segments > 0 ? run_pick(r, (uint32_t)from->segments) : 0;
	for (size_t i = first; i < from->segments && p->old_count < most; i++) {
		const struct model_segment *s = &from->segment[i];

		list[0][p->old_count++] = (struct shmeta_segment){.base_offset = s->base,
		                                                  .end_offset = s->end,
		                                                  .size_bytes = s->size,
		                                                  .position = s->position,
		                                                  .record_count = s->records,
		                                                  .created_at_ms = s->created_ms,
		                                                  .id = run_name(r, "%s", s->id),
		                                                  .s3_bucket = run_name(r, "bucket"),
		                                                  .s3_key = run_name(r, "%s", s->key)};
	}
	if (p->old_count == 0) {
		list[0][p->old_count++] = (struct shmeta_segment){.end_offset = 8, .id = run_name(r, "none")};
		return;
	}
	if (run_pick(r, 8) == 0)
		list[0][0].size_bytes++;
	if (way == 2 && p->old_count > 1)
		list[1][p->new_count++] = list[0][0];
	if (way > 0) {
		const struct shmeta_segment *begin = &list[0][p->new_count];
		uint64_t end = 0;

		for (uint32_t i = 0; i < p->old_count; i++)
			end = list[0][i].end_offset > end ? list[0][i].end_offset : end;
		list[1][p->new_count] = *begin;
		list[1][p->new_count].base_offset += p->new_count > 0 && begin->base_offset <= list[0][0].end_offset
		                                             ? list[0][0].end_offset - begin->base_offset + 1
		                                             : run_pick(r, 2);
		list[1][p->new_count].end_offset = end;
		list[1][p->new_count].position = 0;
		list[1][p->new_count].id = run_name(r, "m-%.2s-%u-%llu", op->name.data, op->partition_id,
		                                    (unsigned long long)list[1][p->new_count].base_offset);
		list[1][p->new_count].s3_key = run_name(r, "merged-%u-%u", r->step, run_pick(r, 1000000));
		p->new_count += list[1][p->new_count].base_offset <= end;
	}
}

static struct shmeta_op pick_op(struct run *r, enum shmeta_op_type type)
{
	size_t offers = 0, recent;

	for (int i = 0; i < RUN_ENGINES; i++)
		offers = r->side[i].model.offers > offers ? r->side[i].model.offers : offers;
	recent = offers < 6 ? offers : 6;
	struct shmeta_op op = {.type = type,
	                       .name = run_name(r, "t%u", run_pick(r, MODEL_TOPICS)),
	                       .partition_id = run_pick(r, MODEL_PARTITIONS),
	                       .agent_id = run_name(r, "a%u", run_pick(r, MODEL_AGENTS)),
	                       .to_agent_id = run_name(r, "a%u", run_pick(r, MODEL_AGENTS)),
	                       .group_id = run_name(r, "g%u", run_pick(r, MODEL_GROUPS)),
	                       .duration_ms = 3600000,
	                       .offset = run_pick(r, 40) == 0 ? INT64_MAX : run_pick(r, 200)};
	bool fenced = false;

	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic = (struct shmeta_topic){.name = op.name,
		                                   .partition_count = 1 + run_pick(r, MODEL_PARTITIONS),
		                                   .has_retention = run_pick(r, 2)};
		op.u.topic.retention_ms = op.u.topic.has_retention ? 1000 : 0;
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		fenced = run_pick(r, 3) == 0;
		break;
	case SHMETA_OP_ADD_SLICE:
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		pick_segment(r, &op);
		if (type == SHMETA_OP_ADD_SLICE) {
			op.u.segment.s3_bucket = op.u.segment.s3_key = (struct shmeta_str){"", 0};
			op.u.segment.position = run_pick(r, 100);
		}
		fenced = run_pick(r, 3) == 0;
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.u.committed = (struct shmeta_committed_offset){
			.group_id = op.group_id, .committed_offset = op.offset, .has_metadata = run_pick(r, 2)};
		if (op.u.committed.has_metadata)
			op.u.committed.metadata = run_name(r, "note");
		break;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = op.agent_id,
		                                   .address = run_pick(r, 4) > 0 ? op.agent_id : op.to_agent_id,
		                                   .availability_zone = run_name(r, "zone"),
		                                   .agent_group = run_name(r, "group"),
		                                   .last_heartbeat_ms = r->step,
		                                   .started_at_ms = run_pick(r, 9)};
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		pick_replacement(r, &op);
		fenced = run_pick(r, 4) == 0;
		break;
	case SHMETA_OP_RENEW_AGENT:
		op.u.agent.last_heartbeat_ms = r->step;
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE: /* a number of the model's; each side has its own for it */
		op.transfer_id = recent > 0 ? offers - run_pick(r, (uint32_t)recent) : MODEL_OFFERS + 1;
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object = (struct shmeta_object){.s3_bucket = run_name(r, "bucket"),
		                                     .s3_key = run_name(r, "o%u", run_pick(r, MODEL_OBJECTS)),
		                                     .size_bytes = 100 + run_pick(r, 2),
		                                     .created_at_ms = 3};
		break;
	default:
		break;
	}
	if (fenced)
		op.fence = pick_fence(r, &op);
	return op;
}

static bool is_answer_to_offer(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_ACCEPT_LEASE || op->type == SHMETA_OP_COMPLETE_LEASE ||
	       op->type == SHMETA_OP_REJECT_LEASE;
}

static enum shmeta_status write_to(struct run *r, struct side *s, const struct shmeta_op *ops, size_t count,
                                   struct shmeta_result *results)
{
	struct shmeta_op own[CALL_MAX];

	memcpy(own, ops, count * sizeof *ops);
	for (size_t i = 0; i < count; i++)
		if (is_answer_to_offer(&own[i]))
			own[i].transfer_id =
				ops[i].transfer_id <= MODEL_OFFERS ? s->transfer[ops[i].transfer_id - 1] : NO_TRANSFER;
	enum shmeta_status status = shmeta_write(s->client, own, count, WAIT_MS, results, NULL);

	for (size_t i = 0; i < count; i++)
		run_trace(r, "%s: %d %.*s/%u agent %.*s -> call %d, %d %s", s->name, (int)ops[i].type,
		          (int)ops[i].name.bytes, ops[i].name.data, ops[i].partition_id, (int)ops[i].agent_id.bytes,
		          ops[i].agent_id.data, (int)status, (int)results[i].status, results[i].text);
	s->changed_s = run_now_s();
	return status;
}

static bool same_result(const struct shmeta_result *got, const struct shmeta_result *expected)
{
	if (expected->status == MODEL_REFUSED)
		return got->status < 0;
	return got->status == expected->status && got->count == expected->count &&
	       got->lease.epoch == expected->lease.epoch &&
	       got->existing.base_offset == expected->existing.base_offset &&
	       got->existing.end_offset == expected->existing.end_offset &&
	       got->existing.size_bytes == expected->existing.size_bytes &&
	       (expected->most == 0 || (got->epoch == expected->epoch && got->value == expected->value &&
	                                got->least == expected->least && got->most == expected->most));
}

static void expect_results(struct run *r, struct side *s, const struct shmeta_op *ops, const struct shmeta_result *got,
                           const struct shmeta_result *expected, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cr_assert(
			same_result(&got[i], &expected[i]),
			"seed %llu step %u: %s: operation %zu of %zu (type %d on %.*s/%u): the model says %d count %llu "
			"epoch %llu base %llu value %llu, it answered %d (%s) count %llu epoch %llu base %llu value %llu",
			(unsigned long long)r->seed, r->step, s->name, i, count, (int)ops[i].type,
			(int)ops[i].name.bytes, ops[i].name.data, ops[i].partition_id, (int)expected[i].status,
			(unsigned long long)expected[i].count, (unsigned long long)expected[i].lease.epoch,
			(unsigned long long)expected[i].existing.base_offset, (unsigned long long)expected[i].value,
			(int)got[i].status, got[i].text, (unsigned long long)got[i].count,
			(unsigned long long)got[i].lease.epoch, (unsigned long long)got[i].existing.base_offset,
			(unsigned long long)got[i].value);
		r->tally->done[ops[i].type] += got[i].status == SHMETA_OK;
		if (ops[i].type == SHMETA_OP_OFFER_LEASE && expected[i].status == SHMETA_OK)
			s->transfer[expected[i].transfer_id - 1] = got[i].transfer_id;
	}
}

static bool moves_watermark(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_ADD_SLICE || op->type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
}

/* One call of some operations, to every engine. */
static void step_call(struct run *r)
{
	struct shmeta_op ops[CALL_MAX];
	struct shmeta_result got[CALL_MAX], expected[CALL_MAX];
	struct shmeta_op own[CALL_MAX];
	size_t count = 1 + run_pick(r, CALL_MAX);

	for (size_t i = 0; i < count; i++) {
		ops[i] = pick_op(r, pick_type(r, i > 0 ? ops[i - 1].type : SHMETA_OP_TYPES));
		/* Appends of one call raise a watermark in any order: what a check says of the
		 * steps between is not promised. */
		for (size_t k = 0; k < i; k++)
			if (r->schema.watermark_is_checked && moves_watermark(&ops[i]) && moves_watermark(&ops[k]) &&
			    ops[i].partition_id == ops[k].partition_id &&
			    memcmp(ops[i].name.data, ops[k].name.data, ops[k].name.bytes) == 0)
				ops[i].partition_id = MODEL_PARTITIONS;
	}
	for (struct side *s = r->side; s < r->side + RUN_ENGINES; s++) {
		if (s->name == NULL)
			continue;
		/* Nobody knows the number of an offer before it is answered, nor that of one on
		 * another side. */
		memcpy(own, ops, sizeof own);
		for (size_t i = 0; i < count; i++)
			if (is_answer_to_offer(&own[i]) && own[i].transfer_id > s->model.offers)
				own[i].transfer_id = MODEL_OFFERS + 1;
		enum shmeta_status status = write_to(r, s, own, count, got);

		cr_assert_eq(status, SHMETA_OK, "seed %llu step %u: %s: the call failed: %d (%s)",
		             (unsigned long long)r->seed, r->step, s->name, (int)status, got[0].text);
		model_do(&s->model, own, count, expected);
		expect_results(r, s, own, got, expected, count);
	}
}

static void step_outside(struct run *r)
{
	for (struct side *s = r->side; s < r->side + RUN_ENGINES; s++)
		if (s->name != NULL && s->outsiders) {
			run_draw_anew(r, (uint64_t)(s - r->side) + 1);
			outsiders_write(r, s);
		}
}

/* ---- kills, lost connections, lost triggers ---- */

static void start_again(struct run *r, struct side *s)
{
	/* Another database in memory is another source, and it is empty: a daemon that had the
	 * former one's store would hold it. */
	if (!s->outsiders) {
		detach(s);
		run_daemon_forget(&s->daemon);
	}
	cr_assert_eq(run_daemon_start(&s->daemon, s->world.uri), 0, "seed %llu step %u: %s does not start",
	             (unsigned long long)r->seed, r->step, s->name);
	/* Rows in memory died with the daemon. */
	if (!s->outsiders) {
		s->model = (struct model){.schema = s->model.schema, .offers = s->model.offers};
		for (size_t i = 0; i < s->model.offers; i++) {
			s->model.offer[i].state = MODEL_FORGOTTEN;
			s->transfer[i] = NO_TRANSFER;
		}
		attach(s);
	}
	s->changed_s = run_now_s();
}

struct killer {
	struct run_daemon *daemon;
	struct world *world; /* its connections are cut instead */
	useconds_t after_us;
};

static void cut_connections(struct world *w)
{
	world_sql(
		w,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
		"pg_backend_pid()");
}

static void *kill_soon(void *arg)
{
	struct killer *k = arg;

	(void)usleep(k->after_us);
	if (k->world != NULL)
		cut_connections(k->world);
	else
		(void)kill(k->daemon->pid, SIGKILL);
	return NULL;
}

/* A call during which the daemon is killed, or its connections are cut. What was answered is so;
 * what was not is nothing, or the first operations of the call, or all of them. Only what the
 * tables show can be told apart. */
static void call_under_fire(struct run *r, struct side *s, bool cut)
{
	static const enum shmeta_op_type seen[] = {SHMETA_OP_ADD_SEGMENT, SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                                           SHMETA_OP_UPDATE_HIGH_WATERMARK, SHMETA_OP_COMMIT_OFFSET,
	                                           SHMETA_OP_CREATE_TOPIC};
	struct killer killer = {&s->daemon, cut ? &s->world : NULL, run_pick(r, 3000)};
	struct shmeta_op ops[CALL_MAX];
	struct shmeta_result got[CALL_MAX], expected[CALL_MAX];
	struct model *after = calloc(CALL_MAX + 1, sizeof *after);
	size_t count = 1 + run_pick(r, CALL_MAX), done = 0;
	pthread_t thread;

	cr_assert_not_null(after);
	after[0] = s->model;
	for (size_t i = 0; i < count; i++) {
		ops[i] = pick_op(r, seen[run_pick(r, 5)]);
		/* The tables may not show that it was done. */
		if (ops[i].type == SHMETA_OP_UPDATE_HIGH_WATERMARK)
			ops[i].fence = (struct shmeta_fence){.epoch = 0};
		after[i + 1] = after[i];
		model_do(&after[i + 1], &ops[i], 1, &expected[i]);
	}
	cr_assert_eq(pthread_create(&thread, NULL, kill_soon, &killer), 0);
	enum shmeta_status status = write_to(r, s, ops, count, got);

	cr_assert_eq(pthread_join(thread, NULL), 0);
	run_trace(r, "%s: %s under the call, which answered %d", s->name, cut ? "connections cut" : "killed",
	          (int)status);
	if (!cut) {
		(void)run_daemon_end(&s->daemon, SIGKILL);
		start_again(r, s);
	}
	if (!s->outsiders) {
		free(after);
		return;
	}
	/* While the connection is being made anew nothing is answered but that. */
	char *text = view_source(&s->world);
	bool unknown = status == SHMETA_ERR_OUTCOME_UNKNOWN || status == SHMETA_ERR_TIMEOUT;

	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		unknown |= got[i].status == SHMETA_ERR_OUTCOME_UNKNOWN;
	if (status == SHMETA_OK && !unknown)
		expect_results(r, s, ops, got, expected, count);
	bool found = false;

	for (size_t i = 0; i <= count && !found; i++) {
		bool allowed = unknown || i == (status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED ? count : 0);
		char *expects = model_text(&after[i]);

		found = allowed && view_difference(expects, text) == NULL;
		done = i;
		free(expects);
	}
	if (!found) {
		char *before = model_text(&after[0]), *whole = model_text(&after[count]);

		cr_assert_fail(
			"seed %llu step %u: %s: a call of %zu operations answered %d (%s) when %s; the source is "
			"neither as before nor as after\n--- before\n%s--- after\n%s--- source\n%s",
			(unsigned long long)r->seed, r->step, s->name, count, (int)status, got[0].text,
			cut ? "its connections were cut" : "the daemon was killed", before, whole, text);
	}
	s->model = after[done];
	free(text);
	free(after);
}

/* The source answers again: writes are taken. */
static void await_writes(struct run *r, struct side *s)
{
	struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = run_name(r, "g0")};
	struct shmeta_result got, expected;
	double end = run_now_s() + PATIENCE_S;

	for (;;) {
		enum shmeta_status status = write_to(r, s, &op, 1, &got);

		if (status == SHMETA_OK && got.status == SHMETA_OK)
			break;
		cr_assert_lt(run_now_s(), end, "seed %llu step %u: %s: no write is taken: %d (%s)",
		             (unsigned long long)r->seed, r->step, s->name, (int)status, got.text);
		(void)usleep(20000);
	}
	model_do(&s->model, &op, 1, &expected);
}

static void step_fire(struct run *r)
{
	uint32_t how = run_pick(r, 12);

	for (struct side *s = r->side; s < r->side + RUN_ENGINES; s++) {
		if (s->name == NULL)
			continue;
		run_draw_anew(r, (uint64_t)(s - r->side) + 1);
		switch (how) {
		case 0: /* a clean restart, and others write while nobody follows */
		case 1:
			(void)run_daemon_end(&s->daemon, how == 0 ? SIGTERM : SIGKILL);
			if (s->outsiders)
				outsiders_write(r, s);
			start_again(r, s);
			break;
		case 2: /* the same, and the triggers are gone meanwhile */
			if (s->outsiders)
				outsiders_await_triggers(r, s);
			(void)run_daemon_end(&s->daemon, SIGTERM);
			if (s->outsiders) {
				outsiders_drop_triggers(r, s);
				outsiders_write(r, s);
			}
			start_again(r, s);
			break;
		case 3: /* or go under a daemon that runs */
			if (s->outsiders) {
				outsiders_await_triggers(r, s);
				outsiders_drop_triggers(r, s);
				outsiders_write(r, s);
			}
			break;
		case 6:
		case 7:
		case 8:
		case 9:
			if (s->outsiders)
				outsiders_bypass(r, s);
			break;
		case 4:
		case 5:
			if (s->world.pg != NULL)
				call_under_fire(r, s, true);
			break;
		default:
			call_under_fire(r, s, false);
			break;
		}
		await_writes(r, s);
	}
}

/* ---- a run ---- */

static void side_start(struct side *s, enum world_engine engine, const char *bounded, const struct model_schema *schema,
                       uint32_t how)
{
	FILE *config;

	s->name = bounded != NULL ? bounded : world_names[engine];
	s->bounded = bounded != NULL;
	s->outsiders = engine != WORLD_MEMORY;
	world_make(&s->world, engine);
	if (!s->outsiders) /* a daemon of its own has its rows to itself */
		(void)snprintf(s->world.uri, sizeof s->world.uri, "memory:");
	cr_assert_eq(run_daemon_init(&s->daemon), 0);
	config = fopen(s->daemon.config, "we");
	cr_assert_not_null(config);
	/* The TTL is how long a source without a feed may wait for its full pass; with a feed it
	 * has no such part. */
	(void)fputs("feed { poll_max_ms = 50ms }\nretry { max_ms = 200ms }\n"
	            "ttl { topic_ms = 2s partition_ms = 2s segment_ms = 2s list_ms = 2s }\n",
	            config);
	if (s->bounded)
		(void)fputs("store { mode = bounded }\n"
		            "bounded { max_topics = 2 max_partitions = 2 max_segment_bytes = 128K max_bytes = 1M }\n"
		            "refresh { user_rate = 100000 }\n",
		            config);
	(void)fclose(config);
	/* The daemon makes the tables; the application comes after it. */
	cr_assert_eq(run_daemon_start(&s->daemon, s->world.uri), 0);
	if (engine == WORLD_SQLITE_NEW) {
		cr_assert_eq(sqlite3_open(s->world.path, &s->world.app), SQLITE_OK);
		(void)sqlite3_busy_timeout(s->world.app, 20000);
		world_sql(&s->world, "PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF");
	}
	outsiders_make_hostile(s, schema, how);
	attach(s);
	s->changed_s = run_now_s();
}

static void side_end(struct side *s)
{
	detach(s);
	run_daemon_done(&s->daemon);
	world_free(&s->world);
}

static struct model_schema pick_schema(struct run *r)
{
	uint32_t n = run_pick(r, 12);

	return (struct model_schema){.adding_moves_retention = n == 0 || n == 4,
	                             .watermark_is_checked = n == 1 || n == 4,
	                             .segments_are_held = n == 2 || n == 5,
	                             .segments_are_swallowed = n == 3 || n == 5};
}

static void run_seed(uint64_t seed, struct tally *tally)
{
	struct run *r = calloc(1, sizeof *r);

	cr_assert_not_null(r);
	r->seed = seed;
	r->tally = tally;
	r->trace = getenv("SHMETA_TRACE") != NULL;
	run_draw_anew(r, RUN_ENGINES + 1);
	r->schema = pick_schema(r);
	uint32_t how = run_pick(r, 3);

	const char *only = getenv("SHMETA_ENGINE");

	for (int i = 0; i < RUN_ENGINES; i++)
		if (world_possible(engines[i].engine) && (only == NULL || i == atoi(only)))
			side_start(&r->side[i], engines[i].engine, engines[i].bounded, &r->schema, how);
	for (r->step = 0; r->step < STEPS; r->step++) {
		run_draw_anew(r, 0);
		uint32_t what = run_pick(r, 20);

		if (what < 11)
			step_call(r);
		else if (what < 16)
			step_outside(r);
		else if (what < 17)
			step_fire(r);
		else
			for (struct side *s = r->side; s < r->side + RUN_ENGINES; s++)
				if (s->name != NULL)
					settle(r, s);
	}
	for (struct side *s = r->side; s < r->side + RUN_ENGINES; s++)
		if (s->name != NULL) {
			settle(r, s);
			side_end(s);
		}
	free(r);
}

/* As many runs as the time allows, from this seed on. */
static void every_engine_answers_holds_and_shows_what_the_model_says(uint64_t seed)
{
	const char *one = getenv("SHMETA_SEED");
	struct tally tally = {.ended = 0};
	uint64_t runs = 0;
	double end = run_now_s() + run_rounds(10, 200);

	if (one != NULL) {
		if (seed == 1)
			run_seed(strtoull(one, NULL, 10), &tally);
		return;
	}
	for (; run_now_s() < end; seed++, runs++)
		run_seed(seed, &tally);
	figure("random operations on every engine and a model", runs * STEPS, 0, "steps",
	       "0 answers or states that differ");
	/* Or it proved nothing. */
	for (int type = 1; runs >= 60 && type < SHMETA_OP_TYPES; type++)
		cr_expect_gt(tally.done[type], 0, "no operation of type %d was ever done", type);
	if (runs >= 60)
		cr_expect_gt(tally.ended, 0, "no epoch was ever found");
}

/* Of a length that one test may have. */
#define RUNS_FROM(seed)                                                                          \
	Test(differential, every_engine_answers_holds_and_shows_what_the_model_says_from_##seed) \
	{                                                                                        \
		every_engine_answers_holds_and_shows_what_the_model_says(seed);                  \
	}
RUNS_FROM(1)
RUNS_FROM(1000)
RUNS_FROM(2000)
RUNS_FROM(3000)
RUNS_FROM(4000)
RUNS_FROM(5000)
