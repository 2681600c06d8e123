/* SPDX-License-Identifier: Apache-2.0
 * The side tables: grown, searched, freed. */
#include "backends/memory/memory_side.h"

#include <stdlib.h>
#include <string.h>

void *memory_grow(void **items, size_t *count, size_t size)
{
	void *grown = realloc(*items, (*count + 1) * size);

	if (grown == NULL)
		return NULL;
	*items = grown;
	return memset((char *)grown + (*count)++ * size, 0, size);
}

struct epoch *memory_epoch_of(struct memory_side *m, const char *tenant, const char *topic, uint32_t partition)
{
	struct epoch *e;

	for (size_t i = 0; i < m->epoch_count; i++)
		if (m->epochs[i].partition_id == partition && strcmp(m->epochs[i].tenant, tenant) == 0 &&
		    strcmp(m->epochs[i].topic, topic) == 0)
			return &m->epochs[i];
	e = memory_grow((void **)&m->epochs, &m->epoch_count, sizeof *e);
	if (e != NULL) {
		e->tenant = strdup(tenant);
		e->topic = strdup(topic);
		e->partition_id = partition;
	}
	return e;
}

void memory_side_free(struct memory_side *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->epoch_count; i++) {
		free(m->epochs[i].tenant);
		free(m->epochs[i].topic);
		free(m->epochs[i].led.list);
	}
	for (size_t i = 0; i < m->offer_count; i++) {
		free(m->offers[i].tenant);
		free(m->offers[i].topic);
		free(m->offers[i].from);
		free(m->offers[i].to);
	}
	for (size_t i = 0; i < m->object_count; i++) {
		for (size_t k = 0; k < m->objects[i].slice_count; k++)
			free(m->objects[i].slices[k].topic);
		free(m->objects[i].slices);
		free(m->objects[i].tenant);
		free(m->objects[i].bucket);
		free(m->objects[i].key);
	}
	free(m->epochs);
	free(m->offers);
	free(m->objects);
	free(m);
}
