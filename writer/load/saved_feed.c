/* SPDX-License-Identifier: Apache-2.0
 * The position of the feed that is kept in the store, so that the next writer goes on from
 * there. */
#include <stdlib.h>
#include <string.h>

#include "writer/engine/engine.h"
#include "writer/keys/refresh.h"

/* META_FEED: to the store it is opaque. */
struct feed_head {
	uint32_t version;        /*  0  1                                                            */
	uint32_t position_bytes; /*  4                                                               */
	uint64_t uri_hash;       /*  8  how the source was named: judges the store while it is away  */
};

enum { ROOM_FIRST = 4096, POSITION_MOST = 16 << 20 };

/* More room for the value, which is lost. */
static bool make_room(struct saved_feed *f, size_t bytes)
{
	uint8_t *value = malloc(bytes);

	if (value == NULL)
		return false;
	free(f->value);
	f->value = value;
	f->value_room = bytes;
	return true;
}

/* The backend's position behind the room for the head; 0 bytes: it has none. */
static enum shmeta_status ask_position(struct sync *s, size_t *ret_bytes)
{
	struct saved_feed *f = &s->saved_feed;
	enum shmeta_status status = SHMETA_ERR_BUFFER;

	for (int tries = 0; tries < 2 && status == SHMETA_ERR_BUFFER; tries++) {
		*ret_bytes = 0;
		status = s->engine->feed->position(s->backend, f->value + sizeof(struct feed_head),
		                                   f->value_room - sizeof(struct feed_head), ret_bytes);
		if (status == SHMETA_ERR_BUFFER && *ret_bytes > f->value_room - sizeof(struct feed_head) &&
		    *ret_bytes <= POSITION_MOST && !make_room(f, sizeof(struct feed_head) + *ret_bytes))
			return SHMETA_ERR_NO_MEMORY;
	}
	if (status != SHMETA_OK)
		*ret_bytes = 0;
	return SHMETA_OK;
}

enum shmeta_status saved_feed_put(struct sync *s, bool position, struct shmeta_err *err)
{
	struct saved_feed *f = &s->saved_feed;
	struct feed_head head = {1, 0, session_uri_hash(&s->session)};
	size_t bytes = 0;
	enum shmeta_status status = SHMETA_OK;

	if (f->value == NULL && !make_room(f, ROOM_FIRST))
		status = SHMETA_ERR_NO_MEMORY;
	if (status == SHMETA_OK && position && session_is_open(&s->session) && s->engine->feed != NULL)
		status = ask_position(s, &bytes);
	if (status != SHMETA_OK)
		return shmeta_fail(err, status, "out of memory for the position of the change feed");
	head.position_bytes = (uint32_t)bytes;
	memcpy(f->value, &head, sizeof head);
	return apply_feed(&s->apply, f->value, sizeof head + bytes, err);
}

static bool feed_head(const uint8_t *value, size_t bytes, struct feed_head *ret)
{
	if (bytes < sizeof *ret)
		return false;
	memcpy(ret, value, sizeof *ret);
	return ret->version == 1 && ret->position_bytes == bytes - sizeof *ret;
}

const uint8_t *saved_feed_position(struct sync *s, size_t *ret_bytes)
{
	struct feed_head head;

	if (!feed_head(s->saved_feed.kept, s->saved_feed.kept_bytes, &head)) {
		*ret_bytes = 0;
		return NULL;
	}
	*ret_bytes = head.position_bytes;
	return s->saved_feed.kept + sizeof head;
}

void saved_feed_forget(struct sync *s)
{
	free(s->saved_feed.value);
	free(s->saved_feed.kept);
	s->saved_feed = (struct saved_feed){.value = NULL};
}

void saved_feed_read(struct sync *s)
{
	struct saved_feed *f = &s->saved_feed;
	struct shmeta__txn *txn;
	struct shmeta_err err;
	const void *value;
	size_t bytes;

	free(f->kept);
	f->kept = NULL;
	f->kept_bytes = 0;
	if (shmeta__txn_read(s->store, &txn, &err) != SHMETA_OK)
		return;
	if (shmeta__get(txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), &value, &bytes, &err) ==
	            SHMETA_OK &&
	    bytes <= sizeof(struct feed_head) + POSITION_MOST && (f->kept = malloc(bytes)) != NULL) {
		memcpy(f->kept, value, bytes);
		f->kept_bytes = bytes;
	}
	shmeta__txn_abort(txn);
}

bool saved_feed_is_of_this_uri(const struct sync *s, const uint8_t *value, size_t bytes)
{
	struct feed_head head;

	return feed_head(value, bytes, &head) && head.uri_hash == session_uri_hash(&s->session);
}

bool saved_feed_of_this_uri(struct sync *s)
{
	return saved_feed_is_of_this_uri(s, s->saved_feed.kept, s->saved_feed.kept_bytes);
}

bool saved_feed_keep(struct sync *s)
{
	struct apply_host host = sync_apply_host(s);
	struct shmeta_err err;
	uint64_t txn;

	if (s->store == NULL || !store_is_writable(s) || origin_is_foreign(s) || !feed_in_step(s) || !store_takes(s) ||
	    refresh_pending_feed(s) || failing_count(s) > 0)
		return false;
	if (apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, &err) != SHMETA_OK)
		return false;
	if (saved_feed_put(s, true, &err) == SHMETA_OK && apply_commit(&s->apply, &txn, &err) == SHMETA_OK)
		return true;
	apply_abort(&s->apply);
	return false;
}
