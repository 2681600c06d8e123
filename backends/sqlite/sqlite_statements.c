/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the texts of all statements, as templates (backends/sql/statement_template.h).
 * Text is compared byte by byte, whatever collation its column has; and no statement replaces a
 * row, because SQLite tells no trigger of the rows that a REPLACE removes.
 *
 * Words: @topics, @partitions, .. (backends/sql/tables.h). Flags:
 *   o tenants   a agents have one   l leases have one   c cleanup_policy   t timestamps
 *   w shmeta's own tables   s there are slices   r segments have a rowid   f the file has triggers
 *                                                                          that are not shmeta's
 * A file without shmeta's own tables answers as if it had nothing in them. */
#include <stdlib.h>

#include "backends/sql/tables.h"
#include "backends/sqlite/sqlite_db.h"

/* ?1 is bound in every statement on tables that have tenants. */
#define OF_TENANT "{o: AND organization_id = ?1 COLLATE BINARY}"
#define OF_LEASES_TENANT "{l: AND organization_id = ?1 COLLATE BINARY}"
#define OF_AGENTS_TENANT "{a: AND (organization_id = ?1 COLLATE BINARY OR organization_id IS NULL)}"
/* An agent of nobody's serves every tenant and is changed by the default one alone, which sees
 * it. */
#define IS_OWN_AGENT \
	" (organization_id = ?1 COLLATE BINARY OR (organization_id IS NULL AND ?1 = '" SHMETA_DEFAULT_TENANT "'))"
#define OWN_AGENT "{a: AND" IS_OWN_AGENT "}"
/* The application's triggers would take over an OR of ours. Where it has none, a clause of its
 * constraints (ON CONFLICT REPLACE, IGNORE, ROLLBACK) does not get its way. */
#define OR_ABORT "{!f:OR ABORT }"
#define COLUMN "{o:organization_id, }"
#define VALUE "{o:?1, }"
#define TENANT_OF_SLICES "{o:?1}{!o:'" SHMETA_DEFAULT_TENANT "'}"
#define PLACE "topic = ?2 COLLATE BINARY AND partition_id = ?3"
#define LED "tenant = ?1 AND topic = ?2 AND partition_id = ?3"
#define HELD_NOW                                                                                                  \
	"leader_agent_id = ?2 COLLATE BINARY AND typeof(lease_expires_at) = 'integer' AND lease_expires_at > ?3 " \
	"AND typeof(topic) = 'text' AND typeof(partition_id) = 'integer'" OF_LEASES_TENANT

/* Epochs never go back, whoever took the lease: before leases go, their epochs are kept. */
#define KEEP_EPOCHS(where)                                                                                                   \
	"{!w:SELECT 1}{w:INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) SELECT "                        \
	"{l:organization_id}{!l:?1}, topic, partition_id, epoch FROM partition_leases WHERE typeof(topic) = 'text' AND "     \
	"typeof(partition_id) = 'integer' AND typeof(epoch) = 'integer'{l: AND typeof(organization_id) = 'text'} AND " where \
	" ON CONFLICT(tenant, topic, partition_id) DO UPDATE SET epoch = max(epoch, excluded.epoch)}"
#define SLICES_OF_O "(SELECT count(*) FROM shmeta_slices l WHERE l.object_id = o.object_id)"
#define O_HAS_SLICES "EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = o.object_id)"

/* The keys of a fetch lie in a table of our own, in memory, so that statements do not grow with
 * them. kind: as in sqlite_fetch.c. CROSS JOIN: keys outside, always. The order needs no sorting: i
 * is the keys' rowid, the rest comes from the index. */
#define KEYED(columns, table, condition, kinds)                                                                     \
	"SELECT " columns ", k.i FROM temp.shmeta_keys k CROSS JOIN " table " ON " condition " WHERE k.kind " kinds \
	" ORDER BY k.i"
#define OF_KEY(alias) "{o:" alias ".organization_id = k.tenant COLLATE BINARY AND }"
#define OF_LEASES_KEY "{l:r.organization_id = k.tenant COLLATE BINARY AND }"
#define OF_ONE(alias) "{o:" alias ".organization_id = ?1 COLLATE BINARY AND }"
#define TIE "{r:s.rowid}{!r:s.id COLLATE BINARY}"
#define ORGANIZATION(alias) "{o:" alias ".organization_id}{!o:NULL}"
#define BY_ORGANIZATION "{o:organization_id COLLATE BINARY, }"
/* Where a slice lies in its object is looked up only in a file that has ever had slices. */
#define SEGMENT                                                                                                                                \
	"@segments, {!s:0}{s:ifnull((SELECT l.position FROM shmeta_slices l WHERE l.tenant = {o:s.organization_id}{!o:'" SHMETA_DEFAULT_TENANT \
	"'} AND l.topic = s.topic AND l.partition_id = s.partition_id AND l.base_offset = "                                                    \
	"s.base_offset), 0)}"

static const char *const templates[ST_COUNT] = {
	[ST_BEGIN] = "BEGIN",
	[ST_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_ROLLBACK] = "ROLLBACK",
	[ST_DATA_VERSION] = "PRAGMA main.data_version",
	[ST_SCHEMA_VERSION] = "PRAGMA main.schema_version",
	[ST_SCHEMA_OBJECTS] =
		"SELECT type, name, rootpage, sql, rowid, (SELECT schema_version FROM pragma_schema_version) FROM sqlite_master WHERE (type IN ('table', 'view', 'index') AND "
		"tbl_name IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
		"'partition_leases')) OR (type = 'table' AND substr(name, 1, 7) = 'shmeta_') OR type = 'trigger' "
		"ORDER BY type, name",
	/* Cheap, and near the truth also where old segments have been deleted for years. */
	[ST_TOTALS] = "SELECT {!r:0}{r:(SELECT count(*) FROM topics) + (SELECT count(*) FROM partitions) + "
		      "ifnull((SELECT max(rowid) FROM segments) - (SELECT min(rowid) FROM segments) + 1, 0)}",
	[ST_LOAD_TOPICS] = "SELECT @topics FROM topics t ORDER BY " BY_ORGANIZATION "name COLLATE BINARY",
	[ST_LOAD_TOPIC_KEYS] = "SELECT " ORGANIZATION("t") ", t.name FROM topics t",
	[ST_LOAD_OTHER_KEYS] = "SELECT DISTINCT " ORGANIZATION("p") ", p.topic FROM partitions p",
	[ST_LOAD_PARTITIONS] =
		"SELECT @partitions FROM partitions p ORDER BY " BY_ORGANIZATION "topic COLLATE BINARY, partition_id",
	[ST_LOAD_SEGMENTS] = "SELECT " SEGMENT " FROM segments s ORDER BY " BY_ORGANIZATION
			     "topic COLLATE BINARY, partition_id, base_offset, " TIE,
	[ST_AGENTS] = "SELECT @agents, 0 FROM agents r",
	[ST_GROUPS] = "SELECT @consumer_groups, 0 FROM consumer_groups r",
	[ST_OFFSETS] = "SELECT @consumer_offsets, 0 FROM consumer_offsets r",
	[ST_LEASES] = "SELECT @partition_leases, 0 FROM partition_leases r",
	[ST_KEYS_CLEAR] = "DELETE FROM temp.shmeta_keys",
	[ST_KEYS_ADD] = "INSERT INTO temp.shmeta_keys(i, kind, tenant, topic, partition_id, low, high, name) "
			"VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_KEY_TOPICS] = KEYED("@topics", "topics t", OF_KEY("t") "t.name = k.topic COLLATE BINARY", "IN (0, 1, 8)"),
	[ST_TOPIC_PARTITIONS] = KEYED("@partitions", "partitions p", OF_KEY("p") "p.topic = k.topic COLLATE BINARY",
                                      "<= 1") ", p.partition_id",
	[ST_TOPIC_SEGMENTS] = KEYED(SEGMENT, "segments s", OF_KEY("s") "s.topic = k.topic COLLATE BINARY",
                                    "= 1") ", s.partition_id, s.base_offset, " TIE,
	[ST_KEY_PARTITIONS] =
		KEYED("@partitions", "partitions p",
                      OF_KEY("p") "p.topic = k.topic COLLATE BINARY AND p.partition_id = k.partition_id", "IN (2, 3)"),
	[ST_KEY_SEGMENTS] =
		KEYED(SEGMENT, "segments s",
                      OF_KEY("s") "s.topic = k.topic COLLATE BINARY AND s.partition_id = k.partition_id AND "
                                  "s.base_offset BETWEEN k.low AND k.high",
                      "= 3") ", s.base_offset, " TIE,
	/* The same for one key: ?1 tenant, ?2 topic, ?3 partition, ?4 and ?5 bases. */
	[ST_ONE_PARTITION] = "SELECT @partitions FROM partitions p WHERE " OF_ONE(
		"p") "p.topic = ?2 COLLATE BINARY AND p.partition_id = ?3",
	[ST_ONE_SEGMENTS] = "SELECT " SEGMENT " FROM segments s WHERE " OF_ONE(
		"s") "s.topic = ?2 COLLATE BINARY AND s.partition_id = ?3 AND s.base_offset BETWEEN ?4 AND ?5 ORDER BY "
		     "s.base_offset, " TIE,
	/* Ids of agents are one namespace for all tenants. */
	[ST_KEY_AGENTS] = KEYED("@agents", "agents r", "r.agent_id = k.name COLLATE BINARY", "= 4"),
	[ST_KEY_GROUPS] = KEYED("@consumer_groups", "consumer_groups r",
                                OF_KEY("r") "r.group_id = k.name COLLATE BINARY", "IN (5, 6)"),
	[ST_KEY_OFFSETS] =
		KEYED("@consumer_offsets", "consumer_offsets r",
                      OF_KEY("r") "r.group_id = k.name COLLATE BINARY AND r.topic = k.topic COLLATE BINARY AND "
                                  "r.partition_id = k.partition_id",
                      "= 5"),
	[ST_GROUP_OFFSETS] = KEYED("@consumer_offsets", "consumer_offsets r",
                                   OF_KEY("r") "r.group_id = k.name COLLATE BINARY", "= 6"),
	[ST_KEY_LEASES] =
		KEYED("@partition_leases", "partition_leases r",
                      OF_LEASES_KEY "r.topic = k.topic COLLATE BINARY AND r.partition_id = k.partition_id", "= 7"),
	[ST_FEED_STATE] =
		"SELECT (SELECT min(seq) FROM shmeta_changes), (SELECT max(seq) FROM shmeta_changes), (SELECT value FROM "
		"shmeta_meta WHERE name = 'feed'), (SELECT value FROM shmeta_meta WHERE name = 'feed_before'), "
		"(SELECT token FROM shmeta_changes ORDER BY seq DESC LIMIT 1), "
		"(SELECT token FROM shmeta_changes WHERE seq = ?1)",
	[ST_FEED_CHANGES] =
		"SELECT class, op, tenant, topic, partition_id, min(base_offset), max(base_offset), name FROM "
		"shmeta_changes WHERE seq > ? AND seq <= ? GROUP BY tenant, topic, partition_id, class, op, name "
		"ORDER BY tenant, topic, partition_id, class, op",
	[ST_FEED_PRUNE] = "DELETE FROM shmeta_changes WHERE seq <= ?",

	[ST_W_TOPIC_INSERT] =
		"INSERT " OR_ABORT "INTO topics(" COLUMN
		"name, partition_count, retention_ms, created_at, updated_at, config{c:, cleanup_policy}) VALUES(" VALUE
		"?2, ?3, ?4, ?5, ?5, ?6{c:, ifnull(?7, 'delete')})",
	[ST_W_TOPIC_DELETE] = "DELETE FROM topics WHERE name = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_TOPIC_EXISTS] = "SELECT 1 FROM topics WHERE name = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_TOPIC_SEGMENTS] = "DELETE FROM segments WHERE topic = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_TOPIC_OFFSETS] = "DELETE FROM consumer_offsets WHERE topic = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_TOPIC_LEASES] = "DELETE FROM partition_leases WHERE topic = ?2 COLLATE BINARY" OF_LEASES_TENANT,
	[ST_W_TOPIC_PARTITIONS] = "DELETE FROM partitions WHERE topic = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_TOPIC_LEFT] =
		"SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY" OF_TENANT
		" UNION ALL SELECT 1 FROM segments WHERE topic = ?2 COLLATE BINARY" OF_TENANT
		" UNION ALL SELECT 1 FROM consumer_offsets WHERE topic = ?2 COLLATE BINARY" OF_TENANT
		" UNION ALL SELECT 1 FROM partition_leases WHERE topic = ?2 COLLATE BINARY" OF_LEASES_TENANT,
	[ST_W_PARTITIONS] =
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?3 - 1) INSERT " OR_ABORT
		"INTO partitions(" COLUMN "topic, partition_id, high_watermark, created_at, updated_at) SELECT " VALUE
		"?2, i, 0, ?5, ?5 FROM n",
	[ST_W_PARTITION] = "SELECT 1 FROM partitions WHERE " PLACE OF_TENANT,
	[ST_W_WATERMARK] =
		"UPDATE " OR_ABORT "partitions SET high_watermark = ?4, updated_at = ?5 WHERE " PLACE OF_TENANT,
	[ST_W_WATERMARK_MAX] =
		"UPDATE " OR_ABORT
		"partitions SET high_watermark = max(high_watermark, ?4), updated_at = ?5 WHERE " PLACE OF_TENANT
		/* A text is above each number, and NULL stays NULL. */
		" AND typeof(high_watermark) = 'integer'",
	[ST_W_WATERMARK_ODD] =
		"SELECT 1 FROM partitions WHERE " PLACE OF_TENANT " AND typeof(high_watermark) <> 'integer'",
	[ST_W_SEGMENT_INSERT] =
		"INSERT " OR_ABORT "INTO segments(" COLUMN
		"id, topic, partition_id, base_offset, end_offset, record_count, "
		"size_bytes, s3_bucket, s3_key, created_at{t:, min_timestamp, max_timestamp}) VALUES(" VALUE
		"?4, ?2, ?3, ?5, ?6, ?7, ?8, ?9, ?10, ?11{t:, ?12, ?13})",
	[ST_W_SEGMENT_AT] =
		"SELECT id, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at, {t:min_timestamp, "
		"max_timestamp}{!t:0, 0} FROM segments WHERE " PLACE " AND base_offset = ?4" OF_TENANT,
	[ST_W_SEGMENT_ID] = "SELECT 1 FROM segments WHERE id = ?2 COLLATE BINARY",
	[ST_W_SEGMENTS_BEFORE] =
		"DELETE FROM segments WHERE " PLACE " AND base_offset < ?4 AND end_offset < ?4" OF_TENANT,
	[ST_W_SEGMENTS_IN] =
		"SELECT base_offset, end_offset, record_count, size_bytes, created_at, {t:min_timestamp, max_timestamp}{!t:0, 0}, "
		"id, s3_bucket, s3_key, {!w:0}{w:ifnull((SELECT l.position FROM shmeta_slices l WHERE l.tenant = " TENANT_OF_SLICES
		" AND l.topic = ?2 AND l.partition_id = ?3 AND l.base_offset = segments.base_offset), 0)} FROM segments "
		"WHERE " PLACE " AND base_offset BETWEEN ?4 AND ?5" OF_TENANT " ORDER BY base_offset",
	[ST_W_SEGMENT_REACHING] =
		"SELECT 1 FROM (SELECT end_offset FROM segments WHERE " PLACE " AND base_offset < ?4" OF_TENANT
		" ORDER BY base_offset DESC LIMIT ?6) WHERE end_offset >= ?5",
	[ST_W_SEGMENT_DELETE] =
		"DELETE FROM segments WHERE " PLACE " AND base_offset = ?4 AND id = ?5 COLLATE BINARY" OF_TENANT,
	[ST_W_SEGMENT_UPDATE] =
		"UPDATE " OR_ABORT
		"segments SET id = ?4, end_offset = ?6, record_count = ?7, size_bytes = ?8, s3_bucket = ?9, s3_key = ?10, "
		"created_at = ?11{t:, min_timestamp = ?12, max_timestamp = ?13} WHERE " PLACE
		" AND base_offset = ?5" OF_TENANT,
	[ST_W_COMPACTION_GET] =
		"SELECT {!w:0 WHERE 0}{w:epoch FROM shmeta_compactions WHERE tenant = ?1 AND topic = ?2 AND partition_id = ?3}",
	[ST_W_COMPACTION_PUT] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_compactions(tenant, topic, partition_id, epoch) VALUES(?1, ?2, ?3, ?4) "
		"ON CONFLICT(tenant, topic, partition_id) DO UPDATE SET epoch = excluded.epoch}",
	/* What the watermark is, where nothing was written under the epoch yet. */
	[ST_W_LED_BEFORE] =
		"SELECT {!w:0 WHERE 0}{w:high_watermark FROM partitions WHERE " PLACE OF_TENANT
		" AND typeof(high_watermark) = 'integer' AND high_watermark >= 0 AND NOT EXISTS(SELECT 1 FROM shmeta_leader_epochs WHERE " LED
		" AND epoch = ?4)}",
	/* ?6: a lower start is the epoch's. */
	[ST_W_LED_PUT] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_leader_epochs(tenant, topic, partition_id, epoch, start, "
		"created_at) VALUES(?1, ?2, ?3, ?4, ?5, ?7) ON CONFLICT(tenant, topic, partition_id, epoch) DO UPDATE "
		"SET start = excluded.start WHERE ?6 AND excluded.start < start}",
	[ST_W_LED_BOUND] = "{!w:SELECT 1}{w:DELETE FROM shmeta_leader_epochs WHERE " LED
			   " AND epoch BETWEEN 1 AND (SELECT epoch FROM "
			   "shmeta_leader_epochs WHERE " LED " AND epoch > 0 ORDER BY epoch DESC LIMIT 1 OFFSET ?4)}",
	/* The log start is the lowest base, or the high watermark where there is no segment. */
	[ST_W_LED_TRIM] =
		"{!w:SELECT 1}{w:WITH e(epoch, stop) AS (SELECT epoch, lead(start) OVER (ORDER BY epoch) FROM "
		"shmeta_leader_epochs WHERE " LED
		" AND epoch > 0), gone(epoch) AS (SELECT epoch FROM e WHERE stop <= ifnull((SELECT "
		"min(base_offset) FROM segments WHERE " PLACE OF_TENANT
		"), (SELECT high_watermark FROM partitions WHERE " PLACE OF_TENANT
		"))) DELETE FROM shmeta_leader_epochs WHERE " LED
		" AND epoch IN (SELECT epoch FROM gone) AND epoch < (SELECT max(epoch) FROM gone)}",
	[ST_W_LED_DROPPED] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_leader_epochs(tenant, topic, partition_id, epoch, start, created_at) "
		"VALUES(?1, ?2, ?3, 0, 0, 0) ON CONFLICT(tenant, topic, partition_id, epoch) DO NOTHING}",
	[ST_W_LED_TOPIC] = "{!w:SELECT 1}{w:DELETE FROM shmeta_leader_epochs WHERE tenant = ?1 AND topic = ?2}",
	[ST_EPOCH_END] =
		"SELECT {!w:0}{w:EXISTS(SELECT 1 FROM topics WHERE name = ?2 COLLATE BINARY" OF_TENANT
		"), (SELECT iif(typeof(high_watermark) = 'integer', high_watermark, -1) FROM partitions WHERE " PLACE
			OF_TENANT "), max(ifnull((SELECT epoch FROM partition_leases WHERE " PLACE OF_LEASES_TENANT
		"), 0), ifnull((SELECT epoch FROM shmeta_lease_epochs WHERE " LED "), 0)), (SELECT max(epoch) FROM "
		"shmeta_leader_epochs WHERE " LED
		" AND epoch <= ?4), (SELECT start FROM shmeta_leader_epochs WHERE " LED
		" AND epoch > ?4 ORDER BY epoch LIMIT 1)}",
	[ST_W_GROUP_EXISTS] = "SELECT 1 FROM consumer_groups WHERE group_id = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_GROUP_INSERT] = "INSERT " OR_ABORT "INTO consumer_groups(" COLUMN
			      "group_id, created_at, updated_at) VALUES(" VALUE "?2, ?3, ?3)",
	[ST_W_GROUP_DELETE] = "DELETE FROM consumer_groups WHERE group_id = ?2 COLLATE BINARY" OF_TENANT,
	[ST_W_OFFSET_PUT] = "INSERT INTO consumer_offsets(" COLUMN
			    "group_id, topic, partition_id, committed_offset, metadata, committed_at) "
			    "VALUES(" VALUE
			    "?4, ?2, ?3, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET committed_offset = ?5, metadata = ?6, "
			    "committed_at = ?7 WHERE group_id = ?4 COLLATE BINARY AND " PLACE OF_TENANT,
	[ST_W_AGENT_PUT] =
		"INSERT INTO agents({a:organization_id, }agent_id, address, availability_zone, agent_group, last_heartbeat, "
		"started_at, metadata) VALUES({a:?1, }?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET address = "
		"excluded.address, availability_zone = excluded.availability_zone, agent_group = excluded.agent_group, "
		"last_heartbeat = excluded.last_heartbeat, metadata = excluded.metadata WHERE agent_id = ?2 COLLATE BINARY" OWN_AGENT,
	[ST_W_AGENT_BEAT] =
		"UPDATE " OR_ABORT "agents SET last_heartbeat = ?3 WHERE agent_id = ?2 COLLATE BINARY" OWN_AGENT,
	[ST_W_AGENT_DELETE] = "DELETE FROM agents WHERE agent_id = ?2 COLLATE BINARY" OWN_AGENT,
	[ST_W_AGENT_EXISTS] = "SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY" OF_AGENTS_TENANT,
	[ST_W_AGENT_LEFT] = "SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY" OWN_AGENT,
	[ST_W_AGENT_FOREIGN] =
		"SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY AND NOT{a:" IS_OWN_AGENT "}{!a: 1}",
	[ST_W_AGENT_ADDRESS] =
		"SELECT 1 FROM agents WHERE address = ?2 COLLATE BINARY AND agent_id <> ?1 COLLATE BINARY",
	[ST_W_LEASE_GET] =
		"SELECT leader_agent_id, lease_expires_at, acquired_at, epoch FROM partition_leases WHERE " PLACE
			OF_LEASES_TENANT,
	[ST_W_LEASE_PUT] =
		"INSERT INTO partition_leases({l:organization_id, }topic, partition_id, leader_agent_id, lease_expires_at, "
		"acquired_at, epoch) VALUES({l:?1, }?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET leader_agent_id = ?4, "
		"lease_expires_at = ?5, acquired_at = ?6, epoch = ?7 WHERE " PLACE OF_LEASES_TENANT,
	/* A row whose times are no numbers cannot be served, and is nobody's. */
	[ST_W_LEASES_RENEW] =
		"UPDATE " OR_ABORT "partition_leases SET lease_expires_at = max(lease_expires_at, ?4) WHERE " HELD_NOW
		" RETURNING topic, partition_id",
	[ST_W_LEASES_SHORT] = "SELECT 1 FROM partition_leases WHERE " HELD_NOW " AND lease_expires_at < ?4",
	[ST_W_LEASE_DELETE] = "DELETE FROM partition_leases WHERE " PLACE OF_LEASES_TENANT,
	[ST_W_EPOCHS_PLACE] = KEEP_EPOCHS(PLACE OF_LEASES_TENANT),
	[ST_W_EPOCHS_TOPIC] = KEEP_EPOCHS("topic = ?2 COLLATE BINARY" OF_LEASES_TENANT),
	[ST_W_EPOCHS_AGENT] = KEEP_EPOCHS("leader_agent_id = ?2 COLLATE BINARY"),
	[ST_W_EPOCH_GET] =
		"SELECT {!w:0 WHERE 0}{w:epoch FROM shmeta_lease_epochs WHERE tenant = ?1 AND topic = ?2 AND "
		"partition_id = ?3}",
	[ST_W_EPOCH_PUT] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) VALUES(?1, ?2, "
		"?3, ?4) ON CONFLICT(tenant, topic, partition_id) DO UPDATE SET epoch = max(epoch, excluded.epoch)}",
	/* What the triggers would do (see struct sqlite_shape). */
	[ST_W_SLICES_TOPIC] =
		"{!w:SELECT 1}{w:DELETE FROM shmeta_slices WHERE tenant = " TENANT_OF_SLICES " AND topic = ?2}",
	[ST_W_SLICES_BEFORE] =
		"{!w:SELECT 1}{w:DELETE FROM shmeta_slices WHERE tenant = " TENANT_OF_SLICES
		" AND topic = ?2 AND partition_id = "
		"?3 AND base_offset < ?4 AND NOT EXISTS(SELECT 1 FROM segments s WHERE s.topic = ?2 COLLATE BINARY AND "
		"s.partition_id = ?3 AND s.base_offset = shmeta_slices.base_offset" OF_TENANT ")}",
	[ST_W_SLICE_DELETE] = "{!w:SELECT 1}{w:DELETE FROM shmeta_slices WHERE tenant = " TENANT_OF_SLICES
			      " AND topic = ?2 AND partition_id = ?3 AND base_offset = ?4}",
	[ST_W_LOG] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_changes(class, op, tenant, topic, partition_id, base_offset, name, "
		"token) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)}",
	[ST_W_SAVE] = "SAVEPOINT item",
	[ST_W_RELEASE] = "RELEASE item",
	[ST_W_UNDO] = "ROLLBACK TO item",
	[ST_W_OFFER_PENDING] = "SELECT {!w:1}{w:transfer_id FROM shmeta_transfers WHERE tenant = ?1 AND topic = ?2 AND "
			       "partition_id = ?3 AND state IN ('pending', 'accepted') AND timeout_at > ?4}",
	[ST_W_OFFER_PUT] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_transfers(tenant, topic, partition_id, from_agent, to_agent, "
		"state, created_at, timeout_at) VALUES(?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7)}",
	[ST_W_OFFER_GET] = "SELECT {!w:1 WHERE 0}{w:topic, partition_id, from_agent, to_agent, state, timeout_at FROM "
			   "shmeta_transfers WHERE tenant = ?1 AND transfer_id = ?2}",
	[ST_W_OFFER_STATE] = "{!w:SELECT 1}{w:UPDATE shmeta_transfers SET state = ?3 WHERE transfer_id = ?2}",
	[ST_W_OBJECT_GET] =
		"SELECT {!w:1 WHERE 0}{w:object_id, size_bytes, (SELECT count(*) FROM shmeta_slices s WHERE "
		"s.object_id = o.object_id) FROM shmeta_objects o WHERE tenant = ?1 AND s3_bucket = ?2 AND s3_key = ?3}",
	[ST_W_OBJECT_PUT] =
		"{!w:SELECT 1}{w:INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) "
		"VALUES(?1, ?2, ?3, ?4, ?5)}",
	[ST_W_OBJECT_DELETE] = "{!w:SELECT 1}{w:DELETE FROM shmeta_objects WHERE object_id = ?2}",
	[ST_W_SLICE_PUT] = "{!w:SELECT 1}{w:INSERT OR REPLACE INTO shmeta_slices VALUES(?1, ?2, ?3, ?4, ?5, ?6)}",
	[ST_W_OBJECT_KEEP] = "{!w:SELECT 1}{w:UPDATE shmeta_objects SET unreferenced_at = NULL WHERE object_id = ?1}",
	[ST_W_OBJECTS_MARK] =
		"{!w:SELECT 1}{w:UPDATE shmeta_objects SET unreferenced_at = ?2 WHERE tenant = ?1 AND unreferenced_at IS NULL AND "
		"NOT EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = shmeta_objects.object_id)}",
	[ST_W_OBJECTS] =
		"SELECT {!w:1 WHERE 0 AND ?1 AND ?2 AND ?3 AND ?4 AND ?5 AND ?6}{w:s3_bucket, s3_key, size_bytes, "
		"created_at, " SLICES_OF_O ", iif(" O_HAS_SLICES ", 0, unreferenced_at) FROM shmeta_objects o WHERE "
		"tenant = ?1 AND (s3_bucket, s3_key) > (?2, ?3) AND (?4 OR (unreferenced_at <= ?5 AND NOT " O_HAS_SLICES
		")) ORDER BY s3_bucket, s3_key LIMIT ?6}",
};

static bool flag_holds(const void *arg, char flag)
{
	const struct sqlite_shape *shape = arg;

	switch (flag) {
	case FLAG_ORGANIZATION:
		return shape->organization;
	case FLAG_AGENTS_ORGANIZATION:
		return shape->agents_organization;
	case FLAG_LEASES_ORGANIZATION:
		return shape->leases_organization;
	case FLAG_CLEANUP_POLICY:
		return shape->cleanup_policy;
	case FLAG_TIMESTAMPS:
		return shape->timestamps;
	case 'w':
		return shape->own;
	case 's':
		return shape->slices;
	case 'r':
		return shape->segments_rowid;
	default: /* 'f' */
		return shape->foreign;
	}
}

static void spell(FILE *out, const void *arg, enum table_index table, const struct table_column *column,
                  const char *alias)
{
	(void)arg, (void)table;
	if (alias != NULL)
		fprintf(out, "%s.%s", alias, column->name);
	else
		fputs(column->type == COLUMN_INTEGER ? "0" : "NULL", out);
}

static size_t word(FILE *out, const struct sql_words *words, const char *text)
{
	return tables_word(out, words, text, spell);
}

int sqlite_rewrite(struct sqlite_state *state)
{
	const struct sql_words words = {.arg = &state->shape, .holds = flag_holds, .word = word};
	int64_t slices = 0;
	int rc = state->shape.own ? sqlite_one_number(state, "SELECT EXISTS(SELECT 1 FROM shmeta_slices)", &slices)
	                          : SQLITE_OK;

	if (rc != SQLITE_OK)
		return rc;
	state->shape.slices = slices != 0;
	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(state->statements[i]);
		state->statements[i] = NULL;
		free(state->sql[i]);
		state->sql[i] = sql_expand(templates[i], &words);
		if (state->sql[i] == NULL)
			rc = SQLITE_NOMEM;
	}
	return rc;
}
