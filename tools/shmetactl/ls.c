/* SPDX-License-Identifier: Apache-2.0
 * ls, get, find: lookups as any program makes them, through the public API. */
#include "tools/shmetactl/tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { STRINGS_BYTES = 3 * (SHMETA_STRING_MAX + 1) };

static int parse_partition(struct tool *tool, const char *text, uint32_t *ret)
{
	uint64_t value;

	if (!tool_parse_u64(text, UINT32_MAX, &value))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", text);
	*ret = (uint32_t)value;
	return 0;
}

static int parse_after(struct tool *tool, uint64_t max, const char *what, uint64_t *ret)
{
	if (tool->after != NULL && !tool_parse_u64(tool->after, max, ret))
		return tool_error(tool, TOOL_USAGE, "--after: '%s' is not %s", tool->after, what);
	return 0;
}

/* age, ttl, fresh and the commit of an answer. */
static size_t fresh_fields(struct field *fields, const struct tool *tool, const struct shmeta_freshness *fresh,
                           bool brief)
{
	size_t n = 0;

	fields[n++] = f_age(tool->json ? "age_ms" : "age", fresh->age_ns);
	fields[n++] = f_bool("fresh", fresh->fresh != 0);
	if (!brief) {
		fields[n++] = f_age(tool->json ? "ttl_ms" : "ttl", fresh->ttl_ns);
		fields[n++] = f_count("txn", fresh->txn);
	}
	return n;
}

/* ---- ls ----------------------------------------------------------------------------------------------------------------- */

/* How one slice ended. */
struct slice {
	enum shmeta_status status; /* OK: there may be more; END; an error */
	bool full;                 /* --limit reached, and there was one more row */
};

/* Does the list go on? Judges a slice whose snapshot has just been ended. */
static bool slice_goes_on(struct session *s, struct list *list, const struct slice *slice, const char *doing,
                          int *ret_code)
{
	if (!session_end(s, ret_code)) {
		list_drop(list);
		return *ret_code == 0;
	}
	if (slice->status != SHMETA_OK && slice->status != SHMETA_END) {
		list_drop(list);
		*ret_code = session_say(s, slice->status, doing);
		return false;
	}
	list_flush(list);
	return slice->status == SHMETA_OK && !slice->full;
}

static bool list_full(const struct list *list)
{
	return list->tool->limit > 0 && list->printed + list->waiting == list->tool->limit;
}

static void topic_row(struct list *list, const struct shmeta_topic *t, const struct shmeta_freshness *fresh)
{
	struct field fields[16];
	size_t n = 0;

	fields[n++] = f_text("name", t->name);
	fields[n++] = f_count("topic_id", t->topic_id);
	fields[n++] = f_count("partition_count", t->partition_count);
	fields[n++] = t->has_retention ? f_count("retention_ms", (uint64_t)t->retention_ms) : f_null("retention_ms");
	fields[n++] = f_time("created_at_ms", t->created_at_ms);
	fields[n++] = f_hidden(f_time("updated_at_ms", t->updated_at_ms));
	fields[n++] = f_hidden(f_text("cleanup_policy", t->cleanup_policy));
	fields[n++] = f_hidden(f_map("config", t->config));
	n += fresh_fields(fields + n, list->tool, fresh, true);
	list_row(list, fields, n);
}

static struct slice slice_topics(struct session *s, struct list *list, char *last, size_t *last_bytes, bool *has_last)
{
	const struct tool *tool = s->tool;
	const char *pattern = tool->glob != NULL ? tool->glob : tool->prefix;
	struct slice slice = {.status = SHMETA_OK};
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic topic;
	struct shmeta_freshness fresh;
	char key[SHMETA_NAME_MAX];
	size_t key_bytes = 0;

	slice.status = shmeta_list_topics(s->reader, pattern, pattern != NULL ? strlen(pattern) : 0, tool->glob != NULL,
	                                  &iter);
	while (slice.status == SHMETA_OK && (slice.status = shmeta_next_topic(iter, &topic, &fresh)) == SHMETA_OK) {
		size_t n = topic.name.bytes < *last_bytes ? topic.name.bytes : *last_bytes;
		int order = *has_last ? memcmp(topic.name.data, last, n) : 1;

		if (order < 0 || (order == 0 && topic.name.bytes <= *last_bytes)) {
			s->begun_ns = tool_monotonic_ns(); /* the time to get there is not the slice's */
			continue;
		}
		if (list_full(list)) {
			slice.full = true;
			break;
		}
		topic_row(list, &topic, &fresh);
		key_bytes = topic.name.bytes < sizeof(key) ? topic.name.bytes : sizeof(key);
		memcpy(key, topic.name.data, key_bytes);
		if (session_due(s))
			break;
	}
	shmeta_iter_free(iter);
	if (key_bytes > 0) {
		memcpy(last, key, key_bytes);
		*last_bytes = key_bytes;
		*has_last = true;
	}
	return slice;
}

int verb_ls_topics(struct tool *tool)
{
	char last[2][SHMETA_NAME_MAX];
	size_t last_bytes[2] = {0, 0};
	bool has_last[2] = {false, false};
	struct session s;
	struct slice slice;
	struct list list;
	int code = 0;

	if (tool->after != NULL) {
		if (strlen(tool->after) > SHMETA_NAME_MAX)
			return tool_error(tool, TOOL_USAGE, "--after: no topic name is longer than %d bytes",
			                  SHMETA_NAME_MAX);
		last_bytes[0] = strlen(tool->after);
		memcpy(last[0], tool->after, last_bytes[0]);
		has_last[0] = true;
	}
	code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	list_begin(&list, tool, "topics");
	do { /* [0]: where the accepted slices end, [1]: where this one does */
		bool again;

		code = session_begin(&s);
		if (code != 0)
			break;
		memcpy(last[1], last[0], last_bytes[0]);
		last_bytes[1] = last_bytes[0];
		has_last[1] = has_last[0];
		slice = slice_topics(&s, &list, last[1], &last_bytes[1], &has_last[1]);
		again = slice_goes_on(&s, &list, &slice, "ls topics", &code);
		if (s.tries == 0) {
			memcpy(last[0], last[1], last_bytes[1]);
			last_bytes[0] = last_bytes[1];
			has_last[0] = has_last[1];
		}
		if (!again)
			break;
	} while (code == 0);
	if (code == 0)
		list_end(&list, slice.full ? last[0] : NULL, last_bytes[0]);
	session_close(&s);
	return code;
}

static void partition_row(struct list *list, const struct shmeta_partition *p, const struct shmeta_freshness *fresh)
{
	struct field fields[16];
	size_t n = 0;

	fields[n++] = f_count("partition_id", p->partition_id);
	fields[n++] = f_count("log_start_offset", p->log_start_offset);
	fields[n++] = f_count("high_watermark", p->high_watermark);
	fields[n++] = f_count("segment_count", p->segment_count);
	fields[n++] = f_bytes("size_bytes", p->size_bytes);
	fields[n++] = f_time("updated_at_ms", p->updated_at_ms);
	fields[n++] = f_hidden(f_time("created_at_ms", p->created_at_ms));
	fields[n++] = f_hidden(f_count("topic_id", p->topic_id));
	n += fresh_fields(fields + n, list->tool, fresh, true);
	list_row(list, fields, n);
}

static struct slice slice_partitions(struct session *s, struct list *list, const char *topic, int64_t *last)
{
	struct slice slice = {.status = SHMETA_OK};
	struct shmeta_iter *iter = NULL;
	struct shmeta_partition partition;
	struct shmeta_freshness fresh;

	slice.status = shmeta_list_partitions(s->reader, topic, strlen(topic), &iter);
	while (slice.status == SHMETA_OK &&
	       (slice.status = shmeta_next_partition(iter, &partition, &fresh)) == SHMETA_OK) {
		if ((int64_t)partition.partition_id <= *last) {
			s->begun_ns = tool_monotonic_ns();
			continue;
		}
		if (list_full(list)) {
			slice.full = true;
			break;
		}
		partition_row(list, &partition, &fresh);
		*last = partition.partition_id;
		if (session_due(s))
			break;
	}
	shmeta_iter_free(iter);
	return slice;
}

/* Absence of what a list is about: said, and its exit code. */
static int say_absent(struct session *s, enum shmeta_status status, const char *what)
{
	return tool_error(s->tool, tool_exit_of(status), "%s: %s", what, shmeta_strerror(status));
}

int verb_ls_partitions(struct tool *tool)
{
	const char *topic = tool->argv[0];
	int64_t last = -1, next;
	uint64_t after = 0;
	struct session s;
	struct slice slice;
	struct list list;
	char key[24], what[512];
	int code = parse_after(tool, UINT32_MAX, "a partition id", &after);

	if (code != 0)
		return code;
	if (tool->after != NULL)
		last = (int64_t)after;
	code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	(void)snprintf(what, sizeof(what), "topic %s", topic);
	list_begin(&list, tool, "partitions");
	for (;;) {
		bool again;

		code = session_begin(&s);
		if (code != 0)
			break;
		next = last;
		slice = slice_partitions(&s, &list, topic, &next);
		if (slice.status == SHMETA_ABSENT || slice.status == SHMETA_UNKNOWN) {
			/* The topic is gone: before the first row that is the answer, later it ends the list. */
			if (session_end(&s, &code))
				code = list.printed == 0 ? say_absent(&s, slice.status, what) : 0;
			if (code != 0 || s.tries == 0)
				break;
			continue;
		}
		again = slice_goes_on(&s, &list, &slice, what, &code);
		if (s.tries == 0)
			last = next;
		if (!again)
			break;
	}
	if (code == 0) {
		(void)snprintf(key, sizeof(key), "%" PRId64, last);
		list_end(&list, slice.full ? key : NULL, strlen(key));
	}
	session_close(&s);
	return code;
}

static void segment_row(struct list *list, const struct shmeta_segment *g)
{
	struct field fields[16];
	size_t n = 0;

	fields[n++] = f_count("base_offset", g->base_offset);
	fields[n++] = f_count("end_offset", g->end_offset);
	fields[n++] = f_count("record_count", g->record_count);
	fields[n++] = f_bytes("size_bytes", g->size_bytes);
	fields[n++] = f_time("created_at_ms", g->created_at_ms);
	fields[n++] = f_hidden(f_time("min_timestamp_ms", g->min_timestamp_ms));
	fields[n++] = f_hidden(f_time("max_timestamp_ms", g->max_timestamp_ms));
	fields[n++] = f_text("id", g->id);
	fields[n++] = f_text("s3_bucket", g->s3_bucket);
	fields[n++] = f_text("s3_key", g->s3_key);
	list_row(list, fields, n);
}

/* Rows with a base beyond *last (when has_last). */
static struct slice slice_segments(struct session *s, struct list *list, const char *topic, uint32_t partition,
                                   uint64_t *last, bool *has_last)
{
	struct slice slice = {.status = SHMETA_OK};
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment segment;
	char strings[STRINGS_BYTES];
	uint64_t from = *has_last ? *last + 1 : 0, after = *last;
	bool behind = *has_last;

	slice.status = shmeta_partition_open(s->reader, topic, strlen(topic), partition, &handle);
	if (slice.status == SHMETA_OK)
		slice.status = shmeta_list_segments(handle, from, UINT64_MAX, &iter);
	while (slice.status == SHMETA_OK && (slice.status = shmeta_next_segment(iter, &segment)) == SHMETA_OK) {
		if (behind && segment.base_offset <= after)
			continue; /* overlaps the offsets asked for, and was listed */
		if (list_full(list)) {
			slice.full = true;
			break;
		}
		slice.status = shmeta_segment_strings(handle, &segment, strings, sizeof(strings));
		if (slice.status != SHMETA_OK)
			break;
		segment_row(list, &segment);
		*last = segment.base_offset;
		*has_last = true;
		if (session_due(s))
			break;
	}
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	return slice;
}

int verb_ls_segments(struct tool *tool)
{
	const char *topic = tool->argv[0];
	uint64_t last = 0, next;
	bool has_last, next_has_last;
	uint32_t partition = 0;
	struct session s;
	struct slice slice;
	struct list list;
	char key[24], what[512];
	int code = parse_partition(tool, tool->argv[1], &partition);

	if (code == 0)
		code = parse_after(tool, (uint64_t)INT64_MAX, "an offset", &last);
	has_last = tool->after != NULL;
	if (code == 0)
		code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	(void)snprintf(what, sizeof(what), "topic %s, partition %" PRIu32, topic, partition);
	list_begin(&list, tool, "segments");
	for (;;) {
		bool again;

		code = session_begin(&s);
		if (code != 0)
			break;
		next = last;
		next_has_last = has_last;
		slice = slice_segments(&s, &list, topic, partition, &next, &next_has_last);
		if (slice.status == SHMETA_ABSENT || slice.status == SHMETA_UNKNOWN) {
			if (session_end(&s, &code))
				code = list.printed == 0 ? say_absent(&s, slice.status, what) : 0;
			if (code != 0 || s.tries == 0)
				break;
			continue;
		}
		again = slice_goes_on(&s, &list, &slice, what, &code);
		if (s.tries == 0) {
			last = next;
			has_last = next_has_last;
		}
		if (!again)
			break;
	}
	if (code == 0) {
		(void)snprintf(key, sizeof(key), "%" PRIu64, last);
		list_end(&list, slice.full ? key : NULL, strlen(key));
	}
	session_close(&s);
	return code;
}

/* ---- get, find ---------------------------------------------------------------------------------------------------------- */

static bool is_answer(enum shmeta_status status)
{
	return status >= SHMETA_OK && status <= SHMETA_UNKNOWN;
}

int verb_get_topic(struct tool *tool)
{
	struct shmeta_topic topic;
	struct shmeta_topic_stats sums;
	struct shmeta_freshness fresh;
	struct field fields[24];
	enum shmeta_status status, sums_status;
	char *copy = NULL;
	size_t n = 0, bytes;
	struct session s;
	int code = session_open(tool, tool->tenant, &s);

	if (code != 0)
		return code;
	do {
		code = session_begin(&s);
		if (code != 0)
			goto out;
		memset(&fresh, 0, sizeof(fresh));
		sums_status = SHMETA_UNKNOWN;
		status = shmeta_get_topic(s.reader, tool->argv[0], strlen(tool->argv[0]), NULL, &topic, &fresh);
		if (status == SHMETA_OK) {
			sums_status = shmeta_topic_stats(s.reader, tool->argv[0], strlen(tool->argv[0]), &sums, NULL);
			bytes = topic.name.bytes + topic.config.bytes + topic.cleanup_policy.bytes + 64;
			copy = tool_grow(copy, bytes);
			status = shmeta_copy_topic(&topic, copy, bytes, NULL);
		}
	} while (!session_end(&s, &code) && code == 0);
	if (code != 0)
		goto out;
	if (!is_answer(status)) {
		code = session_say(&s, status, tool->argv[0]);
		goto out;
	}
	code = tool_exit_of(status);
	fields[n++] = f_word("outcome", tool_outcome(status));
	if (status == SHMETA_OK) {
		fields[n++] = f_text("name", topic.name);
		fields[n++] = f_count("topic_id", topic.topic_id);
		fields[n++] = f_count("partition_count", topic.partition_count);
		fields[n++] = topic.has_retention ? f_count("retention_ms", (uint64_t)topic.retention_ms)
		                                  : f_null("retention_ms");
		fields[n++] = f_text("cleanup_policy", topic.cleanup_policy);
		fields[n++] = f_map("config", topic.config);
		fields[n++] = f_time("created_at_ms", topic.created_at_ms);
		fields[n++] = f_time("updated_at_ms", topic.updated_at_ms);
	}
	if (status == SHMETA_OK && sums_status == SHMETA_OK) {
		fields[n++] = f_count("segment_count", sums.segment_count);
		fields[n++] = f_bytes("size_bytes", sums.size_bytes);
	}
	if (status != SHMETA_UNKNOWN)
		n += fresh_fields(fields + n, tool, &fresh, false);
	out_record(tool, "topic", fields, n);
out:
	free(copy);
	session_close(&s);
	return code;
}

int verb_get_partition(struct tool *tool)
{
	struct shmeta_partition partition;
	struct shmeta_freshness fresh;
	struct field fields[24];
	enum shmeta_status status;
	uint32_t id = 0;
	size_t n = 0;
	struct session s;
	int code = parse_partition(tool, tool->argv[1], &id);

	if (code == 0)
		code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	do {
		code = session_begin(&s);
		if (code != 0)
			goto out;
		memset(&fresh, 0, sizeof(fresh));
		status = shmeta_get_partition_named(s.reader, tool->argv[0], strlen(tool->argv[0]), id, NULL,
		                                    &partition, &fresh);
	} while (!session_end(&s, &code) && code == 0);
	if (code != 0)
		goto out;
	if (!is_answer(status)) {
		code = session_say(&s, status, tool->argv[0]);
		goto out;
	}
	code = tool_exit_of(status);
	fields[n++] = f_word("outcome", tool_outcome(status));
	fields[n++] = f_text("topic", (struct shmeta_str){tool->argv[0], strlen(tool->argv[0])});
	fields[n++] = f_count("partition_id", id);
	if (status == SHMETA_OK) {
		fields[n++] = f_count("topic_id", partition.topic_id);
		fields[n++] = f_count("log_start_offset", partition.log_start_offset);
		fields[n++] = f_count("high_watermark", partition.high_watermark);
		fields[n++] = f_count("segment_count", partition.segment_count);
		fields[n++] = f_bytes("size_bytes", partition.size_bytes);
		fields[n++] = f_time("created_at_ms", partition.created_at_ms);
		fields[n++] = f_time("updated_at_ms", partition.updated_at_ms);
	}
	if (status != SHMETA_UNKNOWN)
		n += fresh_fields(fields + n, tool, &fresh, false);
	out_record(tool, "partition", fields, n);
out:
	session_close(&s);
	return code;
}

int verb_find(struct tool *tool)
{
	const char *topic = tool->argv[0];
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_freshness fresh;
	struct field fields[24];
	char strings[STRINGS_BYTES];
	enum shmeta_status status, head;
	uint64_t offset = 0;
	uint32_t id = 0;
	size_t n = 0;
	struct session s;
	int code = parse_partition(tool, tool->argv[1], &id);

	if (code == 0 && !tool_parse_u64(tool->argv[2], UINT64_MAX, &offset))
		code = tool_error(tool, TOOL_USAGE, "'%s' is not an offset", tool->argv[2]);
	if (code == 0)
		code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	do {
		code = session_begin(&s);
		if (code != 0)
			goto out;
		memset(&fresh, 0, sizeof(fresh));
		head = shmeta_get_partition_named(s.reader, topic, strlen(topic), id, NULL, &partition, NULL);
		status = shmeta_find_segment_named(s.reader, topic, strlen(topic), id, offset, NULL, &segment, &fresh);
		if (status == SHMETA_OK)
			status = shmeta_segment_strings_named(s.reader, topic, strlen(topic), &segment, strings,
			                                      sizeof(strings));
	} while (!session_end(&s, &code) && code == 0);
	if (code != 0)
		goto out;
	if (!is_answer(status)) {
		code = session_say(&s, status, topic);
		goto out;
	}
	code = tool_exit_of(status);
	fields[n++] = f_word("outcome", tool_outcome(status));
	fields[n++] = f_text("topic", (struct shmeta_str){topic, strlen(topic)});
	fields[n++] = f_count("partition_id", id);
	fields[n++] = f_count("offset", offset);
	if (status == SHMETA_OK) {
		fields[n++] = f_count("base_offset", segment.base_offset);
		fields[n++] = f_count("end_offset", segment.end_offset);
		fields[n++] = f_count("record_count", segment.record_count);
		fields[n++] = f_bytes("size_bytes", segment.size_bytes);
		fields[n++] = f_text("id", segment.id);
		fields[n++] = f_text("s3_bucket", segment.s3_bucket);
		fields[n++] = f_text("s3_key", segment.s3_key);
		fields[n++] = f_time("created_at_ms", segment.created_at_ms);
		fields[n++] = f_time("min_timestamp_ms", segment.min_timestamp_ms);
		fields[n++] = f_time("max_timestamp_ms", segment.max_timestamp_ms);
	} else if (head == SHMETA_OK) {
		fields[n++] = f_count("log_start_offset", partition.log_start_offset);
		fields[n++] = f_count("high_watermark", partition.high_watermark);
	}
	if (status != SHMETA_UNKNOWN)
		n += fresh_fields(fields + n, tool, &fresh, false);
	out_record(tool, "find", fields, n);
out:
	session_close(&s);
	return code;
}
