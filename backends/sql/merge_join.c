/* SPDX-License-Identifier: Apache-2.0
 * Ordered streams walked side by side (merge_join.h). */
#include "backends/sql/merge_join.h"

#include <string.h>

/* Order of two topics; a cursor at its end is behind everything. */
static int topic_order(const struct walk_cursor *a, const struct walk_cursor *b)
{
	int order;

	if (!a->on || !b->on)
		return !a->on - !b->on;
	order = rows_compare(a->tenant, b->tenant);
	return order != 0 ? order : rows_compare(a->topic, b->topic);
}

/* A table without a unique key may hold several rows of one topic, or of one partition. What
 * follows them belongs to the first. */
static enum shmeta_status pass_topics(struct walk *walk, struct walk_cursor *topics, const struct walk_cursor *here)
{
	enum shmeta_status status = SHMETA_OK;
	bool ignored;

	while (status == SHMETA_OK && topics->on && topics->index == here->index && topic_order(topics, here) == 0) {
		topics->again = true;
		status = walk->topic(walk, topics, &ignored);
		topics->again = false;
		if (status == SHMETA_OK)
			status = walk->advance(walk, topics);
	}
	return status;
}

/* The partition, and past all rows of it. here NULL: of the key of a fetch that it stands on. */
static enum shmeta_status take_partition(struct walk *walk, struct walk_cursor *partitions,
                                         const struct walk_cursor *here, bool parent, bool *ret_there)
{
	const int64_t id = partitions->partition, index = partitions->index;
	enum shmeta_status status = walk->partition(walk, partitions, parent, ret_there);
	bool ignored;

	if (status == SHMETA_OK)
		status = walk->advance(walk, partitions);
	while (status == SHMETA_OK && walk_is_on(partitions, index) && partitions->partition == id &&
	       (here == NULL || topic_order(partitions, here) == 0)) {
		partitions->again = true;
		status = walk->partition(walk, partitions, parent, &ignored);
		partitions->again = false;
		if (status == SHMETA_OK)
			status = walk->advance(walk, partitions);
	}
	return status;
}

/* A row that can have no topic: its name is too long for one, or there is none of that name. */
static enum shmeta_status walk_stray(struct walk *walk, struct walk_cursor *lowest, bool is_topic, bool is_partition)
{
	struct walk_last none = {false, 0};
	enum shmeta_status status;
	bool ignored;

	if (is_topic)
		status = walk->topic(walk, lowest, &ignored);
	else if (is_partition)
		status = walk->partition(walk, lowest, false, &ignored);
	else
		status = walk->segment(walk, lowest, false, &none);
	return status == SHMETA_OK ? walk->advance(walk, lowest) : status;
}

/* All partitions of the topic `here`, and what is left without one. */
static enum shmeta_status walk_topic(struct walk *walk, const struct walk_cursor *here, bool there,
                                     struct walk_cursor *partitions, struct walk_cursor *segments)
{
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK) {
		bool partition_is_on = topic_order(partitions, here) == 0;
		bool segment_is_on = topic_order(segments, here) == 0;
		struct walk_last last = {false, 0};
		int64_t id = partitions->partition;
		bool parent = false;

		if (!partition_is_on && !segment_is_on)
			break;
		if (!partition_is_on || (segment_is_on && segments->partition < id)) {
			id = segments->partition; /* segments of a partition that is not there */
		} else {
			status = take_partition(walk, partitions, here, there, &parent);
		}
		while (status == SHMETA_OK && segments->on && segments->partition == id &&
		       topic_order(segments, here) == 0) {
			status = walk->segment(walk, segments, parent, &last);
			if (status == SHMETA_OK)
				status = walk->advance(walk, segments);
		}
	}
	return status;
}

enum shmeta_status walk_all(struct walk *walk, struct walk_cursor *topics, struct walk_cursor *partitions,
                            struct walk_cursor *segments)
{
	char tenant_text[SHMETA_TENANT_MAX], name_text[SHMETA_NAME_MAX];
	enum shmeta_status status = SHMETA_OK;

	while (status == SHMETA_OK && (topics->on || partitions->on || segments->on)) {
		/* The lowest of the three is the topic that is on. Its name is copied when it can
		 * be a topic's: the rows that it was read from move on. */
		struct walk_cursor *lowest = topic_order(topics, partitions) <= 0 ? topics : partitions;
		struct walk_cursor here;
		bool there = false;

		if (topic_order(segments, lowest) < 0)
			lowest = segments;
		here = *lowest;
		if (here.tenant.bytes > sizeof tenant_text || here.topic.bytes > sizeof name_text || lowest != topics) {
			status = walk_stray(walk, lowest, lowest == topics, lowest == partitions);
			continue;
		}
		memcpy(tenant_text, here.tenant.data, here.tenant.bytes);
		memcpy(name_text, here.topic.data, here.topic.bytes);
		here.tenant.data = tenant_text;
		here.topic.data = name_text;
		status = walk->topic(walk, topics, &there);
		if (status == SHMETA_OK)
			status = walk->advance(walk, topics);
		if (status == SHMETA_OK)
			status = pass_topics(walk, topics, &here);
		if (status == SHMETA_OK)
			status = walk_topic(walk, &here, there, partitions, segments);
	}
	return status;
}

/* The key's turn has come: rows of it that were met too early are quarantined now. */
static enum shmeta_status begin_key(struct walk *walk, struct walk_cursor *cursor, int64_t index)
{
	walk->index = index;
	return cursor->unread && walk_is_on(cursor, index) ? walk->advance(walk, cursor) : SHMETA_OK;
}

enum shmeta_status walk_topic_of(struct walk *walk, struct walk_cursor *topics, int64_t index, bool *ret_there)
{
	enum shmeta_status status = begin_key(walk, topics, index);
	bool ignored;

	*ret_there = false;
	for (bool *there = ret_there; status == SHMETA_OK && walk_is_on(topics, index); there = &ignored) {
		status = walk->topic(walk, topics, there);
		topics->again = true;
		if (status == SHMETA_OK)
			status = walk->advance(walk, topics);
	}
	topics->again = false;
	return status;
}

enum shmeta_status walk_partitions(struct walk *walk, struct walk_cursor *partitions, struct walk_cursor *segments,
                                   int64_t index, bool parent, bool *ret_found)
{
	enum shmeta_status status = begin_key(walk, partitions, index);

	if (status == SHMETA_OK)
		status = begin_key(walk, segments, index);
	*ret_found = false;
	while (status == SHMETA_OK && (walk_is_on(partitions, index) || walk_is_on(segments, index))) {
		struct walk_last last = {false, 0};
		int64_t id = partitions->partition;
		bool there = false;

		if (!walk_is_on(partitions, index) || (walk_is_on(segments, index) && segments->partition < id)) {
			id = segments->partition;
		} else {
			status = take_partition(walk, partitions, NULL, parent, &there);
			*ret_found |= there;
		}
		while (status == SHMETA_OK && walk_is_on(segments, index) && segments->partition == id) {
			status = walk->segment(walk, segments, there, &last);
			if (status == SHMETA_OK)
				status = walk->advance(walk, segments);
		}
	}
	return status;
}
