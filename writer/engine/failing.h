/* SPDX-License-Identifier: Apache-2.0
 * Keys that fail by themselves: the source cannot show them, or the store cannot take what it
 * shows, and both work otherwise. Each is quarantined alone, and tried again by itself: after
 * longer and longer, and soon after the feed has named it. One that is busy (ERR_BUSY: another
 * session has locked it, or the source keeps it back) is tried again in the same way, and
 * quarantined only where the store has nothing of it.
 *
 * While a key is here it does not wait in the queue, so that all others go on; whoever asks for it
 * is answered with its own status. What the store had of it stays, with its age. Everything here
 * belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_FAILING_H
#define SHMETA_WRITER_ENGINE_FAILING_H

#include "writer/keys/queue.h"

struct failing_key {
	struct failing_key *next;
	struct identity id; /* its strings are in text */
	struct want want;   /* of it, when it is tried again */
	enum shmeta_status status;
	bool trying; /* it waits in the queue, or is being fetched */
	bool noted;  /* the store says so */
	bool marked; /* what the store has of it keeps its age (alone.h) */
	bool holds;  /* otherwise: the stamps of its classes stand still */
	uint32_t attempts;
	uint64_t tried_ns, next_ns;
	char sentence[320];
	char text[];
};

/* It failed, alone. false: there are so many that this is not about keys any more, or no memory. */
bool failing_note(struct sync *s, const struct identity *id, const struct want *want, enum shmeta_status status,
                  const char *sentence);
/* Is there one of which the store cannot say how old it is, so that the stamp of the class must
 * stand still? */
bool failing_holds(struct sync *s, enum shmeta_class cls);
/* NULL: it does not fail, as far as is known. */
struct failing_key *failing_find(struct sync *s, const struct identity *id);
/* Does an operation of this tenant write to one of them? */
const struct failing_key *failing_of_op(struct sync *s, struct shmeta_str tenant, const struct shmeta_op *op);
/* Wanted again before its time: want joins what is kept. */
void failing_wanted(struct sync *s, struct failing_key *key, const struct want *want);
/* It is not tried this time; want joins what is kept. */
void failing_postponed(struct failing_key *key, const struct want *want);
/* An operation of ours has just changed it: it, and its topic, are not locked any more, if they
 * were, and are tried now. */
void failing_unlocked(struct sync *s, const struct backend_key *key);
/* It was applied, or everything was. */
void failing_works(struct sync *s, const struct identity *id);
void failing_forget_all(struct sync *s);
/* Put those whose time has come into the queue. */
void failing_retry(struct sync *s);
/* The waits between retries were configured anew: none that is under way is longer. */
void failing_retry_anew(struct sync *s);
/* Everything could be read, so these may be good, too: a pass waits for them. */
void failing_try_now(struct sync *s);
/* How many failed since then, and one of them; NULL: none. */
const struct failing_key *failing_since(struct sync *s, uint64_t since_ns, size_t *ret_count);

#endif
