/* SPDX-License-Identifier: Apache-2.0
 * A sink that hands on what an engine says to the sink of the caller: a test's engine around
 * another one puts it in between, with functions of its own in place of some. */
#ifndef SHMETA_TESTS_SUPPORT_SINK_RELAY_H
#define SHMETA_TESTS_SUPPORT_SINK_RELAY_H

#include <stdbool.h>

#include "backends/backend.h"

struct sink_relay {
	const struct backend_sink *to;
	/* Before each row and each listed key. OK: it is handed on; ABSENT: it is left out;
	 * otherwise the engine is answered that. */
	enum shmeta_status (*row)(struct sink_relay *relay, bool listed);
};

/* Its arg is relay, which is borrowed. It has may_lag, progress and key where `to` has, and neither
 * changed nor history. */
struct backend_sink sink_relay_of(struct sink_relay *relay);

#endif
