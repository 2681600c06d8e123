/* SPDX-License-Identifier: Apache-2.0
 * The first load: everything the source has, streamed into a new generation, which is then
 * published; so is one after the source changed, or the store was damaged. Where some row keeps
 * load() from showing anything, everything is read by its keys instead (by_keys.h). */
#include <syslog.h>

#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/load/by_keys.h"

static enum shmeta_status run_load(struct merge *m, struct backend_error *ret_err)
{
	const struct backend_sink sink = merge_sink(m);
	struct sync *s = m->s;

	sync_quarantine_pass_end(s);
	sync_quarantine_pass_begin(s, "load");
	m->began_ns = sync_now(s);
	enum shmeta_status status = s->engine->source->load(s->backend, &sink, ret_err);

	if (status == SHMETA_OK)
		status = merge_fail(m, merge_enter_classes(m));
	s->counters.fetch_ns += sync_now(s) - m->began_ns;
	sync_tell(s, SHMETA_EVENT_PASS, status != SHMETA_OK, 0, sync_now(s) - m->began_ns, 0,
	          "everything was loaded%s%s", status != SHMETA_OK ? "; " : "",
	          status != SHMETA_OK ? ret_err->text : "");
	return status;
}

static void tell_by_keys(struct sync *s, const struct merge *m, const struct backend_error *err)
{
	sync_log(s, LOG_NOTICE, "read_by_keys", "the source cannot be read as a whole, so it is read key by key: %s",
	         m->failed != SHMETA_OK ? m->err.text : err->text);
}

/* A generation that shows all that the source has; NULL: none, and that has been told. *ret_again:
 * not told, by its keys it may be read. */
static struct merge *load_unpublished(struct sync *s, bool by_keys, bool *ret_again)
{
	struct shmeta__store *store;
	struct shmeta_err err;
	struct backend_error source_err = {0};
	enum shmeta_status status = generation_create(s, &store, &err);

	*ret_again = false;
	if (status != SHMETA_OK) {
		sync_store_failed(s, status, err.text);
		return NULL;
	}
	struct shmeta_store_counters *counters = shmeta__store_counters(store);
	struct merge *m = merge_new(s, store);

	if (m == NULL) {
		generation_discard(s, store);
		return NULL;
	}
	if (merge_begin(m) == SHMETA_OK && counters->next_topic_id < generation_next_topic_id(&s->generations))
		counters->next_topic_id = generation_next_topic_id(&s->generations);
	status = by_keys ? by_keys_read(m, &source_err) : run_load(m, &source_err);
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
		sync_store_failed(s, ours, err.text);
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
	struct merge *m = load_unpublished(s, s->bounded != NULL, &again);

	if (again)
		m = load_unpublished(s, true, &again);
	if (m == NULL)
		return;
	struct shmeta__store *store = m->store;
	uint64_t synced = m->began_ns, txn = m->txn;

	if (!accept_judge(s, store, sync_now(s) - began)) {
		merge_free(m);
		generation_discard(s, store);
		sync_store_works(s);
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
	shrink_over(s);
	schedule_pass_lagged(s, 0);
	stamps_all_read(s, shmeta__store_counters(store)->next_topic_id);
	schedule_pass_began(s, synced);
	schedule_pass_ended(s);
	s->counters.loads++;
	sync_store_works(s);
	sync_source_works(s, SYNC_JOB_PASS);
	sync_job_forget(s, SYNC_JOB_FEED); /* it begins anew */
}
