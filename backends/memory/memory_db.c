/* SPDX-License-Identifier: Apache-2.0
 * The databases of the in-memory engine: sorted arrays, nested as the sink wants them, and the log
 * of what changed. Rows whose parent is missing hang below a topic or partition that is marked as
 * not there. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"
#include "backends/rows.h"

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static struct memory_db *names;
static uint64_t serial; /* under names_lock */

/* ---- arrays ---- */

void *memory_array_insert(struct array *array, size_t at, size_t size)
{
	char *items;

	if (array->count == array->capacity) {
		size_t capacity = array->capacity > 0 ? array->capacity * 2 : 8;

		items = realloc(array->items, capacity * size);
		if (items == NULL)
			return NULL;
		array->items = items;
		array->capacity = capacity;
	}
	items = array->items;
	memmove(items + (at + 1) * size, items + at * size, (array->count - at) * size);
	array->count++;
	return memset(items + at * size, 0, size);
}

void memory_array_remove(struct array *array, size_t at, size_t size)
{
	char *items = array->items;

	array->count--;
	memmove(items + at * size, items + (at + 1) * size, (array->count - at) * size);
}

static void array_free(struct array *array)
{
	free(array->items);
	*array = (struct array){NULL, 0, 0};
}

/* Copies of views behind one another in one allocation; the views are repointed. */
bool memory_keep(char **ret_text, struct shmeta_str **views, size_t count, struct shmeta_map *map)
{
	size_t bytes = map != NULL ? map->bytes : 0;
	char *at;

	for (size_t i = 0; i < count; i++)
		bytes += views[i]->bytes;
	*ret_text = at = malloc(bytes + 1);
	if (at == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (views[i]->bytes > 0)
			memcpy(at, views[i]->data, views[i]->bytes);
		views[i]->data = at;
		at += views[i]->bytes;
	}
	if (map != NULL) {
		if (map->bytes > 0)
			memcpy(at, map->data, map->bytes);
		map->data = at;
	}
	return true;
}

/* ---- the log ---- */

static void log_free(struct memory_db *db)
{
	struct change *changes = db->log.items;

	for (size_t i = 0; i < db->log.count; i++)
		free(changes[i].tenant);
	db->log.count = 0;
}

void memory_note(struct memory_db *db, enum shmeta_class cls, enum feed_op op, const char *tenant,
                 struct shmeta_str topic, uint32_t partition_id, uint64_t base)
{
	struct change *change;
	size_t tenant_bytes = strlen(tenant);

	if (db->silent)
		return;
	db->version++;
	if (db->wake >= 0)
		eventfd_write(db->wake, 1);
	change = memory_array_insert(&db->log, db->log.count, sizeof *change);
	if (change != NULL)
		change->tenant = malloc(tenant_bytes + topic.bytes + 2);
	/* a feed that lost a change is no feed: everyone starts anew */
	if (change == NULL || change->tenant == NULL) {
		log_free(db);
		db->feed_id++;
		return;
	}
	memcpy(change->tenant, tenant, tenant_bytes + 1);
	if (topic.bytes > 0)
		memcpy(change->tenant + tenant_bytes + 1, topic.data, topic.bytes);
	change->topic = (struct shmeta_str){change->tenant + tenant_bytes + 1, topic.bytes};
	change->cls = cls;
	change->op = op;
	change->partition_id = partition_id;
	change->base = base;
}

/* ---- finding and making ---- */

static int topic_order(const struct topic *topic, struct shmeta_str tenant, struct shmeta_str name)
{
	int order = rows_compare(rows_str(topic->tenant), tenant);

	return order != 0 ? order : rows_compare(topic->row.name, name);
}

size_t memory_topic_at(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name, bool *ret_found)
{
	size_t low = 0, high = db->topics.count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (topic_order(memory_topics_of(db)[mid], tenant, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < db->topics.count && topic_order(memory_topics_of(db)[low], tenant, name) == 0;
	return low;
}

struct topic *memory_topic_find(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name)
{
	bool found;
	size_t at = memory_topic_at(db, tenant, name, &found);

	return found ? memory_topics_of(db)[at] : NULL;
}

struct topic *memory_topic_get(struct memory_db *db, const char *tenant, struct shmeta_str name)
{
	bool found;
	size_t at = memory_topic_at(db, rows_str(tenant), name, &found);
	struct topic *topic, **slot;

	if (found)
		return memory_topics_of(db)[at];
	topic = calloc(1, sizeof *topic);
	if (topic == NULL)
		return NULL;
	topic->row.name = name;
	topic->tenant = strdup(tenant);
	if (topic->tenant != NULL && memory_keep(&topic->text, (struct shmeta_str *[]){&topic->row.name}, 1, NULL)) {
		slot = memory_array_insert(&db->topics, at, sizeof *slot);
		if (slot != NULL) {
			*slot = topic;
			return topic;
		}
	}
	free(topic->tenant);
	free(topic->text);
	free(topic);
	return NULL;
}

size_t memory_partition_at(struct topic *topic, uint32_t id, bool *ret_found)
{
	size_t low = 0, high = topic->partitions.count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (memory_partitions_of(topic)[mid]->row.partition_id < id)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < topic->partitions.count && memory_partitions_of(topic)[low]->row.partition_id == id;
	return low;
}

struct partition *memory_partition_find(struct topic *topic, uint32_t id)
{
	bool found;
	size_t at;

	if (topic == NULL)
		return NULL;
	at = memory_partition_at(topic, id, &found);
	return found ? memory_partitions_of(topic)[at] : NULL;
}

struct partition *memory_partition_get(struct topic *topic, uint32_t id)
{
	bool found;
	size_t at = memory_partition_at(topic, id, &found);
	struct partition *partition, **slot;

	if (found)
		return memory_partitions_of(topic)[at];
	partition = calloc(1, sizeof *partition);
	slot = partition != NULL ? memory_array_insert(&topic->partitions, at, sizeof *slot) : NULL;
	if (slot == NULL) {
		free(partition);
		return NULL;
	}
	partition->row.partition_id = id;
	*slot = partition;
	return partition;
}

/* The first segment whose base is at or above (above: just above) the given one. */
size_t memory_segment_at(struct partition *partition, uint64_t base, bool above)
{
	size_t low = 0, high = partition->segments.count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		uint64_t here = memory_segments_of(partition)[mid].row.base_offset;

		if (here < base || (above && here == base))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void memory_partition_clear(struct partition *partition)
{
	for (size_t i = 0; i < partition->segments.count; i++)
		free(memory_segments_of(partition)[i].text);
	array_free(&partition->segments);
}

void memory_topic_clear(struct topic *topic)
{
	for (size_t i = 0; i < topic->partitions.count; i++) {
		memory_partition_clear(memory_partitions_of(topic)[i]);
		free(memory_partitions_of(topic)[i]);
	}
	array_free(&topic->partitions);
	free(topic->text);
	free(topic->tenant);
	free(topic);
}

static void others_clear(struct array *others)
{
	struct other *items = others->items;

	for (size_t i = 0; i < others->count; i++) {
		free(items[i].tenant);
		free(items[i].topic);
		free(items[i].text);
	}
	array_free(others);
}

static void rows_clear(struct memory_db *db)
{
	memory_side_free(db->side);
	db->side = NULL;
	for (size_t i = 0; i < db->topics.count; i++)
		memory_topic_clear(memory_topics_of(db)[i]);
	array_free(&db->topics);
	others_clear(&db->agents);
	others_clear(&db->groups);
	others_clear(&db->offsets);
	others_clear(&db->leases);
}

/* ---- databases ---- */

struct memory_db *memory_db_make(const char *name)
{
	struct memory_db *db = calloc(1, sizeof *db);
	struct timespec now;

	if (db == NULL)
		return NULL;
	if (name != NULL && (db->name = strdup(name)) == NULL) {
		free(db);
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&names_lock);
	db->fingerprint = ((uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec) * 0x9e3779b97f4a7c15u + ++serial;
	pthread_mutex_unlock(&names_lock);
	/* Recursive: while one connection's load() hands over rows, another one of the same thread
	 * may be asked for changes. */
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&db->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	db->feed_id = db->fingerprint ^ 1;
	db->log_first = 1;
	db->holds = 1;
	db->wake = -1;
	return db;
}

void memory_db_release(struct memory_db *db)
{
	pthread_mutex_lock(&names_lock);
	uint32_t left = --db->holds;
	pthread_mutex_unlock(&names_lock);
	if (left > 0)
		return;
	rows_clear(db);
	log_free(db);
	array_free(&db->log);
	if (db->wake >= 0)
		close(db->wake);
	pthread_mutex_destroy(&db->lock);
	free(db->name);
	free(db);
}

struct memory_db *memory_db_new(const char *name)
{
	struct memory_db *db = memory_db_make(name);

	if (db == NULL)
		return NULL;
	pthread_mutex_lock(&names_lock);
	for (struct memory_db *other = names; other != NULL; other = other->next)
		if (strcmp(other->name, name) == 0)
			db->holds = 0;
	if (db->holds > 0) {
		db->next = names;
		names = db;
	}
	pthread_mutex_unlock(&names_lock);
	if (db->holds > 0)
		return db;
	db->holds = 1;
	memory_db_release(db);
	return NULL;
}

void memory_db_free(struct memory_db *db)
{
	if (db == NULL)
		return;
	pthread_mutex_lock(&names_lock);
	for (struct memory_db **link = &names; *link != NULL; link = &(*link)->next)
		if (*link == db) {
			*link = db->next;
			break;
		}
	pthread_mutex_unlock(&names_lock);
	pthread_mutex_lock(&db->lock);
	rows_clear(db);
	log_free(db);
	db->feed_id++;
	db->version++;
	pthread_mutex_unlock(&db->lock);
	memory_db_release(db);
}

struct memory_db *memory_db_hold(const char *name)
{
	struct memory_db *db;

	pthread_mutex_lock(&names_lock);
	for (db = names; db != NULL && strcmp(db->name, name) != 0;)
		db = db->next;
	if (db != NULL)
		db->holds++;
	pthread_mutex_unlock(&names_lock);
	return db;
}

/* ---- what may happen to a source ---- */

void memory_silence(struct memory_db *db, bool silent)
{
	pthread_mutex_lock(&db->lock);
	db->silent = silent;
	pthread_mutex_unlock(&db->lock);
}

void memory_drop_feed(struct memory_db *db)
{
	pthread_mutex_lock(&db->lock);
	log_free(db);
	db->log_first = 1;
	db->feed_id++;
	db->version++;
	pthread_mutex_unlock(&db->lock);
}

void memory_replace(struct memory_db *db)
{
	memory_drop_feed(db);
	pthread_mutex_lock(&db->lock);
	db->fingerprint = db->fingerprint * 0x9e3779b97f4a7c15u + 1;
	pthread_mutex_unlock(&db->lock);
}

uint64_t memory_identity(struct memory_db *db)
{
	return db->fingerprint;
}

void memory_become(struct memory_db *db, uint64_t identity)
{
	pthread_mutex_lock(&db->lock);
	db->fingerprint = identity;
	pthread_mutex_unlock(&db->lock);
}

void memory_set_course(struct memory_db *db, uint64_t course)
{
	pthread_mutex_lock(&db->lock);
	db->course = course;
	db->version++;
	pthread_mutex_unlock(&db->lock);
}

bool memory_side_of(struct memory_db *db)
{
	if (db->side == NULL)
		db->side = calloc(1, sizeof *db->side);
	return db->side != NULL;
}

/* ---- connections ---- */

struct memory_db *memory_db_of(void *state)
{
	return ((struct memory_state *)state)->db;
}

bool memory_is_started(void *state, struct backend_error *err)
{
	if (memory_started_of(state)->ops == NULL)
		return false;
	(void)backend_fail(err, SHMETA_ERR_SOURCE, "memory: a batch was started and is not finished");
	return true;
}
