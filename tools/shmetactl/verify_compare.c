/* SPDX-License-Identifier: Apache-2.0
 * verify: the sink that compares what the source's engine reads with the store. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "tools/shmetactl/verify_contents.h"

static bool same_map(struct shmeta_map a, struct shmeta_map b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

bool verify_use_tenant(struct verify *v, struct shmeta_str tenant)
{
	char *name;

	if (v->tenant != NULL && strlen(v->tenant) == tenant.bytes && memcmp(v->tenant, tenant.data, tenant.bytes) == 0)
		return true;
	for (size_t i = 0; i < v->sessions; i++) {
		if (strlen(v->session[i].tenant) == tenant.bytes &&
		    memcmp(v->session[i].tenant, tenant.data, tenant.bytes) == 0) {
			v->tenant = v->session[i].tenant;
			v->s = &v->session[i].s;
			return true;
		}
	}
	name = text_of(tenant);
	v->session = tool_grow(v->session, (v->sessions + 1) * sizeof(*v->session));
	v->code = session_open_long(v->tool, name, &v->session[v->sessions].s);
	if (v->code != 0) {
		free(name);
		return false;
	}
	v->session[v->sessions].tenant = name;
	v->tenant = name;
	v->s = &v->session[v->sessions].s;
	v->sessions++;
	return true;
}

bool verify_look_begin(struct verify *v, struct look *look)
{
	*look = (struct look){.v = v, .found = v->found.count};
	v->code = session_begin(v->s);
	return v->code == 0;
}

bool verify_look_end(struct look *look)
{
	if (session_end(look->v->s, &look->v->code))
		return true;
	findings_cut(&look->v->found, look->found);
	return false;
}

/* "topic T, partition P, segment at B" for a sentence. */
static const char *place_of(const struct verify *v, uint64_t base)
{
	static char text[512];

	(void)snprintf(text, sizeof(text), "topic %s, partition %" PRIu32 ", segment at %" PRIu64, v->topic,
	               v->partition_id, base);
	return text;
}

/* A difference is the same in two looks when the store's value is: the source may move on, but a
 * store that follows does, too. */
__attribute__((format(printf, 2, 3))) static void key_of_last(struct verify *v, const char *fmt, ...)
{
	char key[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	v->found.row[v->found.count - 1].key = tool_copy(key, strlen(key));
}

bool verify_pairs_differ(struct verify *v, enum shmeta_class cls, const char *where, const struct pair *pairs,
                         size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (pairs[i].source == pairs[i].store)
			continue;
		differs(v, cls, v->tenant, v->topic, "%s: %s is %" PRId64 " in the source, %" PRId64 " in the store",
		        where, pairs[i].name, pairs[i].source, pairs[i].store);
		key_of_last(v, "%s: %s %" PRId64, where, pairs[i].name, pairs[i].store);
		return true;
	}
	return false;
}

static bool text_differs(struct verify *v, enum shmeta_class cls, const char *where, const char *what,
                         struct shmeta_str source, struct shmeta_str store)
{
	if (str_equal(source, store))
		return false;
	differs(v, cls, v->tenant, v->topic, "%s: %s is '%.200s' in the source, '%.200s' in the store", where, what,
	        out_safe(source.data, source.bytes), out_safe(store.data, store.bytes));
	key_of_last(v, "%s: %s '%.200s'", where, what, out_safe(store.data, store.bytes));
	return true;
}

static void compare_row(struct verify *v, const struct shmeta_segment *want, const struct shmeta_segment *have)
{
	const enum shmeta_class cls = SHMETA_CLASS_SEGMENT;
	const struct pair numbers[] = {
		{"end_offset", (int64_t)want->end_offset, (int64_t)have->end_offset},
		{"record_count", want->record_count, have->record_count},
		{"size_bytes", (int64_t)want->size_bytes, (int64_t)have->size_bytes},
		{"created_at", want->created_at_ms, have->created_at_ms},
		{"min_timestamp", want->min_timestamp_ms, have->min_timestamp_ms},
		{"max_timestamp", want->max_timestamp_ms, have->max_timestamp_ms},
	};

	if (verify_pairs_differ(v, cls, place_of(v, want->base_offset), numbers, sizeof(numbers) / sizeof(numbers[0])))
		return;
	if (!str_equal(want->id, have->id))
		(void)text_differs(v, cls, place_of(v, want->base_offset), "id", want->id, have->id);
	else if (!str_equal(want->s3_bucket, have->s3_bucket))
		(void)text_differs(v, cls, place_of(v, want->base_offset), "s3_bucket", want->s3_bucket,
		                   have->s3_bucket);
	else if (!str_equal(want->s3_key, have->s3_key))
		(void)text_differs(v, cls, place_of(v, want->base_offset), "s3_key", want->s3_key, have->s3_key);
}

static void missing_row(struct verify *v, const struct shmeta_segment *want)
{
	differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic, "%s: the source has it, the store does not",
	        place_of(v, want->base_offset));
}

/* One snapshot's worth of the store's rows beyond *last against the source's from *at on. END: all
 * were seen. */
static enum shmeta_status compare_slice(struct verify *v, bool final, size_t *at, bool *has_last, uint64_t *last)
{
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment have;
	uint64_t after = *last;
	bool behind = *has_last;
	enum shmeta_status status =
		shmeta_partition_open(v->s->reader, v->topic, strlen(v->topic), v->partition_id, &handle);

	if (status == SHMETA_OK)
		status = shmeta_list_segments(handle, behind ? after + 1 : 0, UINT64_MAX, NULL, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &have)) == SHMETA_OK) {
		if (behind && have.base_offset <= after)
			continue;
		if (!final && have.base_offset > v->rows[v->row_count - 1].base_offset) {
			status = SHMETA_END;
			break;
		}
		for (; *at < v->row_count && v->rows[*at].base_offset < have.base_offset; (*at)++)
			missing_row(v, &v->rows[*at]);
		if (*at < v->row_count && v->rows[*at].base_offset == have.base_offset) {
			status = shmeta_segment_strings(handle, &have, strings, sizeof(strings));
			if (status != SHMETA_OK)
				break;
			compare_row(v, &v->rows[(*at)++], &have);
		} else {
			differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic,
			        "%s: the store has it, the source does not", place_of(v, have.base_offset));
		}
		*has_last = true;
		*last = have.base_offset;
		if (session_due(v->s))
			break;
	}
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	return status;
}

void verify_drop_rows(struct verify *v)
{
	while (v->row_count > 0)
		free(v->row_strings[--v->row_count]);
}

/* The collected rows against the store's; final: and nothing may follow. */
static void compare_rows(struct verify *v, bool final)
{
	enum shmeta_status status = SHMETA_OK;
	size_t at = 0, next;
	struct look look;

	if (!v->partition_in_store || (v->row_count == 0 && !final)) {
		verify_drop_rows(v);
		return;
	}
	while (v->code == 0 && status == SHMETA_OK) {
		bool has_last = v->has_last;
		uint64_t last = v->last;

		if (!verify_look_begin(v, &look))
			return;
		next = at;
		status = compare_slice(v, final, &next, &has_last, &last);
		if (!verify_look_end(&look)) {
			status = SHMETA_OK;
			continue;
		}
		at = next;
		v->has_last = has_last;
		v->last = last;
	}
	if (status == SHMETA_END) {
		for (; at < v->row_count; at++)
			missing_row(v, &v->rows[at]);
		if (v->row_count > 0) {
			v->has_last = true;
			v->last = v->rows[v->row_count - 1].base_offset;
		}
	} else if (v->code == 0) {
		differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic, "topic %s, partition %" PRIu32 ": segments: %s",
		        v->topic, v->partition_id, shmeta_strerror(status));
		v->partition_in_store = false;
	}
	verify_drop_rows(v);
}

static void end_partition(struct verify *v)
{
	if (v->partition_open)
		compare_rows(v, true);
	v->partition_open = false;
}

/* Partitions that the store has beside those that the source gave (ascending). */
static void compare_partition_ids(struct verify *v)
{
	struct shmeta_iter *iter;
	struct shmeta_partition p;
	enum shmeta_status status;
	struct look look;

	do {
		size_t at = 0;

		if (!verify_look_begin(v, &look))
			return;
		iter = NULL;
		status = shmeta_list_partitions(v->s->reader, v->topic, strlen(v->topic), NULL, &iter);
		while (status == SHMETA_OK && (status = shmeta_next_partition(iter, &p, NULL)) == SHMETA_OK) {
			while (at < v->partition_ids_count && v->partition_ids[at] < p.partition_id)
				at++; /* missing in the store: said when its row came */
			if (at < v->partition_ids_count && v->partition_ids[at] == p.partition_id)
				at++;
			else
				differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
				        "topic %s, partition %" PRIu32 ": the store has it, the source does not",
				        v->topic, p.partition_id);
		}
		shmeta_iter_free(iter);
		if (status < SHMETA_OK)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic, "topic %s: partitions: %s", v->topic,
			        shmeta_strerror(status));
	} while (!verify_look_end(&look) && v->code == 0);
}

void verify_end_topic(struct verify *v)
{
	end_partition(v);
	if (v->topic != NULL && v->topic_in_store && v->code == 0)
		compare_partition_ids(v);
	free(v->topic);
	v->topic = NULL;
	v->partition_ids_count = 0;
}

void verify_begin_partition(struct verify *v, struct shmeta_str topic, bool segments)
{
	verify_end_rows(v);
	v->topic = text_of(topic);
	v->topic_in_store = true; /* the partition says it */
	v->rows_alone = !segments;
}

void verify_end_rows(struct verify *v)
{
	end_partition(v);
	free(v->topic);
	v->topic = NULL;
	v->partition_ids_count = 0;
	v->rows_alone = false;
}

static void compare_topic(struct verify *v, const struct shmeta_topic *want, const struct shmeta_topic *have)
{
	const struct pair numbers[] = {
		{"partition_count", want->partition_count, have->partition_count},
		{"has_retention", want->has_retention != 0, have->has_retention != 0},
		{"retention_ms", want->has_retention != 0 ? want->retention_ms : 0,
	         have->has_retention != 0 ? have->retention_ms : 0},
		{"created_at", want->created_at_ms, have->created_at_ms},
		{"updated_at", want->updated_at_ms, have->updated_at_ms},
	};
	char where[SHMETA_NAME_MAX + 16];

	(void)snprintf(where, sizeof(where), "topic %s", v->topic);
	if (verify_pairs_differ(v, SHMETA_CLASS_TOPIC, where, numbers, sizeof(numbers) / sizeof(numbers[0])))
		return;
	if (text_differs(v, SHMETA_CLASS_TOPIC, where, "cleanup_policy", want->cleanup_policy, have->cleanup_policy))
		return;
	if (!same_map(want->config, have->config))
		differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic, "%s: config differs", where);
}

/* A bounded store need not have it. */
static bool may_lack(const struct verify *v, enum shmeta_class cls, enum shmeta_status status)
{
	return status == SHMETA_UNKNOWN && (v->incomplete >> cls & 1) != 0;
}

static enum shmeta_status sink_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *want)
{
	struct verify *v = arg;
	struct shmeta_topic have;
	struct look look;
	enum shmeta_status status;

	verify_end_topic(v);
	if (v->code != 0 || !verify_use_tenant(v, tenant))
		return verify_stop(v);
	v->topics++;
	v->topic = text_of(want->name);
	do {
		if (!verify_look_begin(v, &look))
			return verify_stop(v);
		status = shmeta_get_topic(v->s->reader, want->name.data, want->name.bytes, NULL, &have, NULL);
		if (status == SHMETA_OK)
			compare_topic(v, want, &have);
		else if (!may_lack(v, SHMETA_CLASS_TOPIC, status))
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic,
			        "topic %s: the source has it, the store says: %s", v->topic, shmeta_strerror(status));
	} while (!verify_look_end(&look) && v->code == 0);
	v->topic_in_store = status == SHMETA_OK;
	v->topics -= may_lack(v, SHMETA_CLASS_TOPIC, status);
	if (status == SHMETA_OK) {
		if (v->seen_count == v->seen_capacity) {
			v->seen_capacity = v->seen_capacity > 0 ? v->seen_capacity * 2 : 1024;
			v->seen = tool_grow(v->seen, v->seen_capacity * sizeof(*v->seen));
		}
		v->seen[v->seen_count++] = have.topic_id;
	}
	return verify_stop(v);
}

static enum shmeta_status sink_partition(void *arg, const struct shmeta_partition *want)
{
	struct verify *v = arg;
	char where[SHMETA_NAME_MAX + 32];
	struct shmeta_partition have;
	struct look look;
	enum shmeta_status status;

	end_partition(v);
	if (v->code != 0 || v->topic == NULL)
		return verify_stop(v);
	v->partitions++;
	v->partition_open = true;
	v->partition_in_store = false;
	v->partition_id = want->partition_id;
	v->has_last = false;
	v->last = 0;
	if (!v->topic_in_store) {
		v->partitions -= v->incomplete != 0;
		return SHMETA_OK; /* said once for the topic */
	}
	if (v->partition_ids_count == v->partition_ids_capacity) {
		v->partition_ids_capacity = v->partition_ids_capacity > 0 ? v->partition_ids_capacity * 2 : 1024;
		v->partition_ids = tool_grow(v->partition_ids, v->partition_ids_capacity * sizeof(*v->partition_ids));
	}
	v->partition_ids[v->partition_ids_count++] = want->partition_id;
	do {
		if (!verify_look_begin(v, &look))
			return verify_stop(v);
		status = shmeta_get_partition_named(v->s->reader, v->topic, strlen(v->topic), want->partition_id, NULL,
		                                    &have, NULL);
		(void)snprintf(where, sizeof(where), "topic %s, partition %" PRIu32, v->topic, want->partition_id);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"high_watermark", (int64_t)want->high_watermark, (int64_t)have.high_watermark},
				{"created_at", want->created_at_ms, have.created_at_ms},
				{"updated_at", want->updated_at_ms, have.updated_at_ms},
			};

			(void)verify_pairs_differ(v, SHMETA_CLASS_PARTITION, where, numbers,
			                          sizeof(numbers) / sizeof(numbers[0]));
		} else if (!may_lack(v, SHMETA_CLASS_PARTITION, status)) {
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
			        "%s: the source has it, the store says: %s", where, shmeta_strerror(status));
		}
	} while (!verify_look_end(&look) && v->code == 0);
	v->partition_in_store = status == SHMETA_OK && !v->rows_alone;
	v->partitions -= may_lack(v, SHMETA_CLASS_PARTITION, status);
	return verify_stop(v);
}

static enum shmeta_status sink_segment(void *arg, const struct shmeta_segment *want)
{
	struct verify *v = arg;
	struct shmeta_segment *row = &v->rows[v->row_count];
	char *p;

	v->segments += v->partition_in_store || v->incomplete == 0;
	if (!v->partition_open || !v->partition_in_store)
		return verify_stop(v);
	p = tool_alloc(want->id.bytes + want->s3_bucket.bytes + want->s3_key.bytes + 1);
	v->row_strings[v->row_count] = p;
	*row = *want;
	for (struct shmeta_str *s = &row->id; s <= &row->s3_key; s++) {
		if (s->bytes > 0)
			memcpy(p, s->data, s->bytes);
		s->data = p;
		p += s->bytes;
	}
	if (++v->row_count == VERIFY_ROWS)
		compare_rows(v, false);
	return verify_stop(v);
}

static void compare_agent(struct verify *v, const char *where, const struct shmeta_agent *want,
                          const struct shmeta_agent *have)
{
	const struct pair numbers[] = {
		{"last_heartbeat", want->last_heartbeat_ms, have->last_heartbeat_ms},
		{"started_at", want->started_at_ms, have->started_at_ms},
	};
	const enum shmeta_class cls = SHMETA_CLASS_AGENT;

	if (verify_pairs_differ(v, cls, where, numbers, 2) ||
	    text_differs(v, cls, where, "address", want->address, have->address) ||
	    text_differs(v, cls, where, "availability_zone", want->availability_zone, have->availability_zone) ||
	    text_differs(v, cls, where, "agent_group", want->agent_group, have->agent_group))
		return;
	if (!same_map(want->metadata, have->metadata))
		differs(v, cls, v->tenant, NULL, "%s: metadata differs", where);
}

static void count_quarantined(struct verify *v, const char *sentence)
{
	if (v->again)
		return;
	if (v->quarantined < sizeof(v->sentences) / sizeof(v->sentences[0]))
		(void)snprintf(v->sentences[v->quarantined], sizeof(v->sentences[0]), "%s", sentence);
	v->quarantined++;
}

/* The source has the row; the store's answer is not that. UNKNOWN: it is quarantined there, as the
 * engine alone cannot tell: its topic is not served, or a record of it would be too large. */
static void not_found(struct verify *v, enum shmeta_class cls, const char *where, uint64_t *count,
                      enum shmeta_status status)
{
	char sentence[256];

	if (may_lack(v, cls, status)) {
		(*count)--;
		return;
	}
	if (status == SHMETA_UNKNOWN) {
		(*count)--; /* not among those that the store is to have */
		(void)snprintf(sentence, sizeof(sentence), "%.180s: the store cannot serve it", where);
		count_quarantined(v, sentence);
		return;
	}
	differs(v, cls, v->tenant, NULL, "%s: the source has it, the store says: %s", where, shmeta_strerror(status));
}

static enum shmeta_status sink_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *want)
{
	struct verify *v = arg;
	char where[SHMETA_STRING_MAX + 16];
	struct shmeta_agent have;
	struct look look;
	enum shmeta_status status;

	verify_end_topic(v);
	if (v->code != 0 || !verify_use_tenant(v, tenant))
		return verify_stop(v);
	v->agents++;
	do {
		if (!verify_look_begin(v, &look))
			return verify_stop(v);
		status = shmeta_get_agent(v->s->reader, want->agent_id.data, want->agent_id.bytes, NULL, &have, NULL);
		(void)snprintf(where, sizeof(where), "agent %s", out_safe(want->agent_id.data, want->agent_id.bytes));
		if (status == SHMETA_OK)
			compare_agent(v, where, want, &have);
		else
			not_found(v, SHMETA_CLASS_AGENT, where, &v->agents, status);
	} while (!verify_look_end(&look) && v->code == 0);
	return verify_stop(v);
}

void verify_forget_groups(struct verify *v)
{
	for (uint64_t i = 0; v->group != NULL && i < v->groups; i++)
		free(v->group[i].id);
	v->groups = 0;
}

static enum shmeta_status sink_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *want)
{
	struct verify *v = arg;

	struct group_row *row;

	verify_end_topic(v);
	if (v->code != 0 || !verify_use_tenant(v, tenant))
		return verify_stop(v);
	if (v->groups == v->group_capacity) {
		v->group_capacity = v->group_capacity > 0 ? v->group_capacity * 2 : 64;
		v->group = tool_grow(v->group, v->group_capacity * sizeof(*v->group));
	}
	row = &v->group[v->groups++];
	v->groups_sorted = false;
	row->tenant = v->tenant;
	row->id = text_of(want->group_id);
	row->created_at_ms = want->created_at_ms;
	row->updated_at_ms = want->updated_at_ms;
	row->in_store = false;
	return SHMETA_OK;
}

static int by_group(const void *a, const void *b)
{
	const struct group_row *x = a, *y = b;
	int order = strcmp(x->tenant, y->tenant);

	return order != 0 ? order : strcmp(x->id, y->id);
}

struct group_row *verify_find_group(struct verify *v, char *group)
{
	const struct group_row key = {.tenant = v->tenant, .id = group};

	if (v->groups > 0 && !v->groups_sorted)
		qsort(v->group, v->groups, sizeof(*v->group), by_group);
	v->groups_sorted = true;
	return v->groups > 0 ? bsearch(&key, v->group, v->groups, sizeof(key), by_group) : NULL;
}

static bool has_group(struct verify *v, char *group)
{
	const struct group_row *last = v->groups > 0 ? &v->group[v->groups - 1] : NULL;

	/* Where each group is followed by its offsets, nothing is sorted anew for each. */
	if (last != NULL && strcmp(last->tenant, v->tenant) == 0 && strcmp(last->id, group) == 0)
		return true;
	return verify_find_group(v, group) != NULL;
}

static enum shmeta_status sink_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                      const struct shmeta_committed_offset *want)
{
	struct verify *v = arg;
	struct shmeta_committed_offset have;
	struct look look;
	enum shmeta_status status = SHMETA_ERR_SYSTEM;
	char *group, *name, where[SHMETA_STRING_MAX + SHMETA_NAME_MAX + 64];

	verify_end_topic(v);
	if (v->code != 0 || !verify_use_tenant(v, tenant))
		return verify_stop(v);
	v->offsets++;
	group = text_of(want->group_id);
	name = text_of(topic);
	(void)snprintf(where, sizeof(where), "committed offset of group %s, topic %s, partition %" PRIu32,
	               out_safe(want->group_id.data, want->group_id.bytes), out_safe(topic.data, topic.bytes),
	               want->partition_id);
	do {
		if (!verify_look_begin(v, &look))
			break;
		status = shmeta_get_committed_offset(v->s->reader, group, strlen(group), name, strlen(name),
		                                     want->partition_id, NULL, &have, NULL);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"committed_offset", (int64_t)want->committed_offset, (int64_t)have.committed_offset},
				{"committed_at", want->committed_at_ms, have.committed_at_ms},
				{"has_metadata", want->has_metadata != 0, have.has_metadata != 0},
			};

			if (!verify_pairs_differ(v, SHMETA_CLASS_OFFSET, where, numbers, 3) && want->has_metadata != 0)
				(void)text_differs(v, SHMETA_CLASS_OFFSET, where, "metadata", want->metadata,
				                   have.metadata);
		} else {
			not_found(v, SHMETA_CLASS_OFFSET, where, &v->offsets, status);
		}
	} while (!verify_look_end(&look) && v->code == 0);
	v->groupless += status == SHMETA_OK && !has_group(v, group);
	free(group);
	free(name);
	return verify_stop(v);
}

static enum shmeta_status sink_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_lease *want)
{
	struct verify *v = arg;
	char where[SHMETA_NAME_MAX + 64];
	struct shmeta_lease have;
	struct look look;
	enum shmeta_status status;

	verify_end_topic(v);
	if (v->code != 0 || !verify_use_tenant(v, tenant))
		return verify_stop(v);
	v->leases++;
	do {
		if (!verify_look_begin(v, &look))
			return verify_stop(v);
		status = shmeta_get_lease(v->s->reader, topic.data, topic.bytes, want->partition_id, TOOL_BEGINNING_MS,
		                          NULL, &have, NULL);
		(void)snprintf(where, sizeof(where), "lease of topic %s, partition %" PRIu32,
		               out_safe(topic.data, topic.bytes), want->partition_id);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"epoch", (int64_t)want->epoch, (int64_t)have.epoch},
				{"lease_expires_at", want->lease_expires_at_ms, have.lease_expires_at_ms},
				{"acquired_at", want->acquired_at_ms, have.acquired_at_ms},
			};

			if (!verify_pairs_differ(v, SHMETA_CLASS_LEASE, where, numbers, 3))
				(void)text_differs(v, SHMETA_CLASS_LEASE, where, "leader_agent_id",
				                   want->leader_agent_id, have.leader_agent_id);
		} else {
			not_found(v, SHMETA_CLASS_LEASE, where, &v->leases, status);
		}
	} while (!verify_look_end(&look) && v->code == 0);
	return verify_stop(v);
}

static void sink_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)row;
	count_quarantined(arg, sentence);
}

static enum shmeta_status sink_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	struct verify *v = arg;
	uint64_t now = tool_monotonic_ns();

	if (isatty(STDERR_FILENO) != 1 || now - v->progress_shown_ns < 100000000u)
		return verify_stop(v);
	v->progress_shown_ns = now;
	if (rows_total > 0)
		(void)fprintf(stderr, "\rcomparing: %3.0f %% ", 100.0 * (double)rows_done / (double)rows_total);
	else
		(void)fprintf(stderr, "\rcomparing: %s rows ", out_count(rows_done));
	return verify_stop(v);
}

const struct backend_sink verify_sink = {
	.topic = sink_topic,
	.partition = sink_partition,
	.segment = sink_segment,
	.agent = sink_agent,
	.group = sink_group,
	.offset = sink_offset,
	.lease = sink_lease,
	.quarantine = sink_quarantine,
	.progress = sink_progress,
};
