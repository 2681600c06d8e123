/* SPDX-License-Identifier: Apache-2.0
 * A host of the sync engine for tests that look at some of what it says: the functions that are
 * missing are given ones that hear nothing, pin nothing and have kept no registration. */
#ifndef SHMETA_TESTS_SUPPORT_QUIET_HOST_H
#define SHMETA_TESTS_SUPPORT_QUIET_HOST_H

#include "writer/engine/sync.h"

struct sync_host quiet_host(struct sync_host host);

#endif
