/* SPDX-License-Identifier: Apache-2.0
 * The library under threads, for ThreadSanitizer: readers in several threads of one process, opens
 * and closes beside them, requests, state, while the writer commits, revokes, dies, comes back and
 * switches generations. Ends with 0 when every answer was right. Criterion cannot run under
 * ThreadSanitizer, so this is a plain program that brings the fake writer along. */
#include "tests/support/fake_writer.c" /* NOLINT(bugprone-suspicious-include) */
#include "tests/support/scratch.c"     /* NOLINT(bugprone-suspicious-include) */

enum { READERS = 4, ROUNDS = 300, CHANGES = 32 };

static struct fake_writer *writer;
static struct shmeta *shared;
static uint32_t the_topic;
static int stop;
static uint64_t wrong, snapshots;

static void is_wrong(const char *what, int status)
{
	(void)fprintf(stderr, "wrong: %s (%d)\n", what, status);
	(void)__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

/* Every commit makes the partition's watermark and its rows agree; a snapshot that mixed two
 * commits would not. */
static void judge(struct shmeta_reader *r, struct shmeta_handle *h)
{
	struct shmeta_freshness fresh;
	struct shmeta_partition by_handle, by_name;
	struct shmeta_segment last, found;
	struct shmeta_iter *iter;
	struct shmeta_topic topic;
	enum shmeta_status status[6];

	status[0] = shmeta_get_partition(h, NULL, &by_handle, &fresh);
	status[1] = shmeta_get_partition_named(r, "t", 1, 0, NULL, &by_name, NULL);
	status[2] = shmeta_last_segment(h, NULL, &last, NULL);
	status[3] = shmeta_get_topic(r, "t", 1, NULL, &topic, NULL);
	status[4] = shmeta_list_topics(r, NULL, 0, 0, NULL, &iter);
	if (status[4] == SHMETA_OK) {
		if (shmeta_next_topic(iter, &topic, NULL) == SHMETA_END)
			is_wrong("an empty list", 0);
		shmeta_iter_free(iter);
	}
	if (status[0] == SHMETA_OK && status[1] == SHMETA_OK && status[2] == SHMETA_OK) {
		status[5] = shmeta_find_segment(h, by_handle.high_watermark - 1, NULL, &found, &fresh);
		if (by_handle.high_watermark != by_name.high_watermark ||
		    last.end_offset + 1 != by_handle.high_watermark ||
		    (status[5] == SHMETA_OK && found.base_offset != last.base_offset))
			is_wrong("two commits in one snapshot", 0);
	}
	for (int i = 0; i < 5; i++)
		if (status[i] != SHMETA_OK && status[i] != SHMETA_ERR_EXPIRED)
			is_wrong("a lookup", status[i]);
}

static void *read_often(void *arg)
{
	struct shmeta_handle *h = NULL;
	struct shmeta_reader *r = NULL;
	enum shmeta_status status;

	(void)arg;
	for (int i = 0; i < ROUNDS || !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); i++) {
		if (r == NULL && shmeta_reader_new(shared, &r) != SHMETA_OK) {
			is_wrong("a reader", 0);
			return NULL;
		}
		status = shmeta_begin(r);
		if (status == SHMETA_ERR_CONTENDED)
			continue;
		if (status != SHMETA_OK) {
			is_wrong("begin", status);
			break;
		}
		if (h == NULL && shmeta_partition_open(r, "t", 1, 0, &h) != SHMETA_OK)
			h = NULL;
		if (h != NULL)
			judge(r, h);
		status = shmeta_end(r);
		if (status != SHMETA_OK && status != SHMETA_ERR_EXPIRED)
			is_wrong("end", status);
		(void)__atomic_add_fetch(&snapshots, 1, __ATOMIC_RELAXED);
		if (i % 500 == 499) {
			shmeta_reader_free(r);
			shmeta_partition_close(h); /* in either order */
			r = NULL;
			h = NULL;
		}
	}
	shmeta_partition_close(h);
	shmeta_reader_free(r);
	return NULL;
}

static void *open_and_close(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		struct shmeta *other = fake_open(writer, NULL, 0, 80);
		struct shmeta_reader *r = other == NULL ? NULL : fake_reader(other);

		if (r == NULL) {
			is_wrong("a second open", 0);
			return NULL;
		}
		if (shmeta_begin(r) == SHMETA_OK)
			(void)!shmeta_end(r);
		shmeta_close(other); /* its reader is still there */
		shmeta_reader_free(r);
	}
	return NULL;
}

static void *ask_often(void *arg)
{
	struct shmeta_state state = {.size = sizeof state};
	char text[256];
	uint64_t txn;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		if (shmeta_get_state(shared, &state) != SHMETA_OK)
			is_wrong("state", 0);
		(void)!shmeta_wait_commit(shared, state.committed_txn, 20, &txn);
		(void)!shmeta_refresh(shared, SHMETA_CLASS_LIST, NULL, 0, 0, 20, &txn);
		(void)!shmeta_changed_txn(shared, SHMETA_CLASS_TOPIC, &txn);
		(void)shmeta_last_error(shared, text, sizeof text);
	}
	return NULL;
}

static void change(int i)
{
	(void)pthread_mutex_lock(&writer->lock);
	fake_begin(writer);
	fake_even_partition(writer, the_topic, 0, 3000 + (size_t)(i * 7 % 100), 10);
	(void)fake_commit(writer);
	fake_stamp_all(writer);
	(void)pthread_mutex_unlock(&writer->lock);
	if (i % 10 == 3)
		fake_revoke(writer);
	if (i % 20 == 7)
		fake_switch_generation(writer);
	if (i % 30 == 11) {
		fake_unserve(writer);
		fake_new_epoch(writer);
		fake_serve(writer);
	}
}

int main(void)
{
	pthread_t thread[READERS + 2];

	writer = fake_writer_new();
	fake_begin(writer);
	the_topic = fake_simple_topic(writer, "t", 1);
	fake_even_partition(writer, the_topic, 0, 3000, 10);
	(void)fake_commit(writer);
	fake_stamp_all(writer);
	shared = fake_open(writer, NULL, 0, READERS);
	if (shared == NULL)
		return 1;
	for (int i = 0; i < READERS + 2; i++)
		if (pthread_create(&thread[i], NULL,
		                   i < READERS    ? read_often
		                   : i == READERS ? open_and_close
		                                  : ask_often,
		                   NULL) != 0)
			return 1;
	for (int i = 0; i < CHANGES; i++)
		change(i);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < READERS + 2; i++)
		(void)pthread_join(thread[i], NULL);
	shmeta_close(shared);
	fake_writer_free(writer);
	(void)printf("%llu snapshots, %llu wrong\n", (unsigned long long)snapshots, (unsigned long long)wrong);
	return wrong != 0;
}
