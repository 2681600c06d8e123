/* SPDX-License-Identifier: Apache-2.0
 * The public client API in few words, for the conformance suite. */
#include "tests/support/conformance.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/hostile_schema.h"
#include "tests/support/source_world.h"
#include "tests/support/streamhouse_schema.h"

struct api api;

/* ---- the engines ---- */

static int make_memory(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)d;
	(void)snprintf(ret_uri, room, "memory:");
	return 0;
}

static int make_sqlite(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)snprintf(ret_uri, room, "sqlite:%s", d->db);
	return 0;
}

static int make_sqlite_v01(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)make_sqlite(d, ret_uri, room);
	return run_daemon_sql(d, STREAMHOUSE_V01);
}

static int make_sqlite_later(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)make_sqlite(d, ret_uri, room);
	return run_daemon_sql(d, STREAMHOUSE_LATER "INSERT INTO organizations(id, name, slug) VALUES('" OTHER_TENANT
	                                           "', 'other', 'other')");
}

static int make_sqlite_hostile(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)make_sqlite(d, ret_uri, room);
	return run_daemon_sql(d, STREAMHOUSE_V01 HOSTILE_SQLITE);
}

static void keep_one_partition(struct run_daemon *d)
{
	FILE *f = fopen(d->config, "we");

	cr_assert_not_null(f);
	(void)fputs("store { mode = bounded }\nbounded { max_partitions = 1 }\n", f);
	(void)fclose(f);
}

static int make_memory_bounded(struct run_daemon *d, char *ret_uri, size_t room)
{
	keep_one_partition(d);
	return make_memory(d, ret_uri, room);
}

static int make_sqlite_bounded(struct run_daemon *d, char *ret_uri, size_t room)
{
	keep_one_partition(d);
	return make_sqlite(d, ret_uri, room);
}

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

/* Of the test that is on, where its engines are some of these: the last one is where it is. */
static struct world worlds[16];
static size_t world_count;

static int make_world(enum world_engine engine, char *ret_uri, size_t room)
{
	if (!world_possible(engine))
		return 1;
	cr_assert_lt(world_count, sizeof worlds / sizeof worlds[0]);
	world_make(&worlds[world_count], engine);
	(void)snprintf(ret_uri, room, "%s", worlds[world_count++].uri);
	return 0;
}

static int make_postgresql(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)d;
	return make_world(WORLD_PG_NEW, ret_uri, room);
}

static int make_postgresql_v01(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)d;
	return make_world(WORLD_PG_V01, ret_uri, room);
}

/* The shape's own key of leases lets no two organizations have a topic of one name leased; the
 * claims are about those who mended it. */
static int make_postgresql_later(struct run_daemon *d, char *ret_uri, size_t room)
{
	int made = make_world(WORLD_PG_LATER, ret_uri, room);

	(void)d;
	if (made == 0)
		world_sql(&worlds[world_count - 1],
		          "ALTER TABLE partition_leases DROP CONSTRAINT partition_leases_pkey, ADD PRIMARY KEY "
		          "(organization_id, topic, partition_id)");
	return made;
}

static int make_cockroachdb(struct run_daemon *d, char *ret_uri, size_t room)
{
	(void)d;
	return make_world(WORLD_COCKROACH, ret_uri, room);
}

static int make_dynamodb(struct run_daemon *d, char *ret_uri, size_t room)
{
	FILE *f = fopen(d->config, "we");
	int made = make_world(WORLD_DYNAMODB, ret_uri, room);
	const struct backend_options *o = &worlds[world_count > 0 ? world_count - 1 : 0].options;

	/* Polls every 5 ms leave an emulator little time for anything else. */
	cr_assert_not_null(f);
	(void)fprintf(f,
	              "source { timeout_ms = 20s read_units_s = %" PRIu32 " write_units_s = %" PRIu32
	              " }\nfeed { poll_min_ms = 200ms }\n",
	              o->read_units_s, o->write_units_s);
	(void)fclose(f);
	return made;
}

static int sql_world(struct run_daemon *d, const char *sql)
{
	(void)d;
	world_sql(&worlds[world_count - 1], "%s", sql);
	return 0;
}

/* An engine more: a row here, its name in CONFORMANCE_ENGINES. */
static const struct conformance_engine engine_memory = {
	.name = "memory", .make = make_memory, .tenants = true, .timestamps = true, .dies = true};
static const struct conformance_engine engine_sqlite = {
	.name = "sqlite", .make = make_sqlite, .sql = run_daemon_sql, .timestamps = true};
static const struct conformance_engine engine_sqlite_v01 = {
	.name = "sqlite_v01", .make = make_sqlite_v01, .sql = run_daemon_sql};
static const struct conformance_engine engine_sqlite_later = {
	.name = "sqlite_later", .make = make_sqlite_later, .sql = run_daemon_sql, .tenants = true, .timestamps = true};
static const struct conformance_engine engine_sqlite_hostile = {
	.name = "sqlite_hostile", .make = make_sqlite_hostile, .sql = run_daemon_sql};

static const struct conformance_engine engine_memory_bounded = {.name = "memory_bounded",
                                                                .make = make_memory_bounded,
                                                                .tenants = true,
                                                                .timestamps = true,
                                                                .dies = true,
                                                                .bounded = true};
static const struct conformance_engine engine_sqlite_bounded = {.name = "sqlite_bounded",
                                                                .make = make_sqlite_bounded,
                                                                .sql = run_daemon_sql,
                                                                .timestamps = true,
                                                                .bounded = true};

static const struct conformance_engine engine_postgresql = {
	.name = "postgresql", .make = make_postgresql, .sql = sql_world, .timestamps = true};
static const struct conformance_engine engine_postgresql_v01 = {
	.name = "postgresql_v01", .make = make_postgresql_v01, .sql = sql_world, .narrow = true};
static const struct conformance_engine engine_postgresql_later = {.name = "postgresql_later",
                                                                  .make = make_postgresql_later,
                                                                  .sql = sql_world,
                                                                  .narrow = true,
                                                                  .tenants = true,
                                                                  .timestamps = true};
static const struct conformance_engine engine_cockroachdb = {
	.name = "cockroachdb", .make = make_cockroachdb, .sql = sql_world, .timestamps = true};
static const struct conformance_engine engine_dynamodb = {
	.name = "dynamodb", .make = make_dynamodb, .tenants = true, .timestamps = true, .slow = true};

#define IN_LIST(engine, claim) &engine_##engine,
const struct conformance_engine *const conformance_engines[] = {CONFORMANCE_PLAIN(IN_LIST, ) NULL};

/* ---- a claim's beginning and end ---- */

static void attach(const char *tenant)
{
	char error[480] = "";
	struct shmeta_options options = {.size = sizeof options,
	                                 .directory = api.d.instance,
	                                 .tenant = tenant,
	                                 .agent = "conformance",
	                                 .error = error,
	                                 .error_bytes = sizeof error};

	cr_assert_eq(shmeta_open(&options, &api.instance), SHMETA_OK, "%s", error);
	api.reader = run_daemon_reader(api.instance);
	cr_assert_not_null(api.reader);
	cr_assert_eq(shmeta_client_open(api.instance, NULL, &api.client), SHMETA_OK);
	api_look();
}

static void detach(void)
{
	shmeta_client_close(api.client);
	shmeta_reader_free(api.reader);
	shmeta_close(api.instance);
	api.client = NULL;
	api.reader = NULL;
	api.instance = NULL;
}

void api_as(const char *tenant)
{
	detach();
	attach(tenant);
}

static void start(const struct conformance_engine *engine)
{
	static const struct shmeta_read resolving = {.size = sizeof resolving,
	                                             .consistency = SHMETA_FRESH,
	                                             .timeout_ms = API_WAIT_MS,
	                                             .flags = SHMETA_READ_MAY_MOVE};
	int made;

	api.engine = engine;
	api.read = engine->bounded ? &resolving : NULL;
	cr_assert_eq(run_daemon_init(&api.d), 0);
	made = engine->make(&api.d, api.source, sizeof api.source);
	if (made > 0) {
		run_daemon_done(&api.d);
		cr_skip_test("there is no such engine on this machine");
	}
	cr_assert_eq(made, 0);
	cr_assert_eq(run_daemon_start(&api.d, api.source), 0);
	attach(NULL);
}

#define API_ON(engine, claim)            \
	void api_on_##engine(void)       \
	{                                \
		start(&engine_##engine); \
	}
CONFORMANCE_PLAIN(API_ON, )
CONFORMANCE_HOSTILE(API_ON, )
CONFORMANCE_BOUNDED(API_ON, )

void api_done(void)
{
	detach();
	run_daemon_done(&api.d);
	while (world_count > 0)
		world_free(&worlds[--world_count]);
}

void api_move_to(const struct run_daemon *other, const struct conformance_engine *engine, const char *source)
{
	detach();
	run_daemon_done(&api.d);
	api.d = *other;
	api.engine = engine;
	(void)snprintf(api.source, sizeof api.source, "%s", source);
	attach(NULL);
}

void api_restart(void)
{
	detach();
	cr_assert_eq(run_daemon_end(&api.d, SIGTERM), 0);
	cr_assert_eq(run_daemon_start(&api.d, api.source), 0);
	attach(NULL);
}

void api_configure(const char *text)
{
	FILE *f = fopen(api.d.config, "we");
	char error[300] = "";

	cr_assert_not_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
	cr_assert_eq(shmeta_reload(api.instance, API_WAIT_MS, error, sizeof error), SHMETA_OK, "%s", error);
	api_look();
}

int api_sql(const char *sql)
{
	return api.engine->sql(&api.d, sql);
}

struct shmeta_str api_str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

void api_look(void)
{
	(void)shmeta_end(api.reader);
	cr_assert_eq(run_daemon_begin(api.reader), SHMETA_OK);
}

enum shmeta_status api_do(const struct shmeta_op *ops, size_t count)
{
	enum shmeta_status status;

	cr_assert_leq(count, API_RESULTS);
	status = shmeta_write(api.client, ops, count, API_WAIT_MS, api.result, &api.token);
	api_look();
	return status != SHMETA_OK ? status : api.result[0].status;
}

enum shmeta_status api_create(const char *name, uint32_t partitions)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = S(name), .partition_count = partitions}};

	return api_do(&op, 1);
}

enum shmeta_status api_drop(const char *name)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = S(name)};

	return api_do(&op, 1);
}

struct shmeta_op api_segment(const char *topic, uint32_t partition, uint64_t base, uint64_t end, char id[64])
{
	(void)snprintf(id, 64, "%s-%u-%llu", topic, partition, (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT,
	                          .name = S(topic),
	                          .partition_id = partition,
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = end,
	                                        .record_count = (uint32_t)(end - base + 1),
	                                        .size_bytes = 100,
	                                        .created_at_ms = 5,
	                                        .id = S(id),
	                                        .s3_bucket = S("bucket"),
	                                        .s3_key = S(id)}};
}

enum shmeta_status api_add(const char *topic, uint32_t partition, uint64_t base, uint64_t end)
{
	char id[64];
	struct shmeta_op op = api_segment(topic, partition, base, end, id);

	return api_do(&op, 1);
}

enum shmeta_status api_append(const char *topic, uint32_t partition, uint64_t base, uint64_t end)
{
	char id[64];
	struct shmeta_op op = api_segment(topic, partition, base, end, id);

	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	return api_do(&op, 1);
}

enum shmeta_status api_set_watermark(const char *topic, uint32_t partition, uint64_t offset)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S(topic), .partition_id = partition, .offset = offset};

	return api_do(&op, 1);
}

enum shmeta_status api_delete_before(const char *topic, uint32_t partition, uint64_t offset)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
	                       .name = S(topic),
	                       .partition_id = partition,
	                       .offset = offset};

	return api_do(&op, 1);
}

enum shmeta_status api_commit(const char *group, const char *topic, uint32_t partition, uint64_t offset,
                              const char *metadata)
{
	struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OFFSET,
	                       .name = S(topic),
	                       .partition_id = partition,
	                       .u.committed = {.group_id = S(group), .committed_offset = offset}};

	if (metadata != NULL) {
		op.u.committed.has_metadata = 1;
		op.u.committed.metadata = S(metadata);
	}
	return api_do(&op, 1);
}

struct shmeta_op api_agent(const char *agent, char address[64])
{
	(void)snprintf(address, 64, "%s:9000", agent);
	return (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = S(agent),
	                                      .address = S(address),
	                                      .availability_zone = S("z"),
	                                      .agent_group = S("g"),
	                                      .last_heartbeat_ms = 1000000,
	                                      .started_at_ms = 1000}};
}

enum shmeta_status api_register(const char *agent)
{
	char address[64];
	struct shmeta_op op = api_agent(agent, address);

	return api_do(&op, 1);
}

enum shmeta_status api_deregister(const char *agent)
{
	struct shmeta_op op = {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = S(agent)};

	return api_do(&op, 1);
}

enum shmeta_status api_acquire(const char *topic, uint32_t partition, const char *agent, int64_t duration_ms)
{
	struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                       .name = S(topic),
	                       .partition_id = partition,
	                       .agent_id = S(agent),
	                       .duration_ms = duration_ms};

	return api_do(&op, 1);
}

enum shmeta_status api_release(const char *topic, uint32_t partition, const char *agent)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_RELEASE_LEASE, .name = S(topic), .partition_id = partition, .agent_id = S(agent)};

	return api_do(&op, 1);
}

/* ---- reading ---- */

enum shmeta_status api_topic(const char *name, struct shmeta_topic *ret)
{
	return shmeta_get_topic(api.reader, name, strlen(name), api.read, ret, NULL);
}

enum shmeta_status api_partition(const char *topic, uint32_t partition, struct shmeta_partition *ret)
{
	return shmeta_get_partition_named(api.reader, topic, strlen(topic), partition, api.read, ret, NULL);
}

uint64_t api_watermark(const char *topic, uint32_t partition)
{
	struct shmeta_partition p;

	return api_partition(topic, partition, &p) == SHMETA_OK ? p.high_watermark : UINT64_MAX;
}

enum shmeta_status api_find(const char *topic, uint32_t partition, uint64_t offset, struct shmeta_segment *ret)
{
	return shmeta_find_segment_named(api.reader, topic, strlen(topic), partition, offset, api.read, ret, NULL);
}

uint64_t api_base(const char *topic, uint32_t partition, uint64_t offset)
{
	struct shmeta_segment s;

	return api_find(topic, partition, offset, &s) == SHMETA_OK ? s.base_offset : UINT64_MAX;
}

struct words {
	char *text;
	size_t bytes;
};

enum { WORDS_MAX = 4096 };

static struct words words(void)
{
	static char room[4][WORDS_MAX];
	static unsigned int next;
	struct words w = {room[next++ % 4], 0};

	w.text[0] = '\0';
	return w;
}

__attribute__((format(printf, 2, 3))) static void say(struct words *w, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (w->bytes > 0)
		w->text[w->bytes++] = ' ';
	va_start(ap, fmt);
	n = vsnprintf(w->text + w->bytes, WORDS_MAX - w->bytes, fmt, ap);
	va_end(ap);
	w->bytes += (size_t)n;
	cr_assert_lt(w->bytes, WORDS_MAX - 1);
}

/* The list, or why it is none. */
static const char *told(struct words *w, struct shmeta_iter *iter, enum shmeta_status status)
{
	shmeta_iter_free(iter);
	return status == SHMETA_END ? w->text : shmeta_strerror(status);
}

#define TEXT(s) (int)(s).bytes, (s).data

const char *api_topics(const char *pattern, int glob)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic t;
	enum shmeta_status status =
		shmeta_list_topics(api.reader, pattern, pattern == NULL ? 0 : strlen(pattern), glob, NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_topic(iter, &t, NULL)) == SHMETA_OK)
		say(&w, "%.*s", TEXT(t.name));
	return told(&w, iter, status);
}

/* They are not resident all at once: one after the other. */
static const char *each_partition(const char *topic)
{
	struct words w = words();
	struct shmeta_partition p;
	struct shmeta_topic t;
	enum shmeta_status status = api_topic(topic, &t);
	uint32_t found = 0;

	for (uint32_t id = 0; status == SHMETA_OK && found < t.partition_count; id++) {
		status = api_partition(topic, id, &p);
		if (status == SHMETA_OK) {
			say(&w, "%u", id);
			found++;
		}
	}
	return told(&w, NULL, status == SHMETA_OK ? SHMETA_END : status);
}

const char *api_partitions(const char *topic)
{
	if (api.engine->bounded)
		return each_partition(topic);
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_partition p;
	enum shmeta_status status = shmeta_list_partitions(api.reader, topic, strlen(topic), NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_partition(iter, &p, NULL)) == SHMETA_OK)
		say(&w, "%u", p.partition_id);
	return told(&w, iter, status);
}

const char *api_segments(const char *topic, uint32_t partition)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment s;
	enum shmeta_status status =
		shmeta_list_segments_named(api.reader, topic, strlen(topic), partition, 0, UINT64_MAX, api.read, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &s)) == SHMETA_OK)
		say(&w, "%llu-%llu", (unsigned long long)s.base_offset, (unsigned long long)s.end_offset);
	return told(&w, iter, status);
}

const char *api_offsets(const char *group)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_committed_offset o;
	struct shmeta_str topic;
	enum shmeta_status status = shmeta_list_committed_offsets(api.reader, group, strlen(group), NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_committed_offset(iter, &topic, &o, NULL)) == SHMETA_OK)
		say(&w, "%.*s/%u=%llu", TEXT(topic), o.partition_id, (unsigned long long)o.committed_offset);
	return told(&w, iter, status);
}

const char *api_groups(void)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_group g;
	enum shmeta_status status = shmeta_list_groups(api.reader, NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_group(iter, &g, NULL)) == SHMETA_OK)
		say(&w, "%.*s", TEXT(g.group_id));
	return told(&w, iter, status);
}

const char *api_agents(const char *group, const char *zone, int64_t now_ms)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_agent a;
	enum shmeta_status status = shmeta_list_agents(api.reader, group, group == NULL ? 0 : strlen(group), zone,
	                                               zone == NULL ? 0 : strlen(zone), now_ms, NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_agent(iter, &a, NULL)) == SHMETA_OK)
		say(&w, "%.*s", TEXT(a.agent_id));
	return told(&w, iter, status);
}

const char *api_leases(const char *topic, const char *agent, int64_t now_ms)
{
	struct words w = words();
	struct shmeta_iter *iter = NULL;
	struct shmeta_lease l;
	struct shmeta_str name;
	enum shmeta_status status = shmeta_list_leases(api.reader, topic, topic == NULL ? 0 : strlen(topic), agent,
	                                               agent == NULL ? 0 : strlen(agent), now_ms, NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_lease(iter, &name, &l, NULL)) == SHMETA_OK)
		say(&w, "%.*s/%u:%.*s@%llu", TEXT(name), l.partition_id, TEXT(l.leader_agent_id),
		    (unsigned long long)l.epoch);
	return told(&w, iter, status);
}
