/* SPDX-License-Identifier: Apache-2.0
 * How much of something that is scarce one user may hold, so that no user can shut out the others:
 * connections, readers' slots, writes and keys that wait. Each user gets at most a part of what the
 * others leave, so every one that comes finds something; the last part is kept for users who hold
 * nothing yet. Pure. */
#ifndef SHMETA_WRITER_SERVE_SHARES_H
#define SHMETA_WRITER_SERVE_SHARES_H

#include <stdint.h>

enum { SHARE_PERCENT = 50, SHARE_RESERVE_PART = 16 }; /* the default; one part of so many is kept */

/* How much more a user may take who holds `mine` of the `all` that is held of `capacity`. percent
 * (1..100): of what the others leave. */
uint64_t share_left(uint64_t capacity, uint32_t percent, uint64_t mine, uint64_t all);

#endif
