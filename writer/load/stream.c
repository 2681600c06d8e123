/* SPDX-License-Identifier: Apache-2.0
 * Rows applied as they come. */
#include "writer/load/stream.h"

static enum shmeta_status fail(struct stream *m, enum shmeta_status status)
{
	if (status < 0 && m->failed == SHMETA_OK)
		m->failed = status;
	return status;
}

static struct apply *applier(const struct stream *m)
{
	return &m->b->s->apply;
}

static const struct sync_entry *entry_of(const struct stream *m)
{
	return m->b->entry[0];
}

static enum shmeta_status flush(struct stream *m, uint64_t to)
{
	struct pass_window *w = &m->window;
	enum shmeta_status status = SHMETA_OK;

	/* Nothing lies beyond the last offset there is. */
	if (w->from <= to)
		status = apply_segments(applier(m), w->from, to, w->row, w->count, &m->err);
	pass_window_next(w, to);
	return status;
}

static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct stream *m = arg;
	enum shmeta_status status = SHMETA_OK;

	(void)key;
	if (m->b->at >= m->b->key_count)
		return fail(m, SHMETA_ERR_PROTOCOL);
	m->b->fetched[m->b->at].bad_at = m->b->bad_count;
	if (entry_of(m)->kind == ENTRY_TOPIC || m->b->at > 0)
		return SHMETA_OK;
	status = apply_topic_enter(applier(m), entry_of(m)->tenant, entry_of(m)->topic, &m->err);
	m->in_topic = status == SHMETA_OK;
	applier(m)->synced_at_ns = m->b->read_at_ns;
	return status == SHMETA_ABSENT ? SHMETA_OK : fail(m, status);
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct stream *m = arg;
	const struct want *want = &entry_of(m)->want;
	const struct apply_topic_opts opts = {.synced_at_ns = m->b->read_at_ns,
	                                      .deleted = want->deleted,
	                                      .born_since = want->born_since,
	                                      .restamp = m->restamp};
	enum shmeta_status status = apply_topic(applier(m), entry_of(m)->tenant, topic, &opts, &m->err);

	(void)tenant;
	m->in_topic = status == SHMETA_OK;
	m->any = true;
	return status == SHMETA_ABSENT ? SHMETA_OK : fail(m, status);
}

/* Of a topic: whole. */
static enum shmeta_status end_partition(struct stream *m)
{
	if (!m->in_partition)
		return SHMETA_OK;
	m->in_partition = false;
	enum shmeta_status status = flush(m, SYNC_LAST_OFFSET);

	return fail(m, status == SHMETA_OK ? apply_partition_end(applier(m), true, m->restamp, &m->err) : status);
}

static enum shmeta_status enter_range(struct stream *m, const struct shmeta_partition *partition)
{
	const struct backend_key *key = &m->b->key[m->b->at];
	enum shmeta_status status = SHMETA_OK;

	if (!m->any) {
		status = apply_partition(applier(m), partition, &m->err);
		m->any = true;
		m->in_partition = status == SHMETA_OK;
		if (m->in_partition && !applier(m)->partition_is_new && !entry_of(m)->want.topic_asked &&
		    applier(m)->before.created_at_ms != partition->created_at_ms) {
			m->widen = true;
			return SHMETA_ERR_BUSY;
		}
	}
	pass_window_begin(&m->window, key->from);
	return status == SHMETA_ABSENT ? SHMETA_OK : fail(m, status);
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct stream *m = arg;
	enum shmeta_status status;

	if (!m->in_topic)
		return SHMETA_OK;
	if (entry_of(m)->kind == ENTRY_PART)
		return enter_range(m, partition);
	status = end_partition(m);
	if (status == SHMETA_OK)
		status = apply_partition(applier(m), partition, &m->err);
	m->in_partition = status == SHMETA_OK;
	pass_window_begin(&m->window, 0);
	return status == SHMETA_ABSENT ? SHMETA_OK : fail(m, status);
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct stream *m = arg;
	char wrong[WINDOW_WRONG];
	enum shmeta_status status;

	if (!m->in_partition)
		return SHMETA_OK;
	status = pass_window_add(&m->window, segment, wrong);
	if (status == SHMETA_ABSENT) {
		const struct backend_key row = {.cls = SHMETA_CLASS_SEGMENT,
		                                .tenant = entry_of(m)->tenant,
		                                .topic = entry_of(m)->topic,
		                                .partition_id = applier(m)->partition_id,
		                                .from = segment->base_offset,
		                                .to = SYNC_LAST_OFFSET};

		return fail(m, fetched_bad(m->b, &row, wrong));
	}
	if (status != SHMETA_OK)
		return fail(m, shmeta_fail(&m->err, status, "out of memory while reading from the source"));
	return pass_window_full(&m->window) ? fail(m, flush(m, m->window.last_base)) : SHMETA_OK;
}

static enum shmeta_status end_topic(struct stream *m, bool found)
{
	enum shmeta_status status;

	if (!found || !m->any) {
		status = apply_topic_delete(applier(m), entry_of(m)->tenant, entry_of(m)->topic, &m->err);
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	}
	status = end_partition(m);
	return status == SHMETA_OK && m->in_topic ? apply_topic_end(applier(m), &m->err) : status;
}

static enum shmeta_status end_ranges(struct stream *m)
{
	const struct sync_entry *e = entry_of(m);
	enum shmeta_status status = SHMETA_OK;

	if (!m->in_topic)
		return SHMETA_OK;
	if (!m->any)
		status = apply_partition_delete(applier(m), e->partition_id, &m->err);
	else if (m->in_partition)
		status = apply_partition_end(applier(m), e->want.whole, e->want.whole && m->restamp, &m->err);
	m->in_partition = false;
	if (status >= 0)
		apply_topic_leave(applier(m));
	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status result,
                                     const char *sentence)
{
	struct stream *m = arg;
	enum shmeta_status status = SHMETA_OK;
	bool found = result == SHMETA_OK;

	(void)key;
	if (result < 0) {
		/* what was applied of it goes with the transaction */
		fetched_unread(m->b, result, sentence);
		return fail(m, result);
	}
	if (entry_of(m)->kind == ENTRY_TOPIC)
		status = end_topic(m, found);
	else if (m->in_partition)
		status = flush(m, m->b->key[m->b->at].to);
	m->b->fetched[m->b->at].bad_count = m->b->bad_count - m->b->fetched[m->b->at].bad_at;
	m->b->fetched[m->b->at].found = found;
	m->b->fetched[m->b->at].has_topic = m->any;
	m->b->fetched[m->b->at].part_count = m->any;
	m->b->at++;
	if (status == SHMETA_OK && m->b->at == m->b->key_count && entry_of(m)->kind == ENTRY_PART)
		status = end_ranges(m);
	return fail(m, status);
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct stream *m = arg;

	/* The call goes on; it is looked at when it has ended. */
	if (m->b->at < m->b->key_count)
		(void)fail(m, fetched_bad(m->b, row, sentence));
}

struct backend_sink stream_sink(struct stream *stream)
{
	return (struct backend_sink){.arg = stream,
	                             .topic = on_topic,
	                             .partition = on_partition,
	                             .segment = on_segment,
	                             .quarantine = on_quarantine,
	                             .key_begin = on_key_begin,
	                             .key_end = on_key_end};
}

void stream_free(struct stream *stream)
{
	pass_window_free(&stream->window);
}
