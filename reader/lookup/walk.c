/* SPDX-License-Identifier: Apache-2.0
 * Walking a database, and iterators over a part of it. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>
#include <string.h>

#include "shm/record/entry.h"

/* ---- walking ---- */

void shmeta__walk_open(enum shmeta_db db, struct walk *ret)
{
	ret->db = db;
	ret->started = 0;
}

enum shmeta_status shmeta__walk_next(struct shmeta_reader *r, struct walk *walk, const void *key, size_t key_bytes,
                                     const uint8_t **ret_key, size_t *ret_key_bytes, const void **ret_value,
                                     size_t *ret_bytes)
{
	struct shmeta__tree_entry entry;
	enum shmeta_status status;

	if (unlikely(shmeta_observe(r->guard) != 0) && shmeta__snapshot_expired(r))
		return SHMETA_ERR_EXPIRED;
	walk->started = 1;
	status = shmeta__view_walk(&r->view, walk->db, key, key_bytes, &walk->place, &entry);
	if (status != SHMETA_OK)
		return status;
	*ret_key = entry.key;
	*ret_key_bytes = entry.key_bytes;
	*ret_value = entry.value;
	*ret_bytes = entry.bytes;
	return SHMETA_OK;
}

enum shmeta_status shmeta__walk_ends(const struct walk *walk, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes)
{
	return shmeta__entry_check(walk->db, key, key_bytes, value, bytes) ? SHMETA_END : SHMETA_ERR_CORRUPT;
}

/* ---- iterators ---- */

static void link_to(struct shmeta_iter *iter, struct shmeta_reader *r)
{
	iter->next = r->iters;
	iter->link = &r->iters;
	if (iter->next != NULL)
		iter->next->link = &iter->next;
	r->iters = iter;
}

static void unlink_iter(struct shmeta_iter *iter)
{
	*iter->link = iter->next;
	if (iter->next != NULL)
		iter->next->link = iter->link;
}

enum shmeta_status shmeta__iter_new(struct shmeta_reader *r, enum iter_kind kind, enum shmeta_db db,
                                    struct shmeta_iter **ret)
{
	struct shmeta_iter *iter = calloc(1, sizeof *iter);
	enum shmeta_status status;

	if (iter == NULL)
		return SHMETA_ERR_NO_MEMORY;
	iter->kind = kind;
	iter->fork_word = r->fork_word;
	iter->fork_token = r->fork_token;
	iter->reader = r;
	iter->keeper = r;
	iter->serial = r->serial;
	status = shmeta__snapshot_tenant(r, &iter->tenant);
	if (status < 0) {
		free(iter);
		return status;
	}
	shmeta__walk_open(db, &iter->walk);
	link_to(iter, r);
	*ret = iter;
	return SHMETA_OK;
}

void shmeta__iter_keep(struct shmeta_iter *iter, struct shmeta_reader *keeper)
{
	unlink_iter(iter);
	iter->keeper = keeper;
	link_to(iter, keeper);
}

enum shmeta_status shmeta__iter_ready(const struct shmeta_iter *iter, enum iter_kind kind)
{
	if (iter == NULL || iter->kind != kind)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(iter->fork_word) != iter->fork_token)
		return iter->reader == NULL ? SHMETA_ERR_NO_SNAPSHOT : SHMETA_ERR_FORKED;
	if (iter->reader->snapshot == 0 || iter->reader->serial != iter->serial)
		return SHMETA_ERR_NO_SNAPSHOT;
	return snapshot_holds(iter->reader) ? SHMETA_OK : SHMETA_ERR_EXPIRED;
}

void shmeta__iter_detach(struct shmeta_iter *iter)
{
	struct shmeta_reader *r = iter->reader;

	unlink_iter(iter);
	shmeta__part_close(&iter->part);
	if (r != iter->keeper) {
		shmeta__counters_add(&iter->keeper->slot->counters, &r->own.counters);
		shmeta__reader_drop(r);
	}
	free(iter->changes.frames);
	free(iter->ranges);
	free(iter->filter[0].text);
	free(iter->filter[1].text);
	iter->fork_word = &shmeta__detached_word;
	iter->fork_token = 0;
	iter->reader = iter->keeper = NULL;
}

void shmeta_iter_free(struct shmeta_iter *iter)
{
	if (iter == NULL)
		return;
	if (shmeta_peek(iter->fork_word) == iter->fork_token)
		shmeta__iter_detach(iter);
	else if (iter->reader != iter->keeper) /* in a forked child */
		shmeta__reader_abandon(iter->reader);
	free(iter);
}

enum shmeta_status shmeta__iter_walk(struct shmeta_iter *iter, const uint8_t **ret_key, size_t *ret_key_bytes,
                                     const void **ret_value, size_t *ret_bytes)
{
	const uint8_t *first = NULL;
	size_t first_bytes = 0;
	enum shmeta_status status;

	if (iter->done)
		return SHMETA_END;
	if (!iter->walk.started) {
		size_t n = iter->skip_bytes < iter->prefix_bytes ? iter->skip_bytes : iter->prefix_bytes;
		int order = memcmp(iter->skip, iter->prefix, n);
		int skips = order > 0 || (order == 0 && iter->skip_bytes > iter->prefix_bytes);

		first = skips ? iter->skip : iter->prefix;
		first_bytes = skips ? iter->skip_bytes : iter->prefix_bytes;
	}
	status = shmeta__walk_next(iter->reader, &iter->walk, first, first_bytes, ret_key, ret_key_bytes, ret_value,
	                           ret_bytes);
	if (status == SHMETA_OK &&
	    (*ret_key_bytes < iter->prefix_bytes || memcmp(*ret_key, iter->prefix, iter->prefix_bytes) != 0))
		status = shmeta__walk_ends(&iter->walk, *ret_key, *ret_key_bytes, *ret_value, *ret_bytes);
	if (status == SHMETA_END)
		iter->done = 1;
	return status;
}

/* ---- where a list begins ---- */

static enum shmeta_status skip(struct shmeta_iter *iter, enum iter_kind kind, const char *name, size_t name_bytes)
{
	enum shmeta_status status = shmeta__iter_ready(iter, kind);

	if (status != SHMETA_OK)
		return status;
	if (iter->walk.started || (name == NULL && name_bytes != 0))
		return SHMETA_ERR_INVALID_ARGUMENT;
	/* For a name that is too long, begin behind its longest valid prefix. */
	if (name_bytes > SHMETA_NAME_MAX)
		name_bytes = SHMETA_NAME_MAX;
	if (name_bytes == 0)
		name = "";
	/* No key lies between a name and the same name with a NUL behind it. */
	iter->skip_bytes = shmeta__name_key(iter->skip, iter->tenant, name, name_bytes);
	iter->skip[iter->skip_bytes++] = 0;
	return SHMETA_OK;
}

enum shmeta_status shmeta_skip_topics(struct shmeta_iter *iter, const char *name, size_t name_bytes)
{
	return skip(iter, ITER_TOPICS, name, name_bytes);
}

enum shmeta_status shmeta_skip_agents(struct shmeta_iter *iter, const char *agent_id, size_t agent_id_bytes)
{
	return skip(iter, ITER_AGENTS, agent_id, agent_id_bytes);
}

enum shmeta_status shmeta_skip_groups(struct shmeta_iter *iter, const char *group_id, size_t group_id_bytes)
{
	return skip(iter, ITER_GROUPS, group_id, group_id_bytes);
}
