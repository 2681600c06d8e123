/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine (memory.h): what the core calls. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "backends/memory/memory_own.h"

/* One call while it runs. It holds the database's lock, so what it reads is of one moment. */
struct call {
	struct memory_state *state;
	const struct backend_sink *sink;
	bool loading;
	uint64_t rows, total;
};

static void call_begin(struct call *call, struct memory_state *state, const struct backend_sink *sink, bool loading)
{
	*call = (struct call){.state = state, .sink = sink, .loading = loading};
	pthread_mutex_lock(&state->db->lock);
}

static void call_end(struct call *call)
{
	call->state->counters.rows += call->rows;
	pthread_mutex_unlock(&call->state->db->lock);
}

/* What an SQL engine would have run. */
static void queries(struct call *call, uint64_t count)
{
	call->state->counters.queries += count;
}

/* Before each row. */
static enum shmeta_status row(struct call *call)
{
	call->rows++;
	if (call->loading && call->rows % 10000 == 0 && call->sink->progress != NULL)
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
		const struct shmeta_segment *segment = &memory_segments_of(partition)[i].row;
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

	*ret = false;
	if (!partition->present)
		return SHMETA_OK;
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
		struct partition *partition = memory_partitions_of(topic)[i];
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

	if (*rest == '\0' || *rest == '?') {
		status = *rest == '?' ? check_query(rest, err) : SHMETA_OK;
		if (status != SHMETA_OK)
			return status;
		state->db = memory_db_make(NULL);
		if (state->db == NULL ||
		    (*rest == '?' && !memory_fill(state->db, (uint32_t)number(rest, "topics", 10),
		                                  (uint32_t)number(rest, "partitions", 4),
		                                  (uint32_t)number(rest, "segments", 100), number(rest, "seed", 1))))
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: opening: out of memory");
	} else {
		state->db = memory_db_hold(rest);
		if (state->db == NULL)
			return backend_fail(err, SHMETA_ERR_CONFIG,
			                    "memory: there is no database '%.80s' in this process", rest);
	}
	pthread_mutex_lock(&state->db->lock);
	if (state->db->wake < 0)
		state->db->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_unlock(&state->db->lock);
	return SHMETA_OK;
}

static void memory_close(void *data)
{
	struct memory_state *state = data;

	if (state->db != NULL)
		memory_db_release(state->db);
	rows_scratch_free(&state->scratch);
	state->db = NULL;
}

static enum backend_feed_kind memory_feed_kind(void *data)
{
	(void)data;
	return BACKEND_FEED_KEYS;
}

static int memory_writable(void *data)
{
	(void)data;
	return 1;
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
		const struct topic *topic = memory_topics_of(db)[i];
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
	bool there;

	(void)err;
	call_begin(&call, state, sink, true);
	state->counters.transactions++;
	for (size_t t = 0; t < db->topics.count; t++) {
		call.total += 1 + memory_topics_of(db)[t]->partitions.count;
		for (size_t p = 0; p < memory_topics_of(db)[t]->partitions.count; p++)
			call.total += memory_partitions_of(memory_topics_of(db)[t])[p]->segments.count;
	}
	call.total += db->agents.count + db->groups.count + db->offsets.count + db->leases.count;
	queries(&call, 3);
	if (sink->key != NULL) {
		status = emit_keys(&call);
		goto end;
	}
	for (size_t i = 0; status == SHMETA_OK && i < db->topics.count; i++)
		status = emit_topic(&call, memory_topics_of(db)[i], true, true, &there);
	if (status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_AGENT, &db->agents, false, NULL);
	if (status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_OFFSET, &db->groups, true, NULL);
	if (status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_OFFSET, &db->offsets, false, NULL);
	if (status == SHMETA_OK)
		status = emit_others(&call, SHMETA_CLASS_LEASE, &db->leases, false, NULL);
end:
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, call.rows, call.rows);
	if (status == SHMETA_OK)
		settle(state);
	call_end(&call);
	return status;
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
	topic = memory_topic_find(db, key->tenant, key->topic);
	if (topic == NULL)
		return SHMETA_OK;
	if (key->cls == SHMETA_CLASS_TOPIC)
		return emit_topic(call, topic, key->row_only == 0, key->with_segments != 0, ret_found);
	partition = memory_partition_find(topic, key->partition_id);
	if (partition == NULL)
		return SHMETA_OK;
	status = emit_partition(call, topic, partition, true, ret_found);
	if (status == SHMETA_OK && key->cls == SHMETA_CLASS_SEGMENT && key->from <= key->to)
		status = emit_segments(call, topic, partition, memory_segment_at(partition, key->from, false),
		                       memory_segment_at(partition, key->to, true), *ret_found);
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
	call_begin(&call, state, sink, false);
	state->counters.transactions++;
	queries(&call, 2 * ((count + 999) / 1000));
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		status = sink->key_begin(sink->arg, &keys[i]);
		if (status == SHMETA_OK)
			status = fetch_key(&call, &keys[i], &found);
		if (status == SHMETA_OK)
			status = sink->key_end(sink->arg, &keys[i], found ? SHMETA_OK : SHMETA_ABSENT, "");
	}
	call_end(&call);
	return status;
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
	*ret_lag_ns = 0;
	(void)err;
	call_begin(&call, state, sink, false);
	if (db->wake >= 0)
		(void)!eventfd_read(db->wake, &drained);
	changed = !state->baseline || db->version != state->version || db->feed_id != state->feed_id;
	if (changed) {
		queries(&call, 1);
		if (state->baseline && db->course != state->course && sink->history != NULL)
			sink->history(sink->arg, "memory: an earlier state was restored");
		if (!state->baseline || db->course != state->course || db->feed_id != state->feed_id)
			status = report_list(sink);
		else
			status = report_changes(state, sink);
	}
	if (status == SHMETA_OK) {
		settle(state);
		*ret_changed = changed;
	}
	call_end(&call);
	return status;
}

struct memory_position {
	uint64_t fingerprint, feed_id, seq, course;
};

static enum shmeta_status memory_position(void *data, void *ret, size_t capacity, size_t *ret_bytes)
{
	struct memory_state *state = data;
	struct memory_position position = {state->db->fingerprint, state->feed_id, state->seq, state->course};

	*ret_bytes = sizeof position;
	if (capacity < sizeof position)
		return SHMETA_ERR_BUFFER;
	memcpy(ret, &position, sizeof position);
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
	if (position.fingerprint == db->fingerprint && position.feed_id == db->feed_id &&
	    position.seq + 1 >= db->log_first && position.seq < db->log_first + db->log.count) {
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
                                         .changes = memory_changes,
                                         .position = memory_position,
                                         .resume = memory_resume,
                                         .wake_fd = memory_wake_fd};
static const struct backend_writer writer = {
	.writable = memory_writable, .apply = memory_apply, .start = memory_start, .finish = memory_finish};
/* No restore: it would be gone with the process that was asked for it. */
static const struct backend_admin admin = {
	.objects = memory_objects, .epoch_end = memory_epoch_end, .extras = memory_extras};

const struct backend_engine backend_memory = {.name = "memory",
                                              .state_bytes = sizeof(struct memory_state),
                                              .limits = {.keys = 4096, .ops = 4096, .unit_ops = 4096},
                                              .source = &source,
                                              .feed = &feed,
                                              .writer = &writer,
                                              .admin = &admin};
