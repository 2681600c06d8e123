/* SPDX-License-Identifier: Apache-2.0
 * The rows of the in-memory engine, changed and looked at by those who hold a database in their
 * hands (memory.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"
#include "backends/replace.h"
#include "backends/rows.h"

/* ---- changing rows ---- */

static const char *tenant_of(const char *tenant)
{
	return tenant != NULL ? tenant : SHMETA_DEFAULT_TENANT;
}

static bool put_topic(struct memory_db *db, const char *tenant, const struct shmeta_topic *row)
{
	struct topic *topic = memory_topic_get(db, tenant, row->name);
	struct shmeta_topic copy = *row;
	char *text;

	if (topic == NULL ||
	    !memory_keep(&text, (struct shmeta_str *[]){&copy.name, &copy.cleanup_policy}, 2, &copy.config))
		return false;
	free(topic->text);
	topic->text = text;
	topic->row = copy;
	memory_note(db, SHMETA_CLASS_TOPIC, topic->present ? FEED_UPDATE : FEED_INSERT, tenant, copy.name, 0, 0);
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
	struct topic *topic = memory_topic_get(db, tenant, name);
	struct partition *partition = topic != NULL ? memory_partition_get(topic, row->partition_id) : NULL;

	if (partition == NULL)
		return false;
	partition->row = *row;
	memory_note(db, SHMETA_CLASS_PARTITION, partition->present ? FEED_UPDATE : FEED_INSERT, tenant, name,
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

/* Remove the offsets (or leases) of a topic, of one of its partitions, or of a group. NULL and
 * UINT32_MAX: any. */
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
		memory_array_remove(others, i, sizeof *item);
		removed++;
	}
	if (removed > 0)
		memory_note(db, cls, FEED_DELETE, tenant, rows_str(""), 0, 0);
	return removed;
}

bool memory_delete_topic(struct memory_db *db, const char *tenant, const char *name)
{
	bool found, present;
	size_t at;

	tenant = tenant_of(tenant);
	pthread_mutex_lock(&db->lock);
	at = memory_topic_at(db, rows_str(tenant), rows_str(name), &found);
	present = found && memory_topics_of(db)[at]->present;
	if (found) {
		memory_topic_clear(memory_topics_of(db)[at]);
		memory_array_remove(&db->topics, at, sizeof(struct topic *));
		memory_note(db, SHMETA_CLASS_TOPIC, FEED_DELETE, tenant, rows_str(name), 0, 0);
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
	topic = memory_topic_find(db, rows_str(tenant), rows_str(topic_name));
	at = topic != NULL ? memory_partition_at(topic, partition_id, &found) : 0;
	if (found) {
		present = memory_partitions_of(topic)[at]->present;
		memory_partition_clear(memory_partitions_of(topic)[at]);
		free(memory_partitions_of(topic)[at]);
		memory_array_remove(&topic->partitions, at, sizeof(struct partition *));
		memory_note(db, SHMETA_CLASS_PARTITION, FEED_DELETE, tenant, topic->row.name, partition_id, 0);
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
	partition = memory_partition_find(memory_topic_find(db, rows_str(tenant), rows_str(topic)), partition_id);
	if (partition != NULL) {
		partition->row.high_watermark = high_watermark;
		memory_note(db, SHMETA_CLASS_PARTITION, FEED_UPDATE, tenant, rows_str(topic), partition_id, 0);
	}
	pthread_mutex_unlock(&db->lock);
	return partition != NULL;
}

static bool put_segment(struct memory_db *db, const char *tenant, struct shmeta_str name,
                        const struct shmeta_segment *row)
{
	struct topic *topic = memory_topic_get(db, tenant, name);
	struct partition *partition = topic != NULL ? memory_partition_get(topic, row->partition_id) : NULL;
	struct segment segment = {.row = *row}, *slot;
	enum feed_op op = FEED_INSERT;

	if (partition == NULL ||
	    !memory_keep(&segment.text,
	                 (struct shmeta_str *[]){&segment.row.id, &segment.row.s3_bucket, &segment.row.s3_key}, 3,
	                 NULL))
		return false;
	/* An append cannot replace: ids are looked through only where a base comes a second time or
	 * below the last. */
	if (partition->segments.count > 0 &&
	    memory_segments_of(partition)[partition->segments.count - 1].row.base_offset >= row->base_offset)
		for (size_t i = 0; i < partition->segments.count; i++) {
			struct segment *old = memory_segments_of(partition) + i;

			if (rows_compare(old->row.id, row->id) != 0)
				continue;
			op = FEED_UPDATE;
			memory_note(db, SHMETA_CLASS_SEGMENT, FEED_UPDATE, tenant, name, row->partition_id,
			            old->row.base_offset);
			free(old->text);
			memory_array_remove(&partition->segments, i, sizeof *old);
			break;
		}
	slot = memory_array_insert(&partition->segments, memory_segment_at(partition, row->base_offset, true),
	                           sizeof *slot);
	if (slot == NULL) {
		free(segment.text);
		return false;
	}
	*slot = segment;
	memory_note(db, SHMETA_CLASS_SEGMENT, op, tenant, name, row->partition_id, row->base_offset);
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
	partition = memory_partition_find(memory_topic_find(db, rows_str(tenant), rows_str(topic)), partition_id);
	count = partition != NULL ? partition->segments.count : 0;
	items = partition != NULL ? memory_segments_of(partition) : NULL;
	for (size_t i = 0; i < count; i++) {
		if (before ? items[i].row.end_offset >= offset : items[i].row.base_offset != offset) {
			items[kept++] = items[i];
			continue;
		}
		memory_note(db, SHMETA_CLASS_SEGMENT, FEED_DELETE, tenant, rows_str(topic), partition_id,
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

	if (!memory_keep(&text, views, count, map))
		return false;
	copy = *row; /* after memory_keep(): the views in *row are repointed now */
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
		slot = memory_array_insert(others, others->count, sizeof *slot);
	}
	if (slot == NULL)
		goto fail;
	*slot = copy;
	memory_note(db, cls, FEED_UPDATE, tenant, rows_str(""), 0, 0);
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

/* The highest epoch that the partition's leases ever had is at least this, whatever becomes of the
 * lease. false: no memory. */
static bool keep_epoch(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition, uint64_t epoch)
{
	struct epoch *e = memory_side_of(db) ? memory_epoch_of(db->side, tenant, topic, partition) : NULL;

	if (e != NULL && epoch > e->epoch)
		e->epoch = epoch;
	return e != NULL;
}

bool memory_put_lease(struct memory_db *db, const char *tenant, const char *topic, const struct shmeta_lease *lease)
{
	struct other other = {.row.lease = *lease};
	struct shmeta_str *views[] = {&other.row.lease.leader_agent_id};

	pthread_mutex_lock(&db->lock);
	bool ok = keep_epoch(db, tenant_of(tenant), topic, lease->partition_id, lease->epoch) &&
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
		memory_array_remove(others, i, sizeof *item);
		memory_note(db, cls, FEED_DELETE, tenant, rows_str(""), 0, 0);
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
		memory_array_remove(&db->leases, i, sizeof *item);
		memory_note(db, SHMETA_CLASS_LEASE, FEED_DELETE, SHMETA_DEFAULT_TENANT, rows_str(""), 0, 0);
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

uint64_t memory_renew_leases(struct memory_db *db, const char *tenant, const char *agent_id, int64_t now_ms,
                             int64_t until_ms, void (*found)(void *arg, struct shmeta_str topic, uint32_t partition_id),
                             void *arg)
{
	uint64_t count = 0;

	pthread_mutex_lock(&db->lock);
	for (size_t i = 0; i < db->leases.count; i++) {
		struct other *item = (struct other *)db->leases.items + i;
		struct shmeta_lease *lease = &item->row.lease;

		if (strcmp(item->tenant, tenant_of(tenant)) != 0 || lease->lease_expires_at_ms <= now_ms ||
		    rows_compare(lease->leader_agent_id, rows_str(agent_id)) != 0)
			continue;
		if (lease->lease_expires_at_ms < until_ms)
			lease->lease_expires_at_ms = until_ms;
		found(arg, rows_str(item->topic), lease->partition_id);
		count++;
	}
	if (count > 0)
		memory_note(db, SHMETA_CLASS_LEASE, FEED_UPDATE, tenant_of(tenant), rows_str(""), 0, 0);
	pthread_mutex_unlock(&db->lock);
	return count;
}

/* ---- looking ---- */

bool memory_find_topic(struct memory_db *db, const char *tenant, const char *name)
{
	struct topic *topic;
	bool found;

	pthread_mutex_lock(&db->lock);
	topic = memory_topic_find(db, rows_str(tenant_of(tenant)), rows_str(name));
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
	partition = memory_partition_find(memory_topic_find(db, rows_str(tenant_of(tenant)), rows_str(topic)),
	                                  partition_id);
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
	partition = memory_partition_find(memory_topic_find(db, rows_str(tenant_of(tenant)), rows_str(topic)),
	                                  partition_id);
	if (partition != NULL) {
		at = memory_segment_at(partition, base, false);
		found = at < partition->segments.count && memory_segments_of(partition)[at].row.base_offset == base;
		if (found)
			*ret = memory_segments_of(partition)[at].row;
	}
	pthread_mutex_unlock(&db->lock);
	return found;
}

struct shmeta_segment *memory_segments_in(struct memory_db *db, const char *tenant, const char *topic,
                                          uint32_t partition_id, uint64_t from, uint64_t to, uint64_t reach,
                                          size_t *ret_count, bool *ret_reaching)
{
	struct partition *partition;
	struct shmeta_segment *rows;
	size_t count, n = 0, before = 0;

	*ret_reaching = false;
	pthread_mutex_lock(&db->lock);
	partition = memory_partition_find(memory_topic_find(db, rows_str(tenant_of(tenant)), rows_str(topic)),
	                                  partition_id);
	count = partition != NULL ? partition->segments.count : 0;
	rows = calloc(count + 1, sizeof *rows);
	while (before < count && memory_segments_of(partition)[before].row.base_offset < from)
		before++;
	for (size_t i = before > REPLACE_BEFORE ? before - REPLACE_BEFORE : 0; i < before; i++)
		*ret_reaching |= memory_segments_of(partition)[i].row.end_offset >= reach;
	for (size_t i = before; rows != NULL && i < count; i++) {
		const struct shmeta_segment *row = &memory_segments_of(partition)[i].row;

		if (row->base_offset <= to && (n == 0 || rows[n - 1].base_offset != row->base_offset))
			rows[n++] = *row;
	}
	pthread_mutex_unlock(&db->lock);
	*ret_count = n;
	return rows;
}

bool memory_has_segment_id(struct memory_db *db, struct shmeta_str id)
{
	bool found = false;

	pthread_mutex_lock(&db->lock);
	for (size_t t = 0; !found && t < db->topics.count; t++)
		for (size_t p = 0; !found && p < memory_topics_of(db)[t]->partitions.count; p++) {
			struct partition *partition = memory_partitions_of(memory_topics_of(db)[t])[p];

			for (size_t i = 0; !found && i < partition->segments.count; i++)
				found = rows_compare(memory_segments_of(partition)[i].row.id, id) == 0;
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
