/* SPDX-License-Identifier: Apache-2.0
 * shmetactl without a daemon: its command line, its manual, and what it prints of instances that a
 * test forged. The program itself is run, so that what a user sees is what is judged. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/page/stats_page.h"
#include "tests/support/forged.h"
#include "tests/support/places.h"
#include "tests/support/run_tool.h"
#include "tests/support/scratch.h"

TestSuite(shmetactl, .timeout = 30);

/* ---- the command line ---- */

static void expect(const char *args, int code, const char *in_error)
{
	struct run_tool t;

	run_tool(&t, "shmetactl %s", args);
	cr_assert_eq(t.code, code, "shmetactl %s: exit %d instead of %d; %s", args, t.code, code, t.err);
	cr_assert(strstr(t.err, in_error) != NULL, "shmetactl %s: no '%s' in: %s", args, in_error, t.err);
	run_tool_done(&t);
}

Test(shmetactl, a_wrong_command_line_exits_2_and_names_the_mistake)
{
	static const struct {
		const char *args, *says;
	} cases[] = {
		{"", "a verb is missing"},
		{"stauts", "unknown verb 'stauts'; did you mean 'status'?"},
		{"frobnicate", "unknown verb 'frobnicate'"},
		{"ls", "'ls' needs a second word: topics, partitions, segments"},
		{"ls tpoics", "unknown verb 'ls tpoics'; expected 'ls' and one of: topics, partitions, segments"},
		{"get", "'get' needs a second word: topic, partition"},
		{"status now", "unexpected argument 'now'; 'status' takes none"},
		{"find orders 0", "'find' needs TOPIC PARTITION OFFSET; 2 of 3 given"},
		{"find orders 0 1 2", "unexpected argument '2'; 'find' takes TOPIC PARTITION OFFSET"},
		{"find orders -- -1 5", "'-1' is not a partition id"},
		{"find orders 4294967296 5", "'4294967296' is not a partition id"},
		{"find orders 0 x", "'x' is not an offset"},
		{"find orders 0 18446744073709551616", "is not an offset"},
		{"get partition orders one", "'one' is not a partition id"},
		{"status --jsno", "unknown option '--jsno'; did you mean --json?"},
		{"status --frobnicate", "unknown option '--frobnicate'"},
		{"status -x", "unknown option '-x'"},
		{"find orders 0 -1", "unknown option '-1'; if it is an argument, write '--' before it"},
		{"status --json=1", "--json takes no value"},
		{"status --dir", "--dir needs a value: DIR"},
		{"status --timeout 5y", "--timeout: '5y' is not a time"},
		{"status --timeout 0", "--timeout: '0' is not a time"},
		{"status --timeout 2h", "--timeout: '2h' is not a time"},
		{"status --timeout 5ss", "or a number of seconds"},
		{"status --color red", "--color: 'red' is not auto, always or never"},
		{"status --instance ../x", "--instance: '../x' is not a name"},
		{"status --limit 5", "'status' takes no option --limit; see 'shmetactl help status'"},
		{"ls topics --limit 0", "--limit: '0' is not a number of rows"},
		{"ls topics --limit -1", "--limit: '-1' is not a number of rows"},
		{"ls topics --prefix a --glob b", "--prefix and --glob cannot both be given"},
		{"ls partitions t --after x", "--after: 'x' is not a partition id"},
		{"refresh", "'refresh' needs CLASS"},
		{"refresh topics orders", "'topics' is not a class"},
		{"refresh topic", "'refresh topic' takes TOPIC"},
		{"refresh partition orders", "'refresh partition' takes TOPIC PARTITION"},
		{"refresh partition orders x", "'x' is not a partition id"},
		{"refresh list orders", "'refresh list' takes no further argument"},
		{"segments replace orders 0 /dev/null", "no segment is to go"},
		{"config check a --config b", "the file is given twice"},
		{"verify --store a --source b", "--store looks at a store alone"},
		{"help frobnicate", "unknown verb 'frobnicate'"},
		{"stat --every 50ms", "--every: '50ms' is not a time from 100ms to 1 hour"},
		{"stat --every 1s --count 0", "--count: '0' is not a number from 1 on"},
		{"stat --count 3", "--count needs --every"},
		{"status --all-instances --every 1s", "'status' takes no option --every"},
		{"stat --all-instances --every 1s", "--all-instances and --every cannot both be given"},
		{"biggest --by name", "--by: 'name' is not bytes or segments"},
		{"biggest --limit 100001", "--limit: at most 100000 topics are ranked"},
		{"explain agent a", "'agent' is not a kind; expected topic, partition or segment"},
		{"explain topic", "'explain' needs KIND TOPIC [PARTITION [OFFSET]]; 1 of 2 given"},
		{"explain partition orders", "'explain partition' takes TOPIC PARTITION"},
		{"explain partition orders x", "'x' is not a partition id"},
		{"explain segment orders 0 -- -1", "'-1' is not an offset"},
		{"config show --running --defaults", "--running is about the running daemon"},
		{"config show --needs-restart --config x", "--needs-restart is about the running daemon"},
		{"completion bash zsh", "unexpected argument 'zsh'; 'completion' takes bash or zsh"},
		{"completion fish", "there is no completion for 'fish'"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect(cases[i].args, 2, cases[i].says);
}

Test(shmetactl, an_error_is_one_line_and_no_help)
{
	struct run_tool t;

	run_tool(&t, "shmetactl stauts");
	cr_assert_str_eq(t.out, "");
	cr_assert(strchr(t.err, '\n') == t.err + strlen(t.err) - 1, "%s", t.err);
	run_tool_done(&t);
}

Test(shmetactl, an_error_with_json_is_an_object_too)
{
	struct run_tool t;
	json_t *doc;

	run_tool(&t, "shmetactl --json status --dir /nonexistent/shmeta");
	cr_assert_eq(t.code, 3);
	doc = run_tool_json(&t);
	cr_assert_str_eq(json_string_value(json_object_get(doc, "schema")), "shmeta.error");
	cr_assert_eq(json_integer_value(json_object_get(doc, "exit")), 3);
	cr_assert(json_is_string(json_object_get(doc, "error")));
	json_decref(doc);
	run_tool_done(&t);
}

Test(shmetactl, options_may_stand_before_and_behind_the_verb)
{
	expect("--dir /nonexistent/shmeta status", 3, "no instance at /nonexistent/shmeta");
	expect("status --dir /nonexistent/shmeta", 3, "no instance at /nonexistent/shmeta");
	expect("status --dir=/nonexistent/shmeta", 3, "no instance at /nonexistent/shmeta");
	expect("--instance=nonexistent status", 3, "no instance at /run/shmeta/nonexistent");
}

/* What --json help lists is in the manual, and every verb of the table has help of its own. */
Test(shmetactl, every_verb_option_and_exit_code_is_in_the_manual_and_in_help)
{
	struct run_tool t, h;
	json_t *doc, *row, *option;
	size_t i, k;
	char *manual = run_read_file(places_manual);
	char text[128];

	cr_assert(manual != NULL);
	run_tool(&t, "shmetactl help --json");
	doc = run_tool_json(&t);
	run_tool(&h, "shmetactl --help");
	cr_assert_eq(h.code, 0);
	cr_assert(json_array_size(json_object_get(doc, "verbs")) >= 17);
	json_array_foreach(json_object_get(doc, "verbs"), i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		struct run_tool own;

		(void)snprintf(text, sizeof(text), "*%s*", name);
		cr_assert(strstr(manual, text) != NULL, "%s is not in the manual", name);
		(void)snprintf(text, sizeof(text), "\n  %s ", name);
		cr_assert(strstr(h.out, text) != NULL, "%s is not in help", name);
		run_tool(&own, "shmetactl help %s", name);
		cr_assert_eq(own.code, 0);
		json_array_foreach(json_object_get(row, "options"), k, option)
		{
			const char *flag = json_string_value(json_object_get(option, "flag"));

			cr_assert(strstr(own.out, flag) != NULL, "%s: %s is not in its help", name, flag);
			(void)snprintf(text, sizeof(text), "*%s*", flag);
			cr_assert(strstr(manual, text) != NULL, "%s is not in the manual", flag);
		}
		run_tool_done(&own);
	}
	json_array_foreach(json_object_get(doc, "options"), i, option)
	{
		const char *flag = json_string_value(json_object_get(option, "flag"));

		(void)snprintf(text, sizeof(text), "*%s*", flag);
		cr_assert(strstr(manual, text) != NULL, "%s is not in the manual", flag);
		cr_assert(strstr(h.out, flag) != NULL, "%s is not in help", flag);
	}
	cr_assert_eq(json_array_size(json_object_get(doc, "exit_codes")), 8);
	json_array_foreach(json_object_get(doc, "exit_codes"), i, row)
	{
		(void)snprintf(text, sizeof(text), "*%d*\n", (int)json_integer_value(json_object_get(row, "exit")));
		cr_assert(strstr(manual, text) != NULL, "exit status %zu is not in the manual", i);
	}
	json_decref(doc);
	free(manual);
	run_tool_done(&t);
	run_tool_done(&h);
}

/* What bash offers behind "shmetactl WORDS", the last of which is being typed, between blanks. */
static void completed(const char *words, char *ret, size_t bytes)
{
	struct run_tool t;

	run_tool(
		&t,
		"bash -c '. <(\"$0\" completion bash); COMP_WORDS=(shmetactl \"${@:1}\"); COMP_CWORD=$#; _shmetactl \"$0\"; "
		"echo \" ${COMPREPLY[*]} \"' %s/bin/shmetactl %s",
		places_build, words);
	cr_assert_eq(t.code, 0, "%s: %s", words, t.err);
	cr_assert_str_eq(t.err, "", "%s: %s", words, t.err);
	(void)snprintf(ret, bytes, "%s", t.out);
	run_tool_done(&t);
}

static void expect_completed(const char *words, const char *offered)
{
	char out[4096], wanted[64];

	completed(words, out, sizeof(out));
	(void)snprintf(wanted, sizeof(wanted), " %s ", offered);
	cr_assert(strstr(out, wanted) != NULL, "shmetactl %s: no '%s' in:%s", words, offered, out);
}

Test(shmetactl, the_completion_offers_every_verb_and_option, .timeout = 120)
{
	struct run_tool t;
	json_t *doc, *row, *option;
	size_t i, k;
	char words[128], out[4096];

	run_tool(&t, "shmetactl help --json");
	doc = run_tool_json(&t);
	json_array_foreach(json_object_get(doc, "verbs"), i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name")), *second = strchr(name, ' ');

		(void)snprintf(words, sizeof(words), "%.*s", (int)strcspn(name, " "), name);
		expect_completed("\"\"", words);
		if (second != NULL) {
			(void)snprintf(words, sizeof(words), "%.*s \"\"", (int)(second - name), name);
			expect_completed(words, second + 1);
		}
		(void)snprintf(words, sizeof(words), "%s --", name);
		completed(words, out, sizeof(out));
		json_array_foreach(json_object_get(row, "options"), k, option)
			cr_assert(strstr(out, json_string_value(json_object_get(option, "flag"))) != NULL, "%s %s",
		                  words, json_string_value(json_object_get(option, "flag")));
		json_array_foreach(json_object_get(doc, "options"), k, option)
			cr_assert(strstr(out, json_string_value(json_object_get(option, "flag"))) != NULL, "%s %s",
		                  words, json_string_value(json_object_get(option, "flag")));
	}
	json_decref(doc);
	run_tool_done(&t);
	/* Options and their values stand anywhere; what is typed narrows what is offered. */
	expect_completed("--dir /x --json ls top", "topics");
	expect_completed("--color = a", "auto always");
	expect_completed("ls topics --prefix status --gl", "--glob");
	expect_completed("--dir = /et", "/etc");
	expect_completed("refresh \"\"", "partition");
	expect_completed("help schema \"\"", "remove");
	expect_completed("completion \"\"", "bash");
	completed("--limit \"\"", out, sizeof(out));
	cr_assert_str_eq(out, "  \n");
	expect_completed("explain \"\"", "segment");
	expect_completed("biggest --by \"\"", "bytes segments");
}

Test(shmetactl, the_completion_offers_the_words_that_each_verb_takes)
{
	static const char *const cases[][2] = {
		{"hist \"\"", " lookup commit fetch feed write pass \n"},
		{"events --by \"\"", " commit fetch feed write pass log \n"},
		{"refresh \"\"", " topic partition segment list agent lease offset \n"},
		{"invalidate \"\"", " topic partition segment agent lease offset \n"},
	};
	char out[4096];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		completed(cases[i][0], out, sizeof(out));
		cr_expect_str_eq(out, cases[i][1], "%s:%s", cases[i][0], out);
	}
}

/* zsh gives each candidate to _describe, which is replaced by one that prints them. */
Test(shmetactl, zsh_is_offered_the_same)
{
	struct run_tool t;

	run_tool(&t,
	         "zsh -f -c 'compdef() { : }; _describe() { print -l -- \"${(@P)2}\" }; compset() { : }; "
	         ". <(\"$0\" completion zsh); words=(\"$0\" ls top); CURRENT=3; _shmetactl' %s/bin/shmetactl",
	         places_build);
	cr_assert_eq(t.code, 0, "%s", t.err);
	cr_assert_str_eq(t.out, "topics:topics by name\n", "%s%s", t.out, t.err);
	run_tool_done(&t);
}

Test(shmetactl, a_full_device_behind_the_output_is_an_error)
{
	struct run_tool t;

	run_tool(&t, "sh -c '%s/bin/shmetactl help > /dev/full'", places_build);
	cr_assert_eq(t.code, 1, "%d %s", t.code, t.err);
	cr_expect_str_eq(t.err, "shmetactl: cannot write the output: No space left on device\n");
	run_tool_done(&t);
	/* Also where the exit status says something else, which it goes on saying. */
	run_tool(&t, "sh -c '%s/bin/shmetactl --json no-such-verb > /dev/full'", places_build);
	cr_assert_eq(t.code, 2, "%d %s", t.code, t.err);
	cr_expect_not_null(strstr(t.err, "\nshmetactl: cannot write the output: No space left on device\n"), "%s",
	                   t.err);
	run_tool_done(&t);
}

/* ---- forged instances ---- */

static int lines_of(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

Test(shmetactl, status_is_thirteen_lines_and_0_while_the_writer_serves)
{
	struct forged f;
	struct run_tool t;

	forge(&f);
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	cr_assert_eq(lines_of(t.out), 13, "%s", t.out);
	cr_assert(strstr(t.out, "serving for ") != NULL && strstr(t.out, "88 412 of generation 3, epoch 7") != NULL,
	          "%s", t.out);
	cr_assert(strstr(t.out, "64.0 MiB of 1.0 GiB used") != NULL, "%s", t.out);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, status_says_what_is_pinned_and_what_to_do_about_a_store_that_fills_up)
{
	static const struct {
		uint64_t used, pinned; /* MiB of 1024 */
		int level;
		const char *words, *advice;
	} cases[] = {
		{700, 0, 0, "0 bytes pinned by readers (0.0 %)\n", NULL},
		{100, 600, 0, "600.0 MiB pinned by readers (58.6 %)\n", NULL},
		{717, 0, 70, "(0.0 %); filling up", "plan a larger store.max_bytes"},
		{100, 617, 70, "; filling up", "shmetactl readers"},
		{800, 71, 85, "; nearly full", "delete topics or segments"},
		{1, 870, 85, "; nearly full", "old snapshots are cut off"},
		{973, 0, 95, "; full", "raise store.max_bytes and restart"},
		{1, 972, 95, "; full", "shmetactl revoke"},
	};
	struct forged f;
	struct run_tool t;

	forge(&f);
	strcpy(f.stats->counter_name[2], "store_pinned");
	f.stats->counter_count = 3;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *doc, *store;

		f.stats->counter[0] = cases[i].used << 20;
		f.stats->counter[2] = cases[i].pinned << 20;
		run_tool(&t, "shmetactl --dir %s status", f.dir);
		cr_expect(strstr(t.out, cases[i].words) != NULL, "%s: %s", cases[i].words, t.out);
		cr_expect(cases[i].advice == NULL || strstr(t.out, cases[i].advice) != NULL, "%s", t.out);
		run_tool_done(&t);
		run_tool(&t, "shmetactl --dir %s status --json", f.dir);
		doc = run_tool_json(&t);
		store = json_object_get(doc, "store");
		cr_expect_eq(json_integer_value(json_object_get(store, "level")), cases[i].level);
		cr_expect_eq(json_integer_value(json_object_get(store, "pinned_bytes")),
		             (json_int_t)(cases[i].pinned << 20));
		cr_expect_eq(json_is_null(json_object_get(store, "advice")), cases[i].advice == NULL);
		json_decref(doc);
		run_tool_done(&t);
	}
	forged_done(&f);
}

Test(shmetactl, status_says_what_is_done_about_the_pressure_in_a_bounded_store)
{
	static const struct {
		const char *name, *words;
	} cases[] = {{"normal", NULL},
	             {"elevated", "; pressure elevated: nothing is read ahead"},
	             {"high", "; pressure high: a batch of records leaves each second"},
	             {"critical", "; pressure critical: four batches"},
	             {NULL, NULL}};
	struct forged f;
	struct run_tool t;

	forge(&f);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *doc, *store;

		forged_count(&f, "pressure", i);
		run_tool(&t, "shmetactl --dir %s status", f.dir);
		cr_expect((strstr(t.out, "; pressure ") != NULL) == (cases[i].words != NULL), "%s", t.out);
		cr_expect(cases[i].words == NULL || strstr(t.out, cases[i].words) != NULL, "%s", t.out);
		run_tool_done(&t);
		run_tool(&t, "shmetactl --dir %s status --json", f.dir);
		doc = run_tool_json(&t);
		store = json_object_get(doc, "store");
		cr_expect_eq(json_is_null(json_object_get(store, "pressure")), cases[i].name == NULL);
		if (cases[i].name != NULL)
			cr_expect_str_eq(json_string_value(json_object_get(store, "pressure")), cases[i].name);
		cr_expect_eq(json_is_null(json_object_get(store, "pressure_action")), cases[i].words == NULL);
		json_decref(doc);
		run_tool_done(&t);
	}
	forged_done(&f);
}

Test(shmetactl, status_is_1_when_degraded_or_when_the_writer_is_dead_stopped_or_of_another_boot)
{
	struct forged f;
	struct run_tool t;

	forge(&f);
	f.board->phase = SHMETA_PHASE_DEGRADED;
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, "degraded for ") != NULL, "%s", t.out);
	run_tool_done(&t);

	f.board->phase = SHMETA_PHASE_SERVING;
	forged_beat_last(&f, 3000000000u); /* no such process */
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, "dead, pid 2147483647 gave its last heartbeat 3.") != NULL, "%s", t.out);
	cr_assert_eq(lines_of(t.out), 13);
	run_tool_done(&t);

	f.board->writer_pid = 1; /* somebody else's process: the start differs */
	f.board->writer_start_ticks = 1;
	run_tool(&t, "shmetactl --dir %s status --json", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, "\"state\": \"dead\"") != NULL, "%s", t.out);
	run_tool_done(&t);

	f.board->heartbeat_ns = shmeta__boottime_ns();
	f.board->boot_id[3] ^= 1;
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, "before this machine started") != NULL, "%s", t.out);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, status_is_1_when_a_class_was_not_verified_in_time)
{
	struct forged f;
	struct run_tool t;
	struct shmeta_stamp *stamp;

	forge(&f);
	stamp = &f.generation->stamp[SHMETA_CLASS_SEGMENT];
	stamp->ttl_ns = 30000000000u;
	/* stale, and a refresh may still be under way */
	stamp->synced_at_ns = shmeta__boottime_ns() - 40000000000u;
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(t.code == 0 && strstr(t.out, "segment stale 40.") != NULL, "%d %s", t.code, t.out);
	run_tool_done(&t);
	stamp->synced_at_ns = shmeta__boottime_ns() - 75000000000u;
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, ": class segment was last verified 1 min 15 s ago") != NULL, "%d %s",
	          t.code, t.out);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s status --json", f.dir);
	cr_assert(t.code == 1 && strstr(t.out, "\"healthy\": false") != NULL &&
	                  strstr(t.out, "\"phase_reason\": \"class segment was last verified") != NULL,
	          "%s", t.out);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, the_phase_has_a_reason_also_when_the_writer_is_dead)
{
	struct forged f;
	struct run_tool t;

	forge(&f);
	f.board->phase = SHMETA_PHASE_DEGRADED;
	strcpy(f.stats->reason, "the store is full");
	strcpy(f.stats->source_status, "connected");
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert_not_null(strstr(t.out, "degraded for 1 min 0 s: the store is full\n"), "%s", t.out);
	cr_assert_not_null(strstr(t.out, ": connected\n"), "%s", t.out);
	run_tool_done(&t);
	forged_beat_last(&f, 30000000000u);
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert_not_null(strstr(t.out, "degraded when the writer went away: the store is full\n"), "%s", t.out);
	cr_assert_not_null(strstr(t.out, ": nobody asks it; the last was: connected\n"), "%s", t.out);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, status_says_since_when_the_source_is_away_and_why)
{
	struct forged f;
	struct run_tool t;
	json_t *doc, *source;

	forge(&f);
	run_tool(&t, "shmetactl --dir %s status --json", f.dir);
	doc = run_tool_json(&t);
	source = json_object_get(doc, "source");
	cr_assert(json_is_null(json_object_get(source, "away_since")) &&
	          json_is_null(json_object_get(source, "away_because")));
	json_decref(doc);
	run_tool_done(&t);

	strcpy(f.stats->source_status,
	       "away since 2026-07-01T12:00:00Z: postgresql: writing to db: no answer within 1 ms");
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert_not_null(
		strstr(t.out, ": away since 2026-07-01T12:00:00Z: postgresql: writing to db: no answer within"));
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s status --json", f.dir);
	doc = run_tool_json(&t);
	source = json_object_get(doc, "source");
	cr_assert_str_eq(json_string_value(json_object_get(source, "away_since")), "2026-07-01T12:00:00Z");
	cr_assert_str_eq(json_string_value(json_object_get(source, "away_because")),
	                 "postgresql: writing to db: no answer within 1 ms");
	json_decref(doc);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, a_stale_class_is_called_stale_and_a_class_that_never_was_never)
{
	struct forged f;
	struct run_tool t;
	json_t *doc, *cls;

	forge(&f);
	f.generation->stamp[SHMETA_CLASS_TOPIC].synced_at_ns -= 400000000000u;
	f.generation->stamp[SHMETA_CLASS_TOPIC].ttl_ns = 300000000000u;
	f.generation->stamp[SHMETA_CLASS_LEASE].synced_at_ns = 0;
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(strstr(t.out, "topic stale 6 min 40 s (ttl 5 min 0 s), partition ") != NULL, "%s", t.out);
	cr_assert(strstr(t.out, "lease never") != NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s status --json", f.dir);
	doc = run_tool_json(&t);
	cls = json_object_get(doc, "classes");
	cr_assert(json_is_false(json_object_get(json_object_get(cls, "topic"), "fresh")));
	cr_assert(json_is_true(json_object_get(json_object_get(cls, "partition"), "fresh")));
	cr_assert(json_is_null(json_object_get(json_object_get(cls, "lease"), "age_ms")));
	cr_assert(json_is_false(json_object_get(json_object_get(cls, "lease"), "fresh")));
	json_decref(doc);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, what_is_no_board_exits_6_and_what_is_not_there_3)
{
	struct forged f;
	char path[128];

	forge(&f);
	f.board->incompat |= 1u << 31;
	(void)snprintf(path, sizeof(path), "--dir %s status", f.dir);
	expect(path, 6, "board");
	f.board->incompat = SHMETA_BOARD_INCOMPAT_V1;
	memcpy(f.board->signature, "NOTBOARD", 8);
	expect(path, 6, "board");
	(void)snprintf(path, sizeof(path), "--dir %s/board status", f.dir);
	expect(path, 6, "not a directory");
	(void)snprintf(path, sizeof(path), "--dir %s/store.3 status", f.dir);
	expect(path, 3, "no instance");
	expect("verify --store /etc/passwd", 6, "/etc/passwd is not a store");
	expect("store --store /etc", 6, "not a store");
	expect("verify --store /nonexistent", 3, "no such file or directory");
	forged_done(&f);
}

Test(shmetactl, without_the_right_to_read_it_exits_4_and_names_the_group)
{
	char program[SCRATCH_PATH_MAX];
	struct forged f;
	struct run_tool t;

	if (geteuid() != 0)
		cr_skip_test("needs root to become nobody");
	forge(&f);
	/* Nobody may look into the build, perhaps. */
	scratch_file("shmetactl", program);
	run_tool(&t, "install -m 0755 %s/bin/shmetactl %s", places_build, program);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	/* Nobody is told to join root's group. */
	for (gid_t group = 0; group < 2; group++) {
		cr_assert_eq(chown(f.dir, 0, group), 0);
		cr_assert_eq(chmod(f.dir, 0750), 0);
		run_tool(&t, "setpriv --reuid 65534 --regid 65534 --clear-groups %s --dir %s status", program, f.dir);
		cr_assert_eq(t.code, 4, "%d: %s", t.code, t.err);
		cr_assert_eq(strstr(t.err, "usermod -aG daemon") != NULL, group == 1, "%s", t.err);
		cr_assert_eq(strstr(t.err, "root's group") != NULL, group == 0, "%s", t.err);
		run_tool_done(&t);
	}
	(void)unlink(program);
	forged_done(&f);
}

/* ---- untrusted text ---- */

static const struct {
	const char *bytes, *must_not, *shown;
} corpus[] = {
	{"\033]0;owned\007", "\033", "\\x1B]0;owned\\x07"},
	{"\033[2J\033[H", "\033", "\\x1B[2J"},
	{"a\nb\rc\td", "\r", "a\\x0Ab\\x0Dc\\x09d"},
	{"\x7f\x08", "\x7f", "\\x7F\\x08"},
	{"\xc2\x9b"
         "31m",
         "\xc2\x9b", "\\u009B"},
	{"user\xe2\x80\xae"
         "nimda",
         "\xe2\x80\xae", "\\u202E"},
	{"\xe2\x81\xa6x\xe2\x81\xa9", "\xe2\x81\xa6", "\\u2066x\\u2069"},
	{"\xff\xfe", "\xff", "\\xFF\\xFE"},
	{"\xed\xa0\x80", "\xed", "\\xED\\xA0\\x80"},
	{"\xc0\xaf", "\xc0", "\\xC0\\xAF"},
	{"caf\xc3\xa9", "\033", "caf\xc3\xa9"},
	{"<script>\"'", "\033", "<script>\"'"},
};

static int lower_equal(const char *text, const char *part)
{
	return strcasestr(text, part) != NULL;
}

Test(shmetactl, no_text_of_others_reaches_the_terminal_raw)
{
	struct forged f;

	forge(&f);
	f.stats->reader_count = f.stats->readers_total = 1;
	for (size_t i = 0; i < sizeof(corpus) / sizeof(corpus[0]); i++) {
		struct run_tool t;

		memset(f.stats->reader[0].name, 0, sizeof(f.stats->reader[0].name));
		strcpy(f.stats->reader[0].name, corpus[i].bytes);
		strcpy(f.stats->source_status, corpus[i].bytes);
		run_tool(&t, "shmetactl --dir %s --no-header readers", f.dir);
		cr_assert_eq(t.code, 0);
		cr_assert(strstr(t.out, corpus[i].must_not) == NULL, "%zu: %s", i, t.out);
		cr_assert(lower_equal(t.out, corpus[i].shown), "%zu: no '%s' in %s", i, corpus[i].shown, t.out);
		cr_assert_eq(lines_of(t.out), 1);
		run_tool_done(&t);
		run_tool(&t, "shmetactl --dir %s status", f.dir);
		cr_assert(strstr(t.out, corpus[i].must_not) == NULL, "%zu: %s", i, t.out);
		cr_assert(lower_equal(t.out, corpus[i].shown), "%zu: %s", i, t.out);
		cr_assert_eq(lines_of(t.out), 13);
		run_tool_done(&t);
	}
	forged_done(&f);
}

Test(shmetactl, json_of_text_of_others_is_ascii_and_parses)
{
	struct forged f;

	forge(&f);
	f.stats->reader_count = f.stats->readers_total = 1;
	for (size_t i = 0; i < sizeof(corpus) / sizeof(corpus[0]); i++) {
		struct run_tool t;
		json_t *doc, *row;

		memset(f.stats->reader[0].name, 0, sizeof(f.stats->reader[0].name));
		strcpy(f.stats->reader[0].name, corpus[i].bytes);
		f.stats->reader[0].counters.found = ((uint64_t)1 << 53) + 1;
		run_tool(&t, "shmetactl --dir %s readers --json", f.dir);
		for (const char *p = t.out; *p != '\0'; p++)
			cr_assert((*p >= ' ' && *p < 0x7f) || *p == '\n', "%zu: raw byte %02x", i, (unsigned char)*p);
		doc = run_tool_json(&t);
		row = json_array_get(json_object_get(doc, "items"), 0);
		cr_assert(json_is_string(json_object_get(row, "agent")));
		if (memchr(corpus[i].bytes, 0xff, strlen(corpus[i].bytes)) == NULL && corpus[i].bytes[0] != '\xed' &&
		    corpus[i].bytes[0] != '\xc0')
			cr_assert_str_eq(json_string_value(json_object_get(row, "agent")), corpus[i].bytes);
		else
			cr_assert(strstr(json_string_value(json_object_get(row, "agent")), "\xef\xbf\xbd") != NULL);
		cr_assert_str_eq(json_string_value(json_object_get(row, "found")), "9007199254740993");
		json_decref(doc);
		run_tool_done(&t);
	}
	forged_done(&f);
}

Test(shmetactl, a_name_that_fills_its_field_is_shown_whole_and_no_byte_more)
{
	struct forged f;
	struct run_tool t;

	forge(&f);
	f.stats->reader_count = f.stats->readers_total = 2;
	memset(f.stats->reader[0].name, 'n', sizeof(f.stats->reader[0].name));
	memset(&f.stats->reader[0].counters, 0, sizeof(f.stats->reader[0].counters));
	f.stats->reader[0].oldest_pin = 5;
	f.stats->reader[0].pin_age_ns = 1;
	f.stats->reader[1].oldest_pin = 4;
	f.stats->reader[1].pin_age_ns = 12000000000u;
	strcpy(f.stats->reader[1].name, "oldest");
	run_tool(&t, "shmetactl --dir %s readers", f.dir);
	cr_assert(strstr(t.out, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn ") != NULL, "%s",
	          t.out);
	cr_assert(strstr(t.out, "oldest") < strstr(t.out, "nnnn"), "the oldest pin is not first: %s", t.out);
	run_tool_done(&t);
	f.stats->reader_count = 0xffffffff; /* hostile: more than the page holds */
	run_tool(&t, "shmetactl --dir %s readers --limit 2", f.dir);
	cr_assert(t.code == 0 || t.code == 6, "%d", t.code);
	run_tool_done(&t);
	forged_done(&f);
}

Test(shmetactl, colour_only_where_it_is_wanted)
{
	struct forged f;
	struct run_tool t;

	run_tool_need_terminal();
	forge(&f);
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(strchr(t.out, '\033') == NULL, "a pipe got colour");
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s status --color always", f.dir);
	cr_assert(strstr(t.out, "\033[32malive\033[0m") != NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool_terminal(&t, "shmetactl --dir %s status", f.dir);
	cr_assert(strstr(t.out, "\033[32malive\033[0m") != NULL, "%s", t.out);
	run_tool_done(&t);
	run_tool_terminal(&t, "env NO_COLOR=1 %s/bin/shmetactl --dir %s status", places_build, f.dir);
	cr_assert(strchr(t.out, '\033') == NULL, "%s", t.out);
	run_tool_done(&t);
	forged_done(&f);
}
