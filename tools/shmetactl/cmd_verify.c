/* SPDX-License-Identifier: Apache-2.0
 * verify: is the store sound (verify_structure.c), and does it hold what the source holds?
 *
 * Everything that the source's own engine reads from it is compared with the store, each topic as it comes. A live source moves on
 * while it is read, so what differs is read and compared again until it agrees or the time is over; what still differs then, the
 * store being as it was before, is reported. With the writer dead nothing will follow, so the first look decides.
 *
 * The only file of the tools that knows the engines (docs/decisions/0011-verify-reads-the-source.md). */
#include "tools/shmetactl/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "base/str.h"
#include "tools/shmetactl/paging.h"

enum {
	ROWS = 2048,         /* source segments compared at a time */
	AGAIN_TOPICS = 2000, /* differing topics that are worth a second look */
	AGAIN_PAUSE_MS = 200
};

/* ---- what was found ----------------------------------------------------------------------------------------------------- */

/* Move those from `from` on to *ret, which is emptied first. */
static void findings_take(struct findings *f, size_t from, struct findings *ret)
{
	size_t n = f->count - from;

	findings_cut(ret, 0);
	if (n > ret->capacity) {
		ret->row = tool_grow(ret->row, n * sizeof(*ret->row));
		ret->capacity = n;
	}
	if (n > 0)
		memcpy(ret->row, f->row + from, n * sizeof(*ret->row));
	ret->count = n;
	f->count = from;
}

static int by_key(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;

	return strcmp(x->key != NULL ? x->key : x->text, y->key != NULL ? y->key : y->text);
}

/* Of those from `from` on keep what was found before, too: a row that moves while it is looked at, and whose cache is always the
 * same few milliseconds behind, differs in another way each time. */
static void findings_keep(struct findings *f, size_t from, struct findings *before)
{
	size_t kept = from;

	if (before->count > 0)
		qsort(before->row, before->count, sizeof(*before->row), by_key);
	for (size_t i = from; i < f->count; i++) {
		struct finding row = f->row[i];

		if (before->count > 0 && bsearch(&row, before->row, before->count, sizeof(row), by_key) != NULL) {
			f->row[kept++] = row;
			continue;
		}
		free(row.tenant);
		free(row.topic);
		free(row.text);
		free(row.key);
	}
	f->count = kept;
}

struct group_row {
	const char *tenant; /* the session's */
	char *id;
	int64_t created_at_ms, updated_at_ms;
	bool in_store;
};

struct verify {
	struct tool *tool;
	struct pages pages;
	struct findings found;
	uint64_t structure_problems;
	bool contents_checked, again;

	/* The pass that is running. */
	struct {
		char *tenant;
		struct session s;
	} * session;
	size_t sessions;
	struct session *s; /* of the tenant whose rows come */
	const char *tenant;
	char *topic; /* whose rows come; NULL: none */
	bool topic_in_store, partition_open, partition_in_store;
	uint32_t partition_id;
	uint64_t partition_hw;
	uint32_t *partition_ids; /* of the topic, as the source gave them */
	size_t partition_ids_count, partition_ids_capacity;
	uint32_t *seen; /* topic ids that the source has */
	size_t seen_count, seen_capacity;
	struct shmeta_segment rows[ROWS];
	char *row_strings[ROWS];
	size_t row_count;
	bool has_last; /* the base of the last row compared */
	uint64_t last;
	int code; /* an error that ends the pass, said already */

	uint64_t topics, partitions, segments, agents, groups, offsets, leases, quarantined;
	struct group_row *group; /* as the source gave them; v->groups of them */
	size_t group_capacity;
	char sentences[4][256];
	uint64_t progress_shown_ns;
};

#define differs(v, ...) findings_add(&(v)->found, __VA_ARGS__)

/* ---- contents: the sink that compares ----------------------------------------------------------------------------------- */

static char *text_of(struct shmeta_str s)
{
	return tool_copy(s.data, s.bytes);
}

static bool same_map(struct shmeta_map a, struct shmeta_map b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* The session of a tenant, opened when its first row comes. NULL: v->code says why. */
static bool use_tenant(struct verify *v, struct shmeta_str tenant)
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

/* A snapshot in which something is looked up and compared. Findings of one that took too long are taken back, and the caller
 * looks again. */
struct look {
	struct verify *v;
	size_t found;
};

static bool look_begin(struct verify *v, struct look *look)
{
	*look = (struct look){.v = v, .found = v->found.count};
	v->code = session_begin(v->s);
	return v->code == 0;
}

/* true: the look counts. false: again, or v->code says why not. */
static bool look_end(struct look *look)
{
	if (session_end(look->v->s, &look->v->code))
		return true;
	findings_cut(&look->v->found, look->found);
	return false;
}

static enum shmeta_status stop(struct verify *v)
{
	return v->code != 0 ? SHMETA_ERR_SYSTEM : SHMETA_OK;
}

/* "topic T, partition P, segment at B" for a sentence. */
static const char *place_of(const struct verify *v, uint64_t base)
{
	static char text[512];

	(void)snprintf(text, sizeof(text), "topic %s, partition %" PRIu32 ", segment at %" PRIu64, v->topic,
	               v->partition_id, base);
	return text;
}

/* A difference is the same in two looks when the store's value is: the source may move on, but a store that follows does, too. */
__attribute__((format(printf, 2, 3))) static void key_of_last(struct verify *v, const char *fmt, ...)
{
	char key[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	v->found.row[v->found.count - 1].key = tool_copy(key, strlen(key));
}

struct pair {
	const char *name;
	int64_t source, store;
};

/* One sentence a row: the first field that differs. */
static bool pairs_differ(struct verify *v, enum shmeta_class cls, const char *where, const struct pair *pairs,
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

	if (pairs_differ(v, cls, place_of(v, want->base_offset), numbers, sizeof(numbers) / sizeof(numbers[0])))
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

/* One snapshot's worth of the store's rows beyond *last against the source's from *at on. END: all were seen. */
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
		status = shmeta_list_segments(handle, behind ? after + 1 : 0, UINT64_MAX, &iter);
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

static void drop_rows(struct verify *v)
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
		drop_rows(v);
		return;
	}
	while (v->code == 0 && status == SHMETA_OK) {
		bool has_last = v->has_last;
		uint64_t last = v->last;

		if (!look_begin(v, &look))
			return;
		next = at;
		status = compare_slice(v, final, &next, &has_last, &last);
		if (!look_end(&look)) {
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
	drop_rows(v);
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

		if (!look_begin(v, &look))
			return;
		iter = NULL;
		status = shmeta_list_partitions(v->s->reader, v->topic, strlen(v->topic), &iter);
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
	} while (!look_end(&look) && v->code == 0);
}

static void end_topic(struct verify *v)
{
	end_partition(v);
	if (v->topic != NULL && v->topic_in_store && v->code == 0)
		compare_partition_ids(v);
	free(v->topic);
	v->topic = NULL;
	v->partition_ids_count = 0;
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
	if (pairs_differ(v, SHMETA_CLASS_TOPIC, where, numbers, sizeof(numbers) / sizeof(numbers[0])))
		return;
	if (text_differs(v, SHMETA_CLASS_TOPIC, where, "cleanup_policy", want->cleanup_policy, have->cleanup_policy))
		return;
	if (!same_map(want->config, have->config))
		differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic, "%s: config differs", where);
}

static enum shmeta_status sink_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *want)
{
	struct verify *v = arg;
	struct shmeta_topic have;
	struct look look;
	enum shmeta_status status;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->topics++;
	v->topic = text_of(want->name);
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_topic(v->s->reader, want->name.data, want->name.bytes, NULL, &have, NULL);
		if (status == SHMETA_OK)
			compare_topic(v, want, &have);
		else
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic,
			        "topic %s: the source has it, the store says: %s", v->topic, shmeta_strerror(status));
	} while (!look_end(&look) && v->code == 0);
	v->topic_in_store = status == SHMETA_OK;
	if (status == SHMETA_OK) {
		if (v->seen_count == v->seen_capacity) {
			v->seen_capacity = v->seen_capacity > 0 ? v->seen_capacity * 2 : 1024;
			v->seen = tool_grow(v->seen, v->seen_capacity * sizeof(*v->seen));
		}
		v->seen[v->seen_count++] = have.topic_id;
	}
	return stop(v);
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
		return stop(v);
	v->partitions++;
	v->partition_open = true;
	v->partition_in_store = false;
	v->partition_id = want->partition_id;
	v->has_last = false;
	v->last = 0;
	if (!v->topic_in_store)
		return SHMETA_OK; /* said once for the topic */
	if (v->partition_ids_count == v->partition_ids_capacity) {
		v->partition_ids_capacity = v->partition_ids_capacity > 0 ? v->partition_ids_capacity * 2 : 1024;
		v->partition_ids = tool_grow(v->partition_ids, v->partition_ids_capacity * sizeof(*v->partition_ids));
	}
	v->partition_ids[v->partition_ids_count++] = want->partition_id;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_partition_named(v->s->reader, v->topic, strlen(v->topic), want->partition_id, NULL,
		                                    &have, NULL);
		(void)snprintf(where, sizeof(where), "topic %s, partition %" PRIu32, v->topic, want->partition_id);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"high_watermark", (int64_t)want->high_watermark, (int64_t)have.high_watermark},
				{"created_at", want->created_at_ms, have.created_at_ms},
				{"updated_at", want->updated_at_ms, have.updated_at_ms},
			};

			(void)pairs_differ(v, SHMETA_CLASS_PARTITION, where, numbers,
			                   sizeof(numbers) / sizeof(numbers[0]));
		} else {
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
			        "%s: the source has it, the store says: %s", where, shmeta_strerror(status));
		}
	} while (!look_end(&look) && v->code == 0);
	v->partition_in_store = status == SHMETA_OK;
	return stop(v);
}

static enum shmeta_status sink_segment(void *arg, const struct shmeta_segment *want)
{
	struct verify *v = arg;
	struct shmeta_segment *row = &v->rows[v->row_count];
	char *p;

	v->segments++;
	if (!v->partition_open || !v->partition_in_store)
		return stop(v);
	p = tool_alloc(want->id.bytes + want->s3_bucket.bytes + want->s3_key.bytes + 1);
	v->row_strings[v->row_count] = p;
	*row = *want;
	for (struct shmeta_str *s = &row->id; s <= &row->s3_key; s++) {
		if (s->bytes > 0)
			memcpy(p, s->data, s->bytes);
		s->data = p;
		p += s->bytes;
	}
	if (++v->row_count == ROWS)
		compare_rows(v, false);
	return stop(v);
}

static void compare_agent(struct verify *v, const char *where, const struct shmeta_agent *want,
                          const struct shmeta_agent *have)
{
	const struct pair numbers[] = {
		{"last_heartbeat", want->last_heartbeat_ms, have->last_heartbeat_ms},
		{"started_at", want->started_at_ms, have->started_at_ms},
	};
	const enum shmeta_class cls = SHMETA_CLASS_AGENT;

	if (pairs_differ(v, cls, where, numbers, 2) ||
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

/* The source has the row; the store's answer is not that. UNKNOWN: it is quarantined there, as the engine alone cannot tell: its
 * topic is not served, or a record of it would be too large. */
static void not_found(struct verify *v, enum shmeta_class cls, const char *where, uint64_t *count,
                      enum shmeta_status status)
{
	char sentence[256];

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

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->agents++;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_agent(v->s->reader, want->agent_id.data, want->agent_id.bytes, &have, NULL);
		(void)snprintf(where, sizeof(where), "agent %s", out_safe(want->agent_id.data, want->agent_id.bytes));
		if (status == SHMETA_OK)
			compare_agent(v, where, want, &have);
		else
			not_found(v, SHMETA_CLASS_AGENT, where, &v->agents, status);
	} while (!look_end(&look) && v->code == 0);
	return stop(v);
}

static void forget_groups(struct verify *v)
{
	for (uint64_t i = 0; v->group != NULL && i < v->groups; i++)
		free(v->group[i].id);
	v->groups = 0;
}

static enum shmeta_status sink_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *want)
{
	struct verify *v = arg;

	struct group_row *row;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	if (v->groups == v->group_capacity) {
		v->group_capacity = v->group_capacity > 0 ? v->group_capacity * 2 : 64;
		v->group = tool_grow(v->group, v->group_capacity * sizeof(*v->group));
	}
	row = &v->group[v->groups++];
	row->tenant = v->tenant;
	row->id = text_of(want->group_id);
	row->created_at_ms = want->created_at_ms;
	row->updated_at_ms = want->updated_at_ms;
	row->in_store = false;
	return SHMETA_OK;
}

static enum shmeta_status sink_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                      const struct shmeta_committed_offset *want)
{
	struct verify *v = arg;
	struct shmeta_committed_offset have;
	struct look look;
	enum shmeta_status status;
	char *group, *name, where[SHMETA_STRING_MAX + SHMETA_NAME_MAX + 64];

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->offsets++;
	group = text_of(want->group_id);
	name = text_of(topic);
	(void)snprintf(where, sizeof(where), "committed offset of group %s, topic %s, partition %" PRIu32,
	               out_safe(want->group_id.data, want->group_id.bytes), out_safe(topic.data, topic.bytes),
	               want->partition_id);
	do {
		if (!look_begin(v, &look))
			break;
		status = shmeta_get_committed_offset(v->s->reader, group, name, want->partition_id, &have, NULL);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"committed_offset", (int64_t)want->committed_offset, (int64_t)have.committed_offset},
				{"committed_at", want->committed_at_ms, have.committed_at_ms},
				{"has_metadata", want->has_metadata != 0, have.has_metadata != 0},
			};

			if (!pairs_differ(v, SHMETA_CLASS_OFFSET, where, numbers, 3) && want->has_metadata != 0)
				(void)text_differs(v, SHMETA_CLASS_OFFSET, where, "metadata", want->metadata,
				                   have.metadata);
		} else {
			not_found(v, SHMETA_CLASS_OFFSET, where, &v->offsets, status);
		}
	} while (!look_end(&look) && v->code == 0);
	free(group);
	free(name);
	return stop(v);
}

static enum shmeta_status sink_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_lease *want)
{
	struct verify *v = arg;
	char where[SHMETA_NAME_MAX + 64];
	struct shmeta_lease have;
	struct look look;
	enum shmeta_status status;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->leases++;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_lease(v->s->reader, topic.data, topic.bytes, want->partition_id, TOOL_BEGINNING_MS,
		                          &have, NULL);
		(void)snprintf(where, sizeof(where), "lease of topic %s, partition %" PRIu32,
		               out_safe(topic.data, topic.bytes), want->partition_id);
		if (status == SHMETA_OK) {
			const struct pair numbers[] = {
				{"epoch", (int64_t)want->epoch, (int64_t)have.epoch},
				{"lease_expires_at", want->lease_expires_at_ms, have.lease_expires_at_ms},
				{"acquired_at", want->acquired_at_ms, have.acquired_at_ms},
			};

			if (!pairs_differ(v, SHMETA_CLASS_LEASE, where, numbers, 3))
				(void)text_differs(v, SHMETA_CLASS_LEASE, where, "leader_agent_id",
				                   want->leader_agent_id, have.leader_agent_id);
		} else {
			not_found(v, SHMETA_CLASS_LEASE, where, &v->leases, status);
		}
	} while (!look_end(&look) && v->code == 0);
	return stop(v);
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
		return stop(v);
	v->progress_shown_ns = now;
	if (rows_total > 0)
		(void)fprintf(stderr, "\rcomparing: %3.0f %% ", 100.0 * (double)rows_done / (double)rows_total);
	else
		(void)fprintf(stderr, "\rcomparing: %s rows ", out_count(rows_done));
	return stop(v);
}

static void progress_done(const struct verify *v)
{
	if (v->progress_shown_ns != 0)
		(void)fputs("\r\033[K", stderr);
}

/* ---- contents: what the store has beside the source ---------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int by_group(const void *a, const void *b)
{
	const struct group_row *x = a, *y = b;
	int order = strcmp(x->tenant, y->tenant);

	return order != 0 ? order : strcmp(x->id, y->id);
}

static void compare_group(struct verify *v, const struct shmeta_group *have)
{
	struct group_row key = {.tenant = v->tenant, .id = text_of(have->group_id)}, *row;
	char where[SHMETA_STRING_MAX + 16];

	row = v->groups > 0 ? bsearch(&key, v->group, v->groups, sizeof(key), by_group) : NULL;
	(void)snprintf(where, sizeof(where), "group %s", out_safe(have->group_id.data, have->group_id.bytes));
	if (row != NULL) {
		const struct pair numbers[] = {{"created_at", row->created_at_ms, have->created_at_ms},
		                               {"updated_at", row->updated_at_ms, have->updated_at_ms}};

		row->in_store = true;
		(void)pairs_differ(v, SHMETA_CLASS_OFFSET, where, numbers, 2);
	} else {
		differs(v, SHMETA_CLASS_OFFSET, v->tenant, NULL, "%s: the store has it, the source does not", where);
	}
	free(key.id);
}

/* What the store has beside the source: topics that the source did not give, and the numbers of the advisory records. */
struct advisory {
	struct verify *v;
	uint64_t agents, leases, offsets; /* kept, of all tenants */
	uint64_t rows;                    /* of the slice, of the kind that *count counts */
	uint64_t *count;
	size_t found, groups_kept; /* when the slice began */
	char **groups;             /* of the tenant */
	size_t group_count, group_capacity;
	const char *group; /* whose offsets are counted */
};

static void count_agent(void *arg, const struct shmeta_agent *agent, const struct shmeta_freshness *fresh)
{
	(void)agent;
	(void)fresh;
	((struct advisory *)arg)->rows++;
}

static void count_lease(void *arg, struct shmeta_str topic, const struct shmeta_lease *lease,
                        const struct shmeta_freshness *fresh)
{
	(void)topic;
	(void)lease;
	(void)fresh;
	((struct advisory *)arg)->rows++;
}

static void take_group(void *arg, const struct shmeta_group *group, const struct shmeta_freshness *fresh)
{
	struct advisory *a = arg;

	(void)fresh;
	compare_group(a->v, group);
	if (a->group_count == a->group_capacity) {
		a->group_capacity = a->group_capacity > 0 ? a->group_capacity * 2 : 64;
		a->groups = tool_grow(a->groups, a->group_capacity * sizeof(*a->groups));
	}
	a->groups[a->group_count++] = text_of(group->group_id);
}

static enum shmeta_status slice_agents(struct session *s, struct page_place *at, void *arg)
{
	return page_agents(s, at, count_agent, arg);
}

static enum shmeta_status slice_leases(struct session *s, struct page_place *at, void *arg)
{
	return page_leases(s, at, count_lease, arg);
}

static enum shmeta_status slice_groups(struct session *s, struct page_place *at, void *arg)
{
	return page_groups(s, at, take_group, arg);
}

static enum shmeta_status slice_offsets(struct session *s, struct page_place *at, void *arg)
{
	struct advisory *a = arg;
	struct shmeta_committed_offset offset;
	struct shmeta_iter *iter = NULL;
	struct shmeta_str topic;
	enum shmeta_status status = shmeta_list_committed_offsets(s->reader, a->group, &iter);

	for (; status == SHMETA_OK && (status = shmeta_next_committed_offset(iter, &topic, &offset, NULL)) == SHMETA_OK;
	     a->rows++)
		at->looked++;
	shmeta_iter_free(iter);
	return status;
}

static void keep_slice(void *arg)
{
	struct advisory *a = arg;

	if (a->count != NULL)
		*a->count += a->rows;
	a->rows = 0;
	a->groups_kept = a->group_count;
	a->found = a->v->found.count;
}

static void drop_slice(void *arg)
{
	struct advisory *a = arg;

	a->rows = 0;
	while (a->group_count > a->groups_kept)
		free(a->groups[--a->group_count]);
	findings_cut(&a->v->found, a->found);
}

static void page_advisory(struct advisory *a, page_slice_fn *slice, const char *what, uint64_t *count)
{
	const struct paging paging = {slice, keep_slice, drop_slice, a, what, true};

	a->count = count;
	a->found = a->v->found.count;
	if (a->v->code == 0)
		a->v->code = page_all(a->v->s, &paging);
}

static bool judge_topic(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct verify *v = ((struct advisory *)arg)->v;
	char *name;

	(void)fresh;
	if (v->seen_count > 0 && bsearch(&topic->topic_id, v->seen, v->seen_count, sizeof(*v->seen), by_number) != NULL)
		return true;
	name = text_of(topic->name);
	differs(v, SHMETA_CLASS_TOPIC, v->tenant, name, "topic %s: the store has it, the source does not", name);
	free(name);
	return true;
}

static enum shmeta_status slice_topics(struct session *s, struct page_place *at, void *arg)
{
	return page_topics(s, at, judge_topic, arg);
}

static void extra_topics(struct verify *v)
{
	struct advisory a = {.v = v};

	page_advisory(&a, slice_topics, "topics", NULL);
}

/* Agents, offsets and leases that the source gave were looked up one by one; so the numbers tell whether the store has others. */
static void extra_advisory(struct verify *v)
{
	struct advisory a = {.v = v};

	if (v->groups > 0)
		qsort(v->group, v->groups, sizeof(*v->group), by_group);
	for (size_t i = 0; i < v->sessions; i++) {
		v->s = &v->session[i].s;
		v->tenant = v->session[i].tenant;
		page_advisory(&a, slice_agents, "agents", &a.agents);
		page_advisory(&a, slice_leases, "leases", &a.leases);
		page_advisory(&a, slice_groups, "groups", NULL);
		for (size_t k = 0; k < a.groups_kept; k++) {
			a.group = a.groups[k];
			page_advisory(&a, slice_offsets, "committed offsets", &a.offsets);
		}
		while (a.group_count > 0)
			free(a.groups[--a.group_count]);
		a.groups_kept = 0;
	}
	free(a.groups);
	if (v->code != 0)
		return;
	for (uint64_t i = 0; i < v->groups; i++)
		if (!v->group[i].in_store)
			differs(v, SHMETA_CLASS_OFFSET, v->group[i].tenant, NULL,
			        "group %s: the source has it, the store does not", v->group[i].id);
	if (a.agents != v->agents)
		differs(v, SHMETA_CLASS_AGENT, NULL, NULL, "%" PRIu64 " agents in the source, %" PRIu64 " in the store",
		        v->agents, a.agents);
	if (a.offsets != v->offsets)
		differs(v, SHMETA_CLASS_OFFSET, NULL, NULL,
		        "%" PRIu64 " committed offsets in the source, %" PRIu64 " in the store", v->offsets, a.offsets);
	if (a.leases != v->leases)
		differs(v, SHMETA_CLASS_LEASE, NULL, NULL, "%" PRIu64 " leases in the source, %" PRIu64 " in the store",
		        v->leases, a.leases);
}

/* ---- contents: passes --------------------------------------------------------------------------------------------------- */

struct engine {
	const struct backend_engine *ops;
	void *state;
	struct backend_sink sink;
};

static enum shmeta_status again_key_begin(void *arg, const struct backend_key *key)
{
	struct verify *v = arg;

	end_topic(v);
	if (key->cls == SHMETA_CLASS_TOPIC && v->code == 0)
		(void)use_tenant(v, key->tenant);
	return stop(v);
}

static enum shmeta_status again_key_end(void *arg, const struct backend_key *key, int found)
{
	struct verify *v = arg;
	struct shmeta_topic topic;
	enum shmeta_status status;
	struct look look;
	char *name;

	end_topic(v);
	if (v->code != 0 || key->cls != SHMETA_CLASS_TOPIC || found != 0)
		return stop(v);
	name = text_of(key->topic);
	do {
		if (!look_begin(v, &look))
			break;
		status = shmeta_get_topic(v->s->reader, name, strlen(name), NULL, &topic, NULL);
		if (status == SHMETA_OK)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, name,
			        "topic %s: the store has it, the source does not", name);
	} while (!look_end(&look) && v->code == 0);
	free(name);
	return stop(v);
}

static int source_failed(struct verify *v, const char *doing, enum shmeta_status status,
                         const struct backend_error *err)
{
	if (v->code != 0)
		return v->code;
	return tool_error(v->tool, status == SHMETA_ERR_CONFIG ? TOOL_USAGE : tool_exit_of(status), "%s: %s", doing,
	                  err->text[0] != '\0' ? err->text : shmeta_strerror(status));
}

static int first_pass(struct verify *v, struct engine *e)
{
	struct backend_error err = {0};
	char **tenants = NULL;
	size_t count = 0;
	enum shmeta_status status;

	v->groups = 0; /* what the structure check counted */
	v->topics = v->partitions = v->segments = v->agents = v->offsets = v->leases = 0;
	status = e->ops->source->load(e->state, &e->sink, &err);
	if (v->code == 0 && status == SHMETA_OK)
		end_topic(v);
	progress_done(v);
	if (status != SHMETA_OK || v->code != 0)
		return source_failed(v, "reading the source", status, &err);
	if (v->seen_count > 0)
		qsort(v->seen, v->seen_count, sizeof(*v->seen), by_number);
	v->code = pages_tenants(v->tool, &v->pages, &tenants, &count);
	for (size_t i = 0; v->code == 0 && i < count; i++)
		if (use_tenant(v, (struct shmeta_str){tenants[i], strlen(tenants[i])}))
			extra_topics(v);
	while (count > 0)
		free(tenants[--count]);
	free(tenants);
	if (v->code == 0)
		extra_advisory(v);
	return v->code;
}

/* What is to be looked at again: topics by name, and whether the hints are. */
struct todo {
	struct {
		char *tenant, *name;
	} topic[AGAIN_TOPICS];
	size_t count;
	bool hints, too_many;
};

static void todo_clear(struct todo *todo)
{
	while (todo->count > 0) {
		free(todo->topic[--todo->count].tenant);
		free(todo->topic[todo->count].name);
	}
	todo->hints = todo->too_many = false;
}

/* From the findings from `from` on, each topic once. They come topic by topic, so equal ones are neighbours but for the last
 * look at the whole list. */
static void todo_fill(struct todo *todo, const struct findings *f, size_t from)
{
	todo_clear(todo);
	for (size_t i = from; i < f->count; i++) {
		const struct finding *row = &f->row[i];
		size_t k;

		if (row->topic == NULL) {
			todo->hints = todo->hints || row->cls >= SHMETA_CLASS_AGENT;
			continue;
		}
		for (k = todo->count; k > 0; k--)
			if (strcmp(todo->topic[k - 1].name, row->topic) == 0 &&
			    strcmp(todo->topic[k - 1].tenant, row->tenant) == 0)
				break;
		if (k > 0)
			continue;
		if (todo->count == AGAIN_TOPICS) {
			todo->too_many = true;
			return;
		}
		todo->topic[todo->count].tenant = tool_copy(row->tenant, strlen(row->tenant));
		todo->topic[todo->count++].name = tool_copy(row->topic, strlen(row->topic));
	}
}

/* Adds what this look finds. */
static int look_again(struct verify *v, struct engine *e, const struct todo *todo)
{
	static const struct backend_key hints[] = {
		{.cls = SHMETA_CLASS_AGENT}, {.cls = SHMETA_CLASS_LEASE}, {.cls = SHMETA_CLASS_OFFSET}};
	struct backend_error err = {0};
	struct backend_key *keys = tool_alloc(todo->count * sizeof(*keys));
	uint64_t topics = v->topics, partitions = v->partitions, segments = v->segments;
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < todo->count; i++)
		keys[i] = (struct backend_key){
			.cls = SHMETA_CLASS_TOPIC,
			.with_segments = 1,
			.to = INT64_MAX,
			.tenant = {todo->topic[i].tenant, strlen(todo->topic[i].tenant)},
			.topic = {todo->topic[i].name, strlen(todo->topic[i].name)},
		};
	if (todo->count > 0)
		status = e->ops->source->fetch(e->state, keys, todo->count, &e->sink, &err);
	free(keys);
	if (status == SHMETA_OK && v->code == 0 && todo->hints) {
		forget_groups(v);
		v->agents = v->offsets = v->leases = 0;
		status = e->ops->source->fetch(e->state, hints, sizeof(hints) / sizeof(hints[0]), &e->sink, &err);
		if (status == SHMETA_OK && v->code == 0)
			extra_advisory(v);
	}
	v->topics = topics;
	v->partitions = partitions;
	v->segments = segments;
	return status != SHMETA_OK || v->code != 0 ? source_failed(v, "reading the source again", status, &err) : 0;
}

static bool writer_alive(const struct verify *v)
{
	uint64_t now = shmeta__boottime_ns(), beat = shmeta_observe(&v->pages.live_board->heartbeat_ns);

	return v->pages.alive && pages_since(now, beat) < 5000000000u;
}

static int contents(struct verify *v, const char *uri)
{
	static struct todo todo;
	const struct timespec pause = {.tv_nsec = AGAIN_PAUSE_MS * 1000000};
	struct engine e = {
		.sink = {.arg = v,
	                 .topic = sink_topic,
	                 .partition = sink_partition,
	                 .segment = sink_segment,
	                 .agent = sink_agent,
	                 .group = sink_group,
	                 .offset = sink_offset,
	                 .lease = sink_lease,
	                 .quarantine = sink_quarantine,
	                 .key_begin = again_key_begin,
	                 .key_end = again_key_end,
	                 .progress = sink_progress},
	};
	struct backend_options options = {
		.uri = uri, .timeout_ms = v->tool->timeout_ms, .read_only = 1, .password_file = v->tool->password_file};
	struct backend_error err = {0};
	struct findings before = {0};
	uint64_t deadline;
	unsigned looks = 0;
	size_t from = v->found.count;
	int code = 0;

	e.ops = backend_find(uri, &err);
	if (e.ops == NULL)
		return tool_error(v->tool, TOOL_USAGE, "%s", err.text);
	e.state = tool_alloc(e.ops->state_bytes);
	memset(e.state, 0, e.ops->state_bytes);
	if (e.ops->source->open(e.state, &options, &err) != SHMETA_OK)
		code = source_failed(v, "opening the source", err.code, &err);
	if (code == 0)
		code = first_pass(v, &e);
	deadline = tool_monotonic_ns() + v->tool->timeout_ms * 1000000ull;
	v->again = true;
	while (code == 0 && v->found.count > from && writer_alive(v) && tool_monotonic_ns() < deadline) {
		todo_fill(&todo, &v->found, from);
		if (todo.too_many || (todo.count == 0 && !todo.hints))
			break;
		(void)nanosleep(&pause, NULL);
		findings_take(&v->found, from, &before);
		code = look_again(v, &e, &todo);
		looks++;
	}
	if (looks > 0)
		findings_keep(&v->found, from, &before);
	findings_cut(&before, 0);
	free(before.row);
	todo_clear(&todo);
	e.ops->source->close(e.state);
	free(e.state);
	v->contents_checked = code == 0;
	return code;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------ */

static void report(struct verify *v, const char *uri)
{
	char differences[64];
	uint64_t total = v->structure_problems;
	size_t own = v->structure_problems < VERIFY_SHOWN ? (size_t)v->structure_problems : VERIFY_SHOWN;

	total += v->found.count > own ? v->found.count - own : 0;
	(void)snprintf(differences, sizeof(differences), "%s difference%s", out_count(total), total == 1 ? "" : "s");
	if (v->tool->json) {
		json_t *doc = out_document("verify"), *items = json_array();

		for (size_t i = 0; i < v->found.count && i < VERIFY_SHOWN; i++)
			(void)json_array_append_new(items,
			                            out_json_text(v->found.row[i].text, strlen(v->found.row[i].text)));
		out_set(doc, "structure_problems", out_json_count(v->structure_problems));
		out_set(doc, "source", uri != NULL ? out_json_text(uri, strlen(uri)) : json_null());
		out_set(doc, "compared_with_source", json_boolean(v->contents_checked));
		out_set(doc, "quarantined_rows", out_json_count(v->quarantined));
		out_set(doc, "topics", out_json_count(v->topics));
		out_set(doc, "partitions", out_json_count(v->partitions));
		out_set(doc, "segments", out_json_count(v->segments));
		out_set(doc, "agents", out_json_count(v->agents));
		out_set(doc, "groups", out_json_count(v->groups));
		out_set(doc, "committed_offsets", out_json_count(v->offsets));
		out_set(doc, "leases", out_json_count(v->leases));
		out_set(doc, "differences", out_json_count(total));
		out_set(doc, "items", items);
		out_json(doc, 2);
		return;
	}
	for (size_t i = 0; i < v->found.count && i < VERIFY_SHOWN; i++)
		(void)printf("%s\n", out_safe(v->found.row[i].text, strlen(v->found.row[i].text)));
	if (total > VERIFY_SHOWN)
		(void)printf("... and %s more\n", out_count(total - VERIFY_SHOWN));
	for (uint64_t i = 0; i < v->quarantined && i < sizeof(v->sentences) / sizeof(v->sentences[0]); i++)
		(void)printf("quarantined: %s\n", out_safez(v->sentences[i], sizeof(v->sentences[i])));
	if (v->quarantined > 0)
		(void)printf("%s rows of the source are quarantined\n", out_count(v->quarantined));
	if (!v->contents_checked)
		(void)puts("structure only; contents were not compared with a source");
	(void)printf("verified %s topics, %s partitions, %s segments: %s\n", out_count(v->topics),
	             out_count(v->partitions), out_count(v->segments),
	             out_paint(v->tool, total == 0 ? PAINT_GOOD : PAINT_BAD, differences));
}

int verb_verify(struct tool *tool)
{
	struct verify *v = tool_alloc(sizeof(*v));
	char path[PATH_MAX + 32], uri[sizeof(v->pages.stats->source) + 1] = "";
	const char *source = tool->source;
	struct shmeta__verify_report structure = {0};
	int code;

	memset(v, 0, sizeof(*v));
	v->tool = tool;
	v->pages.dir_fd = -1;
	if (tool->store != NULL && source != NULL) {
		code = tool_error(tool, TOOL_USAGE,
		                  "--store looks at a store alone; it cannot be compared with --source");
		goto out;
	}
	code = tool->store != NULL ? store_path(tool, tool->store, path) : pages_open(tool, &v->pages);
	if (code == 0 && tool->store == NULL && !v->pages.published)
		code = tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	if (code != 0)
		goto out;
	if (tool->store == NULL)
		(void)snprintf(path, sizeof(path), "%s/store.%" PRIu64, tool->dir, v->pages.board.generation);
	code = verify_structure(tool, tool->store == NULL ? &v->pages : NULL, path, &v->found, &structure);
	if (code != 0)
		goto out;
	v->structure_problems = structure.problems;
	v->topics = structure.topics;
	v->partitions = structure.partitions;
	v->segments = structure.segments;
	v->agents = structure.agents;
	v->groups = structure.groups;
	v->offsets = structure.offsets;
	v->leases = structure.leases;
	if (tool->store == NULL && source == NULL && v->pages.stats != NULL) {
		(void)snprintf(uri, sizeof(uri), "%.*s", (int)sizeof(v->pages.stats->source), v->pages.stats->source);
		/* What lives in the daemon's memory cannot be opened here. */
		source = uri[0] != '\0' && strncmp(uri, "memory:", 7) != 0 ? uri : NULL;
	}
	/* A store that is not sound cannot be read through the library either. */
	if (tool->store == NULL && source != NULL && v->structure_problems == 0)
		code = contents(v, source);
	if (code == 0) {
		report(v, source);
		code = v->found.count > 0 || v->structure_problems > 0 ? TOOL_UNHEALTHY : TOOL_OK;
	}
out:
	for (size_t i = 0; i < v->sessions; i++) {
		session_close(&v->session[i].s);
		free(v->session[i].tenant);
	}
	drop_rows(v);
	forget_groups(v);
	free(v->group);
	findings_cut(&v->found, 0);
	free(v->found.row);
	free(v->session);
	free(v->topic);
	free(v->partition_ids);
	free(v->seen);
	pages_close(&v->pages);
	free(v);
	return code;
}
