/* SPDX-License-Identifier: Apache-2.0
 * The engine with its thread, under ThreadSanitizer: a source that changes, readers that ask,
 * counters that are read and options that are reloaded, all from other threads, while it starts,
 * runs and stops. Plain program: Criterion and ThreadSanitizer do not go together. Exit status 0:
 * every ticket was answered exactly once and the end state is the source's. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/memory_faults.h"
#include "tests/support/quiet_host.h"
#include "tests/support/usual_options.h"
#include "writer/engine/sync.h"

enum { TICKETS = 4000, ROUNDS = 3 };

static struct memory_db *db;
static struct sync *engine;
static _Atomic unsigned answered[TICKETS], given[TICKETS];
static _Atomic int stop, served, failed;

/* LMDB's write lock and the source's lock are taken in both orders, but the former by one thread
 * alone. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "detect_deadlocks=0";
}

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "not so: %s\n", what);
		failed = 1;
	}
}

static void on_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced_at_ns)
{
	(void)arg;
	(void)txn;
	(void)generation;
	(void)synced_at_ns;
	if (ticket >= TICKETS)
		return;
	answered[ticket]++;
	if (status != SHMETA_OK && status != SHMETA_ERR_WRITER_AWAY && status != SHMETA_ERR_SOURCE)
		fprintf(stderr, "ticket %llu: %d %s\n", (unsigned long long)ticket, (int)status, sentence);
}

static void on_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	(void)arg;
	(void)sentence;
	if (phase == SHMETA_PHASE_SERVING)
		served = 1;
}

static void on_log(void *arg, int priority, const char *event, const char *sentence)
{
	(void)arg;
	if (getenv("VERBOSE") != NULL)
		fprintf(stderr, "%d %s: %s\n", priority, event, sentence);
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static void *change(void *arg)
{
	uint64_t random = 1;

	(void)arg;
	while (!stop) {
		char topic[32];
		uint32_t p = (uint32_t)next_random(&random) % 4;
		uint64_t base = next_random(&random) % 1000 * 1000;
		struct shmeta_segment segment = {.base_offset = base,
		                                 .end_offset = base + 999,
		                                 .record_count = 1000,
		                                 .partition_id = p,
		                                 .s3_bucket = {"b", 1},
		                                 .s3_key = {"k", 1}};
		char id[64];

		snprintf(topic, sizeof topic, "topic-%05d", (int)(next_random(&random) % 12));
		snprintf(id, sizeof id, "%s-%u-%llu", topic, p, (unsigned long long)base);
		segment.id = (struct shmeta_str){id, strlen(id)};
		switch (next_random(&random) % 16) {
		case 0:
			memory_delete_topic(db, NULL, topic);
			break;
		case 1:
			memory_create_topic(db, NULL, topic, 4, (int64_t)next_random(&random));
			break;
		case 2:
			memory_delete_segments_before(db, NULL, topic, p, base);
			break;
		case 3:
			if (next_random(&random) % 20 == 0)
				memory_fail(db, MEMORY_CHANGES, 1, 0, SHMETA_ERR_SOURCE, "a passing fault");
			break;
		default:
			memory_put_segment(db, NULL, topic, &segment);
		}
		usleep(200);
	}
	return NULL;
}

static void *ask(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg, random = first + 7;

	for (uint64_t ticket = first; ticket < TICKETS && !stop; ticket += 2) {
		char topic[32];
		struct backend_key key = {.cls = (enum shmeta_class)(next_random(&random) % 3),
		                          .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
		                          .partition_id = (uint32_t)next_random(&random) % 4};

		snprintf(topic, sizeof topic, "topic-%05d", (int)(next_random(&random) % 12));
		key.topic = (struct shmeta_str){topic, strlen(topic)};
		if (next_random(&random) % 64 == 0)
			key = (struct backend_key){.cls = SHMETA_CLASS_LIST};
		given[ticket] = 1;
		if (sync_refresh(engine, &key, ticket % 2 != 0, 0, UINT64_MAX, ticket) != SHMETA_OK)
			given[ticket] = 0;
		if (ticket % 16 < 2)
			usleep(2000);
	}
	return NULL;
}

static void *look(void *arg)
{
	struct sync_options options = *(const struct sync_options *)arg;

	while (!stop) {
		struct sync_counters counters;
		char text[256];

		sync_read_counters(engine, &counters);
		sync_source_status(engine, text, sizeof text);
		options.ttl_ms[0] = 1000 + (uint32_t)(counters.polls % 1000);
		sync_reconfigure(engine, &options);
		usleep(5000);
	}
	return NULL;
}

int main(void)
{
	char dir[] = "/dev/shm/shmeta-tsan.XXXXXX", command[64];
	void *map;
	struct shmeta_err err = {0};
	const struct sync_host host =
		quiet_host((struct sync_host){.phase = on_phase, .log = on_log, .answer = on_answer});
	const struct sync_options options = {.source = {.uri = "memory:tsan", .timeout_ms = 1000},
	                                     .engine = &memory_with_faults,
	                                     .store_max_bytes = 64 << 20,
	                                     .grace_ns = 20000000,
	                                     .poll_min_ms = 1,
	                                     .poll_max_ms = 20,
	                                     .retry_min_ms = 1,
	                                     .retry_max_ms = 10,
	                                     .reconcile_s = 1,
	                                     .refresh_batch_keys = 50,
	                                     .refresh_queue_max = 1000,
	                                     .write_queue_max = 1000,
	                                     .write_batch_max = 4096,
	                                     .commit_rows = 100000,
	                                     .ttl_ms = {300000, 30000, 30000, 30000, 5000, 5000, 5000},
	                                     USUAL_BUDGETS,
	                                     USUAL_QUEUES};

	if (mkdtemp(dir) == NULL)
		return 2;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	db = memory_db_new("tsan");
	if (fd < 0 || db == NULL || !memory_fill(db, 10, 4, 50, 1) ||
	    shmeta__map_file(fd, "board", SHMETA_PAGE, 1, &map, &err) != SHMETA_OK) {
		fprintf(stderr, "setting up: %s\n", err.text);
		return 2;
	}
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t threads[4];
		struct sync_counters counters = {0};
		size_t missing = 0;

		stop = 0;
		memset((void *)answered, 0, sizeof answered);
		memset((void *)given, 0, sizeof given);
		if (sync_start(fd, map, &options, &host, &engine, &err) != SHMETA_OK) {
			fprintf(stderr, "starting: %s\n", err.text);
			return 2;
		}
		pthread_create(&threads[0], NULL, change, NULL);
		pthread_create(&threads[1], NULL, ask, (void *)0);
		pthread_create(&threads[2], NULL, ask, (void *)1);
		pthread_create(&threads[3], NULL, look, (void *)&options);
		pthread_join(threads[1], NULL);
		pthread_join(threads[2], NULL);
		sync_read_counters(engine, &counters);
		stop = 1;
		pthread_join(threads[0], NULL);
		pthread_join(threads[3], NULL);
		sync_stop(engine);
		for (size_t i = 0; i < TICKETS; i++)
			missing += answered[i] != given[i];
		check(missing == 0, "every ticket that was taken is answered exactly once");
		check(served, "it served");
		fprintf(stderr, "round %d: %llu polls, %llu fetches, %llu commits, %llu reconciles\n", round,
		        (unsigned long long)counters.polls, (unsigned long long)counters.fetches,
		        (unsigned long long)counters.commits, (unsigned long long)counters.reconciles);
	}
	munmap(map, SHMETA_PAGE);
	close(fd);
	memory_faults_forget(db);
	memory_db_free(db);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command) != 0 || failed;
}
