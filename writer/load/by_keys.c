/* SPDX-License-Identifier: Apache-2.0
 * Everything, read by its keys (by_keys.h).
 *
 *   names ─> 256 topics whole ─(fails)─> 128 + 128 ... ─> one topic ─> its row
 *                                                                  └─> its partitions, 256 at a
 *                                                                  time, halved as well
 *   then each of the small classes
 *
 * In bounded mode: the rows of as many topics as there is room for.
 *
 * The names are listed first, and the feed goes on from there: what was read later is at least as
 * new, and what changes after the list is told. A piece is one transaction; one that fails is
 * undone. What the source keeps back (ERR_BUSY) is asked for again after a pause, in smaller
 * pieces, until it comes: nothing is lost for it, and what was read before it stays. */
#include "writer/load/by_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"
#include "writer/keys/refresh.h"

enum { PIECE_KEYS = 256, LOST_MAX = 1000 };

struct name {
	struct shmeta_str tenant, topic;
};

/* What a piece that is undone takes back. */
struct mark {
	uint64_t topics, partitions, segments;
};

struct by_keys {
	struct arena memory; /* of names and of what is lost */
	struct name *name;
	size_t name_count, name_capacity;
	struct backend_key key[PIECE_KEYS];
	struct mark mark;
	/* Quarantined rows of the pieces that are committed; m->quarantine has those of the
	 * piece. */
	struct keyset seen;
	uint64_t unlisted[QUARANTINE_CLASSES];
	size_t answered, safe;       /* keys of the piece; those whose rows are committed */
	bool in_partitions, in_rows; /* in_rows: the keys are topics' rows, several of them */
	uint32_t partition_count;    /* of the topic that came last */
	uint32_t pauses;             /* since a piece was read */
	struct backend_error err;
};

/* ---- pieces ---- */

static enum shmeta_status no_memory(struct merge *m)
{
	return merge_fail(m, shmeta_fail(&m->err, SHMETA_ERR_NO_MEMORY, "out of memory while loading"));
}

/* How many of so many keys one piece has. */
static size_t piece(const struct merge *m, size_t left)
{
	size_t keys = m->s->engine->limits.keys, most = keys != 0 && keys < PIECE_KEYS ? keys : PIECE_KEYS;

	return left < most ? left : most;
}

/* A piece begins; all before it is committed. */
static enum shmeta_status mark(struct merge *m)
{
	struct by_keys *b = m->by_keys;
	struct quarantine *q = &m->quarantine;

	b->mark = (struct mark){.topics = m->topics, .partitions = m->partitions, .segments = m->segments};
	for (size_t i = 0; i < q->seen.slots && q->seen.used > 0; i++)
		if (q->seen.slot[i] != 0 && keyset_add(&b->seen, q->seen.slot[i]) < 0)
			return no_memory(m);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		b->unlisted[cls] += q->unlisted[cls];
	quarantine_begin(q, false);
	return SHMETA_OK;
}

static void undo(struct merge *m)
{
	const struct mark *mark = &m->by_keys->mark;

	apply_abort(merge_applier(m));
	m->in_topic = m->in_partition = false;
	m->topics = mark->topics;
	m->partitions = mark->partitions;
	m->segments = mark->segments;
	quarantine_begin(&m->quarantine, false);
}

/* The last piece is committed: what was quarantined in all of them is what the read of everything
 * reported. */
static enum shmeta_status add_up(struct merge *m)
{
	struct by_keys *b = m->by_keys;
	enum shmeta_status status = mark(m);

	if (status != SHMETA_OK)
		return status;
	keyset_free(&m->quarantine.seen);
	m->quarantine.seen = b->seen;
	b->seen = (struct keyset){0};
	memcpy(m->quarantine.unlisted, b->unlisted, sizeof b->unlisted);
	return SHMETA_OK;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct merge *m = arg;

	m->by_keys->partition_count = topic->partition_count;
	return merge_sink(m).topic(m, tenant, topic);
}

static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	(void)arg;
	(void)key;
	return SHMETA_OK;
}

static void leave_topic(struct merge *m)
{
	if (m->in_topic)
		apply_topic_leave(merge_applier(m));
	m->in_topic = false;
}

static enum shmeta_status end_of_row(struct merge *m)
{
	leave_topic(m);
	return merge_applier(m)->changed >= m->s->options.commit_rows ? merge_commit(m) : SHMETA_OK;
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status result,
                                     const char *sentence)
{
	struct merge *m = arg;
	struct by_keys *b = m->by_keys;
	enum shmeta_status status = SHMETA_OK;

	if (result < 0)
		return backend_fail(&b->err, result, "%s", sentence);
	if (b->in_partitions)
		status = merge_end_partition(m);
	else if (b->in_rows)
		status = end_of_row(m);
	else if (key->cls == SHMETA_CLASS_TOPIC && !key->row_only)
		status = merge_end_topic(m);
	b->answered++;
	if (status == SHMETA_OK && !b->in_partitions && key->cls == SHMETA_CLASS_TOPIC &&
	    merge_applier(m)->txn == NULL) {
		b->safe = b->answered;
		status = mark(m);
	}
	return sync_stopping(m->s) ? SHMETA_ERR_WRITER_AWAY : merge_fail(m, status);
}

/* The pauses of a retry: each is up to twice as long as the one before it. */
static uint64_t pause_end(struct merge *m)
{
	const struct sync_options *o = &m->s->options;
	uint64_t least = o->retry_min_ms * SYNC_MS, most = o->retry_max_ms * SYNC_MS, limit = least;

	for (uint32_t i = 0; i < m->by_keys->pauses && limit < most; i++)
		limit *= 2;
	m->by_keys->pauses++;
	return sync_now(m->s) + least + sync_jitter(m->s, (limit < most ? limit : most) - least, 0, 1000);
}

/* Whoever asks for something meanwhile hears why there is nothing yet, as from a load that
 * failed. */
static enum shmeta_status pause_load(struct merge *m)
{
	struct sync *s = m->s;
	const char *text = m->by_keys->err.text;
	uint64_t until_ns = pause_end(m), now_ns;

	sync_source_failed(s, SYNC_JOB_PASS, SHMETA_ERR_BUSY, text);
	do {
		wake_looks(s);
		refresh_answer_all(s, SHMETA_ERR_SOURCE, text);
		write_answer_all(s, SHMETA_ERR_SOURCE, text);
		admin_answer_all(s, SHMETA_ERR_SOURCE, text);
		now_ns = sync_now(s);
		if (now_ns < until_ns)
			(void)wake_sleep(s, -1, until_ns - now_ns);
	} while (!sync_stopping(s) && !pause_asked(s) && now_ns < until_ns);
	sync_wake(s); /* the round after the load looks at what came */
	return sync_stopping(s) ? SHMETA_ERR_WRITER_AWAY : pause_asked(s) ? SHMETA_ERR_SOURCE : SHMETA_OK;
}

enum outcome { DONE, KEY, AGAIN, OVER };

/* The piece is undone where it is not DONE. KEY: b->err says why it failed. AGAIN: it was kept
 * back, and is asked for anew, whole or in parts. */
static enum outcome judge(struct merge *m, enum shmeta_status *status)
{
	struct by_keys *b = m->by_keys;
	bool busy = false;

	if (*status == SHMETA_OK) {
		b->pauses = 0;
		return DONE;
	}
	if (sync_stopping(m->s) || (m->failed != SHMETA_OK && batch_of_the_store(m->failed)))
		return OVER;
	if (m->failed != SHMETA_OK) {
		(void)backend_fail(&b->err, m->failed, "%s", m->err.text);
		m->failed = SHMETA_OK;
	} else if (*status == SHMETA_ERR_BUSY) {
		busy = true;
	} else if (*status != SHMETA_ERR_INVALID_ARGUMENT) {
		if (*status == SHMETA_ERR_CONFLICT) /* a source that is another one by now */
			*status = b->err.code = SHMETA_ERR_SOURCE;
		return OVER;
	}
	undo(m);
	if (!busy)
		return KEY;
	*status = pause_load(m);
	return *status == SHMETA_OK ? AGAIN : OVER;
}

static enum shmeta_status fetch(struct merge *m, size_t count)
{
	struct by_keys *b = m->by_keys;
	struct sync *s = m->s;
	struct backend_sink sink = merge_sink(m);

	sink.topic = on_topic;
	sink.key_begin = on_key_begin;
	sink.key_end = on_key_end;
	b->answered = b->safe = 0;
	b->err = (struct backend_error){.code = SHMETA_OK};
	s->counters.fetches++;
	s->counters.refresh_keys += count;
	sync_show_now_and_then(s);
	return s->engine->source->fetch(s->backend, b->key, count, &sink, &b->err);
}

/* ---- what is lost ---- */

static enum shmeta_status lose(struct merge *m, enum entry_kind kind, const struct name *name, uint32_t partition_id)
{
	struct by_keys *b = m->by_keys;
	const char *text = b->err.text[0] != '\0' ? b->err.text : shmeta_strerror(b->err.code);
	const struct shmeta_str sentence = {text, strlen(text) + 1};
	struct lost_key *lost;

	if (m->lost_count == LOST_MAX) {
		char last[sizeof b->err.text];

		memcpy(last, b->err.text, sizeof last);
		return backend_fail(&b->err, SHMETA_ERR_INVALID_ARGUMENT,
		                    "more than %d keys cannot be read; the last: %s", LOST_MAX, last);
	}
	lost = arena_alloc(&b->memory, sizeof *lost);
	if (lost == NULL || arena_str(&b->memory, sentence, &lost->sentence) != 0)
		return no_memory(m);
	lost->kind = kind;
	lost->partition_id = partition_id;
	lost->status = b->err.code;
	lost->tenant = name->tenant;
	lost->topic = name->topic;
	lost->next = m->lost;
	m->lost = lost;
	m->lost_count++;
	return SHMETA_OK;
}

static enum shmeta_class class_of(enum entry_kind kind)
{
	return kind == ENTRY_TOPIC   ? SHMETA_CLASS_TOPIC
	       : kind == ENTRY_PART  ? SHMETA_CLASS_PARTITION
	       : kind == ENTRY_AGENT ? SHMETA_CLASS_AGENT
	       : kind == ENTRY_LEASE ? SHMETA_CLASS_LEASE
	                             : SHMETA_CLASS_OFFSET;
}

/* What could not be read is quarantined, in the last commit. */
static enum shmeta_status record_lost(struct merge *m)
{
	enum shmeta_status status = SHMETA_OK;

	for (const struct lost_key *lost = m->lost; lost != NULL && status == SHMETA_OK; lost = lost->next) {
		const struct backend_key row = {.cls = class_of(lost->kind),
		                                .tenant = lost->tenant,
		                                .topic = lost->topic,
		                                .name = {"", 0},
		                                .partition_id = lost->partition_id};

		status = quarantine_row(merge_applier(m), &m->quarantine, &row, 1, lost->sentence.data, &m->err);
	}
	return status;
}

void by_keys_note_lost(struct merge *m)
{
	for (const struct lost_key *lost = m->lost; lost != NULL; lost = lost->next) {
		const struct identity id = lost->kind <= ENTRY_PART ? queue_identity(lost->kind, lost->tenant,
		                                                                     lost->topic, lost->partition_id)
		                                                    : queue_identity_of_class(lost->kind);
		const struct want want = {
			.feed = true, .segments = lost->kind == ENTRY_TOPIC, .whole = lost->kind == ENTRY_PART};

		(void)failing_note(m->s, &id, &want, lost->status, lost->sentence.data);
	}
}

bool by_keys_lost_class(const struct merge *m, enum shmeta_class cls)
{
	for (const struct lost_key *lost = m->lost; lost != NULL; lost = lost->next)
		if (lost->kind > ENTRY_PART && class_of(lost->kind) == cls)
			return true;
	return false;
}

/* ---- the parts of one topic ---- */

/* OVER: *status says why. */
static enum outcome try_partitions(struct merge *m, const struct name *name, uint32_t first, size_t count,
                                   enum shmeta_status *status)
{
	struct by_keys *b = m->by_keys;
	struct apply *a = merge_applier(m);

	*status = mark(m);
	if (*status == SHMETA_OK)
		*status = merge_fail(m, merge_begin(m));
	if (*status == SHMETA_OK)
		*status = merge_fail(m, apply_topic_enter(a, name->tenant, name->topic, &m->err));
	if (*status != SHMETA_OK) {
		*status = *status == SHMETA_ABSENT ? SHMETA_OK : *status;
		return OVER;
	}
	m->in_topic = true;
	a->synced_at_ns = m->began_ns;
	for (size_t i = 0; i < count; i++)
		b->key[i] = (struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
		                                 .tenant = name->tenant,
		                                 .topic = name->topic,
		                                 .partition_id = first + (uint32_t)i,
		                                 .to = SYNC_LAST_OFFSET};
	b->in_partitions = true;
	*status = fetch(m, count);
	b->in_partitions = false;
	return judge(m, status);
}

static enum shmeta_status read_partitions(struct merge *m, const struct name *name, uint32_t first, size_t count)
{
	enum shmeta_status status;
	enum outcome outcome;

	do {
		outcome = try_partitions(m, name, first, count, &status);
	} while (outcome == AGAIN && count == 1);
	if (outcome == OVER)
		return status;
	if (outcome == DONE) {
		leave_topic(m);
		return merge_fail(m, merge_commit(m));
	}
	if (count == 1)
		return lose(m, ENTRY_PART, name, first);
	status = read_partitions(m, name, first, count / 2);
	return status == SHMETA_OK ? read_partitions(m, name, first + (uint32_t)(count / 2), count - count / 2)
	                           : status;
}

static enum shmeta_status read_parts(struct merge *m, const struct name *name)
{
	struct by_keys *b = m->by_keys;
	bool there;
	enum shmeta_status status = mark(m);
	enum outcome outcome;

	if (status != SHMETA_OK)
		return status;
	b->key[0] = (struct backend_key){
		.cls = SHMETA_CLASS_TOPIC, .tenant = name->tenant, .topic = name->topic, .row_only = 1};
	do {
		status = fetch(m, 1);
		outcome = judge(m, &status);
	} while (outcome == AGAIN);
	if (outcome == OVER)
		return status;
	if (outcome == KEY)
		return lose(m, ENTRY_TOPIC, name, 0);
	there = m->in_topic && m->s->bounded == NULL;
	leave_topic(m);
	status = merge_fail(m, merge_commit(m));
	for (size_t at = 0, some, count = there ? b->partition_count : 0; at < count && status == SHMETA_OK;
	     at += some) {
		some = piece(m, count - at);
		status = read_partitions(m, name, (uint32_t)at, some);
	}
	return status;
}

/* ---- topics, classes ---- */

static enum shmeta_status read_topics(struct merge *m, const struct name *name, size_t count)
{
	struct by_keys *b = m->by_keys;
	bool rows = m->s->bounded != NULL;
	enum shmeta_status status;

	for (size_t i = 0; i < count; i++)
		b->key[i] = (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
		                                 .tenant = name[i].tenant,
		                                 .topic = name[i].topic,
		                                 .with_segments = !rows,
		                                 .row_only = rows};
	status = mark(m);
	b->in_rows = rows;
	if (status == SHMETA_OK)
		status = fetch(m, count);
	b->in_rows = false;
	switch (judge(m, &status)) {
	case DONE:
		return merge_fail(m, merge_commit(m));
	case OVER:
		return status;
	default:
		break;
	}
	name += b->safe;
	count -= b->safe;
	if (count < 2)
		return count == 1 ? read_parts(m, name) : SHMETA_OK;
	status = read_topics(m, name, count / 2);
	return status == SHMETA_OK ? read_topics(m, name + count / 2, count - count / 2) : status;
}

static enum outcome try_class(struct merge *m, enum shmeta_class cls, enum shmeta_status *status)
{
	*status = mark(m);
	if (*status == SHMETA_OK)
		*status = merge_fail(m, merge_begin(m));
	if (*status != SHMETA_OK)
		return OVER;
	apply_class_begin(merge_applier(m), cls, m->began_ns);
	m->by_keys->key[0] = (struct backend_key){.cls = cls, .tenant = {"", 0}, .topic = {"", 0}, .name = {"", 0}};
	*status = fetch(m, 1);
	return judge(m, status);
}

static enum shmeta_status read_class(struct merge *m, enum entry_kind kind)
{
	static const struct name none = {{"", 0}, {"", 0}};
	enum shmeta_class cls = class_of(kind);
	enum shmeta_status status;
	enum outcome outcome;

	do {
		outcome = try_class(m, cls, &status);
	} while (outcome == AGAIN);
	if (outcome == OVER)
		return status;
	if (outcome == KEY)
		return lose(m, kind, &none, 0);
	status = merge_fail(m, apply_class_end(merge_applier(m), cls, &m->err));
	return status == SHMETA_OK ? merge_fail(m, merge_commit(m)) : status;
}

/* ---- names ---- */

static enum shmeta_status on_key(void *arg, const struct backend_key *key)
{
	struct merge *m = arg;
	struct by_keys *b = m->by_keys;
	struct name *name;

	if (b->name_count == b->name_capacity) {
		size_t more = b->name_capacity == 0 ? 256 : b->name_capacity * 2;

		name = reallocarray(b->name, more, sizeof *name);
		if (name == NULL)
			return no_memory(m);
		b->name = name;
		b->name_capacity = more;
	}
	name = &b->name[b->name_count];
	if (arena_str(&b->memory, key->tenant, &name->tenant) != 0 ||
	    arena_str(&b->memory, key->topic, &name->topic) != 0)
		return no_memory(m);
	b->name_count++;
	return sync_stopping(m->s) ? SHMETA_ERR_WRITER_AWAY : SHMETA_OK;
}

/* Where it stands for all names that could not be listed, no topic is known to be absent. */
static void on_unread_name(void *arg, const struct backend_key *row, const char *sentence)
{
	struct merge *m = arg;

	merge_sink(m).quarantine(m, row, sentence);
	if ((row->unread & BACKEND_UNREAD_TENANT) != 0 && (row->unread & BACKEND_UNREAD_TOPIC) != 0)
		m->quarantine.unlisted[SHMETA_CLASS_TOPIC]++;
}

static enum shmeta_status list(struct merge *m)
{
	struct sync *s = m->s;
	const struct backend_sink sink = {
		.arg = m, .key = on_key, .quarantine = on_unread_name, .progress = merge_sink(m).progress};
	enum shmeta_status status;

	m->began_ns = sync_now(s);
	status = s->engine->source->load(s->backend, &sink, &m->by_keys->err);
	return status == SHMETA_OK && m->failed != SHMETA_OK ? m->failed : status;
}

/* In bounded mode: of the names as many as there is room for are read. */
static enum shmeta_status choose(struct merge *m)
{
	struct by_keys *b = m->by_keys;
	size_t all = b->name_count;
	enum shmeta_status status = merge_begin(m);

	for (b->name_count = 0; b->name_count < all && bounded_has_room(m->s, b->name_count);)
		b->name_count++;
	if (status == SHMETA_OK) {
		apply_lacks(merge_applier(m), BOUNDED_PARTITIONS | (b->name_count < all ? BOUNDED_TOPICS : 0));
		status = bounded_forget_absences(m->s, merge_applier(m), &m->err);
	}
	return merge_fail(m, status);
}

static enum shmeta_status read_all(struct merge *m)
{
	static const enum entry_kind kinds[] = {ENTRY_AGENT, ENTRY_OFFSET, ENTRY_LEASE};
	struct by_keys *b = m->by_keys;
	enum shmeta_status status = list(m);

	if (status == SHMETA_OK && m->s->bounded != NULL)
		status = choose(m);
	if (status == SHMETA_OK) /* what the list found to be quarantined */
		status = merge_fail(m, merge_commit(m));
	for (size_t at = 0, some; at < b->name_count && status == SHMETA_OK; at += some) {
		some = piece(m, b->name_count - at);
		status = read_topics(m, b->name + at, some);
		if (status == SHMETA_OK)
			status = merge_sink(m).progress(m, at + some, b->name_count);
	}
	m->classes_begun = true;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && status == SHMETA_OK; i++)
		status = read_class(m, kinds[i]);
	return status == SHMETA_OK ? add_up(m) : status;
}

bool by_keys_can_help(const struct merge *m, enum shmeta_status status)
{
	if (status == SHMETA_OK || sync_stopping(m->s))
		return false;
	return m->failed != SHMETA_OK ? !batch_of_the_store(m->failed) : status == SHMETA_ERR_INVALID_ARGUMENT;
}

static void by_keys_free(struct merge *m)
{
	if (m->by_keys == NULL)
		return;
	arena_free(&m->by_keys->memory);
	keyset_free(&m->by_keys->seen);
	free(m->by_keys->name);
	free(m->by_keys);
	m->by_keys = NULL;
}

enum shmeta_status by_keys_read(struct merge *m, struct backend_error *ret_err)
{
	struct sync *s = m->s;
	uint64_t began = sync_now(s);
	enum shmeta_status status;

	m->by_keys = calloc(1, sizeof *m->by_keys);
	if (m->by_keys == NULL)
		return no_memory(m);
	m->before_end = record_lost;
	m->before_free = by_keys_free;
	status = read_all(m);
	s->counters.fetch_ns += sync_now(s) - began;
	*ret_err = m->by_keys->err;
	return status;
}
