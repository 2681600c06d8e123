/* SPDX-License-Identifier: Apache-2.0
 * Random operations through the API, random changes by others, kills and lost connections, on every engine side by side: each result is
 * the model's (tests/support/model.h), each source and each store holds what the model holds, and no answer that is wrong is young.
 *
 * A run is a seed. A failure names it; SHMETA_SEED=N runs that one alone, SHMETA_ENGINE=M on
 * the engine of that place in the list below alone, SHMETA_TRACE=1 prints what is done. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/model.h"
#include "tests/support/run_daemon.h"
#include "tests/support/source_world.h"

TestSuite(differential, .timeout = 3600);

enum { CALL_MAX = 10, STEPS = 70, ENGINES = 3, NAMES = 512, WAIT_MS = 20000, PATIENCE_S = 90, NO_TRANSFER = 999999999 };

static const enum world_engine engines[ENGINES] = {WORLD_MEMORY, WORLD_SQLITE_NEW, WORLD_PG_NEW};

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

/* One engine: its source, its daemon, its client, and what it should hold. */
struct side {
	const char *name;
	struct world world;
	struct run_daemon daemon;
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta_client *client;
	struct model model;
	uint64_t transfer[MODEL_OFFERS]; /* the engine's own number of each of the model's offers */
	double changed_s;                /* when its source was last changed */
	bool outsiders;                  /* others can reach its rows, and these outlive a daemon */
};

struct run {
	uint64_t seed, random;
	uint32_t step;
	bool trace;
	struct side side[ENGINES];
	char name[NAMES][MODEL_TEXT];
	size_t names;
	uint64_t done[SHMETA_OP_TYPES], refused[SHMETA_OP_TYPES];
};

static uint32_t pick(struct run *r, uint32_t below)
{
	r->random ^= r->random >> 12;
	r->random ^= r->random << 25;
	r->random ^= r->random >> 27;
	return (uint32_t)((r->random * 0x2545F4914F6CDD1Du) >> 33) % below;
}

static struct shmeta_str name_of(struct run *r, const char *fmt, ...)
{
	char *name = r->name[r->names++ % NAMES];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(name, MODEL_TEXT, fmt, args);
	va_end(args);
	return (struct shmeta_str){name, strlen(name)};
}

static void trace(const struct run *r, const char *fmt, ...)
{
	va_list args;

	if (!r->trace)
		return;
	(void)fprintf(stderr, "seed %llu step %u: ", (unsigned long long)r->seed, r->step);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

/* ---- what the tables and the store hold ---------------------------------------------------------------------------------------- */

/* Every row of a statement, its columns as text. */
static void each_row(struct side *s, const char *sql, void (*row)(const char *const *column, struct model_lines *lines),
                     struct model_lines *lines)
{
	const char *column[12] = {NULL};

	if (s->world.pg != NULL) {
		PGresult *result = PQexec(s->world.pg, sql);

		cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(s->world.pg));
		for (int i = 0; i < PQntuples(result); i++) {
			for (int k = 0; k < PQnfields(result); k++)
				column[k] = PQgetisnull(result, i, k) ? NULL : PQgetvalue(result, i, k);
			row(column, lines);
		}
		PQclear(result);
		return;
	}
	sqlite3_stmt *statement;

	cr_assert_eq(sqlite3_prepare_v2(s->world.app, sql, -1, &statement, NULL), SQLITE_OK, "%s: %s", sql,
	             sqlite3_errmsg(s->world.app));
	while (sqlite3_step(statement) == SQLITE_ROW) {
		for (int k = 0; k < sqlite3_column_count(statement); k++)
			column[k] = (const char *)sqlite3_column_text(statement, k);
		row(column, lines);
	}
	sqlite3_finalize(statement);
}

static uint64_t number(const char *text)
{
	return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static int64_t integer(const char *text)
{
	return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static void row_topic(const char *const *c, struct model_lines *lines)
{
	model_line_topic(lines, c[0], number(c[1]), c[2] != NULL, integer(c[2]), (int)integer(c[3]));
}

static void row_partition(const char *const *c, struct model_lines *lines)
{
	model_line_partition(lines, c[0], number(c[1]), number(c[2]));
}

static void row_segment(const char *const *c, struct model_lines *lines)
{
	model_line_segment(lines, c[0], number(c[1]), number(c[2]), number(c[3]), number(c[4]), number(c[5]),
	                   integer(c[6]), c[7], c[8]);
}

static void row_group(const char *const *c, struct model_lines *lines)
{
	model_line_group(lines, c[0]);
}

static void row_offset(const char *const *c, struct model_lines *lines)
{
	model_line_offset(lines, c[0], c[1], number(c[2]), number(c[3]), c[4] != NULL);
}

static void row_agent(const char *const *c, struct model_lines *lines)
{
	model_line_agent(lines, c[0], c[1], integer(c[2]), integer(c[3]));
}

static void row_lease(const char *const *c, struct model_lines *lines)
{
	model_line_lease(lines, c[0], number(c[1]), c[2], number(c[3]), integer(c[4]) == 1);
}

static char *source_text(struct side *s)
{
	struct model_lines lines = {.line = NULL};

	each_row(s,
	         s->world.pg != NULL
	                 ? "SELECT name, partition_count, retention_ms, config->>'k' FROM topics"
	                 : "SELECT name, partition_count, retention_ms, json_extract(config, '$.k') FROM topics",
	         row_topic, &lines);
	each_row(s, "SELECT topic, partition_id, high_watermark FROM partitions", row_partition, &lines);
	each_row(
		s,
		"SELECT topic, partition_id, base_offset, end_offset, record_count, size_bytes, created_at, id, s3_key "
		"FROM segments",
		row_segment, &lines);
	each_row(s, "SELECT group_id FROM consumer_groups", row_group, &lines);
	each_row(s, "SELECT group_id, topic, partition_id, committed_offset, metadata FROM consumer_offsets",
	         row_offset, &lines);
	each_row(s, "SELECT agent_id, address, last_heartbeat, started_at FROM agents", row_agent, &lines);
	each_row(s, "SELECT topic, partition_id, leader_agent_id, epoch, lease_expires_at FROM partition_leases",
	         row_lease, &lines);
	return model_lines_text(&lines);
}

static const char *terminated(char ret[MODEL_TEXT], struct shmeta_str text)
{
	(void)snprintf(ret, MODEL_TEXT, "%.*s", (int)text.bytes, text.bytes > 0 ? text.data : "");
	return ret;
}

/* A snapshot that expires or a list that breaks off is looked at again. */
#define LOOK(call)                       \
	do {                             \
		if ((call) != SHMETA_OK) \
			return false;    \
	} while (0)

static bool look_segments(struct side *s, const char *topic, uint32_t partition, struct model_lines *lines)
{
	struct shmeta_handle *handle;
	struct shmeta_iter *iter;
	struct shmeta_segment g;
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	enum shmeta_status status;
	bool ok = true;

	LOOK(shmeta_partition_open(s->reader, topic, strlen(topic), partition, &handle));
	status = shmeta_list_segments(handle, 0, UINT64_MAX, &iter);
	if (status == SHMETA_OK) {
		while (ok && (status = shmeta_next_segment(iter, &g)) == SHMETA_OK) {
			char id[MODEL_TEXT], key[MODEL_TEXT];

			ok = shmeta_segment_strings(handle, &g, strings, sizeof strings) == SHMETA_OK;
			if (ok)
				model_line_segment(lines, topic, partition, g.base_offset, g.end_offset, g.record_count,
				                   g.size_bytes, g.created_at_ms, terminated(id, g.id),
				                   terminated(key, g.s3_key));
		}
		shmeta_iter_free(iter);
	}
	shmeta_partition_close(handle);
	return ok && status == SHMETA_END;
}

static bool look_partitions(struct side *s, const char *topic, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_partition p;
	enum shmeta_status status;

	LOOK(shmeta_list_partitions(s->reader, topic, strlen(topic), &iter));
	while ((status = shmeta_next_partition(iter, &p, NULL)) == SHMETA_OK) {
		model_line_partition(lines, topic, p.partition_id, p.high_watermark);
		if (!look_segments(s, topic, p.partition_id, lines))
			break;
	}
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool look_topics(struct side *s, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_topic t;
	enum shmeta_status status;
	char name[MODEL_TEXT], value[MODEL_TEXT];

	LOOK(shmeta_list_topics(s->reader, NULL, 0, 0, &iter));
	while ((status = shmeta_next_topic(iter, &t, NULL)) == SHMETA_OK) {
		struct shmeta_str k = {"0", 1};

		(void)!shmeta_map_get(&t.config, "k", &k);
		model_line_topic(lines, terminated(name, t.name), t.partition_count, t.has_retention, t.retention_ms,
		                 (int)integer(terminated(value, k)));
		if (!look_partitions(s, name, lines))
			break;
	}
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool look_groups(struct side *s, struct model_lines *lines)
{
	struct shmeta_iter *iter, *offsets;
	struct shmeta_group g;
	enum shmeta_status status, inner = SHMETA_END;
	char group[MODEL_TEXT], topic[MODEL_TEXT];

	LOOK(shmeta_list_groups(s->reader, &iter));
	while (inner == SHMETA_END && (status = shmeta_next_group(iter, &g, NULL)) == SHMETA_OK) {
		struct shmeta_committed_offset o;
		struct shmeta_str name;

		model_line_group(lines, terminated(group, g.group_id));
		inner = shmeta_list_committed_offsets(s->reader, group, &offsets);
		if (inner != SHMETA_OK)
			break;
		while ((inner = shmeta_next_committed_offset(offsets, &name, &o, NULL)) == SHMETA_OK)
			model_line_offset(lines, group, terminated(topic, name), o.partition_id, o.committed_offset,
			                  o.has_metadata);
		shmeta_iter_free(offsets);
	}
	shmeta_iter_free(iter);
	return inner == SHMETA_END && status == SHMETA_END;
}

static bool look_agents(struct side *s, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_agent a;
	enum shmeta_status status;
	char agent[MODEL_TEXT], address[MODEL_TEXT];

	LOOK(shmeta_list_agents(s->reader, NULL, NULL, INT64_MIN / 2, &iter));
	while ((status = shmeta_next_agent(iter, &a, NULL)) == SHMETA_OK)
		model_line_agent(lines, terminated(agent, a.agent_id), terminated(address, a.address),
		                 a.last_heartbeat_ms, a.started_at_ms);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool look_leases(struct side *s, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_lease l;
	struct shmeta_str name;
	enum shmeta_status status;
	char topic[MODEL_TEXT], agent[MODEL_TEXT];

	LOOK(shmeta_list_leases(s->reader, NULL, NULL, 0, &iter));
	while ((status = shmeta_next_lease(iter, &name, &l, NULL)) == SHMETA_OK)
		model_line_lease(lines, terminated(topic, name), l.partition_id, terminated(agent, l.leader_agent_id),
		                 l.epoch, l.lease_expires_at_ms == 1);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

/* The place that a line is about, as "t0/1"; "" for what belongs to no topic. */
static void place_of(const char *line, char topic[4], uint32_t *ret_partition)
{
	const char *at = strstr(line, " t");

	topic[0] = '\0';
	*ret_partition = UINT32_MAX;
	if (strncmp(line, "agent", 5) == 0 || strncmp(line, "group", 5) == 0 || at == NULL)
		return;
	(void)snprintf(topic, 4, "%.2s", at + 1);
	if (at[3] == '/')
		*ret_partition = (uint32_t)number(at + 4);
}

/* The first line in which two texts differ: of the one that has it. NULL: they are the same. */
static const char *difference(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		const char *x = a + strcspn(a, "\n"), *y = b + strcspn(b, "\n");

		if (x - a != y - b || memcmp(a, b, (size_t)(x - a)) != 0)
			break;
		a = *x == '\n' ? x + 1 : x;
		b = *y == '\n' ? y + 1 : y;
	}
	if (*a == '\0' && *b == '\0')
		return NULL;
	if (*a == '\0' || *b == '\0')
		return *a == '\0' ? b : a;
	return strcmp(a, b) < 0 ? a : b;
}

/* Everything that one snapshot shows; how old the answer is about the first line that differs from `expected` (UINT64_MAX: it claims
 * nothing). NULL: this time it cannot be looked at. */
static char *store_text(struct side *s, const char *expected, uint64_t *ret_age_ns)
{
	struct model_lines lines = {.line = NULL};
	char *text = NULL;

	*ret_age_ns = UINT64_MAX;
	if (run_daemon_begin(s->reader) != SHMETA_OK)
		return NULL;
	bool ok = look_topics(s, &lines) && look_groups(s, &lines) && look_agents(s, &lines) && look_leases(s, &lines);

	text = model_lines_text(&lines);
	const char *differs = difference(expected, text);
	struct shmeta_freshness age = {.age_ns = UINT64_MAX};

	if (ok && differs != NULL) {
		struct shmeta_partition p;
		struct shmeta_topic t;
		uint32_t partition;
		char topic[4];

		place_of(differs, topic, &partition);
		if (topic[0] != '\0' && strncmp(differs, "offset", 6) != 0 && strncmp(differs, "lease", 5) != 0) {
			enum shmeta_status status =
				partition == UINT32_MAX
					? shmeta_get_topic(s->reader, topic, strlen(topic), NULL, &t, &age)
					: shmeta_get_partition_named(s->reader, topic, strlen(topic), partition, NULL,
			                                             &p, &age);
			if (status >= 0 && status != SHMETA_UNKNOWN)
				*ret_age_ns = age.age_ns;
		}
	}
	if (shmeta_end(s->reader) != SHMETA_OK || !ok) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- comparing ----------------------------------------------------------------------------------------------------------------- */

static void expect_same(struct run *r, struct side *s, const char *what, const char *text, const char *expected)
{
	const char *differs = difference(expected, text);

	if (differs == NULL)
		return;
	cr_assert_fail("seed %llu step %u: %s: %s differs from the model at '%.*s'\n--- model\n%s--- %s\n%s",
	               (unsigned long long)r->seed, r->step, s->name, what, (int)strcspn(differs, "\n"), differs,
	               expected, what, text);
}

/* The source holds what the model holds, and so does the store in the end; until then it does not call young what is wrong. */
static void settle(struct run *r, struct side *s)
{
	enum { SLACK_S = 2 };
	char *expected = model_text(&s->model), *text = NULL;
	double began = run_now_s();

	if (s->outsiders) {
		text = source_text(s);
		expect_same(r, s, "the source", text, expected);
		free(text);
	}
	for (;;) {
		uint64_t age_ns;
		double before = run_now_s(), since = before - s->changed_s;

		text = store_text(s, expected, &age_ns);
		if (text != NULL && difference(expected, text) == NULL)
			break;
		if (text != NULL && age_ns != UINT64_MAX && since - (double)age_ns / 1e9 > SLACK_S) {
			const char *differs = difference(expected, text);

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
}

/* ---- the API --------------------------------------------------------------------------------------------------------------------- */

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

/* Ends of ranges come as often as they can without filling a partition with segments that nobody can be behind. */
static uint64_t pick_base(struct run *r)
{
	return pick(r, 60) == 0 ? INT64_MAX - 9 - pick(r, 2) * 10 : pick(r, 16) * 10;
}

static void pick_segment(struct run *r, struct shmeta_op *op)
{
	uint64_t base = pick_base(r);

	op->u.segment = (struct shmeta_segment){.base_offset = base,
	                                        .end_offset = base + 8 + (base < INT64_MAX - 9 && pick(r, 4) == 0),
	                                        .record_count = 9,
	                                        .size_bytes = 1 + pick(r, 5),
	                                        .created_at_ms = 7,
	                                        .s3_bucket = name_of(r, "bucket"),
	                                        .s3_key = name_of(r, "key-%u", pick(r, 2))};
	if (base >= INT64_MAX - 9 && op->type == SHMETA_OP_ADD_SEGMENT)
		op->u.segment.end_offset = INT64_MAX;
	if (pick(r, 6) > 0)
		op->u.segment.id =
			name_of(r, "%.2s-%u-%llu", op->name.data, op->partition_id, (unsigned long long)base);
	else
		op->u.segment.id = name_of(r, "id-%.2s-%u-%u", op->name.data, op->partition_id, pick(r, 3));
}

static enum shmeta_op_type pick_type(struct run *r, enum shmeta_op_type before)
{
	static const enum shmeta_op_type leases[] = {SHMETA_OP_ACQUIRE_LEASE, SHMETA_OP_OFFER_LEASE,
	                                             SHMETA_OP_ACCEPT_LEASE, SHMETA_OP_COMPLETE_LEASE,
	                                             SHMETA_OP_REJECT_LEASE};
	uint32_t which = pick(r, 10);
	enum shmeta_op_type type = (enum shmeta_op_type)(1 + pick(r, SHMETA_OP_TYPES - 1));

	if ((before == SHMETA_OP_COMMIT_OBJECT || before == SHMETA_OP_ADD_SLICE) && pick(r, 4) > 0)
		return SHMETA_OP_ADD_SLICE;
	if (which < 2)
		return leases[pick(r, 5)];
	if (which < 5)
		return pick(r, 2) != 0 ? SHMETA_OP_ADD_SEGMENT : SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	if ((type == SHMETA_OP_DELETE_TOPIC || type == SHMETA_OP_DEREGISTER_AGENT) && pick(r, 5) > 0)
		return pick(r, 2) != 0 ? SHMETA_OP_CREATE_TOPIC : SHMETA_OP_REGISTER_AGENT;
	return type == SHMETA_OP_ADD_SLICE ? SHMETA_OP_COMMIT_OBJECT : type;
}

static struct shmeta_op pick_op(struct run *r, enum shmeta_op_type type)
{
	size_t offers = 0, recent;

	for (int i = 0; i < ENGINES; i++)
		offers = r->side[i].model.offers > offers ? r->side[i].model.offers : offers;
	recent = offers < 6 ? offers : 6;
	struct shmeta_op op = {.type = type,
	                       .name = name_of(r, "t%u", pick(r, MODEL_TOPICS)),
	                       .partition_id = pick(r, MODEL_PARTITIONS),
	                       .agent_id = name_of(r, "a%u", pick(r, MODEL_AGENTS)),
	                       .to_agent_id = name_of(r, "a%u", pick(r, MODEL_AGENTS)),
	                       .group_id = name_of(r, "g%u", pick(r, MODEL_GROUPS)),
	                       .duration_ms = 3600000,
	                       .offset = pick(r, 40) == 0 ? INT64_MAX : pick(r, 200)};
	bool fenced = false;

	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic = (struct shmeta_topic){
			.name = op.name, .partition_count = 1 + pick(r, MODEL_PARTITIONS), .has_retention = pick(r, 2)};
		op.u.topic.retention_ms = op.u.topic.has_retention ? 1000 : 0;
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		fenced = pick(r, 3) == 0;
		break;
	case SHMETA_OP_ADD_SLICE:
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		pick_segment(r, &op);
		if (type == SHMETA_OP_ADD_SLICE) {
			op.u.segment.s3_bucket = op.u.segment.s3_key = (struct shmeta_str){"", 0};
			op.u.segment.position = pick(r, 100);
		}
		fenced = pick(r, 3) == 0;
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.u.committed = (struct shmeta_committed_offset){
			.group_id = op.group_id, .committed_offset = op.offset, .has_metadata = pick(r, 2)};
		if (op.u.committed.has_metadata)
			op.u.committed.metadata = name_of(r, "note");
		break;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = op.agent_id,
		                                   .address = pick(r, 4) > 0 ? op.agent_id : op.to_agent_id,
		                                   .availability_zone = name_of(r, "zone"),
		                                   .agent_group = name_of(r, "group"),
		                                   .last_heartbeat_ms = r->step,
		                                   .started_at_ms = pick(r, 9)};
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE: /* a number of the model's; each side has its own for it */
		op.transfer_id = recent > 0 ? offers - pick(r, (uint32_t)recent) : MODEL_OFFERS + 1;
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object = (struct shmeta_object){.s3_bucket = name_of(r, "bucket"),
		                                     .s3_key = name_of(r, "o%u", pick(r, MODEL_OBJECTS)),
		                                     .size_bytes = 100 + pick(r, 2),
		                                     .created_at_ms = 3};
		break;
	default:
		break;
	}
	if (fenced)
		op.fence = (struct shmeta_fence){op.agent_id, 1 + pick(r, 4)};
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
		trace(r, "%s: %d %.*s/%u agent %.*s -> call %d, %d %s", s->name, (int)ops[i].type,
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
	       got->existing.size_bytes == expected->existing.size_bytes;
}

static void expect_results(struct run *r, struct side *s, const struct shmeta_op *ops, const struct shmeta_result *got,
                           const struct shmeta_result *expected, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cr_assert(
			same_result(&got[i], &expected[i]),
			"seed %llu step %u: %s: operation %zu of %zu (type %d on %.*s/%u): the model says %d count %llu "
			"epoch %llu base %llu, it answered %d (%s) count %llu epoch %llu base %llu",
			(unsigned long long)r->seed, r->step, s->name, i, count, (int)ops[i].type,
			(int)ops[i].name.bytes, ops[i].name.data, ops[i].partition_id, (int)expected[i].status,
			(unsigned long long)expected[i].count, (unsigned long long)expected[i].lease.epoch,
			(unsigned long long)expected[i].existing.base_offset, (int)got[i].status, got[i].text,
			(unsigned long long)got[i].count, (unsigned long long)got[i].lease.epoch,
			(unsigned long long)got[i].existing.base_offset);
		r->done[ops[i].type] += got[i].status == SHMETA_OK;
		r->refused[ops[i].type] += got[i].status != SHMETA_OK;
		if (ops[i].type == SHMETA_OP_OFFER_LEASE && expected[i].status == SHMETA_OK)
			s->transfer[expected[i].transfer_id - 1] = got[i].transfer_id;
	}
}

/* One call of some operations, to every engine. */
static void step_call(struct run *r)
{
	struct shmeta_op ops[CALL_MAX];
	struct shmeta_result got[CALL_MAX], expected[CALL_MAX];
	struct shmeta_op own[CALL_MAX];
	size_t count = 1 + pick(r, CALL_MAX);

	for (size_t i = 0; i < count; i++)
		ops[i] = pick_op(r, pick_type(r, i > 0 ? ops[i - 1].type : SHMETA_OP_TYPES));
	for (struct side *s = r->side; s < r->side + ENGINES; s++) {
		if (s->name == NULL)
			continue;
		/* Nobody knows the number of an offer before it is answered, nor that of one on another side. */
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

/* ---- others ---------------------------------------------------------------------------------------------------------------------- */

struct change {
	char sql[900];
	struct model after;
};

/* A row of our own beside what the API puts: ids and keys that it never uses. */
static void change_segment(struct run *r, const struct side *s, struct change *c, int t, uint32_t p)
{
	struct model *m = &c->after;
	uint64_t base = pick(r, 16) * 10 + 1;
	struct model_segment row = {.base = base, .end = base + 7, .size = 3, .records = 8, .created_ms = 1};
	const char *verb = s->world.pg != NULL ? "INSERT" : "INSERT OR REPLACE";
	const char *clash = s->world.pg != NULL
	                            ? " ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, partition_id = "
	                              "excluded.partition_id, base_offset = excluded.base_offset, "
	                              "end_offset = excluded.end_offset, size_bytes = 3, record_count = 8"
	                            : "";

	/* Few ids: one that is there already moves, by REPLACE or by an upsert. */
	(void)snprintf(row.id, sizeof row.id, "other-%u", pick(r, 5));
	(void)snprintf(row.key, sizeof row.key, "other");
	if (model_segment(m, t, p, base) != NULL || m->schema.adding_moves_retention)
		return;
	for (int i = 0; i < MODEL_TOPICS; i++)
		for (uint32_t k = 0; k < MODEL_PARTITIONS; k++)
			for (size_t n = m->topic[i].partition[k].segments; n-- > 0;)
				if (strcmp(m->topic[i].partition[k].segment[n].id, row.id) == 0)
					model_drop_segment(m, i, k, m->topic[i].partition[k].segment[n].base);
	if (!model_put_segment(m, t, p, &row))
		return;
	(void)snprintf(
		c->sql, sizeof c->sql,
		"%s INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) VALUES ('%s', 't%d', %u, %llu, %llu, 8, 3, 'bucket', 'other', 1)%s",
		verb, row.id, t, p, (unsigned long long)base, (unsigned long long)row.end, clash);
}

static void change_lease(struct run *r, struct change *c, int t, uint32_t p)
{
	struct model_partition *part = &c->after.topic[t].partition[p];
	int agent = (int)pick(r, MODEL_AGENTS);
	uint64_t epoch = part->floor + 1 + pick(r, 40);

	if (part->lease.there && pick(r, 3) == 0) {
		part->lease.expired = true;
		(void)snprintf(
			c->sql, sizeof c->sql,
			"UPDATE partition_leases SET lease_expires_at = 1 WHERE topic = 't%d' AND partition_id = %u", t,
			p);
	} else if (part->lease.there && pick(r, 2) == 0) {
		part->lease.there = false;
		(void)snprintf(c->sql, sizeof c->sql,
		               "DELETE FROM partition_leases WHERE topic = 't%d' AND partition_id = %u", t, p);
	} else if (c->after.agent[agent].there) {
		model_set_lease(&c->after, t, p, agent, epoch, false);
		(void)snprintf(
			c->sql, sizeof c->sql,
			"INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, "
			"acquired_at, epoch) VALUES ('t%d', %u, 'a%d', 9000000000000, 5, %llu) ON CONFLICT (topic, "
			"partition_id) DO UPDATE SET leader_agent_id = excluded.leader_agent_id, epoch = "
			"excluded.epoch, lease_expires_at = excluded.lease_expires_at",
			t, p, agent, (unsigned long long)epoch);
	}
}

static void change_topic(struct run *r, struct change *c, int t)
{
	struct model_topic *topic = &c->after.topic[t];

	if (!topic->there) {
		topic->there = true;
		topic->partitions = 2;
		topic->partition[0].there = topic->partition[1].there = true;
		(void)snprintf(
			c->sql, sizeof c->sql,
			"INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES ('t%d', 2, 3, 3); "
			"INSERT INTO partitions(topic, partition_id, created_at, updated_at) VALUES ('t%d', 0, 3, 3), "
			"('t%d', 1, 3, 3)",
			t, t, t);
	} else if (pick(r, 3) > 0 || c->after.schema.segments_are_held) {
		topic->config = 1 + (int)pick(r, 9);
		(void)snprintf(c->sql, sizeof c->sql, "UPDATE topics SET config = '{\"k\":\"%d\"}' WHERE name = 't%d'",
		               topic->config, t);
	} else {
		model_drop_topic(&c->after, t);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM topics WHERE name = 't%d'", t);
	}
}

static void change_group(struct run *r, struct change *c, int t, uint32_t p)
{
	int g = (int)pick(r, MODEL_GROUPS);

	if (c->after.group[g] && pick(r, 3) == 0) {
		model_drop_group(&c->after, g);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM consumer_groups WHERE group_id = 'g%d'", g);
		return;
	}
	c->after.group[g] = true;
	c->after.topic[t].partition[p].committed[g].there = true;
	c->after.topic[t].partition[p].committed[g].offset = r->step;
	c->after.topic[t].partition[p].committed[g].has_metadata = false;
	(void)snprintf(c->sql, sizeof c->sql,
	               "INSERT INTO consumer_groups(group_id, created_at, updated_at) VALUES ('g%d', 1, 1) ON CONFLICT "
	               "DO NOTHING; INSERT INTO consumer_offsets(group_id, topic, partition_id, committed_offset, "
	               "committed_at) VALUES ('g%d', 't%d', %u, %u, 1) ON CONFLICT (group_id, topic, partition_id) DO "
	               "UPDATE SET committed_offset = excluded.committed_offset, metadata = NULL",
	               g, g, t, p, r->step);
}

static void change_agent(struct run *r, const struct side *s, struct change *c)
{
	int a = (int)pick(r, MODEL_AGENTS);
	struct model_agent *agent = &c->after.agent[a];

	if (agent->there && pick(r, 3) == 0) {
		model_drop_agent(&c->after, a);
		(void)snprintf(c->sql, sizeof c->sql, "DELETE FROM agents WHERE agent_id = 'a%d'", a);
		return;
	}
	/* REPLACE removes the row that has the id, and the one that has the address, with their leases; an upsert alters it. */
	for (int i = 0; i < MODEL_AGENTS; i++)
		if (c->after.agent[i].there && strcmp(c->after.agent[i].address, "elsewhere") == 0 && i != a) {
			if (s->world.pg != NULL)
				return;
			model_drop_agent(&c->after, i);
		}
	if (s->world.pg == NULL)
		model_drop_agent(&c->after, a);
	*agent = (struct model_agent){.there = true, .address = "elsewhere", .heartbeat_ms = r->step, .started_ms = 4};
	(void)snprintf(c->sql, sizeof c->sql,
	               "%s INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at) "
	               "VALUES ('a%d', 'elsewhere', 'zone', 'group', %u, 4)%s",
	               s->world.pg != NULL ? "INSERT" : "INSERT OR REPLACE", a, r->step,
	               s->world.pg != NULL ? " ON CONFLICT (agent_id) DO UPDATE SET address = excluded.address, "
	                                     "last_heartbeat = excluded.last_heartbeat, started_at = 4"
	                                   : "");
}

static void change_watermark(struct run *r, const struct side *s, struct change *c, int t, uint32_t p)
{
	uint64_t watermark = pick(r, 30) == 0 ? INT64_MAX - 1 : pick(r, 300);

	if (!model_watermark_allowed(&c->after, watermark))
		return;
	c->after.topic[t].partition[p].watermark = watermark;
	if (s->world.pg != NULL && pick(r, 2) == 0)
		(void)snprintf(
			c->sql, sizeof c->sql,
			"MERGE INTO partitions p USING (VALUES ('t%d', %u, %llu::bigint)) v(t, i, w) ON p.topic = v.t "
			"AND p.partition_id = v.i WHEN MATCHED THEN UPDATE SET high_watermark = v.w",
			t, p, (unsigned long long)watermark);
	else
		(void)snprintf(c->sql, sizeof c->sql,
		               "UPDATE partitions SET high_watermark = %llu WHERE topic = 't%d' AND partition_id = %u",
		               (unsigned long long)watermark, t, p);
}

static void change_retention(struct run *r, struct change *c, int t, uint32_t p)
{
	struct model_partition *part = &c->after.topic[t].partition[p];
	uint64_t before = pick(r, 160);

	if (c->after.schema.segments_are_held)
		return;
	for (size_t i = part->segments; i-- > 0;)
		if (part->segment[i].end < before)
			model_drop_segment(&c->after, t, p, part->segment[i].base);
	(void)snprintf(c->sql, sizeof c->sql,
	               "DELETE FROM segments WHERE topic = 't%d' AND partition_id = %u AND end_offset < %llu", t, p,
	               (unsigned long long)before);
}

/* One change by somebody else; empty when the tables stand against it. The sides draw the same numbers. */
static void pick_change(struct run *r, const struct side *s, struct change *c)
{
	uint32_t kind = pick(r, 8), p = pick(r, MODEL_PARTITIONS);
	int t = (int)pick(r, MODEL_TOPICS);
	bool there = c->after.topic[t].there && c->after.topic[t].partition[p].there;

	c->sql[0] = '\0';
	if (kind == 0)
		change_topic(r, c, t);
	else if (kind == 1)
		change_agent(r, s, c);
	else if (!there)
		return;
	else if (kind == 2)
		change_segment(r, s, c, t, p);
	else if (kind == 3)
		change_lease(r, c, t, p);
	else if (kind == 4)
		change_group(r, c, t, p);
	else if (kind == 5)
		change_retention(r, c, t, p);
	else
		change_watermark(r, s, c, t, p);
}

/* A transaction of somebody else on one side: some of them end in a rollback. */
static void outside(struct run *r, struct side *s)
{
	struct change *c = calloc(1, sizeof *c);
	uint32_t count = 1 + pick(r, 4);
	bool keeps = pick(r, 5) > 0;

	cr_assert_not_null(c);
	c->after = s->model;
	world_begin(&s->world);
	for (uint32_t i = 0; i < count; i++) {
		pick_change(r, s, c);
		if (c->sql[0] == '\0')
			continue;
		trace(r, "%s: %s%s", s->name, c->sql, keeps ? "" : " (rolled back)");
		world_sql(&s->world, "%s", c->sql);
	}
	world_sql(&s->world, keeps ? "COMMIT" : "ROLLBACK");
	if (keeps) {
		s->model = c->after;
		s->changed_s = run_now_s();
	}
	free(c);
}

static void step_outside(struct run *r)
{
	for (struct side *s = r->side; s < r->side + ENGINES; s++)
		if (s->name != NULL && s->outsiders)
			outside(r, s);
}

/* ---- kills, lost connections, lost triggers ------------------------------------------------------------------------------------ */

static void start_again(struct run *r, struct side *s)
{
	/* Another database in memory is another source, and it is empty: a daemon that had the former one's store would hold it. */
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
			s->model.offer[i].state = MODEL_REJECTED;
			s->transfer[i] = NO_TRANSFER;
		}
		attach(s);
	}
	s->changed_s = run_now_s();
}

static void row_trigger(const char *const *c, struct model_lines *lines)
{
	if (c[1] != NULL)
		model_line(lines, "DROP TRIGGER %s ON %s;", c[0], c[1]);
	else
		model_line(lines, "DROP TRIGGER %s;", c[0]);
}

/* The feed's triggers go: by a migration that rebuilds tables, by an operator. */
static void lose_triggers(struct run *r, struct side *s)
{
	struct model_lines names = {.line = NULL};

	trace(r, "%s: the triggers of the change feed are dropped", s->name);
	each_row(
		s,
		s->world.pg != NULL
			? "SELECT tgname, relname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE tgname LIKE "
			  "'shmeta%' AND NOT tgisinternal AND relname NOT LIKE 'shmeta%'"
			: "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'shmeta%' AND "
			  "tbl_name NOT LIKE 'shmeta%'",
		row_trigger, &names);
	char *sql = model_lines_text(&names);

	cr_assert_str_neq(sql, "");
	world_sql(&s->world, "%s", sql);
	free(sql);
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

/* A call during which the daemon is killed, or its connections are cut. What was answered is so; what was not is nothing, or the first
 * operations of the call, or all of them. Only what the tables show can be told apart. */
static void call_under_fire(struct run *r, struct side *s, bool cut)
{
	static const enum shmeta_op_type seen[] = {SHMETA_OP_ADD_SEGMENT, SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                                           SHMETA_OP_UPDATE_HIGH_WATERMARK, SHMETA_OP_COMMIT_OFFSET,
	                                           SHMETA_OP_CREATE_TOPIC};
	struct killer killer = {&s->daemon, cut ? &s->world : NULL, pick(r, 3000)};
	struct shmeta_op ops[CALL_MAX];
	struct shmeta_result got[CALL_MAX], expected[CALL_MAX];
	struct model *after = calloc(CALL_MAX + 1, sizeof *after);
	size_t count = 1 + pick(r, CALL_MAX), done = 0;
	pthread_t thread;

	cr_assert_not_null(after);
	after[0] = s->model;
	for (size_t i = 0; i < count; i++) {
		ops[i] = pick_op(r, seen[pick(r, 5)]);
		after[i + 1] = after[i];
		model_do(&after[i + 1], &ops[i], 1, &expected[i]);
	}
	cr_assert_eq(pthread_create(&thread, NULL, kill_soon, &killer), 0);
	enum shmeta_status status = write_to(r, s, ops, count, got);

	cr_assert_eq(pthread_join(thread, NULL), 0);
	trace(r, "%s: %s under the call, which answered %d", s->name, cut ? "connections cut" : "killed", (int)status);
	if (!cut) {
		(void)run_daemon_end(&s->daemon, SIGKILL);
		start_again(r, s);
	}
	if (!s->outsiders) {
		free(after);
		return;
	}
	/* While the connection is being made anew nothing is answered but that. */
	char *text = source_text(s);
	bool unknown = status == SHMETA_ERR_OUTCOME_UNKNOWN || status == SHMETA_ERR_TIMEOUT;

	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		unknown |= got[i].status == SHMETA_ERR_OUTCOME_UNKNOWN;
	if (status == SHMETA_OK && !unknown)
		expect_results(r, s, ops, got, expected, count);
	bool found = false;

	for (size_t i = 0; i <= count && !found; i++) {
		bool allowed = unknown || i == (status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED ? count : 0);
		char *expects = model_text(&after[i]);

		found = allowed && difference(expects, text) == NULL;
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
	struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = name_of(r, "g0")};
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
	uint32_t how = pick(r, 8);

	for (struct side *s = r->side; s < r->side + ENGINES; s++) {
		if (s->name == NULL)
			continue;
		switch (how) {
		case 0: /* a clean restart, and others write while nobody follows */
		case 1:
			(void)run_daemon_end(&s->daemon, how == 0 ? SIGTERM : SIGKILL);
			if (s->outsiders)
				outside(r, s);
			start_again(r, s);
			break;
		case 2: /* the same, and the triggers are gone meanwhile */
			(void)run_daemon_end(&s->daemon, SIGTERM);
			if (s->outsiders) {
				lose_triggers(r, s);
				outside(r, s);
			}
			start_again(r, s);
			break;
		case 3: /* or go under a daemon that runs */
			if (s->outsiders) {
				lose_triggers(r, s);
				outside(r, s);
			}
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

/* ---- a run ------------------------------------------------------------------------------------------------------------------------ */

/* What the application's own schema forbids or adds. RAISE as the seed says. */
static void make_hostile(struct run *r, struct side *s, const struct model_schema *schema, uint32_t how)
{
	static const char *const raises[] = {"ABORT", "FAIL", "ROLLBACK"};
	const char *raise = raises[how % 3];

	s->model.schema = *schema;
	if (s->world.pg != NULL) {
		if (schema->watermark_is_checked)
			world_sql(&s->world, "ALTER TABLE partitions ADD CHECK (high_watermark %% 7 <> 3)");
		if (schema->adding_moves_retention)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_moves() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE topics SET "
				"retention_ms = coalesce(retention_ms, 0) + 1 WHERE name = NEW.topic; RETURN NULL; END$$; "
				"CREATE TRIGGER app_moves AFTER INSERT ON segments FOR EACH ROW EXECUTE FUNCTION app_moves()");
		if (schema->segments_are_held)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_hold() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF OLD.base_offset %% 50 "
				"= 0 THEN RAISE EXCEPTION 'held'; END IF; RETURN OLD; END$$; "
				"CREATE TRIGGER app_hold BEFORE DELETE ON segments FOR EACH ROW EXECUTE FUNCTION app_hold()");
		if (schema->segments_are_swallowed)
			world_sql(
				&s->world,
				"CREATE FUNCTION app_swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.base_offset "
				"%% 60 = 30 THEN RETURN NULL; END IF; RETURN NEW; END$$; "
				"CREATE TRIGGER app_swallow BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION "
				"app_swallow()");
	} else if (s->outsiders) {
		if (schema->watermark_is_checked)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_checks BEFORE UPDATE ON partitions WHEN NEW.high_watermark %% 7 = 3 BEGIN "
				"SELECT RAISE(%s, 'no'); END",
				raise);
		if (schema->adding_moves_retention)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_moves AFTER INSERT ON segments BEGIN UPDATE topics SET retention_ms = "
				"coalesce(retention_ms, 0) + 1 WHERE name = NEW.topic; END");
		if (schema->segments_are_held)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_hold BEFORE DELETE ON segments WHEN OLD.base_offset %% 50 = 0 BEGIN SELECT "
				"RAISE(%s, 'held'); END",
				raise);
		if (schema->segments_are_swallowed)
			world_sql(
				&s->world,
				"CREATE TRIGGER app_swallow BEFORE INSERT ON segments WHEN NEW.base_offset %% 60 = 30 BEGIN "
				"SELECT RAISE(IGNORE); END");
	} else {
		s->model.schema = (struct model_schema){false, false, false, false};
	}
	(void)r;
}

static void side_start(struct run *r, struct side *s, enum world_engine engine, const struct model_schema *schema,
                       uint32_t how)
{
	FILE *config;

	s->name = world_names[engine];
	s->outsiders = engine != WORLD_MEMORY;
	world_make(&s->world, engine);
	if (!s->outsiders) /* a daemon of its own has its rows to itself */
		(void)snprintf(s->world.uri, sizeof s->world.uri, "memory:");
	cr_assert_eq(run_daemon_init(&s->daemon), 0);
	config = fopen(s->daemon.config, "we");
	cr_assert_not_null(config);
	(void)fputs("feed { poll_max_ms = 50ms }\nretry { max_ms = 200ms }\n", config);
	(void)fclose(config);
	/* The daemon makes the tables; the application comes after it. */
	cr_assert_eq(run_daemon_start(&s->daemon, s->world.uri), 0);
	if (engine == WORLD_SQLITE_NEW) {
		cr_assert_eq(sqlite3_open(s->world.path, &s->world.app), SQLITE_OK);
		(void)sqlite3_busy_timeout(s->world.app, 20000);
		world_sql(&s->world, "PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF");
	}
	make_hostile(r, s, schema, how);
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
	uint32_t n = pick(r, 12);

	return (struct model_schema){.adding_moves_retention = n == 0 || n == 4,
	                             .watermark_is_checked = n == 1 || n == 4,
	                             .segments_are_held = n == 2 || n == 5,
	                             .segments_are_swallowed = n == 3 || n == 5};
}

static void run_seed(uint64_t seed, uint64_t done[SHMETA_OP_TYPES], uint64_t refused[SHMETA_OP_TYPES])
{
	struct run *r = calloc(1, sizeof *r);

	cr_assert_not_null(r);
	r->seed = seed;
	r->random = seed * 0x9E3779B97F4A7C15u;
	r->trace = getenv("SHMETA_TRACE") != NULL;
	for (int i = 0; i < 4; i++)
		(void)pick(r, 2);
	const struct model_schema schema = pick_schema(r);
	uint32_t how = pick(r, 3);

	const char *only = getenv("SHMETA_ENGINE");

	for (int i = 0; i < ENGINES; i++)
		if (world_possible(engines[i]) && (only == NULL || i == (int)integer(only)))
			side_start(r, &r->side[i], engines[i], &schema, how);
	for (r->step = 0; r->step < STEPS; r->step++) {
		uint32_t what = pick(r, 20);

		if (what < 11)
			step_call(r);
		else if (what < 16)
			step_outside(r);
		else if (what < 17)
			step_fire(r);
		else
			for (struct side *s = r->side; s < r->side + ENGINES; s++)
				if (s->name != NULL)
					settle(r, s);
	}
	for (struct side *s = r->side; s < r->side + ENGINES; s++)
		if (s->name != NULL) {
			settle(r, s);
			side_end(s);
		}
	for (int i = 0; i < SHMETA_OP_TYPES; i++) {
		done[i] += r->done[i];
		refused[i] += r->refused[i];
	}
	free(r);
}

Test(differential, every_engine_answers_holds_and_shows_what_the_model_says)
{
	const char *one = getenv("SHMETA_SEED");
	uint64_t done[SHMETA_OP_TYPES] = {0}, refused[SHMETA_OP_TYPES] = {0}, runs = 0;
	double end = run_now_s() + run_rounds(60, 1200);

	if (one != NULL) {
		run_seed(strtoull(one, NULL, 10), done, refused);
		return;
	}
	for (uint64_t seed = 1; run_now_s() < end; seed++, runs++)
		run_seed(seed, done, refused);
	if (run_rounds(0, 1) > 0)
		(void)printf("differential: %llu runs of %d steps\n", (unsigned long long)runs, STEPS);
	/* Or it proved nothing. */
	for (int type = 1; runs >= 8 && type < SHMETA_OP_TYPES; type++)
		cr_expect_gt(done[type], 0, "no operation of type %d was ever done", type);
}
