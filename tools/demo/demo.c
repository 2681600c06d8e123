/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: the main job on a real database file, from an empty directory to a table of what was
 * seen. It starts everything it shows (generator, shmetad, four readers, the sqlite3 shell,
 * shmetactl), ends all of it, and leaves nothing behind. Exit status 0 only if every answer was
 * right, none failed, every change was seen, and `shmetactl verify` found no difference. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/demo/driver.h"

enum {
	SETTLE_MS = 1500, /* of undisturbed reading */
	DEAD_MS = 1500,   /* without a writer */
	SQL_MS = 1000     /* of the same lookups by SQL */
};

/* --small is for tests of the demo itself. */
static const struct demo_size full = {1000, 10000, 1000000}, small = {50, 500, 20000};

#define SUM(field)                                                             \
	({                                                                     \
		uint64_t sum_ = 0;                                             \
		for (int i_ = 0; i_ < READERS; i_++)                           \
			sum_ += atomic_load(&driver.shared->reader[i_].field); \
		sum_;                                                          \
	})

static uint64_t percentile(double part)
{
	uint64_t total = 0, seen = 0;

	for (int b = 0; b < BUCKETS; b++)
		total += SUM(histogram[b]);
	for (uint32_t b = 0; b < BUCKETS; b++) {
		seen += SUM(histogram[b]);
		if ((double)seen >= part * (double)total)
			return demo_bucket_ns(b + 1); /* the upper bound */
	}
	return 0;
}

/* "name": digits, in JSON that shmetactl printed. */
static uint64_t json_number(const char *json, const char *name)
{
	char key[64];
	const char *at;

	(void)snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(json, key);
	return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Until the new writer's list of readers shows all of them again. */
static bool wait_until_registered(uint64_t from_ns)
{
	char text[16384];

	for (int i = 0; i < 100; i++) {
		text[0] = '\0';
		if (demo_show((char *[]){(char *)"shmetactl", (char *)"--dir", driver.shared->instance,
		                         (char *)"readers", (char *)"--json", NULL},
		              true, text, sizeof(text)) == 0 &&
		    json_number(text, "count") == READERS) {
			demo_fact("all readers registered again", "%8.1f s", (double)(demo_now_ns() - from_ns) / 1e9);
			return true;
		}
		demo_pause_ms(100);
	}
	demo_fact("readers registered again", "not all of them");
	return false;
}

static char *ctl(const char *verb)
{
	return (char *)(uintptr_t)verb;
}

int main(int argc, char **argv)
{
	uint64_t began = demo_now_ns(), at, epoch, seed = 42, read_from, before, used, file_bytes, busy_ns, by_sql,
		 rate;
	struct demo_partition *p, *busiest;
	char text[16384], partition[16], offset[24];
	bool held = true;
	int verified, status_dead;
	FILE *config;

	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--small") != 0)) {
		(void)fputs("usage: shmeta-demo [--small]\n", stderr);
		return 2;
	}
	driver.size = argc == 2 ? small : full;
	demo_catch_signals();
	driver.terminal = isatty(STDOUT_FILENO) == 1;
	driver.color = driver.terminal && getenv("NO_COLOR") == NULL;

	demo_make_work();
	(void)snprintf(text, sizeof(text), "%s/shmeta.conf", driver.work);
	config = fopen(text, "we");
	if (config == NULL || fputs("log { level = notice }\n", config) < 0 || fclose(config) != 0)
		demo_give_up("%s: %s", text, strerror(errno));

	(void)printf("%s\n", demo_bold("shmeta: one SQLite database, one writer, four reading processes, no locks"));
	demo_title("1  A database as a streaming platform writes it");
	demo_fact("contents", "%s topics, %s partitions, %s segments", demo_number(driver.size.topics),
	          demo_number(driver.size.partitions), demo_number(driver.size.segments));
	file_bytes = demo_generate();
	demo_map_shared();
	by_sql = demo_measure_sql(driver.shared, SQL_MS);
	demo_check_interrupted();
	if (by_sql == 0)
		demo_give_up("%s cannot be asked by SQL", driver.shared->database);
	demo_fact("a lookup by SQL", "%s/s in one process, with a prepared statement", demo_number(by_sql));
	demo_start_shell();
	demo_sql(".timeout 5000\nPRAGMA foreign_keys = ON;");

	demo_title("2  The writer copies it into shared memory");
	at = demo_now_ns();
	demo_start_writer(true);
	epoch = demo_wait_until_serving(0);
	demo_fact("loaded and serving", "after %.1f s", (double)(demo_now_ns() - at) / 1e9);
	shmeta_close(driver.look); /* before the readers are forked */
	driver.look = NULL;

	demo_title("3  Four processes look up as fast as they can, and compare a sample with SQL on the file");
	demo_start_readers();
	read_from = demo_now_ns();
	demo_pause_ms(SETTLE_MS);
	demo_fact("the first 1.5 s",
	          "%s lookups/s, all memory still being touched for the first time; %s answers compared",
	          demo_number(SUM(lookups) * 1000000000u / (demo_now_ns() - read_from)), demo_number(SUM(compared)));

	demo_title("4  The sqlite3 program changes rows; how long until the last of the four has seen it");
	demo_change_end("new segment, after idling", demo_add_segments(demo_pick(&seed), 1, true));
	demo_change_end("new segment", demo_add_segments(demo_pick(&seed), 1, true));
	demo_change_end("new segment", demo_add_segments(demo_pick(&seed), 1, true));
	demo_change_end("1 000 new segments at once", demo_add_segments(demo_pick(&seed), 1000, true));
	demo_move_watermark(demo_pick(&seed));
	demo_create_topic();
	demo_delete_topic(demo_pick(&seed));

	demo_title("5  SIGKILL, and a new writer under the readers");
	p = demo_pick(&seed);
	before = SUM(lookups);
	demo_end_process(&driver.writer, SIGKILL);
	at = demo_now_ns();
	demo_pause_ms(DEAD_MS);
	demo_fact("without a writer", "%s lookups in %.1f s, %s failed", demo_number(SUM(lookups) - before),
	          (double)(demo_now_ns() - at) / 1e9, demo_number(SUM(failed)));
	status_dead =
		demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("status"), NULL},
	                  true, NULL, 0);
	/* A change that nobody can follow yet. */
	demo_add_segments(p, 1, true);
	at = demo_now_ns();
	demo_start_writer(false);
	(void)demo_wait_until_serving(epoch);
	demo_fact("killed and started again", "serving after %.0f ms", (double)(demo_now_ns() - at) / 1e6);
	demo_change_end("segment added in between", at);
	demo_change_end("new segment after that", demo_add_segments(demo_pick(&seed), 1, true));
	held = wait_until_registered(at);
	busy_ns = demo_now_ns() - read_from;

	demo_title("6  What an operator sees (readers have counted since they registered with the new writer)");
	held = demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("status"), NULL},
	                 false, NULL, 0) == 0 &&
	       held;
	busiest = p;
	(void)snprintf(partition, sizeof(partition), "%" PRIu32, busiest->id);
	(void)snprintf(offset, sizeof(offset), "%" PRIu64, atomic_load(&busiest->high_watermark) - 1);
	held = demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("find"),
	                            driver.shared->topic[busiest->topic].name, partition, offset, NULL},
	                 false, NULL, 0) == 0 &&
	       held;
	held = demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("readers"), NULL},
	                 false, NULL, 0) == 0 &&
	       held;
	verified = demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("verify"), NULL},
	                     false, NULL, 0);
	if (demo_show((char *[]){ctl("shmetactl"), ctl("--dir"), driver.shared->instance, ctl("store"), ctl("--json"),
	                         NULL},
	              true, text, sizeof(text)) != 0)
		held = false;
	used = json_number(text, "used_bytes");

	/* The readers come to an end by themselves, so that what they free is freed. */
	atomic_store(&driver.shared->stop, 1);
	for (int i = 0; i < READERS; i++) {
		pid_t pid = driver.readers[i];

		driver.readers[i] = 0;
		if (demo_finish(pid) != 0)
			held = false;
	}
	shmeta_close(driver.look);

	demo_title("Result");
	rate = SUM(lookups) * 1000000000u / busy_ns;
	demo_fact("lookups", "%s in 4 processes, %s/s", demo_number(SUM(lookups)), demo_number(rate));
	demo_fact("the same by SQL", "%s/s in one process: 1 of the 4 does %.0f times as many here",
	          demo_number(by_sql), (double)rate / READERS / (double)by_sql);
	demo_fact("a lookup, p50 / p99", "%s / %s ns (sampled, with the clock that measures it)",
	          demo_number(percentile(0.50)), demo_number(percentile(0.99)));
	demo_fact("compared with SQL", "%s answers", demo_number(SUM(compared)));
	demo_fact("wrong answers", "%s", demo_number(SUM(wrong)));
	demo_fact("failed reads", "%s", demo_number(SUM(failed)));
	held = demo_show_changes() && held;
	demo_fact("store",
	          "%.1f MiB; shared among all segments, topics and partitions: %.1f bytes a segment (the file: %.1f)",
	          (double)used / 1048576, (double)used / driver.size.segments,
	          (double)file_bytes / driver.size.segments);
	for (int i = 0; i < READERS; i++)
		if (driver.shared->reader[i].first_trouble[0] != '\0')
			demo_fact("first trouble", "reader %d: %s", i + 1, driver.shared->reader[i].first_trouble);
	if (status_dead != 1)
		demo_fact("status of a dead writer", "exit status %d instead of 1", status_dead);
	held = held && verified == 0 && status_dead == 1 && SUM(wrong) == 0 && SUM(failed) == 0 && SUM(compared) > 0;
	demo_fact("took", "%.1f s", (double)(demo_now_ns() - began) / 1e9);
	(void)printf("\n%s\n", held ? demo_bold("All checks passed.") : demo_bold("Some checks failed."));
	(void)fflush(stdout);
	demo_end_process(&driver.writer, SIGTERM);
	demo_clean_up();
	return held ? 0 : 1;
}
