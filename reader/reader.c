/* SPDX-License-Identifier: Apache-2.0
 * Readers as callers have them: making one, and freeing it with all that lookups hold of it. On top
 * of the other modules. */
#include <stdlib.h>

#include "reader/lookup/lookup.h"
#include "reader/reader.h"

/* The generation or directory that the reader was on is left. */
static void forget(struct shmeta_reader *r)
{
	shmeta__handles_forget(r);
	shmeta__names_forget(r);
	shmeta__places_forget(r);
}

struct shmeta_reader *shmeta__reader_own(struct shmeta *instance)
{
	struct core *core = shmeta__instance_core(instance);
	struct shmeta_reader *r = shmeta__reader_make(instance, core, forget);

	if (r == NULL) {
		shmeta__core_unref(core, 0);
		return NULL;
	}
	r->slotless = 1;
	shmeta__instance_add(instance, &r->attached, r->core);
	return r;
}

/* Handles and iterators belong to the caller, who may close them later. */
static void end(struct shmeta_reader *r)
{
	while (r->iters != NULL)
		shmeta__iter_detach(r->iters);
	while (r->handles != NULL)
		shmeta__handle_detach(r->handles);
	shmeta__instance_remove(r->instance, &r->attached);
	shmeta__reader_drop(r);
}

void shmeta__reader_own_free(struct shmeta_reader *r)
{
	if (r != NULL && shmeta_peek(r->fork_word) != r->fork_token)
		shmeta__reader_abandon(r);
	else if (r != NULL)
		end(r);
}

enum shmeta_status shmeta_reader_new(struct shmeta *instance, struct shmeta_reader **ret)
{
	struct shmeta_reader *r;
	struct core *core;
	int room;

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	(void)pthread_mutex_lock(&instance->lock);
	room = instance->reader_count < instance->threads;
	if (room) {
		instance->reader_count++;
		instance->refs++;
	}
	(void)pthread_mutex_unlock(&instance->lock);
	if (!room) {
		struct shmeta_err err;

		(void)shmeta_fail(&err, SHMETA_ERR_BUSY, "all %u readers that this open asked for (threads) are taken",
		                  instance->threads);
		return shmeta__instance_fail(instance, &err);
	}
	core = shmeta__instance_core(instance);
	r = shmeta__reader_make(instance, core, forget);
	if (r == NULL) {
		shmeta__core_unref(core, 0);
		(void)pthread_mutex_lock(&instance->lock);
		instance->reader_count--;
		instance->refs--;
		(void)pthread_mutex_unlock(&instance->lock);
		return SHMETA_ERR_NO_MEMORY;
	}
	shmeta__instance_add(instance, &r->attached, r->core);
	shmeta__reader_settle_slot(r);
	*ret = r;
	return SHMETA_OK;
}

void shmeta_reader_free(struct shmeta_reader *r)
{
	struct shmeta *instance;

	if (r == NULL)
		return;
	instance = r->instance;
	if (shmeta_peek(r->fork_word) != r->fork_token)
		shmeta__reader_abandon(r);
	else
		end(r);
	shmeta__instance_unref(instance);
}
