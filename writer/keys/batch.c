/* SPDX-License-Identifier: Apache-2.0
 * From keys to commits: what waits in the queue is fetched in bulk, applied in one commit,
 * answered. What fails is halved.
 *
 *   key named or asked for -> entry (waiting) -> batch: planned, read -> [hook] -> applied -> gone
 *                                ^--- widened, superseded, or not applied: waits again ----' */
#include <stdio.h>

#include "base/probes.h"
#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"
#include "writer/load/stream.h"

enum { BATCHES_PER_ROUND = 64, PASS_KEYS = 64, FAILING_AT_ONCE = 16, FULL_AT_ONCE = 16 };

/* Those that are known to fail wait for their time; those whose time has come are put behind the
 * others, to be tried alone. How many the others are. */
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
			if (key->trying) {
				failing_postponed(key, &e->want); /* so many at once */
			} else {
				failing_wanted(s, key, &e->want);
			}
			batch_end_entry(s, e, key->status, key->sentence, 0, 0);
		}
	}
	memcpy(entry + good, again, trying * sizeof(struct sync_entry *));
	*count = good + trying;
	return good;
}

/* Take what waits, up to a batch; pass: of what a pass wants; asked: also of what readers wait for.
 * Freed by the caller; NULL: nothing, or no memory. */
static struct sync_entry **take(struct sync *s, bool pass, bool asked, size_t *ret_count)
{
	struct sync_queue *q = s->queue;
	size_t most = s->options.refresh_batch_keys, keys = s->engine->limits.keys, waiting;
	struct sync_entry **entry;

	*ret_count = 0;
	if (s->bounded != NULL)
		most = bounded_batch(s, most);
	/* An entry becomes as many keys as it has ranges, and those of a partition are read in one
	 * call. */
	if (keys != 0 && most > keys / RANGES_MAX)
		most = keys / RANGES_MAX;
	if (pass && most > PASS_KEYS)
		most = PASS_KEYS;
	pthread_mutex_lock(&q->lock);
	waiting = pass ? q->pass_keys : q->named.count + (asked ? q->asked.count : 0);
	if (most > waiting)
		most = waiting;
	entry = most == 0 ? NULL : malloc(most * sizeof(struct sync_entry *));
	if (entry != NULL)
		*ret_count = pass ? queue_take_pass(q, entry, most) : queue_take(q, entry, most, asked);
	pthread_mutex_unlock(&q->lock);
	return entry;
}

/* They could not be brought over: what the feed named waits, what readers asked for is answered,
 * but for what only waits for a look at the source. */
static void give_up(struct sync *s, struct sync_entry **entry, size_t count, enum shmeta_status status,
                    const char *sentence)
{
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&s->queue->lock);
	for (size_t i = 0; i < count; i++) {
		struct sync_entry *e = entry[i];

		if (e == NULL)
			continue;
		if (s->batch.look != LOOK_NEEDED)
			queue_move_tickets(&tickets, &e->tickets);
		if (e->want.feed || e->want.pass || s->batch.look == LOOK_NEEDED) {
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

/* Why keys are read, by what the first of them says. Readers join it while it is read. */
static const char *why_read(struct sync_queue *queue, const struct sync_entry *e)
{
	const char *why;

	if (e == NULL)
		return "more of a key";
	pthread_mutex_lock(&queue->lock);
	why = e->want.feed         ? "the feed named it"
	      : e->want.repair     ? "a full comparison found it to differ"
	      : e->tickets != NULL ? "a reader asked"
	      : e->want.missed     ? "a lookup met it unknown"
	                           : "its time to live is over";
	pthread_mutex_unlock(&queue->lock);
	return why;
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
	          b->key_count > 1 ? " and others" : "", why_read(s->queue, b->fetched[0].entry),
	          status != SHMETA_OK ? "; " : "", status != SHMETA_OK ? err->text : "");
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
	sync_measured(s, SHMETA_TIMED_SOURCE, sync_now(s) - b->read_at_ns);
	shmeta_probe_fetch(b->key_count, (int)status, sync_now(s) - b->read_at_ns);
	tell_fetch(b, status, &err);
	if (b->failed == SHMETA_ERR_NO_MEMORY)
		return fail(failure, OUTCOME_STORE, SHMETA_ERR_NO_MEMORY,
		            "out of memory while reading from the source");
	if (b->failed == SHMETA_ERR_BUFFER)
		return OUTCOME_LARGE;
	if (status == SHMETA_ERR_SOURCE)
		generation_judge(s);
	s->batch.look = status == SHMETA_ERR_CONFLICT && s->batch.look != LOOK_MADE ? LOOK_NEEDED : LOOK_NONE;
	if (s->batch.look == LOOK_NEEDED)
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

/* Entries of which some key could not be read are put behind the others, and are none of the
 * batch's any more. */
static void take_unread_out(struct batch *b)
{
	for (size_t k = 0; b->unread != SHMETA_OK && k < b->key_count; k++) {
		struct sync_entry *e = b->fetched[k].entry;
		size_t i = 0;

		if (b->fetched[k].failed == SHMETA_OK || e == NULL)
			continue;
		while (b->entry[i] != e)
			i++;
		memmove(&b->entry[i], &b->entry[i + 1], (b->all_count - 1 - i) * sizeof(struct sync_entry *));
		b->entry[b->all_count - 1] = e;
		b->entry_count--;
		for (size_t other = 0; other < b->key_count; other++)
			if (b->fetched[other].entry == e)
				b->fetched[other].entry = NULL;
	}
}

/* Collected, then applied. */
static enum outcome collect_and_apply(struct batch *b, struct failure *failure)
{
	struct sync *s = b->s;
	const struct backend_sink sink = fetched_sink(b);
	struct shmeta_err err = {.code = SHMETA_OK};
	enum outcome outcome = fetch(b, &sink, failure);
	enum shmeta_status status;

	if (outcome != OUTCOME_DONE)
		return outcome;
	sync_source_works(s, SYNC_JOB_FETCH);
	take_unread_out(b);
	status = b->entry_count > 0 ? batch_commit(b, &err) : SHMETA_OK;
	if (status != SHMETA_OK)
		return apply_failed(b, status, err.text, failure);
	if (s->batch.full == 0)
		sync_store_works(s);
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
		status = batch_commit_ends(b, began_ns, &err);
	else
		apply_abort(&s->apply);
	if (status != SHMETA_OK)
		return apply_failed(b, status, err.text, failure);
	if (s->batch.full == 0)
		sync_store_works(s);
	return OUTCOME_DONE;
}

/* One entry, applied as its rows come. */
static enum outcome apply_as_it_comes(struct batch *b, struct failure *failure)
{
	struct sync *s = b->s;
	struct stream *m = calloc(1, sizeof *m);
	struct shmeta_err err = {.code = SHMETA_OK};
	uint64_t began_ns = sync_now(s);
	enum shmeta_status status = m != NULL ? batch_commit_begins(b, &err) : SHMETA_ERR_NO_MEMORY;
	enum outcome outcome;

	if (status != SHMETA_OK) {
		free(m);
		return fail(failure, OUTCOME_STORE, status, err.text);
	}
	quarantine_begin(&b->quarantine, false);
	bounded_apply(s, b->entry[0]);
	m->b = b;
	m->restamp = batch_restamp(s, b->entry[0], b);
	const struct backend_sink sink = stream_sink(m);

	outcome = fetch(b, &sink, failure);
	if (outcome == OUTCOME_DONE && m->failed == SHMETA_OK) {
		outcome = end_stream(b, began_ns, failure);
	} else {
		apply_abort(&s->apply);
		if (m->widen) {
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

/* Fetched and applied in one go, or not at all. What is neither widened nor done stays in
 * b->entry. */
static enum outcome bring_over(struct batch *b, bool large, struct failure *failure)
{
	struct sync *s = b->s;
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status = batch_plan(b, &err);
	enum outcome outcome;

	b->all_count = b->entry_count;
	if (status != SHMETA_OK)
		return fail(failure, OUTCOME_STORE, status, err.text);
	if (b->key_count == 0)
		return OUTCOME_DONE; /* all of it was widened */
	b->sequence = apply_clock_read_begins(&s->apply_clock);
	b->read_at_ns = sync_now(s);
	outcome = large ? apply_as_it_comes(b, failure) : collect_and_apply(b, failure);
	apply_clock_read_ends(&s->apply_clock);
	return outcome;
}

static void tell_trouble(struct sync *s, enum outcome outcome, const struct failure *failure)
{
	if (outcome == OUTCOME_STORE)
		sync_store_failed(s, failure->status, failure->sentence);
	else if (outcome == OUTCOME_SOURCE && !origin_is_foreign(s))
		sync_source_failed(s, SYNC_JOB_FETCH, failure->status, failure->sentence);
}

static bool quarantine(struct sync *s, struct sync_entry *e, const struct failure *failure)
{
	struct identity id = queue_identity_of(e);

	if (!failing_note(s, &id, &e->want, failure->status, failure->sentence))
		return false;
	batch_end_entry(s, e, failure->status, failure->sentence, 0, 0);
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
	fetched_free(&b);
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

	/* In a full store what one key does not find room for may be followed by one that makes
	 * room. */
	if (ok || (s->batch.full > 0 && s->batch.full < FULL_AT_ONCE && store_is_full(&s->store_health) &&
	           !source_is_away(s)))
		return run(s, entry + half, count - half) && ok;
	give_up_rest(s, entry + half, count - half);
	return false;
}

/* Entries that are being fetched, to their end. A batch that fails for some key, has too many rows,
 * or does not fit, is halved until that key is alone. false: trouble; all of them are done, wait or
 * are answered. */
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
	s->batch.full += full;
	give_up(s, entry, count, outcome == OUTCOME_SOURCE ? SHMETA_ERR_SOURCE : failure.status, failure.sentence);
	tell_trouble(s, outcome, &failure);
	return false;
}

/* Is it read for somebody who waits for a token? Otherwise the feed named it, or it was written. */
static bool costs_tokens(struct sync_entry *const *entry, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!entry[i]->want.feed)
			return true;
	return false;
}

static bool run_batch(struct sync *s, bool pass)
{
	bool bound = !pass && query_budget_is_set(&s->query_budget);
	bool asked = !pass && (!bound || query_budget_when(s) <= sync_now(s)), ok;
	struct backend_counters before;
	size_t count, good;
	struct sync_entry **entry = take(s, pass, asked, &count);

	ok = count > 0;
	bound = bound && costs_tokens(entry, count);
	if (bound)
		session_counters(&s->session, s->engine, s->backend, &before);
	s->batch.full = 0;
	if (ok) {
		sync_quarantine_pass_begin(s, refresh_pass);
		good = sort_out_failing(s, entry, &count);
		batch_sort(entry, good);
		ok = good == 0 || run(s, entry, good);
		for (; good < count; good++) {
			if (ok)
				ok = run(s, entry + good, 1);
			else
				give_up(s, entry + good, 1, SHMETA_ERR_SOURCE, health_source_text(&s->health));
		}
		sync_show_now_and_then(s);
	}
	if (bound)
		query_budget_pay(s, &before);
	free(entry);
	if (s->batch.look == LOOK_NEEDED) {
		ok = refresh_meet(s);
		s->batch.look = ok ? LOOK_MADE : LOOK_NONE;
	}
	return ok;
}

/* One batch of what waits. false: nothing waits, or it failed. */
static bool batch_run(struct sync *s)
{
	return run_batch(s, false);
}

bool batch_run_pass(struct sync *s)
{
	return run_batch(s, true);
}

/* ---- all that waits ---- */

/* The feed has named all it knows: if the topics of offsets and leases that came before them are
 * among that, these are read again. */
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
	if (!refresh_waiting(s) || source_is_away(s) || !store_takes(s))
		return;
	query_budget_waits(s, query_budget_when(s) > sync_now(s));
	sync_wake_at(s, refresh_pending_feed(s) ? sync_now(s) : query_budget_when(s));
}
