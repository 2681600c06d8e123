/* SPDX-License-Identifier: Apache-2.0
 * A source that is no longer what the store was filled from: it is read into another generation and
 * compared before anybody sees it, and held for an operator's consent where most is missing.
 * sync_accept() and sync_read_held() (sync.h) may be called from any thread. */
#ifndef SHMETA_WRITER_LOAD_ACCEPT_H
#define SHMETA_WRITER_LOAD_ACCEPT_H

#include <pthread.h>

#include "writer/engine/sync.h"

struct accept {
	bool changed;
	uint64_t look_due_ns, load_due_ns, reload_ns; /* load_due_ns: when something has changed */
	uint64_t topics, topics_lost, partitions, partitions_lost;
	char sentence[700];
	pthread_mutex_t lock;
	/* Under it. */
	uint64_t consent;
	struct sync_held seen;
};

/* What is wrong with the source; "": nothing. */
static inline const char *accept_sentence(const struct accept *accept)
{
	return accept->sentence;
}

void accept_init(struct sync *s);
void accept_free(struct sync *s);
/* The source is another one, or (course) the same one back in another state: moves the origin,
 * logs. */
void accept_changed(struct sync *s, bool course, const char *sentence);
/* The origin is not the same: is everything to be read now? Otherwise sync_wake_at() was told, or
 * the source is the old one again. */
bool accept_load_due(struct sync *s);
/* May next, which was loaded from the source, become current? false: the source is held. */
bool accept_judge(struct sync *s, struct shmeta__store *next, uint64_t took_ns);
void accept_published(struct sync *s);

#endif
