/* SPDX-License-Identifier: Apache-2.0
 * The emulator of DynamoDB that the tests use (tests/requirements.txt), for one run of the bench,
 * and calls to it without an engine. */
#ifndef SHMETA_BENCH_EMULATOR_H
#define SHMETA_BENCH_EMULATOR_H

#include "bench/bench.h"

/* Start it on a free port of loopback; it ends with the bench, or by env_kill(). What daemons that
 * are started later log in with is in the environment. false: it is not installed. */
bool emulator_start(const struct bench *b, pid_t *ret_pid);
/* The source of this prefix. */
void emulator_uri(char *ret, size_t bytes, const char *prefix);
/* One call ("Query") with this body over a connection that stays. The answer lives until the next
 * call. Anything but 200 ends the bench. */
const char *emulator_call(const char *target, const char *body);

#endif
