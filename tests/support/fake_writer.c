/* SPDX-License-Identifier: Apache-2.0
 * See fake_writer.h. */
#include "tests/support/fake_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/index/part.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "tests/support/boot_id.h"
#include "tests/support/scratch.h"

static const uint64_t MAX_BYTES = 64u << 20;

static _Noreturn void die(const char *what, const struct shmeta_err *err)
{
	(void)fprintf(stderr, "fake writer: %s: %s\n", what, err != NULL ? err->text : strerror(errno));
	abort();
}

static void must(enum shmeta_status status, const char *what, const struct shmeta_err *err)
{
	if (status < 0)
		die(what, err);
}

struct shmeta_str fake_str(const char *text)
{
	return (struct shmeta_str){text, text == NULL ? 0 : strlen(text)};
}

struct shmeta_map fake_map(const char *first, ...)
{
	char *out = malloc(SHMETA_MAP_MAX);
	const char *key = first;
	size_t n = 0;
	va_list ap;

	va_start(ap, first);
	while (key != NULL) {
		const char *value = va_arg(ap, const char *);
		uint32_t sizes[2] = {(uint32_t)strlen(key), (uint32_t)strlen(value)};

		memcpy(out + n, sizes, sizeof sizes);
		memcpy(out + n + 8, key, sizes[0]);
		memcpy(out + n + 8 + sizes[0], value, sizes[1]);
		n += 8 + sizes[0] + sizes[1];
		key = va_arg(ap, const char *);
	}
	va_end(ap);
	return (struct shmeta_map){out, n};
}

/* ---- clocks and stamps ---- */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t fake_now_ns(const struct fake_writer *w)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE) + (uint64_t)w->board->boot_offset_ns;
}

static void set_offset(struct fake_writer *w, int64_t offset)
{
	shmeta_poke(&w->board->boot_offset_ns, offset);
	if (w->gen != NULL)
		shmeta_poke(&w->gen->boot_offset_ns, offset);
}

void fake_advance(struct fake_writer *w, uint64_t ns)
{
	set_offset(w, w->board->boot_offset_ns + (int64_t)ns);
}

void fake_beat(struct fake_writer *w)
{
	shmeta_publish(&w->board->heartbeat_ns, clock_ns(CLOCK_MONOTONIC) + (uint64_t)w->board->boot_offset_ns);
}

void fake_stamp(struct fake_writer *w, enum shmeta_class cls, uint64_t ttl_ns)
{
	static const uint64_t ttl_ms[] = {
#define SHMETA_X(name, number, text, ttl) ttl,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	struct shmeta_stamp *stamp = &w->gen->stamp[cls];

	shmeta_poke(&stamp->ttl_ns, ttl_ns != 0 ? ttl_ns : ttl_ms[cls] * 1000000);
	shmeta_publish(&stamp->txn, shmeta_observe(&w->gen->committed));
	shmeta_publish(&stamp->synced_at_ns, fake_now_ns(w));
}

void fake_stamp_all(struct fake_writer *w)
{
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		fake_stamp(w, (enum shmeta_class)cls, 0);
}

/* ---- directory, board, generations ---- */

static void empty_directory(int fd)
{
	DIR *dir = fdopendir(dup(fd));
	struct dirent *e;

	rewinddir(dir);
	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0 && (errno == EISDIR || errno == EPERM)) {
			int sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			empty_directory(sub);
			(void)close(sub);
			(void)unlinkat(fd, e->d_name, AT_REMOVEDIR);
		}
	}
	(void)closedir(dir);
}

static void make_board(struct fake_writer *w, uint64_t epoch)
{
	struct shmeta_err err = {0};
	struct shmeta_board *b;
	void *map;

	must(shmeta__map_file(w->dir_fd, "board", SHMETA_PAGE, 1, &map, &err), "board", &err);
	b = w->board = map;
	memset(b, 0, sizeof *b);
	memcpy(b->signature, "SHMBOARD", 8);
	b->incompat = SHMETA_BOARD_INCOMPAT_V1;
	b->board_bytes = sizeof *b;
	b->writer_version = 1 << 8;
	b->writer_pid = (uint64_t)getpid();
	b->epoch = epoch;
	b->phase = SHMETA_PHASE_SERVING;
	b->boot_offset_ns = shmeta__boot_offset_ns();
	fake_beat(w);
}

static void publish(struct fake_writer *w, uint64_t number)
{
	w->gen = shmeta__store_generation(w->store);
	shmeta_poke(&w->gen->boot_offset_ns, w->board->boot_offset_ns);
	shmeta__store_inode(w->store, &w->board->store_dev, &w->board->store_ino);
	shmeta_publish(&w->board->generation, number); /* PAIR 4: new generation before retirement */
}

static void make_generation(struct fake_writer *w, uint64_t number)
{
	struct shmeta_store_format format = {
		.format = SHMETA_STORE_FORMAT, .writer_version = 1 << 8, .created_at_ns = shmeta__boottime_ns()};
	struct shmeta_err err = {0};

	boot_id_read(format.boot_id);
	(void)snprintf(format.source, sizeof format.source, "fake");
	must(shmeta__store_create(w->dir_fd, number, MAX_BYTES, w->grace_ns, &format, &w->store, &err), "store", &err);
	publish(w, number);
}

static struct fake_writer *new_writer(uint64_t grace_ns)
{
	struct fake_writer *w = calloc(1, sizeof *w);
	pthread_mutexattr_t recursive;

	if (!scratch_dir("fake", w->dir))
		die("mkdtemp", NULL);
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->grace_ns = grace_ns;
	w->listen_fd = w->stop_fd = -1;
	for (int i = 0; i < FAKE_CLIENTS; i++)
		w->client[i] = (struct fake_client){.fd = -1, .memfd = -1};
	/* Recursive: what a test does on a request begins commits under it. */
	(void)pthread_mutexattr_init(&recursive);
	(void)pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	(void)pthread_mutex_init(&w->lock, &recursive);
	(void)pthread_mutexattr_destroy(&recursive);
	make_board(w, 1);
	return w;
}

struct fake_writer *fake_writer_with_topic(uint32_t *ret_id)
{
	struct fake_writer *w = fake_writer_new();
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	if (ret_id != NULL)
		*ret_id = id;
	return w;
}

struct fake_writer *fake_writer_unpublished(void)
{
	return new_writer(UINT64_C(1000000000));
}

struct fake_writer *fake_writer_with_grace(uint64_t grace_ns)
{
	struct fake_writer *w = new_writer(grace_ns);

	make_generation(w, 1);
	fake_serve(w);
	return w;
}

struct fake_writer *fake_writer_new(void)
{
	return fake_writer_with_grace(UINT64_C(1000000000));
}

void fake_writer_free(struct fake_writer *w)
{
	if (w == NULL)
		return;
	fake_unserve(w);
	shmeta__txn_abort(w->txn);
	shmeta__store_close(w->store);
	(void)munmap(w->board, SHMETA_PAGE);
	empty_directory(w->dir_fd);
	(void)close(w->dir_fd);
	(void)rmdir(w->dir);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

void fake_new_epoch(struct fake_writer *w)
{
	fake_beat(w);
	shmeta_publish(&w->board->epoch, w->board->epoch + 1);
}

void fake_switch_generation(struct fake_writer *w)
{
	struct shmeta_err err = {0};
	struct shmeta__store *old = w->store;
	struct shmeta_generation *old_gen = w->gen;
	uint64_t number = w->board->generation + 1;
	struct shmeta_stamp stamps[8];

	(void)pthread_mutex_lock(&w->lock);
	memcpy(stamps, old_gen->stamp, sizeof stamps);
	must(shmeta__store_copy(old, w->dir_fd, number, 0, &w->store, &err), "copy", &err);
	memcpy(shmeta__store_generation(w->store)->stamp, stamps, sizeof stamps);
	publish(w, number);
	shmeta_publish(&old_gen->retired, 1); /* PAIR 4: new generation before retirement */
	shmeta__store_close(old);
	(void)pthread_mutex_unlock(&w->lock);
}

void fake_load_anew(struct fake_writer *w)
{
	struct shmeta__store *old = w->store;
	struct shmeta_generation *old_gen = w->gen;

	(void)pthread_mutex_lock(&w->lock);
	make_generation(w, w->board->generation + 1);
	shmeta_publish(&old_gen->retired, 1); /* PAIR 4: new generation before retirement */
	shmeta__store_close(old);
	(void)pthread_mutex_unlock(&w->lock);
}

void fake_remake(struct fake_writer *w)
{
	int served = w->serving;

	fake_unserve(w);
	shmeta__store_close(w->store);
	(void)munmap(w->board, SHMETA_PAGE);
	w->gen = NULL;
	empty_directory(w->dir_fd);
	make_board(w, 1);
	make_generation(w, 1);
	if (served)
		fake_serve(w);
}

/* ---- the store ---- */

void fake_begin(struct fake_writer *w)
{
	struct shmeta_err err = {0};

	must(shmeta__txn_begin(w->store, fake_oldest_pin(w), &w->txn, &err), "begin", &err);
}

uint64_t fake_commit(struct fake_writer *w)
{
	struct shmeta_err err = {0};
	uint64_t txn = 0;

	must(shmeta__txn_commit(w->txn, &txn, &err), "commit", &err);
	w->txn = NULL;
	return txn;
}

static void put(struct fake_writer *w, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
                size_t bytes)
{
	struct shmeta_err err = {0};

	must(shmeta__put(w->txn, db, key, key_bytes, value, bytes, &err), "put", &err);
}

void fake_raw(struct fake_writer *w, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
              size_t bytes)
{
	put(w, db, key, key_bytes, value, bytes);
}

uint32_t fake_tenant(struct fake_writer *w, const char *tenant)
{
	const char *text = tenant != NULL ? tenant : SHMETA_DEFAULT_TENANT;
	struct shmeta_err err = {0};
	uint32_t number = 0;

	must(shmeta__tenant(w->txn, text, strlen(text), 1, &number, &err), "tenant", &err);
	return number;
}

static uint32_t find_topic(struct fake_writer *w, const void *key, size_t key_bytes)
{
	struct shmeta_topic topic;
	const void *value;
	size_t bytes;

	if (shmeta__get(w->txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, NULL) != SHMETA_OK)
		return 0;
	must(shmeta__topic_decode(value, bytes, key, key_bytes, 1, &topic, NULL), "topic", NULL);
	return topic.topic_id;
}

uint32_t fake_topic(struct fake_writer *w, const struct fake_topic *t)
{
	static _Thread_local uint8_t value[SHMETA_TOPIC_MAX];
	const struct shmeta__stamps stamps = {t->synced_at_ns, t->ttl_ms};
	uint32_t tenant = fake_tenant(w, t->tenant), id;
	size_t name_bytes = strlen(t->name), key_bytes, bytes;
	struct shmeta_topic topic = {.name = {t->name, name_bytes},
	                             .config = t->config,
	                             .cleanup_policy = fake_str(t->policy),
	                             .created_at_ms = t->created_at_ms,
	                             .updated_at_ms = t->created_at_ms + 1,
	                             .retention_ms = 604800000,
	                             .has_retention = 1,
	                             .partition_count = t->partitions};
	uint8_t key[SHMETA_KEY_MAX];
	uint64_t number;

	key_bytes = shmeta__name_key(key, tenant, t->name, name_bytes);
	id = find_topic(w, key, key_bytes);
	if (id == 0) {
		id = (uint32_t)shmeta__store_counters(w->store)->next_topic_id++;
		shmeta__store_counters(w->store)->topics++;
	}
	topic.topic_id = id;
	number = id;
	bytes = shmeta__topic_encode(&topic, &stamps, key, key_bytes, value, sizeof value);
	put(w, SHMETA_DB_NAMES, key, key_bytes, value, bytes);
	put(w, SHMETA_DB_TOPICS, &number, sizeof number, key, key_bytes);
	shmeta__touch(w->txn, shmeta__touched_name(shmeta__name_hash(tenant, t->name, name_bytes)));
	shmeta__touch_class(w->txn, SHMETA_CLASS_TOPIC);
	return id;
}

uint32_t fake_simple_topic(struct fake_writer *w, const char *name, uint32_t partitions)
{
	const struct fake_topic t = {.name = name, .partitions = partitions};
	uint32_t id = fake_topic(w, &t);

	for (uint32_t p = 0; p < partitions; p++)
		fake_partition(w, id, p, 0, NULL, 0, 0, 0);
	return id;
}

static void erase(struct fake_writer *w, enum shmeta_db db, const void *key, size_t key_bytes)
{
	struct shmeta_err err = {0};

	must(shmeta__delete(w->txn, db, key, key_bytes, &err), "delete", &err);
}

void fake_delete_topic(struct fake_writer *w, const char *tenant_text, const char *name)
{
	const struct shmeta__pager pager = shmeta__txn_pager(w->txn);
	uint32_t tenant = fake_tenant(w, tenant_text), id;
	uint8_t key[SHMETA_KEY_MAX];
	size_t key_bytes = shmeta__name_key(key, tenant, name, strlen(name)), bytes;
	struct shmeta__part_edit *edit;
	struct shmeta_err err = {0};
	const void *head;
	uint64_t number;

	id = find_topic(w, key, key_bytes);
	number = id;
	erase(w, SHMETA_DB_NAMES, key, key_bytes);
	erase(w, SHMETA_DB_TOPICS, &number, sizeof number);
	for (uint32_t p = 0; p < 64; p++) {
		number = shmeta__part_key(id, p);
		if (shmeta__get(w->txn, SHMETA_DB_PARTS, &number, sizeof number, &head, &bytes, NULL) == SHMETA_OK) {
			must(shmeta__part_edit_new(number, name, strlen(name), head, bytes, &pager, &edit, &err),
			     "edit", &err);
			must(shmeta__part_edit_drop(edit, &err), "drop", &err);
			shmeta__part_edit_free(edit);
		}
		erase(w, SHMETA_DB_PARTS, &number, sizeof number);
		erase(w, SHMETA_DB_LEASES, &number, sizeof number);
		shmeta__touch(w->txn, shmeta__touched_partition(id, p));
	}
	shmeta__touch(w->txn, shmeta__touched_name(shmeta__name_hash(tenant, name, strlen(name))));
	shmeta__store_counters(w->store)->topics--;
}

/* The name of a topic: "name" of the stored key. */
static size_t topic_name(struct fake_writer *w, uint32_t topic_id, char name[SHMETA_NAME_MAX])
{
	uint64_t key = topic_id;
	const void *value;
	size_t bytes;

	must(shmeta__get(w->txn, SHMETA_DB_TOPICS, &key, sizeof key, &value, &bytes, NULL), "topics", NULL);
	memcpy(name, (const char *)value + 4, bytes - 4);
	return bytes - 4;
}

void fake_partition(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, uint64_t high_watermark,
                    const struct shmeta_segment *rows, size_t count, uint64_t synced_at_ns, uint32_t ttl_ms)
{
	const struct shmeta__pager pager = shmeta__txn_pager(w->txn);
	const struct shmeta_partition record = {.topic_id = topic_id,
	                                        .partition_id = partition_id,
	                                        .high_watermark = high_watermark,
	                                        .created_at_ms = 1000,
	                                        .updated_at_ms = 2000};
	struct shmeta_segment *filled = calloc(count + 1, sizeof *filled);
	char *text = malloc(count * 512 + 1), *t = text;
	uint64_t key = shmeta__part_key(topic_id, partition_id), changed;
	struct shmeta__part_edit *edit;
	struct shmeta_err err = {0};
	char name[SHMETA_NAME_MAX];
	size_t name_bytes = topic_name(w, topic_id, name), bytes = 0;
	const void *head = NULL;

	for (size_t i = 0; i < count; i++) {
		struct shmeta_segment *s = &filled[i];

		*s = rows[i];
		s->partition_id = partition_id;
		if (s->id.bytes == 0) {
			s->id.data = t;
			s->id.bytes = (size_t)sprintf(t, "%.*s-%u-%llu", (int)(name_bytes < 60 ? name_bytes : 60), name,
			                              partition_id, (unsigned long long)s->base_offset);
			t += s->id.bytes;
		}
		if (s->s3_bucket.bytes == 0)
			s->s3_bucket = fake_str("bucket");
		if (s->s3_key.bytes == 0) {
			s->s3_key.data = t;
			s->s3_key.bytes =
				(size_t)sprintf(t, "data/%.*s/%u/%020llu.seg", (int)(name_bytes < 60 ? name_bytes : 60),
			                        name, partition_id, (unsigned long long)s->base_offset);
			t += s->s3_key.bytes;
		}
	}
	if (shmeta__get(w->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, NULL) != SHMETA_OK) {
		head = NULL;
		shmeta__store_counters(w->store)->partitions++;
	}
	must(shmeta__part_edit_new(key, name, name_bytes, head, bytes, &pager, &edit, &err), "edit", &err);
	(void)shmeta__part_edit_record(edit, &record);
	shmeta__part_edit_stamp(edit, synced_at_ns, ttl_ms);
	must(shmeta__part_edit_replace(edit, 0, UINT64_MAX, filled, count, &changed, &err), "replace", &err);
	must(shmeta__part_edit_encode(edit, &head, &bytes, &err), "encode", &err);
	put(w, SHMETA_DB_PARTS, &key, sizeof key, head, bytes);
	shmeta__part_edit_free(edit);
	shmeta__touch(w->txn, shmeta__touched_partition(topic_id, partition_id));
	shmeta__touch_class(w->txn, SHMETA_CLASS_PARTITION);
	shmeta__touch_class(w->txn, SHMETA_CLASS_SEGMENT);
	free(filled);
	free(text);
}

void fake_even_partition(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, size_t count, uint64_t width)
{
	struct shmeta_segment *rows = calloc(count + 1, sizeof *rows);

	for (size_t i = 0; i < count; i++)
		rows[i] = (struct shmeta_segment){.base_offset = i * width,
		                                  .end_offset = i * width + width - 1,
		                                  .size_bytes = 1000 + i,
		                                  .record_count = (uint32_t)width,
		                                  .created_at_ms = (int64_t)i,
		                                  .min_timestamp_ms = (int64_t)(i * 10),
		                                  .max_timestamp_ms = (int64_t)(i * 10 + 9)};
	fake_partition(w, topic_id, partition_id, count * width, rows, count, 0, 0);
	free(rows);
}

void fake_agent(struct fake_writer *w, const char *tenant, const struct shmeta_agent *agent, uint64_t synced_at_ns)
{
	static _Thread_local uint8_t value[SHMETA_AGENT_MAX];
	const struct shmeta__stamps stamps = {synced_at_ns, 0};
	uint8_t key[SHMETA_KEY_MAX];
	size_t key_bytes = shmeta__name_key(key, fake_tenant(w, tenant), agent->agent_id.data, agent->agent_id.bytes);

	put(w, SHMETA_DB_AGENTS, key, key_bytes, value,
	    shmeta__agent_encode(agent, &stamps, key, key_bytes, value, sizeof value));
	shmeta__touch_class(w->txn, SHMETA_CLASS_AGENT);
}

void fake_group(struct fake_writer *w, const char *tenant, const char *group)
{
	const struct shmeta_group row = {.group_id = fake_str(group), .created_at_ms = 5, .updated_at_ms = 6};
	const struct shmeta__stamps stamps = {0};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	size_t key_bytes = shmeta__name_key(key, fake_tenant(w, tenant), group, strlen(group));

	put(w, SHMETA_DB_GROUPS, key, key_bytes, value,
	    shmeta__group_encode(&row, &stamps, key, key_bytes, value, sizeof value));
	shmeta__touch_class(w->txn, SHMETA_CLASS_OFFSET);
}

void fake_offset(struct fake_writer *w, const char *tenant, const char *group, uint32_t topic_id, uint32_t partition_id,
                 uint64_t committed, const char *metadata)
{
	const struct shmeta_committed_offset row = {.group_id = fake_str(group),
	                                            .metadata = fake_str(metadata),
	                                            .has_metadata = metadata != NULL,
	                                            .committed_offset = committed,
	                                            .committed_at_ms = 77,
	                                            .topic_id = topic_id,
	                                            .partition_id = partition_id};
	const struct shmeta__stamps stamps = {0};
	uint8_t key[SHMETA_KEY_MAX], value[4096];
	size_t key_bytes =
		shmeta__offset_key(key, fake_tenant(w, tenant), group, strlen(group), topic_id, partition_id);

	put(w, SHMETA_DB_OFFSETS, key, key_bytes, value,
	    shmeta__offset_encode(&row, &stamps, key, key_bytes, value, sizeof value));
	shmeta__touch_class(w->txn, SHMETA_CLASS_OFFSET);
}

void fake_lease(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, const char *agent, int64_t expires_ms,
                uint64_t epoch)
{
	const struct shmeta_lease row = {.leader_agent_id = fake_str(agent),
	                                 .lease_expires_at_ms = expires_ms,
	                                 .acquired_at_ms = 3,
	                                 .epoch = epoch,
	                                 .topic_id = topic_id,
	                                 .partition_id = partition_id};
	const struct shmeta__stamps stamps = {0};
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	uint8_t value[4096];

	put(w, SHMETA_DB_LEASES, &key, sizeof key, value,
	    shmeta__lease_encode(&row, &stamps, &key, sizeof key, value, sizeof value));
	shmeta__touch_class(w->txn, SHMETA_CLASS_LEASE);
}

/* ---- the socket ---- */

static void drop_client(struct fake_writer *w, struct fake_client *c)
{
	if (c->page != NULL) {
		shmeta_publish(&c->page->revoked, 1); /* PAIR 5: revocation before recycling */
		(void)munmap(c->page, c->page_bytes);
		w->registrations--;
	}
	if (c->memfd >= 0)
		(void)close(c->memfd);
	(void)close(c->fd);
	*c = (struct fake_client){.fd = -1, .memfd = -1};
}

static void send_answer(struct fake_writer *w, int fd, uint64_t id, enum shmeta_status status, const char *text)
{
	char packet[sizeof(struct shmeta_frame_answer) + 4096] = {0};
	struct shmeta_frame_answer a = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER, .id = id},
	                                .status = status,
	                                .text_bytes = text == NULL ? 0 : (uint32_t)strlen(text)};

	a.head.bytes = (uint32_t)(sizeof a + a.text_bytes);
	if (w->gen != NULL) {
		a.txn = shmeta_observe(&w->gen->committed) + w->answer_txn_ahead;
		a.generation = w->gen->generation;
		/* To the nanosecond, as a writer's stamps are: a reader that wants SOURCE compares
		 * them with its call's begin. */
		a.synced_at_ns = w->answer_synced_at_ns != 0
		                         ? w->answer_synced_at_ns
		                         : clock_ns(CLOCK_MONOTONIC) + (uint64_t)w->board->boot_offset_ns;
	}
	if (w->stray) {
		const struct shmeta_frame_answer other = {.head = {.bytes = sizeof other,
		                                                   .version = SHMETA_WIRE_VERSION,
		                                                   .type = SHMETA_FRAME_ANSWER,
		                                                   .id = id - 1},
		                                          .status = SHMETA_ERR_FULL};

		(void)send(fd, &other, sizeof other, MSG_NOSIGNAL);
	}
	memcpy(packet, &a, sizeof a);
	if (text != NULL)
		memcpy(packet + sizeof a, text, a.text_bytes);
	(void)send(fd, packet, a.head.bytes, MSG_NOSIGNAL);
}

static void register_client(struct fake_writer *w, struct fake_client *c, const struct shmeta_frame_register *f)
{
	uint32_t slots = f->slot_count;
	struct shmeta_frame_registered answer = {.head = {.bytes = sizeof answer,
	                                                  .version = SHMETA_WIRE_VERSION,
	                                                  .type = SHMETA_FRAME_REGISTERED,
	                                                  .id = f->head.id}};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {&answer, sizeof answer};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&m);

	if (w->slots_max != 0 && slots > w->slots_max)
		slots = w->slots_max;
	c->page_bytes = shmeta__slots_bytes(slots);
	c->memfd = memfd_create("shmeta-fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (c->memfd < 0 || posix_fallocate(c->memfd, 0, (off_t)c->page_bytes) != 0)
		die("memfd", NULL);
	(void)fcntl(c->memfd, F_ADD_SEALS, w->unsealed ? F_SEAL_GROW : F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	c->page = mmap(NULL, c->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->memfd, 0);
	memcpy(c->page->signature, w->mislabelled ? "SHMOTHER" : "SHMSLOTS", 8);
	c->page->version = 1;
	c->page->slot_count = slots;
	c->page->epoch = w->board->epoch;
	w->registrations++;
	c->page->registration = ++w->registered_ever;
	answer.registration = c->page->registration;
	answer.epoch = w->board->epoch;
	answer.slot_count = slots;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &c->memfd, sizeof(int));
	(void)sendmsg(c->fd, &m, MSG_NOSIGNAL);
}

static void handle(struct fake_writer *w, struct fake_client *c)
{
	union {
		struct shmeta_frame head;
		struct shmeta_frame_register reg;
		struct shmeta_frame_refresh refresh;
		uint64_t align[SHMETA_PAGE / 8];
		char bytes[SHMETA_PAGE];
	} p;
	ssize_t n = recv(c->fd, &p, sizeof p, MSG_DONTWAIT);
	size_t named;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || shmeta__frame_check(&p, (size_t)n) != SHMETA_OK) {
		drop_client(w, c);
		return;
	}
	if (w->silent)
		return;
	switch ((enum shmeta_frame_type)p.head.type) {
	case SHMETA_FRAME_REGISTER:
		if (w->refuse)
			send_answer(w, c->fd, p.head.id, SHMETA_ERR_BUSY, "no more readers");
		else
			register_client(w, c, &p.reg);
		break;
	case SHMETA_FRAME_REFRESH:
		w->last_refresh = p.refresh;
		(void)snprintf(w->last_topic, sizeof w->last_topic, "%.*s", (int)p.refresh.name_bytes,
		               p.bytes + sizeof p.refresh);
		(void)snprintf(w->last_tenant, sizeof w->last_tenant, "%.*s", (int)p.refresh.tenant_bytes,
		               p.bytes + sizeof p.refresh + p.refresh.name_bytes);
		named = sizeof p.refresh + p.refresh.name_bytes + p.refresh.tenant_bytes;
		(void)snprintf(w->last_name, sizeof w->last_name, "%.*s", (int)(p.head.bytes - named), p.bytes + named);
		w->refreshes++;
		if (w->on_refresh != NULL)
			w->on_refresh(w, w->on_refresh_arg);
		send_answer(w, c->fd, p.head.id,
		            w->refuse_topic != NULL && strcmp(w->refuse_topic, w->last_topic) == 0 ? SHMETA_ERR_SOURCE
		                                                                                   : w->answer,
		            w->answer_text);
		break;
	case SHMETA_FRAME_RELOAD:
		w->reloads++;
		send_answer(w, c->fd, p.head.id, w->answer, w->answer_text);
		break;
	case SHMETA_FRAME_OBJECTS:
	case SHMETA_FRAME_INVALIDATE:
		/* OK: not what was asked for */
		send_answer(w, c->fd, p.head.id, w->answer, w->answer_text);
		break;
	case SHMETA_FRAME_ACCEPT:
	case SHMETA_FRAME_REVOKE:
	case SHMETA_FRAME_OPERATE:
	case SHMETA_FRAME_EPOCH_END:
		send_answer(w, c->fd, p.head.id, w->answer, w->answer_text);
		break;
	case SHMETA_FRAME_CONFIG:
	case SHMETA_FRAME_STATUS:
		w->statuses++;
		send_answer(w, c->fd, p.head.id, SHMETA_OK, "{}");
		break;
	case SHMETA_FRAME_REGISTERED:
	case SHMETA_FRAME_ANSWER:
	case SHMETA_FRAME_HELLO:
	case SHMETA_FRAME_WELCOME:
	case SHMETA_FRAME_WRITE:
	case SHMETA_FRAME_WAIT:
	case SHMETA_FRAME_RESULTS:
	case SHMETA_FRAME_OBJECT_LIST:
	case SHMETA_FRAME_INVALIDATED:
		drop_client(w, c);
		break;
	}
}

static void *serve(void *arg)
{
	struct fake_writer *w = arg;
	struct pollfd p[FAKE_CLIENTS + 2];

	for (;;) {
		p[0] = (struct pollfd){.fd = w->stop_fd, .events = POLLIN};
		p[1] = (struct pollfd){.fd = w->listen_fd, .events = POLLIN};
		for (int i = 0; i < FAKE_CLIENTS; i++)
			p[i + 2] = (struct pollfd){.fd = w->client[i].fd, .events = POLLIN};
		if (poll(p, FAKE_CLIENTS + 2, -1) < 0)
			continue;
		if (p[0].revents != 0)
			return NULL;
		(void)pthread_mutex_lock(&w->lock);
		if (p[1].revents != 0) {
			int fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), i = 0;

			while (i < FAKE_CLIENTS && w->client[i].fd >= 0)
				i++;
			if (i < FAKE_CLIENTS)
				w->client[i].fd = fd;
			else
				(void)close(fd);
		}
		for (int i = 0; i < FAKE_CLIENTS; i++)
			if (p[i + 2].revents != 0 && w->client[i].fd == p[i + 2].fd && w->client[i].fd >= 0)
				handle(w, &w->client[i]);
		(void)pthread_mutex_unlock(&w->lock);
	}
}

void fake_serve(struct fake_writer *w)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/control.sock", w->dir);
	(void)unlink(a.sun_path);
	w->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (bind(w->listen_fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(w->listen_fd, 128) < 0 ||
	    pthread_create(&w->thread, NULL, serve, w) != 0)
		die("control.sock", NULL);
	w->serving = 1;
}

void fake_unserve(struct fake_writer *w)
{
	uint64_t one = 1;

	if (!w->serving)
		return;
	if (write(w->stop_fd, &one, sizeof one) < 0)
		die("eventfd", NULL);
	(void)pthread_join(w->thread, NULL);
	for (int i = 0; i < FAKE_CLIENTS; i++) {
		/* A writer that dies revokes nothing. */
		if (w->client[i].page != NULL) {
			(void)munmap(w->client[i].page, w->client[i].page_bytes);
			w->client[i].page = NULL;
			w->registrations--;
		}
		if (w->client[i].fd >= 0)
			drop_client(w, &w->client[i]);
	}
	(void)close(w->listen_fd);
	(void)close(w->stop_fd);
	w->serving = 0;
}

void fake_revoke(struct fake_writer *w)
{
	(void)pthread_mutex_lock(&w->lock);
	for (int i = 0; i < FAKE_CLIENTS; i++)
		if (w->client[i].page != NULL)
			shmeta_publish(&w->client[i].page->revoked, 1); /* PAIR 5: revocation before recycling */
	(void)pthread_mutex_unlock(&w->lock);
}

int fake_wait_registered(struct fake_writer *w, uint32_t count)
{
	for (int i = 0; i < 5000; i++) {
		uint32_t now;

		(void)pthread_mutex_lock(&w->lock);
		now = w->registrations;
		(void)pthread_mutex_unlock(&w->lock);
		if (now == count)
			return 0;
		(void)poll(NULL, 0, 1);
	}
	return -1;
}

uint64_t fake_oldest_pin(struct fake_writer *w)
{
	uint64_t oldest = UINT64_MAX;

	(void)pthread_mutex_lock(&w->lock); /* the writer's thread unmaps the pages of who closes */
	for (int i = 0; i < FAKE_CLIENTS; i++) {
		const struct fake_client *c = &w->client[i];

		if (c->page == NULL || shmeta_observe(&c->page->revoked) != 0)
			continue;
		for (uint32_t s = 0; s < (c->page_bytes - SHMETA_SLOTS_HEADER) / SHMETA_SLOT_BYTES; s++) {
			struct shmeta_slot *slot = shmeta__slot(c->page, s);
			uint64_t pin = shmeta_load(&slot->pin); /* PAIR 1: pin before commit */

			if (pin != 0 && slot->generation == w->gen->generation && pin < oldest)
				oldest = pin;
		}
	}
	(void)pthread_mutex_unlock(&w->lock);
	return oldest;
}

struct shmeta_slot *fake_slot(struct fake_writer *w, uint32_t i)
{
	const struct fake_client *newest = NULL;

	for (int c = 0; c < FAKE_CLIENTS; c++)
		if (w->client[c].page != NULL &&
		    (newest == NULL || w->client[c].page->registration > newest->page->registration))
			newest = &w->client[c];
	return newest == NULL ? NULL : shmeta__slot(newest->page, i);
}

/* ---- its readers ---- */

struct shmeta *fake_open(struct fake_writer *w, const char *tenant, uint32_t flags, uint32_t threads)
{
	char error[512] = "";
	const struct shmeta_options options = {.size = sizeof options,
	                                       .directory = w->dir,
	                                       .tenant = tenant,
	                                       .agent = "test",
	                                       .flags = flags,
	                                       .threads = threads,
	                                       .error = error,
	                                       .error_bytes = sizeof error};
	struct shmeta *instance = NULL;

	if (shmeta_open(&options, &instance) == SHMETA_OK)
		return instance;
	(void)fprintf(stderr, "fake writer: open: %s\n", error);
	return NULL;
}

int fake_until_registered(struct shmeta_reader *reader, uint32_t registered)
{
	struct shmeta_snapshot_info info = {0};

	for (int i = 0; i < 5000; i++) {
		if (shmeta_begin(reader) == SHMETA_OK) {
			(void)!shmeta_snapshot_info(reader, &info);
			(void)!shmeta_end(reader);
			if (info.registered == registered)
				return 0;
		}
		(void)poll(NULL, 0, 1);
	}
	return -1;
}

struct shmeta_reader *fake_reader(struct shmeta *instance)
{
	struct shmeta_reader *reader = NULL;

	if (shmeta_reader_new(instance, &reader) != SHMETA_OK)
		return NULL;
	return reader;
}

int fake_open_reader(struct fake_writer *w, struct shmeta **ret_instance, struct shmeta_reader **ret_reader)
{
	*ret_instance = fake_open(w, NULL, 0, 0);
	*ret_reader = *ret_instance == NULL ? NULL : fake_reader(*ret_instance);
	return *ret_reader == NULL ? -1 : fake_until_registered(*ret_reader, 1);
}

void fake_close_all(struct fake_writer *w, struct shmeta *instance, struct shmeta_reader *reader)
{
	shmeta_reader_free(reader);
	shmeta_close(instance);
	fake_writer_free(w);
}
