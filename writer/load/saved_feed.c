/* SPDX-License-Identifier: Apache-2.0
 * The position of the feed that is kept in the store, so that the next writer goes on from there. */
#include <string.h>

#include "writer/engine/engine.h"

/* META_FEED: to the store it is opaque. */
struct feed_head {
	uint32_t version;        /*  0  1                                                            */
	uint32_t position_bytes; /*  4                                                               */
	uint64_t uri_hash;       /*  8  how the source was named: judges the store while it is away  */
};

size_t saved_feed_value(struct sync *s, bool position, uint8_t *ret)
{
	struct feed_head head = {1, 0, s->uri_hash};
	size_t bytes = 0;

	if (position && s->source_open && s->engine->feed != NULL &&
	    s->engine->feed->position(s->backend, ret + sizeof head, SYNC_FEED_MAX - sizeof head, &bytes) != SHMETA_OK)
		bytes = 0;
	head.position_bytes = (uint32_t)bytes;
	memcpy(ret, &head, sizeof head);
	return sizeof head + bytes;
}

static bool feed_head(const struct sync *s, struct feed_head *ret)
{
	if (s->saved_feed_bytes < sizeof *ret)
		return false;
	memcpy(ret, s->saved_feed, sizeof *ret);
	return ret->version == 1 && ret->position_bytes == s->saved_feed_bytes - sizeof *ret;
}

const uint8_t *saved_feed_position(struct sync *s, size_t *ret_bytes)
{
	struct feed_head head;

	if (!feed_head(s, &head)) {
		*ret_bytes = 0;
		return NULL;
	}
	*ret_bytes = head.position_bytes;
	return s->saved_feed + sizeof head;
}

void saved_feed_read(struct sync *s)
{
	struct shmeta__txn *txn;
	struct shmeta_err err;
	const void *value;
	size_t bytes;

	s->saved_feed_bytes = 0;
	if (shmeta__txn_read(s->store, &txn, &err) != SHMETA_OK)
		return;
	if (shmeta__get(txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), &value, &bytes, &err) ==
	            SHMETA_OK &&
	    bytes <= sizeof s->saved_feed) {
		memcpy(s->saved_feed, value, bytes);
		s->saved_feed_bytes = bytes;
	}
	shmeta__txn_abort(txn);
}

bool saved_feed_of_this_uri(struct sync *s)
{
	struct feed_head head;

	return feed_head(s, &head) && head.uri_hash == s->uri_hash;
}
