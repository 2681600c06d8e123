/* SPDX-License-Identifier: Apache-2.0
 * StreamHouse's tables (tables.h). */
#include "backends/sql/tables.h"

const struct table backend_tables[TABLE_COUNT] = {
	[TOPICS] = {"topics", {"name", "partition_count", "retention_ms", "created_at", "updated_at", "config"}},
	[PARTITIONS] = {"partitions", {"topic", "partition_id", "high_watermark", "created_at", "updated_at"}},
	[SEGMENTS] = {"segments",
                      {"id", "topic", "partition_id", "base_offset", "end_offset", "record_count", "size_bytes",
                       "s3_bucket", "s3_key", "created_at"}},
	[GROUPS] = {"consumer_groups", {"group_id", "created_at", "updated_at"}},
	[OFFSETS] = {"consumer_offsets",
                     {"group_id", "topic", "partition_id", "committed_offset", "metadata", "committed_at"}},
	[AGENTS] = {"agents",
                    {"agent_id", "address", "availability_zone", "agent_group", "last_heartbeat", "started_at",
                     "metadata"}},
	[LEASES] = {"partition_leases",
                    {"topic", "partition_id", "leader_agent_id", "lease_expires_at", "acquired_at", "epoch"}},
};
