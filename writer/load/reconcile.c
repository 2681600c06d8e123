/* SPDX-License-Identifier: Apache-2.0
 * load(): everything the source has, streamed into a new generation (first load) or merged with the current one (reconcile).
 *
 * A merge commits at topic boundaries only (semantics.md C5). A transaction that removes something stays open until the load has
 * ended and has been judged: a load that is empty or shrank by more than half changes nothing until a second one says the same
 * (reliability row 46). Where the removals of a pass would make too large a transaction, it only counts, and the next pass,
 * whose size is then known to be right, may commit them as it goes.
 *
 * Where some row keeps load() from showing anything, everything is read by its keys instead (by_keys.h). */
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"
#include "writer/keys/reread.h"
#include "writer/load/by_keys.h"

enum { BY_KEYS_MAX = 100000 };

/* may_lag: nobody has asked for it. */
static enum shmeta_status run_load(struct merge *m, bool may_lag, struct backend_error *ret_err)
{
	const struct backend_sink sink = merge_sink(m, may_lag);
	struct sync *s = m->s;

	sync_quarantine_pass_end(s);
	sync_quarantine_pass_begin(s, m->first ? "load" : "reconcile");
	m->synced_at_ns = m->began_ns = sync_now(s);
	enum shmeta_status status = s->engine->source->load(s->backend, &sink, ret_err);

	if (status == SHMETA_OK)
		status = merge_fail(m, merge_enter_classes(m));
	s->counters.fetch_ns += sync_now(s) - m->began_ns;
	sync_tell(s, SHMETA_EVENT_PASS, status != SHMETA_OK, 0, sync_now(s) - m->began_ns, 0, "%s%s%s",
	          m->first ? "everything was loaded" : "everything was compared", status != SHMETA_OK ? "; " : "",
	          status != SHMETA_OK ? ret_err->text : "");
	return status;
}

static void tell_by_keys(struct sync *s, const struct merge *m, const struct backend_error *err)
{
	sync_log(s, LOG_NOTICE, "read_by_keys", "the source cannot be read as a whole, so it is read key by key: %s",
	         m->failed != SHMETA_OK ? m->err.text : err->text);
}

/* A generation that shows all that the source has; NULL: none, and that has been told. *ret_again: not told, by its keys it may be read. */
static struct merge *load_aside(struct sync *s, bool by_keys, bool *ret_again)
{
	struct shmeta__store *store;
	struct shmeta_err err;
	struct backend_error source_err = {0};
	enum shmeta_status status = generation_create(s, &store, &err);

	*ret_again = false;
	if (status != SHMETA_OK) {
		sync_room_failed(s, status, err.text);
		return NULL;
	}
	struct shmeta_store_counters *counters = shmeta__store_counters(store);
	struct merge *m = merge_new(s, store, true);

	if (m == NULL) {
		generation_discard(s, store);
		return NULL;
	}
	if (merge_begin(m) == SHMETA_OK && counters->next_topic_id < generation_next_topic_id(&s->generations))
		counters->next_topic_id = generation_next_topic_id(&s->generations);
	status = by_keys ? by_keys_read(m, &source_err) : run_load(m, false, &source_err);
	if (status == SHMETA_OK)
		status = merge_fail(m, merge_finish(m));
	if (status == SHMETA_OK)
		return m;
	enum shmeta_status ours = m->failed;

	*ret_again = !by_keys && by_keys_can_help(m, status);
	if (*ret_again)
		tell_by_keys(s, m, &source_err);
	memcpy(&err, &m->err, sizeof err);
	merge_free(m);
	generation_discard(s, store);
	if (*ret_again || sync_stopping(s))
		return NULL;
	if (ours != SHMETA_OK)
		sync_room_failed(s, ours, err.text);
	else
		sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
	return NULL;
}

void reconcile_first(struct sync *s)
{
	uint64_t began = sync_now(s);
	bool again;

	generation_loads(&s->generations, began);
	if (s->store == NULL)
		sync_move(s, SHMETA_PHASE_LOADING, "reading everything from the source");
	/* In bounded mode most of what a load() shows would not stay. */
	struct merge *m = load_aside(s, s->bounded != NULL, &again);

	if (again)
		m = load_aside(s, true, &again);
	if (m == NULL)
		return;
	struct shmeta__store *store = m->store;
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
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (!by_keys_lost_class(m, (enum shmeta_class)cls))
			sync_stamp(s, shmeta__store_generation(store), (enum shmeta_class)cls, txn, synced);
	generation_publish(s, store);
	refresh_forget_feed(s);
	failing_forget_all(s); /* all of it could be read, and applied, but for what is noted now */
	by_keys_note_lost(m);
	merge_free(m);
	feed_all_read(s, session_look_for_feed(s));
	schedule_pass_answered(s);
	s->shrunken = s->split_removals = false;
	schedule_pass_lagged(s, 0);
	stamps_all_read(s, shmeta__store_counters(store)->next_topic_id);
	schedule_pass_began(s, synced);
	schedule_pass_ended(s);
	s->counters.loads++;
	sync_room_works(s);
	sync_source_works(s, SYNC_JOB_PASS);
	sync_job_forget(s, SYNC_JOB_FEED); /* it begins anew */
}

static bool want_key(struct sync *s, const struct identity *id, bool whole, bool repair)
{
	const struct want want = {.feed = true, .whole = whole, .repair = repair};

	pthread_mutex_lock(&s->queue->lock);
	bool wanted = queue_want(s->queue, id, &want) != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return wanted;
}

static enum shmeta_status on_listed(void *arg, const struct backend_key *key)
{
	struct sync *s = arg;
	const struct identity id = queue_identity(ENTRY_TOPIC, key->tenant, key->topic, 0);

	if (sync_stopping(s))
		return SHMETA_ERR_WRITER_AWAY;
	if (key->topic.bytes == 0 || key->topic.bytes > SHMETA_NAME_MAX || key->tenant.bytes > SHMETA_TENANT_MAX)
		return SHMETA_OK; /* none that can be served */
	/* The topics that are resident are read anyway, and there is no need for others. */
	if (s->bounded != NULL && bounded_lacks(s, SHMETA_CLASS_TOPIC) &&
	    !bounded_has_room(s, shmeta__store_counters(s->store)->topics))
		return SHMETA_OK;
	return want_key(s, &id, false, true) ? SHMETA_OK : SHMETA_ERR_NO_MEMORY;
}

static void on_unlisted(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)arg;
	(void)row;
	(void)sentence;
}

/* What is compared are the records that are resident: no partition is known not to exist, and no key to be absent. */
static enum shmeta_status doubt_absences(struct sync *s, struct shmeta_err *err)
{
	struct apply_host host = sync_apply_host(s);
	enum shmeta_status status = apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, err);
	uint64_t txn;

	if (status != SHMETA_OK)
		return status;
	apply_lacks(&s->apply, BOUNDED_PARTITIONS);
	status = bounded_forget_absences(s, &s->apply, err);
	if (status == SHMETA_OK)
		return apply_commit(&s->apply, &txn, err);
	apply_abort(&s->apply);
	return status;
}

void reconcile_by_keys(struct sync *s, void *backend)
{
	const struct backend_sink sink = {.arg = s, .key = on_listed, .quarantine = on_unlisted};
	struct backend_error source_err = {.code = SHMETA_OK};
	struct pass_known known = {0};
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn;
	uint32_t *ids = NULL;
	size_t count, capacity = 0, keys = 0;
	struct shmeta_str tenant, topic;
	enum shmeta_status status = s->engine->source->load(backend, &sink, &source_err);

	if (status == SHMETA_ERR_NO_MEMORY) {
		sync_room_failed(s, status, "out of memory while reconciling");
		return;
	}
	/* What cannot be listed waits for a pass; what is known need not. */
	if (status != SHMETA_OK)
		sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
	else
		sync_source_works(s, SYNC_JOB_PASS);
	status = s->bounded != NULL ? doubt_absences(s, &err) : SHMETA_OK;
	if (status == SHMETA_OK)
		status = pass_read_known(&known, s->store, &err);
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
			bool memory = want_key(s, &id, false, true);

			for (size_t k = 0; k < count && memory; k++) {
				id = queue_identity(ENTRY_PART, tenant, topic, ids[k]);
				memory = want_key(s, &id, true, true);
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
	reread_advisory(s);
	sync_wake_at(s, sync_now(s));
}

void reconcile_pass(struct sync *s, const char *why)
{
	struct backend_error source_err = {0};
	struct merge *m = merge_new(s, s->store, false);

	if (m == NULL)
		return;
	bool may_lag = !schedule_pass_is_asked(&s->schedule) && !feed_is_behind(s) && !refresh_list_waiting(s) &&
	               !refresh_pass_waiting(s);
	struct sync_list_tickets tickets = refresh_take_list(s, true);
	bool had_feed = feed_is_followed(s);
	enum shmeta_status status = merge_fail(m, pass_read_known(&m->known, m->store, &m->err));

	m->hold = !s->split_removals;
	schedule_pass_began(s, sync_now(s));
	if (status == SHMETA_OK)
		status = s->bounded != NULL ? by_keys_read(m, &source_err) : run_load(m, may_lag, &source_err);
	if (s->bounded == NULL && by_keys_can_help(m, status)) {
		tell_by_keys(s, m, &source_err);
		merge_free(m);
		m = merge_new(s, s->store, false);
		if (m == NULL) {
			refresh_return_list(s, tickets);
			return;
		}
		status = merge_fail(m, pass_read_known(&m->known, m->store, &m->err));
		if (status == SHMETA_OK)
			status = by_keys_read(m, &source_err);
	}

	bool again = false;

	if (status == SHMETA_OK) {
		/* A file may be replaced at any time: what was read may be another source's. */
		generation_judge(s);
		again = origin_is_foreign(s);
	}
	if (again) {
		apply_abort(merge_applier(m));
		sync_wake_at(s, sync_now(s));
	} else if (status == SHMETA_OK &&
	           (m->by_keys != NULL ? m->disbelieved : !pass_is_believable(s, &m->known, m->topics, m->segments))) {
		apply_abort(merge_applier(m));
		again = true;
	} else if (status == SHMETA_OK && m->count_only) {
		s->split_removals = true;
		again = true;
	} else if (status == SHMETA_OK) {
		status = merge_fail(m, merge_finish(m));
	}
	schedule_pass_ended(s);

	if (status != SHMETA_OK) {
		enum shmeta_status ours = m->failed;
		struct shmeta_err err = m->err;
		bool listed = m->listed;

		merge_free(m);
		refresh_answer_list(s, tickets, ours != SHMETA_OK ? ours : status,
		                    ours != SHMETA_OK ? err.text : source_err.text, 0);
		if (sync_stopping(s))
			return;
		schedule_ask_pass(s, false, "the last one failed");
		/* A load that cannot show anything has moved nothing: where the feed was in step, it stays so. */
		if (ours == SHMETA_OK && status == SHMETA_ERR_INVALID_ARGUMENT)
			schedule_pass_later(s);
		if (listed || ours != SHMETA_OK || status != SHMETA_ERR_INVALID_ARGUMENT)
			feed_lost_names(s);
		if (ours != SHMETA_OK)
			sync_room_failed(s, ours, err.text);
		else
			sync_source_failed(s, SYNC_JOB_PASS, status, source_err.text);
		return;
	}
	sync_source_works(s, SYNC_JOB_PASS);
	if (again) {
		/* load() moved the feed past what it showed: until a pass has been applied, nothing may be called in step. */
		schedule_ask_pass(s, true, "the last one is to be confirmed");
		schedule_pass_again(s);
		refresh_return_list(s, tickets);
		merge_free(m);
		return;
	}
	enum shmeta_status lost_status = SHMETA_OK;
	char lost[600] = "";
	uint64_t synced = m->synced_at_ns, began = m->began_ns, txn = m->txn > 0 ? m->txn : sync_committed(s);

	if (m->changed > 0 && had_feed)
		s->counters.reconcile_repairs += m->changed;
	if (m->changed > 0 && (had_feed || session_feed_names_keys(&s->session)))
		sync_log(s, LOG_INFO, "reconciled", "a full comparison changed %llu rows; it was made because %s",
		         (unsigned long long)m->changed, why);
	refresh_forget_feed(s);
	failing_forget_all(s); /* all of it could be read, and applied, but for what is noted now */
	by_keys_note_lost(m);
	if (m->lost != NULL) {
		lost_status = m->lost->status;
		snprintf(lost, sizeof lost, "%zu keys could not be read; the last: %s", m->lost_count,
		         m->lost->sentence.data);
	}
	merge_free(m);
	feed_all_read(s, session_look_for_feed(s));
	schedule_pass_answered(s);
	s->shrunken = s->split_removals = false;
	stamps_all_read(s, shmeta__store_counters(s->store)->next_topic_id);
	s->counters.reconciles++;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (!failing_holds(s, (enum shmeta_class)cls))
			sync_stamp(s, s->gen, (enum shmeta_class)cls, txn,
			           cls >= SHMETA_CLASS_AGENT && cls <= SHMETA_CLASS_OFFSET ? began : synced);
	schedule_pass_lagged(s, began - synced);
	s->counters.reconciles_lagged += began > synced;
	sync_room_works(s);
	/* The list is in step; who asked for everything hears what is missing. */
	refresh_answer_list(s, (struct sync_list_tickets){.list = tickets.list}, SHMETA_OK, "", synced);
	refresh_answer_list(s, (struct sync_list_tickets){.pass = tickets.pass}, lost_status, lost, synced);
}
