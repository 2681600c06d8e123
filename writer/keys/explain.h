/* SPDX-License-Identifier: Apache-2.0
 * Why a key is, or is not, in a bounded store (sync_explain()): one question at a time, answered
 * between two things that the engine does. */
#ifndef SHMETA_WRITER_KEYS_EXPLAIN_H
#define SHMETA_WRITER_KEYS_EXPLAIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/shmeta.h"

struct sync;

struct explain {
	pthread_mutex_t lock;
	/* Under it. */
	bool asked;
	char tenant[SHMETA_TENANT_MAX], topic[SHMETA_NAME_MAX];
	size_t tenant_bytes, topic_bytes;
	uint64_t partition; /* UINT64_MAX: the topic itself */
	uint64_t ticket;
};

void explain_init(struct sync *s);
void explain_free(struct sync *s);
/* Answer what was asked. The engine's thread, without an open transaction. */
void explain_take(struct sync *s);
/* The engine stops. */
void explain_refuse(struct sync *s, enum shmeta_status status, const char *sentence);

#endif
