/* SPDX-License-Identifier: Apache-2.0
 * load(): everything the source has, streamed into a new generation (first load) or merged with the current one (reconcile).
 *
 * Rows are collected in a small array and an arena that are used again and again, and handed to the partition's codec a few
 * hundred at a time: no memory is asked for per row, and a partition of any size passes through the same few hundred KiB.
 *
 * A merge commits at topic boundaries only (semantics.md C5). A transaction that removes something stays open until the load has
 * ended and has been judged: a load that is empty or shrank by more than half changes nothing until a second one says the same
 * (reliability row 46). Where the removals of a pass would make too large a transaction, it only counts, and the next pass,
 * whose size is then known to be right, may commit them as it goes. */
#include <syslog.h>

#include "writer/failing.h"
#include "writer/pass.h"
#include "writer/queue.h"

enum {
	HOLD_COMMITS = 16, /* removals are held back for as many rows as this many commits may have */
	STOP_CHECK_ROWS = 65536,
	BY_KEYS_MAX = 100000
};

struct merge {
	struct sync *s;
	struct shmeta__store *store;
	struct apply_host host;
	struct quarantine quarantine; /* of the whole pass */
	bool first;                   /* into a new generation */
	bool count_only;              /* apply nothing */
	bool hold;                    /* removals wait for the end */
	uint64_t synced_at_ns, txn;   /* synced_at_ns: of topics, partitions and segments */
	uint64_t began_ns;            /* the load: the other classes are no older */

	/* What the load says. */
	uint64_t topics, partitions, segments, since_check;
	enum shmeta_class class_begun; /* SHMETA_CLASS_COUNT: none yet */
	bool classes_begun;

	struct pass_known known;
	bool in_topic, in_partition;
	struct pass_window window; /* of the partition */

	/* Set when the store, not the source, ended the load. */
	enum shmeta_status failed;
	struct shmeta_err err;
	uint64_t changed;
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
	enum shmeta_status status = quarantine_flush(a, &m->quarantine, &m->err);

	if (status == SHMETA_OK)
		status = apply_commit(a, &m->txn, &m->err);

	if (status == SHMETA_OK) {
		m->changed += changed;
		sync_count_commit(m->s, a, began);
	}
	return status;
}

static enum shmeta_status flush(struct merge *m, uint64_t to)
{
	struct pass_window *w = &m->window;
	enum shmeta_status status = SHMETA_OK;

	/* Nothing lies beyond the last offset there is. */
	if (!m->count_only && w->from <= to)
		status = apply_segments(applier(m), w->from, to, w->row, w->count, &m->err);
	pass_window_next(w, to);
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
	if (m->hold && a->removed > 0) {
		if (a->changed < (uint64_t)m->s->options.commit_rows * HOLD_COMMITS)
			return SHMETA_OK;
		apply_abort(a);
		m->count_only = true;
		return SHMETA_OK;
	}
	return a->changed >= m->s->options.commit_rows ? commit(m) : SHMETA_OK;
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
	if (!applier(m)->topic_is_new)
		(void)pass_see(&m->known, applier(m)->topic_id);
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
	pass_window_begin(&m->window, 0);
	return SHMETA_OK;
}

/* A segment that the engine let pass and the store cannot take. */
static enum shmeta_status bad_segment(struct merge *m, const struct shmeta_segment *segment, const char *sentence)
{
	struct apply *a = applier(m);
	const struct backend_key row = {.cls = SHMETA_CLASS_SEGMENT,
	                                .tenant = a->topic_tenant,
	                                .topic = a->name,
	                                .partition_id = a->partition_id,
	                                .from = segment->base_offset,
	                                .to = SYNC_LAST_OFFSET};

	return fail(m, quarantine_row(a, &m->quarantine, &row, 1, sentence, &m->err));
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct merge *m = arg;
	char wrong[WINDOW_WRONG];
	enum shmeta_status status;

	m->segments++;
	if (++m->since_check >= STOP_CHECK_ROWS) {
		m->since_check = 0;
		if (sync_stopping(m->s))
			return SHMETA_ERR_WRITER_AWAY;
	}
	if (!m->in_partition || m->count_only)
		return SHMETA_OK;
	status = pass_window_add(&m->window, segment, wrong);
	if (status == SHMETA_ABSENT)
		return bad_segment(m, segment, wrong);
	if (status != SHMETA_OK)
		return fail(m, shmeta_fail(&m->err, status, "out of memory while loading"));
	return pass_window_full(&m->window) ? fail(m, flush(m, m->window.last_base)) : SHMETA_OK;
}

/* Hint classes come after all topics. */
static enum shmeta_status enter_classes(struct merge *m)
{
	enum shmeta_status status = end_topic(m);

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

#define ON_SMALL(m, call)                                          \
	do {                                                       \
		enum shmeta_status status_ = enter_classes(m);     \
                                                                   \
		if (status_ == SHMETA_OK && !(m)->count_only)      \
			status_ = call;                            \
		if (status_ == SHMETA_OK && sync_stopping((m)->s)) \
			return SHMETA_ERR_WRITER_AWAY;             \
		return fail(m, status_);                           \
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

	/* It may come before the first topic. */
	if (m->failed != SHMETA_OK || m->count_only || fail(m, begin(m)) != SHMETA_OK)
		return;
	if (!m->classes_begun)
		applier(m)->synced_at_ns = m->synced_at_ns;
	(void)fail(m, quarantine_row(applier(m), &m->quarantine, row, 1, sentence, &m->err));
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
	enum shmeta_status status = s->ops->load(s->backend, &sink, ret_err);

	if (status == SHMETA_OK)
		status = fail(m, enter_classes(m));
	s->counters.fetch_ns += sync_now(s) - m->began_ns;
	return status;
}

/* What is left to do in the last transaction of a load that ended well. */
static enum shmeta_status finish(struct merge *m)
{
	struct apply *a = applier(m);
	uint8_t feed[SYNC_FEED_MAX];
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < m->known.count && status == SHMETA_OK; i++) {
		if (m->known.seen[i])
			continue;
		status = apply_topic_delete_id(a, m->known.id[i], &m->err);
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
	if (status == SHMETA_OK)
		status = quarantine_pass_end(a, &m->quarantine, &m->err);
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
	sync_quarantine_pass_end(m->s);
	quarantine_free(&m->quarantine);
	pass_window_free(&m->window);
	pass_free_known(&m->known);
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
	m->host = sync_apply_host(s);
	m->host.quarantine = &m->quarantine;
	quarantine_begin(&m->quarantine, false);
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

	if (!accept_judge(s, store, sync_now(s) - began)) {
		merge_free(m);
		generation_discard(s, store);
		sync_room_works(s);
		sync_source_works(s, SYNC_JOB_PASS);
		sync_job_forget(s, SYNC_JOB_FEED);
		return;
	}
	sync_log(s, LOG_INFO, "loaded", "loaded %llu topics, %llu partitions, %llu segments in %llu ms",
	         (unsigned long long)m->topics, (unsigned long long)m->partitions, (unsigned long long)m->segments,
	         (unsigned long long)((sync_now(s) - began) / SYNC_MS));
	merge_free(m);
	sync_stamp_all(s, shmeta__store_generation(store), txn, synced);
	generation_publish(s, store);
	refresh_forget_feed(s);
	failing_forget_all(s); /* all of it could be read, and applied */
	s->following = sync_look_for_feed(s);
	s->list_dirty = s->reconcile_asked = s->shrunken = s->split_removals = false;
	s->load_lag_ns = 0;
	s->born_since = shmeta__store_counters(store)->next_topic_id;
	s->reconcile_began_ns = synced;
	s->reconcile_took_ns = sync_now(s) - synced;
	s->counters.loads++;
	sync_room_works(s);
	sync_source_works(s, SYNC_JOB_PASS);
	sync_job_forget(s, SYNC_JOB_FEED); /* it begins anew */
}

static bool want_key(struct sync *s, const struct identity *id, bool whole, bool repair)
{
	const struct want want = {.feed = true, .whole = whole, .repair = repair};

	pthread_mutex_lock(&s->queue.lock);
	bool wanted = queue_want(&s->queue, id, &want) != NULL;

	pthread_mutex_unlock(&s->queue.lock);
	return wanted;
}

void reconcile_by_keys(struct sync *s, bool repair)
{
	struct pass_known known = {0};
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn;
	uint32_t *ids = NULL;
	size_t count, capacity = 0, keys = 0;
	struct shmeta_str tenant, topic;
	enum shmeta_status status = pass_read_known(&known, s->store, &err);

	if (status == SHMETA_OK)
		status = shmeta__txn_read(s->store, &txn, &err);
	if (status == SHMETA_OK) {
		for (size_t i = 0; i < known.count && status == SHMETA_OK && keys < BY_KEYS_MAX; i++) {
			status = apply_topic_name(txn, known.id[i], &tenant, &topic, &err);
			if (status == SHMETA_OK)
				status = apply_partition_ids(txn, known.id[i], &ids, &count, &capacity, &err);
			if (status != SHMETA_OK)
				break;
			struct identity id = queue_identity(ENTRY_TOPIC, tenant, topic, 0);
			bool memory = want_key(s, &id, false, repair);

			for (size_t k = 0; k < count && memory; k++) {
				id = queue_identity(ENTRY_PART, tenant, topic, ids[k]);
				memory = want_key(s, &id, true, repair);
			}
			keys += 1 + count;
			status = memory ? SHMETA_OK : SHMETA_ERR_NO_MEMORY;
		}
		shmeta__txn_abort(txn);
	}
	free(ids);
	pass_free_known(&known);
	if (status < 0)
		sync_room_failed(s, status, err.text[0] != '\0' ? err.text : "out of memory while reconciling");
	refresh_hints(s);
	sync_wake_at(s, sync_now(s));
}

void reconcile_pass(struct sync *s, const char *why)
{
	struct backend_error source_err = {0};
	struct merge *m = merge_new(s, s->store, false);

	if (m == NULL)
		return;
	bool may_lag = !s->reconcile_asked && !s->list_dirty && !refresh_list_waiting(s) && !refresh_pass_waiting(s);
	struct sync_list_tickets tickets = refresh_take_list(s, true);
	bool had_feed = s->following;
	enum shmeta_status status = fail(m, pass_read_known(&m->known, m->store, &m->err));

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
	} else if (status == SHMETA_OK && !pass_is_believable(s, &m->known, m->topics, m->segments)) {
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
		sync_ask_pass(s, false, "the last one failed");
		/* A load that cannot show some row has moved nothing: where the feed was in step, it stays so. */
		if (ours == SHMETA_OK && status == SHMETA_ERR_INVALID_ARGUMENT) {
			s->reconcile_not_before_ns =
				sync_now(s) + sync_jitter(s, s->options.retry_max_ms * SYNC_MS, 500, 1000);
			if (s->list_dirty || !s->following)
				reconcile_by_keys(s, false);
		} else {
			s->list_dirty = true;
		}
		if (ours != SHMETA_OK)
			sync_room_failed(s, ours, err.text);
		else
			sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
		return;
	}
	sync_source_works(s, SYNC_JOB_PASS);
	if (again) {
		/* load() moved the feed past what it showed: until a pass has been applied, nothing may be called in step. */
		sync_ask_pass(s, true, "the last one is to be confirmed");
		s->reconcile_not_before_ns = sync_now(s) + sync_jitter(s, s->options.retry_min_ms * SYNC_MS, 500, 1000);
		refresh_return_list(s, tickets);
		merge_free(m);
		return;
	}
	uint64_t synced = m->synced_at_ns, began = m->began_ns, txn = m->txn > 0 ? m->txn : sync_committed(s);

	if (m->changed > 0 && had_feed)
		s->counters.reconcile_repairs += m->changed;
	if (m->changed > 0 && (had_feed || (s->capabilities & BACKEND_HAS_FEED) != 0))
		sync_log(s, LOG_INFO, "reconciled", "a full comparison changed %llu rows; it was made because %s",
		         (unsigned long long)m->changed, why);
	merge_free(m);
	refresh_forget_feed(s);
	failing_forget_all(s); /* all of it could be read, and applied */
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
