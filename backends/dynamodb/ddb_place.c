/* SPDX-License-Identifier: Apache-2.0
 * Places of operations (ddb_place.h). */
#include "backends/dynamodb/ddb_place.h"

#include <string.h>

#include "backends/op_errors.h"
#include "base/str.h"

bool ddb_is_alive(const json_t *header)
{
	return header != NULL && !ddb_has(header, "dead");
}

bool ddb_place_of(struct ddb_writing *w, const struct backend_op *op, struct ddb_place *ret, struct shmeta_result *r)
{
	static const char *const lasting[] = {"ep", "ce", "xid", "xexp"};
	uint32_t partition = op->op->partition_id;
	struct ddb_key key;
	const json_t *topic;

	memset(ret, 0, sizeof *ret);
	ddb_key_header(&key, op->tenant, op->op->name, partition);
	ret->header = ddb_ledger_get(&w->ledger, &key);
	if (ret->header == NULL)
		return false;
	if (ddb_is_alive(ret->header->item)) {
		ret->item = json_copy(ret->header->item);
		return ret->item != NULL;
	}
	ddb_key_topic(&key, op->tenant, op->op->name);
	ret->topic = ddb_ledger_get(&w->ledger, &key);
	if (ret->topic == NULL)
		return false;
	topic = ret->topic->item;
	if (topic == NULL || ddb_has(topic, "gone") || (int64_t)partition >= ddb_number(topic, "n")) {
		refuse_place(op->op, topic != NULL && !ddb_has(topic, "gone"), r);
		return false;
	}
	/* A partition that nothing was written to yet. Epochs, and an offer, outlive the topic that
	 * had its name before. */
	ret->item = ddb_item_of(&ret->header->key);
	ddb_put_t(ret->item, "inc", ddb_text(topic, "inc"));
	ddb_put_n(ret->item, "cat", ddb_number(topic, "cat"));
	ddb_put_n(ret->item, "uat", ddb_number(topic, "cat"));
	ddb_put_n(ret->item, "hw", 0);
	ddb_put_n(ret->item, "ns", 0);
	for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
		if (ddb_has(ret->header->item, lasting[i]))
			ddb_put_n(ret->item, lasting[i], ddb_number(ret->header->item, lasting[i]));
	return true;
}

bool ddb_passes_fence(const struct ddb_writing *w, const struct shmeta_op *op, const json_t *header,
                      struct shmeta_result *r)
{
	struct shmeta_str holder;

	if (op->fence.agent_id.bytes == 0 ||
	    (ddb_get_s(header, "ag", &holder) && str_equal(holder, op->fence.agent_id) &&
	     ddb_number(header, "exp") > w->now_ms && (uint64_t)ddb_number(header, "ep") == op->fence.epoch))
		return true;
	refuse_fence(op, r);
	return false;
}

void ddb_place_write(struct ddb_writing *w, struct ddb_place *place)
{
	if (place->topic != NULL)
		ddb_check(w, place->topic, DDB_SAME);
	ddb_write(w, place->header, place->item);
	place->item = NULL;
}
