/* SPDX-License-Identifier: Apache-2.0
 * What changed since an earlier snapshot. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

enum shmeta_status shmeta_changes_since(struct shmeta_reader *reader, const struct shmeta_token *since,
                                        struct shmeta_iter **ret)
{
	enum shmeta_status status = lookup_ready(reader);
	struct shmeta__journal_part part;
	struct shmeta_iter *iter;
	const struct env *env;

	if (status != SHMETA_OK)
		return status;
	if (since == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	env = reader->env;
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
