/* SPDX-License-Identifier: Apache-2.0
 * Segments as items (ddb_segment.h). */
#include "backends/dynamodb/ddb_segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backends/dynamodb/ddb_place.h"
#include "base/str.h"

json_t *ddb_segment_item(const struct ddb_key *key, const struct shmeta_segment *s)
{
	json_t *item = ddb_item_of(key);

	ddb_put_n(item, "e", (int64_t)s->end_offset);
	ddb_put_n(item, "c", s->record_count);
	ddb_put_n(item, "z", (int64_t)s->size_bytes);
	ddb_put_n(item, "cat", s->created_at_ms);
	if (s->min_timestamp_ms != 0 || s->max_timestamp_ms != 0) {
		ddb_put_n(item, "t0", s->min_timestamp_ms);
		ddb_put_n(item, "t1", s->max_timestamp_ms);
	}
	if (s->position != 0)
		ddb_put_n(item, "o", (int64_t)s->position);
	ddb_put_s(item, "i", s->id);
	ddb_put_s(item, "b", s->s3_bucket);
	ddb_put_s(item, "k", s->s3_key);
	return item;
}

void ddb_segment_of(const json_t *item, struct shmeta_segment *ret)
{
	struct shmeta_str text;
	uint64_t base = 0;

	memset(ret, 0, sizeof *ret);
	if (ddb_get_s(item, "sk", &text))
		(void)ddb_u64(text, &base);
	ret->base_offset = base;
	ret->end_offset = (uint64_t)ddb_number(item, "e");
	ret->record_count = (uint32_t)ddb_number(item, "c");
	ret->size_bytes = (uint64_t)ddb_number(item, "z");
	ret->created_at_ms = ddb_number(item, "cat");
	ret->min_timestamp_ms = ddb_number(item, "t0");
	ret->max_timestamp_ms = ddb_number(item, "t1");
	ret->position = (uint64_t)ddb_number(item, "o");
	(void)ddb_get_s(item, "i", &ret->id);
	(void)ddb_get_s(item, "b", &ret->s3_bucket);
	(void)ddb_get_s(item, "k", &ret->s3_key);
}

bool ddb_id_is_of_place(struct shmeta_str id, struct shmeta_str topic, uint32_t partition, uint64_t base)
{
	char text[SHMETA_NAME_MAX + 48];
	int n = snprintf(text, sizeof text, "%.*s-%" PRIu32 "-%" PRIu64, (int)topic.bytes, topic.data, partition, base);

	return n > 0 && (size_t)n < sizeof text && str_equal(id, (struct shmeta_str){text, (size_t)n});
}

/* The place that an id is made of. */
static bool place_of_id(struct shmeta_str id, struct shmeta_str *topic, uint32_t *partition, uint64_t *base)
{
	size_t second = id.bytes, first;
	uint64_t number;

	while (second > 0 && id.data[second - 1] != '-')
		second--;
	if (second < 2 || !ddb_u64((struct shmeta_str){id.data + second, id.bytes - second}, base))
		return false;
	first = second - 1;
	while (first > 0 && id.data[first - 1] != '-')
		first--;
	if (first < 2 || !ddb_u64((struct shmeta_str){id.data + first, second - 1 - first}, &number) ||
	    number > UINT32_MAX || *base > ROWS_OFFSET_MAX)
		return false;
	*partition = (uint32_t)number;
	*topic = (struct shmeta_str){id.data, first - 1};
	return topic->bytes <= SHMETA_NAME_MAX;
}

bool ddb_segment_id_is_taken(struct ddb_writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                             struct ddb_entry **ret)
{
	struct shmeta_str topic;
	uint32_t partition;
	uint64_t base;
	struct ddb_key key;

	*ret = NULL;
	if (ddb_id_is_of_place(s->id, op->op->name, op->op->partition_id, s->base_offset))
		return false;
	ddb_key_id(&key, s->id);
	*ret = ddb_ledger_get(&w->ledger, &key);
	if (*ret != NULL && (*ret)->item != NULL)
		return true;
	if (place_of_id(s->id, &topic, &partition, &base)) {
		const struct ddb_entry *header, *there;
		struct shmeta_str id;

		ddb_key_header(&key, op->tenant, topic, partition);
		header = ddb_ledger_get(&w->ledger, &key);
		if (header == NULL || !ddb_is_alive(header->item))
			return false;
		ddb_key_segment(&key, op->tenant, ddb_text(header->item, "inc"), partition, base);
		there = ddb_ledger_get(&w->ledger, &key);
		return there != NULL && there->item != NULL && ddb_get_s(there->item, "i", &id) && str_equal(id, s->id);
	}
	return false;
}

bool ddb_segment_remove(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                        struct ddb_entry *e)
{
	struct ddb_entry *id = NULL, *object = NULL;
	struct shmeta_segment s;
	struct ddb_key key;

	ddb_segment_of(e->item, &s);
	if (!ddb_id_is_of_place(s.id, topic, partition, s.base_offset)) {
		ddb_key_id(&key, s.id);
		id = ddb_ledger_blind(&w->ledger, &key);
		if (id == NULL)
			return false;
	}
	if (ddb_has(e->item, "ob")) {
		ddb_key_object(&key, tenant, s.s3_bucket, s.s3_key);
		object = ddb_ledger_get(&w->ledger, &key);
		if (object == NULL)
			return false;
	}
	if (id != NULL)
		ddb_remove(w, id);
	if (object != NULL && object->item != NULL) {
		json_t *item = json_copy(object->item);

		ddb_put_n(item, "refs", ddb_number(item, "refs") - 1);
		ddb_write(w, object, item);
	}
	ddb_remove(w, e);
	return true;
}

void ddb_object_add(struct ddb_writing *w, struct ddb_entry *object)
{
	json_t *item = json_copy(object->item);

	ddb_put_n(item, "refs", ddb_number(item, "refs") + 1);
	(void)json_object_del(item, "since");
	ddb_write(w, object, item);
}

void ddb_header_add(json_t *header, const struct shmeta_segment *s)
{
	int64_t reaches = (int64_t)(s->end_offset - s->base_offset);

	/* A header with segments and without lg is a former version's: nothing is known of
	 * those. */
	if (ddb_number(header, "ns") == 0 || (ddb_has(header, "lg") && reaches > ddb_number(header, "lg")))
		ddb_put_n(header, "lg", reaches);
	ddb_put_n(header, "ns", ddb_number(header, "ns") + 1);
}

void ddb_header_take(json_t *header)
{
	ddb_put_n(header, "ns", ddb_number(header, "ns") - 1);
}
