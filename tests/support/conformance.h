/* SPDX-License-Identifier: Apache-2.0
 * What the conformance suite stands on: a real shmetad per claim, on either engine, and the public client API told in few words.
 *
 * A claim is a test whose name begins with the clause of semantics.md that it proves: a_1_3_... for part A, c7_... for part C. */
#ifndef SHMETA_TESTS_SUPPORT_CONFORMANCE_H
#define SHMETA_TESTS_SUPPORT_CONFORMANCE_H

#include <stdint.h>

#include "include/shmeta.h"
#include "tests/support/run_daemon.h"

/* The same claim about both engines. */
#define CLAIM(claim)                                                             \
	static void claim(void);                                                 \
	Test(conformance_sqlite, claim, .init = api_on_sqlite, .fini = api_done) \
	{                                                                        \
		claim();                                                         \
	}                                                                        \
	Test(conformance_memory, claim, .init = api_on_memory, .fini = api_done) \
	{                                                                        \
		claim();                                                         \
	}                                                                        \
	static void claim(void)
/* One that needs rows that outlive the writer, or somebody else who writes to the source. */
#define CLAIM_OF_A_SHARED_SOURCE(claim) Test(conformance_sqlite, claim, .init = api_on_sqlite, .fini = api_done)

enum { API_RESULTS = 64, API_WAIT_MS = 20000 };

extern struct api {
	struct run_daemon d;
	const char *source; /* NULL: SQLite */
	struct shmeta *instance;
	struct shmeta_reader *reader; /* with a snapshot open: of after the last api_do() */
	struct shmeta_client *client;
	struct shmeta_result result[API_RESULTS]; /* of the last api_do() */
	struct shmeta_token token;
} api;

void api_on_sqlite(void);
void api_on_memory(void);
void api_done(void);
void api_restart(void); /* the writer; SQLite */

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
enum shmeta_status api_append(const char *topic, uint32_t partition, uint64_t base, uint64_t end); /* and moved */
enum shmeta_status api_set_watermark(const char *topic, uint32_t partition, uint64_t offset);
enum shmeta_status api_delete_before(const char *topic, uint32_t partition, uint64_t offset); /* result[0].count */
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
/* Lists as words with a blank between them, or an error's text. Each call's answer dies with the fourth call behind it. */
const char *api_topics(const char *pattern, int glob);                        /* a b c       */
const char *api_partitions(const char *topic);                                /* 0 1 2       */
const char *api_segments(const char *topic, uint32_t partition);              /* 0-9 10-19   */
const char *api_offsets(const char *group);                                   /* t/0=5       */
const char *api_groups(void);                                                 /* g h         */
const char *api_agents(const char *group, const char *zone, int64_t now_ms);  /* a b         */
const char *api_leases(const char *topic, const char *agent, int64_t now_ms); /* t/0:a@1     */

#endif
