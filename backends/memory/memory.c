/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine (memory.h). Plain sorted arrays, nested as the sink wants them; rows whose parent is missing hang below
 * a topic or partition that is marked as not there. */
#include "backends/memory/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "backends/rows.h"
#include "backends/sql/log_keys.h"

struct array {
	void *items;
	size_t count, capacity;
};

struct segment {
	struct shmeta_segment row; /* its strings are one allocation, text */
	char *text;
};

struct partition {
	struct shmeta_partition row;
	bool present;
	struct array segments; /* of struct segment, by base; equal bases in the order they came */
};

struct topic {
	char *tenant;
	struct shmeta_topic row; /* strings in text */
	char *text;
	bool present;
	struct array partitions; /* of struct partition *, by id */
};

/* agents, groups, offsets, leases: few, so one unsorted array each */
struct other {
	char *tenant, *topic;
	void *text;
	union {
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_committed_offset offset;
		struct shmeta_lease lease;
	} row;
};

struct change {
	enum shmeta_class cls;
	enum feed_op op;
	char *tenant;
	struct shmeta_str topic; /* points behind tenant */
	uint32_t partition_id;
	uint64_t base;
};

struct fault {
	uint32_t times;
	uint64_t after_rows;
	enum shmeta_status status;
	char sentence[200];
};

struct memory_db {
	struct memory_db *next;
	char *name; /* NULL: of one connection alone */
	uint32_t holds;
	pthread_mutex_t lock;
	struct array topics; /* of struct topic *, by tenant, name */
	struct array agents, groups, offsets, leases;
	struct array log;   /* of struct change */
	uint64_t log_first; /* sequence number of log[0]; they start at 1 */
	uint64_t feed_id;   /* changes when the log is thrown away */
	uint64_t version;   /* moves with every change that is not silent */
	uint64_t fingerprint;
	uint64_t course; /* another one: an earlier state was restored */
	enum backend_feed_kind feed_kind;
	bool read_only;
	bool silent;
	struct fault faults[MEMORY_CALLS];
	uint32_t lie_empty;
	uint64_t lag_ns, feed_lag_ns;
	const char *feed_trouble;
	void (*hook)(void *arg, enum memory_call call, int end);
	void *hook_arg;
	struct memory_stats stats;
	struct memory_writes *writes;
	struct memory_row_fault *row_faults;
	int wake; /* eventfd; -1: none yet */
};

struct memory_state {
	struct memory_db *db;
	struct rows_scratch scratch;
	struct backend_counters counters;
	uint64_t seq, feed_id, version, course; /* what was reported last */
	bool baseline;                          /* load() or resume() has said where to go on */
	struct memory_started started;
};

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static struct memory_db *names;
static uint64_t serial; /* under names_lock */

/* ---- arrays ------------------------------------------------------------------------------------------------------------ */

static void *array_insert(struct array *array, size_t at, size_t size)
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

static void array_remove(struct array *array, size_t at, size_t size)
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

static struct topic **topics_of(struct memory_db *db)
{
	return db->topics.items;
}

static struct partition **partitions_of(struct topic *topic)
{
	return topic->partitions.items;
}

static struct segment *segments_of(struct partition *partition)
{
	return partition->segments.items;
}

/* Copies of views behind one another in one allocation; the views are repointed. */
static bool keep(char **ret_text, struct shmeta_str **views, size_t count, struct shmeta_map *map)
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

/* ---- the log ----------------------------------------------------------------------------------------------------------- */

static void log_free(struct memory_db *db)
{
	struct change *changes = db->log.items;

	for (size_t i = 0; i < db->log.count; i++)
		free(changes[i].tenant);
	db->log.count = 0;
}

static void note(struct memory_db *db, enum shmeta_class cls, enum feed_op op, const char *tenant,
                 struct shmeta_str topic, uint32_t partition_id, uint64_t base)
{
	struct change *change;
	size_t tenant_bytes = strlen(tenant);

	if (db->silent)
		return;
	db->version++;
	if (db->wake >= 0)
		eventfd_write(db->wake, 1);
	change = array_insert(&db->log, db->log.count, sizeof *change);
	if (change != NULL)
		change->tenant = malloc(tenant_bytes + topic.bytes + 2);
	if (change == NULL || change->tenant == NULL) { /* a feed that lost a change is no feed: everyone starts anew */
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

/* ---- finding and making -------------------------------------------------------------------------------------------------- */

static int topic_order(const struct topic *topic, struct shmeta_str tenant, struct shmeta_str name)
{
	int order = rows_compare(rows_str(topic->tenant), tenant);

	return order != 0 ? order : rows_compare(topic->row.name, name);
}

static size_t topic_at(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name, bool *ret_found)
{
	size_t low = 0, high = db->topics.count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (topic_order(topics_of(db)[mid], tenant, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < db->topics.count && topic_order(topics_of(db)[low], tenant, name) == 0;
	return low;
}

static struct topic *topic_find(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name)
{
	bool found;
	size_t at = topic_at(db, tenant, name, &found);

	return found ? topics_of(db)[at] : NULL;
}

static struct topic *topic_get(struct memory_db *db, const char *tenant, struct shmeta_str name)
{
	bool found;
	size_t at = topic_at(db, rows_str(tenant), name, &found);
	struct topic *topic, **slot;

	if (found)
		return topics_of(db)[at];
	topic = calloc(1, sizeof *topic);
	if (topic == NULL)
		return NULL;
	topic->row.name = name;
	topic->tenant = strdup(tenant);
	if (topic->tenant != NULL && keep(&topic->text, (struct shmeta_str *[]){&topic->row.name}, 1, NULL)) {
		slot = array_insert(&db->topics, at, sizeof *slot);
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

static size_t partition_at(struct topic *topic, uint32_t id, bool *ret_found)
{
	size_t low = 0, high = topic->partitions.count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (partitions_of(topic)[mid]->row.partition_id < id)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = low < topic->partitions.count && partitions_of(topic)[low]->row.partition_id == id;
	return low;
}

static struct partition *partition_find(struct topic *topic, uint32_t id)
{
	bool found;
	size_t at;

	if (topic == NULL)
		return NULL;
	at = partition_at(topic, id, &found);
	return found ? partitions_of(topic)[at] : NULL;
}

static struct partition *partition_get(struct topic *topic, uint32_t id)
{
	bool found;
	size_t at = partition_at(topic, id, &found);
	struct partition *partition, **slot;

	if (found)
		return partitions_of(topic)[at];
	partition = calloc(1, sizeof *partition);
	slot = partition != NULL ? array_insert(&topic->partitions, at, sizeof *slot) : NULL;
	if (slot == NULL) {
		free(partition);
		return NULL;
	}
	partition->row.partition_id = id;
	*slot = partition;
	return partition;
}

/* The first segment whose base is at or above (above: just above) the given one. */
static size_t segment_at(struct partition *partition, uint64_t base, bool above)
{
	size_t low = 0, high = partition->segments.count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		uint64_t here = segments_of(partition)[mid].row.base_offset;

		if (here < base || (above && here == base))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void partition_clear(struct partition *partition)
{
	for (size_t i = 0; i < partition->segments.count; i++)
		free(segments_of(partition)[i].text);
	array_free(&partition->segments);
}

static void topic_clear(struct topic *topic)
{
	for (size_t i = 0; i < topic->partitions.count; i++) {
		partition_clear(partitions_of(topic)[i]);
		free(partitions_of(topic)[i]);
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
	memory_writes_free(db->writes);
	db->writes = NULL;
	memory_row_faults_free(db->row_faults);
	db->row_faults = NULL;
	for (size_t i = 0; i < db->topics.count; i++)
		topic_clear(topics_of(db)[i]);
	array_free(&db->topics);
	others_clear(&db->agents);
	others_clear(&db->groups);
	others_clear(&db->offsets);
	others_clear(&db->leases);
}

/* ---- databases ------------------------------------------------------------------------------------------------------------ */

static struct memory_db *db_make(const char *name)
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
	/* Recursive: while one connection's load() hands over rows, another one of the same thread may be asked for changes. */
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&db->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	db->feed_id = db->fingerprint ^ 1;
	db->log_first = 1;
	db->holds = 1;
	db->feed_kind = BACKEND_FEED_KEYS;
	db->wake = -1;
	return db;
}

static void db_release(struct memory_db *db)
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
	struct memory_db *db = db_make(name);

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
	db_release(db);
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
	db_release(db);
}

struct memory_db *memory_db_of(void *state)
{
	return ((struct memory_state *)state)->db;
}

struct memory_started *memory_started_of(void *state)
{
	return &((struct memory_state *)state)->started;
}

/* ---- changing rows --------------------------------------------------------------------------------------------------------- */

static const char *tenant_of(const char *tenant)
{
	return tenant != NULL ? tenant : SHMETA_DEFAULT_TENANT;
}

static bool put_topic(struct memory_db *db, const char *tenant, const struct shmeta_topic *row)
{
	struct topic *topic = topic_get(db, tenant, row->name);
	struct shmeta_topic copy = *row;
	char *text;

	if (topic == NULL || !keep(&text, (struct shmeta_str *[]){&copy.name, &copy.cleanup_policy}, 2, &copy.config))
		return false;
	free(topic->text);
	topic->text = text;
	topic->row = copy;
	note(db, SHMETA_CLASS_TOPIC, topic->present ? FEED_UPDATE : FEED_INSERT, tenant, copy.name, 0, 0);
	topic->present = true;
	return true;
}

bool memory_put_topic(struct memory_db *db, const char *tenant, const struct shmeta_topic *topic)
{
	pthread_mutex_lock(&db->lock);
	bool ok = put_topic(db, tenant_of(tenant), topic);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

static bool put_partition(struct memory_db *db, const char *tenant, struct shmeta_str name,
                          const struct shmeta_partition *row)
{
	struct topic *topic = topic_get(db, tenant, name);
	struct partition *partition = topic != NULL ? partition_get(topic, row->partition_id) : NULL;

	if (partition == NULL)
		return false;
	partition->row = *row;
	note(db, SHMETA_CLASS_PARTITION, partition->present ? FEED_UPDATE : FEED_INSERT, tenant, name,
	     row->partition_id, 0);
	partition->present = true;
	return true;
}

bool memory_put_partition(struct memory_db *db, const char *tenant, const char *topic,
                          const struct shmeta_partition *partition)
{
	pthread_mutex_lock(&db->lock);
	bool ok = put_partition(db, tenant_of(tenant), rows_str(topic), partition);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

bool memory_create_topic(struct memory_db *db, const char *tenant, const char *name, uint32_t partitions,
                         int64_t now_ms)
{
	struct shmeta_topic topic = {.name = rows_str(name),
	                             .created_at_ms = now_ms,
	                             .updated_at_ms = now_ms,
	                             .partition_count = partitions};
	bool ok;

	pthread_mutex_lock(&db->lock);
	ok = put_topic(db, tenant_of(tenant), &topic);
	for (uint32_t i = 0; ok && i < partitions; i++) {
		struct shmeta_partition partition = {
			.partition_id = i, .created_at_ms = now_ms, .updated_at_ms = now_ms};

		ok = put_partition(db, tenant_of(tenant), topic.name, &partition);
	}
	pthread_mutex_unlock(&db->lock);
	return ok;
}

/* Remove the offsets (or leases) of a topic, of one of its partitions, or of a group. NULL and UINT32_MAX: any. */
static size_t others_remove(struct memory_db *db, struct array *others, enum shmeta_class cls, const char *tenant,
                            const char *group, const char *topic, uint32_t partition_id)
{
	size_t removed = 0;

	for (size_t i = others->count; i-- > 0;) {
		struct other *item = (struct other *)others->items + i;
		uint32_t id = cls == SHMETA_CLASS_LEASE ? item->row.lease.partition_id : item->row.offset.partition_id;

		if (strcmp(item->tenant, tenant) != 0 || (topic != NULL && strcmp(item->topic, topic) != 0) ||
		    (partition_id != UINT32_MAX && id != partition_id) ||
		    (group != NULL && rows_compare(item->row.offset.group_id, rows_str(group)) != 0))
			continue;
		free(item->tenant);
		free(item->topic);
		free(item->text);
		array_remove(others, i, sizeof *item);
		removed++;
	}
	if (removed > 0)
		note(db, cls, FEED_DELETE, tenant, rows_str(""), 0, 0);
	return removed;
}

bool memory_delete_topic(struct memory_db *db, const char *tenant, const char *name)
{
	bool found, present;
	size_t at;

	tenant = tenant_of(tenant);
	pthread_mutex_lock(&db->lock);
	at = topic_at(db, rows_str(tenant), rows_str(name), &found);
	present = found && topics_of(db)[at]->present;
	if (found) {
		topic_clear(topics_of(db)[at]);
		array_remove(&db->topics, at, sizeof(struct topic *));
		note(db, SHMETA_CLASS_TOPIC, FEED_DELETE, tenant, rows_str(name), 0, 0);
	}
	others_remove(db, &db->offsets, SHMETA_CLASS_OFFSET, tenant, NULL, name, UINT32_MAX);
	others_remove(db, &db->leases, SHMETA_CLASS_LEASE, tenant, NULL, name, UINT32_MAX);
	pthread_mutex_unlock(&db->lock);
	return present;
}

bool memory_delete_partition(struct memory_db *db, const char *tenant, const char *topic_name, uint32_t partition_id)
{
	struct topic *topic;
	bool found = false, present = false;
	size_t at;

	tenant = tenant_of(tenant);
	pthread_mutex_lock(&db->lock);
	topic = topic_find(db, rows_str(tenant), rows_str(topic_name));
	at = topic != NULL ? partition_at(topic, partition_id, &found) : 0;
	if (found) {
		present = partitions_of(topic)[at]->present;
		partition_clear(partitions_of(topic)[at]);
		free(partitions_of(topic)[at]);
		array_remove(&topic->partitions, at, sizeof(struct partition *));
		note(db, SHMETA_CLASS_PARTITION, FEED_DELETE, tenant, topic->row.name, partition_id, 0);
	}
	others_remove(db, &db->offsets, SHMETA_CLASS_OFFSET, tenant, NULL, topic_name, partition_id);
	others_remove(db, &db->leases, SHMETA_CLASS_LEASE, tenant, NULL, topic_name, partition_id);
	pthread_mutex_unlock(&db->lock);
	return present;
}

bool memory_set_watermark(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                          uint64_t high_watermark)
{
	struct partition *partition;

	tenant = tenant_of(tenant);
	pthread_mutex_lock(&db->lock);
	partition = partition_find(topic_find(db, rows_str(tenant), rows_str(topic)), partition_id);
	if (partition != NULL) {
		partition->row.high_watermark = high_watermark;
		note(db, SHMETA_CLASS_PARTITION, FEED_UPDATE, tenant, rows_str(topic), partition_id, 0);
	}
	pthread_mutex_unlock(&db->lock);
	return partition != NULL;
}

static bool put_segment(struct memory_db *db, const char *tenant, struct shmeta_str name,
                        const struct shmeta_segment *row)
{
	struct topic *topic = topic_get(db, tenant, name);
	struct partition *partition = topic != NULL ? partition_get(topic, row->partition_id) : NULL;
	struct segment segment = {.row = *row}, *slot;
	enum feed_op op = FEED_INSERT;

	if (partition == NULL ||
	    !keep(&segment.text, (struct shmeta_str *[]){&segment.row.id, &segment.row.s3_bucket, &segment.row.s3_key},
	          3, NULL))
		return false;
	/* An append cannot replace: ids are looked through only where a base comes a second time or below the last. */
	if (partition->segments.count > 0 &&
	    segments_of(partition)[partition->segments.count - 1].row.base_offset >= row->base_offset)
		for (size_t i = 0; i < partition->segments.count; i++) {
			struct segment *old = segments_of(partition) + i;

			if (rows_compare(old->row.id, row->id) != 0)
				continue;
			op = FEED_UPDATE;
			note(db, SHMETA_CLASS_SEGMENT, FEED_UPDATE, tenant, name, row->partition_id,
			     old->row.base_offset);
			free(old->text);
			array_remove(&partition->segments, i, sizeof *old);
			break;
		}
	slot = array_insert(&partition->segments, segment_at(partition, row->base_offset, true), sizeof *slot);
	if (slot == NULL) {
		free(segment.text);
		return false;
	}
	*slot = segment;
	note(db, SHMETA_CLASS_SEGMENT, op, tenant, name, row->partition_id, row->base_offset);
	return true;
}

bool memory_put_segment(struct memory_db *db, const char *tenant, const char *topic,
                        const struct shmeta_segment *segment)
{
	pthread_mutex_lock(&db->lock);
	bool ok = put_segment(db, tenant_of(tenant), rows_str(topic), segment);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

static uint64_t remove_segments(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                                bool before, uint64_t offset)
{
	struct partition *partition;
	struct segment *items;
	size_t kept = 0, count;

	pthread_mutex_lock(&db->lock);
	partition = partition_find(topic_find(db, rows_str(tenant), rows_str(topic)), partition_id);
	count = partition != NULL ? partition->segments.count : 0;
	items = partition != NULL ? segments_of(partition) : NULL;
	for (size_t i = 0; i < count; i++) {
		if (before ? items[i].row.end_offset >= offset : items[i].row.base_offset != offset) {
			items[kept++] = items[i];
			continue;
		}
		note(db, SHMETA_CLASS_SEGMENT, FEED_DELETE, tenant, rows_str(topic), partition_id,
		     items[i].row.base_offset);
		free(items[i].text);
	}
	if (partition != NULL)
		partition->segments.count = kept;
	pthread_mutex_unlock(&db->lock);
	return count - kept;
}

uint64_t memory_delete_segments_before(struct memory_db *db, const char *tenant, const char *topic,
                                       uint32_t partition_id, uint64_t before)
{
	return remove_segments(db, tenant_of(tenant), topic, partition_id, true, before);
}

bool memory_delete_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           uint64_t base_offset)
{
	return remove_segments(db, tenant_of(tenant), topic, partition_id, false, base_offset) > 0;
}

/* Replace the row that `same` finds, or add one. */
static bool put_other(struct memory_db *db, struct array *others, enum shmeta_class cls, const char *tenant,
                      const char *topic, const struct other *row, struct shmeta_str **views, size_t count,
                      struct shmeta_map *map, bool (*same)(const struct other *a, const struct other *b))
{
	struct other *slot = NULL, copy;
	char *text;

	if (!keep(&text, views, count, map))
		return false;
	copy = *row; /* after keep(): the views in *row are repointed now */
	copy.text = text;
	copy.tenant = strdup(tenant);
	copy.topic = strdup(topic);
	if (copy.tenant == NULL || copy.topic == NULL)
		goto fail;
	for (size_t i = 0; slot == NULL && i < others->count; i++) {
		struct other *item = (struct other *)others->items + i;

		if (strcmp(item->tenant, tenant) == 0 && strcmp(item->topic, topic) == 0 && same(item, &copy))
			slot = item;
	}
	if (slot != NULL) {
		free(slot->tenant);
		free(slot->topic);
		free(slot->text);
	} else {
		slot = array_insert(others, others->count, sizeof *slot);
	}
	if (slot == NULL)
		goto fail;
	*slot = copy;
	note(db, cls, FEED_UPDATE, tenant, rows_str(""), 0, 0);
	return true;
fail:
	free(copy.tenant);
	free(copy.topic);
	free(text);
	return false;
}

static bool same_agent(const struct other *a, const struct other *b)
{
	return rows_compare(a->row.agent.agent_id, b->row.agent.agent_id) == 0;
}

static bool same_group(const struct other *a, const struct other *b)
{
	return rows_compare(a->row.group.group_id, b->row.group.group_id) == 0;
}

static bool same_offset(const struct other *a, const struct other *b)
{
	return rows_compare(a->row.offset.group_id, b->row.offset.group_id) == 0 &&
	       a->row.offset.partition_id == b->row.offset.partition_id;
}

static bool same_lease(const struct other *a, const struct other *b)
{
	return a->row.lease.partition_id == b->row.lease.partition_id;
}

bool memory_put_agent(struct memory_db *db, const char *tenant, const struct shmeta_agent *agent)
{
	struct other other = {.row.agent = *agent};
	struct shmeta_agent *row = &other.row.agent;
	struct shmeta_str *views[] = {&row->agent_id, &row->address, &row->availability_zone, &row->agent_group};

	pthread_mutex_lock(&db->lock);
	bool ok = put_other(db, &db->agents, SHMETA_CLASS_AGENT, tenant_of(tenant), "", &other, views, 4,
	                    &row->metadata, same_agent);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

bool memory_put_group(struct memory_db *db, const char *tenant, const struct shmeta_group *group)
{
	struct other other = {.row.group = *group};
	struct shmeta_str *views[] = {&other.row.group.group_id};

	pthread_mutex_lock(&db->lock);
	bool ok = put_other(db, &db->groups, SHMETA_CLASS_OFFSET, tenant_of(tenant), "", &other, views, 1, NULL,
	                    same_group);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

bool memory_put_offset(struct memory_db *db, const char *tenant, const char *topic,
                       const struct shmeta_committed_offset *offset)
{
	struct other other = {.row.offset = *offset};
	struct shmeta_str *views[] = {&other.row.offset.group_id, &other.row.offset.metadata};

	pthread_mutex_lock(&db->lock);
	bool ok = put_other(db, &db->offsets, SHMETA_CLASS_OFFSET, tenant_of(tenant), topic, &other, views, 2, NULL,
	                    same_offset);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

bool memory_put_lease(struct memory_db *db, const char *tenant, const char *topic, const struct shmeta_lease *lease)
{
	struct other other = {.row.lease = *lease};
	struct shmeta_str *views[] = {&other.row.lease.leader_agent_id};

	pthread_mutex_lock(&db->lock);
	bool ok = memory_keep_epoch(db, tenant_of(tenant), topic, lease->partition_id, lease->epoch) &&
	          put_other(db, &db->leases, SHMETA_CLASS_LEASE, tenant_of(tenant), topic, &other, views, 1, NULL,
	                    same_lease);
	pthread_mutex_unlock(&db->lock);
	return ok;
}

/* Agents and groups are found by the id that comes first in their row. */
static bool remove_named(struct memory_db *db, struct array *others, enum shmeta_class cls, const char *tenant,
                         const char *id)
{
	for (size_t i = 0; i < others->count; i++) {
		struct other *item = (struct other *)others->items + i;
		struct shmeta_str own = cls == SHMETA_CLASS_AGENT ? item->row.agent.agent_id : item->row.group.group_id;

		if (strcmp(item->tenant, tenant) != 0 || rows_compare(own, rows_str(id)) != 0)
			continue;
		free(item->tenant);
		free(item->topic);
		free(item->text);
		array_remove(others, i, sizeof *item);
		note(db, cls, FEED_DELETE, tenant, rows_str(""), 0, 0);
		return true;
	}
	return false;
}

/* Whatever tenant they are in: an agent may be shared. */
static void remove_leases_of(struct memory_db *db, const char *agent_id)
{
	for (size_t i = db->leases.count; i-- > 0;) {
		struct other *item = (struct other *)db->leases.items + i;

		if (rows_compare(item->row.lease.leader_agent_id, rows_str(agent_id)) != 0)
			continue;
		free(item->tenant);
		free(item->topic);
		free(item->text);
		array_remove(&db->leases, i, sizeof *item);
		note(db, SHMETA_CLASS_LEASE, FEED_DELETE, SHMETA_DEFAULT_TENANT, rows_str(""), 0, 0);
	}
}

bool memory_delete_agent(struct memory_db *db, const char *tenant, const char *agent_id)
{
	pthread_mutex_lock(&db->lock);
	bool found = remove_named(db, &db->agents, SHMETA_CLASS_AGENT, tenant_of(tenant), agent_id);
	remove_leases_of(db, agent_id);
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_delete_group(struct memory_db *db, const char *tenant, const char *group_id)
{
	pthread_mutex_lock(&db->lock);
	bool found = remove_named(db, &db->groups, SHMETA_CLASS_OFFSET, tenant_of(tenant), group_id);
	others_remove(db, &db->offsets, SHMETA_CLASS_OFFSET, tenant_of(tenant), group_id, NULL, UINT32_MAX);
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_delete_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id)
{
	pthread_mutex_lock(&db->lock);
	bool found =
		others_remove(db, &db->leases, SHMETA_CLASS_LEASE, tenant_of(tenant), NULL, topic, partition_id) > 0;
	pthread_mutex_unlock(&db->lock);
	return found;
}

/* ---- looking ------------------------------------------------------------------------------------------------------------- */

bool memory_find_topic(struct memory_db *db, const char *tenant, const char *name)
{
	struct topic *topic;
	bool found;

	pthread_mutex_lock(&db->lock);
	topic = topic_find(db, rows_str(tenant_of(tenant)), rows_str(name));
	found = topic != NULL && topic->present;
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_find_partition(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           struct shmeta_partition *ret)
{
	struct partition *partition;
	bool found;

	pthread_mutex_lock(&db->lock);
	partition = partition_find(topic_find(db, rows_str(tenant_of(tenant)), rows_str(topic)), partition_id);
	found = partition != NULL && partition->present;
	if (found)
		*ret = partition->row;
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_find_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                         uint64_t base, struct shmeta_segment *ret)
{
	struct partition *partition;
	bool found = false;
	size_t at;

	pthread_mutex_lock(&db->lock);
	partition = partition_find(topic_find(db, rows_str(tenant_of(tenant)), rows_str(topic)), partition_id);
	if (partition != NULL) {
		at = segment_at(partition, base, false);
		found = at < partition->segments.count && segments_of(partition)[at].row.base_offset == base;
		if (found)
			*ret = segments_of(partition)[at].row;
	}
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_has_segment_id(struct memory_db *db, struct shmeta_str id)
{
	bool found = false;

	pthread_mutex_lock(&db->lock);
	for (size_t t = 0; !found && t < db->topics.count; t++)
		for (size_t p = 0; !found && p < topics_of(db)[t]->partitions.count; p++) {
			struct partition *partition = partitions_of(topics_of(db)[t])[p];

			for (size_t i = 0; !found && i < partition->segments.count; i++)
				found = rows_compare(segments_of(partition)[i].row.id, id) == 0;
		}
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_find_agent(struct memory_db *db, const char *tenant, const char *agent_id, const char *address,
                       struct shmeta_agent *ret)
{
	bool found = false;

	pthread_mutex_lock(&db->lock);
	for (size_t i = 0; !found && i < db->agents.count; i++) {
		const struct other *item = (const struct other *)db->agents.items + i;

		found = strcmp(item->tenant, tenant_of(tenant)) == 0 &&
		        (agent_id != NULL ? rows_compare(item->row.agent.agent_id, rows_str(agent_id)) == 0
		                          : rows_compare(item->row.agent.address, rows_str(address)) == 0);
		if (found)
			*ret = item->row.agent;
	}
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_find_group(struct memory_db *db, const char *tenant, const char *group_id)
{
	bool found = false;

	pthread_mutex_lock(&db->lock);
	for (size_t i = 0; !found && i < db->groups.count; i++) {
		const struct other *item = (const struct other *)db->groups.items + i;

		found = strcmp(item->tenant, tenant_of(tenant)) == 0 &&
		        rows_compare(item->row.group.group_id, rows_str(group_id)) == 0;
	}
	pthread_mutex_unlock(&db->lock);
	return found;
}

bool memory_find_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                       struct shmeta_lease *ret)
{
	bool found = false;

	pthread_mutex_lock(&db->lock);
	for (size_t i = 0; !found && i < db->leases.count; i++) {
		const struct other *item = (const struct other *)db->leases.items + i;

		found = strcmp(item->tenant, tenant_of(tenant)) == 0 && strcmp(item->topic, topic) == 0 &&
		        item->row.lease.partition_id == partition_id;
		if (found)
			*ret = item->row.lease;
	}
	pthread_mutex_unlock(&db->lock);
	return found;
}

struct memory_row_fault **memory_lock_row_faults(struct memory_db *db)
{
	pthread_mutex_lock(&db->lock);
	return &db->row_faults;
}

void memory_unlock_row_faults(struct memory_db *db)
{
	pthread_mutex_unlock(&db->lock);
}

struct memory_writes **memory_writes_of(struct memory_db *db)
{
	return &db->writes;
}

bool memory_take_fault(struct memory_db *db, enum memory_call call, enum shmeta_status *ret, bool *ret_done,
                       char *sentence, size_t bytes)
{
	struct fault *fault = &db->faults[call];
	bool due;

	pthread_mutex_lock(&db->lock);
	db->stats.calls[call]++;
	due = fault->times > 0;
	if (due) {
		fault->times--;
		*ret = fault->status;
		*ret_done = fault->after_rows > 0;
		snprintf(sentence, bytes, "%s", fault->sentence);
	}
	pthread_mutex_unlock(&db->lock);
	return due;
}

static uint64_t next_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

bool memory_fill(struct memory_db *db, uint32_t topics, uint32_t partitions, uint32_t segments, uint64_t seed)
{
	const int64_t day = 1767225600000; /* 2026-01-01: a demo's rows are the same on every run */
	char name[32], id[64], key[96];

	for (uint32_t t = 0; t < topics; t++) {
		snprintf(name, sizeof name, "topic-%05" PRIu32, t);
		if (!memory_create_topic(db, NULL, name, partitions, day))
			return false;
		for (uint32_t p = 0; p < partitions; p++) {
			uint64_t base = 0;

			for (uint32_t s = 0; s < segments; s++) {
				uint64_t records = 200 + next_random(&seed) % 1600;
				struct shmeta_segment segment = {
					.base_offset = base,
					.end_offset = base + records - 1,
					.size_bytes = records * (100 + next_random(&seed) % 400),
					.created_at_ms = day + (int64_t)base,
					.min_timestamp_ms = day + (int64_t)base,
					.max_timestamp_ms = day + (int64_t)(base + records) - 1,
					.record_count = (uint32_t)records,
					.partition_id = p,
					.s3_bucket = rows_str("streamhouse"),
				};

				snprintf(id, sizeof id, "%s-%" PRIu32 "-%" PRIu64, name, p, base);
				snprintf(key, sizeof key, "data/%s/%" PRIu32 "/%020" PRIu64 ".seg", name, p, base);
				segment.id = rows_str(id);
				segment.s3_key = rows_str(key);
				if (!memory_put_segment(db, NULL, name, &segment))
					return false;
				base += records;
			}
			if (segments > 0)
				memory_set_watermark(db, NULL, name, p, base);
		}
	}
	return true;
}

/* ---- faults --------------------------------------------------------------------------------------------------------------- */

void memory_fail(struct memory_db *db, enum memory_call call, uint32_t times, uint64_t after_rows,
                 enum shmeta_status status, const char *sentence)
{
	struct fault *fault = &db->faults[call];

	pthread_mutex_lock(&db->lock);
	fault->times = times;
	fault->after_rows = after_rows;
	fault->status = status;
	snprintf(fault->sentence, sizeof fault->sentence, "%s", sentence);
	pthread_mutex_unlock(&db->lock);
}

void memory_lie_empty(struct memory_db *db, uint32_t times)
{
	pthread_mutex_lock(&db->lock);
	db->lie_empty = times;
	pthread_mutex_unlock(&db->lock);
}

void memory_set_lag(struct memory_db *db, uint64_t lag_ns)
{
	pthread_mutex_lock(&db->lock);
	db->lag_ns = lag_ns;
	pthread_mutex_unlock(&db->lock);
}

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

void memory_set_feed_kind(struct memory_db *db, enum backend_feed_kind kind)
{
	pthread_mutex_lock(&db->lock);
	db->feed_kind = kind;
	pthread_mutex_unlock(&db->lock);
}

void memory_set_read_only(struct memory_db *db, bool read_only)
{
	pthread_mutex_lock(&db->lock);
	db->read_only = read_only;
	pthread_mutex_unlock(&db->lock);
}

void memory_set_feed(struct memory_db *db, uint64_t lag_ns, const char *trouble)
{
	pthread_mutex_lock(&db->lock);
	db->feed_lag_ns = lag_ns;
	db->feed_trouble = trouble;
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

void memory_set_hook(struct memory_db *db, void (*hook)(void *arg, enum memory_call call, int end), void *arg)
{
	pthread_mutex_lock(&db->lock);
	db->hook = hook;
	db->hook_arg = arg;
	pthread_mutex_unlock(&db->lock);
}

void memory_read_stats(struct memory_db *db, struct memory_stats *ret)
{
	pthread_mutex_lock(&db->lock);
	*ret = db->stats;
	pthread_mutex_unlock(&db->lock);
}

/* ---- the engine ------------------------------------------------------------------------------------------------------------ */

/* One call while it runs. It holds the database's lock, so what it reads is of one moment. */
struct call {
	struct memory_state *state;
	const struct backend_sink *sink;
	enum memory_call kind;
	bool armed; /* fault: fails when `left` rows are handed over */
	struct fault fault;
	uint64_t left;
	uint64_t rows, total;
};

static void run_hook(struct memory_db *db, enum memory_call kind, int end)
{
	pthread_mutex_lock(&db->lock);
	void (*hook)(void *arg, enum memory_call call, int end) = db->hook;
	void *arg = db->hook_arg;
	pthread_mutex_unlock(&db->lock);
	if (hook != NULL)
		hook(arg, kind, end);
}

static void call_begin(struct call *call, struct memory_state *state, const struct backend_sink *sink,
                       enum memory_call kind)
{
	struct memory_db *db = state->db;

	*call = (struct call){.state = state, .sink = sink, .kind = kind};
	run_hook(db, kind, 0);
	pthread_mutex_lock(&db->lock);
	db->stats.calls[kind]++;
	state->counters.transactions += kind == MEMORY_LOAD || kind == MEMORY_FETCH;
	if (db->faults[kind].times > 0) {
		db->faults[kind].times--;
		call->armed = true;
		call->fault = db->faults[kind];
		call->left = call->fault.after_rows;
	}
}

static enum shmeta_status call_end(struct call *call, enum shmeta_status status, struct backend_error *err)
{
	static const char *const doing[] = {"opening", "loading", "fetching", "reading changes"};
	struct memory_db *db = call->state->db;

	/* A fault that was to come after more rows than there were comes at the end. */
	if (call->armed && status == SHMETA_OK)
		status = call->fault.status;
	if (call->armed && status == call->fault.status)
		backend_fail(err, status, "memory: %s: %s", doing[call->kind], call->fault.sentence);
	db->stats.rows += call->rows;
	call->state->counters.rows += call->rows;
	pthread_mutex_unlock(&db->lock);
	run_hook(db, call->kind, 1);
	return status;
}

static void queries(struct call *call, uint64_t count)
{
	call->state->db->stats.queries += count;
	call->state->counters.queries += count;
}

/* Before each row. */
static enum shmeta_status row(struct call *call)
{
	if (call->armed && call->left-- == 0)
		return call->fault.status;
	call->rows++;
	if (call->kind == MEMORY_LOAD && call->rows % 10000 == 0 && call->sink->progress != NULL)
		return call->sink->progress(call->sink->arg, call->rows, call->total);
	return SHMETA_OK;
}

static enum shmeta_status emit_segments(struct call *call, struct topic *topic, struct partition *partition,
                                        size_t from, size_t to, bool parent)
{
	const struct backend_sink *sink = call->sink;
	enum shmeta_status status = SHMETA_OK;
	bool emitted = false;
	uint64_t last = 0;

	for (size_t i = from; status == SHMETA_OK && i < to; i++) {
		const struct shmeta_segment *segment = &segments_of(partition)[i].row;
		struct rows_fault fault = {""};
		char quoted[ROWS_QUOTE_MAX];

		status = row(call);
		if (status != SHMETA_OK)
			break;
		if (!parent)
			rows_blame(&fault, "there is no such partition");
		else if (rows_check_segment(segment, &fault) && emitted && last == segment->base_offset)
			rows_blame(&fault, "it is there twice; left out: %s", rows_quote(quoted, segment->id));
		if (fault.text[0] != '\0') {
			struct backend_key key = {.cls = SHMETA_CLASS_SEGMENT,
			                          .tenant = rows_str(topic->tenant),
			                          .topic = topic->row.name,
			                          .partition_id = partition->row.partition_id};

			rows_key_base(&key, (int64_t)segment->base_offset);
			if (segment->end_offset >= segment->base_offset && segment->end_offset <= ROWS_OFFSET_MAX)
				key.to = segment->end_offset;
			rows_quarantine(sink, &key, &fault);
			continue;
		}
		emitted = true;
		last = segment->base_offset;
		status = sink->segment(sink->arg, segment);
	}
	return status;
}

/* The partition's row; *ret: it was handed over. */
static enum shmeta_status emit_partition(struct call *call, struct topic *topic, struct partition *partition,
                                         bool parent, bool *ret)
{
	struct rows_fault fault = {""};
	enum shmeta_status status;

	const struct memory_row_fault *broken =
		memory_row_fault(call->state->db->row_faults, topic->row.name, partition->row.partition_id);

	*ret = false;
	if (!partition->present)
		return SHMETA_OK;
	if (broken != NULL && broken->status != SHMETA_OK) {
		call->armed = true;
		call->fault.status = broken->status;
		snprintf(call->fault.sentence, sizeof call->fault.sentence, "%s", broken->sentence);
		return broken->status;
	}
	status = row(call);
	if (status != SHMETA_OK)
		return status;
	if (!parent)
		rows_blame(&fault, "there is no such topic");
	else
		rows_check_partition(&partition->row, &fault);
	if (fault.text[0] != '\0') {
		rows_quarantine(call->sink,
		                &(struct backend_key){.cls = SHMETA_CLASS_PARTITION,
		                                      .tenant = rows_str(topic->tenant),
		                                      .topic = topic->row.name,
		                                      .partition_id = partition->row.partition_id},
		                &fault);
		return SHMETA_OK;
	}
	*ret = true;
	return call->sink->partition(call->sink->arg, &partition->row);
}

static enum shmeta_status emit_topic(struct call *call, struct topic *topic, bool with_partitions, bool with_segments,
                                     bool *ret)
{
	const struct backend_sink *sink = call->sink;
	struct rows_fault fault = {""};
	enum shmeta_status status = SHMETA_OK;

	*ret = false;
	if (topic->present) {
		status = row(call);
		if (status != SHMETA_OK)
			return status;
		if (rows_check_tenant(rows_str(topic->tenant), &fault) && rows_check_topic(&topic->row, &fault)) {
			*ret = true;
			status = sink->topic(sink->arg, rows_str(topic->tenant), &topic->row);
		} else {
			rows_quarantine(sink,
			                &(struct backend_key){.cls = SHMETA_CLASS_TOPIC,
			                                      .tenant = rows_str(topic->tenant),
			                                      .topic = topic->row.name},
			                &fault);
		}
	}
	for (size_t i = 0; status == SHMETA_OK && with_partitions && i < topic->partitions.count; i++) {
		struct partition *partition = partitions_of(topic)[i];
		bool there;

		status = emit_partition(call, topic, partition, *ret, &there);
		if (status == SHMETA_OK && with_segments)
			status = emit_segments(call, topic, partition, 0, partition->segments.count, there);
	}
	return status;
}

static bool is_or_any(const char *text, struct shmeta_str wanted)
{
	return wanted.bytes == 0 || rows_compare(rows_str(text), wanted) == 0;
}

/* Is it one of the rows that the key names? NULL: all are. */
static bool named(const struct backend_key *key, const struct other *other, bool groups)
{
	struct shmeta_str name = {"", 0};

	if (key == NULL || backend_key_is_class(key))
		return true;
	if (!is_or_any(other->tenant, key->tenant))
		return false;
	if (key->cls == SHMETA_CLASS_AGENT)
		name = other->row.agent.agent_id;
	else if (key->cls == SHMETA_CLASS_OFFSET)
		name = groups ? other->row.group.group_id : other->row.offset.group_id;
	if (key->cls != SHMETA_CLASS_LEASE && rows_compare(name, key->name) != 0)
		return false;
	if (key->cls == SHMETA_CLASS_AGENT || groups || key->topic.bytes == 0)
		return true;
	return is_or_any(other->topic, key->topic) &&
	       key->partition_id == (key->cls == SHMETA_CLASS_LEASE ? other->row.lease.partition_id
	                                                            : other->row.offset.partition_id);
}

static void quarantine_other(const struct backend_sink *sink, enum shmeta_class cls, const struct other *other,
                             bool groups, const struct rows_fault *fault)
{
	struct backend_key key = {.cls = cls, .tenant = rows_str(other->tenant)};

	if (cls == SHMETA_CLASS_AGENT)
		key.name = other->row.agent.agent_id;
	else if (cls == SHMETA_CLASS_OFFSET)
		key.name = groups ? other->row.group.group_id : other->row.offset.group_id;
	if (cls == SHMETA_CLASS_LEASE || (cls == SHMETA_CLASS_OFFSET && !groups)) {
		key.topic = rows_str(other->topic);
		key.unread |= key.topic.bytes == 0 ? BACKEND_UNREAD_TOPIC : 0;
		key.partition_id =
			cls == SHMETA_CLASS_LEASE ? other->row.lease.partition_id : other->row.offset.partition_id;
	}
	if (cls != SHMETA_CLASS_LEASE && key.name.bytes == 0)
		key.unread |= BACKEND_UNREAD_NAME;
	rows_quarantine(sink, &key, fault);
}

static enum shmeta_status emit_others(struct call *call, enum shmeta_class cls, const struct array *others, bool groups,
                                      const struct backend_key *key)
{
	const struct backend_sink *sink = call->sink;
	enum shmeta_status status = SHMETA_OK;

	if (key == NULL || backend_key_is_class(key))
		queries(call, 1);
	for (size_t i = 0; status == SHMETA_OK && i < others->count; i++) {
		const struct other *other = (const struct other *)others->items + i;
		struct shmeta_str tenant = rows_str(other->tenant), topic = rows_str(other->topic);
		struct rows_fault fault = {""};
		bool ok;

		if (!named(key, other, groups))
			continue;
		status = row(call);
		if (status != SHMETA_OK)
			break;
		ok = rows_check_tenant(tenant, &fault);
		if (cls == SHMETA_CLASS_AGENT)
			ok = ok && rows_check_agent(&other->row.agent, &fault);
		else if (cls == SHMETA_CLASS_LEASE)
			ok = ok && rows_check_lease(topic, &other->row.lease, &fault);
		else if (groups)
			ok = ok && rows_check_group(&other->row.group, &fault);
		else
			ok = ok && rows_check_offset(topic, &other->row.offset, &fault);
		if (!ok)
			quarantine_other(sink, cls, other, groups, &fault);
		else if (cls == SHMETA_CLASS_AGENT)
			status = sink->agent(sink->arg, tenant, &other->row.agent);
		else if (cls == SHMETA_CLASS_LEASE)
			status = sink->lease(sink->arg, tenant, topic, &other->row.lease);
		else if (groups)
			status = sink->group(sink->arg, tenant, &other->row.group);
		else
			status = sink->offset(sink->arg, tenant, topic, &other->row.offset);
	}
	return status;
}

static uint64_t number(const char *query, const char *key, uint64_t otherwise)
{
	size_t bytes = strlen(key);

	for (const char *at = query; at != NULL && *at != '\0'; at = strchr(at, '&')) {
		at += *at == '&' || *at == '?';
		if (strncmp(at, key, bytes) == 0 && at[bytes] == '=')
			return strtoull(at + bytes + 1, NULL, 10);
	}
	return otherwise;
}

static enum shmeta_status check_query(const char *query, struct backend_error *err)
{
	static const char *const keys[] = {"topics", "partitions", "segments", "seed"};

	for (const char *at = query + 1; *at != '\0';) {
		size_t bytes = strcspn(at, "&"), digits = 0;
		bool known = false;

		for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
			size_t n = strlen(keys[i]);

			if (bytes > n + 1 && strncmp(at, keys[i], n) == 0 && at[n] == '=') {
				digits = strspn(at + n + 1, "0123456789");
				known = digits == bytes - n - 1 && digits <= 9;
			}
		}
		if (!known)
			return backend_fail(err, SHMETA_ERR_CONFIG,
			                    "memory: '%.*s' is none of topics=N, partitions=N, segments=N, seed=N",
			                    bytes < 60 ? (int)bytes : 60, at);
		at += bytes + (at[bytes] == '&');
	}
	return SHMETA_OK;
}

static enum shmeta_status memory_open(void *data, const struct backend_options *options, struct backend_error *err)
{
	struct memory_state *state = data;
	const char *rest = options->uri + strlen("memory:");
	enum shmeta_status status;
	struct call call;

	if (*rest == '\0' || *rest == '?') {
		status = *rest == '?' ? check_query(rest, err) : SHMETA_OK;
		if (status != SHMETA_OK)
			return status;
		state->db = db_make(NULL);
		if (state->db == NULL ||
		    (*rest == '?' && !memory_fill(state->db, (uint32_t)number(rest, "topics", 10),
		                                  (uint32_t)number(rest, "partitions", 4),
		                                  (uint32_t)number(rest, "segments", 100), number(rest, "seed", 1))))
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: opening: out of memory");
	} else {
		pthread_mutex_lock(&names_lock);
		for (struct memory_db *db = names; db != NULL && state->db == NULL; db = db->next)
			if (strcmp(db->name, rest) == 0) {
				db->holds++;
				state->db = db;
			}
		pthread_mutex_unlock(&names_lock);
		if (state->db == NULL)
			return backend_fail(err, SHMETA_ERR_CONFIG,
			                    "memory: there is no database '%.80s' in this process", rest);
	}
	call_begin(&call, state, NULL, MEMORY_OPEN);
	if (state->db->wake < 0)
		state->db->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return call_end(&call, SHMETA_OK, err);
}

static void memory_close(void *data)
{
	struct memory_state *state = data;

	if (state->db != NULL)
		db_release(state->db);
	rows_scratch_free(&state->scratch);
	state->db = NULL;
}

static enum backend_feed_kind memory_feed_kind(void *data)
{
	struct memory_db *db = memory_db_of(data);

	pthread_mutex_lock(&db->lock);
	enum backend_feed_kind kind = db->feed_kind;
	pthread_mutex_unlock(&db->lock);
	return kind;
}

static int memory_writable(void *data)
{
	struct memory_db *db = memory_db_of(data);

	pthread_mutex_lock(&db->lock);
	bool read_only = db->read_only;
	pthread_mutex_unlock(&db->lock);
	return !read_only;
}

static uint64_t memory_fingerprint(void *data)
{
	struct memory_db *db = memory_db_of(data);

	pthread_mutex_lock(&db->lock);
	uint64_t fingerprint = db->fingerprint;
	pthread_mutex_unlock(&db->lock);
	return fingerprint;
}

static void memory_describe(void *data, char *ret, size_t bytes)
{
	struct memory_db *db = memory_db_of(data);

	if (db != NULL && db->name != NULL)
		snprintf(ret, bytes, "memory: database %s of this process", db->name);
	else
		snprintf(ret, bytes, "memory: a database of this process alone, gone when it ends");
}

static void memory_counters(void *data, struct backend_counters *ret)
{
	*ret = ((struct memory_state *)data)->counters;
}

/* What has been logged so far counts as reported. */
static void settle(struct memory_state *state)
{
	state->seq = state->db->log_first + state->db->log.count - 1;
	state->feed_id = state->db->feed_id;
	state->version = state->db->version;
	state->course = state->db->course;
	state->baseline = true;
}

static enum shmeta_status emit_keys(struct call *call)
{
	struct memory_db *db = call->state->db;
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; status == SHMETA_OK && i < db->topics.count; i++) {
		const struct topic *topic = topics_of(db)[i];
		const struct backend_key key = {
			.cls = SHMETA_CLASS_TOPIC, .tenant = rows_str(topic->tenant), .topic = topic->row.name};

		status = row(call);
		if (status == SHMETA_OK)
			status = call->sink->key(call->sink->arg, &key);
	}
	return status;
}

static enum shmeta_status memory_load(void *data, const struct backend_sink *sink, struct backend_error *err)
{
	struct memory_state *state = data;
	struct memory_db *db = state->db;
	enum shmeta_status status = SHMETA_OK;
	struct call call;
	bool lie, there;

	call_begin(&call, state, sink, MEMORY_LOAD);
	lie = db->lie_empty > 0;
	if (lie)
		db->lie_empty--;
	for (size_t t = 0; t < db->topics.count; t++) {
		call.total += 1 + topics_of(db)[t]->partitions.count;
		for (size_t p = 0; p < topics_of(db)[t]->partitions.count; p++)
			call.total += partitions_of(topics_of(db)[t])[p]->segments.count;
	}
	call.total += db->agents.count + db->groups.count + db->offsets.count + db->leases.count;
	queries(&call, 3);
	if (sink->key != NULL) {
		if (!lie)
			status = emit_keys(&call);
		goto end;
	}
	if (db->lag_ns > 0 && sink->may_lag != NULL)
		(void)sink->may_lag(sink->arg, db->lag_ns);
	for (size_t i = 0; !lie && status == SHMETA_OK && i < db->topics.count; i++)
		status = emit_topic(&call, topics_of(db)[i], true, true, &there);
	if (!lie && status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_AGENT, &db->agents, false, NULL);
	if (!lie && status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_OFFSET, &db->groups, true, NULL);
	if (!lie && status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_OFFSET, &db->offsets, false, NULL);
	if (!lie && status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_LEASE, &db->leases, false, NULL);
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, call.rows, call.rows);
end:
	if (status == SHMETA_OK && !call.armed)
		settle(state);
	return call_end(&call, status, err);
}

static enum shmeta_status fetch_key(struct call *call, const struct backend_key *key, bool *ret_found)
{
	struct memory_db *db = call->state->db;
	struct topic *topic;
	struct partition *partition;
	enum shmeta_status status;

	*ret_found = true;
	switch (key->cls) {
	case SHMETA_CLASS_AGENT:
		return emit_others(call, SHMETA_CLASS_AGENT, &db->agents, false, key);
	case SHMETA_CLASS_LEASE:
		return emit_others(call, SHMETA_CLASS_LEASE, &db->leases, false, key);
	case SHMETA_CLASS_OFFSET:
		status = emit_others(call, SHMETA_CLASS_OFFSET, &db->groups, true, key);
		return status != SHMETA_OK ? status : emit_others(call, SHMETA_CLASS_OFFSET, &db->offsets, false, key);
	default:
		break;
	}
	*ret_found = false;
	topic = topic_find(db, key->tenant, key->topic);
	if (topic == NULL)
		return SHMETA_OK;
	if (key->cls == SHMETA_CLASS_TOPIC)
		return emit_topic(call, topic, key->row_only == 0, key->with_segments != 0, ret_found);
	partition = partition_find(topic, key->partition_id);
	if (partition == NULL)
		return SHMETA_OK;
	status = emit_partition(call, topic, partition, true, ret_found);
	if (status == SHMETA_OK && key->cls == SHMETA_CLASS_SEGMENT && key->from <= key->to) {
		const struct memory_row_fault *fault =
			memory_row_fault(db->row_faults, topic->row.name, partition->row.partition_id);
		bool stray = fault != NULL && fault->stray;

		status = emit_segments(call, topic, partition, stray ? 0 : segment_at(partition, key->from, false),
		                       stray ? partition->segments.count : segment_at(partition, key->to, true),
		                       *ret_found);
	}
	return status;
}

static enum shmeta_status memory_fetch(void *data, const struct backend_key *keys, size_t count,
                                       const struct backend_sink *sink, struct backend_error *err)
{
	struct memory_state *state = data;
	enum shmeta_status status = SHMETA_OK;
	struct call call;
	bool found;

	for (size_t i = 0; i < count; i++)
		if (keys[i].cls == SHMETA_CLASS_LIST || keys[i].cls >= SHMETA_CLASS_COUNT)
			return backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                    "memory: a key of class %d cannot be fetched", (int)keys[i].cls);
	call_begin(&call, state, sink, MEMORY_FETCH);
	state->db->stats.keys_fetched += count;
	queries(&call, 2 * ((count + 999) / 1000));
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		status = sink->key_begin(sink->arg, &keys[i]);
		if (status != SHMETA_OK)
			break;
		status = fetch_key(&call, &keys[i], &found);
		if (status == SHMETA_OK) {
			status = sink->key_end(sink->arg, &keys[i], found ? SHMETA_OK : SHMETA_ABSENT, "");
		} else if (call.armed && status == call.fault.status &&
		           (status == SHMETA_ERR_INVALID_ARGUMENT || status == SHMETA_ERR_BUSY)) {
			/* As an engine that reads many keys at a time. */
			status = backend_fail_keys(keys + i, count - i, 1, sink, status, call.fault.sentence);
			call.armed = false;
			break;
		}
	}
	return call_end(&call, status, err);
}

static int change_order(const void *a, const void *b)
{
	const struct change *x = a, *y = b;
	int order = rows_compare(rows_str(x->tenant), rows_str(y->tenant));
	uint32_t px, py;

	if (order == 0)
		order = rows_compare(x->topic, y->topic);
	if (order != 0)
		return order;
	if (x->cls == SHMETA_CLASS_TOPIC || y->cls == SHMETA_CLASS_TOPIC)
		if (x->cls != y->cls)
			return x->cls == SHMETA_CLASS_TOPIC ? -1 : 1;
	px = x->cls == SHMETA_CLASS_TOPIC ? 0 : x->partition_id;
	py = y->cls == SHMETA_CLASS_TOPIC ? 0 : y->partition_id;
	if (px != py)
		return px < py ? -1 : 1;
	if (x->cls != y->cls)
		return x->cls < y->cls ? -1 : 1;
	return (x->op > y->op) - (x->op < y->op);
}

static enum shmeta_status report_list(const struct backend_sink *sink)
{
	return sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LIST});
}

static enum shmeta_status report_changes(struct memory_state *state, const struct backend_sink *sink)
{
	struct memory_db *db = state->db;
	const struct change *log = db->log.items;
	size_t first = (size_t)(state->seq + 1 - db->log_first), count = db->log.count - first;
	struct feed_round round = {.keys = 0};
	enum shmeta_status status = SHMETA_OK;
	struct change *sorted;

	if (count == 0)
		return SHMETA_OK;
	sorted = malloc(count * sizeof *sorted);
	if (sorted == NULL)
		return report_list(sink);
	memcpy(sorted, log + first, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, change_order);
	for (size_t i = 0; status == SHMETA_OK && i < count;) {
		struct feed_change change = {.cls = sorted[i].cls,
		                             .op = sorted[i].op,
		                             .tenant = rows_str(sorted[i].tenant),
		                             .topic = sorted[i].topic,
		                             .partition_id = sorted[i].partition_id,
		                             .from = sorted[i].base,
		                             .to = sorted[i].base};
		size_t next = i + 1;

		for (; next < count && change_order(&sorted[i], &sorted[next]) == 0; next++) {
			change.from = sorted[next].base < change.from ? sorted[next].base : change.from;
			change.to = sorted[next].base > change.to ? sorted[next].base : change.to;
		}
		status = feed_change(&round, &change, sink);
		i = next;
	}
	free(sorted);
	return status;
}

static enum shmeta_status memory_changes(void *data, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err)
{
	struct memory_state *state = data;
	struct memory_db *db = state->db;
	enum shmeta_status status = SHMETA_OK;
	struct call call;
	eventfd_t drained;
	bool changed;

	*ret_changed = 0;
	*ret_lag_ns = db->feed_lag_ns;
	call_begin(&call, state, sink, MEMORY_CHANGES);
	if (db->wake >= 0)
		(void)!eventfd_read(db->wake, &drained);
	if (call.armed)
		return call_end(&call, call.fault.status, err);
	changed = !state->baseline || db->version != state->version || db->feed_id != state->feed_id ||
	          db->feed_kind == BACKEND_FEED_NONE;
	if (changed) {
		queries(&call, 1);
		if (state->baseline && db->course != state->course && sink->history != NULL)
			sink->history(sink->arg, "memory: an earlier state was restored");
		if (!state->baseline || db->course != state->course || db->feed_kind != BACKEND_FEED_KEYS ||
		    db->feed_id != state->feed_id)
			status = report_list(sink);
		else
			status = report_changes(state, sink);
	}
	if (status == SHMETA_OK) {
		settle(state);
		*ret_changed = changed;
	}
	return call_end(&call, status, err);
}

static const char *memory_feed_trouble(void *data)
{
	const struct memory_state *state = data;

	return state->db->feed_trouble != NULL ? state->db->feed_trouble : "";
}

struct memory_position {
	uint64_t fingerprint, feed_id, seq, course;
};

static enum shmeta_status memory_position(void *data, void *ret, size_t capacity, size_t *ret_bytes)
{
	struct memory_state *state = data;
	struct memory_position position = {state->db->fingerprint, state->feed_id, state->seq, state->course};

	if (capacity < sizeof position)
		return SHMETA_ERR_BUFFER;
	memcpy(ret, &position, sizeof position);
	*ret_bytes = sizeof position;
	return SHMETA_OK;
}

static enum shmeta_status memory_resume(void *data, const void *bytes, size_t size, struct backend_error *err)
{
	struct memory_state *state = data;
	struct memory_db *db = state->db;
	enum shmeta_status status = SHMETA_ABSENT;
	struct memory_position position;

	if (size != sizeof position)
		return SHMETA_ABSENT;
	memcpy(&position, bytes, sizeof position);
	if (position.fingerprint != 0 && position.fingerprint != db->fingerprint)
		return backend_fail(err, SHMETA_ERR_CONFLICT, "memory: it is another database than before");
	if (position.course != db->course)
		return backend_fail(err, SHMETA_ERR_CONFLICT, "memory: an earlier state was restored");
	pthread_mutex_lock(&db->lock);
	if (db->feed_kind == BACKEND_FEED_KEYS && position.fingerprint == db->fingerprint &&
	    position.feed_id == db->feed_id && position.seq + 1 >= db->log_first &&
	    position.seq < db->log_first + db->log.count) {
		state->seq = position.seq;
		state->feed_id = position.feed_id;
		state->course = position.course;
		state->version = db->version - 1; /* look once, whatever there is */
		state->baseline = true;
		status = SHMETA_OK;
	}
	pthread_mutex_unlock(&db->lock);
	return status;
}

static int memory_wake_fd(void *data)
{
	return memory_db_of(data)->wake;
}

static const struct backend_source source = {.open = memory_open,
                                             .close = memory_close,
                                             .fingerprint = memory_fingerprint,
                                             .describe = memory_describe,
                                             .counters = memory_counters,
                                             .load = memory_load,
                                             .fetch = memory_fetch};
static const struct backend_feed feed = {.kind = memory_feed_kind,
                                         .trouble = memory_feed_trouble,
                                         .changes = memory_changes,
                                         .position = memory_position,
                                         .resume = memory_resume,
                                         .wake_fd = memory_wake_fd};
static const struct backend_writer writer = {
	.writable = memory_writable, .apply = memory_apply, .start = memory_start, .finish = memory_finish};
static const struct backend_admin admin = {.objects = memory_objects, .extras = memory_extras};

const struct backend_engine backend_memory = {.name = "memory",
                                              .state_bytes = sizeof(struct memory_state),
                                              .source = &source,
                                              .feed = &feed,
                                              .writer = &writer,
                                              .admin = &admin};
