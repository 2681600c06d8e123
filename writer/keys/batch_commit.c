/* SPDX-License-Identifier: Apache-2.0
 * The commit of a batch, and what follows from it: stamps, absences, answers. */

#include "shm/wire/wire.h"
#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"

void batch_end_entry(struct sync *s, struct sync_entry *e, enum shmeta_status status, const char *sentence,
                     uint64_t txn, uint64_t synced_at_ns)
{
	pthread_mutex_lock(&s->queue->lock);
	struct sync_ticket *tickets = e->tickets;

	e->tickets = NULL;
	queue_forget(s->queue, e);
	pthread_mutex_unlock(&s->queue->lock);
	queue_answer(s, tickets, status, sentence, txn, synced_at_ns);
}

static void class_stamps(struct batch *b, uint64_t txn)
{
	for (size_t i = 0; i < b->key_count; i++) {
		if (b->fetched[i].entry == NULL || !queue_is_class(b->fetched[i].entry))
			continue; /* a key says nothing of its class */
		enum shmeta_class cls = b->key[i].cls;

		if (!batch_class_newer(b->s, cls, b->read_at_ns))
			sync_stamp(b->s, b->s->gen, cls, txn, b->read_at_ns);
	}
}

/* What readers asked for and the source does not have, or has as a row that cannot be served, is
 * remembered for a while: which of the two the store tells. What it has is no longer absent. */
static void note_absence(struct batch *b, uint64_t txn)
{
	struct sync *s = b->s;
	const struct absent_answer answer = {b->read_at_ns, txn, s->board->generation};

	pthread_mutex_lock(&s->queue->lock);
	for (size_t i = 0; i < b->key_count; i++) {
		const struct sync_entry *e = b->fetched[i].entry;

		if (e == NULL || e->kind > ENTRY_PART)
			continue;
		const struct fetched_key *g = &b->fetched[i];
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

	apply_clock_advance(&s->apply_clock);
	class_stamps(b, txn);
	note_absence(b, txn);
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL)
			apply_clock_note(&s->apply_clock, batch_clock_topic(b->entry[i]),
			                 batch_clock_partition(b->entry[i]));
	for (size_t i = 0; i < b->entry_count; i++) {
		struct sync_entry *e = b->entry[i];

		if (e == NULL)
			continue;
		struct identity id = queue_identity_of(e);

		failing_works(s, &id);
		b->entry[i] = NULL;
		batch_end_entry(s, e, SHMETA_OK, e->absent ? SHMETA_ANSWER_ABSENT : "", txn, b->read_at_ns);
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

enum shmeta_status batch_commit_begins(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply_host host = sync_apply_host(s);

	host.quarantine = &b->quarantine;
	enum shmeta_status status = apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, err);

	b->store_failed = status != SHMETA_OK;
	return status;
}

enum shmeta_status batch_commit_ends(struct batch *b, uint64_t began_ns, struct shmeta_err *err)
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
		reread_advisory(s, false);
	s->pass_rows += b->repaired;
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

enum shmeta_status batch_commit(struct batch *b, struct shmeta_err *err)
{
	uint64_t began_ns = sync_now(b->s);
	enum shmeta_status status = batch_commit_begins(b, err);

	if (status != SHMETA_OK)
		return status;
	status = batch_sift(b, err);
	if (status == SHMETA_OK)
		status = batch_apply(b, err);
	if (status == SHMETA_OK)
		return batch_commit_ends(b, began_ns, err);
	apply_abort(&b->s->apply);
	return status;
}
