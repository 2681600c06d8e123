/* SPDX-License-Identifier: Apache-2.0
 * Rows that the source shows, into a new generation (merge.h).
 *
 * Rows are collected in a small array and an arena that are used again and again, and handed to the
 * partition's codec a few hundred at a time: no memory is asked for per row, and a partition of any
 * size passes through the same few hundred KiB. */
#include "writer/load/merge.h"

#include <stdlib.h>
#include <string.h>

enum { STOP_CHECK_ROWS = 65536 };

enum shmeta_status merge_fail(struct merge *m, enum shmeta_status status)
{
	if (status < 0 && m->failed == SHMETA_OK)
		m->failed = status;
	return status;
}

struct apply *merge_applier(struct merge *m)
{
	return &m->s->apply;
}

enum shmeta_status merge_begin(struct merge *m)
{
	if (merge_applier(m)->txn != NULL)
		return SHMETA_OK;
	return apply_begin(merge_applier(m), m->store, &m->host, UINT64_MAX, true, &m->err);
}

enum shmeta_status merge_commit(struct merge *m)
{
	struct apply *a = merge_applier(m);

	if (a->txn == NULL)
		return SHMETA_OK;
	uint64_t began = sync_now(m->s);
	enum shmeta_status status = quarantine_flush(a, &m->quarantine, &m->err);

	if (status == SHMETA_OK)
		status = apply_commit(a, &m->txn, &m->err);

	if (status == SHMETA_OK)
		sync_count_commit(m->s, a, began);
	return status;
}

static enum shmeta_status flush(struct merge *m, uint64_t to)
{
	struct pass_window *w = &m->window;
	enum shmeta_status status = SHMETA_OK;

	/* Nothing lies beyond the last offset there is. */
	if (w->from <= to)
		status = apply_segments(merge_applier(m), w->from, to, w->row, w->count, &m->err);
	pass_window_next(w, to);
	return status;
}

enum shmeta_status merge_end_partition(struct merge *m)
{
	if (!m->in_partition)
		return SHMETA_OK;
	m->in_partition = false;
	enum shmeta_status status = flush(m, SYNC_LAST_OFFSET);

	if (status == SHMETA_OK)
		status = apply_partition_end(merge_applier(m), true, false, &m->err);
	return status;
}

enum shmeta_status merge_end_topic(struct merge *m)
{
	struct apply *a = merge_applier(m);
	enum shmeta_status status = merge_end_partition(m);

	if (status != SHMETA_OK || !m->in_topic)
		return status;
	m->in_topic = false;
	status = apply_topic_end(a, &m->err);
	if (status != SHMETA_OK)
		return status;
	return a->changed >= m->s->options.commit_rows ? merge_commit(m) : SHMETA_OK;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct merge *m = arg;
	enum shmeta_status status = merge_end_topic(m);

	if (status != SHMETA_OK)
		return merge_fail(m, status);
	if (sync_stopping(m->s))
		return SHMETA_ERR_WRITER_AWAY;
	m->topics++;
	status = merge_begin(m);
	if (status != SHMETA_OK)
		return merge_fail(m, status);

	const struct apply_topic_opts opts = {.synced_at_ns = m->began_ns};

	status = apply_topic(merge_applier(m), tenant, topic, &opts, &m->err);
	if (status == SHMETA_ABSENT)
		return SHMETA_OK; /* quarantined: what follows of it is skipped */
	if (status != SHMETA_OK)
		return merge_fail(m, status);
	m->in_topic = true;
	return SHMETA_OK;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct merge *m = arg;
	enum shmeta_status status = merge_end_partition(m);

	if (status != SHMETA_OK)
		return merge_fail(m, status);
	m->partitions++;
	if (!m->in_topic)
		return SHMETA_OK;
	status = apply_partition(merge_applier(m), partition, &m->err);
	if (status == SHMETA_ABSENT)
		return SHMETA_OK;
	if (status != SHMETA_OK)
		return merge_fail(m, status);
	m->in_partition = true;
	pass_window_begin(&m->window, 0);
	return SHMETA_OK;
}

/* A segment that the engine let pass and the store cannot take. */
static enum shmeta_status bad_segment(struct merge *m, const struct shmeta_segment *segment, const char *sentence)
{
	struct apply *a = merge_applier(m);
	const struct backend_key row = {.cls = SHMETA_CLASS_SEGMENT,
	                                .tenant = a->topic_tenant,
	                                .topic = a->name,
	                                .partition_id = a->partition_id,
	                                .from = segment->base_offset,
	                                .to = SYNC_LAST_OFFSET};

	return merge_fail(m, quarantine_row(a, &m->quarantine, &row, 1, sentence, &m->err));
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
	if (!m->in_partition)
		return SHMETA_OK;
	status = pass_window_add(&m->window, segment, wrong);
	if (status == SHMETA_ABSENT)
		return bad_segment(m, segment, wrong);
	if (status != SHMETA_OK)
		return merge_fail(m, shmeta_fail(&m->err, status, "out of memory while loading"));
	return pass_window_full(&m->window) ? merge_fail(m, flush(m, m->window.last_base)) : SHMETA_OK;
}

/* Advisory classes come after all topics. */
enum shmeta_status merge_enter_classes(struct merge *m)
{
	enum shmeta_status status = merge_end_topic(m);

	if (status == SHMETA_OK)
		status = merge_begin(m);
	if (status != SHMETA_OK || m->classes_begun)
		return status;
	m->classes_begun = true;
	apply_class_begin(merge_applier(m), SHMETA_CLASS_AGENT, m->began_ns);
	apply_class_begin(merge_applier(m), SHMETA_CLASS_OFFSET, m->began_ns);
	apply_class_begin(merge_applier(m), SHMETA_CLASS_LEASE, m->began_ns);
	return SHMETA_OK;
}

#define ON_SMALL(m, call)                                            \
	do {                                                         \
		enum shmeta_status status_ = merge_enter_classes(m); \
                                                                     \
		if (status_ == SHMETA_OK)                            \
			status_ = call;                              \
		if (status_ == SHMETA_OK && sync_stopping((m)->s))   \
			return SHMETA_ERR_WRITER_AWAY;               \
		return merge_fail(m, status_);                       \
	} while (0)

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_agent(merge_applier(m), tenant, agent, &m->err));
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_group(merge_applier(m), tenant, group, &m->err));
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_offset(merge_applier(m), tenant, topic, offset, &m->err));
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct merge *m = arg;

	ON_SMALL(m, apply_lease(merge_applier(m), tenant, topic, lease, &m->err));
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct merge *m = arg;

	m->s->host.progress(m->s->host.arg, done, total);
	sync_show(m->s);
	return sync_stopping(m->s) ? SHMETA_ERR_WRITER_AWAY : SHMETA_OK;
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct merge *m = arg;

	/* It may come before the first topic. */
	if (m->failed != SHMETA_OK || merge_fail(m, merge_begin(m)) != SHMETA_OK)
		return;
	if (!m->classes_begun)
		merge_applier(m)->synced_at_ns = m->began_ns;
	(void)merge_fail(m, quarantine_row(merge_applier(m), &m->quarantine, row, 1, sentence, &m->err));
}

struct backend_sink merge_sink(struct merge *m)
{
	return (struct backend_sink){.arg = m,
	                             .topic = on_topic,
	                             .partition = on_partition,
	                             .segment = on_segment,
	                             .agent = on_agent,
	                             .group = on_group,
	                             .offset = on_offset,
	                             .lease = on_lease,
	                             .quarantine = on_quarantine,
	                             .progress = on_progress};
}

/* What is left to do in the last transaction of a load that ended well. */
enum shmeta_status merge_finish(struct merge *m)
{
	struct apply *a = merge_applier(m);
	enum shmeta_status status = merge_begin(m);

	/* By keys, each class has ended with its own read. */
	if (status == SHMETA_OK && m->by_keys == NULL)
		status = apply_class_end(a, SHMETA_CLASS_AGENT, &m->err);
	if (status == SHMETA_OK && m->by_keys == NULL)
		status = apply_class_end(a, SHMETA_CLASS_OFFSET, &m->err);
	if (status == SHMETA_OK && m->by_keys == NULL)
		status = apply_class_end(a, SHMETA_CLASS_LEASE, &m->err);
	if (status == SHMETA_OK && m->before_end != NULL)
		status = m->before_end(m);
	if (status == SHMETA_OK)
		status = quarantine_pass_end(a, &m->quarantine, &m->err);
	if (status == SHMETA_OK)
		status = saved_feed_put(m->s, m->lost == NULL, &m->err);
	return status == SHMETA_OK ? merge_commit(m) : status;
}

void merge_free(struct merge *m)
{
	apply_abort(merge_applier(m));
	if (m->before_free != NULL)
		m->before_free(m);
	sync_quarantine_pass_end(m->s);
	quarantine_free(&m->quarantine);
	pass_window_free(&m->window);
	free(m);
}

struct merge *merge_new(struct sync *s, struct shmeta__store *store)
{
	struct merge *m = calloc(1, sizeof *m);

	if (m == NULL) {
		sync_store_failed(s, SHMETA_ERR_NO_MEMORY, "out of memory while loading");
		return NULL;
	}
	m->s = s;
	m->store = store;
	m->host = sync_apply_host(s);
	m->host.quarantine = &m->quarantine;
	quarantine_begin(&m->quarantine, false);
	return m;
}
