/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what each kind of operation says to the server.
 *
 * One statement does all operations of a kind that stand side by side: their fields come as arrays,
 * i is the list of them, i.n the number of each. It decides for each one by itself, does those that
 * can be done, and answers with rows for the others (and for what has a value to give back): no row
 * means done. So a statement needs no answer of the one before it, and a batch is sent in one go.
 *
 * A trigger, rule or policy of the application may keep a row out, or change it, without a word: so
 * each statement looks at what it was returned, and answers with a row for what is not as it should
 * be (item->undone; then it is taken back).
 *
 * CockroachDB lets a statement change a table only once: what stands in {g: } for that is done by
 * others there (pg_write_beside.c).
 *
 * In the texts below {x:TEXT} stands for TEXT where flag x holds and {!x:TEXT} where it does not
 * (pg_statements.h); they may be nested. @items is "WITH i AS (...)", @now the time that goes into
 * rows, @clock the source's, which judges. i.org is the tenant as the organization_id column has
 * it. Where items of one place have much in common, @runs is a list of their runs, and @rows the
 * items, each with the number of its run.
 *
 * The planner knows nothing of the lists' lengths, and a plan made on small tables serves large
 * ones. So what belongs to one item is looked up in subqueries with LIMIT or LATERAL joins, which
 * use an index and nothing else, and two lists are compared by IN within an expression, which is
 * always looked up by hash; other joins between them are for the kinds of few items. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_write_kinds.h"
#include "backends/replace.h"

/* ---- parts of statements ---- */

/* The same text to the byte. A column whose collation takes different texts for equal has an index
 * for its own idea of equality, so that is asked first. */
#define SAME(column, text) column " = " text "{n: AND " column " COLLATE \"C\" = " text "}"
#define HELD_BY_AGENT SAME("l.leader_agent_id", "i.agent")
#define HELD_BY_HOLDER SAME("l.leader_agent_id", "i.holder")
#define LEASED_TOPIC SAME("l.topic", "i.topic")
#define NAMED_TOPIC SAME("t.name", "i.topic")
#define RAISED_TOPIC SAME("p.topic", "m.topic")
#define LEFT_TOPIC SAME("s.topic", "t.name")
#define SEGMENTS_TOPIC SAME("s.topic", "i.topic")
#define NAMED_AGENT SAME("a.agent_id", "i.agent")
/* Of the item named i. */
#define TOPIC_THERE                                                                           \
	"(SELECT true FROM topics t WHERE " NAMED_TOPIC "{o: AND t.organization_id = i.org} " \
	"LIMIT 1) IS NOT NULL"
#define PLACE_THERE                                                 \
	"(SELECT true FROM partitions p WHERE " SAME(               \
		"p.topic", "i.topic") " AND p.partition_id = i.pid" \
				      "{o: AND p.organization_id = i.org} LIMIT 1) IS NOT NULL"
#define OF_LEASE LEASED_TOPIC " AND l.partition_id = i.pid{l: AND l.organization_id = i.org}"
#define OF_SEGMENT     \
	SEGMENTS_TOPIC \
	" AND s.partition_id = i.pid AND s.base_offset = i.base{o: AND s.organization_id = i.org}"
#define OF_OBJECT "b.tenant = i.tenant AND b.s3_bucket = i.bucket AND b.s3_key = i.key"
/* Agents of nobody's serve every tenant, and are changed by the default one alone, which sees
 * them. */
#define AGENT_OF(column)                          \
	"(SELECT true FROM agents a WHERE " SAME( \
		"a.agent_id",                     \
		"i." column) "{a: AND (a.organization_id = i.org OR a.organization_id IS NULL)} LIMIT 1) IS NOT NULL"
#define AGENT_THERE AGENT_OF("agent")
#define OTHER_THERE AGENT_OF("other")
#define OWN_AGENT \
	"(a.organization_id = i.org OR (a.organization_id IS NULL AND i.tenant = '" SHMETA_DEFAULT_TENANT "'))"
#define SLICES_OF_B "(SELECT count(*) FROM shmeta_slices x WHERE x.object_id = b.object_id)"

/* C7: a fence must be the current holder's, with the current epoch, and stay so until this
 * transaction has ended. */
#define UNDER_FENCE                                                                                          \
	" LEFT JOIN LATERAL (SELECT true AS holds FROM partition_leases l WHERE i.fence <> '' AND " OF_LEASE \
	" AND " SAME("l.leader_agent_id",                                                                    \
	             "i.fence") " AND l.epoch = i.epoch AND l.lease_expires_at > @clock FOR SHARE) f ON true"
#define FITS "(i.fence = '' OR f.holds IS NOT NULL) AS fits"

/* The segments of a list j with columns there, fits, in its order, which is everyone's
 * (compare_items()); those that were written are in ins, their partitions' watermarks raised. */
#define SEGMENT_FIELDS                                                                                     \
	FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_ID, FIELD_BASE, FIELD_LAST, FIELD_RECORDS, FIELD_SIZE, \
		FIELD_BUCKET, FIELD_KEY, FIELD_CREATED, FIELD_OLDEST, FIELD_NEWEST, FIELD_FENCE, FIELD_EPOCH
#define INSERT_SEGMENTS(more)                                                                                                         \
	"ins AS (INSERT INTO segments({o:organization_id, }id, topic, partition_id, base_offset, end_offset, "                        \
	"record_count, size_bytes, s3_bucket, s3_key, created_at{t:, min_timestamp, max_timestamp}) "                                 \
	"SELECT {o:org, }id, topic, pid, base, last, records, size, bucket, key, created{t:, oldest, newest} "                        \
	"FROM j i WHERE there AND fits" more "{!p: AND (SELECT true FROM segments s WHERE " OF_SEGMENT                                \
	" LIMIT 1) IS NULL} "                                                                                                         \
	"{d: AND (SELECT true FROM segments d WHERE " SAME(                                                                           \
		"d.id",                                                                                                               \
		"i.id") " LIMIT 1) IS NULL }{!d:ON CONFLICT DO NOTHING }"                                                             \
			"RETURNING {o:organization_id, }id{n: COLLATE \"C\" AS id}, topic{n: COLLATE \"C\" AS topic}, partition_id, " \
			"base_offset, end_offset)"
#define KEY_OF_INS "{o:organization_id, }id, topic, partition_id, base_offset"
#define KEY_OF_ITEM "{o:org, }id, topic, pid, base"
#define WRITTEN "((" KEY_OF_ITEM ") IN (SELECT " KEY_OF_INS " FROM ins)) IS TRUE"
/* A trigger of the application sees the row before it is written, and may keep it as it is. What is
 * no integer of 64 bits, as NUMERIC's NaN, can be above all that are, and stays. */
#define RAISED                                                                                                            \
	"RETURNING {o:p.organization_id, }p.topic{n: COLLATE \"C\" AS topic}, p.partition_id, p.high_watermark >= m.top " \
	"AND p.high_watermark < 9223372036854775808 AND p.high_watermark::numeric % 1 = 0 AS raised"
#define NOT_RAISED \
	" OR ({o:i.org, }i.topic, i.pid) NOT IN (SELECT {o:organization_id, }topic, partition_id FROM w WHERE raised)"
#define RAISE_WATERMARKS                                                                                            \
	", w AS (UPDATE partitions p SET high_watermark = greatest(p.high_watermark, m.top), updated_at = @now "    \
	"FROM (SELECT {o:organization_id AS org, }topic, partition_id AS pid, max(end_offset) + 1 AS top FROM ins " \
	"GROUP BY {o:organization_id, }topic, partition_id) m "                                                     \
	"WHERE " RAISED_TOPIC " AND p.partition_id = m.pid{o: AND p.organization_id = m.org} " RAISED ")"
/* Where triggers do not, what is left of a former slice at that place must not be this
 * segment's. */
#define FORGET_SLICES                                                                                             \
	"{w:{!g:, x AS (DELETE FROM shmeta_slices x USING j WHERE x.tenant = j.tenant AND x.topic = j.topic AND " \
	"x.partition_id = j.pid AND x.base_offset = j.base AND j.id IN (SELECT id FROM ins))}}"
/* Those that were not, and why: answer_segment(). The last column: of those a part was written, or
 * a row under another key. */
#define SEGMENTS_NOT_WRITTEN(object, wrong)                                                                                      \
	" SELECT i.n, i.there, i.fits, " TOPIC_THERE                                                                             \
	", s.id IS NOT NULL, coalesce(s.id = i.id AND s.end_offset = i.last AND s.record_count = i.records AND "                 \
	"s.size_bytes = i.size AND s.s3_bucket = i.bucket AND s.s3_key = i.key AND s.created_at = i.created"                     \
	"{t: AND s.min_timestamp = i.oldest AND s.max_timestamp = i.newest}, false), s.end_offset::int8, s.record_count::int8, " \
	"s.size_bytes::int8, s.created_at::int8, {t:s.min_timestamp::int8, s.max_timestamp::int8}{!t:0, 0}, "                    \
	"(SELECT true FROM segments d WHERE " SAME(                                                                              \
		"d.id",                                                                                                          \
		"i.id") " LIMIT 1) IS NOT NULL, " object ", written OR EXISTS(SELECT 1 FROM ins WHERE (" KEY_OF_INS              \
			") NOT IN (SELECT " KEY_OF_ITEM " FROM j))"                                                              \
			" FROM (SELECT i.*, " WRITTEN                                                                            \
			" AS written FROM j i) i LEFT JOIN LATERAL (SELECT * FROM segments s WHERE " OF_SEGMENT                  \
			" LIMIT 1) s ON true WHERE NOT written" wrong
#define INSERT_SLICES INSERT_SEGMENTS(" AND object_id IS NOT NULL")
#define SLICES_NOT_WRITTEN SEGMENTS_NOT_WRITTEN("i.object_id IS NOT NULL", NOT_RAISED)
#define ADD_SEGMENTS(raise, wrong)                                                                     \
	"@items, j AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " FITS " FROM i" UNDER_FENCE \
	"), " INSERT_SEGMENTS("") raise FORGET_SLICES LED_ADDS("j", WRITTEN " ") SEGMENTS_NOT_WRITTEN("true", wrong)

/* The same where nothing is expected to be in the way, which is two thirds of the work: to look
 * whether something is, for each row in two indexes, and to write so that it could still be taken
 * back, is left out, and each place and fence is looked up once for its run of rows. Something in
 * the way fails the statement, and so does a row that was not written though nothing failed (a
 * trigger of the application's can do that): then the careful one tells them apart. */
#define PLAIN_FIELDS                                                                                       \
	FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_ID, FIELD_BASE, FIELD_LAST, FIELD_RECORDS, FIELD_SIZE, \
		FIELD_BUCKET, FIELD_KEY, FIELD_CREATED, FIELD_OLDEST, FIELD_NEWEST, FIELD_RUN
#define RUN_FIELDS FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_FENCE, FIELD_EPOCH, FIELD_TOP, FIELD_BASE
#define LED_BY_RUNS LED_ADDS("h", "there AND fits ")
#define PLAIN_ADDS(raise, wrong, led)                                                                           \
	"WITH h AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " FITS " FROM @runs i" UNDER_FENCE "), " \
	"ins AS (INSERT INTO segments({o:organization_id, }id, topic, partition_id, base_offset, end_offset, "  \
	"record_count, size_bytes, s3_bucket, s3_key, created_at{t:, min_timestamp, max_timestamp}) "           \
	"SELECT {o:org, }id, topic, pid, base, last, records, size, bucket, key, created{t:, oldest, newest} "  \
	"FROM @rows i WHERE (run IN (SELECT n FROM h WHERE there AND fits)) IS TRUE RETURNING true)" raise led  \
	" SELECT 0 AS n, false, false, false, (SELECT count(*) FROM ins)" wrong                                 \
	" UNION ALL SELECT n, there, fits, " TOPIC_THERE ", 0 FROM h i WHERE NOT (there AND fits)"
#define RAISE_BY_RUNS                                                                                            \
	", w AS (UPDATE partitions p SET high_watermark = greatest(p.high_watermark, m.top), updated_at = @now " \
	"FROM (SELECT {o:org, }topic, pid, max(top) AS top FROM h WHERE there AND fits "                         \
	"GROUP BY {o:org, }topic, pid) m "                                                                       \
	"WHERE " RAISED_TOPIC " AND p.partition_id = m.pid{o: AND p.organization_id = m.org} " RAISED ")"
/* One less than there should be, where a watermark was not raised. */
#define RAISED_BY_RUNS                                                                                      \
	" - ((SELECT count(*) FROM w WHERE raised) < (SELECT count(DISTINCT ({o:org, }topic, pid)) FROM h " \
	"WHERE there AND fits))::int"

/* Epochs of leases never go back, whoever took the lease: before the leases in l go, their epochs
 * are kept: under the lease's own tenant, or the default one where leases have none, whoever it is
 * that asks. Leases are locked before epochs, everywhere. */
#define KEEP_EPOCHS                                                                                                                               \
	", k AS (INSERT INTO shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch) "                                                       \
	"SELECT DISTINCT {l:l.organization_id::text}{!l:'" SHMETA_DEFAULT_TENANT                                                                  \
	"'}, l.topic, l.partition_id, l.epoch FROM l WHERE l.epoch >= 0 AND l.epoch < 9223372036854775808{l: AND l.organization_id IS NOT NULL} " \
	"ORDER BY 1, 2, 3 ON CONFLICT (tenant, topic, partition_id) "                                                                             \
	"DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch))"

/* The source's time when the statement began: one for all of it. */
#define CLOCK "c AS MATERIALIZED (SELECT @clock AS ms), "
#define SOURCE_NOW "(SELECT ms FROM c)"
/* The end of what begins now and lasts for i.lasts; at most the last moment that there is. */
#define ITS_END SOURCE_NOW " + least(i.lasts, 9223372036854775807 - greatest(" SOURCE_NOW ", 0))"

/* The lease of each place in j (tenant, org, topic, pid, agent, lasts, leased, former) whose ok is
 * true goes to the agent, with an epoch beyond every former one: the row of shmeta_lease_epochs is
 * the counter, so that two hosts never get one number, whatever they saw before. What became of it:
 * g.epoch where u or a has the place. */
#define GIVE_LEASES                                                                                                                                                                                 \
	"g AS ({w:INSERT INTO shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch) "                                                                                                        \
	"SELECT {l:tenant}{!l:'" SHMETA_DEFAULT_TENANT                                                                                                                                              \
	"'}, topic, pid, former + 1 FROM j WHERE ok ORDER BY tenant, topic, pid "                                                                                                                   \
	"ON CONFLICT (tenant, topic, partition_id) DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch - 1) + 1 "                                                                                \
	"RETURNING tenant, topic, partition_id AS pid, epoch}"                                                                                                                                      \
	"{!w:SELECT tenant, topic, pid, former + 1 AS epoch FROM j WHERE ok}), "                                                                                                                    \
	"{g:u AS (UPDATE partition_leases l SET leader_agent_id = i.agent, lease_expires_at = " ITS_END ", "                                                                                        \
	"acquired_at = " SOURCE_NOW                                                                                                                                                                 \
	", epoch = g.epoch FROM j i JOIN g USING ({l:tenant, }topic, pid) WHERE i.leased AND " OF_LEASE                                                                                             \
	" RETURNING i.n, l.epoch::int8, l.leader_agent_id, l.acquired_at::int8, l.lease_expires_at::int8), }"                                                                                       \
	"a AS (INSERT INTO partition_leases({l:organization_id, }topic, partition_id, leader_agent_id, "                                                                                            \
	"lease_expires_at, acquired_at, epoch) SELECT {l:i.org, }i.topic, i.pid, i.agent, " ITS_END ", " SOURCE_NOW                                                                                 \
	", g.epoch "                                                                                                                                                                                \
	"FROM j i JOIN g USING ({l:tenant, }topic, pid) {g:WHERE NOT i.leased }ORDER BY i.topic, i.pid ON CONFLICT "                                                                                \
	"{g:DO NOTHING}{!g:({k:organization_id, }topic, partition_id) DO UPDATE SET leader_agent_id = "                                                                                             \
	"excluded.leader_agent_id, lease_expires_at = excluded.lease_expires_at, acquired_at = excluded.acquired_at, epoch "                                                                        \
	"= excluded.epoch{l:{!k: WHERE partition_leases.organization_id = excluded.organization_id}}} RETURNING {l:organization_id, }topic{n: COLLATE \"C\" AS topic}, partition_id, epoch::int8, " \
	"leader_agent_id, acquired_at::int8, lease_expires_at::int8)"
/* What was given: three columns. */
#define GIVEN                                                                                                  \
	"{g:coalesce(u.epoch, a.epoch), coalesce(u.acquired_at, a.acquired_at), coalesce(u.lease_expires_at, " \
	"a.lease_expires_at)}{!g:a.epoch, a.acquired_at, a.lease_expires_at}"
#define GIVEN_LEASE                                                                                                  \
	" FROM j {g:LEFT JOIN u ON u.n = j.n AND u.leader_agent_id = j.agent }LEFT JOIN a ON a.topic = j.topic AND " \
	"a.partition_id = j.pid AND a.leader_agent_id = j.agent{l: AND a.organization_id = j.org}"

/* A transfer that is to be answered, by the one named in column `by`, when it is in that state. */
#define OF_TRANSFER                                                                                                 \
	"LEFT JOIN LATERAL (SELECT * FROM shmeta_transfers t WHERE t.transfer_id = i.xfer AND t.tenant = i.tenant " \
	"FOR UPDATE) t ON true"
#define TRANSFER_STATE(by, state)                                     \
	"t.transfer_id IS NOT NULL AS found, coalesce(t." by          \
	" = i.agent, false) AS addressed, coalesce(t.state = '" state \
	"', false) AS expected, coalesce(t.timeout_at > " SOURCE_NOW ", false) AS in_time, t.state"
#define COMPLETED_STATE TRANSFER_STATE("from_agent", "accepted")
#define ANSWER_TRANSFERS(from, to)                                                                                       \
	"@items, " CLOCK "j AS MATERIALIZED (SELECT i.n, i.xfer, " TRANSFER_STATE(                                       \
		"to_agent",                                                                                              \
		from) " FROM i " OF_TRANSFER "), u AS (UPDATE shmeta_transfers t SET state = '" to                       \
		      "' FROM j WHERE t.transfer_id = j.xfer AND j.found AND j.addressed AND j.expected AND j.in_time) " \
		      "SELECT n, found, addressed, expected, in_time, state FROM j "                                     \
		      "WHERE NOT (found AND addressed AND expected AND in_time)"

/* ---- the statements ---- */

/* Rows that a deletion without cascades left under the name are not this topic's. They are gone
 * before the new ones come. */
static const char topic_create[] =
	"@items, t AS (INSERT INTO topics({o:organization_id, }name, partition_count, retention_ms, created_at, updated_at, "
	"config{c:, cleanup_policy}) SELECT {o:org, }topic, parts, keep, @now, @now, "
	"config{j:::jsonb}{c:, coalesce(policy, 'delete')} FROM i ORDER BY topic ON CONFLICT DO NOTHING "
	"RETURNING {o:organization_id, }name{n: COLLATE \"C\" AS name}, partition_count)"
	"{o:, x AS (DELETE FROM segments s USING t WHERE s.topic = t.name AND s.organization_id = t.organization_id), "
	"y AS (DELETE FROM consumer_offsets s USING t WHERE s.topic = t.name AND s.organization_id = t.organization_id)}, "
	"{g:z AS (DELETE FROM partitions s USING t WHERE " LEFT_TOPIC "{o: AND s.organization_id = "
	"t.organization_id} RETURNING 1), }"
	"p AS (INSERT INTO partitions({o:organization_id, }topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT {o:organization_id, }name, g.id, 0, @now, @now "
	"FROM t {g:CROSS JOIN (SELECT count(*) FROM z) z }CROSS JOIN LATERAL generate_series(0, t.partition_count - 1) AS g(id) "
	"RETURNING {o:organization_id, }topic{n: COLLATE \"C\" AS topic}), "
	"{e:le AS (DELETE FROM shmeta_leader_epochs e USING i WHERE e.topic = i.topic AND e.tenant = i.tenant AND "
	"({o:i.org, }i.topic) IN (SELECT {o:organization_id, }name FROM t)), }"
	"m AS (SELECT {o:organization_id, }topic, count(*) AS made FROM p GROUP BY {o:organization_id, }topic) "
	"SELECT n, made, " TOPIC_THERE
	" FROM (SELECT i.*, (({o:org, }topic) IN (SELECT {o:organization_id, }name FROM t)) "
	"IS TRUE AS made FROM i) i WHERE ({o:org, }topic, parts) NOT IN (SELECT {o:organization_id, }topic, made FROM m)";

static const char topic_delete[] =
	"@items{w:, l AS MATERIALIZED (SELECT l.* FROM i JOIN partition_leases l ON " LEASED_TOPIC
	"{l: AND l.organization_id = i.org} ORDER BY l.topic, l.partition_id FOR UPDATE OF l)" KEEP_EPOCHS
	"}, t AS (DELETE FROM topics t USING i WHERE " NAMED_TOPIC
	"{o: AND t.organization_id = i.org} RETURNING i.n, i.tenant, t.name{o:, t.organization_id AS org})"
	"{o:, x AS (DELETE FROM segments s USING t WHERE s.topic = t.name AND s.organization_id = t.org), "
	"y AS (DELETE FROM consumer_offsets s USING t WHERE s.topic = t.name AND s.organization_id = t.org)}"
	"{l:, z AS (DELETE FROM partition_leases s USING t WHERE s.topic = t.name AND s.organization_id = t.org)}"
	"{w:{!g:, v AS (DELETE FROM shmeta_slices s USING t WHERE s.topic = t.name AND s.tenant = t.tenant)}}"
	"{e:, le AS (DELETE FROM shmeta_leader_epochs e USING t WHERE e.topic = t.name AND e.tenant = t.tenant)} "
	"SELECT n, " TOPIC_THERE " FROM i WHERE n NOT IN (SELECT n FROM t)";

static const char watermark[] =
	"@items, j AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " FITS " FROM i" UNDER_FENCE "), "
	"u AS (UPDATE partitions p SET high_watermark = m.goal, updated_at = @now FROM (SELECT DISTINCT ON "
	"(tenant, topic, pid) * FROM j WHERE there AND fits ORDER BY tenant, topic, pid, n DESC) m "
	"WHERE " RAISED_TOPIC " AND p.partition_id = m.pid{o: AND p.organization_id = m.org} "
	"RETURNING {o:p.organization_id, }p.topic{n: COLLATE \"C\" AS topic}, p.partition_id)" LED_RECORD(
		"SELECT DISTINCT ON (i.tenant, i.topic, i.pid, i.epoch) i.tenant, i.topic, i.pid, i.epoch, coalesce(i.before, (SELECT "
		"p.high_watermark FROM partitions p WHERE " SAME(
			"p.topic",
			"i.topic") " AND p.partition_id = i.pid{o: AND "
				   "p.organization_id = i.org} LIMIT 1)) AS start FROM (SELECT j.*, lag(goal) OVER (PARTITION BY tenant, topic, pid "
				   "ORDER BY n) AS before FROM j WHERE there AND fits) i WHERE i.fence <> '' AND NOT (" LED_KNOWN(
					   "") ") ORDER BY i.tenant, i.topic, i.pid, i.epoch, i.n",
		"NOTHING") " SELECT n, there, fits, " TOPIC_THERE " FROM j i WHERE NOT (there AND fits) OR "
			   "({o:i.org, }i.topic, i.pid) NOT IN (SELECT {o:organization_id, }topic, partition_id FROM u)";

#define OF_PLACE SEGMENTS_TOPIC " AND s.partition_id = i.pid{o: AND s.organization_id = i.org}"
#define BELOW_GOAL                                                                                 \
	SEGMENTS_TOPIC                                                                             \
	" AND s.partition_id = i.pid AND s.base_offset < i.goal AND s.end_offset < i.goal{o: AND " \
	"s.organization_id = i.org}"
static const char segments_delete[] =
	"@items, d AS (DELETE FROM segments s USING i WHERE " BELOW_GOAL " "
	"RETURNING i.n, i.tenant, s.topic, s.partition_id, s.base_offset)"
	/* The log start is the lowest base that stays, or the high watermark where none does. */
	"{e:{g:, b AS MATERIALIZED (SELECT i.tenant, i.topic, i.pid, coalesce((SELECT s.base_offset FROM segments s WHERE " OF_PLACE
	" AND NOT (s.base_offset < i.goal AND s.end_offset < i.goal) ORDER BY s.base_offset LIMIT 1), (SELECT "
	"p.high_watermark FROM partitions p WHERE " SAME(
		"p.topic",
		"i.topic") " AND p.partition_id = i.pid{o: AND "
			   "p.organization_id = i.org} LIMIT 1)) AS low FROM (SELECT tenant, org, topic, pid, max(goal) AS goal FROM i WHERE n IN "
			   "(SELECT n FROM d) GROUP BY tenant, org, topic, pid) i), " LED_TRIM "}}"
			   "{w:{!g:, x AS (DELETE FROM shmeta_slices x USING d WHERE x.tenant = d.tenant AND x.topic = d.topic "
			   "AND x.partition_id = d.partition_id AND x.base_offset = d.base_offset)}} "
			   "SELECT n, (SELECT count(*) FROM d WHERE d.n = i.n), (SELECT count(*) FROM segments s WHERE " BELOW_GOAL
			   ") FROM i";

static const char add[] = ADD_SEGMENTS("", "");
static const char add_raise[] = ADD_SEGMENTS(RAISE_WATERMARKS, NOT_RAISED);
static const char add_plain[] = PLAIN_ADDS("", "", LED_BY_RUNS);
static const char add_raise_plain[] = PLAIN_ADDS(RAISE_BY_RUNS, RAISED_BY_RUNS, LED_BY_RUNS);
static const char add_known[] = PLAIN_ADDS("", "", "");
static const char add_raise_known[] = PLAIN_ADDS(RAISE_BY_RUNS, RAISED_BY_RUNS, "");

#define OF_GROUP SAME("g.group_id", "i.grp") "{o: AND g.organization_id = i.org}"
static const char group_ensure[] =
	"@items, g AS (INSERT INTO consumer_groups({o:organization_id, }group_id, created_at, updated_at) "
	"SELECT DISTINCT {o:org, }grp, @now, @now FROM i ORDER BY grp ON CONFLICT DO NOTHING "
	"RETURNING {o:organization_id, }group_id{n: COLLATE \"C\" AS group_id}) SELECT n FROM i WHERE ({o:org, }grp) NOT IN "
	"(SELECT {o:organization_id, }group_id FROM g) AND NOT EXISTS(SELECT 1 FROM consumer_groups g WHERE " OF_GROUP
	")";

static const char group_delete[] =
	"@items, d AS (DELETE FROM consumer_groups g USING i WHERE " OF_GROUP
	" RETURNING {o:g.organization_id, }g.group_id"
	"{n: COLLATE \"C\" AS group_id}) SELECT n FROM i WHERE ({o:org, }grp) NOT IN (SELECT {o:organization_id, }group_id "
	"FROM d) AND EXISTS(SELECT 1 FROM consumer_groups g WHERE " OF_GROUP ")";

static const char offset[] =
	"@items, j AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there FROM i), "
	"g AS (INSERT INTO consumer_groups({o:organization_id, }group_id, created_at, updated_at) "
	"SELECT DISTINCT {o:org, }grp, @now, @now FROM j WHERE there ORDER BY grp ON CONFLICT DO NOTHING), "
	"o AS (INSERT INTO consumer_offsets AS c({o:organization_id, }group_id, topic, partition_id, committed_offset, "
	"metadata, committed_at) SELECT DISTINCT ON (tenant, grp, topic, pid) {o:org, }grp, topic, pid, goal, note, @now "
	"FROM j WHERE there ORDER BY tenant, grp, topic, pid, n DESC "
	"ON CONFLICT ({o:organization_id, }group_id, topic, partition_id) DO UPDATE SET "
	"committed_offset = excluded.committed_offset, metadata = excluded.metadata, committed_at = excluded.committed_at"
	"{n: WHERE c.group_id COLLATE \"C\" = excluded.group_id AND c.topic COLLATE \"C\" = excluded.topic} "
	"RETURNING {o:organization_id, }group_id{n: COLLATE \"C\" AS group_id}, topic{n: COLLATE \"C\" AS topic}, partition_id) "
	"SELECT n, there, true, " TOPIC_THERE " FROM j i WHERE NOT there OR ({o:i.org, }i.grp, i.topic, i.pid) NOT IN "
	"(SELECT {o:organization_id, }group_id, topic, partition_id FROM o)";

/* An address is free when its owner leaves it in this very statement, before. */
static const char agent_put[] =
	"@items, j AS MATERIALIZED (SELECT i.*, EXISTS(SELECT 1 FROM agents a WHERE a.address = i.address AND "
	"a.agent_id <> i.agent AND NOT EXISTS(SELECT 1 FROM i m WHERE m.agent = a.agent_id AND m.n < i.n AND "
	"m.address <> a.address)) AS taken, {a:EXISTS(SELECT 1 FROM agents a WHERE a.agent_id = i.agent AND "
	"NOT coalesce(" OWN_AGENT ", false))}{!a:false} AS strange FROM i), "
	"u AS (INSERT INTO agents AS a({a:organization_id, }agent_id, address, availability_zone, agent_group, last_heartbeat, "
	"started_at, metadata) SELECT {a:org, }agent, address, zone, agent_grp, beat, started, about{j:::jsonb} FROM j "
	"WHERE NOT (taken OR strange) ORDER BY agent ON CONFLICT (agent_id) DO UPDATE SET address = excluded.address, "
	"availability_zone = excluded.availability_zone, agent_group = excluded.agent_group, "
	"last_heartbeat = excluded.last_heartbeat, metadata = excluded.metadata"
	"{n: WHERE a.agent_id COLLATE \"C\" = excluded.agent_id} RETURNING agent_id{n: COLLATE \"C\" AS agent_id}) "
	"SELECT n, taken, strange FROM j WHERE taken OR strange OR agent NOT IN (SELECT agent_id FROM u)";

#define THIS_AGENT NAMED_AGENT "{a: AND " OWN_AGENT "}"
static const char agent_delete[] =
	"@items{w:, l AS MATERIALIZED (SELECT l.* FROM i JOIN partition_leases l ON " HELD_BY_AGENT
	" ORDER BY l.topic, l.partition_id FOR UPDATE OF l)" KEEP_EPOCHS
	"}, d AS (DELETE FROM agents a USING i WHERE " THIS_AGENT
	" RETURNING a.agent_id{n: COLLATE \"C\" AS agent_id}) "
	"SELECT n FROM i WHERE agent NOT IN (SELECT agent_id FROM d) AND EXISTS(SELECT 1 FROM agents a WHERE " THIS_AGENT
	")";

/* One operation: its list has a row for each segment, the old ones first. p is the operation, s
 * what is there, m the rows beside what is there at their bases, b the new ones that do not stay
 * and what they belong to, v the judgement. An old segment whose base a new one takes is changed in
 * its place: slices go by base, and the trigger that drops those of deleted segments runs last of
 * all. */
#define GOES "(SELECT goes FROM v)"
#define NEAREST LED_TEXT(REPLACE_BEFORE)
static const char replace[] =
	"@items, p AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " FITS
	" FROM (SELECT i.*, (SELECT max(last) FROM i WHERE fresh = 0) AS high, (SELECT max(base) FROM i WHERE fresh = 0) AS "
	"final, (SELECT min(base) FROM i WHERE fresh = 1) AS first, (SELECT max(last) FROM i WHERE fresh = 1) AS stop "
	"FROM i WHERE n = 1) i" UNDER_FENCE "), "
	"s AS MATERIALIZED (SELECT DISTINCT ON (s.base_offset) s.*, {!w:0}{w:coalesce((SELECT x.position FROM "
	"shmeta_slices x WHERE x.tenant = i.tenant AND x.topic = i.topic AND x.partition_id = i.pid AND x.base_offset = "
	"s.base_offset), 0)} AS spot FROM p i JOIN segments s ON " OF_PLACE
	" AND s.base_offset BETWEEN i.base AND i.high ORDER BY s.base_offset), "
	"m AS MATERIALIZED (SELECT i.*, s.id IS NOT NULL AS found, coalesce(s.id = i.id AND s.end_offset = i.last AND "
	"s.record_count = i.records AND s.size_bytes = i.size AND s.s3_bucket = i.bucket AND s.s3_key = i.key AND "
	"s.created_at = i.created AND s.spot = i.place{t: AND s.min_timestamp = i.oldest AND s.max_timestamp = i.newest}, "
	"false) AS same FROM i LEFT JOIN s ON s.base_offset = i.base), "
	"b AS MATERIALIZED (SELECT i.*, {!w:NULL::int8 AS object_id, NULL::int8 AS whole}{w:b.object_id, b.size_bytes AS "
	"whole}, EXISTS(SELECT 1 FROM segments d WHERE " SAME(
		"d.id",
		"i.id") " AND NOT (d.topic = i.topic AND "
			"d.partition_id = i.pid{o: AND d.organization_id = i.org} AND d.base_offset IN (SELECT base FROM i WHERE fresh = "
			"0))) AS taken, i.place = 0 AND (i.bucket, i.key) NOT IN (SELECT bucket, key FROM i WHERE fresh = 0) AS apart "
			"FROM m i{w: LEFT JOIN LATERAL (SELECT * FROM shmeta_objects b WHERE " OF_OBJECT
			" FOR UPDATE) b ON true} "
			"WHERE i.fresh = 1 AND i.kept = 0), "
			"j AS MATERIALIZED (SELECT i.*, coalesce((SELECT max({w:e.compaction}{!w:0}) FROM {w:shmeta_lease_epochs e WHERE "
			"e.tenant = i.tenant AND e.topic = i.topic AND e.partition_id = i.pid}{!w:i}), 0) AS highest, "
			"NOT EXISTS(SELECT 1 FROM m WHERE (fresh = 1 AND NOT same) OR (fresh = 0 AND kept = 0 AND same)) AS former, "
			"(SELECT min(base) FROM m WHERE fresh = 0 AND NOT same) AS differs, "
			"(SELECT min(base_offset) FROM s WHERE base_offset <= i.final AND base_offset NOT IN (SELECT base FROM i WHERE fresh "
			"= 0)) AS between_, (SELECT min(base_offset) FROM s WHERE base_offset > i.final AND base_offset <= i.stop) AS behind, "
			"coalesce((SELECT true FROM (SELECT s.end_offset FROM segments s WHERE " OF_PLACE
			" AND s.base_offset < i.base ORDER BY s.base_offset DESC LIMIT " NEAREST
			") s WHERE s.end_offset >= i.first LIMIT 1), false) AS reaching, "
			"(SELECT min(n) FROM b WHERE CASE WHEN whole IS NULL THEN NOT apart ELSE place > whole OR size > whole - place END) "
			"AS unfit, (SELECT min(n) FROM b WHERE taken) AS taken FROM p i), "
			"v AS MATERIALIZED (SELECT i.*, there AND fits AND compaction >= highest * (compaction > 0)::int AS may, "
			"there AND fits AND compaction >= highest * (compaction > 0)::int AND NOT former AND differs IS NULL AND between_ IS "
			"NULL AND behind IS NULL AND NOT reaching AND unfit IS NULL AND taken IS NULL AS goes FROM j i)"
			"{g:, d AS (DELETE FROM segments s USING m i WHERE " GOES
			" AND i.fresh = 0 AND i.kept = 0 AND i.base NOT IN (SELECT base "
			"FROM b) AND " OF_SEGMENT " RETURNING s.base_offset), "
			"u AS (UPDATE segments s SET id = i.id, end_offset = i.last, record_count = i.records, size_bytes = i.size, "
			"s3_bucket = i.bucket, s3_key = i.key, created_at = i.created{t:, min_timestamp = i.oldest, max_timestamp = i.newest} "
			"FROM b i CROSS JOIN (SELECT count(*) FROM d) d WHERE " GOES " AND i.found AND " OF_SEGMENT
			" RETURNING s.base_offset), "
			"a AS (INSERT INTO segments({o:organization_id, }id, topic, partition_id, base_offset, end_offset, record_count, "
			"size_bytes, s3_bucket, s3_key, created_at{t:, min_timestamp, max_timestamp}) SELECT {o:org, }id, topic, pid, base, "
			"last, records, size, bucket, key, created{t:, oldest, newest} FROM b i CROSS JOIN (SELECT count(*) FROM d) d CROSS "
			"JOIN (SELECT count(*) FROM u) u WHERE " GOES
			" AND NOT i.found ORDER BY base RETURNING base_offset)}"
			"{w:, k AS (INSERT INTO shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch, compaction) SELECT tenant, topic, "
			"pid, 0, compaction FROM v WHERE may AND (goes OR former) AND compaction > 0 ON CONFLICT (tenant, topic, "
			"partition_id) DO UPDATE SET compaction = greatest(e.compaction, excluded.compaction)), "
			"{g:x AS (DELETE FROM shmeta_slices x USING p i WHERE " GOES
			" AND x.tenant = i.tenant AND x.topic = i.topic AND "
			"x.partition_id = i.pid AND x.base_offset IN (SELECT base FROM i WHERE fresh = 0 AND kept = 0) AND x.base_offset NOT IN "
			"(SELECT base FROM b WHERE object_id IS NOT NULL)), "
			"y AS (INSERT INTO shmeta_slices(tenant, topic, partition_id, base_offset, object_id, position) SELECT tenant, topic, "
			"pid, base, object_id, place FROM b WHERE " GOES
			" AND object_id IS NOT NULL ORDER BY base ON CONFLICT (tenant, topic, "
			"partition_id, base_offset) DO UPDATE SET object_id = excluded.object_id, position = excluded.position)}{!g:r AS (INSERT INTO "
			"shmeta_meta(name, value) SELECT " REPLACE_MARK ", '' FROM v i WHERE goes)}, "
			"z AS (UPDATE shmeta_objects o SET unreferenced_at = NULL WHERE " GOES
			" AND o.unreferenced_at IS NOT NULL AND "
			"o.object_id IN (SELECT object_id FROM b))} "
			"SELECT 1, i.there, i.fits, " TOPIC_THERE
			", i.highest, i.may, i.former, i.differs, (SELECT found FROM m WHERE fresh = "
			"0 AND NOT same ORDER BY base LIMIT 1), i.between_, i.behind, i.reaching, i.unfit, (SELECT whole FROM b WHERE b.n = "
			"i.unfit), i.taken, {g:(SELECT count(*) FROM d), (SELECT count(*) FROM u), (SELECT count(*) FROM a)}{!g:(SELECT count(*) FROM "
			"m WHERE fresh = 0 AND kept = 0 AND base NOT IN (SELECT base FROM b)), (SELECT count(*) FROM b WHERE found), (SELECT "
			"count(*) FROM b WHERE NOT found)} FROM v i";

/* The agent first, as its deletion has it. A lease more than one row of which is this place's does
 * not occur: it is the key. */
static const char renew[] =
	"@items, " CLOCK "b AS (UPDATE agents a SET last_heartbeat = i.beat FROM i WHERE " THIS_AGENT
	" RETURNING i.n, i.tenant, i.org, i.agent, i.lasts, a.last_heartbeat = i.beat AS done), "
	"h AS MATERIALIZED (SELECT i.n, " ITS_END
	" AS ends, l.topic, l.partition_id{l:, l.organization_id} FROM b i JOIN partition_leases l ON " HELD_BY_AGENT
	"{l: AND l.organization_id = i.org} WHERE l.lease_expires_at > " SOURCE_NOW
	" ORDER BY l.topic, l.partition_id FOR UPDATE OF l), "
	"u AS (UPDATE partition_leases l SET lease_expires_at = greatest(l.lease_expires_at, h.ends) FROM h WHERE "
	"l.topic = h.topic AND l.partition_id = h.partition_id{l: AND l.organization_id = h.organization_id} "
	"RETURNING h.n, l.topic, l.partition_id, l.lease_expires_at >= h.ends AS done) "
	"SELECT i.n, coalesce(b.done, false), EXISTS(SELECT 1 FROM agents a WHERE " THIS_AGENT
	"), (SELECT count(*) FROM h WHERE h.n = i.n), (SELECT count(*) FROM u WHERE u.n = i.n AND u.done), NULL::text, 0::int8 "
	"FROM i LEFT JOIN b ON b.n = i.n UNION ALL SELECT n, true, true, 0, 0, topic::text, partition_id::int8 FROM u";

static const char acquire[] =
	"@items, " CLOCK
	"j AS MATERIALIZED (SELECT i.*, l.epoch IS NOT NULL AS leased, coalesce(l.epoch, 0) AS former, "
	"l.lease_expires_at AS ends, i.there AND i.known AND "
	"(l.epoch IS NULL OR " HELD_BY_AGENT " OR l.lease_expires_at <= " SOURCE_NOW ") AS ok FROM "
	"(SELECT i.*, " TOPIC_THERE " AS named, " PLACE_THERE " AS there, " AGENT_THERE " AS known FROM i) i "
	"LEFT JOIN LATERAL (SELECT * FROM partition_leases l WHERE " OF_LEASE " FOR UPDATE) l ON true), " GIVE_LEASES
	" SELECT j.n, j.there, j.named, j.known, j.ok, CASE WHEN NOT j.ok THEN (least(j.ends, "
	"9223372036854775807) - greatest(" SOURCE_NOW ", 0))::int8 END, " GIVEN GIVEN_LEASE;

static const char release_lease[] =
	"@items, l AS (DELETE FROM partition_leases l USING i WHERE " OF_LEASE " AND " HELD_BY_AGENT " "
	"RETURNING i.n, {l:l.organization_id, }l.topic, l.partition_id, l.epoch){w:" KEEP_EPOCHS
	"} SELECT n, EXISTS(SELECT 1 FROM partition_leases l WHERE " OF_LEASE " AND " HELD_BY_AGENT
	") FROM i WHERE n NOT IN (SELECT n FROM l)";

static const char offer[] =
	"@items, " CLOCK "j AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " OTHER_THERE " AS known, "
	"l.epoch IS NOT NULL AS held, EXISTS(SELECT 1 FROM shmeta_transfers t WHERE t.tenant = i.tenant AND "
	"t.topic = i.topic AND t.partition_id = i.pid AND t.state IN ('pending', 'accepted') AND t.timeout_at > " SOURCE_NOW
	") "
	"AS waits FROM i LEFT JOIN LATERAL (SELECT * FROM partition_leases l WHERE " OF_LEASE " AND " HELD_BY_AGENT
	" AND l.lease_expires_at > " SOURCE_NOW " FOR SHARE) l ON true), "
	"o AS (INSERT INTO shmeta_transfers(tenant, topic, partition_id, from_agent, to_agent, state, created_at, "
	"timeout_at) SELECT tenant, topic, pid, agent, other, 'pending', " SOURCE_NOW ", " ITS_END " FROM j i "
	"WHERE there AND known AND held AND NOT waits ORDER BY n RETURNING tenant, topic, partition_id, transfer_id) "
	"SELECT i.n, i.there, " TOPIC_THERE ", i.known, i.held, i.waits, o.transfer_id FROM j i "
	"LEFT JOIN o ON o.tenant = i.tenant AND o.topic = i.topic AND o.partition_id = i.pid";

static const char accept[] = ANSWER_TRANSFERS("pending", "accepted");
static const char reject[] = ANSWER_TRANSFERS("pending", "rejected");

static const char complete[] =
	"@items, " CLOCK "t AS MATERIALIZED (SELECT i.n, i.tenant, i.org, i.xfer, i.lasts, i.agent AS holder, t.topic, "
	"t.partition_id AS pid, t.to_agent AS agent, " COMPLETED_STATE " FROM i " OF_TRANSFER "), "
	"j AS MATERIALIZED (SELECT i.*, l.epoch IS NOT NULL AS leased, coalesce(l.epoch, 0) AS former, "
	"coalesce(l.held, false) AS held, "
	"i.found AND i.addressed AND i.expected AND i.in_time AND i.known AND coalesce(l.held, false) AS ok "
	"FROM (SELECT i.*, " AGENT_THERE " AS known FROM t i) i "
	"LEFT JOIN LATERAL (SELECT l.epoch, " HELD_BY_HOLDER " AND l.lease_expires_at > " SOURCE_NOW " AS held "
	"FROM partition_leases l WHERE " OF_LEASE " FOR UPDATE) l ON true), " GIVE_LEASES
	", d AS (UPDATE shmeta_transfers t SET state = 'completed' FROM j WHERE j.ok AND t.transfer_id = j.xfer) "
	"SELECT j.n, j.found, j.addressed, j.expected, j.in_time, j.state, j.held, j.known, "
	"j.pid, " GIVEN GIVEN_LEASE;

/* Of one that is there already slices may follow: it is no longer one that nothing refers to. */
static const char object[] =
	"@items, o AS (INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) "
	"SELECT tenant, bucket, key, size, created FROM i ORDER BY tenant, bucket, key "
	"ON CONFLICT DO NOTHING RETURNING tenant, s3_bucket, s3_key)"
	"{g:, u AS (UPDATE shmeta_objects b SET unreferenced_at = NULL FROM i WHERE " OF_OBJECT
	" AND b.size_bytes = i.size AND b.unreferenced_at IS NOT NULL)} "
	"SELECT i.n, b.object_id IS NOT NULL, b.size_bytes, b.slices FROM i LEFT JOIN LATERAL "
	"(SELECT b.*, " SLICES_OF_B " AS slices FROM shmeta_objects b WHERE " OF_OBJECT
	" LIMIT 1) b ON true WHERE (i.tenant, i.bucket, i.key) NOT IN (SELECT tenant, s3_bucket, s3_key FROM o)";

static const char slice[] =
	"@items, j AS MATERIALIZED (SELECT i.*, " PLACE_THERE " AS there, " FITS ", b.object_id FROM i" UNDER_FENCE
	" LEFT JOIN LATERAL (SELECT object_id FROM shmeta_objects b WHERE " OF_OBJECT
	" AND b.size_bytes = i.whole LIMIT 1) b ON true), " INSERT_SLICES RAISE_WATERMARKS
	", l AS (INSERT INTO shmeta_slices(tenant, topic, partition_id, base_offset, object_id, position) "
	"SELECT tenant, topic, pid, base, object_id, place FROM j WHERE " WRITTEN " "
	"ORDER BY tenant, topic, pid, base ON CONFLICT (tenant, topic, partition_id, base_offset) "
	"DO UPDATE SET object_id = excluded.object_id, position = excluded.position)" LED_ADDS("j", WRITTEN " ")
		SLICES_NOT_WRITTEN;

static const char confirm[] =
	"@items, d AS (DELETE FROM shmeta_objects b USING i WHERE " OF_OBJECT
	" AND NOT EXISTS(SELECT 1 FROM shmeta_slices x WHERE x.object_id = b.object_id)) "
	"SELECT i.n, b.slices FROM i JOIN LATERAL (SELECT " SLICES_OF_B
	" AS slices FROM shmeta_objects b WHERE " OF_OBJECT " LIMIT 1) b ON true WHERE b.slices > 0";

/* ---- the kinds ---- */

#define X(resource)                           \
	{                                     \
		RES_##resource, USE_EXCLUSIVE \
	}
#define S(resource)                        \
	{                                  \
		RES_##resource, USE_SHARED \
	}
#define T(resource, turn)                            \
	{                                            \
		RES_##resource, USE_IN_TURN + (turn) \
	}

const struct write_kind_info pg_write_kinds[KIND_COUNT] = {
	[KIND_TOPIC_CREATE] = {topic_create,
                               {FIELD_TENANT, FIELD_TOPIC, FIELD_PARTS, FIELD_RETENTION, FIELD_CONFIG, FIELD_POLICY},
                               {X(TOPIC)},
                               false,
                               {FIELD_END},
                               false},
	[KIND_TOPIC_DELETE] = {topic_delete,
                               {FIELD_TENANT, FIELD_TOPIC},
                               {X(TOPIC), T(LEASES, 0), T(SLICES, 0)},
                               false,
                               {FIELD_END},
                               false},
	[KIND_WATERMARK] = {watermark,
                            {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_OFFSET, FIELD_FENCE, FIELD_EPOCH},
                            {S(TOPIC), T(DATA, 0)},
                            false,
                            {FIELD_END},
                            false},
	[KIND_SEGMENTS_DELETE] = {segments_delete,
                                  {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_OFFSET},
                                  {S(TOPIC), X(DATA), T(SLICES, 0)},
                                  false,
                                  {FIELD_END},
                                  false},
	[KIND_REPLACE] = {replace,
                          {SEGMENT_FIELDS, FIELD_POSITION, FIELD_FRESH, FIELD_KEPT, FIELD_COMPACTION},
                          {S(TOPIC), X(DATA), T(SLICES, 2)},
                          false,
                          {FIELD_END},
                          true},
	[KIND_ADD] = {add, {SEGMENT_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {FIELD_END}, false},
	[KIND_ADD_RAISE] =
		{add_raise, {SEGMENT_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {FIELD_END}, false},
	[KIND_ADD_PLAIN] =
		{add_plain, {PLAIN_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {RUN_FIELDS}, false},
	[KIND_ADD_RAISE_PLAIN] =
		{add_raise_plain, {PLAIN_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {RUN_FIELDS}, false},
	[KIND_ADD_KNOWN] =
		{add_known, {PLAIN_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {RUN_FIELDS}, false},
	[KIND_ADD_RAISE_KNOWN] =
		{add_raise_known, {PLAIN_FIELDS}, {S(TOPIC), T(DATA, 1), X(BASE), X(ID)}, false, {RUN_FIELDS}, false},
	[KIND_GROUP_ENSURE] = {group_ensure, {FIELD_TENANT, FIELD_GROUP}, {T(GROUP, 0)}, false, {FIELD_END}, false},
	[KIND_GROUP_DELETE] = {group_delete, {FIELD_TENANT, FIELD_GROUP}, {T(GROUP, 1)}, false, {FIELD_END}, false},
	[KIND_OFFSET] = {offset,
                         {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_GROUP, FIELD_OFFSET, FIELD_NOTE},
                         {S(TOPIC), T(GROUP, 0)},
                         false,
                         {FIELD_END},
                         false},
	[KIND_AGENT_PUT] = {agent_put,
                            {FIELD_TENANT, FIELD_AGENT, FIELD_ADDRESS, FIELD_ZONE, FIELD_AGENT_GROUP, FIELD_BEAT,
                             FIELD_STARTED, FIELD_ABOUT},
                            {X(AGENT), X(ADDRESS), T(AGENTS, 0)},
                            false,
                            {FIELD_END},
                            false},
	[KIND_AGENT_DELETE] = {agent_delete,
                               {FIELD_TENANT, FIELD_AGENT},
                               {T(AGENT, 0), T(AGENTS, 1), X(LEASES)},
                               false,
                               {FIELD_END},
                               false},
	[KIND_RENEW] = {renew,
                        {FIELD_TENANT, FIELD_AGENT, FIELD_BEAT, FIELD_LASTS},
                        {X(AGENT), T(LEASES, 1)},
                        false,
                        {FIELD_END},
                        false},
	[KIND_ACQUIRE] = {acquire,
                          {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_AGENT, FIELD_LASTS},
                          {S(TOPIC), X(LEASE), S(AGENT), S(AGENTS), S(LEASES)},
                          false,
                          {FIELD_END},
                          false},
	[KIND_RELEASE_LEASE] = {release_lease,
                                {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_AGENT},
                                {S(TOPIC), X(LEASE), S(LEASES)},
                                false,
                                {FIELD_END},
                                false},
	[KIND_OFFER] = {offer,
                        {FIELD_TENANT, FIELD_TOPIC, FIELD_PID, FIELD_AGENT, FIELD_OTHER, FIELD_LASTS},
                        {S(TOPIC), X(LEASE), S(TO_AGENT), S(AGENTS), S(LEASES), T(TRANSFERS, 0)},
                        true,
                        {FIELD_END},
                        false},
	[KIND_ACCEPT] = {accept,
                         {FIELD_TENANT, FIELD_TRANSFER, FIELD_AGENT},
                         {X(TRANSFER), T(TRANSFERS, 1)},
                         true,
                         {FIELD_END},
                         false},
	[KIND_REJECT] = {reject,
                         {FIELD_TENANT, FIELD_TRANSFER, FIELD_AGENT},
                         {X(TRANSFER), T(TRANSFERS, 1)},
                         true,
                         {FIELD_END},
                         false},
	[KIND_COMPLETE] = {complete,
                           {FIELD_TENANT, FIELD_TRANSFER, FIELD_AGENT, FIELD_LASTS},
                           {X(TRANSFER), T(TRANSFERS, 1), X(LEASES), S(AGENTS)},
                           true,
                           {FIELD_END},
                           false},
	[KIND_OBJECT] = {object,
                         {FIELD_TENANT, FIELD_BUCKET, FIELD_KEY, FIELD_SIZE, FIELD_CREATED},
                         {X(OBJECT), T(SLICES, 1)},
                         true,
                         {FIELD_END},
                         false},
	[KIND_SLICE] = {slice,
                        {SEGMENT_FIELDS, FIELD_POSITION, FIELD_WHOLE},
                        {S(TOPIC), T(DATA, 1), X(BASE), X(ID), S(OBJECT)},
                        true,
                        {FIELD_END},
                        false},
	[KIND_CONFIRM] =
		{confirm, {FIELD_TENANT, FIELD_BUCKET, FIELD_KEY}, {X(OBJECT), T(SLICES, 1)}, true, {FIELD_END}, false},
};
#undef X
#undef S
#undef T

const struct write_statement pg_write_statements[KIND_COUNT] = {
#define K(name, limit) [KIND_##name] = {PG_W_##name, limit},
	WRITE_KINDS(K)
#undef K
};

enum write_kind pg_write_kind_of(enum shmeta_op_type type)
{
	static const uint8_t of[SHMETA_OP_TYPES] = {
		[SHMETA_OP_CREATE_TOPIC] = KIND_TOPIC_CREATE,
		[SHMETA_OP_DELETE_TOPIC] = KIND_TOPIC_DELETE,
		[SHMETA_OP_UPDATE_HIGH_WATERMARK] = KIND_WATERMARK,
		[SHMETA_OP_ADD_SEGMENT] = KIND_ADD,
		[SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK] = KIND_ADD_RAISE,
		[SHMETA_OP_DELETE_SEGMENTS_BEFORE] = KIND_SEGMENTS_DELETE,
		[SHMETA_OP_ENSURE_GROUP] = KIND_GROUP_ENSURE,
		[SHMETA_OP_COMMIT_OFFSET] = KIND_OFFSET,
		[SHMETA_OP_DELETE_GROUP] = KIND_GROUP_DELETE,
		[SHMETA_OP_REGISTER_AGENT] = KIND_AGENT_PUT,
		[SHMETA_OP_DEREGISTER_AGENT] = KIND_AGENT_DELETE,
		[SHMETA_OP_ACQUIRE_LEASE] = KIND_ACQUIRE,
		[SHMETA_OP_RELEASE_LEASE] = KIND_RELEASE_LEASE,
		[SHMETA_OP_OFFER_LEASE] = KIND_OFFER,
		[SHMETA_OP_ACCEPT_LEASE] = KIND_ACCEPT,
		[SHMETA_OP_COMPLETE_LEASE] = KIND_COMPLETE,
		[SHMETA_OP_REJECT_LEASE] = KIND_REJECT,
		[SHMETA_OP_COMMIT_OBJECT] = KIND_OBJECT,
		[SHMETA_OP_ADD_SLICE] = KIND_SLICE,
		[SHMETA_OP_CONFIRM_OBJECT_DELETED] = KIND_CONFIRM,
		[SHMETA_OP_RENEW_AGENT] = KIND_RENEW,
		[SHMETA_OP_REPLACE_SEGMENTS] = KIND_REPLACE,
	};

	return (enum write_kind)of[type];
}

enum write_kind pg_write_plain(enum write_kind kind, bool known)
{
	if (kind == KIND_ADD)
		return known ? KIND_ADD_KNOWN : KIND_ADD_PLAIN;
	if (kind == KIND_ADD_RAISE)
		return known ? KIND_ADD_RAISE_KNOWN : KIND_ADD_RAISE_PLAIN;
	return kind;
}

enum write_kind pg_write_careful(enum write_kind kind)
{
	if (kind == KIND_ADD_PLAIN || kind == KIND_ADD_KNOWN)
		return KIND_ADD;
	if (kind == KIND_ADD_RAISE_PLAIN || kind == KIND_ADD_RAISE_KNOWN)
		return KIND_ADD_RAISE;
	return kind;
}

bool pg_write_is_add(enum write_kind kind)
{
	kind = pg_write_careful(kind);
	return kind == KIND_ADD || kind == KIND_ADD_RAISE || kind == KIND_SLICE;
}

bool pg_write_same_place(const struct backend_op *a, const struct backend_op *b)
{
	return a->op->partition_id == b->op->partition_id && rows_compare(a->op->name, b->op->name) == 0 &&
	       rows_compare(a->tenant, b->tenant) == 0;
}

bool pg_write_needs_own(enum write_kind kind)
{
	return pg_write_kinds[kind].own;
}

size_t pg_write_most(enum write_kind kind)
{
	return pg_write_statements[kind].most;
}

const struct write_touch *pg_write_touches(enum write_kind kind)
{
	return pg_write_kinds[kind].touches;
}

bool pg_write_locks_partition(enum write_kind kind)
{
	return pg_write_is_add(kind) || kind == KIND_WATERMARK || kind == KIND_SEGMENTS_DELETE ||
	       kind == KIND_REPLACE || kind == KIND_RELEASE_LEASE || kind == KIND_ACQUIRE || kind == KIND_OFFER;
}
