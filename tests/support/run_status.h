/* SPDX-License-Identifier: Apache-2.0
 * What `shmetactl status` says of a daemon's source. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_STATUS_H
#define SHMETA_TESTS_SUPPORT_RUN_STATUS_H

#include <stdint.h>

#include "tests/support/run_daemon.h"

enum { RUN_STATUS_PATIENCE_S = 40 };

struct run_status {
	char source[400], phase[24];
	int64_t age_ms; /* of the class topic */
	int64_t queued; /* keys to be fetched */
	int apart;      /* since when and why are there on their own */
};

void run_status_ask(const struct run_daemon *d, struct run_status *ret);
/* Until it says this of the source, and is in this phase; fails the test after
 * RUN_STATUS_PATIENCE_S. */
void run_status_await(const struct run_daemon *d, const char *part, const char *phase, struct run_status *ret);
/* It is away, since when and in these words why; and no secret ("secret" is in all of the tests')
 * is let out. */
void run_status_expect_away(const struct run_daemon *d, const char *why);
void run_status_await_connected(const struct run_daemon *d);

#endif
