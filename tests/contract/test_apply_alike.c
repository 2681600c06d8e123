/* SPDX-License-Identifier: Apache-2.0
 * Every engine answers every batch as the in-memory engine does, and shows the same rows
 * afterwards: random batches of all operations on few names, so that nearly everything meets what
 * came before it, in the same batch too. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory.h"
#include "backends/rows.h"
#include "tests/support/source_world.h"

enum { BATCH_MAX = 96, TRANSFERS_MAX = 512, NAMES = 4096 };

TestSuite(apply_alike, .timeout = 120);

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

/* AFRESH: by an engine that has just been opened, each batch, which expects nothing bad. IN_HALVES:
 * started, everything read, finished. */
enum way { AT_ONE_GO, AFRESH, IN_HALVES };

/* One source and what it gave out. */
struct side {
	struct world world;
	enum way way;
	struct shmeta_op ops[BATCH_MAX];
	struct backend_op batch[BATCH_MAX];
	struct shmeta_result results[BATCH_MAX];
	uint64_t transfers[TRANSFERS_MAX]; /* their numbers are each engine's own */
	size_t told;
};

struct pair {
	struct side model, engine;
	size_t transfers, names;
	char name[NAMES][24];
	struct shmeta_segment list[BATCH_MAX][2][4]; /* of REPLACE_SEGMENTS */
	size_t lists;
	uint32_t seed;
	uint64_t done[SHMETA_OP_TYPES];
	uint64_t ended; /* epochs that were asked for and found */
};

static uint32_t pick(struct pair *p, uint32_t below)
{
	p->seed = p->seed * 1664525u + 1013904223u;
	return (p->seed >> 8) % below;
}

static struct shmeta_str one_of(struct pair *p, const char *const *names, uint32_t count)
{
	return rows_str(names[pick(p, count)]);
}

static const char *const topics[] = {"a", "b", "c"}, *const agents[] = {"x", "y", "z"}, *const groups[] = {"g", "h"},
			 *const objects[] = {"o1", "o2", "o3"};

/* A segment's id is its place's, most of them its base's; ids of one place do not appear at
 * another: whether one that was deleted there is free here depends on an order that is promised
 * only within a partition. */
static struct shmeta_str segment_id(struct pair *p, struct shmeta_str topic, uint32_t partition, uint32_t base)
{
	char *name = p->name[p->names++ % NAMES];

	if (pick(p, 6) > 0)
		(void)snprintf(name, sizeof p->name[0], "%s-%u-%u", topic.data, partition, base);
	else
		(void)snprintf(name, sizeof p->name[0], "id-%s-%u-%u", topic.data, partition, pick(p, 3));
	return rows_str(name);
}

static enum shmeta_op_type pick_type(struct pair *p, enum shmeta_op_type before)
{
	static const enum shmeta_op_type leases[] = {SHMETA_OP_ACQUIRE_LEASE, SHMETA_OP_OFFER_LEASE,
	                                             SHMETA_OP_ACCEPT_LEASE,  SHMETA_OP_COMPLETE_LEASE,
	                                             SHMETA_OP_REJECT_LEASE,  SHMETA_OP_ACQUIRE_LEASE};
	uint32_t which = pick(p, 9);
	enum shmeta_op_type type = (enum shmeta_op_type)(1 + pick(p, SHMETA_OP_TYPES - 1));

	if ((before == SHMETA_OP_COMMIT_OBJECT || before == SHMETA_OP_ADD_SLICE) && pick(p, 4) > 0)
		return SHMETA_OP_ADD_SLICE;
	if (which < 3)
		return leases[pick(p, 6)];
	if (which < 5)
		return pick(p, 2) != 0 ? SHMETA_OP_ADD_SEGMENT : SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	/* What takes much away is rare. */
	if ((type == SHMETA_OP_DELETE_TOPIC || type == SHMETA_OP_DEREGISTER_AGENT) && pick(p, 6) > 0)
		return pick(p, 2) != 0 ? SHMETA_OP_CREATE_TOPIC : SHMETA_OP_REGISTER_AGENT;
	return type;
}

/* Text that outlives the rows it was taken from, and the batch. */
static struct shmeta_str keep(struct pair *p, struct shmeta_str text)
{
	char *name = p->name[p->names++ % NAMES];

	cr_assert_lt(text.bytes, sizeof p->name[0]);
	(void)snprintf(name, sizeof p->name[0], "%.*s", (int)text.bytes, text.data);
	return rows_str(name);
}

/* Neighbours that are there as the batch begins, now and then altered, by one new segment, or two,
 * or none: of an object of its own, or slices. */
static void pick_replacement(struct pair *p, struct shmeta_op *op)
{
	struct shmeta_segment(*list)[4] = p->list[p->lists++ % BATCH_MAX], *there;
	uint32_t first, way = pick(p, 6);
	struct shmeta_replace *r = &op->u.replace;
	bool reaching;
	size_t count;

	*r = (struct shmeta_replace){.old_segments = list[0], .new_segments = list[1], .compaction_epoch = pick(p, 4)};
	there = memory_segments_in(memory_db_of(p->model.world.state), NULL, op->name.data, op->partition_id, 0,
	                           INT64_MAX, INT64_MAX, &count, &reaching);
	cr_assert_not_null(there);
	first = count > 1 ? pick(p, (uint32_t)count) : 0;
	for (size_t i = first; i < count && r->old_count < 1 + pick(p, 3); i++) {
		struct shmeta_segment *s = &list[0][r->old_count++];

		*s = there[i];
		s->id = keep(p, s->id);
		s->s3_bucket = keep(p, s->s3_bucket);
		s->s3_key = keep(p, s->s3_key);
	}
	free(there);
	if (r->old_count == 0) {
		list[0][r->old_count++] = (struct shmeta_segment){.end_offset = 9, .id = rows_str("none")};
		return;
	}
	if (pick(p, 8) == 0)
		list[0][pick(p, r->old_count)].size_bytes++;
	if (pick(p, 8) == 0 && r->old_count == 3) /* a hole where one is */
		list[0][1] = list[0][--r->old_count];
	for (uint32_t i = 0; i < way % 3; i++) {
		struct shmeta_segment *s = &list[1][r->new_count++];
		char id[24];

		*s = list[0][0];
		if (pick(p, 5) == 0 && i == 0)
			continue; /* the first one stays */
		(void)snprintf(id, sizeof id, "m-%s-%u-%u", op->name.data, op->partition_id, pick(p, 5));
		if (pick(p, 3) > 0)
			s->id = keep(p, rows_str(id));
		s->s3_key = way < 3 ? one_of(p, objects, 3) : pick(p, 6) > 0 ? rows_str("merged") : s->s3_key;
		s->position = way < 3 ? pick(p, 97) : 0;
		s->base_offset += i * 5 + pick(p, 2);
		s->end_offset =
			i + 1 < way % 3 ? s->base_offset + 2 : list[0][r->old_count - 1].end_offset - pick(p, 2);
		if (s->end_offset < s->base_offset)
			s->end_offset = s->base_offset;
		s->size_bytes = 5;
		/* R7 of docs/backends.md: there nobody else is to have an id that is made of a
		 * place. */
		if (p->engine.world.engine == WORLD_DYNAMODB && s->base_offset != list[0][0].base_offset)
			s->id = keep(p, rows_str(id));
	}
}

static struct shmeta_op pick_op(struct pair *p, enum shmeta_op_type before, uint32_t round)
{
	struct shmeta_op op = {.type = pick_type(p, before),
	                       .name = one_of(p, topics, 3),
	                       .partition_id = pick(p, 3),
	                       .agent_id = one_of(p, agents, 3),
	                       .to_agent_id = one_of(p, agents, 3),
	                       .group_id = one_of(p, groups, 2),
	                       .duration_ms = 1 + pick(p, 3000),
	                       .offset = pick(p, 100)};
	uint32_t base = pick(p, 8) * 10, recent = p->transfers < 6 ? (uint32_t)p->transfers : 6;
	bool fenced = false;

	switch (op.type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic = (struct shmeta_topic){.name = op.name,
		                                   .partition_count = 1 + pick(p, 3),
		                                   .has_retention = pick(p, 2),
		                                   .retention_ms = 0};
		op.u.topic.retention_ms = op.u.topic.has_retention ? 1000 : 0;
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		fenced = pick(p, 2) != 0;
		break;
	case SHMETA_OP_ADD_SLICE:
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		op.u.segment = (struct shmeta_segment){.base_offset = base,
		                                       .end_offset = base + 9 + (pick(p, 4) == 0),
		                                       .record_count = 10,
		                                       .size_bytes = 5,
		                                       .created_at_ms = 7,
		                                       .id = segment_id(p, op.name, op.partition_id, base),
		                                       .s3_bucket = rows_str("bucket"),
		                                       .s3_key = rows_str("key")};
		if (op.type == SHMETA_OP_ADD_SLICE) {
			op.u.segment.s3_bucket = op.u.segment.s3_key = rows_str("");
			op.u.segment.position = pick(p, 100);
		}
		fenced = pick(p, 2) != 0;
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.u.committed = (struct shmeta_committed_offset){.group_id = op.group_id,
		                                                  .committed_offset = pick(p, 1000),
		                                                  .has_metadata = pick(p, 2),
		                                                  .metadata = rows_str("")};
		if (op.u.committed.has_metadata)
			op.u.committed.metadata = rows_str("note");
		break;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = op.agent_id,
		                                   .address = pick(p, 4) > 0 ? op.agent_id : op.to_agent_id,
		                                   .availability_zone = rows_str("zone"),
		                                   .agent_group = rows_str("group"),
		                                   .last_heartbeat_ms = round,
		                                   .started_at_ms = pick(p, 9)};
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		pick_replacement(p, &op);
		fenced = pick(p, 3) == 0;
		break;
	case SHMETA_OP_RENEW_AGENT:
		op.u.agent.last_heartbeat_ms = round;
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE: /* a number of ours; each side has its own for it */
		op.transfer_id = recent > 0 ? p->transfers - recent + pick(p, recent) : TRANSFERS_MAX;
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object = (struct shmeta_object){.s3_bucket = rows_str("bucket"),
		                                     .s3_key = one_of(p, objects, 3),
		                                     .size_bytes = 100 + pick(p, 2),
		                                     .created_at_ms = 3};
		break;
	default:
		break;
	}
	if (fenced)
		op.fence = (struct shmeta_fence){one_of(p, agents, 3), 1 + pick(p, 4) + round / 20};
	return op;
}

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	(void)key;
	((struct side *)arg)->told++;
	return SHMETA_OK;
}

static void apply(struct pair *p, struct side *side, const struct shmeta_op *ops, size_t count, int64_t now_ms)
{
	const struct backend_sink sink = {.arg = side, .changed = on_changed};
	enum shmeta_status status;

	for (size_t i = 0; i < count; i++) {
		side->ops[i] = ops[i];
		if (ops[i].type == SHMETA_OP_ACCEPT_LEASE || ops[i].type == SHMETA_OP_COMPLETE_LEASE ||
		    ops[i].type == SHMETA_OP_REJECT_LEASE)
			side->ops[i].transfer_id =
				ops[i].transfer_id < p->transfers ? side->transfers[ops[i].transfer_id] : 999999999;
		side->batch[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &side->ops[i]};
	}
	side->told = 0;
	if (side->way == IN_HALVES) {
		status = side->world.ops->writer->start(side->world.state, side->batch, count, now_ms, side->results,
		                                        &side->world.err);
		cr_assert_eq(status, SHMETA_OK, "%s", side->world.err.text);
		cr_assert_eq(world_load(&side->world), SHMETA_OK, "%s", side->world.err.text);
		status = side->world.ops->writer->finish(side->world.state, &sink, &side->world.err);
	} else {
		status = side->world.ops->writer->apply(side->world.state, side->batch, count, now_ms, side->results,
		                                        &sink, &side->world.err);
	}
	cr_assert_eq(status, SHMETA_OK, "%s: %s", world_names[side->world.engine], side->world.err.text);
}

static bool same_results(const struct shmeta_result *a, const struct shmeta_result *b)
{
	return a->status == b->status && a->count == b->count && a->lease.epoch == b->lease.epoch &&
	       a->lease.acquired_at_ms == b->lease.acquired_at_ms &&
	       a->lease.lease_expires_at_ms == b->lease.lease_expires_at_ms &&
	       a->lease.partition_id == b->lease.partition_id && a->existing.base_offset == b->existing.base_offset &&
	       a->existing.end_offset == b->existing.end_offset && a->existing.size_bytes == b->existing.size_bytes &&
	       a->existing.created_at_ms == b->existing.created_at_ms;
}

/* Times of the source's own, and what not every schema keeps. */
static void cut(char *text, const char *from)
{
	for (char *at = strstr(text, from); at != NULL; at = strstr(at, from)) {
		char *end = at + 1 + strcspn(at + 1, " \n");

		memmove(at, end, strlen(end) + 1);
	}
}

static char *shown(struct world *w)
{
	char *text;

	cr_assert_eq(world_load(w), SHMETA_OK, "%s", w->err.text);
	text = recorder_sorted(&w->recorder);
	cut(text, " updated=");
	cut(text, " policy=");
	return text;
}

static void compare(struct pair *p, size_t count, uint32_t round)
{
	for (size_t i = 0; i < count; i++) {
		const struct shmeta_result *a = &p->model.results[i], *b = &p->engine.results[i];
		enum shmeta_op_type type = p->engine.ops[i].type;

		cr_assert(
			same_results(a, b),
			"round %u, operation %zu of type %d: in memory %d (%s) count %llu epoch %llu, %s %d (%s) count "
			"%llu epoch %llu",
			round, i, (int)type, a->status, a->text, (unsigned long long)a->count,
			(unsigned long long)a->lease.epoch, world_names[p->engine.world.engine], b->status, b->text,
			(unsigned long long)b->count, (unsigned long long)b->lease.epoch);
		p->done[type] += a->status == SHMETA_OK;
		if (type == SHMETA_OP_OFFER_LEASE && a->status == SHMETA_OK && p->transfers < TRANSFERS_MAX) {
			p->model.transfers[p->transfers] = a->transfer_id;
			p->engine.transfers[p->transfers++] = b->transfer_id;
		}
	}
	/* DynamoDB's feed has what a transaction changed of the store's rows, not an entry for each
	 * operation. */
	if (p->engine.world.engine != WORLD_DYNAMODB)
		cr_assert_eq(p->model.told, p->engine.told);
}

/* Where epochs end, some of each place. */
static void compare_epochs(struct pair *p, uint32_t round)
{
	for (uint32_t i = 0; i < 6 * 9; i++) {
		const struct backend_epoch ask = {.tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                                  .topic = rows_str(topics[i % 3]),
		                                  .partition_id = i / 3 % 3,
		                                  .epoch = (round * 7 + i / 9) % (8 + round / 8)};
		struct backend_epoch_end a = {.epoch = 0}, b = {.epoch = 0};
		struct backend_error why = {.code = SHMETA_OK}, err = {.code = SHMETA_OK};
		enum shmeta_status in_memory =
			p->model.world.ops->admin->epoch_end(p->model.world.state, &ask, &a, &why);
		enum shmeta_status status =
			p->engine.world.ops->admin->epoch_end(p->engine.world.state, &ask, &b, &err);

		cr_assert(status == in_memory && a.epoch == b.epoch && a.end_offset == b.end_offset &&
		                  strcmp(why.text, err.text) == 0,
		          "round %u, epoch %llu of %s/%u: in memory %d %s %llu to %llu, %s %d %s %llu to %llu", round,
		          (unsigned long long)ask.epoch, topics[i % 3], ask.partition_id, in_memory, why.text,
		          (unsigned long long)a.epoch, (unsigned long long)a.end_offset,
		          world_names[p->engine.world.engine], status, err.text, (unsigned long long)b.epoch,
		          (unsigned long long)b.end_offset);
		p->ended += status == SHMETA_OK && b.epoch > 0;
	}
}

static void alike_so(enum world_engine engine, uint32_t seed, uint32_t rounds, uint32_t most, enum way way)
{
	struct pair *p = calloc(1, sizeof *p);
	struct shmeta_op ops[BATCH_MAX];

	cr_assert_not_null(p);
	if (!world_possible(engine)) {
		free(p);
		cr_skip_test("there is no PostgreSQL on this machine");
	}
	p->seed = seed;
	p->engine.way = way;
	world_make(&p->model.world, WORLD_MEMORY);
	world_make(&p->engine.world, engine);
	world_open(&p->model.world);
	world_open(&p->engine.world);
	for (uint32_t round = 0; round < rounds; round++) {
		uint32_t count = 1 + pick(p, most);
		int64_t now_ms = 1000000 + (int64_t)round * 50;

		for (uint32_t i = 0; i < count; i++)
			ops[i] = pick_op(p, i > 0 ? ops[i - 1].type : SHMETA_OP_TYPES, round);
		apply(p, &p->model, ops, count, now_ms);
		if (way == AFRESH) {
			world_close(&p->engine.world);
			world_open(&p->engine.world);
		}
		apply(p, &p->engine, ops, count, now_ms);
		compare(p, count, round);
		if (round % 10 == 9)
			compare_epochs(p, round);
		if (round % 20 == 19) {
			char *a = shown(&p->model.world), *b = shown(&p->engine.world);

			cr_assert_str_eq(a, b, "round %u: in memory\n%s\n%s\n%s", round, a, world_names[engine], b);
			free(a);
			free(b);
		}
	}
	cr_log_info("%llu ends of epochs", (unsigned long long)p->ended);
	/* Or it proved nothing. */
	for (int type = 1; type < SHMETA_OP_TYPES; type++)
		cr_expect_gt(p->done[type], 0, "no operation of type %d was ever done", type);
	world_free(&p->model.world);
	world_free(&p->engine.world);
	free(p);
}

static void alike(enum world_engine engine, uint32_t seed, uint32_t rounds, uint32_t most)
{
	alike_so(engine, seed, rounds, most, AT_ONE_GO);
}

Test(apply_alike, sqlite_answers_as_memory_does_to_small_batches)
{
	alike(WORLD_SQLITE_NEW, 21, 600, 12);
}

Test(apply_alike, sqlite_answers_as_memory_does_to_large_batches)
{
	alike(WORLD_SQLITE_NEW, 2, 100, BATCH_MAX);
}

Test(apply_alike, sqlite_of_the_later_shape_answers_as_memory_does)
{
	alike(WORLD_SQLITE_LATER, 3, 200, 40);
}

Test(apply_alike, postgresql_answers_as_memory_does_to_small_batches)
{
	alike(WORLD_PG_NEW, 24, 700, 12);
}

Test(apply_alike, postgresql_answers_as_memory_does_to_large_batches)
{
	alike(WORLD_PG_NEW, 5, 100, BATCH_MAX);
}

Test(apply_alike, postgresql_that_expects_nothing_bad_answers_as_memory_does)
{
	alike_so(WORLD_PG_NEW, 9, 250, 20, AFRESH);
}

Test(apply_alike, postgresql_in_two_halves_answers_as_memory_does)
{
	alike_so(WORLD_PG_NEW, 10, 150, BATCH_MAX, IN_HALVES);
}

Test(apply_alike, postgresql_of_v01_answers_as_memory_does)
{
	alike(WORLD_PG_V01, 6, 200, 40);
}

Test(apply_alike, postgresql_of_the_later_shape_answers_as_memory_does)
{
	alike(WORLD_PG_LATER, 7, 100, 40);
}

Test(apply_alike, cockroachdbs_dialect_answers_as_memory_does)
{
	alike(WORLD_COCKROACH, 8, 100, 40);
}

Test(apply_alike, dynamodb_answers_as_memory_does_to_small_batches)
{
	alike(WORLD_DYNAMODB, 3, 500, 12);
}

Test(apply_alike, dynamodb_answers_as_memory_does_to_large_batches)
{
	alike(WORLD_DYNAMODB, 108, 100, BATCH_MAX);
}
