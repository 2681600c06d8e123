/* SPDX-License-Identifier: Apache-2.0
 * Differences into store transactions. */
#include "writer/apply/apply.h"

#include <assert.h>
#include <stdio.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"

/* Not C9's limit but LMDB's: UINT64_MAX as an integer key is the sentinel. */
static const uint32_t TOPIC_ID_MAX = UINT32_MAX - 1;

static enum shmeta_status no_memory(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while applying rows");
}

static bool failed(enum shmeta_status status)
{
	return status < 0;
}

/* A row that apply itself refuses. */
static enum shmeta_status quarantine(struct apply *a, const struct backend_key *row, const char *sentence,
                                     struct shmeta_err *err)
{
	return a->host.quarantine == NULL ? SHMETA_OK : quarantine_row(a, a->host.quarantine, row, 1, sentence, err);
}

static struct keyset *class_set(struct apply *a, enum shmeta_db db)
{
	if (a->keyed)
		return &a->seen_key;
	switch (db) {
	case SHMETA_DB_AGENTS:
		return &a->seen_agents;
	case SHMETA_DB_GROUPS:
		return &a->seen_groups;
	case SHMETA_DB_OFFSETS:
		return &a->seen_offsets;
	default:
		return &a->seen_leases;
	}
}

/* ---- the transaction ------------------------------------------------------------------------------------------------------ */

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
	return SHMETA_OK;
}

static void end_transaction(struct apply *a)
{
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
	end_transaction(a);
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
	arena_free(&a->arena);
	*a = (struct apply){0};
}

struct doomed { /* a key to be deleted, found while a cursor was open */
	struct doomed *next;
	size_t bytes;
	uint8_t key[];
};

static enum shmeta_status doom(struct apply *a, struct doomed **list, const void *key, size_t bytes,
                               struct shmeta_err *err)
{
	struct doomed *d = arena_alloc(&a->arena, sizeof *d + bytes);

	if (d == NULL)
		return no_memory(err);
	d->next = *list;
	d->bytes = bytes;
	memcpy(d->key, key, bytes);
	*list = d;
	return SHMETA_OK;
}

struct purge {
	struct apply *a;
	struct shmeta_err *err;
};

static enum shmeta_status purge_offset(void *arg, const void *key, size_t key_bytes)
{
	const struct purge *purge = arg;
	struct apply *a = purge->a;
	enum shmeta_status status = shmeta__delete(a->txn, SHMETA_DB_OFFSETS, key, key_bytes, purge->err);

	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	shmeta__touch_class(a->txn, SHMETA_CLASS_OFFSET);
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
	enum shmeta_status status = purge_offsets(a, err);

	if (status != SHMETA_OK) {
		apply_abort(a);
		return status;
	}
	uint64_t txn;

	status = shmeta__txn_commit(a->txn, &txn, err);
	if (status == SHMETA_OK) {
		apply_tell_notes(a, false);
		apply_tell_notes(a, true);
	} else if (a->dead_count > 0) {
		offset_index_free(&a->offsets);
	}
	end_transaction(a);
	if (status == SHMETA_OK)
		*ret_txn = a->committed = txn;
	return status;
}

static enum shmeta_status mark_dead(struct apply *a, uint32_t topic_id, uint32_t partition_id, struct shmeta_err *err)
{
	if (a->dead_count == a->dead_capacity) {
		size_t capacity = a->dead_capacity == 0 ? 64 : a->dead_capacity * 2;
		uint64_t *bigger = reallocarray(a->dead, capacity, sizeof *bigger);

		if (bigger == NULL)
			return no_memory(err);
		a->dead = bigger;
		a->dead_capacity = capacity;
	}
	a->dead[a->dead_count++] = shmeta__part_key(topic_id, partition_id);
	return SHMETA_OK;
}

/* The tenant's number. A tenant that nobody has named is made only when create says so. */
static enum shmeta_status tenant_number(struct apply *a, struct shmeta_str tenant, bool create, uint32_t *ret,
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

static const char *tenant_error(struct shmeta_str tenant)
{
	return shmeta__name_error(tenant.data, tenant.bytes, SHMETA_TENANT_MAX);
}

/* ---- topics ----------------------------------------------------------------------------------------------------------------- */

enum shmeta_status apply_topic_get(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str name,
                                   struct shmeta_topic *ret, struct shmeta__stamps *ret_stamps, struct shmeta_err *err)
{
	uint32_t number;
	uint8_t key[SHMETA_KEY_MAX];
	const void *value;
	size_t bytes;

	if (name.bytes == 0 || name.bytes > SHMETA_NAME_MAX || tenant.bytes > SHMETA_TENANT_MAX)
		return SHMETA_ABSENT;
	enum shmeta_status status = shmeta__tenant(txn, tenant.data, tenant.bytes, 0, &number, err);

	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__name_key(key, number, name.data, name.bytes);

	status = shmeta__get(txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, ret, ret_stamps);
	if (status != SHMETA_OK) {
		char text[128];

		return shmeta_fail(err, status, "the stored record of topic %s is damaged",
		                   shmeta__escape(text, sizeof text, name.data, name.bytes));
	}
	return SHMETA_OK;
}

enum shmeta_status apply_topic_name(struct shmeta__txn *txn, uint32_t topic_id, struct shmeta_str *ret_tenant,
                                    struct shmeta_str *ret_topic, struct shmeta_err *err)
{
	static const size_t prefix = sizeof SHMETA_META_TENANT - 1;
	uint64_t id = topic_id;
	const void *name, *key, *value;
	size_t name_bytes, key_bytes, bytes;
	struct shmeta__cursor *cursor;
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_TOPICS, &id, sizeof id, &name, &name_bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (name_bytes < 5 || name_bytes > SHMETA_KEY_MAX)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "the stored name of topic number %u is damaged", topic_id);
	status = shmeta__cursor_open(txn, SHMETA_DB_META, SHMETA_META_TENANT, prefix, &cursor, err);
	if (status != SHMETA_OK)
		return status;
	for (;;) {
		uint32_t number;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK)
			break;
		if (key_bytes <= prefix || memcmp(key, SHMETA_META_TENANT, prefix) != 0 || bytes != sizeof number) {
			status = SHMETA_END;
			break;
		}
		memcpy(&number, value, sizeof number);
		if (number == shmeta__get_be32(name))
			break;
	}
	shmeta__cursor_close(cursor);
	if (status == SHMETA_END)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "the tenant of topic number %u is not in the store",
		                   topic_id);
	if (status != SHMETA_OK)
		return status;
	*ret_tenant = (struct shmeta_str){(const char *)key + prefix, key_bytes - prefix};
	*ret_topic = (struct shmeta_str){(const char *)name + 4, name_bytes - 4};
	return SHMETA_OK;
}

/* What a head says of itself; pages only for who looks at its segments. */
static enum shmeta_status peek(const struct shmeta__pages *pages, uint64_t key, const void *head, size_t bytes,
                               struct shmeta__part *ret, struct shmeta_err *err)
{
	const struct shmeta__pages none = {NULL, 0, SHMETA_PAGE};

	memset(ret, 0, sizeof *ret);
	enum shmeta_status status = shmeta__part_open(ret, key, head, bytes, pages != NULL ? pages : &none);

	if (status != SHMETA_OK)
		return shmeta_fail(err, status, "the stored index of partition %u of topic number %u is damaged",
		                   (unsigned)key, (unsigned)(key >> 32));
	return SHMETA_OK;
}

static void touch_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id)
{
	if (!a->fresh)
		shmeta__touch(a->txn, shmeta__touched_partition(topic_id, partition_id));
	shmeta__touch_class(a->txn, SHMETA_CLASS_PARTITION);
	shmeta__touch_class(a->txn, SHMETA_CLASS_SEGMENT);
}

static enum shmeta_status drop_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id, const char *topic,
                                         size_t topic_bytes, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	const void *head;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	struct shmeta__part part;
	struct shmeta_partition record;

	status = peek(NULL, key, head, bytes, &part, err);
	if (status != SHMETA_OK)
		return status;
	shmeta__part_record(&part, &record);
	shmeta__part_close(&part);

	struct shmeta__part_edit *edit;

	status = shmeta__part_edit_new(key, topic, topic_bytes, head, bytes, &a->pager, &edit, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__part_edit_drop(edit, err);
	shmeta__part_edit_free(edit);
	if (status == SHMETA_OK)
		status = shmeta__delete(a->txn, SHMETA_DB_PARTS, &key, sizeof key, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__delete(a->txn, SHMETA_DB_LEASES, &key, sizeof key, err);
	if (failed(status))
		return status;
	if (status == SHMETA_OK) {
		shmeta__touch_class(a->txn, SHMETA_CLASS_LEASE);
		a->hung++;
	}

	struct shmeta_store_counters *counters = shmeta__store_counters(a->store);

	counters->partitions--;
	counters->segments -= record.segment_count;
	a->changed += 1 + record.segment_count;
	a->removed += 1 + record.segment_count;
	touch_partition(a, topic_id, partition_id);
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
				status = no_memory(err);
				break;
			}
			*ids = bigger;
			*capacity = more;
		}
		(*ids)[(*ret_count)++] = (uint32_t)part_key;
	}
	shmeta__cursor_close(cursor);
	return failed(status) ? status : SHMETA_OK;
}

static enum shmeta_status list_partitions(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	a->old_at = 0;
	return apply_partition_ids(a->txn, topic_id, &a->old_ids, &a->old_count, &a->old_capacity, err);
}

/* All that hangs on a topic_id, but not its name. */
static enum shmeta_status drop_incarnation(struct apply *a, uint32_t topic_id, const char *topic, size_t topic_bytes,
                                           struct shmeta_err *err)
{
	enum shmeta_status status = list_partitions(a, topic_id, err);

	for (size_t i = 0; status == SHMETA_OK && i < a->old_count; i++)
		status = drop_partition(a, topic_id, a->old_ids[i], topic, topic_bytes, err);
	a->old_count = a->old_at = 0;
	if (status == SHMETA_OK) {
		uint64_t id = topic_id;

		status = shmeta__delete(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, err);
	}
	if (failed(status))
		return status;
	a->ref_valid = false;
	shmeta__store_counters(a->store)->topics--;
	return mark_dead(a, topic_id, UINT32_MAX, err);
}

static enum shmeta_status new_topic_id(struct apply *a, uint32_t *ret, struct shmeta_err *err)
{
	struct shmeta_store_counters *counters = shmeta__store_counters(a->store);

	if (counters->next_topic_id == 0)
		counters->next_topic_id = 1;
	if (counters->next_topic_id > TOPIC_ID_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL,
		                   "all %u topic numbers of this store have been used: start with a new instance "
		                   "directory",
		                   TOPIC_ID_MAX);
	*ret = (uint32_t)counters->next_topic_id++;
	return SHMETA_OK;
}

static void touch_name(struct apply *a, uint32_t tenant, struct shmeta_str name, bool set_changed)
{
	if (!a->fresh)
		shmeta__touch(a->txn, shmeta__touched_name(shmeta__name_hash(tenant, name.data, name.bytes)));
	shmeta__touch_class(a->txn, SHMETA_CLASS_TOPIC);
	if (set_changed)
		shmeta__touch_class(a->txn, SHMETA_CLASS_LIST);
}

/* Both have been judged. */
static void name_topic(struct apply *a, struct shmeta_str tenant, struct shmeta_str name)
{
	memcpy(a->name_text, name.data, name.bytes);
	a->name_text[name.bytes] = '\0';
	a->name = (struct shmeta_str){a->name_text, name.bytes};
	memcpy(a->topic_tenant_text, tenant.data, tenant.bytes);
	a->topic_tenant = (struct shmeta_str){a->topic_tenant_text, tenant.bytes};
}

enum shmeta_status apply_topic(struct apply *a, struct shmeta_str tenant, const struct shmeta_topic *topic,
                               const struct apply_topic_opts *opts, struct shmeta_err *err)
{
	assert(!a->in_topic);
	char text[512];
	const char *wrong = tenant_error(tenant);

	if (wrong != NULL) {
		snprintf(text, sizeof text, "organization_id of a topic: %s", wrong);
		wrong = text;
	} else {
		wrong = shmeta__topic_error(topic, text, sizeof text);
	}
	const struct backend_key row = {.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = topic->name};
	enum shmeta_status status;

	if (wrong != NULL) {
		status = quarantine(a, &row, wrong, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}

	uint8_t key[SHMETA_KEY_MAX];
	uint32_t number;

	status = tenant_number(a, tenant, true, &number, err);

	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__name_key(key, number, topic->name.data, topic->name.bytes);
	const void *value;
	size_t bytes;
	struct shmeta_topic old;
	struct shmeta__stamps old_stamps = {0};
	bool exists = false;

	status = shmeta__get(a->txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, err);
	if (failed(status))
		return status;
	if (status == SHMETA_OK) {
		status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, &old, &old_stamps);
		if (status != SHMETA_OK)
			return shmeta_fail(err, status, "the stored record of topic %s is damaged",
			                   shmeta__escape(text, sizeof text, topic->name.data, topic->name.bytes));
		exists = true;
	}
	if (exists && a->fresh) {
		snprintf(text, sizeof text, "topic %s comes twice",
		         shmeta__escape((char[300]){0}, 300, topic->name.data, topic->name.bytes));
		status = quarantine(a, &row, text, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}

	uint32_t ttl_ms = a->host.ttl_ms(a->host.arg, topic->name);
	bool same = exists && old.created_at_ms == topic->created_at_ms &&
	            (!opts->deleted || (opts->born_since > 0 && old.topic_id >= opts->born_since));
	struct shmeta_topic record = *topic;
	struct shmeta__stamps stamps = {opts->synced_at_ns, ttl_ms};
	size_t out;

	if (same) {
		/* Equal but for the time of the read: encode with the old time and compare the bytes. */
		record.topic_id = old.topic_id;
		stamps.synced_at_ns = old_stamps.synced_at_ns;
		out = shmeta__topic_encode(&record, &stamps, key, key_bytes, a->value, sizeof a->value);
		if (out != 0 && out == bytes && memcmp(a->value, value, bytes) == 0) {
			a->unchanged++;
			if (!opts->restamp && (old_stamps.synced_at_ns & SHMETA_SYNCED_ALONE) == 0)
				goto unchanged;
		} else {
			a->changed++;
		}
		stamps.synced_at_ns = opts->synced_at_ns;
	} else {
		if (exists) {
			a->removed++;
			a->reborn = true;
			status = drop_incarnation(a, old.topic_id, topic->name.data, topic->name.bytes, err);
			if (status != SHMETA_OK)
				return status;
		}
		status = new_topic_id(a, &record.topic_id, err);
		if (status != SHMETA_OK)
			return status;
		uint64_t id = record.topic_id;

		status = shmeta__put(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, key, key_bytes, err);
		if (status != SHMETA_OK)
			return status;
		shmeta__store_counters(a->store)->topics++;
		a->changed++;
		a->new_topics = true;
		a->ref_valid = false;
	}
	out = shmeta__topic_encode(&record, &stamps, key, key_bytes, a->value, sizeof a->value);
	if (out == 0)
		return shmeta_fail(err, SHMETA_ERR_BUFFER, "a topic record of %zu bytes of configuration does not fit",
		                   topic->config.bytes);
	status = shmeta__put(a->txn, SHMETA_DB_NAMES, key, key_bytes, a->value, out, err);
	if (status != SHMETA_OK)
		return status;
	touch_name(a, number, topic->name, !same);
unchanged:
	name_topic(a, tenant, topic->name);
	a->topic_id = record.topic_id;
	a->topic_ttl_ms = ttl_ms;
	a->topic_is_new = !same;
	a->synced_at_ns = opts->synced_at_ns;
	a->last_partition = -1;
	a->in_topic = true;
	a->old_count = a->old_at = 0;
	return same ? list_partitions(a, record.topic_id, err) : SHMETA_OK;
}

enum shmeta_status apply_topic_enter(struct apply *a, struct shmeta_str tenant, struct shmeta_str name,
                                     struct shmeta_err *err)
{
	assert(!a->in_topic);
	struct shmeta_topic topic;
	enum shmeta_status status = apply_topic_get(a->txn, tenant, name, &topic, NULL, err);

	if (status != SHMETA_OK)
		return status;
	name_topic(a, tenant, name);
	a->topic_id = topic.topic_id;
	a->topic_ttl_ms = a->host.ttl_ms(a->host.arg, a->name);
	a->topic_is_new = false;
	a->last_partition = -1;
	a->old_count = a->old_at = 0;
	a->in_topic = true;
	return SHMETA_OK;
}

void apply_topic_leave(struct apply *a)
{
	assert(a->edit == NULL);
	a->in_topic = false;
}

enum shmeta_status apply_topic_end(struct apply *a, struct shmeta_err *err)
{
	assert(a->in_topic && a->edit == NULL);
	a->in_topic = false;
	for (; a->old_at < a->old_count; a->old_at++) {
		enum shmeta_status status =
			drop_partition(a, a->topic_id, a->old_ids[a->old_at], a->name.data, a->name.bytes, err);

		if (status == SHMETA_OK)
			status = mark_dead(a, a->topic_id, a->old_ids[a->old_at], err);
		if (failed(status))
			return status;
	}
	return SHMETA_OK;
}

static enum shmeta_status delete_name(struct apply *a, const uint8_t *key, size_t key_bytes, struct shmeta_err *err)
{
	const void *value;
	size_t bytes;
	struct shmeta_topic topic;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, &topic, NULL);
	if (status != SHMETA_OK)
		return shmeta_fail(err, status, "the stored record of a topic that is to be deleted is damaged");

	struct shmeta_str name = {(const char *)key + 4, key_bytes - 4};

	status = drop_incarnation(a, topic.topic_id, name.data, name.bytes, err);
	if (status == SHMETA_OK)
		status = shmeta__delete(a->txn, SHMETA_DB_NAMES, key, key_bytes, err);
	if (status != SHMETA_OK)
		return status;
	a->changed++;
	a->removed++;
	touch_name(a, shmeta__get_be32(key), name, true);
	return SHMETA_OK;
}

enum shmeta_status apply_topic_delete(struct apply *a, struct shmeta_str tenant, struct shmeta_str name,
                                      struct shmeta_err *err)
{
	assert(!a->in_topic);
	uint32_t number;
	uint8_t key[SHMETA_KEY_MAX];

	if (tenant.bytes > SHMETA_TENANT_MAX || name.bytes == 0 || name.bytes > SHMETA_NAME_MAX)
		return SHMETA_ABSENT;
	enum shmeta_status status = tenant_number(a, tenant, false, &number, err);

	if (status != SHMETA_OK)
		return status;
	return delete_name(a, key, shmeta__name_key(key, number, name.data, name.bytes), err);
}

enum shmeta_status apply_topic_delete_id(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	assert(!a->in_topic);
	uint64_t id = topic_id;
	const void *value;
	size_t bytes;
	uint8_t key[SHMETA_KEY_MAX];
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (bytes < 5 || bytes > sizeof key)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "the stored name of topic number %u is damaged", topic_id);
	memcpy(key, value, bytes);
	return delete_name(a, key, bytes, err);
}

/* ---- partitions -------------------------------------------------------------------------------------------------------------- */

/* Partitions between the last one spoken of and this one do not exist. */
static enum shmeta_status skip_to(struct apply *a, uint32_t partition_id, bool *ret_known, struct shmeta_err *err)
{
	*ret_known = false;
	while (a->old_at < a->old_count && a->old_ids[a->old_at] < partition_id) {
		uint32_t gone = a->old_ids[a->old_at++];
		enum shmeta_status status = drop_partition(a, a->topic_id, gone, a->name.data, a->name.bytes, err);

		if (status == SHMETA_OK)
			status = mark_dead(a, a->topic_id, gone, err);
		if (failed(status))
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

	return quarantine(a, &row, sentence, err);
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
	a->before_synced_at_ns = 0;
	a->before_ttl_ms = 0;
	a->partition_is_new = true;
	if (!a->topic_is_new) {
		status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);
		if (failed(status))
			return status;
		if (status == SHMETA_OK) {
			struct shmeta__part part;

			status = peek(NULL, key, head, bytes, &part, err);
			if (status != SHMETA_OK)
				return status;
			shmeta__part_record(&part, &a->before);
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
	bool altered = a->partition_is_new || a->partition_changed > 0 || a->before_ttl_ms != a->topic_ttl_ms;

	if (altered || restamp || (a->before_synced_at_ns & SHMETA_SYNCED_ALONE) != 0) {
		uint64_t key = shmeta__part_key(a->topic_id, a->partition_id);
		const void *head;
		size_t bytes;
		struct shmeta__part part;
		struct shmeta_partition after;

		/* Only a whole read says something of all that the head stands for. What could not be read before has been read by now:
		 * all that was named of it meanwhile is. */
		shmeta__part_edit_stamp(edit, whole ? a->synced_at_ns : a->before_synced_at_ns & ~SHMETA_SYNCED_ALONE,
		                        a->topic_ttl_ms);
		status = shmeta__part_edit_encode(edit, &head, &bytes, err);
		if (status == SHMETA_OK)
			status = peek(NULL, key, head, bytes, &part, err);
		if (status == SHMETA_OK) {
			struct shmeta_store_counters *counters = shmeta__store_counters(a->store);

			shmeta__part_record(&part, &after);
			shmeta__part_close(&part);
			status = shmeta__put(a->txn, SHMETA_DB_PARTS, &key, sizeof key, head, bytes, err);
			counters->partitions += a->partition_is_new;
			counters->segments += after.segment_count - a->before.segment_count;
			if (after.segment_count < a->before.segment_count)
				a->removed += a->before.segment_count - after.segment_count;
			touch_partition(a, a->topic_id, a->partition_id);
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
	enum shmeta_status status = drop_partition(a, a->topic_id, partition_id, a->name.data, a->name.bytes, err);

	return status == SHMETA_OK ? mark_dead(a, a->topic_id, partition_id, err) : status;
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

	status = peek(&pages, key, head, bytes, &part, err);
	if (status != SHMETA_OK)
		return status;
	shmeta__part_record(&part, ret);
	status = shmeta__part_last(&part, &last);
	shmeta__part_close(&part);
	if (failed(status))
		return shmeta_fail(err, status, "the stored index of partition %u of topic number %u is damaged",
		                   partition_id, topic_id);
	*ret_any = status == SHMETA_OK;
	*ret_last_base = *ret_any ? last.base_offset : 0;
	return SHMETA_OK;
}

/* ---- agents, groups, offsets, leases ------------------------------------------------------------------------------------------ */

void apply_key_begin(struct apply *a, uint64_t synced_at_ns)
{
	enum { SLOTS_KEPT = 4096 };

	a->synced_at_ns = synced_at_ns;
	a->keyed = true;
	if (a->seen_key.slots > SLOTS_KEPT) /* a group of very many offsets: the next key does not pay for it */
		keyset_free(&a->seen_key);
	keyset_clear(&a->seen_key);
}

void apply_class_begin(struct apply *a, enum shmeta_class cls, uint64_t synced_at_ns)
{
	a->keyed = false;
	a->synced_at_ns = synced_at_ns;
	if (cls == SHMETA_CLASS_AGENT)
		keyset_clear(&a->seen_agents);
	if (cls == SHMETA_CLASS_LEASE)
		keyset_clear(&a->seen_leases);
	if (cls == SHMETA_CLASS_OFFSET) {
		keyset_clear(&a->seen_groups);
		keyset_clear(&a->seen_offsets);
	}
}

typedef size_t encode_fn(const void *record, const struct shmeta__stamps *stamps, const void *key, size_t key_bytes,
                         void *out, size_t capacity);

/* One small record: compare with what is stored under the key, put what differs. */
static enum shmeta_status put_record(struct apply *a, const struct backend_key *row, enum shmeta_db db, const void *key,
                                     size_t key_bytes, const void *record, encode_fn *encode, struct shmeta_err *err)
{
	enum shmeta_class cls = row->cls;
	int added = keyset_add(class_set(a, db), shmeta__name_hash((uint32_t)db, key, key_bytes));

	if (added < 0)
		return no_memory(err);
	if (added == 0) {
		char text[400], id[300];

		snprintf(text, sizeof text, "a row of class %s comes twice: %s",
		         cls == SHMETA_CLASS_AGENT   ? "agent"
		         : cls == SHMETA_CLASS_LEASE ? "lease"
		                                     : "offset",
		         shmeta__escape(id, sizeof id, key, key_bytes));
		return quarantine(a, row, text, err);
	}
	const void *value;
	size_t bytes = 0, out;
	struct shmeta__stamps stamps = {a->synced_at_ns, 0};
	enum shmeta_status status = shmeta__get(a->txn, db, key, key_bytes, &value, &bytes, err);

	bool is_new = status == SHMETA_ABSENT, same = false;

	if (failed(status))
		return status;
	if (status == SHMETA_OK && bytes >= sizeof(struct shmeta_record_head)) {
		struct shmeta_record_head head;

		memcpy(&head, value, sizeof head); /* values lie at any address */
		const struct shmeta__stamps old = {head.synced_at_ns, 0};

		out = encode(record, &old, key, key_bytes, a->value, sizeof a->value);
		same = out == bytes && memcmp(a->value, value, bytes) == 0;
		a->unchanged += same;
		if (same && (head.synced_at_ns & SHMETA_SYNCED_ALONE) == 0)
			return SHMETA_OK;
	}
	out = encode(record, &stamps, key, key_bytes, a->value, sizeof a->value);
	if (out == 0)
		return quarantine(a, row, "a row is larger than a record may be", err);
	status = shmeta__put(a->txn, db, key, key_bytes, a->value, out, err);
	if (status == SHMETA_OK) {
		a->changed += !same;
		shmeta__touch_class(a->txn, cls);
		if (is_new && db == SHMETA_DB_OFFSETS)
			offset_index_add(&a->offsets, shmeta__store_number(a->store), key, key_bytes);
	}
	return status;
}

static size_t encode_agent(const void *record, const struct shmeta__stamps *stamps, const void *key, size_t key_bytes,
                           void *out, size_t capacity)
{
	return shmeta__agent_encode(record, stamps, key, key_bytes, out, capacity);
}
static size_t encode_group(const void *record, const struct shmeta__stamps *stamps, const void *key, size_t key_bytes,
                           void *out, size_t capacity)
{
	return shmeta__group_encode(record, stamps, key, key_bytes, out, capacity);
}
static size_t encode_offset(const void *record, const struct shmeta__stamps *stamps, const void *key, size_t key_bytes,
                            void *out, size_t capacity)
{
	return shmeta__offset_encode(record, stamps, key, key_bytes, out, capacity);
}
static size_t encode_lease(const void *record, const struct shmeta__stamps *stamps, const void *key, size_t key_bytes,
                           void *out, size_t capacity)
{
	return shmeta__lease_encode(record, stamps, key, key_bytes, out, capacity);
}

/* The fields of a small record, judged one after the other: the first that is wrong says why. */
struct judged {
	char sentence[400]; /* empty: nothing is wrong */
};

/* A name of C9. */
static void judge_name(struct judged *j, const char *field, struct shmeta_str text, size_t max)
{
	const char *wrong = shmeta__name_error(text.data, text.bytes, max);
	char value[128];

	if (wrong != NULL && j->sentence[0] == '\0')
		snprintf(j->sentence, sizeof j->sentence, "%s '%s': %s", field,
		         shmeta__escape(value, sizeof value, text.data, text.bytes), wrong);
}

/* Free text: any bytes that are not too many. */
static void judge_text(struct judged *j, const char *field, struct shmeta_str text)
{
	if (text.bytes > SHMETA_STRING_MAX && j->sentence[0] == '\0')
		snprintf(j->sentence, sizeof j->sentence, "%s of %zu bytes: at most %d are allowed", field, text.bytes,
		         SHMETA_STRING_MAX);
}

static void judge_map(struct judged *j, const char *field, const struct shmeta_map *map)
{
	const char *wrong = shmeta__map_error(map);

	if (wrong != NULL && j->sentence[0] == '\0')
		snprintf(j->sentence, sizeof j->sentence, "%s: %s", field, wrong);
}

enum shmeta_status apply_agent(struct apply *a, struct shmeta_str tenant, const struct shmeta_agent *agent,
                               struct shmeta_err *err)
{
	const struct backend_key row = {.cls = SHMETA_CLASS_AGENT, .tenant = tenant, .name = agent->agent_id};
	struct judged j = {""};
	uint8_t key[SHMETA_KEY_MAX];
	uint32_t number;

	judge_name(&j, "organization_id of an agent", tenant, SHMETA_TENANT_MAX);
	judge_name(&j, "agent_id", agent->agent_id, SHMETA_NAME_MAX);
	judge_text(&j, "address of an agent", agent->address);
	judge_text(&j, "availability_zone of an agent", agent->availability_zone);
	judge_text(&j, "agent_group of an agent", agent->agent_group);
	judge_map(&j, "metadata of an agent", &agent->metadata);
	if (j.sentence[0] != '\0')
		return quarantine(a, &row, j.sentence, err);
	enum shmeta_status status = tenant_number(a, tenant, true, &number, err);

	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__name_key(key, number, agent->agent_id.data, agent->agent_id.bytes);

	return put_record(a, &row, SHMETA_DB_AGENTS, key, key_bytes, agent, encode_agent, err);
}

enum shmeta_status apply_group(struct apply *a, struct shmeta_str tenant, const struct shmeta_group *group,
                               struct shmeta_err *err)
{
	const struct backend_key row = {.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = group->group_id};
	struct judged j = {""};
	uint8_t key[SHMETA_KEY_MAX];
	uint32_t number;

	judge_name(&j, "organization_id of a consumer group", tenant, SHMETA_TENANT_MAX);
	judge_name(&j, "group_id", group->group_id, SHMETA_NAME_MAX);
	if (j.sentence[0] != '\0')
		return quarantine(a, &row, j.sentence, err);
	enum shmeta_status status = tenant_number(a, tenant, true, &number, err);

	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__name_key(key, number, group->group_id.data, group->group_id.bytes);

	return put_record(a, &row, SHMETA_DB_GROUPS, key, key_bytes, group, encode_group, err);
}

/* The topic that an offset or a lease names. ABSENT: the store does not have it. */
static enum shmeta_status referred_topic(struct apply *a, struct shmeta_str tenant, uint32_t number,
                                         struct shmeta_str topic, uint32_t *ret_id, struct shmeta_err *err)
{
	if (!a->ref_valid || a->ref_tenant != number || a->ref_name.bytes != topic.bytes ||
	    memcmp(a->ref_name.data, topic.data, topic.bytes) != 0) {
		struct shmeta_topic record;
		enum shmeta_status status = apply_topic_get(a->txn, tenant, topic, &record, NULL, err);

		if (failed(status))
			return status;
		memcpy(a->ref_text, topic.data, topic.bytes);
		a->ref_name = (struct shmeta_str){a->ref_text, topic.bytes};
		a->ref_tenant = number;
		a->ref_topic_id = status == SHMETA_OK ? record.topic_id : 0;
		a->ref_valid = true;
	}
	*ret_id = a->ref_topic_id;
	return a->ref_topic_id == 0 ? SHMETA_ABSENT : SHMETA_OK;
}

/* An offset or a lease of a topic that the store does not have. */
static enum shmeta_status orphan(struct apply *a, const struct backend_key *row, struct shmeta_err *err)
{
	char text[400], group[120], topic[120];

	a->orphans++;
	if (row->cls == SHMETA_CLASS_OFFSET)
		snprintf(text, sizeof text,
		         "committed offset of group '%s', topic '%s', partition %u: there is no such topic",
		         shmeta__escape(group, sizeof group, row->name.data, row->name.bytes),
		         shmeta__escape(topic, sizeof topic, row->topic.data, row->topic.bytes), row->partition_id);
	else
		snprintf(text, sizeof text, "lease of topic '%s', partition %u: there is no such topic",
		         shmeta__escape(topic, sizeof topic, row->topic.data, row->topic.bytes), row->partition_id);
	return quarantine(a, row, text, err);
}

enum shmeta_status apply_offset(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                                const struct shmeta_committed_offset *offset, struct shmeta_err *err)
{
	const struct backend_key row = {.cls = SHMETA_CLASS_OFFSET,
	                                .tenant = tenant,
	                                .topic = topic,
	                                .name = offset->group_id,
	                                .partition_id = offset->partition_id};
	struct judged j = {""};
	struct shmeta_committed_offset record = *offset;
	uint8_t key[SHMETA_KEY_MAX];
	uint32_t number;

	judge_name(&j, "organization_id of a committed offset", tenant, SHMETA_TENANT_MAX);
	judge_name(&j, "group_id of a committed offset", offset->group_id, SHMETA_NAME_MAX);
	judge_name(&j, "topic of a committed offset", topic, SHMETA_NAME_MAX);
	if (offset->has_metadata)
		judge_text(&j, "metadata of a committed offset", offset->metadata);
	if (j.sentence[0] != '\0')
		return quarantine(a, &row, j.sentence, err);
	enum shmeta_status status = tenant_number(a, tenant, true, &number, err);

	if (status == SHMETA_OK)
		status = referred_topic(a, tenant, number, topic, &record.topic_id, err);
	if (status == SHMETA_ABSENT)
		return orphan(a, &row, err);
	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__offset_key(key, number, offset->group_id.data, offset->group_id.bytes,
	                                      record.topic_id, record.partition_id);

	return put_record(a, &row, SHMETA_DB_OFFSETS, key, key_bytes, &record, encode_offset, err);
}

enum shmeta_status apply_lease(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                               const struct shmeta_lease *lease, struct shmeta_err *err)
{
	const struct backend_key row = {
		.cls = SHMETA_CLASS_LEASE, .tenant = tenant, .topic = topic, .partition_id = lease->partition_id};
	struct judged j = {""};
	struct shmeta_lease record = *lease;
	uint32_t number;

	judge_name(&j, "organization_id of a lease", tenant, SHMETA_TENANT_MAX);
	judge_name(&j, "topic of a lease", topic, SHMETA_NAME_MAX);
	judge_text(&j, "leader_agent_id of a lease", lease->leader_agent_id);
	if (j.sentence[0] != '\0')
		return quarantine(a, &row, j.sentence, err);
	enum shmeta_status status = tenant_number(a, tenant, true, &number, err);

	if (status == SHMETA_OK)
		status = referred_topic(a, tenant, number, topic, &record.topic_id, err);
	if (status == SHMETA_ABSENT)
		return orphan(a, &row, err);
	if (status != SHMETA_OK)
		return status;
	uint64_t key = shmeta__part_key(record.topic_id, record.partition_id);

	return put_record(a, &row, SHMETA_DB_LEASES, &key, sizeof key, &record, encode_lease, err);
}

/* What begins with the prefix and was not said. */
static enum shmeta_status drop_unseen(struct apply *a, enum shmeta_class cls, enum shmeta_db db, const void *prefix,
                                      size_t prefix_bytes, struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	struct keyset *seen = class_set(a, db);
	struct doomed *doomed = NULL;
	enum shmeta_status status = shmeta__cursor_open(a->txn, db, prefix, prefix_bytes, &cursor, err);

	if (status != SHMETA_OK)
		return status;
	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status == SHMETA_OK && prefix_bytes > 0 &&
		    (key_bytes < prefix_bytes || memcmp(key, prefix, prefix_bytes) != 0))
			status = SHMETA_END;
		if (status != SHMETA_OK)
			break;
		if (!keyset_has(seen, shmeta__name_hash((uint32_t)db, key, key_bytes)))
			status = doom(a, &doomed, key, key_bytes, err);
		if (status != SHMETA_OK)
			break;
	}
	shmeta__cursor_close(cursor);
	if (status != SHMETA_END)
		return status;
	for (; doomed != NULL; doomed = doomed->next) {
		status = shmeta__delete(a->txn, db, doomed->key, doomed->bytes, err);
		if (failed(status))
			return status;
		a->changed++;
		shmeta__touch_class(a->txn, cls);
	}
	return SHMETA_OK;
}

enum shmeta_status apply_class_end(struct apply *a, enum shmeta_class cls, struct shmeta_err *err)
{
	if (a->fresh)
		return SHMETA_OK;
	if (cls == SHMETA_CLASS_AGENT)
		return drop_unseen(a, cls, SHMETA_DB_AGENTS, NULL, 0, err);
	if (cls == SHMETA_CLASS_LEASE)
		return drop_unseen(a, cls, SHMETA_DB_LEASES, NULL, 0, err);
	enum shmeta_status status = drop_unseen(a, cls, SHMETA_DB_GROUPS, NULL, 0, err);

	return status == SHMETA_OK ? drop_unseen(a, cls, SHMETA_DB_OFFSETS, NULL, 0, err) : status;
}

static enum shmeta_status drop_unsaid(struct apply *a, enum shmeta_class cls, enum shmeta_db db, const void *key,
                                      size_t bytes, struct shmeta_err *err)
{
	if (keyset_has(&a->seen_key, shmeta__name_hash((uint32_t)db, key, bytes)))
		return SHMETA_OK;
	enum shmeta_status status = shmeta__delete(a->txn, db, key, bytes, err);

	if (status == SHMETA_OK) {
		a->changed++;
		shmeta__touch_class(a->txn, cls);
	}
	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}

static enum shmeta_status key_end(struct apply *a, const struct apply_key *k, struct shmeta_err *err)
{
	uint8_t key[SHMETA_KEY_MAX];
	uint32_t tenant, topic_id;
	size_t bytes;
	enum shmeta_status status = tenant_number(a, k->tenant, false, &tenant, err);

	if (status != SHMETA_OK)
		return status; /* ABSENT: nothing of this tenant is stored */
	if (k->cls != SHMETA_CLASS_LEASE) {
		bytes = shmeta__name_key(key, tenant, k->name.data, k->name.bytes);
		status = drop_unsaid(a, k->cls, k->cls == SHMETA_CLASS_AGENT ? SHMETA_DB_AGENTS : SHMETA_DB_GROUPS, key,
		                     bytes, err);
		if (status != SHMETA_OK || k->cls == SHMETA_CLASS_AGENT)
			return status;
		if (k->topic.bytes == 0) {
			key[bytes++] = 0;
			return drop_unseen(a, k->cls, SHMETA_DB_OFFSETS, key, bytes, err);
		}
	}
	status = referred_topic(a, k->tenant, tenant, k->topic, &topic_id, err);
	if (status != SHMETA_OK)
		return status; /* ABSENT: what belongs to it went with it */
	if (k->cls == SHMETA_CLASS_LEASE) {
		uint64_t place = shmeta__part_key(topic_id, k->partition_id);

		return drop_unsaid(a, k->cls, SHMETA_DB_LEASES, &place, sizeof place, err);
	}
	bytes = shmeta__offset_key(key, tenant, k->name.data, k->name.bytes, topic_id, k->partition_id);
	return drop_unsaid(a, k->cls, SHMETA_DB_OFFSETS, key, bytes, err);
}

enum shmeta_status apply_key_end(struct apply *a, const struct apply_key *key, struct shmeta_err *err)
{
	enum shmeta_status status = key_end(a, key, err);

	a->keyed = false;
	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}

enum shmeta_status apply_feed(struct apply *a, const void *position, size_t bytes, struct shmeta_err *err)
{
	const void *value;
	size_t old;
	enum shmeta_status status =
		shmeta__get(a->txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), &value, &old, err);

	if (failed(status))
		return status;
	if (status == SHMETA_OK && old == bytes && memcmp(value, position, bytes) == 0)
		return SHMETA_OK;
	return shmeta__put(a->txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), position, bytes, err);
}
