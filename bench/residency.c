/* SPDX-License-Identifier: Apache-2.0
 * Hit rates of writer/resident/policy.c itself, fed by touch maps as the daemon feeds it, against
 * exact LRU, W-TinyLFU and Belady's optimum; and what a touch costs a reader. No daemon and no
 * data. */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/caches.h"
#include "bench/plot.h"
#include "bench/traces.h"
#include "shm/page/touch.h"
#include "writer/resident/policy.h"

enum { KEYS = 1000000, ROOM = 100000, READERS = 4, RECORD = 200 };
/* After so many lookups the maps are collected, besides when victims are chosen: one second of a
 * host that does few. */
enum { COLLECT_EVERY = 20000, WTINYLFU_EVERY = 5000 };

#define NONE UINT32_MAX

static void *pages(uint32_t ceiling)
{
	void *map = aligned_alloc(4096, touch_file_bytes(ceiling));

	if (map == NULL)
		die("out of memory");
	memset(map, 0, touch_file_bytes(ceiling));
	touch_init(map, ceiling, 1);
	return map;
}

/* The readers, and what the writer knows. */
struct host {
	struct policy *policy;
	void *map[READERS];
	struct touch_view view[READERS];
	uint8_t *seen;
	uint32_t *slot_of, *key_in, *free_slot, *victim;
	uint32_t room, free_count;
};

static void collect(struct host *h)
{
	for (int i = 0; i < READERS; i++)
		(void)touch_collect(h->map[i], h->room, h->seen);
	policy_touch_map(h->policy, h->seen, h->room);
}

static void make_room(struct host *h)
{
	uint32_t n;

	collect(h);
	n = policy_victims(h->policy, POLICY_NORMAL, RECORD, h->victim, h->room);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = h->victim[i];

		policy_evicted(h->policy, slot, h->key_in[slot]);
		h->slot_of[h->key_in[slot]] = NONE;
		h->free_slot[h->free_count++] = slot;
	}
}

static double ours(const uint32_t *key, uint32_t count, uint32_t from, uint32_t room)
{
	struct policy_config config = policy_defaults;
	struct host h = {.room = room, .free_count = room};
	uint32_t hits = 0;

	config.slots = room;
	config.max_bytes = (uint64_t)room * RECORD;
	memset(config.class_bytes, 0, sizeof config.class_bytes);
	memset(config.class_records, 0, sizeof config.class_records);
	h.policy = policy_new(&config);
	h.seen = calloc(room, 1);
	h.slot_of = malloc(KEYS * sizeof(uint32_t));
	h.key_in = malloc(room * sizeof(uint32_t));
	h.free_slot = malloc(room * sizeof(uint32_t));
	h.victim = malloc(room * sizeof(uint32_t));
	if (h.policy == NULL || h.seen == NULL || h.slot_of == NULL || h.key_in == NULL || h.free_slot == NULL ||
	    h.victim == NULL)
		die("out of memory");
	memset(h.slot_of, 0xff, KEYS * sizeof(uint32_t));
	for (uint32_t i = 0; i < room; i++)
		h.free_slot[i] = room - 1 - i;
	for (int i = 0; i < READERS; i++) {
		h.map[i] = pages(room);
		h.view[i] = touch_view(h.map[i], touch_file_bytes(room), 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = key[i], slot = h.slot_of[k];

		if (slot != NONE) {
			hits += i >= from;
			touch_mark(h.view[i % READERS], slot);
		} else {
			if (policy_bytes(h.policy) + RECORD > config.max_bytes)
				make_room(&h);
			slot = h.free_slot[--h.free_count];
			h.slot_of[k] = slot;
			h.key_in[slot] = k;
			(void)policy_add(h.policy, slot, POLICY_PARTITION, RECORD, k);
		}
		if (i % COLLECT_EVERY == COLLECT_EVERY - 1)
			collect(&h);
	}
	for (int i = 0; i < READERS; i++)
		free(h.map[i]);
	policy_free(h.policy);
	free(h.seen);
	free(h.slot_of);
	free(h.key_in);
	free(h.free_slot);
	free(h.victim);
	return (double)hits / (count - from);
}

static void figure(const char *workload, const char *what, double value)
{
	char name[64];

	(void)snprintf(name, sizeof name, "policy.%s.%s", workload, what);
	result_value(result_add(name, "hit rate"), value);
}

static void workload(enum trace_kind kind, uint32_t count, uint64_t seed)
{
	const char *name = trace_names[kind];
	uint32_t *key = trace_make(kind, KEYS, ROOM, count, seed), from = count / 2;
	char mine[64], lru[64];

	figure(name, "ours", ours(key, count, from, ROOM));
	figure(name, "lru", cache_lru(key, count, from, KEYS, ROOM));
	figure(name, "wtinylfu", cache_wtinylfu(key, count, from, KEYS, ROOM, WTINYLFU_EVERY));
	figure(name, "optimum", cache_optimum(key, count, from, KEYS, ROOM));
	(void)snprintf(mine, sizeof mine, "policy.%s.ours", name);
	(void)snprintf(lru, sizeof lru, "policy.%s.lru", name);
	target_min_ratio(mine, 1, lru);
	free(key);
}

/* Miss ratios over sizes of the cache, for docs/sizing.md. */
static void plot(const char *path, uint32_t count, uint64_t seed)
{
	static const uint32_t percent[PLOT_POINTS] = {1, 2, 5, 10, 20, 40, 60};
	struct plot p = {
		.title = "Zipf 1.0 with 10 % scans, 1 000 000 keys",
		.x = "share of the keys that there is room for (percent)",
		.y = "miss ratio",
		.curves = {{.name = "exact LRU"}, {.name = "W-TinyLFU"}, {.name = "shmeta"}, {.name = "optimum"}}};
	uint32_t *key = trace_make(TRACE_SCAN, KEYS, ROOM, count, seed), from = count / 2;

	for (int i = 0; i < PLOT_POINTS; i++) {
		uint32_t room = KEYS / 100 * percent[i];

		p.at[i] = percent[i];
		p.curves[0].value[i] = 1 - cache_lru(key, count, from, KEYS, room);
		p.curves[1].value[i] = 1 - cache_wtinylfu(key, count, from, KEYS, room, WTINYLFU_EVERY);
		p.curves[2].value[i] = 1 - ours(key, count, from, room);
		p.curves[3].value[i] = 1 - cache_optimum(key, count, from, KEYS, room);
	}
	free(key);
	if (plot_write(&p, path) != 0)
		die("%s could not be written", path);
}

/* ---- what a touch costs a reader: the same walk over random slots with a mark and without ---- */

static double walk(const uint32_t *slot, uint32_t count, struct touch_view view, bool marks)
{
	double start = cpu_s();
	uint32_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		sum += slot[i];
		if (marks)
			touch_mark(view, slot[i]);
	}
	keep(&sum);
	return (cpu_s() - start) * 1e9 / count;
}

static void feedback(int rounds, uint64_t seed)
{
	struct result *r = result_add("feedback.ns_per_lookup", "ns"), *c = result_add("feedback.collect", "us");
	void *map = pages(KEYS);
	struct touch_view view = touch_view(map, touch_file_bytes(KEYS), 1);
	uint32_t *slot = malloc(4 * KEYS * sizeof *slot);
	uint8_t *seen = calloc(KEYS, 1);

	if (slot == NULL || seen == NULL)
		die("out of memory");
	for (uint32_t i = 0; i < 4 * KEYS; i++)
		slot[i] = (uint32_t)(rng(&seed) % KEYS);
	for (int i = 0; i < rounds; i++) {
		double without = walk(slot, 4 * KEYS, view, false), with = walk(slot, 4 * KEYS, view, true), start;

		result_value(r, with - without);
		start = cpu_s();
		(void)touch_collect(map, KEYS, seen);
		result_value(c, (cpu_s() - start) * 1e6);
	}
	target_max("feedback.ns_per_lookup", 3);
	free(map);
	free(slot);
	free(seen);
}

void bench_policy(struct bench *b)
{
	uint32_t count = b->quick ? 4000000 : 10000000;

	for (int kind = 0; kind < TRACE_KINDS; kind++)
		workload((enum trace_kind)kind, count, b->seed + (uint64_t)kind);
	feedback(b->rounds, b->seed);
	if (b->plot != NULL)
		plot(b->plot, count, b->seed);
}
