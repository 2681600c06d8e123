/* SPDX-License-Identifier: Apache-2.0
 * Partitions and their segments. */
#include "writer/apply/apply_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/escape.h"
#include "base/row_limits.h"

/* What a head says of itself; pages only for who looks at its segments. */
static enum shmeta_status apply_peek(const struct shmeta__pages *pages, uint64_t key, const void *head, size_t bytes,
                                     struct shmeta__part *ret, struct shmeta_err *err)
{
	const struct shmeta__pages none = {.page_bytes = SHMETA_PAGE};

	memset(ret, 0, sizeof *ret);
	enum shmeta_status status = shmeta__part_open(ret, key, head, bytes, pages != NULL ? pages : &none);

	if (status != SHMETA_OK)
		return shmeta_fail(err, status, "the stored index of partition %u of topic number %u is damaged",
		                   (unsigned)key, (unsigned)(key >> 32));
	return SHMETA_OK;
}

enum shmeta_status apply_drop_segments(struct apply *a, uint32_t topic_id, uint32_t partition_id, const char *topic,
                                       size_t topic_bytes, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	const void *head;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	struct shmeta__part part;

	status = apply_peek(NULL, key, head, bytes, &part, err);
	if (status != SHMETA_OK)
		return status;
	uint64_t rows = shmeta__part_rows(&part);

	shmeta__part_close(&part);

	struct shmeta__part_edit *edit;

	status = shmeta__part_edit_new(key, topic, topic_bytes, head, bytes, &a->pager, &edit, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__part_edit_drop(edit, err);
	shmeta__part_edit_free(edit);
	if (status == SHMETA_OK)
		status = apply_delete(a, SHMETA_DB_PARTS, &key, sizeof key, SHMETA_CLASS_PARTITION, err);
	if (status != SHMETA_OK)
		return status;

	struct shmeta_store_counters *counters = shmeta__store_counters(a->store);

	counters->partitions--;
	counters->segments -= rows;
	a->changed += 1 + rows;
	a->removed += 1 + rows;
	return SHMETA_OK;
}

enum shmeta_status apply_drop_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id, const char *topic,
                                        size_t topic_bytes, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	enum shmeta_status status = apply_drop_segments(a, topic_id, partition_id, topic, topic_bytes, err);

	if (status != SHMETA_OK)
		return status;
	status = apply_delete(a, SHMETA_DB_LEASES, &key, sizeof key, SHMETA_CLASS_LEASE, err);
	if (apply_failed(status))
		return status;
	if (status == SHMETA_OK)
		a->hung++;
	return SHMETA_OK;
}

enum shmeta_status apply_partition_ids(struct shmeta__txn *txn, uint32_t topic_id, uint32_t **ids, size_t *ret_count,
                                       size_t *capacity, struct shmeta_err *err)
{
	uint64_t first = shmeta__part_key(topic_id, 0);
	struct shmeta__cursor *cursor;
	enum shmeta_status status = shmeta__cursor_open(txn, SHMETA_DB_PARTS, &first, sizeof first, &cursor, err);

	*ret_count = 0;
	if (status != SHMETA_OK)
		return status;
	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;
		uint64_t part_key;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK || key_bytes != sizeof part_key)
			break;
		memcpy(&part_key, key, sizeof part_key);
		if (part_key >> 32 != topic_id)
			break;
		if (*ret_count == *capacity) {
			size_t more = *capacity == 0 ? 128 : *capacity * 2;
			uint32_t *bigger = reallocarray(*ids, more, sizeof *bigger);

			if (bigger == NULL) {
				status = apply_no_memory(err);
				break;
			}
			*ids = bigger;
			*capacity = more;
		}
		(*ids)[(*ret_count)++] = (uint32_t)part_key;
	}
	shmeta__cursor_close(cursor);
	return apply_failed(status) ? status : SHMETA_OK;
}

enum shmeta_status apply_list_partitions(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	a->old_at = 0;
	return apply_partition_ids(a->txn, topic_id, &a->old_ids, &a->old_count, &a->old_capacity, err);
}

/* Partitions between the last one spoken of and this one do not exist. */
static enum shmeta_status skip_to(struct apply *a, uint32_t partition_id, bool *ret_known, struct shmeta_err *err)
{
	*ret_known = false;
	while (a->old_at < a->old_count && a->old_ids[a->old_at] < partition_id) {
		uint32_t gone = a->old_ids[a->old_at++];
		enum shmeta_status status =
			apply_drop_partition(a, a->topic_id, gone, a->name.data, a->name.bytes, err);

		if (status == SHMETA_OK)
			status = apply_mark_dead(a, a->topic_id, gone, err);
		if (apply_failed(status))
			return status;
	}
	if (a->old_at < a->old_count && a->old_ids[a->old_at] == partition_id) {
		a->old_at++;
		*ret_known = true;
	}
	return SHMETA_OK;
}

static enum shmeta_status quarantine_partition(struct apply *a, uint32_t partition_id, const char *sentence,
                                               struct shmeta_err *err)
{
	const struct backend_key row = {.cls = SHMETA_CLASS_PARTITION,
	                                .tenant = a->topic_tenant,
	                                .topic = a->name,
	                                .partition_id = partition_id};

	return apply_refuse_row(a, &row, sentence, err);
}

/* OK; ABSENT: it is quarantined. */
static enum shmeta_status in_order(struct apply *a, uint32_t partition_id, struct shmeta_err *err)
{
	if ((int64_t)partition_id <= a->last_partition) {
		char text[400], name[300];
		enum shmeta_status status;

		snprintf(text, sizeof text, "partition %u of topic %s comes after partition %lld", partition_id,
		         shmeta__escape(name, sizeof name, a->name.data, a->name.bytes), (long long)a->last_partition);
		status = quarantine_partition(a, partition_id, text, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}
	a->last_partition = partition_id;
	return SHMETA_OK;
}

enum shmeta_status apply_partition_keep(struct apply *a, uint32_t partition_id, bool *ret_known, struct shmeta_err *err)
{
	assert(a->in_topic && a->edit == NULL);
	enum shmeta_status status = in_order(a, partition_id, err);

	*ret_known = true;
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	return skip_to(a, partition_id, ret_known, err);
}

enum shmeta_status apply_partition(struct apply *a, const struct shmeta_partition *partition, struct shmeta_err *err)
{
	assert(a->in_topic && a->edit == NULL);
	char text[512];
	const char *wrong = shmeta__partition_error(partition, text, sizeof text);

	enum shmeta_status status;

	if (wrong != NULL) {
		status = quarantine_partition(a, partition->partition_id, wrong, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}
	status = in_order(a, partition->partition_id, err);
	if (status != SHMETA_OK)
		return status;

	bool known;

	status = skip_to(a, partition->partition_id, &known, err);

	if (status != SHMETA_OK)
		return status;
	uint64_t key = shmeta__part_key(a->topic_id, partition->partition_id);
	const void *head = NULL;
	size_t bytes = 0;

	a->before = (struct shmeta_partition){0};
	a->before_rows = 0;
	a->before_synced_at_ns = 0;
	a->before_ttl_ms = 0;
	a->partition_is_new = true;
	if (!a->topic_is_new) {
		status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);
		if (apply_failed(status))
			return status;
		if (status == SHMETA_OK) {
			struct shmeta__part part;

			status = apply_peek(NULL, key, head, bytes, &part, err);
			if (status != SHMETA_OK)
				return status;
			shmeta__part_record(&part, &a->before);
			a->before_rows = shmeta__part_rows(&part);
			a->before_synced_at_ns = shmeta__part_synced_at_ns(&part);
			a->before_ttl_ms = shmeta__part_ttl_ms(&part);
			shmeta__part_close(&part);
			a->partition_is_new = false;
		} else {
			head = NULL;
			bytes = 0;
		}
	}
	status = shmeta__part_edit_new(key, a->name.data, a->name.bytes, head, bytes, &a->pager, &a->edit, err);
	if (status != SHMETA_OK)
		return status;
	a->partition_id = partition->partition_id;
	a->partition_changed = (uint64_t)shmeta__part_edit_record(a->edit, partition);
	a->partition_rows = 1;
	return SHMETA_OK;
}

enum shmeta_status apply_segments(struct apply *a, uint64_t from, uint64_t to, const struct shmeta_segment *rows,
                                  size_t count, struct shmeta_err *err)
{
	assert(a->edit != NULL);
	enum shmeta_status status;
	uint64_t changed = count;

	if (a->partition_is_new && from == 0 && a->partition_rows == 1 && to == INT64_MAX) {
		status = shmeta__part_edit_append(a->edit, rows, count, err);
	} else if (a->fresh) {
		status = count == 0 ? SHMETA_OK : shmeta__part_edit_append(a->edit, rows, count, err);
	} else {
		status = shmeta__part_edit_replace(a->edit, from, to, rows, count, &changed, err);
	}
	a->partition_changed += changed;
	a->partition_rows += count;
	return status;
}

enum shmeta_status apply_partition_end(struct apply *a, bool whole, bool restamp, struct shmeta_err *err)
{
	assert(a->edit != NULL);
	struct shmeta__part_edit *edit = a->edit;
	enum shmeta_status status = SHMETA_OK;
	bool altered = a->partition_is_new || a->partition_changed > 0;
	uint32_t ttl_ms = apply_partition_ttl(a, a->topic_ttl_ms, a->before_ttl_ms,
	                                      a->partition_is_new || !restamp ? APPLY_LEARNED_NOTHING
	                                      : altered                       ? APPLY_LEARNED_CHANGE
	                                                                      : APPLY_LEARNED_SAME);

	if (altered || restamp || a->before_ttl_ms != ttl_ms || (a->before_synced_at_ns & SHMETA_SYNCED_ALONE) != 0) {
		uint64_t key = shmeta__part_key(a->topic_id, a->partition_id);
		const void *head;
		size_t bytes;
		struct shmeta__part part;

		/* Only a whole read says something of all that the head stands for. What could not
		 * be read before has been read by now: all that was named of it meanwhile is. */
		shmeta__part_edit_stamp(edit, whole ? a->synced_at_ns : a->before_synced_at_ns & ~SHMETA_SYNCED_ALONE,
		                        ttl_ms);
		status = shmeta__part_edit_encode(edit, &head, &bytes, err);
		if (status == SHMETA_OK)
			status = apply_peek(NULL, key, head, bytes, &part, err);
		if (status == SHMETA_OK) {
			struct shmeta_store_counters *counters = shmeta__store_counters(a->store);
			uint64_t rows = shmeta__part_rows(&part);

			shmeta__part_close(&part);
			status = altered ? apply_put(a, SHMETA_DB_PARTS, &key, sizeof key, head, bytes,
			                             SHMETA_CLASS_PARTITION, err)
			                 : apply_restamp(a, SHMETA_DB_PARTS, &key, sizeof key, head, bytes,
			                                 SHMETA_CLASS_PARTITION, err);
			counters->partitions += a->partition_is_new;
			counters->segments += rows - a->before_rows;
			if (rows < a->before_rows)
				a->removed += a->before_rows - rows;
		}
	}
	shmeta__part_edit_free(edit);
	a->edit = NULL;
	uint64_t changed = a->partition_changed + (a->partition_is_new ? 1 : 0);

	a->changed += changed;
	if (a->partition_rows > changed)
		a->unchanged += a->partition_rows - changed;
	return status;
}

enum shmeta_status apply_partition_delete(struct apply *a, uint32_t partition_id, struct shmeta_err *err)
{
	assert(a->in_topic && a->edit == NULL);
	enum shmeta_status status =
		apply_drop_partition(a, a->topic_id, partition_id, a->name.data, a->name.bytes, err);

	return status == SHMETA_OK ? apply_mark_dead(a, a->topic_id, partition_id, err) : status;
}

enum shmeta_status apply_partition_get(struct shmeta__txn *txn, uint32_t topic_id, uint32_t partition_id,
                                       struct shmeta_partition *ret, uint64_t *ret_last_base, bool *ret_any,
                                       struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	const void *head;
	size_t bytes;
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	struct shmeta__part part;
	struct shmeta_segment last;

	const struct shmeta__pages pages = shmeta__txn_pages(txn);

	status = apply_peek(&pages, key, head, bytes, &part, err);
	if (status != SHMETA_OK)
		return status;
	shmeta__part_record(&part, ret);
	status = shmeta__part_last(&part, &last);
	shmeta__part_close(&part);
	if (apply_failed(status))
		return shmeta_fail(err, status, "the stored index of partition %u of topic number %u is damaged",
		                   partition_id, topic_id);
	*ret_any = status == SHMETA_OK;
	*ret_last_base = *ret_any ? last.base_offset : 0;
	return SHMETA_OK;
}
