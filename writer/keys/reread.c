/* SPDX-License-Identifier: Apache-2.0
 * Keys that are to be read again (reread.h). */
#include "writer/keys/reread.h"

#include "writer/engine/failing.h"
#include "writer/keys/queue_private.h"

void reread_key(struct sync *s, struct sync_entry *e, const struct identity *as, const struct want *want)
{
	struct sync_queue *q = s->queue;
	struct sync_entry *w = queue_want(q, as, want);

	if (w == NULL)
		/* read everything when there is */
		schedule_ask_pass(s, true, "there was no memory for a key");
	else
		queue_move_tickets(&w->tickets, &e->tickets);
	if (w != NULL && w->tickets != NULL && w->state == ENTRY_PASS)
		entry_move(q, w, ENTRY_ASKED, NULL);
	queue_forget(q, e);
}

void reread_topic(struct sync *s, struct sync_entry *e, bool deleted)
{
	struct identity as_it_was = queue_identity_of(e);

	failing_works(s, &as_it_was); /* the topic stands for it from now on */
	struct want want = {.feed = e->want.feed,
	                    .pass = e->want.pass,
	                    .deleted = deleted || e->want.deleted,
	                    .born_since = e->want.born_since,
	                    .no_fill = e->want.no_fill,
	                    .fill = e->want.fill,
	                    .segments = true};
	struct identity id = queue_identity(ENTRY_TOPIC, e->tenant, e->topic, 0);

	reread_key(s, e, &id, &want);
}

void reread_behind_topic(struct sync *s, struct sync_entry *e, struct shmeta_str tenant, struct shmeta_str topic)
{
	const struct identity id = queue_identity_of(e), first = queue_identity(ENTRY_TOPIC, tenant, topic, 0);
	const struct want wanted = {
		.feed = e->want.feed, .topic_asked = true, .no_fill = e->want.no_fill, .fill = e->want.fill};
	struct want again = e->want;

	again.topic_asked = true;
	again.whole = e->kind == ENTRY_PART;
	if (queue_want(s->queue, &first, &wanted) == NULL)
		schedule_ask_pass(s, true, "there was no memory for a key");
	reread_key(s, e, &id, &again);
}

void reread_advisory(struct sync *s, bool pass)
{
	static const enum entry_kind kinds[] = {ENTRY_AGENT, ENTRY_OFFSET, ENTRY_LEASE};
	const struct want want = {.pass = pass};

	pthread_mutex_lock(&s->queue->lock);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct identity id = queue_identity_of_class(kinds[i]);

		queue_want(s->queue, &id, &want);
	}
	pthread_mutex_unlock(&s->queue->lock);
}
