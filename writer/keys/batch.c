/* SPDX-License-Identifier: Apache-2.0
 * From keys to commits: what waits in the queue is fetched in bulk, applied in one commit, answered.
 *
 *   key named or asked for -> entry (waiting) -> batch: planned, fetched from one consistent read -> [hook] -> applied -> gone
 *                                ^------------- promoted, overtaken, or not applied: waits again ------'
 *
 * high_watermark and segments of a partition always come from the same read and go into the same commit: a partition's row is
 * never fetched without the segments beyond the last one that the store has. A topic's row brings the set of its partitions, not
 * their watermarks. */
#include <stdio.h>
#include <syslog.h>

#include "base/probes.h"
#include "writer/apply/alone.h"
#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"
#include "writer/load/stream.h"

enum { BATCHES_PER_ROUND = 64, FAILING_AT_ONCE = 16, FULL_AT_ONCE = 16 };

static int compare_str(struct shmeta_str a, struct shmeta_str b)
{
	size_t least = a.bytes < b.bytes ? a.bytes : b.bytes;
	int order = least == 0 ? 0 : memcmp(a.data, b.data, least);

	return order != 0 ? order : a.bytes < b.bytes ? -1 : a.bytes > b.bytes;
}

static int compare_entry(const void *a, const void *b)
{
	const struct sync_entry *x = *(struct sync_entry *const *)a, *y = *(struct sync_entry *const *)b;
	int order;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	order = compare_str(x->tenant, y->tenant);
	if (order == 0)
		order = compare_str(x->topic, y->topic);
	if (order == 0)
		order = compare_str(x->name, y->name);
	if (order != 0)
		return order;
	return x->partition_id < y->partition_id ? -1 : x->partition_id > y->partition_id;
}

/* Drop NULLs that promote() left. */
static void batch_compact(struct batch *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL)
			b->entry[n++] = b->entry[i];
	b->entry_count = n;
}

static bool add_key(struct batch *b, struct sync_entry *e, enum shmeta_class cls, uint64_t from, uint64_t to)
{
	if (b->key_count == b->key_capacity) {
		size_t more = b->key_capacity == 0 ? 64 : b->key_capacity * 2;
		struct backend_key *key = reallocarray(b->key, more, sizeof *key);

		if (key == NULL)
			return false;
		b->key = key;
		struct got *got = reallocarray(b->got, more, sizeof *got);

		if (got == NULL)
			return false;
		b->got = got;
		b->key_capacity = more;
	}
	b->key[b->key_count] = (struct backend_key){.cls = cls,
	                                            .tenant = e->tenant,
	                                            .topic = e->topic,
	                                            .name = e->name,
	                                            .partition_id = e->partition_id,
	                                            .with_segments = e->want.segments && !e->row_only,
	                                            .row_only = e->row_only,
	                                            .from = from,
	                                            .to = to};
	b->got[b->key_count] = (struct got){.entry = e};
	b->key_count++;
	return true;
}

/* In bounded mode: is the entry to be read now? Otherwise it is gone, or waits again. */
static enum shmeta_status plan_bounded(struct batch *b, struct shmeta__txn *txn, size_t i, bool *ret_read,
                                       struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct sync_entry *e = b->entry[i];
	struct want want = e->want;
	struct identity topic = queue_identity(ENTRY_TOPIC, e->tenant, e->topic, 0);
	enum bounded_plan how;
	enum shmeta_status status = bounded_plan(s, txn, e, &how, err);

	/* Somebody may have asked for it in between. */
	if (status == SHMETA_OK && how == BOUNDED_SKIP && !bounded_skip(s, e))
		status = bounded_plan(s, txn, e, &how, err);
	if (status != SHMETA_OK)
		return status;
	*ret_read = how == BOUNDED_READ || how == BOUNDED_ROW || how == BOUNDED_WHOLE;
	if (*ret_read) {
		e->row_only = how == BOUNDED_ROW;
		e->want.whole |= how == BOUNDED_WHOLE;
		return SHMETA_OK;
	}
	b->entry[i] = NULL;
	if (how == BOUNDED_SKIP)
		return SHMETA_OK;
	pthread_mutex_lock(&s->queue->lock);
	want.topic_asked = true;
	want.segments = want.whole = false;
	want.range_count = 0;
	if (how == BOUNDED_AS_TOPIC)
		reread_key(s, e, &topic, &want);
	else
		reread_behind_topic(s, e, e->tenant, e->topic);
	pthread_mutex_unlock(&s->queue->lock);
	return SHMETA_OK;
}

/* What to ask of the source for each entry, by what the store has. */
static enum shmeta_status plan(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct shmeta__txn *txn;
	enum shmeta_status status = shmeta__txn_read(s->store, &txn, err);
	bool memory = true;

	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < b->entry_count && status >= 0 && memory; i++) {
		struct sync_entry *e = b->entry[i];
		struct shmeta_topic topic;
		struct shmeta_partition partition;
		uint64_t last = 0, tail = 0;
		bool any = false, now = true;

		if (s->bounded != NULL)
			status = plan_bounded(b, txn, i, &now, err);
		if (status < 0 || !now)
			continue;
		switch (e->kind) {
		case ENTRY_TOPIC:
			status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
			if (status == SHMETA_ABSENT && !e->row_only)
				e->want.segments = true;
			memory = add_key(b, e, SHMETA_CLASS_TOPIC, 0, SYNC_LAST_OFFSET);
			continue;
		case ENTRY_AGENT:
			memory = add_key(b, e, SHMETA_CLASS_AGENT, 0, 0);
			continue;
		case ENTRY_OFFSET:
			memory = add_key(b, e, SHMETA_CLASS_OFFSET, 0, 0);
			continue;
		case ENTRY_LEASE:
			memory = add_key(b, e, SHMETA_CLASS_LEASE, 0, 0);
			continue;
		case ENTRY_PART:
			break;
		}
		status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
		if (status == SHMETA_ABSENT && s->bounded == NULL) {
			pthread_mutex_lock(&s->queue->lock);
			reread_topic(s, e, false);
			pthread_mutex_unlock(&s->queue->lock);
			b->entry[i] = NULL;
			continue;
		}
		if (status == SHMETA_OK)
			status =
				apply_partition_get(txn, topic.topic_id, e->partition_id, &partition, &last, &any, err);
		if (status < 0)
			break;
		if (status == SHMETA_ABSENT)
			e->want.whole = true;
		/* A former writer could not read it: how much of it has changed is not known any more. */
		if (!e->want.whole && status == SHMETA_OK) {
			struct identity id = queue_identity_of(e);
			bool alone;

			status = alone_partition(txn, topic.topic_id, e->partition_id, &alone, err);
			if (status < 0)
				break;
			e->want.whole = alone && failing_find(s, &id) == NULL;
		}
		if (!e->want.whole) {
			/* The row comes with everything beyond the last segment that the store has, and with that one where
			 * nothing can lie beyond it. */
			tail = !any ? 0 : last < SYNC_LAST_OFFSET ? last + 1 : last;
			queue_add_range(&e->want, tail, SYNC_LAST_OFFSET);
			if (e->want.range_count == 1 && e->want.range[0].from == 0)
				e->want.whole = true;
		}
		if (e->want.whole)
			memory = add_key(b, e, SHMETA_CLASS_SEGMENT, 0, SYNC_LAST_OFFSET);
		for (uint32_t r = 0; !e->want.whole && r < e->want.range_count && memory; r++)
			memory = add_key(b, e, SHMETA_CLASS_SEGMENT, e->want.range[r].from, e->want.range[r].to);
	}
	shmeta__txn_abort(txn);
	batch_compact(b);
	if (!memory)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the keys of a refresh");
	return status < 0 ? status : SHMETA_OK;
}

/* It is done with: forget it, and answer who waits. */
static void end_entry(struct sync *s, struct sync_entry *e, enum shmeta_status status, const char *sentence,
                      uint64_t txn, uint64_t synced_at_ns)
{
	pthread_mutex_lock(&s->queue->lock);
	struct sync_ticket *tickets = e->tickets;

	e->tickets = NULL;
	queue_forget(s->queue, e);
	pthread_mutex_unlock(&s->queue->lock);
	queue_answer(s, tickets, status, sentence, txn, synced_at_ns);
}

/* Those that are known to fail wait for their time; those whose time has come are put behind the others, to be tried alone. How
 * many the others are. */
static size_t sort_out_failing(struct sync *s, struct sync_entry **entry, size_t *count)
{
	size_t good = 0, trying = 0;
	struct sync_entry *again[FAILING_AT_ONCE];

	for (size_t i = 0; i < *count; i++) {
		struct sync_entry *e = entry[i];
		struct identity id = queue_identity_of(e);
		struct failing_key *key = failing_find(s, &id);

		if (key == NULL) {
			entry[good++] = e;
		} else if (key->trying && trying < FAILING_AT_ONCE) {
			again[trying++] = e;
		} else {
			if (key->trying)
				key->trying = false; /* so many at once: it waits for the next round */
			else
				failing_wanted(s, key, &e->want);
			end_entry(s, e, key->status, key->sentence, 0, 0);
		}
	}
	memcpy(entry + good, again, trying * sizeof(struct sync_entry *));
	*count = good + trying;
	return good;
}

/* Take what waits, up to a batch. Freed by the caller; NULL: nothing, or no memory. */
static struct sync_entry **take(struct sync *s, size_t *ret_count)
{
	struct sync_queue *q = s->queue;
	size_t most = s->options.refresh_batch_keys, keys = s->engine->limits.keys;
	struct sync_entry **entry;

	*ret_count = 0;
	if (s->bounded != NULL)
		most = bounded_batch(s, most);
	/* An entry becomes as many keys as it has ranges, and those of a partition are read in one call. */
	if (keys != 0 && most > keys / RANGES_MAX)
		most = keys / RANGES_MAX;
	pthread_mutex_lock(&q->lock);
	if (most > q->named.count + q->asked.count)
		most = q->named.count + q->asked.count;
	entry = most == 0 ? NULL : malloc(most * sizeof(struct sync_entry *));
	if (entry != NULL)
		*ret_count = queue_take(q, entry, most);
	pthread_mutex_unlock(&q->lock);
	return entry;
}

/* They could not be brought over: what the feed named waits, what readers asked for is answered, but for what only waits for a look at
 * the source. */
static void give_up(struct sync *s, struct sync_entry **entry, size_t count, enum shmeta_status status,
                    const char *sentence)
{
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&s->queue->lock);
	for (size_t i = 0; i < count; i++) {
		struct sync_entry *e = entry[i];

		if (e == NULL)
			continue;
		if (s->look != LOOK_NEEDED)
			queue_move_tickets(&tickets, &e->tickets);
		if (e->want.feed || s->look == LOOK_NEEDED) {
			struct identity id = queue_identity_of(e);
			struct want want = e->want;

			reread_key(s, e, &id, &want);
		} else {
			queue_forget(s->queue, e);
		}
	}
	pthread_mutex_unlock(&s->queue->lock);
	queue_answer(s, tickets, status, sentence, 0, 0);
}

static void hint_stamps(struct batch *b, uint64_t txn)
{
	for (size_t i = 0; i < b->key_count; i++) {
		if (b->got[i].entry == NULL || !queue_is_class(b->got[i].entry))
			continue; /* a key says nothing of its class */
		enum shmeta_class cls = b->key[i].cls;

		if (!batch_class_newer(b->s, cls, b->read_at_ns))
			sync_stamp(b->s, b->s->gen, cls, txn, b->read_at_ns);
	}
}

/* What readers asked for and the source does not have, or has as a row that cannot be served, is remembered for a while: which of
 * the two the store tells. What it has is no longer absent. */
static void note_absence(struct batch *b, uint64_t txn)
{
	struct sync *s = b->s;
	const struct absent_answer answer = {b->read_at_ns, txn, s->board->generation};

	pthread_mutex_lock(&s->queue->lock);
	for (size_t i = 0; i < b->key_count; i++) {
		const struct sync_entry *e = b->got[i].entry;

		if (e == NULL || e->kind > ENTRY_PART)
			continue;
		const struct got *g = &b->got[i];
		bool there = g->found && (e->kind == ENTRY_TOPIC ? g->has_topic : g->part_count > 0);
		uint64_t hash = queue_name_hash(e->tenant, e->topic);

		if (there)
			absent_forget(&s->queue->absent, hash, e->tenant, e->topic);
		else if (e->tickets != NULL)
			absent_note(&s->queue->absent, hash, e->tenant, e->topic,
			            e->kind == ENTRY_TOPIC ? ABSENT_TOPIC : (int64_t)e->partition_id, &answer);
	}
	pthread_mutex_unlock(&s->queue->lock);
}

static void done(struct batch *b, uint64_t txn)
{
	struct sync *s = b->s;

	floor_apply(&s->floor);
	hint_stamps(b, txn);
	note_absence(b, txn);
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL)
			floor_note(&s->floor, batch_floor_topic(b->entry[i]), batch_floor_partition(b->entry[i]));
	for (size_t i = 0; i < b->entry_count; i++) {
		struct sync_entry *e = b->entry[i];

		if (e == NULL)
			continue;
		struct identity id = queue_identity_of(e);

		failing_works(s, &id);
		b->entry[i] = NULL;
		end_entry(s, e, SHMETA_OK, "", txn, b->read_at_ns);
	}
}

/* Is everything that the feed has named so far in this batch or in the store? */
static bool completes_feed(struct batch *b)
{
	struct sync *s = b->s;
	size_t mine = 0;

	for (size_t i = 0; i < b->entry_count; i++)
		mine += b->entry[i] != NULL && b->entry[i]->want.feed;
	pthread_mutex_lock(&s->queue->lock);
	bool all = s->queue->feed_keys == mine;

	pthread_mutex_unlock(&s->queue->lock);
	/* What fails is to be named again after a restart. */
	return all && feed_in_step(s) && failing_count(s) == 0;
}

static enum shmeta_status begin_commit(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply_host host = sync_apply_host(s);

	host.quarantine = &b->quarantine;
	enum shmeta_status status = apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, err);

	b->store_failed = status != SHMETA_OK;
	return status;
}

/* All of it has been applied: commit, and answer. */
static enum shmeta_status end_commit(struct batch *b, uint64_t began_ns, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	uint64_t txn, orphans = a->orphans;
	bool classes = false, adopts = false;
	enum shmeta_status status = SHMETA_OK;

	/* Offsets and leases that are quarantined may be of a topic that has just come. */
	if (a->new_topics)
		status = quarantine_has_orphans(a, &adopts, err);
	if (status == SHMETA_OK && s->bounded != NULL)
		status = bounded_note_absences(b, err);
	if (status == SHMETA_OK && a->changed > 0 && completes_feed(b))
		status = saved_feed_put(s, true, err);
	if (status == SHMETA_OK)
		status = apply_commit(a, &txn, err);
	b->store_failed = status != SHMETA_OK;
	if (status != SHMETA_OK) {
		apply_abort(a);
		return status;
	}
	sync_count_commit(s, a, began_ns);
	/* Some of it may hang on the new incarnation, and have been read before that was known. */
	if (a->reborn && a->hung > 0)
		reread_advisory(s);
	if (b->repaired > 0) {
		s->counters.reconcile_repairs += b->repaired;
		sync_log(s, LOG_INFO, "reconciled",
		         "the periodic comparison found %llu rows that the feed had not named",
		         (unsigned long long)b->repaired);
	}
	for (size_t i = 0; i < b->entry_count; i++)
		classes |= b->entry[i] != NULL && b->entry[i]->kind > ENTRY_AGENT &&
		           (orphans > 0 || queue_is_class(b->entry[i]));
	done(b, txn);
	if (adopts)
		orphans_adoptable(&s->orphans);
	if (classes)
		orphans_found(&s->orphans, orphans, feed_is_followed(s));
	return SHMETA_OK;
}

static enum shmeta_status apply_batch(struct batch *b, struct shmeta_err *err)
{
	uint64_t began_ns = sync_now(b->s);
	enum shmeta_status status = begin_commit(b, err);

	if (status != SHMETA_OK)
		return status;
	status = batch_sift(b, err);
	if (status == SHMETA_OK)
		status = batch_apply(b, err);
	if (status == SHMETA_OK)
		return end_commit(b, began_ns, err);
	apply_abort(&b->s->apply);
	return status;
}

static const char refresh_pass[] = "minute of refreshes";

bool batch_of_the_store(enum shmeta_status status)
{
	switch (status) {
	case SHMETA_ERR_FULL:
	case SHMETA_ERR_CORRUPT:
	case SHMETA_ERR_NO_MEMORY:
	case SHMETA_ERR_SYSTEM:
	case SHMETA_ERR_PERMISSION:
	case SHMETA_ERR_VERSION:
	case SHMETA_ERR_BUSY:
		return true;
	default:
		return false;
	}
}

/* What became of a batch. */
enum outcome {
	OUTCOME_DONE,
	OUTCOME_SOURCE, /* the source is in trouble */
	OUTCOME_STORE,  /* the store is, or memory is short */
	OUTCOME_KEY,    /* both work, but not for some of the keys */
	OUTCOME_UNMET,  /* the source is to be looked at first */
	OUTCOME_LARGE   /* it has too many rows to be collected */
};

struct failure {
	enum shmeta_status status;
	char sentence[512];
};

static enum outcome fail(struct failure *failure, enum outcome outcome, enum shmeta_status status, const char *sentence)
{
	failure->status = status;
	(void)snprintf(failure->sentence, sizeof failure->sentence, "%s", sentence);
	return outcome;
}

/* Why keys are read, by what the first of them says. */
static const char *why_read(const struct sync_entry *e)
{
	return e == NULL            ? "more of a key"
	       : e->want.feed       ? "the feed named it"
	       : e->want.repair     ? "a full comparison found it to differ"
	       : e->tickets != NULL ? "a reader asked"
	                            : "its time to live is over";
}

static void tell_fetch(const struct batch *b, enum shmeta_status status, const struct backend_error *err)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text, ttl_ms) [number] = text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	const struct backend_key *key = &b->key[0];
	struct sync *s = b->s;

	if (b->key_count == 0)
		return;
	sync_tell(s, SHMETA_EVENT_FETCH, status != SHMETA_OK, b->key_count, sync_now(s) - b->read_at_ns, 0,
	          "%s %.*s%s%u%s: %s%s%s", names[key->cls], (int)(key->topic.bytes < 100 ? key->topic.bytes : 100),
	          key->topic.bytes > 0 ? key->topic.data : "", key->topic.bytes > 0 ? "/" : "", key->partition_id,
	          b->key_count > 1 ? " and others" : "", why_read(b->got[0].entry), status != SHMETA_OK ? "; " : "",
	          status != SHMETA_OK ? err->text : "");
}

static enum outcome fetch(struct batch *b, const struct backend_sink *sink, struct failure *failure)
{
	struct sync *s = b->s;
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	s->counters.fetches++;
	s->counters.refresh_keys += b->key_count;
	status = s->engine->source->fetch(s->backend, b->key, b->key_count, sink, &err);
	s->counters.fetch_ns += sync_now(s) - b->read_at_ns;
	shmeta_probe_fetch(b->key_count, (int)status, sync_now(s) - b->read_at_ns);
	tell_fetch(b, status, &err);
	if (b->failed == SHMETA_ERR_NO_MEMORY)
		return fail(failure, OUTCOME_STORE, SHMETA_ERR_NO_MEMORY,
		            "out of memory while reading from the source");
	if (b->failed == SHMETA_ERR_BUFFER)
		return OUTCOME_LARGE;
	if (status == SHMETA_ERR_SOURCE)
		generation_judge(s);
	s->look = status == SHMETA_ERR_CONFLICT && s->look != LOOK_MADE ? LOOK_NEEDED : LOOK_NONE;
	if (s->look == LOOK_NEEDED)
		return fail(failure, OUTCOME_UNMET, status, err.text);
	if (status == SHMETA_OK && b->at != b->key_count)
		status = backend_fail(&err, SHMETA_ERR_SOURCE, "%s answered %zu of %zu keys", s->engine->name, b->at,
		                      b->key_count);
	if (status == SHMETA_OK && s->fetched_hook != NULL)
		s->fetched_hook(s->fetched_hook_arg);
	if (status == SHMETA_OK) {
		generation_judge(s);
		if (origin_is_foreign(s))
			status = backend_fail(&err, SHMETA_ERR_SOURCE,
			                      "the source was replaced by another one while it was read");
	}
	return status == SHMETA_OK ? OUTCOME_DONE : fail(failure, OUTCOME_SOURCE, status, err.text);
}

static enum outcome apply_failed(const struct batch *b, enum shmeta_status status, const char *sentence,
                                 struct failure *failure)
{
	return fail(failure, b->store_failed || batch_of_the_store(status) ? OUTCOME_STORE : OUTCOME_KEY, status,
	            sentence);
}

/* Entries of which some key could not be read are put behind the others, and are none of the batch's any more. */
static void set_unread_aside(struct batch *b)
{
	for (size_t k = 0; b->unread != SHMETA_OK && k < b->key_count; k++) {
		struct sync_entry *e = b->got[k].entry;
		size_t i = 0;

		if (b->got[k].failed == SHMETA_OK || e == NULL)
			continue;
		while (b->entry[i] != e)
			i++;
		memmove(&b->entry[i], &b->entry[i + 1], (b->all_count - 1 - i) * sizeof(struct sync_entry *));
		b->entry[b->all_count - 1] = e;
		b->entry_count--;
		for (size_t other = 0; other < b->key_count; other++)
			if (b->got[other].entry == e)
				b->got[other].entry = NULL;
	}
}

/* Collected, then applied. */
static enum outcome collect_and_apply(struct batch *b, struct failure *failure)
{
	struct sync *s = b->s;
	const struct backend_sink sink = got_sink(b);
	struct shmeta_err err = {.code = SHMETA_OK};
	enum outcome outcome = fetch(b, &sink, failure);
	enum shmeta_status status;

	if (outcome != OUTCOME_DONE)
		return outcome;
	sync_source_works(s, SYNC_JOB_FETCH);
	set_unread_aside(b);
	status = b->entry_count > 0 ? apply_batch(b, &err) : SHMETA_OK;
	if (status != SHMETA_OK)
		return apply_failed(b, status, err.text, failure);
	if (s->batch_full == 0)
		sync_room_works(s);
	return OUTCOME_DONE;
}

/* The rows of its one entry have come, and are applied. */
static enum outcome end_stream(struct batch *b, uint64_t began_ns, struct failure *failure)
{
	struct sync *s = b->s;
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status = batch_apply_quarantined(b, 0, b->key_count, &err);

	sync_source_works(s, SYNC_JOB_FETCH);
	if (b->entry[0]->want.repair)
		b->repaired = s->apply.changed;
	if (status == SHMETA_OK)
		status = end_commit(b, began_ns, &err);
	else
		apply_abort(&s->apply);
	if (status != SHMETA_OK)
		return apply_failed(b, status, err.text, failure);
	if (s->batch_full == 0)
		sync_room_works(s);
	return OUTCOME_DONE;
}

/* One entry, applied as its rows come. */
static enum outcome apply_as_it_comes(struct batch *b, struct failure *failure)
{
	struct sync *s = b->s;
	struct stream *m = calloc(1, sizeof *m);
	struct shmeta_err err = {.code = SHMETA_OK};
	uint64_t began_ns = sync_now(s);
	enum shmeta_status status = m != NULL ? begin_commit(b, &err) : SHMETA_ERR_NO_MEMORY;
	enum outcome outcome;

	if (status != SHMETA_OK) {
		free(m);
		return fail(failure, OUTCOME_STORE, status, err.text);
	}
	quarantine_begin(&b->quarantine, false);
	m->b = b;
	m->restamp = batch_restamp(s, b->entry[0], b);
	const struct backend_sink sink = stream_sink(m);

	outcome = fetch(b, &sink, failure);
	if (outcome == OUTCOME_DONE && m->failed == SHMETA_OK) {
		outcome = end_stream(b, began_ns, failure);
	} else {
		apply_abort(&s->apply);
		if (m->promote) {
			pthread_mutex_lock(&s->queue->lock);
			batch_reread_topic(b, b->entry[0]);
			pthread_mutex_unlock(&s->queue->lock);
			b->entry[0] = NULL;
			outcome = OUTCOME_DONE;
		} else if (b->unread != SHMETA_OK) {
			outcome = fail(failure, OUTCOME_KEY, b->unread, b->unread_sentence);
		} else if (m->failed != SHMETA_OK) {
			outcome = apply_failed(b, m->failed, m->err.text, failure);
		}
	}
	stream_free(m);
	free(m);
	return outcome;
}

/* Fetched and applied in one go, or not at all. What is neither promoted nor done stays in b->entry. */
static enum outcome bring_over(struct batch *b, bool large, struct failure *failure)
{
	struct sync *s = b->s;
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status = plan(b, &err);
	enum outcome outcome;

	b->all_count = b->entry_count;
	if (status != SHMETA_OK)
		return fail(failure, OUTCOME_STORE, status, err.text);
	if (b->key_count == 0)
		return OUTCOME_DONE; /* all of it was promoted */
	b->sequence = floor_read_begins(&s->floor);
	b->read_at_ns = sync_now(s);
	outcome = large ? apply_as_it_comes(b, failure) : collect_and_apply(b, failure);
	floor_read_ends(&s->floor);
	return outcome;
}

static void tell_trouble(struct sync *s, enum outcome outcome, const struct failure *failure)
{
	if (outcome == OUTCOME_STORE)
		sync_room_failed(s, failure->status, failure->sentence);
	else if (outcome == OUTCOME_SOURCE && !origin_is_foreign(s))
		sync_source_failed(s, SYNC_JOB_FETCH, failure->status, failure->sentence);
}

static bool quarantine(struct sync *s, struct sync_entry *e, const struct failure *failure)
{
	struct identity id = queue_identity_of(e);

	if (!failing_note(s, &id, &e->want, failure->status, failure->sentence))
		return false;
	end_entry(s, e, failure->status, failure->sentence, 0, 0);
	return true;
}

/* *count: what is left of them, in front: those that could not be read, and after trouble all. */
static enum outcome try(struct sync *s, struct sync_entry **entry, size_t *count, bool large, struct failure *failure)
{
	struct batch b = {.s = s, .entry = entry, .entry_count = *count};
	enum outcome outcome = bring_over(&b, large, failure);

	if (outcome == OUTCOME_DONE && b.unread != SHMETA_OK)
		outcome = fail(failure, OUTCOME_KEY, b.unread, b.unread_sentence);
	b.entry_count = b.all_count;
	batch_compact(&b);
	*count = b.entry_count;
	got_free(&b);
	return outcome;
}

static bool run(struct sync *s, struct sync_entry **entry, size_t count);

/* What is left of a batch after trouble: as the trouble says. */
static void give_up_rest(struct sync *s, struct sync_entry **entry, size_t count)
{
	give_up(s, entry, count, !store_takes(s) ? store_health_status(&s->store_health) : SHMETA_ERR_SOURCE,
	        !store_takes(s) ? store_health_text(&s->store_health) : health_job_text(&s->health, SYNC_JOB_FETCH));
}

static bool run_halves(struct sync *s, struct sync_entry **entry, size_t count)
{
	size_t half = count / 2;
	bool ok = run(s, entry, half);

	/* In a full store what one key does not find room for may be followed by one that makes room. */
	if (ok || (s->batch_full > 0 && s->batch_full < FULL_AT_ONCE && store_is_full(&s->store_health) &&
	           !source_is_away(s)))
		return run(s, entry + half, count - half) && ok;
	give_up_rest(s, entry + half, count - half);
	return false;
}

/* Entries that are being fetched, to their end. A batch that fails for some key, has too many rows, or does not fit, is halved until that key is
 * alone. false: trouble; all of them are done, wait or are answered. */
static bool run(struct sync *s, struct sync_entry **entry, size_t count)
{
	struct failure failure;
	size_t asked = count;
	enum outcome outcome = try(s, entry, &count, false, &failure);

	if (outcome == OUTCOME_LARGE && count == 1)
		outcome = try(s, entry, &count, true, &failure);
	if (outcome == OUTCOME_DONE || count == 0)
		return true;
	bool full = outcome == OUTCOME_STORE && failure.status == SHMETA_ERR_FULL;

	if ((outcome == OUTCOME_KEY || outcome == OUTCOME_LARGE || full) && count > 1)
		return run_halves(s, entry, count);
	if (outcome == OUTCOME_KEY && asked > 1)
		return run(s, entry, count); /* it may have failed for another one's sake */
	if (outcome == OUTCOME_KEY) {
		if (quarantine(s, *entry, &failure))
			return true;
		outcome = OUTCOME_SOURCE; /* so many: it is not about keys */
	}
	s->batch_full += full;
	give_up(s, entry, count, outcome == OUTCOME_SOURCE ? SHMETA_ERR_SOURCE : failure.status, failure.sentence);
	tell_trouble(s, outcome, &failure);
	return false;
}

bool batch_run(struct sync *s)
{
	size_t count, good;
	struct sync_entry **entry = take(s, &count);
	bool ok = count > 0;

	s->batch_full = 0;
	if (ok) {
		sync_quarantine_pass_begin(s, refresh_pass);
		good = sort_out_failing(s, entry, &count);
		qsort(entry, good, sizeof(struct sync_entry *), compare_entry);
		ok = good == 0 || run(s, entry, good);
		for (; good < count; good++) {
			if (ok)
				ok = run(s, entry + good, 1);
			else
				give_up(s, entry + good, 1, SHMETA_ERR_SOURCE, health_source_text(&s->health));
		}
		sync_show_now_and_then(s);
	}
	free(entry);
	if (s->look == LOOK_NEEDED) {
		ok = refresh_meet(s);
		s->look = ok ? LOOK_MADE : LOOK_NONE;
	}
	return ok;
}

/* ---- all that waits --------------------------------------------------------------------------- */

/* The feed has named all it knows: if the topics of offsets and leases that came before them are among that, these are read again. */
static void look_for_orphans(struct sync *s)
{
	if (s->orphans.state == ORPHANS_WAIT && !refresh_pending_feed(s) && orphans_look(&s->orphans))
		schedule_advisory_at(s, sync_now(s) + s->options.poll_min_ms * SYNC_MS);
}

void refresh_drain_feed(struct sync *s)
{
	while (refresh_pending_feed(s) && batch_run(s))
		;
	look_for_orphans(s);
}

void refresh_drain(struct sync *s)
{
	/* Readers may ask without end: the feed, and who writes, have their turn all the same. */
	for (int i = 0; i < BATCHES_PER_ROUND && batch_run(s) && !sync_stopping(s); i++)
		if ((feed_in_step(s) && schedule_poll_due(&s->schedule, sync_now(s))) || write_waiting(s))
			break;
	look_for_orphans(s);
	if (refresh_waiting(s) && !source_is_away(s) && store_takes(s))
		sync_wake_at(s, sync_now(s));
}
