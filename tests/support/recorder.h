/* SPDX-License-Identifier: Apache-2.0
 * A backend_sink that writes down what it is given, one line a call, so that two engines, or an
 * engine and an expectation, can be compared as text. It checks the order that backend.h promises
 * while it listens. */
#ifndef SHMETA_TESTS_SUPPORT_RECORDER_H
#define SHMETA_TESTS_SUPPORT_RECORDER_H

#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"

struct recorder {
	struct backend_sink sink; /* sink.arg is the recorder; functions may be replaced */
	char *text;               /* all lines so far; never NULL after the first call */
	size_t bytes, capacity;
	uint64_t topics, partitions, segments, agents, groups, offsets, leases;
	uint64_t quarantined, keys_begun, keys_ended, changed, progressed;
	uint64_t keys_failed;
	enum shmeta_status key_failed; /* the last of them */
	char key_sentence[500];
	uint64_t progress_done, progress_total; /* of the last call */
	char order_error[200];                  /* what came out of order; empty: nothing */
	/* Where it is. */
	char topic[256], tenant[80];
	int in_topic, in_partition, in_key, after_topics;
	int64_t partition, base;
	uint64_t stop_after; /* rows; then the functions answer stop_status. 0: never */
	enum shmeta_status stop_status;
	int quiet; /* count and check the order only */
};

void recorder_init(struct recorder *recorder);
void recorder_clear(struct recorder *recorder); /* text, counts and place; keeps sink and stop_ */
void recorder_free(struct recorder *recorder);
/* The text, or "" */
const char *recorder_text(const struct recorder *recorder);
/* The lines in memcmp order, for what may come in any order; each line says where it belongs. The
 * caller frees it. */
char *recorder_sorted(const struct recorder *recorder);
int recorder_has(const struct recorder *recorder, const char *line_part);

#endif
