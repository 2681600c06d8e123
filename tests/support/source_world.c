/* SPDX-License-Identifier: Apache-2.0
 * A source of each engine behind one set of verbs (source_world.h). */
#include "tests/support/source_world.h"

#include "tests/support/memory_faults.h"
#include "tests/support/skeleton_engine.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/ddb_proxy.h"
#include "tests/support/ddb_server.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/scratch.h"
#include "tests/support/streamhouse_schema.h"

const char *const world_names[WORLD_ENGINES] = {"memory",
                                                "sqlite, own schema",
                                                "sqlite, StreamHouse v0.1",
                                                "sqlite, StreamHouse later",
                                                "postgresql, own schema",
                                                "postgresql, StreamHouse v0.1",
                                                "postgresql, StreamHouse later",
                                                "cockroachdb dialect",
                                                "dynamodb"};

static const int64_t now_ms = 1700000000000;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

/* Criterion runs each test in a program of its own: it finds the server by the environment. */
static const char servers_at[] = "SHMETA_TEST_POSTGRES";
static struct pg_cluster servers;
/* The emulator's port; or tables of one's own account, "dynamodb://REGION/PREFIX"
 * (tests/system/real_aws.sh). */
static const char emulator_at[] = "SHMETA_TEST_DYNAMODB";
/* A cluster of one's own, "cockroachdb://..." (tests/system/real_cockroach.sh). */
static const char cockroach_at[] = "SHMETA_TEST_COCKROACH";
static struct ddb_server emulator;
static struct ddb_proxy verifier; /* in front of it: no request whose signature is wrong is taken */

static void look_for_emulator_at(uint16_t port)
{
	char text[8];

	(void)snprintf(text, sizeof text, "%u", port);
	setenv(emulator_at, text, 1);
}

void world_servers_start(void)
{
	if (getenv(emulator_at) == NULL && ddb_server_installed()) {
		ddb_server_start(&emulator);
		ddb_proxy_start(&verifier, emulator.port);
		look_for_emulator_at(verifier.port);
	}
	if (!pg_cluster_installed())
		return;
	pg_cluster_start(&servers, NULL);
	setenv(servers_at, servers.dir, 1);
}

void world_servers_stop(void)
{
	pg_cluster_stop(&servers);
	ddb_proxy_stop(&verifier);
	ddb_server_stop(&emulator);
}

bool world_open_alone(struct world *world, struct ddb_server *server)
{
	if (!ddb_server_installed())
		return false;
	ddb_server_start(server);
	look_for_emulator_at(server->port);
	world_make(world, WORLD_DYNAMODB);
	world_open(world);
	return true;
}

void world_free_alone(struct world *world, struct ddb_server *server)
{
	if (server->pid == 0)
		return;
	world_free(world);
	ddb_server_stop(server);
}

static bool is_pg(enum world_engine engine)
{
	return engine >= WORLD_PG_NEW && engine <= WORLD_COCKROACH;
}

static bool in_memory(enum world_engine engine)
{
	return engine == WORLD_MEMORY || engine == WORLD_FAULTS || engine == WORLD_SKELETON;
}

bool world_possible(enum world_engine engine)
{
	if (engine == WORLD_DYNAMODB)
		return getenv(emulator_at) != NULL;
	if (engine == WORLD_COCKROACH && getenv(cockroach_at) != NULL)
		return true;
	return !is_pg(engine) || getenv(servers_at) != NULL;
}

/* The cluster's URI with another database in its path. */
static void uri_of_database(const char *name, char *ret, size_t bytes)
{
	const char *base = getenv(cockroach_at), *host = base + strlen("cockroachdb://");
	size_t authority = strcspn(host, "/?");

	(void)snprintf(ret, bytes, "cockroachdb://%.*s/%s%s", (int)authority, host, name,
	               host + authority + strcspn(host + authority, "?"));
}

static PGconn *connect_to(const char *cockroach_uri)
{
	char uri[400];
	PGconn *conn;

	(void)snprintf(uri, sizeof uri, "postgresql%s", cockroach_uri + strlen("cockroachdb"));
	conn = PQconnectdb(uri);
	if (PQstatus(conn) != CONNECTION_OK)
		die("%s: %s", cockroach_uri, PQerrorMessage(conn));
	return conn;
}

/* A name that no world of the same server has had: numbers of processes come again while it
 * runs. */
static void fresh_name(const char *prefix, char *ret, size_t bytes)
{
	static unsigned int made;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	(void)snprintf(ret, bytes, "%s%d_%u_%lld", prefix, (int)getpid(), made++, (long long)now.tv_sec);
}

static void on_cluster(const char *verb, const char *name)
{
	PGconn *conn = connect_to(getenv(cockroach_at));
	char sql[120];

	(void)snprintf(sql, sizeof sql, "%s DATABASE %s", verb, name);
	pg_cluster_sql(conn, sql);
	PQfinish(conn);
}

static void make_database(struct world *world)
{
	enum world_engine engine = world->engine;
	char name[60];

	fresh_name("world_", name, sizeof name);
	if (engine == WORLD_COCKROACH && getenv(cockroach_at) != NULL) {
		on_cluster("CREATE", name);
		uri_of_database(name, world->uri, sizeof world->uri);
		world->pg = connect_to(world->uri);
		return;
	}
	snprintf(servers.dir, sizeof servers.dir, "%s", getenv(servers_at));
	pg_cluster_database(&servers, name);
	world->pg = pg_cluster_connect(&servers, name);
	pg_cluster_uri(&servers, name, world->uri, sizeof world->uri);
	if (engine == WORLD_PG_V01)
		pg_cluster_sql(world->pg, STREAMHOUSE_PG_V01);
	else if (engine == WORLD_PG_LATER)
		pg_cluster_sql(world->pg, STREAMHOUSE_PG_LATER
		               /* Its own index lets no two tenants have a topic of one name; the
		                * claims are about those who mended that. */
		               "DROP INDEX idx_segments_location; CREATE UNIQUE INDEX idx_segments_location ON "
		               "segments(organization_id, topic, partition_id, base_offset);"
		               "INSERT INTO organizations(id, name, slug) VALUES ('" WORLD_OTHER_TENANT
		               "', 'Other', 'other');");
	if (engine == WORLD_COCKROACH) {
		char uri[sizeof world->uri];

		snprintf(uri, sizeof uri, "cockroachdb%s", world->uri + strlen("postgresql"));
		memcpy(world->uri, uri, sizeof uri);
	}
}

static bool in_account(void)
{
	return strncmp(getenv(emulator_at), "dynamodb://", strlen("dynamodb://")) == 0;
}

static void make_tables(struct world *world)
{
	const char *at = getenv(emulator_at), *units = getenv("SHMETA_TEST_UNITS");
	char prefix[40];

	fresh_name("w", prefix, sizeof prefix);
	if (!in_account()) {
		ddb_server_uri((uint16_t)strtoul(at, NULL, 10), prefix, world->uri, sizeof world->uri);
		return;
	}
	(void)snprintf(world->uri, sizeof world->uri, "%.*s-%s%s", (int)strcspn(at, "?"), at, prefix,
	               at + strcspn(at, "?"));
	if (units == NULL ||
	    sscanf(units, "%" SCNu32 " %" SCNu32, &world->options.read_units_s, &world->options.write_units_s) != 2)
		die("SHMETA_TEST_UNITS has to bound what is paid for: units to be read and to be written, a second");
}

static enum shmeta_status ignore_line(void *arg, const char *about, const char *text)
{
	(void)arg, (void)about, (void)text;
	return SHMETA_OK;
}

static void remove_tables(struct world *world)
{
	void *state = calloc(1, world->ops->state_bytes);

	if (state == NULL || world->ops->admin->schema(state, &world->options, BACKEND_SCHEMA_REMOVE, 0, ignore_line,
	                                               NULL, &world->err) != SHMETA_OK)
		(void)fprintf(stderr, "%s is left: %s\n", world->uri, world->err.text);
	if (state != NULL)
		world->ops->source->close(state);
	free(state);
}

static void app_open(struct world *world, const char *schema)
{
	if (sqlite3_open(world->path, &world->app) != SQLITE_OK)
		die("%s: %s", world->path, sqlite3_errmsg(world->app));
	sqlite3_busy_timeout(world->app, 20000);
	world_sql(world, "PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF");
	if (schema != NULL && sqlite3_exec(world->app, schema, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", world->path, sqlite3_errmsg(world->app));
}

void world_make(struct world *world, enum world_engine engine)
{
	static int made;

	memset(world, 0, sizeof *world);
	world->engine = engine;
	world->tenants = in_memory(engine) || engine == WORLD_DYNAMODB || engine == WORLD_SQLITE_LATER ||
	                 engine == WORLD_PG_LATER;
	world->timestamps = engine != WORLD_SQLITE_V01 && engine != WORLD_PG_V01;
	world->policies = engine == WORLD_SQLITE_LATER || engine == WORLD_PG_LATER;
	world->cascades_segments = engine != WORLD_SQLITE_LATER;
	world->own_rows_only = world->slow = engine == WORLD_DYNAMODB;
	recorder_init(&world->recorder);
	if (in_memory(engine)) {
		char name[40];

		snprintf(name, sizeof name, "world-%d", made++);
		snprintf(world->uri, sizeof world->uri, "%s:%s", engine == WORLD_SKELETON ? "skeleton" : "memory",
		         name);
		world->memory = memory_db_new(name);
		if (world->memory == NULL)
			die("no memory for a database");
	} else if (engine == WORLD_DYNAMODB) {
		make_tables(world);
	} else if (is_pg(engine)) {
		make_database(world);
	} else {
		if (!scratch_dir("source", world->dir))
			die("mkdtemp %s", world->dir);
		snprintf(world->path, sizeof world->path, "%s/source.db", world->dir);
		snprintf(world->uri, sizeof world->uri, "sqlite:%s", world->path);
		if (engine == WORLD_SQLITE_V01)
			app_open(world, STREAMHOUSE_V01);
		else if (engine == WORLD_SQLITE_LATER)
			app_open(world, "PRAGMA journal_mode=WAL;" STREAMHOUSE_LATER
			                "INSERT INTO organizations(id, name, slug) "
			                "VALUES('" WORLD_OTHER_TENANT "', 'Other', 'other');");
	}
	world->options.uri = world->uri;
	world->options.timeout_ms = 5000;
	world->options.manage_schema = world->options.create = 1;
	if (engine == WORLD_DYNAMODB)
		world->options.timeout_ms = 20000; /* an emulator on a busy machine */
	world->options.clock = "@now";             /* leases and offers by the tests' time */
	world->ops = engine == WORLD_FAULTS     ? &memory_with_faults
	             : engine == WORLD_SKELETON ? &backend_skeleton
	                                        : backend_find(world->uri, &world->err);
	if (world->ops == NULL)
		die("%s", world->err.text);
}

enum shmeta_status world_try_open(struct world *world)
{
	enum shmeta_status status;

	world->state = calloc(1, world->ops->state_bytes);
	if (world->state == NULL)
		die("no memory for a state");
	status = world->ops->source->open(world->state, &world->options, &world->err);
	if (status == SHMETA_OK && world->engine == WORLD_SQLITE_NEW && world->app == NULL)
		app_open(world, NULL);
	return status;
}

void world_open(struct world *world)
{
	if (world_try_open(world) != SHMETA_OK)
		die("open: %s", world->err.text);
}

void world_close(struct world *world)
{
	if (world->state != NULL)
		world->ops->source->close(world->state);
	free(world->state);
	world->state = NULL;
}

void world_free(struct world *world)
{
	world_close(world);
	recorder_free(&world->recorder);
	if (in_memory(world->engine)) {
		memory_faults_forget(world->memory);
		memory_db_free(world->memory);
		return;
	}
	if (world->engine == WORLD_DYNAMODB) {
		ddb_world_close(world->ddb);
		if (in_account())
			remove_tables(world);
		return;
	}
	if (is_pg(world->engine)) {
		char name[40];

		(void)snprintf(name, sizeof name, "%s", PQdb(world->pg));
		PQfinish(world->pg);
		if (world->engine == WORLD_COCKROACH && getenv(cockroach_at) != NULL)
			on_cluster("DROP", name);
		return;
	}
	sqlite3_close_v2(world->app);
	DIR *dir = opendir(world->dir);
	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	rmdir(world->dir);
}

enum shmeta_status world_load(struct world *world)
{
	recorder_clear(&world->recorder);
	return world->ops->source->load(world->state, &world->recorder.sink, &world->err);
}

enum shmeta_status world_changes(struct world *world)
{
	recorder_clear(&world->recorder);
	world->changed = -1;
	return world->ops->feed->changes(world->state, &world->recorder.sink, &world->changed, &world->lag_ns,
	                                 &world->err);
}

bool world_has_feed(struct world *world)
{
	return backend_feed_kind(world->ops, world->state) == BACKEND_FEED_KEYS;
}

bool world_writable(struct world *world)
{
	return backend_writable(world->ops, world->state) != 0;
}

enum shmeta_status world_fetch(struct world *world, const struct backend_key *keys, size_t count)
{
	enum shmeta_status status;

	recorder_clear(&world->recorder);
	status = world->ops->source->fetch(world->state, keys, count, &world->recorder.sink, &world->err);
	if (status != SHMETA_OK || world->recorder.keys_failed == 0)
		return status;
	return backend_fail(&world->err, world->recorder.key_failed, "%s", world->recorder.key_sentence);
}

enum shmeta_status world_applied(enum shmeta_status status, const struct shmeta_result *results, size_t count)
{
	static const enum shmeta_status whole[] = {SHMETA_ERR_OUTCOME_UNKNOWN, SHMETA_ERR_FULL, SHMETA_ERR_READ_ONLY,
	                                           SHMETA_ERR_NO_MEMORY};

	for (size_t i = 1; i < count; i++)
		if (results[i].status != results[0].status)
			return status;
	for (size_t i = 0; status == SHMETA_OK && i < sizeof whole / sizeof *whole; i++)
		if (results[0].status == whole[i])
			status = whole[i];
	return status;
}

struct backend_counters world_counters(struct world *world)
{
	struct backend_counters counters;

	world->ops->source->counters(world->state, &counters);
	return counters;
}

/* ---- the application ---- */

void world_sql(struct world *world, const char *fmt, ...)
{
	va_list args;
	char *sql;

	va_start(args, fmt);
	sql = sqlite3_vmprintf(fmt, args);
	va_end(args);
	if (sql != NULL && world->pg != NULL) {
		pg_cluster_sql(world->pg, sql);
		sqlite3_free(sql);
		return;
	}
	if (sql == NULL || sqlite3_exec(world->app, sql, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %s", sqlite3_errmsg(world->app), sql != NULL ? sql : fmt);
	sqlite3_free(sql);
}

int64_t world_sql_number(struct world *world, const char *sql)
{
	sqlite3_stmt *statement;
	int64_t number;

	if (world->pg != NULL) {
		PGresult *result = PQexec(world->pg, sql);

		if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
			die("%s: %s", PQerrorMessage(world->pg), sql);
		number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
		PQclear(result);
		return number;
	}
	if (sqlite3_prepare_v2(world->app, sql, -1, &statement, NULL) != SQLITE_OK ||
	    sqlite3_step(statement) != SQLITE_ROW)
		die("%s: %s", sqlite3_errmsg(world->app), sql);
	number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return number;
}

void world_begin(struct world *world)
{
	if (world->app != NULL || world->pg != NULL)
		world_sql(world, world->pg != NULL ? "BEGIN" : "BEGIN IMMEDIATE");
}

void world_commit(struct world *world)
{
	if (world->app != NULL || world->pg != NULL)
		world_sql(world, "COMMIT");
}

static const char *tenant_of(const char *tenant)
{
	return tenant != NULL ? tenant : SHMETA_DEFAULT_TENANT;
}

/* "organization_id, " for a list of columns and its value for a list of values; empty where there
 * is no such column. */
static const char *org(const struct world *world)
{
	return world->tenants ? "organization_id, " : "";
}

static char *org_value(const struct world *world, const char *tenant)
{
	return world->tenants ? sqlite3_mprintf("%Q, ", tenant_of(tenant)) : sqlite3_mprintf("");
}

/* " AND organization_id = ..." */
static char *org_match(const struct world *world, const char *tenant)
{
	return world->tenants ? sqlite3_mprintf(" AND organization_id = %Q", tenant_of(tenant)) : sqlite3_mprintf("");
}

/* The other writer, once there are tables. */
static struct ddb_world *ddb_of(struct world *world)
{
	if (world->ddb == NULL)
		world->ddb = ddb_world_open(&world->options);
	return world->ddb;
}

static bool is_ddb(const struct world *world)
{
	return world->engine == WORLD_DYNAMODB;
}

static char *json_of(const char *const *pairs)
{
	char *json = sqlite3_mprintf("{");

	for (size_t i = 0; pairs != NULL && pairs[i] != NULL; i += 2) {
		char *longer = sqlite3_mprintf("%s%s\"%s\":\"%s\"", json, i > 0 ? "," : "", pairs[i], pairs[i + 1]);

		sqlite3_free(json);
		json = longer;
	}
	char *closed = sqlite3_mprintf("%s}", json);
	sqlite3_free(json);
	return closed;
}

static struct shmeta_map map_of(struct rows_scratch *scratch, const char *const *pairs)
{
	struct rows_pair list[16];
	struct rows_fault fault = {""};
	struct shmeta_map map;
	size_t count = 0;

	for (size_t i = 0; pairs != NULL && pairs[i] != NULL; i += 2, count++)
		list[count] = (struct rows_pair){rows_str(pairs[i]), rows_str(pairs[i + 1])};
	if (!rows_pack(scratch, list, count, &map, &fault))
		die("%s", fault.text);
	return map;
}

void world_topic(struct world *world, const char *tenant, const char *name, uint32_t partitions, int64_t retention_ms,
                 const char *const *pairs)
{
	if (is_ddb(world)) {
		struct rows_scratch own = {NULL, 0};
		struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
		                       .u.topic = {.name = rows_str(name),
		                                   .config = map_of(&own, pairs),
		                                   .retention_ms = retention_ms < 0 ? 0 : retention_ms,
		                                   .has_retention = retention_ms >= 0,
		                                   .partition_count = partitions}};

		ddb_world_do(ddb_of(world), tenant, &op, now_ms);
		rows_scratch_free(&own);
		return; /* its partitions are there with it */
	}
	struct rows_scratch scratch = {NULL, 0};

	if (world->memory != NULL) {
		struct shmeta_topic topic = {.name = rows_str(name),
		                             .config = map_of(&scratch, pairs),
		                             .created_at_ms = now_ms,
		                             .updated_at_ms = now_ms,
		                             .retention_ms = retention_ms < 0 ? 0 : retention_ms,
		                             .has_retention = retention_ms >= 0,
		                             .partition_count = partitions};

		memory_put_topic(world->memory, tenant, &topic);
		rows_scratch_free(&scratch);
	} else {
		char *json = json_of(pairs), *value = org_value(world, tenant);

		world_sql(world,
		          "INSERT INTO topics(%sname, partition_count, retention_ms, created_at, updated_at, config) "
		          "VALUES(%s%Q, %u, nullif(%lld, -1), %lld, %lld, %Q)",
		          org(world), value, name, partitions, (long long)(retention_ms < 0 ? -1 : retention_ms),
		          (long long)now_ms, (long long)now_ms, json);
		sqlite3_free(json);
		sqlite3_free(value);
	}
	for (uint32_t i = 0; i < partitions; i++)
		world_partition(world, tenant, name, i, 0);
}

void world_alter_topic(struct world *world, const char *tenant, const char *name, const char *const *pairs)
{
	if (is_ddb(world))
		die("no operation alters a topic");
	struct rows_scratch scratch = {NULL, 0};

	if (world->memory != NULL) {
		struct shmeta_topic topic = {.name = rows_str(name),
		                             .config = map_of(&scratch, pairs),
		                             .created_at_ms = now_ms,
		                             .updated_at_ms = now_ms + 1,
		                             .partition_count = 1};

		memory_put_topic(world->memory, tenant, &topic);
		rows_scratch_free(&scratch);
	} else {
		char *json = json_of(pairs), *match = org_match(world, tenant);

		world_sql(world,
		          "UPDATE topics SET config = %Q, updated_at = %lld, partition_count = 1, retention_ms = NULL "
		          "WHERE name = %Q%s",
		          json, (long long)(now_ms + 1), name, match);
		sqlite3_free(json);
		sqlite3_free(match);
	}
}

/* "DELETE FROM table WHERE rest AND organization_id = ...". rest is freed. */
static void delete_where(struct world *world, const char *table, const char *tenant, char *rest)
{
	char *match = org_match(world, tenant);

	world_sql(world, "DELETE FROM %s WHERE %s%s", table, rest, match);
	sqlite3_free(match);
	sqlite3_free(rest);
}

void world_delete_topic(struct world *world, const char *tenant, const char *name)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), tenant,
		             &(struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = rows_str(name)}, now_ms);
		return;
	}
	if (world->memory != NULL) {
		memory_delete_topic(world->memory, tenant, name);
		return;
	}
	if (world->tenants) {
		/* The later shape has lost these cascades; its application deletes what belongs to
		 * a topic itself. */
		delete_where(world, "segments", tenant, sqlite3_mprintf("topic = %Q", name));
		delete_where(world, "consumer_offsets", tenant, sqlite3_mprintf("topic = %Q", name));
		delete_where(world, "partition_leases", tenant, sqlite3_mprintf("topic = %Q", name));
	}
	delete_where(world, "topics", tenant, sqlite3_mprintf("name = %Q", name));
}

void world_partition(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t watermark)
{
	if (is_ddb(world)) {
		world_watermark(world, tenant, topic, id, watermark);
		return;
	}
	if (world->memory != NULL) {
		struct shmeta_partition partition = {.partition_id = id,
		                                     .high_watermark = watermark,
		                                     .created_at_ms = now_ms,
		                                     .updated_at_ms = now_ms};

		memory_put_partition(world->memory, tenant, topic, &partition);
		return;
	}
	char *value = org_value(world, tenant);

	world_sql(world,
	          "INSERT INTO partitions(%stopic, partition_id, high_watermark, created_at, updated_at) "
	          "VALUES(%s%Q, %u, %lld, %lld, %lld)",
	          org(world), value, topic, id, (long long)watermark, (long long)now_ms, (long long)now_ms);
	sqlite3_free(value);
}

void world_watermark(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t watermark)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), tenant,
		             &(struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
		                                 .name = rows_str(topic),
		                                 .partition_id = id,
		                                 .offset = watermark},
		             now_ms);
		return;
	}
	if (world->memory != NULL) {
		memory_set_watermark(world->memory, tenant, topic, id, watermark);
		return;
	}
	char *match = org_match(world, tenant);

	world_sql(world, "UPDATE partitions SET high_watermark = %lld WHERE topic = %Q AND partition_id = %u%s",
	          (long long)watermark, topic, id, match);
	sqlite3_free(match);
}

void world_delete_partition(struct world *world, const char *tenant, const char *topic, uint32_t id)
{
	if (is_ddb(world))
		die("a topic has all of its partitions here");
	if (world->memory != NULL) {
		memory_delete_partition(world->memory, tenant, topic, id);
		return;
	}
	if (world->tenants) {
		delete_where(world, "segments", tenant, sqlite3_mprintf("topic = %Q AND partition_id = %u", topic, id));
		delete_where(world, "consumer_offsets", tenant,
		             sqlite3_mprintf("topic = %Q AND partition_id = %u", topic, id));
		delete_where(world, "partition_leases", tenant,
		             sqlite3_mprintf("topic = %Q AND partition_id = %u", topic, id));
	}
	delete_where(world, "partitions", tenant, sqlite3_mprintf("topic = %Q AND partition_id = %u", topic, id));
}

void world_segment(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base, uint64_t end)
{
	char name[400];

	snprintf(name, sizeof name, "%.8s-%s-%" PRIu32 "-%" PRIu64, tenant_of(tenant), topic, id, base);
	world_segment_named(world, tenant, topic, id, base, end, name);
}

void world_segment_named(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base,
                         uint64_t end, const char *name)
{
	if (is_ddb(world)) {
		char object[400];
		struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT, .name = rows_str(topic), .partition_id = id};

		snprintf(object, sizeof object, "data/%s/%" PRIu32 "/%020" PRIu64 ".seg", topic, id, base);
		op.u.segment = (struct shmeta_segment){.base_offset = base,
		                                       .end_offset = end,
		                                       .size_bytes = (end - base + 1) * 100,
		                                       .created_at_ms = now_ms,
		                                       .min_timestamp_ms = (int64_t)base,
		                                       .max_timestamp_ms = (int64_t)end,
		                                       .record_count = (uint32_t)(end - base + 1),
		                                       .id = rows_str(name),
		                                       .s3_bucket = rows_str("bucket"),
		                                       .s3_key = rows_str(object)};
		ddb_world_do(ddb_of(world), tenant, &op, now_ms);
		return;
	}
	uint64_t records = end - base + 1;
	char key[400];

	snprintf(key, sizeof key, "data/%s/%" PRIu32 "/%020" PRIu64 ".seg", topic, id, base);
	if (world->memory != NULL) {
		struct shmeta_segment segment = {.base_offset = base,
		                                 .end_offset = end,
		                                 .size_bytes = records * 100,
		                                 .created_at_ms = now_ms,
		                                 .min_timestamp_ms = (int64_t)base,
		                                 .max_timestamp_ms = (int64_t)end,
		                                 .record_count = (uint32_t)records,
		                                 .partition_id = id,
		                                 .id = rows_str(name),
		                                 .s3_bucket = rows_str("bucket"),
		                                 .s3_key = rows_str(key)};

		memory_put_segment(world->memory, tenant, topic, &segment);
		return;
	}
	char *value = org_value(world, tenant),
	     *times = world->timestamps ? sqlite3_mprintf(", %lld, %lld", (long long)base, (long long)end)
	                                : sqlite3_mprintf("");

	world_sql(world,
	          "INSERT INTO segments(%sid, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
	          "s3_bucket, s3_key, created_at%s) VALUES(%s%Q, %Q, %u, %lld, %lld, %u, %lld, 'bucket', %Q, %lld%s)",
	          org(world), world->timestamps ? ", min_timestamp, max_timestamp" : "", value, name, topic, id,
	          (long long)base, (long long)end, (uint32_t)records, (long long)records * 100, key, (long long)now_ms,
	          times);
	sqlite3_free(value);
	sqlite3_free(times);
}

void world_delete_segment(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base)
{
	if (is_ddb(world))
		die("no operation deletes one segment");
	if (world->memory != NULL)
		memory_delete_segment(world->memory, tenant, topic, id, base);
	else
		delete_where(world, "segments", tenant,
		             sqlite3_mprintf("topic = %Q AND partition_id = %u AND base_offset = %lld", topic, id,
		                             (long long)base));
}

void world_delete_before(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t before)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), tenant,
		             &(struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
		                                 .name = rows_str(topic),
		                                 .partition_id = id,
		                                 .offset = before},
		             now_ms);
		return;
	}
	if (world->memory != NULL)
		memory_delete_segments_before(world->memory, tenant, topic, id, before);
	else
		delete_where(world, "segments", tenant,
		             sqlite3_mprintf("topic = %Q AND partition_id = %u AND end_offset < %lld", topic, id,
		                             (long long)before));
}

void world_agent(struct world *world, const char *id, int64_t heartbeat_ms, const char *const *pairs)
{
	if (is_ddb(world)) {
		struct rows_scratch own = {NULL, 0};
		char where[96];
		struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT};

		snprintf(where, sizeof where, "%s:9092", id);
		op.u.agent = (struct shmeta_agent){.agent_id = rows_str(id),
		                                   .address = rows_str(where),
		                                   .availability_zone = rows_str("zone"),
		                                   .agent_group = rows_str("group"),
		                                   .metadata = map_of(&own, pairs),
		                                   .last_heartbeat_ms = heartbeat_ms,
		                                   .started_at_ms = now_ms};
		ddb_world_do(ddb_of(world), NULL, &op, now_ms);
		rows_scratch_free(&own);
		return;
	}
	struct rows_scratch scratch = {NULL, 0};
	char address[96];

	snprintf(address, sizeof address, "%s:9092", id);
	if (world->memory != NULL) {
		struct shmeta_agent agent = {.agent_id = rows_str(id),
		                             .address = rows_str(address),
		                             .availability_zone = rows_str("zone"),
		                             .agent_group = rows_str("group"),
		                             .metadata = map_of(&scratch, pairs),
		                             .last_heartbeat_ms = heartbeat_ms,
		                             .started_at_ms = now_ms};

		memory_put_agent(world->memory, NULL, &agent);
		rows_scratch_free(&scratch);
		return;
	}
	char *json = json_of(pairs);

	world_sql(world,
	          "INSERT INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, "
	          "metadata) VALUES(%Q, %Q, 'zone', 'group', %lld, %lld, %Q) ON CONFLICT(agent_id) DO UPDATE SET "
	          "last_heartbeat = excluded.last_heartbeat, metadata = excluded.metadata",
	          id, address, (long long)heartbeat_ms, (long long)now_ms, json);
	sqlite3_free(json);
}

void world_delete_agent(struct world *world, const char *id)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), NULL,
		             &(struct shmeta_op){.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = rows_str(id)}, now_ms);
		return;
	}
	if (world->memory != NULL)
		memory_delete_agent(world->memory, NULL, id);
	else
		world_sql(world, "DELETE FROM agents WHERE agent_id = %Q", id);
}

void world_group(struct world *world, const char *tenant, const char *group)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), tenant,
		             &(struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = rows_str(group)}, now_ms);
		return;
	}
	if (world->memory != NULL) {
		struct shmeta_group row = {
			.group_id = rows_str(group), .created_at_ms = now_ms, .updated_at_ms = now_ms};

		memory_put_group(world->memory, tenant, &row);
		return;
	}
	char *value = org_value(world, tenant);

	world_sql(world,
	          "INSERT INTO consumer_groups(%sgroup_id, created_at, updated_at) VALUES(%s%Q, %lld, %lld) "
	          "ON CONFLICT DO NOTHING",
	          org(world), value, group, (long long)now_ms, (long long)now_ms);
	sqlite3_free(value);
}

void world_offset(struct world *world, const char *tenant, const char *group, const char *topic, uint32_t id,
                  uint64_t committed, const char *metadata)
{
	if (is_ddb(world)) {
		struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OFFSET, .name = rows_str(topic), .partition_id = id};

		op.u.committed =
			(struct shmeta_committed_offset){.group_id = rows_str(group),
		                                         .metadata = rows_str(metadata != NULL ? metadata : ""),
		                                         .committed_offset = committed,
		                                         .has_metadata = metadata != NULL};
		ddb_world_do(ddb_of(world), tenant, &op, now_ms);
		return;
	}
	if (world->memory != NULL) {
		struct shmeta_committed_offset row = {.group_id = rows_str(group),
		                                      .metadata = rows_str(metadata != NULL ? metadata : ""),
		                                      .committed_offset = committed,
		                                      .committed_at_ms = now_ms,
		                                      .partition_id = id,
		                                      .has_metadata = metadata != NULL};

		memory_put_offset(world->memory, tenant, topic, &row);
		return;
	}
	char *value = org_value(world, tenant);

	world_sql(
		world,
		"INSERT INTO consumer_offsets(%sgroup_id, topic, partition_id, committed_offset, metadata, committed_at) "
		"VALUES(%s%Q, %Q, %u, %lld, %Q, %lld) ON CONFLICT(%sgroup_id, topic, partition_id) DO UPDATE SET "
		"committed_offset = excluded.committed_offset, metadata = excluded.metadata",
		org(world), value, group, topic, id, (long long)committed, metadata, (long long)now_ms, org(world));
	sqlite3_free(value);
}

void world_delete_group(struct world *world, const char *tenant, const char *group)
{
	if (is_ddb(world)) {
		ddb_world_do(ddb_of(world), tenant,
		             &(struct shmeta_op){.type = SHMETA_OP_DELETE_GROUP, .group_id = rows_str(group)}, now_ms);
		return;
	}
	if (world->memory != NULL)
		memory_delete_group(world->memory, tenant, group);
	else
		delete_where(world, "consumer_groups", tenant, sqlite3_mprintf("group_id = %Q", group));
}

void world_lease(struct world *world, const char *tenant, const char *topic, uint32_t id, const char *agent,
                 uint64_t epoch)
{
	if (is_ddb(world)) {
		struct backend_row row = {.kind = BACKEND_ROW_LEASE,
		                          .tenant = rows_str(tenant_of(tenant)),
		                          .topic = rows_str(topic),
		                          .u.lease = {.leader_agent_id = rows_str(agent),
		                                      .lease_expires_at_ms = now_ms + 1000,
		                                      .acquired_at_ms = now_ms,
		                                      .epoch = epoch,
		                                      .partition_id = id}};

		ddb_world_put(ddb_of(world), &row);
		return;
	}
	if (world->memory != NULL) {
		struct shmeta_lease row = {.leader_agent_id = rows_str(agent),
		                           .lease_expires_at_ms = now_ms + 1000,
		                           .acquired_at_ms = now_ms,
		                           .epoch = epoch,
		                           .partition_id = id};

		memory_put_lease(world->memory, tenant, topic, &row);
		return;
	}
	char *value = org_value(world, tenant);

	world_sql(
		world,
		"INSERT INTO partition_leases(%stopic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
		"VALUES(%s%Q, %u, %Q, %lld, %lld, %lld) ON CONFLICT(%stopic, partition_id) DO UPDATE SET leader_agent_id = "
		"excluded.leader_agent_id, epoch = excluded.epoch",
		org(world), value, topic, id, agent, (long long)(now_ms + 1000), (long long)now_ms, (long long)epoch,
		world->pg != NULL ? "" : org(world));
	sqlite3_free(value);
}

void world_delete_lease(struct world *world, const char *tenant, const char *topic, uint32_t id)
{
	if (is_ddb(world))
		die("nobody but its agent gives a lease back here");
	if (world->memory != NULL)
		memory_delete_lease(world->memory, tenant, topic, id);
	else
		delete_where(world, "partition_leases", tenant,
		             sqlite3_mprintf("topic = %Q AND partition_id = %u", topic, id));
}
