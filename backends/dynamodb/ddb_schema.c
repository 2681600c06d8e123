/* SPDX-License-Identifier: Apache-2.0
 * The four tables (ddb_schema.h). */
#include "backends/dynamodb/ddb_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"

enum { WAIT_MS = 500, MAKE_S = 120 };

static bool is_error(const struct ddb_call *call, const char *type)
{
	const char *own = json_string_value(json_object_get(call->answer, "__type"));

	return own != NULL && strstr(own, type) != NULL;
}

/* One call; *ret is the answer, to be released. *ret NULL and OK: the table is not there. */
static enum shmeta_status ask(struct ddb_state *s, const char *target, json_t *body, const char *doing, json_t **ret,
                              struct backend_error *err)
{
	struct ddb_call call = {.target = target, .body = body};
	enum shmeta_status status = SHMETA_OK;

	*ret = NULL;
	ddb_link_run(&s->link, &call, 1, s->deadline_ns);
	if (call.outcome == DDB_DONE)
		*ret = json_incref(call.answer);
	else if (!is_error(&call, "ResourceNotFoundException"))
		status = ddb_call_fail(&s->link, &call, doing, err);
	json_decref(body);
	ddb_call_free(&call);
	return status;
}

static enum shmeta_status describe(struct ddb_state *s, enum ddb_table table, json_t **ret, struct backend_error *err)
{
	return ask(s, "DescribeTable", json_pack("{s:s}", "TableName", s->link.uri.table[table]), "looking at a table",
	           ret, err);
}

enum shmeta_status ddb_identity(struct ddb_state *s, uint64_t *ret, struct backend_error *err)
{
	json_t *answer, *table;
	enum shmeta_status status = describe(s, DDB_META, &answer, err);
	const char *id, *arn;
	char made[40];

	*ret = 0;
	if (status != SHMETA_OK || answer == NULL)
		return status;
	table = json_object_get(answer, "Table");
	arn = json_string_value(json_object_get(table, "TableArn"));
	id = json_string_value(json_object_get(table, "TableId"));
	(void)snprintf(made, sizeof made, "%.3f", json_number_value(json_object_get(table, "CreationDateTime")));
	if (id == NULL)
		id = made;
	if (arn == NULL)
		arn = s->link.uri.table[DDB_META];
	*ret = hash_bytes(hash_bytes(HASH_FIRST, arn, strlen(arn)), id, strlen(id)) | 1;
	json_decref(answer);
	return SHMETA_OK;
}

static json_t *create_body(const struct ddb_state *s, enum ddb_table table)
{
	return json_pack("{s:s, s:s, s:[{s:s, s:s}, {s:s, s:s}], s:[{s:s, s:s}, {s:s, s:s}], s:b, s:[{s:s, s:s}]}",
	                 "TableName", s->link.uri.table[table], "BillingMode", "PAY_PER_REQUEST",
	                 "AttributeDefinitions", "AttributeName", "pk", "AttributeType", "S", "AttributeName", "sk",
	                 "AttributeType", "S", "KeySchema", "AttributeName", "pk", "KeyType", "HASH", "AttributeName",
	                 "sk", "KeyType", "RANGE", "DeletionProtectionEnabled", 1, "Tags", "Key", "shmeta", "Value",
	                 "1");
}

static json_t *ttl_body(const struct ddb_state *s, enum ddb_table table)
{
	return json_pack("{s:s, s:{s:b, s:s}}", "TableName", s->link.uri.table[table], "TimeToLiveSpecification",
	                 "Enabled", 1, "AttributeName", "ttl");
}

static json_t *backups_body(const struct ddb_state *s, enum ddb_table table)
{
	return json_pack("{s:s, s:{s:b}}", "TableName", s->link.uri.table[table], "PointInTimeRecoverySpecification",
	                 "PointInTimeRecoveryEnabled", 1);
}

/* Say it, and do it. */
static enum shmeta_status act(struct ddb_state *s, const char *target, json_t *body, const char *doing, int dry_run,
                              backend_schema_fn *say, void *arg, struct backend_error *err)
{
	char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS), *line = NULL;
	enum shmeta_status status = SHMETA_OK;
	json_t *answer = NULL;

	if (say != NULL && text != NULL && asprintf(&line, "%s %s", target, text) > 0)
		status = say(arg, "dynamodb", line);
	free(text);
	free(line);
	if (status != SHMETA_OK || dry_run) {
		json_decref(body);
		return status;
	}
	status = ask(s, target, body, doing, &answer, err);
	json_decref(answer);
	return status;
}

static const char *status_of(const json_t *answer)
{
	const char *text = json_string_value(json_object_get(json_object_get(answer, "Table"), "TableStatus"));

	return answer == NULL ? "missing" : text != NULL ? text : "there, in a state that it does not tell";
}

/* A table is of use once it is active, and gone once it is not found. */
static enum shmeta_status wait_for(struct ddb_state *s, enum ddb_table table, const char *wanted,
                                   struct backend_error *err)
{
	uint64_t end_ns = ddb_now_ns() + MAKE_S * UINT64_C(1000000000);

	for (unsigned int tries = 1;; tries++) {
		json_t *answer;
		bool there;
		enum shmeta_status status;

		ddb_begin(s, DDB_FOR_WRITE);
		status = describe(s, table, &answer, err);
		there = strcmp(status_of(answer), wanted) == 0;
		json_decref(answer);
		if (status != SHMETA_OK || there)
			return status;
		if (ddb_now_ns() > end_ns)
			return backend_fail(err, SHMETA_ERR_SOURCE, "dynamodb: the table %s is not %s after %d s",
			                    s->link.uri.table[table], wanted, MAKE_S);
		if (tries > 1)
			(void)nanosleep(&(struct timespec){0, WAIT_MS * 1000000L}, NULL);
	}
}

/* ---- what is set of a table beside its keys ---- */

enum setting { PROTECTION, TIME_TO_LIVE, RECOVERY, SETTINGS };
static const char *const setting_names[SETTINGS] = {"deletion protection", "time to live", "point-in-time recovery"};

/* Of the rows offers of leases end by themselves. */
static bool has_setting(enum ddb_table table, enum setting setting)
{
	bool rows = table == DDB_META || table == DDB_SEG;

	return setting == PROTECTION || (setting == RECOVERY ? rows : table != DDB_SEG);
}

static bool is_on(const char *text)
{
	return text != NULL && strncmp(text, "ENABL", 5) == 0; /* ENABLED, ENABLING */
}

/* answer: of DescribeTable. */
static enum shmeta_status look_at_setting(struct ddb_state *s, enum ddb_table table, enum setting setting,
                                          const json_t *answer, bool *ret_on, struct backend_error *err)
{
	json_t *body, *found = NULL;
	enum shmeta_status status;

	*ret_on = json_is_true(json_object_get(json_object_get(answer, "Table"), "DeletionProtectionEnabled"));
	if (setting == PROTECTION)
		return SHMETA_OK;
	body = json_pack("{s:s}", "TableName", s->link.uri.table[table]);
	ddb_begin(s, DDB_FOR_WRITE);
	status = ask(s, setting == RECOVERY ? "DescribeContinuousBackups" : "DescribeTimeToLive", body,
	             "looking at a table", &found, err);
	if (setting == RECOVERY)
		*ret_on = is_on(json_string_value(
			json_object_get(json_object_get(json_object_get(found, "ContinuousBackupsDescription"),
		                                        "PointInTimeRecoveryDescription"),
		                        "PointInTimeRecoveryStatus")));
	else
		*ret_on = is_on(json_string_value(
			json_object_get(json_object_get(found, "TimeToLiveDescription"), "TimeToLiveStatus")));
	json_decref(found);
	return status;
}

/* Of a table that has just been made they cannot be asked for yet. */
static enum shmeta_status ask_for_recovery(struct ddb_state *s, enum ddb_table table, int dry_run,
                                           backend_schema_fn *say, void *arg, struct backend_error *err)
{
	uint64_t end_ns = ddb_now_ns() + MAKE_S * UINT64_C(1000000000);

	for (;; say = NULL) { /* said once */
		enum shmeta_status status;

		ddb_begin(s, DDB_FOR_WRITE);
		status = act(s, "UpdateContinuousBackups", backups_body(s, table), "asking for point-in-time recovery",
		             dry_run, say, arg, err);
		if (status != SHMETA_ERR_CONFIG || strstr(err->text, "ContinuousBackupsUnavailable") == NULL ||
		    ddb_now_ns() > end_ns)
			return status;
		(void)nanosleep(&(struct timespec){0, WAIT_MS * 1000000L}, NULL);
	}
}

static enum shmeta_status set(struct ddb_state *s, enum ddb_table table, enum setting setting, int dry_run,
                              backend_schema_fn *say, void *arg, struct backend_error *err)
{
	if (setting == RECOVERY)
		return ask_for_recovery(s, table, dry_run, say, arg, err);
	ddb_begin(s, DDB_FOR_WRITE);
	if (setting == TIME_TO_LIVE)
		return act(s, "UpdateTimeToLive", ttl_body(s, table), "having old entries end", dry_run, say, arg, err);
	return act(s, "UpdateTable",
	           json_pack("{s:s, s:b}", "TableName", s->link.uri.table[table], "DeletionProtectionEnabled", 1),
	           "protecting a table", dry_run, say, arg, err);
}

/* What a run that was interrupted did not come to is the next one's. */
static enum shmeta_status apply_table(struct ddb_state *s, enum ddb_table table, int dry_run, backend_schema_fn *say,
                                      void *arg, struct backend_error *err)
{
	json_t *answer;
	enum shmeta_status status = describe(s, table, &answer, err);
	bool made = status == SHMETA_OK && answer == NULL;

	if (made)
		status = act(s, "CreateTable", create_body(s, table), "making a table", dry_run, say, arg, err);
	if (status == SHMETA_OK && !dry_run && strcmp(status_of(answer), "ACTIVE") != 0)
		status = wait_for(s, table, "ACTIVE", err);
	for (enum setting i = PROTECTION; status == SHMETA_OK && i < SETTINGS; i++) {
		bool on = made && i == PROTECTION;

		if (!has_setting(table, i))
			continue;
		if (!made)
			status = look_at_setting(s, table, i, answer, &on, err);
		if (status == SHMETA_OK && !on)
			status = set(s, table, i, dry_run, say, arg, err);
	}
	json_decref(answer);
	return status;
}

/* *ready: it can be used. */
static enum shmeta_status tell_table(struct ddb_state *s, enum ddb_table table, bool *ready, backend_schema_fn *say,
                                     void *arg, struct backend_error *err)
{
	const char *name = s->link.uri.table[table];
	json_t *answer;
	enum shmeta_status status = describe(s, table, &answer, err);

	if (status == SHMETA_OK)
		status = say(arg, name, status_of(answer));
	*ready &= strcmp(status_of(answer), "ACTIVE") == 0;
	for (enum setting i = PROTECTION; status == SHMETA_OK && answer != NULL && i < SETTINGS; i++) {
		struct backend_error own = {.code = SHMETA_OK};
		char about[sizeof s->link.uri.table[0] + 40];
		bool on;

		if (!has_setting(table, i))
			continue;
		(void)snprintf(about, sizeof about, "%s: %s", name, setting_names[i]);
		if (look_at_setting(s, table, i, answer, &on, &own) != SHMETA_OK)
			status = say(arg, about, own.text);
		else
			status = say(arg, about, on ? "on" : "off");
	}
	json_decref(answer);
	return status;
}

static enum shmeta_status remove_table(struct ddb_state *s, enum ddb_table table, int dry_run, backend_schema_fn *say,
                                       void *arg, struct backend_error *err)
{
	json_t *answer;
	enum shmeta_status status = describe(s, table, &answer, err);
	bool there = answer != NULL;

	json_decref(answer);
	if (status != SHMETA_OK || !there)
		return status;
	status = act(s, "UpdateTable",
	             json_pack("{s:s, s:b}", "TableName", s->link.uri.table[table], "DeletionProtectionEnabled", 0),
	             "taking the protection of a table away", dry_run, say, arg, err);
	if (status == SHMETA_OK)
		status = act(s, "DeleteTable", json_pack("{s:s}", "TableName", s->link.uri.table[table]),
		             "taking a table away", dry_run, say, arg, err);
	if (status == SHMETA_OK && !dry_run)
		status = wait_for(s, table, "missing", err);
	return status;
}

enum shmeta_status ddb_schema(struct ddb_state *s, enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                              void *arg, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	bool ready = true;

	for (enum ddb_table table = DDB_META; status == SHMETA_OK && table < DDB_TABLES; table++) {
		ddb_begin(s, DDB_FOR_WRITE);
		if (verb == BACKEND_SCHEMA_APPLY) {
			status = apply_table(s, table, dry_run, say, arg, err);
		} else if (verb == BACKEND_SCHEMA_REMOVE) {
			status = remove_table(s, table, dry_run, say, arg, err);
		} else {
			status = tell_table(s, table, &ready, say, arg, err);
		}
	}
	if (status == SHMETA_OK && verb == BACKEND_SCHEMA_STATUS)
		status = say(arg, "change feed", ready ? "complete" : "none: a table is not there, or not active");
	return status;
}
