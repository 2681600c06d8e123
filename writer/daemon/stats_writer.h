/* SPDX-License-Identifier: Apache-2.0
 * The stats page, once a second: what the writer counted and what it knows of its readers. */
#ifndef SHMETA_WRITER_DAEMON_STATS_WRITER_H
#define SHMETA_WRITER_DAEMON_STATS_WRITER_H

#include <jansson.h>

#include "shm/page/stats_page.h"
#include "writer/engine/sync.h"
#include "writer/serve/registry.h"
#include "writer/serve/serve.h"

struct stats_input {
	const struct sync_counters *sync;
	const struct shmeta_times *times; /* SHMETA_TIMED_COUNT of them */
	const struct control_counters *control;
	struct registry *registry;
	const char *source;        /* without secrets */
	const char *reason;        /* of the phase */
	const char *source_status; /* as sync_source_status() says */
	uint64_t committed;
	uint32_t flags; /* SHMETA_STATS_... */
};

void stats_write(struct shmeta_stats *page, const struct stats_input *input);
/* The same counters as one JSON object. */
json_t *stats_json(const struct sync_counters *sync, const struct control_counters *control);

#endif
