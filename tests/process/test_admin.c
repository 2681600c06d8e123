/* SPDX-License-Identifier: Apache-2.0
 * What operators and cleaners ask of a running writer: lists of objects and invalidation, through
 * the library and through shmetactl, who may, and what happens when the writer goes away in the
 * middle. */
#include <criterion/criterion.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(admin, .timeout = 120);

enum { WAIT_MS = 20000, OBJECTS = 1500, NOBODY = 65534 };

static struct run_daemon d;
static struct shmeta *instance;

/* Objects beyond what a page holds; the first 1000 have a slice each. */
#define ROWS                                                                                                           \
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1499) "                              \
	"INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) SELECT '" SHMETA_DEFAULT_TENANT \
	"', 'bucket', printf('objects/%0200d', i), 100 + i, 7 FROM n;"                                                 \
	"INSERT INTO shmeta_slices SELECT tenant, 'orders', 0, object_id, object_id, 0 FROM shmeta_objects "           \
	"ORDER BY s3_key LIMIT 1000;"

static void config(const char *text)
{
	FILE *f = fopen(d.config, "we");

	cr_assert_not_null(f);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void start(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	/* A grace of 2 ms. */
	config("ttl { topic_ms = 1\n partition_ms = 1\n segment_ms = 1\n list_ms = 1\n agent_ms = 1\n lease_ms = 1\n "
	       "offset_ms = 1 }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "SELECT 'orders.' || value, 1, 1, 1, '{}' FROM json_each('[0,1,2,3,4]');"
	                                "INSERT INTO partitions SELECT name, 0, 0, 1, 1 FROM topics;" ROWS),
	             0);
	instance = run_daemon_open(&d, "admin", 0);
	cr_assert_not_null(instance);
}

static void stop(void)
{
	shmeta_close(instance);
	run_daemon_done(&d);
}

#define CTL(t, fmt, ...) run_tool((t), "shmetactl --dir %s " fmt, d.instance, ##__VA_ARGS__)

static void expect(const char *args, int code, const char *part)
{
	struct run_tool t;

	CTL(&t, "%s </dev/null", args);
	cr_expect_eq(t.code, code, "shmetactl %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	cr_expect(strstr(t.out, part) != NULL || strstr(t.err, part) != NULL, "shmetactl %s: no '%s' in\n%s%s", args,
	          part, t.out, t.err);
	run_tool_done(&t);
}

/* The number of the object that a key spells. */
static int number_of(struct shmeta_str key)
{
	char text[256];

	(void)snprintf(text, sizeof text, "%.*s", (int)key.bytes, key.data);
	return atoi(strrchr(text, '/') + 1);
}

/* All of a list: how many, in order, each once. */
static int count(uint32_t flags, int first)
{
	struct shmeta_objects *list = NULL;
	struct shmeta_object_info info;
	enum shmeta_status status;
	int seen = 0;
	char why[400] = "";

	status = shmeta_list_objects(instance, flags, WAIT_MS, &list);
	cr_assert_eq(status, SHMETA_OK, "%s", shmeta_last_error(instance, why, sizeof why));
	while ((status = shmeta_next_object(list, &info)) == SHMETA_OK) {
		cr_assert_eq(number_of(info.object.s3_key), first + seen);
		cr_assert_eq(info.object.size_bytes, (uint64_t)(100 + first + seen));
		cr_assert_eq(info.slices, first + seen < 1000 ? 1u : 0u);
		cr_assert(info.object.created_at_ms == 7 && (info.slices == 0) == (info.unreferenced_since_ms != 0));
		seen++;
	}
	cr_assert_eq(status, SHMETA_END, "%s", shmeta_last_error(instance, why, sizeof why));
	cr_assert_eq(shmeta_next_object(list, &info), SHMETA_END, "again");
	shmeta_objects_free(list);
	return seen;
}

Test(admin, a_list_of_objects_has_each_once_in_order_however_many_pages, .init = start, .fini = stop)
{
	cr_assert_eq(count(0, 0), OBJECTS);
	/* the grace passes */
	cr_assert_eq(shmeta_wait_commit(instance, UINT64_MAX - 1, 10, NULL), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(count(SHMETA_OBJECTS_DELETABLE, 1000), 500);
}

Test(admin, a_cleaner_deletes_what_is_deletable_and_confirms_it_as_often_as_it_likes, .init = start, .fini = stop)
{
	struct shmeta_objects *list;
	struct shmeta_object_info info;
	struct shmeta_client *client;
	int confirmed = 0;

	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	(void)count(0, 0); /* their grace begins */
	cr_assert_eq(shmeta_wait_commit(instance, UINT64_MAX - 1, 10, NULL), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(shmeta_list_objects(instance, SHMETA_OBJECTS_DELETABLE, WAIT_MS, &list), SHMETA_OK);
	while (shmeta_next_object(list, &info) == SHMETA_OK) {
		struct shmeta_op op[2] = {{.type = SHMETA_OP_CONFIRM_OBJECT_DELETED, .u.object = info.object},
		                          {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED, .u.object = info.object}};
		struct shmeta_result result[2];

		cr_assert_eq(shmeta_write(client, op, 2, WAIT_MS, result, NULL), SHMETA_OK);
		cr_assert(result[0].status == SHMETA_OK && result[1].status == SHMETA_OK, "%s", result[0].text);
		confirmed++;
	}
	shmeta_objects_free(list);
	shmeta_client_close(client);
	cr_assert_eq(confirmed, 500, "while it was walked");
	cr_assert_eq(count(0, 0), 1000);
	cr_assert_eq(count(SHMETA_OBJECTS_DELETABLE, 0), 0);
}

Test(admin, a_list_goes_on_where_it_was_after_the_writer_was_away, .init = start, .fini = stop)
{
	struct shmeta_objects *list;
	struct shmeta_object_info info;
	enum shmeta_status status;
	int seen = 0;

	cr_assert_eq(shmeta_list_objects(instance, 0, 2000, &list), SHMETA_OK);
	(void)run_daemon_end(&d, SIGKILL);
	while ((status = shmeta_next_object(list, &info)) == SHMETA_OK)
		cr_assert_eq(number_of(info.object.s3_key), seen++);
	cr_assert_eq(status, SHMETA_ERR_WRITER_AWAY);
	cr_assert(seen > 100 && seen < OBJECTS, "%d: the first page", seen);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	while ((status = shmeta_next_object(list, &info)) == SHMETA_OK)
		cr_assert_eq(number_of(info.object.s3_key), seen++);
	cr_assert_eq(status, SHMETA_END);
	cr_assert_eq(seen, OBJECTS);
	shmeta_objects_free(list);
}

Test(admin, shmetactl_lists_objects_and_what_may_be_deleted, .init = start, .fini = stop)
{
	struct run_tool t;
	json_t *doc, *row;

	CTL(&t, "--json objects --limit 3");
	cr_assert_eq(t.code, 0, "%s", t.err);
	doc = run_tool_json(&t);
	cr_expect_eq(json_integer_value(json_object_get(doc, "count")), 3);
	cr_expect(json_is_false(json_object_get(doc, "complete")));
	row = json_array_get(json_object_get(doc, "items"), 2);
	cr_expect_str_eq(json_string_value(json_object_get(row, "bucket")), "bucket");
	cr_expect_eq(json_integer_value(json_object_get(row, "size_bytes")), 102);
	cr_expect_eq(json_integer_value(json_object_get(row, "slices")), 1);
	cr_expect(json_is_null(json_object_get(row, "unreferenced_since_ms")));
	json_decref(doc);
	run_tool_done(&t);

	CTL(&t, "--json objects --deletable");
	cr_assert_eq(t.code, 0, "%s", t.err);
	doc = run_tool_json(&t);
	cr_expect_eq(json_integer_value(json_object_get(doc, "count")), 500, "marked by the list before: %s", t.out);
	cr_expect(json_is_true(json_object_get(doc, "complete")));
	json_decref(doc);
	run_tool_done(&t);
}

/* ---- invalidation ---- */

/* Something that no feed tells, as when somebody drops the triggers for a while. */
static void change_in_silence(const char *topic)
{
	char sql[400];

	(void)snprintf(
		sql, sizeof sql,
		"BEGIN IMMEDIATE; CREATE TEMP TABLE keep AS SELECT max(seq) AS seq FROM shmeta_changes; "
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) VALUES('silent', '%s', 0, 0, 9, 10, 1, 'b', 'k', 1); "
		"DELETE FROM shmeta_changes WHERE seq > (SELECT seq FROM keep); COMMIT;",
		topic);
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
}

static enum shmeta_status found(const char *topic)
{
	struct shmeta_reader *reader = run_daemon_reader(instance);
	struct shmeta_segment segment;
	enum shmeta_status status;

	cr_assert_not_null(reader);
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	status = shmeta_find_segment_named(reader, topic, strlen(topic), 0, 5, NULL, &segment, NULL);
	shmeta_reader_free(reader);
	return status;
}

Test(admin, what_no_feed_told_is_found_when_it_is_invalidated, .init = start, .fini = stop)
{
	struct shmeta_invalidated done;
	char *log;

	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, WAIT_MS, NULL), SHMETA_OK);
	change_in_silence("orders.3");
	cr_assert_eq(shmeta_invalidate(instance, SHMETA_CLASS_TOPIC, "orders.", 7, 0,
	                               SHMETA_INVALIDATE_PREFIX | SHMETA_INVALIDATE_DRY_RUN, WAIT_MS, &done),
	             SHMETA_OK);
	cr_expect(done.topics == 5 && done.partitions == 5 && done.records == 0);
	cr_expect_neq(found("orders.3"), SHMETA_OK, "nobody has told");
	cr_assert_eq(shmeta_invalidate(instance, SHMETA_CLASS_TOPIC, "orders.", 7, 0, SHMETA_INVALIDATE_PREFIX, WAIT_MS,
	                               &done),
	             SHMETA_OK);
	cr_expect(done.topics == 5 && done.txn > 0);
	cr_expect_eq(found("orders.3"), SHMETA_OK);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	log = run_read_file(d.log);
	cr_expect_not_null(strstr(log, "invalidate topics beginning with 'orders.', tenant '"), "%s", log);
	free(log);
}

Test(admin, shmetactl_invalidates_and_asks_before_much, .init = start, .fini = stop)
{
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, WAIT_MS, NULL), SHMETA_OK);
	change_in_silence("orders.1");
	expect("invalidate --prefix orders. --dry-run", 0, "would read again: 5 topics, 5 partitions, 0 ");
	expect("invalidate --all --dry-run", 0, "would read again: 5 topics, 5 partitions, 0 ");
	expect("invalidate --prefix orders.", 2, "say --yes");
	expect("invalidate --all", 2, "say --yes");
	cr_expect_neq(found("orders.1"), SHMETA_OK, "nothing was done");
	expect("invalidate topic orders.2", 0, "read again: 1 topics, 1 partitions");
	cr_expect_neq(found("orders.1"), SHMETA_OK, "another topic");
	expect("invalidate --all --yes", 0, "read again: 5 topics, 5 partitions");
	cr_expect_eq(found("orders.1"), SHMETA_OK);
	expect("invalidate partition orders.2 0", 0, "0 topics, 1 partitions");
	expect("invalidate agent", 0, "0 topics, 0 partitions");
	expect("invalidate topic nothing", 5, "topic not found: 'nothing'");
	expect("invalidate", 2, "takes one of");
	expect("invalidate topic orders.2 --all", 2, "takes one of");
	expect("invalidate list", 2, "or --all");
	expect("invalidate partition orders.2", 2, "takes TOPIC PARTITION");
	expect("invalidate partition orders.2 x", 2, "not a partition id");
	expect("verify", 0, "");
}

Test(admin, who_may_not_is_told_so, .init = start, .fini = stop)
{
	static const char *const configs[] = {"", "control { write_users = \"65534\" }\n",
	                                      "control { admin_group = \"65534\" }\n"};
	static const enum shmeta_status objects[] = {SHMETA_ERR_DENIED, SHMETA_OK, SHMETA_OK},
					invalidated[] = {SHMETA_ERR_DENIED, SHMETA_ERR_DENIED, SHMETA_OK};

	if (geteuid() != 0) {
		stop(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
		pid_t child;
		char error[300] = "";

		config(configs[i]);
		cr_assert_eq(shmeta_reload(instance, WAIT_MS, error, sizeof error), SHMETA_OK, "%s", error);
		child = run_fork();
		if (child == 0) {
			struct shmeta_objects *list = NULL;
			struct shmeta *mine;
			int code = 0;

			/* It may connect: rights alone decide. */
			if (run_daemon_become(&d, NOBODY, i == 2 ? NOBODY : 0) != 0)
				_exit(101);
			mine = run_daemon_open(&d, "nobody", 0);
			if (mine == NULL)
				_exit(102);
			code |= shmeta_list_objects(mine, 0, WAIT_MS, &list) != objects[i];
			code |= (shmeta_leader_epoch_end(mine, "orders.0", 8, 0, 0, WAIT_MS, NULL, NULL) != objects[i])
			        << 2;
			code |= (shmeta_invalidate(mine, SHMETA_CLASS_TOPIC, "orders.0", 8, 0, 0, WAIT_MS, NULL) !=
			         invalidated[i])
			        << 1;
			_exit(code);
		}
		cr_expect_eq(run_reap(child), 0, "round %zu: bit 0: objects, bit 1: invalidate, bit 2: epochs", i);
	}
}
