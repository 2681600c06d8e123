/* SPDX-License-Identifier: Apache-2.0
 * Windows of rows, and the topics that were shown. */
#include "writer/load/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "base/row_limits.h"

void pass_window_begin(struct pass_window *w, uint64_t from)
{
	w->from = from;
	w->any_base = false;
	w->count = 0;
	arena_reset(&w->strings);
}

enum shmeta_status pass_window_add(struct pass_window *w, const struct shmeta_segment *segment,
                                   char wrong[WINDOW_WRONG])
{
	struct shmeta_segment *row = &w->row[w->count];

	if (shmeta__segment_error(segment, wrong, WINDOW_WRONG) != NULL)
		return SHMETA_ABSENT;
	if (w->any_base && segment->base_offset <= w->last_base) {
		(void)snprintf(wrong, WINDOW_WRONG, "segment %llu of partition %u comes after segment %llu",
		               (unsigned long long)segment->base_offset, segment->partition_id,
		               (unsigned long long)w->last_base);
		return SHMETA_ABSENT;
	}
	*row = *segment;
	if (arena_str(&w->strings, segment->id, &row->id) != 0 ||
	    arena_str(&w->strings, segment->s3_bucket, &row->s3_bucket) != 0 ||
	    arena_str(&w->strings, segment->s3_key, &row->s3_key) != 0)
		return SHMETA_ERR_NO_MEMORY;
	w->any_base = true;
	w->last_base = segment->base_offset;
	w->count++;
	return SHMETA_OK;
}

bool pass_window_full(const struct pass_window *w)
{
	return w->count == WINDOW_ROWS;
}

void pass_window_next(struct pass_window *w, uint64_t to)
{
	w->from = to < UINT64_MAX ? to + 1 : UINT64_MAX;
	w->count = 0;
	arena_reset(&w->strings);
}

void pass_window_free(struct pass_window *w)
{
	arena_free(&w->strings);
}

static int compare_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

bool pass_see(struct pass_known *k, uint32_t topic_id)
{
	const uint32_t *id = k->count > 0 ? bsearch(&topic_id, k->id, k->count, sizeof *id, compare_id) : NULL;

	if (id != NULL)
		k->seen[id - k->id] = 1;
	return id != NULL;
}

void pass_free_known(struct pass_known *k)
{
	free(k->id);
	free(k->seen);
	*k = (struct pass_known){0};
}

enum shmeta_status pass_read_known(struct pass_known *k, struct shmeta__store *store, struct shmeta_err *err)
{
	struct shmeta__txn *txn;
	struct shmeta__cursor *cursor;
	size_t capacity = 0;
	enum shmeta_status status = shmeta__txn_read(store, &txn, err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_open(txn, SHMETA_DB_TOPICS, NULL, 0, &cursor, err);
	while (status == SHMETA_OK) {
		const void *key, *value;
		size_t key_bytes, bytes;
		uint64_t id;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK || key_bytes != sizeof id)
			break;
		if (k->count == capacity) {
			capacity = capacity == 0 ? 1024 : capacity * 2;
			uint32_t *bigger = reallocarray(k->id, capacity, sizeof *bigger);

			if (bigger == NULL) {
				status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
				break;
			}
			k->id = bigger;
		}
		memcpy(&id, key, sizeof id);
		k->id[k->count++] = (uint32_t)id;
	}
	if (status >= 0)
		shmeta__cursor_close(cursor);
	shmeta__txn_abort(txn);
	if (status < 0)
		return status;
	k->seen = calloc(k->count + 1, 1);
	if (k->seen == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
	k->segments = shmeta__store_counters(store)->segments;
	return SHMETA_OK;
}

bool pass_is_believable(struct sync *s, const struct pass_known *k, uint64_t topics, uint64_t segments)
{
	if (topics >= (k->count + 1) / 2 && segments >= (k->segments + 1) / 2) {
		s->shrunken = false;
		return true;
	}
	if (s->shrunken && topics >= s->shrunken_topics && segments >= s->shrunken_segments) {
		sync_log(s, LOG_NOTICE, "shrink_confirmed",
		         "a second read confirms %llu topics and %llu segments where the store has %zu and %llu",
		         (unsigned long long)topics, (unsigned long long)segments, k->count,
		         (unsigned long long)k->segments);
		return true;
	}
	s->shrunken = true;
	s->shrunken_topics = topics;
	s->shrunken_segments = segments;
	sync_log(s, LOG_WARNING, "shrink_suspected",
	         "the source shows %llu topics and %llu segments where the store has %zu and %llu: nothing is deleted "
	         "until a second read says the same",
	         (unsigned long long)topics, (unsigned long long)segments, k->count, (unsigned long long)k->segments);
	return false;
}
