/* SPDX-License-Identifier: Apache-2.0
 * Leader epochs (ddb_epochs.h). */
#include "backends/dynamodb/ddb_epochs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_place.h"
#include "backends/leader_epochs.h"

enum { TRIES = 12, EPOCH_TEXT_MAX = 42 /* two numbers, ':', ' ' */ };

/* ---- the item of the former ones ---- */

/* "EPOCH:START ", ascending. What cannot be read is not kept any more. */
static bool read_former(const json_t *item, struct leader_epochs *ret)
{
	const char *at = ddb_text(item, "es");

	ret->dropped |= ddb_has(item, "d");
	for (char *end; *at != '\0'; at = end + strspn(end, " ")) {
		uint64_t epoch = strtoull(at, &end, 10);

		if (end == at || *end != ':') {
			ret->dropped = true;
			break;
		}
		at = end + 1;
		if (!leader_epochs_record(ret, epoch, strtoull(at, &end, 10), false))
			return false;
	}
	return true;
}

static json_t *former_item(const struct ddb_key *key, const struct leader_epochs *e)
{
	char *text = malloc(e->count * EPOCH_TEXT_MAX + 1);
	json_t *item = ddb_item_of(key);
	size_t used = 0;

	if (text == NULL) {
		json_decref(item);
		return NULL;
	}
	text[0] = '\0';
	for (size_t i = 0; i < e->count; i++)
		used += (size_t)snprintf(text + used, EPOCH_TEXT_MAX + 1, "%s%" PRIu64 ":%" PRIu64, i > 0 ? " " : "",
		                         e->list[i].epoch, e->list[i].start);
	ddb_put_t(item, "es", text);
	if (e->dropped)
		ddb_put_n(item, "d", 1);
	free(text);
	return item;
}

/* All of a partition. false: no memory. */
static bool read_all(const json_t *header, const json_t *former, struct leader_epochs *ret)
{
	return read_former(former, ret) &&
	       (!ddb_has(header, "le") || leader_epochs_record(ret, (uint64_t)ddb_number(header, "le"),
	                                                       (uint64_t)ddb_number(header, "ls"), false));
}

/* As they are to be, into the header and the item. */
static void write_all(struct ddb_writing *w, const struct leader_epochs *e, json_t *header, struct ddb_entry *former)
{
	struct leader_epochs rest = {.list = e->list, .count = e->count - 1, .dropped = e->dropped};
	const struct leader_epoch *newest = &e->list[rest.count];
	json_t *item = former_item(&former->key, &rest);

	if (item == NULL) {
		w->ledger.no_memory = true;
		return;
	}
	ddb_put_n(header, "le", (int64_t)newest->epoch);
	ddb_put_n(header, "ls", (int64_t)newest->start);
	ddb_put_n(header, "lo", 1);
	ddb_write(w, former, item);
}

/* ---- writing ---- */

void ddb_epoch_record(struct ddb_writing *w, const struct backend_op *op, json_t *header, uint64_t start)
{
	const uint64_t epoch = op->op->fence.epoch;
	struct leader_epochs all = {.count = 0};
	struct ddb_entry *former;
	struct ddb_key key;

	if (!leader_epoch_writes(op->op))
		return;
	if (ddb_has(header, "le") && (uint64_t)ddb_number(header, "le") == epoch) {
		if (op->op->type != SHMETA_OP_UPDATE_HIGH_WATERMARK && start < (uint64_t)ddb_number(header, "ls"))
			ddb_put_n(header, "ls", (int64_t)start);
		return;
	}
	if (!ddb_has(header, "le")) {
		ddb_put_n(header, "le", (int64_t)epoch);
		ddb_put_n(header, "ls", (int64_t)start);
		return;
	}
	ddb_key_epochs(&key, op->tenant, ddb_text(header, "inc"), op->op->partition_id);
	former = ddb_ledger_get(&w->ledger, &key);
	if (former == NULL)
		return;
	if (read_all(header, former->item, &all) && leader_epochs_record(&all, epoch, start, false))
		write_all(w, &all, header, former);
	else
		w->ledger.no_memory = true;
	free(all.list);
}

bool ddb_epochs_trim(struct ddb_writing *w, const struct backend_op *op, json_t *header, uint64_t log_start)
{
	struct leader_epochs all = {.count = 0};
	struct ddb_entry *former;
	struct ddb_key key;
	bool trimmed = false;

	ddb_key_epochs(&key, op->tenant, ddb_text(header, "inc"), op->op->partition_id);
	former = ddb_ledger_get(&w->ledger, &key);
	if (former == NULL)
		return false;
	if (read_all(header, former->item, &all))
		trimmed = leader_epochs_trim(&all, log_start);
	else
		w->ledger.no_memory = true;
	if (trimmed)
		write_all(w, &all, header, former);
	free(all.list);
	return trimmed;
}

void ddb_epochs_drop(struct ddb_writing *w, struct shmeta_str tenant, uint32_t partition, json_t *header)
{
	struct ddb_entry *former;
	struct ddb_key key;

	if (ddb_has(header, "lo")) {
		ddb_key_epochs(&key, tenant, ddb_text(header, "inc"), partition);
		former = ddb_ledger_blind(&w->ledger, &key);
		if (former != NULL)
			ddb_remove(w, former);
	}
	(void)json_object_del(header, "le");
	(void)json_object_del(header, "ls");
	(void)json_object_del(header, "lo");
}

/* ---- asking ---- */

static uint64_t offset_of(const json_t *header)
{
	int64_t offset;

	/* not one that can be read */
	return ddb_get_n(header, "hw", &offset) ? (uint64_t)offset : UINT64_MAX;
}

/* Without a header: is there such a partition all the same? */
static enum shmeta_status ask_topic(struct ddb_state *s, const struct backend_epoch *ask, struct ddb_ledger *l,
                                    struct leader_epoch_facts *facts, struct backend_error *err)
{
	const json_t *topic;
	struct ddb_key key;
	enum shmeta_status status;

	ddb_key_topic(&key, ask->tenant, ask->topic);
	status = ddb_ledger_look(s, l, &key, &topic, err);
	facts->topic = topic != NULL && !ddb_has(topic, "gone");
	facts->partition = facts->topic && (int64_t)ask->partition_id < ddb_number(topic, "n");
	return status;
}

/* The item is read behind the header: it is as new, or newer, and then has what the header calls
 * the newest one, too. *ret_again: it is gone, and so is the header's topic. */
static enum shmeta_status ask_once(struct ddb_state *s, const struct backend_epoch *ask,
                                   struct leader_epoch_facts *facts, bool *ret_again, struct backend_error *err)
{
	struct ddb_ledger l = {.count = 0};
	struct leader_epochs all = {.count = 0};
	const json_t *header, *former = NULL;
	struct ddb_key key;
	enum shmeta_status status;

	*ret_again = false;
	*facts = (struct leader_epoch_facts){.topic = false};
	ddb_key_header(&key, ask->tenant, ask->topic, ask->partition_id);
	status = ddb_ledger_look(s, &l, &key, &header, err);
	facts->current = (uint64_t)ddb_number(header, "ep");
	if (status == SHMETA_OK && !ddb_is_alive(header)) {
		status = ask_topic(s, ask, &l, facts, err);
	} else if (status == SHMETA_OK) {
		facts->topic = facts->partition = true;
		facts->high_watermark = offset_of(header);
		ddb_key_epochs(&key, ask->tenant, ddb_text(header, "inc"), ask->partition_id);
		if (ddb_has(header, "lo"))
			status = ddb_ledger_look(s, &l, &key, &former, err);
		*ret_again = ddb_has(header, "lo") && former == NULL;
		if (status == SHMETA_OK && !read_all(header, former, &all))
			status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
		if (status == SHMETA_OK)
			leader_epochs_look_up(&all, ask->epoch, facts);
	}
	free(all.list);
	ddb_ledger_free(&l);
	return status;
}

enum shmeta_status ddb_epoch_end(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                 struct backend_error *err)
{
	struct ddb_state *s = state;
	struct leader_epoch_facts facts;
	enum shmeta_status status;
	bool again = true;

	ddb_begin(s, DDB_FOR_FETCH);
	for (unsigned int tries = 1; again; tries++) {
		status = ask_once(s, ask, &facts, &again, err);
		if (status != SHMETA_OK)
			return status;
		if (again && (tries == TRIES || ddb_now_ns() >= s->deadline_ns))
			return backend_alone(err,
			                     backend_fail(err, SHMETA_ERR_SOURCE,
			                                  "dynamodb: the epochs of partition %u change again and again",
			                                  ask->partition_id));
		if (again)
			ddb_pause(tries, s->deadline_ns);
	}
	return leader_epoch_judge(ask, &facts, ret, err);
}
