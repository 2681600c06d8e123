/* SPDX-License-Identifier: Apache-2.0
 * A source of each engine behind one set of verbs, for tests: the backend under test, and beside it
 * an application that changes rows behind its back (for SQLite a connection of its own, with
 * foreign keys on). */
#ifndef SHMETA_TESTS_SUPPORT_SOURCE_WORLD_H
#define SHMETA_TESTS_SUPPORT_SOURCE_WORLD_H

#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/memory/memory.h"
#include "tests/support/ddb_server.h"
#include "tests/support/ddb_world.h"
#include "tests/support/recorder.h"

enum world_engine {
	WORLD_MEMORY,
	WORLD_SQLITE_NEW,   /* shmeta's own schema                       */
	WORLD_SQLITE_V01,   /* a StreamHouse file, v0.1, rollback journal */
	WORLD_SQLITE_LATER, /* a StreamHouse file, later shape, WAL       */
	WORLD_PG_NEW,       /* PostgreSQL: shmeta's own schema            */
	WORLD_PG_V01,       /* a StreamHouse database, v0.1               */
	WORLD_PG_LATER,     /* a StreamHouse database, later shape        */
	WORLD_COCKROACH,    /* CockroachDB's dialect, spoken to PostgreSQL */
	WORLD_DYNAMODB,     /* DynamoDB, played by an emulator            */
	WORLD_ENGINES,
	/* Of tests alone: */
	WORLD_FAULTS = WORLD_ENGINES, /* memory, with what memory_faults.h is asked for */
	WORLD_SKELETON                /* skeleton_engine.h */
};
/* In sources that have tenants there are two: the default one and this one. */
#define WORLD_OTHER_TENANT "11111111-2222-4333-8444-555555555555"
extern const char *const world_names[WORLD_ENGINES];

struct world {
	enum world_engine engine;
	bool tenants, timestamps, policies, cascades_segments; /* what the engine's schema has */
	bool own_rows_only; /* nobody but shmeta writes rows: none is wrong, and none is altered
                             * behind its back */
	bool slow;          /* a thousand rows take seconds */
	char dir[64], path[96], uri[160];
	struct memory_db *memory;
	sqlite3 *app;
	PGconn *pg;            /* the application's connection, where it is PostgreSQL */
	struct ddb_world *ddb; /* the application, where it is DynamoDB: another writer */
	const struct backend_engine *ops;
	struct backend_options options;
	void *state; /* NULL: closed */
	struct backend_error err;
	struct recorder recorder;
	int changed; /* of the last world_changes() */
	uint64_t lag_ns;
};

/* The servers that worlds share, PostgreSQL and an emulator of DynamoDB, each world with a
 * database, or tables, of its own: started before the first test, by the process that runs them
 * all, where the machine has them. */
void world_servers_start(void);
void world_servers_stop(void);
bool world_possible(enum world_engine engine);

/* Make the source, empty; world_open() opens the backend on it. A failure ends the program with a
 * sentence. */
void world_make(struct world *world, enum world_engine engine);
enum shmeta_status world_try_open(struct world *world);
void world_open(struct world *world);
void world_close(struct world *world); /* the backend only */
void world_free(struct world *world);  /* and everything that was made, on disk too */

/* A world of DynamoDB, made and opened, on an emulator of its own: what that counts is of this
 * world alone. false: the machine has none. */
bool world_open_alone(struct world *world, struct ddb_server *server);
/* without effect where that was false */
void world_free_alone(struct world *world, struct ddb_server *server);

/* Calls of the backend, with the recorder cleared before. */
enum shmeta_status world_load(struct world *world);
enum shmeta_status world_changes(struct world *world);
/* The call's status, or that of the last key that failed. */
enum shmeta_status world_fetch(struct world *world, const struct backend_key *keys, size_t count);
/* What apply() or finish() answered: its status, or the one that all of its operations have where
 * none was judged. */
enum shmeta_status world_applied(enum shmeta_status status, const struct shmeta_result *results, size_t count);
struct backend_counters world_counters(struct world *world);
bool world_has_feed(struct world *world); /* that names keys */
bool world_writable(struct world *world);

/* ---- the application. tenant NULL: the default one ---- */

void world_sql(struct world *world, const char *fmt, ...); /* sqlite3_mprintf's format */
int64_t world_sql_number(struct world *world, const char *sql);
void world_begin(struct world *world); /* the following changes are one transaction; without effect
                                        * on memory */
void world_commit(struct world *world);

/* pairs: key, value, ..., NULL. retention < 0: none. */
void world_topic(struct world *world, const char *tenant, const char *name, uint32_t partitions, int64_t retention_ms,
                 const char *const *pairs);
void world_alter_topic(struct world *world, const char *tenant, const char *name, const char *const *pairs);
void world_delete_topic(struct world *world, const char *tenant, const char *name);
void world_partition(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t watermark);
void world_watermark(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t watermark);
void world_delete_partition(struct world *world, const char *tenant, const char *topic, uint32_t id);
void world_segment(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base,
                   uint64_t end);
/* The same with an id of one's own: a second one at a place is there where the schema lets it. */
void world_segment_named(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base,
                         uint64_t end, const char *name);
void world_delete_segment(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t base);
void world_delete_before(struct world *world, const char *tenant, const char *topic, uint32_t id, uint64_t before);
void world_agent(struct world *world, const char *id, int64_t heartbeat_ms, const char *const *pairs);
void world_delete_agent(struct world *world, const char *id);
void world_group(struct world *world, const char *tenant, const char *group);
void world_offset(struct world *world, const char *tenant, const char *group, const char *topic, uint32_t id,
                  uint64_t committed, const char *metadata);
void world_delete_group(struct world *world, const char *tenant, const char *group);
void world_lease(struct world *world, const char *tenant, const char *topic, uint32_t id, const char *agent,
                 uint64_t epoch);
void world_delete_lease(struct world *world, const char *tenant, const char *topic, uint32_t id);

#endif
