/* SPDX-License-Identifier: Apache-2.0
 * Rows that enter and leave the quarantine, in the log: spelled out ten times a pass, then counted.
 * Passes of one kind that follow each other within a minute are one. The engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_QUARANTINE_LOG_H
#define SHMETA_WRITER_ENGINE_QUARANTINE_LOG_H

#include <stdint.h>

struct sync;

struct quarantine_log {
	uint64_t rows[2]; /* that entered, and that left */
	uint64_t until_ns;
	const char *pass; /* a constant string; NULL: none is under way */
};

void sync_quarantine_pass_begin(struct sync *s, const char *what);
void sync_quarantine_pass_end(struct sync *s); /* says how many there were */
struct apply_host sync_apply_host(struct sync *s);

#endif
