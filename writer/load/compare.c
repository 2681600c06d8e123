/* SPDX-License-Identifier: Apache-2.0
 * The periodic comparison, for which nobody waits: everything that the source has, read over a connection of its own, against the
 * store, while the feed is followed, writes are done and readers served, at the end of each partition and every few hundred rows.
 *
 * It changes nothing by itself. What differs is noted, as the smallest key there is for it: a topic's row, a partition, a range of
 * its segments. When the load has ended and has been judged, and the feed has told all that the load can have shown, these keys go
 * into the queue and are read again like any others: so what is newer in the store than in the load is never overwritten, nothing
 * is held in memory but a window of rows and the keys, and a topic may change all the time and is compared all the same.
 *
 * What is found in a partition that was brought over meanwhile (apply_clock.h) is read again, too, but not counted as a repair. */
#include <stdio.h>
#include <syslog.h>

#include "base/row_limits.h"
#include "writer/keys/queue.h"
#include "writer/keys/reread.h"
#include "writer/load/pass.h"

enum {
	NOTES_MAX = 100000, /* if so much differs, a merge is cheaper */
	STOP_CHECK_ROWS = 65536
};

struct note { /* something that differs */
	struct note *next;
	enum entry_kind kind;
	bool segments, whole, range;
	uint32_t partition_id;
	uint64_t from, to;
	struct shmeta_str tenant, topic;
};

struct compare {
	struct sync *s;
	bool (*meanwhile)(struct sync *s); /* false: the pass is to end */
	uint64_t began;                    /* for the floor */
	struct pass_known known;
	uint64_t topics, segments, since_check;
	struct note *notes; /* the newest first */
	size_t note_count;
	struct arena memory;
	struct quarantine quarantine;
	bool given_up; /* something else has to come first */

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

	enum shmeta_status failed; /* the store ended it, not the source */
	struct shmeta_err err;
};

static enum shmeta_status fail(struct compare *c, enum shmeta_status status)
{
	if (status < 0 && c->failed == SHMETA_OK)
		c->failed = status;
	return status;
}

/* ---- what differs ------------------------------------------------------------------------------------------------------------ */

static struct note *add_note(struct compare *c, enum entry_kind kind, struct shmeta_str tenant, struct shmeta_str topic)
{
	struct note *n = c->note_count < NOTES_MAX ? arena_alloc(&c->memory, sizeof *n) : NULL;

	if (n == NULL) {
		c->given_up = true;
		schedule_ask_pass(c->s, false, "the periodic comparison found too much to read it by its keys");
		return NULL;
	}
	*n = (struct note){.next = c->notes, .kind = kind};
	if (c->notes != NULL && c->notes->kind == kind && str_equal(c->notes->tenant, tenant) &&
	    str_equal(c->notes->topic, topic)) {
		n->tenant = c->notes->tenant;
		n->topic = c->notes->topic;
	} else if (arena_str(&c->memory, tenant, &n->tenant) != 0 || arena_str(&c->memory, topic, &n->topic) != 0) {
		c->given_up = true;
		schedule_ask_pass(c->s, false, "there was no memory for what the periodic comparison found");
		return NULL;
	}
	c->notes = n;
	c->note_count++;
	return n;
}

static enum shmeta_status note_topic(struct compare *c, struct shmeta_str tenant, struct shmeta_str topic,
                                     bool segments)
{
	struct note *n = add_note(c, ENTRY_TOPIC, tenant, topic);

	if (n == NULL)
		return SHMETA_ERR_BUSY;
	n->segments = segments;
	return SHMETA_OK;
}

/* whole: with all of its segments; otherwise its row and what lies behind the last one. */
static enum shmeta_status note_partition(struct compare *c, uint32_t partition_id, bool whole)
{
	struct note *n = add_note(c, ENTRY_PART, c->tenant, c->topic);

	if (n == NULL)
		return SHMETA_ERR_BUSY;
	n->partition_id = partition_id;
	n->whole = whole;
	return SHMETA_OK;
}

static enum shmeta_status note_range(struct compare *c, uint64_t from, uint64_t to)
{
	struct note *n = c->notes;

	if (n != NULL && n->range && n->partition_id == c->partition_id && n->to + 1 == from &&
	    str_equal(n->topic, c->topic) && str_equal(n->tenant, c->tenant)) {
		n->to = to;
		return SHMETA_OK;
	}
	n = add_note(c, ENTRY_PART, c->tenant, c->topic);
	if (n == NULL)
		return SHMETA_ERR_BUSY;
	n->partition_id = c->partition_id;
	n->range = true;
	n->from = from;
	n->to = to;
	return SHMETA_OK;
}

/* ---- segments ---------------------------------------------------------------------------------------------------------------- */

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
	enum shmeta_status status = same ? SHMETA_OK : shmeta__txn_read(c->s->store, &txn, &c->err);

	if (status != SHMETA_OK)
		return fail(c, status);
	if (!same) {
		const struct shmeta__pages pages = shmeta__txn_pages(txn);

		status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &c->err);
		if (status == SHMETA_OK) {
			status = shmeta__part_open(&part, key, head, bytes, &pages);
			if (status == SHMETA_OK)
				status = same_rows(c, &part, to, &same);
			shmeta__part_close(&part);
			if (status < 0)
				(void)shmeta_fail(&c->err, status,
				                  "the stored index of partition %u of topic number %u is damaged",
				                  c->partition_id, c->topic_id);
		} else if (status == SHMETA_ABSENT) {
			same = true; /* it went meanwhile: whoever took it knew */
		}
		shmeta__txn_abort(txn);
		if (status < 0)
			return fail(c, status);
	}
	pass_window_next(&c->window, to);
	return same ? SHMETA_OK : note_range(c, from, to);
}

/* ---- quarantined rows -------------------------------------------------------------------------------------------------------- */

static void quarantine_differs(void *arg, const struct backend_key *row)
{
	struct compare *c = arg;
	struct note *n;

	if ((row->unread & (BACKEND_UNREAD_TENANT | BACKEND_UNREAD_TOPIC)) != 0) {
		schedule_ask_pass(c->s, false, "a quarantined row without a key came or went"); /* none to read it by */
		return;
	}
	if (row->cls == SHMETA_CLASS_TOPIC || row->unread != 0) {
		(void)note_topic(c, row->tenant, row->topic, true);
		return;
	}
	n = add_note(c, ENTRY_PART, row->tenant, row->topic);
	if (n == NULL)
		return;
	n->partition_id = row->partition_id;
	n->whole = row->cls == SHMETA_CLASS_PARTITION;
	n->range = !n->whole;
	n->from = n->to = row->from;
}

/* row NULL: that was the last one. */
static enum shmeta_status compare_quarantined(struct compare *c, const struct backend_key *row, const char *sentence)
{
	struct quarantine_compare q = {
		.q = &c->quarantine, .store = c->s->store, .differs = quarantine_differs, .arg = c};
	enum shmeta_status status = fail(c, shmeta__txn_read(c->s->store, &q.txn, &c->err));

	if (status != SHMETA_OK)
		return status;
	status = fail(c, row != NULL ? quarantine_compare_row(&q, row, sentence, &c->err)
	                             : quarantine_compare_end(&q, &c->err));
	shmeta__txn_abort(q.txn);
	return status;
}

/* ---- the load ---------------------------------------------------------------------------------------------------------------- */

/* Others have their turn. */
static enum shmeta_status give_way(struct compare *c)
{
	if (sync_stopping(c->s))
		return SHMETA_ERR_WRITER_AWAY;
	if (c->meanwhile(c->s))
		return SHMETA_OK;
	c->given_up = true;
	return SHMETA_ERR_BUSY;
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
		status = note_partition(c, c->ids[c->id_at], false);
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
	enum shmeta_status status = apply_topic_get(txn, tenant, topic->name, &stored, NULL, &c->err);

	if (status < 0)
		return fail(c, status);
	if (status == SHMETA_ABSENT)
		return note_topic(c, tenant, topic->name, true);
	(void)pass_see(&c->known, stored.topic_id);
	if (stored.created_at_ms != topic->created_at_ms)
		return note_topic(c, tenant, topic->name, true);
	status = same_topic(&stored, topic) ? SHMETA_OK : note_topic(c, tenant, topic->name, false);
	if (status == SHMETA_OK)
		status = fail(
			c, apply_partition_ids(txn, stored.topic_id, &c->ids, &c->id_count, &c->id_capacity, &c->err));
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
	status = shmeta__txn_read(c->s->store, &txn, &c->err);
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
		return note_partition(c, partition->partition_id, true);
	c->id_at++;
	status = shmeta__txn_read(c->s->store, &txn, &c->err);
	if (status != SHMETA_OK)
		return fail(c, status);
	status = apply_partition_get(txn, c->topic_id, partition->partition_id, &stored, &last, &any, &c->err);
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
		return note_partition(c, partition->partition_id, false);
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
		return fail(c, shmeta_fail(&c->err, status, "out of memory while comparing"));
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
	if (c->failed == SHMETA_OK && !c->given_up && row->cls <= SHMETA_CLASS_SEGMENT)
		(void)compare_quarantined(c, row, sentence);
}

static enum shmeta_status load(struct compare *c, void *backend, struct backend_error *err)
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
	                                  .progress = on_progress};
	uint64_t began = sync_now(c->s);

	enum shmeta_status status = c->s->engine->source->load(backend, &sink, err);

	if (status == SHMETA_OK)
		status = end_topic(c);
	c->s->counters.fetch_ns += sync_now(c->s) - began;
	sync_tell(c->s, SHMETA_EVENT_PASS, status != SHMETA_OK, 0, sync_now(c->s) - began, 0,
	          "everything was compared beside the feed%s%s", status != SHMETA_OK ? "; " : "",
	          status != SHMETA_OK ? err->text : "");
	return status;
}

/* ---- the pass ----------------------------------------------------------------------------------------------------------------- */

/* A second connection to the same source; NULL: there is none to be had. */
static void *open_aside(struct sync *s)
{
	struct backend_options options = s->options.source;
	struct backend_error err = {.code = SHMETA_OK};
	void *backend = calloc(1, s->engine->state_bytes);

	if (backend == NULL)
		return NULL;
	options.manage_schema = options.create = 0;
	options.changefeed = 0;
	if (s->engine->source->open(backend, &options, &err) == SHMETA_OK &&
	    s->engine->source->fingerprint(backend) == s->engine->source->fingerprint(s->backend))
		return backend;
	sync_log(s, LOG_NOTICE, "second_connection",
	         "the full comparison holds up reads and writes, as there is no second connection for it: %s",
	         err.text[0] != '\0' ? err.text : "it leads to another source");
	s->engine->source->close(backend);
	free(backend);
	return NULL;
}

static void close_aside(struct sync *s, void *backend)
{
	struct backend_counters counters = {0};

	s->engine->source->counters(backend, &counters);
	session_count(s, &counters);
	s->engine->source->close(backend);
	free(backend);
}

/* Topics that the load did not show. */
static enum shmeta_status note_unseen(struct compare *c)
{
	struct shmeta__txn *txn;
	enum shmeta_status status = fail(c, shmeta__txn_read(c->s->store, &txn, &c->err));

	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < c->known.count && status >= 0; i++) {
		struct shmeta_str tenant, topic;

		if (c->known.seen[i])
			continue;
		status = fail(c, apply_topic_name(txn, c->known.id[i], &tenant, &topic, &c->err));
		if (status == SHMETA_OK)
			status = note_topic(c, tenant, topic, false);
	}
	shmeta__txn_abort(txn);
	return status < 0 ? status : SHMETA_OK;
}

/* Have all that differs read again. */
static enum shmeta_status ask(struct compare *c)
{
	struct sync *s = c->s;
	bool memory = true;

	for (const struct note *n = c->notes; n != NULL && memory; n = n->next) {
		const struct identity id = queue_identity(n->kind, n->tenant, n->topic, n->partition_id);
		int64_t place = n->kind == ENTRY_TOPIC ? FLOOR_TOPIC : (int64_t)n->partition_id;
		struct want want = {
			.feed = true,
			.segments = n->segments,
			.whole = n->whole,
			.repair = !floor_overtook(&s->floor, queue_name_hash(n->tenant, n->topic), place, c->began)};

		if (n->range)
			queue_add_range(&want, n->from, n->to);
		pthread_mutex_lock(&s->queue->lock);
		memory = queue_want(s->queue, &id, &want) != NULL;
		pthread_mutex_unlock(&s->queue->lock);
	}
	return memory ? SHMETA_OK
	              : fail(c, shmeta_fail(&c->err, SHMETA_ERR_NO_MEMORY, "out of memory while comparing"));
}

/* The load has ended well. */
static enum shmeta_status judge(struct compare *c, void *backend)
{
	struct sync *s = c->s;
	enum shmeta_status status;

	generation_judge(s);
	if (origin_is_foreign(s) ||
	    s->engine->source->fingerprint(backend) != s->engine->source->fingerprint(s->backend)) {
		/* One of them looks at a file that is no longer there; the feed will say so. */
		c->given_up = true;
		return SHMETA_OK;
	}
	if (!pass_is_believable(s, &c->known, c->topics, c->segments)) {
		/* A second look, and this time for good: nothing goes on before it is certain. */
		schedule_ask_pass(s, false, "the source had lost more than half of its rows");
		schedule_pass_again(s);
		c->given_up = true;
		return SHMETA_OK;
	}
	/* What the load may have shown before the feed told it is in step before it is judged. */
	refresh_poll(s);
	refresh_drain_feed(s);
	if (source_is_away(s) || !store_takes(s) || feed_is_behind(s)) {
		c->given_up = true;
		return SHMETA_OK;
	}
	status = note_unseen(c);
	if (status == SHMETA_OK)
		status = compare_quarantined(c, NULL, NULL);
	if (status == SHMETA_OK)
		status = ask(c);
	reread_advisory(s);
	sync_wake_at(s, sync_now(s));
	return status;
}

bool compare_pass(struct sync *s, bool (*meanwhile)(struct sync *s))
{
	struct backend_error source_err = {.code = SHMETA_OK};
	struct compare *c;
	void *backend = open_aside(s);

	if (backend == NULL)
		return false;
	if (s->bounded != NULL) {
		schedule_pass_began(s, sync_now(s));
		reconcile_by_keys(s, backend);
		schedule_pass_ended(s);
		s->counters.reconciles += !source_is_away(s) && store_takes(s);
		close_aside(s, backend);
		return true;
	}
	c = calloc(1, sizeof *c);
	if (c == NULL) {
		close_aside(s, backend);
		sync_room_failed(s, SHMETA_ERR_NO_MEMORY, "out of memory while comparing");
		return true;
	}
	c->s = s;
	c->meanwhile = meanwhile;
	quarantine_begin(&c->quarantine, false);
	c->began = floor_read_begins(&s->floor);
	schedule_pass_began(s, sync_now(s));

	enum shmeta_status status = fail(c, pass_read_known(&c->known, s->store, &c->err));

	if (status == SHMETA_OK)
		status = load(c, backend, &source_err);
	if (status == SHMETA_OK)
		status = judge(c, backend);
	floor_read_ends(&s->floor);
	schedule_pass_ended(s);
	if (!c->given_up && !sync_stopping(s)) {
		if (c->failed != SHMETA_OK) {
			sync_room_failed(s, c->failed, c->err.text);
		} else if (status != SHMETA_OK) {
			if (status == SHMETA_ERR_INVALID_ARGUMENT)
				reconcile_by_keys(s, backend);
			else
				sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
		} else {
			sync_source_works(s, SYNC_JOB_PASS);
			s->counters.reconciles++;
		}
	}
	close_aside(s, backend);
	pass_window_free(&c->window);
	pass_free_known(&c->known);
	quarantine_free(&c->quarantine);
	arena_free(&c->memory);
	free(c->ids);
	free(c);
	return true;
}
