/* SPDX-License-Identifier: Apache-2.0
 * What changed since an earlier snapshot. */
#include "reader/lookup/lookup.h"

#include <stdbool.h>
#include <stdlib.h>

/* May it be of a store in the directory that this one took the place of? Generations and commits
 * are counted anew there, so a number alone does not tell: whoever asks for the first time since
 * the reader followed asks with a number of before, and no other that lies before the reader's
 * first snapshot there, or ahead of the one that is open, is of this store. */
static bool is_of_another_store(struct shmeta_reader *r, const struct shmeta_token *since)
{
	bool untold = r->untold != 0;

	r->untold = 0;
	return untold || since->generation < r->since_generation ||
	       (since->generation == r->since_generation && since->txn < r->since_txn) || since->txn > r->snapshot;
}

enum shmeta_status shmeta_changes_since(struct shmeta_reader *reader, const struct shmeta_token *since,
                                        struct shmeta_iter **ret)
{
	struct shmeta__journal_part part;
	enum shmeta_status status;
	struct shmeta_iter *iter;
	const struct env *env;

	if (reader == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(reader);
	if (status != SHMETA_OK)
		return status;
	if (since == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	env = reader->env;
	if (unlikely(reader->followed) && is_of_another_store(reader, since))
		return SHMETA_TOO_OLD;
	if (env->journal == NULL || since->generation < env->first_generation || since->generation > env->generation)
		return SHMETA_TOO_OLD;
	status = shmeta__journal_since(env->journal, since->txn, reader->snapshot, &part);
	if (status != SHMETA_OK)
		return status == SHMETA_TOO_OLD ? status : lookup_done(reader, status);
	status = shmeta__iter_new(reader, ITER_CHANGES, SHMETA_DB_COUNT, &iter);
	if (status != SHMETA_OK) {
		free(part.frames);
		return lookup_done(reader, status);
	}
	iter->changes = part;
	iter->never = 1; /* what is told is all that changed */
	*ret = iter;
	return SHMETA_OK;
}

enum shmeta_status shmeta_next_change(struct shmeta_iter *iter, struct shmeta_change *ret)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_CHANGES);
	struct shmeta_journal_key key;
	const char *text;

	if (status != SHMETA_OK)
		return status;
	if (ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	while (shmeta__journal_next(&iter->changes, &key, &text)) {
		if (key.tenant != iter->tenant || key.cls >= SHMETA_CLASS_COUNT)
			continue;
		*ret = (struct shmeta_change){
			.txn = iter->changes.txn,
			.cls = (enum shmeta_class)key.cls,
			.partition_id = key.partition_id,
			.topic = {text, key.topic_bytes},
			.name = {text + key.topic_bytes, key.name_bytes},
			.deleted = (key.flags & SHMETA_JOURNAL_DELETED) != 0,
		};
		return SHMETA_OK;
	}
	return SHMETA_END;
}
