/* SPDX-License-Identifier: Apache-2.0
 * Keys that differ (differences.h). */
#include "writer/load/differences.h"

struct difference {
	struct difference *next;
	enum entry_kind kind;
	bool segments, whole, range, repair;
	uint32_t partition_id, windows;
	uint64_t from, to;
	struct shmeta_str tenant, topic;
};

enum { RANGE_WINDOWS = 16 }; /* of a few hundred rows each: what is read again in one go */

void differences_begin(struct differences *d, size_t most)
{
	arena_reset(&d->memory);
	d->newest = NULL;
	d->count = 0;
	d->most = most;
	d->more = false;
}

void differences_free(struct differences *d)
{
	arena_free(&d->memory);
}

static bool is_of(const struct difference *n, enum entry_kind kind, struct shmeta_str tenant, struct shmeta_str topic)
{
	return n->kind == kind && str_equal(n->topic, topic) && str_equal(n->tenant, tenant);
}

static enum shmeta_status add(struct differences *d, const struct difference *what)
{
	struct difference *n;

	if (d->count >= d->most) {
		d->more = true;
		return SHMETA_OK;
	}
	n = arena_alloc(&d->memory, sizeof *n);
	if (n == NULL)
		return SHMETA_ERR_NO_MEMORY;
	*n = *what;
	if (d->newest != NULL && is_of(d->newest, n->kind, n->tenant, n->topic)) {
		n->tenant = d->newest->tenant;
		n->topic = d->newest->topic;
	} else if (arena_str(&d->memory, what->tenant, &n->tenant) != 0 ||
	           arena_str(&d->memory, what->topic, &n->topic) != 0) {
		return SHMETA_ERR_NO_MEMORY;
	}
	n->next = d->newest;
	d->newest = n;
	d->count++;
	return SHMETA_OK;
}

enum shmeta_status differences_topic(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                     bool segments)
{
	return add(d,
	           &(struct difference){.kind = ENTRY_TOPIC, .tenant = tenant, .topic = topic, .segments = segments});
}

enum shmeta_status differences_partition(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                         uint32_t partition_id, bool whole)
{
	return add(d, &(struct difference){.kind = ENTRY_PART,
	                                   .tenant = tenant,
	                                   .topic = topic,
	                                   .partition_id = partition_id,
	                                   .whole = whole});
}

enum shmeta_status differences_range(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                     uint32_t partition_id, uint64_t from, uint64_t to)
{
	struct difference *n = d->newest;

	if (n != NULL && n->range && n->windows < RANGE_WINDOWS && n->partition_id == partition_id &&
	    n->to + 1 == from && is_of(n, ENTRY_PART, tenant, topic)) {
		n->to = to;
		n->windows++;
		return SHMETA_OK;
	}
	return add(d, &(struct difference){.kind = ENTRY_PART,
	                                   .tenant = tenant,
	                                   .topic = topic,
	                                   .partition_id = partition_id,
	                                   .range = true,
	                                   .from = from,
	                                   .to = to});
}

void differences_found(struct differences *d, const struct sync *s, uint64_t sequence)
{
	for (struct difference *n = d->newest; n != NULL; n = n->next)
		n->repair = !apply_clock_superseded(
			&s->apply_clock, queue_name_hash(n->tenant, n->topic),
			n->kind == ENTRY_TOPIC ? APPLY_CLOCK_TOPIC : (int64_t)n->partition_id, sequence);
}

bool differences_ask(struct differences *d, struct sync *s, size_t most)
{
	for (; d->newest != NULL && most > 0; d->newest = d->newest->next, d->count--, most--) {
		const struct difference *n = d->newest;
		const struct identity id = queue_identity(n->kind, n->tenant, n->topic, n->partition_id);
		struct want want = {.pass = true, .segments = n->segments, .whole = n->whole, .repair = n->repair};

		if (n->range)
			queue_add_range(&want, n->from, n->to);
		if (!queue_want_now(s, &id, &want))
			return false;
		/* Ranges of one partition would become one in the queue. */
		if (n->range && n->next != NULL && is_of(n->next, ENTRY_PART, n->tenant, n->topic) &&
		    n->next->partition_id == n->partition_id)
			most = 1;
	}
	return true;
}
