/* SPDX-License-Identifier: Apache-2.0
 * shmetactl against a real shmetad on a small database: every verb, with the daemon alive, killed
 * and stopped; what `verify` finds and what it does not. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(shmetactl_process, .timeout = 60);

/* 12 topics of 3 partitions; partition p of each has 40 * p segments of 100 offsets from 1000 on,
 * with a gap after each tenth. */
#define ROWS                                                                                                                   \
	"INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config) "                             \
	"SELECT printf('topic-%02d', value), 3, NULL, 1700000000000, 1700000000000, '{\"a\":\"1\",\"z\":\"marker-config\"}' "  \
	"FROM (WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 11) SELECT value FROM n);" \
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "                                 \
	"SELECT name, p, CASE p WHEN 0 THEN 0 ELSE 1000 + 40 * p * 110 END, 1700000000000, 1700000000000 FROM topics, "        \
	"(SELECT 0 AS p UNION SELECT 1 UNION SELECT 2);"                                                                       \
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, " \
	"created_at) SELECT topic || '-' || partition_id || '-' || (1000 + i * 110), topic, partition_id, 1000 + i * 110, "    \
	"1000 + i * 110 + CASE WHEN i % 10 = 9 THEN 99 ELSE 109 END, 100, 65536, 'bucket', "                                   \
	"'data/' || topic || '/' || partition_id || '/' || printf('%020d', 1000 + i * 110) || '.seg', 1700000000000 + i "      \
	"FROM partitions, (WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 79) SELECT i FROM n) "     \
	"WHERE i < 40 * partition_id;"                                                                                         \
	"INSERT INTO agents VALUES('agent-1', '10.0.0.1:1', 'az-1', 'group-a', 1700000000000, 1700000000000, "                 \
	"'{\"k\":\"v\"}');"                                                                                                    \
	"INSERT INTO consumer_groups VALUES('readers', 1700000000000, 1700000000000);"                                         \
	"INSERT INTO consumer_offsets VALUES('readers', 'topic-03', 1, 1234, 'm', 1700000000000);"                             \
	"INSERT INTO partition_leases VALUES('topic-03', 1, 'agent-1', 9000000000000, 1700000000000, 7);"

enum { TOPICS = 12, PARTITIONS = 36, SEGMENTS = 12 * 120 };

static struct run_daemon d;

static void start_with(const char *extra)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = wal;" STREAMHOUSE_V01 ROWS), 0);
	if (extra != NULL)
		cr_assert_eq(run_daemon_sql(&d, extra), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void start(void)
{
	start_with(NULL);
}

static void stop(void)
{
	run_daemon_done(&d);
}

/* shmetactl --dir INSTANCE args */
#define CTL(t, fmt, ...) run_tool((t), "shmetactl --dir %s " fmt, d.instance, ##__VA_ARGS__)

static void expect_code(const char *args, int code)
{
	struct run_tool t;

	CTL(&t, "%s", args);
	cr_assert_eq(t.code, code, "shmetactl %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	run_tool_done(&t);
}

static json_t *ask(const char *args, int code)
{
	struct run_tool t;
	json_t *doc;

	CTL(&t, "--json %s", args);
	cr_assert_eq(t.code, code, "shmetactl %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	doc = run_tool_json(&t);
	run_tool_done(&t);
	return doc;
}

static json_int_t number(const json_t *doc, const char *name)
{
	const json_t *value = json_object_get(doc, name);

	cr_assert(json_is_integer(value), "no number '%s'", name);
	return json_integer_value(value);
}

static const char *text(const json_t *doc, const char *name)
{
	const char *value = json_string_value(json_object_get(doc, name));

	cr_assert(value != NULL, "no text '%s'", name);
	return value;
}

/* ---- what the verbs say ---- */

Test(shmetactl_process, lists_and_lookups_say_what_the_source_holds, .init = start, .fini = stop)
{
	json_t *doc = ask("ls topics", 0), *row;

	cr_assert_eq(number(doc, "count"), TOPICS);
	cr_assert(json_is_true(json_object_get(doc, "complete")) && json_is_null(json_object_get(doc, "next_after")));
	row = json_array_get(json_object_get(doc, "items"), 3);
	cr_assert_str_eq(text(row, "name"), "topic-03");
	cr_assert_str_eq(text(json_object_get(row, "config"), "z"), "marker-config");
	cr_assert(json_is_null(json_object_get(row, "retention_ms")));
	json_decref(doc);

	doc = ask("ls partitions topic-03", 0);
	cr_assert_eq(number(doc, "count"), 3);
	row = json_array_get(json_object_get(doc, "items"), 2);
	cr_assert(number(row, "partition_id") == 2 && number(row, "high_watermark") == 1000 + 80 * 110);
	cr_assert(number(row, "segment_count") == 80 && number(row, "log_start_offset") == 1000);
	json_decref(doc);

	doc = ask("ls segments topic-03 1", 0);
	cr_assert_eq(number(doc, "count"), 40);
	row = json_array_get(json_object_get(doc, "items"), 1);
	cr_assert(number(row, "base_offset") == 1110 && number(row, "end_offset") == 1219);
	cr_assert_str_eq(text(row, "s3_key"), "data/topic-03/1/00000000000000001110.seg");
	cr_assert(json_is_null(json_object_get(row, "min_timestamp_ms")));
	json_decref(doc);

	doc = ask("get topic topic-03", 0);
	cr_assert_str_eq(text(doc, "outcome"), "found");
	cr_assert(number(doc, "segment_count") == 120 && number(doc, "partition_count") == 3);
	cr_assert(json_is_true(json_object_get(doc, "fresh")) && json_is_number(json_object_get(doc, "age_ms")));
	json_decref(doc);

	doc = ask("get partition topic-03 1", 0);
	cr_assert(number(doc, "high_watermark") == 1000 + 40 * 110);
	json_decref(doc);
}

Test(shmetactl_process, find_tells_the_segment_or_which_kind_of_absence, .init = start, .fini = stop)
{
	static const struct {
		const char *args, *outcome;
		int code;
	} cases[] = {
		{"find topic-03 1 1000", "found", 0},
		{"find topic-03 1 1109", "found", 0},
		{"find topic-03 1 999", "absent_before_start", 5},
		{"find topic-03 1 2095", "absent_gap", 5},
		{"find topic-03 1 5400", "absent_at_end", 5},
		{"find topic-03 1 18446744073709551615", "absent_at_end", 5},
		{"find topic-03 0 0", "absent_at_end", 5},
		{"find topic-03 3 0", "absent", 5},
		{"find nothing 0 0", "absent", 5},
		{"get topic nothing", "absent", 5},
		{"get partition topic-03 3", "absent", 5},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *doc = ask(cases[i].args, cases[i].code);

		cr_assert_str_eq(text(doc, "outcome"), cases[i].outcome, "%s: %s", cases[i].args, text(doc, "outcome"));
		cr_assert(json_is_number(json_object_get(doc, "age_ms")), "%s: no age", cases[i].args);
		json_decref(doc);
	}
	expect_code("ls partitions nothing", 5);
	expect_code("ls segments topic-03 7", 5);
}

/* All pages together are the whole list, whatever the page's size. */
static void expect_pages(const char *verb, const char *key, json_int_t total)
{
	for (int limit = 1; limit <= 64; limit *= 4) {
		char args[256], after[64] = "";
		json_int_t seen = 0;

		for (;;) {
			json_t *doc, *next, *items, *last;

			(void)snprintf(args, sizeof(args), "%s --limit %d %s%s", verb, limit,
			               after[0] != '\0' ? "--after " : "", after);
			doc = ask(args, 0);
			items = json_object_get(doc, "items");
			next = json_object_get(doc, "next_after");
			seen += number(doc, "count");
			cr_assert_eq((json_int_t)json_array_size(items), number(doc, "count"));
			cr_assert_eq(json_is_null(next), json_is_true(json_object_get(doc, "complete")));
			if (json_is_null(next)) {
				json_decref(doc);
				break;
			}
			cr_assert_eq(number(doc, "count"), limit);
			last = json_object_get(json_array_get(items, (size_t)limit - 1), key);
			(void)snprintf(after, sizeof(after), "%s", json_string_value(next));
			if (json_is_string(last))
				cr_assert_str_eq(after, json_string_value(last));
			else
				cr_assert_eq(strtoll(after, NULL, 10), json_integer_value(last));
			json_decref(doc);
		}
		cr_assert_eq(seen, total, "%s --limit %d: %d rows", verb, limit, (int)seen);
	}
}

Test(shmetactl_process, the_pages_of_a_list_are_the_list, .init = start, .fini = stop)
{
	json_t *doc;

	expect_pages("ls topics", "name", TOPICS);
	expect_pages("ls partitions topic-05", "partition_id", 3);
	expect_pages("ls segments topic-05 2", "base_offset", 80);
	doc = ask("ls topics --prefix topic-0", 0);
	cr_assert_eq(number(doc, "count"), 10);
	json_decref(doc);
	doc = ask("ls topics --glob '*-*1'", 0);
	cr_assert_eq(number(doc, "count"), 2);
	json_decref(doc);
	doc = ask("ls topics --prefix topic-0 --after topic-08", 0);
	cr_assert_eq(number(doc, "count"), 1);
	json_decref(doc);
	doc = ask("ls topics --prefix topic-1 --after topic-08", 0); /* before the prefix */
	cr_assert_eq(number(doc, "count"), 2);
	json_decref(doc);
	doc = ask("ls topics --after topic-085", 0); /* which is none */
	cr_assert_eq(number(doc, "count"), 3);
	json_decref(doc);
	doc = ask("ls topics --after z", 0);
	cr_assert_eq(number(doc, "count"), 0);
	json_decref(doc);
}

/* dump: every line is JSON, and the last one counts what was there. */
static json_t *dumped(const char *args)
{
	json_int_t topics = 0, partitions = 0, segments = 0, lines = 0;
	json_t *end = NULL;
	struct run_tool t;

	CTL(&t, "dump %s", args);
	cr_assert_eq(t.code, 0, "%s", t.err);
	for (char *line = t.out, *next; *line != '\0'; line = next + 1) {
		json_t *row;
		json_error_t error;

		next = strchr(line, '\n');
		cr_assert(next != NULL, "the last line has no end");
		row = json_loadb(line, (size_t)(next - line), JSON_REJECT_DUPLICATES, &error);
		cr_assert(row != NULL, "%s: %s", error.text, line);
		if (lines++ == 0)
			cr_assert_str_eq(text(row, "schema"), "shmeta.dump");
		topics += strcmp(text(row, "kind"), "topic") == 0;
		partitions += strcmp(text(row, "kind"), "partition") == 0;
		segments += strcmp(text(row, "kind"), "segment") == 0;
		json_decref(end);
		end = row;
	}
	cr_assert_str_eq(text(end, "kind"), "end");
	cr_assert(number(end, "topics") == topics && number(end, "partitions") == partitions &&
	          number(end, "segments") == segments);
	run_tool_done(&t);
	return end;
}

Test(shmetactl_process, a_dump_has_every_record_and_counts_them, .init = start, .fini = stop)
{
	json_t *end = dumped("");

	cr_assert(number(end, "topics") == TOPICS && number(end, "partitions") == PARTITIONS);
	cr_assert_eq(number(end, "segments"), SEGMENTS);
	cr_assert(number(end, "agents") == 1 && number(end, "groups") == 1 && number(end, "committed_offsets") == 1 &&
	          number(end, "leases") == 1);
	json_decref(end);
	end = dumped("--prefix topic-1");
	cr_assert(number(end, "topics") == 2 && number(end, "segments") == 240 && number(end, "agents") == 0);
	json_decref(end);
}

/* Stop the program so long after it has begun to write the file; it may have ended before. */
static void stop_in_the_middle(pid_t pid, const char *file, useconds_t later_us)
{
	struct stat written = {.st_size = 0};
	siginfo_t info = {.si_pid = 0};

	while (info.si_pid == 0 && (stat(file, &written) != 0 || written.st_size == 0)) {
		(void)usleep(200);
		cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG), 0);
	}
	(void)usleep(later_us);
	(void)kill(pid, SIGSTOP);
	cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT), 0);
}

/* How often a snapshot of a dump that is stopped for longer than the grace, while the writer
 * commits, was read again. A dump that does not register is stopped again and again until that has
 * happened, for two minutes at most. */
static json_int_t repeated_of_a_stopped_dump(bool registers)
{
	char out[128], socket[128], away[128], *text_of_dump, *end_line = NULL;
	json_int_t repeated = 0;
	double end = run_now_s() + 120;

	start_with("INSERT INTO topics VALUES('large', 1, NULL, 1, 1, '{}');"
	           "INSERT INTO partitions VALUES('large', 0, 60000, 1, 1);"
	           "INSERT INTO segments SELECT 'large-' || i, 'large', 0, i, i, 1, 1, 'b', 'k' || i, 1 FROM "
	           "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 59999) SELECT i FROM n)");
	(void)snprintf(out, sizeof(out), "%s/dump", d.dir);
	(void)snprintf(socket, sizeof(socket), "%s/control.sock", d.instance);
	(void)snprintf(away, sizeof(away), "%s/away", d.instance);
	if (!registers)
		cr_assert_eq(rename(socket, away), 0);
	for (int round = 0; repeated == 0 && (registers ? round < 3 : run_now_s() < end); round++) {
		char *next = NULL, *save = NULL;
		json_int_t last = -1, rows = 0;

		(void)unlink(out);
		pid_t pid = run_fork();

		if (pid == 0) {
			int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

			(void)dup2(fd, STDOUT_FILENO);
			(void)execl(places_shmetactl, "shmetactl", "--dir", d.instance, "dump", (char *)NULL);
			_exit(127);
		}
		stop_in_the_middle(pid, out, 7000 * (useconds_t)(round % 20));
		cr_assert_eq(run_daemon_sql(&d, "UPDATE topics SET updated_at = updated_at + 1"), 0);
		(void)usleep(700000);
		(void)kill(pid, SIGCONT);
		cr_assert_eq(run_reap(pid), 0);
		text_of_dump = run_read_file(out);
		cr_assert_not_null(text_of_dump);
		for (char *line = strtok_r(text_of_dump, "\n", &save); line != NULL;
		     line = strtok_r(NULL, "\n", &save)) {
			end_line = line;
			next = strstr(line, "\"topic\":\"large\"");
			if (next == NULL || strstr(line, "\"kind\":\"segment\"") == NULL)
				continue;
			next = strstr(line, "\"base_offset\":");
			cr_assert(next != NULL && strtoll(next + 14, NULL, 10) == last + 1, "%s", line);
			last++;
			rows++;
		}
		cr_assert_eq(rows, 60000);
		next = strstr(end_line, "\"snapshots_repeated\":");
		cr_assert(next != NULL && strstr(end_line, "\"kind\":\"end\"") != NULL, "%s", end_line);
		repeated = strtoll(next + 21, NULL, 10);
		free(text_of_dump);
	}
	stop();
	return repeated;
}

Test(shmetactl_process, a_dump_that_may_not_register_reads_again_what_outlived_the_grace)
{
	cr_assert_gt(repeated_of_a_stopped_dump(false), 0,
	             "no snapshot was stopped for too long: the test shows nothing");
}

Test(shmetactl_process, a_dump_registers_and_loses_no_snapshot_however_long_it_takes)
{
	cr_assert_eq(repeated_of_a_stopped_dump(true), 0);
}

Test(shmetactl_process, readers_shows_who_is_registered, .init = start, .fini = stop)
{
	struct shmeta *instance = run_daemon_open(&d, "the-agent", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	double end = run_now_s() + 10;
	int seen = 0;

	cr_assert(reader != NULL);
	while (!seen && run_now_s() < end) { /* the list is written once a second */
		json_t *doc = ask("readers", 0);
		const json_t *row = json_array_get(json_object_get(doc, "items"), 0);

		seen = row != NULL && strcmp(text(row, "agent"), "the-agent") == 0 && number(row, "pid") == getpid();
		json_decref(doc);
		(void)usleep(50000);
	}
	cr_assert(seen);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

Test(shmetactl_process, a_lookup_never_registers, .init = start, .fini = stop)
{
	json_t *doc;

	expect_code("status", 0);
	expect_code("get topic topic-03", 0);
	expect_code("find topic-03 1 1000", 0);
	(void)sleep(2); /* two writes of the list */
	doc = ask("readers", 0);
	cr_assert_eq(number(doc, "count"), 0);
	json_decref(doc);
}

Test(shmetactl_process, refresh_and_reload_ask_the_daemon, .init = start, .fini = stop)
{
	FILE *f;
	json_t *doc;
	struct run_tool t;

	expect_code("refresh topic topic-03", 0);
	expect_code("refresh partition topic-03 1", 0);
	expect_code("refresh segment topic-03 1", 0);
	expect_code("refresh list", 0);
	expect_code("refresh agent", 0);
	expect_code("refresh lease", 0);
	expect_code("refresh offset", 0);
	doc = ask("refresh topic topic-03", 0);
	cr_assert(number(doc, "txn") > 0);
	json_decref(doc);
	expect_code("reload --wait", 0);
	f = fopen(d.config, "we");
	cr_assert(f != NULL && fputs("nonsense = 1\n", f) >= 0 && fclose(f) == 0);
	CTL(&t, "reload --wait");
	cr_assert(t.code == 2 && strstr(t.err, "nonsense") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl config check %s", d.config);
	cr_assert(t.code == 2 && strstr(t.err, "nonsense") != NULL, "%d %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
}

/* ---- without the daemon ---- */

static const char *const looking[] = {
	"ls topics",
	"ls partitions topic-03",
	"ls segments topic-03 2",
	"get topic topic-03",
	"get partition topic-03 1",
	"find topic-03 1 1000",
	"readers",
	"store",
	"quarantine",
	"groups",
	"agents",
	"leases",
	"stat",
	"lag",
	"queue",
	"biggest",
	"hot",
	"explain segment topic-03 1 1000",
	"dump",
	"verify",
	"compare --count 3",
};

/* What is shown of a writer that is gone says so; of one that lives, nothing is added. */
static void expect_told(const char *args, const char *state)
{
	struct run_tool t;
	char words[64];

	CTL(&t, "%s", args);
	snprintf(words, sizeof(words), "the writer is %s, last heartbeat ", state);
	if (strcmp(state, "alive") == 0)
		cr_expect_str_eq(t.err, "", "%s", args);
	else
		cr_expect_not_null(strstr(t.err, words), "%s: %s", args, t.err);
	run_tool_done(&t);
	CTL(&t, "--json %s", args);
	snprintf(words, sizeof(words), "\"writer_state\":%s\"%s\"",
	         strcmp(args, "store") == 0 || strcmp(args, "verify") == 0 || strncmp(args, "get", 3) == 0 ||
	                         strncmp(args, "compare", 7) == 0 || strcmp(args, "stat") == 0 ||
	                         strcmp(args, "lag") == 0 || strcmp(args, "queue") == 0 ||
	                         strncmp(args, "explain", 7) == 0 || strncmp(args, "find", 4) == 0
	                 ? " "
	                 : "",
	         state);
	cr_expect_not_null(strstr(t.out, words), "%s: %s", args, t.out);
	run_tool_done(&t);
}

static void expect_all_look(int status_code)
{
	for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++)
		expect_told(looking[i], status_code == 0 ? "alive" : "dead");
	for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++) {
		expect_code(looking[i], 0);
		if (strcmp(looking[i], "dump") != 0) /* JSON lines */
			json_decref(ask(looking[i], 0));
	}
	json_decref(dumped(""));
	for (int i = 0; i < 2; i++) {
		json_t *doc = ask(i == 0 ? "status" : "health", i == 0 || status_code == 0 ? status_code : 2);

		cr_expect_str_eq(text(doc, "writer_state"), status_code == 0 ? "alive" : "dead");
		json_decref(doc);
	}
	expect_code("status", status_code);
}

Test(shmetactl_process, every_verb_that_looks_works_with_the_daemon_alive, .init = start, .fini = stop)
{
	expect_all_look(0);
}

Test(shmetactl_process, every_verb_that_looks_works_with_the_daemon_killed, .init = start, .fini = stop)
{
	struct run_tool t;
	double end = run_now_s() + 10;

	(void)run_daemon_end(&d, SIGKILL);
	do { /* it is believed dead after a missed second */
		CTL(&t, "status");
		cr_assert(t.code == 0 || t.code == 1);
		if (t.code == 1)
			break;
		run_tool_done(&t);
		(void)usleep(50000);
	} while (run_now_s() < end);
	cr_assert(t.code == 1 && strstr(t.out, "dead, pid ") != NULL, "%s", t.out);
	run_tool_done(&t);
	expect_all_look(1);
	CTL(&t, "verify");
	cr_assert(t.code == 0 &&
	                  strstr(t.out, "verified 12 topics, 36 partitions, 1 440 segments: 0 differences") != NULL,
	          "%s%s", t.out, t.err);
	run_tool_done(&t);
	expect_code("--timeout 1s refresh list", 3);
	expect_code("--timeout 1s reload", 3);
}

Test(shmetactl_process, every_verb_that_looks_works_with_the_daemon_stopped, .init = start, .fini = stop)
{
	struct run_tool t;

	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
	/* Whether it is already believed to be stalled depends on the moment: what status exits
	 * with is not judged here. */
	for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++)
		expect_code(looking[i], 0);
	json_decref(dumped(""));
	CTL(&t, "verify");
	cr_assert(t.code == 0 && strstr(t.out, ": 0 differences") != NULL, "%d %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	CTL(&t, "--timeout 500ms refresh list");
	cr_assert(t.code == 7 || t.code == 3, "%d %s", t.code, t.err);
	run_tool_done(&t);
	CTL(&t, "--timeout 500ms pause at night");
	cr_assert(t.code == 3 || (t.code == 7 && strstr(t.err, "it may still be done") != NULL), "%d %s", t.code,
	          t.err);
	run_tool_done(&t);
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
}

Test(shmetactl_process, a_daemon_that_ended_in_order_is_called_stopped, .init = start, .fini = stop)
{
	struct run_tool t;

	(void)run_daemon_end(&d, SIGTERM);
	CTL(&t, "status");
	cr_assert(t.code == 1 && strstr(t.out, "stopped for ") != NULL, "%s%s", t.out, t.err);
	run_tool_done(&t);
	expect_told("readers", "stopped");
	expect_code("ls topics", 0);
}

/* ---- verify ---- */

static void expect_verify(int code, const char *says)
{
	struct run_tool t;

	CTL(&t, "verify");
	cr_assert_eq(t.code, code, "%d: %s%s", t.code, t.out, t.err);
	cr_assert(strstr(t.out, says) != NULL, "no '%s' in %s", says, t.out);
	run_tool_done(&t);
}

Test(shmetactl_process, verify_counts_what_there_is_and_finds_no_difference, .init = start, .fini = stop)
{
	json_t *doc;

	expect_verify(0, "verified 12 topics, 36 partitions, 1 440 segments: 0 differences");
	doc = ask("verify", 0);
	cr_assert(number(doc, "differences") == 0 && number(doc, "agents") == 1 && number(doc, "leases") == 1 &&
	          number(doc, "committed_offsets") == 1 && number(doc, "groups") == 1);
	cr_assert(json_is_true(json_object_get(doc, "compared_with_source")));
	json_decref(doc);
}

/* As it stays where a group's row was deleted without the foreign keys of its offsets. */
Test(shmetactl_process, verify_takes_an_offset_of_a_group_without_a_row_for_no_difference, .init = start, .fini = stop)
{
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA foreign_keys = off; DELETE FROM consumer_groups"), 0);
	expect_verify(0, ": 0 differences");
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"PRAGMA foreign_keys = off; INSERT INTO consumer_groups VALUES('readers', 2, 2);"
			"INSERT INTO consumer_offsets SELECT 'alone', topic, partition_id, 1, NULL, 1 FROM partitions"),
		0);
	expect_verify(0, ": 0 differences");
}

Test(shmetactl_process, verify_waits_for_a_daemon_that_is_about_to_follow, .init = start, .fini = stop)
{
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(
			run_daemon_sql(
				&d,
				"UPDATE partitions SET high_watermark = high_watermark + 500;"
				"DELETE FROM segments WHERE base_offset = (SELECT min(base_offset) FROM segments);"),
			0);
		expect_verify(0, ": 0 differences");
	}
}

/* A child that changes rows of the source without a pause. */
static pid_t start_moving(void)
{
	pid_t pid = run_fork();

	if (pid != 0)
		return pid;
	for (int i = 0; i < 1000000; i++) {
		char sql[512];

		(void)snprintf(
			sql, sizeof(sql),
			"BEGIN IMMEDIATE; UPDATE partitions SET high_watermark = high_watermark + 10, updated_at = "
			"updated_at + 1 WHERE topic IN ('topic-05', 'topic-06');"
			"INSERT INTO segments VALUES('m-%d', 'topic-05', 1, %d, %d, 1, 1, 'b', 'k', 1);"
			"UPDATE agents SET last_heartbeat = last_heartbeat + 1; COMMIT",
			i, 100000 + 10 * i, 100009 + 10 * i);
		if (run_daemon_sql(&d, sql) != 0)
			_exit(1);
	}
	_exit(0);
}

Test(shmetactl_process, what_never_stops_moving_is_no_difference, .init = start, .fini = stop)
{
	pid_t pid = start_moving();

	for (int i = 0; i < 3; i++) {
		struct run_tool t;

		CTL(&t, "--timeout 2s verify");
		cr_assert(t.code == 0 && strstr(t.out, "0 differences") != NULL, "%d %s%s", t.code, t.out, t.err);
		run_tool_done(&t);
	}
	(void)kill(pid, SIGKILL);
	cr_assert_eq(run_reap(pid), 128 + SIGKILL, "the rows did not move to the end");
}

Test(shmetactl_process, a_store_that_does_not_follow_a_moving_source_differs, .init = start, .fini = stop)
{
	struct run_tool t;
	pid_t pid;

	/* its heart beat a moment ago: it is not yet believed to be stalled */
	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
	pid = start_moving();
	(void)usleep(100000);
	CTL(&t, "--timeout 1s verify");
	cr_assert(t.code == 1 && strstr(t.out, "topic topic-05, partition 0: high_watermark is ") != NULL, "%d %s%s",
	          t.code, t.out, t.err);
	run_tool_done(&t);
	(void)kill(pid, SIGKILL);
	cr_assert_eq(run_reap(pid), 128 + SIGKILL, "the rows did not move to the end");
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
}

Test(shmetactl_process, verify_names_every_kind_of_difference)
{
	static const struct {
		const char *sql, *says;
	} cases[] = {
		{"UPDATE partitions SET high_watermark = 77 WHERE topic = 'topic-04' AND partition_id = 0",
	         "topic topic-04, partition 0: high_watermark is 77 in the source, 0 in the store"},
		{"UPDATE partitions SET updated_at = 5 WHERE topic = 'topic-04' AND partition_id = 0",
	         "topic topic-04, partition 0: updated_at is 5 in the source, 1700000000000 in the store"},
		{"UPDATE topics SET retention_ms = 5 WHERE name = 'topic-04'",
	         "topic topic-04: has_retention is 1 in the source, 0 in the store"},
		{"UPDATE topics SET config = '{\"a\":\"2\",\"z\":\"marker-config\"}' WHERE name = 'topic-04'",
	         "topic topic-04: config differs"},
		{"UPDATE topics SET created_at = 5 WHERE name = 'topic-04'",
	         "topic topic-04: created_at is 5 in the source, 1700000000000 in the store"},
		{"INSERT INTO topics VALUES('topic-new', 1, NULL, 1, 1, '{}')",
	         "topic topic-new: the source has it, the store says: absent"},
		{"DELETE FROM topics WHERE name = 'topic-04'", "topic topic-04: the store has it, the source does not"},
		{"DELETE FROM partitions WHERE topic = 'topic-04' AND partition_id = 0",
	         "topic topic-04, partition 0: the store has it, the source does not"},
		{"INSERT INTO partitions VALUES('topic-04', 3, 0, 1, 1)",
	         "topic topic-04, partition 3: the source has it, the store says: absent"},
		{"UPDATE segments SET end_offset = end_offset - 1 WHERE topic = 'topic-04' AND partition_id = 1 AND base_offset = 1110",
	         "topic topic-04, partition 1, segment at 1110: end_offset is 1218 in the source, 1219 in the store"},
		{"UPDATE segments SET record_count = 5 WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: record_count is 5 in the source, 100 in the store"},
		{"UPDATE segments SET size_bytes = 5 WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: size_bytes is 5 in the source, 65536 in the store"},
		{"UPDATE segments SET created_at = 5 WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: created_at is 5 in the source, 1700000000001 in the store"},
		{"UPDATE segments SET s3_key = 'x' WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: s3_key is 'x' in the source, 'data/topic-04/1/00000000000000001110.seg' in the store"},
		{"UPDATE segments SET s3_bucket = 'x' WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: s3_bucket is 'x' in the source, 'bucket' in the store"},
		{"UPDATE segments SET id = 'x' WHERE id = 'topic-04-1-1110'",
	         "segment at 1110: id is 'x' in the source, 'topic-04-1-1110' in the store"},
		{"DELETE FROM segments WHERE id = 'topic-04-1-1000'",
	         "topic topic-04, partition 1, segment at 1000: the store has it, the source does not"},
		{"DELETE FROM segments WHERE topic = 'topic-04' AND partition_id = 1 AND base_offset = 1000 + 39 * 110",
	         "partition 1, segment at 5290: the store has it, the source does not"},
		{"INSERT INTO segments VALUES('n', 'topic-04', 1, 900, 950, 1, 1, 'b', 'k', 1)",
	         "segment at 900: the source has it, the store does not"},
		{"INSERT INTO segments VALUES('n', 'topic-04', 1, 9000000, 9000001, 1, 1, 'b', 'k', 1)",
	         "segment at 9000000: the source has it, the store does not"},
		{"UPDATE agents SET last_heartbeat = 5",
	         "agent agent-1: last_heartbeat is 5 in the source, 1700000000000 in the store"},
		{"INSERT INTO agents VALUES('agent-2', 'x', 'z', 'g', 1, 1, '{}')",
	         "agent agent-2: the source has it, the store says: absent"},
		{"DELETE FROM agents", "0 agents in the source, 1 in the store"},
		{"UPDATE consumer_offsets SET committed_offset = 5",
	         "committed offset of group readers, topic topic-03, partition 1: committed_offset is 5 in the source, 1234 in the store"},
		{"UPDATE partition_leases SET epoch = 8",
	         "lease of topic topic-03, partition 1: epoch is 8 in the source, 7 in the store"},
		{"DELETE FROM partition_leases", "0 leases in the source, 1 in the store"},
		{"DELETE FROM consumer_offsets", "0 committed offsets in the source, 1 in the store"},
		{"UPDATE consumer_groups SET updated_at = 5",
	         "group readers: updated_at is 5 in the source, 1700000000000 in the store"},
		{"DELETE FROM consumer_groups", "group readers: the store has it, the source does not"},
		{"UPDATE consumer_offsets SET metadata = 'n'", "metadata is 'n' in the source, 'm' in the store"},
		{"UPDATE agents SET metadata = '{}'", "agent agent-1: metadata differs"},
		{"INSERT INTO consumer_groups VALUES('more', 1, 1)",
	         "group more: the source has it, the store does not"},
	};

	start();
	(void)run_daemon_end(&d, SIGTERM);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char command[512], sql[512];
		struct run_tool t;

		(void)snprintf(command, sizeof(command), "cp %s %s.kept", d.db, d.db);
		cr_assert_eq(run_daemon_sql(&d, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
		cr_assert_eq(system(command), 0);
		(void)snprintf(sql, sizeof(sql), "PRAGMA foreign_keys = on; %s", cases[i].sql);
		cr_assert_eq(run_daemon_sql(&d, sql), 0, "%s", cases[i].sql);
		CTL(&t, "verify");
		cr_assert_eq(t.code, 1, "%s: %d %s%s", cases[i].sql, t.code, t.out, t.err);
		cr_assert(strstr(t.out, cases[i].says) != NULL, "%s: no '%s' in %s", cases[i].sql, cases[i].says,
		          t.out);
		run_tool_done(&t);
		cr_assert_eq(run_daemon_sql(&d, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
		(void)snprintf(command, sizeof(command), "mv %s.kept %s; rm -f %s-wal %s-shm", d.db, d.db, d.db, d.db);
		cr_assert_eq(system(command), 0);
	}
	expect_verify(0, ": 0 differences");
	stop();
}

Test(shmetactl_process, verify_counts_all_differences_and_shows_some, .init = start, .fini = stop)
{
	struct run_tool t;
	json_t *doc;
	int lines = 0;

	(void)run_daemon_end(&d, SIGTERM);
	cr_assert_eq(run_daemon_sql(&d, "UPDATE segments SET size_bytes = 1"), 0);
	CTL(&t, "verify");
	cr_assert(t.code == 1 && strstr(t.out, "... and 1 390 more\n") != NULL, "%s", t.out);
	cr_assert(strstr(t.out, "segments: 1 440 differences\n") != NULL, "%s", t.out);
	for (const char *p = t.out; *p != '\0'; p++)
		lines += *p == '\n';
	cr_assert_eq(lines, 52);
	run_tool_done(&t);
	doc = ask("verify", 1);
	cr_assert(number(doc, "differences") == 1440 && json_array_size(json_object_get(doc, "items")) == 50);
	json_decref(doc);
}

Test(shmetactl_process, rows_that_nobody_can_use_are_counted_as_quarantined_and_are_no_difference)
{
	struct run_tool t;

	start_with("INSERT INTO segments VALUES('orphan', 'no-such-topic', 0, 0, 1, 1, 1, 'b', 'k', 1)");
	CTL(&t, "verify");
	cr_assert(t.code == 0 && strstr(t.out, "1 rows of the source are quarantined") != NULL, "%d %s%s", t.code,
	          t.out, t.err);
	cr_assert(strstr(t.out, "quarantined: ") != NULL && strstr(t.out, "no-such-topic") != NULL, "%s", t.out);
	run_tool_done(&t);
	stop();
}

Test(shmetactl_process, all_tenants_are_verified_and_dumped)
{
	json_t *end;

	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"PRAGMA journal_mode = wal;" STREAMHOUSE_LATER
			"INSERT INTO organizations(id, name, slug) VALUES('11111111-1111-1111-1111-111111111111', 'b', 'b');"
			"INSERT INTO topics(organization_id, name, partition_count, created_at, updated_at) VALUES"
			"('11111111-1111-1111-1111-111111111111', 'same', 1, 1, 1),"
			"('00000000-0000-0000-0000-000000000000', 'same', 1, 2, 2);"
			"INSERT INTO partitions(organization_id, topic, partition_id, high_watermark, created_at, updated_at) VALUES"
			"('11111111-1111-1111-1111-111111111111', 'same', 0, 11, 1, 1),"
			"('00000000-0000-0000-0000-000000000000', 'same', 0, 22, 1, 1);"),
		0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	expect_verify(0, "verified 2 topics, 2 partitions, 0 segments: 0 differences");
	end = dumped("");
	cr_assert_eq(number(end, "topics"), 2);
	json_decref(end);
	end = dumped("--tenant 11111111-1111-1111-1111-111111111111");
	cr_assert_eq(number(end, "topics"), 1);
	json_decref(end);
	end = ask("get partition same 0 --tenant 11111111-1111-1111-1111-111111111111", 0);
	cr_assert_eq(number(end, "high_watermark"), 11);
	json_decref(end);
	end = ask("get partition same 0", 0);
	cr_assert_eq(number(end, "high_watermark"), 22);
	json_decref(end);
	expect_code("get topic same --tenant 22222222-2222-2222-2222-222222222222", 5);
	(void)run_daemon_end(&d, SIGTERM);
	cr_assert_eq(run_daemon_sql(&d, "DELETE FROM topics WHERE created_at = 1"), 0);
	expect_verify(1, "topic same: the store has it, the source does not");
	stop();
}

/* ---- copies of a store ---- */

static char *read_bytes(const char *path, size_t *ret_bytes)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	char *data;

	cr_assert(f != NULL && fstat(fileno(f), &st) == 0);
	data = malloc((size_t)st.st_size);
	*ret_bytes = fread(data, 1, (size_t)st.st_size, f);
	(void)fclose(f);
	return data;
}

static void write_bytes(const char *path, const char *data, size_t bytes)
{
	FILE *f = fopen(path, "we");

	cr_assert(f != NULL && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

/* A copy of the current generation in dir/copy; its data in memory. */
static char *copy_store(char *path, size_t path_bytes, size_t *ret_bytes)
{
	char command[512];

	(void)run_daemon_end(&d, SIGTERM);
	(void)snprintf(command, sizeof(command), "cp -r %s/store.[0-9]* %s/copy", d.instance, d.dir);
	cr_assert_eq(system(command), 0);
	(void)snprintf(path, path_bytes, "%s/copy/data.mdb", d.dir);
	return read_bytes(path, ret_bytes);
}

static int verify_copy(struct run_tool *t)
{
	run_tool(t, "shmetactl verify --store %s/copy", d.dir);
	return t->code;
}

Test(shmetactl_process, a_copied_store_is_sound_and_flipped_bytes_in_it_are_reported)
{
	static const char *const markers[] = {"marker-config", "marker-key", "topic-05", "agent-1", "az-1"};
	char path[128], *data;
	struct run_tool t;
	uint64_t random = 42;
	size_t bytes;

	start_with("UPDATE segments SET s3_key = 'marker-key/' || id WHERE topic = 'topic-05'");
	data = copy_store(path, sizeof(path), &bytes);
	cr_assert_eq(verify_copy(&t), 0, "%s%s", t.out, t.err);
	cr_assert(strstr(t.out, "verified 12 topics, 36 partitions, 1 440 segments: 0 differences") != NULL, "%s",
	          t.out);
	cr_assert(strstr(t.out, "structure only") != NULL, "%s", t.out);
	run_tool_done(&t);
	for (size_t m = 0; m < sizeof(markers) / sizeof(markers[0]); m++) {
		size_t n = strlen(markers[m]), found = 0;
		char *bad = malloc(bytes);

		memcpy(bad, data, bytes);
		for (size_t i = 0; i + n <= bytes; i++)
			if (memcmp(data + i, markers[m], n) == 0) {
				bad[i + n - 1] ^= 0x01;
				found++;
			}
		cr_assert(found > 0, "%s is not in the store as it is", markers[m]);
		write_bytes(path, bad, bytes);
		cr_assert_eq(verify_copy(&t), 1, "%s: %d %s%s", markers[m], t.code, t.out, t.err);
		run_tool_done(&t);
		free(bad);
	}
	/* Anywhere else a flip may hit what nobody uses; never may it end the program by a signal
	 * or pass for a success of a store that lost something. */
	for (int i = 0; i < 40; i++) {
		size_t at = (size_t)(random = random * 6364136223846793005u + 1442695040888963407u) >> 33;

		at %= bytes;

		data[at] ^= (char)(1 << i % 8);
		write_bytes(path, data, bytes);
		(void)verify_copy(&t);
		cr_assert(t.code == 0 || t.code == 1 || t.code == 6, "byte %zu: %d %s%s", at, t.code, t.out, t.err);
		if (t.code == 0)
			cr_assert(strstr(t.out, "verified 12 topics, 36 partitions, 1 440 segments: 0 differences") !=
			          NULL);
		run_tool_done(&t);
		data[at] ^= (char)(1 << i % 8);
	}
	free(data);
	stop();
}

Test(shmetactl_process, what_is_no_store_exits_6_and_says_so, .init = start, .fini = stop)
{
	char path[128], *data;
	struct run_tool t;
	size_t bytes;

	data = copy_store(path, sizeof(path), &bytes);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (char)(i * 31 % 251);
	write_bytes(path, data, bytes);
	cr_assert_eq(verify_copy(&t), 6, "%d %s", t.code, t.err);
	cr_assert(strstr(t.err, "is not a store") != NULL, "%s", t.err);
	run_tool_done(&t);
	write_bytes(path, data, 100);
	cr_assert_eq(verify_copy(&t), 6, "%d %s", t.code, t.err);
	run_tool_done(&t);
	write_bytes(path, data, 0);
	cr_assert_eq(verify_copy(&t), 6, "%d %s", t.code, t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl verify --store %s", d.db); /* a database, but not ours */
	cr_assert_eq(t.code, 6);
	run_tool_done(&t);
	run_tool(&t, "shmetactl store --json --store %s", d.dir);
	cr_assert_eq(t.code, 6);
	json_decref(run_tool_json(&t));
	run_tool_done(&t);
	free(data);
}

/* ---- untrusted text ---- */

Test(shmetactl_process, names_and_keys_of_the_source_cannot_talk_to_the_terminal)
{
	struct run_tool t;
	json_t *doc, *row;

	run_tool_need_terminal();
	/* ESC in a key; a right-to-left override in a topic's name. */
	start_with(
		"INSERT INTO topics VALUES('evil' || char(8238) || 'eman', 1, NULL, 1, 1, '{\"k\\u001b[2J\":\"\\u009b31m\"}');"
		"INSERT INTO partitions VALUES('evil' || char(8238) || 'eman', 0, 1000, 1, 1);"
		"UPDATE segments SET s3_key = 'k' || char(27) || ']0;x' || char(7) WHERE id = 'topic-03-1-1000'");
	run_tool_terminal(&t, "shmetactl --dir %s ls topics", d.instance);
	cr_assert(t.code == 0 && strstr(t.out, "\xe2\x80\xae") == NULL && strchr(t.out, '\033') == NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool_terminal(&t, "shmetactl --dir %s ls segments topic-03 1", d.instance);
	cr_assert(t.code == 0 && strchr(t.out, '\033') == NULL && strchr(t.out, '\007') == NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool_terminal(&t, "shmetactl --dir %s find topic-03 1 1000", d.instance);
	cr_assert(t.code == 0 && strchr(t.out, '\033') == NULL && strchr(t.out, '\007') == NULL, "%s", t.out);
	run_tool_done(&t);
	doc = ask("ls topics --prefix evil", 0);
	if (number(doc, "count") == 1) { /* unless the writer refused the name: that is its right */
		row = json_array_get(json_object_get(doc, "items"), 0);
		cr_assert_str_eq(text(row, "name"), "evil\xe2\x80\xae"
		                                    "eman");
	}
	json_decref(doc);
	json_decref(dumped(""));
	expect_verify(0, ": 0 differences");
	stop();
}

/* A name as the table shows it, pasted back between single quotes. */
Test(shmetactl_process, a_name_that_was_shown_is_found_again)
{
	static const char *const names[] = {"back\\slash", "zero\xe2\x80\x8bwidth", "tag\xf3\xa0\x81\x81",
	                                    "lit\\u200beral", "caf\xc3\xa9"};
	char sql[512];

	start();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct run_tool t;
		json_t *doc;
		char args[256];

		(void)snprintf(sql, sizeof(sql), "INSERT INTO topics VALUES('%s', 1, NULL, 1, 1, '{}')", names[i]);
		cr_assert_eq(run_daemon_sql(&d, sql), 0);
		CTL(&t, "refresh list");
		cr_assert_eq(t.code, 0, "%s", t.err);
		run_tool_done(&t);
		CTL(&t, "--no-header ls topics --prefix '%.3s'", names[i]);
		(void)snprintf(args, sizeof(args), "get topic '%.*s'", (int)strcspn(t.out, " \n"), t.out);
		run_tool_done(&t);
		doc = ask(args, 0);
		cr_assert_str_eq(text(doc, "name"), names[i], "%s", args);
		json_decref(doc);
	}
	stop();
}

/* What the daemon has escaped in its sentence is not escaped again. */
Test(shmetactl_process, nothing_is_escaped_twice, .init = start, .fini = stop)
{
	struct run_tool t;

	CTL(&t, "topic create \"$(printf 'esc\\033[31m')\" 1");
	cr_assert_neq(t.code, 0);
	cr_assert(strstr(t.err, "'esc\\x1b[31m'") != NULL, "%s", t.err);
	run_tool_done(&t);
}

/* ---- what is not there ---- */

Test(shmetactl_process, what_does_not_exist_is_not_done, .init = start, .fini = stop)
{
	static const struct {
		const char *args;
		int code;
		const char *says;
	} cases[] = {
		{"segments delete-before nosuch 0 10 --yes", 5, "topic not found: 'nosuch'"},
		{"segments delete-before topic-03 9 10 --yes", 5, "'topic-03' has no partition 9"},
		{"segments delete-before topic-03 1 10 --yes", 0, ""},
		{"epoch-end nosuch 0 1", 5, "topic not found: 'nosuch'"},
		{"epoch-end topic-03 9 1", 5, "partition not found: 'topic-03'/9"},
		{"epoch-end topic-03 1 1000", 5, ""},
		{"epoch-end topic-03 1 0", 0, ""},
		{"refresh topic nosuch", 5, "topic not found: 'nosuch'"},
		{"refresh partition topic-03 9", 5, "'topic-03' has no partition 9"},
		{"refresh segment nosuch 0", 5, "topic not found: 'nosuch'"},
		{"refresh topic topic-03", 0, ""},
		{"invalidate topic nosuch", 5, "topic not found: 'nosuch'"},
		{"invalidate partition topic-03 9", 5, "'topic-03' has no partition 9"},
		{"invalidate --prefix nosuch --yes", 5, "no topic begins with 'nosuch'"},
		{"invalidate --prefix nosuch --dry-run", 5, "no topic begins with 'nosuch'"},
		{"invalidate topic topic-03", 0, ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run_tool t;

		CTL(&t, "%s", cases[i].args);
		cr_assert(t.code == cases[i].code && strstr(t.err, cases[i].says) != NULL, "%s: %d %s%s", cases[i].args,
		          t.code, t.out, t.err);
		run_tool_done(&t);
	}
}

Test(shmetactl_process, what_cannot_be_served_is_not_done)
{
	static const char *const asked[] = {"refresh topic topic-05", "refresh partition topic-05 1",
	                                    "invalidate topic topic-05", "invalidate partition topic-06 1"};
	struct run_tool t;

	start_with("PRAGMA ignore_check_constraints = on;"
	           "UPDATE topics SET partition_count = -4 WHERE name = 'topic-05';"
	           "UPDATE partitions SET high_watermark = -4 WHERE topic = 'topic-06' AND partition_id = 1;");
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		CTL(&t, "%s", asked[i]);
		cr_expect(t.code == 1 && strstr(t.err, "cannot be served: quarantined: ") != NULL, "%s: %d %s%s",
		          asked[i], t.code, t.out, t.err);
		run_tool_done(&t);
	}
	expect_code("refresh partition topic-06 2", 0);
	stop();
}

Test(shmetactl_process, a_list_of_quarantined_rows_that_was_cut_is_not_complete)
{
	struct run_tool t;
	json_t *doc;

	start_with("INSERT INTO segments VALUES('a', 'no-such-topic', 0, 0, 1, 1, 1, 'b', 'k', 1);"
	           "INSERT INTO partitions VALUES('no-topic-either', 0, 0, 1, 1);");
	doc = ask("quarantine", 0);
	cr_expect(number(doc, "count") == 2 && json_is_true(json_object_get(doc, "complete")));
	json_decref(doc);
	doc = ask("quarantine --limit 1", 0);
	cr_expect(number(doc, "count") == 1 && json_is_false(json_object_get(doc, "complete")));
	json_decref(doc);
	/* The rows of others are none of this tenant's. */
	CTL(&t, "quarantine --tenant nobody");
	cr_expect(t.code == 0 && strstr(t.out, "0 rows of this tenant") != NULL, "%d %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	stop();
}

/* Where the store has not all that the source has, no list of it says that it is complete. */
Test(shmetactl_process, a_list_that_lacks_what_the_source_has_is_not_complete)
{
	static const char *const lists[] = {"ls topics", "biggest"};
	struct run_tool t;
	json_t *doc;

	start_with("PRAGMA ignore_check_constraints = on;"
	           "UPDATE topics SET partition_count = -4 WHERE name = 'topic-05';"
	           "UPDATE partitions SET high_watermark = -4 WHERE topic = 'topic-06' AND partition_id = 1;");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		doc = ask(lists[i], 0);
		cr_expect(json_is_false(json_object_get(doc, "complete")), "%s", lists[i]);
		json_decref(doc);
		CTL(&t, "%s", lists[i]);
		cr_expect(t.code == 0 && strstr(t.err, "the source has more than the store") != NULL, "%s: %s",
		          lists[i], t.err);
		run_tool_done(&t);
	}
	doc = ask("ls partitions topic-06", 0);
	cr_expect(number(doc, "count") == 2 && json_is_false(json_object_get(doc, "complete")));
	json_decref(doc);
	doc = ask("ls partitions topic-07", 0);
	cr_expect(number(doc, "count") == 3 && json_is_true(json_object_get(doc, "complete")));
	json_decref(doc);
	doc = dumped(""); /* its last line */
	cr_expect(json_is_false(json_object_get(doc, "complete")));
	json_decref(doc);
	stop();
}

Test(shmetactl_process, a_list_of_a_bounded_store_is_not_complete)
{
	json_t *doc;

	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = wal;" STREAMHOUSE_V01 ROWS), 0);
	cr_assert_eq(run_daemon_configure(&d, "store { mode = bounded }\nbounded { max_topics = 5 }\n", ""), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	doc = ask("ls topics", 0);
	cr_expect(json_is_false(json_object_get(doc, "complete")));
	json_decref(doc);
	stop();
}

Test(shmetactl_process, who_may_not_ask_is_told_so_and_not_that_nobody_answers, .init = start, .fini = stop)
{
	static const char *const asked[] = {"config show", "config show --running", "config show --needs-restart",
	                                    "config check"};
	struct run_tool t;

	if (geteuid() != 0)
		cr_skip_test("only root can become somebody else");
	run_tool(&t, "cp %s %s/ctl && chmod 755 %s/ctl && chmod 711 %s && chmod 750 %s", places_shmetactl, d.dir, d.dir,
	         d.dir, d.instance);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		run_tool(&t, "setpriv --reuid 65534 --regid 65534 --clear-groups %s/ctl --dir %s %s", d.dir, d.instance,
		         asked[i]);
		cr_expect(t.code == 4 && strstr(t.err, "permission denied") != NULL, "%s: %d %s%s", asked[i], t.code,
		          t.out, t.err);
		run_tool_done(&t);
	}
}

/* With wrong and right files in turn: what was written a second ago is wrong. */
Test(shmetactl_process, health_knows_of_a_reload_once_it_was_answered, .init = start, .fini = stop)
{
	for (int i = 0; i < 6; i++) {
		bool wrong = i % 2 == 0;
		json_t *doc, *check;
		size_t k;

		cr_assert_eq(run_daemon_configure(&d, wrong ? "nonsense = 1\n" : "", ""), 0);
		expect_code("reload", wrong ? 2 : 0);
		doc = ask("health", wrong ? 1 : 0);
		json_array_foreach(json_object_get(doc, "checks"), k,
		                   check) if (strcmp(text(check, "check"), "reload") == 0)
			cr_expect_str_eq(text(check, "status"), wrong ? "warning" : "ok", "round %d", i);
		json_decref(doc);
	}
}

Test(shmetactl_process, all_and_an_empty_prefix_count_the_same_rows)
{
	json_t *all, *prefix;

	start_with("INSERT INTO topics VALUES('says-five-has-none', 5, NULL, 1, 1, '{}')");
	all = ask("invalidate --all --dry-run", 0);
	prefix = ask("invalidate --prefix '' --dry-run", 0);
	cr_assert_eq(number(all, "topics"), TOPICS + 1);
	cr_assert_eq(number(all, "partitions"), PARTITIONS);
	cr_assert_eq(number(prefix, "topics"), TOPICS + 1);
	cr_assert_eq(number(prefix, "partitions"), PARTITIONS);
	json_decref(all);
	json_decref(prefix);
	stop();
}

Test(shmetactl_process, schema_apply_creates_only_what_was_named, .init = start, .fini = stop)
{
	char path[160], moved[160];
	struct run_tool t;

	(void)snprintf(path, sizeof(path), "%s/new.db", d.dir);
	/* First what would be made; then it is made. */
	run_tool(&t, "shmetactl schema apply --dry-run --source sqlite:%s", path);
	cr_assert(t.code == 0 && strstr(t.out, "CREATE TABLE") != NULL && access(path, F_OK) != 0, "%d %s", t.code,
	          t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl schema apply --dry-run --source sqlite:%s/missing/new.db", d.dir);
	cr_assert(t.code == 2 && strstr(t.err, "its folder: No such file") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl schema apply --source sqlite:%s", path);
	cr_assert(t.code == 0 && access(path, F_OK) == 0, "%d %s", t.code, t.err);
	run_tool_done(&t);
	(void)run_daemon_end(&d, SIGTERM);
	(void)snprintf(path, sizeof(path), "%s", d.db);
	(void)snprintf(moved, sizeof(moved), "%s/moved", d.dir);
	cr_assert_eq(rename(path, moved), 0);
	CTL(&t, "schema apply");
	cr_assert(t.code != 0 && strstr(t.err, path) != NULL, "%d %s", t.code, t.err);
	cr_assert_neq(access(path, F_OK), 0, "a database was made");
	run_tool_done(&t);
}

Test(shmetactl_process, a_failure_names_what_was_typed_once, .init = start, .fini = stop)
{
	char path[160];
	struct run_tool t;

	CTL(&t, "export %s/nosuch/file", d.dir);
	cr_assert(t.code == 2 && strstr(t.err, "nosuch/file: No such file") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	(void)snprintf(path, sizeof(path), "%s/empty", d.dir);
	cr_assert_eq(mkdir(path, 0700), 0);
	CTL(&t, "verify --store %s", path);
	cr_assert(t.code == 6 && strstr(t.err, "a directory with data.mdb in it") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir /nonexistent/shmeta topic create x 1");
	cr_assert_eq(t.code, 3);
	cr_assert(strstr(strstr(t.err, "/nonexistent/shmeta") + 1, ": /nonexistent/shmeta") == NULL, "%s", t.err);
	run_tool_done(&t);
}

Test(shmetactl_process, on_a_terminal_a_table_fits_and_an_empty_list_says_so)
{
	struct run_tool t;
	char *save = NULL;

	run_tool_need_terminal();
	start();
	(void)setenv("COLUMNS", "40", 1);
	run_tool_terminal(&t, "shmetactl --dir %s --color never ls topics", d.instance);
	cr_assert(t.code == 0 && strstr(t.out, "topic-03") != NULL, "%s", t.out);
	for (char *line = strtok_r(t.out, "\r\n", &save); line != NULL; line = strtok_r(NULL, "\r\n", &save))
		cr_assert_leq(strlen(line), 40, "%s", line);
	run_tool_done(&t);
	run_tool_terminal(&t, "shmetactl --dir %s ls topics --prefix nosuch", d.instance);
	cr_assert(strstr(t.out, "no topics") != NULL, "%s", t.out);
	run_tool_done(&t);
	CTL(&t, "ls topics --prefix nosuch");
	cr_assert_str_eq(t.out, "", "a program is told nothing");
	run_tool_done(&t);
	stop();
}

/* ---- every verb ---- */

/* What stands for a word of a verb's usage. */
static const char *example_of(const char *word)
{
	static const struct {
		const char *word, *example;
	} words[] = {{"TOPIC", "topic-03"}, {"PARTITION", "1"},        {"OFFSET", "1000"}, {"PARTITIONS", "2"},
	             {"CLASS", "list"},     {"FILE|-", "-"},           {"READER", "1"},    {"SHELL", "bash"},
	             {"KIND", "topic"},     {"REASON...", "why"},      {"BUCKET", "b"},    {"EPOCH", "1"},
	             {"LISTING|-", "-"},    {"OPTION", "ttl.topic_ms"}};
	static char file[sizeof(d.dir) + sizeof("/file")];

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i].word, word) == 0)
			return words[i].example;
	cr_assert_str_eq(word, "FILE", "no example of %s", word);
	(void)snprintf(file, sizeof(file), "%s/file", d.dir);
	return file;
}

/* All of the output is JSON: one object, or one a line. */
static void expect_json(const struct run_tool *t, const char *line)
{
	const char *at = t->out, *end = t->out + t->out_bytes;
	size_t objects = 0;

	while (at < end && strspn(at, " \n") < (size_t)(end - at)) {
		json_error_t error;
		json_t *value = json_loadb(at, (size_t)(end - at), JSON_DISABLE_EOF_CHECK, &error);

		cr_assert(json_is_object(value), "%s: no JSON object at: %.60s\n%s", line, at, t->err);
		json_decref(value);
		at += error.position;
		objects++;
	}
	cr_assert(objects > 0, "%s printed nothing; exit %d: %s", line, t->code, t->err);
}

Test(shmetactl_process, every_verb_prints_json_and_nothing_else_when_it_was_asked_for, .init = start, .fini = stop,
     .timeout = 240)
{
	struct run_tool t;
	json_t *help, *verb, *option;
	size_t i, k, count = 0;

	CTL(&t, "help --json");
	help = run_tool_json(&t);
	run_tool_done(&t);
	json_array_foreach(json_object_get(help, "verbs"), i, verb)
	{
		char args[256], words[128], line[512], *save = NULL;

		(void)snprintf(args, sizeof(args), "%s", text(verb, "name"));
		(void)snprintf(words, sizeof(words), "%s", text(verb, "arguments"));
		for (char *word = strtok_r(words, " ", &save); word != NULL && word[0] != '[';
		     word = strtok_r(NULL, " ", &save))
			(void)snprintf(args + strlen(args), sizeof(args) - strlen(args), " %s", example_of(word));
		json_array_foreach(json_object_get(verb, "options"), k, option)
		{
			if (strcmp(text(option, "flag"), "--yes") == 0)
				(void)strcat(args, " --yes");
			if (strcmp(text(option, "flag"), "--all") == 0)
				(void)strcat(args, " --all");
			if (strcmp(text(option, "flag"), "--target") == 0)
				(void)snprintf(args + strlen(args), sizeof(args) - strlen(args),
				               " --target sqlite:%s/target.db", d.dir);
		}
		for (k = 0; k < 3; k++) {
			(void)snprintf(line, sizeof(line),
			               k == 0   ? "%s --json"
			               : k == 1 ? "--json %s --frobnicate"
			                        : "--json %s --dir /nonexistent/shmeta",
			               args);
			CTL(&t, "%s </dev/null", line);
			expect_json(&t, line);
			run_tool_done(&t);
		}
		count++;
	}
	json_decref(help);
	cr_assert_gt(count, 25, "%zu", count);
}

/* ---- what is counted, what is large, what is old ---- */

static const json_t *metric(const json_t *doc, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(doc, "metrics"), i, row)
	{
		if (strcmp(text(row, "name"), name) == 0)
			return row;
	}
	cr_assert_fail("no metric '%s'", name);
	return NULL;
}

/* Each round is a document of its own; what happens between two of them is the later one's rate,
 * whatever happened before. */
Test(shmetactl_process, stat_repeated_tells_what_happened_in_between, .init = start, .fini = stop)
{
	struct run_tool t;
	json_t *doc[3];
	char *line, *save = NULL;
	int n = 0;

	CTL(&t,
	    "--json stat --every 1200ms --count 3 & sleep 0.6; for i in 1 2 3 4 5; do %s/bin/shmetactl --dir %s refresh list "
	    ">/dev/null; done; wait",
	    places_build, d.instance);
	cr_assert_eq(t.code, 0, "%s", t.err);
	for (line = strtok_r(t.out, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		cr_assert_lt(n, 3);
		doc[n++] = json_loads(line, 0, NULL);
	}
	cr_assert_eq(n, 3);
	cr_assert(json_is_null(json_object_get(doc[0], "interval_ms")));
	cr_assert_float_eq(json_number_value(json_object_get(doc[1], "interval_ms")), 1200, 600);
	{
		double second = 0, ms;
		json_int_t before = number(metric(doc[0], "refresh_requests"), "value"),
			   after = number(metric(doc[2], "refresh_requests"), "value");

		for (int i = 1; i < 3; i++) {
			ms = json_number_value(json_object_get(doc[i], "interval_ms"));
			second += json_number_value(json_object_get(metric(doc[i], "refresh_requests"), "per_second")) *
			          ms / 1000;
		}
		cr_assert_eq(after - before, 5, "%lld", (long long)(after - before));
		cr_assert_float_eq(second, 5, 0.01, "%f", second);
	}
	cr_assert(json_is_null(json_object_get(metric(doc[1], "topics"), "per_second")), "a gauge has no rate");
	for (int i = 0; i < 3; i++)
		json_decref(doc[i]);
	run_tool_done(&t);

	CTL(&t, "stat --glob 'refresh_*'");
	cr_assert(strstr(t.out, "refresh_requests") != NULL && strstr(t.out, "topics") == NULL, "%s", t.out);
	cr_assert(strstr(t.out, "meaning") == NULL, "units are for -l: %s", t.out);
	run_tool_done(&t);
	CTL(&t, "stat -l --glob 'refresh_*'");
	cr_assert(strstr(t.out, "refreshes asked for by readers") != NULL &&
	                  strstr(t.out, "since the writer with pid") != NULL,
	          "%s", t.out);
	run_tool_done(&t);
}

Test(shmetactl_process, the_biggest_topics_come_first)
{
	json_t *doc, *row;

	start_with("DELETE FROM segments WHERE topic IN ('topic-00', 'topic-01') AND base_offset > 2000;"
	           "UPDATE segments SET size_bytes = 9000000 WHERE topic = 'topic-01' AND base_offset = 1000;"
	           "DELETE FROM segments WHERE topic = 'topic-07' AND base_offset = 1000 AND partition_id = 1;");
	doc = ask("biggest", 0);
	cr_assert_eq(number(doc, "count"), 12);
	row = json_array_get(json_object_get(doc, "items"), 0);
	cr_assert_str_eq(text(row, "topic"), "topic-01");
	cr_expect(json_is_number(json_object_get(row, "share_percent")));
	cr_expect_float_eq(json_number_value(json_object_get(row, "share_percent")), atof(text(row, "share")), 0.001);
	row = json_array_get(json_object_get(doc, "items"), 11);
	cr_assert_str_eq(text(row, "topic"), "topic-00");
	json_decref(doc);
	doc = ask("biggest --by segments --limit 10", 0);
	cr_assert_eq(number(doc, "count"), 10);
	row = json_array_get(json_object_get(doc, "items"), 0);
	cr_assert_eq(number(row, "segments"), 120);
	row = json_array_get(json_object_get(doc, "items"), 9);
	cr_assert_str_eq(text(row, "topic"), "topic-07");
	cr_assert_eq(number(row, "segments"), 119);
	json_decref(doc);
	stop();
}

Test(shmetactl_process, explain_tells_by_what_an_answer_was_verified, .init = start, .fini = stop)
{
	json_t *doc = ask("explain partition topic-03 1", 0);
	double end = run_now_s() + 10;

	cr_assert(json_is_true(json_object_get(doc, "resident")) && json_is_true(json_object_get(doc, "fresh")));
	cr_assert(strstr(text(doc, "verified_by"), "the class: ") != NULL, "%s", text(doc, "verified_by"));
	cr_assert_str_eq(text(doc, "ttl_of"), "the class");
	json_decref(doc);
	doc = ask("explain topic nothing", 5);
	cr_assert(json_is_false(json_object_get(doc, "resident")));
	cr_assert_str_eq(text(doc, "ttl_of"), "the class", "that of the list of topics");
	json_decref(doc);
	json_decref(ask("explain segment topic-03 1 2095", 5));

	/* A changed row was read by itself, and the commit that shows it is told. */
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"UPDATE partitions SET high_watermark = 99999 WHERE topic = 'topic-03' AND partition_id = 1;"),
		0);
	for (;;) {
		doc = ask("explain partition topic-03 1", 0);
		if (json_is_integer(json_object_get(doc, "changed_txn_at_most")) || run_now_s() > end)
			break;
		json_decref(doc);
		(void)usleep(50000);
	}
	cr_assert_leq(number(doc, "changed_txn_at_most"), number(doc, "committed_txn"));
	json_decref(doc);

	(void)run_daemon_end(&d, SIGKILL);
	doc = ask("explain partition topic-03 1", 0);
	cr_assert(strstr(text(doc, "next"), "the writer is gone") != NULL ||
	          strstr(text(doc, "next"), "the store") != NULL);
	json_decref(doc);
}

/* One document for all; one that cannot be looked at is told of, and the others all the same. */
Test(shmetactl_process, all_instances_are_looked_at, .init = start, .fini = stop)
{
	struct run_tool t;
	json_t *doc, *list, *row;

	run_tool(&t, "sh -c 'mkdir -p %s/broken %s/empty && echo nonsense >%s/broken/board'", d.dir, d.dir, d.dir);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s --json status --all-instances", d.dir);
	cr_assert_eq(t.code, 6, "%d %s", t.code, t.err);
	doc = run_tool_json(&t);
	list = json_object_get(doc, "instances");
	cr_assert_eq(json_array_size(list), 2, "%s", t.out);
	row = json_array_get(list, 0);
	cr_assert_str_eq(text(row, "instance"), "broken");
	cr_assert(number(row, "exit") == 6 &&
	          json_is_string(json_object_get(json_object_get(row, "document"), "error")));
	row = json_array_get(list, 1);
	cr_assert_str_eq(text(row, "instance"), "instance");
	cr_assert_eq(number(row, "exit"), 0);
	cr_assert_str_eq(text(json_object_get(row, "document"), "phase"), "serving");
	json_decref(doc);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s health --all-instances", d.dir);
	cr_assert_eq(t.code, 3, "%d %s", t.code, t.out);
	cr_assert(strstr(t.out, "# broken") != NULL && strstr(t.out, "# instance") != NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s/empty status --all-instances", d.dir);
	cr_assert(t.code == 3 && strstr(t.err, "no instance below ") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
}

Test(shmetactl_process, topics_of_the_store_are_completed, .init = start, .fini = stop)
{
	struct run_tool t;

	CTL(&t, "completion words -- --dir %s get topic topic-1", d.instance);
	cr_assert_str_eq(t.out, "topic-10\ntopic-11\n", "%s%s", t.out, t.err);
	run_tool_done(&t);
	CTL(&t, "completion words -- --dir %s refresh list t", d.instance);
	cr_assert_str_eq(t.out, "", "a list has no topic");
	run_tool_done(&t);
	CTL(&t, "completion words -- --dir /nonexistent get topic t");
	cr_assert(t.code == 0 && t.out[0] == '\0' && t.err[0] == '\0', "%s%s", t.out, t.err);
	run_tool_done(&t);
}

/* ---- the configuration ---- */

Test(shmetactl_process, the_configuration_is_the_running_daemons_and_its_files, .init = start, .fini = stop)
{
	json_t *doc = ask("config show", 0), *option, *list;
	struct run_tool t;
	size_t i, found = 0;
	FILE *file;

	cr_assert_str_eq(text(doc, "of"), "daemon");
	cr_assert_str_eq(text(doc, "file"), d.config);
	json_array_foreach(json_object_get(doc, "options"), i, option)
	{
		if (strcmp(text(option, "name"), "instance.directory") != 0)
			continue;
		cr_assert_str_eq(text(option, "value"), d.instance);
		found++;
	}
	cr_assert_eq(found, 1);
	json_decref(doc);
	doc = ask("config show --running --changed", 0);
	json_array_foreach(json_object_get(doc, "options"), i, option)
		cr_assert_str_neq(text(option, "origin"), "default", "%s", text(option, "name"));
	cr_assert_gt(json_array_size(json_object_get(doc, "options")), 0);
	json_decref(doc);
	doc = ask("config show --needs-restart", 0);
	cr_assert_eq(json_array_size(json_object_get(doc, "options")), 0);
	json_decref(doc);
	doc = ask("config check", 0);
	cr_assert_str_eq(text(doc, "file"), d.config);
	json_decref(doc);

	/* What waits for a restart is said by the reload and shown afterwards. */
	file = fopen(d.config, "ae");
	cr_assert(file != NULL && fputs("\nload { commit_rows = 4321 }\n", file) > 0 && fclose(file) == 0);
	doc = ask("reload", 0);
	list = json_object_get(doc, "wait_for_restart");
	cr_assert_eq(json_array_size(list), 1);
	cr_assert_str_eq(text(json_array_get(list, 0), "name"), "load.commit_rows");
	cr_assert_str_eq(text(json_array_get(list, 0), "pending"), "4321");
	json_decref(doc);
	doc = ask("config show --needs-restart", 0);
	cr_assert_eq(json_array_size(json_object_get(doc, "options")), 1);
	cr_assert_str_eq(text(json_array_get(json_object_get(doc, "options"), 0), "name"), "load.commit_rows");
	json_decref(doc);
	CTL(&t, "reload");
	cr_assert(strstr(t.out, "waits for a restart: load.commit_rows = 4321 (running: 100000)") != NULL, "%s", t.out);
	run_tool_done(&t);

	/* The mistake is in the file that the daemon reads, and the daemon goes on with what it
	 * has. */
	file = fopen(d.config, "ae");
	cr_assert(file != NULL && fputs("nonsense\n", file) > 0 && fclose(file) == 0);
	CTL(&t, "config check");
	cr_assert(t.code == 2 && strstr(t.err, d.config) != NULL && strstr(t.err, "nonsense") != NULL, "%d %s", t.code,
	          t.err);
	run_tool_done(&t);
	doc = ask("config check", 2);
	cr_assert_eq(json_array_size(json_object_get(doc, "mistakes")), 1);
	json_decref(doc);
	json_decref(ask("config show", 0));

	/* Without a daemon nobody takes the defaults for its configuration. */
	(void)run_daemon_end(&d, SIGKILL);
	expect_code("config show", 3);
	expect_code("config show --running", 3);
	expect_code("config check", 3);
	doc = ask("config show --defaults", 0);
	cr_assert_str_eq(text(doc, "of"), "defaults");
	json_decref(doc);
}
