/* SPDX-License-Identifier: Apache-2.0
 * The session with the source: it is opened, its feed goes on where the store's ended, and what it
 * can do is looked at. Everything here belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_SESSION_H
#define SHMETA_WRITER_ENGINE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"

struct sync;

struct session {
	bool open;
	enum backend_feed_kind feed_kind;
	bool unwritable;                 /* as it says */
	uint64_t uri_hash;               /* how the source is named */
	struct backend_counters counted; /* of states that were closed */
	char feed_trouble[400];          /* why there is no feed, as was told; "": nothing */
};

static inline bool session_is_open(const struct session *session)
{
	return session->open;
}
static inline bool session_has_feed(const struct session *session)
{
	return session->feed_kind != BACKEND_FEED_NONE;
}
/* It names the keys of what has changed. */
static inline bool session_feed_names_keys(const struct session *session)
{
	return session->feed_kind == BACKEND_FEED_KEYS;
}
static inline uint64_t session_uri_hash(const struct session *session)
{
	return session->uri_hash;
}
static inline const char *session_feed_trouble(const struct session *session)
{
	return session->feed_trouble;
}
/* The source refuses writes that nobody has forbidden. */
static inline bool session_unwritable(const struct session *session, const struct backend_options *options)
{
	return session->open && session->unwritable && !options->read_only;
}

/* Of the session, whose state is backend, and of all that session_count() was told of. */
static inline void session_counters(const struct session *session, const struct backend_engine *engine, void *backend,
                                    struct backend_counters *ret)
{
	struct backend_counters open = {0};

	*ret = session->counted;
	if (!session->open)
		return;
	engine->source->counters(backend, &open);
#define C(name, help) ret->name += open.name;
	BACKEND_COUNTERS(C)
#undef C
}

/* Which source: s->engine and s->backend, not open yet. ERR_CONFIG, ERR_NO_MEMORY. */
enum shmeta_status session_init(struct sync *s, struct shmeta_err *err);
void session_free(struct sync *s);
/* The source is open afterwards, or err says why not. */
enum shmeta_status session_open(struct sync *s, struct backend_error *err);
/* The session ends; its place is remembered, and session_ready() opens another one. Nothing of it
 * is under way. */
void session_close(struct sync *s);
/* May the source be asked now? Opens it, and has its feed go on where the store's ended; what fails
 * is told. */
bool session_ready(struct sync *s);
/* Everything has just been read, or the feed asked: is there a feed to follow? It may have come
 * with the one or gone with the other; then full passes find what changes, and the operator hears
 * why. */
bool session_look_for_feed(struct sync *s);
/* Readable when the source may have changed; -1: it sends no wake-up. */
int session_wake_fd(struct sync *s);
/* A connection beside the session, which is closed: its counters are added to the session's. */
void session_count(struct sync *s, const struct backend_counters *counters);

#endif
