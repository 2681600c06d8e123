/* SPDX-License-Identifier: Apache-2.0
 * Questions about the engine that several files ask, and that change nothing. */
#include "writer/engine/engine.h"

const struct sync_trouble *state_job_in_trouble(const struct sync *s)
{
	for (int job = 0; job < SYNC_JOBS; job++)
		if (s->job[job].on)
			return &s->job[job];
	return NULL;
}

bool state_unwritable(const struct sync *s)
{
	return s->source_open && s->unwritable && !s->options.source.read_only;
}
