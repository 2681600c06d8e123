/* SPDX-License-Identifier: Apache-2.0
 * Limits, maps and sentences of rows (rows.h). */
#include "backends/rows.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/row_limits.h"
#include "base/utf8.h"

void rows_blame(struct rows_fault *fault, const char *fmt, ...)
{
	va_list args;

	if (fault->text[0] != '\0')
		return;
	va_start(args, fmt);
	vsnprintf(fault->text, sizeof fault->text, fmt, args);
	va_end(args);
}

static bool blame_text(const char *field, struct shmeta_str text, size_t limit, const char *wrong,
                       struct rows_fault *fault)
{
	char quoted[ROWS_QUOTE_MAX];

	(void)shmeta__quote(quoted, sizeof quoted, text.data, text.bytes);
	if (text.bytes > limit)
		rows_blame(fault, "%s %s has %zu bytes; the limit is %zu", field, quoted, text.bytes, limit);
	else
		rows_blame(fault, "%s %s %s", field, quoted, wrong);
	return false;
}

static bool check_name(const char *field, struct shmeta_str text, size_t limit, struct rows_fault *fault)
{
	const char *wrong = shmeta__name_error(text.data, text.bytes, limit);

	if (wrong == NULL)
		return true;
	if (text.bytes > 0)
		return blame_text(field, text, limit, wrong, fault);
	rows_blame(fault, "%s is empty; it must have 1 to %zu bytes", field, limit);
	return false;
}

static bool check_text(const char *field, struct shmeta_str text, size_t limit, struct rows_fault *fault)
{
	if (text.bytes <= limit && shmeta__utf8_valid(text.data, text.bytes))
		return true;
	return blame_text(field, text, limit, "is not UTF-8", fault);
}

static bool check_offset_value(const char *field, uint64_t value, struct rows_fault *fault)
{
	if (value <= ROWS_OFFSET_MAX)
		return true;
	rows_blame(fault, "%s is %" PRIu64 " (%" PRId64 " in the source); the limit is %" PRIu64, field, value,
	           (int64_t)value, ROWS_OFFSET_MAX);
	return false;
}

static bool check_partition_id(uint32_t id, struct rows_fault *fault)
{
	if (id < SHMETA_PARTITIONS_MAX)
		return true;
	rows_blame(fault, "partition_id is %" PRIu32 "; a topic has at most %d partitions", id, SHMETA_PARTITIONS_MAX);
	return false;
}

bool rows_check_tenant(struct shmeta_str tenant, struct rows_fault *fault)
{
	return check_name("organization_id", tenant, SHMETA_TENANT_MAX, fault);
}

bool rows_check_topic(const struct shmeta_topic *topic, struct rows_fault *fault)
{
	if (!check_name("name", topic->name, SHMETA_NAME_MAX, fault) ||
	    !check_text("cleanup_policy", topic->cleanup_policy, SHMETA_STRING_MAX, fault))
		return false;
	if (topic->partition_count < 1 || topic->partition_count > SHMETA_PARTITIONS_MAX) {
		rows_blame(fault, "partition_count is %" PRIu32 "; it must be 1 to %d", topic->partition_count,
		           SHMETA_PARTITIONS_MAX);
		return false;
	}
	if (topic->config.bytes > SHMETA_MAP_MAX) {
		rows_blame(fault, "config has %zu bytes; the limit is %d", topic->config.bytes, SHMETA_MAP_MAX);
		return false;
	}
	return true;
}

bool rows_check_partition(const struct shmeta_partition *partition, struct rows_fault *fault)
{
	return check_partition_id(partition->partition_id, fault) &&
	       check_offset_value("high_watermark", partition->high_watermark, fault);
}

bool rows_check_segment(const struct shmeta_segment *segment, struct rows_fault *fault)
{
	/* One test for the good row, which nearly every row is: the sentences are for the
	 * others. */
	if (__builtin_expect(
		    segment->base_offset <= segment->end_offset && segment->end_offset <= ROWS_OFFSET_MAX &&
			    segment->size_bytes <= ROWS_OFFSET_MAX && segment->partition_id < SHMETA_PARTITIONS_MAX &&
			    segment->id.bytes <= SHMETA_STRING_MAX && segment->s3_bucket.bytes <= SHMETA_STRING_MAX &&
			    segment->s3_key.bytes <= SHMETA_STRING_MAX &&
			    shmeta__utf8_valid(segment->id.data, segment->id.bytes) &&
			    shmeta__utf8_valid(segment->s3_bucket.data, segment->s3_bucket.bytes) &&
			    shmeta__utf8_valid(segment->s3_key.data, segment->s3_key.bytes),
		    1))
		return true;
	if (!check_partition_id(segment->partition_id, fault) ||
	    !check_offset_value("base_offset", segment->base_offset, fault) ||
	    !check_offset_value("end_offset", segment->end_offset, fault) ||
	    !check_offset_value("size_bytes", segment->size_bytes, fault) ||
	    !check_text("id", segment->id, SHMETA_STRING_MAX, fault) ||
	    !check_text("s3_bucket", segment->s3_bucket, SHMETA_STRING_MAX, fault) ||
	    !check_text("s3_key", segment->s3_key, SHMETA_STRING_MAX, fault))
		return false;
	rows_blame(fault, "end_offset %" PRIu64 " is below base_offset %" PRIu64, segment->end_offset,
	           segment->base_offset);
	return false;
}

bool rows_check_agent(const struct shmeta_agent *agent, struct rows_fault *fault)
{
	return check_name("agent_id", agent->agent_id, SHMETA_NAME_MAX, fault) &&
	       check_text("address", agent->address, SHMETA_STRING_MAX, fault) &&
	       check_text("availability_zone", agent->availability_zone, SHMETA_STRING_MAX, fault) &&
	       check_text("agent_group", agent->agent_group, SHMETA_STRING_MAX, fault);
}

bool rows_check_group(const struct shmeta_group *group, struct rows_fault *fault)
{
	return check_name("group_id", group->group_id, SHMETA_NAME_MAX, fault);
}

bool rows_check_offset(struct shmeta_str topic, const struct shmeta_committed_offset *offset, struct rows_fault *fault)
{
	return check_name("group_id", offset->group_id, SHMETA_NAME_MAX, fault) &&
	       check_name("topic", topic, SHMETA_NAME_MAX, fault) && check_partition_id(offset->partition_id, fault) &&
	       check_offset_value("committed_offset", offset->committed_offset, fault) &&
	       check_text("metadata", offset->metadata, SHMETA_MAP_MAX, fault);
}

bool rows_check_lease(struct shmeta_str topic, const struct shmeta_lease *lease, struct rows_fault *fault)
{
	return check_name("leader_agent_id", lease->leader_agent_id, SHMETA_NAME_MAX, fault) &&
	       check_name("topic", topic, SHMETA_NAME_MAX, fault) && check_partition_id(lease->partition_id, fault) &&
	       check_offset_value("epoch", lease->epoch, fault);
}

void rows_key_partition(struct backend_key *row, int64_t partition)
{
	if (partition < 0 || partition > UINT32_MAX)
		row->unread |= BACKEND_UNREAD_PARTITION;
	else
		row->partition_id = (uint32_t)partition;
}

void rows_key_base(struct backend_key *row, int64_t base)
{
	if (base < 0)
		row->unread |= BACKEND_UNREAD_BASE;
	else
		row->from = (uint64_t)base;
	row->to = INT64_MAX;
}

/* "committed offset of group 'g', topic 't', partition 3": as much of it as can be read. */
static void name_row(const struct backend_key *row, char *ret, size_t bytes)
{
	static const char *const what[SHMETA_CLASS_COUNT] = {
		[SHMETA_CLASS_TOPIC] = "topic",
		[SHMETA_CLASS_PARTITION] = "row",
		[SHMETA_CLASS_SEGMENT] = "segment",
		[SHMETA_CLASS_LIST] = "row",
		[SHMETA_CLASS_AGENT] = "agent",
		[SHMETA_CLASS_LEASE] = "lease",
		[SHMETA_CLASS_OFFSET] = "committed offset",
	};
	bool group = row->cls == SHMETA_CLASS_OFFSET && row->topic.bytes == 0 && !(row->unread & BACKEND_UNREAD_TOPIC);
	const char *name_joint = row->cls == SHMETA_CLASS_AGENT || group ? " " : " of group ";
	const char *topic_joint = row->cls == SHMETA_CLASS_TOPIC ? " "
	                          : row->name.bytes > 0          ? ", topic "
	                                                         : " of topic ";
	char quoted[ROWS_QUOTE_MAX];
	size_t at = (size_t)snprintf(ret, bytes, "%s", group ? "consumer group" : what[row->cls]);

	if (row->name.bytes > 0)
		at += (size_t)snprintf(ret + at, bytes - at, "%s%s", name_joint, rows_quote(quoted, row->name));
	if (row->topic.bytes == 0)
		return;
	at += (size_t)snprintf(ret + at, bytes - at, "%s%s", topic_joint, rows_quote(quoted, row->topic));
	if (row->cls == SHMETA_CLASS_TOPIC || row->unread & BACKEND_UNREAD_PARTITION)
		return;
	at += (size_t)snprintf(ret + at, bytes - at, ", partition %" PRIu32, row->partition_id);
	if (row->cls == SHMETA_CLASS_SEGMENT && !(row->unread & BACKEND_UNREAD_BASE))
		(void)snprintf(ret + at, bytes - at, ", base_offset %" PRIu64, row->from);
}

void rows_quarantine(const struct backend_sink *sink, const struct backend_key *row, const struct rows_fault *fault)
{
	char what[2 * ROWS_QUOTE_MAX + 160], sentence[sizeof what + ROWS_SENTENCE_MAX + 2];

	if (sink->quarantine == NULL)
		return;
	name_row(row, what, sizeof what);
	snprintf(sentence, sizeof sentence, "%s: %s", what, fault->text);
	sink->quarantine(sink->arg, row, sentence);
}

static int by_key(const void *a, const void *b)
{
	return rows_compare(((const struct rows_pair *)a)->key, ((const struct rows_pair *)b)->key);
}

static char *put(char *at, const void *data, size_t bytes)
{
	if (bytes > 0)
		memcpy(at, data, bytes);
	return at + bytes;
}

bool rows_pack(struct rows_scratch *scratch, struct rows_pair *pairs, size_t count, struct shmeta_map *ret,
               struct rows_fault *fault)
{
	size_t bytes = 0;
	char *at;

	for (size_t i = 0; i < count; i++) {
		bytes += 8 + pairs[i].key.bytes + pairs[i].value.bytes;
		if (bytes > SHMETA_MAP_MAX) {
			rows_blame(fault, "the map has more than %d bytes", SHMETA_MAP_MAX);
			return false;
		}
	}
	if (bytes > scratch->capacity) {
		char *grown = realloc(scratch->map, bytes);

		if (grown == NULL) {
			rows_blame(fault, "out of memory for a map of %zu bytes", bytes);
			return false;
		}
		scratch->map = grown;
		scratch->capacity = bytes;
	}
	if (count > 1)
		qsort(pairs, count, sizeof pairs[0], by_key);
	at = scratch->map;
	for (size_t i = 0; i < count; i++) {
		uint32_t lengths[2] = {htole32((uint32_t)pairs[i].key.bytes), htole32((uint32_t)pairs[i].value.bytes)};

		at = put(at, lengths, sizeof lengths);
		at = put(at, pairs[i].key.data, pairs[i].key.bytes);
		at = put(at, pairs[i].value.data, pairs[i].value.bytes);
	}
	*ret = (struct shmeta_map){bytes > 0 ? scratch->map : NULL, bytes};
	return true;
}

bool rows_map(struct rows_scratch *scratch, struct shmeta_str json, struct shmeta_map *ret, struct rows_fault *fault)
{
	json_t *root = NULL, *value;
	struct rows_pair *pairs = NULL;
	size_t count = 0, n;
	const char *key;
	bool ok = true;

	*ret = (struct shmeta_map){NULL, 0};
	if (json.bytes <= 2) /* "", "{}" */
		return true;
	root = json_loadb(json.data, json.bytes, 0, NULL);
	n = root != NULL && json_is_object(root) ? json_object_size(root) : 0;
	if (n > 0)
		pairs = malloc(n * sizeof pairs[0]);
	if (n > 0 && pairs == NULL) {
		rows_blame(fault, "out of memory for a map of %zu keys", n);
		ok = false;
		n = 0;
	}
	if (n > 0) {
		json_object_foreach(root, key, value)
		{
			if (!json_is_string(value))
				break;
			pairs[count++] = (struct rows_pair){rows_str(key),
			                                    {json_string_value(value), json_string_length(value)}};
		}
		if (count == n)
			ok = rows_pack(scratch, pairs, count, ret, fault);
	}
	free(pairs);
	json_decref(root);
	return ok;
}

void rows_scratch_free(struct rows_scratch *scratch)
{
	free(scratch->map);
	*scratch = (struct rows_scratch){NULL, 0};
}

char *rows_json(const struct shmeta_map *map)
{
	const uint8_t *at = map->bytes > 0 ? map->data : (const uint8_t *)"", *end = at + map->bytes;
	json_t *object = json_object();
	char *text;

	while (object != NULL && end - at >= 8) {
		uint32_t key, value;
		char *name;

		memcpy(&key, at, sizeof key);
		memcpy(&value, at + 4, sizeof value);
		at += 8;
		name = strndup((const char *)at, key);
		if (name == NULL ||
		    json_object_set_new(object, name, json_stringn((const char *)at + key, value)) != 0) {
			free(name);
			json_decref(object);
			return NULL;
		}
		free(name);
		at += (size_t)key + value;
	}
	text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(object);
	return text;
}
