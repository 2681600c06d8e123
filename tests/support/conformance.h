/* SPDX-License-Identifier: Apache-2.0
 * What the conformance suite stands on: a real shmetad per claim, on every engine, and the public
 * client API told in few words.
 *
 * A claim is a test whose name begins with the clause of semantics.md that it proves: a_1_3_... for
 * part A, c7_... for part C. */
#ifndef SHMETA_TESTS_SUPPORT_CONFORMANCE_H
#define SHMETA_TESTS_SUPPORT_CONFORMANCE_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "tests/support/run_daemon.h"

/* The engines that a claim is proved on: the one list. E(name, claim); what each is stands in the
 * table of conformance.c, under the same name. */
#define CONFORMANCE_PLAIN(E, claim)                                     \
	E(memory, claim)                                                \
	E(sqlite, claim)       /* an empty file: shmeta's own schema */ \
	E(sqlite_v01, claim)   /* a file of StreamHouse v0.1 */         \
	E(sqlite_later, claim) /* a file of its later shape */          \
	E(postgresql, claim)   /* the same three of a database */       \
	E(postgresql_v01, claim)                                        \
	E(postgresql_later, claim)                                      \
	E(cockroachdb, claim) /* its dialect, spoken to PostgreSQL */   \
	E(dynamodb, claim)    /* an emulator of it */
/* Sources whose own schema has much that is in the way and yet allows all that is asked
 * (support/hostile_schema.h): the suite is built for them once more, by the files that define
 * CONFORMANCE_ENGINES as this list. */
#define CONFORMANCE_HOSTILE(E, claim) E(sqlite_hostile, claim)
/* Writers whose store keeps one partition at a time: what the snapshot does not have is asked for
 * with FRESH. The same. */
#define CONFORMANCE_BOUNDED(E, claim) \
	E(memory_bounded, claim)      \
	E(sqlite_bounded, claim)
#ifndef CONFORMANCE_ENGINES
#define CONFORMANCE_ENGINES(E, claim) CONFORMANCE_PLAIN(E, claim)
#endif

#define CONFORMANCE_BEGIN(engine, claim) void api_on_##engine(void);
CONFORMANCE_PLAIN(CONFORMANCE_BEGIN, )
CONFORMANCE_HOSTILE(CONFORMANCE_BEGIN, )
CONFORMANCE_BOUNDED(CONFORMANCE_BEGIN, )
#undef CONFORMANCE_BEGIN

/* Once in each file of the suite. */
#define CONFORMANCE_SUITE(engine, claim) TestSuite(conformance_##engine, .timeout = 60);
#define CONFORMANCE_SUITES CONFORMANCE_ENGINES(CONFORMANCE_SUITE, )

#define CONFORMANCE_TEST(engine, claim)                                              \
	Test(conformance_##engine, claim, .init = api_on_##engine, .fini = api_done) \
	{                                                                            \
		claim();                                                             \
	}
/* The same claim about every engine. */
#define CLAIM(claim)                                 \
	static void claim(void);                     \
	CONFORMANCE_ENGINES(CONFORMANCE_TEST, claim) \
	static void claim(void)
/* A claim that an engine cannot be asked about (api.engine says what it is like) says so instead of
 * passing for it. */
#define NOT_HERE(why)              \
	do {                       \
		api_done();        \
		cr_skip_test(why); \
	} while (0)

/* What an engine is like. */
struct conformance_engine {
	const char *name;
	/* Make an empty source in d->dir before the daemon starts: 0 and what --source is to say,
	 * or -1 after saying why. 1: this machine has none. */
	int (*make)(struct run_daemon *d, char *ret_uri, size_t room);
	/* Run SQL on it as somebody else. NULL: it knows no SQL. */
	int (*sql)(struct run_daemon *d, const char *sql);
	bool tenants;    /* it can have other tenants than the default one, and has OTHER_TENANT */
	bool narrow;     /* it counts records in 32 bits with a sign */
	bool timestamps; /* its segments record when their records are from */
	bool dies;       /* its rows die with the writer, and nobody else can reach them */
	bool slow;       /* played by an emulator: fewer rounds */
	bool bounded;    /* the store keeps one partition at a time */
};

/* All of them, NULL at the end. */
extern const struct conformance_engine *const conformance_engines[];

enum { API_RESULTS = 64, API_WAIT_MS = 20000 };

extern struct api {
	struct run_daemon d;
	const struct conformance_engine *engine;
	char source[200]; /* its uri */
	struct shmeta *instance;
	struct shmeta_reader *reader;   /* with a snapshot open: of after the last api_do() */
	const struct shmeta_read *read; /* how lookups are made */
	struct shmeta_client *client;
	struct shmeta_result result[API_RESULTS]; /* of the last api_do() */
	struct shmeta_token token;
} api;

void api_done(void);
/* The same reader and client, on another instance that the test started itself: from now on `api`
 * is that one, and api_done() ends it, too. */
void api_move_to(const struct run_daemon *other, const struct conformance_engine *engine, const char *source);
void api_restart(void); /* the writer, of an engine whose rows outlive it */
/* Have the writer take this configuration, then look anew. */
void api_configure(const char *text);
/* As somebody else; 0. */
int api_sql(const char *sql);

/* The same instance seen by another tenant, which is made where the source has a table of them.
 * From then on every call and answer is that tenant's, until api_as(NULL): the default one's. */
#define OTHER_TENANT "11111111-2222-4333-8444-555555555555"
void api_as(const char *tenant);

struct shmeta_str api_str(const char *text);
#define S api_str

/* Write, then begin a new snapshot. The call's status, or the first result's. */
enum shmeta_status api_do(const struct shmeta_op *ops, size_t count);
void api_look(void); /* a new snapshot */

enum shmeta_status api_create(const char *name, uint32_t partitions);
enum shmeta_status api_drop(const char *name);
/* A segment that the topic, the partition and its base name. */
struct shmeta_op api_segment(const char *topic, uint32_t partition, uint64_t base, uint64_t end, char id[64]);
enum shmeta_status api_add(const char *topic, uint32_t partition, uint64_t base,
                           uint64_t end); /* watermark untouched */
/* and moved */
enum shmeta_status api_append(const char *topic, uint32_t partition, uint64_t base, uint64_t end);
enum shmeta_status api_set_watermark(const char *topic, uint32_t partition, uint64_t offset);
/* result[0].count */
enum shmeta_status api_delete_before(const char *topic, uint32_t partition, uint64_t offset);
enum shmeta_status api_commit(const char *group, const char *topic, uint32_t partition, uint64_t offset,
                              const char *metadata);
/* An agent of group g in zone z, whose address is its name and a port. */
struct shmeta_op api_agent(const char *agent, char address[64]);
enum shmeta_status api_register(const char *agent);
enum shmeta_status api_deregister(const char *agent);
enum shmeta_status api_acquire(const char *topic, uint32_t partition, const char *agent, int64_t duration_ms);
enum shmeta_status api_release(const char *topic, uint32_t partition, const char *agent);

/* What the snapshot says. */
enum shmeta_status api_topic(const char *name, struct shmeta_topic *ret);
enum shmeta_status api_partition(const char *topic, uint32_t partition, struct shmeta_partition *ret);
uint64_t api_watermark(const char *topic, uint32_t partition); /* UINT64_MAX: not there */
enum shmeta_status api_find(const char *topic, uint32_t partition, uint64_t offset, struct shmeta_segment *ret);
/* The base of the segment that holds the offset; UINT64_MAX: none does. */
uint64_t api_base(const char *topic, uint32_t partition, uint64_t offset);
/* Lists as words with a blank between them, or an error's text. Each call's answer dies with the
 * fourth call behind it. */
const char *api_topics(const char *pattern, int glob);                        /* a b c       */
const char *api_partitions(const char *topic);                                /* 0 1 2       */
const char *api_segments(const char *topic, uint32_t partition);              /* 0-9 10-19   */
const char *api_offsets(const char *group);                                   /* t/0=5       */
const char *api_groups(void);                                                 /* g h         */
const char *api_agents(const char *group, const char *zone, int64_t now_ms);  /* a b         */
const char *api_leases(const char *topic, const char *agent, int64_t now_ms); /* t/0:a@1     */

#endif
