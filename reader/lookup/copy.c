/* SPDX-License-Identifier: Apache-2.0
 * Copies of records for callers whose memory outlives a snapshot. The buffer must not overlap the
 * views. */
#include <string.h>

#include "include/shmeta.h"

struct piece {
	const void **data; /* of the view */
	size_t bytes;
};

/* Strings first, maps after them: nothing needs alignment. All or nothing. */
static enum shmeta_status copy(struct piece *pieces, size_t count, char *buffer, size_t bytes, size_t *ret_bytes)
{
	size_t need = 0;

	for (size_t i = 0; i < count; i++)
		need += pieces[i].bytes;
	if (ret_bytes != NULL)
		*ret_bytes = need;
	if (need > bytes)
		return SHMETA_ERR_BUFFER;
	if (buffer == NULL && need != 0)
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++) {
		if (pieces[i].bytes != 0)
			memcpy(buffer, *pieces[i].data, pieces[i].bytes);
		*pieces[i].data = buffer;
		if (buffer != NULL)
			buffer += pieces[i].bytes;
	}
	return SHMETA_OK;
}

#define PIECE(view) ((struct piece){(const void **)&(view).data, (view).bytes})
#define COUNT(a) (sizeof(a) / sizeof *(a))

enum shmeta_status shmeta_copy_topic(struct shmeta_topic *record, char *buffer, size_t bytes, size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->name), PIECE(record->cleanup_policy), PIECE(record->config)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}

enum shmeta_status shmeta_copy_segment(struct shmeta_segment *record, char *buffer, size_t bytes, size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->id), PIECE(record->s3_bucket), PIECE(record->s3_key)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}

enum shmeta_status shmeta_copy_group(struct shmeta_group *record, char *buffer, size_t bytes, size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->group_id)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}

enum shmeta_status shmeta_copy_agent(struct shmeta_agent *record, char *buffer, size_t bytes, size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->agent_id), PIECE(record->address), PIECE(record->availability_zone),
	                         PIECE(record->agent_group), PIECE(record->metadata)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}

enum shmeta_status shmeta_copy_lease(struct shmeta_lease *record, char *buffer, size_t bytes, size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->leader_agent_id)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}

enum shmeta_status shmeta_copy_committed_offset(struct shmeta_committed_offset *record, char *buffer, size_t bytes,
                                                size_t *ret_bytes)
{
	if (record == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	struct piece pieces[] = {PIECE(record->group_id), PIECE(record->metadata)};

	return copy(pieces, COUNT(pieces), buffer, bytes, ret_bytes);
}
