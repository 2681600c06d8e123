/* SPDX-License-Identifier: Apache-2.0
 * Topics: by name, by id, many at once, statistics.
 *
 * Each reader remembers names it has looked up: which topic they mean, and where its record lies. The first holds as long as the
 * name's touched word does not move (PAIR 2), the second in the one commit it was found in. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES_FIRST = 64, NAMES_LAST = 1024 };

struct found {
	struct shmeta_topic topic;
	struct shmeta__stamps stamps;
};

/* ---- the cache of names ------------------------------------------------------------------------------------------------------ */

/* Larger when as many names missed as fit; what was in it is looked up again. */
static void names_grow(struct shmeta_reader *r)
{
	uint32_t have = r->names == NULL ? 0 : r->name_mask + 1, want = have == 0 ? NAMES_FIRST : have * 2;
	struct name_entry *names;

	r->name_misses = 0;
	if (want > NAMES_LAST || !shmeta__cache_grant(r->core, want * (uint32_t)sizeof *names))
		return;
	names = calloc(want, sizeof *names);
	if (names == NULL) {
		shmeta__cache_return(r->core, want * (uint32_t)sizeof *names);
		return;
	}
	if (have != 0)
		shmeta__cache_return(r->core, have * (uint32_t)sizeof *names);
	free(r->names);
	r->names = names;
	r->name_mask = want - 1;
}

static inline int names_equal(const struct name_entry *e, uint64_t hash, const char *name, size_t bytes)
{
	return e->hash == hash && e->name_bytes == bytes && memcmp(e->name, name, bytes) == 0;
}

/* The entry of a name if its topic is known in this snapshot. */
static inline struct name_entry *names_find(struct shmeta_reader *r, uint64_t hash, const char *name, size_t bytes)
{
	struct name_entry *e;
	uint64_t touched;

	if (unlikely(r->names == NULL))
		return NULL;
	e = &r->names[hash & r->name_mask];
	if (!likely(names_equal(e, hash, name, bytes))) {
		e = &r->names[(hash & r->name_mask) ^ 1];
		if (!names_equal(e, hash, name, bytes))
			return NULL;
	}
	if (likely(e->known == r->snapshot))
		return e;
	touched = shmeta_observe(&r->env->touched[shmeta__touched_name(hash)]); /* PAIR 2 */
	if (e->known == 0 || touched > e->known || touched > r->snapshot)
		return NULL;
	e->known = r->snapshot;
	return e;
}

static void names_add(struct shmeta_reader *r, uint64_t hash, const char *name, size_t bytes, const struct found *found)
{
	struct name_entry *e, *other;

	if (bytes > sizeof e->name || !snapshot_holds(r))
		return;
	if (r->names == NULL || ++r->name_misses > r->name_mask)
		names_grow(r);
	if (r->names == NULL)
		return;
	e = &r->names[hash & r->name_mask];
	other = &r->names[(hash & r->name_mask) ^ 1];
	if (!names_equal(e, hash, name, bytes)) {
		if (names_equal(other, hash, name, bytes))
			e = other;
		else if (e->name_bytes != 0) /* the newcomer takes the first place, who was there the second */
			*other = *e;
	}
	*e = (struct name_entry){.hash = hash,
	                         .known = r->snapshot,
	                         .record_txn = r->snapshot,
	                         .topic = found->topic,
	                         .stamps = found->stamps,
	                         .name_bytes = (uint32_t)bytes};
	memcpy(e->name, name, bytes);
}

/* ---- lookups -------------------------------------------------------------------------------------------------------------------- */

static enum shmeta_status find_record(struct shmeta_reader *r, uint32_t tenant, const char *name, size_t bytes,
                                      uint64_t hash, struct found *ret)
{
	uint8_t key[SHMETA_KEY_MAX];
	size_t key_bytes = shmeta__name_key(key, tenant, name, bytes), record_bytes;
	enum shmeta_status status;
	const void *record;

	status = shmeta__snapshot_get(r, SHMETA_DB_NAMES, key, key_bytes, &record, &record_bytes);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__topic_decode(record, record_bytes, key, key_bytes, 1, &ret->topic, &ret->stamps);
	if (status == SHMETA_OK)
		names_add(r, hash, name, bytes, ret);
	return status;
}

/* OK, ABSENT, ERR_*. */
static enum shmeta_status find_topic(struct shmeta_reader *r, const char *name, size_t bytes, struct found *ret)
{
	struct name_entry *e;
	uint32_t tenant;
	uint64_t hash;
	enum shmeta_status status = shmeta__snapshot_tenant(r, &tenant);

	if (unlikely(status != SHMETA_OK))
		return status;
	hash = shmeta__name_hash(tenant, name, bytes);
	e = names_find(r, hash, name, bytes);
	if (likely(e != NULL && e->record_txn == r->snapshot)) {
		ret->topic = e->topic;
		ret->stamps = e->stamps;
		return SHMETA_OK;
	}
	return find_record(r, tenant, name, bytes, hash, ret);
}

enum shmeta_status shmeta__topic_resolve(struct shmeta_reader *r, const char *name, size_t bytes, uint32_t *ret_id)
{
	struct name_entry *e;
	struct found found;
	uint32_t tenant;
	uint64_t hash;
	enum shmeta_status status = shmeta__snapshot_tenant(r, &tenant);

	if (unlikely(status != SHMETA_OK))
		return status;
	hash = shmeta__name_hash(tenant, name, bytes);
	e = names_find(r, hash, name, bytes);
	if (likely(e != NULL)) {
		*ret_id = e->topic.topic_id;
		return SHMETA_OK;
	}
	status = find_record(r, tenant, name, bytes, hash, &found);
	if (status == SHMETA_OK)
		*ret_id = found.topic.topic_id;
	return status;
}

enum shmeta_status shmeta__topic_record(struct shmeta_reader *r, const char *name, size_t bytes,
                                        struct shmeta_topic *ret)
{
	struct found found;
	enum shmeta_status status = find_topic(r, name, bytes, &found);

	if (status == SHMETA_OK)
		*ret = found.topic;
	return status;
}

enum shmeta_status shmeta__topic_alone(struct shmeta_reader *r, const char *name, size_t bytes,
                                       uint64_t *ret_synced_at_ns)
{
	struct found found;
	enum shmeta_status status = find_topic(r, name, bytes, &found);

	*ret_synced_at_ns = 0;
	if (status == SHMETA_OK && (found.stamps.synced_at_ns & SHMETA_SYNCED_ALONE) != 0)
		*ret_synced_at_ns = found.stamps.synced_at_ns;
	return status;
}

enum shmeta_status shmeta__topic_name(struct shmeta_reader *r, uint32_t topic_id, uint32_t *ret_tenant,
                                      struct shmeta_str *ret_name)
{
	uint64_t key = topic_id;
	enum shmeta_status status;
	const void *value;
	size_t bytes;

	if (key == SHMETA_SENTINEL_NUMBER)
		return SHMETA_ABSENT;
	status = shmeta__snapshot_get(r, SHMETA_DB_TOPICS, &key, sizeof key, &value, &bytes);
	if (status != SHMETA_OK)
		return status;
	if (bytes < 5 || bytes > 4 + SHMETA_NAME_MAX)
		return SHMETA_ERR_CORRUPT;
	*ret_tenant = shmeta__get_be32(value);
	*ret_name = (struct shmeta_str){(const char *)value + 4, bytes - 4};
	return SHMETA_OK;
}

/* A topic that is not there: absent as far as the list of topics is known. */
static enum shmeta_status topic_absent(struct shmeta_reader *r, const char *name, size_t bytes,
                                       const struct known *known, struct shmeta_freshness *ret_fresh)
{
	if (!name_exists(r, name, bytes))
		return never_there(r, 0, ret_fresh);
	lookup_age(r, SHMETA_CLASS_LIST, 0, known, ret_fresh);
	return unless_quarantined(r, &(struct missing){SHMETA_CLASS_TOPIC, .name = name, .name_bytes = bytes},
	                          absent_or_unknown(r, SHMETA_CLASS_LIST, known));
}

static enum shmeta_status get_topic(struct shmeta_reader *r, const char *name, size_t bytes, uint64_t assured_ns,
                                    struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	struct known known = {assured_ns, 0};
	enum shmeta_status status;
	struct found found;

	status = find_topic(r, name, bytes, &found);
	if (likely(status == SHMETA_OK)) {
		known.ttl_ms = found.stamps.ttl_ms;
		if (found.stamps.synced_at_ns > assured_ns)
			known.synced_at_ns = found.stamps.synced_at_ns;
		*ret = found.topic;
		if (ret_fresh != NULL)
			lookup_age(r, SHMETA_CLASS_TOPIC, 0, &known, ret_fresh);
	} else if (status == SHMETA_ABSENT) {
		struct shmeta_freshness unused;

		status = topic_absent(r, name, bytes, &known, ret_fresh != NULL ? ret_fresh : &unused);
	}
	return status;
}

/* A topic that was asked for has its strings in the caller's buffer: its snapshot may be of this call alone. */
static enum shmeta_status get_topic_copied(struct shmeta_reader *r, const char *name, size_t bytes,
                                           const struct shmeta_read *read, uint64_t assured_ns,
                                           struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = get_topic(r, name, bytes, assured_ns, ret, ret_fresh);

	if (status != SHMETA_OK || (read->buffer == NULL && (read->flags & SHMETA_READ_MAY_MOVE) != 0))
		return status;
	status = shmeta_copy_topic(ret, read->buffer, read->buffer_bytes, NULL);
	return status != SHMETA_ERR_BUFFER ? status : buffer_too_small(r, read, "the topic's strings");
}

static enum shmeta_status get_topic_fresh(struct shmeta_reader *r, const char *name, size_t bytes,
                                          const struct shmeta_read *read, struct shmeta_topic *ret,
                                          struct shmeta_freshness *ret_fresh)
{
	const struct want want = {SHMETA_CLASS_TOPIC, name, bytes, 0};
	struct asked asked = {r, NULL, 0};
	struct shmeta_freshness fresh = {0};
	struct shmeta_topic topic = {0};
	enum shmeta_status status = get_topic_copied(r, name, bytes, read, 0, &topic, &fresh);

	if (must_ask(read, status, &fresh)) {
		status = shmeta__asked_begin(r, NULL, &want, read, &asked);
		if (status == SHMETA_OK)
			status = get_topic_copied(asked.reader, name, bytes, read, asked.synced_at_ns, &topic, &fresh);
	}
	status = shmeta__asked_end(r, &asked, status);
	if (status == SHMETA_OK)
		*ret = topic;
	if (ret_fresh != NULL && status >= 0)
		*ret_fresh = fresh;
	return status;
}

enum shmeta_status shmeta_get_topic(struct shmeta_reader *r, const char *name, size_t bytes,
                                    const struct shmeta_read *read, struct shmeta_topic *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status;
	uint64_t begun_ns = 0;
	int asks;

	if (unlikely(r == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (unlikely(status != SHMETA_OK))
		return status;
	status = name_fits(r, "topic", name, bytes);
	if (likely(status == SHMETA_OK))
		status = lookup_options(r, read, &asks);
	if (unlikely(status != SHMETA_OK))
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	if (unlikely(asks))
		return get_topic_fresh(r, name, bytes, read, ret, ret_fresh);
	if (unlikely((++r->tick & (SAMPLE_EVERY - 1)) == 0))
		begun_ns = shmeta__monotonic_ns();
	status = get_topic(r, name, bytes, 0, ret, ret_fresh);
	if (unlikely(begun_ns != 0))
		sample_lookup(r, begun_ns, status == SHMETA_OK ? shmeta__part_key(ret->topic_id, 0) : 0);
	return lookup_done(r, status);
}

enum shmeta_status shmeta_get_topic_by_id(struct shmeta_reader *r, uint32_t topic_id, struct shmeta_topic *ret,
                                          struct shmeta_freshness *ret_fresh)
{
	const struct known none = {0};
	struct shmeta_freshness unused;
	enum shmeta_status status;
	struct shmeta_str name;
	uint32_t tenant, mine;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status != SHMETA_OK)
		return status;
	if (r->instance->no_tenant)
		return lookup_done(r, never_there(r, 0, ret_fresh));
	status = shmeta__topic_name(r, topic_id, &tenant, &name);
	/* Another tenant's topic is as absent as one that never was. */
	if (status == SHMETA_OK) {
		status = shmeta__snapshot_tenant(r, &mine);
		if (status == SHMETA_OK && tenant != mine)
			status = SHMETA_ABSENT;
	}
	if (status == SHMETA_OK) {
		status = get_topic(r, name.data, name.bytes, 0, ret, ret_fresh);
		/* The id leads to the name, so the name must lead back. */
		if (status != SHMETA_OK || ret->topic_id != topic_id)
			status = status < 0 ? status : SHMETA_ERR_CORRUPT;
	} else if (status == SHMETA_ABSENT) {
		lookup_age(r, SHMETA_CLASS_LIST, 0, &none, ret_fresh != NULL ? ret_fresh : &unused);
		status = absent_or_unknown(r, SHMETA_CLASS_LIST, &none);
	}
	return lookup_done(r, status);
}

enum shmeta_status shmeta_get_topics(struct shmeta_reader *r, size_t count, const struct shmeta_str *names,
                                     enum shmeta_status *ret_status, struct shmeta_topic *ret)
{
	enum shmeta_status status;

	if (r == NULL || (count != 0 && (names == NULL || ret_status == NULL || ret == NULL)))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < count; i++) {
		ret_status[i] = shmeta_get_topic(r, names[i].data, names[i].bytes, NULL, &ret[i], NULL);
		/* The snapshot as a whole is gone: the other answers are no better. */
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return SHMETA_ERR_EXPIRED;
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta_topic_stats(struct shmeta_reader *r, const char *name, size_t bytes,
                                      struct shmeta_topic_stats *ret, struct shmeta_freshness *ret_fresh)
{
	struct shmeta_topic_stats stats = {0};
	struct shmeta_partition partition;
	enum shmeta_status status, walked;
	struct known oldest = {UINT64_MAX, 0};
	struct shmeta_freshness unused;
	struct walk walk;
	uint32_t id;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = name_fits(r, "topic", name, bytes);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	if (ret_fresh == NULL)
		ret_fresh = &unused;
	status = shmeta__topic_resolve(r, name, bytes, &id);
	if (status == SHMETA_ABSENT) {
		status = topic_absent(r, name, bytes, &(struct known){0}, ret_fresh);
	} else if (status == SHMETA_OK) {
		shmeta__walk_open(SHMETA_DB_PARTS, &walk);
		while ((walked = shmeta__partition_walk(r, &walk, id, &partition, &oldest)) == SHMETA_OK) {
			stats.partition_count++;
			stats.segment_count += partition.segment_count;
			stats.size_bytes += partition.size_bytes;
		}
		status = walked == SHMETA_END ? SHMETA_OK : walked;
		/* As old as the oldest part of the sum; without parts, as the class. */
		if (oldest.synced_at_ns == UINT64_MAX)
			oldest.synced_at_ns = 0;
		if (status == SHMETA_OK) {
			*ret = stats;
			lookup_age(r, SHMETA_CLASS_SEGMENT, 0, &oldest, ret_fresh);
		}
	}
	return lookup_done(r, status);
}
