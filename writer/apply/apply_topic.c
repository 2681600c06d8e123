/* SPDX-License-Identifier: Apache-2.0
 * Topics. */
#include "writer/apply/apply_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"

/* Not C9's limit but LMDB's: UINT64_MAX as an integer key is the sentinel. */
static const uint32_t TOPIC_ID_MAX = UINT32_MAX - 1;

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

/* Leases of partitions that are not resident. */
static enum shmeta_status drop_leases(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	uint64_t first = shmeta__part_key(topic_id, 0), place;

	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;
		struct shmeta__cursor *cursor;
		enum shmeta_status status =
			shmeta__cursor_open(a->txn, SHMETA_DB_LEASES, &first, sizeof first, &cursor, err);

		if (status != SHMETA_OK)
			return status;
		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status == SHMETA_OK)
			memcpy(&place, key, sizeof place);
		shmeta__cursor_close(cursor);
		if (status != SHMETA_OK || place >> 32 != topic_id)
			return status == SHMETA_END ? SHMETA_OK : status;
		status = apply_delete(a, SHMETA_DB_LEASES, &place, sizeof place, SHMETA_CLASS_LEASE, err);
		if (status != SHMETA_OK)
			return status;
		a->hung++;
	}
}

/* All that hangs on a topic_id, but not its name. */
static enum shmeta_status drop_incarnation(struct apply *a, uint32_t topic_id, const char *topic, size_t topic_bytes,
                                           struct shmeta_err *err)
{
	enum shmeta_status status = apply_list_partitions(a, topic_id, err);

	for (size_t i = 0; status == SHMETA_OK && i < a->old_count; i++)
		status = apply_drop_partition(a, topic_id, a->old_ids[i], topic, topic_bytes, err);
	a->old_count = a->old_at = 0;
	if (status == SHMETA_OK && shmeta__store_counters(a->store)->incomplete != 0)
		status = drop_leases(a, topic_id, err);
	if (status == SHMETA_OK) {
		uint64_t id = topic_id;

		status = apply_delete(a, SHMETA_DB_TOPICS, &id, sizeof id, SHMETA_CLASS_TOPIC, err);
	}
	if (apply_failed(status))
		return status;
	a->ref_valid = false;
	shmeta__store_counters(a->store)->topics--;
	return apply_mark_dead(a, topic_id, UINT32_MAX, err);
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
	const char *wrong = apply_tenant_error(tenant);

	if (wrong != NULL) {
		snprintf(text, sizeof text, "organization_id of a topic: %s", wrong);
		wrong = text;
	} else {
		wrong = shmeta__topic_error(topic, text, sizeof text);
	}
	const struct backend_key row = {.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = topic->name};
	enum shmeta_status status;

	if (wrong != NULL) {
		status = apply_refuse_row(a, &row, wrong, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}

	uint8_t key[SHMETA_KEY_MAX];
	uint32_t number;

	status = apply_tenant_number(a, tenant, true, &number, err);

	if (status != SHMETA_OK)
		return status;
	size_t key_bytes = shmeta__name_key(key, number, topic->name.data, topic->name.bytes);
	const void *value;
	size_t bytes;
	struct shmeta_topic old;
	struct shmeta__stamps old_stamps = {0};
	bool exists = false;

	status = shmeta__get(a->txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, err);
	if (apply_failed(status))
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
		status = apply_refuse_row(a, &row, text, err);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}

	uint32_t ttl_ms = a->host.ttl_ms(a->host.arg, topic->name);
	bool altered = true;
	bool same = exists && old.created_at_ms == topic->created_at_ms &&
	            (!opts->deleted || (opts->born_since > 0 && old.topic_id >= opts->born_since));
	struct shmeta_topic record = *topic;
	struct shmeta__stamps stamps = {opts->synced_at_ns, ttl_ms};
	size_t out;

	if (same) {
		/* Equal but for the time of the read: encode with the old time and compare the
		 * bytes. */
		record.topic_id = old.topic_id;
		stamps.synced_at_ns = old_stamps.synced_at_ns;
		out = shmeta__topic_encode(&record, &stamps, key, key_bytes, a->value, sizeof a->value);
		if (out != 0 && out == bytes && memcmp(a->value, value, bytes) == 0) {
			a->unchanged++;
			altered = false;
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

		status = apply_put(a, SHMETA_DB_TOPICS, &id, sizeof id, key, key_bytes, SHMETA_CLASS_TOPIC, err);
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
	status = altered ? apply_put(a, SHMETA_DB_NAMES, key, key_bytes, a->value, out, SHMETA_CLASS_TOPIC, err)
	                 : apply_restamp(a, SHMETA_DB_NAMES, key, key_bytes, a->value, out, SHMETA_CLASS_TOPIC, err);
	if (status != SHMETA_OK)
		return status;
	if (!same)
		shmeta__touch_class(a->txn, SHMETA_CLASS_LIST);
unchanged:
	name_topic(a, tenant, topic->name);
	a->topic_id = record.topic_id;
	a->topic_ttl_ms = ttl_ms;
	a->topic_is_new = !same;
	a->synced_at_ns = opts->synced_at_ns;
	a->last_partition = -1;
	a->in_topic = true;
	a->old_count = a->old_at = 0;
	return same ? apply_list_partitions(a, record.topic_id, err) : SHMETA_OK;
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
			apply_drop_partition(a, a->topic_id, a->old_ids[a->old_at], a->name.data, a->name.bytes, err);

		if (status == SHMETA_OK)
			status = apply_mark_dead(a, a->topic_id, a->old_ids[a->old_at], err);
		if (apply_failed(status))
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
		status = apply_delete(a, SHMETA_DB_NAMES, key, key_bytes, SHMETA_CLASS_TOPIC, err);
	if (status != SHMETA_OK)
		return status;
	a->changed++;
	a->removed++;
	shmeta__touch_class(a->txn, SHMETA_CLASS_LIST);
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
	enum shmeta_status status = apply_tenant_number(a, tenant, false, &number, err);

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
