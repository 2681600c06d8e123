/* SPDX-License-Identifier: Apache-2.0
 * Options of the engine that a test has no opinion of: the engine has no defaults of its own, the
 * configuration gives every option. */
#ifndef SHMETA_TESTS_SUPPORT_USUAL_OPTIONS_H
#define SHMETA_TESTS_SUPPORT_USUAL_OPTIONS_H

#include "writer/serve/shares.h"

#define USUAL_BUDGETS                                                                                          \
	.refresh_user_burst = 1, .max_topics = 10000, .max_partitions = 100000, .max_segment_bytes = 64 << 20, \
	.max_bytes = 256 << 20, .batch_percent = 2, .hot_touches = 1
#define USUAL_QUEUES                                                                                        \
	.refresh_queue_bytes = 64 << 20, .write_queue_bytes = 64 << 20, .write_connection_bytes = 16 << 20, \
	.user_share = SHARE_PERCENT

#endif
