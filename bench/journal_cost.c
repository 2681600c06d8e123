/* SPDX-License-Identifier: Apache-2.0
 * What the change journal costs: writes that are acknowledged one at a time, each a commit of its
 * own, by a daemon that keeps the journal and by one that has a directory where the journal's file
 * would be, and does without. */
#include <glob.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

enum { WRITES = 1000, WAIT_MS = 10000 };
static const struct shmeta_str topic = {"bench-journal", 13};

struct side {
	const char *name; /* of its figure */
	bool journal;
	pid_t daemon;
	struct shmeta *instance;
	struct shmeta_client *client;
	uint64_t written;
};

static void write_one(struct side *s, const struct shmeta_op *op)
{
	struct shmeta_result r = {.status = SHMETA_OK};
	enum shmeta_status status = shmeta_write(s->client, op, 1, WAIT_MS, &r, NULL);

	if (status != SHMETA_OK || r.status != SHMETA_OK)
		die("%s: %s; %s", s->name, shmeta_strerror(status), r.text);
}

/* Each moves the high watermark of one partition. */
static void write_many(struct side *s)
{
	for (int i = 0; i < WRITES; i++)
		write_one(s, &(struct shmeta_op){
				     .type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = topic, .offset = ++s->written});
}

static void put_directory_in_place(const char *instance)
{
	char pattern[460];
	glob_t found;

	(void)snprintf(pattern, sizeof pattern, "%s/store.*/journal", instance);
	if (glob(pattern, 0, NULL, &found) != 0 || found.gl_pathc != 1 || unlink(found.gl_pathv[0]) != 0 ||
	    mkdir(found.gl_pathv[0], 0700) != 0)
		die("%s cannot be replaced", pattern);
	globfree(&found);
}

static bool tells_changes(struct side *s)
{
	struct shmeta_reader *reader = env_reader(s->instance);
	struct shmeta_snapshot_info info;
	struct shmeta_iter *changes = NULL;
	enum shmeta_status status;

	if (shmeta_begin(reader) != SHMETA_OK || shmeta_snapshot_info(reader, &info) != SHMETA_OK)
		die("%s: no snapshot", s->name);
	status = shmeta_changes_since(reader, &(struct shmeta_token){info.generation, info.txn - 1}, &changes);
	shmeta_iter_free(changes);
	(void)shmeta_end(reader);
	shmeta_reader_free(reader);
	return status == SHMETA_OK;
}

static void side_start(const struct bench *b, struct side *s)
{
	char db[400], instance[400];

	(void)snprintf(db, sizeof db, "%s/%s.db", b->dir, s->name);
	(void)snprintf(instance, sizeof instance, "%s/%s", b->dir, s->name);
	s->daemon = env_start_daemon(b, db, instance, NULL, NULL);
	if (!s->journal) {
		env_kill(&s->daemon, SIGTERM);
		put_directory_in_place(instance);
		s->daemon = env_start_daemon(b, db, instance, NULL, NULL);
	}
	s->instance = env_open(instance);
	if (shmeta_client_open(s->instance, NULL, &s->client) != SHMETA_OK)
		die("%s: no client", s->name);
	write_one(s, &(struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = topic, .partition_count = 1}});
	write_many(s);
	if (tells_changes(s) != s->journal)
		die("%s: it has %s journal", s->name, s->journal ? "no" : "a");
}

static void side_end(struct side *s)
{
	shmeta_client_close(s->client);
	shmeta_close(s->instance);
	env_kill(&s->daemon, SIGTERM);
}

/* What all threads of the daemon took. */
static double daemon_s(const struct side *s)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(s->daemon, &clock) != 0 || clock_gettime(clock, &t) != 0)
		die("%s: the daemon's processor time cannot be read", s->name);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void measure(struct side *s)
{
	double wall = now_s(), cpu = daemon_s(s);
	struct result *r = result_get(s->name);

	write_many(s);
	wall = now_s() - wall;
	cpu = daemon_s(s) - cpu;
	if (r == NULL)
		r = result_add(s->name, "commits/s");
	result_value(r, WRITES / wall);
	result_cpu(r, WRITES / cpu);
}

void bench_journal(struct bench *b)
{
	struct side side[2] = {{.name = "journal.commits", .journal = true}, {.name = "journal.commits_without"}};

	for (int i = 0; i < 2; i++)
		side_start(b, &side[i]);
	for (int round = 0; round < b->rounds; round++) {
		measure(&side[round % 2]);
		measure(&side[1 - round % 2]);
	}
	for (int i = 0; i < 2; i++)
		side_end(&side[i]);
	target_min_ratio("journal.commits", 0.9, "journal.commits_without");
}
