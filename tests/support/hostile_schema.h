/* SPDX-License-Identifier: Apache-2.0
 * What an application's own schema may add to StreamHouse's tables and yet allow every operation:
 * the conformance suite runs on it. What refuses operations is in tests/support/hostile.h. */
#ifndef SHMETA_TESTS_SUPPORT_HOSTILE_SCHEMA_H
#define SHMETA_TESTS_SUPPORT_HOSTILE_SCHEMA_H

/* After STREAMHOUSE_V01: deferred keys, NOCASE columns under binary keys, generated and further
 * columns, CHECKs, further unique keys, quoted names, triggers of both times that write to other
 * tables, to the other seven ones, and to the row itself. */
#define HOSTILE_SQLITE                                                                                                   \
	"PRAGMA writable_schema=ON;"                                                                                     \
	"UPDATE sqlite_master SET sql = replace(sql, 'ON DELETE CASCADE', 'ON DELETE CASCADE DEFERRABLE INITIALLY "      \
	"DEFERRED') WHERE type = 'table';"                                                                               \
	"UPDATE sqlite_master SET sql = replace(sql, 'topic TEXT NOT NULL', 'topic TEXT COLLATE NOCASE NOT NULL') "      \
	"WHERE type = 'table' AND name IN ('segments', 'consumer_offsets', 'partition_leases');"                         \
	"UPDATE sqlite_master SET sql = replace(replace(sql, 'group_id TEXT NOT NULL', 'group_id TEXT COLLATE NOCASE "   \
	"NOT NULL'), 'PRIMARY KEY(group_id, topic, partition_id)', 'PRIMARY KEY(group_id COLLATE BINARY, topic COLLATE " \
	"BINARY, partition_id)') WHERE name = 'consumer_offsets';"                                                       \
	"UPDATE sqlite_master SET sql = replace(sql, 'PRIMARY KEY(topic, partition_id)', 'PRIMARY KEY(topic COLLATE "    \
	"BINARY, partition_id)') WHERE name = 'partition_leases';"                                                       \
	"UPDATE sqlite_master SET sql = replace(sql, '(topic, partition_id, base_offset)', '(topic COLLATE BINARY, "     \
	"partition_id, base_offset)') WHERE name = 'idx_segments_location';"                                             \
	"PRAGMA writable_schema=RESET;"                                                                                  \
	"ALTER TABLE topics ADD COLUMN \"the owner's \"\"name\"\"\" TEXT NOT NULL DEFAULT 'nobody';"                     \
	"ALTER TABLE topics ADD COLUMN wide INTEGER AS (partition_count > 10);"                                          \
	"ALTER TABLE segments ADD COLUMN kib INTEGER AS (size_bytes / 1024);"                                            \
	"ALTER TABLE segments ADD COLUMN tier INTEGER NOT NULL DEFAULT 3 CHECK(tier BETWEEN 1 AND 9);"                   \
	"ALTER TABLE partition_leases ADD COLUMN note TEXT CHECK(note IS NULL OR length(note) < 100);"                   \
	"CREATE UNIQUE INDEX \"one place, said twice\" ON segments(base_offset, partition_id, topic COLLATE BINARY);"    \
	"CREATE TABLE \"audit; of 'all'\"(at INTEGER PRIMARY KEY, what TEXT NOT NULL, \"table\" TEXT NOT NULL);"         \
	"CREATE TRIGGER \"seg 'in'\" AFTER INSERT ON segments BEGIN "                                                    \
	"INSERT INTO \"audit; of 'all'\"(what, \"table\") VALUES(NEW.id, 'segments'); "                                  \
	"UPDATE topics SET updated_at = updated_at + 1 WHERE name = NEW.topic COLLATE BINARY; "                          \
	"UPDATE segments SET tier = 4 WHERE id = NEW.id; END;"                                                           \
	"CREATE TRIGGER before_all BEFORE INSERT ON topics BEGIN "                                                       \
	"INSERT OR IGNORE INTO \"audit; of 'all'\"(at, what, \"table\") VALUES(1, NEW.name, 'topics'); END;"             \
	"CREATE TRIGGER topic_row AFTER INSERT ON topics BEGIN "                                                         \
	"UPDATE topics SET \"the owner's \"\"name\"\"\" = 'somebody' WHERE name = NEW.name; END;"                        \
	"CREATE TRIGGER marks AFTER UPDATE OF high_watermark ON partitions BEGIN "                                       \
	"INSERT INTO \"audit; of 'all'\"(what, \"table\") VALUES(NEW.topic, 'partitions'); END;"                         \
	"CREATE TRIGGER commits AFTER INSERT ON consumer_offsets BEGIN "                                                 \
	"UPDATE consumer_groups SET updated_at = updated_at + 1 WHERE group_id = NEW.group_id COLLATE BINARY; END;"      \
	"CREATE TRIGGER gone BEFORE DELETE ON segments BEGIN "                                                           \
	"INSERT INTO \"audit; of 'all'\"(what, \"table\") VALUES(OLD.id, 'segments'); END;"                              \
	"CREATE TRIGGER leased AFTER UPDATE OF epoch ON partition_leases BEGIN "                                         \
	"UPDATE partition_leases SET note = 'epoch ' || NEW.epoch WHERE topic = NEW.topic COLLATE BINARY AND "           \
	"partition_id = NEW.partition_id; END;"                                                                          \
	"CREATE VIEW everything AS SELECT name FROM topics UNION ALL SELECT id FROM segments;"

#endif
