/* SPDX-License-Identifier: Apache-2.0
 * Resident records (resident_set.h): a hash table from keys to slots, and a stack of free slots. */
#include "writer/resident/resident_set.h"

#include "base/probes.h"
#include "base/secret.h"

#include <stdlib.h>

#define NO_SLOT UINT32_MAX

struct resident_set {
	struct policy *policy;
	struct resident_budget budget;
	uint8_t *used;   /* by slot: scratch of resident_touch() */
	uint64_t *due;   /* by slot, 0: never; NULL: nothing expires */
	uint8_t *in_use; /* by slot: since due was set. There when due is */
	uint64_t *key;   /* by slot */
	uint64_t *came;  /* by slot */
	uint64_t now_ns; /* resident_clock() */
	uint32_t *chain; /* by slot: the next one of the same bucket */
	uint32_t *head;  /* by bucket */
	uint32_t *free;  /* a stack of slots */
	uint32_t slots, free_count, buckets;
};

static uint64_t hash_of(uint64_t key)
{
	key ^= key >> 31;
	key *= UINT64_C(0x9E3779B97F4A7C15);
	return key ^ key >> 29;
}

static uint32_t *bucket_of(const struct resident_set *r, uint64_t key)
{
	return &r->head[shmeta__secret_hash(key) & (r->buckets - 1)];
}

static uint32_t find(const struct resident_set *r, uint64_t key)
{
	uint32_t slot = *bucket_of(r, key);

	while (slot != NO_SLOT && r->key[slot] != key)
		slot = r->chain[slot];
	return slot;
}

struct resident_set *resident_new(const struct resident_budget *budget, uint32_t spare)
{
	struct resident_set *r = calloc(1, sizeof *r);
	struct policy_config config = policy_defaults;
	uint64_t slots = (uint64_t)budget->max_topics + budget->max_partitions + spare;

	if (r == NULL || slots >= NO_SLOT / 2) {
		free(r);
		return NULL;
	}
	r->slots = (uint32_t)slots;
	r->budget = *budget;
	config.slots = r->slots;
	config.max_bytes = budget->max_bytes;
	config.class_bytes[POLICY_PARTITION] = budget->max_segment_bytes;
	config.class_records[POLICY_PARTITION] = budget->max_partitions;
	config.class_records[POLICY_TOPIC] = budget->max_topics;
	config.batch_percent = budget->batch_percent;
	config.hot_touches = budget->hot_touches;
	for (r->buckets = 64; r->buckets < r->slots; r->buckets *= 2)
		;
	r->policy = policy_new(&config);
	r->key = malloc(r->slots * sizeof *r->key);
	r->came = calloc(r->slots, sizeof *r->came);
	r->chain = malloc(r->slots * sizeof *r->chain);
	r->used = calloc(r->slots, 1);
	r->free = malloc(r->slots * sizeof *r->free);
	r->head = malloc(r->buckets * sizeof *r->head);
	if (r->policy == NULL || r->key == NULL || r->came == NULL || r->chain == NULL || r->used == NULL ||
	    r->free == NULL || r->head == NULL) {
		resident_free(r);
		return NULL;
	}
	for (uint32_t i = 0; i < r->buckets; i++)
		r->head[i] = NO_SLOT;
	for (uint32_t i = r->slots; i > 0; i--)
		r->free[r->free_count++] = i - 1;
	return r;
}

void resident_free(struct resident_set *r)
{
	if (r == NULL)
		return;
	policy_free(r->policy);
	free(r->key);
	free(r->came);
	free(r->chain);
	free(r->used);
	free(r->due);
	free(r->in_use);
	free(r->free);
	free(r->head);
	free(r);
}

bool resident_has(const struct resident_set *r, uint64_t key)
{
	return find(r, key) != NO_SLOT;
}

void resident_clock(struct resident_set *r, uint64_t now_ns)
{
	r->now_ns = now_ns;
}

static bool put(struct resident_set *r, uint64_t key, uint64_t all_bytes, bool passing)
{
	enum policy_class class = (uint32_t)key == RESIDENT_TOPIC ? POLICY_TOPIC : POLICY_PARTITION;
	uint32_t slot = find(r, key), *bucket, bytes = all_bytes < UINT32_MAX ? (uint32_t)all_bytes : UINT32_MAX;

	if (slot == NO_SLOT) {
		if (r->free_count == 0)
			return false;
		slot = r->free[--r->free_count];
		bucket = bucket_of(r, key);
		r->key[slot] = key;
		r->came[slot] = r->now_ns;
		r->chain[slot] = *bucket;
		*bucket = slot;
	}
	(void)(passing ? policy_pass(r->policy, slot, class, bytes)
	               : policy_add(r->policy, slot, class, bytes, hash_of(key)));
	return true;
}

bool resident_put(struct resident_set *r, uint64_t key, uint64_t bytes)
{
	return put(r, key, bytes, false);
}

bool resident_pass(struct resident_set *r, uint64_t key, uint64_t bytes)
{
	return put(r, key, bytes, true);
}

void resident_drop(struct resident_set *r, uint64_t key)
{
	uint32_t *at = bucket_of(r, key), slot;

	while (*at != NO_SLOT && r->key[*at] != key)
		at = &r->chain[*at];
	slot = *at;
	if (slot == NO_SLOT)
		return;
	*at = r->chain[slot];
	if (r->due != NULL)
		r->due[slot] = 0;
	if (policy_place(r->policy, slot).victim)
		policy_evicted(r->policy, slot, hash_of(key));
	else
		policy_remove(r->policy, slot);
	r->free[r->free_count++] = slot;
}

void resident_expires(struct resident_set *r, uint64_t key, uint64_t due_ns)
{
	uint32_t slot = find(r, key);

	/* Where nothing ever expires, no record has room for it. Without memory, what is used is
	 * read when somebody asks for it. */
	if (r->due == NULL && due_ns != 0) {
		r->in_use = calloc(r->slots, 1);
		r->due = r->in_use == NULL ? NULL : calloc(r->slots, sizeof *r->due);
	}
	if (r->due == NULL || slot == NO_SLOT)
		return;
	r->due[slot] = due_ns;
	r->in_use[slot] = 0;
}

size_t resident_due(struct resident_set *r, uint64_t now_ns, uint64_t again_ns, uint64_t *ret_keys, size_t n)
{
	size_t count = 0;

	for (uint32_t slot = 0; r->due != NULL && slot < r->slots && count < n; slot++) {
		if (r->due[slot] == 0 || r->due[slot] > now_ns || !r->in_use[slot])
			continue;
		r->due[slot] = again_ns;
		ret_keys[count++] = r->key[slot];
	}
	return count;
}

void resident_tick(struct resident_set *r)
{
	policy_tick(r->policy);
}

/* Of a store's content, what is not of the records. */
static uint64_t beside(const struct resident_set *r, uint64_t content_bytes)
{
	uint64_t bytes = policy_bytes(r->policy);

	return content_bytes > bytes ? content_bytes - bytes : 0;
}

bool resident_exceeds(const struct resident_set *r, uint64_t content_bytes)
{
	return policy_exceeds(r->policy, beside(r, content_bytes));
}

void resident_touch(struct resident_set *r, bool (*was_used)(void *arg, uint64_t key), void *arg)
{
	for (uint32_t bucket = 0; bucket < r->buckets; bucket++)
		for (uint32_t slot = r->head[bucket], topic; slot != NO_SLOT; slot = r->chain[slot]) {
			if (!was_used(arg, r->key[slot]))
				continue;
			r->used[slot] = 1;
			if (r->in_use != NULL)
				r->in_use[slot] = 1;
			topic = find(r, r->key[slot] | RESIDENT_TOPIC);
			if (topic != NO_SLOT)
				r->used[topic] = 1;
		}
	policy_touch_map(r->policy, r->used, r->slots);
}

static size_t victims(struct resident_set *r, enum policy_level level, uint64_t content_bytes, uint64_t *ret_keys,
                      size_t n)
{
	enum { AT_ONCE = 256 };
	uint32_t slots[AT_ONCE], count;

	count = policy_victims(r->policy, level, beside(r, content_bytes), slots, n < AT_ONCE ? (uint32_t)n : AT_ONCE);
	for (uint32_t i = 0; i < count; i++)
		ret_keys[i] = r->key[slots[i]];
	shmeta_probe_evict(count);
	return count;
}

size_t resident_victims(struct resident_set *r, uint64_t content_bytes, bool room, uint64_t *ret_keys, size_t n)
{
	return victims(r, room && r->free_count == 0 ? POLICY_HIGH : POLICY_NORMAL, content_bytes, ret_keys, n);
}

enum policy_level resident_level(const struct resident_set *r, uint64_t used_bytes, uint64_t limit_bytes)
{
	return policy_level(r->policy, used_bytes, limit_bytes);
}

uint64_t resident_relief(const struct resident_set *r, enum policy_level level, uint64_t content_bytes)
{
	return policy_relief(r->policy, level, content_bytes);
}

size_t resident_relieve(struct resident_set *r, enum policy_level level, uint64_t content_bytes, uint64_t *ret_keys,
                        size_t n)
{
	return victims(r, level, content_bytes, ret_keys, n);
}

struct resident_place resident_place(const struct resident_set *r, uint64_t key)
{
	uint32_t slot = find(r, key);
	struct resident_place place = {.before = 0};

	if (slot == NO_SLOT)
		return place;
	place.policy = policy_place(r->policy, slot);
	place.before = policy_before(r->policy, slot, &place.of);
	place.came_ns = r->came[slot];
	return place;
}

enum policy_why resident_why(const struct resident_set *r, uint64_t key)
{
	uint32_t slot = find(r, key);

	return slot != NO_SLOT ? policy_place(r->policy, slot).why : POLICY_STAYS;
}

uint32_t resident_topics(const struct resident_set *r)
{
	return policy_class_records(r->policy, POLICY_TOPIC);
}

uint32_t resident_partitions(const struct resident_set *r)
{
	return policy_class_records(r->policy, POLICY_PARTITION);
}

uint64_t resident_segment_bytes(const struct resident_set *r)
{
	return policy_class_bytes(r->policy, POLICY_PARTITION);
}

uint64_t resident_bytes(const struct resident_set *r)
{
	return policy_bytes(r->policy);
}
