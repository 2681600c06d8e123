/* SPDX-License-Identifier: Apache-2.0
 * Caches to compare with. */
#include "bench/caches.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

#define NONE UINT32_MAX

static void *array(size_t count, size_t bytes)
{
	void *p = calloc(count, bytes);

	if (p == NULL)
		die("out of memory");
	return p;
}

/* ---- lists of keys: the newest first ---- */

struct links {
	uint32_t *newer, *older;
};

struct keys {
	uint32_t first, last, count;
};

static void list_push(struct links *l, struct keys *list, uint32_t key)
{
	l->newer[key] = NONE;
	l->older[key] = list->first;
	if (list->first != NONE)
		l->newer[list->first] = key;
	else
		list->last = key;
	list->first = key;
	list->count++;
}

static void list_take(struct links *l, struct keys *list, uint32_t key)
{
	if (l->newer[key] != NONE)
		l->older[l->newer[key]] = l->older[key];
	else
		list->first = l->older[key];
	if (l->older[key] != NONE)
		l->newer[l->older[key]] = l->newer[key];
	else
		list->last = l->newer[key];
	list->count--;
}

static const struct keys empty = {NONE, NONE, 0};

static struct links links_new(uint32_t keys)
{
	return (struct links){array(keys, sizeof(uint32_t)), array(keys, sizeof(uint32_t))};
}

static void links_free(struct links *l)
{
	free(l->newer);
	free(l->older);
}

double cache_lru(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room)
{
	struct links l = links_new(keys);
	struct keys list = empty;
	bool *in = array(keys, sizeof *in);
	uint32_t hits = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = key[i];

		if (in[k]) {
			hits += i >= from;
			list_take(&l, &list, k);
		} else if (list.count == room) {
			uint32_t oldest = list.last;

			list_take(&l, &list, oldest);
			in[oldest] = false;
		}
		in[k] = true;
		list_push(&l, &list, k);
	}
	links_free(&l);
	free(in);
	return (double)hits / (count - from);
}

/* ---- W-TinyLFU: a window of 1 percent, a main part of 20 percent probation and 80 percent
 * protected, and a sketch ---- */

enum { ROWS = 4, SKETCH_MAX = 15 };
enum place { OUT, WINDOW, PROBATION, PROTECTED, PARTS };

struct wtinylfu {
	struct links links;
	struct keys list[PARTS];
	uint8_t *part, *sketch;
	uint32_t columns, counted, window_room, protected_room, room;
};

static uint8_t *cell(struct wtinylfu *w, uint32_t key, int row)
{
	uint64_t hash = (key + 1) * (UINT64_C(0x9E3779B97F4A7C15) + 2 * (uint64_t)row * UINT64_C(0x5851F42D4C957F2D));

	return &w->sketch[(size_t)row * w->columns + ((hash >> 32 ^ hash >> 13) & (w->columns - 1))];
}

static uint8_t frequency(struct wtinylfu *w, uint32_t key)
{
	uint8_t least = SKETCH_MAX;

	for (int row = 0; row < ROWS; row++)
		least = *cell(w, key, row) < least ? *cell(w, key, row) : least;
	return least;
}

static void count_use(struct wtinylfu *w, uint32_t key)
{
	uint8_t least = frequency(w, key);

	for (int row = 0; row < ROWS; row++)
		if (*cell(w, key, row) == least && least < SKETCH_MAX)
			(*cell(w, key, row))++;
	if (++w->counted < 10 * w->room)
		return;
	w->counted /= 2;
	for (size_t i = 0; i < (size_t)ROWS * w->columns; i++)
		w->sketch[i] /= 2;
}

static void move(struct wtinylfu *w, uint32_t key, enum place to)
{
	if (w->part[key] != OUT)
		list_take(&w->links, &w->list[w->part[key]], key);
	w->part[key] = (uint8_t)to;
	if (to != OUT)
		list_push(&w->links, &w->list[to], key);
}

static void use(struct wtinylfu *w, uint32_t key)
{
	count_use(w, key);
	if (w->part[key] == OUT)
		return; /* it has left since it was used */
	move(w, key, w->part[key] == WINDOW ? WINDOW : PROTECTED);
	if (w->list[PROTECTED].count > w->protected_room)
		move(w, w->list[PROTECTED].last, PROBATION);
}

static void bring_in(struct wtinylfu *w, uint32_t key)
{
	uint32_t candidate, victim;

	count_use(w, key);
	move(w, key, WINDOW);
	if (w->list[WINDOW].count <= w->window_room)
		return;
	candidate = w->list[WINDOW].last;
	if (w->list[WINDOW].count + w->list[PROBATION].count + w->list[PROTECTED].count <= w->room) {
		move(w, candidate, PROBATION);
		return;
	}
	victim = w->list[PROBATION].last != NONE ? w->list[PROBATION].last : w->list[PROTECTED].last;
	if (frequency(w, candidate) > frequency(w, victim)) {
		move(w, victim, OUT);
		move(w, candidate, PROBATION);
	} else {
		move(w, candidate, OUT);
	}
}

double cache_wtinylfu(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room, uint32_t every)
{
	struct wtinylfu w = {.links = links_new(keys), .part = array(keys, 1), .columns = 1, .room = room};
	bool *used = array(keys, sizeof *used);
	uint32_t *order = array(every, sizeof *order), waiting = 0, hits = 0;

	while (w.columns < room)
		w.columns *= 2;
	w.sketch = array((size_t)ROWS * w.columns, 1);
	w.window_room = room / 100 > 0 ? room / 100 : 1;
	w.protected_room = (room - w.window_room) / 5 * 4;
	for (int p = 0; p < PARTS; p++)
		w.list[p] = empty;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = key[i];

		if (w.part[k] == OUT) {
			bring_in(&w, k);
		} else {
			hits += i >= from;
			if (!used[k]) {
				used[k] = true;
				order[waiting++] = k;
			}
		}
		if (i % every == every - 1)
			while (waiting > 0) {
				used[order[--waiting]] = false;
				use(&w, order[waiting]);
			}
	}
	links_free(&w.links);
	free(w.part);
	free(w.sketch);
	free(used);
	free(order);
	return (double)hits / (count - from);
}

/* ---- Belady's optimum: what is used last leaves ---- */

enum { LEVELS = 5 }; /* 64^5 times */

/* A set of times, as a tree of words whose bits say which of their 64 children hold a time. */
struct times {
	uint64_t *word[LEVELS]; /* from the leaves up */
};

static struct times times_new(uint32_t count)
{
	struct times t;
	size_t words = count;

	for (int i = 0; i < LEVELS; i++)
		t.word[i] = array((words = words / 64 + 1), sizeof(uint64_t));
	return t;
}

static void times_add(struct times *t, uint32_t time)
{
	for (int i = 0; i < LEVELS; i++, time /= 64)
		t->word[i][time / 64] |= UINT64_C(1) << time % 64;
}

static void times_remove(struct times *t, uint32_t time)
{
	for (int i = 0; i < LEVELS; i++, time /= 64) {
		t->word[i][time / 64] &= ~(UINT64_C(1) << time % 64);
		if (t->word[i][time / 64] != 0)
			return;
	}
}

static uint32_t times_last(const struct times *t)
{
	uint32_t at = 0;

	for (int i = LEVELS - 1; i >= 0; i--)
		at = at * 64 + 63 - (uint32_t)__builtin_clzll(t->word[i][at]);
	return at;
}

/* A key that is resident is found by the time of its next use; keys without one are not worth a
 * place. */
double cache_optimum(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room)
{
	uint32_t *next = array(count, sizeof *next), *seen = array(keys, sizeof *seen), resident = 0, hits = 0;
	struct times times = times_new(count);
	bool *in = array(keys, sizeof *in);

	memset(seen, 0xff, keys * sizeof *seen);
	for (uint32_t i = count; i > 0; i--) {
		next[i - 1] = seen[key[i - 1]];
		seen[key[i - 1]] = i - 1;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = key[i];

		if (in[k]) {
			hits += i >= from;
			times_remove(&times, i);
			in[k] = false;
			resident--;
		}
		if (next[i] == NONE)
			continue;
		if (resident == room) {
			uint32_t last = times_last(&times);

			if (last < next[i])
				continue;
			times_remove(&times, last);
			in[key[last]] = false;
			resident--;
		}
		times_add(&times, next[i]);
		in[k] = true;
		resident++;
	}
	for (int i = 0; i < LEVELS; i++)
		free(times.word[i]);
	free(next);
	free(seen);
	free(in);
	return (double)hits / (count - from);
}
