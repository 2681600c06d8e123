/* SPDX-License-Identifier: Apache-2.0
 * The keys that are sampled most (most_used.h). */
#include "writer/serve/most_used.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "shm/page/seqlock.h"
#include "shm/page/slots.h"
#include "shm/page/touch.h"

void most_used_free(struct most_used *m)
{
	curve_free(m->curve);
	m->curve = NULL;
}

static void follow(struct most_used *m, uint64_t key)
{
	if (m->curve == NULL)
		m->curve = curve_new(CURVE_KEYS_DEFAULT);
	if (m->curve == NULL || (uint32_t)key == TOUCH_TOPIC)
		return;
	curve_access(m->curve, key, 1);
	m->curve_samples++;
}

void most_used_add(struct most_used *m, uint64_t key)
{
	struct shmeta_used *set = m->set[shmeta__secret_hash(key) % MOST_USED_SETS], *least = set;

	follow(m, key);
	m->samples++;
	m->shown = false;
	for (int i = 0; i < MOST_USED_WAYS; i++) {
		if (set[i].samples > 0 && set[i].key == key) {
			set[i].samples++;
			return;
		}
		if (set[i].samples < least->samples)
			least = &set[i];
	}
	*least = (struct shmeta_used){key, least->samples + 1};
}

static void halve(struct most_used *m)
{
	m->samples /= 2;
	m->shown = false;
	for (int s = 0; s < MOST_USED_SETS; s++)
		for (int i = 0; i < MOST_USED_WAYS; i++)
			m->set[s][i].samples /= 2;
}

static void age(struct most_used *m, uint64_t now_ns)
{
	if (m->halved_ns == 0)
		m->halved_ns = m->curve_halved_ns = now_ns;
	if (now_ns - m->halved_ns >= MOST_USED_HALF_LIFE_S * UINT64_C(1000000000)) {
		halve(m);
		m->halved_ns = now_ns;
	}
	if (now_ns - m->curve_halved_ns >= MOST_USED_CURVE_HALF_LIFE_S * UINT64_C(1000000000)) {
		if (m->curve != NULL)
			curve_age(m->curve);
		m->curve_samples /= 2;
		m->curve_halved_ns = now_ns;
		m->shown = false;
	}
}

static uint16_t miss_at(const struct most_used *m, uint64_t partitions)
{
	if (m->curve == NULL || m->curve_samples == 0)
		return 0;
	return (uint16_t)(1 + curve_miss_ratio(m->curve, partitions) * SHMETA_USAGE_ALL + 0.5);
}

static int more_first(const void *a, const void *b)
{
	const struct shmeta_used *x = a, *y = b;

	if (x->samples != y->samples)
		return x->samples > y->samples ? -1 : 1;
	return (x->key > y->key) - (x->key < y->key);
}

/* top: a heap whose first is the least used, which `used` replaces. */
static void replace_least(struct shmeta_used top[SHMETA_USAGE_KEYS], const struct shmeta_used *used)
{
	size_t at = 0, child;

	for (; (child = 2 * at + 1) < SHMETA_USAGE_KEYS; at = child) {
		if (child + 1 < SHMETA_USAGE_KEYS && more_first(&top[child], &top[child + 1]) < 0)
			child++;
		if (more_first(used, &top[child]) > 0)
			break;
		top[at] = top[child];
	}
	top[at] = *used;
}

/* The most used keys, the most used first; behind them, zeros. */
static void select_most_used(const struct most_used *m, struct shmeta_used ret[SHMETA_USAGE_KEYS])
{
	memset(ret, 0, SHMETA_USAGE_KEYS * sizeof *ret);
	for (int s = 0; s < MOST_USED_SETS; s++)
		for (int i = 0; i < MOST_USED_WAYS; i++)
			if (m->set[s][i].samples > 0 && more_first(&m->set[s][i], &ret[0]) < 0)
				replace_least(ret, &m->set[s][i]);
	qsort(ret, SHMETA_USAGE_KEYS, sizeof *ret, more_first);
}

void most_used_show(struct most_used *m, struct shmeta_usage *page, uint64_t now_ns)
{
	struct shmeta_used top[SHMETA_USAGE_KEYS];

	age(m, now_ns);
	if (!m->shown)
		select_most_used(m, top);
	shmeta__seqlock_begin(&page->sequence);
	memcpy(page->signature, "SHMUSAGE", sizeof page->signature);
	page->version = SHMETA_USAGE_VERSION;
	page->samples = m->samples;
	page->half_life_s = MOST_USED_HALF_LIFE_S;
	page->sample_every = SHMETA_SAMPLE_EVERY;
	page->updated_at_ns = now_ns;
	page->curve_samples = m->curve_samples < UINT32_MAX ? (uint32_t)m->curve_samples : UINT32_MAX;
	for (int i = 0; i < SHMETA_USAGE_SIZES && !m->shown; i++)
		page->miss[i] = miss_at(m, SHMETA_USAGE_SIZE(i));
	if (!m->shown)
		for (page->count = 0; page->count < SHMETA_USAGE_KEYS && top[page->count].samples > 0; page->count++)
			page->used[page->count] = top[page->count];
	shmeta__seqlock_end(&page->sequence);
	m->shown = true;
}
