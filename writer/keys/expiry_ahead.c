/* SPDX-License-Identifier: Apache-2.0
 * Times to live by record: whether they hold, and what is read again ahead of its expiry
 * (expiry.h). */
#include "writer/engine/engine.h"
#include "writer/keys/bounded.h"
#include "writer/keys/queue.h"

enum { AT_ONCE = 1024 };

#define AGAIN_NS (5 * SYNC_S)

/* The one way from state to state. */
static void become(struct sync *s, enum expiry_state state)
{
	s->expiry.state = state;
	stamps_show_ttl(s);
	schedule_reconcile(s);
}

/* As the options and the source have it. A source that is not connected says nothing of its
 * feed. */
static void follow_source(struct sync *s)
{
	bool wanted = s->options.freshness.max_ms != 0 && !session_has_feed(&s->session);

	if (session_is_open(&s->session) && wanted != (s->expiry.state != EXPIRY_BY_CLASS)) {
		bounded_look_again(s); /* and keep when each is due */
		retime_begin(s);
		become(s, wanted ? EXPIRY_BEGINS : EXPIRY_BY_CLASS);
		/* The classes of partitions have been left as they were when everything was last
		 * compared. */
		if (!wanted)
			schedule_ask_pass(s, false, "partitions had times to live of their own until now");
	} else if (s->expiry.state == EXPIRY_BEGINS && s->store != NULL && retime_is_done(&s->retime)) {
		become(s, EXPIRY_BY_RECORD);
	}
}

/* Have what is due read again. */
static void look(struct sync *s, uint64_t now)
{
	uint64_t key[AT_ONCE];
	struct shmeta__txn *txn;
	struct shmeta_err err;
	size_t count = bounded_due(s, now, now + AGAIN_NS, key, AT_ONCE);

	if (count == 0 || shmeta__txn_read(s->store, &txn, &err) != SHMETA_OK)
		return;
	for (size_t i = 0; i < count; i++) {
		struct shmeta_str tenant, topic;

		if (apply_topic_name(txn, (uint32_t)(key[i] >> 32), &tenant, &topic, &err) == SHMETA_OK) {
			const struct identity id = queue_identity(ENTRY_PART, tenant, topic, (uint32_t)key[i]);

			queue_due(s, &id);
		}
	}
	shmeta__txn_abort(txn);
}

void expiry_run(struct sync *s)
{
	uint64_t now = sync_now(s), every;

	if (s->bounded == NULL)
		return;
	follow_source(s);
	if (s->expiry.state == EXPIRY_BY_CLASS || s->store == NULL)
		return;
	every = expiry_every_ns(s);
	if (now >= s->expiry.looked_ns + every) {
		s->expiry.looked_ns = now;
		look(s, now);
	}
	sync_wake_at(s, s->expiry.looked_ns + every);
}
