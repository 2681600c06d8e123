/* SPDX-License-Identifier: Apache-2.0
 * Transactions of the applier: begin, commit, abort, and what all kinds of records share. */
#include "writer/apply/apply_private.h"

#include <assert.h>

#include "base/probes.h"
#include "base/row_limits.h"

enum shmeta_status apply_no_memory(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while applying rows");
}

/* A row that apply itself refuses. */
enum shmeta_status apply_refuse_row(struct apply *a, const struct backend_key *row, const char *sentence,
                                    struct shmeta_err *err)
{
	return a->host.quarantine == NULL ? SHMETA_OK : quarantine_row(a, a->host.quarantine, row, 1, sentence, err);
}

enum shmeta_status apply_begin(struct apply *a, struct shmeta__store *store, const struct apply_host *host,
                               uint64_t oldest_pin, bool fresh, struct shmeta_err *err)
{
	assert(a->txn == NULL);
	struct shmeta__txn *txn;
	enum shmeta_status status = shmeta__txn_begin(store, oldest_pin, &txn, err);

	if (status != SHMETA_OK)
		return status;
	a->store = store;
	a->txn = txn;
	a->host = *host;
	a->pager = shmeta__txn_pager(txn);
	a->fresh = fresh;
	a->changed = a->unchanged = a->removed = a->hung = 0;
	a->reborn = false;
	a->orphans = 0;
	a->new_topics = false;
	a->in_topic = false;
	a->tenant = 0;
	a->ref_valid = false;
	a->keyed = false;
	a->dead_count = 0;
	changed_keys_begin(&a->keys);
	return SHMETA_OK;
}

static void end_transaction(struct apply *a, bool committed)
{
	if (a->host.watch != NULL && a->txn != NULL)
		a->host.watch->ended(a->host.arg, committed);
	shmeta__part_edit_free(a->edit);
	a->edit = NULL;
	a->txn = NULL;
	a->in_topic = false;
	a->dead_count = 0;
	a->entered = a->left = (struct apply_notes){.first = NULL};
	arena_reset(&a->arena);
}

void apply_abort(struct apply *a)
{
	/* The edit speaks through the transaction's pager: it goes first. */
	shmeta__part_edit_free(a->edit);
	a->edit = NULL;
	shmeta__txn_abort(a->txn);
	if (a->dead_count > 0)
		offset_index_free(&a->offsets); /* what it gave away may not have died */
	end_transaction(a, false);
}

void apply_free(struct apply *a)
{
	apply_abort(a);
	keyset_free(&a->seen_agents);
	keyset_free(&a->seen_groups);
	keyset_free(&a->seen_offsets);
	keyset_free(&a->seen_leases);
	keyset_free(&a->seen_key);
	free(a->old_ids);
	free(a->dead);
	offset_index_free(&a->offsets);
	changed_keys_free(&a->keys);
	arena_free(&a->arena);
	*a = (struct apply){0};
}

struct purge {
	struct apply *a;
	struct shmeta_err *err;
};

static enum shmeta_status purge_offset(void *arg, const void *key, size_t key_bytes)
{
	const struct purge *purge = arg;
	struct apply *a = purge->a;
	enum shmeta_status status = apply_delete(a, SHMETA_DB_OFFSETS, key, key_bytes, SHMETA_CLASS_OFFSET, purge->err);

	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	a->changed++;
	a->hung++;
	return SHMETA_OK;
}

/* Committed offsets of the topics and partitions that died in this transaction. */
static enum shmeta_status purge_offsets(struct apply *a, struct shmeta_err *err)
{
	struct purge purge = {a, err};
	enum shmeta_status status = SHMETA_OK;

	if (a->dead_count > 0)
		status = offset_index_ready(&a->offsets, shmeta__store_number(a->store), a->txn, err);
	for (size_t i = 0; i < a->dead_count && status == SHMETA_OK; i++)
		status = offset_index_take(&a->offsets, (uint32_t)(a->dead[i] >> 32), (uint32_t)a->dead[i],
		                           purge_offset, &purge);
	return status;
}

enum shmeta_status apply_commit(struct apply *a, uint64_t *ret_txn, struct shmeta_err *err)
{
	assert(a->txn != NULL && a->edit == NULL);
	enum shmeta_status status = a->host.watch != NULL ? a->host.watch->fit(a->host.arg, a, err) : SHMETA_OK;

	if (status == SHMETA_OK)
		status = purge_offsets(a, err);
	if (status != SHMETA_OK) {
		apply_abort(a);
		return status;
	}
	uint64_t txn;

	shmeta__txn_keys(a->txn, a->keys.lost ? NULL : a->keys.bytes, a->keys.used, a->keys.count + a->keys.lost);
	shmeta__txn_watch(a->txn, a->host.committed, a->host.arg);
	status = shmeta__txn_commit(a->txn, &txn, err);
	if (status == SHMETA_OK) {
		shmeta_probe_commit(txn, a->changed);
		apply_tell_notes(a, false);
		apply_tell_notes(a, true);
	} else if (a->dead_count > 0) {
		offset_index_free(&a->offsets);
	}
	end_transaction(a, status == SHMETA_OK);
	if (status == SHMETA_OK)
		*ret_txn = a->committed = txn;
	return status;
}

enum shmeta_status apply_mark_dead(struct apply *a, uint32_t topic_id, uint32_t partition_id, struct shmeta_err *err)
{
	if (a->dead_count == a->dead_capacity) {
		size_t capacity = a->dead_capacity == 0 ? 64 : a->dead_capacity * 2;
		uint64_t *bigger = reallocarray(a->dead, capacity, sizeof *bigger);

		if (bigger == NULL)
			return apply_no_memory(err);
		a->dead = bigger;
		a->dead_capacity = capacity;
	}
	a->dead[a->dead_count++] = shmeta__part_key(topic_id, partition_id);
	return SHMETA_OK;
}

enum shmeta_status apply_tenant_number(struct apply *a, struct shmeta_str tenant, bool create, uint32_t *ret,
                                       struct shmeta_err *err)
{
	if (a->tenant_name.data != NULL && a->tenant != 0 && a->tenant_name.bytes == tenant.bytes &&
	    memcmp(a->tenant_name.data, tenant.data, tenant.bytes) == 0) {
		*ret = a->tenant;
		return SHMETA_OK;
	}
	uint32_t number;
	enum shmeta_status status = shmeta__tenant(a->txn, tenant.data, tenant.bytes, create, &number, err);

	if (status != SHMETA_OK)
		return status;
	if (tenant.bytes <= SHMETA_TENANT_MAX) {
		memcpy(a->tenant_text, tenant.data, tenant.bytes);
		a->tenant_name = (struct shmeta_str){a->tenant_text, tenant.bytes};
		a->tenant = number;
	}
	*ret = number;
	return SHMETA_OK;
}

const char *apply_tenant_error(struct shmeta_str tenant)
{
	return shmeta__name_error(tenant.data, tenant.bytes, SHMETA_TENANT_MAX);
}

enum shmeta_status apply_feed(struct apply *a, const void *position, size_t bytes, struct shmeta_err *err)
{
	const void *value;
	size_t old;
	enum shmeta_status status =
		shmeta__get(a->txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), &value, &old, err);

	if (apply_failed(status))
		return status;
	if (status == SHMETA_OK && old == bytes && memcmp(value, position, bytes) == 0)
		return SHMETA_OK;
	return shmeta__put(a->txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), position, bytes, err);
}
