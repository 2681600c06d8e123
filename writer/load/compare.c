/* SPDX-License-Identifier: Apache-2.0
 * Everything that the source has, read over a connection of its own, against the store, while the
 * feed is followed, writes are done and readers served, at the end of each partition and every few
 * hundred rows.
 *
 * It changes nothing by itself. What differs is noted, as the smallest key there is for it: a
 * topic's row, a partition, a range of its segments. When the load has ended and has been judged,
 * and the feed has told all that the load can have shown, these keys are read again like any
 * others: so what is newer in the store than in the load is never overwritten, nothing is held in
 * memory but a window of rows and the keys, and a topic may change all the time and is compared all
 * the same.
 *
 * What is found in a partition that was brought over meanwhile (apply_clock.h) is read again, too,
 * but not counted as a repair. */
#include <stdio.h>
#include <stdlib.h>

#include "base/row_limits.h"
#include "writer/keys/refresh.h"
#include "writer/load/pass.h"

enum { STOP_CHECK_ROWS = 65536, DRAINS_MOST = 16 };

struct compare {
	struct pass *p;
	struct sync *s;
	uint64_t topics, segments, since_check;
	struct quarantine quarantine;
	enum pass_end ended; /* not DONE: why the load is broken off */

	/* The topic, when it is compared. */
	bool in_topic;
	uint32_t topic_id;
	struct shmeta_str tenant, topic; /* in text */
	char tenant_text[SHMETA_TENANT_MAX], topic_text[SHMETA_NAME_MAX];
	uint32_t *ids; /* partitions that the store has; those below id_at were shown, or noted */
	size_t id_count, id_at, id_capacity;

	/* The partition, when its segments are. */
	bool in_partition;
	uint32_t partition_id;
	struct pass_window window;
	char strings[3 * (SHMETA_STRING_MAX + 1)];
};

/* The status is handed through; a failure of this side ends the load. */
static enum shmeta_status fail(struct compare *c, enum shmeta_status status)
{
	if (status < 0 && c->ended == PASS_DONE)
		c->ended = pass_store_failed(c->p, status);
	return status;
}

/* ---- segments ---- */

static bool same_row(const struct shmeta_segment *a, const struct shmeta_segment *b)
{
	return a->base_offset == b->base_offset && a->end_offset == b->end_offset && a->size_bytes == b->size_bytes &&
	       a->created_at_ms == b->created_at_ms && a->min_timestamp_ms == b->min_timestamp_ms &&
	       a->max_timestamp_ms == b->max_timestamp_ms && a->record_count == b->record_count &&
	       a->position == b->position && str_equal(a->id, b->id) && str_equal(a->s3_bucket, b->s3_bucket) &&
	       str_equal(a->s3_key, b->s3_key);
}

/* Does the part have exactly the window's rows in [from, to]? */
static enum shmeta_status same_rows(struct compare *c, struct shmeta__part *part, uint64_t to, bool *ret)
{
	const struct pass_window *w = &c->window;
	struct shmeta__part_cursor cursor;
	struct shmeta_segment row;
	size_t at = 0;
	enum shmeta_status status = shmeta__part_seek(part, w->from, to, &cursor);

	*ret = false;
	while (status == SHMETA_OK) {
		status = shmeta__part_next(part, &cursor, &row);
		if (status != SHMETA_OK || row.base_offset < w->from)
			continue; /* one that only reaches into the range */
		if (at == w->count || row.base_offset != w->row[at].base_offset)
			return SHMETA_OK;
		status = shmeta__part_strings(part, c->topic.data, c->topic.bytes, &row, c->strings, sizeof c->strings);
		if (status == SHMETA_OK && !same_row(&row, &w->row[at++]))
			return SHMETA_OK;
	}
	*ret = status == SHMETA_END && at == w->count;
	return status == SHMETA_END ? SHMETA_OK : status;
}

static enum shmeta_status compare_window(struct compare *c, uint64_t to)
{
	uint64_t key = shmeta__part_key(c->topic_id, c->partition_id), from = c->window.from;
	struct shmeta__part part = {0};
	struct shmeta__txn *txn;
	const void *head;
	size_t bytes;
	bool same = from > to; /* nothing lies behind the last offset */
	enum shmeta_status status = same ? SHMETA_OK : shmeta__txn_read(c->s->store, &txn, &c->p->err);

	if (status != SHMETA_OK)
		return fail(c, status);
	if (!same) {
		const struct shmeta__pages pages = shmeta__txn_pages(txn);

		status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &c->p->err);
		if (status == SHMETA_OK) {
			status = shmeta__part_open(&part, key, head, bytes, &pages);
			if (status == SHMETA_OK)
				status = same_rows(c, &part, to, &same);
			shmeta__part_close(&part);
			if (status < 0)
				(void)shmeta_fail(&c->p->err, status,
				                  "the stored index of partition %u of topic number %u is damaged",
				                  c->partition_id, c->topic_id);
		} else if (status == SHMETA_ABSENT) {
			same = true; /* it went meanwhile: whoever took it knew */
		}
		shmeta__txn_abort(txn);
		if (status < 0)
			return fail(c, status);
	}
	c->s->counters.rows_unchanged += same ? c->window.count : 0;
	pass_window_next(&c->window, to);
	return same ? SHMETA_OK
	            : fail(c, differences_range(&c->p->found, c->tenant, c->topic, c->partition_id, from, to));
}

/* ---- quarantined rows ---- */

static void quarantine_differs(void *arg, const struct backend_key *row)
{
	struct compare *c = arg;
	struct differences *found = &c->p->found;

	if (quarantine_is_unnamed(row))
		c->p->unnamed_differ = true;
	else if (row->cls == SHMETA_CLASS_TOPIC || row->unread != 0)
		(void)fail(c, differences_topic(found, row->tenant, row->topic, true));
	else if (row->cls == SHMETA_CLASS_PARTITION)
		(void)fail(c, differences_partition(found, row->tenant, row->topic, row->partition_id, true));
	else
		(void)fail(c,
		           differences_range(found, row->tenant, row->topic, row->partition_id, row->from, row->from));
}

static void quarantine_unnamed(void *arg, const struct backend_key *row, uint64_t rows, struct shmeta_str sentence,
                               bool same)
{
	struct compare *c = arg;

	c->p->unnamed_differ |= !same;
	(void)fail(c, pass_add_unnamed(c->p, row, rows, sentence));
}

/* row NULL: that was the last one. */
static enum shmeta_status compare_quarantined(struct compare *c, const struct backend_key *row, const char *sentence)
{
	struct quarantine_compare q = {.q = &c->quarantine,
	                               .store = c->s->store,
	                               .differs = quarantine_differs,
	                               .unnamed = quarantine_unnamed,
	                               .arg = c};
	enum shmeta_status status = fail(c, shmeta__txn_read(c->s->store, &q.txn, &c->p->err));

	if (status != SHMETA_OK)
		return status;
	status = fail(c, row != NULL ? quarantine_compare_row(&q, row, sentence, &c->p->err)
	                             : quarantine_compare_end(&q, &c->p->err));
	shmeta__txn_abort(q.txn);
	return status;
}

/* ---- the load ---- */

static enum shmeta_status give_way(struct compare *c)
{
	c->ended = pass_turn(c->p);
	return c->ended == PASS_DONE ? SHMETA_OK : SHMETA_ERR_BUSY;
}

static enum shmeta_status end_partition(struct compare *c)
{
	if (!c->in_partition)
		return SHMETA_OK;
	c->in_partition = false;
	return compare_window(c, SYNC_LAST_OFFSET);
}

/* Partitions of the store below this one were not shown. */
static enum shmeta_status note_gone(struct compare *c, uint64_t below)
{
	enum shmeta_status status = SHMETA_OK;

	for (; c->id_at < c->id_count && c->ids[c->id_at] < below && status == SHMETA_OK; c->id_at++)
		status = fail(c, differences_partition(&c->p->found, c->tenant, c->topic, c->ids[c->id_at], false));
	return status;
}

static enum shmeta_status end_topic(struct compare *c)
{
	enum shmeta_status status = end_partition(c);

	if (status == SHMETA_OK && c->in_topic)
		status = note_gone(c, UINT64_MAX);
	c->in_topic = false;
	return status;
}

static bool same_topic(const struct shmeta_topic *a, const struct shmeta_topic *b)
{
	return a->updated_at_ms == b->updated_at_ms && a->has_retention == b->has_retention &&
	       (!a->has_retention || a->retention_ms == b->retention_ms) && a->partition_count == b->partition_count &&
	       str_equal(a->cleanup_policy, b->cleanup_policy) && a->config.bytes == b->config.bytes &&
	       (a->config.bytes == 0 || memcmp(a->config.data, b->config.data, a->config.bytes) == 0);
}

static enum shmeta_status enter_topic(struct compare *c, struct shmeta__txn *txn, struct shmeta_str tenant,
                                      const struct shmeta_topic *topic)
{
	struct shmeta_topic stored;
	enum shmeta_status status = apply_topic_get(txn, tenant, topic->name, &stored, NULL, &c->p->err);

	if (status < 0)
		return fail(c, status);
	if (status == SHMETA_ABSENT)
		return fail(c, differences_topic(&c->p->found, tenant, topic->name, true));
	(void)pass_see(&c->p->known, stored.topic_id);
	if (c->p->found.more)
		return SHMETA_OK; /* the next look compares it */
	if (stored.created_at_ms != topic->created_at_ms)
		return fail(c, differences_topic(&c->p->found, tenant, topic->name, true));
	status = same_topic(&stored, topic) ? SHMETA_OK
	                                    : fail(c, differences_topic(&c->p->found, tenant, topic->name, false));
	if (status == SHMETA_OK)
		status = fail(c, apply_partition_ids(txn, stored.topic_id, &c->ids, &c->id_count, &c->id_capacity,
		                                     &c->p->err));
	if (status != SHMETA_OK)
		return status;
	c->id_at = 0;
	c->topic_id = stored.topic_id;
	memcpy(c->tenant_text, tenant.data, tenant.bytes);
	memcpy(c->topic_text, topic->name.data, topic->name.bytes);
	c->tenant = (struct shmeta_str){c->tenant_text, tenant.bytes};
	c->topic = (struct shmeta_str){c->topic_text, topic->name.bytes};
	c->in_topic = true;
	return SHMETA_OK;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct compare *c = arg;
	char text[512];
	struct shmeta__txn *txn;
	enum shmeta_status status = end_topic(c);

	if (status == SHMETA_OK)
		status = give_way(c);
	if (status != SHMETA_OK)
		return status;
	c->topics++;
	/* Such a row is not in the store. */
	if (shmeta__name_error(tenant.data, tenant.bytes, SHMETA_TENANT_MAX) != NULL ||
	    shmeta__topic_error(topic, text, sizeof text) != NULL)
		return SHMETA_OK;
	status = shmeta__txn_read(c->s->store, &txn, &c->p->err);
	if (status != SHMETA_OK)
		return fail(c, status);
	status = enter_topic(c, txn, tenant, topic);
	shmeta__txn_abort(txn);
	return status;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct compare *c = arg;
	struct shmeta_partition stored;
	struct shmeta__txn *txn;
	uint64_t last;
	bool any;
	enum shmeta_status status = end_partition(c);

	if (status == SHMETA_OK)
		status = give_way(c);
	if (status != SHMETA_OK || !c->in_topic)
		return status;
	status = note_gone(c, partition->partition_id);
	if (status != SHMETA_OK)
		return status;
	if (c->id_at == c->id_count || c->ids[c->id_at] != partition->partition_id)
		return fail(c, differences_partition(&c->p->found, c->tenant, c->topic, partition->partition_id, true));
	c->id_at++;
	status = shmeta__txn_read(c->s->store, &txn, &c->p->err);
	if (status != SHMETA_OK)
		return fail(c, status);
	status = apply_partition_get(txn, c->topic_id, partition->partition_id, &stored, &last, &any, &c->p->err);
	shmeta__txn_abort(txn);
	if (status < 0)
		return fail(c, status);
	if (status == SHMETA_ABSENT)
		return SHMETA_OK; /* it went meanwhile */
	c->in_partition = true;
	c->partition_id = partition->partition_id;
	pass_window_begin(&c->window, 0);
	if (stored.high_watermark != partition->high_watermark || stored.created_at_ms != partition->created_at_ms ||
	    stored.updated_at_ms != partition->updated_at_ms)
		return fail(c,
		            differences_partition(&c->p->found, c->tenant, c->topic, partition->partition_id, false));
	return SHMETA_OK;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct compare *c = arg;
	char wrong[WINDOW_WRONG];
	enum shmeta_status status;

	c->segments++;
	if (++c->since_check >= STOP_CHECK_ROWS) {
		c->since_check = 0;
		status = give_way(c);
		if (status != SHMETA_OK)
			return status;
	}
	if (!c->in_partition)
		return SHMETA_OK;
	status = pass_window_add(&c->window, segment, wrong);
	if (status == SHMETA_ABSENT) {
		const struct backend_key row = {.cls = SHMETA_CLASS_SEGMENT,
		                                .tenant = c->tenant,
		                                .topic = c->topic,
		                                .partition_id = c->partition_id,
		                                .from = segment->base_offset,
		                                .to = SYNC_LAST_OFFSET};

		return compare_quarantined(c, &row, wrong);
	}
	if (status != SHMETA_OK)
		return fail(c, shmeta_fail(&c->p->err, status, "out of memory while comparing"));
	if (!pass_window_full(&c->window))
		return SHMETA_OK;
	status = compare_window(c, c->window.last_base);
	return status == SHMETA_OK ? give_way(c) : status;
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	(void)tenant;
	(void)agent;
	return end_topic(arg); /* the small classes are read by the queue */
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	(void)tenant;
	(void)group;
	return end_topic(arg);
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	(void)tenant;
	(void)topic;
	(void)offset;
	return end_topic(arg);
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	(void)tenant;
	(void)topic;
	(void)lease;
	return end_topic(arg);
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return give_way(arg);
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct compare *c = arg;

	/* The small classes are read by the queue. */
	if (c->ended == PASS_DONE && row->cls <= SHMETA_CLASS_SEGMENT)
		(void)compare_quarantined(c, row, sentence);
}

/* As long as what is read stays fresh for as long again. */
static int on_may_lag(void *arg, uint64_t lag_ns)
{
	struct pass *p = ((struct compare *)arg)->p;

	if (lag_ns > sync_main_ttl_ns(p->s) / 2 || lag_ns > p->began_ns)
		return 0;
	p->synced_at_ns = p->began_ns - lag_ns;
	return 1;
}

static enum pass_end load(struct compare *c, void *second)
{
	const struct backend_sink sink = {.arg = c,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease,
	                                  .quarantine = on_quarantine,
	                                  .progress = on_progress,
	                                  .may_lag = c->p->may_lag ? on_may_lag : NULL};
	uint64_t began = sync_now(c->s);
	enum shmeta_status status = c->s->engine->source->load(second, &sink, &c->p->source_err);

	if (status == SHMETA_OK)
		status = end_topic(c);
	c->s->counters.fetch_ns += sync_now(c->s) - began;
	sync_tell(c->s, SHMETA_EVENT_PASS, status != SHMETA_OK, 0, sync_now(c->s) - began, 0,
	          "everything was compared beside the feed%s%s", status != SHMETA_OK ? "; " : "",
	          status != SHMETA_OK ? c->p->source_err.text : "");
	if (c->ended != PASS_DONE || status == SHMETA_OK)
		return c->ended;
	c->p->source_status = status;
	return status == SHMETA_ERR_INVALID_ARGUMENT ? PASS_BY_KEYS : PASS_SOURCE;
}

/* Topics that the load did not show. */
static enum shmeta_status note_unseen(struct compare *c)
{
	struct pass *p = c->p;
	struct shmeta__txn *txn;
	enum shmeta_status status = fail(c, shmeta__txn_read(c->s->store, &txn, &p->err));

	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < p->known.count && status >= 0; i++) {
		struct shmeta_str tenant, topic;

		if (p->known.seen[i])
			continue;
		status = fail(c, apply_topic_name(txn, p->known.id[i], &tenant, &topic, &p->err));
		if (status == SHMETA_OK)
			status = fail(c, differences_topic(&p->found, tenant, topic, false));
	}
	shmeta__txn_abort(txn);
	return status < 0 ? status : SHMETA_OK;
}

/* The load has ended well. */
static enum pass_end finish(struct compare *c, uint64_t sequence)
{
	struct pass *p = c->p;
	enum pass_end end = pass_judge(p, c->topics, c->segments);

	/* What the load may have shown before the feed told it is brought over before it is
	 * judged. */
	if (end == PASS_DONE && feed_is_followed(c->s))
		schedule_poll_now(c->s);
	for (int i = 0; i < DRAINS_MOST && end == PASS_DONE && (i == 0 || refresh_pending_feed(c->s)); i++)
		end = p->turn(c->s, true) ? PASS_DONE : PASS_POSTPONED;
	if (end != PASS_DONE)
		return end;
	if (note_unseen(c) == SHMETA_OK && compare_quarantined(c, NULL, NULL) == SHMETA_OK && c->ended == PASS_DONE)
		c->ended = pass_put_unnamed(p, SHMETA_CLASS_SEGMENT, c->quarantine.unlisted);
	differences_found(&p->found, c->s, sequence);
	return c->ended;
}

enum pass_end compare_all(struct pass *p, void *second)
{
	struct compare *c = calloc(1, sizeof *c);
	enum pass_end end;
	uint64_t sequence;

	if (c == NULL)
		return pass_store_failed(p, SHMETA_ERR_NO_MEMORY);
	c->p = p;
	c->s = p->s;
	c->ended = PASS_DONE;
	quarantine_begin(&c->quarantine, false);
	sequence = apply_clock_read_begins(&p->s->apply_clock);
	end = load(c, second);
	if (end == PASS_DONE &&
	    p->s->engine->source->fingerprint(second) != p->s->engine->source->fingerprint(p->s->backend))
		/* one of them looks at a file that is no longer there; the feed will say so */
		end = PASS_POSTPONED;
	if (end == PASS_DONE)
		end = finish(c, sequence);
	apply_clock_read_ends(&p->s->apply_clock);
	pass_window_free(&c->window);
	quarantine_free(&c->quarantine);
	free(c->ids);
	free(c);
	return end;
}
