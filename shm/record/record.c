/* SPDX-License-Identifier: Apache-2.0
 * The small records' bytes. Pure: no memory, no system calls, total on any bytes.
 *
 * A value is the head, the fixed part of its kind, and its strings one after the other, without
 * gaps: the lengths in the fixed part must add up to the value's size exactly. Numbers are the
 * host's (the store never leaves it). */
#include "shm/record/record.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/once.h"
#include "base/string_map.h"

enum { TOPIC_HAS_RETENTION = 1, OFFSET_HAS_METADATA = 1 };

static uint64_t checksum(const uint8_t *value, size_t bytes, const void *key, size_t key_bytes)
{
	return XXH3_64bits_withSeed(value + 8, bytes - 8, XXH3_64bits(key, key_bytes));
}

/* ---- encoding ---- */

static size_t encode(enum shmeta_record_kind kind, const struct shmeta__stamps *stamps, const void *key,
                     size_t key_bytes, const void *fixed, size_t fixed_bytes, const struct shmeta_str *strings,
                     size_t count, void *out, size_t capacity)
{
	struct shmeta_record_head head = {
		.synced_at_ns = stamps->synced_at_ns, .ttl_ms = stamps->ttl_ms, .kind = (uint16_t)kind};
	size_t bytes = sizeof head + fixed_bytes;
	uint8_t *p = out;

	for (size_t i = 0; i < count; i++) {
		if (strings[i].bytes > SHMETA_MAP_MAX)
			return 0;
		bytes += strings[i].bytes;
	}
	if (bytes > capacity)
		return 0;
	memcpy(p + sizeof head, fixed, fixed_bytes);
	p += sizeof head + fixed_bytes;
	for (size_t i = 0; i < count; i++) {
		if (strings[i].bytes > 0)
			memcpy(p, strings[i].data, strings[i].bytes);
		p += strings[i].bytes;
	}
	memcpy(out, &head, sizeof head);
	head.checksum = checksum(out, bytes, key, key_bytes);
	memcpy(out, &head, sizeof head);
	return bytes;
}

int shmeta__record_restamp(void *value, size_t bytes, const void *key, size_t key_bytes, uint64_t synced_at_ns)
{
	struct shmeta_record_head head;

	if (bytes < sizeof head)
		return 0;
	memcpy(&head, value, sizeof head);
	if (head.checksum != checksum(value, bytes, key, key_bytes))
		return 0;
	head.synced_at_ns = synced_at_ns;
	memcpy(value, &head, sizeof head);
	head.checksum = checksum(value, bytes, key, key_bytes);
	memcpy(value, &head, sizeof head);
	return 1;
}

int shmeta__record_check(const void *value, size_t bytes, const void *key, size_t key_bytes)
{
	struct shmeta_record_head head;

	if (bytes < sizeof head)
		return 0;
	shmeta__copy_once(&head, value, sizeof head);
	return head.checksum == checksum(value, bytes, key, key_bytes);
}

static struct shmeta_str of_map(struct shmeta_map map)
{
	return (struct shmeta_str){map.data, map.bytes};
}

size_t shmeta__topic_encode(const struct shmeta_topic *topic, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity)
{
	const struct shmeta_str strings[] = {topic->name, topic->cleanup_policy, of_map(topic->config)};
	struct shmeta_topic_record fixed = {
		.created_at_ms = topic->created_at_ms,
		.updated_at_ms = topic->updated_at_ms,
		.retention_ms = topic->has_retention ? topic->retention_ms : 0,
		.partition_count = topic->partition_count,
		.topic_id = topic->topic_id,
		.config_bytes = (uint32_t)topic->config.bytes,
		.policy_bytes = (uint16_t)topic->cleanup_policy.bytes,
		.name_bytes = (uint8_t)topic->name.bytes,
		.flags = topic->has_retention ? TOPIC_HAS_RETENTION : 0,
	};

	if (topic->name.bytes > SHMETA_NAME_MAX || topic->cleanup_policy.bytes > SHMETA_STRING_MAX)
		return 0;
	return encode(SHMETA_RECORD_TOPIC, stamps, key, key_bytes, &fixed, sizeof fixed, strings, 3, out, capacity);
}

size_t shmeta__agent_encode(const struct shmeta_agent *agent, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity)
{
	const struct shmeta_str strings[] = {agent->agent_id, agent->address, agent->availability_zone,
	                                     agent->agent_group, of_map(agent->metadata)};
	struct shmeta_agent_record fixed = {
		.last_heartbeat_ms = agent->last_heartbeat_ms,
		.started_at_ms = agent->started_at_ms,
		.metadata_bytes = (uint32_t)agent->metadata.bytes,
		.id_bytes = (uint16_t)agent->agent_id.bytes,
		.address_bytes = (uint16_t)agent->address.bytes,
		.zone_bytes = (uint16_t)agent->availability_zone.bytes,
		.group_bytes = (uint16_t)agent->agent_group.bytes,
	};

	for (int i = 0; i < 4; i++)
		if (strings[i].bytes > SHMETA_STRING_MAX)
			return 0;
	return encode(SHMETA_RECORD_AGENT, stamps, key, key_bytes, &fixed, sizeof fixed, strings, 5, out, capacity);
}

size_t shmeta__group_encode(const struct shmeta_group *group, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity)
{
	struct shmeta_group_record fixed = {
		.created_at_ms = group->created_at_ms,
		.updated_at_ms = group->updated_at_ms,
		.group_bytes = (uint16_t)group->group_id.bytes,
	};

	if (group->group_id.bytes > SHMETA_STRING_MAX)
		return 0;
	return encode(SHMETA_RECORD_GROUP, stamps, key, key_bytes, &fixed, sizeof fixed, &group->group_id, 1, out,
	              capacity);
}

size_t shmeta__offset_encode(const struct shmeta_committed_offset *offset, const struct shmeta__stamps *stamps,
                             const void *key, size_t key_bytes, void *out, size_t capacity)
{
	struct shmeta_str strings[] = {offset->group_id, offset->metadata};
	struct shmeta_offset_record fixed = {
		.committed_offset = offset->committed_offset,
		.committed_at_ms = offset->committed_at_ms,
		.topic_id = offset->topic_id,
		.partition_id = offset->partition_id,
		.group_bytes = (uint16_t)offset->group_id.bytes,
		.flags = offset->has_metadata ? OFFSET_HAS_METADATA : 0,
	};

	if (!offset->has_metadata)
		strings[1] = (struct shmeta_str){NULL, 0};
	fixed.metadata_bytes = (uint32_t)strings[1].bytes;
	if (offset->group_id.bytes > SHMETA_STRING_MAX)
		return 0;
	return encode(SHMETA_RECORD_OFFSET, stamps, key, key_bytes, &fixed, sizeof fixed, strings, 2, out, capacity);
}

size_t shmeta__lease_encode(const struct shmeta_lease *lease, const struct shmeta__stamps *stamps, const void *key,
                            size_t key_bytes, void *out, size_t capacity)
{
	struct shmeta_lease_record fixed = {
		.lease_expires_at_ms = lease->lease_expires_at_ms,
		.acquired_at_ms = lease->acquired_at_ms,
		.epoch = lease->epoch,
		.topic_id = lease->topic_id,
		.partition_id = lease->partition_id,
		.leader_bytes = (uint16_t)lease->leader_agent_id.bytes,
	};

	if (lease->leader_agent_id.bytes > SHMETA_STRING_MAX)
		return 0;
	return encode(SHMETA_RECORD_LEASE, stamps, key, key_bytes, &fixed, sizeof fixed, &lease->leader_agent_id, 1,
	              out, capacity);
}

size_t shmeta__quarantined_encode(const struct shmeta__quarantined *row, const struct shmeta__stamps *stamps,
                                  const void *key, size_t key_bytes, void *out, size_t capacity)
{
	const struct shmeta_str strings[] = {row->tenant, row->topic, row->name, row->sentence};
	struct shmeta_quarantined_record fixed = {
		.since_ms = row->since_ms,
		.rows = row->rows,
		.base = row->base,
		.end = row->end,
		.partition_id = row->partition_id,
		.sentence_bytes = (uint16_t)row->sentence.bytes,
		.cls = (uint8_t)row->cls,
		.unread = (uint8_t)row->unread,
		.tenant_bytes = (uint8_t)row->tenant.bytes,
		.topic_bytes = (uint8_t)row->topic.bytes,
		.name_bytes = (uint8_t)row->name.bytes,
	};

	if (row->tenant.bytes > UINT8_MAX || row->topic.bytes > UINT8_MAX || row->name.bytes > UINT8_MAX ||
	    row->sentence.bytes > SHMETA_SENTENCE_MAX)
		return 0;
	return encode(SHMETA_RECORD_QUARANTINED, stamps, key, key_bytes, &fixed, sizeof fixed, strings, 4, out,
	              capacity);
}

/* ---- decoding ---- */

/* Copy head and fixed part; *ret_tail: where the strings begin. */
static bool open_record(enum shmeta_record_kind kind, const void *value, size_t bytes, const void *key,
                        size_t key_bytes, int verify, void *fixed, size_t fixed_bytes,
                        struct shmeta__stamps *ret_stamps, const char **ret_tail)
{
	struct shmeta_record_head head;

	if (bytes < sizeof head + fixed_bytes)
		return false;
	shmeta__copy_once(&head, value, sizeof head);
	if (head.kind != kind || head.reserved != 0)
		return false;
	if (verify && head.checksum != checksum(value, bytes, key, key_bytes))
		return false;
	shmeta__copy_once(fixed, (const uint8_t *)value + sizeof head, fixed_bytes);
	*ret_stamps = (struct shmeta__stamps){head.synced_at_ns, head.ttl_ms};
	*ret_tail = (const char *)value + sizeof head + fixed_bytes;
	return true;
}

/* How every decoder ends: only now is it known that there is something to give. */
static enum shmeta_status good(const struct shmeta__stamps *stamps, struct shmeta__stamps *ret_stamps)
{
	if (ret_stamps != NULL)
		*ret_stamps = *stamps;
	return SHMETA_OK;
}

static struct shmeta_str take(const char **tail, size_t bytes)
{
	struct shmeta_str s = {*tail, bytes};

	*tail += bytes;
	return s;
}

static struct shmeta_map take_map(const char **tail, size_t bytes)
{
	struct shmeta_str s = take(tail, bytes);

	return (struct shmeta_map){s.data, s.bytes};
}

/* Do the strings, all of them, fill the rest of the value? The lengths are at most 32 bits wide:
 * the sum cannot overflow. */
static bool fills(size_t bytes, size_t fixed_bytes, uint64_t sum)
{
	return bytes - sizeof(struct shmeta_record_head) - fixed_bytes == sum;
}

enum shmeta_status shmeta__topic_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_topic *ret, struct shmeta__stamps *ret_stamps)
{
	struct shmeta_topic_record fixed;
	struct shmeta__stamps stamps;
	struct shmeta_topic topic = {0};
	const char *tail;

	if (!open_record(SHMETA_RECORD_TOPIC, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    (fixed.flags & ~TOPIC_HAS_RETENTION) != 0 || (fixed.flags == 0 && fixed.retention_ms != 0) ||
	    fixed.config_bytes > SHMETA_MAP_MAX || fixed.policy_bytes > SHMETA_STRING_MAX ||
	    fixed.name_bytes > SHMETA_NAME_MAX ||
	    !fills(bytes, sizeof fixed, (uint64_t)fixed.name_bytes + fixed.policy_bytes + fixed.config_bytes))
		return SHMETA_ERR_CORRUPT;
	topic.name = take(&tail, fixed.name_bytes);
	topic.cleanup_policy = take(&tail, fixed.policy_bytes);
	topic.config = take_map(&tail, fixed.config_bytes);
	topic.created_at_ms = fixed.created_at_ms;
	topic.updated_at_ms = fixed.updated_at_ms;
	topic.retention_ms = fixed.retention_ms;
	topic.has_retention = fixed.flags & TOPIC_HAS_RETENTION;
	topic.partition_count = fixed.partition_count;
	topic.topic_id = fixed.topic_id;
	if (verify && shmeta__map_error(&topic.config) != NULL)
		return SHMETA_ERR_CORRUPT;
	*ret = topic;
	return good(&stamps, ret_stamps);
}

enum shmeta_status shmeta__agent_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_agent *ret, struct shmeta__stamps *ret_stamps)
{
	struct shmeta_agent_record fixed;
	struct shmeta__stamps stamps;
	struct shmeta_agent agent = {0};
	const char *tail;

	if (!open_record(SHMETA_RECORD_AGENT, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    fixed.reserved != 0 || fixed.metadata_bytes > SHMETA_MAP_MAX || fixed.id_bytes > SHMETA_STRING_MAX ||
	    fixed.address_bytes > SHMETA_STRING_MAX || fixed.zone_bytes > SHMETA_STRING_MAX ||
	    fixed.group_bytes > SHMETA_STRING_MAX ||
	    !fills(bytes, sizeof fixed,
	           (uint64_t)fixed.id_bytes + fixed.address_bytes + fixed.zone_bytes + fixed.group_bytes +
	                   fixed.metadata_bytes))
		return SHMETA_ERR_CORRUPT;
	agent.agent_id = take(&tail, fixed.id_bytes);
	agent.address = take(&tail, fixed.address_bytes);
	agent.availability_zone = take(&tail, fixed.zone_bytes);
	agent.agent_group = take(&tail, fixed.group_bytes);
	agent.metadata = take_map(&tail, fixed.metadata_bytes);
	agent.last_heartbeat_ms = fixed.last_heartbeat_ms;
	agent.started_at_ms = fixed.started_at_ms;
	if (verify && shmeta__map_error(&agent.metadata) != NULL)
		return SHMETA_ERR_CORRUPT;
	*ret = agent;
	return good(&stamps, ret_stamps);
}

enum shmeta_status shmeta__group_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_group *ret, struct shmeta__stamps *ret_stamps)
{
	struct shmeta_group_record fixed;
	struct shmeta__stamps stamps;
	const char *tail;

	if (!open_record(SHMETA_RECORD_GROUP, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    fixed.reserved1 != 0 || fixed.reserved2 != 0 || fixed.group_bytes > SHMETA_STRING_MAX ||
	    !fills(bytes, sizeof fixed, fixed.group_bytes))
		return SHMETA_ERR_CORRUPT;
	*ret = (struct shmeta_group){.group_id = take(&tail, fixed.group_bytes),
	                             .created_at_ms = fixed.created_at_ms,
	                             .updated_at_ms = fixed.updated_at_ms};
	return good(&stamps, ret_stamps);
}

enum shmeta_status shmeta__offset_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                         struct shmeta_committed_offset *ret, struct shmeta__stamps *ret_stamps)
{
	struct shmeta_offset_record fixed;
	struct shmeta__stamps stamps;
	struct shmeta_committed_offset offset = {0};
	const char *tail;

	if (!open_record(SHMETA_RECORD_OFFSET, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    (fixed.flags & ~OFFSET_HAS_METADATA) != 0 || (fixed.flags == 0 && fixed.metadata_bytes != 0) ||
	    fixed.metadata_bytes > SHMETA_MAP_MAX || fixed.group_bytes > SHMETA_STRING_MAX ||
	    !fills(bytes, sizeof fixed, (uint64_t)fixed.group_bytes + fixed.metadata_bytes))
		return SHMETA_ERR_CORRUPT;
	offset.group_id = take(&tail, fixed.group_bytes);
	offset.metadata = take(&tail, fixed.metadata_bytes);
	offset.committed_offset = fixed.committed_offset;
	offset.committed_at_ms = fixed.committed_at_ms;
	offset.topic_id = fixed.topic_id;
	offset.partition_id = fixed.partition_id;
	offset.has_metadata = fixed.flags & OFFSET_HAS_METADATA;
	*ret = offset;
	return good(&stamps, ret_stamps);
}

enum shmeta_status shmeta__lease_decode(const void *value, size_t bytes, const void *key, size_t key_bytes, int verify,
                                        struct shmeta_lease *ret, struct shmeta__stamps *ret_stamps)
{
	struct shmeta_lease_record fixed;
	struct shmeta__stamps stamps;
	const char *tail;

	if (!open_record(SHMETA_RECORD_LEASE, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    fixed.reserved1 != 0 || fixed.reserved2 != 0 || fixed.leader_bytes > SHMETA_STRING_MAX ||
	    !fills(bytes, sizeof fixed, fixed.leader_bytes))
		return SHMETA_ERR_CORRUPT;
	*ret = (struct shmeta_lease){.leader_agent_id = take(&tail, fixed.leader_bytes),
	                             .lease_expires_at_ms = fixed.lease_expires_at_ms,
	                             .acquired_at_ms = fixed.acquired_at_ms,
	                             .epoch = fixed.epoch,
	                             .topic_id = fixed.topic_id,
	                             .partition_id = fixed.partition_id};
	return good(&stamps, ret_stamps);
}

enum shmeta_status shmeta__quarantined_decode(const void *value, size_t bytes, const void *key, size_t key_bytes,
                                              int verify, struct shmeta__quarantined *ret,
                                              struct shmeta__stamps *ret_stamps)
{
	static const uint8_t zero[sizeof((struct shmeta_quarantined_record *)NULL)->reserved];
	struct shmeta_quarantined_record fixed;
	struct shmeta__stamps stamps;
	const char *tail;

	if (!open_record(SHMETA_RECORD_QUARANTINED, value, bytes, key, key_bytes, verify, &fixed, sizeof fixed, &stamps,
	                 &tail) ||
	    fixed.cls >= SHMETA_CLASS_COUNT || fixed.rows == 0 || fixed.sentence_bytes > SHMETA_SENTENCE_MAX ||
	    memcmp(fixed.reserved, zero, sizeof zero) != 0 ||
	    !fills(bytes, sizeof fixed,
	           (uint64_t)fixed.tenant_bytes + fixed.topic_bytes + fixed.name_bytes + fixed.sentence_bytes))
		return SHMETA_ERR_CORRUPT;
	*ret = (struct shmeta__quarantined){
		.cls = (enum shmeta_class)fixed.cls,
		.unread = fixed.unread,
		.partition_id = fixed.partition_id,
		.base = fixed.base,
		.end = fixed.end,
		.since_ms = fixed.since_ms,
		.rows = fixed.rows,
	};
	ret->tenant = take(&tail, fixed.tenant_bytes);
	ret->topic = take(&tail, fixed.topic_bytes);
	ret->name = take(&tail, fixed.name_bytes);
	ret->sentence = take(&tail, fixed.sentence_bytes);
	return good(&stamps, ret_stamps);
}

uint64_t shmeta__name_hash(uint32_t tenant, const void *name, size_t bytes)
{
	return XXH3_64bits_withSeed(name, bytes, tenant);
}
