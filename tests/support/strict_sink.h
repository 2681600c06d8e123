/* SPDX-License-Identifier: Apache-2.0
 * A sink that judges what an engine hands over, for programs without Criterion (fuzz targets): rows
 * keep the limits of semantics.md C9 and the order that backends/backend.h promises, texts can be
 * read to their end, a quarantined row has a sentence. What does not ends the process with a
 * sentence on stderr. */
#ifndef SHMETA_TESTS_SUPPORT_STRICT_SINK_H
#define SHMETA_TESTS_SUPPORT_STRICT_SINK_H

#include <stdbool.h>

#include "backends/backend.h"

struct strict_sink {
	bool ordered; /* the source sorts as it was asked to; otherwise only each row by itself is
                       * judged */
	uint64_t rows, quarantined, changed;
	/* Where it is. */
	bool in_topic, in_partition, in_key, has_partition, has_segment;
	uint32_t partition_id;
	uint64_t base_offset;
};

/* Borrows s. */
struct backend_sink strict_sink_of(struct strict_sink *s);
/* Each result has a known status, and a sentence where it is none that means success. */
void strict_results(const struct shmeta_result *results, size_t count);
/* Reads all of it. */
void strict_text(struct shmeta_str text);

#endif
