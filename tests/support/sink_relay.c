/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/sink_relay.h"

#define HAND_ON(function, listed, ...)                                         \
	do {                                                                   \
		struct sink_relay *relay_ = arg;                               \
		enum shmeta_status status_ = relay_->row(relay_, (listed));    \
		if (status_ != SHMETA_OK)                                      \
			return status_ == SHMETA_ABSENT ? SHMETA_OK : status_; \
		return relay_->to->function(relay_->to->arg, __VA_ARGS__);     \
	} while (0)

static const struct backend_sink *to(void *arg)
{
	return ((struct sink_relay *)arg)->to;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	HAND_ON(topic, false, tenant, topic);
}
static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	HAND_ON(partition, false, partition);
}
static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	HAND_ON(segment, false, segment);
}
static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	HAND_ON(agent, false, tenant, agent);
}
static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	HAND_ON(group, false, tenant, group);
}
static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	HAND_ON(offset, false, tenant, topic, offset);
}
static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	HAND_ON(lease, false, tenant, topic, lease);
}
static enum shmeta_status on_key(void *arg, const struct backend_key *key)
{
	HAND_ON(key, true, key);
}
static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	return to(arg)->key_begin(to(arg)->arg, key);
}
static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	return to(arg)->key_end(to(arg)->arg, key, status, sentence);
}
static void on_quarantine(void *arg, const struct backend_key *key, const char *sentence)
{
	to(arg)->quarantine(to(arg)->arg, key, sentence);
}
static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	return to(arg)->progress(to(arg)->arg, done, total);
}
static int on_may_lag(void *arg, uint64_t lag_ns)
{
	return to(arg)->may_lag(to(arg)->arg, lag_ns);
}

struct backend_sink sink_relay_of(struct sink_relay *relay)
{
	return (struct backend_sink){.arg = relay,
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
	                             .progress = relay->to->progress != NULL ? on_progress : NULL,
	                             .may_lag = relay->to->may_lag != NULL ? on_may_lag : NULL,
	                             .key = relay->to->key != NULL ? on_key : NULL};
}
