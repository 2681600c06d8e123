/* SPDX-License-Identifier: Apache-2.0
 * Lists of advisory records: agents, groups, leases, committed offsets. */
#include <stdlib.h>
#include <string.h>

#include "reader/lookup/lookup.h"

static const int64_t ALIVE_MS = 60000;

/* What a list is asked for. */
struct listed {
	enum shmeta_class cls;
	enum iter_kind kind;
	enum shmeta_db db;
	struct iter_text first, second; /* agents: group, zone; leases: topic, agent; offsets: the
                                         * group */
	int64_t now_ms;
};

/* Copy a filter's text. NULL: no filter. An empty text is a filter that matches an empty field. */
static int keep_filter(struct iter_filter *filter, const struct iter_text *text)
{
	if (text->text == NULL)
		return 1;
	filter->bytes = text->bytes;
	filter->text = malloc(filter->bytes + 1);
	if (filter->text == NULL)
		return 0;
	memcpy(filter->text, text->text, filter->bytes);
	return 1;
}

/* No field of a record is so long: nothing passes the filter. */
static int is_longer_than_any(const struct iter_text *text)
{
	return text->text != NULL && text->bytes > SHMETA_STRING_MAX;
}

static int passes(const struct iter_filter *filter, struct shmeta_str value)
{
	return filter->text == NULL ||
	       (filter->bytes == value.bytes && memcmp(filter->text, value.data, value.bytes) == 0);
}

/* A new iterator over the tenant's entries; UNKNOWN when nothing of the class was loaded. never:
 * the list is always empty. */
static enum shmeta_status entries(struct shmeta_reader *r, const struct listed *what, int never, uint64_t assured_ns,
                                  struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	const struct known known = {assured_ns, 0};
	struct shmeta_iter *iter;
	enum shmeta_status status;

	never = never || r->instance->no_tenant || is_longer_than_any(&what->first) ||
	        is_longer_than_any(&what->second);
	if (ret_fresh != NULL && never)
		(void)never_there(r, 1, ret_fresh);
	else if (ret_fresh != NULL)
		lookup_age(r, what->cls, 1, &known, ret_fresh);
	/* Of a name or a tenant that cannot exist there is nothing, whatever was loaded. */
	if (!never && absent_or_unknown(r, what->cls, &known) == SHMETA_UNKNOWN)
		return SHMETA_UNKNOWN;
	status = shmeta__iter_new(r, what->kind, what->db, &iter);
	if (status != SHMETA_OK)
		return status;
	if (!never && (!keep_filter(&iter->filter[0], &what->first) || !keep_filter(&iter->filter[1], &what->second))) {
		shmeta_iter_free(iter);
		return SHMETA_ERR_NO_MEMORY;
	}
	iter->now_ms = shmeta__by_source(r, what->now_ms);
	iter->prefix_bytes = shmeta__name_key(iter->prefix, iter->tenant, "", 0);
	iter->never = (uint32_t)never;
	iter->done = iter->tenant == 0 || never;
	*ret = iter;
	return SHMETA_OK;
}

static int fits(struct iter_text text)
{
	return text.text != NULL || text.bytes == 0;
}

/* The public functions end here. want: what the source is asked for. */
static enum shmeta_status list(struct shmeta_reader *r, const struct want *want, const struct shmeta_read *read,
                               shmeta__list_fn *make, struct listed *what, struct shmeta_iter **ret)
{
	enum shmeta_status status;

	if (r == NULL || ret == NULL || !fits(what->first) || !fits(what->second))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	return status == SHMETA_OK ? shmeta__list(r, NULL, want, read, make, what, ret) : status;
}

/* ---- agents and groups ---- */

static enum shmeta_status by_id(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused, uint64_t assured_ns,
                                struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	(void)unused;
	return entries(r, arg, 0, assured_ns, ret_fresh, ret);
}

enum shmeta_status shmeta_list_agents(struct shmeta_reader *r, const char *group, size_t group_bytes, const char *zone,
                                      size_t zone_bytes, int64_t now_ms, const struct shmeta_read *read,
                                      struct shmeta_iter **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_AGENT};
	struct listed what = {SHMETA_CLASS_AGENT,   ITER_AGENTS,        SHMETA_DB_AGENTS,
	                      {group, group_bytes}, {zone, zone_bytes}, now_ms};

	return list(r, &want, read, by_id, &what, ret);
}

enum shmeta_status shmeta_list_groups(struct shmeta_reader *r, const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_OFFSET};
	struct listed what = {.cls = SHMETA_CLASS_OFFSET, .kind = ITER_GROUPS, .db = SHMETA_DB_GROUPS};

	return list(r, &want, read, by_id, &what, ret);
}

/* Younger than 60 s, strictly; a heartbeat from the future is young. */
static int is_alive(int64_t heartbeat_ms, int64_t now_ms)
{
	int64_t oldest;

	return __builtin_sub_overflow(now_ms, ALIVE_MS, &oldest) || heartbeat_ms > oldest;
}

enum shmeta_status shmeta_next_agent(struct shmeta_iter *iter, struct shmeta_agent *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_AGENTS);
	struct shmeta__stamps stamps;
	struct shmeta_agent agent;
	const uint8_t *key;
	const void *value;
	size_t key_bytes, bytes;

	if (status != SHMETA_OK || ret == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	do {
		status = shmeta__iter_walk(iter, &key, &key_bytes, &value, &bytes);
		if (status == SHMETA_OK)
			status = shmeta__agent_decode(value, bytes, key, key_bytes, 1, &agent, &stamps);
	} while (status == SHMETA_OK &&
	         !(is_alive(agent.last_heartbeat_ms, iter->now_ms) && passes(&iter->filter[0], agent.agent_group) &&
	           passes(&iter->filter[1], agent.availability_zone)));
	if (status == SHMETA_END)
		return list_done(iter->reader);
	if (status == SHMETA_OK) {
		*ret = agent;
		shmeta__advisory_age(iter->reader, SHMETA_CLASS_AGENT, &stamps, ret_fresh);
	}
	return lookup_done(iter->reader, status);
}

enum shmeta_status shmeta_next_group(struct shmeta_iter *iter, struct shmeta_group *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_GROUPS);
	struct shmeta__stamps stamps;
	const uint8_t *key;
	const void *value;
	size_t key_bytes, bytes;

	if (status != SHMETA_OK || ret == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	status = shmeta__iter_walk(iter, &key, &key_bytes, &value, &bytes);
	if (status == SHMETA_END)
		return list_done(iter->reader);
	if (status == SHMETA_OK)
		status = shmeta__group_decode(value, bytes, key, key_bytes, 1, ret, &stamps);
	if (status == SHMETA_OK)
		shmeta__advisory_age(iter->reader, SHMETA_CLASS_OFFSET, &stamps, ret_fresh);
	return lookup_done(iter->reader, status);
}

/* ---- lists by topic name and partition ---- */

/* Leases and offsets are stored by topic id. A list first visits each topic id once (one seek
 * each), sorts the topics by name, and then walks them one after the other: it holds topics in
 * memory, not entries. */

static int by_name(const struct topic_range *x, const struct topic_range *y)
{
	size_t n = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
	int order = memcmp(x->name, y->name, n);

	return order != 0 ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

/* Restore the heap below `at`. */
static void sift_down(struct topic_range *ranges, size_t at, size_t count)
{
	size_t child;

	for (; (child = 2 * at + 1) < count; at = child) {
		struct topic_range moved = ranges[at];

		if (child + 1 < count && by_name(&ranges[child], &ranges[child + 1]) < 0)
			child++;
		if (by_name(&moved, &ranges[child]) >= 0)
			return;
		ranges[at] = ranges[child];
		ranges[child] = moved;
	}
}

/* Not qsort(): names lie in pages that may change meanwhile, and qsort() is undefined when
 * comparisons contradict each other. Heapsort then gives a wrong order, and the snapshot is
 * discarded. */
static void sort_ranges(struct topic_range *ranges, size_t count)
{
	for (size_t i = count / 2; i-- > 0;)
		sift_down(ranges, i, count);
	while (count-- > 1) {
		struct topic_range last = ranges[count];

		ranges[count] = ranges[0];
		ranges[0] = last;
		sift_down(ranges, 0, count);
	}
}

static enum shmeta_status add_range(struct shmeta_iter *iter, uint32_t topic_id)
{
	struct topic_range *ranges;
	enum shmeta_status status;
	struct shmeta_str name;
	uint32_t tenant;

	status = shmeta__topic_name(iter->reader, topic_id, &tenant, &name);
	/* The entry is left over from a deleted topic, or belongs to another tenant. */
	if (status == SHMETA_ABSENT || (status == SHMETA_OK && tenant != iter->tenant))
		return SHMETA_OK;
	if (status != SHMETA_OK)
		return status;
	if ((iter->range_count & (iter->range_count - 1)) == 0) {
		size_t want = iter->range_count == 0 ? 16 : iter->range_count * 2;

		if (iter->range_count == 0 || iter->range_count >= 16) {
			ranges = realloc(iter->ranges, want * sizeof *ranges);
			if (ranges == NULL)
				return SHMETA_ERR_NO_MEMORY;
			iter->ranges = ranges;
		}
	}
	iter->ranges[iter->range_count++] = (struct topic_range){topic_id, (uint32_t)name.bytes, name.data};
	return SHMETA_OK;
}

/* The key of (topic, partition) in the iterator's database. */
static size_t range_key(const struct shmeta_iter *iter, uint32_t topic_id, uint32_t partition_id, uint8_t *key)
{
	uint64_t number = shmeta__part_key(topic_id, partition_id);

	if (iter->kind == ITER_LEASES) {
		memcpy(key, &number, sizeof number);
		return sizeof number;
	}
	memcpy(key, iter->prefix, iter->prefix_bytes);
	shmeta__put_be32(key + iter->prefix_bytes, topic_id);
	shmeta__put_be32(key + iter->prefix_bytes + 4, partition_id);
	return iter->prefix_bytes + 8;
}

/* The topic of a key; 0: the key is not of this list. */
static uint32_t range_topic(const struct shmeta_iter *iter, const uint8_t *key, size_t key_bytes)
{
	uint64_t number;

	if (iter->kind == ITER_LEASES) {
		if (key_bytes != sizeof number)
			return 0;
		memcpy(&number, key, sizeof number);
		return (uint32_t)(number >> 32);
	}
	if (key_bytes != iter->prefix_bytes + 8 || memcmp(key, iter->prefix, iter->prefix_bytes) != 0)
		return 0;
	return shmeta__get_be32(key + iter->prefix_bytes);
}

static enum shmeta_status collect_ranges(struct shmeta_iter *iter)
{
	uint8_t seek[SHMETA_KEY_MAX];
	enum shmeta_status status;
	const uint8_t *key;
	const void *value;
	uint32_t topic_id = 0;
	size_t key_bytes, bytes;

	do {
		size_t seek_bytes = range_key(iter, topic_id + 1, 0, seek);

		status = shmeta__walk_next(iter->reader, &iter->walk, seek, seek_bytes, &key, &key_bytes, &value,
		                           &bytes);
		if (status == SHMETA_OK) {
			topic_id = range_topic(iter, key, key_bytes);
			if (topic_id == 0) {
				status = shmeta__walk_ends(&iter->walk, key, key_bytes, value, bytes);
				break;
			}
			status = add_range(iter, topic_id);
		}
	} while (status == SHMETA_OK && topic_id != UINT32_MAX);
	if (status != SHMETA_OK && status != SHMETA_END)
		return status;
	sort_ranges(iter->ranges, iter->range_count);
	iter->walk.started = 0;
	return SHMETA_OK;
}

/* The next entry in order of topic name and partition. */
static enum shmeta_status next_in_ranges(struct shmeta_iter *iter, const uint8_t **ret_key, size_t *ret_key_bytes,
                                         const void **ret_value, size_t *ret_bytes)
{
	uint8_t seek[SHMETA_KEY_MAX];
	enum shmeta_status status;

	for (; !iter->done && iter->range < iter->range_count; iter->range++, iter->walk.started = 0) {
		uint32_t topic_id = iter->ranges[iter->range].topic_id;
		size_t seek_bytes = range_key(iter, topic_id, 0, seek);

		status = shmeta__walk_next(iter->reader, &iter->walk, iter->walk.started ? NULL : seek, seek_bytes,
		                           ret_key, ret_key_bytes, ret_value, ret_bytes);
		if (status == SHMETA_OK && range_topic(iter, *ret_key, *ret_key_bytes) == topic_id)
			return SHMETA_OK;
		if (status == SHMETA_OK)
			status = shmeta__walk_ends(&iter->walk, *ret_key, *ret_key_bytes, *ret_value, *ret_bytes);
		if (status != SHMETA_OK && status != SHMETA_END)
			return status;
	}
	iter->done = 1;
	return SHMETA_END;
}

/* ---- leases ---- */

static enum shmeta_status leases(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused, uint64_t assured_ns,
                                 struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	const struct listed *what = arg;
	const struct iter_text topic = what->first;
	struct shmeta_iter *iter;
	enum shmeta_status status;
	uint32_t id;

	(void)unused;
	status = entries(r, what, topic.text != NULL && !name_exists(r, topic.text, topic.bytes), assured_ns, ret_fresh,
	                 &iter);
	if (status != SHMETA_OK)
		return status;
	if (iter->done) {
		/* a tenant without anything */
	} else if (topic.text == NULL) {
		status = collect_ranges(iter);
	} else {
		status = shmeta__topic_resolve(r, topic.text, topic.bytes, &id);
		if (status == SHMETA_OK)
			status = add_range(iter, id);
		else if (status == SHMETA_ABSENT)
			status = SHMETA_OK;
	}
	if (status == SHMETA_OK)
		*ret = iter;
	else
		shmeta_iter_free(iter);
	return status;
}

enum shmeta_status shmeta_list_leases(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                      const char *agent_id, size_t agent_id_bytes, int64_t now_ms,
                                      const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_LEASE};
	struct listed what = {SHMETA_CLASS_LEASE,         ITER_LEASES, SHMETA_DB_LEASES, {topic, topic_bytes},
	                      {agent_id, agent_id_bytes}, now_ms};

	return list(r, &want, read, leases, &what, ret);
}

enum shmeta_status shmeta_next_lease(struct shmeta_iter *iter, struct shmeta_str *ret_topic, struct shmeta_lease *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_LEASES);
	struct shmeta__stamps stamps;
	struct shmeta_lease lease;
	const uint8_t *key;
	const void *value;
	size_t key_bytes, bytes;

	if (status != SHMETA_OK || ret == NULL || ret_topic == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	do {
		status = next_in_ranges(iter, &key, &key_bytes, &value, &bytes);
		if (status == SHMETA_OK)
			status = shmeta__lease_decode(value, bytes, key, key_bytes, 1, &lease, &stamps);
	} while (status == SHMETA_OK &&
	         !(shmeta__lease_held(&lease, iter->now_ms) && passes(&iter->filter[1], lease.leader_agent_id)));
	if (status == SHMETA_END)
		return list_done(iter->reader);
	if (status == SHMETA_OK) {
		const struct topic_range *range = &iter->ranges[iter->range];

		*ret = lease;
		*ret_topic = (struct shmeta_str){range->name, range->name_bytes};
		shmeta__advisory_age(iter->reader, SHMETA_CLASS_LEASE, &stamps, ret_fresh);
	}
	return lookup_done(iter->reader, status);
}

/* ---- committed offsets ---- */

static enum shmeta_status offsets(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused, uint64_t assured_ns,
                                  struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	const struct listed *what = arg;
	const struct iter_text group = what->first;
	uint8_t name[SHMETA_NAME_MAX + 1];
	struct shmeta_iter *iter;
	enum shmeta_status status;

	(void)unused;
	status = entries(r, what, !name_exists(r, group.text, group.bytes), assured_ns, ret_fresh, &iter);
	if (status != SHMETA_OK)
		return status;
	if (!iter->done) {
		/* A NUL behind the group keeps "a" apart from "ab". */
		memcpy(name, group.text, group.bytes);
		name[group.bytes] = 0;
		iter->prefix_bytes = shmeta__name_key(iter->prefix, iter->tenant, (char *)name, group.bytes + 1);
		status = collect_ranges(iter);
	}
	if (status == SHMETA_OK)
		*ret = iter;
	else
		shmeta_iter_free(iter);
	return status;
}

enum shmeta_status shmeta_list_committed_offsets(struct shmeta_reader *r, const char *group, size_t group_bytes,
                                                 const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_OFFSET, .name = group, .name_bytes = group_bytes};
	struct listed what = {.cls = SHMETA_CLASS_OFFSET,
	                      .kind = ITER_OFFSETS,
	                      .db = SHMETA_DB_OFFSETS,
	                      .first = {group, group_bytes}};

	if (group == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return list(r, &want, read, offsets, &what, ret);
}

enum shmeta_status shmeta_next_committed_offset(struct shmeta_iter *iter, struct shmeta_str *ret_topic,
                                                struct shmeta_committed_offset *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_OFFSETS);
	struct shmeta__stamps stamps;
	const uint8_t *key;
	const void *value;
	size_t key_bytes, bytes;

	if (status != SHMETA_OK || ret == NULL || ret_topic == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	status = next_in_ranges(iter, &key, &key_bytes, &value, &bytes);
	if (status == SHMETA_END)
		return list_done(iter->reader);
	if (status == SHMETA_OK)
		status = shmeta__offset_decode(value, bytes, key, key_bytes, 1, ret, &stamps);
	if (status == SHMETA_OK) {
		const struct topic_range *range = &iter->ranges[iter->range];

		*ret_topic = (struct shmeta_str){range->name, range->name_bytes};
		shmeta__advisory_age(iter->reader, SHMETA_CLASS_OFFSET, &stamps, ret_fresh);
	}
	return lookup_done(iter->reader, status);
}
