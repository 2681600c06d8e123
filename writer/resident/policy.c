/* SPDX-License-Identifier: Apache-2.0
 * S3-FIFO over slots. A queue is a list that is linked through the entries: records enter at its
 * head and are looked at at its tail. */
#include "writer/resident/policy.h"

#include <stdlib.h>
#include <string.h>

enum queue { FREE, SMALL, MAIN, PASSING, VICTIM_OF_SMALL, VICTIM_OF_MAIN, VICTIM_OF_PASSING };
enum { QUEUES = 3, GHOSTS_PER_BUCKET = 8, BORN_BITS = 25 };

#define BORN(tick) ((uint32_t)(tick) & ((1U << BORN_BITS) - 1))

#define NONE UINT32_MAX

struct entry {
	uint32_t newer, older; /* in its queue; newer of a victim: enum policy_why */
	uint32_t bytes;
	uint32_t queue : 3; /* enum queue */
	uint32_t class : 2;
	uint32_t count : 2; /* touches, 0..POLICY_COUNT_MAX */
	/* The tick when it came, modulo 2^25. The cycle must be far longer than records stay: one
	 * whose tick comes round looks young again, and at the end of the small queue it turns all
	 * victims of a batch into those of the main queue. */
	uint32_t born : BORN_BITS;
};
_Static_assert(sizeof(struct entry) == 16, "the header promises 16 bytes per slot");

struct list {
	uint32_t head, tail;
	uint32_t records;
	uint64_t bytes;
};

/* A key that left the small queue not long ago: the bucket and this part of its hash stand for
 * it. */
struct ghost {
	uint32_t part; /* 0: none */
	uint32_t when; /* its number among the ghosts */
};

struct policy {
	struct policy_config config;
	struct entry *entry;
	struct list list[POLICY_CLASSES][QUEUES]; /* SMALL - 1, MAIN - 1, PASSING - 1 */
	struct {
		uint32_t records;
		uint64_t bytes;
	} victims[POLICY_CLASSES]; /* chosen, not yet evicted or kept */
	struct ghost *ghost;
	uint64_t buckets;
	uint32_t ghosts_made;
	uint64_t tick;
};

const struct policy_config policy_defaults = {
	.slots = 110000 + 64 * 1024 * 1024 / 4096,
	.max_bytes = UINT64_C(256) << 20,
	.class_bytes = {[POLICY_BLOCK] = UINT64_C(64) << 20},
	.class_records = {[POLICY_PARTITION] = 100000, [POLICY_TOPIC] = 10000},
	.batch_percent = 5,
	.hot_touches = 1,
	.passes = 3,
	.passing_part = 64,
	.level_percent = {70, 85, 95},
};

const char *policy_config_error(const struct policy_config *c)
{
	if (c->slots == 0 || c->slots == NONE)
		return "the number of slots must be at least 1 and below 4294967295";
	if (c->batch_percent < 1 || c->batch_percent > 50)
		return "the batch must be 1 to 50 percent of a budget";
	if (c->hot_touches < 1 || c->hot_touches > POLICY_COUNT_MAX)
		return "the touches that protect a record must be 1 to 3";
	if (c->passes < 1 || c->passes > 8)
		return "the passes must be 1 to 8";
	if (c->level_percent[0] > c->level_percent[1] || c->level_percent[1] > c->level_percent[2] ||
	    c->level_percent[2] > 100)
		return "the levels must ascend and be at most 100 percent";
	return NULL;
}

struct policy *policy_new(const struct policy_config *config)
{
	struct policy *p;

	if (policy_config_error(config) != NULL)
		return NULL;
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->config = *config;
	p->buckets = 1;
	while (p->buckets * GHOSTS_PER_BUCKET < config->slots)
		p->buckets *= 2;
	p->entry = calloc(config->slots, sizeof *p->entry);
	p->ghost = calloc(p->buckets * GHOSTS_PER_BUCKET, sizeof *p->ghost);
	if (p->entry == NULL || p->ghost == NULL) {
		policy_free(p);
		return NULL;
	}
	for (int c = 0; c < POLICY_CLASSES; c++)
		for (int q = 0; q < QUEUES; q++)
			p->list[c][q] = (struct list){.head = NONE, .tail = NONE};
	return p;
}

void policy_free(struct policy *p)
{
	if (p == NULL)
		return;
	free(p->entry);
	free(p->ghost);
	free(p);
}

bool policy_configure(struct policy *p, const struct policy_config *config)
{
	if (policy_config_error(config) != NULL || config->slots != p->config.slots)
		return false;
	p->config = *config;
	return true;
}

/* ---- queues ---- */

static bool in_queue(const struct entry *e)
{
	return e->queue >= SMALL && e->queue <= PASSING;
}

static bool is_victim(const struct entry *e)
{
	return e->queue >= VICTIM_OF_SMALL;
}

static struct list *list_of(struct policy *p, const struct entry *e)
{
	return &p->list[e->class][e->queue - SMALL];
}

static void push(struct policy *p, uint32_t slot, enum queue queue)
{
	struct entry *e = &p->entry[slot];
	struct list *l;

	e->queue = queue & 7U;
	l = list_of(p, e);
	e->newer = NONE;
	e->older = l->head;
	if (l->head != NONE)
		p->entry[l->head].newer = slot;
	else
		l->tail = slot;
	l->head = slot;
	l->records++;
	l->bytes += e->bytes;
}

static void unlink_entry(struct policy *p, uint32_t slot)
{
	struct entry *e = &p->entry[slot];
	struct list *l = list_of(p, e);

	if (e->newer != NONE)
		p->entry[e->newer].older = e->older;
	else
		l->head = e->older;
	if (e->older != NONE)
		p->entry[e->older].newer = e->newer;
	else
		l->tail = e->newer;
	l->records--;
	l->bytes -= e->bytes;
}

/* ---- ghosts ---- */

static struct ghost *bucket_of(const struct policy *p, uint64_t hash, uint32_t *ret_part)
{
	hash *= UINT64_C(0x9E3779B97F4A7C15);
	*ret_part = (uint32_t)(hash >> 32) | 1;
	return &p->ghost[((hash ^ hash >> 29) & (p->buckets - 1)) * GHOSTS_PER_BUCKET];
}

/* Ghosts are as many as there are records; older ones count no more. */
static bool ghost_lives(const struct policy *p, const struct ghost *g)
{
	uint32_t records = 0;

	for (int c = 0; c < POLICY_CLASSES; c++)
		records += p->list[c][SMALL - 1].records + p->list[c][MAIN - 1].records;
	return g->part != 0 && p->ghosts_made - g->when <= records;
}

static void ghost_make(struct policy *p, uint64_t hash)
{
	uint32_t part;
	struct ghost *g = bucket_of(p, hash, &part), *oldest = g;

	for (int i = 0; i < GHOSTS_PER_BUCKET; i++) {
		if (g[i].part == 0 || g[i].part == part) {
			oldest = &g[i];
			break;
		}
		if (p->ghosts_made - g[i].when > p->ghosts_made - oldest->when)
			oldest = &g[i];
	}
	*oldest = (struct ghost){part, p->ghosts_made++};
}

/* Was it one? Then it is one no more. */
static bool ghost_take(struct policy *p, uint64_t hash)
{
	uint32_t part;
	struct ghost *g = bucket_of(p, hash, &part);

	for (int i = 0; i < GHOSTS_PER_BUCKET; i++)
		if (g[i].part == part) {
			bool lives = ghost_lives(p, &g[i]);

			g[i].part = 0;
			return lives;
		}
	return false;
}

/* ---- records ---- */

static void resize(struct policy *p, struct entry *e, uint32_t bytes)
{
	uint64_t *sum = is_victim(e) ? &p->victims[e->class].bytes : &list_of(p, e)->bytes;

	*sum = *sum - e->bytes + bytes;
	e->bytes = bytes;
}

/* What both ways in have in common. *ret: it was resident before, and keeps its place. */
static bool enter(struct policy *p, uint32_t slot, enum policy_class class, uint32_t bytes, bool *ret)
{
	struct entry *e;

	if (slot >= p->config.slots || (unsigned)class >= POLICY_CLASSES)
		return false;
	e = &p->entry[slot];
	*ret = e->queue != FREE;
	if (*ret && e->class != class)
		return false;
	if (*ret)
		resize(p, e, bytes);
	else
		*e = (struct entry){.bytes = bytes, .class = class & 3U, .born = BORN(p->tick)};
	return true;
}

bool policy_add(struct policy *p, uint32_t slot, enum policy_class class, uint32_t bytes, uint64_t key_hash)
{
	bool was;

	if (!enter(p, slot, class, bytes, &was))
		return false;
	if (!was)
		push(p, slot, ghost_take(p, key_hash) ? MAIN : SMALL);
	return true;
}

bool policy_pass(struct policy *p, uint32_t slot, enum policy_class class, uint32_t bytes)
{
	bool was;

	if (!enter(p, slot, class, bytes, &was))
		return false;
	if (!was)
		push(p, slot, PASSING);
	return true;
}

static void forget_victim(struct policy *p, const struct entry *e)
{
	p->victims[e->class].records--;
	p->victims[e->class].bytes -= e->bytes;
}

void policy_remove(struct policy *p, uint32_t slot)
{
	if (slot >= p->config.slots)
		return;
	if (in_queue(&p->entry[slot]))
		unlink_entry(p, slot);
	else if (is_victim(&p->entry[slot]))
		forget_victim(p, &p->entry[slot]);
	p->entry[slot].queue = FREE;
}

void policy_tick(struct policy *p)
{
	p->tick++;
}

void policy_touch_map(struct policy *p, uint8_t *map, uint32_t n)
{
	uint64_t eight;

	n = n < p->config.slots ? n : p->config.slots;
	for (uint32_t i = 0; i < n; i++) {
		if (i % 8 == 0 && n - i >= 8) {
			memcpy(&eight, map + i, sizeof eight);
			if (eight == 0) {
				i += 7;
				continue;
			}
		}
		if (map[i] != 0 && p->entry[i].count < POLICY_COUNT_MAX)
			p->entry[i].count++;
		map[i] = 0;
	}
}

/* ---- victims ---- */

/* What still has to leave of a class, or of all. */
struct due {
	uint64_t bytes;
	uint32_t records;
};

struct choice {
	uint32_t *slots;
	uint32_t count, room;
	struct due due;
	enum policy_why why;
};

static bool is_done(const struct choice *c)
{
	return c->count == c->room || (c->due.bytes == 0 && c->due.records == 0);
}

static void choose(struct policy *p, struct choice *c, uint32_t slot)
{
	struct entry *e = &p->entry[slot];

	unlink_entry(p, slot);
	e->queue = (e->queue + (unsigned)(VICTIM_OF_SMALL - SMALL)) & 7U;
	e->newer = c->why;
	p->victims[e->class].records++;
	p->victims[e->class].bytes += e->bytes;
	c->slots[c->count++] = slot;
	c->due.bytes -= e->bytes < c->due.bytes ? e->bytes : c->due.bytes;
	c->due.records -= c->due.records > 0;
}

static bool small_has_its_part(const struct list *small, const struct list *main)
{
	return small->bytes * 100 > (small->bytes + main->bytes) * POLICY_SMALL_PERCENT;
}

/* Which records a pass takes. */
enum taken {
	UNTOUCHED, /* and none that is young */
	NOT_YOUNG,
	ALL
};

static bool is_young(const struct policy *p, const struct entry *e)
{
	return p->tick > 0 && BORN(p->tick - e->born) < POLICY_YOUNG_TICKS;
}

/* At whose end is the record to be looked at next? */
static bool small_is_next(const struct policy *p, const struct list *small, const struct list *main, enum taken taken)
{
	if (small->records == 0 || main->records == 0)
		return main->records == 0;
	if (taken != ALL && is_young(p, &p->entry[small->tail]))
		return false;
	return small_has_its_part(small, main);
}

/* Look at each record of the class at most once. */
static void pass(struct policy *p, enum policy_class class, enum taken taken, struct choice *c)
{
	const struct list *small = p->list[class], *main = small + 1;
	uint32_t looks = small->records + main->records, main_looks = main->records;

	for (; looks > 0 && !is_done(c); looks--) {
		bool is_small = small_is_next(p, small, main, taken);

		/* What is left of the small queue is young. */
		if (!is_small && small->records > 0 && is_young(p, &p->entry[small->tail]) && main_looks-- == 0)
			break;
		uint32_t slot = is_small ? small->tail : main->tail;
		struct entry *e = &p->entry[slot];
		bool young = taken != ALL && is_young(p, e);

		if (!young && (taken != UNTOUCHED || e->count < (is_small ? p->config.hot_touches : 1))) {
			choose(p, c, slot);
			continue;
		}
		unlink_entry(p, slot);
		if (!young)
			e->count = is_small ? 0 : e->count - 1;
		push(p, slot, young && is_small ? SMALL : MAIN);
	}
}

/* Of the records that pass, the oldest first. */
static void choose_passing(struct policy *p, unsigned classes, bool young, struct choice *c)
{
	for (int class = 0; class < POLICY_CLASSES; class ++) {
		const struct list *l = &p->list[class][PASSING - 1];

		while ((classes >> class & 1) != 0 && l->records > 0 && !is_done(c) &&
		       (young || !is_young(p, &p->entry[l->tail]))) {
			uint32_t slot = l->tail;

			if (p->entry[slot].count == 0) {
				choose(p, c, slot);
				continue;
			}
			/* It is used after all. */
			unlink_entry(p, slot);
			p->entry[slot].count = 0;
			push(p, slot, SMALL);
		}
	}
}

static void choose_of(struct policy *p, unsigned classes, struct choice *c)
{
	for (uint32_t n = 0; n <= p->config.passes + 1; n++)
		for (int class = 0; class < POLICY_CLASSES; class ++)
			if ((classes >> class & 1) != 0)
				pass(p, (enum policy_class) class,
				     n < p->config.passes    ? UNTOUCHED
				     : n == p->config.passes ? NOT_YOUNG
				                             : ALL,
				     c);
	choose_passing(p, classes, true, c);
}

/* What counts against a budget: of all records, and of those that do not pass. */
struct load {
	uint64_t all, kept, limit; /* limit 0: none */
	uint64_t spared;           /* of the limit, for those that pass */
};

static uint64_t over(uint64_t have, uint64_t limit)
{
	return limit != 0 && have > limit ? have - limit : 0;
}

static bool exceeds(const struct load *l)
{
	return over(l->all, l->limit) != 0 || over(l->kept, l->limit - l->spared) != 0;
}

/* By how much is it above its budget? Then as much, and the batch. */
static uint64_t excess(const struct load *l, uint32_t batch_percent)
{
	uint64_t kept = over(l->kept, l->limit - l->spared), all = over(l->all, l->limit);

	if (kept != 0)
		kept += l->limit / 100 * batch_percent + l->limit % 100 * batch_percent / 100;
	return kept > all ? kept : all;
}

static uint64_t bytes_of(const struct policy *p, int class)
{
	uint64_t bytes = 0;

	for (int q = 0; q < QUEUES; q++)
		bytes += p->list[class][q].bytes;
	return bytes;
}

static uint32_t records_of(const struct policy *p, int class)
{
	uint32_t records = 0;

	for (int q = 0; q < QUEUES; q++)
		records += p->list[class][q].records;
	return records;
}

static struct load load_of(const struct policy *p, uint64_t all, uint64_t passing, uint64_t limit)
{
	return (struct load){all, all - passing, limit,
	                     p->config.passing_part == 0 ? 0 : limit / p->config.passing_part};
}

static struct load class_bytes(const struct policy *p, int class)
{
	return load_of(p, bytes_of(p, class), p->list[class][PASSING - 1].bytes, p->config.class_bytes[class]);
}

static struct load class_records(const struct policy *p, int class)
{
	struct load l =
		load_of(p, records_of(p, class), p->list[class][PASSING - 1].records, p->config.class_records[class]);

	/* Where all names fit they stay. */
	if (class == POLICY_TOPIC)
		l.spared = 0;
	return l;
}

static struct load all_bytes(const struct policy *p, uint64_t want_bytes)
{
	uint64_t bytes = want_bytes, passing = 0;

	for (int class = 0; class < POLICY_CLASSES; class ++) {
		bytes += bytes_of(p, class);
		passing += p->list[class][PASSING - 1].bytes;
	}
	return load_of(p, bytes, passing, p->config.max_bytes);
}

bool policy_exceeds(const struct policy *p, uint64_t want_bytes)
{
	struct load all = all_bytes(p, want_bytes);
	bool any = exceeds(&all);

	for (int class = 0; class < POLICY_CLASSES; class ++) {
		struct load bytes = class_bytes(p, class), records = class_records(p, class);

		any |= exceeds(&bytes) || exceeds(&records);
	}
	return any;
}

uint64_t policy_relief(const struct policy *p, enum policy_level level, uint64_t bytes)
{
	return level < POLICY_HIGH ? 0 : bytes / 100 * p->config.batch_percent * (level == POLICY_CRITICAL ? 4 : 1);
}

uint32_t policy_victims(struct policy *p, enum policy_level level, uint64_t want_bytes, uint32_t *ret_slots, uint32_t n)
{
	const struct policy_config *config = &p->config;
	struct choice c = {.slots = ret_slots, .room = n};
	struct load bytes, records;
	uint64_t of_level;

	for (int class = 0; class < POLICY_CLASSES; class ++) {
		bytes = class_bytes(p, class);
		records = class_records(p, class);
		c.due = (struct due){over(bytes.all, bytes.limit), (uint32_t)over(records.all, records.limit)};
		c.why = exceeds(&records) ? POLICY_OVER_RECORDS : POLICY_OVER_CLASS_BYTES;
		choose_passing(p, 1u << class, false, &c);
		bytes = class_bytes(p, class);
		records = class_records(p, class);
		c.due.bytes = excess(&bytes, config->batch_percent);
		c.due.records = (uint32_t)excess(&records, config->batch_percent);
		choose_of(p, 1u << class, &c);
	}
	bytes = all_bytes(p, want_bytes);
	c.due = (struct due){.bytes = over(bytes.all, bytes.limit)};
	c.why = POLICY_OVER_BYTES;
	choose_passing(p, (1u << POLICY_CLASSES) - 1, false, &c);
	bytes = all_bytes(p, want_bytes);
	of_level = policy_relief(p, level, bytes.all - want_bytes);
	c.due.bytes = excess(&bytes, config->batch_percent);
	if (of_level > c.due.bytes) {
		c.due.bytes = of_level;
		c.why = POLICY_UNDER_PRESSURE;
	}
	choose_of(p, (1u << POLICY_CLASSES) - 1, &c);
	return c.count;
}

void policy_evicted(struct policy *p, uint32_t slot, uint64_t key_hash)
{
	struct entry *e = &p->entry[slot < p->config.slots ? slot : 0];

	if (slot >= p->config.slots || !is_victim(e))
		return;
	if (e->queue == VICTIM_OF_SMALL)
		ghost_make(p, key_hash);
	forget_victim(p, e);
	e->queue = FREE;
}

void policy_keep(struct policy *p, uint32_t slot)
{
	struct entry *e = &p->entry[slot < p->config.slots ? slot : 0];

	if (slot >= p->config.slots || !is_victim(e))
		return;
	forget_victim(p, e);
	push(p, slot, (enum queue)(e->queue - VICTIM_OF_SMALL + SMALL));
}

enum policy_level policy_level(const struct policy *p, uint64_t used_bytes, uint64_t limit_bytes)
{
	double percent = limit_bytes == 0 ? 100 : 100.0 * (double)used_bytes / (double)limit_bytes;
	int level = POLICY_NORMAL;

	while (level < POLICY_CRITICAL && percent >= p->config.level_percent[level])
		level++;
	return (enum policy_level)level;
}

/* ---- reports ---- */

struct policy_place policy_place(const struct policy *p, uint32_t slot)
{
	const struct entry *e;

	if (slot >= p->config.slots || p->entry[slot].queue == FREE)
		return (struct policy_place){.resident = false};
	e = &p->entry[slot];
	return (struct policy_place){
		.resident = true,
		.in_main = e->queue == MAIN || e->queue == VICTIM_OF_MAIN,
		.passing = e->queue == PASSING || e->queue == VICTIM_OF_PASSING,
		.victim = is_victim(e),
		.class = (enum policy_class)e->class,
		.touches = e->count,
		.bytes = e->bytes,
		.why = is_victim(e) ? (enum policy_why)e->newer : POLICY_STAYS,
	};
}

uint32_t policy_before(const struct policy *p, uint32_t slot, uint32_t *ret_of)
{
	uint32_t count = 0;

	*ret_of = 0;
	if (slot >= p->config.slots || !in_queue(&p->entry[slot]))
		return 0;
	*ret_of = p->list[p->entry[slot].class][p->entry[slot].queue - SMALL].records;
	while ((slot = p->entry[slot].older) != NONE)
		count++;
	return count;
}

uint64_t policy_bytes(const struct policy *p)
{
	uint64_t sum = 0;

	for (int class = 0; class < POLICY_CLASSES; class ++)
		sum += policy_class_bytes(p, (enum policy_class) class);
	return sum;
}

uint64_t policy_class_bytes(const struct policy *p, enum policy_class class)
{
	return bytes_of(p, (int)class) + p->victims[class].bytes;
}

uint32_t policy_class_records(const struct policy *p, enum policy_class class)
{
	return records_of(p, (int)class) + p->victims[class].records;
}

uint64_t policy_memory_bytes(const struct policy *p)
{
	return sizeof *p + (uint64_t)p->config.slots * sizeof *p->entry +
	       p->buckets * GHOSTS_PER_BUCKET * sizeof *p->ghost;
}
