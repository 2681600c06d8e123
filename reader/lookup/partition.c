/* SPDX-License-Identifier: Apache-2.0
 * Partitions: records, lists, and the sums over a topic's. */
#include "reader/lookup/lookup.h"

static inline void partition_answer(struct shmeta_handle *h, uint64_t assured_ns, struct shmeta_partition *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	struct known known = {shmeta__part_synced_at_ns(&h->part), shmeta__part_ttl_ms(&h->part)};

	shmeta__part_record(&h->part, ret);
	if (ret_fresh == NULL)
		return;
	if (known.synced_at_ns < assured_ns)
		known.synced_at_ns = assured_ns;
	lookup_age(h->reader, SHMETA_CLASS_PARTITION, 0, &known, ret_fresh);
}

static enum shmeta_status get_partition(struct shmeta_handle *h, uint64_t assured_ns, struct shmeta_partition *ret,
                                        struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = handle_right(h);

	if (likely(status == SHMETA_OK))
		partition_answer(h, assured_ns, ret, ret_fresh);
	else if (status == SHMETA_ABSENT)
		status = shmeta__handle_absent(h, SHMETA_CLASS_PARTITION, assured_ns, ret_fresh);
	return status;
}

struct partition_lookup {
	const struct want *want;
	struct shmeta_partition *ret;
};

static enum shmeta_status answer_handle(void *arg, struct shmeta_reader *unused, struct shmeta_handle *h,
                                        uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct partition_lookup *l = arg;

	(void)unused;
	return get_partition(h, assured_ns, l->ret, ret_fresh);
}

static enum shmeta_status get_partition_fresh(struct shmeta_handle *h, const struct shmeta_read *read,
                                              struct shmeta_partition *ret, struct shmeta_freshness *ret_fresh)
{
	const struct want want = want_of(h, SHMETA_CLASS_PARTITION);
	struct partition_lookup lookup = {&want, ret};

	return shmeta__fresh_lookup(h->reader, h, &want, read, answer_handle, &lookup, ret_fresh);
}

enum shmeta_status shmeta_get_partition(struct shmeta_handle *h, const struct shmeta_read *read,
                                        struct shmeta_partition *ret, struct shmeta_freshness *ret_fresh)
{
	struct shmeta_reader *r;
	enum shmeta_status status;
	uint64_t begun_ns = 0;
	int asks;

	if (unlikely(h == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (unlikely(shmeta_peek(h->fork_word) != h->fork_token))
		return shmeta__handle_unusable(h);
	r = h->reader;
	if (unlikely(r->snapshot == 0))
		return SHMETA_ERR_NO_SNAPSHOT;
	status = lookup_options(r, read, &asks);
	if (unlikely(status != SHMETA_OK))
		return status;
	if (unlikely(asks))
		return get_partition_fresh(h, read, ret, ret_fresh);
	if (unlikely((++r->tick & (SHMETA_SAMPLE_EVERY - 1)) == 0))
		begun_ns = shmeta__monotonic_ns();
	status = get_partition(h, 0, ret, ret_fresh);
	if (unlikely(begun_ns != 0))
		sample_lookup(r, begun_ns, h->part_key);
	return lookup_done(r, status);
}

static enum shmeta_status get_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                    uint32_t partition_id, uint64_t assured_ns, struct shmeta_partition *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	struct shmeta_handle *h;
	enum shmeta_status status = shmeta__partition_named(r, topic, topic_bytes, partition_id, SHMETA_CLASS_PARTITION,
	                                                    assured_ns, ret_fresh, &h);

	if (likely(status == SHMETA_OK)) {
		lookup_touch(r, h->part_key);
		partition_answer(h, assured_ns, ret, ret_fresh);
	}
	return status;
}

static enum shmeta_status answer_named(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                       uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct partition_lookup *l = arg;

	(void)unused;
	return get_named(r, l->want->topic, l->want->topic_bytes, l->want->partition_id, assured_ns, l->ret, ret_fresh);
}

static enum shmeta_status get_named_fresh(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                          uint32_t partition_id, const struct shmeta_read *read,
                                          struct shmeta_partition *ret, struct shmeta_freshness *ret_fresh)
{
	const struct want want = {.cls = SHMETA_CLASS_PARTITION,
	                          .topic = topic,
	                          .topic_bytes = topic_bytes,
	                          .partition_id = partition_id};
	struct partition_lookup lookup = {&want, ret};

	return shmeta__fresh_lookup(r, NULL, &want, read, answer_named, &lookup, ret_fresh);
}

enum shmeta_status shmeta_get_partition_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                              uint32_t partition_id, const struct shmeta_read *read,
                                              struct shmeta_partition *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status;
	int asks;

	if (unlikely(r == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (likely(status == SHMETA_OK))
		status = name_fits(r, "topic", topic, topic_bytes);
	if (likely(status == SHMETA_OK))
		status = lookup_options(r, read, &asks);
	if (unlikely(status != SHMETA_OK))
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	if (likely(!asks))
		return lookup_done(r, get_named(r, topic, topic_bytes, partition_id, 0, ret, ret_fresh));
	return get_named_fresh(r, topic, topic_bytes, partition_id, read, ret, ret_fresh);
}

/* The heads of the first AT_A_TIME handles, and the handles behind them. */
static void fetch(struct shmeta_handle *const *handles, size_t count, uint64_t snapshot)
{
	size_t now = count < AT_A_TIME ? count : AT_A_TIME;

	for (size_t i = 0; i < now; i++)
		if (handles[i]->ready == snapshot)
			shmeta__part_fetch_record(&handles[i]->part);
	for (size_t i = now; i < count && i < 2 * AT_A_TIME; i++)
		handle_fetch(handles[i]);
}

/* A batch that may ask the writer. */
struct partitions {
	struct shmeta_handle *const *handles;
	struct shmeta_partition *ret;
};

static void nothing(void *unused)
{
	(void)unused;
}

static void partitions_want(const void *arg, size_t i, struct want *ret)
{
	const struct partitions *p = arg;

	*ret = want_of(p->handles[i], SHMETA_CLASS_PARTITION);
}

static enum shmeta_status partitions_answer(void *arg, struct shmeta_reader *r, size_t i, uint64_t assured_ns,
                                            struct shmeta_freshness *ret_fresh)
{
	const struct partitions *p = arg;
	struct shmeta_handle *mine = p->handles[i], *h = mine;
	enum shmeta_status status;

	if (mine->reader != r)
		h = shmeta__handle_for(mine, r);
	if (h == NULL)
		return SHMETA_ERR_NO_MEMORY;
	status = get_partition(h, assured_ns, &p->ret[i], ret_fresh);
	if (h != mine)
		shmeta__handle_free(h);
	return status;
}

enum shmeta_status shmeta_get_partitions(size_t count, struct shmeta_handle *const *handles,
                                         const struct shmeta_read *read, enum shmeta_status *ret_status,
                                         struct shmeta_partition *ret)
{
	struct shmeta_reader *r;
	enum shmeta_status status;
	int asks;

	if (count != 0 && (handles == NULL || ret_status == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++)
		if (handles[i] == NULL || handles[i]->reader == NULL || handles[i]->reader != handles[0]->reader)
			return SHMETA_ERR_INVALID_ARGUMENT;
	if (count == 0)
		return SHMETA_OK;
	if (shmeta_peek(handles[0]->fork_word) != handles[0]->fork_token)
		return shmeta__handle_unusable(handles[0]);
	r = handles[0]->reader;
	status = r->snapshot != 0 ? lookup_options(r, read, &asks) : SHMETA_ERR_NO_SNAPSHOT;
	if (status != SHMETA_OK)
		return status;
	if (asks) {
		struct partitions partitions = {handles, ret};
		const struct shmeta__many many = {count, &partitions, nothing, partitions_want, partitions_answer};

		return shmeta__fresh_many(r, &many, read, ret_status);
	}
	for (size_t i = 0; i < count; i++) {
		if (i % AT_A_TIME == 0)
			fetch(handles + i, count - i, r->snapshot);
		ret_status[i] = shmeta_get_partition(handles[i], NULL, &ret[i], NULL);
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return ret_status[i];
	}
	return SHMETA_OK;
}

/* ---- lists ---- */

/* A time that counts alone (SHMETA_SYNCED_ALONE) is older than any that the class's stamp may stand
 * for. */
static int is_older(uint64_t synced_at_ns, uint64_t than_ns)
{
	if (than_ns != UINT64_MAX && ((synced_at_ns ^ than_ns) & SHMETA_SYNCED_ALONE) != 0)
		return (synced_at_ns & SHMETA_SYNCED_ALONE) != 0;
	return synced_at_ns < than_ns;
}

static enum shmeta_status partition_walk(struct shmeta_reader *r, struct walk *walk, uint32_t topic_id,
                                         struct shmeta_partition *ret, struct known *oldest)
{
	uint64_t key = shmeta__part_key(topic_id, 0), at, synced;
	uint32_t ttl;
	struct shmeta__part part = {0};
	const uint8_t *found;
	const void *head;
	enum shmeta_status status;
	size_t key_bytes, bytes;

	status = shmeta__walk_next(r, walk, walk->started ? NULL : &key, sizeof key, &found, &key_bytes, &head, &bytes);
	if (status != SHMETA_OK)
		return status;
	if (key_bytes != sizeof at)
		return SHMETA_ERR_CORRUPT;
	memcpy(&at, found, sizeof at);
	if (at >> 32 != topic_id)
		return shmeta__walk_ends(walk, found, key_bytes, head, bytes);
	status = shmeta__part_open(&part, at, head, bytes, &r->view.pages);
	if (status == SHMETA_OK) {
		shmeta__part_record(&part, ret);
		synced = shmeta__part_synced_at_ns(&part);
		ttl = shmeta__part_ttl_ms(&part);
		if (is_older(synced, oldest->synced_at_ns))
			oldest->synced_at_ns = synced;
		if (ttl != 0 && (oldest->ttl_ms == 0 || ttl < oldest->ttl_ms))
			oldest->ttl_ms = ttl;
	}
	shmeta__part_close(&part);
	return status;
}

/* How old the records of all of a topic's partitions are: as the oldest. */
static enum shmeta_status partitions_age(struct shmeta_reader *r, uint32_t topic_id, uint64_t assured_ns,
                                         struct shmeta_freshness *ret)
{
	struct known oldest = {assured_ns != 0 ? assured_ns : UINT64_MAX, 0};
	enum shmeta_status status = assured_ns != 0 ? SHMETA_END : SHMETA_OK;
	struct shmeta_partition unused;
	struct walk walk;

	shmeta__walk_open(SHMETA_DB_PARTS, &walk);
	while (status == SHMETA_OK)
		status = partition_walk(r, &walk, topic_id, &unused, &oldest);
	if (status != SHMETA_END)
		return status;
	if (oldest.synced_at_ns == UINT64_MAX)
		oldest.synced_at_ns = 0;
	lookup_age(r, SHMETA_CLASS_PARTITION, 0, &oldest, ret);
	return SHMETA_OK;
}

struct topic_name {
	const char *name;
	size_t bytes;
};

static enum shmeta_status list_partitions(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                          uint64_t assured_ns, struct shmeta_freshness *ret_fresh,
                                          struct shmeta_iter **ret)
{
	const struct topic_name *t = arg;
	const struct missing missing = {SHMETA_CLASS_TOPIC, .name = t->name, .name_bytes = t->bytes};
	enum shmeta_status status = name_fits(r, "topic", t->name, t->bytes);
	struct shmeta_iter *iter;
	uint32_t id;

	(void)unused;
	if (status == SHMETA_OK)
		status = shmeta__topic_resolve(r, t->name, t->bytes, &id);
	if (status == SHMETA_ABSENT)
		return name_exists(r, t->name, t->bytes)
		               ? shmeta__partition_absent(r, SHMETA_CLASS_LIST, &missing, assured_ns, ret_fresh)
		               : never_there(r, 0, ret_fresh);
	if (status == SHMETA_OK && ret_fresh != NULL)
		status = partitions_age(r, id, assured_ns, ret_fresh);
	if (status == SHMETA_OK)
		status = shmeta__iter_new(r, ITER_PARTITIONS, SHMETA_DB_PARTS, &iter);
	if (status == SHMETA_OK) {
		iter->topic_id = id;
		*ret = iter;
	}
	return status;
}

enum shmeta_status shmeta_list_partitions(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                          const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {
		.cls = SHMETA_CLASS_TOPIC, .topic = topic, .topic_bytes = topic_bytes, .with_segments = 1};
	struct topic_name name = {topic, topic_bytes};
	enum shmeta_status status;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	return status == SHMETA_OK ? shmeta__list(r, NULL, &want, read, list_partitions, &name, ret) : status;
}

enum shmeta_status shmeta_next_partition(struct shmeta_iter *iter, struct shmeta_partition *ret,
                                         struct shmeta_freshness *ret_fresh)
{
	struct known known = {UINT64_MAX, 0};
	struct shmeta_partition partition;
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_PARTITIONS);

	if (status != SHMETA_OK || ret == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	if (iter->done)
		return list_done(iter->reader);
	status = partition_walk(iter->reader, &iter->walk, iter->topic_id, &partition, &known);
	if (status == SHMETA_END) {
		iter->done = 1;
		return list_done(iter->reader);
	}
	if (status == SHMETA_OK) {
		*ret = partition;
		if (ret_fresh != NULL)
			lookup_age(iter->reader, SHMETA_CLASS_PARTITION, 0, &known, ret_fresh);
	}
	return lookup_done(iter->reader, status);
}

/* ---- sums ---- */

struct stats_lookup {
	struct topic_name topic;
	struct shmeta_topic_stats stats;
};

static enum shmeta_status sum_up(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused_handle,
                                 uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct stats_lookup *l = arg;
	const struct topic_name *name = &l->topic;
	struct shmeta_topic_stats stats = {0};
	struct shmeta_partition partition;
	enum shmeta_status status, walked;
	struct known oldest = {UINT64_MAX, 0};
	struct shmeta_freshness unused;
	struct shmeta_topic topic;
	struct walk walk;
	uint32_t id;
	int lacks = 0;

	(void)unused_handle;
	if (ret_fresh == NULL)
		ret_fresh = &unused;
	status = shmeta__topic_resolve(r, name->name, name->bytes, &id);
	if (status == SHMETA_ABSENT)
		return shmeta__topic_absent(r, name->name, name->bytes, &(struct known){assured_ns, 0}, ret_fresh);
	if (status != SHMETA_OK)
		return status;
	shmeta__walk_open(SHMETA_DB_PARTS, &walk);
	while ((walked = partition_walk(r, &walk, id, &partition, &oldest)) == SHMETA_OK) {
		stats.partition_count++;
		stats.segment_count += partition.segment_count;
		stats.size_bytes += partition.size_bytes;
	}
	status = walked == SHMETA_END ? shmeta__incomplete(r, SHMETA_CLASS_PARTITION, &lacks) : walked;
	if (status == SHMETA_OK && lacks)
		status = shmeta__topic_record(r, name->name, name->bytes, &topic);
	if (status == SHMETA_OK && lacks && stats.partition_count < topic.partition_count)
		status = SHMETA_UNKNOWN;
	/* As old as the oldest part of the sum; without parts, as the class. */
	if (oldest.synced_at_ns == UINT64_MAX)
		oldest.synced_at_ns = 0;
	if (assured_ns != 0)
		oldest = (struct known){assured_ns, 0};
	if (status >= 0)
		lookup_age(r, SHMETA_CLASS_SEGMENT, 0, &oldest, ret_fresh);
	l->stats = stats;
	return status;
}

enum shmeta_status shmeta_topic_stats(struct shmeta_reader *r, const char *name, size_t bytes,
                                      const struct shmeta_read *read, struct shmeta_topic_stats *ret,
                                      struct shmeta_freshness *ret_fresh)
{
	const struct want want = {.cls = SHMETA_CLASS_TOPIC, .topic = name, .topic_bytes = bytes, .with_segments = 1};
	struct stats_lookup lookup = {.topic = {name, bytes}};
	enum shmeta_status status;
	int asks;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = name_fits(r, "topic", name, bytes);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	status = asks ? shmeta__fresh_lookup(r, NULL, &want, read, sum_up, &lookup, ret_fresh)
	              : lookup_done(r, sum_up(&lookup, r, NULL, 0, ret_fresh));
	if (status == SHMETA_OK)
		*ret = lookup.stats;
	return status;
}
