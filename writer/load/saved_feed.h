/* SPDX-License-Identifier: Apache-2.0
 * The feed's position that the store keeps (META_FEED), so that the next writer goes on from there.
 * The engine's thread. */
#ifndef SHMETA_WRITER_LOAD_SAVED_FEED_H
#define SHMETA_WRITER_LOAD_SAVED_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sync;

struct saved_feed {
	uint8_t *value, *kept; /* as it was last put; as the store had it when it was read */
	size_t value_room, kept_bytes;
};

/* Put into the open transaction: the backend's position, or (position false) that there is none, so
 * that the next writer reads everything. A position that the engine cannot give, or that is longer
 * than any can be, is none. */
enum shmeta_status saved_feed_put(struct sync *s, bool position, struct shmeta_err *err);
/* The backend's position in what saved_feed_read() found, until its next call; 0 bytes: none. */
const uint8_t *saved_feed_position(struct sync *s, size_t *ret_bytes);
/* Keep the feed's position in the store, so that whoever opens the source next need not read again
 * what is in it. false: it cannot be kept. */
bool saved_feed_keep(struct sync *s);
void saved_feed_forget(struct sync *s);
/* What the store's META_FEED says. */
void saved_feed_read(struct sync *s);
/* Was the store filled from a source of this name? */
bool saved_feed_of_this_uri(struct sync *s);
/* The same of a META_FEED that is not in the store yet. */
bool saved_feed_is_of_this_uri(const struct sync *s, const uint8_t *value, size_t bytes);

#endif
