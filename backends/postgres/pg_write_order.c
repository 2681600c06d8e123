/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: which operations of a batch may share a statement. Each has a level: those of
 * one level do not care about each other, those that do come one level after the other. Within a
 * level and a kind every host has the same order. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "backends/postgres/pg_writing.h"
#include "base/secret.h"

/* A resource as it was used last: by that use, at levels from first on, at most at last. */
struct usage {
	uint64_t hash; /* 0: free. Two resources of one hash only wait for each other in vain */
	uint32_t first, last;
	uint8_t use;
};

struct usages {
	struct usage *table;
	size_t mask;
};

static uint64_t mix(uint64_t hash, struct shmeta_str text)
{
	return XXH3_64bits_withSeed(text.data != NULL ? text.data : "", text.bytes, hash ^ shmeta__secret());
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
	return XXH3_64bits_withSeed(&number, sizeof number, hash ^ shmeta__secret());
}

static uint64_t hash_of(const struct write_item *item, enum write_resource resource)
{
	const struct shmeta_op *op = item->op->op, *object = item->object != NULL ? item->object : op;
	struct shmeta_str topic = item->kind == KIND_TOPIC_CREATE ? op->u.topic.name : op->name;
	struct shmeta_str agent = item->kind == KIND_AGENT_PUT ? op->u.agent.agent_id : op->agent_id;
	uint64_t hash = mix_number(0, resource);

	switch (resource) {
	case RES_TOPIC:
		hash = mix(mix(hash, item->op->tenant), topic);
		break;
	case RES_DATA:
	case RES_LEASE:
	/* one tenant's place may be another's in a database that does not keep them apart */
	case RES_BASE:
		hash = mix_number(mix(hash, topic), op->partition_id);
		if (resource == RES_BASE)
			hash = mix_number(hash, op->u.segment.base_offset);
		break;
	case RES_ID:
		hash = mix(hash, op->u.segment.id);
		break;
	case RES_GROUP:
		hash = mix(hash, item->kind == KIND_OFFSET ? op->u.committed.group_id : op->group_id);
		break;
	case RES_AGENT:
		hash = mix(hash, agent);
		break;
	case RES_TO_AGENT:
		hash = mix(mix_number(0, RES_AGENT), op->to_agent_id);
		break;
	case RES_ADDRESS:
		hash = mix(hash, op->u.agent.address);
		break;
	case RES_TRANSFER:
		hash = mix_number(hash, op->transfer_id);
		break;
	case RES_OBJECT:
		hash = mix(mix(mix(hash, item->op->tenant), object->u.object.s3_bucket), object->u.object.s3_key);
		break;
	case RES_LEASES:
	case RES_AGENTS:
	case RES_TRANSFERS:
	case RES_SLICES:
	case RES_NONE:
		break;
	}
	return hash | 1;
}

uint64_t pg_write_resource_hash(const struct write_item *item)
{
	const struct write_touch *touches = pg_write_touches((enum write_kind)item->kind);
	size_t i = 0;

	while (i + 1 < TOUCHES_MAX && touches[i].use == USE_SHARED && touches[i + 1].resource != RES_NONE)
		i++;
	return hash_of(item, (enum write_resource)touches[i].resource);
}

static struct usage *usage_of(struct usages *usages, uint64_t hash)
{
	size_t at = (size_t)hash & usages->mask;

	while (usages->table[at].hash != 0 && usages->table[at].hash != hash)
		at = (at + 1) & usages->mask;
	return &usages->table[at];
}

/* Below which level it may not be. */
static uint32_t bound(const struct usage *usage, uint8_t use)
{
	if (usage->hash == 0)
		return 0;
	if (usage->use != use || use == USE_EXCLUSIVE)
		return usage->last + 1;
	return use == USE_SHARED ? usage->first : usage->last;
}

static void place(struct usages *usages, struct write_item *item)
{
	static const struct write_touch fence[] = {{RES_LEASE, USE_SHARED}, {RES_LEASES, USE_SHARED}};
	const struct write_touch *touches = pg_write_touches((enum write_kind)item->kind);
	struct write_touch all[TOUCHES_MAX + 2];
	uint64_t hashes[TOUCHES_MAX + 2];
	size_t count = 0;

	for (size_t i = 0; i < TOUCHES_MAX && touches[i].resource != RES_NONE; i++)
		all[count++] = touches[i];
	if (item->op->op->fence.agent_id.bytes > 0) {
		all[count++] = fence[0];
		all[count++] = fence[1];
	}
	item->level = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t least;

		hashes[i] = hash_of(item, (enum write_resource)all[i].resource);
		least = bound(usage_of(usages, hashes[i]), all[i].use);
		if (item->level < least)
			item->level = least;
	}
	for (size_t i = 0; i < count; i++) {
		struct usage *usage = usage_of(usages, hashes[i]);

		if (usage->hash == 0)
			*usage = (struct usage){.hash = hashes[i], .use = all[i].use};
		else if (usage->use != all[i].use || all[i].use == USE_EXCLUSIVE)
			*usage = (struct usage){.hash = hashes[i], .use = all[i].use, .first = usage->last + 1};
		if (usage->last < item->level)
			usage->last = item->level;
	}
}

static int compare_items(const void *a, const void *b)
{
	const struct write_item *x = a, *y = b;

	if (x->level != y->level)
		return x->level < y->level ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->suspect != y->suspect)
		return x->suspect ? 1 : -1;
	/* Those that wrote the same segments' keys in another order would wait for each other; as
	 * they are sent they are written. */
	if (pg_write_is_add((enum write_kind)x->kind)) {
		const struct shmeta_op *a_op = x->op->op, *b_op = y->op->op;
		int by_topic = rows_compare(a_op->name, b_op->name);

		if (by_topic != 0)
			return by_topic;
		if (a_op->partition_id != b_op->partition_id)
			return a_op->partition_id < b_op->partition_id ? -1 : 1;
		if (a_op->u.segment.base_offset != b_op->u.segment.base_offset)
			return a_op->u.segment.base_offset < b_op->u.segment.base_offset ? -1 : 1;
	}
	return x->index < y->index ? -1 : x->index > y->index;
}

bool pg_write_order(struct writing *w)
{
	struct usages usages = {.mask = 1};

	if (w->item_count <= 1)
		return true;
	while (usages.mask < w->item_count * 2 * (TOUCHES_MAX + 2))
		usages.mask *= 2;
	usages.table = calloc(usages.mask--, sizeof *usages.table);
	if (usages.table == NULL)
		return false;
	for (size_t i = 0; i < w->item_count; i++)
		place(&usages, &w->items[i]);
	free(usages.table);
	qsort(w->items, w->item_count, sizeof *w->items, compare_items);
	return true;
}
