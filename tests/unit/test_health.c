/* SPDX-License-Identifier: Apache-2.0
 * The checks of an instance: each is triggered, at its threshold and not before, and says what to
 * do; status and health agree. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "tests/support/forged.h"
#include "tests/support/instance_dir.h"
#include "tests/support/run_tool.h"
#include "tools/monitor/health.h"

TestSuite(health, .timeout = 60);

#define SECOND UINT64_C(1000000000)

static struct forged f;

static void begin(void)
{
	forge(&f);
	f.stats->updated_at_ns = shmeta__boottime_ns();
	forged_count(&f, "lag_ns", 0);
	forged_count(&f, "queue_depth", 0);
	forged_count(&f, "quarantined", 0);
	forged_count(&f, "postponed", 0);
	forged_count(&f, "store_pinned", 0);
}

static void end(void)
{
	forged_done(&f);
}

static struct health judged(void)
{
	char name[PAGES_NAME_BYTES];
	struct shmeta_err err;
	struct pages pages;
	struct health health;

	cr_assert_eq(pages_read(f.dir, &pages, name, &err), SHMETA_OK, "%s: %s", name, err.text);
	health_judge(&pages, "default", &health);
	pages_close(&pages);
	return health;
}

/* What this check finds. */
static void expect(enum health_check check, enum health_severity severity)
{
	struct health h = judged();
	const struct health_finding *found = &h.finding[check];

	cr_expect_eq(found->severity, severity, "%s: %s instead of %s: %s", health_name(check),
	             health_word(found->severity), health_word(severity), found->value);
	cr_expect(found->value[0] != '\0', "%s says nothing", health_name(check));
	cr_expect(severity == HEALTH_OK || found->advice[0] != '\0', "%s gives no advice", health_name(check));
	cr_expect(h.worst >= severity);
}

Test(health, an_instance_that_is_well_passes_every_check, .init = begin, .fini = end)
{
	struct health h = judged();

	for (int i = 0; i < HEALTH_CHECK_COUNT; i++)
		cr_expect_eq(h.finding[i].severity, HEALTH_OK, "%s: %s", health_name((enum health_check)i),
		             h.finding[i].value);
	cr_expect_eq(h.worst, HEALTH_OK);
	cr_expect_eq(h.count[HEALTH_OK], HEALTH_CHECK_COUNT);
}

Test(health, a_writer_whose_heart_stands_still_is_critical, .init = begin, .fini = end)
{
	struct health h;

	forged_beat_last(&f, 2 * SECOND);
	expect(HEALTH_CHECK_writer, HEALTH_CRITICAL);
	h = judged();
	cr_expect_str_eq(h.finding[HEALTH_CHECK_writer].command, "journalctl -u shmetad -e; systemctl start shmetad");
	f.board->phase = SHMETA_PHASE_STOPPED;
	h = judged();
	cr_expect_str_eq(h.finding[HEALTH_CHECK_writer].command, "systemctl start shmetad");
}

/* Who restarts the unit of another instance stops what was well. */
Test(health, a_command_names_a_unit_only_of_a_directory_that_a_unit_makes, .init = begin, .fini = end)
{
	static const struct {
		const char *dir, *unit;
	} cases[] = {{"/run/shmeta/default", "shmetad"},
	             {"/run/shmeta/no-such-prod", "shmetad@no-such-prod"},
	             {"/run/shmeta", "UNIT"},
	             {"/run/shmeta/a/b", "UNIT"},
	             {"/run/shmetad/x", "UNIT"},
	             {"/dev/shm/default", "UNIT"},
	             {"default", "UNIT"}};
	char unit[UNIT_BYTES], name[PAGES_NAME_BYTES];
	struct shmeta_err err;
	struct pages pages;
	struct health h;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(pages_unit_of(cases[i].dir, unit), cases[i].unit, "%s: %s", cases[i].dir, unit);
	forged_beat_last(&f, 2 * SECOND);
	cr_assert_eq(pages_read(f.dir, &pages, name, &err), SHMETA_OK, "%s: %s", name, err.text);
	health_judge(&pages, f.dir, &h);
	pages_close(&pages);
	cr_expect_str_eq(h.finding[HEALTH_CHECK_writer].command, "journalctl -u UNIT -e; systemctl start UNIT");
}

Test(health, a_writer_to_whom_nobody_can_connect_is_a_warning, .init = begin, .fini = end)
{
	f.stats->flags = SHMETA_STATS_CUT;
	expect(HEALTH_CHECK_writer, HEALTH_WARNING);
	forged_beat_last(&f, 2 * SECOND);
	expect(HEALTH_CHECK_writer, HEALTH_CRITICAL);
}

Test(health, any_phase_but_serving_is_critical, .init = begin, .fini = end)
{
#define X(name, number, text)                 \
	f.board->phase = SHMETA_PHASE_##name; \
	expect(HEALTH_CHECK_phase, SHMETA_PHASE_##name == SHMETA_PHASE_SERVING ? HEALTH_OK : HEALTH_CRITICAL);
	SHMETA_PHASE_LIST(X)
#undef X
}

static void away_for(int seconds)
{
	time_t since = time(NULL) - seconds;
	struct tm utc;
	char when[40];

	gmtime_r(&since, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S.000Z", &utc);
	snprintf(f.stats->source_status, sizeof(f.stats->source_status), "away since %s: no route", when);
}

Test(health, a_source_that_is_away_is_a_warning_and_after_a_minute_critical, .init = begin, .fini = end)
{
	away_for(50);
	expect(HEALTH_CHECK_source, HEALTH_WARNING);
	away_for(61);
	expect(HEALTH_CHECK_source, HEALTH_CRITICAL);
	strcpy(f.stats->source_status, "connected");
	expect(HEALTH_CHECK_source, HEALTH_OK);
}

/* Below, at and above each threshold of a counter. */
static void expect_levels(enum health_check check, const char *counter, uint64_t warning, uint64_t critical)
{
	forged_count(&f, counter, warning - 1);
	expect(check, HEALTH_OK);
	forged_count(&f, counter, warning);
	expect(check, HEALTH_WARNING);
	if (critical == 0)
		return;
	forged_count(&f, counter, critical - 1);
	expect(check, HEALTH_WARNING);
	forged_count(&f, counter, critical);
	expect(check, HEALTH_CRITICAL);
}

Test(health, what_is_counted_is_judged_at_its_thresholds, .init = begin, .fini = end)
{
	expect_levels(HEALTH_CHECK_feed, "lag_ns", 10 * SECOND, 60 * SECOND);
	expect_levels(HEALTH_CHECK_queue, "queue_depth", 10000, 100000);
	forged_count(&f, "queue_depth", 1);
	expect_levels(HEALTH_CHECK_queue, "queue_age_ns", 10 * SECOND, 60 * SECOND);
	expect_levels(HEALTH_CHECK_clock, "source_clock_off_ns", 5 * SECOND, 0);
	expect_levels(HEALTH_CHECK_budget, "bounded_over", 1, 0);
	expect_levels(HEALTH_CHECK_snapshot_file, "snapshot_file_lag", 300, 0);
	expect_levels(HEALTH_CHECK_quarantine, "quarantined", 1, 0);
	expect_levels(HEALTH_CHECK_units, "postponed", 50, 0);
	f.generation->max_bytes = 100 << 20;
	expect_levels(HEALTH_CHECK_store, "store_used", (100 << 20) / 100 * 70, (100 << 20) / 100 * 95);
}

/* What was counted as an age grows on, while nobody counts. */
Test(health, what_the_feed_of_a_dead_writer_told_grows_old, .init = begin, .fini = end)
{
	struct run_tool t;

	forged_count(&f, "queue_depth", 1);
	forged_count(&f, "queue_age_ns", 0);
	f.stats->updated_at_ns = shmeta__boottime_ns() - 61 * SECOND;
	expect(HEALTH_CHECK_feed, HEALTH_OK); /* its heart beats: it is about to write them */
	forged_beat_last(&f, 61 * SECOND);
	expect(HEALTH_CHECK_feed, HEALTH_CRITICAL);
	expect(HEALTH_CHECK_queue, HEALTH_CRITICAL);
	forged_count(&f, "queue_depth", 0);
	expect(HEALTH_CHECK_queue, HEALTH_OK);
	run_tool(&t, "shmetactl --dir %s lag", f.dir);
	cr_expect_not_null(strstr(t.out, "what it told last is 1 min 1 s old"), "%s", t.out);
	cr_expect_not_null(strstr(t.out, "source   nobody asks it"), "%s", t.out);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --dir %s stat --json --glob lag_ns", f.dir);
	cr_expect_not_null(strstr(t.out, "\"value\": 61"), "%s", t.out);
	run_tool_done(&t);
}

Test(health, a_class_past_its_time_to_live_is_a_warning_and_one_that_is_late_critical, .init = begin, .fini = end)
{
	struct shmeta_stamp *s = &f.generation->stamp[SHMETA_CLASS_PARTITION];

	s->ttl_ns = 30 * SECOND;
	s->synced_at_ns = shmeta__boottime_ns() - 31 * SECOND;
	expect(HEALTH_CHECK_freshness, HEALTH_WARNING);
	s->synced_at_ns = shmeta__boottime_ns() - 46 * SECOND;
	expect(HEALTH_CHECK_freshness, HEALTH_CRITICAL);
	cr_expect_not_null(strstr(judged().finding[HEALTH_CHECK_freshness].value, "class partition"));
}

Test(health, lookups_that_are_not_answered_count_when_there_are_enough, .init = begin, .fini = end)
{
	f.stats->all_readers.found = 900;
	f.stats->all_readers.unknown = 99;
	expect(HEALTH_CHECK_answers, HEALTH_OK);
	f.stats->all_readers.absent = 1;
	expect(HEALTH_CHECK_answers, HEALTH_WARNING);
	f.stats->all_readers.found = 1980;
	expect(HEALTH_CHECK_answers, HEALTH_OK);
	f.stats->all_readers.corrupt = 1;
	expect(HEALTH_CHECK_checksums, HEALTH_CRITICAL);
}

Test(health, a_snapshot_that_is_held_long_is_told_with_the_command_that_ends_it, .init = begin, .fini = end)
{
	f.stats->reader_count = f.stats->readers_total = 1;
	f.stats->reader[0].version = 0x000100;
	f.stats->reader[0].oldest_pin = 7;
	f.stats->reader[0].pin_age_ns = 10 * SECOND - 1;
	expect(HEALTH_CHECK_pins, HEALTH_OK);
	f.stats->reader[0].pin_age_ns = 10 * SECOND;
	expect(HEALTH_CHECK_pins, HEALTH_WARNING);
	cr_expect_str_eq(judged().finding[HEALTH_CHECK_pins].command, "shmetactl readers; shmetactl revoke PID");
	f.stats->reader[0].pin_age_ns = 60 * SECOND;
	expect(HEALTH_CHECK_pins, HEALTH_CRITICAL);
}

Test(health, a_process_that_is_about_to_run_out_of_slots_is_a_warning, .init = begin, .fini = end)
{
	f.stats->reader_count = f.stats->readers_total = 2;
	for (int i = 0; i < 2; i++) {
		f.stats->reader[i].version = 0x000100;
		f.stats->reader[i].slots_max = 64;
	}
	f.stats->reader[1].slots = 57;
	expect(HEALTH_CHECK_slots, HEALTH_OK);
	/* One thread, as each long list of shmetactl has it. */
	f.stats->reader[0].slots = f.stats->reader[0].slots_max = 1;
	expect(HEALTH_CHECK_slots, HEALTH_OK);
	f.stats->reader[1].slots = 58;
	f.stats->reader[1].pid = 4711;
	expect(HEALTH_CHECK_slots, HEALTH_WARNING);
	cr_expect_not_null(strstr(judged().finding[HEALTH_CHECK_slots].value, "pid 4711 uses 58 of its 64 slots"));
	/* A writer that does not say how many there are. */
	f.stats->reader[1].slots_max = 0;
	expect(HEALTH_CHECK_slots, HEALTH_OK);
}

/* The device of a directory is 0:40. */
static struct pages_memory memory_of(const char *mounts, const char *meminfo)
{
	struct pages_memory memory;

	pages_read_memory(fmemopen((char *)mounts, strlen(mounts), "r"),
	                  fmemopen((char *)meminfo, strlen(meminfo), "r"), makedev(0, 40), &memory);
	return memory;
}

Test(health, huge_pages_that_are_asked_for_and_not_given_are_a_warning, .init = begin, .fini = end)
{
	static const char plain[] = "22 1 0:39 / /dev/shm rw - tmpfs tmpfs rw,huge=always\n"
				    "23 1 0:40 / /run/shmeta rw,nosuid - tmpfs shmeta rw,size=1048576k\n",
			  huge[] = "23 1 0:40 / /run/shmeta rw,nosuid - tmpfs shmeta rw,huge=within_size\n",
			  none[] = "MemTotal: 8000 kB\nShmemHugePages:        0 kB\n",
			  some[] = "MemTotal: 8000 kB\nShmemHugePages:     2048 kB\n";
	char name[PAGES_NAME_BYTES];
	struct shmeta_err err;
	struct pages pages;

	cr_expect_not(memory_of(plain, some).wants_huge);
	cr_expect(memory_of(huge, some).wants_huge);
	cr_expect_eq(memory_of(huge, some).huge_bytes, 2 << 20);
	forged_count(&f, "store_used", 64 << 20);
	f.generation->max_bytes = 1 << 30;
	cr_assert_eq(pages_read(f.dir, &pages, name, &err), SHMETA_OK);
	for (int i = 0; i < 3; i++) {
		struct health h;

		pages.memory = memory_of(i == 0 ? plain : huge, i == 2 ? some : none);
		health_judge(&pages, "default", &h);
		cr_expect_eq(h.finding[HEALTH_CHECK_hugepages].severity, i == 1 ? HEALTH_WARNING : HEALTH_OK, "%d: %s",
		             i, h.finding[HEALTH_CHECK_hugepages].value);
	}
	pages_close(&pages);
}

Test(health, another_version_of_the_writer_or_of_a_reader_is_a_warning, .init = begin, .fini = end)
{
	f.stats->reader_count = f.stats->readers_total = 1;
	f.stats->reader[0].version = 0x000200;
	expect(HEALTH_CHECK_versions, HEALTH_WARNING);
	f.stats->reader[0].version = 0x000100;
	expect(HEALTH_CHECK_versions, HEALTH_OK);
	f.board->writer_version = 0x000200;
	f.stats->reader[0].version = 0x000200;
	expect(HEALTH_CHECK_versions, HEALTH_WARNING);
}

Test(health, what_the_writer_says_of_its_configuration_is_told, .init = begin, .fini = end)
{
	f.stats->flags = SHMETA_STATS_RELOAD_REFUSED;
	expect(HEALTH_CHECK_reload, HEALTH_WARNING);
	expect(HEALTH_CHECK_restart, HEALTH_OK);
	f.stats->flags = SHMETA_STATS_RESTART_NEEDED;
	expect(HEALTH_CHECK_reload, HEALTH_OK);
	expect(HEALTH_CHECK_restart, HEALTH_WARNING);
}

Test(health, a_heartbeat_ahead_of_the_clock_is_critical, .init = begin, .fini = end)
{
	forged_beat_last(&f, 0);
	f.board->heartbeat_ns = shmeta__boottime_ns() + 30 * SECOND;
	expect(HEALTH_CHECK_clock, HEALTH_CRITICAL);
}

Test(health, counters_that_stand_still_or_are_missing_are_told, .init = begin, .fini = end)
{
	f.stats->updated_at_ns = shmeta__boottime_ns() - 6 * SECOND;
	expect(HEALTH_CHECK_stats, HEALTH_WARNING);
	f.stats->version = 99;
	expect(HEALTH_CHECK_stats, HEALTH_UNKNOWN);
	cr_expect_eq(judged().finding[HEALTH_CHECK_quarantine].severity, HEALTH_UNKNOWN);
}

Test(health, a_file_system_with_less_room_than_the_store_may_take_is_a_warning)
{
	struct instance_dir small;
	struct pages pages = {0};
	struct health h;
	int refused;

	instance_dir_make(&small);
	refused = instance_dir_limit(&small, "1m");
	if (refused != 0) {
		instance_dir_remove(&small);
		cr_skip_test("this machine allows no mounts");
	}
	pages.dir_fd = small.fd;
	pages.generation.max_bytes = 1 << 30;
	health_judge(&pages, "default", &h);
	/* Empty: more than a tenth is free. */
	cr_expect_eq(h.finding[HEALTH_CHECK_memory].severity, HEALTH_OK, "%s", h.finding[HEALTH_CHECK_memory].value);
	{
		char path[128], *fill = calloc(1, 1 << 20);
		FILE *file;

		snprintf(path, sizeof(path), "%s/fill", small.path);
		file = fopen(path, "we");
		cr_assert_not_null(file);
		(void)!fwrite(fill, 1, 1000 << 10, file);
		fclose(file);
		free(fill);
		health_judge(&pages, "default", &h);
		cr_expect_eq(h.finding[HEALTH_CHECK_memory].severity, HEALTH_WARNING, "%s",
		             h.finding[HEALTH_CHECK_memory].value);
		remove(path);
	}
	instance_dir_remove(&small);
}

Test(health, texts_of_others_are_printable_in_findings, .init = begin, .fini = end)
{
	struct health h;

	strcpy(f.stats->source_status, "away since 2020-01-01T00:00:00.000Z: \033]0;owned\007 \xff\n<script>");
	h = judged();
	for (const char *c = h.finding[HEALTH_CHECK_source].value; *c != '\0'; c++)
		cr_assert(*c >= ' ' && *c < 0x7f, "raw byte %02x", (unsigned char)*c);
}

static int code_of(const char *verb)
{
	struct run_tool t;
	int code;

	run_tool(&t, "shmetactl --dir %s %s", f.dir, verb);
	code = t.code;
	run_tool_done(&t);
	return code;
}

Test(health, the_verb_exits_as_a_plug_in_and_status_says_the_same, .init = begin, .fini = end)
{
	struct run_tool t;
	json_t *doc;

	cr_expect_eq(code_of("health"), 0);
	cr_expect_eq(code_of("status"), 0);
	forged_count(&f, "quarantined", 3);
	cr_expect_eq(code_of("health"), 1);
	cr_expect_eq(code_of("status"), 0);
	run_tool(&t, "shmetactl --dir %s status", f.dir);
	cr_expect_not_null(strstr(t.out, "\nhealth     warning: quarantine; 'shmetactl health' says what to do\n"),
	                   "%s", t.out);
	run_tool_done(&t);
	f.stats->all_readers.corrupt = 1;
	cr_expect_eq(code_of("health"), 2);
	cr_expect_eq(code_of("status"), 1);
	run_tool(&t, "shmetactl --dir %s health --json", f.dir);
	doc = run_tool_json(&t);
	cr_expect_str_eq(json_string_value(json_object_get(doc, "status")), "critical");
	cr_expect_eq(json_array_size(json_object_get(doc, "checks")), HEALTH_CHECK_COUNT);
	json_decref(doc);
	run_tool_done(&t);
	f.stats->all_readers.corrupt = 0;
	f.stats->version = 99;
	cr_expect_eq(code_of("health"), 3);
	run_tool(&t, "shmetactl --dir /nonexistent/shmeta health");
	cr_expect_eq(t.code, 3);
	run_tool_done(&t);
}

Test(health, what_is_not_well_comes_first_with_its_command, .init = begin, .fini = end)
{
	struct run_tool t;

	f.stats->all_readers.corrupt = 1;
	forged_count(&f, "quarantined", 3);
	run_tool(&t, "shmetactl --dir %s health", f.dir);
	cr_expect_eq(strncmp(t.out, "critical  checksums", strlen("critical  checksums")), 0, "%s", t.out);
	cr_expect_not_null(strstr(t.out, "$ shmetactl --dir "), "%s", t.out);
	cr_expect(strstr(t.out, "warning") < strstr(t.out, "ok  "), "%s", t.out);
	run_tool_done(&t);
}
