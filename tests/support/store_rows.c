/* SPDX-License-Identifier: Apache-2.0
 * Topics and partitions for tests of the store itself. */
#include "tests/support/store_rows.h"

#include <string.h>

static const struct shmeta__stamps stamps = {1000, 0};

enum shmeta_status store_rows_topic(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t id, const char *name,
                                    struct shmeta_err *err)
{
	struct shmeta_store_counters *counters = shmeta__store_counters(store);
	struct shmeta_topic topic = {.name = {name, strlen(name)}, .partition_count = 2, .topic_id = id};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	uint64_t number = id;
	uint32_t tenant;
	size_t n, bytes;
	enum shmeta_status status =
		shmeta__tenant(txn, SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT), 1, &tenant, err);

	if (status != SHMETA_OK)
		return status;
	n = shmeta__name_key(key, tenant, topic.name.data, topic.name.bytes);
	bytes = shmeta__topic_encode(&topic, &stamps, key, n, value, sizeof value);
	status = shmeta__put(txn, SHMETA_DB_NAMES, key, n, value, bytes, err);
	if (status == SHMETA_OK)
		status = shmeta__put(txn, SHMETA_DB_TOPICS, &number, sizeof number, key, n, err);
	counters->topics++;
	counters->next_topic_id = number + 1;
	return status;
}

/* Open the partition for a change; *ret_record: as it is. */
static enum shmeta_status edit(struct shmeta__txn *txn, uint64_t key, const char *topic, struct shmeta__pager *pager,
                               struct shmeta__part_edit **ret, struct shmeta_partition *ret_record,
                               struct shmeta_err *err)
{
	struct shmeta__part part = {0};
	/* The head alone is asked: no locator is followed. */
	struct shmeta__pages pages = shmeta__txn_pages(txn);
	const void *head = NULL;
	size_t bytes = 0;
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);

	*ret_record = (struct shmeta_partition){.topic_id = (uint32_t)(key >> 32), .partition_id = (uint32_t)key};
	if (status == SHMETA_OK) {
		status = shmeta__part_open(&part, key, head, bytes, &pages);
		if (status != SHMETA_OK)
			return shmeta_fail(err, status, "a head is corrupt");
		shmeta__part_record(&part, ret_record);
	} else if (status != SHMETA_ABSENT) {
		return status;
	}
	*pager = shmeta__txn_pager(txn);
	return shmeta__part_edit_new(key, topic, strlen(topic), head, bytes, pager, ret, err);
}

static enum shmeta_status save(struct shmeta__txn *txn, uint64_t key, struct shmeta__part_edit *part,
                               struct shmeta_err *err)
{
	const void *head;
	size_t bytes;
	enum shmeta_status status = shmeta__part_edit_encode(part, &head, &bytes, err);

	if (status == SHMETA_OK)
		status = shmeta__put(txn, SHMETA_DB_PARTS, &key, sizeof key, head, bytes, err);
	shmeta__touch(txn, shmeta__touched_partition((uint32_t)(key >> 32), (uint32_t)key));
	return status;
}

enum shmeta_status store_rows_append(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t topic_id,
                                     uint32_t partition_id, const char *topic, uint32_t rows, struct shmeta_err *err)
{
	struct shmeta_store_counters *counters = shmeta__store_counters(store);
	uint64_t key = shmeta__part_key(topic_id, partition_id), noise, base;
	struct shmeta_partition record;
	struct shmeta__part_edit *part = NULL;
	struct shmeta__pager pager;
	enum shmeta_status status = edit(txn, key, topic, &pager, &part, &record, err);

	if (status == SHMETA_OK && record.high_watermark == 0)
		counters->partitions++;
	base = record.high_watermark;
	noise = key ^ base;
	for (uint32_t i = 0; i < rows && status == SHMETA_OK; i++) {
		/* As irregular as real ones: regular rows take next to no room, and few blocks. */
		struct shmeta_segment row = {.base_offset = base,
		                             .record_count = 100,
		                             .partition_id = partition_id,
		                             .id = {"id", 2},
		                             .s3_bucket = {"bucket", 6},
		                             .s3_key = {"key", 3}};

		noise = noise * 6364136223846793005u + 1442695040888963407u;
		row.end_offset = base + (noise >> 40);
		row.size_bytes = noise >> 30 & 0xffffffff;
		row.created_at_ms = 1700000000000 + (int64_t)(noise >> 35);
		base = row.end_offset + 1;
		status = shmeta__part_edit_append(part, &row, 1, err);
	}
	if (status == SHMETA_OK) {
		record.high_watermark = base;
		(void)shmeta__part_edit_record(part, &record);
		shmeta__part_edit_stamp(part, 1000, 0);
		counters->segments += rows;
		status = save(txn, key, part, err);
	}
	shmeta__part_edit_free(part);
	return status;
}

enum shmeta_status store_rows_halve(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t topic_id,
                                    uint32_t partition_id, const char *topic, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id), removed = 0;
	struct shmeta_partition record;
	struct shmeta__part_edit *part = NULL;
	struct shmeta__pager pager;
	enum shmeta_status status = edit(txn, key, topic, &pager, &part, &record, err);

	if (status == SHMETA_OK)
		status = shmeta__part_edit_replace(
			part, 0, record.log_start_offset + (record.high_watermark - record.log_start_offset) / 2, NULL,
			0, &removed, err);
	if (status == SHMETA_OK) {
		shmeta__store_counters(store)->segments -= removed;
		status = save(txn, key, part, err);
	}
	shmeta__part_edit_free(part);
	return status;
}
