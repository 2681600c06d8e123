/* SPDX-License-Identifier: Apache-2.0
 * A backend_sink that writes down what it is given (recorder.h). */
#include "tests/support/recorder.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void write_line(struct recorder *r, const char *fmt, ...)
{
	va_list args;
	int need;

	if (r->quiet)
		return;
	va_start(args, fmt);
	need = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (r->bytes + (size_t)need + 2 > r->capacity) {
		r->capacity = (r->bytes + (size_t)need + 2) * 2;
		r->text = realloc(r->text, r->capacity);
		if (r->text == NULL)
			abort();
	}
	va_start(args, fmt);
	vsnprintf(r->text + r->bytes, (size_t)need + 1, fmt, args);
	va_end(args);
	r->bytes += (size_t)need;
	r->text[r->bytes++] = '\n';
	r->text[r->bytes] = '\0';
}

static void out_of_order(struct recorder *r, const char *what)
{
	if (r->order_error[0] == '\0')
		snprintf(r->order_error, sizeof r->order_error,
		         "%s after topic '%.60s' partition %" PRId64 " base %" PRId64, what, r->topic, r->partition,
		         r->base);
}

static enum shmeta_status counted(struct recorder *r)
{
	uint64_t rows = r->topics + r->partitions + r->segments + r->agents + r->groups + r->offsets + r->leases;

	return r->stop_after != 0 && rows >= r->stop_after ? r->stop_status : SHMETA_OK;
}

#define S(s) (int)(s).bytes, (s).data != NULL ? (s).data : ""

static void write_map(struct recorder *r, const char *what, const char *owner, const struct shmeta_map *map)
{
	const unsigned char *at = map->data, *end = at + map->bytes;
	uint32_t lengths[2];

	while (at != NULL && at < end) {
		memcpy(lengths, at, sizeof lengths);
		at += sizeof lengths;
		write_line(r, "%s %s %.*s=%.*s", what, owner, (int)lengths[0], (const char *)at, (int)lengths[1],
		           (const char *)at + lengths[0]);
		at += lengths[0] + lengths[1];
	}
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct recorder *r = arg;
	char name[256], owner[80];
	int order;

	snprintf(name, sizeof name, "%.*s", S(topic->name));
	snprintf(owner, sizeof owner, "%.*s", S(tenant));
	order = strcmp(r->tenant, owner);
	if (order == 0)
		order = strcmp(r->topic, name);
	if (r->after_topics || (!r->in_key && r->topics > 0 && order >= 0))
		out_of_order(r, "a topic");
	memcpy(r->topic, name, sizeof name);
	memcpy(r->tenant, owner, sizeof owner);
	r->in_topic = 1;
	r->in_partition = 0;
	r->partition = r->base = -1;
	r->topics++;
	write_line(r,
	           "topic %s %s partitions=%" PRIu32 " retention=%s%" PRId64 " created=%" PRId64 " updated=%" PRId64
	           " policy=%.*s id=%" PRIu32,
	           owner, name, topic->partition_count, topic->has_retention ? "" : "none:", topic->retention_ms,
	           topic->created_at_ms, topic->updated_at_ms, S(topic->cleanup_policy), topic->topic_id);
	write_map(r, "config", name, &topic->config);
	return counted(r);
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct recorder *r = arg;

	if (!r->in_topic || (int64_t)partition->partition_id <= r->partition)
		out_of_order(r, "a partition");
	r->in_partition = 1;
	r->partition = partition->partition_id;
	r->base = -1;
	r->partitions++;
	write_line(r, "partition %s %s/%" PRIu32 " watermark=%" PRIu64 " created=%" PRId64 " updated=%" PRId64,
	           r->tenant, r->topic, partition->partition_id, partition->high_watermark, partition->created_at_ms,
	           partition->updated_at_ms);
	return counted(r);
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct recorder *r = arg;

	if (!r->in_partition || (int64_t)segment->partition_id != r->partition ||
	    (int64_t)segment->base_offset <= r->base)
		out_of_order(r, "a segment");
	r->base = (int64_t)segment->base_offset;
	r->segments++;
	write_line(r,
	           "segment %s %s/%" PRIu32 " %" PRIu64 "..%" PRIu64 " size=%" PRIu64 " records=%" PRIu32
	           " created=%" PRId64 " times=%" PRId64 "..%" PRId64 " id=%.*s bucket=%.*s key=%.*s",
	           r->tenant, r->topic, segment->partition_id, segment->base_offset, segment->end_offset,
	           segment->size_bytes, segment->record_count, segment->created_at_ms, segment->min_timestamp_ms,
	           segment->max_timestamp_ms, S(segment->id), S(segment->s3_bucket), S(segment->s3_key));
	return counted(r);
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct recorder *r = arg;

	r->after_topics = !r->in_key;
	r->agents++;
	write_line(r, "agent %.*s %.*s address=%.*s zone=%.*s group=%.*s heartbeat=%" PRId64 " started=%" PRId64,
	           S(tenant), S(agent->agent_id), S(agent->address), S(agent->availability_zone), S(agent->agent_group),
	           agent->last_heartbeat_ms, agent->started_at_ms);
	write_map(r, "metadata", "agent", &agent->metadata);
	return counted(r);
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct recorder *r = arg;

	r->after_topics = !r->in_key;
	r->groups++;
	write_line(r, "group %.*s %.*s created=%" PRId64 " updated=%" PRId64, S(tenant), S(group->group_id),
	           group->created_at_ms, group->updated_at_ms);
	return counted(r);
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct recorder *r = arg;

	r->after_topics = !r->in_key;
	r->offsets++;
	write_line(r,
	           "offset %.*s %.*s %.*s/%" PRIu32 " committed=%" PRIu64 " at=%" PRId64 " metadata=%s%.*s id=%" PRIu32,
	           S(tenant), S(offset->group_id), S(topic), offset->partition_id, offset->committed_offset,
	           offset->committed_at_ms, offset->has_metadata ? "" : "none", S(offset->metadata), offset->topic_id);
	return counted(r);
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct recorder *r = arg;

	r->after_topics = !r->in_key;
	r->leases++;
	write_line(r,
	           "lease %.*s %.*s/%" PRIu32 " leader=%.*s expires=%" PRId64 " acquired=%" PRId64 " epoch=%" PRIu64
	           " id=%" PRIu32,
	           S(tenant), S(topic), lease->partition_id, S(lease->leader_agent_id), lease->lease_expires_at_ms,
	           lease->acquired_at_ms, lease->epoch, lease->topic_id);
	return counted(r);
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct recorder *r = arg;

	r->quarantined++;
	write_line(r,
	           "quarantined %d %.*s topic=%.*s name=%.*s/%" PRIu32 " %" PRIu64 "..%" PRIu64 " unread=%" PRIu32
	           ": %s",
	           (int)row->cls, S(row->tenant), S(row->topic), S(row->name), row->partition_id, row->from, row->to,
	           row->unread, sentence);
}

static void write_key(struct recorder *r, const char *what, const struct backend_key *key, const char *rest)
{
	static const char *const classes[] = {
#define SHMETA_X(name, number, text, ttl_ms) text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};

	if (key->cls == SHMETA_CLASS_LIST || (key->cls > SHMETA_CLASS_SEGMENT && backend_key_is_class(key)))
		write_line(r, "%s %s%s", what, classes[key->cls], rest);
	else if (key->cls == SHMETA_CLASS_AGENT)
		write_line(r, "%s agent %.*s %.*s%s", what, S(key->tenant), S(key->name), rest);
	else if (key->cls == SHMETA_CLASS_OFFSET && key->topic.bytes == 0)
		write_line(r, "%s offset %.*s %.*s%s", what, S(key->tenant), S(key->name), rest);
	else if (key->cls == SHMETA_CLASS_OFFSET || key->cls == SHMETA_CLASS_LEASE)
		write_line(r, "%s %s %.*s %.*s %.*s/%" PRIu32 "%s", what, classes[key->cls], S(key->tenant),
		           S(key->name), S(key->topic), key->partition_id, rest);
	else if (key->cls == SHMETA_CLASS_TOPIC)
		write_line(r, "%s topic %.*s %.*s%s%s%s", what, S(key->tenant), S(key->topic),
		           key->with_segments ? " with_segments" : "", key->deleted ? " deleted" : "", rest);
	else if (key->cls == SHMETA_CLASS_PARTITION)
		write_line(r, "%s partition %.*s %.*s/%" PRIu32 "%s", what, S(key->tenant), S(key->topic),
		           key->partition_id, rest);
	else
		write_line(r, "%s segment %.*s %.*s/%" PRIu32 " %" PRIu64 "..%" PRIu64 "%s", what, S(key->tenant),
		           S(key->topic), key->partition_id, key->from, key->to, rest);
}

static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct recorder *r = arg;

	if (r->in_key)
		out_of_order(r, "a key's begin");
	r->in_key = 1;
	r->in_topic = r->in_partition = 0;
	r->partition = r->base = -1;
	if (key->cls == SHMETA_CLASS_PARTITION || key->cls == SHMETA_CLASS_SEGMENT)
		r->in_topic = 1; /* its topic is known: the key names it */
	snprintf(r->topic, sizeof r->topic, "%.*s", S(key->topic));
	snprintf(r->tenant, sizeof r->tenant, "%.*s", S(key->tenant));
	r->keys_begun++;
	write_key(r, "begin", key, "");
	return SHMETA_OK;
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct recorder *r = arg;
	char rest[600];

	if (!r->in_key)
		out_of_order(r, "a key's end");
	r->in_key = 0;
	r->keys_ended++;
	if (status < 0) {
		r->keys_failed++;
		r->key_failed = status;
		snprintf(r->key_sentence, sizeof r->key_sentence, "%s", sentence);
		snprintf(rest, sizeof rest, " failed %d: %s", (int)status, sentence);
	} else {
		snprintf(rest, sizeof rest, "%s", status == SHMETA_OK ? " found" : " absent");
	}
	write_key(r, "end", key, rest);
	return SHMETA_OK;
}

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct recorder *r = arg;

	r->changed++;
	write_key(r, "changed", key, "");
	return r->stop_after != 0 && r->changed >= r->stop_after ? r->stop_status : SHMETA_OK;
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct recorder *r = arg;

	if (done < r->progress_done || (total != 0 && done > total))
		out_of_order(r, "progress");
	r->progressed++;
	r->progress_done = done;
	r->progress_total = total;
	return SHMETA_OK;
}

void recorder_init(struct recorder *recorder)
{
	memset(recorder, 0, sizeof *recorder);
	recorder->stop_status = SHMETA_ERR_FULL;
	recorder->partition = recorder->base = -1;
	recorder->sink = (struct backend_sink){.arg = recorder,
	                                       .topic = on_topic,
	                                       .partition = on_partition,
	                                       .segment = on_segment,
	                                       .agent = on_agent,
	                                       .group = on_group,
	                                       .offset = on_offset,
	                                       .lease = on_lease,
	                                       .quarantine = on_quarantine,
	                                       .key_begin = on_key_begin,
	                                       .key_end = on_key_end,
	                                       .changed = on_changed,
	                                       .progress = on_progress};
}

void recorder_clear(struct recorder *recorder)
{
	struct recorder fresh;

	recorder_init(&fresh);
	fresh.sink = recorder->sink;
	fresh.text = recorder->text;
	fresh.capacity = recorder->capacity;
	fresh.stop_after = recorder->stop_after;
	fresh.stop_status = recorder->stop_status;
	fresh.quiet = recorder->quiet;
	*recorder = fresh;
	if (recorder->text != NULL)
		recorder->text[0] = '\0';
}

void recorder_free(struct recorder *recorder)
{
	free(recorder->text);
	recorder->text = NULL;
	recorder->bytes = recorder->capacity = 0;
}

const char *recorder_text(const struct recorder *recorder)
{
	return recorder->text != NULL ? recorder->text : "";
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *recorder_sorted(const struct recorder *recorder)
{
	char *copy = strdup(recorder_text(recorder)), *sorted = malloc(recorder->bytes + 1), *at = sorted, *save = NULL;
	const char **lines = malloc((recorder->bytes + 1) * sizeof *lines);
	size_t count = 0;

	if (copy == NULL || sorted == NULL || lines == NULL)
		abort();
	for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		lines[count++] = line;
	qsort(lines, count, sizeof *lines, by_text);
	for (size_t i = 0; i < count; i++)
		at += sprintf(at, "%s\n", lines[i]);
	*at = '\0';
	free(lines);
	free(copy);
	return sorted;
}

int recorder_has(const struct recorder *recorder, const char *line_part)
{
	return strstr(recorder_text(recorder), line_part) != NULL;
}
