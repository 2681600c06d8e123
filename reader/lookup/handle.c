/* SPDX-License-Identifier: Apache-2.0
 * Handles of partitions, and how they stay right from commit to commit.
 *
 * A handle knows the commit for which what it remembers of the partition's head was right. In that
 * very snapshot it is right without a look. In another it is right when the head lies on pages of
 * its own, which do not move until the head is rewritten, and the partition's touched word names no
 * commit after the one known (PAIR 2). Otherwise the head is looked up again. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

enum { PARTS_FIRST = 8, PARTS_LAST = 256 };

/* Zeroed, aligned memory for `count` handles and `more` bytes behind them. */
static struct shmeta_handle *handles_new(size_t count, size_t more)
{
	size_t bytes = (count * sizeof(struct shmeta_handle) + more + 63) / 64 * 64;
	void *handles = aligned_alloc(64, bytes);

	return handles == NULL ? NULL : memset(handles, 0, bytes);
}

/* ---- making a handle right ---- */

/* The store was rebuilt, not copied, so topic numbers have new meanings. The topic of the same name
 * is the same topic when it was created at the same time; otherwise it was deleted, and the
 * handle's partition with it. */
static enum shmeta_status follow_lineage(struct shmeta_handle *h)
{
	struct shmeta_reader *r = h->reader;
	struct shmeta_topic topic;
	enum shmeta_status status;

	if (h->absent == 2)
		return SHMETA_ABSENT;
	h->known = 0;
	h->ready = NOT_READY;
	status = shmeta__topic_record(r, h->topic, h->topic_bytes, &topic);
	if (status != SHMETA_OK)
		return status; /* ABSENT: it may yet be loaded */
	if (unlikely(!snapshot_holds(r)))
		return SHMETA_ERR_EXPIRED;
	if (topic.created_at_ms != h->topic_created_at_ms) {
		h->absent = 2;
		return SHMETA_ABSENT;
	}
	h->lineage = r->env->lineage;
	h->part_key = shmeta__part_key(topic.topic_id, (uint32_t)h->part_key);
	h->word = shmeta__touched_partition(topic.topic_id, (uint32_t)h->part_key);
	return SHMETA_OK;
}

/* A handle of the cache: open the head where it lay before. 0: it must be looked up. */
static int recall(struct shmeta_handle *h)
{
	struct shmeta_reader *r = h->reader;
	const void *head;
	size_t bytes;

	head = shmeta__places_find(r, h->part_key, h->word, &bytes);
	if (head == NULL || shmeta__part_reopen(&h->part, h->part_key, head, bytes, &r->view.pages) != SHMETA_OK ||
	    unlikely(!snapshot_holds(r)))
		return 0;
	h->pinned = bytes >= SHMETA_HEAD_PADDED;
	h->absent = 0;
	h->known = r->snapshot;
	h->ready = r->snapshot;
	return 1;
}

/* The head is not in a store that lacks topics: this one may have left, and come back under another
 * number. OK: the handle means the new one; ABSENT: it did not. */
static enum shmeta_status follow_topic(struct shmeta_handle *h)
{
	struct shmeta_reader *r = h->reader;
	struct shmeta_topic topic;
	enum shmeta_status status;
	int lacks;

	status = shmeta__incomplete(r, SHMETA_CLASS_TOPIC, &lacks);
	if (status != SHMETA_OK || !lacks)
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	status = shmeta__topic_record(r, h->topic, h->topic_bytes, &topic);
	if (status != SHMETA_OK || topic.topic_id == h->part_key >> 32)
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	if (topic.created_at_ms != h->topic_created_at_ms)
		return SHMETA_ABSENT;
	h->part_key = shmeta__part_key(topic.topic_id, (uint32_t)h->part_key);
	h->word = shmeta__touched_partition(topic.topic_id, (uint32_t)h->part_key);
	return SHMETA_OK;
}

enum shmeta_status shmeta__partition_resolve(struct shmeta_handle *h)
{
	struct shmeta_reader *r = h->reader;
	uint64_t key = h->part_key, touched;
	enum shmeta_status status;
	const void *head;
	size_t bytes;

	if (h->known == r->snapshot)
		return h->absent ? SHMETA_ABSENT : SHMETA_OK;
	if (unlikely(h->lineage != r->env->lineage)) {
		status = follow_lineage(h);
		if (status != SHMETA_OK)
			return status;
		key = h->part_key;
	}
	if (h->known != 0 && (h->pinned | h->absent)) {
		touched = shmeta_observe(&r->env->touched[h->word]); /* PAIR 2: touch before commit */
		if (touched <= h->known && touched <= r->snapshot) {
			h->known = r->snapshot;
			if (h->absent)
				return SHMETA_ABSENT;
			h->ready = r->snapshot;
			return SHMETA_OK;
		}
	}
	if (h->link == NULL && recall(h))
		return SHMETA_OK;
	r->slot->counters.resolves++;
	h->known = 0;
	h->ready = NOT_READY;
	h->absent = 0;
	status = shmeta__snapshot_get(r, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes);
	if (status == SHMETA_ABSENT && h->topic_bytes != 0 && follow_topic(h) == SHMETA_OK) {
		key = h->part_key;
		status = shmeta__snapshot_get(r, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes);
	}
	if (status == SHMETA_OK) {
		status = shmeta__part_open(&h->part, key, head, bytes, &r->view.pages);
		h->pinned = bytes >= SHMETA_HEAD_PADDED;
	}
	if (unlikely(!snapshot_holds(r)))
		return SHMETA_ERR_EXPIRED;
	if (status < 0)
		return status;
	/* Where topics may come back under another number no word of its own tells of it. */
	if (status == SHMETA_ABSENT && r->quarantined_txn == r->snapshot &&
	    (r->incomplete >> SHMETA_CLASS_TOPIC & 1) != 0)
		return status;
	h->absent = status == SHMETA_ABSENT;
	h->known = r->snapshot;
	if (status == SHMETA_OK) {
		h->ready = r->snapshot;
		if (h->link == NULL)
			shmeta__places_keep(r, key, head, bytes);
	}
	return status;
}

static void handle_forget(struct shmeta_handle *h)
{
	shmeta__part_close(&h->part);
	h->known = 0;
	h->ready = NOT_READY;
	h->pinned = 0;
	h->absent &= 2;
}

/* ---- the cache behind the _named calls ---- */

static uint32_t cost(uint32_t parts)
{
	return parts <= PARTS_FIRST ? 0 : parts * (uint32_t)sizeof(struct shmeta_handle);
}

static void parts_free(struct shmeta_reader *r)
{
	uint32_t have = r->parts == NULL ? 0 : r->part_mask + 1;

	for (uint32_t i = 0; i < have; i++)
		shmeta__part_close(&r->parts[i].part);
	free(r->parts);
	r->parts = NULL;
	shmeta__cache_return(r->core, cost(have));
}

static void parts_grow(struct shmeta_reader *r)
{
	uint32_t have = r->parts == NULL ? 0 : r->part_mask + 1, want = have == 0 ? PARTS_FIRST : have * 2;
	struct shmeta_handle *parts;

	r->part_misses = 0;
	/* The first few are every reader's. */
	if (want > PARTS_LAST || (have != 0 && !shmeta__cache_grant(r->core, cost(want))))
		return;
	parts = handles_new(want, 0);
	if (parts == NULL) {
		shmeta__cache_return(r->core, cost(want));
		return;
	}
	parts_free(r);
	r->parts = parts;
	r->part_mask = want - 1;
}

static void handle_aim(struct shmeta_handle *h, struct shmeta_reader *r, uint32_t topic_id, uint32_t partition_id)
{
	handle_forget(h);
	h->absent = 0;
	h->lineage = r->env->lineage;
	h->fork_word = r->fork_word;
	h->fork_token = r->fork_token;
	h->reader = r;
	h->part_key = shmeta__part_key(topic_id, partition_id);
	h->word = shmeta__touched_partition(topic_id, partition_id);
}

/* A cached handle for (topic_id, partition), made right for the snapshot: OK, ABSENT, ERR_*. Valid
 * until the next call. */
static enum shmeta_status partition_cached(struct shmeta_reader *r, uint32_t topic_id, uint32_t partition_id,
                                           struct shmeta_handle **ret)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	uint32_t word = shmeta__touched_partition(topic_id, partition_id);
	enum shmeta_status status;
	struct shmeta_handle *h;

	if (unlikely(r->parts == NULL)) {
		parts_grow(r);
		if (r->parts == NULL)
			return SHMETA_ERR_NO_MEMORY;
	}
	h = &r->parts[word & r->part_mask];
	if (unlikely(h->part_key != key)) {
		h = &r->parts[(word & r->part_mask) ^ 1];
		if (h->part_key != key) {
			if (++r->part_misses > r->part_mask)
				parts_grow(r);
			h = &r->parts[(word & r->part_mask) ^ (r->part_misses & 1)];
			handle_aim(h, r, topic_id, partition_id);
		}
	}
	status = likely(h->ready == r->snapshot) ? SHMETA_OK : shmeta__partition_resolve(h);
	if (status == SHMETA_OK || status == SHMETA_ABSENT)
		*ret = h;
	return status;
}

void shmeta__partitions_fetch(struct shmeta_reader *r, const struct shmeta_find_named *finds, size_t count)
{
	uint64_t keys[AT_A_TIME];
	size_t known = 0, bytes;

	if (r->tenant == 0)
		return;
	for (size_t i = 0; i < count; i++)
		shmeta__name_fetch(r, &finds[i].topic);
	for (size_t i = 0; i < count; i++) {
		const struct shmeta_str *topic = &finds[i].topic;
		const struct name_entry *e = NULL;

		if (topic->data != NULL && topic->bytes - 1 < SHMETA_NAME_MAX)
			e = names_find(r, shmeta__name_hash(r->tenant, topic->data, topic->bytes), topic->data,
			               topic->bytes);
		if (e == NULL)
			continue;
		keys[known] = shmeta__part_key(e->topic.topic_id, finds[i].partition_id);
		shmeta__places_fetch(r, keys[known++]);
	}
	for (size_t i = 0; i < known; i++)
		(void)shmeta__places_find(
			r, keys[i], shmeta__touched_partition((uint32_t)(keys[i] >> 32), (uint32_t)keys[i]), &bytes);
}

void shmeta__handles_forget(struct shmeta_reader *r)
{
	for (struct shmeta_handle *h = r->handles; h != NULL; h = h->next)
		handle_forget(h);
	parts_free(r);
}

/* ---- handles ---- */

enum shmeta_status shmeta__partition_absent(struct shmeta_reader *r, enum shmeta_class cls,
                                            const struct missing *missing, uint64_t assured_ns,
                                            struct shmeta_freshness *ret_fresh)
{
	struct known known = {assured_ns, 0};
	struct shmeta_freshness unused;
	uint64_t alone_ns;
	enum shmeta_status status = shmeta__topic_alone(r, missing->name, missing->name_bytes, &alone_ns);

	if (status < 0)
		return status;
	if (alone_ns != 0)
		known.synced_at_ns = alone_ns;
	lookup_age(r, cls, 0, &known, ret_fresh != NULL ? ret_fresh : &unused);
	return unless_lacking(r, missing, absent_or_unknown(r, cls, &known));
}

enum shmeta_status shmeta__partition_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                           uint32_t partition_id, enum shmeta_class cls, uint64_t assured_ns,
                                           struct shmeta_freshness *ret_fresh, struct shmeta_handle **ret)
{
	enum shmeta_class age_of = cls;
	enum shmeta_status status;
	struct missing missing;
	uint32_t id;

	status = shmeta__topic_resolve(r, topic, topic_bytes, &id);
	if (likely(status == SHMETA_OK)) {
		status = partition_cached(r, id, partition_id, ret);
		if (likely(status != SHMETA_ABSENT))
			return status;
	} else if (status != SHMETA_ABSENT) {
		return status;
	} else if (!name_exists(r, topic, topic_bytes)) {
		return never_there(r, 0, ret_fresh);
	} else {
		age_of = SHMETA_CLASS_LIST;
	}
	missing = (struct missing){cls, .name = topic, .name_bytes = topic_bytes, .partition_id = partition_id};
	return shmeta__partition_absent(r, age_of, &missing, assured_ns, ret_fresh);
}

enum shmeta_status shmeta__handle_absent(struct shmeta_handle *h, enum shmeta_class cls, uint64_t assured_ns,
                                         struct shmeta_freshness *ret_fresh)
{
	const struct missing missing = {cls, .name = h->topic, .name_bytes = h->topic_bytes,
	                                .partition_id = (uint32_t)h->part_key};

	return shmeta__partition_absent(h->reader, cls, &missing, assured_ns, ret_fresh);
}

enum shmeta_status shmeta__handle_named(struct shmeta_reader *r, const struct want *want, uint64_t assured_ns,
                                        struct shmeta_freshness *ret_fresh, struct shmeta_handle **ret)
{
	struct shmeta_handle *h, *cached;
	struct shmeta_topic record;
	enum shmeta_status status = shmeta__partition_named(r, want->topic, want->topic_bytes, want->partition_id,
	                                                    want->cls, assured_ns, ret_fresh, &cached);

	if (status == SHMETA_OK)
		status = shmeta__topic_record(r, want->topic, want->topic_bytes, &record);
	if (status != SHMETA_OK)
		return status;
	h = handles_new(1, want->topic_bytes);
	if (h == NULL)
		return SHMETA_ERR_NO_MEMORY;
	handle_aim(h, r, (uint32_t)(cached->part_key >> 32), want->partition_id);
	h->topic_created_at_ms = record.created_at_ms;
	h->topic_bytes = (uint32_t)want->topic_bytes;
	memcpy(h->topic, want->topic, want->topic_bytes);
	status = shmeta__partition_resolve(h);
	if (status == SHMETA_OK)
		*ret = h;
	else
		shmeta__handle_free(h);
	return status;
}

enum shmeta_status shmeta_partition_open(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                         uint32_t partition_id, struct shmeta_handle **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_PARTITION,
	                          .topic = topic,
	                          .topic_bytes = topic_bytes,
	                          .partition_id = partition_id};
	struct shmeta_handle *h = NULL;
	enum shmeta_status status;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = name_fits(r, "topic", topic, topic_bytes);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, status) : status;
	status = lookup_done(r, shmeta__handle_named(r, &want, 0, NULL, &h));
	if (status != SHMETA_OK) {
		shmeta__handle_free(h);
		return status;
	}
	h->next = r->handles;
	h->link = &r->handles;
	if (h->next != NULL)
		h->next->link = &h->next;
	r->handles = h;
	*ret = h;
	return SHMETA_OK;
}

void shmeta__handle_detach(struct shmeta_handle *h)
{
	shmeta__part_close(&h->part);
	*h->link = h->next;
	if (h->next != NULL)
		h->next->link = h->link;
	h->fork_word = &shmeta__detached_word;
	h->fork_token = 0;
	h->reader = NULL;
}

void shmeta_partition_close(struct shmeta_handle *h)
{
	if (h == NULL)
		return;
	/* In a forked child the reader may be gone already, and its list with it. */
	if (shmeta_peek(h->fork_word) == h->fork_token)
		shmeta__handle_detach(h);
	free(h);
}

enum shmeta_status shmeta__handle_unusable(const struct shmeta_handle *h)
{
	return h->reader == NULL ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_ERR_FORKED;
}

struct shmeta_handle *shmeta__handle_for(const struct shmeta_handle *h, struct shmeta_reader *r)
{
	struct shmeta_handle *copy = handles_new(1, h->topic_bytes);

	if (copy == NULL)
		return NULL;
	handle_aim(copy, r, (uint32_t)(h->part_key >> 32), (uint32_t)h->part_key);
	copy->lineage = h->lineage;
	copy->absent = h->absent & 2;
	copy->topic_created_at_ms = h->topic_created_at_ms;
	copy->topic_bytes = h->topic_bytes;
	memcpy(copy->topic, h->topic, h->topic_bytes);
	return copy;
}

void shmeta__handle_free(struct shmeta_handle *h)
{
	if (h != NULL)
		shmeta__part_close(&h->part);
	free(h);
}
