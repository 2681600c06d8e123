/* SPDX-License-Identifier: Apache-2.0
 * ls, get, find: lookups as any program makes them, through the public API. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/paging.h"

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

/* ---- ls ---- */

/* What is listed, and the last key that was listed: where the next slice goes on. */
struct place {
	const char *topic;
	uint32_t partition;
	bool of_partition;      /* segments */
	bool begun;             /* there is a last key */
	uint64_t number;        /* it, of partitions and segments */
	struct page_place page; /* it, of topics */
};

/* One snapshot's worth of rows. OK: there may be more; END; ABSENT or UNKNOWN: nothing to list; an
 * error. *ret_full: --limit is reached and there was one more row. */
typedef enum shmeta_status slice_fn(struct session *s, struct list *list, struct place *at, bool *ret_full);

static bool list_full(const struct list *list)
{
	return list->tool->limit > 0 && list->printed + list->waiting == list->tool->limit;
}

static int run_list(struct tool *tool, const char *schema, const char *what, slice_fn *slice, struct place *at)
{
	enum shmeta_status status = SHMETA_OK;
	char reason[TOOL_REASON_BYTES];
	struct session s;
	struct list list;
	bool full = false;
	char key[24];
	int code = session_open_long(tool, tool->tenant, &s);

	if (code != 0)
		return code;
	if (at->topic != NULL)
		at->topic = session_topic(&s, at->topic);
	list_begin(&list, tool, schema);
	while (code == 0 && status == SHMETA_OK && !full) {
		struct place next = *at;

		code = session_begin(&s);
		if (code != 0)
			break;
		full = false;
		status = slice(&s, &list, &next, &full);
		/* too slow: once more, from where the last good slice ended */
		if (!session_end(&s, &code)) {
			list_drop(&list);
			status = SHMETA_OK;
			full = false;
			continue;
		}
		if (status == SHMETA_OK || status == SHMETA_END) {
			list_flush(&list);
			*at = next;
			out_progress(what, at->page.begun ? at->page.looked : list.printed);
		} else if (status < SHMETA_OK) {
			list_drop(&list);
			code = session_say(&s, status, what);
		} else if (list.printed == 0) {
			bool why = status == SHMETA_UNKNOWN && at->topic != NULL &&
			           quarantine_reason(tool, at->topic, at->of_partition ? (int64_t)at->partition : -1,
			                             NULL, reason);

			code = tool_error(tool, tool_exit_of(status), "%s: %s%s%s", what, shmeta_strerror(status),
			                  why ? ": " : "", why ? reason : "");
		}
	}
	if (code == 0) {
		(void)snprintf(key, sizeof(key), "%" PRIu64, at->number);
		list.incomplete = s.lacks;
		list_end(&list,
		         !full            ? NULL
		         : at->page.begun ? at->page.name
		                          : key,
		         at->page.begun ? at->page.name_bytes : strlen(key));
	}
	list_free(&list);
	if (code == 0 && !full)
		session_tell_lacks(&s);
	session_close(&s);
	return code;
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

struct topic_rows {
	struct list *list;
	bool *full;
};

static bool add_topic(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct topic_rows *rows = arg;

	if (list_full(rows->list)) {
		*rows->full = true;
		return false;
	}
	topic_row(rows->list, topic, fresh);
	return true;
}

static enum shmeta_status slice_topics(struct session *s, struct list *list, struct place *at, bool *ret_full)
{
	struct topic_rows rows = {list, ret_full};

	return page_topics(s, &at->page, add_topic, &rows);
}

int verb_ls_topics(struct tool *tool)
{
	struct place at = {0};

	if (tool->after != NULL) {
		at.page.begun = true;
		at.page.name_bytes = strlen(tool->after);
		if (at.page.name_bytes == 0 || at.page.name_bytes > SHMETA_NAME_MAX)
			return tool_error(tool, TOOL_USAGE, "--after: a topic's name has 1 to %d bytes",
			                  SHMETA_NAME_MAX);
		memcpy(at.page.name, tool->after, at.page.name_bytes);
	}
	return run_list(tool, "topics", "list of topics", slice_topics, &at);
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

static enum shmeta_status slice_partitions(struct session *s, struct list *list, struct place *at, bool *ret_full)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_partition p;
	enum shmeta_status status = shmeta_list_partitions(s->reader, at->topic, strlen(at->topic), NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_partition(iter, &p, &fresh)) == SHMETA_OK) {
		if (at->begun && p.partition_id <= at->number) {
			/* the way there is not the slice's time; ids are few */
			s->begun_ns = tool_monotonic_ns();
			continue;
		}
		if (list_full(list)) {
			*ret_full = true;
			break;
		}
		partition_row(list, &p, &fresh);
		at->begun = true;
		at->number = p.partition_id;
		if (session_due(s))
			break;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	return status;
}

int verb_ls_partitions(struct tool *tool)
{
	struct place at = {.topic = tool->argv[0], .begun = tool->after != NULL};
	char what[512];
	int code = parse_after(tool, UINT32_MAX, "a partition id", &at.number);

	if (code != 0)
		return code;
	(void)snprintf(what, sizeof(what), "topic %s", at.topic);
	return run_list(tool, "partitions", what, slice_partitions, &at);
}

static size_t segment_fields(struct field *fields, const struct shmeta_segment *g)
{
	size_t n = 0;

	fields[n++] = f_count("base_offset", g->base_offset);
	fields[n++] = f_count("end_offset", g->end_offset);
	fields[n++] = f_count("record_count", g->record_count);
	fields[n++] = f_bytes("size_bytes", g->size_bytes);
	fields[n++] = f_time("created_at_ms", g->created_at_ms);
	fields[n++] = f_time_known("min_timestamp_ms", g->min_timestamp_ms);
	fields[n++] = f_time_known("max_timestamp_ms", g->max_timestamp_ms);
	fields[n++] = f_text("id", g->id);
	fields[n++] = f_text("s3_bucket", g->s3_bucket);
	fields[n++] = f_text("s3_key", g->s3_key);
	return n;
}

/* Rows with a base beyond the last one. */
static enum shmeta_status slice_segments(struct session *s, struct list *list, struct place *at, bool *ret_full)
{
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment segment;
	char strings[STRINGS_BYTES];
	const bool behind = at->begun;
	const uint64_t after = at->number;
	enum shmeta_status status =
		shmeta_partition_open(s->reader, at->topic, strlen(at->topic), at->partition, &handle);

	if (status == SHMETA_OK)
		status = shmeta_list_segments(handle, behind ? after + 1 : 0, UINT64_MAX, NULL, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &segment)) == SHMETA_OK) {
		struct field fields[16];
		size_t n;

		if (behind && segment.base_offset <= after)
			continue; /* overlaps the offsets asked for, and was listed */
		if (list_full(list)) {
			*ret_full = true;
			break;
		}
		status = shmeta_segment_strings(handle, &segment, strings, sizeof(strings));
		if (status != SHMETA_OK)
			break;
		n = segment_fields(fields, &segment);
		for (size_t i = 0; i < n; i++)
			if (strstr(fields[i].name, "_timestamp_") != NULL)
				fields[i] = f_hidden(fields[i]);
		list_row(list, fields, n);
		at->begun = true;
		at->number = segment.base_offset;
		if (session_due(s))
			break;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	return status;
}

int verb_ls_segments(struct tool *tool)
{
	struct place at = {.topic = tool->argv[0], .of_partition = true, .begun = tool->after != NULL};
	char what[512];
	int code = parse_partition(tool, tool->argv[1], &at.partition);

	if (code == 0)
		code = parse_after(tool, (uint64_t)INT64_MAX, "an offset", &at.number);
	if (code != 0)
		return code;
	(void)snprintf(what, sizeof(what), "topic %s, partition %" PRIu32, at.topic, at.partition);
	return run_list(tool, "segments", what, slice_segments, &at);
}

/* ---- get, find ---- */

static bool is_answer(enum shmeta_status status)
{
	return status >= SHMETA_OK && status <= SHMETA_UNKNOWN;
}

int verb_get_topic(struct tool *tool)
{
	struct shmeta_topic topic;
	struct shmeta_topic_stats sums;
	struct shmeta_freshness fresh;
	char reason[TOOL_REASON_BYTES];
	struct field fields[24];
	enum shmeta_status status, sums_status;
	char *copy = NULL;
	size_t n = 0, bytes;
	struct session s;
	int code = session_open(tool, tool->tenant, &s);

	if (code != 0)
		return code;
	tool->argv[0] = (char *)(uintptr_t)session_topic(&s, tool->argv[0]);
	do {
		code = session_begin(&s);
		if (code != 0)
			goto out;
		memset(&fresh, 0, sizeof(fresh));
		sums_status = SHMETA_UNKNOWN;
		status = shmeta_get_topic(s.reader, tool->argv[0], strlen(tool->argv[0]), NULL, &topic, &fresh);
		if (status == SHMETA_OK) {
			sums_status =
				shmeta_topic_stats(s.reader, tool->argv[0], strlen(tool->argv[0]), NULL, &sums, NULL);
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
	else if (quarantine_reason(tool, tool->argv[0], -1, NULL, reason))
		fields[n++] = f_text("reason", (struct shmeta_str){reason, strlen(reason)});
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
	char reason[TOOL_REASON_BYTES];
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
	tool->argv[0] = (char *)(uintptr_t)session_topic(&s, tool->argv[0]);
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
	else if (quarantine_reason(tool, tool->argv[0], id, NULL, reason))
		fields[n++] = f_text("reason", (struct shmeta_str){reason, strlen(reason)});
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
	char reason[TOOL_REASON_BYTES];
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
	topic = session_topic(&s, topic);
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
		n += segment_fields(fields + n, &segment);
	} else if (head == SHMETA_OK) {
		fields[n++] = f_count("log_start_offset", partition.log_start_offset);
		fields[n++] = f_count("high_watermark", partition.high_watermark);
	}
	if (status != SHMETA_UNKNOWN)
		n += fresh_fields(fields + n, tool, &fresh, false);
	else if (quarantine_reason(tool, topic, id, &offset, reason))
		fields[n++] = f_text("reason", (struct shmeta_str){reason, strlen(reason)});
	out_record(tool, "find", fields, n);
out:
	session_close(&s);
	return code;
}
