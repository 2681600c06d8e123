/* SPDX-License-Identifier: Apache-2.0
 * A reader of what a fixture's engine serves, by the fixture's clock. */
#ifndef SHMETA_TESTS_SUPPORT_FIXTURE_READER_H
#define SHMETA_TESTS_SUPPORT_FIXTURE_READER_H

#include "include/shmeta.h"
#include "tests/support/sync_fixture.h"

/* Between fixture_init() and fixture_open(), where ages matter: the board is of this boot, and the
 * clock ahead of the machine's, as a reader believes none that is behind its own. */
void fixture_prepare_reader(struct fixture *f);
/* Unregistered. The board says what a daemon's says. */
void fixture_open_reader(struct fixture *f, struct shmeta **ret_instance, struct shmeta_reader **ret_reader);
/* Begin a snapshot at the engine's time. */
void fixture_begin_reading(struct fixture *f, struct shmeta_reader *reader);
/* The reader, the instance and the fixture. */
void fixture_end_reading(struct fixture *f, struct shmeta *instance, struct shmeta_reader *reader);

#endif
