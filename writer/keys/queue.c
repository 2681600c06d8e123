/* SPDX-License-Identifier: Apache-2.0
 * Who asks for keys: readers, each at the rate that its user may have read, and the engine
 * itself. */
#include <stdlib.h>

#include "base/row_limits.h"
#include "writer/keys/queue_private.h"
#include "writer/serve/shares.h"

/* refresh_queue_max bounds the keys that readers asked for; this many times that bounds the
 * tickets. */
enum { TICKETS_PER_KEY = 64 };
/* What a request holds beside its key: its ticket, its place in the loop's table, and the letter
 * that is reserved for its answer. */
enum { REQUEST_BYTES = 384 };

static bool covers(const struct sync_entry *fetched, const struct want *want)
{
	return fetched->kind > ENTRY_PART || fetched->all || !(want->whole || want->segments || fetched->want.row_only);
}

static void hang(struct sync_queue *q, struct sync_ticket **on, struct sync_ticket *t, struct asker *asker)
{
	t->next = *on;
	*on = t;
	q->tickets++;
	t->asker = asker;
	if (asker != NULL)
		asker->tickets++;
}

/* Under lock. Does what was read a moment ago say that the source does not have it? */
static bool is_absent(struct sync_queue *q, const struct backend_key *key, uint64_t now_ns, struct absent_answer *ret)
{
	return key->cls <= SHMETA_CLASS_SEGMENT &&
	       absent_find(&q->absent, queue_name_hash(key->tenant, key->topic), key->tenant, key->topic,
	                   key->cls == SHMETA_CLASS_TOPIC ? ABSENT_TOPIC : (int64_t)key->partition_id, now_ns, ret);
}

static bool is_bad(struct shmeta_str text, size_t max)
{
	return shmeta__name_error(text.data, text.bytes, max) != NULL;
}

/* No row can have such a name. */
static bool names_nothing(const struct backend_key *key)
{
	if (queue_kind(key->cls) > ENTRY_PART && backend_key_is_class(key))
		return false;
	return is_bad(key->tenant, SHMETA_TENANT_MAX) ||
	       ((queue_kind(key->cls) <= ENTRY_PART || key->topic.bytes > 0) && is_bad(key->topic, SHMETA_NAME_MAX)) ||
	       (key->name.bytes > 0 && is_bad(key->name, SHMETA_NAME_MAX));
}

/* Has another user a token for what waits for one of the first who asked? */
static bool pay_for(struct sync_queue *q, struct sync_entry *e, struct asker *asker, uint64_t now_ns)
{
	if (e->state != ENTRY_THROTTLED || asker == e->asker ||
	    asker_when(&q->askers, asker, asker->throttled.count, now_ns) > now_ns)
		return false;
	asker_pay(&q->askers, asker, now_ns);
	entry_move(q, e, ENTRY_ASKED, NULL);
	return true;
}

static size_t throttled_bytes(const struct sync_queue *q)
{
	size_t bytes = 0;

	for (const struct asker *a = q->askers.first; a != NULL; a = a->next)
		bytes += a->throttled.bytes;
	return bytes;
}

static size_t all_throttled(const struct sync_queue *q)
{
	size_t count = 0;

	for (const struct asker *a = q->askers.first; a != NULL; a = a->next)
		count += a->throttled.count;
	return count;
}

/* A key that nobody has asked for yet. NULL: there is no room for it, no memory, or no token before
 * the deadline. */
static struct sync_entry *ask_anew(struct sync *s, const struct identity *id, const struct want *want,
                                   struct asker *asker, uint64_t deadline_ns, uint64_t now_ns)
{
	struct sync_queue *q = s->queue;
	uint64_t when = asker_when(&q->askers, asker, asker->throttled.count, now_ns);
	size_t throttled = all_throttled(q);
	struct sync_entry *e;

	if (when > deadline_ns || q->asked.count + throttled >= q->keys_max ||
	    (when > now_ns && share_left(q->keys_max, q->user_share, asker->throttled.count, throttled) == 0))
		return NULL;
	e = queue_want(q, id, want);
	if (e == NULL)
		return NULL;
	if (when > now_ns)
		entry_move(q, e, ENTRY_THROTTLED, asker);
	else
		asker_pay(&q->askers, asker, now_ns);
	return e;
}

/* Under lock. What has a token by now is read next; when there is one again for the others
 * (UINT64_MAX: there are none). */
static uint64_t give_tokens(struct sync_queue *q, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	for (struct asker *a = q->askers.first; a != NULL; a = a->next) {
		uint64_t when = 0;

		while (a->throttled.count > 0 && (when = asker_when(&q->askers, a, 0, now_ns)) <= now_ns) {
			asker_pay(&q->askers, a, now_ns);
			entry_move(q, a->throttled.first, ENTRY_ASKED, NULL);
		}
		if (a->throttled.count > 0 && when < next)
			next = when;
	}
	return next;
}

static size_t all_bytes(const struct sync_queue *q)
{
	return q->asked.bytes + throttled_bytes(q) + q->tickets * REQUEST_BYTES;
}

static bool memory_is_full(const struct sync_queue *q)
{
	return all_bytes(q) >= q->bytes_max;
}

/* Is there memory for another request of this user, or for a key? */
static bool has_room(const struct sync_queue *q, const struct asker *asker)
{
	size_t all = all_bytes(q), mine = asker->throttled.bytes + asker->tickets * REQUEST_BYTES;

	return asker_is_privileged(asker) ? all < q->bytes_max : share_left(q->bytes_max, q->user_share, mine, all) > 0;
}

bool queue_missed(struct sync *s, const struct backend_key *key, uint32_t uid)
{
	const struct want want = {.whole = key->cls != SHMETA_CLASS_TOPIC, .missed = true, .fill = true};
	const struct identity id = queue_identity_of_key(key);
	struct sync_queue *q = s->queue;
	struct absent_answer absent;
	uint64_t now = sync_now(s);
	struct sync_entry *e;
	struct asker *asker;
	bool taken;

	if (names_nothing(key))
		return false;
	pthread_mutex_lock(&q->lock);
	asker = asker_of(&q->askers, uid, now);
	e = entry_waiting(q, &id);
	if (e != NULL)
		queue_merge_want(&e->want, &want);
	taken = e != NULL || entry_fetched(q, &id) != NULL || is_absent(q, key, now, &absent) ||
	        (asker != NULL && has_room(q, asker) && ask_anew(s, &id, &want, asker, now, now) != NULL);
	pthread_mutex_unlock(&q->lock);
	return taken;
}

void queue_due(struct sync *s, const struct identity *id)
{
	const struct want want = {.whole = true, .due = true};
	struct sync_queue *q = s->queue;

	pthread_mutex_lock(&q->lock);
	if (!memory_is_full(q) && q->asked.count < q->keys_max)
		(void)queue_want(q, id, &want);
	pthread_mutex_unlock(&q->lock);
}

/* Called from the loop's thread. */
enum shmeta_status sync_refresh(struct sync *s, const struct backend_key *key, uint32_t how, uint32_t uid,
                                uint64_t deadline_ns, uint64_t ticket)
{
	struct sync_queue *q = s->queue;
	struct absent_answer absent;
	uint64_t now = sync_now(s);
	struct sync_ticket *t = calloc(1, sizeof *t);
	enum shmeta_status status = SHMETA_OK;
	struct asker *asker;
	bool wake = false;

	if (t == NULL)
		return SHMETA_ERR_BUSY;
	t->ticket = ticket;
	pthread_mutex_lock(&q->lock);
	q->requests++;
	asker = asker_of(&q->askers, uid, now);
	if (asker == NULL || sync_stopping(s) || q->tickets >= (size_t)q->keys_max * TICKETS_PER_KEY ||
	    !has_room(q, asker)) {
		free(t);
		status = SHMETA_ERR_BUSY;
	} else if ((unsigned)key->cls >= SHMETA_CLASS_COUNT || (key->cls != SHMETA_CLASS_LIST && names_nothing(key))) {
		hang(q, &q->refused, t, asker);
		wake = true;
	} else if ((how & SYNC_RECENT) != 0 && is_absent(q, key, now, &absent)) {
		q->absent_answers++;
		pthread_mutex_unlock(&q->lock);
		free(t);
		s->host.answer(s->host.arg, ticket, SHMETA_OK, "", absent.txn, absent.generation, absent.read_at_ns);
		return SHMETA_OK;
	} else if (key->cls == SHMETA_CLASS_LIST) {
		if (q->list_tickets == NULL && asker_when(&q->askers, asker, asker->throttled.count, now) > now) {
			free(t);
			status = SHMETA_ERR_BUSY;
		} else {
			if (q->list_tickets != NULL)
				q->coalesced++;
			else
				asker_pay(&q->askers, asker, now);
			hang(q, &q->list_tickets, t, asker);
			wake = true;
		}
	} else {
		/* Where one agent, offset or lease is named, it alone is read. */
		struct identity id = queue_identity_of_key(key);
		/* A partition's stamp speaks of all of it, so all of it is read. */
		struct want want = {.whole = id.kind == ENTRY_PART,
		                    .segments = key->with_segments != 0,
		                    .no_fill = (how & SYNC_NO_FILL) != 0,
		                    .fill = (how & SYNC_NO_FILL) == 0};
		struct sync_entry *e = entry_waiting(q, &id), *fetched = entry_fetched(q, &id);

		if (e == NULL && fetched != NULL && covers(fetched, &want))
			e = fetched;
		if (e != NULL) {
			q->coalesced++;
			if (e->state == ENTRY_FETCHED) {
				e->want.fill |= want.fill;
			} else {
				wake = e->state == ENTRY_PASS;
				if (wake)
					entry_move(q, e, ENTRY_ASKED, NULL);
				queue_merge_want(&e->want, &want);
				wake |= pay_for(q, e, asker, now);
			}
		} else {
			e = ask_anew(s, &id, &want, asker, deadline_ns, now);
			wake = e != NULL;
		}
		if (e != NULL) {
			hang(q, &e->tickets, t, asker);
		} else {
			free(t);
			status = SHMETA_ERR_BUSY;
		}
	}
	pthread_mutex_unlock(&q->lock);
	if (wake)
		sync_wake(s);
	return status;
}

bool queue_ask(struct sync *s, const struct identity *id, const struct want *want, queue_answered_fn *answered,
               void *arg)
{
	struct sync_ticket *t = calloc(1, sizeof *t);
	struct sync_entry *e = NULL;

	if (t == NULL)
		return false;
	t->answered = answered;
	t->arg = arg;
	pthread_mutex_lock(&s->queue->lock);
	e = queue_want(s->queue, id, want);
	if (e != NULL)
		hang(s->queue, &e->tickets, t, NULL);
	pthread_mutex_unlock(&s->queue->lock);
	if (e == NULL)
		free(t);
	return e != NULL;
}

void queue_forget_absences(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	absent_forget_all(&s->queue->absent);
	pthread_mutex_unlock(&s->queue->lock);
}

bool queue_ask_list(struct sync *s, queue_answered_fn *answered, void *arg)
{
	struct sync_ticket *t = calloc(1, sizeof *t);

	if (t == NULL)
		return false;
	t->answered = answered;
	t->arg = arg;
	pthread_mutex_lock(&s->queue->lock);
	hang(s->queue, &s->queue->pass_tickets, t, NULL);
	pthread_mutex_unlock(&s->queue->lock);
	return true;
}

enum shmeta_status refresh_init(struct sync *s, struct shmeta_err *err)
{
	struct sync_queue *q = calloc(1, sizeof *q);

	if (q != NULL) {
		q->slots = 1024;
		q->slot = calloc(q->slots, sizeof(struct sync_entry *));
	}
	if (q == NULL || q->slot == NULL) {
		free(q);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the refresh queue");
	}
	(void)pthread_mutex_init(&q->lock, NULL);
	s->queue = q;
	return SHMETA_OK;
}

void refresh_set_limits(struct sync *s, const struct sync_options *options)
{
	struct sync_queue *q = s->queue;

	pthread_mutex_lock(&q->lock);
	q->keys_max = options->refresh_queue_max;
	q->bytes_max = options->refresh_queue_bytes;
	q->user_share = options->user_share;
	askers_configure(&q->askers, options->refresh_user_rate, options->refresh_user_burst, sync_now(s));
	absent_set_limits(&q->absent, options->absent_max, options->absent_ttl_ms * SYNC_MS);
	pthread_mutex_unlock(&q->lock);
}

void refresh_free(struct sync *s)
{
	struct sync_queue *q = s->queue;

	if (q == NULL)
		return;
	for (size_t i = 0; i < q->slots; i++)
		for (struct sync_entry *e = q->slot[i], *next; e != NULL; e = next) {
			next = e->chain;
			ticket_free_all(e->tickets);
			free(e);
		}
	ticket_free_all(q->list_tickets);
	ticket_free_all(q->pass_tickets);
	ticket_free_all(q->refused);
	free(q->slot);
	askers_free(&q->askers);
	absent_free(&q->absent);
	apply_clock_free(&s->apply_clock);
	pthread_mutex_destroy(&q->lock);
	free(q);
	s->queue = NULL;
}

void queue_count(struct sync *s, struct sync_counters *ret)
{
	struct sync_queue *q = s->queue;
	uint64_t now = shmeta__boottime_ns(), since = now;

	pthread_mutex_lock(&q->lock);
	ret->refresh_requests = q->requests;
	ret->refresh_coalesced = q->coalesced;
	ret->queue_depth = q->named.count + q->asked.count;
	/* They are appended to. What moved to a list later is in front of what was made after it,
	 * or just behind. */
	if (q->named.first != NULL && q->named.first->since_ns < since)
		since = q->named.first->since_ns;
	if (q->asked.first != NULL && q->asked.first->since_ns < since)
		since = q->asked.first->since_ns;
	ret->queue_age_ns = now - since;
	ret->absent_answers = q->absent_answers;
	ret->absent_known = q->absent.count;
	pthread_mutex_unlock(&q->lock);
}

bool refresh_pending_feed(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	bool pending = s->queue->feed_keys > 0;

	pthread_mutex_unlock(&s->queue->lock);
	return pending;
}

bool refresh_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	uint64_t next = give_tokens(s->queue, sync_now(s));
	bool asked = s->queue->asked.count > 0, waiting = asked || s->queue->named.count > 0;

	pthread_mutex_unlock(&s->queue->lock);
	if (!asked)
		query_budget_waits(s, false);
	if (next != UINT64_MAX)
		sync_wake_at(s, next);
	return waiting;
}

bool refresh_class_waiting(struct sync *s, enum shmeta_class cls)
{
	if (cls != SHMETA_CLASS_AGENT && cls != SHMETA_CLASS_OFFSET && cls != SHMETA_CLASS_LEASE)
		return false;
	if (cls != SHMETA_CLASS_AGENT && s->orphans.state != ORPHANS_NONE)
		return true;
	struct identity id = queue_identity_of_class(queue_kind(cls));

	pthread_mutex_lock(&s->queue->lock);
	bool waiting = entry_waiting(s->queue, &id) != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return waiting;
}

bool refresh_list_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	bool waiting = s->queue->list_tickets != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return waiting;
}

bool refresh_pass_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	bool waiting = s->queue->pass_tickets != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return waiting;
}
