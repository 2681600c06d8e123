/* SPDX-License-Identifier: Apache-2.0
 * The limits of rows. Engines, the wire and the writer all check with these functions. */
#include "base/row_limits.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "base/string_map.h"
#include "base/utf8.h"

#define EACH_BYTE(b) (0x0101010101010101u * (uint64_t)(b))

/* 1: all of eight bytes are ASCII without NUL and, with !controls, without other control
 * characters. 0 may be wrong for the neighbour of a byte that fails; the caller then checks byte by
 * byte. */
static bool eight_plain(uint64_t word, bool controls)
{
	uint64_t least = controls ? 1 : 0x20;
	/* above 0x7f; below the least, by the borrow */
	uint64_t bad = word | (word - EACH_BYTE(least));

	if (!controls)
		bad |= (word ^ EACH_BYTE(0x7f)) - EACH_BYTE(1); /* DEL */
	return (bad & EACH_BYTE(0x80)) == 0;
}

/* Nearly every name and key is plain ASCII: eight bytes at a time, the last eight overlapping those
 * before. */
static bool is_plain(const uint8_t *p, size_t bytes, bool controls)
{
	uint64_t word;

	if (bytes < sizeof word)
		return false;
	for (size_t i = 0; i < bytes - sizeof word; i += sizeof word) {
		memcpy(&word, p + i, sizeof word);
		if (!eight_plain(word, controls))
			return false;
	}
	memcpy(&word, p + bytes - sizeof word, sizeof word);
	return eight_plain(word, controls);
}

const char *shmeta__text_error(const void *text, size_t bytes, size_t max, int controls)
{
	const uint8_t *p = text;
	uint32_t point = 0;

	if (bytes > max)
		return "is too long";
	if (is_plain(p, bytes, controls))
		return NULL;
	for (size_t i = 0, n; i < bytes; i += n) {
		n = shmeta__utf8_decode(p + i, bytes - i, &point);
		if (n == 0)
			return "is not UTF-8";
		if (point == 0 || (!controls && shmeta__utf8_is_control(point)))
			return "has a control character";
	}
	return NULL;
}

const char *shmeta__name_error(const void *text, size_t bytes, size_t max)
{
	return bytes == 0 ? "is empty" : shmeta__text_error(text, bytes, max, 0);
}

static const char *bad_text(char *text, size_t bytes, const char *field, const char *wrong, struct shmeta_str value,
                            size_t max)
{
	char shown[40]; /* so that the limit still fits the text of a struct shmeta_result */

	(void)snprintf(text, bytes, "%s '%s' %s: it may have %s%zu bytes of UTF-8 without control characters", field,
	               shmeta__escape(shown, sizeof shown, value.data, value.bytes), wrong,
	               max == SHMETA_NAME_MAX ? "1 to " : "up to ", max);
	return text;
}

static const char *bad_number(char *text, size_t bytes, const char *field, uint64_t value, uint64_t least,
                              uint64_t most)
{
	(void)snprintf(text, bytes, "%s %llu is out of range: it may be %llu to %llu", field, (unsigned long long)value,
	               (unsigned long long)least, (unsigned long long)most);
	return text;
}

const char *shmeta__topic_error(const struct shmeta_topic *topic, char *text, size_t bytes)
{
	const char *wrong = shmeta__name_error(topic->name.data, topic->name.bytes, SHMETA_NAME_MAX);
	char shown[40];

	if (wrong != NULL)
		return bad_text(text, bytes, "topic name", wrong, topic->name, SHMETA_NAME_MAX);
	if (topic->partition_count < 1 || topic->partition_count > SHMETA_PARTITIONS_MAX)
		return bad_number(text, bytes, "partition_count", topic->partition_count, 1, SHMETA_PARTITIONS_MAX);
	wrong = shmeta__text_error(topic->cleanup_policy.data, topic->cleanup_policy.bytes, SHMETA_STRING_MAX, 0);
	if (wrong != NULL)
		return bad_text(text, bytes, "cleanup_policy", wrong, topic->cleanup_policy, SHMETA_STRING_MAX);
	wrong = shmeta__map_error(&topic->config);
	if (wrong == NULL)
		return NULL;
	(void)snprintf(text, bytes, "config of topic '%s' %s: it has %zu bytes packed, at most %d may be",
	               shmeta__escape(shown, sizeof shown, topic->name.data, topic->name.bytes), wrong,
	               topic->config.bytes, SHMETA_MAP_MAX);
	return text;
}

const char *shmeta__segment_error(const struct shmeta_segment *segment, char *text, size_t bytes)
{
	const struct {
		const char *field;
		struct shmeta_str value;
	} strings[] = {{"id", segment->id}, {"s3_bucket", segment->s3_bucket}, {"s3_key", segment->s3_key}};

	if (segment->partition_id >= SHMETA_PARTITIONS_MAX)
		return bad_number(text, bytes, "partition_id", segment->partition_id, 0, SHMETA_PARTITIONS_MAX - 1);
	if (segment->base_offset > INT64_MAX)
		return bad_number(text, bytes, "base_offset", segment->base_offset, 0, INT64_MAX);
	if (segment->end_offset > INT64_MAX || segment->end_offset < segment->base_offset)
		return bad_number(text, bytes, "end_offset", segment->end_offset, segment->base_offset, INT64_MAX);
	if (segment->size_bytes > INT64_MAX)
		return bad_number(text, bytes, "size_bytes", segment->size_bytes, 0, INT64_MAX);
	for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
		const char *wrong =
			shmeta__text_error(strings[i].value.data, strings[i].value.bytes, SHMETA_STRING_MAX, 1);

		if (wrong != NULL)
			return bad_text(text, bytes, strings[i].field, wrong, strings[i].value, SHMETA_STRING_MAX);
	}
	return NULL;
}

const char *shmeta__partition_error(const struct shmeta_partition *partition, char *text, size_t bytes)
{
	if (partition->partition_id >= SHMETA_PARTITIONS_MAX)
		return bad_number(text, bytes, "partition_id", partition->partition_id, 0, SHMETA_PARTITIONS_MAX - 1);
	if (partition->high_watermark > INT64_MAX)
		return bad_number(text, bytes, "high_watermark", partition->high_watermark, 0, INT64_MAX);
	return NULL;
}
