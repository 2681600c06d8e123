/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the text of what is shmeta's own in a database, and of its removal. */
#include "backends/postgres/pg_own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/sql/tables.h"
#include "base/hash.h"

/* Words of the templates below: @schema (quoted as a name), @text_of_schema (for within quotes of a
 * text), @name, @body and @declare of the function; @log (INSERT INTO the log), and of struct
 * tracked @class, @new and @old. */
#define ORIGIN "current_setting('shmeta.origin', true)"
#define N_TENANT "{o:n.organization_id::text}{!o:NULL}"
#define O_TENANT "{o:o.organization_id::text}{!o:NULL}"
#define N_AGENTS "{a:n.organization_id::text}{!a:NULL}"
#define O_AGENTS "{a:o.organization_id::text}{!a:NULL}"
#define N_LEASES "{l:n.organization_id::text}{!l:NULL}"
#define O_LEASES "{l:o.organization_id::text}{!l:NULL}"
/* Of the new row, or the old one where there is no new one. */
#define TENANT "{o:coalesce(n.organization_id, o.organization_id)::text}{!o:NULL}"
#define SAME_TENANT "{o: AND o.organization_id = n.organization_id}"
#define PARENTS_TENANT "{o: AND u.organization_id = o.organization_id}"
#define BY_N_TENANT "{o:, n.organization_id}"
#define BY_O_TENANT "{o:, o.organization_id}"
#define DEFAULT_TENANT "'" SHMETA_DEFAULT_TENANT "'"
#define L_TENANT "{l:l.organization_id::text}{!l:" DEFAULT_TENANT "}"
#define WAS_TENANT "{l:was->>'organization_id'}{!l:" DEFAULT_TENANT "}"
#define TENANT_KEPT "{l: AND becomes->'organization_id' IS NOT DISTINCT FROM was->'organization_id'}"
#define SLICES_TENANT "{o:o.organization_id::text}{!o:" DEFAULT_TENANT "}"

/* The trigger functions. It is the owner of the log who writes it, whoever changes the table; they
 * raise nothing that the table's own row would not. A statement that changes many segments of a
 * partition logs one row, from the first base to the last.
 *
 * A row that goes because its parent went is not logged: the parent's own row says it all, and by
 * the time the cascade comes the parent is gone. Transition tables do not say which old row became
 * which new one: a key that is in both was altered, one only among the old ones has gone, one only
 * among the new ones is new. */
static const char log_topics[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    @log SELECT " ORIGIN ", 0, 1, " N_TENANT ", n.name FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    @log SELECT " ORIGIN ", 0, CASE WHEN o.name IS NULL THEN 1 WHEN n.name IS NULL THEN 3 ELSE 2 END, " TENANT
	", "
	"coalesce(n.name, o.name) FROM old_rows o FULL JOIN new_rows n ON o.name = n.name" SAME_TENANT ";\n"
	"  ELSE\n"
	"    @log SELECT " ORIGIN ", 0, 3, " O_TENANT ", o.name FROM old_rows o;\n"
	"  END IF;\n";
/* What a cascade takes need not be logged: the parent's row in the log names it. A statement of its
 * own may delete rows whose parent is not there, or not for its snapshot; of ours the daemon knows
 * what they did. */
#define BY_ITSELF "pg_trigger_depth() = 1 AND coalesce(" ORIGIN ", '') = '' OR "
static const char log_partitions[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    @log SELECT " ORIGIN ", 1, 1, " N_TENANT ", n.topic, n.partition_id FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    @log SELECT " ORIGIN
	", 1, CASE WHEN o.topic IS NULL THEN 1 WHEN n.topic IS NULL THEN 3 ELSE 2 END, " TENANT ", "
	"coalesce(n.topic, o.topic), coalesce(n.partition_id, o.partition_id) FROM old_rows o FULL JOIN new_rows n "
	"ON o.topic = n.topic AND o.partition_id = n.partition_id" SAME_TENANT ";\n"
	"  ELSE\n"
	"    @log SELECT " ORIGIN ", 1, 3, " O_TENANT ", o.topic, o.partition_id FROM old_rows o "
	"WHERE " BY_ITSELF "EXISTS (SELECT FROM @schema.topics u WHERE u.name = o.topic" PARENTS_TENANT ");\n"
	"  END IF;\n";
static const char log_segments[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    @log SELECT " ORIGIN ", 2, 1, " N_TENANT
	", n.topic, n.partition_id, min(n.base_offset), max(n.base_offset) "
	"FROM new_rows n GROUP BY n.topic, n.partition_id" BY_N_TENANT ";\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    @log SELECT " ORIGIN ", 2, op, tenant, topic, partition_id, min(base), max(base) FROM ("
	"SELECT CASE WHEN o.topic IS NULL THEN 1 WHEN n.topic IS NULL THEN 3 ELSE 2 END AS op, " TENANT " AS tenant, "
	"coalesce(n.topic, o.topic) AS topic, coalesce(n.partition_id, o.partition_id) AS partition_id, "
	"coalesce(n.base_offset, o.base_offset) AS base FROM old_rows o FULL JOIN new_rows n ON o.topic = n.topic AND "
	"o.partition_id = n.partition_id AND o.base_offset = n.base_offset" SAME_TENANT
	") c GROUP BY op, tenant, topic, partition_id;\n"
	"  ELSE\n"
	"    @log SELECT " ORIGIN ", 2, 3, " O_TENANT
	", o.topic, o.partition_id, min(o.base_offset), max(o.base_offset) "
	"FROM old_rows o WHERE " BY_ITSELF "EXISTS (SELECT FROM @schema.partitions u WHERE u.topic = o.topic AND "
	"u.partition_id = o.partition_id" PARENTS_TENANT ") GROUP BY o.topic, o.partition_id" BY_O_TENANT ";\n"
	"  END IF;\n";
/* Of the others it is enough which keys are concerned. */
static const char log_keys[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    @log SELECT " ORIGIN ", @class, 1, @new FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    @log SELECT " ORIGIN
	", @class, 2, k.* FROM (SELECT @new FROM new_rows n UNION SELECT @old FROM old_rows o) k;\n"
	"  ELSE\n"
	"    @log SELECT " ORIGIN ", @class, 3, @old FROM old_rows o;\n"
	"  END IF;\n";
/* Nothing says which rows a TRUNCATE has taken: everything is looked at. */
static const char log_truncate[] = "  @log SELECT " ORIGIN ", 3, 3;\n";
/* A slice whose segment is gone, by whomever, holds its object no longer. */
static const char drop_slices[] =
	"  IF TG_OP = 'TRUNCATE' THEN\n"
	"    DELETE FROM @schema.shmeta_slices;\n"
	"  ELSIF EXISTS (SELECT FROM @schema.shmeta_slices) THEN\n"
	"    DELETE FROM @schema.shmeta_slices l USING old_rows o WHERE l.tenant = " SLICES_TENANT
	" AND l.topic = o.topic AND "
	"l.partition_id = o.partition_id AND l.base_offset = o.base_offset;\n"
	"  END IF;\n";
/* Epochs of leases never go back, whoever takes a lease away and however: release, the agent's or
 * the topic's deletion, a cascade, another program's DELETE, a key that is changed, an epoch that
 * is lowered. Rows are taken whole, as JSON: what names a column of OLD or NEW fails in each
 * session that ran it before the column got another type. */
static const char keep_epochs[] =
	"  IF TG_OP = 'TRUNCATE' THEN\n"
	"    INSERT INTO @schema.shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch) SELECT " L_TENANT
	", l.topic, "
	"l.partition_id, max(l.epoch) FROM @schema.partition_leases l WHERE l.epoch BETWEEN 1 AND 9223372036854775807 AND "
	"l.partition_id BETWEEN 0 AND 2147483647 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 ON CONFLICT (tenant, topic, partition_id) "
	"DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch);\n"
	"    RETURN NULL;\n"
	"  END IF;\n"
	"  was := to_jsonb(OLD);\n"
	"  IF TG_OP = 'UPDATE' THEN\n"
	"    becomes := to_jsonb(NEW);\n"
	"  END IF;\n"
	"  IF (was->>'epoch')::NUMERIC BETWEEN 1 AND 9223372036854775807 AND (was->>'partition_id')::NUMERIC BETWEEN 0 AND "
	"2147483647 AND ((becomes->>'epoch')::NUMERIC >= (was->>'epoch')::NUMERIC AND becomes->'topic' = was->'topic' AND "
	"becomes->'partition_id' = was->'partition_id'" TENANT_KEPT ") IS NOT TRUE THEN\n"
	"    INSERT INTO @schema.shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch) VALUES (" WAS_TENANT ", "
	"was->>'topic', (was->>'partition_id')::NUMERIC, (was->>'epoch')::NUMERIC) ON CONFLICT (tenant, topic, partition_id) "
	"DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch);\n"
	"  END IF;\n";
/* The functions must not fail the application's statement, whatever has become of what they name.
 * What they could not log is told by a row that says that everything is to be looked at; where that
 * cannot be written either, by a number that no rollback takes back. */
static const char function_text[] =
	"CREATE OR REPLACE FUNCTION @schema.@name() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
	"SET search_path = pg_catalog, pg_temp AS $shmeta$\n@declareBEGIN\n@body  RETURN NULL;\n"
	"EXCEPTION WHEN others THEN\n"
	"  RAISE LOG 'shmeta: trigger % of % did not do its work: % (%)', TG_NAME, TG_TABLE_NAME, SQLERRM, SQLSTATE;\n"
	"  BEGIN\n"
	"    INSERT INTO @schema.shmeta_changes(class, op) VALUES (3, 3);\n"
	"  EXCEPTION WHEN others THEN\n"
	"    BEGIN\n"
	"      PERFORM nextval('@text_of_schema.shmeta_missed');\n"
	"    EXCEPTION WHEN others THEN\n"
	"      NULL; /* it is gone: then no poll goes well */\n"
	"    END;\n"
	"  END;\n"
	"  RETURN NULL;\nEND $shmeta$";
/* Not by WHEN: a column that a trigger's definition names cannot be altered any more. */
static const struct {
	const char *name, *event, *rows;
	int type; /* as pg_trigger.tgtype has it */
} epoch_triggers[] = {
	{"shmeta_epochs_delete", "AFTER DELETE", "FOR EACH ROW ", 9},
	{"shmeta_epochs_update", "AFTER UPDATE", "FOR EACH ROW ", 17},
	{"shmeta_epochs_truncate", "BEFORE TRUNCATE", "FOR EACH STATEMENT ", 34},
};
enum { EPOCH_TRIGGERS = sizeof epoch_triggers / sizeof epoch_triggers[0] };
_Static_assert(SHMETA_CLASS_TOPIC == 0 && SHMETA_CLASS_PARTITION == 1 && SHMETA_CLASS_SEGMENT == 2 &&
                       SHMETA_CLASS_LIST == 3,
               "the functions above name classes by number");

/* The bound of the log where no daemon prunes it: each PRUNE_STEP-th row takes the oldest
 * PRUNE_BATCH of its predecessors along once there are LOG_MOST of them. Until then it looks at two
 * rows. Nobody waits and nothing fails for it: one writer at a time, and not one that is
 * SERIALIZABLE, whose own work it could make fail. What a transaction that is still open may not
 * have seen stays, as every later snapshot sees what goes: then no reader reconciles twice for it.
 * Plans are of indexes alone, whatever the log was like when a session made them. Of the last
 * transaction of a batch some rows may be left: there the next one begins. A mark of a transaction
 * that is still to come was copied here from another cluster. */
enum { LOG_MOST = 1048576, PRUNE_STEP = 1024, PRUNE_BATCH = 2048 };
static const char log_prune[] =
	"CREATE OR REPLACE FUNCTION %s.shmeta_prune() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
	"SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off "
	"AS $shmeta$\nDECLARE\n  gone xid8;\n  settled xid8;\n  oldest BIGINT;\n  last BIGINT;\n  next BIGINT;\nBEGIN\n"
	"  IF current_setting('transaction_isolation') = 'serializable' THEN\n    RETURN NULL;\n  END IF;\n"
	"  settled := pg_snapshot_xmin(pg_current_snapshot());\n"
	"  next := pg_snapshot_xmax(pg_current_snapshot())::text::BIGINT;\n"
	"  gone := coalesce((SELECT value::BIGINT - 1 FROM %s.shmeta_meta WHERE name = 'pruned' AND value::BIGINT <= next), 0)::text::xid8;\n"
	"  SELECT seq INTO oldest FROM %s.shmeta_changes WHERE xid >= gone AND xid < settled ORDER BY xid, seq LIMIT 1;\n"
	"  IF oldest IS NULL OR oldest > NEW.seq - %d OR NOT pg_try_advisory_xact_lock(%d) THEN\n    RETURN NULL;\n  END IF;\n"
	"  BEGIN\n"
	"    WITH aged AS (SELECT xid, seq FROM %s.shmeta_changes WHERE xid >= gone AND xid < settled ORDER BY xid, seq LIMIT %d),\n"
	"      pruned AS (DELETE FROM %s.shmeta_changes c USING aged a WHERE c.xid = a.xid AND c.seq = a.seq RETURNING c.xid)\n"
	"    SELECT max(xid::text::BIGINT) INTO last FROM pruned;\n"
	"    IF last IS NOT NULL THEN\n"
	"      INSERT INTO %s.shmeta_meta AS m(name, value) VALUES ('pruned', (last + 1)::text)\n"
	"        ON CONFLICT (name) DO UPDATE SET value = CASE WHEN m.value::BIGINT > EXCLUDED.value::BIGINT AND m.value::BIGINT <= next THEN m.value ELSE EXCLUDED.value END;\n"
	"    END IF;\n"
	"  EXCEPTION WHEN others THEN\n    NULL; /* whoever comes next does it */\n  END;\n"
	"  RETURN NULL;\nEND $shmeta$";

static const struct tracked {
	enum table_index table;
	const char *body;
	/* Of log_keys: the class, and what its rows are named by. */
	const char *class, *new_keys, *old_keys;
	const char *logged; /* columns of the log that the body fills, beside origin, class and
                             * op */
} tracked[] = {
	{TOPICS, log_topics, "", "", "", ", tenant, topic"},
	{PARTITIONS, log_partitions, "", "", "", ", tenant, topic, partition_id"},
	{SEGMENTS, log_segments, "", "", "", ", tenant, topic, partition_id, base_offset, base_last"},
	{GROUPS, log_keys, "6", N_TENANT ", n.group_id", O_TENANT ", o.group_id", ", tenant, name"},
	{OFFSETS, log_keys, "6", N_TENANT ", n.group_id, n.topic, n.partition_id",
         O_TENANT ", o.group_id, o.topic, o.partition_id", ", tenant, name, topic, partition_id"},
	{AGENTS, log_keys, "4", N_AGENTS ", n.agent_id", O_AGENTS ", o.agent_id", ", tenant, name"},
	{LEASES, log_keys, "5", N_LEASES ", n.topic, n.partition_id", O_LEASES ", o.topic, o.partition_id",
         ", tenant, topic, partition_id"},
};
_Static_assert(SHMETA_CLASS_AGENT == 4 && SHMETA_CLASS_LEASE == 5 && SHMETA_CLASS_OFFSET == 6, "the table names them");
enum { TRACKED = sizeof tracked / sizeof tracked[0], OPERATIONS = 4 };
static const char *const operations[OPERATIONS] = {"insert", "update", "delete", "truncate"};
static const char *const transitions[OPERATIONS] = {
	"REFERENCING NEW TABLE AS new_rows ",
	"REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
	"REFERENCING OLD TABLE AS old_rows ",
};

struct function_words {
	struct sql_words words; /* first */
	const char *name, *body;
	const struct tracked *t; /* what is logged of which table; NULL: body alone */
};

static size_t function_word(FILE *out, const struct sql_words *words, const char *text)
{
	static const char *const names[] = {"@schema", "@text_of_schema", "@name", "@declare", "@body",
	                                    "@log",    "@class",          "@new",  "@old"};
	const struct function_words *mine = (const struct function_words *)words;
	const struct pg_state *state = words->arg;
	const char *const values[] = {state->schema, state->schema_text, mine->name,
	                              mine->body == keep_epochs ? "DECLARE\n  was JSONB;\n  becomes JSONB;\n" : ""};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (sql_is(text, names[i]) == 0)
			continue;
		if (i < sizeof values / sizeof values[0])
			fputs(values[i], out);
		else if (strcmp(names[i], "@body") == 0)
			sql_write(out, mine->body, words);
		else if (strcmp(names[i], "@log") == 0)
			fprintf(out, "INSERT INTO %s.shmeta_changes(origin, class, op%s)", state->schema,
			        mine->t != NULL ? mine->t->logged : "");
		else
			sql_write(out,
			          strcmp(names[i], "@class") == 0 ? mine->t->class
			          : strcmp(names[i], "@new") == 0 ? mine->t->new_keys
			                                          : mine->t->old_keys,
			          words);
		return strlen(names[i]);
	}
	return 0;
}

/* t: what is logged of which table; NULL: body alone. */
static void say_function(struct pg_script *script, const struct pg_state *state, const char *name,
                         const struct tracked *t, const char *body)
{
	struct function_words words = {.words = pg_words(state), .name = name, .body = body, .t = t};
	char *text;

	words.words.word = function_word;
	text = sql_expand(function_text, &words.words);
	script->failed |= text == NULL;
	pg_say(script, "%s", text != NULL ? text : "");
	free(text);
}

static void say_trigger(struct pg_script *script, const struct pg_state *state, const char *name, const char *event,
                        const char *table, const char *references, const char *function)
{
	const char *schema = state->schema;

	pg_say(script, "DROP TRIGGER IF EXISTS %s ON %s.%s", name, schema, table);
	pg_say(script, "CREATE TRIGGER %s AFTER %s ON %s.%s %sFOR EACH STATEMENT EXECUTE FUNCTION %s.%s()", name, event,
	       schema, table, references, schema, function);
	/* Also where the session says that it is a replica: what comes by replication is new to us
	 * all the same. */
	pg_say(script, "ALTER TABLE %s.%s ENABLE ALWAYS TRIGGER %s", schema, table, name);
}

static void say_epochs(struct pg_script *script, const struct pg_state *state)
{
	const char *schema = state->schema;

	say_function(script, state, "shmeta_keep_epochs", NULL, keep_epochs);
	/* Earlier versions kept some under the tenant that asked, though leases have none. */
	if (!state->shape.leases_organization)
		pg_say(script,
		       "INSERT INTO %s.shmeta_lease_epochs AS e(tenant, topic, partition_id, epoch) SELECT '" SHMETA_DEFAULT_TENANT
		       "', topic, partition_id, max(epoch) FROM %s.shmeta_lease_epochs GROUP BY topic, partition_id ON CONFLICT "
		       "(tenant, topic, partition_id) DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch)",
		       schema, schema);
	for (int i = 0; i < EPOCH_TRIGGERS && strchr("rp", state->shape.kinds[LEASES]) != NULL; i++) {
		pg_say(script, "DROP TRIGGER IF EXISTS %s ON %s.partition_leases", epoch_triggers[i].name, schema);
		pg_say(script, "CREATE TRIGGER %s %s ON %s.partition_leases %sEXECUTE FUNCTION %s.shmeta_keep_epochs()",
		       epoch_triggers[i].name, epoch_triggers[i].event, schema, epoch_triggers[i].rows, schema);
		pg_say(script, "ALTER TABLE %s.partition_leases ENABLE ALWAYS TRIGGER %s", schema,
		       epoch_triggers[i].name);
	}
}

static void say_log(struct pg_script *script, const struct pg_state *state)
{
	const char *schema = state->schema;
	static const char *const events[] = {"INSERT", "UPDATE", "DELETE"};
	/* Otherwise there is no feed, and triggers would log for nobody, or fail. */
	bool wanted = pg_log_is_possible(&state->shape);
	char name[80], function[80];

	/* No constraint but the key: a trigger must not fail the application's statement. The key
	 * begins with the transaction, by which the log is read and pruned; that there is one lets
	 * the table be published. */
	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_changes(xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
	       "seq BIGINT GENERATED ALWAYS AS IDENTITY, class SMALLINT, op SMALLINT, tenant TEXT, topic TEXT, partition_id BIGINT, "
	       "base_offset BIGINT, base_last BIGINT, name TEXT, origin TEXT, token BIGINT, PRIMARY KEY (xid, seq)) WITH "
	       "(autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)",
	       schema);
	/* Those of earlier versions. */
	pg_say(script,
	       "ALTER TABLE %s.shmeta_changes ADD COLUMN IF NOT EXISTS name TEXT, ADD COLUMN IF NOT EXISTS token BIGINT, "
	       "ALTER COLUMN partition_id TYPE BIGINT",
	       schema);
	/* Counts what could not be logged. Whoever reads the log has to see it, and it tells
	 * nothing else. */
	pg_say(script, "CREATE SEQUENCE IF NOT EXISTS %s.shmeta_missed", schema);
	pg_say(script, "GRANT SELECT ON SEQUENCE %s.shmeta_missed TO PUBLIC", schema);
	/* By its token a row is known again: where a server was set back, and has gone on, numbers
	 * of transactions and rows come twice. */
	pg_say(script,
	       "ALTER TABLE %s.shmeta_changes ALTER COLUMN token SET DEFAULT (random() * 9007199254740991)::BIGINT",
	       schema);
	/* There is always a row to be known again: one that tells of no class. */
	pg_say(script,
	       "INSERT INTO %s.shmeta_changes(class) SELECT %d WHERE NOT EXISTS (SELECT FROM %s.shmeta_changes)",
	       schema, PG_CLASS_NONE, schema);
	pg_say(script, log_prune, schema, schema, schema, LOG_MOST, PG_PRUNE_LOCK, schema, PRUNE_BATCH, schema, schema);
	pg_say(script, "DROP TRIGGER IF EXISTS shmeta_changes_prune ON %s.shmeta_changes", schema);
	pg_say(script,
	       "CREATE TRIGGER shmeta_changes_prune AFTER INSERT ON %s.shmeta_changes FOR EACH ROW WHEN (NEW.seq %% %d = 0) "
	       "EXECUTE FUNCTION %s.shmeta_prune()",
	       schema, PRUNE_STEP, schema);
	pg_say(script, "ALTER TABLE %s.shmeta_changes ENABLE ALWAYS TRIGGER shmeta_changes_prune", schema);
	for (int i = 0; i < TRACKED; i++) {
		const char *table = backend_tables[tracked[i].table].name;

		snprintf(function, sizeof function, "shmeta_log_%s", table);
		say_function(script, state, function, &tracked[i], tracked[i].body);
		for (int op = 0; op < OPERATIONS - 1; op++) {
			snprintf(name, sizeof name, "shmeta_%s_%s", table, operations[op]);
			if (wanted)
				say_trigger(script, state, name, events[op], table, transitions[op], function);
			else if (strchr("rp", state->shape.kinds[tracked[i].table]) != NULL)
				pg_say(script, "DROP TRIGGER IF EXISTS %s ON %s.%s", name, schema, table);
		}
	}
	say_function(script, state, "shmeta_log_truncate", NULL, log_truncate);
	for (int i = 0; wanted && i < TRACKED; i++) {
		snprintf(name, sizeof name, "shmeta_%s_truncate", backend_tables[tracked[i].table].name);
		say_trigger(script, state, name, "TRUNCATE", backend_tables[tracked[i].table].name, "",
		            "shmeta_log_truncate");
	}
	say_epochs(script, state);
	say_function(script, state, "shmeta_drop_slices", NULL, drop_slices);
	if (strchr("rp", state->shape.kinds[SEGMENTS]) == NULL)
		return;
	say_trigger(script, state, "shmeta_slices_delete", "DELETE", "segments", transitions[2], "shmeta_drop_slices");
	say_trigger(script, state, "shmeta_slices_truncate", "TRUNCATE", "segments", "", "shmeta_drop_slices");
	/* Segments that went while these triggers were missing left their slices behind. */
	pg_say(script,
	       "DELETE FROM %s.shmeta_slices l WHERE NOT EXISTS (SELECT FROM %s.segments s JOIN %s.shmeta_objects b ON "
	       "s.s3_bucket = b.s3_bucket AND s.s3_key = b.s3_key WHERE b.object_id = l.object_id AND l.tenant = %s AND "
	       "l.topic = s.topic AND l.partition_id = s.partition_id AND l.base_offset = s.base_offset)",
	       schema, schema, schema,
	       state->shape.organization ? "s.organization_id::text" : "'" SHMETA_DEFAULT_TENANT "'");
}

/* Nobody's COMMIT fails for the hint: not where a listener holds up the queue, and one that is
 * prepared first may not notify at all. Where the operator wants it: it is not of the version, so
 * that hosts that differ in this do not undo each other's work. */
void pg_say_notify(struct pg_script *script, const struct pg_state *state)
{
	const char *schema = state->schema;

	pg_say(script,
	       "CREATE OR REPLACE FUNCTION %s.shmeta_notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp "
	       "AS $shmeta$\nBEGIN\n  IF current_setting('max_prepared_transactions') = '0' AND pg_notification_queue_usage() < "
	       "0.5 AND EXISTS (SELECT FROM new_rows) THEN\n    NOTIFY " PG_CHANNEL
	       ";\n  END IF;\n  RETURN NULL;\nEND $shmeta$",
	       schema);
	say_trigger(script, state, "shmeta_changes_notify", "INSERT", "shmeta_changes", transitions[0],
	            "shmeta_notify");
}

static void say_objects(struct pg_script *script, const struct pg_state *state)
{
	const char *schema = state->schema, *c = state->dialect->column_collate;

	pg_say(script, "CREATE TABLE IF NOT EXISTS %s.shmeta_meta(name TEXT PRIMARY KEY, value TEXT)", schema);
	/* Epochs of leases never go back: not through release, deregistration or recreation of the
	 * topic. So they go by name. */
	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_lease_epochs(tenant TEXT%s NOT NULL, topic TEXT%s NOT NULL, "
	       "partition_id INTEGER NOT NULL, epoch BIGINT NOT NULL, PRIMARY KEY (tenant, topic, partition_id))",
	       schema, c, c);
	/* And the highest epoch that was ever given with a compaction. A column, so that roles that
	 * were granted the table keep what they need. */
	pg_say(script, "ALTER TABLE %s.shmeta_lease_epochs ADD COLUMN IF NOT EXISTS compaction BIGINT", schema);
	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_transfers(transfer_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
	       "tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, from_agent TEXT NOT NULL, "
	       "to_agent TEXT NOT NULL, state TEXT NOT NULL, created_at BIGINT NOT NULL, timeout_at BIGINT NOT NULL)",
	       schema);
	pg_say(script,
	       "CREATE INDEX IF NOT EXISTS shmeta_transfers_place ON %s.shmeta_transfers(tenant, topic, partition_id)",
	       schema);
	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_objects(object_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
	       "tenant TEXT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, size_bytes BIGINT NOT NULL, "
	       "created_at BIGINT NOT NULL, unreferenced_at BIGINT, UNIQUE (tenant, s3_bucket, s3_key))",
	       schema);
	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_slices(tenant TEXT%s NOT NULL, topic TEXT%s NOT NULL, "
	       "partition_id INTEGER NOT NULL, base_offset BIGINT NOT NULL, object_id BIGINT NOT NULL, position BIGINT NOT NULL, "
	       "PRIMARY KEY (tenant, topic, partition_id, base_offset)%s)",
	       schema, c, c,
	       /* Where no trigger can, a foreign key takes the slices of segments that go. */
	       !state->dialect->triggers && state->shape.segment_place
	               ? ", FOREIGN KEY (topic, partition_id, base_offset) REFERENCES segments(topic, partition_id, base_offset) "
	                 "ON DELETE CASCADE"
	               : "");
	pg_say(script, "CREATE INDEX IF NOT EXISTS shmeta_slices_object ON %s.shmeta_slices(object_id)", schema);
	if (state->dialect->triggers)
		say_log(script, state);
}

/* Under which epochs something was written (backends/leader_epochs.h). Not of the version: what
 * else is there works without it, and a role that was granted the other tables goes on with
 * them. */
static void say_leaders(struct pg_script *script, const struct pg_state *state)
{
	const char *c = state->dialect->column_collate;

	pg_say(script,
	       "CREATE TABLE IF NOT EXISTS %s.shmeta_leader_epochs(tenant TEXT%s NOT NULL, topic TEXT%s NOT NULL, "
	       "partition_id INTEGER NOT NULL, epoch BIGINT NOT NULL, start BIGINT NOT NULL, created_at BIGINT NOT NULL, "
	       "PRIMARY KEY (tenant, topic, partition_id, epoch))",
	       state->schema, c, c);
}

/* To be raised with each change of the texts above. The hash beside it tells what the same version
 * says of another shape. */
enum { OWN_VERSION = 3 };

static uint64_t script_hash(const struct pg_script *script)
{
	uint64_t hash = HASH_FIRST;

	for (size_t i = 0; i < script->count; i++)
		hash = hash_bytes(hash, script->lines[i], strlen(script->lines[i]));
	return hash | 1;
}

void pg_say_own(struct pg_script *script, const struct pg_state *state)
{
	uint64_t hash;

	say_objects(script, state);
	hash = script_hash(script);
	say_leaders(script, state);
	pg_say(script,
	       "INSERT INTO %s.shmeta_meta(name, value) VALUES ('schema', 'v%d %016" PRIx64 "') "
	       "ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
	       state->schema, OWN_VERSION, hash);
	pg_say(script,
	       "INSERT INTO %s.shmeta_meta(name, value) VALUES ('source', "
	       "md5(random()::text || clock_timestamp()::text || current_database())) ON CONFLICT (name) DO NOTHING",
	       state->schema);
}

enum pg_version pg_judge_mark(const struct pg_state *state, const char *mark)
{
	struct pg_script script = {.lines = NULL};
	/* One of before there were numbers is a hash alone. */
	long version = mark[0] == 'v' ? strtol(mark + 1, NULL, 10) : 0;
	char wanted[40];
	bool same;

	if (version != OWN_VERSION)
		return version > OWN_VERSION ? PG_VERSION_LATER : PG_VERSION_EARLIER;
	say_objects(&script, state);
	snprintf(wanted, sizeof wanted, "v%d %016" PRIx64, OWN_VERSION, script_hash(&script));
	same = !script.failed && strcmp(mark, wanted) == 0;
	pg_script_free(&script);
	return same ? PG_VERSION_SAME : PG_VERSION_EARLIER;
}

void pg_list_triggers(char *ret, size_t bytes)
{
	/* As pg_trigger.tgtype has them: once for each statement, after it. */
	static const int types[OPERATIONS] = {4, 16, 8, 32};
	size_t used = 0;

	for (int i = 0; i < TRACKED; i++) {
		const char *table = backend_tables[tracked[i].table].name;

		for (int op = 0; op < OPERATIONS && used < bytes; op++)
			used += (size_t)snprintf(ret + used, bytes - used,
			                         "%s('shmeta_%s_%s', '%s', 'shmeta_log_%s', %d)", used > 0 ? ", " : "",
			                         table, operations[op], table,
			                         op == OPERATIONS - 1 ? "truncate" : table, types[op]);
	}
	for (int i = 0; i < EPOCH_TRIGGERS && used < bytes; i++)
		used += (size_t)snprintf(ret + used, bytes - used,
		                         ", ('%s', 'partition_leases', 'shmeta_keep_epochs', %d)",
		                         epoch_triggers[i].name, epoch_triggers[i].type);
	if (used < bytes)
		snprintf(ret + used, bytes - used,
		         ", ('shmeta_slices_delete', 'segments', 'shmeta_drop_slices', 8), "
		         "('shmeta_slices_truncate', 'segments', 'shmeta_drop_slices', 32), "
		         "('shmeta_changes_prune', 'shmeta_changes', 'shmeta_prune', 5)");
}

/* Triggers first: one without its table would fail the application's statements. */
void pg_say_removal(struct pg_script *script, const struct pg_state *state)
{
	static const char *const own[] = {"shmeta_changes",   "shmeta_slices",       "shmeta_objects",
	                                  "shmeta_transfers", "shmeta_lease_epochs", "shmeta_leader_epochs",
	                                  "shmeta_meta"};
	const char *schema = state->schema;

	for (int i = 0; state->dialect->triggers && i < TRACKED; i++)
		for (int op = 0; op < OPERATIONS; op++)
			pg_say(script, "DROP TRIGGER IF EXISTS shmeta_%s_%s ON %s.%s",
			       backend_tables[tracked[i].table].name, operations[op], schema,
			       backend_tables[tracked[i].table].name);
	for (int i = 0; state->dialect->triggers && i < EPOCH_TRIGGERS; i++)
		pg_say(script, "DROP TRIGGER IF EXISTS %s ON %s.partition_leases", epoch_triggers[i].name, schema);
	if (state->dialect->triggers) {
		pg_say(script, "DROP TRIGGER IF EXISTS shmeta_slices_delete ON %s.segments", schema);
		pg_say(script, "DROP TRIGGER IF EXISTS shmeta_slices_truncate ON %s.segments", schema);
		for (int i = 0; i < TRACKED; i++)
			pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_log_%s()", schema,
			       backend_tables[tracked[i].table].name);
		pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_log_truncate()", schema);
		pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_drop_slices()", schema);
		pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_keep_epochs()", schema);
	}
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		pg_say(script, "DROP TABLE IF EXISTS %s.%s", schema, own[i]);
	if (state->dialect->triggers)
		pg_say(script, "DROP SEQUENCE IF EXISTS %s.shmeta_missed", schema);
	if (state->dialect->triggers)
		pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_notify()", schema);
	if (state->dialect->triggers)
		pg_say(script, "DROP FUNCTION IF EXISTS %s.shmeta_prune()", schema);
}
