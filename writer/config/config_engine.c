/* SPDX-License-Identifier: Apache-2.0
 * The configuration as the engine takes it. */
#include <stdlib.h>
#include <string.h>

#include "shm/page/touch.h"
#include "writer/config/config_value.h"

uint32_t config_touch_ceiling(const struct config *config)
{
	return strcmp(config->store_mode, "bounded") == 0
	               ? touch_ceiling(config->bounded_max_topics + config->bounded_max_partitions)
	               : 0;
}

void config_sync_options(const struct config *config, struct sync_ttl_override *overrides, struct sync_options *ret)
{
	const char *key = "";
	struct ttl_config freshness;

	(void)config_freshness(config, &freshness);
	*ret = (struct sync_options){
		.source = {.uri = config->source_uri,
	                   .timeout_ms = (uint32_t)config->source_timeout_ms,
	                   .read_only = (uint32_t)config->source_read_only,
	                   .manage_schema = (uint32_t)config->source_manage_schema,
	                   .create = (uint32_t)config->source_create,
	                   .read_uri = config->source_read_uri,
	                   .password_file = config->source_password_file,
	                   .allow_insecure = (uint32_t)config->source_allow_insecure,
	                   .follower_reads = (uint32_t)config->source_follower_reads,
	                   .read_units_s = (uint32_t)config->source_read_units_s,
	                   .write_units_s = (uint32_t)config->source_write_units_s,
	                   .notify = (uint32_t)config->feed_notify,
	                   .changefeed = (uint32_t)config->feed_changefeed,
	                   .feed_keep_s = (uint32_t)config->feed_keep_s},
		.store_max_bytes = config->store_max_bytes,
		.bounded = strcmp(config->store_mode, "bounded") == 0,
		.max_topics = (uint32_t)config->bounded_max_topics,
		.max_partitions = (uint32_t)config->bounded_max_partitions,
		.max_segment_bytes = config->bounded_max_segment_bytes,
		.max_bytes = config->bounded_max_bytes,
		.batch_percent = (uint32_t)config->bounded_batch_percent,
		.hot_touches = (uint32_t)config->bounded_hot_touches,
		.freshness = freshness,
		.touch_ceiling = config_touch_ceiling(config),
		.warm_file = config->warm_file,
		.warm_interval_s = config->warm_interval,
		.grace_ns = config->store_grace_ms * UINT64_C(1000000),
		.ttl_ms = {[SHMETA_CLASS_TOPIC] = (uint32_t)config->ttl_topic_ms,
	                   [SHMETA_CLASS_PARTITION] = (uint32_t)config->ttl_partition_ms,
	                   [SHMETA_CLASS_SEGMENT] = (uint32_t)config->ttl_segment_ms,
	                   [SHMETA_CLASS_LIST] = (uint32_t)config->ttl_list_ms,
	                   [SHMETA_CLASS_AGENT] = (uint32_t)config->ttl_agent_ms,
	                   [SHMETA_CLASS_LEASE] = (uint32_t)config->ttl_lease_ms,
	                   [SHMETA_CLASS_OFFSET] = (uint32_t)config->ttl_offset_ms},
		.overrides = overrides,
		.override_count = overrides != NULL ? config->override_count : 0,
		.poll_min_ms = (uint32_t)config->feed_poll_min_ms,
		.poll_max_ms = (uint32_t)config->feed_poll_max_ms,
		.reconcile_s = (uint32_t)config->feed_reconcile_s,
		.refresh_batch_keys = (uint32_t)config->refresh_batch_keys,
		.refresh_queue_max = (uint32_t)config->refresh_queue_max,
		.refresh_queue_bytes = config->refresh_queue_bytes,
		.refresh_user_rate = (uint32_t)config->refresh_user_rate,
		.refresh_user_burst = (uint32_t)config->refresh_user_burst,
		.refresh_queries_s = (uint32_t)config->refresh_queries_s,
		.refresh_rows_s = (uint32_t)config->refresh_rows_s,
		.absent_ttl_ms = (uint32_t)config->refresh_absent_ttl_ms,
		.absent_max = (uint32_t)config->refresh_absent_max,
		.write_queue_max = (uint32_t)config->write_queue_max,
		.write_queue_bytes = config->write_queue_bytes,
		.write_connection_bytes = config->write_connection_bytes,
		.user_share = (uint32_t)config->control_user_share,
		.write_batch_max = (uint32_t)config->write_batch_max,
		.write_linger_ms = (uint32_t)config->write_linger_ms,
		.accept = strtoull(config->source_accept, NULL, 16),
		.audit = config->write_audit != 0,
		.object_grace_ms =
			config->objects_grace_ms != 0 ? config->objects_grace_ms : 2 * config_longest_ttl(config, &key),
		.retry_min_ms = (uint32_t)config->retry_min_ms,
		.retry_max_ms = (uint32_t)config->retry_max_ms,
		.commit_rows = (uint32_t)config->load_commit_rows,
	};
	for (size_t i = 0; overrides != NULL && i < config->override_count; i++)
		overrides[i] = (struct sync_ttl_override){.prefix = config->overrides[i].prefix,
		                                          .ttl_ms = (uint32_t)config->overrides[i].ttl_ms};
}
