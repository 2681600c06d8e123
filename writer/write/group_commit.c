/* SPDX-License-Identifier: Apache-2.0
 * Group commit. Calls wait in their users' turns (turns.h), in parts of a few operations; a round
 * takes what has gathered, does it in one transaction of the source, reads the changed keys back
 * together with whatever the feed has named, applies them in store commits, and then answers every
 * call of which it did the last part with the commit that shows it all.
 *
 *   sync_write() ─> queue ─> apply() ─> changed keys ─> the refresh queue ─> store ─>
 *   host->written()
 *
 * Where many wait and the engine can, the next round is at work in the source while this one is
 * read back and answered:
 *
 *   start(2)    finish(2) start(3)    finish(3)
 *      │ read back 1 │       │ read back 2 │
 *
 * What is read back is the source's truth after the commit, so an older state can never come back
 * with it (semantics.md C6): the engine's thread is the only one that reads and applies. When the
 * store cannot follow, the keys stay in the queue and the calls are answered ERR_NOT_CACHED.
 *
 * A call that carries request ids may come twice, because its client lost the connection before the
 * answer. Results are remembered by id (request_ids.h), and answered again instead of being done
 * again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "shm/wire/op.h"
#include "writer/engine/engine.h"
#include "writer/engine/failing.h"
#include "writer/keys/queue.h"
#include "writer/write/request_ids.h"
#include "writer/write/write_queue.h"
#include "writer/write/write_round.h"

enum { LINGER_OPS = 4 };   /* a client that waits for each write sends few at a time */
enum { OVERLAP_OPS = 64 }; /* for fewer that wait it is not worth a second connection */

void write_free(struct sync *s)
{
	struct sync_writes *w = s->writes;
	bool more;

	if (w == NULL)
		return;
	for (struct write_part *part = write_parts_take(s, 0, true, &more), *next; part != NULL; part = next) {
		next = part->next;
		write_part_free(part);
	}
	turns_free(&w->turns);
	write_round_free(w->next);
	request_ids_free(w->done);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
	s->writes = NULL;
}

/* ---- a round (the engine's thread) ---- */

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct write_round *r = arg;

	if (!refresh_note_own(r->s, key))
		r->no_memory = true;
	return SHMETA_OK;
}

/* Drop what callers no longer wait for. */
static struct write_part *drop_late(struct sync *s, struct write_part *parts)
{
	uint64_t now = sync_now(s);
	struct write_part **at = &parts;

	while (*at != NULL) {
		struct write_part *part = *at;

		if (part->call->deadline_ns >= now) {
			at = &part->next;
			continue;
		}
		*at = part->next;
		if (part->call->failed == part->first)
			write_part_fail(part, SHMETA_ERR_TIMEOUT,
			                "the deadline passed before the write was begun; nothing was done");
		else
			write_part_fail(
				part, SHMETA_ERR_BUSY,
				"the deadline passed before this operation of the call was begun; it was not done");
		write_part_answer(s, part);
		write_part_free(part);
	}
	return parts;
}

/* The source did not judge the operation: it could not be done at all, or nobody knows whether it
 * was. */
static bool is_unjudged(enum shmeta_status status)
{
	switch (status) {
	case SHMETA_ERR_OUTCOME_UNKNOWN:
	case SHMETA_ERR_SOURCE:
	case SHMETA_ERR_CONFIG:
	case SHMETA_ERR_FULL:
	case SHMETA_ERR_NO_MEMORY:
	case SHMETA_ERR_READ_ONLY:
		return true;
	default:
		return false;
	}
}

/* Every operation's result where its call looks for it, and where the next round looks for what was
 * done. What was kept out for now by something that passes is not done, and a retry is to do it. */
static void settle_results(struct write_round *r)
{
	for (size_t i = 0; i < r->count; i++) {
		enum shmeta_status status = r->results[i].status;

		r->unknown += status == SHMETA_ERR_OUTCOME_UNKNOWN;
		r->full += status == SHMETA_ERR_FULL;
		r->judged += !is_unjudged(status);
		if (status == SHMETA_ERR_FULL)
			/* to a client it is the source that fails */
			r->results[i].status = SHMETA_ERR_SOURCE;
		if (r->place[i] == NULL)
			continue;
		*r->place[i] = r->results[i];
		if (status != SHMETA_ERR_BUSY && !is_unjudged(status))
			request_ids_note(r->s->writes->done, &r->requests[i], &r->results[i]);
	}
	for (size_t i = 0; i < r->duplicate_count; i++)
		*r->duplicates[i].result = r->results[r->duplicates[i].of];
}

/* What a part wrote to may be quarantined: then the store does not show it. */
static const struct failing_key *not_shown(struct sync *s, const struct write_part *part)
{
	const struct write_call *call = part->call;
	const struct failing_key *key = NULL;

	for (size_t i = part->first; key == NULL && i < part->end; i++)
		if (call->results[i].status == SHMETA_OK)
			key = failing_of_op(s, call->tenant, &call->ops[i]);
	return key;
}

static bool did_any(const struct write_part *part)
{
	for (size_t i = part->first; i < part->end; i++)
		if (part->call->results[i].status == SHMETA_OK)
			return true;
	return false;
}

/* About so many calls are answered behind the round. */
static size_t calls_of(const struct write_round *r)
{
	size_t calls = 0;

	for (const struct write_part *part = r->parts; part != NULL; part = part->next)
		calls += part->turn.last;
	return calls;
}

static void audit_part(struct sync *s, const struct write_part *part)
{
	const struct write_call *c = part->call;

	audit_ops(s, c->who, c->tenant, c->ops + part->first, c->results + part->first, c->again + part->first,
	          part->turn.ops);
}

/* not_cached: why the store does not show what was done; NULL: it does. */
static void answer_round(struct write_round *r, const char *not_cached)
{
	struct sync *s = r->s;

	s->host.answering(s->host.arg, calls_of(r));
	for (struct write_part *part = r->parts; part != NULL; part = part->next) {
		const struct failing_key *key = not_cached == NULL ? not_shown(s, part) : NULL;

		if (key != NULL)
			write_part_not_cached(part, key->sentence);
		else if (not_cached != NULL && did_any(part))
			write_part_not_cached(part, not_cached);
		write_part_answer(s, part);
	}
	s->host.answering(s->host.arg, 0);
	/* Who waits for the answer does not wait for this. */
	for (const struct write_part *part = r->parts; part != NULL; part = part->next)
		audit_part(s, part);
}

/* Many clients were answered a moment ago, and few of them have come back yet: each commit that
 * does not wait for the others costs as much as one of all of them. */
static bool gathering(struct sync *s, size_t calls, uint64_t since, uint64_t now)
{
	enum { MANY = 32, GATHER_NS = 2000000 };
	struct sync_writes *w = s->writes;
	bool wait = w->recent >= MANY && calls < w->recent / 2 && now < since + GATHER_NS && !sync_stopping(s);

	(void)pthread_mutex_lock(&w->lock);
	w->enough = wait ? w->recent / 2 : 0;
	(void)pthread_mutex_unlock(&w->lock);
	if (wait)
		sync_wake_at(s, since + GATHER_NS);
	return wait;
}

/* What waits, up to a batch, as a round of its own. NULL: nothing, or no memory (they have their
 * answer). */
static struct write_round *next_round(struct sync *s)
{
	struct write_round *r = calloc(1, sizeof *r);
	bool more;

	if (r == NULL) {
		write_answer_all(s, SHMETA_ERR_NO_MEMORY, "out of memory; nothing was done");
		return NULL;
	}
	r->s = s;
	r->parts = drop_late(s, write_parts_take(s, s->options.write_batch_max, sync_stopping(s), &more));
	if (more)
		sync_wake_at(s, sync_now(s));
	if (r->parts != NULL && write_round_collect(r))
		return r;
	for (struct write_part *part = r->parts; part != NULL; part = part->next) {
		write_part_fail(part, SHMETA_ERR_NO_MEMORY, "out of memory; nothing was done");
		write_part_answer(s, part);
	}
	write_round_free(r);
	return NULL;
}

/* Operations of the unit that begins here. */
static size_t unit_at(const struct write_round *r, size_t at)
{
	size_t count = 1;

	while (r->ops[at].op->type == SHMETA_OP_COMMIT_OBJECT && at + count < r->count &&
	       r->ops[at + count].op->type == SHMETA_OP_ADD_SLICE)
		count++;
	return count;
}

/* How many operations from here on the engine takes in one call: whole units. */
static size_t piece_at(const struct write_round *r, size_t at)
{
	const struct backend_limits *limits = &r->s->engine->limits;
	size_t count = 0, unit;
	uint64_t bytes = 0;

	for (; at + count < r->count; count += unit) {
		unit = unit_at(r, at + count);
		for (size_t i = 0; limits->bytes != 0 && i < unit; i++)
			bytes += shmeta__op_bytes(r->ops[at + count + i].op);
		if (count > 0 &&
		    ((limits->ops != 0 && count + unit > limits->ops) || (limits->bytes != 0 && bytes > limits->bytes)))
			break;
	}
	return count;
}

/* The next round goes to the source before this one is read back. */
static void overlap(struct sync *s)
{
	uint64_t since, began = sync_now(s);
	size_t calls, ops = write_calls_waiting(s, &calls, &since);
	struct backend_error err = {.code = SHMETA_OK};
	struct write_round *r;

	if (s->engine->writer == NULL || s->engine->writer->start == NULL || ops < OVERLAP_OPS || source_is_away(s) ||
	    !store_takes(s) || sync_stopping(s) || !generation_writable(s) || gathering(s, calls, since, began))
		return;
	r = s->writes->next = next_round(s);
	if (r == NULL)
		return;
	r->started =
		r->count > 0 && piece_at(r, 0) == r->count &&
		s->engine->writer->start(s->backend, r->ops, r->count, sync_wall_ms(s), r->results, &err) == SHMETA_OK;
	s->counters.write_source_ns += sync_now(s) - began;
}

/* As many calls as the engine needs. What comes behind one that failed is not done. */
static enum shmeta_status apply_pieces(struct write_round *r, const struct backend_sink *sink,
                                       struct backend_error *err)
{
	struct sync *s = r->s;
	enum shmeta_status status = SHMETA_OK;

	while (r->done < r->count) {
		size_t count = piece_at(r, r->done);

		status = s->engine->writer->apply(s->backend, r->ops + r->done, count, sync_wall_ms(s),
		                                  r->results + r->done, sink, err);
		if (status == SHMETA_ERR_CONFLICT)
			return backend_answer_all(r->ops + r->done, r->count - r->done, r->results + r->done, status,
			                          err->text);
		r->done += count;
		if (status != SHMETA_OK)
			return backend_answer_all(r->ops + r->done, r->count - r->done, r->results + r->done, status,
			                          err->text);
	}
	return status;
}

static enum shmeta_status do_at_source(struct write_round *r, struct backend_error *err)
{
	const struct backend_sink sink = {.arg = r, .changed = on_changed};
	struct sync *s = r->s;
	uint64_t began = sync_now(s);
	enum shmeta_status status = SHMETA_OK;

	if (s->engine->writer == NULL && r->count > 0)
		status = backend_fail(err, SHMETA_ERR_READ_ONLY, "%s: this source cannot be written", s->engine->name);
	else if (r->started)
		status = s->engine->writer->finish(s->backend, &sink, err);
	else
		status = apply_pieces(r, &sink, err);
	s->counters.write_source_ns += sync_now(s) - began;
	return status;
}

/* What operations of unknown outcome did, if anything, is to be found: their keys are read again.
 * When they are committed only after that, the feed tells of it, or the next pass, as of anybody's
 * changes. */
static void look_for_outcome(struct write_round *r)
{
	const struct backend_sink sink = {.arg = r, .changed = on_changed};

	for (size_t i = 0; i < r->count; i++)
		if (r->results[i].status == SHMETA_ERR_OUTCOME_UNKNOWN)
			(void)backend_tell(&r->ops[i], &sink);
}

/* Nothing of the part was judged, and all for the same reason. OK: there is none. */
static enum shmeta_status whole_failure(const struct write_part *part)
{
	const struct shmeta_result *results = part->call->results;
	enum shmeta_status status = results[part->first].status;

	for (size_t i = part->first + 1; i < part->end; i++)
		if (results[i].status != status)
			return SHMETA_OK;
	/* FULL is our own answer: it is the store that has no room. */
	return is_unjudged(status) && status != SHMETA_ERR_FULL ? status : SHMETA_OK;
}

/* Take out of the round the parts of which nothing was judged, and answer their calls. */
static void answer_failed(struct write_round *r, const char *sentence)
{
	struct sync *s = r->s;

	for (struct write_part **at = &r->parts; r->judged < r->count && *at != NULL;) {
		struct write_part *part = *at;
		enum shmeta_status status = whole_failure(part);

		if (status == SHMETA_OK) {
			at = &part->next;
			continue;
		}
		*at = part->next;
		audit_part(s, part);
		write_part_failed(part, status, sentence[0] != '\0' ? sentence : part->call->results[part->first].text);
		write_part_answer(s, part);
		write_part_free(part);
	}
}

static void note_work(const struct write_round *r, uint64_t took_ns)
{
	struct sync *s = r->s;
	const struct write_part *largest = r->parts;
	uint64_t work = 0;

	for (const struct write_part *part = r->parts; part != NULL; part = part->next) {
		work += part->turn.work;
		if (part->turn.open_ended || (!largest->turn.open_ended && part->turn.work > largest->turn.work))
			largest = part;
	}
	(void)pthread_mutex_lock(&s->writes->lock);
	turns_took(&s->writes->turns, work, &largest->turn, took_ns, sync_now(s));
	(void)pthread_mutex_unlock(&s->writes->lock);
}

/* Its parts wait in front of all others until the source may be written to. */
static void put_back(struct write_round *r)
{
	r->s->writes->back = r->parts;
	r->parts = NULL;
	write_round_free(r);
}

/* The source is not what the feed has told, which a write may be the first to meet: it is looked
 * at, and asked again. One that is read whole first has the calls wait, as it has those that come
 * then. false: they do. */
static bool do_after_look(struct write_round *r, enum shmeta_status *status, struct backend_error *err)
{
	struct sync *s = r->s;
	const struct backend_error first = *err;

	r->started = false;
	if (refresh_meet(s)) {
		*status = do_at_source(r, err);
	} else if (origin_is_foreign(s) && !source_is_away(s) && r->done == 0) {
		put_back(r);
		return false;
	}
	if (*status == SHMETA_ERR_CONFLICT)
		*status = backend_fail(err, SHMETA_ERR_SOURCE, "%s",
		                       source_is_away(s) ? health_source_text(&s->health) : first.text);
	return true;
}

/* ", trace " and the first trace ids of the round, `most` of them at most; "" when it has none.
 * Operations of one trace as a rule stand side by side. */
static const char *traces_of(const struct write_round *r, size_t most, char *ret, size_t bytes)
{
	const uint8_t *last = NULL;
	size_t found = 0, used = 0;
	char hex[SHMETA_TRACE_TEXT];

	ret[0] = '\0';
	for (size_t i = 0; i < r->count; i++) {
		const struct shmeta_op *op = r->ops[i].op;

		if (!shmeta__op_is_traced(op) || (last != NULL && memcmp(last, op->trace_id, SHMETA_TRACE_BYTES) == 0))
			continue;
		last = op->trace_id;
		if (found++ < most)
			used += (size_t)snprintf(ret + used, bytes - used, "%s%s", used == 0 ? ", trace " : ", ",
			                         shmeta__op_trace(op, hex));
	}
	if (found > most)
		(void)snprintf(ret + used, bytes - used, " and %zu more", found - most);
	return ret;
}

static void tell_written(const struct write_round *r, enum shmeta_status status, const char *why, size_t calls,
                         uint64_t began)
{
	bool failed = status != SHMETA_OK;
	char traces[160]; /* of an event's 200 bytes; a failure is to have its reason, too */

	sync_tell(r->s, SHMETA_EVENT_WRITE, failed, r->count, sync_now(r->s) - began, 0, "%s%s of %zu calls%s%s%s",
	          shmeta__op_name(r->ops[0].op->type), r->count > 1 ? " and others" : "", calls,
	          traces_of(r, failed ? 1 : 3, traces, sizeof traces), failed ? "; " : "", failed ? why : "");
}

/* A round to its end. last: no other one begins meanwhile. */
static void commit(struct write_round *r, bool last)
{
	struct sync *s = r->s;
	struct backend_error err = {.code = SHMETA_OK};
	uint64_t began = sync_now(s);
	size_t calls = calls_of(r);
	enum shmeta_status status;

	if (origin_is_foreign(s) && !r->started) {
		put_back(r);
		return;
	}
	status = do_at_source(r, &err);
	if (r->count > 0)
		tell_written(r, status, err.text, calls, began);
	if (status == SHMETA_ERR_CONFLICT && !do_after_look(r, &status, &err))
		return;
	settle_results(r);
	if (status == SHMETA_ERR_SOURCE) {
		sync_source_failed(s, SYNC_JOB_OPEN, status, err.text);
		generation_judge(s);
	}
	if (r->full > 0)
		health_source_full(s, err.text);
	if (r->unknown > 0)
		look_for_outcome(r);
	if (r->no_memory)
		schedule_ask_pass(s, true, "there was no memory for the keys of a write");
	answer_failed(r, err.text);
	if (r->parts == NULL) {
		write_round_free(r);
		return;
	}
	if (r->judged > 0) {
		sync_source_works(s, SYNC_JOB_OPEN);
		if (r->full == 0)
			health_source_takes_writes(s);
	}
	s->counters.write_batches++;
	s->counters.write_ops += r->count;
	/* a small round does not yet mean that the others have gone */
	s->writes->recent -= s->writes->recent / 4;
	if (s->writes->recent < calls)
		s->writes->recent = calls;
	/* Until then the source's wake-ups are of our own commit, and what came behind it hides in
	 * them. */
	uint64_t quiet_ns = sync_now(s) + s->options.poll_min_ms * SYNC_MS;

	thread_ignores_source(&s->thread, quiet_ns);
	schedule_woken(s, quiet_ns);
	thread_lingers(&s->thread, r->count <= LINGER_OPS);
	if (!last)
		overlap(s);
	refresh_bound_feed(s);
	/* A full store is tried at its time, not by each write, unless that may help it. */
	if (!source_is_away(s) &&
	    (store_takes(s) || r->makes_room || sync_now(s) >= store_health_when(&s->store_health)))
		refresh_drain_feed(s);
	if (r->no_memory || refresh_pending_feed(s) || source_is_away(s) || !store_takes(s))
		answer_round(r, !store_takes(s)     ? store_health_text(&s->store_health)
		                : source_is_away(s) ? health_source_text(&s->health)
		                                    : "the store follows later");
	else
		answer_round(r, NULL);
	note_work(r, sync_now(s) - began);
	write_round_free(r);
	write_calls_at_rest(s);
}

/* Is there something to be done, and nothing that is worth waiting for? */
static bool gathered(struct sync *s)
{
	uint64_t since, linger = s->options.write_linger_ms * SYNC_MS, now = sync_now(s);
	size_t calls, ops = write_calls_waiting(s, &calls, &since);

	if (s->writes->back != NULL)
		return true;
	if (ops == 0)
		return false;
	if (linger > 0 && ops < s->options.write_batch_max && now < since + linger) {
		sync_wake_at(s, since + linger);
		return false;
	}
	return !gathering(s, calls, since, now);
}

void write_commit(struct sync *s)
{
	struct write_round *r = s->writes->next;

	if (r == NULL) {
		if (!gathered(s))
			return;
		r = next_round(s);
		/* a reload that was answered before these calls came holds for them */
		options_take(s);
	}
	s->writes->next = NULL;
	if (r != NULL)
		commit(r, false);
}

void write_drain(struct sync *s)
{
	struct write_round *r = s->writes->next;

	s->writes->next = NULL;
	if (r != NULL)
		commit(r, true);
}
