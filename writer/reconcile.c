/* SPDX-License-Identifier: Apache-2.0
 * load(): everything the source has, streamed into a new generation (first load) or merged with the current one (reconcile).
 *
 * Rows are collected in a small array and an arena that are used again and again, and handed to the partition's codec a few
 * hundred at a time: no memory is asked for per row, and a partition of any size passes through the same few hundred KiB.
 *
 * A merge commits at topic boundaries only (semantics.md C5). A transaction that removes something stays open until the load has
 * ended and has been judged: a load that is empty or shrank by more than half changes nothing until a second one says the same
 * (reliability row 46). Where the removals of a pass would make too large a transaction, it only counts, and the next pass,
 * whose size is then known to be right, may commit them as it goes.
 *
 * The periodic pass, for which nobody waits, reads over a connection of its own: between two topics the feed is followed and
 * readers are served. It commits topic by topic, leaves alone what was applied since its read began (floor.h), and removes
 * nothing by itself: a topic that lost something is put into the queue and read again once the load has been judged. */
#include <stdio.h>
#include <syslog.h>

#include "writer/queue.h"

enum {
	ROWS_AT_ONCE = 512,
	HOLD_COMMITS = 16, /* removals are held back for as many rows as this many commits may have */
	STOP_CHECK_ROWS = 65536
};

struct merge {
	struct sync *s;
	struct shmeta__store *store;
	struct apply_host host;
	bool first;      /* into a new generation */
	bool count_only; /* apply nothing */
	bool hold;       /* removals wait for the end */
	bool aside;      /* over a connection of its own, while the feed is followed */
	void *backend;
	uint64_t began; /* aside: for the floor */
	bool given_up;  /* aside: following got into trouble, or the source names no keys any more */
	struct later *later;
	struct arena memory;
	char tenant[SHMETA_TENANT_MAX + 1]; /* of the topic being merged */
	size_t tenant_bytes;
	uint64_t synced_at_ns, txn; /* synced_at_ns: of topics, partitions and segments */
	uint64_t began_ns;          /* the load: the other classes are no older */

	/* What the load says. */
	uint64_t topics, partitions, segments, since_check;
	enum shmeta_class class_begun; /* SHMETA_CLASS_COUNT: none yet */
	bool classes_begun;

	/* The topics that the store had, ascending. */
	uint32_t *known;
	uint8_t *seen;
	size_t known_count;
	uint64_t known_segments;

	/* The partition being collected. */
	bool in_topic, in_partition;
	uint64_t window_from, last_base;
	bool any_base;
	size_t row_count;
	struct arena strings;
	struct shmeta_segment rows[ROWS_AT_ONCE];

	/* Set when the store, not the source, ended the load. */
	enum shmeta_status failed;
	struct shmeta_err err;
	uint64_t changed;
};

struct later { /* aside: a topic to be read again */
	struct later *next;
	struct shmeta_str tenant, topic;
};

static enum shmeta_status fail(struct merge *m, enum shmeta_status status)
{
	if (status < 0 && m->failed == SHMETA_OK)
		m->failed = status;
	return status;
}

static struct apply *applier(struct merge *m)
{
	return &m->s->apply;
}

static enum shmeta_status begin(struct merge *m)
{
	if (applier(m)->txn != NULL)
		return SHMETA_OK;
	return apply_begin(applier(m), m->store, &m->host, m->first ? UINT64_MAX : sync_oldest_pin(m->s), m->first,
	                   &m->err);
}

static enum shmeta_status commit(struct merge *m)
{
	struct apply *a = applier(m);

	if (a->txn == NULL)
		return SHMETA_OK;
	uint64_t began = sync_now(m->s), changed = a->changed;
	enum shmeta_status status = apply_commit(a, &m->txn, &m->err);

	if (status == SHMETA_OK) {
		m->changed += changed;
		sync_count_commit(m->s, a, began);
	}
	return status;
}

static enum shmeta_status flush(struct merge *m, uint64_t to)
{
	enum shmeta_status status = SHMETA_OK;

	/* Nothing lies beyond the last offset there is. */
	if (!m->count_only && m->window_from <= to)
		status = apply_segments(applier(m), m->window_from, to, m->rows, m->row_count, &m->err);
	m->window_from = to + 1;
	m->row_count = 0;
	arena_reset(&m->strings);
	return status;
}

static enum shmeta_status end_partition(struct merge *m)
{
	if (!m->in_partition)
		return SHMETA_OK;
	m->in_partition = false;
	enum shmeta_status status = flush(m, SYNC_LAST_OFFSET);

	if (status == SHMETA_OK && !m->count_only)
		status = apply_partition_end(applier(m), true, false, &m->err);
	return status;
}

static enum shmeta_status read_later(struct merge *m, struct shmeta_str tenant, struct shmeta_str topic)
{
	struct later *later = arena_alloc(&m->memory, sizeof *later);

	if (later == NULL || arena_str(&m->memory, tenant, &later->tenant) != 0 ||
	    arena_str(&m->memory, topic, &later->topic) != 0)
		return shmeta_fail(&m->err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
	later->next = m->later;
	m->later = later;
	return SHMETA_OK;
}

static enum shmeta_status end_topic_aside(struct merge *m)
{
	struct apply *a = applier(m);

	if (a->removed == 0)
		return commit(m);
	struct shmeta_str name = a->name;
	char copy[SHMETA_NAME_MAX + 1];

	memcpy(copy, name.data, name.bytes);
	name.data = copy;
	apply_abort(a);
	return read_later(m, (struct shmeta_str){m->tenant, m->tenant_bytes}, name);
}

static enum shmeta_status end_topic(struct merge *m)
{
	struct apply *a = applier(m);
	enum shmeta_status status = end_partition(m);

	if (status != SHMETA_OK || !m->in_topic)
		return status;
	m->in_topic = false;
	if (m->count_only)
		return SHMETA_OK;
	status = apply_topic_end(a, &m->err);
	if (status != SHMETA_OK)
		return status;
	if (m->aside)
		return end_topic_aside(m);
	if (m->hold && a->removed > 0) {
		if (a->changed < (uint64_t)m->s->options.commit_rows * HOLD_COMMITS)
			return SHMETA_OK;
		apply_abort(a);
		m->count_only = true;
		return SHMETA_OK;
	}
	return a->changed >= m->s->options.commit_rows ? commit(m) : SHMETA_OK;
}

static int compare_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct merge *m = arg;
	enum shmeta_status status = end_topic(m);

	if (status != SHMETA_OK)
		return fail(m, status);
	if (sync_stopping(m->s))
		return SHMETA_ERR_WRITER_AWAY;
	m->topics++;
	if (m->aside) {
		if (!sync_follow_meanwhile(m->s)) {
			m->given_up = true;
			return SHMETA_ERR_BUSY;
		}
		/* Something newer is in the store already, or nothing of this name can be. */
		if (floor_overtook(&m->s->floor, queue_name_hash(tenant, topic->name), FLOOR_TOPIC, m->began) ||
		    tenant.bytes > SHMETA_TENANT_MAX)
			return SHMETA_OK;
		memcpy(m->tenant, tenant.data, tenant.bytes);
		m->tenant_bytes = tenant.bytes;
	}
	if (m->count_only) {
		m->in_topic = true;
		return SHMETA_OK;
	}
	status = begin(m);
	if (status != SHMETA_OK)
		return fail(m, status);

	const struct apply_topic_opts opts = {.synced_at_ns = m->synced_at_ns};

	status = apply_topic(applier(m), tenant, topic, &opts, &m->err);
	if (status == SHMETA_ABSENT)
		return SHMETA_OK; /* quarantined: what follows of it is skipped */
	if (status != SHMETA_OK)
		return fail(m, status);
	m->in_topic = true;
	if (!applier(m)->topic_is_new) {
		uint32_t *known = bsearch(&applier(m)->topic_id, m->known, m->known_count, sizeof *known, compare_id);

		if (known != NULL)
			m->seen[known - m->known] = 1;
	}
	return SHMETA_OK;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct merge *m = arg;
	enum shmeta_status status = end_partition(m);

	if (status != SHMETA_OK)
		return fail(m, status);
	m->partitions++;
	if (!m->in_topic)
		return SHMETA_OK;
	if (!m->count_only) {
		status = apply_partition(applier(m), partition, &m->err);
		if (status == SHMETA_ABSENT)
			return SHMETA_OK;
		if (status != SHMETA_OK)
			return fail(m, status);
	}
	m->in_partition = true;
	m->window_from = 0;
	m->any_base = false;
	return SHMETA_OK;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct merge *m = arg;
	char text[512];
	const char *wrong;

	m->segments++;
	if (++m->since_check >= STOP_CHECK_ROWS) {
		m->since_check = 0;
		if (sync_stopping(m->s))
			return SHMETA_ERR_WRITER_AWAY;
	}
	if (!m->in_partition || m->count_only)
		return SHMETA_OK;
	wrong = shmeta__segment_error(segment, text, sizeof text);
	if (wrong != NULL) {
		sync_quarantined(m->s, &(struct backend_key){.cls = SHMETA_CLASS_SEGMENT}, wrong);
		return SHMETA_OK;
	}
	if (m->any_base && segment->base_offset <= m->last_base) {
		snprintf(text, sizeof text, "segment %llu of partition %u comes after segment %llu",
		         (unsigned long long)segment->base_offset, segment->partition_id,
		         (unsigned long long)m->last_base);
		sync_quarantined(m->s, &(struct backend_key){.cls = SHMETA_CLASS_SEGMENT}, text);
		return SHMETA_OK;
	}
	m->any_base = true;
	m->last_base = segment->base_offset;

	struct shmeta_segment *row = &m->rows[m->row_count];

	*row = *segment;
	size_t id = segment->id.bytes, bucket = segment->s3_bucket.bytes, key = segment->s3_key.bytes;
	char *p = arena_alloc(&m->strings, id + bucket + key + 1);

	if (p == NULL) {
		shmeta_fail(&m->err, SHMETA_ERR_NO_MEMORY, "out of memory while loading");
		return fail(m, SHMETA_ERR_NO_MEMORY);
	}
	/* The views may be NULL where they are empty. */
	if (id > 0)
		memcpy(p, segment->id.data, id);
	row->id.data = p;
	p += id;
	if (bucket > 0)
		memcpy(p, segment->s3_bucket.data, bucket);
	row->s3_bucket.data = p;
	p += bucket;
	if (key > 0)
		memcpy(p, segment->s3_key.data, key);
	row->s3_key.data = p;
	if (++m->row_count < ROWS_AT_ONCE)
		return SHMETA_OK;
	return fail(m, flush(m, m->last_base));
}

/* Hint classes come after all topics. */
static enum shmeta_status enter_classes(struct merge *m)
{
	enum shmeta_status status = end_topic(m);

	if (m->aside)
		return status; /* they are small: the queue reads them */
	if (status == SHMETA_OK && !m->count_only)
		status = begin(m);
	if (status != SHMETA_OK || m->classes_begun)
		return status;
	m->classes_begun = true;
	apply_class_begin(applier(m), SHMETA_CLASS_AGENT, m->began_ns);
	apply_class_begin(applier(m), SHMETA_CLASS_OFFSET, m->began_ns);
	apply_class_begin(applier(m), SHMETA_CLASS_LEASE, m->began_ns);
	return SHMETA_OK;
}

#define ON_SMALL(m, call)                                                    \
	do {                                                                 \
		enum shmeta_status status_ = enter_classes(m);               \
                                                                             \
		if (status_ == SHMETA_OK && !(m)->count_only && !(m)->aside) \
			status_ = call;                                      \
		if (status_ == SHMETA_OK && sync_stopping((m)->s))           \
			return SHMETA_ERR_WRITER_AWAY;                       \
		return fail(m, status_);                                     \
	} while (0)

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_agent(applier(m), tenant, agent, &m->err));
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_group(applier(m), tenant, group, &m->err));
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_offset(applier(m), tenant, topic, offset, &m->err));
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_lease(applier(m), tenant, topic, lease, &m->err));
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct merge *m = arg;

	if (m->first)
		m->s->host.progress(m->s->host.arg, done, total);
	sync_show(m->s);
	return sync_stopping(m->s) ? SHMETA_ERR_WRITER_AWAY : SHMETA_OK;
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct merge *m = arg;

	sync_quarantined(m->s, row, sentence);
}

static enum shmeta_status read_known(struct merge *m)
{
	struct shmeta__txn *txn;
	struct shmeta__cursor *cursor;
	size_t capacity = 0;
	enum shmeta_status status = shmeta__txn_read(m->store, &txn, &m->err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_open(txn, SHMETA_DB_TOPICS, NULL, 0, &cursor, &m->err);
	while (status == SHMETA_OK) {
		const void *key, *value;
		size_t key_bytes, bytes;
		uint64_t id;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &m->err);
		if (status != SHMETA_OK || key_bytes != sizeof id)
			break;
		if (m->known_count == capacity) {
			capacity = capacity == 0 ? 1024 : capacity * 2;
			uint32_t *bigger = reallocarray(m->known, capacity, sizeof *bigger);

			if (bigger == NULL) {
				status = shmeta_fail(&m->err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
				break;
			}
			m->known = bigger;
		}
		memcpy(&id, key, sizeof id);
		m->known[m->known_count++] = (uint32_t)id;
	}
	if (status >= 0)
		shmeta__cursor_close(cursor);
	shmeta__txn_abort(txn);
	if (status < 0)
		return status;
	m->seen = calloc(m->known_count + 1, 1);
	if (m->seen == NULL)
		return shmeta_fail(&m->err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
	m->known_segments = shmeta__store_counters(m->store)->segments;
	return SHMETA_OK;
}

/* As long as what is read stays fresh for as long again. */
static int on_may_lag(void *arg, uint64_t lag_ns)
{
	struct merge *m = arg;

	if (lag_ns > sync_main_ttl_ns(m->s) / 2 || lag_ns > m->began_ns)
		return 0;
	m->synced_at_ns = m->began_ns - lag_ns;
	return 1;
}

/* may_lag: nobody has asked for it. */
static enum shmeta_status run_load(struct merge *m, bool may_lag, struct backend_error *ret_err)
{
	const struct backend_sink sink = {.arg = m,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease,
	                                  .quarantine = on_quarantine,
	                                  .progress = on_progress,
	                                  .may_lag = may_lag ? on_may_lag : NULL};
	struct sync *s = m->s;

	sync_quarantine_pass_end(s);
	sync_quarantine_pass_begin(s, m->first ? "load" : "reconcile");
	m->synced_at_ns = m->began_ns = sync_now(s);
	enum shmeta_status status = s->ops->load(m->backend, &sink, ret_err);

	if (status == SHMETA_OK)
		status = fail(m, enter_classes(m));
	s->counters.fetch_ns += sync_now(s) - m->began_ns;
	sync_quarantine_pass_end(s);
	return status;
}

/* What is left to do in the last transaction of a load that ended well. */
static enum shmeta_status finish(struct merge *m)
{
	struct apply *a = applier(m);
	uint8_t feed[SYNC_FEED_MAX];
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < m->known_count && status == SHMETA_OK; i++) {
		if (m->seen[i])
			continue;
		status = apply_topic_delete_id(a, m->known[i], &m->err);
		if (status == SHMETA_ABSENT)
			status = SHMETA_OK; /* another incarnation took its name in this pass */
		/* Removals are confirmed by now: a topic's end is a place to commit. */
		if (status == SHMETA_OK && a->changed >= m->s->options.commit_rows) {
			status = commit(m);
			if (status == SHMETA_OK)
				status = begin(m);
		}
	}
	if (status == SHMETA_OK)
		status = apply_class_end(a, SHMETA_CLASS_AGENT, &m->err);
	if (status == SHMETA_OK)
		status = apply_class_end(a, SHMETA_CLASS_OFFSET, &m->err);
	if (status == SHMETA_OK)
		status = apply_class_end(a, SHMETA_CLASS_LEASE, &m->err);
	if (status == SHMETA_OK) {
		size_t bytes = generation_feed_value(m->s, feed);

		/* The position alone is no reason for a commit. */
		if (m->first || a->changed > 0)
			status = apply_feed(a, feed, bytes, &m->err);
	}
	return status == SHMETA_OK ? commit(m) : status;
}

static void merge_free(struct merge *m)
{
	apply_abort(applier(m));
	arena_free(&m->strings);
	arena_free(&m->memory);
	free(m->known);
	free(m->seen);
	free(m);
}

static struct merge *merge_new(struct sync *s, struct shmeta__store *store, bool first)
{
	struct merge *m = calloc(1, sizeof *m);

	if (m == NULL) {
		sync_room_failed(s, SHMETA_ERR_NO_MEMORY, "out of memory while loading");
		return NULL;
	}
	m->s = s;
	m->store = store;
	m->backend = s->backend;
	m->host = sync_apply_host(s);
	m->first = first;
	return m;
}

void reconcile_first(struct sync *s)
{
	struct shmeta__store *store;
	struct shmeta_err err;
	struct backend_error source_err = {0};
	uint64_t began = sync_now(s);

	s->load_began_ns = began;
	if (s->store == NULL)
		sync_move(s, SHMETA_PHASE_LOADING, "reading everything from the source");
	enum shmeta_status status = generation_create(s, &store, &err);

	if (status != SHMETA_OK) {
		sync_room_failed(s, status, err.text);
		return;
	}
	struct shmeta_store_counters *counters = shmeta__store_counters(store);
	struct merge *m = merge_new(s, store, true);

	if (m == NULL) {
		generation_discard(s, store);
		return;
	}
	if (begin(m) == SHMETA_OK && counters->next_topic_id < s->next_topic_id)
		counters->next_topic_id = s->next_topic_id;
	status = run_load(m, false, &source_err);
	if (status == SHMETA_OK)
		status = fail(m, finish(m));
	if (status != SHMETA_OK) {
		enum shmeta_status ours = m->failed;

		memcpy(&err, &m->err, sizeof err);
		merge_free(m);
		generation_discard(s, store);
		if (sync_stopping(s))
			return;
		if (ours != SHMETA_OK)
			sync_room_failed(s, ours, err.text);
		else
			sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
		return;
	}
	uint64_t synced = m->synced_at_ns, txn = m->txn;

	sync_log(s, LOG_INFO, "loaded", "loaded %llu topics, %llu partitions, %llu segments in %llu ms",
	         (unsigned long long)m->topics, (unsigned long long)m->partitions, (unsigned long long)m->segments,
	         (unsigned long long)((sync_now(s) - began) / SYNC_MS));
	merge_free(m);
	sync_stamp_all(s, shmeta__store_generation(store), txn, synced);
	generation_publish(s, store);
	refresh_forget_feed(s);
	s->following = sync_look_for_feed(s);
	s->list_dirty = s->reconcile_asked = s->shrunken = s->split_removals = false;
	s->load_lag_ns = 0;
	s->born_since = shmeta__store_counters(store)->next_topic_id;
	s->reconcile_began_ns = synced;
	s->reconcile_took_ns = sync_now(s) - synced;
	s->counters.loads++;
	sync_room_works(s);
	sync_source_works(s, SYNC_JOB_PASS);
}

/* Judge a load that ended well: may it remove what it did not name? */
static bool believable(struct merge *m)
{
	struct sync *s = m->s;

	if (m->topics >= (m->known_count + 1) / 2 && m->segments >= (m->known_segments + 1) / 2) {
		s->shrunken = false;
		return true;
	}
	if (s->shrunken && m->topics >= s->shrunken_topics && m->segments >= s->shrunken_segments) {
		sync_log(s, LOG_NOTICE, "shrink_confirmed",
		         "a second read confirms %llu topics and %llu segments where the store has %zu and %llu",
		         (unsigned long long)m->topics, (unsigned long long)m->segments, m->known_count,
		         (unsigned long long)m->known_segments);
		return true;
	}
	s->shrunken = true;
	s->shrunken_topics = m->topics;
	s->shrunken_segments = m->segments;
	sync_log(s, LOG_WARNING, "shrink_suspected",
	         "the source shows %llu topics and %llu segments where the store has %zu and %llu: nothing is deleted "
	         "until a second read says the same",
	         (unsigned long long)m->topics, (unsigned long long)m->segments, m->known_count,
	         (unsigned long long)m->known_segments);
	return false;
}

void reconcile_pass(struct sync *s)
{
	struct backend_error source_err = {0};
	struct merge *m = merge_new(s, s->store, false);

	if (m == NULL)
		return;
	bool may_lag = !s->reconcile_asked && !s->list_dirty && !refresh_list_waiting(s);
	struct sync_ticket *tickets = refresh_take_list(s);
	bool had_feed = s->following;
	enum shmeta_status status = fail(m, read_known(m));

	m->hold = !s->split_removals;
	s->reconcile_began_ns = sync_now(s);
	if (status == SHMETA_OK)
		status = run_load(m, may_lag, &source_err);

	bool again = false;

	if (status == SHMETA_OK) {
		/* A file may be replaced at any time: what was read may be another source's. */
		generation_judge(s);
		again = s->foreign;
	}
	if (again) {
		apply_abort(applier(m));
		sync_wake_at(s, sync_now(s));
	} else if (status == SHMETA_OK && !believable(m)) {
		apply_abort(applier(m));
		again = true;
	} else if (status == SHMETA_OK && m->count_only) {
		s->split_removals = true;
		again = true;
	} else if (status == SHMETA_OK) {
		status = fail(m, finish(m));
	}
	s->reconcile_took_ns = sync_now(s) - s->reconcile_began_ns;

	if (status != SHMETA_OK) {
		enum shmeta_status ours = m->failed;
		struct shmeta_err err = m->err;

		merge_free(m);
		refresh_answer_list(s, tickets, ours != SHMETA_OK ? ours : status,
		                    ours != SHMETA_OK ? err.text : source_err.text, 0);
		if (sync_stopping(s))
			return;
		s->reconcile_asked = s->list_dirty = true;
		if (ours != SHMETA_OK)
			sync_room_failed(s, ours, err.text);
		else
			sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
		return;
	}
	sync_source_works(s, SYNC_JOB_PASS);
	if (again) {
		/* load() moved the feed past what it showed: until a pass has been applied, nothing may be called in step. */
		s->list_dirty = true;
		s->reconcile_asked = true;
		s->reconcile_not_before_ns = sync_now(s) + sync_jitter(s, s->options.retry_min_ms * SYNC_MS, 500, 1000);
		refresh_return_list(s, tickets);
		merge_free(m);
		return;
	}
	uint64_t synced = m->synced_at_ns, began = m->began_ns, txn = m->txn > 0 ? m->txn : sync_committed(s);

	if (m->changed > 0 && had_feed) {
		s->counters.reconcile_repairs += m->changed;
		sync_log(s, LOG_INFO, "reconciled", "a full comparison changed %llu rows",
		         (unsigned long long)m->changed);
	}
	merge_free(m);
	refresh_forget_feed(s);
	s->following = sync_look_for_feed(s);
	s->list_dirty = s->reconcile_asked = s->shrunken = s->split_removals = false;
	s->born_since = shmeta__store_counters(s->store)->next_topic_id;
	s->counters.reconciles++;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		sync_stamp(s, s->gen, (enum shmeta_class)cls, txn,
		           cls >= SHMETA_CLASS_AGENT && cls <= SHMETA_CLASS_OFFSET ? began : synced);
	s->load_lag_ns = began - synced;
	s->counters.reconciles_lagged += s->load_lag_ns > 0;
	sync_room_works(s);
	refresh_answer_list(s, tickets, SHMETA_OK, "", synced);
}

/* ---- aside ---------------------------------------------------------------------------------------------------------------- */

/* A second connection to the same source; NULL: there is none to be had. */
static void *open_aside(struct sync *s)
{
	struct backend_options options = s->options.source;
	struct backend_error err = {0};
	void *backend = calloc(1, s->ops->state_bytes);

	if (backend == NULL)
		return NULL;
	options.manage_schema = 0;
	options.changefeed = 0;
	if (s->ops->open(backend, &options, &err) == SHMETA_OK &&
	    s->ops->fingerprint(backend) == s->ops->fingerprint(s->backend))
		return backend;
	s->ops->close(backend);
	free(backend);
	return NULL;
}

static void close_aside(struct sync *s, void *backend)
{
	struct backend_counters counters = {0};

	s->ops->counters(backend, &counters);
#define C(name, help) s->counted.name += counters.name;
	BACKEND_COUNTERS(C)
#undef C
	s->ops->close(backend);
	free(backend);
}

/* The names of the topics that the load did not show. */
static enum shmeta_status unseen_later(struct merge *m)
{
	struct shmeta__txn *txn;
	enum shmeta_status status = shmeta__txn_read(m->store, &txn, &m->err);

	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < m->known_count && status >= 0; i++) {
		struct shmeta_str tenant, topic;

		if (m->seen[i])
			continue;
		status = apply_topic_name(txn, m->known[i], &tenant, &topic, &m->err);
		if (status == SHMETA_OK)
			status = read_later(m, tenant, topic);
	}
	shmeta__txn_abort(txn);
	return status < 0 ? status : SHMETA_OK;
}

bool reconcile_aside(struct sync *s)
{
	struct backend_error source_err = {0};
	void *backend = open_aside(s);

	if (backend == NULL)
		return false;
	struct merge *m = merge_new(s, s->store, false);

	if (m == NULL) {
		close_aside(s, backend);
		return true;
	}
	m->aside = true;
	m->backend = backend;
	m->began = floor_read_begins(&s->floor);
	s->reconcile_began_ns = sync_now(s);

	enum shmeta_status status = fail(m, read_known(m));

	if (status == SHMETA_OK)
		status = run_load(m, false, &source_err);
	if (status == SHMETA_OK) {
		generation_judge(s);
		if (s->foreign || s->ops->fingerprint(backend) != s->ops->fingerprint(s->backend)) {
			/* One of them looks at a file that is no longer there; the feed will say so. */
			m->given_up = true;
		} else if (believable(m)) {
			status = fail(m, unseen_later(m));
			for (struct later *l = m->later; l != NULL && status == SHMETA_OK; l = l->next, m->changed++)
				if (!refresh_topic(s, l->tenant, l->topic))
					status = fail(m, SHMETA_ERR_NO_MEMORY);
			refresh_hints(s);
			sync_wake_at(s, sync_now(s));
		} else {
			/* A second look, and this time for good: nothing goes on before it is certain. */
			s->reconcile_asked = true;
			s->reconcile_not_before_ns =
				sync_now(s) + sync_jitter(s, s->options.retry_min_ms * SYNC_MS, 500, 1000);
			m->given_up = true;
		}
	}
	apply_abort(applier(m));
	floor_read_ends(&s->floor);
	close_aside(s, backend);
	s->reconcile_took_ns = sync_now(s) - s->reconcile_began_ns;

	bool given_up = m->given_up;
	enum shmeta_status ours = m->failed;
	struct shmeta_err err = m->err;
	uint64_t changed = m->changed;

	merge_free(m);
	if (given_up || sync_stopping(s))
		return true;
	if (ours != SHMETA_OK) {
		sync_room_failed(s, ours, err.text);
	} else if (status != SHMETA_OK) {
		sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
	} else {
		sync_source_works(s, SYNC_JOB_PASS);
		s->counters.reconciles++;
		s->counters.reconcile_repairs += changed;
		if (changed > 0)
			sync_log(s, LOG_INFO, "reconciled",
			         "a full comparison found %llu rows that the feed had not named",
			         (unsigned long long)changed);
	}
	return true;
}
