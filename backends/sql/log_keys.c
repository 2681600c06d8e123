/* SPDX-License-Identifier: Apache-2.0
 * Keys from logged changes (log_keys.h). */
#include "backends/sql/log_keys.h"

#include <string.h>

static int same_topic(const struct feed_round *round, const struct feed_change *change)
{
	return round->has_topic && round->tenant_bytes == change->tenant.bytes &&
	       round->topic_bytes == change->topic.bytes &&
	       memcmp(round->tenant, change->tenant.data, change->tenant.bytes) == 0 &&
	       memcmp(round->topic, change->topic.data, change->topic.bytes) == 0;
}

static enum shmeta_status report(struct feed_round *round, const struct backend_sink *sink,
                                 const struct backend_key *key)
{
	round->keys++;
	return sink->changed(sink->arg, key);
}

/* key: of the place, over all offsets. */
static enum shmeta_status unread_change(struct feed_round *round, const struct feed_change *change,
                                        struct backend_key key, const struct backend_sink *sink)
{
	enum shmeta_status status = SHMETA_OK;

	if (!round->unread_topic)
		status = report(round, sink,
		                &(struct backend_key){.cls = SHMETA_CLASS_TOPIC,
		                                      .tenant = key.tenant,
		                                      .topic = key.topic,
		                                      .with_segments = 1,
		                                      .to = INT64_MAX});
	round->unread_topic = 1;
	if (status != SHMETA_OK || (change->unread & FEED_UNREAD_PARTITION) != 0 ||
	    (round->has_partition && round->partition == change->partition_id))
		return status;
	key.cls = SHMETA_CLASS_SEGMENT;
	round->has_partition = 1;
	round->partition = change->partition_id;
	return report(round, sink, &key);
}

enum shmeta_status feed_change(struct feed_round *round, const struct feed_change *change,
                               const struct backend_sink *sink)
{
	struct backend_key key = {.cls = change->cls,
	                          .tenant = change->tenant,
	                          .topic = change->topic,
	                          .partition_id = change->partition_id,
	                          .from = 0,
	                          .to = INT64_MAX};
	int whole = change->op != FEED_UPDATE;

	if (change->cls > SHMETA_CLASS_SEGMENT) {
		if ((round->class_done & 1u << change->cls) != 0)
			return SHMETA_OK;
		key.name = change->name;
		if (!backend_key_is_class(&key))
			return report(round, sink, &key);
		round->class_done |= 1u << change->cls;
		return report(round, sink, &(struct backend_key){.cls = change->cls});
	}
	/* No topic of such a name can be in the store: its rows are quarantined. */
	if (change->tenant.bytes == 0 || change->tenant.bytes > sizeof round->tenant || change->topic.bytes == 0 ||
	    change->topic.bytes > sizeof round->topic)
		return SHMETA_OK;
	if (!same_topic(round, change)) {
		memcpy(round->tenant, change->tenant.data, change->tenant.bytes);
		memcpy(round->topic, change->topic.data, change->topic.bytes);
		round->tenant_bytes = change->tenant.bytes;
		round->topic_bytes = change->topic.bytes;
		round->has_topic = 1;
		round->whole_topic = round->unread_topic = 0;
		round->has_partition = 0;
	}
	if (round->whole_topic)
		return SHMETA_OK;
	if (change->unread != 0)
		return unread_change(round, change, key, sink);
	switch (change->cls) {
	case SHMETA_CLASS_TOPIC:
		key.with_segments = key.deleted = (uint32_t)whole;
		round->whole_topic = (uint32_t)whole;
		return report(round, sink, &key);
	case SHMETA_CLASS_PARTITION:
		if (round->has_partition && round->partition == change->partition_id)
			return SHMETA_OK;
		if (whole) {
			key.cls = SHMETA_CLASS_SEGMENT;
			round->has_partition = 1;
			round->partition = change->partition_id;
		}
		return report(round, sink, &key);
	default:
		if (round->has_partition && round->partition == change->partition_id)
			return SHMETA_OK;
		key.from = change->from;
		key.to = change->to;
		return report(round, sink, &key);
	}
}
