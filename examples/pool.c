/* SPDX-License-Identifier: Apache-2.0
 * Tasks share a pool of readers, and an event loop waits for growth: pool DIRECTORY TOPIC
 * PARTITION.
 *
 * Four threads look up segments with two readers: a task takes a reader for one call, which begins
 * and ends the snapshot itself and copies what it found, and puts it back. So no snapshot lives
 * across a switch of tasks, and a reader moves between threads, one at a time. Meanwhile the main
 * thread waits until the partition grows: a submitted wait without a callback, whose end is taken
 * from the client's queue.
 *
 * Compile: cc -pthread pool.c $(pkg-config --cflags --libs shmeta) */
#include <poll.h>
#include <pthread.h>
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 4, READERS = 2, LOOKUPS = 1000, STRINGS = 3 * (SHMETA_STRING_MAX + 1) };

/* The mutex orders the threads that use a reader one after the other. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t put_back;
	struct shmeta_reader *free[READERS];
	int count;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .put_back = PTHREAD_COND_INITIALIZER};

static const char *topic;
static uint32_t partition;

static struct shmeta_reader *take(void)
{
	struct shmeta_reader *reader;

	(void)pthread_mutex_lock(&pool.lock);
	while (pool.count == 0)
		(void)pthread_cond_wait(&pool.put_back, &pool.lock);
	reader = pool.free[--pool.count];
	(void)pthread_mutex_unlock(&pool.lock);
	return reader;
}

static void put_back(struct shmeta_reader *reader)
{
	(void)pthread_mutex_lock(&pool.lock);
	pool.free[pool.count++] = reader;
	(void)pthread_cond_signal(&pool.put_back);
	(void)pthread_mutex_unlock(&pool.lock);
}

static enum shmeta_status high_watermark(uint64_t *ret)
{
	struct shmeta_reader *reader = take();
	struct shmeta_partition p = {0};
	enum shmeta_status status = shmeta_once_partition(reader, topic, strlen(topic), partition, NULL, &p, NULL);

	put_back(reader);
	*ret = p.high_watermark;
	return status;
}

/* Each lookup is a task of its own. The result: how many failed; an offset without a segment is an
 * answer. */
static void *work(void *arg)
{
	uint64_t end = 0, failed = 0;
	char strings[STRINGS];

	if (high_watermark(&end) != SHMETA_OK || end == 0)
		return (void *)(uintptr_t)LOOKUPS;
	for (uint64_t i = 0; i < LOOKUPS; i++) {
		struct shmeta_reader *reader = take();
		struct shmeta_segment found;
		enum shmeta_status status =
			shmeta_once_segment(reader, topic, strlen(topic), partition, (i * 7919 + (uintptr_t)arg) % end,
		                            NULL, strings, sizeof strings, &found, NULL);

		put_back(reader);
		/* The strings are the task's own: here it would read the object. */
		failed += status < 0 || status == SHMETA_UNKNOWN || (status == SHMETA_OK && found.s3_key.bytes == 0);
	}
	return (void *)(uintptr_t)failed;
}

/* Until the partition is beyond the watermark. ERR_*: the wait could not be submitted, or
 * failed. */
static enum shmeta_status await_growth(struct shmeta_client *client, struct shmeta_watch *watch)
{
	enum shmeta_status status = shmeta_submit_wait(client, watch, 1, NULL, watch, NULL);
	struct shmeta_done done = {.size = sizeof done};
	uint32_t wait_ms;

	while (status == SHMETA_OK) {
		struct pollfd p;

		(void)!shmeta_client_process(client, &wait_ms);
		/* In the order in which they ended; `arg` says which one it is, where many are
		 * under way. */
		if (shmeta_client_next_done(client, &done) == SHMETA_OK)
			return done.status == SHMETA_OK ? ((struct shmeta_watch *)done.arg)->status : done.status;
		/* Both change with the connection: ask anew. A loop adds its other descriptors. */
		p = (struct pollfd){.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};
		(void)poll(&p, 1, (int)wait_ms);
	}
	return status;
}

static int run(struct shmeta_client *client)
{
	struct shmeta_watch watch = {.topic = {topic, strlen(topic)}, .partition_id = partition};
	uint64_t failed = 0, now;
	pthread_t worker[WORKERS];
	enum shmeta_status status = high_watermark(&watch.high_watermark);

	if (status != SHMETA_OK)
		return fprintf(stderr, "partition: %s\n", shmeta_strerror(status)), 1;
	for (uintptr_t i = 0; i < WORKERS; i++)
		if (pthread_create(&worker[i], NULL, work, (void *)i) != 0)
			return perror("thread"), 1;
	for (int i = 0; i < WORKERS; i++) {
		void *result;

		(void)pthread_join(worker[i], &result);
		failed += (uintptr_t)result;
	}
	printf("%d lookups by %d threads with %d readers, %llu failed\n", WORKERS * LOOKUPS, WORKERS, READERS,
	       (unsigned long long)failed);
	fflush(stdout);
	status = await_growth(client, &watch);
	/* The next snapshot of any reader shows what ended the wait. */
	if (status == SHMETA_OK)
		status = high_watermark(&now);
	if (status != SHMETA_OK)
		return fprintf(stderr, "waiting: %s\n", shmeta_strerror(status)), 1;
	printf("grown from %llu to %llu\n", (unsigned long long)watch.high_watermark, (unsigned long long)now);
	return failed > 0 || now <= watch.high_watermark;
}

int main(int argc, char **argv)
{
	char why[480] = "";
	struct shmeta_options options = {
		.size = sizeof options, .threads = READERS, .error = why, .error_bytes = sizeof why};
	struct shmeta_client *client;
	struct shmeta *instance;
	int bad;

	if (argc != 4) {
		fprintf(stderr, "usage: pool DIRECTORY TOPIC PARTITION\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	topic = argv[2];
	partition = (uint32_t)strtoul(argv[3], NULL, 10);
	if (shmeta_open(&options, &instance) != SHMETA_OK) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	while (pool.count < READERS)
		if (shmeta_reader_new(instance, &pool.free[pool.count++]) != SHMETA_OK)
			return 1;
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		return 1;
	bad = run(client);
	shmeta_client_close(client);
	while (pool.count > 0)
		shmeta_reader_free(pool.free[--pool.count]);
	shmeta_close(instance);
	return bad;
}
