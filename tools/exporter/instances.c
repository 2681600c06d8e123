/* SPDX-License-Identifier: Apache-2.0
 * Finding instances, looking at them, and remembering. */
#include "tools/exporter/instances.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"

/* A name is a label, and two of one name would be one to whoever reads it: the later one is called
 * by its path, and where what can be shown of that is taken as well, by a number. */
static void name_it(struct instances *all, struct instance *one)
{
	enum { NUMBER_BYTES = 5 };
	char plain[PATH_MAX];
	const char *slash;
	size_t n;

	(void)snprintf(plain, sizeof(plain), "%s", one->dir);
	n = strlen(plain);
	while (n > 1 && plain[n - 1] == '/')
		plain[--n] = '\0';
	slash = strrchr(plain, '/');
	(void)shmeta__escape_line(one->name, sizeof(one->name), slash != NULL && slash[1] != '\0' ? slash + 1 : plain);
	if (instances_find(all, one->name) != NULL)
		(void)shmeta__escape_line(one->name, sizeof(one->name), plain);
	n = strlen(one->name) < sizeof(one->name) - NUMBER_BYTES ? strlen(one->name) : sizeof(one->name) - NUMBER_BYTES;
	for (unsigned i = 2; instances_find(all, one->name) != NULL; i++)
		(void)snprintf(one->name + n, NUMBER_BYTES, "#%u", i);
}

bool instances_add(struct instances *all, const char *dir)
{
	struct instance *one;

	for (uint32_t i = 0; i < all->count; i++)
		if (strcmp(all->list[i]->dir, dir) == 0)
			return true;
	if (all->count == INSTANCES || strlen(dir) >= sizeof(one->dir))
		return false;
	one = calloc(1, sizeof(*one));
	if (one == NULL)
		return false;
	(void)snprintf(one->dir, sizeof(one->dir), "%s", dir);
	name_it(all, one);
	one->pages.dir_fd = -1;
	all->list[all->count++] = one;
	return true;
}

static void drop(struct instance *one)
{
	if (one->pages.dir_fd >= 0)
		pages_close(&one->pages);
	free(one);
}

/* The list is full: one that was removed makes room. */
static void make_room(struct instances *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		struct instance *one = all->list[i];

		if (access(one->dir, F_OK) == 0 || errno != ENOENT)
			continue;
		all->count--;
		memmove(&all->list[i], &all->list[i + 1], (all->count - i) * sizeof(one));
		drop(one);
		return;
	}
}

static void add_found(struct instances *all, const char *dir)
{
	if (all->count == INSTANCES)
		make_room(all);
	if (instances_add(all, dir) || all->told_full)
		return;
	all->told_full = true;
	(void)fprintf(stderr, "shmeta-exporter: %s: at most %d instances are looked at; some are left out\n", all->root,
	              INSTANCES);
}

/* New directories of the root in which a writer has run. One that is removed stays until another
 * one needs its place: that it is gone is worth being told. */
static void search(struct instances *all)
{
	DIR *root = all->root != NULL ? opendir(all->root) : NULL;
	struct dirent *entry;

	while (root != NULL && (entry = readdir(root)) != NULL) {
		char dir[PATH_MAX], board[PATH_MAX + 8];
		bool known = entry->d_name[0] == '.';

		if ((size_t)snprintf(dir, sizeof(dir), "%s/%s", all->root, entry->d_name) >= sizeof(dir))
			continue;
		for (uint32_t i = 0; i < all->count; i++)
			known |= strcmp(all->list[i]->dir, dir) == 0;
		(void)snprintf(board, sizeof(board), "%s/board", dir);
		if (!known && access(board, F_OK) == 0)
			add_found(all, dir);
	}
	if (root != NULL)
		(void)closedir(root);
}

static const char *called(const struct instance *one)
{
	char name[UNIT_BYTES];

	return pages_name_of(one->dir, name) && strcmp(name, one->name) == 0 ? one->name : one->dir;
}

static void look_at(struct instance *one)
{
	char file[PAGES_NAME_BYTES], why[600];
	struct shmeta_err err = {0};

	if (one->pages.dir_fd >= 0)
		pages_close(&one->pages);
	one->readable = pages_read(one->dir, &one->pages, file, &err) == SHMETA_OK;
	if (one->readable) {
		health_judge(&one->pages, called(one), &one->health);
		return;
	}
	pages_close(&one->pages);
	(void)snprintf(why, sizeof(why), "%s%s%s", file, file[0] != '\0' ? ": " : "", err.text);
	(void)shmeta__escape_line(one->why, sizeof(one->why), why);
}

static void remember(struct instance *one, uint64_t now_ns)
{
	const struct pages *p = &one->pages;
	uint64_t size, lag;
	struct sample *s;

	one->newest = (one->newest + 1) % HISTORY_SAMPLES;
	s = &one->sample[one->newest];
	memset(s, 0xff, sizeof(*s));
	s->at_ns = now_ns;
	s->readable = one->readable;
	s->worst = HEALTH_UNKNOWN;
	s->alive = s->source_up = false;
	if (!one->readable)
		return;
	s->epoch = p->board.epoch;
	s->phase = p->board.phase;
	s->alive = p->alive;
	s->source_up = health_source_up(p);
	s->worst = one->health.worst;
#define C(name) s->name = pages_counter(p, SHMETA_COUNTER_##name);
	SAMPLE_COUNTERS(C)
#undef C
	if (!health_free_bytes(p, &s->free_bytes, &size))
		s->free_bytes = UINT64_MAX;
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++)
		s->class_age_ns[i] = pages_since(p->now_ns, p->generation.stamp[i].synced_at_ns);
	if (p->stats == NULL)
		return;
	memset(s->source_time, 0, sizeof(s->source_time));
	for (size_t i = 0; i < SHMETA_TIMES_BUCKETS; i++)
		s->source_time[(i + 1) / 2] += p->stats->times[SHMETA_TIMED_SOURCE].count[i];
	s->found = p->stats->all_readers.found;
	s->absent = p->stats->all_readers.absent;
	s->unknown = p->stats->all_readers.unknown;
	s->errors = p->stats->all_readers.errors;
	s->stale = p->stats->all_readers.stale;
	s->readers = p->stats->readers_total;
	s->pinning = health_pins(p, &s->pin_age_ns, &lag);
}

void instances_look(struct instances *all)
{
	uint64_t now = shmeta__boottime_ns();
	bool due = all->sampled_ns == 0 || now - all->sampled_ns >= HISTORY_STEP_S * UINT64_C(1000000000);

	if (!due && now - all->looked_ns < LOOK_MS * UINT64_C(1000000))
		return;
	if (due)
		search(all);
	for (uint32_t i = 0; i < all->count; i++) {
		look_at(all->list[i]);
		if (due)
			remember(all->list[i], now);
	}
	all->looked_ns = now;
	/* In step, so that a busy moment does not stretch the hour. */
	if (due)
		all->sampled_ns =
			all->sampled_ns == 0 || now - all->sampled_ns > 2 * HISTORY_STEP_S * UINT64_C(1000000000)
				? now
				: all->sampled_ns + HISTORY_STEP_S * UINT64_C(1000000000);
}

struct instance *instances_find(struct instances *all, const char *name)
{
	for (uint32_t i = 0; i < all->count; i++)
		if (name == NULL || strcmp(all->list[i]->name, name) == 0)
			return all->list[i];
	return NULL;
}

void instances_free(struct instances *all)
{
	for (uint32_t i = 0; i < all->count; i++)
		drop(all->list[i]);
	all->count = 0;
}

const struct sample *instance_sample(const struct instance *instance, uint32_t i)
{
	const struct sample *s;

	if (i >= HISTORY_SAMPLES)
		return NULL;
	s = &instance->sample[(instance->newest + HISTORY_SAMPLES - i) % HISTORY_SAMPLES];
	return s->at_ns != 0 ? s : NULL;
}

void instance_view(const struct instance *instance, struct metric_view *ret)
{
	*ret = (struct metric_view){.instance = instance->name,
	                            .readable = instance->readable,
	                            .pages = &instance->pages,
	                            .health = &instance->health};
}
