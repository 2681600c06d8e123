/* SPDX-License-Identifier: Apache-2.0
 * The least that an engine can be: read-only, without a feed, and without a snapshot of everything.
 * docs/adding-an-engine.md goes through it. "skeleton:NAME" is the database that memory_db_new()
 * made under that name. */
#ifndef SHMETA_TESTS_SUPPORT_SKELETON_ENGINE_H
#define SHMETA_TESTS_SUPPORT_SKELETON_ENGINE_H

#include "backends/backend.h"

extern const struct backend_engine backend_skeleton;

#endif
