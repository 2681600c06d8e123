/* SPDX-License-Identifier: Apache-2.0
 * The leases that the RENEW_AGENT operations of a batch have extended: an operation names an agent,
 * and who follows the source is told of each lease by its place. Told with the batch, after the
 * commit; a lease more than was renewed, by an attempt that failed, does no harm. */
#ifndef SHMETA_BACKENDS_RENEWED_H
#define SHMETA_BACKENDS_RENEWED_H

#include <stdbool.h>

#include "backends/backend.h"

struct renewed_lease;

/* Zero: none. */
struct renewed {
	struct renewed_lease *leases;
	size_t count, capacity;
	bool all; /* there was no memory to note each: the class as a whole */
};

/* Copies both strings. */
void renewed_add(struct renewed *r, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition_id);
/* Tell sink->changed() of the last `count` of them, or, where they are not known, of the class.
 * Returns what the sink did. */
enum shmeta_status renewed_show(const struct renewed *r, size_t count, const struct backend_sink *sink);
/* Tell it of each of all once, where status is OK, and forget them. Returns status, or what the
 * sink did. */
enum shmeta_status renewed_tell(struct renewed *r, enum shmeta_status status, const struct backend_sink *sink);
void renewed_forget(struct renewed *r);

#endif
