/* SPDX-License-Identifier: Apache-2.0
 * The two shapes of a StreamHouse SQLite file that shmeta attaches to (semantics.md 1.8 and 1.10),
 * written from their descriptions: tables, columns, keys, checks, cascades and indexes as there.
 * For tests, the generator and the bench. */
#ifndef SHMETA_TESTS_SUPPORT_STREAMHOUSE_SCHEMA_H
#define SHMETA_TESTS_SUPPORT_STREAMHOUSE_SCHEMA_H

/* v0.1: migrations 001 and 002. */
#define STREAMHOUSE_V01_TABLES                                                                                     \
	"CREATE TABLE topics(name TEXT PRIMARY KEY, partition_count INTEGER NOT NULL CHECK(partition_count > 0), " \
	"retention_ms BIGINT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "                            \
	"config TEXT NOT NULL DEFAULT '{}');"                                                                      \
	"CREATE TABLE partitions(topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "                             \
	"high_watermark BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "       \
	"PRIMARY KEY(topic, partition_id), FOREIGN KEY(topic) REFERENCES topics(name) ON DELETE CASCADE);"         \
	"CREATE TABLE segments(id TEXT PRIMARY KEY, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "          \
	"base_offset BIGINT NOT NULL, end_offset BIGINT NOT NULL, record_count INTEGER NOT NULL, "                 \
	"size_bytes BIGINT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at BIGINT NOT NULL, "  \
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE, "          \
	"CHECK(end_offset >= base_offset));"                                                                       \
	"CREATE TABLE consumer_groups(group_id TEXT PRIMARY KEY, created_at BIGINT NOT NULL, "                     \
	"updated_at BIGINT NOT NULL);"                                                                             \
	"CREATE TABLE consumer_offsets(group_id TEXT NOT NULL, topic TEXT NOT NULL, "                              \
	"partition_id INTEGER NOT NULL, committed_offset BIGINT NOT NULL, metadata TEXT, "                         \
	"committed_at BIGINT NOT NULL, PRIMARY KEY(group_id, topic, partition_id), "                               \
	"FOREIGN KEY(group_id) REFERENCES consumer_groups(group_id) ON DELETE CASCADE, "                           \
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE);"          \
	"CREATE TABLE agents(agent_id TEXT PRIMARY KEY, address TEXT NOT NULL, availability_zone TEXT NOT NULL, "  \
	"agent_group TEXT NOT NULL, last_heartbeat BIGINT NOT NULL, started_at BIGINT NOT NULL, "                  \
	"metadata TEXT NOT NULL DEFAULT '{}', UNIQUE(address));"                                                   \
	"CREATE TABLE partition_leases(topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "                       \
	"leader_agent_id TEXT NOT NULL, lease_expires_at BIGINT NOT NULL, acquired_at BIGINT NOT NULL, "           \
	"epoch BIGINT NOT NULL DEFAULT 1, PRIMARY KEY(topic, partition_id), "                                      \
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE, "          \
	"FOREIGN KEY(leader_agent_id) REFERENCES agents(agent_id) ON DELETE CASCADE);"
#define STREAMHOUSE_V01_INDEXES                                                                        \
	"CREATE INDEX idx_topics_created_at ON topics(created_at);"                                    \
	"CREATE INDEX idx_partitions_topic ON partitions(topic);"                                      \
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset);"     \
	"CREATE INDEX idx_segments_s3_path ON segments(s3_bucket, s3_key);"                            \
	"CREATE INDEX idx_segments_offsets ON segments(topic, partition_id, base_offset, end_offset);" \
	"CREATE INDEX idx_segments_created_at ON segments(created_at);"                                \
	"CREATE INDEX idx_consumer_offsets_group ON consumer_offsets(group_id);"                       \
	"CREATE INDEX idx_consumer_offsets_topic ON consumer_offsets(topic, partition_id);"            \
	"CREATE INDEX idx_consumer_offsets_committed_at ON consumer_offsets(committed_at);"            \
	"CREATE INDEX idx_agents_group ON agents(agent_group);"                                        \
	"CREATE INDEX idx_agents_az ON agents(availability_zone);"                                     \
	"CREATE INDEX idx_agents_heartbeat ON agents(last_heartbeat);"                                 \
	"CREATE INDEX idx_partition_leases_agent ON partition_leases(leader_agent_id);"                \
	"CREATE INDEX idx_partition_leases_expiration ON partition_leases(lease_expires_at);"          \
	"CREATE INDEX idx_partition_leases_topic ON partition_leases(topic);"
#define STREAMHOUSE_V01 STREAMHOUSE_V01_TABLES STREAMHOUSE_V01_INDEXES

#define STREAMHOUSE_ORG_COLUMN "organization_id TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', "
#define STREAMHOUSE_ORG_KEY "FOREIGN KEY(organization_id) REFERENCES organizations(id) ON DELETE CASCADE"

/* Later: organizations, cleanup_policy, min and max timestamps; segments have lost the key to
 * partitions and the unique place. */
#define STREAMHOUSE_LATER_TABLES                                                                                       \
	"CREATE TABLE organizations(id TEXT PRIMARY KEY, name TEXT NOT NULL, slug TEXT NOT NULL UNIQUE, "              \
	"plan TEXT NOT NULL DEFAULT 'free', status TEXT NOT NULL DEFAULT 'active', "                                   \
	"created_at INTEGER NOT NULL DEFAULT 0, updated_at INTEGER NOT NULL DEFAULT 0, "                               \
	"settings TEXT NOT NULL DEFAULT '{}');"                                                                        \
	"CREATE TABLE topics(" STREAMHOUSE_ORG_COLUMN                                                                  \
	"name TEXT NOT NULL, partition_count INTEGER NOT NULL CHECK(partition_count > 0), retention_ms INTEGER, "      \
	"created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, config TEXT NOT NULL DEFAULT '{}', "                \
	"cleanup_policy TEXT NOT NULL DEFAULT 'delete', PRIMARY KEY(organization_id, name), " STREAMHOUSE_ORG_KEY ");" \
	"CREATE TABLE partitions(" STREAMHOUSE_ORG_COLUMN                                                              \
	"topic TEXT NOT NULL, partition_id INTEGER NOT NULL, high_watermark INTEGER NOT NULL DEFAULT 0, "              \
	"created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, "                                                   \
	"PRIMARY KEY(organization_id, topic, partition_id), "                                                          \
	"FOREIGN KEY(organization_id, topic) REFERENCES topics(organization_id, name) ON DELETE CASCADE);"             \
	"CREATE TABLE segments(id TEXT PRIMARY KEY, " STREAMHOUSE_ORG_COLUMN                                           \
	"topic TEXT NOT NULL, partition_id INTEGER NOT NULL, base_offset INTEGER NOT NULL, "                           \
	"end_offset INTEGER NOT NULL, record_count INTEGER NOT NULL, size_bytes INTEGER NOT NULL, "                    \
	"s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at INTEGER NOT NULL, "                                 \
	"min_timestamp INTEGER NOT NULL DEFAULT 0, max_timestamp INTEGER NOT NULL DEFAULT 0, " STREAMHOUSE_ORG_KEY     \
	", CHECK(end_offset >= base_offset));"                                                                         \
	"CREATE TABLE consumer_groups(" STREAMHOUSE_ORG_COLUMN                                                         \
	"group_id TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, "                           \
	"PRIMARY KEY(organization_id, group_id), " STREAMHOUSE_ORG_KEY ");"                                            \
	"CREATE TABLE consumer_offsets(" STREAMHOUSE_ORG_COLUMN                                                        \
	"group_id TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "                                 \
	"committed_offset INTEGER NOT NULL, metadata TEXT, committed_at INTEGER NOT NULL, "                            \
	"PRIMARY KEY(organization_id, group_id, topic, partition_id), "                                                \
	"FOREIGN KEY(organization_id, group_id) REFERENCES consumer_groups(organization_id, group_id) "                \
	"ON DELETE CASCADE);"                                                                                          \
	"CREATE TABLE agents(agent_id TEXT PRIMARY KEY, organization_id TEXT, address TEXT NOT NULL UNIQUE, "          \
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat INTEGER NOT NULL, "                \
	"started_at INTEGER NOT NULL, metadata TEXT NOT NULL DEFAULT '{}', "                                           \
	"FOREIGN KEY(organization_id) REFERENCES organizations(id) ON DELETE SET NULL);"                               \
	"CREATE TABLE partition_leases(" STREAMHOUSE_ORG_COLUMN                                                        \
	"topic TEXT NOT NULL, partition_id INTEGER NOT NULL, leader_agent_id TEXT NOT NULL, "                          \
	"lease_expires_at INTEGER NOT NULL, acquired_at INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 1, "          \
	"PRIMARY KEY(organization_id, topic, partition_id), " STREAMHOUSE_ORG_KEY ", "                                 \
	"FOREIGN KEY(leader_agent_id) REFERENCES agents(agent_id) ON DELETE CASCADE);"                                 \
	"INSERT INTO organizations(id, name, slug) "                                                                   \
	"VALUES('00000000-0000-0000-0000-000000000000', 'Default Organization', 'default');"
#define STREAMHOUSE_LATER_INDEXES                                                                            \
	"CREATE INDEX idx_topics_org ON topics(organization_id);"                                            \
	"CREATE INDEX idx_topics_created_at ON topics(created_at);"                                          \
	"CREATE INDEX idx_topics_name_pattern ON topics(name);"                                              \
	"CREATE INDEX idx_partitions_org ON partitions(organization_id);"                                    \
	"CREATE INDEX idx_partitions_topic ON partitions(organization_id, topic);"                           \
	"CREATE UNIQUE INDEX idx_partitions_topic_partition "                                                \
	"ON partitions(organization_id, topic, partition_id);"                                               \
	"CREATE INDEX idx_segments_org ON segments(organization_id);"                                        \
	"CREATE INDEX idx_segments_location ON segments(organization_id, topic, partition_id, base_offset);" \
	"CREATE INDEX idx_segments_s3_path ON segments(s3_bucket, s3_key);"                                  \
	"CREATE INDEX idx_segments_offsets "                                                                 \
	"ON segments(organization_id, topic, partition_id, base_offset, end_offset);"                        \
	"CREATE INDEX idx_consumer_groups_org ON consumer_groups(organization_id);"                          \
	"CREATE INDEX idx_consumer_offsets_org ON consumer_offsets(organization_id);"                        \
	"CREATE INDEX idx_consumer_offsets_group ON consumer_offsets(organization_id, group_id);"            \
	"CREATE INDEX idx_consumer_offsets_topic ON consumer_offsets(organization_id, topic, partition_id);" \
	"CREATE INDEX idx_agents_org ON agents(organization_id);"                                            \
	"CREATE INDEX idx_agents_group ON agents(agent_group);"                                              \
	"CREATE INDEX idx_agents_az ON agents(availability_zone);"                                           \
	"CREATE INDEX idx_agents_heartbeat ON agents(last_heartbeat);"                                       \
	"CREATE INDEX idx_partition_leases_org ON partition_leases(organization_id);"                        \
	"CREATE INDEX idx_partition_leases_agent ON partition_leases(leader_agent_id);"                      \
	"CREATE INDEX idx_partition_leases_expiration ON partition_leases(lease_expires_at);"                \
	"CREATE INDEX idx_partition_leases_topic ON partition_leases(organization_id, topic);"
#define STREAMHOUSE_LATER STREAMHOUSE_LATER_TABLES STREAMHOUSE_LATER_INDEXES

/* StreamHouse on PostgreSQL: v0.1. */
#define STREAMHOUSE_PG_V01                                                                                           \
	"CREATE TABLE topics(name TEXT PRIMARY KEY, partition_count INTEGER NOT NULL CHECK (partition_count > 0), "  \
	"retention_ms BIGINT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "                              \
	"config JSONB NOT NULL DEFAULT '{}');"                                                                       \
	"CREATE INDEX idx_topics_created_at ON topics(created_at);"                                                  \
	"CREATE TABLE partitions(topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "                               \
	"high_watermark BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "         \
	"PRIMARY KEY (topic, partition_id), FOREIGN KEY (topic) REFERENCES topics(name) ON DELETE CASCADE);"         \
	"CREATE INDEX idx_partitions_topic ON partitions(topic);"                                                    \
	"CREATE TABLE segments(id TEXT PRIMARY KEY, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "            \
	"base_offset BIGINT NOT NULL, end_offset BIGINT NOT NULL, record_count INTEGER NOT NULL, "                   \
	"size_bytes BIGINT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at BIGINT NOT NULL, "    \
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE, "           \
	"CHECK (end_offset >= base_offset));"                                                                        \
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset);"                   \
	"CREATE INDEX idx_segments_s3_path ON segments(s3_bucket, s3_key);"                                          \
	"CREATE INDEX idx_segments_offsets ON segments(topic, partition_id, base_offset, end_offset);"               \
	"CREATE INDEX idx_segments_created_at ON segments(created_at);"                                              \
	"CREATE TABLE consumer_groups(group_id TEXT PRIMARY KEY, created_at BIGINT NOT NULL, "                       \
	"updated_at BIGINT NOT NULL);"                                                                               \
	"CREATE TABLE consumer_offsets(group_id TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, " \
	"committed_offset BIGINT NOT NULL, metadata TEXT, committed_at BIGINT NOT NULL, "                            \
	"PRIMARY KEY (group_id, topic, partition_id), "                                                              \
	"FOREIGN KEY (group_id) REFERENCES consumer_groups(group_id) ON DELETE CASCADE, "                            \
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE);"           \
	"CREATE TABLE agents(agent_id TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE, "                              \
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat BIGINT NOT NULL, "               \
	"started_at BIGINT NOT NULL, metadata JSONB NOT NULL DEFAULT '{}');"                                         \
	"CREATE TABLE partition_leases(topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "                         \
	"leader_agent_id TEXT NOT NULL, lease_expires_at BIGINT NOT NULL, acquired_at BIGINT NOT NULL, "             \
	"epoch BIGINT NOT NULL DEFAULT 1, PRIMARY KEY (topic, partition_id), "                                       \
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE, "           \
	"FOREIGN KEY (leader_agent_id) REFERENCES agents(agent_id) ON DELETE CASCADE);"

/* And later: organizations, of type UUID; the unique place of a segment and the key of a lease do
 * not name them. */
#define STREAMHOUSE_PG_LATER                                                                                          \
	"CREATE TABLE organizations(id UUID PRIMARY KEY, name TEXT NOT NULL, slug TEXT NOT NULL UNIQUE);"             \
	"INSERT INTO organizations(id, name, slug) "                                                                  \
	"VALUES ('00000000-0000-0000-0000-000000000000', 'Default Organization', 'default');"                         \
	"CREATE TABLE topics(organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE, "          \
	"name TEXT NOT NULL, partition_count INTEGER NOT NULL CHECK (partition_count > 0), retention_ms BIGINT, "     \
	"cleanup_policy TEXT NOT NULL DEFAULT 'delete', created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "     \
	"config JSONB NOT NULL DEFAULT '{}', PRIMARY KEY (organization_id, name));"                                   \
	"CREATE TABLE partitions(organization_id UUID NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, " \
	"high_watermark BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "          \
	"PRIMARY KEY (organization_id, topic, partition_id), "                                                        \
	"FOREIGN KEY (organization_id, topic) REFERENCES topics(organization_id, name) ON DELETE CASCADE);"           \
	"CREATE TABLE segments(id TEXT PRIMARY KEY, organization_id UUID NOT NULL, topic TEXT NOT NULL, "             \
	"partition_id INTEGER NOT NULL, base_offset BIGINT NOT NULL, end_offset BIGINT NOT NULL, "                    \
	"record_count INTEGER NOT NULL, size_bytes BIGINT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, "  \
	"created_at BIGINT NOT NULL, min_timestamp BIGINT NOT NULL DEFAULT 0, "                                       \
	"max_timestamp BIGINT NOT NULL DEFAULT 0, FOREIGN KEY (organization_id, topic, partition_id) "                \
	"REFERENCES partitions(organization_id, topic, partition_id) ON DELETE CASCADE, "                             \
	"CHECK (end_offset >= base_offset));"                                                                         \
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset);"                    \
	"CREATE INDEX idx_segments_s3_path ON segments(s3_bucket, s3_key);"                                           \
	"CREATE TABLE consumer_groups(organization_id UUID NOT NULL REFERENCES organizations(id) "                    \
	"ON DELETE CASCADE, group_id TEXT NOT NULL, "                                                                 \
	"created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (organization_id, group_id));"           \
	"CREATE TABLE consumer_offsets(organization_id UUID NOT NULL, group_id TEXT NOT NULL, topic TEXT NOT NULL, "  \
	"partition_id INTEGER NOT NULL, committed_offset BIGINT NOT NULL, metadata TEXT, "                            \
	"committed_at BIGINT NOT NULL, PRIMARY KEY (organization_id, group_id, topic, partition_id), "                \
	"FOREIGN KEY (organization_id, group_id) REFERENCES consumer_groups(organization_id, group_id) "              \
	"ON DELETE CASCADE, FOREIGN KEY (organization_id, topic, partition_id) "                                      \
	"REFERENCES partitions(organization_id, topic, partition_id) ON DELETE CASCADE);"                             \
	"CREATE TABLE agents(agent_id TEXT PRIMARY KEY, "                                                             \
	"organization_id UUID REFERENCES organizations(id) ON DELETE SET NULL, address TEXT NOT NULL UNIQUE, "        \
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat BIGINT NOT NULL, "                \
	"started_at BIGINT NOT NULL, metadata JSONB NOT NULL DEFAULT '{}');"                                          \
	"CREATE TABLE partition_leases(organization_id UUID NOT NULL, topic TEXT NOT NULL, "                          \
	"partition_id INTEGER NOT NULL, leader_agent_id TEXT NOT NULL, lease_expires_at BIGINT NOT NULL, "            \
	"acquired_at BIGINT NOT NULL, epoch BIGINT NOT NULL DEFAULT 1, PRIMARY KEY (topic, partition_id), "           \
	"FOREIGN KEY (organization_id, topic, partition_id) "                                                         \
	"REFERENCES partitions(organization_id, topic, partition_id) ON DELETE CASCADE, "                             \
	"FOREIGN KEY (leader_agent_id) REFERENCES agents(agent_id) ON DELETE CASCADE);"

#endif
