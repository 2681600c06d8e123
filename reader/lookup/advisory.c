/* SPDX-License-Identifier: Apache-2.0
 * Advisory records by key: agents, groups, leases, committed offsets. Whoever decides by one asks
 * the source first. */
#include "reader/lookup/lookup.h"

void shmeta__advisory_age(struct shmeta_reader *r, enum shmeta_class cls, const struct shmeta__stamps *stamps,
                          struct shmeta_freshness *ret_fresh)
{
	const struct known known = known_of(stamps);

	if (ret_fresh != NULL)
		lookup_age(r, cls, 1, &known, ret_fresh);
}

/* The beginning of time stays what it is. */
int64_t shmeta__by_source(const struct shmeta_reader *r, int64_t now_ms)
{
	const int64_t ahead_ms = shmeta_peek(&r->gen->source_ahead_ms);
	int64_t moved;

	if (now_ms == INT64_MIN)
		return now_ms;
	return !__builtin_add_overflow(now_ms, ahead_ms, &moved) ? moved : ahead_ms < 0 ? INT64_MIN + 1 : INT64_MAX;
}

/* At the beginning of time nothing has expired, not even what expires then. */
int shmeta__lease_held(const struct shmeta_lease *lease, int64_t now_ms)
{
	return lease->lease_expires_at_ms > now_ms || now_ms == INT64_MIN;
}

enum kind { AGENT, GROUP, LEASE, OFFSET };

/* What a record of the kind is called by, and its strings for the sentence of a buffer that is too
 * small. */
static const struct {
	const char *field, *copied;
} words[] = {[AGENT] = {"agent", "the agent's strings"},
             [GROUP] = {"group", "the group's strings"},
             [LEASE] = {"topic", "the lease's strings"},
             [OFFSET] = {"group", "the offset's strings"}};

/* One lookup: what it names, and the record that it found. */
struct advisory {
	enum kind kind;
	const struct missing *what; /* the topic of a lease is its name */
	const struct shmeta_read *read;
	int64_t now_ms; /* of a lease */
	union {
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_lease lease;
		struct shmeta_committed_offset offset;
	} found;
};

static int can_exist(const struct shmeta_reader *r, const struct missing *what)
{
	return name_exists(r, what->name, what->name_bytes) &&
	       (what->topic == NULL || name_exists(r, what->topic, what->topic_bytes));
}

/* Was the topic of a lease or an offset that the source may have there to find it by? A bounded
 * store may have let it go again: then UNKNOWN, otherwise ABSENT. */
static enum shmeta_status by_its_topic(struct shmeta_reader *r, const struct missing *what)
{
	const struct missing topic = {
		SHMETA_CLASS_TOPIC, .name = what->cls == SHMETA_CLASS_LEASE ? what->name : what->topic,
		.name_bytes = what->cls == SHMETA_CLASS_LEASE ? what->name_bytes : what->topic_bytes};
	enum shmeta_status status;
	uint32_t id;

	if (what->cls == SHMETA_CLASS_AGENT || topic.name == NULL)
		return SHMETA_ABSENT;
	status = shmeta__topic_resolve(r, topic.name, topic.name_bytes, &id);
	if (status == SHMETA_ABSENT)
		return unless_lacking(r, &topic, SHMETA_ABSENT);
	return status == SHMETA_OK ? SHMETA_ABSENT : status;
}

/* The record was not found. Where the source has just been asked for it, it is not there, whatever
 * else the store lacks. Groups are here whether their offsets are or not. */
static enum shmeta_status absent(struct shmeta_reader *r, const struct missing *what, uint64_t assured_ns,
                                 struct shmeta_freshness *ret_fresh)
{
	const struct known known = {assured_ns, 0};
	enum shmeta_status status;

	if (!can_exist(r, what))
		return never_there(r, 1, ret_fresh);
	if (ret_fresh != NULL)
		lookup_age(r, what->cls, 1, &known, ret_fresh);
	if (assured_ns != 0 || (what->cls == SHMETA_CLASS_OFFSET && what->topic == NULL)) {
		status = r->told_absent ? SHMETA_ABSENT : by_its_topic(r, what);
		return status != SHMETA_ABSENT ? status
		                               : unless_quarantined(r, what, absent_or_unknown(r, what->cls, &known));
	}
	return unless_lacking(r, what, absent_or_unknown(r, what->cls, &known));
}

/* OK: the tree and the key of the record; or why there can be none. */
static enum shmeta_status key_of(struct shmeta_reader *r, const struct advisory *l, enum shmeta_db *ret_db,
                                 void *ret_key, size_t *ret_bytes)
{
	static const enum shmeta_db tree[] = {[AGENT] = SHMETA_DB_AGENTS,
	                                      [GROUP] = SHMETA_DB_GROUPS,
	                                      [LEASE] = SHMETA_DB_LEASES,
	                                      [OFFSET] = SHMETA_DB_OFFSETS};
	const struct missing *what = l->what;
	enum shmeta_status status;
	uint64_t lease;
	uint32_t id; /* of the tenant, or of the topic */

	*ret_db = tree[l->kind];
	if (l->kind == AGENT || l->kind == GROUP) {
		status = shmeta__snapshot_tenant(r, &id);
		if (status == SHMETA_OK)
			*ret_bytes = shmeta__name_key(ret_key, id, what->name, what->name_bytes);
	} else if (l->kind == LEASE) {
		status = shmeta__topic_resolve(r, what->name, what->name_bytes, &id);
		if (status == SHMETA_OK) {
			lease = shmeta__part_key(id, what->partition_id);
			memcpy(ret_key, &lease, *ret_bytes = sizeof lease);
		}
	} else {
		status = shmeta__topic_resolve(r, what->topic, what->topic_bytes, &id);
		if (status == SHMETA_OK)
			*ret_bytes = shmeta__offset_key(ret_key, r->tenant, what->name, what->name_bytes, id,
			                                what->partition_id);
	}
	return status;
}

static enum shmeta_status find(struct shmeta_reader *r, struct advisory *l, struct shmeta__stamps *ret)
{
	_Alignas(uint64_t) uint8_t key[SHMETA_KEY_MAX];
	size_t key_bytes, bytes;
	const void *value;
	enum shmeta_db db;
	enum shmeta_status status = key_of(r, l, &db, key, &key_bytes);

	if (status == SHMETA_OK)
		status = shmeta__snapshot_get(r, db, key, key_bytes, &value, &bytes);
	if (status != SHMETA_OK)
		return status;
	switch (l->kind) {
	case AGENT:
		return shmeta__agent_decode(value, bytes, key, key_bytes, 1, &l->found.agent, ret);
	case GROUP:
		return shmeta__group_decode(value, bytes, key, key_bytes, 1, &l->found.group, ret);
	case LEASE:
		return shmeta__lease_decode(value, bytes, key, key_bytes, 1, &l->found.lease, ret);
	default:
		return shmeta__offset_decode(value, bytes, key, key_bytes, 1, &l->found.offset, ret);
	}
}

static enum shmeta_status copy(struct advisory *l)
{
	char *buffer = l->read->buffer;
	const size_t bytes = l->read->buffer_bytes;

	switch (l->kind) {
	case AGENT:
		return shmeta_copy_agent(&l->found.agent, buffer, bytes, NULL);
	case GROUP:
		return shmeta_copy_group(&l->found.group, buffer, bytes, NULL);
	case LEASE:
		return shmeta_copy_lease(&l->found.lease, buffer, bytes, NULL);
	default:
		return shmeta_copy_committed_offset(&l->found.offset, buffer, bytes, NULL);
	}
}

/* Find it, and say how old the answer is. */
static enum shmeta_status look(struct shmeta_reader *r, struct advisory *l, uint64_t assured_ns,
                               struct shmeta_freshness *ret_fresh)
{
	struct shmeta__stamps stamps;
	enum shmeta_status status = find(r, l, &stamps);

	if (status == SHMETA_ABSENT)
		return absent(r, l->what, assured_ns, ret_fresh);
	if (status != SHMETA_OK)
		return status;
	if (stamps.synced_at_ns < assured_ns)
		stamps.synced_at_ns = assured_ns;
	shmeta__advisory_age(r, l->what->cls, &stamps, ret_fresh);
	/* What was found says that it has expired. */
	return l->kind == LEASE && !shmeta__lease_held(&l->found.lease, shmeta__by_source(r, l->now_ms)) ? SHMETA_ABSENT
	                                                                                                 : SHMETA_OK;
}

static enum shmeta_status answer(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused, uint64_t assured_ns,
                                 struct shmeta_freshness *ret_fresh)
{
	struct advisory *l = arg;
	enum shmeta_status status = look(r, l, assured_ns, ret_fresh);

	(void)unused;
	if (status != SHMETA_OK || !is_copied(l->read))
		return status;
	status = copy(l);
	return status != SHMETA_ERR_BUFFER ? status : buffer_too_small(r, l->read, words[l->kind].copied);
}

static enum shmeta_status get_fresh(struct shmeta_reader *r, struct advisory *l, struct shmeta_freshness *ret_fresh)
{
	const struct missing *what = l->what;
	const int named_alone = l->kind == LEASE;
	const struct want want = {.cls = what->cls,
	                          .topic = named_alone ? what->name : what->topic,
	                          .topic_bytes = named_alone ? what->name_bytes : what->topic_bytes,
	                          .partition_id = what->partition_id,
	                          .name = named_alone ? NULL : what->name,
	                          .name_bytes = named_alone ? 0 : what->name_bytes};

	return shmeta__fresh_lookup(r, NULL, &want, l->read, answer, l, ret_fresh);
}

/* The public functions end here. */
static enum shmeta_status get(struct shmeta_reader *r, struct advisory *l, void *ret, size_t ret_bytes,
                              struct shmeta_freshness *ret_fresh)
{
	const struct missing *what = l->what;
	enum shmeta_status status;
	int asks;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = name_fits(r, words[l->kind].field, what->name, what->name_bytes);
	if (status == SHMETA_OK && what->topic != NULL)
		status = name_fits(r, "topic", what->topic, what->topic_bytes);
	if (status == SHMETA_OK)
		status = lookup_options(r, l->read, &asks);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 1, ret_fresh)) : status;
	status = asks ? get_fresh(r, l, ret_fresh) : lookup_done(r, look(r, l, 0, ret_fresh));
	if (status == SHMETA_OK)
		memcpy(ret, &l->found, ret_bytes);
	return status;
}

enum shmeta_status shmeta_get_agent(struct shmeta_reader *r, const char *agent_id, size_t agent_id_bytes,
                                    const struct shmeta_read *read, struct shmeta_agent *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	const struct missing what = {SHMETA_CLASS_AGENT, .name = agent_id, .name_bytes = agent_id_bytes};
	struct advisory l = {.kind = AGENT, .what = &what, .read = read};

	return get(r, &l, ret, sizeof *ret, ret_fresh);
}

enum shmeta_status shmeta_get_group(struct shmeta_reader *r, const char *group_id, size_t group_id_bytes,
                                    const struct shmeta_read *read, struct shmeta_group *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	const struct missing what = {SHMETA_CLASS_OFFSET, .name = group_id, .name_bytes = group_id_bytes};
	struct advisory l = {.kind = GROUP, .what = &what, .read = read};

	return get(r, &l, ret, sizeof *ret, ret_fresh);
}

enum shmeta_status shmeta_get_lease(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                    uint32_t partition_id, int64_t now_ms, const struct shmeta_read *read,
                                    struct shmeta_lease *ret, struct shmeta_freshness *ret_fresh)
{
	const struct missing what = {SHMETA_CLASS_LEASE, .name = topic, .name_bytes = topic_bytes,
	                             .partition_id = partition_id};
	struct advisory l = {.kind = LEASE, .what = &what, .read = read, .now_ms = now_ms};

	return get(r, &l, ret, sizeof *ret, ret_fresh);
}

enum shmeta_status shmeta_get_committed_offset(struct shmeta_reader *r, const char *group, size_t group_bytes,
                                               const char *topic, size_t topic_bytes, uint32_t partition_id,
                                               const struct shmeta_read *read, struct shmeta_committed_offset *ret,
                                               struct shmeta_freshness *ret_fresh)
{
	/* NULL and 0 is the empty name here as elsewhere, and not that there is no topic. */
	const char *of = topic == NULL && topic_bytes == 0 ? "" : topic;
	const struct missing what = {SHMETA_CLASS_OFFSET, group, group_bytes, of, topic_bytes, partition_id, NULL};
	struct advisory l = {.kind = OFFSET, .what = &what, .read = read};

	return of == NULL ? SHMETA_ERR_INVALID_ARGUMENT : get(r, &l, ret, sizeof *ret, ret_fresh);
}
