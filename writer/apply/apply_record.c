/* SPDX-License-Identifier: Apache-2.0
 * Agents, groups, committed offsets, leases. */
#include "writer/apply/apply_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/str.h"
#include "base/string_map.h"

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
		return apply_no_memory(err);
	d->next = *list;
	d->bytes = bytes;
	memcpy(d->key, key, bytes);
	*list = d;
	return SHMETA_OK;
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

void apply_key_begin(struct apply *a, uint64_t synced_at_ns)
{
	enum { SLOTS_KEPT = 4096 };

	a->synced_at_ns = synced_at_ns;
	a->keyed = true;
	/* a group of very many offsets: the next key does not pay for it */
	if (a->seen_key.slots > SLOTS_KEPT)
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

/* A lease of which nothing moved but its end, and that to a later time: a beat of an agent moves it
 * of all that it holds. */
static bool is_renewed(const void *key, size_t key_bytes, const void *value, size_t bytes,
                       const struct shmeta_lease *lease)
{
	struct shmeta__stamps stamps;
	struct shmeta_lease old;

	return shmeta__lease_decode(value, bytes, key, key_bytes, 0, &old, &stamps) == SHMETA_OK &&
	       lease->lease_expires_at_ms > old.lease_expires_at_ms && lease->epoch == old.epoch &&
	       lease->acquired_at_ms == old.acquired_at_ms && str_equal(lease->leader_agent_id, old.leader_agent_id);
}

/* One small record: compare with what is stored under the key, put what differs. */
static enum shmeta_status put_record(struct apply *a, const struct backend_key *row, enum shmeta_db db, const void *key,
                                     size_t key_bytes, const void *record, encode_fn *encode, struct shmeta_err *err)
{
	enum shmeta_class cls = row->cls;
	int added = keyset_add(class_set(a, db), shmeta__name_hash((uint32_t)db, key, key_bytes));

	if (added < 0)
		return apply_no_memory(err);
	if (added == 0) {
		char text[400], id[300];

		snprintf(text, sizeof text, "a row of class %s comes twice: %s",
		         cls == SHMETA_CLASS_AGENT   ? "agent"
		         : cls == SHMETA_CLASS_LEASE ? "lease"
		                                     : "offset",
		         shmeta__escape(id, sizeof id, key, key_bytes));
		return apply_refuse_row(a, row, text, err);
	}
	const void *value;
	size_t bytes = 0, out;
	struct shmeta__stamps stamps = {a->synced_at_ns, 0};
	enum shmeta_status status = shmeta__get(a->txn, db, key, key_bytes, &value, &bytes, err);

	bool is_new = status == SHMETA_ABSENT, same = false, renewed = false;

	if (apply_failed(status))
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
		renewed = db == SHMETA_DB_LEASES && is_renewed(key, key_bytes, value, bytes, record);
	}
	out = encode(record, &stamps, key, key_bytes, a->value, sizeof a->value);
	if (out == 0)
		return apply_refuse_row(a, row, "a row is larger than a record may be", err);
	status = same || renewed ? apply_restamp(a, db, key, key_bytes, a->value, out, cls, err)
	                         : apply_put(a, db, key, key_bytes, a->value, out, cls, err);
	if (status == SHMETA_OK) {
		a->changed += !same;
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
		return apply_refuse_row(a, &row, j.sentence, err);
	enum shmeta_status status = apply_tenant_number(a, tenant, true, &number, err);

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
		return apply_refuse_row(a, &row, j.sentence, err);
	enum shmeta_status status = apply_tenant_number(a, tenant, true, &number, err);

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

		if (apply_failed(status))
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

	/* The topic may be one that is not resident. */
	if ((shmeta__store_counters(a->store)->incomplete >> SHMETA_CLASS_TOPIC & 1) != 0)
		return SHMETA_OK;
	a->orphans++;
	if (row->cls == SHMETA_CLASS_OFFSET)
		snprintf(text, sizeof text,
		         "committed offset of group '%s', topic '%s', partition %u: there is no such topic",
		         shmeta__escape(group, sizeof group, row->name.data, row->name.bytes),
		         shmeta__escape(topic, sizeof topic, row->topic.data, row->topic.bytes), row->partition_id);
	else
		snprintf(text, sizeof text, "lease of topic '%s', partition %u: there is no such topic",
		         shmeta__escape(topic, sizeof topic, row->topic.data, row->topic.bytes), row->partition_id);
	return apply_refuse_row(a, row, text, err);
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
		return apply_refuse_row(a, &row, j.sentence, err);
	enum shmeta_status status = apply_tenant_number(a, tenant, true, &number, err);

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
		return apply_refuse_row(a, &row, j.sentence, err);
	enum shmeta_status status = apply_tenant_number(a, tenant, true, &number, err);

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
		status = apply_delete(a, db, doomed->key, doomed->bytes, cls, err);
		if (apply_failed(status))
			return status;
		a->changed++;
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
	enum shmeta_status status = apply_delete(a, db, key, bytes, cls, err);

	if (status == SHMETA_OK)
		a->changed++;
	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}

static enum shmeta_status key_end(struct apply *a, const struct apply_key *k, struct shmeta_err *err)
{
	uint8_t key[SHMETA_KEY_MAX];
	uint32_t tenant, topic_id;
	size_t bytes;
	enum shmeta_status status = apply_tenant_number(a, k->tenant, false, &tenant, err);

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
