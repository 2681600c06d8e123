/* SPDX-License-Identifier: Apache-2.0
 * SHARDS, Waldspurger et al., FAST 2015: distances between accesses to sampled keys, divided by the
 * rate of sampling. The distance is the bytes of the keys that were used since; a Fenwick tree over
 * the order of last accesses sums them. */
#include "writer/resident/curve.h"

#include "base/secret.h"

#include <stdlib.h>
#include <string.h>

enum { KEYS_MIN = 64, KEYS_MAX = 1048576, PER_OCTAVE = 16, BUCKETS = 48 * PER_OCTAVE };

/* Of mixed hashes; a key is sampled when its own is below the threshold. */
#define RANGE (UINT64_C(1) << 32)

struct key {
	uint64_t hash;  /* mixed; 0: none */
	uint32_t place; /* in the order of last accesses, from 1 on */
	uint32_t bytes;
};

struct curve {
	uint32_t keys, used;
	uint32_t slots; /* of the table of keys, a power of two */
	uint32_t places, newest;
	uint64_t threshold;
	struct key *key;
	uint32_t *order;     /* place to slot + 1; 0: the key was used again since */
	uint64_t *tree;      /* Fenwick, bytes by place */
	double all, sampled; /* accesses: all, and those to keys of the sample */
	double by_distance[BUCKETS];
};

static uint64_t mix(uint64_t hash)
{
	hash = (hash ^ hash >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	hash = (hash ^ hash >> 27) * UINT64_C(0x94D049BB133111EB);
	hash ^= hash >> 31;
	return hash != 0 ? hash : 1;
}

static bool is_sampled(const struct curve *c, uint64_t mixed)
{
	return mixed >> 32 < c->threshold;
}

bool curve_wants(const struct curve *c, uint64_t hash)
{
	return is_sampled(c, mix(hash));
}

struct curve *curve_new(uint32_t keys)
{
	struct curve *c = calloc(1, sizeof *c);

	if (c == NULL || keys < KEYS_MIN || keys > KEYS_MAX) {
		free(c);
		return NULL;
	}
	c->keys = keys;
	c->threshold = RANGE;
	c->places = 2 * keys;
	c->slots = 2;
	while (c->slots < 2 * keys)
		c->slots *= 2;
	c->key = calloc(c->slots, sizeof *c->key);
	c->order = calloc(c->places + 1, sizeof *c->order);
	c->tree = calloc(c->places + 1, sizeof *c->tree);
	if (c->key == NULL || c->order == NULL || c->tree == NULL) {
		curve_free(c);
		return NULL;
	}
	return c;
}

void curve_free(struct curve *c)
{
	if (c == NULL)
		return;
	free(c->key);
	free(c->order);
	free(c->tree);
	free(c);
}

uint64_t curve_memory_bytes(const struct curve *c)
{
	return sizeof *c + (uint64_t)c->slots * sizeof *c->key +
	       (uint64_t)(c->places + 1) * (sizeof *c->order + sizeof *c->tree);
}

static void tree_add(struct curve *c, uint32_t place, uint64_t bytes)
{
	for (; place <= c->places; place += place & -place)
		c->tree[place] += bytes; /* modulo 2^64: a negative number takes away */
}

static uint64_t tree_sum(const struct curve *c, uint32_t place)
{
	uint64_t sum = 0;

	for (; place > 0; place -= place & -place)
		sum += c->tree[place];
	return sum;
}

static uint32_t slot_of(const struct curve *c, uint64_t mixed)
{
	uint32_t slot = (uint32_t)shmeta__secret_hash(mixed) & (c->slots - 1);

	while (c->key[slot].hash != 0 && c->key[slot].hash != mixed)
		slot = (slot + 1) & (c->slots - 1);
	return slot;
}

/* Give the keys that are still sampled the places 1, 2, ... in the same order, and a table without
 * the others. false: no memory, and nothing has changed. */
static bool rebuild(struct curve *c)
{
	struct key *old = malloc(((size_t)c->used + 1) * sizeof *old);
	uint32_t n = 0;

	if (old == NULL)
		return false;
	for (uint32_t place = 1; place <= c->newest; place++)
		if (c->order[place] != 0 && is_sampled(c, c->key[c->order[place] - 1].hash))
			old[n++] = c->key[c->order[place] - 1];
	memset(c->key, 0, c->slots * sizeof *c->key);
	memset(c->order, 0, (c->places + 1) * sizeof *c->order);
	memset(c->tree, 0, (c->places + 1) * sizeof *c->tree);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = slot_of(c, old[i].hash);

		c->key[slot] = old[i];
		c->key[slot].place = i + 1;
		c->order[i + 1] = slot + 1;
		tree_add(c, i + 1, old[i].bytes);
	}
	c->used = c->newest = n;
	free(old);
	return true;
}

static void lower_threshold(struct curve *c)
{
	uint64_t old = c->threshold;

	c->threshold -= c->threshold / 8;
	if (!rebuild(c)) {
		c->threshold = old;
		return;
	}
	/* What was counted by more keys weighs as much as what fewer keys will count. */
	double factor = (double)c->threshold / (double)old;

	c->sampled *= factor;
	for (int i = 0; i < BUCKETS; i++)
		c->by_distance[i] *= factor;
}

static int bucket_of(double distance)
{
	int octave, part;
	uint64_t d = distance < 1 ? 1 : distance >= 140737488355328.0 ? UINT64_C(140737488355327) : (uint64_t)distance;

	octave = 63 - __builtin_clzll(d);
	part = (int)(octave >= 4 ? d >> (octave - 4) & 15 : d << (4 - octave) & 15);
	return octave * PER_OCTAVE + part;
}

/* The least distance that is in none of the buckets up to this one. */
static double bucket_end(int bucket)
{
	return (double)(UINT64_C(1) << bucket / PER_OCTAVE) * (1 + (bucket % PER_OCTAVE + 1) / (double)PER_OCTAVE);
}

void curve_access(struct curve *c, uint64_t hash, uint32_t bytes)
{
	uint64_t mixed = mix(hash);
	struct key *k;
	uint32_t slot;

	c->all++;
	if (!is_sampled(c, mixed))
		return;
	if (c->newest == c->places && !rebuild(c))
		return;
	slot = slot_of(c, mixed);
	if (c->key[slot].hash == 0 && c->used == c->keys) {
		lower_threshold(c);
		if (!is_sampled(c, mixed) || c->used == c->keys)
			return;
		slot = slot_of(c, mixed);
	}
	k = &c->key[slot];
	c->sampled++;
	if (k->hash == 0) {
		*k = (struct key){.hash = mixed};
		c->used++;
	} else {
		/* Bytes of keys used since, and its own. */
		double others = (double)(tree_sum(c, c->newest) - tree_sum(c, k->place));

		c->by_distance[bucket_of(others / curve_rate(c) + bytes)]++;
		tree_add(c, k->place, -(uint64_t)k->bytes);
		c->order[k->place] = 0;
	}
	k->place = ++c->newest;
	k->bytes = bytes;
	c->order[k->place] = slot + 1;
	tree_add(c, k->place, bytes);
}

void curve_age(struct curve *c)
{
	c->all /= 2;
	c->sampled /= 2;
	for (int i = 0; i < BUCKETS; i++)
		c->by_distance[i] /= 2;
}

double curve_rate(const struct curve *c)
{
	return (double)c->threshold / (double)RANGE;
}

double curve_miss_ratio(const struct curve *c, uint64_t budget_bytes)
{
	double expected = c->all * curve_rate(c), hits = 0, share;

	if (expected <= 0)
		return 1;
	for (int i = 0; i < BUCKETS && bucket_end(i) <= (double)budget_bytes; i++)
		hits += c->by_distance[i];
	/* More or fewer accesses were sampled than the rate says, because a few keys have most of
	 * them (SHARDS-adj): these are hits of short distance. */
	if (budget_bytes > 0)
		hits += expected - c->sampled;
	share = 1 - hits / expected;
	return share < 0 ? 0 : share > 1 ? 1 : share;
}
