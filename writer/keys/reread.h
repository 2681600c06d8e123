/* SPDX-License-Identifier: Apache-2.0
 * Keys that are to be read again: what was read of them does not do, or nobody knows what
 * changed. */
#ifndef SHMETA_WRITER_KEYS_REREAD_H
#define SHMETA_WRITER_KEYS_REREAD_H

#include "writer/keys/queue.h"

/* Give an entry that was fetched back to the waiting ones; what was asked for meanwhile joins it.
 * Under the queue's lock. */
void reread_key(struct sync *s, struct sync_entry *e, const struct identity *as, const struct want *want);
/* The topic itself must be read, with everything in it: it is new, or another incarnation. Under
 * the queue's lock. */
void reread_topic(struct sync *s, struct sync_entry *e, bool deleted);
/* The same where a store need not have everything: the topic's row is read in front of the entry,
 * which is read again as a whole. Under the queue's lock. */
void reread_behind_topic(struct sync *s, struct sync_entry *e, struct shmeta_str tenant, struct shmeta_str topic);
/* Agents, offsets and leases, each class as a whole. pass: a pass waits for them. Takes the queue's
 * lock. */
void reread_advisory(struct sync *s, bool pass);

#endif
