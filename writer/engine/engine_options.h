/* SPDX-License-Identifier: Apache-2.0
 * The options that are in force, and those that a reload has brought and that the engine's thread
 * takes before its next round. */
#ifndef SHMETA_WRITER_ENGINE_ENGINE_OPTIONS_H
#define SHMETA_WRITER_ENGINE_ENGINE_OPTIONS_H

#include <pthread.h>

#include "writer/engine/sync.h"

/* Offsets are 0..2^63-1 (C9); a source that binds signed integers takes this as "to the end". */
#define SYNC_LAST_OFFSET ((uint64_t)INT64_MAX)

struct next_options {
	pthread_mutex_t lock;
	bool there;
	struct sync_options options;
};

/* A copy whose strings are its own. The configuration gives every number a value: only what
 * contradicts another one is mended here. false: no memory. */
bool options_copy(const struct sync_options *from, struct sync_options *ret);
void options_free(struct sync_options *o);
void next_options_init(struct sync *s);
void next_options_free(struct sync *s);
/* Those of the last sync_reconfigure(), as far as a reload may change them. The engine's thread. */
void options_take(struct sync *s);
/* A topic's own time to live; 0: its class's. arg: the struct sync. */
uint32_t options_ttl_ms(void *arg, struct shmeta_str topic);
/* A class's time to live. Where each partition has its own (expiry.h), that of their classes has no
 * end: nobody reads all of them. */
uint64_t sync_class_ttl_ns(const struct sync *s, enum shmeta_class cls);
/* The shortest TTL of what a pass reads: topics, partitions and segments where they have none of
 * their own, the list; and of the advisory classes. */
uint64_t sync_main_ttl_ns(const struct sync *s);
uint64_t sync_advisory_ttl_ns(const struct sync *s);

#endif
