/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the texts of all statements, which depend on the file's shape. Text is compared byte by byte, whatever
 * collation its column has; and no statement replaces a row, because SQLite tells no trigger of the rows that a REPLACE removes. */
#include "backends/sqlite/sqlite_db.h"

/* The statements of sqlite_write.c. T: " AND organization_id = ?1" of tables that have tenants; ?1 is bound in every one of them. */
static void write_path_statements(struct sqlite_state *state)
{
	const struct sqlite_shape *shape = &state->shape;
	bool o = shape->organization, a = shape->agents_organization, l = shape->leases_organization;
	const char *t = o ? " AND organization_id = ?1 COLLATE BINARY" : "",
		   *tl = l ? " AND organization_id = ?1 COLLATE BINARY" : "",
		   *ta = a ? " AND (organization_id = ?1 COLLATE BINARY OR organization_id IS NULL)" : "";
	/* An agent of nobody's serves every tenant and is changed by the default one alone, which sees it. */
	const char *own_agent =
		" (organization_id = ?1 COLLATE BINARY OR (organization_id IS NULL AND ?1 = '" SHMETA_DEFAULT_TENANT
		"'))";
	const char *kept =
		"SELECT %s, topic, partition_id, epoch FROM partition_leases WHERE typeof(topic) = 'text' AND "
		"typeof(partition_id) = 'integer' AND typeof(epoch) = 'integer' AND ";
	/* The application's triggers would take over an OR of ours. Where it has none, a clause of its constraints (ON CONFLICT
	 * REPLACE, IGNORE, ROLLBACK) does not get its way. */
	const char *or_abort = shape->foreign ? "" : "OR ABORT ";
	const char *column = o ? "organization_id, " : "", *value = o ? "?1, " : "";
	const char *slices_of = o ? "?1" : "'" SHMETA_DEFAULT_TENANT "'";
	char **sql = state->sql;

	sql[ST_W_TOPIC_INSERT] = sqlite3_mprintf(
		"INSERT %sINTO topics(%sname, partition_count, retention_ms, created_at, updated_at, config%s) "
		"VALUES(%s?2, ?3, ?4, ?5, ?5, ?6%s)",
		or_abort, column, shape->cleanup_policy ? ", cleanup_policy" : "", value,
		shape->cleanup_policy ? ", ifnull(?7, 'delete')" : "");
	sql[ST_W_TOPIC_DELETE] = sqlite3_mprintf("DELETE FROM topics WHERE name = ?2 COLLATE BINARY%s", t);
	sql[ST_W_TOPIC_EXISTS] = sqlite3_mprintf("SELECT 1 FROM topics WHERE name = ?2 COLLATE BINARY%s", t);
	sql[ST_W_TOPIC_SEGMENTS] = sqlite3_mprintf("DELETE FROM segments WHERE topic = ?2 COLLATE BINARY%s", t);
	sql[ST_W_TOPIC_OFFSETS] = sqlite3_mprintf("DELETE FROM consumer_offsets WHERE topic = ?2 COLLATE BINARY%s", t);
	sql[ST_W_TOPIC_LEASES] = sqlite3_mprintf("DELETE FROM partition_leases WHERE topic = ?2 COLLATE BINARY%s", tl);
	sql[ST_W_TOPIC_PARTITIONS] = sqlite3_mprintf("DELETE FROM partitions WHERE topic = ?2 COLLATE BINARY%s", t);
	sql[ST_W_TOPIC_LEFT] = sqlite3_mprintf(
		"SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY%s UNION ALL SELECT 1 FROM segments WHERE topic = ?2 "
		"COLLATE BINARY%s UNION ALL SELECT 1 FROM consumer_offsets WHERE topic = ?2 COLLATE BINARY%s UNION ALL SELECT 1 "
		"FROM partition_leases WHERE topic = ?2 COLLATE BINARY%s",
		t, t, t, tl);
	sql[ST_W_PARTITIONS] = sqlite3_mprintf(
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?3 - 1) "
		"INSERT %sINTO partitions(%stopic, partition_id, high_watermark, created_at, updated_at) "
		"SELECT %s?2, i, 0, ?5, ?5 FROM n",
		or_abort, column, value);
	sql[ST_W_PARTITION] =
		sqlite3_mprintf("SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s", t);
	sql[ST_W_WATERMARK] = sqlite3_mprintf(
		"UPDATE %spartitions SET high_watermark = ?4, updated_at = ?5 WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
		or_abort, t);
	sql[ST_W_WATERMARK_MAX] =
		sqlite3_mprintf("UPDATE %spartitions SET high_watermark = max(high_watermark, ?4), updated_at = ?5 "
	                        "WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
	                        or_abort, t);
	sql[ST_W_SEGMENT_INSERT] = sqlite3_mprintf(
		"INSERT %sINTO segments(%sid, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at%s) VALUES(%s?4, ?2, ?3, ?5, ?6, ?7, ?8, ?9, ?10, ?11%s)",
		or_abort, column, shape->timestamps ? ", min_timestamp, max_timestamp" : "", value,
		shape->timestamps ? ", ?12, ?13" : "");
	sql[ST_W_SEGMENT_AT] = sqlite3_mprintf(
		"SELECT id, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at, %s FROM segments "
		"WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3 AND base_offset = ?4%s",
		shape->timestamps ? "min_timestamp, max_timestamp" : "0, 0", t);
	sql[ST_W_SEGMENT_ID] = sqlite3_mprintf("SELECT 1 FROM segments WHERE id = ?2 COLLATE BINARY");
	sql[ST_W_SEGMENTS_BEFORE] = sqlite3_mprintf(
		"DELETE FROM segments WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3 AND base_offset < ?4 AND end_offset < ?4%s",
		t);
	sql[ST_W_GROUP_EXISTS] =
		sqlite3_mprintf("SELECT 1 FROM consumer_groups WHERE group_id = ?2 COLLATE BINARY%s", t);
	sql[ST_W_GROUP_INSERT] = sqlite3_mprintf(
		"INSERT %sINTO consumer_groups(%sgroup_id, created_at, updated_at) VALUES(%s?2, ?3, ?3)", or_abort,
		column, value);
	sql[ST_W_GROUP_DELETE] = sqlite3_mprintf("DELETE FROM consumer_groups WHERE group_id = ?2 COLLATE BINARY%s", t);
	sql[ST_W_OFFSET_PUT] = sqlite3_mprintf(
		"INSERT INTO consumer_offsets(%sgroup_id, topic, partition_id, committed_offset, metadata, committed_at) "
		"VALUES(%s?4, ?2, ?3, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET committed_offset = ?5, metadata = ?6, "
		"committed_at = ?7 WHERE group_id = ?4 COLLATE BINARY AND topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
		column, value, t);
	sql[ST_W_AGENT_PUT] = sqlite3_mprintf(
		"INSERT INTO agents(%sagent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata) "
		"VALUES(%s?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET address = excluded.address, "
		"availability_zone = excluded.availability_zone, agent_group = excluded.agent_group, "
		"last_heartbeat = excluded.last_heartbeat, metadata = excluded.metadata "
		"WHERE agent_id = ?2 COLLATE BINARY%s%s",
		a ? "organization_id, " : "", a ? "?1, " : "", a ? " AND" : "", a ? own_agent : "");
	sql[ST_W_AGENT_DELETE] = sqlite3_mprintf("DELETE FROM agents WHERE agent_id = ?2 COLLATE BINARY%s%s",
	                                         a ? " AND" : "", a ? own_agent : "");
	sql[ST_W_AGENT_EXISTS] = sqlite3_mprintf("SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY%s", ta);
	sql[ST_W_AGENT_LEFT] = sqlite3_mprintf("SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY%s%s",
	                                       a ? " AND" : "", a ? own_agent : "");
	sql[ST_W_AGENT_FOREIGN] = sqlite3_mprintf("SELECT 1 FROM agents WHERE agent_id = ?2 COLLATE BINARY AND NOT%s",
	                                          a ? own_agent : " 1");
	sql[ST_W_AGENT_ADDRESS] = sqlite3_mprintf(
		"SELECT 1 FROM agents WHERE address = ?2 COLLATE BINARY AND agent_id <> ?1 COLLATE BINARY");
	sql[ST_W_LEASE_GET] =
		sqlite3_mprintf("SELECT leader_agent_id, lease_expires_at, acquired_at, epoch FROM partition_leases "
	                        "WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
	                        tl);
	sql[ST_W_LEASE_PUT] = sqlite3_mprintf(
		"INSERT INTO partition_leases(%stopic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
		"VALUES(%s?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET leader_agent_id = ?4, lease_expires_at = ?5, "
		"acquired_at = ?6, epoch = ?7 WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
		l ? "organization_id, " : "", l ? "?1, " : "", tl);
	sql[ST_W_LEASE_DELETE] = sqlite3_mprintf(
		"DELETE FROM partition_leases WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s", tl);
	/* Epochs never go back, whoever took the lease: before leases go, their epochs are kept. */
	for (int i = 0; i < 3; i++) {
		static const enum sqlite_statement which[] = {ST_W_EPOCHS_PLACE, ST_W_EPOCHS_TOPIC, ST_W_EPOCHS_AGENT};
		static const char *const where[] = {"topic = ?2 COLLATE BINARY AND partition_id = ?3%s",
		                                    "topic = ?2 COLLATE BINARY%s",
		                                    "leader_agent_id = ?2 COLLATE BINARY"};
		char *rows = sqlite3_mprintf(kept, l ? "organization_id" : "?1");
		char *these = sqlite3_mprintf(where[i], tl);

		if (rows != NULL && these != NULL)
			sql[which[i]] =
				shape->own ? sqlite3_mprintf("INSERT INTO shmeta_lease_epochs(tenant, topic, "
			                                     "partition_id, epoch) %s%s ON CONFLICT(tenant, topic, "
			                                     "partition_id) DO UPDATE SET epoch = max(epoch, "
			                                     "excluded.epoch)",
			                                     rows, these)
					   : sqlite3_mprintf("SELECT 1");
		sqlite3_free(rows);
		sqlite3_free(these);
	}
	/* What the triggers would do (see struct sqlite_shape). */
	sql[ST_W_SLICES_TOPIC] = sqlite3_mprintf(
		shape->own ? "DELETE FROM shmeta_slices WHERE tenant = %s AND topic = ?2" : "SELECT 1", slices_of);
	sql[ST_W_SLICES_BEFORE] = sqlite3_mprintf(
		shape->own
			? "DELETE FROM shmeta_slices WHERE tenant = %s AND topic = ?2 AND partition_id = ?3 AND "
			  "base_offset < ?4 AND NOT EXISTS(SELECT 1 FROM segments s WHERE s.topic = ?2 COLLATE BINARY AND "
			  "s.partition_id = ?3 AND s.base_offset = shmeta_slices.base_offset%s)"
			: "SELECT 1",
		slices_of, t);
	sql[ST_W_LOG] = sqlite3_mprintf(
		shape->own
			? "INSERT INTO shmeta_changes(class, op, tenant, topic, partition_id, base_offset, name, token) "
			  "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
			: "SELECT 1");
	sql[ST_W_SAVE] = sqlite3_mprintf("SAVEPOINT item");
	sql[ST_W_RELEASE] = sqlite3_mprintf("RELEASE item");
	sql[ST_W_UNDO] = sqlite3_mprintf("ROLLBACK TO item");
	/* What a file without shmeta's own tables cannot have answers as if it had none of it. */
	sql[ST_W_EPOCH_GET] = sqlite3_mprintf(
		shape->own
			? "SELECT epoch FROM shmeta_lease_epochs WHERE tenant = ?1 AND topic = ?2 AND partition_id = ?3"
			: "SELECT 0 WHERE 0");
	sql[ST_W_EPOCH_PUT] = sqlite3_mprintf(
		shape->own
			? "INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) VALUES(?1, ?2, ?3, ?4) "
			  "ON CONFLICT(tenant, topic, partition_id) DO UPDATE SET epoch = max(epoch, excluded.epoch)"
			: "SELECT 1");
	sql[ST_W_OFFER_PENDING] = sqlite3_mprintf(
		shape->own
			? "SELECT transfer_id FROM shmeta_transfers WHERE tenant = ?1 AND topic = ?2 AND partition_id = ?3 AND "
			  "state IN ('pending', 'accepted') AND timeout_at > ?4"
			: "SELECT 1");
	sql[ST_W_OFFER_PUT] =
		sqlite3_mprintf(shape->own ? "INSERT INTO shmeta_transfers(tenant, topic, partition_id, from_agent, "
	                                     "to_agent, state, created_at, timeout_at) "
	                                     "VALUES(?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7)"
	                                   : "SELECT 1");
	sql[ST_W_OFFER_GET] = sqlite3_mprintf(
		shape->own
			? "SELECT topic, partition_id, from_agent, to_agent, state, timeout_at FROM shmeta_transfers "
			  "WHERE tenant = ?1 AND transfer_id = ?2"
			: "SELECT 1 WHERE 0");
	sql[ST_W_OFFER_STATE] = sqlite3_mprintf(
		shape->own ? "UPDATE shmeta_transfers SET state = ?3 WHERE transfer_id = ?2" : "SELECT 1");
	sql[ST_W_OBJECT_GET] = sqlite3_mprintf(
		shape->own
			? "SELECT object_id, size_bytes, (SELECT count(*) FROM shmeta_slices s WHERE s.object_id = o.object_id) "
			  "FROM shmeta_objects o WHERE tenant = ?1 AND s3_bucket = ?2 AND s3_key = ?3"
			: "SELECT 1 WHERE 0");
	sql[ST_W_OBJECT_PUT] = sqlite3_mprintf(
		shape->own ? "INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) "
			     "VALUES(?1, ?2, ?3, ?4, ?5)"
			   : "SELECT 1");
	sql[ST_W_OBJECT_DELETE] =
		sqlite3_mprintf(shape->own ? "DELETE FROM shmeta_objects WHERE object_id = ?2" : "SELECT 1");
	sql[ST_W_SLICE_PUT] = sqlite3_mprintf(
		shape->own ? "INSERT OR REPLACE INTO shmeta_slices VALUES(?1, ?2, ?3, ?4, ?5, ?6)" : "SELECT 1");
	sql[ST_W_OBJECT_KEEP] = sqlite3_mprintf(
		shape->own ? "UPDATE shmeta_objects SET unreferenced_at = NULL WHERE object_id = ?1" : "SELECT 1");
	sql[ST_W_OBJECTS_MARK] = sqlite3_mprintf(
		shape->own
			? "UPDATE shmeta_objects SET unreferenced_at = ?2 WHERE tenant = ?1 AND unreferenced_at IS NULL "
			  "AND NOT EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = shmeta_objects.object_id)"
			: "SELECT 1");
	sql[ST_W_OBJECTS] = sqlite3_mprintf(
		shape->own
			? "SELECT s3_bucket, s3_key, size_bytes, created_at, "
			  "(SELECT count(*) FROM shmeta_slices l WHERE l.object_id = o.object_id), "
			  "iif(EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = o.object_id), 0, unreferenced_at) "
			  "FROM shmeta_objects o WHERE tenant = ?1 AND (s3_bucket, s3_key) > (?2, ?3) "
			  "AND (?4 OR (unreferenced_at <= ?5 "
			  "AND NOT EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = o.object_id))) "
			  "ORDER BY s3_bucket, s3_key LIMIT ?6"
			: "SELECT 1 WHERE 0 AND ?1 AND ?2 AND ?3 AND ?4 AND ?5 AND ?6");
}

static int write_statements(struct sqlite_state *state)
{
	const struct sqlite_shape *shape = &state->shape;
	bool o = shape->organization;
	const char *t_org = o ? "t.organization_id" : "NULL", *p_org = o ? "p.organization_id" : "NULL",
		   *s_org = o ? "s.organization_id" : "NULL";
	const char *order_org = o ? "organization_id COLLATE BINARY, " : "";
	const char *tie = shape->segments_rowid ? "s.rowid" : "s.id COLLATE BINARY";
	char *topic =
		sqlite3_mprintf("%s, t.name, t.partition_count, t.retention_ms, t.created_at, t.updated_at, t.config, "
	                        "%s",
	                        t_org, shape->cleanup_policy ? "t.cleanup_policy" : "NULL");
	char *partition =
		sqlite3_mprintf("%s, p.topic, p.partition_id, p.high_watermark, p.created_at, p.updated_at", p_org);
	/* Where a slice lies in its object is looked up only in a file that has ever had slices. */
	char *position = sqlite3_mprintf(
		shape->slices
			? "ifnull((SELECT l.position FROM shmeta_slices l WHERE l.tenant = %s AND l.topic = s.topic "
			  "AND l.partition_id = s.partition_id AND l.base_offset = s.base_offset), 0)"
			: "0",
		o ? "s.organization_id" : "'" SHMETA_DEFAULT_TENANT "'");
	char *segment = sqlite3_mprintf("%s, s.topic, s.partition_id, s.base_offset, s.end_offset, s.record_count, "
	                                "s.size_bytes, s.created_at, %s, s.id, s.s3_bucket, s.s3_key, %s",
	                                s_org, shape->timestamps ? "s.min_timestamp, s.max_timestamp" : "0, 0",
	                                position != NULL ? position : "0");
	char *agent =
		sqlite3_mprintf("%s, r.agent_id, r.address, r.availability_zone, r.agent_group, r.last_heartbeat, "
	                        "r.started_at, r.metadata",
	                        shape->agents_organization ? "r.organization_id" : "NULL");
	char *group = sqlite3_mprintf("%s, r.group_id, r.created_at, r.updated_at", o ? "r.organization_id" : "NULL");
	char *offset = sqlite3_mprintf("%s, r.group_id, r.topic, r.partition_id, r.committed_offset, r.metadata, "
	                               "r.committed_at",
	                               o ? "r.organization_id" : "NULL");
	char *lease =
		sqlite3_mprintf("%s, r.topic, r.partition_id, r.leader_agent_id, r.lease_expires_at, r.acquired_at, "
	                        "r.epoch",
	                        shape->leases_organization ? "r.organization_id" : "NULL");
	char **sql = state->sql;
	int missing = topic == NULL || partition == NULL || segment == NULL || position == NULL || agent == NULL ||
	              group == NULL || offset == NULL || lease == NULL;

	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_free(sql[i]);
		sql[i] = NULL;
	}
	sql[ST_BEGIN] = sqlite3_mprintf("BEGIN");
	sql[ST_BEGIN_IMMEDIATE] = sqlite3_mprintf("BEGIN IMMEDIATE");
	sql[ST_COMMIT] = sqlite3_mprintf("COMMIT");
	sql[ST_ROLLBACK] = sqlite3_mprintf("ROLLBACK");
	sql[ST_DATA_VERSION] = sqlite3_mprintf("PRAGMA main.data_version");
	sql[ST_SCHEMA_VERSION] = sqlite3_mprintf("PRAGMA main.schema_version");
	sql[ST_SCHEMA_OBJECTS] = sqlite3_mprintf(
		"SELECT type, name, rootpage, sql, rowid FROM sqlite_master WHERE (type IN ('table', 'view', 'index') AND tbl_name IN ('topics', "
		"'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', 'partition_leases')) OR "
		"(type = 'table' AND substr(name, 1, 7) = 'shmeta_') OR type = 'trigger' ORDER BY type, name");
	/* Cheap, and near the truth also where old segments have been deleted for years. */
	sql[ST_TOTALS] = sqlite3_mprintf(
		shape->segments_rowid
			? "SELECT (SELECT count(*) FROM topics) + (SELECT count(*) FROM partitions) + "
			  "ifnull((SELECT max(rowid) FROM segments) - (SELECT min(rowid) FROM segments) + 1, 0)"
			: "SELECT 0");
	sql[ST_LOAD_TOPICS] =
		sqlite3_mprintf("SELECT %s FROM topics t ORDER BY %sname COLLATE BINARY", topic, order_org);
	sql[ST_LOAD_TOPIC_KEYS] = sqlite3_mprintf("SELECT %s, t.name FROM topics t", o ? "t.organization_id" : "NULL");
	sql[ST_LOAD_OTHER_KEYS] =
		sqlite3_mprintf("SELECT DISTINCT %s, p.topic FROM partitions p", o ? "p.organization_id" : "NULL");
	sql[ST_LOAD_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s FROM partitions p ORDER BY %stopic COLLATE BINARY, partition_id", partition, order_org);
	sql[ST_LOAD_SEGMENTS] =
		sqlite3_mprintf("SELECT %s FROM segments s ORDER BY %stopic COLLATE BINARY, partition_id, "
	                        "base_offset, %s",
	                        segment, order_org, tie);
	sql[ST_AGENTS] = sqlite3_mprintf("SELECT %s, 0 FROM agents r", agent);
	sql[ST_GROUPS] = sqlite3_mprintf("SELECT %s, 0 FROM consumer_groups r", group);
	sql[ST_OFFSETS] = sqlite3_mprintf("SELECT %s, 0 FROM consumer_offsets r", offset);
	sql[ST_LEASES] = sqlite3_mprintf("SELECT %s, 0 FROM partition_leases r", lease);
	/* The keys of a fetch lie in a table of our own, in memory, so that statements do not grow with them. kind: as in sqlite_fetch.c. CROSS JOIN: keys outside, always. The order needs no sorting: i is the
	 * keys' rowid, the rest comes from the index. */
	sql[ST_KEYS_CLEAR] = sqlite3_mprintf("DELETE FROM temp.shmeta_keys");
	sql[ST_KEYS_ADD] =
		sqlite3_mprintf("INSERT INTO temp.shmeta_keys(i, kind, tenant, topic, partition_id, low, high, name) "
	                        "VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
	sql[ST_KEY_TOPICS] = sqlite3_mprintf("SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN topics t ON %st.name = "
	                                     "k.topic COLLATE BINARY WHERE k.kind IN (0, 1, 8) ORDER BY k.i",
	                                     topic, o ? "t.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_TOPIC_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partitions p ON %sp.topic = k.topic COLLATE "
		"BINARY WHERE k.kind <= 1 ORDER BY k.i, p.partition_id",
		partition, o ? "p.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_TOPIC_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN segments s ON %ss.topic = k.topic COLLATE BINARY "
		"WHERE k.kind = 1 ORDER BY k.i, s.partition_id, s.base_offset, %s",
		segment, o ? "s.organization_id = k.tenant COLLATE BINARY AND " : "", tie);
	sql[ST_KEY_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partitions p ON %sp.topic = k.topic COLLATE BINARY AND "
		"p.partition_id = k.partition_id WHERE k.kind IN (2, 3) ORDER BY k.i",
		partition, o ? "p.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN segments s ON %ss.topic = k.topic COLLATE BINARY AND "
		"s.partition_id = k.partition_id AND s.base_offset BETWEEN k.low AND k.high WHERE k.kind = 3 "
		"ORDER BY k.i, s.base_offset, %s",
		segment, o ? "s.organization_id = k.tenant COLLATE BINARY AND " : "", tie);
	/* The same for one key: ?1 tenant, ?2 topic, ?3 partition, ?4 and ?5 bases. */
	sql[ST_ONE_PARTITION] = sqlite3_mprintf(
		"SELECT %s FROM partitions p WHERE %sp.topic = ?2 COLLATE BINARY AND p.partition_id = ?3", partition,
		o ? "p.organization_id = ?1 COLLATE BINARY AND " : "");
	sql[ST_ONE_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s FROM segments s WHERE %ss.topic = ?2 COLLATE BINARY AND s.partition_id = ?3 AND "
		"s.base_offset BETWEEN ?4 AND ?5 ORDER BY s.base_offset, %s",
		segment, o ? "s.organization_id = ?1 COLLATE BINARY AND " : "", tie);
	/* Ids of agents are one namespace for all tenants. */
	sql[ST_KEY_AGENTS] =
		sqlite3_mprintf("SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN agents r ON r.agent_id = "
	                        "k.name COLLATE BINARY WHERE k.kind = 4 ORDER BY k.i",
	                        agent);
	sql[ST_KEY_GROUPS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_groups r ON %sr.group_id = k.name COLLATE BINARY "
		"WHERE k.kind IN (5, 6) ORDER BY k.i",
		group, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_OFFSETS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_offsets r ON %sr.group_id = k.name COLLATE BINARY "
		"AND r.topic = k.topic COLLATE BINARY AND r.partition_id = k.partition_id WHERE k.kind = 5 ORDER BY k.i",
		offset, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_GROUP_OFFSETS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_offsets r ON %sr.group_id = k.name COLLATE BINARY "
		"WHERE k.kind = 6 ORDER BY k.i",
		offset, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_LEASES] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partition_leases r ON %sr.topic = k.topic COLLATE BINARY "
		"AND r.partition_id = k.partition_id WHERE k.kind = 7 ORDER BY k.i",
		lease, shape->leases_organization ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_FEED_STATE] = sqlite3_mprintf(
		"SELECT (SELECT min(seq) FROM shmeta_changes), (SELECT max(seq) FROM shmeta_changes), (SELECT value FROM "
		"shmeta_meta WHERE name = 'feed'), (SELECT value FROM shmeta_meta WHERE name = 'feed_before'), (SELECT token FROM shmeta_changes ORDER BY seq DESC LIMIT 1), "
		"(SELECT token FROM shmeta_changes WHERE seq = ?1)");
	sql[ST_FEED_CHANGES] = sqlite3_mprintf(
		"SELECT class, op, tenant, topic, partition_id, min(base_offset), max(base_offset), name FROM shmeta_changes "
		"WHERE seq > ? AND seq <= ? GROUP BY tenant, topic, partition_id, class, op, name "
		"ORDER BY tenant, topic, partition_id, class, op");
	sql[ST_FEED_PRUNE] = sqlite3_mprintf("DELETE FROM shmeta_changes WHERE seq <= ?");
	write_path_statements(state);
	for (int i = 0; i < ST_COUNT; i++)
		missing |= sql[i] == NULL;
	sqlite3_free(position);
	sqlite3_free(topic);
	sqlite3_free(partition);
	sqlite3_free(segment);
	sqlite3_free(agent);
	sqlite3_free(group);
	sqlite3_free(offset);
	sqlite3_free(lease);
	return missing ? SQLITE_NOMEM : SQLITE_OK;
}

int sqlite_rewrite(struct sqlite_state *state)
{
	int64_t slices = 0;
	int rc;

	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(state->statements[i]);
		state->statements[i] = NULL;
	}
	rc = state->shape.own ? sqlite_one_number(state, "SELECT EXISTS(SELECT 1 FROM shmeta_slices)", &slices)
	                      : SQLITE_OK;
	state->shape.slices = slices != 0;
	return rc == SQLITE_OK ? write_statements(state) : rc;
}
