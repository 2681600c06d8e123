/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: changes of the database, and how long until the last reader sees each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/demo/driver.h"

enum {
	VISIBLE_MS = 10000, /* a change that takes longer has failed */
	CHANGES_MAX = 16
};

struct change {
	char what[48];
	double ms; /* until the last reader saw it; < 0: not seen */
};
static struct change changes[CHANGES_MAX];
static size_t change_count;

static struct demo_topic *topic_of(const char *name)
{
	for (uint32_t i = 0; i < driver.shared->topic_count; i++)
		if (strcmp(driver.shared->topic[i].name, name) == 0)
			return &driver.shared->topic[i];
	return NULL;
}

/* Announce the change; from now on readers look for it, and do not compare its topic with the
 * file. */
static void change_begin(const struct demo_probe *probe)
{
	struct demo_topic *topic = topic_of(probe->topic);

	if (topic != NULL)
		atomic_store(&topic->changing, 1);
	/* A reader that compares right now and saw 0 looks again when it is done. */
	driver.shared->probe = *probe;
	atomic_fetch_add_explicit(&driver.shared->probe_number, 1, memory_order_release);
}

static bool all_saw(uint64_t number_of_probe, uint64_t *ret_last_ns)
{
	uint64_t last = 0;

	for (int i = 0; i < READERS; i++) {
		uint64_t at;

		if (atomic_load_explicit(&driver.shared->reader[i].seen_probe, memory_order_acquire) != number_of_probe)
			return false;
		at = atomic_load(&driver.shared->reader[i].seen_at_ns);
		last = at > last ? at : last;
	}
	*ret_last_ns = last;
	return true;
}

void demo_change_end(const char *what, uint64_t from_ns)
{
	struct demo_topic *topic = topic_of(driver.shared->probe.topic);
	uint64_t probe = atomic_load(&driver.shared->probe_number), last = 0, began = demo_now_ns();
	struct change *change = &changes[change_count++];

	(void)snprintf(change->what, sizeof(change->what), "%s", what);
	change->ms = -1;
	while (demo_now_ns() - began < VISIBLE_MS * 1000000ull) {
		if (all_saw(probe, &last)) {
			change->ms = last > from_ns ? (double)(last - from_ns) / 1e6 : 0;
			break;
		}
		demo_reap_readers();
		demo_pause_ms(1);
	}
	atomic_fetch_add(&driver.shared->probe_number, 1);
	if (change->ms < 0) {
		demo_fact(what, "not seen by every reader within %d s", VISIBLE_MS / 1000);
		return;
	}
	if (topic != NULL)
		atomic_store(&topic->changing, 0);
	demo_fact(what, "%8.1f ms", change->ms);
}

/* Quoted for SQL: names may hold quotes. */
static const char *quoted(const char *text)
{
	static char buffer[4][2 * NAME_BYTES + 2];
	static unsigned next;
	char *b = buffer[next++ % 4];
	size_t n = 0;

	for (; *text != '\0'; text++) {
		if (*text == '\'')
			b[n++] = '\'';
		b[n++] = *text;
	}
	b[n] = '\0';
	return b;
}

struct demo_partition *demo_pick(uint64_t *seed)
{
	struct demo_partition *p;

	do {
		p = &driver.shared->partition[demo_random(seed) % driver.shared->partition_count];
	} while (atomic_load(&driver.shared->topic[p->topic].changing) != 0);
	return p;
}

uint64_t demo_add_segments(struct demo_partition *p, unsigned count, bool announce)
{
	const char *topic = driver.shared->topic[p->topic].name;
	uint64_t base = atomic_load(&p->high_watermark), end = base + 1000 * (uint64_t)count, began;
	struct demo_probe probe = {.kind = PROBE_FIND, .partition = p->id, .offset = end - 1000, .value = end - 1};

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", topic);
	if (announce)
		change_begin(&probe);
	began = demo_now_ns();
	demo_sql(
		"BEGIN IMMEDIATE;"
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
		"INSERT INTO segments (id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
		"created_at) SELECT 'demo-%" PRIu64 "-' || i, '%s', %" PRIu32 ", %" PRIu64 " + i * 1000, %" PRIu64
		" + i * 1000, 1000, 65536, 'demo-bucket', printf('data/%%s/%%d/%%020d.seg', '%s', %" PRIu32 ", %" PRIu64
		" + i * 1000), 1700000000000 + i FROM n;"
		"UPDATE partitions SET high_watermark = %" PRIu64 " WHERE topic = '%s' AND partition_id = %" PRIu32 ";"
		"COMMIT;",
		count - 1, began, quoted(topic), p->id, base, base + 999, quoted(topic), p->id, base, end,
		quoted(topic), p->id);
	atomic_store(&p->high_watermark, end);
	return began;
}

void demo_move_watermark(struct demo_partition *p)
{
	const char *topic = driver.shared->topic[p->topic].name;
	uint64_t before = atomic_load(&p->high_watermark), began;
	struct demo_probe probe = {
		.kind = PROBE_WATERMARK, .partition = p->id, .before = before, .value = before + 12345};

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", topic);
	change_begin(&probe);
	began = demo_now_ns();
	demo_sql("UPDATE partitions SET high_watermark = %" PRIu64 " WHERE topic = '%s' AND partition_id = %" PRIu32
	         ";",
	         before + 12345, quoted(topic), p->id);
	atomic_store(&p->high_watermark, before + 12345);
	demo_change_end("high watermark moved", began);
}

void demo_create_topic(void)
{
	struct demo_probe probe = {.kind = PROBE_APPEARS, .topic = "made-by-the-demo", .partition = 3};
	uint64_t began;

	change_begin(&probe);
	began = demo_now_ns();
	demo_sql(
		"BEGIN IMMEDIATE;"
		"INSERT INTO topics (name, partition_count, retention_ms, created_at, updated_at, config) "
		"VALUES ('made-by-the-demo', 4, NULL, 1700000000000, 1700000000000, '{\"cleanup.policy\": \"delete\"}');"
		"INSERT INTO partitions (topic, partition_id, high_watermark, created_at, updated_at) VALUES "
		"('made-by-the-demo', 0, 0, 1700000000000, 1700000000000), ('made-by-the-demo', 1, 0, 1700000000000, 1700000000000),"
		"('made-by-the-demo', 2, 0, 1700000000000, 1700000000000), ('made-by-the-demo', 3, 0, 1700000000000, 1700000000000);"
		"COMMIT;");
	demo_change_end("topic created, 4 partitions", began);
}

void demo_delete_topic(struct demo_partition *p)
{
	struct demo_probe probe = {.kind = PROBE_VANISHES};
	uint64_t began;

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", driver.shared->topic[p->topic].name);
	change_begin(&probe);
	began = demo_now_ns();
	demo_sql("DELETE FROM topics WHERE name = '%s';", quoted(probe.topic));
	demo_change_end("topic deleted", began);
}

static int by_ms(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return x->ms < y->ms ? -1 : x->ms > y->ms;
}

bool demo_show_changes(void)
{
	struct change busy[CHANGES_MAX] = {{.ms = 0}};
	size_t n = 0, unseen = 0;
	char name[64];

	for (size_t i = 0; i < change_count; i++) {
		const struct change *c = &changes[i];

		if (c->ms < 0)
			unseen++;
		else if (strstr(c->what, "idling") != NULL || strstr(c->what, "in between") != NULL)
			demo_fact(c->what, "visible after %.1f ms", c->ms);
		else
			busy[n++] = *c;
	}
	qsort(busy, n, sizeof(busy[0]), by_ms);
	(void)snprintf(name, sizeof(name), "the %zu other changes", n);
	if (n > 0)
		demo_fact(name, "visible after %.1f ms (median), %.1f ms (slowest)", busy[n / 2].ms, busy[n - 1].ms);
	if (unseen > 0)
		demo_fact("changes never seen", "%zu", unseen);
	return unseen == 0;
}
