/* SPDX-License-Identifier: Apache-2.0
 * What a call that waits looks at: the store, as a reader of the client's own sees it. Everything
 * under client->lock. */
#include <stdlib.h>

#include "reader/client/client.h"
#include "reader/lookup/lookup.h"
#include "reader/reader.h"

static const uint64_t PAUSE_NS = 20 * MILLION;
enum { LOOKS_MAX = 8 }; /* at a store whose snapshots are taken back */

static enum shmeta_status judge(struct shmeta_reader *r, const struct shmeta_watch *watch,
                                struct shmeta_handle **handle)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta_partition partition;

	if (*handle == NULL)
		status = shmeta_partition_open(r, watch->topic.data, watch->topic.bytes, watch->partition_id, handle);
	if (status == SHMETA_OK)
		status = shmeta_get_partition(*handle, NULL, &partition, NULL);
	return status == SHMETA_OK && partition.high_watermark <= watch->high_watermark ? SHMETA_ERR_TIMEOUT : status;
}

/* In an open snapshot. OK: one of them need not be waited for any more. */
static enum shmeta_status look_at_watches(struct shmeta_reader *r, struct waiting *w, const struct shmeta_token *now)
{
	bool same = w->looked.generation == now->generation;
	enum shmeta_status over = SHMETA_ERR_TIMEOUT;

	for (size_t i = 0; i < w->count; i++) {
		struct shmeta_handle *h = w->handle[i];

		if (!same || h == NULL || w->watches[i].status != SHMETA_ERR_TIMEOUT ||
		    shmeta_observe(&r->env->touched[h->word]) > w->looked.txn) /* PAIR 2: touch before commit */
			w->watches[i].status = judge(r, &w->watches[i], &w->handle[i]);
		if (w->watches[i].status == SHMETA_ERR_EXPIRED || w->watches[i].status == SHMETA_ERR_NO_MEMORY)
			return w->watches[i].status;
		if (w->watches[i].status != SHMETA_ERR_TIMEOUT)
			over = SHMETA_OK;
	}
	return over;
}

static enum shmeta_status look(struct shmeta_reader *r, struct waiting *w)
{
	struct shmeta_snapshot_info info;
	struct shmeta_token now;
	enum shmeta_status status, ended;

	status = shmeta_begin(r);
	if (status == SHMETA_UNKNOWN) {
		w->looked = (struct shmeta_token){0};
		for (size_t i = 0; i < w->count; i++)
			w->watches[i].status = SHMETA_ERR_TIMEOUT;
		return SHMETA_ERR_TIMEOUT; /* nothing is published yet */
	}
	if (status != SHMETA_OK)
		return status;
	status = shmeta_snapshot_info(r, &info);
	now = (struct shmeta_token){.generation = info.generation, .txn = info.txn};
	if (status == SHMETA_OK && w->watches != NULL)
		status = look_at_watches(r, w, &now);
	else if (status == SHMETA_OK)
		status = token_is_later(&now, &w->since) ? SHMETA_OK : SHMETA_ERR_TIMEOUT;
	ended = shmeta_end(r);
	if (ended != SHMETA_OK)
		status = ended;
	w->looked = status == SHMETA_OK || status == SHMETA_ERR_TIMEOUT ? now : (struct shmeta_token){0};
	return status;
}

enum shmeta_status shmeta__waiting_look(struct shmeta_client *c, struct call *call)
{
	enum shmeta_status status = SHMETA_ERR_EXPIRED;

	if (c->reader == NULL)
		c->reader = shmeta__reader_own(c->instance);
	if (c->reader == NULL)
		return SHMETA_ERR_NO_MEMORY;
	for (int i = 0; i < LOOKS_MAX && (status == SHMETA_ERR_EXPIRED || status == SHMETA_ERR_CONTENDED); i++)
		status = look(c->reader, call->waiting);
	return status;
}

void shmeta__waiting_pause(struct shmeta_client *c)
{
	c->waits_after_ns = shmeta__monotonic_ns() + PAUSE_NS;
	shmeta_poke(&c->reader->attached.attention, 1);
}

static int by_word(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return (x > y) - (x < y);
}

size_t shmeta__waiting_words(struct call *call)
{
	struct waiting *w = call->waiting;
	size_t words = 0, kept = 0;

	for (size_t i = 0; i < w->count; i++) {
		if (w->handle[i] == NULL)
			return 0; /* nothing is published yet: there is no word to wait for */
		w->words[words++] = w->handle[i]->word;
	}
	qsort(w->words, words, sizeof w->words[0], by_word);
	for (size_t i = 0; i < words; i++)
		if (kept == 0 || w->words[kept - 1] != w->words[i])
			w->words[kept++] = w->words[i];
	return kept;
}

void shmeta__waiting_end(struct call *call)
{
	struct waiting *w = call->waiting;

	for (size_t i = 0; w != NULL && i < w->count; i++) {
		shmeta_partition_close(w->handle[i]);
		w->handle[i] = NULL;
	}
}
